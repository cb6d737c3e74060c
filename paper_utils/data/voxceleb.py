"""Recordings of VoxCeleb in its official layout, and stored features of papers 02 and 03; who speaks stands in `data.voxceleb_speakers`.

An index of the recordings is made first and everything is checked that can be checked without opening them; sound becomes features when a
batch asks for it, or once and for all with `write_features`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import soundfile
import torch
from jaxtyping import Float, Int
from torch import Tensor

from paper_utils import safe_files
from paper_utils.audio_files import read_audio
from paper_utils.data.face_images import MAX_EAGER_BYTES, computed_ahead, string_array
from paper_utils.data.face_lists import first_few
from paper_utils.data.speech import Recording, Voices
from paper_utils.data.voice_features import FrontEnd
from paper_utils.files import atomic_path, write_text
from paper_utils.nn import whole_batch

RATE = 16_000
BANDS = 64
FEATURE_SETTINGS = "front_end.json"  # beside stored features: how they were made
LONGEST = 100_000  # frames that a file may ask short recordings to be repeated to, 1000 s


# ----------------------------------------------------------------------------------------------------------- recordings


class FeatureError(ValueError):
    """A file of features that cannot be used; the message names it."""


@dataclass(frozen=True)
class Spans:
    """Which stretch of a recording a training batch takes: a random window for each item, in it one random length and place for all.

    Parameters
    ----------
    window
        Frames of the window; shorter recordings are repeated up to it. 800 in the code published with paper 03.
    shortest
        The common length is uniform from `shortest` to `window`; 300 there.
    """

    window: int = 800
    shortest: int = 300

    def __post_init__(self) -> None:
        if not 1 <= self.shortest <= self.window:
            raise ValueError(f"spans: expected 1 <= shortest <= window, found {self.shortest} and {self.window}")


@dataclass(frozen=True, kw_only=True)
class SpeakerRecordings:
    """Recordings, or their stored features, that are read when a batch asks for them; ``recordings[i]`` is a `Recording`.

    Parameters
    ----------
    root
        The folder.
    paths
        Relative to it, with ``/``; an array from `string_array`.
    identities
        For each recording the index of its speaker in `identity_names`.
    identity_names
        Distinct names of the speakers.
    name
        For captions and results files.
    front_end
        Makes features of sound; ``None`` if the files hold features.
    made_by
        The front end that made stored features, if the folder says so; `hear` is the one that a new recording must go through.
    skipped
        Entries of the folder that are no recordings, so that nobody wonders where they went.
    """

    root: Path
    paths: np.ndarray
    identities: Int[Tensor, " n"]
    identity_names: tuple[str, ...]
    name: str
    front_end: FrontEnd | None
    made_by: FrontEnd | None = None
    skipped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.paths) == 0 or len(self.paths) != len(self.identities):
            raise ValueError(
                f"{self.name}: expected recordings with an identity each, found {len(self.paths)} and {len(self.identities)} identities"
            )
        if int(self.identities.min()) < 0 or int(self.identities.max()) >= len(self.identity_names):
            raise ValueError(
                f"{self.name}: identities must lie in 0..{len(self.identity_names) - 1}, "
                f"found {int(self.identities.min())}..{int(self.identities.max())}"
            )

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def hear(self) -> FrontEnd:
        """What sound goes through to become features like these; the published front end if nothing is stated."""
        return self.front_end or self.made_by or FrontEnd()

    @property
    def hop_ms(self) -> float:
        """Time between frames."""
        return self.hear.mel.hop_ms

    @property
    def bands(self) -> int:
        """Mel bands."""
        return BANDS if self.front_end is None else self.front_end.mel.bands

    def where(self, row: int) -> str:
        """Path of the file."""
        return f"{self.root}/{self.paths[row]}"

    def features(self, row: int) -> Float[Tensor, "time mel"]:
        """Features of the whole recording; stored ones as they are.

        Raises
        ------
        FileNotFoundError
            If the file has gone since the index was made.
        ValueError
            If it is damaged, has another format than VoxCeleb's, or nobody speaks (`NoSpeechError`, `FeatureError`); the message names it.
        """
        if self.front_end is None:
            return self._finite(torch.from_numpy(np.array(self._stored(row), dtype=np.float32)), row)
        where = self.where(row)
        samples = read_audio(where, self.front_end.mel.sample_rate, mono=False, allow_resampling=False)
        if len(samples) != 1:
            raise ValueError(
                f"{where}: {len(samples)} channels, VoxCeleb has one; convert it: ffmpeg -i IN -ac 1 OUT.wav"
            )
        kind = soundfile.info(where).subtype
        if kind != "PCM_16":
            raise ValueError(
                f"{where}: samples are {kind}, VoxCeleb's are PCM_16; convert it: ffmpeg -i IN -c:a pcm_s16le OUT.wav"
            )
        return self.front_end.features(samples[0], where)

    def __getitem__(self, row: int) -> Recording:
        if not 0 <= row < len(self):
            raise IndexError(f"{self.name}: recording {row} of {len(self)}")
        return Recording(self.features(row), self.hop_ms, int(self.identities[row]))

    def crops(
        self, rows: Int[Tensor, " rows"], *, generator: torch.Generator, spans: Spans | None = None
    ) -> Float[Tensor, "rows time mel"]:
        """A random stretch of each chosen recording, all of one length; of stored features no more is read than is returned.

        Parameters
        ----------
        rows
            Numbers in ``[0, len)``; any order, repeats allowed.
        generator
            Source of length and places, also of those rows that other processes crop. What is drawn does not depend on the recordings.
        spans
            Defaults to those of the published code. Sound with less than a window of features is repeated.

        Raises
        ------
        FileNotFoundError, ValueError
            As `features`; also if a row number is out of range, or stored features are shorter than the window (`FeatureError`).
        """
        if len(rows) == 0 or int(rows.min()) < 0 or int(rows.max()) >= len(self):
            raise ValueError(
                f"{self.name}: expected rows in 0..{len(self) - 1}, at least one, found {rows.tolist()[:5]}"
            )
        spans = spans or Spans()
        length = int(torch.randint(spans.shortest, spans.window + 1, (), generator=generator))
        offset = int(torch.randint(spans.window - length + 1, (), generator=generator))
        places = whole_batch.own(torch.rand(whole_batch.count(rows), generator=generator, dtype=torch.float64))
        crops = torch.empty(len(rows), length, self.bands)
        for crop, row, place in zip(crops, rows.tolist(), places.tolist(), strict=True):
            frames = self.features(row).numpy() if self.front_end is not None else self._long_enough(row, spans.window)
            first = int(place * (max(len(frames) - spans.window, 0) + 1)) + offset
            if first + length <= len(frames):
                part = frames[first : first + length]
            else:  # sound shorter than the window
                part = frames[(first + np.arange(length)) % len(frames)]
            crop.copy_(torch.from_numpy(np.array(part, dtype=np.float32)))
            self._finite(crop, row)
        return crops

    def _long_enough(self, row: int, window: int) -> np.ndarray:
        frames = self._stored(row)
        if len(frames) < window:
            raise FeatureError(
                f"{self.where(row)}: expected at least the {window} frames of a training window, found {len(frames)}; make the file again "
                "(the front end repeats short recordings up to its minimum), leave it out, or take a shorter window"
            )
        return frames

    def _stored(self, row: int) -> np.ndarray:
        """Features in a file, mapped, not read."""
        where = self.where(row)
        try:
            frames = safe_files.npy(where, f"features (frames, {BANDS})", mmap=True)
        except safe_files.UnreadableFileError as error:
            raise FeatureError(f"{error}; make or copy it again") from error
        if frames.ndim != 2 or frames.shape[1] != BANDS or len(frames) == 0 or frames.dtype.kind != "f":
            hint = "; is it transposed?" if frames.ndim == 2 and frames.shape[0] == BANDS else ""
            raise FeatureError(
                f"{where}: expected floating-point features (frames, {BANDS}) with at least one frame, found {frames.dtype} {frames.shape}{hint}"
            )
        return frames

    def _finite(self, frames: Tensor, row: int) -> Tensor:
        if not torch.isfinite(frames).all():
            raise FeatureError(f"{self.where(row)}: features hold NaN or infinite values; make the file again")
        return frames

    def load(self, rows: Int[Tensor, " rows"] | None = None, *, max_bytes: int = MAX_EAGER_BYTES) -> Voices:
        """All recordings, or the chosen ones, in memory; their phones are not known.

        Raises
        ------
        FileNotFoundError, ValueError
            As `features`; also if they take more than `max_bytes`.
        """
        rows = torch.arange(len(self)) if rows is None else rows
        parts, taken = [], 0
        for row in rows.tolist():
            parts.append(self.features(row))
            taken += parts[-1].numel() * 4
            if taken > max_bytes:
                raise ValueError(
                    f"{self.name}: {len(parts)} of {len(rows)} recordings take {taken} bytes, more than the {max_bytes} allowed; "
                    "fetch batches with `crops` or raise max_bytes"
                )
        return Voices(
            log_mel=torch.cat(parts),
            starts=torch.tensor([0, *np.cumsum([len(part) for part in parts]).tolist()]),
            hop_ms=self.hop_ms,
            identities=self.identities[rows],
            phone_names=(),
            phones=torch.zeros(0, dtype=torch.int64),
            phone_starts=torch.zeros(len(rows) + 1, dtype=torch.int64),
            boundaries_s=torch.zeros(len(rows)),
            name=self.name,
        )

    def take(
        self,
        rows: Int[Tensor, " rows"],
        identities: Int[Tensor, " rows"],
        identity_names: tuple[str, ...],
        name: str,
    ) -> SpeakerRecordings:
        """The chosen recordings under other identities."""
        return replace(
            self, paths=self.paths[rows.numpy()], identities=identities, identity_names=identity_names, name=name
        )

    @property
    def fingerprint(self) -> str:
        """Hash of the list of recordings, their speakers and the front end, not of the sound: the data's part of a cache key."""
        front_end = self.front_end or self.made_by
        settings = None if front_end is None else asdict(front_end)
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
        digest.update("\n".join(self.paths.tolist()).encode())
        digest.update(self.identities.contiguous().numpy().astype("<i8").tobytes())
        return digest.hexdigest()[:16]


