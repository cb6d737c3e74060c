r"""Voices against faces (papers 02 and 03): matching, verification and retrieval from one score matrix, with intervals over people.

One of two is decided between people: let :math:`A_{ij}` be the share of all (probe of i, own item of i, item of j) in which the own item
wins, ties counted half. Every stratum, both ways of averaging and every resample of people are weighted means of this one table, so no
trial is ever drawn. People are resampled on both sides at once: somebody who is drawn twice is two probes and two rivals of others, but
never a rival of himself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from paper_utils.metrics import matching, ranks, retrieval, verification
from paper_utils.metrics.by_identity import resampled_rates
from paper_utils.metrics.ranks import BLOCK_CELLS, new_level

# Slopes of the lines that touch a resampled ROC from above, for the EER of its hull. Choice of ours.
SLOPES = 101


@dataclass(frozen=True)
class Measure:
    """A number on all people and on resampled people.

    Parameters
    ----------
    value
        On the people as they are.
    draws
        On each resample; NaN where it is undefined.
    """

    value: float
    draws: Float[np.ndarray, " resamples"]


def eligible_people(
    covariates: Mapping[str, Int[np.ndarray, " people"]], shared: Sequence[str]
) -> Bool[np.ndarray, "people people"]:
    """Who may stand against whom: others who agree in the covariates `shared` (none: everybody else).

    Raises
    ------
    ValueError
        If a covariate is not there.
    """
    missing = [name for name in shared if name not in covariates]
    if missing or not covariates:
        raise ValueError(f"shared: no covariate {', '.join(missing)}; there are {', '.join(covariates) or 'none'}")
    people = len(next(iter(covariates.values())))
    alike = ~np.eye(people, dtype=bool)
    for name in shared:
        alike &= covariates[name][:, None] == covariates[name]
    return alike


# ------------------------------------------------------------------------------------------------------- one of two


@dataclass(frozen=True)
class PairWins:
    """How often people's own items beat those of others.

    Parameters
    ----------
    wins
        :math:`A_{ij}`; the diagonal is 0 and means nothing.
    probes, matches, items
        Of each person: probe items, pairs of a probe and an own gallery item, and gallery items. People without such a pair are never
        probes but stay rivals.
    """

    wins: Float[np.ndarray, "people people"]
    probes: Int[np.ndarray, " people"]
    matches: Int[np.ndarray, " people"]
    items: Int[np.ndarray, " people"]

    def accuracy(
        self,
        eligible: Bool[np.ndarray, "people people"] | None = None,
        *,
        weights: Int[np.ndarray, "resamples people"] | None = None,
        average: str = "items",
    ) -> Measure:
        r"""1:2 accuracy: expected over all impostors that are eligible.

        .. math:: P_2 = \frac{\sum_i w_i c_i\,\bar A_i}{\sum_i w_i c_i},\qquad \bar A_i = \frac{\sum_j w_j e_{ij} m_j A_{ij}}{\sum_j w_j e_{ij} m_j}

        Parameters
        ----------
        eligible
            :math:`e`, who may stand against whom (`eligible_people`); everybody else if not given.
        weights
            :math:`w`, how often each person was drawn in each resample.
        average
            How probes' people are weighted; a rival weighs by the number of his gallery items, :math:`m_j`, in both.
            ``"items"``: :math:`c_i` pairs of a probe and its match. A list of all trials would count these times the items of the rivals,
            which are fewer for people with many items or few rivals; here every pair counts alike.
            ``"people"``: 1, so that people with many recordings weigh no more than others (macro average).

        Raises
        ------
        ValueError
            If nobody has an eligible impostor.
        """
        if average not in ("items", "people"):
            raise ValueError(f"average: expected 'items' or 'people', found {average!r}")
        by_item = average == "items"
        own = self.matches if by_item else (self.matches > 0).astype(int)
        # Relative to the most, so that with equal counts the sums are those of whole people.
        rival = self.items if by_item else self.items / self.items.max()
        everybody = ~np.eye(len(own), dtype=bool) if eligible is None else eligible
        share = (everybody * rival).astype(float)
        if not (share.sum(1) * own > 0).any():
            raise ValueError("eligible: nobody with a match has an impostor; this stratum cannot be tested")
        drawn = np.ones((1, len(own))) if weights is None else np.concatenate([np.ones((1, len(own))), weights])
        total = drawn @ share.T
        won = drawn @ (share * self.wins).T
        usable = drawn * own * (total > 0)
        mean = np.where(total > 0, won / np.where(total > 0, total, 1), 0)
        norm = usable.sum(1)
        values = np.where(norm > 0, (usable * mean).sum(1) / np.where(norm > 0, norm, 1), np.nan)
        return Measure(float(values[0]), values[1:])

    def per_person(self, eligible: Bool[np.ndarray, "people people"] | None = None) -> Float[np.ndarray, " people"]:
        r""":math:`\bar A_i` with all :math:`w_j = 1`: accuracy of each person's probes; NaN for people without match or impostor."""
        everybody = ~np.eye(len(self.items), dtype=bool) if eligible is None else eligible
        share = everybody * self.items
        total = np.where(self.matches > 0, share.sum(1), 0)
        return np.where(total > 0, (share * self.wins).sum(1) / np.where(total > 0, total, 1), np.nan)

    def skipped(self, eligible: Bool[np.ndarray, "people people"] | None = None) -> int:
        """Probe items that cannot be tested because their person has no match or no eligible impostor in the gallery."""
        return int(self.probes[np.isnan(self.per_person(eligible))].sum())


