r"""Paper 01: optimal matching, verification and retrieval by comparing covariates (arXiv 1807.04834).

Probe and gallery items show a covariate (gender, nationality, age band) of the person they belong to. Two imperfect recognisers
report it; nothing else is known. This file says how well one can then find one of N, tell same from different, and rank a large
collection, and which rule gets there.

All formulas are derived here; the paper's own formulas were not seen. The problem has a unique optimal solution, so agreement is
expected, but it is not verified. Section numbers are those of the derivation, which the notebook follows.

Assumptions: (A1) probe and match share the true value; (A2) impostors are independent draws; (A3) reports of different items are
independent given the true values; (A4) the place of the match is uniform. Ties are broken by lot.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from scipy import integrate, optimize, special, stats
from sklearn.linear_model import Ridge

from paper_utils.data.covariate_files import check_layout
from paper_utils.data.recognised import Recognised, correct_prior, sharpen
from paper_utils.metrics import ceilings, matching, ranks, retrieval, verification
from paper_utils.metrics.label_tests import Verification, verify_tables
from paper_utils.metrics.probabilities import distributions, probability, ratio
from paper_utils.metrics.ranks import Levels, check_collection, shaped, whole_sizes
from paper_utils.world.covariates import CovariatePeople

# --- 1. The model: what the two recognisers report -------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class CovariateModel:
    r"""A covariate with K values and two recognisers that report one of A (probe) and B (gallery) labels.

    .. math::
        m_p(a) = \sum_c \pi_c Q^p_{ca}, \quad m_g(b) = \sum_c \rho_c Q^g_{cb}, \quad
        M(a,b) = \sum_c \pi_c Q^p_{ca} Q^g_{cb}, \quad L(a,b) = \frac{M(a,b)}{m_p(a)\,m_g(b)}

    Nested lists are taken as well; the attributes are always float64 arrays.

    Parameters
    ----------
    prior
        :math:`\pi`, K probabilities of the probe's value.
    probe_confusion, gallery_confusion
        :math:`Q^p` (K x A) and :math:`Q^g` (K x B): probability of each label given the true value. A and B may differ from K
        (an "unsure" label, or the symbols of a posterior).
    impostor_prior
        :math:`\rho`; default :math:`\pi`.
    match_table
        A x B joint law of the labels of a probe and its match, if their errors are not independent given the value (A3 fails).
        It takes the place of :math:`M`; all formulas with one relevant item stay valid.

    Raises
    ------
    ValueError
        If a table is negative, not finite, of the wrong shape, or a row does not sum to 1 within 1e-9.

    Examples
    --------
    Perfectly recognised, balanced gender: three of four 1:2 trials, and never an equal error rate below one third.

    >>> gender = CovariateModel([0.5, 0.5], np.eye(2), np.eye(2))
    >>> match_accuracy(gender, 2), round(verify(gender).eer, 12)
    (0.75, 0.333333333333)
    """

    prior: Float[np.ndarray, " values"] | ArrayLike
    probe_confusion: Float[np.ndarray, "values probe_labels"] | ArrayLike
    gallery_confusion: Float[np.ndarray, "values gallery_labels"] | ArrayLike
    impostor_prior: Float[np.ndarray, " values"] | ArrayLike | None = None
    match_table: Float[np.ndarray, "probe_labels gallery_labels"] | ArrayLike | None = None

    def __post_init__(self) -> None:
        prior = distributions(self.prior, "prior", ndim=1)
        tables = {name: distributions(getattr(self, name), name) for name in ("probe_confusion", "gallery_confusion")}
        for name, table in tables.items():
            if len(table) != len(prior):
                raise ValueError(
                    f"{name}: expected one row for each of the {len(prior)} values of prior, found shape {table.shape}"
                )
        impostor = (
            prior if self.impostor_prior is None else distributions(self.impostor_prior, "impostor_prior", ndim=1)
        )
        if len(impostor) != len(prior):
            raise ValueError(f"impostor_prior: expected {len(prior)} values as in prior, found {len(impostor)}")
        joint = None
        if self.match_table is not None:
            joint = np.asarray(self.match_table, dtype=float)
            expected = (tables["probe_confusion"].shape[1], tables["gallery_confusion"].shape[1])
            if joint.shape != expected:
                raise ValueError(
                    f"match_table: expected shape {expected} (probe labels, gallery labels), found {joint.shape}"
                )
            joint = distributions(joint.ravel(), "match_table (all entries)", ndim=1).reshape(expected)
        for name, value in {"prior": prior, **tables, "impostor_prior": impostor, "match_table": joint}.items():
            object.__setattr__(self, name, value)

    @classmethod
    def from_symbols(
        cls,
        prior: ArrayLike,
        probe: tuple[ArrayLike, ArrayLike],
        gallery: tuple[ArrayLike, ArrayLike],
        *,
        training_prior: ArrayLike | None = None,
        impostor_prior: ArrayLike | None = None,
    ) -> CovariateModel:
        r"""A model of recognisers that report posteriors with finitely many values ("symbols").

        .. math:: Q_{cs} = \frac{\text{mass}_s\,\text{posterior}_{sc}}{\tau_c}

        Parameters
        ----------
        prior
            :math:`\pi`, where the recognisers are used.
        probe, gallery
            ``(mass, posterior)``: probability of each symbol (S) and its posterior (S x K), under :math:`\tau`.
        training_prior
            :math:`\tau`, where the posteriors were made; default `prior`.
        impostor_prior
            :math:`\rho`, values of impostors where the recognisers are used; default `prior`.

        Raises
        ------
        ValueError
            If the posteriors are not calibrated: their mean over symbols must be :math:`\tau` within 1e-9.
        """
        tau = distributions(prior if training_prior is None else training_prior, "prior of the posteriors", ndim=1)
        tables = []
        for name, (mass, posterior) in (("probe", probe), ("gallery", gallery)):
            mass, posterior = distributions(mass, f"{name} mass", ndim=1), distributions(posterior, f"{name} posterior")
            if posterior.shape != (len(mass), len(tau)):
                raise ValueError(
                    f"{name} posterior: expected shape {(len(mass), len(tau))} (symbols, values), found {posterior.shape}"
                )
            joint = mass[:, None] * posterior
            if np.abs(joint.sum(0) - tau).max() > 1e-9:
                raise ValueError(
                    f"{name} posterior: its mean over symbols is {joint.sum(0)}, expected the prior {tau}; the posteriors are not calibrated"
                )
            rows = np.where(tau > 0, joint / np.where(tau > 0, tau, 1), mass[:, None]).T
            tables.append(rows / rows.sum(axis=1, keepdims=True))
        return cls(prior, *tables, impostor_prior=impostor_prior)

    @classmethod
    def independent(cls, models: Sequence[CovariateModel]) -> CovariateModel:
        r"""Several covariates that are independent, as are their recognisers: tables are Kronecker products, :math:`L=\prod_d L_d`.

        Values and labels are flattened row-major, the first covariate slowest. Raises ``ValueError`` for an empty list or a model
        with a `match_table`.
        """
        if not models or any(model.match_table is not None for model in models):
            raise ValueError("models: expected at least one model, each without a match_table")
        fields = ("prior", "probe_confusion", "gallery_confusion", "impostor_prior")
        return cls(*(reduce(np.kron, [getattr(model, name) for model in models]) for name in fields))

    @classmethod
    def dependent(
        cls,
        joint_prior: ArrayLike,
        probe_confusions: Sequence[ArrayLike],
        gallery_confusions: Sequence[ArrayLike],
        *,
        impostor_prior: ArrayLike | None = None,
    ) -> CovariateModel:
        """Several covariates with a joint prior (one axis each); recognisers are independent given the true values.

        `impostor_prior` is that of impostors, with the axes of `joint_prior` or flattened row-major; default `joint_prior`.

        Raises
        ------
        ValueError
            If the number of tables differs from the number of axes of `joint_prior`, or shapes do not fit.
        """
        joint = np.asarray(joint_prior, dtype=float)
        if not joint.ndim == len(probe_confusions) == len(gallery_confusions):
            raise ValueError(
                f"joint_prior has {joint.ndim} axes, but there are {len(probe_confusions)} probe and {len(gallery_confusions)} gallery tables; "
                "give one of each per axis"
            )
        tables = [
            reduce(np.kron, [distributions(table, f"confusion of covariate {d}") for d, table in enumerate(side)])
            for side in (probe_confusions, gallery_confusions)
        ]
        impostors = None if impostor_prior is None else np.asarray(impostor_prior, dtype=float)
        if impostors is not None and impostors.shape not in (joint.shape, (joint.size,)):
            raise ValueError(
                f"impostor_prior: expected the shape of joint_prior, {joint.shape}, or flattened, found {impostors.shape}"
            )
        return cls(joint.ravel(), *tables, impostor_prior=None if impostors is None else impostors.ravel())

    @classmethod
    def from_mapping(cls, entries: Mapping[str, object]) -> CovariateModel:
        """A model from the entries of a model file, in any of its layouts; see `data.covariate_files.load_model`.

        Raises
        ------
        ValueError
            If the entries are of no layout, there are entries that their layout does not use, or a table does not fit.
        """
        check_layout(entries, "model")
        impostor_prior = entries.get("impostor_prior")
        if "probe_symbols" in entries:
            symbols = [
                (entries[f"{side}_symbols"]["mass"], entries[f"{side}_symbols"]["posterior"])
                for side in ("probe", "gallery")
            ]
            return cls.from_symbols(
                entries["prior"], *symbols, training_prior=entries.get("training_prior"), impostor_prior=impostor_prior
            )
        if "joint_prior" in entries:
            return cls.dependent(
                entries["joint_prior"],
                entries["probe_confusions"],
                entries["gallery_confusions"],
                impostor_prior=impostor_prior,
            )
        if "priors" in entries:
            return cls.independent(
                [
                    cls(*one)
                    for one in zip(
                        entries["priors"], entries["probe_confusions"], entries["gallery_confusions"], strict=True
                    )
                ]
            )
        return cls(
            entries["prior"],
            entries["probe_confusion"],
            entries["gallery_confusion"],
            impostor_prior,
            entries.get("match_table"),
        )

    @cached_property
    def probe_marginal(self) -> Float[np.ndarray, " probe_labels"]:
        """:math:`m_p(a)`."""
        return self.prior @ self.probe_confusion if self.match_table is None else self.match_table.sum(axis=1)

    @cached_property
    def gallery_marginal(self) -> Float[np.ndarray, " gallery_labels"]:
        """:math:`m_g(b)`, the law of an impostor's label."""
        return self.impostor_prior @ self.gallery_confusion

    @cached_property
    def joint(self) -> Float[np.ndarray, "probe_labels gallery_labels"]:
        """:math:`M(a,b)`, the law of the labels of a probe and its match."""
        if self.match_table is not None:
            return self.match_table
        return (self.probe_confusion * self.prior[:, None]).T @ self.gallery_confusion

    @cached_property
    def strangers(self) -> Float[np.ndarray, "probe_labels gallery_labels"]:
        """:math:`m_p(a)\\,m_g(b)`, the law of the labels of a probe and an impostor."""
        return np.outer(self.probe_marginal, self.gallery_marginal)

    @cached_property
    def likelihood_ratio(self) -> Float[np.ndarray, "probe_labels gallery_labels"]:
        """:math:`L(a,b)`; infinite where only a match can report the label, NaN where nobody does."""
        return ratio(self.joint, self.strangers)

    @property
    def probe_posterior(self) -> Float[np.ndarray, "probe_labels values"]:
        """:math:`P(c|a)` of the probe recogniser; NaN for labels that never occur."""
        return ratio((self.probe_confusion * self.prior[:, None]).T, self.probe_marginal[:, None])

    @property
    def gallery_posterior(self) -> Float[np.ndarray, "gallery_labels values"]:
        """:math:`P(c|b)` of the gallery recogniser among impostors; NaN for labels that never occur."""
        return ratio((self.gallery_confusion * self.impostor_prior[:, None]).T, self.gallery_marginal[:, None])


