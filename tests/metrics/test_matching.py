"""1:N accuracy from a score matrix against enumeration of all galleries, with and without ties."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paper_utils.metrics import matching


def enumerated(scores: np.ndarray, size: int, same: np.ndarray, eligible: np.ndarray) -> float:
    """Every gallery of every pair of a probe and its match; the first place is shared among ties."""
    accuracy = []
    for probe, match in np.argwhere(same):
        rivals = np.flatnonzero(~same[probe] & eligible[probe])
        wins = []
        for gallery in itertools.combinations(rivals, size - 1):
            others = scores[probe, list(gallery)]
            wins.append((others <= scores[probe, match]).all() / (1 + (others == scores[probe, match]).sum()))
        accuracy.append(np.mean(wins))
    return float(np.mean(accuracy))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_accuracy_equals_enumeration_of_all_galleries(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(-2, 3, size=(6, 6)).astype(float)
    same, everyone = np.eye(6, dtype=bool), np.ones((6, 6), bool)
    assert matching.match_accuracy(scores, size) == pytest.approx(enumerated(scores, size, same, everyone), rel=1e-12)


def test_several_items_a_person_and_strata_equal_enumeration() -> None:
    rng = np.random.default_rng(0)
    probe, gallery, gender = np.array([0, 0, 1, 2, 3]), np.array([0, 1, 1, 2, 3, 3, 4, 5]), np.array([0, 0, 1, 1, 0, 0])
    scores = rng.integers(0, 4, size=(5, 8)).astype(float)
    same, eligible = probe[:, None] == gallery, gender[probe][:, None] == gender[gallery]
    for size in (2, 3):
        assert matching.match_accuracy(scores, size, same) == pytest.approx(
            enumerated(scores, size, same, np.ones_like(same)), rel=1e-12
        )
    expected = enumerated(scores, 2, same, eligible)
    assert matching.match_accuracy(scores, 2, same, eligible=eligible) == pytest.approx(expected, rel=1e-12)
    assert matching.compare(scores, same, eligible=eligible).rivals.tolist() == [4, 4, 3, 3, 2, 1, 1]


@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_a_constant_score_is_chance(size: int) -> None:
    assert matching.match_accuracy(np.full((100, 100), 0.1), size) == pytest.approx(1 / size, rel=1e-12)


def test_scores_that_differ_by_rounding_are_ties() -> None:
    scores = np.array([[0.3, 0.1 + 0.2], [0.5, 0.5]])
    assert matching.compare(scores).tied.tolist() == [1, 1]
    assert matching.match_accuracy(scores, 2) == pytest.approx(0.5)
    infinite = np.array([[np.inf, np.inf], [1.0, -np.inf]])
    assert matching.compare(infinite).tied.tolist() == [1, 0]
    assert matching.compare(infinite).below.tolist() == [0, 0]


def test_two_way_accuracy_is_the_mean_rank_among_rivals() -> None:
    scores = np.random.default_rng(1).normal(size=(300, 300)).round(1)
    own = np.diag(scores)[:, None]
    expected = ((scores < own).sum(1) + ((scores == own).sum(1) - 1) / 2).mean() / 299
    assert matching.match_accuracy(scores, 2) == pytest.approx(expected, rel=1e-12)


def test_large_galleries_keep_their_digits() -> None:
    # One rival of 20,000 beats every match: it is missed by a 1:2 gallery with probability 1 - 1/n.
    pairs = matching.Comparisons(*(np.array([value]) for value in (0, 0, 19_999, 0, 20_000)))
    assert matching.match_accuracy_per_pair(pairs, 2)[0] == pytest.approx(1 - 1 / 20_000, rel=1e-14)
    assert matching.match_accuracy_per_pair(pairs, 20_001)[0] == 0


def test_bootstrap_over_people_centres_on_the_accuracy_and_covers_its_spread() -> None:
    rng = np.random.default_rng(2)
    people = rng.normal(size=(2, 400))
    scores = -np.abs(people[0][:, None] - people[0] - 0.3 * people[1]) + 0.0
    replicates = matching.bootstrap_match_accuracy(scores, [2, 10], rng=rng, resamples=300)
    assert replicates.shape == (300, 2)
    accuracy = matching.match_accuracy(scores, [2, 10])
    assert np.abs(replicates.mean(0) - accuracy).max() < 0.01
    # Every resample by hand: the drawn people are probes and rivals, copies of oneself are not.
    weight = np.random.default_rng(3).multinomial(400, np.full(400, 1 / 400), size=1)[0]
    drawn = np.repeat(np.arange(400), weight)
    matrix, other = scores[np.ix_(drawn, drawn)], drawn[:, None] != drawn
    own = np.diag(matrix)[:, None]
    by_hand = np.mean((((matrix < own) + (matrix == own) / 2) * other).sum(1) / other.sum(1))
    again = matching.bootstrap_match_accuracy(scores, 2, rng=np.random.default_rng(3), resamples=1)
    assert again[0] == pytest.approx(by_hand, rel=1e-10)


def test_pairs_without_enough_rivals_can_be_left_out_and_counted() -> None:
    scores = np.random.default_rng(4).normal(size=(4, 4))
    eligible = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 1, 0], [1, 1, 1, 1]], bool)
    pairs = matching.compare(scores, eligible=eligible)
    with pytest.raises(ValueError, match="2 of 4 matches have fewer"):
        matching.match_accuracy_per_pair(pairs, 3)
    kept = pairs.with_rivals(2)
    assert len(kept) == 2
    assert matching.match_accuracy_per_pair(kept, 3).shape == (2,)


def bare(function: Callable) -> Callable:
    """The function without the tests' type checks: what a user's mistake meets."""
    return inspect.unwrap(function)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: matching.match_accuracy(np.zeros((0, 0)), 2), "is the gallery empty"),
        (lambda: bare(matching.compare)(np.zeros(3)), "expected a matrix"),
        (lambda: matching.match_accuracy(np.full((2, 2), np.nan), 2), "scores: 4 of 4 are NaN"),
        (lambda: matching.match_accuracy(np.zeros((2, 3)), 2), "must be square"),
        (
            lambda: bare(matching.compare)(np.zeros((2, 2)), np.zeros((2, 3), bool)),
            "same: expected the shape of scores",
        ),
        (lambda: matching.match_accuracy(np.zeros((2, 2)), 2, np.zeros((2, 2), bool)), "no probe has a match"),
        (lambda: matching.match_accuracy(np.zeros((3, 3)), 4), "a gallery of 4 needs 3 rivals"),
        (lambda: matching.match_accuracy(np.zeros((3, 3)), 0), "sizes: expected whole numbers"),
        (
            lambda: matching.bootstrap_match_accuracy(np.zeros((4, 4)), 3, rng=np.random.default_rng(0)),
            "galleries up to 2",
        ),
    ],
)
def test_bad_input_is_refused_with_its_name(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_given_weights_and_own_draws_are_the_same_bootstrap() -> None:
    scores = np.random.default_rng(3).normal(size=(20, 20))
    weights = np.random.default_rng(9).multinomial(20, np.full(20, 1 / 20), size=7)
    own = matching.bootstrap_match_accuracy(scores, [2, 5], rng=np.random.default_rng(9), resamples=7)
    assert np.array_equal(matching.bootstrap_match_accuracy(scores, [2, 5], weights=weights), own)
    with pytest.raises(ValueError, match="either rng"):
        matching.bootstrap_match_accuracy(scores, 2)
    with pytest.raises(ValueError, match="one column for each of 20 people"):
        inspect.unwrap(matching.bootstrap_match_accuracy)(scores, 2, weights=weights[:, :5])


def test_a_sample_with_too_few_people_is_undefined_for_that_size_only() -> None:
    scores = np.random.default_rng(4).normal(size=(10, 10))
    weights = np.array([[3, 0, 1, 0, 0, 0, 0, 0, 0, 0], np.ones(10, dtype=int), np.zeros(10, dtype=int)])
    found = matching.bootstrap_match_accuracy(scores, [2, 5], weights=weights)
    assert np.isnan(found).tolist() == [[False, True], [False, False], [True, True]]
    assert found[1] == pytest.approx(matching.match_accuracy(scores, [2, 5]))
