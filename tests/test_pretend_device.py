"""Every training step on a device that does not exist: tensors left on the CPU, generators of the wrong device, waits, float64."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from paper_utils.gpu_check.cases import CASES

# Steps that look at no number of theirs on the way: the program may run ahead of the device.
NEVER_WAITING = (
    "02 DIMNet-IGN", "03 voice network", "03 voice to face", "04 MeshTalk step 2", "08 TalkSHOW face", "08 TalkSHOW codes", "09 FLINT",
    "10 MnasNet", "10 light network, 32 side by side",
)  # fmt: skip
MOST_WAITS = {  # checks of inputs, and in the renderer the numbers of pixels and triangles
    "04 MeshTalk step 1": 1, "05 SphereFace2, SFNet-20": 2, "05 SphereFace2, IResNet-100": 2, "06 SphereFace-R, SFNet-20": 2,
    "06 SphereFace, SFNet-64": 2, "07 CEST": 48, "08 TalkSHOW prior": 2, "09 EMOTE stage 2": 16,
}  # fmt: skip


@pytest.fixture(scope="module")
def found():
    program = Path(__file__).with_name("pretend_device.py")
    return json.loads(subprocess.run([sys.executable, program], check=True, capture_output=True, text=True).stdout)


@pytest.mark.parametrize(
    "fault",
    [
        "sum of two devices",
        "list of two devices",
        "index of another device",
        "numpy",
        "generator",
        "later, in a gradient",
    ],
)
def test_the_device_refuses_what_a_gpu_refuses(found, fault):
    assert found["self"][fault]["error"].startswith("MismatchError")


@pytest.mark.parametrize("allowed", ["number of the CPU", "index of the CPU", "moved", "waits"])
def test_the_device_allows_what_a_gpu_allows(found, allowed):
    assert found["self"][f"allowed: {allowed}"]["error"] is None


def test_reading_a_number_is_counted_as_a_wait(found):
    assert sum(found["self"]["allowed: waits"]["waits"].values()) == 1
    assert not found["self"]["allowed: moved"]["waits"]


@pytest.mark.parametrize("name", [case.name for case in CASES])
def test_a_training_step_keeps_to_its_device(found, name):
    assert found["steps"][name]["error"] is None


@pytest.mark.parametrize("name", [case.name for case in CASES])
def test_a_training_step_seldom_waits_for_its_device(found, name):
    assert set(NEVER_WAITING) | set(MOST_WAITS) == {case.name for case in CASES}
    waits = found["steps"][name]["waits"]
    assert sum(waits.values()) <= MOST_WAITS.get(name, 0), waits


@pytest.mark.parametrize("name", [case.name for case in CASES])
def test_a_training_step_computes_nothing_in_float64_there(found, name):
    # CEST draws partners by probabilities that leave the device as float64.
    allowed = {"07 CEST": 1}.get(name, 0)
    assert sum(found["steps"][name]["doubles"].values()) <= allowed, found["steps"][name]["doubles"]
