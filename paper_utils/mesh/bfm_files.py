"""Readers of the Basel Face Model in the forms it is passed around in.

The same person statistics live in five files with four units, two index bases and two ways to store the spread of a direction; each reader
undoes its own file's habits and gives a `MorphableModel`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from paper_utils import safe_files
from paper_utils.mesh import model_layouts as layouts
from paper_utils.mesh.morphable import MorphableModel

MICROMETRE = 1e-3  # BFM 2009 and what is cut from it
DECIMETRE = 100.0  # Deep3D divides micrometres by 1e5
_EXPRESSION_FILES = ("Exp_Pca.bin", "std_exp.txt", "BFM_exp_idx.mat")


def read_bfm2009(
    path: str | Path,
    *,
    expression_folder: str | Path | None = None,
    unit_mm: float = MICROMETRE,
    dtype: torch.dtype = torch.float32,
    check_size: bool = True,
) -> MorphableModel:
    """The original ``01_MorphableModel.mat``: 199 identity and 199 colour directions, no expressions of its own.

    Parameters
    ----------
    path
        The file. Arrays shapeMU (3n, 1), shapePC (3n, k), shapeEV (k, 1), the same for tex, tl (f, 3); interleaved x y z in
        micrometres, colours 0..255, triangles from 1.
    expression_folder
        Folder with ``Exp_Pca.bin``, ``std_exp.txt`` (expression basis of Guo et al.) and ``BFM_exp_idx.mat`` (which vertices it is
        for). The model is then cut to these vertices. Their mean expression is left out, as in Deep3D's converter (from memory,
        unverified).
    unit_mm
        Length of the file's unit in mm.
    dtype
        Of the tensors, float32 or float64.
    check_size
        Refuse a mean face that has not the size of a head.

    Returns
    -------
    Without landmarks, which the file has not; `mirror` only if the mesh is symmetric (the official one is not).

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If it is another format, damaged, incomplete or inconsistent; names the file, what was found and what to do.
    """
    layouts.expect(path, "bfm2009")
    data = layouts.load_mat(path, layouts.LAYOUTS["bfm2009"].keys)
    mean = layouts.points_array(data["shapeMU"], f"{path}: shapeMU", dtype, unit_mm)
    faces = layouts.triangle_array(data["tl"], f"{path}: tl", len(mean), base=1)
    fields = {
        "mean": mean,
        "identity": layouts.basis_array(
            data["shapePC"], data["shapeEV"], f"{path}: shapePC", len(mean), dtype, unit_mm
        ),
        "expression": mean.new_zeros((len(mean), 3, 0)),
        **_colours(path, data, ("texMU", "texPC", "texEV"), len(mean), dtype),
    }
    if expression_folder is not None:
        kept, expression = _guo_expressions(Path(expression_folder), len(mean), unit_mm, dtype)
        fields = {name: value[kept].contiguous() for name, value in fields.items()} | {"expression": expression}
        faces = _restricted(faces, kept, len(mean))
    faces = layouts.outward(fields["mean"], faces)
    return layouts.finish(path, check_size=check_size, unit_mm=unit_mm, faces=faces, **fields)


def read_deep3d(
    path: str | Path, *, unit_mm: float = DECIMETRE, dtype: torch.dtype = torch.float32, check_size: bool = True
) -> MorphableModel:
    """Deep3D's ``BFM_model_front.mat``: 80 identity, 64 expression and 80 colour directions, already times their deviations.

    Parameters
    ----------
    path
        The file. Arrays meanshape (1, 3n), idBase (3n, 80), exBase (3n, 64), meantex (1, 3n), texBase (3n, 80), tri (f, 3),
        keypoints (1, 68); decimetres, colours 0..255, indices from 1. Its masks are not read.
    unit_mm, dtype, check_size
        As for `read_bfm2009`. Raises as it.
    """
    layouts.expect(path, "deep3d")
    data = layouts.load_mat(path, layouts.LAYOUTS["deep3d"].keys)
    mean = layouts.points_array(data["meanshape"], f"{path}: meanshape", dtype, unit_mm)
    count = len(mean)
    faces = layouts.outward(mean, layouts.triangle_array(data["tri"], f"{path}: tri", count, base=1))
    keypoints = layouts.index_array(data["keypoints"], f"{path}: keypoints", count, base=1)
    return layouts.finish(
        path,
        check_size=check_size,
        unit_mm=unit_mm,
        mean=mean,
        identity=layouts.basis_array(data["idBase"], 1.0, f"{path}: idBase", count, dtype, unit_mm),
        expression=layouts.basis_array(data["exBase"], 1.0, f"{path}: exBase", count, dtype, unit_mm),
        faces=faces,
        landmarks=layouts.vertex_landmarks(path, keypoints, faces),
        **_colours(path, data, ("meantex", "texBase", None), count, dtype),
    )


def read_3ddfa(
    path: str | Path,
    *,
    uv: str | Path | None = None,
    close_mouth: bool = False,
    unit_mm: float = MICROMETRE,
    dtype: torch.dtype = torch.float32,
    check_size: bool = True,
) -> MorphableModel:
    """The ``BFM.mat`` of 3DDFA and face3d: 199 identity and 29 expression directions on the mesh without neck, as 300W-LP uses it.

    Parameters
    ----------
    path
        The file: a structure ``model`` with shapeMU, shapePC, shapeEV, expMU, expPC, expEV, texMU, texPC, texEV, tri (3, f),
        tri_mouth (3, m), kpt_ind (1, 68); micrometres, colours 0..255, indices from 1, triangles stored as columns. The mean is
        shapeMU + expMU.
    uv
        ``BFM_UV.mat`` with UV (n, 2), or None.
    close_mouth
        Add the triangles that close the mouth opening.
    unit_mm, dtype, check_size
        As for `read_bfm2009`. Raises as it.

    Notes
    -----
    Shape_Para and Exp_Para of 300W-LP are not in standard deviations: divide them by `deviations_3ddfa` first.
    """
    data = _structure(path)
    mean = layouts.points_array(
        data["shapeMU"].reshape(-1) + data["expMU"].reshape(-1), f"{path}: shapeMU + expMU", dtype, unit_mm
    )
    count = len(mean)
    triangles = np.concatenate((data["tri"], data["tri_mouth"]), axis=1) if close_mouth else data["tri"]
    faces = layouts.outward(mean, layouts.triangle_array(triangles.T, f"{path}: model.tri (turned)", count, base=1))
    keypoints = layouts.index_array(data["kpt_ind"], f"{path}: model.kpt_ind", count, base=1)
    return layouts.finish(
        path,
        check_size=check_size,
        unit_mm=unit_mm,
        mean=mean,
        identity=layouts.basis_array(data["shapePC"], data["shapeEV"], f"{path}: shapePC", count, dtype, unit_mm),
        expression=layouts.basis_array(data["expPC"], data["expEV"], f"{path}: expPC", count, dtype, unit_mm),
        faces=faces,
        landmarks=layouts.vertex_landmarks(path, keypoints, faces),
        uv=None if uv is None else _uv(uv, count, dtype),
        **_colours(path, data, ("texMU", "texPC", "texEV"), count, dtype),
    )


def deviations_3ddfa(
    path: str | Path, *, dtype: torch.dtype = torch.float64
) -> tuple[Float[torch.Tensor, " identity"], Float[torch.Tensor, " expression"]]:
    """Standard deviations of identity and expression in ``BFM.mat``, in the unit of 300W-LP's parameters."""
    data = _structure(path)
    identity, expression = (
        torch.from_numpy(data[key].reshape(-1).astype(layouts.numpy_dtype(dtype))) for key in ("shapeEV", "expEV")
    )
    return identity, expression


