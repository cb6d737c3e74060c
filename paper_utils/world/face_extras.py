"""What turns the face mask into a head: cranium with hair, ears, neck, teeth. All follow the skin linearly and mirror exactly.

The shapes are choices of ours, judged in renders; nothing is measured on them. Hair is a displacement of the cranium's own vertices
by two style numbers (volume in mm, length in [0, 1]), outside the identity basis.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.interpolate import pchip_interpolate
from scipy.sparse import csr_matrix, diags
from scipy.sparse import vstack as stack_rows

from paper_utils.world.face_mesh import MOUTH_END, MOUTH_ROW, Part, Skin, grid_faces, select
from paper_utils.world.face_tables import COLUMNS, HANDLES, ROWS

HEAD_CENTRE = np.array([0.0, 20.0, -95.0])
CROWN = np.array([0.0, 112.0, -98.0])
BULGE = 7.0  # mm, at the temples
# Mid-line of the back of the head: row, y, z.
BACK = np.array(
    [
        (0, 42, -178),
        (2, 12, -183),
        (4, -12, -180),
        (6, -36, -168),
        (8, -58, -151),
        (10, -78, -140),
        (12, -95, -136),
        (15, -112, -135),
    ]
)
NECK_RINGS = np.array([  # y relative to the jaw's lower edge, half width, front z, back z
    (-6.0, 48.0, -50.0, -134.0),
    (-18.0, 49.0, -55.0, -136.0),
    (-42.0, 52.0, -54.0, -140.0),
    (-66.0, 60.0, -49.0, -146.0),
])  # fmt: skip
NECK_FOLLOWS = np.array([0.85, 0.5, 0.15, 0.0])  # how far each ring goes with the jaw
NECK_AXIS_Z = -92.0
EAR_CENTRE = np.array([77.5, -19.0, -104.0])
EAR_UP = np.array([0.10, 0.965, -0.24])
EAR_BACK = np.array([0.27, 0.16, -0.95])
EAR_SECTORS = 14
# Relative radius and height above the ear's plane (mm): bowl, antihelix, groove, rim, behind the rim, root inside the head.
EAR_RINGS = np.array([(0.36, -1.0), (0.58, 2.5), (0.80, 0.5), (0.95, 4.5), (1.0, 1.5), (0.55, -16.0)])


def smooth_step(x: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """0 below 0, 1 above 1, smooth between."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def temple_hair(skin: Skin) -> Float[np.ndarray, "n 3 2"]:
    """Hair displacement of the skin itself: at the temples, behind the hair line, it rises with the hair around it."""
    side = np.abs(skin.column)
    share = (
        0.55
        * smooth_step((side - 5.2) / 1.8)
        * smooth_step((0.8 + 1.7 * smooth_step((side - 6.4) / 1.4) - skin.row) / 0.8)
    )
    outward = skin.vertices - HEAD_CENTRE
    outward[:, 1:] *= 0.5
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    return np.stack([outward * share[:, None], np.zeros_like(outward)], -1)


def extras(skin: Skin) -> list[Part]:
    """All extra parts; in each, faces number the skin's vertices first and the part's own after them."""
    return [_cranium_and_neck(skin), _ears(skin), _teeth(skin)]


def _around(skin: Skin) -> Float[np.ndarray, " m"]:
    """Position of the columns that wrap the back of the head from left (0) to right (1), ends excluded; the first are close to the face."""
    half = np.r_[0.008, 0.03, np.linspace(0.03, 0.5, 3 * skin.points_per_cell)[1:]]
    return np.r_[half, 1 - half[-2::-1]]


def _wrap(skin: Skin, around: np.ndarray) -> Float[np.ndarray, "rows m 3"]:
    """Back of the head and nape, row by row, from the left edge of the mask to the right one."""
    k = skin.points_per_cell
    rows = np.arange(ROWS * k + 1) / k
    edge = skin.vertices[skin.index[:, -1]]
    back_y, back_z = (pchip_interpolate(BACK[:, 0], BACK[:, axis], rows) for axis in (1, 2))
    angle = np.pi * np.minimum(around, 1 - around)  # 0 at the face, pi/2 at the back
    centre = edge[:, 2] - 0.15 * (edge[:, 2] - back_z)  # widest a little behind the edge of the mask
    start = -np.arcsin((edge[:, 2] - centre) / (centre - back_z))[:, None]
    theta = start + (np.pi / 2 - start) * angle / (np.pi / 2)
    half_width = (edge[:, 0] / np.cos(start[:, 0]))[:, None]
    blend = smooth_step(2 * np.minimum(around, 1 - around))
    x = half_width * np.clip(np.cos(theta), 0, None) ** 0.85 * (np.cos(start) ** 0.15)
    x = np.where(around == 0.5, 0.0, x * np.sign(0.5 - around))
    y = edge[:, 1, None] + (back_y - edge[:, 1])[:, None] * blend
    z = centre[:, None] - (centre - back_z)[:, None] * np.sin(theta)
    return np.stack([x, y, z], -1)


