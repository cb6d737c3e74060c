"""Multiface in the released layout, MeshTalk's assets, and a follow-up's arrays; fixtures in the exact formats, and damaged ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paper_utils.audio_files import write_wav
from paper_utils.data import multiface
from paper_utils.data.clip_files import ResampledWarning, fill_dropped
from paper_utils.data.mesh_masks import write_mask

FIRST, FRAMES = 1203, 8  # six-digit number of a segment's first frame
NEUTRAL = "E001_Neutral_Eyes_Open"
LOST = 4  # frame that one segment lacks


def mesh_of(entity, frame):
    """Every vertex says which one it is, in which frame."""
    number = np.arange(7306, dtype="<f4")
    return np.stack([number, np.full(7306, frame), np.full(7306, entity)], axis=-1).astype("<f4")


def person(root, entity, *, neutral=NEUTRAL, sentences=("SEN_a_first", "SEN_b_second"), listed=True):
    folder = root / f"m--20180227--0000--{entity}--GHS"
    lines = []
    for place, segment in enumerate((neutral, *sentences)):
        meshes = folder / "tracked_mesh" / segment
        meshes.mkdir(parents=True)
        for frame in range(FRAMES):
            if place == 2 and frame == LOST:
                continue
            index = FIRST + 3 * frame
            mesh_of(int(entity), frame + 10 * place).tofile(meshes / f"{index:06d}.bin")
            (meshes / f"{index:06d}_transform.txt").write_text("1 0 0 0\n0 1 0 0\n0 0 1 0\n")
            lines.append(f"{segment} {index:06d}")
        (folder / "audio").mkdir(exist_ok=True)
        sound = torch.zeros(FRAMES * 1600)
        sound[1600 * 5 :] = 0.5  # begins with frame 5
        if segment.startswith("SEN_"):
            write_wav(folder / "audio" / f"{segment}.wav", sound, 48_000)
    if listed:
        (folder / "frame_list.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def root(tmp_path):
    person(tmp_path, "2183941")
    person(tmp_path, "5372021", neutral="EXP_neutral_peak")
    return tmp_path


# ------------------------------------------------------------------------------------------------------------- topology


def test_removed_vertices_are_those_of_the_authors(reference):
    ranges = np.load(reference / "multiface" / "removed_ranges.npz")["ranges"]
    assert np.array_equal(np.array(multiface.REMOVED), ranges)
    kept = multiface.kept_vertices()
    assert len(kept) == 6172
    assert (np.diff(kept) > 0).all()
    assert not set(kept) & {n for first, last in ranges for n in range(first, last + 1)}


def test_conversion_keeps_the_order_of_the_others():
    converted = multiface.to_meshtalk(mesh_of(1, 0))
    assert converted.shape == (6172, 3)
    assert np.array_equal(converted[:, 0], multiface.kept_vertices())
    assert multiface.to_meshtalk(np.zeros((2, 7306, 3))).shape == (2, 6172, 3)
    with pytest.raises(ValueError, match=r"expected \(\.\.\., 7306, 3\), found \(6172, 3\)"):
        multiface.to_meshtalk(converted)


# ----------------------------------------------------------------------------------------------------------------- clips


def test_sentences_of_all_people_are_listed_and_converted(root):
    files = multiface.read_multiface(root)
    assert files.subjects == ("2183941", "2183941", "5372021", "5372021")
    assert files.sentences == ("SEN_a_first", "SEN_b_second") * 2
    clip = files[2]
    assert clip.vertices.shape == (FRAMES, 6172, 3)
    assert torch.equal(clip.vertices[3, :, 0].long(), torch.from_numpy(multiface.kept_vertices()))
    assert clip.vertices[:, 0, 1].tolist() == [10.0 + k for k in range(FRAMES)]
    assert len(multiface.read_multiface(root, meshtalk=False)[0].template) == 7306


@pytest.mark.parametrize("row", [0, 2])
def test_the_template_is_the_first_frame_of_the_neutral_segment_of_either_version(root, row):
    clip = multiface.read_multiface(root)[row]
    assert clip.template[:, 1].unique().tolist() == [0.0]
    assert clip.template[0, 2] == int(clip.subject)


def test_a_dropped_frame_keeps_the_others_in_time_with_the_sound(root):
    clip = multiface.read_multiface(root)[1]
    assert len(clip) == FRAMES
    assert torch.nonzero(~clip.tracked)[:, 0].tolist() == [LOST]
    assert clip.vertices[:, 0, 1].tolist() == [
        20.0 + k for k in range(FRAMES)
    ]  # the straight line meets the lost frame
    begins = int((clip.audio.abs() > 0.25).nonzero()[0])
    assert abs(begins - 5 * 16_000 / 30) <= 1
    assert abs(len(clip.audio) - FRAMES * 16_000 / 30) <= 1


def test_frames_begin_at_their_samples():
    indices = np.array([1203, 1206, 1215])
    assert multiface.frame_samples(indices, first=1203, sample_rate=48_000).tolist() == [0, 1600, 6400]
    np.testing.assert_allclose(multiface.frame_samples(indices, first=1203), np.array([0, 1600, 6400]) / 3)
    with pytest.raises(
        ValueError, match="frame 001204 is not a whole number of steps of 3 behind the first frame 001203"
    ):
        multiface.frame_samples(np.array([1203, 1204]), first=1203)


@given(st.sets(st.integers(1, 12)), st.integers(1, 3))
def test_a_straight_motion_survives_any_drops(dropped, vertices):
    last = 13
    steps = np.array([k for k in range(last + 1) if k not in dropped])
    truth = np.arange(last + 1, dtype=np.float32)[:, None, None] * np.ones((1, vertices, 3), np.float32)
    filled, tracked = fill_dropped(truth[steps], steps)
    np.testing.assert_allclose(filled, truth, atol=1e-5)
    assert set(np.flatnonzero(~tracked)) == dropped


def test_people_can_be_chosen(root):
    assert set(multiface.read_multiface(root, entities=["5372021"]).subjects) == {"5372021"}
    with pytest.raises(ValueError, match="of 42, there are 2183941, 5372021"):
        multiface.read_multiface(root, entities=["42"])


def test_clips_read_into_one_set(root):
    faces = multiface.read_multiface(root).read()
    assert faces.stacked().shape == (4, FRAMES, 6172, 3)
    assert faces.subjects == ("2183941", "5372021")
    assert (faces.emotion == -1).all()
    with pytest.raises(ValueError, match="4 of 4 clips have no emotion or intensity"):
        faces.labels()


def test_first_sentences_train_and_later_ones_of_others_test(tmp_path):
    for entity in ("2183941", "5372021", "002645310"):
        person(tmp_path, entity, sentences=("SEN_a", "SEN_b", "SEN_c"))
    files = multiface.read_multiface(tmp_path)
    rows = multiface.split(files, validation=1, test=1, sentences=2)
    named = {part: [(files.subjects[r], files.sentences[r]) for r in own] for part, own in rows.items()}
    assert named == {
        "train": [("002645310", "SEN_a"), ("002645310", "SEN_b")],  # the first of the authors' list
        "val": [("2183941", "SEN_c")],
        "test": [("5372021", "SEN_c")],
    }
    with pytest.raises(ValueError, match="3 people cannot give 1 for validation, 2 for test"):
        multiface.split(files)
    with pytest.raises(ValueError, match="no sentences for val, test"):
        multiface.split(files, test=1)


# ---------------------------------------------------------------------------------------------------------------- faults


def test_another_sample_rate_is_resampled_with_a_note(root):
    path = next(root.glob("*2183941*")) / "audio" / "SEN_a_first.wav"
    write_wav(path, torch.zeros(FRAMES * 1470) + 0.1, 44_100)
    with pytest.warns(ResampledWarning, match="expected 48000 Hz, found 44100 Hz; resampled to 16000 Hz"):
        clip = multiface.read_multiface(root)[0]
    assert abs(len(clip.audio) - FRAMES * 16_000 / 30) <= 1


def test_a_mesh_of_another_size_is_named(root):
    path = next(root.glob("*2183941*")) / "tracked_mesh" / "SEN_a_first" / f"{FIRST:06d}.bin"
    np.zeros((6172, 3), "<f4").tofile(path)
    with pytest.raises(ValueError, match=rf"{path.name}: expected 87672 bytes .*found 74064 \(6172 vertices\)"):
        multiface.read_multiface(root)[0]
    broken = mesh_of(1, 1)
    broken[5, 1] = np.nan
    broken.tofile(path)
    with pytest.raises(ValueError, match="1 of 21918 values are NaN"):
        multiface.read_multiface(root)[0]


def test_frames_off_the_grid_are_refused(root):
    folder = next(root.glob("*2183941*")) / "tracked_mesh" / "SEN_a_first"
    mesh_of(1, 1).tofile(folder / f"{FIRST + 3 * FRAMES + 1:06d}.bin")
    with pytest.raises(ValueError, match="not a whole number of steps"):
        multiface.read_multiface(root)[0]


def test_frames_that_the_list_names_must_be_there(root):
    folder = next(root.glob("*2183941*")) / "tracked_mesh" / "SEN_a_first"
    (folder / f"{FIRST + 6:06d}.bin").unlink()
    with pytest.raises(ValueError, match=r"1 of the 8 frames of frame_list\.txt are missing \(001209\)"):
        multiface.read_multiface(root)


def test_sound_far_shorter_than_the_pictures_is_refused(root):
    path = next(root.glob("*2183941*")) / "audio" / "SEN_a_first.wav"
    write_wav(path, torch.zeros(1600) + 0.1, 48_000)
    with pytest.raises(ValueError, match=r"8 frames at 30 a second last 0\.27 s, but its sound .* lasts 0\.03 s"):
        multiface.read_multiface(root)[0]


def test_missing_parts_are_named(root, tmp_path):
    folder = next(root.glob("*2183941*"))
    (folder / "audio" / "SEN_b_second.wav").unlink()
    files = multiface.read_multiface(root)
    assert len(files) == 3
    assert len(files.skipped) == 1
    assert "SEN_b_second.wav: missing" in files.skipped[0]
    (folder / "audio" / "SEN_a_first.wav").unlink()
    with pytest.raises(FileNotFoundError, match="none of 2 sentences has sound"):
        multiface.read_multiface(root)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        multiface.read_multiface(tmp_path / "nowhere")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match="there are none"):
        multiface.read_multiface(empty)


def test_a_person_without_neutral_face_is_refused(tmp_path):
    person(tmp_path, "2183941", neutral="E002_Swallow")
    with pytest.raises(
        ValueError, match="expected one of E001_Neutral_Eyes_Open, EXP_neutral_peak, found E002_Swallow, SEN_a"
    ):
        multiface.read_multiface(tmp_path)


# ---------------------------------------------------------------------------------------------------------------- assets

V = 20


@pytest.fixture
def assets(tmp_path):
    root = tmp_path / "assets"
    root.mkdir()
    rng = np.random.default_rng(0)
    points, corners = rng.normal(size=(V, 3)), [(k + 1, k + 2, k + 3) for k in range(V - 2)]
    lines = [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in points] + [f"vt {k / V} 0.5" for k in range(V)]
    lines += ["f " + " ".join(f"{c}/{c}" for c in face) for face in corners]
    (root / "face_template.obj").write_text("\n".join(lines) + "\n")
    for name, scale in (("face_mean", 1.0), ("face_std", 200.0)):
        np.save(root / f"{name}.npy", (scale * np.abs(rng.normal(size=(V, 3))) + 1).astype(np.float32))
    for place, file in enumerate(multiface.MASK_FILES.values()):
        mask = torch.exp(-torch.arange(V) / 5.0).roll(place)
        write_mask(root / file, (mask > 0.5).float() if "keypoints" in file else mask)
    return root


def test_assets_give_mesh_masks_and_statistics(assets):
    found = multiface.read_assets(assets, vertices=V)
    assert found.mesh.faces[0].tolist() == [0, 1, 2]
    assert set(found.mesh.masks) == {"mouth", "upper_face", "forehead", "neck", "eyelids"}
    assert torch.nonzero(found.mesh.region("mouth"))[:, 0].tolist() == [0]
    assert torch.nonzero(found.mesh.region("upper_face"))[:, 0].tolist() == [1]
    assert found.mean.shape == found.std.shape == found.template.shape == (V, 3)
    assert torch.equal(found.std, torch.from_numpy(np.load(assets / "face_std.npy")))
    assert found.uv.shape == (V, 2)


def test_assets_of_another_mesh_are_refused(assets):
    with pytest.raises(ValueError, match="expected 6172 vertices with texture coordinates, found 20"):
        multiface.read_assets(assets)
    path = assets / "weighted_mouth_mask.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(ValueError, match=r"weighted_mouth_mask\.txt: expected 20 lines, one a vertex, found 19"):
        multiface.read_assets(assets, vertices=V)
    path.write_text("\n".join([*lines[:3], "1.5", *lines[4:]]))
    with pytest.raises(ValueError, match=r"line 4 is 1\.5, expected a weight in \[0, 1\]"):
        multiface.read_assets(assets, vertices=V)
    path.write_text("\n".join([*lines[:3], "mouth", *lines[4:]]))
    with pytest.raises(ValueError, match="line 4 is 'mouth', expected one number"):
        multiface.read_assets(assets, vertices=V)


def test_statistics_of_another_mesh_or_with_objects_are_refused(assets):
    np.save(assets / "face_std.npy", np.ones((V + 1, 3), np.float32))
    with pytest.raises(ValueError, match=r"face_std\.npy: expected \(20, 3\) finite numbers, found float32 \(21, 3\)"):
        multiface.read_assets(assets, vertices=V)
    np.save(assets / "face_std.npy", np.array([{}], dtype=object))
    with pytest.raises(ValueError, match=r"holds pickled Python objects"):
        multiface.read_assets(assets, vertices=V)
    (assets / "face_std.npy").unlink()
    with pytest.raises(FileNotFoundError, match="expected an asset of MeshTalk"):
        multiface.read_assets(assets, vertices=V)


# ------------------------------------------------------------------------------------------------ arrays of a follow-up


def test_converted_coordinates_are_scaled_an_axis_at_a_time():
    np.testing.assert_allclose(multiface.converted_to_mm(np.array([-1.0, -1, -1])), multiface.LOW_MM)
    np.testing.assert_allclose(multiface.converted_to_mm(np.array([1.0, 1, 1])), multiface.HIGH_MM)
    mm = np.random.default_rng(0).normal(scale=50, size=(4, 7, 3))
    np.testing.assert_allclose(multiface.converted_to_mm(multiface.mm_to_converted(mm)), mm)


def test_converted_clips_are_read_in_mm(tmp_path):
    for name in ("vertices_npy", "wav"):
        (tmp_path / name).mkdir()
    truth = np.random.default_rng(0).normal(scale=50, size=(6, V, 3))
    for sentence in ("01", "50"):
        scaled = multiface.mm_to_converted(truth).astype(np.float32).reshape(6, -1)
        np.save(tmp_path / "vertices_npy" / f"2183941_{sentence}.npy", scaled)
        write_wav(tmp_path / "wav" / f"2183941_{sentence}.wav", torch.zeros(3200) + 0.1, 16_000)
    templates = {"2183941": torch.from_numpy(truth[0]).float()}
    files = multiface.read_converted(tmp_path, templates=templates, vertices=V)
    assert files.sentences == ("01", "50")
    np.testing.assert_allclose(files[1].vertices, truth, atol=1e-4)
    assert files[1].fps == 30
    with pytest.raises(FileNotFoundError, match=r"templates\.pkl"):
        multiface.read_converted(tmp_path, vertices=V)