def read_bfm_h5(
    path: str | Path, *, unit_mm: float = 1.0, dtype: torch.dtype = torch.float32, check_size: bool = True
) -> MorphableModel:
    """BFM 2017 and 2019 (``model2017-1_face12_nomouth.h5`` and others), and BFM 2009 in the same format.

    Parameters
    ----------
    path
        The file. Groups shape, expression, color with model/mean (3n,), model/pcaBasis (3n, k), model/pcaVariance (k,);
        representer/cells (3, f), below shape or at the top; millimetres, colours 0..1, triangles from 0 stored as columns,
        *variances*, whose roots are the deviations. Expression and colour may be absent; the mean is that of shape plus expression.
    unit_mm, dtype, check_size
        As for `read_bfm2009`. Raises as it, and ImportError if h5py is not installed.

    Notes
    -----
    The landmarks of this model come in separate files: add them with ``dataclasses.replace(model, landmarks=...)``.
    """
    layouts.expect(path, "bfm_h5")
    data, keys = _read_h5(path), layouts.keys_of(path)
    cells = next((key for key in ("shape/representer/cells", "representer/cells") if key in keys), None)
    if cells is None:
        raise ValueError(f"{path}: expected triangles at shape/representer/cells, found none; is the file whole?")
    mean = layouts.points_array(data["shape/mean"], f"{path}: shape/model/mean", dtype, unit_mm)
    count, expression = len(mean), mean.new_zeros((len(mean), 3, 0))
    identity = _h5_basis(path, data, "shape", count, dtype, unit_mm)
    if "expression/mean" in data:
        offset = layouts.points_array(data["expression/mean"], f"{path}: expression/model/mean", dtype, unit_mm)
        _same_count(path, "expression/model/mean", len(offset), count)
        mean, expression = mean + offset, _h5_basis(path, data, "expression", count, dtype, unit_mm)
    colours = {}
    if "color/mean" in data:
        colour_mean = layouts.points_array(data["color/mean"], f"{path}: color/model/mean", dtype)
        colours = {"colour_mean": colour_mean, "colour": _h5_basis(path, data, "color", count, dtype, 1.0)}
    faces = layouts.triangle_array(data[cells].T, f"{path}: {cells} (turned)", count, base=0)
    return layouts.finish(
        path,
        check_size=check_size,
        unit_mm=unit_mm,
        mean=mean,
        identity=identity,
        expression=expression,
        faces=layouts.outward(mean, faces),
        **colours,
    )


