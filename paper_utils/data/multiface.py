"""Multiface, the public subset of paper 04's corpus: 13 people as released, as MeshTalk's files expect them, and as a follow-up stores them.

The released meshes have 7,306 vertices, MeshTalk's 6,172: inner mouth, eyes and the back are left out, the order of the others stays. Data,
assets and checkpoints of the authors are under CC BY-NC 4.0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from paper_utils import safe_files
from paper_utils.data.clip_files import ClipFiles, fill_dropped, read_speech
from paper_utils.data.face_lists import first_few, read_lines
from paper_utils.data.mesh_masks import read_mask
from paper_utils.data.talking_faces import SAMPLE_RATE, FaceMesh, TalkingClip
from paper_utils.data.vertex_folders import VertexLayout, read_vertex_folder
from paper_utils.mesh.obj_files import read_obj

RELEASED_VERTICES, VERTICES = 7306, 6172
FPS = 30.0
INDEX_STEP = 3  # frames are numbered at 90 a second and kept at 30
AUDIO_RATE = 48_000  # Hz; the first frame is aligned with the first sample (authors, tracker of Multiface)
# Entities of the release, in its order.
ENTITIES = (
    "002645310", "002643814", "002539136", "7889059", "002757580", "2183941", "5372021", "8870559", "6674443", "5067077",
    "002914589", "6795937", "002421669",
)  # fmt: skip
# Neutral face: first frame of the first of these (scripts v1 and v2 of the release).
NEUTRAL_SEGMENTS = ("E001_Neutral_Eyes_Open", "EXP_neutral_peak")
SENTENCE_PREFIX = "SEN_"
# Vertices of the released mesh that MeshTalk's lacks: first and last of each range (of the authors, CC BY-NC 4.0).
REMOVED = (
    (551, 781), (812, 883), (899, 911), (1145, 1152), (1156, 1160), (1193, 1203), (1284, 1293), (1299, 1299), (1514, 1514),
    (1657, 1660), (1662, 1664), (2010, 2010), (2231, 2245), (2468, 2492), (3102, 3109), (3163, 3167), (3169, 3174),
    (3176, 3179), (3200, 3200), (3205, 3207), (3246, 3337), (3339, 3339), (3343, 3343), (3351, 3351), (3355, 3356),
    (3364, 3365), (3374, 3374), (3384, 3389), (3418, 3420), (3422, 3427), (3429, 3444), (3447, 3455), (3469, 3505),
    (4651, 4822), (4824, 4824), (4826, 4838), (4849, 4852), (4855, 4856), (4858, 4860), (4862, 4870), (4875, 4881),
    (4888, 4895), (4900, 4910), (4914, 4915), (4965, 5146), (5149, 5150), (5153, 5156), (5159, 5159), (5162, 5163),
    (5166, 5167), (5170, 5170), (5187, 5233), (5235, 5235), (5265, 5270), (5272, 5272), (5274, 5274), (5276, 5276),
    (5537, 5538), (5582, 5583), (5588, 5588), (6439, 6443), (6958, 6960), (6977, 6978), (6980, 7011),
)  # fmt: skip
_FOLDER = re.compile(r"m--(\d+)--(\d+)--(\w+)--GHS")
_FRAME = re.compile(r"\d{6}")


# ------------------------------------------------------------------------------------------------------------- topology


def kept_vertices() -> Int[np.ndarray, " vertices"]:
    """Numbers of the 6,172 vertices of MeshTalk's mesh in the released one, rising."""
    keep = np.ones(RELEASED_VERTICES, dtype=bool)
    for first, last in REMOVED:
        keep[first : last + 1] = False
    return np.flatnonzero(keep)


