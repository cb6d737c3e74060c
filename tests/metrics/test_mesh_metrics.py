"""Shape errors on known correspondence, nearest points against brute force, and the scan protocols on shapes whose answer is known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from paper_utils.mesh.cameras import rotation_matrix
from paper_utils.mesh.morphable import Similarity
from paper_utils.metrics import mesh, scan_protocols


def rotation(*angles: float) -> np.ndarray:
    return rotation_matrix(*(torch.tensor([angle], dtype=torch.float64) for angle in angles))[0].numpy()


def similarity(scale: float, turn: np.ndarray, shift: np.ndarray) -> Similarity:
    return Similarity(
        torch.tensor([scale], dtype=torch.float64), torch.from_numpy(turn)[None], torch.from_numpy(shift)[None]
    )


def plane(half: float = 60.0, cells: int = 12) -> mesh.Surface:
    """A square in z = 0, its normals along +z."""
    axis = np.linspace(-half, half, cells + 1)
    x, y = np.meshgrid(axis, axis)
    number = np.arange((cells + 1) ** 2).reshape(cells + 1, cells + 1)
    a, b, c, d = (part.reshape(-1) for part in (number[:-1, :-1], number[:-1, 1:], number[1:, 1:], number[1:, :-1]))
    faces = np.concatenate((np.stack((a, b, c), 1), np.stack((a, c, d), 1)))
    return mesh.Surface(np.stack((x.reshape(-1), y.reshape(-1), np.zeros(x.size)), 1), faces)


def bumpy(seed: int = 0, half: float = 80.0, cells: int = 40) -> mesh.Surface:
    """A relief like a face: a broad dome, a nose, and some waves, without symmetry."""
    flat = plane(half, cells)
    x, y = flat.vertices[:, 0], flat.vertices[:, 1]
    rng = np.random.default_rng(seed)
    z = 40 * np.exp(-(x**2 + 0.6 * y**2) / 60**2) + 22 * np.exp(-((x - 3) ** 2 + (y + 5) ** 2) / 14**2)
    z += sum(rng.normal(0, 2) * np.sin(rng.normal(0, 0.05) * x + rng.normal(0, 0.05) * y + k) for k in range(5))
    return mesh.Surface(np.stack((x, y, z), 1), flat.faces)


def scan_of(surface: mesh.Surface, count: int = 68) -> mesh.FaceScan:
    """Landmarks at fixed vertices; number 30 is the tip of the nose, brows above eyes above mouth."""
    pick = np.linspace(0, len(surface.vertices) - 1, count).astype(int)
    places = {mesh.NOSE_TIP: (3.0, -5.0)}
    places |= {k: (10.0 * (k - 21.5), 45.0) for k in range(17, 27)}
    places |= {k: (6.0 * (k - 41.5), 30.0) for k in range(36, 48)}
    places |= {k: (2.0 * (k - 57.5), -35.0) for k in range(48, 68)}
    for k, place in places.items():
        if k < count:
            pick[k] = np.argmin(np.linalg.norm(surface.vertices[:, :2] - place, axis=1))
    return mesh.FaceScan(surface, surface.vertices[pick], min(mesh.NOSE_TIP, count - 1))


def changed(face: mesh.FaceScan, by: Similarity) -> mesh.FaceScan:
    surface = mesh.Surface(mesh.apply(face.surface.vertices, by), face.surface.faces)
    return mesh.FaceScan(surface, mesh.apply(face.landmarks, by), face.nose_tip)


# ---------------------------------------------------------------------------------------- known correspondence


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10_000), st.floats(0.01, 100), st.tuples(*[st.floats(-3, 3)] * 3), st.tuples(*[st.floats(-300, 300)] * 3)
)  # fmt: skip
def test_a_similar_copy_has_no_shape_error(seed, scale, angles, shift) -> None:
    truth = np.random.default_rng(seed).normal(0, 50, (1, 30, 3))
    copy = scale * truth @ rotation(*angles).T + shift
    error = mesh.vertex_rmse(torch.from_numpy(copy), torch.from_numpy(truth))
    assert_allclose(error, 0, atol=1e-8)


def test_mirror_image_is_an_error_and_not_aligned_away() -> None:
    truth = torch.from_numpy(np.random.default_rng(0).normal(0, 50, (1, 30, 3)))
    assert mesh.vertex_rmse(truth * torch.tensor([-1.0, 1.0, 1.0]), truth)[0] > 10


def test_shape_error_is_the_known_residual() -> None:
    # Two vertices of a symmetric cross moved outward by d on one axis: an affine part that no similarity explains is left.
    corners = torch.tensor([[10.0, 0, 0], [-10, 0, 0], [0, 10, 0], [0, -10, 0], [0, 0, 10], [0, 0, -10]]).double()
    pulled = corners.clone()
    pulled[0, 0], pulled[1, 0] = 13.0, -13.0
    # Scale s = <pulled, truth> / <pulled, pulled> = 660 / 738; the residual follows.
    s = (2 * 130 + 400) / (2 * 169 + 400)
    expected = np.sqrt((2 * (13 * s - 10) ** 2 + 4 * (10 * s - 10) ** 2) / 6)
    assert_allclose(mesh.vertex_rmse(pulled[None], corners[None])[0], expected, rtol=1e-12)
    rigid = mesh.vertex_rmse(pulled[None], corners[None], scale=False)[0]
    assert_allclose(rigid, np.sqrt(2 * 9 / 6), rtol=1e-12)


def test_weights_choose_the_vertices_that_count() -> None:
    truth = torch.from_numpy(np.random.default_rng(1).normal(0, 50, (2, 40, 3)))
    spoilt = truth.clone()
    spoilt[:, 30:] += 100
    weights = (torch.arange(40) < 30).double()
    assert_allclose(mesh.vertex_rmse(spoilt, truth, weights), 0, atol=1e-10)
    assert (mesh.vertex_errors(spoilt, truth, weights)[:, 30:] > 100).all()


def test_shape_error_refuses_another_topology() -> None:
    with pytest.raises(ValueError, match=r"\(1, 5, 3\) and \(1, 6, 3\).*scan_protocols"):
        mesh.vertex_rmse(torch.zeros(1, 5, 3), torch.zeros(1, 6, 3))


# --------------------------------------------------------------------------------------------- nearest points


def nearest_by_regions(p: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Nearest point of one triangle by its seven Voronoi regions (Ericson, Real-Time Collision Detection, 2005, section 5.1.5)."""
    ab, ac, ap = b - a, c - a, p - a
    d1, d2 = ab @ ap, ac @ ap
    if d1 <= 0 and d2 <= 0:
        return a
    d3, d4 = ab @ (p - b), ac @ (p - b)
    if d3 >= 0 and d4 <= d3:
        return b
    if d1 * d4 - d3 * d2 <= 0 and d1 >= 0 and d3 <= 0:
        return a + d1 / (d1 - d3) * ab
    d5, d6 = ab @ (p - c), ac @ (p - c)
    if d6 >= 0 and d5 <= d6:
        return c
    if d5 * d2 - d1 * d6 <= 0 and d2 >= 0 and d6 <= 0:
        return a + d2 / (d2 - d6) * ac
    va = d3 * d6 - d5 * d4
    if va <= 0 and d4 - d3 >= 0 and d5 - d6 >= 0:
        return b + (d4 - d3) / ((d4 - d3) + (d5 - d6)) * (c - b)
    vb, vc = d5 * d2 - d1 * d6, d1 * d4 - d3 * d2
    return a + ab * vb / (va + vb + vc) + ac * vc / (va + vb + vc)


