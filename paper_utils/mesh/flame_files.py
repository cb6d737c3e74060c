"""FLAME: its official pickles turned once into plain arrays, and the reader of those.

The official files are pickles of Python 2 with chumpy objects, which would run code when opened; they are read by `paper_utils.safe_pickle`,
checked, written as an ``.npz`` with the source's checksum, and from then on only that is used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from scipy import sparse

from paper_utils import files, safe_files, safe_pickle
from paper_utils.mesh import model_layouts as layouts
from paper_utils.mesh.landmarks import Landmarks
from paper_utils.mesh.morphable import MorphableModel
from paper_utils.mesh.skinning import FLAME_JOINTS, FlameLandmarks, Skinning

METRE = 1000.0
IDENTITY_DIRECTIONS = 300  # of the 400 in FLAME 2017 to 2023; the other 100 are expressions
_KEYS = layouts.LAYOUTS["flame"].keys
_KEPT = ("J", "bs_style", "bs_type")  # written along, not needed
# (static faces, static weights, dynamic faces, dynamic weights) of the two official layouts.
_DECA = ("static_lmk_faces_idx", "static_lmk_bary_coords", "dynamic_lmk_faces_idx", "dynamic_lmk_bary_coords")
_FULL = ("full_lmk_faces_idx", "full_lmk_bary_coords")
_RINGNET = ("lmk_face_idx", "lmk_b_coords")


def convert_flame(source: str | Path, target: str | Path) -> Path:
    """Turn an official model pickle into plain arrays; nothing in it is run, and chumpy is not needed.

    Parameters
    ----------
    source
        ``generic_model.pkl`` (FLAME 2020), ``FLAME_NEUTRAL.pkl``, ``FLAME2023.pkl`` and so on.
    target
        Ends in ``.npz``. Holds the official keys, the joint regressor as a full matrix, and source_name and source_sha256.

    Returns
    -------
    `target`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    UnsafePickleError
        If the pickle asks for anything but numpy, scipy and chumpy arrays.
    ValueError
        If it is no pickle, cut off, or lacks arrays (all are named), or its arrays do not fit each other.
    """
    if layouts.container_of(source) not in ("pickle", "unknown"):
        layouts.expect(source, "flame_pickle")
    content = safe_pickle.load(source, allowed=safe_pickle.ARRAYS)
    arrays = _plain(source, content, _KEYS, _KEPT)
    _check_flame(source, arrays)
    return _write(source, target, arrays)


def read_flame(
    path: str | Path,
    *,
    landmarks: FlameLandmarks | None = None,
    identity: int = IDENTITY_DIRECTIONS,
    unit_mm: float = METRE,
    dtype: torch.dtype = torch.float32,
    check_size: bool = True,
) -> MorphableModel:
    """FLAME from plain arrays: what `convert_flame` wrote, or the official ``FLAME_NEUTRAL.npz``.

    Parameters
    ----------
    path
        The file. v_template (n, 3), f (t, 3), shapedirs (n, 3, 400), posedirs (n, 3, 36), J_regressor (5, n), kintree_table (2, 5),
        weights (n, 5); metres.
    landmarks
        From `read_flame_landmarks`. The model gets its 68 points of the frontal face; the moving contour is used through
        `FlameLandmarks.points`.
    identity
        How many of shapedirs' columns are identity; the rest are expression.
    unit_mm, dtype, check_size
        Length of the file's unit in mm; float type; whether the mean must have the size of a head.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is a pickle (says how to convert it), another format, or its arrays do not fit each other.
    """
    layouts.expect(path, "flame")
    arrays = _load_npz(path, _KEYS)
    _check_flame(path, arrays)
    directions = arrays["shapedirs"].shape[2]
    if not 0 <= identity <= directions:
        raise ValueError(f"{path}: identity={identity} but shapedirs has {directions} columns; pass identity=...")
    kind = layouts.numpy_dtype(dtype)
    tensors = {
        key: torch.from_numpy(np.ascontiguousarray(arrays[key] * scale, dtype=kind))
        for key, scale in (("v_template", unit_mm), ("shapedirs", unit_mm), ("posedirs", unit_mm), ("weights", 1.0), ("J_regressor", 1.0))
    }  # fmt: skip
    faces = layouts.triangle_array(arrays["f"], f"{path}: f", len(arrays["v_template"]), base=0)
    try:
        if landmarks is not None:
            _check_landmarks(landmarks, len(faces))
        parents = _parents(arrays["kintree_table"])
        names = FLAME_JOINTS if len(parents) == len(FLAME_JOINTS) else ()
        skinning = Skinning(tensors["J_regressor"], tensors["weights"], parents, tensors["posedirs"], names)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return layouts.finish(
        path,
        check_size=check_size,
        unit_mm=unit_mm,
        mean=tensors["v_template"],
        identity=tensors["shapedirs"][..., :identity].contiguous(),
        expression=tensors["shapedirs"][..., identity:].contiguous(),
        faces=faces,
        landmarks=None if landmarks is None else landmarks.full,
        skinning=skinning,
    )


def convert_flame_landmarks(source: str | Path, target: str | Path, *, dynamic: str | Path | None = None) -> Path:
    """Turn official landmark tables, which are pickles, into plain arrays.

    Parameters
    ----------
    source
        ``landmark_embedding.npy`` of DECA and EMOTE, or ``flame_static_embedding.pkl`` of RingNet, FLAME_PyTorch and smplx.
    target
        Ends in ``.npz``; gets DECA's keys.
    dynamic
        ``flame_dynamic_embedding.npy``, needed beside a static table.

    Returns
    -------
    `target`.

    Raises
    ------
    FileNotFoundError, UnsafePickleError, ValueError
        As `convert_flame`.
    """
    static = _table(source)
    if set(_DECA) <= set(static):
        arrays = _plain(source, static, _DECA, _FULL)
    else:
        if dynamic is None:
            raise ValueError(
                f"{source}: found {', '.join(map(str, static))}; expected {', '.join(_DECA)}, or {', '.join(_RINGNET)} together with dynamic=flame_dynamic_embedding.npy"
            )
        inner, contour = _plain(source, static, _RINGNET, ()), _plain(dynamic, _table(dynamic), _RINGNET, ())
        arrays = dict(zip(_DECA, (*inner.values(), *contour.values()), strict=True))
    _flame_landmarks(source, arrays)
    return _write(source, target, arrays)


def read_flame_landmarks(path: str | Path) -> FlameLandmarks:
    """Landmark tables from what `convert_flame_landmarks` wrote.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is still a pickle, lacks arrays, or its weights are no barycentric coordinates.
    """
    if layouts.container_of(path) != "npz":
        raise ValueError(
            f"{path}: expected plain arrays (.npz), found kind {layouts.container_of(path)}; convert official tables once with convert_flame_landmarks"
        )
    keys = layouts.keys_of(path)
    return _flame_landmarks(path, _load_npz(path, (*_DECA, *(key for key in _FULL if key in keys))))


def read_mediapipe_landmarks(path: str | Path) -> Landmarks:
    """The 105 points of ``mediapipe_landmark_embedding.npz`` on FLAME: lmk_face_idx (105,), lmk_b_coords (105, 3).

    Raises
    ------
    FileNotFoundError, ValueError
        As `read_flame_landmarks`.
    """
    if layouts.container_of(path) != "npz":
        raise ValueError(
            f"{path}: expected an .npz with {', '.join(_RINGNET)}, found kind {layouts.container_of(path)}"
        )
    arrays = _load_npz(path, _RINGNET)
    try:
        return _landmarks(arrays["lmk_face_idx"], arrays["lmk_b_coords"])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def read_flame_masks(path: str | Path) -> dict[str, Int[np.ndarray, " vertices"]]:
    """Vertex numbers of named regions from ``FLAME_masks.pkl`` (face, lips, forehead, ...; its layout is from memory, unverified).

    Raises
    ------
    FileNotFoundError, UnsafePickleError, ValueError
        As `convert_flame`.
    """
    content = safe_pickle.load(path, allowed=safe_pickle.ARRAYS)
    if not isinstance(content, Mapping) or not content:
        raise ValueError(
            f"{path}: expected a dictionary from region to vertex numbers, found a {type(content).__name__}"
        )
    masks = {str(name): np.asarray(value) for name, value in content.items()}
    wrong = [name for name, value in masks.items() if value.ndim != 1 or value.dtype.kind not in "iu"]
    if wrong:
        raise ValueError(f"{path}: regions {', '.join(wrong)} are no lists of vertex numbers")
    return {name: value.astype(np.int64) for name, value in masks.items()}


# -------------------------------------------------------------------------------------------------------- details


def _plain(source: str | Path, content: Any, keys: tuple[str, ...], kept: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The wanted entries of an unpickled dictionary as dense arrays."""
    if not isinstance(content, Mapping):
        raise ValueError(f"{source}: expected a dictionary with {', '.join(keys)}, found a {type(content).__name__}")
    missing = [key for key in keys if key not in content]
    if missing:
        raise ValueError(
            f"{source}: missing {', '.join(missing)}; found {', '.join(map(str, list(content)[:20])) or 'nothing'}; is it another file of the release?"
        )
    arrays = {}
    for key in (*keys, *(key for key in kept if key in content)):
        value = content[key]
        if sparse.issparse(value):
            # A shape is only two numbers in the file; a full matrix of it must be no larger than a joint regressor may be.
            if np.prod(value.shape, dtype=float) > 1e8:
                raise ValueError(f"{source}: {key} has shape {value.shape}; expected (joints, vertices)")
            value = value.toarray()
        arrays[key] = np.asarray(value)
        if arrays[key].dtype == object:
            raise ValueError(f"{source}: {key} is no array of numbers but holds Python objects")
    return arrays


