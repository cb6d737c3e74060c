"""Clips of the world: the truth that stands beside each frame is the frame's, and each knob switches off what it says."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from paper_utils.mesh.renderer import visible_surface
from paper_utils.mesh.shading import shade
from paper_utils.world import face
from paper_utils.world.clips import BUMP_SD, ClipSettings, bumps, clips, shuffled_clips
from paper_utils.world.people import Population
from paper_utils.world.portraits import ImageNuisance, camera_of, photograph

POPULATION = Population(seed=3, size=20)
SETTINGS = ClipSettings(frames=3, size=48)


@pytest.fixture(scope="module")
def filmed():
    return clips(POPULATION, range(4), SETTINGS, texels=32, seed=5)


def test_frames_are_the_photographs_of_their_scenes(filmed):
    again = photograph(filmed.people, filmed.setting, 48, full=False, map_size=48)
    torch.testing.assert_close(filmed.images, again)


def test_a_frame_is_its_reflectance_times_its_shading():
    quiet = dataclasses.replace(SETTINGS, nuisance=ImageNuisance(noise=0.0), size=96)
    shot = clips(POPULATION, range(2), quiet, texels=96, seed=1)
    model = face.head(2)
    uv = model.uv.expand(len(shot), -1, -1)
    surface = visible_surface(shot.vertices, model.faces, shot.camera, (96, 96), uv)
    torch.testing.assert_close(shade(surface.normals, shot.setting.light) * surface.mask, shot.shading)
    maps = torch.nn.functional.grid_sample(
        shot.reflectance[shot.person], 2 * surface.values.permute(0, 2, 3, 1) - 1, align_corners=False
    )
    difference = ((shot.images + 1) / 2 - maps * shot.shading).abs() * shot.mask
    assert float(difference.sum() / shot.mask.sum() / 3) < 0.01  # lashes and nostrils are averaged in the true map


def test_landmarks_are_the_projected_ones_with_the_detectors_error():
    exact, rough = (
        clips(POPULATION, range(6), dataclasses.replace(SETTINGS, detector_px=error, size=64), texels=8, seed=5)
        for error in (0.0, 1.5)
    )
    expected = camera_of(exact.setting, 64, full=False).project(face.head(2).landmarks68(exact.vertices))[..., :2]
    torch.testing.assert_close(exact.landmarks, expected)
    errors = rough.landmarks - exact.landmarks
    assert float(errors.std()) == pytest.approx(1.5, rel=0.05)
    assert float(errors.mean().abs()) < 0.1


def test_reflectance_is_constant_in_a_clip_and_shape_changes_with_expression(filmed):
    assert len(filmed.reflectance) == 4
    assert filmed.person.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    first = filmed.vertices.view(4, 3, -1, 3)
    assert (first[:, 0] - first[:, 1]).abs().amax((1, 2)).min() > 0.1
    still = clips(
        POPULATION, range(2), dataclasses.replace(SETTINGS, nuisance=ImageNuisance(expression=0.0)), texels=8, seed=5
    )
    torch.testing.assert_close(still.vertices, still.neutral[still.person])


@pytest.mark.parametrize(("knob", "name"), [("same_light", "light"), ("same_pose", "rotation")])
def test_a_still_clip_keeps_light_or_pose(knob, name):
    shot = clips(POPULATION, range(3), dataclasses.replace(SETTINGS, **{knob: True}), texels=8)
    values = getattr(shot.setting, name).view(3, 3, -1)
    assert (values == values[:, :1]).all()
    assert not torch.equal(values[0, 0], values[1, 0])
    other = getattr(shot.setting, "rotation" if name == "light" else "light").view(3, 3, -1)
    assert not (other == other[:, :1]).all()


def test_midplane_light_comes_from_no_side():
    shot = clips(POPULATION, range(3), dataclasses.replace(SETTINGS, midplane_light=True), texels=8)
    assert shot.setting.light[:, [1, 4, 5]].abs().max() < 1e-6  # x, xy, xz


def test_relief_is_out_of_the_models_reach_and_as_high_as_asked():
    people = POPULATION.people(range(5))
    model = face.head(2)
    relief = bumps(model, people, 1.5)
    skin = model.part == 0
    torch.testing.assert_close(relief[:, skin, 2].std(1), torch.full((5,), 1.5))
    assert relief[..., :2].abs().max() == 0
    assert relief[:, ~skin].abs().max() == 0
    basis = torch.cat((model.identity_basis, model.expression_basis), 2)[skin].reshape(-1, 44).double()
    target = relief[:, skin].reshape(5, -1).T.double()
    left = target - basis @ torch.linalg.lstsq(basis, target).solution
    assert (left.norm(dim=0) / target.norm(dim=0)).min() > 0.6
    assert torch.equal(bumps(model, people.take([3]), 1.5)[0], relief[3])  # a person's own, whoever else is there
    assert BUMP_SD[0] > 0


def test_whole_heads_have_the_same_face_in_the_same_framing(filmed):
    whole = clips(POPULATION, range(4), dataclasses.replace(SETTINGS, full=True), texels=32, seed=5)
    assert torch.equal(whole.landmarks, filmed.landmarks)
    # Only where hair grows into the mask, at the temples, is the surface another one.
    bare = face.head(2, full=True).hair_basis[: filmed.vertices.shape[1]].abs().amax((1, 2)) == 0
    assert bare.float().mean() > 0.5
    assert torch.equal(whole.vertices[:, bare], filmed.vertices[:, bare])
    assert torch.equal(whole.camera.scale, filmed.camera.scale)
    assert (whole.images - filmed.images).abs().mean() > 0.02  # hair and neck where the wall was


def test_shuffled_clips_are_as_many_and_as_long_and_mix_people(filmed):
    dealt = shuffled_clips(filmed.person, 3, np.random.default_rng(0))
    assert sorted(dealt.tolist()) == sorted(filmed.person.tolist())
    mixed = [len(set(filmed.person[dealt == number].tolist())) for number in range(4)]
    assert max(mixed) > 1
    assert not torch.equal(dealt, filmed.person)
