"""Face images listed in text files or sorted into folders: the layouts of OpenSphere (all branches) and of LFW, and label noise.

A list is checked as a whole when it is read (encoding, fields, paths, files that must exist), so that a training of days does not end
on line three million.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from paper_utils.data.face_images import SIZE, SUFFIXES, FaceImages, FacePairs, ImageFiles, LabelledFaces, string_array

# The five validation lists of OpenSphere; `combined` holds the pairs of the other four.
PAIR_LISTS = ("lfw", "agedb_30", "calfw", "cplfw", "combined")
PAIR_SUFFIXES = ("_ann.txt", "_pairs.lst")  # branches v0 and iclr; branch main
SHOWN = 5  # entries of a long list that a message names


class MissingImagesError(FileNotFoundError):
    """Images that a list names and the folder does not hold; ``missing`` has all of them."""

    def __init__(self, message: str, missing: tuple[str, ...]) -> None:
        super().__init__(message)
        self.missing = missing


# ------------------------------------------------------------------------------------------------------- text and paths


def first_few(values: Sequence[object], shown: int = SHOWN) -> str:
    """The first entries of a list, and how many more there are."""
    more = len(values) - shown
    return ", ".join(map(str, values[:shown])) + (f" and {more} more" if more > 0 else "")


def read_lines(path: str | Path, expected: str) -> list[str]:
    """Lines of a UTF-8 text file, without line ends; empty lines only at the end, where they are dropped.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is empty, not UTF-8, or has an empty line or a null character; the message names file and line.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected {expected}")
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}: line {line} is not UTF-8 ({error.reason} at byte {error.start}); convert the list to UTF-8"
        ) from error
    if not text.strip():
        raise ValueError(f"{path}: is empty ({len(data)} bytes); expected {expected}")
    if "\0" in text:
        raise ValueError(
            f"{path}: line {text.count(chr(10), 0, text.index(chr(0))) + 1} holds a null character; expected {expected}"
        )
    lines = text.rstrip().replace("\r\n", "\n").split("\n")
    for number, line in enumerate(lines, 1):
        if not line or line.isspace():
            raise ValueError(f"{path}: line {number} is empty; expected {expected} in every line")
    return lines


def check_paths(
    paths: Sequence[str], root: Path, listing: str, *, check_files: bool = True, kind: str = "images"
) -> None:
    """Refuse paths that leave the folder, and name the images (or whatever `kind` says) that it does not hold.

    Parameters
    ----------
    paths
        Relative to `root`, with ``/``.
    root
        The folder.
    listing
        The list's name, for messages.
    check_files
        Whether to look for the files: each folder is listed once, no file is opened.
    kind
        What the files are, for messages.

    Raises
    ------
    ValueError
        If a path is absolute, goes through ``..``, or has a backslash.
    FileNotFoundError
        If there is no such folder, or it lacks images (`MissingImagesError`).
    """
    unsafe = [
        path for path in paths if path[:1] in ("/", "") or "\\" in path or (".." in path and ".." in path.split("/"))
    ]
    if unsafe:
        raise ValueError(
            f"{listing}: {len(unsafe)} paths lead out of {root} or are not relative with '/': {first_few(unsafe)}; "
            "write paths below the root"
        )
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder; expected the {kind} that {listing} names")
    if not check_files:
        return
    held: dict[str, set[str]] = {}
    missing = []
    for path in paths:
        folder, name = posixpath.split(path)
        if folder not in held:
            inside = root / folder
            held[folder] = set(os.listdir(inside)) if inside.is_dir() else set()
        if name not in held[folder]:
            missing.append(path)
    if missing:
        missing = list(dict.fromkeys(missing))
        raise MissingImagesError(
            f"{listing}: {len(missing)} of the {kind} it names are not in {root}: {first_few(missing)}; complete the download or correct the list",
            tuple(missing),
        )


# ------------------------------------------------------------------------------------------------------ training lists


