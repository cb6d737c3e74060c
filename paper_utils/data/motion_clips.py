"""Motion and sound of many clips as a few arrays, and the windows that training draws from them (paper 08)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from paper_utils.nn.motion_autoencoder import FRAMES_A_CODE


@dataclass(frozen=True)
class Clips:
    """Motion and sound of many clips as a few arrays, one clip after the other.

    Parameters
    ----------
    motion
        Frames of all clips, 265 columns (`paper_utils.world.pose_layout`).
    features
        Sound, one row for each frame of motion.
    starts
        First frame of each clip, and the number of frames as last.
    speakers
        Number of each clip's speaker.
    name
        Where they come from, for messages.
    trimmed
        Clips whose motion and sound differed in length: number, frames of motion, frames of sound. Both were cut to the shorter.
    official_starts
        Whether `windows` begin where those of the released TalkSHOW code do.

    Raises
    ------
    ValueError
        If the parts do not fit each other, a clip is empty, or numbers are not finite.
    """

    motion: Float[Tensor, "frames columns"]
    features: Float[Tensor, "sound_frames features"]
    starts: Int[Tensor, " clips_plus_one"]
    speakers: Int[Tensor, " clips"]
    name: str
    trimmed: tuple[tuple[int, int, int], ...] = ()
    official_starts: bool = False

    def __post_init__(self) -> None:
        if len(self.starts) != len(self.speakers) + 1 or not len(self.speakers):
            raise ValueError(
                f"{self.name}: expected at least one clip and one speaker each, found {len(self.starts) - 1} clips and "
                f"{len(self.speakers)} speakers"
            )
        if int(self.starts[-1]) != len(self.motion) or len(self.motion) != len(self.features):
            raise ValueError(
                f"{self.name}: starts end at {int(self.starts[-1])}, but there are {len(self.motion)} frames of motion and "
                f"{len(self.features)} of sound"
            )
        if int(self.starts.diff().min()) < 1:
            raise ValueError(f"{self.name}: clip {int(self.starts.diff().argmin())} has no frames")
        check_finite(self.motion, f"{self.name}: motion")
        check_finite(self.features, f"{self.name}: sound features")

    @classmethod
    def of(
        cls,
        motion: Float[Tensor, "clips time columns"],
        features: Float[Tensor, "clips time features"],
        speakers: Int[Tensor, " clips"],
        name: str = "clips",
    ) -> Clips:
        """Clips of equal length."""
        count, frames = motion.shape[:2]
        return cls(motion.flatten(0, 1), features.flatten(0, 1), torch.arange(count + 1) * frames, speakers, name)

    @classmethod
    def joined(cls, items: Iterable[tuple[Tensor, Tensor, int]], name: str = "clips") -> Clips:
        """From (motion, features, speaker) of each clip; where motion and sound differ in length, both are cut to the shorter, and it is noted."""
        motions, sounds, speakers, trimmed = [], [], [], []
        for index, (motion, features, speaker) in enumerate(items):
            frames = min(len(motion), len(features))
            if len(motion) != len(features):
                trimmed.append((index, len(motion), len(features)))
            motions.append(motion[:frames])
            sounds.append(features[:frames])
            speakers.append(speaker)
        if not motions:
            raise ValueError(f"{name}: there are no clips")
        starts = torch.tensor([0, *(len(motion) for motion in motions)]).cumsum(0)
        return cls(torch.cat(motions), torch.cat(sounds), starts, torch.tensor(speakers), name, tuple(trimmed))

    def __len__(self) -> int:
        return len(self.speakers)

    def windows(self, length: int = 88, stride: int = 3) -> Int[Tensor, "windows 2"]:
        r"""Clip and first frame of every window that fits: starts 0, s, 2s, ... up to T - L of each clip.

        The released code (s = 3) starts one at 0, 6, 12, ... < T - L and moves it by 0 or 3 frames each time it is drawn, by 0 where the moved
        one would not fit. With `official_starts` each of those stands here twice, once with either move, so that in random order all are drawn
        with the same chances. They are nearly those of the default, but where T - L is a multiple of 6 the start T - L is missing (a clip of
        L frames has no window), and where it leaves 1 or 2 the last start comes twice.

        Parameters
        ----------
        length, stride
            L and s, frames; 88 and 3 in the released code.

        Raises
        ------
        ValueError
            If the length is no multiple of four, or no clip is that long.
        """
        if length < FRAMES_A_CODE or length % FRAMES_A_CODE or stride < 1:
            raise ValueError(
                f"windows: expected a length that is a positive multiple of {FRAMES_A_CODE} and stride >= 1, found {length} and {stride}"
            )
        lengths = self.starts.diff()
        spare = lengths - length
        if self.official_starts:
            counts = 2 * (spare.clamp(min=0) + 2 * stride - 1).div(2 * stride, rounding_mode="floor")
        else:
            counts = (spare.div(stride, rounding_mode="floor") + 1).clamp(min=0)
        if not int(counts.sum()):
            needed = f"more than the {length}" if self.official_starts else f"the {length}"
            raise ValueError(
                f"{self.name}: no clip has {needed} frames of a window; the longest has {int(lengths.max())}"
            )
        clip = torch.repeat_interleave(torch.arange(len(self)), counts)
        nth = torch.arange(len(clip)) - torch.repeat_interleave(counts.cumsum(0) - counts, counts)
        first = stride * nth
        if self.official_starts:
            first = torch.where(first > spare[clip], first - stride, first)  # only moved ones can be too late
        return torch.stack([clip, self.starts[clip] + first], dim=1)

    def cut(
        self, windows: Int[Tensor, "rows 2"], length: int
    ) -> tuple[Float[Tensor, "rows time columns"], Float[Tensor, "rows time features"], Int[Tensor, " rows"]]:
        """Motion, sound and speakers of some windows."""
        index = windows[:, 1, None] + torch.arange(length)
        return self.motion[index], self.features[index], self.speakers[windows[:, 0]]


def check_finite(values: Tensor, what: str) -> None:
    """Raise if there are NaN or infinite numbers, with how many and of what."""
    if not torch.isfinite(values).all():
        raise ValueError(
            f"{what}: {int((~torch.isfinite(values)).sum())} of {values.numel()} numbers are NaN or infinite; leave such clips out"
        )
