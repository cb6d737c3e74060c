"""Closed forms of ranks among random rivals against direct sums, in double and in exact arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import integrate, stats

from paper_utils.metrics import ranks


@pytest.mark.parametrize("items", [1, 2, 7, 127, 128, 129, 500, 4096, 200_000])
def test_phi_equals_its_sum(items: int) -> None:
    x = np.array(
        [0.0, 1e-12, 1e-7, 0.3 / items, 0.999 / items, min(1.0, 1.001 / items), 1e-3, 0.02, 0.3, 0.9, 1 - 1e-9, 1.0]
    )
    i = np.arange(1, items + 1)
    with np.errstate(divide="ignore"):
        expected = np.array([math.fsum(-np.expm1(i * np.log1p(-value)) / i) for value in x])
    np.testing.assert_allclose(ranks.phi(items, x), expected, rtol=2e-13)


def test_share_of_galleries_below_is_a_ratio_of_binomials() -> None:
    sizes = np.array([1, 2, 5, 12])
    share = ranks.share_of_galleries_below(30, sizes)
    exact = [[float(Fraction(math.comb(g, n - 1), math.comb(30, n - 1))) for g in range(31)] for n in sizes]
    np.testing.assert_allclose(share, exact, rtol=1e-13)
    # Deep populations keep their digits: one minus one over the number of rivals.
    assert 1 - ranks.share_of_galleries_below(10**6, np.array([2]))[0, -2] == pytest.approx(1e-6, rel=1e-9)


@pytest.mark.parametrize("items", [1, 3, 40])
@pytest.mark.parametrize(
    ("before", "width"), [(0.0, 1.0), (0.0, 0.0), (0.2, 1e-9), (0.2, 0.5), (0.9, 0.1), (0.0, 1e-3)]
)
def test_level_means_equal_their_integrals(items: int, before: float, width: float) -> None:
    def mean(integrand) -> float:
        if width < 1e-6:
            return integrand(before + width / 2)
        return integrate.quad(integrand, before, min(before + width, 1), epsrel=1e-12)[0] / width

    level = np.array([before]), np.array([width])
    place = np.arange(items)
    reciprocal = mean(lambda x: float(stats.binom.pmf(place, items - 1, x) @ (1 / (1 + place))))
    assert ranks.mean_reciprocal_rank(items, *level)[0] == pytest.approx(reciprocal, rel=1e-9)
    for k in {1, 2, items} & set(range(1, items + 1)):
        top = mean(lambda x, k=k: float(stats.binom.cdf(k - 1, items - 1, x)))
        assert ranks.probability_in_top(items, k, *level)[0] == pytest.approx(top, rel=1e-9)


@pytest.mark.parametrize(("items", "relevant"), [(1, 1), (6, 2), (6, 6), (60, 9)])
def test_precision_at_match_equals_the_double_binomial_sum(items: int, relevant: int) -> None:
    before, width, relevant_before, relevant_width = 0.15, 0.35, 0.3, 0.6
    x_count, y_count = np.arange(items - relevant + 1), np.arange(relevant)

    def at(theta: float, gain: np.ndarray) -> float:
        ahead = stats.binom.pmf(x_count, items - relevant, before + theta * width)
        found = stats.binom.pmf(y_count, relevant - 1, relevant_before + theta * relevant_width)
        return float(ahead @ gain @ found)

    total = x_count[:, None] + y_count
    cell = tuple(np.array([value]) for value in (before, width, relevant_before, relevant_width))
    expected = integrate.quad(at, 0, 1, args=((1 + y_count) / (1 + total),), epsrel=1e-12)[0]
    assert ranks.mean_precision_at_match(items, relevant, *cell)[0] == pytest.approx(expected, rel=1e-11)
    for k in {1, 3, items} & set(range(1, items + 1)):
        expected = integrate.quad(at, 0, 1, args=((total <= k - 1).astype(float),), epsrel=1e-12)[0]
        assert ranks.mean_probability_in_top(items, relevant, k, *cell)[0] == pytest.approx(expected, rel=1e-9)


def test_one_relevant_item_is_the_same_by_either_route_up_to_a_million() -> None:
    before, width = np.array([0.0, 0.01, 0.4]), np.array([0.01, 0.39, 0.6])
    for items in (10, 1000, 10**6):
        general = ranks.mean_precision_at_match(items, 1, before, width, before, width)
        np.testing.assert_allclose(general, ranks.mean_reciprocal_rank(items, before, width), rtol=1e-11)
        for k in (1, 30 if items > 10 else 3):
            general = ranks.mean_probability_in_top(items, 1, k, before, width, before, width)
            np.testing.assert_allclose(
                general, ranks.probability_in_top(items, k, before, width), rtol=1e-8, atol=1e-14
            )


def test_levels_merge_ties_and_keep_the_small_side() -> None:
    scores = np.array([[0.3, 0.1 + 0.2, 5.0, -np.inf], [1.0, 2.0, 3.0, np.nan]])
    match = np.array([[0.1, 0.2, 0.1, 0.1], [0.2, 0.2, 0.1, 0.0]])
    rival = np.array([0.5, 0.5 - 1e-14, 1e-14, 0.0])
    levels = ranks.levels(scores, match, rival)
    assert levels.row.tolist() == [0, 0, 0, 1, 1, 1, 1]
    np.testing.assert_allclose(levels.match, [0.1, 0.3, 0.1, 0.1, 0.2, 0.2, 0.0], rtol=1e-15)
    np.testing.assert_allclose(levels.rival[:3], [1e-14, 1.0, 0.0], rtol=1e-13)
    assert levels.rest[0] == pytest.approx(1)
    np.testing.assert_allclose(levels.total(np.tile(rival, (2, 1))), levels.rival, rtol=1e-15)
    assert levels.best_rival(np.array([1, 7])).reshape(2, -1)[:, :3].sum(axis=1) == pytest.approx([1, 1])


def test_infinite_scores_tie_with_each_other_only() -> None:
    ordered = np.array([np.inf, np.inf, 1e300, 0.0, 0.0, -np.inf])
    assert ranks.new_level(ordered).tolist() == [True, False, True, True, False, True]


@pytest.mark.parametrize("sizes", [0, -1, 1.5, [], [2, np.nan], np.inf])
def test_sizes_must_be_whole_and_positive(sizes: object) -> None:
    with pytest.raises(ValueError, match="sizes: expected whole numbers of at least 1"):
        ranks.whole_sizes(sizes)


def test_random_order_needs_a_possible_number_of_relevant_items() -> None:
    with pytest.raises(ValueError, match="1 <= relevant <= items"):
        ranks.average_precision_of_random_order(3, 2)


def test_scores_of_possible_cells_must_be_given() -> None:
    with pytest.raises(ValueError, match="have score NaN"):
        ranks.levels(np.array([[np.nan, 1.0]]), np.array([[0.5, 0.5]]), np.array([0.5, 0.5]))
