"""Every method's training step in mixed precision against float32, on the CPU: the comparison that `make gpu-check` makes on a GPU."""

import pytest
import torch

from paper_utils.gpu_check import checks, compare
from paper_utils.gpu_check.cases import CASES

CPU = torch.device("cpu")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_mixed_precision_keeps_its_tolerance_on_the_cpu(case):
    found = checks.agree(case, "bf16-mixed", checks.Plan("cpu", "tiny"))
    assert found["passed"], found
    assert found["loss"]["found"] > 0, "nothing was rounded: was the step in mixed precision at all?"


def test_every_parameter_of_every_step_gets_a_gradient_that_is_not_zero():
    for case in CASES:
        for name, value in compare.gradients(case.build, CPU).values.items():
            assert value is not None, f"{case.name}: {name}"
            assert bool((value != 0).any()), f"{case.name}: {name}"


def test_only_steps_that_name_modules_to_compile_are_compiled():
    for case in CASES:
        assert bool(case.build("tiny").compiled) == case.compiles, case.name
