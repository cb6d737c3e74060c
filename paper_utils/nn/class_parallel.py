r"""Class-parallel heads: every rank holds a slice of the class proxies, what papers 05 and 06 need for very many classes.

A softmax couples all classes through its normaliser, so the ranks must exchange one in the forward pass; the loss of SphereFace2
is a sum over classes and needs none. Loss and gradients are those of one process that has all classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from paper_utils.nn import binary_margins, margins
from paper_utils.nn.exchanges import Ranks

# Rows of proxies that are drawn together, so that a class starts the same on any number of ranks. Choice of ours.
DRAWN_TOGETHER = 1024

# ------------------------------------------------------------------------------------------------- 1. do the ranks agree?

# The first of the numbers that every rank shows the others before it computes: these must be equal.
_EQUAL = ("batch", "dim", "classes", "bytes a number", "features that need a gradient", "lowest label")


def check_agreement(
    embeddings: Float[Tensor, "*embeddings"],
    labels: Int[Tensor, "*labels"],
    proxies: Float[Tensor, "*proxies"],
    classes: int,
    ranks: Ranks,
    *,
    lowest: int = 0,
) -> None:
    """Raise the same `ValueError` on *every* rank if the inputs of any of them cannot be right, where all would wait for ever.

    Parameters
    ----------
    embeddings, labels
        This rank's part of the batch.
    proxies
        This rank's shard.
    classes
        Number of all classes.
    ranks
        Who takes part; 72 bytes a rank are exchanged.
    lowest
        Smallest label: -1 (none of the classes) where the loss knows what to do with it.

    Raises
    ------
    ValueError
        If the ranks differ in batch size, width, number of classes, precision or in whether the features need a gradient; if a shard has
        the wrong number of rows, labels are out of range or do not fit the embeddings, or embeddings are not finite.
    """
    dtype = margins.full_precision(embeddings).dtype
    fits = (
        embeddings.ndim == 2
        and labels.shape == embeddings.shape[:1]
        and embeddings.shape[1] == proxies.shape[1]
        and dtype == margins.full_precision(proxies).dtype
    )
    outside = ((labels < lowest) | (labels >= classes)).sum() if fits else torch.full_like(labels.sum(), -1)
    infinite = (~torch.isfinite(embeddings)).sum()
    known = [len(labels), embeddings.shape[-1], classes, dtype.itemsize]
    known += [int(embeddings.requires_grad), lowest, len(proxies)]
    own = torch.cat([torch.tensor(known, device=labels.device), torch.stack([outside, infinite])])
    shown = ranks.all_gather(own, "check", "forward").view(ranks.size, -1).tolist()
    for name, *found in zip(_EQUAL, *shown, strict=False):
        if len(set(found)) > 1:
            each = ", ".join(f"{value} on rank {rank}" for rank, value in enumerate(found))
            raise ValueError(
                f"{name}: the ranks disagree, found {each}; give every rank the same (drop a last, smaller batch)"
            )
    if len(labels) == 0:
        raise ValueError("labels: the batch is empty; a head needs at least one sample a rank")
    for rank, (*_, rows, outside, infinite) in enumerate(shown):
        if rows != (expected := len(shard(classes, rank, ranks.size))):
            raise ValueError(
                f"proxies: rank {rank} of {ranks.size} holds {rows} rows, its part of {classes} classes is {expected}; cut with `shard`"
            )
        if outside < 0:
            raise ValueError(
                f"labels: on rank {rank} of {ranks.size} embeddings, labels and proxies do not fit; expected (batch, dim), (batch,), (shard, dim) "
                f"and one precision; rank {ranks.rank} has {tuple(embeddings.shape)}, {tuple(labels.shape)}, {tuple(proxies.shape)} "
                f"in {str(dtype)[6:]} and {str(proxies.dtype)[6:]}"
            )
        if outside:
            raise ValueError(
                f"labels: {outside} on rank {rank} lie outside [{lowest}, {classes - 1}]; number the classes over all ranks"
            )
        if infinite:
            raise ValueError(
                f"embeddings: {infinite} numbers on rank {rank} are NaN or infinite; the run has diverged, lower the learning rate or clip"
            )


# --------------------------------------------------------------------------------------------------- 2. shards of classes


def shard(classes: int, rank: int, ranks: int) -> range:
    """The consecutive classes of one rank; the first ``classes % ranks`` ranks have one more than the others.

    Raises
    ------
    ValueError
        If there are fewer classes than ranks or `rank` is not one of them.

    Examples
    --------
    >>> [shard(10, rank, 4) for rank in range(4)]
    [range(0, 3), range(3, 6), range(6, 8), range(8, 10)]
    """
    if not 0 <= rank < ranks:
        raise ValueError(f"rank: expected a number in [0, {ranks - 1}], found {rank}")
    if classes < max(ranks, 2):
        raise ValueError(f"classes: {ranks} ranks need at least {max(ranks, 2)}, found {classes}; use fewer ranks")
    each, more = divmod(classes, ranks)
    start = rank * each + min(rank, more)
    return range(start, start + each + (rank < more))


def first_proxies(classes: int, dim: int, seed: int, ranks: Ranks) -> Float[Tensor, "shard dim"]:
    """This rank's first proxies, N(0, 2 / (classes + dim)) as in OpenSphere; a class gets the same ones on any number of ranks.

    Only the shard is ever in memory (and at most two blocks of `DRAWN_TOGETHER` rows beyond it).
    """
    own = shard(classes, ranks.rank, ranks.size)
    first, last = own.start // DRAWN_TOGETHER, (own.stop - 1) // DRAWN_TOGETHER
    drawn = [np.random.default_rng([seed, block]).standard_normal((DRAWN_TOGETHER, dim), np.float32)
             for block in range(first, last + 1)]  # fmt: skip
    begin = own.start - first * DRAWN_TOGETHER
    return torch.from_numpy(np.concatenate(drawn)[begin : begin + len(own)]) * math.sqrt(2 / (classes + dim))


def sample_shard(
    target: Int[Tensor, " batch"], classes: int, rate: float, generator: torch.Generator
) -> tuple[Int[Tensor, " kept"], Int[Tensor, " batch"]]:
    """Partial FC within a shard: the batch's classes that it owns, filled up with random others to a share `rate` of its classes.

    Parameters
    ----------
    target
        From `binary_margins.shard_labels`.
    classes
        Number of classes of the shard.
    rate, generator
        See `margins.sample_classes`, which this is for a shard that owns every label. At least one class is always kept.

    Returns
    -------
    kept
        Sorted places in the shard.
    target
        Place of each target among `kept`, -1 where there is none.
    """
    owned = target >= 0
    positives = target[owned]
    if not len(positives):  # nothing is forced: a first class at random leaves the choice uniform
        positives = torch.randint(classes, (1,), generator=generator).to(target.device)
    kept, _ = margins.sample_classes(positives, classes, rate, generator)
    return kept, torch.where(owned, torch.searchsorted(kept, target.clamp_min(0)), -1)


# ------------------------------------------------------------------------------------- 3. gradients that cross the ranks


class _GatherFeatures(torch.autograd.Function):
    """Forward: the features of all ranks. Backward: each rank's part of the gradient, summed over the shards of all ranks."""

    @staticmethod
    def forward(ctx, features, ranks, factor):
        ctx.ranks, ctx.factor = ranks, factor
        return ranks.all_gather(features, "features", "forward")

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        own = ctx.ranks.reduce_scatter(gradient, "feature gradient", "backward")
        return own * ctx.factor if ctx.factor != 1 else own, None, None


