"""Small procedural meshes for the renderer's tests: a bumpy mask with a nose, a disc, and loose triangles."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable

import torch
from torch import Tensor

from paper_utils.mesh.cameras import ScaledOrthographic


def bumpy_mask(
    cells: int = 34, *, bumps: float = 0.06, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    """Open mask about as large as a face (mm), symmetric in x, with a nose: vertices, triangles seen from outside, UV."""
    share = torch.linspace(0, 1, cells + 1, dtype=torch.float64)
    v, u = torch.meshgrid(share, share, indexing="ij")
    longitude, latitude = (u - 0.5) * math.pi * 0.98, (0.5 - v) * math.pi * 0.9
    nose = torch.exp(-((longitude / 0.25) ** 2) - ((latitude + 0.1) / 0.25) ** 2)
    radius = 1 + bumps * torch.cos(6 * longitude) * torch.cos(5 * latitude) + 0.35 * nose
    x = 70 * radius * torch.cos(latitude) * torch.sin(longitude)
    y = 100 * radius * torch.sin(latitude)
    z = 80 * radius * torch.cos(latitude) * torch.cos(longitude)
    number = torch.arange((cells + 1) ** 2).view(cells + 1, cells + 1)
    a, b, c, d = number[:-1, :-1], number[:-1, 1:], number[1:, :-1], number[1:, 1:]
    left = torch.arange(cells)[None].expand(cells, -1) < cells / 2  # diagonals are mirrored across the middle
    first = torch.where(left[..., None], torch.stack((a, c, b), -1), torch.stack((a, c, d), -1))
    second = torch.where(left[..., None], torch.stack((b, c, d), -1), torch.stack((a, d, b), -1))
    vertices = torch.stack((x, y, z), dim=-1).reshape(-1, 3).to(dtype)
    faces = torch.cat((first.reshape(-1, 3), second.reshape(-1, 3)))
    return vertices, faces, torch.stack((u, v), dim=-1).reshape(-1, 2).to(dtype)


def disc(radius: float, centre: tuple[float, float], corners: int = 200) -> tuple[Tensor, Tensor]:
    """Flat fan in pixel coordinates (depth 0), front side shown: points and triangles."""
    angle = torch.linspace(0, 2 * math.pi, corners + 1, dtype=torch.float64)[:-1]
    rim = torch.stack((centre[0] + radius * angle.cos(), centre[1] - radius * angle.sin(), 0 * angle), dim=1)
    middle = torch.tensor([[*centre, 0.0]], dtype=torch.float64)
    number = torch.arange(corners)
    faces = torch.stack((torch.full_like(number, corners), number, (number + 1) % corners), dim=1)
    return torch.cat((rim, middle)), faces


def loose_triangles(
    count: int, size: float, *, seed: int, reach: float = 1.2, width: float = 6.0
) -> tuple[Tensor, Tensor]:
    """Random triangles around a frame of the given size, some off it, either side up: points (float64) and triangles."""
    generator = torch.Generator().manual_seed(seed)
    centre = (torch.rand(count, 1, 3, generator=generator, dtype=torch.float64) - 0.5) * size * reach + size / 2
    shape = torch.randn(count, 3, 3, generator=generator, dtype=torch.float64) * width
    return (centre + shape).reshape(-1, 3), torch.arange(3 * count).view(count, 3)


def facing_camera(batch: int, *, scale: float, centre: float, yaw: list[float] | None = None, dtype=torch.float32):
    """Scaled orthographic camera with the given yaws (radians)."""
    rotation = torch.zeros(batch, 3, dtype=dtype)
    if yaw is not None:
        rotation[:, 1] = torch.tensor(yaw, dtype=dtype)
    return ScaledOrthographic(
        rotation, torch.full((batch,), scale, dtype=dtype), torch.full((batch, 2), centre, dtype=dtype)
    )


def unchecked(function: Callable) -> Callable:
    """The function as users call it, without the type checker of the tests, which would refuse wrong shapes first."""
    return inspect.unwrap(function)
