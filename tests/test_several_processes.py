"""Every training of the collection gives with 2 and 4 processes what it gives with one, and goes on after one of them was killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from every_training import TRAININGS

SLURM = Path(__file__).parents[1] / "docs" / "slurm_train.sh"
SCRIPT = Path(__file__).with_name("every_training.py")
# Sums over the batch are sums of sums over its parts, rounded elsewhere: a few units of the last place of float32, 1.2e-7, grow in some steps of
# training. A codebook puts codes on vectors behind a dozen batch normalisations over 16 values, each of which divides by a small spread; in float64
# it agrees to 1e-14 as well.
LOOSE = {"08 codebook": 1e-3}
TIGHT = 2e-6
# The batch is not shared, or shared as whole networks: nothing is summed in another order.
EXACT = {"05 SphereFace2, standardised", "09 reader"}
KILLED = ["09 second stage", "10 networks side by side"]  # dropout; a checkpoint for each process


def run(folder: Path, *arguments: str, launcher: tuple[str, ...] = (), **environment: str) -> None:
    command = [sys.executable, *launcher, str(SCRIPT), str(folder), *arguments]
    settings = dict(os.environ, OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="", **environment)
    done = subprocess.run(command, env=settings, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-4000:]


def result(folder: Path, name: str) -> dict[str, torch.Tensor]:
    return torch.load(folder / f"{name}.pt", weights_only=True)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """All trainings with 1, 2 and 4 processes, which are forked from one with the variables that torchrun sets: so torch is imported once."""
    folder = tmp_path_factory.mktemp("trained")
    run(folder, FORKED="1 2 4")
    return folder


@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("name", TRAININGS)
def test_several_processes_give_losses_and_weights_of_one(trained, name, processes):
    expected, found = result(trained / "1", name), result(trained / str(processes), name)
    assert found.keys() == expected.keys()
    tolerance = 0.0 if name in EXACT else LOOSE.get(name, TIGHT)
    for key, value in expected.items():
        torch.testing.assert_close(
            found[key], value, rtol=tolerance, atol=tolerance, msg=lambda text, key=key: f"{key}: {text}"
        )


@pytest.mark.parametrize("name", TRAININGS)
def test_something_is_learned(trained, name):
    """Otherwise the comparison would hold for networks that nothing moves."""
    losses = [value for key, value in result(trained / "1", name).items() if key.startswith("history.")]
    assert all(torch.isfinite(value).all() for value in losses)
    assert any((value[1:] != value[:1]).any() for value in losses)


def test_after_a_kill_torchrun_starts_again_and_ends_like_an_uninterrupted_run(trained, tmp_path):
    """Twice a process dies by SIGKILL in the middle of a training; the third attempt ends with the same bits as two processes that nobody killed."""
    names = ["02 DIMNet-IG", *KILLED, "08 codebook"]
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "2")
    # Without the variable, the processes of the second attempt look for those of the first (pytorch issue 135712).
    run(tmp_path, ";".join(names), launcher=launcher, KILLED=";".join(KILLED), TORCH_DISABLE_SHARE_RDZV_TCP_STORE="1")
    steps = [line.split("|") for line in (tmp_path / "steps.txt").read_text().splitlines()]
    begun = {(int(attempt), name): int(step) for attempt, name, step in reversed(steps)}
    assert begun[1, KILLED[0]] == begun[2, KILLED[1]] == 2, "goes on from the checkpoint of step 2"
    assert (1, "02 DIMNet-IG") not in begun, "what was finished is not trained again"
    for name in names:
        expected, found = result(trained / "2", name), result(tmp_path, name)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], value) for key, value in expected.items()), name


def test_the_slurm_script_starts_torchrun_on_all_machines_of_the_job(tmp_path):
    """With commands of the same names in place of Slurm's: `srun` prints what it would start."""
    for name, text in {
        "scontrol": 'printf "%s\\n" node3 node7',
        "srun": 'echo "$TORCH_DISABLE_SHARE_RDZV_TCP_STORE" "$@"',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    job = {
        "SLURM_JOB_NODELIST": "node[3,7]",
        "SLURM_JOB_ID": "41234",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_GPUS_ON_NODE": "4",
    }
    settings = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", **job}
    assert subprocess.run(["bash", "-n", str(SLURM)], check=False).returncode == 0
    command = ["bash", str(SLURM), "06", "--only", "a b"]
    done = subprocess.run(command, env=settings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [
        "1",
        ".venv/bin/torchrun",
        "--nnodes",
        "2",
        "--nproc-per-node",
        "4",
        "--max-restarts",
        "3",
        "--rdzv-backend",
        "c10d",
        "--rdzv-endpoint",
        "node3:21234",
        "--rdzv-id",
        "41234",
        "-m",
        "paper_utils.train",
        "06",
        "--only",
        "a",
        "b",
    ]
    without = subprocess.run(command, env={"PATH": settings["PATH"]}, capture_output=True, text=True, check=False)
    assert without.returncode != 0
    assert "SLURM_JOB_NODELIST: unbound variable" in without.stderr
