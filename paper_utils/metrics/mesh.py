r"""How far a reconstructed face is from the true one: on known correspondence, and against scans that have none.

Where vertices correspond, `vertex_rmse` after the best similarity is the measure; nothing is searched. Against a scan there is only
the nearest point of the surface, found exactly by `Surface`, after an alignment by iterated closest points. The protocols that are
in use for that are in `paper_utils.metrics.scan_protocols`. Everything in millimetres.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation
from torch import Tensor

from paper_utils.mesh.morphable import Similarity, procrustes
from paper_utils.mesh.shading import vertex_normals
from paper_utils.mesh.topology import Topology

NOSE_TIP = 30  # of the 68 landmarks, from 0
CHANGE_MM = 1e-3  # ICP stops when the mean distance changes less (GANFit's evaluation)
ROUNDS = 200  # choice of ours: an ICP that needs more has not found its place
FIRST_CANDIDATES = 8  # triangles looked at first for each point; choice of ours, only speed depends on it
WORTHLESS = 1e3  # damping at which a step is too short to matter; choice of ours
CHUNK = 2_000_000  # pairs of points and triangles held at once


# ---------------------------------------------------------------------------------------- known correspondence


def vertex_errors(
    predicted: Float[Tensor, "batch vertices 3"],
    truth: Float[Tensor, "batch true_vertices 3"],
    weights: Float[Tensor, " vertices"] | None = None,
    *,
    scale: bool = True,
) -> Float[Tensor, "batch vertices"]:
    r"""Distance of each vertex from its true place, after the best similarity (never a reflection).

    .. math:: d_i = \lVert s R x_i + t - y_i \rVert, \qquad (s, R, t) = \arg\min \sum_i w_i d_i^2

    Parameters
    ----------
    predicted, truth
        Corresponding vertices; the result is in the unit of `truth`, whatever that of `predicted`.
    weights
        Vertices that decide the alignment, such as those of the face without ears and neck; all alike if None.
    scale
        False for a rigid alignment.

    Raises
    ------
    ValueError
        If shapes differ, numbers are not finite, or no alignment is defined.
    """
    if predicted.shape != truth.shape:
        raise ValueError(
            f"vertices: expected two arrays of one shape, found {tuple(predicted.shape)} and {tuple(truth.shape)}; "
            "meshes of different topology are compared by paper_utils.metrics.scan_protocols"
        )
    moved = procrustes(predicted, truth, weights, scale=scale)(predicted)
    return torch.linalg.vector_norm(moved - truth, dim=2)


def vertex_rmse(
    predicted: Float[Tensor, "batch vertices 3"],
    truth: Float[Tensor, "batch true_vertices 3"],
    weights: Float[Tensor, " vertices"] | None = None,
    *,
    scale: bool = True,
) -> Float[Tensor, " batch"]:
    r"""Root of the weighted mean of the squared `vertex_errors`, one number for each mesh.

    Always show the error of the mean face beside it: a method above that has learnt nothing.
    """
    errors = vertex_errors(predicted, truth, weights, scale=scale)
    share = torch.ones_like(errors[0]) if weights is None else weights.to(errors)
    return ((errors.square() * share).sum(1) / share.sum()).sqrt()


# --------------------------------------------------------------------------------------------- nearest points


@dataclass(frozen=True)
class Nearest:
    """Nearest points on a surface.

    Parameters
    ----------
    points
        The nearest point to each query.
    triangles
        A triangle that it lies on.
    barycentric
        Its weights there.
    distances
        To the query.
    """

    points: Float[np.ndarray, "queries 3"]
    triangles: Int[np.ndarray, " queries"]
    barycentric: Float[np.ndarray, "queries 3"]
    distances: Float[np.ndarray, " queries"]


@dataclass(frozen=True)
class Surface:
    """A mesh prepared for questions about its nearest points.

    Parameters
    ----------
    vertices
        In mm.
    faces
        Triangles, 0-based, counter-clockwise seen from outside.

    Raises
    ------
    ValueError
        If there is no triangle, a triangle refers to a vertex that is not there, or a vertex of a triangle is not finite.
    """

    vertices: Float[np.ndarray, "vertices 3"]
    faces: Int[np.ndarray, "triangles 3"]
    _trees: list[tuple[np.ndarray, cKDTree, np.ndarray]] = field(init=False, repr=False, compare=False)
    _corner_tree: cKDTree = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "vertices", np.asarray(self.vertices, dtype=np.float64))
        object.__setattr__(self, "faces", np.asarray(self.faces, dtype=np.int64))
        if not len(self.faces):
            raise ValueError("surface: a surface needs at least one triangle, found none; was everything cut away?")
        low, high = int(self.faces.min()), int(self.faces.max())
        if low < 0 or high >= len(self.vertices):
            raise ValueError(f"surface: faces must be in 0..{len(self.vertices) - 1}, found {low}..{high}")
        corners = self.vertices[self.faces]
        if not np.isfinite(corners).all():
            raise ValueError(f"surface: {int((~np.isfinite(corners)).sum())} coordinates of triangles are not finite")
        centres = corners.mean(1)
        radii = np.linalg.norm(corners - centres[:, None], axis=2).max(1)
        # One tree for triangles of about one size, so that a few long ones do not make the search among the others wide.
        size = np.round(np.log2(np.maximum(radii, 1e-12))).astype(np.int64)
        groups = [np.flatnonzero(size == value) for value in np.unique(size)]
        groups.sort(key=len, reverse=True)
        trees = [(group, cKDTree(centres[group]), radii[group]) for group in groups]
        object.__setattr__(self, "_trees", trees)
        object.__setattr__(self, "_corner_tree", cKDTree(self.vertices[np.unique(self.faces)]))

    def nearest(self, points: Float[np.ndarray, "queries 3"]) -> Nearest:
        """The nearest point of the surface to each query, exactly.

        A triangle whose centre is d away and whose corners are at most r from the centre is no nearer than d - r. So triangles are taken
        in the order of their centres, twice as many each time, until the next one cannot be nearer than the best.

        Raises
        ------
        ValueError
            If a query is not finite.
        """
        points = np.asarray(points, dtype=np.float64)
        if not np.isfinite(points).all():
            raise ValueError(
                f"nearest: {int((~np.isfinite(points)).any(-1).sum())} of {len(points)} points are not finite"
            )
        # No triangle farther than the nearest corner of all matters; a little more, so that rounding loses none.
        bounds = self._corner_tree.query(points)[0] * (1 + 1e-9) + 1e-9
        distances = np.full(len(points), np.inf)
        triangles = np.zeros(len(points), dtype=np.int64)
        barycentric = np.zeros((len(points), 3))
        corners = self.vertices[self.faces]
        for group, tree, radii in self._trees:
            _search(points, corners, group, tree, radii, bounds, distances, triangles, barycentric)
        places = (corners[triangles] * barycentric[..., None]).sum(1)
        return Nearest(places, triangles, barycentric, distances)

    @cached_property
    def normals(self) -> Float[np.ndarray, "vertices 3"]:
        """Unit normals at the vertices."""
        found = vertex_normals(torch.from_numpy(self.vertices)[None], torch.from_numpy(self.faces))
        return found[0].numpy()

    @cached_property
    def _rim(self) -> tuple[np.ndarray, np.ndarray]:
        """Which sides of each triangle (opposite to its corners) are on the rim of the surface, and which vertices are."""
        edges = Topology.of(torch.from_numpy(self.faces), len(self.vertices)).edges.numpy()
        open_edges = edges[edges[:, 3] < 0]
        code = np.sort(open_edges[:, :2], 1) @ (len(self.vertices), 1)
        sides = np.sort(self.faces[:, [[1, 2], [2, 0], [0, 1]]], 2) @ (len(self.vertices), 1)
        vertices = np.zeros(len(self.vertices), dtype=bool)
        vertices[open_edges[:, :2]] = True
        return np.isin(sides, code), vertices

    def on_rim(self, nearest: Nearest, *, tolerance: float = 1e-9) -> Bool[np.ndarray, " queries"]:
        """Which nearest points lie on the rim, where the surface ends: their queries look past it."""
        sides, vertices = self._rim
        zero = nearest.barycentric <= tolerance
        on_side = (zero & sides[nearest.triangles]).any(1)
        at_vertex = (~zero & vertices[self.faces[nearest.triangles]]).any(1) & (zero.sum(1) == 2)
        return on_side | at_vertex

    def point_to_surface(self, points: Float[np.ndarray, "queries 3"]) -> Float[np.ndarray, " queries"]:
        """Distance of each query to the surface."""
        return self.nearest(points).distances

    def point_to_plane(self, points: Float[np.ndarray, "queries 3"]) -> Float[np.ndarray, " queries"]:
        r"""Distance of each query to the tangent plane at its nearest point: :math:`d = |(x - y) \cdot n_y|`.

        The normal at :math:`y` is that of the vertices around, weighted by the barycentric coordinates. The distance along a sharp
        edge or past the rim is left out, so it is never more than `point_to_surface`.
        """
        return self.plane_distances(points, self.nearest(points))

    def plane_distances(
        self, points: Float[np.ndarray, "queries 3"], nearest: Nearest
    ) -> Float[np.ndarray, " queries"]:
        """As `point_to_plane`, for nearest points that are known already."""
        normals = (self.normals[self.faces[nearest.triangles]] * nearest.barycentric[..., None]).sum(1)
        length = np.linalg.norm(normals, axis=1, keepdims=True)
        normals = np.divide(normals, length, out=np.zeros_like(normals), where=length > 0)
        return np.abs(((points - nearest.points) * normals).sum(1))


def _search(
    points: np.ndarray, corners: np.ndarray, group: np.ndarray, tree: cKDTree, radii: np.ndarray,
    bounds: np.ndarray, distances: np.ndarray, triangles: np.ndarray, barycentric: np.ndarray,
) -> None:  # fmt: skip
    """Improve the bounds and the three results, in place, with the triangles of one group."""
    largest = radii.max()
    active, done, wanted = np.arange(len(points)), 0, min(FIRST_CANDIDATES, len(group))
    while len(active):
        rows = max(1, CHUNK // wanted)
        unfinished = []
        for block in (active[start : start + rows] for start in range(0, len(active), rows)):
            away, which = tree.query(points[block], k=np.arange(done + 1, wanted + 1))
            query, place = np.nonzero(away - radii[which] <= bounds[block, None])
            candidate, owner = group[which[query, place]], block[query]
            if len(owner):
                found, weights = _point_triangle(points[owner], corners[candidate])
                # The first of equals, so that the result does not depend on the blocks.
                order = np.lexsort((candidate, found, owner))
                first = order[np.r_[True, owner[order][1:] != owner[order][:-1]]]
                first = first[found[first] < distances[owner[first]]]
                distances[owner[first]] = found[first]
                triangles[owner[first]], barycentric[owner[first]] = candidate[first], weights[first]
                bounds[block] = np.minimum(bounds[block], distances[block])
            unfinished.append(block[away[:, -1] - largest <= bounds[block]])
        if wanted == len(group):
            return
        active, done, wanted = np.concatenate(unfinished), wanted, min(2 * wanted, len(group))


def _point_triangle(points: np.ndarray, corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance of each point to its own triangle, and the barycentric weights of the nearest point there."""
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    weights = _plane_weights(points, a, b, c)
    inside = (weights >= 0).all(1)
    best = np.where(inside, np.linalg.norm(points - (weights[..., None] * corners).sum(1), axis=1), np.inf)
    outside = np.flatnonzero(~inside)
    for first, second in ((0, 1), (1, 2), (2, 0)):
        start, along = corners[outside, first], corners[outside, second] - corners[outside, first]
        length = (along * along).sum(1)
        share = ((points[outside] - start) * along).sum(1) / np.where(length > 0, length, 1.0)
        share = np.clip(share, 0.0, 1.0)
        away = np.linalg.norm(points[outside] - start - share[:, None] * along, axis=1)
        nearer = away < best[outside]
        rows = outside[nearer]
        best[rows] = away[nearer]
        weights[rows] = 0.0
        weights[rows, first], weights[rows, second] = 1 - share[nearer], share[nearer]
    return best, weights


