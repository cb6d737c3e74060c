"""Ranks among random rivals: closed forms and quadratures that stay exact from one rival to a million.

One idea carries all of them. Let a fraction ``x`` of the rivals' law outrank the match (ties broken by independent uniforms). Given
``x``, the number of rivals ahead is binomial, so every ranking metric is a mean over ``x`` of a binomial expectation. Tied scores
make ``x`` uniform on an interval, a *level*; the functions here take those means. Derived here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike
from scipy import special

TIE_RTOL = 1e-12
# Memory bound: number of float64 cells of one temporary array.
BLOCK_CELLS = 2_000_000
_SMALL_PHI = 128
_LADDER_NODES = 10


def new_level(ordered: Float[np.ndarray, "*rows n"], rtol: float = TIE_RTOL) -> Bool[np.ndarray, "*rows n"]:
    r"""Where a new group of ties begins in rows that are sorted (either way).

    Neighbours are tied if :math:`|x-y| \le \text{rtol}\,\max(|x|,|y|)`: scores that are equal on paper differ in the last bits.

    Parameters
    ----------
    ordered
        Sorted along the last axis; infinities are allowed and tie with each other.
    rtol
        Relative tolerance.

    Examples
    --------
    >>> new_level(np.array([3.0, 1.0, 1.0 - 1e-15, 0.0])).tolist()
    [True, True, False, True]
    """
    left, right = ordered[..., :-1], ordered[..., 1:]
    finite = np.isfinite(left) & np.isfinite(right)
    with np.errstate(invalid="ignore"):
        near = np.abs(left - right) <= rtol * np.maximum(np.abs(left), np.abs(right))
    begins = np.ones(ordered.shape, dtype=bool)
    begins[..., 1:] = ~((left == right) | (near & finite))
    return begins


def level_numbers(score: Float[np.ndarray, "rows columns"]) -> Int[np.ndarray, "rows columns"]:
    """Whole numbers in the order of the scores of each row, equal for ties."""
    order = np.argsort(score, axis=1)
    level = np.cumsum(new_level(np.take_along_axis(score, order, axis=1)), axis=1)
    return np.take_along_axis(level, np.argsort(order, axis=1), axis=1)


@dataclass(frozen=True)
class Levels:
    """Groups of tied scores, of every row of a table, best first; rows one after the other.

    Parameters
    ----------
    row
        Row (probe label) of the level.
    score
        Score of the level.
    match
        Mass of the match on the level, as in the table: over all levels it sums to the table's sum.
    rival
        Mass of one rival on the level, given the row.
    before, rest, after
        Rival mass on better levels; on this level or a worse one; on worse ones. ``rest`` and ``after`` are summed from the small
        side, so that they keep their digits where they are tiny.
    cell_order, starts
        Column order of every row (best first), and index of each level's first cell in the flattened ordered table.
    """

    row: Int[np.ndarray, " levels"]
    score: Float[np.ndarray, " levels"]
    match: Float[np.ndarray, " levels"]
    rival: Float[np.ndarray, " levels"]
    before: Float[np.ndarray, " levels"]
    rest: Float[np.ndarray, " levels"]
    after: Float[np.ndarray, " levels"]
    cell_order: Int[np.ndarray, "rows columns"]
    starts: Int[np.ndarray, " levels"]

    def total(self, cells: Float[np.ndarray, "rows columns"]) -> Float[np.ndarray, " levels"]:
        """Sum of a table over the cells of each level."""
        return np.add.reduceat(np.take_along_axis(cells, self.cell_order, axis=1).ravel(), self.starts)

    def best_rival(self, rivals: Int[np.ndarray, " sizes"]) -> Float[np.ndarray, "sizes levels"]:
        r"""Probability that the best of ``n`` rivals sits on the level.

        .. math:: (1-U_l)^n - (1-U_{l+1})^n, \qquad U_l = \texttt{before}

        Formed as ``exp(n log1p(-U)) * -expm1(n log1p(-g/(1-U)))``: no cancellation and no underflow for a million rivals.
        """
        count = np.asarray(rivals, dtype=float)[:, None]
        log_rest, log_step = self._logs
        with np.errstate(invalid="ignore"):
            mass = np.exp(count * log_rest) * -np.expm1(count * log_step)
        return np.where(self.rival > 0, mass, 0.0)

    def first(self, sizes: Int[np.ndarray, " sizes"]) -> Float[np.ndarray, "sizes levels"]:
        r"""Probability that a match on the level is ranked first among ``N`` entries.

        .. math:: \frac{(1-U_l)^N - (1-U_{l+1})^N}{N g_l}, \qquad (1-U_l)^{N-1} \text{ if } g_l = 0
        """
        count = np.asarray(sizes, dtype=float)[:, None]
        log_rest, _ = self._logs
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            spread = self.best_rival(sizes) / (count * self.rival)
            alone = np.where(count == 1, 1.0, np.exp((count - 1) * log_rest))
        return np.where(self.rival > 0, spread, alone)

    @property
    def _logs(self) -> tuple[np.ndarray, np.ndarray]:
        with np.errstate(divide="ignore", invalid="ignore"):
            log_rest = np.where(self.before < 0.5, np.log1p(-np.minimum(self.before, 0.5)), np.log(self.rest))
            narrow = self.rival < 0.5 * self.rest
            share = np.where(narrow, self.rival / self.rest, 0.0)
            log_step = np.where(narrow, np.log1p(-share), np.log(self.after / self.rest))
        return log_rest, log_step


def levels(
    scores: Float[np.ndarray, "rows columns"],
    match: Float[np.ndarray, "rows columns"],
    rival: Float[np.ndarray, " columns"] | Float[np.ndarray, "rows columns"],
) -> Levels:
    """Sort every row of a score table from best to worst and merge ties.

    Parameters
    ----------
    scores
        Score of each (row, column); NaN only where neither a match nor a rival can occur.
    match
        Mass of the match in each cell.
    rival
        Mass of each column for one rival; one row if it is the same for all rows.

    Raises
    ------
    ValueError
        If a score is NaN in a cell that has mass.
    """
    mass = np.broadcast_to(rival, match.shape)
    undefined = np.isnan(scores)
    if (undefined & ((mass > 0) | (match > 0))).any():
        raise ValueError(
            f"scores: {int((undefined & (mass > 0)).sum())} cells that can occur have score NaN; give every possible pair a score"
        )
    scores = np.where(undefined, -np.inf, scores)
    order = np.argsort(-scores, axis=1, kind="stable")
    ordered, mass = np.take_along_axis(scores, order, axis=1), np.take_along_axis(mass, order, axis=1)
    starts = np.flatnonzero(new_level(ordered))
    ends = np.r_[starts[1:], ordered.size] - 1
    onwards = np.cumsum(mass[:, ::-1], axis=1)[:, ::-1]
    ahead, behind = np.zeros_like(onwards), np.zeros_like(onwards)
    ahead[:, 1:], behind[:, :-1] = np.cumsum(mass, axis=1)[:, :-1], onwards[:, 1:]
    return Levels(
        row=starts // scores.shape[1],
        score=ordered.ravel()[starts],
        match=np.add.reduceat(np.take_along_axis(match, order, axis=1).ravel(), starts),
        rival=np.add.reduceat(mass.ravel(), starts),
        before=ahead.ravel()[starts],
        rest=onwards.ravel()[starts],
        after=behind.ravel()[ends],
        cell_order=order,
        starts=starts,
    )


def whole_sizes(
    sizes: ArrayLike, minimum: int = 1, name: str = "sizes"
) -> tuple[Int[np.ndarray, " n"], tuple[int, ...]]:
    """Gallery sizes as a flat integer array, and the shape they came in.

    Raises
    ------
    ValueError
        If a size is not a whole number of at least `minimum`.
    """
    given = np.asarray(sizes)
    array = np.asarray(given, dtype=float).ravel()
    if array.size == 0 or not np.isfinite(array).all() or (array != np.round(array)).any() or array.min() < minimum:
        raise ValueError(f"{name}: expected whole numbers of at least {minimum}, found {given.tolist()}")
    return array.astype(np.int64), given.shape


def shaped(values: Float[np.ndarray, " n"], shape: tuple[int, ...]) -> float | Float[np.ndarray, "*shape"]:
    """Results for flat sizes in the shape that the sizes came in; a plain float for a single one."""
    return float(values[0]) if shape == () else values.reshape(shape)


def check_collection(items: int, relevant: int = 1, k: int | None = None) -> None:
    """Refuse a collection unless ``1 <= relevant <= items`` and ``1 <= k <= items``, all whole numbers.

    Raises
    ------
    ValueError
        Otherwise.
    """
    for name, value, top in (("items", items, np.inf), ("relevant", relevant, items), ("k", k, items)):
        if value is not None and (int(value) != value or not 1 <= value <= top):
            limit = "up" if top == np.inf else f"to the number of items, {items}"
            raise ValueError(f"{name}: expected a whole number from 1 {limit}, found {value}")


def share_of_galleries_below(rivals: int, sizes: Int[np.ndarray, " sizes"]) -> Float[np.ndarray, "sizes {rivals}+1"]:
    r"""Share of the choices of ``N - 1`` among `rivals` that stay inside a given subset of ``g``, for ``g = 0..rivals``.

    .. math:: \binom{g}{N-1}\Big/\binom{n}{N-1} = \prod_{j=g+1}^{n}\left(1-\frac{N-1}{j}\right)

    As a running sum of ``log1p``, which keeps the digits that a difference of log-gammas loses.
    """
    count = np.arange(1, rivals + 1)
    with np.errstate(divide="ignore"):
        factors = np.log1p(-np.minimum((np.asarray(sizes)[:, None] - 1) / count, 1.0))
    return np.exp(np.concatenate([np.cumsum(factors[:, ::-1], axis=1)[:, ::-1], np.zeros((len(factors), 1))], axis=1))


def harmonic(n: ArrayLike) -> float | Float[np.ndarray, "*n"]:
    r"""Harmonic number :math:`H_n = \sum_{i=1}^n 1/i`.

    Examples
    --------
    >>> harmonic([0, 1, 2]).round(12).tolist()
    [0.0, 1.0, 1.5]
    """
    return special.digamma(np.asarray(n, dtype=float) + 1) + np.euler_gamma


def phi(items: int, x: Float[np.ndarray, "*cells"]) -> Float[np.ndarray, "*cells"]:
    r"""Integral that yields the mean reciprocal rank among `items`.

    .. math:: \Phi_M(x) = \sum_{i=1}^M \frac{1-(1-x)^i}{i} = \int_0^x \frac{1-(1-z)^M}{z}\,dz

    Gauss-Legendre where the integrand is a low polynomial or :math:`Mx < 1`; otherwise Euler-Maclaurin for the tail of
    :math:`-\ln x = \sum_i (1-x)^i / i`. Relative error below 1e-13.

    Parameters
    ----------
    items
        :math:`M \ge 1`.
    x
        Probabilities.
    """
    x = np.asarray(x, dtype=float)
    # Of degree M - 1 in z: (M + 1) / 2 nodes are exact.
    if items <= _SMALL_PHI:
        return _phi_by_quadrature(items, x, max(1, (items + 1) // 2))
    small = items * x < 1
    lam = -np.log1p(-np.minimum(x, 1 - 1e-16))
    t = float(items)
    decay = np.exp(-lam * t)
    value = decay / t
    first = -decay * (lam / t + 1 / t**2)
    third = -decay * (lam**3 / t + 3 * lam**2 / t**2 + 6 * lam / t**3 + 6 / t**4)
    with np.errstate(divide="ignore", invalid="ignore"):
        large = harmonic(items) + np.log(x) + special.exp1(t * lam) - value / 2 - first / 12 + third / 720
    return np.where(small, _phi_by_quadrature(items, np.where(small, x, 0.0), 16), large)


def _phi_by_quadrature(items: int, x: np.ndarray, nodes: int) -> np.ndarray:
    points, weights = _unit_gauss(nodes)
    total = np.zeros_like(x)
    with np.errstate(divide="ignore"):
        for point, weight in zip(points, weights, strict=True):
            total += weight / point * -np.expm1(items * np.log1p(-x * point))
    return total


def mean_reciprocal_rank(
    items: int, before: Float[np.ndarray, " n"], width: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    r"""Mean of 1/rank of a match among `items`, its quantile uniform on ``[before, before + width]``.

    .. math:: \frac{\Phi_M(U+g) - \Phi_M(U)}{M g}
    """

    def density(x: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(x > 0, -np.expm1(items * np.log1p(-np.minimum(x, 1))) / (items * x), 1.0)

    return _mean_on_levels(lambda x: phi(items, x) / items, density, before, width, items)


def probability_in_top(
    items: int, k: int, before: Float[np.ndarray, " n"], width: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    r"""Probability that a match is among the first `k` of `items`, its quantile uniform on ``[before, before + width]``.

    .. math::
        \frac{E\min(\mathrm{Bin}(M,U+g),k) - E\min(\mathrm{Bin}(M,U),k)}{M g}, \qquad
        E\min(\mathrm{Bin}(M,x),k) = Mx\,P(\mathrm{Bin}(M-1,x)\le k-2) + k\,P(\mathrm{Bin}(M,x)\ge k)
    """
    if k >= items:
        return np.ones_like(before)

    def primitive(x: np.ndarray) -> np.ndarray:
        return x * binomial_cdf(k - 2, items - 1, x) + k / items * (1 - binomial_cdf(k - 1, items, x))

    return _mean_on_levels(primitive, lambda x: binomial_cdf(k - 1, items - 1, x), before, width, items)


def _mean_on_levels(
    primitive: Callable[[np.ndarray], np.ndarray],
    density: Callable[[np.ndarray], np.ndarray],
    before: np.ndarray,
    width: np.ndarray,
    items: int,
) -> np.ndarray:
    """Mean of `density` over each level: differences of `primitive`, or quadrature where those would cancel."""
    wide = items * width >= 1
    mean = np.empty_like(before)
    start, end = before[wide], np.minimum(before[wide] + width[wide], 1)
    mean[wide] = (primitive(end) - primitive(start)) / width[wide]
    points, weights = _unit_gauss(8)
    nodes = np.minimum(before[~wide, None] + width[~wide, None] * points, 1)
    mean[~wide] = density(nodes) @ weights
    return mean


def binomial_cdf(successes: ArrayLike, trials: int, x: ArrayLike) -> Float[np.ndarray, "*cells"]:
    r""":math:`P(\mathrm{Bin}(n, x) \le k)` by the incomplete beta function, in :math:`x` itself so that tiny ``x`` keep their digits."""
    successes, x = np.broadcast_arrays(np.asarray(successes, dtype=float), np.asarray(x, dtype=float))
    inside = (successes >= 0) & (successes < trials)
    k = np.where(inside, successes, 0.0)
    value = special.betaincc(k + 1, np.maximum(trials - k, 1.0), np.clip(x, 0, 1))
    return np.where(inside, value, np.where(successes < 0, 0.0, 1.0))


def average_precision_of_random_order(relevant: ArrayLike, items: ArrayLike) -> float | Float[np.ndarray, "*shape"]:
    r"""Expected average precision of `items` in random order, `relevant` of them relevant.

    .. math:: f(R,n) = \frac1n\left[H_n + \frac{R-1}{n-1}(n-H_n)\right], \qquad f(R,R) = 1

    Raises
    ------
    ValueError
        Unless ``1 <= relevant <= items``.

    Examples
    --------
    >>> average_precision_of_random_order([1, 2, 1], [2, 2, 1]).round(12).tolist()
    [0.75, 1.0, 1.0]
    """
    relevant, items = np.broadcast_arrays(np.asarray(relevant, dtype=float), np.asarray(items, dtype=float))
    if (relevant < 1).any() or (relevant > items).any():
        raise ValueError(f"need 1 <= relevant <= items, found relevant {relevant.tolist()} of {items.tolist()}")
    mean = harmonic(items)
    return (mean + (relevant - 1) / np.maximum(items - 1, 1) * (items - mean)) / items


def mean_precision_at_match(
    items: int,
    relevant: int,
    before: Float[np.ndarray, " n"],
    width: Float[np.ndarray, " n"],
    relevant_before: Float[np.ndarray, " n"],
    relevant_width: Float[np.ndarray, " n"],
) -> Float[np.ndarray, " n"]:
    r"""Mean precision at the rank of one relevant item, over its place in a level.

    With :math:`x = U+\theta g`, :math:`y = V+\theta\tau`, :math:`X\sim\mathrm{Bin}(M-R,x)` irrelevant and
    :math:`Y\sim\mathrm{Bin}(R-1,y)` relevant items ahead,

    .. math::
        \int_0^1 E\frac{1+Y}{1+X+Y}\,d\theta, \qquad
        E\frac{1+Y}{1+X+Y} = \int_0^1 (1-x+xz)^{M-R}\,\frac{d}{dz}\left[z(1-y+yz)^{R-1}\right]dz

    by Gauss-Legendre on panels that halve towards :math:`\theta=0` and :math:`z=1`, where a large collection puts its weight.
    Average precision is the sum of this over levels, weighted with the relevant mass. Relative error about 1e-12.

    Parameters
    ----------
    items, relevant
        :math:`M` and :math:`R`.
    before, width, relevant_before, relevant_width
        :math:`U, g, V, \tau` of each level.
    """
    theta, theta_weight = _ladder(items)
    gap, gap_weight = theta, theta_weight  # gap = 1 - z
    mean = np.empty_like(before)
    for part in np.array_split(np.arange(len(before)), -(-len(before) * len(theta) * len(gap) // BLOCK_CELLS) or 1):
        x = (before[part, None] + width[part, None] * theta)[..., None] * gap
        y = relevant_before[part, None] + relevant_width[part, None] * theta
        yw = np.minimum(y[..., None] * gap, 1 - 1e-16)
        log_power = (items - relevant) * np.log1p(-np.minimum(x, 1 - 1e-16)) + (relevant - 2) * np.log1p(-yw)
        integrand = np.exp(log_power) * (1 - yw + (1 - gap) * (relevant - 1) * y[..., None])
        mean[part] = integrand @ gap_weight @ theta_weight
    return mean


def mean_probability_in_top(
    items: int,
    relevant: int,
    k: int,
    before: Float[np.ndarray, " n"],
    width: Float[np.ndarray, " n"],
    relevant_before: Float[np.ndarray, " n"],
    relevant_width: Float[np.ndarray, " n"],
) -> Float[np.ndarray, " n"]:
    r"""Mean probability that one relevant item is among the first `k`, over its place in a level.

    .. math:: \int_0^1 P(X+Y\le k-1)\,d\theta, \qquad X\sim\mathrm{Bin}(M-R,x),\; Y\sim\mathrm{Bin}(R-1,y)

    Panels are placed around the :math:`\theta` at which :math:`E(X+Y)` passes :math:`k`. Arguments as in
    `mean_precision_at_match`.
    """
    mean_ahead = (items - relevant) * before + (relevant - 1) * relevant_before
    growth = (items - relevant) * width + (relevant - 1) * relevant_width
    with np.errstate(divide="ignore", invalid="ignore"):
        centre = np.where(growth > 0, (k - 0.5 - mean_ahead) / growth, 0.0)
        spread = np.where(growth > 0, np.sqrt(k) / growth, 1.0)
    offsets = np.array([-24, -12, -6, -3, -1.5, 0, 1.5, 3, 6, 12, 24, 48.0])
    edges = np.clip(centre[:, None] + spread[:, None] * offsets, 0, 1)
    edges = np.concatenate([np.zeros((len(edges), 1)), edges, np.ones((len(edges), 1))], axis=1)
    points, weights = _unit_gauss(16)
    lengths = np.diff(edges, axis=1)
    theta = (edges[:, :-1, None] + lengths[..., None] * points).reshape(len(edges), -1)
    weight = (lengths[..., None] * weights).reshape(len(edges), -1)
    ahead = np.arange(min(k, relevant))
    mean = np.empty_like(before)
    for part in np.array_split(np.arange(len(before)), -(-theta.size * len(ahead) // BLOCK_CELLS) or 1):
        x = np.minimum(before[part, None] + width[part, None] * theta[part], 1)
        y = np.minimum(relevant_before[part, None] + relevant_width[part, None] * theta[part], 1)
        inside = _binomial_pmf(ahead, relevant - 1, y[..., None]) * binomial_cdf(
            k - 1 - ahead, items - relevant, x[..., None]
        )
        mean[part] = (inside.sum(-1) * weight[part]).sum(-1)
    return mean


def _binomial_pmf(successes: np.ndarray, trials: int, x: np.ndarray) -> np.ndarray:
    log_choose = -np.log(trials + 1) - special.betaln(trials - successes + 1, successes + 1)
    return np.exp(log_choose + special.xlogy(successes, x) + special.xlog1py(trials - successes, -x))


def _unit_gauss(nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre nodes and weights on [0, 1]."""
    points, weights = np.polynomial.legendre.leggauss(nodes)
    return (points + 1) / 2, weights / 2


def _ladder(items: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights on [0, 1], in panels that halve towards 0 until they are far below 1/items."""
    edges = np.r_[0.0, 2.0 ** np.arange(-(int(np.ceil(np.log2(items))) + 5), 1)]
    points, weights = _unit_gauss(_LADDER_NODES)
    lengths = np.diff(edges)
    return (edges[:-1, None] + lengths[:, None] * points).ravel(), (lengths[:, None] * weights).ravel()
