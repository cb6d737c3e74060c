"""SHOW on disk: every layout, pickles that run nothing, splits, conversion, frames in other forms, and bodies through smplx."""

from __future__ import annotations

import collections
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paper_utils import audio
from paper_utils.audio_files import write_wav
from paper_utils.data import show, show_frames, show_pickles, smplx_body
from paper_utils.safe_pickle import UnsafePickleError
from paper_utils.world.pose_layout import COLUMNS, joint_columns, six_d_columns, upper_columns

CLIP = "214037-00_12_47-00_12_57"
OTHER = "214037-00_12_57-00_13_00"
NAME = f"oliver/late_night.webm/{CLIP}"


def fields(frames=90, seed=0, **changes) -> dict:
    """A clip's dictionary with the shapes of the published ones."""
    rng = np.random.default_rng(seed)
    widths = show_pickles.FIELDS | {"pose_embedding": 32}
    stored = {key: rng.standard_normal((frames, width)).astype(np.float32) for key, width in widths.items()}
    stored["global_orient"] = stored["global_orient"][:, None]
    stored |= {
        "betas": rng.standard_normal((1, 300)).astype(np.float32),
        "transl": np.zeros((frames, 3)),
        "focal_length": np.array(5000.0),
        "batch_size": frames,
        "center": [640, 360],
        "losses_to_log": collections.OrderedDict(total=torch.tensor(1.5, requires_grad=True), many=torch.ones(2, 3)),
    }
    return stored | changes


@pytest.fixture(scope="module")
def components() -> show.HandComponents:
    rng = np.random.default_rng(9)
    return show.HandComponents(*(rng.standard_normal((12, 45)).astype(np.float32) for _ in range(2)))


