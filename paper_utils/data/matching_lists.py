"""Trial lists of voices against faces (papers 02 and 03): the text files of the public split, read and written.

A list holds relative paths. Each distinct recording and picture is embedded once; a trial is a few indices into these, so scores are entries
of one similarity matrix.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Int
from torch import Tensor

from paper_utils.data.face_images import string_array
from paper_utils.data.face_lists import check_paths, first_few, read_lines
from paper_utils.data.voxceleb_speakers import SpeakerTable
from paper_utils.files import write_text

Direction = Literal["v2f", "f2v"]  # voice against faces, face against voices
Stratum = Literal["U", "G", "N", "GN"]
# What the impostor shares with the probe's person. Only U and G are published as lists; N and GN are named after their pattern.
STRATA: dict[str, tuple[str, ...]] = {"U": (), "G": ("sex",), "N": ("nationality",), "GN": ("sex", "nationality")}
_NAME = re.compile(
    r"(?P<kind>match|verify|reterival|retrieval)(?P<stratum>(_g|_n|_gn)?)_(?P<direction>v2f|f2v)(_(?P<size>\d+))?_(?P<part>\w+)"
)


# --------------------------------------------------------------------------------------------------------------- strata


@dataclass(frozen=True)
class StratumSizes:
    """How many people share the covariates of a stratum.

    Parameters
    ----------
    name
        A key of `STRATA`.
    groups
        Values of its covariates, and the number of people who have them.
    """

    name: str
    groups: tuple[tuple[tuple[str, ...], int], ...]

    @property
    def alone(self) -> tuple[tuple[str, ...], ...]:
        """Groups of one person, who has no impostor: not testable."""
        return tuple(values for values, people in self.groups if people < 2)

    @property
    def people(self) -> int:
        """People who have an impostor."""
        return sum(people for _, people in self.groups if people > 1)

    @property
    def testable(self) -> bool:
        """Whether anybody has."""
        return self.people > 0

    def __str__(self) -> str:
        total = self.people + len(self.alone)
        text = f"{self.name}: {self.people} of {total} people in {len(self.groups) - len(self.alone)} groups have an impostor"
        return (
            text
            if not self.alone
            else f"{text}; not testable: {first_few([' '.join(values) for values in self.alone])}"
        )


def strata_sizes(
    covariates: Mapping[str, Tensor], names: Mapping[str, Sequence[str]], strata: Sequence[str] = tuple(STRATA)
) -> dict[str, StratumSizes]:
    """Sizes of the groups within which impostors are drawn, for each stratum; print them before any result.

    Parameters
    ----------
    covariates
        Codes of each person, such as `SpeakerTable.covariates`.
    names
        What the codes stand for, such as `SpeakerTable.covariate_names`.
    strata
        Keys of `STRATA`.

    Raises
    ------
    ValueError
        If a stratum is unknown, or needs a covariate that is not there.
    """
    sizes = {}
    for stratum in strata:
        values, counts = np.unique(stratum_codes(covariates, stratum), axis=0, return_counts=True)
        labels = [
            tuple(names[name][code] for name, code in zip(STRATA[stratum], row, strict=True)) or ("everybody",)
            for row in values[:, 1:].tolist()
        ]
        sizes[stratum] = StratumSizes(stratum, tuple(zip(labels, counts.tolist(), strict=True)))
    return sizes


def stratum_codes(covariates: Mapping[str, Tensor], stratum: str) -> Int[np.ndarray, "people columns"]:
    """Covariates that people must share in a stratum, behind a column of zeros, so that stratum U has a column too.

    Parameters
    ----------
    covariates
        Codes of each person, such as `SpeakerTable.covariates`.
    stratum
        A key of `STRATA`.

    Raises
    ------
    ValueError
        If the stratum is unknown, or needs a covariate that is not there.
    """
    if stratum not in STRATA:
        raise ValueError(f"stratum: expected one of {', '.join(STRATA)}, found {stratum!r}")
    missing = [name for name in STRATA[stratum] if name not in covariates]
    if missing or not covariates:
        raise ValueError(
            f"stratum {stratum} needs the covariates {', '.join(STRATA[stratum]) or 'of the people'}; found {', '.join(covariates) or 'none'}"
        )
    people = len(next(iter(covariates.values())))
    return np.column_stack([np.zeros(people, np.int64), *(np.asarray(covariates[name]) for name in STRATA[stratum])])


# ---------------------------------------------------------------------------------------------------------------- lists


@dataclass(frozen=True, kw_only=True)
class TrialItems:
    """The recordings and pictures of a list: what all kinds of lists share.

    Parameters
    ----------
    name
        Stem of the list's file name.
    direction
        ``"v2f"``: probes are recordings, the gallery holds pictures; ``"f2v"``: the other way round.
    probe_paths, gallery_paths
        Distinct items, relative to the folders ``wav`` and ``VGG_ALL_FRONTAL``.
    probe_people, gallery_people
        Row of each item's person in the table that the list was read or made with.
    """

    name: str
    direction: Direction
    probe_paths: np.ndarray
    gallery_paths: np.ndarray
    probe_people: Int[np.ndarray, " probes"]
    gallery_people: Int[np.ndarray, " gallery"]

    @property
    def voice_paths(self) -> np.ndarray:
        """The recordings, ``<id>/<video>/<clip>.wav``."""
        return self.probe_paths if self.direction == "v2f" else self.gallery_paths

    @property
    def face_paths(self) -> np.ndarray:
        """The pictures, ``<name>/<8 digits>.jpg``."""
        return self.gallery_paths if self.direction == "v2f" else self.probe_paths

    def check_files(self, voice_root: str | Path, face_root: str | Path, *, voice_suffix: str = ".wav") -> None:
        """See whether both folders hold what the list names; each folder is listed once, no file is opened.

        Parameters
        ----------
        voice_root, face_root
            The folders that the paths start from.
        voice_suffix
            Of the files of recordings: ``.npy`` for stored features.

        Raises
        ------
        FileNotFoundError
            If a folder or files are missing: all of them are counted (`face_lists.MissingImagesError` has their paths).
        """
        voices = [path.removesuffix(".wav") + voice_suffix for path in self.voice_paths.tolist()]
        check_paths(voices, Path(voice_root), self.name, kind="recordings")
        check_paths(self.face_paths.tolist(), Path(face_root), self.name)


@dataclass(frozen=True, kw_only=True)
class MatchingList(TrialItems):
    """1:N matching: which of N gallery items belongs to the probe's person?

    Parameters
    ----------
    probe, positive, negatives
        Of each trial: rows of the probe, of the item of its person, and of the N - 1 items of others. The positive comes first in the file;
        whoever scores a trial must not let ties win for it (see `metrics.matching`).
    """

    probe: Int[np.ndarray, " trials"]
    positive: Int[np.ndarray, " trials"]
    negatives: Int[np.ndarray, "trials others"]

    def __len__(self) -> int:
        return len(self.probe)

    @property
    def size(self) -> int:
        """N."""
        return 1 + self.negatives.shape[1]

    def lines(self) -> list[str]:
        """Lines of the file: ``probe positive negative ...``."""
        columns = [
            self.probe_paths[self.probe],
            self.gallery_paths[self.positive],
            *self.gallery_paths[self.negatives.T],
        ]
        return [" ".join(fields) for fields in zip(*(column.tolist() for column in columns), strict=True)]


@dataclass(frozen=True, kw_only=True)
class VerificationList(TrialItems):
    """Verification: do the two items belong to one person?

    Parameters
    ----------
    probe, candidate
        Of each trial: rows of the probe and of the gallery item.
    """

    probe: Int[np.ndarray, " trials"]
    candidate: Int[np.ndarray, " trials"]

    def __len__(self) -> int:
        return len(self.probe)

    @property
    def same(self) -> Bool[np.ndarray, " trials"]:
        """The label: not in the file, it follows from the people."""
        return self.probe_people[self.probe] == self.gallery_people[self.candidate]

    def lines(self) -> list[str]:
        """Lines of the file: ``probe candidate``."""
        pairs = zip(self.probe_paths[self.probe].tolist(), self.gallery_paths[self.candidate].tolist(), strict=True)
        return [" ".join(pair) for pair in pairs]


@dataclass(frozen=True, kw_only=True)
class RetrievalList(TrialItems):
    """Retrieval: every probe searches the whole gallery; a gallery item is relevant if it is of the probe's person."""

    def lines(self) -> list[str]:
        """The two lines of the file: all probes, all gallery items."""
        return [" ".join(self.probe_paths.tolist()), " ".join(self.gallery_paths.tolist())]


