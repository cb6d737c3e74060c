"""The five-point crop: the fit against planted cameras, and where everything lands."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from paper_utils.data import face_crops
from paper_utils.mesh.cameras import ScaledOrthographic

FIVE = np.array([[-31.0, 29.0, 13.0], [31.0, 29.0, 13.0], [0.0, -5.0, 55.0], [-25.0, -38.0, 22.0], [25.0, -38.0, 22.0]])


def camera(scale, angles, place):
    return ScaledOrthographic(*(torch.tensor([v], dtype=torch.float64) for v in (angles, scale, place)))


def seen(scale, angles, place, points=FIVE):
    """Where the camera sees the points, with the centre of the corner pixel at (0, 0)."""
    return camera(scale, angles, place).project(torch.from_numpy(points)[None])[0, :, :2].numpy() - 0.5


@given(
    st.floats(0.2, 5), st.tuples(st.floats(-0.4, 0.4), st.floats(-1.2, 1.2), st.floats(-0.7, 0.7)), st.tuples(*[st.floats(-50, 300)] * 2)
)  # fmt: skip
def test_weak_perspective_recovers_scale_and_place_however_the_head_is_turned(scale, angles, place) -> None:
    found, shift = face_crops.weak_perspective(seen(scale, angles, place), FIVE)
    assert_allclose(found, scale, rtol=1e-9)
    assert_allclose(shift, np.array(place) - 0.5, atol=1e-8)


def test_turned_faces_keep_their_size_in_the_crop() -> None:
    image = np.zeros((300, 300, 3), np.uint8)
    scales = [face_crops.crop_face(image, seen(0.5, (0, yaw, 0), (150, 150)), FIVE).scale for yaw in (0.0, 0.6, 1.2)]
    assert_allclose(scales, face_crops.PIXELS_PER_MM / 0.5, rtol=1e-9)


def test_crop_puts_the_models_origin_in_the_middle_at_the_fixed_scale() -> None:
    crop = face_crops.crop_face(np.zeros((400, 300, 3), np.uint8), seen(0.7, (0, 0, 0), (140, 180)), FIVE)
    assert crop.pixels.shape == (224, 224, 3)
    expected = 112 + 1.02 * FIVE[:, :2] * (1, -1)
    assert_allclose(crop.landmarks, expected, atol=1e-9)


@pytest.mark.parametrize(("scale", "place"), [(2.5, (300, 320)), (0.5, (120, 130)), (0.9, (80, 90))])
def test_pixels_go_where_landmarks_go(scale, place) -> None:
    # A bright square around each landmark, in a picture that is made smaller, larger, and hardly changed with a rim at its sides.
    landmarks = np.round(seen(scale, (0.1, 0.2, 0.3), place))
    image = np.zeros((640, 600, 3), np.uint8)
    for column, row in landmarks.astype(int):
        image[row - 2 : row + 3, column - 2 : column + 3] = 255
    crop = face_crops.crop_face(image, landmarks, FIVE)
    reach = int(np.ceil(3 * crop.scale)) + 1
    for column, row in crop.landmarks:
        left, top = int(column) - reach, int(row) - reach
        patch = crop.pixels[top : top + 2 * reach + 1, left : left + 2 * reach + 1, 0].astype(float)
        rows, columns = np.indices(patch.shape) + 0.5
        assert_allclose((patch * columns).sum() / patch.sum() + left, column, atol=0.2)
        assert_allclose((patch * rows).sum() / patch.sum() + top, row, atol=0.2)


def test_beyond_the_picture_it_is_black() -> None:
    image = np.full((100, 100, 3), 200, np.uint8)
    crop = face_crops.crop_face(image, seen(1.02, (0, 0, 0), (10, 50)), FIVE)
    assert_allclose(crop.scale, 1)  # so the picture begins 102 pixels from the crop's left
    assert (crop.pixels[100:120, :100] == 0).all()
    assert (crop.pixels[100:120, 104:190] == 200).all()


def test_crop_scales_with_its_size() -> None:
    image = np.random.default_rng(0).integers(0, 255, (300, 300, 3)).astype(np.uint8)
    points = seen(1.0, (0, 0.2, 0), (150, 150))
    large, small = (face_crops.crop_face(image, points, FIVE, size=size) for size in (224, 64))
    assert_allclose(small.landmarks / 64, large.landmarks / 224, atol=1e-9)


def test_five_points_are_eye_centres_nose_and_mouth_corners() -> None:
    points = np.arange(136.0).reshape(68, 2)
    found = face_crops.five_points(points)
    # Numbers of the points from 1 in Deep3D's code: 31, 37 and 40, 43 and 46, 49, 55.
    assert_allclose(found[:, 0] / 2, [(36 + 39) / 2, (42 + 45) / 2, 30, 48, 54])
    with pytest.raises(ValueError, match="expected 68 points, found 5"):
        face_crops.five_points(found)


def test_bad_landmarks_are_refused() -> None:
    image = np.zeros((100, 100, 3), np.uint8)
    for points, message in (
        (np.full((5, 2), np.nan), "no face found"),
        (np.full((5, 2), 7.0), "coincide"),
        (seen(0.005, (0, 0, 0), (0.5, 0.5)), "a crop of 1 pixels .* in pixels of this picture"),
        (seen(100, (0, 0, 0), (50, 50)), "a crop of 21961 pixels .* in a picture of 100 x 100"),
        (np.zeros((6, 2)), "68 points or 5, found 6"),
    ):
        with pytest.raises(ValueError, match=message):
            face_crops.crop_face(image, points, FIVE)
