r"""Which of two animations do people prefer? Answers from 1 (strongly the first) to 5 (strongly the second), judged person by person (paper 09).

The side on which a method is shown is drawn for each trial, so an answer means nothing before it is turned back; raters who fail at trials
with a known answer are left out; and answers of one person are no independent samples, so people are counted, not answers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int
from scipy.stats import binomtest

SCALE = 5  # answers 1 to 5; 3 is undecided


@dataclass(frozen=True)
class Answers:
    """Answers of a study, in any order. Practice trials (the first three of a rater in the paper's study) are taken out before.

    Parameters
    ----------
    rater
        Who answered.
    answer
        As given: 1 strongly left, 2, 3 undecided, 4, 5 strongly right.
    flipped
        Whether the trial showed our method on the right.
    catch
        Whether the trial has a known answer: its right side stands where our method stands in the others.

    Raises
    ------
    ValueError
        If columns differ in length, are empty, or an answer is not on the scale.
    """

    rater: Int[np.ndarray, " raters"]
    answer: Int[np.ndarray, " answers"]
    flipped: Bool[np.ndarray, " flips"]
    catch: Bool[np.ndarray, " catches"]

    def __post_init__(self) -> None:
        lengths = [len(column) for column in (self.rater, self.answer, self.flipped, self.catch)]
        if len(set(lengths)) > 1 or not lengths[0]:
            raise ValueError(f"answers: expected columns of one length and at least one row, found {lengths}")
        outside = self.answer[(self.answer < 1) | (self.answer > SCALE)]
        if len(outside):
            raise ValueError(
                f"answer: {len(outside)} of {lengths[0]} are not from 1 to {SCALE}, the first is {outside[0]}"
            )


@dataclass(frozen=True)
class Preference:
    """What raters prefer.

    Parameters
    ----------
    counts
        Answers 1 to 5 of the kept raters once ours is 1 throughout, catch trials left out.
    ours, other
        Preference :math:`2 n_1 + n_2` against :math:`2 n_5 + n_4`.
    kept, dropped
        Raters, rising.
    for_ours, for_other, undecided
        Raters whose own answers prefer ours, the other, or neither.
    p_value
        Two-sided sign test over raters who decide: how likely so uneven a division is if both sides are equally good. 1 if nobody decides.
    """

    counts: Int[np.ndarray, " 5"]
    ours: int
    other: int
    kept: tuple[int, ...]
    dropped: tuple[int, ...]
    for_ours: int
    for_other: int
    undecided: int
    p_value: float


def turned_back(
    answer: Int[np.ndarray, " answers"], flipped: Bool[np.ndarray, " answers"]
) -> Int[np.ndarray, " answers"]:
    """Answers with ours at 1: ``6 - answer`` where the trial was flipped, the answer as it is elsewhere.

    Examples
    --------
    >>> turned_back(np.array([1, 1, 4]), np.array([False, True, True])).tolist()
    [1, 5, 2]
    """
    return np.where(flipped, SCALE + 1 - answer, answer)


def attentive(answers: Answers) -> dict[int, bool]:
    """For each rater, rising, whether the right answers on catch trials (1 or 2 once turned back) are at least as many as all others.

    Raters without catch trials pass.
    """
    right = turned_back(answers.answer, answers.flipped) <= 2
    return {
        int(rater): bool(
            (right & answers.catch & (answers.rater == rater)).sum()
            >= (~right & answers.catch & (answers.rater == rater)).sum()
        )
        for rater in np.unique(answers.rater)
    }


def preference(answers: Answers, *, only_flipped: bool = False) -> Preference:
    r"""Turn answers back, drop raters by their catch trials, count preferences, test over raters.

    .. math:: P_{ours} = 2 n_1 + n_2, \qquad P_{other} = 2 n_5 + n_4; \qquad
        p = \min\Big(1,\ 2 \sum_{k \ge \max(a, b)} \binom{a + b}{k} 2^{-(a + b)}\Big)

    where a raters have :math:`P_{ours} > P_{other}` by their own answers and b the reverse. Answers pooled over raters would be counted as if
    each came from another person.

    Parameters
    ----------
    answers
        Of the study.
    only_flipped
        Until August 2023 the published script threw away the answers of all trials that were not flipped (history of the code), so the plots of the
        paper's first version show half of them. On: the same here, except that raters are judged by all of their catch trials.

    Raises
    ------
    ValueError
        If no rater is attentive, or no answer is left.
    """
    passed = attentive(answers)
    kept, dropped = (tuple(rater for rater, good in passed.items() if good == wanted) for wanted in (True, False))
    counted = ~answers.catch & np.isin(answers.rater, kept)
    if only_flipped:
        counted &= answers.flipped
    if not counted.any():
        raise ValueError(
            f"answers: none is left; {len(dropped)} of {len(passed)} raters failed the catch trials"
            f"{', and only flipped trials count' if only_flipped else ''}"
        )
    ours_first = turned_back(answers.answer, answers.flipped)[counted]
    # 2, 1, 0, -1, -2 for the answers 1 to 5, so the sum is the difference of the preferences.
    leanings = [int((3 - ours_first[answers.rater[counted] == rater]).sum()) for rater in kept]
    for_ours, for_other = sum(lean > 0 for lean in leanings), sum(lean < 0 for lean in leanings)
    deciding = for_ours + for_other
    counts = np.bincount(ours_first, minlength=SCALE + 1)[1:]
    return Preference(
        counts=counts,
        ours=int(2 * counts[0] + counts[1]),
        other=int(2 * counts[4] + counts[3]),
        kept=kept,
        dropped=dropped,
        for_ours=for_ours,
        for_other=for_other,
        undecided=len(kept) - deciding,
        p_value=float(binomtest(for_ours, deciding).pvalue) if deciding else 1.0,
    )
