"""Single phones and who said them: tokens with features, tables of measurements by subject, and the corpora they are read from.

TIMIT, folders of Praat or Montreal-Forced-Aligner TextGrids, and the layout of paper 10's own collection become the same two types,
`PhoneTokens` and `SubjectTable`; the synthetic world gives them too.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from paper_utils import safe_files
from paper_utils.audio import VISAGE_MEL, LogMel, fit_frames, log_mel, standardise_frames
from paper_utils.audio_files import read_audio
from paper_utils.data import alignments
from paper_utils.data.alignments import SILENCE_LABELS, Interval, TextGrid, Tier
from paper_utils.data.speech import SILENCE, Alignment, Voices
from paper_utils.world.phones import PHONES

SEXES = ("woman", "man")
CORPUS_MEL = LogMel(bands=40)
# How far an alignment may reach past its recording: one analysis window. Aligners round to frames.
TOLERANCE_S = 0.025
_SEX_NAMES = {"f": 0, "female": 0, "woman": 0, "w": 0, "m": 1, "male": 1, "man": 1}


# ----------------------------------------------------------------------------------------------------------- tokens


@dataclass(frozen=True)
class PhoneTokens:
    """Phones cut out of speech, every one with the same number of frames.

    Parameters
    ----------
    features
        Log-mel frames without their level: mean 0 and standard deviation 1 over the bands of each frame.
    phones
        Index into `phone_names`.
    subjects
        Integer name of each token's speaker.
    seconds
        How long each token lasts.
    phone_names
        As the corpus calls them.
    name
        Where they come from.

    Raises
    ------
    ValueError
        If there are no tokens, lengths differ, a phone is out of range or a feature is not finite.
    """

    features: Float[Tensor, "tokens frames bands"]
    phones: Int[Tensor, " tokens"]
    subjects: Int[Tensor, " tokens"]
    seconds: Float[Tensor, " tokens"]
    phone_names: tuple[str, ...]
    name: str

    def __post_init__(self) -> None:
        count = len(self.features)
        if count == 0:
            raise ValueError(f"{self.name}: there are no phones")
        if not count == len(self.phones) == len(self.subjects) == len(self.seconds):
            raise ValueError(
                f"{self.name}: {count} tokens with {len(self.phones)} phones, {len(self.subjects)} subjects, {len(self.seconds)} durations"
            )
        if int(self.phones.min()) < 0 or int(self.phones.max()) >= len(self.phone_names):
            raise ValueError(f"{self.name}: phones must be indices of the {len(self.phone_names)} phone_names")
        if not torch.isfinite(self.features).all():
            raise ValueError(f"{self.name}: features hold NaN or infinite values")

    def __len__(self) -> int:
        return len(self.features)

    def take(self, rows: Tensor) -> PhoneTokens:
        """The chosen tokens, by mask or index."""
        return replace(
            self, **{name: getattr(self, name)[rows] for name in ("features", "phones", "subjects", "seconds")}
        )

    def of(self, phone: str) -> PhoneTokens:
        """The tokens of one phone.

        Raises
        ------
        ValueError
            If there are none; the message lists the phones that there are.
        """
        present = [self.phone_names[code] for code in self.phones.unique().tolist()]
        if phone not in present:
            raise ValueError(f"{self.name}: no token of {phone!r}; there are {' '.join(present)}")
        return self.take(self.phones == self.phone_names.index(phone))

    def subject_means(
        self, subjects: Int[np.ndarray, " subjects"]
    ) -> tuple[Float[np.ndarray, "phones subjects values"], Int[np.ndarray, "phones subjects"]]:
        """Mean features of each subject's tokens of each phone, and how many there are; NaN where there is none.

        Parameters
        ----------
        subjects
            Whose, and in which order.
        """
        order = np.argsort(subjects)
        place = np.searchsorted(subjects[order], self.subjects.numpy())
        place = np.minimum(place, len(subjects) - 1)
        known = subjects[order][place] == self.subjects.numpy()
        cell = self.phones.numpy() * len(subjects) + order[place]
        shape = len(self.phone_names), len(subjects)
        count = np.bincount(cell[known], minlength=shape[0] * shape[1])
        flat = self.features.flatten(1)[torch.from_numpy(known)].double()
        total = torch.zeros(len(count), flat.shape[1], dtype=torch.float64)
        total.index_add_(0, torch.from_numpy(cell[known]), flat)
        means = total.numpy() / np.where(count > 0, count, np.nan)[:, None]
        return means.reshape(*shape, -1), count.reshape(shape)


def phone_tokens(
    voices: Voices, frames: int = 5, *, layout: str = "stretched", phones: Sequence[str] | None = None
) -> PhoneTokens:
    """Cut recordings into phones; silence is left out.

    Parameters
    ----------
    voices
        Recordings with alignments.
    frames
        Of each token.
    layout
        ``"stretched"``: at equal parts of the phone, so that neither its length nor the rate of speech can be read off. ``"padded"``: frame after
        frame from its beginning, cut or filled with zeros, as paper 10's release does.
    phones
        Only these. By default all that occur.

    Raises
    ------
    ValueError
        If the layout is unknown, a recording has no phones, one of them reaches past its sound, or a phone that was asked for never occurs.
    """
    if layout not in ("stretched", "padded"):
        raise ValueError(f"layout: expected 'stretched' or 'padded', found {layout!r}")
    if frames < 1:
        raise ValueError(f"frames: expected at least 1, found {frames}")
    recording, begin, end = _spans(voices)
    code = voices.phones.long()
    names = [name for name in voices.phone_names if name != SILENCE] if phones is None else list(phones)
    missing = [name for name in names if name not in voices.phone_names]
    lookup = torch.tensor([names.index(name) if name in names else -1 for name in voices.phone_names])
    kept = lookup[code] >= 0
    found = set(lookup[code][kept].tolist())
    if phones is not None and (missing or len(found) < len(names)):
        absent = [name for i, name in enumerate(names) if name in missing or i not in found]
        raise ValueError(f"{voices.name}: no token of {', '.join(absent)}; leave them out of phones")
    recording, begin, end, label = recording[kept], begin[kept], end[kept], lookup[code][kept]
    first, length = voices.starts[recording], voices.starts.diff()[recording]
    hop_s = voices.hop_ms / 1000
    if layout == "stretched":
        share = (torch.arange(frames, dtype=torch.float64) + 0.5) / frames
        at = (begin[:, None] + share * (end - begin)[:, None]) / hop_s
        low = at.floor().long()
        part = (at - low).float()[..., None]
        rows = [first[:, None] + torch.minimum(low + step, length[:, None] - 1) for step in (0, 1)]
        features = standardise_frames(torch.lerp(voices.log_mel[rows[0]], voices.log_mel[rows[1]], part))
    else:
        first_frame, past = (
            (times / hop_s - 1e-3).ceil().long() for times in (begin, end)
        )  # boundaries are single precision
        low = first_frame[:, None] + torch.arange(frames)
        inside = (low < past[:, None]) & (low < length[:, None])
        rows = first[:, None] + torch.minimum(low, length[:, None] - 1)
        features = standardise_frames(voices.log_mel[rows]) * inside[..., None]
    used = sorted(set(label.tolist()))
    compact = torch.full((len(names),), -1).scatter(0, torch.tensor(used), torch.arange(len(used)))
    return PhoneTokens(
        features.contiguous(),
        compact[label],
        voices.identities[recording].long(),
        (end - begin).float(),
        tuple(names[i] for i in used),
        voices.name,
    )


def _spans(voices: Voices) -> tuple[Tensor, Tensor, Tensor]:
    """Recording, begin and end in seconds of every phone."""
    unknown = int((voices.phone_starts.diff() == 0).sum())
    if unknown:
        raise ValueError(
            f"{voices.name}: the phones of {unknown} of {len(voices)} recordings are not known; align them"
        )
    recording = torch.repeat_interleave(torch.arange(len(voices)), voices.phone_starts.diff())
    at = torch.arange(len(voices.phones)) + recording
    begin, end = voices.boundaries_s[at].double(), voices.boundaries_s[at + 1].double()
    over = end - voices.starts.diff()[recording] * (voices.hop_ms / 1000)
    if float(over.max()) > TOLERANCE_S + voices.hop_ms / 1000:
        worst = int(recording[over.argmax()])
        raise ValueError(
            f"{voices.name}: recording {worst}: its alignment ends {float(over.max()):.3f} s past its sound; do they belong together?"
        )
    return recording, begin, end


# ---------------------------------------------------------------------------------------------------------- subjects


@dataclass(frozen=True)
class SubjectTable:
    """What is measured on people, one row a subject.

    Parameters
    ----------
    subjects
        Integer name of each.
    sex
        Index into `SEXES`, -1 if unknown.
    values
        Measurements; NaN where one is missing.
    names
        Of the measurements.
    covariates
        What else is known of each subject, by name.
    labels
        What the corpus calls each subject. Empty: the numbers themselves.
    name
        Where the table comes from.

    Raises
    ------
    ValueError
        If lengths differ or a subject stands there twice.
    """

    subjects: Int[np.ndarray, " subjects"]
    sex: Int[np.ndarray, " subjects"]
    values: Float[np.ndarray, "subjects measurements"]
    names: tuple[str, ...]
    covariates: dict[str, np.ndarray] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    name: str = "measurements"

    def __post_init__(self) -> None:
        count = len(self.subjects)
        if self.values.shape != (count, len(self.names)) or len(self.sex) != count:
            raise ValueError(
                f"{self.name}: {count} subjects and {len(self.names)} names, but values {self.values.shape} and {len(self.sex)} sexes"
            )
        twice = [number for number, times in Counter(self.subjects.tolist()).items() if times > 1]
        if twice:
            raise ValueError(f"{self.name}: subjects that stand there twice: {twice[:5]}; keep one row of each")

    def __len__(self) -> int:
        return len(self.subjects)

    def take(self, rows: np.ndarray) -> SubjectTable:
        """The chosen subjects, by mask or index, in that order."""
        rows = np.flatnonzero(rows) if np.asarray(rows).dtype == bool else np.asarray(rows)
        return replace(
            self,
            subjects=self.subjects[rows],
            sex=self.sex[rows],
            values=self.values[rows],
            covariates={name: column[rows] for name, column in self.covariates.items()},
            labels=tuple(self.labels[row] for row in rows) if self.labels else (),
        )

    def of_sex(self, sex: str) -> SubjectTable:
        """The women or the men.

        Raises
        ------
        ValueError
            If the name is neither or nobody has that sex.
        """
        if sex not in SEXES:
            raise ValueError(f"sex: expected one of {', '.join(SEXES)}, found {sex!r}")
        rows = self.sex == SEXES.index(sex)
        if not rows.any():
            raise ValueError(f"{self.name}: no {sex} among {len(self)} subjects; does the table have a column sex?")
        return self.take(rows)


def matched(
    tokens: PhoneTokens, table: SubjectTable, *, missing: str = "raise"
) -> tuple[PhoneTokens, SubjectTable, tuple[str, ...]]:
    """Speech and measurements of the people who have both.

    Parameters
    ----------
    tokens, table
        Of any people.
    missing
        ``"raise"`` if a speaker has no measurements; ``"drop"`` leaves such speakers out and names them. (The release of paper 10 gives them the
        target 0.) People with measurements who do not speak are always left out.

    Returns
    -------
    tuple
        Tokens, table, and the speakers left out.

    Raises
    ------
    ValueError
        If speakers are missing in the table and may not be dropped, or nobody is left.
    """
    if missing not in ("raise", "drop"):
        raise ValueError(f"missing: expected 'raise' or 'drop', found {missing!r}")
    speaking = np.unique(tokens.subjects.numpy())
    complete = table.take(np.isfinite(table.values).all(1))
    lost = tuple(str(number) for number in np.setdiff1d(speaking, complete.subjects))
    if lost and missing == "raise":
        raise ValueError(
            f"{tokens.name}: {len(lost)} of {len(speaking)} speakers have no (complete) measurements in {table.name}: "
            f"{', '.join(lost[:10])}{' ...' if len(lost) > 10 else ''}; measure them, or pass missing='drop'"
        )
    kept = complete.take(np.isin(complete.subjects, speaking))
    if len(kept) == 0:
        raise ValueError(f"{tokens.name} and {table.name} have no subject in common; are the subjects named alike?")
    rows = torch.from_numpy(np.isin(tokens.subjects.numpy(), kept.subjects))
    return tokens.take(rows), kept, lost


def read_measurements(
    path: str | Path,
    *,
    subject: str | None = None,
    covariates: Sequence[str] = (),
    speakers: Sequence[str] | None = None,
) -> SubjectTable:
    """A CSV of measurements, one row a speaker; ``AMs_final.csv`` of paper 10 (columns ID, 1, ..., 96) is one.

    Parameters
    ----------
    path
        A header, then numbers. A column ``sex`` (F or M, female or male) is understood; empty cells are missing values.
    subject
        Column that names the speaker; by default ``speaker`` or ``ID``.
    covariates
        Columns that are no measurements but known of the speaker (age, height); words become numbers in alphabetical order.
    speakers
        Names of the speakers of a corpus in the order of their numbers, to number the rows alike. By default the names are whole numbers.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a column is missing, a cell is no number, a sex is unknown, a speaker stands there twice or is not in `speakers`.
    """
    table = _read_csv(path)
    column = subject or next((name for name in ("speaker", "ID") if name in table), None)
    absent = [name for name in (column, *covariates) if name not in table]
    if absent:
        raise ValueError(
            f"{path}: no column {', '.join(map(repr, absent))}; found {', '.join(table.columns[:8])}; say subject='...' if speakers stand elsewhere"
        )
    sex = _sexes(table["sex"], path) if "sex" in table else np.full(len(table), -1)
    measured = [name for name in table if name not in {column, "sex", *covariates}]
    if not measured:
        raise ValueError(f"{path}: there is no column of measurements beside {', '.join(table.columns)}")
    labels = [str(label).strip() for label in table[column]]
    return SubjectTable(
        subjects=_numbers_of(labels, speakers, path),
        sex=sex,
        values=np.column_stack([_numeric(table, name, path) for name in measured]),
        names=tuple(measured),
        covariates={name: _covariate(table, name) for name in covariates},
        labels=tuple(labels),
        name=Path(path).name,
    )


def _read_csv(path: str | Path) -> pd.DataFrame:
    table = safe_files.csv(path, "a CSV with one row a speaker", dtype=str, skipinitialspace=True)
    if table.empty:
        raise ValueError(f"{path}: expected a header and one row a speaker, found no rows")
    return table


def _numeric(table: pd.DataFrame, name: str, path: str | Path) -> np.ndarray:
    numbers = pd.to_numeric(table[name], errors="coerce")
    wrong = np.flatnonzero(numbers.isna() & table[name].notna())
    if len(wrong):
        row = int(wrong[0])
        raise ValueError(
            f"{path}: line {row + 2}, column {name!r}: expected a number, found {table[name].iloc[row]!r}; name words in covariates"
        )
    return numbers.to_numpy(dtype=float)


def _covariate(table: pd.DataFrame, name: str) -> np.ndarray:
    numbers = pd.to_numeric(table[name], errors="coerce")
    if numbers.isna().any() and table[name].notna().all():
        return np.unique(table[name].to_numpy(dtype=str), return_inverse=True)[1].astype(float)
    return numbers.to_numpy(dtype=float)


def _sexes(column: pd.Series, path: str | Path) -> np.ndarray:
    words = [str(word).strip().lower() for word in column]
    unknown = sorted({word for word in words if word not in _SEX_NAMES})
    if unknown:
        raise ValueError(f"{path}: sex: expected F or M (or female, male), found {', '.join(map(repr, unknown))}")
    return np.array([_SEX_NAMES[word] for word in words])


def _numbers_of(labels: Sequence[str], speakers: Sequence[str] | None, path: str | Path) -> np.ndarray:
    if speakers is None:
        wrong = [label for label in labels if not re.fullmatch(r"\d+", label)]
        if wrong:
            raise ValueError(f"{path}: speaker {wrong[0]!r} is no whole number; pass speakers= of the corpus")
        return np.array([int(label) for label in labels])
    # Names of folders and of tables differ in case: TIMIT is sold in both.
    number = {name.upper(): i for i, name in enumerate(speakers)}
    unknown = [label for label in labels if label.upper() not in number]
    if unknown and len(unknown) == len(labels):
        raise ValueError(
            f"{path}: none of its speakers ({', '.join(labels[:3])} ...) is in the corpus ({', '.join(speakers[:3])} ...)"
        )
    # Speakers who are measured and do not speak get numbers that no token has.
    extra = {label.upper(): len(speakers) + i for i, label in enumerate(dict.fromkeys(unknown))}
    return np.array([number.get(label.upper(), extra.get(label.upper(), -1)) for label in labels])


@dataclass(frozen=True)
class LandmarkTable:
    """Landmarks of faces.

    Parameters
    ----------
    subjects, sex
        As in `SubjectTable`.
    points
        Positions, the landmarks in the order of their labels from 1; z is 0 in pictures.
    unit
        ``"mm"`` or ``"pixels"``. In pixels only ratios and angles can be compared between pictures.
    name
        Where they come from.
    """

    subjects: Int[np.ndarray, " subjects"]
    sex: Int[np.ndarray, " subjects"]
    points: Float[Tensor, "subjects landmarks 3"]
    unit: str
    name: str


def read_landmarks(path: str | Path, *, unit: str, speakers: Sequence[str] | None = None) -> LandmarkTable:
    """A CSV of landmarks: ``speaker`` (or ``ID``), optionally ``sex``, then ``x1, y1, z1, x2, ...``, without z in pictures.

    Parameters
    ----------
    path
        The file. Pictures have y downwards; it is turned upwards.
    unit
        ``"mm"`` (three coordinates) or ``"pixels"`` (two, or three).
    speakers
        As in `read_measurements`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the unit is not stated, a coordinate is missing or no number.
    """
    if unit not in ("mm", "pixels"):
        raise ValueError(f"unit: expected 'mm' or 'pixels', found {unit!r}; distances mean nothing without it")
    table = read_measurements(path, speakers=speakers)
    column = {name.lower(): i for i, name in enumerate(table.names)}
    count = sum(name.startswith("x") and name[1:].isdigit() for name in column)
    axes = "xyz" if any(name.startswith("z") for name in column) or unit == "mm" else "xy"
    absent = [f"{axis}{i}" for i in range(1, count + 1) for axis in axes if f"{axis}{i}" not in column]
    if count == 0 or absent:
        raise ValueError(
            f"{path}: expected columns {axes[0]}1, {axes[1]}1, ... for every landmark, missing {', '.join(absent[:6]) or 'all'}"
        )
    points = np.zeros((len(table), count, 3))
    for axis, letter in enumerate(axes):
        points[..., axis] = table.values[:, [column[f"{letter}{i}"] for i in range(1, count + 1)]]
    if not np.isfinite(points).all():
        rows = np.flatnonzero(~np.isfinite(points).all((1, 2)))
        raise ValueError(f"{path}: line {rows[0] + 2}: a coordinate is missing ({len(rows)} of {len(points)} speakers)")
    if unit == "pixels":
        points[..., 1] *= -1
    return LandmarkTable(table.subjects, table.sex, torch.from_numpy(points), unit, table.name)


# ------------------------------------------------------------------------------------------------------------ corpora


@dataclass(frozen=True)
class Corpus:
    """Recordings of a corpus with their alignments.

    Parameters
    ----------
    voices
        The recordings; identity i is speaker i.
    speakers
        Names, in order of their numbers.
    sex
        Of each speaker, -1 if unknown.
    texts
        What is said in each recording; empty if unknown.
    """

    voices: Voices
    speakers: tuple[str, ...]
    sex: Int[np.ndarray, " speakers"]
    texts: tuple[str, ...]


def _voices(
    items: Sequence[tuple[str, Path, Alignment]],
    speakers: Sequence[str],
    mel: LogMel,
    names: tuple[str, ...],
    name: str,
) -> Voices:
    """Log-mel frames and phones of recordings, one after the other."""
    frames, phones, bounds = [], [], []
    code = {phone: i for i, phone in enumerate(names)}
    for _, path, alignment in items:
        samples = read_audio(path, mel.sample_rate)
        end, length = float(alignment.boundaries_s[-1]), len(samples) / mel.sample_rate
        if end > length + TOLERANCE_S:
            raise ValueError(
                f"{path}: its alignment ends at {end:.3f} s, the recording at {length:.3f} s; do they belong together, at one sample rate?"
            )
        frames.append(log_mel(samples[None], mel)[0].float())
        phones.append([code[phone] for phone in alignment.phones])
        bounds.append(np.minimum(alignment.boundaries_s, max(length, float(alignment.boundaries_s[-2]) + 1e-6)))
    number = {speaker: i for i, speaker in enumerate(speakers)}
    return Voices(
        log_mel=torch.cat(frames),
        starts=torch.tensor(np.cumsum([0, *map(len, frames)])),
        hop_ms=mel.hop_ms,
        identities=torch.tensor([number[speaker] for speaker, _, _ in items]),
        phone_names=names,
        phones=torch.tensor([phone for row in phones for phone in row], dtype=torch.int16),
        phone_starts=torch.tensor(np.cumsum([0, *map(len, phones)])),
        boundaries_s=torch.from_numpy(np.concatenate(bounds)).float(),
        name=name,
    )


def _folder(path: str | Path, what: str) -> Path:
    if not Path(path).is_dir():
        raise FileNotFoundError(f"{path}: no such folder; expected {what}")
    return Path(path)


def read_timit(
    root: str | Path,
    *,
    parts: Sequence[str] = ("TRAIN", "TEST"),
    folding: str = "arpabet",
    mel: LogMel = CORPUS_MEL,
    most_speakers: int | None = None,
) -> Corpus:
    """TIMIT in its official layout: ``<part>/DR<1..8>/<FCJF0>/<SA1>.WAV`` (NIST SPHERE) with ``.PHN`` and ``.TXT``, in either case.

    Parameters
    ----------
    root
        Folder that holds TRAIN and TEST.
    parts
        Which of them.
    folding
        See `paper_utils.data.alignments.read_phn`.
    mel
        Features.
    most_speakers
        The first so many of each part, for a try.

    Raises
    ------
    FileNotFoundError
        If a folder, or the sound of a phone file, is missing.
    ValueError
        If an alignment is damaged or ends past its recording.
    """
    root = _folder(root, "the folder of TIMIT that holds TRAIN and TEST")
    items, texts = [], []
    inside = {entry.name.upper(): entry for entry in root.iterdir() if entry.is_dir()}
    for part in parts:
        if part.upper() not in inside:
            raise FileNotFoundError(f"{root}: no folder {part}; found {', '.join(sorted(inside)) or 'none'}")
        people = [
            folder
            for region in sorted(inside[part.upper()].iterdir())
            if re.fullmatch(r"DR[1-8]", region.name.upper()) and region.is_dir()
            for folder in sorted(region.iterdir())
            if re.fullmatch(r"[FM][A-Z]{3}\d", folder.name.upper()) and folder.is_dir()
        ]
        if not people:
            raise ValueError(f"{inside[part.upper()]}: expected DR1/FCJF0 and the like, found no speaker's folder")
        for folder in people[:most_speakers]:
            for phn in sorted(file for file in folder.iterdir() if file.suffix.upper() == ".PHN"):
                items.append((folder.name.upper(), _beside(phn, ".WAV"), alignments.read_phn(phn, folding=folding)))
                texts.append(_timit_text(phn))
    if not items:
        raise ValueError(f"{root}: the speakers' folders hold no .PHN file")
    speakers = sorted({speaker for speaker, _, _ in items})
    names = tuple(sorted({phone for _, _, alignment in items for phone in alignment.phones}))
    return Corpus(
        _voices(items, speakers, mel, names, "TIMIT"),
        tuple(speakers),
        np.array([SEXES.index("woman" if speaker[0] == "F" else "man") for speaker in speakers]),
        tuple(texts),
    )


def _beside(path: Path, suffix: str) -> Path:
    """The file of the same name with another suffix, in either case; some copies call the sound ``SA1.WAV.wav``."""
    for name in (path.stem + suffix, path.stem + suffix.lower(), path.stem + suffix + ".wav"):
        if (path.parent / name).is_file():
            return path.parent / name
    raise FileNotFoundError(f"{path}: there is no {path.stem}{suffix} beside it")


def _timit_text(phn: Path) -> str:
    try:
        beside = _beside(phn, ".TXT")
    except FileNotFoundError:
        return ""
    line = safe_files.text(beside, "the words of the sentence", encoding="ascii").strip()
    return re.sub(r"^\d+\s+\d+\s+", "", line)


def read_spkrinfo(path: str | Path, speakers: Sequence[str]) -> SubjectTable:
    """TIMIT's ``DOC/SPKRINFO.TXT``: body height of each speaker, a physical target where faces are not known; age as covariate.

    Lines are "ID sex DR use recorded born height race education ...", comments begin with a semicolon; the speaker's folder is called sex + ID.

    Parameters
    ----------
    path
        The file.
    speakers
        Those of the corpus, such as ``"FCJF0"``.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a line cannot be read, or none of the speakers is listed.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected TIMIT's SPKRINFO.TXT")
    labels, heights, ages = [], [], []
    for number, line in enumerate(
        safe_files.text(path, "TIMIT's SPKRINFO.TXT", encoding="latin-1").splitlines(), start=1
    ):
        if not line.strip() or line.startswith(";"):
            continue
        fields = line.split()
        height = re.fullmatch(r"(\d)'(\d{1,2})\"?", fields[6]) if len(fields) >= 7 else None
        if len(fields) < 7 or fields[1] not in "FM" or (height is None and "?" not in fields[6]):
            raise ValueError(
                f"""{path}: line {number}: expected 'ID sex DR use recorded born 5'11" ...', found {line!r}"""
            )
        labels.append(fields[1] + fields[0])
        heights.append(2.54 * (12 * int(height[1]) + int(height[2])) if height else np.nan)
        ages.append(_age(fields[4], fields[5]))
    if not labels:
        raise ValueError(f"{path}: expected one line a speaker, found none")
    return SubjectTable(
        subjects=_numbers_of(labels, speakers, path),
        sex=np.array([SEXES.index("woman" if label[0] == "F" else "man") for label in labels]),
        values=np.array(heights)[:, None],
        names=("height_cm",),
        covariates={"age": np.array(ages)},
        labels=tuple(labels),
        name=path.name,
    )


