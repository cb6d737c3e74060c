"""What the files of morphable models look like, and the checks that all their readers share.

Most mistakes with these files are silent (micrometres read as millimetres, triangles that count from 1, one model's file given to another's
reader), so each is looked for here and answered with what the file is and which function reads it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int

from paper_utils import safe_files
from paper_utils.mesh.landmarks import Landmarks
from paper_utils.mesh.morphable import MorphableModel, find_mirror

HEAD_MM = (50.0, 400.0)  # choice of ours: largest extent of anything from a mask of the face to a head with its neck
_DTYPES = {torch.float32: np.float32, torch.float64: np.float64}
# Vertex counts of the official files; other counts are read as well.
OFFICIAL_NAMES = {
    53490: "BFM 2009", 53215: "BFM 2009 without neck", 35709: "BFM 2009 front (Deep3D)", 28588: "BFM 2017 face12",
    53149: "BFM 2017", 47439: "BFM 2019", 5023: "FLAME", 26719: "ICT-FaceKit",
}  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """One file format.

    Parameters
    ----------
    title
        As people call it, with the official file name.
    container
        Kind of file, as `container_of` names it.
    keys
        Arrays that must be in it.
    reader
        Function of `paper_utils.mesh.model_files` that reads it.
    """

    title: str
    container: str
    keys: tuple[str, ...]
    reader: str


LAYOUTS = {
    "bfm2009": Layout(
        "BFM 2009 (01_MorphableModel.mat)",
        "MATLAB 5",
        ("shapeMU", "shapePC", "shapeEV", "texMU", "texPC", "texEV", "tl"),
        "read_bfm2009",
    ),
    "deep3d": Layout(
        "Deep3D front model (BFM_model_front.mat)",
        "MATLAB 5",
        ("meanshape", "idBase", "exBase", "meantex", "texBase", "tri", "keypoints"),
        "read_deep3d",
    ),
    "3ddfa": Layout("3DDFA/face3d BFM (BFM.mat)", "MATLAB 5", ("model",), "read_3ddfa"),
    "bfm_h5": Layout(
        "BFM 2017/2019 (model20*.h5)",
        "HDF5",
        ("shape/model/mean", "shape/model/pcaBasis", "shape/model/pcaVariance"),
        "read_bfm_h5",
    ),
    "flame": Layout(
        "FLAME as plain arrays (.npz)",
        "npz",
        ("v_template", "f", "shapedirs", "posedirs", "J_regressor", "kintree_table", "weights"),
        "read_flame",
    ),
    "flame_pickle": Layout("a pickle, such as FLAME's generic_model.pkl", "pickle", (), "convert_flame, then read_flame"),
    "ict": Layout("ICT-FaceKit (folder FaceXModel)", "folder", ("generic_neutral_mesh.obj",), "read_ict"),
    "own": Layout(
        "a model saved by save_model", "npz", ("format", "name", "mean", "identity", "expression", "faces"), "load_model"
    ),
}  # fmt: skip


def container_of(path: str | Path) -> str:
    """Kind of file by its first bytes, whatever its name: MATLAB 5, MATLAB 7.3, HDF5, npz, npy, pickle, folder or unknown.

    Raises
    ------
    FileNotFoundError
        If nothing is there.
    """
    path = Path(path)
    if path.is_dir():
        return "folder"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file or folder; the models must be downloaded by hand, most after a licence form"
        )
    with path.open("rb") as file:
        begin = file.read(16)
    marks = {
        b"MATLAB 5.0": "MATLAB 5", b"MATLAB 7.3": "MATLAB 7.3", b"\x89HDF\r\n\x1a\n": "HDF5", b"PK\x03\x04": "npz",
        b"\x93NUMPY": "npy",
    }  # fmt: skip
    for mark, name in marks.items():
        if begin.startswith(mark):
            return name
    # Protocols 2 to 5 announce themselves; older ones begin with an empty dictionary in one of three spellings.
    pickled = begin[:1] == b"\x80" and begin[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")
    return "pickle" if pickled or begin.startswith((b"(dp", b"}q", b"(d.")) else "unknown"


def keys_of(path: str | Path) -> tuple[str, ...]:
    """Names of the arrays in a file (of a folder: of its files), without reading them; none for a pickle.

    Raises
    ------
    ValueError
        If the file is cut off or damaged.
    """
    path, container = Path(path), container_of(path)
    try:
        if container == "folder":
            return tuple(sorted(entry.name for entry in path.iterdir()))
        if container == "MATLAB 5":
            return safe_files.mat_names(path, "arrays of a model")
        if container == "npz":
            return safe_files.npz_names(path, "arrays of a model")
        if container == "HDF5":
            with import_h5py().File(path) as file:
                found: list[str] = []
                file.visit(found.append)
                return tuple(found)
    except ImportError:
        raise
    except Exception as error:  # each library has its own kinds for damaged files
        raise damaged(path, container, error) from error
    return ()


def identify(path: str | Path) -> str | None:
    """Name in `LAYOUTS` of the format whose arrays are all there; None if there is none. Raises as `keys_of`."""
    container, keys = container_of(path), set(keys_of(path))
    for name, layout in LAYOUTS.items():
        if layout.container == container and set(layout.keys) <= keys:
            return name
    return None


def expect(path: str | Path, name: str) -> None:
    """Refuse a file that has not the layout `name`, saying what it is instead.

    Raises
    ------
    FileNotFoundError
        If nothing is there.
    ValueError
        If it is another format (names it and its reader), or arrays are missing (names all).
    """
    wanted, container = LAYOUTS[name], container_of(path)
    if container == "MATLAB 7.3":
        raise ValueError(f"{path}: saved by MATLAB as version 7.3; expected {wanted.title}, save it again with -v7")
    found = identify(path)
    if found == name:
        return
    if found is not None:
        raise ValueError(
            f"{path}: expected {wanted.title}, found {LAYOUTS[found].title}; read it with {LAYOUTS[found].reader}"
        )
    if container != wanted.container:
        raise ValueError(
            f"{path}: expected {wanted.title}, a file of kind {wanted.container}; found kind {container}. Is it the right file, fully downloaded?"
        )
    keys = keys_of(path)
    missing = [key for key in wanted.keys if key not in keys]
    raise ValueError(
        f"{path}: expected {wanted.title}; missing {', '.join(missing)}; found {', '.join(keys[:20]) or 'nothing'}"
    )


def damaged(path: str | Path, container: str, error: Exception) -> ValueError:
    """The error for a file that its library cannot read."""
    size = Path(path).stat().st_size
    return ValueError(
        f"{path}: found a damaged file of kind {container} ({size} bytes; {type(error).__name__}: {error}); expected a whole one, "
        "is the download complete? Compare its size with the source and fetch it again"
    )


def import_h5py(what: str = "BFM models in .h5 files") -> Any:
    """The h5py module, which only HDF5 files need; `what` they are stands in the message.

    Raises
    ------
    ImportError
        If it is not installed; says how to install it.
    """
    try:
        import h5py
    except ImportError as error:
        raise ImportError(f"{what} need h5py: pip install 'paper-utils[hdf5]'") from error
    return h5py


# ------------------------------------------------------------------------------------------------- array checks


def load_mat(path: str | Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Some arrays of a MATLAB 5 file.

    Raises
    ------
    ValueError
        If the file is cut off or damaged.
    """
    return safe_files.mat(path, f"a MATLAB 5 file with {', '.join(names)}", names=names)