@pytest.mark.parametrize("kind", ["soup", "mixed sizes", "needles"])
def test_nearest_points_are_those_of_brute_force(kind) -> None:
    rng = np.random.default_rng(3)
    if kind == "soup":
        corners = rng.normal(0, 30, (150, 3, 3))
    elif kind == "mixed sizes":
        corners = rng.normal(0, 30, (150, 1, 3)) + rng.normal(0, 1, (150, 3, 3)) * 10.0 ** rng.uniform(
            -2, 2, (150, 1, 1)
        )
    else:
        corners = rng.normal(0, 30, (150, 1, 3)) + rng.normal(0, 40, (150, 1, 3)) * np.linspace(0, 1, 3)[None, :, None]
        corners += rng.normal(0, 0.01, corners.shape)
    surface = mesh.Surface(corners.reshape(-1, 3), np.arange(450).reshape(-1, 3))
    points = np.concatenate(
        (rng.normal(0, 40, (60, 3)), rng.normal(0, 400, (20, 3)), corners[:10, 0], corners[:10].mean(1))
    )
    expected = np.array([min(np.linalg.norm(p - nearest_by_regions(p, *t)) for t in corners) for p in points])
    found = surface.nearest(points)
    assert_allclose(found.distances, expected, atol=1e-9)
    assert_allclose(np.linalg.norm(points - found.points, axis=1), found.distances, atol=1e-9)
    assert_allclose(found.barycentric.sum(1), 1)
    assert found.barycentric.min() >= 0


