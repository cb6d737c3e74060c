r"""Margin softmax over very many classes at about the price of its three matrix products (papers 05 and 06).

`margins` spells the losses out and leaves the gradient to autograd, which walks over batch x classes numbers a dozen times and may
keep several arrays of that size. Here one `torch.autograd.Function` keeps one, visits it in blocks that stay in the cache, and treats
the target entries apart, since all heads but v2 change only those. Same losses, same gradients, same clamps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.polynomial import Chebyshev, Polynomial
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn import functional

from paper_utils.nn import margins

# Entries (batch x classes) of one block. CPU: 2 MiB of float32, so that product, exponential and sums find each other in the cache.
# Other devices have no such cache and pay for each launch.
CPU_BLOCK, DEVICE_BLOCK = 2**19, 2**24


# ------------------------------------------------------------------------------------------------------------ cos(theta / m)


@lru_cache(maxsize=64)
def _raised_series(margin: float) -> tuple[float, ...]:
    r"""Coefficients of :math:`\cos(\theta/m)` in powers of :math:`t = \sqrt{1 + \cos\theta} - \sqrt2`, highest first, for float32.

    With :math:`\sqrt{1+\cos\theta} = \sqrt2\cos(\theta/2)` the square-root singularity at :math:`\theta = \pi` is gone: Chebyshev
    coefficients fall by :math:`3 + \sqrt8` each, and the powers, being taken around :math:`\theta = 0`, by about 2. For m = 2 the
    series ends after the first power (half-angle formula), for m = 1 after the second.
    """
    width = math.sqrt(2.0)

    def value(t: np.ndarray) -> np.ndarray:
        return np.cos(2 / margin * np.arccos(np.clip(1 + t / width, -1, 1)))

    # A quarter of float32's rounding step, relative to how much the function changes (about 1/m^2) for the sake of the slope.
    tolerance = 2.0**-26 / min(margin, 100.0) ** 2
    series = Chebyshev.interpolate(value, 24, domain=[-width, 0.0])
    left_out = np.cumsum(np.abs(series.coef[::-1]))[::-1]  # bounds the error of stopping before each power
    series = series.truncate(max(2, int((left_out > tolerance).sum())))
    return tuple(series.convert(kind=Polynomial).coef[::-1].tolist())


@dataclass(frozen=True)
class RaisedCosine:
    r"""The non-target function of SphereFace-R v2, :math:`\eta = \cos(\theta/m)`, for whole blocks of cosines.

    Called, it is `margins.sphereface_r_v2`. In float32 `fast` and `slope` replace arccos and cos by one square root and a polynomial
    of degree 9 at most (see `_raised_series`) that is 1.5e-8 off before rounding; other precisions compute the plain form.

    Parameters
    ----------
    margin
        m, at least 1.
    eps
        Clamp of the cosines, see `margins.angle`.

    Raises
    ------
    ValueError
        If the margin is below 1 or not finite.
    """

    margin: float
    eps: float = margins.COSINE_EPS

    def __post_init__(self) -> None:
        margins.check_margin("v2", self.margin)

    def __call__(self, cosine: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
        """The plain form, for autograd."""
        return margins.sphereface_r_v2(cosine, self.margin, eps=self.eps)

    def _variable(self, cosine: Tensor) -> Tensor:
        """The series' variable t."""
        eps = max(self.eps, torch.finfo(cosine.dtype).eps)
        return cosine.clamp(-1 + eps, 1 - eps).add_(1.0).sqrt_().sub_(math.sqrt(2.0))

    def fast(self, cosine: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
        r""":math:`\eta`, outside the graph."""
        if cosine.dtype != torch.float32:
            return self(cosine)
        return _polynomial(_raised_series(self.margin), self._variable(cosine))

    def slope(self, cosine: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
        r""":math:`d\eta/dc = \sin(\theta/m) / (m \sin\theta)`, outside the graph; 0 where the cosine is clamped."""
        if cosine.dtype == torch.float32:
            coefficients = _raised_series(self.margin)
            powers = range(len(coefficients) - 1, 0, -1)
            variable = self._variable(cosine)
            slope = _polynomial([n * a for n, a in zip(powers, coefficients, strict=False)], variable)
            slope.div_(variable.add_(math.sqrt(2.0)).mul_(2.0))  # dt/dc = 1 / (2 sqrt(1 + c))
        else:
            theta = margins.angle(cosine, self.eps)
            slope = torch.sin(theta / self.margin) / (self.margin * torch.sin(theta))
        eps = max(self.eps, torch.finfo(cosine.dtype).eps)
        return slope.masked_fill_((cosine < -1 + eps) | (cosine > 1 - eps), 0.0)


def _polynomial(coefficients: Sequence[float], variable: Tensor) -> Tensor:
    """Horner's rule, one multiply-add pass for each power; highest coefficient first."""
    first, *others = variable.new_tensor(coefficients).unbind()  # scalars on the device, which the pass can take
    value = torch.empty_like(variable).fill_(first)
    for coefficient in others:
        torch.addcmul(coefficient, value, variable, out=value)
    return value


# --------------------------------------------------------------------------------------------------------------- one function


@dataclass(frozen=True)
class _Rule:
    """What is not a tensor: the head's two functions, whether the margin is detached, and how many classes make a block."""

    psi: margins.AngularFunction | None
    eta: RaisedCosine | None
    detach: bool
    width: int


def _target_value(cosine: Tensor, rule: _Rule) -> tuple[Tensor, Tensor]:
    r""":math:`\psi` of the B target cosines and its slope, which detachment replaces by 1."""
    if rule.psi is None:
        return cosine, torch.ones_like(cosine)
    if rule.detach:
        return rule.psi(cosine), torch.ones_like(cosine)
    with torch.enable_grad():
        cosine = cosine.detach().requires_grad_()
        value = rule.psi(cosine)
        (slope,) = torch.autograd.grad(value.sum(), cosine)
    return value.detach(), slope


def _blocks(labels: Tensor, classes: int, width: int) -> list[tuple[slice, Tensor, Tensor]]:
    """Slices of the classes; with each the rows of the batch whose target lies in it, and the target's column there.

    Raises
    ------
    ValueError
        If a label is out of range.
    """
    edges = [*range(0, classes, width), classes]
    order = labels.argsort()
    ordered = labels[order]
    ends = torch.searchsorted(ordered, torch.tensor(edges, device=labels.device)).tolist()
    if ends[0] or ends[-1] < len(labels):
        raise ValueError(
            f"labels: expected values in [0, {classes - 1}], found [{int(ordered[0])}, {int(ordered[-1])}]; "
            "map identities to consecutive integers first"
        )
    return [
        (slice(edges[i], edges[i + 1]), order[ends[i] : ends[i + 1]], ordered[ends[i] : ends[i + 1]] - edges[i])
        for i in range(len(edges) - 1)
    ]


def _exponentials(logits: Tensor, above: Tensor) -> Tensor:
    """exp(logits - above), never below the smallest normal number.

    Results that underflow take the exponential of common vector libraries ten to thirty times as long, and a sum does not feel them.
    """
    smallest = math.log(torch.finfo(logits.dtype).tiny) + 1
    return (logits - above.unsqueeze(1)).clamp_min_(smallest).exp_()


def _put(block: Tensor, rows: Tensor, columns: Tensor, values: Tensor | float) -> None:
    """Overwrite the target entries of a block."""
    if len(rows):
        block[rows, columns] = values[rows] if isinstance(values, Tensor) else values


def _stored(raw: Tensor, batch: int, blocks: list[tuple[slice, Tensor, Tensor]]) -> Iterator[Tensor]:
    """The one array of batch x classes numbers as its blocks, each contiguous (batch, width)."""
    for classes, _, _ in blocks:
        yield raw[batch * classes.start : batch * classes.stop].view(batch, -1)


@torch.no_grad()
def _losses(
    features: Tensor, proxies: Tensor, bias: Tensor | None, rho: Tensor, labels: Tensor, rule: _Rule, *, keep: bool
) -> tuple[Tensor, dict[str, Tensor], list[tuple[slice, Tensor, Tensor]]]:
    r"""Loss of each sample, what the gradient needs (with `keep`), and the blocks.

    The sum of exponentials is taken block by block, relative to the largest logit so far. Without :math:`\eta` the product comes out
    as logits, :math:`\rho` being multiplied into the features; with it the kept array holds cosines.
    """
    batch, classes = len(features), len(proxies)
    blocks = _blocks(labels, classes, rule.width)
    own = torch.linalg.vecdot(features, proxies[labels])
    if bias is not None:
        own += bias[labels]
    psi, slope = _target_value(own, rule)
    target = rho * psi
    left = features if rule.eta else features * rho.unsqueeze(1)
    raw = features.new_empty(batch * (classes if keep else rule.width))
    stored = (
        _stored(raw, batch, blocks) if keep else (raw[: batch * (b.stop - b.start)].view(batch, -1) for b, *_ in blocks)
    )
    top = torch.full_like(target, torch.finfo(target.dtype).min)
    total = torch.zeros_like(target)
    for (among, rows, columns), block in zip(blocks, stored, strict=True):
        torch.mm(left, proxies[among].mT, out=block)
        if bias is not None:
            block += bias[among]
        logits = rule.eta.fast(block).mul_(rho.unsqueeze(1)) if rule.eta else block
        _put(logits, rows, columns, target)
        before, top = top, torch.maximum(top, logits.amax(1))
        total = total * (before - top).exp_() + _exponentials(logits, top).sum(1)
    losses = (top - target) + total.log()
    return losses, {"raw": raw, "log_sum": top + total.log(), "own": own, "psi": psi, "slope": slope}, blocks


def _plain_losses(
    features: Tensor, proxies: Tensor, bias: Tensor | None, rho: Tensor, labels: Tensor, rule: _Rule
) -> Tensor:
    """The same losses by ordinary operations, for gradients of gradients."""
    cosine = features @ proxies.mT
    if bias is not None:
        cosine = cosine + bias
    logits = rho.unsqueeze(1) * margins.margin_cosines(cosine, labels, rule.psi, rule.eta, detach=rule.detach)
    return functional.cross_entropy(logits, labels, reduction="none")


class _MarginCrossEntropy(torch.autograd.Function):
    r"""Loss of each sample from unit features, proxies, a bias or None, and :math:`\rho` of each sample.

    With :math:`P` the softmax of the margin logits, :math:`\partial L_b/\partial c_{bj} = \rho_b P_{bj}\,\eta'(c_{bj})`, and for the
    target :math:`\rho_b (P_{by} - 1)\,\psi'(c_{by})`; with detachment both slopes are 1. The kept array is only read, so the
    graph may be walked again.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, features, proxies, bias, rho, labels, rule: _Rule) -> Tensor:
        losses, kept, ctx.blocks = _losses(features, proxies, bias, rho, labels, rule, keep=True)
        ctx.rule = rule
        ctx.save_for_backward(features, proxies, bias, rho, labels, losses, *kept.values())
        return losses

    @staticmethod
    def backward(ctx: FunctionCtx, upstream: Tensor):
        with torch.autocast(upstream.device.type, enabled=False):
            # Gradients are recorded here only when the caller wants to differentiate them again.
            gradients = (_differentiable_gradients if torch.is_grad_enabled() else _gradients)(ctx, upstream)
        return *gradients, None, None


def _differentiable_gradients(ctx: FunctionCtx, upstream: Tensor) -> list[Tensor | None]:
    """Gradients as part of the graph: slower, many arrays, but they can be differentiated."""
    *inputs, labels = ctx.saved_tensors[:5]
    losses = _plain_losses(*inputs, labels, ctx.rule)
    wanted = [tensor for tensor, needed in zip(inputs, ctx.needs_input_grad, strict=False) if needed]
    found = iter(torch.autograd.grad(losses, wanted, upstream, create_graph=True))
    return [next(found) if needed else None for needed in ctx.needs_input_grad[:4]]


def _gradients(ctx: FunctionCtx, upstream: Tensor) -> list[Tensor | None]:
    """Gradients of features, proxies, bias and rho, block by block."""
    features, proxies, bias, rho, _, losses, raw, log_sum, own, psi, slope = ctx.saved_tensors
    for_features, for_proxies, for_bias, for_rho = ctx.needs_input_grad[:4]
    eta, detach = ctx.rule.eta, ctx.rule.detach
    pull = torch.expm1(-losses)  # P_y - 1
    factor = (upstream * rho).unsqueeze(1)
    right = features * factor
    to_features = torch.zeros_like(features)
    to_proxies = torch.empty_like(proxies) if for_proxies else None
    to_bias = torch.empty_like(bias) if for_bias else None
    others = torch.zeros_like(rho)  # sum of P eta over all classes but the target
    for (among, rows, columns), block in zip(ctx.blocks, _stored(raw, len(features), ctx.blocks), strict=True):
        value = eta.fast(block) if eta else None
        logits = block if value is None else value * rho.unsqueeze(1)
        weights = _exponentials(logits, log_sum)
        if for_rho and value is not None:
            _put(weights, rows, columns, 0.0)
            others += torch.linalg.vecdot(weights, value)
        if eta and not detach:
            weights *= eta.slope(block)
        _put(weights, rows, columns, pull * slope)
        if for_features or for_rho:
            to_features.addmm_(weights, proxies[among])
        if for_proxies:
            torch.mm(weights.mT, right, out=to_proxies[among])
        if for_bias:
            torch.mv(weights.mT, upstream, out=to_bias[among])
    if eta is None:  # then sum of G c is at hand; only the target's psi differs from slope x cosine
        others = torch.linalg.vecdot(features, to_features) - pull * slope * own
    to_rho = upstream * (others + pull * psi) if for_rho else None
    return [to_features.mul_(factor) if for_features else None, to_proxies, to_bias, to_rho]


def _mean_loss(
    features: Tensor,
    proxies: Tensor,
    bias: Tensor | None,
    rho: Tensor,
    labels: Tensor,
    rule: _Rule,
    floor: float,
) -> Tensor:
    inputs = [tensor for tensor in (features, proxies, bias, rho) if tensor is not None]
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs):
        losses = _MarginCrossEntropy.apply(features, proxies, bias, rho, labels, rule)
    else:
        losses, *_ = _losses(features, proxies, bias, rho, labels, rule, keep=False)
    if floor:
        losses = margins.detached(losses.clamp(max=-math.log(floor)), losses)
    return losses.mean()


def _block_width(embeddings: Tensor, classes: int, block: int | None) -> int:
    """How many classes to take at once."""
    if block is not None and block < 1:
        raise ValueError(f"block: expected at least 1 class at a time, found {block}; None chooses by the device")
    entries = CPU_BLOCK if embeddings.device.type == "cpu" else DEVICE_BLOCK
    return min(classes, block or max(64, entries // len(embeddings)))


# ------------------------------------------------------------------------------------------------------------- for the heads


def margin_cross_entropy(
    embeddings: Float[Tensor, "batch dim"],
    proxies: Float[Tensor, "classes dim"],
    labels: Int[Tensor, " batch"],
    *,
    psi: margins.AngularFunction | None = None,
    eta: RaisedCosine | None = None,
    scale: float | Float[Tensor, " batch"] = 1.0,
    detach: bool = True,
    floor: float = 0.0,
    block: int | None = None,
) -> Float[Tensor, ""]:
    r"""Mean margin cross-entropy of one head, with one array of batch x classes numbers.

    .. math:: L_b = -\log\frac{e^{\rho_b\psi(c_{by})}}{e^{\rho_b\psi(c_{by})} + \sum_{j \ne y} e^{\rho_b\eta(c_{bj})}}

    Equal, with its gradients, to ``margins.cross_entropy(scale * margins.margin_cosines(margins.cosines(...), ...))`` to rounding.
    Gradients of gradients are right as well, by way of those. Without gradients (``torch.no_grad()``) not even the one array is
    made. For Partial FC hand in ``proxies[kept]`` and the labels of `margins.sample_classes`.

    Parameters
    ----------
    embeddings
        Any length; normalised inside the graph. Half precision, also by autocast, is computed in float32.
    proxies
        Unit rows (see `margins.make_unit_`).
    labels
        Target class of each row.
    psi
        Target function of the cosine, such as ``partial(margins.arcface, margin=0.5)``; None is the cosine itself.
    eta
        Non-target function; None is the cosine itself.
    scale
        :math:`\rho`, one for all or one for each sample; in the latter case it may have a gradient.
    detach
        Characteristic gradient detachment (paper 06): the margin changes the loss, not the slope.
    floor
        As in `margins.cross_entropy`.
    block
        How many classes to take at once; None chooses by the device. The result depends on it only by rounding.

    Raises
    ------
    ValueError
        On shapes that do not fit, fewer than two classes, an empty batch, or labels out of range.

    References
    ----------
    Paper 06, unified loss; the sum of exponentials in one pass: Milakov and Gimelshein, arXiv:1805.02867.
    """
    margins.check_shapes(embeddings, proxies, labels)
    rule = _Rule(psi, eta, detach, _block_width(embeddings, len(proxies), block))
    with torch.autocast(embeddings.device.type, enabled=False):
        unit = functional.normalize(margins.full_precision(embeddings), dim=-1)
        rho = margins.full_precision(scale) if isinstance(scale, Tensor) else unit.new_full((len(unit),), scale)
        return _mean_loss(unit, margins.full_precision(proxies), None, rho, labels, rule, floor)


def softmax_cross_entropy(
    embeddings: Float[Tensor, "batch dim"],
    weights: Float[Tensor, "classes dim"],
    bias: Float[Tensor, " classes"],
    labels: Int[Tensor, " batch"],
    *,
    floor: float = 0.0,
    block: int | None = None,
) -> Float[Tensor, ""]:
    r"""Mean cross-entropy of the ordinary classifier, :math:`z_{bj} = x_b \cdot w_j + b_j`, in the same way.

    Equal to ``margins.cross_entropy(margins.softmax_logits(...), labels)`` to rounding; parameters and errors as in
    `margin_cross_entropy`.
    """
    margins.check_shapes(embeddings, weights, labels)
    rule = _Rule(None, None, True, _block_width(embeddings, len(weights), block))
    with torch.autocast(embeddings.device.type, enabled=False):
        features, weights, bias = (margins.full_precision(tensor) for tensor in (embeddings, weights, bias))
        return _mean_loss(features, weights, bias, features.new_ones(len(features)), labels, rule, floor)
