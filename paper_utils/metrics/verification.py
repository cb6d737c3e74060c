"""Same or different? One-to-one verification: the ROC curve and the numbers read from it.

Several definitions are in use for the same name (accuracy with an oracle threshold or over ten folds, TAR at a FAR with or without
interpolation). They are all here, named, with the careful one as the default. Tens of millions of pairs: see `sorted_scores`.
"""

from __future__ import annotations

import warnings
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike
from scipy.spatial import ConvexHull

# Pairs that are looked up together: a block and the stretch of the other list that it meets stay in a core's cache.
BLOCK = 8192
METHODS = ("exact", "opensphere", "insightface")


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
class SortedScores:
    """An ROC in the memory of its scores: those of same and of different pairs, each list rising.

    `eer`, `auc`, `tar_at_far`, `operating_point` and `best_threshold_accuracy` take it in the place of a `Roc` and give the same
    numbers; only `roc` lists all points.

    Parameters
    ----------
    genuine, impostor
        Scores of same pairs and of different pairs, rising; made by `sorted_scores`, which checks them.
    """

    genuine: Float[np.ndarray, " positives"]
    impostor: Float[np.ndarray, " negatives"]

    @property
    def positives(self) -> int:
        """Number of same pairs."""
        return len(self.genuine)

    @property
    def negatives(self) -> int:
        """Number of different pairs."""
        return len(self.impostor)

    def roc(self) -> Roc:
        """All points of the curve, three numbers for each distinct score."""
        merged = np.concatenate([self.genuine, self.impostor])
        merged.sort(kind="stable")  # two rising runs: one merge
        merged = merged[np.r_[True, merged[1:] != merged[:-1]]][::-1]
        fpr, tpr = ((len(own) - np.searchsorted(own, merged)) / len(own) for own in (self.impostor, self.genuine))
        return Roc(np.r_[np.inf, merged], np.r_[0.0, fpr], np.r_[0.0, tpr], self.positives, self.negatives)


@dataclass(frozen=True)
class OperatingPoint:
    """What a verification system does at one false accept rate.

    Parameters
    ----------
    far
        The rate asked for.
    tar
        True accept rate there; NaN if the data cannot tell.
    threshold
        Accept a pair if its score is at least this; NaN where `tar` belongs to no real threshold.
    measured_far
        False accept rate of that threshold.
    method
        Definition used, see `operating_point`.
    note
        What to know before quoting the number; empty if nothing.
    """

    far: float
    tar: float
    threshold: float
    measured_far: float
    method: str
    note: str = ""


