"""Verification by identity: how sure a number is when the people, not the pairs, are the sample, and whether one threshold suits all.

Pairs of one person hang together, so intervals resample identities. Papers 05 and 06 compare heads whose EERs differ by less than
a careless interval over pairs would let them; two systems are therefore compared on the same resamples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Shaped

from paper_utils.metrics.statistics import LEVEL, Estimate

# Cells that the pooled scores are cut into (choice of ours): rates at their ends come from matrix products over identities, and only
# the one cell that holds the wanted threshold is walked pair by pair.
CELLS = 128
# Pair weights held at once while walking a cell.
WALK = 2_000_000


@dataclass(frozen=True)
class IdentityBootstrap:
    """One system's verification numbers and their values on resampled identities.

    Parameters
    ----------
    values
        Numbers on all pairs: ``"EER"`` and ``"TAR@FAR=..."``, shares in [0, 1].
    draws
        The same numbers on each resample; NaN where the resample has no same or no different pair, or too few for the FAR.
    people
        The identities, sorted.
    weights
        How often each of them was drawn.
    """

    values: dict[str, float]
    draws: dict[str, Float[np.ndarray, " resamples"]]
    people: Shaped[np.ndarray, " people"]
    weights: Int[np.ndarray, "resamples people"]

    def interval(self, name: str) -> Estimate:
        """The number with its percentile interval; undefined resamples are left out and counted in the method."""
        return percentile_estimate(self.values[name], self.draws[name], len(self.people), name)


def paired_difference(first: IdentityBootstrap, second: IdentityBootstrap, name: str) -> Estimate:
    """First system's number minus the second's, with the percentile interval of the difference on the same resamples.

    Raises
    ------
    ValueError
        If the two did not see the same people and resamples, or the number is undefined for one of them.
    """
    if not np.array_equal(first.people, second.people) or not np.array_equal(first.weights, second.weights):
        raise ValueError(
            "first and second: expected the same people and the same weights, found different ones; "
            "draw them once with resample_identities and give them to both"
        )
    value = first.values[name] - second.values[name]
    return percentile_estimate(value, first.draws[name] - second.draws[name], len(first.people), name)


def percentile_estimate(
    value: float, draws: Float[np.ndarray, " resamples"], people: int, name: str = "value"
) -> Estimate:
    """A value with the percentile interval of its resamples; those in which it is not defined are left out and counted.

    Parameters
    ----------
    value, draws
        The statistic of all people, and of each resample; NaN where there was nothing to compute it from.
    people
        How many there are.
    name
        Of the statistic, for the error.

    Raises
    ------
    ValueError
        If it is defined nowhere.

    Examples
    --------
    >>> print(percentile_estimate(0.5, np.array([0.4, np.nan, 0.5, 0.6]), 20).method)
    percentile bootstrap over identities, 4 resamples, 1 of them undefined and left out
    """
    known = draws[np.isfinite(draws)]
    if not np.isfinite(value) or len(known) == 0:
        raise ValueError(
            f"{name}: undefined on these pairs ({len(known)} of {len(draws)} resamples are defined); take more people "
            "(an accept rate at a FAR also needs at least one different pair: take a larger FAR)"
        )
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    left_out = len(draws) - len(known)
    method = f"percentile bootstrap over identities, {len(draws)} resamples" + (
        f", {left_out} of them undefined and left out" if left_out else ""
    )
    return Estimate(float(value), float(low), float(high), people, method)


def resample_identities(people: int, resamples: int, rng: np.random.Generator) -> Int[np.ndarray, "resamples people"]:
    """How often each identity is drawn when as many as there are get drawn with replacement.

    Raises
    ------
    ValueError
        With fewer than two people, or no resample.
    """
    if people < 2 or resamples < 1:
        raise ValueError(f"people and resamples: expected at least 2 and 1, found {people} and {resamples}")
    return rng.multinomial(people, np.full(people, 1 / people), size=resamples)


@dataclass(frozen=True)
class _Pairs:
    """All pairs from the highest score down, cut into cells that never part equal scores."""

    scores: Float[np.ndarray, " pairs"]
    first: Int[np.ndarray, " pairs"]
    second: Int[np.ndarray, " pairs"]
    starts: Int[np.ndarray, " edges"]
    people: Shaped[np.ndarray, " people"]

    def cells(self) -> Iterator[slice]:
        for start, stop in zip(self.starts[:-1], self.starts[1:], strict=True):
            yield slice(start, stop)


def _matrix(similarities: np.ndarray, identities: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Checked similarities, the people, and the person of each row."""
    n = len(identities)
    if similarities.shape != (n, n) or n < 2:
        raise ValueError(
            f"similarities and identities: expected (n, n) and n >= 2 names, found {similarities.shape} and ({n},)"
        )
    if not np.isfinite(similarities).all():
        raise ValueError(
            f"similarities: {int((~np.isfinite(similarities)).sum())} of {similarities.size} are NaN or infinite"
        )
    if not np.allclose(similarities, similarities.T, atol=1e-5):
        worst = np.abs(similarities - similarities.T).max()
        raise ValueError(f"similarities: expected a symmetric matrix, found differences up to {worst:.2g}")
    people, person = np.unique(identities, return_inverse=True)
    if not 2 <= len(people) < n:
        raise ValueError(
            f"identities: expected at least two people and one of them twice, found {n} rows of {len(people)} people"
        )
    return similarities, people, person