def _age(recorded: str, born: str) -> float:
    """Years between two dates mm/dd/yy of the twentieth century; NaN if one is not known."""
    dates = [re.fullmatch(r"(\d\d)/(\d\d)/(\d\d)", text) for text in (recorded, born)]
    if None in dates:
        return np.nan
    month, day, year = (int(dates[0][i]) - int(dates[1][i]) for i in (1, 2, 3))
    return year + month / 12 + day / 365


def read_textgrids(
    audio: str | Path,
    grids: str | Path | None = None,
    *,
    phone_map: Mapping[str, str | None] | None = None,
    sex: Mapping[str, str] | None = None,
    tier: str = "phones",
    fill_gaps: bool = False,
    mel: LogMel = CORPUS_MEL,
) -> Corpus:
    """Folders as the Montreal Forced Aligner takes and gives them: ``<audio>/<speaker>/<name>.wav`` and ``<grids>/<speaker>/<name>.TextGrid``.

    Parameters
    ----------
    audio, grids
        The two folders; one and the same by default.
    phone_map
        What labels outside ARPABET mean: ``{"ɑː": "AA", "spn": None}``; None makes them silence. Stress digits and case do not matter.
    sex
        F or M of each speaker.
    tier
        Name of the tier with the phones.
    fill_gaps
        Take stretches without interval as silence.
    mel
        Features.

    Raises
    ------
    FileNotFoundError
        If a folder is missing or a TextGrid has no sound.
    ValueError
        If a grid is damaged (overlapping or negative intervals, gaps), ends past its recording, or has labels that nobody has mapped: all of them
        are listed with their counts.
    """
    audio = _folder(audio, "folders of recordings, one a speaker")
    grids = _folder(grids, "folders of TextGrids, one a speaker") if grids is not None else audio
    paths = sorted(grids.rglob("*.TextGrid"))
    if not paths:
        raise ValueError(f"{grids}: expected <speaker>/<name>.TextGrid, found none")
    table = _checked_map(phone_map or {})
    read, unknown = [], Counter()
    for path in paths:
        grid = alignments.read_textgrid(path)
        found = grid.tier(tier, source=str(path))
        unknown.update(row.label for row in found.intervals if _meaning(row.label, table) is None)
        read.append((path, grid, found))
    if unknown:
        listed = ", ".join(f"{label!r} ({times} times)" for label, times in unknown.most_common())
        raise ValueError(
            f"{grids}: phones that are not ARPABET: {listed}; say what they are with phone_map={{'label': 'AA', ...}}, None for silence"
        )
    items = []
    for path, grid, found in read:
        rows = tuple(Interval(row.begin_s, row.end_s, _meaning(row.label, table) or "") for row in found.intervals)
        renamed = TextGrid(grid.begin_s, grid.end_s, (Tier(tier, rows),))
        alignment = alignments.alignment_of(renamed, phones=tier, words=None, fill_gaps=fill_gaps, source=str(path))
        sound = _sound_of(audio, path.relative_to(grids))
        items.append((path.parent.name, sound, alignment))
    speakers = sorted({speaker for speaker, _, _ in items})
    known = {name: _SEX_NAMES.get(str(value).strip().lower(), -1) for name, value in (sex or {}).items()}
    return Corpus(
        _voices(items, speakers, mel, tuple(PHONES), str(audio.name)),
        tuple(speakers),
        np.array([known.get(speaker, -1) for speaker in speakers]),
        ("",) * len(items),
    )


