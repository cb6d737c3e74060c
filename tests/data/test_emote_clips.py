"""Motion parameters to vertices, and windows of clips whose sound and motion stay together."""

import dataclasses

import numpy as np
import pytest
import torch
from conftest import ROOT

from paper_utils.data.emote_clips import EmoteClips, FlameFace, HeadFace, check_labels
from paper_utils.mesh import model_files as mf
from paper_utils.world.face import EXPRESSION_UNITS, head


def chance(seed=0):
    return torch.Generator().manual_seed(seed)


# ------------------------------------------------------------------------------------------------------------------ faces


def test_the_head_moves_as_the_world_moves_it_and_offsets_are_metres():
    whole = head(2)
    neutral = torch.stack([whole.vertices, 1.05 * whole.vertices])
    motion = 0.5 * torch.rand(2, 3, len(EXPRESSION_UNITS) + 1, generator=chance())
    motion[..., -1] *= 0.3
    found = HeadFace.of(whole).offsets(motion, neutral)
    for clip in range(2):
        posed = whole.pose(neutral[clip].expand(3, -1, -1), motion[clip, :, :-1], motion[clip, :, -1])
        torch.testing.assert_close(found[clip], ((posed - neutral[clip]) / 1000).flatten(1), rtol=0, atol=1e-7)
    assert 1e-3 < found.abs().max() < 0.1
    some = torch.tensor([5, 100, 700])
    few = HeadFace.of(whole, some).offsets(motion, neutral[:, some])
    torch.testing.assert_close(few, found.unflatten(-1, (-1, 3))[:, :, some].flatten(2))


def test_a_face_at_rest_does_not_move_and_gradients_reach_the_motion():
    whole = head(2)
    rest = torch.zeros(1, 2, 17, requires_grad=True)
    offsets = HeadFace.of(whole).offsets(rest, whole.vertices[None])
    assert not offsets.any()
    offsets.sum().backward()
    assert (rest.grad.abs().sum((0, 1)) > 0).all()


@pytest.fixture(scope="module")
def flame(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flame")
    source = ROOT / "tests" / "reference" / "flame"
    model = mf.read_flame(mf.convert_flame(source / "flame_fixture.pkl", folder / "flame.npz"), check_size=False)
    with np.load(source / "flame_fixture_expected.npz") as stored:
        return model, {key: torch.from_numpy(stored[key]) for key in stored.files}


def test_flame_moves_with_its_jaw_and_expression_and_offsets_are_metres(flame):
    model, expected = flame
    shape, expression, jaw = expected["shape"], expected["expression"], expected["pose"][:, 3:]
    pose = torch.zeros(len(shape), 5, 3)
    pose[:, 2] = jaw  # root, neck, jaw, left eye, right eye
    vertices = model.vertices(shape, expression, pose) / 1000
    offsets = FlameFace(model).offsets(torch.cat([expression, jaw], dim=1)[:, None], shape)[:, 0].unflatten(-1, (-1, 3))
    torch.testing.assert_close(model.vertices(shape) / 1000 + offsets, vertices, rtol=0, atol=1e-6)
    assert offsets.abs().max() > 1e-3


def test_flame_at_rest_has_no_offset_whatever_the_person(flame):
    person = torch.randn(2, 12, generator=chance())
    offsets = FlameFace(flame[0]).offsets(torch.zeros(2, 3, 9), person)
    assert offsets.shape == (2, 3, 60)
    assert offsets.abs().max() < 1e-7


def test_a_model_without_a_jaw_is_refused():
    with pytest.raises(ValueError, match="expected a model with a joint named jaw"):
        FlameFace(head(2).morphable())


# ------------------------------------------------------------------------------------------------------------------ clips


def clips(**changes):
    """Sound that counts steps and motion that counts frames, so that windows can be read."""
    count, frames, steps = 5, 12, 4
    fields = {
        "sound": torch.arange(float(frames * steps)).expand(count, -1)[..., None]
        + 1000 * torch.arange(count)[:, None, None],
        "motion": torch.arange(float(frames)).expand(count, -1)[..., None] + 1000 * torch.arange(count)[:, None, None],
        "person": torch.arange(float(count))[:, None],
        "emotion": torch.arange(count),
        "intensity": torch.ones(count, dtype=torch.long),
        "identity": torch.arange(count) % 2,
        "valid": torch.ones(count, frames, dtype=torch.bool),
    }
    return EmoteClips(**fields | changes, name="toy")


def test_windows_of_sound_and_motion_begin_and_end_together():
    rows = torch.tensor([3, 0, 3, 1])
    batch = clips().batch(rows, 5, chance(1))
    assert batch.motion.shape == (4, 5, 1)
    assert batch.sound.shape == (4, 20, 1)
    first = batch.motion[:, 0, 0] - 1000 * rows
    assert torch.equal(batch.sound[:, :, 0] - 1000 * rows[:, None], 4 * first[:, None] + torch.arange(20))
    assert batch.emotion.tolist() == batch.person[:, 0].tolist() == [3, 0, 3, 1]


def test_every_start_is_drawn_and_the_whole_clip_has_one():
    starts = {int(clips().batch(torch.tensor([0]), 9, chance(seed)).motion[0, 0, 0]) for seed in range(60)}
    assert starts == {0, 1, 2, 3}
    assert clips().batch(torch.tensor([0]), 12, chance()).motion[0, 0, 0] == 0
    with pytest.raises(ValueError, match="toy: clips of 12 frames are shorter than a window of 13"):
        clips().batch(torch.tensor([0]), 13, chance())


def test_some_clips_are_chosen_by_number_or_mask():
    assert clips().of(torch.tensor([4, 1])).emotion.tolist() == [4, 1]
    assert len(clips().of(torch.tensor([True, False, True, False, False]))) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"emotion": torch.tensor([0, 1, -1, 3, 4])}, r"toy: emotion: 1 of 5 labels .* the first is -1 at 2; valid: 0 neutral.*clip without label"),
        ({"intensity": torch.zeros(5, dtype=torch.long)}, r"toy: intensity: 5 of 5 .* valid: 1, 2, 3"),
        ({"sound": torch.zeros(5, 49, 1)}, "whole multiple of sound steps, found 12 and 49"),
        ({"motion": torch.full((5, 12, 1), float("nan"))}, "motion holds NaN"),
    ],
)  # fmt: skip
def test_clips_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        clips(**changes)


def test_labels_are_checked_by_name():
    one = torch.ones(2, dtype=torch.long)
    check_labels(one, one, one, 2)
    with pytest.raises(ValueError, match="identity: 2 of 2 labels are not valid, the first is 1 at 0; valid: 0 to 0"):
        check_labels(one, one, one, 1)


def test_a_batch_moves_to_a_device_with_what_it_has():
    batch = clips().batch(torch.tensor([1]), 4, chance()).to("meta")
    assert all(
        getattr(batch, f.name).device.type == "meta" for f in dataclasses.fields(batch) if f.name != "emotion_features"
    )
    assert batch.emotion_features is None
