"""Wavefront OBJ meshes as arrays: vertices, polygons split into triangles, texture coordinates.

The few line kinds that meshes of faces use are taken out by pattern, without a Python loop over lines, so that a folder of 150 files is read in
seconds; materials, normals and groups are left aside.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from paper_utils import files

_VERTEX = re.compile(rb"^v[ \t]+([^\r\n]*)", re.MULTILINE)
_TEXTURE = re.compile(rb"^vt[ \t]+([^\r\n]*)", re.MULTILINE)
_POLYGON = re.compile(rb"^f[ \t]+([^\r\n]*)", re.MULTILINE)
_CORNER = re.compile(rb"(-?\d+)(?:/(-?\d*))?(?:/-?\d*)?(?=\s|$)")


@dataclass(frozen=True)
class Obj:
    """A mesh as it stands in a file.

    Parameters
    ----------
    vertices
        In the file's unit.
    triangles
        Vertex numbers from 0; a polygon of k corners gives the k - 2 triangles of a fan around its first corner.
    uv
        Texture coordinates, in a list of their own; None if there are none.
    uv_triangles
        Numbers into `uv` for each corner, from 0; None if the polygons have none.
    polygons
        Number of polygons before splitting.
    """

    vertices: Float[np.ndarray, "vertices 3"]
    triangles: Int[np.ndarray, "triangles 3"]
    uv: Float[np.ndarray, "coordinates 2"] | None
    uv_triangles: Int[np.ndarray, "triangles 3"] | None
    polygons: int

    def vertex_uv(self) -> Float[np.ndarray, "vertices 2"] | None:
        """One texture coordinate a vertex, the first one used; at seams, where a vertex has several, the others are lost."""
        if self.uv is None or self.uv_triangles is None:
            return None
        chosen = np.zeros((len(self.vertices), 2))
        # Backwards, so that the first use is written last.
        chosen[self.triangles.reshape(-1)[::-1]] = self.uv[self.uv_triangles.reshape(-1)[::-1]]
        return chosen


def read_obj(path: str | Path) -> Obj:
    """Read a mesh.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it has no vertices or polygons, numbers are unreadable or not finite, or polygons refer to vertices that are not there.
    """
    data = _read(path)
    vertices = _numbers(path, "v", _VERTEX.findall(data), 3)
    texture = _TEXTURE.findall(data)
    uv = _numbers(path, "vt", texture, 2) if texture else None
    triangles, uv_triangles, polygons = _triangles(path, _POLYGON.findall(data), len(vertices), len(texture))
    return Obj(vertices, triangles, uv, uv_triangles, polygons)


def read_obj_vertices(path: str | Path) -> tuple[Float[np.ndarray, "vertices 3"], bytes]:
    """Vertices of a mesh and its polygon lines as they stand, which tells quickly whether two files share a topology. Raises as `read_obj`."""
    data = _read(path)
    return _numbers(path, "v", _VERTEX.findall(data), 3), b"\n".join(_POLYGON.findall(data))


def _read(path: str | Path) -> bytes:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected a mesh in OBJ format")
    return path.read_bytes()


def _numbers(path: str | Path, kind: str, lines: list[bytes], width: int) -> np.ndarray:
    if not lines:
        raise ValueError(f"{path}: no '{kind}' lines; expected a mesh in OBJ format, is the file whole?")
    try:
        values = np.array(b" ".join(lines).split(), dtype=np.float64)
    except ValueError as error:
        raise ValueError(f"{path}: '{kind}' lines hold something that is not a number ({error})") from error
    # A fourth number (a weight, or a third texture coordinate) or colours may follow; all lines are alike then.
    if values.size % len(lines) or values.size // len(lines) < width:
        raise ValueError(
            f"{path}: expected at least {width} numbers on each of {len(lines)} '{kind}' lines, found {values.size}; is the file cut off?"
        )
    values = values.reshape(len(lines), -1)[:, :width]
    if not np.isfinite(values).all():
        raise ValueError(f"{path}: '{kind}' lines hold {int((~np.isfinite(values)).sum())} NaN or infinite values")
    return values


def _triangles(
    path: str | Path, lines: list[bytes], vertices: int, coordinates: int
) -> tuple[np.ndarray, np.ndarray | None, int]:
    corners = np.array([len(line.split()) for line in lines], dtype=np.int64)
    found = _CORNER.findall(b"\n".join(lines))
    if not lines or len(found) != corners.sum() or corners.min() < 3:
        raise ValueError(
            f"{path}: expected 'f' lines with three or more corners like 7 or 7/3 or 7/3/5, found {len(lines)} lines and {len(found)} readable corners"
        )
    fans = _fans(corners)
    numbers = np.array([corner[0] for corner in found], dtype=np.int64)
    textures = [corner[1] for corner in found]
    triangles = _checked(path, numbers, vertices, "vertices")[fans]
    if not coordinates or not all(textures):
        return triangles, None, len(lines)
    return triangles, _checked(path, np.array(textures, dtype=np.int64), coordinates, "coordinates")[fans], len(lines)


def _fans(corners: np.ndarray) -> np.ndarray:
    """Positions in the list of all corners of each triangle, polygon after polygon."""
    first = np.cumsum(corners) - corners
    polygon = np.repeat(np.arange(len(corners)), corners - 2)
    step = np.arange(len(polygon)) - np.repeat(np.cumsum(corners - 2) - (corners - 2), corners - 2)
    start = first[polygon]
    return np.stack((start, start + step + 1, start + step + 2), axis=1)


def _checked(path: str | Path, numbers: np.ndarray, count: int, what: str) -> np.ndarray:
    if numbers.min() < 1 or numbers.max() > count:
        raise ValueError(
            f"{path}: polygons must refer to {what} 1..{count}, found {numbers.min()}..{numbers.max()} (counting back from the end is not supported)"
        )
    return numbers - 1


def write_obj(
    path: str | Path,
    vertices: Float[np.ndarray, "vertices 3"],
    triangles: Int[np.ndarray, "triangles 3"],
    colours: Float[np.ndarray, "vertices 3"] | None = None,
) -> None:
    """Write a mesh, whole or not at all; `read_obj` reads it back.

    Parameters
    ----------
    path
        Its name ends in ``.obj``.
    vertices
        In any unit; four digits after the point are kept.
    triangles
        Vertex numbers from 0.
    colours
        Red, green, blue in [0, 1] of each vertex, written after its place as many programs read it.

    Raises
    ------
    ValueError
        If the name ends otherwise, sizes do not fit, a number is not finite, or a triangle points to no vertex.
    """
    path = Path(path)
    if path.suffix != ".obj":
        raise ValueError(f"{path}: expected a name that ends in .obj")
    rows = vertices if colours is None else np.concatenate((vertices, colours), axis=1)
    if not np.isfinite(rows).all():
        raise ValueError(f"{path}: {int((~np.isfinite(rows)).sum())} numbers of the mesh are NaN or infinite")
    if len(triangles) and (triangles.min() < 0 or triangles.max() >= len(vertices)):
        raise ValueError(
            f"{path}: triangles must refer to vertices 0..{len(vertices) - 1}, found {triangles.min()}..{triangles.max()}"
        )
    with files.atomic_path(path) as temporary, open(temporary, "w", encoding="ascii") as file:
        np.savetxt(file, rows, fmt="v" + " %.4f" * rows.shape[1])
        np.savetxt(file, triangles + 1, fmt="f %d %d %d")
