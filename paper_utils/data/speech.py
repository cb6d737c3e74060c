"""Speech samples: phones with their boundaries, recordings, talking faces and moving bodies, synthetic or real.

The synthetic world and every loader of real speech return these types, so that no method asks where its data came from.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

SILENCE = "SIL"


@dataclass(frozen=True)
class Alignment:
    """The phones of one utterance, in order and without gaps.

    Parameters
    ----------
    phones
        ARPABET names without stress digits; ``"SIL"`` for silence.
    boundaries_s
        Rising times in seconds; phone ``i`` lasts from ``boundaries_s[i]`` to ``boundaries_s[i + 1]``.
    stress
        1 primary, 2 secondary, 0 unstressed vowel; -1 for everything that is no vowel. Empty: unknown.
    words
        Each word with its first phone and one past its last.

    Raises
    ------
    ValueError
        If there is no phone, the lengths disagree, or the boundaries do not rise.
    """

    phones: tuple[str, ...]
    boundaries_s: Float[np.ndarray, " boundaries"]
    stress: tuple[int, ...] = ()
    words: tuple[tuple[str, int, int], ...] = ()

    def __post_init__(self) -> None:
        if not self.phones:
            raise ValueError("an alignment needs at least one phone, found none (a zero-length utterance?)")
        if len(self.boundaries_s) != len(self.phones) + 1:
            raise ValueError(
                f"alignment of {len(self.phones)} phones: expected {len(self.phones) + 1} boundaries, found {len(self.boundaries_s)}"
            )
        if not np.isfinite(self.boundaries_s).all() or (np.diff(self.boundaries_s) <= 0).any():
            raise ValueError("alignment: boundaries_s must be finite and rise strictly; every phone needs a length")
        if self.stress and len(self.stress) != len(self.phones):
            raise ValueError(f"alignment: expected {len(self.phones)} stress marks, found {len(self.stress)}")
        if any(not 0 <= first < last <= len(self.phones) for _, first, last in self.words):
            raise ValueError(f"alignment: a word's span lies outside the {len(self.phones)} phones: {self.words}")

    @property
    def duration_s(self) -> float:
        """Seconds from the first boundary to the last."""
        return float(self.boundaries_s[-1] - self.boundaries_s[0])

    def phone_at(self, times_s: Float[np.ndarray, " times"]) -> Int[np.ndarray, " times"]:
        """Index of the phone that sounds at each time; a boundary belongs to the phone that begins there, times outside to the outermost phone."""
        return np.clip(np.searchsorted(self.boundaries_s, times_s, side="right") - 1, 0, len(self.phones) - 1)


@dataclass(frozen=True)
class Recording:
    """One utterance as a method sees it: features, who speaks, and what is said if that is known.

    Parameters
    ----------
    log_mel
        Natural-log mel energies, one row a frame.
    hop_ms
        Time between frames.
    identity
        Integer name of the speaker.
    alignment
        Phones with boundaries in the time of this recording, or ``None``.
    text
        What is said, in words.
    """

    log_mel: Float[Tensor, "time mel"]
    hop_ms: float
    identity: int
    alignment: Alignment | None = None
    text: str = ""

    def __post_init__(self) -> None:
        if self.log_mel.ndim != 2 or len(self.log_mel) == 0:
            raise ValueError(
                f"recording of {self.identity}: expected log_mel (time, mel) with at least one frame, found {tuple(self.log_mel.shape)}"
            )
        if not torch.isfinite(self.log_mel).all():
            raise ValueError(f"recording of {self.identity}: log_mel holds NaN or infinite values")


@dataclass(frozen=True)
class Voices:
    """Many recordings as a few arrays, one after the other: fits in memory-mapped files, and `voices[i]` is a `Recording`.

    Parameters
    ----------
    log_mel
        Frames of all recordings.
    starts
        First frame of each recording, and the number of frames as last.
    hop_ms
        Time between frames.
    identities
        Integer name of each recording's speaker.
    phone_names
        Names that `phones` counts.
    phones
        Phones of all recordings, as indices into `phone_names`.
    phone_starts
        First phone of each recording, and the number of phones as last.
    boundaries_s
        Boundaries of all recordings, one more than phones for each; of a recording whose phones are not known, any one number.
    name
        Where the recordings come from.
    covariates
        What is known of the speaker of each recording, by name.
    """

    log_mel: Float[Tensor, "frames mel"]
    starts: Int[Tensor, " recordings_plus_one"]
    hop_ms: float
    identities: Int[Tensor, " recordings"]
    phone_names: tuple[str, ...]
    phones: Int[Tensor, " phones"]
    phone_starts: Int[Tensor, " recordings_plus_one"]
    boundaries_s: Float[Tensor, " boundaries"]
    name: str
    covariates: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = len(self.identities)
        if count == 0:
            raise ValueError(f"{self.name}: there are no recordings")
        if len(self.starts) != count + 1 or len(self.phone_starts) != count + 1:
            raise ValueError(
                f"{self.name}: expected {count + 1} starts of frames and of phones, found {len(self.starts)} and {len(self.phone_starts)}"
            )
        if int(self.starts[-1]) != len(self.log_mel) or int(self.phone_starts[-1]) != len(self.phones):
            raise ValueError(
                f"{self.name}: starts end at {int(self.starts[-1])} and {int(self.phone_starts[-1])}, "
                f"but there are {len(self.log_mel)} frames and {len(self.phones)} phones"
            )
        if len(self.boundaries_s) != len(self.phones) + count:
            raise ValueError(
                f"{self.name}: expected {len(self.phones) + count} boundaries, found {len(self.boundaries_s)}"
            )

    def __len__(self) -> int:
        return len(self.identities)

    def __getitem__(self, index: int) -> Recording:
        if not 0 <= index < len(self):
            raise IndexError(f"{self.name}: recording {index} of {len(self)}")
        first, last = self.phone_starts[index : index + 2].tolist()
        alignment = None
        if last > first:
            alignment = Alignment(
                tuple(self.phone_names[code] for code in self.phones[first:last].tolist()),
                self.boundaries_s[first + index : last + index + 1].double().numpy(),
            )
        frames = slice(*self.starts[index : index + 2].tolist())
        return Recording(self.log_mel[frames], self.hop_ms, int(self.identities[index]), alignment)

    def stacked(self) -> Float[Tensor, "recordings time mel"]:
        """All recordings as one array.

        Raises
        ------
        ValueError
            If they differ in length.
        """
        lengths = self.starts.diff().unique()
        if len(lengths) != 1:
            raise ValueError(
                f"{self.name}: recordings last {int(lengths[0])} to {int(lengths[-1])} frames; cut windows of one length"
            )
        return self.log_mel.view(len(self), int(lengths[0]), -1)

    def phone_of_frame(self) -> Int[Tensor, " frames"]:
        """Index into `phone_names` of the phone at the middle of each frame; frame i of a recording is at ``i * hop_ms``.

        Raises
        ------
        ValueError
            If the phones of a recording are not known.
        """
        count = len(self)
        unknown = int((self.phone_starts.diff() == 0).sum())
        if unknown:
            raise ValueError(
                f"{self.name}: the phones of {unknown} of {count} recordings are not known; align them first"
            )
        recording = torch.repeat_interleave(torch.arange(count), self.starts.diff())
        times = (torch.arange(len(self.log_mel)) - self.starts[recording]) * (self.hop_ms / 1000)
        # All recordings on one long time line, each in a stretch of its own, so that one search finds every phone.
        inside = torch.repeat_interleave(torch.arange(count), self.phone_starts.diff())
        begins = self.boundaries_s[torch.arange(len(self.phones)) + inside].double()
        stretch = float(self.boundaries_s.max()) + 1.0
        found = torch.searchsorted(begins + stretch * inside, times.double() + stretch * recording, right=True) - 1
        return self.phones[torch.maximum(found, self.phone_starts[recording])].long()


@dataclass(frozen=True)
class HolisticClip:
    """Jaw, face, body and hands of one speaker over time, in the 265-column layout of SHOW.

    Parameters
    ----------
    motion
        Axis-angle poses in radians and 100 expression coefficients: jaw 0:3, eyes 3:9, root 9:12, body 12:75, left hand 75:120,
        right hand 120:165, expression 165:265.
    fps
        Frames a second.
    speaker
        Integer name of the speaker.
    recording
        The sound from the same instant on.
    """

    motion: Float[Tensor, "time 265"]
    fps: float
    speaker: int
    recording: Recording

    def __post_init__(self) -> None:
        if self.motion.ndim != 2 or self.motion.shape[1] != 265 or len(self.motion) == 0:
            raise ValueError(
                f"holistic clip: expected motion (time, 265) with at least one frame, found {tuple(self.motion.shape)}"
            )
        if not torch.isfinite(self.motion).all():
            raise ValueError("holistic clip: motion holds NaN or infinite values")
