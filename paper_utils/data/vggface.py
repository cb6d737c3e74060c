"""VGGFace (the first one, 2,622 people): the archive of aligned frontal faces that papers 02 and 03 use, and the published lists of addresses."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor

from paper_utils.data.face_images import ImageError, ImageFiles, LabelledFaces, decode, string_array
from paper_utils.data.face_lists import first_few, read_folder, read_lines

SIZES = {"02": (128, 128), "03": (64, 64)}  # of paper 02 (from memory, unverified) and paper 03 (released code)
FRONTAL_POSE = 2.0  # `pose` above it is a frontal face (README of the lists, from memory and a public copy of it)
_PICTURE = re.compile(r"\d{8}\.jpg")
_LIST_LINE = "'id url left top right bottom pose detection_score curation'"


# --------------------------------------------------------------------------------------------------------------- images


@dataclass(frozen=True, kw_only=True)
class ScaledFaces(LabelledFaces):
    """Faces of any size, scaled to `size` with the bicubic filter when they are decoded.

    The released code of paper 03 asks for no filter by name and so depends on the version of the imaging library: nearest neighbour
    in old ones, bicubic in new ones.

    Parameters
    ----------
    squeeze
        Accept pictures whose shape is not that of `size` and squeeze them, as the released code does without a word. Otherwise they
        are an error, for a squeezed face has other proportions.
    """

    squeeze: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.landmarks is not None:
            raise ValueError(f"{self.name}: pictures that are scaled are aligned already; expected no landmarks")

    def _levels(self, row: int) -> Tensor:
        where = self.source.where(row)
        pixels = decode(self.source.encoded(row), where)
        height, width = pixels.shape[:2]
        # A pixel of the coarser picture is rounding.
        off = abs(height * self.size[1] - width * self.size[0])
        if not self.squeeze and off > max(*self.size, height, width):
            raise ImageError(
                f"{where}: {height} x {width} pixels (height x width) cannot be scaled to {self.size[0]} x {self.size[1]} without "
                "squeezing the face; align the pictures first, or allow it with squeeze=True"
            )
        if (height, width) != self.size:
            pixels = np.asarray(Image.fromarray(pixels).resize(self.size[::-1], Image.Resampling.BICUBIC))
        return torch.from_numpy(pixels.copy()).permute(2, 0, 1)

    @property
    def fingerprint(self) -> str:
        """Hash of the list of images, their identities, and how they are scaled."""
        return hashlib.sha256(f"{super().fingerprint} bicubic {self.squeeze}".encode()).hexdigest()[:16]

    def take(
        self, rows: Int[Tensor, " rows"], identities: Int[Tensor, " rows"], identity_names: tuple[str, ...], name: str
    ) -> ScaledFaces:
        """The chosen pictures under other identities."""
        source = ImageFiles(self.source.root, self.source.paths[rows.numpy()])
        return replace(self, source=source, name=name, identities=identities, identity_names=identity_names)


def read_archive(root: str | Path, *, size: tuple[int, int] = SIZES["03"], squeeze: bool = False) -> ScaledFaces:
    """Index of ``VGG_ALL_FRONTAL/<name>/<8 digits>.jpg``; no file is opened.

    Parameters
    ----------
    root
        The folder ``VGG_ALL_FRONTAL``.
    size
        Height and width that the pictures are scaled to when decoded.
    squeeze
        See `ScaledFaces`.

    Returns
    -------
    ScaledFaces
        Sorted by path, values (x - 127.5) / 127.5; people are numbered by their names. ``skipped`` lists files with other names, and folders
        without pictures.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    ValueError
        If it holds no picture of that name, or one person only.
    """
    root = Path(root)
    everything = read_folder(root, size=size)
    paths = everything.source.paths.tolist()
    kept = [row for row, path in enumerate(paths) if _PICTURE.fullmatch(path.split("/")[1])]
    others = [path for path in paths if not _PICTURE.fullmatch(path.split("/")[1])]
    if not kept:
        raise ValueError(
            f"{root}: none of its {len(paths)} pictures has a name of eight digits: {first_few(others)}; expected <name>/<8 digits>.jpg"
        )
    faces = ScaledFaces.from_names(
        ImageFiles(root, string_array([paths[row] for row in kept], str(root))),
        [paths[row].split("/")[0] for row in kept],
        root.name,
        size=size,
        skipped=sorted([*everything.skipped, *others]),
    )
    return replace(faces, squeeze=squeeze)


# -------------------------------------------------------------------------------------------------- lists of addresses


@dataclass(frozen=True)
class AddressList:
    """Where the pictures of one person were found, and where the face is on each: metadata only, nothing is fetched.

    Parameters
    ----------
    person
        Name of the list, which is the person's.
    ids
        Number of each picture, as eight digits in the archive's file names.
    urls
        Addresses at the time of publication (2015); many are dead.
    boxes
        Left, top, right, bottom in pixels.
    pose
        Kind of the detector that found the face; above `FRONTAL_POSE` it is seen from the front.
    score
        The detector's confidence.
    curated
        Whether the picture is part of the final set.
    """

    person: str
    ids: Int[np.ndarray, " pictures"]
    urls: np.ndarray
    boxes: Float[np.ndarray, "pictures 4"]
    pose: Float[np.ndarray, " pictures"]
    score: Float[np.ndarray, " pictures"]
    curated: Bool[np.ndarray, " pictures"]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def frontal(self) -> Bool[np.ndarray, " pictures"]:
        """Which faces are seen from the front."""
        return self.pose > FRONTAL_POSE


def read_addresses(path: str | Path) -> AddressList:
    """One of VGGFace's published lists, ``files/<name>.txt``: ``id url left top right bottom pose detection_score curation`` in every line.

    The layout is from memory and from a public copy of the set's README; the official files were not at hand.

    Parameters
    ----------
    path
        The list.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a line has not nine fields, one is not of its kind, a box is empty, or a number comes twice; the message has the line.
    """
    path = Path(path)
    ids, urls, numbers, curated, seen = [], [], [], [], {}
    for line_number, line in enumerate(read_lines(path, _LIST_LINE), 1):
        where = f"{path}: line {line_number}"
        parts = line.split()
        if len(parts) != 9:
            raise ValueError(f"{where} has {len(parts)} fields: {line[:80]!r}; expected {_LIST_LINE}")
        if not (parts[0].isascii() and parts[0].isdigit()) or "://" not in parts[1]:
            raise ValueError(f"{where} begins with {' '.join(parts[:2])[:80]!r}; expected a number and an address")
        if parts[8] not in ("0", "1"):
            raise ValueError(f"{where} has curation {parts[8]!r}; expected 0 or 1")
        try:
            values = [float(part) for part in parts[2:8]]
        except ValueError as error:
            raise ValueError(f"{where}: expected six numbers after the address ({error})") from error
        left, top, right, bottom = values[:4]
        if not (np.isfinite(values).all() and left < right and top < bottom):
            raise ValueError(f"{where} has the box {values[:4]}; expected left < right and top < bottom, in pixels")
        number = int(parts[0])
        if number in seen:
            raise ValueError(f"{where} repeats picture {parts[0]} of line {seen[number]}; keep one of them")
        seen[number] = line_number
        ids.append(number)
        urls.append(parts[1])
        numbers.append(values)
        curated.append(parts[8] == "1")
    table = np.array(numbers)
    return AddressList(
        person=path.stem,
        ids=np.array(ids, dtype=np.int64),
        urls=string_array(urls, str(path)),
        boxes=table[:, :4],
        pose=table[:, 4],
        score=table[:, 5],
        curated=np.array(curated),
    )


def read_all_addresses(root: str | Path, people: Sequence[str] | None = None) -> dict[str, AddressList]:
    """All lists of a folder ``files``, or those of the people named.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, it holds no list, or people have none; all of them are named.
    ValueError
        As `read_addresses`.
    """
    root = Path(root)
    held = {path.stem: path for path in sorted(root.glob("*.txt"))} if root.is_dir() else {}
    if not held:
        raise FileNotFoundError(
            f"{root}: no list <name>.txt; expected the folder 'files' of VGGFace, one list a person"
        )
    missing = [person for person in people or () if person not in held]
    if missing:
        raise FileNotFoundError(
            f"{root}: no list for {len(missing)} people: {first_few(missing)}; found {len(held)} lists"
        )
    return {person: read_addresses(held[person]) for person in (people if people is not None else held)}
