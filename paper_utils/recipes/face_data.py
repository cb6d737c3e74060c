"""Finds the face data of a recipe below one folder, in the layouts that the official code and InsightFace use.

Nothing is guessed: what was looked for is said when nothing is there, and when several things are there the user names one.
"""

from __future__ import annotations

from pathlib import Path

from paper_utils.data import face_lists, ijb, insightface
from paper_utils.data.face_images import SIZE, SUFFIXES, FacePairs, LabelledFaces

LIST_SUFFIX = "_train_ann.txt"  # OpenSphere v0 and iclr; main has .lst
FOLDS = 10  # the official pair lists hold 300 + 300 pairs in each of ten contiguous folds


def _check_root(root: Path) -> None:
    if not root.is_dir():
        raise FileNotFoundError(
            f"{root}: no such folder; --data-root is the folder that holds the official data (train/, val/, test/, or train.rec)"
        )


# ------------------------------------------------------------------------------------------------------- training sets


def training_places(root: Path, name: str) -> list[Path]:
    """Where the training set `name` may lie: lists of OpenSphere, RecordIO of InsightFace, and a folder for each identity."""
    folders = [root / "train", root, root / name, root / "train" / name]
    lists = [folder / f"{name}{end}" for folder in folders[:2] for end in (LIST_SUFFIX, ".lst")]
    return [*lists, *(folder / "train.rec" for folder in folders), *(folder / name for folder in folders[:2])]


def find_training_set(root: str | Path, name: str, *, size: tuple[int, int] = SIZE) -> LabelledFaces:
    """The training set `name` below `root`.

    A list or a RecordIO file goes before a folder of identities, since the official folder lies beside its list.

    Parameters
    ----------
    root
        The folder of the user's data.
    name
        Such as ``vggface2``.
    size
        Height and width of the aligned pictures.

    Raises
    ------
    FileNotFoundError
        If there is no such folder or no training set in it; every place that was looked at is named.
    ValueError
        If there are several lists or RecordIO files; or the set is damaged (see `read_training_set`).
    """
    root = Path(root)
    _check_root(root)
    places = training_places(root, name)
    files = [place for place in places if place.is_file()]
    if len(files) > 1:
        raise ValueError(
            f"{root}: found {len(files)} training sets: {', '.join(map(str, files))}; name one of them with --train-data"
        )
    # A folder that holds a RecordIO file is no folder of identities.
    folders = [place for place in places if place.is_dir() and not (place / "train.rec").is_file()]
    if files or folders:
        return read_training_set((files or folders)[0], size=size)
    looked = ", ".join(
        str(place.relative_to(root)) + ("" if place.suffix else "/<identity>/<image>") for place in places
    )
    raise FileNotFoundError(f"{root}: no training set {name!r}; looked for {looked}. Or name it with --train-data")


def read_training_set(path: str | Path, *, size: tuple[int, int] = SIZE) -> LabelledFaces:
    """A training set by its list (``*_train_ann.txt``, ``*.lst``), its RecordIO file (``*.rec``) or its folder of identities.

    Parameters
    ----------
    path
        Paths in a list start from the list's own folder.
    size
        Height and width of the aligned pictures.

    Raises
    ------
    FileNotFoundError, ValueError
        As the reader of that layout.
    """
    path = Path(path)
    if path.is_dir():
        return face_lists.read_folder(path, size=size)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file or folder; expected a training list, a .rec file or a folder")
    if path.suffix == ".rec":
        return insightface.read_records(path, size=size)
    if path.suffix == ".lst":
        return face_lists.read_lst(path, path.parent, size=size)
    return face_lists.read_training_list(path, path.parent, size=size)


# ----------------------------------------------------------------------------------------------------- validation sets


def find_validation_sets(root: str | Path, *, size: tuple[int, int] = SIZE) -> dict[str, FacePairs]:
    """All lists of pairs below `root`, by their path in it.

    Looked for: OpenSphere's ``*_ann.txt`` and ``*_pairs.lst`` in ``val/`` (paths relative to it); its pairs of training images
    ``train/*_train<number>_ann.txt``; InsightFace's ``*.bin`` in the folder itself, ``val/`` and ``train/``; LFW's ``pairs.txt`` in ``lfw/``
    or ``val/lfw/`` with the people's folders beside it, or in ``lfw/`` beside it, at the size of the training pictures.

    Parameters
    ----------
    root
        The folder of the user's data.
    size
        Height and width of the pictures.

    Returns
    -------
    dict
        Empty if there are none; sorted by path.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such folder, or a list is damaged or names missing images.
    """
    root = Path(root)
    _check_root(root)
    found: dict[Path, FacePairs] = {}
    lists = [path for end in face_lists.PAIR_SUFFIXES for path in (root / "val").glob(f"*{end}")]
    for path in [*lists, *(root / "train").glob("*_train[0-9]*_ann.txt")]:
        found[path] = face_lists.read_pair_list(path, path.parent, size=size)
    for path in (path for folder in (root, root / "val", root / "train") for path in folder.glob("*.bin")):
        found[path] = insightface.read_bin(path, size=size, folds=FOLDS)
    for path in (folder / "pairs.txt" for folder in (root / "lfw", root / "val" / "lfw")):
        if path.is_file():
            images = path.parent / "lfw" if (path.parent / "lfw").is_dir() else path.parent
            suffix = next((end for end in SUFFIXES if any(images.glob(f"*/*{end}"))), SUFFIXES[0])
            found[path] = face_lists.read_lfw_pairs(path, images, size=size, suffix=suffix)
    return {path.relative_to(root).as_posix(): found[path] for path in sorted(found)}


# ------------------------------------------------------------------------------------------------------------------ IJB


def find_ijb(root: str | Path) -> dict[ijb.Layout, Path]:
    """The benchmarks below `root`, with their folders (``IJB-B`` or ``test/IJB-B``, each with ``meta`` and ``loose_crop``)."""
    root = Path(root)
    _check_root(root)
    places = {layout: [folder / layout.name for folder in (root / "test", root)] for layout in (ijb.IJB_B, ijb.IJB_C)}
    return {
        layout: next(folder for folder in folders if (folder / "meta").is_dir())
        for layout, folders in places.items()
        if any((folder / "meta").is_dir() for folder in folders)
    }
