"""VOCASET and BIWI: the converted layout, VOCA's own files, units, rates, splits; and every fault named."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
import torch

from paper_utils.audio_files import write_wav
from paper_utils.data import biwi, vocaset
from paper_utils.data.vertex_folders import sentence_number
from paper_utils.safe_pickle import UnsafePickleError

V = 20
SUBJECTS = ("FaceTalk_170728_03272_TA", "FaceTalk_170811_03275_TA", "FaceTalk_170809_00138_TA")


def templates(subjects, scale=0.1):
    return {name: scale * np.random.default_rng(k).normal(size=(V, 3)) for k, name in enumerate(subjects)}


def write_folder(root, subjects, sentences, *, frames=12, scale=0.1, fps=60, flat=True):
    for name in ("vertices_npy", "wav"):
        (root / name).mkdir(parents=True)
    rest = templates(subjects, scale)
    (root / "templates.pkl").write_bytes(pickle.dumps(rest, protocol=2))
    for subject in subjects:
        for sentence in sentences:
            moved = rest[subject] + 0.001 * scale * np.arange(frames)[:, None, None]
            stored = moved.reshape(frames, -1) if flat else moved
            np.save(root / "vertices_npy" / f"{subject}_{sentence}.npy", stored.astype(np.float32))
            write_wav(root / "wav" / f"{subject}_{sentence}.wav", torch.full((frames * 22_000 // fps,), 0.1), 22_000)
    return rest


@pytest.fixture
def root(tmp_path):
    write_folder(tmp_path, SUBJECTS, ("sentence01", "sentence20", "sentence40"))
    return tmp_path


# --------------------------------------------------------------------------------------------------------------- VOCASET


def test_vertices_are_in_mm_at_half_the_rate(root):
    files = vocaset.read_vocaset(root, vertices=V)
    assert len(files) == 9
    clip, rest = files[0], templates(SUBJECTS)
    assert clip.fps == 30
    assert len(clip) == 6
    np.testing.assert_allclose(clip.template, 1000 * rest["FaceTalk_170728_03272_TA"], atol=1e-3)
    np.testing.assert_allclose(clip.motion[:, 0, 0], 0.1 * np.arange(0, 12, 2), atol=1e-3)
    assert len(vocaset.read_vocaset(root, vertices=V, fps=60.0)[0]) == 12
    assert abs(len(clip.audio) - 3200) <= 1
    with pytest.raises(ValueError, match="used at 60 or 30, found 25"):
        vocaset.read_vocaset(root, vertices=V, fps=25.0)


def test_frames_may_be_stored_with_an_axis_for_coordinates(tmp_path):
    write_folder(tmp_path, SUBJECTS[:1], ("sentence01",), flat=False)
    assert vocaset.read_vocaset(tmp_path, vertices=V)[0].vertices.shape == (6, V, 3)


def test_the_split_is_by_subject_and_sentence(root):
    files = vocaset.read_vocaset(root, vertices=V)
    rows = vocaset.split(files)
    named = {part: {(files.subjects[r], files.sentences[r]) for r in own} for part, own in rows.items()}
    assert named["train"] == {(SUBJECTS[0], f"sentence{n:02d}") for n in (1, 20, 40)}
    assert named["val"] == {(SUBJECTS[1], "sentence40")}
    assert named["test"] == {(SUBJECTS[2], "sentence40")}
    everyone = [name for part in vocaset.SUBJECTS.values() for name in part]
    assert len(set(everyone)) == len(everyone) == 12


def test_a_split_of_other_people_says_so(tmp_path):
    write_folder(tmp_path, ("Somebody_1",), ("sentence01",))
    with pytest.raises(ValueError, match="no clip belongs to the split"):
        vocaset.split(vocaset.read_vocaset(tmp_path, vertices=V))


def test_regions_of_flame_come_as_lists_of_vertices():
    faces = torch.tensor([[0, 1, 2]])
    mesh = vocaset.flame_mesh(faces, {"lips": np.array([3, 5])}, vertices=V)
    assert torch.nonzero(mesh.region("lips"))[:, 0].tolist() == [3, 5]
    with pytest.raises(ValueError, match=r"FLAME region 'lips': expected a list of vertex numbers in 0\.\.19"):
        vocaset.flame_mesh(faces, {"lips": np.array([3, 20])}, vertices=V)
    with pytest.raises(ValueError, match="no 'mouth'; there are lips"):
        mesh.region("mouth")


def test_clips_without_partner_are_listed(root):
    (root / "wav" / f"{SUBJECTS[0]}_sentence01.wav").unlink()
    (root / "vertices_npy" / f"{SUBJECTS[1]}_sentence01.npy").unlink()
    files = vocaset.read_vocaset(root, vertices=V)
    assert len(files) == 7
    assert len(files.skipped) == 2
    assert f"no wav/{SUBJECTS[0]}_sentence01.wav" in files.skipped[0]
    assert f"no vertices_npy/{SUBJECTS[1]}_sentence01.npy" in files.skipped[1]


def test_meshes_of_another_topology_are_refused(root):
    path = root / "vertices_npy" / f"{SUBJECTS[0]}_sentence01.npy"
    np.save(path, np.zeros((12, 3 * (V + 1)), np.float32))
    with pytest.raises(ValueError, match=r"expected \(frames, 60\) numbers, 20 vertices x 3, found float32 \(12, 63\)"):
        vocaset.read_vocaset(root, vertices=V)[0]
    np.save(path, np.array([[{}]], dtype=object))
    with pytest.raises(ValueError, match=r"holds pickled Python objects"):
        vocaset.read_vocaset(root, vertices=V)[0]
    path.write_bytes(b"\x93NUMPY")
    with pytest.raises(ValueError, match=r"not a readable .npy file: 6 bytes"):
        vocaset.read_vocaset(root, vertices=V)[0]


def test_templates_of_another_topology_or_person_are_refused(root):
    with pytest.raises(ValueError, match=r"expected a template of 5023 vertices x 3, found float64 \(20, 3\)"):
        vocaset.read_vocaset(root)
    (root / "templates.pkl").write_bytes(pickle.dumps(templates(SUBJECTS[:2])))
    with pytest.raises(ValueError, match=f"no template of {SUBJECTS[2]}; there are"):
        vocaset.read_vocaset(root, vertices=V)


def test_templates_run_nothing(root):
    class Attack:
        def __reduce__(self):
            return os.system, ("touch attacked",)

    (root / "templates.pkl").write_bytes(pickle.dumps({SUBJECTS[0]: Attack()}))
    with pytest.raises(UnsafePickleError, match=r"posix\.system"):
        vocaset.read_vocaset(root, vertices=V)


def test_missing_folders_and_odd_names_are_named(root, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds vertices_npy/, wav/ and templates\.pkl"):
        vocaset.read_vocaset(tmp_path / "nowhere")
    for kind, suffix in (("vertices_npy", "npy"), ("wav", "wav")):
        (root / kind / f"nobody.{suffix}").touch()
    with pytest.raises(ValueError, match=r"expected a name <subject>_<sentence>\.npy"):
        vocaset.read_vocaset(root, vertices=V)
    assert sentence_number("sentence07") == 7
    assert sentence_number("e12") == 12
    with pytest.raises(ValueError, match="'first': expected a name that ends in its number"):
        sentence_number("first")


# ---------------------------------------------------------------------------------------------------------- VOCA's files


@pytest.fixture
def voca(tmp_path):
    rng = np.random.default_rng(0)
    stored = rng.normal(size=(30, V, 3)).astype(np.float32)
    np.save(tmp_path / "data_verts.npy", stored)
    (tmp_path / "templates.pkl").write_bytes(pickle.dumps(templates(SUBJECTS)))
    # Rows in another order than frames.
    rows = {SUBJECTS[0]: {"sentence01": {k: 11 - k for k in range(12)}, "sentence02": {k: 12 + k for k in range(6)}}}
    sound = (3000 * np.sin(np.arange(4400) / 9)).astype(np.int16)
    audio = {
        SUBJECTS[0]: {
            "sentence01": {"audio": sound, "sample_rate": 22_000},
            "sentence03": {"audio": sound, "sample_rate": 22_000},
        }
    }
    (tmp_path / "subj_seq_to_idx.pkl").write_bytes(pickle.dumps(rows))
    (tmp_path / "raw_audio_fixed.pkl").write_bytes(pickle.dumps(audio))
    return tmp_path, stored, rows


def test_the_published_files_of_voca_are_read_in_the_order_of_frames(voca):
    root, stored, _ = voca
    files = vocaset.read_voca(root, vertices=V, fps=60.0)
    assert (files.subjects, files.sentences) == ((SUBJECTS[0],), ("sentence01",))
    assert files.skipped == (
        f"{SUBJECTS[0]}/sentence02: meshes without sound",
        f"{SUBJECTS[0]}/sentence03: sound without meshes",
    )
    clip = files[0]
    np.testing.assert_allclose(clip.vertices, 1000 * stored[11::-1], rtol=1e-6)
    assert abs(len(clip.audio) - 3200) <= 1
    assert clip.audio.abs().max() < 0.2
    assert len(vocaset.read_voca(root, vertices=V)[0]) == 6


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({0: 1, 1: 30}, "rows 1 to 30 of an array of 30 frames"),
        ({"a": 1}, "expected frame number -> row"),
    ],
)
def test_bad_tables_of_voca_are_named(voca, rows, message):
    root, _, table = voca
    table[SUBJECTS[0]]["sentence01"] = rows
    (root / "subj_seq_to_idx.pkl").write_bytes(pickle.dumps(table))
    with pytest.raises(ValueError, match=message):
        vocaset.read_voca(root, vertices=V)


def test_a_frame_that_voca_lacks_is_filled_and_marked(voca):
    root, stored, table = voca
    del table[SUBJECTS[0]]["sentence01"][4]
    (root / "subj_seq_to_idx.pkl").write_bytes(pickle.dumps(table))
    clip = vocaset.read_voca(root, vertices=V, fps=60.0)[0]
    assert torch.nonzero(~clip.tracked)[:, 0].tolist() == [4]
    np.testing.assert_allclose(clip.vertices[4], 500 * (stored[8] + stored[6]), rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(clip.vertices[5], 1000 * stored[6], rtol=1e-6)


# ------------------------------------------------------------------------------------------------------------------ BIWI


@pytest.fixture
def corpus(tmp_path):
    write_folder(tmp_path, ("F2", "M3", "F1"), ("01", "33", "37", "e40"), frames=5, scale=1.0, fps=25)
    return tmp_path


def test_biwi_is_read_at_25_frames_a_second_in_the_length_of_its_heads(corpus):
    files = biwi.read_biwi(corpus, vertices=V, extent_mm=230.0)
    clip = files[0]
    assert clip.fps == 25
    assert (clip.subject, clip.sentence) == ("F1", "01")
    np.testing.assert_allclose(clip.template, 230 * templates(("F2", "M3", "F1"), 1.0)["F1"], rtol=1e-5)
    with pytest.raises(ValueError, match="extent_mm: expected a length above 0, found 0"):
        biwi.read_biwi(corpus, vertices=V, extent_mm=0)


def test_biwi_is_split_as_by_faceformer(corpus):
    files = biwi.read_biwi(corpus, vertices=V)
    named = {
        part: {f"{files.subjects[r]}_{files.sentences[r]}" for r in own} for part, own in biwi.split(files).items()
    }
    assert named == {
        "train": {"F2_01", "M3_01"},
        "val": {"F2_33", "M3_33"},
        "test_a": {"F2_37", "F2_e40", "M3_37", "M3_e40"},
        "test_b": {"F1_37", "F1_e40"},
    }
    assert len({*biwi.SEEN, *biwi.UNSEEN}) == 14


def test_regions_are_lists_of_vertex_numbers(tmp_path):
    path = tmp_path / "lve.txt"
    path.write_text("3, 5,\n7 ")
    assert torch.nonzero(biwi.read_region(path, V))[:, 0].tolist() == [3, 5, 7]
    path.write_text("3, five")
    with pytest.raises(ValueError, match="found 'five'"):
        biwi.read_region(path, V)
    path.write_text("20")
    with pytest.raises(ValueError, match=r"in 0\.\.19, found \[20\]"):
        biwi.read_region(path, V)
    path.write_text(" ")
    with pytest.raises(ValueError, match="is empty"):
        biwi.read_region(path, V)
    with pytest.raises(FileNotFoundError, match="expected vertex numbers"):
        biwi.read_region(tmp_path / "none.txt", V)
