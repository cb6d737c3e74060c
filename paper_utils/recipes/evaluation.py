"""Tests a face network on lists of pairs and on IJB-B and IJB-C, with the definitions of the official tables and the careful ones.

Several processes embed their parts of the pictures; the numbers are the same on any number of them.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning_fabric
import numpy as np
import torch
from jaxtyping import Float
from torch import nn
from torch.nn import functional

from paper_utils.data import ijb
from paper_utils.data.face_images import FaceImages, FacePairs, decoded_ahead
from paper_utils.metrics import templates, verification
from paper_utils.nn import backbones
from paper_utils.nn.exchanges import Ranks
from paper_utils.recipes import face_data

FARS = (1e-4, 1e-3, 1e-2, 1e-1)  # lists of 6,000 pairs resolve 1 / 3,000
LAST = 5  # the official tables are means over the last five checkpoints
TEMPLATE_RULES = {"v0": True, "iclr": True, "main": False}  # whether images are weighted by the detector's confidence


def embed_faces(
    backbone: nn.Module,
    faces: FaceImages,
    fabric: lightning_fabric.Fabric,
    *,
    batch_size: int = 256,
    threads: int = 4,
) -> Float[np.ndarray, "n features"]:
    r"""Embeddings :math:`f(x) + f(\bar x)` of all pictures, mirror images included, in float32; the processes share the work.

    Parameters
    ----------
    backbone
        The plain network, not its wrapper; it is in evaluation mode during the call and as before after it.
    faces
        The pictures, decoded in the background.
    fabric
        The launched processes; each of them gets all embeddings.
    batch_size, threads
        Pictures a portion, and portions decoded at once.
    """
    world, rank = fabric.world_size, fabric.global_rank
    each = -(-len(faces) // world)  # rounded up; the last process may have fewer, or none
    own = torch.arange(min(rank * each, len(faces)), min((rank + 1) * each, len(faces)))
    was_training = backbone.training
    backbone.eval()
    rows = iter(own.split(batch_size) if len(own) else ())
    with contextlib.closing(decoded_ahead(faces, rows, threads=threads)) as some:
        portions = [backbones.embed(backbone, images, batch_size=batch_size) for images in some]
    backbone.train(was_training)
    width = backbone.config.features
    embeddings = torch.cat([torch.empty(0, width), *portions])
    if world > 1:
        padded = functional.pad(embeddings, (0, 0, 0, each - len(own))).to(fabric.device)
        embeddings = Ranks().all_gather(padded, "embeddings", "apart")[: len(faces)].cpu()
    return embeddings.numpy()


def share_buffers(backbone: nn.Module, fabric: lightning_fabric.Fabric) -> None:
    """Give every process the running statistics of the first, as data-parallel training does before its next step."""
    if fabric.world_size > 1:
        for buffer in backbone.buffers():
            torch.distributed.broadcast(buffer, src=0)


# ---------------------------------------------------------------------------------------------------------------- pairs


def unit_rows(embeddings: Float[np.ndarray, "n features"], name: str) -> Float[np.ndarray, "n features"]:
    """Embeddings of length 1.

    Raises
    ------
    ValueError
        If one is not finite or has no length.
    """
    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
    broken = int((~(np.isfinite(norms) & (norms > 0))).sum())
    if broken:
        raise ValueError(f"{name}: {broken} of {len(norms)} embeddings are zero or not finite; has the run diverged?")
    return embeddings / norms


def pair_numbers(embeddings: Float[np.ndarray, "n features"], pairs: FacePairs) -> dict[str, Any]:
    """All numbers of one list of pairs, as shares in [0, 1]; None where the list cannot tell.

    Parameters
    ----------
    embeddings
        Of ``pairs.faces``, in their order, any length.
    pairs
        Which of them are compared.

    Returns
    -------
    dict
        ``accuracy_oracle`` (OpenSphere's ACC, a threshold that has seen the answers), ``accuracy_10fold`` and its ``accuracy_10fold_std``
        (InsightFace's grid of thresholds), ``eer``, ``auc``, ``tar_at_far`` by rate, ``notes``.
    """
    unit = unit_rows(embeddings, pairs.name)
    first, second = unit[pairs.first], unit[pairs.second]
    report = verification.evaluate((first * second).sum(1), pairs.same, fars=FARS)
    folds = pairs.folds if pairs.folds > 1 else min(face_data.FOLDS, len(pairs))
    fold = verification.tenfold_accuracy(verification.squared_distances(first, second), pairs.same, folds=folds)
    return {
        "pairs": len(pairs),
        "folds": folds,
        "accuracy_oracle": report.oracle_accuracy,
        "accuracy_10fold": fold.mean,
        "accuracy_10fold_std": fold.std,
        "eer": report.eer,
        "auc": report.auc,
        "tar_at_far": {f"{point.far:g}": _plain(point.tar) for point in report.points},
        "notes": list(report.notes),
    }


def evaluate_pairs(
    backbone: nn.Module,
    sets: Mapping[str, FacePairs],
    fabric: lightning_fabric.Fabric,
    *,
    batch_size: int = 256,
    threads: int = 4,
) -> dict[str, dict[str, Any]]:
    """`pair_numbers` of every list, by its name; arguments as in `embed_faces`."""
    share_buffers(backbone, fabric)
    options = {"batch_size": batch_size, "threads": threads}
    return {
        name: pair_numbers(embed_faces(backbone, pairs.faces, fabric, **options), pairs) for name, pairs in sets.items()
    }


def mean_of(reports: list[dict[str, dict[str, Any]]]) -> dict[str, dict[str, float]]:
    """Mean of accuracies, EER and AUC over several checkpoints, as the official tables are averaged; of the lists that all have."""
    numbers = ("accuracy_oracle", "accuracy_10fold", "eer", "auc")
    return {
        name: {number: float(np.mean([report[name][number] for report in reports])) for number in numbers}
        for name in reports[-1]
        if all(name in report for report in reports)
    }


# ------------------------------------------------------------------------------------------------------------------ IJB


def evaluate_ijb(
    backbone: nn.Module,
    root: str | Path,
    fabric: lightning_fabric.Fabric,
    *,
    layout: ijb.Layout = ijb.IJB_B,
    branch: str = "v0",
    batch_size: int = 256,
    threads: int = 4,
) -> dict[str, Any]:
    """IJB-B or IJB-C, both protocols.

    Parameters
    ----------
    backbone
        Made for pictures of 112 x 112.
    root
        Folder of the benchmark, with ``meta`` and ``loose_crop``.
    fabric, batch_size, threads
        See `embed_faces`.
    layout
        `ijb.IJB_B` or `ijb.IJB_C`.
    branch
        Whose template rule: images weigh by detector confidence and media (``"v0"``, ``"iclr"``) or by media alone (``"main"``).

    Returns
    -------
    dict
        ``official``: the numbers of the official tables in percent (TAR interpolated, TPIR counted over scores). Beside them, as shares:
        ``tar_at_far`` of real thresholds only, ``top``, ``tpir_opensphere`` and ``tpir_nist`` by rate (mean over both galleries);
        ``counts`` of what was read; ``notes``.

    Raises
    ------
    FileNotFoundError, ValueError
        As `ijb.load_meta` and `Ijb.faces`; for an unknown branch.
    """
    if branch not in TEMPLATE_RULES:
        raise ValueError(f"branch: expected one of {', '.join(TEMPLATE_RULES)}; found {branch!r}")
    root = Path(root)
    found = ijb.load_meta(root / "meta", layout)
    share_buffers(backbone, fabric)
    faces = found.faces(root / "loose_crop")
    features = embed_faces(backbone, faces, fabric, batch_size=batch_size, threads=threads)
    members = found.templates
    fused = templates.fuse_templates(
        features,
        members.image_template,
        members.image_media,
        faceness=members.faceness if TEMPLATE_RULES[branch] else None,
    )
    pairs = (found.pairs.first, found.pairs.second, found.pairs.same)
    report = templates.evaluate_templates(
        fused,
        pairs,
        (found.probes.templates, found.probes.subjects),
        [(gallery.templates, gallery.subjects) for gallery in found.galleries],
    )
    scores = templates.pair_scores(fused.features, found.pairs.first, found.pairs.second)
    exact = verification.evaluate(scores, found.pairs.same)
    who = report.identification
    rates = [f"{point.fpir:g}" for point in who.opensphere]
    return {
        "official": {name: _plain(value) for name, value in report.official().items()},
        "tar_at_far": {f"{point.far:g}": _plain(point.tar) for point in exact.points},
        "eer": exact.eer,
        "top": {str(k): share for k, share in who.top.items()},
        "tpir_opensphere": dict(zip(rates, [_plain(point.tpir) for point in who.opensphere], strict=True)),
        "tpir_nist": dict(zip(rates, map(_plain, who.nist_mean), strict=True)),
        "counts": found.report(),
        "notes": [*exact.notes, *report.verification.notes, *who.notes],
    }


def evaluate_everything(
    backbone: nn.Module,
    root: str | Path,
    fabric: lightning_fabric.Fabric,
    *,
    branch: str,
    batch_size: int = 256,
    threads: int = 4,
) -> dict[str, Any]:
    """All pair lists and benchmarks below `root`.

    Raises
    ------
    FileNotFoundError
        If there is none of them.
    """
    options = {"batch_size": batch_size, "threads": threads}
    sets = face_data.find_validation_sets(root, size=tuple(backbone.config.image_size))
    benchmarks = face_data.find_ijb(root)
    if not sets and not benchmarks:
        raise FileNotFoundError(
            f"{root}: nothing to evaluate on; looked for val/*_ann.txt, val/*_pairs.lst, *.bin, lfw/pairs.txt, test/IJB-B and test/IJB-C"
        )
    return {
        "pairs": evaluate_pairs(backbone, sets, fabric, **options),
        "ijb": {
            layout.name: evaluate_ijb(backbone, folder, fabric, layout=layout, branch=branch, **options)
            for layout, folder in benchmarks.items()
        },
    }


def _plain(value: float) -> float | None:
    """What JSON can hold: None for NaN."""
    return None if math.isnan(value) else float(value)


def summary(report: Mapping[str, Mapping[str, Any]]) -> str:
    """One line for each list of pairs, for the terminal."""
    return "\n".join(
        f"  {name:<24} accuracy {100 * numbers['accuracy_10fold']:.2f} % in {numbers['folds']} folds "
        f"({100 * numbers['accuracy_oracle']:.2f} % oracle), EER {100 * numbers['eer']:.2f} %, AUC {numbers['auc']:.5f}"
        for name, numbers in report.items()
    )
