"""IJB-B and IJB-C: templates (sets of images and video frames of one person), pairs of them, galleries and probes.

Reads the official meta files into arrays that template fusion and both protocols need; the images are decoded and aligned when asked for.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from paper_utils.data.face_images import FaceImages, ImageFiles, string_array
from paper_utils.data.face_lists import check_paths, first_few, read_lines


@dataclass(frozen=True)
class Layout:
    """How the files of a benchmark are called: prefix, and the two halves of the gallery (official code, OpenSphere)."""

    name: str
    prefix: str
    galleries: tuple[str, ...]


IJB_B = Layout("IJB-B", "ijbb", ("S1", "S2"))
IJB_C = Layout("IJB-C", "ijbc", ("G1", "G2"))


@dataclass(frozen=True)
class Templates:
    """Which images make up which template.

    Parameters
    ----------
    ids
        Official number of each template, in order of first appearance.
    image_template
        For each image its row in `ids`.
    image_media
        For each image the number of the still picture or video it comes from.
    media_weights
        1 / (images of the same media in the same template): a long video weighs as much as one picture.
    faceness
        Confidence of the face detector.
    """

    ids: Int[np.ndarray, " templates"]
    image_template: Int[np.ndarray, " images"]
    image_media: Int[np.ndarray, " images"]
    media_weights: Float[np.ndarray, " images"]
    faceness: Float[np.ndarray, " images"]

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, ids: Int[np.ndarray, " n"], what: str) -> Int[np.ndarray, " n"]:
        """Rows of official numbers.

        Raises
        ------
        ValueError
            If a number has no images; all such numbers are counted.
        """
        order = np.argsort(self.ids)
        place = np.searchsorted(self.ids[order], ids)
        rows = order[np.minimum(place, len(order) - 1)]
        absent = np.unique(ids[self.ids[rows] != ids])
        if len(absent):
            raise ValueError(
                f"{what}: {len(absent)} template ids have no media (no line of face_tid_mid names them): {first_few(absent.tolist())}; "
                "are the files of one release?"
            )
        return rows


@dataclass(frozen=True)
class TemplatePairs:
    """Pairs for 1:1 verification.

    Parameters
    ----------
    first, second
        Rows of `Templates`.
    same
        Whether both are one person.
    """

    first: Int[np.ndarray, " pairs"]
    second: Int[np.ndarray, " pairs"]
    same: Bool[np.ndarray, " pairs"]

    def __len__(self) -> int:
        return len(self.same)


@dataclass(frozen=True)
class TemplateList:
    """A gallery, or the probes, of 1:N identification.

    Parameters
    ----------
    name
        Such as ``"S1"`` or ``"probe_mixed"``.
    templates
        Rows of `Templates`, each once, in the order of the file.
    subjects
        The person of each.
    repeated
        Lines left out because their template was listed before (in this or an earlier gallery), as the official code does.
    """

    name: str
    templates: Int[np.ndarray, " n"]
    subjects: Int[np.ndarray, " n"]
    repeated: int

    def __len__(self) -> int:
        return len(self.templates)


@dataclass(frozen=True)
class Ijb:
    """One benchmark.

    Parameters
    ----------
    name
        ``"IJB-B"`` or ``"IJB-C"``.
    image_names
        File name of each image, in the order of the meta files.
    landmarks
        Left eye, right eye, nose and mouth corners of each image, (right, down) in pixels.
    templates
        What they make up.
    pairs
        Of templates, for verification.
    galleries
        Both halves; concatenated in the official protocol, apart in NIST's.
    probes
        Of identification.
    """

    name: str
    image_names: np.ndarray
    landmarks: Float[np.ndarray, "images 5 2"]
    templates: Templates
    pairs: TemplatePairs
    galleries: tuple[TemplateList, ...]
    probes: TemplateList

    def faces(self, folder: str | Path, *, check_files: bool = True) -> FaceImages:
        """The images of ``loose_crop``, aligned to 112 x 112 when decoded.

        Raises
        ------
        FileNotFoundError
            If the folder or images are missing (`face_lists.MissingImagesError` has all of their names).
        ValueError
            If a name leads out of the folder.
        """
        folder = Path(folder)
        check_paths(self.image_names.tolist(), folder, self.name, check_files=check_files)
        return FaceImages(source=ImageFiles(folder, self.image_names), name=self.name, landmarks=self.landmarks)

    def report(self) -> dict[str, int]:
        """Counts that a reader compares with the official sizes, left-out lines included."""
        lists = (*self.galleries, self.probes)
        media = np.unique(np.stack([self.templates.image_template, self.templates.image_media]), axis=1)
        return {
            "images": len(self.image_names),
            "templates": len(self.templates),
            "media in templates": media.shape[1],
            "pairs": len(self.pairs),
            "same pairs": int(self.pairs.same.sum()),
            **{f"{entry.name} templates": len(entry) for entry in lists},
            **{f"{entry.name} lines repeated": entry.repeated for entry in lists},
        }


# -------------------------------------------------------------------------------------------------------------- reading


def load_meta(folder: str | Path, layout: Layout = IJB_B) -> Ijb:
    """All meta files of a benchmark.

    Parameters
    ----------
    folder
        ``IJB-B/meta``: ``<p>_name_5pts_score.txt``, ``<p>_face_tid_mid.txt``, ``<p>_template_pair_label.txt``, ``<p>_1N_gallery_*.csv``,
        ``<p>_1N_probe_mixed.csv``.
    layout
        `IJB_B` or `IJB_C`.

    Raises
    ------
    FileNotFoundError
        If files are missing; all of them are named.
    ValueError
        If a line is damaged (file and line are named), the two image lists do not agree line by line, a label is not 0 or 1, a template
        has no media or no weight, or a template belongs to two people.
    """
    folder, prefix = Path(folder), layout.prefix
    names = ["name_5pts_score.txt", "face_tid_mid.txt", "template_pair_label.txt"]
    names += [f"1N_gallery_{half}.csv" for half in layout.galleries] + ["1N_probe_mixed.csv"]
    paths = [folder / f"{prefix}_{name}" for name in names]
    absent = [path.name for path in paths if not path.is_file()]
    if absent:
        raise FileNotFoundError(f"{folder}: missing {', '.join(absent)}; expected the meta folder of {layout.name}")
    image_names, landmarks, templates = _images(paths[0], paths[1])
    subjects: dict[int, int] = {}
    galleries = tuple(
        _template_list(path, half, templates, subjects)
        for path, half in zip(paths[3:-1], layout.galleries, strict=True)
    )
    probes = _template_list(paths[-1], "probe_mixed", templates, {})
    return Ijb(layout.name, image_names, landmarks, templates, _pairs(paths[2], templates), galleries, probes)


def _table(path: Path, kinds: tuple[type, ...], form: str) -> list[np.ndarray]:
    """Columns of a file of fields between blanks, every line of the same form."""
    kind_of = {column: str if kind is str else np.dtype(kind) for column, kind in enumerate(kinds)}
    try:
        table = pd.read_csv(
            path,
            sep=r"\s+",
            header=None,
            dtype=kind_of,
            na_filter=False,
            skip_blank_lines=False,
            quoting=csv.QUOTE_NONE,
        )
        if table.shape[1] == len(kinds):
            return [table[column].to_numpy() for column in table]
    except (
        ValueError,
        OverflowError,
    ):  # the parser's own errors are of this kind; they name no line that a reader would find
        pass
    for number, line in enumerate(read_lines(path, form), 1):
        fields = line.split()
        if len(fields) != len(kinds) or not all(_is(kind, field) for kind, field in zip(kinds, fields, strict=True)):
            raise ValueError(f"{path}: line {number} is {line[:120]!r}; expected '{form}'")
    raise ValueError(f"{path}: not readable as lines of '{form}'; was it saved by a spreadsheet?")


def _is(kind: type, field: str) -> bool:
    if kind is str:
        return True
    try:
        return bool(np.isfinite(np.dtype(kind).type(kind(field))))
    except (ValueError, OverflowError):
        return False


def _images(points: Path, members: Path) -> tuple[np.ndarray, np.ndarray, Templates]:
    """The two lists of images, joined line by line."""
    names, *values = _table(points, (str, *[float] * 11), "image.jpg x1 y1 x2 y2 x3 y3 x4 y4 x5 y5 score")
    other_names, template, media = _table(members, (str, int, int), "image.jpg template_id media_id")
    if len(names) != len(other_names):
        raise ValueError(
            f"{points.name} has {len(names)} lines, {members.name} has {len(other_names)}; they are joined line by line"
        )
    differ = np.flatnonzero(names != other_names)
    if len(differ):
        line = differ[0]
        raise ValueError(
            f"{points.name} and {members.name} name different images in {len(differ)} lines, the first is line {line + 1}: "
            f"{names[line]!r} and {other_names[line]!r}; they must be in the same order"
        )
    numbers = np.stack(values, axis=1)
    wrong = np.flatnonzero(~np.isfinite(numbers).all(axis=1) | (numbers[:, -1] < 0))
    if len(wrong):
        raise ValueError(
            f"{points}: {len(wrong)} lines hold NaN, infinite values or a negative score, the first is line {wrong[0] + 1}"
        )
    templates = group(template, media, numbers[:, -1])
    return string_array(names.tolist(), str(points)), numbers[:, :-1].reshape(-1, 5, 2), templates


def group(
    template: Int[np.ndarray, " images"], media: Int[np.ndarray, " images"], faceness: Float[np.ndarray, " images"]
) -> Templates:
    """Templates in order of first appearance, with the weight of each image by its media.

    Raises
    ------
    ValueError
        If all images of a template have faceness 0.
    """
    sorted_ids, first, inverse = np.unique(template, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    image_template = rank[inverse]
    media_number = np.unique(media, return_inverse=True)[1]
    together = image_template.astype(np.int64) * (media_number.max() + 1) + media_number
    _, place, counts = np.unique(together, return_inverse=True, return_counts=True)
    ids = sorted_ids[order]
    weightless = ids[np.bincount(image_template, faceness, len(ids)) <= 0]
    if len(weightless):
        raise ValueError(
            f"{len(weightless)} templates have faceness 0 in all of their images: {first_few(weightless.tolist())}"
        )
    return Templates(ids, image_template, media, 1.0 / counts[place], faceness)


def _pairs(path: Path, templates: Templates) -> TemplatePairs:
    first, second, label = _table(path, (int, int, int), "template_id template_id label")
    wrong = np.flatnonzero((label != 0) & (label != 1))
    if len(wrong):
        raise ValueError(
            f"{path}: {len(wrong)} labels are not 0 or 1, the first is {label[wrong[0]]} in line {wrong[0] + 1}; expected 1 (same person) or 0"
        )
    return TemplatePairs(templates.rows(first, str(path)), templates.rows(second, str(path)), label == 1)


def _template_list(path: Path, name: str, templates: Templates, subjects: dict[int, int]) -> TemplateList:
    """First two columns of a CSV with a header line; `subjects` remembers the templates that were listed before."""
    form = "TEMPLATE_ID,SUBJECT_ID,..."
    head, *lines = read_lines(path, form)
    if head.split(",")[0].strip().strip('"').isdigit():
        raise ValueError(f"{path}: line 1 is {head[:80]!r}, a line of data; expected the header '{form}'")
    ids, people = [], []
    for number, line in enumerate(lines, 2):
        fields = [field.strip() for field in line.split(",", 2)[:2]]
        if len(fields) != 2 or not all(_is(int, field) for field in fields):
            raise ValueError(f"{path}: line {number} is {line[:120]!r}; expected '{form}' with two whole numbers")
        template, person = int(fields[0]), int(fields[1])
        if template in subjects:
            if subjects[template] != person:
                raise ValueError(
                    f"{path}: line {number} gives template {template} to person {person}, it was listed for {subjects[template]}"
                )
            continue
        subjects[template] = person
        ids.append(template)
        people.append(person)
    if not ids:
        raise ValueError(
            f"{path}: none of its {len(lines)} lines lists a template that is new; is the same gallery given twice?"
        )
    rows = templates.rows(np.array(ids), str(path))
    return TemplateList(name, rows, np.array(people), len(lines) - len(ids))
