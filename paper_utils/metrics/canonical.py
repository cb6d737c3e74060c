"""How much two groups of measurements of the same people have in common: canonical correlation, honestly measured.

The largest correlation found on the data it was fitted to is never zero; the one on people kept apart is, when there is nothing.
The fit itself is statsmodels' `CanCorr`; the matcher, which must survive many columns and few people, shrinks its covariances.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import linalg, stats
from sklearn.covariance import ledoit_wolf
from statsmodels.multivariate.cancorr import CanCorr

from paper_utils.metrics.statistics import LEVEL, Estimate


def _checked(x: np.ndarray, y: np.ndarray, minimum: int) -> tuple[np.ndarray, np.ndarray]:
    if len(x) != len(y):
        raise ValueError(f"canonical correlation: x and y must have one row a person each, found {len(x)} and {len(y)}")
    if len(x) < minimum:
        raise ValueError(
            f"canonical correlation of {x.shape[1]} and {y.shape[1]} columns needs at least {minimum} people, found {len(x)}"
        )
    for name, values in (("x", x), ("y", y)):
        if not np.isfinite(values).all():
            raise ValueError(f"canonical correlation: {name} holds NaN or infinite values")
        constant = np.flatnonzero(values.std(0) == 0)
        if constant.size:
            raise ValueError(
                f"canonical correlation: columns {constant.tolist()} of {name} are constant; leave them out"
            )
    return x - x.mean(0), y - y.mean(0)


def canonical_correlations(
    x: Float[np.ndarray, "people p"], y: Float[np.ndarray, "rows q"]
) -> Float[np.ndarray, " variates"]:
    """All sample canonical correlations, largest first. Optimistic: fitted and measured on the same people.

    Raises
    ------
    ValueError
        With fewer people than columns, a constant column, or values that are not finite.
    """
    x, y = _checked(x, y, x.shape[1] + y.shape[1] + 1)
    return np.asarray(CanCorr(y, x).cancorr)


def population_canonical_correlations(
    covariance_x: Float[np.ndarray, "p p"],
    covariance_y: Float[np.ndarray, "q q"],
    cross_covariance: Float[np.ndarray, "p q"],
) -> Float[np.ndarray, " variates"]:
    r"""Canonical correlations of a distribution whose covariances are known.

    .. math:: \text{singular values of } \Sigma_{xx}^{-1/2}\,\Sigma_{xy}\,\Sigma_{yy}^{-1/2}

    Raises
    ------
    numpy.linalg.LinAlgError
        If a covariance is not positive definite.
    """
    left = linalg.solve_triangular(linalg.cholesky(covariance_x, lower=True), cross_covariance, lower=True)
    both = linalg.solve_triangular(linalg.cholesky(covariance_y, lower=True), left.T, lower=True)
    return linalg.svdvals(both)


def heldout_canonical_correlation(
    x: Float[np.ndarray, "people p"],
    y: Float[np.ndarray, "rows q"],
    *,
    rng: np.random.Generator,
    folds: int = 5,
) -> Estimate:
    """Correlation of the first pair of variates on people that the fit did not see, with Fisher's z interval.

    Parameters
    ----------
    x, y
        Two groups of measurements, one row a person.
    rng
        Deals people to folds.
    folds
        The variates are fitted on all folds but one and read on that one; the readings of all folds are put together.

    Returns
    -------
    Estimate
        Near zero (of either sign) if the two groups are independent.

    Raises
    ------
    ValueError
        As `canonical_correlations`, counted on the people that are left for the fit.
    """
    _checked(x, y, -(-folds * (x.shape[1] + y.shape[1] + 1) // (folds - 1)))
    fold = rng.permutation(len(x)) % folds
    variates = np.empty((len(x), 2))
    for number in range(folds):
        fit, read = fold != number, fold == number
        found = CanCorr(y[fit] - y[fit].mean(0), x[fit] - x[fit].mean(0))
        for column, (values, weights) in enumerate(((x, found.x_cancoef), (y, found.y_cancoef))):
            direction = weights[:, 0]
            fitted = values[fit] @ direction
            variates[read, column] = (values[read] @ direction - fitted.mean()) / fitted.std()
    value = float(np.clip(np.corrcoef(variates.T)[0, 1], -1 + 1e-9, 1 - 1e-9))
    half = stats.norm.ppf(0.5 + LEVEL / 2) / np.sqrt(len(x) - 3)
    low, high = np.tanh(np.arctanh(value) + np.array([-half, half]))
    return Estimate(value, float(low), float(high), len(x), f"held-out canonical correlation, {folds} folds, Fisher z")


def permutation_p_value(
    x: Float[np.ndarray, "people p"],
    y: Float[np.ndarray, "rows q"],
    *,
    rng: np.random.Generator,
    permutations: int = 199,
    strata: Int[np.ndarray, " people"] | None = None,
) -> float:
    """Probability of a first canonical correlation at least this large if x and y were independent.

    Parameters
    ----------
    x, y
        Two groups of measurements, one row a person.
    rng
        Shuffles the people of y.
    permutations
        Number of shuffles.
    strata
        If given, people are shuffled inside their stratum only: the test of independence given the stratum.
    """
    observed = canonical_correlations(x, y)[0]
    stratum = np.zeros(len(x), dtype=int) if strata is None else strata
    order = np.argsort(stratum, kind="stable")
    at_least = 0
    for _ in range(permutations):
        shuffled = np.empty(len(x), dtype=int)
        shuffled[order] = order[np.lexsort((rng.random(len(x)), stratum[order]))]
        at_least += canonical_correlations(x, y[shuffled])[0] >= observed
    return float((1 + at_least) / (1 + permutations))


@dataclass(frozen=True)
class CanonicalMatcher:
    """Do these two measurements belong to one person? The best answer if everything is Gaussian and linear; a baseline for matching.

    Make it with `fit`.

    Parameters
    ----------
    mean_x, mean_y
        Means of the people it was fitted on.
    weights_x, weights_y
        Directions of the variates, scaled to variance one.
    correlations
        Correlation of each pair of variates.
    """

    mean_x: Float[np.ndarray, " p"]
    mean_y: Float[np.ndarray, " q"]
    weights_x: Float[np.ndarray, "p variates"]
    weights_y: Float[np.ndarray, "q variates"]
    correlations: Float[np.ndarray, " variates"]

    @classmethod
    def fit(
        cls,
        x: Float[np.ndarray, "people p"],
        y: Float[np.ndarray, "rows q"],
        *,
        rng: np.random.Generator,
        variates: int = 10,
        folds: int = 5,
    ) -> CanonicalMatcher:
        """Find the directions on all people, and how well each pair of them agrees on people that its directions were not found on.

        Parameters
        ----------
        x, y
            Two groups of measurements, one row a person; there may be more columns than people.
        rng
            Deals people to folds.
        variates
            Pairs of directions to keep.
        folds
            For reading the correlations: those of the fit itself are far too large.

        Raises
        ------
        ValueError
            If rows do not agree, a column is constant, values are not finite, or there are fewer than ``3 * folds`` people.
        """
        _checked(x, y, 3 * folds)
        weights_x, weights_y = _directions(x, y, variates)
        fold = rng.permutation(len(x)) % folds
        read = np.empty((2, len(x), weights_x.shape[1]))
        for number in range(folds):
            fit, rest = fold != number, fold == number
            for place, values, weights in zip((0, 1), (x, y), _directions(x[fit], y[fit], variates), strict=True):
                read[place, rest] = (values[rest] - values[fit].mean(0)) @ weights
        together = (read[0] * read[1]).mean(0) / np.sqrt((read**2).mean(1).prod(0))
        return cls(x.mean(0), y.mean(0), weights_x, weights_y, np.clip(together, 0, 0.999))

    def scores(
        self, x: Float[np.ndarray, "probes p"], y: Float[np.ndarray, "gallery q"]
    ) -> Float[np.ndarray, "probes gallery"]:
        r"""Log-likelihood ratio of "one person" against "two people" for every pair.

        .. math:: \sum_k \frac{r_k a_k b_k - \tfrac12 r_k^2 (a_k^2 + b_k^2)}{1 - r_k^2} - \tfrac12 \log(1 - r_k^2)
        """
        a, b = (x - self.mean_x) @ self.weights_x, (y - self.mean_y) @ self.weights_y
        r = self.correlations
        weight = r / (1 - r**2)
        own = (a**2 @ (r * weight))[:, None] + b**2 @ (r * weight)
        return (a * weight) @ b.T - own / 2 - np.log(1 - r**2).sum() / 2


def _directions(x: np.ndarray, y: np.ndarray, variates: int) -> tuple[np.ndarray, np.ndarray]:
    """Canonical directions, scaled to variance one; the covariance of each group is shrunk after Ledoit and Wolf (2004)."""
    centred = [values - values.mean(0) for values in (x, y)]
    scales = [values.std(0).clip(1e-12) for values in centred]
    standard = [values / scale for values, scale in zip(centred, scales, strict=True)]
    roots = [linalg.cholesky(ledoit_wolf(values, assume_centered=True)[0], lower=True) for values in standard]
    cross = standard[0].T @ standard[1] / len(x)
    whitened = linalg.solve_triangular(roots[0], cross, lower=True)
    whitened = linalg.solve_triangular(roots[1], whitened.T, lower=True).T
    u, _, vt = linalg.svd(whitened, full_matrices=False)
    found = []
    for root, side, scale, values in zip(roots, (u[:, :variates], vt[:variates].T), scales, centred, strict=True):
        weights = linalg.solve_triangular(root.T, side) / scale[:, None]
        found.append(weights / (values @ weights).std(0))
    return found[0], found[1]
