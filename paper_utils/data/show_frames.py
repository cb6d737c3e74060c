"""Other forms of a SHOW frame (265 columns): six numbers a joint, constants for evaluation, and the arrays that the released code writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from paper_utils import safe_files
from paper_utils.files import atomic_path
from paper_utils.mesh.rotations import axis_angle_from_six_d, six_d_from_axis_angle
from paper_utils.world.pose_layout import COLUMNS, EXPRESSION, POSE_JOINTS, constant_frame, joint_columns, upper_columns

SIX_D_COLUMNS = 6 * len(POSE_JOINTS) + 100
# What the released evaluation puts into both motions where nothing is predicted, for a standing speaker; recorded from that code.
_STANDING = {
    "left_eye": (0.000897590012755245, 0.0007107399869710207, -5.91629986956832e-06),
    "left_hip": (-0.3666499853134155, -0.008845499716699123, 0.16112999618053436),
    "left_knee": (-0.39715999364852905, -0.04022900015115738, -0.12636999785900116),
    "right_knee": (0.7916300296783447, 0.06851900368928909, -0.15091000497341156),
    "right_ankle": (0.7863199710845947, -0.04380999878048897, 0.014375000260770321),
    "left_foot": (-0.1067499965429306, 0.12635000050067902, 0.016711000353097916),
}
# These joints get the values of another one in that code.
_REPEATED = {"right_eye": "left_eye", "right_hip": "left_hip", "left_ankle": "right_knee", "right_foot": "left_foot"}


def to_six_d(motion: Float[Tensor, "*batch 265"]) -> Float[Tensor, "*batch 430"]:
    """Six numbers for every joint (the first two rows of its rotation matrix), expression as it is: the released 6D option.

    Joint columns j, j + 1, j + 2 become 2j to 2j + 5, see `paper_utils.world.pose_layout.six_d_columns`.
    """
    joints = motion[..., : EXPRESSION.start].unflatten(-1, (len(POSE_JOINTS), 3))
    return torch.cat([six_d_from_axis_angle(joints).flatten(-2), motion[..., EXPRESSION]], dim=-1)


def from_six_d(motion: Float[Tensor, "*batch 430"], *, accurate: bool = True) -> Float[Tensor, "*batch 265"]:
    """Back to axis-angle; the six numbers need not be orthogonal.

    Parameters
    ----------
    motion
        From `to_six_d`, or from a network.
    accurate
        See `paper_utils.mesh.rotations.quaternion_from_matrix`; False does what the released code does.
    """
    joints = motion[..., : 6 * len(POSE_JOINTS)].unflatten(-1, (len(POSE_JOINTS), 6))
    angles = axis_angle_from_six_d(joints, accurate=accurate).flatten(-2)
    return torch.cat([angles, motion[..., 6 * len(POSE_JOINTS) :]], dim=-1)


def evaluation_frames(motion: Float[Tensor, "*batch 265"], *, posture: str = "sit") -> Float[Tensor, "*batch 265"]:
    """Frames as the released evaluation compares them: eyes, root and legs of both motions replaced by the same constants.

    Parameters
    ----------
    motion
        True or generated frames.
    posture
        ``"sit"``: the pose of the demos. ``"stand"``: another one than the demos'; as recorded from the released code, in which left ankle and
        right knee, both hips and both feet share values.

    Raises
    ------
    ValueError
        If the posture is unknown.
    """
    constant = constant_frame(posture).to(motion)
    if posture == "stand":
        for joint, source in {**{name: name for name in _STANDING}, **_REPEATED}.items():
            constant[joint_columns(joint)] = torch.tensor(_STANDING[source]).to(motion)
    predicted = torch.zeros(COLUMNS, dtype=torch.bool, device=motion.device)
    predicted[torch.from_numpy(upper_columns())] = True
    predicted[joint_columns("jaw")] = True
    predicted[EXPRESSION] = True
    return torch.where(predicted, motion, constant)


def with_still_rest(
    predicted: Float[Tensor, "*batch time upper"],
    motion: Float[Tensor, "true_time 265"],
    *,
    index_set: str = "consistent",
) -> Float[Tensor, "*batch time 265"]:
    """Full frames from predicted body and hands; every other column stays as it is in the first true frame (released code).

    Parameters
    ----------
    predicted
        Body and hands.
    motion
        The true clip.
    index_set
        See `paper_utils.world.pose_layout.upper_columns`.
    """
    frames = motion[0].to(predicted).expand(*predicted.shape[:-1], COLUMNS).clone()
    frames[..., torch.from_numpy(upper_columns(index_set))] = predicted
    return frames


def read_result(path: str | Path, *, draws: int = 1) -> Float[Tensor, "draws frames 265"]:
    """A motion that the released code wrote: float32 (frames, 265) at 30 frames a second, as ``demo/*/*.npy`` there.

    Parameters
    ----------
    path
        The file.
    draws
        Several draws of one length stand one after the other along time, as in ``style/diversity``, which has twelve.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no such array, or does not divide into the draws.
    """
    path = Path(path)
    array = safe_files.npy(path, f"a .npy of (frames, {COLUMNS})")
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.shape[1] != COLUMNS or not len(array):
        raise ValueError(f"{path}: expected (frames, {COLUMNS}), found {getattr(array, 'shape', type(array).__name__)}")
    if draws < 1 or len(array) % draws:
        raise ValueError(f"{path}: {len(array)} frames do not divide into {draws} draws of one length")
    if not np.isfinite(array).all():
        raise ValueError(f"{path}: {int((~np.isfinite(array)).sum())} of {array.size} numbers are NaN or infinite")
    return torch.from_numpy(array.astype(np.float32)).unflatten(0, (draws, -1))


def write_result(path: str | Path, motion: Float[Tensor, "draws frames 265"]) -> None:
    """Write a motion as the released code does; `read_result` reads it."""
    with atomic_path(Path(path)) as temporary:
        np.save(temporary, motion.detach().cpu().float().flatten(0, 1).numpy())
