"""Gestures as data: what the classes of body and hand gesture move, how each speaker rests, and along which lines posture drifts.

Everything is a choice of ours, drawn as stick figures until it read as people talking. Radians, in the frames of the SMPL-X joints: arms
hang by turning the shoulders about z, elbows bend about y, fingers curl about z; right is the mirror image of left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from paper_utils.world.pose_layout import FINGERS, HAND_JOINTS, UPPER_BODY_JOINTS

Pose = dict[str, tuple[float, float, float]]


def _mirrored(pose: Pose) -> Pose:
    """The same on the other side: turns about y and z change sign."""
    return {
        name.replace("left_", "right_") if name.startswith("left_") else name.replace("right_", "left_"): (x, -y, -z)
        for name, (x, y, z) in pose.items()
    }


def _both(left: Pose) -> Pose:
    """A pose of the left side and its mirror image together."""
    return {**left, **_mirrored(left)}


def _body(pose: Pose) -> np.ndarray:
    return np.array([pose.get(joint, (0.0, 0.0, 0.0)) for joint in UPPER_BODY_JOINTS]).ravel()


_BEAT_LEFT: Pose = {
    "left_shoulder": (0.1, -0.35, 0.25), "left_elbow": (0.0, -0.7, 0.0), "left_wrist": (0.0, 0.0, 0.35), "left_collar": (0.0, 0.0, 0.08),
    "head": (0.0, 0.08, 0.0),
}  # fmt: skip
_BODY_POSES: dict[str, Pose] = {
    "beat_left": _BEAT_LEFT,
    "beat_right": _mirrored(_BEAT_LEFT),
    "open": _both({"left_shoulder": (-0.7, 0.45, 0.05), "left_elbow": (0.0, 0.35, 0.0), "left_wrist": (-0.4, 0.0, 0.0)}),
    "raise": _both({"left_shoulder": (0.0, -0.35, 0.3), "left_elbow": (0.0, -0.6, 0.0), "left_wrist": (0.0, 0.0, 0.25)}),
    "shrug": {
        **_both({"left_collar": (0.0, 0.0, 0.3), "left_shoulder": (-0.45, 0.2, -0.1), "left_elbow": (0.0, -0.15, 0.0), "left_wrist": (-0.6, 0.0, 0.0)}),
        "neck": (0.0, 0.0, 0.12), "head": (-0.05, 0.0, 0.15),
    },
    "lean": {
        "spine1": (0.12, 0.04, 0.0), "spine2": (0.12, 0.04, 0.0), "spine3": (0.1, 0.04, 0.0), "neck": (0.03, 0.0, 0.0), "head": (0.1, 0.0, 0.0),
        **_both({"left_shoulder": (0.1, -0.5, 0.1), "left_elbow": (0.0, 0.55, 0.0), "left_wrist": (0.0, 0.0, -0.2)}),
    },
}  # fmt: skip
BODY_CLASSES = tuple(_BODY_POSES)


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


BODY_TEMPLATES: Float[np.ndarray, "6 39"] = _unit(np.stack([_body(pose) for pose in _BODY_POSES.values()]))

# Curl at the three knuckles of index, middle, little and ring finger, and how far they spread; then curl and spread of the thumb.
_Hand = tuple[dict[str, tuple[float, float, float]], float, float, float]
_CURLED, _STRAIGHT = (0.7, 0.9, 0.5), (-0.2, -0.25, -0.15)
_LONG = ("index", "middle", "ring", "pinky")
_HAND_SHAPES: dict[str, _Hand] = {
    "point": ({**dict.fromkeys(_LONG, _CURLED), "index": (-0.3, -0.4, -0.2)}, 0.0, 0.5, 0.0),
    "fist": (dict.fromkeys(_LONG, _CURLED), 0.0, 0.5, -0.2),
    "spread": (dict.fromkeys(_LONG, _STRAIGHT), 0.3, -0.1, 0.25),
    "cup": (dict.fromkeys(_LONG, (0.8, -0.2, -0.2)), -0.1, 0.2, 0.2),
    "claw": (dict.fromkeys(_LONG, (-0.5, 0.7, 0.5)), 0.15, 0.4, 0.2),
    "pinch": (
        {**dict.fromkeys(_LONG, _STRAIGHT), "index": (0.7, 0.6, 0.2), "middle": (0.5, 0.5, 0.2)},
        0.15,
        0.7,
        -0.5,
    ),
}
HAND_CLASSES = tuple(_HAND_SHAPES)
_SPREAD = {"index": -1.0, "middle": -0.3, "ring": 0.4, "pinky": 1.0}
_LEFT_HAND_SHARE = 0.7  # the right hand leads


def _left_hand(shape: _Hand) -> np.ndarray:
    """Angles of the 15 joints of a left hand."""
    curls, spread, thumb_curl, thumb_spread = shape
    pose = np.zeros((len(HAND_JOINTS), 3))
    for finger in FINGERS[:-1]:
        rows = slice(HAND_JOINTS.index(f"{finger}1"), HAND_JOINTS.index(f"{finger}3") + 1)
        pose[rows, 2] = -np.array(curls[finger])
        pose[rows.start, 1] = spread * _SPREAD[finger]
    thumb = HAND_JOINTS.index("thumb1")
    # The thumb's own frame is not aligned with the fingers': curling crosses the palm.
    pose[thumb : thumb + 3] = thumb_curl * np.array([(0.3, 0.6, -0.2), (0.0, 0.7, -0.2), (0.0, 0.6, 0.0)])
    pose[thumb, 1] -= thumb_spread
    return pose


def _hands(left: np.ndarray) -> np.ndarray:
    """Both hands in one row of 90: left scaled, right mirrored."""
    return np.concatenate([_LEFT_HAND_SHARE * left.ravel(), (left * [1, -1, -1]).ravel()])


HAND_TEMPLATES: Float[np.ndarray, "6 90"] = _unit(
    np.stack([_hands(_left_hand(shape)) for shape in _HAND_SHAPES.values()])
)

# Lines along which posture drifts, each scaled by its own standard deviation in radians.
_DRIFTS: tuple[Pose, ...] = (
    {"spine1": (0.05, 0.0, 0.0), "spine2": (0.05, 0.0, 0.0), "spine3": (0.04, 0.0, 0.0), "neck": (-0.05, 0.0, 0.0)},
    {"spine1": (0.0, 0.06, 0.0), "spine2": (0.0, 0.06, 0.0), "spine3": (0.0, 0.06, 0.0), "neck": (0.0, -0.06, 0.0)},
    {"spine1": (0.0, 0.0, 0.04), "spine2": (0.0, 0.0, 0.04), "neck": (0.0, 0.0, -0.05), "head": (0.0, 0.0, 0.03)},
    {"left_shoulder": (0.06, -0.14, 0.06), "left_elbow": (0.02, -0.2, 0.04), "left_wrist": (0.08, 0.03, 0.08)},
    {"right_shoulder": (0.06, 0.14, -0.06), "right_elbow": (0.02, 0.2, -0.04), "right_wrist": (0.08, -0.03, -0.08)},
    {"left_collar": (0.0, 0.02, 0.06), "right_collar": (0.0, -0.02, -0.06), "left_wrist": (0.1, 0.0, -0.05), "right_wrist": (-0.1, 0.0, -0.05)},
)  # fmt: skip
POSTURE_DRIFT: Float[np.ndarray, "6 39"] = np.stack([_body(pose) for pose in _DRIFTS])
_RELAXED: _Hand = (dict.fromkeys(_LONG, (0.16, 0.22, 0.13)), 0.0, 0.13, 0.0)
HAND_DRIFT: Float[np.ndarray, "2 90"] = np.stack(
    [
        np.concatenate([side * _left_hand(_RELAXED).ravel(), (1 - side) * (_left_hand(_RELAXED) * [1, -1, -1]).ravel()])
        for side in (1, 0)
    ]
)


@dataclass(frozen=True)
class GestureSpeaker:
    """How one person gestures.

    Parameters
    ----------
    name
        Invented.
    posture
        ``"sit"`` or ``"stand"``.
    gain
        Size of strokes against the usual.
    least_gap_s
        Shortest time from stroke to stroke: the smaller, the more of the beats carry one.
    prior
        Probability of each of `BODY_CLASSES`.
    body_rest, hand_rest
        Angles at rest, radians.
    """

    name: str
    posture: str
    gain: float
    least_gap_s: float
    prior: tuple[float, ...]
    body_rest: Float[np.ndarray, " body"]
    hand_rest: Float[np.ndarray, " hands"]


def _rest(
    left_shoulder: tuple[float, float, float], elbow: float, rest: Pose, curl: float
) -> tuple[np.ndarray, np.ndarray]:
    arms = _both({"left_shoulder": left_shoulder, "left_elbow": (0.0, -elbow, 0.0)})
    shape: _Hand = (dict.fromkeys(_LONG, (curl, 1.3 * curl, 0.7 * curl)), 0.0, curl, 0.0)
    left = _left_hand(shape)
    return _body({**arms, **rest}), np.concatenate([left.ravel(), (left * [1, -1, -1]).ravel()])


SPEAKERS: tuple[GestureSpeaker, ...] = (
    GestureSpeaker(
        "asha", "sit", 1.0, 0.30, (0.10, 0.35, 0.25, 0.15, 0.10, 0.05),
        *_rest((0.18, -0.47, -1.11), 1.2, {"spine1": (0.12, 0.0, 0.0), "head": (-0.05, 0.05, 0.0)}, 0.15),
    ),
    GestureSpeaker(
        "bruno", "sit", 1.15, 0.36, (0.25, 0.15, 0.10, 0.30, 0.05, 0.15),
        *_rest((0.26, -0.73, -0.96), 1.0, {"spine1": (0.2, 0.0, 0.0), "spine3": (0.1, -0.08, 0.0), "neck": (-0.12, 0.08, 0.0)}, 0.35),
    ),
    GestureSpeaker(
        "chiara", "sit", 0.8, 0.45, (0.15, 0.15, 0.15, 0.05, 0.35, 0.15),
        *_rest((0.35, -0.49, -1.16), 1.45, {"spine2": (-0.06, 0.1, 0.0), "head": (0.0, -0.1, 0.08), "left_wrist": (0.2, 0.0, 0.0)}, 0.05),
    ),
    GestureSpeaker(
        "dov", "stand", 1.1, 0.33, (0.20, 0.10, 0.30, 0.05, 0.05, 0.30),
        *_rest((0.0, -0.2, -1.25), 0.8, {"spine1": (-0.04, 0.0, 0.0), "left_collar": (0.0, 0.0, -0.06), "right_collar": (0.0, 0.0, 0.06)}, 0.25),
    ),
)  # fmt: skip
