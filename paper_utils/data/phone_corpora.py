"""Corpora that phones are read from: TIMIT, folders of Praat or Montreal-Forced-Aligner TextGrids, and the layout of paper 10's own collection.

The first two become recordings with alignments, from which `data.phones` cuts tokens; the collection is tokens already.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from paper_utils import safe_files
from paper_utils.audio import VISAGE_MEL, LogMel, fit_frames, log_mel, standardise_frames
from paper_utils.audio_files import read_audio
from paper_utils.data import alignments
from paper_utils.data.alignments import SILENCE_LABELS, Interval, TextGrid, Tier
from paper_utils.data.phones import TOLERANCE_S, PhoneTokens
from paper_utils.data.speech import SILENCE, Alignment, Voices
from paper_utils.data.subject_tables import SEX_CODES, SEXES, SubjectTable, subject_numbers
from paper_utils.world.phones import PHONES

CORPUS_MEL = LogMel(bands=40)


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


# --------------------------------------------------------------------------------------------------------------- TIMIT


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
        subjects=subject_numbers(labels, speakers, path),
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


# ----------------------------------------------------------------------------------------------------------- TextGrids


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
    known = {name: SEX_CODES.get(str(value).strip().lower(), -1) for name, value in (sex or {}).items()}
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