def _checked_map(phone_map: Mapping[str, str | None]) -> dict[str, str]:
    wrong = [f"{label!r}: {name!r}" for label, name in phone_map.items() if name is not None and name not in PHONES]
    if wrong:
        raise ValueError(
            f"phone_map: {', '.join(wrong)}: expected ARPABET without stress digits ({' '.join(PHONES)}) or None"
        )
    return {label: SILENCE if name is None else name for label, name in phone_map.items()}


def _meaning(label: str, table: Mapping[str, str]) -> str | None:
    """ARPABET of a label, empty for silence; None if nobody knows it."""
    if label in table:
        return "" if table[label] == SILENCE else table[label]
    if label.strip().lower() in SILENCE_LABELS:
        return ""
    bare = re.sub(r"[0-2]$", "", label.strip().upper())
    return bare if bare in PHONES and bare != SILENCE else None


def _sound_of(audio: Path, relative: Path) -> Path:
    for suffix in (".wav", ".WAV", ".flac"):
        if (audio / relative.with_suffix(suffix)).is_file():
            return audio / relative.with_suffix(suffix)
    raise FileNotFoundError(f"{audio / relative.with_suffix('.wav')}: no recording for the TextGrid {relative}")


# ----------------------------------------------------------------------------------------- the collection of paper 10

