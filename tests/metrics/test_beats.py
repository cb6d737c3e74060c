"""Beats of motion: equal to the released score, which rewards jitter, and right on arms moved by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d

from paper_utils.metrics import beats as metric
from paper_utils.metrics.motion import BODY_JOINTS
from paper_utils.world import skeleton


def test_official_beat_consistency_equals_the_released_function(reference):
    with np.load(reference / "talkshow_metrics" / "metrics.npz") as arrays:
        recorded = dict(arrays)
    clips = list(recorded["pred_joints"])
    kept = [clip.copy() for clip in clips]
    onsets = [recorded["onsets_0"], recorded["onsets_1"]]
    for _ in range(2):  # the released function gives another value the second time
        found = metric.beat_consistency(clips, onsets, convention="official")
        assert found.score == pytest.approx(float(recorded["BC"]), rel=1e-5)
        np.testing.assert_allclose(found.by_clip, [recorded["BC_clip0"], recorded["BC_clip1"]], rtol=1e-5)
    for clip, before in zip(clips, kept, strict=True):
        np.testing.assert_array_equal(clip, before)
    change = metric.mean_angle_change(metric.arm_angles(recorded["gt_joints"], unit_bones=False))
    np.testing.assert_allclose(change, recorded["MAAC"], rtol=1e-4)


def posed_arms(shoulder, elbow):
    """Joints 0 to 21 of somebody whose left arm bends by two angles a frame, bones of 0.3 m in a plane; the right arm rests."""
    frames = len(shoulder)
    joints = np.zeros((frames, 22, 3))
    arms = ((13, 16, 18, 20), (shoulder, elbow)), ((14, 17, 19, 21), (0.3, 0.3))
    for side, ((collar, *others), bends) in enumerate(arms):
        joints[:, collar] = place = np.array([0.0, 0.0, side])
        angle = np.zeros(frames)
        for joint, bend in zip(others, (0.0, *bends), strict=True):
            angle = angle + bend
            place = place + 0.3 * np.stack([np.cos(angle), np.sin(angle), np.zeros(frames)], axis=1)
            joints[:, joint] = place
    return joints


def test_unit_bones_give_true_angles_and_metres_do_not():
    shoulder, elbow = np.array([0.5, 1.0, 2.0]), np.array([0.2, 0.4, 0.9])
    joints = posed_arms(shoulder, elbow)
    angles = metric.arm_angles(joints)
    np.testing.assert_allclose(angles[:, 0] * np.pi, shoulder, atol=1e-7)
    np.testing.assert_allclose(angles[:, 2] * np.pi, elbow, atol=1e-7)
    np.testing.assert_allclose(metric.arm_angles(2 * joints), angles, atol=1e-7)
    product = 0.3**2 * np.cos(shoulder)
    np.testing.assert_allclose(metric.arm_angles(joints, unit_bones=False)[:, 0], np.arccos(product) / np.pi)


def test_a_beat_is_where_the_elbow_turns_round():
    time = np.arange(120) / 30
    elbow = 1.0 + 0.5 * np.cos(2 * np.pi * time + 0.1)  # turns round every half second
    beats = metric.motion_beats(metric.arm_angles(posed_arms(np.full(120, 0.4), elbow)))
    turns = (np.arange(1, 8) * np.pi - 0.1) / (2 * np.pi)
    assert len(beats[2]) == len(turns)
    assert np.abs(beats[2] - turns).max() <= 1 / 30
    assert not len(beats[1])
    assert not len(beats[3])


def test_beats_follow_the_frame_rate():
    angles = metric.arm_angles(posed_arms(np.full(60, 0.4), 1 + 0.5 * np.cos(np.arange(60) / 4)))
    np.testing.assert_allclose(metric.motion_beats(angles, fps=15.0)[2], 2 * metric.motion_beats(angles)[2])


def arms(rng, frames=300):
    """Both arms of a skeleton wave smoothly and at random, as in the check that the paper's specification describes."""
    pose = torch.zeros(frames, 55, 3, dtype=torch.float64)
    for name in ("left_shoulder", "right_shoulder", "left_elbow", "right_elbow"):
        bend = gaussian_filter1d(rng.standard_normal((frames, 3)), 6, axis=0)
        pose[:, skeleton.point(name)] = torch.from_numpy(0.4 * bend / bend.std())
    return skeleton.positions(pose).numpy()[:, BODY_JOINTS]


