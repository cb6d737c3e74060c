"""Soft masks: geodesic distances, their exponential, and the text files of the MeshTalk release."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paper_utils.data.mesh_masks import edge_distances, read_mask, region_of, soft_mask, write_mask


def strip(count=6, step=2.0):
    """A strip of triangles whose lower row has vertices 0..count-1 at distance `step`, and a lone triangle."""
    x = step * torch.arange(count, dtype=torch.float32)
    rows = [torch.stack([x, torch.full_like(x, y), torch.zeros_like(x)], 1) for y in (0.0, 1.0)]
    cells = [(k, k + 1, count + k) for k in range(count - 1)] + [
        (k + 1, count + k + 1, count + k) for k in range(count - 1)
    ]
    lone = torch.tensor([[90.0, 0, 0], [91, 0, 0], [90, 1, 0]])
    faces = torch.tensor([*cells, (2 * count, 2 * count + 1, 2 * count + 2)])
    return torch.cat([*rows, lone]), faces


def core_of(count, *members):
    core = torch.zeros(count, dtype=torch.bool)
    core[list(members)] = True
    return core


def test_distances_follow_the_edges():
    vertices, faces = strip()
    found = edge_distances(vertices, faces, core_of(15, 0))
    torch.testing.assert_close(found[:6], 2.0 * torch.arange(6.0))
    assert found[6] == 1  # straight up
    assert float(found[7]) == pytest.approx(min(1 + 2, 2 + 1))
    assert torch.isinf(found[12:]).all()
    assert edge_distances(vertices, faces, core_of(15, 5))[:6].tolist() == [10, 8, 6, 4, 2, 0]  # in both directions


def test_a_bend_is_walked_around_not_through():
    vertices = torch.tensor([[0.0, 0, 0], [10, 0, 0], [10, 0.1, 0], [0, 0.1, 0], [5, -3, 0]])
    faces = torch.tensor([[0, 4, 1], [1, 2, 4], [2, 3, 4]])
    found = edge_distances(vertices, torch.cat([faces[:1], torch.tensor([[1, 2, 2]])]), core_of(5, 0))
    assert found[2] > 10


@given(st.integers(0, 5), st.floats(0.5, 40.0), st.floats(0.0, 0.5))
def test_masks_are_one_on_the_core_and_fall_exponentially_to_the_floor(member, scale, least):
    vertices, faces = strip()
    core = core_of(15, member)
    mask, distance = (
        soft_mask(vertices, faces, core, scale_mm=scale, least=least),
        edge_distances(vertices, faces, core),
    )
    assert torch.equal(mask == 1, core)
    torch.testing.assert_close(mask, (-distance / scale).exp().clamp(min=least))
    assert mask[12:].tolist() == [pytest.approx(least)] * 3


def test_a_tenth_of_a_metre_away_nothing_but_the_floor_is_left():
    vertices, faces = strip(60)
    mask = soft_mask(vertices, faces, core_of(123, 0))
    assert float(mask[5]) == pytest.approx(math.exp(-1))
    assert float(mask[59]) == pytest.approx(1e-3)


def test_bad_cores_and_settings_are_refused():
    vertices, faces = strip()
    with pytest.raises(ValueError, match=r"expected 15 truth values, one at least true; found \(15,\), 0 true"):
        edge_distances(vertices, faces, core_of(15))
    with pytest.raises(ValueError, match="expected 15 truth values"):
        edge_distances(vertices, faces, core_of(14, 0))
    with pytest.raises(ValueError, match="expected triangles over 15 vertices"):
        edge_distances(vertices, faces + 1, core_of(15, 0))
    with pytest.raises(ValueError, match="expected scale_mm > 0"):
        soft_mask(vertices, faces, core_of(15, 0), scale_mm=0)


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=30))
def test_files_of_the_release_give_back_the_same_numbers(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("masks") / "mask.txt"
    mask = torch.tensor(values)
    write_mask(path, mask)
    assert len(path.read_text().splitlines()) == len(values)
    assert torch.equal(read_mask(path, len(values)), mask)


def test_files_as_numpy_writes_them_are_read(tmp_path):
    path = tmp_path / "mask.txt"
    path.write_text("1.000000000000000000e+00\r\n0.5\n0\n\n")
    assert read_mask(path, 3).tolist() == [1.0, 0.5, 0.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1\n0\n", "expected 3 lines, one a vertex, found 2"),
        ("1\n0\n0\n0\n", "expected 3 lines, one a vertex, found 4"),
        ("1\n\n0\n", "line 2 is '', expected one number"),
        ("1\n0 0\n0\n", "line 2 is '0 0', expected one number"),
        ("1\nnan\n0\n", r"line 2 is nan, expected a weight in \[0, 1\]"),
        ("1\n-0.1\n0\n", r"line 2 is -0\.1"),
    ],
)
def test_files_of_another_mesh_or_content_are_refused(tmp_path, text, message):
    path = tmp_path / "mask.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_mask(path, 3)
    with pytest.raises(FileNotFoundError, match="one weight a line"):
        read_mask(tmp_path / "none.txt", 3)
    with pytest.raises(ValueError, match="expected weights in"):
        write_mask(path, torch.tensor([1.1]))


def test_regions_are_made_of_vertex_numbers():
    assert region_of([0, 2], 3).tolist() == [True, False, True]
    for wrong in ([], [3], [-1], [0.5], [[0]]):
        with pytest.raises(ValueError, match=r"lips: expected a list of vertex numbers in 0\.\.2"):
            region_of(wrong, 3, name="lips")
