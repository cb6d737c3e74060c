"""Pictures of faces: decoding, alignment against planted transforms, sets that decode lazily, and damaged images."""

from __future__ import annotations

import contextlib
import io
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from paper_utils.data import face_images as fi

TEMPLATE = np.array(fi.TEMPLATE_112)


def encode(pixels: np.ndarray, form: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **options)
    return file.getvalue()


def noise(seed: int, height: int = 112, width: int = 112) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def faces_of(pictures: list[bytes], **options) -> fi.FaceImages:
    return fi.FaceImages(source=fi.ImageBytes(tuple(pictures), "memory"), name="test", **options)


def planted(turn: float, zoom: float, right: float, down: float) -> np.ndarray:
    a, b = zoom * math.cos(turn), zoom * math.sin(turn)
    return np.array([[a, -b, right], [b, a, down]])


def moved(points: np.ndarray, transform: np.ndarray) -> np.ndarray:
    return points @ transform[:, :2].T + transform[:, 2]


transforms = st.builds(
    planted, st.floats(-math.pi, math.pi), st.floats(0.2, 5), st.floats(-500, 500), st.floats(-500, 500)
)

# ----------------------------------------------------------------------------------------------------------- alignment


@given(transforms)
def test_a_planted_similarity_is_recovered_exactly(transform):
    np.testing.assert_allclose(fi.similarity_transform(TEMPLATE, moved(TEMPLATE, transform)), transform, atol=1e-9)


@given(transforms, st.integers(0, 10**6))
def test_of_all_similarities_the_one_found_is_nearest(transform, seed):
    rng = np.random.default_rng(seed)
    source, target = rng.normal(50, 20, (5, 2)), moved(rng.normal(50, 20, (5, 2)), transform)
    # Direct least squares over (a, b, right, down).
    (x, y), one, zero = source.T, np.ones(5), np.zeros(5)
    system = np.vstack([np.c_[x, -y, one, zero], np.c_[y, x, zero, one]])
    a, b, right, down = np.linalg.lstsq(system, target.T.ravel(), rcond=None)[0]
    found = fi.similarity_transform(source, target)
    np.testing.assert_allclose(found, [[a, -b, right], [b, a, down]], rtol=1e-7, atol=1e-6)


def test_it_is_umeyamas_solution_also_where_a_mirror_image_would_fit_better():
    rng = np.random.default_rng(3)
    for mirror in (1, -1):
        source = rng.normal(size=(5, 2))
        target = source * [mirror, 1] + 0.1 * rng.normal(size=(5, 2))
        x, y = source - source.mean(0), target - target.mean(0)
        u, d, v = np.linalg.svd(y.T @ x / 5)
        sign = np.diag([1, np.sign(np.linalg.det(u) * np.linalg.det(v))])
        linear = np.trace(np.diag(d) @ sign) / (x**2).sum(axis=1).mean() * (u @ sign @ v)
        expected = np.c_[linear, target.mean(0) - linear @ source.mean(0)]
        np.testing.assert_allclose(fi.similarity_transform(source, target), expected, atol=1e-12)


def test_many_faces_at_once_are_the_same_as_one_by_one():
    points = np.random.default_rng(0).normal(60, 20, (7, 5, 2))
    together = fi.similarity_transform(points, TEMPLATE)
    for one, transform in zip(points, together, strict=True):
        np.testing.assert_allclose(fi.similarity_transform(one, TEMPLATE), transform, atol=1e-12)


def test_landmarks_that_fix_no_transform_are_refused():
    with pytest.raises(ValueError, match="landmarks of a face coincide"):
        fi.similarity_transform(np.full((5, 2), 40.0), TEMPLATE)
    with pytest.raises(ValueError, match="NaN or infinite"):
        fi.similarity_transform(np.full((5, 2), np.nan), TEMPLATE)


@given(
    st.floats(-0.6, 0.6),
    st.floats(1.2, 2.5),
    st.floats(-15, 15),
    st.floats(-15, 15),
    st.sampled_from([(300, 260), (260, 340)]),
)
@settings(max_examples=25, deadline=None)
def test_marks_of_a_picture_land_on_the_template_within_half_a_pixel(turn, zoom, right, down, shape):
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    middle = np.array([shape[1], shape[0]]) / 2
    offset = middle + np.array([right, down]) - moved(TEMPLATE.mean(0), planted(turn, zoom, 0, 0))
    landmarks = moved(TEMPLATE, planted(turn, zoom, *offset))
    for index, (x, y) in enumerate(landmarks):
        bright = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * (2.5 * zoom) ** 2))
        image = np.repeat(np.rint(255 * bright)[..., None], 3, axis=2).astype(np.uint8)
        aligned = fi.align(image, landmarks)[0].numpy()
        found_row, found_column = ndimage.center_of_mass(np.where(aligned > 25, aligned, 0))
        assert abs(found_column - TEMPLATE[index, 0]) < 0.5
        assert abs(found_row - TEMPLATE[index, 1]) < 0.5


