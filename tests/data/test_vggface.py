"""The archive of aligned VGGFace pictures and the published lists of addresses, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from paper_utils.data import vggface as vgg
from paper_utils.data.face_images import ImageError

ADDRESSES = (
    "00000001 http://a.example/wp-content/one.jpg 119.19 99.49 295.47 275.78 3.00 2.31 1\n"
    "00000002 https://b.example/two.png?x=1 10 20 60.5 80 1.00 -0.25 0\n"
    "00000007 http://c.example/7.jpg 1 1 2 2 3.00 5 1\n"
)


def picture(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path, quality=100, subsampling=0)


def grey(path: Path, level: int, size: tuple[int, int] = (128, 128)) -> None:
    picture(path, np.full((*size, 3), level))


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Three pictures of two people, grey levels 0, 100, 255."""
    root = tmp_path / "VGG_ALL_FRONTAL"
    grey(root / "Aamir_Khan" / "00000819.jpg", 0)
    grey(root / "Aamir_Khan" / "00000558.jpg", 100, (64, 64))
    grey(root / "A.J._Buckley" / "00000233.jpg", 255, (200, 200))
    return root


@pytest.mark.parametrize("size", [(64, 64), (128, 128)])
def test_pictures_of_any_size_come_out_scaled(size, archive):
    faces = vgg.read_archive(archive, size=size)
    assert faces.name == "VGG_ALL_FRONTAL"
    assert faces.identity_names == ("A.J._Buckley", "Aamir_Khan")
    assert faces.identities.tolist() == [0, 1, 1]
    assert faces.source.paths.tolist() == [
        "A.J._Buckley/00000233.jpg",
        "Aamir_Khan/00000558.jpg",
        "Aamir_Khan/00000819.jpg",
    ]
    images = faces.images(torch.arange(3))
    assert images.shape == (3, 3, *size)
    torch.testing.assert_close(images[:, 0, 5, 5], (torch.tensor([255.0, 100.0, 0.0]) - 127.5) / 127.5)
    assert torch.equal(faces.load(torch.tensor([2, 0])).identities, torch.tensor([1, 0]))


def test_colour_place_and_size_follow_the_picture(tmp_path):
    ramp = np.zeros((128, 128, 3))
    ramp[:, :, 0] = np.arange(128)[:, None] * 2  # red grows downwards
    ramp[:, :, 2] = np.arange(128) * 2  # blue to the right
    for person in ("Ann", "Bob"):
        picture(tmp_path / person / "00000001.jpg", ramp)
    image = vgg.read_archive(tmp_path, size=(64, 64)).images(torch.tensor([0]))[0]
    levels = image * 127.5 + 127.5
    middle = torch.arange(8, 56)
    # A pixel of the small picture covers two of the large one: levels 4 i + 1 on average; JPEG blurs by a level or two.
    torch.testing.assert_close(levels[0, 8:56, 30], 4.0 * middle + 1, rtol=0, atol=4)
    torch.testing.assert_close(levels[2, 30, 8:56], 4.0 * middle + 1, rtol=0, atol=4)
    assert float(levels[1].max()) < 6


def test_stripes_too_fine_for_the_small_picture_become_grey(tmp_path):
    stripes = np.zeros((128, 128, 3))
    stripes[:, ::2] = 255
    for person in ("Ann", "Bob"):
        picture(tmp_path / person / "00000001.jpg", stripes)
    image = vgg.read_archive(tmp_path).images(torch.tensor([0]))[0]
    # The nearest pixel alone would be black or white.
    assert float(image[:, :, 4:60].abs().max()) < 0.1


def test_a_picture_of_the_right_size_is_not_touched(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3))
    for person in ("Ann", "Bob"):
        picture(tmp_path / person / "00000001.jpg", pixels)
    stored = np.asarray(Image.open(tmp_path / "Ann" / "00000001.jpg"))
    image = vgg.read_archive(tmp_path).images(torch.tensor([0]))[0]
    np.testing.assert_array_equal(image.permute(1, 2, 0), (stored.astype(np.float32) - 127.5) / 127.5)


def test_other_files_are_listed(archive):
    grey(archive / "Aamir_Khan" / "00000001_crop.jpg", 9)
    grey(archive / "Aamir_Khan" / "00000002.png", 9)
    (archive / "Aamir_Khan" / "Thumbs.db").write_bytes(b"x")
    (archive / "Nobody").mkdir()
    faces = vgg.read_archive(archive)
    assert len(faces) == 3
    assert faces.skipped == (
        "Aamir_Khan/00000001_crop.jpg",
        "Aamir_Khan/00000002.png",
        "Aamir_Khan/Thumbs.db",
        "Nobody/ (no image)",
    )


def test_a_picture_that_would_be_squeezed_is_refused_unless_allowed(archive):
    grey(archive / "Aamir_Khan" / "00000558.jpg", 100, (96, 128))
    faces = vgg.read_archive(archive)
    with pytest.raises(
        ImageError,
        match=r"Aamir_Khan/00000558\.jpg: 96 x 128 pixels .* scaled to 64 x 64 without squeezing .*squeeze=True",
    ):
        faces.images(torch.tensor([1]))
    upright = vgg.read_archive(archive, size=(48, 64))
    assert upright.images(torch.tensor([1])).shape == (1, 3, 48, 64)
    squeezed = vgg.read_archive(archive, squeeze=True)
    assert squeezed.images(torch.tensor([1])).shape == (1, 3, 64, 64)
    assert squeezed.fingerprint != faces.fingerprint


