"""A small human skeleton: joint positions from SMPL-X style axis-angle poses, for beat metrics and stick figures.

It has the joints of SMPL-X in the order of SMPL-X, so that metrics written with that model's indices run on it, and asks for no licensed
model file. The bones are those of an average adult; there is no skin.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from paper_utils.mesh.skinning import joint_transforms, rotation_matrices
from paper_utils.world.pose_layout import BODY_JOINTS, FINGERS, LEFT_HAND, POSE_JOINTS, RIGHT_HAND

# Joint 0 is the pelvis; then the 21 body joints, jaw and eyes, the left and the right hand: the first 55 joints of SMPL-X.
JOINTS = ("pelvis", *BODY_JOINTS, "jaw", "left_eye", "right_eye", *LEFT_HAND, *RIGHT_HAND)
# Ends of bones that no joint turns; drawn, and carried along for anyone who wants fingertips.
TIPS = (
    "head_top",
    *(f"{side}_{finger}_tip" for side in ("left", "right") for finger in FINGERS),
)
POINTS = JOINTS + TIPS

STATURE_M = 1.72  # choice of ours
# Segment lengths as shares of the stature, after Drillis and Contini (1966), from memory, unverified; the split of trunk and neck, and
# everything of the hand, are choices of ours.
_UPPER_ARM, _FOREARM, _THIGH, _SHANK = 0.186, 0.146, 0.245, 0.246
_SHOULDER_X, _COLLAR_X, _HIP_X = 0.105, 0.035, 0.055

# Offset of each point from its parent in the T-pose, in shares of the stature: x to the subject's left, y up, z forward.
_MIDLINE = {
    "pelvis": ("", (0.0, 0.0, 0.0)),
    "spine1": ("pelvis", (0.0, 0.065, -0.01)),
    "spine2": ("spine1", (0.0, 0.075, 0.0)),
    "spine3": ("spine2", (0.0, 0.035, 0.005)),
    "neck": ("spine3", (0.0, 0.12, -0.015)),
    "head": ("neck", (0.0, 0.06, 0.015)),
    "head_top": ("head", (0.0, 0.115, 0.01)),
    "jaw": ("head", (0.0, 0.0, 0.01)),
}
_LEFT = {
    "left_hip": ("pelvis", (_HIP_X, -0.03, 0.0)),
    "left_knee": ("left_hip", (0.0, -_THIGH, 0.0)),
    "left_ankle": ("left_knee", (0.0, -_SHANK, 0.0)),
    "left_foot": ("left_ankle", (0.01, -0.03, 0.07)),
    "left_collar": ("spine3", (_COLLAR_X, 0.085, -0.005)),
    "left_shoulder": ("left_collar", (_SHOULDER_X - _COLLAR_X, 0.01, -0.005)),
    "left_elbow": ("left_shoulder", (_UPPER_ARM, 0.0, 0.0)),
    "left_wrist": ("left_elbow", (_FOREARM, 0.0, 0.0)),
    "left_eye": ("head", (0.018, 0.03, 0.05)),
}
# First knuckle from the wrist, then the direction and the three bone lengths of each finger, in shares of the stature.
_FINGERS = {
    "index": ((0.055, 0.0, 0.013), (1.0, 0.0, 0.1), (0.022, 0.014, 0.012)),
    "middle": ((0.057, 0.002, 0.0), (1.0, 0.0, 0.0), (0.025, 0.016, 0.013)),
    "pinky": ((0.048, -0.002, -0.023), (1.0, 0.0, -0.25), (0.018, 0.011, 0.01)),
    "ring": ((0.054, 0.0, -0.012), (1.0, 0.0, -0.1), (0.023, 0.015, 0.012)),
    "thumb": ((0.018, -0.006, 0.015), (0.7, -0.25, 0.67), (0.021, 0.018, 0.016)),
}


def _left_hand() -> dict[str, tuple[str, tuple[float, float, float]]]:
    """The chain of every finger from the wrist to the tip."""
    tree = {}
    for finger, (knuckle, direction, lengths) in _FINGERS.items():
        along = np.array(direction) / np.linalg.norm(direction)
        names = [f"left_{finger}{i}" for i in (1, 2, 3)] + [f"left_{finger}_tip"]
        tree[names[0]] = ("left_wrist", knuckle)
        for parent, name, length in zip(names[:-1], names[1:], lengths, strict=True):
            tree[name] = (parent, tuple((length * along).tolist()))
    return tree


def _bones() -> dict[str, tuple[str, tuple[float, float, float]]]:
    """Parent of every point and its offset from it, shares of the stature."""
    left = {**_LEFT, **_left_hand()}
    right = {
        name.replace("left_", "right_"): (parent.replace("left_", "right_"), (-offset[0], *offset[1:]))
        for name, (parent, offset) in left.items()
    }
    return {**_MIDLINE, **left, **right}


# Index of the parent of every point, -1 for the pelvis; parents come before their children.
PARENTS: tuple[int, ...] = tuple(POINTS.index(parent) if (parent := _bones()[name][0]) else -1 for name in POINTS)
BONES: tuple[tuple[int, int], ...] = tuple((parent, child) for child, parent in enumerate(PARENTS) if parent >= 0)


@lru_cache(maxsize=1)
def _rest() -> Float[Tensor, "66 3"]:
    bones = _bones()
    placed: list[np.ndarray] = []
    for name, parent in zip(POINTS, PARENTS, strict=True):
        placed.append(STATURE_M * np.array(bones[name][1]) + (placed[parent] if parent >= 0 else 0))
    return torch.from_numpy(np.stack(placed))


def rest_positions() -> Float[Tensor, "66 3"]:
    """The T-pose in metres, order `POINTS`."""
    return _rest().clone()


def pose_of(motion: Float[Tensor, "*batch 265"], *, turn_root: bool = False) -> Float[Tensor, "*batch 55 3"]:
    """Axis-angle of the 55 joints, in the order of `JOINTS`, from frames of 265 columns.

    Parameters
    ----------
    motion
        Frames in the layout of `pose_layout`.
    turn_root
        Whether to keep the root orientation. Those of SHOW stand in camera coordinates with y down: left out, the figure stands upright.
    """
    joints = motion[..., :165].unflatten(-1, (55, 3))
    names = ("global_orient", *BODY_JOINTS, "jaw", "left_eye", "right_eye", *LEFT_HAND, *RIGHT_HAND)
    pose = joints[..., [POSE_JOINTS.index(name) for name in names], :]
    if not turn_root:
        pose = torch.cat([torch.zeros_like(pose[..., :1, :]), pose[..., 1:, :]], dim=-2)
    return pose


def positions(pose: Float[Tensor, "*batch 55 3"]) -> Float[Tensor, "*batch 66 3"]:
    r"""Forward kinematics: where every joint and tip is.

    .. math:: G_j = G_{p(j)} R_j, \qquad x_j = x_{p(j)} + G_{p(j)}\, o_j

    with :math:`p(j)` the parent and :math:`o_j` the offset in the rest pose, a T-pose.

    Parameters
    ----------
    pose
        Axis-angle of each joint in the frame of its parent, radians, order `JOINTS`. All zero: the rest pose.

    Returns
    -------
    Positions in metres, order `POINTS` (55 joints, then 11 tips); x to the subject's left, y up, z forward, pelvis at the origin.

    Raises
    ------
    ValueError
        If the pose is not finite.
    """
    if not torch.isfinite(pose).all():
        raise ValueError("pose holds NaN or infinite angles; was the motion that it comes from complete?")
    batch = pose.shape[:-2]
    rotations = rotation_matrices(pose).reshape(-1, len(JOINTS), 3, 3)
    tips = torch.eye(3, dtype=pose.dtype, device=pose.device).expand(len(rotations), len(TIPS), 3, 3)
    rest = rest_positions().to(pose).expand(len(rotations), -1, -1)
    _, placed = joint_transforms(torch.cat([rotations, tips], dim=1), rest, PARENTS)
    return placed.unflatten(0, batch) if batch else placed[0]


def point(name: str) -> int:
    """Index of a joint or tip in `POINTS`.

    Raises
    ------
    ValueError
        If there is none of that name.

    Examples
    --------
    >>> [point(name) for name in ("left_collar", "right_wrist", "left_index1")]
    [13, 21, 25]
    """
    if name not in POINTS:
        raise ValueError(f"point {name!r} is unknown; expected one of {', '.join(POINTS)}")
    return POINTS.index(name)
