"""The mesh of the face mask: skin grid with slits for mouth and eyes, eyeballs, and the dark sock behind the lips.

Each part says which skin vertices carry it, so that identity, expression and jaw stay linear in the handles. NumPy, built once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.interpolate import pchip_interpolate
from scipy.sparse import csr_matrix

from paper_utils.world.face_tables import CAGE, COLUMNS, ROWS

# All numbers below are choices of ours, looked at in renders.
MOUTH_ROW, MOUTH_END = 10, 3.0
EYE_ROW, EYE_INNER, EYE_OUTER = 4, 2.0, 4.0
BALL_CENTRE = np.array([31.2, -4.2, -24.6])
BALL_RADIUS = 12.2
LID_RADIUS = 13.1  # skin over the ball lies at least this far from its centre
LID_OPENING = 9.5  # mm, between the lids
LID_CLOSED_RADIUS = 13.9  # a closed lid is a little thicker: the straight way there then stays clear of the ball
LID_EDGE = (
    1.0  # mm by which the edge of the closed upper lid stands out, so that it lies over the lower lid at every column
)
LID_OVERLAP = 2.4  # mm the upper lid passes the lower one when closed: two standard deviations of the eye's height
LOWER_LID_RISE = 1.7  # mm
# Polar angle of the rings of an eyeball: both sides of the pupil's edge (2.5 mm), of the iris' edge (6.4 mm), white, rim.
BALL_RINGS = np.array(
    [np.arcsin(radius / BALL_RADIUS) for radius in (2.3, 2.6, 6.1, 6.6)] + [np.radians(50), np.radians(72)]
)
BALL_SECTORS = 14


@dataclass(frozen=True)
class Part:
    """A piece of the mesh that follows the skin.

    Parameters
    ----------
    name
        "eyeball", "mouth", "teeth", "ear" or "cranium".
    vertices, faces
        Millimetres; triangles counter-clockwise seen from outside, which number the skin's vertices first and the part's own after them.
    identity, expression
        Weights on the skin vertices whose displacement moves each vertex of the part.
    mirror
        Which vertex of the part is the mirror image of each.
    jaw
        Jaw weight of each vertex, where it is not carried as an expression is.
    hair, hair_cover
        Displacement per mm of hair volume and per unit of hair length; share of each vertex that short and long hair cover.
    """

    name: str
    vertices: Float[np.ndarray, "n 3"]
    faces: Int[np.ndarray, "f 3"]
    identity: csr_matrix
    expression: csr_matrix
    mirror: Int[np.ndarray, " n"]
    jaw: Float[np.ndarray, " n"] | None = None
    hair: Float[np.ndarray, "n 3 2"] | None = None
    hair_cover: Float[np.ndarray, "n 2"] | None = None


@dataclass(frozen=True)
class Skin:
    """The skin of the mask.

    Parameters
    ----------
    row, column
        Semantic coordinate of each vertex.
    lower
        Whether the vertex is the lower copy at a slit.
    index
        Vertex number of each grid node; at slits the upper copy.
    index_lower
        The same with the lower copies.
    """

    vertices: Float[np.ndarray, "n 3"]
    faces: Int[np.ndarray, "f 3"]
    row: Float[np.ndarray, " n"]
    column: Float[np.ndarray, " n"]
    lower: Bool[np.ndarray, " n"]
    index: Int[np.ndarray, "rows columns"]
    index_lower: Int[np.ndarray, "rows columns"]
    mirror: Int[np.ndarray, " n"]
    points_per_cell: int

    def vertex(self, row: float, column: float, lower: bool = False) -> int:
        """Number of the vertex at a semantic coordinate that lies on the grid."""
        table = self.index_lower if lower else self.index
        return int(table[round(row * self.points_per_cell), round((column + COLUMNS) * self.points_per_cell)])


def grid_faces(
    index: Int[np.ndarray, "rows columns"], below: Int[np.ndarray, "rows columns"]
) -> Int[np.ndarray, "f 3"]:
    """Two triangles a cell, counter-clockwise where rows run down and columns to the left of the subject, diagonals mirrored.

    Parameters
    ----------
    index, below
        Vertex at each node as seen by the cell above it, and by the cell below it; they differ along a slit.
    """
    a, b, c, d = below[:-1, :-1], below[:-1, 1:], index[1:, :-1], index[1:, 1:]
    left = np.broadcast_to(np.arange(a.shape[1]) >= a.shape[1] / 2, a.shape)
    first = np.where(left[..., None], np.stack([a, c, d], -1), np.stack([a, c, b], -1))
    second = np.where(left[..., None], np.stack([a, d, b], -1), np.stack([b, c, d], -1))
    return np.stack([first, second], 2).reshape(-1, 3)


def surface_points(
    rows: Float[np.ndarray, " rows"], columns: Float[np.ndarray, " columns"]
) -> Float[np.ndarray, "rows columns 3"]:
    """Template surface at a grid of semantic coordinates: monotone cubic (PCHIP) along rows, then along columns; lids not yet opened."""
    cage = np.concatenate([CAGE[:, :0:-1] * np.array([-1, 1, 1]), CAGE], axis=1)
    along_rows = pchip_interpolate(np.arange(ROWS + 1), cage, rows, axis=0)
    return pchip_interpolate(np.arange(-COLUMNS, COLUMNS + 1), along_rows, columns, axis=1)


def skin(points_per_cell: int) -> Skin:
    """Sample the cage and cut the slits; lids are opened and laid over the eyeballs."""
    k = points_per_cell
    rows, columns = np.arange(ROWS * k + 1) / k, np.arange(-COLUMNS * k, COLUMNS * k + 1) / k
    surface = surface_points(rows, columns)
    middle = COLUMNS * k
    surface[:, middle, 0] = 0
    surface[:, :middle] = surface[:, :middle:-1] * np.array([-1, 1, 1])  # exact, not to rounding

    row, column = (grid.ravel() for grid in np.meshgrid(rows, columns, indexing="ij"))
    mouth = (row == MOUTH_ROW) & (np.abs(column) < MOUTH_END)
    eyes = (row == EYE_ROW) & (np.abs(column) > EYE_INNER) & (np.abs(column) < EYE_OUTER)
    copied = np.flatnonzero(mouth | eyes)
    index = np.arange(len(row)).reshape(len(rows), len(columns))
    index_lower = index.copy()
    index_lower.reshape(-1)[copied] = len(row) + np.arange(len(copied))
    mirror = np.empty(len(row) + len(copied), dtype=np.int64)
    mirror[index] = index[:, ::-1]
    mirror[index_lower] = index_lower[:, ::-1]

    vertices = np.concatenate([surface.reshape(-1, 3), surface.reshape(-1, 3)[copied]])
    row, column = np.concatenate([row, row[copied]]), np.concatenate([column, column[copied]])
    lower = np.arange(len(row)) >= index.size
    return Skin(
        vertices=_open_lids(vertices, row, column, lower, k),
        faces=grid_faces(index, index_lower),
        row=row,
        column=column,
        lower=lower,
        index=index,
        index_lower=index_lower,
        mirror=mirror,
        points_per_cell=k,
    )


def lid_profile(column: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """How far the lids part at a column: 0 at the corners of the eye, 1 near its middle, fuller toward the nose."""
    t = np.clip((np.abs(column) - EYE_INNER) / (EYE_OUTER - EYE_INNER), 0, 1)
    return np.clip(np.sin(np.pi * t**0.85), 0, None) ** 0.75


def _ball_centres(column: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n 3"]:
    return BALL_CENTRE * np.stack([np.sign(column), np.ones_like(column), np.ones_like(column)], -1)


def on_sphere(
    vertices: Float[np.ndarray, "n 3"], column: Float[np.ndarray, " n"], radius: float
) -> Float[np.ndarray, " n"]:
    """Depth z that puts each vertex at least ``radius`` away from the centre of its eyeball."""
    offset = vertices - _ball_centres(column)
    height = np.sqrt(np.clip(radius**2 - offset[:, 0] ** 2 - offset[:, 1] ** 2, 0, None))
    return np.where(height > 0, np.maximum(vertices[:, 2], BALL_CENTRE[2] + height), vertices[:, 2])


def _open_lids(vertices: np.ndarray, row: np.ndarray, column: np.ndarray, lower: np.ndarray, k: int) -> np.ndarray:
    vertices = vertices.copy()
    steps = np.rint((row - EYE_ROW) * k).astype(int)  # grid rows below the slit
    follow = np.select([steps == 0, np.abs(steps) == 1, np.abs(steps) == 2], [1.0, 0.45, 0.18], 0.0)
    below = (steps > 0) | lower
    vertices[:, 1] += LID_OPENING * np.where(below, -0.42, 0.58) * follow * lid_profile(column)
    lids = lid_patch(row, column)
    vertices[lids, 2] = on_sphere(vertices, column, LID_RADIUS)[lids]
    return vertices


def lid_patch(row: Float[np.ndarray, " n"], column: Float[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Skin over an eyeball: a row above and below the slit, corners of the eye left out."""
    t = (np.abs(column) - EYE_INNER) / (EYE_OUTER - EYE_INNER)
    return (np.abs(row - EYE_ROW) <= 1) & (t > 0.02) & (t < 0.98)