@pytest.mark.parametrize("stored", [(127, 128), (101, 100)])
def test_a_pixel_of_rounding_is_no_squeeze(stored, archive):
    grey(archive / "Aamir_Khan" / "00000558.jpg", 100, stored)
    assert vgg.read_archive(archive).images(torch.tensor([1])).shape == (1, 3, 64, 64)


@pytest.mark.parametrize("content", [b"", b"no picture at all", "cut"])
def test_a_corrupt_picture_is_named(content, archive):
    path = archive / "Aamir_Khan" / "00000558.jpg"
    path.write_bytes(path.read_bytes()[:300] if content == "cut" else content)
    with pytest.raises(ImageError, match=r"Aamir_Khan/00000558\.jpg: (is empty|not a whole JPEG)"):
        vgg.read_archive(archive).images(torch.tensor([0, 1]))


def test_a_wrong_folder_is_explained(archive, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        vgg.read_archive(tmp_path / "nowhere")
    grey(tmp_path / "other" / "Ann" / "face.jpg", 1)
    grey(tmp_path / "other" / "Bob" / "face.jpg", 1)
    with pytest.raises(
        ValueError, match=r"none of its 2 pictures has a name of eight digits: Ann/face\.jpg, Bob/face\.jpg; expected"
    ):
        vgg.read_archive(tmp_path / "other")
    (archive / "A.J._Buckley" / "00000233.jpg").unlink()
    with pytest.raises(ValueError, match=r"expected at least two identities, found only \['Aamir_Khan'\]"):
        vgg.read_archive(archive)


def test_taking_some_relabels_them_and_changes_the_fingerprint(archive):
    faces = vgg.read_archive(archive)
    some = faces.take(torch.tensor([2, 0]), torch.tensor([0, 1]), ("Khan", "Buckley"), "some")
    assert some.source.paths.tolist() == ["Aamir_Khan/00000819.jpg", "A.J._Buckley/00000233.jpg"]
    assert some.identities.tolist() == [0, 1]
    assert some.images(torch.tensor([0, 1]))[:, 0, 0, 0].tolist() == [-1.0, 1.0]
    assert some.fingerprint != faces.fingerprint
    with pytest.raises(ValueError, match="aligned already; expected no landmarks"):
        replace(faces, landmarks=np.zeros((3, 5, 2)))


# -------------------------------------------------------------------------------------------------- lists of addresses


def test_address_lists_are_read_as_metadata(tmp_path):
    (tmp_path / "Aamir_Khan.txt").write_text(ADDRESSES)
    (tmp_path / "Zoe_Saldana.txt").write_text(ADDRESSES.splitlines()[0] + "\n")
    lists = vgg.read_all_addresses(tmp_path)
    assert list(lists) == ["Aamir_Khan", "Zoe_Saldana"]
    khan = lists["Aamir_Khan"]
    assert (khan.person, len(khan)) == ("Aamir_Khan", 3)
    assert khan.ids.tolist() == [1, 2, 7]
    assert khan.urls[1] == "https://b.example/two.png?x=1"
    assert khan.boxes[0].tolist() == [119.19, 99.49, 295.47, 275.78]
    assert khan.frontal.tolist() == [True, False, True]
    assert khan.curated.tolist() == [True, False, True]
    assert khan.score.tolist() == [2.31, -0.25, 5.0]
    assert list(vgg.read_all_addresses(tmp_path, ["Zoe_Saldana"])) == ["Zoe_Saldana"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((" 1\n", "\n"), r"line 1 has 8 fields: '00000001 http"),
        (("/two.png", "/two .png"), r"line 2 has 10 fields"),
        (("00000002 ", "two "), r"line 2 begins with 'two https://b.example.*; expected a number and an address"),
        (("http://c.example", "c.example"), r"line 3 begins with '00000007 c.example"),
        (("119.19", "left"), r"line 1: expected six numbers after the address \(.*'left'"),
        (("60.5 80", "9 80"), r"line 2 has the box \[10.0, 20.0, 9.0, 80.0\]; expected left < right"),
        (("60.5 80", "nan 80"), r"line 2 has the box"),
        ((" 0\n", " yes\n"), r"line 2 has curation 'yes'; expected 0 or 1"),
        (("00000007", "00000002"), r"line 3 repeats picture 00000002 of line 2"),
    ],
)
def test_a_damaged_address_list_is_refused_with_the_line(change, message, tmp_path):
    path = tmp_path / "Aamir_Khan.txt"
    path.write_text(ADDRESSES.replace(*change, 1))
    with pytest.raises(ValueError, match=r"Aamir_Khan\.txt: " + message):
        vgg.read_addresses(path)


def test_absent_address_lists_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no list <name>\.txt; expected the folder 'files' of VGGFace"):
        vgg.read_all_addresses(tmp_path)
    (tmp_path / "Ann.txt").write_text(ADDRESSES)
    with pytest.raises(FileNotFoundError, match="no list for 2 people: Bob, Eve; found 1 lists"):
        vgg.read_all_addresses(tmp_path, ["Ann", "Bob", "Eve"])
