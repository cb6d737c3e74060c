"""Readers of pictures: lists of them, archives, RecordIO files, videos, landmarks and parameters beside them."""

from __future__ import annotations

import io
import pickle
import shutil
from pathlib import Path

import numpy as np
import scipy.io
import torch
from conftest import ROOT
from data import test_fitted_faces as fitted
from data import test_insightface as records
from data import test_video_frames as frames
from fuzz.cases import Case
from PIL import Image

from paper_utils.data import (
    face_images,
    face_lists,
    fitted_faces,
    florence,
    ijb,
    insightface,
    lfw,
    vggface,
    video_frames,
    voxceleb_speakers,
)

SIZE = records.SIZE
FORMS = {"a.png": "PNG", "b.jpg": "JPEG", "c.bmp": "BMP", "d.webp": "WEBP"}


def every(faces: face_images.FaceImages) -> torch.Tensor:
    return faces.images(torch.arange(len(faces)))


def pictures(folder: Path, *names: str, size: tuple[int, int] = SIZE) -> None:
    for level, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((*size, 3), 10 * level, np.uint8)).save(path)


def formats(folder: Path) -> None:
    for level, (name, form) in enumerate(FORMS.items()):
        (folder / name).write_bytes(records.picture(20 * level, form, (16, 16)))


def lists(folder: Path) -> None:
    pictures(folder, "ann/1.png", "ann/2.png", "bob/1.png", "bob/2.png")
    (folder / "train_ann.txt").write_text("ann/1.png ann\nann/2.png ann\nbob/1.png bob\n")
    (folder / "train.lst").write_text("ann/1.png\nann/2.png\nbob/1.png\n")
    (folder / "lfw_ann.txt").write_text("1 ann/1.png ann/2.png\n0 ann/1.png bob/1.png\n")
    pictures(folder, "Ann/Ann_0001.jpg", "Ann/Ann_0002.jpg", "Bob/Bob_0001.jpg", size=(16, 16))
    (folder / "pairs.txt").write_text("1\t1\nAnn\t1\t2\nAnn\t1\tBob\t1\n")


def read_lists(folder: Path) -> None:
    every(face_lists.read_training_list(folder / "train_ann.txt", folder, size=SIZE))
    every(face_lists.read_lst(folder / "train.lst", folder, size=SIZE))
    every(face_lists.read_validation(folder, ["lfw"], size=SIZE)["lfw"].faces)
    every(face_lists.read_lfw_pairs(folder / "pairs.txt", folder, size=(16, 16)).faces)


def lfw_home(folder: Path) -> None:
    root = folder / "lfw_home"
    pictures(root / "lfw_funneled", "Ann/Ann_0001.jpg", "Ann/Ann_0002.jpg", "Bob/Bob_0001.jpg", size=(250, 250))
    for name in lfw.PAIR_FILES.values():
        (root / name).write_text("1\t1\nAnn\t1\t2\nAnn\t1\tBob\t1\n")


def read_lfw(folder: Path) -> None:
    lfw.load(folder, min_images=1)
    every(lfw.load_pairs(folder).faces)


def training_set(folder: Path) -> None:
    records.write_records(folder / "train.rec", records.training_records())
    pairs = ([records.picture(i) for i in range(8)], [True, False, True, False])
    (folder / "lfw.bin").write_bytes(pickle.dumps(pairs, protocol=2))


def read_training_set(folder: Path) -> None:
    every(insightface.read_records(folder / "train.rec", size=SIZE))
    insightface.open_records(folder / "train.rec", folder / "train.idx")


def archive(folder: Path) -> None:
    pictures(folder, "VGG/Ann/00000001.jpg", "VGG/Bob/00000002.jpg", size=(32, 32))
    (folder / "Ann.txt").write_text("00000001 http://a.example/one.jpg 119.19 99.49 295.47 275.78 3.00 2.31 1\n")


def read_archive(folder: Path) -> None:
    every(vggface.read_archive(folder / "VGG", size=(16, 16)))
    vggface.read_all_addresses(folder)


def voxceleb_frames(folder: Path) -> None:
    for seed, place in enumerate(("A.J._Buckley/1.6/J9/11/0000025.jpg", "A.R._Rahman/1.6/Qa/5/0000001.jpg")):
        frames.write_frame(folder / "unzippedIntervalFaces" / "data" / place, seed, np.ones((68, 2)))
    (folder / "vox1_meta.csv").write_text(frames.META)


def read_frames(folder: Path) -> None:
    found = video_frames.read_frames(
        folder / "unzippedIntervalFaces", table=voxceleb_speakers.read_meta(folder / "vox1_meta.csv")
    )
    found.landmarks(0)
    found.pixels(0)


