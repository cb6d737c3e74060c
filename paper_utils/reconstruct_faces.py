"""3D faces for your own pictures: writes a mesh for each picture of a folder, and a figure of all, with the networks of paper 07.

    python -m paper_utils.reconstruct_faces my_pictures
    python -m paper_utils.reconstruct_faces my_pictures --checkpoint trained.safetensors --model BFM.mat --output meshes

A picture must show one face. Either it is cropped already, a square with the face in its middle, or its landmarks lie beside it: NAME.npy with
68 points, or with five (eye centres, tip of the nose, corners of the mouth), right and down in pixels. Nothing here looks for faces.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from matplotlib import pyplot as plt
from PIL import Image
from torch import Tensor
from torch.nn import functional

from paper_utils import experiment, files, plotting, safe_files
from paper_utils.data.face_crops import crop_face
from paper_utils.data.face_images import SUFFIXES, ImageError, decode
from paper_utils.mesh.model_files import read_model
from paper_utils.mesh.obj_files import write_obj
from paper_utils.methods import cest
from paper_utils.recipes import cest as recipe
from paper_utils.recipes import cest_data
from paper_utils.studies import cest as study

SMALLEST = 32  # pixels a side, choice of ours: less shows no face
SQUARE = 0.02  # relative difference of the sides that a cropped picture may have
BLANK = 2.0  # standard deviation of a channel's levels below which a picture shows nothing, choice of ours
# Turn in radians, size, shift right and down as shares of the side; choices of ours.
MOVEMENTS = (
    (0.2, 1.0, 0.0, 0.0), (-0.2, 1.0, 0.0, 0.0), (0.0, 0.85, 0.0, 0.0), (0.0, 1.15, 0.0, 0.0),
    (0.0, 1.0, 0.1, 0.0), (0.0, 1.0, -0.1, 0.0), (0.0, 1.0, 0.0, 0.1), (0.0, 1.0, 0.0, -0.1),
)  # fmt: skip
# See `following`. With the networks of the quick profile about 95 of 100 of the world's faces reach it, and about 5 of 100 pieces of a photograph
# of a building; but 15 of 100 pieces of a flower, and a third of all faces that stand on their head.
LEAST_FOLLOWING = 0.15
ROWS = 8  # faces in one figure
OTHER_LIGHT = (0.55, 0.45, 0.25, 0.25, 0.0, 0.0, 0.0, 0.0, 0.0)  # from the right of the picture, in the plain basis
PANELS = ("picture", "reconstruction", "reflectance", "shading", "from the front", "other light")
CAUTION = (
    "A mesh shows what the networks take from one picture, within their face model; it is no measurement of a person."
)


class NoFaceError(ImageError):
    """A picture in which no face was recognised; the message names it."""


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m paper_utils.reconstruct_faces", description=__doc__.splitlines()[0]
    )
    parser.add_argument("images", type=Path, help="folder of pictures, or one picture")
    parser.add_argument("--checkpoint", type=Path, help="networks written by cest.save (default: those of notebook 07)")
    parser.add_argument(
        "--model", type=Path, help="face model that the networks were trained with (default: the world's head)"
    )
    parser.add_argument(
        "--output", type=Path, help="folder of the meshes and figures (default: NAME_faces in the working folder)"
    )
    parser.add_argument("--force", action="store_true", help="write a mesh even where no face was recognised")
    return parser.parse_args(arguments)


# ------------------------------------------------------------------------------------------------------------ pictures


@dataclass(frozen=True)
class Picture:
    """A picture ready for the networks.

    Parameters
    ----------
    name
        Of the file, without its ending.
    image
        Linear light in [-1, 1].
    notes
        What was done to it.
    """

    name: str
    image: Float[Tensor, "3 size size"]
    notes: tuple[str, ...] = ()


def list_pictures(place: Path) -> tuple[list[Path], list[str]]:
    """Picture files of a folder, sorted, and the names of other files; or the one picture.

    Raises
    ------
    FileNotFoundError
        If there is nothing.
    ValueError
        If a folder holds no picture, or two pictures of one name.
    """
    if place.is_file():
        return [place], []
    if not place.is_dir():
        raise FileNotFoundError(f"{place}: no such folder or picture")
    held = sorted(path for path in place.iterdir() if path.is_file())
    pictures = [path for path in held if path.suffix.lower() in SUFFIXES]
    others = [path.name for path in held if path not in pictures and path.suffix != ".npy"]
    if not pictures:
        raise ValueError(f"{place}: no picture ({', '.join(SUFFIXES)}) among its {len(held)} files")
    stems = [path.stem for path in pictures]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        raise ValueError(
            f"{place}: several pictures are called {twice[0]}; their meshes would overwrite each other, rename one"
        )
    return pictures, others


def _channels(path: Path) -> list[str]:
    """What `decode` changes without a word."""
    with Image.open(path) as image:
        bands = image.getbands()
    notes = ["grey: repeated in three channels"] if len(set(bands) & {"L", "1"}) else []
    return notes + (["transparency is left out"] if "A" in bands or "a" in bands else [])


def read_picture(path: Path, space: cest.FaceSpace, size: int) -> Picture:
    """A picture as the networks want it: cropped by its landmarks, or taken as it is if it is a square.

    Raises
    ------
    ImageError
        If it is damaged, too small, blank, or neither a square nor accompanied by landmarks.
    ValueError
        If the landmarks beside it cannot be used.
    """
    pixels = decode(path.read_bytes(), str(path))
    notes = _channels(path)
    height, width = pixels.shape[:2]
    if min(height, width) < SMALLEST:
        raise ImageError(f"{path}: {width} x {height} pixels; a face needs {SMALLEST} a side at least")
    if pixels.std((0, 1)).max() < BLANK:
        raise NoFaceError(f"{path}: no face: all of the picture has one colour")
    beside = path.with_suffix(".npy")
    if beside.is_file():
        image = cropped(pixels, _landmarks(beside), space, size, str(path))
        return Picture(path.stem, image, (*notes, "cropped by its landmarks"))
    if abs(height - width) > SQUARE * max(height, width):
        raise ImageError(
            f"{path}: {width} x {height} pixels, and no landmarks {beside.name} beside it; cut a square around the face (from the brows' "
            "height again above them to below the chin), or give its 68 or 5 landmarks"
        )
    if (height, width) != (size, size):
        pixels = np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC))
        notes.append(f"{width} x {height} pixels, resized to {size} x {size}")
    return Picture(path.stem, cest_data.linear_light(pixels), tuple(notes))


def _landmarks(path: Path) -> Float[np.ndarray, "points 2"]:
    points = safe_files.npy(path, "68 or 5 landmarks in pixels")
    if points.dtype.kind not in "fiu":
        raise ValueError(f"{path}: expected landmarks as numbers, found {points.dtype}")
    if points.shape not in ((68, 2), (5, 2)):
        raise ValueError(f"{path}: expected landmarks (68, 2) or (5, 2), found {points.shape}")
    if not np.isfinite(points).all():
        raise NoFaceError(f"{path}: no face: NaN among the landmarks")
    return points.astype(np.float64)


def cropped(
    pixels: UInt8[np.ndarray, "height width 3"],
    landmarks: Float[np.ndarray, "points 2"],
    space: cest.FaceSpace,
    size: int,
    where: str,
) -> Float[Tensor, "3 size size"]:
    """The crop that training would have made. Raises ValueError naming the picture."""
    try:
        crop = crop_face(
            pixels, landmarks, cest_data.centred_points(space), size=size, pixels_per_mm=size / space.view_mm
        )
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    return cest_data.linear_light(crop.pixels)


# -------------------------------------------------------------------------------------------------------------- result


@dataclass(frozen=True)
class Face:
    """What is written for one picture.

    Parameters
    ----------
    picture
        The picture.
    estimate
        Of the chain, a batch of one.
    following
        See `following`.
    """

    picture: Picture
    estimate: cest.Estimate
    following: float


@torch.no_grad()
def following(estimator: cest.Estimator, image: Float[Tensor, "3 size size"]) -> float:
    r"""How far the estimated face goes along when the picture is turned, resized and shifted.

    .. math:: 1 - \frac{\sum_m \lVert Q_m - m(Q) \rVert^2}{\sum_m \lVert Q - m(Q) \rVert^2}

    with the 68 projected landmarks :math:`Q` of the picture and :math:`Q_m` of the moved picture, for the movements :math:`m` of
    `MOVEMENTS`. It is 1 for networks that follow exactly and 0 for networks that do not look. A good reconstruction would say nothing: any
    picture can be copied into the reflectance.
    """
    space, size = estimator.space, image.shape[-1]
    steps = [_movement(*movement) for movement in MOVEMENTS]
    back = torch.stack([torch.linalg.inv(step) for step in steps])
    grid = functional.affine_grid(back[:, :2], [len(steps), *image.shape], align_corners=False)
    moved = functional.grid_sample(
        image.expand(len(steps), -1, -1, -1), grid, padding_mode="border", align_corners=False
    )
    view, alpha = estimator.pose_and_shape(torch.cat((image[None], moved)))
    landmarks = space.model.landmark_points(space.vertices(alpha))
    points = space.camera(view, size).project(landmarks)[..., :2] * (2 / size) - 1
    first, found = points[:1], points[1:]
    forward = torch.stack(steps)
    expected = first @ forward[:, :2, :2].transpose(1, 2) + forward[:, None, :2, 2]
    return float(1 - (found - expected).square().sum() / (first - expected).square().sum())


def _movement(turn: float, scale: float, right: float, down: float) -> Float[Tensor, "3 3"]:
    """Map of places in the picture, from -1 to 1 across."""
    c, s = scale * math.cos(turn), scale * math.sin(turn)
    return torch.tensor([[c, -s, 2 * right], [s, c, 2 * down], [0.0, 0.0, 1.0]])


@torch.no_grad()
def reconstruct(estimator: cest.Estimator, picture: Picture, *, force: bool = False) -> Face:
    """Run the chain on one picture.

    Raises
    ------
    NoFaceError
        If the networks do not follow a face in it, see `following`, unless `force`.
    """
    found = following(estimator, picture.image)
    if found < LEAST_FOLLOWING and not force:
        raise NoFaceError(
            f"{picture.name}: no face recognised: when the picture is moved, the estimated face follows by {found:.2f}, expected "
            f"{LEAST_FOLLOWING} or more. Is one face in the middle, upright, as large as in the pictures of the training? "
            "--force writes a mesh all the same"
        )
    return Face(picture, estimator(picture.image[None]), found)


def write_mesh(face: Face, space: cest.FaceSpace, path: Path) -> None:
    """The shape in mm in the head's own frame (x to the subject's left, y up, z forward), coloured by its reflectance; grey off the skin."""
    uv = 2 * space.model.uv.to(face.estimate.reflectance) - 1
    colours = functional.grid_sample(
        face.estimate.reflectance, uv[None, None], padding_mode="border", align_corners=False
    )
    levels = cest_data.stored_levels(colours[0, :, 0].T).double().numpy() / 255
    faces = space.model.faces
    if space.skin is not None:
        on_skin = np.zeros(len(levels), dtype=bool)
        on_skin[faces[space.skin].unique().numpy()] = True
        levels[~on_skin] = 0.8
    write_obj(path, face.estimate.vertices[0].double().numpy(), faces.numpy(), levels)


@torch.no_grad()
def panels(face: Face, space: cest.FaceSpace) -> list[Float[Tensor, "3 size size"]]:
    """Pictures of the six `PANELS`, linear light in [0, 1]."""
    estimate, image = face.estimate, cest.linear(face.picture.image[None])
    mask, size = estimate.geometry.mask, image.shape[-1]
    even = torch.zeros_like(estimate.light)
    even[:, 0] = cest.FIRST_LIGHT
    frontal = cest.look(space, face.picture.image[None], estimate.vertices, space.camera(torch.zeros(1, 7), size))
    shown = (
        image,
        torch.where(mask > 0.5, estimate.image(), image),
        estimate.image(light=even) + (1 - mask),
        estimate.shading.expand(-1, 3, -1, -1) / math.ceil(max(1.0, float(estimate.shading.max()))) + (1 - mask),
        cest.paint(frontal, estimate.reflectance, even) + (1 - frontal.mask),
        estimate.image(light=torch.tensor([OTHER_LIGHT])) + (1 - mask),
    )
    return [panel[0] for panel in shown]


def write_figures(faces: Sequence[Face], space: cest.FaceSpace, folder: Path) -> list[Path]:
    """``faces.png``, and ``faces_2.png`` and so on for more than `ROWS` faces."""
    paths = []
    plotting.use_style()
    for start in range(0, len(faces), ROWS):
        shown = faces[start : start + ROWS]
        figure, axes = plt.subplots(
            len(shown), len(PANELS), figsize=(1.7 * len(PANELS), 1.75 * len(shown) + 0.4), squeeze=False, dpi=110
        )
        for row, face in zip(axes, shown, strict=True):
            for axis, panel in zip(row, panels(face, space), strict=True):
                axis.imshow(cest_data.stored_levels(panel).permute(1, 2, 0).numpy())
                axis.set(xticks=[], yticks=[])
                axis.grid(visible=False)
                axis.spines[:].set_visible(False)
            row[0].set_ylabel(face.picture.name[:24], fontsize=9)
        for axis, title in zip(axes[0], PANELS, strict=True):
            axis.set_title(title, fontsize=10)
        paths.append(folder / ("faces.png" if not start else f"faces_{start // ROWS + 1}.png"))
        with files.atomic_path(paths[-1]) as temporary:
            figure.savefig(temporary)
        plt.close(figure)
    return paths


# -------------------------------------------------------------------------------------------------------- command line


def networks(checkpoint: Path | None, model: Path | None) -> cest.Estimator:
    """Trained networks with their face model.

    Raises
    ------
    FileNotFoundError
        If there are none; the message says how to train them.
    ValueError
        If the file is damaged, or the model is of another topology.
    """
    path = checkpoint or recipe.model_path("world", "quick")
    if checkpoint is None and not path.is_file():
        raise FileNotFoundError(
            f"there are no trained networks yet ({path}); train them in about a minute with "
            "`python -m paper_utils.train 07 --only CEST`, or give --checkpoint"
        )
    if model is not None:
        return cest.load(path, cest_data.face_space(read_model(model), uv_size=cest.read_texels(path)))
    return cest.load(path, study.face_space(study.scale(experiment.start("07"))))


@dataclass
class Outcome:
    """What became of the pictures.

    Parameters
    ----------
    faces
        Those that were reconstructed.
    faults
        What was wrong with the others; each names its picture.
    """

    faces: list[Face] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def reconstruct_all(
    estimator: cest.Estimator, pictures: Sequence[Path], folder: Path, *, force: bool = False
) -> Outcome:
    """Mesh after mesh; a picture that cannot be used does not keep the others from being written."""
    outcome = Outcome()
    for path in pictures:
        try:
            picture = read_picture(path, estimator.space, estimator.config.image_size)
            face = reconstruct(estimator, picture, force=force)
            write_mesh(face, estimator.space, folder / f"{path.stem}.obj")
        except (ValueError, OSError) as error:
            outcome.faults.append(str(error))
        else:
            outcome.faces.append(face)
    return outcome


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns
    -------
    int
        0: every picture has its mesh; 1: some have, and the messages name the others; 2: nothing was written.
    """
    options = parse(arguments)
    folder = options.output or Path(f"{options.images.stem}_faces")
    try:
        estimator = networks(options.checkpoint, options.model)
        pictures, others = list_pictures(options.images)
        outcome = reconstruct_all(estimator, pictures, folder, force=options.force)
        figures = write_figures(outcome.faces, estimator.space, folder)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print(f"paper_utils.reconstruct_faces: {error}", file=sys.stderr)
        return 2
    for face in outcome.faces:
        notes = f" ({'; '.join(face.picture.notes)})" if face.picture.notes else ""
        print(f"{folder / face.picture.name}.obj{notes}")
    for path in figures:
        print(path)
    if others:
        print(f"not pictures, left alone: {', '.join(others)}")
    for fault in outcome.faults:
        print(f"paper_utils.reconstruct_faces: {fault}", file=sys.stderr)
    if outcome.faces:
        print(CAUTION)
    return 0 if not outcome.faults else 1 if outcome.faces else 2


if __name__ == "__main__":
    sys.exit(main())
