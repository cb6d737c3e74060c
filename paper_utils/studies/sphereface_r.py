"""What notebook 06 trains: the family of margins on the same people, with and without detachment, and three normalisations."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import lightning_fabric
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from paper_utils.data import digits, photographs
from paper_utils.data.samples import LabelledImages
from paper_utils.experiment import Experiment
from paper_utils.methods.sphereface_r import MULTIPLICATIVE, HeadConfig
from paper_utils.open_set import Job, TrainConfig, random_splits


@dataclass(frozen=True)
class Study:
    """What the notebook measures, also for training it beforehand on other machines.

    Parameters
    ----------
    drawings
        The real images that people are made of.
    people, quality
        Photographs of people, and the planted quality of each.
    factors
        Margins of the sweep.
    jobs
        Trainings by name.
    """

    drawings: LabelledImages
    people: LabelledImages
    quality: Float[Tensor, " n"]
    factors: tuple[float, ...]
    jobs: dict[str, Job]


def load_people(exp: Experiment) -> tuple[LabelledImages, LabelledImages, Float[Tensor, " n"]]:
    """Drawings, photographs of them as people, and the quality of each photograph; real faces come in here as they are."""
    drawings = digits.load()
    views = exp.scale(smoke=8, quick=20, full=20)
    return drawings, *photographs.photograph(drawings, views, generator=exp.generator("camera"))


def study(exp: Experiment) -> Study:
    """All trainings of the notebook.

    Names: the seven heads (``"v1"``), the stress test (``"sweep v1 full"``, members in the order of the factors), the three
    normalisations (``"NFN v1"``), the world in which pictures are dealt to people at random (``"dealt v1"``), and ``"six digits"``.
    """
    drawings, people, quality = load_people(exp)
    runs = exp.scale(smoke=2, quick=8, full=20)
    learned, unseen = exp.scale(smoke=(12, 20), quick=(120, 80), full=(400, 200))
    # The heads differ by about a point, the gradients by many: the heads get twice the runs, the first of which all others share.
    many = random_splits(people.identities, learned, unseen, rng=exp.rng("splits"), seeds=exp.seeds(2 * runs))
    splits = many[:runs]
    train = TrainConfig(hidden=(96,), dim=32, steps=exp.scale(smoke=6, quick=150, full=1000))
    short = (1.0, 1.4, 2.0, 4.0)
    factors = exp.scale(smoke=short, quick=short, full=(1.0, 1.2, 1.4, 1.5, 1.7, 2.0, 3.0, 4.0))
    # Scales: 16 leaves the margin room above the 7 that 120 classes need at least; v2 lifts all other classes and gets 20.
    heads = {
        "softmax": HeadConfig("softmax"),
        "normface": HeadConfig("normface", 0.0, scale=16.0, loss_weight=None),
        "cosface": HeadConfig("cosface", 0.2, scale=16.0, loss_weight=None),
        "arcface": HeadConfig("arcface", 0.3, scale=16.0, loss_weight=None),
        "v0": HeadConfig("v0", 1.5, scale=16.0, loss_weight=None),
        "v1": HeadConfig("v1", 1.4, scale=16.0, loss_weight=None),
        "v2": HeadConfig("v2", 1.4, scale=20.0, loss_weight=None),
    }
    jobs = {name: Job(head, people, many, train) for name, head in heads.items()}
    traced = dataclasses.replace(train, diagnose_every=3)
    side_by_side = tuple(factor for factor in factors for _ in splits)
    growth = tuple(int(share * train.steps) for share in (0.1, 0.2, 0.3, 0.4))
    for psi in MULTIPLICATIVE:
        for name, detach in (("detached", True), ("full", False)):
            head = dataclasses.replace(heads[psi], margin=side_by_side, detach=detach)
            jobs[f"sweep {psi} {name}"] = Job(head, people, splits * len(factors), traced)
        same_margin = dataclasses.replace(heads[psi], margin=1.4)
        jobs[f"HFN {psi}"] = Job(same_margin, people, splits, train)
        for scheme in ("NFN", "SFN"):
            head = dataclasses.replace(same_margin, normalization=scheme, growth_steps=growth)
            jobs[f"{scheme} {psi}"] = Job(head, people, splits, train)
    deal = torch.randperm(len(people), generator=exp.generator("deal"))
    dealt = LabelledImages(people.images, people.identities[deal], f"{people.name}, dealt at random")
    for name in ("normface", "v1", "NFN v1"):
        jobs[f"dealt {name}"] = dataclasses.replace(jobs[name], data=dealt, splits=splits)
    six = random_splits(drawings.identities, 6, 4, rng=exp.rng("six digits"), seeds=exp.seeds(runs))
    jobs["six digits"] = Job(heads["normface"], drawings, six, train)
    return Study(drawings, people, quality, factors, jobs)


def trainings(exp: Experiment) -> dict[str, Callable[[lightning_fabric.Fabric], Float[np.ndarray, "steps members"]]]:
    """The study's trainings as calls that fill the cache and give the loss of every step."""
    return {name: lambda fabric, job=job: job.run(fabric).history["loss"] for name, job in study(exp).jobs.items()}
