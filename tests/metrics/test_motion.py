"""Measures of motion: equal to the released functions, right on motion made by hand, and open about what they reward by mistake."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter1d

from paper_utils.metrics import motion
from paper_utils.metrics.frechet import frechet_distance
from paper_utils.nn.motion_autoencoder import MotionAutoencoder, MotionCodec
from paper_utils.nn.motion_classifier import ClassifierTraining


@pytest.fixture(scope="module")
def recorded(request):
    folder = request.config.rootpath / "tests" / "reference" / "talkshow_metrics"
    with np.load(folder / "metrics.npz") as arrays:
        return {name: arrays[name] for name in arrays}


def walk(seed, time=20, joints=5):
    return np.random.default_rng(seed).standard_normal((time, joints, 3)).cumsum(0) * 0.01


# ------------------------------------------------------------------------------------------------------------- parity


def test_distances_and_diversity_equal_the_released_functions(recorded):
    real, generated = recorded["gt_joints"], recorded["pred_joints"]
    body = motion.BODY_JOINTS
    longer = np.concatenate([real, real[-7:] + 1])
    found = {
        "L2_error_all": motion.joint_error(real, generated),
        "LVD_batch_first22": motion.velocity_difference(real[:, body], generated[:, :, body]),
        "LVD_single_first22": motion.velocity_difference(real[:, body], generated[0, :, body]),
        "LVD_longer_gt": motion.velocity_difference(longer[:, body], generated[:, :, body]),
        "variation_all": motion.variation(generated),
        "diversity_pairs_l1": motion.pairwise_diversity(generated),
        "baseline_last_step": motion.velocity_baselines(real)["first step"],
        "baseline_mean": motion.velocity_baselines(real)["mean"],
    }
    for name, value in found.items():
        assert value == pytest.approx(float(recorded[name]), rel=1e-5), name


def test_frechet_distances_equal_the_released_function_also_without_full_rank(recorded):
    one, two = recorded["fd_A"], recorded["fd_B"]
    assert motion.gesture_distance(one, two).value == pytest.approx(float(recorded["fd_AB"]), rel=1e-5)
    assert frechet_distance(one, one) == pytest.approx(float(recorded["fd_AA"]), abs=1e-9)
    seven = [np.column_stack([rows, rows[:, 0]]) for rows in (one, two)]
    assert motion.gesture_distance(*seven).value == pytest.approx(float(recorded["fd_rank_deficient"]), rel=1e-5)


# ------------------------------------------------------------------------------------------- distances and diversity


@given(seed=st.integers(0, 500))
def test_distances_vanish_for_equal_motion_and_ignore_what_they_should(seed):
    real, other = walk(seed), walk(seed + 1000)
    assert motion.joint_error(real, real) == 0
    assert motion.velocity_difference(real, real) == 0
    # Speeds do not know where the body stands or which way it moves.
    assert motion.velocity_difference(real, other + 3.0) == pytest.approx(motion.velocity_difference(real, other))
    assert motion.velocity_difference(real, -other) == pytest.approx(motion.velocity_difference(real, other))
    assert motion.joint_error(real, real + np.array([3.0, 4.0, 0.0])) == pytest.approx(5 * real.shape[1])


def test_velocity_difference_by_hand():
    # Two joints; the first moves 3 mm a frame against 1 mm, the second stands still in both.
    real, generated = np.zeros((4, 2, 3)), np.zeros((1, 4, 2, 3))
    real[:, 0, 0], generated[0, :, 0, 1] = 0.001 * np.arange(4), 0.003 * np.arange(4)
    assert motion.velocity_difference(real, generated) == pytest.approx(0.002)


def test_of_jaw_and_landmarks_each_error_sees_its_own_rows():
    real = np.zeros((3, 127, 3))
    jaw, lips = real.copy(), real.copy()
    jaw[:, 22, 0], lips[:, 100, 0] = 0.5, 0.25
    assert motion.face_joint_errors(real, jaw) == {"jaw and eyes": 0.5, "landmarks": 0.0}
    assert motion.face_joint_errors(real, lips) == {"jaw and eyes": 0.0, "landmarks": 0.25}


def test_variation_of_two_draws_is_half_the_squared_difference():
    first = walk(0)
    second = first + np.array([0.2, 0.0, 0.0])
    assert motion.variation(np.stack([first, second])) == pytest.approx(0.2**2 / 2 * first.shape[1])
    assert motion.variation(np.stack([first, first])) == 0


@given(count=st.integers(2, 7), seed=st.integers(0, 100))
def test_pairwise_diversity_is_the_mean_over_all_pairs(count, seed):
    draws = np.random.default_rng(seed).standard_normal((count, 4, 3))
    pairs = [np.abs(draws[a] - draws[b]).mean() for a in range(count) for b in range(a)]
    assert motion.pairwise_diversity(draws) == pytest.approx(np.mean(pairs))


def test_reconstruction_error_sums_channels_and_averages_frames():
    clip = np.zeros((2, 4, 129))
    assert motion.reconstruction_error(clip, clip + 0.5) == pytest.approx(129 * 0.5)


# ---------------------------------------------------------------------------------------------------- Fréchet distances


def test_features_of_clips_are_stacked_and_do_not_depend_on_the_batch():
    torch.manual_seed(0)
    network = MotionAutoencoder(MotionCodec(channels=6, width=8, features=3)).eval()
    draws = torch.randn(2, 3, 21, 6)
    rows = motion.motion_features(network, draws)
    assert rows.shape == (2 * 3 * 5, 3)
    np.testing.assert_allclose(rows, motion.motion_features(network, draws, batch=1), atol=1e-6)
    np.testing.assert_allclose(rows[5:10], network(draws[0, 1][None])[0][0].detach().numpy(), atol=1e-6)
    with pytest.raises(ValueError, match=r"network\.eval\(\)"):
        motion.motion_features(network.train(), draws)


def test_whitened_features_have_no_unit_and_the_floor_is_far_below_a_real_difference():
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((5, 5)) * np.array([1e-2, 0.1, 1, 10, 100])
    train, real, shifted = (rng.standard_normal((2000, 5)) @ mixing for _ in range(3))
    shifted = shifted + mixing[0]  # one standard deviation along one direction
    white = motion.Whitening.of(train)
    np.testing.assert_allclose(np.cov(white(train), rowvar=False), np.eye(5), atol=1e-6)
    found = motion.gesture_distance(white(real), white(shifted))
    assert found.value == pytest.approx(1.0, abs=0.15)
    assert found.floor < 0.02
    scaled = motion.Whitening.of(1000 * train)
    assert motion.gesture_distance(scaled(1000 * real), scaled(1000 * shifted)).value == pytest.approx(found.value)


def test_whitening_leaves_out_what_never_varies_and_refuses_to_keep_it():
    features = np.random.default_rng(0).standard_normal((50, 3)) * np.array([1.0, 0.0, 2.0])
    assert motion.Whitening.of(features).matrix.shape == (3, 2)
    assert motion.Whitening.of(features, keep=1).matrix.shape == (3, 1)
    with pytest.raises(ValueError, match="expected 1 to 2"):
        motion.Whitening.of(features, keep=3)
    with pytest.raises(ValueError, match="more rows"):
        motion.Whitening.of(features[:3])


def test_windows_keep_frames_and_channels_together():
    clips = np.arange(2 * 5 * 2, dtype=float).reshape(2, 5, 2)
    rows = motion.windows(clips, frames=2, step=2)
    np.testing.assert_array_equal(rows, [clips[c, t : t + 2].ravel() for c in (0, 1) for t in (0, 2)])


# --------------------------------------------------------------------------------------------------------------- realism


def test_realism_orders_real_like_and_unlike_motion():
    rng = np.random.default_rng(0)

    def clips(width):
        raw = gaussian_filter1d(rng.standard_normal((240, 40, 6)), width, axis=1)
        return raw / raw.std()

    real, alike, smooth = clips(3), clips(3), clips(8)
    quick = ClassifierTraining(width=16, steps=120)
    found = motion.realism_scores(real, {"alike": alike, "too smooth": smooth}, config=quick)
    means = {name: rows.mean() for name, rows in found.items()}
    assert list(found) == ["real", "real + noise", "alike", "too smooth"]
    assert all(len(rows) == 120 and rows.min() >= 0 and rows.max() <= 1 for rows in found.values())
    assert means["too smooth"] < 0.3
    assert means["real"] > means["too smooth"] + 0.2
    assert abs(means["alike"] - means["real"]) < 0.2
    again = motion.realism_scores(real, {"alike": alike, "too smooth": smooth}, config=quick)
    np.testing.assert_array_equal(again["alike"], found["alike"])


# ---------------------------------------------------------------------------------------------------------------- faults


GAP = walk(0)
GAP[3, 1, 2] = np.nan


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: motion.joint_error(walk(0), walk(1, time=19)), r"expected \(20, 5, 3\).*\(19, 5, 3\); cut the longer"),
        (lambda: motion.joint_error(GAP, walk(1)), "real: 1 of 300 numbers are NaN"),
        (lambda: motion.velocity_difference(walk(0), GAP), "generated: 1 of 300 numbers are NaN"),
        (lambda: motion.velocity_difference(walk(0), walk(1, time=1)), "at least 2 frames"),
        (lambda: motion.velocity_difference(walk(0), walk(1, joints=4)), "expected 5 joints, found 4"),
        (lambda: motion.face_joint_errors(walk(0), walk(1)), "127 in all"),
        (lambda: motion.variation(walk(0)[None]), "at least 2 draws"),
        (lambda: motion.pairwise_diversity(walk(0)[None]), "at least 2 draws"),
        (lambda: motion.reconstruction_error(walk(0), walk(0)[:-1]), "cut them from the motion"),
        (lambda: motion.windows(np.zeros((2, 5, 3)), frames=8), "at least 8 frames"),
        (lambda: motion.gesture_distance(np.zeros((3, 2)), np.zeros((9, 2))), "at least 4 rows"),
        (lambda: motion.realism_scores(np.zeros((6, 9, 2)), {"real": np.zeros((6, 9, 2))}), "not named as an anchor"),
        (lambda: motion.realism_scores(np.zeros((6, 9, 2)), {"a": np.zeros((5, 9, 2))}), r"a: expected .*\(6, 9, 2\)"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
