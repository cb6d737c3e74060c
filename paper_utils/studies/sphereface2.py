"""What notebook 05 trains and measures: heads of papers 05 and 06 side by side on the same people.

It stands above both methods, which do not know each other, and below the notebook and `paper_utils.train`, which both use it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import lightning_fabric
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from paper_utils.data.samples import LabelledImages
from paper_utils.experiment import Experiment
from paper_utils.methods import sphereface2, sphereface_r
from paper_utils.metrics import by_identity, verification
from paper_utils.open_set import Job, Split, TrainConfig, Trained, open_set_scores, random_splits, unseen_embeddings
from paper_utils.studies import people

SOFTMAX_MARGIN = ("CosFace", "ArcFace", "SphereFace")
NOISY = (*SOFTMAX_MARGIN, "SphereFace2-C")
RIVALS = ("ArcFace", "SphereFace2-C")
LENGTHS = {"a third": 1 / 3, "twice": 2.0}
MEASURED_PICTURES = 6  # of each unseen person, where all pairs of eight would take too long


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
        Trainings by name. Those with fewer runs have the first runs of the others.
    """

    faces: LabelledImages
    pictures: LabelledImages
    full: sphereface2.HeadConfig
    jobs: dict[str, Job]


def heads(full: sphereface2.HeadConfig) -> dict[str, sphereface_r.HeadConfig | sphereface2.HeadConfig]:
    """The heads that are compared.

    Scaled to a few hundred classes: with K = 200, softmax heads need a scale of at least 7.5 to allow a probability of .9, 16 leaves the
    margin room; margins are about half of the published ones for 8,631 classes. Choices of ours, the same for all runs.
    """
    softmax = {"scale": 16.0, "loss_weight": None}
    return {
        "NormFace": sphereface_r.HeadConfig("normface", 0.0, **softmax),
        "CosFace": sphereface_r.HeadConfig("cosface", 0.2, **softmax),
        "ArcFace": sphereface_r.HeadConfig("arcface", 0.3, **softmax),
        "SphereFace": sphereface_r.HeadConfig("v0", 1.5, **softmax),
        "SphereFace2-C": full,
    }


def ablations(full: sphereface2.HeadConfig) -> dict[str, sphereface2.HeadConfig]:
    """One change to the full head at a time; the last one is the rung "+ balance" of the ladder with another balance."""
    balanced = sphereface2.ladder(full)["+ balance"]
    return {
        "SphereFace2-A": dataclasses.replace(full, kind="A", margin=0.25),
        "SphereFace2-M": dataclasses.replace(full, kind="M", margin=1.3),
        "straight gradient": dataclasses.replace(full, gradient="straight"),
        "bias from 0": dataclasses.replace(full, bias_start=0.0),
        "bias fixed": dataclasses.replace(full, train_bias=False),
        "λ = .99, r = 1, m = 0, t = 1": dataclasses.replace(balanced, balance=0.99),
    }


def rename(data: LabelledImages, names: Tensor) -> LabelledImages:
    """The same pictures under other numbers: identity i becomes ``names[i]``."""
    return LabelledImages(data.images, names[data.identities], f"{data.name}, renamed")


def _renamed(job: Job, generator: torch.Generator) -> Job:
    """The job with all people renamed: whole identities get another label, no picture gets a wrong one."""
    names = torch.randperm(int(job.data.identities.max()) + 1, generator=generator)

    def other(some: Sequence[int]) -> tuple[int, ...]:
        return tuple(sorted(names[list(some)].tolist()))

    splits = tuple(dataclasses.replace(s, train=other(s.train), test=other(s.test)) for s in job.splits)
    return dataclasses.replace(job, data=rename(job.data, names), splits=splits)


def _as_nobody(job: Job, count: int) -> Job:
    """The job with copies of its first learned people's pictures shown as nobody: each is a class and not a class at once."""
    data = job.data
    offset = int(data.identities.max()) + 1
    twice = LabelledImages(
        torch.cat([data.images, data.images]), torch.cat([data.identities, data.identities + offset]), data.name
    )
    splits = tuple(dataclasses.replace(s, strangers=tuple(i + offset for i in s.train[:count])) for s in job.splits)
    return dataclasses.replace(job, data=twice, splits=splits)


