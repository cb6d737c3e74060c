"""Intervals: every number that a notebook reports comes with one, and says over what it was taken.

Thin, named wrappers of scipy and statsmodels that return one type, `Estimate`, so that a verdict rule needs to know only
"value, low, high". Deterministic quantities use `exact`, an interval of zero width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A measured value with its 95 % interval.

    Parameters
    ----------
    value, low, high
        Point value and interval ends, ``low <= high``, in the unit of the measured quantity.
    n
        Number of independent units (seeds, splits, people) behind the value.
    method
        How the interval was made, for the results file and the reader.
    """

    value: float
    low: float
    high: float
    n: int
    method: str

    def __post_init__(self) -> None:
        if not np.all(np.isfinite([self.value, self.low, self.high])):
            raise ValueError(
                f"an estimate must be finite, found value={self.value}, low={self.low}, high={self.high}; "
                "look for an empty group or a diverged run before drawing a verdict"
            )
        if self.low > self.high:
            raise ValueError(f"an interval needs low <= high, found [{self.low}, {self.high}]")

    def __str__(self) -> str:
        if self.low == self.high:
            return f"{self.value:.3g}"
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


def _finite(values: ArrayLike, minimum: int, name: str) -> np.ndarray:
    array = np.asarray(values, dtype=float)
    if array.ndim == 0 or len(array) < minimum:
        raise ValueError(f"{name} needs at least {minimum} values, found {array.size}")
    if not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).sum())
        raise ValueError(
            f"{name}: {bad} of {array.size} values are NaN or infinite; count failed runs apart, do not average them"
        )
    return array


def mean_t_interval(values: Float[np.ndarray, " runs"]) -> Estimate:
    """Mean over independent runs with Student's t interval.

    Parameters
    ----------
    values
        One value a run (seed, split); differences of paired runs for a paired comparison. At least two.

    Raises
    ------
    ValueError
        With fewer than two values, or a value that is not finite.

    Examples
    --------
    >>> print(mean_t_interval(np.array([1.0, 2.0, 3.0])))
    2 [-0.484, 4.48]
    """
    array = _finite(values, 2, "mean_t_interval")
    if array.ndim != 1:
        raise ValueError(f"mean_t_interval takes one value a run (1-D), found shape {array.shape}")
    half = stats.t.ppf(0.5 + LEVEL / 2, len(array) - 1) * array.std(ddof=1) / np.sqrt(len(array))
    mean = float(array.mean())
    return Estimate(mean, mean - half, mean + half, len(array), "mean, Student t")


def bootstrap_interval(
    values: Float[np.ndarray, "people ..."],
    statistic: Callable[[np.ndarray], float] = np.mean,
    *,
    rng: np.random.Generator,
    resamples: int = 1000,
) -> Estimate:
    """Percentile bootstrap over the first axis, which must be the independent unit (people, not their items).

    Parameters
    ----------
    values
        One row a person.
    statistic
        Maps rows to one number.
    rng
        Source of the resampling.
    resamples
        Number of bootstrap samples.

    Raises
    ------
    ValueError
        With fewer than two rows, or a value that is not finite.
    """
    array = _finite(values, 2, "bootstrap_interval")
    draws = rng.integers(len(array), size=(resamples, len(array)))
    replicates = np.array([statistic(array[rows]) for rows in draws], dtype=float)
    low, high = np.quantile(replicates, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(
        float(statistic(array)), float(low), float(high), len(array), f"percentile bootstrap, {resamples} resamples"
    )


def wilson_interval(successes: int, trials: int) -> Estimate:
    """Share of successes with Wilson's score interval.

    Raises
    ------
    ValueError
        If ``trials`` is below one or ``successes`` outside ``[0, trials]``.

    Examples
    --------
    >>> print(wilson_interval(8, 10))
    0.8 [0.49, 0.943]
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(
            f"wilson_interval needs 0 <= successes <= trials and trials >= 1, found {successes} of {trials}"
        )
    share = successes / trials
    low, high = proportion_confint(successes, trials, alpha=1 - LEVEL, method="wilson")
    # A share of 0 or 1 is an end of its interval, which rounding may miss by the last bit.
    return Estimate(share, min(float(low), share), max(float(high), share), trials, "share, Wilson")


def exact(value: float, *, n: int = 1) -> Estimate:
    """A deterministic quantity: its interval has no width. `n` says over how many cases it was taken."""
    return Estimate(float(value), float(value), float(value), n, "exact")
