"""LFW as scikit-learn keeps it: parity with its reader, and no download unless asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn import datasets

from paper_utils.data import lfw
from paper_utils.data.face_images import ImageError

PEOPLE = {"Al_Zed": 3, "Al-Ann_Bo": 2, "Alb_Cy": 1, "Bea_Di": 4}


@pytest.fixture
def data_home(tmp_path: Path) -> Path:
    """A small LFW in the layout that scikit-learn unpacks."""
    rng = np.random.default_rng(0)
    root = tmp_path / "lfw_home"
    for name, count in PEOPLE.items():
        (root / "lfw_funneled" / name).mkdir(parents=True)
        for number in range(1, count + 1):
            coarse = rng.integers(0, 256, (25, 25, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize((250, 250)).save(root / "lfw_funneled" / name / f"{name}_{number:04d}.jpg")
    (root / "lfw_funneled" / "pairs_01.txt").write_text("found in the official archive")
    same, different = "Al_Zed\t1\t3\nBea_Di\t2\t4\n", "Al_Zed\t2\tBea_Di\t1\nAlb_Cy\t1\tBea_Di\t3\n"
    (root / "pairs.txt").write_text("1\t2\n" + same + different)
    (root / "pairsDevTrain.txt").write_text("2\n" + same + different)
    (root / "pairsDevTest.txt").write_text("1\n" + same.splitlines()[0] + "\n" + different.splitlines()[0] + "\n")
    return tmp_path


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a download was tried")

    monkeypatch.setattr("sklearn.datasets._lfw._fetch_remote", refuse)


@pytest.mark.parametrize("least", [1, 2, 3])
def test_people_and_pixels_are_those_of_scikit_learn(data_home, least):
    theirs = datasets.fetch_lfw_people(
        data_home=str(data_home), color=True, min_faces_per_person=least, download_if_missing=False
    )
    order = np.argsort(np.random.RandomState(42).permutation(len(theirs.target)))  # their fixed shuffle
    ours = lfw.load(data_home, min_images=least)
    assert ours.images.shape == (len(theirs.images), 3, 62, 47)
    assert ours.identities.tolist() == theirs.target[order].tolist()
    expected = torch.from_numpy(theirs.images[order]).permute(0, 3, 1, 2) * 2 - 1
    torch.testing.assert_close(ours.images, expected, atol=1e-6, rtol=0)


def test_people_can_be_counted_and_taken_by_how_many_pictures_they_have(data_home):
    assert [lfw.count_people(data_home, min_images=least) for least in (1, 2, 3, 5)] == [4, 3, 2, 0]
    everything = lfw.load(data_home, min_images=1)
    assert everything.identities.bincount().tolist() == [3, 2, 1, 4]  # Al Zed, Al-Ann Bo, Alb Cy, Bea Di
    some = lfw.load(data_home, min_images=2, max_images=3)
    assert some.identities.bincount().tolist() == [3, 2]
    assert torch.equal(some.images, everything.of([0, 1]).images)
    first = lfw.load(data_home, min_images=1, first=2)
    assert first.identities.bincount().tolist() == [2, 2, 1, 2]
    for person in range(4):
        assert torch.equal(first.of([person]).images, everything.of([person]).images[:2])
    ends = lfw.load(data_home, min_images=1, people=2)
    assert torch.equal(ends.images, everything.of([0, 3]).images)
    with pytest.raises(ValueError, match="0 of 4 people have 5 to 9 pictures, expected at least two; widen"):
        lfw.load(data_home, min_images=5, max_images=9)


def test_pairs_are_those_of_scikit_learn(data_home):
    theirs = datasets.fetch_lfw_pairs(
        subset="10_folds", data_home=str(data_home), color=True, slice_=None, resize=None, download_if_missing=False
    )
    ours = lfw.load_pairs(data_home)
    assert ours.same.tolist() == (theirs.target == 1).tolist()
    for side, rows in enumerate((ours.first, ours.second)):
        expected = torch.from_numpy(theirs.pairs[:, side]).permute(0, 3, 1, 2) * 2 - 1
        torch.testing.assert_close(ours.faces.images(torch.from_numpy(rows)), expected, atol=1e-6, rtol=0)


def test_development_pairs_and_other_crops_can_be_had(data_home):
    assert len(lfw.load_pairs(data_home, subset="train")) == 4
    assert len(lfw.load_pairs(data_home, subset="test")) == 2
    assert lfw.load(data_home, min_images=1, crop=(0, 250, 0, 250), scale=0.2).images.shape == (10, 3, 50, 50)
    with pytest.raises(ValueError, match="subset: expected one of 10_folds, train, test, found 'all'"):
        lfw.load_pairs(data_home, subset="all")


def test_nothing_is_downloaded_made_or_cached_by_default(tmp_path, data_home):
    before = sorted(data_home.rglob("*"))
    lfw.load(data_home, min_images=2)
    lfw.load_pairs(data_home)
    assert sorted(data_home.rglob("*")) == before
    empty = tmp_path / "empty"
    for read in (lfw.load, lfw.load_pairs, lfw.home):
        with pytest.raises(FileNotFoundError, match=r"missing .*lfw_funneled, .*pairs\.txt, .*download=True"):
            read(empty)
    assert not empty.exists()
    (data_home / "lfw_home" / "pairs.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"missing [^,]*/pairs\.txt\. Unpack"):
        lfw.load(data_home)


def test_the_default_place_is_the_one_scikit_learn_uses(data_home, monkeypatch):
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(data_home))
    assert lfw.home() == Path(datasets.get_data_home()) / "lfw_home"


def test_an_allowed_download_calls_the_fetcher_once_and_only_if_something_is_missing(tmp_path, data_home, monkeypatch):
    calls = []

    def fetch(**options):
        calls.append(options)
        if len(calls) == 1:
            (data_home / "lfw_home").rename(Path(options["data_home"]) / "lfw_home")

    monkeypatch.setattr(datasets, "fetch_lfw_pairs", fetch)
    lfw.load(data_home, min_images=2, download=True)
    assert calls == []
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert len(lfw.load(elsewhere, min_images=2, download=True)) == 9
    assert [(c["data_home"], c["download_if_missing"], c["funneled"]) for c in calls] == [(str(elsewhere), True, True)]
    with pytest.raises(FileNotFoundError, match="LFW is not complete"):
        lfw.load(tmp_path / "third", download=True)


def test_too_few_people_bad_crops_and_damaged_pictures_are_refused(data_home):
    with pytest.raises(
        ValueError, match="1 of 4 people have 4 pictures or more, expected at least two; lower min_images"
    ):
        lfw.load(data_home, min_images=4)
    with pytest.raises(ImageError, match=r"cannot cut rows 70\.\.260"):
        lfw.load(data_home, min_images=2, crop=(70, 260, 0, 100))
    picture = data_home / "lfw_home" / "lfw_funneled" / "Bea_Di" / "Bea_Di_0002.jpg"
    picture.write_bytes(picture.read_bytes()[:1000])
    with pytest.raises(ImageError, match=r"Bea_Di_0002\.jpg: not a whole"):
        lfw.load(data_home, min_images=2)
