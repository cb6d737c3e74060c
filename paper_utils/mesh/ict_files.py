"""ICT-FaceKit: a morphable model as a folder of OBJ meshes, one a direction.

The one full model with a licence that lets anybody pass it on (MIT): a head of 26,719 vertices, 100 identity and about 50 ARKit-like expression
directions, all as targets from which the neutral mesh is taken away.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from paper_utils import safe_files
from paper_utils.mesh import model_layouts as layouts
from paper_utils.mesh.morphable import MorphableModel
from paper_utils.mesh.obj_files import read_obj, read_obj_vertices

CENTIMETRE = 10.0  # the unit of the official meshes (from memory, unverified)
FACE_VERTICES = 9409  # the skin of the face comes first in the official meshes
_NEUTRAL, _INDICES = "generic_neutral_mesh.obj", "vertex_indices.json"


def read_ict(
    folder: str | Path,
    *,
    vertices: int | None = None,
    unit_mm: float = CENTIMETRE,
    dtype: torch.dtype = torch.float32,
    check_size: bool = True,
) -> MorphableModel:
    """The folder ``FaceXModel`` of ICT-FaceKit.

    Parameters
    ----------
    folder
        With ``generic_neutral_mesh.obj``, ``vertex_indices.json`` (``expressions``: names; ``idx_to_landmark_verts``: 68 vertices from
        0), ``identity000.obj`` and on, and one ``<expression>.obj`` for each name.
    vertices
        Keep only the first so many; `FACE_VERTICES` gives the skin of the face without eyes, teeth and back of the head. None keeps
        all.
    unit_mm
        Length of the files' unit in mm.
    dtype, check_size
        Float type; whether the landmarks must span the size of a head (the whole mesh reaches down the neck).

    Returns
    -------
    Quads are split in two triangles. A vertex at a texture seam keeps the first of its coordinates.

    Raises
    ------
    FileNotFoundError
        If the folder or some of its files are missing; names all.
    ValueError
        If a mesh differs from the neutral one in its vertices or polygons, numbers are unreadable, or the indices do not fit.
    """
    layouts.expect(folder, "ict")
    folder = Path(folder)
    indices = _indices(folder)
    neutral = read_obj(folder / _NEUTRAL)
    count = len(neutral.vertices)
    kept = count if vertices is None else vertices
    if not 3 <= kept <= count:
        raise ValueError(f"{folder}: vertices={vertices} but {_NEUTRAL} has {count}")
    identities, expressions = _targets(folder, indices["expressions"])
    mean = layouts.points_array(neutral.vertices[:kept], f"{folder / _NEUTRAL}", dtype, unit_mm)
    triangles = neutral.triangles[(neutral.triangles < kept).all(axis=1)]
    faces = torch.from_numpy(np.ascontiguousarray(triangles))
    landmarks = layouts.index_array(
        np.array(indices["idx_to_landmark_verts"]), f"{folder / _INDICES}: idx_to_landmark_verts", kept, base=0
    )
    uv = neutral.vertex_uv()
    return layouts.finish(
        folder,
        check_size=check_size,
        unit_mm=unit_mm,
        size_of=mean[torch.from_numpy(landmarks)],
        mean=mean,
        identity=_directions(folder, identities, kept, unit_mm, dtype),
        expression=_directions(folder, expressions, kept, unit_mm, dtype),
        faces=faces,
        landmarks=layouts.vertex_landmarks(folder / _INDICES, landmarks, faces),
        uv=None if uv is None else torch.from_numpy(uv[:kept].astype(layouts.numpy_dtype(dtype))),
    )


def expression_names(folder: str | Path) -> tuple[str, ...]:
    """Names of the expression directions in the order of the model's columns (``jawOpen``, ``mouthSmile_L``, ...).

    Raises
    ------
    FileNotFoundError, ValueError
        As `read_ict`.
    """
    layouts.expect(folder, "ict")
    return tuple(_indices(Path(folder))["expressions"])


def _indices(folder: Path) -> dict[str, Any]:
    path = folder / _INDICES
    indices = safe_files.json_value(path, "the indices that come with ICT-FaceKit")
    wanted = {"expressions": str, "idx_to_landmark_verts": int}
    found = indices if isinstance(indices, dict) else {}
    wrong = [
        key
        for key, kind in wanted.items()
        if not isinstance(found.get(key), list) or not all(isinstance(item, kind) for item in found[key])
    ]
    if wrong:
        raise ValueError(
            f"{path}: expected lists {' and '.join(wanted)}; missing or of another kind: {', '.join(wrong)}; found {', '.join(found) or 'nothing'}"
        )
    return indices


def _targets(folder: Path, names: list[str]) -> tuple[list[Path], list[Path]]:
    """Files of identity and expression targets, all there and without a gap in the numbers."""
    plain = [name for name in names if Path(name).name != name]
    if plain:
        raise ValueError(f"{folder / _INDICES}: expressions must be names of files without folders, found {plain[0]!r}")
    present = {path.name for path in folder.glob("identity[0-9][0-9][0-9].obj")}
    highest = max((int(name[8:11]) for name in present), default=-1)
    identities = [f"identity{number:03d}.obj" for number in range(highest + 1)]
    expressions = [f"{name}.obj" for name in names]
    absent = [name for name in identities + expressions if not (folder / name).is_file()]
    if absent or not identities:
        shown = ", ".join(absent[:8]) or "identity000.obj and on"
        raise FileNotFoundError(
            f"{folder}: {max(len(absent), 1)} files are missing: {shown}; expected identities without a gap and one mesh for each expression in {_INDICES}"
        )
    return [folder / name for name in identities], [folder / name for name in expressions]


def _directions(
    folder: Path, targets: list[Path], kept: int, unit_mm: float, dtype: torch.dtype
) -> Float[torch.Tensor, "vertices 3 directions"]:
    """Targets minus the neutral mesh."""
    neutral, polygons = read_obj_vertices(folder / _NEUTRAL)
    directions = torch.zeros((kept, 3, len(targets)), dtype=dtype)
    for column, path in enumerate(targets):
        moved, lines = read_obj_vertices(path)
        if moved.shape != neutral.shape or lines != polygons:
            raise ValueError(
                f"{path}: has {len(moved)} vertices and {len(lines.splitlines())} polygons that are not those of {_NEUTRAL} "
                f"({len(neutral)} vertices, {len(polygons.splitlines())} polygons); directions need one topology, are the files of one release?"
            )
        directions[..., column] = torch.from_numpy((moved - neutral)[:kept] * unit_mm)
    return directions