def binary_study(exp: Experiment) -> BinaryStudy:
    """All trainings of notebook 05, none of which has run.

    Names: the heads (``"ArcFace"``); ``"ArcFace, noise 0.3"`` with that share of labels drawn anew; ``"ArcFace, renamed"`` with whole
    people renamed; the ladder (``"+ scale"``); the `ablations`; lengths (``"ArcFace, twice"``); and controls.
    """
    many = people.counts(exp)
    faces, pictures = people.load(exp, many.people, many.views)
    runs, few, fewest = exp.scale(smoke=(2, 2, 2), quick=(10, 4, 3), full=(10, 5, 5))
    steps = exp.scale(smoke=6, quick=300, full=3000)
    train = TrainConfig(hidden=(128, 128), dim=32, steps=steps, batch_size=128, decay_at=(0.6, 0.85), standardise=True)
    splits = random_splits(faces.identities, many.learned, many.unseen, rng=exp.rng("splits"), seeds=exp.seeds(runs))
    full = sphereface2.HeadConfig("C", 0.2, scale=20.0)
    ladder = sphereface2.ladder(full)

    def job(head: object, chosen: Sequence[Split] = splits, **changes: object) -> Job:
        return Job(head, faces, tuple(chosen), dataclasses.replace(train, **changes))

    # NormFace takes part in no claim; of the ladder, the claims look at its first step with all runs.
    jobs = {name: job(head, splits[:few] if name == "NormFace" else splits) for name, head in heads(full).items()}
    jobs |= {name: job(ladder[name], splits if name == "naive" else splits[:few]) for name in list(ladder)[:-1]}
    jobs |= {name: job(head, splits[:few]) for name, head in ablations(full).items()}
    for share, names, count in ((0.3, NOISY, runs), (0.6, RIVALS, fewest), (1.0, RIVALS, fewest)):
        noisy = [dataclasses.replace(split, noise=share) for split in splits[:count]]
        jobs |= {f"{name}, noise {share}": job(jobs[name].head, noisy) for name in names}
    for name in NOISY:
        jobs[f"{name}, renamed"] = _renamed(job(jobs[name].head, splits[:few]), exp.generator("names"))
    for name in RIVALS:
        for length, factor in LENGTHS.items():
            jobs[f"{name}, {length}"] = job(jobs[name].head, splits[:fewest], steps=round(factor * steps))
    jobs |= _controls(jobs, exp, many.strangers, few)
    # An illustration in two dimensions. A smaller scale and several starts, because proxies on a circle cannot pass each other.
    eight = [dataclasses.replace(split, train=split.train[:8]) for split in splits[:fewest]]
    jobs["circle"] = job(dataclasses.replace(full, scale=8.0), eight, dim=2, batch_size=64, steps=2 * steps)
    return BinaryStudy(faces, pictures, full, jobs)