def to_meshtalk(vertices: Float[np.ndarray, "*frames released 3"]) -> Float[np.ndarray, "*frames vertices 3"]:
    """Released meshes in MeshTalk's topology.

    Only for vertices of ``.bin`` files: the OBJ files of Multiface number their vertices otherwise.

    Raises
    ------
    ValueError
        If there are not 7,306 vertices.
    """
    if vertices.shape[-2:] != (RELEASED_VERTICES, 3):
        raise ValueError(f"to_meshtalk: expected (..., {RELEASED_VERTICES}, 3), found {vertices.shape}")
    return vertices[..., kept_vertices(), :]


def read_bin(path: str | Path) -> Float[np.ndarray, "released 3"]:
    """One frame of the release: 7,306 vertices in mm, head pose removed, as bare little-endian float32.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If its size or its content is not that of a mesh.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected a tracked mesh")
    expected = RELEASED_VERTICES * 3 * 4
    size = path.stat().st_size
    if size != expected:
        raise ValueError(
            f"{path}: expected {expected} bytes ({RELEASED_VERTICES} vertices x 3 float32), found {size} ({size / 12:g} vertices); "
            "download it again, or is it a mesh of another release?"
        )
    vertices = np.fromfile(path, dtype="<f4").reshape(-1, 3)
    if not np.isfinite(vertices).all():
        raise ValueError(f"{path}: {int((~np.isfinite(vertices)).sum())} of {vertices.size} values are NaN or infinite")
    return vertices


# ------------------------------------------------------------------------------------------------------------ recordings


def frame_samples(
    indices: Int[np.ndarray, " frames"], *, first: int, sample_rate: int = SAMPLE_RATE
) -> Float[np.ndarray, " frames"]:
    r"""Sample at which each frame begins: :math:`\frac{f - f_0}{3} \cdot \frac{r}{30}`, 1600 a step of 3 at 48 kHz.

    Parameters
    ----------
    indices
        Six-digit numbers of frames.
    first
        Number of the first frame of the segment, :math:`f_0`.
    sample_rate
        :math:`r`, Hz.

    Raises
    ------
    ValueError
        If a number is not a whole number of steps behind the first one.
    """
    return _steps(indices, first, "frames") * (sample_rate / FPS)


def _steps(indices: np.ndarray, first: int, where: str) -> np.ndarray:
    off = (indices - first) % INDEX_STEP != 0
    if off.any() or (indices < first).any():
        wrong = indices[off | (indices < first)][0]
        raise ValueError(
            f"{where}: frame {wrong:06d} is not a whole number of steps of {INDEX_STEP} behind the first frame {first:06d}"
        )
    return (indices - first) // INDEX_STEP


@dataclass(frozen=True)
class _Segment:
    """One sentence of one person."""

    entity: str
    name: str
    frames: tuple[Path, ...]
    sound: Path


def read_multiface(
    root: str | Path, *, entities: Iterable[str] | None = None, mesh: FaceMesh | None = None, meshtalk: bool = True
) -> ClipFiles:
    """Sentences (``SEN_...``) of people in the released layout, each read when asked for.

    A frame that was dropped (a gap in the numbers) is filled by a straight line between its neighbours and marked as not tracked, so that frame k
    stays at second ``k / 30`` of the sound.

    Parameters
    ----------
    root
        Holds ``m--<date>--<time>--<entity>--GHS/`` with ``tracked_mesh/<segment>/<frame>.bin``, ``audio/<segment>.wav`` (48 kHz) and, if
        complete, ``frame_list.txt``.
    entities
        People; None: all that are there.
    mesh
        From `read_assets`; None: without triangles, masks and regions.
    meshtalk
        Convert to MeshTalk's 6,172 vertices.

    Returns
    -------
    ClipFiles
        ``skipped`` names segments without sound; other segments than sentences are not listed.

    Raises
    ------
    FileNotFoundError
        If a folder is missing.
    ValueError
        If a person is not there or has no sentence or no neutral segment, or frames that the list names are missing.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder; expected folders m--<date>--<time>--<entity>--GHS")
    found = {match[3]: path for path in sorted(root.iterdir()) if (match := _FOLDER.fullmatch(path.name))}
    wanted = sorted(found) if entities is None else list(entities)
    if not found or (missing := [entity for entity in wanted if entity not in found]):
        raise ValueError(
            f"{root}: expected folders m--<date>--<time>--<entity>--GHS"
            + (f" of {first_few(missing)}, there are {first_few(sorted(found))}" if found else ", there are none")
        )
    segments, templates, skipped = [], {}, []
    for entity in wanted:
        templates[entity] = _neutral(found[entity], meshtalk)
        own, silent = _segments(entity, found[entity])
        segments += own
        skipped += silent
    count = VERTICES if meshtalk else RELEASED_VERTICES
    if mesh is None:
        mesh = FaceMesh("Multiface", count, torch.zeros(0, 3, dtype=torch.int64))
    if mesh.vertices != count:
        raise ValueError(f"{mesh.name}: has {mesh.vertices} vertices, the meshes read here have {count}")
    return ClipFiles(
        name="Multiface",
        mesh=mesh,
        subjects=tuple(segment.entity for segment in segments),
        sentences=tuple(segment.name for segment in segments),
        load=lambda index: _clip(segments[index], templates[segments[index].entity], meshtalk),
        skipped=tuple(skipped),
    )


