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

from paper_utils.data import digits
from paper_utils.data.samples import LabelledImages
from paper_utils.experiment import Experiment
from paper_utils.methods.sphereface_r import MULTIPLICATIVE, HeadConfig
from paper_utils.open_set import Job, Split, TrainConfig, random_splits
from paper_utils.studies import people

MARGIN_HEADS = ("cosface", "arcface", "v0", "v1", "v2")
NOISE = 0.3


@dataclass(frozen=True)
class Study:
    """What the notebook measures, also for training it beforehand on other machines.

    Parameters
    ----------
    faces, pictures
        What the networks see of people, and pictures of them, in the same order.
    quality
        Planted quality of each picture.
    constant
        The same faces at one quality for all, for networks that have been trained.
    drawings
        Real images: handwritten digits.
    factors
        Margins of the sweep.
    jobs
        Trainings by name.
    """

    faces: LabelledImages
    pictures: LabelledImages
    quality: Float[Tensor, " n"]
    constant: LabelledImages
    drawings: LabelledImages
    factors: tuple[float, ...]
    jobs: dict[str, Job]


def study(exp: Experiment) -> Study:
    """All trainings of the notebook, none of which has run.

    Names: the seven heads (``"v1"``), the same with label noise (``"noise v1"``) and with nothing but noise (``"blind v1"``), pictures dealt
    to people at random (``"dealt v1"``), people renamed (``"renamed v1"``), NormFace with v2's scale (``"normface 20"``), the stress test (``"sweep v1 full"``, members in the order of
    the factors), the three normalisations (``"NFN v1"``), and real pixels (``"six digits"``, ``"drawn v1"``).
    """
    counts = people.counts(exp)
    quality = torch.rand(counts.people * counts.views, generator=exp.generator("quality"))
    faces, pictures = people.load(exp, counts.people, counts.views, quality=quality)
    constant, _ = people.load(exp, counts.people, counts.views, quality=torch.full_like(quality, 0.5))
    # The heads differ by about a point, the gradients by many: the heads get more runs, the first of which all others share.
    runs, seeds = _runs(exp), exp.seeds(exp.scale(smoke=4, quick=16, full=40))
    many = random_splits(faces.identities, counts.learned, counts.unseen, rng=exp.rng("splits"), seeds=seeds)
    splits = many[:runs]
    # Width, steps and batch were chosen by the EER of NormFace alone, on people of another seed.
    steps, batch = exp.scale(smoke=6, quick=240, full=3000), exp.scale(smoke=64, quick=64, full=256)
    train = TrainConfig(hidden=(96,), dim=32, steps=steps, batch_size=batch)
    short = (1.0, 1.4, 2.0, 4.0)
    factors = exp.scale(smoke=short, quick=short, full=(1.0, 1.2, 1.4, 1.5, 1.7, 2.0, 3.0, 4.0))
    # Scales: 16 leaves the margin room above the 7.5 that 200 classes need at least; v2 lifts all other classes and gets 20.
    heads = {
        "softmax": HeadConfig("softmax"),
        "normface": HeadConfig("normface", 0.0, scale=16.0, loss_weight=None),
        "cosface": HeadConfig("cosface", 0.2, scale=16.0, loss_weight=None),
        "arcface": HeadConfig("arcface", 0.3, scale=16.0, loss_weight=None),
        "v0": HeadConfig("v0", 1.5, scale=16.0, loss_weight=None),
        "v1": HeadConfig("v1", 1.4, scale=16.0, loss_weight=None),
        "v2": HeadConfig("v2", 1.4, scale=20.0, loss_weight=None),
    }
    jobs = {name: Job(head, faces, many, train) for name, head in heads.items()}
    noisy, blind = (tuple(dataclasses.replace(split, noise=share) for split in many) for share in (NOISE, 1.0))
    dealt = dealt_at_random(faces, exp.generator("deal"))
    for name in ("normface", *MARGIN_HEADS):
        jobs[f"noise {name}"] = Job(heads[name], faces, noisy, train)
        jobs[f"blind {name}"] = Job(heads[name], faces, blind, train)
        jobs[f"dealt {name}"] = Job(heads[name], dealt, splits, train)
    jobs["renamed v1"] = renamed(dataclasses.replace(jobs["v1"], splits=splits), exp.generator("names"))
    jobs["normface 20"] = dataclasses.replace(jobs["normface"], head=dataclasses.replace(heads["normface"], scale=20.0))

    traced = dataclasses.replace(train, diagnose_every=3)
    side_by_side = tuple(factor for factor in factors for _ in splits)
    growth = tuple(int(share * train.steps) for share in (0.1, 0.2, 0.3, 0.4))
    for psi in MULTIPLICATIVE:
        for name, detach in (("detached", True), ("full", False)):
            head = dataclasses.replace(heads[psi], margin=side_by_side, detach=detach)
            jobs[f"sweep {psi} {name}"] = Job(head, faces, splits * len(factors), traced)
        same_margin = dataclasses.replace(heads[psi], margin=1.4)
        jobs[f"HFN {psi}"] = Job(same_margin, faces, splits, train)
        for scheme in ("NFN", "SFN"):
            head = dataclasses.replace(same_margin, normalization=scheme, growth_steps=growth)
            jobs[f"{scheme} {psi}"] = Job(head, faces, splits, train)
    jobs["dealt NFN v1"] = dataclasses.replace(jobs["NFN v1"], data=dealt)
    drawings, real = _real_pixels(exp, counts, quality, heads, train)
    return Study(faces, pictures, quality, constant, drawings, factors, jobs | real)


