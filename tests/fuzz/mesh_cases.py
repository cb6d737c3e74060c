"""Readers of meshes and morphable models."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import scipy.io
import torch
from conftest import ROOT
from data import test_multiface as multiface_files
from data import test_scan_sets as scans
from fuzz.cases import Case
from mesh import model_writers as writers

from paper_utils.data import biwi, florence, mesh_masks, multiface, now_faces
from paper_utils.mesh import bfm_files, flame_files, ict_files, model_files, morphable, obj_files

HEAD = functools.cache(writers.planted)
V = 20


def model(writer):
    return lambda folder: writer(folder, HEAD())


def expressions(folder: Path) -> None:
    """BFM 2009 with the files of Guo et al."""
    head = HEAD()
    writers.write_bfm2009(folder, head)
    flat = writers.flat(head.expression).astype("<f4")
    (folder / "Exp_Pca.bin").write_bytes(
        np.int32(flat.shape[1]).tobytes() + np.zeros(len(flat), "<f4").tobytes() + flat.T.tobytes()
    )
    np.savetxt(folder / "std_exp.txt", head.expression_deviations[None])
    scipy.io.savemat(folder / "BFM_exp_idx.mat", {"trimIndex": np.arange(1, writers.VERTICES + 1)[:, None]})


def mouth(folder: Path) -> None:
    writers.write_3ddfa(folder, HEAD())
    scipy.io.savemat(folder / "BFM_UV.mat", {"UV": np.zeros((writers.VERTICES, 2))})


def own_model(folder: Path) -> None:
    made = flame_files.read_flame(writers.write_flame_npz(folder, HEAD()), identity=4, check_size=False)
    morphable.save_model(made, folder / "own.npz")


def flame_tables(folder: Path) -> None:
    source = ROOT / "tests" / "reference" / "flame" / "flame_fixture_landmarks.npy"
    (folder / "tables.npy").write_bytes(source.read_bytes())
    flame_files.convert_flame_landmarks(source, folder / "tables.npz")
    np.savez(folder / "mediapipe.npz", lmk_face_idx=np.arange(5), lmk_b_coords=np.full((5, 3), 1 / 3))


def flame_masks(folder: Path) -> None:
    import pickle

    masks = {"lips": np.array([1, 2, 3]), "face": np.arange(9)}
    (folder / "FLAME_masks.pkl").write_bytes(pickle.dumps(masks, protocol=2))


def obj(folder: Path) -> None:
    (folder / "face.obj").write_text(writers.obj_text(HEAD().mean, writers.quads()))


def both_objs(folder: Path) -> None:
    obj_files.read_obj_vertices(folder / "face.obj")
    obj_files.read_obj(folder / "face.obj").vertex_uv()


def assets(folder: Path) -> None:
    rng = np.random.default_rng(0)
    corners = [(k + 1, k + 2, k + 3) for k in range(V - 2)]
    lines = [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in rng.normal(size=(V, 3))]
    lines += [f"vt {k / V} 0.5" for k in range(V)]
    lines += ["f " + " ".join(f"{c}/{c}" for c in face) for face in corners]
    (folder / "face_template.obj").write_text("\n".join(lines) + "\n")
    for name in ("face_mean", "face_std"):
        np.save(folder / f"{name}.npy", (np.abs(rng.normal(size=(V, 3))) + 1).astype(np.float32))
    for place, file in enumerate(multiface.MASK_FILES.values()):
        mask = torch.exp(-torch.arange(V) / 5.0).roll(place)
        mesh_masks.write_mask(folder / file, (mask > 0.5).float() if "keypoints" in file else mask)


def scan(folder: Path) -> None:
    vertices, faces, points = scans.head()
    scans.write_obj(folder / "scan.obj", vertices, faces)
    scans.write_ljson(folder / "scan.ljson", points)


def prediction(folder: Path) -> None:
    vertices, faces, _ = scans.head()
    stem = folder / IMAGE.stem
    scans.write_obj(stem.with_name(f"{stem.name}.obj"), vertices[:40], faces[(faces < 40).all(1)])
    np.save(f"{stem}.npy", np.ones((7, 3)))


def prediction_as_text(folder: Path) -> None:
    prediction(folder)
    (folder / f"{IMAGE.stem}.npy").unlink()
    np.savetxt(folder / f"{IMAGE.stem}.txt", np.ones((7, 3)))


IMAGE = now_faces.NowImage("FaMoS_180424_03335_TA", "multiview_neutral", "IMG_0038.jpg")


def now(folder: Path) -> None:
    vertices, faces, _ = scans.head()
    scans.write_obj(
        folder / "scans" / IMAGE.subject / "natural_head_rotation.000001.obj", vertices[:40], faces[(faces < 40).all(1)]
    )
    points = folder / "scans_lmks_onlypp" / IMAGE.subject
    points.mkdir(parents=True)
    (points / "natural_head_rotation.000001_picked_points.pp").write_text(scans.pp(scans.seven(vertices)))
    (folder / "imagepathsvalidation.txt").write_text(f"{IMAGE.subject}/multiview_neutral/IMG_0038.jpg\n")


def read_now(folder: Path) -> None:
    found = now_faces.read_now(folder)
    found.scan(found.images[0])


def flame_landmarks(folder: Path) -> None:
    flame_files.read_flame_landmarks(folder / "tables.npz")
    flame_files.read_mediapipe_landmarks(folder / "mediapipe.npz")


CASES = (
    Case("bfm2009", expressions, lambda f: bfm_files.read_bfm2009(f / "01_MorphableModel.mat", expression_folder=f),
         ("01_MorphableModel.mat", "Exp_Pca.bin", "std_exp.txt", "BFM_exp_idx.mat"), ("mesh.bfm_files.read_bfm2009", "mesh.model_layouts.load_mat")),
    Case("deep3d", model(writers.write_deep3d), lambda f: model_files.read_model(f / "BFM_model_front.mat"),
         ("BFM_model_front.mat",), ("mesh.bfm_files.read_deep3d", "mesh.model_files.read_model")),
    Case("3ddfa", mouth, lambda f: (bfm_files.read_3ddfa(f / "BFM.mat", uv=f / "BFM_UV.mat", close_mouth=True), bfm_files.deviations_3ddfa(f / "BFM.mat")),
         ("BFM.mat", "BFM_UV.mat"), ("mesh.bfm_files.read_3ddfa",)),
    Case("bfm_h5", model(writers.write_bfm_h5), lambda f: bfm_files.read_bfm_h5(f / "model2017-1_face12_nomouth.h5"),
         ("model2017-1_face12_nomouth.h5",), ("mesh.bfm_files.read_bfm_h5",)),
    Case("flame", model(writers.write_flame_npz), lambda f: flame_files.read_flame(f / "FLAME_NEUTRAL.npz", identity=4, check_size=False),
         ("FLAME_NEUTRAL.npz",), ("mesh.flame_files.read_flame",)),
    Case("flame_pickle", model(writers.write_flame_pickle), lambda f: flame_files._plain(f / "generic_model.pkl", flame_files._table(f / "generic_model.pkl"), ("v_template", "J_regressor"), ()),
         ("generic_model.pkl",), ()),
    Case("flame_landmarks", flame_tables, flame_landmarks, ("tables.npz", "mediapipe.npz"),
         ("mesh.flame_files.read_flame_landmarks", "mesh.flame_files.read_mediapipe_landmarks")),
    Case("flame_tables", flame_tables, lambda f: flame_files._table(f / "tables.npy"), ("tables.npy",), ()),
    Case("flame_masks", flame_masks, lambda f: flame_files.read_flame_masks(f / "FLAME_masks.pkl"), ("FLAME_masks.pkl",), ("mesh.flame_files.read_flame_masks",)),
    Case("ict", model(writers.write_ict), lambda f: (ict_files.read_ict(f / "FaceXModel"), ict_files.expression_names(f / "FaceXModel")),
         ("FaceXModel/vertex_indices.json", "FaceXModel/generic_neutral_mesh.obj", "FaceXModel/identity001.obj"), ("mesh.ict_files.read_ict",)),
    Case("own_model", own_model, lambda f: morphable.load_model(f / "own.npz"), ("own.npz",), ("mesh.morphable.load_model",)),
    Case("obj", obj, both_objs, ("face.obj",), ("mesh.obj_files.read_obj", "mesh.obj_files.read_obj_vertices")),
    Case("mask", lambda f: mesh_masks.write_mask(f / "mask.txt", torch.linspace(0, 1, V)), lambda f: mesh_masks.read_mask(f / "mask.txt", V),
         ("mask.txt",), ("data.mesh_masks.read_mask",)),
    Case("region", lambda f: (f / "lve.txt").write_text("3, 5,\n7 "), lambda f: biwi.read_region(f / "lve.txt", V), ("lve.txt",), ("data.biwi.read_region",)),
    Case("meshtalk_assets", assets, lambda f: multiface.read_assets(f, vertices=V),
         ("face_template.obj", "face_std.npy", next(iter(multiface.MASK_FILES.values()))), ("data.multiface.read_assets",)),
    Case("multiface_mesh", lambda f: multiface_files.mesh_of(1, 0).tofile(f / "001203.bin"), lambda f: multiface.read_bin(f / "001203.bin"),
         ("001203.bin",), ("data.multiface.read_bin",)),
    Case("florence_scan", scan, lambda f: (florence.read_ljson(f / "scan.ljson"), florence.read_scan(f / "scan.obj", f / "scan.ljson")),
         ("scan.obj", "scan.ljson"), ("data.florence.read_ljson", "data.florence.read_scan")),
    Case("now", now, read_now, ("imagepathsvalidation.txt", f"scans_lmks_onlypp/{IMAGE.subject}/natural_head_rotation.000001_picked_points.pp"),
         ("data.now_faces.read_now", "data.now_faces.read_picked_points")),
    Case("now_prediction", prediction, lambda f: now_faces.read_prediction(f, IMAGE), (f"{IMAGE.stem}.npy",), ("data.now_faces.read_prediction",)),
    Case("now_prediction_as_text", prediction_as_text, lambda f: now_faces.read_prediction(f, IMAGE), (f"{IMAGE.stem}.txt",), ()),
)  # fmt: skip