def pair_wins(
    scores: Float[np.ndarray, "probes gallery"],
    probe_people: Int[np.ndarray, " probes"],
    gallery_people: Int[np.ndarray, " gallery"],
    people: int,
) -> PairWins:
    """Compare every probe's own items with all items of others: one sort a probe, whatever the number of its items.

    Parameters
    ----------
    scores
        Larger means more alike; scores within a relative 1e-12 are ties.
    probe_people, gallery_people
        Person of each row and column, in ``[0, people)``.
    people
        Their number.

    Raises
    ------
    ValueError
        If shapes or numbers do not fit, a score is NaN, or no probe has an own item in the gallery.
    """
    scores = np.asarray(scores, dtype=float)
    _check(scores, probe_people, gallery_people, people)
    items, probes = np.bincount(gallery_people, minlength=people), np.bincount(probe_people, minlength=people)
    matches = probes * items
    if not matches.any():
        raise ValueError("probe_people and gallery_people: nobody is on both sides; do both name people in one way?")
    won = np.zeros((people, people))
    for start in range(0, len(scores), max(1, BLOCK_CELLS // scores.shape[1])):
        rows = slice(start, start + max(1, BLOCK_CELLS // scores.shape[1]))
        order = np.argsort(-scores[rows], axis=1)  # among ties any order will do
        who = gallery_people[order]
        own = (who == probe_people[rows, None]).astype(np.int64)
        level = np.cumsum(new_level(np.take_along_axis(scores[rows], order, axis=1)).ravel()) - 1
        tied = np.bincount(level, own.ravel())[level].reshape(own.shape)
        begin = np.r_[True, np.diff(level) > 0].reshape(own.shape)
        # Own items up to the end of each group of ties, less half of those inside it.
        ahead = np.maximum.accumulate(np.where(begin, np.cumsum(own, axis=1) - own, 0), axis=1)
        cell = probe_people[rows, None] * people + who
        won += np.bincount(cell.ravel(), (ahead + tied / 2).ravel(), minlength=people**2).reshape(people, people)
    trials = np.outer(matches, items)
    wins = np.where(trials > 0, won / np.where(trials > 0, trials, 1), 0)
    np.fill_diagonal(wins, 0)
    return PairWins(wins, probes, matches, items)


# ----------------------------------------------------------------------------------------------------- verification


@dataclass(frozen=True)
class PairTest:
    """Same or different, over all pairs of a probe and a gallery item.

    Parameters
    ----------
    eer, auc
        Equal error rate and area under the ROC.
    hull_eer
        EER of the best randomised test (concave hull of the ROC), which theory speaks of; ``None`` if it was not asked for.
    positives, negatives
        Same and different pairs.
    """

    eer: Measure
    auc: Measure
    hull_eer: Measure | None
    positives: int
    negatives: int


def pair_test(
    scores: Float[np.ndarray, "probes gallery"],
    probe_people: Int[np.ndarray, " probes"],
    gallery_people: Int[np.ndarray, " gallery"],
    eligible: Bool[np.ndarray, "people people"],
    *,
    weights: Int[np.ndarray, "resamples people"] | None = None,
    hull: bool = False,
) -> PairTest:
    """EER and AUC where different pairs are those of eligible people.

    Values are exact. Resamples see the ROC at `by_identity.CELLS` thresholds with straight lines between, which moves them by less than 1e-3.

    Parameters
    ----------
    scores, probe_people, gallery_people
        As for `pair_wins`.
    eligible
        From `eligible_people`.
    weights
        How often each person was drawn in each resample.
    hull
        Also compute the EER of the hull.

    Raises
    ------
    ValueError
        If shapes do not fit, a score is not finite, or there is no same or no different pair.
    """
    scores = np.asarray(scores, dtype=float)
    _check(scores, probe_people, gallery_people, len(eligible))
    same = probe_people[:, None] == gallery_people
    kept = same | eligible[probe_people][:, gallery_people]
    first, second = (
        people[rows] for people, rows in zip((probe_people, gallery_people), np.nonzero(kept), strict=True)
    )
    values = scores[kept]
    curve = verification.sorted_scores(values, first == second)
    draws = np.full((3, 0 if weights is None else len(weights)), np.nan)
    if weights is not None:
        fpr, tpr = resampled_rates(values, first, second, weights)
        known = np.isfinite(fpr[0])
        fpr, tpr = fpr[:, known], tpr[:, known]
        draws[0, known], draws[1, known] = _crossing(fpr, tpr), np.trapezoid(tpr, fpr, axis=0)
        if hull:
            draws[2, known] = _touching(fpr, tpr)
    return PairTest(
        Measure(verification.eer(curve), draws[0]),
        Measure(verification.auc(curve), draws[1]),
        Measure(verification.convex_hull_eer(curve.roc()), draws[2]) if hull else None,
        curve.positives,
        curve.negatives,
    )


def _crossing(fpr: np.ndarray, tpr: np.ndarray) -> np.ndarray:
    """EER of straight-line curves, one a column."""
    gap = 1.0 - fpr - tpr
    after = np.argmax(gap <= 1e-12, axis=0)
    column = np.arange(fpr.shape[1])
    step = gap[after - 1, column] - gap[after, column]
    return fpr[after - 1, column] + gap[after - 1, column] / step * (fpr[after, column] - fpr[after - 1, column])


def _touching(fpr: np.ndarray, tpr: np.ndarray) -> np.ndarray:
    r"""EER of the hulls: :math:`\max_w \min_k\, w\,\mathrm{FPR}_k + (1-w)(1-\mathrm{TPR}_k)`, one a column."""
    best = np.zeros(fpr.shape[1])
    for w in np.linspace(0, 1, SLOPES):
        best = np.maximum(best, (w * fpr + (1 - w) * (1 - tpr)).min(axis=0))
    return best


# -------------------------------------------------------------------------------------------------------- retrieval


def retrieval_by_person(
    scores: Float[np.ndarray, "probes gallery"],
    probe_people: Int[np.ndarray, " probes"],
    gallery_people: Int[np.ndarray, " gallery"],
    people: int,
    *,
    weights: Int[np.ndarray, "resamples people"] | None = None,
) -> Measure:
    """Mean average precision; every probe ranks the whole gallery, ties by lot.

    The resamples draw people as probes only: what they rank stays as it is, since copies of people in the gallery would be copies of
    relevant items. Intervals are therefore a little too narrow.

    Raises
    ------
    ValueError
        As `pair_wins`, or if a probe's person is not in the gallery.
    """
    scores = np.asarray(scores, dtype=float)
    _check(scores, probe_people, gallery_people, people)
    precision = retrieval.average_precision(scores, probe_people[:, None] == gallery_people)
    total, count = np.bincount(probe_people, precision, minlength=people), np.bincount(probe_people, minlength=people)
    drawn = np.empty((0, people)) if weights is None else weights
    queries = drawn @ count
    draws = np.where(queries > 0, drawn @ total / np.where(queries > 0, queries, 1), np.nan)
    return Measure(float(precision.mean()), draws)


# --------------------------------------------------------------------------------------- one item a person: 1 of N


def one_item_each(
    scores: Float[np.ndarray, "probes gallery"],
    probe_people: Int[np.ndarray, " probes"],
    gallery_people: Int[np.ndarray, " gallery"],
    people: int,
    *,
    draws: int,
    rng: np.random.Generator,
) -> Float[np.ndarray, "{draws} {people} {people}"]:
    """Square matrices with one probe and one gallery item of each person: the setting of paper 01, a gallery of N different people.

    Everybody's items are used as evenly as `draws` allows.

    Parameters
    ----------
    scores, probe_people, gallery_people, people
        As for `pair_wins`; everybody needs an item on either side.
    draws
        How many matrices.
    rng
        Order in which items are taken.

    Raises
    ------
    ValueError
        If somebody lacks an item.
    """
    scores = np.asarray(scores, dtype=float)
    _check(scores, probe_people, gallery_people, people)
    sides = []
    for name, who in (("probe_people", probe_people), ("gallery_people", gallery_people)):
        count = np.bincount(who, minlength=people)
        if count.min() == 0:
            raise ValueError(f"{name}: {int((count == 0).sum())} of {people} people have no item; leave them out first")
        order = rng.permutation(len(who))
        order = order[np.argsort(who[order], kind="stable")]
        # Offsets differ between people and sides, so that items meet in many combinations.
        place = (rng.integers(count) + np.arange(draws)[:, None]) % count
        sides.append(order[np.cumsum(count) - count + place])
    return scores[sides[0][:, :, None], sides[1][:, None, :]]


def match_curve(
    squares: Float[np.ndarray, "draws people people"],
    sizes: Sequence[int],
    *,
    weights: Int[np.ndarray, "resamples people"] | None = None,
) -> tuple[Float[np.ndarray, " sizes"], Float[np.ndarray, "resamples sizes"]]:
    """1:N accuracy for every N, exact over all galleries of different people, mean over the matrices; and its resamples.

    Resamples are NaN above half the number of people, where too many galleries would hold one person twice.
    """
    sizes = list(sizes)
    value = np.mean([matching.match_accuracy(square, sizes) for square in squares], axis=0)
    draws = np.full((0 if weights is None else len(weights), len(sizes)), np.nan)
    possible = [i for i, size in enumerate(sizes) if size <= squares.shape[1] // 2]
    if weights is not None and possible:
        small = [sizes[i] for i in possible]
        draws[:, possible] = np.mean(
            [matching.bootstrap_match_accuracy(square, small, weights=weights) for square in squares], axis=0
        )
    return value, draws


def reciprocal_rank(
    squares: Float[np.ndarray, "draws people people"], *, weights: Int[np.ndarray, "resamples people"] | None = None
) -> Measure:
    r"""mAP with one relevant item: the mean of :math:`1/\mathrm{rank}`, ties by lot; people are resampled on both sides."""
    people = squares.shape[1]
    drawn = np.ones((1, people)) if weights is None else np.concatenate([np.ones((1, people)), weights])
    total = np.zeros(len(drawn))
    for square in squares:
        level = ranks.level_numbers(square)
        own = np.diagonal(level)[:, None]
        ahead, tied = (drawn @ mask.T for mask in (level > own, (level == own) & ~np.eye(people, dtype=bool)))
        mean = (ranks.harmonic(ahead + tied + 1) - ranks.harmonic(ahead)) / (tied + 1)
        total += (drawn * mean).sum(1) / drawn.sum(1)
    values = total / len(squares)
    return Measure(float(values[0]), values[1:])


def _check(scores: np.ndarray, probe_people: np.ndarray, gallery_people: np.ndarray, people: int) -> None:
    if scores.ndim != 2 or scores.size == 0 or scores.shape != (len(probe_people), len(gallery_people)):
        raise ValueError(
            f"scores: expected one row for each of {len(probe_people)} probes and one column for each of {len(gallery_people)} gallery items, "
            f"found shape {scores.shape}"
        )
    if np.isnan(scores).any():
        raise ValueError(f"scores: {int(np.isnan(scores).sum())} of {scores.size} are NaN; did a run diverge?")
    for name, who in (("probe_people", probe_people), ("gallery_people", gallery_people)):
        if who.min() < 0 or who.max() >= people:
            raise ValueError(f"{name}: expected numbers from 0 to {people - 1}, found {who.min()} to {who.max()}")
