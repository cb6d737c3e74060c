"""Frames of talking people in folders, as VoxCeleb1's faces are distributed, with 68 landmarks cached beside them.

An index is made first; a frame is decoded when a batch asks for it. Frames without a face and frames that cannot be decoded are left out by
name, never silently.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from paper_utils import safe_files
from paper_utils.data.face_images import ImageError, ImageFiles, computed_ahead, decode, string_array
from paper_utils.data.face_lists import first_few
from paper_utils.data.voxceleb_speakers import SpeakerTable

POINTS = 68
LANDMARK_SUFFIX = ".npy"  # of the file beside a frame, in the place of .jpg
_PERSON = r"(?P<person>[^/]+)/1\.6"  # the number is in every published path
LAYOUTS = {
    "unzippedIntervalFaces": (
        re.compile(rf"(?P<video>data/{_PERSON}/[^/]+/[^/]+)/[^/]+\.jpg"),
        "data/<Speaker_Name>/1.6/<video_id>/<utterance>/*.jpg",
    ),
    "unzippedFaces": (re.compile(rf"(?P<video>{_PERSON}/[^/]+)/[^/]+\.jpg"), "<Speaker_Name>/1.6/<video_id>/*.jpg"),
}


class LandmarkError(ValueError):
    """A file of landmarks that cannot be used; the message names it."""


def read_landmarks(path: str | Path) -> Float[np.ndarray, "68 2"]:
    """68 points (right, down) in pixels from an ``.npy``; the centre of the corner pixel is (0, 0).

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    LandmarkError
        If it holds another kind of array, or NaN, by which detectors say that they found no face.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file; run a landmark detector once and store its ({POINTS}, 2) points beside each frame"
        )
    try:
        points = safe_files.npy(path, f"({POINTS}, 2) points")
    except safe_files.UnreadableFileError as error:
        raise LandmarkError(str(error)) from error
    if not isinstance(points, np.ndarray) or points.shape != (POINTS, 2) or points.dtype.kind not in "fiu":
        found = f"{points.shape} of {points.dtype}" if isinstance(points, np.ndarray) else "several arrays"
        raise LandmarkError(f"{path}: expected an array ({POINTS}, 2) of numbers, found {found}")
    if not np.isfinite(points).all():
        raise LandmarkError(f"{path}: NaN among the landmarks: no face was found in this frame")
    return points.astype(np.float64)


@dataclass(frozen=True, kw_only=True)
class VideoFrames:
    """Frames of videos that are decoded when a batch asks for them.

    Parameters
    ----------
    source
        The files.
    video, person
        For each frame the index into `video_names` and `person_names`.
    video_names, person_names
        Folder of each video below the root, and of each person.
    name
        For captions and results files.
    people
        The speakers' table, if one was given; `person_names` are its names.
    skipped
        What the folder holds besides frames, and frames that were left out with the reason.
    """

    source: ImageFiles
    video: Int[Tensor, " frames"]
    video_names: tuple[str, ...]
    person: Int[Tensor, " frames"]
    person_names: tuple[str, ...]
    name: str
    people: SpeakerTable | None = None
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.source)

    def where(self, row: int) -> str:
        """Path of a frame, for messages."""
        return self.source.where(row)

    def landmark_path(self, row: int) -> Path:
        """Where the landmarks of a frame are cached."""
        return Path(self.where(row)).with_suffix(LANDMARK_SUFFIX)

    def pixels(self, row: int) -> UInt8[np.ndarray, "height width 3"]:
        """The frame as RGB.

        Raises
        ------
        ImageError
            If it is damaged; the message names it.
        FileNotFoundError
            If it has gone.
        """
        return decode(self.source.encoded(row), self.where(row))

    def landmarks(self, row: int) -> Float[np.ndarray, "68 2"]:
        """Cached landmarks of a frame. Raises as `read_landmarks`."""
        return read_landmarks(self.landmark_path(row))

    def take(self, rows: Int[Tensor, " rows"], skipped: Sequence[str] = ()) -> VideoFrames:
        """The chosen frames, in that order; videos and people keep their numbers."""
        source = ImageFiles(self.source.root, self.source.paths[rows.numpy()])
        return replace(
            self, source=source, video=self.video[rows], person=self.person[rows], skipped=(*self.skipped, *skipped)
        )

    def with_landmarks(self, *, threads: int = 4) -> VideoFrames:
        """Only the frames in which a face was found; the others are listed in `skipped`.

        Opens the landmark file of every frame once.

        Raises
        ------
        ValueError
            If none is left.
        """
        expected = f"({POINTS}, 2) arrays in {LANDMARK_SUFFIX} files beside the frames"
        return self._kept(self.landmarks, (LandmarkError, FileNotFoundError), threads, f"landmarks: {expected}")

    def readable(self, *, threads: int = 4) -> VideoFrames:
        """Only the frames that can be decoded; damaged ones inside a clip are listed in `skipped`.

        Decodes every frame once.

        Raises
        ------
        ValueError
            If none is left.
        """
        return self._kept(self.pixels, (ImageError, OSError), threads, "frames that can be decoded")

    def _kept(
        self, work: Callable[[int], object], errors: tuple[type[Exception], ...], threads: int, expected: str
    ) -> VideoFrames:
        def fault(row: int) -> str:
            try:
                work(row)
            except errors as error:
                return str(error)
            return ""

        faults = list(computed_ahead(fault, range(len(self)), threads=threads))
        kept = torch.tensor([not text for text in faults], dtype=torch.bool)
        return self._among(kept, [text for text in faults if text], f"expected {expected}")

    def at_least(self, frames: int) -> VideoFrames:
        """Only videos of so many frames: consistency between frames needs two.

        Raises
        ------
        ValueError
            If none is left.
        """
        counts = torch.bincount(self.video, minlength=len(self.video_names))
        short = [
            f"{name} ({count} frames)"
            for name, count in zip(self.video_names, counts.tolist(), strict=True)
            if 0 < count < frames
        ]
        return self._among(counts[self.video] >= frames, short, f"expected videos of at least {frames} frames")

    def _among(self, kept: Bool[Tensor, " frames"], skipped: Sequence[str], expected: str) -> VideoFrames:
        if not kept.any():
            raise ValueError(f"{self.name}: none of {len(self)} frames is left; {expected}; {first_few(skipped, 2)}")
        return self.take(torch.nonzero(kept)[:, 0], skipped)

    def of_people(self, names: Sequence[str]) -> VideoFrames:
        """The frames of the chosen people.

        Raises
        ------
        ValueError
            If a person is not there.
        """
        number = {name: index for index, name in enumerate(self.person_names)}
        absent = [name for name in names if name not in number]
        if absent:
            raise ValueError(
                f"{self.name}: no frames of {first_few(absent)}; there are {len(number)} people, such as {first_few(self.person_names, 3)}"
            )
        wanted = torch.tensor([number[name] for name in names])
        return self.take(torch.nonzero(torch.isin(self.person, wanted))[:, 0])

    @property
    def fingerprint(self) -> str:
        """Hash of the list of frames and their videos: the data's part of a cache key."""
        digest = hashlib.sha256(self.source.fingerprint.encode())
        digest.update(self.video.numpy().astype("<i8").tobytes())
        return digest.hexdigest()[:16]


