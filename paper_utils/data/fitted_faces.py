r"""300W-LP and AFLW2000-3D: photographs with the parameters of a morphable model that was fitted to each.

The parameters are in the units of 3DDFA's ``BFM.mat`` (`paper_utils.mesh.bfm_files.read_3ddfa`), the official formula for the projected
mesh is `fitted_vertices`, and `camera_of` is the same viewpoint in the frame of `paper_utils.mesh.cameras`.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from scipy.spatial.transform import Rotation
from torch import Tensor

from paper_utils import safe_files
from paper_utils.data.face_images import ImageFiles, decode, string_array
from paper_utils.data.face_lists import first_few
from paper_utils.mesh.cameras import ScaledOrthographic
from paper_utils.mesh.morphable import MorphableModel

SETS = ("AFW", "HELEN", "IBUG", "LFPW")
FLIPPED = "_Flip"  # mirrored copies lie in folders of their own
PUBLISHED_IMAGES = {"AFW": 5_207, "HELEN": 37_676, "IBUG": 1_786, "LFPW": 16_556}  # 61,225 without flips
AFLW2000_IMAGES = 2_000
# Images with |yaw| in [0, 30], (30, 60], (60, 90]: by the fitted pose (3DDFA's evaluation code), and as the paper's tables split them.
AFLW2000_BINS = {"pose": (1312, 383, 305), "published": (1306, 462, 232)}
MICROMETRES = 1000.0  # in a millimetre; the fitted scale is for micrometres
# Shape of each array in a file of parameters, and how it may be missing.
ARRAYS = {
    "pt2d": (2, 68), "roi": (1, 4), "Pose_Para": (1, 7), "Shape_Para": (199, 1), "Exp_Para": (29, 1), "Tex_Para": (199, 1),
    "Illum_Para": (1, 10), "Color_Para": (1, 7), "pt3d_68": (3, 68),
}  # fmt: skip
NEEDED = ("Pose_Para", "Shape_Para", "Exp_Para")
_VARIANT = re.compile(r"(?P<photo>.+)_(?P<variant>\d+)\.jpg")
_AFLW = re.compile(r"image\d{5}\.jpg")


@dataclass(frozen=True)
class FittedParameters:
    """What is stored with one picture.

    Parameters
    ----------
    pose
        Pitch, yaw, roll in radians, shift in three axes, scale; for `fitted_vertices`.
    shape, expression
        Not divided by deviations: numbers of the order of 1e5, and of one.
    texture
        Coefficients of the colour model.
    illumination
        Ambient RGB, directional RGB, two angles, specular share and shininess.
    colour
        Gains RGB, offsets RGB, contrast.
    landmarks
        68 points (right, down) in pixels.
    landmarks_3d
        The same with depth (right, down, forward), in AFLW2000-3D; None elsewhere.
    roi
        Rectangle of the face in the original photograph.
    """

    pose: Float[np.ndarray, 7]
    shape: Float[np.ndarray, " shape"]
    expression: Float[np.ndarray, " expression"]
    texture: Float[np.ndarray, " texture"] | None
    illumination: Float[np.ndarray, 10] | None
    colour: Float[np.ndarray, 7] | None
    landmarks: Float[np.ndarray, "68 2"] | None
    landmarks_3d: Float[np.ndarray, "68 3"] | None
    roi: Int[np.ndarray, 4] | None

    @property
    def yaw_degrees(self) -> float:
        """Yaw of the fitted pose, which decides the bin of AFLW2000-3D."""
        return float(np.rad2deg(self.pose[1]))


def _load(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    return safe_files.mat(path, "the parameters beside the picture of the same name", names=names)


def read_parameters(path: str | Path) -> FittedParameters:
    """Parameters of one picture, ``<name>.mat`` of 300W-LP or AFLW2000-3D.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged, lacks pose, shape or expression, or an array has another shape or NaN.
    """
    path = Path(path)
    data = _load(path, tuple(ARRAYS))
    missing = [name for name in NEEDED if name not in data]
    if missing:
        raise ValueError(f"{path}: lacks {', '.join(missing)}; found {', '.join(data) or 'no known array'}")
    for name, value in data.items():
        if value.shape != ARRAYS[name] or value.dtype.kind not in "fiu" or not np.isfinite(value).all():
            raise ValueError(
                f"{path}: expected {name} of shape {ARRAYS[name]} with finite numbers, found {value.shape} of {value.dtype}"
            )

    def flat(name: str) -> np.ndarray | None:
        return data[name].reshape(-1).astype(np.float64) if name in data else None

    def points(name: str) -> np.ndarray | None:
        return np.ascontiguousarray(data[name].T, dtype=np.float64) if name in data else None

    return FittedParameters(
        pose=flat("Pose_Para"),
        shape=flat("Shape_Para"),
        expression=flat("Exp_Para"),
        texture=flat("Tex_Para"),
        illumination=flat("Illum_Para"),
        colour=flat("Color_Para"),
        landmarks=points("pt2d"),
        landmarks_3d=points("pt3d_68"),
        roi=data["roi"].reshape(-1).astype(np.int64) if "roi" in data else None,
    )


def rotation_3ddfa(pitch: float, yaw: float, roll: float) -> Float[np.ndarray, "3 3"]:
    r"""Rotation of a fitted pose: :math:`R = R_x^\top R_y^\top R_z^\top` of right-handed rotations (3DDFA's and face3d's code).

    It is the inverse of `paper_utils.mesh.cameras.rotation_matrix` of the same three numbers, so signs and order differ from ours.
    """
    return Rotation.from_euler("xyz", (pitch, yaw, roll)).as_matrix().T


def fitted_shape(
    parameters: FittedParameters, model: MorphableModel, deviations: tuple[Tensor, Tensor]
) -> Float[np.ndarray, "vertices 3"]:
    r"""The fitted mesh in the head's frame in mm: :math:`X = \bar S + B_{id}\,p_{id} + B_{exp}\,p_{exp}`.

    Parameters
    ----------
    parameters
        Of the picture.
    model
        From `read_3ddfa`.
    deviations
        From `deviations_3ddfa` of the same file: the model's directions are for one standard deviation, the parameters are not.

    Raises
    ------
    ValueError
        If the model has not as many directions as there are parameters.
    """
    wanted = (len(parameters.shape), len(parameters.expression))
    found = (model.identity.shape[2], model.expression.shape[2])
    if wanted != found or (len(deviations[0]), len(deviations[1])) != found:
        raise ValueError(
            f"{model.name}: the parameters are for {wanted[0]} identity and {wanted[1]} expression directions, the model has {found[0]} and "
            f"{found[1]}; expected 3DDFA's BFM.mat and its deviations"
        )
    coefficients = [
        (torch.from_numpy(values) / spread.double()).to(model.mean)[None]
        for values, spread in zip((parameters.shape, parameters.expression), deviations, strict=True)
    ]
    return model.vertices(*coefficients)[0].double().numpy()


def fitted_vertices(
    parameters: FittedParameters, model: MorphableModel, deviations: tuple[Tensor, Tensor], height: int
) -> Float[np.ndarray, "vertices 3"]:
    r"""The fitted mesh in the picture: right, down, forward in pixels, by the official formula.

    .. math:: Q = f R X + t, \qquad (x, y, z) = (Q_x,\ H - Q_y - 1,\ Q_z)

    Parameters
    ----------
    parameters, model, deviations
        As for `fitted_shape`. The scale :math:`f` is for micrometres.
    height
        :math:`H`, height of the picture in pixels.
    """
    shape = fitted_shape(parameters, model, deviations) * MICROMETRES
    placed = parameters.pose[6] * shape @ rotation_3ddfa(*parameters.pose[:3]).T + parameters.pose[3:6]
    placed[:, 1] = height - placed[:, 1] - 1
    return placed


def camera_of(parameters: FittedParameters, height: int) -> ScaledOrthographic:
    """The fitted viewpoint as a camera of `paper_utils.mesh.cameras`, for meshes in mm; the centre of the corner pixel is (0.5, 0.5).

    It projects `fitted_shape` to `fitted_vertices` plus half a pixel.
    """
    turned = Rotation.from_matrix(rotation_3ddfa(*parameters.pose[:3])).as_euler("xyz")
    right, up = parameters.pose[3:5]
    return ScaledOrthographic(
        torch.from_numpy(turned.copy())[None],
        torch.tensor([parameters.pose[6] * MICROMETRES], dtype=torch.float64),
        torch.tensor([[right + 0.5, height - up - 0.5]], dtype=torch.float64),
    )


# ------------------------------------------------------------------------------------------------------------- folders


@dataclass(frozen=True, kw_only=True)
class FittedFaces:
    """Pictures with parameters; decoded and read when asked for.

    Parameters
    ----------
    source
        The pictures.
    video
        For each the photograph that it was made from, as an index into `photo_names`. The variants of a photograph show one face under one
        light from several sides, so they can stand for the frames of a video.
    photo_names
        ``AFW/AFW_134212_1`` and so on.
    name
        For captions and results files.
    skipped
        What the folders hold besides.
    """

    source: ImageFiles
    video: Int[Tensor, " images"]
    photo_names: tuple[str, ...]
    name: str
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.source)

    def where(self, row: int) -> str:
        """Path of a picture, for messages."""
        return self.source.where(row)

    def pixels(self, row: int) -> UInt8[np.ndarray, "height width 3"]:
        """The picture as RGB; raises `ImageError` if it is damaged."""
        return decode(self.source.encoded(row), self.where(row))

    def parameters(self, row: int) -> FittedParameters:
        """Parameters of a picture. Raises as `read_parameters`."""
        return read_parameters(Path(self.where(row)).with_suffix(".mat"))

    def landmarks(self, row: int) -> Float[np.ndarray, "68 2"]:
        """68 points of a picture: ``pts_2d`` of the folder ``landmarks`` if the set has one, else the ``pt2d`` of its parameters.

        Raises
        ------
        FileNotFoundError
            If neither file is there.
        ValueError
            If a file is damaged, or has no landmarks.
        """
        relative = Path(str(self.source.paths[row]))
        beside = self.source.root / "landmarks" / relative.parent / f"{relative.stem}_pts.mat"
        if beside.is_file():
            points = _load(beside, ("pts_2d",)).get("pts_2d")
            kind = "" if points is None else points.dtype.kind
            if kind not in ("f", "i", "u") or points.shape != (68, 2) or not np.isfinite(points).all():
                found = "none" if points is None else f"{points.shape} of {points.dtype}"
                raise ValueError(f"{beside}: expected pts_2d (68, 2) with finite numbers, found {found}")
            return points.astype(np.float64)
        points = self.parameters(row).landmarks
        if points is None:
            raise ValueError(f"{Path(self.where(row)).with_suffix('.mat')}: has no pt2d, and there is no {beside}")
        return points

    def yaw_degrees(self) -> Float[np.ndarray, " images"]:
        """Yaw of every picture; opens all files of parameters."""
        return np.array([self.parameters(row).yaw_degrees for row in range(len(self))])

    @property
    def fingerprint(self) -> str:
        """Hash of the list of pictures: the data's part of a cache key."""
        return hashlib.sha256(f"fitted {self.source.fingerprint}".encode()).hexdigest()[:16]