def motion_jpeg(folder: Path) -> None:
    parts = [io.BytesIO() for _ in range(3)]
    for level, part in enumerate(parts):
        Image.new("RGB", (24, 16), (60 * level,) * 3).save(part, "JPEG")
    (folder / "video.mjpg").write_bytes(b"".join(part.getvalue() for part in parts))


def read_motion_jpeg(folder: Path) -> None:
    video = florence.open_video(folder / "video.mjpg")
    for frame in range(min(len(video), 50)):
        video.pixels(frame)


def parameters(folder: Path) -> None:
    fitted.write_picture(folder / "300W_LP" / "AFW" / "AFW_1_0.jpg", **fitted.parameters())
    fitted.write_picture(folder / "AFLW2000" / "image00002.jpg", **fitted.parameters(pt3d_68=np.ones((3, 68))))
    points = folder / "300W_LP" / "landmarks" / "AFW" / "AFW_1_0_pts.mat"
    points.parent.mkdir(parents=True)
    scipy.io.savemat(points, {"pts_2d": np.full((68, 2), 7.0)})


def read_parameters(folder: Path) -> None:
    faces = fitted_faces.read_300wlp(folder / "300W_LP", sets=("AFW",))
    faces.pixels(0), faces.parameters(0), faces.landmarks(0)
    found = fitted_faces.read_aflw2000(folder / "AFLW2000")
    found.pixels(0), found.parameters(0)
    fitted_faces.read_parameters(folder / "AFLW2000" / "image00002.mat")


def ijb_meta(folder: Path) -> None:
    source = ROOT / "tests" / "reference" / "sphereface" / "ijb_mini" / "meta"
    shutil.copytree(source, folder / "meta")


CASES = (
    Case("formats", formats, lambda f: [face_images.decode((f / name).read_bytes(), str(f / name)) for name in FORMS], tuple(FORMS), ("data.face_images.decode",)),
    Case("lists", lists, read_lists, ("train_ann.txt", "train.lst", "lfw_ann.txt", "pairs.txt", "bob/1.png"),
         ("data.face_lists.read_training_list", "data.face_lists.read_lst", "data.face_lists.read_validation", "data.face_lists.read_pair_list", "data.face_lists.read_lfw_pairs", "data.face_lists.read_lines")),
    Case("folder", lambda f: pictures(f, "ann/1.png", "bob/1.png"), lambda f: every(face_lists.read_folder(f, size=SIZE)), ("ann/1.png",), ("data.face_lists.read_folder",)),
    Case("lfw", lfw_home, read_lfw, ("lfw_home/pairs.txt", "lfw_home/lfw_funneled/Ann/Ann_0001.jpg"), ("data.lfw.load", "data.lfw.load_pairs")),
    Case("records", training_set, read_training_set, ("train.rec", "train.idx"), ("data.insightface.read_records", "data.insightface.open_records", "data.insightface.read_index")),
    Case("bin", training_set, lambda f: every(insightface.read_bin(f / "lfw.bin", size=SIZE).faces), ("lfw.bin",), ("data.insightface.read_bin",)),
    Case("vggface", archive, read_archive, ("VGG/Ann/00000001.jpg", "Ann.txt"), ("data.vggface.read_archive", "data.vggface.read_addresses", "data.vggface.read_all_addresses")),
    Case("video_frames", voxceleb_frames, read_frames, ("unzippedIntervalFaces/data/A.J._Buckley/1.6/J9/11/0000025.jpg", "unzippedIntervalFaces/data/A.J._Buckley/1.6/J9/11/0000025.npy", "vox1_meta.csv"),
         ("data.video_frames.read_frames", "data.video_frames.read_landmarks", "data.voxceleb_speakers.read_meta")),
    Case("motion_jpeg", motion_jpeg, read_motion_jpeg, ("video.mjpg",), ("data.florence.open_video",)),
    Case("fitted_faces", parameters, read_parameters, ("300W_LP/AFW/AFW_1_0.mat", "300W_LP/landmarks/AFW/AFW_1_0_pts.mat", "AFLW2000/image00002.mat"),
         ("data.fitted_faces.read_300wlp", "data.fitted_faces.read_aflw2000", "data.fitted_faces.read_parameters")),
    Case("ijb", ijb_meta, lambda f: ijb.load_meta(f / "meta"),
         ("meta/ijbb_1N_gallery_S1.csv", "meta/ijbb_face_tid_mid.txt", "meta/ijbb_name_5pts_score.txt", "meta/ijbb_template_pair_label.txt"), ("data.ijb.load_meta",)),
)  # fmt: skip
