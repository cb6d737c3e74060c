"""Folders of frames in the two layouts of VoxCeleb1's faces: what is a video, and what happens to frames that cannot be used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from paper_utils.data import video_frames
from paper_utils.data.face_images import ImageError
from paper_utils.data.voxceleb_speakers import read_meta

META = "VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet\nid10001\tA.J._Buckley\tm\tIreland\tdev\nid10002\tA.R._Rahman\tm\tIndia\ttest\n"


def write_frame(path: Path, seed: int = 0, landmarks: np.ndarray | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (40, 32, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    if landmarks is not None:
        np.save(path.with_suffix(".npy"), landmarks)


@pytest.fixture
def dense(tmp_path) -> Path:
    """Two people; the first with two utterances of one source video, each a video of its own."""
    root = tmp_path / "unzippedIntervalFaces"
    points = np.random.default_rng(0).uniform(0, 32, (68, 2))
    for seed, path in enumerate(
        (
            "A.J._Buckley/1.6/J9lHsKG98U8/11/0000025.jpg",
            "A.J._Buckley/1.6/J9lHsKG98U8/11/0000050.jpg",
            "A.J._Buckley/1.6/J9lHsKG98U8/2/0000025.jpg",
            "A.R._Rahman/1.6/QanuGhOhb9A/5/0000001.jpg",
            "A.R._Rahman/1.6/QanuGhOhb9A/5/0000002.jpg",
        )
    ):
        write_frame(root / "data" / path, seed, points + seed)
    (tmp_path / "vox1_meta.csv").write_text(META)
    return root


def test_an_utterance_is_a_video_in_the_dense_layout(dense) -> None:
    frames = video_frames.read_frames(dense)
    assert frames.name == "VoxCeleb1 unzippedIntervalFaces"
    assert frames.person_names == ("A.J._Buckley", "A.R._Rahman")
    assert frames.video.tolist() == [0, 0, 1, 2, 2]
    assert frames.video_names[1] == "data/A.J._Buckley/1.6/J9lHsKG98U8/2"
    assert frames.person.tolist() == [0, 0, 0, 1, 1]
    assert frames.skipped == ()


def test_a_source_video_is_a_video_in_the_sparse_layout(tmp_path) -> None:
    root = tmp_path / "unzippedFaces"
    for name in ("A.J._Buckley/1.6/J9lHsKG98U8/0000025.jpg", "A.J._Buckley/1.6/x2tVf7BQ/0000025.jpg"):
        write_frame(root / name)
    frames = video_frames.read_frames(root)
    assert frames.name == "VoxCeleb1 unzippedFaces"
    assert frames.video.tolist() == [0, 1]
    assert frames.person.tolist() == [0, 0]


def test_frames_and_landmarks_belong_together(dense) -> None:
    frames = video_frames.read_frames(dense)
    for row in range(len(frames)):
        seed = row  # written in the order of the sorted paths
        np.testing.assert_allclose(frames.landmarks(row), np.random.default_rng(0).uniform(0, 32, (68, 2)) + seed)
        assert frames.pixels(row).shape == (40, 32, 3)
    assert frames.take(torch.tensor([3, 0])).where(0) == frames.where(3)


def test_the_speakers_table_names_people_and_leaves_strangers_out(dense, tmp_path) -> None:
    write_frame(dense / "data/Nobody_Known/1.6/abc/1/0000001.jpg")
    (dense / "data/readme.txt").write_text("hello")
    frames = video_frames.read_frames(dense, table=read_meta(tmp_path / "vox1_meta.csv"))
    assert len(frames) == 5
    assert frames.people.nationalities == ("India", "Ireland")
    assert frames.skipped == ("data/readme.txt", "Nobody_Known: not in vox1_meta")
    assert frames.of_people(["A.R._Rahman"]).video.tolist() == [2, 2]
    with pytest.raises(ValueError, match="no frames of Someone; there are 2 people"):
        frames.of_people(["Someone"])


def test_frames_without_a_face_are_left_out_by_name(dense) -> None:
    folder = dense / "data/A.J._Buckley/1.6/J9lHsKG98U8/11"
    (folder / "0000025.npy").unlink()
    np.save(folder / "0000050.npy", np.full((68, 2), np.nan))
    np.save(dense / "data/A.R._Rahman/1.6/QanuGhOhb9A/5/0000001.npy", np.zeros((5, 2)))
    frames = video_frames.read_frames(dense).with_landmarks()
    assert frames.video.tolist() == [1, 2]
    assert len(frames.skipped) == 3
    for text, words in zip(frames.skipped, ("no such file", "no face was found", r"found (5, 2)"), strict=True):
        assert words in text
        assert ".npy" in text
    with pytest.raises(ValueError, match="none of 2 frames is left; expected videos of at least 2 frames"):
        frames.at_least(2)


def test_no_landmarks_at_all_is_an_error_that_says_what_to_do(tmp_path) -> None:
    write_frame(tmp_path / "p/1.6/v/0000001.jpg")
    with pytest.raises(ValueError, match=r"none of 1 frames is left.*\(68, 2\).*run a landmark detector once"):
        video_frames.read_frames(tmp_path).with_landmarks()


def test_a_corrupt_frame_within_a_clip_is_named_and_can_be_left_out(dense) -> None:
    path = dense / "data/A.J._Buckley/1.6/J9lHsKG98U8/11/0000050.jpg"
    path.write_bytes(path.read_bytes()[:200])
    frames = video_frames.read_frames(dense)
    with pytest.raises(ImageError, match=r"0000050\.jpg: not a whole JPEG"):
        frames.pixels(1)
    kept = frames.readable()
    assert kept.video.tolist() == [0, 1, 2, 2]
    assert len(kept.skipped) == 1
    assert "0000050.jpg" in kept.skipped[0]
    assert kept.at_least(2).video.tolist() == [2, 2]


def test_fingerprint_follows_the_frames(dense) -> None:
    frames = video_frames.read_frames(dense)
    assert frames.fingerprint == video_frames.read_frames(dense).fingerprint
    assert frames.fingerprint != frames.take(torch.arange(4)).fingerprint


def test_wrong_folders_are_named(dense, tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="expected unzippedIntervalFaces/data/<Speaker_Name>"):
        video_frames.read_frames(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"no frame among its .* files .*is it .*unzippedIntervalFaces\?"):
        video_frames.read_frames(tmp_path)
    other = "VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet\nid10003\tZ\tm\tIreland\tdev\n"
    (tmp_path / "other.csv").write_text(other)
    with pytest.raises(ValueError, match=r"none of its 2 people is in other.*such as Z"):
        video_frames.read_frames(dense, table=read_meta(tmp_path / "other.csv"))
