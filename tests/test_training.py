"""The training loop: exact resume after a kill, several processes like one, damaged checkpoints, batches."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paper_utils import devices, training

SCRIPT = Path(__file__).with_name("training_script.py")


def script(folder, *arguments, launcher=()):
    folder.mkdir(exist_ok=True)
    command = [sys.executable, *launcher, str(SCRIPT), str(folder), *map(str, arguments)]
    environment = dict(os.environ, OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="")
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)


def result(folder):
    return torch.load(folder / "result.pt", weights_only=True)


def test_killed_and_resumed_training_is_bit_identical(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert script(whole).returncode == 0
    assert script(cut, 70).returncode == -9
    assert not (cut / "result.pt").exists()
    assert torch.load(cut / "checkpoint.pt", weights_only=True)["step"] == 50
    assert script(cut, 77).returncode == -9
    assert script(cut).returncode == 0
    expected, found = result(whole), result(cut)
    assert torch.equal(expected["losses"], found["losses"])
    assert len(found["losses"]) == 120
    for name, weight in expected["weights"].items():
        assert torch.equal(weight, found["weights"][name]), name


def test_two_processes_give_the_loss_curve_of_one(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    assert script(one, -2).returncode == 0
    launched = script(two, launcher=("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"))
    assert launched.returncode == 0, launched.stderr[-2000:]
    expected, found = result(one), result(two)
    torch.testing.assert_close(found["losses"], expected["losses"], rtol=1e-5, atol=1e-5)
    for name, weight in expected["weights"].items():
        torch.testing.assert_close(found["weights"][name], weight, rtol=1e-4, atol=1e-5)


@given(n=st.integers(1, 40), batch=st.integers(1, 50), step=st.integers(0, 30), seed=st.integers(0, 5))
def test_batches_are_one_stream_of_permutations(n, batch, step, seed):
    stream = torch.cat([training.batch_indices(n, batch, s, seed=seed) for s in range(step + 1)])
    assert len(stream) == (step + 1) * batch
    for epoch in range(len(stream) // n):
        assert stream[epoch * n : (epoch + 1) * n].sort().values.tolist() == list(range(n))


@given(parts=st.integers(1, 6), step=st.integers(0, 10))
def test_ranks_share_one_batch_without_overlap(parts, step):
    whole = training.batch_indices(100, parts * 5, step, seed=1)
    shares = [training.batch_indices(100, parts * 5, step, seed=1, rank=r, world_size=parts) for r in range(parts)]
    assert torch.cat(shares).sort().values.tolist() == whole.sort().values.tolist()


def test_uneven_split_and_empty_set_are_refused():
    with pytest.raises(ValueError, match="batch of 10 does not split evenly over 3 processes"):
        training.batch_indices(100, 10, 0, seed=0, world_size=3)
    with pytest.raises(ValueError, match="n >= 1"):
        training.batch_indices(0, 10, 0, seed=0)


def small_run(checkpoint=None, steps=10, name="net", **options):
    torch.manual_seed(0)
    net = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    return training.Run(training.launch("cpu"), {name: net}, optimizer, steps=steps, checkpoint=checkpoint, **options)


def train(run):
    for step in run:
        run.update(run.modules["net"](torch.ones(1, 2) * step).square().mean())


def test_a_finished_checkpoint_has_nothing_left_to_do(tmp_path):
    train(small_run(tmp_path / "c.pt"))
    again = small_run(tmp_path / "c.pt")
    assert list(again) == []
    assert len(again.history["loss"]) == 10


def test_truncated_checkpoint_is_named_and_kept(tmp_path):
    path = tmp_path / "c.pt"
    train(small_run(path))
    content = path.read_bytes()
    for size in (0, 10, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(training.CheckpointError, match=rf"c\.pt \({size} bytes\) cannot be read.*delete it"):
            small_run(path)
        assert path.read_bytes() == content[:size]


def test_checkpoint_of_another_run_is_refused(tmp_path):
    path = tmp_path / "c.pt"
    train(small_run(path, identity="margin 2"))
    with pytest.raises(training.CheckpointError, match="belongs to another run"):
        small_run(path, identity="margin 3")
    with pytest.raises(training.CheckpointError, match="is at step 10, this run ends at 5"):
        small_run(path, identity="margin 2", steps=5)
    with pytest.raises(training.CheckpointError, match=r"holds modules \['net'\], this run has \['other'\]"):
        small_run(path, identity="margin 2", name="other")
    torch.save({"step": 3}, path)
    with pytest.raises(training.CheckpointError, match="lacks history, identity"):
        small_run(path)


def test_a_checkpoint_that_holds_code_is_not_executed(tmp_path):
    import pickle

    class Harmful:
        def __reduce__(self):
            return (Path(tmp_path / "harm").touch, ())

    (tmp_path / "c.pt").write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(training.CheckpointError, match="cannot be read"):
        small_run(tmp_path / "c.pt")
    assert not (tmp_path / "harm").exists()


def test_a_loss_that_is_not_finite_stops_unless_allowed():
    run = small_run()

    def train_on_nan(run):
        for _ in run:
            run.update(run.modules["net"](torch.full((1, 2), float("nan"))).mean())

    with pytest.raises(training.DivergedError, match="the loss at step 0 is nan"):
        train_on_nan(run)
    run = small_run(allow_divergence=True)
    train_on_nan(run)
    assert len(run.history["loss"]) == 10


def test_forgetting_to_update_is_an_error():
    with pytest.raises(RuntimeError, match="exactly once a step; at step 0 it was called 0 times"):
        list(small_run())


def test_cached_trains_once_a_key_and_again_when_it_changes():
    calls = []

    def train_once(checkpoint):
        calls.append(checkpoint)
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        checkpoint.write_text("half way")
        return {"weight": torch.arange(3.0)}

    code = [Path(training.__file__)]
    first = training.cached("method", {"margin": 2}, train_once, code=code)
    again = training.cached("method", {"margin": 2}, train_once, code=code)
    assert torch.equal(first["weight"], again["weight"])
    assert len(calls) == 1
    assert not calls[0].exists()
    training.cached("method", {"margin": 3}, train_once, code=code)
    assert len(calls) == 2


def test_cached_keeps_precisions_apart():
    found = [
        training.cached("method", {}, lambda _, p=p: {"precision": p}, code=[], fabric=training.launch("cpu", p))
        for p in ("32-true", "bf16-mixed", "32-true")
    ]
    assert [state["precision"] for state in found] == ["32-true", "bf16-mixed", "32-true"]


def test_truncated_cache_is_named_and_trained_again(tmp_path):
    training.cached("method", {}, lambda _: {"weight": torch.ones(1)}, code=[])
    (path,) = (tmp_path / ".cache" / "method").iterdir()
    path.write_bytes(path.read_bytes()[:50])
    with pytest.warns(UserWarning, match=rf"{path.name} \(50 bytes\) cannot be read"):
        assert training.cached("method", {}, lambda _: {"weight": torch.zeros(1)}, code=[])["weight"] == 0


def test_unknown_device_and_precision_list_the_valid_ones():
    with pytest.raises(ValueError, match="unknown device 'tpu'; valid: auto, cpu, cuda, mps"):
        devices.choose_device("tpu")
    with pytest.raises(ValueError, match="unknown precision '8'; valid: 32-true, bf16-mixed"):
        training.launch("cpu", precision="8")


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for a device that is not there")
def test_a_missing_device_is_named():
    with pytest.raises(ValueError, match=r"device 'cuda' was asked for.*present: cpu"):
        devices.choose_device("cuda")


def test_several_processes_need_torchrun(monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(ValueError, match="start them with `torchrun --nproc-per-node 2"):
        training.launch("cpu", processes=2)


def test_bf16_mixed_trains_on_the_cpu():
    net = torch.nn.Linear(4, 1)
    run = training.Run(
        training.launch("cpu", "bf16-mixed"), {"net": net}, torch.optim.SGD(net.parameters(), lr=0.1), steps=50
    )
    x = torch.randn(32, 4, generator=torch.Generator().manual_seed(0))
    for _ in run:
        out = run.modules["net"](x)
        run.update((out.float() - x.sum(1, keepdim=True)).square().mean())
    assert net.weight.dtype == torch.float32
    assert run.history["loss"][-1] < 0.05 * run.history["loss"][0]
