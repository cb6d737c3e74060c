"""Ways to write a rotation: equal to PyTorch3D's as TalkSHOW uses them, round trips, half turns and zero."""

from __future__ import annotations

import math

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paper_utils.mesh import rotations
from paper_utils.mesh.skinning import rotation_matrices


@pytest.fixture
def recorded(reference):
    with np.load(reference / "talkshow_metrics" / "rotations.npz") as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays}


@pytest.mark.parametrize(("kind", "tolerance"), [("f64", 1e-12), ("f32", 2e-6)])
def test_all_conversions_equal_the_recorded_ones(recorded, kind, tolerance):
    steps = {
        "quat": (rotations.quaternion_from_axis_angle, "aa"),
        "mat": (rotations.matrix_from_axis_angle, "aa"),
        "d6": (rotations.six_d_from_axis_angle, "aa"),
        "mat_from_d6": (rotations.matrix_from_six_d, "d6"),
        "quat_from_mat": (rotations.quaternion_from_matrix, "mat"),
        "aa_from_mat": (rotations.axis_angle_from_matrix, "mat"),
        "aa_from_quat": (rotations.axis_angle_from_quaternion, "quat"),
    }
    for name, (convert, start) in steps.items():
        found, expected = convert(recorded[f"{start}_{kind}"]), recorded[f"{name}_{kind}"]
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance, err_msg=name)


def test_what_is_not_normalised_is_brought_to_a_rotation_as_recorded(recorded):
    found = rotations.matrix_from_six_d(recorded["d6_raw"])
    np.testing.assert_allclose(found, recorded["mat_from_d6_raw"], atol=1e-12)
    np.testing.assert_allclose(
        rotations.matrix_from_quaternion(recorded["quat_raw"]), recorded["mat_from_quat_raw"], atol=1e-12
    )


def axis_angles(seed, longest):
    rng = np.random.default_rng(seed)
    axes = rng.standard_normal((20, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    return torch.from_numpy(axes * rng.uniform(0, longest, (20, 1)))


@given(seed=st.integers(0, 500))
def test_round_trips_below_half_a_turn(seed):
    start = axis_angles(seed, 3.1)
    matrix = rotations.matrix_from_axis_angle(start)
    identity = torch.eye(3, dtype=torch.float64)
    np.testing.assert_allclose(matrix @ matrix.transpose(1, 2), identity.expand(20, 3, 3), atol=1e-12)
    np.testing.assert_allclose(torch.linalg.det(matrix), np.ones(20), atol=1e-12)
    np.testing.assert_allclose(matrix, rotation_matrices(start), atol=1e-6)
    for back in (
        rotations.axis_angle_from_matrix(matrix),
        rotations.axis_angle_from_matrix(matrix, accurate=True),
        rotations.axis_angle_from_six_d(rotations.six_d_from_axis_angle(start), accurate=True),
        rotations.axis_angle_from_quaternion(rotations.quaternion_from_axis_angle(start)),
    ):
        np.testing.assert_allclose(back, start, atol=1e-6)


@given(seed=st.integers(0, 200))
def test_accurate_quaternions_keep_the_digits_near_half_a_turn(seed):
    start = axis_angles(seed, 1.0)
    start = start / start.norm(dim=1, keepdim=True) * (math.pi - 1e-5)
    quaternion = rotations.quaternion_from_axis_angle(start)
    matrix = rotations.matrix_from_quaternion(quaternion)
    accurate = rotations.quaternion_from_matrix(matrix, accurate=True)
    np.testing.assert_allclose(accurate, quaternion, atol=1e-14)
    np.testing.assert_allclose(rotations.matrix_from_quaternion(accurate), matrix, atol=1e-14)


def test_an_angle_above_half_a_turn_comes_back_as_the_same_rotation():
    start = torch.tensor([[0.0, 4.0, 0.0]], dtype=torch.float64)
    back = rotations.axis_angle_from_matrix(rotations.matrix_from_axis_angle(start))
    np.testing.assert_allclose(back, [[0.0, 4.0 - 2 * math.pi, 0.0]], atol=1e-12)
    unwrapped = rotations.axis_angle_from_quaternion(rotations.quaternion_from_axis_angle(start))
    np.testing.assert_allclose(unwrapped, start, atol=1e-12)


@pytest.mark.parametrize("seed", [0, 1])
def test_gradients_are_right_at_zero_and_elsewhere(seed):
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(3, 3, dtype=torch.float64, generator=generator).requires_grad_()
    for convert in (rotations.matrix_from_axis_angle, rotations.six_d_from_axis_angle):
        assert torch.autograd.gradcheck(convert, start)
        zero = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(convert, zero)
    assert torch.autograd.gradcheck(
        rotations.matrix_from_six_d, torch.randn(3, 6, dtype=torch.float64, generator=generator).requires_grad_()
    )
    zero = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    rotations.axis_angle_from_six_d(rotations.six_d_from_axis_angle(zero)).sum().backward()
    assert torch.isfinite(zero.grad).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rotations.matrix_from_axis_angle(torch.zeros(2, 4)), "axis_angle"),
        (lambda: rotations.quaternion_from_matrix(torch.zeros(3, 2)), "matrix"),
        (lambda: rotations.matrix_from_six_d(torch.full((6,), torch.nan)), "six_d: 6 of 6 values are NaN"),
        (lambda: rotations.matrix_from_quaternion(torch.zeros(2, 4)), "2 of 2 are zero"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises((ValueError, jaxtyping.TypeCheckError), match=message):
        call()
