"""Tests on labels: which of two laws did a pair of labels come from? ROC polygon, equal error rate, and a certificate for it.

The laws are tables over label pairs (same person, different people). Labels tie a lot, so the best test tosses a coin at its
threshold: the ROC is a polygon, and the numbers here are those of the randomised test. Derived here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from paper_utils.metrics import ranks
from paper_utils.metrics.probabilities import distributions, ratio


@dataclass(frozen=True)
class Verification:
    """A verification test on labels: its ROC polygon and what is read from it.

    Parameters
    ----------
    false_accept, true_accept
        Vertices of the ROC from (0, 0) to (1, 1); between them a pair at the threshold is accepted by lot.
    thresholds
        Score level that is added at each vertex after the first.
    eer, threshold, mix
        Equal error rate, the level at which it sits, and the probability of accepting a pair exactly there.
    auc
        Area under the polygon.
    """

    false_accept: Float[np.ndarray, " vertices"]
    true_accept: Float[np.ndarray, " vertices"]
    thresholds: Float[np.ndarray, " steps"]
    eer: float
    threshold: float
    mix: float
    auc: float


def verify_tables(
    same: Float[np.ndarray, "probe_labels gallery_labels"],
    different: Float[np.ndarray, "probe_labels gallery_labels"],
    score: ArrayLike | None = None,
) -> Verification:
    r"""ROC polygon, EER and AUC of a test between two tables (Neyman and Pearson).

    Cells are accepted in decreasing order of :math:`L=P_1/P_0`, ties together. With :math:`d_k=(1-TA_k)-FA_k` and the first k at which
    it is no longer positive,

    .. math:: \lambda=\frac{d_{k-1}}{d_{k-1}-d_k},\qquad \mathrm{EER}=FA_{k-1}+\lambda\,(FA_k-FA_{k-1})

    Parameters
    ----------
    same, different
        Laws :math:`P_1` and :math:`P_0` of the label pair.
    score
        Order to accept in; default the likelihood ratio, which is optimal.

    Raises
    ------
    ValueError
        If the shapes differ, or a table does not sum to 1.
    """
    same, different = np.asarray(same, dtype=float), np.asarray(different, dtype=float)
    if same.shape != different.shape or (score is not None and np.shape(score) != same.shape):
        found = [np.shape(table) for table in (same, different, same if score is None else score)]
        raise ValueError(f"same, different, score: expected one shape, found {found[0]}, {found[1]}, {found[2]}")
    score = ratio(same, different) if score is None else np.asarray(score, dtype=float)
    laws = [distributions(table.ravel(), name, ndim=1) for name, table in (("same", same), ("different", different))]
    possible = (laws[0] > 0) | (laws[1] > 0)
    if np.isnan(score.ravel()[possible]).any():
        raise ValueError("score: NaN in a cell that can occur; give every possible pair a score")
    values = score.ravel()[possible]
    order = np.argsort(-values, kind="stable")
    values = values[order]
    starts = np.flatnonzero(ranks.new_level(values))
    true_accept, false_accept = (
        np.minimum(np.r_[0.0, np.cumsum(np.add.reduceat(law[possible][order], starts))], 1.0) for law in laws
    )
    true_accept[-1] = false_accept[-1] = 1.0
    gap = 1 - true_accept - false_accept
    # A vertex that lies on the diagonal but for rounding is where the EER sits.
    k = int(np.argmax(gap <= 1e-14))
    mix = min(gap[k - 1] / (gap[k - 1] - gap[k]), 1.0)
    return Verification(
        false_accept=false_accept,
        true_accept=true_accept,
        thresholds=values[starts],
        eer=float(false_accept[k - 1] + mix * (false_accept[k] - false_accept[k - 1])),
        threshold=float(values[starts[k - 1]]),
        mix=float(mix),
        auc=float(np.trapezoid(true_accept, false_accept)),
    )


def dual_error(
    same: Float[np.ndarray, "*cells"], different: Float[np.ndarray, "*cells"], weights: Float[np.ndarray, " w"]
) -> Float[np.ndarray, " w"]:
    r"""Bayes error of the test when impostor pairs weigh :math:`w`: a certificate for the EER from below.

    .. math:: \mathrm{EER} = \max_{w\in[0,1]}\ \sum_{a,b}\min\bigl(w\,P_0(a,b),\,(1-w)\,P_1(a,b)\bigr)

    No randomised test on these labels has both error rates below the value at any :math:`w`.
    """
    weights = np.asarray(weights, dtype=float)[:, None]
    return np.minimum(weights * np.ravel(different), (1 - weights) * np.ravel(same)).sum(axis=1)
