"""Normals of known surfaces, spherical harmonics against numerical integrals, and the conventions of other people's light."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_meshes import bumpy_mask, unchecked

from paper_utils.mesh import shading
from paper_utils.mesh.cameras import rotation_matrix


def directions(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(count, 3, generator=generator, dtype=torch.float64), dim=1)


def as_picture(normals: torch.Tensor) -> torch.Tensor:
    """(n, 3) unit vectors as a picture of one row."""
    return normals.t()[None, :, None]


# --------------------------------------------------------------------------------------------------------- normals


def sphere(cells: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    vertices, faces, _ = bumpy_mask(cells, dtype=torch.float64)
    return torch.nn.functional.normalize(vertices, dim=1), faces


def test_normals_of_a_fine_sphere_point_away_from_its_centre():
    vertices, faces = sphere()
    normals = shading.vertex_normals(7 * vertices[None], faces)[0]
    rim = torch.zeros(len(vertices), dtype=torch.bool)
    grid = rim.view(41, 41)
    grid[0], grid[-1], grid[:, 0], grid[:, -1] = True, True, True, True
    assert ((normals * vertices).sum(1)[~rim] > 0.995).all()


def test_normals_are_means_weighted_by_area():
    # Two triangles at the origin, in the planes z = 0 (area 1/2) and x = 0 (area 2).
    vertices = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 2, 0], [0, 0, 2]]])
    normals = shading.vertex_normals(vertices, torch.tensor([[0, 1, 2], [0, 3, 4]]))[0]
    expected = torch.tensor([[4.0, 0, 1], [0, 0, 1], [0, 0, 1], [1, 0, 0], [1, 0, 0]])
    torch.testing.assert_close(normals, torch.nn.functional.normalize(expected, dim=1))


@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(-3, 3), st.floats(0.01, 100), st.integers(0, 999))
@settings(max_examples=25, deadline=None)
def test_normals_turn_with_the_mesh_and_ignore_its_size(pitch, yaw, roll, size, seed):
    vertices, faces, _ = bumpy_mask(6, dtype=torch.float64)
    noise = torch.randn(vertices.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    vertices = (vertices + 3 * noise)[None]
    turn = rotation_matrix(*(torch.tensor([angle], dtype=torch.float64) for angle in (pitch, yaw, roll)))[0]
    turned = shading.vertex_normals(size * vertices @ turn.t() + 5, faces)
    torch.testing.assert_close(turned, shading.vertex_normals(vertices, faces) @ turn.t())


def test_gradient_of_normals_is_that_of_finite_differences():
    vertices, faces, _ = bumpy_mask(3, dtype=torch.float64)
    batch = torch.stack((vertices, vertices.flip(1))).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: shading.vertex_normals(v, faces), batch)


def test_degenerate_triangles_and_lonely_vertices_give_zero_normals_and_finite_gradients():
    vertices = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [0, 1, 0], [9, 9, 9]]], requires_grad=True)
    faces = torch.tensor([[0, 1, 2], [1, 1, 2], [0, 1, 3]])
    normals = shading.vertex_normals(vertices, faces)
    normals.square().sum().backward()
    assert normals[0, 2].tolist() == normals[0, 4].tolist() == [0, 0, 0]
    torch.testing.assert_close(normals[0, 0], torch.tensor([0.0, 0, 1]))
    assert torch.isfinite(vertices.grad).all()


def test_a_vector_without_direction_gets_no_gradient_instead_of_a_huge_one():
    vectors = torch.tensor([[0.0, 0, 0], [1e-12, 0, 0], [0, 3, 4]], requires_grad=True)
    found = shading.unit(vectors, 1)
    (found * torch.tensor([1.0, 2, 3])).sum().backward()
    torch.testing.assert_close(found.detach(), torch.tensor([[0.0, 0, 0], [0, 0, 0], [0, 0.6, 0.8]]))
    assert (vectors.grad[:2] == 0).all()
    torch.testing.assert_close(vectors.grad[2], torch.tensor([0.2, -0.032, 0.024]), atol=1e-6, rtol=1e-6)


def test_a_mesh_without_triangles_has_zero_normals():
    assert (shading.vertex_normals(torch.ones(2, 3, 3), torch.zeros(0, 3, dtype=torch.int64)) == 0).all()


# ---------------------------------------------------------------------------------------------- spherical harmonics


def sphere_grid(rows: int = 400, columns: int = 800) -> tuple[torch.Tensor, torch.Tensor]:
    """Midpoint rule on the sphere: directions and their solid angles."""
    theta = (torch.arange(rows, dtype=torch.float64) + 0.5) * math.pi / rows
    phi = (torch.arange(columns, dtype=torch.float64) + 0.5) * 2 * math.pi / columns
    theta, phi = (part.reshape(-1) for part in torch.meshgrid(theta, phi, indexing="ij"))
    points = torch.stack((theta.sin() * phi.cos(), theta.sin() * phi.sin(), theta.cos()), dim=1)
    return points, theta.sin() * (math.pi / rows) * (2 * math.pi / columns)


def test_basis_is_orthogonal_with_the_constants_of_the_harmonics():
    points, weights = sphere_grid()
    basis = shading.sh_basis(points)
    gram = (basis * weights[:, None]).t() @ basis
    constants = torch.tensor(shading.HARMONIC, dtype=torch.float64)
    torch.testing.assert_close(gram, torch.diag(constants**-2), atol=2e-4, rtol=1e-4)


def test_directional_light_is_the_projection_of_the_clamped_cosine():
    # The nine numbers must be the least-squares fit of e/pi max(0, n.d) over the sphere, found here by integration.
    points, weights = sphere_grid()
    basis = shading.sh_basis(points)
    lamp = torch.tensor([0.6, -0.3, 0.9], dtype=torch.float64)
    cosine = (points @ (lamp / lamp.norm())).clamp_min(0)
    constants = torch.tensor(shading.HARMONIC, dtype=torch.float64)
    fitted = 2.5 / math.pi * constants**2 * ((basis * (weights * cosine)[:, None]).sum(0))
    found = shading.directional_light(lamp[None] * 3, torch.tensor([2.5]).double(), torch.tensor([0.4]).double())[0]
    torch.testing.assert_close(found - torch.eye(9)[0].double() * 0.4, fitted, atol=2e-4, rtol=1e-3)


@given(st.integers(0, 9999), st.floats(0, 3), st.floats(0, 2))
@settings(max_examples=40, deadline=None)
def test_a_lamp_is_brightest_for_the_surface_that_faces_it_and_ambient_lights_all(seed, irradiance, ambient):
    lamp = directions(1, seed)
    light = shading.directional_light(lamp, torch.tensor([irradiance]).double(), torch.tensor([ambient]).double())
    found = shading.shade(as_picture(torch.cat((lamp, directions(50, seed + 1)))), light)[0, 0, 0]
    # 1/4 + 1/2 + 5/16 of e/pi: the second order overshoots the cosine by a sixteenth.
    assert float(found[0]) == pytest.approx(ambient + 17 / 16 * irradiance / math.pi, rel=1e-4, abs=1e-9)
    assert (found[1:] <= found[0] + 1e-9).all()


@given(st.integers(0, 9999))
@settings(max_examples=30, deadline=None)
def test_turning_lamp_and_surface_together_changes_nothing(seed):
    lamp, normals = directions(1, seed), directions(20, seed + 1)
    turn = rotation_matrix(*(angle[None] for angle in directions(1, seed + 2)[0] * 3))[0]
    one, zero = torch.ones(1).double(), torch.zeros(1).double()
    still = shading.shade(as_picture(normals), shading.directional_light(lamp, one, zero))
    turned = shading.shade(as_picture(normals @ turn.t()), shading.directional_light(lamp @ turn.t(), one, zero))
    torch.testing.assert_close(still, turned, atol=1e-5, rtol=1e-4)


def test_shading_by_hand_in_white_and_colour():
    normals = as_picture(torch.tensor([[0.0, 0, 1], [0.6, 0, 0.8], [0, -1, 0]]).double())
    light = torch.arange(1.0, 10).double()[None]
    by_hand = [1 + 4 + 9 * 2, 1 + 2 * 0.6 + 4 * 0.8 + 6 * 0.48 + 8 * 0.36 + 9 * (3 * 0.64 - 1), 0.0]
    torch.testing.assert_close(shading.shade(normals, light)[0, 0, 0], torch.tensor(by_hand).double())
    colour = torch.stack((light, 2 * light, 0 * light), dim=2)
    torch.testing.assert_close(
        shading.shade(normals, colour)[0, :, 0], torch.tensor([by_hand, [2 * v for v in by_hand], [0.0] * 3]).double()
    )


@pytest.mark.parametrize("colour", [False, True])
def test_gradient_of_shading_is_that_of_finite_differences(colour):
    generator = torch.Generator().manual_seed(1)
    normals = torch.randn(2, 3, 2, 3, generator=generator, dtype=torch.float64).requires_grad_()
    light = torch.randn(2, 9, *((3,) if colour else ()), generator=generator, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(shading.shade, (normals, light))


# ------------------------------------------------------------------------------------------------- other conventions


def deca_shading(normals: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """As DECA's released renderer evaluates its light code: constant factors times its own list of products."""
    x, y, z = normals.T
    pi = np.pi
    factor = np.array(
        [1 / np.sqrt(4 * pi)]
        + 3 * [(2 * pi / 3) * np.sqrt(3 / (4 * pi))]
        + 3 * [(pi / 4) * 3 * np.sqrt(5 / (12 * pi))]
        + [(pi / 4) * (3 / 2) * np.sqrt(5 / (12 * pi)), (pi / 4) * (1 / 2) * np.sqrt(5 / (4 * pi))]
    )
    basis = np.stack([1 + 0 * x, x, y, z, x * y, x * z, y * z, x**2 - y**2, 3 * z**2 - 1], 1) * factor
    return basis @ coefficients