class _Shared(torch.autograd.Function):
    """A parameter that every rank holds whole. Forward: itself. Backward: its gradient, summed over the shards of all ranks."""

    @staticmethod
    def forward(ctx, value, ranks):
        ctx.ranks = ranks
        return value.view_as(value)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        return ctx.ranks.all_reduce(gradient, "bias gradient", "backward"), None


class _SummedLoss(torch.autograd.Function):
    """Forward: the sum of all ranks' partial losses. Backward: nothing to exchange, each part has slope 1."""

    @staticmethod
    def forward(ctx, partial, ranks):  # noqa: ARG004
        return ranks.all_reduce(partial, "loss", "forward")

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):  # noqa: ARG004
        return gradient, None


class _ShardedCrossEntropy(torch.autograd.Function):
    """Cross-entropy of each row over the classes of all ranks. Forward: maximum and sums are exchanged. Backward: nothing is."""

    @staticmethod
    def forward(ctx, logits, target, ranks):
        place = target.clamp_min(0).unsqueeze(1)
        highest = ranks.all_reduce(logits.amax(1), "normaliser", "forward", largest=True)
        own = torch.where(target >= 0, logits.gather(1, place).squeeze(1), 0.0)
        share = (logits - highest.unsqueeze(1)).exp_()
        total, own = ranks.all_reduce(torch.stack([share.sum(1), own]), "normaliser", "forward")
        ctx.save_for_backward(share.div_(total.unsqueeze(1)), target)
        return highest + total.log() - own

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        share, target = ctx.saved_tensors
        out = share * gradient.unsqueeze(1)
        hit = torch.where(target >= 0, -gradient, 0.0)
        return out.scatter_add_(1, target.clamp_min(0).unsqueeze(1), hit.unsqueeze(1)), None, None


