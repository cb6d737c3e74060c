"""New trial lists of voices against faces, in the form of the published ones (`data.matching_lists`), from all items of the people to test.

Impostors are drawn within a stratum, by person first; probes that a list cannot hold are counted, with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int
from torch import Tensor

from paper_utils.data.matching_lists import (
    Direction,
    MatchingList,
    RetrievalList,
    Stratum,
    VerificationList,
    list_name,
    stratum_codes,
)

TRIALS_PER_PROBE = 3  # as in the published matching lists


@dataclass(frozen=True)
class Items:
    """Recordings or pictures with their people.

    Parameters
    ----------
    paths
        Relative paths as they stand in lists; an array from `string_array`.
    people
        Row of each item's person.
    """

    paths: np.ndarray
    people: Int[np.ndarray, " items"]

    def __post_init__(self) -> None:
        if len(self.paths) == 0 or len(self.paths) != len(self.people):
            raise ValueError(
                f"items: expected a person for each, found {len(self.paths)} items and {len(self.people)} people"
            )


@dataclass(frozen=True)
class LeftOut:
    """Probes that a new list could not hold.

    Parameters
    ----------
    without_positive
        Probes whose person has nothing in the gallery.
    without_impostor
        Probes whose person has too few impostors of the stratum there.
    """

    without_positive: int
    without_impostor: int


class _Gallery:
    """Who can stand against whom: the gallery's items by person, its people by group."""

    def __init__(
        self, gallery: Items, covariates: Mapping[str, Tensor], stratum: str, rng: np.random.Generator
    ) -> None:
        codes = stratum_codes(covariates, stratum)
        if len(gallery.people) and not 0 <= gallery.people.min() <= gallery.people.max() < len(codes):
            raise ValueError(f"gallery: people must be rows 0..{len(codes) - 1} of the covariates")
        # In random order, so that a walk along a person's items meets them by chance.
        order = rng.permutation(len(gallery.people))
        self.items = order[np.argsort(gallery.people[order], kind="stable")]
        self.count = np.bincount(gallery.people, minlength=len(codes))
        self.start = np.cumsum(self.count) - self.count
        self.group = np.unique(codes, axis=0, return_inverse=True)[1].reshape(-1)
        present = np.flatnonzero(self.count)
        self.members = present[np.argsort(self.group[present], kind="stable")]
        self.group_size = np.bincount(self.group[present], minlength=self.group.max() + 1)
        self.group_start = np.cumsum(self.group_size) - self.group_size
        self.place = np.full(len(codes), -1)
        self.place[self.members] = np.arange(len(self.members)) - self.group_start[self.group[self.members]]

    def usable(self, people: np.ndarray, rivals: int, stratum: str) -> tuple[np.ndarray, LeftOut]:
        """Rows of probes that have a positive and enough impostors."""
        matched = self.count[people] > 0
        opposed = self.group_size[self.group[people]] - 1 >= rivals
        kept = np.flatnonzero(matched & opposed)
        left_out = LeftOut(int((~matched).sum()), int((matched & ~opposed).sum()))
        if len(kept) == 0:
            raise ValueError(
                f"stratum {stratum} is not testable: of {len(people)} probes {left_out.without_positive} have nobody of theirs in the gallery and "
                f"{left_out.without_impostor} have fewer than {rivals} impostors there; see `strata_sizes`"
            )
        return kept, left_out

    def positives(self, people: np.ndarray, each: int, rng: np.random.Generator) -> np.ndarray:
        """`each` items of every person, different ones as long as there are."""
        begin = rng.integers(self.count[people])
        walk = (begin[:, None] + np.arange(each)) % self.count[people][:, None]
        return self.items[self.start[people][:, None] + walk]

    def negatives(self, people: np.ndarray, rivals: int, rng: np.random.Generator) -> np.ndarray:
        """Items of `rivals` different people of everybody's group but not of himself: people by lot, then one item of each by lot."""
        group = self.group[people]
        taken = self.place[people][:, None]
        drawn = np.empty((len(people), rivals), dtype=np.int64)
        for column in range(rivals):
            place = rng.integers(self.group_size[group] - taken.shape[1])
            # Step over the places taken, from the lowest on: every free place is as likely.
            for occupied in np.sort(taken, axis=1).T:
                place += place >= occupied
            drawn[:, column] = place
            taken = np.column_stack([taken, place])
        others = self.members[self.group_start[group][:, None] + drawn]
        return self.items[self.start[others] + rng.integers(self.count[others])]


