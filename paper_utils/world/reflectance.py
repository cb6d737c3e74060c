r"""What the face is painted with: skin from two pigments, lips, brows, lashes, beard, hair, eyes, and each person's own blotches.

Everything is linear reflectance in [0, 1]; a display curve belongs to figures. The skin is a UV map, other parts are coloured by
vertex. Without the asymmetric part every map is its own mirror image. All numbers are choices of ours, guided by renders.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
import torch.nn.functional as functional
from jaxtyping import Bool, Float, Int
from torch import Tensor

from paper_utils.world.face import Head
from paper_utils.world.face_extras import EAR_RINGS, EAR_SECTORS
from paper_utils.world.face_mesh import BALL_CENTRE, EYE_INNER, EYE_OUTER, EYE_ROW, MOUTH_END, MOUTH_ROW, surface_points
from paper_utils.world.face_tables import COLUMNS, ROWS

WHITE_SKIN = (0.93, 0.80, 0.70)  # reflectance without pigment, by channel
MELANIN_ABSORPTION, BLOOD_ABSORPTION = (0.95, 1.30, 1.62), (0.10, 0.50, 0.42)
BLOOD_AT_REST = 0.55
BLOTCHES, FRECKLES = 12, 130
BLOTCH_AMPLITUDE, BLOTCH_SD = 0.1, (0.25, 0.7)  # standard deviation of the log; size range in grid units
FRECKLE_DEPTH, FRECKLE_SD = 0.28, (0.05, 0.10)
DARK_HAIR = (0.13, 0.09, 0.07)
FULL_COVER_MM = 4.0  # thinner hair lets the skin through
STUBBLE = (0.10, 0.09, 0.09)
SCLERA, PUPIL, PUPIL_MM, IRIS_MM = (0.90, 0.87, 0.84), (0.02, 0.02, 0.02), 2.45, 6.35
EAR_SHADE = (0.6, 0.66, 0.96, 0.86, 1.0, 1.0, 0.95)  # centre and rings of an ear: less light reaches its hollows
MOUTH, TEETH = (0.22, 0.07, 0.07), (0.84, 0.80, 0.72)


@dataclass(frozen=True)
class Skin:
    """Reflectance of people, one entry a person in every field.

    Parameters
    ----------
    melanin
        Amount of pigment, about 0.05 (fair) to 1.1 (dark).
    blood
        About 0.2 to 0.7.
    lip
        Redness of the lips, 0.3 to 0.8.
    brow
        Strength of the brows, 0.4 to 1.
    beard
        Strength of the beard shadow, 0 to 1.
    lash
        Darkness of the lash line, 0 to 1.
    freckles
        0 to 1.
    iris, hair
        Colours in [0, 1].
    hair_volume, hair_length
        Millimetres, 0 is bald; 0 (short) to 1 (to the jaw).
    asymmetry
        Weight of the asymmetric part of the blotches: 0 makes a mirror-symmetric person, 3 is a strong negative control.
    seed
        Which blotches and freckles; the same seed gives the same ones whoever else is in the batch.

    Raises
    ------
    ValueError
        If lengths differ, a value is not finite or negative, or a colour leaves [0, 1].
    """

    melanin: Float[np.ndarray, " people"]
    blood: Float[np.ndarray, " people"]
    lip: Float[np.ndarray, " people"]
    brow: Float[np.ndarray, " people"]
    beard: Float[np.ndarray, " people"]
    lash: Float[np.ndarray, " people"]
    freckles: Float[np.ndarray, " people"]
    iris: Float[np.ndarray, "people 3"]
    hair: Float[np.ndarray, "people 3"]
    hair_volume: Float[np.ndarray, " people"]
    hair_length: Float[np.ndarray, " people"]
    asymmetry: Float[np.ndarray, " people"]
    seed: Int[np.ndarray, " people"]

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            shape = (len(self.melanin), 3) if field.name in ("iris", "hair") else (len(self.melanin),)
            if value.shape != shape:
                raise ValueError(f"Skin.{field.name}: expected shape {shape} (one entry a person), found {value.shape}")
            if not np.isfinite(value).all() or (value < 0).any():
                raise ValueError(
                    f"Skin.{field.name}: expected finite numbers from 0 up, found {value[~(value >= 0)][:3]}"
                )
            if value.ndim == 2 and (value > 1).any():
                raise ValueError(f"Skin.{field.name}: a colour lies in [0, 1], found {value.max():g}; divide by 255?")

    def __len__(self) -> int:
        return len(self.melanin)

    def take(self, rows: np.ndarray | Sequence[int]) -> Skin:
        """The people of the chosen rows, in that order."""
        rows = np.asarray(rows)
        return Skin(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    @classmethod
    def typical(cls, people: int = 1, **changes: float | Sequence[float] | np.ndarray) -> Skin:
        """Equal people with middling values; name fields to change them, one value for all or one a person.

        Examples
        --------
        >>> Skin.typical(2, melanin=[0.1, 0.9]).melanin.tolist()
        [0.1, 0.9]
        """
        values: dict[str, object] = {
            "melanin": 0.25, "blood": 0.45, "lip": 0.5, "brow": 0.8, "beard": 0.0, "lash": 0.8, "freckles": 0.0,
            "iris": (0.20, 0.12, 0.06), "hair": (0.10, 0.06, 0.04), "hair_volume": 9.0, "hair_length": 0.0, "asymmetry": 0.0, "seed": 0,
        }  # fmt: skip
        unknown = set(changes) - set(values)
        if unknown:
            raise ValueError(f"Skin.typical: unknown fields {sorted(unknown)}; known are {sorted(values)}")
        values |= changes
        shapes = {name: (people, 3) if name in ("iris", "hair") else (people,) for name in values}
        kinds = {name: np.int64 if name == "seed" else np.float64 for name in values}
        return cls(
            **{
                name: np.broadcast_to(np.asarray(value, dtype=kinds[name]), shapes[name]).copy()
                for name, value in values.items()
            }
        )

    @property
    def hair_style(self) -> Float[Tensor, "people 2"]:
        """Hair volume and length as `Head.identity_vertices` takes them.

        Lengths below 0.25 are cut short, longer hair starts with a good layer: a film of hair on the neck looks like a hood. No length
        without volume.
        """
        layer = np.where(self.hair_length < 0.25, 0.0, 0.35 + 0.65 * (self.hair_length - 0.25) / 0.75)
        length = layer * (self.hair_volume / FULL_COVER_MM).clip(0, 1)
        return torch.tensor(np.stack([self.hair_volume, length], -1), dtype=torch.float32)


@dataclass(frozen=True)
class _Canvas:
    """Where paint goes: semantic coordinates and template position of points, and which lip or lid they are on."""

    row: Tensor
    column: Tensor
    x: Tensor
    y: Tensor
    below: Tensor  # below the slit of eye or mouth


def reflectance_maps(params: Skin, size: int) -> Float[Tensor, "people 3 size size"]:
    r"""UV maps of the skin.

    Texel (i, j) has its centre at :math:`v = (i + 1/2)/\text{size}` (hair line on top) and :math:`u = (j + 1/2)/\text{size}` (the
    subject's right ear first), so a map's mirror image is its flip in width, and `torch.nn.functional.grid_sample` reads it with
    ``align_corners=False``.

    Raises
    ------
    ValueError
        If the size is not a positive whole number.
    """
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ValueError(f"size: expected a positive whole number of texels, found {size!r}")
    steps = (np.arange(size) + 0.5) / size
    rows, columns = steps * ROWS, steps * 2 * COLUMNS - COLUMNS
    points = torch.tensor(surface_points(rows, columns), dtype=torch.float32)
    row, column = (_single(values) for values in (rows, columns))
    grid_row, grid_column = torch.meshgrid(row, column, indexing="ij")
    below = grid_row > torch.where(grid_row < 7, float(EYE_ROW), float(MOUTH_ROW))
    painted = _paint(_Canvas(grid_row, grid_column, points[..., 0], points[..., 1], below), params)
    blotches = _blotch_map(params, row, column)
    painted = painted * blotches[:, None].exp()
    return ((painted + painted.flip(-1)) / 2 if (params.asymmetry == 0).all() else painted).clamp(0, 1)


def vertex_colours(params: Skin, head: Head) -> Float[Tensor, "people vertices 3"]:
    """Colour of every vertex: skin as in `reflectance_maps`, and eyes, mouth, teeth, hair, ears, which have no map."""
    on_skin = head.part == head.part_names.index("skin")
    where = torch.nonzero(on_skin)[:, 0]
    row, column = head.grid[where].T
    upper = torch.ones(len(where), dtype=torch.bool)
    copies = torch.unique(torch.stack([row, column], 1), dim=0, return_inverse=True)[1]
    seen = torch.zeros(int(copies.max()) + 1, dtype=torch.int64).index_add_(0, copies, torch.ones_like(copies))
    first = torch.full((len(seen),), len(where)).scatter_reduce_(0, copies, torch.arange(len(where)), "amin")
    upper[(seen[copies] == 2) & (torch.arange(len(where)) != first[copies])] = False
    below = (row > torch.where(row < 7, float(EYE_ROW), float(MOUTH_ROW))) | ~upper
    canvas = _Canvas(row, column, head.vertices[where, 0], head.vertices[where, 1], below)
    colours = torch.zeros(len(params), len(head.vertices), 3)
    painted = _paint(canvas, params) * _blotches(params, row, column)[:, None].exp()
    colours[:, where] = painted.transpose(1, 2)
    for name, colour in _other_parts(params, head).items():
        chosen = head.part == head.part_names.index(name)
        colours[:, chosen] = colour
    return colours.clamp(0, 1)


def pixel_reflectance(
    maps: Float[Tensor, "batch 3 size size"],
    colours: Float[Tensor, "batch 3 height width"],
    uv: Float[Tensor, "batch 2 height width"],
    skin: Bool[Tensor, "batch height width"],
) -> Float[Tensor, "batch 3 height width"]:
    """Reflectance of each pixel of a picture: the map where the pixel sees skin, the interpolated vertex colour elsewhere.

    Parameters
    ----------
    maps
        From `reflectance_maps`.
    colours, uv
        Vertex colours and texture coordinates, interpolated to the pixels.
    skin
        Whether the triangle that the pixel sees is skin (``head.face_part == 0``).
    """
    sampled = functional.grid_sample(
        maps, 2 * uv.permute(0, 2, 3, 1) - 1, mode="bilinear", padding_mode="border", align_corners=False
    )
    return torch.where(skin[:, None], sampled, colours)


def skin_colour(melanin: Float[Tensor, "*#place"], blood: Float[Tensor, "*#place"]) -> Float[Tensor, " 3 *place"]:
    r"""Beer-Lambert law for two pigments, by channel: :math:`\rho = \rho_0\, e^{-(m a_m + h a_h)}`."""
    return torch.stack(
        [
            white * torch.exp(-(melanin * m + blood * h))
            for white, m, h in zip(WHITE_SKIN, MELANIN_ABSORPTION, BLOOD_ABSORPTION, strict=True)
        ]
    )


def _single(values: np.ndarray | Sequence[float]) -> Tensor:
    return torch.as_tensor(np.asarray(values), dtype=torch.float32)


def _smooth(x: Tensor) -> Tensor:
    x = x.clamp(0, 1)
    return x * x * (3 - 2 * x)


def _paint(canvas: _Canvas, params: Skin) -> Float[Tensor, "people 3 *points"]:
    """Layers from the skin outward; each mixes a colour in by a mask that depends on the place only, times a person's strength."""
    extra = (1,) * canvas.row.ndim

    def person(values: np.ndarray) -> Tensor:
        return _single(values).reshape(len(params), *extra)

    def colour(values: np.ndarray | tuple) -> Tensor:
        return _single(values).expand(len(params), 3).reshape(len(params), 3, *extra)

    blood = person(params.blood) * (BLOOD_AT_REST + _blood(canvas))
    melanin = person(params.melanin) + _shadows(canvas)
    skin = skin_colour(melanin, blood).transpose(0, 1)
    lips = skin_colour(person(params.melanin) * 0.9, blood * 0.6 + 0.9 * person(params.lip)).transpose(0, 1)
    lips = lips * _single([1, 0.86, 0.88]).reshape(3, *extra)
    beard = colour(STUBBLE) * 0.6 + colour(params.hair) * 0.4
    painted = torch.lerp(skin, beard, (0.55 * person(params.beard) * _beard(canvas))[:, None].clamp(0, 1))
    painted = torch.lerp(painted, lips, _lips(canvas))
    brow = (colour(DARK_HAIR) + colour(params.hair) * 0.8) / 2
    painted = torch.lerp(painted, brow, (person(params.brow) * _brows(canvas))[:, None].clamp(0, 1))
    has_hair = person((params.hair_volume / FULL_COVER_MM).clip(0, 1))
    painted = torch.lerp(painted, colour(params.hair), (has_hair * _hair_line(canvas))[:, None])
    dark = 1 - (1 - _lines(canvas)) * (1 - person(params.lash) * _lashes(canvas))
    return painted * (1 - dark)[:, None]


def _blood(canvas: _Canvas) -> Tensor:
    """Where blood shows more than on the rest of the face: cheeks, tip of the nose."""
    side = canvas.x.abs()
    cheeks = torch.exp(-(((side - 42) / 18) ** 2) / 2 - ((canvas.y + 40) / 16) ** 2 / 2)
    nose = torch.exp(-((canvas.x / 14) ** 2) / 2 - ((canvas.y + 44) / 9) ** 2 / 2)
    return (0.35 * cheeks + 0.30 * nose) * _smooth((COLUMNS - canvas.column.abs()) / 2)


def _shadows(canvas: _Canvas) -> Tensor:
    """Pigment under the eyes."""
    return 0.10 * torch.exp(-(((canvas.column.abs() - 2.9) / 0.9) ** 2) / 2 - ((canvas.row - 4.75) / 0.3) ** 2 / 2)


def _lips(canvas: _Canvas) -> Tensor:
    width = (1 - (canvas.column / MOUTH_END) ** 2).clamp_min(0).sqrt()
    height = (canvas.row - MOUTH_ROW).abs() / width.clamp_min(1e-3)
    return (1 - _smooth((height - 0.88) / 0.18)) * (width > 0)


def _brows(canvas: _Canvas) -> Tensor:
    side = canvas.x.abs()
    along = ((side - 9) / 41).clamp(0, 1)
    centre = 15.5 + 5 * torch.sin(0.8 * torch.pi * along**0.8)
    thickness = 3.4 * (1 - 0.65 * along)
    fade = _smooth((side - 7) / 4) * (1 - _smooth((side - 46) / 7))
    return torch.exp(-(((canvas.y - centre) / thickness) ** 4)) * fade


def _beard(canvas: _Canvas) -> Tensor:
    """Moustache, chin and jaw; the cheeks above a line from the nose to the ear and the spot below the lip stay clear."""
    side = canvas.column.abs()
    top = 7.9 + 2.0 * torch.exp(-(((side - 4.4) / 1.4) ** 2) / 2) - 1.4 * _smooth((side - 5.2) / 1.6)
    area = (
        _smooth((canvas.row - top) / 1.5) * (1 - _smooth((side - 6.3) / 1.5)) * (1 - _smooth((canvas.row - 13.8) / 1.2))
    )
    groove = torch.exp(-((side / 0.5) ** 2) / 2 - ((canvas.row - 8.5) / 0.4) ** 2 / 2)
    return area * (1 - 0.5 * groove)


def _hair_line(canvas: _Canvas) -> Tensor:
    """Hair that grows into the mask: along the hair line, at the temples, and in front of the ears."""
    side = canvas.column.abs()
    edge = 0.04 + 0.75 * _smooth((side - 4.8) / 2.2) + 2.7 * _smooth((side - 7.1) / 0.8)
    return 1 - _smooth((canvas.row - edge) / 0.5 + 0.5)


def _lines(canvas: _Canvas) -> Tensor:
    """Dark of what the mesh is too coarse to fold: crease of the upper lid, nostrils, line between the lips."""
    side = canvas.column.abs()
    t = ((side - EYE_INNER) / (EYE_OUTER - EYE_INNER)).clamp(0, 1)
    crease = 0.42 * torch.exp(-(((canvas.row - 3.42) / 0.10) ** 2)) * torch.sin(torch.pi * t).clamp_min(0) ** 0.4
    nostril = 0.85 * torch.exp(-((((side - 0.95) / 0.42) ** 2 + ((canvas.row - 7.78) / 0.13) ** 2) ** 2))
    mouth = 0.55 * torch.exp(-(((canvas.row - MOUTH_ROW) / 0.07) ** 2)) * (1 - _smooth((side - 2.7) / 0.5))
    return 1 - (1 - crease) * (1 - nostril) * (1 - mouth)


def _lashes(canvas: _Canvas) -> Tensor:
    side = canvas.column.abs()
    inside = _smooth((side - EYE_INNER) / 0.25) * (1 - _smooth((side - EYE_OUTER + 0.05) / 0.25))
    distance = (canvas.row - EYE_ROW).abs()
    return inside * torch.where(
        canvas.below, 0.45 * (1 - _smooth(distance / 0.10)), 1 - _smooth((distance - 0.06) / 0.14)
    )


def _spots(params: Skin, *, freckles: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Row, column, standard deviation (grid units) and log amplitude of every spot of each person, all (people, spots).

    Blotches and freckles come in mirrored pairs; as many unpaired blotches are weighed by the asymmetry.
    """
    draws = [np.random.default_rng([int(seed), 57]).random((2 * BLOTCHES + FRECKLES, 4)) for seed in params.seed]
    drawn = _single(np.array(draws).reshape(len(params), 2 * BLOTCHES + FRECKLES, 4))
    row, column, spread, level = drawn.unbind(-1)
    amplitude = BLOTCH_AMPLITUDE * torch.special.ndtri(level.clamp(1e-4, 1 - 1e-4))
    paired, unpaired, small = (slice(0, BLOTCHES), slice(BLOTCHES, 2 * BLOTCHES), slice(2 * BLOTCHES, None))
    low, high = BLOTCH_SD
    wide = low + (high - low) * spread
    asymmetry = _single(params.asymmetry)[:, None]
    # A pair that meets on the mid-line counts once, not twice.
    both = amplitude[:, paired] / (1 + torch.exp(-((COLUMNS * column[:, paired] / wide[:, paired]) ** 2)))
    spots = [
        (ROWS * row[:, paired], COLUMNS * column[:, paired], wide[:, paired], both),
        (ROWS * row[:, paired], -COLUMNS * column[:, paired], wide[:, paired], both),
        (
            ROWS * row[:, unpaired],
            COLUMNS * (2 * column[:, unpaired] - 1),
            wide[:, unpaired],
            asymmetry * amplitude[:, unpaired],
        ),
    ]
    if freckles and (params.freckles > 0).any():  # over cheeks and nose
        depth = FRECKLE_DEPTH * _single(params.freckles)[:, None] * level[:, small]
        narrow = FRECKLE_SD[0] + (FRECKLE_SD[1] - FRECKLE_SD[0]) * spread[:, small]
        place = 4.6 + 3.6 * row[:, small], 5.5 * column[:, small]
        spots += [(place[0], sign * place[1], narrow, -depth) for sign in (1, -1)]
    return tuple(torch.cat(values, dim=1) for values in zip(*spots, strict=True))


def _rim(row: Tensor, column: Tensor) -> Tensor:
    """Blotches fade toward the rim of the mask, where parts without a map go on in the plain colour."""
    return _smooth((COLUMNS - column.abs()) / 1.5) * _smooth((ROWS - row) / 1.5)


def _blotch_map(
    params: Skin, row: Float[Tensor, " rows"], column: Float[Tensor, " columns"]
) -> Float[Tensor, "people rows columns"]:
    """Log of each person's own pattern on a grid. Each spot is widened by the texel's own size, and made as much weaker."""
    centre_row, centre_column, spread, weight = (value[..., None] for value in _spots(params, freckles=True))
    factors = []
    for places, centre, texel in (
        (row, centre_row, ROWS / len(row)),
        (column, centre_column, 2 * COLUMNS / len(column)),
    ):
        blurred = (spread**2 + texel**2 / 12).sqrt()
        factors.append(spread / blurred * torch.exp(-(((places - centre) / blurred) ** 2) / 2))
    return torch.einsum("psr,psc->prc", factors[0], factors[1] * weight) * _rim(row[:, None], column)


def _blotches(
    params: Skin, row: Float[Tensor, " points"], column: Float[Tensor, " points"]
) -> Float[Tensor, "people points"]:
    """The same at single points, without freckles: they are finer than any mesh."""
    centre_row, centre_column, spread, weight = (value[..., None] for value in _spots(params, freckles=False))
    squared = ((row - centre_row) / spread) ** 2 + ((column - centre_column) / spread) ** 2
    return (torch.exp(-squared / 2) * weight).sum(1) * _rim(row, column)


def _other_parts(params: Skin, head: Head) -> dict[str, Tensor]:
    """Colours of the parts without a map, each broadcast to (people, vertices of the part, 3)."""
    people = len(params)
    plain = skin_colour(_single(params.melanin), _single(params.blood) * BLOOD_AT_REST).T
    hair = _single(params.hair)[:, None]

    def of(name: str) -> Tensor:
        return head.part == head.part_names.index(name)

    ball = head.vertices[of("eyeball")]
    radius = torch.hypot(ball[:, 0].abs() - BALL_CENTRE[0], ball[:, 1] - BALL_CENTRE[1])
    iris = _single(params.iris)[:, None] * torch.where(radius < 4.5, 1.25, 0.6)[:, None]
    eye = torch.where(
        (radius < IRIS_MM)[:, None], iris, _single(SCLERA) * (1 - 0.25 * _smooth((radius - 8) / 4))[:, None]
    )
    eye = torch.where((radius < PUPIL_MM)[:, None], _single(PUPIL), eye)
    sock = _single([1.0, 0.4, 0.4, 0.9]).repeat_interleave(int(of("mouth").sum()) // 4)  # darker where it is deep
    colours = {"eyeball": eye, "mouth": (_single(MOUTH) * sock[:, None]).expand(people, -1, 3)}
    if "cranium" in head.part_names:
        cover = head.hair_cover[of("cranium")].T[:, None]  # (2, 1, vertices)
        volume, length = params.hair_style[..., None].unbind(1)
        longer = (cover[1] - cover[0]).clamp_min(0) * _smooth(3 * length)
        covered = (cover[0] + longer) * (volume / FULL_COVER_MM).clamp(0, 1)
        strands = _strands(head.vertices[of("cranium")])
        colours["cranium"] = torch.lerp(plain[:, None], hair * strands[:, None], covered[..., None])
        red = skin_colour(_single(params.melanin), _single(params.blood) * (BLOOD_AT_REST + 0.2)).T
        hollow = _single(EAR_SHADE).repeat_interleave(_single([1, *[EAR_SECTORS] * len(EAR_RINGS)]).long()).repeat(2)
        colours["ear"] = red[:, None] * hollow[:, None]
        teeth = head.vertices[of("teeth")]
        colours["teeth"] = (_single(TEETH) * (1 - 0.5 * (teeth[:, :1] / 20) ** 2).clamp_min(0.3)).expand(people, -1, 3)
    return colours


def _strands(shell: Float[Tensor, "vertices 3"]) -> Float[Tensor, " vertices"]:
    """Brightness of the hair: strands that run from the hair line to the crown, and fade on the sides and the back."""
    side = shell[:, 0].abs()
    depth = 0.05 + 0.17 * _smooth((shell[:, 1] - 15) / 50)
    return 1 + depth * torch.sin(0.55 * side + 0.9 * torch.sin(0.08 * shell[:, 2])) * torch.sin(1.3 * side)