# ------------------------------------------------------------------------------------------------- 4. losses of a shard


def shard_margin_cosines(
    cosine: Float[Tensor, "batch shard"],
    target: Int[Tensor, " batch"],
    psi: margins.AngularFunction | None,
    eta: margins.AngularFunction | None = None,
    *,
    detach: bool = True,
) -> Float[Tensor, "batch shard"]:
    r"""`margins.margin_cosines` of a shard: rows whose target another rank owns (-1) get :math:`\eta` everywhere.

    Parameters
    ----------
    cosine
        Cosines with the shard's proxies.
    target
        From `binary_margins.shard_labels`.
    psi, eta, detach
        See `margins.margin_cosines`.
    """
    index, owned = target.clamp_min(0).unsqueeze(1), (target >= 0).unsqueeze(1)
    own = cosine.gather(1, index)
    if not detach:
        others = cosine if eta is None else eta(cosine)
        return others.scatter(1, index, torch.where(owned, own if psi is None else psi(own), others.gather(1, index)))
    with torch.no_grad():
        shift = torch.zeros_like(own) if psi is None else psi(own) - own
        if eta is not None:
            others = eta(cosine) - cosine
            others.scatter_(1, index, torch.where(owned, shift, others.gather(1, index)))
    return cosine.scatter_add(1, index, torch.where(owned, shift, 0.0)) if eta is None else cosine + others


@dataclass(frozen=True)
class SoftmaxFamily:
    r"""NormFace, CosFace, ArcFace, SphereFace, SphereFace-R: one cross-entropy over the classes of all ranks.

    .. math:: L_b = \log\sum_j e^{\rho f_{bj}} - \rho f_{by}, \qquad
        f_{bj} = \psi(\theta_{bj})\,[j = y_b] + \eta(\theta_{bj})\,[j \ne y_b]

    Parameters
    ----------
    psi, eta, detach
        See `margins.margin_cosines`.
    scale
        :math:`\rho`; ``None`` is the length of the feature (NFN).
    floor
        See `margins.cross_entropy`.

    References
    ----------
    Paper 06, unified loss; the exchanged maximum and sums are those of InsightFace's Partial FC.
    """

    psi: margins.AngularFunction | None = None
    eta: margins.AngularFunction | None = None
    scale: float | None = 30.0
    detach: bool = True
    floor: float = 0.0

    def loss(
        self,
        features: Float[Tensor, "batch dim"],
        proxies: Float[Tensor, "shard dim"],
        target: Int[Tensor, " batch"],
        bias: Float[Tensor, ""] | None,  # noqa: ARG002
        ranks: Ranks,
    ) -> Float[Tensor, ""]:
        """Mean over the whole batch, the same number on every rank; `proxies` are the shard's unit rows."""
        rho = features.norm(dim=-1, keepdim=True) if self.scale is None else self.scale
        cosine = margins.cosines(features, proxies)
        logits = rho * shard_margin_cosines(cosine, target, self.psi, self.eta, detach=self.detach)
        rows = _ShardedCrossEntropy.apply(logits, target, ranks)
        if self.floor:
            rows = margins.detached(rows.clamp(max=-math.log(self.floor)), rows)
        return rows.mean()


