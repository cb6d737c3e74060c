"""What notebook 05 trains: heads of papers 05 and 06 side by side on the same people.

It stands above both methods, which do not know each other, and below the notebook and `paper_utils.train`, which both use it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import lightning_fabric
import numpy as np
import torch
from jaxtyping import Float

from paper_utils.data import digits, photographs
from paper_utils.data.samples import LabelledImages
from paper_utils.experiment import Experiment
from paper_utils.methods import sphereface2, sphereface_r
from paper_utils.open_set import Job, TrainConfig, random_splits
from paper_utils.world.recognition import recognition_faces

SOFTMAX_MARGIN = ("CosFace", "ArcFace", "SphereFace")
NOISE = 0.3


@dataclass(frozen=True)
class BinaryStudy:
    """Faces and trainings of notebook 05.

    Parameters
    ----------
    faces
        What the networks see.
    pictures
        The same faces as pictures, in the same order.
    full
        SphereFace2-C at this scale; the last step of the ladder.
    jobs
        Trainings by name: heads (``"ArcFace"``), with label noise (``"ArcFace, noise"``), the ladder (``"+ scale"``), and controls.
    """

    faces: LabelledImages
    pictures: LabelledImages
    full: sphereface2.HeadConfig
    jobs: dict[str, Job]


def _people(exp: Experiment, count: int, views: int) -> tuple[LabelledImages, LabelledImages]:
    """What networks see of people, and pictures of them: synthetic faces, or each handwritten digit photographed as if it were a person."""
    if exp.data == "digits":
        taken, _ = photographs.photograph(digits.load(), views, generator=exp.generator("camera"))
        drawings = taken.of(taken.identities.unique()[:count].tolist())
        return drawings, drawings
    return recognition_faces(count, views, seed=exp.seed)


def binary_study(exp: Experiment) -> BinaryStudy:
    """All trainings of notebook 05, none of which has run.

    Scaled to a few hundred classes: with K = 200, softmax heads need a scale of at least 7.5 to allow a probability of .9, 16 leaves the
    margin room; margins are about half of the published ones for 8,631 classes. Choices of ours, the same for all runs.
    """
    people, unseen, strangers, views = exp.scale(
        smoke=(24, 16, 6, 8), quick=(200, 120, 60, 20), full=(2000, 500, 300, 30)
    )
    faces, pictures = _people(exp, people + unseen + strangers, views)
    runs = exp.scale(smoke=2, quick=5, full=10)
    steps = exp.scale(smoke=6, quick=250, full=3000)
    train = TrainConfig(hidden=(128, 128), dim=32, steps=steps, batch_size=128, decay_at=(0.6, 0.85), standardise=True)
    splits = random_splits(faces.identities, people, unseen, rng=exp.rng("splits"), seeds=exp.seeds(runs))
    full = sphereface2.HeadConfig("C", 0.2, scale=20.0)
    softmax = {"scale": 16.0, "loss_weight": None}
    heads = {
        "NormFace": sphereface_r.HeadConfig("normface", 0.0, **softmax),
        "CosFace": sphereface_r.HeadConfig("cosface", 0.2, **softmax),
        "ArcFace": sphereface_r.HeadConfig("arcface", 0.3, **softmax),
        "SphereFace": sphereface_r.HeadConfig("v0", 1.5, **softmax),
        "SphereFace2-C": full,
        "SphereFace2-A": sphereface2.HeadConfig("A", 0.25, scale=20.0),
    }
    jobs = {name: Job(head, faces, splits, train) for name, head in heads.items()}
    noisy, blind = (tuple(dataclasses.replace(split, noise=share) for split in splits) for share in (NOISE, 1.0))
    for name in (*SOFTMAX_MARGIN, "SphereFace2-C"):
        jobs[f"{name}, noise"] = Job(heads[name], faces, noisy, train)
    for name in ("ArcFace", "SphereFace2-C"):
        jobs[f"{name}, only noise"] = Job(heads[name], faces, blind, train)
    jobs |= {name: Job(head, faces, splits, train) for name, head in sphereface2.ladder(full).items() if head != full}
    deal = torch.randperm(len(faces), generator=exp.generator("deal"))
    dealt = LabelledImages(faces.images, faces.identities[deal], f"{faces.name}, dealt at random")
    jobs |= {
        f"{name}, dealt": Job(head, dealt, splits, train)
        for name, head in (("naive", jobs["naive"].head), ("SphereFace2-C", full))
    }
    jobs["SphereFace2-C, raw"] = Job(full, faces, splits, dataclasses.replace(train, standardise=False))
    others = [sorted(set(faces.identities.tolist()) - {*split.train, *split.test})[:strangers] for split in splits]
    watched = tuple(
        dataclasses.replace(split, strangers=tuple(some)) for split, some in zip(splits, others, strict=True)
    )
    jobs["SphereFace2-C, strangers"] = Job(full, faces, watched, train)
    return BinaryStudy(faces, pictures, full, jobs)


def trainings(exp: Experiment) -> dict[str, Callable[[lightning_fabric.Fabric], Float[np.ndarray, "steps members"]]]:
    """The study's trainings as calls that fill the cache and give the loss of every step."""
    return {
        name: lambda fabric, job=job: job.run(fabric).history["loss"] for name, job in binary_study(exp).jobs.items()
    }
