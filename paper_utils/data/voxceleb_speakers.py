"""Who speaks in VoxCeleb1: the published table of speakers, the lists of its parts, and the split of papers 02 and 03 by first letters.

Everything is checked line by line when it is read; recordings (`data.voxceleb`), faces and trial lists are joined to this table.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from paper_utils.data.face_lists import read_lines

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
