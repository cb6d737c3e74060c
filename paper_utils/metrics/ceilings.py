"""Ceilings: what perfect knowledge of a covariate allows in matching, verification and retrieval.

Closed forms that need the prior of the covariate or the number of people with each value, and nothing else. No recogniser, however
good, and no network trained on this covariate alone can exceed them. Derived here; no paper's own formulas were seen.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from scipy import stats

from paper_utils.metrics import ranks
from paper_utils.metrics.probabilities import distributions, probability
from paper_utils.metrics.ranks import check_collection, shaped, whole_sizes


def perfect_match_accuracy(
    prior: ArrayLike, sizes: ArrayLike, impostor_prior: ArrayLike | None = None
) -> float | Float[np.ndarray, "*shape"]:
    r"""Perfect recognition, the ceiling of every recogniser.

    .. math:: P_N = \frac1N\sum_c\frac{\pi_c}{\rho_c}\left[1-(1-\rho_c)^N\right] \overset{\rho=\pi}{=} \frac{K-\sum_c(1-\pi_c)^N}{N}

    Examples
    --------
    >>> round(perfect_match_accuracy([0.7, 0.3], 2), 12)
    0.71
    """
    pi = distributions(prior, "prior", ndim=1)
    rho = pi if impostor_prior is None else distributions(impostor_prior, "impostor_prior", ndim=1)
    flat, shape = whole_sizes(sizes)
    count = flat[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        first = np.where(rho > 0, -np.expm1(count * np.log1p(-rho)) / (count * rho), 1.0)
    return shaped(first @ pi, shape)


def perfect_eer(prior: ArrayLike) -> float:
    r"""Smallest EER that a covariate with this prior allows.

    .. math:: \mathrm{EER}^*=\frac{\sum_c\pi_c^2}{1+\max_c\pi_c}

    Equal values are stronger evidence the rarer they are, so pairs are accepted from the rarest value up; only for pairs of the most frequent
    one (they alone would already carry the false accepts past the false rejects) a coin is tossed. Uniform: :math:`1/(K+1)`.

    Examples
    --------
    >>> round(perfect_eer([0.5, 0.5]), 12), round(perfect_eer([(10**0.5 - 2) / 2, 2 - 10**0.5 / 2]), 6)
    (0.333333333333, 0.324555)
    """
    pi = distributions(prior, "prior", ndim=1)
    return float(pi @ pi / (1 + pi.max()))


def perfect_mean_reciprocal_rank(prior: ArrayLike, items: int) -> float:
    r"""Perfect recognition: :math:`\frac1M\sum_c\Phi_M(\pi_c)`; no information gives :math:`H_M/M`."""
    check_collection(items)
    return float(ranks.phi(items, distributions(prior, "prior", ndim=1)).sum() / items)


def perfect_mean_average_precision(prior: ArrayLike, items: int, relevant: int = 1) -> float:
    r"""Perfect recognition: the relevant items are in random order with the T impostors of the same value.

    .. math:: \sum_c\pi_c\sum_{T=0}^{M-R}\mathrm{Bin}(T;M-R,\pi_c)\,f(R,R+T)

    with f of `metrics.ranks.average_precision_of_random_order`. Work grows with M times K; raises unless ``1 <= relevant <= items``.
    """
    check_collection(items, relevant)
    pi = distributions(prior, "prior", ndim=1)
    others = np.arange(items - relevant + 1)
    law = stats.binom.pmf(others, items - relevant, pi[:, None])
    return float(pi @ law @ ranks.average_precision_of_random_order(relevant, relevant + others))


def perfect_open_set_accuracy(
    prior: ArrayLike, sizes: ArrayLike, presence: float
) -> float | Float[np.ndarray, "*shape"]:
    r"""Perfect recognition; covariates can contradict "absent" only while :math:`N<\omega/((1-\omega)\pi_c)`.

    .. math:: \sum_c\pi_c\left[(1-\omega)(1-\pi_c)^N+\max\left(1-\omega,\frac{\omega}{N\pi_c}\right)\left(1-(1-\pi_c)^N\right)\right]
    """
    omega = probability(presence, "presence")
    pi = distributions(prior, "prior", ndim=1)
    pi = pi[pi > 0]
    flat, shape = whole_sizes(sizes)
    count = flat[:, None]
    with np.errstate(divide="ignore"):
        nobody = np.exp(count * np.log1p(-pi))
    return shaped(((1 - omega) * nobody + np.maximum(1 - omega, omega / (count * pi)) * (1 - nobody)) @ pi, shape)


def many_values_match_accuracy(values: ArrayLike, sizes: ArrayLike) -> float | Float[np.ndarray, "*shape"]:
    r"""Many equally frequent values, perfectly recognised: :math:`P_N\approx\left(1-e^{-N/K}\right)K/N`."""
    load = np.asarray(sizes, dtype=float) / np.asarray(values, dtype=float)
    return -np.expm1(-load) / load


def finite_match_accuracy(counts: ArrayLike, sizes: ArrayLike) -> float | Float[np.ndarray, "*shape"]:
    r"""Perfect recognition, gallery of N distinct people out of :math:`n`, :math:`n_c` of them with value c.

    .. math:: P_N = \frac1N\sum_c\left[1-\binom{n-n_c}{N}\Big/\binom{n}{N}\right]

    Raises
    ------
    ValueError
        If a size exceeds the population.

    Examples
    --------
    >>> round(finite_match_accuracy([115, 74], 2), 6)
    0.739502
    """
    people = _counts(counts)
    flat, shape = whole_sizes(sizes)
    total = int(people.sum())
    if flat.max() > total:
        raise ValueError(f"sizes: a gallery of distinct people cannot exceed the {total} there are, found {flat.max()}")
    with np.errstate(divide="ignore"):
        factors = np.log1p(-np.minimum(people[:, None] / (total - np.arange(flat.max())), 1.0))
    absent = np.cumsum(factors, axis=1)[:, flat - 1]
    return shaped(-np.expm1(absent).sum(axis=0) / flat, shape)


def finite_tables(counts: ArrayLike) -> tuple[Float[np.ndarray, "values values"], Float[np.ndarray, "values values"]]:
    r"""Label laws of same and different pairs of distinct people, perfect recognition; for `verify_tables`.

    .. math:: P_1(c,c)=\frac{n_c}{n}, \qquad P_0(c,c')=\frac{n_c\,(n_{c'}-[c=c'])}{n(n-1)}
    """
    people = _counts(counts).astype(float)
    total = people.sum()
    return np.diag(people / total), (np.outer(people, people) - np.diag(people)) / (total * (total - 1))


def finite_mean_average_precision(
    query_relevant: Int[np.ndarray, " queries"], query_group: Int[np.ndarray, " queries"]
) -> float:
    r"""Perfect recognition in a finite collection: the mean over queries of :math:`f(R_q, n_q)`.

    Parameters
    ----------
    query_relevant
        :math:`R_q`, relevant items of each query.
    query_group
        :math:`n_q`, items in the collection that have the query's value.
    """
    return float(ranks.average_precision_of_random_order(query_relevant, query_group).mean())


def _counts(counts: ArrayLike) -> Int[np.ndarray, " values"]:
    flat, shape = whole_sizes(counts, 0, "counts")
    if len(shape) != 1 or flat.sum() < 2:
        raise ValueError(
            f"counts: expected the number of people of each value, at least 2 in all, found {np.asarray(counts).tolist()}"
        )
    return flat[flat > 0]
