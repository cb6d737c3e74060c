"""MEAD's processed layout and its videos: equal to what EMOTE's own loader gives, and every fault is named."""

from __future__ import annotations

import json
import os
import pathlib
import pickle
import shutil

import h5py
import numpy as np
import pytest
import torch

from paper_utils.audio_files import write_wav
from paper_utils.data import mead
from paper_utils.data.clip_files import ResampledWarning
from paper_utils.mesh.flame_files import read_flame
from paper_utils.safe_pickle import UnsafePickleError

RECONSTRUCTION = "EMICA-MEAD_flame2020"


@pytest.fixture
def expected(reference):
    return json.loads((reference / "mead" / "expected.json").read_text())


@pytest.fixture
def processed(reference, tmp_path, expected):
    """The official layout with landmarks and metadata as the official pipeline writes them."""
    root = tmp_path / "processed"
    shutil.copytree(reference / "mead" / "processed", root)
    for clip, values in expected.items():
        folder = root / "landmarks_original" / "mediapipe" / clip
        folder.mkdir(parents=True)
        (folder / "landmarks_alignment_used_frame_indices.pkl").write_bytes(pickle.dumps(values["valid_frames"]))
    write_metadata(root, [f"{c.split('/')[0]}/video/{c.split('/', 1)[1]}.mp4" for c in sorted(expected, reverse=True)])
    return root


def write_metadata(root, videos, fps="25/1"):
    metas = [{"fps": fps, "width": 1920, "height": 1080, "num_frames": 9, "bit_rate": "1"} for _ in videos]
    with (root / "metadata.pkl").open("wb") as file:
        for value in (3, [pathlib.PosixPath(video) for video in videos], metas, [None], [None], [{"fps": "16000"}]):
            pickle.dump(value, file)


# ------------------------------------------------------------------------------------------------------ processed files


def test_clips_are_what_the_official_loader_gives(processed, expected):
    files = mead.read_processed(processed)
    assert [name.folder for name in files.names] == sorted(expected, reverse=True)  # in the order of the metadata
    for index, name in enumerate(files.names):
        clip, values = files[index], expected[name.folder]
        assert len(clip) == values["num_frames"]
        assert torch.nonzero(clip.valid)[:, 0].tolist() == values["valid_frames"]
        np.testing.assert_allclose(clip.mean_shape()[:5], values["mean_shape_first5"], atol=1e-6)
        np.testing.assert_allclose(clip.expression[0, :5], values["exp_frame0_first5"], atol=1e-7)
        np.testing.assert_allclose(clip.jaw[-1], values["jaw_last"], atol=1e-7)
        assert list(clip.audio.shape) == values["raw_audio_shape"]
        assert float(clip.audio[0].double().sum()) == pytest.approx(values["raw_audio_first_row_sum"], abs=1e-5)
        assert int((clip.audio[-1] != 0).sum()) == values["raw_audio_last_row_nonzero"]


def test_without_metadata_and_landmarks_clips_are_sorted_and_all_frames_count(reference, expected):
    files = mead.read_processed(reference / "mead" / "processed")
    assert [name.folder for name in files.names] == sorted(expected)
    assert not files.landmarks
    assert files[0].valid.all()
    assert {key: len(rows) for key, rows in files.split("random_by_sequence_sorted_70_15_15").items()}["test"] == 3


def test_windows_are_padded_with_frames_that_do_not_count(processed):
    clip = mead.read_processed(processed)[0]
    window = clip.window(5, 8)
    assert len(window) == 8
    assert torch.equal(window.expression[: len(clip) - 5], clip.expression[5:])
    assert not window.valid[len(clip) - 5 :].any()
    assert window.jaw[len(clip) - 5 :].abs().max() == 0
    assert window.audio.shape == (8, 640)


def test_random_windows_begin_everywhere_but_at_the_last_start(processed):
    clip = mead.read_processed(processed)[2]
    rng, length = np.random.default_rng(0), len(clip) - 3
    starts = set()
    for _ in range(60):
        window = clip.random_window(length, rng)
        starts.add(next(s for s in range(4) if torch.equal(window.jaw, clip.jaw[s : s + length])))
    assert starts == {0, 1, 2}  # uniform in [0, T - L)
    assert torch.equal(clip.random_window(len(clip), rng).jaw, clip.jaw)


def landmark_file(processed, clip):
    return processed / "landmarks_original" / "mediapipe" / clip / "landmarks_alignment_used_frame_indices.pkl"


