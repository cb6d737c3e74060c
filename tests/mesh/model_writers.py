"""One small planted head, written in the exact official format of every morphable model."""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.io
from scipy import sparse
from scipy.spatial import ConvexHull

VERTICES, IDENTITIES, EXPRESSIONS = 12, 4, 3
GOLDEN = (1 + 5**0.5) / 2


@dataclass(frozen=True)
class Planted:
    """What every reader must find: millimetres, per standard deviation, triangles from 0 and outward, colours 0..1."""

    mean: np.ndarray
    identity: np.ndarray
    expression: np.ndarray
    faces: np.ndarray
    landmarks: np.ndarray
    colour_mean: np.ndarray
    colour: np.ndarray
    deviations: np.ndarray
    expression_deviations: np.ndarray

    def vertices(self, identity: np.ndarray, expression: np.ndarray) -> np.ndarray:
        return self.mean + self.identity @ identity + self.expression @ expression


def planted(seed: int = 0, *, symmetric: bool = True) -> Planted:
    """An icosahedron stretched to a head: 12 vertices, 20 triangles, 32 mm between the inner eye corners."""
    rng = np.random.default_rng(seed)
    plane = np.array([[0, a, b * GOLDEN] for a in (-1, 1) for b in (-1, 1)])
    corners = np.concatenate([np.roll(plane, shift, axis=1) for shift in range(3)])
    mean = corners * (16.0, 60.0, 50.0)  # corners (+-1, +-golden, 0) are 32 mm apart
    if not symmetric:
        mean = mean + rng.normal(0, 3, mean.shape)
    faces = ConvexHull(corners).simplices.astype(np.int64)
    normal = np.cross(corners[faces[:, 1]] - corners[faces[:, 0]], corners[faces[:, 2]] - corners[faces[:, 0]])
    inward = (normal * corners[faces].mean(1)).sum(1) < 0
    faces[inward] = faces[inward][:, [0, 2, 1]]
    landmarks = np.arange(68) % VERTICES
    right = int(np.flatnonzero(np.isclose(corners, (-1, GOLDEN, 0)).all(1))[0])
    left = int(np.flatnonzero(np.isclose(corners, (1, GOLDEN, 0)).all(1))[0])
    landmarks[[39, 42]] = right, left
    return Planted(
        mean=mean,
        identity=rng.normal(0, 3, (VERTICES, 3, IDENTITIES)),
        expression=rng.normal(0, 2, (VERTICES, 3, EXPRESSIONS)),
        faces=faces,
        landmarks=landmarks,
        colour_mean=rng.uniform(0.2, 0.8, (VERTICES, 3)),
        colour=rng.normal(0, 0.05, (VERTICES, 3, IDENTITIES)),
        deviations=rng.uniform(50, 900, IDENTITIES),
        expression_deviations=rng.uniform(0.5, 3, EXPRESSIONS),
    )


def flat(values: np.ndarray) -> np.ndarray:
    """(n, 3, k) as the interleaved (3n, k) of the files."""
    return values.reshape(-1, values.shape[-1])


def bfm2009_arrays(head: Planted) -> dict[str, np.ndarray]:
    deviations = head.deviations[:, None]
    return {
        "shapeMU": (head.mean.reshape(-1, 1) * 1000).astype(np.float32),
        "shapePC": (flat(head.identity) * 1000 / head.deviations).astype(np.float32),
        "shapeEV": deviations.astype(np.float32),
        "texMU": (head.colour_mean.reshape(-1, 1) * 255).astype(np.float32),
        "texPC": (flat(head.colour) * 255 / head.deviations).astype(np.float32),
        "texEV": deviations.astype(np.float32),
        "tl": (head.faces + 1).astype(np.int32),
        "segbin": np.ones((VERTICES, 4), dtype=np.uint8),
    }


def write_bfm2009(folder: Path, head: Planted, **changes: np.ndarray | None) -> Path:
    path = folder / "01_MorphableModel.mat"
    scipy.io.savemat(path, changed(bfm2009_arrays(head), changes))
    return path


