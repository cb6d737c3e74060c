"""Errors of reflectance, shading, light, viewpoint and landmarks: exact small cases, invariances, and what is left undefined."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.spatial.transform import Rotation

from paper_utils.mesh.cameras import rotation_matrix
from paper_utils.mesh.shading import directional_light
from paper_utils.metrics import faces_3d

seeds = st.integers(0, 10_000)


def random(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).uniform(0.1, 1, shape))


# ------------------------------------------------------------------------------------------ reflectance, shading


@given(seeds, st.floats(0.01, 100))
def test_reflectance_error_does_not_know_the_brightness(seed, factor) -> None:
    truth, predicted = random(seed, 2, 3, 4, 5), random(seed + 1, 2, 3, 4, 5)
    error = faces_3d.reflectance_error(predicted, truth)
    assert_allclose(faces_3d.reflectance_error(factor * predicted, truth), error, rtol=1e-9)
    assert_allclose(faces_3d.reflectance_error(factor * truth, truth), 0, atol=1e-7)
    # The factor is the best one: any other is worse.
    for other in (0.97, 1.03):
        scale = other * faces_3d.fitted_scale(predicted, truth, torch.ones_like(truth))
        worse = (scale[:, None, None, None] * predicted - truth).square().mean((1, 2, 3)).sqrt()
        assert (worse > error).all()


def test_reflectance_has_one_factor_for_all_channels() -> None:
    truth = torch.ones(1, 3, 2, 2, dtype=torch.float64)
    tinted = truth * torch.tensor([1.0, 1.0, 2.0], dtype=torch.float64)[:, None, None]
    # s = 4 / 6 leaves (-1/3, -1/3, 1/3).
    assert_allclose(faces_3d.reflectance_error(tinted, truth), 1 / 3, rtol=1e-12)


def test_black_reflectance_has_the_error_of_the_truth() -> None:
    truth = torch.tensor([[[3.0, 4.0]]])
    assert_allclose(faces_3d.reflectance_error(torch.zeros_like(truth), truth), np.sqrt(12.5), rtol=1e-6)


def test_only_places_in_the_mask_count() -> None:
    truth = random(0, 2, 3, 4, 5)
    spoilt = 2 * truth
    spoilt[:, :, 2:] = 17
    mask = torch.zeros(2, 4, 5, dtype=torch.bool)
    mask[:, :2] = True
    assert_allclose(faces_3d.reflectance_error(spoilt, truth, mask), 0, atol=1e-9)
    mask[1] = False
    with pytest.raises(ValueError, match=r"mask is empty for items \[1\]"):
        faces_3d.reflectance_error(spoilt, truth, mask)


def test_numbers_that_are_not_finite_are_named() -> None:
    truth = random(0, 1, 3, 4, 5)
    with pytest.raises(ValueError, match="reflectance: predicted holds 60 NaN"):
        faces_3d.reflectance_error(truth * float("nan"), truth)


def test_shading_error_is_relative_to_the_mean_shading() -> None:
    truth = torch.tensor([[[1.0, 3.0]], [[10.0, 30.0]]], dtype=torch.float64)
    predicted = torch.tensor([[[2.0, 2.0]], [[2.0, 2.0]]], dtype=torch.float64)
    found = faces_3d.shading_error(predicted, truth)
    assert_allclose(found.relative, [0.5, 0.5])  # the best constant is the mean: left over are -1 and 1 of a mean of 2
    assert_allclose(found.correlation, [0, 0])  # a constant correlates with nothing


@given(seeds)
def test_shading_correlation_is_pearsons(seed) -> None:
    truth, predicted = random(seed, 3, 1, 6, 7), random(seed + 1, 3, 1, 6, 7)
    mask = torch.from_numpy(np.random.default_rng(seed).random((3, 6, 7)) < 0.6)
    mask[:, 0, :3] = True
    found = faces_3d.shading_error(predicted, truth, mask)
    for k in range(3):
        expected = np.corrcoef(predicted[k, 0][mask[k]], truth[k, 0][mask[k]])[0, 1]
        assert_allclose(found.correlation[k], expected, atol=1e-9)


def test_shading_in_the_dark_is_refused() -> None:
    with pytest.raises(ValueError, match="is the mask on the face and the light on"):
        faces_3d.shading_error(torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2))


# ------------------------------------------------------------------------------------------------ light, viewpoint


@pytest.mark.parametrize("degrees", [0.0, 1e-4, 30.0, 90.0, 179.999, 180.0])
def test_light_direction_error_is_the_planted_angle(degrees) -> None:
    turn = Rotation.from_rotvec(np.deg2rad(degrees) * np.array([0.6, 0, 0.8]))
    first = np.array([0.0, 1.0, 0.0])
    directions = torch.from_numpy(np.stack((first, turn.apply(first))))
    light = directional_light(directions, torch.tensor([2.0, 1.0]).double(), torch.tensor([0.1, 0.3]).double())
    found = faces_3d.light_direction_error(light[:1], light[1:])
    assert found.undefined == 0
    assert_allclose(found.degrees, degrees, atol=1e-9)


def test_lights_without_direction_are_dropped_and_counted() -> None:
    light = torch.zeros(5, 9)
    light[:, 0] = torch.tensor([1.0, 1.0, -1.0, 0.0, 0.0])
    light[:, 3] = torch.tensor([0.04, 0.06, 0.04, 0.04, 0.0])
    truth = torch.tensor([[1.0, 1, 0, 0, 0, 0, 0, 0, 0]]).expand(5, 9)
    for pair in ((light, truth), (truth, light)):
        found = faces_3d.light_direction_error(*pair)
        assert found.defined.tolist() == [False, True, False, True, False]
        assert found.undefined == 3
        assert_allclose(found.degrees, [90, 90])


@given(st.floats(0, 180), seeds)
def test_rotation_error_is_the_planted_angle_and_has_no_preferred_frame(degrees, seed) -> None:
    frames = Rotation.random(2, random_state=seed).as_matrix()
    axis = np.random.default_rng(seed).normal(size=3)
    turn = Rotation.from_rotvec(np.deg2rad(degrees) * axis / np.linalg.norm(axis)).as_matrix()
    first, second = torch.from_numpy(frames[:1]), torch.from_numpy((turn @ frames[0])[None])
    assert_allclose(faces_3d.rotation_error(first, second), degrees, atol=1e-5)
    moved = torch.from_numpy(frames[1])
    assert_allclose(faces_3d.rotation_error(moved @ first, moved @ second), degrees, atol=1e-5)


def test_rotation_error_keeps_small_angles() -> None:
    turn = torch.from_numpy(Rotation.from_rotvec([np.deg2rad(1e-6), 0, 0]).as_matrix()[None])
    assert_allclose(faces_3d.rotation_error(turn, torch.eye(3).double()[None]), 1e-6, rtol=1e-3)


def test_viewpoint_error_is_one_angle_for_the_whole_turn() -> None:
    truth = torch.tensor([[0.1, -0.5, 0.2], [0.0, 0.0, 0.0], [0.2, 0.1, 0.4]])
    predicted = truth + torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.3, 0.0], [0.0, 0.0, 2 * torch.pi]])
    assert_allclose(faces_3d.viewpoint_error(predicted, truth), [0, np.rad2deg(0.3), 0], atol=1e-4)
    # Near profile, pitch and roll nearly cancel: the angles differ by much, the viewpoint hardly.
    near = torch.tensor([[0.5, torch.pi / 2 - 1e-3, 0.5], [0.0, torch.pi / 2 - 1e-3, 0.0]])
    assert faces_3d.viewpoint_error(near[:1], near[1:])[0] < 0.1


def test_rotation_error_refuses_a_reflection() -> None:
    with pytest.raises(ValueError, match="predicted must hold proper rotations"):
        faces_3d.rotation_error(-torch.eye(3)[None], torch.eye(3)[None])
    turn = rotation_matrix(*torch.zeros(3, 1))
    with pytest.raises(ValueError, match="truth must hold proper rotations"):
        faces_3d.rotation_error(turn, 1.1 * turn)


# ------------------------------------------------------------------------------------------------------ landmarks


def box(width: float, height: float) -> torch.Tensor:
    return torch.tensor([[[0.0, 0], [width, 0], [0, height], [width, height]]])


def test_nme_is_the_mean_distance_over_the_side_of_the_square_with_the_boxs_area() -> None:
    truth = box(40, 90)  # sqrt(w h) = 60
    predicted = truth + torch.tensor([[3.0, 4.0], [0, 0], [0, 0], [0, 1]])
    assert_allclose(faces_3d.nme(predicted, truth), [100 * 6 / 4 / 60], rtol=1e-6)


@given(seeds, st.floats(0.1, 10))
def test_nme_does_not_depend_on_the_size_of_the_picture(seed, factor) -> None:
    truth, predicted = 100 * random(seed, 2, 68, 2), 100 * random(seed + 1, 2, 68, 2)
    assert_allclose(faces_3d.nme(factor * predicted, factor * truth), faces_3d.nme(predicted, truth), rtol=1e-9)


def test_nme_in_depth_ignores_a_shift_in_depth_only() -> None:
    truth = torch.cat((box(40, 90), torch.tensor([[[0.0], [1], [2], [3]]])), 2)
    assert_allclose(faces_3d.nme(truth + torch.tensor([0.0, 0, 50]), truth), [0], atol=1e-5)
    assert_allclose(faces_3d.nme(truth + torch.tensor([6.0, 0, 50]), truth), [10], rtol=1e-5)


def test_dense_nme_takes_the_box_of_the_landmarks() -> None:
    truth = box(400, 900)
    assert_allclose(faces_3d.nme(truth + torch.tensor([6.0, 0]), truth, box(40, 90)), [10], rtol=1e-6)


def test_nme_refuses_a_box_without_area() -> None:
    with pytest.raises(ValueError, match=r"no area in items \[0\]"):
        faces_3d.nme(box(40, 90), box(40, 0))


def test_yaw_bins_are_averaged_alike_however_full_they_are() -> None:
    errors = torch.tensor([1.0, 3.0, 5.0, 7.0, 10.0])
    found = faces_3d.nme_by_yaw(errors, torch.tensor([0.0, -30.0, 30.001, 60.0, -90.0]))
    assert found.names == ("[0, 30]", "(30, 60]", "(60, 90]")
    assert found.counts == (2, 2, 1)
    assert_allclose(found.means, [2, 6, 10])
    assert found.overall == pytest.approx(6)


def test_an_empty_yaw_bin_leaves_no_overall_number() -> None:
    found = faces_3d.nme_by_yaw(torch.tensor([1.0, 2.0]), torch.tensor([5.0, 95.0]))
    assert found.counts == (1, 0, 1)
    assert found.names[-1] == "(60, 95]"
    assert np.isnan(found.overall)