def _runs(exp: Experiment) -> int:
    return exp.scale(smoke=2, quick=6, full=20)


def _real_pixels(
    exp: Experiment, counts: people.Counts, quality: Tensor, heads: dict[str, HeadConfig], train: TrainConfig
) -> tuple[LabelledImages, dict[str, Job]]:
    """Handwritten digits, and what is trained on them: six of the ten digits, and each drawing as a person."""
    drawings = digits.load()
    runs = _runs(exp)
    six = random_splits(drawings.identities, 6, 4, rng=exp.rng("six digits"), seeds=exp.seeds(runs))
    jobs = {"six digits": Job(heads["normface"], drawings, six, train)}
    drawn = people.drawn_people(exp, counts.people, counts.views, quality=quality)
    splits = random_splits(
        drawn.identities, counts.learned, counts.unseen, rng=exp.rng("splits"), seeds=exp.seeds(runs)
    )
    stressed = dataclasses.replace(heads["v1"], margin=2.0)
    for name, head in {
        "normface": heads["normface"],
        "v1": heads["v1"],
        "v1 detached": stressed,
        "v1 full": dataclasses.replace(stressed, detach=False),
    }.items():
        jobs[f"drawn {name}"] = Job(head, drawn, splits, train)
    return drawings, jobs


def dealt_at_random(faces: LabelledImages, generator: torch.Generator) -> LabelledImages:
    """The same pictures, each given to a random person: as many a person as before, and nothing to recognise."""
    deal = torch.randperm(len(faces), generator=generator)
    return LabelledImages(faces.images, faces.identities[deal], f"{faces.name}, dealt at random")


def renamed(job: Job, generator: torch.Generator) -> Job:
    """The same training after all people have exchanged their names: the same pictures belong together, in other classes."""
    names = job.data.identities.unique()
    other = names[torch.randperm(len(names), generator=generator)]
    now = dict(zip(names.tolist(), other.tolist(), strict=True))
    identities = other[torch.searchsorted(names, job.data.identities)]
    splits = tuple(
        Split(tuple(sorted(now[who] for who in s.train)), tuple(sorted(now[who] for who in s.test)), s.seed, s.noise)
        for s in job.splits
    )
    return Job(job.head, LabelledImages(job.data.images, identities, f"{job.data.name}, renamed"), splits, job.train)


def trainings(exp: Experiment) -> dict[str, Callable[[lightning_fabric.Fabric], Float[np.ndarray, "steps members"]]]:
    """The study's trainings as calls that fill the cache and give the loss of every step."""
    return {name: lambda fabric, job=job: job.run(fabric).history["loss"] for name, job in study(exp).jobs.items()}
