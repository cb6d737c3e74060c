r"""DIMNet (paper 02): voices and faces become comparable because both are mapped to the same covariates, never to each other.

Top to bottom: the data; the two encoders; the shared classifiers and the loss; the variants; two methods that do look at pairs (SVHF and a
contrastive joint embedding); how batches are cut; the training; scores and posteriors of people never seen.
Yandong Wen, Mahmoud Al Ismail, Weiyang Liu, Bhiksha Raj, Rita Singh, "Disjoint Mapping Network for Cross-modal Matching of Voices and
Faces", arXiv:1807.04836 (ICLR 2019). The paper's abstract and introduction were read; what is marked "from memory" is not verified.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
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
from paper_utils.data.speech import Voices
from paper_utils.metrics.cross_modal import PairWins
from paper_utils.nn import whole_batch
from paper_utils.nn.voice_encoder import VoiceEncoder, initialise_
from paper_utils.open_set import Split
from paper_utils.provenance import key_hash

IDENTITY = "identity"
MODALITIES = ("voice", "face")
FACE_CHANNELS = (64, 128, 256, 512)  # from memory, unverified: the authors' face networks double from 64
# Sets of covariates by the paper's names.
VARIANTS: dict[str, tuple[str, ...]] = {
    "I": (IDENTITY,),
    "G": ("sex",),
    "N": ("nationality",),
    "IG": (IDENTITY, "sex"),
    "IN": (IDENTITY, "nationality"),
    "GN": ("sex", "nationality"),
    "IGN": (IDENTITY, "sex", "nationality"),
}


# ------------------------------------------------------------------------------------------------------- 1. the data


@dataclass(frozen=True)
class Meetings:
    """Voices and faces of the same people. No recording belongs to a picture; only the person is the same.

    Parameters
    ----------
    voices
        Log-mel recordings of any length, normalised band by band (`paper_utils.audio.normalise_recording`). Their covariates label them.
    faces
        Pictures of one size.

    Raises
    ------
    ValueError
        If somebody has only one of the two.
    """

    voices: Voices
    faces: LabelledImages

    def __post_init__(self) -> None:
        heard, seen = (set(side.identities.unique().tolist()) for side in (self.voices, self.faces))
        if heard != seen:
            raise ValueError(
                f"{self.voices.name} and {self.faces.name}: expected voices and faces of the same people, found {len(heard - seen)} "
                f"without a face and {len(seen - heard)} without a voice (first: {min(heard ^ seen)}); leave them out of both"
            )

    @property
    def identities(self) -> Int[Tensor, " people"]:
        """All people, sorted."""
        return self.faces.identities.unique()

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the content: the data's part of a cache key."""
        arrays = [self.voices.log_mel, self.voices.starts, self.voices.identities]
        arrays += [side.covariates[name] for side in (self.voices, self.faces) for name in sorted(side.covariates)]
        sums = [key_hash({"bytes": _digest(values)}) for values in arrays]
        return key_hash({"voices": sums, "faces": self.faces.fingerprint})

    def labels(self, modality: str, covariate: str, split: Split) -> Int[Tensor, " items"]:
        """Class number of every item: its place in `learned`; -1 if it is not there, as for people and values that training never meets."""
        own = self.side(modality).identities if covariate == IDENTITY else self._values(modality, covariate)
        learned = torch.tensor(self.learned(covariate, split))
        place = torch.searchsorted(learned, own).clamp(max=len(learned) - 1)
        return torch.where(learned[place] == own, place, -1)

    def learned(self, covariate: str, split: Split) -> tuple[int, ...]:
        """What the classes stand for, sorted: the training people, or the values that they have in either modality."""
        if covariate == IDENTITY:
            return tuple(sorted(split.train))
        held = [self._values(modality, covariate)[self.rows(modality, split.train)] for modality in MODALITIES]
        return tuple(torch.cat(held).unique().tolist())

    def classes(self, covariate: str, split: Split) -> int:
        """Number of classes: training people, or their values."""
        return len(self.learned(covariate, split))

    def side(self, modality: str) -> Voices | LabelledImages:
        """Voices or faces."""
        return self.voices if modality == "voice" else self.faces

    def _values(self, modality: str, covariate: str) -> Int[Tensor, " items"]:
        side = self.side(modality)
        if covariate not in side.covariates:
            raise ValueError(
                f"{side.name}: no covariate {covariate!r}; there are {', '.join(side.covariates) or 'none'}"
            )
        return side.covariates[covariate].long()

    def rows(self, modality: str, people: Sequence[int]) -> Int[Tensor, " rows"]:
        """Items of the given people, ordered by person."""
        side = self.side(modality)
        rows = torch.nonzero(torch.isin(side.identities, torch.tensor(sorted(people)))).squeeze(1)
        return rows[torch.argsort(side.identities[rows], stable=True)]


def _digest(values: Tensor) -> str:
    return hashlib.sha256(values.contiguous().numpy().tobytes()).hexdigest()


