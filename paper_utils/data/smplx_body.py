"""SMPL-X bodies for SHOW frames, by the library `smplx` (optional) and the user's own model file; nothing of either is part of this package."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from paper_utils import safe_files
from paper_utils.data.show_pickles import BETAS
from paper_utils.world.pose_layout import BODY_JOINTS, EXPRESSION, LEFT_HAND, RIGHT_HAND, joint_columns

EXPRESSIONS = EXPRESSION.stop - EXPRESSION.start
POINTS = 127  # 55 joints, 21 vertices (face, feet, fingertips), 51 landmarks
# The arrays of a model file that are used. The official file also holds pickled dictionaries, which the library would open.
_ARRAYS = (
    "v_template", "f", "shapedirs", "posedirs", "J_regressor", "kintree_table", "weights", "hands_componentsl", "hands_componentsr",
    "hands_meanl", "hands_meanr", "lmk_faces_idx", "lmk_bary_coords",
)  # fmt: skip


class SmplxBody(nn.Module):
    """Joints and skin of SHOW frames, as the released evaluation makes them: 300 shape numbers, 100 expressions, the mean hand added.

    Parameters
    ----------
    path
        ``SMPLX_NEUTRAL.npz`` of the user. Only its plain arrays are read; nothing in it is run.

    Raises
    ------
    ImportError
        If the optional package smplx is not installed.
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no SMPL-X model with 300 shape and 100 expression directions.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        library = _library()
        arrays = _plain_arrays(Path(path))
        with tempfile.TemporaryDirectory() as folder:
            plain = Path(folder) / "SMPLX_NEUTRAL.npz"
            np.savez(plain, **arrays)
            self.model = library.SMPLX(
                str(plain),
                gender="neutral",
                use_pca=False,
                flat_hand_mean=False,
                num_betas=BETAS,
                num_expression_coeffs=EXPRESSIONS,
            )
        self.model.requires_grad_(False)

    @property
    def triangles(self) -> Int[Tensor, "triangles 3"]:
        """Corners of the skin's triangles."""
        return self.model.faces_tensor

    def forward(
        self, motion: Float[Tensor, "frames 265"], betas: Float[Tensor, " betas"] | None = None
    ) -> tuple[Float[Tensor, "frames points 3"], Float[Tensor, "frames vertices 3"]]:
        """Joints (with fingertips and landmarks, 127 in all) and vertices in metres.

        Parameters
        ----------
        motion
            Full frames.
        betas
            Shape; zero (the average body) by default, as in the released demos.

        Raises
        ------
        ValueError
            If numbers are NaN, or the shape has another length.
        """
        if not torch.isfinite(motion).all():
            raise ValueError("motion holds NaN or infinite numbers; leave such clips out")
        shape = motion.new_zeros(BETAS) if betas is None else betas
        if shape.shape != (BETAS,):
            raise ValueError(f"betas: expected {BETAS} numbers, found {tuple(shape.shape)}")
        output = self.model(
            betas=shape.expand(len(motion), -1),
            global_orient=motion[:, joint_columns("global_orient")],
            body_pose=_joints(motion, BODY_JOINTS),
            left_hand_pose=_joints(motion, LEFT_HAND),
            right_hand_pose=_joints(motion, RIGHT_HAND),
            jaw_pose=motion[:, joint_columns("jaw")],
            leye_pose=motion[:, joint_columns("left_eye")],
            reye_pose=motion[:, joint_columns("right_eye")],
            expression=motion[:, EXPRESSION],
            transl=motion.new_zeros(len(motion), 3),
        )
        return output.joints, output.vertices


def _joints(motion: Tensor, names: tuple[str, ...]) -> Tensor:
    """Columns of joints that stand side by side."""
    return motion[:, joint_columns(names[0]).start : joint_columns(names[-1]).stop]


def _library() -> Any:
    try:
        import smplx
    except ImportError as error:
        raise ImportError("SMPL-X bodies need the optional package smplx: pip install 'paper-utils[smplx]'") from error
    return smplx


def _plain_arrays(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file; expected SMPLX_NEUTRAL.npz, which registered users of SMPL-X download"
        )
    arrays = safe_files.npz(path, "a SMPL-X .npz file", names=_ARRAYS)
    missing = [name for name in _ARRAYS if name not in arrays]
    if missing:
        raise ValueError(f"{path}: {', '.join(missing)} missing; expected a SMPL-X model, not SMPL or SMPL-H")
    directions = arrays["shapedirs"].shape
    if len(directions) != 3 or directions[2] < BETAS + EXPRESSIONS:
        raise ValueError(
            f"{path}: shapedirs: expected (vertices, 3, {BETAS + EXPRESSIONS}), found {directions}; download the model of 2020 "
            "(v1.1), which has all shape directions"
        )
    return arrays