def _load_npz(path: str | Path, keys: tuple[str, ...]) -> dict[str, np.ndarray]:
    missing = [key for key in keys if key not in layouts.keys_of(path)]
    if missing:
        raise ValueError(f"{path}: missing {', '.join(missing)}; found {', '.join(layouts.keys_of(path)) or 'nothing'}")
    arrays = safe_files.npz(path, f"{', '.join(keys)} as convert_flame writes them", names=keys)
    wrong = [f"{key} of {value.dtype}" for key, value in arrays.items() if value.dtype.kind not in "fiu"]
    if wrong:
        raise ValueError(f"{path}: expected arrays of numbers, found {', '.join(wrong)}")
    return arrays


def _write(source: str | Path, target: str | Path, arrays: dict[str, np.ndarray]) -> Path:
    target = Path(target)
    if target.suffix != ".npz":
        raise ValueError(f"{target}: expected a name that ends in .npz")
    digest = hashlib.sha256(Path(source).read_bytes()).hexdigest()
    with files.atomic_path(target) as temporary:
        np.savez(temporary, **arrays, source_name=np.array(Path(source).name), source_sha256=np.array(digest))
    return target


def _check_flame(source: str | Path, arrays: dict[str, np.ndarray]) -> None:
    """Shapes that fit each other; skinning and the mesh check the values."""
    template, regressor = arrays["v_template"], arrays["J_regressor"]
    count = len(template) if template.ndim else 0
    joints = len(regressor) if regressor.ndim else 0
    wanted = {
        "v_template": (count, 3), "f": (None, 3), "shapedirs": (count, 3, None), "posedirs": (count, 3, 9 * (joints - 1)),
        "J_regressor": (joints, count), "kintree_table": (2, joints), "weights": (count, joints),
    }  # fmt: skip
    wrong = [
        f"{key} {arrays[key].shape} instead of {str(shape).replace('None', 'any')}"
        for key, shape in wanted.items()
        if arrays[key].ndim != len(shape) or any(n not in (None, m) for n, m in zip(shape, arrays[key].shape, strict=True))
    ]  # fmt: skip
    if wrong:
        raise ValueError(f"{source}: for {count} vertices and {joints} joints found {'; '.join(wrong)}")
    layouts.triangle_array(arrays["f"], f"{source}: f", count, base=0)
    try:
        Skinning(
            *(torch.from_numpy(arrays[key].astype(np.float64)) for key in ("J_regressor", "weights")),
            _parents(arrays["kintree_table"]),
            torch.from_numpy(arrays["posedirs"].astype(np.float64)),
        )
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error