@pytest.mark.parametrize("nothing", [[], (), np.zeros(0, np.int64)])
def test_clips_that_nowhere_show_a_face_are_skipped_and_named(processed, expected, nothing):
    clip, *others = sorted(expected)
    landmark_file(processed, clip).write_bytes(pickle.dumps(nothing))
    files = mead.read_processed(processed)
    assert sorted(name.folder for name in files.names) == others
    assert files.skipped == (f"{clip}: landmarks were found in none of its frames",)
    assert all(files[row].valid.any() for row in range(len(files)))
    for other in others:
        landmark_file(processed, other).write_bytes(pickle.dumps(nothing))
    with pytest.raises(ValueError, match=r"none of 3 clips is complete \(.*landmarks were found in none of its frames"):
        mead.read_processed(processed)


def test_a_window_without_a_face_has_no_shape(processed, expected):
    clip = sorted(expected)[0]
    landmark_file(processed, clip).write_bytes(pickle.dumps([2]))
    files = mead.read_processed(processed)
    whole = files[[name.folder for name in files.names].index(clip)]
    torch.testing.assert_close(whole.mean_shape(), whole.shape[2])
    with pytest.raises(ValueError, match=f"{clip}: landmarks were found in none of its 4 frames"):
        whole.window(3, 4).mean_shape()


@pytest.mark.parametrize("fault", ["sound", "landmarks"])
def test_a_skipped_clip_moves_no_other_to_another_part_of_an_official_split(processed, expected, fault):
    names = ["random_70_15_15", "random_by_sequence_sorted_70_15_15", "random_by_identityV2_sorted_70_15_15"]
    whole = mead.read_processed(processed)

    def parts(files, split):
        return {files.names[row].folder: part for part, rows in files.split(split).items() for row in rows}

    before = [parts(whole, split) for split in names]
    for clip in sorted(expected):
        path = landmark_file(processed, clip) if fault == "landmarks" else processed / "audio" / f"{clip}.wav"
        kept = path.read_bytes()
        path.write_bytes(pickle.dumps([])) if fault == "landmarks" else path.unlink()
        files = mead.read_processed(processed)
        assert len(files) == 2
        for split, all_parts in zip(names, before, strict=True):
            assert parts(files, split) == {name: part for name, part in all_parts.items() if name != clip}
        path.write_bytes(kept)


def test_clips_become_meshes_of_flame(processed):
    folder = pathlib.Path(__file__).parents[1] / "reference" / "flame"
    source = next(folder.glob("*plain.npz"))
    model = read_flame(source, check_size=False)
    files = mead.read_processed(processed).clips(model)
    clip = files[0]
    assert clip.fps == 25
    assert clip.vertices.shape == (9, 20, 3)
    assert (clip.subject, clip.emotion, clip.intensity) == ("W011", "happy", 2)
    assert torch.equal(clip.tracked, mead.read_processed(processed)[0].valid)
    coefficients = mead.read_processed(processed)[0]
    still = model.vertices(coefficients.mean_shape()[None])[0]
    torch.testing.assert_close(clip.template, still)
    assert (clip.vertices - clip.template).norm(dim=-1).max() > 0


def test_numpy_frame_numbers_and_bare_paths_are_read_as_well(processed, expected):
    clip = next(iter(expected))
    path = processed / "landmarks_original" / "mediapipe" / clip / "landmarks_alignment_used_frame_indices.pkl"
    path.write_bytes(pickle.dumps(np.array([0, 2])))
    files = mead.read_processed(processed)
    row = [name.folder for name in files.names].index(clip)
    assert torch.nonzero(files[row].valid)[:, 0].tolist() == [0, 2]


# --------------------------------------------------------------------------------------------------------------- faults


def test_incomplete_clips_are_listed_and_not_read(processed):
    (processed / "audio/W011/front/happy/level_2/001.wav").unlink()
    files = mead.read_processed(processed)
    assert len(files) == 2
    assert files.skipped == ("W011/front/happy/level_2/001: no audio/W011/front/happy/level_2/001.wav",)


def test_another_frame_rate_is_refused(processed):
    write_metadata(processed, ["M003/video/front/angry/level_3/001.mp4"], fps="30/1")
    with pytest.raises(ValueError, match="expected 25 frames a second, found 30"):
        mead.read_processed(processed)