def test_a_flat_triangle_is_a_segment_and_a_point() -> None:
    vertices = np.array([[0.0, 0, 0], [10, 0, 0], [4, 0, 0], [50, 50, 50]])
    surface = mesh.Surface(vertices, np.array([[0, 1, 2], [3, 3, 3]]))
    assert_allclose(surface.point_to_surface(np.array([[5.0, 3, 4], [-3, 4, 0], [50, 50, 51]])), [5, 5, 1])


def test_distances_to_a_plane_are_the_heights() -> None:
    rng = np.random.default_rng(0)
    points = np.concatenate((rng.uniform(-60, 60, (200, 2)), rng.uniform(-30, 30, (200, 1))), 1)
    surface = plane()
    assert_allclose(surface.point_to_surface(points), np.abs(points[:, 2]), atol=1e-12)
    assert_allclose(surface.point_to_plane(points), np.abs(points[:, 2]), atol=1e-12)


def test_past_the_rim_only_the_plane_distance_stays_the_height() -> None:
    surface = plane(half=60)
    beyond = np.array([[63.0, 0, 4], [0, 0, 4], [63, 64, 0]])
    assert_allclose(surface.point_to_surface(beyond), [5, 4, 5])
    assert_allclose(surface.point_to_plane(beyond), [4, 4, 0], atol=1e-12)
    assert_array_equal(surface.on_rim(surface.nearest(beyond)), [True, False, True])


def test_rim_is_not_taken_for_an_inner_edge() -> None:
    surface = plane(half=60, cells=4)
    inner_corner, inner_edge = np.array([[0.0, 0, 5]]), np.array([[15.0, 0, 5]])
    assert not surface.on_rim(surface.nearest(np.concatenate((inner_corner, inner_edge)))).any()
    # A triangle at the rim, but the nearest point is its corner inside.
    assert surface.on_rim(surface.nearest(np.array([[60.0, 30, 5]]))).all()


