"""MICC Florence: scans of 53 people and videos of them, in the layout as distributed, with the landmarks published beside GANFit.

``subject_XX/Model/{frontal1,frontal2,...}/obj/*.obj`` are scans in mm; ``subject_XX/Video/`` holds one video for each of three settings, as
motion JPEG or, once unpacked, as a folder of pictures. The set is given out under a licence form.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8

from paper_utils import safe_files
from paper_utils.data.face_images import SUFFIXES, ImageBytes, ImageFiles, decode, string_array
from paper_utils.data.face_lists import first_few
from paper_utils.mesh.obj_files import read_obj
from paper_utils.metrics.mesh import FaceScan, Surface
from paper_utils.metrics.scan_protocols import RADIUS_MM

SUBJECTS = 53
SETTINGS = ("Indoor-Cooperative", "PTZ-Indoor", "PTZ-Outdoor")
FRONTAL = ("frontal1", "frontal2")  # the scans that errors are measured against
WITHOUT_SECOND_SCAN = 30  # GANFit's evaluation leaves this subject out, so that 52 remain
SMALLER_RADIUS_MM = {28: 60.0}  # GANFit's evaluation
FRAMES = 5  # of a video, whose shapes are averaged (GANFit's authors in public)
_SUBJECT = re.compile(r"subject_(\d{2})")
_VIDEO_SUFFIXES = (".mjpg", ".mjpeg")
_JPEG_START = b"\xff\xd8\xff"
# The end of a picture, perhaps the text with which cameras separate pictures, and the start of the next; pictures inside pictures are not cut.
_BETWEEN = re.compile(rb"\xff\xd9[^\xff]{0,512}\xff\xd8\xff")


@dataclass(frozen=True)
class Subject:
    """One person of the set.

    Parameters
    ----------
    number
        1 to 53.
    scans
        Files by the name of their folder: ``frontal1`` and so on.
    videos
        File or folder of each setting that is there.
    """

    number: int
    scans: dict[str, Path]
    videos: dict[str, Path]

    @property
    def radius_mm(self) -> float:
        """Radius around the nose tip for `paper_utils.metrics.scan_protocols.ganfit_error`."""
        return SMALLER_RADIUS_MM.get(self.number, RADIUS_MM)


@dataclass(frozen=True)
class Florence:
    """Index of the set.

    Parameters
    ----------
    root
        The folder.
    subjects
        In the order of their numbers.
    missing
        What the layout asks for and the folder does not hold, so that nobody wonders where it went.
    """

    root: Path
    subjects: tuple[Subject, ...]
    missing: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.subjects)

    @property
    def evaluated(self) -> tuple[Subject, ...]:
        """Subjects of GANFit's protocol: all but number 30."""
        return tuple(subject for subject in self.subjects if subject.number != WITHOUT_SECOND_SCAN)


def read_florence(root: str | Path, *, subjects: Sequence[int] | None = None) -> Florence:
    """Index of the set; no scan or video is opened. A part of the set is an index of that part.

    Parameters
    ----------
    root
        The folder that holds ``subject_01`` and so on.
    subjects
        Numbers of the people to take; all that are there if None.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or it lacks one of the `subjects`.
    ValueError
        If it holds no subject, or a subject without any frontal scan, or a scan's folder with several meshes.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(
            f"{root}: no such folder; expected MICC Florence with subject_01/Model/frontal1/obj/*.obj"
        )
    held = {
        int(m[1]): path for path in sorted(root.iterdir()) if path.is_dir() and (m := _SUBJECT.fullmatch(path.name))
    }
    if not held:
        raise ValueError(
            f"{root}: no folder subject_XX; expected MICC Florence with subject_01/Model/frontal1/obj/*.obj"
        )
    absent = [number for number in subjects or () if number not in held]
    if absent:
        raise FileNotFoundError(
            f"{root}: no subjects {first_few(absent)}; there are {len(held)}: {first_few(sorted(held))}"
        )
    found, missing = [], []
    for number in sorted(held if subjects is None else subjects):
        subject = Subject(number, _scans(held[number], missing), _videos(held[number], missing))
        if not any(name in subject.scans for name in FRONTAL):
            raise ValueError(f"{held[number]}: no scan Model/frontal1/obj/*.obj or Model/frontal2/obj/*.obj")
        found.append(subject)
    return Florence(root, tuple(found), tuple(missing))


def _scans(folder: Path, missing: list[str]) -> dict[str, Path]:
    scans = {}
    views = (
        sorted(path.name for path in (folder / "Model").iterdir() if path.is_dir())
        if (folder / "Model").is_dir()
        else []
    )
    for view in [*views, *(name for name in FRONTAL if name not in views)]:
        meshes = sorted((folder / "Model" / view / "obj").glob("*.obj"))
        if len(meshes) > 1:
            raise ValueError(
                f"{meshes[0].parent}: expected one mesh, found {first_few([mesh.name for mesh in meshes])}"
            )
        if meshes:
            scans[view] = meshes[0]
        else:
            missing.append(f"{folder.name}/Model/{view}/obj/*.obj")
    return scans


def _videos(folder: Path, missing: list[str]) -> dict[str, Path]:
    videos = {}
    for setting in SETTINGS:
        places = [folder / "Video" / setting, *(folder / "Video" / f"{setting}{end}" for end in _VIDEO_SUFFIXES)]
        place = next((path for path in places if path.exists()), None)
        if place is None:
            missing.append(f"{folder.name}/Video/{setting}")
        else:
            videos[setting] = place
    return videos


# --------------------------------------------------------------------------------------------------------------- scans


def read_ljson(path: str | Path) -> Float[np.ndarray, "68 3"]:
    """The 68 points of a scan, ``.ljson`` of the landmarker tool, in the scan's frame and unit.

    GANFit publishes one for each frontal scan under the scan's own path: ``MICC_landmarks/subject_XX/Model/frontal1/obj/<scan>.ljson``.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no such file, or a point is missing.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected 68 landmarks of the scan of the same name")
    try:
        content = safe_files.json_value(path, "68 landmarks as .ljson")
        # Version 2 of the format has named groups, version 3 of the tool writes one group at the top.
        group = content["groups"]["LJSON"] if "groups" in content else content
        rows = group["landmarks"]["points"]
        points = np.array([[np.nan if value is None else value for value in row] for row in rows], dtype=np.float64)
    except safe_files.UnreadableFileError:
        raise
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"{path}: expected landmarks as .ljson ({type(error).__name__}: {error})") from error
    if points.shape != (68, 3) or not np.isfinite(points).all():
        raise ValueError(
            f"{path}: expected 68 points in space, found shape {points.shape} with {int((~np.isfinite(points)).sum())} missing numbers"
        )
    return points