@dataclass(frozen=True)
class BinaryFamily:
    r"""SphereFace2: one binary problem a class, so the loss of a shard needs nothing from the others.

    .. math:: L = \sum_{\text{ranks}} \; \sum_{j \in \text{shard}} \ell(\theta_j, [j = y], b)

    Parameters
    ----------
    rule
        The loss, see `binary_margins.binary_loss`.
    bias
        First value of the one bias that all classes share.

    References
    ----------
    Paper 05, loss (equation 5 by the authors' code) and the section on the parallel classifier layer.
    """

    rule: binary_margins.BinaryMargin
    bias: float = 0.0

    def loss(
        self,
        features: Float[Tensor, "batch dim"],
        proxies: Float[Tensor, "shard dim"],
        target: Int[Tensor, " batch"],
        bias: Float[Tensor, ""] | None,
        ranks: Ranks,
    ) -> Float[Tensor, ""]:
        """Mean over the whole batch, the same number on every rank; `proxies` are the shard's unit rows."""
        if ranks.size == 1:
            return binary_margins.binary_loss(features, proxies, bias, target, self.rule)
        partial = binary_margins.binary_loss(features, proxies, _Shared.apply(bias, ranks), target, self.rule)
        return _SummedLoss.apply(partial, ranks)


# ------------------------------------------------------------------------------------------------------------ 5. the head


