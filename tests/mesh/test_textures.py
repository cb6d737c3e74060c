"""Textures: reading at texel centres, coverage of the UV map, and unwrapping what was drawn."""

from __future__ import annotations

import math

import pytest
import torch
from small_meshes import bumpy_mask, facing_camera, unchecked

from paper_utils.mesh.cameras import Pinhole
from paper_utils.mesh.renderer import render
from paper_utils.mesh.shading import vertex_normals
from paper_utils.mesh.textures import sample_texture, unwrap, uv_coverage


def smooth_texture(size: int) -> torch.Tensor:
    centre = (torch.arange(size) + 0.5) / size
    v, u = torch.meshgrid(centre, centre, indexing="ij")
    return torch.stack((0.5 + 0.3 * torch.sin(5 * u), 0.5 + 0.3 * torch.cos(4 * v), 0.3 + 0.4 * u * v))[None]


def test_texel_centres_read_their_own_texel_and_flips_are_exact():
    texture = torch.rand(1, 2, 5, 8, generator=torch.Generator().manual_seed(0))
    v, u = torch.meshgrid((torch.arange(5) + 0.5) / 5, (torch.arange(8) + 0.5) / 8, indexing="ij")
    uv = torch.stack((u, v))[None]
    torch.testing.assert_close(sample_texture(texture, uv), texture)
    mirrored = torch.stack((1 - u, v))[None]
    torch.testing.assert_close(sample_texture(texture, mirrored), texture.flip(3))
    outside = sample_texture(texture, torch.tensor([-3.0, 0.1]).view(1, 2, 1, 1))
    torch.testing.assert_close(outside[0, :, 0, 0], texture[0, :, 0, 0])


def test_the_map_covers_the_island_and_points_to_the_right_place():
    _, faces, uv = bumpy_mask(20)
    found = uv_coverage(0.1 + 0.8 * uv, faces, (50, 40))
    centre = torch.stack(
        ((torch.arange(2000) % 40 + 0.5) / 40, (torch.div(torch.arange(2000), 40, rounding_mode="floor") + 0.5) / 50), 1
    )
    island = ((centre > 0.1) & (centre < 0.9)).all(1)
    assert found.mask.view(-1)[island].double().mean() > 0.99
    assert not found.mask.view(-1)[~island].any()
    torch.testing.assert_close(found.spread(0.1 + 0.8 * uv[None])[0], centre[found.texels], atol=1e-5, rtol=0)
    torch.testing.assert_close(found.weights.sum(0), torch.ones(len(found.texels)))
    assert (found.weights >= -1e-5).all()


def test_gradient_of_unwrapping_is_that_of_finite_differences():
    vertices, faces, uv = bumpy_mask(4, dtype=torch.float64)
    camera = facing_camera(1, scale=0.05, centre=6, dtype=torch.float64)
    points = camera.project(vertices[None])
    uv_map = uv_coverage(uv, faces, (6, 6))
    normals = vertex_normals(vertices[None], faces)
    image = torch.rand(1, 2, 12, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def function(image, points):
        return unwrap(image, points, uv_map, normals=normals).images

    assert torch.autograd.gradcheck(function, (image.requires_grad_(), points.detach().requires_grad_()))


@pytest.mark.parametrize("kind", ["orthographic", "pinhole"])
@pytest.mark.parametrize("yaw", [0.0, 0.6])
def test_unwrapping_a_picture_recovers_a_smooth_texture_where_it_is_visible(kind, yaw):
    vertices, faces, uv = bumpy_mask(34)
    texture = smooth_texture(48)
    rotation = torch.tensor([[0.0, yaw, 0.0]])
    camera = facing_camera(1, scale=0.6, centre=64, yaw=[yaw])
    if kind == "pinhole":
        camera = Pinhole(
            rotation, torch.zeros(1, 3), torch.tensor([240.0]), torch.tensor([[64.0, 64.0]]), torch.tensor([420.0])
        )
    drawn = render(vertices[None], faces, camera, (128, 128), texture=texture, uv=uv, background=5.0)
    view = camera.view(vertices[None])
    found = unwrap(
        drawn.images, camera.points(view), uv_coverage(uv, faces, (48, 48)), normals=vertex_normals(view, faces),
        perspective=camera.perspective,
    )  # fmt: skip
    error = ((found.images - texture).abs().amax(1, keepdim=True))[found.visible]
    assert error.median() < 0.005
    assert error.quantile(0.98) < 0.04
    assert error.max() < 0.4
    assert found.visible.double().mean() > (0.5 if yaw == 0 else 0.35)


def test_texels_turned_away_hidden_or_outside_the_frame_are_not_visible():
    vertices, faces, uv = bumpy_mask(34)
    uv_map = uv_coverage(uv, faces, (48, 48))
    u = (torch.arange(48) + 0.5) / 48

    def visible(yaw, centre=64.0, **options):
        camera = facing_camera(1, scale=0.6, centre=centre, yaw=[yaw])
        view = camera.view(vertices[None])
        normals = vertex_normals(view, faces)
        return unwrap(torch.zeros(1, 1, 128, 128), camera.points(view), uv_map, normals=normals, **options).visible[
            0, 0
        ]

    turned = visible(0.9)
    # The head turns to its left (u > 1/2): its left half is lost, its right half is seen.
    assert turned[10:38, u > 0.85].double().mean() < 0.1
    assert turned[10:38, (u > 0.2) & (u < 0.4)].double().mean() > 0.8
    # The nose hides part of the cheek behind it, which faces the camera all the same.
    hidden = visible(0.9, tolerance_mm=1e9) & ~turned
    assert 5 < hidden.sum() < 300
    assert hidden[:, u > 0.5].sum() > 0.8 * hidden.sum()
    # The camera's axis at the corner of the frame: only the quarter of the head below and right of it is inside.
    cut = visible(0.0, centre=0.0)
    assert cut[30:, u > 0.6].double().mean() > 0.4
    assert not cut[:20].any()
    assert not cut[:, u < 0.45].any()


def test_wrong_textures_and_maps_are_named():
    vertices, faces, uv = bumpy_mask(4)
    with pytest.raises(ValueError, match="texture: expected one for each of 2 images, found 1"):
        unchecked(sample_texture)(torch.zeros(1, 3, 4, 4), torch.zeros(2, 2, 4, 4))
    with pytest.raises(ValueError, match="uv: no texel centre of a 4 x 4 texture is covered; u runs from 10 to 11"):
        uv_coverage(uv + 10, faces, (4, 4))
    with pytest.raises(ValueError, match="uv: 1 of 25 vertices have NaN"):
        uv_coverage(uv.index_put((torch.tensor(2), torch.tensor(0)), torch.tensor(math.nan)), faces, (4, 4))
    points = vertices[None]
    with pytest.raises(ValueError, match="images, points, normals: expected one batch"):
        unchecked(unwrap)(torch.zeros(2, 1, 8, 8), points, uv_coverage(uv, faces, (4, 4)), normals=points)