# --------------------------------------------------------------------------------------------------- 2. the encoders


class FaceEncoder(nn.Module):
    r"""The 2-D counterpart of the voice network: a picture becomes one vector of the same width.

    .. math:: F_f(x) = \operatorname{mean}_{r,c}\ \mathrm{conv}_5 \circ (\mathrm{ReLU} \circ \mathrm{BN} \circ \mathrm{conv}_i)_{i=4..1}(x)

    Every convolution is 3 x 3 with stride 2 and padding 1; the first four have no bias, the last has one and no normalisation. Pictures may
    have any size: 128 pixels leave 4 x 4 positions before the mean.

    Parameters
    ----------
    channels_in
        3 for colour, 1 for grey.
    dim
        Width of the embedding.
    width
        Factor on the inner widths 64, 128, 256, 512. With 1 and the other defaults there are 1,846,912 parameters.
    seed
        Of the first weights.

    Examples
    --------
    >>> encoder = FaceEncoder(seed=0)
    >>> sum(p.numel() for p in encoder.parameters())
    1846912
    >>> encoder(torch.zeros(2, 3, 128, 128)).shape
    torch.Size([2, 64])
    """

    def __init__(self, channels_in: int = 3, dim: int = 64, *, width: float = 1.0, seed: int = 0) -> None:
        super().__init__()
        if channels_in < 1 or dim < 1 or not width > 0:
            raise ValueError(
                f"face encoder: expected channels_in, dim and width to be positive, found {channels_in}, {dim}, {width}"
            )
        sizes = (channels_in, *(max(1, round(width * count)) for count in FACE_CHANNELS))
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(sizes):
            layers += [nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        self.model = nn.Sequential(*layers, nn.Conv2d(sizes[-1], dim, 3, 2, 1))
        self.channels_in, self.dim = channels_in, dim
        initialise_(self, torch.Generator().manual_seed(seed))

    def forward(self, images: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch dim"]:
        """Embeddings, not normalised."""
        if images.shape[1] != self.channels_in:
            raise ValueError(
                f"images: expected {self.channels_in} channels (batch, channel, height, width), found {tuple(images.shape)}"
            )
        return self.model(images).mean(dim=(2, 3))


@dataclass(frozen=True)
class EncoderConfig:
    """Sizes of both encoders; defaults are the full ones.

    Parameters
    ----------
    bands, channels
        Mel bands; colour channels.
    dim
        Width of the embedding.
    width
        One factor on all inner widths of both.
    """

    bands: int = 64  # code of paper 03
    channels: int = 3
    dim: int = 64  # code of paper 03
    width: float = 1.0

    def build(self, data: Meetings, seed: int) -> dict[str, nn.Module]:
        """Both networks for these data; they begin with different weights.

        Raises
        ------
        ValueError
            If the data have other bands or channels.
        """
        found = data.voices.log_mel.shape[1], data.faces.images.shape[1]
        if found != (self.bands, self.channels):
            raise ValueError(
                f"encoders for {self.bands} mel bands and {self.channels} channels, but the data have {found[0]} and {found[1]}; "
                "set bands and channels to those of the data"
            )
        return {
            "voice": VoiceEncoder(self.bands, self.dim, width=self.width, seed=seed),
            "face": FaceEncoder(self.channels, self.dim, width=self.width, seed=seed + 1),
        }


# ------------------------------------------------------------------------------- 3. shared classifiers and the loss


class Classifiers(nn.Module):
    r"""One linear classifier :math:`H_C` without bias for every covariate, for both modalities, or, as a control, one for each.

    Parameters
    ----------
    classes
        Number of classes of each covariate.
    dim
        Width of the embeddings.
    shared
        False: voices and faces get classifiers of their own, and nothing ties their embeddings together any more.
    seed
        Of the first weights.
    """

    def __init__(self, classes: Mapping[str, int], dim: int, *, shared: bool = True, seed: int = 0) -> None:
        super().__init__()
        few = [f"{name} ({count})" for name, count in classes.items() if count < 2]
        if not classes or few:
            raise ValueError(
                f"classes: expected covariates with at least two values each, found {', '.join(few) or 'no covariate'}"
            )
        self.shared = shared
        names = ("both",) if shared else MODALITIES
        self.heads = nn.ModuleDict(
            {who: nn.ModuleDict({c: nn.Linear(dim, n, bias=False) for c, n in classes.items()}) for who in names}
        )
        initialise_(self, torch.Generator().manual_seed(seed))

    def weight(self, covariate: str, modality: str) -> Float[Tensor, "classes dim"]:
        """The class vectors :math:`w_k` that a modality is drawn to."""
        return self.heads["both" if self.shared else modality][covariate].weight

    def forward(
        self, embeddings: Mapping[str, Float[Tensor, "batch dim"]]
    ) -> dict[str, dict[str, Float[Tensor, "batch classes"]]]:
        """Logits by modality and covariate."""
        return {
            modality: {
                covariate: head(values) for covariate, head in self.heads["both" if self.shared else modality].items()
            }
            for modality, values in embeddings.items()
        }


def covariate_loss(
    logits: Mapping[str, Mapping[str, Float[Tensor, "batch classes"]]],
    labels: Mapping[str, Mapping[str, Int[Tensor, " batch"]]],
    weights: Mapping[str, float],
) -> Float[Tensor, ""]:
    r"""The DIMNet loss: classification in each modality, added up. No term compares a voice with a face.

    .. math::
        L = \sum_C \lambda_C \left\{ \frac1{|V|}\sum_{v \in V} \mathrm{CE}\big(H_C(F_v(v)), C(v)\big)
            + \frac1{|F|}\sum_{f \in F} \mathrm{CE}\big(H_C(F_f(f)), C(f)\big) \right\}

    Parameters
    ----------
    logits, labels
        By modality and covariate; a modality that is left out adds nothing.
    weights
        :math:`\lambda_C`.
    """
    terms = [
        weight * functional.cross_entropy(logits[modality][covariate], labels[modality][covariate])
        for modality in logits
        for covariate, weight in weights.items()
    ]
    return torch.stack(terms).sum()


# ------------------------------------------------------------------------------------------------------ 4. the methods


@dataclass(frozen=True)
class TrainConfig:
    """How any of the methods is trained; defaults of the paper from memory, unverified.

    Parameters
    ----------
    encoders
        Sizes.
    steps, batch_size
        Updates, and items of each modality in one.
    learning_rate, momentum, weight_decay
        Of plain SGD.
    schedule
        ``"steps"``: divided by 10 at `decay_at`. ``"one-cycle"``: up to `learning_rate` in the first fifth, then down to 0 along a cosine,
        which gets furthest in a few hundred steps (choice of ours).
    decay_at
        Shares of the run.
    clip_norm
        Largest norm of the gradient. With the short schedule's high rates, one run in three of DIMNet-G never left its start without it.
    crop_frames
        Shortest and longest crop of a recording; one length a batch, another place in every recording. Shorter recordings stay whole.
    flip
        Probability of a mirrored picture.
    """

    encoders: EncoderConfig = EncoderConfig()
    steps: int = 28_000  # from memory
    batch_size: int = 256  # from memory
    learning_rate: float = 0.1  # from memory
    momentum: float = 0.9  # from memory
    weight_decay: float = 1e-3  # from memory
    schedule: str = "steps"
    decay_at: tuple[float, ...] = (16 / 28, 24 / 28)  # from memory: at 16,000 and 24,000
    clip_norm: float | None = None
    crop_frames: tuple[int, int] = (300, 800)  # code of paper 03
    flip: float = 0.5  # from memory

    def __post_init__(self) -> None:
        if self.schedule not in ("steps", "one-cycle"):
            raise ValueError(f"schedule: expected 'steps' or 'one-cycle', found {self.schedule!r}")
        if not 1 <= self.crop_frames[0] <= self.crop_frames[1]:
            raise ValueError(f"crop_frames: expected 1 <= shortest <= longest, found {self.crop_frames}")

    def optimise(
        self, parameters: Sequence[nn.Parameter], steps: int
    ) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        """Optimiser and learning-rate schedule of a run."""
        optimizer = torch.optim.SGD(
            parameters, lr=self.learning_rate, momentum=self.momentum, weight_decay=self.weight_decay
        )
        if self.schedule == "steps":
            milestones = [round(share * steps) for share in self.decay_at]
            return optimizer, torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, gamma=0.1)
        rise = max(1, steps // 5)

        def factor(step: int) -> float:
            if step < rise:
                return (step + 1) / rise
            return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))

        return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