def _controls(jobs: Mapping[str, Job], exp: Experiment, strangers: int, few: int) -> dict[str, Job]:
    """Strangers as nobody, and the same measurements where an effect is switched off."""
    best = jobs["SphereFace2-C"]
    faces, some = best.data, dataclasses.replace(best, splits=best.splits[:few])
    deal = torch.randperm(len(faces), generator=exp.generator("deal"))
    dealt = LabelledImages(faces.images, faces.identities[deal], f"{faces.name}, dealt at random")
    everybody = set(faces.identities.tolist())
    watched = tuple(
        dataclasses.replace(s, strangers=tuple(sorted(everybody - {*s.train, *s.test})[:strangers]))
        for s in best.splits
    )
    pair = tuple(dataclasses.replace(s, train=s.train[:2]) for s in some.splits)
    alone = dataclasses.replace(best.train, batch_size=16, steps=best.train.steps // 3)
    return {
        "SphereFace2-C, strangers": dataclasses.replace(best, splits=watched),
        "SphereFace2-C, known as nobody": _as_nobody(some, strangers),
        "SphereFace2-C, raw": dataclasses.replace(some, train=dataclasses.replace(best.train, standardise=False)),
        **{
            f"{name}, dealt": dataclasses.replace(some, head=jobs[name].head, data=dealt)
            for name in ("naive", "SphereFace2-C")
        },
        **{
            f"{name}, two people": dataclasses.replace(jobs[name], splits=pair, train=alone)
            for name in ("naive", "+ balance")
        },
    }


def trainings(exp: Experiment) -> dict[str, Callable[[lightning_fabric.Fabric], Float[np.ndarray, "steps members"]]]:
    """The study's trainings as calls that fill the cache and give the loss of every step."""
    return {
        name: lambda fabric, job=job: job.run(fabric).history["loss"] for name, job in binary_study(exp).jobs.items()
    }


# ---------------------------------------------------------------------------------------------------- measurements


@dataclass(frozen=True)
class Measured:
    """A finished (or untrained) job and how its runs do on their unseen people; a run that is not finite counts as a coin.

    Parameters
    ----------
    trained
        The runs.
    scores
        All pairs of each run, sorted; None where the embeddings are not finite.
    eer, tar
        Equal error rate and true accept rate at a false accept rate of 1e-3, in percent.
    """

    trained: Trained
    scores: list[verification.SortedScores | None]
    eer: Float[np.ndarray, " runs"]
    tar: Float[np.ndarray, " runs"]


def measure(trained: Trained, data: LabelledImages) -> Measured:
    """All pairs of the first eight pictures of every unseen person, run by run."""
    scores = open_set_scores(trained, data, per_identity=8)
    eer = np.array([100 * verification.eer(pairs) if pairs else 50.0 for pairs in scores])
    tar = np.array([100 * verification.tar_at_far(pairs, 1e-3) if pairs else 0.0 for pairs in scores])
    return Measured(trained, scores, eer, tar)


def paired(first: Measured, second: Measured, key: str = "eer") -> Float[np.ndarray, " runs"]:
    """First minus second, run by run; the one with more runs gives its first ones.

    Raises
    ------
    ValueError
        If the runs are not the same: other people are tested, or other seeds.
    """
    runs = min(len(first.eer), len(second.eer))
    for one, other in zip(first.trained.splits[:runs], second.trained.splits[:runs], strict=True):
        if one.seed != other.seed or len(one.test) != len(other.test):
            raise ValueError(
                f"paired: the runs differ, found seeds {one.seed} and {other.seed}; compare jobs of one study"
            )
    return getattr(first, key)[:runs] - getattr(second, key)[:runs]


def threshold_spread(
    trained: Trained, data: LabelledImages, member: int, *, deal: np.random.Generator | None = None
) -> float:
    """Spread over one run's unseen people of the threshold that would suit each of them best, in units of the cosine.

    Parameters
    ----------
    trained, data, member
        A run and the images it was made from.
    deal
        Deal the test pictures to the people at random first: the control, in which thresholds know nothing of people.
    """
    embeddings, rows = unseen_embeddings(trained, data, member, per_identity=MEASURED_PICTURES)
    identities = data.identities[rows].numpy()
    if deal is not None:
        identities = deal.permutation(identities)
    return by_identity.own_thresholds(verification.cosine_similarities(embeddings), identities).spread


@torch.no_grad()
def learned_directions(
    trained: Trained, data: LabelledImages, member: int
) -> tuple[Float[Tensor, "n dim"], Int[Tensor, " n"], Float[Tensor, "classes dim"]]:
    """Unit embeddings of one run's training images, their classes, and the unit proxies."""
    learned = data.of(list(trained.splits[member].train))
    embeddings = functional.normalize(trained.member(member)(learned.images.flatten(1)), dim=-1)
    proxies = functional.normalize(trained.head.proxies[member].cpu(), dim=-1)
    return embeddings, learned.identities.unique(return_inverse=True)[1], proxies


def equal_error_threshold(scores: Float[np.ndarray, " pairs"], same: Bool[np.ndarray, " pairs"]) -> float:
    """The score at which both kinds of error are equal: the highest threshold that misses no more same than it accepts different pairs.

    Examples
    --------
    >>> equal_error_threshold(np.array([0.9, 0.5, 0.4, 0.1]), np.array([True, True, False, False]))
    0.5
    """
    curve = verification.roc(scores, same)
    return float(curve.thresholds[np.argmax(1 - curve.tpr <= curve.fpr)])


def bias_as_threshold(
    trained: Trained, data: LabelledImages, member: int, head: sphereface2.HeadConfig
) -> tuple[float, float]:
    r"""How far :math:`-b/r` is from the threshold of equal errors, on the scale of :math:`g`.

    Returns
    -------
    tuple
        For pairs of unseen people; and for what the bias was trained on, faces of learned people against proxies.
    """

    def distance(scores: np.ndarray, same: np.ndarray) -> float:
        best = torch.tensor(equal_error_threshold(scores, same), dtype=torch.float64)
        own = -trained.head.bias[member].item() / head.scale
        return abs(float(sphereface2.adjusted_similarity(best, head.exponent)) - own)

    unseen, rows = unseen_embeddings(trained, data, member, per_identity=MEASURED_PICTURES)
    embeddings, classes, proxies = learned_directions(trained, data, member)
    cosine = (embeddings @ proxies.T).double().flatten().numpy()
    own = functional.one_hot(classes, len(proxies)).bool().flatten().numpy()
    return distance(*verification.all_pairs(unseen, data.identities[rows].numpy())), distance(cosine, own)