@given(st.floats(-1, 1), st.floats(0.4, 3), st.floats(-40, 40), st.floats(-40, 40), st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_the_warp_agrees_with_an_independent_bilinear_one(turn, zoom, right, down, seed):
    image = np.random.default_rng(seed).uniform(0, 255, (2, 31, 47))
    transform = planted(turn, zoom, right, down)
    found = fi.warp(torch.from_numpy(image), transform, (40, 36)).numpy()
    back = np.linalg.inv(np.vstack([transform, [0, 0, 1]]))
    y, x = np.mgrid[:40, :36]
    old = np.stack([x, y, np.ones_like(x)], axis=-1) @ back[:2].T
    for channel in range(2):
        padded = np.pad(
            image[channel], 2
        )  # a frame of zeros: beyond the edge the picture fades over one pixel, as in OpenCV
        expected = ndimage.map_coordinates(padded, [old[..., 1] + 2, old[..., 0] + 2], order=1, cval=0.0)
        np.testing.assert_allclose(found[channel], expected, atol=1e-6)


def test_moving_by_whole_pixels_copies_them_and_fills_with_black():
    image = torch.arange(1.0, 13).reshape(1, 3, 4)
    found = fi.warp(image, np.array([[1.0, 0, 2], [0, 1.0, -1]]), (3, 5))[0]
    expected = torch.tensor([[0.0, 0, 5, 6, 7], [0, 0, 9, 10, 11], [0, 0, 0, 0, 0]])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_a_single_row_or_column_can_be_warped():
    image = torch.full((1, 1, 4), 8.0)
    assert fi.warp(image, np.eye(3)[:2], (1, 4))[0].tolist() == [[8, 8, 8, 8]]
    assert fi.warp(image.mT, np.eye(3)[:2], (4, 1))[0].mT.tolist() == [[8, 8, 8, 8]]


def test_a_transform_without_inverse_is_refused():
    with pytest.raises(ValueError, match="invertible 2 x 3"):
        fi.warp(torch.zeros(1, 4, 4), np.zeros((2, 3)))


# ------------------------------------------------------------------------------------------------------------ decoding


@pytest.mark.parametrize(("form", "options"), [("PNG", {}), ("BMP", {}), ("WEBP", {"lossless": True})])
def test_lossless_formats_give_the_pixels_back_in_rgb(form, options):
    pixels = noise(1, 20, 30)
    np.testing.assert_array_equal(fi.decode(encode(pixels, form, **options), "x"), pixels)


def test_grey_palette_and_transparent_images_become_rgb():
    pixels = noise(2, 8, 8)
    assert (fi.decode(encode(pixels[..., 0]), "x") == pixels[..., :1]).all()
    with_alpha = np.concatenate([pixels, np.zeros((8, 8, 1), np.uint8)], axis=2)
    np.testing.assert_array_equal(fi.decode(encode(with_alpha), "x"), pixels)
    file = io.BytesIO()
    Image.fromarray(pixels).quantize(16).save(file, "PNG")
    assert fi.decode(file.getvalue(), "x").shape == (8, 8, 3)


def test_pictures_that_their_exif_calls_lying_are_turned_upright():
    smooth = np.kron(np.eye(2, dtype=np.uint8) * 255, np.ones((16, 24), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    found = fi.decode(encode(smooth, "JPEG", exif=exif, quality=95), "x")
    assert found.shape == (48, 32, 3)
    assert np.abs(found[..., 0].astype(int) - np.rot90(smooth, -1)).mean() < 3


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"face 7: is empty \(0 bytes\)"),
        (b"no image at all", "face 7: not a whole JPEG, PNG, BMP, WEBP image"),
        (encode(noise(0), "JPEG")[:900], "face 7: not a whole .*truncated"),
        (encode(noise(0))[:900], "face 7: not a whole"),
        (encode(noise(0), "GIF"), "face 7: not a whole .*b'GIF8'"),
        (encode(np.zeros((8, 8), np.uint16)), "face 7: image mode I;16, expected 8 bits"),
        (encode(np.zeros((10_000, 10_000), np.uint8), "PNG"), "face 7: 10000 x 10000 pixels, more than"),
    ],
    ids=["empty", "text", "cut JPEG", "cut PNG", "GIF", "16 bits", "bomb"],
)
@pytest.mark.filterwarnings("ignore:Image size")
def test_damaged_images_are_named(data, message):
    with pytest.raises(fi.ImageError, match=message):
        fi.decode(data, "face 7")


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_hostile_bytes_give_an_image_or_a_named_error(data):
    good = data.draw(st.sampled_from([encode(noise(0, 16, 16), form) for form in fi.FORMATS]))
    damaged = bytearray(good[: data.draw(st.integers(0, len(good)))])
    for _ in range(data.draw(st.integers(0, 6))):
        if damaged:
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(fi.ImageError):  # any other error fails the test
        assert fi.decode(bytes(damaged), "face 7").shape[2] == 3


