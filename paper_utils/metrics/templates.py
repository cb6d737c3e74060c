"""Templates: several images and video frames of one person fused into one direction, as IJB-B and IJB-C ask for.

Both rules of the official code (OpenSphere) are here: weights by detector confidence and media (branches of 2022), and by media alone
over both mirror images (2023). Papers 05 and 06 report verification and identification of such templates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse

from paper_utils.metrics import identification, verification

# Entries of the two gathered lists of features when pairs are scored: 32 MB each in float32.
BLOCK_ENTRIES = 8_000_000


@dataclass(frozen=True)
class FusedTemplates:
    """One unit vector a template.

    Parameters
    ----------
    ids
        Number of each template, in order of first appearance among the images.
    features
        Their directions.
    images, media
        How many images, and how many different pictures or videos, went into each.
    """

    ids: Int[np.ndarray, " templates"]
    features: Float[np.ndarray, "templates dim"]
    images: Int[np.ndarray, " templates"]
    media: Int[np.ndarray, " templates"]

    def rows(self, ids: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """Rows of template numbers.

        Raises
        ------
        ValueError
            If a number has no images, hence no media.
        """
        order = np.argsort(self.ids)
        rows = order[np.minimum(np.searchsorted(self.ids, ids, sorter=order), len(order) - 1)]
        absent = np.unique(ids[self.ids[rows] != ids])
        if len(absent):
            raise ValueError(
                f"ids: {len(absent)} templates have no media among the images, the first is {absent[0]}; "
                "are the lists of images and of templates of one release?"
            )
        return rows


def fuse_templates(
    features: Float[np.ndarray, "images dim"] | Float[np.ndarray, "images views dim"],
    template_ids: Int[np.ndarray, " images"],
    media_ids: Int[np.ndarray, " images"],
    *,
    faceness: Float[np.ndarray, " images"] | None = None,
) -> FusedTemplates:
    r"""Mean of image features in which a long video weighs as much as one picture, on the unit sphere.

    .. math:: t \propto \sum_{i} \frac{q_i}{n_i} \sum_v x_{iv}, \qquad n_i = \text{images of the same media in the template}

    Parameters
    ----------
    features
        As the network gives them, *not* of unit length: the length is part of the rule. With a second axis, the views of an image (the
        original and its mirror image) are averaged.
    template_ids, media_ids
        Which template each image belongs to, and which picture or video it comes from.
    faceness
        :math:`q`, confidence of the face detector (OpenSphere v0 and iclr); default 1 for all (OpenSphere main).

    Raises
    ------
    ValueError
        If lengths differ, there are no images, a feature or weight is not finite, a faceness is negative, or a template has no direction.

    References
    ----------
    Papers 05 and 06, evaluation on IJB-B and IJB-C; official code (OpenSphere v0, iclr, main).
    """
    images = len(features)
    quality = np.ones(images) if faceness is None else faceness
    lengths = (len(template_ids), len(media_ids), len(quality))
    if images == 0 or set(lengths) != {images}:
        raise ValueError(
            f"features: expected one row an image, found {images} rows and {lengths} template ids, media ids and faceness scores"
        )
    if not np.isfinite([features.min(), features.max()]).all():
        broken = ~np.isfinite(features.reshape(images, -1)).all(axis=1)
        raise ValueError(f"features: {int(broken.sum())} of {images} images have NaN or infinite features")
    if not np.isfinite(quality).all() or (quality < 0).any():
        wrong = int((~(np.isfinite(quality) & (quality >= 0))).sum())
        raise ValueError(f"faceness: expected finite scores of at least 0, found {wrong} others")
    sorted_ids, first, row = np.unique(template_ids, return_index=True, return_inverse=True)
    order = np.argsort(first)
    row = np.argsort(order)[row]
    media = np.unique(media_ids, return_inverse=True)[1]
    together, group, size = np.unique(
        row.astype(np.int64) * (media.max() + 1) + media, return_inverse=True, return_counts=True
    )
    summed = _weighted_sums(features, row, quality / size[group], len(order))
    norms = np.linalg.norm(summed, axis=1, keepdims=True)
    ids = sorted_ids[order]
    if (norms == 0).any():
        flat = ids[norms[:, 0] == 0]
        raise ValueError(
            f"template_ids: {len(flat)} templates have no direction, the first is {flat[0]}; "
            "is the faceness of all their images 0, or did the network return zeros?"
        )
    return FusedTemplates(
        ids=ids,
        features=summed / norms,
        images=np.bincount(row, minlength=len(ids)),
        media=np.bincount(together // (media.max() + 1), minlength=len(ids)),
    )


def _weighted_sums(features: np.ndarray, row: np.ndarray, weights: np.ndarray, templates: int) -> np.ndarray:
    """Sum of the features of each template; a sparse matrix does it without a copy of the features."""
    views = features.shape[1] if features.ndim == 3 else 1
    flat = features.reshape(-1, features.shape[-1])
    entries = (np.repeat(weights, views).astype(features.dtype), (np.repeat(row, views), np.arange(len(flat))))
    return sparse.csr_matrix(entries, shape=(templates, len(flat))) @ flat


def first_listings(
    template_ids: Int[np.ndarray, " lines"], subjects: Int[np.ndarray, " lines"]
) -> tuple[Int[np.ndarray, " kept"], int]:
    """Lines of a gallery or probe list whose template was not listed before, and how many were left out (as the official code does).

    Raises
    ------
    ValueError
        If one template is listed for two subjects.
    """
    _, first, inverse = np.unique(template_ids, return_index=True, return_inverse=True)
    conflict = np.flatnonzero(subjects != subjects[first][inverse])
    if len(conflict):
        line = conflict[0]
        raise ValueError(
            f"subjects: template {template_ids[line]} is listed for subjects {subjects[first][inverse][line]} and {subjects[line]} "
            f"({len(conflict)} such lines); a template shows one person"
        )
    return np.sort(first), len(template_ids) - len(first)


def pair_scores(
    features: Float[np.ndarray, "templates dim"], first: Int[np.ndarray, " pairs"], second: Int[np.ndarray, " pairs"]
) -> Float[np.ndarray, " pairs"]:
    """Cosine of pairs of rows of unit features; millions of pairs in blocks, so that little more than the scores is held."""
    scores = np.empty(len(first), dtype=features.dtype)
    block = max(1, BLOCK_ENTRIES // features.shape[1])
    for start in range(0, len(first), block):
        rows = slice(start, start + block)
        np.einsum("pd,pd->p", features[first[rows]], features[second[rows]], out=scores[rows])
    return scores


@dataclass(frozen=True)
class TemplateReport:
    """Both protocols of IJB.

    Parameters
    ----------
    verification
        1:1 on the listed pairs.
    identification
        1:N of all probes against all galleries.
    """

    verification: verification.Report
    identification: identification.IdentificationReport

    def official(self) -> dict[str, float]:
        """The numbers of the official tables under their official names, in percent."""
        tar = {f"TPR@FPR=1e-{_digits(point.far)}": 100 * point.tar for point in self.verification.points}
        top = {f"top{k}": 100 * share for k, share in self.identification.top.items()}
        tpir = {f"TPIR@FPIR=1e-{_digits(point.fpir)}": 100 * point.tpir for point in self.identification.opensphere}
        return {**tar, **top, **tpir}


def _digits(rate: float) -> int:
    return round(-np.log10(rate))


def evaluate_templates(
    templates: FusedTemplates,
    pairs: tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"], Bool[np.ndarray, " pairs"]],
    probes: tuple[Int[np.ndarray, " probes"], Int[np.ndarray, " probes"]],
    galleries: Sequence[tuple[Int[np.ndarray, " _"], Int[np.ndarray, " _"]]],
    *,
    method: str = "opensphere",
) -> TemplateReport:
    """All numbers of IJB-B or IJB-C.

    Parameters
    ----------
    templates
        From `fuse_templates`.
    pairs
        Rows of the first and of the second templates, and whether both are one person.
    probes, galleries
        Rows and subjects of the templates, each template once; IJB has two galleries.
    method
        Definition of TAR at a FAR, see `verification.operating_point`; the default is the official one.

    Raises
    ------
    ValueError
        As `verification.evaluate` and `identification.evaluate`.
    """
    first, second, same = pairs
    rows = np.concatenate([rows for rows, _ in galleries])
    subjects = np.concatenate([people for _, people in galleries])
    gallery = np.repeat(np.arange(len(galleries)), [len(rows) for rows, _ in galleries])
    scores = templates.features[probes[0]] @ templates.features[rows].T
    return TemplateReport(
        verification.evaluate(pair_scores(templates.features, first, second), same, method=method),
        identification.evaluate(scores, probes[1], subjects, gallery=gallery),
    )