def crops_ahead(
    recordings: SpeakerRecordings,
    batches: Iterable[Int[Tensor, " rows"]],
    *,
    seed: int,
    first_step: int = 0,
    spans: Spans | None = None,
    threads: int = 2,
) -> Iterator[Float[Tensor, "rows time mel"]]:
    """Crops of each batch of row numbers, in order, read by `threads` threads; a batch is a pure function of seed, step and rows.

    Parameters
    ----------
    recordings
        Never held in memory beyond the batches being made.
    batches
        Row numbers of each step from `first_step` on, such as `training.batch_indices` gives.
    seed
        Of lengths and places.
    first_step
        Number of the first batch: a resumed run goes on where it stopped.
    spans, threads
        See `SpeakerRecordings.crops`; batches made at once.
    """

    def crops(numbered: tuple[int, Tensor]) -> Tensor:
        step, rows = numbered
        chance = int(np.random.default_rng([seed, step]).integers(2**63 - 1))
        return recordings.crops(rows, generator=torch.Generator().manual_seed(chance), spans=spans)

    return computed_ahead(crops, enumerate(batches, first_step), threads=threads)


# -------------------------------------------------------------------------------------------------------------- folders


def read_wav(root: str | Path, *, front_end: FrontEnd | None = None) -> SpeakerRecordings:
    """Index of ``wav/<id>/<video>/<clip>.wav``, VoxCeleb1's layout; no file is opened.

    Parameters
    ----------
    root
        The folder ``wav``.
    front_end
        `FrontEnd` with its defaults if not given.

    Returns
    -------
    SpeakerRecordings
        Sorted by path; speakers are numbered by their folders' names. ``skipped`` lists other files, and speakers without a recording.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    ValueError
        If it holds no recording, or VoxCeleb2's ``.m4a`` files that were not converted.
    """
    root = Path(root)
    front_end = front_end or FrontEnd()
    paths, skipped = _index(root, re.compile(r"[^/.][^/]*/[^/]+/[^/.][^/]*\.wav"), "<id>/<video>/<clip>.wav", "wav")
    return _recordings(root, paths, skipped, front_end, f"VoxCeleb ({root.name})")


