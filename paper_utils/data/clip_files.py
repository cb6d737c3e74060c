"""Talking faces on disk: a folder of clips that are read when asked for, and speech at one rate."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike
from torch import Tensor

from paper_utils.audio_files import read_audio
from paper_utils.data.talking_faces import SAMPLE_RATE, FaceMesh, TalkingClip, TalkingFaces


@dataclass(frozen=True)
class ClipFiles:
    """Clips on disk: listed and checked now, read when asked for. ``files[i]`` is a `TalkingClip`.

    Parameters
    ----------
    name
        Of the data set.
    mesh
        Triangles, masks and regions.
    subjects, sentences
        Of each clip.
    load
        Reads a clip by its number.
    skipped
        What the folder holds that is no clip, and why: nothing is left out silently.
    """

    name: str
    mesh: FaceMesh
    subjects: tuple[str, ...]
    sentences: tuple[str, ...]
    load: Callable[[int], TalkingClip]
    skipped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.subjects or len(self.subjects) != len(self.sentences):
            raise ValueError(
                f"{self.name}: expected at least one clip, with a subject and a sentence each; found {len(self.subjects)} subjects and "
                f"{len(self.sentences)} sentences"
            )

    def __len__(self) -> int:
        return len(self.subjects)

    def __getitem__(self, index: int) -> TalkingClip:
        if not 0 <= index < len(self):
            raise IndexError(f"{self.name}: clip {index} of {len(self)}")
        return self.load(index)

    def of(self, clips: ArrayLike) -> ClipFiles:
        """The chosen clips, unread."""
        chosen = np.atleast_1d(np.asarray(clips))
        chosen = (np.flatnonzero(chosen) if chosen.dtype == bool else chosen).tolist()
        if wrong := [i for i in chosen if not 0 <= i < len(self)]:
            raise ValueError(f"{self.name}: no clip {wrong[0]}, there are {len(self)}")
        return dataclasses.replace(
            self,
            subjects=tuple(self.subjects[i] for i in chosen),
            sentences=tuple(self.sentences[i] for i in chosen),
            load=lambda index: self.load(chosen[index]),
        )

    def read(self, *, fps: float | None = None) -> TalkingFaces:
        """All clips in memory: a gigabyte for every 8 minutes of 6,172 vertices at 30 frames a second.

        Parameters
        ----------
        fps
            Rate to bring every clip to; None keeps theirs.
        """
        clips = (self.load(index) for index in range(len(self)))
        return TalkingFaces.of_clips((c if fps is None else c.at_fps(fps) for c in clips), self.mesh, self.name)


def fill_dropped(
    vertices: Float[np.ndarray, "kept vertices 3"], steps: Int[np.ndarray, " kept"]
) -> tuple[Float[np.ndarray, "frames vertices 3"], Bool[np.ndarray, " frames"]]:
    """Every frame of a segment of which some were dropped: straight lines between neighbours.

    Parameters
    ----------
    vertices
        Frames that are there.
    steps
        Their places, rising from 0.

    Returns
    -------
    tuple
        Frames 0 to the last place, and whether each was there.
    """
    frames = np.arange(int(steps[-1]) + 1)
    high = np.searchsorted(steps, frames)
    low = np.where(steps[high] == frames, high, high - 1)
    tracked = low == high
    gap = np.where(tracked, 1, steps[high] - steps[low])
    share = ((frames - steps[low]) / gap)[:, None, None].astype(vertices.dtype)
    return vertices[low] + share * (vertices[high] - vertices[low]), tracked


class ResampledWarning(UserWarning):
    """Sound had another sample rate than expected and was resampled."""


def read_speech(
    path: str | Path,
    *,
    sample_rate: int = SAMPLE_RATE,
    expected_rate: int | None = SAMPLE_RATE,
    at_least_s: float = 0.0,
) -> Float[Tensor, " samples"]:
    """Mono speech of a file at one rate.

    Parameters
    ----------
    path
        WAV, FLAC, Ogg, MP3.
    sample_rate
        Hz of the result.
    expected_rate
        Rate that the file should have. Another one is resampled all the same, with a note (`ResampledWarning`). None: any rate is welcome.
    at_least_s
        Shorter recordings are refused: the window of the network that will listen.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged or shorter than `at_least_s`.
    """
    samples = read_audio(path, sample_rate)
    rate = soundfile.info(path).samplerate
    if expected_rate not in (None, rate):
        warnings.warn(
            f"{path}: expected {expected_rate} Hz, found {rate} Hz; resampled to {sample_rate} Hz",
            ResampledWarning,
            stacklevel=2,
        )
    if len(samples) < at_least_s * sample_rate:
        raise ValueError(
            f"{path}: lasts {len(samples) / sample_rate:.3f} s, shorter than one window of {at_least_s:g} s; record a longer sentence or "
            "append silence"
        )
    return samples
