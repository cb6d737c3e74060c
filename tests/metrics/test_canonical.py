"""Canonical correlation: planted truth is found, nothing is found where nothing is, bad input is named."""

import numpy as np
import pytest
from scipy import stats

from paper_utils.metrics import canonical


def planted(people, correlation, rng):
    common, own = rng.normal(size=(2, people))
    x = rng.normal(size=(people, 4))
    y = rng.normal(size=(people, 3))
    x[:, 1] = common
    y[:, 2] = correlation * common + np.sqrt(1 - correlation**2) * own
    return x @ rng.normal(size=(4, 4)), y @ rng.normal(size=(3, 3))


def test_population_formula_is_exact_for_one_shared_direction():
    cross = np.zeros((4, 3))
    cross[1, 2] = 0.7
    found = canonical.population_canonical_correlations(np.eye(4), np.eye(3), cross)
    np.testing.assert_allclose(found, [0.7, 0, 0], atol=1e-12)


def test_population_formula_does_not_change_under_linear_maps():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(7, 7))
    joint = root @ root.T
    a, b = rng.normal(size=(4, 4)), rng.normal(size=(3, 3))
    plain = canonical.population_canonical_correlations(joint[:4, :4], joint[4:, 4:], joint[:4, 4:])
    mapped = canonical.population_canonical_correlations(
        a @ joint[:4, :4] @ a.T, b @ joint[4:, 4:] @ b.T, a @ joint[:4, 4:] @ b.T
    )
    np.testing.assert_allclose(mapped, plain, rtol=1e-8)


def test_sample_correlations_approach_the_planted_one():
    x, y = planted(20_000, 0.6, np.random.default_rng(1))
    np.testing.assert_allclose(canonical.canonical_correlations(x, y), [0.6, 0, 0], atol=0.03)


def test_heldout_interval_holds_the_planted_value():
    x, y = planted(3000, 0.6, np.random.default_rng(2))
    found = canonical.heldout_canonical_correlation(x, y, rng=np.random.default_rng(0))
    assert found.low < 0.6 < found.high
    assert found.high - found.low < 0.06


def test_in_sample_value_is_optimistic_and_the_heldout_one_is_not():
    fitted, heldout = [], []
    for seed in range(30):
        x, y = planted(60, 0.0, np.random.default_rng(seed))
        fitted.append(canonical.canonical_correlations(x, y)[0])
        heldout.append(canonical.heldout_canonical_correlation(x, y, rng=np.random.default_rng(seed)).value)
    assert np.mean(fitted) > 0.25
    assert abs(np.mean(heldout)) < 0.1


def test_permutation_test_tells_a_link_from_none():
    x, y = planted(300, 0.6, np.random.default_rng(3))
    assert canonical.permutation_p_value(x, y, rng=np.random.default_rng(0)) == pytest.approx(1 / 200)
    x, y = planted(300, 0.0, np.random.default_rng(3))
    assert canonical.permutation_p_value(x, y, rng=np.random.default_rng(0)) > 0.05


def test_shuffling_inside_strata_ignores_what_the_strata_explain():
    rng = np.random.default_rng(4)
    stratum = rng.integers(2, size=400)
    x, y = (4.0 * stratum[:, None] + rng.normal(size=(400, 2)) for _ in range(2))
    assert canonical.permutation_p_value(x, y, rng=rng) < 0.01
    assert canonical.permutation_p_value(x, y, rng=rng, strata=stratum) > 0.05


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x[:5], y), "one row a person each, found 5 and 50"),
        (lambda x, y: (x[:6], y[:6]), "needs at least 8 people, found 6"),
        (lambda x, y: (x * [1, 1, 1, 0], y), r"columns \[3\] of x are constant"),
        (lambda x, y: (x, np.where(y == y[0, 0], np.nan, y)), "y holds NaN"),
    ],
)
def test_bad_input_is_named(change, message):
    x, y = change(*planted(50, 0.5, np.random.default_rng(0)))
    with pytest.raises(ValueError, match=message):
        canonical.canonical_correlations(x, y)


def test_matcher_scores_are_the_log_likelihood_ratio_of_two_gaussians():
    r = np.array([0.7, 0.2])
    matcher = canonical.CanonicalMatcher(np.zeros(2), np.zeros(2), np.eye(2), np.eye(2), r)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(3, 2)), rng.normal(size=(4, 2))
    for i in range(3):
        for j in range(4):
            expected = sum(
                stats.multivariate_normal([0, 0], [[1, r[k]], [r[k], 1]]).logpdf([x[i, k], y[j, k]])
                - stats.norm.logpdf(x[i, k])
                - stats.norm.logpdf(y[j, k])
                for k in range(2)
            )
            assert matcher.scores(x, y)[i, j] == pytest.approx(expected)


def test_matcher_finds_the_planted_partner_and_is_at_chance_without_one():
    for correlation, low, high in ((0.9, 0.7, 0.9), (0.0, 0.42, 0.58)):
        x, y = planted(600, correlation, np.random.default_rng(5))
        scores = canonical.CanonicalMatcher.fit(x[:300], y[:300], rng=np.random.default_rng(0)).scores(x[300:], y[300:])
        accuracy = np.mean([(scores[i, i] > np.delete(scores[i], i)).mean() for i in range(300)])
        assert low < accuracy < high


def test_matcher_bears_more_columns_than_people():
    rng = np.random.default_rng(6)
    common = rng.normal(size=(120, 1))
    x = common + rng.normal(size=(120, 200))
    y = common + rng.normal(size=(120, 150))
    scores = canonical.CanonicalMatcher.fit(x[:60], y[:60], rng=rng).scores(x[60:], y[60:])
    assert np.mean([(scores[i, i] > np.delete(scores[i], i)).mean() for i in range(60)]) > 0.8
