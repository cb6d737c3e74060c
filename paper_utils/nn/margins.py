r"""Hyperspherical classification heads: what papers 05 and 06 share.

Features and class proxies live on the unit sphere, so a logit is a function of one cosine. A margin head lowers the target's
function :math:`\psi` or lifts the others' function :math:`\eta`; everything here broadcasts over leading dimensions, so several
independent heads (seeds, splits) train in one call: ``embeddings[..., batch, dim]``, ``proxies[..., classes, dim]``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

# Official clamps (OpenSphere): cosines before arccos, and shifted or multiplied angles before cos.
COSINE_EPS = 1e-5
ANGLE_LOW, ANGLE_HIGH = 1e-5, 3.14159

AngularFunction = Callable[[Tensor], Tensor]


# ---------------------------------------------------------------------------------------------------------------- inputs


def check_shapes(
    embeddings: Float[Tensor, "*embeddings"], proxies: Float[Tensor, "*proxies"], labels: Int[Tensor, "*labels"]
) -> None:
    """Raise a `ValueError` that names what does not fit; looks at shapes only, so nothing waits for the device.

    Raises
    ------
    ValueError
        On a width that differs between embeddings and proxies, labels of another shape, fewer than two classes, an empty batch.
    """
    classes, width = proxies.shape[-2:]
    if classes < 2:
        raise ValueError(
            f"proxies: a classification head needs at least 2 classes, found {classes}; check the class split"
        )
    if embeddings.shape[-1] != width:
        raise ValueError(
            f"embeddings: width {embeddings.shape[-1]} does not match the proxies' {width}; "
            "build the head with the network's output width"
        )
    if labels.shape != embeddings.shape[:-1]:
        raise ValueError(
            f"labels: expected shape {tuple(embeddings.shape[:-1])} (one label an embedding), found {tuple(labels.shape)}"
        )
    if labels.numel() == 0:
        raise ValueError("labels: the batch is empty; a head needs at least one sample")


def check_inputs(
    embeddings: Float[Tensor, "*embeddings"], proxies: Float[Tensor, "*proxies"], labels: Int[Tensor, "*labels"]
) -> None:
    """Raise a `ValueError` that names what is wrong with a head's inputs, before it turns into a NaN or an index error.

    Parameters
    ----------
    embeddings, proxies, labels
        As for `cosines` and `margin_cosines`; their shapes are what is checked here, so none is demanded.

    Raises
    ------
    ValueError
        As `check_shapes`, and on labels out of range or embeddings that are not finite.
    """
    check_shapes(embeddings, proxies, labels)
    classes = proxies.shape[-2]
    # One transfer from the device for all three values.
    finite, low, high = torch.stack([torch.isfinite(embeddings).all().long(), labels.min(), labels.max()]).tolist()
    if low < 0 or high >= classes:
        raise ValueError(
            f"labels: expected values in [0, {classes - 1}], found [{low}, {high}]; map identities to consecutive integers first"
        )
    if not finite:
        bad = int((~torch.isfinite(embeddings)).any(-1).sum())
        raise ValueError(
            f"embeddings: {bad} of {labels.numel()} rows hold NaN or infinity; the run has diverged, "
            "lower the learning rate, clip gradients, or detach the margin"
        )


def check_margin(name: str, margin: float) -> None:
    """Raise if `margin` lies outside the range in which the head `name` has a meaning.

    Raises
    ------
    ValueError
        CosFace needs [0, 1), ArcFace [0, pi) radians, SphereFace and SphereFace-R v1, v2 at least 1 (1 is "no margin").
    """
    ranges = {
        "cosface": (0.0, 1.0, "[0, 1), a difference of cosines"),
        "arcface": (0.0, math.pi, "[0, pi), an angle in radians"),
        "v0": (1.0, math.inf, "[1, inf), a factor of the angle; 1 means no margin"),
    }
    ranges["v1"] = ranges["v2"] = ranges["v0"]
    if name not in ranges:
        return
    low, high, text = ranges[name]
    if not low <= margin < high:
        raise ValueError(f"margin: {name} expects a value in {text}; found {margin}")


# --------------------------------------------------------------------------------------------------------------- cosines


def full_precision(tensor: Tensor) -> Tensor:
    """Half precision becomes float32; float32 and float64 stay."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def xavier_proxies(
    classes: int, dim: int, seed: int | Sequence[int]
) -> Float[Tensor, "classes dim"] | Float[Tensor, "heads classes dim"]:
    """First proxies, N(0, 2/(classes + dim)) as in the authors' code, from the run's own seed so that runs can be paired.

    A list of seeds gives one set of proxies a seed, along a leading dimension.
    """
    if not isinstance(seed, int):
        return torch.stack([xavier_proxies(classes, dim, one) for one in seed])
    return nn.init.xavier_normal_(torch.empty(classes, dim), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def make_unit_(proxies: Float[Tensor, "*lead classes dim"]) -> None:
    """Overwrite the stored proxies by their unit versions, outside the graph.

    This is the official convention of OpenSphere: gradient, momentum and weight decay then act on the raw parameter, and the
    radial part of the gradient is *not* projected out. It is therefore neither projection nor normalisation in the graph;
    for the latter pass ``torch.nn.functional.normalize(proxies, dim=-1)`` to `cosines`.
    """
    raw = proxies.data  # no version bump: a second forward pass before the first backward pass rewrites the same values
    raw.div_(raw.norm(dim=-1, keepdim=True).clamp_min_(torch.finfo(raw.dtype).tiny))


def cosines(
    embeddings: Float[Tensor, "*lead batch dim"], proxies: Float[Tensor, "*lead classes dim"]
) -> Float[Tensor, "*lead batch classes"]:
    r"""Cosine of every embedding with every proxy, :math:`c_{bj} = x_b \cdot w_j / \lVert x_b \rVert`.

    Parameters
    ----------
    embeddings
        Any length; normalised inside the graph.
    proxies
        Unit rows (see `make_unit_`).

    Returns
    -------
    Float[Tensor, "*lead batch classes"]
        In float32 or float64 even under autocast: near the poles half precision would lose the angle.
    """
    with torch.autocast(embeddings.device.type, enabled=False):
        unit = functional.normalize(full_precision(embeddings), dim=-1)
        return unit @ full_precision(proxies).mT


def softmax_logits(
    embeddings: Float[Tensor, "*lead batch dim"],
    weights: Float[Tensor, "*lead classes dim"],
    bias: Float[Tensor, "*lead classes"],
) -> Float[Tensor, "*lead batch classes"]:
    r"""The ordinary classifier, nothing normalised: :math:`z_{bj} = x_b \cdot w_j + b_j`."""
    with torch.autocast(embeddings.device.type, enabled=False):
        return full_precision(embeddings) @ full_precision(weights).mT + full_precision(bias).unsqueeze(-2)


# ----------------------------------------------------------------------------------------------------- angular functions
# Each maps a cosine c = cos(theta) to psi or eta. A larger margin gives a smaller psi (harder target) or a larger eta.


def angle(cosine: Float[Tensor, "*any"], eps: float = COSINE_EPS) -> Float[Tensor, "*any"]:
    r"""Angle :math:`\theta = \arccos c` in radians, with cosines clamped to :math:`[-1+\epsilon, 1-\epsilon]` first.

    The clamp keeps the slope :math:`-1/\sin\theta` finite, also at the exact poles, where it becomes 0. The official
    :math:`\epsilon` of 1e-5 flattens the outer 4.5 mrad.
    """
    eps = max(eps, torch.finfo(cosine.dtype).eps)
    return torch.arccos(cosine.clamp(-1 + eps, 1 - eps))


def cosface(cosine: Float[Tensor, "*any"], margin: float) -> Float[Tensor, "*any"]:
    r"""CosFace: :math:`\psi = c - m`, with m in [0, 1)."""
    return cosine - margin


def arcface(
    cosine: Float[Tensor, "*any"], margin: float, *, beyond: str = "clip", eps: float = COSINE_EPS
) -> Float[Tensor, "*any"]:
    r"""ArcFace: :math:`\psi = \cos(\theta + m)`, with m in [0, pi) radians.

    Parameters
    ----------
    cosine
        Target cosines.
    margin
        In radians.
    beyond
        What to do where :math:`\theta + m > \pi`. ``"clip"`` (OpenSphere): stay at -1.
        ``"linear"`` (PyTorch Metric Learning): continue as :math:`c - m \sin m`, which keeps a slope.
    eps
        See `angle`.
    """
    theta = angle(cosine, eps)
    if beyond == "clip":
        return torch.cos((theta + margin).clamp(ANGLE_LOW, ANGLE_HIGH))
    if beyond == "linear":
        return torch.where(theta + margin > math.pi, cosine - margin * math.sin(margin), torch.cos(theta + margin))
    raise ValueError(f"beyond: expected 'clip' or 'linear', found {beyond!r}")


def sphereface(
    cosine: Float[Tensor, "*any"], margin: float | Tensor, *, eps: float = COSINE_EPS
) -> Float[Tensor, "*any"]:
    r"""SphereFace, "v0": :math:`\psi = (-1)^k \cos(m\theta) - 2k` with :math:`k = \lfloor m\theta/\pi \rfloor`, m >= 1 and real.

    A cosine run through m times as fast, its falling halves glued together: continuous, never rising with the angle,
    and flat at every :math:`k\pi/m`.
    """
    multiplied = margin * angle(cosine, eps)
    k = torch.floor(multiplied.detach() / math.pi)
    return (1 - 2 * torch.remainder(k, 2)) * torch.cos(multiplied) - 2 * k


def sphereface_r_v1(
    cosine: Float[Tensor, "*any"], margin: float | Tensor, *, eps: float = COSINE_EPS
) -> Float[Tensor, "*any"]:
    r"""SphereFace-R v1: :math:`\psi = \cos(\min(m, \pi/\theta)\,\theta) = \cos(\min(m\theta, \pi))`, m >= 1.

    One formula instead of pieces; saturates at -1 for :math:`\theta \ge \pi/m`.
    """
    return torch.cos((margin * angle(cosine, eps)).clamp(ANGLE_LOW, ANGLE_HIGH))


def sphereface_r_v2(
    cosine: Float[Tensor, "*any"], margin: float | Tensor, *, eps: float = COSINE_EPS
) -> Float[Tensor, "*any"]:
    r"""SphereFace-R v2, the *non-target* function: :math:`\eta = \cos(\theta/m)`, m >= 1.

    The target keeps :math:`\psi = c`; every other class is lifted to at least :math:`\cos(\pi/m)`.
    """
    return torch.cos(angle(cosine, eps) / margin)


def clamped_cosine(cosine: Float[Tensor, "*any"], *, eps: float = COSINE_EPS) -> Float[Tensor, "*any"]:
    r"""The cosine after the clamp of `angle`: the target function of SphereFace-R v2 as the official code computes it."""
    return cosine.clamp(-1 + eps, 1 - eps)


# ------------------------------------------------------------------------------------------------------- putting together


def detached(value: Float[Tensor, "*any"], carrier: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    r"""The value of one tensor with the gradient of another: :math:`u + \mathrm{stopgrad}(v - u)`.

    With ``carrier`` = cosine this is characteristic gradient detachment (paper 06): the margin changes the loss, not the slope.
    """
    return carrier + (value - carrier).detach()


def margin_cosines(
    cosine: Float[Tensor, "*lead batch classes"],
    labels: Int[Tensor, "*lead batch"],
    psi: AngularFunction | None,
    eta: AngularFunction | None = None,
    *,
    detach: bool = True,
) -> Float[Tensor, "*lead batch classes"]:
    r"""Apply :math:`\psi` to the target cosine of each row and :math:`\eta` to the others.

    .. math:: f_{bj} = \psi(\theta_{bj})\,[j = y_b] + \eta(\theta_{bj})\,[j \ne y_b]

    Parameters
    ----------
    cosine
        From `cosines`.
    labels
        Target class of each row.
    psi, eta
        Functions of the cosine; None is the cosine itself. With ``eta=None`` only one entry a row is touched,
        so the angular work is B entries rather than B x K.
    detach
        True: gradient of the plain cosine (characteristic gradient detachment). False: ordinary gradient.

    Returns
    -------
    Float[Tensor, "*lead batch classes"]
        Logits before the scale.
    """
    index = labels.unsqueeze(-1)
    target = cosine.gather(-1, index)
    if not detach:
        others = cosine if eta is None else eta(cosine)
        return others.scatter(-1, index, target if psi is None else psi(target))
    with torch.no_grad():
        shift = torch.zeros_like(target) if psi is None else psi(target) - target
        if eta is not None:
            shift = (eta(cosine) - cosine).scatter_(-1, index, shift)
    return cosine.scatter_add(-1, index, shift) if eta is None else cosine + shift


def cross_entropy(
    logits: Float[Tensor, "*lead batch classes"], labels: Int[Tensor, "*lead batch"], *, floor: float = 0.0
) -> Float[Tensor, "*lead"]:
    """Mean cross-entropy over the batch, one value for each leading index.

    Parameters
    ----------
    logits, labels
        Scores of all classes, and the right class of each row.
    floor
        Probabilities below it are *reported* as `floor` (InsightFace's Partial FC: 1e-30, so at most 69.1 a sample).
        The gradient is that of the full loss.
    """
    lead = labels.shape[:-1]
    if not lead and not floor:
        return functional.cross_entropy(logits, labels)
    loss = functional.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="none").view(labels.shape)
    if floor:
        loss = detached(loss.clamp(max=-math.log(floor)), loss)
    return loss.mean(-1)


def hyperspherical_energy(
    proxies: Float[Tensor, "*lead classes dim"], labels: Int[Tensor, "*lead batch"]
) -> Float[Tensor, "*lead"]:
    r"""SphereFace+ term: how crowded the proxies of this batch's classes are on the sphere.

    .. math:: \frac{2}{P(P-1)} \sum_{a<b} \theta(w_a, w_b)^{-2}

    over the P distinct classes of the batch; 0 (not 0/0) when the batch shows one class only.

    Parameters
    ----------
    proxies
        Unit rows; the gradient is the ordinary one.
    labels
        Decide which classes take part.
    """
    present = torch.zeros(proxies.shape[:-1], dtype=torch.bool, device=proxies.device)
    present.scatter_(-1, labels, True)
    if not labels.shape[:-1]:  # one head: only the rows that take part, P x P instead of K x K
        proxies, present = proxies[present], present[present]
    with torch.autocast(proxies.device.type, enabled=False):
        proxies = full_precision(proxies)
        pairs = (present.unsqueeze(-1) & present.unsqueeze(-2)).triu(diagonal=1)
        inverse_square = angle(proxies @ proxies.mT).pow(-2)
        energy = torch.where(pairs, inverse_square, 0.0).sum((-2, -1))
    return energy / pairs.sum((-2, -1)).clamp_min(1)


# ---------------------------------------------------------------------------------------------- very many classes


def sample_classes(
    labels: Int[Tensor, " batch"], classes: int, rate: float, generator: torch.Generator
) -> tuple[Int[Tensor, " kept"], Int[Tensor, " batch"]]:
    """Partial FC: the classes of the batch plus random others, a share `rate` of all, and the labels among them.

    A margin softmax over ``proxies[kept]`` with the returned labels then costs `rate` of the full one, and only the kept rows
    get a gradient.

    Parameters
    ----------
    labels
        Classes of the batch, in [0, classes).
    classes
        Number of all classes.
    rate
        Share to keep, in (0, 1]. If the batch alone shows more, exactly its classes are kept.
    generator
        Source of the choice, on CPU.

    Returns
    -------
    kept
        Sorted class numbers.
    labels
        Position of each label in `kept`.

    Raises
    ------
    ValueError
        If `rate` is outside (0, 1] or a label is out of range.
    """
    if not 0 < rate <= 1:
        raise ValueError(f"rate: expected a share in (0, 1], found {rate}")
    if labels.numel() == 0 or labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"labels: expected a non-empty batch with values in [0, {classes - 1}]")
    scores = torch.rand(classes, generator=generator)
    scores[labels.cpu()] = 2.0  # beats every random score: the batch's own classes come first
    count = max(int((scores == 2.0).sum()), round(rate * classes))
    kept = scores.topk(count).indices.sort().values.to(labels.device)
    return kept, torch.searchsorted(kept, labels)