AnyList = MatchingList | VerificationList | RetrievalList


def list_name(
    kind: Literal["match", "verify", "retrieval"],
    direction: Direction,
    part: str = "test",
    *,
    stratum: Stratum = "U",
    size: int = 2,
) -> str:
    """File name of a list, as published: ``match_g_v2f_2_val.txt``, ``verify_f2v_test.txt``, ``reterival_v2f_test.txt`` (sic).

    Strata N and GN, which are not published, are named ``_n`` and ``_gn``.
    """
    if stratum not in STRATA:
        raise ValueError(f"stratum: expected one of {', '.join(STRATA)}, found {stratum!r}")
    if kind == "retrieval" and stratum != "U":
        raise ValueError(f"stratum: a retrieval list holds everybody, expected 'U', found {stratum!r}")
    mark = "" if stratum == "U" else f"_{stratum.lower()}"
    start = {"match": f"match{mark}", "verify": f"verify{mark}", "retrieval": "reterival"}[kind]
    return f"{start}_{direction}{f'_{size}' if kind == 'match' else ''}_{part}.txt"


def write_list(path: str | Path, listing: AnyList) -> None:
    """Write a list as the text file that its reader takes, whole or not at all.

    Raises
    ------
    ValueError
        If a path has a blank in it, which the format cannot hold.
    """
    blank = [
        item
        for side in (listing.probe_paths, listing.gallery_paths)
        for item in side.tolist()
        if re.search(r"\s", item)
    ]
    if blank:
        raise ValueError(f"{path}: {len(blank)} paths have blanks in them: {first_few(blank)}; rename the files")
    write_text(Path(path), "\n".join(listing.lines()) + "\n")