MASK_POINTS = 6790  # of each face of the collection (released code)


def read_qls(path: str | Path) -> tuple[Int[np.ndarray, " subjects"], Float[Tensor, "subjects 6790 3"]]:
    """Faces of paper 10's ``qls.csv``: a header, then ID and 20,370 numbers a subject: all x, all y, all z.

    Returns
    -------
    tuple
        Subjects, and their points counted from 0.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the number of columns is another or a cell is no number.
    """
    table = safe_files.csv(path, f"qls.csv with ID and {3 * MASK_POINTS} coordinates")
    if table.shape[1] != 1 + 3 * MASK_POINTS:
        raise ValueError(f"{path}: expected ID and {3 * MASK_POINTS} coordinates, found {table.shape[1]} columns")
    try:
        numbers = table.to_numpy(dtype=float)
    except ValueError as error:
        raise ValueError(f"{path}: {error}; expected numbers only") from error
    if not np.isfinite(numbers).all():
        raise ValueError(
            f"{path}: line {int(np.flatnonzero(~np.isfinite(numbers).all(1))[0]) + 2}: a coordinate is missing"
        )
    points = numbers[:, 1:].reshape(len(numbers), 3, MASK_POINTS).transpose(0, 2, 1)
    return numbers[:, 0].astype(int), torch.from_numpy(points.copy())


