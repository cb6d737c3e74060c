r"""Can one thing be predicted from another: normalised errors, tests of many pairs at once, and what sample size buys.

The unit of all of it is the subject: errors are averaged over a subject's items first. Multiplicity is left to statsmodels; everything
takes whole matrices, since the questions come by the thousand (phonemes times measurements).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike
from scipy import stats
from statsmodels.stats.multitest import multipletests

from paper_utils.metrics.statistics import LEVEL, Estimate

CORRECTIONS = ("none", "nadeau-bengio")


# --------------------------------------------------------------------------------------------------------- targets


def normal_scores(values: Float[np.ndarray, "subjects columns"]) -> Float[np.ndarray, "subjects columns"]:
    r"""Each column's ranks as quantiles of the normal distribution.

    .. math:: z_i = \Phi^{-1}\left(\frac{r_i - 1/2}{n}\right)

    All columns then hold the same n numbers in different orders, so under the null hypothesis they share one null distribution: the
    permutations of one column serve every other (section 2.6 of the careful version of paper 10; choice of ours).

    Parameters
    ----------
    values
        One row a subject. Ties get the mean of their ranks.

    Raises
    ------
    ValueError
        If a value is not finite, or a column is the same for all subjects (named by its number, from 0).
    """
    if not np.isfinite(values).all():
        rows = np.flatnonzero(~np.isfinite(values).all(1))
        raise ValueError(f"values: not finite for {len(rows)} of {len(values)} subjects (rows {rows[:5].tolist()} ...)")
    constant = np.flatnonzero(np.ptp(values, axis=0) == 0)
    if len(constant):
        raise ValueError(
            f"values: column {', '.join(map(str, constant))} is the same for all {len(values)} subjects; leave it out"
        )
    return stats.norm.ppf((stats.rankdata(values, axis=0) - 0.5) / len(values))


def residuals(
    values: Float[np.ndarray, "subjects columns"], covariates: Float[np.ndarray, "subjects covariates"]
) -> Float[np.ndarray, "subjects columns"]:
    """What a linear regression on covariates (and a constant) leaves: with permuted residuals the test is that of Freedman and Lane.

    Parameters
    ----------
    values, covariates
        One row a subject. Columns of covariates may depend on each other (a full set of indicators).
    """
    design = np.column_stack([np.ones(len(values)), covariates])
    return values - design @ np.linalg.lstsq(design, values, rcond=None)[0]


# ----------------------------------------------------------------------------------------------------------- errors


def normalised_error(
    truth: Float[np.ndarray, subjects * columns],
    prediction: Float[np.ndarray, subjects * columns],
    baseline: Float[np.ndarray, subjects * columns],
) -> Float[np.ndarray, " *columns"]:
    r"""Squared error over that of a predictor that knows nothing.

    .. math:: \mathrm{nMSE} = \frac{\sum_i (y_i - \hat y_i)^2}{\sum_i (y_i - \bar y_{-k(i)})^2}

    One minus it is the cross-validated explained variance; under the null hypothesis it lies a little above 1.

    Parameters
    ----------
    truth, prediction
        One row a subject.
    baseline
        The mean of the training subjects of each subject's fold.

    Raises
    ------
    ValueError
        If the baseline has no error in a column: the measurement is the same for all.
    """
    without = np.asarray(((truth - baseline) ** 2).sum(0))
    if not (without > 0).all():
        raise ValueError("truth: a column does not differ from its baseline at all; leave constant measurements out")
    return np.asarray(((truth - prediction) ** 2).sum(0) / without)


def paired_test(
    truth: Float[np.ndarray, subjects * columns],
    prediction: Float[np.ndarray, subjects * columns],
    baseline: Float[np.ndarray, subjects * columns],
) -> tuple[Float[np.ndarray, " *columns"], Float[np.ndarray, " *columns"]]:
    r"""One-sided paired t test over subjects of :math:`d_i = (y_i - \bar y)^2 - (y_i - \hat y_i)^2 > 0`.

    Predictions of one cross-validation depend on each other through the training sets, so this is a cross-check of the permutation
    test and not its equal.

    Returns
    -------
    tuple
        p-values, and effect sizes: mean of d over its standard deviation (Cohen's d of paired samples).
    """
    gain = (truth - baseline) ** 2 - (truth - prediction) ** 2
    found = stats.ttest_1samp(gain, 0.0, alternative="greater")
    return np.asarray(found.pvalue), gain.mean(0) / gain.std(0, ddof=1)


def error_bound(
    errors: Float[np.ndarray, repetitions * pairs],
    *,
    ddof: int = 1,
    correction: str = "nadeau-bengio",
    test_share: float = 1 / 7,
    keep: float = 1.0,
) -> Float[np.ndarray, " *pairs"]:
    r"""Upper one-sided 95 % confidence bound of the normalised error over repeated trainings.

    .. math:: CI_u = \bar\rho + t_{0.95, n-1}\, s \sqrt{\tfrac1n + [\text{corrected}]\,\tfrac{n_{test}}{n_{train}}}

    Parameters
    ----------
    errors
        One normalised error a repetition.
    ddof, correction
        0 and ``"none"`` are the release of paper 10. Repetitions share most of their training data; ``"nadeau-bengio"`` adds what that costs
        (Nadeau and Bengio 2003).
    test_share
        Test over training size; 1/7 for 10 % against 70 %.
    keep
        Share of the repetitions with the *smallest* errors that the bound is taken over; below 1 it is the release's selection ("75%",
        "50%"), which is no test at all.

    Raises
    ------
    ValueError
        With fewer than two repetitions (kept), or an unknown correction.
    """
    if correction not in CORRECTIONS:
        raise ValueError(f"correction: expected one of {', '.join(CORRECTIONS)}, found {correction!r}")
    kept = int(len(errors) * keep)
    if kept < 2:
        raise ValueError(f"errors: a bound needs at least 2 repetitions, found {kept} of {len(errors)}")
    chosen = np.sort(errors, axis=0)[:kept]
    spread = 1 / kept + (test_share if correction == "nadeau-bengio" else 0.0)
    return np.asarray(chosen.mean(0) + stats.t.ppf(LEVEL, kept - 1) * chosen.std(0, ddof=ddof) * np.sqrt(spread))


# ------------------------------------------------------------------------------------------------ tests of many pairs


def permutation_p(
    errors: Float[np.ndarray, "phonemes measurements"], null: Float[np.ndarray, "phonemes permutations"]
) -> Float[np.ndarray, "phonemes measurements"]:
    r"""One-sided p-values of errors against the errors of permuted targets; small errors are the extreme ones.

    .. math:: p = \frac{1 + \#\{b : \mathrm{nMSE}_b \le \mathrm{nMSE}\}}{B + 1}

    Parameters
    ----------
    errors
        Observed.
    null
        For each phoneme, those of permuted targets; one row serves all measurements if they are `normal_scores`.
    """
    ordered = np.sort(null, axis=1)
    below = [np.searchsorted(row, observed, side="right") for row, observed in zip(ordered, errors, strict=True)]
    return (1.0 + np.stack(below)) / (null.shape[1] + 1)


def discoveries(
    p_values: Float[np.ndarray, "*pairs"], q: float = 0.05, *, method: str = "fdr_bh"
) -> Bool[np.ndarray, "*pairs"]:
    """Pairs that are rejected at a false-discovery rate, over all pairs of the array (statsmodels ``multipletests``).

    Parameters
    ----------
    p_values
        Any shape; all its entries are one family.
    q
        Level.
    method
        ``"fdr_bh"`` (Benjamini and Hochberg), ``"fdr_by"`` (any dependence), ``"bonferroni"``, or any other of statsmodels; ``"none"`` tests each
        pair by itself.
    """
    if method == "none":
        return p_values <= q
    return multipletests(p_values.ravel(), alpha=q, method=method)[0].reshape(p_values.shape)


def sign_flip_p(values: Float[np.ndarray, " units"], *, rng: np.random.Generator, flips: int = 9999) -> float:
    """One-sided p-value of a mean above 0, from random signs: the units are exchangeable, nothing else is assumed.

    Raises
    ------
    ValueError
        With fewer than two values, or one that is not finite.
    """
    if len(values) < 2 or not np.isfinite(values).all():
        raise ValueError(f"values: expected at least 2 finite ones, found {values}")
    signs = rng.choice([-1.0, 1.0], size=(flips, len(values)))
    # Rounding must not make a sum differ from its own repetition.
    reached = signs @ values >= values.sum() - 1e-12 * np.abs(values).sum()
    return float((1 + reached.sum()) / (flips + 1))


def bootstrap_contrast(
    model_loss: Float[np.ndarray, "subjects phonemes measurements"],
    baseline_loss: Float[np.ndarray, "subjects phonemes measurements"],
    easier: Bool[np.ndarray, " phonemes"],
    harder: Bool[np.ndarray, " phonemes"],
    *,
    rng: np.random.Generator,
    draws: int = 500,
) -> tuple[Estimate, Float[np.ndarray, " measurements"]]:
    r"""By how much one class of phonemes predicts better than another, with an interval over subjects.

    .. math:: C_a = \frac{1}{|H|}\sum_{p \in H} \mathrm{nMSE}_{pa} - \frac{1}{|E|}\sum_{p \in E} \mathrm{nMSE}_{pa}

    Subjects are resampled as wholes from the stored losses; the networks are not trained again, so the interval covers who was tested
    and not who was trained on.

    Parameters
    ----------
    model_loss, baseline_loss
        Squared errors of the model and of the training mean, subject by subject.
    easier, harder
        Which phonemes are in E and H.
    rng, draws
        Of the bootstrap.

    Returns
    -------
    tuple
        Mean of :math:`C_a` over measurements with its percentile interval, and every :math:`C_a`.

    Raises
    ------
    ValueError
        If a class has no phoneme, or there are fewer than two subjects.
    """
    subjects = len(model_loss)
    if not easier.any() or not harder.any() or subjects < 2:
        raise ValueError(
            f"contrast: expected phonemes in both classes and 2 subjects, found {easier.sum()}, {harder.sum()} and {subjects}"
        )
    counts = rng.multinomial(subjects, np.full(subjects, 1 / subjects), size=draws)
    weights = np.concatenate([np.ones((1, subjects)), counts])
    model, base = (np.tensordot(weights, loss, axes=1) for loss in (model_loss, baseline_loss))
    errors = model / base
    contrast = errors[:, harder].mean(1) - errors[:, easier].mean(1)
    means = contrast.mean(1)
    low, high = np.quantile(means[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    method = f"percentile bootstrap over subjects, {draws} draws"
    return Estimate(float(means[0]), float(low), float(high), subjects, method), contrast[0]


# ----------------------------------------------------------------------------------------------------- sample size


def required_subjects(explained: ArrayLike, *, alpha: float = 0.005, power: float = 0.8) -> np.ndarray:
    r"""Subjects needed to see an explained variance in a one-sided test.

    .. math:: N \approx \frac{(z_{1-\alpha} + z_{1-\beta})^2}{1 - \mathrm{nMSE}}

    Parameters
    ----------
    explained
        :math:`1 - \mathrm{nMSE}` in (0, 1).
    alpha
        Level of the single test; about 0.005 where a false-discovery rate of 5 % is held over hundreds of pairs (choice of ours).
    power
        :math:`1 - \beta`.

    Examples
    --------
    >>> required_subjects([0.05, 0.02]).round().astype(int).tolist()
    [234, 584]
    """
    explained = np.asarray(explained, dtype=float)
    if not ((explained > 0) & (explained < 1)).all():
        raise ValueError(f"explained: expected shares of variance in (0, 1), found {explained}")
    return np.asarray((stats.norm.isf(alpha) + stats.norm.ppf(power)) ** 2 / explained)


def detection_power(explained: ArrayLike, subjects: ArrayLike, *, alpha: float = 0.005) -> np.ndarray:
    """Chance to see an explained variance with so many subjects: `required_subjects` the other way round."""
    root = np.sqrt(np.asarray(explained, dtype=float) * np.asarray(subjects, dtype=float))
    return np.asarray(stats.norm.cdf(root - stats.norm.isf(alpha)))


# ---------------------------------------------------------------------------------------- association of two matrices


def two_way_centred(matrix: Float[np.ndarray, "phonemes measurements"]) -> Float[np.ndarray, "phonemes measurements"]:
    """A matrix without the means of its rows and of its columns: what is left says which cell stands out *for its row and column*."""
    return matrix - matrix.mean(0) - matrix.mean(1, keepdims=True) + matrix.mean()


@dataclass(frozen=True)
class Association:
    """Rank correlation of two phoneme-by-measurement matrices.

    Parameters
    ----------
    correlation
        Spearman's over all cells.
    p_value
        One-sided, for a positive one.
    null
        Correlations under relabelling; empty where the p-value takes all cells as independent.
    reading
        ``"pairs"``, ``"measurements"`` or ``"two-way"``.
    """

    correlation: float
    p_value: float
    null: Float[np.ndarray, " permutations"]
    reading: str


def _spearman(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(stats.rankdata(a), stats.rankdata(b))[0, 1])


def _permuted(
    fixed: np.ndarray, moved: np.ndarray, orders: Int[np.ndarray, "permutations labels"], axis: int
) -> np.ndarray:
    """Correlation of all cells for each order of the labels of `moved` along an axis."""
    first, second = (stats.rankdata(m).reshape(m.shape) for m in (fixed, moved))
    first, second = ((m - m.mean()) / np.sqrt(((m - m.mean()) ** 2).sum()) for m in (first, second))
    # Cells of one label against cells of another: with it, every order is a sum of as many numbers as there are labels.
    cross = first.T @ second if axis == 1 else first @ second.T
    return cross[np.arange(len(cross)), orders].sum(1)


def association(
    movement: Float[np.ndarray, "phonemes measurements"],
    explained: Float[np.ndarray, "phonemes measurements"],
    *,
    rng: np.random.Generator,
    permutations: int = 4999,
) -> dict[str, Association]:
    """Does a measurement that moves more in a phoneme also show more in it? Three readings of one sentence.

    ``"pairs"``: Spearman over all cells as if they were independent. ``"measurements"``: the same correlation against orders of the
    measurements' labels: do measurements that move tend to be predictable, by whatever phoneme? ``"two-way"``: without the means of
    both, against orders of the phonemes' labels: is a measurement more predictable *in the phonemes in which it moves*? Only the last
    is what claim C3 of paper 10 says.

    Parameters
    ----------
    movement, explained
        Movement of each measurement in each phoneme, and its explained variance.
    rng, permutations
        Of the orders.

    Raises
    ------
    ValueError
        If the matrices differ in shape, have fewer than 3 rows or columns, or one is constant.
    """
    if movement.shape != explained.shape or min(movement.shape) < 3:
        raise ValueError(
            f"association: expected two matrices of one shape, 3 x 3 or larger, found {movement.shape} and {explained.shape}"
        )
    if np.ptp(movement) == 0 or np.ptp(explained) == 0:
        raise ValueError("association: a matrix is constant; there is nothing to correlate")
    phonemes, measurements = movement.shape
    pairs = stats.spearmanr(movement.ravel(), explained.ravel(), alternative="greater")
    found = {"pairs": Association(float(pairs.statistic), float(pairs.pvalue), np.empty(0), "pairs")}
    centred = two_way_centred(movement), two_way_centred(explained)
    for reading, (a, b), axis, labels in (
        ("measurements", (movement, explained), 1, measurements),
        ("two-way", centred, 0, phonemes),
    ):
        orders = rng.permuted(np.tile(np.arange(labels), (permutations, 1)), axis=1)
        null, value = _permuted(a, b, orders, axis), _spearman(a, b)
        p = float((1 + (null >= value - 1e-12).sum()) / (permutations + 1))
        found[reading] = Association(value, p, null, reading)
    return found
