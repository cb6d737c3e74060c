"""The triangles of a mesh that never change while its vertices move, with the index lists derived from them.

A face model has one topology for all its shapes, so the sums over incident triangles and the edge list are prepared once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Topology:
    """Triangles over a known number of vertices; build it with `Topology.of`, once for each mesh.

    Parameters
    ----------
    faces
        Vertex indices, counter-clockwise seen from outside.
    vertices
        Number of vertices of the mesh.
    """

    faces: Int[Tensor, "triangles 3"]
    vertices: int

    @classmethod
    def of(cls, faces: Topology | Int[Tensor, "triangles 3"], vertices: int) -> Topology:
        """Check triangles against the number of vertices that they index; a `Topology` passes through.

        Raises
        ------
        ValueError
            If a vertex index is negative or not below `vertices`, or a `Topology` was built for another number of vertices.
        """
        if isinstance(faces, Topology):
            if faces.vertices != vertices:
                raise ValueError(
                    f"faces: this topology was built for {faces.vertices} vertices, the mesh has {vertices}; "
                    "build another one with Topology.of"
                )
            return faces
        if faces.ndim != 2 or faces.shape[1] != 3:
            raise ValueError(f"faces: expected shape (triangles, 3), found {tuple(faces.shape)}")
        if faces.numel():
            low, high = (int(bound) for bound in torch.aminmax(faces))
            if low < 0 or high >= vertices:
                raise ValueError(
                    f"faces: vertex indices run from {low} to {high}, but the mesh has {vertices} vertices (0 to {vertices - 1}); "
                    "do the triangles belong to another mesh, or are they counted from 1?"
                )
        return cls(faces.long(), vertices)

    def __len__(self) -> int:
        return len(self.faces)

    @cached_property
    def corners(self) -> Int[Tensor, " three_triangles"]:
        """First corners of all triangles, then all second, then all third ones."""
        return self.faces.t().reshape(-1).contiguous()

    @cached_property
    def _by_vertex(self) -> tuple[Tensor, Tensor]:
        """Corner numbers sorted by their vertex, and where each vertex's run begins."""
        order = torch.argsort(self.corners, stable=True)
        counts = torch.bincount(self.corners, minlength=self.vertices)
        return order, counts.cumsum(0) - counts

    @cached_property
    def _faces_by_vertex(self) -> tuple[Tensor, Tensor]:
        order, starts = self._by_vertex
        return order % max(len(self), 1), starts

    def gather(self, values: Float[Tensor, "vertices width"]) -> Float[Tensor, "3 triangles width"]:
        """Rows of the three corners of every triangle."""
        return values.index_select(0, self.corners).view(3, len(self), values.shape[1])

    def sum_corners(self, values: Float[Tensor, "3 triangles width"]) -> Float[Tensor, "vertices width"]:
        """Transpose of `gather`: to each vertex the sum over the corners that lie on it, in an order that never varies."""
        return self._sum(values.reshape(3 * len(self), values.shape[2]), *self._by_vertex)

    def sum_faces(self, values: Float[Tensor, "triangles width"]) -> Float[Tensor, "vertices width"]:
        """To each vertex the sum over the triangles that touch it."""
        return self._sum(values, *self._faces_by_vertex)

    def _sum(self, values: Tensor, order: Tensor, starts: Tensor) -> Tensor:
        if not len(self):
            return values.new_zeros(self.vertices, values.shape[1])
        # A bag of embeddings is a gather and a sum in one pass, several times faster than index_add on rows.
        return F.embedding_bag(order, values, starts, mode="sum")

    @cached_property
    def edges(self) -> Int[Tensor, "edges 4"]:
        """Every edge once: start, end, vertex opposite in the triangle that runs start to end, vertex opposite in the other or -1.

        Of an edge with more than two triangles, the first two count.
        """
        first, second, third = self.faces.unbind(1)
        start, end = torch.cat((first, second, third)), torch.cat((second, third, first))
        opposite = torch.cat((third, first, second))
        name = torch.minimum(start, end) * self.vertices + torch.maximum(start, end)
        order = torch.argsort(name, stable=True)
        name = name[order]
        changes = name[1:] != name[:-1]
        begins = torch.ones(min(len(name), 1), dtype=torch.bool, device=name.device)
        is_first = torch.cat((begins, changes))
        has_second = torch.cat((~changes, ~begins))[is_first]
        rank = is_first.nonzero()[:, 0]
        other = torch.full_like(rank, -1)
        other[has_second] = opposite[order[rank[has_second] + 1]]
        kept = order[rank]
        return torch.stack((start[kept], end[kept], opposite[kept], other), dim=1)