def put(folder: Path, stem: str, *, frames=90, seconds=3.0, **changes) -> None:
    """A pickle and a stereo recording."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{stem}.pkl").write_bytes(pickle.dumps(fields(frames, **changes)))
    samples = torch.sin(torch.arange(round(seconds * show.SAMPLE_RATE)) / 20)
    write_wav(folder / f"{stem}.wav", torch.stack([samples, samples / 2]) / 2, show.SAMPLE_RATE)


@pytest.fixture
def released(tmp_path) -> Path:
    """Two clips in the layout of release 1.0."""
    for speaker, clip in (("oliver", CLIP), ("conan", OTHER)):
        put(tmp_path / "show" / speaker / "late_night.webm" / clip, clip)
    return tmp_path / "show"


# ---------------------------------------------------------------------------------------------------------------- pickles


def test_fields_of_a_pickle_become_a_frame_with_hands_from_components(tmp_path, components):
    put(tmp_path, "c")
    stored, read = fields(), show.read_pickle(tmp_path / "c.pkl")
    motion = show.motion_vector(read, components).numpy()
    assert motion.shape == (90, COLUMNS)
    np.testing.assert_array_equal(motion[:, joint_columns("jaw")], stored["jaw_pose"])
    np.testing.assert_array_equal(motion[:, joint_columns("global_orient")], stored["global_orient"][:, 0])
    np.testing.assert_array_equal(motion[:, joint_columns("right_wrist")], stored["body_pose_axis"][:, 60:])
    np.testing.assert_allclose(motion[:, 75:120], stored["left_hand_pose"] @ components.left, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(motion[:, 120:165], stored["right_hand_pose"] @ components.right, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(motion[:, 165:], stored["expression"])


def test_a_single_frame_and_tensors_are_read_too(tmp_path, components):
    stored = fields(1)
    stored["jaw_pose"] = torch.from_numpy(stored["jaw_pose"]).repeat(1, 2)[:, 1:4].requires_grad_()
    (tmp_path / "c.pkl").write_bytes(pickle.dumps(stored))
    read = show.read_pickle(tmp_path / "c.pkl")
    np.testing.assert_array_equal(read["jaw_pose"], stored["jaw_pose"].detach())
    assert show.motion_vector(read, components).shape == (1, COLUMNS)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_pickle_protocol_is_read(tmp_path, protocol):
    (tmp_path / "c.pkl").write_bytes(pickle.dumps(fields(3), protocol=protocol))
    assert show.read_pickle(tmp_path / "c.pkl")["expression"].shape == (3, 100)


def test_a_pickle_that_wants_to_run_something_is_refused_unrun(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    (tmp_path / "c.pkl").write_bytes(pickle.dumps(fields(3, losses_to_log=Trap())))
    with pytest.raises(UnsafePickleError, match="mkdir"):
        show.read_pickle(tmp_path / "c.pkl")
    assert not (tmp_path / "sprung").exists()


def test_a_trap_inside_a_tensor_is_not_sprung_either(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    class Storage:
        def __reduce__(self):
            return torch.storage._load_from_bytes, (pickle.dumps(Trap()),)

    (tmp_path / "c.pkl").write_bytes(pickle.dumps(fields(3, losses_to_log=Storage())))
    with pytest.raises((ValueError, pickle.UnpicklingError)):
        show.read_pickle(tmp_path / "c.pkl")
    assert not (tmp_path / "sprung").exists()


def test_a_tensor_that_reaches_beyond_its_storage_is_refused(tmp_path):
    class Wide:
        def __reduce__(self):
            storage = torch.zeros(3).storage()
            return torch._utils._rebuild_tensor_v2, (storage, 1, (3,), (1,), False, collections.OrderedDict())

    (tmp_path / "c.pkl").write_bytes(pickle.dumps(fields(3, losses_to_log=Wide())))
    with pytest.raises(ValueError, match="its storage has 3 numbers, 4 are needed"):
        show.read_pickle(tmp_path / "c.pkl")


def test_faults_of_pickles_are_named(tmp_path):
    path = tmp_path / "c.pkl"
    with pytest.raises(FileNotFoundError, match=r"c\.pkl"):
        show.read_pickle(path)

    def stored(**changes):
        path.write_bytes(pickle.dumps(fields(4, **changes)))

    whole = fields(4)
    del whole["jaw_pose"], whole["betas"]
    path.write_bytes(pickle.dumps(whole))
    with pytest.raises(ValueError, match="jaw_pose, betas missing; expected"):
        show.read_pickle(path)
    stored(expression=np.full((4, 100), np.nan, np.float32))
    with pytest.raises(ValueError, match="expression: 400 of 400 numbers are NaN"):
        show.read_pickle(path)
    stored(expression=np.zeros((3, 100)))
    with pytest.raises(ValueError, match="different numbers of frames"):
        show.read_pickle(path)
    stored(expression=np.zeros((4, 50 + 1)))
    with pytest.raises(ValueError, match=r"expression: expected \(frames, 100\) numbers, found \(4, 51\)"):
        show.read_pickle(path)
    stored(jaw_pose=np.array(["a"] * 12))
    with pytest.raises(ValueError, match="jaw_pose: expected"):
        show.read_pickle(path)
    path.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(ValueError, match="expected a dictionary"):
        show.read_pickle(path)
    path.write_bytes(pickle.dumps(fields(4))[:500])
    with pytest.raises(ValueError, match="not a whole pickle"):
        show.read_pickle(path)


def model_arrays(vertices=10_000, seed=3) -> dict[str, np.ndarray]:
    """A body in the layout of a SMPL-X file, made of chance, with the number of vertices that smplx picks its points from."""
    rng = np.random.default_rng(seed)
    weights = rng.random((vertices, 55))
    regressor = np.zeros((55, vertices))
    regressor[np.arange(55), np.arange(55) * 150] = 1
    parents = np.r_[-1, rng.integers(0, np.arange(1, 55))]
    return {
        "v_template": rng.standard_normal((vertices, 3)),
        "f": rng.integers(0, vertices, (60, 3)).astype(np.uint32),
        "shapedirs": 0.01 * rng.standard_normal((vertices, 3, 400)).astype(np.float32),
        "posedirs": np.zeros((vertices, 3, 486), np.float32),
        "J_regressor": regressor,
        "kintree_table": np.stack([parents, np.arange(55)]).astype(np.int64),
        "weights": weights / weights.sum(1, keepdims=True),
        **{f"hands_components{side}": np.linalg.qr(rng.standard_normal((45, 45)))[0] for side in "lr"},
        **{f"hands_mean{side}": 0.1 * rng.standard_normal(45) for side in "lr"},
        "lmk_faces_idx": rng.integers(0, 60, 51),
        "lmk_bary_coords": np.full((51, 3), 1 / 3),
    }


def test_hand_components_are_the_first_twelve_rows_of_the_model_file(tmp_path):
    arrays = {name: model_arrays(9000)[name] for name in ("hands_componentsl", "hands_componentsr")}
    np.savez(tmp_path / "m.npz", **arrays)
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(arrays))
    for file in ("m.npz", "m.pkl"):
        read = show.read_hand_components(tmp_path / file)
        np.testing.assert_allclose(read.left, arrays["hands_componentsl"][:12], rtol=1e-6)
        np.testing.assert_allclose(read.right, arrays["hands_componentsr"][:12], rtol=1e-6)
    np.savez(tmp_path / "m.npz", v_template=np.zeros(3))
    with pytest.raises(ValueError, match=r"hands_componentsl: expected \(12 or more, 45\), found \(0,\)"):
        show.read_hand_components(tmp_path / "m.npz")
    with pytest.raises(FileNotFoundError, match="registered users"):
        show.read_hand_components(tmp_path / "none.npz")


# -------------------------------------------------------------------------------------------------------- folders, splits


@pytest.mark.parametrize(
    "folder",
    [
        f"oliver/late_night.webm/{CLIP}",
        "oliver/late_night.webm",
        f"oliver/late_night.webm/test/{CLIP}",
        f"test/oliver/late_night.webm/{CLIP}",
    ],
)
def test_every_layout_gives_the_same_clip(tmp_path, components, folder):
    put(tmp_path / folder, CLIP)
    index = show.index_clips(tmp_path)
    assert list(index.motion) == [NAME]
    assert index.split == ({NAME: "test"} if "test" in folder else {})
    clip = show.read_clip(index, NAME, components)
    assert (clip.speaker, len(clip.motion), len(clip.samples), clip.trimmed) == (0, 90, 66_000, None)
    assert clip.samples[11] == pytest.approx(0.75 * np.sin(11 / 20) / 2, abs=1e-3), "channels are averaged"


def test_what_is_no_clip_is_listed(released):
    (released / "notes.txt").write_text("x")
    folder = released / "oliver" / "late_night.webm" / CLIP
    put(released / "oliver" / "late_night.webm" / OTHER, OTHER)
    (released / "oliver" / "late_night.webm" / OTHER / f"{OTHER}.wav").unlink()
    (folder / f"{CLIP}.pkl").unlink()
    index = show.index_clips(released)
    assert list(index.motion) == [f"conan/late_night.webm/{OTHER}"]
    assert dict(index.left_out) == {
        "notes.txt": "no clip of SHOW by its name and folders",
        NAME: "sound without motion",
        f"oliver/late_night.webm/{OTHER}": "motion without sound",
    }


def test_wrong_folders_are_named(tmp_path, released):
    with pytest.raises(FileNotFoundError, match=r"no such folder; expected \{speaker\}"):
        show.index_clips(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"found no clip \(no files\); expected"):
        show.index_clips(tmp_path / "empty")
    put(released / "train" / "oliver" / "late_night.webm" / CLIP, CLIP)
    with pytest.raises(ValueError, match="occurs twice"):
        show.index_clips(released)
    with pytest.raises(ValueError, match="speaker 'jimmy' is unknown; expected one of oliver, chemistry, seth, conan"):
        show.speaker_number("jimmy")


def test_names_of_clips_tell_their_time():
    assert show.clip_seconds(OTHER) == (777.0, 780.0)
    assert show.clip_seconds("7-01_00_00-01_00_03.5") == (3600.0, 3603.5)
    with pytest.raises(ValueError, match=r"expected \{interval\}"):
        show.clip_seconds("clip7")
    with pytest.raises(ValueError, match="ends before it begins"):
        show.clip_seconds("1-00_00_05-00_00_05")


def entries(videos=12, clips=10) -> list[str]:
    return [
        f"{speaker}/v{v}.webm/1-00_{v:02d}_{c:02d}-00_{v:02d}_{c + 3:02d}"
        for speaker in show.SPEAKERS
        for v in range(videos)
        for c in range(clips)
    ]


def test_split_file_is_read_and_counted(tmp_path):
    names = entries(3, 4)
    parts = {"train": names[:40], "val": names[40:44], "test": names[44:]}
    (tmp_path / "s.json").write_text(json.dumps(parts))
    old: dict = {}
    for part, chosen in parts.items():
        for entry in chosen:
            speaker, video, clip = entry.split("/")
            old.setdefault(speaker, {}).setdefault(video, {}).setdefault(part, []).append(f"data/{clip}/{clip}.pkl")
    (tmp_path / "s.pkl").write_bytes(pickle.dumps(old))
    for file in ("s.json", "s.pkl"):
        split = show.read_split(tmp_path / file)
        assert {part: set(chosen) for part, chosen in split.items()} == {p: set(c) for p, c in parts.items()}
        assert show.split_counts(split)["train"] == {"oliver": 12, "chemistry": 12, "seth": 12, "conan": 4}


def test_counts_of_the_official_split_have_the_shape_of_the_summary(reference):
    summary = json.loads((reference / "talkshow" / "split_summary.json").read_text())
    split = {
        part: [f"{s}/v/1-00_00_00-00_00_01" for s, n in counts.items() for _ in range(n)]
        for part, counts in summary["per_speaker"].items()
    }
    assert show.split_counts(split) == summary["per_speaker"]
    assert {part: sum(counts.values()) for part, counts in summary["per_speaker"].items()} == summary["n_clips"]


def test_faults_of_split_files_are_named(tmp_path):
    path, name = tmp_path / "s.json", entries()[0]
    with pytest.raises(FileNotFoundError, match=r"train_val_test\.json"):
        show.read_split(path)
    for content, message in (
        ("{", "not valid JSON"),
        ('{"train": []}', "expected the lists train, val, test"),
        (json.dumps({"train": [name], "val": [name], "test": []}), "stands in train and in val"),
        (json.dumps({"train": ["jimmy" + name[6:]], "val": [], "test": []}), "speaker 'jimmy' is unknown"),
        (json.dumps({"train": ["oliver/x"], "val": [], "test": []}), "expected speaker/video/clip, found 'oliver/x'"),
        (json.dumps({"train": "all", "val": [], "test": []}), "train: expected a list"),
    ):
        path.write_text(content)
        with pytest.raises(ValueError, match=message):
            show.read_split(path)


@given(st.integers(0, 2**31 - 1))
def test_a_split_by_video_never_shares_a_video_and_keeps_the_shares(seed):
    split = show.split_by_video(entries(), seed=seed)
    videos = {part: {entry.rsplit("/", 1)[0] for entry in chosen} for part, chosen in split.items()}
    assert not videos["train"] & videos["test"]
    assert not videos["train"] & videos["val"]
    assert not videos["val"] & videos["test"]
    assert sorted(e for chosen in split.values() for e in chosen) == sorted(entries())
    for counts in zip(*(show.split_counts(split)[part].values() for part in show.SPLITS), strict=True):
        assert counts[0] / sum(counts) == pytest.approx(0.8, abs=0.1)
        assert min(counts) > 0
    assert show.split_by_video(entries(), seed=seed) == split


def test_a_split_by_video_needs_videos():
    with pytest.raises(ValueError, match="speaker chemistry: 2 videos do not divide"):
        show.split_by_video(entries(2, 3), seed=0)
    with pytest.raises(ValueError, match="sum to 1"):
        show.split_by_video(entries(), seed=0, shares=(0.5, 0.1, 0.1))


# ------------------------------------------------------------------------------------------------------------------ clips


@pytest.mark.parametrize(("frames", "seconds", "kept", "noted"), [(90, 3.0, 90, False), (90, 2.0, 60, True), (60, 3.0, 60, True), (90, 2.98, 89, False)])  # fmt: skip
def test_motion_and_sound_of_different_length_are_cut_and_noted(tmp_path, components, frames, seconds, kept, noted):
    put(tmp_path / "oliver" / "late_night.webm", CLIP, frames=frames, seconds=seconds)
    clip = show.read_clip(show.index_clips(tmp_path), NAME, components)
    assert len(clip.motion) == kept
    assert len(clip.samples) == round(kept * show.SAMPLE_RATE / 30)
    assert (clip.trimmed is not None) == noted
    assert clip.mfcc().shape == (kept, 64)
    if noted:
        assert clip.trimmed == (pytest.approx(frames / 30), pytest.approx(seconds))


@pytest.mark.parametrize(("frames", "sounding"), [(7, 9), (9, 7), (12, 5), (20, 3), (4, 1)])
def test_mfcc_that_run_out_go_back_from_the_last_one(frames, sounding):
    samples = 0.1 * torch.randn((sounding - 1) * 734 + 1, generator=torch.Generator().manual_seed(0))
    samples = torch.nn.functional.pad(
        samples, (0, max(0, 1025 - len(samples)))
    )  # reflection at the edges needs as many
    clip = show.ShowClip(NAME, 0, torch.zeros(frames, COLUMNS), torch.zeros(300), samples)
    whole = audio.mfcc(samples[None], audio.TALKSHOW_MEL)[0].numpy()
    lacking = max(0, frames - len(whole))
    np.testing.assert_array_equal(clip.mfcc(), np.pad(whole, ((0, lacking), (0, 0)), mode="reflect")[:frames])


def test_clips_for_training_come_with_a_report(tmp_path, components):
    for clip, changes in {
        CLIP: {"frames": 100, "seconds": 3.0},
        OTHER: {"frames": 80},
        "1-00_00_00-00_00_03": {"expression": np.full((90, 100), np.nan)},
    }.items():
        put(tmp_path / "oliver" / "late_night.webm", clip, **changes)
    index = show.index_clips(tmp_path)
    clips, report = show.load_clips(index, [*index.motion, "seth/v/none"], components)
    assert report.used == (NAME,)
    assert report.trimmed == ((NAME, pytest.approx(100 / 30), pytest.approx(3.0)),)
    reasons = dict(report.left_out)
    assert reasons[f"oliver/late_night.webm/{OTHER}"] == "80 frames, fewer than 88"
    assert "NaN" in reasons["oliver/late_night.webm/1-00_00_00-00_00_03"]
    assert "no clip 'seth/v/none'" in reasons["seth/v/none"]
    assert "1 clips used, 1 trimmed, 3 left out" in str(report)
    assert clips.motion.shape == (90, COLUMNS)
    assert clips.windows().tolist() == [[0, 0]]
    with pytest.raises(ValueError, match="none of 1 clips can be used"):
        show.load_clips(index, [f"oliver/late_night.webm/{OTHER}"], components)


def test_a_clip_is_a_holistic_clip_with_log_mel(released, components):
    clip = show.read_clip(show.index_clips(released), NAME, components)
    holistic = clip.holistic()
    assert holistic.fps == 30
    assert torch.equal(holistic.motion, clip.motion)
    assert len(holistic.recording.log_mel) == pytest.approx(301, abs=1)


def test_pickled_hands_need_components(released):
    with pytest.raises(ValueError, match="give hands=read_hand_components"):
        show.read_clip(show.index_clips(released), NAME)


def test_conversion_keeps_motion_and_sound_and_goes_on_where_it_stopped(released, components, tmp_path):
    index = show.index_clips(released)
    calls = []
    assert show.convert(index, tmp_path / "plain", components, report=calls.append) == (2, ())
    assert calls == [1, 1]
    converted = show.index_clips(tmp_path / "plain")
    assert list(converted.motion) == list(index.motion)
    one, other = show.read_clip(index, NAME, components), show.read_clip(converted, NAME)
    assert torch.equal(one.motion, other.motion)
    assert torch.equal(one.samples, other.samples)
    assert torch.equal(one.betas, other.betas)
    before = (tmp_path / "plain" / f"{NAME}.npz").stat().st_mtime_ns
    show.convert(index, tmp_path / "plain", components)
    assert (tmp_path / "plain" / f"{NAME}.npz").stat().st_mtime_ns == before
    (tmp_path / "plain" / f"{NAME}.npz").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"2 bytes, not readable .* expected a converted clip"):
        show.read_clip(converted, NAME)


def test_command_line_converts_and_lists_what_is_left_out(released, tmp_path, capsys):
    arrays = model_arrays(9000)
    np.savez(tmp_path / "m.npz", **{name: arrays[name] for name in ("hands_componentsl", "hands_componentsr")})
    broken = released / "oliver" / "late_night.webm" / CLIP / f"{CLIP}.pkl"
    broken.write_bytes(broken.read_bytes()[:1000])
    assert show.main(["convert", str(released), str(tmp_path / "plain"), str(tmp_path / "m.npz")]) == 1
    printed = capsys.readouterr().out
    assert f"left out: {NAME}: " in printed
    assert "1 clips in" in printed
    with pytest.raises(SystemExit):
        show.main(["convert", str(tmp_path / "none"), str(tmp_path / "plain"), str(tmp_path / "m.npz")])


# ---------------------------------------------------------------------------------------------------- other forms of frames


def test_six_numbers_a_joint_and_back():
    motion = torch.randn(5, COLUMNS, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    six = show_frames.to_six_d(motion)
    assert six.shape == (5, show_frames.SIX_D_COLUMNS)
    assert torch.equal(six[:, 330:], motion[:, 165:])
    back = show_frames.from_six_d(six)
    torch.testing.assert_close(show_frames.to_six_d(back), six)
    small = torch.cat([0.5 * motion[:, :165].tanh(), motion[:, 165:]], dim=1)
    torch.testing.assert_close(show_frames.from_six_d(show_frames.to_six_d(small)), small)
    bent = torch.zeros(1, COLUMNS)
    bent[:, joint_columns("left_elbow")] = 1.0
    changed = (show_frames.to_six_d(bent) != show_frames.to_six_d(torch.zeros(1, COLUMNS)))[0].nonzero()[:, 0].tolist()
    assert changed == six_d_columns(np.arange(COLUMNS)[joint_columns("left_elbow")]).tolist()


@pytest.mark.parametrize("posture", ["sit", "stand"])
def test_evaluation_frames_equal_the_released_code(posture, reference):
    recorded = json.loads((reference / "talkshow" / "evaluation_frames.json").read_text())
    found = show_frames.evaluation_frames(torch.arange(1000.0, 1265.0), posture=posture)
    np.testing.assert_allclose(found, recorded[f"poses2pred_{posture}_of_arange1000"], rtol=1e-6)


@pytest.mark.parametrize("index_set", ["consistent", "official"])
def test_columns_that_are_not_predicted_stay_as_in_the_first_true_frame(index_set):
    motion = torch.arange(2.0)[:, None] + torch.arange(COLUMNS)
    frames = show_frames.with_still_rest(torch.full((3, 4, 129), -1.0), motion, index_set=index_set)
    kept = upper_columns(index_set)
    assert (frames[..., kept] == -1).all()
    others = np.setdiff1d(np.arange(COLUMNS), kept)
    assert torch.equal(frames[..., others], motion[0, others].expand(3, 4, -1))


def test_result_arrays_come_back_and_divide_into_draws(tmp_path):
    motion = torch.randn(3, 10, COLUMNS, generator=torch.Generator().manual_seed(0))
    show_frames.write_result(tmp_path / "r.npy", motion)
    assert np.load(tmp_path / "r.npy").shape == (30, COLUMNS)
    assert torch.equal(show_frames.read_result(tmp_path / "r.npy", draws=3), motion)
    assert show_frames.read_result(tmp_path / "r.npy").shape == (1, 30, COLUMNS)
    with pytest.raises(ValueError, match="30 frames do not divide into 4 draws"):
        show_frames.read_result(tmp_path / "r.npy", draws=4)
    np.save(tmp_path / "r.npy", np.zeros((3, 7)))
    with pytest.raises(ValueError, match=r"expected \(frames, 265\), found \(3, 7\)"):
        show_frames.read_result(tmp_path / "r.npy")
    np.save(tmp_path / "r.npy", np.full((1, COLUMNS), np.nan))
    with pytest.raises(ValueError, match="NaN"):
        show_frames.read_result(tmp_path / "r.npy")
    np.save(tmp_path / "r.npy", np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(ValueError, match="holds pickled Python objects"):
        show_frames.read_result(tmp_path / "r.npy")
    with pytest.raises(FileNotFoundError):
        show_frames.read_result(tmp_path / "none.npy")


# ----------------------------------------------------------------------------------------------------------------- bodies


@pytest.fixture(scope="module")
def body_file(tmp_path_factory) -> Path:
    """A made-up body, with a pickled dictionary beside its arrays as in the official file."""
    path = tmp_path_factory.mktemp("smplx") / "SMPLX_NEUTRAL.npz"
    np.savez(path, **model_arrays(), part2num=np.array({"head": 1}, dtype=object))
    return path


def test_bodies_have_127_points_and_add_the_mean_hand(body_file):
    pytest.importorskip("smplx")
    body = smplx_body.SmplxBody(body_file)
    motion = 0.3 * torch.randn(3, COLUMNS, generator=torch.Generator().manual_seed(0))
    joints, vertices = body(motion, torch.zeros(300))
    assert joints.shape == (3, smplx_body.POINTS, 3)
    assert vertices.shape == (3, 10_000, 3)
    arrays = model_arrays()
    still = torch.zeros(1, COLUMNS)
    still[:, 75:120] = -torch.from_numpy(arrays["hands_meanl"]).float()
    still[:, 120:165] = -torch.from_numpy(arrays["hands_meanr"]).float()
    rest, skin = body(still)
    np.testing.assert_allclose(skin[0], arrays["v_template"], atol=1e-5)
    np.testing.assert_allclose(rest[0, :55], arrays["v_template"][np.arange(55) * 150], atol=1e-5)
    assert torch.equal(body(motion)[0], joints), "the average body by default"


def test_every_column_moves_the_joint_it_names(body_file):
    pytest.importorskip("smplx")
    body, arrays = smplx_body.SmplxBody(body_file), model_arrays()
    order = [
        "global_orient",
        *smplx_body.BODY_JOINTS,
        "jaw",
        "left_eye",
        "right_eye",
        *smplx_body.LEFT_HAND,
        *smplx_body.RIGHT_HAND,
    ]
    still, _ = body(torch.zeros(1, COLUMNS))
    parents = arrays["kintree_table"][0]
    for joint in ("jaw", "left_eye", "left_elbow", "right_wrist", "left_index1", "right_thumb3"):
        motion = torch.zeros(1, COLUMNS)
        motion[:, joint_columns(joint)] = 0.5
        moved = ((body(motion)[0] - still)[0, :55].norm(dim=1) > 1e-4).nonzero()[:, 0].tolist()
        below, index = set(), order.index(joint)
        for child in range(55):
            ancestor = parents[child]
            while ancestor >= 0 and ancestor != index:
                ancestor = parents[ancestor]
            if ancestor == index:
                below.add(child)
        assert set(moved) == below, joint


def test_faults_of_bodies_are_named(tmp_path, body_file, monkeypatch):
    monkeypatch.setattr(smplx_body, "_library", lambda: None)
    with pytest.raises(FileNotFoundError, match="registered users"):
        smplx_body.SmplxBody(tmp_path / "none.npz")
    arrays = model_arrays(9000)
    np.savez(tmp_path / "m.npz", **{k: v for k, v in arrays.items() if k != "lmk_faces_idx"})
    with pytest.raises(ValueError, match="lmk_faces_idx missing; expected a SMPL-X model"):
        smplx_body.SmplxBody(tmp_path / "m.npz")
    np.savez(tmp_path / "m.npz", **(arrays | {"shapedirs": arrays["shapedirs"][..., :20]}))
    with pytest.raises(ValueError, match=r"expected \(vertices, 3, 400\), found \(9000, 3, 20\)"):
        smplx_body.SmplxBody(tmp_path / "m.npz")
    (tmp_path / "m.npz").write_bytes(body_file.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"not readable .* expected a SMPL-X .npz file"):
        smplx_body.SmplxBody(tmp_path / "m.npz")


def test_bodies_refuse_bad_numbers(body_file):
    pytest.importorskip("smplx")
    body = smplx_body.SmplxBody(body_file)
    with pytest.raises(ValueError, match="NaN"):
        body(torch.full((1, COLUMNS), torch.nan))
    with pytest.raises(ValueError, match=r"betas: expected 300 numbers, found \(10,\)"):
        body(torch.zeros(1, COLUMNS), torch.zeros(10))


def test_without_the_library_the_error_says_what_to_install(body_file, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "smplx", None)
    with pytest.raises(ImportError, match=r"pip install 'paper-utils\[smplx\]'"):
        smplx_body.SmplxBody(body_file)
