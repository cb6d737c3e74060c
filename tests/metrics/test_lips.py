"""Lip errors: the authors' one and those that are taken for it, told apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paper_utils.metrics import lips


@pytest.fixture
def stored(reference):
    with np.load(reference / "meshtalk" / "lip_error.npz") as arrays:
        return {name: arrays[name] for name in arrays}


def test_all_four_equal_the_references(stored):
    meshes = [torch.from_numpy(stored[name]) for name in ("pred", "gt", "lip_mask")]
    each = lips.lip_error(*meshes)
    np.testing.assert_allclose(each, stored["lip_error_centered_max_per_frame"], rtol=1e-5)
    found = [
        measure(*meshes).mean()
        for measure in (lips.lip_error, lips.lip_max_error, lips.lip_vertex_error, lips.lip_mean_error)
    ]
    names = ("centered", "uncentered_max", "uncentered_squared_max", "mean_over_vertices")
    np.testing.assert_allclose(found, [stored[f"lip_error_{name}"] for name in names], rtol=1e-5)


@given(seed=st.integers(0, 10**6), shift=st.floats(-20, 20))
def test_moving_the_whole_mouth_costs_the_authors_error_nothing(seed, shift):
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randn(2, 5, 9, 3, generator=generator, dtype=torch.float64)
    marks = torch.rand(9, generator=generator) < 0.6
    marks[0] = True
    moved = truth + shift * torch.tensor([1.0, -1.0, 0.5], dtype=torch.float64)
    assert lips.lip_error(moved, truth, marks).abs().max() < 1e-9
    torch.testing.assert_close(
        lips.lip_max_error(moved, truth, marks), torch.full((2, 5), 1.5 * abs(shift), dtype=torch.float64)
    )


def test_other_vertices_do_not_count():
    truth, marks = torch.zeros(1, 4, 3), torch.tensor([True, True, False, False])
    wrong = truth.clone()
    wrong[:, 2:] = 100.0
    assert lips.lip_mean_error(wrong, truth, marks) == 0


def test_faults_are_named():
    meshes = torch.zeros(2, 4, 3)
    with pytest.raises(ValueError, match="one truth value for each vertex"):
        lips.lip_error(meshes, meshes, torch.ones(5, dtype=torch.bool))
    with pytest.raises(ValueError, match="none of the 4 vertices"):
        lips.lip_error(meshes, meshes, torch.zeros(4, dtype=torch.bool))
    with pytest.raises(ValueError, match="NaN"):
        lips.lip_error(meshes * torch.nan, meshes, torch.ones(4, dtype=torch.bool))