def read_matching(path: str | Path, people: SpeakerTable, *, direction: Direction | None = None) -> MatchingList:
    """A list ``match[_g]_{v2f,f2v}_2_{val,test}.txt``: ``probe positive negative`` in every line.

    Parameters
    ----------
    path
        The list.
    people
        Tells whose the folders are.
    direction
        If the file's name does not say it.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a line has another number of fields than the first (or the name) says, a path leads out of its folder or to nobody in the table, the
        positive is of another person than the probe, a negative is not or breaks the stratum of the name; the message has the line.
    """
    path = Path(path)
    columns, direction, named = _columns(path, "match", direction, "'probe positive negative'")
    if len(columns) < 3 or (named["size"] and len(columns) != 1 + int(named["size"])):
        expected = f"{1 + int(named['size'])}, as the name says" if named["size"] else "at least 3"
        raise ValueError(f"{path}: line 1 has {len(columns)} fields, expected {expected}: probe, positive, negatives")
    items, rows = _items(path, columns, people, direction)
    probe, positive, negatives = rows[0], rows[1], np.stack(rows[2:], axis=1)
    own = items["probe_people"][probe]
    _refuse(
        path, columns, items["gallery_people"][positive] != own, "has a positive of another person than the probe's"
    )
    others = items["gallery_people"][negatives]
    _refuse(path, columns, (others == own[:, None]).any(axis=1), "has a negative of the probe's own person")
    stratum = named["stratum"].removeprefix("_").upper() or "U"
    codes = stratum_codes(people.covariates, stratum)
    broken = (codes[others] != codes[own][:, None]).any(axis=(1, 2))
    _refuse(path, columns, broken, f"has a negative that does not share {' and '.join(STRATA[stratum])} with the probe")
    return MatchingList(**items, probe=probe, positive=positive, negatives=negatives)


def read_verification(
    path: str | Path, people: SpeakerTable, *, direction: Direction | None = None
) -> VerificationList:
    """A list ``verify[_g]_{v2f,f2v}_test.txt``: ``probe candidate`` in every line.

    Parameters and errors as for `read_matching`; a list whose trials all have one label is refused.
    """
    path = Path(path)
    columns, direction, named = _columns(path, "verify", direction, "'probe candidate'")
    if len(columns) != 2:
        raise ValueError(f"{path}: line 1 has {len(columns)} fields, expected 2: 'probe candidate'")
    items, (probe, candidate) = _items(path, columns, people, direction)
    listing = VerificationList(**items, probe=probe, candidate=candidate)
    if listing.same.all() or not listing.same.any():
        label = "of one person" if listing.same.all() else "of different people"
        raise ValueError(f"{path}: all {len(listing)} pairs are {label}; verification needs both kinds")
    stratum = named["stratum"].removeprefix("_").upper() or "U"
    codes = stratum_codes(people.covariates, stratum)
    broken = (codes[listing.probe_people[probe]] != codes[listing.gallery_people[candidate]]).any(axis=1)
    _refuse(path, columns, broken, f"has people who do not share {' and '.join(STRATA[stratum])}")
    return listing