@runtime_checkable
class Method(Protocol):
    """What `fit` needs: a frozen dataclass that builds modules and computes the loss of one step from a batch source."""

    def updates(self, train: TrainConfig) -> int:
        """Optimiser steps of a run."""
        ...

    def build(self, data: Meetings, split: Split, train: TrainConfig) -> dict[str, nn.Module]:
        """Encoders ``"voice"`` and ``"face"``, and what else is trained."""
        ...

    def loss(self, modules: Mapping[str, nn.Module], batches: Batches, step: int) -> Float[Tensor, ""]:
        """Loss of one step."""
        ...


@dataclass(frozen=True)
class DIMNet:
    r"""A variant of DIMNet.

    Parameters
    ----------
    weights
        :math:`\lambda_C` of each covariate, as pairs; `variant` makes them by name. 1 each (choice of ours; the paper's are not known).
    shared
        One classifier for both modalities. False is the negative control.
    alternating
        Voices and faces take turns, one update each (from memory: the paper alternates), instead of one update on the sum.
    permuted
        Negative control: faces carry the identity of another training person, always the same one.
    """

    weights: tuple[tuple[str, float], ...] = ((IDENTITY, 1.0),)
    shared: bool = True
    alternating: bool = False
    permuted: bool = False

    def __post_init__(self) -> None:
        wrong = [f"{name}: {weight}" for name, weight in self.weights if not (weight > 0 and math.isfinite(weight))]
        if wrong or not self.weights:
            raise ValueError(
                f"weights: expected at least one covariate, each with a positive weight, found {', '.join(wrong) or 'none'}; "
                "leave out covariates of weight 0"
            )
        if self.permuted and IDENTITY not in dict(self.weights):
            raise ValueError("permuted: only identity labels are permuted; this variant does not use them")

    @classmethod
    def variant(cls, name: str, **changes: Any) -> DIMNet:
        """DIMNet-I, -G, -N, -IG, -IN, -GN or -IGN by its letters, all weights 1."""
        if name not in VARIANTS:
            raise ValueError(f"variant: expected one of {', '.join(VARIANTS)}, found {name!r}")
        return cls(tuple((covariate, 1.0) for covariate in VARIANTS[name]), **changes)

    def updates(self, train: TrainConfig) -> int:
        """As many batches of each modality whether they take turns or not."""
        return train.steps * (2 if self.alternating else 1)

    def build(self, data: Meetings, split: Split, train: TrainConfig) -> dict[str, nn.Module]:
        """Encoders and classifiers."""
        classes = {covariate: data.classes(covariate, split) for covariate, _ in self.weights}
        heads = Classifiers(classes, train.encoders.dim, shared=self.shared, seed=split.seed + 2)
        return {**train.encoders.build(data, split.seed), "heads": heads}

    def loss(self, modules: Mapping[str, nn.Module], batches: Batches, step: int) -> Float[Tensor, ""]:
        """`covariate_loss` of independent batches of voices and faces."""
        turn = (MODALITIES[step % 2],) if self.alternating else MODALITIES
        number = step // 2 if self.alternating else step
        rows = {modality: batches.rows(modality, number) for modality in turn}
        embeddings = {m: modules[m](batches.inputs(m, rows[m], number)) for m in turn}
        labels = {m: {c: self._labels(batches, m, c)[whole_batch.own(rows[m])] for c, _ in self.weights} for m in turn}
        return covariate_loss(modules["heads"](embeddings), labels, dict(self.weights))

    def _labels(self, batches: Batches, modality: str, covariate: str) -> Int[Tensor, " items"]:
        labels = batches.labels(modality, covariate)
        if self.permuted and modality == "face" and covariate == IDENTITY:
            order = torch.from_numpy(batches.rng("permuted labels").permutation(len(batches.split.train)))
            return torch.where(labels >= 0, order.to(labels.device)[labels], labels)
        return labels


