"""The folder layout that follow-ups of VOCA and MeshTalk share: ``vertices_npy/``, ``wav/`` and ``templates.pkl`` for one topology.

VOCASET, BIWI and converted Multiface differ in names, units and rates only; those stand in files of their own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from paper_utils import safe_files, safe_pickle
from paper_utils.data.clip_files import ClipFiles, read_speech
from paper_utils.data.face_lists import first_few
from paper_utils.data.talking_faces import SAMPLE_RATE, FaceMesh, TalkingClip

_NUMBER = re.compile(r"(\d+)$")


@dataclass(frozen=True)
class VertexLayout:
    """How one data set uses the layout.

    Parameters
    ----------
    name
        Of the data set.
    vertices
        Of its topology.
    fps
        Of its files.
    to_mm
        Makes millimetres of coordinates (..., 3) as they are stored.
    expected_rate
        Hz of its recordings; others are resampled with a note. None: any rate is welcome.
    """

    name: str
    vertices: int
    fps: float
    to_mm: Callable[[Float[np.ndarray, "*shape 3"]], Float[np.ndarray, "*shape 3"]]
    expected_rate: int | None = None


def sentence_number(sentence: str) -> int:
    """Number at the end of a sentence's name: 7 of ``sentence07`` and of ``e07``.

    Raises
    ------
    ValueError
        If it does not end in a number.
    """
    found = _NUMBER.search(sentence)
    if not found:
        raise ValueError(f"sentence {sentence!r}: expected a name that ends in its number, such as sentence07")
    return int(found.group(1))


def read_templates(path: str | Path, layout: VertexLayout) -> dict[str, Float[Tensor, "vertices 3"]]:
    """Faces at rest by subject, mm, from ``templates.pkl``: a pickled dictionary of arrays, read without running it.

    Raises
    ------
    FileNotFoundError, UnsafePickleError, ValueError
        If the file is missing, asks for something else than arrays, or a template has another number of vertices.
    """
    content = safe_pickle.load(path, allowed=safe_pickle.ARRAYS)
    if not isinstance(content, Mapping) or not content:
        raise ValueError(f"{path}: expected a dictionary from subject to template, found a {type(content).__name__}")
    return {str(subject): as_template(f"{path}: {subject}", value, layout) for subject, value in content.items()}


def as_template(where: str, value: object, layout: VertexLayout) -> Float[Tensor, "vertices 3"]:
    """A template of the right size, in mm."""
    array = np.asarray(value)
    if array.dtype.kind not in "fiu" or array.size != 3 * layout.vertices:
        raise ValueError(
            f"{where}: expected a template of {layout.vertices} vertices x 3, found {array.dtype} {array.shape}"
        )
    return torch.from_numpy(np.array(layout.to_mm(array.reshape(-1, 3)), dtype=np.float32))


def load_vertices(path: str | Path, layout: VertexLayout, *, step: int = 1) -> Float[Tensor, "time vertices 3"]:
    """Frames of a clip in mm from an ``.npy`` file of shape (time, 3 * vertices) or (time, vertices, 3).

    Parameters
    ----------
    path
        The file; only every `step`-th frame of it is read.
    layout
        Topology and unit.
    step
        1: all frames.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is a pickle, damaged, empty, or of another topology.
    """
    path = Path(path)
    stored = safe_files.npy(path, "the vertices of a clip, plain numbers", mmap=True)
    if (
        stored.ndim not in (2, 3)
        or stored.dtype.kind != "f"
        or not len(stored)
        or stored.size != len(stored) * 3 * layout.vertices
    ):
        raise ValueError(
            f"{path}: expected (frames, {3 * layout.vertices}) numbers, {layout.vertices} vertices x 3, found {stored.dtype} {stored.shape}; "
            f"is it of the {layout.name} topology?"
        )
    frames = np.asarray(stored[::step], dtype=np.float32).reshape(-1, layout.vertices, 3)
    return torch.from_numpy(np.array(layout.to_mm(frames), dtype=np.float32))


def read_vertex_folder(
    root: str | Path,
    layout: VertexLayout,
    *,
    mesh: FaceMesh | None = None,
    step: int = 1,
    templates: Mapping[str, Float[Tensor, "vertices 3"]] | None = None,
) -> ClipFiles:
    """List the clips of a folder; each is read when asked for.

    Parameters
    ----------
    root
        Holds ``vertices_npy/<subject>_<sentence>.npy``, ``wav/<subject>_<sentence>.wav`` and ``templates.pkl``.
    layout
        Of the data set.
    mesh
        Triangles, masks and regions; None: a mesh without them.
    step
        Every how many frames one is read: 2 makes 30 frames a second of 60.
    templates
        Faces at rest in mm, instead of those of ``templates.pkl``.

    Returns
    -------
    ClipFiles
        Sorted by name. ``skipped`` names vertices without sound and sound without vertices.

    Raises
    ------
    FileNotFoundError
        If a folder or the templates are missing.
    ValueError
        If there is no clip, a name has no sentence, a subject no template, or `mesh` another number of vertices.
    """
    root = Path(root)
    folders = {name: root / name for name in ("vertices_npy", "wav")}
    for folder in folders.values():
        if not folder.is_dir():
            raise FileNotFoundError(
                f"{folder}: no such folder; a {layout.name} folder holds vertices_npy/, wav/ and templates.pkl, {root} has {_listing(root)}"
            )
    frames = {path.stem: path for path in sorted(folders["vertices_npy"].glob("*.npy"))}
    sounds = {path.stem: path for path in sorted(folders["wav"].glob("*.wav"))}
    names = sorted(set(frames) & set(sounds))
    if not names:
        raise ValueError(
            f"{root}: no clip with both vertices ({len(frames)} in vertices_npy) and sound ({len(sounds)} in wav) of one name"
        )
    parts = []
    for name in names:
        subject, _, sentence = name.rpartition("_")
        if not subject:
            raise ValueError(f"{frames[name]}: expected a name <subject>_<sentence>.npy")
        sentence_number(sentence)
        parts.append((subject, sentence))
    templates = read_templates(root / "templates.pkl", layout) if templates is None else templates
    if missing := sorted({subject for subject, _ in parts} - set(templates)):
        raise ValueError(
            f"{root / 'templates.pkl'}: no template of {first_few(missing)}; there are {first_few(sorted(templates))}"
        )
    mesh = bare_mesh(layout) if mesh is None else mesh
    if mesh.vertices != layout.vertices:
        raise ValueError(f"{mesh.name}: has {mesh.vertices} vertices, {layout.name} has {layout.vertices}")

    def load(index: int) -> TalkingClip:
        subject, sentence = parts[index]
        vertices = load_vertices(frames[names[index]], layout, step=step)
        audio = read_speech(sounds[names[index]], expected_rate=layout.expected_rate)
        with safe_files.prefixed(frames[names[index]]):
            return TalkingClip(
                template=templates[subject],
                vertices=vertices,
                fps=layout.fps / step,
                audio=audio,
                sample_rate=SAMPLE_RATE,
                subject=subject,
                sentence=sentence,
            )

    return ClipFiles(
        name=layout.name,
        mesh=mesh,
        subjects=tuple(subject for subject, _ in parts),
        sentences=tuple(sentence for _, sentence in parts),
        load=load,
        skipped=(
            *(f"{frames[name]}: no wav/{name}.wav" for name in sorted(set(frames) - set(sounds))),
            *(f"{sounds[name]}: no vertices_npy/{name}.npy" for name in sorted(set(sounds) - set(frames))),
        ),
    )


def _listing(root: Path) -> str:
    if not root.is_dir():
        return "nothing: it is no folder"
    return first_few(sorted(path.name for path in root.iterdir())) or "nothing in it"


def bare_mesh(layout: VertexLayout) -> FaceMesh:
    """A mesh of which only the number of vertices is known."""
    return FaceMesh(layout.name, layout.vertices, torch.zeros(0, 3, dtype=torch.int64))


def rows_of(files: ClipFiles, subjects: Iterable[str], sentences: Iterable[int], *, require: bool = True) -> list[int]:
    """Clips of some subjects whose sentence has one of some numbers.

    Raises
    ------
    ValueError
        If `require` and there is none.
    """
    subjects, sentences = set(subjects), set(sentences)
    rows = [
        row
        for row, (subject, sentence) in enumerate(zip(files.subjects, files.sentences, strict=True))
        if subject in subjects and sentence_number(sentence) in sentences
    ]
    if require and not rows:
        raise ValueError(
            f"{files.name}: no clip of {first_few(sorted(subjects))}; there are {first_few(sorted(set(files.subjects)))}"
        )
    return rows


def split_rows(files: ClipFiles, parts: Mapping[str, tuple[Sequence[str], Sequence[int]]]) -> dict[str, list[int]]:
    """Rows of each named part, given as subjects and sentence numbers; a part may be empty where a folder holds few people."""
    rows = {name: rows_of(files, *part, require=False) for name, part in parts.items()}
    if not any(rows.values()):
        known = sorted({subject for subjects, _ in parts.values() for subject in subjects})
        raise ValueError(
            f"{files.name}: no clip belongs to the split; it is made of {first_few(known)}, the folder of {first_few(sorted(set(files.subjects)))}"
        )
    return rows