def read_retrieval(path: str | Path, people: SpeakerTable, *, direction: Direction | None = None) -> RetrievalList:
    """A list ``reterival_{v2f,f2v}_test.txt`` (sic): all probes in the first line, all gallery items in the second.

    Parameters and errors as for `read_matching`; an item that comes twice in a line is refused.
    """
    path = Path(path)
    lines = read_lines(path, "all probes in one line, all gallery items in the next")
    if len(lines) != 2:
        raise ValueError(f"{path}: has {len(lines)} lines, expected 2: all probes, all gallery items")
    direction, _ = _direction(path, "reterival", direction)
    sides = []
    for number, line in enumerate(lines, 1):
        paths = line.split()
        repeated = len(paths) - len(set(paths))
        if repeated:
            raise ValueError(f"{path}: line {number} names {repeated} items more than once; list each item once")
        kind = _kinds(direction)[number - 1]
        sides.append((string_array(paths, str(path)), _people(path, paths, people, kind, [number] * len(paths))))
    return RetrievalList(
        name=path.stem,
        direction=direction,
        probe_paths=sides[0][0],
        gallery_paths=sides[1][0],
        probe_people=sides[0][1],
        gallery_people=sides[1][1],
    )


def _direction(path: Path, kind: str, direction: str | None) -> tuple[Direction, dict[str, str]]:
    """Direction of a list, and what its name says."""
    match = _NAME.fullmatch(path.stem)
    if match and match["kind"].replace("retrieval", "reterival") != kind:
        raise ValueError(
            f"{path}: by its name a list of kind {match['kind']!r}, expected {kind!r}; call its own reader"
        )
    named = {key: value or "" for key, value in match.groupdict().items()} if match else {"stratum": "", "size": ""}
    direction = direction or named.get("direction")
    if direction not in get_args(Direction):
        raise ValueError(
            f"{path}: direction is {direction!r}; name the list like {kind}_v2f..., or state direction 'v2f' or 'f2v'"
        )
    return direction, named


def _columns(
    path: Path, kind: str, direction: str | None, form: str
) -> tuple[list[list[str]], Direction, dict[str, str]]:
    """Fields of all lines, column by column."""
    lines = read_lines(path, form)
    stated, named = _direction(path, kind, direction)
    rows = [line.split() for line in lines]
    for number, row in enumerate(rows, 1):
        if len(row) != len(rows[0]):
            raise ValueError(
                f"{path}: line {number} has {len(row)} fields, line 1 has {len(rows[0])}: {lines[number - 1][:80]!r}; expected {form}"
            )
    return [list(column) for column in zip(*rows, strict=True)], stated, named


def _kinds(direction: str) -> tuple[str, str]:
    return ("recording", "picture") if direction == "v2f" else ("picture", "recording")


def _people(
    path: Path, paths: Sequence[str], people: SpeakerTable, kind: str, lines: Sequence[int]
) -> Int[np.ndarray, " items"]:
    """Row of each item's person; refuses items of the wrong kind, unsafe paths and strangers."""
    suffix = ".wav" if kind == "recording" else ".jpg"
    for item, line in zip(paths, lines, strict=True):
        if not item.endswith(suffix) or "/" not in item:
            raise ValueError(
                f"{path}: line {line} has {item[:80]!r} where a {kind} (a relative path that ends in {suffix}) is expected; is the direction right?"
            )
        if item.startswith("/") or "\\" in item or ".." in item.split("/"):
            raise ValueError(
                f"{path}: line {line} has {item[:80]!r}, which leads out of the folder; write paths below it"
            )
    rows = people.rows([item.split("/", 1)[0] for item in paths])
    strangers = np.flatnonzero(rows < 0)
    if len(strangers):
        first = strangers[0]
        raise ValueError(
            f"{path}: line {lines[first]} has {paths[first]!r}, of nobody in {people.name}; {len(strangers)} items are of strangers. "
            "Give the table of everybody"
        )
    return rows


def _items(
    path: Path, columns: list[list[str]], people: SpeakerTable, direction: Direction
) -> tuple[dict[str, object], list[Int[np.ndarray, " trials"]]]:
    """Distinct items of a list with their people, and the row of each column's entries."""
    items: dict[str, object] = {"name": path.stem, "direction": direction}
    rows: list[np.ndarray] = []
    for side, group, kind in zip(("probe", "gallery"), (columns[:1], columns[1:]), _kinds(direction), strict=True):
        first_line: dict[str, int] = {}
        for column in group:
            for number, item in enumerate(column, 1):
                first_line.setdefault(item, number)
        distinct = sorted(first_line)
        place = {item: row for row, item in enumerate(distinct)}
        items[f"{side}_people"] = _people(path, distinct, people, kind, [first_line[item] for item in distinct])
        items[f"{side}_paths"] = string_array(distinct, str(path))
        rows += [np.array([place[item] for item in column], dtype=np.int64) for column in group]
    return items, rows


def _refuse(path: Path, columns: list[list[str]], wrong: Bool[np.ndarray, " trials"], fault: str) -> None:
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        line = " ".join(column[first] for column in columns)
        raise ValueError(
            f"{path}: line {first + 1} {fault}: {line[:120]!r}; {int(wrong.sum())} of {len(wrong)} lines do. Are list and table of one release?"
        )