def landmark_path(scan: str | Path, root: str | Path, landmarks_root: str | Path) -> Path:
    """Where the landmarks of a scan are: the same path below another folder, ending in ``.ljson``."""
    return (Path(landmarks_root) / Path(scan).relative_to(root)).with_suffix(".ljson")


def read_scan(scan: str | Path, landmarks: str | Path) -> FaceScan:
    """A scan with its landmarks, ready for `paper_utils.metrics.scan_protocols`.

    Raises
    ------
    FileNotFoundError, ValueError
        As `read_obj` and `read_ljson`; or if a landmark is far from the scan, as when they belong to another one.
    """
    mesh = read_obj(scan)
    surface = Surface(mesh.vertices, mesh.triangles)
    points = read_ljson(landmarks)
    size = float(np.linalg.norm(np.ptp(surface.vertices[surface.faces.reshape(-1)], axis=0)))
    away = surface.point_to_surface(points)
    if away.max() > 0.2 * size:  # choice of ours: on a head of 300 mm a landmark is never 6 cm off
        raise ValueError(
            f"{landmarks}: landmark {int(away.argmax())} lies {away.max():.0f} from the surface of {scan}, whose size is {size:.0f}; "
            "do they belong together and have one unit?"
        )
    return FaceScan(surface, points)


# -------------------------------------------------------------------------------------------------------------- videos


@dataclass(frozen=True)
class Video:
    """Encoded frames of a video.

    Parameters
    ----------
    frames
        In their order.
    name
        For messages.
    """

    frames: ImageFiles | ImageBytes
    name: str

    def __len__(self) -> int:
        return len(self.frames)

    def pixels(self, frame: int) -> UInt8[np.ndarray, "height width 3"]:
        """One frame as RGB; raises `ImageError` if it is damaged."""
        return decode(self.frames.encoded(frame), self.frames.where(frame))

    def chosen(self, count: int = FRAMES, *, seed: int) -> Int[np.ndarray, " chosen"]:
        """Numbers of different frames drawn at random, in their order; all of them if there are fewer."""
        rng = np.random.default_rng(seed)
        return np.sort(rng.choice(len(self), size=min(count, len(self)), replace=False))


def open_video(path: str | Path) -> Video:
    """A video of the set: a motion JPEG file (pictures one after the other), or a folder of pictures sorted by name.

    Raises
    ------
    FileNotFoundError
        If there is nothing.
    ValueError
        If it holds no picture.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(file.name for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
        if not files:
            raise ValueError(f"{path}: no picture in this folder; expected the frames of a video")
        return Video(ImageFiles(path, string_array(files, str(path))), str(path))
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such video; expected a .mjpg file or a folder of pictures")
    data = path.read_bytes()
    begin = data.find(_JPEG_START)
    cuts = list(_BETWEEN.finditer(data, max(begin, 0)))
    starts = [begin, *(cut.end() - len(_JPEG_START) for cut in cuts)]
    ends = [*(cut.start() + 2 for cut in cuts), len(data)]
    frames = [data[start:end] for start, end in zip(starts, ends, strict=True)] if begin >= 0 else []
    if not frames:
        raise ValueError(
            f"{path}: no JPEG picture in {len(data)} bytes; expected motion JPEG; unpack it to a folder of pictures"
        )
    return Video(ImageBytes(tuple(frames), str(path)), str(path))
