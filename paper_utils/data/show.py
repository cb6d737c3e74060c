"""SHOW (Yi et al. 2023) on disk: folders of clips, the split file, and plain arrays instead of pickles.

A clip is ten seconds or less of one of four speakers: SMPL-X parameters at 30 frames a second, and a recording at 22,000 Hz. What the columns
of a frame mean is in `paper_utils.world.pose_layout`; pickles are read by `paper_utils.data.show_pickles`; other forms of a frame are in
`paper_utils.data.show_frames`.
Command line: ``python -m paper_utils.data.show convert SHOW_FOLDER TARGET_FOLDER SMPLX_NEUTRAL.npz``.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from paper_utils import audio, safe_files, safe_pickle
from paper_utils.audio import LogMel
from paper_utils.audio_files import read_audio, resample
from paper_utils.data.face_lists import first_few
from paper_utils.data.motion_clips import Clips
from paper_utils.data.show_pickles import BETAS, HandComponents, motion_vector, read_hand_components, read_pickle
from paper_utils.data.speech import HolisticClip, Recording
from paper_utils.files import atomic_path
from paper_utils.world.pose_layout import COLUMNS

FPS = 30.0
SAMPLE_RATE = 22_000  # Hz, not 22,050
SPEAKERS = ("oliver", "chemistry", "seth", "conan")  # in the order of the released code, which counts them
POSTURES = {"oliver": "sit", "chemistry": "sit", "seth": "sit", "conan": "stand"}
SPLITS = ("train", "val", "test")
MIN_FRAMES = 88  # shorter clips are left out of training; released code
_CLIP = re.compile(r"(?P<interval>[^/]+?)-(?P<start>\d\d_\d\d_\d\d(?:\.\d+)?)-(?P<end>\d\d_\d\d_\d\d(?:\.\d+)?)")

LAYOUT = (
    "expected {speaker}/{video}/{clip}/{clip}.pkl with {clip}.wav (release 1.0), {speaker}/{video}/{clip}.pkl (SHOW's own archives), or either "
    "with a folder train, val or test below the video or at the top"
)


def speaker_number(name: str) -> int:
    """Number of a speaker of SHOW.

    Raises
    ------
    ValueError
        If there is no such speaker.

    Examples
    --------
    >>> speaker_number("conan")
    3
    """
    if name not in SPEAKERS:
        raise ValueError(f"speaker {name!r} is unknown; expected one of {', '.join(SPEAKERS)}")
    return SPEAKERS.index(name)


def clip_seconds(clip: str) -> tuple[float, float]:
    """Begin and end of a clip within its video in seconds, by its name.

    Raises
    ------
    ValueError
        If the name has another form, or the clip ends before it begins.

    Examples
    --------
    >>> clip_seconds("214037-00_12_47-00_12_57")
    (767.0, 777.0)
    """
    found = _CLIP.fullmatch(clip)
    if not found:
        raise ValueError(f"clip name {clip!r}: expected {{interval}}-{{HH_MM_SS}}-{{HH_MM_SS}}")
    times = []
    for name in ("start", "end"):
        hours, minutes, seconds = map(float, found[name].split("_"))
        times.append(3600 * hours + 60 * minutes + seconds)
    if times[1] <= times[0]:
        raise ValueError(f"clip name {clip!r}: the clip ends before it begins")
    return times[0], times[1]


# ---------------------------------------------------------------------------------------------------- folders, splits


@dataclass(frozen=True)
class ShowIndex:
    """Where the clips of SHOW are.

    Parameters
    ----------
    root
        The folder.
    motion, sound
        Path below it of each clip's ``.pkl`` or ``.npz`` and ``.wav``, by ``speaker/video/clip``.
    split
        Part that a clip's folder names, where folders name parts.
    left_out
        Files and clips that are not used, each with the reason.
    """

    root: Path
    motion: dict[str, str]
    sound: dict[str, str]
    split: dict[str, str]
    left_out: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        return len(self.motion)


def index_clips(root: str | Path) -> ShowIndex:
    """Find all clips below a folder, in any of the layouts in use, pickles or converted ones.

    Parameters
    ----------
    root
        Folder that holds the speakers' folders (``ExpressiveWholeBodyDatasetReleaseV1.0``) or the parts'.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    ValueError
        If it holds no clip, or one clip twice.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder; {LAYOUT}")
    motion: dict[str, str] = {}
    sound: dict[str, str] = {}
    split: dict[str, str] = {}
    left_out = []
    for path in _files_below(root):
        entry, part = _entry(path)
        kind = sound if path.endswith(".wav") else motion
        if entry is None:
            left_out.append((path, "no clip of SHOW by its name and folders"))
        elif entry in kind:
            raise ValueError(
                f"{root}: clip {entry} occurs twice, as {kind[entry]} and {path}; index one of the two copies"
            )
        else:
            kind[entry] = path
            if part:
                split[entry] = part
    for entry in sorted(set(motion) ^ set(sound)):
        left_out.append((entry, "sound without motion" if entry in sound else "motion without sound"))
        motion.pop(entry, None)
        sound.pop(entry, None)
        split.pop(entry, None)
    if not motion:
        raise ValueError(f"{root}: found no clip ({first_few([name for name, _ in left_out]) or 'no files'}); {LAYOUT}")
    return ShowIndex(root, dict(sorted(motion.items())), sound, split, tuple(left_out))


