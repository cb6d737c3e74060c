"""Open-set recognition at small scale: learn some identities with any head, be tested on identities never seen.

Many small networks, one a split of the identities, train in one loop; the head is the caller's (papers 05 and 06). Test protocols
follow both papers: all pairs of images of unseen people.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import lightning_fabric
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from paper_utils import training
from paper_utils.data.samples import LabelledImages
from paper_utils.metrics import verification
from paper_utils.nn import margins
from paper_utils.nn.ensemble import Ensemble


@runtime_checkable
class HeadConfig(Protocol):
    """What `fit` needs of a head's configuration: a frozen dataclass that can build the head.

    The head is called with embeddings ``(members, batch, dim)`` and labels ``(members, batch)`` and gives one loss a member; its
    ``proxies`` are ``(members, classes, dim)``. Its ``diagnose(embeddings, labels)`` is called if `TrainConfig.diagnose_every` asks for it.
    """

    def build(self, dim: int, classes: int, seeds: Sequence[int]) -> nn.Module:
        """One independent head a seed, along a leading dimension; inputs are not checked, a diverged run yields NaN."""
        ...


# ---------------------------------------------------------------------------------------------------- the network


class Network(nn.Module):
    """Pixels to embedding: linear layers with layer normalisation and ReLU, then one linear layer.

    The papers' networks are SFNet-20/64 and IResNet-100 for 112 x 112 faces. This one is their stand-in at small scale: like SFNet-20
    it has no batch normalisation, so samples do not see each other and one process equals several; unless `standardise` is on.

    Parameters
    ----------
    pixels, hidden, dim
        Number of input values, widths of the hidden layers, width of the embedding.
    seed
        Seed of the first weights.
    standardise
        Batch normalisation of the embedding without scale and shift. In training with the statistics of the batch, afterwards with
        those of all training images (`fit` measures them once, at the end).
    """

    def __init__(self, pixels: int, hidden: Sequence[int], dim: int, *, seed: int, standardise: bool = False):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        widths = (pixels, *hidden)
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(nn.LayerNorm(b) for b in hidden)
        self.embed = nn.Linear(widths[-1], dim)
        self.standardise = standardise
        if standardise:
            self.register_buffer("centre", torch.zeros(dim))
            self.register_buffer("spread", torch.ones(dim))
        for layer in (*self.hidden, self.embed):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Float[Tensor, "batch pixels"]) -> Float[Tensor, "batch dim"]:
        """Embeddings, not of unit length."""
        for layer, norm in zip(self.hidden, self.norms, strict=True):
            x = functional.relu(norm(layer(x)))
        x = self.embed(x)
        if not self.standardise:
            return x
        if self.training:
            return (x - x.mean(0)) / torch.sqrt(x.var(0, correction=0) + 1e-5)
        return (x - self.centre) / self.spread


# ---------------------------------------------------------------------------------------------------- the training


@dataclass(frozen=True)
class Split:
    """One open-set run: learn from some identities, be tested on others, with an own seed.

    Parameters
    ----------
    train, test
        Disjoint sets of identities.
    seed
        Seed of first weights, first proxies, batch order and label noise.
    noise
        Share of training images whose label is drawn anew, uniformly from all training identities (it may be the true one again), as in
        the authors' noise experiment.
    strangers
        Identities whose images are shown as nobody: label -1, a negative for every class. Only one-against-all heads can use them.
    """

    train: tuple[int, ...]
    test: tuple[int, ...]
    seed: int
    noise: float = 0.0
    strangers: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        both = sorted(set(self.train) & set(self.test))
        if both:
            raise ValueError(
                f"split: identities {both} are in train and in test; an open-set test needs unseen identities"
            )
        if len(self.train) < 2 or len(self.test) < 2:
            raise ValueError(
                f"split: needs at least 2 identities on each side, found {len(self.train)} and {len(self.test)}"
            )
        if not 0 <= self.noise <= 1:
            raise ValueError(f"split: noise is a share in [0, 1], found {self.noise}")
        known = sorted(set(self.strangers) & {*self.train, *self.test})
        if known:
            raise ValueError(f"split: strangers {known} are also in train or test; they must be nobody")


@dataclass(frozen=True)
class TrainConfig:
    """How the small network is trained; numbers of the published runs where the scale allows.

    Parameters
    ----------
    hidden, dim
        Widths of the network.
    steps, batch_size
        Length of a run; the published ones take 70,000 steps of 512.
    learning_rate, momentum, weight_decay
        Of plain SGD, on network and proxies alike.
    decay_at, decay
        The learning rate is multiplied by `decay` at these fractions of the run.
    diagnose_every
        Record the head's ``diagnose`` every so many steps (0: never).
    clip_norm
        Largest norm of each member's own gradient, network and head together. ``None``: no clipping.
    standardise
        Batch normalisation of the embedding, see `Network`.
    strangers_a_step
        Images of strangers added to every batch of splits that have some.
    """

    hidden: tuple[int, ...] = (64, 64)
    dim: int = 16
    steps: int = 200
    batch_size: int = 64
    learning_rate: float = 0.1  # published
    momentum: float = 0.9  # published
    weight_decay: float = 5e-4  # published
    decay_at: tuple[float, ...] = (4 / 7, 6 / 7)  # published: 40,000 and 60,000 of 70,000
    decay: float = 0.1  # published
    diagnose_every: int = 0
    clip_norm: float | None = None
    standardise: bool = False
    strangers_a_step: int = 32


@dataclass(frozen=True)
class Trained:
    """Several runs of one configuration.

    Parameters
    ----------
    network, head
        Member i belongs to ``splits[i]``.
    splits
        One a member.
    history
        ``loss`` and what the head's ``diagnose`` gives, each ``(steps, members)``.
    """

    network: Ensemble
    head: nn.Module
    splits: tuple[Split, ...]
    history: dict[str, Float[np.ndarray, "steps members"]]

    def member(self, index: int) -> Network:
        """The network of one member by itself, in evaluation mode."""
        state = self.network.member_state(index)
        widths = [value.shape[0] for name, value in state.items() if name.startswith("hidden") and "weight" in name]
        pixels = next(iter(state.values())).shape[1]
        dim = state["embed.weight"].shape[0]
        alone = Network(pixels, widths, dim, seed=0, standardise="centre" in state)
        alone.load_state_dict(state)
        return alone.eval()

    @torch.no_grad()
    def embed(self, images: Float[Tensor, "n channel height width"]) -> Float[Tensor, "members n dim"]:
        """Embeddings of the same images by every member."""
        self.network.eval()
        return self.network(images.flatten(1).to(self.head.proxies.device), shared=True).cpu()


def random_splits(
    identities: Int[Tensor, " n"],
    train_identities: int,
    test_identities: int,
    *,
    rng: np.random.Generator,
    seeds: Sequence[int],
) -> tuple[Split, ...]:
    """Random choices of identities to learn and of other identities to be tested on, one a seed.

    Raises
    ------
    ValueError
        If there are too few identities.
    """
    names = identities.unique().numpy()
    wanted = train_identities + test_identities
    if wanted > len(names):
        raise ValueError(
            f"identities: {train_identities} to learn and {test_identities} to test need {wanted}, found {len(names)}"
        )
    orders = [rng.permutation(names)[:wanted].tolist() for _ in seeds]
    return tuple(
        Split(tuple(sorted(order[:train_identities])), tuple(sorted(order[train_identities:])), seed)
        for order, seed in zip(orders, seeds, strict=True)
    )


def _member_rows(data: LabelledImages, splits: Sequence[Split]) -> tuple[list[Tensor], Tensor]:
    """For each member: rows of its training images, and the class number of every image (-1: not among its classes), noise included."""
    names, place = data.identities.unique(return_inverse=True)
    rows, classes = [], torch.full((len(splits), len(data)), -1)
    for member, split in enumerate(splits):
        learned = torch.tensor(split.train)
        missing = learned[~torch.isin(learned, names)].tolist()
        if missing:
            raise ValueError(f"{data.name}: no images of the training identities {missing}")
        number = torch.full((len(names),), -1)
        number[torch.searchsorted(names, learned)] = torch.arange(len(learned))
        classes[member] = number[place]
        own = torch.nonzero(classes[member] >= 0).squeeze(1)
        rows.append(own)
        if split.noise:
            generator = torch.Generator().manual_seed(split.seed)
            wrong = torch.rand(len(own), generator=generator) < split.noise
            drawn = torch.randint(len(learned), (len(own),), generator=generator)
            classes[member, own] = torch.where(wrong, drawn, classes[member, own])
    return rows, classes


def build(pixels: int, splits: Sequence[Split], head: HeadConfig, train: TrainConfig) -> tuple[Ensemble, nn.Module]:
    """Networks and heads of all members as they are before training."""
    sizes = {len(split.train) for split in splits}
    if len(sizes) != 1:
        raise ValueError(f"splits: all members must have as many training identities, found {sorted(sizes)}")
    options = {"standardise": train.standardise}
    network = Ensemble([Network(pixels, train.hidden, train.dim, seed=split.seed, **options) for split in splits])
    return network, head.build(
        train.dim, sizes.pop(), [split.seed + 1 for split in splits]
    )  # not the network's own numbers


def fit(
    fabric: lightning_fabric.Fabric,
    data: LabelledImages,
    splits: Sequence[Split],
    head: HeadConfig,
    train: TrainConfig,
    *,
    checkpoint: Path | None = None,
) -> Trained:
    """Train one member a split, all in one loop.

    The members' losses are added and the optimiser works element by element, so every member goes the way it would go alone. A member
    that diverges becomes NaN and leaves the others untouched.

    Parameters
    ----------
    fabric
        From `training.launch`.
    data
        Images of all identities.
    splits
        Which identities each member learns, and its seed.
    head, train
        What to train and how.
    checkpoint
        File to resume from and save to.
    """
    network, classifier = build(data.images[0].numel(), splits, head, train)
    parameters = [*network.parameters(), *classifier.parameters()]
    optimizer = torch.optim.SGD(
        parameters, lr=train.learning_rate, momentum=train.momentum, weight_decay=train.weight_decay
    )
    if train.clip_norm is not None:
        optimizer.register_step_pre_hook(lambda *_: clip_members_(parameters, train.clip_norm))
    milestones = [round(fraction * train.steps) for fraction in train.decay_at]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, gamma=train.decay)
    run = training.Run(
        fabric,
        {"network": network, "head": classifier},
        optimizer,
        steps=train.steps,
        schedule=schedule,
        checkpoint=checkpoint,
        allow_divergence=True,
    )
    images = data.images.flatten(1).to(fabric.device)
    rows, classes = _member_rows(data, splits)
    nobody = [torch.nonzero(torch.isin(data.identities, torch.tensor(split.strangers))).squeeze(1) for split in splits]
    if len({len(some) > 0 for some in nobody}) > 1:
        raise ValueError("splits: either all members are shown strangers or none; train them apart")
    member = torch.arange(len(splits)).unsqueeze(1)
    # Embeddings are standardised by the whole batch: then every process computes all of it.
    share = {} if train.standardise else {"rank": fabric.global_rank, "world_size": fabric.world_size}
    for step in run:
        picked = torch.stack(
            [
                own[training.batch_indices(len(own), train.batch_size, step, seed=split.seed, **share)]
                for own, split in zip(rows, splits, strict=True)
            ]
        )
        if len(nobody[0]):
            strange = [
                some[training.batch_indices(len(some), train.strangers_a_step, step, seed=split.seed + 2, **share)]
                for some, split in zip(nobody, splits, strict=True)
            ]
            picked = torch.cat([picked, torch.stack(strange)], dim=1)
        labels = classes[member, picked].to(fabric.device)
        embeddings = run.modules["network"](images[picked.to(fabric.device)])
        losses = run.modules["head"](embeddings, labels)
        extra = {}
        if train.diagnose_every and step % train.diagnose_every == 0:
            extra = classifier.diagnose(embeddings, labels)
        run.update(losses.sum(), losses=losses, **extra)
    if train.standardise:
        _measure_embeddings_(network, images, rows)
    history = run.history
    history["loss"] = history.pop("losses")  # one column a member instead of their sum
    return Trained(network, classifier, tuple(splits), history)


@torch.no_grad()
def _measure_embeddings_(network: Ensemble, images: Tensor, rows: Sequence[Tensor]) -> None:
    """Mean and spread of each member's embeddings over its training images, for use after training."""
    network.eval()
    network.centre.zero_()
    network.spread.fill_(1.0)
    for member, raw in enumerate(network(torch.stack([images[own.to(images.device)] for own in rows]))):
        network.centre[member] = raw.mean(0)
        network.spread[member] = torch.sqrt(raw.var(0, correction=0) + 1e-5)


