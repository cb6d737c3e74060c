"""Ranked lists with ties: expected average precision, hits and precision at k when equal scores are ordered by lot.

A score with few distinct values, such as one made from recognised covariates, is mostly ties; whatever order a sort happens to
leave them in must not count. All functions take a score matrix and a relevance mask and work on all queries at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike
from scipy import special

from paper_utils.metrics.ranks import BLOCK_CELLS, new_level, whole_sizes


@dataclass(frozen=True)
class _Groups:
    """Groups of ties of a block of queries: sizes, relevant items, and both counts before the group."""

    query: Int[np.ndarray, " groups"]
    starts: Int[np.ndarray, " groups"]
    size: Int[np.ndarray, " groups"]
    relevant: Int[np.ndarray, " groups"]
    before: Int[np.ndarray, " groups"]
    relevant_before: Int[np.ndarray, " groups"]
    queries: int
    items: int


def average_precision(
    scores: Float[np.ndarray, "queries items"], relevant: Bool[np.ndarray, "queries items"]
) -> Float[np.ndarray, " queries"]:
    r"""Average precision of every query, expected over the random order inside groups of ties.

    A group of :math:`n_t` items, :math:`r_t` of them relevant, with :math:`N` items and :math:`R_b` relevant ones before it:

    .. math::
        \frac1R\sum_t\frac{r_t}{n_t}\left\{(R_b+1)D+\frac{r_t-1}{n_t-1}\bigl(n_t-(N+1)D\bigr)\right\},\qquad D=H_{N+n_t}-H_N

    Parameters
    ----------
    scores
        Larger is better; scores within a relative 1e-12 are ties.
    relevant
        What each query looks for; at least one item a query.

    Raises
    ------
    ValueError
        For an empty collection, NaN scores, masks of another shape, or queries without a relevant item.

    Examples
    --------
    Two items, one relevant, no information: first or second with equal chance, (1 + 1/2)/2.

    >>> average_precision(np.zeros((1, 2)), np.array([[True, False]])).round(12).tolist()
    [0.75]
    """

    def one_block(groups: _Groups) -> np.ndarray:
        inverse = np.tile(1 / np.arange(1, groups.items + 1), groups.queries)
        place = np.arange(groups.queries * groups.items) - np.repeat(groups.starts, groups.size)
        mean_inverse = np.add.reduceat(inverse, groups.starts)
        # n - (N + 1) D, summed term by term so that deep groups keep their digits.
        gain = np.add.reduceat(place * inverse, groups.starts)
        inside = (groups.relevant_before + 1) * mean_inverse + (groups.relevant - 1) / np.maximum(
            groups.size - 1, 1
        ) * gain
        return np.bincount(groups.query, groups.relevant / groups.size * inside, minlength=groups.queries)

    return _over_queries(scores, relevant, one_block) / np.count_nonzero(relevant, axis=1)


def mean_average_precision(
    scores: Float[np.ndarray, "queries items"], relevant: Bool[np.ndarray, "queries items"]
) -> float:
    """Mean of `average_precision` over queries; raises as it does."""
    return float(average_precision(scores, relevant).mean())


def hit_at_k(
    scores: Float[np.ndarray, "queries items"], relevant: Bool[np.ndarray, "queries items"], k: ArrayLike
) -> Float[np.ndarray, "*k queries"]:
    r"""Probability that at least one relevant item is among the first `k`, for every query.

    Inside the group that straddles place :math:`k`, with :math:`k'` places left, no relevant item is drawn with probability
    :math:`\binom{n_t-r_t}{k'}/\binom{n_t}{k'}`.

    Raises
    ------
    ValueError
        As `average_precision`; also if `k` is not a whole number from 1 to the number of items.
    """
    flat, shape = _places(k, np.shape(scores))

    def one_block(groups: _Groups) -> np.ndarray:
        left = np.clip(flat[:, None] - groups.before, 0, groups.size)
        plain = groups.size - groups.relevant
        drawable = left <= plain
        kept = np.where(drawable, left, 0)
        log_miss = (
            special.gammaln(plain + 1)
            - special.gammaln(plain - kept + 1)
            - special.gammaln(groups.size + 1)
            + special.gammaln(groups.size - kept + 1)
        )
        log_miss = np.where((kept == 0) | (groups.relevant == 0), 0.0, log_miss)
        log_miss = np.where(drawable, log_miss, -np.inf)
        first = np.flatnonzero(np.r_[True, groups.query[1:] != groups.query[:-1]])
        return 1 - np.exp(np.add.reduceat(log_miss, first, axis=1))

    return _over_queries(scores, relevant, one_block).reshape(*shape, len(scores))


def precision_at_k(
    scores: Float[np.ndarray, "queries items"], relevant: Bool[np.ndarray, "queries items"], k: ArrayLike
) -> Float[np.ndarray, "*k queries"]:
    r"""Expected share of relevant items among the first `k`, for every query: :math:`\frac1k\sum_t \frac{r_t}{n_t}k'_t`.

    Recall at k is this times :math:`k/R`.

    Raises
    ------
    ValueError
        As `hit_at_k`.
    """
    flat, shape = _places(k, np.shape(scores))

    def one_block(groups: _Groups) -> np.ndarray:
        left = np.clip(flat[:, None] - groups.before, 0, groups.size)
        first = np.flatnonzero(np.r_[True, groups.query[1:] != groups.query[:-1]])
        return np.add.reduceat(left * groups.relevant / groups.size, first, axis=1) / flat[:, None]

    return _over_queries(scores, relevant, one_block).reshape(*shape, len(scores))


def _places(k: ArrayLike, shape: tuple[int, ...]) -> tuple[np.ndarray, tuple[int, ...]]:
    flat, given = whole_sizes(k, name="k")
    if len(shape) == 2 and flat.max() > shape[1]:
        raise ValueError(f"k: expected at most the number of items, {shape[1]}, found {flat.max()}")
    return flat, given


def _over_queries(scores: np.ndarray, relevant: np.ndarray, one_block: Callable[[_Groups], np.ndarray]) -> np.ndarray:
    """Apply a function of the tie groups to blocks of queries and join the results along the last axis."""
    scores, relevant = np.asarray(scores, dtype=float), np.asarray(relevant)
    if scores.ndim != 2 or scores.size == 0:
        raise ValueError(
            f"scores: expected a matrix (queries, items) with at least one entry, found shape {scores.shape}; is the collection empty?"
        )
    if relevant.shape != scores.shape or relevant.dtype != bool:
        raise ValueError(
            f"relevant: expected a boolean mask of shape {scores.shape}, found {relevant.dtype} of shape {relevant.shape}"
        )
    if np.isnan(scores).any():
        raise ValueError(
            f"scores: {int(np.isnan(scores).sum())} of {scores.size} are NaN; drop or repair those items first"
        )
    empty = np.flatnonzero(~relevant.any(axis=1))
    if len(empty):
        raise ValueError(
            f"relevant: {len(empty)} of {len(relevant)} queries have no relevant item (first: row {empty[0]}); drop them and report how many"
        )
    return np.concatenate([one_block(groups) for groups in _blocks(scores, relevant)], axis=-1)


def _blocks(scores: np.ndarray, relevant: np.ndarray) -> Iterator[_Groups]:
    items = scores.shape[1]
    rows = max(1, BLOCK_CELLS // items)
    for start in range(0, len(scores), rows):
        part, mask = scores[start : start + rows], relevant[start : start + rows]
        order = np.argsort(-part, axis=1, kind="stable")
        flags = np.take_along_axis(mask, order, axis=1).astype(np.int64).ravel()
        starts = np.flatnonzero(new_level(np.take_along_axis(part, order, axis=1)))
        found = np.add.reduceat(flags, starts)
        query = starts // items
        total = np.r_[0, np.cumsum(found)[:-1]]
        first_of_query = np.searchsorted(query, np.arange(len(part)))
        yield _Groups(
            query=query,
            starts=starts,
            size=np.diff(np.r_[starts, flags.size]),
            relevant=found,
            before=starts % items,
            relevant_before=total - total[first_of_query][query],
            queries=len(part),
            items=items,
        )
