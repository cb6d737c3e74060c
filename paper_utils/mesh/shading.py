r"""How light falls on a surface: vertex normals, second-order spherical harmonics, and other people's conventions for them.

Nine numbers of light in the plain basis :math:`h = (1, x, y, z, xy, xz, yz, x^2-y^2, 3z^2-1)` of the unit normal in the camera
frame (x right, y up, z toward the camera). Linear light: nothing here clamps at one or applies a display curve.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from paper_utils.mesh.rasterize import check_points
from paper_utils.mesh.topology import Topology

TINY = 1e-20  # squared length below which a vector has no direction

# Real spherical harmonics are c_k h_k; A_n = pi, 2 pi / 3, pi / 4 turn radiance into irradiance (Ramamoorthi and Hanrahan, 2001).
HARMONIC = (0.282095, 0.488603, 0.488603, 0.488603, 1.092548, 1.092548, 1.092548, 0.546274, 0.315392)
COSINE = (math.pi,) + (2 * math.pi / 3,) * 3 + (math.pi / 4,) * 5

# Factors of DECA's basis functions, in the order of the plain basis (its released code).
DECA_FACTORS = (0.28209, 1.02333, 1.02333, 1.02333, 0.85809, 0.85809, 0.85809, 0.42904, 0.24771)

# Deep3D's basis (its released code): 1, -y, z, -x, xy, -yz, 3z^2-1, -xz, x^2-y^2, with these factors and signs.
DEEP3D_FACTORS = (0.88623, -1.77245, 1.77245, -1.77245, 2.42703, -2.42703, 0.70062, -2.42703, 1.21351)
DEEP3D_ORDER = (0, 2, 3, 1, 4, 6, 8, 5, 7)  # the plain basis function in each of its places
DEEP3D_AMBIENT = 0.8  # added to the constant term of each channel, so that zeros mean an evenly lit face


class _CornerNormals(torch.autograd.Function):
    """Sum of the cross products of the triangles around each vertex: twice their area times their normal."""

    @staticmethod
    def forward(ctx: Any, vertices: Tensor, topology: Topology) -> Tensor:
        """Vertices (vertices, 3, batch), a layout in which one gather moves a vertex of all images."""
        rows = vertices.reshape(len(vertices), vertices.shape[1] * vertices.shape[2])
        first, second, third = topology.gather(rows).view(3, len(topology), *vertices.shape[1:])
        along, across = second - first, third - first
        ctx.save_for_backward(along, across)
        ctx.topology = topology
        products = _cross(along, across)
        return topology.sum_faces(products.view(len(topology), rows.shape[1])).view_as(vertices)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """With c = a x b: the gradient of a is b x g, of b it is g x a."""
        along, across = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        topology: Topology = ctx.topology
        pulls = topology.gather(gradient.flatten(1)).sum(0).view_as(along)
        second, third = _cross(across, pulls), _cross(pulls, along)
        corners = torch.stack((-(second + third), second, third)).flatten(2)
        return topology.sum_corners(corners).view_as(gradient), None


def _cross(a: Tensor, b: Tensor) -> Tensor:
    """Cross product along dimension 1; written out, since torch's is slow when another dimension is innermost."""
    (a0, a1, a2), (b0, b1, b2) = a.unbind(1), b.unbind(1)
    return torch.stack((a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0), dim=1)


def unit(vectors: Float[Tensor, "*place"], dim: int) -> Float[Tensor, "*place"]:
    """Vectors at length one; those without a direction become zero and get no gradient."""
    squared = (vectors * vectors).sum(dim, keepdim=True)
    return vectors * squared.clamp_min(TINY).rsqrt().masked_fill(squared <= TINY, 0.0)