# --- 2. The optimal decision for one of N -----------------------------------------------------------------------------


def same_label_score(model: CovariateModel) -> Float[np.ndarray, "probe_labels gallery_labels"]:
    """Score of the rule "take an entry with the probe's label, any entry if there is none": the identity matrix."""
    return np.eye(*model.joint.shape)


def posterior_score(
    probe: Float[np.ndarray, "n values"],
    gallery: Float[np.ndarray, "m values"],
    impostor_prior: ArrayLike | None = None,
) -> Float[np.ndarray, "n m"]:
    r"""Optimal score of two calibrated posteriors, equal to the likelihood ratio.

    .. math:: s_j = \sum_c \frac{u_c\,v_{jc}}{\rho_c}

    Parameters
    ----------
    probe, gallery
        Posteriors :math:`u` and :math:`v`.
    impostor_prior
        :math:`\rho`. ``None`` leaves the division out: the plain inner product, which is not optimal unless :math:`\rho` is uniform.

    Raises
    ------
    ValueError
        If the number of values differs, or a value with :math:`\rho_c = 0` has posterior mass in the gallery.
    """
    if impostor_prior is None:
        return probe @ gallery.T
    rho = distributions(impostor_prior, "impostor_prior", ndim=1)
    if not probe.shape[1] == gallery.shape[1] == len(rho):
        raise ValueError(
            f"probe, gallery, impostor_prior: expected as many values, found {probe.shape[1]}, {gallery.shape[1]}, {len(rho)}"
        )
    if (gallery[:, rho == 0] > 0).any():
        raise ValueError(
            "gallery: posterior mass on a value with impostor prior 0; such an entry cannot be an impostor, score it infinite yourself"
        )
    return (probe / np.where(rho > 0, rho, 1)) @ gallery.T


def position_posterior(
    model: CovariateModel, probe_label: int, gallery_labels: Int[np.ndarray, " entries"]
) -> Float[np.ndarray, " entries"]:
    r"""Posterior of the place of the match: :math:`P(J=j \mid a, b_1..b_N) = L(a,b_j)/\sum_i L(a,b_i)`. The rule takes the largest."""
    lr = model.likelihood_ratio[probe_label, gallery_labels]
    if np.isinf(lr).any():
        lr = np.isinf(lr).astype(float)
    return lr / lr.sum()


# --- 3. Accuracy of 1:N matching ----------------------------------------------------------------------------------------


def _levels(model: CovariateModel, score: np.ndarray | None) -> tuple[Levels, Int[np.ndarray, " rows"]]:
    """Tie levels of the score (default: the optimal one) for the probe labels that occur, and which labels those are."""
    score = model.likelihood_ratio if score is None else np.asarray(score, dtype=float)
    if score.shape != model.joint.shape:
        raise ValueError(
            f"score: expected shape {model.joint.shape} (probe labels, gallery labels), found {score.shape}"
        )
    seen = np.flatnonzero(model.probe_marginal > 0)
    return ranks.levels(score[seen], model.joint[seen], model.gallery_marginal), seen