def read_frames(root: str | Path, *, table: SpeakerTable | None = None) -> VideoFrames:
    """Index of VoxCeleb1's faces: the folder ``unzippedIntervalFaces`` or ``unzippedFaces``. No file is opened.

    In the first a video is an utterance (``data/<Speaker_Name>/1.6/<video_id>/<utterance>/*.jpg``), in the second, sparser one all faces of a
    source video (``<Speaker_Name>/1.6/<video_id>/*.jpg``).

    Parameters
    ----------
    root
        The folder; which of the two it is is found out.
    table
        From `paper_utils.data.voxceleb_speakers.read_meta` (``vox1_meta.csv``); folders are named by its column ``VGGFace1 ID``. People of the
        folder whom it does not know are left out and listed.

    Returns
    -------
    VideoFrames
        Sorted by path. ``skipped`` lists other files (but not landmarks) and people not in the table.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    ValueError
        If it holds no frame in either layout, or of nobody in the table.
    """
    root = Path(root)
    expected = "; ".join(f"{name}/{text}" for name, (_, text) in LAYOUTS.items())
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder; expected {expected}")
    held = sorted(
        (Path(parent) / file).relative_to(root).as_posix() for parent, _, files in os.walk(root) for file in files
    )
    # One layout's folders have a level more than the other's, so at most one of them matches a file.
    name, matches = next(
        ((name, found) for name, (wanted, _) in LAYOUTS.items() if (found := _matches(wanted, held))), ("", {})
    )
    if not matches:
        deeper = next((root / layout for layout in LAYOUTS if (root / layout).is_dir()), None)
        hint = f"; is it {deeper}?" if deeper else ""
        raise ValueError(
            f"{root}: no frame among its {len(held)} files ({first_few(held, 3)}); expected {expected}{hint}"
        )
    skipped = [path for path in held if path not in matches and not path.endswith(LANDMARK_SUFFIX)]
    if table is not None:
        unknown = {m["person"] for m in matches.values()} - set(table.vggface_names)
        skipped += [f"{person}: not in {table.name}" for person in sorted(unknown)]
        matches = {path: m for path, m in matches.items() if m["person"] not in unknown}
        if not matches:
            raise ValueError(
                f"{root}: none of its {len(unknown)} people is in {table.name}, such as {first_few(sorted(unknown), 3)}; "
                f"expected folders named by the column VGGFace1 ID, such as {table.vggface_names[0]}"
            )
    videos, people = (sorted({m[key] for m in matches.values()}) for key in ("video", "person"))
    video_of, person_of = ({key: index for index, key in enumerate(keys)} for keys in (videos, people))
    return VideoFrames(
        source=ImageFiles(root, string_array(list(matches), str(root))),
        video=torch.tensor([video_of[m["video"]] for m in matches.values()]),
        video_names=tuple(videos),
        person=torch.tensor([person_of[m["person"]] for m in matches.values()]),
        person_names=tuple(people),
        name=f"VoxCeleb1 {name}",
        people=table,
        skipped=tuple(skipped),
    )


def _matches(wanted: re.Pattern[str], paths: Sequence[str]) -> dict[str, re.Match[str]]:
    return {path: match for path in paths if (match := wanted.fullmatch(path))}