def _files_below(root: Path) -> Iterator[str]:
    for parent, folders, names in os.walk(root):
        folders.sort()
        below = Path(parent).relative_to(root).as_posix()
        yield from (name if below == "." else f"{below}/{name}" for name in sorted(names))


def _entry(path: str) -> tuple[str | None, str]:
    """``speaker/video/clip`` of a path in any of the layouts, and the part that a folder names."""
    stem, suffix = os.path.splitext(path)
    parts = stem.split("/")
    part = next((p for p in parts[:-1] if p in SPLITS), "")
    if part:
        parts.remove(part)
    if len(parts) == 4 and parts[2] == parts[3]:
        parts.pop()
    known = len(parts) == 3 and parts[0] in SPEAKERS and suffix in (".pkl", ".npz", ".wav")
    return ("/".join(parts) if known and _CLIP.fullmatch(parts[2]) else None), part


def read_split(path: str | Path) -> dict[str, tuple[str, ...]]:
    """Which clips are for training, validation and test: ``train_val_test.json``, or the older ``split_more_than_2s.pkl``.

    Parameters
    ----------
    path
        JSON ``{"train": ["speaker/video/clip", ...], "val": ..., "test": ...}``, or a pickle ``{speaker: {video: {part: [path]}}}``.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it has another form, names an unknown speaker, or puts a clip into two parts.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected train_val_test.json of the released code")
    if path.suffix == ".pkl":
        found = _old_split(safe_pickle.load(path, allowed={}), path)
    else:
        found = safe_files.json_value(path, "train_val_test.json of the released code")
    if not isinstance(found, dict) or set(found) != set(SPLITS):
        held = list(found)[:5] if isinstance(found, (dict, list)) else f"a {type(found).__name__}"
        raise ValueError(f"{path}: expected the lists {', '.join(SPLITS)}, found {held}")
    seen: dict[str, str] = {}
    for part, entries in found.items():
        if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
            raise ValueError(f"{path}: {part}: expected a list of texts speaker/video/clip")
        for entry in entries:
            pieces = entry.split("/")
            if len(pieces) != 3 or not _CLIP.fullmatch(pieces[2]):
                raise ValueError(f"{path}: {part}: expected speaker/video/clip, found {entry!r}")
            with safe_files.prefixed(path):
                speaker_number(pieces[0])
            if entry in seen:
                raise ValueError(f"{path}: clip {entry} stands in {seen[entry]} and in {part}")
            seen[entry] = part
    return {part: tuple(found[part]) for part in SPLITS}


def _old_split(stored: Any, path: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {part: [] for part in SPLITS}
    try:
        for speaker, videos in stored.items():
            for video, parts in videos.items():
                for part, paths in parts.items():
                    found[part] += [f"{speaker}/{video}/{Path(one).stem}" for one in paths]
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: expected {{speaker: {{video: {{part: [path]}}}}}} ({type(error).__name__}: {error})"
        ) from error
    return found


def split_counts(split: Mapping[str, Sequence[str]]) -> dict[str, dict[str, int]]:
    """Clips of each speaker in each part."""
    return {
        part: {s: sum(entry.split("/")[0] == s for entry in entries) for s in SPEAKERS}
        for part, entries in split.items()
    }


def split_by_video(
    entries: Sequence[str], *, seed: int, shares: tuple[float, float, float] = (0.8, 0.1, 0.1)
) -> dict[str, tuple[str, ...]]:
    """A split in which no video occurs in two parts.

    The published split divides clips: nearly every test video also occurs in training, and most test clips touch a training clip in time, so
    that it says nothing about unseen episodes. Here whole videos are dealt out, each speaker for itself, by number of clips.

    Parameters
    ----------
    entries
        ``speaker/video/clip``.
    seed
        Of the order of the videos.
    shares
        Of the clips, for training, validation, test.

    Raises
    ------
    ValueError
        If the shares do not sum to one, or a speaker has fewer than three videos.
    """
    if abs(sum(shares) - 1) > 1e-9 or min(shares) <= 0:
        raise ValueError(f"shares: expected three positive numbers that sum to 1, found {shares}")
    parts: dict[str, list[str]] = {part: [] for part in SPLITS}
    videos: dict[str, dict[str, list[str]]] = {}
    for entry in sorted(entries):
        speaker, video, _ = entry.split("/")
        videos.setdefault(speaker, {}).setdefault(video, []).append(entry)
    rng = np.random.default_rng(seed)
    for speaker, of_speaker in videos.items():
        if len(of_speaker) < 3:
            raise ValueError(f"speaker {speaker}: {len(of_speaker)} videos do not divide into three parts")
        names = sorted(of_speaker)
        total = sum(map(len, of_speaker.values()))
        dealt = dict.fromkeys(SPLITS, 0)
        for nth, index in enumerate(rng.permutation(len(names))):
            # Every part gets one video first; then each goes where most is missing.
            part = SPLITS[nth] if nth < 3 else max(SPLITS, key=lambda p: shares[SPLITS.index(p)] - dealt[p] / total)
            parts[part] += of_speaker[names[index]]
            dealt[part] += len(of_speaker[names[index]])
    return {part: tuple(sorted(chosen)) for part, chosen in parts.items()}


# ------------------------------------------------------------------------------------------------------------- clips


@dataclass(frozen=True)
class ShowClip:
    """One clip, motion and sound of one length.

    Parameters
    ----------
    name
        ``speaker/video/clip``.
    speaker
        Index into `SPEAKERS`.
    motion
        Full frames at 30 a second.
    betas
        Body shape.
    samples
        Mono at 22,000 Hz, in [-1, 1].
    trimmed
        Seconds of motion and of sound before both were cut to the shorter; None if they agreed to a frame.
    """

    name: str
    speaker: int
    motion: Float[Tensor, "frames 265"]
    betas: Float[Tensor, " betas"]
    samples: Float[Tensor, " samples"]
    trimmed: tuple[float, float] | None = None

    def mfcc(self) -> Float[Tensor, "frames 64"]:
        """64 MFCC for each frame of motion.

        They come at 29.97 a second; where those of a long clip run out, they go back from the last one (mirrored, as in the released code).
        """
        found = audio.mfcc(self.samples[None], audio.TALKSHOW_MEL)[0]
        last = len(found) - 1
        there = torch.arange(len(self.motion))
        # Up and down again, as often as it takes; sound that is long enough for MFCC makes at least two rows.
        return found[last - (there % (2 * last) - last).abs()]

    def holistic(self, mel: LogMel = audio.WORLD_MEL) -> HolisticClip:
        """The clip as every loader of moving bodies gives it, with log-mel features."""
        samples = resample(self.samples, SAMPLE_RATE, mel.sample_rate)
        recording = Recording(audio.log_mel(samples[None], mel)[0], mel.hop_ms, self.speaker)
        return HolisticClip(self.motion, FPS, self.speaker, recording)


def read_clip(index: ShowIndex, name: str, hands: HandComponents | None = None) -> ShowClip:
    """One clip; motion and sound of different length are cut to the shorter, which is noted.

    Parameters
    ----------
    index
        From `index_clips`.
    name
        ``speaker/video/clip``.
    hands
        See `read_hand_components`; not needed for converted clips.

    Raises
    ------
    KeyError
        If the index has no such clip.
    ValueError
        On the faults of `read_pickle` and `read_audio`, or if sound and motion have no frame in common.
    """
    if name not in index.motion:
        raise KeyError(f"{index.root}: no clip {name!r} among {len(index)}; expected speaker/video/clip")
    path = index.root / index.motion[name]
    motion, betas = _converted(path) if path.suffix == ".npz" else _pickled(path, hands)
    samples = read_audio(index.root / index.sound[name], SAMPLE_RATE)
    seconds = len(motion) / FPS, len(samples) / SAMPLE_RATE
    frames = min(len(motion), int(len(samples) * FPS / SAMPLE_RATE + 1e-9))
    if frames < 1:
        raise ValueError(
            f"{path}: {len(motion)} frames of motion and {len(samples)} samples of sound have no frame in common"
        )
    apart = abs(seconds[0] - seconds[1]) * FPS >= 1
    kept = samples[: round(frames * SAMPLE_RATE / FPS)]
    return ShowClip(name, speaker_number(name.split("/")[0]), motion[:frames], betas, kept, seconds if apart else None)


def _pickled(path: Path, hands: HandComponents | None) -> tuple[Tensor, Tensor]:
    if hands is None:
        raise ValueError(
            f"{path}: hands are stored as coefficients; give hands=read_hand_components(SMPLX_NEUTRAL.npz)"
        )
    fields = read_pickle(path)
    return motion_vector(fields, hands), torch.from_numpy(fields["betas"][0])


def _converted(path: Path) -> tuple[Tensor, Tensor]:
    arrays = safe_files.npz(path, "a converted clip with the arrays motion and betas", names=("motion", "betas"))
    for name, shape in (("motion", (None, COLUMNS)), ("betas", (BETAS,))):
        value = arrays.get(name, np.zeros(0))
        fits = value.ndim == len(shape) and all(n in (None, m) for n, m in zip(shape, value.shape, strict=True))
        if not fits or value.dtype.kind != "f" or not np.isfinite(value).all():
            raise ValueError(
                f"{path}: {name}: expected finite {shape}, found {value.shape} of {value.dtype}; convert it again"
            )
    motion, betas = (torch.from_numpy(arrays[name].astype(np.float32)) for name in ("motion", "betas"))
    return motion, betas


@dataclass(frozen=True)
class LoadReport:
    """What happened to the clips that were asked for; nothing is skipped silently.

    Parameters
    ----------
    used
        Names, in the order of the result.
    trimmed
        Name, seconds of motion, seconds of sound of clips that were cut to the shorter.
    left_out
        Name and reason.
    """

    used: tuple[str, ...]
    trimmed: tuple[tuple[str, float, float], ...]
    left_out: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        cut = "".join(
            f"\n  {name}: motion {a:.2f} s, sound {b:.2f} s, cut to the shorter" for name, a, b in self.trimmed
        )
        out = "".join(f"\n  {name}: {reason}" for name, reason in self.left_out)
        return f"{len(self.used)} clips used, {len(self.trimmed)} trimmed, {len(self.left_out)} left out{cut}{out}"


def load_clips(
    index: ShowIndex,
    names: Sequence[str],
    hands: HandComponents | None = None,
    *,
    features: Callable[[ShowClip], Float[Tensor, "frames features"]] = ShowClip.mfcc,
    min_frames: int = MIN_FRAMES,
) -> tuple[Clips, LoadReport]:
    """Motion and sound features of many clips in memory, for training.

    Parameters
    ----------
    index, hands
        As for `read_clip`.
    names
        Clips, such as a part of `read_split`.
    features
        From a clip to its sound features, one row a frame.
    min_frames
        Shorter clips are left out, as are damaged ones; the report lists them with the reason.

    Raises
    ------
    ValueError
        If no clip is left.
    """
    items, used, trimmed, left_out = [], [], [], []
    for name in names:
        try:
            clip = read_clip(index, name, hands)
        except (KeyError, ValueError, FileNotFoundError) as error:
            left_out.append((name, str(error)))
            continue
        if len(clip.motion) < min_frames:
            left_out.append((name, f"{len(clip.motion)} frames, fewer than {min_frames}"))
            continue
        if clip.trimmed:
            trimmed.append((name, *clip.trimmed))
        items.append((clip.motion, features(clip), clip.speaker))
        used.append(name)
    report = LoadReport(tuple(used), tuple(trimmed), tuple(left_out))
    if not items:
        raise ValueError(f"{index.root}: none of {len(names)} clips can be used; {report}")
    return Clips.joined(items, f"SHOW ({index.root.name})"), report


# -------------------------------------------------------------------------------------------------------- conversion


def convert(
    index: ShowIndex, target: str | Path, hands: HandComponents, *, report: Callable[[int], object] = lambda _: None
) -> tuple[int, tuple[tuple[str, str], ...]]:
    """Write every clip as plain arrays, ``{speaker}/{video}/{clip}.npz`` with ``motion`` and ``betas``, and its recording beside it.

    Files that are there are kept, so a run that was stopped goes on; each is written whole or not at all.

    Parameters
    ----------
    index
        Of the pickles.
    target
        Folder to write to; `index_clips` reads it.
    hands
        See `read_hand_components`.
    report
        Called with 1 after each clip.

    Returns
    -------
    Number of clips in the target, and those that could not be converted, each with the reason.
    """
    target, failed, done = Path(target), [], 0
    for name, path in index.motion.items():
        array = target / f"{name}.npz"
        recording = array.with_suffix(".wav")
        try:
            if not array.is_file():
                motion, betas = _pickled(index.root / path, hands)
                with atomic_path(array) as temporary:
                    np.savez_compressed(temporary, motion=motion.numpy(), betas=betas.numpy())
            if not recording.is_file():
                with atomic_path(recording) as temporary:
                    shutil.copyfile(index.root / index.sound[name], temporary)
            done += 1
        except (ValueError, FileNotFoundError) as error:
            failed.append((name, str(error)))
        report(1)
    return done, tuple(failed)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: ``convert SOURCE TARGET MODEL``."""
    parser = argparse.ArgumentParser(
        prog="python -m paper_utils.data.show", description="Turn SHOW's pickles into plain arrays."
    )
    parser.add_argument("command", choices=["convert"])
    parser.add_argument("source", type=Path, help="folder with SHOW's clips")
    parser.add_argument("target", type=Path, help="folder to write to")
    parser.add_argument("model", type=Path, help="SMPLX_NEUTRAL.npz, for its hand components")
    chosen = parser.parse_args(arguments)
    try:
        index = index_clips(chosen.source)
        done, failed = convert(index, chosen.target, read_hand_components(chosen.model))
    except (OSError, ValueError) as error:
        parser.exit(1, f"{error}\n")
    for name, reason in (*index.left_out, *failed):
        print(f"left out: {name}: {reason}")
    print(f"{done} clips in {chosen.target}, {len(index.left_out) + len(failed)} left out")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