def read_features(root: str | Path) -> SpeakerRecordings:
    """Index of stored features ``fbank/<id or name>/.../*.npy``, each an array (frames, 64): what `write_features` and paper 03's authors make.

    Parameters, returns and errors as for `read_wav`, with the folder ``fbank``; the files are checked when they are read. If there is a
    ``front_end.json``, as `write_features` leaves it, the recordings carry what it says (``made_by``); a damaged one raises `FeatureError`.
    """
    root = Path(root)
    stated = root / FEATURE_SETTINGS
    made_by = _stated_front_end(stated) if stated.is_file() else None
    paths, skipped = _index(root, re.compile(r"[^/.][^/]*/(.+/)?[^/.][^/]*\.npy"), "<id>/<video>/<clip>.npy", "fbank")
    return replace(_recordings(root, paths, skipped, None, f"VoxCeleb features ({root.name})"), made_by=made_by)


def _stated_front_end(path: Path) -> FrontEnd:
    usual = asdict(FrontEnd())
    expected = f"an object with the settings of a front end: {', '.join(usual)}"
    remedy = "make the features again, or remove the file if they are the published ones"
    try:
        stated = safe_files.json_value(path, expected)
    except safe_files.UnreadableFileError as error:
        raise FeatureError(f"{error}; {remedy}") from error
    if not isinstance(stated, dict) or set(stated) != set(usual):
        found = ", ".join(stated) if isinstance(stated, dict) else f"a {type(stated).__name__}"
        raise FeatureError(f"{path}: expected {expected}; found {found or 'nothing':.200}; {remedy}")
    for name, value in stated.items():
        if type(value) is not type(usual[name]):
            raise FeatureError(f"{path}: {name}: expected a value like {usual[name]!r}, found {value!r:.60}; {remedy}")
    if stated["minimum"] > LONGEST:
        raise FeatureError(
            f"{path}: minimum: expected at most {LONGEST} frames, found {stated['minimum']:.6g}; {remedy}"
        )
    try:
        return FrontEnd(**stated)
    except ValueError as error:
        raise FeatureError(f"{path}: {error!s:.300}; {remedy}") from error


