"""Pictures of a mesh, differentiable in shape, reflectance, camera and light: project, find visible triangles, interpolate, shade.

One source for CPU and GPU, plain torch. The formation is CEST's and linear: reflectance times spherical-harmonic shading.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from paper_utils.mesh.cameras import Camera
from paper_utils.mesh.interpolate import interpolate
from paper_utils.mesh.rasterize import check_points, checked_size, visible_faces
from paper_utils.mesh.shading import shade, unit, vertex_normals
from paper_utils.mesh.silhouettes import Silhouettes, with_outline_gradient
from paper_utils.mesh.textures import sample_texture
from paper_utils.mesh.topology import Topology


@dataclass(frozen=True)
class Surface:
    """What the camera sees at each pixel, before reflectance and light: draw once, then shade as often as wanted.

    Parameters
    ----------
    points
        Projected vertices: column, row (pixels), depth (mm).
    face_ids
        Triangle at each pixel, -1 for the background.
    mask
        1 where the mesh is seen, else 0.
    normals
        Unit normals in the camera frame (x right, y up, z toward the camera), zero in the background.
    vertex_normals
        The same at the vertices.
    values
        Interpolated vertex values (colours or UV coordinates), zero in the background.
    """

    points: Float[Tensor, "batch vertices 3"]
    face_ids: Int[Tensor, "batch height width"]
    mask: Float[Tensor, "batch 1 height width"]
    normals: Float[Tensor, "batch 3 height width"]
    vertex_normals: Float[Tensor, "batch vertices 3"]
    values: Float[Tensor, "batch channel height width"]


@dataclass(frozen=True)
class Rendering:
    """Pictures and the layers that they are made of.

    Parameters
    ----------
    images
        Linear colours: reflectance times shading, over the background; not clamped from above.
    mask
        1 where the mesh is seen, else 0; has a gradient only with silhouettes.
    normals
        Unit normals in the camera frame, zero in the background.
    shading
        Light returned at reflectance one, one or three channels; zero in the background.
    face_ids
        Triangle at each pixel, -1 for the background.
    """

    images: Float[Tensor, "batch channel height width"]
    mask: Float[Tensor, "batch 1 height width"]
    normals: Float[Tensor, "batch 3 height width"]
    shading: Float[Tensor, "batch light height width"]
    face_ids: Int[Tensor, "batch height width"]


def visible_surface(
    vertices: Float[Tensor, "batch vertices 3"],
    faces: Topology | Int[Tensor, "triangles 3"],
    camera: Camera,
    size: tuple[int, int],
    values: Float[Tensor, "batch vertices channel"],
    *,
    cull: bool = True,
) -> Surface:
    """Geometry half of `render`: visible triangles, normals and vertex values at each pixel.

    Parameters
    ----------
    vertices
        Head frame, mm.
    faces
        Triangles counter-clockwise seen from outside; a `Topology` saves checking them again.
    camera
        One pose for each batch item.
    size
        Height and width in pixels.
    values
        Colours or UV coordinates at the vertices.
    cull
        Leave out back faces, or an open mask shows its inside from the side.

    Raises
    ------
    ValueError
        If coordinates are not finite, batches differ, triangles do not match the vertices, or the size is not positive.
    """
    check_points("vertices", vertices)
    size = checked_size(size)
    if len(camera.rotation) != len(vertices):
        raise ValueError(f"camera: expected {len(vertices)} poses, one for each mesh, found {len(camera.rotation)}")
    topology = Topology.of(faces, vertices.shape[1])
    view = camera.view(vertices)
    points = camera.points(view)
    normals = vertex_normals(view, topology)
    face_ids = visible_faces(points, topology, size, cull=cull, perspective=camera.perspective)
    spread = interpolate(
        points, torch.cat((normals, values), dim=2), topology, face_ids, perspective=camera.perspective
    )
    mask = (face_ids >= 0)[:, None].to(vertices.dtype)
    return Surface(points, face_ids, mask, unit(spread[:, :3], 1), normals, spread[:, 3:])


def render(
    vertices: Float[Tensor, "batch vertices 3"],
    faces: Topology | Int[Tensor, "triangles 3"],
    camera: Camera,
    size: tuple[int, int],
    *,
    light: Float[Tensor, "batch 9"] | Float[Tensor, "batch 9 3"] | None = None,
    colours: Float[Tensor, "batch vertices channel"] | None = None,
    texture: Float[Tensor, "batch channel texture_height texture_width"] | None = None,
    uv: Float[Tensor, "vertices 2"] | None = None,
    background: float | Float[Tensor, " channel"] | Float[Tensor, "batch channel height width"] = 0.0,
    cull: bool = True,
    silhouettes: Silhouettes | None = None,
) -> Rendering:
    r"""Draw lit meshes (CEST, section on image formation).

    .. math:: c(p) = A(u(p)) \max\Big(0, \sum_k l_k h_k(n(p))\Big)

    Gradients reach vertices, camera, light, colours or texture, and the background.

    Parameters
    ----------
    vertices
        Head frame (x to the subject's left, y up, z forward), mm.
    faces
        Triangles counter-clockwise seen from outside; a `Topology` saves checking them again.
    camera
        `ScaledOrthographic` or `Pinhole`, one pose for each batch item.
    size
        Height and width in pixels.
    light
        Spherical harmonics of the plain basis in the camera frame, white or RGB; None for reflectance alone.
    colours
        Reflectance at the vertices. Give this, or `texture` with `uv`.
    texture, uv
        Reflectance map of each batch item, and where each vertex lies on it (see `paper_utils.mesh.textures`).
    background
        One number, one colour, or a picture for each batch item.
    cull
        Leave out back faces, or an open mask shows its inside from the side.
    silhouettes
        Give images and mask the gradient of moving outlines; None for none.

    Raises
    ------
    ValueError
        If inputs are not finite or do not fit together; the message says which.
    """
    values = _values(vertices, colours, texture, uv)
    topology = Topology.of(faces, vertices.shape[1])
    surface = visible_surface(vertices, topology, camera, size, values, cull=cull)
    reflectance = surface.values if texture is None else sample_texture(texture, surface.values)
    shading = surface.mask if light is None else shade(surface.normals, light) * surface.mask
    images, mask = composite(reflectance, shading, surface.mask, background), surface.mask
    if silhouettes is not None:
        layers = torch.cat((images, mask), dim=1)
        layers = with_outline_gradient(
            layers, surface.points, topology, surface.face_ids, silhouettes, cull=cull, perspective=camera.perspective
        )
        images, mask = layers[:, :-1], layers[:, -1:]
    return Rendering(images, mask, surface.normals, shading, surface.face_ids)


def _values(vertices: Tensor, colours: Tensor | None, texture: Tensor | None, uv: Tensor | None) -> Tensor:
    """What to interpolate: colours, or UV coordinates shared by the batch."""
    if (colours is None) == (texture is None) or (texture is None) != (uv is None):
        given = [name for name, value in (("colours", colours), ("texture", texture), ("uv", uv)) if value is not None]
        raise ValueError(f"colours, texture, uv: expected colours alone, or texture with uv, found {given or 'none'}")
    values = colours if uv is None else uv.expand(len(vertices), -1, -1)
    if values.shape[:2] != vertices.shape[:2]:
        name = "colours" if uv is None else "uv"
        raise ValueError(
            f"{name}: expected one row for each of {vertices.shape[1]} vertices"
            f" in a batch of {len(vertices)}, found {tuple((colours if uv is None else uv).shape)}"
        )
    return values


def composite(
    reflectance: Float[Tensor, "batch channel height width"],
    shading: Float[Tensor, "batch light height width"],
    mask: Float[Tensor, "batch 1 height width"],
    background: float | Float[Tensor, " channel"] | Float[Tensor, "batch channel height width"] = 0.0,
) -> Float[Tensor, "batch channel height width"]:
    """Reflectance times shading where the mask is 1, the background where it is 0.

    Raises
    ------
    ValueError
        If the background is neither a number, nor a colour, nor one picture for each item.
    """
    lit = reflectance * shading
    if isinstance(background, Tensor):
        if background.ndim == 1:
            background = background[:, None, None]
        if background.shape not in (lit.shape, (lit.shape[1], 1, 1)):
            raise ValueError(
                f"background: expected a number, {lit.shape[1]} numbers or pictures {tuple(lit.shape)}, "
                f"found {tuple(background.shape)}"
            )
    # Shading is zero outside the mask already, so a product with the mask would be a pass for nothing.
    return lit + (1 - mask) * background
