"""The Fréchet distance between sets of vectors."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st

from paper_utils.metrics.frechet import frechet_distance


def drawn(seed, rows=40, dim=4):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((rows, dim)) @ rng.standard_normal((dim, dim)) + rng.standard_normal(dim)


@given(seed=st.integers(0, 1000))
def test_it_is_the_formula_with_a_matrix_square_root(seed):
    one, two = drawn(seed), drawn(seed + 10_000, rows=70)
    s, t = np.cov(one, rowvar=False), np.cov(two, rowvar=False)
    direct = np.sum((one.mean(0) - two.mean(0)) ** 2) + np.trace(s + t - 2 * scipy.linalg.sqrtm(s @ t).real)
    assert frechet_distance(one, two) == pytest.approx(direct, rel=1e-6, abs=1e-8)
    assert frechet_distance(two, one) == pytest.approx(frechet_distance(one, two), rel=1e-8, abs=1e-8)


@given(seed=st.integers(0, 1000))
def test_it_is_zero_for_the_same_set_and_blind_to_rotation(seed):
    one, two = drawn(seed), drawn(seed + 1)
    turn = np.linalg.qr(np.random.default_rng(seed).standard_normal((4, 4)))[0]
    assert frechet_distance(one, one) == pytest.approx(0.0, abs=1e-8)
    assert frechet_distance(one @ turn, two @ turn) == pytest.approx(frechet_distance(one, two), rel=1e-6, abs=1e-8)


def test_one_dimension_by_hand():
    # Means 0 and 3, standard deviations 1 and 2: 9 + (1 - 2)^2.
    one = np.array([[-1.0], [1.0]]) / np.sqrt(2)
    assert frechet_distance(one, 3 + 2 * one) == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("second", "message"),
    [(np.zeros((5, 3)), "one width"), (np.zeros((1, 4)), "at least two rows"), (np.full((5, 4), np.nan), "20 values")],
)
def test_sets_that_cannot_be_compared_are_refused(second, message):
    with pytest.raises(ValueError, match=message):
        frechet_distance(np.zeros((5, 4)), second)
