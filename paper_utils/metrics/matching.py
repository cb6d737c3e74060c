"""One of N: how often a probe finds its match among N entries, from a score matrix, exactly over all galleries.

No gallery is ever sampled. For each match it is enough to count the rivals that score below it and those that tie with it; the
share of all galleries in which it comes first (ties broken by lot) then follows in closed form. Ties matter: with a constant score
``argmax == 0`` reports 100 % and ``positive > negative`` reports 0 %, where the truth is 1/N.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike

from paper_utils.metrics.ranks import BLOCK_CELLS, TIE_RTOL, share_of_galleries_below, whole_sizes


@dataclass(frozen=True)
class Comparisons:
    """What every (probe, match) pair needs to know about its rivals.

    Parameters
    ----------
    probe, match
        Row and column of the pair in the score matrix.
    below, tied, rivals
        Rivals that score less than the match, the same as it, and all of them.
    """

    probe: Int[np.ndarray, " pairs"]
    match: Int[np.ndarray, " pairs"]
    below: Int[np.ndarray, " pairs"]
    tied: Int[np.ndarray, " pairs"]
    rivals: Int[np.ndarray, " pairs"]

    def __len__(self) -> int:
        return len(self.probe)

    def with_rivals(self, minimum: int) -> Comparisons:
        """Only the pairs that have at least `minimum` rivals; compare lengths to report how many were left out."""
        keep = self.rivals >= minimum
        return Comparisons(self.probe[keep], self.match[keep], self.below[keep], self.tied[keep], self.rivals[keep])


def compare(
    scores: Float[np.ndarray, "probes gallery"],
    same: Bool[np.ndarray, "probes gallery"] | None = None,
    *,
    eligible: Bool[np.ndarray, "probes gallery"] | None = None,
) -> Comparisons:
    """Count, for every pair of a probe and one of its matches, the rivals below it and tied with it.

    Parameters
    ----------
    scores
        Larger means more alike.
    same
        True where probe and gallery item belong to one person. Default: probe ``i`` matches gallery item ``i`` and nothing else.
    eligible
        Which items may stand against a probe, for instance only people of its gender; default all. Items of the probe's own
        person are never rivals. Scores within a relative 1e-12 are ties.

    Raises
    ------
    ValueError
        For an empty or not two-dimensional matrix, NaN scores, masks of another shape, or a matrix without any match.
    """
    scores = np.asarray(scores, dtype=float)
    if scores.ndim != 2 or scores.size == 0:
        raise ValueError(
            f"scores: expected a matrix (probes, gallery) with at least one entry, found shape {scores.shape}; is the gallery empty?"
        )
    if np.isnan(scores).any():
        raise ValueError(
            f"scores: {int(np.isnan(scores).sum())} of {scores.size} are NaN; drop or repair those items first"
        )
    if same is None:
        if scores.shape[0] != scores.shape[1]:
            raise ValueError(
                f"scores: without `same`, probe i matches gallery item i, so the matrix must be square; found {scores.shape}"
            )
        same = np.eye(len(scores), dtype=bool)
    for name, mask in (("same", same), ("eligible", eligible)):
        if mask is not None and np.shape(mask) != scores.shape:
            raise ValueError(f"{name}: expected the shape of scores, {scores.shape}, found {np.shape(mask)}")
    rival = ~same if eligible is None else ~same & eligible
    probe, match = np.nonzero(same)
    if len(probe) == 0:
        raise ValueError("same: no probe has a match in the gallery; check that both sides name people in the same way")
    below, tied = np.empty(len(probe), dtype=np.int64), np.empty(len(probe), dtype=np.int64)
    rows = max(1, BLOCK_CELLS // scores.shape[1])
    for start in range(0, len(probe), rows):
        part = slice(start, start + rows)
        others, allowed = scores[probe[part]], rival[probe[part]]
        low, high = _tie_range(scores[probe[part], match[part]][:, None])
        lower = others < low
        below[part] = np.count_nonzero(lower & allowed, axis=1)
        tied[part] = np.count_nonzero((others <= high) & ~lower & allowed, axis=1)
    return Comparisons(probe, match, below, tied, np.count_nonzero(rival, axis=1)[probe])


def match_accuracy_per_pair(comparisons: Comparisons, sizes: ArrayLike) -> Float[np.ndarray, "*sizes pairs"]:
    r"""Share of all galleries of `N` entries in which a match comes first, for every pair of a probe and its match.

    With :math:`G` rivals below, :math:`E` tied with it and :math:`n` in all,

    .. math:: \frac{\binom{G+E+1}{N}-\binom{G}{N}}{(E+1)\binom{n}{N-1}} = \frac1{E+1}\sum_{e=0}^{E}\binom{G+e}{N-1}\Big/\binom{n}{N-1}

    computed by the second form, whose terms are sums of ``log1p``: no overflow, and no cancellation when :math:`G` is large.

    Raises
    ------
    ValueError
        If a size is not a whole number of at least 1, or a pair has fewer than ``N - 1`` rivals.
    """
    flat, shape = whole_sizes(sizes)
    if comparisons.rivals.min() < flat.max() - 1:
        short = int((comparisons.rivals < flat.max() - 1).sum())
        raise ValueError(
            f"sizes: a gallery of {flat.max()} needs {flat.max() - 1} rivals, but {short} of {len(comparisons)} matches have fewer "
            f"(smallest: {comparisons.rivals.min()}); take smaller galleries, or leave them out with `with_rivals` and say how many"
        )
    accuracy = _first_place(comparisons.below, comparisons.tied, comparisons.rivals, flat)
    return accuracy.reshape(*shape, len(comparisons))


def match_accuracy(
    scores: Float[np.ndarray, "probes gallery"],
    sizes: ArrayLike,
    same: Bool[np.ndarray, "probes gallery"] | None = None,
    *,
    eligible: Bool[np.ndarray, "probes gallery"] | None = None,
) -> float | Float[np.ndarray, "*sizes"]:
    """Accuracy of 1:N matching, averaged over all pairs of a probe and its match and over all galleries.

    Parameters
    ----------
    scores, same, eligible
        As in `compare`.
    sizes
        One or more gallery sizes ``N``.

    Raises
    ------
    ValueError
        As `compare` and `match_accuracy_per_pair`.

    Examples
    --------
    A constant score knows nothing, whatever order the entries are stored in:

    >>> match_accuracy(np.zeros((10, 10)), [2, 5]).round(12).tolist()
    [0.5, 0.2]
    """
    return match_accuracy_per_pair(compare(scores, same, eligible=eligible), sizes).mean(axis=-1)


def bootstrap_match_accuracy(
    scores: Float[np.ndarray, "people people"],
    sizes: ArrayLike,
    *,
    rng: np.random.Generator | None = None,
    resamples: int = 1000,
    weights: Int[np.ndarray, "draws people"] | None = None,
) -> Float[np.ndarray, replicates * sizes]:
    """Replicates of `match_accuracy` over resampled people, who are drawn as probes and as rivals at once.

    A person drawn twice is not a rival of itself. One matrix product counts for all resamples.

    Parameters
    ----------
    scores
        Square; probe ``i`` and gallery item ``i`` are one person.
    sizes
        One or more gallery sizes.
    rng
        Source of the resampling, unless `weights` are given.
    resamples
        Number of bootstrap samples.
    weights
        How often each person is drawn in each sample, from `by_identity.resample_identities`: give the same to systems that are to be
        compared. A sample that draws too few people for a size is NaN there.

    Raises
    ------
    ValueError
        As `compare`; also if a size is too large for the number of people, or if not exactly one of `rng` and `weights` is given.
    """
    flat, shape = whole_sizes(sizes)
    compare(scores)
    people = len(scores)
    if (rng is None) == (weights is None):
        raise ValueError("expected either rng (and resamples) or weights")
    if flat.max() > people // 2:
        raise ValueError(
            f"sizes: resampling {people} people supports galleries up to {people // 2}, found {flat.max()}"
        )
    low, high = _tie_range(np.diag(scores)[:, None])
    below = scores < low
    equal = (scores <= high) & ~below
    np.fill_diagonal(equal, False)
    weight = weights if rng is None else rng.multinomial(people, np.full(people, 1 / people), size=resamples)
    if weight.shape[1:] != (people,):
        raise ValueError(f"weights: expected one column for each of {people} people, found shape {weight.shape}")
    drawn = weight.sum(axis=1, keepdims=True)
    counts = [
        np.rint(weight.astype(np.float32) @ mask.T.astype(np.float32)).astype(np.int64) for mask in (below, equal)
    ]
    rivals = drawn - weight
    enough = np.maximum(rivals, flat.max() - 1)
    first = _first_place(counts[0].ravel(), counts[1].ravel(), enough.ravel(), flat).reshape(len(flat), *weight.shape)
    means = (first * weight).sum(-1) / np.maximum(drawn[:, 0], 1)
    short = (np.where(weight > 0, rivals, people).min(axis=1) < flat[:, None] - 1) | (drawn[:, 0] == 0)
    return np.where(short, np.nan, means).T.reshape(len(weight), *shape)


def _tie_range(own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest score that ties with `own`."""
    margin = np.where(np.isfinite(own), TIE_RTOL * np.abs(own), 0.0)
    return own - margin, own + margin


def _first_place(below: np.ndarray, tied: np.ndarray, rivals: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Mean over the place ``e`` among the ties of C(below + e, N - 1) / C(rivals, N - 1); sizes x pairs."""
    share = share_of_galleries_below(int(rivals.max()), sizes)
    running = np.concatenate([np.zeros((len(sizes), 1)), np.cumsum(share, axis=1)], axis=1)
    total = np.where(tied == 0, share[:, below], running[:, below + tied + 1] - running[:, below])
    return total / ((tied + 1) * share[:, rivals])