def _parents(table: np.ndarray) -> tuple[int, ...]:
    """First row of kintree_table; the root's entry there is 2^32 - 1 and means none."""
    return (-1, *table[0, 1:].astype(np.int64).tolist())


def _table(source: str | Path) -> Any:
    """Content of a landmark file, pickled inside an .npy or bare."""
    if layouts.container_of(source) == "npy":
        return safe_pickle.load_npy(source, allowed=safe_pickle.ARRAYS)
    return safe_pickle.load(source, allowed=safe_pickle.ARRAYS)


def _landmarks(faces: np.ndarray, weights: np.ndarray) -> Landmarks:
    return Landmarks(
        torch.from_numpy(faces.astype(np.int64).reshape(-1)),
        torch.from_numpy(weights.astype(np.float64).reshape(-1, 3)),
    )


def _flame_landmarks(source: str | Path, arrays: dict[str, np.ndarray]) -> FlameLandmarks:
    try:
        return FlameLandmarks(
            _landmarks(arrays[_DECA[0]], arrays[_DECA[1]]),
            torch.from_numpy(arrays[_DECA[2]].astype(np.int64)),
            torch.from_numpy(arrays[_DECA[3]].astype(np.float64)),
            _landmarks(arrays[_FULL[0]], arrays[_FULL[1]]) if set(_FULL) <= set(arrays) else None,
        )
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error


def _check_landmarks(landmarks: FlameLandmarks, triangles: int) -> None:
    tables = [landmarks.static.faces, landmarks.contour_faces]
    highest = max(int(faces.max()) for faces in tables)
    if highest >= triangles:
        raise ValueError(
            f"landmarks: refer to triangle {highest}, the model has {triangles}; do they belong to another mesh?"
        )
