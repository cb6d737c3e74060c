"""NoW: photographs of 100 people with a scan of each, in the layout that the benchmark's public code reads.

``imagepathsvalidation.txt`` lists ``<subject>/<challenge>/<image>``; ``scans/<subject>/*.obj`` are in mm, ``scans_lmks_onlypp/<subject>/*.pp``
hold seven picked points of each. Reconstructions lie in a folder of the user's: ``<subject>/<challenge>/<image>.obj`` with seven points beside.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from paper_utils import safe_files
from paper_utils.data.face_lists import first_few, read_lines
from paper_utils.mesh.obj_files import read_obj
from paper_utils.metrics.mesh import FaceScan, Surface

LISTS = {"validation": "imagepathsvalidation.txt", "test": "imagepathstest.txt"}
CHALLENGES = ("multiview_neutral", "multiview_expressions", "multiview_occlusions", "selfie")
POINTS = 7  # eye corners from the outer right to the outer left one, bottom of the nose, mouth corners
NOSE_BOTTOM = 4


@dataclass(frozen=True)
class NowImage:
    """One photograph of the list.

    Parameters
    ----------
    subject, challenge, image
        Parts of its path.
    """

    subject: str
    challenge: str
    image: str

    @property
    def stem(self) -> str:
        """Path below a folder of reconstructions, without an ending."""
        return f"{self.subject}/{self.challenge}/{Path(self.image).stem}"


@dataclass(frozen=True)
class NowSet:
    """Index of the benchmark.

    Parameters
    ----------
    root
        The folder.
    images
        In the order of the list.
    """

    root: Path
    images: tuple[NowImage, ...]

    def __len__(self) -> int:
        return len(self.images)

    def picture(self, image: NowImage) -> Path:
        """The photograph."""
        return self.root / "iphone_pictures" / image.subject / image.challenge / image.image

    def scan(self, image: NowImage) -> FaceScan:
        """The scan of the person on a photograph, with its seven points. Raises as `read_obj` and `read_picked_points`."""
        mesh = read_obj(_only(self.root / "scans" / image.subject, "*.obj"))
        points = read_picked_points(_only(self.root / "scans_lmks_onlypp" / image.subject, "*.pp"))
        return FaceScan(Surface(mesh.vertices, mesh.triangles), points, NOSE_BOTTOM)


def read_now(root: str | Path, part: str = "validation", *, challenges: Sequence[str] = CHALLENGES) -> NowSet:
    """Index of a part of the benchmark.

    Parameters
    ----------
    root
        Holds the list, ``scans`` and ``scans_lmks_onlypp``.
    part
        validation or test; the scans of the test part are not given out.
    challenges
        Which of the four to take.

    Raises
    ------
    FileNotFoundError
        If the list, or the scans of a subject on it, are missing.
    ValueError
        If a part or challenge is unknown, or a line of the list is no path of three parts; the message has the line.
    """
    root = Path(root)
    if part not in LISTS:
        raise ValueError(f"part: expected one of {', '.join(LISTS)}, found {part!r}")
    unknown = [name for name in challenges if name not in CHALLENGES]
    if unknown or not challenges:
        raise ValueError(f"challenges: expected some of {', '.join(CHALLENGES)}, found {', '.join(unknown) or 'none'}")
    path, images = root / LISTS[part], []
    for number, line in enumerate(read_lines(path, "subject/challenge/image in each line"), 1):
        parts = line.strip().split("/")[-3:]
        if len(parts) != 3 or not all(parts) or ".." in parts or parts[1] not in CHALLENGES:
            raise ValueError(f"{path}: line {number} is {line!r}; expected subject/challenge/image")
        if parts[1] in challenges:
            images.append(NowImage(*parts))
    for subject in sorted({image.subject for image in images}):
        _only(root / "scans" / subject, "*.obj")
        _only(root / "scans_lmks_onlypp" / subject, "*.pp")
    return NowSet(root, tuple(images))


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if not found:
        raise FileNotFoundError(f"{folder}: no {pattern}; expected the scans and landmarks of the benchmark")
    if len(found) > 1:
        raise ValueError(f"{folder}: expected one {pattern}, found {first_few([path.name for path in found])}")
    return found[0]


def read_picked_points(path: str | Path) -> Float[np.ndarray, "7 3"]:
    """Seven points of a scan from MeshLab's ``.pp``: elements ``<point x="" y="" z=""/>`` in the benchmark's order.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no such file or has another number of points.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected picked points as .pp")
    text = path.read_bytes()
    if b"<!ENTITY" in text:  # expands to any size; MeshLab writes none
        raise ValueError(f"{path}: holds XML entities; expected picked points as MeshLab writes them")
    try:
        rows = [[float(point.attrib[axis]) for axis in "xyz"] for point in ElementTree.fromstring(text).iter("point")]
    except (ElementTree.ParseError, KeyError, ValueError) as error:
        raise ValueError(f"{path}: expected <point x= y= z=> elements ({type(error).__name__}: {error})") from error
    return _seven(path, np.array(rows, dtype=np.float64).reshape(-1, 3))


def _seven(path: Path, points: np.ndarray) -> np.ndarray:
    if points.shape != (POINTS, 3) or not np.isfinite(points).all():
        raise ValueError(f"{path}: expected {POINTS} points in space, found shape {points.shape} (or NaN among them)")
    return points.astype(np.float64)


def read_prediction(folder: str | Path, image: NowImage) -> FaceScan:
    """A reconstruction with its seven points, from ``<subject>/<challenge>/<image>.obj`` and ``.npy`` or ``.txt`` beside it.

    Raises
    ------
    FileNotFoundError
        If the mesh or the points are missing.
    ValueError
        If a file is damaged or has another number of points.
    """
    stem = Path(folder) / image.stem
    mesh = read_obj(stem.with_name(f"{stem.name}.obj"))
    binary, text = stem.with_name(f"{stem.name}.npy"), stem.with_name(f"{stem.name}.txt")
    if not (binary.is_file() or text.is_file()):
        raise FileNotFoundError(f"{binary}: no such file, and no {text.name}; expected the seven points of the mesh")
    path = binary if binary.is_file() else text
    expected = f"{POINTS} points in space"
    points = safe_files.npy(path, expected) if path == binary else safe_files.table(path, expected)
    return FaceScan(Surface(mesh.vertices, mesh.triangles), _seven(path, points), NOSE_BOTTOM)