def _frame_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.bin") if _FRAME.fullmatch(path.stem))


def _neutral(folder: Path, meshtalk: bool) -> Tensor:
    """First available mesh of the neutral segment."""
    for name in NEUTRAL_SEGMENTS:
        frames = _frame_files(folder / "tracked_mesh" / name)
        if frames:
            vertices = read_bin(frames[0])
            return torch.from_numpy(np.ascontiguousarray(to_meshtalk(vertices) if meshtalk else vertices))
    meshes = folder / "tracked_mesh"
    present = sorted(path.name for path in meshes.iterdir() if path.is_dir()) if meshes.is_dir() else []
    raise ValueError(
        f"{meshes}: no mesh of a neutral face; expected one of {', '.join(NEUTRAL_SEGMENTS)}, found {first_few(present) or 'no segments'}"
    )


def _segments(entity: str, folder: Path) -> tuple[list[_Segment], list[str]]:
    """Sentences of one person, and those without sound."""
    listed = _frame_list(folder / "frame_list.txt")
    names = sorted(
        path.name
        for path in (folder / "tracked_mesh").iterdir()
        if path.name.startswith(SENTENCE_PREFIX) and path.is_dir()
    )
    if not names:
        raise ValueError(
            f"{folder / 'tracked_mesh'}: no segment begins with {SENTENCE_PREFIX}; is this part of the release downloaded?"
        )
    segments, silent = [], []
    for name in names:
        frames = _frame_files(folder / "tracked_mesh" / name)
        if not frames:
            raise ValueError(
                f"{folder / 'tracked_mesh' / name}: no .bin files; expected one a frame, such as 000123.bin"
            )
        if missing := sorted(listed.get(name, set()) - {path.stem for path in frames}):
            raise ValueError(
                f"{folder / 'tracked_mesh' / name}: {len(missing)} of the {len(listed[name])} frames of frame_list.txt are missing "
                f"({first_few(missing)}); download the segment again"
            )
        sound = folder / "audio" / f"{name}.wav"
        if sound.is_file():
            segments.append(_Segment(entity, name, tuple(frames), sound))
        else:
            silent.append(f"{sound}: missing")
    if not segments:
        raise FileNotFoundError(f"{folder / 'audio'}: none of {len(names)} sentences has sound ({first_few(silent)})")
    return segments, silent


def _frame_list(path: Path) -> dict[str, set[str]]:
    """Frames of each segment by ``frame_list.txt``, segment and frame a line; empty if there is no such file."""
    listed: dict[str, set[str]] = {}
    if not path.is_file():
        return listed
    for number, line in enumerate(read_lines(path, "segment and frame a line"), 1):
        parts = line.split()
        if len(parts) != 2 or not parts[1].isdigit():
            raise ValueError(f"{path}: line {number} is {line[:60]!r}, expected '<segment> <frame>'")
        listed.setdefault(parts[0], set()).add(parts[1].zfill(6))
    return listed