def build_matching(
    voices: Items,
    faces: Items,
    covariates: Mapping[str, Tensor],
    *,
    direction: Direction,
    rng: np.random.Generator,
    stratum: Stratum = "U",
    size: int = 2,
    trials_per_probe: int = TRIALS_PER_PROBE,
    part: str = "test",
) -> tuple[MatchingList, LeftOut]:
    """A new matching list: equally many trials for every probe, so that nobody weighs more by chance.

    Impostors are drawn by person first, then by item, so that people with many pictures do not stand in more trials. How the published
    lists drew theirs is not known.

    Parameters
    ----------
    voices, faces
        All items of the people to test.
    covariates
        Codes of each person, such as `SpeakerTable.covariates`.
    direction
        Which of them are the probes.
    rng
        Source of chance: the same seed gives the same list.
    stratum
        What impostors share with the probe's person, see `STRATA`.
    size
        Items that a probe is compared with, one of them its own.
    trials_per_probe
        Trials of each probe; different positives as long as its person has them.
    part
        Part of the split, for the name.

    Returns
    -------
    tuple
        The list, and how many probes could not take part.

    Raises
    ------
    ValueError
        If no probe has a positive and enough impostors, or a number is too small.
    """
    if size < 2 or trials_per_probe < 1:
        raise ValueError(f"expected size >= 2 and trials_per_probe >= 1, found {size} and {trials_per_probe}")
    probes, gallery = (voices, faces) if direction == "v2f" else (faces, voices)
    entries = _Gallery(gallery, covariates, stratum, rng)
    kept, left_out = entries.usable(probes.people, size - 1, stratum)
    probe = np.repeat(kept, trials_per_probe)
    positive = entries.positives(probes.people[kept], trials_per_probe, rng).reshape(-1)
    negatives = entries.negatives(probes.people[probe], size - 1, rng)
    name = list_name("match", direction, part, stratum=stratum, size=size)
    items, (probe, positive, negatives) = _used(name, direction, probes, gallery, probe, positive, negatives)
    return MatchingList(**items, probe=probe, positive=positive, negatives=negatives), left_out


def build_verification(
    voices: Items,
    faces: Items,
    covariates: Mapping[str, Tensor],
    *,
    direction: Direction,
    rng: np.random.Generator,
    stratum: Stratum = "U",
    each: int = 1,
    part: str = "test",
) -> tuple[VerificationList, LeftOut]:
    """A new verification list: for every probe `each` pairs of one person and `each` of different people.

    Parameters, returns and errors as for `build_matching`; a probe that has fewer than `each` impostors is left out.
    """
    if each < 1:
        raise ValueError(f"each: expected at least 1 pair of either kind, found {each}")
    probes, gallery = (voices, faces) if direction == "v2f" else (faces, voices)
    entries = _Gallery(gallery, covariates, stratum, rng)
    kept, left_out = entries.usable(probes.people, each, stratum)
    same = entries.positives(probes.people[kept], each, rng)
    different = entries.negatives(probes.people[kept], each, rng)
    candidate = np.column_stack([same, different]).reshape(-1)
    name = list_name("verify", direction, part, stratum=stratum)
    items, (probe, candidate) = _used(name, direction, probes, gallery, np.repeat(kept, 2 * each), candidate)
    return VerificationList(**items, probe=probe, candidate=candidate), left_out


def build_retrieval(voices: Items, faces: Items, *, direction: Direction, part: str = "test") -> RetrievalList:
    """The retrieval list of all items: nothing is drawn."""
    probes, gallery = (voices, faces) if direction == "v2f" else (faces, voices)
    return RetrievalList(
        name=Path(list_name("retrieval", direction, part)).stem,
        direction=direction,
        probe_paths=probes.paths,
        gallery_paths=gallery.paths,
        probe_people=probes.people,
        gallery_people=gallery.people,
    )


def _used(
    name: str, direction: Direction, probes: Items, gallery: Items, probe: np.ndarray, *entries: np.ndarray
) -> tuple[dict[str, object], list[np.ndarray]]:
    """The items that occur, sorted by path as the reader has them, and the trials as rows of these."""
    items: dict[str, object] = {"name": Path(name).stem, "direction": direction}
    rows = []
    for side, source, columns in (("probe", probes, [probe]), ("gallery", gallery, list(entries))):
        used = np.unique(np.concatenate([column.reshape(-1) for column in columns]))
        used = used[np.argsort(source.paths[used], kind="stable")]
        items[f"{side}_paths"], items[f"{side}_people"] = source.paths[used], source.people[used]
        place = np.full(len(source.paths), -1)
        place[used] = np.arange(len(used))
        rows += [place[column] for column in columns]
    return items, rows