def test_distance_to_a_sphere_is_the_difference_of_radii() -> None:
    height, turn = np.mgrid[0 : np.pi : 121j, 0 : 2 * np.pi : 241j]
    height, turn = height[:, :-1], turn[:, :-1]
    vertices = 80 * np.stack((np.sin(height) * np.cos(turn), np.cos(height), np.sin(height) * np.sin(turn)), -1)
    rows, columns = height.shape
    number = np.arange(rows * columns).reshape(rows, columns)
    a, b = number[:-1], number[1:]
    c, d = np.roll(b, -1, 1), np.roll(a, -1, 1)
    faces = np.concatenate([np.stack(corners, -1).reshape(-1, 3) for corners in ((a, c, b), (a, d, c))])
    surface = mesh.Surface(vertices.reshape(-1, 3), faces)
    directions = np.random.default_rng(0).normal(size=(300, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    for radius in (60.0, 80.0, 95.0):
        # A facet lies within R (1 - cos(half its angle)) = 80 * (1 - cos(1.86 degrees / 2)) = 0.02 mm of the sphere.
        assert_allclose(surface.point_to_surface(radius * directions), abs(radius - 80), atol=0.03)
        assert_allclose(surface.point_to_plane(radius * directions), abs(radius - 80), atol=0.03)
    outward = (surface.normals[1000:1100] * surface.vertices[1000:1100]).sum(1)
    assert_allclose(np.abs(outward), 80, rtol=1e-3)


def test_surface_refuses_what_is_no_mesh() -> None:
    good = plane()
    with pytest.raises(ValueError, match="at least one triangle"):
        mesh.Surface(good.vertices, np.zeros((0, 3), dtype=np.int64))
    with pytest.raises(ValueError, match=r"0\.\.168, found 1\.\.169"):
        mesh.Surface(good.vertices, good.faces + 1)
    with pytest.raises(ValueError, match="1 of 2 points are not finite"):
        good.nearest(np.array([[0.0, 0, np.nan], [0, 0, 0]]))


# ------------------------------------------------------------------------------------- iterated closest points


PLANTED = similarity(1.04, rotation(0.05, -0.06, 0.04), np.array([3.0, -2.0, 4.0]))
NOTHING = similarity(1.0, np.eye(3), np.zeros(3))


def inner(face: mesh.FaceScan) -> np.ndarray:
    return face.surface.vertices[np.linalg.norm(face.surface.vertices - face.nose, axis=1) < 60]


@pytest.mark.parametrize("moving", ["points", "surface"])
def test_icp_comes_nearer_in_each_round_and_approaches_the_planted_similarity(moving) -> None:
    face = scan_of(bumpy(cells=20))
    surface = face.surface if moving == "surface" else changed(face, PLANTED).surface
    points = mesh.apply(inner(face), PLANTED) if moving == "surface" else inner(face)
    means, turns = [], []
    for rounds in (0, 1, 10, 100, 400):
        found = mesh.icp(points, surface, NOTHING, moving=moving, change_mm=1e-7, rounds=rounds)
        means.append(found.mean_mm)
        turns.append(float((found.similarity.rotation - PLANTED.rotation).abs().max()))
    assert means == sorted(means, reverse=True)
    assert means[-1] < 0.03 < 1 < means[0]
    assert turns[-1] < 0.3 * turns[0]
    assert float(found.similarity.scale[0]) == pytest.approx(1.04, abs=0.01)


@settings(max_examples=6, deadline=None)
@given(st.floats(0.9, 1.1), st.tuples(*[st.floats(-0.15, 0.15)] * 3), st.tuples(*[st.floats(-5, 5)] * 3))
def test_least_squares_alignment_finds_a_planted_similarity(scale, angles, shift) -> None:
    face = scan_of(bumpy(cells=20))
    planted = similarity(scale, rotation(*angles), np.array(shift))
    found = mesh.least_squares_alignment(mesh.apply(inner(face), planted), face.surface, NOTHING)
    assert found.converged
    assert found.mean_mm < 1e-4
    assert_allclose(found.similarity.scale, scale, atol=1e-5)
    assert_allclose(found.similarity.rotation[0], planted.rotation[0], atol=1e-5)
    assert_allclose(found.similarity.translation[0], planted.translation[0], atol=1e-3)


def test_least_squares_alignment_is_where_icp_goes() -> None:
    face, other = scan_of(bumpy(0, cells=20)), scan_of(bumpy(1, cells=20))
    for scale in (True, False):
        best = mesh.least_squares_alignment(inner(other), face.surface, NOTHING, scale=scale)
        slow = mesh.icp(inner(other), face.surface, NOTHING, moving="surface", scale=scale, change_mm=-1, rounds=300)
        sums = [float(np.square(found.distances_mm).sum()) for found in (best, slow)]
        assert sums[0] <= sums[1] < 1.05 * sums[0]
        # At a minimum no small move helps.
        for k in range(6):
            change = np.eye(6)[k] * 1e-3
            moved = similarity(
                float(best.similarity.scale[0]),
                rotation(*change[:3]) @ best.similarity.rotation[0].numpy(),
                best.similarity.translation[0].numpy() + 10 * change[3:],
            )
            near = float(moved.scale[0]) * face.surface.point_to_surface(mesh.undo(inner(other), moved))
            assert np.square(near).sum() >= sums[0] * (1 - 1e-5)


def test_least_squares_alignment_without_scale_keeps_the_size() -> None:
    face = scan_of(bumpy(cells=20))
    start = similarity(1.3, rotation(0, 0.02, 0), np.zeros(3))
    found = mesh.least_squares_alignment(face.surface.vertices * 1.3, face.surface, start, scale=False)
    assert float(found.similarity.scale[0]) == 1.3
    assert found.mean_mm < 1e-4


def test_icp_without_scale_keeps_the_size_it_was_given() -> None:
    face = scan_of(bumpy(cells=20))
    start = similarity(1.3, rotation(0, 0.02, 0), np.zeros(3))
    points = face.surface.vertices * 1.3
    found = mesh.icp(points, face.surface, start, moving="surface", scale=False, change_mm=1e-6)
    assert float(found.similarity.scale[0]) == 1.3
    assert found.mean_mm < 0.05
    assert_allclose(found.similarity.rotation[0], np.eye(3), atol=5e-3)


def test_icp_stops_when_a_round_no_longer_pays() -> None:
    face = scan_of(bumpy(cells=20))
    there = mesh.icp(face.surface.vertices, face.surface, NOTHING, moving="surface")
    assert (there.rounds, there.converged) == (1, True)
    start = similarity(1.0, rotation(0.2, 0.1, 0), np.array([10.0, 0, 0]))
    rough, fine = (
        mesh.icp(face.surface.vertices, face.surface, start, moving="surface", change_mm=change)
        for change in (0.1, 0.01)
    )
    assert rough.rounds < fine.rounds < mesh.ROUNDS
    # One round more would have paid less than the limit.
    more = mesh.icp(face.surface.vertices, face.surface, start, moving="surface", change_mm=-1, rounds=rough.rounds + 1)
    assert rough.mean_mm - more.mean_mm <= 0.1


def test_icp_says_when_it_has_not_converged() -> None:
    face = scan_of(bumpy())
    start = similarity(1.0, rotation(0.2, 0.1, 0), np.array([10.0, 0, 0]))
    found = mesh.icp(face.surface.vertices, face.surface, start, moving="surface", rounds=2)
    assert (found.rounds, found.converged) == (2, False)


# -------------------------------------------------------------------------------------------------- protocols

FAR = similarity(0.01, rotation(0.7, -0.4, 1.1), np.array([0.3, -0.2, 2.0]))  # another unit, frame and place


def now_face(surface: mesh.Surface) -> mesh.FaceScan:
    """The seven landmarks of NoW: eye corners from the right one's outer to the left one's, bottom of the nose, mouth corners."""
    places = [(-45.0, 30), (-15, 30), (15, 30), (45, 30), (3, -10), (-25, -35), (25, -35)]
    pick = [np.argmin(np.linalg.norm(surface.vertices[:, :2] - place, axis=1)) for place in places]
    return mesh.FaceScan(surface, surface.vertices[pick], 4)


def test_every_protocol_gives_zero_for_the_scan_itself_in_another_frame() -> None:
    scan, seven = scan_of(bumpy()), now_face(bumpy())
    prediction = changed(scan, FAR)
    assert scan_protocols.deep3d_error(prediction, scan).value_mm < 1e-9
    assert scan_protocols.genova_errors([prediction], [scan])[0].value_mm < 1e-9
    assert scan_protocols.ganfit_error(prediction, [scan])[0] < 1e-9
    assert scan_protocols.now_errors(changed(seven, FAR), seven).max() < 1e-9


def chequered(delta: float) -> tuple[mesh.FaceScan, mesh.FaceScan]:
    """A flat face, and a scan of it that goes up and down by delta in turn: at every aligned place all distances are delta."""
    flat = plane(half=55, cells=11)
    up = np.where((np.arange(12)[:, None] + np.arange(12)) % 2, delta, -delta).reshape(-1)
    rough = mesh.Surface(flat.vertices + up[:, None] * (0, 0, 1), flat.faces)
    landmarks = scan_of(flat).landmarks
    return mesh.FaceScan(flat, landmarks), mesh.FaceScan(rough, landmarks)


def test_protocols_give_the_planted_distance() -> None:
    prediction, scan = chequered(2.0)
    away = changed(prediction, FAR)
    deep3d = scan_protocols.deep3d_error(away, scan)
    assert_allclose([deep3d.value_mm, deep3d.plane_rmse, deep3d.surface_rmse], 2.0, rtol=1e-3)
    genova = scan_protocols.genova_errors([away], [scan])[0]
    assert_allclose(genova.value_mm, 2.0, rtol=2e-3)
    # Points that move onto the surface may shrink, and shrinking makes the bumps smaller: this protocol finds less than there is.
    both = scan_protocols.ganfit_error(away, [scan])[1][0]
    assert both.to_prediction.mean_mm < 1.9
    assert float(both.to_prediction.similarity.scale[0]) < 0.95
    now = now_face(prediction.surface).landmarks
    distances = scan_protocols.now_errors(
        mesh.FaceScan(away.surface, mesh.apply(now, FAR), 4), mesh.FaceScan(scan.surface, now, 4)
    )
    assert_allclose(distances, 2.0, rtol=5e-3)


def spoilt(face: mesh.FaceScan, amount: np.ndarray) -> mesh.FaceScan:
    """The same face with a part of its surface pushed out, 30 mm for an amount of one."""
    vertices = face.surface.vertices + 30.0 * amount[:, None] * (0, 0, 1)
    return dataclasses.replace(face, surface=mesh.Surface(vertices, face.surface.faces))


def test_what_lies_outside_a_protocols_region_does_not_count() -> None:
    scan = scan_of(bumpy(half=140, cells=56))
    away = -1.0 * (
        np.linalg.norm(scan.surface.vertices - scan.nose, axis=1) > 95
    )  # pushed back: not nearer to the nose
    assert 100 < -away.sum() < len(away) - 100
    for number in (
        scan_protocols.deep3d_error(scan, spoilt(scan, away)).value_mm,
        scan_protocols.genova_errors([scan], [spoilt(scan, away)])[0].value_mm,
    ):
        assert number < 1e-9
    forehead = 1.0 * (scan.surface.vertices[:, 1] > 62)
    cut = scan_protocols.deep3d_error(scan, spoilt(scan, forehead))
    whole = scan_protocols.deep3d_error(scan, spoilt(scan, forehead), forehead_mm=None)
    assert cut.value_mm < 1e-6 < 1 < whole.value_mm
    assert len(cut.surface_mm) < len(whole.surface_mm)


def test_genova_leaves_out_what_the_reconstruction_does_not_cover() -> None:
    scan = scan_of(bumpy())
    low = scan.surface.faces[(scan.surface.vertices[scan.surface.faces][..., 1] < 50).all(1)]
    part = mesh.FaceScan(mesh.Surface(scan.surface.vertices, low), scan.landmarks)
    error = scan_protocols.genova_errors([part], [scan])[0]
    assert error.value_mm < 1e-9
    inside = np.linalg.norm(scan.surface.vertices - scan.nose, axis=1) <= 95
    assert 0.5 * inside.sum() < len(error.surface_mm) < 0.95 * inside.sum()
    # Deep3D's rule has no overlap: the points that have no partner count.
    assert scan_protocols.deep3d_error(part, scan, forehead_mm=None).value_mm > 0.5
    far = dataclasses.replace(part, landmarks=part.landmarks + 500)
    with pytest.raises(ValueError, match="do not overlap"):
        scan_protocols.genova_errors([far], [scan])


def test_genova_has_one_size_for_all_people_and_deep3d_one_for_each() -> None:
    scan = scan_of(bumpy())
    sizes = (0.9, 1.0, 1.1)
    predictions = [changed(scan, similarity(size, rotation(0.3, 0, 0), np.zeros(3))) for size in sizes]
    expected = sum(sizes) / sum(
        size**2 for size in sizes
    )  # least squares: <R x, y> grows with the size, <x, x> with its square
    assert_allclose(scan_protocols.global_scale(predictions, [scan] * 3), expected, rtol=1e-9)
    errors = scan_protocols.genova_errors(predictions, [scan] * 3)
    assert all(float(error.alignment.similarity.scale[0]) == pytest.approx(expected) for error in errors)
    assert errors[0].value_mm > 0.3
    assert max(scan_protocols.deep3d_error(p, scan).value_mm for p in predictions) < 1e-6


def test_ganfit_takes_the_better_scan_and_the_mean_of_both_ways() -> None:
    prediction = scan_of(bumpy(0, cells=24))
    other = scan_of(bumpy(1, cells=24))
    value, details = scan_protocols.ganfit_error(prediction, [other, prediction])
    assert value == details[1].value_mm < 1e-9
    alone, (both,) = scan_protocols.ganfit_error(prediction, [other])
    assert alone == (both.to_scan.mean_mm + both.to_prediction.mean_mm) / 2 > 0.1
    near = scan_protocols.ganfit_error(prediction, [other], radius_mm=40)[1][0]
    assert len(near.to_scan.distances_mm) < len(both.to_scan.distances_mm)


def test_now_region_is_the_ball_of_the_benchmark() -> None:
    # Eyes 100 mm apart at y = 40, bottom of the nose at the origin: centre 12 mm up, radius 1.4 * (100 + 40) / 2.
    landmarks = np.array(
        [[-50.0, 40, 0], [-20, 40, 0], [20, 40, 0], [50, 40, 0], [0, 0, 0], [-25, -30, 0], [25, -30, 0]]
    )
    centre, radius = scan_protocols.now_region(landmarks)
    assert_allclose(centre, [0, 12, 0], atol=1e-12)
    assert radius == pytest.approx(98)


def test_now_statistics_pool_points_and_not_images() -> None:
    found = scan_protocols.now_statistics([np.array([1.0]), np.array([2.0, 3.0, 6.0])])
    assert (found.median_mm, found.mean_mm, found.points, found.images) == (2.5, 3.0, 4, 2)
    assert found.std_mm == pytest.approx(np.sqrt((4 + 1 + 0 + 9) / 4))
    with pytest.raises(ValueError, match=r"bad ones: \[1\]"):
        scan_protocols.now_statistics([np.array([1.0]), np.array([])])


def test_protocols_refuse_faces_that_do_not_correspond() -> None:
    scan = scan_of(bumpy())
    with pytest.raises(ValueError, match="have 7 and 68"):
        scan_protocols.deep3d_error(now_face(bumpy()), scan)
    with pytest.raises(ValueError, match="7 landmarks of the benchmark, the prediction has 68"):
        scan_protocols.now_errors(scan, now_face(bumpy()))
    with pytest.raises(ValueError, match="no vertex is left"):
        scan_protocols.ganfit_error(scan, [dataclasses.replace(scan, landmarks=scan.landmarks + 1000)])
    with pytest.raises(ValueError, match=r"landmark 0\.\.6, found 30"):
        mesh.FaceScan(scan.surface, scan.landmarks[:7])
