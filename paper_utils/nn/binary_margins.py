r"""SphereFace2's loss (paper 05) as functions: every class a binary question of its own, so the loss is a plain sum over classes.

No class needs to know another one's score: the sum can be cut into shards or chunks anywhere, and a label of -1 ("none of these
classes") is allowed. `plain_loss` is the formula for autograd; `binary_loss` gives the same in one sweep over chunks that stay in cache.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn import functional

from paper_utils.nn import margins

KINDS = ("C", "A", "M", "speech-A")
GRADIENTS = ("through", "straight")
# Cosine clamp before arccos, and the range of shifted or multiplied angles: OpenSphere's branches v0 and iclr, and none at all.
CLAMPS = {
    "v0": (margins.COSINE_EPS, margins.ANGLE_LOW, margins.ANGLE_HIGH),
    "iclr": (1e-8, 1e-8, 3.14),
    "none": (0.0, 0.0, math.pi),
}
# Above it log(1 + e^x) is x to the last bit of float64; torch's default of 20 is not.
_SOFTPLUS_LINEAR = 40.0
# Logits of a chunk: 1 MiB in float32 lies in the second-level cache beside its proxies; an accelerator wants large products.
_CHUNK_ENTRIES = {"cpu": 2**18, "accelerator": 2**25}


@dataclass(frozen=True)
class BinaryMargin:
    r"""What one binary question looks like.

    Parameters
    ----------
    kind
        Where the margin is: ``"C"`` on the similarity, ``"A"`` added to the angle, ``"M"`` multiplying the angle, ``"speech-A"`` added to
        the target's angle and taken off the others' (the speaker-verification version).
    margin
        :math:`m`: on the scale of g (C), in radians (A, speech-A), a factor of the angle (M; 1 is "off").
    scale
        :math:`r`: how much hard samples count before easy ones.
    balance
        :math:`\lambda`, weight of the one positive question; all negatives have :math:`1-\lambda` each.
    exponent
        :math:`t` of `adjusted_similarity`; 1 is no adjustment.
    loss_weight
        Multiplies the loss, "lw" in the authors' code.
    gradient
        ``"through"``: :math:`\partial z/\partial c = r g'(c)`, so through g but not through the margin's angle.
        ``"straight"``: :math:`\partial z/\partial c = r`. The value of the loss is the same.
    clamp
        Which branch's clamps around arccos: ``"v0"``, ``"iclr"`` or ``"none"``. C has no arccos.
    """

    kind: str
    margin: float
    scale: float
    balance: float
    exponent: float
    loss_weight: float
    gradient: str = "through"
    clamp: str = "v0"

    def __post_init__(self) -> None:
        for name, allowed in (("kind", KINDS), ("gradient", GRADIENTS), ("clamp", tuple(CLAMPS))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}: expected one of {', '.join(allowed)}; found {getattr(self, name)!r}")
        low, high = {"C": (0.0, 1.0), "M": (1.0, math.inf)}.get(self.kind, (0.0, math.pi))
        if not low <= self.margin < high:
            raise ValueError(f"margin: {self.kind} expects a value in [{low:.4g}, {high:.4g}), found {self.margin}")
        if not 0 < self.balance < 1:
            raise ValueError(f"balance: expected a share between 0 and 1, both excluded; found {self.balance}")
        if not self.exponent >= 1:
            raise ValueError(f"exponent: expected at least 1 (1 is no adjustment), found {self.exponent}")
        for name in ("scale", "loss_weight"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name}: expected a positive number, found {getattr(self, name)}")
        if self.kind == "speech-A" and self.gradient != "through":
            raise ValueError("gradient: speech-A exists with gradient='through' only")

    @property
    def shift(self) -> float:
        """What negatives get on top of g: the margin for C, nothing for the others."""
        return self.margin if self.kind == "C" else 0.0


def check_inputs(
    embeddings: Float[Tensor, "*embeddings"], proxies: Float[Tensor, "*proxies"], labels: Int[Tensor, "*labels"]
) -> None:
    """As `margins.check_inputs`, with one more label allowed: -1, an image of nobody among the classes.

    Raises
    ------
    ValueError
        As there, and on labels below -1.
    """
    if labels.numel() and (low := int(labels.min())) < -1:
        raise ValueError(
            f"labels: expected -1 (none of the classes) or a class number from 0, found {low}; map identities to consecutive integers"
        )
    margins.check_inputs(embeddings, proxies, labels.clamp_min(0))


def shard_labels(labels: Int[Tensor, "*any"], first: int, classes: int) -> Int[Tensor, "*any"]:
    """Labels as a shard that holds classes ``first .. first + classes - 1`` sees them: its own numbers, -1 for all other people."""
    local = labels - first
    return torch.where((local >= 0) & (local < classes), local, -1)


# ------------------------------------------------------------------------------------------------------ similarities


def _half_shifted(cosine: Tensor, exponent: float) -> Tensor:
    """(c + 1) / 2; not below 0 where a power of a negative number (a cosine of -1.0000001) would be NaN."""
    half = (cosine + 1) * 0.5
    return half if exponent in (1, 2, 3) else half.clamp_min(0)


def _power(base: Tensor, exponent: float) -> Tensor:
    """Powers 0 to 3 by multiplication, which costs a tenth of pow."""
    if exponent == 0:
        return torch.ones_like(base)
    if exponent == 1:
        return base
    if exponent == 2:
        return base * base
    return base * base * base if exponent == 3 else base.pow(exponent)


def adjusted_similarity(cosine: Float[Tensor, "*any"], exponent: float) -> Float[Tensor, "*any"]:
    r"""Similarity adjustment :math:`g(c) = 2\left(\frac{c+1}{2}\right)^t - 1`, a rising map of [-1, 1] onto itself.

    Random pairs sit at cosine 0; with t = 3 they move to -0.75 while 1 stays 1, so the scores spread over the range.
    """
    return 2 * _power(_half_shifted(cosine, exponent), exponent) - 1


def similarity_slope(cosine: Float[Tensor, "*any"], exponent: float) -> Float[Tensor, "*any"]:
    r"""Slope :math:`g'(c) = t\left(\frac{c+1}{2}\right)^{t-1}`: 0, 0.75 and 3 at c = -1, 0, 1 for t = 3."""
    return exponent * _power(_half_shifted(cosine, exponent), exponent - 1)


def original_cosine(similarity: float, exponent: float) -> float:
    """The cosine whose `adjusted_similarity` this is; NaN outside [-1, 1], where there is none."""
    return 2 * ((similarity + 1) / 2) ** (1 / exponent) - 1 if -1 <= similarity <= 1 else math.nan


def _target_angle_cosine(cosine: Tensor, rule: BinaryMargin) -> Tensor:
    """Cosine of the target's angle after the margin: the only arccos, of B entries."""
    eps, low, high = CLAMPS[rule.clamp]
    theta = torch.arccos(cosine.clamp(-1 + eps, 1 - eps))
    moved = theta + rule.margin if rule.kind == "A" else theta * rule.margin
    return torch.cos(moved.clamp(low, high))