def lid_closure(skin: Skin) -> Float[np.ndarray, "n 3"]:
    """Displacement of every skin vertex that closes both eyes.

    The upper edge comes down on the lower one and `LID_OVERLAP` past it, in front; rows up to the crease unfold in proportion, and
    everything keeps clear of the eyeball. A single handle in the middle of the lid leaves slivers at the sides.
    """
    patch = lid_patch(skin.row, skin.column)
    above = patch & (skin.row <= EYE_ROW) & ~skin.lower
    profile = lid_profile(skin.column)
    k = skin.points_per_cell
    column_number = np.rint((skin.column + COLUMNS) * k).astype(int)
    upper_edge = skin.vertices[skin.index[EYE_ROW * k, column_number]]
    lower_edge = skin.vertices[skin.index_lower[EYE_ROW * k, column_number]]
    share = np.clip(1 - np.abs(skin.row - EYE_ROW), 0, 1)
    rise = np.zeros_like(skin.vertices)
    rise[:, 1] = LOWER_LID_RISE * profile
    fall = lower_edge + rise - upper_edge - np.array([0, LID_OVERLAP, 0]) * profile[:, None]
    moved = skin.vertices + np.where(above[:, None], share[:, None] ** 1.15 * fall, share[:, None] * rise)
    moved[:, 2] = np.where(above & (share > 0), on_sphere(moved, skin.column, LID_CLOSED_RADIUS), moved[:, 2])
    moved[:, 2] += np.where(above, LID_EDGE * share**4 * profile, 0.0)
    below = patch & ~above
    moved[:, 2] = np.where(below & (share > 0), on_sphere(moved, skin.column, LID_RADIUS), moved[:, 2])
    return np.where(patch[:, None], moved - skin.vertices, 0.0)