@dataclass(frozen=True)
class Report:
    """The numbers of one verification test, all as shares in [0, 1].

    Parameters
    ----------
    positives, negatives
        Number of same and of different pairs.
    eer, auc, oracle_accuracy
        See `eer`, `auc`, `best_threshold_accuracy`.
    points
        One operating point for each rate asked for.
    """

    positives: int
    negatives: int
    eer: float
    auc: float
    oracle_accuracy: float
    points: tuple[OperatingPoint, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """Everything that the points want to have said."""
        return tuple(point.note for point in self.points if point.note)


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
    scores, same = np.asarray(scores), np.asarray(same)
    if scores.dtype not in (np.float32, np.float64):
        scores = scores.astype(float)
    if scores.ndim != 1 or scores.shape != same.shape:
        raise ValueError(
            f"scores and same: expected two lists of equal length, found shapes {scores.shape} and {same.shape}"
        )
    if scores.size == 0:
        raise ValueError("scores: there are no pairs; check the pair list")
    if not np.isfinite([scores.min(), scores.max()]).all():  # NaN wins in both; no list of flags for millions of pairs
        raise ValueError(
            f"scores: {int((~np.isfinite(scores)).sum())} of {scores.size} are NaN or infinite; was the run diverged?"
        )
    if same.dtype != bool:
        flags = same.astype(bool)
        if same.dtype.kind not in "iuf" or not np.array_equal(flags, same):
            raise ValueError(f"same: expected only 0/1 or False/True, found {np.unique(same)[:5]}")
        same = flags
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
    return sorted_scores(scores, same).roc()


def sorted_scores(scores: ArrayLike, same: ArrayLike) -> SortedScores:
    """The two lists that all rates are counted from: cheap in time (two sorts) and memory (one copy) for millions of pairs.

    Arguments and errors as in `roc`; scores in float32 stay in float32.
    """
    scores, same = _pairs(scores, same)
    positives = np.count_nonzero(same)
    genuine, impostor = (np.empty(n, dtype=scores.dtype) for n in (positives, len(scores) - positives))
    filled = (
        0  # same pairs so far; in blocks, since selecting makes a list of row numbers that would outgrow the scores
    )
    for start in range(0, len(scores), 8 * BLOCK):
        part, flags = scores[start : start + 8 * BLOCK], same[start : start + 8 * BLOCK]
        chosen = part.compress(flags)
        genuine[filled : filled + len(chosen)] = chosen
        rest = part.compress(~flags)
        impostor[start - filled : start - filled + len(rest)] = rest
        filled += len(chosen)
    genuine.sort()
    impostor.sort()
    return SortedScores(genuine, impostor)


def evaluate(
    scores: ArrayLike,
    same: ArrayLike,
    *,
    fars: Sequence[float] = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1),
    method: str = "exact",
) -> Report:
    """Equal error rate, area, oracle accuracy and operating points of a list of pairs; arguments and errors as in `roc` and `operating_point`.

    Examples
    --------
    >>> report = evaluate([0.9, 0.8, 0.7, 0.1], [1, 0, 1, 0], fars=[0.5, 0.01])
    >>> report.eer, report.auc, report.points[0].tar, report.points[0].threshold
    (0.5, 0.75, 1.0, 0.7)
    >>> report.notes
    ('FAR 0.01 is finer than one of 2 different pairs; no threshold is known for it',)
    """
    curve = sorted_scores(scores, same)
    points = tuple(operating_point(curve, far, method=method) for far in fars)
    return Report(curve.positives, curve.negatives, eer(curve), *_area_and_accuracy(curve), points)


