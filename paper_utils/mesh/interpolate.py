"""Values at the pixels of a picture from values at the corners of its triangles, differentiable in both and in the corners' positions.

The gradient is written by hand: it needs half the memory of recorded steps and avoids the slow gradient of indexed reads.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from paper_utils.mesh.rasterize import check_points
from paper_utils.mesh.topology import Topology


class _Interpolation(torch.autograd.Function):
    r"""Barycentric mean of three corners at each covered pixel.

    With corners relative to the pixel centre, :math:`n_0 = x_1 y_2 - x_2 y_1` (and cyclic), inverse depths :math:`q_k` (1 for
    a parallel camera), :math:`S = \sum_k n_k q_k`, :math:`w_k = n_k q_k / S`, the value is :math:`\sum_k w_k a_k`. For an upstream
    gradient g: :math:`e_k = (g a_k - \sum_j w_j\, g a_j) / S`, the gradient of :math:`a_k` is :math:`w_k g`, of :math:`q_k`
    :math:`e_k n_k`, and of corner 0 with :math:`h_k = e_k q_k`: :math:`(h_2 y_1 - h_1 y_2,\ h_1 x_2 - h_2 x_1)` (and cyclic).
    """

    @staticmethod
    def forward(
        ctx: Any, places: Tensor, values: Tensor, corners: Tensor, pixels: Tensor, centres: Tensor, total: int
    ) -> Tensor:
        """Places (2 or 3, points), values (channel, points), corners (3 covered), pixels (covered), centres (2, covered)."""
        near = places.index_select(1, corners).view(len(places), 3, -1)
        x, y = near[0] - centres[0], near[1] - centres[1]
        areas = torch.stack((x[1] * y[2] - x[2] * y[1], x[2] * y[0] - x[0] * y[2], x[0] * y[1] - x[1] * y[0]))
        inverse = near[2] if len(places) == 3 else None
        parts = areas if inverse is None else areas * inverse
        whole = parts.sum(0)
        # A sliver seen exactly from its edge: weights of zero and no gradient instead of 0/0.
        reciprocal = whole.reciprocal().masked_fill_(whole == 0, 0)
        weights = parts * reciprocal
        at_corners = values.index_select(1, corners).view(len(values), 3, -1)
        found = (at_corners[:, 0] * weights[0]).addcmul_(at_corners[:, 1], weights[1])
        found.addcmul_(at_corners[:, 2], weights[2])
        ctx.save_for_backward(x, y, inverse, areas, reciprocal, weights, at_corners, corners, pixels)
        ctx.sizes = (places.shape, values.shape)
        return found.new_zeros(len(values), total).index_copy_(1, pixels, found)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of `places` and `values`; everything else is an index."""
        x, y, inverse, areas, reciprocal, weights, at_corners, corners, pixels = ctx.saved_tensors
        places_shape, values_shape = ctx.sizes
        gradient = gradients[0].index_select(1, pixels)
        places_gradient = values_gradient = None
        if ctx.needs_input_grad[1]:
            by_corner = (gradient[:, None] * weights).view(len(gradient), -1)
            values_gradient = gradient.new_zeros(values_shape).index_add_(1, corners, by_corner)
        if ctx.needs_input_grad[0]:
            change = torch.stack([(gradient * at_corners[:, k]).sum(0) for k in range(3)])
            change = (change - (weights * change).sum(0)) * reciprocal
            pull = change if inverse is None else change * inverse
            rows = [
                torch.stack([pull[k - 1] * y[k - 2] - pull[k - 2] * y[k - 1] for k in range(3)]).view(-1),
                torch.stack([pull[k - 2] * x[k - 1] - pull[k - 1] * x[k - 2] for k in range(3)]).view(-1),
            ]
            if inverse is not None:
                rows.append((change * areas).view(-1))
            places_gradient = gradient.new_zeros(places_shape).index_add_(1, corners, torch.stack(rows))
        return places_gradient, values_gradient, None, None, None, None