def read_training_list(
    path: str | Path, root: str | Path, *, size: tuple[int, int] = SIZE, check_files: bool = True
) -> LabelledFaces:
    """Training list of OpenSphere's branches v0 and iclr: ``relative/path.jpg identity_name`` in every line.

    Parameters
    ----------
    path
        The list, ``data/train/<name>_train_ann.txt``.
    root
        Folder that the paths start from, ``data/train``.
    size
        Height and width of the aligned images.
    check_files
        Whether to look for every image now (one listing of each folder) or only when it is decoded.

    Returns
    -------
    LabelledFaces
        Identity = place of the name in the sorted list of distinct names, as the official code counts.

    Raises
    ------
    FileNotFoundError
        If the list, the root or images are missing (`MissingImagesError` has all of their paths).
    ValueError
        If the list is not UTF-8, a line has not two fields, a path leaves the root, or there is one identity only.
    """
    path, root = Path(path), Path(root)
    paths, names = [], []
    for number, line in enumerate(read_lines(path, "'relative/path.jpg identity_name'"), 1):
        fields = line.split()
        if len(fields) != 2:
            raise ValueError(
                f"{path}: line {number} has {len(fields)} fields: {line[:80]!r}; expected 'relative/path.jpg identity_name' without other blanks"
            )
        paths.append(fields[0])
        names.append(fields[1])
    return _labelled(path, root, paths, names, size, check_files)


def read_lst(
    path: str | Path, root: str | Path, *, size: tuple[int, int] = SIZE, check_files: bool = True
) -> LabelledFaces:
    """Training list of OpenSphere's branch main: one relative path in every line, the identity is its folder part.

    Parameters, returns and errors as for `read_training_list`; a path without a folder has no identity and is refused.
    """
    path, root = Path(path), Path(root)
    paths = [line.rstrip() for line in read_lines(path, "'identity/image.jpg'")]
    names = [posixpath.dirname(entry) for entry in paths]
    if "" in names:
        number = names.index("")
        raise ValueError(
            f"{path}: line {number + 1} ({paths[number]!r}) has no folder part; expected 'identity/image.jpg'"
        )
    return _labelled(path, root, paths, names, size, check_files)


