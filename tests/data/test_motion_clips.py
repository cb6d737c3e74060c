"""Clips and windows: every window lies in one clip, sound and motion stay together, lengths that differ are cut and noted."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paper_utils.data.motion_clips import Clips


def clip(frames: int, number: int, sound_frames: int | None = None) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Motion and sound whose numbers tell the clip and the frame."""
    time = torch.arange(float(max(frames, sound_frames or 0)))
    motion = torch.stack([torch.full_like(time, number), time], dim=1)
    return motion[:frames], motion[: sound_frames or frames] + 0.5, number % 4


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=6).filter(lambda lengths: max(lengths) >= 8),
    st.sampled_from([4, 8]),
    st.integers(1, 7),
)
def test_windows_are_all_that_fit_and_stay_within_their_clip(lengths, length, stride):
    clips = Clips.joined([clip(frames, i) for i, frames in enumerate(lengths)])
    windows = clips.windows(length, stride)
    assert len(windows) == sum(max(0, (frames - length) // stride + 1) for frames in lengths)
    motion, features, speakers = clips.cut(windows, length)
    assert (motion[..., 0] == windows[:, :1]).all(), "one clip a window"
    assert (motion[..., 1].diff(dim=1) == 1).all()
    assert (motion[:, 0, 1] % stride == 0).all()
    assert torch.equal(features, motion + 0.5)
    assert torch.equal(speakers, windows[:, 0] % 4)


def released_starts(frames, length):
    """The released loader's own steps: its list of starts, and both moves of each."""
    found = []
    for index in range(0, frames - length, 6):
        for move in (0, 3):
            moved = index + move
            found.append(index if moved + length > frames else moved)
    return found


@pytest.mark.parametrize("frames", [89, 90, 91, 93, 94, 95, 96, 100, 300])
def test_official_starts_are_those_of_the_released_loader(frames):
    clips = Clips.joined([clip(frames, 0), clip(88, 1), clip(95, 2)])
    clips = dataclasses.replace(clips, official_starts=True)
    expected = [[0, start] for start in released_starts(frames, 88)]
    expected += [[2, frames + 88 + start] for start in released_starts(95, 88)]
    assert clips.windows(88, 3).tolist() == expected
    motion, _, _ = clips.cut(clips.windows(), 88)
    assert (motion[..., 1].diff(dim=1) == 1).all(), "no window leaves its clip"


def test_official_starts_of_other_strides_keep_the_proportion():
    clips = dataclasses.replace(Clips.joined([clip(23, 0)]), official_starts=True)
    # Starts 0, 4, 8, 12 < 23 - 8, moved by 0 or 2.
    assert clips.windows(8, 2)[:, 1].tolist() == [0, 2, 4, 6, 8, 10, 12, 14]


def test_official_starts_need_a_frame_to_spare():
    clips = Clips.joined([clip(8, 0)])
    assert clips.windows(8).tolist() == [[0, 0]]
    with pytest.raises(ValueError, match="no clip has more than the 8 frames of a window; the longest has 8"):
        dataclasses.replace(clips, official_starts=True).windows(8)


def test_motion_and_sound_of_different_length_are_cut_to_the_shorter_and_noted():
    clips = Clips.joined([clip(10, 0), clip(12, 1, 9), clip(5, 2, 7)])
    assert clips.trimmed == ((1, 12, 9), (2, 5, 7))
    assert clips.starts.tolist() == [0, 10, 19, 24]
    assert torch.equal(clips.features, clips.motion + 0.5)


def test_clips_of_equal_length_come_apart_again():
    motion = torch.arange(24.0).reshape(3, 4, 2)
    clips = Clips.of(motion, motion + 0.5, torch.tensor([0, 1, 2]))
    assert torch.equal(clips.cut(clips.windows(4), 4)[0], motion)
    assert len(clips) == 3


def test_faults_are_named():
    good = torch.zeros(8, 2)
    bad = good.clone()
    bad[3, 1] = torch.nan
    with pytest.raises(ValueError, match="world: motion: 1 of 16 numbers are NaN"):
        Clips.of(bad[None], good[None], torch.tensor([0]), "world")
    with pytest.raises(ValueError, match="no clip has the 88 frames of a window; the longest has 8"):
        Clips.of(good[None], good[None], torch.tensor([0])).windows()
    with pytest.raises(ValueError, match="multiple of 4"):
        Clips.of(good[None], good[None], torch.tensor([0])).windows(6)
    with pytest.raises(ValueError, match="there are no clips"):
        Clips.joined([])
    with pytest.raises(ValueError, match="clip 1 has no frames"):
        Clips.joined([clip(8, 0), (good[:0], good[:0], 1)])
    with pytest.raises(ValueError, match="expected at least one clip and one speaker each"):
        Clips(good, good, torch.tensor([0, 8]), torch.tensor([0, 1]), "clips")
    with pytest.raises(ValueError, match="8 frames of motion and 7 of sound"):
        Clips(good, good[:7], torch.tensor([0, 8]), torch.tensor([0]), "clips")