def _bracket(
    curve: Roc | SortedScores, passed: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Thresholds, FPRs and TPRs of the last point before ``passed(fpr, tpr)`` and of the first with it (or the curve's end twice)."""
    if isinstance(curve, Roc):
        reached = passed(curve.fpr, curve.tpr)
        after = int(np.argmax(reached)) if reached[-1] else len(reached)
        rows = [after - 1, min(after, len(reached) - 1)]
        return curve.thresholds[rows], curve.fpr[rows], curve.tpr[rows]

    def rates(threshold: np.floating) -> list[np.floating]:
        return [(len(own) - np.searchsorted(own, threshold)) / len(own) for own in (curve.impostor, curve.genuine)]

    lists = (curve.genuine, curve.impostor)
    reached = [bisect_left(range(len(x)), True, key=lambda i, x=x: not passed(*rates(x[i]))) for x in lists]
    above = [x[n] for x, n in zip(lists, reached, strict=True) if n < len(x)]
    below = [x[n - 1] for x, n in zip(lists, reached, strict=True) if n > 0]
    before = min(above) if above else np.inf
    thresholds = [before, max(below) if below else before]
    fpr, tpr = zip(*([0.0, 0.0] if t == np.inf else rates(t) for t in thresholds), strict=True)
    return np.array(thresholds), np.array(fpr), np.array(tpr)


def _positions(needles: np.ndarray, hay: np.ndarray) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """How many of `hay` lie below each of `needles`, and how many not above it, block by block; both lists rising."""
    for start in range(0, len(needles), BLOCK):
        block = needles[start : start + BLOCK]
        first = np.flatnonzero(np.r_[True, block[1:] != block[:-1]])
        values = block[first]  # equal needles are looked up once
        low, high = np.searchsorted(hay, values[0]), np.searchsorted(hay, values[-1], side="right")
        stretch = hay[low:high]
        below = low + np.searchsorted(stretch, values)
        through = below.copy()
        tied = np.flatnonzero(hay[np.minimum(below, len(hay) - 1)] == values)
        through[tied] = low + np.searchsorted(stretch, values[tied], side="right")
        if len(values) < len(block):
            copies = np.diff(first, append=len(block))
            below, through = np.repeat(below, copies), np.repeat(through, copies)
        yield slice(start, start + len(block)), below, through


def _area_and_accuracy(curve: SortedScores) -> tuple[float, float]:
    """`auc` and `best_threshold_accuracy` in one pass over the shorter list."""
    swapped = curve.positives > curve.negatives
    fewer, more = (curve.impostor, curve.genuine) if swapped else (curve.genuine, curve.impostor)
    won, total = 0, len(fewer) + len(more)
    # Either one side of the threshold is empty of `fewer`, or the threshold touches one of them: from below if they are the same
    # pairs (they are accepted), from above if they are the different ones.
    best = len(more)
    rank = np.arange(BLOCK)
    for rows, below, through in _positions(fewer, more):
        won += int(below.sum()) + int(through.sum())
        own = rows.start + rank[: len(below)]
        right = own + 1 - through + len(more) if swapped else below + len(fewer) - own
        best = max(best, int(right.max()))
    area = won / (2 * len(fewer) * len(more))
    return 1.0 - area if swapped else area, best / total


def _crossing(fpr: np.ndarray, tpr: np.ndarray) -> float:
    """Where the polygon through the points meets the line TPR = 1 - FPR."""
    gap = 1.0 - fpr - tpr
    if gap[-1] > 0:  # rounding may leave the last corner, (1, 1), a hair below the line
        return float(fpr[-1])
    after = int(np.argmax(gap <= 0))
    share = gap[after - 1] / (gap[after - 1] - gap[after])
    return float(fpr[after - 1] + share * (fpr[after] - fpr[after - 1]))


def eer(curve: Roc | SortedScores) -> float:
    """Equal error rate in [0, 1]: the false accept rate at which it equals the false reject rate, on the straight-line ROC.

    Examples
    --------
    >>> eer(roc([3, 2, 1, 0], [1, 1, 0, 0])), eer(roc([0, 1, 2, 3], [1, 1, 0, 0]))
    (0.0, 1.0)
    """
    _, fpr, tpr = _bracket(curve, lambda fpr, tpr: 1.0 - fpr - tpr <= 0)
    return _crossing(fpr, tpr)


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


def auc(curve: Roc | SortedScores) -> float:
    """Area under the ROC, trapezoid rule: the probability that a same pair scores above a different one, ties counted half."""
    if isinstance(curve, Roc):
        return float(np.trapezoid(curve.tpr, curve.fpr))
    return _area_and_accuracy(curve)[0]


def operating_point(curve: Roc | SortedScores, far: float, *, method: str = "exact") -> OperatingPoint:
    """True accept rate (same pairs accepted) at a given false accept rate, with its threshold and what to know about it.

    Parameters
    ----------
    curve
        From `roc` or `sorted_scores`.
    far
        False accept rate in (0, 1].
    method
        ``"exact"``: the largest TAR of a real threshold whose FAR does not exceed `far`. NaN if `far` is below one different pair,
        since no data speaks about it.
        ``"opensphere"``: straight line between the ROC's points, also below one different pair; where the curve is vertical at
        exactly `far`, its highest TAR (the official interpolation under SciPy 1.17).
        ``"insightface"``: the ROC corner whose FAR is nearest, above or below (the larger of two as near).

    Raises
    ------
    ValueError
        If `far` is outside (0, 1] or the method is unknown.
    """
    if not 0 < far <= 1:
        raise ValueError(f"far: expected a rate in (0, 1], found {far}")
    if method not in METHODS:
        raise ValueError(f"method: expected one of {', '.join(METHODS)}, found {method!r}")
    finer = f"FAR {far:g} is finer than one of {curve.negatives} different pairs; "
    note = finer if far * curve.negatives < 1 - 1e-9 else ""
    if method == "exact":
        if note:
            return OperatingPoint(far, np.nan, np.nan, np.nan, method, note + "no threshold is known for it")
        thresholds, fpr, tpr = _bracket(curve, lambda fpr, _: fpr > far * (1 + 1e-12))
        return OperatingPoint(far, float(tpr[0]), float(thresholds[0]), float(fpr[0]), method)
    if method == "opensphere":
        thresholds, fpr, tpr = _bracket(curve, lambda fpr, _: fpr > far)
        exact = fpr[0] == far
        threshold, reached = (float(thresholds[0]), far) if exact else (np.nan, np.nan)
        note = note and note + "interpolated between no false accept and the first"
        return OperatingPoint(far, float(np.interp(far, fpr, tpr)), threshold, reached, method, note)
    points = curve if isinstance(curve, Roc) else curve.roc()
    corner = _corners(points)[::-1]
    nearest = corner[np.argmin(np.abs(points.fpr[corner] - far))]
    note = note and note + "the nearest corner of the curve stands for it"
    values = (float(part[nearest]) for part in (points.tpr, points.thresholds, points.fpr))
    return OperatingPoint(far, *values, method, note)


def tar_at_far(curve: Roc | SortedScores, far: float, *, method: str = "exact") -> float:
    """`operating_point` as a bare number, with a warning in the place of a NaN's note."""
    point = operating_point(curve, far, method=method)
    if np.isnan(point.tar):
        warnings.warn(f"{point.note}, returning NaN", stacklevel=2)
    return point.tar


def _corners(curve: Roc) -> np.ndarray:
    """Indices of the points at which the ROC turns, with both ends: what scikit-learn keeps by default.

    It looks for turns before it puts (0, 0) in front, so the first threshold's point always stays.
    """
    if len(curve.fpr) <= 3:
        return np.arange(len(curve.fpr))
    bends = [
        np.rint(np.diff(rate[1:] * total, 2)) != 0
        for rate, total in ((curve.fpr, curve.negatives), (curve.tpr, curve.positives))
    ]
    return np.flatnonzero(np.r_[True, True, bends[0] | bends[1], True])


def best_threshold_accuracy(curve: Roc | SortedScores) -> float:
    """Share of pairs decided rightly at the threshold that suits these very pairs best.

    An oracle: the threshold has seen the answers. It is OpenSphere's "ACC"; it flatters by about .1 to .3 points at 6,000 pairs and
    by up to a point at 600 against `tenfold_accuracy`.
    """
    if isinstance(curve, SortedScores):
        return _area_and_accuracy(curve)[1]
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
    distances, same = _pairs(np.asarray(distances, dtype=float), same)
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


def cosine_similarities(embeddings: Float[np.ndarray, "n dim"]) -> Float[np.ndarray, "n n"]:
    """Cosine of every pair of rows.

    Raises
    ------
    ValueError
        If an embedding is not finite or has no length.
    """
    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
    if not np.isfinite(norms).all() or (norms == 0).any():
        raise ValueError(
            f"embeddings: {int((~np.isfinite(norms) | (norms == 0)).sum())} of {len(norms)} rows are zero or not finite and have no direction"
        )
    unit = embeddings / norms
    return unit @ unit.T


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
    above = np.triu(np.ones((len(embeddings), len(embeddings)), dtype=bool), k=1)
    return cosine_similarities(embeddings)[above], (identities[:, None] == identities)[above]


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


def noise_slope(ratios: Float[np.ndarray, " ratios"], values: Float[np.ndarray, "*runs ratios"]) -> np.ndarray | float:
    """Least-squares change of a metric for each unit of label noise, one slope a run.

    Raises
    ------
    ValueError
        If a value is not finite, lengths differ, or all ratios are equal.
    """
    ratios, values = np.asarray(ratios, dtype=float), np.asarray(values, dtype=float)
    if values.shape[-1:] != ratios.shape or not np.isfinite(values).all():
        raise ValueError(
            f"values: expected finite numbers, one for each of {ratios.size} ratios, found shape {values.shape}"
        )
    centred = ratios - ratios.mean()
    if not (centred != 0).any():
        raise ValueError(f"ratios: expected at least two different noise ratios, found {np.unique(ratios)}")
    return values @ centred / np.square(centred).sum()
