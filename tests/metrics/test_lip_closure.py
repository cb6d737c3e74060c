"""Closed lips at P, B and M: exact small cases, invariances and faults."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paper_utils.metrics import lip_closure as lc


def marks(*rows):
    return torch.tensor([[sign == "x" for sign in row] for row in rows])


def test_the_gap_is_the_mean_distance_of_the_pairs():
    mesh = torch.zeros(1, 2, 5, 3)
    mesh[0, 0, 1] = torch.tensor([3.0, 4.0, 0.0])  # 5 from vertex 0
    mesh[0, 0, 3] = torch.tensor([0.0, 0.0, 1.0])  # 1 from vertex 2
    mesh[0, :, 4] = 100.0
    assert lc.inner_lip_gap(mesh, torch.tensor([0, 2]), torch.tensor([1, 3])).tolist() == [[3.0, 0.0]]


def test_the_open_gap_is_the_median_over_all_open_frames_of_a_person():
    gaps = torch.tensor([[1.0, 2.0, 99.0], [7.0, 8.0, 9.0], [10.0, 0.0, 99.0]])
    opened = marks("xx.", "xxx", "xx.")
    found = lc.median_open_gap(gaps, opened, torch.tensor([0, 1, 0]))
    assert found.tolist() == [1.5, 8.0], "of 0, 1, 2, 10 and of 7, 8, 9"


def test_closure_by_hand():
    gaps = torch.tensor([[0.9, 1.0, 0.0, 5.0], [0.9, 1.9, 2.0, 0.0], [0.5, 0.0, 9.0, 9.0]])
    bilabial = marks("xxx.", "xxx.", "x...")
    found = lc.bilabial_closure(
        gaps, bilabial, torch.tensor([0, 1, 0]), torch.tensor([3, 3, 1]), torch.tensor([10.0, 20.0])
    )
    # Below 1 mm for person 0: 0.9 and 0, not 1.0; below 2 mm for person 1: 0.9 and 1.9.
    assert found == {1: (1.0, 1, 1), 3: (4 / 6, 4, 6)}
    assert list(found) == [1, 3]
    half = lc.bilabial_closure(
        gaps, bilabial, torch.tensor([0, 1, 0]), torch.tensor([3, 3, 1]), torch.tensor([10.0, 20.0]), closed_share=0.05
    )
    assert half == {1: (0.0, 0, 1), 3: (2 / 6, 2, 6)}


def test_an_intensity_without_bilabials_has_no_share():
    found = lc.bilabial_closure(
        torch.ones(1, 3), marks("..."), torch.tensor([0]), torch.tensor([2]), torch.tensor([1.0])
    )
    assert found[2].frames == 0
    assert found[2].share != found[2].share


@given(st.integers(0, 2**31 - 1), st.floats(0.01, 100))
def test_closure_does_not_depend_on_the_unit(seed, unit):
    generator = torch.Generator().manual_seed(seed)
    gaps = 10 * torch.rand(6, 20, generator=generator, dtype=torch.float64) ** 3
    bilabial = torch.rand(6, 20, generator=generator) < 0.4
    person, level = torch.tensor([0, 1, 0, 1, 2, 2]), torch.tensor([1, 1, 2, 2, 3, 3])
    one, other = (
        lc.bilabial_closure(values, bilabial, person, level, lc.median_open_gap(values, ~bilabial, person))
        for values in (gaps, unit * gaps)
    )
    # A gap that is the threshold to the last bit may round either way.
    assert all(abs(one[k].closed - other[k].closed) <= 1 for k in one)
    assert sum(abs(one[k].closed - other[k].closed) for k in one) <= 1


def test_faults_are_named():
    gaps, person = torch.ones(2, 3), torch.tensor([0, 1])
    with pytest.raises(ValueError, match="upper: expected at least one vertex, each from 0 to 4, found"):
        lc.inner_lip_gap(torch.zeros(1, 2, 5, 3), torch.tensor([5]), torch.tensor([1]))
    with pytest.raises(ValueError, match="expected a mark for each frame"):
        lc.median_open_gap(gaps, marks("xx", "xx"), person)
    with pytest.raises(ValueError, match="person 1: expected open frames with a median gap above 0, found 0 frames"):
        lc.median_open_gap(gaps, marks("xxx", "..."), person)
    with pytest.raises(ValueError, match="1 of 6 are NaN"):
        lc.median_open_gap(torch.tensor([[1.0, 1.0, torch.nan], [1.0, 1.0, 1.0]]), marks("xxx", "xxx"), person)
    level, open_gap = torch.tensor([1, 2]), torch.tensor([1.0, 1.0])
    with pytest.raises(ValueError, match="an open gap for each of 2 people, found 2 and 1"):
        lc.bilabial_closure(gaps, marks("xxx", "xxx"), person, level, open_gap[:1])
    with pytest.raises(ValueError, match="above 0, found 0 and"):
        lc.bilabial_closure(gaps, marks("xxx", "xxx"), person, level, open_gap, closed_share=0.0)