def _both_ways(cosine: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """Cosines of theta + m (past pi - m a straight line) and of theta - m, as in the speaker version, with finite slopes."""
    # Its square root has an infinite slope at the poles; below one rounding error the sine counts as constant.
    sine = torch.sqrt((1 - cosine * cosine).clamp_min(torch.finfo(cosine.dtype).eps))
    across, along = math.sin(margin), math.cos(margin)
    beyond = cosine - (1 + math.cos(math.pi - margin))
    plus = torch.where(cosine > math.cos(math.pi - margin), cosine * along - sine * across, beyond)
    return plus, cosine * along + sine * across


def positive_similarity(cosine: Float[Tensor, "*any"], rule: BinaryMargin) -> Float[Tensor, "*any"]:
    r"""What the target's question compares with the threshold, before r and b.

    C: :math:`g(c) - m`; A: :math:`g(\cos\min(\pi, \theta + m))`; M: :math:`g(\cos\min(\pi, m\theta))`.
    The slope is the convention of ``rule.gradient``.
    """
    if rule.kind == "speech-A":
        return adjusted_similarity(_both_ways(cosine, rule.margin)[0], rule.exponent)
    carrier = adjusted_similarity(cosine, rule.exponent)
    if rule.kind == "C":
        value = carrier - rule.margin
    else:
        with torch.no_grad():
            value = adjusted_similarity(_target_angle_cosine(cosine, rule), rule.exponent)
    return margins.detached(value, carrier if rule.gradient == "through" else cosine)


def negative_similarity(cosine: Float[Tensor, "*any"], rule: BinaryMargin) -> Float[Tensor, "*any"]:
    r"""The same for the other classes. C: :math:`g(c) + m`; A and M: :math:`g(c)`."""
    if rule.kind == "speech-A":
        return adjusted_similarity(_both_ways(cosine, rule.margin)[1], rule.exponent)
    value = adjusted_similarity(cosine, rule.exponent) + rule.shift
    return value if rule.gradient == "through" else margins.detached(value, cosine)


# ------------------------------------------------------------------------------------------------ the formula, for autograd


def softplus(x: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """log(1 + e^x): no overflow at any x, and exact in float64."""
    return functional.softplus(x, threshold=_SOFTPLUS_LINEAR)


def binary_logits(
    cosine: Float[Tensor, "*lead batch classes"],
    labels: Int[Tensor, "*lead batch"],
    bias: Float[Tensor, "*lead"],
    rule: BinaryMargin,
) -> Float[Tensor, "*lead batch classes"]:
    r"""Logits of all binary questions: :math:`p` at the target, :math:`n_i` elsewhere.

    Parameters
    ----------
    cosine
        From `margins.cosines`.
    labels
        Target class of each row; -1: none of them.
    bias
        One scalar for all classes.
    rule
        The loss.
    """
    index, known = labels.clamp_min(0).unsqueeze(-1), (labels >= 0).unsqueeze(-1)
    others = negative_similarity(cosine, rule)
    target = positive_similarity(cosine.gather(-1, index), rule)
    target = torch.where(known, target, others.gather(-1, index))
    return rule.scale * others.scatter(-1, index, target) + bias[..., None, None]


def loss_of_logits(
    logits: Float[Tensor, "*lead batch classes"], labels: Int[Tensor, "*lead batch"], rule: BinaryMargin
) -> Float[Tensor, "*lead"]:
    r"""Weighted sum of the binary losses, mean over the batch.

    .. math:: \ell_w \left[\frac{\lambda}{r} \log(1 + e^{-p}) + \frac{1-\lambda}{r} \sum_{i \ne y} \log(1 + e^{n_i})\right]
    """
    index, known = labels.clamp_min(0).unsqueeze(-1), labels >= 0
    terms = softplus(logits)
    own = terms.gather(-1, index)
    negative = terms.scatter(-1, index, torch.where(known.unsqueeze(-1), 0.0, own)).sum(-1)
    positive = torch.where(known, softplus(-logits.gather(-1, index).squeeze(-1)), 0.0)
    return (rule.balance * positive + (1 - rule.balance) * negative).mean(-1) * (rule.loss_weight / rule.scale)


def plain_loss(
    embeddings: Float[Tensor, "*lead batch dim"],
    proxies: Float[Tensor, "*lead classes dim"],
    bias: Float[Tensor, "*lead"],
    labels: Int[Tensor, "*lead batch"],
    rule: BinaryMargin,
) -> Float[Tensor, "*lead"]:
    """The loss written out for autograd, with every B x K array kept: the reference for `binary_loss`, and differentiable twice."""
    with torch.autocast(embeddings.device.type, enabled=False):
        cosine = margins.cosines(embeddings, proxies)
        return loss_of_logits(binary_logits(cosine, labels, bias.to(cosine.dtype), rule), labels, rule)


# --------------------------------------------------------------------------------------------------- the same in one sweep


def binary_loss(
    embeddings: Float[Tensor, "*lead batch dim"],
    proxies: Float[Tensor, "*lead classes dim"],
    bias: Float[Tensor, "*lead"],
    labels: Int[Tensor, "*lead batch"],
    rule: BinaryMargin,
    *,
    chunk: int | None = None,
) -> Float[Tensor, "*lead"]:
    """The loss of `plain_loss`, computed with its gradients chunk of classes by chunk of classes.

    As the loss is a sum over classes, one visit to a chunk yields its part of everything: no array of batch x classes exists,
    and beyond the proxies' own gradient almost no memory is used. The gradients are made in the forward pass (none in evaluation) and
    scaled in the backward pass; a second backward pass through the same graph computes them again.

    Parameters
    ----------
    embeddings
        Any length; normalised inside the graph.
    proxies
        Unit rows (see `margins.make_unit_`), all classes or a shard of them.
    bias
        One scalar for all classes.
    labels
        Class of each row; -1: none of these classes (see `shard_labels`).
    rule
        The loss.
    chunk
        Classes a chunk; by default what fits the cache.

    Returns
    -------
    Float[Tensor, "*lead"]
        Mean over the batch. Losses and gradients of shards add up to those of all classes.

    Raises
    ------
    RuntimeError
        On a backward pass with ``create_graph=True``: use `plain_loss` for second derivatives.
    """
    if rule.kind == "speech-A":  # its negatives need the sine of every angle
        return plain_loss(embeddings, proxies, bias, labels, rule)
    with torch.autocast(embeddings.device.type, enabled=False):
        unit = functional.normalize(margins.full_precision(embeddings), dim=-1)
        proxies = margins.full_precision(proxies)
        if chunk is None:
            room = _CHUNK_ENTRIES["cpu" if unit.device.type == "cpu" else "accelerator"]
            chunk = max(64, room // max(1, labels.numel()))
        recording = torch.is_grad_enabled()
        return _Sweep.apply(unit, proxies, bias.to(unit.dtype), labels, rule, chunk, recording)


def _matmul_into(out: Tensor, a: Tensor, b: Tensor) -> None:
    """``out[...] = a @ b``, without a copy where the memory of `out` is in one piece."""
    if out.is_contiguous():
        torch.matmul(a, b, out=out)
    else:
        out.copy_(a @ b)


def _target_questions(
    unit: Tensor, proxies: Tensor, bias: Tensor, labels: Tensor, rule: BinaryMargin
) -> tuple[Tensor, Tensor, Tensor]:
    """The B positive questions: their loss without its weight, how hard each is pulled, and the cosines. Strangers have none."""
    index = labels.clamp_min(0).unsqueeze(-1)
    own = proxies.gather(-2, index.expand(*index.shape[:-1], proxies.shape[-1]))
    cosine = (unit * own).sum(-1)
    logit = rule.scale * positive_similarity(cosine, rule) + bias.unsqueeze(-1)
    known = labels >= 0
    loss = torch.where(known, softplus(-logit), 0.0).sum(-1)
    return loss, torch.where(known, torch.sigmoid(-logit), 0.0), cosine


def _chunk_logits(
    half_unit: Tensor, proxies: Tensor, offset: Tensor, rule: BinaryMargin, half: Tensor, power: Tensor, out: Tensor
) -> None:
    """Negative logits of some classes into `out`, and u^(t-1) with u = (c + 1) / 2 into `power`, with as few passes as possible."""
    t = rule.exponent
    torch.matmul(half_unit, proxies.mT, out=half)
    half.add_(0.5)
    if t == 3:
        torch.mul(half, half, out=power)
    else:
        power.copy_(_power(half if t in (1, 2) else half.clamp_(min=0), t - 1))
    torch.addcmul(offset, power, half, value=2 * rule.scale, out=out)  # r (2 u^t - 1 + shift) + b


def _sweep(
    unit: Tensor,
    proxies: Tensor,
    bias: Tensor,
    labels: Tensor,
    rule: BinaryMargin,
    chunk: int,
    wanted: tuple[bool, bool, bool],
) -> tuple[Tensor, tuple[Tensor | None, Tensor | None, Tensor | None]]:
    """Loss, and the gradients for embeddings, proxies and bias as far as `wanted`."""
    classes, through = proxies.shape[-2], rule.gradient == "through"
    share = rule.loss_weight / rule.scale / labels.shape[-1]
    negative_share, positive_share = (1 - rule.balance) * share, rule.balance * share
    loss, target_pull, cosine = _target_questions(unit, proxies, bias, labels, rule)
    loss, grad_bias = positive_share * loss, -positive_share * target_pull.sum(-1)
    # Chunks hold sigma(n) u^(t-1); this constant turns it into dL / dc, on whichever factor of a product is small.
    constant = negative_share * rule.scale * (rule.exponent if through else 1.0)
    target_slope = -target_pull * (positive_share * rule.scale / constant)
    if through:
        target_slope = target_slope * similarity_slope(cosine, rule.exponent)

    grad_unit = torch.zeros_like(unit) if wanted[0] else None
    grad_proxies = torch.empty_like(proxies) if wanted[1] else None
    half_unit, scaled_unit = unit * 0.5, unit * constant
    offset = (rule.scale * (rule.shift - 1) + bias)[..., None, None]
    rooms = [unit.new_empty(labels.numel() * min(chunk, classes)) for _ in range(3)]
    for start in range(0, classes, chunk):
        some = proxies[..., start : start + chunk, :]
        width = some.shape[-2]
        half, power, n = (room[: labels.numel() * width].view(*labels.shape, width) for room in rooms)
        _chunk_logits(half_unit, some, offset, rule, half, power, n)
        # The targets in this chunk are no negatives: out with them here, in with their own slope below.
        inside = ((labels >= start) & (labels < start + width)).unsqueeze(-1)
        place = (labels - start).clamp(0, width - 1).unsqueeze(-1)
        n.scatter_(-1, place, torch.where(inside, -math.inf, n.gather(-1, place)))
        loss = loss + negative_share * softplus(n).sum((-2, -1))
        if not any(wanted):
            continue
        torch.sigmoid(n, out=n)
        if wanted[2]:
            grad_bias = grad_bias + negative_share * n.sum((-2, -1))
        if through and rule.exponent != 1:
            n.mul_(power)
        n.scatter_add_(-1, place, torch.where(inside, target_slope.unsqueeze(-1), 0.0))
        if grad_unit is not None:
            grad_unit.addmm_(n, some) if n.ndim == 2 else grad_unit.add_(n @ some)
        if grad_proxies is not None:
            _matmul_into(grad_proxies[..., start : start + width, :], n.mT, scaled_unit)
    if grad_unit is not None:
        grad_unit.mul_(constant)
    return loss, (grad_unit, grad_proxies, grad_bias if wanted[2] else None)


class _Sweep(torch.autograd.Function):
    """`_sweep` for autograd."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        unit: Tensor,
        proxies: Tensor,
        bias: Tensor,
        labels: Tensor,
        rule: BinaryMargin,
        chunk: int,
        recording: bool,
    ) -> Tensor:
        ctx.wanted = tuple(recording and needed for needed in ctx.needs_input_grad[:3])
        ctx.settings = (rule, chunk)
        ctx.save_for_backward(unit, proxies, bias, labels)
        loss, ctx.gradients = _sweep(unit, proxies, bias, labels, rule, chunk, ctx.wanted)
        return loss

    @staticmethod
    def backward(ctx: FunctionCtx, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "binary_loss: second derivatives (create_graph=True) are not available, "
                "its gradients are made in the forward pass; use plain_loss for them"
            )
        # Handed out, not kept: the proxies' gradient is the largest array here, and what is given away is scaled in place.
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:
            _, gradients = _sweep(*ctx.saved_tensors, *ctx.settings, ctx.wanted)
        if grad_loss.device.type != "cpu" or bool((grad_loss != 1).any()):
            for gradient in gradients:
                if gradient is not None:
                    gradient.mul_(grad_loss.reshape(grad_loss.shape + (1,) * (gradient.ndim - grad_loss.ndim)))
        return *gradients, None, None, None, None
