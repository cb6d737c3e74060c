"""Linear blend skinning: a mesh that follows joints, with the corrections that bent joints need.

The conventions are those of SMPL and FLAME, down to the small constant in the rotation formula, so that official parameters give official
vertices. FLAME's landmarks, whose face contour slides with the head's yaw, are here because they need the joints' rotations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from paper_utils.mesh.landmarks import Landmarks, barycentric_points, check_barycentric

ROTATION_EPSILON = 1e-8  # official code of SMPL-X and FLAME: added to each component before the norm
WEIGHT_TOLERANCE = 1e-4  # choice of ours: official weights are stored in single precision
FLAME_JOINTS = ("root", "neck", "jaw", "left_eye", "right_eye")
# Which way the head's yaw is counted when the contour is looked up: DECA, EMOCA and inferno; FLAME_PyTorch and smplx.
YAW_SIGNS = {"deca": 1, "smplx": -1}


@dataclass(frozen=True)
class Skinning:
    """Joints of a mesh, and how vertices follow them.

    Parameters
    ----------
    joint_regressor
        Rest position of each joint as a weighted sum of the vertices.
    weights
        Share of each joint in the motion of a vertex; rows sum to one.
    parents
        Parent of each joint; -1 for the root, which comes first, and parents come before their children.
    correctives
        Offsets in mm per unit of rotation-matrix change, nine numbers for each joint but the root; none if the last size is 0.
    joint_names
        For messages and plots; may be empty.
    joints_follow_expression
        Whether rest joints are regressed from the mesh with its expression, as the official FLAME code does, or from the identity
        alone, as its paper defines them (the definition is from memory, unverified).

    Raises
    ------
    ValueError
        If shapes disagree, weights do not sum to one within 1e-4, or parents do not form a tree.
    """

    joint_regressor: Float[Tensor, "joints vertices"]
    weights: Float[Tensor, "vertices joints"]
    parents: tuple[int, ...]
    correctives: Float[Tensor, "vertices 3 correctives"]
    joint_names: tuple[str, ...] = ()
    joints_follow_expression: bool = True

    def __post_init__(self) -> None:
        joints, vertices = self.joint_regressor.shape
        check_parents(self.parents, joints)
        features = self.correctives.shape[-1]
        if self.weights.shape != (vertices, joints) or self.correctives.shape[:2] != (vertices, 3):
            raise ValueError(
                f"skinning: joint_regressor {joints, vertices} needs weights {vertices, joints} and correctives ({vertices}, 3, k), "
                f"found {tuple(self.weights.shape)} and {tuple(self.correctives.shape)}"
            )
        if features not in (0, 9 * (joints - 1)):
            raise ValueError(
                f"skinning: correctives need 9 columns for each of {joints - 1} joints below the root (or none), found {features}"
            )
        if self.joint_names and len(self.joint_names) != joints:
            raise ValueError(f"skinning: {joints} joints but {len(self.joint_names)} joint_names")
        off = (self.weights.double().sum(1) - 1).abs().max().item() if vertices else 0.0
        if not off <= WEIGHT_TOLERANCE:
            raise ValueError(
                f"skinning: weights of every vertex must sum to 1 within {WEIGHT_TOLERANCE:g}, found a sum that is off by {off:g}; is the table transposed?"
            )
        if not torch.isfinite(self.joint_regressor).all() or not torch.isfinite(self.correctives).all():
            raise ValueError("skinning: joint_regressor or correctives hold NaN or infinite values")


def check_parents(parents: Sequence[int], joints: int) -> None:
    """Refuse parents that are no tree with the root first and every parent before its children.

    Raises
    ------
    ValueError
        Names the joint and its parent.
    """
    if len(parents) != joints or not parents or parents[0] != -1:
        raise ValueError(f"parents: expected {joints} joints beginning with the root's -1, found {list(parents)}")
    for joint, parent in enumerate(parents[1:], start=1):
        if not 0 <= parent < joint:
            raise ValueError(
                f"parents: joint {joint} has parent {parent}; expected an earlier joint (0..{joint - 1}), so that there is no cycle"
            )


def rotation_matrices(axis_angle: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    r"""Rodrigues' formula with the official small constant.

    .. math:: a = \lVert r + 10^{-8} \rVert, \quad u = r / a, \quad R = I + \sin a \, K(u) + (1 - \cos a) \, K(u)^2

    The zero rotation gives exactly the identity and a finite, right gradient.

    Parameters
    ----------
    axis_angle
        Rotation axis times angle in radians.

    References
    ----------
    Official code of FLAME and SMPL-X.
    """
    # One input in the world, minus the constant itself, has no length: the bound keeps it finite.
    angle = torch.linalg.vector_norm(axis_angle + ROTATION_EPSILON, dim=-1, keepdim=True).clamp_min(1e-12)
    x, y, z = (axis_angle / angle).unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), dim=-1).unflatten(-1, (3, 3))
    angle = angle[..., None]
    identity = torch.eye(3, dtype=axis_angle.dtype, device=axis_angle.device)
    return identity + angle.sin() * cross + (1 - angle.cos()) * (cross @ cross)


def pose_correctives(
    rotations: Float[Tensor, "batch joints 3 3"], correctives: Float[Tensor, "vertices 3 features"]
) -> Float[Tensor, "batch vertices 3"]:
    r"""Offsets that undo the collapse of skin at bent joints.

    .. math:: \Delta v = \sum_{j \ge 1} P_j \, \mathrm{vec}(R_j - I)

    Parameters
    ----------
    rotations
        Of each joint relative to its parent; the root's is not used.
    correctives
        Any unit of length per unit; features run over joints 1.., then row by row over the matrix.
    """
    identity = torch.eye(3, dtype=rotations.dtype, device=rotations.device)
    features = (rotations[:, 1:] - identity).flatten(1)
    return (features @ correctives.flatten(0, 1).T).unflatten(1, (-1, 3))


def joint_transforms(
    rotations: Float[Tensor, "batch joints 3 3"], rest: Float[Tensor, "batch joints 3"], parents: Sequence[int]
) -> tuple[Float[Tensor, "batch joints 3 3"], Float[Tensor, "batch joints 3"]]:
    r"""Global rotation and posed position of each joint along the tree.

    .. math:: G_0 = [R_0 \mid J_0], \qquad G_j = G_{p(j)} \, [R_j \mid J_j - J_{p(j)}]

    Parameters
    ----------
    rotations
        Of each joint relative to its parent.
    rest
        Joints in the rest pose.
    parents
        As in `Skinning`.

    Returns
    -------
    Rotation parts and translation parts of :math:`G_j`.
    """
    turned, placed = [rotations[:, 0]], [rest[:, 0]]
    for joint, parent in enumerate(parents[1:], start=1):
        bone = (rest[:, joint] - rest[:, parent])[..., None]
        placed.append(placed[parent] + (turned[parent] @ bone)[..., 0])
        turned.append(turned[parent] @ rotations[:, joint])
    return torch.stack(turned, dim=1), torch.stack(placed, dim=1)


def skin(
    shaped: Float[Tensor, "batch vertices 3"],
    rest: Float[Tensor, "batch joints 3"],
    rotations: Float[Tensor, "batch joints 3 3"],
    skinning: Skinning,
) -> tuple[Float[Tensor, "batch vertices 3"], Float[Tensor, "batch joints 3"]]:
    r"""Pose a mesh: correctives, then every vertex follows its joints by their shares.

    .. math:: v = \sum_j W_{vj} \left( G_j \, (v_{\text{posed}} - J_j) \right)

    Parameters
    ----------
    shaped
        Vertices in the rest pose, in the unit of the correctives.
    rest
        Joints in the rest pose, see `rest_joints`.
    rotations
        Of each joint relative to its parent.
    skinning
        The joints.

    Returns
    -------
    Posed vertices and posed joints.

    References
    ----------
    FLAME (Li et al. 2017); SMPL (Loper et al. 2015).
    """
    if skinning.correctives.shape[-1]:
        shaped = shaped + pose_correctives(rotations, skinning.correctives)
    turned, placed = joint_transforms(rotations, rest, skinning.parents)
    shift = placed - (turned @ rest[..., None])[..., 0]
    # One matrix product blends the 3 x 4 transforms of the joints into one for each vertex.
    transforms = torch.cat((turned, shift[..., None]), dim=-1).flatten(2)
    blended = (skinning.weights.to(transforms) @ transforms).unflatten(-1, (3, 4))
    return (blended[..., :3] * shaped[:, :, None]).sum(-1) + blended[..., 3], placed


def rest_joints(
    shaped: Float[Tensor, "batch vertices 3"], regressor: Float[Tensor, "joints vertices"]
) -> Float[Tensor, "batch joints 3"]:
    """Joints of the rest pose: weighted sums of vertices."""
    return regressor @ shaped


def head_yaw(rotations: Float[Tensor, "batch joints 3 3"]) -> Float[Tensor, " batch"]:
    r"""Yaw in radians of the head (root and neck together), in [-pi/2, pi/2].

    .. math:: \psi = \operatorname{atan2}\left(-R_{20}, \sqrt{R_{00}^2 + R_{10}^2}\right), \quad R = R_{\text{root}} R_{\text{neck}}

    Parameters
    ----------
    rotations
        Root first, neck second.
    """
    head = rotations[:, 0] @ rotations[:, 1]
    return torch.atan2(-head[:, 2, 0], torch.hypot(head[:, 0, 0], head[:, 1, 0]))


def contour_rows(yaw: Float[Tensor, " batch"], rows: int = 79) -> Int[Tensor, " batch"]:
    """Row of the contour table for a yaw: one a degree, first 0 to the limit, then -1 to minus the limit.

    Parameters
    ----------
    yaw
        Radians, already with the sign of the convention in use.
    rows
        Length of the table, odd; 79 in the official file, which goes to 39 degrees.

    References
    ----------
    Official code of DECA and FLAME_PyTorch; beyond the limit the last row of that side is used.
    """
    limit = (rows - 1) // 2
    degrees = torch.round(torch.rad2deg(yaw).clamp(-limit, limit)).long()
    return torch.where(degrees >= 0, degrees, limit - degrees)


@dataclass(frozen=True)
class FlameLandmarks:
    """FLAME's 68 points: 51 that stay on the skin, and 17 of the contour that slide as the head turns.

    Parameters
    ----------
    static
        The inner face (51 points in the official file).
    contour_faces, contour_barycentric
        Table of contour points, one row a degree of yaw in the order of `contour_rows` (79 rows of 17 points officially).
    full
        All 68 points for a frontal face, or None if the source has none.

    Raises
    ------
    ValueError
        If the shapes of the table disagree, its number of rows is even, or weights do not sum to one.
    """

    static: Landmarks
    contour_faces: Int[Tensor, "rows contour"]
    contour_barycentric: Float[Tensor, "rows contour 3"]
    full: Landmarks | None = None

    def __post_init__(self) -> None:
        check_barycentric(self.contour_faces, self.contour_barycentric, "contour landmarks")
        if len(self.contour_faces) % 2 == 0:
            raise ValueError(
                f"contour landmarks: expected an odd number of rows (0, both sides), found {len(self.contour_faces)}"
            )

    def points(
        self,
        vertices: Float[Tensor, "batch vertices 3"],
        triangles: Int[Tensor, "triangles 3"],
        rotations: Float[Tensor, "batch joints 3 3"],
        *,
        convention: str = "deca",
    ) -> Float[Tensor, "batch points 3"]:
        """Contour, then inner face, on posed vertices.

        Parameters
        ----------
        vertices
            Posed, any unit.
        triangles
            Of the model.
        rotations
            Root first, neck second (`rotation_matrices` of the pose); they choose the row of the table.
        convention
            ``"deca"`` (DECA, EMOCA, inferno) or ``"smplx"`` (FLAME_PyTorch, smplx), which count yaw the other way round.

        Raises
        ------
        ValueError
            If the convention is unknown.
        """
        if convention not in YAW_SIGNS:
            raise ValueError(f"convention: expected one of {', '.join(YAW_SIGNS)}, found {convention!r}")
        rows = contour_rows(YAW_SIGNS[convention] * head_yaw(rotations), len(self.contour_faces))
        contour = barycentric_points(vertices, triangles, self.contour_faces[rows], self.contour_barycentric[rows])
        return torch.cat((contour, self.static.points(vertices, triangles)), dim=1)