# -------------------------------------------------------------------------------------------------------- details


def _colours(
    path: str | Path, data: dict[str, np.ndarray], keys: tuple[str, str, str | None], count: int, dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    """Colours that count to 255, brought to 0..1."""
    mean, basis, deviations = keys
    colour_mean = layouts.points_array(data[mean], f"{path}: {mean}", dtype, 1 / 255)
    scale = 1.0 if deviations is None else data[deviations]
    return {
        "colour_mean": colour_mean,
        "colour": layouts.basis_array(data[basis], scale, f"{path}: {basis}", count, dtype, 1 / 255),
    }


def _structure(path: str | Path) -> dict[str, np.ndarray]:
    """Fields of the MATLAB structure ``model``."""
    layouts.expect(path, "3ddfa")
    names = ("shapeMU", "shapePC", "shapeEV", "expMU", "expPC", "expEV", "texMU", "texPC", "texEV", "tri", "tri_mouth", "kpt_ind")  # fmt: skip
    model = layouts.load_mat(path, ("model",))["model"]
    found = model.dtype.names or ()
    missing = [name for name in names if name not in found]
    if missing or model.size != 1:
        raise ValueError(
            f"{path}: expected one structure 'model' of {layouts.LAYOUTS['3ddfa'].title}; missing {', '.join(missing) or 'nothing'}; found {', '.join(found) or 'no fields'}"
        )
    data = {name: model[name].reshape(-1)[0] for name in names}
    strange = [name for name, value in data.items() if getattr(value, "dtype", np.dtype(object)).kind not in "fiu"]
    if strange or any(data[name].ndim != 2 for name in ("tri", "tri_mouth")):
        raise ValueError(
            f"{path}: expected arrays of numbers in the structure 'model', found others in {', '.join(strange) or 'tri'}"
        )
    if data["shapeMU"].size != data["expMU"].size:
        raise ValueError(
            f"{path}: shapeMU and expMU must be of one mesh, found {data['shapeMU'].size} and {data['expMU'].size} numbers"
        )
    return data


def _uv(path: str | Path, count: int, dtype: torch.dtype) -> torch.Tensor:
    value = layouts.load_mat(path, ("UV",)).get("UV")
    if value is None or value.shape != (count, 2) or value.dtype.kind not in "fiu":
        raise ValueError(
            f"{path}: expected UV ({count}, 2), found {'none' if value is None else f'{value.shape} of {value.dtype}'}; does it belong to another mesh?"
        )
    return torch.from_numpy(np.ascontiguousarray(value, dtype=layouts.numpy_dtype(dtype)))


def _restricted(faces: torch.Tensor, kept: torch.Tensor, count: int) -> torch.Tensor:
    """Triangles with all corners among the kept vertices, in the new numbers."""
    number = torch.full((count,), -1)
    number[kept] = torch.arange(len(kept))
    renumbered = number[faces]
    return renumbered[(renumbered >= 0).all(1)]


def _guo_expressions(folder: Path, count: int, unit_mm: float, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Vertices of BFM 2009 that the expression basis is for, and the basis."""
    absent = [name for name in _EXPRESSION_FILES if not (folder / name).is_file()]
    if absent:
        raise FileNotFoundError(f"{folder}: missing {', '.join(absent)}; expected {', '.join(_EXPRESSION_FILES)}")
    index_file = folder / "BFM_exp_idx.mat"
    indices = layouts.load_mat(index_file, ("trimIndex",)).get("trimIndex")
    if indices is None:
        raise ValueError(f"{index_file}: expected trimIndex (n, 1), found none")
    kept = layouts.index_array(indices.reshape(-1), f"{index_file}: trimIndex", count, base=1)
    raw = (folder / "Exp_Pca.bin").read_bytes()
    directions = int(np.frombuffer(raw[:4], dtype="<i4")[0]) if len(raw) >= 4 else 0
    values = np.frombuffer(raw[4 : len(raw) // 4 * 4], dtype="<f4")
    wanted = 3 * len(kept) * (1 + directions)
    if directions < 1 or len(raw) != 4 + 4 * wanted:
        raise ValueError(
            f"{folder / 'Exp_Pca.bin'}: for {len(kept)} vertices and its own count of {directions} directions expected {4 + 4 * wanted} bytes, found {len(raw)}; is it cut off?"
        )
    deviations = safe_files.table(folder / "std_exp.txt", "standard deviations of the expressions").reshape(-1)
    basis = values[3 * len(kept) :].reshape(directions, -1).T
    return torch.from_numpy(kept), layouts.basis_array(
        basis, deviations, f"{folder}: Exp_Pca.bin with std_exp.txt", len(kept), dtype, unit_mm
    )


def _read_h5(path: str | Path) -> dict[str, np.ndarray]:
    """Arrays as ``shape/mean``, ``shape/pcaBasis``, ..., and the cells under their full name."""
    names = {
        f"{part}/model/{key}": f"{part}/{key}"
        for part in ("shape", "expression", "color")
        for key in ("mean", "pcaBasis", "pcaVariance")
    }
    names |= {cells: cells for cells in ("shape/representer/cells", "representer/cells")}
    expected = layouts.LAYOUTS["bfm_h5"].title
    with safe_files.named(path, expected), layouts.import_h5py().File(path) as file:
        return {names[full]: value for full, value in safe_files.h5(file, list(names), expected).items()}


def _h5_basis(
    path: str | Path, data: dict[str, np.ndarray], part: str, count: int, dtype: torch.dtype, unit_mm: float
) -> torch.Tensor:
    missing = [f"{part}/model/{key}" for key in ("pcaBasis", "pcaVariance") if f"{part}/{key}" not in data]
    if missing:
        raise ValueError(f"{path}: has {part}/model/mean but lacks {', '.join(missing)}; is the file whole?")
    variances = np.asarray(data[f"{part}/pcaVariance"], dtype=np.float64)
    if not (variances >= 0).all():
        raise ValueError(
            f"{path}: {part}/model/pcaVariance must not be negative or NaN, found a least value of {variances.min():g}"
        )
    return layouts.basis_array(
        data[f"{part}/pcaBasis"], np.sqrt(variances), f"{path}: {part}/model/pcaBasis", count, dtype, unit_mm
    )


def _same_count(path: str | Path, label: str, found: int, expected: int) -> None:
    if found != expected:
        raise ValueError(f"{path}: {label} is for {found} vertices, shape/model/mean for {expected}")
