"""Cameras that put millimetres of a head's frame onto pixels: scaled orthographic (CEST, DECA) and pinhole (Deep3D).

Head frame: x to the subject's left, y up, z forward. The camera stands in front of the face and looks along -z with y up, so the
subject's left is on the right side of the picture, as when one looks at another person (not as in a mirror).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


def rotation_matrix(
    pitch: Float[Tensor, " batch"], yaw: Float[Tensor, " batch"], roll: Float[Tensor, " batch"]
) -> Float[Tensor, "batch 3 3"]:
    r"""Right-handed rotations about x, then y, then z, for column vectors.

    .. math:: R = R_z(\mathrm{roll})\, R_y(\mathrm{yaw})\, R_x(\mathrm{pitch})

    In the head frame a positive pitch looks down, a positive yaw turns the nose to the subject's left (right in the picture), a
    positive roll lifts the subject's left side (counter-clockwise in the picture).

    Parameters
    ----------
    pitch, yaw, roll
        Radians.
    """
    (sx, sy, sz), (cx, cy, cz) = (
        [function(angle) for angle in (pitch, yaw, roll)] for function in (torch.sin, torch.cos)
    )
    rows = (
        (cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx),
        (sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx),
        (-sy, cy * sx, cy * cx),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def _check(name: str, value: Tensor, shape: tuple[int, ...], *, positive: bool = False) -> None:
    if tuple(value.shape) != shape:
        raise ValueError(f"{name}: expected shape {shape}, found {tuple(value.shape)}")
    if not torch.isfinite(value).all():
        raise ValueError(f"{name}: {int((~torch.isfinite(value)).sum())} of {value.numel()} values are NaN or infinite")
    if positive and not (value > 0).all():
        raise ValueError(
            f"{name}: expected positive numbers, found {float(value.min()):g}; "
            "parametrise by a logarithm if a network predicts it"
        )


@dataclass(frozen=True)
class ScaledOrthographic:
    r"""Parallel camera: :math:`Q = s\,\Pi R X + t` (CEST, section on image formation), y turned down.

    Parameters
    ----------
    rotation
        Pitch, yaw, roll of the head in radians, see `rotation_matrix`.
    scale
        Pixels per millimetre.
    translation
        Column and row in pixels at which the origin of the head frame appears.

    Raises
    ------
    ValueError
        If shapes differ, a number is not finite, or a scale is not positive.
    """

    rotation: Float[Tensor, "batch 3"]
    scale: Float[Tensor, " batch"]
    translation: Float[Tensor, "batch 2"]

    def __post_init__(self) -> None:
        batch = len(self.rotation)
        _check("rotation", self.rotation, (batch, 3))
        _check("scale", self.scale, (batch,), positive=True)
        _check("translation", self.translation, (batch, 2))

    @property
    def perspective(self) -> bool:
        """Whether depths are distances from a pinhole."""
        return False

    def view(self, vertices: Float[Tensor, "batch vertices 3"]) -> Float[Tensor, "batch vertices 3"]:
        """Head frame to camera frame (mm): turned, x right, y up, z toward the camera."""
        return vertices @ rotation_matrix(*self.rotation.unbind(1)).transpose(1, 2)

    def points(self, view: Float[Tensor, "batch vertices 3"]) -> Float[Tensor, "batch vertices 3"]:
        """Camera frame (mm) to pixel column, pixel row (down) and depth (mm, -z: smaller is nearer)."""
        x, y, z = view.unbind(-1)
        scale, (column, row) = self.scale[:, None], self.translation[:, :, None].unbind(1)
        return torch.stack((scale * x + column, row - scale * y, -z), dim=-1)

    def project(self, vertices: Float[Tensor, "batch vertices 3"]) -> Float[Tensor, "batch vertices 3"]:
        """`points` of the `view`: head frame (mm) to column, row (pixels) and depth (mm)."""
        return self.points(self.view(vertices))


@dataclass(frozen=True)
class Pinhole:
    r"""Perspective camera on the z axis in front of the head: :math:`u = u_0 + f x / d,\ v = v_0 - f y / d,\ d = D - z`.

    Parameters
    ----------
    rotation
        Pitch, yaw, roll of the head in radians, see `rotation_matrix`.
    offset_mm
        Shift of the turned head in the camera frame (x right, y up, z toward the camera).
    focal
        Focal length in pixels.
    centre
        Column and row in pixels of the optical axis.
    distance_mm
        From the camera to the origin of the camera frame (D).
    near_mm
        Vertices closer than this, or behind, have no image: their triangles are not drawn, and their places get no gradient.
        Choice of ours, far below any portrait distance.

    Notes
    -----
    Deep3D's camera in a 224 pixel image is focal 1015, centre 112, distance 10 (its unit is the decimetre: 1000 mm).

    Raises
    ------
    ValueError
        If shapes differ, a number is not finite, or focal length, distance or near plane are not positive.
    """

    rotation: Float[Tensor, "batch 3"]
    offset_mm: Float[Tensor, "batch 3"]
    focal: Float[Tensor, " batch"]
    centre: Float[Tensor, "batch 2"]
    distance_mm: Float[Tensor, " batch"]
    near_mm: float = 1.0

    def __post_init__(self) -> None:
        batch = len(self.rotation)
        _check("rotation", self.rotation, (batch, 3))
        _check("offset_mm", self.offset_mm, (batch, 3))
        _check("focal", self.focal, (batch,), positive=True)
        _check("centre", self.centre, (batch, 2))
        _check("distance_mm", self.distance_mm, (batch,), positive=True)
        if not self.near_mm > 0:
            raise ValueError(f"near_mm: expected a positive distance, found {self.near_mm}")

    @property
    def perspective(self) -> bool:
        """Whether depths are distances from a pinhole."""
        return True

    def view(self, vertices: Float[Tensor, "batch vertices 3"]) -> Float[Tensor, "batch vertices 3"]:
        """Head frame to camera frame (mm): turned and shifted, x right, y up, z toward the camera."""
        return vertices @ rotation_matrix(*self.rotation.unbind(1)).transpose(1, 2) + self.offset_mm[:, None]

    def points(self, view: Float[Tensor, "batch vertices 3"]) -> Float[Tensor, "batch vertices 3"]:
        """Camera frame (mm) to pixel column, pixel row (down) and distance (mm; 0 where there is no image)."""
        x, y, z = view.unbind(-1)
        distance = self.distance_mm[:, None] - z
        before = distance > self.near_mm
        # Both branches stay finite, or the gradient of the one not taken would be NaN.
        enlarge = self.focal[:, None] / torch.where(before, distance, 1.0)
        enlarge = torch.where(before, enlarge, 0.0)
        column, row = self.centre[:, :, None].unbind(1)
        return torch.stack((column + enlarge * x, row - enlarge * y, torch.where(before, distance, 0.0)), dim=-1)

    def project(self, vertices: Float[Tensor, "batch vertices 3"]) -> Float[Tensor, "batch vertices 3"]:
        """`points` of the `view`: head frame (mm) to column, row (pixels) and distance (mm)."""
        return self.points(self.view(vertices))


Camera = ScaledOrthographic | Pinhole