def _slerp(start: np.ndarray, end: np.ndarray, share: np.ndarray) -> np.ndarray:
    """From ``start`` (m, 3) to ``end`` (3,) about the head's centre: direction on the great circle, radius blended."""
    first, last = start - HEAD_CENTRE, end - HEAD_CENTRE
    length, end_length = np.linalg.norm(first, axis=-1), np.linalg.norm(last)
    angle = np.arccos((first @ last) / (length * end_length))[:, None]
    unit, end_unit = first / length[:, None], last / end_length
    share = share[:, None, None]
    direction = (np.sin((1 - share) * angle) * unit + np.sin(share * angle) * end_unit) / np.sin(angle)
    side = (np.abs(start[:, 0]) / np.abs(start[:, 0]).max())[:, None]  # the temples go up before they go in
    bulge = BULGE * side**1.5 * np.sin(np.pi * share**0.8)
    return HEAD_CENTRE + direction * ((1 - share) * length[:, None] + share * end_length + bulge)


def _neck_ring(loop: np.ndarray, ring: np.ndarray) -> np.ndarray:
    y, half_width, front, back = ring
    angle = np.arctan2(loop[:, 0], loop[:, 2] - NECK_AXIS_Z)
    depth = np.where(np.cos(angle) > 0, front - NECK_AXIS_Z, NECK_AXIS_Z - back)
    level = loop[:, 1] + 0.7 * (-118.0 - loop[:, 1]) + y
    return np.stack([half_width * np.sin(angle), level, NECK_AXIS_Z + depth * np.cos(angle)], -1)


def _closed(index: np.ndarray) -> np.ndarray:
    return np.concatenate([index, index[:, :1]], axis=1)


@dataclass(frozen=True)
class _Piece:
    """Vertices that belong together: their numbers on a grid, places, carriers, and the numbers of their mirror images."""

    number: Int[np.ndarray, "rows columns"]
    vertices: Float[np.ndarray, "n 3"]
    identity: csr_matrix
    expression: csr_matrix
    mirror: Int[np.ndarray, " n"]


def _rings(
    start: int, vertices: np.ndarray, loop: tuple[csr_matrix, csr_matrix], share: np.ndarray, still: np.ndarray
) -> _Piece:
    """Rings that grow out of a closed border and follow it less and less.

    Parameters
    ----------
    start
        Number of the first vertex.
    vertices
        (rings, vertices a ring, 3); a ring starts on the mid-plane in front and runs over the left side.
    loop
        What carries the border, for identity and for expression.
    share, still
        How far each ring follows it for identity (the rest is the border's mean motion) and for expression (the rest is none).
    """
    rings, around = vertices.shape[:2]
    number = start + np.arange(rings * around).reshape(rings, around)
    flip = np.r_[0, np.arange(around - 1, 0, -1)]
    mean = csr_matrix(np.ones((around, 1))) @ csr_matrix(loop[0].mean(axis=0))
    return _Piece(
        number=number,
        vertices=vertices.reshape(-1, 3),
        identity=stack_rows([value * loop[0] + (1 - value) * mean for value in share]),
        expression=stack_rows([value * loop[1] for value in still]),
        mirror=number[:, flip].ravel(),
    )