def write_deep3d(folder: Path, head: Planted, **changes: np.ndarray | None) -> Path:
    arrays = {
        "meanshape": (head.mean.reshape(1, -1) / 100).astype(np.float32),
        "idBase": (flat(head.identity) / 100).astype(np.float32),
        "exBase": (flat(head.expression) / 100).astype(np.float32),
        "meantex": (head.colour_mean.reshape(1, -1) * 255).astype(np.float32),
        "texBase": (flat(head.colour) * 255).astype(np.float32),
        "tri": (head.faces + 1).astype(np.float64),
        "point_buf": np.ones((VERTICES, 8)),
        "keypoints": (head.landmarks[None] + 1).astype(np.int32),
        "frontmask2_idx": np.ones((5, 1), dtype=np.int32),
        "tri_mask2": np.ones((5, 3), dtype=np.int32),
        "skinmask": np.ones((1, VERTICES), dtype=np.int32),
    }
    path = folder / "BFM_model_front.mat"
    scipy.io.savemat(path, changed(arrays, changes))
    return path


def write_3ddfa(folder: Path, head: Planted, **changes: np.ndarray | None) -> Path:
    share = np.linspace(0.0, 2.0, 3 * VERTICES)[:, None]  # mm of the mean that stand in expMU
    model = {key: value for key, value in bfm2009_arrays(head).items() if key not in ("tl", "segbin")}
    model |= {
        "shapeMU": ((head.mean.reshape(-1, 1) - share) * 1000).astype(np.float32),
        "expMU": (share * 1000).astype(np.float32),
        "expPC": (flat(head.expression) * 1000 / head.expression_deviations).astype(np.float32),
        "expEV": head.expression_deviations[:, None].astype(np.float32),
        "tri": (head.faces[2:].T + 1).astype(np.int32),
        "tri_mouth": (head.faces[:2].T + 1).astype(np.int32),
        "kpt_ind": (head.landmarks[None] + 1).astype(np.int32),
    }
    path = folder / "BFM.mat"
    scipy.io.savemat(path, {"model": changed(model, changes)})
    return path


def write_bfm_h5(folder: Path, head: Planted, **changes: np.ndarray | None) -> Path:
    import h5py

    share = np.linspace(-1.0, 1.0, 3 * VERTICES)  # mm of the mean that stand in the expression model
    arrays = {
        "shape/model/mean": (head.mean.reshape(-1) - share).astype(np.float32),
        "shape/model/pcaBasis": (flat(head.identity) / head.deviations).astype(np.float32),
        "shape/model/pcaVariance": (head.deviations**2).astype(np.float32),
        "shape/representer/cells": head.faces.T.astype(np.uint32),
        "shape/representer/points": head.mean.T.astype(np.float32),
        "expression/model/mean": share.astype(np.float32),
        "expression/model/pcaBasis": (flat(head.expression) / head.expression_deviations).astype(np.float32),
        "expression/model/pcaVariance": (head.expression_deviations**2).astype(np.float32),
        "color/model/mean": head.colour_mean.reshape(-1).astype(np.float32),
        "color/model/pcaBasis": (flat(head.colour) / head.deviations).astype(np.float32),
        "color/model/pcaVariance": (head.deviations**2).astype(np.float32),
    }
    path = folder / "model2017-1_face12_nomouth.h5"
    with h5py.File(path, "w") as file:
        for key, value in changed(arrays, {name.replace("__", "/"): value for name, value in changes.items()}).items():
            file[key] = value
    return path


