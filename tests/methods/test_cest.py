"""Paper 07: the chain sees what it should and nothing else, losses on cases worked out by hand, training, resume, faults."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paper_utils import training
from paper_utils.mesh.cameras import ScaledOrthographic
from paper_utils.mesh.landmarks import Landmarks
from paper_utils.methods import cest
from paper_utils.world import face

TINY = dataclasses.replace(cest.QUICK, encoder=(8, 8, 8, 8), unet=(8, 8, 8), light=(8, 8, 8, 8), light_size=16)
SHORT = cest.TrainConfig(steps=3, warm_up=2, videos=2, frames=3, lr=1e-2)  # three frames: partners are drawn
SIZE, TEXELS = 64, 16


@pytest.fixture(scope="module")
def space():
    head = face.head(2)
    return cest.FaceSpace(head.morphable(), TEXELS, skin=head.face_part == 0)


@pytest.fixture(scope="module")
def truth(space):
    """Shapes, viewpoints, symmetric reflectance and light of two clips of three frames."""
    generator = torch.Generator().manual_seed(0)
    view = torch.zeros(6, 7)
    view[:, :3] = 0.25 * torch.randn(6, 3, generator=generator)
    alpha = 0.5 * torch.randn(6, space.coefficients, generator=generator)
    maps = torch.rand(2, 3, TEXELS, TEXELS, generator=generator) * 0.5 + 0.3
    maps = ((maps + maps.flip(-1)) / 2).repeat_interleave(3, 0)
    light = torch.cat((torch.full((6, 1), 0.8), 0.2 * torch.randn(6, 3, generator=generator), torch.zeros(6, 5)), 1)
    return cest.Truth(view, alpha, maps, light)


@pytest.fixture(scope="module")
def frames(space, truth):
    """Their pictures, painted by the method itself, before a grey wall."""
    vertices = space.vertices(truth.alpha)
    camera = space.camera(truth.view, SIZE)
    geometry = cest.look(space, torch.zeros(6, 3, SIZE, SIZE), vertices, camera)
    light = cest.paint(geometry, truth.reflectance, truth.light) + (1 - geometry.mask) * 0.5
    landmarks = camera.project(space.model.landmark_points(vertices))[..., :2]
    return cest.Frames((2 * light - 1).clamp(-1, 1), torch.tensor([7, 7, 7, 9, 9, 9]), landmarks)


def estimate_of(space, truth, frames):
    vertices = space.vertices(truth.alpha)
    geometry = cest.look(space, frames.images, vertices, space.camera(truth.view, SIZE))
    return cest.Estimate(truth.view, truth.alpha, vertices, geometry, truth.reflectance, truth.light)


# ------------------------------------------------------------------------------------------------------------- variables


@given(st.lists(st.floats(-0.5, 0.5), min_size=7, max_size=7), st.sampled_from([48, 64, 224]))
def test_viewpoint_and_camera_are_inverse(space, numbers, size):
    view = torch.tensor([numbers])
    back = space.view(space.camera(view, size), size)
    expected = view.clone()
    expected[:, 5] = 0  # a parallel camera does not see depth
    torch.testing.assert_close(back, expected, atol=2e-6, rtol=1e-5)


def test_mean_viewpoint_puts_the_middle_of_the_face_in_the_middle_of_the_picture(space):
    camera = space.camera(torch.zeros(1, 7), 100)
    middle = camera.project(torch.tensor([[[0.0, space.centre_mm, 0.0]]]))[0, 0]
    torch.testing.assert_close(middle[:2], torch.tensor([50.0, 50.0]))
    assert float(camera.scale) * space.view_mm == pytest.approx(100)


def test_shape_is_linear_in_identity_then_expression(space):
    model = space.model
    alpha = torch.zeros(1, space.coefficients)
    alpha[0, 2], alpha[0, model.identity.shape[2] + 1] = 1.5, -0.5
    expected = model.mean + 1.5 * model.identity[..., 2] - 0.5 * model.expression[..., 1]
    torch.testing.assert_close(space.vertices(alpha)[0], expected)


def test_mirror_of_a_symmetric_uv_map_is_the_flip_and_of_another_follows_the_vertices(space):
    maps = torch.rand(2, 3, TEXELS, TEXELS, generator=torch.Generator().manual_seed(0))
    assert space.mirror_grid is None
    assert torch.equal(space.mirrored(maps), maps.flip(-1))
    # The same face laid out in the left two thirds of the map: its mirror line is u = 1/3.
    narrow = dataclasses.replace(space.model, uv=space.model.uv * torch.tensor([2 / 3, 1.0]))
    other = dataclasses.replace(space, model=narrow, uv_size=48)
    ramp = ((torch.arange(48) + 0.5) / 48).expand(1, 1, 48, 48)
    mirrored = other.mirrored(ramp)[0, 0]
    inside = other.uv_map.mask & (ramp[0, 0] > 0.02) & (ramp[0, 0] < 0.64)
    torch.testing.assert_close(mirrored[inside], (2 / 3 - ramp[0, 0])[inside], atol=2e-3, rtol=0)


# -------------------------------------------------------------------------------------------- image formation, unwrapping


def test_unwrapping_a_painted_face_gives_reflectance_times_shading_where_it_is_seen(space, truth):
    smooth = dataclasses.replace(space, uv_size=32)
    u = (torch.arange(32) + 0.5) / 32
    maps = (0.5 + 0.3 * torch.cos(4 * math.pi * u)).expand(6, 3, 32, 32)
    even = torch.zeros(6, 9)
    even[:, 0] = 0.7
    vertices, camera = smooth.vertices(truth.alpha), smooth.camera(truth.view, 128)
    blank = cest.look(smooth, torch.zeros(6, 3, 128, 128), vertices, camera)
    picture = cest.paint(blank, maps, even)
    found = cest.look(smooth, 2 * picture - 1, vertices, camera)
    skin = smooth.uv_map.mask & (found.visible[:, 0] > 0)
    errors = (found.texture - 0.7 * maps).abs()[:, 0][skin]
    assert errors.median() < 0.01
    assert errors.quantile(0.9) < 0.04


def test_hidden_texels_lie_on_the_side_that_is_turned_away(space):
    view = torch.zeros(2, 7)
    view[:, 1] = torch.tensor([0.7, -0.7])  # turned to the subject's left: its left side, u > 1/2, is hidden
    vertices = space.model.mean.expand(2, -1, -1)
    seen = cest.look(space, torch.zeros(2, 3, SIZE, SIZE), vertices, space.camera(view, SIZE)).visible[:, 0]
    left, right = seen[..., : TEXELS // 2].mean((1, 2)), seen[..., TEXELS // 2 :].mean((1, 2))
    assert left[0] > right[0] + 0.2
    assert right[1] > left[1] + 0.2
    torch.testing.assert_close(seen[0], seen[1].flip(-1), atol=0.0, rtol=0.0)


def test_only_skin_counts(space):
    whole = dataclasses.replace(space, skin=None)
    vertices, camera = space.model.mean[None], space.camera(torch.zeros(1, 7), SIZE)
    blank = torch.zeros(1, 3, SIZE, SIZE)
    skin, everything = (cest.look(s, blank, vertices, camera).mask for s in (space, whole))
    eyes = everything - skin
    assert 0 < eyes.sum() < 0.1 * everything.sum()
    assert eyes.min() == 0


def test_alignment_undoes_roll_shift_and_scale_and_leaves_a_mean_view_alone(space):
    smooth = torch.stack(torch.meshgrid(torch.linspace(-1, 1, SIZE), torch.linspace(-1, 1, SIZE), indexing="ij"))
    picture = torch.cat((smooth, smooth.prod(0, keepdim=True)))[None]
    torch.testing.assert_close(cest.aligned(space, picture, torch.zeros(1, 7)), picture, atol=1e-5, rtol=0)
    view = torch.tensor([[0.0, 0.0, 0.4, 0.06, -0.04, 0.0, -0.1]])
    points = torch.tensor([[[20.0, -10.0, 0.0], [-30.0, -50.0, 0.0], [0.0, -24.0, 0.0]]])
    before = space.camera(view, SIZE).project(points)[0, :, :2]
    after = space.camera(torch.zeros(1, 7), SIZE).project(points)[0, :, :2]
    crop = cest.aligned(space, picture, view)

    def read(image, where):
        grid = (2 * where / SIZE - 1)[None, None]
        return torch.nn.functional.grid_sample(image, grid, align_corners=False)[0, :, 0]

    torch.testing.assert_close(read(crop, after), read(picture, before), atol=5e-3, rtol=0)


# ------------------------------------------------------------------------------------------------------------- the chain


def test_untrained_chain_starts_with_the_mean_face_in_even_light(space, frames):
    estimator = cest.Estimator(space, TINY)
    with torch.no_grad():
        found = estimator(frames.images)
    assert found.view.abs().max() == 0
    assert found.alpha.abs().max() == 0
    torch.testing.assert_close(found.light, torch.tensor([[0.9, *[0.0] * 8]]).expand(6, -1))
    texture, seen = found.geometry.texture, (found.geometry.visible > 0).expand(-1, 3, -1, -1)
    copied = seen & (texture > 0.03) & (texture < 0.97)
    torch.testing.assert_close(found.reflectance[copied], texture[copied], atol=1e-5, rtol=0)
    for row, channel in itertools.product(
        range(6), range(3)
    ):  # where nothing is seen: one colour, that of what is seen
        hidden = found.reflectance[row, channel][~seen[row, channel]]
        assert hidden.max() - hidden.min() < 1e-5
        shown = texture[row, channel][seen[row, channel]]
        assert shown.min() < hidden[0] < shown.max()


def test_twin_has_as_many_parameters_and_sees_the_picture_only(space, frames):
    chain, twin = (cest.Estimator(space, dataclasses.replace(TINY, conditional=c), seed=3) for c in (True, False))
    for one, other in zip(chain.parameters(), twin.parameters(), strict=True):
        assert one.shape == other.shape
    generator = torch.Generator().manual_seed(5)
    for estimator in (chain, twin):
        for name in ("view", "shape", "light"):
            torch.nn.init.normal_(estimator.networks[name].fc.weight, std=0.05, generator=generator)
        torch.nn.init.normal_(estimator.networks["reflectance"].out.weight, generator=generator)
    first = cest.look(space, frames.images, space.model.mean.expand(6, -1, -1), space.camera(torch.zeros(6, 7), SIZE))
    turned = torch.zeros(6, 7)
    turned[:, 1] = 0.5
    second = cest.look(space, frames.images, space.model.mean.expand(6, -1, -1), space.camera(turned, SIZE))
    with torch.no_grad():
        for estimator, differs in ((chain, True), (twin, False)):
            one, other = (estimator.appearance(frames.images, g) for g in (first, second))
            for a, b in zip(one, other, strict=True):
                assert torch.equal(a, b) != differs
        # Shape: the twin's does not change with f_v.
        for estimator, differs in ((chain, True), (twin, False)):
            before = estimator.pose_and_shape(frames.images)[1]
            torch.nn.init.constant_(estimator.networks["view"].fc.bias, 0.7)
            assert torch.equal(before, estimator.pose_and_shape(frames.images)[1]) != differs


def test_every_network_gets_a_gradient_from_the_photometric_term(space, frames):
    estimator = cest.Estimator(space, TINY, seed=1)
    found = estimator(frames.images)
    generator = torch.Generator().manual_seed(0)
    cest.photometric_loss(space, frames.images, frames.video, found, cest.Objective(), generator).backward()
    for name, network in estimator.networks.items():
        last = network.out if name == "reflectance" else network.fc
        assert last.weight.grad.abs().max() > 0, name


def test_published_sizes_give_the_papers_numbers():
    with torch.device("meta"):
        view, shape = cest.ResNet(18, cest.VIEW), cest.ResNet(50, 228)
    assert (
        sum(p.numel() for p in view.parameters()) == 11_689_512 - 513_000 + 512 * 7 + 7
    )  # ImageNet's 1,000 classes out
    assert sum(p.numel() for p in shape.parameters()) == 25_557_032 - 2_049_000 + 2048 * 228 + 228
    assert cest.ChainConfig().image_size == 224


def test_full_networks_run(space):
    config = dataclasses.replace(cest.ChainConfig(), resnets=(18, 18), image_size=64, light_size=32, unet=(32, 64, 128))
    estimator = cest.Estimator(space, config).eval()
    with torch.no_grad():
        found = estimator(torch.zeros(2, 3, 64, 64))
    assert found.alpha.shape == (2, space.coefficients)
    assert found.reflectance.shape == (2, 3, TEXELS, TEXELS)


# ------------------------------------------------------------------------------------------------------------- the losses


def test_truth_has_no_photometric_error_however_partners_are_drawn(space, truth, frames):
    exact = estimate_of(space, truth, frames)
    for partner, symmetry, own in itertools.product(cest.PARTNERS, (False, True), (False, True)):
        objective = cest.Objective(partner, symmetry=symmetry, own=own)
        generator = torch.Generator().manual_seed(3)
        loss = cest.photometric_loss(space, frames.images, frames.video, exact, objective, generator)
        assert float(loss) < 1e-6, (partner, symmetry, own)


def test_photometric_error_is_the_mean_over_masked_pixels_and_channels(space, truth, frames):
    geometry = estimate_of(space, truth, frames).geometry
    light = torch.zeros(6, 9)  # nothing is lit: the error is the picture itself
    (found,) = cest.photometric(frames.images, geometry, [truth.reflectance], light)
    for row in range(6):
        pixels = cest.linear(frames.images)[row][:, geometry.mask[row, 0] > 0]
        assert float(found[row]) == pytest.approx(float(pixels.mean()), rel=1e-5)


def test_terms_are_the_ones_of_the_formula(space, truth, frames):
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(6, 3, TEXELS, TEXELS, generator=generator)
    found = dataclasses.replace(estimate_of(space, truth, frames), reflectance=maps)

    def epsilon(reflectance):
        return cest.photometric(frames.images, found.geometry, [reflectance], found.light)[0].mean()

    draw = torch.Generator().manual_seed(11)
    partner = cest.partners(frames.video, torch.Generator().manual_seed(11))[1]
    both = cest.photometric_loss(space, frames.images, frames.video, found, cest.Objective(), draw)
    torch.testing.assert_close(both, epsilon(maps[partner]) + epsilon(maps.flip(-1)))
    alone = cest.photometric_loss(space, frames.images, frames.video, found, cest.Objective("self"), draw)
    torch.testing.assert_close(alone, epsilon(maps) + epsilon(maps.flip(-1)))
    pairs = [(i, j) for i in range(6) for j in range(6) if i // 3 == j // 3]
    expected = torch.stack(
        [
            cest.photometric(
                frames.images[i : i + 1],
                found.geometry.take(torch.tensor([i])),
                [maps[j : j + 1]],
                found.light[i : i + 1],
            )[0][0]
            for i, j in pairs
        ]
    ).mean()
    every = cest.photometric_loss(
        space, frames.images, frames.video, found, cest.Objective("all", symmetry=False), draw
    )
    torch.testing.assert_close(every, expected)


def test_random_partners_average_to_all_pairs_of_different_frames(space, truth, frames):
    maps = torch.rand(6, 3, TEXELS, TEXELS, generator=torch.Generator().manual_seed(0))
    found = dataclasses.replace(estimate_of(space, truth, frames), reflectance=maps)
    objective = cest.Objective(symmetry=False)
    generator = torch.Generator().manual_seed(1)
    drawn = [
        float(cest.photometric_loss(space, frames.images, frames.video, found, objective, generator)) for _ in range(60)
    ]
    every = cest.photometric_loss(space, frames.images, frames.video, found, dataclasses.replace(objective, partner="all"), generator)  # fmt: skip
    own = cest.photometric(frames.images, found.geometry, [maps], found.light)[0].mean()
    expected = (3 * float(every) - float(own)) / 2  # all pairs of three frames hold each frame itself once in three
    assert np.mean(drawn) == pytest.approx(expected, abs=4 * np.std(drawn) / math.sqrt(60))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.integers(0, 1000))
def test_partners_are_other_frames_of_the_same_video(numbers, seed):
    video = torch.tensor(numbers)
    first, second = cest.partners(video, torch.Generator().manual_seed(seed))
    assert first.tolist() == list(range(len(video)))
    assert torch.equal(video[second], video)
    alone = torch.tensor([numbers.count(n) == 1 for n in numbers])
    assert ((second == first) == alone).all()


def test_counted_renders_are_those_that_are_painted(space, truth, frames, monkeypatch):
    found, painted = estimate_of(space, truth, frames), []
    original = cest.photometric

    def counting(images, geometry, reflectances, light):
        painted.append(len(images) * len(reflectances))
        return original(images, geometry, reflectances, light)

    monkeypatch.setattr(cest, "photometric", counting)
    for partner, symmetry, own in itertools.product(("random", "all"), (False, True), (False, True)):
        objective = cest.Objective(partner, symmetry=symmetry, own=own)
        painted.clear()
        cest.photometric_loss(space, frames.images, frames.video, found, objective, torch.Generator().manual_seed(0))
        expected = cest.renders(2, 3, objective)
        # The own reflectance is painted once a frame; with all pairs it stands in every pair of it.
        assert sum(painted) == (expected if partner == "random" or not own else expected + 2 * 3 * (3 - 1))


def test_stop_gradient_cuts_the_partner_only(space, truth, frames):
    for stop, symmetry in itertools.product((False, True), repeat=2):
        maps = torch.rand(6, 3, TEXELS, TEXELS, generator=torch.Generator().manual_seed(0)).requires_grad_()
        found = dataclasses.replace(estimate_of(space, truth, frames), reflectance=maps)
        objective = cest.Objective(symmetry=symmetry, stop_gradient=stop)
        generator = torch.Generator().manual_seed(0)
        loss = cest.photometric_loss(space, frames.images, frames.video, found, objective, generator)
        has_gradient = loss.requires_grad and torch.autograd.grad(loss, maps)[0].abs().max() > 0
        assert bool(has_gradient) == (symmetry or not stop)


def test_baked_shadows_are_free_without_constraints_and_cost_something_with_them(space, truth, frames):
    """Claim C2 without training: the illuminated texture as reflectance in even light."""
    exact = estimate_of(space, truth, frames)
    even = torch.zeros(6, 9)
    even[:, 0] = 1
    baked = dataclasses.replace(exact, reflectance=exact.geometry.texture, light=even)

    def loss(estimate, objective):
        generator = torch.Generator().manual_seed(0)
        return float(cest.photometric_loss(space, frames.images, frames.video, estimate, objective, generator))

    free = loss(baked, cest.Objective("self", symmetry=False))
    consistent = loss(baked, cest.Objective(symmetry=False))
    symmetric = loss(baked, cest.Objective("self")) - free
    assert consistent > 2 * free
    assert symmetric > 2 * free


def test_keypoint_loss_is_the_l1_distance_in_tenths_of_the_side(space, truth, frames):
    vertices = space.vertices(truth.alpha)
    assert float(cest.keypoint_loss(space, vertices, truth.view, frames.landmarks, SIZE)) < 1e-6
    moved = frames.landmarks + torch.tensor([1.0, -2.0])
    found = cest.keypoint_loss(space, vertices, truth.view, moved, SIZE)
    assert float(found) == pytest.approx(3 * 10 / SIZE, rel=1e-4)


def test_regulariser_is_the_mean_squared_length():
    assert float(cest.regulariser(torch.tensor([[3.0, 4.0], [0.0, 1.0]]))) == pytest.approx(13.0)


# -------------------------------------------------------------------------------------------------------------- training


@given(st.integers(0, 2**31), st.integers(0, 50))
def test_a_step_takes_different_frames_of_different_videos(seed, step):
    video = torch.tensor([5, 5, 5, 2, 2, 2, 9, 9, 9, 1])
    config = dataclasses.replace(SHORT, videos=3, frames=2)
    rows = cest.batch_rows(video, config, step, seed=seed)
    assert torch.equal(rows, cest.batch_rows(video, config, step, seed=seed))
    groups = video[rows].view(3, 2)
    assert (groups[:, 0] == groups[:, 1]).all()
    for group, pair in zip(groups[:, 0].tolist(), rows.view(3, 2), strict=True):
        assert len(set(pair.tolist())) == (1 if group == 1 else 2)


def trained(space, frames, path=None, *, geometry=None, truth=None, steps=3):
    estimator = cest.Estimator(space, TINY, seed=0)
    config = dataclasses.replace(SHORT, steps=steps)
    history = cest.train(
        training.launch("cpu"), estimator, frames, cest.Objective(), config, seed=4, geometry=geometry, truth=truth,
        checkpoint=path,
    )  # fmt: skip
    return estimator, history


def test_training_moves_all_networks_and_logs_all_terms(space, frames):
    before = cest.Estimator(space, TINY, seed=0).state_dict()
    estimator, history = trained(space, frames)
    assert {name: len(values) for name, values in history.items()} == {
        "warm_up": 2, "photometric": 3, "keypoints": 3, "regulariser": 3
    }  # fmt: skip
    for name in ("view", "shape", "reflectance", "light"):
        moved = [n for n, v in estimator.state_dict().items() if f".{name}." in n and not torch.equal(v, before[n])]
        assert moved, name


def test_known_geometry_leaves_viewpoint_and_shape_alone(space, truth, frames):
    geometry = estimate_of(space, truth, frames).geometry
    before = cest.Estimator(space, TINY, seed=0).state_dict()
    no_points = cest.Frames(frames.images, frames.video)
    estimator, history = trained(space, no_points, geometry=geometry)
    assert set(history) == {"photometric"}
    for name, value in estimator.state_dict().items():
        if name.startswith(("networks.view", "networks.shape")):
            assert torch.equal(value, before[name]), name
    assert not torch.equal(estimator.networks["reflectance"].out.weight, before["networks.reflectance.out.weight"])


def test_landmarks_alone_teach_viewpoint(space, truth, frames):
    estimator = cest.Estimator(space, TINY, seed=0)
    config = dataclasses.replace(SHORT, steps=0, warm_up=60, frames=3)
    history = cest.train(training.launch("cpu"), estimator, frames, cest.Objective(), config, seed=0)
    assert history["warm_up"][-5:].mean() < 0.5 * history["warm_up"][:5].mean()
    with torch.no_grad():
        view, _ = estimator.pose_and_shape(frames.images)
    assert (view - truth.view)[:, :3].abs().mean() < 0.6 * truth.view[:, :3].abs().mean()


def test_a_killed_training_ends_like_an_uninterrupted_one(space, frames, tmp_path, monkeypatch):
    whole, _ = trained(space, frames)
    path, original = tmp_path / "run.pt", cest.loss_terms
    calls = iter(range(100))

    def dies(*arguments):
        if next(calls) == 2:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(cest, "loss_terms", dies)
    monkeypatch.setattr(training.Run, "_is_due", lambda *_: True)
    with pytest.raises(KeyboardInterrupt):
        trained(space, frames, path)
    monkeypatch.setattr(cest, "loss_terms", original)
    resumed, _ = trained(space, frames, path)
    for (name, one), other in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, other), name


def test_supervision_has_no_error_at_the_truth(space, truth, frames):
    exact = estimate_of(space, truth, frames)
    terms = cest.supervised_appearance(space, exact, truth) | cest.supervised_geometry(truth.view, truth.alpha, truth)
    assert {name: float(value) for name, value in terms.items()} == dict.fromkeys(terms, 0.0)
    off = truth.view.clone()
    off[:, 5] += 3.0
    assert float(cest.supervised_geometry(off, truth.alpha, truth)["view"]) == pytest.approx(0, abs=1e-6)
    off[:, 1] += 0.3
    assert float(cest.supervised_geometry(off, truth.alpha, truth)["view"]) == pytest.approx(1 / 6, rel=1e-4)
    _, history = trained(space, frames, truth=truth)
    assert {"reflectance", "light", "view", "shape"} <= set(history)


# ---------------------------------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(2, 1, 64, 64), "grey pictures; repeat the channel"),
        (torch.zeros(2, 4, 64, 64), "RGBA pictures; drop the alpha"),
        (torch.zeros(2, 3, 64, 48), "expected 64 x 64 pixels, found 64 x 48"),
        (torch.zeros(2, 3, 32, 32), "found 32 x 32; crop around the face and resize"),
        (torch.zeros(2, 3, 64, 64, dtype=torch.uint8), r"convert by v / 127.5 - 1"),
        (torch.full((2, 3, 64, 64), 200.0), r"expected values in \[-1, 1\], found 200 to 200"),
        (torch.zeros(3, 64, 64), "give a batch of pictures"),
    ],
)
def test_wrong_pictures_are_refused(images, message):
    with pytest.raises(ValueError, match=message):
        cest.check_images(images, 64)


def test_a_corrupt_frame_inside_a_clip_is_named(frames):
    images = frames.images.clone()
    images[4, 1, 10, 10] = math.nan
    with pytest.raises(ValueError, match="in 1 of 6 pictures, first picture 4"):
        cest.Frames(images, frames.video, frames.landmarks)


def test_a_frame_without_a_detected_face_is_named(frames):
    points = frames.landmarks.clone()
    points[3] = math.nan
    with pytest.raises(ValueError, match=r"first frame 3 \(video 9\); no face was found"):
        cest.Frames(frames.images, frames.video, points)


def test_pictures_without_a_face_are_refused(space, truth, frames):
    exact = estimate_of(space, truth, frames)
    cest.check_faces(frames.images, exact)
    empty = frames.images.clone()
    empty[2] = 0.2
    with pytest.raises(ValueError, match=r"wall\.png: no face found, .* of one colour"):
        cest.check_faces(empty, exact, ["a", "b", "wall.png", "d", "e", "f"])
    noise = frames.images.clone()
    noise[1] = torch.rand(3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with pytest.raises(ValueError, match="picture 1: no face found, the best painted face differs"):
        cest.check_faces(noise, exact)


def test_training_without_landmarks_needs_the_geometry(space, frames):
    with pytest.raises(ValueError, match="needs the 68 detected points"):
        trained(space, cest.Frames(frames.images, frames.video))


def test_models_without_what_the_chain_needs_are_refused(space):
    with pytest.raises(ValueError, match="needs UV coordinates"):
        dataclasses.replace(space, model=dataclasses.replace(space.model, uv=None))
    few = dataclasses.replace(space.model, landmarks=Landmarks.from_vertices([0, 1, 2], space.model.faces))
    with pytest.raises(ValueError, match="expected the 68 landmarks, found 3"):
        dataclasses.replace(space, model=few)
    with pytest.raises(ValueError, match="was it made for another topology"):
        dataclasses.replace(space, skin=torch.ones(10, dtype=torch.bool))
    bare = dataclasses.replace(space, model=dataclasses.replace(space.model, mirror=None))
    with pytest.raises(ValueError, match="needs the mirror image of each vertex"):
        bare.mirrored(torch.zeros(1, 3, TEXELS, TEXELS))
    with pytest.raises(ValueError, match="coefficients, found 5"):
        space.vertices(torch.zeros(1, 5))
    with pytest.raises(ValueError, match="partner: expected one of random, self, all; found 'next'"):
        cest.Objective("next")


def test_networks_survive_a_file_and_refuse_a_model_of_another_topology(space, frames, tmp_path):
    estimator = cest.Estimator(space, TINY, seed=2).eval()
    path = tmp_path / "networks.safetensors"
    cest.save(estimator, path)
    again = cest.load(path, space)
    assert again.config == TINY
    with torch.no_grad():
        one, other = (e.pose_and_shape(frames.images)[1] for e in (estimator, again))
    assert torch.equal(one, other)
    finer = face.head(3)
    with pytest.raises(cest.ModelFileError, match=r"trained with 1262 vertices.*2527 vertices"):
        cest.load(path, cest.FaceSpace(finer.morphable(), TEXELS, skin=finer.face_part == 0))
    with pytest.raises(cest.ModelFileError, match="16 texels"):
        cest.load(path, dataclasses.replace(space, uv_size=32))
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(cest.ModelFileError, match="truncated"):
        cest.load(path, space)
    with pytest.raises(FileNotFoundError, match="train networks first"):
        cest.load(tmp_path / "none", space)


def test_camera_of_a_far_viewpoint_stays_valid(space):
    camera = space.camera(torch.tensor([[3.0, -3.0, 3.0, 5.0, -5.0, 9.0, -20.0]]), SIZE)
    assert isinstance(camera, ScaledOrthographic)
    assert float(camera.scale) > 0