@pytest.fixture(scope="module")
def laboratory():
    """Scores of synchronous motion, of motion with 25 random onsets in 10 s, and of the latter with white jitter of 1, 2, 5 mm; both conventions."""
    rng = np.random.default_rng(0)
    clips = [arms(rng) for _ in range(10)]
    synchronous = [metric.motion_beats(metric.arm_angles(clip, unit_bones=False))[2] for clip in clips]
    random = [np.sort(rng.uniform(0, 10, 25)) for _ in clips]
    trials = {"synchronous": (clips, synchronous), "random": (clips, random)}
    for mm in (1, 2, 5):
        trials[f"{mm} mm"] = ([clip + mm / 1000 * rng.standard_normal(clip.shape) for clip in clips], random)
    return {
        convention: {
            name: metric.beat_consistency(*trial, convention=convention).score for name, trial in trials.items()
        }
        for convention in metric.CONVENTIONS
    }


def test_official_beat_consistency_rewards_jitter_above_synchrony(laboratory):
    scores = laboratory["official"]
    for jitter in ("1 mm", "2 mm", "5 mm"):
        assert scores[jitter] > scores["synchronous"] + 0.1
        assert scores[jitter] > scores["random"] + 0.2


def test_corrected_beat_consistency_does_not(laboratory):
    scores = laboratory["corrected"]
    assert scores["synchronous"] > scores["random"] + 0.1
    for jitter in ("1 mm", "2 mm", "5 mm"):
        assert abs(scores[jitter] - scores["random"]) < 0.03
        assert scores[jitter] < scores["synchronous"] - 0.1


def test_angles_without_a_beat_are_left_out_officially_and_count_nothing_when_corrected():
    elbow = 1.0 + 0.5 * np.cos(2 * np.pi * np.arange(120) / 30 + 0.1)
    joints = posed_arms(np.full(120, 0.4), elbow)  # beats in one angle of four
    onsets = metric.motion_beats(metric.arm_angles(joints))[2]
    official = metric.beat_consistency([joints], [onsets], convention="official")
    corrected = metric.beat_consistency([joints], [onsets])
    assert official.score == pytest.approx(1.0, abs=0.06)
    assert corrected.precision == pytest.approx(1.0, abs=0.06)
    assert corrected.recall == pytest.approx(0.25, abs=0.02)
    assert corrected.score == pytest.approx(
        2 * corrected.precision * corrected.recall / (corrected.precision + corrected.recall)
    )


def test_frozen_motion_and_silence_have_no_official_score():
    still, onsets = posed_arms(np.full(60, 0.4), np.full(60, 0.4)), np.array([0.5, 1.0])
    assert np.isnan(metric.beat_consistency([still], [onsets], convention="official").score)
    assert metric.beat_consistency([still], [onsets]).score == 0
    silent = metric.beat_consistency([still, still], [np.array([]), onsets])
    assert np.isnan(silent.by_clip[0])
    assert silent.onsets.tolist() == [0, 2]
    assert np.isnan(metric.beat_consistency([still], [np.array([])]).score)


def test_draws_are_all_scored_when_corrected_and_only_the_first_officially():
    rng = np.random.default_rng(1)
    draws, onsets = np.stack([arms(rng, 120), arms(rng, 120)]), np.array([0.7, 1.9, 3.1])
    first, both = (metric.beat_consistency([some], [onsets]) for some in (draws[:1], draws))
    assert (both.beats > first.beats).any()
    official = [metric.beat_consistency([some], [onsets], convention="official").score for some in (draws[0], draws)]
    assert official[0] == official[1]


STILL = np.zeros((20, 22, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metric.arm_angles(STILL[:, :5]), "wrists in rows 20 and 21, found 5 rows"),
        (lambda: metric.beat_consistency([STILL], [], fps=30.0), "1 clips, 0 onsets"),
        (lambda: metric.beat_consistency([STILL], [np.array([np.nan])]), "onsets_s of clip 0"),
        (lambda: metric.beat_consistency([STILL], [np.array([0.1])], fps=0.0), "fps: expected a positive"),
        (
            lambda: metric.beat_consistency([STILL[:, :5]], [np.array([0.1])], convention="mended"),
            "expected one of corrected, official, found 'mended'",
        ),
        (lambda: metric.motion_beats(np.zeros((9, 4)), change=np.zeros(4)), "is the motion that they come from frozen"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
