"""Intervals: coverage, known values, faults."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from paper_utils.metrics import statistics


def test_t_interval_agrees_with_scipy():
    values = np.random.default_rng(0).normal(2.0, 3.0, 12)
    ours = statistics.mean_t_interval(values)
    theirs = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=1e-12)


@pytest.mark.parametrize("size", [5, 40])
def test_t_interval_covers_the_truth_in_95_percent_of_worlds(size):
    draws = np.random.default_rng(1).normal(1.0, 2.0, (4000, size))
    estimates = [statistics.mean_t_interval(row) for row in draws]
    coverage = np.mean([e.low <= 1.0 <= e.high for e in estimates])
    assert abs(coverage - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 4000)


def test_bootstrap_resamples_rows_not_entries():
    # Two items a person that are equal: counting items as independent would shrink the interval by sqrt(2).
    rng = np.random.default_rng(2)
    people = np.repeat(rng.normal(size=(400, 1)), 2, axis=1)
    estimate = statistics.bootstrap_interval(people, lambda rows: rows.mean(), rng=rng, resamples=2000)
    expected = 2 * 1.96 * people[:, 0].std() / np.sqrt(400)
    assert estimate.high - estimate.low == pytest.approx(expected, rel=0.1)
    assert estimate.n == 400


@given(trials=st.integers(1, 500), data=st.data())
def test_wilson_interval_holds_the_share_and_stays_in_the_unit_interval(trials, data):
    successes = data.draw(st.integers(0, trials))
    estimate = statistics.wilson_interval(successes, trials)
    assert -1e-12 <= estimate.low <= estimate.value + 1e-12
    assert estimate.value - 1e-12 <= estimate.high <= 1 + 1e-12


def test_no_failure_in_twenty_runs_does_not_prove_zero():
    assert statistics.wilson_interval(0, 20).high > 0.15


def test_faults_are_named():
    with pytest.raises(ValueError, match="at least 2 values, found 1"):
        statistics.mean_t_interval(np.array([1.0]))
    with pytest.raises(ValueError, match="1 of 3 values are NaN"):
        statistics.mean_t_interval(np.array([1.0, np.nan, 2.0]))
    with pytest.raises(ValueError, match="found 3 of 2"):
        statistics.wilson_interval(3, 2)
    with pytest.raises(ValueError, match="must be finite"):
        statistics.exact(float("nan"))
    with pytest.raises(ValueError, match="low <= high"):
        statistics.Estimate(0.0, 1.0, -1.0, 1, "by hand")