class ClassParallel(nn.Module):
    """A head whose classes are shared out over ranks; loss and gradients are those of one process with all classes.

    Every rank calls it with its own part of the batch, in the same order, with gradients on everywhere or nowhere. Do not wrap it in
    DistributedDataParallel: that would overwrite the shards by rank 0's and average what belongs to different classes.

    Parameters
    ----------
    proxies
        First values of this rank's shard, e.g. `first_proxies` or rows ``shard(...)`` of a checkpoint.
    classes
        Number of all classes.
    family
        Which loss.
    ranks
        Who takes part.
    inside
        False: stored proxies are overwritten by unit ones before use (OpenSphere). True: normalised in the graph (InsightFace).
    rate
        Below 1: Partial FC within each shard (`sample_shard`); proxies left out of a step have gradient 0 (momentum and weight decay
        of a plain optimiser still move them). SphereFace2's sum over negatives gets shorter, it is not scaled up again.
    averaged
        True if a DistributedDataParallel backbone will *average* its gradient over ranks: the feature gradient is then
        multiplied by the number of ranks, so that the average is the gradient of the whole batch's mean.
    check
        Compare the ranks' inputs first (`check_agreement`); off, a mistake may end in a deadlock.

    Attributes
    ----------
    proxies, bias
        The shard; the bias of SphereFace2 (the same on every rank), else None.

    Raises
    ------
    ValueError
        If the shard's size is wrong or `rate` is outside (0, 1].

    Examples
    --------
    >>> ranks = Ranks()
    >>> head = ClassParallel(first_proxies(10, 4, 0, ranks), 10, SoftmaxFamily(scale=8.0), ranks)
    >>> head(torch.ones(2, 4), torch.tensor([3, 9])).shape
    torch.Size([])
    """

    def __init__(
        self,
        proxies: Float[Tensor, "shard dim"],
        classes: int,
        family: SoftmaxFamily | BinaryFamily,
        ranks: Ranks,
        *,
        inside: bool = False,
        rate: float = 1.0,
        averaged: bool = False,
        check: bool = True,
    ) -> None:
        super().__init__()
        self.shard = shard(classes, ranks.rank, ranks.size)
        if len(proxies) != len(self.shard):
            raise ValueError(
                f"proxies: rank {ranks.rank} of {ranks.size} needs the {len(self.shard)} rows [{self.shard.start}, {self.shard.stop}) "
                f"of {classes} classes, found {len(proxies)}"
            )
        if not 0 < rate <= 1:
            raise ValueError(f"rate: expected a share in (0, 1], found {rate}")
        self.classes, self.family, self.ranks = classes, family, ranks
        self.inside, self.rate, self.averaged, self.check = inside, rate, averaged, check
        self.proxies = nn.Parameter(proxies.detach().clone())
        binary = isinstance(family, BinaryFamily)
        self.bias = nn.Parameter(proxies.new_tensor(family.bias)) if binary else None

    def forward(
        self,
        embeddings: Float[Tensor, "*embeddings"],
        labels: Int[Tensor, "*labels"],
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, ""]:
        """Loss, mean over the whole batch, in float32 or better also under autocast.

        Parameters
        ----------
        embeddings, labels
            This rank's part of the batch, ``[batch, dim]`` and ``[batch]``; labels count over all ranks. SphereFace2 also takes
            -1, an image of nobody among the classes.
        generator
            Source of the sampled classes, needed for ``rate < 1`` (on CPU; each rank may have its own).

        Raises
        ------
        ValueError
            See `check_agreement`; or if `generator` is missing.
        """
        if self.rate < 1 and generator is None:
            raise ValueError(f"generator: sampling a share {self.rate} of the classes needs one, found None")
        if self.check:
            lowest = -1 if isinstance(self.family, BinaryFamily) else 0
            check_agreement(embeddings, labels, self.proxies, self.classes, self.ranks, lowest=lowest)
        with torch.autocast(embeddings.device.type, enabled=False):
            features = margins.full_precision(embeddings)
            if self.ranks.size > 1:
                factor = self.ranks.size if self.averaged else 1
                features = _GatherFeatures.apply(features, self.ranks, factor)
            everyone = self.ranks.all_gather(labels, "labels", "forward")
            target = binary_margins.shard_labels(everyone, self.shard.start, len(self.shard))
            if not self.inside:
                margins.make_unit_(self.proxies)
            proxies = self.proxies
            if self.rate < 1:
                kept, target = sample_shard(target, len(self.shard), self.rate, generator)
                proxies = proxies[kept]
            if self.inside:
                proxies = functional.normalize(margins.full_precision(proxies), dim=-1)
            return self.family.loss(features, proxies, target, self.bias, self.ranks)

    def all_proxies(self) -> Float[Tensor, "classes dim"]:
        """The proxies of all ranks, on every rank: for a checkpoint that any number of ranks can read."""
        return self.all_rows(self.proxies)

    @torch.no_grad()
    def all_rows(self, own: Float[Tensor, "shard dim"]) -> Float[Tensor, "classes dim"]:
        """One row a class, such as an optimiser's momentum of the proxies, from the shards of all ranks, on every rank."""
        most = -(-self.classes // self.ranks.size)
        padded = functional.pad(own.detach(), (0, 0, 0, most - len(self.shard)))
        everywhere = self.ranks.all_gather(padded, "proxies", "apart")
        sizes = [len(shard(self.classes, rank, self.ranks.size)) for rank in range(self.ranks.size)]
        return torch.cat([part[:size] for part, size in zip(everywhere.split(most), sizes, strict=True)])


@torch.no_grad()
def clip_gradients_(replicated: Iterable[nn.Parameter], head: ClassParallel, max_norm: float) -> Float[Tensor, ""]:
    """Scale all gradients so that their common norm is at most `max_norm`, by the same factor on every rank.

    The clipping functions of PyTorch see one shard only: each rank would shrink its copy of the backbone by another factor.

    Parameters
    ----------
    replicated
        Parameters that every rank holds whole, with equal gradients (the backbone after its all-reduce).
    head
        The head; its shards count once each, its bias once.
    max_norm
        Largest norm.

    Returns
    -------
    Float[Tensor, ""]
        The norm before clipping.
    """
    shared = [p.grad for p in [*replicated, head.bias] if p is not None and p.grad is not None]
    square = head.ranks.all_reduce(head.proxies.grad.square().sum(), "gradient norm", "apart")
    norm = torch.stack([square, *(gradient.square().sum() for gradient in shared)]).sum().sqrt()
    factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)  # the same guard as torch.nn.utils.clip_grad_norm_
    for gradient in [head.proxies.grad, *shared]:
        gradient.mul_(factor)
    return norm