def _clip(segment: _Segment, template: Tensor, meshtalk: bool) -> TalkingClip:
    indices = np.array([int(path.stem) for path in segment.frames])
    steps = _steps(indices, int(indices[0]), f"{segment.entity}/{segment.name}")
    read = np.stack([read_bin(path) for path in segment.frames])
    vertices, tracked = fill_dropped(to_meshtalk(read) if meshtalk else read, steps)
    audio = read_speech(segment.sound, expected_rate=AUDIO_RATE)
    with safe_files.prefixed(segment.sound):
        return TalkingClip(
            template=template,
            vertices=torch.from_numpy(vertices),
            fps=FPS,
            audio=audio,
            sample_rate=SAMPLE_RATE,
            subject=segment.entity,
            sentence=segment.name,
            tracked=torch.from_numpy(tracked),
        )


def split(files: ClipFiles, *, validation: int = 1, test: int = 2, sentences: int = 40) -> dict[str, list[int]]:
    """Rows of train, val and test by the rule of paper 04: the first 40 sentences of some people, the remaining ones of others.

    The paper has 200, 10 and 40 people; with the 13 public ones the authors warn that training is unstable.

    Parameters
    ----------
    files
        From `read_multiface` or `read_converted`.
    validation, test
        How many people, taken from the end of the entities' order (choice of ours: the authors do not say which).
    sentences
        How many of each training person, in the order of their names.

    Raises
    ------
    ValueError
        If no person is left for training, or a part has no sentences.
    """
    present = [entity for entity in ENTITIES if entity in set(files.subjects)]
    people = present + sorted(set(files.subjects) - set(present))
    trained = len(people) - validation - test
    if trained < 1 or min(validation, test) < 0:
        raise ValueError(
            f"split: {len(people)} people cannot give {validation} for validation, {test} for test and one for training"
        )
    rank = {}
    for person in people:
        own = sorted(
            (s, row) for row, (p, s) in enumerate(zip(files.subjects, files.sentences, strict=True)) if p == person
        )
        rank |= {row: place for place, (_, row) in enumerate(own)}
    parts = {
        "train": people[:trained],
        "val": people[trained : trained + validation],
        "test": people[trained + validation :],
    }
    rows = {
        name: [r for r, p in enumerate(files.subjects) if p in members and (rank[r] < sentences) == (name == "train")]
        for name, members in parts.items()
    }
    if empty := [name for name, members in parts.items() if members and not rows[name]]:
        raise ValueError(
            f"split: no sentences for {', '.join(empty)}; with the first {sentences} for training, take fewer for training"
        )
    return rows


# --------------------------------------------------------------------------------------------------------------- assets


@dataclass(frozen=True)
class Assets:
    """Files that come with MeshTalk's code.

    Parameters
    ----------
    mesh
        Triangles, soft masks (``mouth``, ``upper_face``, ``forehead``, ``neck``, ``eyelids``) and their cores as regions.
    template
        The mean face, mm.
    uv, uv_faces
        Texture coordinates and their triangles.
    mean, std
        What the released networks normalise with. The "std" is far too large for one in mm and plausible as a variance; released
        checkpoints need it as it is, own training a true one.
    """

    mesh: FaceMesh
    template: Float[Tensor, "vertices 3"]
    uv: Float[Tensor, "coordinates 2"]
    uv_faces: Int[Tensor, "triangles 3"]
    mean: Float[Tensor, "vertices 3"]
    std: Float[Tensor, "vertices 3"]


# Name here -> file. Forehead and neck serve to smooth results; eye key points are 0 or 1.
MASK_FILES = {
    "mouth": "weighted_mouth_mask.txt",
    "upper_face": "weighted_eye_mask.txt",
    "forehead": "forehead_mask.txt",
    "neck": "neck_mask.txt",
    "eyelids": "eye_keypoints.txt",
}