def read_300wlp(root: str | Path, *, sets: Sequence[str] = SETS, flipped: bool = False) -> FittedFaces:
    """Index of ``300W_LP/<set>/<name>_<k>.jpg`` with a ``.mat`` of the same name beside each; no file is opened.

    Parameters
    ----------
    root
        The folder ``300W_LP``.
    sets
        Of AFW, HELEN, IBUG, LFPW.
    flipped
        Take the mirrored copies (``<set>_Flip``) too.

    Returns
    -------
    FittedFaces
        Sorted by path; ``skipped`` lists pictures without parameters or without a variant number.

    Raises
    ------
    FileNotFoundError
        If the folder or that of a set is missing.
    ValueError
        If a set is unknown, or a folder holds no picture with parameters.
    """
    root = Path(root)
    unknown = [name for name in sets if name not in SETS]
    if unknown or not sets:
        raise ValueError(f"sets: expected some of {', '.join(SETS)}, found {', '.join(unknown) or 'none'}")
    folders = [name + end for name in sets for end in (("", FLIPPED) if flipped else ("",))]
    missing = [folder for folder in folders if not (root / folder).is_dir()]
    if missing:
        raise FileNotFoundError(f"{root}: no folder {', '.join(missing)}; expected the folder 300W_LP as unpacked")
    paths, skipped = [], []
    for folder in folders:
        kept = _with_parameters(root, folder, _VARIANT, skipped)
        if not kept:
            raise ValueError(f"{root / folder}: no picture <name>_<k>.jpg with a .mat of the same name beside it")
        paths += kept
    photos = [_VARIANT.fullmatch(path)["photo"] for path in paths]
    return _fitted(root, paths, photos, "300W-LP", skipped)