def _cranium_and_neck(skin: Skin) -> Part:
    """Wrap around the back, dome over the hair line, tube below the jaw; they share the mask's border vertices."""
    k, total, around = skin.points_per_cell, len(skin.vertices), _around(skin)
    shell = _wrap(skin, around)
    number = total + np.arange(shell[..., 0].size).reshape(shell.shape[:2])
    wrap = _Piece(number, shell.reshape(-1, 3), *_wrap_follow(skin, around), number[:, ::-1].ravel())
    known = np.concatenate([skin.vertices, wrap.vertices])
    follow = tuple(
        stack_rows([select(np.arange(total), total), carried]).tocsr() for carried in (wrap.identity, wrap.expression)
    )

    def border(row: int) -> np.ndarray:  # of the mask and the wrap, from the mid-plane in front over the left side
        edge = skin.index[row]
        return np.concatenate([edge[COLUMNS * k :], number[row], edge[: COLUMNS * k]])

    top, bottom = border(0), border(-1)
    share = np.r_[0.03, np.linspace(0.14, 0.86, 2 * k + 1)]
    carriers = tuple(matrix[top] for matrix in follow)
    dome = _rings(total + number.size, _slerp(known[top], CROWN, share), carriers, 1 - share, (1 - share) ** 2)
    crown_number = total + number.size + dome.number.size
    mean = csr_matrix(carriers[0].mean(axis=0))
    crown = _Piece(np.array([[crown_number]]), CROWN[None], mean, csr_matrix(mean.shape), np.array([crown_number]))
    tube = np.stack([_neck_ring(known[bottom], ring) for ring in NECK_RINGS])
    neck = _rings(crown_number + 1, tube, tuple(matrix[bottom] for matrix in follow), NECK_FOLLOWS, NECK_FOLLOWS)

    grids = [
        np.concatenate([skin.index[:, -1:], number, skin.index[:, :1]], axis=1),
        _closed(np.concatenate([dome.number[::-1], top[None]])),
        _closed(np.concatenate([bottom[None], neck.number])),
    ]
    fan = np.stack([np.full(len(top), crown_number), grids[1][0, :-1], grids[1][0, 1:]], -1)
    hair, cover = _hair(skin, around, shell, np.concatenate([dome.vertices, crown.vertices]), len(top))
    bare = len(neck.vertices)
    pieces = (wrap, dome, crown, neck)
    return Part(
        name="cranium",
        vertices=np.concatenate([piece.vertices for piece in pieces]),
        faces=np.concatenate([*(grid_faces(grid, grid) for grid in grids), fan]),
        identity=stack_rows([piece.identity for piece in pieces]).tocsr(),
        expression=stack_rows([piece.expression for piece in pieces]).tocsr(),
        mirror=np.concatenate([piece.mirror for piece in pieces]) - total,
        hair=np.concatenate([hair, np.zeros((bare, 3, 2))]),
        hair_cover=np.concatenate([cover, np.zeros((bare, 2))]),
    )


def _wrap_follow(skin: Skin, around: np.ndarray) -> tuple[csr_matrix, csr_matrix]:
    rows, wide, total = len(skin.index), len(around), len(skin.vertices)
    left, right = (select(np.repeat(skin.index[:, side], wide), total) for side in (-1, 0))
    share = np.tile(smooth_step(around), rows)
    identity = diags(1 - share) @ left + diags(share) @ right
    fade = np.tile(np.abs(1 - 2 * around), rows)  # the back of the head does not speak
    return identity.tocsr(), (diags(fade) @ identity).tocsr()


def _hair(
    skin: Skin, around: np.ndarray, wrap: np.ndarray, dome: np.ndarray, loop: int
) -> tuple[Float[np.ndarray, "n 3 2"], Float[np.ndarray, "n 2"]]:
    """Displacement per mm of hair volume and per unit of hair length, and how far short and long hair cover each vertex."""
    rows = (np.arange(len(wrap)) / skin.points_per_cell)[:, None]
    side = np.minimum(around, 1 - around)[None]
    # Short hair ends above the ear, then straight down behind it, then along the nape.
    hair_line = 3.3 + 5.2 * smooth_step((side - 0.13) / 0.08)
    short = smooth_step((hair_line - rows) / 0.9 + 0.3)
    long = np.broadcast_to(smooth_step((13.6 - rows) / 0.5), short.shape)
    outward = wrap - HEAD_CENTRE
    outward[..., 1] *= 0.4
    outward /= np.linalg.norm(outward, axis=-1, keepdims=True)
    thickness = short * (1 - 0.75 * smooth_step(rows / 8)) * np.clip(0.55 + 4.0 * side, 0, 1)
    wrap_hair = np.stack([outward * thickness[..., None], _hanging(around, rows, wrap) * long[..., None]], -1)

    radial = dome - HEAD_CENTRE
    radial /= np.linalg.norm(radial, axis=1, keepdims=True)
    radial[:loop] *= 0.62  # the ring next to the hair line
    dome_hair = np.stack([radial, np.zeros_like(radial)], -1)
    cover = np.concatenate([np.stack([short, long], -1).reshape(-1, 2), np.ones((len(dome), 2))])
    return np.concatenate([wrap_hair.reshape(-1, 3, 2), dome_hair]), cover