def interpolate(
    points: Float[Tensor, "batch vertices 3"],
    values: Float[Tensor, "batch vertices channel"],
    faces: Topology | Int[Tensor, "triangles 3"],
    face_ids: Int[Tensor, "batch height width"],
    *,
    perspective: bool = False,
) -> Float[Tensor, "batch channel height width"]:
    """Spread vertex values over the pixels; zero where no triangle is seen.

    The gradient reaches `values` and the columns and rows of `points` (and their depth with `perspective`): textures and shading
    that move with the surface. What appears or vanishes at a silhouette gives none, since `face_ids` are integers.

    Parameters
    ----------
    points
        As in `visible_faces`.
    values
        Any number of channels at each vertex.
    faces, face_ids
        Triangles, and the result of `visible_faces` for them.
    perspective
        Weight corners by inverse depth, as a pinhole camera shows a flat triangle.

    Raises
    ------
    ValueError
        If points are not finite, or the triangles or the number of vertices do not match.
    """
    check_points("points", points)
    if values.shape[:2] != points.shape[:2]:
        raise ValueError(
            f"values: expected (batch, vertices, channel) with batch and vertices {tuple(points.shape[:2])}, "
            f"found {tuple(values.shape)}"
        )
    topology = Topology.of(faces, points.shape[1])
    batch, height, width = face_ids.shape
    flat = face_ids.reshape(-1)
    pixels = (flat >= 0).nonzero()[:, 0]
    image = torch.div(pixels, height * width, rounding_mode="floor")
    corners = topology.faces.t().index_select(1, flat.index_select(0, pixels)).mul_(batch).add_(image).view(-1)
    places, spread = (tensor.permute(2, 1, 0).reshape(tensor.shape[2], -1) for tensor in (points, values))
    if perspective:
        depth = places[2:]
        drawn = depth > 0
        inverse = torch.where(drawn, torch.where(drawn, depth, 1).reciprocal(), 0)
        places = torch.cat((places[:2], inverse))
    else:
        places = places[:2]
    found = _Interpolation.apply(
        places, spread, corners, pixels, _centres(pixels, image, height, width, points.dtype), len(flat)
    )
    return found.view(-1, batch, height, width).transpose(0, 1)


def _centres(pixels: Tensor, image: Tensor, height: int, width: int, dtype: torch.dtype) -> Float[Tensor, "2 covered"]:
    """Column and row of the centres of numbered pixels, in pixels."""
    within = pixels - image * (height * width)
    row = torch.div(within, width, rounding_mode="floor")
    return torch.stack((within - row * width, row)).to(dtype).add_(0.5)


@torch.no_grad()
def depth_at(
    points: Float[Tensor, "batch vertices 3"],
    topology: Topology,
    triangles: Int[Tensor, " places"],
    images: Int[Tensor, " places"],
    columns: Float[Tensor, " places"],
    rows: Float[Tensor, " places"],
) -> Float[Tensor, " places"]:
    """Depth of a triangle's plane at places of the picture, kept within the depths of its corners; infinite for triangle -1.

    Parameters
    ----------
    points
        As in `visible_faces`.
    triangles, images
        Which triangle of which picture at each place.
    columns, rows
        The places, in pixels.
    """
    corners = topology.faces.index_select(0, triangles.clamp_min(0)) + (images * points.shape[1])[:, None]
    near = points.reshape(-1, 3).index_select(0, corners.view(-1)).view(-1, 3, 3)
    x, y, z = near[:, :, 0] - columns[:, None], near[:, :, 1] - rows[:, None], near[:, :, 2]
    areas = x.roll(-1, 1) * y.roll(-2, 1) - x.roll(-2, 1) * y.roll(-1, 1)
    depth = (areas * z).sum(1) / areas.sum(1)
    depth = torch.minimum(torch.maximum(depth, z.amin(1)), z.amax(1))
    return depth.masked_fill(triangles < 0, torch.inf)
