r"""Do arms come to rest when syllables begin? Beats of motion, and how they go together with onsets of sound (TalkSHOW's beat consistency).

Joints are as in `metrics.motion`. The released score is kept beside a corrected one, because jitter wins the released one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.ndimage import gaussian_filter1d

from paper_utils.metrics.motion import as_draws, checked_joints

FPS = 30.0
# Rows of the joint array, left and right.
COLLARS, SHOULDERS, ELBOWS, WRISTS = [13, 14], [16, 17], [18, 19], [20, 21]

# Mean absolute change a frame of the four arm quantities on the SHOW data, in the order of `arm_angles` (released code).
OFFICIAL_CHANGE = np.array([6.0181e-5, 5.1597e-5, 2.1344e-4, 2.1899e-4])
CHANGE_FACTOR = 4.0  # released code
LEAST_DIP = 0.01  # of the scaled speed (released code)
BEAT_SIGMA_S = 0.1  # released code
SMOOTHING_FRAMES = 2.0  # standard deviation of the low-pass of the corrected beat consistency; choice of ours
CONVENTIONS = ("corrected", "official")


def arm_angles(joints: Float[np.ndarray, "time joints 3"], *, unit_bones: bool = True) -> Float[np.ndarray, "time 4"]:
    r"""Bend of left and right shoulder, then of left and right elbow, in units of :math:`\pi`.

    With collar C, shoulder S, elbow E, wrist W,

    .. math:: \alpha = \tfrac1\pi \arccos\big((E - S)\cdot(S - C)\big), \quad \tfrac1\pi \arccos\big((W - E)\cdot(E - S)\big)

    Parameters
    ----------
    joints
        Metres; rows 13 to 21 are collars to wrists.
    unit_bones
        Bring bones to length one first, which makes these angles. False is the released code: products of vectors in metres, about 0.05,
        whose arc cosine is called an angle.
    """
    if joints.shape[1] <= max(WRISTS):
        raise ValueError(
            f"joints: expected SMPL-X's order with the wrists in rows 20 and 21, found {joints.shape[1]} rows"
        )
    collar, shoulder, elbow, wrist = (
        checked_joints("joints", joints)[:, rows] for rows in (COLLARS, SHOULDERS, ELBOWS, WRISTS)
    )
    inner, upper, lower = shoulder - collar, elbow - shoulder, wrist - elbow
    if unit_bones:
        inner, upper, lower = (
            bone / np.maximum(np.linalg.norm(bone, axis=-1, keepdims=True), 1e-9) for bone in (inner, upper, lower)
        )
    products = np.concatenate([(upper * inner).sum(-1), (lower * upper).sum(-1)], axis=1)
    return np.arccos(products.clip(-1, 1)) / np.pi


def mean_angle_change(angles: Float[np.ndarray, "time 4"]) -> Float[np.ndarray, " 4"]:
    """Mean absolute change a frame of each of `arm_angles`: the unit in which `motion_beats` measures speed."""
    if len(angles) < 2:
        raise ValueError(f"angles: a change needs at least 2 frames, found {len(angles)}")
    return np.abs(np.diff(angles, axis=0)).mean(0)


def motion_beats(
    angles: Float[np.ndarray, "time 4"],
    *,
    fps: float = FPS,
    change: Float[np.ndarray, " 4"] = OFFICIAL_CHANGE,
) -> list[Float[np.ndarray, " beats"]]:
    r"""Times in seconds at which an arm comes to rest, for each of the four angles: local minima of the angle's speed.

    .. math:: v_t = \frac{|\alpha_t - \alpha_{t-1}|}{4 k}, \quad v_0 = 0; \qquad
        v_t < v_{t-1},\ v_t < v_{t+1},\ \max(v_{t-1}, v_{t+1}) - v_t \ge 0.01

    Parameters
    ----------
    angles
        From `arm_angles`.
    fps
        Frames a second.
    change
        :math:`k`: mean change on the data (`mean_angle_change`); the default is TalkSHOW's, of angles without `unit_bones`.
    """
    if not fps > 0:
        raise ValueError(f"fps: expected a positive number of frames a second, found {fps}")
    if not (np.isfinite(change).all() and (np.asarray(change) > 0).all()):
        raise ValueError(
            f"change: expected four positive numbers, found {change}; is the motion that they come from frozen?"
        )
    speed = np.abs(np.diff(angles, axis=0, prepend=angles[:1])) / (CHANGE_FACTOR * np.asarray(change))
    before, here, after = speed[:-2], speed[1:-1], speed[2:]
    dips = (here < before) & (here < after) & ((before - here >= LEAST_DIP) | (after - here >= LEAST_DIP))
    return [(1 + np.flatnonzero(column)) / fps for column in dips.T]


@dataclass(frozen=True)
class BeatConsistency:
    """How motion beats and sound onsets go together.

    Parameters
    ----------
    score
        Over all clips (and draws), 0 to 1; NaN if there is nothing to score.
    by_clip
        The same for each clip alone, for intervals over clips.
    recall, precision
        Corrected convention: share of onsets near a beat, share of beats near an onset, over all clips. NaN in the official one.
    beats
        Motion beats found in each clip's four angles, summed over scored draws.
    onsets
        Onsets of each clip. Clips without any have NaN in `by_clip` and do not enter the score.
    """

    score: float
    by_clip: Float[np.ndarray, " clips"]
    recall: float
    precision: float
    beats: Int[np.ndarray, "clips 4"]
    onsets: Int[np.ndarray, " clips"]


def beat_consistency(
    clips: Sequence[np.ndarray],
    onsets_s: Sequence[np.ndarray],
    *,
    fps: float = FPS,
    convention: str = "corrected",
    change: Float[np.ndarray, " 4"] = OFFICIAL_CHANGE,
) -> BeatConsistency:
    r"""Do arms come to rest when syllables begin? With the kernel :math:`k(d) = \exp(-d^2 / (2 \cdot 0.1^2))` of a distance in seconds.

    ``"official"``: mean of :math:`k` over onsets, each with its nearest motion beat, over all angles that have a beat at all; of the first
    draw alone. Jitter makes beats everywhere, so jittery motion scores higher than synchronous motion: the released defect.

    ``"corrected"`` (ours): joints are low-passed (Gaussian, sigma 2 frames), bones have length one, all draws count, and the score is two-sided,

    .. math:: F = \frac{2PR}{P + R}

    with R the mean of :math:`k` over onsets and angles (0 for an angle without beats) and P the mean over motion beats, each with its nearest
    onset. A beat too many now costs as much as an onset missed. An arm that does nothing but tremble still has beats, and scores like one
    that moves at random.

    Parameters
    ----------
    clips
        For each clip (time, joints, 3), or (draws, time, joints, 3), in metres.
    onsets_s
        For each clip the times of sound onsets in seconds, such as librosa's onset detection at 16 kHz.
    fps
        Frames a second.
    convention
        ``"corrected"`` or ``"official"``.
    change
        See `motion_beats`.

    Raises
    ------
    ValueError
        If numbers of clips differ, a convention is unknown, or joints or onsets are not finite.
    """
    if convention not in CONVENTIONS:
        raise ValueError(f"convention: expected one of {', '.join(CONVENTIONS)}, found {convention!r}")
    if len(clips) != len(onsets_s) or not len(clips):
        raise ValueError(
            f"expected one array of onsets for each clip and at least one clip, found {len(clips)} clips, {len(onsets_s)} onsets"
        )
    official = convention == "official"
    near = np.zeros((len(clips), 4))  # sum and count of k over onsets, then over beats
    found = np.zeros((len(clips), 4), dtype=int)
    for number, (clip, onsets) in enumerate(zip(clips, onsets_s, strict=True)):
        onsets = np.asarray(onsets, dtype=np.float64)
        if onsets.ndim != 1 or not np.isfinite(onsets).all():
            raise ValueError(
                f"onsets_s of clip {number}: expected times in seconds, one row, found shape {onsets.shape} or NaN"
            )
        for joints in as_draws(clip)[: 1 if official else None]:
            if not official:
                joints = gaussian_filter1d(joints, SMOOTHING_FRAMES, axis=0, mode="nearest")
            beats = motion_beats(arm_angles(joints, unit_bones=not official), fps=fps, change=change)
            found[number] += [len(times) for times in beats]
            if len(onsets):
                near[number] += sum(_closeness(times, onsets, count_empty=not official) for times in beats)
    score, recall, precision = _beat_score(near.sum(0), official)
    by_clip = np.array([_beat_score(row, official)[0] for row in near])
    return BeatConsistency(score, by_clip, recall, precision, found, np.array([len(onsets) for onsets in onsets_s]))


def _closeness(beats: np.ndarray, onsets: np.ndarray, *, count_empty: bool) -> np.ndarray:
    """Sum and count of the kernel over onsets, then over beats, of one angle."""
    if not len(beats):
        return np.array([0.0, len(onsets) if count_empty else 0, 0.0, 0])
    kernel = np.exp(-((onsets[:, None] - beats) ** 2) / (2 * BEAT_SIGMA_S**2))
    return np.array([kernel.max(1).sum(), len(onsets), kernel.max(0).sum(), len(beats)])


def _beat_score(sums: np.ndarray, official: bool) -> tuple[float, float, float]:
    """Score, recall and precision from sums and counts of the kernel."""
    if not sums[1]:
        return np.nan, np.nan, np.nan
    recall, precision = float(sums[0] / sums[1]), float(sums[2] / max(sums[3], 1))
    if official:
        return recall, np.nan, np.nan
    return 2 * recall * precision / max(recall + precision, 1e-300), recall, precision