def _hanging(around: np.ndarray, rows: np.ndarray, wrap: np.ndarray) -> Float[np.ndarray, "rows m 3"]:
    """From the bare head to hair that hangs straight to the jaw, around ears and nape."""
    side = np.minimum(around, 1 - around)[None]
    theta = np.radians(-22) + np.radians(112) * side / 0.5
    width = 79 + 7 * np.sin(np.pi * np.clip((rows - 2) / 12, 0, 1)) - 5 * smooth_step((rows - 11) / 2.6)
    x = np.where(around == 0.5, 0.0, width * np.cos(theta) * np.sign(0.5 - around))
    z = np.broadcast_to(-106 - 83 * np.sin(theta), x.shape)
    # The first column stays at the face, a little in front of it: between it and the second one hair is seen from the front.
    pull = smooth_step(rows / 4.5) * np.where(side < 0.01, 0.12, 1.0)
    return np.stack([pull * (x - wrap[..., 0]), np.zeros_like(x), pull * (z - wrap[..., 2])], -1)


def _ears(skin: Skin) -> Part:
    """Two shells with bowl, antihelix and rim; each moves with the tragion, and slips under long hair."""
    angle = 2 * np.pi * np.arange(EAR_SECTORS) / EAR_SECTORS  # 0 to the back, pi/2 up
    lateral = np.cross(EAR_UP, EAR_BACK)
    lateral *= np.sign(lateral[0]) / np.linalg.norm(lateral)
    narrow = 1 - 0.28 * np.clip(-np.sin(angle), 0, 1)  # toward the lobe
    across = np.where(np.cos(angle) > 0, 20.0, 13.0) * np.cos(angle) * narrow
    outline = 32.0 * np.sin(angle)[:, None] * EAR_UP + across[:, None] * EAR_BACK
    attached = smooth_step((-np.cos(angle) + 0.1) / 0.9)  # in front the rim runs into the cheek
    height = EAR_RINGS[:, 1:] * np.where(EAR_RINGS[:, 1:] > 0, 1 - 0.9 * attached - 0.4 * (np.sin(angle) < -0.8), 1.0)
    rings = EAR_CENTRE + EAR_RINGS[:, 0, None, None] * outline + height[..., None] * lateral
    rings -= np.array([3.0, 0, 0]) * attached[:, None] * EAR_RINGS[:, 0, None, None]
    left = np.concatenate([[EAR_CENTRE - 1.5 * lateral], rings.reshape(-1, 3)])
    number = 1 + np.arange(rings.shape[0] * EAR_SECTORS).reshape(rings.shape[0], EAR_SECTORS)
    grid = _closed(number)
    faces = np.concatenate(
        [grid_faces(grid, grid), np.stack([np.zeros(EAR_SECTORS, int), grid[0, :-1], grid[0, 1:]], -1)]
    )
    count, total = len(left), len(skin.vertices)
    row, column, _ = HANDLES["t"]
    carried = select(np.repeat([skin.vertex(row, column), skin.vertex(row, -column)], count), total)
    tuck = np.stack([np.zeros_like(left), EAR_CENTRE - np.array([30.0, 0, 0]) - left], -1)
    flip = np.array([-1, 1, 1])
    return Part(
        name="ear",
        vertices=np.concatenate([left, left * flip]),
        faces=np.concatenate([faces, faces[:, ::-1] + count]) + total,
        identity=carried,
        expression=csr_matrix(carried.shape),
        mirror=np.r_[count : 2 * count, :count],
        hair=np.concatenate([tuck, tuck * flip[:, None]]),
        hair_cover=np.zeros((2 * count, 2)),
    )


def _teeth(skin: Skin) -> Part:
    """An upper and a lower strip behind the lips: they sit where a person's lips sit; the lower one goes with the jaw."""
    k, total = skin.points_per_cell, len(skin.vertices)
    reach = round(0.8 * MOUTH_END * k)
    steps = np.arange(-reach, reach + 1)
    columns, arch = steps + COLUMNS * k, (steps / (MOUTH_END * k))[:, None] ** 2
    upper, lower = skin.index[MOUTH_ROW * k, columns], skin.index_lower[MOUTH_ROW * k, columns]
    carriers = np.stack([upper, upper, lower, lower])
    offset = (
        np.array([[0, 8.0, -6.5], [0, -2.0, -6.5], [0, -2.6, -7.5], [0, -9.0, -7.5]])[:, None]
        - np.array([0, 0, 6.0]) * arch
    )
    vertices = skin.vertices[carriers] * np.array([0.9, 1, 1]) + offset
    own = total + np.arange(carriers.size).reshape(carriers.shape)
    carried = select(carriers.ravel(), total)
    return Part(
        name="teeth",
        vertices=vertices.reshape(-1, 3),
        faces=np.concatenate([grid_faces(own[:2], own[:2]), grid_faces(own[2:], own[2:])]),
        identity=carried,
        expression=csr_matrix(carried.shape),
        mirror=np.arange(carriers.size).reshape(carriers.shape)[:, ::-1].ravel(),
        jaw=np.repeat([0.0, 1.0], 2 * len(steps)),
    )