def _by_size(levels: Levels, sizes: ArrayLike, weigh: Callable[[np.ndarray], np.ndarray]) -> float | np.ndarray:
    """Apply `weigh` (sizes -> one number a size) to blocks of sizes that fit in memory."""
    flat, shape = whole_sizes(sizes)
    blocks = np.array_split(flat, min(len(flat), -(-len(flat) * len(levels.row) // ranks.BLOCK_CELLS)))
    return shaped(np.concatenate([weigh(block) for block in blocks]), shape)


def match_accuracy(
    model: CovariateModel, sizes: ArrayLike, score: ArrayLike | None = None
) -> float | Float[np.ndarray, "*shape"]:
    r"""Probability that the match is found among N entries.

    For each probe label the gallery labels are sorted by score into levels :math:`l` with impostor mass :math:`g_l`, match mass
    :math:`t_l = s_l g_l`, and :math:`U_l = g_1+\dots+g_{l-1}`:

    .. math:: P_N = \frac1N\sum_a m_p(a)\sum_l s_l\left[(1-U_l)^N - (1-U_{l+1})^N\right] = \frac1N E_a E\max_{i\le N} L(a,B_i)

    Parameters
    ----------
    model
        The covariate and its recognisers.
    sizes
        One or more gallery sizes N.
    score
        A x B table of another rule to rank by; default the optimal one, :math:`L`.

    Raises
    ------
    ValueError
        If a size is not a whole number of at least 1, or `score` has another shape or is NaN where it is needed.
    """
    levels, _ = _levels(model, score)
    return _by_size(levels, sizes, lambda block: levels.first(block) @ levels.match)


def mean_rank(
    model: CovariateModel, sizes: ArrayLike, score: ArrayLike | None = None
) -> float | Float[np.ndarray, "*shape"]:
    r"""Expected place of the match among N: :math:`1 + (N-1)(1-P_2)`."""
    flat, shape = whole_sizes(sizes)
    return shaped(1 + (flat - 1) * (1 - match_accuracy(model, 2, score)), shape)


def binary_match_accuracy(model: CovariateModel, sizes: ArrayLike) -> float | Float[np.ndarray, "*shape"]:
    r"""Two values, any better-than-chance recognisers, :math:`\rho=\pi`: "same label" is optimal.

    .. math:: P_N = \frac1N\left\{\frac{M_{11}(1-m_2^N)}{m_1} + \frac{M_{22}(1-m_1^N)}{m_2}\right\} + M_{12}m_2^{N-1}\frac1N + M_{21}m_1^{N-1}\frac1N

    with :math:`m = m_g`. Raises ``ValueError`` unless the model is of this kind.
    """
    better = all(
        table.shape == (2, 2) and table[0, 0] > table[1, 0]
        for table in (model.probe_confusion, model.gallery_confusion)
    )
    if (
        not better
        or model.gallery_marginal.min() == 0
        or not np.array_equal(model.prior, model.impostor_prior)
        or model.match_table is not None
    ):
        raise ValueError(
            "model: the closed form needs 2 values, 2 labels, better-than-chance recognisers and impostor_prior = prior; use match_accuracy"
        )
    (m11, m12), (m21, m22) = model.joint
    m1, m2 = model.gallery_marginal
    flat, shape = whole_sizes(sizes)
    n = flat.astype(float)
    return shaped(
        (m11 * (1 - m2**n) / m1 + m12 * m2 ** (n - 1) + m22 * (1 - m1**n) / m2 + m21 * m1 ** (n - 1)) / n, shape
    )


def symmetric_binary_match_accuracy(
    probe_error: float, gallery_error: float, sizes: ArrayLike
) -> float | Float[np.ndarray, "*shape"]:
    r"""Balanced binary covariate, symmetric errors, :math:`r=(1-2e_p)(1-2e_g)`: :math:`P_N=\frac1N\left[1+r(1-2^{1-N})\right]`."""
    flat, shape = whole_sizes(sizes)
    r = (1 - 2 * probe_error) * (1 - 2 * gallery_error)
    return shaped((1 + r * (1 - 2.0 ** (1 - flat))) / flat, shape)


def even_errors_agreement(values: int, probe_accuracy: float, gallery_accuracy: float) -> float:
    r"""Uniform prior, errors spread evenly: :math:`A_m=\alpha_p\alpha_g+\frac{(1-\alpha_p)(1-\alpha_g)}{K-1}`, the agreement of matches."""
    return probe_accuracy * gallery_accuracy + (1 - probe_accuracy) * (1 - gallery_accuracy) / (values - 1)


def even_errors_match_accuracy(
    values: int, probe_accuracy: float, gallery_accuracy: float, sizes: ArrayLike
) -> float | Float[np.ndarray, "*shape"]:
    r"""Uniform prior over K values, errors spread evenly over the wrong labels.

    .. math:: P_N = \frac1N\left[KA_m - \left(KA_m - \frac{K(1-A_m)}{K-1}\right)\left(1-\frac1K\right)^N\right]
    """
    agreement = values * even_errors_agreement(values, probe_accuracy, gallery_accuracy)
    flat, shape = whole_sizes(sizes)
    below = (values - agreement) / (values - 1)
    return shaped((agreement - (agreement - below) * (1 - 1 / values) ** flat) / flat, shape)


def binary_posterior_match_accuracy(
    prior: float, mean_deviation: float, law: stats.distributions.rv_frozen, sizes: ArrayLike
) -> float | Float[np.ndarray, "*shape"]:
    r"""Two values, calibrated posteriors of any continuous law: only the extreme gallery posteriors are ever chosen.

    .. math::
        P_N = \frac1N\left[1+\frac{E|u-p|}{2p(1-p)}\,E\,\mathrm{range}(v_1..v_N)\right],\qquad
        E\,\mathrm{range}=\int_0^1\left(1-F^N-(1-F)^N\right)dv

    Parameters
    ----------
    prior
        :math:`p`, the prior of value 1.
    mean_deviation
        :math:`E|u-p|` of the probe posterior of value 1.
    law
        Frozen scipy law on (0, 1) of the gallery posterior of value 1 among impostors; only ``cdf``, ``sf``, ``mean`` and ``median`` are used.
    sizes
        Gallery sizes.

    Raises
    ------
    ValueError
        If the prior is not inside (0, 1), or the law's mean is not the prior (then the posterior is not calibrated).
    """
    if not 0 < prior < 1 or abs(law.mean() - prior) > 1e-9:
        raise ValueError(
            f"prior: expected a value inside (0, 1) that equals the mean of the posterior, {law.mean():.12g}; found {prior}"
        )
    flat, shape = whole_sizes(sizes)
    n = flat.astype(float)

    def spread(logit: float) -> np.ndarray:
        v = special.expit(logit)
        low, high = float(law.cdf(v)), float(law.sf(v))
        small, log_large = min(low, high), np.log1p(-min(low, high))
        return (-np.expm1(n * log_large) - small**n) * v * special.expit(-logit)

    # In the logit the integrand is smooth and dies on both sides; panels shrink towards its middle so that no narrow law is missed.
    middle = float(special.logit(law.median()))
    steps = 2.0 ** np.arange(-12, 7)
    points = np.clip(np.r_[middle - steps[::-1], middle, middle + steps], -60, 60)
    mean_range, _ = integrate.quad_vec(
        spread, -60, 60, points=np.unique(points), epsabs=0, epsrel=1e-13, norm="max", limit=4000
    )
    return shaped((1 + mean_deviation / (2 * prior * (1 - prior)) * mean_range) / n, shape)


def beta_match_accuracy(
    probe: Sequence[float], gallery: Sequence[float], sizes: ArrayLike
) -> float | Float[np.ndarray, "*shape"]:
    r"""`binary_posterior_match_accuracy` with Beta(a, b) posteriors; :math:`E|u-p| = \dfrac{2\,p^a(1-p)^b}{(a+b)\,\mathrm{B}(a,b)}`.

    Both laws must have the same mean, the prior. Raises ``ValueError`` otherwise.
    """
    a, b = probe
    p = a / (a + b)
    deviation = 2 * np.exp(special.xlogy(a, p) + special.xlog1py(b, -p) - special.betaln(a, b)) / (a + b)
    return binary_posterior_match_accuracy(p, deviation, stats.beta(*gallery), sizes)


def sampled_posterior_match_accuracy(
    probe: Float[np.ndarray, "n values"],
    gallery: Float[np.ndarray, "m values"],
    impostor_prior: ArrayLike,
    sizes: ArrayLike,
) -> float | Float[np.ndarray, "*shape"]:
    r"""Predicted accuracy from samples of calibrated posteriors, without any label: all N from one sort.

    .. math:: \hat P_N = \frac1N\cdot\frac1n\sum_{i}\sum_{k} S_{i(k)}\,\binom{k-1}{N-1}\Big/\binom{m}{N}, \qquad S = U\,\mathrm{diag}(1/\rho)\,V^\top

    An unbiased (U-statistic) estimate of :math:`E\max_{j\le N}L(a,B_j)/N`. It believes the posteriors: the difference to the measured accuracy
    is a test of their calibration.

    Parameters
    ----------
    probe, gallery
        Posteriors of independent people.
    impostor_prior
        :math:`\rho`.
    sizes
        Gallery sizes, at most m.

    Raises
    ------
    ValueError
        If a size exceeds the number of gallery posteriors.
    """
    flat, shape = whole_sizes(sizes)
    if flat.max() > len(gallery):
        raise ValueError(f"sizes: expected at most the {len(gallery)} gallery posteriors, found {flat.max()}")
    ordered = np.sort(posterior_score(probe, gallery, impostor_prior), axis=1).mean(axis=0)
    # (1/N) C(k-1, N-1) / C(m, N) = (1/m) C(k-1, N-1) / C(m-1, N-1)
    return shaped(ranks.share_of_galleries_below(len(gallery) - 1, flat) @ ordered / len(gallery), shape)


# --- 4. Finite populations and strata -----------------------------------------------------------------------------------


def stratified_match_accuracy(
    model: CovariateModel, strata: Int[np.ndarray, " values"], sizes: ArrayLike, score: ArrayLike | None = None
) -> float | Float[np.ndarray, "*shape"]:
    r"""Accuracy when all entries of a gallery share the probe's stratum: :math:`\sum_s P(s)\,P_N(\pi\text{ given } s, \rho\text{ given } s)`.

    Parameters
    ----------
    model
        Model over all values; both its priors are conditioned on the stratum.
    strata
        Stratum of each value, for instance its gender. Strata equal to the values give exactly 1/N.
    sizes, score
        As in `match_accuracy`; by default each stratum is decided optimally.

    Raises
    ------
    ValueError
        If there is not one stratum for each value, if no impostor belongs to a stratum of probes, or for a model with a `match_table`
        (it does not say from which stratum its pairs of labels come).
    """
    if model.match_table is not None:
        raise ValueError(
            "model: a match_table holds the labels of all matches together and cannot be split into strata; use a model of each stratum"
        )
    strata = np.asarray(strata)
    if strata.shape != model.prior.shape:
        raise ValueError(f"strata: expected one for each of the {len(model.prior)} values, found shape {strata.shape}")
    total: float | np.ndarray = 0.0
    for stratum in np.unique(strata[model.prior > 0]):
        inside = strata == stratum
        weight, impostors = model.prior[inside].sum(), model.impostor_prior[inside].sum()
        if impostors == 0:
            raise ValueError(
                f"strata: stratum {stratum} has probes but impostor prior 0, so that no gallery can be filled from it; leave it out"
            )
        part = CovariateModel(
            model.prior[inside] / weight,
            model.probe_confusion[inside],
            model.gallery_confusion[inside],
            model.impostor_prior[inside] / impostors,
        )
        total = total + weight * match_accuracy(part, sizes, score)
    return total


# --- 5. Several covariates ----------------------------------------------------------------------------------------------


def naive_product_score(
    joint_prior: ArrayLike, probe_confusions: Sequence[ArrayLike], gallery_confusions: Sequence[ArrayLike]
) -> Float[np.ndarray, "probe_labels gallery_labels"]:
    r"""Score :math:`\prod_d L_d(a^d,b^d)` that treats dependent covariates as independent; arguments as in `CovariateModel.dependent`."""
    joint = np.asarray(joint_prior, dtype=float)
    axes = range(joint.ndim)
    marginals = [joint.sum(axis=tuple(other for other in axes if other != d)) for d in axes]
    singles = [CovariateModel(*one) for one in zip(marginals, probe_confusions, gallery_confusions, strict=True)]
    return reduce(np.kron, [np.nan_to_num(single.likelihood_ratio) for single in singles])


def many_covariates_match_accuracy(
    models: Sequence[CovariateModel],
    sizes: ArrayLike,
    *,
    rng: np.random.Generator,
    probes: int = 400,
    step: float = 0.01,
) -> tuple[Float[np.ndarray, " sizes"], Float[np.ndarray, " sizes"]]:
    r"""Accuracy with many independent covariates, where the product table would be too large to write down.

    Given the probe's labels, the log score of an entry is a sum, :math:`\sum_d \log L_d(a^d,b^d)`; its law for matches and for impostors
    is a convolution, done by FFT on a grid. Probe labels are sampled, gallery labels are not.

    Parameters
    ----------
    models
        One model a covariate, :math:`\rho=\pi`.
    sizes
        Gallery sizes.
    rng
        Draws the probes' labels.
    probes
        Number of sampled probes.
    step
        Width of the grid in :math:`\log L`; the ranking is exact up to this.

    Returns
    -------
    tuple
        Accuracy and its standard error over the sampled probes.

    Raises
    ------
    ValueError
        If there is no model.
    """
    if not models:
        raise ValueError("models: expected at least one covariate")
    flat, _ = whole_sizes(sizes)
    logs = [np.log(np.where(m.joint > 0, np.nan_to_num(m.likelihood_ratio, nan=1.0), 1.0)) for m in models]
    lowest = [log.min() for log in logs]
    cells = 1 + int(np.ceil(sum(log.max() - low for log, low in zip(logs, lowest, strict=True)) / step)) + len(models)
    length = 1 << int(np.ceil(np.log2(cells)))
    spectra = {
        "match": np.ones((probes, length // 2 + 1), complex),
        "rival": np.ones((probes, length // 2 + 1), complex),
    }
    for model, log, low in zip(models, logs, lowest, strict=True):
        labels = rng.choice(len(model.probe_marginal), size=probes, p=model.probe_marginal)
        place = np.rint((log[labels] - low) / step).astype(int)
        possible = model.joint[labels] > 0
        laws = {
            "match": model.joint[labels] / model.probe_marginal[labels, None],
            "rival": np.where(possible, model.gallery_marginal, 0.0),
        }
        for side, law in laws.items():
            grid = np.zeros((probes, length))
            np.add.at(grid, (np.arange(probes)[:, None], place), law)
            spectra[side] *= np.fft.rfft(grid, axis=1)
    match, rival = (
        np.maximum(np.fft.irfft(spectra[side], length, axis=1)[:, :cells], 0) for side in ("match", "rival")
    )
    # A rival with an impossible label scores minus infinity: one more, worst, column.
    rival = np.c_[np.maximum(1 - rival.sum(axis=1), 0), rival]
    match = np.c_[np.zeros(probes), match / match.sum(axis=1, keepdims=True)]
    levels = ranks.levels(np.broadcast_to(np.arange(cells + 1.0), rival.shape), match, rival)
    per_probe = np.array([np.bincount(levels.row, levels.first(flat[[i]])[0] * levels.match) for i in range(len(flat))])
    return per_probe.mean(axis=1), per_probe.std(axis=1, ddof=1) / np.sqrt(probes)


# --- 6. Verification: same person or not? ---------------------------------------------------------------------------------


def verify(model: CovariateModel, score: ArrayLike | None = None) -> Verification:
    """The optimal test of "same person" on the two labels, or that of another `score` (A x B); see `verify_tables`."""
    return verify_tables(model.joint, model.strangers, score)


def agreement(model: CovariateModel) -> tuple[float, float]:
    r"""Agreement of labels in matches, :math:`A_m=\sum_a M(a,a)`, and among strangers, :math:`A_n=\sum_a m_p(a)\,m_g(a)`."""
    return float(np.trace(model.joint)), float(np.trace(model.strangers))


def same_label_eer(match_agreement: float, stranger_agreement: float) -> float:
    r"""EER of "same label": :math:`\frac{A_n}{A_n+A_m}` if :math:`A_n+A_m\ge1`, else :math:`\frac{1-A_m}{2-A_m-A_n}`. Its AUC is :math:`\frac{1+A_m-A_n}2`."""
    total = match_agreement + stranger_agreement
    return stranger_agreement / total if total >= 1 else (1 - match_agreement) / (2 - total)


def symmetric_binary_eer(probe_error: float, gallery_error: float) -> float:
    r"""Balanced binary covariate, symmetric errors: :math:`\frac1{2+r}`, :math:`r=(1-2e_p)(1-2e_g)`; the AUC is :math:`\frac12+\frac r4`."""
    return 1 / (2 + (1 - 2 * probe_error) * (1 - 2 * gallery_error))


def even_errors_eer(values: int, probe_accuracy: float, gallery_accuracy: float) -> float:
    r"""Uniform prior, errors spread evenly: :math:`\frac1{1+KA_m}` if :math:`A_m\ge1-\frac1K`, else :math:`\frac{1-A_m}{2-1/K-A_m}`."""
    return same_label_eer(even_errors_agreement(values, probe_accuracy, gallery_accuracy), 1 / values)


def uniform_posterior_eer() -> float:
    r"""Balanced binary covariate, both posteriors uniform on (0, 1).

    .. math:: \mathrm{EER}=\tfrac12(1-z+z\ln z),\quad (1-z+z\ln z)+\tfrac12\left(\tfrac14+\tfrac{z^2}2\ln z-\tfrac{z^2}4\right)=1

    Examples
    --------
    >>> round(uniform_posterior_eer(), 6)
    0.437873
    """
    z = optimize.brentq(
        lambda z: -z + z * np.log(z) + (0.25 + z**2 / 2 * np.log(z) - z**2 / 4) / 2, 1e-6, 1, xtol=1e-15
    )
    return float(1 - z + z * np.log(z)) / 2


# --- 7. Retrieval from a large collection -----------------------------------------------------------------------------------


def mean_reciprocal_rank(model: CovariateModel, items: int, score: ArrayLike | None = None) -> float:
    r"""MRR, equal to mAP, with one relevant item among M.

    .. math:: \frac1M\sum_a m_p(a)\sum_l s_l\left[\Phi_M(U_{l+1})-\Phi_M(U_l)\right],\qquad \Phi_M(x)=\sum_{i=1}^M\frac{1-(1-x)^i}{i}

    Raises ``ValueError`` if `items` is not a whole number of at least 1.
    """
    check_collection(items)
    levels, _ = _levels(model, score)
    return float(ranks.mean_reciprocal_rank(items, levels.before, levels.rival) @ levels.match)


def hit_at_k(model: CovariateModel, items: int, k: int, score: ArrayLike | None = None) -> float:
    r"""Probability that the one relevant item of M is among the first k.

    .. math:: \frac1M\sum_a m_p(a)\sum_l s_l\left[E\min(\mathrm{Bin}(M,U_{l+1}),k)-E\min(\mathrm{Bin}(M,U_l),k)\right]

    Raises ``ValueError`` unless ``1 <= k <= items``.
    """
    check_collection(items, 1, k)
    levels, _ = _levels(model, score)
    return float(ranks.probability_in_top(items, k, levels.before, levels.rival) @ levels.match)


def _relevant_levels(model: CovariateModel, score: ArrayLike | None) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Weight, and (U, g, V, tau), of every (value, probe label, level) where a relevant item can sit."""
    if model.match_table is not None:
        raise ValueError(
            "model: with several relevant items the law of all their labels is needed, a match_table for one match does not give it"
        )
    levels, seen = _levels(model, score)
    width = np.array([levels.total(np.tile(row, (len(seen), 1))) for row in model.gallery_confusion])
    first = np.searchsorted(levels.row, np.arange(len(seen)))
    running = np.cumsum(width, axis=1) - width
    before = running - running[:, first][:, levels.row]
    weight = (model.prior[:, None] * model.probe_confusion[:, seen])[:, levels.row] * width
    keep = weight > 0
    spread = [np.broadcast_to(values, weight.shape)[keep] for values in (levels.before, levels.rival)]
    return weight[keep], (*spread, np.clip(before[keep], 0, 1), width[keep])


def mean_average_precision(
    model: CovariateModel, items: int, relevant: int = 1, score: ArrayLike | None = None
) -> float:
    r"""mAP in a collection of M items, R of them relevant (same person, so same value), the rest independent impostors.

    .. math:: \sum_{c,a}\pi_c Q^p_{ca}\sum_l\tau_l\int_0^1 E\frac{1+Y}{1+X+Y}\,d\theta

    with :math:`\tau_l` the relevant mass of level l given c; the expectation is that of `metrics.ranks.mean_precision_at_match`.

    Raises
    ------
    ValueError
        Unless ``1 <= relevant <= items``, or for a model with a `match_table`.
    """
    check_collection(items, relevant)
    if relevant == 1:
        return mean_reciprocal_rank(model, items, score)
    weight, cells = _relevant_levels(model, score)
    return float(ranks.mean_precision_at_match(items, relevant, *cells) @ weight)


def precision_at_k(model: CovariateModel, items: int, relevant: int, k: int, score: ArrayLike | None = None) -> float:
    r"""Expected share of relevant items among the first k of M.

    .. math:: \frac Rk\sum_{c,a}\pi_c Q^p_{ca}\sum_l\tau_l\int_0^1 P(X+Y\le k-1)\,d\theta

    Recall at k is this times :math:`k/R`. Raises as `mean_average_precision`, and unless ``1 <= k <= items``.
    """
    check_collection(items, relevant, k)
    if relevant == 1:
        return hit_at_k(model, items, k, score) / k
    weight, cells = _relevant_levels(model, score)
    return float(ranks.mean_probability_in_top(items, relevant, k, *cells) @ weight) * relevant / k


def recall_at_k(model: CovariateModel, items: int, relevant: int, k: int, score: ArrayLike | None = None) -> float:
    r"""Expected share of the R relevant items that are among the first k: precision at k times :math:`k/R`."""
    return precision_at_k(model, items, relevant, k, score) * k / relevant


def relevance_posterior(
    model: CovariateModel, probe_label: int, gallery_labels: Int[np.ndarray, " items"], relevant: int
) -> Float[np.ndarray, " items"]:
    r"""Exact probability that each item of a collection is relevant, given all labels: the gallery itself tells something about c.

    .. math:: P(j\text{ relevant}) \propto \sum_c P(c|a)\,r_c(b_j)\,e_{R-1}\bigl(\{r_c(b_i)\}_{i\ne j}\bigr),\qquad r_c(b)=\frac{Q^g_{cb}}{m_g(b)}

    The elementary symmetric polynomials :math:`e` are coefficients of :math:`\prod_b(1+r_c(b)z)^{n_b}`, multiplied out in logs. Ranking by
    this beats ranking by L unless the relevant items are few among many.

    Parameters
    ----------
    model
        The covariate and its recognisers.
    probe_label, gallery_labels
        What the recognisers reported.
    relevant
        R, the number of relevant items in the collection.

    Returns
    -------
    Float[np.ndarray, " items"]
        Probabilities that sum to R.

    Raises
    ------
    ValueError
        Unless ``1 <= relevant <= items``, or if the labels cannot occur in such a collection.
    """
    labels = np.asarray(gallery_labels)
    check_collection(len(labels), relevant)
    counts = np.bincount(labels, minlength=model.gallery_confusion.shape[1])
    if (model.gallery_marginal[counts > 0] == 0).any():
        raise ValueError(
            "gallery_labels: a label that impostors never report; its items are relevant for certain, take them out first"
        )
    present = np.flatnonzero(counts)
    with np.errstate(divide="ignore"):
        log_ratio = np.log(model.gallery_confusion[:, present] / model.gallery_marginal[present])
        log_probe = np.log(model.probe_posterior[probe_label])
    # One row a label: the counts of all other items, that is with one item of this label taken out.
    others = counts[present] - np.eye(len(present), dtype=int)
    log_e = np.array([_log_elementary(log_ratio, row, relevant - 1) for row in others])
    log_weight = log_probe[:, None] + log_ratio + log_e.T
    per_label = special.logsumexp(log_weight, axis=0)
    if not np.isfinite(per_label).any():
        raise ValueError(
            f"gallery_labels: no value explains {relevant} relevant items with probe label {probe_label}; check the labels"
        )
    share = np.exp(per_label - per_label.max())
    return (relevant * share / (share @ counts[present]))[np.searchsorted(present, labels)]


def _log_elementary(log_ratio: np.ndarray, counts: np.ndarray, degree: int) -> np.ndarray:
    """Log of the coefficient of z**degree in prod_b (1 + r_b z)**n_b, for every row of `log_ratio`."""
    powers = np.arange(degree + 1)
    shift = powers[:, None] - powers
    total = np.full((len(log_ratio), degree + 1), -np.inf)
    total[:, 0] = 0.0
    for log_r, n in zip(log_ratio.T, counts, strict=True):
        with np.errstate(invalid="ignore"):
            log_choose = np.where(
                powers <= n,
                special.gammaln(n + 1) - special.gammaln(powers + 1) - special.gammaln(np.maximum(n - powers, 0) + 1),
                -np.inf,
            )
            term = np.where(powers == 0, 0.0, log_choose + powers * log_r[:, None])
        moved = np.where(shift >= 0, term[:, np.maximum(shift, 0)], -np.inf)
        total = special.logsumexp(total[:, None, :] + moved, axis=2)
    return total[:, degree]


# --- 8. Open set: is the probe there at all? ----------------------------------------------------------------------------------


def open_set_accuracy(model: CovariateModel, sizes: ArrayLike, presence: float) -> float | Float[np.ndarray, "*shape"]:
    r"""Probability of a correct answer, the right entry or "absent", when the probe is there with probability :math:`\omega`.

    Answer "absent" if :math:`\frac\omega N\max_j L(a,b_j) < 1-\omega`, else the best entry:

    .. math:: \sum_a m_p(a)\sum_l\max\left(1-\omega,\ \frac{\omega s_l}N\right)\left[(1-U_l)^N-(1-U_{l+1})^N\right]

    Raises ``ValueError`` for a `presence` outside [0, 1].
    """
    omega = probability(presence, "presence")
    levels, seen = _levels(model, None)
    probe = model.probe_marginal[seen][levels.row]
    return _by_size(
        levels,
        sizes,
        lambda block: np.maximum(
            (1 - omega) * probe * levels.best_rival(block), omega * levels.match * levels.first(block)
        ).sum(axis=1),
    )


def identification_rates(
    model: CovariateModel, size: int, thresholds: ArrayLike
) -> tuple[float | Float[np.ndarray, "*shape"], float | Float[np.ndarray, "*shape"]]:
    r"""Open-set operating points: detection-and-identification rate and false-alarm rate at thresholds on L.

    .. math::
        \mathrm{DIR}=\frac1N\sum_a m_p(a)\sum_{l:\,s_l\ge\tau}s_l[\cdot],\qquad \mathrm{FAR}=\sum_a m_p(a)\sum_{l:\,s_l\ge\tau}[\cdot],\qquad
        [\cdot]=(1-U_l)^N-(1-U_{l+1})^N

    Parameters
    ----------
    model
        The covariate and its recognisers.
    size
        Gallery size N.
    thresholds
        :math:`\tau`; a level within a relative 1e-12 of it counts as reached. An infinite one is reached by labels of matches only.

    Returns
    -------
    tuple
        DIR and FAR, in the shape of `thresholds`.
    """
    levels, seen = _levels(model, None)
    flat, _ = whole_sizes(size, name="size")
    tau = np.asarray(thresholds, dtype=float)
    slack = ranks.TIE_RTOL * np.where(np.isfinite(tau), np.abs(tau), 0)
    reached = levels.score >= (tau - slack)[..., None]
    found = levels.match * levels.first(flat)[0]
    alarm = model.probe_marginal[seen][levels.row] * levels.best_rival(flat)[0]
    return (reached * found).sum(axis=-1), (reached * alarm).sum(axis=-1)


def presence_test(model: CovariateModel, size: int) -> Verification:
    r"""Is the probe in the gallery? Optimal test for two gallery labels, a function of how many entries carry the first.

    .. math:: \frac{P(\text{labels}\mid\text{present})}{P(\text{labels}\mid\text{absent})}=\frac1N\sum_j L(a,b_j),\qquad n_1\sim\mathrm{Bin}(N,m_g(1))

    The mean over entries, not the largest. Raises ``ValueError`` if the gallery recogniser has not two labels.
    """
    if model.gallery_confusion.shape[1] != 2 or model.gallery_marginal.min() == 0:
        raise ValueError(
            f"model: the presence test is written for 2 gallery labels that both occur, found masses {model.gallery_marginal}"
        )
    seen = np.flatnonzero(model.probe_marginal > 0)
    count = np.arange(whole_sizes(size, name="size")[0][0] + 1)
    absent = model.probe_marginal[seen, None] * stats.binom.pmf(count, count[-1], model.gallery_marginal[0])
    lr = model.likelihood_ratio[seen]
    mean_ratio = (count * lr[:, :1] + (count[-1] - count) * lr[:, 1:]) / count[-1]
    return verify_tables(absent * mean_ratio, absent, mean_ratio)


# --- 9. Limits ------------------------------------------------------------------------------------------------------------------


def match_accuracy_limit(model: CovariateModel) -> float:
    r"""What :math:`N P_N` tends to: accuracy dies as 1/N, however good the recognisers.

    .. math:: \lim_{N\to\infty} N P_N=\sum_a\max_b\frac{M(a,b)}{m_g(b)}\le\sum_a\max_c Q^p_{ca}\le K

    Infinite if a match can report a label that impostors never do.
    """
    limit = ratio(model.joint, model.gallery_marginal)
    return float(np.nan_to_num(limit, nan=0.0, posinf=np.inf).max(axis=1).sum())


def mean_reciprocal_rank_limit(model: CovariateModel, items: int) -> float:
    r"""MRR of a very large collection.

    .. math:: t_\infty+\frac1M\sum_a m_p(a)\left\{s_1\left[\ln(Mg_1)+\gamma\right]+\sum_{l\ge2}s_l\ln\frac{U_{l+1}}{U_l}\right\}

    with :math:`t_\infty` the mass of pairs whose gallery label impostors never report: such a match always stands first. The other levels
    are counted from the best one that impostors reach.
    """
    levels, _ = _levels(model, None)
    top = levels.before == 0
    with np.errstate(divide="ignore", invalid="ignore"):
        gain = np.where(top, np.log(items * levels.rival) + np.euler_gamma, np.log1p(levels.rival / levels.before))
    real = levels.rival > 0
    alone = levels.match[~real].sum()
    return float(alone + (levels.match[real] / levels.rival[real] * gain[real]).sum() / items)


def mean_roc(model: CovariateModel, z: Float[np.ndarray, " points"]) -> Float[np.ndarray, " points"]:
    r"""Mean of the per-probe ROC curves, :math:`R(z)=E_a\,\mathrm{ROC}_a(z)`: the law of the share of impostors that outrank the match.

    Recall at :math:`k=\kappa M` tends to :math:`R(\kappa)`; the accuracy is :math:`P_N=E(1-Z)^{N-1}` with this law.
    """
    levels, _ = _levels(model, None)
    z = np.asarray(z, dtype=float)[:, None]
    share = np.where(
        levels.rival > 0, (z - levels.before) / np.where(levels.rival > 0, levels.rival, 1), z >= levels.before
    )
    return np.clip(share, 0, 1) @ levels.match


# --- 10. From data: tables, prediction, measurement ------------------------------------------------------------------


def estimate_confusion(
    values: Int[np.ndarray, " people"],
    labels: Int[np.ndarray, " people"],
    shape: tuple[int, int],
    *,
    smoothing: float = 1.0,
) -> Float[np.ndarray, "values labels"]:
    r"""Confusion table from people used neither for training nor for measuring.

    .. math:: \hat Q_{ca}=\frac{n_{ca}+\alpha/A}{n_c+\alpha}

    Parameters
    ----------
    values, labels
        True value and reported label of each person.
    shape
        K and A.
    smoothing
        :math:`\alpha`, Dirichlet mass a row, spread evenly.

    Raises
    ------
    ValueError
        If a value or label is out of range, lengths differ, or a row stays empty with ``smoothing=0``.
    """
    values, labels = np.asarray(values), np.asarray(labels)
    if values.shape != labels.shape or values.ndim != 1:
        raise ValueError(
            f"values and labels: expected two lists of equal length, found shapes {values.shape} and {labels.shape}"
        )
    for name, entries, top in (("values", values, shape[0]), ("labels", labels, shape[1])):
        if len(entries) and not (entries.min() >= 0 and entries.max() < top):
            raise ValueError(f"{name}: expected integers from 0 to {top - 1}, found {entries.min()} to {entries.max()}")
    counts = np.bincount(values * shape[1] + labels, minlength=shape[0] * shape[1]).reshape(shape).astype(float)
    total = counts.sum(axis=1, keepdims=True)
    if smoothing == 0 and (total == 0).any():
        raise ValueError(f"values: value {int(np.argmin(total[:, 0]))} has no person; use smoothing > 0 or more people")
    return (counts + smoothing / shape[1]) / (total + smoothing)


def estimate_model(
    values: Int[np.ndarray, " people"],
    probe_labels: Int[np.ndarray, " people"],
    gallery_labels: Int[np.ndarray, " people"],
    shape: tuple[int, int, int],
    *,
    smoothing: float = 1.0,
    joint: bool = False,
) -> CovariateModel:
    """Model from calibration people: their frequencies, and a table for each recogniser (`estimate_confusion`).

    Parameters
    ----------
    values, probe_labels, gallery_labels
        True value and the two reported labels of each person.
    shape
        K, A, B.
    smoothing
        Dirichlet mass a row of the tables.
    joint
        Measure the joint table of the two labels as well and use it in place of the product (for correlated errors).
    """
    values = np.asarray(values)
    prior = np.bincount(values, minlength=shape[0]) / len(values)
    tables = [
        estimate_confusion(values, labels, (shape[0], n), smoothing=smoothing)
        for labels, n in zip((probe_labels, gallery_labels), shape[1:], strict=True)
    ]
    match_table = None
    if joint:
        counts = np.bincount(
            np.asarray(probe_labels) * shape[2] + np.asarray(gallery_labels), minlength=shape[1] * shape[2]
        ).reshape(shape[1:])
        cells = counts + smoothing / counts.size
        match_table = cells / cells.sum()
    return CovariateModel(prior, *tables, match_table=match_table)


def model_of(recognised: Recognised, *, joint: bool = False, smoothing: float = 1.0) -> CovariateModel:
    """`estimate_model` from the hard labels of the calibration people."""
    probe, gallery = recognised.probe_calibration, recognised.gallery_calibration
    shape = (probe.posterior.shape[1],) * 3
    return estimate_model(probe.values, probe.labels, gallery.labels, shape, joint=joint, smoothing=smoothing)


def accuracy_bracket(
    values: Int[np.ndarray, " people"],
    probe_labels: Int[np.ndarray, " people"],
    gallery_labels: Int[np.ndarray, " people"],
    shape: tuple[int, int, int],
    sizes: ArrayLike,
    *,
    rng: np.random.Generator,
) -> tuple[float | Float[np.ndarray, "*shape"], float | Float[np.ndarray, "*shape"]]:
    """Cross-fitted and plug-in prediction of the 1:N accuracy: a pessimistic and an optimistic value.

    Plug-in chooses and counts with the same raw table and so profits from its noise. Cross-fitted takes a smoothed :math:`L` from one
    random half of the people and a raw :math:`M` from the other (both ways, averaged), and loses for the noise of :math:`L`.
    """
    data = [np.asarray(values), np.asarray(probe_labels), np.asarray(gallery_labels)]
    # Raw counts; the trace of smoothing only keeps rows of values that nobody has, which weigh nothing, defined.
    plug_in = match_accuracy(estimate_model(*data, shape, smoothing=1e-9), sizes)
    halves = [[column[half] for column in data] for half in np.array_split(rng.permutation(len(data[0])), 2)]
    crossed = [
        match_accuracy(
            estimate_model(*judge, shape, smoothing=1e-9), sizes, estimate_model(*rule, shape).likelihood_ratio
        )
        for rule, judge in (halves, halves[::-1])
    ]
    return (crossed[0] + crossed[1]) / 2, plug_in


def predicted_performance(
    model: CovariateModel, sizes: Sequence[int], items: int, score: ArrayLike | None = None
) -> dict[str, float]:
    """What the tables promise: 1:N accuracies, EER, AUC, and mAP with one relevant item among `items`."""
    test = verify(model, score)
    accuracy = {f"1:{n}": match_accuracy(model, n, score) for n in sizes}
    return {**accuracy, "EER": test.eer, "AUC": test.auc, "mAP": mean_reciprocal_rank(model, items, score)}


def measured_performance(scores: Float[np.ndarray, "people people"], sizes: Sequence[int]) -> dict[str, float]:
    """What a score matrix (probe i belongs to gallery item i) achieves, all ties by lot: the same entries as `predicted_performance`.

    The EER is that of the randomised test (convex hull of the ROC), which is the quantity of the formulas.
    """
    same = np.eye(len(scores), dtype=bool)
    curve = verification.roc(np.ravel(scores), same.ravel())
    accuracy = dict(zip((f"1:{n}" for n in sizes), matching.match_accuracy(scores, list(sizes)).tolist(), strict=True))
    return {
        **accuracy,
        "EER": verification.convex_hull_eer(curve),
        "AUC": verification.auc(curve),
        "mAP": retrieval.mean_average_precision(scores, same),
    }


def measured_label_performance(
    probe_labels: Int[np.ndarray, " people"],
    gallery_labels: Int[np.ndarray, " people"],
    score: Float[np.ndarray, "probe_labels gallery_labels"],
    sizes: Sequence[int],
) -> dict[str, float]:
    """The same as `measured_performance` of the matrix ``score[probe_labels][:, gallery_labels]``, from counts of labels alone.

    Labels take few values, so that a hundred thousand people cost no more than a hundred.
    """
    people = len(probe_labels)
    pairs = np.zeros(score.shape)
    np.add.at(pairs, (probe_labels, gallery_labels), 1)
    gallery = pairs.sum(axis=0)
    level = ranks.level_numbers(score)
    below = (level[:, None, :] < level[:, :, None]) @ gallery
    tied = (level[:, None, :] == level[:, :, None]) @ gallery - 1
    counts = [table[probe_labels, gallery_labels].astype(np.int64) for table in (below, tied)]
    index = np.arange(people)
    comparisons = matching.Comparisons(index, index, *counts, np.full(people, people - 1))
    accuracy = matching.match_accuracy_per_pair(comparisons, list(sizes)).mean(axis=1)
    ahead = people - 1 - counts[0] - counts[1]
    reciprocal = (ranks.harmonic(ahead + counts[1] + 1) - ranks.harmonic(ahead)) / (counts[1] + 1)
    different = np.outer(pairs.sum(axis=1), gallery) - pairs
    test = verify_tables(pairs / people, different / (people * (people - 1)), score)
    curve = verification.Roc(
        np.r_[np.inf, test.thresholds], test.false_accept, test.true_accept, people, people * (people - 1)
    )
    return {
        **dict(zip((f"1:{n}" for n in sizes), accuracy.tolist(), strict=True)),
        "EER": verification.convex_hull_eer(curve),
        "AUC": test.auc,
        "mAP": float(reciprocal.mean()),
    }


def prediction_gap(people: Recognised, sizes: Sequence[int] = (2, 10), *, joint: bool = False) -> dict[str, float]:
    """Measured minus predicted performance of the optimal rule on hard labels.

    Parameters
    ----------
    people
        Calibration people make the tables, test people are measured.
    sizes
        Gallery sizes.
    joint
        Use the measured joint table of the two labels in place of the product of the two confusion tables.
    """
    model = model_of(people, joint=joint)
    labels = people.probe_test.labels, people.gallery_test.labels
    measured = measured_label_performance(*labels, model.likelihood_ratio, sizes)
    predicted = predicted_performance(model, sizes, len(people.probe_test))
    return {name: measured[name] - predicted[name] for name in measured}


def rule_accuracies(people: Recognised, sizes: Sequence[int]) -> dict[str, Float[np.ndarray, " sizes"]]:
    """Measured 1:N accuracy of six rules on the same recognisers, from "same label" to perfect recognition.

    "Posteriors for a uniform prior" are what recognisers trained on balanced people report, used without the correction of `correct_prior`;
    balanced over the values that calibration people have.
    """
    model, u, v, rho = model_of(people), people.probe_test, people.gallery_test, people.prior
    balanced = (rho > 0) / np.count_nonzero(rho)
    uniform = [correct_prior(side.posterior, side.training_prior, balanced) for side in (u, v)]
    labels = u.labels, v.labels
    tables = {"same label": same_label_score(model), "optimal, hard labels": model.likelihood_ratio}
    counted = {name: measured_label_performance(*labels, table, sizes) for name, table in tables.items()}
    found = {name: np.array([measured[f"1:{n}"] for n in sizes]) for name, measured in counted.items()}
    scores = {
        "posteriors, 1/prior forgotten": posterior_score(u.posterior, v.posterior),
        "posteriors for a uniform prior": posterior_score(*uniform, rho),
        "optimal, posteriors": posterior_score(u.posterior, v.posterior, rho),
    }
    found |= {name: matching.match_accuracy(score, list(sizes)) for name, score in scores.items()}
    return {**found, "perfect recognition": ceilings.finite_match_accuracy(np.bincount(u.values), list(sizes))}


def combined_accuracy(covariates: Mapping[str, Recognised], size: int = 2) -> dict[str, float]:
    """Measured accuracy with the hard labels of several covariates together, with the true joint prior and as if independent."""
    models = [model_of(people) for people in covariates.values()]
    shape = tuple(len(model.prior) for model in models)
    cells = np.ravel_multi_index([people.probe_calibration.values for people in covariates.values()], shape)
    joint = (np.bincount(cells, minlength=np.prod(shape)) / len(cells)).reshape(shape)
    tables = [model.probe_confusion for model in models], [model.gallery_confusion for model in models]
    probe = np.ravel_multi_index([people.probe_test.labels for people in covariates.values()], shape)
    gallery = np.ravel_multi_index([people.gallery_test.labels for people in covariates.values()], shape)
    scores = {
        "true joint prior": CovariateModel.dependent(joint, *tables).likelihood_ratio,
        "naive product": naive_product_score(joint, *tables),
    }
    return {
        name: measured_label_performance(probe, gallery, score, (size,))[f"1:{size}"] for name, score in scores.items()
    }


def believed_accuracy(people: Recognised, size: int, *, temperature: float = 1.0) -> tuple[float, float]:
    """1:N accuracy that the posteriors promise without any label, and the measured one; posteriors sharpened or softened first.

    The promise is `sampled_posterior_match_accuracy` of calibration people's probe posteriors (600 suffice) and test people's gallery posteriors.
    """
    probe, gallery = (sharpen(side.posterior, temperature) for side in (people.probe_test, people.gallery_test))
    others = sharpen(people.probe_calibration.posterior[:600], temperature)
    promised = sampled_posterior_match_accuracy(others, gallery, people.prior, size)
    return promised, matching.match_accuracy(posterior_score(probe, gallery, people.prior), size)


def ridge_score(
    probe: Float[np.ndarray, "train dim"],
    gallery: Float[np.ndarray, "train other_dim"],
    probe_test: Float[np.ndarray, "n dim"],
    gallery_test: Float[np.ndarray, "m other_dim"],
    *,
    penalty: float = 10.0,
) -> Float[np.ndarray, "n m"]:
    r"""A direct cross-modal model that knows no covariate: :math:`-\lVert W x_i + w - y_j\rVert^2` with W by ridge regression."""
    guess = Ridge(alpha=penalty).fit(probe, gallery).predict(probe_test)
    return 2 * guess @ gallery_test.T - (guess**2).sum(axis=1)[:, None] - (gallery_test**2).sum(axis=1)


def direct_accuracy(people: CovariatePeople, size: int = 2) -> float:
    """1:N accuracy of `ridge_score` from voice to face, with the training and test people of `data.recognised.recognise`."""
    train, test = slice(0, int(0.4 * len(people))), slice(int(0.7 * len(people)), None)
    return matching.match_accuracy(
        ridge_score(people.voice[train], people.face[train], people.voice[test], people.face[test]), size
    )


def same_value_partners(values: Int[np.ndarray, " people"], rng: np.random.Generator) -> Int[np.ndarray, " people"]:
    """A random permutation that moves people only among those of their own value."""
    partner = np.empty(len(values), dtype=np.int64)
    partner[np.lexsort((rng.random(len(values)), values))] = np.lexsort((rng.random(len(values)), values))
    return partner


def swapped_accuracy(
    scores: Float[np.ndarray, "people people"], values: Int[np.ndarray, " people"]
) -> tuple[Float[np.ndarray, " people"], Float[np.ndarray, " people"]]:
    r"""1:2 accuracy of every probe with its own match, and its mean over all partners of the same value in the match's place.

    What the covariate explains survives the swap; the difference is information beyond it. The mean is exact: a partner's accuracy is
    its mean rank in the probe's row, :math:`(\mathrm{rank}_{ij}-1)/(T-1)`.

    Raises
    ------
    ValueError
        If a value has only one person.
    """
    share = (stats.rankdata(scores, axis=1) - 1) / (scores.shape[1] - 1)
    partner = (values[:, None] == values) & ~np.eye(len(values), dtype=bool)
    if not partner.any(axis=1).all():
        raise ValueError(f"values: value {values[~partner.any(axis=1)][0]} has one person only, nobody to swap with")
    return np.diag(share).copy(), (share * partner).sum(axis=1) / partner.sum(axis=1)
