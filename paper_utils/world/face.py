r"""A procedural, mirror-symmetric 3D morphable head with named anatomy: the face of everybody in the synthetic world.

A semantic grid gives every skin vertex a row and a column; a smooth field spreads the displacement of 61 anatomical handles over the
mesh, so identity and expression are linear and every handle lands exactly where its table says. A caricature with exact ground truth.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.sparse import csc_matrix, csr_matrix, diags, identity
from scipy.sparse.linalg import splu
from torch import Tensor

from paper_utils.world.face_extras import extras, temple_hair
from paper_utils.world.face_mesh import EYE_ROW, MOUTH_ROW, Part, Skin, eyeballs, lid_closure, mouth_sock, skin
from paper_utils.world.face_tables import (
    COLUMNS,
    EMOTION_JAW_DEG,
    EMOTION_WEIGHTS,
    EMOTIONS,
    EXPRESSION,
    EXPRESSION_UNITS,
    HANDLES,
    IDENTITY,
    JAW_AXIS,
    JAW_WEIGHTS,
    LANDMARKS_68,
    PARAMETERS,
    ROWS,
)

if TYPE_CHECKING:
    from paper_utils.mesh.morphable import MorphableModel

__all__ = ["EMOTIONS", "EXPRESSION_UNITS", "PARAMETERS", "Head", "emotion_pose", "head", "open_jaw"]

# Spread of a displacement: shortest edge that still counts as such, and how much stretching counts against bending. Choices of ours.
SHORTEST_EDGE_MM, STRETCHING = 0.8, 2e-3


@dataclass(frozen=True)
class Head:
    """The morphable head. Frame: millimetres, x to the subject's left, y up, z forward, origin at the level of the nasion.

    Parameters
    ----------
    points_per_cell
        Grid points per cage interval.
    vertices
        Template: the mean person, at rest.
    faces
        Counter-clockwise seen from outside.
    grid
        Row in [0, 15] (hair line to under the chin) and column in [-8, 8] (right ear to left ear) of skin vertices, NaN elsewhere.
    part, face_part
        Index into ``part_names`` for each vertex and triangle.
    part_names
        "skin", "eyeball", "mouth" and, in a full head, "cranium", "ear", "teeth".
    uv
        Texture coordinates of the skin, :math:`u = (c + 8)/16, v = r/15`; other parts take those of the skin that carries them and
        are meant to be coloured by vertex.
    mirror
        Vertex that is the mirror image of each; the template is exactly symmetric.
    handles
        Vertex of each anatomical landmark, paired ones with suffix ``_l`` (x > 0) and ``_r``.
    landmark_faces, landmark_weights
        The usual 68 points: triangle and barycentric weights, the subject's right side first.
    identity_basis
        Displacement per mm of each of `PARAMETERS`.
    parameter_sd
        Their standard deviations in the population, mm.
    expression_basis
        Displacement at weight 1 of each of `EXPRESSION_UNITS`.
    jaw_weights
        How far each vertex follows the jaw, in [0, 1].
    hair_basis, hair_cover
        Displacement per mm of hair volume and per unit of hair length; how far short and long hair cover a vertex. Zero on a mask.
    regions
        Named sets of vertices: mouth, lips, upper_face, lower_face, eyes, brows, nose, cheeks, forehead, jaw, skin.
    """

    points_per_cell: int
    vertices: Float[Tensor, "vertices 3"]
    faces: Int[Tensor, "triangles 3"]
    grid: Float[Tensor, "vertices 2"]
    part: Int[Tensor, " vertices"]
    face_part: Int[Tensor, " triangles"]
    part_names: tuple[str, ...]
    uv: Float[Tensor, "vertices 2"]
    mirror: Int[Tensor, " vertices"]
    handles: dict[str, int]
    landmark_faces: Int[Tensor, " 68"]
    landmark_weights: Float[Tensor, "68 3"]
    identity_basis: Float[Tensor, "vertices 3 28"]
    parameter_sd: Float[Tensor, " 28"]
    expression_basis: Float[Tensor, "vertices 3 16"]
    jaw_weights: Float[Tensor, " vertices"]
    hair_basis: Float[Tensor, "vertices 3 2"]
    hair_cover: Float[Tensor, "vertices 2"]
    regions: dict[str, Bool[Tensor, " vertices"]]

    def to(self, *args: object, **kwargs: object) -> Head:
        """The same head with another precision or on another device, as `torch.Tensor.to`; integers keep their type."""

        def moved(value: object) -> object:
            if not isinstance(value, Tensor):
                return {name: moved(inner) for name, inner in value.items()} if isinstance(value, dict) else value
            there = value.to(*args, **kwargs)
            return there if value.is_floating_point() else there.to(value.dtype)

        return replace(self, **{field.name: moved(getattr(self, field.name)) for field in fields(self)})

    def identity_vertices(
        self,
        parameters: Float[Tensor, "batch 28"],
        log_size: Float[Tensor, " batch"],
        hair: Float[Tensor, "batch 2"] | None = None,
    ) -> Float[Tensor, "batch vertices 3"]:
        r"""Neutral faces of people.

        .. math:: V(p, s) = e^s \Bigl(V_0 + \sum_k p_k B_k\Bigr)

        Parameters
        ----------
        parameters
            Millimetres, in the order of `PARAMETERS`; 0 is the mean person.
        log_size
            Overall size :math:`s`.
        hair
            Volume in mm and length in [0, 1] of the hair; bald where not given. Only a full head shows it.

        Raises
        ------
        ValueError
            On wrong lengths, or values that are NaN or infinite.
        """
        _check("parameters", parameters, len(PARAMETERS))
        if log_size.shape != parameters.shape[:1] or not torch.isfinite(log_size).all():
            raise ValueError(
                f"log_size: expected one finite number for each of {len(parameters)} people, found shape {tuple(log_size.shape)}"
            )
        moved = self.vertices.reshape(-1) + parameters @ self.identity_basis.reshape(-1, len(PARAMETERS)).T
        if hair is not None:
            _check("hair", hair, 2)
            moved = moved + hair @ self.hair_basis.reshape(-1, 2).T
        return moved.reshape(len(parameters), -1, 3) * log_size.exp()[:, None, None]

    def pose(
        self,
        neutral: Float[Tensor, "batch vertices 3"],
        expression: Float[Tensor, "batch 16"],
        jaw: Float[Tensor, " batch"],
        *,
        linear_jaw: bool = False,
    ) -> Float[Tensor, "batch vertices 3"]:
        r"""Move faces: expression first, then the jaw.

        With :math:`d` the position relative to the jaw's axis and :math:`w` the jaw weights,

        .. math:: V' = V + w\,\bigl(R(\theta)\,d - d\bigr), \qquad V = V_{neutral} + \sum_m e_m X_m

        Parameters
        ----------
        neutral
            From `identity_vertices`.
        expression
            Weights in the order of `EXPRESSION_UNITS`; 0 to 1 is the designed range (``jaw_side`` takes both signs).
        jaw
            Opening :math:`\theta` in radians.
        linear_jaw
            Replace the rotation by its derivative at 0, where a strictly linear model is wanted (9 % off at 10 degrees).

        Raises
        ------
        ValueError
            On wrong lengths, or values that are NaN or infinite.
        """
        _check("expression", expression, len(EXPRESSION_UNITS))
        if jaw.shape != expression.shape[:1] or not torch.isfinite(jaw).all():
            raise ValueError(
                f"jaw: expected one finite angle for each of {len(expression)} rows of expression, found shape {tuple(jaw.shape)}"
            )
        if neutral.shape != (len(expression), *self.vertices.shape):
            raise ValueError(
                f"neutral: expected {(len(expression), *self.vertices.shape)}, found {tuple(neutral.shape)}"
            )
        moved = neutral + (expression @ self.expression_basis.reshape(-1, len(EXPRESSION_UNITS)).T).reshape(
            neutral.shape
        )
        return open_jaw(moved, jaw, self.jaw_weights, linear=linear_jaw)

    def anatomy(self, vertices: Float[Tensor, "batch vertices 3"]) -> dict[str, Float[Tensor, "batch 3"]]:
        """Position of every anatomical landmark, by name."""
        return {name: vertices[:, vertex] for name, vertex in self.handles.items()}

    def landmarks68(self, vertices: Float[Tensor, "batch vertices 3"]) -> Float[Tensor, "batch 68 3"]:
        """Position of the usual 68 points."""
        corners = vertices[:, self.faces[self.landmark_faces]]
        return (corners * self.landmark_weights[..., None]).sum(2)

    def morphable(self) -> MorphableModel:
        """The head in the form that adapters of scanned models have: identity per standard deviation; hair and jaw rotation stay out."""
        from paper_utils.mesh.morphable import Landmarks, MorphableModel

        return MorphableModel(
            name=f"synthetic head, {len(self.vertices)} vertices",
            mean=self.vertices,
            identity=self.identity_basis * self.parameter_sd,
            expression=self.expression_basis,
            faces=self.faces,
            landmarks=Landmarks(self.landmark_faces, self.landmark_weights),
            mirror=self.mirror,
            uv=self.uv,
        )


def open_jaw(
    vertices: Float[Tensor, "batch vertices 3"],
    angle: Float[Tensor, " batch"],
    weights: Float[Tensor, " vertices"],
    *,
    linear: bool = False,
) -> Float[Tensor, "batch vertices 3"]:
    """Turn the jaw about its axis; the part of `Head.pose` that is not linear, also for some vertices of a head.

    Parameters
    ----------
    vertices
        Faces, mm, before the jaw opens.
    angle
        Radians.
    weights
        How far each vertex follows.
    linear
        See `Head.pose`.
    """
    back, up = JAW_AXIS[2], JAW_AXIS[1]
    y, z = vertices[..., 1] - up, vertices[..., 2] - back
    angle = angle[:, None]
    turn, shrink = (angle, torch.zeros_like(angle)) if linear else (angle.sin(), angle.cos() - 1)
    step = torch.stack([torch.zeros_like(y), shrink * y - turn * z, shrink * z + turn * y], -1)
    return vertices + weights[:, None] * step


def emotion_pose(emotion: str, intensity: float = 1.0) -> tuple[Float[Tensor, " 16"], float]:
    """Expression weights and jaw opening (radians) of an emotion; both grow linearly with the intensity.

    Raises
    ------
    ValueError
        If the emotion is unknown or the intensity is negative or not finite.

    Examples
    --------
    >>> weights, jaw = emotion_pose("happy", 0.5)
    >>> round(float(weights[EXPRESSION_UNITS.index("smile")]), 2), jaw
    (0.45, 0.0)
    """
    if emotion not in EMOTION_WEIGHTS:
        raise ValueError(f"emotion: expected one of {', '.join(EMOTIONS)}; found {emotion!r}")
    if not 0 <= intensity < float("inf"):
        raise ValueError(f"intensity: expected a finite number from 0 up, found {intensity}")
    weights = torch.tensor([EMOTION_WEIGHTS[emotion].get(unit, 0.0) for unit in EXPRESSION_UNITS])
    return intensity * weights, float(np.radians(intensity * EMOTION_JAW_DEG[emotion]))


@lru_cache(maxsize=8)
def head(points_per_cell: int = 3, *, full: bool = False) -> Head:
    """Build the head once per resolution.

    Parameters
    ----------
    points_per_cell
        2 gives 1,262 vertices, 3 gives 2,527, 4 gives 4,272, 9 gives 20,197 for the mask.
    full
        Add cranium with hair, neck, ears and teeth. Vertices and triangles of the mask come first and keep their numbers.

    Raises
    ------
    ValueError
        If ``points_per_cell`` is below 2: the lids need a grid row between the crease and the eye.
    """
    if isinstance(points_per_cell, bool) or not isinstance(points_per_cell, int) or points_per_cell < 2:
        raise ValueError(f"points_per_cell: expected a whole number from 2 up, found {points_per_cell!r}")
    surface = skin(points_per_cell)
    parts = [eyeballs(surface), mouth_sock(surface)] + (extras(surface) if full else [])
    names = handle_vertices(surface)
    field = handle_field(surface, names)
    closed = handle_field(surface, names, closed_mouth=True)
    identity_skin = np.einsum("nh,hdk->ndk", closed, _table([moves for _, moves in IDENTITY.values()], names))
    expression_skin = np.einsum("nh,hdk->ndk", field, _table(list(EXPRESSION.values()), names))
    expression_skin[..., EXPRESSION_UNITS.index("eye_close")] = lid_closure(surface)
    jaw_skin = np.clip(field @ np.array([JAW_WEIGHTS.get(name.split("_")[0], 0.0) for name in names]), 0, 1)
    return _assemble(surface, parts, names, identity_skin, expression_skin, jaw_skin)


def handle_vertices(surface: Skin) -> dict[str, int]:
    """Vertex of each handle by name, left before right."""
    names = {}
    for name, (row, column, lower) in HANDLES.items():
        if column == 0:
            names[name] = surface.vertex(row, 0, lower)
        else:
            names[f"{name}_l"], names[f"{name}_r"] = (
                surface.vertex(row, column, lower),
                surface.vertex(row, -column, lower),
            )
    return names


def handle_field(
    surface: Skin, names: dict[str, int], *, closed_mouth: bool = False
) -> Float[np.ndarray, "vertices handles"]:
    r"""How far each skin vertex follows each handle.

    The field is the smoothest one that hits the handles: with edge weights :math:`W`, degrees :math:`D`, :math:`L = I - D^{-1} W`,

    .. math:: \min_d \; |L d|^2 + \lambda\, d^\top (D - W)\, d / \overline{D}, \qquad d = \text{prescribed at the handles}

    Rows sum to 1. The mesh is cut along the slits, so the lips part; with ``closed_mouth`` they are sewn together and the lower
    stomion follows the upper one: people differ without opening their mouths.
    """
    whole = np.arange(len(surface.vertices))  # number of each vertex on the sewn mesh
    if closed_mouth:
        whole[surface.lower & (surface.row == MOUTH_ROW)] = surface.index[surface.index_lower != surface.index][
            surface.row[surface.lower] == MOUTH_ROW
        ]
    present, whole = np.unique(whole, return_inverse=True)
    fixed, first = np.unique(whole[list(names.values())], return_index=True)
    count = len(present)
    edges = np.unique(np.sort(whole[surface.faces][:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1), axis=0)
    positions = surface.vertices[present]
    weight = 1 / np.maximum(np.linalg.norm(np.diff(positions[edges], axis=1)[:, 0], axis=1), SHORTEST_EDGE_MM)
    one_way = csr_matrix((weight, edges.T), shape=(count, count))
    adjacency = one_way + one_way.T
    degree = np.asarray(adjacency.sum(1)).ravel()
    bending = identity(count) - diags(1 / degree) @ adjacency
    energy = csc_matrix(bending.T @ bending + STRETCHING * (diags(degree) - adjacency) / degree.mean())
    free = np.setdiff1d(np.arange(count), fixed)
    # The energy is symmetric and positive: an ordering for such matrices, without pivoting, keeps the factors sparse.
    factors = splu(
        energy[free][:, free], permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
    )
    solved = np.zeros((count, len(names)))
    solved[fixed, first] = 1
    pull = -energy[free][:, fixed].toarray()
    # One handle at a time: SuperLU is up to ten times slower on many right sides at once.
    solved[np.ix_(free, first)] = np.stack([factors.solve(column) for column in pull.T], axis=1)
    field = solved[whole]
    return (field + field[surface.mirror][:, _other_side(names)]) / 2  # symmetric to the last bit


def _other_side(names: dict[str, int]) -> np.ndarray:
    order, swap = list(names), {"_l": "_r", "_r": "_l"}
    return np.array(
        [order.index(name[:-2] + swap[name[-2:]]) if name[-2:] in swap else order.index(name) for name in order]
    )


def _table(
    columns: list[dict[str, tuple[float, float, float]]], names: dict[str, int]
) -> Float[np.ndarray, "handles 3 k"]:
    """Displacement of every handle for each entry; the right side is the mirror image of the left, mid-line handles move as written."""
    table = np.zeros((len(names), 3, len(columns)))
    for column, moves in enumerate(columns):
        for row, name in enumerate(names):
            move = moves.get(name.split("_")[0])
            if move is not None:
                table[row, :, column] = np.array(move) * ([-1, 1, 1] if name.endswith("_r") else 1)
    return table


def _landmarks(surface: Skin) -> tuple[np.ndarray, np.ndarray]:
    """Triangle and barycentric weights of each of the 68 points: the triangle's own grid coordinates are inverted."""
    corners = np.stack([surface.row[surface.faces], surface.column[surface.faces]], -1)
    chosen, weights = [], []
    for row, column, below in LANDMARKS_68:
        point = np.rint(np.array([row, column]) * 3) / 3  # the table is rounded to two digits
        near = np.flatnonzero(((corners.min(1) <= point + 1e-9) & (corners.max(1) >= point - 1e-9)).all(1))
        if row in (EYE_ROW, MOUTH_ROW):  # a slit: its two copies belong to different triangles
            centre = corners[near, :, 0].mean(1)
            near = near[(centre > row) if below else (centre < row)]
        equations = np.concatenate([corners[near], np.ones((len(near), 3, 1))], -1).transpose(0, 2, 1)
        candidates = np.linalg.solve(equations, np.r_[point, 1.0][:, None])[..., 0]
        best = int(np.argmax(candidates.min(1)))
        chosen.append(near[best])
        weights.append(candidates[best].clip(0) / candidates[best].clip(0).sum())
    return np.array(chosen), np.array(weights)