def _plane_weights(points: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Barycentric coordinates of the feet of the perpendiculars; -1 for triangles without area, whose sides decide."""
    u, v, w = b - a, c - a, points - a
    normal = np.cross(u, v)
    area = (normal * normal).sum(1)
    flat = area <= 1e-20 * (u * u).sum(1) * (v * v).sum(1)
    safe = np.where(flat, 1.0, area)
    second, third = (np.cross(w, v) * normal).sum(1) / safe, (np.cross(u, w) * normal).sum(1) / safe
    weights = np.stack((1 - second - third, second, third), axis=1)
    weights[flat] = -1.0
    return weights


# ------------------------------------------------------------------------------------- iterated closest points


@dataclass(frozen=True)
class FaceScan:
    """A face as a surface with landmarks: a scan, or a reconstruction to be compared with one.

    Parameters
    ----------
    surface
        In mm.
    landmarks
        On or near the surface; corresponding ones on both sides of a comparison.
    nose_tip
        Which landmark the tip of the nose is.

    Raises
    ------
    ValueError
        If there are fewer than three landmarks, they are not finite, or the nose tip is not among them.
    """

    surface: Surface
    landmarks: Float[np.ndarray, "points 3"]
    nose_tip: int = NOSE_TIP

    def __post_init__(self) -> None:
        count = len(self.landmarks)
        if count < 3 or not np.isfinite(self.landmarks).all():
            raise ValueError(f"landmarks: expected three or more finite points, found {count} (or NaN among them)")
        if not 0 <= self.nose_tip < count:
            raise ValueError(
                f"nose_tip: expected a landmark 0..{count - 1}, found {self.nose_tip}; "
                "say which one it is when the landmarks are not the 68 points"
            )

    @property
    def nose(self) -> Float[np.ndarray, 3]:
        """The tip of the nose."""
        return self.landmarks[self.nose_tip]


def align_landmarks(source: FaceScan, target: FaceScan) -> Similarity:
    """The similarity that brings the landmarks of one face nearest to those of another.

    Raises
    ------
    ValueError
        If the numbers of landmarks differ.
    """
    if source.landmarks.shape != target.landmarks.shape:
        raise ValueError(
            f"landmarks: the faces have {len(source.landmarks)} and {len(target.landmarks)}; corresponding ones are needed"
        )
    return fit_points(source.landmarks, target.landmarks)


def _batch(points: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(points, dtype=np.float64))[None]


@dataclass(frozen=True)
class Alignment:
    """Points and a surface brought together.

    Parameters
    ----------
    similarity
        Moves the side that was to be moved onto the other.
    distances_mm
        Of each point to the surface, in the frame of the side that stands still.
    nearest
        Where on the surface, in the surface's own frame.
    rounds
        Number of updates.
    converged
        False if it was still getting better after the last round allowed.
    """

    similarity: Similarity
    distances_mm: Float[np.ndarray, " points"]
    nearest: Nearest
    rounds: int
    converged: bool

    @property
    def mean_mm(self) -> float:
        """Mean of the distances."""
        return float(self.distances_mm.mean())


def icp(
    points: Float[np.ndarray, "points 3"],
    surface: Surface,
    start: Similarity,
    *,
    moving: Literal["points", "surface"],
    scale: bool = True,
    change_mm: float = CHANGE_MM,
    rounds: int = ROUNDS,
) -> Alignment:
    r"""Bring points and a surface together: nearest points, best similarity for these pairs, and again, until it no longer pays.

    Which side moves matters when the size is fitted too: points that move may shrink toward the surface, a surface that moves may not,
    because every point stays where it is and must be reached.

    Parameters
    ----------
    points, surface
        The two sides.
    start
        First guess for the side that moves, such as `align_landmarks`. Its scale is kept if `scale` is False.
    moving
        The side that moves; distances are in the unit of the other.
    scale
        Whether the size is fitted too.
    change_mm, rounds
        Stops when the mean distance falls by no more than this, or after so many rounds.

    References
    ----------
    Besl and McKay (1992), a method for registration of 3-D shapes; Umeyama (1991) for the step with scale.
    """
    current, last, done = start, np.inf, 0
    while True:
        place = apply(points, current) if moving == "points" else undo(points, current)
        nearest = surface.nearest(place)
        distances = nearest.distances * (1.0 if moving == "points" else float(current.scale[0]))
        improved = last - distances.mean() > change_mm
        if not improved or done == rounds:
            return Alignment(current, distances, nearest, done, not improved)
        last, done = distances.mean(), done + 1
        source, target = (points, nearest.points) if moving == "points" else (nearest.points, points)
        current = fit_points(source, target, None if scale else start.scale)


def least_squares_alignment(
    points: Float[np.ndarray, "points 3"],
    surface: Surface,
    start: Similarity,
    *,
    scale: bool = True,
    rounds: int = 100,
    tolerance: float = 1e-6,
) -> Alignment:
    r"""Move a surface onto points so that the sum of squared distances is least.

    .. math:: \min_{s, R, t} \sum_i \operatorname{dist}(p_i, s R\,\mathcal{S} + t)^2

    The same minimum that `icp` creeps toward (its steps shrink long before it arrives, as a surface slides on itself slowly), found by damped
    Gauss-Newton steps: to first order a distance changes only along the line to the nearest point. So the result does not depend on when an
    ICP was stopped.

    Parameters
    ----------
    points, surface, start, scale
        As in `icp`, where the surface moves.
    rounds, tolerance
        Stops after so many steps, or when a step lowers the sum by less than this share of it.

    References
    ----------
    Fitzgibbon (2003), robust registration of 2D and 3D point sets, for Levenberg-Marquardt in place of ICP.
    """
    current, damping = start, 1e-3
    nearest = surface.nearest(undo(points, current))
    for done in range(rounds):
        size = float(current.scale[0])
        distances = size * nearest.distances
        cost = float(distances @ distances)
        while damping < WORTHLESS:
            step = _gauss_newton(points, surface, nearest, current, damping, scale)
            tried = surface.nearest(undo(points, step))
            better = float(np.square(float(step.scale[0]) * tried.distances).sum())
            if better < cost:
                break
            damping *= 10
        if damping >= WORTHLESS or cost - better <= tolerance * cost:
            return Alignment(current, distances, nearest, done, True)
        current, nearest, damping = step, tried, max(damping / 10, 1e-9)
    return Alignment(current, float(current.scale[0]) * nearest.distances, nearest, rounds, False)


def _gauss_newton(
    points: np.ndarray, surface: Surface, nearest: Nearest, current: Similarity, damping: float, scale: bool
) -> Similarity:
    """One damped step for the logarithm of the size, the turn, and the shift, about the middle of the nearest points."""
    places = apply(nearest.points, current)
    middle = places.mean(0)
    arms, lines = places - middle, points - places
    distances = np.linalg.norm(lines, axis=1)
    # At a distance of nothing the line to the nearest point has no direction; it is that of the normal.
    corners = surface.vertices[surface.faces[nearest.triangles]]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]) @ current.rotation[0].numpy().T
    touching = distances <= 1e-9 * np.linalg.norm(arms, axis=1).max()
    directions = np.where(touching[:, None], normals, lines)
    length = np.linalg.norm(directions, axis=1, keepdims=True)
    directions = np.divide(directions, length, out=np.zeros_like(directions), where=length > 0)
    columns = [np.cross(arms, directions), directions]
    if scale:
        columns.insert(0, (arms * directions).sum(1, keepdims=True))
    jacobian = np.concatenate(columns, axis=1)
    normal = jacobian.T @ jacobian
    normal[np.diag_indices_from(normal)] *= 1 + damping
    change = np.linalg.lstsq(normal, jacobian.T @ (distances * ~touching), rcond=None)[0]
    grow = np.exp(change[0]) if scale else 1.0
    turn = Rotation.from_rotvec(change[-6:-3]).as_matrix()
    shift = grow * turn @ (current.translation[0].numpy() - middle) + middle + change[-3:]
    return Similarity(current.scale * grow, torch.from_numpy(turn) @ current.rotation, torch.from_numpy(shift)[None])


def fit_points(
    source: Float[np.ndarray, "points 3"],
    target: Float[np.ndarray, "points 3"],
    size: Float[Tensor, " 1"] | None = None,
) -> Similarity:
    """`procrustes` of one pair of point lists; with a given size if there is one."""
    if size is None:
        return procrustes(_batch(source), _batch(target))
    rigid = procrustes(size[:, None, None] * _batch(source), _batch(target), scale=False)
    return Similarity(size, rigid.rotation, rigid.translation)


def apply(points: Float[np.ndarray, "points 3"], by: Similarity) -> Float[np.ndarray, "points 3"]:
    """Points after a similarity."""
    return by(_batch(points))[0].numpy()


def undo(points: Float[np.ndarray, "points 3"], by: Similarity) -> Float[np.ndarray, "points 3"]:
    """Points before a similarity: the inverse of `apply`."""
    return (points - by.translation[0].numpy()) @ by.rotation[0].numpy() / float(by.scale[0])