def select(vertices: Int[np.ndarray, " m"], total: int) -> csr_matrix:
    """Matrix that copies the displacement of the given skin vertices."""
    count = len(vertices)
    return csr_matrix((np.ones(count), (np.arange(count), vertices)), shape=(count, total))


def eyeballs(skin: Skin) -> Part:
    """Two caps of a sphere; each moves with the mean of its eye's corners, and not at all in an expression."""
    azimuth = 2 * np.pi * np.arange(BALL_SECTORS) / BALL_SECTORS
    polar = BALL_RINGS[:, None]
    ring = np.stack(
        [
            np.sin(polar) * np.cos(azimuth),
            np.sin(polar) * np.sin(azimuth),
            np.broadcast_to(np.cos(polar), (len(polar), BALL_SECTORS)),
        ],
        -1,
    )
    cap = BALL_CENTRE + BALL_RADIUS * np.concatenate([[[0, 0, 1]], ring.reshape(-1, 3)])
    number = 1 + np.arange(ring.shape[0] * BALL_SECTORS).reshape(ring.shape[0], BALL_SECTORS)
    following = np.roll(number, -1, axis=1)
    fan = np.stack([np.zeros(BALL_SECTORS, dtype=int), number[0], following[0]], -1)
    quads = [number[:-1], number[1:], following[1:], number[:-1], following[1:], following[:-1]]
    faces = np.concatenate([fan, np.stack(quads, -1).reshape(-1, 3)])
    count = len(cap)
    corners = [[skin.vertex(EYE_ROW, side * EYE_INNER), skin.vertex(EYE_ROW, side * EYE_OUTER)] for side in (1, -1)]
    columns = np.repeat(np.array(corners), count, axis=0)
    rows = np.repeat(np.arange(2 * count), 2)
    carried = csr_matrix((np.full(4 * count, 0.5), (rows, columns.ravel())), shape=(2 * count, len(skin.vertices)))
    return Part(
        name="eyeball",
        vertices=np.concatenate([cap, cap * np.array([-1, 1, 1])]),
        faces=np.concatenate([faces, faces[:, ::-1] + count]) + len(skin.vertices),
        identity=carried,
        expression=csr_matrix(carried.shape),
        mirror=np.r_[count : 2 * count, :count],
    )


def mouth_sock(skin: Skin) -> Part:
    """Five strips from the upper lip back into the mouth and out to the lower lip; the lips themselves are its first and last row."""
    k = skin.points_per_cell
    columns = np.arange(-round(MOUTH_END * k), round(MOUTH_END * k) + 1) + COLUMNS * k
    upper, lower = skin.index[MOUTH_ROW * k, columns], skin.index_lower[MOUTH_ROW * k, columns]
    shrink = np.sqrt(1 - np.abs(columns - COLUMNS * k) / (MOUTH_END * k)).clip(0.15)[:, None]
    carriers = np.stack([upper, upper, lower, lower])
    offsets = np.array([[0, 3, -7], [0, 5, -16], [0, -5, -16], [0, -3, -7]])
    vertices = skin.vertices[carriers] + offsets[:, None] * shrink
    own = len(skin.vertices) + np.arange(carriers.size).reshape(carriers.shape)
    rows = np.concatenate([upper[None], own, lower[None]])
    carried = select(carriers.ravel(), len(skin.vertices))
    return Part(
        name="mouth",
        vertices=vertices.reshape(-1, 3),
        faces=grid_faces(rows, rows),
        identity=carried,
        expression=carried,
        mirror=np.arange(carriers.size).reshape(carriers.shape)[:, ::-1].ravel(),
    )
