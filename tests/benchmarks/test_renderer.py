"""Cost of drawing faces in process CPU time of one thread, and the ratio of finding triangles to a compiled rasteriser.

Run by ``make bench``. Batch 16, the world's head at two points a grid cell, yaw -40 to 40 degrees; the peer is a plain loop over
triangles, rows and columns, compiled by numba and measured in turns with ours.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numba
import numpy as np
import pytest
import torch
from torch import Tensor

from paper_utils.mesh.cameras import ScaledOrthographic
from paper_utils.mesh.rasterize import visible_faces
from paper_utils.mesh.renderer import render
from paper_utils.mesh.shading import directional_light
from paper_utils.mesh.silhouettes import Silhouettes
from paper_utils.mesh.topology import Topology
from paper_utils.world import face

BATCH = 16


@numba.njit(cache=False)
def compiled_faces(points: np.ndarray, faces: np.ndarray, height: int, width: int) -> np.ndarray:
    """The named peer: edge functions and a depth buffer, one triangle after another, back faces left out."""
    ids = np.full((len(points), height, width), -1, dtype=np.int64)
    for image in range(len(points)):
        nearest = np.full((height, width), np.inf, dtype=np.float32)
        for number in range(len(faces)):
            (x0, y0, z0), (x1, y1, z1), (x2, y2, z2) = (
                points[image, faces[number, 0]],
                points[image, faces[number, 1]],
                points[image, faces[number, 2]],
            )
            area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
            if area >= 0:
                continue
            left, right = (
                max(math.ceil(min(x0, x1, x2) - 0.5), 0),
                min(math.floor(max(x0, x1, x2) - 0.5), width - 1),
            )
            top, bottom = (
                max(math.ceil(min(y0, y1, y2) - 0.5), 0),
                min(math.floor(max(y0, y1, y2) - 0.5), height - 1),
            )
            for row in range(top, bottom + 1):
                for column in range(left, right + 1):
                    px, py = np.float32(column + 0.5), np.float32(row + 0.5)
                    n0 = (x1 - px) * (y2 - py) - (x2 - px) * (y1 - py)
                    n1 = (x2 - px) * (y0 - py) - (x0 - px) * (y2 - py)
                    n2 = (x0 - px) * (y1 - py) - (x1 - px) * (y0 - py)
                    if n0 <= 0 and n1 <= 0 and n2 <= 0:
                        depth = (n0 * z0 + n1 * z1 + n2 * z2) / (n0 + n1 + n2)
                        if depth < nearest[row, column]:
                            nearest[row, column] = depth
                            ids[image, row, column] = number
    return ids


class Scene:
    """Sixteen views of the world's head with everything that the renderer can send a gradient to."""

    def __init__(self, size: int, *, points_per_cell: int = 2) -> None:
        head = face.head(points_per_cell)
        generator = torch.Generator().manual_seed(0)
        self.size = (size, size)
        self.topology = Topology.of(head.faces, len(head.vertices))
        middle = (head.vertices.amax(0) + head.vertices.amin(0)) / 2
        vertices = (head.vertices - middle).float().expand(BATCH, -1, -1).contiguous()
        rotation = torch.zeros(BATCH, 3)
        rotation[:, 1] = torch.linspace(-1, 1, BATCH) * math.radians(40)
        self.leaves = [
            vertices,
            rotation,
            torch.full((BATCH,), 0.3 * size / 64),
            torch.full((BATCH, 2), size / 2),
            torch.rand(*vertices.shape, generator=generator),
            directional_light(
                torch.tensor([[0.4, 0.5, 1.0]]).expand(BATCH, -1), torch.ones(BATCH), torch.ones(BATCH) / 2
            ),
        ]
        self.background = torch.rand(BATCH, 3, size, size, generator=generator)
        self.upstream = torch.rand(BATCH, 3, size, size, generator=generator)

    @property
    def points(self) -> Tensor:
        vertices, rotation, scale, place = self.leaves[:4]
        return ScaledOrthographic(rotation, scale, place).project(vertices).detach()

    def draw(self, silhouettes: Silhouettes | None = None) -> Tensor:
        vertices, rotation, scale, place, colours, light = self.leaves
        return render(
            vertices,
            self.topology,
            ScaledOrthographic(rotation, scale, place),
            self.size,
            light=light,
            colours=colours,
            background=self.background,
            silhouettes=silhouettes,
        ).images

    def forward(self) -> None:
        with torch.no_grad():
            self.draw()

    def step(self, silhouettes: Silhouettes | None = None) -> None:
        for leaf in self.leaves:
            leaf.requires_grad_().grad = None
        self.draw(silhouettes).backward(self.upstream)


def cpu_ms(function: Callable[[], object]) -> float:
    began = time.process_time()
    function()
    return (time.process_time() - began) * 1e3


@pytest.mark.benchmark(group="renderer", timer=time.process_time)
@pytest.mark.parametrize("size", [64, 128])
@pytest.mark.parametrize("what", ["forward", "forward and backward", "forward and backward with silhouettes"])
def test_drawing_sixteen_faces(benchmark, what, size):
    scene = Scene(size)
    work = {
        "forward": scene.forward,
        "forward and backward": scene.step,
        "forward and backward with silhouettes": lambda: scene.step(Silhouettes()),
    }[what]
    benchmark.pedantic(work, rounds=6 if "silhouettes" in what else 30, warmup_rounds=3)
    least = benchmark.stats.stats.min * 1e3
    print(f"\n{size} px, {len(scene.topology)} triangles, batch {BATCH}, {what}: {least:.1f} ms of CPU")


@pytest.mark.benchmark(group="renderer", timer=time.process_time)
@pytest.mark.parametrize(("size", "points_per_cell"), [(64, 2), (128, 4), (224, 9)])
def test_finding_triangles_against_a_compiled_rasteriser(benchmark, size, points_per_cell):
    scene = Scene(size, points_per_cell=points_per_cell)
    points, faces = scene.points, scene.topology.faces.numpy()
    expected = compiled_faces(points.numpy(), faces, size, size)  # compiles
    peer_ms: list[float] = []

    def peer() -> None:
        peer_ms.append(cpu_ms(lambda: compiled_faces(points.numpy(), faces, size, size)))

    def ours() -> Tensor:
        return visible_faces(points, scene.topology, scene.size, cull=True)

    # They take turns, so that a busy machine slows both.
    found = benchmark.pedantic(ours, setup=peer, rounds=20, warmup_rounds=2)
    ours_ms, least = benchmark.stats.stats.min * 1e3, min(peer_ms)
    ratio = ours_ms / least
    benchmark.extra_info.update(ours_ms=ours_ms, numba_ms=least, ratio_to_numba=ratio)
    covered = expected >= 0
    agree = (found.numpy() == expected)[covered | (found.numpy() >= 0)].mean()
    print(
        f"\n{size} px, {len(faces)} triangles, {covered.mean():.0%} covered: {ours_ms:.1f} ms, "
        f"{ratio:.2f} x numba's {least:.2f} ms; equal triangles at {agree:.3%} of covered pixels"
    )
    assert ((found.numpy() >= 0) == covered).mean() > 0.999
    assert agree > 0.99
