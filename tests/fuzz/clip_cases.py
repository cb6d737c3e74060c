"""Readers of clips: talking faces as meshes, coefficients of MEAD, gestures of SHOW, bodies."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import h5py
import numpy as np
import soundfile
import torch
from conftest import ROOT
from data import test_mead as mead_files
from data import test_multiface as multiface_files
from data import test_show as show_files
from data import test_vertex_folders as folders
from fuzz.cases import Case

from paper_utils import reconstruct_faces
from paper_utils.data import biwi, mead, multiface, show, show_frames, show_pickles, smplx_body, vocaset
from paper_utils.recipes.emote_data import MeadSource

V = folders.V
PERSON = "m--20180227--0000--2183941--GHS"
SUBJECT = folders.SUBJECTS[0]


def every(clips) -> None:
    for row in range(len(clips)):
        clips[row]


def voca(folder: Path) -> None:
    np.save(folder / "data_verts.npy", np.random.default_rng(0).normal(size=(30, V, 3)).astype(np.float32))
    sound = (3000 * np.sin(np.arange(4400) / 9)).astype(np.int16)
    contents = {
        "templates": folders.templates(folders.SUBJECTS),
        "subj_seq_to_idx": {SUBJECT: {"sentence01": {k: 11 - k for k in range(12)}}},
        "raw_audio_fixed": {SUBJECT: {"sentence01": {"audio": sound, "sample_rate": 22_000}}},
    }
    for name, value in contents.items():
        (folder / f"{name}.pkl").write_bytes(pickle.dumps(value, protocol=2))


def converted(folder: Path) -> None:
    folders.write_folder(folder, ("a",), ("01",), fps=25)


def multiface_release(folder: Path) -> None:
    multiface_files.person(folder, "2183941", sentences=("SEN_a",))


def mead_release(folder: Path) -> None:
    reference = ROOT / "tests" / "reference" / "mead"
    expected = json.loads((reference / "expected.json").read_text())
    clip = sorted(expected)[0]
    shutil.copytree(reference / "processed", folder / "processed")
    for name, values in expected.items():
        place = folder / "processed" / "landmarks_original" / "mediapipe" / name
        place.mkdir(parents=True)
        (place / "landmarks_alignment_used_frame_indices.pkl").write_bytes(
            pickle.dumps(values["valid_frames"], protocol=2)
        )
    mead_files.write_metadata(folder / "processed", [f"{clip.split('/')[0]}/video/{clip.split('/', 1)[1]}.mp4"])


MEAD_CLIP = sorted(json.loads((ROOT / "tests" / "reference" / "mead" / "expected.json").read_text()))[0]
MEAD_FILES = (
    "processed/metadata.pkl",
    f"processed/reconstructions/{mead_files.RECONSTRUCTION}/{MEAD_CLIP}/shape_pose_cam.hdf5",
    f"processed/landmarks_original/mediapipe/{MEAD_CLIP}/landmarks_alignment_used_frame_indices.pkl",
    f"processed/audio/{MEAD_CLIP}.wav",
)


def read_mead(folder: Path) -> None:
    clips = mead.read_processed(folder / "processed", reconstruction=mead_files.RECONSTRUCTION)
    for row in range(len(clips)):
        clips[row].mean_shape() if clips[row].valid.any() else None
    mead.read_metadata(folder / "processed" / "metadata.pkl")


FEATURES = f"processed/emotions/resnet50/{MEAD_CLIP}/features.hdf5"


def mead_features(folder: Path) -> None:
    mead_release(folder)
    path = folder / FEATURES
    path.parent.mkdir(parents=True)
    with h5py.File(path, "w") as file:
        file["feature"] = np.zeros((1, 200, 4), np.float32)


def read_mead_features(folder: Path) -> None:
    clips = mead.read_processed(folder / "processed", reconstruction=mead_files.RECONSTRUCTION)
    row = [name.folder for name in clips.names].index(MEAD_CLIP)
    source = MeadSource(clips, (row,), (MEAD_CLIP.split("/")[0],), classifier=torch.nn.Identity())
    source.batch(torch.tensor([0]), 4, torch.Generator().manual_seed(0))


def show_release(folder: Path) -> None:
    show_files.put(
        folder / "show" / "oliver" / "late_night.webm" / show_files.CLIP, show_files.CLIP, frames=9, seconds=0.3
    )
    arrays = {f"hands_components{side}": np.random.default_rng(0).normal(size=(45, 45)) for side in "lr"}
    np.savez(folder / "hands.npz", **arrays)
    (folder / "hands.pkl").write_bytes(pickle.dumps(arrays, protocol=2))
    split = {"train": [show_files.NAME], "val": [], "test": []}
    (folder / "split.json").write_text(json.dumps(split))
    old = {"oliver": {"late_night.webm": {part: [f"x/{show_files.CLIP}.pkl"] * (part == "train") for part in split}}}
    (folder / "split.pkl").write_bytes(pickle.dumps(old, protocol=2))
    np.save(folder / "result.npy", np.zeros((4, show_files.COLUMNS), np.float32))


SHOW_STEM = f"show/oliver/late_night.webm/{show_files.CLIP}/{show_files.CLIP}"


def read_show(folder: Path) -> None:
    hands = show_pickles.read_hand_components(folder / "hands.npz")
    show_pickles.read_pickle(folder / f"{SHOW_STEM}.pkl")
    index = show.index_clips(folder / "show")
    show.read_clip(index, show_files.NAME, hands)
    show.load_clips(index, [show_files.NAME], hands, min_frames=2)


def read_show_lists(folder: Path) -> None:
    show_pickles.read_hand_components(folder / "hands.pkl")
    show.read_split(folder / "split.json")
    show.read_split(folder / "split.pkl")
    show_frames.read_result(folder / "result.npy", draws=2)


def show_converted(folder: Path) -> None:
    place = folder / "oliver" / "late_night.webm"
    place.mkdir(parents=True)
    np.savez(
        place / f"{show_files.CLIP}.npz",
        motion=np.zeros((9, show_files.COLUMNS), np.float32),
        betas=np.zeros(300, np.float32),
    )
    soundfile.write(place / f"{show_files.CLIP}.wav", np.full(8000, 0.1), 22_000)


def body(folder: Path) -> None:
    arrays = show_files.model_arrays(60 * 150)
    arrays["posedirs"] = arrays["posedirs"][:50]
    np.savez_compressed(
        folder / "m.npz",
        **{name: value[:50] if name in ("shapedirs", "weights") else value for name, value in arrays.items()},
    )


CASES = (
    Case("vocaset", lambda f: folders.write_folder(f, folders.SUBJECTS[:1], ("sentence01",)), lambda f: every(vocaset.read_vocaset(f, vertices=V)),
         (f"vertices_npy/{SUBJECT}_sentence01.npy", f"wav/{SUBJECT}_sentence01.wav", "templates.pkl"),
         ("data.vocaset.read_vocaset", "data.vertex_folders.read_vertex_folder", "data.vertex_folders.read_templates", "data.vertex_folders.load_vertices")),
    Case("voca", voca, lambda f: every(vocaset.read_voca(f, vertices=V)), ("data_verts.npy", "subj_seq_to_idx.pkl", "raw_audio_fixed.pkl", "templates.pkl"), ("data.vocaset.read_voca",)),
    Case("biwi", converted, lambda f: every(biwi.read_biwi(f, vertices=V)), ("vertices_npy/a_01.npy", "templates.pkl"), ("data.biwi.read_biwi",)),
    Case("multiface", multiface_release, lambda f: every(multiface.read_multiface(f)),
         (f"{PERSON}/frame_list.txt", f"{PERSON}/audio/SEN_a.wav", f"{PERSON}/tracked_mesh/SEN_a/001206.bin"), ("data.multiface.read_multiface",)),
    Case("multiface_converted", lambda f: folders.write_folder(f, ("a",), ("01",), fps=30), lambda f: every(multiface.read_converted(f, vertices=V)),
         ("vertices_npy/a_01.npy",), ("data.multiface.read_converted",)),
    Case("mead", mead_release, read_mead, MEAD_FILES, ("data.mead.read_processed", "data.mead.read_metadata")),
    Case("mead_features", mead_features, read_mead_features, (FEATURES,), ()),
    Case("show", show_release, read_show, (f"{SHOW_STEM}.pkl", f"{SHOW_STEM}.wav", "hands.npz"),
         ("data.show_pickles.read_pickle", "data.show.read_clip", "data.show.load_clips", "data.show_pickles.read_hand_components")),
    Case("show_lists", show_release, read_show_lists, ("hands.pkl", "split.json", "split.pkl", "result.npy"), ("data.show.read_split", "data.show_frames.read_result")),
    Case("show_converted", show_converted, lambda f: show.read_clip(show.index_clips(f), show_files.NAME), (f"oliver/late_night.webm/{show_files.CLIP}.npz",), ()),
    Case("landmarks_beside_a_picture", lambda f: np.save(f / "ann.npy", np.random.default_rng(0).normal(size=(68, 2))),
         lambda f: reconstruct_faces._landmarks(f / "ann.npy"), ("ann.npy",), ()),
    Case("body", body, lambda f: smplx_body._plain_arrays(f / "m.npz"), ("m.npz",), ()),
)  # fmt: skip
