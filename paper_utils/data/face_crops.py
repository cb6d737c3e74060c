r"""The crop around a face that methods with morphable models train on: five landmarks, a weak-perspective fit, a square of fixed scale.

The rule is Deep3D's, read in its public code. Unlike a similarity to a two-dimensional template it keeps the size of a face that is turned
away: the fit knows the five points in space.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

SIZE = 224
PIXELS_PER_MM = 1.02  # at 224 pixels; Deep3D's factor of 102 is for decimetres
# Of the 68 landmarks, from 0: corners of the eye on the left of the picture and of the other one, tip of the nose, corners of the mouth
# (Deep3D's code has them from 1: 37 and 40, 43 and 46, 31, 49 and 55).
FIRST_EYE, SECOND_EYE, NOSE, MOUTH = (36, 39), (42, 45), 30, (48, 54)
SMALLEST = 8  # pixels of the picture in a crop, choice of ours: less is no face, but landmarks as shares of the picture
LARGEST = (
    40  # choice of ours: times that the crop may be larger than the picture before the landmarks are taken for nonsense
)


def five_points(landmarks: Float[np.ndarray, "points axes"]) -> Float[np.ndarray, "5 axes"]:
    """Centres of both eyes (the middle of their corners), tip of the nose, corners of the mouth, from the 68 landmarks in the picture or in space.

    Raises
    ------
    ValueError
        If there are not 68.
    """
    if len(landmarks) != 68:
        raise ValueError(f"landmarks: expected 68 points, found {len(landmarks)}")
    eyes = [landmarks[list(eye)].mean(0) for eye in (FIRST_EYE, SECOND_EYE)]
    return np.stack((*eyes, landmarks[NOSE], landmarks[MOUTH[0]], landmarks[MOUTH[1]]))


def weak_perspective(
    points: Float[np.ndarray, "points 2"], model_points: Float[np.ndarray, "points 3"]
) -> tuple[float, Float[np.ndarray, 2]]:
    r"""Scale and shift of the affine camera that sees the model's points where they are in the picture.

    .. math:: p_i \approx A X_i + t, \qquad s = (\lVert a_1 \rVert + \lVert a_2 \rVert) / 2

    with the rows :math:`a_1, a_2` of the least-squares solution.

    Parameters
    ----------
    points
        In the picture, right and down in pixels.
    model_points
        In the head's frame, y up, any unit.

    Returns
    -------
    scale
        Pixels for one unit of the model.
    shift
        Where in the picture the model's origin appears.

    Raises
    ------
    ValueError
        If there are fewer than four points, they are not finite, or all points coincide.
    """
    if len(points) < 4 or points.shape != (len(model_points), 2):
        raise ValueError(
            f"points: expected four or more corresponding ones, found {points.shape} and {model_points.shape}"
        )
    if not (np.isfinite(points).all() and np.isfinite(model_points).all()):
        raise ValueError("points: NaN or infinite values; was no face found here?")
    affine = np.concatenate((model_points, np.ones((len(points), 1))), axis=1)
    solution = np.linalg.lstsq(affine, points.astype(float), rcond=None)[0]
    scale = float(np.linalg.norm(solution[:3], axis=0).mean())
    if not scale * np.ptp(model_points) > 1e-6:  # pixels, between the farthest points
        raise ValueError("points: all landmarks of a face coincide, so they say nothing of its size")
    return scale, solution[3]


@dataclass(frozen=True)
class FaceCrop:
    """A face cut out of a picture.

    Parameters
    ----------
    pixels
        RGB; black where the crop reaches beyond the picture.
    landmarks
        Where the landmarks are in it, right and down; the centre of the corner pixel is (0.5, 0.5).
    scale
        Pixels of the crop for one of the picture.
    corner
        Right and down position of the crop's corner in the picture, whose own corner (not the centre of its first pixel) is (0, 0).
    """

    pixels: UInt8[np.ndarray, "size size 3"]
    landmarks: Float[np.ndarray, "points 2"]
    scale: float
    corner: Float[np.ndarray, 2]


def crop_face(
    image: UInt8[np.ndarray, "height width 3"],
    landmarks: Float[np.ndarray, "points 2"],
    model_points: Float[np.ndarray, "5 3"],
    *,
    size: int = SIZE,
    pixels_per_mm: float | None = None,
) -> FaceCrop:
    """Cut out the square in which the model has a fixed scale and its origin lies in the middle.

    Pixels are averaged when the picture is made smaller (bicubic). Deep3D rounds the square to whole pixels and takes the centre of a pixel
    for its corner; here nothing is rounded.

    Parameters
    ----------
    image
        As `paper_utils.data.face_images.decode` gives it.
    landmarks
        68 points, or these five in order: eye centres, nose tip, mouth corners. Right and down; the centre of the corner pixel is (0, 0), as
        detectors count.
    model_points
        The same five points of a morphable model's mean face in mm, relative to what shall lie in the middle of the crop.
    size
        Pixels a side.
    pixels_per_mm
        Scale of the model in the crop; Deep3D's if None, in proportion to the size.

    Raises
    ------
    ValueError
        If there are neither 68 nor 5 landmarks, they are not finite or coincide, or the face would be far larger than the picture or hardly a pixel.
    """
    if len(landmarks) not in (5, 68):
        raise ValueError(f"landmarks: expected 68 points or 5, found {len(landmarks)}")
    chosen = five_points(landmarks) if len(landmarks) == 68 else landmarks
    fitted, shift = weak_perspective(chosen, model_points)
    scale = (PIXELS_PER_MM * size / SIZE if pixels_per_mm is None else pixels_per_mm) / fitted
    side = size / scale
    corner = shift + 0.5 - side / 2
    height, width = image.shape[:2]
    if not SMALLEST <= side <= LARGEST * max(height, width):
        raise ValueError(
            f"landmarks: a crop of {side:.0f} pixels around the face in a picture of {width} x {height}; are they in pixels of this picture?"
        )
    box = np.concatenate((corner, corner + side))
    # Pillow reads no pixel beyond the picture: give it a black rim as wide as the crop needs.
    before = np.maximum(np.ceil(-box[:2]), 0).astype(int)
    after = np.maximum(np.ceil(box[2:] - (width, height)), 0).astype(int)
    padded = np.pad(image, ((before[1], after[1]), (before[0], after[0]), (0, 0)))
    inside = np.clip(box + np.tile(before, 2), 0, np.tile(padded.shape[1::-1], 2))
    pixels = Image.fromarray(padded).resize((size, size), Image.Resampling.BICUBIC, box=tuple(inside))
    return FaceCrop(np.asarray(pixels), (landmarks + 0.5 - corner) * scale, scale, corner)