def read_aflw2000(root: str | Path) -> FittedFaces:
    """Index of ``AFLW2000/image#####.jpg`` with a ``.mat`` of the same name beside each; each picture is a photograph of its own.

    The complete set has 2,000 pictures, of which 1,312, 383 and 305 lie in the three bins of `paper_utils.metrics.faces_3d.nme_by_yaw`.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    ValueError
        If it holds no picture with parameters.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder; expected AFLW2000 with image#####.jpg and .mat files")
    skipped: list[str] = []
    paths = _with_parameters(root, "", _AFLW, skipped)
    if not paths:
        raise ValueError(
            f"{root}: no picture image#####.jpg with a .mat of the same name beside it ({first_few(skipped) or 'nothing there'})"
        )
    return _fitted(root, paths, [path[: -len(".jpg")] for path in paths], "AFLW2000-3D", skipped)


def _with_parameters(root: Path, folder: str, wanted: re.Pattern[str], skipped: list[str]) -> list[str]:
    held = set(os.listdir(root / folder))
    prefix = f"{folder}/" if folder else ""
    kept = []
    for file in sorted(held):
        if wanted.fullmatch(file) and f"{file[:-4]}.mat" in held:
            kept.append(prefix + file)
        elif wanted.fullmatch(file):
            skipped.append(f"{prefix}{file} (no .mat beside it)")
        elif file.endswith(".mat") and f"{file[:-4]}.jpg" not in held:
            skipped.append(f"{prefix}{file} (no picture beside it)")
        elif not file.endswith(".mat") and not (root / folder / file).is_dir():
            skipped.append(prefix + file)
    return kept


def _fitted(root: Path, paths: list[str], photos: list[str], name: str, skipped: list[str]) -> FittedFaces:
    names = sorted(set(photos))
    number = {photo: index for index, photo in enumerate(names)}
    return FittedFaces(
        source=ImageFiles(root, string_array(paths, str(root))),
        video=torch.tensor([number[photo] for photo in photos]),
        photo_names=tuple(names),
        name=name,
        skipped=tuple(skipped),
    )