# ---------------------------------------------------------------------------------------------------------------- sets


def test_batches_are_decoded_by_row_scaled_to_plus_minus_one_and_mirrored_on_demand():
    pictures = [noise(i) for i in range(3)]
    faces = faces_of([encode(picture) for picture in pictures])
    found = faces.images(torch.tensor([2, 0, 2]), mirror=torch.tensor([False, False, True]))
    expected = torch.from_numpy(pictures[2]).permute(2, 0, 1) / 127.5 - 1
    torch.testing.assert_close(found[0], expected, atol=1e-6, rtol=0)
    assert torch.equal(found[2], found[0].flip(-1))
    black_and_white = faces_of([encode(np.full((112, 112, 3), level, np.uint8)) for level in (0, 255)])
    assert black_and_white.images(torch.arange(2)).unique().tolist() == [-1, 1]
    assert faces.images(torch.tensor([], dtype=torch.long)).shape == (0, 3, 112, 112)


def test_a_set_with_landmarks_returns_aligned_pictures_with_a_black_border():
    picture = np.full((60, 50, 3), 255, np.uint8)
    landmarks = moved(TEMPLATE, planted(0, 0.4, 3, 5))[None]
    (found,) = faces_of([encode(picture)], landmarks=landmarks).images(torch.tensor([0]))
    assert found.shape == (3, 112, 112)
    torch.testing.assert_close(found, fi.align(picture, landmarks[0]) / 127.5 - 1)
    assert found[0, 0, 0] > 0.999
    wide = faces_of([encode(picture)], landmarks=moved(TEMPLATE, planted(0, 0.8, 3, 5))[None]).images(torch.tensor([0]))
    assert wide[0, 0, 50, 111] == -1
    assert wide[0, 0, 50, 0] > 0.999


def test_decoding_ahead_changes_no_picture_and_no_order():
    faces = faces_of([encode(noise(i, 8, 8)) for i in range(11)], size=(8, 8))
    batches = torch.randint(11, (9, 4), generator=torch.Generator().manual_seed(0))
    for threads in (1, 3, 20):
        found = list(fi.decoded_ahead(faces, batches, threads=threads))
        assert torch.equal(torch.stack(found), torch.stack([faces.images(rows) for rows in batches]))
    with pytest.raises(ValueError, match="threads: expected at least 1"):
        next(fi.decoded_ahead(faces, batches, threads=0))


def test_decoding_ahead_reads_no_further_than_asked_and_passes_errors_on():
    faces = faces_of([encode(noise(0, 8, 8)), b"broken"], size=(8, 8))
    taken = []
    stream = fi.decoded_ahead(faces, (taken.append(i) or torch.tensor([0]) for i in range(100)), threads=2)
    next(stream)
    assert len(taken) == 3
    stream.close()
    with pytest.raises(fi.ImageError, match="memory: image 1"):
        list(fi.decoded_ahead(faces, [torch.tensor([0]), torch.tensor([1])]))


