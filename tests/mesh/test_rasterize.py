"""Visible triangles against a plain per-pixel reference, exact small scenes, and the gradient of interpolation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_meshes import bumpy_mask, disc, loose_triangles, unchecked

from paper_utils.mesh import rasterize
from paper_utils.mesh.interpolate import interpolate
from paper_utils.mesh.rasterize import visible_faces
from paper_utils.mesh.topology import Topology


def brute_force(points: torch.Tensor, faces: torch.Tensor, height: int, width: int, *, cull: bool = False):
    """Every triangle against every pixel in float64: nearest triangle (-1 for none) and how far the next one lies behind it."""
    y, x = torch.meshgrid(
        torch.arange(height, dtype=torch.float64) + 0.5, torch.arange(width, dtype=torch.float64) + 0.5, indexing="ij"
    )
    corner = points.double()[faces][:, :, None, None]  # (triangles, 3, 1, 1, 3)
    dx, dy = corner[..., 0] - x, corner[..., 1] - y
    edge = torch.stack([dx[:, k - 2] * dy[:, k - 1] - dx[:, k - 1] * dy[:, k - 2] for k in range(3)], dim=1)
    area = edge.sum(1)
    inside = ((edge >= 0).all(1) & (area > 0) & (not cull)) | ((edge <= 0).all(1) & (area < 0))
    depth = (edge * corner[..., 2]).sum(1) / torch.where(area == 0, 1.0, area)
    depth = torch.where(inside, depth, math.inf)
    margin = torch.where(area != 0, edge.abs().amin(1) / area.abs().clamp_min(1e-12), math.inf).amin(0)
    ordered, ids = torch.sort(depth, dim=0, stable=True)
    gap = ordered[1] - ordered[0] if len(faces) > 1 else torch.full_like(x, math.inf)
    return torch.where(ordered[0] < math.inf, ids[0], -1), gap, margin


# ------------------------------------------------------------------------------------------------------- reference


@given(st.integers(0, 10_000), st.sampled_from([1.0, 4.0, 12.0]), st.booleans())
@settings(max_examples=40, deadline=None)
def test_ids_are_those_of_every_triangle_against_every_pixel(seed, width, cull):
    points, faces = loose_triangles(25, 20, seed=seed, width=width)
    found = visible_faces(points[None], faces, (18, 23), cull=cull)[0]
    expected, gap, margin = brute_force(points, faces, 18, 23, cull=cull)
    clear = (margin > 1e-5) & ~(gap < 1e-3)  # float32 may judge a hair's breadth otherwise
    assert clear.double().mean() > 0.9
    torch.testing.assert_close(found[clear], expected[clear])


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (2, 2), (3, 5)])
def test_tiny_frames_agree_with_the_reference(size):
    points, faces = loose_triangles(12, 5, seed=3, width=4.0)
    found = visible_faces(points[None], faces, size)[0]
    torch.testing.assert_close(found, brute_force(points, faces, *size)[0])
    assert (found >= 0).any()


def test_small_chunks_change_nothing(monkeypatch):
    points, faces = loose_triangles(60, 30, seed=1, width=8.0)
    points = torch.stack((points, points.flip(0)))
    whole = visible_faces(points, faces, (30, 30))
    monkeypatch.setattr(rasterize, "CPU_CHUNK", 100)
    torch.testing.assert_close(visible_faces(points, faces, (30, 30)), whole)


# ------------------------------------------------------------------------------------------------------ exact cases


def square(left: float, top: float, side: float, depth: float) -> list[list[float]]:
    return [[left, top, depth], [left, top + side, depth], [left + side, top + side, depth], [left + side, top, depth]]


def test_the_nearer_of_two_squares_hides_the_other_and_ties_go_to_the_first():
    points = torch.tensor([square(1, 1, 4, 5.0) + square(3, 3, 4, 2.0) + square(3, 3, 4, 2.0)]).view(1, -1, 3)
    faces = torch.tensor([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7], [8, 9, 10], [8, 10, 11]])
    ids = visible_faces(points, faces, (8, 8))[0]
    quad = torch.div(ids, 2, rounding_mode="floor")
    expected = torch.full((8, 8), -1)
    expected[1:5, 1:5], expected[3:7, 3:7] = 0, 1
    torch.testing.assert_close(quad, expected)


def test_a_crossing_pair_changes_places_where_the_depths_cross():
    # Depth of the first rises from 0 to 8 over the columns, the second stays at 3.2: equal at column 3.2.
    points = torch.tensor([[[0, 0, 0.0], [0, 8, 0], [8, 8, 8], [8, 0, 8], *square(0, 0, 8, 3.2)]])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])
    first = visible_faces(points, faces, (8, 8))[0] < 2
    assert first.all(0).tolist() == [True, True, True] + [False] * 5
    assert first.any(0).tolist() == [True, True, True] + [False] * 5


def test_negative_and_huge_depths_keep_their_order():
    for near, far in ((-5.0, -4.9999995), (-1e-3, 1e-3), (1e6, 1e6 + 0.0625), (-1e9, 0.1)):
        points = torch.tensor([square(0, 0, 4, far) + square(0, 0, 4, near)])
        faces = torch.tensor([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])
        assert (visible_faces(points, faces, (4, 4)) >= 2).all()


def test_one_stray_vertex_far_away_costs_no_precision():
    points = torch.tensor(
        [square(0, 0, 4, 1.0) + square(0, 0, 4, 1.0 - 1e-6) + [[2, 2, -1e15], [90, 2, 1e15], [90, 3, 0]]]
    )
    faces = torch.tensor([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7], [0, 0, 8], [9, 10, 9]])
    ids = visible_faces(points, faces, (4, 4))
    assert ((ids == 2) | (ids == 3)).all()


def test_degenerate_and_off_screen_triangles_draw_nothing():
    points = torch.tensor(
        [
            [
                [1.5, 1.5, 0],
                [3.5, 3.5, 0],
                [5.5, 5.5, 0],
                [-9, 2, 0],
                [-5, 2, 0],
                [-5, 6, 0],
                [2, 99, 0],
                [5, 99, 0],
                [2, 95, 0],
            ]
        ]
    )
    faces = torch.tensor([[0, 1, 2], [0, 0, 0], [0, 2, 2], [3, 4, 5], [6, 7, 8]])
    assert (visible_faces(points, faces, (8, 8)) == -1).all()


def test_a_triangle_over_the_whole_frame_covers_every_pixel():
    points = torch.tensor([[[-1e4, -1e4, 1.0], [-1e4, 3e4, 1.0], [3e4, -1e4, 1.0]]])
    assert (visible_faces(points, torch.tensor([[0, 1, 2]]), (50, 70)) == 0).all()


def test_a_triangle_partly_off_the_frame_is_cut_at_the_border():
    points = torch.tensor([square(-3, -2, 6, 0.0)])
    ids = visible_faces(points, torch.tensor([[0, 1, 2], [0, 2, 3]]), (8, 8))[0]
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[:4, :3] = True
    torch.testing.assert_close(ids >= 0, expected)


def test_centres_on_shared_edges_are_covered_once_and_leave_no_hole():
    # All corners lie on pixel centres, so many centres lie exactly on edges and corners.
    grid = torch.arange(0.5, 9)
    y, x = torch.meshgrid(grid, grid, indexing="ij")
    points = torch.stack((x, y, 0 * x), dim=-1).reshape(1, -1, 3)
    number = torch.arange(81).view(9, 9)
    a, b, c, d = (part.reshape(-1) for part in (number[:-1, :-1], number[:-1, 1:], number[1:, :-1], number[1:, 1:]))
    faces = torch.cat((torch.stack((a, c, b), 1), torch.stack((b, c, d), 1)))
    assert (visible_faces(points, faces, (9, 9), cull=True) >= 0).all()


@given(st.floats(-3.1, 3.1), st.floats(0.3, 3.0), st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_no_pinholes_inside_a_turned_and_jittered_grid(angle, cell, seed):
    cells = int(60 / cell)
    share = torch.arange(cells + 1, dtype=torch.float64) * cell - cells * cell / 2
    y, x = torch.meshgrid(share, share, indexing="ij")
    generator = torch.Generator().manual_seed(seed)
    jitter = 0.3 * cell * (torch.rand(2, *x.shape, generator=generator, dtype=torch.float64) - 0.5)
    x, y = x + jitter[0], y + jitter[1]
    points = torch.stack(
        (x * math.cos(angle) - y * math.sin(angle), x * math.sin(angle) + y * math.cos(angle), 0 * x), -1
    )
    number = torch.arange(len(share) ** 2).view(len(share), -1)
    a, b, c, d = (part.reshape(-1) for part in (number[:-1, :-1], number[:-1, 1:], number[1:, :-1], number[1:, 1:]))
    faces = torch.cat((torch.stack((a, c, b), 1), torch.stack((b, c, d), 1)))
    ids = visible_faces(points.reshape(1, -1, 3) + torch.tensor([16.0, 16.0, 0.0]), faces, (32, 32), cull=True)
    assert (ids >= 0).all()


def test_culling_removes_exactly_the_triangles_that_turn_clockwise():
    points = torch.tensor([square(0, 0, 6, 0.0)])
    counter_clockwise, clockwise = torch.tensor([[0, 1, 2]]), torch.tensor([[0, 2, 1]])
    shown = visible_faces(points, counter_clockwise, (6, 6), cull=True)
    torch.testing.assert_close(shown, visible_faces(points, clockwise, (6, 6)))
    assert (shown == 0).sum() == 21  # 6 on the diagonal, 15 below it
    assert (visible_faces(points, clockwise, (6, 6), cull=True) == -1).all()


def test_perspective_orders_by_inverse_depth_and_drops_what_reaches_behind_the_camera():
    # A floor from depth 1 at the bottom to 9 at the top: at half height its depth is 1.8, not 5.
    floor = [[0.0, 8, 1], [8, 8, 1], [8, 0, 9], [0, 0, 9]]
    points = torch.tensor([floor + square(0, 0, 8, 3.0)])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])
    row = (visible_faces(points, faces, (8, 8), perspective=True)[0] < 2).double().mean(1)
    # Inverse depth falls from 1 to 1/9 over the height; 1/3 is crossed three quarters up.
    assert row.tolist() == [0, 0, 1, 1, 1, 1, 1, 1]
    assert (visible_faces(points, faces, (8, 8))[0] < 2).double().mean(1).tolist() == [0] * 6 + [1, 1]
    points[0, 0, 2] = 0.0
    drawn = visible_faces(points, faces, (8, 8), perspective=True)
    assert (drawn >= 2).all()


@pytest.mark.parametrize("batch", [0, 1, 64])
def test_images_of_a_batch_do_not_depend_on_each_other(batch):
    vertices, faces, _ = bumpy_mask(8)
    shift = torch.arange(float(batch))[:, None, None] * torch.tensor([0.13, 0.07, 0.0])
    points = vertices * torch.tensor([0.1, -0.1, -1.0]) + torch.tensor([12.0, 12.0, 0.0]) + shift
    ids = visible_faces(points, faces, (24, 24), cull=True)
    assert ids.shape == (batch, 24, 24)
    alone = [visible_faces(points[i : i + 1], faces, (24, 24), cull=True)[0] for i in range(batch)]
    torch.testing.assert_close(ids, torch.stack(alone) if alone else ids)


def test_an_empty_mesh_gives_background():
    for faces, vertices in ((torch.zeros(0, 3, dtype=torch.int64), 5), (torch.zeros(0, 3, dtype=torch.int64), 0)):
        assert (visible_faces(torch.zeros(2, vertices, 3), faces, (4, 6)) == -1).all()


def test_renumbering_triangles_renumbers_the_ids():
    points, faces = loose_triangles(40, 24, seed=9, width=5.0)
    order = torch.randperm(len(faces), generator=torch.Generator().manual_seed(0))
    before = visible_faces(points[None], faces, (24, 24))
    after = visible_faces(points[None], faces[order], (24, 24))
    torch.testing.assert_close(torch.where(after < 0, -1, order[after]), before)


@pytest.mark.parametrize("radius", [20.0, 29.3])
def test_covered_area_of_a_disc_is_right_within_a_percent(radius):
    points, faces = disc(radius, (32.2, 31.7))
    covered = (visible_faces(points[None], faces, (64, 64), cull=True) >= 0).sum()
    assert float(covered) == pytest.approx(math.pi * radius**2, rel=0.01)


# ---------------------------------------------------------------------------------------------------- interpolation


def scene(seed: int, *, perspective: bool = False):
    points, faces = loose_triangles(6, 8, seed=seed, width=4.0, reach=0.6)
    if perspective:
        points[:, 2] = points[:, 2].abs() + 5
    ids = visible_faces(points[None], faces, (8, 8), perspective=perspective)
    values = torch.randn(1, len(points), 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return points[None], faces, ids, values


@pytest.mark.parametrize("perspective", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
def test_gradient_of_interpolation_is_that_of_finite_differences(seed, perspective):
    points, faces, ids, values = scene(seed, perspective=perspective)
    assert (ids >= 0).sum() > 20

    def function(points, values):
        return interpolate(points, values, faces, ids, perspective=perspective)

    assert torch.autograd.gradcheck(function, (points.requires_grad_(), values.requires_grad_()))


def test_linear_functions_of_the_place_are_reproduced_exactly():
    points, faces, ids, _ = scene(2)
    values = points[..., :2] @ torch.tensor([[1.0, 2.0, 0.0], [0.5, -1.0, 3.0]], dtype=torch.float64) + 7
    found = interpolate(points, values, faces, ids)[0]
    column, row = torch.arange(8.0).double() + 0.5, (torch.arange(8.0).double() + 0.5)[:, None]
    expected = torch.stack((column + 0.5 * row + 7, 2 * column - row + 7, 0 * column + 3 * row + 7))
    torch.testing.assert_close(found, expected * (ids >= 0))


def test_perspective_values_are_linear_in_space():
    # A plane through space: the third world coordinate is a linear value, and must come out as the depth seen at the pixel.
    generator = torch.Generator().manual_seed(4)
    world = torch.randn(3, 3, generator=generator, dtype=torch.float64) * 4
    world[:, 2] = world[:, 2].abs() + 6
    focal = 20.0
    points = torch.stack(
        (8 + focal * world[:, 0] / world[:, 2], 8 + focal * world[:, 1] / world[:, 2], world[:, 2]), 1
    )[None]
    faces = torch.tensor([[0, 1, 2]])
    ids = visible_faces(points, faces, (16, 16), perspective=True)
    depth = interpolate(points, world[None, :, 2:], faces, ids, perspective=True)[0, 0]
    normal = np.linalg.solve(world.numpy(), np.ones(3))  # plane n . X = 1
    row, column = (ids[0] >= 0).nonzero().unbind(1)
    ray = torch.stack(((column + 0.5 - 8) / focal, (row + 0.5 - 8) / focal, torch.ones(len(row)).double()), 1)
    assert len(row) > 10
    torch.testing.assert_close(depth[row, column], 1 / (ray @ torch.from_numpy(normal)))


def test_slivers_seen_from_their_edge_give_finite_values_and_gradients():
    points = torch.tensor([[[0.5, 0.5, 0.0], [4.5, 4.5, 0], [2.5, 2.5, 0], [0.5, 4.5, 0]]], requires_grad=True)
    faces = torch.tensor([[0, 1, 2], [0, 3, 1]])
    ids = torch.zeros(1, 5, 5, dtype=torch.int64)  # claims that the sliver is seen everywhere
    values = torch.ones(1, 4, 2, requires_grad=True)
    found = interpolate(points, values, faces, ids)
    found.sum().backward()
    assert torch.isfinite(found).all()
    assert torch.isfinite(points.grad).all()
    assert torch.isfinite(values.grad).all()


# --------------------------------------------------------------------------------------------------------- topology


def test_sums_around_vertices_are_transposes_of_gathering():
    _, faces, _ = bumpy_mask(5)
    topology = Topology.of(faces, 36)
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(36, 4, generator=generator, dtype=torch.float64)
    corners = torch.randn(3, len(faces), 4, generator=generator, dtype=torch.float64)
    torch.testing.assert_close((topology.gather(rows) * corners).sum(), (rows * topology.sum_corners(corners)).sum())
    torch.testing.assert_close(topology.sum_faces(corners[0]), topology.sum_corners(corners[:1].expand(3, -1, -1)))


def test_edges_of_a_square_of_two_triangles():
    edges = Topology.of(torch.tensor([[0, 1, 2], [0, 2, 3]]), 4).edges
    found = {(frozenset(edge[:2]), frozenset(edge[2:])) for edge in edges.tolist()}
    assert found == {
        (frozenset({0, 1}), frozenset({2, -1})),
        (frozenset({1, 2}), frozenset({0, -1})),
        (frozenset({0, 2}), frozenset({1, 3})),
        (frozenset({2, 3}), frozenset({0, -1})),
        (frozenset({0, 3}), frozenset({2, -1})),
    }


def test_a_closed_mesh_has_no_border_and_half_as_many_edges_again_as_triangles():
    tetrahedron = torch.tensor([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]])
    edges = Topology.of(tetrahedron, 4).edges
    assert len(edges) == 6
    assert (edges >= 0).all()


# ----------------------------------------------------------------------------------------------------------- faults


def test_wrong_meshes_and_sizes_are_named():
    points, faces = torch.zeros(2, 5, 3), torch.tensor([[0, 1, 5]])
    with pytest.raises(ValueError, match="run from 0 to 5, but the mesh has 5 vertices"):
        visible_faces(points, faces, (4, 4))
    with pytest.raises(ValueError, match="run from -1 to 1"):
        visible_faces(points, torch.tensor([[0, 1, -1]]), (4, 4))
    with pytest.raises(ValueError, match="built for 9 vertices, the mesh has 5"):
        visible_faces(points, Topology.of(faces, 9), (4, 4))
    with pytest.raises(ValueError, match=r"size: .* found \(0, 4\)"):
        visible_faces(points, faces[:0], (0, 4))
    with pytest.raises(ValueError, match="batch and vertices \\(2, 5\\), found \\(2, 4, 1\\)"):
        unchecked(interpolate)(points, torch.zeros(2, 4, 1), faces[:0], torch.full((2, 4, 4), -1))
    with pytest.raises(ValueError, match=r"points: expected shape \(batch, vertices, 3\), found \(5, 3\)"):
        unchecked(visible_faces)(points[0], faces, (4, 4))
    with pytest.raises(ValueError, match=r"faces: expected shape \(triangles, 3\), found \(1, 4\)"):
        unchecked(Topology.of)(Topology, torch.zeros(1, 4, dtype=torch.int64), 5)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_coordinates_that_are_not_finite_are_counted_and_located(bad):
    points = torch.zeros(3, 4, 3)
    points[1, 2, 0] = points[2, 3, 1] = bad
    with pytest.raises(
        ValueError, match="points: 2 of 12 vertices have NaN or infinite coordinates, first in batch item 1"
    ):
        visible_faces(points, torch.tensor([[0, 1, 2]]), (4, 4))