def _sorted_pairs(similarities: np.ndarray, identities: np.ndarray) -> _Pairs:
    similarities, people, person = _matrix(similarities, identities)
    rows, columns = np.triu_indices(len(person), k=1)
    return _cut_into_cells(similarities[rows, columns], person[rows], person[columns], people, CELLS)


def _cut_into_cells(
    scores: np.ndarray, first: np.ndarray, second: np.ndarray, people: np.ndarray, cells: int
) -> _Pairs:
    order = np.argsort(-scores, kind="stable")
    scores = scores[order]
    # Each cut moves down to the next change of score.
    change = np.r_[0, np.flatnonzero(scores[1:] != scores[:-1]) + 1, len(scores)]
    wanted = np.linspace(0, len(scores), cells + 1).astype(int)
    starts = np.unique(change[np.searchsorted(change, wanted)])
    return _Pairs(scores, first[order], second[order], starts, people)


def _rates_at_cell_ends(pairs: _Pairs, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted numbers of different and of same pairs accepted before each cell and after the last, (edges, resamples)."""
    people, resamples = len(pairs.people), len(weights)
    impostor, genuine = np.zeros((2, len(pairs.starts), resamples))
    for cell, rows in enumerate(pairs.cells(), start=1):
        key = pairs.first[rows] * people + pairs.second[rows]
        counts = np.bincount(key, minlength=people**2).reshape(people, people).astype(float)
        own = np.diagonal(counts).copy()
        np.fill_diagonal(counts, 0)
        impostor[cell] = impostor[cell - 1] + np.einsum("ri,ri->r", weights @ counts, weights)
        genuine[cell] = genuine[cell - 1] + weights @ own
    return impostor, genuine


def resampled_rates(
    scores: Float[np.ndarray, " pairs"],
    first: Int[np.ndarray, " pairs"],
    second: Int[np.ndarray, " pairs"],
    weights: Int[np.ndarray, "resamples people"],
    *,
    cells: int = CELLS,
) -> tuple[Float[np.ndarray, "points resamples"], Float[np.ndarray, "points resamples"]]:
    """False and true accept rates of any list of pairs on resampled people, at `cells` thresholds that hold about as many pairs each.

    With no more distinct scores than cells these are all points of the curve. Pairs count as in `identity_bootstrap`.

    Parameters
    ----------
    scores
        Larger means more alike.
    first, second
        Person on either side of each pair, as columns of `weights`; a pair with itself is a same pair.
    weights
        How often each person was drawn.

    Returns
    -------
    tuple
        From (0, 0) to (1, 1) down each column; NaN in resamples that hold no same or no different pair.
    """
    if not np.isfinite(scores).all():
        raise ValueError(f"scores: {int((~np.isfinite(scores)).sum())} of {scores.size} are NaN or infinite")
    pairs = _cut_into_cells(scores, first, second, np.arange(weights.shape[1]), cells)
    counts = _rates_at_cell_ends(pairs, weights.astype(float))
    usable = (counts[0][-1] > 0) & (counts[1][-1] > 0)
    fpr, tpr = (np.where(usable, count / np.where(usable, count[-1], 1.0), np.nan) for count in counts)
    return fpr, tpr


def _walk(
    pairs: _Pairs, rows: slice, weights: np.ndarray, impostor: np.ndarray, genuine: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted numbers of accepted pairs after each distinct score of a cell, beginning with those before it; (resamples, points)."""
    first, second, scores = pairs.first[rows], pairs.second[rows], pairs.scores[rows]
    same = first == second
    last = np.flatnonzero(np.r_[scores[1:] != scores[:-1], True])
    weight = weights[:, first]
    gained = [np.where(same, 0, weight * weights[:, second]), np.where(same, weight, 0)]
    counts = (
        np.c_[base, base[:, None] + np.cumsum(new, axis=1)[:, last]]
        for base, new in zip((impostor, genuine), gained, strict=True)
    )
    return next(counts), next(counts)


def _read(far: float | None, fpr: np.ndarray, tpr: np.ndarray) -> np.ndarray:
    """EER (no FAR given) or TAR of each resample from its stretch of the curve, (resamples, points); as `verification` reads them."""
    index = np.arange(len(fpr))
    if far is not None:
        return tpr[index, (fpr <= far).sum(axis=1) - 1]
    gap = 1.0 - fpr - tpr
    after = np.argmax(gap <= 0, axis=1)
    before = after - 1
    share = gap[index, before] / (gap[index, before] - gap[index, after])
    return fpr[index, before] + share * (fpr[index, after] - fpr[index, before])


def _replicates(pairs: _Pairs, weights: np.ndarray, fars: Sequence[float]) -> dict[str, np.ndarray]:
    weights = weights.astype(float)
    impostor, genuine = _rates_at_cell_ends(pairs, weights)
    negatives, positives = impostor[-1], genuine[-1]
    usable = (negatives > 0) & (positives > 0)
    safe = [np.where(usable, total, 1.0) for total in (negatives, positives)]
    fpr, tpr = impostor / safe[0], genuine / safe[1]
    result = {}
    targets = {"EER": None} | {f"TAR@FAR={far:g}": far * (1 + 1e-12) for far in fars}
    for name, far in targets.items():
        passed = 1.0 - fpr - tpr <= 0 if far is None else fpr > far
        known = usable if far is None else usable & (far * negatives >= 1 - 1e-9)
        cell = np.where(passed.any(axis=0), passed.argmax(axis=0), len(fpr) - 1) - 1
        values = np.full(len(weights), np.nan)
        for number in np.unique(cell[known]):
            rows = slice(pairs.starts[number], pairs.starts[number + 1])
            chosen = np.flatnonzero(known & (cell == number))
            for part in np.array_split(chosen, 1 + len(chosen) * (rows.stop - rows.start) // WALK):
                counts = _walk(pairs, rows, weights[part], impostor[number, part], genuine[number, part])
                rates = [c / total[part, None] for c, total in zip(counts, safe, strict=True)]
                values[part] = _read(far, *rates)
        result[name] = values
    return result


def identity_bootstrap(
    similarities: Float[np.ndarray, "n n"],
    identities: Shaped[np.ndarray, " n"],
    weights: Int[np.ndarray, "resamples people"],
    *,
    fars: Sequence[float] = (1e-3,),
) -> IdentityBootstrap:
    """EER and TAR at FARs of all pairs, and of the pairs among resampled identities; exact on every resample, no histogram error.

    An identity drawn twice counts as two people with the same images. Pairs between these two copies are neither same nor different
    and are left out; all other pairs weigh the product (different people) or the number of copies (same person).

    Parameters
    ----------
    similarities
        Score of every pair of images, symmetric, larger means more alike; `verification.cosine_similarities` makes it from embeddings.
        The diagonal is not used.
    identities
        Who is on each image.
    weights
        From `resample_identities`; give the same to every system that is to be compared.
    fars
        False accept rates in (0, 1], read by the definition "exact".

    Raises
    ------
    ValueError
        If shapes do not fit, a score is not finite, the matrix is not symmetric, or there are no two people with one of them seen twice.
    """
    for far in fars:
        if not 0 < far <= 1:
            raise ValueError(f"fars: expected rates in (0, 1], found {far}")
    pairs = _sorted_pairs(similarities, identities)
    if weights.shape[1] != len(pairs.people):
        raise ValueError(
            f"weights: expected one column for each of {len(pairs.people)} people, found shape {weights.shape}"
        )
    # The first resample is the sample itself.
    everything = np.concatenate([np.ones((1, len(pairs.people)), dtype=weights.dtype), weights])
    replicates = _replicates(pairs, everything, fars)
    return IdentityBootstrap(
        values={name: float(found[0]) for name, found in replicates.items()},
        draws={name: found[1:] for name, found in replicates.items()},
        people=pairs.people,
        weights=weights,
    )


# ------------------------------------------------------------------------------------------------ one threshold for all?


@dataclass(frozen=True)
class OwnThresholds:
    """The threshold that would suit each identity best.

    Parameters
    ----------
    people
        The identities, sorted.
    thresholds
        Best threshold of each; NaN for those without two images or whose scores are all equal.
    spread
        Standard deviation of the known ones (n - 1), in the unit of the score: 0 if one threshold suits all.
    unknown
        Number of identities without a threshold of their own.
    """

    people: Shaped[np.ndarray, " people"]
    thresholds: Float[np.ndarray, " people"]
    spread: float
    unknown: int


def own_thresholds(similarities: Float[np.ndarray, "n n"], identities: Shaped[np.ndarray, " n"]) -> OwnThresholds:
    """Best threshold of each identity between its same pairs and its pairs with others (paper 05: one threshold for all classes).

    Best is the highest mean of true accept and true reject rate (choice of ours: plain accuracy would let the many different pairs
    decide alone). Thresholds lie midway between neighbouring scores; of several equally good ones the mean is taken.

    Raises
    ------
    ValueError
        As `identity_bootstrap`, or if fewer than two identities have a threshold.
    """
    similarities, people, person = _matrix(similarities, identities)
    rows, columns = np.nonzero(~np.eye(len(person), dtype=bool))
    owner, scores = person[rows], similarities[rows, columns]
    order = np.argsort(scores)  # then by owner, as `np.lexsort` would; but small integers are sorted by counting
    order = order[np.argsort(owner[order].astype(np.min_scalar_type(len(people))), kind="stable")]
    owner, scores, same = owner[order], scores[order], (owner == person[columns])[order]
    starts = np.searchsorted(owner, np.arange(len(people)))
    # Integer score of a threshold just above each entry: different pairs below it and same pairs above, each in units of 1/(P N).
    below = [np.cumsum(kind) - np.cumsum(kind)[starts][owner] + kind[starts][owner] for kind in (same, ~same)]
    totals = [np.add.reduceat(kind, starts, dtype=np.int64)[owner] for kind in (same, ~same)]
    quality = below[1] * totals[0] + (totals[0] - below[0]) * totals[1]
    between = np.r_[(owner[1:] == owner[:-1]) & (scores[1:] > scores[:-1]), False] & (totals[0] > 0)
    quality = np.where(between, quality, -1)
    best = between & (quality == np.maximum.reduceat(quality, starts)[owner])
    middle = np.where(best, (scores + np.r_[scores[1:], 0.0]) / 2, 0.0)
    count = np.add.reduceat(best, starts, dtype=np.int64)
    thresholds = np.where(count > 0, np.add.reduceat(middle, starts) / np.maximum(count, 1), np.nan)
    known = thresholds[count > 0]
    if len(known) < 2:
        raise ValueError(f"identities: expected at least two with two images each, found {len(known)}")
    return OwnThresholds(people, thresholds, float(known.std(ddof=1)), int((count == 0).sum()))