class Standardised(nn.Module):
    """An encoder whose embedding has mean 0 and variance 1 in the batch, number by number (batch normalisation without scale and shift).

    Both methods below compare embeddings, which at the start differ little from each other and much from zero: all comparisons look
    alike. The encoder may be one that was trained alone (`Job.start`); from random weights most short runs of both methods learn nothing,
    since each encoder must already show something before the other one can agree with it.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.dim = encoder, encoder.dim
        self.norm = nn.BatchNorm1d(encoder.dim, affine=False)

    def forward(self, inputs: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch dim"]:
        """Embeddings."""
        return self.norm(self.encoder(inputs))


@dataclass(frozen=True)
class SVHF:
    r"""Which of two faces belongs to the voice (or which of two voices to the face)? Three streams and a softmax over two answers.

    .. math:: P(\text{first}) = \mathrm{softmax}\,\mathrm{MLP}\big([F(q),\,F'(g_1),\,F'(g_2)]\big)_1

    The encoders are those of this project in place of VGG-M; both candidates go through the same one. As the published networks do, it
    should start from encoders that were trained before (`Job.start`).

    Parameters
    ----------
    probe
        ``"voice"``: a voice and two faces. ``"face"``: a face and two voices.
    hidden
        Widths of the two inner layers at full width; scaled like the encoders.
    strangers
        Triples of each probe, each in both orders; strangers are other people of the batch, which costs the last layers only.

    References
    ----------
    Nagrani, Albanie, Zisserman, "Seeing Voices and Hearing Faces: Cross-modal Biometric Matching" (CVPR 2018): 3,072 -> 1,024 -> 512 -> 2.
    """

    probe: str = "voice"
    hidden: tuple[int, int] = (1024, 512)  # as published
    strangers: int = 1  # as published

    def __post_init__(self) -> None:
        if self.probe not in MODALITIES or self.strangers < 1:
            raise ValueError(
                f"expected probe 'voice' or 'face' and at least one stranger, found {self.probe!r} and {self.strangers}"
            )

    def updates(self, train: TrainConfig) -> int:
        """One a step."""
        return train.steps

    def build(self, data: Meetings, split: Split, train: TrainConfig) -> dict[str, nn.Module]:
        """Encoders and the judge of three features."""
        widths = [max(2, round(train.encoders.width * count)) for count in self.hidden]
        judge = Judge(train.encoders.dim, *widths, seed=split.seed + 2)
        return {**_standardised(data, split, train), "judge": judge}

    def loss(self, modules: Mapping[str, nn.Module], batches: Batches, step: int) -> Float[Tensor, ""]:
        """Cross-entropy of the right answer, mean over triples; strangers are other people of the batch."""
        people, sides = _pairs(modules, batches, step)
        probe, candidate = sides[self.probe], sides[MODALITIES[1 - MODALITIES.index(self.probe)]]
        shifts = batches.rng("strangers", step).permutation(np.arange(1, len(people)))[: self.strangers]
        own = np.arange(len(people)).repeat(len(shifts))
        other = (np.arange(len(people))[:, None] + shifts).ravel() % len(people)
        different = people[own] != people[other]
        own, other = (torch.from_numpy(rows[different]).to(probe.device) for rows in (own, other))
        logits = modules["judge"](
            probe, candidate, torch.cat([own, own]), torch.cat([own, other]), torch.cat([other, own])
        )
        answers = torch.arange(2, device=probe.device).repeat_interleave(len(own))
        return functional.cross_entropy(logits, answers)


def _standardised(data: Meetings, split: Split, train: TrainConfig) -> dict[str, nn.Module]:
    return {name: Standardised(encoder) for name, encoder in train.encoders.build(data, split.seed).items()}


def _pairs(
    modules: Mapping[str, nn.Module], batches: Batches, step: int
) -> tuple[Int[np.ndarray, " batch"], dict[str, Float[Tensor, "batch dim"]]]:
    """People of a batch, and embeddings of a recording and a picture of each."""
    people, rng = batches.people(step), batches.rng("pairs", step)
    return people, {  # every process compares all pairs, but has embedded only its own
        modality: whole_batch.gather(
            modules[modality](batches.inputs(modality, batches.item_of(modality, people, rng), step))
        )
        for modality in MODALITIES
    }


class Judge(nn.Module):
    """Three features in, two logits out: is the first or the second candidate the right one?

    The first layer is linear in the three features side by side, so each item passes through its share of it once, whatever the number of
    triples that it is part of.
    """

    def __init__(self, dim: int, first: int, second: int, *, seed: int) -> None:
        super().__init__()
        self.streams = nn.Linear(3 * dim, first)
        self.rest = nn.Sequential(nn.ReLU(), nn.Linear(first, second), nn.ReLU(), nn.Linear(second, 2))
        initialise_(self, torch.Generator().manual_seed(seed))

    def forward(
        self,
        probes: Float[Tensor, "probes dim"],
        candidates: Float[Tensor, "candidates dim"],
        probe: Int[Tensor, " *triples"],
        first: Int[Tensor, " *triples"],
        second: Int[Tensor, " *triples"],
    ) -> Float[Tensor, "*triples 2"]:
        """Logits of "the first" and "the second" of triples, given as rows of probes and of candidates."""
        parts = self.streams.weight.split(probes.shape[1], dim=1)
        hidden = (
            functional.linear(probes, parts[0], self.streams.bias)[probe]
            + functional.linear(candidates, parts[1])[first]
            + functional.linear(candidates, parts[2])[second]
        )
        return self.rest(hidden)


@dataclass(frozen=True)
class Contrastive:
    r"""A joint embedding from pairs: in a batch of pairs, every voice must find its face and every face its voice. A baseline of ours.

    .. math:: L = -\frac1{2B}\sum_b \left[\log\frac{e^{s\cos_{bb}}}{\sum_c e^{s\cos_{bc}}} + \log\frac{e^{s\cos_{bb}}}{\sum_c e^{s\cos_{cb}}}\right]

    In the spirit of PINs (Nagrani, Albanie, Zisserman, ECCV 2018), which push one chosen stranger a margin away and start from trained
    encoders; the softmax over all strangers of the batch needs no choice of strangers.

    Parameters
    ----------
    scale
        :math:`s`. Fixed: learned, it falls towards 0 as long as nothing is known, and stays there.
    """

    scale: float = 4.0  # choice of ours

    def __post_init__(self) -> None:
        if not 0 < self.scale < math.inf:
            raise ValueError(f"scale: expected a positive number, found {self.scale}")

    def updates(self, train: TrainConfig) -> int:
        """One a step."""
        return train.steps

    def build(self, data: Meetings, split: Split, train: TrainConfig) -> dict[str, nn.Module]:
        """Encoders alone."""
        return _standardised(data, split, train)

    def loss(self, modules: Mapping[str, nn.Module], batches: Batches, step: int) -> Float[Tensor, ""]:
        """`contrastive_loss` of a batch of people, a recording and a picture of each."""
        people, sides = _pairs(modules, batches, step)
        voice, face = (functional.normalize(sides[modality], dim=1) for modality in MODALITIES)
        stranger = torch.from_numpy(people[:, None] != people).to(voice.device)
        return contrastive_loss(self.scale * voice @ face.T, stranger)


def contrastive_loss(logits: Float[Tensor, "batch batch"], stranger: Bool[Tensor, "batch batch"]) -> Float[Tensor, ""]:
    """Softmax loss over rows and over columns, own pairs on the diagonal; another pair of the same person is no stranger and is left out."""
    kept = stranger | torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    logits = logits.masked_fill(~kept, -math.inf)
    own = torch.arange(len(logits), device=logits.device)
    return (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2


# ----------------------------------------------------------------------------------------------------- 5. the batches


class Batches:
    """Batches of one run: pure functions of the step, so that a resumed run sees the same ones.

    Parameters
    ----------
    data, split, train
        What is drawn from.
    device
        Where inputs and labels go.
    """

    def __init__(
        self,
        data: Meetings,
        split: Split,
        train: TrainConfig,
        *,
        device: torch.device | str = "cpu",
    ) -> None:
        missing = sorted(set(split.train) - set(data.identities.tolist()))
        if missing:
            raise ValueError(f"{data.faces.name}: nothing of the training people {missing[:5]}; check the split")
        self.data, self.split, self.train, self.device = data, split, train, device
        self._images = data.faces.images.to(device)
        self._frames = data.voices.log_mel.to(device)
        self._length = data.voices.starts.diff()
        self._own = {modality: data.rows(modality, split.train) for modality in MODALITIES}
        self._labels: dict[tuple[str, str], Tensor] = {}
        self._counts = {}
        for modality, rows in self._own.items():
            counts = np.bincount(data.labels(modality, IDENTITY, split)[rows].numpy(), minlength=len(split.train))
            self._counts[modality] = counts, np.cumsum(counts) - counts

    def rng(self, stream: str, step: int = 0) -> np.random.Generator:
        """A generator of this run, stream and step."""
        return np.random.default_rng([self.split.seed, step, *stream.encode()])

    def rows(self, modality: str, step: int) -> Int[Tensor, " batch"]:
        """Items of one batch: every item of the training people once before any comes twice; the modalities know nothing of each other."""
        own = self._own[modality]
        seed = self.split.seed + MODALITIES.index(modality)
        return own[training.batch_indices(len(own), self.train.batch_size, step, seed=seed)]

    def people(self, step: int) -> Int[np.ndarray, " batch"]:
        """Class numbers of training people, everybody once before anybody comes twice."""
        count = len(self.split.train)
        return training.batch_indices(count, self.train.batch_size, step, seed=self.split.seed + 2).numpy()

    def item_of(self, modality: str, people: Int[np.ndarray, " n"], rng: np.random.Generator) -> Int[Tensor, " n"]:
        """A random item of each of the given training people (by class number)."""
        counts, starts = self._counts[modality]
        return self._own[modality][torch.from_numpy(starts[people] + rng.integers(counts[people]))]

    def labels(self, modality: str, covariate: str) -> Int[Tensor, " items"]:
        """Class numbers of all items."""
        key = modality, covariate
        if key not in self._labels:
            self._labels[key] = self.data.labels(modality, covariate, self.split).to(self.device)
        return self._labels[key]

    def inputs(self, modality: str, rows: Int[Tensor, " batch"], step: int) -> Float[Tensor, "own ..."]:
        """Augmented items: crops of recordings, mirrored pictures. Chance is drawn for the whole batch, then each process takes its own rows."""
        rng = self.rng(f"{modality} inputs 0", step)
        if modality == "face":
            images = self._images[whole_batch.own(rows).to(self.device)]
            mirrored = whole_batch.own(torch.from_numpy(rng.random(len(rows)) < self.train.flip)).to(self.device)
            return torch.where(mirrored[:, None, None, None], images.flip(3), images)
        length = self._length[rows].numpy()
        shortest, longest = self.train.crop_frames
        frames = min(int(rng.integers(shortest, longest + 1)), int(length.min()))
        begin = self.data.voices.starts[rows].numpy() + rng.integers(length - frames + 1)
        return _cut(self._frames, whole_batch.own(torch.from_numpy(begin)), frames)


def _cut(frames: Float[Tensor, "frames bands"], begin: Int[Tensor, " batch"], count: int) -> Tensor:
    """Windows of equal length, bands before time."""
    index = begin[:, None] + torch.arange(count)
    return frames[index.to(frames.device)].transpose(1, 2)


# ---------------------------------------------------------------------------------------------------- 6. the training


@dataclass(frozen=True)
class Trained:
    """A finished run.

    Parameters
    ----------
    modules
        Encoders, and heads or judge; in evaluation mode.
    method, split
        What was trained, and whom it has not seen.
    history
        ``loss`` of every update.
    learned
        By covariate, the values that the classes of its head stand for (`Meetings.learned`); 0, 1, ... where they are not given.
    """

    modules: dict[str, nn.Module]
    method: Method
    split: Split
    history: dict[str, Float[np.ndarray, " steps"]]
    learned: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)


def fit(
    fabric: lightning_fabric.Fabric,
    data: Meetings,
    split: Split,
    method: Method,
    train: TrainConfig,
    *,
    start: Mapping[str, nn.Module] | None = None,
    checkpoint: Path | None = None,
) -> Trained:
    """Train one model on the training people of a split.

    Parameters
    ----------
    fabric
        From `training.launch`.
    data
        Voices and faces of everybody.
    split
        Training people, and the seed of weights, batches and augmentation.
    method, train
        What to train and how.
    start
        Encoders ``"voice"`` and ``"face"`` to start from, of the same sizes, for `SVHF` and `Contrastive`.
    checkpoint
        File to resume from and save to.
    """
    modules = method.build(data, split, train)
    for modality in MODALITIES if start is not None else ():
        modules[modality].encoder.load_state_dict(start[modality].state_dict())
    parameters = [p for module in modules.values() for p in module.parameters()]
    steps = method.updates(train)
    optimizer, schedule = train.optimise(parameters, steps)
    run = training.Run(
        fabric, modules, optimizer, steps=steps, schedule=schedule, clip_norm=train.clip_norm, checkpoint=checkpoint
    )
    batches = Batches(data, split, train, device=fabric.device)
    for step in run:
        run.update(method.loss(run.modules, batches, step))
    modules = {name: module.eval() for name, module in modules.items()}
    return Trained(modules, method, split, run.history, _learned(method, data, split))


def _learned(method: Method, data: Meetings, split: Split) -> dict[str, tuple[int, ...]]:
    heads = method.weights if isinstance(method, DIMNet) else ()
    return {covariate: data.learned(covariate, split) for covariate, _ in heads if covariate != IDENTITY}


@dataclass(frozen=True)
class Job:
    """Everything that finished trainings depend on, one run a split.

    Parameters
    ----------
    method, train
        What to train and how.
    data
        Voices and faces of everybody.
    splits
        Training and test people, one seed each.
    start
        The job whose encoders, trained on the same split, are the first ones here; its updates come on top of these.
    """

    method: Method
    data: Meetings
    splits: tuple[Split, ...]
    train: TrainConfig
    start: Job | None = None

    def run(self, fabric: lightning_fabric.Fabric) -> list[Trained]:
        """The trained models, each from the cache if the same code, data, split and configuration were trained before."""
        return [self._one(fabric, split) for split in self.splits]

    def _key(self, split: Split) -> dict[str, Any]:
        return {
            "data": self.data.fingerprint,
            "split": dataclasses.asdict(split),
            "method": {"name": type(self.method).__name__, **dataclasses.asdict(self.method)},
            "train": dataclasses.asdict(self.train),
            "start": None if self.start is None else self.start._key(split),
        }

    def _one(self, fabric: lightning_fabric.Fabric, split: Split) -> Trained:
        def anew(checkpoint: Path) -> dict[str, Any]:
            before = None if self.start is None else self.start._one(fabric, split).modules
            done = fit(fabric, self.data, split, self.method, self.train, start=before, checkpoint=checkpoint)
            history = {name: torch.from_numpy(values) for name, values in done.history.items()}
            return {"modules": {n: m.state_dict() for n, m in done.modules.items()}, "history": history}

        key = self._key(split)
        state = training.cached("dimnet", key, anew, code=[Path(__file__)], fabric=fabric)
        modules = self.method.build(self.data, split, self.train)
        for name, module in modules.items():
            module.load_state_dict(state["modules"][name])
            module.eval()
        history = {name: values.cpu().numpy() for name, values in state["history"].items()}
        return Trained(modules, self.method, split, history, _learned(self.method, self.data, split))


# ----------------------------------------------------------------------------------------- 7. people never seen before


@dataclass(frozen=True)
class Unseen:
    """Embeddings of everything that shows the test people.

    Parameters
    ----------
    people
        Their identities, sorted.
    voice, face
        Embeddings, not normalised.
    voice_people, face_people
        Place of each item's person in `people`.
    """

    people: Int[np.ndarray, " people"]
    voice: Float[np.ndarray, "recordings dim"]
    face: Float[np.ndarray, "pictures dim"]
    voice_people: Int[np.ndarray, " recordings"]
    face_people: Int[np.ndarray, " pictures"]

    @property
    def scores(self) -> Float[np.ndarray, "recordings pictures"]:
        r"""Cosines :math:`\cos\angle(F_v(v), F_f(f))`: everything that is measured is a function of them."""
        sides = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in (self.voice, self.face)]
        return sides[0] @ sides[1].T


@torch.no_grad()
def embed(
    encoder: nn.Module, data: Meetings, modality: str, rows: Int[Tensor, " rows"], *, batch: int = 256
) -> Float[np.ndarray, "rows dim"]:
    """Embeddings of whole recordings, or of pictures, in evaluation mode; recordings of one length go together."""
    encoder.eval()
    device = next(encoder.parameters()).device
    out = torch.empty(len(rows), encoder.dim)
    if modality == "face":
        for part in torch.arange(len(rows)).split(batch):
            out[part] = encoder(data.faces.images[rows[part]].to(device)).cpu()
        return out.double().numpy()
    length = data.voices.starts.diff()[rows]
    for frames in length.unique().tolist():
        for part in torch.nonzero(length == frames).squeeze(1).split(batch):
            recordings = _cut(data.voices.log_mel, data.voices.starts[rows[part]], frames)
            out[part] = encoder(recordings.to(device)).cpu()
    return out.double().numpy()


def unseen(trained: Trained, data: Meetings, *, per_person: int | None = None) -> Unseen:
    """Embeddings of the test people of a run.

    Parameters
    ----------
    trained
        A run.
    data
        The data it was made from.
    per_person
        At most so many recordings and pictures of each, the first ones.

    Raises
    ------
    ValueError
        If an embedding is not finite.
    """
    people = np.array(sorted(trained.split.test))
    sides = {}
    for modality, source in (("voice", data.voices), ("face", data.faces)):
        rows = data.rows(modality, trained.split.test)
        who = np.searchsorted(people, source.identities[rows].numpy())
        if per_person is not None:
            first = np.arange(len(who)) - np.searchsorted(who, who)
            rows, who = rows[torch.from_numpy(first < per_person)], who[first < per_person]
        values = embed(trained.modules[modality], data, modality, rows)
        if not np.isfinite(values).all():
            raise ValueError(f"{modality} embeddings are not finite; the run diverged, lower the learning rate")
        sides |= {modality: values, f"{modality}_people": who}
    return Unseen(people=people, **sides)


def posteriors(
    trained: Trained, items: Unseen, covariate: str
) -> tuple[Float[np.ndarray, "recordings values"], Float[np.ndarray, "pictures values"]]:
    """What the trained heads say of a covariate of unseen voices and faces: paper 01's recognisers.

    Columns are the values from 0 to the largest that a training person has; one that no training person has is never expected (0).

    Raises
    ------
    ValueError
        If the run has no head for it.
    """
    known = dict(trained.method.weights) if isinstance(trained.method, DIMNet) else {}
    if covariate not in known or covariate == IDENTITY:
        raise ValueError(f"covariate {covariate!r}: this run has no classifier for it that speaks about unseen people")
    result, heads = [], trained.modules["heads"]
    learned = list(trained.learned.get(covariate, range(len(heads.weight(covariate, MODALITIES[0])))))
    for modality, embeddings in (("voice", items.voice), ("face", items.face)):
        logits = torch.from_numpy(embeddings) @ heads.weight(covariate, modality).detach().double().T
        result.append(np.zeros((len(logits), max(learned) + 1)))
        result[-1][:, learned] = torch.softmax(logits, dim=1).numpy()
    return result[0], result[1]


@torch.no_grad()
def svhf_wins(trained: Trained, data: Meetings, *, per_person: int = 2) -> PairWins:
    """1:2 decisions of SVHF on unseen people, over all triples of a probe, an own and another's item; both orders averaged.

    SVHF has no embedding that could be compared, so every triple goes through its judge; `per_person` keeps their number down.

    Parameters
    ----------
    trained
        A run of `SVHF`.
    data
        The data it was made from.
    per_person
        Recordings and pictures of each person.
    """
    if not isinstance(trained.method, SVHF):
        raise ValueError(f"trained: expected a run of SVHF, found {type(trained.method).__name__}")
    items = unseen(trained, data, per_person=per_person)
    probe, candidate = (items.voice, items.face) if trained.method.probe == "voice" else (items.face, items.voice)
    probe_people, people = (
        (items.voice_people, items.face_people)
        if trained.method.probe == "voice"
        else (items.face_people, items.voice_people)
    )
    judge = trained.modules["judge"]
    probes_in, candidates = (torch.from_numpy(side).float() for side in (probe, candidate))
    total, count = len(items.people), np.bincount(people, minlength=len(items.people))
    won, every = np.zeros((total, total)), torch.arange(len(people))
    for row, person in enumerate(probe_people):
        own = torch.from_numpy(np.flatnonzero(people == person))
        pairs = torch.cartesian_prod(own, every)
        query = torch.full((len(pairs),), row)
        logits = [judge(probes_in, candidates, query, *sides) for sides in (pairs.T, pairs.T.flip(0))]
        gap = (logits[0][:, 0] - logits[0][:, 1]) - (logits[1][:, 0] - logits[1][:, 1])
        share = ((gap > 0).double() + 0.5 * (gap == 0).double()).view(len(own), -1).sum(0)
        won[person] += np.bincount(people, share.numpy(), minlength=total)
    probes = np.bincount(probe_people, minlength=total)
    trials = np.outer(probes * count, count)
    wins = np.where(trials > 0, won / np.where(trials > 0, trials, 1), 0)
    np.fill_diagonal(wins, 0)
    return PairWins(wins, probes, probes * count, count)
