"""Real data for CEST: VoxCeleb's videos or 300W-LP's re-posed photographs, and a Basel face model.

The data readers give frames and landmarks, the model files a face; here both become the `FaceSpace` and the `FrameSource` that
`paper_utils.methods.cest` trains on. How CEST itself crops its frames is not known; Deep3D's rule stands in for it.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from paper_utils.data import fitted_faces, video_frames, voxceleb_speakers
from paper_utils.data.face_crops import PIXELS_PER_MM, SIZE, FaceCrop, crop_face, five_points
from paper_utils.data.face_images import computed_ahead
from paper_utils.mesh.model_files import read_model
from paper_utils.mesh.morphable import MorphableModel
from paper_utils.methods.cest import FaceSpace, Frames

DATA = ("voxceleb", "300w_lp")
MODEL_FILES = (
    "BFM.mat",
    "BFM_model_front.mat",
    "model.npz",
)  # 3DDFA's (199 + 29 coefficients, the paper's number), Deep3D's, one of ours
CENTRE_ABOVE_MM = (
    4.6  # of the crop's middle over the mean of the five points, in Deep3D's landmark model (from memory, unverified)
)
UV_RIM = 0.01  # share of the map left free at each side; choice of ours
THREADS = 4


# ------------------------------------------------------------------------------------------------------------ the face


@dataclass(frozen=True)
class SymmetricUvSpace(FaceSpace):
    """A face space whose UV map is symmetric by construction (`cylindrical_uv`), so that a flip is the mirror image on any mesh."""

    @property
    def mirror_grid(self) -> None:
        """A flip of the width axis is exact."""
        return None


def cylindrical_uv(mean: Float[Tensor, "vertices 3"]) -> Float[Tensor, "vertices 2"]:
    r"""Texture coordinates on an upright cylinder around the back of the mesh: u from the angle, v from the height (down).

    .. math:: u = \tfrac12 + a \operatorname{atan2}(x,\ z - z_{\min}), \qquad v = b\,(y_{\max} - y)

    Points that mirror each other across x = 0 get u and 1 - u whatever the triangulation; BFM's published UV maps and triangles are not
    exactly symmetric.
    """
    x, y, z = mean.double().unbind(1)
    # A millimetre behind the last point, so that the angle is defined there.
    angle = torch.atan2(x, z - z.min() + 1)
    u = 0.5 + (0.5 - UV_RIM) * angle / angle.abs().max()
    v = UV_RIM + (1 - 2 * UV_RIM) * (y.max() - y) / (y.max() - y.min())
    return torch.stack((u, v), dim=1).to(mean)


def face_space(model: MorphableModel, *, uv_size: int = 256) -> FaceSpace:
    """The face space of a morphable model, seen as `crop_face` frames it.

    Parameters
    ----------
    model
        With the 68 landmarks. Its own UV map is used if it and the mesh are symmetric, a cylinder otherwise.
    uv_size
        Texels a side.

    Raises
    ------
    ValueError
        If the model has not the 68 landmarks.
    """
    points = _model_points(model)
    framing = {
        "uv_size": uv_size,
        "view_mm": SIZE / PIXELS_PER_MM,
        "centre_mm": float(points[:, 1].mean()) + CENTRE_ABOVE_MM,
    }
    if model.uv is not None and model.mirror is not None:
        return FaceSpace(model, **framing)
    return SymmetricUvSpace(dataclasses.replace(model, uv=cylindrical_uv(model.mean)), **framing)


def _model_points(model: MorphableModel) -> np.ndarray:
    """Eye centres, nose tip and mouth corners of the mean face."""
    return five_points(model.landmark_points(model.mean[None])[0].double().cpu().numpy())


def centred_points(space: FaceSpace) -> Float[np.ndarray, "5 3"]:
    """Five points of the mean face relative to what lies in the middle of a picture, as `crop_face` wants them."""
    return _model_points(space.model) - (0.0, space.centre_mm, 0.0)


def find_model(root: str | Path) -> MorphableModel:
    """The face model of a data folder: the first of `MODEL_FILES` that is there.

    Raises
    ------
    FileNotFoundError
        If none is.
    ValueError
        As `read_model`.
    """
    root = Path(root)
    for name in MODEL_FILES:
        if (root / name).is_file():
            return read_model(root / name)
    raise FileNotFoundError(
        f"{root}: no face model; looked for {', '.join(MODEL_FILES)}. BFM.mat is that of 3DDFA/face3d; another model becomes model.npz by "
        "python -m paper_utils.mesh.model_files model SOURCE model.npz"
    )


# ---------------------------------------------------------------------------------------------------------- the frames


@runtime_checkable
class LocatedFrames(Protocol):
    """Pictures with 68 landmarks, read from disk when asked for: `VideoFrames` and `FittedFaces`."""

    video: Int[Tensor, " frames"]
    name: str

    def __len__(self) -> int: ...

    def pixels(self, row: int) -> UInt8[np.ndarray, "height width 3"]:
        """RGB."""
        ...

    def landmarks(self, row: int) -> Float[np.ndarray, "68 2"]:
        """Right and down; the centre of the corner pixel is (0, 0)."""
        ...

    def where(self, row: int) -> str:
        """Path, for messages."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hash of the list."""
        ...


