"""The 265 columns of a SHOW frame: which joint stands where, what a body model predicts, and how a full frame is put together again.

World, loaders, the method and the metrics all index into the same vector, so the indices live in one place. The layout is that of the
TalkSHOW code (Yi et al. 2023), checked against index sets recorded from it.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

COLUMNS = 265
FACE_COLUMNS = 103  # jaw and expression
UPPER_COLUMNS = 129  # body and hands a model predicts

# SMPL-X names in SMPL-X order; three axis-angle columns each.
BODY_JOINTS = (
    "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle", "right_ankle", "spine3", "left_foot",
    "right_foot", "neck", "left_collar", "right_collar", "head", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow",
    "left_wrist", "right_wrist",
)  # fmt: skip
FINGERS = ("index", "middle", "pinky", "ring", "thumb")  # SMPL-X has the little finger before the ring finger
HAND_JOINTS = tuple(f"{finger}{knuckle}" for finger in FINGERS for knuckle in (1, 2, 3))
LEFT_HAND = tuple(f"left_{name}" for name in HAND_JOINTS)
RIGHT_HAND = tuple(f"right_{name}" for name in HAND_JOINTS)
POSE_JOINTS = ("jaw", "left_eye", "right_eye", "global_orient", *BODY_JOINTS, *LEFT_HAND, *RIGHT_HAND)
EXPRESSION = slice(165, 265)
HANDS = slice(75, 165)

UPPER_BODY_JOINTS = (
    "spine1", "spine2", "spine3", "neck", "left_collar", "right_collar", "head", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist",
)  # fmt: skip
# The released training code keeps the feet and drops neck and left collar, and puts predicted feet there when it assembles a frame.
_OFFICIAL_UPPER_BODY = (
    "spine1", "spine2", "spine3", "left_foot", "right_foot", "right_collar", "head", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist",
)  # fmt: skip
INDEX_SETS = ("consistent", "official")

POSTURES = ("sit", "stand")
_ROOT = (3.0747, -0.0158, -0.0152)  # of the released demos: camera convention, y down
_LEGS = {
    "sit": {
        "left_hip": (-1.1826512813568115, 0.23866955935955048, 0.15146760642528534),
        "right_hip": (-1.2604516744613647, -0.3160211145877838, -0.1603458970785141),
        "left_knee": (1.1654603481292725, 0.0, 0.0),
        "right_knee": (1.2521806955337524, 0.041598282754421234, -0.06312154978513718),
    },
    "stand": {},
}


def joint_columns(joint: str) -> slice:
    """The three columns of a joint.

    Parameters
    ----------
    joint
        One of `POSE_JOINTS`.

    Raises
    ------
    ValueError
        If there is no such joint.

    Examples
    --------
    >>> joint_columns("jaw"), joint_columns("left_elbow"), joint_columns("right_thumb3")
    (slice(0, 3, None), slice(63, 66, None), slice(162, 165, None))
    """
    if joint not in POSE_JOINTS:
        raise ValueError(f"joint {joint!r} is unknown; expected one of {', '.join(POSE_JOINTS)}")
    start = 3 * POSE_JOINTS.index(joint)
    return slice(start, start + 3)


def upper_columns(index_set: str = "consistent") -> Int[np.ndarray, " upper"]:
    """The 129 columns that a body-and-hands model predicts: 39 of the body, then 90 of the hands.

    Parameters
    ----------
    index_set
        ``"consistent"``: neck and both collars, as frames are assembled. ``"official"``: the released training set, which has the feet in
        place of neck and left collar.

    Raises
    ------
    ValueError
        If the set is unknown.
    """
    if index_set not in INDEX_SETS:
        raise ValueError(f"index_set: expected one of {', '.join(INDEX_SETS)}, found {index_set!r}")
    joints = UPPER_BODY_JOINTS if index_set == "consistent" else _OFFICIAL_UPPER_BODY
    body = [np.arange(COLUMNS)[joint_columns(joint)] for joint in joints]
    return np.concatenate([*body, np.arange(HANDS.start, HANDS.stop)])


def face_columns() -> Int[np.ndarray, " face"]:
    """The 103 columns that a face model predicts: jaw, then expression."""
    return np.r_[np.arange(COLUMNS)[joint_columns("jaw")], np.arange(COLUMNS)[EXPRESSION]]


def six_d_columns(columns: Int[np.ndarray, " columns"]) -> Int[np.ndarray, " doubled"]:
    """Where the same joints stand once every axis-angle has become six numbers.

    Parameters
    ----------
    columns
        Whole joints: runs of three columns, each run starting at a multiple of three.

    Raises
    ------
    ValueError
        If a joint is cut.

    Examples
    --------
    >>> six_d_columns(np.array([18, 19, 20])).tolist()
    [36, 37, 38, 39, 40, 41]
    """
    joints = columns[::3]
    if len(columns) % 3 or (columns != (joints[:, None] + np.arange(3)).ravel()).any() or (joints % 3).any():
        raise ValueError(f"columns: expected whole joints of three columns, found {columns[:9].tolist()}...")
    return (2 * joints[:, None] + np.arange(6)).ravel()


def constant_frame(posture: str = "sit") -> Float[Tensor, " columns"]:
    """One frame of 265 columns with everything at zero but the root and the legs, which no model here predicts.

    Parameters
    ----------
    posture
        ``"sit"``: the one sitting pose of the released code. ``"stand"``: straight legs.

    Raises
    ------
    ValueError
        If the posture is unknown.
    """
    if posture not in POSTURES:
        raise ValueError(f"posture: expected one of {', '.join(POSTURES)}, found {posture!r}")
    frame = torch.zeros(COLUMNS)
    for joint, pose in {"global_orient": _ROOT, **_LEGS[posture]}.items():
        frame[joint_columns(joint)] = torch.tensor(pose)
    return frame


def assemble(
    face: Float[Tensor, "*batch time 103"], upper: Float[Tensor, "*batch time 129"], *, posture: str = "sit"
) -> Float[Tensor, "*batch time 265"]:
    """Full frames from what the models predict: face, body and hands into their columns, root and legs constant, eyes zero.

    Parameters
    ----------
    face
        Jaw (3 columns) and expression (100 columns).
    upper
        Body (39) and hands (90), the consistent index set.
    posture
        See `constant_frame`.

    Raises
    ------
    ValueError
        If the posture is unknown.
    """
    frames = constant_frame(posture).to(upper).expand(*upper.shape[:-1], COLUMNS).clone()
    frames[..., joint_columns("jaw")] = face[..., :3]
    frames[..., EXPRESSION] = face[..., 3:]
    frames[..., torch.from_numpy(upper_columns())] = upper
    return frames