def _labelled(
    path: Path, root: Path, paths: list[str], names: list[str], size: tuple[int, int], check_files: bool
) -> LabelledFaces:
    check_paths(paths, root, str(path), check_files=check_files)
    source = ImageFiles(root, string_array(paths, str(path)))
    try:
        return LabelledFaces.from_names(source, names, path.stem.removesuffix("_train_ann"), size=size)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def read_folder(root: str | Path, *, size: tuple[int, int] = SIZE) -> LabelledFaces:
    """One folder for each identity, images directly in it (InsightFace's image folder; VGGFace2, CASIA-WebFace and LFW as unpacked).

    Parameters
    ----------
    root
        Holds the identities' folders.
    size
        Height and width of the images.

    Returns
    -------
    LabelledFaces
        Sorted by folder and file name. ``skipped`` lists what is no image (by its suffix) and folders without images.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    ValueError
        If no image or only one identity is found.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder; expected one folder for each identity")
    paths, names, skipped = [], [], []
    for person in sorted(os.listdir(root)):
        if not (root / person).is_dir():
            skipped.append(person)
            continue
        inside = sorted(os.listdir(root / person))
        images = [file for file in inside if file.lower().endswith(SUFFIXES)]
        skipped += [f"{person}/{file}" for file in inside if not file.lower().endswith(SUFFIXES)]
        skipped += [] if images else [f"{person}/ (no image)"]
        paths += [f"{person}/{file}" for file in images]
        names += [person] * len(images)
    if not paths:
        raise ValueError(
            f"{root}: found no image in any of its folders ({len(skipped)} other entries: {first_few(skipped)}); "
            f"expected identity/image with {', '.join(SUFFIXES)}"
        )
    source = ImageFiles(root, string_array(paths, str(root)))
    return LabelledFaces.from_names(source, names, root.name, size=size, skipped=skipped)


# ---------------------------------------------------------------------------------------------------------- label noise


@dataclass(frozen=True)
class LabelNoise:
    """Labels of which some were drawn anew.

    Parameters
    ----------
    identities
        The labels after the draw.
    redrawn
        Whose label was drawn anew; it may have hit the true one.
    changed
        Whose label is now wrong.
    ratio
        The rate that was asked for.
    classes
        Number of identities.
    """

    identities: Int[Tensor, " n"]
    redrawn: Bool[Tensor, " n"]
    changed: Bool[Tensor, " n"]
    ratio: float
    classes: int

    @property
    def effective_rate(self) -> float:
        """Share of wrong labels; `expected_rate` on average."""
        return float(self.changed.double().mean())

    @property
    def expected_rate(self) -> float:
        r""":math:`\rho (1 - 1/K)`, since one draw in :math:`K` hits the true label."""
        return self.ratio * (1 - 1 / self.classes)


def redraw_labels(
    identities: Int[Tensor, " n"], classes: int, ratio: float, *, generator: torch.Generator
) -> LabelNoise:
    """Closed-set label noise by the rule of the official code: with probability `ratio` a label is drawn anew from all labels.

    The rule is the official one, the random numbers are not: the code seeds Python's own generator (10086 in the published configuration).

    Parameters
    ----------
    identities
        True labels in ``[0, classes)``.
    classes
        Number of identities K; each is as likely, however many images it has.
    ratio
        In [0, 1]; the paper's published configuration has 0.6.
    generator
        Source of the draws, on CPU.

    Raises
    ------
    ValueError
        If the ratio or a label is out of range.

    References
    ----------
    Paper 05, section 3.3; OpenSphere, class data set.
    """
    if not 0 <= ratio <= 1:
        raise ValueError(f"ratio: expected a share of labels in [0, 1], found {ratio}")
    if len(identities) == 0 or int(identities.min()) < 0 or int(identities.max()) >= classes:
        raise ValueError(
            f"identities: expected labels in 0..{classes - 1}, at least one, found {identities.unique().tolist()[:5]}"
        )
    redrawn = torch.rand(len(identities), generator=generator) < ratio
    drawn = torch.randint(classes, (len(identities),), generator=generator)
    noisy = torch.where(redrawn, drawn, identities)
    return LabelNoise(noisy, redrawn, noisy != identities, ratio, classes)


def with_label_noise(
    faces: LabelledFaces, ratio: float, *, generator: torch.Generator
) -> tuple[LabelledFaces, LabelNoise]:
    """The same images with labels from `redraw_labels`, and what was changed; the fingerprint changes with the labels."""
    noise = redraw_labels(faces.identities, len(faces.identity_names), ratio, generator=generator)
    name = f"{faces.name}, {ratio:.0%} of labels drawn anew ({noise.effective_rate:.1%} wrong)"
    return faces.with_identities(noise.identities, name), noise


# ----------------------------------------------------------------------------------------------------------- pair lists


def read_pair_list(
    path: str | Path, root: str | Path, *, size: tuple[int, int] = SIZE, folds: int = 1, check_files: bool = True
) -> FacePairs:
    """Pair list of OpenSphere: ``label path0 path1`` in every line, label 1 for the same person and 0 for different ones.

    Parameters
    ----------
    path
        The list, such as ``data/val/lfw_ann.txt`` or ``lfw_pairs.lst``.
    root
        Folder that the paths start from, ``data/val``.
    size
        Height and width of the aligned images.
    folds
        How many equal contiguous folds the list is made of (10 for the official lists of 6,000 pairs).
    check_files
        Whether to look for every image now or only when it is decoded.

    Returns
    -------
    FacePairs
        Its images are the distinct paths, sorted, so that each is embedded once.

    Raises
    ------
    FileNotFoundError
        If the list, the root or images are missing (`MissingImagesError` has all of their paths).
    ValueError
        If the list is not UTF-8, a line has not three fields, a label is not 0 or 1, a path leaves the root, only one kind of pair is there.
    """
    path, root = Path(path), Path(root)
    rows = []
    for number, line in enumerate(read_lines(path, "'label path0 path1'"), 1):
        fields = line.split()
        if len(fields) != 3:
            raise ValueError(
                f"{path}: line {number} has {len(fields)} fields: {line[:80]!r}; expected 'label path0 path1'"
            )
        if fields[0] not in ("0", "1"):
            raise ValueError(
                f"{path}: line {number} has label {fields[0]!r}; expected 1 (same person) or 0 (different)"
            )
        rows.append(fields)
    labels, first, second = zip(*rows, strict=True)
    same = np.array([label == "1" for label in labels])
    return _pairs(path, root, first, second, same, size, folds, check_files)


def read_validation(
    root: str | Path, names: Sequence[str] = PAIR_LISTS, *, size: tuple[int, int] = SIZE
) -> dict[str, FacePairs]:
    """The pair lists of OpenSphere's ``data/val``, in either spelling of the file names (``lfw_ann.txt``, ``lfw_pairs.lst``).

    Raises
    ------
    FileNotFoundError
        If lists are missing; all of them are named.
    ValueError
        As `read_pair_list`.
    """
    root = Path(root)
    found = {
        name: next((root / f"{name}{end}" for end in PAIR_SUFFIXES if (root / f"{name}{end}").is_file()), None)
        for name in names
    }
    absent = [name for name, path in found.items() if path is None]
    if absent:
        raise FileNotFoundError(
            f"{root}: no pair list for {', '.join(absent)}; expected NAME{' or NAME'.join(PAIR_SUFFIXES)}, or ask only for the names that are there"
        )
    return {name: read_pair_list(path, root, size=size) for name, path in found.items() if path is not None}


def read_lfw_pairs(
    path: str | Path,
    root: str | Path,
    *,
    size: tuple[int, int] = (250, 250),
    suffix: str = ".jpg",
    check_files: bool = True,
) -> FacePairs:
    """LFW's own ``pairs.txt`` with its folder of images ``Name/Name_0001.jpg``.

    The first line holds folds and pairs a kind, ``10<tab>300`` (the development lists state the pairs only). Each fold lists its pairs of
    one person, ``name n1 n2``, then as many of two people, ``name1 n1 name2 n2``. (Layout from memory of the data set's description.)

    Parameters
    ----------
    path
        The list.
    root
        Folder with one folder for each person.
    size
        Height and width of the images; LFW as distributed has 250 x 250, aligned copies 112 x 112.
    suffix
        Of the image files.
    check_files
        Whether to look for every image now or only when it is decoded.

    Raises
    ------
    FileNotFoundError
        If the list, the root or images are missing (`MissingImagesError` has all of their paths).
    ValueError
        If the first line and the number or kinds of pairs disagree, or a line is damaged.
    """
    path, root = Path(path), Path(root)
    head, *lines = read_lines(path, "a pair of LFW")
    counts = head.split()
    if not (1 <= len(counts) <= 2 and all(_whole(count) for count in counts)):
        raise ValueError(
            f"{path}: line 1 is {head[:80]!r}; expected the number of folds and of pairs a kind, such as '10<tab>300'"
        )
    folds, each = int(counts[0]) if len(counts) == 2 else 1, int(counts[-1])
    if len(lines) != 2 * folds * each:
        raise ValueError(
            f"{path}: line 1 promises {folds} folds of {each} same and {each} different pairs, {2 * folds * each} in all; found {len(lines)}"
        )
    first, second, same = [], [], np.zeros(len(lines), dtype=bool)
    for index, line in enumerate(lines):
        fields = line.split()
        expected_same = index // each % 2 == 0
        people, numbers = (fields[:1] * 2, fields[1:]) if expected_same else (fields[0::2], fields[1::2])
        if len(fields) != (3 if expected_same else 4) or not all(_whole(number) for number in numbers):
            form = "'name n1 n2' (same person)" if expected_same else "'name1 n1 name2 n2' (different people)"
            raise ValueError(f"{path}: line {index + 2} is {line[:80]!r}; expected {form} at this place of its fold")
        files = [f"{name}/{name}_{int(number):04d}{suffix}" for name, number in zip(people, numbers, strict=True)]
        first.append(files[0])
        second.append(files[1])
        same[index] = expected_same
    return _pairs(path, root, first, second, same, size, folds, check_files)


def _whole(text: str) -> bool:
    """Whether the text is a positive whole number of sane length."""
    return text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0


def _pairs(
    path: Path,
    root: Path,
    first: Sequence[str],
    second: Sequence[str],
    same: np.ndarray,
    size: tuple[int, int],
    folds: int,
    check_files: bool,
) -> FacePairs:
    images = sorted({*first, *second})
    check_paths(images, root, str(path), check_files=check_files)
    row = {image: index for index, image in enumerate(images)}
    name = path.stem.removesuffix("_ann").removesuffix("_pairs")
    faces = FaceImages(source=ImageFiles(root, string_array(images, str(path))), name=name, size=size)
    left, right = (np.array([row[image] for image in side], dtype=np.int64) for side in (first, second))
    try:
        return FacePairs(faces, left, right, same, name, folds)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
