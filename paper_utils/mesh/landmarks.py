"""Points on a mesh: a triangle and barycentric weights for each.

Landmarks given this way move with the surface, need no vertex of their own, and pass gradients on to the three corners.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

BARYCENTRIC_TOLERANCE = 1e-3  # choice of ours: weights are stored with few digits in some files


def barycentric_points(
    vertices: Float[Tensor, "#batch vertices 3"],
    triangles: Int[Tensor, "triangles 3"],
    faces: Int[Tensor, "#batch points"],
    barycentric: Float[Tensor, "#batch points 3"],
) -> Float[Tensor, "#batch points 3"]:
    r"""Points on the surface, possibly other ones for each mesh of the batch.

    .. math:: p = w_1 v_a + w_2 v_b + w_3 v_c

    Parameters
    ----------
    vertices
        Any unit.
    triangles
        Vertex indices, from 0.
    faces
        Which triangle each point lies on; a batch of one serves all meshes.
    barycentric
        Weights of its corners in the order of `triangles`.
    """
    corners = triangles[faces]  # (batch, points, 3)
    batch = max(len(vertices), len(corners))
    corners = corners.expand(batch, -1, -1)
    chosen = vertices.expand(batch, -1, -1).gather(1, corners.reshape(batch, -1, 1).expand(-1, -1, 3))
    return (chosen.reshape(*corners.shape, 3) * barycentric.to(vertices)[..., None]).sum(-2)


def check_barycentric(faces: Tensor, barycentric: Tensor, name: str, triangles: int | None = None) -> None:
    """Refuse weights that are no barycentric coordinates, and triangle numbers below 0 or beyond `triangles`.

    Raises
    ------
    ValueError
        Names the array, what was found and what was expected.
    """
    if faces.shape != barycentric.shape[:-1] or barycentric.shape[-1] != 3 or faces.numel() == 0:
        raise ValueError(
            f"{name}: expected one triangle and three weights for each point, found shapes {tuple(faces.shape)} and {tuple(barycentric.shape)}"
        )
    off = (barycentric.double().sum(-1) - 1).abs().max().item()
    if not off <= BARYCENTRIC_TOLERANCE:  # NaN is caught too
        raise ValueError(f"{name}: barycentric weights must sum to 1, found a sum that is off by {off:g}")
    low, high = int(faces.min()), int(faces.max())
    if low < 0 or (triangles is not None and high >= triangles):
        raise ValueError(
            f"{name}: expected triangle numbers in 0..{(triangles or 0) - 1}, found {low}..{high}; do they belong to another mesh?"
        )


@dataclass(frozen=True)
class Landmarks:
    """Named points of a mesh, in the field's order (68 points as in Multi-PIE: contour, brows, nose, eyes, mouth).

    Parameters
    ----------
    faces
        Triangle of each point.
    barycentric
        Weights of the triangle's corners; rows sum to one.

    Raises
    ------
    ValueError
        If lengths differ, weights do not sum to one, or a triangle number is negative.
    """

    faces: Int[Tensor, " points"]
    barycentric: Float[Tensor, "points 3"]

    def __post_init__(self) -> None:
        check_barycentric(self.faces, self.barycentric, "landmarks")

    def __len__(self) -> int:
        return len(self.faces)

    def points(
        self, vertices: Float[Tensor, "batch vertices 3"], triangles: Int[Tensor, "triangles 3"]
    ) -> Float[Tensor, "batch points 3"]:
        """Positions on the given meshes, in the unit of `vertices`."""
        return barycentric_points(vertices, triangles, self.faces[None], self.barycentric[None])

    @staticmethod
    def from_vertices(
        indices: Sequence[int] | Int[np.ndarray, " points"], triangles: Int[Tensor, "triangles 3"]
    ) -> Landmarks:
        """Landmarks that are vertices: each is put on the first triangle it is a corner of.

        Parameters
        ----------
        indices
            Vertex numbers, from 0.
        triangles
            Of the mesh.

        Raises
        ------
        ValueError
            If a vertex is not a corner of any triangle.
        """
        indices, corners = np.asarray(indices, dtype=np.int64), triangles.cpu().numpy().reshape(-1)
        first = np.full(int(corners.max(initial=-1)) + 1, -1)
        first[corners[::-1]] = np.arange(len(corners))[::-1]  # the last write, the first occurrence, stays
        known = (indices >= 0) & (indices < len(first))
        known[known] = first[indices[known]] >= 0
        if not known.all():
            raise ValueError(
                f"landmarks: vertices {indices[~known][:5].tolist()} are corners of no triangle; do the numbers start at 0 and belong to this mesh?"
            )
        where = torch.from_numpy(first[indices])
        return Landmarks(where // 3, torch.eye(3, dtype=torch.float64)[where % 3])