@torch.no_grad()
def clip_members_(parameters: Sequence[nn.Parameter], largest: float) -> None:
    """Scale each member's gradient down to a norm of at most `largest`; members are the first dimension of every parameter."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    squares = sum(gradient.reshape(len(gradient), -1).square().sum(1) for gradient in gradients)
    factor = (largest / squares.sqrt().clamp(min=1e-12)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factor.view(-1, *[1] * (gradient.ndim - 1)))


@dataclass(frozen=True)
class Job:
    """Everything that a finished training depends on: `fit` of a job gives the same result wherever it is called.

    Parameters
    ----------
    head, train
        What to train and how.
    data
        Images of all identities.
    splits
        Which identities each member learns, and its seed.
    """

    head: HeadConfig
    data: LabelledImages
    splits: tuple[Split, ...]
    train: TrainConfig

    def run(self, fabric: lightning_fabric.Fabric) -> Trained:
        """The trained members: from the cache if the same code, data, splits and configuration were trained before."""

        def anew(checkpoint: Path) -> dict[str, Any]:
            done = fit(fabric, self.data, self.splits, self.head, self.train, checkpoint=checkpoint)
            history = {name: torch.from_numpy(values) for name, values in done.history.items()}
            return {"network": done.network.state_dict(), "head": done.head.state_dict(), "history": history}

        key = {
            "data": self.data.fingerprint,
            "splits": [dataclasses.asdict(split) for split in self.splits],
            "head": dataclasses.asdict(self.head),
            "train": dataclasses.asdict(self.train),
        }
        method = Path(inspect.getfile(type(self.head)))
        state = training.cached(method.stem, key, anew, code=[Path(__file__), method], fabric=fabric)
        trained = self.untrained()
        trained.network.load_state_dict(state["network"])
        trained.head.load_state_dict(state["head"])
        trained.history.update({name: values.cpu().numpy() for name, values in state["history"].items()})
        return trained

    def untrained(self) -> Trained:
        """The members as they are before the first step."""
        network, head = build(self.data.images[0].numel(), self.splits, self.head, self.train)
        return Trained(network, head, self.splits, {})


# ---------------------------------------------------------------------------------------------------- the test


@torch.no_grad()
def unseen_embeddings(
    trained: Trained, data: LabelledImages, member: int, *, per_identity: int | None = None
) -> tuple[Float[np.ndarray, "n dim"], Int[np.ndarray, " n"]]:
    """Embeddings and image numbers of one member's unseen identities.

    Parameters
    ----------
    trained
        From `fit`.
    data
        The images it was made from.
    member
        Which run.
    per_identity
        Use at most so many images of each identity, the first ones.

    Returns
    -------
    tuple
        Embeddings, and the number of each image in `data`; the images of one identity follow each other.
    """
    rows = torch.nonzero(torch.isin(data.identities, torch.tensor(trained.splits[member].test))).squeeze(1)
    rows = rows[torch.argsort(data.identities[rows], stable=True)]
    if per_identity is not None:
        _, counts = data.identities[rows].unique_consecutive(return_counts=True)
        first = (counts.cumsum(0) - counts).repeat_interleave(counts)
        rows = rows[torch.arange(len(rows)) - first < per_identity]
    return trained.member(member)(data.images[rows].flatten(1)).double().numpy(), rows.numpy()


def open_set_scores(
    trained: Trained, data: LabelledImages, *, per_identity: int | None = None
) -> list[verification.SortedScores | None]:
    """Scores of every member over all pairs of images of its unseen identities; None for a member whose embeddings are not finite."""
    scores: list[verification.SortedScores | None] = []
    for member in range(len(trained.splits)):
        embeddings, rows = unseen_embeddings(trained, data, member, per_identity=per_identity)
        if np.isfinite(embeddings).all():
            pairs = verification.all_pairs(embeddings, data.identities[rows].numpy())
            scores.append(verification.sorted_scores(*pairs))
        else:
            scores.append(None)
    return scores


@torch.no_grad()
def plain_loss(trained: Trained, data: LabelledImages, scale: float) -> Float[np.ndarray, " members"]:
    """Cross-entropy of the finished runs on their training images without any margin, so that heads can be compared."""
    rows, classes = _member_rows(data, trained.splits)
    losses = []
    for member, own in enumerate(rows):
        proxies = functional.normalize(trained.head.proxies.detach()[member].cpu(), dim=-1)
        cosine = margins.cosines(trained.member(member)(data.images[own].flatten(1)), proxies)
        losses.append(float(functional.cross_entropy(scale * cosine, classes[member, own])))
    return np.array(losses)


def failed_runs(
    trained: Trained, data: LabelledImages, scores: Sequence[verification.SortedScores | None], *, scale: float
) -> Bool[np.ndarray, " members"]:
    """Which runs failed: not finite, or a plain training loss above 90 % of guessing's log K, or an open-set EER above 40 %."""
    guessing = math.log(trained.head.proxies.shape[-2])
    loss = plain_loss(trained, data, scale)
    broken = np.array([pairs is None or verification.eer(pairs) > 0.4 for pairs in scores])
    return broken | ~(loss <= 0.9 * guessing)
