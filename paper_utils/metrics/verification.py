"""Same or different? One-to-one verification: the ROC curve and the numbers read from it.

Several definitions are in use for the same name (accuracy with an oracle threshold or over ten folds, TAR at a FAR with or without
interpolation). They are all here, named, with the careful one as the default.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike
from scipy.spatial import ConvexHull


@dataclass(frozen=True)
class Roc:
    """Every operating point of a score: accept a pair if its score is at least the threshold.

    Parameters
    ----------
    thresholds
        Infinity, then the distinct scores from high to low.
    fpr, tpr
        Share of different pairs, and of same pairs, that are accepted; from (0, 0) to (1, 1), never falling.
    positives, negatives
        Number of same and of different pairs.
    """

    thresholds: Float[np.ndarray, " points"]
    fpr: Float[np.ndarray, " points"]
    tpr: Float[np.ndarray, " points"]
    positives: int
    negatives: int


@dataclass(frozen=True)
class FoldAccuracy:
    """Accuracy over folds, each with the threshold that was best on the other folds.

    Parameters
    ----------
    mean, std
        Over folds; population standard deviation, as the field reports it.
    per_fold
        Accuracy of each fold.
    thresholds
        Squared distance chosen for each fold.
    """

    mean: float
    std: float
    per_fold: Float[np.ndarray, " folds"]
    thresholds: Float[np.ndarray, " folds"]


def _pairs(scores: ArrayLike, same: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    scores, same = np.asarray(scores, dtype=float), np.asarray(same)
    if scores.ndim != 1 or scores.shape != same.shape:
        raise ValueError(
            f"scores and same: expected two lists of equal length, found shapes {scores.shape} and {same.shape}"
        )
    if scores.size == 0:
        raise ValueError("scores: there are no pairs; check the pair list")
    if not np.isfinite(scores).all():
        raise ValueError(
            f"scores: {int((~np.isfinite(scores)).sum())} of {scores.size} are NaN or infinite; was the run diverged?"
        )
    if same.dtype != bool and not np.isin(same, (0, 1)).all():
        raise ValueError(f"same: expected only 0/1 or False/True, found {np.unique(same)[:5]}")
    same = same.astype(bool)
    if same.all() or not same.any():
        raise ValueError(
            f"same: all {same.size} pairs are of one kind ({'same' if same.all() else 'different'}); verification needs both"
        )
    return scores, same


def roc(scores: ArrayLike, same: ArrayLike) -> Roc:
    """ROC curve with one point for each distinct score: pairs with equal scores are accepted together.

    Parameters
    ----------
    scores
        One number a pair, larger means more alike (cosine).
    same
        True or 1 for pairs of one person.

    Raises
    ------
    ValueError
        If there are no pairs, only one kind of pair, scores that are not finite, or lengths differ.

    Examples
    --------
    >>> curve = roc([0.9, 0.8, 0.8, 0.1], [1, 1, 0, 0])
    >>> curve.fpr.tolist(), curve.tpr.tolist()
    ([0.0, 0.0, 0.5, 1.0], [0.0, 0.5, 1.0, 1.0])
    """
    scores, same = _pairs(scores, same)
    order = np.argsort(-scores)
    ordered = scores[order]
    accepted_same = np.cumsum(same[order])
    last = np.flatnonzero(np.r_[ordered[1:] != ordered[:-1], True])  # of each group of equal scores
    positives, negatives = int(accepted_same[-1]), int(len(scores) - accepted_same[-1])
    return Roc(
        thresholds=np.r_[np.inf, ordered[last]],
        fpr=np.r_[0, last + 1 - accepted_same[last]] / negatives,
        tpr=np.r_[0, accepted_same[last]] / positives,
        positives=positives,
        negatives=negatives,
    )


def _crossing(fpr: np.ndarray, tpr: np.ndarray) -> float:
    """Where the polygon through the points meets the line TPR = 1 - FPR."""
    gap = 1.0 - fpr - tpr
    after = int(np.argmax(gap <= 0))
    share = gap[after - 1] / (gap[after - 1] - gap[after])
    return float(fpr[after - 1] + share * (fpr[after] - fpr[after - 1]))


def eer(curve: Roc) -> float:
    """Equal error rate in [0, 1]: the false accept rate at which it equals the false reject rate, on the straight-line ROC.

    Examples
    --------
    >>> eer(roc([3, 2, 1, 0], [1, 1, 0, 0])), eer(roc([0, 1, 2, 3], [1, 1, 0, 0]))
    (0.0, 1.0)
    """
    return _crossing(curve.fpr, curve.tpr)


def convex_hull_eer(curve: Roc) -> float:
    """Equal error rate of the best randomised test: read from the concave hull of the ROC. Never above `eer`, never above 1/2."""
    # The corner (1, 0) closes the polygon below; the hull's upper chain runs from (0, 0) to (1, 1).
    keep = _corners(curve)
    points = np.c_[np.r_[curve.fpr[keep], 1.0], np.r_[curve.tpr[keep], 0.0]]
    corners = points[ConvexHull(points).vertices]
    upper = corners[
        corners[:, 1] >= corners[:, 0] - 1e-9
    ]  # rounding may leave the last corner a hair below the diagonal
    upper = upper[np.lexsort((upper[:, 1], upper[:, 0]))]
    return _crossing(upper[:, 0], upper[:, 1])


def auc(curve: Roc) -> float:
    """Area under the ROC, trapezoid rule: the probability that a same pair scores above a different one, ties counted half."""
    return float(np.trapezoid(curve.tpr, curve.fpr))


def tar_at_far(curve: Roc, far: float, *, method: str = "conservative") -> float:
    """True accept rate (same pairs accepted) at a given false accept rate.

    Parameters
    ----------
    curve
        From `roc`.
    far
        False accept rate in (0, 1].
    method
        ``"conservative"``: the largest TAR of a real threshold whose FAR does not exceed `far`. NaN with a warning if `far` is
        below one impostor pair, since no data speaks about it.
        ``"opensphere"``: straight line between the ROC's points, also below one impostor; where the curve is vertical at exactly
        `far`, its highest TAR.
        ``"insightface"``: the ROC corner whose FAR is nearest, above or below (the larger of two as near).

    Raises
    ------
    ValueError
        If `far` is outside (0, 1] or the method is unknown.
    """
    if not 0 < far <= 1:
        raise ValueError(f"far: expected a rate in (0, 1], found {far}")
    if method == "conservative":
        if far * curve.negatives < 1 - 1e-9:
            warnings.warn(
                f"FAR {far:g} is finer than one of {curve.negatives} different pairs; no threshold is known for it, returning NaN",
                stacklevel=2,
            )
            return float("nan")
        return float(curve.tpr[np.searchsorted(curve.fpr, far * (1 + 1e-12), side="right") - 1])
    if method == "opensphere":
        return float(np.interp(far, curve.fpr, curve.tpr))
    if method == "insightface":
        corner = _corners(curve)
        fpr, tpr = curve.fpr[corner][::-1], curve.tpr[corner][::-1]
        return float(tpr[np.argmin(np.abs(fpr - far))])
    raise ValueError(f"method: expected 'conservative', 'opensphere' or 'insightface', found {method!r}")


def _corners(curve: Roc) -> np.ndarray:
    """Indices of the points at which the ROC turns, with both ends (what scikit-learn keeps by default)."""
    bends = [
        np.rint(np.diff(rate * total, 2)) != 0
        for rate, total in ((curve.fpr, curve.negatives), (curve.tpr, curve.positives))
    ]
    return np.flatnonzero(np.r_[True, bends[0] | bends[1], True])


def best_threshold_accuracy(curve: Roc) -> float:
    """Share of pairs decided rightly at the threshold that suits these very pairs best.

    An oracle: the threshold has seen the answers. It is OpenSphere's "ACC"; it flatters by about .1 to .3 points at 6,000 pairs and
    by up to a point at 600 against `tenfold_accuracy`.
    """
    total = curve.positives + curve.negatives
    return float(np.max(curve.tpr * curve.positives + (1 - curve.fpr) * curve.negatives) / total)


def squared_distances(
    first: Float[np.ndarray, "pairs dim"], second: Float[np.ndarray, "pairs dim"]
) -> Float[np.ndarray, " pairs"]:
    """Squared Euclidean distance of each pair of rows; for unit rows it is 2 - 2 cos, from 0 to 4."""
    return np.square(np.asarray(first, dtype=float) - np.asarray(second, dtype=float)).sum(-1)


def tenfold_accuracy(
    distances: ArrayLike, same: ArrayLike, *, folds: int = 10, thresholds: str | ArrayLike = "grid"
) -> FoldAccuracy:
    """Accuracy with an honest threshold: for each fold the one that is best on the other folds (protocol of LFW and InsightFace).

    Parameters
    ----------
    distances
        Squared distance of each pair; a pair is called "same" if it is *below* the threshold.
    same
        True or 1 for pairs of one person.
    folds
        Contiguous, in the order given, no shuffling: the official pair lists hold as many pairs of both kinds in each fold.
    thresholds
        ``"grid"``: 0, 0.01, ..., 3.99 as InsightFace; ``"exact"``: midpoints between neighbouring distances of the other folds;
        or any rising list. The first of several equally good ones is taken.

    Raises
    ------
    ValueError
        On the faults of `roc`, or if there are fewer pairs than folds, or fewer than two folds.
    """
    distances, same = _pairs(distances, same)
    if not 2 <= folds <= len(distances):
        raise ValueError(f"folds: expected 2 to {len(distances)} (the number of pairs), found {folds}")
    exact = isinstance(thresholds, str) and thresholds == "exact"
    if isinstance(thresholds, str) and thresholds not in ("grid", "exact"):
        raise ValueError(f"thresholds: expected 'grid', 'exact' or a list, found {thresholds!r}")
    fixed = np.arange(0, 4, 0.01) if isinstance(thresholds, str) else np.asarray(thresholds, dtype=float)
    accuracy, chosen = np.zeros(folds), np.zeros(folds)
    for fold, test in enumerate(np.array_split(np.arange(len(distances)), folds)):
        train = np.ones(len(distances), dtype=bool)
        train[test] = False
        candidates = _midpoints(distances[train]) if exact else fixed
        chosen[fold] = candidates[np.argmax(_correct(distances[train], same[train], candidates))]
        accuracy[fold] = np.mean((distances[test] < chosen[fold]) == same[test])
    return FoldAccuracy(float(accuracy.mean()), float(accuracy.std()), accuracy, chosen)


def threshold_curve(distances: ArrayLike, same: ArrayLike, *, folds: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """InsightFace's (FPR, TPR) at the 400 grid thresholds: the mean over folds of each fold's rates, 0 where a fold lacks a kind."""
    distances, same = _pairs(distances, same)
    grid = np.arange(0, 4, 0.01)
    rates = np.zeros((2, folds, len(grid)))
    for fold, test in enumerate(np.array_split(np.arange(len(distances)), folds)):
        for row, kind in enumerate((False, True)):
            chosen = np.sort(distances[test][same[test] == kind])
            rates[row, fold] = np.searchsorted(chosen, grid, side="left") / max(len(chosen), 1)
    return rates[0].mean(0), rates[1].mean(0)


def _midpoints(distances: np.ndarray) -> np.ndarray:
    values = np.unique(distances)
    return np.r_[values[0] - 1.0, (values[1:] + values[:-1]) / 2, values[-1] + 1.0]


def _correct(distances: np.ndarray, same: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Number of right decisions at each threshold."""
    genuine, impostor = np.sort(distances[same]), np.sort(distances[~same])
    accepted_same = np.searchsorted(genuine, thresholds, side="left")
    return accepted_same + len(impostor) - np.searchsorted(impostor, thresholds, side="left")