def numpy_dtype(dtype: torch.dtype) -> type:
    """The numpy twin of a torch float type.

    Raises
    ------
    ValueError
        For types other than float32 and float64.
    """
    if dtype not in _DTYPES:
        raise ValueError(f"dtype: expected torch.float32 or torch.float64, found {dtype}")
    return _DTYPES[dtype]


def points_array(value: np.ndarray, label: str, dtype: torch.dtype, unit: float = 1.0) -> torch.Tensor:
    """Interleaved x y z of any outer shape as (n, 3), times `unit`.

    Raises
    ------
    ValueError
        If the count is not a multiple of three.
    """
    flat = np.asarray(value).reshape(-1)
    if flat.size % 3 or flat.dtype.kind not in "fiu":
        raise ValueError(f"{label}: expected 3 numbers for each vertex, found {flat.size} of type {flat.dtype}")
    return torch.from_numpy((flat.astype(np.float64) * unit).astype(numpy_dtype(dtype))).unflatten(0, (-1, 3))


def basis_array(
    value: np.ndarray, deviations: np.ndarray | float, label: str, vertices: int, dtype: torch.dtype, unit: float = 1.0
) -> torch.Tensor:
    """Directions (3n, k) as (n, 3, k), each times its standard deviation and `unit`.

    Raises
    ------
    ValueError
        If rows, columns and deviations do not fit each other, or a deviation is negative.
    """
    value, scale = np.asarray(value), np.asarray(deviations).reshape(-1)
    if value.dtype.kind not in "fiu" or scale.dtype.kind not in "fiu":
        raise ValueError(f"{label}: expected numbers, found {value.dtype} with deviations of {scale.dtype}")
    scale = scale.astype(np.float64)
    if value.ndim != 2 or value.shape[0] != 3 * vertices or scale.size not in (1, value.shape[1]):
        raise ValueError(
            f"{label}: expected shape ({3 * vertices}, k) with k standard deviations for {vertices} vertices, found {value.shape} with {scale.size}"
        )
    if not (scale >= 0).all():
        raise ValueError(f"{label}: standard deviations must not be negative or NaN, found {scale.min():g}")
    scaled = value * (scale * unit).astype(numpy_dtype(dtype))
    return torch.from_numpy(np.ascontiguousarray(scaled, dtype=numpy_dtype(dtype)).reshape(vertices, 3, value.shape[1]))


