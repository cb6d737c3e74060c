"""The renderer and the front end of sound on a device against the CPU: triangles, depths, pictures, gradients, log-mel energies."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from paper_utils import audio
from paper_utils.gpu_check.measure import Meter
from paper_utils.gpu_check.steps import full_float32, moved
from paper_utils.mesh import rasterize
from paper_utils.mesh.cameras import ScaledOrthographic
from paper_utils.mesh.interpolate import depth_at
from paper_utils.mesh.renderer import render
from paper_utils.mesh.shading import directional_light
from paper_utils.mesh.silhouettes import Silhouettes
from paper_utils.mesh.topology import Topology
from paper_utils.world import face

TIE_PX = 1e-3  # a pixel centre so near an edge may fall on either side: float32 places it to about 1e-5 of 100 pixels
TIE_MM = 1e-3  # two triangles whose depths differ by less may either be the nearer one
LIMITS = {
    "different triangles that are no tie": 0.0,
    "depth_mm": 1e-3,  # float32 of 100 mm, times ten
    "picture": 1e-4,  # difference of reflectance, 0 to 1, that 99.9 % of the pixels of the face keep
    "gradient": 1e-3,  # relative, of each input: sums over pixels in another order, and ties
}
LOG_MEL_LIMIT = (
    1e-3  # nepers above the floor; float32 spectra differ by about 1e-5 relative, quiet bands beside loud ones by more
)


class Scene:
    """Views of the synthetic head with everything that the renderer can send a gradient to.

    Parameters
    ----------
    size
        Pixels a side.
    batch
        Views, turned from -40 to 40 degrees.
    points_per_cell
        Fineness of the head, see `paper_utils.world.face.head`.
    device
        Where.
    """

    names = ("vertices", "rotation", "scale", "place", "colours", "light")

    def __init__(self, size: int, batch: int, points_per_cell: int, device: torch.device) -> None:
        head = face.head(points_per_cell)
        chance = torch.Generator().manual_seed(0)
        middle = (head.vertices.amax(0) + head.vertices.amin(0)) / 2
        rotation = torch.zeros(batch, 3)
        rotation[:, 1] = torch.linspace(-1, 1, batch) * math.radians(40)
        leaves = [
            (head.vertices - middle).expand(batch, -1, -1).contiguous(),
            rotation,
            torch.full((batch,), 0.3 * size / 64),
            torch.full((batch, 2), size / 2),
            torch.rand(batch, len(head.vertices), 3, generator=chance),
            directional_light(
                torch.tensor([[0.4, 0.5, 1.0]]).expand(batch, -1), torch.ones(batch), torch.ones(batch) / 2
            ),
        ]
        self.size = (size, size)
        self.upstream = torch.rand(batch, 3, size, size, generator=chance).to(device)
        self.leaves = [moved(leaf, device) for leaf in leaves]
        self.topology = Topology.of(head.faces.to(device), len(head.vertices))

    @property
    def points(self) -> Float[Tensor, "batch vertices 3"]:
        """Projected vertices."""
        vertices, rotation, scale, place = self.leaves[:4]
        return ScaledOrthographic(rotation, scale, place).project(vertices).detach()

    def picture(self) -> Float[Tensor, "batch 3 height width"]:
        """Draw, with the gradient of the outline."""
        vertices, rotation, scale, place, colours, light = self.leaves
        camera = ScaledOrthographic(rotation, scale, place)
        return render(
            vertices, self.topology, camera, self.size, light=light, colours=colours, silhouettes=Silhouettes()
        ).images

    def step(self) -> Tensor:
        """Picture and gradients."""
        for leaf in self.leaves:
            leaf.requires_grad_().grad = None
        picture = self.picture()
        picture.backward(self.upstream)
        return picture.detach()


def edge_distance(
    points: Float[Tensor, "batch vertices 3"],
    topology: Topology,
    triangles: Int[Tensor, " places"],
    images: Int[Tensor, " places"],
    columns: Float[Tensor, " places"],
    rows: Float[Tensor, " places"],
) -> Float[Tensor, " places"]:
    """Distance in pixels from a place to the nearest edge of a triangle; infinite for triangle -1."""
    corners = points[images[:, None], topology.faces[triangles.clamp_min(0)]][..., :2]
    place = torch.stack((columns, rows), dim=-1)[:, None]
    start, along = corners, corners.roll(-1, 1) - corners
    share = ((place - start) * along).sum(-1) / along.square().sum(-1).clamp_min(1e-30)
    apart = (start + share.clamp(0, 1)[..., None] * along - place).norm(dim=-1)
    return apart.amin(1).masked_fill(triangles < 0, torch.inf)


def ties(
    points: Float[Tensor, "batch vertices 3"],
    topology: Topology,
    first: Int[Tensor, "batch height width"],
    second: Int[Tensor, "batch height width"],
) -> tuple[Bool[Tensor, " different"], int]:
    """Where two drawings see different triangles: whether rounding may decide there, and how many pixels there are in all.

    A pixel is a tie if its centre lies within `TIE_PX` of an edge of either triangle, or if both triangles are equally deep within `TIE_MM`.
    """
    image, row, column = (first != second).nonzero().unbind(1)
    places = image, column.double() + 0.5, row.double() + 0.5
    exact = points.double()
    ids = first[image, row, column], second[image, row, column]

    def of(function: Any, triangle: Tensor) -> Tensor:
        return function(exact, topology, triangle, *places)

    near_edge = torch.minimum(*(of(edge_distance, triangle) for triangle in ids)) <= TIE_PX
    depths = [of(depth_at, triangle) for triangle in ids]
    both = torch.isfinite(depths[0]) & torch.isfinite(depths[1])
    return near_edge | (both & ((depths[0] - depths[1]).abs() <= TIE_MM)), first.numel()


def check_renderer(
    device: torch.device, *, size: int, batch: int, points_per_cell: int, seconds: float
) -> dict[str, Any]:
    """Compare the drawing steps on a device with those on the CPU, and time a picture with its gradients.

    Returns
    -------
    dict
        ``passed``; ``found`` with its ``limits``; ``ties`` of ``pixels``; ``ms`` and ``peak_mib`` of a batch, forward and backward.
    """
    here, there = (Scene(size, batch, points_per_cell, place) for place in (torch.device("cpu"), device))
    with full_float32():
        points = here.points
        # The same points for both, so that only the drawing differs.
        ids = [
            rasterize.visible_faces(points.to(s.topology.faces.device), s.topology, s.size, cull=True)
            for s in (here, there)
        ]
        tie, pixels = ties(points, here.topology, ids[0], ids[1].cpu())
        same = (ids[0] == ids[1].cpu()) & (ids[0] >= 0)
        depth = _depth_difference(here, there, points, ids[0], same)
        pictures = here.step(), there.step().cpu()
        gradients = {
            name: _relative(mine.grad.cpu(), true.grad)
            for name, mine, true in zip(Scene.names, there.leaves, here.leaves, strict=True)
        }
        # The camera too is computed on each device, so a centre at an edge may change sides in a picture: one in a thousand is left out.
        difference = (pictures[0] - pictures[1]).abs()[same[:, None].expand_as(pictures[0])]
        found = {
            "different triangles that are no tie": float((~tie).sum()),
            "depth_mm": depth,
            "picture": float(difference.kthvalue(max(1, math.ceil(0.999 * len(difference)))).values),
            "gradient": max(gradients.values()),
        }
        timed = Meter(device, seconds).run(there.step)
    return {
        "passed": all(found[name] <= limit for name, limit in LIMITS.items()),
        "found": found, "limits": LIMITS, "gradients": gradients, "ties": int(tie.sum()), "pixels": pixels,
        "triangles": len(here.topology), "batch": batch, "size": size, **timed,
    }  # fmt: skip


def _relative(found: Tensor, true: Tensor) -> float:
    return float((found - true).norm() / true.norm().clamp_min(1e-30))


def _depth_difference(here: Scene, there: Scene, points: Tensor, ids: Tensor, same: Tensor) -> float:
    """Largest difference of the depths of pixels that see the same triangle."""
    image, row, column = same.nonzero().unbind(1)
    places = ids[image, row, column], image, column + 0.5, row + 0.5
    true = depth_at(points, here.topology, *places)
    device = there.topology.faces.device
    found = depth_at(points.to(device), there.topology, *(place.to(device) for place in places))
    return float((found.cpu() - true).abs().max()) if len(true) else math.inf


CONVENTIONS = {
    "papers 02 and 03": audio.SPHINX_MEL,
    "paper 04": audio.MESHTALK_MEL,
    "paper 08": audio.TALKSHOW_MEL,
    "paper 10": audio.VISAGE_MEL,
    "the world": audio.WORLD_MEL,
}


def check_log_mel(device: torch.device, *, batch: int, duration_s: float, seconds: float) -> dict[str, Any]:
    """Log-mel features on a device against the CPU in each paper's convention, on noise that swells and fades.

    Returns
    -------
    dict
        ``passed``; ``found``, the largest difference in nepers by convention, with its ``limit``; ``x_real_time`` of the world's.
    """
    found = {}
    with full_float32():
        for name, config in CONVENTIONS.items():
            samples = _sound(batch, round(duration_s * config.sample_rate))
            true, mine = audio.log_mel(samples, config), audio.log_mel(samples.to(device), config).cpu()
            nepers = math.log(10) / 10 if config.log == "db" else 1.0
            found[name] = float((mine - true).abs().max()) * nepers
        samples = _sound(batch, round(duration_s * audio.WORLD_MEL.sample_rate)).to(device)
        timed = Meter(device, seconds).run(lambda: audio.log_mel(samples, audio.WORLD_MEL))
    return {
        "passed": max(found.values()) <= LOG_MEL_LIMIT, "found": found, "limit": LOG_MEL_LIMIT,
        "x_real_time": 1e3 * batch * duration_s / timed["ms"], **timed,
    }  # fmt: skip


def _sound(batch: int, samples: int) -> Tensor:
    noise = torch.randn(batch, samples, generator=torch.Generator().manual_seed(0))
    return 0.1 * noise * torch.linspace(0, math.pi, samples).sin().clamp_min(0.01)