def _regions(row: np.ndarray, column: np.ndarray) -> dict[str, np.ndarray]:
    """Sets of skin vertices by their semantic coordinates; NaN (no skin) is in none."""
    side = np.abs(column)
    return {
        "skin": np.isfinite(row),
        "lips": (row >= 9) & (row <= 11) & (side <= 3),
        "mouth": (row >= 8.3) & (row <= 12) & (side <= 4),
        "nose": (row >= 4) & (row <= 8.3) & (side <= 2),
        "eyes": (row >= 3) & (row <= 5) & (side >= 1.5) & (side <= 5),
        "brows": (row >= 1.5) & (row <= 2.6) & (side >= 0.6) & (side <= 5),
        "forehead": row <= 1.5,
        "cheeks": (row >= 5) & (row <= 11) & (side >= 3) & (side <= 7) & ~((row >= 8.3) & (side <= 4)),
        "jaw": row >= 12,
        "upper_face": row <= 6,
        "lower_face": row >= 8,
    }


def _assemble(
    surface: Skin,
    parts: list[Part],
    names: dict[str, int],
    identity_skin: np.ndarray,
    expression_skin: np.ndarray,
    jaw_skin: np.ndarray,
) -> Head:
    count = len(surface.vertices)
    uv_skin = np.stack([0.5 + surface.column / (2 * COLUMNS), surface.row / ROWS], -1)

    def carried(on_skin: np.ndarray, which: str) -> np.ndarray:
        flat = on_skin.reshape(count, -1)
        return np.concatenate([flat, *(getattr(part, which) @ flat for part in parts)]).reshape(-1, *on_skin.shape[1:])

    jaw = carried(jaw_skin, "expression")
    faces, mirror, face_part, part_index = [surface.faces], [surface.mirror], [0] * len(surface.faces), [0] * count
    start, total = count, count + sum(len(part.vertices) for part in parts)
    part_names = tuple(dict.fromkeys(["skin", *(part.name for part in parts)]))
    hair, cover = np.zeros((total, 3, 2)), np.zeros((total, 2))
    if "cranium" in part_names:
        hair[:count] = temple_hair(surface)
    for part in parts:
        faces.append(np.where(part.faces < count, part.faces, part.faces + (start - count)))
        mirror.append(part.mirror + start)
        face_part += [part_names.index(part.name)] * len(part.faces)
        part_index += [part_names.index(part.name)] * len(part.vertices)
        own = slice(start, start + len(part.vertices))
        jaw[own] = jaw[own] if part.jaw is None else part.jaw
        if part.hair is not None:
            hair[own], cover[own] = part.hair, part.hair_cover
        start += len(part.vertices)
    every, vertices = np.concatenate(mirror), np.concatenate([surface.vertices, *(part.vertices for part in parts)])
    vertices = (vertices + vertices[every] * np.array([-1, 1, 1])) / 2  # symmetric to the last bit
    outside = np.full(total - count, np.nan)
    row, column = np.r_[surface.row, outside], np.r_[surface.column, outside]
    landmark_faces, landmark_weights = _landmarks(surface)

    def real(array: np.ndarray) -> Tensor:
        return torch.as_tensor(np.ascontiguousarray(array), dtype=torch.float32)

    def whole(array: np.ndarray | list) -> Tensor:
        return torch.as_tensor(np.asarray(array), dtype=torch.int64)

    return Head(
        points_per_cell=surface.points_per_cell,
        vertices=real(vertices),
        faces=whole(np.concatenate(faces)),
        grid=real(np.stack([row, column], -1)),
        part=whole(part_index),
        face_part=whole(face_part),
        part_names=part_names,
        uv=real(carried(uv_skin, "identity")),
        mirror=whole(every),
        handles=names,
        landmark_faces=whole(landmark_faces),
        landmark_weights=real(landmark_weights),
        identity_basis=real(carried(identity_skin, "identity")),
        parameter_sd=real(np.array([sd for sd, _ in IDENTITY.values()])),
        expression_basis=real(carried(expression_skin, "expression")),
        jaw_weights=real(jaw),
        hair_basis=real(hair),
        hair_cover=real(cover),
        regions={name: torch.as_tensor(mask) for name, mask in _regions(row, column).items()},
    )


def _check(name: str, values: Tensor, length: int) -> None:
    if values.ndim != 2 or values.shape[1] != length:
        raise ValueError(f"{name}: expected (batch, {length}), found {tuple(values.shape)}")
    if not torch.isfinite(values).all():
        raise ValueError(
            f"{name}: {int((~torch.isfinite(values)).sum())} values are NaN or infinite; drop or mend those rows first"
        )