def test_metadata_and_landmarks_run_nothing(processed, expected):
    class Attack:
        def __reduce__(self):
            return os.system, ("touch attacked",)

    clip = next(iter(expected))
    path = processed / "landmarks_original" / "mediapipe" / clip / "landmarks_alignment_used_frame_indices.pkl"
    landmarks = path.read_bytes()
    path.write_bytes(pickle.dumps(Attack()))
    with pytest.raises(UnsafePickleError, match=r"posix\.system"):
        mead.read_processed(processed)
    path.write_bytes(landmarks)
    (processed / "metadata.pkl").write_bytes(pickle.dumps(3) + pickle.dumps([Attack()]) + pickle.dumps([{}]))
    with pytest.raises(UnsafePickleError, match=r"posix\.system"):
        mead.read_processed(processed)


def damage(processed, name, value):
    path = processed / "reconstructions" / RECONSTRUCTION / "M003/front/angry/level_3/001/shape_pose_cam.hdf5"
    with h5py.File(path, "r+") as file:
        del file[name]
        if value is not None:
            file[name] = value
    files = mead.read_processed(processed)
    return files[[n.folder for n in files.names].index("M003/front/angry/level_3/001")]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("jaw", None, "missing jaw; found cam, exp"),
        ("exp", np.zeros((1, 11, 50), "f4"), r"exp: expected \(1, frames, coefficients\), 12 frames as jaw"),
        ("jaw", np.zeros((1, 12, 6), "f4"), r"jaw: expected \(1, frames, 3\)"),
        ("shape", np.full((1, 12, 300), np.nan, "f4"), "shape: 3600 values are NaN"),
    ],
)
def test_damaged_reconstructions_are_named(processed, name, value, message):
    with pytest.raises(ValueError, match=message):
        damage(processed, name, value)


def test_old_reconstructions_with_fifty_coefficients_are_read(processed):
    assert damage(processed, "exp", np.ones((1, 12, 50), "f4")).expression.shape == (12, 50)


def test_sound_of_another_clip_is_refused_and_short_sound_is_padded(processed):
    path = processed / "audio/M003/front/angry/level_3/001.wav"
    write_wav(path, 0.1 * torch.ones(12 * 320 - 1), 16_000)
    files = mead.read_processed(processed)
    with pytest.raises(ValueError, match=r"its 12 frames 0\.48 s; the sound is cut off"):
        files[2]
    write_wav(path, 0.1 * torch.ones(12 * 640 - 700), 16_000)
    assert (files[2].audio[-1] == 0).all()
    assert (files[2].audio[-3] > 0).all()


def test_sound_at_the_rate_of_the_videos_is_resampled_without_a_word(processed, recwarn):
    path = processed / "audio/M003/front/angry/level_3/001.wav"
    write_wav(path, 0.1 * torch.sin(torch.arange(12 * 1920) / 20), 48_000)
    assert mead.read_processed(processed)[2].audio.shape == (12, 640)
    assert not [w for w in recwarn if issubclass(w.category, ResampledWarning)]


def test_missing_folders_say_what_is_there(processed, tmp_path):
    with pytest.raises(FileNotFoundError, match="there are EMICA-MEAD_flame2020"):
        mead.read_processed(processed, reconstruction="EMICA_mead_mp_lr_mse_15")
    with pytest.raises(FileNotFoundError, match="there are none"):
        mead.read_processed(tmp_path / "nowhere")


def test_windows_outside_the_clip_are_refused(processed):
    clip = mead.read_processed(processed)[0]
    with pytest.raises(ValueError, match="does not begin within its 9 frames"):
        clip.window(9, 4)


# ------------------------------------------------------------------------------------------------------------ raw files


def test_raw_videos_are_listed_by_view(tmp_path):
    for name in (
        "M003/video/front/angry/level_1/001.mp4",
        "M003/video/left_30/angry/level_1/001.mp4",
        "W011/1/front/happy/level_2/002.mp4",
        "W011/1/front/glad/level_2/002.mp4",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    videos, skipped = mead.list_videos(tmp_path)
    assert videos == ["M003/video/front/angry/level_1/001.mp4", "W011/1/front/happy/level_2/002.mp4"]
    assert len(skipped) == 1
    assert "unknown emotion 'glad'" in skipped[0]
    with pytest.raises(ValueError, match="view: expected one of front, down"):
        mead.list_videos(tmp_path, view="back")
    with pytest.raises(ValueError, match="no clip of view 'top'"):
        mead.list_videos(tmp_path, view="top")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        mead.list_videos(tmp_path / "nowhere")
