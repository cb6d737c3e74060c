"""Ranked lists with ties against enumeration of every order that the ties allow."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from paper_utils.metrics import ranks, retrieval


def enumerated(scores: np.ndarray, relevant: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Mean over all orders that sort the scores: AP, precision at every k, hit at every k."""
    results = []
    for order in itertools.permutations(range(len(scores))):
        order = np.array(order)
        if (np.diff(scores[order]) > 0).any():
            continue
        flags = relevant[order]
        precision = np.cumsum(flags) / np.arange(1, len(flags) + 1)
        results.append((precision[flags].mean(), precision, np.cumsum(flags) > 0))
    return tuple(np.mean([r[i] for r in results], axis=0) for i in range(3))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1))
def test_metrics_equal_enumeration_of_all_tie_orders(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 3, size=(3, 6)).astype(float)
    relevant = rng.random((3, 6)) < 0.4
    relevant[np.arange(3), rng.integers(6, size=3)] = True
    k = np.arange(1, 7)
    expected = [enumerated(*row) for row in zip(scores, relevant, strict=True)]
    np.testing.assert_allclose(retrieval.average_precision(scores, relevant), [e[0] for e in expected], rtol=1e-12)
    np.testing.assert_allclose(
        retrieval.precision_at_k(scores, relevant, k), np.array([e[1] for e in expected]).T, rtol=1e-12
    )
    np.testing.assert_allclose(
        retrieval.hit_at_k(scores, relevant, k), np.array([e[2] for e in expected]).T, rtol=1e-10, atol=1e-13
    )


def test_without_ties_it_is_the_usual_average_precision() -> None:
    rng = np.random.default_rng(0)
    scores, relevant = rng.normal(size=(20, 50)), rng.random((20, 50)) < 0.2
    relevant[:, 0] = True
    expected = [average_precision_score(y, s) for y, s in zip(relevant, scores, strict=True)]
    np.testing.assert_allclose(retrieval.average_precision(scores, relevant), expected, rtol=1e-12)
    assert retrieval.mean_average_precision(scores, relevant) == pytest.approx(np.mean(expected))


def test_blocks_of_queries_give_the_same_as_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    scores, relevant = rng.integers(0, 5, size=(30, 40)).astype(float), rng.random((30, 40)) < 0.3
    relevant[:, 3] = True
    whole = retrieval.average_precision(scores, relevant), retrieval.hit_at_k(scores, relevant, [1, 7])
    monkeypatch.setattr(retrieval, "BLOCK_CELLS", 70)
    np.testing.assert_array_equal(retrieval.average_precision(scores, relevant), whole[0])
    np.testing.assert_array_equal(retrieval.hit_at_k(scores, relevant, [1, 7]), whole[1])


def test_one_group_of_ties_is_a_random_order() -> None:
    relevant = np.arange(5000)[None] < 37
    expected = ranks.average_precision_of_random_order(37, 5000)
    assert retrieval.average_precision(np.zeros((1, 5000)), relevant)[0] == pytest.approx(expected, rel=1e-12)
    assert retrieval.precision_at_k(np.zeros((1, 5000)), relevant, 100)[0] == pytest.approx(37 / 5000, rel=1e-12)


def bare(function: Callable) -> Callable:
    """The function without the tests' type checks: what a user's mistake meets."""
    return inspect.unwrap(function)


ONE = np.array([[True, False]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: retrieval.average_precision(np.zeros((0, 2)), np.zeros((0, 2), bool)), "is the collection empty"),
        (
            lambda: bare(retrieval.average_precision)(np.zeros((1, 2)), np.ones((1, 3), bool)),
            r"boolean mask of shape \(1, 2\)",
        ),
        (lambda: bare(retrieval.average_precision)(np.zeros((1, 2)), np.ones((1, 2))), "boolean mask"),
        (lambda: retrieval.average_precision(np.array([[np.nan, 1.0]]), ONE), "scores: 1 of 2 are NaN"),
        (
            lambda: retrieval.average_precision(np.zeros((2, 2)), np.array([[True, False], [False, False]])),
            r"1 of 2 queries .* row 1",
        ),
        (lambda: retrieval.hit_at_k(np.zeros((1, 2)), ONE, 3), "at most the number of items, 2"),
        (lambda: retrieval.precision_at_k(np.zeros((1, 2)), ONE, 0), "k: expected whole numbers"),
    ],
)
def test_bad_input_is_refused_with_its_name(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