def token_subject(path: Path) -> int:
    """Subject of a token's file: the six digits after the letter that the name begins with, up to the first underscore.

    Raises
    ------
    ValueError
        If the name is built otherwise.

    Examples
    --------
    >>> token_subject(Path("F000123_17.npy"))
    123
    """
    match = re.fullmatch(r"[A-Za-z](\d{6})(_.*)?", path.stem)
    if match is None:
        raise ValueError(f"{path}: expected a name such as F000123_17.npy (letter, six digits of the subject, '_')")
    return int(match[1])


def read_snippets(
    root: str | Path, sex: str, phonemes: Sequence[str] | None = None, *, most: int | None = 5000, frames: int = 32
) -> PhoneTokens:
    """Tokens of paper 10's collection: ``<root>/<female|male>/<phoneme index>/<token>.npy``, waveforms at 44.1 kHz.

    Features are those of the release (`paper_utils.audio.VISAGE_MEL`, standardised frame by frame, cut or zero-padded to 32 frames).

    Parameters
    ----------
    root
        The folder ``extract_phoneme_processed``.
    sex
        ``"woman"`` or ``"man"``.
    phonemes
        Folder names; all by default. What phones the numbers stand for was never published.
    most
        Tokens of each phoneme, in order of their names (the release takes up to 5,000).
    frames
        Of each token.

    Raises
    ------
    FileNotFoundError
        If a folder is missing.
    ValueError
        If a token is no finite 1-D array, is empty, or has another name.
    """
    if sex not in SEXES:
        raise ValueError(f"sex: expected one of {', '.join(SEXES)}, found {sex!r}")
    folder = _folder(Path(root) / {"woman": "female", "man": "male"}[sex], "folders of phonemes")
    names = (
        [str(p) for p in phonemes] if phonemes is not None else sorted(p.name for p in folder.iterdir() if p.is_dir())
    )
    features, phones, subjects, seconds = [], [], [], []
    for number, name in enumerate(names):
        paths = sorted(_folder(folder / name, "tokens of a phoneme").glob("*.npy"))[:most]
        if not paths:
            raise ValueError(f"{folder / name}: expected .npy files, found none")
        for path in paths:
            samples = _snippet(path)
            features.append(fit_frames(standardise_frames(log_mel(samples[None], VISAGE_MEL)), frames)[0])
            phones.append(number)
            subjects.append(token_subject(path))
            seconds.append(len(samples) / VISAGE_MEL.sample_rate)
    return PhoneTokens(
        torch.stack(features), torch.tensor(phones), torch.tensor(subjects), torch.tensor(seconds), tuple(names), str(folder)
    )  # fmt: skip


def _snippet(path: Path) -> Float[Tensor, " samples"]:
    samples = safe_files.npy(path, "the samples of a token")
    if samples.ndim != 1 or samples.dtype.kind != "f" or not np.isfinite(samples).all():
        raise ValueError(
            f"{path}: expected finite floating-point samples (samples,), found {samples.dtype} {samples.shape}"
        )
    if len(samples) <= VISAGE_MEL.n_fft // 2:
        raise ValueError(
            f"{path}: {len(samples)} samples are too few for one window of {VISAGE_MEL.n_fft}; leave the token out"
        )
    return torch.from_numpy(samples).float()
