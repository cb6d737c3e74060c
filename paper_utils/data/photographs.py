"""Many pictures of one drawing: turned, shifted, zoomed, dimmed, blurred and noisy, with the quality of every picture known.

It makes an open-set task out of a small set of real images: each drawing is a "person", each picture of it a "photograph", and the
persons of the test were never seen in training. The camera is planted, the drawings and what tells them apart are not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from paper_utils.data.samples import LabelledImages


@dataclass(frozen=True)
class Camera:
    """How much pictures of one drawing differ; every amount is drawn uniformly, for each picture anew.

    Parameters
    ----------
    rotation_deg, shift_px, zoom, contrast
        Largest turn, shift, relative change of size and of contrast, in both directions.
    noise
        Standard deviation of the pixel noise (image range 2) at the lowest quality.
    blur
        Share of a 3 x 3 binomial blur at the lowest quality.
    """

    rotation_deg: float = 10.0
    shift_px: float = 0.5
    zoom: float = 0.07
    contrast: float = 0.2
    noise: float = 0.4
    blur: float = 0.6


def photograph(
    drawings: LabelledImages,
    views: int,
    *,
    generator: torch.Generator,
    camera: Camera | None = None,
    quality: Float[Tensor, " n"] | None = None,
) -> tuple[LabelledImages, Float[Tensor, " n"]]:
    """Take `views` pictures of every drawing.

    Parameters
    ----------
    drawings
        Square or oblong images; background at -1. Their own labels are not used.
    views
        Pictures a drawing.
    generator
        Source of all camera settings, on CPU.
    camera
        How much pictures differ.
    quality
        1 (no blur, no noise) to 0 (all of it) for each picture; drawn uniformly if not given.

    Returns
    -------
    pictures
        Identity i is the i-th drawing; the pictures of one drawing follow each other.
    quality
        Of each picture.

    Raises
    ------
    ValueError
        If `views` is below 1, or `quality` has another length or leaves [0, 1].
    """
    camera = camera or Camera()
    if views < 1:
        raise ValueError(f"views: expected at least one picture a drawing, found {views}")
    sharp = drawings.images.repeat_interleave(views, dim=0)
    count, channels, height, width = sharp.shape

    def amount(largest: float) -> Tensor:
        return largest * (2 * torch.rand(count, generator=generator) - 1)

    turn, zoom = amount(math.radians(camera.rotation_deg)), torch.exp(amount(camera.zoom))
    right, down = amount(2 * camera.shift_px / width), amount(2 * camera.shift_px / height)
    rows = [[turn.cos() * zoom, -turn.sin() * zoom, right], [turn.sin() * zoom, turn.cos() * zoom, down]]
    grid = functional.affine_grid(
        torch.stack([torch.stack(row, dim=-1) for row in rows], dim=1), list(sharp.shape), align_corners=False
    )
    pictures = functional.grid_sample(sharp + 1, grid, align_corners=False) - 1  # outside the drawing: background
    if quality is None:
        quality = torch.rand(count, generator=generator)
    if quality.shape != (count,) or quality.min() < 0 or quality.max() > 1:
        raise ValueError(f"quality: expected {count} values in [0, 1], found shape {tuple(quality.shape)}")
    loss = (1 - quality).view(-1, 1, 1, 1)
    row = torch.tensor([1.0, 2.0, 1.0]) / 4
    kernel = (row[:, None] * row).expand(channels, 1, 3, 3)
    blurred = functional.conv2d(functional.pad(pictures, (1, 1, 1, 1), value=-1.0), kernel, groups=channels)
    pictures = torch.lerp(pictures, blurred, camera.blur * loss)
    pictures = pictures * (1 + amount(camera.contrast)).view(-1, 1, 1, 1)
    pictures = pictures + camera.noise * loss * torch.randn(pictures.shape, generator=generator)
    people = torch.arange(len(drawings)).repeat_interleave(views)
    return LabelledImages(pictures, people, f"{drawings.name}, {views} pictures each"), quality
