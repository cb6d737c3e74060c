"""Tables of what is measured on people: one row a subject, read from CSV files of measurements or of landmarks of faces.

They stand beside speech in paper 10: who speaks how (`data.phones`) is asked for who looks how.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from paper_utils import safe_files

SEXES = ("woman", "man")
# Words for sex in tables of any origin.
SEX_CODES = {"f": 0, "female": 0, "woman": 0, "w": 0, "m": 1, "male": 1, "man": 1}


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
        subjects=subject_numbers(labels, speakers, path),
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
    unknown = sorted({word for word in words if word not in SEX_CODES})
    if unknown:
        raise ValueError(f"{path}: sex: expected F or M (or female, male), found {', '.join(map(repr, unknown))}")
    return np.array([SEX_CODES[word] for word in words])


def subject_numbers(labels: Sequence[str], speakers: Sequence[str] | None, path: str | Path) -> np.ndarray:
    """Numbers of the speakers that a table names: their places in `speakers`, or the labels themselves if that is None.

    Parameters
    ----------
    labels
        As they stand in the table.
    speakers
        Those of a corpus in the order of their numbers.
    path
        Of the table, for messages.

    Raises
    ------
    ValueError
        If a label is no whole number where it must be, or none of the labels is a speaker of the corpus.
    """
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