def _index(root: Path, wanted: re.Pattern[str], layout: str, folder: str) -> tuple[list[str], list[str]]:
    """Paths of a layout below a folder, and whatever else is there."""
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder; expected {layout} in it")
    paths, others = [], []
    for parent, folders, files in os.walk(root):
        folders.sort()
        below = Path(parent).relative_to(root).as_posix()
        inside = [file if below == "." else f"{below}/{file}" for file in sorted(files)]
        paths += [path for path in inside if wanted.fullmatch(path)]
        others += [path for path in inside if not wanted.fullmatch(path) and path != FEATURE_SETTINGS]
    held = set(paths)
    foreign = [path for path in others if path.endswith(".m4a") and f"{path[:-4]}.wav" not in held]
    if foreign:
        raise ValueError(
            f"{root}: {len(foreign)} files are AAC as VoxCeleb2 is distributed (.m4a), which is not supported: {first_few(foreign, 2)}; convert "
            f"each into the same place of a folder wav: ffmpeg -i {foreign[0]} -ac 1 -ar {RATE} -c:a pcm_s16le wav/{foreign[0][:-4]}.wav"
        )
    if not paths:
        deeper = f"; is it {root / folder}?" if (root / folder).is_dir() else ""
        raise ValueError(
            f"{root}: found no file {layout} ({len(others)} other files: {first_few(others) or 'none'}); expected the folder that holds "
            f"the speakers' folders{deeper}"
        )
    speakers = {path.split("/")[0] for path in paths}
    empty = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and entry.name not in speakers)
    return sorted(paths), [*others, *(f"{name}/ (no {layout})" for name in empty)]


def _recordings(
    root: Path, paths: list[str], skipped: list[str], front_end: FrontEnd | None, name: str
) -> SpeakerRecordings:
    folders = [path.split("/")[0] for path in paths]
    names = sorted(set(folders))
    number = {folder: index for index, folder in enumerate(names)}
    return SpeakerRecordings(
        root=root,
        paths=string_array(paths, str(root)),
        identities=torch.tensor([number[folder] for folder in folders]),
        identity_names=tuple(names),
        name=name,
        front_end=front_end,
        skipped=tuple(skipped),
    )


@dataclass(frozen=True)
class Extraction:
    """What `write_features` did.

    Parameters
    ----------
    written, present
        Files made, and files that were there before.
    left_out
        Recordings without a file of features, each with the reason.
    """

    written: int
    present: int
    left_out: tuple[tuple[str, str], ...]


def write_features(
    recordings: SpeakerRecordings, folder: str | Path, *, report: Callable[[int], object] = lambda _: None
) -> Extraction:
    """Features of every recording as ``<id>/<video>/<clip>.npy`` (frames, 64) float32 below `folder`, for `read_features`.

    Each file is written whole or not at all, and files that are there are kept, so a run that was stopped goes on.

    Parameters
    ----------
    recordings
        With a front end.
    folder
        Where to write, such as ``fbank``; the front end's settings go to ``front_end.json`` in it.
    report
        Called with 1 after each recording; ``tqdm(...).update`` shows progress.

    Returns
    -------
    Extraction
        Recordings that are damaged or without speech have no features; all of them are listed with the reason.

    Raises
    ------
    ValueError
        If the recordings are features already, or the folder holds features of another front end.
    """
    folder = Path(folder)
    if recordings.front_end is None:
        raise ValueError(f"{recordings.name}: these are features already; expected recordings from `read_wav`")
    settings = json.dumps(asdict(recordings.front_end), indent=1, sort_keys=True)
    stated = folder / FEATURE_SETTINGS
    if stated.is_file() and stated.read_text(encoding="utf-8") != settings:
        raise ValueError(f"{stated}: the features in {folder} were made by another front end; write into a new folder")
    write_text(stated, settings)
    written, present, left_out = 0, 0, []
    for row, path in enumerate(recordings.paths.tolist()):
        target = (folder / path).with_suffix(".npy")
        if target.is_file():
            present += 1
        else:
            try:
                features = recordings.features(row)
            except (ValueError, FileNotFoundError) as error:
                left_out.append((path, str(error)))
            else:
                with atomic_path(target) as temporary:
                    np.save(temporary, features.numpy())
                written += 1
        report(1)
    return Extraction(written, present, tuple(left_out))
