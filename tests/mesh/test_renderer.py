"""Whole pictures: frames and signs, gradients, silhouettes, symmetry, faults."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_meshes import bumpy_mask, disc, facing_camera, unchecked

from paper_utils.mesh.cameras import Pinhole, ScaledOrthographic, rotation_matrix
from paper_utils.mesh.rasterize import visible_faces
from paper_utils.mesh.renderer import composite, render, visible_surface
from paper_utils.mesh.shading import directional_light
from paper_utils.mesh.silhouettes import Silhouettes, with_outline_gradient
from paper_utils.mesh.topology import Topology


def pinhole(batch: int, *, focal: float, centre: float, distance: float, dtype=torch.float32, **options) -> Pinhole:
    return Pinhole(
        torch.zeros(batch, 3, dtype=dtype),
        torch.zeros(batch, 3, dtype=dtype),
        torch.full((batch,), focal, dtype=dtype),
        torch.full((batch, 2), centre, dtype=dtype),
        torch.full((batch,), distance, dtype=dtype),
        **options,
    )


def lamp(direction: list[float], batch: int = 1, dtype=torch.float32) -> torch.Tensor:
    return directional_light(
        torch.tensor([direction], dtype=dtype).expand(batch, -1),
        torch.full((batch,), 2.0, dtype=dtype),
        torch.full((batch,), 0.4, dtype=dtype),
    )


# --------------------------------------------------------------------------------------------------- frames and signs


@given(st.floats(-3.1, 3.1), st.floats(-1.5, 1.5), st.floats(-3.1, 3.1))
@settings(max_examples=30, deadline=None)
def test_rotation_is_the_product_of_three_right_handed_turns(pitch, yaw, roll):
    def turn(axis, angle):
        generator = torch.zeros(3, 3, dtype=torch.float64)
        generator[axis - 2, axis - 1], generator[axis - 1, axis - 2] = -angle, angle
        return torch.linalg.matrix_exp(generator)

    found = rotation_matrix(*(torch.tensor([angle], dtype=torch.float64) for angle in (pitch, yaw, roll)))[0]
    torch.testing.assert_close(found, turn(2, roll) @ turn(1, yaw) @ turn(0, pitch))
    torch.testing.assert_close(found @ found.t(), torch.eye(3).double())


@pytest.mark.parametrize("kind", ["orthographic", "pinhole"])
def test_the_subjects_left_is_on_the_right_and_up_is_up(kind):
    camera = (
        facing_camera(1, scale=0.5, centre=32)
        if kind == "orthographic"
        else pinhole(1, focal=160, centre=32, distance=320)
    )
    origin, left, up, front = camera.project(torch.tensor([[[0.0, 0, 0], [10, 0, 0], [0, 10, 0], [0, 0, 10]]]))[0]
    torch.testing.assert_close(origin[:2], torch.tensor([32.0, 32.0]))
    torch.testing.assert_close(left[:2], torch.tensor([37.0, 32.0]))
    torch.testing.assert_close(up[:2], torch.tensor([32.0, 27.0]))
    assert front[2] < origin[2]


@pytest.mark.parametrize(
    ("angle", "moved"),
    [([0.3, 0, 0], [0, 1]), ([0, 0.3, 0], [1, 0]), ([0, 0, 0.3], [0, 0])],
    ids=["positive pitch looks down", "positive yaw looks to the subject's left", "roll keeps the nose"],
)
def test_signs_of_head_turns(angle, moved):
    camera = ScaledOrthographic(torch.tensor([angle]), torch.ones(1), torch.zeros(1, 2))
    nose, left_ear = camera.project(torch.tensor([[[0.0, 0, 100], [80, 0, 0]]]))[0]
    assert torch.sign(nose[:2].round()).tolist() == moved
    if moved == [0, 0]:
        assert left_ear[1] < -1  # the subject's left side rises


def test_a_lamp_on_the_subjects_left_lights_the_right_of_the_picture():
    vertices, faces, _ = bumpy_mask(20)
    for direction, brighter in (
        ([1.0, 0, 0.3], (slice(None), slice(32, None))),
        ([0.0, 1, 0.3], (slice(0, 32), slice(None))),
    ):
        drawn = render(
            vertices[None], faces, facing_camera(1, scale=0.28, centre=32), (64, 64),
            light=lamp(direction), colours=torch.ones(1, len(vertices), 1),
        )  # fmt: skip
        bright, total = drawn.images[0, 0][brighter].sum(), drawn.images.sum()
        assert bright > 0.6 * total


def test_normals_of_the_picture_face_the_camera_and_have_unit_length():
    vertices, faces, _ = bumpy_mask(30, bumps=0.0)
    drawn = render(
        vertices[None], faces, facing_camera(1, scale=0.3, centre=32, yaw=[0.4]), (64, 64),
        colours=torch.ones(1, len(vertices), 1),
    )  # fmt: skip
    length = torch.linalg.vector_norm(drawn.normals, dim=1, keepdim=True)
    torch.testing.assert_close(length, drawn.mask)
    assert (drawn.normals[:, 2] >= -0.2).all()
    assert drawn.normals[0, 2].sum() / drawn.mask.sum() > 0.5


def test_pinhole_approaches_the_parallel_camera_from_far_away():
    vertices, faces, _ = bumpy_mask(12, dtype=torch.float64)
    colours = (vertices / 200 + 0.5)[None]
    options = {"dtype": torch.float64}
    near = render(vertices[None], faces, facing_camera(1, scale=0.3, centre=32.1, **options), (64, 64), colours=colours)
    camera = pinhole(1, focal=0.3 * 1e7, centre=32.1, distance=1e7, **options)
    far = render(vertices[None], faces, camera, (64, 64), colours=colours)
    assert (near.mask != far.mask).sum() <= 2
    both = near.mask * far.mask
    assert ((near.images - far.images) * both).abs().max() < 1e-3


# -------------------------------------------------------------------------------------------------------- symmetry


def test_a_symmetric_mesh_seen_from_the_front_gives_a_mirror_image():
    vertices, faces, uv = bumpy_mask(34)
    texture = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    drawn = [
        render(
            vertices[None], faces, facing_camera(1, scale=0.29, centre=32), (64, 64),
            light=lamp([0.0, 0.4, 1]), texture=chosen, uv=uv, background=0.3,
        ).images
        for chosen in (texture, texture.flip(3))
    ]  # fmt: skip
    torch.testing.assert_close(drawn[0], drawn[1].flip(3), atol=2e-4, rtol=1e-3)
    assert (drawn[0] - drawn[0].flip(3)).abs().max() > 0.1  # the texture itself is not symmetric


@pytest.mark.parametrize("angle", [0.2, 0.7])
def test_turning_left_mirrors_turning_right(angle):
    vertices, faces, _ = bumpy_mask(24)
    camera = facing_camera(2, scale=0.29, centre=32, yaw=[angle, -angle])
    drawn = render(
        vertices.expand(2, -1, -1), faces, camera, (64, 64), light=lamp([0.0, 0.3, 1], 2),
        colours=torch.ones(2, len(vertices), 1),
    )  # fmt: skip
    same = (drawn.images[0] - drawn.images[1].flip(2)).abs() < 1e-3
    assert same.double().mean() > 0.998  # centres within rounding of a silhouette may fall to either side
    assert (drawn.images[0] - drawn.images[1]).abs().max() > 0.1


# ------------------------------------------------------------------------------------------------------- gradients


def tiny_scene(kind: str):
    vertices, faces, uv = bumpy_mask(4, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    batch = (
        torch.stack((vertices, vertices * 0.9)) + 0.3 * torch.randn(2, len(vertices), 3, generator=generator).double()
    )
    rotation = torch.tensor([[0.1, 0.2, -0.1], [-0.2, -0.5, 0.3]]).double()
    if kind == "pinhole":
        parameters = (
            rotation,
            torch.tensor([[2.0, -3.0, 5.0], [0.0, 1.0, -4.0]]).double(),
            torch.tensor([20.0, 22.0]).double(),
            torch.tensor([[5.2, 4.9], [5.0, 5.1]]).double(),
            torch.tensor([500.0, 460.0]).double(),
        )
    else:
        parameters = (rotation, torch.tensor([0.04, 0.05]).double(), torch.tensor([[5.2, 4.9], [5.0, 5.1]]).double())
    colours = torch.rand(2, len(vertices), 2, generator=generator).double()
    return batch, faces, uv, parameters, colours, lamp([0.3, 0.5, 1.0], 2, torch.float64)


def fix_visibility(monkeypatch, drawn) -> None:
    """Finite differences must not see triangles appear: the ids of the first drawing are kept."""
    monkeypatch.setattr("paper_utils.mesh.renderer.visible_faces", lambda *_, **__: drawn.face_ids)


@pytest.mark.parametrize("kind", ["orthographic", "pinhole"])
def test_gradient_of_the_whole_picture_is_that_of_finite_differences(kind, monkeypatch):
    vertices, faces, _, parameters, colours, light = tiny_scene(kind)
    build = Pinhole if kind == "pinhole" else ScaledOrthographic

    def picture(vertices, colours, light, *parameters):
        return render(
            vertices, faces, build(*parameters), (10, 10), light=light, colours=colours, background=0.2
        ).images

    drawn = render(vertices, faces, build(*parameters), (10, 10), light=light, colours=colours)
    assert drawn.mask.sum() > 40
    assert (drawn.shading[drawn.mask > 0] > 0.01).all()  # the clamp at zero has no gradient to compare
    fix_visibility(monkeypatch, drawn)
    inputs = [tensor.requires_grad_() for tensor in (vertices, colours, light, *parameters)]
    assert torch.autograd.gradcheck(picture, inputs, fast_mode=True)
    assert torch.autograd.gradcheck(
        lambda *p: picture(vertices.detach(), colours.detach(), light.detach(), *p), inputs[3:]
    )


def test_gradient_of_texture_and_coloured_light_is_that_of_finite_differences():
    vertices, faces, uv, parameters, _, light = tiny_scene("orthographic")
    texture = torch.rand(2, 3, 5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    colour_light = light[:, :, None] * torch.tensor([1.0, 0.9, 0.7]).double()
    camera = ScaledOrthographic(*parameters)

    def picture(texture, light, background):
        return render(
            vertices, faces, camera, (10, 10), light=light, texture=texture, uv=uv, background=background
        ).images

    background = torch.rand(2, 3, 10, 10, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    inputs = [tensor.requires_grad_() for tensor in (texture, colour_light, background)]
    assert torch.autograd.gradcheck(picture, inputs, fast_mode=True)


@pytest.mark.parametrize("silhouettes", [None, Silhouettes()])
@pytest.mark.parametrize("kind", ["orthographic", "pinhole"])
def test_degenerate_triangles_edges_and_points_behind_the_camera_never_give_nan(kind, silhouettes):
    vertices, faces, _ = bumpy_mask(10)
    vertices = vertices.clone()
    vertices[:30] = vertices[0]  # a whole patch collapses to a point, others to lines
    vertices[60, 2] = vertices[61, 2] = 400.0  # at and behind the pinhole at 400 mm
    vertices[62, 2] = 900.0
    batch = vertices[None].requires_grad_()
    colours = torch.ones(1, len(vertices), 3, requires_grad=True)
    if kind == "pinhole":
        camera = pinhole(1, focal=60, centre=16, distance=400)
        leaves = (camera.rotation, camera.offset_mm, camera.focal, camera.centre, camera.distance_mm)
    else:
        camera = facing_camera(1, scale=0.15, centre=16)
        leaves = (camera.rotation, camera.scale, camera.translation)
    light = lamp([0.0, 0.5, 1]).requires_grad_()
    for leaf in leaves:
        leaf.requires_grad_()
    drawn = render(batch, faces, camera, (32, 32), light=light, colours=colours, silhouettes=silhouettes)
    assert torch.isfinite(drawn.images).all()
    assert drawn.mask.sum() > 50
    (drawn.images.square().sum() + drawn.mask.sum() + drawn.normals.sum()).backward()
    for leaf in (batch, colours, light, *leaves):
        assert torch.isfinite(leaf.grad).all()
    if kind == "pinhole":
        touching = torch.isin(faces, torch.tensor([60, 61, 62])).any(1).nonzero()[:, 0]
        assert not torch.isin(drawn.face_ids, touching).any()
        batch.grad = (
            None  # with light, normals at the rim of the hole depend on where the lost vertices are; places do not
        )
        render(batch, faces, camera, (32, 32), colours=colours.detach() * batch.detach()).images.sum().backward()
        assert batch.grad.abs().max() > 0
        assert (batch.grad[0, 60:63] == 0).all()


def test_a_mesh_wholly_behind_the_camera_is_background():
    vertices, faces, _ = bumpy_mask(6)
    drawn = render(
        vertices[None] + torch.tensor([0, 0, 900.0]), faces, pinhole(1, focal=60, centre=16, distance=400), (16, 16),
        colours=torch.ones(1, len(vertices), 1), background=0.25, cull=False,
    )  # fmt: skip
    assert (drawn.images == 0.25).all()
    assert (drawn.face_ids == -1).all()


# ------------------------------------------------------------------------------------------------------ silhouettes


def test_outline_term_is_zero_in_value_and_slope_one_on_a_disc():
    points, faces = disc(9.3, (16.2, 15.9))
    topology = Topology.of(faces, len(points))
    leaf = points[None].requires_grad_()
    ids = visible_faces(leaf, topology, (32, 32), cull=True)
    mask = (ids >= 0)[:, None].double()
    found = with_outline_gradient(mask, leaf, topology, ids, Silhouettes(), cull=True)
    torch.testing.assert_close(found, mask)
    found.sum().backward()
    middle = torch.tensor([16.2, 15.9], dtype=torch.float64)
    by_radius = (leaf.grad[0, :, :2] * (points[:, :2].detach() - middle)).sum() / 9.3
    assert float(by_radius) == pytest.approx(2 * math.pi * 9.3, rel=0.05)  # d(pi r^2) / dr
    torch.testing.assert_close(leaf.grad[0, :, :2].sum(0), torch.zeros(2).double(), atol=0.5, rtol=0)


def supersampled(points: torch.Tensor, faces: torch.Tensor, size: int, factor: int = 16) -> torch.Tensor:
    large = points * points.new_tensor([factor, factor, 1.0])
    covered = visible_faces(large, faces, (size * factor, size * factor), cull=True) >= 0
    return torch.nn.functional.avg_pool2d(covered[:, None].double(), factor)[0, 0]


@pytest.mark.parametrize("direction", [0, 1], ids=["along columns", "along rows"])
def test_outline_term_follows_finite_differences_of_fine_coverage_on_a_face(direction):
    vertices, faces, _ = bumpy_mask(34, bumps=0.0)
    points = facing_camera(1, scale=0.29, centre=32, yaw=[0.5]).project(vertices[None])
    step = torch.zeros(3)
    step[direction] = 0.25
    truth = (supersampled(points + step, faces, 64) - supersampled(points - step, faces, 64)) / 0.5
    shift = torch.zeros((), requires_grad=True)
    topology = Topology.of(faces, len(vertices))
    ids = visible_faces(points, topology, (64, 64), cull=True)
    mask = (ids >= 0)[:, None].float()
    weights = torch.ones_like(mask, requires_grad=True)
    moving = points + shift * step / 0.25
    term = with_outline_gradient(mask, moving, topology, ids, Silhouettes(), cull=True)
    (change,) = torch.autograd.grad((term * weights).sum(), shift, create_graph=True)
    (found,) = torch.autograd.grad(change, weights)  # the derivative of each pixel
    found = found[0, 0].double()
    correlation = torch.corrcoef(torch.stack((found.reshape(-1), truth.reshape(-1))))[0, 1]
    slope = (found * truth).sum() / (truth * truth).sum()
    assert correlation > 0.9
    assert 0.9 < slope < 1.1


def test_silhouettes_let_a_mask_loss_move_a_shifted_head_back():
    vertices, faces, _ = bumpy_mask(20)
    colours = torch.ones(1, len(vertices), 1)
    target = render(vertices[None], faces, facing_camera(1, scale=0.28, centre=32), (64, 64), colours=colours).mask
    place = torch.tensor([[35.0, 30.0]], requires_grad=True)
    optimiser = torch.optim.Adam([place], lr=0.3)
    for _ in range(25):
        camera = ScaledOrthographic(torch.zeros(1, 3), torch.full((1,), 0.28), place)
        drawn = render(vertices[None], faces, camera, (64, 64), colours=colours, silhouettes=Silhouettes())
        optimiser.zero_grad()
        (drawn.mask - target).square().sum().backward()
        optimiser.step()
    torch.testing.assert_close(place.detach(), torch.full((1, 2), 32.0), atol=0.3, rtol=0)


def test_without_silhouettes_the_mask_has_no_gradient():
    vertices, faces, _ = bumpy_mask(6)
    vertices.requires_grad_()
    drawn = render(
        vertices[None], faces, facing_camera(1, scale=0.1, centre=8), (16, 16), colours=torch.ones(1, len(vertices), 1)
    )
    assert not drawn.mask.requires_grad


# ---------------------------------------------------------------------------------------------------- composition


def test_back_faces_are_drawn_only_when_not_culled():
    vertices, faces, _ = bumpy_mask(20)
    camera = facing_camera(1, scale=0.28, centre=32, yaw=[math.pi])  # the hollow side
    colours = torch.ones(1, len(vertices), 1)
    hidden = render(vertices[None], faces, camera, (64, 64), colours=colours).mask.sum()
    shown = render(vertices[None], faces, camera, (64, 64), colours=colours, cull=False).mask.sum()
    assert hidden < 0.1 * shown


def test_an_empty_mesh_gives_the_background():
    background = torch.rand(2, 3, 8, 9, generator=torch.Generator().manual_seed(0))
    for vertices in (0, 4):
        drawn = render(
            torch.zeros(2, vertices, 3), torch.zeros(0, 3, dtype=torch.int64), facing_camera(2, scale=1, centre=4),
            (8, 9), light=lamp([0.0, 0, 1], 2), colours=torch.zeros(2, vertices, 3), background=background,
            silhouettes=Silhouettes(),
        )  # fmt: skip
        torch.testing.assert_close(drawn.images, background)


def test_backgrounds_of_three_kinds_fill_what_the_mesh_leaves():
    vertices, faces, _ = bumpy_mask(6)
    colours = torch.full((1, len(vertices), 3), 0.5)
    plain = torch.tensor([0.1, 0.2, 0.3])
    pictures = plain[:, None, None].expand(1, 3, 16, 16)
    drawn = [
        render(
            vertices[None], faces, facing_camera(1, scale=0.06, centre=8), (16, 16), colours=colours, background=kind
        )
        for kind in (plain, pictures, 0.0)
    ]
    torch.testing.assert_close(drawn[0].images, drawn[1].images)
    torch.testing.assert_close(drawn[0].images - drawn[2].images, pictures * (1 - drawn[0].mask))
    torch.testing.assert_close(drawn[2].images, 0.5 * drawn[2].mask.expand(-1, 3, -1, -1))


def test_one_surface_serves_two_reflectances():
    vertices, faces, uv = bumpy_mask(12)
    camera, light = facing_camera(1, scale=0.28, centre=32), lamp([0.3, 0.2, 1])
    topology = Topology.of(faces, len(vertices))
    surface = visible_surface(vertices[None], topology, camera, (64, 64), uv[None])
    drawn = render(vertices[None], faces, camera, (64, 64), light=light, texture=torch.full((1, 3, 4, 4), 0.5), uv=uv)
    torch.testing.assert_close(composite(torch.full((1, 3, 64, 64), 0.5), drawn.shading, surface.mask), drawn.images)
    torch.testing.assert_close(surface.face_ids, drawn.face_ids)


# ----------------------------------------------------------------------------------------------------------- faults


def test_wrong_inputs_are_named():
    vertices, faces, uv = bumpy_mask(4)
    camera, one = facing_camera(1, scale=0.1, centre=4), vertices[None]
    colours = torch.ones(1, 25, 3)
    with pytest.raises(ValueError, match="found none"):
        render(one, faces, camera, (8, 8))
    with pytest.raises(ValueError, match=r"found \['colours', 'uv'\]"):
        render(one, faces, camera, (8, 8), colours=colours, uv=uv)
    with pytest.raises(ValueError, match=r"colours: expected one row for each of 25 vertices.* found \(1, 24, 3\)"):
        unchecked(render)(one, faces, camera, (8, 8), colours=colours[:, 1:])
    with pytest.raises(ValueError, match=r"uv: expected one row .* found \(24, 2\)"):
        unchecked(render)(one, faces, camera, (8, 8), texture=torch.ones(1, 3, 4, 4), uv=uv[1:])
    with pytest.raises(ValueError, match="run from 0 to 24, but the mesh has 20 vertices"):
        render(one[:, :20], faces, camera, (8, 8), colours=colours[:, :20])
    with pytest.raises(ValueError, match="camera: expected 1 poses, one for each mesh, found 2"):
        render(one, faces, facing_camera(2, scale=0.1, centre=4), (8, 8), colours=colours)
    with pytest.raises(ValueError, match="vertices: 1 of 25 vertices have NaN"):
        render(one.index_fill(1, torch.tensor([3]), math.nan), faces, camera, (8, 8), colours=colours)
    with pytest.raises(ValueError, match="background: expected a number, 3 numbers or pictures"):
        unchecked(composite)(torch.ones(1, 3, 8, 8), torch.ones(1, 1, 8, 8), torch.ones(1, 1, 8, 8), torch.zeros(2))
    with pytest.raises(ValueError, match="size: expected"):
        render(one, faces, camera, (8, -1), colours=colours)


def test_impossible_cameras_are_named():
    with pytest.raises(ValueError, match="scale: expected positive numbers, found -1"):
        facing_camera(1, scale=-1.0, centre=4)
    with pytest.raises(ValueError, match="translation: 2 of 2 values are NaN"):
        facing_camera(1, scale=1.0, centre=math.nan)
    with pytest.raises(ValueError, match="distance_mm: expected positive numbers, found 0"):
        pinhole(1, focal=1, centre=1, distance=0)
    with pytest.raises(ValueError, match="near_mm: expected a positive distance, found 0"):
        pinhole(1, focal=1, centre=1, distance=9, near_mm=0.0)
    with pytest.raises(ValueError, match=r"scale: expected shape \(1,\), found \(2,\)"):
        unchecked(ScaledOrthographic.__post_init__)(
            type(
                "Camera", (), {"rotation": torch.zeros(1, 3), "scale": torch.ones(2), "translation": torch.zeros(1, 2)}
            )()
        )
    with pytest.raises(ValueError, match="Silhouettes: expected samples and fineness >= 1"):
        Silhouettes(samples=0)