def all_pairs(
    embeddings: Float[np.ndarray, "n dim"], identities: Int[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " pairs"], Bool[np.ndarray, " pairs"]]:
    """Cosine and "same person?" of every pair of different rows: the largest open-set test that n images allow.

    Raises
    ------
    ValueError
        If an embedding is not finite or has no length, or there are fewer than two rows.
    """
    embeddings, identities = np.asarray(embeddings, dtype=float), np.asarray(identities)
    if embeddings.ndim != 2 or len(embeddings) != len(identities) or len(embeddings) < 2:
        raise ValueError(
            f"embeddings and identities: expected (n, dim) and n >= 2 names, found {embeddings.shape} and {identities.shape}"
        )
    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
    if not np.isfinite(norms).all() or (norms == 0).any():
        raise ValueError(
            f"embeddings: {int((~np.isfinite(norms) | (norms == 0)).sum())} of {len(norms)} rows are zero or not finite and have no direction"
        )
    unit = embeddings / norms
    above = np.triu(np.ones((len(unit), len(unit)), dtype=bool), k=1)
    return (unit @ unit.T)[above], (identities[:, None] == identities)[above]


def balanced_pairs(
    embeddings: Float[np.ndarray, "n dim"], identities: Int[np.ndarray, " n"], *, rng: np.random.Generator
) -> tuple[Float[np.ndarray, " pairs"], Bool[np.ndarray, " pairs"]]:
    """Every same pair and as many different ones, chosen and ordered at random: the make-up of the usual pair lists."""
    scores, same = all_pairs(embeddings, identities)
    genuine, impostor = np.flatnonzero(same), np.flatnonzero(~same)
    if not 0 < len(genuine) <= len(impostor):
        raise ValueError(
            f"identities: expected some same pairs and at least as many different ones, found {len(genuine)} and {len(impostor)}"
        )
    chosen = rng.permutation(np.r_[genuine, rng.choice(impostor, len(genuine), replace=False)])
    return scores[chosen], same[chosen]


def angular_fisher_score(embeddings: Float[np.ndarray, "n dim"], identities: Int[np.ndarray, " n"]) -> float:
    r"""Scatter of directions within people over scatter between them, :math:`\mathrm{tr}\,S_w / \mathrm{tr}\,S_b`; lower is tighter.

    Both are sums over images: :math:`S_w` around the mean direction of each person, :math:`S_b` of those means around the common mean.
    """
    unit = np.asarray(embeddings, dtype=float)
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    _, person, count = np.unique(np.asarray(identities), return_inverse=True, return_counts=True)
    means = np.zeros((len(count), unit.shape[1]))
    np.add.at(means, person, unit)
    means /= count[:, None]
    return float(np.square(unit - means[person]).sum() / np.square(means[person] - unit.mean(0)).sum())
