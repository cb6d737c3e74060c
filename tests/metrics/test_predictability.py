"""Predictability: exact small cases, planted truth, level of the tests under the null, faults."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from paper_utils.metrics import predictability as pr


def test_normal_scores_hold_the_same_numbers_in_every_column():
    values = np.random.default_rng(0).gamma(1.0, size=(21, 3))
    scores = pr.normal_scores(values)
    np.testing.assert_allclose(np.sort(scores, axis=0), np.tile(np.sort(scores[:, :1], axis=0), 3))
    assert (np.argsort(values, axis=0) == np.argsort(scores, axis=0)).all()
    assert scores[np.argsort(values[:, 0])[10], 0] == pytest.approx(0.0)


def test_normal_scores_refuse_a_constant_measurement_and_missing_values():
    values = np.random.default_rng(0).normal(size=(9, 3))
    values[:, 1] = 4.0
    with pytest.raises(ValueError, match="column 1 is the same for all 9 subjects"):
        pr.normal_scores(values)
    values[2, 0] = np.nan
    with pytest.raises(ValueError, match="not finite for 1 of 9 subjects"):
        pr.normal_scores(values)


def test_residuals_know_nothing_of_the_covariates_and_keep_what_is_orthogonal():
    rng = np.random.default_rng(0)
    group = np.eye(3)[rng.integers(3, size=60)]  # a full set of indicators: dependent columns
    own = pr.residuals(rng.normal(size=(60, 2)), group)
    mixed = own + group @ rng.normal(size=(3, 2))
    np.testing.assert_allclose(pr.residuals(mixed, group), own, atol=1e-12)


def test_normalised_error_is_zero_for_the_truth_and_one_for_the_mean():
    truth = np.arange(6.0)[:, None]
    mean = np.full((6, 1), 2.5)
    assert pr.normalised_error(truth, truth, mean)[0] == 0
    assert pr.normalised_error(truth, mean, mean)[0] == 1
    assert pr.normalised_error(truth, mean + 0.5 * (truth - mean), mean)[0] == pytest.approx(0.25)
    with pytest.raises(ValueError, match="constant"):
        pr.normalised_error(mean, truth, mean)


def test_paired_test_is_that_of_scipy_on_the_differences():
    rng = np.random.default_rng(0)
    truth, noise = rng.normal(size=(2, 40, 3))
    p, effect = pr.paired_test(truth, 0.3 * truth + 0.2 * noise, np.zeros_like(truth))
    gain = truth**2 - (truth - 0.3 * truth - 0.2 * noise) ** 2
    for column in range(3):
        other = stats.wilcoxon(gain[:, column], alternative="greater").pvalue
        assert (p[column] < 0.01) == (other < 0.01)
        assert effect[column] * np.sqrt(40) == pytest.approx(stats.t.isf(p[column], 39))


def test_the_release_bound_uses_its_table_of_t_values():
    table = [6.314, 2.92, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812]
    rho = np.random.default_rng(0).normal(1, 0.1, size=10)
    bound = pr.error_bound(rho, ddof=0, correction="none")
    assert bound == pytest.approx(rho.mean() + table[8] * rho.std() / np.sqrt(10), abs=1e-4)


def test_the_corrected_bound_is_wider_and_the_selected_one_smaller():
    rho = np.random.default_rng(1).normal(1, 0.1, size=(10, 4))
    released = pr.error_bound(rho, ddof=0, correction="none")
    corrected = pr.error_bound(rho, test_share=0.1 / 0.7)
    best = np.sort(rho, axis=0)[:5]
    half = pr.error_bound(rho, ddof=0, correction="none", keep=0.5)
    assert (corrected > released).all()
    spread = rho.std(0, ddof=1) * np.sqrt(1 / 10 + 1 / 7)
    np.testing.assert_allclose(corrected, rho.mean(0) + stats.t.ppf(0.95, 9) * spread)
    np.testing.assert_allclose(half, best.mean(0) + stats.t.ppf(0.95, 4) * best.std(0) / np.sqrt(5))
    with pytest.raises(ValueError, match="at least 2 repetitions, found 1 of 2"):
        pr.error_bound(rho[:2], keep=0.5)
    with pytest.raises(ValueError, match="correction: expected one of none, nadeau-bengio"):
        pr.error_bound(rho, correction="bonferroni")


def test_permutation_p_counts_null_errors_that_are_as_small():
    null = np.array([[0.9, 1.0, 1.1, 1.2], [1.0, 1.0, 1.0, 1.0]])
    errors = np.array([[0.8, 1.0, 2.0], [0.99, 1.0, 1.01]])
    expected = np.array([[1, 3, 5], [1, 5, 5]]) / 5
    np.testing.assert_allclose(pr.permutation_p(errors, null), expected)


def test_permutation_p_is_uniform_under_the_null():
    rng = np.random.default_rng(0)
    errors, null = rng.normal(size=(40, 50)), rng.normal(size=(40, 199))
    p = pr.permutation_p(errors, null)
    assert abs((p <= 0.05).mean() - 0.05) < 0.015
    assert p.min() >= 1 / 200


@given(st.lists(st.floats(0, 1), min_size=4, max_size=30))
def test_discoveries_are_the_step_up_rule_of_benjamini_and_hochberg(p_values):
    p = np.array(p_values)
    ordered = np.sort(p)
    passed = np.flatnonzero(ordered <= 0.05 * np.arange(1, len(p) + 1) / len(p))
    limit = ordered[passed[-1]] if len(passed) else -1.0
    np.testing.assert_array_equal(pr.discoveries(p), p <= limit)


def test_discoveries_of_a_matrix_are_one_family():
    p = np.full((2, 10), 0.5)
    p[0, 0] = 0.004
    assert not pr.discoveries(p).any()
    assert pr.discoveries(p[:1, :10]).sum() == 1  # 0.004 < 0.05 / 10
    assert pr.discoveries(p, method="none").sum() == 1
    assert not pr.discoveries(p, method="fdr_by").any()


def test_sign_flips_of_few_values_agree_with_enumeration():
    values = np.array([0.3, 0.1, 0.4, -0.05, 0.2])
    signs = np.array(np.meshgrid(*[[-1, 1]] * 5)).reshape(5, -1).T
    exact = (signs @ values >= values.sum() - 1e-9).mean()
    assert pr.sign_flip_p(values, rng=np.random.default_rng(0), flips=20000) == pytest.approx(exact, abs=0.01)
    with pytest.raises(ValueError, match="at least 2 finite"):
        pr.sign_flip_p(np.array([1.0]), rng=np.random.default_rng(0))


def losses(rng, subjects, share):
    """Losses whose normalised error is 1 - share for each phoneme, in expectation."""
    base = rng.chisquare(1, size=(subjects, len(share), 5))
    return base * (1 - np.array(share)[:, None]) * rng.uniform(0.8, 1.2, size=base.shape), base


def test_the_contrast_of_classes_finds_what_is_planted_and_covers_zero_without():
    rng = np.random.default_rng(0)
    vowels, plosives = np.array([1, 1, 0, 0], bool), np.array([0, 0, 1, 1], bool)
    found, each = pr.bootstrap_contrast(*losses(rng, 200, [0.3, 0.3, 0.1, 0.1]), vowels, plosives, rng=rng)
    assert found.low < 0.2 < found.high
    assert found.low > 0.1
    assert each.shape == (5,)
    assert each.mean() == pytest.approx(found.value)
    none, _ = pr.bootstrap_contrast(*losses(rng, 200, [0.1] * 4), vowels, plosives, rng=rng)
    assert none.low < 0 < none.high
    with pytest.raises(ValueError, match="phonemes in both classes"):
        pr.bootstrap_contrast(*losses(rng, 9, [0.1] * 4), vowels, np.zeros(4, bool), rng=rng)


def test_required_subjects_and_power_are_inverse():
    shares = np.array([0.01, 0.02, 0.05])
    subjects = pr.required_subjects(shares)
    np.testing.assert_allclose(pr.detection_power(shares, subjects), 0.8)
    assert (np.diff(subjects) < 0).all()
    with pytest.raises(ValueError, match="shares of variance"):
        pr.required_subjects(0.0)


def test_power_agrees_with_simulation():
    rng, share, subjects = np.random.default_rng(0), 0.06, 150
    x = rng.normal(size=(3000, subjects))
    y = np.sqrt(share) * x + np.sqrt(1 - share) * rng.normal(size=x.shape)
    correlation = (stats.zscore(x, axis=1) * stats.zscore(y, axis=1)).mean(1)
    p = stats.norm.sf(np.arctanh(correlation) * np.sqrt(subjects - 3))
    # The formula takes the correlation for its own Fisher transform: good to a few points where shares are small.
    assert (p < 0.005).mean() == pytest.approx(float(pr.detection_power(share, subjects)), abs=0.05)


def test_two_way_centring_leaves_no_means():
    centred = pr.two_way_centred(np.random.default_rng(0).normal(size=(5, 7)))
    np.testing.assert_allclose(centred.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(centred.mean(1), 0, atol=1e-12)


def test_permuted_correlations_are_those_of_permuted_matrices():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 6, 8))
    for axis, labels in ((0, 6), (1, 8)):
        orders = np.stack([rng.permutation(labels) for _ in range(3)])
        expected = [stats.spearmanr(a.ravel(), np.take(b, order, axis=axis).ravel()).statistic for order in orders]
        np.testing.assert_allclose(pr._permuted(a, b, orders, axis), expected)


def test_means_alone_make_the_naive_association_and_not_the_centred_one():
    rng = np.random.default_rng(0)
    moving = np.linspace(0, 3, 20)  # measurements that move are predictable, whatever the phoneme
    movement = moving + 0.1 * rng.normal(size=(15, 20))
    explained = 0.1 * moving + 0.05 * rng.normal(size=(15, 20))
    found = pr.association(movement, explained, rng=rng, permutations=999)
    assert found["pairs"].p_value < 1e-6
    assert found["measurements"].p_value < 0.01
    assert found["two-way"].p_value > 0.05


def test_a_planted_cell_by_cell_association_is_found():
    rng = np.random.default_rng(1)
    movement = rng.gamma(1.0, size=(15, 20))
    found = pr.association(movement, 0.1 * movement + 0.05 * rng.normal(size=(15, 20)), rng=rng, permutations=999)
    assert found["two-way"].correlation > 0.5
    assert found["two-way"].p_value == pytest.approx(0.001)


def test_association_refuses_what_it_cannot_correlate():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="3 x 3 or larger"):
        pr.association(np.ones((2, 5)), np.ones((2, 5)), rng=rng)
    with pytest.raises(ValueError, match="constant"):
        pr.association(np.ones((4, 5)), rng.normal(size=(4, 5)), rng=rng)
