"""Measures of facial motion by region: exact small cases and faults."""

from __future__ import annotations

import math

import pytest
import torch

from paper_utils.metrics import face_motion as fm

REGION = torch.tensor([True, True, False])


def wave(amplitude=1.0, frames=60):
    meshes = torch.zeros(1, frames, 3, 3)
    meshes[0, :, :, 1] = amplitude * torch.sin(2 * math.pi * torch.arange(frames) / 20)[:, None]
    return meshes


def test_region_rms_is_the_vertex_distance_on_the_region():
    truth = torch.zeros(2, 5, 3, 3)
    wrong = truth.clone()
    wrong[:, :, :2] = torch.tensor([3.0, 4.0, 0.0])
    wrong[:, :, 2] = 1000.0
    assert fm.region_rms(wrong, truth, REGION).tolist() == [5.0, 5.0]


def test_variance_ratio_is_the_square_of_the_amplitude():
    assert fm.variance_ratio(wave(0.5), wave(), REGION).item() == pytest.approx(0.25)
    assert fm.variance_ratio(wave(0.0), wave(), REGION).item() == 0.0


def test_diversity_counts_differences_between_samples_not_motion():
    same = torch.stack([wave(), wave()])
    assert fm.sample_diversity(same, wave(), REGION).item() == 0.0
    apart = torch.stack(
        [wave() + 1, wave() - 1]
    )  # variance 2 in each of three coordinates, truth moves with variance 1/2 in one
    assert fm.sample_diversity(apart, wave(), REGION).item() == pytest.approx(12.0)


def test_dynamics_deviation_has_the_sign_of_too_little_motion():
    rest = torch.zeros(1, 3, 3)
    assert fm.dynamics_deviation(wave(), wave(), rest, REGION).item() == 0.0
    assert fm.dynamics_deviation(wave(0.0), wave(), rest, REGION).item() > 0.2
    assert fm.dynamics_deviation(wave(2.0), wave(), rest, REGION).item() < -0.2


def along_x(*paths, rest=0.0):
    """Vertices that move along x, one list of places a vertex, and their rest."""
    meshes = torch.zeros(1, len(paths[0]), len(paths), 3, dtype=torch.float64)
    meshes[0, :, :, 0] = torch.tensor(paths, dtype=torch.float64).T
    template = torch.zeros(1, len(paths), 3, dtype=torch.float64)
    template[..., 0] = rest
    return meshes, template


def test_squared_dynamics_by_hand():
    # Distances from the rest at 1: 0, 2, 0, 2 and 1, 3, 1, 3; squared 0, 4, 0, 4 and 1, 9, 1, 9; standard deviations 2 and 4, mean 3.
    truth, rest = along_x([1, 3, 1, 3], [0, 4, 2, -2], [9, 9, 5, 2], rest=1.0)
    # Distances 1, 0, 1, 0 and 2, 2, 2, 2; squared 1, 0, 1, 0 and 4, 4, 4, 4; standard deviations 0.5 and 0, mean 0.25.
    predicted, _ = along_x([2, 1, 0, 1], [3, -1, 3, -1], [-7, 3, 2, 8], rest=1.0)
    found = fm.dynamics_deviation(predicted, truth, rest, REGION, squared=True)
    assert found.tolist() == [pytest.approx(3 - 0.25)]
    # Not squared: deviations 1 and 1, mean 1, against 0.5 and 0, mean 0.25.
    assert fm.dynamics_deviation(predicted, truth, rest, REGION).tolist() == [pytest.approx(1 - 0.25)]


def test_squared_dynamics_grow_with_the_square_of_the_unit():
    rest = torch.zeros(1, 3, 3)
    one, ten = (fm.dynamics_deviation(k * wave(0.5), k * wave(), rest, REGION, squared=True) for k in (1, 10))
    torch.testing.assert_close(ten, 100 * one)
    assert one.item() > 0


def test_fdd_is_given_signed_and_absolute():
    assert fm.fdd(torch.tensor([2.0, -2.0, 3.0])) == (1.0, pytest.approx(7 / 3))
    assert fm.fdd(torch.tensor([-4.0])) == (-4.0, 4.0)
    with pytest.raises(ValueError, match="found 0 clips"):
        fm.fdd(torch.zeros(0))
    with pytest.raises(ValueError, match="found 2 clips, 1 of them NaN"):
        fm.fdd(torch.tensor([1.0, torch.nan]))


def test_faults_are_named():
    with pytest.raises(ValueError, match="one truth value for each vertex"):
        fm.region_rms(wave(), wave(), REGION[:2])
    with pytest.raises(ValueError, match="none of the 3 vertices"):
        fm.region_rms(wave(), wave(), torch.zeros(3, dtype=torch.bool))
    with pytest.raises(ValueError, match="does not move"):
        fm.variance_ratio(wave(), wave(0.0), REGION)
    with pytest.raises(ValueError, match="at least two, found 1"):
        fm.sample_diversity(wave()[None], wave(), REGION)