def vertex_normals(
    vertices: Float[Tensor, "batch vertices 3"], faces: Topology | Int[Tensor, "triangles 3"]
) -> Float[Tensor, "batch vertices 3"]:
    """Unit normals at the vertices: mean of the normals of the triangles around, weighted by their areas.

    Zero at vertices around which all triangles are degenerate, with a gradient of zero there.

    Parameters
    ----------
    vertices
        Any unit of length; areas below 1e-10 of its square count as none.
    faces
        Counter-clockwise seen from outside gives normals that point outward.

    Raises
    ------
    ValueError
        If vertices are not finite or a triangle points to a vertex that does not exist.
    """
    check_points("vertices", vertices)
    topology = Topology.of(faces, vertices.shape[1])
    if not vertices.numel():
        return torch.zeros_like(vertices)
    sums = _CornerNormals.apply(vertices.permute(1, 2, 0).contiguous(), topology)
    return unit(sums, 1).permute(2, 0, 1)


class _Shading(torch.autograd.Function):
    """Clamped sum of the nine basis functions; the gradient of the normal is again linear in (1, x, y, z)."""

    @staticmethod
    def forward(ctx: Any, normals: Tensor, rows: Tensor) -> Tensor:
        """Normals (batch, 3, places), light (batch, colour, 9)."""
        basis = sh_basis(normals)
        found = (rows @ basis).clamp_min_(0)
        ctx.save_for_backward(basis, rows, found)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """With J (3 by 4) of each colour: the gradient of the normal is the sum over colours of g J (1, x, y, z)."""
        basis, rows, found = ctx.saved_tensors
        gradient = gradients[0] * (found > 0)
        to_light = gradient @ basis.transpose(1, 2) if ctx.needs_input_grad[1] else None
        if not ctx.needs_input_grad[0]:
            return None, to_light
        slopes = rows.new_zeros(*rows.shape[:2], 3, 4)
        slopes[..., 0] = rows[..., 1:4]
        for first, second, place in ((0, 1, 4), (0, 2, 5), (1, 2, 6)):
            slopes[..., first, second + 1] = slopes[..., second, first + 1] = rows[..., place]
        slopes[..., 0, 1], slopes[..., 1, 2], slopes[..., 2, 3] = 2 * rows[..., 7], -2 * rows[..., 7], 6 * rows[..., 8]
        to_normals = sum(
            (slopes[:, colour] @ basis[:, :4]).mul_(gradient[:, colour, None]) for colour in range(rows.shape[1])
        )
        return to_normals, to_light


def sh_basis(normals: Float[Tensor, "batch 3 *place"]) -> Float[Tensor, "batch 9 *place"]:
    r"""The nine basis functions :math:`1, x, y, z, xy, xz, yz, x^2-y^2, 3z^2-1` of unit normals.

    Examples
    --------
    >>> sh_basis(torch.tensor([[0.0, 0.0, 1.0]])).tolist()
    [[1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 2.0]]
    """
    x, y, z = normals.unbind(1)
    return torch.stack((torch.ones_like(x), x, y, z, x * y, x * z, y * z, x * x - y * y, 3 * z * z - 1), dim=1)


def shade(
    normals: Float[Tensor, "batch 3 height width"], light: Float[Tensor, "batch 9"] | Float[Tensor, "batch 9 3"]
) -> Float[Tensor, "batch colour height width"]:
    r"""Light that each pixel's surface returns at reflectance one (CEST, section on image formation).

    .. math:: \max\Big(0, \sum_{k=1}^{9} l_k h_k(n(p))\Big)

    Parameters
    ----------
    normals
        Unit normals in the camera frame.
    light
        Coefficients of the plain basis: nine for white light (one channel out), or nine for each of red, green, blue.

    Raises
    ------
    ValueError
        If the light has another shape or is not finite.
    """
    if light.ndim not in (2, 3) or light.shape[:2] != (len(normals), 9) or light.shape[2:] not in ((), (3,)):
        raise ValueError(
            f"light: expected shape ({len(normals)}, 9) or ({len(normals)}, 9, 3), found {tuple(light.shape)}"
        )
    if not torch.isfinite(light).all():
        raise ValueError(
            f"light: {int((~torch.isfinite(light)).sum())} of {light.numel()} coefficients are NaN or infinite"
        )
    batch, _, height, width = normals.shape
    rows = light[:, None] if light.ndim == 2 else light.transpose(1, 2)
    return _Shading.apply(normals.reshape(batch, 3, height * width), rows).view(batch, rows.shape[1], height, width)