def read_assets(root: str | Path, *, vertices: int = VERTICES) -> Assets:
    """The folder of assets: ``face_template.obj``, ``face_mean.npy``, ``face_std.npy`` and five mask text files.

    There is no lip mask in it: a lip error needs a set of vertices of your own.

    Parameters
    ----------
    root
        The folder.
    vertices
        Another number for tests.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If one has another number of vertices, or no texture coordinates.
    """
    root = Path(root)
    found = read_obj(root / "face_template.obj")
    if len(found.vertices) != vertices or found.uv is None or found.uv_triangles is None:
        raise ValueError(
            f"{root / 'face_template.obj'}: expected {vertices} vertices with texture coordinates, found {len(found.vertices)} "
            f"{'without' if found.uv is None or found.uv_triangles is None else 'with'} them"
        )
    masks = {name: read_mask(root / file, vertices) for name, file in MASK_FILES.items()}
    mesh = FaceMesh(
        name="MeshTalk's face",
        vertices=vertices,
        faces=torch.from_numpy(found.triangles),
        masks=masks,
        regions={name: mask == 1 for name, mask in masks.items()},
    )
    return Assets(
        mesh=mesh,
        template=torch.from_numpy(found.vertices).float(),
        uv=torch.from_numpy(found.uv).float(),
        uv_faces=torch.from_numpy(found.uv_triangles),
        mean=_statistic(root / "face_mean.npy", vertices),
        std=_statistic(root / "face_std.npy", vertices),
    )


def _statistic(path: Path, vertices: int) -> Tensor:
    values = safe_files.npy(path, "an asset of MeshTalk, plain numbers")
    if values.shape != (vertices, 3) or values.dtype.kind != "f" or not np.isfinite(values).all():
        raise ValueError(f"{path}: expected ({vertices}, 3) finite numbers, found {values.dtype} {values.shape}")
    return torch.from_numpy(values.astype(np.float32))


# ------------------------------------------------------------------------------------------------- layout of a follow-up

# Coordinates are scaled an axis at a time from these bounds to [-1, 1] (a public follow-up).
LOW_MM = (-117.798, -213.735, -177.091)
HIGH_MM = (125.922, 185.79601, 75.365097)


def converted_to_mm(scaled: Float[np.ndarray, "*shape 3"]) -> Float[np.ndarray, "*shape 3"]:
    """Millimetres of coordinates in [-1, 1]."""
    low, high = np.array(LOW_MM), np.array(HIGH_MM)
    return low + (scaled.astype(np.float64) + 1) / 2 * (high - low)


def mm_to_converted(mm: Float[np.ndarray, "*shape 3"]) -> Float[np.ndarray, "*shape 3"]:
    """Coordinates in [-1, 1] of millimetres; `converted_to_mm` undoes it."""
    low, high = np.array(LOW_MM), np.array(HIGH_MM)
    return 2 * (mm.astype(np.float64) - low) / (high - low) - 1


def read_converted(
    root: str | Path,
    *,
    mesh: FaceMesh | None = None,
    templates: Mapping[str, Float[Tensor, "vertices 3"]] | None = None,
    vertices: int = VERTICES,
) -> ClipFiles:
    """Clips of ``vertices_npy/<subject>_<sentence 01..50>.npy`` (time, 3 x 6172) scaled to [-1, 1], and ``wav/``.

    Parameters
    ----------
    root
        The folder.
    mesh
        From `read_assets`; None: without triangles, masks and regions.
    templates
        Faces at rest in mm; None: from ``templates.pkl``, scaled as the frames are (its layout is from memory, unverified).
    vertices
        Another number for tests.

    Raises
    ------
    FileNotFoundError, ValueError
        As `read_vertex_folder`.
    """
    layout = VertexLayout("Multiface (converted)", vertices, FPS, converted_to_mm)
    return read_vertex_folder(root, layout, mesh=mesh, templates=templates)
