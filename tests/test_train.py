"""`python -m paper_utils.train`: the notebook's trainings from the command line, by one process or two."""

import os
import subprocess
import sys

import pytest
import torch

from paper_utils import train

ARGUMENTS = ("06", "--profile", "smoke", "--device", "cpu", "--only", "normface,v1")


def run(output, *arguments, launcher=("-m",)):
    environment = dict(os.environ, OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="", PAPER_UTILS_OUTPUT=str(output))
    command = [sys.executable, *launcher, "paper_utils.train", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)


def cached_states(output):
    found = sorted((output / ".cache" / "sphereface_r").glob("*.pt"))
    return {path.name: torch.load(path, weights_only=True)["state"] for path in found}


def test_two_processes_fill_the_cache_like_one(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    single = run(one, *ARGUMENTS)
    assert single.returncode == 0, single.stderr
    assert "normface" in single.stdout
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")
    several = run(two, *ARGUMENTS, launcher=launcher)
    assert several.returncode == 0, several.stderr[-2000:]
    expected, found = cached_states(one), cached_states(two)
    assert len(expected) == 2
    assert found.keys() == expected.keys()
    for name, state in expected.items():
        torch.testing.assert_close(found[name]["history"]["loss"], state["history"]["loss"], rtol=1e-5, atol=1e-5)
        for part in ("network", "head"):
            torch.testing.assert_close(found[name][part], state[part], rtol=1e-4, atol=1e-5)
    again = run(one, *ARGUMENTS)
    assert again.returncode == 0
    assert cached_states(one).keys() == expected.keys()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("42",), "unknown paper '42'; valid: 00, 01"),
        (("01",), "paper 01 has nothing to train here; papers that have: 02, "),
        (("06", "--data", "mnist"), "unknown data 'mnist' for paper 06; valid: world, digits"),
        (("06", "--precision", "8"), "unknown precision '8'; valid: 32-true, bf16-mixed"),
        (("06", "--profile", "smoke", "--only", "nothing"), "unknown model nothing; valid: softmax"),
        ((), "which paper? expected one of 02, "),
        (("05", "--recipe", "nothing"), "unknown recipe 'nothing' of paper 05; valid: vggface2_sfnet20_sphereface2"),
        (("06", "--steps", "5"), "--steps: only with --recipe"),
        (
            ("evaluate", "--recipe", "vggface2_sfnet20_sphereface2"),
            "evaluate needs --recipe (which network) and --weights",
        ),
    ],
)
def test_wrong_arguments_list_the_valid_ones(arguments, message, capsys):
    assert train.main(arguments) == 2
    assert message in capsys.readouterr().err
