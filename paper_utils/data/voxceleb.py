"""VoxCeleb in its official layout: the table of speakers, their recordings, and stored features of papers 02 and 03.

An index of the recordings is made first and everything is checked that can be checked without opening them; sound becomes features when a
batch asks for it, or once and for all with `write_features`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import soundfile
import torch
from jaxtyping import Float, Int
from torch import Tensor

from paper_utils import safe_files
from paper_utils.audio_files import read_audio
from paper_utils.data.face_images import MAX_EAGER_BYTES, computed_ahead, string_array
from paper_utils.data.face_lists import first_few, read_lines
from paper_utils.data.speech import Recording, Voices
from paper_utils.data.voice_features import FrontEnd
from paper_utils.files import atomic_path, write_text
from paper_utils.nn import whole_batch

META_COLUMNS = (
    "VoxCeleb1 ID",
    "VGGFace1 ID",
    "Gender",
    "Nationality",
    "Set",
)  # vox1_meta.csv as published, tab-separated
LIST_COLUMNS = (
    "VoxCeleb1_ID",
    "VGGFace1_ID",
    "Gender",
    "Nationality",
    "Set",
)  # vox1_{train,val,test}.csv, comma-separated
SEXES = ("woman", "man")  # as in the synthetic world
_SEX_OF_LETTER = {"f": 0, "m": 1}

# First letters of the parts of the split that papers 02 and 03 use (released code of paper 03; the lists of a follow-up agree).
LETTERS = {"train": ("F", "Z"), "val": ("A", "B"), "test": ("C", "E")}
# People of VoxCeleb1 of whom the papers have no usable faces: ``none`` in the lists of the follow-up. 18, 4 and 4 of the parts above.
WITHOUT_FACES = tuple(
    f"id{number}"
    for number in (
        10362, 10363, 10397, 10398, 10414, 10528, 10710, 10762, 10801, 10807, 10813, 10973, 11022, 11035, 11036, 11124, 11135, 11146,
        10001, 10002, 10006, 10077,
        10143, 10144, 10204, 10260,
    )
)  # fmt: skip
PUBLISHED_PEOPLE = {"train": 924, "val": 112, "test": 189}  # papers 02 and 03

RATE = 16_000
HOP_MS = 10.0  # of stored features
BANDS = 64
FEATURE_SETTINGS = "front_end.json"  # beside stored features: how they were made


# ------------------------------------------------------------------------------------------------------------- speakers


@dataclass(frozen=True)
class SpeakerTable:
    """Who speaks: VoxCeleb1 identifier, name in VGGFace, sex and nationality; struct of arrays, one row a person.

    Parameters
    ----------
    voxceleb_ids
        ``id10001`` and so on.
    vggface_names
        ``A.J._Buckley``: the name of the person's folder of faces.
    sex
        Index into `SEXES`, from the letters ``f`` and ``m``.
    nationality
        Index into `nationalities`, as published: the 20 people labelled Norway, for example, are nearly all French.
    nationalities
        Names in alphabetical order. A part of a table keeps all of them, so that codes mean the same in every part.
    official_set
        VoxCeleb1's own split for speaker verification (``dev``, ``test``); papers 02 and 03 do not use it.
    name
        Where the table comes from.
    dropped
        Identifiers of people that the source knows and leaves out.
    """

    voxceleb_ids: tuple[str, ...]
    vggface_names: tuple[str, ...]
    sex: Int[np.ndarray, " people"]
    nationality: Int[np.ndarray, " people"]
    nationalities: tuple[str, ...]
    official_set: tuple[str, ...]
    name: str
    dropped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.voxceleb_ids)

    @cached_property
    def _row(self) -> dict[str, int]:
        return {key: row for keys in (self.voxceleb_ids, self.vggface_names) for row, key in enumerate(keys)}

    def rows(self, folders: Sequence[str]) -> Int[np.ndarray, " folders"]:
        """Row of the person that each folder belongs to, named by identifier or by name; -1 for folders of nobody in the table."""
        return np.fromiter((self._row.get(folder, -1) for folder in folders), np.int64, len(folders))

    def take(
        self, rows: Int[np.ndarray, " chosen"], name: str | None = None, *, dropped: Sequence[str] = ()
    ) -> SpeakerTable:
        """The chosen people, in the order given; codes of nationalities stay as they are."""
        columns = {
            column: tuple(getattr(self, column)[row] for row in rows)
            for column in ("voxceleb_ids", "vggface_names", "official_set")
        }
        return replace(
            self, **columns, sex=self.sex[rows], nationality=self.nationality[rows], name=name or self.name, dropped=tuple(dropped)
        )  # fmt: skip

    @property
    def covariates(self) -> dict[str, Int[Tensor, " people"]]:
        """``sex`` and ``nationality`` of each person, under the names that the synthetic world uses."""
        return {"sex": torch.from_numpy(self.sex.copy()), "nationality": torch.from_numpy(self.nationality.copy())}

    @property
    def covariate_names(self) -> dict[str, tuple[str, ...]]:
        """What the codes of each covariate stand for."""
        return {"sex": SEXES, "nationality": self.nationalities}


def read_meta(path: str | Path) -> SpeakerTable:
    """``vox1_meta.csv`` as published: separated by tabs in spite of its name, 1,251 people in the complete one.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a column is missing or has another name, a field is empty or not of its kind, or an identifier or a name comes twice; the message
        has the line.
    """
    path = Path(path)
    rows = _table_rows(path, META_COLUMNS, "\t")
    for number, fields in rows:
        if fields[4] not in ("dev", "test"):
            raise ValueError(f"{path}: line {number} has Set {fields[4]!r}; expected 'dev' or 'test'")
    nationalities = tuple(sorted({fields[3] for _, fields in rows}))
    code = {nation: index for index, nation in enumerate(nationalities)}
    ids, names, letters, nations, sets = zip(*(fields for _, fields in rows), strict=True)
    return SpeakerTable(
        voxceleb_ids=ids,
        vggface_names=names,
        sex=np.array([_SEX_OF_LETTER[letter] for letter in letters], dtype=np.int64),
        nationality=np.array([code[nation] for nation in nations], dtype=np.int64),
        nationalities=nationalities,
        official_set=sets,
        name=path.stem,
    )


def read_split_list(path: str | Path, table: SpeakerTable) -> SpeakerTable:
    """One part of a published split, ``vox1_train.csv``, ``vox1_val.csv`` or ``vox1_test.csv``: comma-separated, ``Set`` none is left out.

    Parameters
    ----------
    path
        The file.
    table
        All people, from `read_meta`: nationalities keep its codes, and what both state must agree.

    Returns
    -------
    SpeakerTable
        In the order of the list; ``dropped`` has the identifiers whose set is ``none``.

    Raises
    ------
    FileNotFoundError, ValueError
        As `read_meta`; also for a person whom the table does not hold or describes otherwise, and if nobody is left.
    """
    path = Path(path)
    kept, dropped = [], []
    for number, fields in _table_rows(path, LIST_COLUMNS, ","):
        row = int(table.rows(fields[:1])[0])
        if row < 0:
            raise ValueError(
                f"{path}: line {number} names {fields[0]}, who is not in {table.name} ({len(table)} people)"
            )
        known = (table.vggface_names[row], "fm"[table.sex[row]], table.nationalities[table.nationality[row]])
        for column, stated, other in zip(LIST_COLUMNS[1:4], fields[1:4], known, strict=True):
            if stated != other:
                raise ValueError(
                    f"{path}: line {number} has {column} {stated!r} of {fields[0]}, {table.name} has {other!r}; use files of one release"
                )
        if fields[4].lower() == "none":
            dropped.append(fields[0])
        else:
            kept.append(row)
    if not kept:
        raise ValueError(f"{path}: all {len(dropped)} people have Set 'none'; expected people to keep")
    return table.take(np.array(kept), path.stem, dropped=dropped)


def letter_split(table: SpeakerTable, *, without: Sequence[str] = WITHOUT_FACES) -> dict[str, SpeakerTable]:
    """The split of papers 02 and 03 by the first letter of the name in VGGFace: A-B validation, C-E test, F-Z training.

    With the complete table this gives 924, 112 and 189 people; 942, 116 and 193 if nobody is left out.

    Parameters
    ----------
    table
        All people.
    without
        Identifiers of people to leave out, each then listed in ``dropped`` of its part; those not in the table are passed over.

    Raises
    ------
    ValueError
        If a name does not begin with a letter from A to Z.
    """
    letters = [name[:1].upper() for name in table.vggface_names]
    for name, letter in zip(table.vggface_names, letters, strict=True):
        if not "A" <= letter <= "Z":
            raise ValueError(
                f"{table.name}: the name {name!r} begins with no letter from A to Z, so the split by letters has no place for it"
            )
    parts = {}
    for part, (first, last) in LETTERS.items():
        inside = [row for row, letter in enumerate(letters) if first <= letter <= last]
        kept = [row for row in inside if table.voxceleb_ids[row] not in without]
        dropped = [table.voxceleb_ids[row] for row in inside if table.voxceleb_ids[row] in without]
        parts[part] = table.take(np.array(kept, dtype=np.int64), f"{table.name}, {part}", dropped=dropped)
    return parts


def _table_rows(path: Path, columns: tuple[str, ...], separator: str) -> list[tuple[int, list[str]]]:
    """Line number and fields of each person, checked."""
    shape = f"the columns {', '.join(columns)}, separated by {'tabs' if separator == chr(9) else 'commas'}"
    lines = read_lines(path, shape)
    header = [name.strip() for name in lines[0].split(separator)]
    missing = [name for name in columns if name not in header]
    if missing:
        raise ValueError(f"{path}: line 1 lacks {', '.join(missing)}: {lines[0][:80]!r}; expected {shape}")
    if tuple(header) != columns:
        raise ValueError(f"{path}: line 1 has the columns {', '.join(header)}; expected {shape}, in this order")
    if len(lines) == 1:
        raise ValueError(f"{path}: there are no people below the header; expected one line for each")
    rows, seen = [], {}
    for number, line in enumerate(lines[1:], 2):
        fields = [field.strip() for field in line.split(separator)]
        if len(fields) != len(columns):
            raise ValueError(f"{path}: line {number} has {len(fields)} fields: {line[:80]!r}; expected {shape}")
        for column, field in zip(columns, fields, strict=True):
            if not field:
                raise ValueError(
                    f"{path}: line {number} ({fields[0] or 'no identifier'}) has no {column}; fill it in or remove the person"
                )
        if not re.fullmatch(r"id\d{5}", fields[0]):
            raise ValueError(f"{path}: line {number} has the identifier {fields[0]!r}; expected 'id' and five digits")
        if re.search(r"[\s/\\]", fields[1]):
            raise ValueError(
                f"{path}: line {number} has the name {fields[1]!r}; expected a folder's name without blanks and slashes"
            )
        if fields[2] not in _SEX_OF_LETTER:
            raise ValueError(f"{path}: line {number} ({fields[0]}) has {columns[2]} {fields[2]!r}; expected 'f' or 'm'")
        for column, key in zip(columns[:2], fields[:2], strict=True):
            if key in seen:
                raise ValueError(
                    f"{path}: line {number} repeats the {column} {key} of line {seen[key]}; keep one of them"
                )
            seen[key] = number
        rows.append((number, fields))
    return rows


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
    skipped
        Entries of the folder that are no recordings, so that nobody wonders where they went.
    """

    root: Path
    paths: np.ndarray
    identities: Int[Tensor, " n"]
    identity_names: tuple[str, ...]
    name: str
    front_end: FrontEnd | None
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
    def hop_ms(self) -> float:
        """Time between frames."""
        return HOP_MS if self.front_end is None else self.front_end.mel.hop_ms

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
            Defaults to those of the published code.

        Raises
        ------
        FileNotFoundError, ValueError
            As `features`; also if a row number is out of range.
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
            frames = self._stored(row) if self.front_end is None else self.features(row).numpy()
            first = int(place * (max(len(frames) - spans.window, 0) + 1)) + offset
            if first + length <= len(frames):
                part = frames[first : first + length]
            else:  # shorter than the window
                part = frames[(first + np.arange(length)) % len(frames)]
            crop.copy_(torch.from_numpy(np.array(part, dtype=np.float32)))
            self._finite(crop, row)
        return crops

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
        settings = None if self.front_end is None else asdict(self.front_end)
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

    Parameters, returns and errors as for `read_wav`, with the folder ``fbank``; the files are checked when they are read.
    """
    root = Path(root)
    paths, skipped = _index(root, re.compile(r"[^/.][^/]*/(.+/)?[^/.][^/]*\.npy"), "<id>/<video>/<clip>.npy", "fbank")
    return _recordings(root, paths, skipped, None, f"VoxCeleb features ({root.name})")


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