def directional_light(
    direction: Float[Tensor, "batch 3"], irradiance: Float[Tensor, " batch"], ambient: Float[Tensor, " batch"]
) -> Float[Tensor, "batch 9"]:
    r"""A distant lamp and an even surround, seen by a Lambertian surface, in the plain basis.

    .. math:: l_k = \frac{e}{\pi}\, A_{n(k)}\, c_k^2\, h_k(d) + a\,[k = 1]

    Parameters
    ----------
    direction
        From the face toward the lamp, in the camera frame; any length but zero.
    irradiance
        :math:`e`, on a surface that faces the lamp: a white surface then returns about :math:`e / \pi`.
    ambient
        :math:`a`, returned by a white surface whatever its normal.

    Raises
    ------
    ValueError
        If a direction has no length, a number is not finite, or an irradiance or ambient is negative.

    References
    ----------
    Ramamoorthi and Hanrahan (2001), An efficient representation for irradiance environment maps.
    """
    lengths = torch.linalg.vector_norm(direction, dim=1)
    if not (torch.isfinite(lengths).all() and (lengths > 0).all()):
        raise ValueError(f"direction: expected finite vectors of some length, found lengths {lengths.tolist()[:5]}")
    for name, value in (("irradiance", irradiance), ("ambient", ambient)):
        if not (torch.isfinite(value).all() and (value >= 0).all()):
            raise ValueError(f"{name}: expected finite numbers of at least 0, found {value.tolist()[:5]}")
    scale = direction.new_tensor([a * c * c / math.pi for a, c in zip(COSINE, HARMONIC, strict=True)])
    lamp = irradiance[:, None] * scale * sh_basis(direction / lengths[:, None])
    return torch.cat((lamp[:, :1] + ambient[:, None], lamp[:, 1:]), dim=1)


def light_from_deca(coefficients: Float[Tensor, "batch 9 3"]) -> Float[Tensor, "batch 9 3"]:
    """DECA's light code (nine numbers for each of red, green, blue) in the plain basis."""
    return coefficients * coefficients.new_tensor(DECA_FACTORS)[:, None]


def light_to_deca(light: Float[Tensor, "batch 9 3"]) -> Float[Tensor, "batch 9 3"]:
    """Inverse of `light_from_deca`."""
    return light / light.new_tensor(DECA_FACTORS)[:, None]


def light_from_deep3d(coefficients: Float[Tensor, "batch 27"]) -> Float[Tensor, "batch 9 3"]:
    """Deep3D's 27 light coefficients (nine for red, then green, then blue; zeros are an evenly lit face) in the plain basis."""
    own = coefficients.view(-1, 3, 9).transpose(1, 2)
    ambient = torch.zeros_like(own)
    ambient[:, 0] = DEEP3D_AMBIENT
    scaled = (own + ambient) * coefficients.new_tensor(DEEP3D_FACTORS)[:, None]
    return scaled[:, [DEEP3D_ORDER.index(k) for k in range(9)]]


def light_to_deep3d(light: Float[Tensor, "batch 9 3"]) -> Float[Tensor, "batch 27"]:
    """Inverse of `light_from_deep3d`."""
    own = light[:, list(DEEP3D_ORDER)] / light.new_tensor(DEEP3D_FACTORS)[:, None]
    ambient = torch.zeros_like(own)
    ambient[:, 0] = DEEP3D_AMBIENT
    return (own - ambient).transpose(1, 2).reshape(-1, 27)