# --------------------------------------------------------------------------------------------------- 6. without processes


@dataclass(frozen=True)
class ShardSums:
    """Losses and gradients of shards that never hear of each other, summed; and those of the whole head.

    Parameters
    ----------
    partial_losses
        Loss of each shard.
    loss, feature_gradient, proxy_gradient
        Summed losses and feature gradients, proxy gradients one shard after the other.
    whole
        The same three of one process with all classes, by name.
    """

    partial_losses: Float[Tensor, " shards"]
    loss: Float[Tensor, ""]
    feature_gradient: Float[Tensor, "batch dim"]
    proxy_gradient: Float[Tensor, "classes dim"]
    whole: dict[str, Tensor]

    def errors(self) -> dict[str, float]:
        """Largest deviation from the whole head, relative to its largest value, for loss and both gradients."""
        return {
            name: float((getattr(self, name) - value).abs().max() / value.abs().max())
            for name, value in self.whole.items()
        }


def simulate_shards(
    embeddings: Float[Tensor, "batch dim"],
    proxies: Float[Tensor, "classes dim"],
    labels: Int[Tensor, " batch"],
    family: SoftmaxFamily | BinaryFamily,
    shards: int,
) -> ShardSums:
    r"""What S ranks would compute if they exchanged features and their gradient but *no normaliser*, in one process.

    The sum is exact for SphereFace2. A softmax shard by itself can only normalise over its own classes,
    :math:`\log\sum_{j \in \text{shard}} e^{z_{bj}} - z_{by}\,[y_b \in \text{shard}]`, and the sum of these is another loss.

    Parameters
    ----------
    embeddings, proxies, labels
        A batch; proxies need not have unit length, the gradient is that of their unit versions.
    family
        Which loss.
    shards
        S.

    Raises
    ------
    ValueError
        On bad inputs, or fewer classes than shards.
    """
    binary = isinstance(family, BinaryFamily)
    (binary_margins if binary else margins).check_inputs(embeddings, proxies, labels)
    alone, unit = Ranks(alone=True), functional.normalize(margins.full_precision(proxies.detach()), dim=-1)
    features = margins.full_precision(embeddings.detach())
    bias = unit.new_tensor(family.bias) if binary else None

    def one(own: range) -> tuple[Tensor, Tensor, Tensor]:
        x, w = features.clone().requires_grad_(), unit[own.start : own.stop].clone().requires_grad_()
        loss = family.loss(x, w, binary_margins.shard_labels(labels, own.start, len(own)), bias, alone)
        return loss.detach(), *torch.autograd.grad(loss, [x, w])

    losses, feature_gradients, proxy_gradients = zip(
        *(one(shard(len(proxies), rank, shards)) for rank in range(shards)), strict=True
    )
    whole = dict(zip(("loss", "feature_gradient", "proxy_gradient"), one(range(len(proxies))), strict=True))
    partial = torch.stack(losses)
    return ShardSums(partial, partial.sum(), sum(feature_gradients), torch.cat(proxy_gradients), whole)
