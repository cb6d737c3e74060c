"""Intervals in figures."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest

from paper_utils import plotting
from paper_utils.metrics.statistics import Estimate, wilson_interval


def test_whiskers_reach_the_ends_of_the_intervals():
    middle, bars = plotting.whiskers([Estimate(3, 2, 5, 4, "t"), Estimate(7.5, 7, 9, 4, "t")])
    np.testing.assert_allclose(middle, [3, 7.5])
    np.testing.assert_allclose(middle - bars[0], [2, 7])
    np.testing.assert_allclose(middle + bars[1], [5, 9])


@pytest.mark.parametrize("value", [0.9, 2.1])
def test_an_interval_without_its_own_value_can_be_drawn(value):
    middle, bars = plotting.whiskers([Estimate(value, 1.0, 2.0, 9, "percentile")])
    assert bars.min() == 0
    fig, ax = plotting.figure()
    ax.errorbar(middle, [0], xerr=bars)
    plt.close(fig)


def test_no_estimates_give_no_whiskers():
    middle, bars = plotting.whiskers([])
    assert middle.shape == (0,)
    assert bars.shape == (2, 0)


@pytest.mark.parametrize("trials", [1, 3, 7, 164, 300, 492, 999_983])
@pytest.mark.parametrize("share", [0, 1])
def test_wilsons_interval_holds_a_share_of_none_or_all(share, trials):
    found = wilson_interval(share * trials, trials)
    assert found.low <= found.value <= found.high
