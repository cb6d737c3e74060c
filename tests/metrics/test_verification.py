"""Verification metrics against two official evaluations, by enumeration, and by their properties."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import roc_curve

from paper_utils.metrics import verification as ver

PAIR_CASES = ["pairs6000", "pairs6000_ties", "unbalanced20k", "perfect", "inverted"]
pair_lists = st.integers(4, 40).flatmap(
    lambda n: st.tuples(
        hnp.arrays(float, n, elements=st.sampled_from([0.0, 0.1, 0.2, 0.3, 0.5, 0.8, 1.0])),
        hnp.arrays(bool, n).filter(lambda same: same.any() and not same.all()),
    )
)


def simple_curve(seed: int = 0, n: int = 3000):
    rng = np.random.default_rng(seed)
    same = rng.random(n) < 0.4
    return ver.roc(rng.normal(size=n) + 1.5 * same, same)


# ------------------------------------------------------------------------------------------------ reference arrays


@pytest.mark.parametrize("case", PAIR_CASES)
def test_pair_metrics_match_the_official_evaluation(reference, case):
    stored = np.load(reference / "sphereface" / "metrics" / f"pairs_{case}.npz")
    curve = ver.roc(stored["scores"], stored["labels"])
    for name, expected in zip(stored["metric_names"], stored["metric_values"], strict=True):
        if name == "ACC":
            found = ver.best_threshold_accuracy(curve)
        elif name == "EER":
            found = ver.eer(curve)
        elif name == "AUC":
            found = ver.auc(curve)
        else:
            found = ver.tar_at_far(curve, float(name.split("=")[1]), method="opensphere")
        assert 100 * found == pytest.approx(expected, abs=1e-8), name


@pytest.mark.parametrize("case", ["easy", "hard"])
def test_tenfold_accuracy_and_mean_curve_match_insightface(reference, case):
    stored = np.load(reference / "sphereface" / "metrics" / f"tenfold_{case}.npz")
    distances = ver.squared_distances(stored["embeddings"][0::2], stored["embeddings"][1::2])
    found = ver.tenfold_accuracy(distances, stored["issame"])
    np.testing.assert_allclose(found.per_fold, stored["accuracy_per_fold"], atol=1e-12)
    assert found.mean == pytest.approx(float(stored["accuracy_mean"]), abs=1e-12)
    assert found.std == pytest.approx(float(stored["accuracy_std"]), abs=1e-12)
    fpr, tpr = ver.threshold_curve(distances, stored["issame"])
    np.testing.assert_allclose(fpr, stored["fpr_mean"], atol=1e-12)
    np.testing.assert_allclose(tpr, stored["tpr_mean"], atol=1e-12)


# ----------------------------------------------------------------------------------------------------- enumeration


@given(pair_lists)
@settings(max_examples=60)
def test_every_point_of_the_curve_is_the_count_at_its_threshold(pairs):
    scores, same = pairs
    curve = ver.roc(scores, same)
    for threshold, fpr, tpr in zip(curve.thresholds, curve.fpr, curve.tpr, strict=True):
        accepted = scores >= threshold
        assert fpr == pytest.approx(accepted[~same].mean())
        assert tpr == pytest.approx(accepted[same].mean())
    assert len(curve.thresholds) == len(np.unique(scores)) + 1


@given(pair_lists)
@settings(max_examples=60)
def test_area_is_the_share_of_ordered_pairs_with_ties_counted_half(pairs):
    scores, same = pairs
    difference = scores[same][:, None] - scores[~same][None]
    assert ver.auc(ver.roc(scores, same)) == pytest.approx(np.mean((difference > 0) + 0.5 * (difference == 0)))


@given(pair_lists)
@settings(max_examples=60)
def test_oracle_accuracy_is_the_best_over_all_thresholds(pairs):
    scores, same = pairs
    best = max(np.mean((scores >= t) == same) for t in [*scores, np.inf])
    assert ver.best_threshold_accuracy(ver.roc(scores, same)) == pytest.approx(best)


@given(pair_lists, st.sampled_from([0.1, 0.25, 0.5, 1.0]))
@settings(max_examples=60)
def test_exact_rate_is_the_best_real_threshold_within_the_budget(pairs, far):
    scores, same = pairs
    if far * (~same).sum() < 1:
        return
    allowed = [t for t in [*scores, np.inf] if (scores[~same] >= t).mean() <= far + 1e-12]
    expected = max((scores[same] >= t).mean() for t in allowed)
    assert ver.tar_at_far(ver.roc(scores, same), far) == pytest.approx(expected)


def test_the_three_definitions_by_hand():
    # 4 different pairs, 4 same pairs; corners (0, .25), (.25, .25), (.25, .75), (.75, .75), (.75, 1), (1, 1)
    curve = ver.roc([9, 8, 7, 6, 5, 4, 3, 2], [1, 0, 1, 1, 0, 0, 1, 0])
    assert [ver.tar_at_far(curve, 0.25, method=m) for m in ("exact", "opensphere", "insightface")] == [0.75] * 3
    assert ver.tar_at_far(curve, 0.7) == 0.75
    assert ver.tar_at_far(curve, 0.7, method="insightface") == 1.0  # nearest corner lies above the budget
    assert ver.tar_at_far(curve, 0.7, method="opensphere") == 0.75
    assert ver.tar_at_far(curve, 0.1, method="opensphere") == 0.25  # below one impostor: still a number
    slope = ver.roc([3, 2, 2, 1], [0, 1, 0, 1])  # corners (.5, 0), (1, .5)
    assert ver.tar_at_far(slope, 0.75, method="opensphere") == pytest.approx(0.25)
    assert ver.tar_at_far(slope, 0.75) == 0.0


def test_nearest_corner_skips_points_on_straight_pieces():
    # Points (0, .5), (.25, .5), (.5, .5), (.75, .5), (.75, 1), (1, 1): those at .25 and .5 are no corners.
    curve = ver.roc([9, 8, 7, 6, 5, 4], [1, 0, 0, 0, 1, 0])
    assert ver.tar_at_far(curve, 0.6, method="insightface") == 1.0
    assert ver.tar_at_far(curve, 0.6) == 0.5


@settings(max_examples=300)
@given(pair_lists, st.sampled_from([0.05, 0.1, 0.25, 0.5, 0.9]))
def test_nearest_corner_is_that_of_the_curve_that_scikit_learn_keeps(pairs, far):
    scores, same = pairs
    fpr, tpr, _ = roc_curve(same, scores)
    apart = np.abs(fpr - far)
    nearest = np.flatnonzero(apart == apart.min())
    expected = tpr[nearest[fpr[nearest] == fpr[nearest].max()]].max()
    assert ver.tar_at_far(ver.roc(scores, same), far, method="insightface") == pytest.approx(expected)


def test_a_distance_equal_to_the_threshold_is_not_below_it():
    distances, same = np.array([1.0, 2.0] * 10), np.array([True, False] * 10)
    found = ver.tenfold_accuracy(distances, same, thresholds=[1.0, 1.5])
    assert found.thresholds.tolist() == [1.5] * 10
    assert found.mean == 1.0
    assert ver.tenfold_accuracy(distances, same, thresholds=[1.0]).mean == 0.5


def test_hull_equal_error_rate_by_hand():
    # The hull of the curve above runs (0, .25), (.25, .75), (.75, 1): it meets 1 - x at (.25, .75).
    curve = ver.roc([9, 8, 7, 6, 5, 4, 3, 2], [1, 0, 1, 1, 0, 0, 1, 0])
    assert ver.convex_hull_eer(curve) == pytest.approx(0.25)
    # Two points (0, 0), (.5, .5), (1, 1) in bad order: the coin is the best randomised test.
    assert ver.convex_hull_eer(ver.roc([1, 2], [1, 0])) == pytest.approx(0.5)


def test_exact_thresholds_find_the_gap_that_the_grid_misses():
    distances = np.array([1.001, 1.006] * 10)
    same = np.array([True, False] * 10)
    assert ver.tenfold_accuracy(distances, same).mean == 0.5
    assert ver.tenfold_accuracy(distances, same, thresholds="exact").mean == 1.0
    assert ver.tenfold_accuracy(distances, same, thresholds=[1.003]).mean == 1.0


# ------------------------------------------------------------------------------------------------------ properties


@given(pair_lists)
@settings(max_examples=60)
def test_rates_depend_on_order_only_and_mirror_with_the_sign(pairs):
    scores, same = pairs
    curve, stretched = ver.roc(scores, same), ver.roc(np.exp(3 * scores) - 7, same)
    mirrored = ver.roc(-scores, same)
    assert ver.eer(curve) == pytest.approx(ver.eer(stretched))
    assert ver.auc(mirrored) == pytest.approx(1 - ver.auc(curve))
    assert ver.eer(mirrored) == pytest.approx(1 - ver.eer(curve))
    assert ver.convex_hull_eer(curve) <= min(ver.eer(curve), 0.5) + 1e-9


def test_equal_error_rate_is_where_both_errors_meet():
    curve = simple_curve()
    rate = ver.eer(curve)
    assert np.interp(rate, curve.fpr, curve.tpr) == pytest.approx(1 - rate, abs=1e-9)


def test_identical_scores_are_a_coin():
    curve = ver.roc(np.zeros(10), [1, 0] * 5)
    assert (ver.eer(curve), ver.auc(curve)) == (0.5, 0.5)


def test_too_fine_a_rate_is_refused_with_a_warning():
    curve = simple_curve(n=100)
    with pytest.warns(UserWarning, match="finer than one of"):
        assert np.isnan(ver.tar_at_far(curve, 1e-4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert 0 <= ver.tar_at_far(curve, 1 / curve.negatives) <= 1


def test_all_pairs_counts_and_values():
    embeddings = np.array([[2.0, 0.0], [0.0, 3.0], [1.0, 1.0]])
    scores, same = ver.all_pairs(embeddings, np.array([5, 6, 5]))
    np.testing.assert_allclose(scores, [0, np.sqrt(0.5), np.sqrt(0.5)])
    assert same.tolist() == [False, True, False]


def test_balanced_pairs_are_half_same_and_true():
    rng = np.random.default_rng(0)
    identities = np.repeat(np.arange(5), 4)
    embeddings = np.eye(5)[identities]
    scores, same = ver.balanced_pairs(embeddings, identities, rng=rng)
    assert same.mean() == 0.5
    assert len(same) == 60
    np.testing.assert_array_equal(scores == 1, same)
    with pytest.raises(ValueError, match="found 3 and 0"):
        ver.balanced_pairs(np.eye(3), np.zeros(3, dtype=int), rng=rng)


def test_fisher_score_by_hand_and_blind_to_lengths():
    # Two people at right angles, each 0.6 to both sides of its mean direction of length 0.8.
    embeddings = np.array([[0.8, 0.6, 0, 0], [0.8, -0.6, 0, 0], [0, 0, 0.8, 0.6], [0, 0, 0.8, -0.6]])
    identities = np.array([3, 3, 8, 8])
    expected = (4 * 0.36) / (4 * (0.4**2 + 0.4**2))
    assert ver.angular_fisher_score(embeddings, identities) == pytest.approx(expected)
    assert ver.angular_fisher_score(embeddings * [[1], [2], [3], [4]], identities) == pytest.approx(expected)


# ---------------------------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize(
    ("scores", "same", "message"),
    [
        ([], [], "there are no pairs"),
        ([0.1, 0.2], [1, 1], "all 2 pairs are of one kind"),
        ([0.1, 0.2], [0, 0], "all 2 pairs are of one kind"),
        ([0.1, np.nan], [0, 1], "1 of 2 are NaN"),
        ([0.1, 0.2, 0.3], [0, 1], "equal length"),
        ([0.1, 0.2], [0, 2], "only 0/1"),
    ],
)
def test_wrong_pair_lists_are_named(scores, same, message):
    for function in (ver.roc, ver.tenfold_accuracy):
        with pytest.raises(ValueError, match=message):
            function(np.array(scores, dtype=float), np.array(same))


def test_wrong_options_are_named():
    curve = simple_curve(n=50)
    with pytest.raises(ValueError, match="rate in"):
        ver.tar_at_far(curve, 0.0)
    with pytest.raises(ValueError, match="found 'spline'"):
        ver.tar_at_far(curve, 0.5, method="spline")
    with pytest.raises(ValueError, match="folds: expected 2 to 4"):
        ver.tenfold_accuracy(np.arange(4.0), np.array([0, 1, 0, 1]))
    with pytest.raises(ValueError, match="found 'fine'"):
        ver.tenfold_accuracy(np.arange(20.0), np.tile([0, 1], 10), thresholds="fine")
    with pytest.raises(ValueError, match="1 of 2 rows are zero"):
        ver.all_pairs(np.array([[0.0, 0.0], [1.0, 0.0]]), np.array([0, 1]))
    with pytest.raises(ValueError, match="n >= 2"):
        ver.all_pairs(np.ones((1, 2)), np.array([0]))


def test_hull_of_a_curve_that_rounding_leaves_below_the_corner_is_finite():
    curve = ver.Roc(np.array([np.inf, 2.0, 1.0]), np.array([0, 0.5, 1.0]), np.array([0, 0.5, 1 - 1e-16]), 9, 9)
    assert ver.convex_hull_eer(curve) == pytest.approx(0.5, abs=1e-12)
    inverted = ver.Roc(np.array([np.inf, 2.0, 1.0]), np.array([0, 1.0, 1.0]), np.array([0, 0, 1 - 1e-15]), 9, 9)
    assert ver.eer(inverted) == pytest.approx(1.0, abs=1e-12)


# ------------------------------------------------------------------------------------- sorted scores, without the curve


def both(scores, same):
    return ver.roc(scores, same), ver.sorted_scores(scores, same)


def scores_with_ties(seed: int, n: int, share: float, dtype=np.float64):
    rng = np.random.default_rng(seed)
    same = rng.random(n) < share
    return np.round(rng.normal(size=n) + 0.8 * same, 2).astype(dtype), same


@given(pair_lists, st.sampled_from([0.03, 0.1, 0.25, 0.5, 0.7, 1.0]))
@settings(max_examples=150)
def test_sorted_scores_give_the_numbers_of_the_full_curve(pairs, far):
    curve, lists = both(*pairs)
    assert ver.eer(lists) == ver.eer(curve)
    assert ver.auc(lists) == pytest.approx(ver.auc(curve), abs=1e-14)
    assert ver.best_threshold_accuracy(lists) == pytest.approx(ver.best_threshold_accuracy(curve), abs=1e-14)
    for method in ver.METHODS:
        np.testing.assert_equal(
            vars(ver.operating_point(lists, far, method=method)), vars(ver.operating_point(curve, far, method=method))
        )


@pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_lists_longer_than_a_block_give_the_same_numbers(share, dtype):
    scores, same = scores_with_ties(1, 100_000, share, dtype)
    untied = scores + np.random.default_rng(2).normal(scale=0.01, size=len(scores)).astype(dtype)
    for values in (scores, untied):
        curve, lists = both(values, same)
        assert lists.genuine.dtype == lists.impostor.dtype == dtype
        assert (lists.positives, lists.negatives) == (same.sum(), (~same).sum())
        assert ver.eer(lists) == ver.eer(curve)
        assert ver.auc(lists) == pytest.approx(ver.auc(curve), abs=1e-12)
        assert ver.best_threshold_accuracy(lists) == pytest.approx(ver.best_threshold_accuracy(curve), abs=1e-14)
        for far in (1e-4, 1e-2, 0.3):
            if far * lists.negatives >= 1:
                assert ver.tar_at_far(lists, far) == ver.tar_at_far(curve, far)


@pytest.mark.parametrize("case", PAIR_CASES)
def test_sorted_scores_match_the_official_evaluation(reference, case):
    stored = np.load(reference / "sphereface" / "metrics" / f"pairs_{case}.npz")
    expected = dict(zip(stored["metric_names"].tolist(), stored["metric_values"] / 100, strict=True))
    fars = [1e-6, 1e-5, 1e-4, 5e-4, 1e-3, 5e-3, 1e-2, 5e-2, 1e-1]
    report = ver.evaluate(stored["scores"], stored["labels"], fars=fars, method="opensphere")
    found = {"ACC": report.oracle_accuracy, "EER": report.eer, "AUC": report.auc}
    found |= {f"TPR@FPR={point.far:.0e}".replace("e-0", "e-"): point.tar for point in report.points}
    assert found == pytest.approx(expected, abs=1e-10)


@given(pair_lists)
@settings(max_examples=60)
def test_full_curve_is_scikit_learns(pairs):
    scores, same = pairs
    curve = ver.roc(scores, same)
    fpr, tpr, thresholds = roc_curve(same, scores, drop_intermediate=False)
    np.testing.assert_allclose(curve.fpr, fpr, atol=1e-15)
    np.testing.assert_allclose(curve.tpr, tpr, atol=1e-15)
    np.testing.assert_array_equal(curve.thresholds, thresholds)


@given(pair_lists)
@settings(max_examples=60)
def test_swapping_same_and_different_swaps_the_rates(pairs):
    scores, same = pairs
    lists, swapped = ver.sorted_scores(scores, same), ver.sorted_scores(scores, ~same)
    assert ver.auc(swapped) == pytest.approx(1 - ver.auc(lists), abs=1e-14)
    assert ver.eer(swapped) == pytest.approx(1 - ver.eer(lists), abs=1e-12)


@given(pair_lists, st.sampled_from([0.25, 0.5, 1.0]))
@settings(max_examples=60)
def test_the_threshold_of_a_point_reaches_its_rates(pairs, far):
    scores, same = pairs
    point = ver.operating_point(ver.sorted_scores(scores, same), far)
    if point.note:
        return
    accepted = scores >= point.threshold
    assert accepted[same].mean() == pytest.approx(point.tar)
    assert accepted[~same].mean() == pytest.approx(point.measured_far)
    assert point.measured_far <= far + 1e-12


@given(pair_lists)
@settings(max_examples=60)
def test_reports_depend_on_order_only(pairs):
    scores, same = pairs
    plain, stretched = (ver.evaluate(s, same, fars=[0.1, 0.5]) for s in (scores, np.exp(3 * scores) - 7))
    assert (plain.eer, plain.auc, plain.oracle_accuracy) == (stretched.eer, stretched.auc, stretched.oracle_accuracy)
    np.testing.assert_equal([p.tar for p in plain.points], [p.tar for p in stretched.points])


def test_notes_tell_which_rates_are_finer_than_the_data():
    scores, same = scores_with_ties(3, 400, 0.5)
    for method, words in (("exact", "no threshold"), ("opensphere", "interpolated"), ("insightface", "nearest corner")):
        report = ver.evaluate(scores, same, fars=[1e-5, 0.1], method=method)
        assert len(report.notes) == 1
        assert f"finer than one of {report.negatives} different pairs" in report.notes[0]
        assert words in report.notes[0]
        assert np.isnan(report.points[0].tar) == (method == "exact")


def test_scores_are_not_changed_by_sorting_them():
    scores, same = scores_with_ties(4, 1000, 0.3)
    kept = scores.copy()
    ver.evaluate(scores, same)
    np.testing.assert_array_equal(scores, kept)


def test_integer_and_half_precision_scores_are_accepted():
    for dtype in (np.int64, np.float16):
        assert ver.sorted_scores(np.array([3, 2, 1], dtype=dtype), [1, 0, 1]).genuine.dtype == np.float64


def test_noise_slope_of_a_line_is_its_slope():
    ratios = np.array([0.0, 0.3, 0.6])
    runs = np.stack([1 + 2 * ratios, 5 - ratios, [0.0, 1.0, 0.0]])
    np.testing.assert_allclose(ver.noise_slope(ratios, runs), [2, -1, 0], atol=1e-12)
    assert ver.noise_slope(ratios, runs[0]) == pytest.approx(2)
    with pytest.raises(ValueError, match="at least two different noise ratios"):
        ver.noise_slope(np.array([0.3, 0.3]), np.zeros(2))
    with pytest.raises(ValueError, match="one for each of 3 ratios"):
        ver.noise_slope(ratios, np.array([1.0, np.nan, 2.0]))


@pytest.mark.parametrize("labels", [[0.5, 1.0], ["a", "b"], [-1, 1], [np.nan, 1.0]])
def test_labels_that_are_not_flags_are_named(labels):
    with pytest.raises(ValueError, match="only 0/1"):
        ver.evaluate([0.1, 0.2], np.array(labels))
