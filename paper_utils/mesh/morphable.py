"""Morphable models of the face behind one interface, whichever file they come from.

Everything is in millimetres, triangles count from 0, and coefficients are in units of one standard deviation, so that code written for one
model runs on all of them. Files are read by `paper_utils.mesh.model_files`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial import cKDTree
from torch import Tensor

from paper_utils import files, safe_files
from paper_utils.mesh.landmarks import Landmarks, check_barycentric
from paper_utils.mesh.skinning import Skinning, rest_joints, rotation_matrices, skin

COLOUR_TOLERANCE = 1e-2  # choice of ours: a mean colour may leave 0..1 by rounding, not by a factor of 255
INNER_EYE_CORNERS = (39, 42)  # of the 68 points, from 0
_FORMAT = "paper_utils morphable model 1"


@dataclass(frozen=True)
class MorphableModel:
    r"""A face as a linear function of identity and expression, posed by joints if the model has any.

    .. math:: S = \bar S + B_{\text{id}} \alpha + B_{\text{exp}} \beta

    Frame: millimetres, x to the subject's left, y up, z out of the face.

    Parameters
    ----------
    name
        For messages, tables and captions.
    mean
        Mean face in mm.
    identity
        Identity directions, mm for one standard deviation.
    expression
        Expression directions, mm per unit (a standard deviation where the model has one); the last size may be 0.
    faces
        Triangles, 0-based int64, counter-clockwise seen from outside.
    landmarks
        68 points on the surface, or None if the source has none.
    mirror
        ``mirror[i]`` is the vertex that is the mirror image of ``i``; None if the mesh is not symmetric.
    uv
        Texture coordinates in [0, 1].
    colour_mean, colour
        Mean reflectance, 0..1, and its directions for one standard deviation; both or only the mean.
    skinning
        Joints, for models that have them.

    Raises
    ------
    ValueError
        If sizes disagree, numbers are not finite, faces or landmarks point outside the mesh, colours are not in 0..1, or `mirror` is not
        its own inverse. The message names the field, what was found and what was expected.
    """

    name: str
    mean: Float[Tensor, "vertices 3"]
    identity: Float[Tensor, "vertices 3 identity"]
    expression: Float[Tensor, "vertices 3 expression"]
    faces: Int[Tensor, "triangles 3"]
    landmarks: Landmarks | None = None
    mirror: Int[Tensor, " vertices"] | None = None
    uv: Float[Tensor, "vertices 2"] | None = None
    colour_mean: Float[Tensor, "vertices 3"] | None = None
    colour: Float[Tensor, "vertices 3 colour"] | None = None
    skinning: Skinning | None = None

    def __post_init__(self) -> None:
        self._check_sizes()
        self._check_numbers()
        self._check_indices()

    def _check_sizes(self) -> None:
        count = len(self.mean)
        wanted = {
            "mean": (count, 3), "identity": (count, 3, None), "expression": (count, 3, None), "uv": (count, 2),
            "colour_mean": (count, 3), "colour": (count, 3, None), "mirror": (count,), "faces": (None, 3),
        }  # fmt: skip
        for field, shape in wanted.items():
            value = getattr(self, field)
            if value is None:
                continue
            if value.ndim != len(shape) or any(n not in (None, m) for n, m in zip(shape, value.shape, strict=True)):
                text = str(shape).replace("None", "any")
                raise ValueError(f"{self.name}: {field} must have shape {text}, found {tuple(value.shape)}")
        if count < 3 or not len(self.faces):
            raise ValueError(f"{self.name}: a mesh needs vertices and triangles, found {count} and {len(self.faces)}")
        if self.colour is not None and self.colour_mean is None:
            raise ValueError(f"{self.name}: colour directions without colour_mean; give both")
        if self.skinning is not None and self.skinning.weights.shape[0] != count:
            raise ValueError(
                f"{self.name}: skinning is for {self.skinning.weights.shape[0]} vertices, the mesh has {count}"
            )

    def _check_numbers(self) -> None:
        for field in ("mean", "identity", "expression", "uv", "colour_mean", "colour"):
            value = getattr(self, field)
            if value is not None and not value.is_floating_point():
                raise ValueError(f"{self.name}: {field} must hold floating-point numbers, found {value.dtype}")
            if value is not None and not torch.isfinite(value).all():
                bad = int((~torch.isfinite(value)).sum())
                raise ValueError(
                    f"{self.name}: {field} holds {bad} NaN or infinite values of {value.numel()}; is the file whole?"
                )
        if self.colour_mean is not None:
            low, high = float(self.colour_mean.min()), float(self.colour_mean.max())
            if low < -COLOUR_TOLERANCE or high > 1 + COLOUR_TOLERANCE:
                raise ValueError(
                    f"{self.name}: colour_mean must lie in 0..1, found {low:g}..{high:g}; divide by 255 if it counts to 255"
                )

    def _check_indices(self) -> None:
        count = len(self.mean)
        low, high = int(self.faces.min()), int(self.faces.max())
        if self.faces.dtype != torch.int64 or low < 0 or high >= count:
            raise ValueError(
                f"{self.name}: faces must be int64 in 0..{count - 1}, found {self.faces.dtype} in {low}..{high}; do they count from 1?"
            )
        if self.landmarks is not None:
            check_barycentric(
                self.landmarks.faces, self.landmarks.barycentric, f"{self.name}: landmarks", len(self.faces)
            )
        if self.mirror is not None:
            check_mirror(self.mirror, self.name)

    def vertices(
        self,
        identity: Float[Tensor, "#batch identity_used"],
        expression: Float[Tensor, "#batch expression_used"] | None = None,
        pose: Float[Tensor, "#batch joints 3"] | None = None,
    ) -> Float[Tensor, "#batch vertices 3"]:
        """Meshes in mm for a batch of coefficients.

        Parameters
        ----------
        identity, expression
            In standard deviations. Fewer columns than the model has use its first directions; None is the neutral expression. A batch
            of one is repeated to fit the others: one person in many frames costs one product.
        pose
            Axis-angle of each joint in radians, for models with `skinning`.

        Raises
        ------
        ValueError
            If there are more coefficients than directions, or a pose for a model without joints or with another number of them.
        """
        person, shaped = self._shaped(identity, expression)
        return shaped if pose is None else self._posed(person, shaped, pose)[0]

    def posed_joints(
        self,
        identity: Float[Tensor, "#batch identity_used"],
        expression: Float[Tensor, "#batch expression_used"] | None = None,
        *,
        pose: Float[Tensor, "#batch joints 3"],
    ) -> Float[Tensor, "#batch joints 3"]:
        """Joints in mm, posed; parameters and errors as for `vertices`."""
        person, shaped = self._shaped(identity, expression)
        return self._posed(person, shaped, pose)[1]

    def _shaped(self, identity: Tensor, expression: Tensor | None) -> tuple[Tensor, Tensor]:
        """The person at rest, without and with the expression."""
        person = self.mean + _combine(identity, self.identity, f"{self.name}: identity")
        if expression is None:
            return person, person
        return person, person + _combine(expression, self.expression, f"{self.name}: expression")

    def _posed(self, person: Tensor, shaped: Tensor, pose: Tensor) -> tuple[Tensor, Tensor]:
        if self.skinning is None:
            raise ValueError(f"{self.name}: the model has no joints, leave pose out")
        joints = len(self.skinning.parents)
        if pose.shape[1] != joints:
            raise ValueError(f"{self.name}: pose must give {joints} joints, found {pose.shape[1]}")
        batch = max(len(shaped), len(pose))
        source = shaped if self.skinning.joints_follow_expression else person
        rest = rest_joints(source, self.skinning.joint_regressor)
        rotations = rotation_matrices(pose.to(shaped)).expand(batch, -1, -1, -1)
        return skin(shaped.expand(batch, -1, -1), rest.expand(batch, -1, -1), rotations, self.skinning)

    def colours(self, coefficients: Float[Tensor, "batch colour_used"]) -> Float[Tensor, "batch vertices 3"]:
        """Reflectance of each vertex for coefficients in standard deviations; may leave 0..1, as linear models do.

        Raises
        ------
        ValueError
            If the model has no colour directions or fewer than coefficients.
        """
        if self.colour_mean is None or self.colour is None:
            raise ValueError(f"{self.name}: the model has no colour directions")
        return self.colour_mean + _combine(coefficients, self.colour, f"{self.name}: colour")

    def landmark_points(self, vertices: Float[Tensor, "batch vertices 3"]) -> Float[Tensor, "batch points 3"]:
        """The model's landmarks on given meshes, in the unit of `vertices`.

        Raises
        ------
        ValueError
            If the model has no landmarks.
        """
        if self.landmarks is None:
            raise ValueError(
                f"{self.name}: the model has no landmarks; add some with dataclasses.replace and Landmarks.from_vertices"
            )
        return self.landmarks.points(vertices, self.faces)

    def truncated(self, identity: int, expression: int) -> MorphableModel:
        """The model with only its first directions, as 80 + 64 of Deep3D or 100 + 50 of DECA.

        Raises
        ------
        ValueError
            If the model has fewer.
        """
        have = self.identity.shape[2], self.expression.shape[2]
        if not (0 <= identity <= have[0] and 0 <= expression <= have[1]):
            raise ValueError(
                f"{self.name}: has {have[0]} identity and {have[1]} expression directions, asked for {identity} and {expression}"
            )
        return dataclasses.replace(
            self,
            identity=self.identity[..., :identity].contiguous(),
            expression=self.expression[..., :expression].contiguous(),
        )

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> MorphableModel:
        """A copy on another device or with another float type; indices stay int64."""
        return _moved(self, device, dtype)


def _combine(coefficients: Tensor, basis: Tensor, name: str) -> Tensor:
    """Offsets as one matrix product."""
    used = coefficients.shape[1]
    if used > basis.shape[2]:
        raise ValueError(f"{name}: {used} coefficients but the model has {basis.shape[2]} directions")
    flat = basis.flatten(0, 1)[:, :used]
    return (coefficients.to(basis) @ flat.T).unflatten(1, (-1, 3))


def _moved(value: Any, device: torch.device | str | None, dtype: torch.dtype | None) -> Any:
    if isinstance(value, Tensor):
        return value.to(device=device, dtype=dtype if value.is_floating_point() else None)
    if dataclasses.is_dataclass(value):
        moved = {f.name: _moved(getattr(value, f.name), device, dtype) for f in dataclasses.fields(value)}
        return dataclasses.replace(value, **moved)
    return value


# ------------------------------------------------------------------------------------------------------- symmetry


def check_mirror(mirror: Int[Tensor, " vertices"], name: str) -> None:
    """Refuse a mirror list that points outside the mesh or is not its own inverse.

    Raises
    ------
    ValueError
        With the first vertex at fault.
    """
    count = len(mirror)
    if count and (int(mirror.min()) < 0 or int(mirror.max()) >= count):
        raise ValueError(
            f"{name}: mirror must point to vertices 0..{count - 1}, found {int(mirror.min())}..{int(mirror.max())}"
        )
    twice = mirror[mirror]
    wrong = torch.nonzero(twice != torch.arange(count, device=mirror.device)).flatten()
    if len(wrong):
        first = int(wrong[0])
        raise ValueError(
            f"{name}: mirror must be its own inverse, found {first} -> {int(mirror[first])} -> {int(twice[first])} ({len(wrong)} vertices)"
        )


def find_mirror(mean: Float[Tensor, "vertices 3"], *, tolerance_mm: float = 0.5) -> Int[Tensor, " vertices"] | None:
    """Partner of each vertex across the plane x = 0, or None if the mesh is not symmetric.

    Parameters
    ----------
    mean
        Mean face in mm.
    tolerance_mm
        Largest distance between a mirrored vertex and its partner (choice of ours: far below the spacing of vertices).

    Returns
    -------
    A list that is its own inverse, or None if a vertex has no partner as near as that, or two share one.
    """
    points = mean.detach().cpu().double().numpy()
    distance, partner = cKDTree(points).query(points * (-1.0, 1.0, 1.0))
    if distance.max() > tolerance_mm or (partner[partner] != np.arange(len(points))).any():
        return None
    return torch.from_numpy(partner.astype(np.int64))


def inter_canthal_mm(model: MorphableModel) -> float:
    """Distance between the inner eye corners of the mean face in mm: about 30 in adults, so a quick look at the units.

    Raises
    ------
    ValueError
        If the model has not the 68 landmarks.
    """
    points = model.landmark_points(model.mean[None])[0]
    if len(points) != 68:
        raise ValueError(f"{model.name}: expected 68 landmarks, found {len(points)}")
    left, right = INNER_EYE_CORNERS
    return float(torch.linalg.vector_norm(points[left] - points[right]))


# ------------------------------------------------------------------------------------------------------ alignment


@dataclass(frozen=True)
class Similarity:
    """The map x -> scale * rotation @ x + translation, one for each item of a batch.

    Parameters
    ----------
    scale
        Positive.
    rotation
        Proper rotations.
    translation
        In the unit of the target.
    """

    scale: Float[Tensor, " batch"]
    rotation: Float[Tensor, "batch 3 3"]
    translation: Float[Tensor, "batch 3"]

    def __call__(self, points: Float[Tensor, "batch points 3"]) -> Float[Tensor, "batch points 3"]:
        """The mapped points."""
        turned = points @ self.rotation.transpose(1, 2)
        return self.scale[:, None, None] * turned + self.translation[:, None]


def procrustes(
    source: Float[Tensor, "batch points 3"],
    target: Float[Tensor, "batch points 3"],
    weights: Float[Tensor, " points"] | None = None,
    *,
    scale: bool = True,
) -> Similarity:
    r"""Similarity that brings `source` nearest to `target` in least squares, never a reflection.

    .. math:: \min_{s, R, t} \sum_i w_i \lVert s R x_i + t - y_i \rVert^2, \qquad \det R = +1

    Parameters
    ----------
    source, target
        Corresponding points, three or more.
    weights
        Of the points, not negative; equal if None.
    scale
        Whether the size may change; otherwise s = 1.

    Raises
    ------
    ValueError
        If there are fewer than three points, values are not finite, weights are negative or all zero, or the source is a single point.

    References
    ----------
    Umeyama (1991), least-squares estimation of transformation parameters between two point patterns.
    """
    count = source.shape[1]
    weights = torch.ones(count, dtype=source.dtype, device=source.device) if weights is None else weights.to(source)
    if count < 3 or not torch.isfinite(source).all() or not torch.isfinite(target).all():
        raise ValueError(f"procrustes: expected three or more finite points, found {count} (or NaN among them)")
    if (weights < 0).any() or not weights.sum() > 0:
        raise ValueError("procrustes: weights must not be negative and must not all be zero")
    share = (weights / weights.sum())[:, None]
    centres = (source * share).sum(1, keepdim=True), (target * share).sum(1, keepdim=True)
    moved, goal = source - centres[0], target - centres[1]
    left, values, right = torch.linalg.svd((goal * share).transpose(1, 2) @ moved)
    sign = torch.ones_like(values)
    # The smallest direction is turned over if the best orthogonal map were a reflection.
    sign[:, 2] = torch.where(torch.linalg.det(left @ right) < 0, -1.0, 1.0).to(values)
    rotation = (left * sign[:, None]) @ right
    spread = (moved.square() * share).sum((1, 2))
    if not (spread > 0).all():
        raise ValueError("procrustes: all source points are one point; no size or direction can be found")
    size = (values * sign).sum(1) / spread if scale else torch.ones_like(spread)
    translation = centres[1][:, 0] - size[:, None] * (rotation @ centres[0].transpose(1, 2))[..., 0]
    return Similarity(size, rotation, translation)


# -------------------------------------------------------------------------------------------------- our own file


def save_model(model: MorphableModel, path: str | Path) -> None:
    """Write a model to an ``.npz`` of plain arrays that `load_model` reads without pickle; whole or not at all."""
    path = Path(path)
    if path.suffix != ".npz":
        raise ValueError(f"{path}: expected a name that ends in .npz")
    arrays = {"format": np.array(_FORMAT), "name": np.array(model.name)}
    for field in ("mean", "identity", "expression", "faces", "mirror", "uv", "colour_mean", "colour"):
        value = getattr(model, field)
        if value is not None:
            arrays[field] = value.detach().cpu().numpy()
    if model.landmarks is not None:
        arrays["landmark_faces"] = model.landmarks.faces.cpu().numpy()
        arrays["landmark_barycentric"] = model.landmarks.barycentric.cpu().numpy()
    if model.skinning is not None:
        arrays |= {
            "joint_regressor": model.skinning.joint_regressor.detach().cpu().numpy(),
            "skin_weights": model.skinning.weights.detach().cpu().numpy(),
            "parents": np.array(model.skinning.parents, dtype=np.int64),
            "correctives": model.skinning.correctives.detach().cpu().numpy(),
            "joint_names": np.array(model.skinning.joint_names, dtype=str),
            "joints_follow_expression": np.array(model.skinning.joints_follow_expression),
        }
    with files.atomic_path(path) as temporary:
        np.savez(temporary, **arrays)


def load_model(path: str | Path) -> MorphableModel:
    """Read what `save_model` wrote.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is another kind of file or its content is not consistent.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected a model written by save_model")
    arrays = safe_files.npz(path, "a model written by save_model")
    if str(arrays.get("format")) != _FORMAT:
        raise ValueError(
            f"{path}: expected a model written by save_model, found arrays {', '.join(list(arrays)[:8])}; official files are read by paper_utils.mesh.model_files"
        )
    with safe_files.named(path, "a model written by save_model"):
        return _from_arrays(arrays)


def _from_arrays(arrays: dict[str, np.ndarray]) -> MorphableModel:
    tensors = {name: torch.from_numpy(value) for name, value in arrays.items() if value.dtype.kind in "fib"}
    landmarks = skinning = None
    if "landmark_faces" in tensors:
        landmarks = Landmarks(tensors["landmark_faces"], tensors["landmark_barycentric"])
    if "parents" in tensors:
        skinning = Skinning(
            tensors["joint_regressor"],
            tensors["skin_weights"],
            tuple(arrays["parents"].tolist()),
            tensors["correctives"],
            tuple(arrays["joint_names"].tolist()),
            bool(arrays["joints_follow_expression"]),
        )
    optional = {name: tensors.get(name) for name in ("mirror", "uv", "colour_mean", "colour")}
    return MorphableModel(
        str(arrays["name"]),
        *(tensors[name] for name in ("mean", "identity", "expression", "faces")),
        landmarks=landmarks,
        skinning=skinning,
        **optional,
    )
