"""Pictures on surfaces: reading a texture at UV coordinates, and the way back, from a photograph to UV space.

UV coordinates run from (0, 0) at the top left to (1, 1) at the bottom right of the texture; the centre of texel (column i, row j)
is ((i + 0.5) / width, (j + 0.5) / height), so flipping the width axis is the exact mirror of a map that is symmetric about u = 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from paper_utils.mesh.interpolate import depth_at
from paper_utils.mesh.rasterize import check_points, checked_size, visible_faces
from paper_utils.mesh.topology import Topology

# Choices of ours, from looking at unwrapped heads at 64 and 128 pixels.
MIN_FACING = 0.2  # cosine of 78 degrees: beyond it one pixel smears over many texels
TOLERANCE_MM = 3.0  # a nose hides a cheek by more, a surface at a pixel's other edge lies deeper by less


def sample_texture(
    texture: Float[Tensor, "batch channel texture_height texture_width"], uv: Float[Tensor, "batch 2 height width"]
) -> Float[Tensor, "batch channel height width"]:
    """Texture read at each pixel's (u, v), bilinearly; the border texel is repeated outside. Differentiable in both.

    Raises
    ------
    ValueError
        If there are not as many textures as UV images.
    """
    if len(texture) != len(uv):
        raise ValueError(
            f"texture: expected one for each of {len(uv)} images, found {len(texture)}; use expand to share one"
        )
    grid = torch.addcmul(uv.new_tensor(-1.0), uv, uv.new_tensor(2.0)).permute(0, 2, 3, 1)
    return F.grid_sample(texture, grid, mode="bilinear", padding_mode="border", align_corners=False)


@dataclass(frozen=True)
class UvMap:
    """Which point of the mesh each texel shows; the same for every shape of a model. Build it with `uv_coverage`.

    Parameters
    ----------
    topology
        The triangles.
    face_ids
        Triangle at each texel centre, -1 outside the UV islands.
    texels
        Numbers (row times width plus column) of the covered texels.
    corners
        The three vertices of each covered texel's triangle.
    weights
        Their barycentric weights, summing to one.
    """

    topology: Topology
    face_ids: Int[Tensor, "texture_height texture_width"]
    texels: Int[Tensor, " texels"]
    corners: Int[Tensor, "3 texels"]
    weights: Float[Tensor, "3 texels"]

    @property
    def mask(self) -> Bool[Tensor, "texture_height texture_width"]:
        """Texels that lie on the mesh."""
        return self.face_ids >= 0

    def spread(self, values: Float[Tensor, "batch vertices channel"]) -> Float[Tensor, "batch texels channel"]:
        """Vertex values at the covered texels. Differentiable."""
        batch, vertices, channel = values.shape
        rows = values.transpose(0, 1).reshape(vertices, -1).index_select(0, self.corners.view(-1))
        mixed = (rows.view(3, -1, batch * channel) * self.weights[:, :, None]).sum(0)
        return mixed.view(-1, batch, channel).transpose(0, 1)

    def place(self, values: Float[Tensor, "batch texels channel"]) -> Float[Tensor, "batch channel height width"]:
        """Values of the covered texels as pictures, zero outside."""
        batch, _, channel = values.shape
        picture = values.new_zeros(batch, channel, self.face_ids.numel())
        return picture.index_copy(2, self.texels, values.transpose(1, 2)).view(batch, channel, *self.face_ids.shape)


def uv_coverage(
    uv: Float[Tensor, "vertices 2"], faces: Topology | Int[Tensor, "triangles 3"], size: tuple[int, int]
) -> UvMap:
    """Map from texels to the mesh: the same drawing step as for pictures, run once in UV space.

    Parameters
    ----------
    uv
        Coordinates in [0, 1], either winding; v runs down, so turn it round (1 - v) if it comes from a file with v up.
    faces
        Triangles that index the rows of `uv`.
    size
        Height and width of the texture.

    Raises
    ------
    ValueError
        If coordinates are not finite, the triangles do not match, or no texel is covered.
    """
    height, width = checked_size(size)
    topology = Topology.of(faces, len(uv))
    points = F.pad(uv * uv.new_tensor([width, height]), (0, 1))[None]
    check_points("uv", points)
    ids = visible_faces(points, topology, (height, width))[0]
    texels = (ids.view(-1) >= 0).nonzero()[:, 0]
    if not len(texels):
        raise ValueError(
            f"uv: no texel centre of a {height} x {width} texture is covered; u runs from {float(uv[:, 0].min()):g} to "
            f"{float(uv[:, 0].max()):g}, expected numbers within 0 to 1"
        )
    corners = topology.faces.index_select(0, ids.view(-1)[texels]).t().contiguous()
    centres = torch.stack((texels % width, torch.div(texels, width, rounding_mode="floor"))) + 0.5
    x, y = (points[0, :, :2].t()[:, corners] - centres[:, None]).unbind(0)
    areas = x.roll(-1, 0) * y.roll(-2, 0) - x.roll(-2, 0) * y.roll(-1, 0)
    return UvMap(topology, ids, texels, corners, areas / areas.sum(0))


@dataclass(frozen=True)
class Unwrapped:
    """Photographs in UV space.

    Parameters
    ----------
    images
        What the photograph shows at each texel's place, also where that is not the face; zero outside the UV islands.
    visible
        Texels that the photograph really shows: turned to the camera, not hidden, inside the frame.
    """

    images: Float[Tensor, "batch channel texture_height texture_width"]
    visible: Bool[Tensor, "batch 1 texture_height texture_width"]


def unwrap(
    images: Float[Tensor, "batch channel height width"],
    points: Float[Tensor, "batch vertices 3"],
    uv_map: UvMap,
    *,
    normals: Float[Tensor, "batch vertices 3"],
    perspective: bool = False,
    min_facing: float = MIN_FACING,
    tolerance_mm: float = TOLERANCE_MM,
) -> Unwrapped:
    """Illuminated texture of CEST: each texel reads the photograph where the camera puts it. Differentiable in images and points.

    Parameters
    ----------
    images
        Photographs.
    points
        Projected vertices: column, row (pixels), depth (mm), as a camera's `project` gives them.
    uv_map
        From `uv_coverage`.
    normals
        Unit vertex normals in the camera frame, for the test of facing.
    perspective
        Whether points come from a pinhole camera.
    min_facing
        Least z of the unit normal at a texel that counts as visible.
    tolerance_mm
        A texel further behind the surface seen at its pixel is hidden.

    Raises
    ------
    ValueError
        If points are not finite or batches and vertices do not match.
    """
    check_points("points", points)
    if len(images) != len(points) or normals.shape != points.shape:
        raise ValueError(
            f"images, points, normals: expected one batch and equal vertices, found {tuple(images.shape)}, "
            f"{tuple(points.shape)}, {tuple(normals.shape)}"
        )
    height, width = images.shape[2:]
    at_texels = _places(points, uv_map, perspective)
    grid = at_texels[..., :2] * images.new_tensor([2 / width, 2 / height]) - 1
    sampled = F.grid_sample(images, grid[:, :, None], mode="bilinear", padding_mode="border", align_corners=False)
    visible = _visible(at_texels.detach(), points.detach(), uv_map, (height, width), perspective, tolerance_mm)
    facing = F.normalize(uv_map.spread(normals.detach()), dim=-1)[..., 2] >= min_facing
    return Unwrapped(
        uv_map.place(sampled[..., 0].transpose(1, 2)),
        uv_map.place((visible & facing)[..., None].to(images.dtype)) > 0,
    )


def _places(points: Tensor, uv_map: UvMap, perspective: bool) -> Float[Tensor, "batch texels 3"]:
    """Column, row and depth of each covered texel. Weights are shares of the surface, so a pinhole needs a division by depth."""
    if not perspective:
        return uv_map.spread(points)
    depth = points[..., 2:]
    spread = uv_map.spread(torch.cat((points[..., :2] * depth, depth), dim=-1))
    distance = spread[..., 2:]
    return torch.cat((spread[..., :2] / torch.where(distance > 0, distance, 1.0), distance), dim=-1)


@torch.no_grad()
def _visible(
    places: Tensor, points: Tensor, uv_map: UvMap, size: tuple[int, int], perspective: bool, tolerance_mm: float
) -> Bool[Tensor, "batch texels"]:
    """Inside the frame, all mixed pixels on the mesh, and not behind the surface that the nearest pixel shows."""
    batch, (height, width) = len(places), size
    ids = visible_faces(points, uv_map.topology, size, cull=True, perspective=perspective)
    columns, rows, depth = places.unbind(-1)
    column, row = columns.floor().long(), rows.floor().long()
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    column, row = column.clamp(0, width - 1), row.clamp(0, height - 1)
    image = torch.arange(batch, device=places.device)[:, None].expand_as(column)
    seen = ids[image, row, column]
    surface = depth_at(
        points, uv_map.topology, seen.reshape(-1), image.reshape(-1), columns.reshape(-1), rows.reshape(-1)
    )
    covered = F.grid_sample(
        (ids >= 0)[:, None].to(places.dtype),
        (places[..., :2] * places.new_tensor([2 / width, 2 / height]) - 1)[:, :, None],
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )[:, 0, :, 0]
    near = depth <= surface.view_as(depth) + tolerance_mm
    return inside & near & (seen >= 0) & (covered > 0.999)