def deep3d_shading(normals: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """As Deep3D's released code evaluates its 27 numbers, written in its own order and signs."""
    x, y, z = normals.T
    a = [np.pi, 2 * np.pi / np.sqrt(3), 2 * np.pi / np.sqrt(8)]
    c = [1 / np.sqrt(4 * np.pi), np.sqrt(3) / np.sqrt(4 * np.pi), 3 * np.sqrt(5) / np.sqrt(12 * np.pi)]
    columns = [
        a[0] * c[0] + 0 * x,
        -a[1] * c[1] * y,
        a[1] * c[1] * z,
        -a[1] * c[1] * x,
        a[2] * c[2] * x * y,
        -a[2] * c[2] * y * z,
        0.5 * a[2] * c[2] / np.sqrt(3) * (3 * z**2 - 1),
        -a[2] * c[2] * x * z,
        0.5 * a[2] * c[2] * (x**2 - y**2),
    ]
    gamma = coefficients.reshape(3, 9) + np.array([0.8] + [0.0] * 8)
    return np.stack(columns, 1) @ gamma.T


@pytest.mark.parametrize(
    ("load", "store", "evaluate", "shape"),
    [
        (shading.light_from_deca, shading.light_to_deca, deca_shading, (9, 3)),
        (shading.light_from_deep3d, shading.light_to_deep3d, deep3d_shading, (27,)),
    ],
)
def test_loaded_light_shades_like_its_origin_and_goes_back(load, store, evaluate, shape):
    coefficients = 0.05 * torch.randn(1, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    coefficients[0, 0] += 1.0  # bright enough that nothing is clamped
    if shape == (27,):
        coefficients[0, [9, 18]] += 1.0
    normals = directions(60)
    found = shading.shade(as_picture(normals), load(coefficients))[0, :, 0].t().numpy()
    np.testing.assert_allclose(found, evaluate(normals.numpy(), coefficients[0].numpy()), rtol=2e-5, atol=2e-5)
    torch.testing.assert_close(store(load(coefficients)), coefficients)


def test_zero_deep3d_light_is_even():
    light = shading.light_from_deep3d(torch.zeros(2, 27))
    found = shading.shade(as_picture(directions(9).float()).expand(2, -1, -1, -1), light)
    torch.testing.assert_close(found, torch.full_like(found, 0.8 * 0.88623))


# ----------------------------------------------------------------------------------------------------------- faults


def test_wrong_lights_are_named():
    normals = torch.zeros(2, 3, 4, 4)
    with pytest.raises(ValueError, match=r"expected shape \(2, 9\) or \(2, 9, 3\), found \(2, 27\)"):
        unchecked(shading.shade)(normals, torch.zeros(2, 27))
    with pytest.raises(ValueError, match="1 of 18 coefficients are NaN"):
        shading.shade(normals, torch.tensor([[0.0] * 9, [0.0] * 8 + [math.nan]]))
    one = torch.ones(1)
    with pytest.raises(ValueError, match="direction: expected finite vectors of some length"):
        shading.directional_light(torch.zeros(1, 3), one, one)
    with pytest.raises(ValueError, match=r"irradiance: expected finite numbers of at least 0, found \[-1.0\]"):
        shading.directional_light(torch.ones(1, 3), -one, one)
    with pytest.raises(ValueError, match="ambient: expected finite"):
        shading.directional_light(torch.ones(1, 3), one, one * math.nan)
    with pytest.raises(ValueError, match="1 of 3 vertices have NaN"):
        shading.vertex_normals(torch.tensor([[[0.0, 0, math.nan], [1, 0, 0], [0, 1, 0]]]), torch.tensor([[0, 1, 2]]))
