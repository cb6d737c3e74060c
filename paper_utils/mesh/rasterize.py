"""Which triangle does each pixel see, and what lies between its corners: the two steps under every picture of a mesh.

The first gives integers and has no gradient; the second is differentiable in the corners' positions and in what they carry.
Plain torch, the same on CPU and GPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor

from paper_utils.mesh.topology import Topology

CHUNK = 4_000_000  # (triangle, pixel centre) candidates handled at once: about 170 MB
CPU_CHUNK = 262_144  # the same on a CPU: its caches still hold the temporaries
BLOCKS = (
    2,
    3,
    5,
    8,
    16,
)  # sides of the squares of pixel centres tried for triangles in them; larger boxes go through a list
FAR = 1e20  # depth that counts as "nothing here"
OUTSIDE = (
    3e38  # lifts the depth of centres outside a triangle beyond FAR: edge functions in float32 are 0 or over 1e-16 px^2
)
EMPTY = torch.iinfo(torch.int64).max


@dataclass(frozen=True)
class _Corners:
    """Corner coordinates of a run of (triangle, image) pairs, prepared for the edge functions."""

    x: Tensor  # (3, pairs)
    y: Tensor
    sign: Tensor  # (pairs,) +1 or -1: makes the inside of the triangle positive; NaN: never drawn
    depth: Tensor  # of corner 0
    slope_x: Tensor  # change of depth a pixel
    slope_y: Tensor  # times sign
    nearest: Tensor
    farthest: Tensor
    left: Tensor  # box of pixel centres, clipped to the frame; empty if right < left or bottom < top
    right: Tensor
    top: Tensor
    bottom: Tensor
    image: Tensor  # first cell of the image, (pairs,) int64
    face: Tensor  # (pairs,) int64

    def __getitem__(self, kept: Tensor) -> _Corners:
        return _Corners(**{name: value.index_select(-1, kept) for name, value in vars(self).items()})


def checked_size(size: tuple[int, int]) -> tuple[int, int]:
    """Height and width in pixels, at least 1 and at most 4 million pixels together."""
    height, width = (int(side) for side in size)
    if height < 1 or width < 1 or height * width > CHUNK:
        raise ValueError(f"size: expected (height, width) from 1 to {CHUNK} pixels together, found {tuple(size)}")
    return height, width


def check_points(name: str, points: Tensor) -> None:
    """Refuse coordinates that are not (batch, vertices, 3) or not finite."""
    if points.ndim != 3 or points.shape[2] != 3:
        raise ValueError(f"{name}: expected shape (batch, vertices, 3), found {tuple(points.shape)}")
    if points.numel() and not torch.isfinite(points.detach().abs().max()):
        wrong = (~torch.isfinite(points.detach())).any(-1)
        raise ValueError(
            f"{name}: {int(wrong.sum())} of {wrong.numel()} vertices have NaN or infinite coordinates, "
            f"first in batch item {int(wrong.any(1).nonzero()[0])}; did the fit or the training diverge?"
        )


def visible_faces(
    points: Float[Tensor, "batch vertices 3"],
    faces: Topology | Int[Tensor, "triangles 3"],
    size: tuple[int, int],
    *,
    cull: bool = False,
    perspective: bool = False,
) -> Int[Tensor, "batch height width"]:
    r"""Number of the nearest triangle at each pixel centre, -1 where there is none. Has no gradient.

    A centre :math:`p` lies in a triangle if no edge function :math:`n_k = (v_{k+1}-p) \times (v_{k+2}-p)` has the wrong sign. They
    are computed relative to the centre, so that two triangles judge a shared edge by exactly opposite numbers and leave no
    pinhole. Of equally near triangles the one with the smaller number wins. Computed in float32.

    Parameters
    ----------
    points
        Pixel column x, pixel row y (down), depth (smaller is nearer). The centre of pixel (column c, row r) is (c + 0.5, r + 0.5).
    faces
        Triangles, or a `Topology`. Counter-clockwise seen from outside, as on the screen.
    size
        Height and width in pixels.
    cull
        Leave out triangles that show their back (clockwise on the screen), and thus the inside of an open mesh.
    perspective
        Depths are distances from a pinhole: compare inverse depths, which are linear on the screen, and leave out every triangle
        with a corner at or behind the camera (depth <= 0). Without it depth is taken as linear on the screen.

    Raises
    ------
    ValueError
        If points are not finite, a triangle points to a vertex that does not exist, or the size is not positive.
    """
    check_points("points", points)
    height, width = checked_size(size)
    topology = Topology.of(faces, points.shape[1])
    batch = len(points)
    keys = torch.full((batch * height * width,), EMPTY, dtype=torch.int64, device=points.device)
    with torch.no_grad():
        coordinates = points.detach().float().permute(2, 1, 0).contiguous()  # x, y, depth; then vertices, batch
        if perspective:
            depth = coordinates[2]
            coordinates[2] = torch.where(depth > 0, -1 / depth, torch.inf)
        chunk = CPU_CHUNK if points.device.type == "cpu" else CHUNK
        step = max(chunk // (BLOCKS[0] ** 2 * max(batch, 1)), 1)
        for first in range(0, len(topology) if batch else 0, step):
            corners = _corners(coordinates, topology.faces[first : first + step], first, (height, width), cull)
            _draw_block(keys, corners, BLOCKS[0], height, width)
            _draw_larger(keys, corners, chunk, height, width)
    nowhere = int(_key(torch.tensor(FAR), 0, torch.tensor(0.0)))
    background = keys >= nowhere
    return keys.bitwise_and_(2**32 - 1).masked_fill_(background, -1).view(batch, height, width)


def _corners(coordinates: Tensor, faces: Tensor, first: int, size: tuple[int, int], cull: bool) -> _Corners:
    batch, (height, width) = coordinates.shape[2], size
    indices = faces.t().reshape(-1)
    x, y, z = (values.index_select(0, indices).view(3, -1) for values in coordinates)
    x1, x2, y1, y2, z1, z2 = x[1] - x[0], x[2] - x[0], y[1] - y[0], y[2] - y[0], z[1] - z[0], z[2] - z[0]
    area = x1 * y2 - x2 * y1  # twice the area, negative for the front since y points down
    sign = area / (area.neg().clamp_min_(0) if cull else area.abs())
    nearest, farthest = z.amin(0), z.amax(0)
    # Not drawn means NaN, which fails every comparison later: 0/0 where there is no area is one already; infinities, from culled
    # faces (x/0) and from depths behind a pinhole, become one when multiplied by zero.
    sign = sign + 0 * sign + 0 * farthest
    left, right = (x.amin(0) - 0.5).ceil_().clamp_min_(0), (x.amax(0) - 0.5).floor_().clamp_max_(width - 1)
    top, bottom = (y.amin(0) - 0.5).ceil_().clamp_min_(0), (y.amax(0) - 0.5).floor_().clamp_max_(height - 1)
    image = torch.arange(batch, device=x.device).mul_(height * width).expand(len(faces), batch).reshape(-1)
    face = torch.arange(first, first + len(faces), device=x.device)[:, None].expand(-1, batch).reshape(-1)
    return _Corners(
        x=x,
        y=y,
        sign=sign,
        depth=z[0],
        slope_x=(z1 * y2 - z2 * y1) / area,
        slope_y=(x1 * z2 - x2 * z1) * sign / area,
        nearest=nearest,
        farthest=farthest,
        left=left,
        right=right,
        top=top,
        bottom=bottom,
        image=image,
        face=face,
    )


def _draw_larger(keys: Tensor, corners: _Corners, chunk: int, height: int, width: int) -> None:
    """Triangles over more centres than the smallest block: by the block that holds them, or by listing their boxes."""
    wide, tall = corners.right - corners.left + 1, corners.bottom - corners.top + 1
    side = torch.maximum(wide, tall)
    kept = ((side > BLOCKS[0]) & (torch.minimum(wide, tall) > 0) & (corners.sign.abs() == 1)).nonzero()[:, 0]
    if not len(kept):
        return
    corners, side = corners[kept], side[kept]
    for smaller, block in pairwise(BLOCKS):
        fitting = ((side > smaller) & (side <= block)).nonzero()[:, 0]
        for some in fitting.split(max(chunk // block**2, 1)) if len(fitting) else ():
            _draw_block(keys, corners[some], block, height, width)
    kept = (side > BLOCKS[-1]).nonzero()[:, 0]
    if len(kept):
        _draw_boxes(keys, corners[kept], chunk, width)


def _draw_block(keys: Tensor, corners: _Corners, block: int, height: int, width: int) -> None:
    """Try one square of centres for every triangle: there is no list to build, and columns and rows share their work."""
    rows, columns = min(block, height), min(block, width)
    left, top = corners.left.clamp_max(width - columns), corners.top.clamp_max(height - rows)
    column = torch.arange(columns, device=left.device)[:, None]
    row = torch.arange(rows, device=left.device)[:, None]
    dx = corners.x[:, None] - (left + (column + 0.5))  # (3, columns, pairs)
    dy = (corners.y[:, None] - (top + (row + 0.5))) * corners.sign
    cells = (corners.image + left.long() + top.long() * width) + (row[:, None] * width + column)
    _draw(keys, cells, corners, dx, dy[:, :, None])


def _draw_boxes(keys: Tensor, corners: _Corners, chunk: int, width: int) -> None:
    """Triangles over large boxes: list every centre of every box, about a chunk at a time."""
    wide, tall = corners.right - corners.left + 1, corners.bottom - corners.top + 1
    ends = (wide * tall).long().cumsum(0)
    total, begin, done = int(ends[-1]), 0, 0
    while done < total:
        end = max(int(torch.searchsorted(ends, done + chunk, right=True)), begin + 1)
        some = torch.arange(begin, end, device=keys.device)
        _draw_list(keys, corners[some], wide[begin:end], tall[begin:end], width)
        begin, done = end, int(ends[end - 1])


def _draw_list(keys: Tensor, corners: _Corners, wide: Tensor, tall: Tensor, width: int) -> None:
    counts = (wide * tall).long()
    starts = counts.cumsum(0) - counts
    owner = torch.repeat_interleave(counts)
    corners, wide = corners[owner], wide[owner]
    place = (torch.arange(len(owner), device=keys.device) - starts[owner]).to(wide.dtype)
    row = (
        (place + 0.5) / wide
    ).floor_()  # exact in float32 for boxes below 2^23 centres, and much faster than integers
    column = place - row * wide + corners.left
    row = row + corners.top
    cells = corners.image + (row * width + column).long()
    _draw(keys, cells, corners, corners.x - (column + 0.5), (corners.y - (row + 0.5)) * corners.sign)


def _draw(keys: Tensor, cells: Tensor, corners: _Corners, dx: Tensor, dy: Tensor) -> None:
    """Lower the keys of the cells whose centres lie inside; `dx` and `dy` run from the centre to the corners, `dy` times sign."""
    # No fused multiply-add: two triangles at an edge must get exactly opposite numbers. In place, since fresh memory costs more
    # than the arithmetic; without branches, since a mask of random pattern costs ten times as much as adding a huge depth.
    lowest, second, spare = dx[1] * dy[2], dx[2] * dy[0], dx[2] * dy[1]
    lowest.sub_(spare)
    second.sub_(torch.mul(dx[0], dy[2], out=spare))
    torch.minimum(lowest, second, out=lowest)
    torch.mul(dx[0], dy[1], out=second).sub_(torch.mul(dx[1], dy[0], out=spare))
    torch.minimum(lowest, second, out=lowest).clamp_(max=0)
    depth = torch.sub(corners.depth - corners.slope_x * dx[0], corners.slope_y * dy[0], out=second)
    torch.minimum(torch.maximum(depth, corners.nearest, out=depth), corners.farthest, out=depth)
    depth.add_(lowest, alpha=-OUTSIDE).nan_to_num_(nan=torch.inf)
    keys.scatter_reduce_(0, cells.view(-1), _key(depth, corners.face, spare).view(-1), "amin")


def _key(depth: Tensor, face: Tensor | int, spare: Tensor) -> Tensor:
    """64-bit number that sorts by float32 depth, exactly, and then by face. Destroys `depth` and `spare`."""
    bits, flip = depth.view(torch.int32), spare.view(torch.int32)
    # Positive floats sort like the integers of the same bits; negative ones the other way round.
    bits.bitwise_xor_(torch.bitwise_right_shift(bits, 31, out=flip).bitwise_and_(0x7FFFFFFF))
    return bits.long().mul_(2**32).add_(face)
