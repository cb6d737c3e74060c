"""BIWI (3D Audiovisual Corpus of Affective Communication) as FaceFormer and CodeTalker convert it: 14 people, 40 sentences, 25 frames a second.

The converted files have no unit: follow-ups shift every subject to the origin and divide by its extent (a user's account in the tracker of
FaceFormer, unverified). Errors in millimetres need the `extent_mm` of the heads; without it one unit counts as one metre.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from torch import Tensor

from paper_utils import safe_files
from paper_utils.data.clip_files import ClipFiles
from paper_utils.data.mesh_masks import region_of
from paper_utils.data.talking_faces import FaceMesh
from paper_utils.data.vertex_folders import VertexLayout, read_vertex_folder, split_rows

VERTICES, FPS = 23_370, 25.0
# Commands in the README of FaceFormer. Validation has the same people as training, with other sentences.
SEEN = ("F2", "F3", "F4", "M3", "M4", "M5")
UNSEEN = ("F1", "F5", "F6", "F7", "F8", "M1", "M2", "M6")
SENTENCES = {"train": range(1, 33), "val": range(33, 37), "test": range(37, 41)}
UNIT_MM = 1000.0


def read_biwi(
    root: str | Path, *, mesh: FaceMesh | None = None, extent_mm: float = UNIT_MM, vertices: int = VERTICES
) -> ClipFiles:
    """Clips of ``vertices_npy/<subject>_<nn>.npy`` (``e<nn>`` for the emotional reading), ``wav/`` and ``templates.pkl``.

    Parameters
    ----------
    root
        The folder.
    mesh
        Triangles (of an OBJ of ``rigid_scans``) and regions (see `read_region`); None: without them.
    extent_mm
        Length in mm of one unit of the files.
    vertices
        Another number for tests.

    Raises
    ------
    FileNotFoundError, ValueError
        As `read_vertex_folder`.
    """
    if not 0 < extent_mm < np.inf:
        raise ValueError(f"extent_mm: expected a length above 0, found {extent_mm}")
    return read_vertex_folder(root, VertexLayout("BIWI", vertices, FPS, lambda units: units * extent_mm), mesh=mesh)


def split(files: ClipFiles) -> dict[str, list[int]]:
    """Rows of train, val, test_a (people of the training set) and test_b (others), as FaceFormer and CodeTalker name them."""
    parts = {"train": (SEEN, SENTENCES["train"]), "val": (SEEN, SENTENCES["val"])}
    parts |= {"test_a": (SEEN, SENTENCES["test"]), "test_b": (UNSEEN, SENTENCES["test"])}
    return split_rows(files, parts)


def read_region(path: str | Path, vertices: int = VERTICES) -> Bool[Tensor, " vertices"]:
    """A region from a text file of vertex numbers, as CodeTalker's ``regions/lve.txt`` (lips) and ``fdd.txt`` (upper face).

    Numbers are separated by commas or white space (the layout is from memory, unverified).

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it holds something else than vertex numbers.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected vertex numbers separated by commas")
    text = safe_files.text(path, "vertex numbers separated by commas")
    words = [word for word in re.split(r"[\s,]+", text.strip("[] \t\r\n")) if word]
    wrong = [word for word in words if not re.fullmatch("[0-9]{1,18}", word)]
    if not words or wrong:
        raise ValueError(
            f"{path}: expected vertex numbers separated by commas, found {wrong[0][:30]!r}"
            if wrong
            else f"{path}: is empty"
        )
    return region_of([int(word) for word in words], vertices, name=str(path))