def linear_light(pixels: UInt8[np.ndarray, "height width 3"]) -> Float[Tensor, "3 height width"]:
    """Light in [-1, 1] from stored pictures, by the inverse of the sRGB curve (IEC 61966-2-1): image formation is linear in light."""
    level = np.arange(256) / 255
    table = np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)
    return torch.from_numpy((2 * table - 1).astype(np.float32)[pixels]).permute(2, 0, 1)


def stored_levels(light: Float[Tensor, "*place"]) -> UInt8[Tensor, "*place"]:
    """Inverse of `linear_light` on numbers in [0, 1]: levels to store; beyond the ends they are cut."""
    light = light.clamp(0, 1)
    curve = torch.where(light <= 0.0031308, 12.92 * light, 1.055 * light.clamp_min(0.0031308) ** (1 / 2.4) - 0.055)
    return (255 * curve).round().to(torch.uint8)


@dataclass(frozen=True)
class FaceFrames:
    """What CEST trains on, cropped and decoded when a batch asks for it.

    Parameters
    ----------
    frames
        Pictures and landmarks.
    space
        Says how a face is framed.
    size
        Pixels a side.
    threads
        Pictures decoded at once.
    """

    frames: LocatedFrames
    space: FaceSpace
    size: int = SIZE
    threads: int = THREADS

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def video(self) -> Int[Tensor, " frames"]:
        """Which video each frame is of."""
        return self.frames.video

    @cached_property
    def model_points(self) -> Float[np.ndarray, "5 3"]:
        """`centred_points` of the space."""
        return centred_points(self.space)

    def crop(self, row: int) -> FaceCrop:
        """One frame, cropped.

        Raises
        ------
        ImageError, LandmarkError, FileNotFoundError
            As the reader.
        ValueError
            If the landmarks cannot be a face of the picture; the message names it.
        """
        pixels, landmarks = self.frames.pixels(row), self.frames.landmarks(row)
        try:
            return crop_face(
                pixels, landmarks, self.model_points, size=self.size, pixels_per_mm=self.size / self.space.view_mm
            )
        except ValueError as error:
            raise ValueError(f"{self.frames.where(row)}: {error}") from error

    def take(self, rows: Int[Tensor, " rows"]) -> Frames:
        """The chosen frames, as training asks for them. Raises as `crop`."""
        crops = list(computed_ahead(self.crop, rows.tolist(), threads=self.threads))
        return Frames(
            torch.stack([linear_light(crop.pixels) for crop in crops]),
            self.video[rows],
            torch.from_numpy(np.stack([crop.landmarks for crop in crops])).float(),
        )

    @property
    def fingerprint(self) -> str:
        """Hash of the list of frames and of how they are cropped: the data's part of a cache key."""
        text = (
            f"{self.frames.fingerprint} {self.size} {self.space.view_mm} {self.space.centre_mm} {self.space.signature}"
        )
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def find_frames(data: str, root: str | Path) -> LocatedFrames:
    """The training frames of a data folder.

    Parameters
    ----------
    data
        ``voxceleb``: ``unzippedIntervalFaces`` or ``unzippedFaces`` below `root` with landmarks cached beside the frames, and
        ``vox1_meta.csv`` if it is there. Only frames with a face, and videos with two of them. ``300w_lp``: the folder ``300W_LP``, in
        which a "video" is one photograph seen from several sides.
    root
        The user's folder.

    Raises
    ------
    FileNotFoundError
        If the folder is missing.
    ValueError
        If `data` is another name, or no usable frame is there.
    """
    root = Path(root)
    if data == "voxceleb":
        places = [root / name for name in video_frames.LAYOUTS]
        folder = next((place for place in places if place.is_dir()), root)
        meta = root / "vox1_meta.csv"
        table = voxceleb_speakers.read_meta(meta) if meta.is_file() else None
        return video_frames.read_frames(folder, table=table).with_landmarks().at_least(2)
    if data == "300w_lp":
        return fitted_faces.read_300wlp(root / "300W_LP" if (root / "300W_LP").is_dir() else root)
    raise ValueError(f"data: expected one of {', '.join(DATA)}, found {data!r}")


def load(data: str, root: str | Path, *, size: int = SIZE, uv_size: int = 256) -> FaceFrames:
    """Frames and face space of a data folder, ready for `paper_utils.methods.cest.train`. Raises as `find_frames` and `find_model`."""
    return FaceFrames(find_frames(data, root), face_space(find_model(root), uv_size=uv_size), size)