def test_random_mirroring_follows_its_generator_and_rate():
    images = torch.rand(400, 3, 2, 4)
    once, again = (fi.randomly_mirrored(images, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(once, again)
    turned = (once != images).flatten(1).any(dim=1)
    assert torch.equal(once[turned], images[turned].flip(-1))
    assert 150 < turned.sum() < 250
    assert torch.equal(fi.randomly_mirrored(images, generator=torch.Generator(), probability=0.0), images)
    assert torch.equal(fi.randomly_mirrored(images, generator=torch.Generator(), probability=1.0), images.flip(-1))
    with pytest.raises(ValueError, match=r"probability: expected a number in \[0, 1\], found 2"):
        fi.randomly_mirrored(images, generator=torch.Generator(), probability=2.0)


def test_names_are_numbered_by_their_place_in_the_sorted_list():
    source = fi.ImageBytes(tuple(encode(noise(i, 4, 4)) for i in range(5)), "memory")
    faces = fi.LabelledFaces.from_names(source, ["b", "a10", "a9", "b", "B"], "test", size=(4, 4))
    assert faces.identity_names == ("B", "a10", "a9", "b")
    assert faces.identities.tolist() == [3, 1, 2, 3, 0]
    loaded = faces.load(torch.tensor([4, 0]))
    assert loaded.identities.tolist() == [0, 3]
    assert torch.equal(loaded.images, faces.images(torch.tensor([4, 0])))
    assert len(faces.load()) == 5
    with pytest.raises(ValueError, match="5 images take 960 bytes, more than the 100 allowed"):
        faces.load(max_bytes=100)


def test_fingerprints_follow_images_order_labels_size_and_landmarks():
    a, b = encode(noise(0)), encode(noise(1))
    marks = np.stack([TEMPLATE] * 2)
    sets = [faces_of([a, b]), faces_of([b, a]), faces_of([a, b], size=(5, 5)), faces_of([a, b], landmarks=marks)]
    sets.append(faces_of([a, b], landmarks=marks + 1e-6))
    source = fi.ImageBytes((a, b), "elsewhere")
    sets += [fi.LabelledFaces.from_names(source, names, "test") for names in (["x", "y"], ["y", "x"])]
    assert len({faces.fingerprint for faces in sets}) == len(sets)
    assert sets[0].fingerprint == fi.FaceImages(source=source, name="other").fingerprint


def test_sets_that_do_not_fit_are_refused():
    one = fi.ImageBytes((encode(noise(0)),), "memory")
    three = fi.ImageBytes(one.contents * 3, "memory")
    with pytest.raises(ValueError, match="test: there are no images"):
        faces_of([])
    with pytest.raises(ValueError, match="landmarks for each of 1 images, found 2"):
        faces_of([b"x"], landmarks=np.zeros((2, 5, 2)))
    with pytest.raises(ValueError, match=r"at least two identities, found only \['a'\]"):
        fi.LabelledFaces.from_names(three, ["a", "a", "a"], "test")
    labels = torch.tensor([0, 1])
    with pytest.raises(ValueError, match="3 images but 2 identities"):
        fi.LabelledFaces(source=three, name="test", identities=labels, identity_names=("a", "b"))
    with pytest.raises(ValueError, match=r"must lie in 0\.\.1, found 0\.\.2"):
        fi.LabelledFaces(source=three, name="test", identities=torch.tensor([0, 1, 2]), identity_names=("a", "b"))
    with pytest.raises(ValueError, match=r"rows 0\.\.1 were asked for, there are 1"):
        faces_of([b"x"]).images(torch.tensor([0, 1]))
    with pytest.raises(fi.ImageError, match=r"memory: image 0: 20 x 30 pixels .*expected 112 x 112"):
        faces_of([encode(noise(0, 20, 30))]).images(torch.tensor([0]))
    with pytest.raises(fi.ImageError, match="memory: image 0: all landmarks of a face coincide"):
        faces_of([encode(noise(0))], landmarks=np.ones((1, 5, 2))).images(torch.tensor([0]))


@pytest.mark.parametrize(
    ("first", "second", "same", "folds", "message"),
    [
        ([], [], [], 1, "at least one pair"),
        ([0, 2], [1, 1], [True, False], 1, r"images 0\.\.2, there are 2"),
        ([0, 0], [1, 1], [True, True], 1, "all 2 pairs are same"),
        ([0, 0], [1, 1], [True, False], 3, "2 pairs cannot be cut into 3 equal folds"),
    ],
)
def test_pairs_that_do_not_fit_are_refused(first, second, same, folds, message):
    rows = [np.array(side, dtype=int) for side in (first, second)]
    with pytest.raises(ValueError, match=message):
        fi.FacePairs(faces_of([b"x", b"y"]), *rows, np.array(same, dtype=bool), "test", folds)
