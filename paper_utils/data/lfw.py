"""Labeled Faces in the Wild as scikit-learn keeps it: ``lfw_home`` with the pictures and the pair lists.

The files are read here, not through scikit-learn's cache of pickles; its fetcher is called for one thing only, the download, and only if
the caller allows that in so many words.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn import datasets
from torch import Tensor

from paper_utils.data.face_images import FacePairs, ImageError, LabelledFaces, decode
from paper_utils.data.face_lists import read_folder, read_lfw_pairs
from paper_utils.data.samples import LabelledImages

# The part of the 250 x 250 pictures that shows the face, and its scale: scikit-learn's defaults (rows 70-194, columns 78-171, halved).
CROP = (70, 195, 78, 172)
SCALE = 0.5
MIN_IMAGES = 10  # pictures of a person to be taken; choice of ours: 158 people in the full set, from memory, unverified
PAIR_FILES = {"10_folds": "pairs.txt", "train": "pairsDevTrain.txt", "test": "pairsDevTest.txt"}


def home(data_home: str | Path | None = None, *, funneled: bool = True, download: bool = False) -> Path:
    """The folder ``lfw_home``, complete.

    Parameters
    ----------
    data_home
        scikit-learn's data folder; by default ``~/scikit_learn_data`` or what ``SCIKIT_LEARN_DATA`` says.
    funneled
        The roughly aligned pictures (``lfw_funneled``) or the original ones (``lfw``).
    download
        Allow fetching about 200 MB from the internet if something is missing. Never done otherwise.

    Raises
    ------
    FileNotFoundError
        If pictures or pair lists are missing and no download is allowed; all of them are named.
    """
    root = (Path(data_home) if data_home is not None else _default_home()) / "lfw_home"
    needed = [root / ("lfw_funneled" if funneled else "lfw"), *(root / name for name in PAIR_FILES.values())]
    missing = [path for path in needed if not path.exists()]
    if missing and download:
        # The smallest of its sets; the fetcher checks the checksums of what it downloads.
        datasets.fetch_lfw_pairs(subset="test", data_home=str(root.parent), funneled=funneled, download_if_missing=True)
        missing = [path for path in needed if not path.exists()]
    if missing:
        raise FileNotFoundError(
            f"LFW is not complete: missing {', '.join(map(str, missing))}. Unpack lfw-funneled.tgz and the pair lists there, "
            "or allow the download of about 200 MB with download=True"
        )
    return root


def _default_home() -> Path:
    """scikit-learn's own rule, without its habit of making the folder."""
    return Path(os.environ.get("SCIKIT_LEARN_DATA", Path.home() / "scikit_learn_data"))


def count_people(
    data_home: str | Path | None = None, *, min_images: int = MIN_IMAGES, funneled: bool = True, download: bool = False
) -> int:
    """How many people have at least `min_images` pictures; arguments as for `load`, no picture is read."""
    root = home(data_home, funneled=funneled, download=download) / ("lfw_funneled" if funneled else "lfw")
    return int((torch.bincount(read_folder(root).identities) >= min_images).sum())


def load(
    data_home: str | Path | None = None,
    *,
    min_images: int = MIN_IMAGES,
    max_images: int | None = None,
    first: int | None = None,
    people: int | None = None,
    crop: tuple[int, int, int, int] = CROP,
    scale: float = SCALE,
    funneled: bool = True,
    download: bool = False,
) -> LabelledImages:
    """Pictures of the people who have at least `min_images` of them, cut out and scaled as scikit-learn does, in colour.

    Parameters
    ----------
    data_home, funneled, download
        As for `home`.
    min_images, max_images
        Pictures that a person must have, and may have at most (``None``: any number).
    first
        Take so many pictures of each person, the first ones (``None``: all of them).
    people
        Take at most so many people, evenly spaced in the sorted list of names (``None``: all of them).
    crop
        First and last row (exclusive), first and last column (exclusive) of the 250 x 250 pictures.
    scale
        Size of the result relative to the crop.

    Returns
    -------
    LabelledImages
        ``images`` (n, 3, 62, 47) with the defaults, in [-1, 1], in order of folders and files; people are numbered by their
        names with blanks for ``_``.

    Raises
    ------
    FileNotFoundError
        If the data is not there and no download is allowed.
    ValueError
        If fewer than two people have enough pictures, the crop is empty or leaves a picture, or a picture is damaged.
    """
    root = home(data_home, funneled=funneled, download=download) / ("lfw_funneled" if funneled else "lfw")
    everybody = read_folder(root)
    names = [name.replace("_", " ") for name in everybody.identity_names]
    counts = torch.bincount(everybody.identities, minlength=len(names))
    most = int(counts.max()) if max_images is None else max_images
    wanted = f"{min_images} pictures or more" if max_images is None else f"{min_images} to {max_images} pictures"
    chosen = sorted(person for person, count in zip(names, counts.tolist(), strict=True) if min_images <= count <= most)
    if len(chosen) < 2:
        raise ValueError(
            f"{root}: {len(chosen)} of {len(names)} people have {wanted}, expected at least two; "
            + ("lower min_images" if max_images is None else "widen min_images and max_images")
        )
    if people is not None and people < len(chosen):
        chosen = [chosen[place] for place in np.linspace(0, len(chosen) - 1, people).round().astype(int)]
    number = {person: index for index, person in enumerate(chosen)}
    index = torch.tensor([number.get(person, -1) for person in names])[everybody.identities]
    # The pictures of a person follow each other in order of their file names.
    place = torch.arange(len(index)) - (counts.cumsum(0) - counts)[everybody.identities]
    rows = torch.nonzero((index >= 0) & (place < (len(index) if first is None else first))).flatten()
    images = torch.stack([_cut(everybody, row, crop, scale) for row in rows.tolist()])
    return LabelledImages(images, index[rows], f"LFW, people with {wanted}")


def _cut(faces: LabelledFaces, row: int, crop: tuple[int, int, int, int], scale: float) -> Tensor:
    where = faces.source.where(row)
    pixels = decode(faces.source.encoded(row), where)
    top, bottom, left, right = crop
    size = (int(scale * (right - left)), int(scale * (bottom - top)))
    if not (0 <= top < bottom <= pixels.shape[0] and 0 <= left < right <= pixels.shape[1] and min(size) > 0):
        raise ImageError(
            f"{where}: cannot cut rows {top}..{bottom}, columns {left}..{right} at scale {scale} out of {pixels.shape[:2]} pixels"
        )
    small = np.asarray(Image.fromarray(pixels[top:bottom, left:right]).resize(size))
    return torch.from_numpy(small.copy()).permute(2, 0, 1).float() / 127.5 - 1.0


def load_pairs(
    data_home: str | Path | None = None, *, subset: str = "10_folds", funneled: bool = True, download: bool = False
) -> FacePairs:
    """The pairs of LFW's protocol, on the whole 250 x 250 pictures.

    Parameters
    ----------
    data_home, funneled, download
        As for `home`.
    subset
        ``"10_folds"`` (6,000 pairs in 10 folds), ``"train"`` or ``"test"`` (development lists).

    Raises
    ------
    FileNotFoundError
        If the data is not there and no download is allowed, or a listed picture is missing.
    ValueError
        If the subset is unknown or the list is damaged.
    """
    if subset not in PAIR_FILES:
        raise ValueError(f"subset: expected one of {', '.join(PAIR_FILES)}, found {subset!r}")
    root = home(data_home, funneled=funneled, download=download)
    return read_lfw_pairs(root / PAIR_FILES[subset], root / ("lfw_funneled" if funneled else "lfw"))
