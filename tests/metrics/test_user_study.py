"""Preferences of raters: every rule by a small case, the published defect, invariances and faults."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paper_utils.metrics import user_study as us


def study(*rows):
    """From (rater, answer, flipped, catch)."""
    rater, answer, flipped, catch = zip(*rows, strict=True)
    return us.Answers(np.array(rater), np.array(answer), np.array(flipped, dtype=bool), np.array(catch, dtype=bool))


def plain(rater, answers):
    """Trials that were not flipped."""
    return [(rater, answer, 0, 0) for answer in answers]


def test_only_flipped_trials_are_turned_and_the_others_kept():
    answer = np.tile(np.arange(1, 6), 2)
    flipped = np.repeat([False, True], 5)
    assert us.turned_back(answer, flipped).tolist() == [1, 2, 3, 4, 5, 5, 4, 3, 2, 1]
    found = us.preference(study(*zip([0] * 10, answer, flipped, [0] * 10, strict=True)))
    assert found.counts.tolist() == [2, 2, 2, 2, 2], "all ten answers count"


def test_preferences_by_hand():
    found = us.preference(study(*plain(0, [1, 1, 2, 3, 4, 5]), (0, 5, 1, 0)))  # the flipped 5 is a 1
    assert found.counts.tolist() == [3, 1, 1, 1, 1]
    assert (found.ours, found.other) == (2 * 3 + 1, 2 * 1 + 1)
    assert (found.for_ours, found.for_other, found.undecided) == (1, 0, 0)
    assert found.p_value == 1.0, "one rater decides nothing"


def test_raters_who_fail_catch_trials_are_dropped():
    rows = [
        *plain(1, [1, 1]), (1, 1, 0, 1), (1, 4, 1, 1), (1, 3, 0, 1),  # two right, one undecided: kept
        *plain(2, [5, 5]), (2, 5, 0, 1), (2, 2, 0, 1), (2, 1, 1, 1),  # one right, two wrong: dropped
        *plain(3, [2, 3]), (3, 2, 0, 1), (3, 4, 0, 1),  # as many right as wrong: kept
        *plain(4, [4]),  # no catch trials: kept
    ]  # fmt: skip
    found = us.preference(study(*rows))
    assert (found.kept, found.dropped) == ((1, 3, 4), (2,))
    assert found.counts.tolist() == [2, 1, 1, 1, 0], "without catch trials and the dropped rater"
    assert us.attentive(study(*rows)) == {1: True, 2: False, 3: True, 4: True}


def test_the_test_counts_raters_and_not_answers():
    once = [row for rater in range(6) for row in plain(rater, [1] if rater < 5 else [5])]
    often = [row for rater in range(6) for row in plain(rater, [1] * 50 if rater < 5 else [5] * 50)]
    first, second = us.preference(study(*once)), us.preference(study(*often))
    assert first.p_value == second.p_value == pytest.approx(2 * (6 + 1) / 2**6)
    assert (second.for_ours, second.for_other) == (5, 1)
    assert second.ours == 2 * 250


def test_raters_who_lean_to_no_side_do_not_decide():
    rows = [*plain(0, [1, 5]), *plain(1, [3]), *plain(2, [2]), *plain(3, [2]), *plain(4, [1, 4, 4, 2])]
    found = us.preference(study(*rows))
    assert (found.for_ours, found.for_other, found.undecided) == (3, 0, 2)
    assert found.p_value == pytest.approx(2 / 2**3)
    assert us.preference(study(*plain(0, [3, 3]))).p_value == 1.0


def test_the_published_defect_loses_half_of_the_answers_and_can_turn_the_result():
    rows = [(rater, 1, 0, 0) for rater in range(8) for _ in range(3)] + [(rater, 1, 1, 0) for rater in range(8)]
    right, wrong = us.preference(study(*rows)), us.preference(study(*rows), only_flipped=True)
    assert (int(right.counts.sum()), int(wrong.counts.sum())) == (32, 8)
    assert right.for_ours == wrong.for_other == 8


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 5), st.booleans(), st.just(0)), min_size=1, max_size=40))
def test_showing_all_trials_the_other_way_round_changes_nothing(rows):
    answers = study(*rows)
    mirrored = dataclasses.replace(answers, answer=6 - answers.answer, flipped=~answers.flipped)
    one, other = us.preference(answers), us.preference(mirrored)
    assert one.counts.tolist() == other.counts.tolist()
    assert dataclasses.replace(one, counts=other.counts) == other
    swapped = us.preference(dataclasses.replace(answers, answer=6 - answers.answer))
    assert (swapped.ours, swapped.for_ours, swapped.p_value) == (one.other, one.for_other, pytest.approx(one.p_value))


def test_faults_are_named():
    with pytest.raises(ValueError, match="answer: 2 of 3 are not from 1 to 5, the first is 0"):
        study(*plain(0, [0, 3, 6]))
    with pytest.raises(ValueError, match=r"one length and at least one row, found \[2, 1, 1, 1\]"):
        us.Answers(np.array([0, 1]), np.array([1]), np.array([False]), np.array([False]))
    with pytest.raises(ValueError, match="none is left; 1 of 1 raters failed the catch trials"):
        us.preference(study(*plain(0, [1]), (0, 5, 0, 1)))
    with pytest.raises(ValueError, match="only flipped trials count"):
        us.preference(study(*plain(0, [1])), only_flipped=True)