def flame_arrays(head: Planted) -> dict[str, object]:
    """As in the pickle: metres, root's parent 2^32 - 1, sparse regressor."""
    rng = np.random.default_rng(5)
    weights = rng.uniform(0, 1, (VERTICES, 5))
    regressor = rng.uniform(0, 1, (5, VERTICES)) * (rng.uniform(size=(5, VERTICES)) < 0.5)
    return {
        "v_template": head.mean / 1000,
        "f": head.faces.astype(np.uint32),
        "shapedirs": np.concatenate((head.identity, head.expression), axis=2) / 1000,
        "posedirs": rng.normal(0, 1e-3, (VERTICES, 3, 36)),
        "J_regressor": sparse.csc_matrix(regressor / regressor.sum(1, keepdims=True)),
        "kintree_table": np.array([[2**32 - 1, 0, 1, 1, 1], [0, 1, 2, 3, 4]], dtype=np.uint32),
        "weights": weights / weights.sum(1, keepdims=True),
        "J": rng.normal(size=(5, 3)),
        "bs_style": "lbs",
        "bs_type": "lrotmin",
    }


def write_flame_pickle(folder: Path, head: Planted, **changes: object) -> Path:
    path = folder / "generic_model.pkl"
    path.write_bytes(pickle.dumps(changed(flame_arrays(head), changes), protocol=2))
    return path


def write_flame_npz(folder: Path, head: Planted, **changes: object) -> Path:
    arrays = flame_arrays(head)
    arrays["J_regressor"] = arrays["J_regressor"].toarray()
    path = folder / "FLAME_NEUTRAL.npz"
    np.savez(path, **changed(arrays, changes))
    return path


def quads() -> list[list[int]]:
    """Polygons of the OBJ fixture, from 0: two quads (a box without four sides would do, the surface need not close) and triangles."""
    return [[0, 1, 3, 2], [4, 6, 7, 5], [8, 9, 10], [9, 11, 10], [0, 4, 8], [1, 5, 9], [2, 6, 10], [3, 7, 11]]


def obj_text(vertices: np.ndarray, polygons: list[list[int]]) -> str:
    lines = ["# a comment", "mtllib face.mtl", "o face"]
    lines += [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in vertices]
    lines += [f"vt {number / 20:.4f} {1 - number / 20:.4f}" for number in range(len(vertices) + 1)]
    lines += ["vn 0 0 1", "g skin", "usemtl skin", "s off"]
    # The last corner of the first polygon takes the spare coordinate: a seam.
    for row, polygon in enumerate(polygons):
        texture = [corner + 1 for corner in polygon]
        if row == len(polygons) - 1:
            texture[-1] = len(vertices) + 1
        lines.append("f " + " ".join(f"{corner + 1}/{t}/1" for corner, t in zip(polygon, texture, strict=True)))
    return "\n".join(lines) + "\n"


def write_ict(folder: Path, head: Planted) -> Path:
    """Folder FaceXModel in centimetres: identity000.obj and on, expression files by name."""
    root = folder / "FaceXModel"
    root.mkdir()
    names = ["jawOpen", "mouthSmile_L", "mouthSmile_R"]
    meshes = {"generic_neutral_mesh": head.mean}
    meshes |= {f"identity{k:03d}": head.mean + head.identity[..., k] for k in range(IDENTITIES)}
    meshes |= {name: head.mean + head.expression[..., k] for k, name in enumerate(names)}
    for name, vertices in meshes.items():
        (root / f"{name}.obj").write_text(obj_text(vertices / 10, quads()))
    indices = {
        "expressions": names,
        "idx_to_landmark_verts": head.landmarks.tolist(),
        "idx_to_rigid_verts": [0, 1],
        "idx_to_fitting_verts": [0, 1, 2],
        "idx_to_rigid_landmark_idx": [27, 28],
    }
    (root / "vertex_indices.json").write_text(json.dumps(indices))
    return root


def changed(arrays: dict, changes: dict) -> dict:
    """The arrays with some replaced, or left out where the new value is None."""
    return {key: value for key, value in (arrays | changes).items() if value is not None}


WRITERS = {
    "bfm2009": write_bfm2009,
    "deep3d": write_deep3d,
    "3ddfa": write_3ddfa,
    "bfm_h5": write_bfm_h5,
    "flame": write_flame_npz,
    "ict": write_ict,
}