def index_array(value: np.ndarray, label: str, count: int, base: int) -> np.ndarray:
    """Vertex (or other) numbers that count from `base`, as int64 from 0.

    Raises
    ------
    ValueError
        If they are no whole numbers, lie outside ``base..count - 1 + base``, or seem to count from the other base.
    """
    value = np.asarray(value)
    if (
        value.size == 0
        or value.dtype.kind not in "fiu"
        or not np.isfinite(value).all()
        or (value != np.round(value)).any()
    ):
        raise ValueError(f"{label}: expected whole numbers, found {value.size} values of type {value.dtype}")
    low, high = int(value.min()), int(value.max())
    if low < base or high > count - 1 + base:
        other = low == 1 - base and high == count - base
        hint = f"; these count from {1 - base}" if other else "; do they belong to another mesh?"
        raise ValueError(
            f"{label}: expected numbers in {base}..{count - 1 + base} (counting from {base}), found {low}..{high}{hint}"
        )
    return value.astype(np.int64) - base


def triangle_array(value: np.ndarray, label: str, vertices: int, base: int) -> Int[torch.Tensor, "triangles 3"]:
    """Triangles (f, 3) that count from `base`, as int64 from 0. Raises as `index_array`, and for another shape."""
    value = np.asarray(value)
    if value.ndim != 2 or value.shape[1] != 3:
        turned = "; it is transposed" if value.ndim == 2 and value.shape[0] == 3 else ""
        raise ValueError(f"{label}: expected shape (triangles, 3), found {value.shape}{turned}")
    return torch.from_numpy(np.ascontiguousarray(index_array(value, label, vertices, base)))


def outward(mean: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
    """Triangles in counter-clockwise order seen from outside: all are turned over if they mostly face the centre of the mesh."""
    corners = mean.double()[faces]
    normals = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    from_centre = corners.mean(1) - mean.double().mean(0)
    return faces[:, [0, 2, 1]].contiguous() if float((normals * from_centre).sum()) < 0 else faces


def finish(
    path: str | Path, *, check_size: bool, unit_mm: float, size_of: torch.Tensor | None = None, **fields: Any
) -> MorphableModel:
    """Build the model, add its mirror list if it is symmetric, and check that it has the size of a head.

    Parameters
    ----------
    path
        Source, for messages.
    check_size
        Whether the largest extent must lie in 50..400 mm.
    unit_mm
        Length of the file's unit that the reader assumed, in mm.
    size_of
        Points whose extent is checked; the mean if None.
    fields
        Of `MorphableModel`.

    Raises
    ------
    ValueError
        Begins with `path`.
    """
    mean = fields["mean"]
    name = OFFICIAL_NAMES.get(len(mean), f"{Path(path).name} ({len(mean)} vertices)")
    try:
        model = MorphableModel(name=name, **fields)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    points = mean if size_of is None else size_of
    extent = float((points.amax(0) - points.amin(0)).max())
    if check_size and not HEAD_MM[0] <= extent <= HEAD_MM[1]:
        raise ValueError(
            f"{path}: the mean face is {extent:g} mm large, expected {HEAD_MM[0]:g}..{HEAD_MM[1]:g}; the file's unit was taken to be {unit_mm:g} mm. "
            "Pass the right unit_mm, or check_size=False if it is no human head"
        )
    return dataclasses.replace(model, mirror=find_mirror(mean))


def vertex_landmarks(path: str | Path, indices: np.ndarray, faces: torch.Tensor) -> Landmarks:
    """`Landmarks.from_vertices` with the file's name in its error."""
    try:
        return Landmarks.from_vertices(indices.reshape(-1), faces)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
