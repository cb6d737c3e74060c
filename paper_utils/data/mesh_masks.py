"""Soft masks over the vertices of a face: text files of the MeshTalk release, and masks of the same kind for any other mesh.

The authors picked cores by hand; outside they let the weight fall with the distance along the surface.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra
from torch import Tensor

from paper_utils import safe_files
from paper_utils.files import write_text

# Measured on the released masks: outside the core close to exp(-d / 9.5 mm).
RELEASED_SCALE_MM = 9.5
SCALE_MM = 10.0


def edge_distances(
    vertices: Float[Tensor, "vertices 3"], faces: Int[Tensor, "triangles 3"], core: Bool[Tensor, " core_values"]
) -> Float[Tensor, " vertices"]:
    """Length of the shortest way along edges from each vertex to the nearest one of the core.

    Parameters
    ----------
    vertices
        Positions; the result has their unit.
    faces
        Triangles.
    core
        Where the distance is 0.

    Returns
    -------
    Tensor
        Infinite where no way leads to the core.

    Raises
    ------
    ValueError
        If the core is empty or has another length.
    """
    count = len(vertices)
    if core.shape != (count,) or not core.any():
        raise ValueError(
            f"core: expected {count} truth values, one at least true; found {tuple(core.shape)}, {int(core.sum())} true"
        )
    if faces.numel() == 0 or int(faces.min()) < 0 or int(faces.max()) >= count:
        raise ValueError(f"faces: expected triangles over {count} vertices; found shape {tuple(faces.shape)}")
    corners = faces.numpy()
    pairs = np.sort(np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [2, 0]]]), axis=1)
    pairs = np.unique(pairs, axis=0)
    positions = vertices.double().numpy()
    lengths = np.linalg.norm(positions[pairs[:, 0]] - positions[pairs[:, 1]], axis=1)
    # A zero in a sparse graph is no edge: vertices that coincide stay connected by a very short one.
    graph = csr_matrix((np.maximum(lengths, 1e-9), pairs.T), shape=(count, count))
    found = dijkstra(graph, directed=False, indices=np.flatnonzero(core.numpy()), min_only=True)
    return torch.from_numpy(np.asarray(found)).float()


def soft_mask(
    vertices: Float[Tensor, "vertices 3"],
    faces: Int[Tensor, "triangles 3"],
    core: Bool[Tensor, " core_values"],
    *,
    scale_mm: float = SCALE_MM,
    least: float = 1e-3,
) -> Float[Tensor, " vertices"]:
    r"""Weight 1 on a core, falling with the distance along the surface.

    .. math:: m_v = \max\bigl(e^{-d_v / \lambda},\; m_0\bigr)

    Parameters
    ----------
    vertices, faces, core
        As for `edge_distances`; mm.
    scale_mm
        :math:`\lambda`.
    least
        :math:`m_0`: what every vertex gets, pieces that no edge joins to the core (eyeballs) as well, so that nothing is left to itself.

    Raises
    ------
    ValueError
        If the scale is not positive, `least` is not in [0, 1), or as `edge_distances`.

    References
    ----------
    Paper 04: masks "high" on their region and "low" elsewhere; the form was measured on the released files.
    """
    if not scale_mm > 0 or not 0 <= least < 1:
        raise ValueError(f"soft_mask: expected scale_mm > 0 and least in [0, 1), found {scale_mm} and {least}")
    return torch.exp(-edge_distances(vertices, faces, core) / scale_mm).clamp(min=least)


def region_of(indices: ArrayLike, vertices: int, *, name: str = "region") -> Bool[Tensor, " vertices"]:
    """A region from a list of vertex numbers, such as the lips or the upper face that a follow-up publishes.

    Parameters
    ----------
    indices
        Vertex numbers, from 0.
    vertices
        How many the mesh has.
    name
        For the message.

    Raises
    ------
    ValueError
        If it is empty or names a vertex that is not there.
    """
    numbers = np.asarray(indices)
    if (
        numbers.ndim != 1
        or not numbers.size
        or numbers.dtype.kind not in "iu"
        or numbers.min() < 0
        or numbers.max() >= vertices
    ):
        raise ValueError(
            f"{name}: expected a list of vertex numbers in 0..{vertices - 1}, found {numbers.ravel()[:5].tolist()} ({numbers.size} entries); "
            "is the list of another mesh, or does it count from 1?"
        )
    region = torch.zeros(vertices, dtype=torch.bool)
    region[torch.from_numpy(numbers.astype(np.int64))] = True
    return region


def read_mask(path: str | Path, vertices: int) -> Float[Tensor, " vertices"]:
    """A mask in the format of the release: a text file with one number in [0, 1] a line, one line a vertex.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it has another number of lines, something that is no number, or a weight outside [0, 1]; line and value are named.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such mask; expected a text file with one weight a line")
    lines = safe_files.text(path, "a mask with one weight a line").split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    values = np.empty(len(lines), dtype=np.float32)
    for number, line in enumerate(lines):
        try:
            values[number] = float(line)
        except ValueError:
            raise ValueError(f"{path}: line {number + 1} is {line.strip()[:40]!r}, expected one number") from None
    if len(lines) != vertices:
        raise ValueError(
            f"{path}: expected {vertices} lines, one a vertex, found {len(lines)}; the mask belongs to another mesh or the file is cut off"
        )
    wrong = np.flatnonzero(~((values >= 0) & (values <= 1)))
    if len(wrong):
        raise ValueError(f"{path}: line {wrong[0] + 1} is {values[wrong[0]]:g}, expected a weight in [0, 1]")
    return torch.from_numpy(values)


def write_mask(path: str | Path, mask: Float[Tensor, " vertices"]) -> None:
    """Write a mask in the format of the release; `read_mask` gives back the same float32 numbers.

    Raises
    ------
    ValueError
        If a weight is outside [0, 1] or not finite.
    """
    if not ((mask >= 0) & (mask <= 1)).all():
        raise ValueError(f"{path}: expected weights in [0, 1], found {float(mask.min()):g} to {float(mask.max()):g}")
    write_text(Path(path), "".join(f"{float(value):.9g}\n" for value in mask))
