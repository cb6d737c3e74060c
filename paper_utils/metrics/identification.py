"""Who is it? One-to-many identification: ranks of the mate, and open-set rates in two definitions that share a name.

The official code of papers 05 and 06 (OpenSphere) counts scores, NIST counts searches; their "TPIR at FPIR" differ. Both are here,
labelled, because a table that mixes them compares nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Shaped

# Scores that are compared with subjects at once; bounds the memory beside the score matrix.
BLOCK_CELLS = 4_000_000


@dataclass(frozen=True)
class Searches:
    """What the protocols need to know of a score matrix (probes, gallery).

    Parameters
    ----------
    gallery
        Number of gallery templates.
    best_mate
        Highest score of each probe with its own subject; minus infinity for a probe whose subject is not in the gallery.
    mate_rank
        1 + number of other gallery templates that score at least as high as the best mate: a tie is not a win. ``gallery + 1`` without mate.
    best_other
        Highest score of each probe with another subject; minus infinity if the gallery holds none.
    mate_scores
        All scores of probes with their own subject.
    top_others
        The highest scores with other subjects, falling, at most as many as there are probes.
    others
        How many scores with other subjects there are in all.
    """

    gallery: int
    best_mate: Float[np.ndarray, " probes"]
    mate_rank: Int[np.ndarray, " probes"]
    best_other: Float[np.ndarray, " probes"]
    mate_scores: Float[np.ndarray, " mates"]
    top_others: Float[np.ndarray, " kept"]
    others: int

    @property
    def probes(self) -> int:
        """Number of searches."""
        return len(self.best_mate)

    @property
    def mated(self) -> int:
        """Number of probes whose subject is in the gallery."""
        return int((self.best_mate > -np.inf).sum())


@dataclass(frozen=True)
class IdentificationPoint:
    """True positive identification rate at one false positive identification rate.

    Parameters
    ----------
    fpir, tpir
        Rate asked for, and what is reached; NaN if the data cannot tell.
    threshold
        A candidate is returned if its score is above this.
    definition
        ``"opensphere"`` (scores are counted) or ``"nist"`` (searches are counted).
    mated, non_mated
        Number of probes with and without their subject in the gallery.
    note
        What to know before quoting the number; empty if nothing.
    """

    fpir: float
    tpir: float
    threshold: float
    definition: str
    mated: int
    non_mated: int
    note: str = ""


@dataclass(frozen=True)
class IdentificationReport:
    """The numbers of one identification test, as shares in [0, 1].

    Parameters
    ----------
    probes, without_mate
        Number of probes, and of those whose subject is in no gallery; these are misses in the official numbers.
    gallery, subjects
        Number of gallery templates and of their subjects.
    top
        By k, see `top_k`; over all probes, galleries taken together.
    opensphere
        One point a rate, galleries taken together, see `tpir_opensphere`.
    nist
        For each rate one point a gallery, see `tpir_nist`.
    """

    probes: int
    without_mate: int
    gallery: int
    subjects: int
    top: dict[int, float]
    opensphere: tuple[IdentificationPoint, ...]
    nist: tuple[tuple[IdentificationPoint, ...], ...]

    @property
    def nist_mean(self) -> tuple[float, ...]:
        """TPIR of each rate, mean over the galleries."""
        return tuple(float(np.mean([point.tpir for point in points])) for points in self.nist)

    @property
    def notes(self) -> tuple[str, ...]:
        """Everything that the points, and probes without mate, want to have said."""
        points = [*self.opensphere, *(point for points in self.nist for point in points)]
        notes = [f"{point.definition}: {point.note}" for point in points if point.note]
        if self.without_mate:
            notes.append(f"{self.without_mate} of {self.probes} probes have no mate in any gallery")
        return tuple(notes)


def search(
    scores: Float[np.ndarray, "probes gallery"],
    probe_subjects: Shaped[np.ndarray, " probes"],
    gallery_subjects: Shaped[np.ndarray, " gallery"],
) -> Searches:
    """Compare every probe with every gallery template, once, in blocks of probes.

    Raises
    ------
    ValueError
        If there are no probes or an empty gallery, sizes differ, or a score is not finite.
    """
    probes, gallery = scores.shape
    if scores.size == 0:
        raise ValueError(f"scores: expected at least one probe and one gallery template, found {probes} and {gallery}")
    if (len(probe_subjects), len(gallery_subjects)) != scores.shape:
        raise ValueError(
            f"scores: expected one row a probe and one column a gallery template, found {scores.shape} "
            f"for {len(probe_subjects)} probe and {len(gallery_subjects)} gallery subjects"
        )
    if not np.isfinite([scores.min(), scores.max()]).all():
        raise ValueError(
            f"scores: {int((~np.isfinite(scores)).sum())} of {scores.size} are NaN or infinite; was the run diverged?"
        )
    best_mate, best_other = np.empty((2, probes), dtype=scores.dtype)
    rank = np.empty(probes, dtype=np.int64)
    mates, top = [], np.empty(0, dtype=scores.dtype)
    rows = max(1, BLOCK_CELLS // gallery)
    for start in range(0, probes, rows):
        part = slice(start, start + rows)
        block, mate = scores[part], probe_subjects[part, None] == gallery_subjects
        other = np.where(mate, -np.inf, block)
        best_mate[part] = np.where(mate, block, -np.inf).max(axis=1)
        best_other[part] = other.max(axis=1)
        # Without mate all templates are others, and none is below minus infinity.
        rank[part] = 1 + (other >= best_mate[part, None]).sum(axis=1)
        mates.append(block[mate])
        top = _largest(np.concatenate([top, block[~mate]]), probes)
    mate_scores = np.concatenate(mates)
    return Searches(
        gallery, best_mate, rank, best_other, mate_scores, np.sort(top)[::-1], scores.size - len(mate_scores)
    )


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    return values if len(values) <= count else np.partition(values, len(values) - count)[len(values) - count :]


def top_k(searches: Searches, k: int, *, mated_only: bool = False) -> float:
    """Share of probes whose subject is among the `k` best gallery templates.

    Parameters
    ----------
    searches
        From `search`.
    k
        At least 1; a tie with another subject counts against the probe.
    mated_only
        Divide by the probes that have a mate; the official code divides by all.

    Raises
    ------
    ValueError
        If `k` is below 1 or above the size of the gallery, or `mated_only` and no probe has a mate.
    """
    if not 1 <= k <= searches.gallery:
        raise ValueError(f"k: expected 1 to {searches.gallery} (gallery templates), found {k}")
    total = searches.mated if mated_only else searches.probes
    if total == 0:
        raise ValueError("searches: no probe has a mate in the gallery; are subjects named alike in both lists?")
    return int((searches.mate_rank <= k).sum()) / total


def tpir_opensphere(searches: Searches, fpir: float) -> IdentificationPoint:
    """Official definition: as many wrong *scores* above the threshold as `fpir` of the number of probes.

    The threshold is the k-th highest score between different subjects, k = ceil(fpir * probes); TPIR is the number of scores of one
    subject above it, divided by the number of *all* probes. A probe with many good impostors spends the budget of others, and a
    probe without a mate is a miss.

    Raises
    ------
    ValueError
        If `fpir` is outside (0, 1].

    References
    ----------
    Papers 05 and 06, official code (OpenSphere v0, iclr, main).
    """
    _check_rate(fpir)
    allowed = math.ceil(fpir * searches.probes)
    if allowed > len(searches.top_others):
        note = f"{searches.others} scores between different subjects do not fill a budget of {allowed}"
        return _point(searches, fpir, np.nan, np.nan, "opensphere", note)
    threshold = searches.top_others[allowed - 1]
    tpir = int((searches.mate_scores > threshold).sum()) / searches.probes
    note = "" if searches.mated else "no probe has a mate in the gallery"
    return _point(searches, fpir, tpir, float(threshold), "opensphere", note)


def tpir_nist(searches: Searches, fpir: float, *, rank: int | None = None) -> IdentificationPoint:
    """NIST's definition: the share of *searches* without mate that return anybody is at most `fpir`.

    TPIR is the share of searches with a mate that return it, at the lowest such threshold.

    Parameters
    ----------
    searches
        From `search`, of one gallery. A probe whose subject is in the other gallery is a search without mate here.
    fpir
        In (0, 1]; NaN with a note if finer than one search without mate.
    rank
        The mate must also be among so many best candidates; default no limit.

    Raises
    ------
    ValueError
        If `fpir` is outside (0, 1] or `rank` below 1.

    References
    ----------
    NIST FRVT 1:N reports, FPIR and FNIR = 1 - TPIR (from memory, unverified).
    """
    _check_rate(fpir)
    if rank is not None and rank < 1:
        raise ValueError(f"rank: expected at least 1 or None, found {rank}")
    is_mated = searches.best_mate > -np.inf
    strangers = np.sort(searches.best_other[~is_mated])[::-1]
    if not is_mated.any() or fpir * len(strangers) < 1 - 1e-9:
        note = f"FPIR {fpir:g} cannot be read from {len(strangers)} searches without and {searches.mated} with a mate"
        return _point(searches, fpir, np.nan, np.nan, "nist", note)
    allowed = math.floor(fpir * len(strangers) + 1e-9)
    threshold = float(strangers[allowed]) if allowed < len(strangers) else -np.inf
    hit = searches.best_mate[is_mated] > threshold
    if rank is not None:
        hit &= searches.mate_rank[is_mated] <= rank
    return _point(searches, fpir, float(hit.mean()), threshold, "nist", "")


def _check_rate(fpir: float) -> None:
    if not 0 < fpir <= 1:
        raise ValueError(f"fpir: expected a rate in (0, 1], found {fpir}")


def _point(
    searches: Searches, fpir: float, tpir: float, threshold: float, definition: str, note: str
) -> IdentificationPoint:
    mated = searches.mated
    return IdentificationPoint(fpir, tpir, threshold, definition, mated, searches.probes - mated, note)


def evaluate(
    scores: Float[np.ndarray, "probes gallery"],
    probe_subjects: Shaped[np.ndarray, " probes"],
    gallery_subjects: Shaped[np.ndarray, " gallery"],
    *,
    gallery: Int[np.ndarray, " gallery"] | None = None,
    ks: Sequence[int] = (1, 5, 10),
    fpirs: Sequence[float] = (1e-2, 1e-1),
) -> IdentificationReport:
    """Ranks and open-set rates in both definitions.

    Parameters
    ----------
    scores
        Row a probe, column a gallery template, larger means more alike.
    probe_subjects, gallery_subjects
        Who is on each.
    gallery
        Which gallery each column belongs to (IJB has two, of different subjects); default one. The official numbers take all columns
        together, NIST's are read for each gallery.
    ks, fpirs
        Ranks and rates of the report.

    Raises
    ------
    ValueError
        As `search`, `top_k`, `tpir_opensphere`.
    """
    together = search(scores, probe_subjects, gallery_subjects)
    number = np.zeros(scores.shape[1], dtype=int) if gallery is None else gallery
    parts = [number == n for n in np.unique(number)]
    apart = (
        [together] if len(parts) == 1 else [search(scores[:, p], probe_subjects, gallery_subjects[p]) for p in parts]
    )
    return IdentificationReport(
        probes=together.probes,
        without_mate=together.probes - together.mated,
        gallery=together.gallery,
        subjects=len(np.unique(gallery_subjects)),
        top={k: top_k(together, k) for k in ks},
        opensphere=tuple(tpir_opensphere(together, fpir) for fpir in fpirs),
        nist=tuple(tuple(tpir_nist(one, fpir) for one in apart) for fpir in fpirs),
    )
