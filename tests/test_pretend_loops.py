"""Whole trainings of notebooks' models on a device that does not exist: data, faces and readers must come along."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

# The cheapest trainings that bring something besides a network: masks, a face space, a pose, a face with its readers.
MODELS = {"04": ["step 1"], "07": ["CEST"], "08": ["regressor"], "09": ["EMOTE"]}


@pytest.fixture(scope="module")
def found():
    program = Path(__file__).with_name("pretend_loops.py")
    asked = [f"{number}={','.join(names)}" for number, names in MODELS.items()]
    return json.loads(
        subprocess.run([sys.executable, program, *asked], check=True, capture_output=True, text=True).stdout
    )


@pytest.mark.parametrize("name", [f"{number} {name}" for number, names in MODELS.items() for name in names])
def test_a_training_keeps_to_its_device(found, name):
    assert found[name]["error"] is None
