r"""SphereFace-R (paper 06): one loss for all hyperspherical heads, and what keeps multiplicative margins trainable.

Top to bottom: the unified loss with its target function :math:`\psi` and non-target function :math:`\eta`; their slopes and the
decision boundary; the head with feature normalisation, growing margin and gradient detachment.
Weiyang Liu, Yandong Wen, Bhiksha Raj, Rita Singh, Adrian Weller, "SphereFace Revived: Unifying Hyperspherical Face Recognition",
arXiv:2109.05565 (IEEE TPAMI 45(2), 2023). Conventions follow the authors' OpenSphere code where the text leaves them open.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from scipy import optimize
from torch import Tensor, nn
from torch.nn import functional

from paper_utils.nn import fused_softmax, margins

HEADS = ("softmax", "normface", "cosface", "arcface", "v0", "v1", "v2")
MULTIPLICATIVE = ("v0", "v1", "v2")
NORMALIZATIONS = ("HFN", "NFN", "SFN")


# ------------------------------------------------------------------------------------------- 1. one loss for all heads


@dataclass(frozen=True)
class HeadConfig:
    r"""Which :math:`\psi`, :math:`\eta` and :math:`\rho`; defaults are the published ``vggface2_sfnet20_spherefacer``.

    Parameters
    ----------
    psi
        ``"softmax"`` (nothing normalised, with bias), ``"normface"`` (no margin), ``"cosface"``, ``"arcface"``,
        ``"v0"`` (SphereFace), ``"v1"`` or ``"v2"`` (SphereFace-R).
    margin
        A difference of cosines (CosFace), an angle in radians (ArcFace), or a factor of the angle (v0, v1, v2; 1 is "off").
        A tuple gives every head of a `Head` with several seeds its own.
    normalization
        ``"HFN"``: features of length 1, :math:`\rho` = `scale`. ``"NFN"``: :math:`\rho = \lVert x \rVert`.
        ``"SFN"``: the same, and the length is pulled towards `scale`.
    scale
        :math:`\rho` of HFN and target length of SFN; NFN has no use for it.
    detach
        Characteristic gradient detachment: the margin changes the loss, not the slope.
    loss_weight
        Multiplies the cross-entropy, divided by `scale` for HFN and SFN. ``None``: plain cross-entropy.
    growth_steps, growth
        The margin is ``1 + growth * (number of growth_steps below the call's number)``, calls counted from 1. Empty: constant `margin`.
    norm_weight
        Weight of SFN's penalty, the mean of ``|length - scale|``.
    energy_weight
        Weight of the SphereFace+ term, `margins.hyperspherical_energy`.
    """

    psi: str = "v2"
    margin: float | tuple[float, ...] = 1.4
    normalization: str = "HFN"
    scale: float = 60.0
    detach: bool = True
    loss_weight: float | None = 50.0
    growth_steps: tuple[int, ...] = ()  # no published configuration gives any
    growth: float = 0.1  # default of the authors' NFN class (their SFN class says 1.5: set it)
    norm_weight: float = 0.01  # default of the authors' SFN class; absolute value, not square, as their code has it
    energy_weight: float = 0.0

    def __post_init__(self) -> None:
        if self.psi not in HEADS:
            raise ValueError(f"psi: expected one of {', '.join(HEADS)}; found {self.psi!r}")
        if self.normalization not in NORMALIZATIONS:
            raise ValueError(f"normalization: expected HFN, NFN or SFN, found {self.normalization!r}")
        if not self.scale > 0:
            raise ValueError(f"scale: expected a positive number, found {self.scale}")
        if self.growth_steps and self.psi not in MULTIPLICATIVE:
            raise ValueError(
                f"growth_steps: only v0, v1 and v2 have a margin that grows from 1, found psi={self.psi!r}"
            )
        for margin in self.margin if isinstance(self.margin, tuple) else (self.margin,):
            margins.check_margin(self.psi, margin)

    def build(self, dim: int, classes: int, seeds: Sequence[int]) -> Head:
        """One independent head a seed, as `paper_utils.open_set` trains them."""
        return Head(dim, classes, self, seed=seeds, strict=False)


# Heads of the published training runs (OpenSphere). Batch 512, SGD .1 with momentum .9, weight decay 5e-4 in all of them.
PUBLISHED = {
    "vggface2_sfnet20_spherefacer": HeadConfig("v2", 1.4, scale=60.0, loss_weight=50.0),
    "vggface2_sfnet20_sphereface": HeadConfig("v0", 1.5, scale=30.0, loss_weight=None),
    "vggface2_sfnet20_spherefaceplus": HeadConfig("v0", 1.5, scale=30.0, loss_weight=None, energy_weight=0.1),
    "ms1m_sfnet64bn_sphereface": HeadConfig("v0", 1.7, scale=32.0, loss_weight=None),
    "ms1m_iresnet100_sphereface (2022)": HeadConfig("v0", 1.7, scale=32.0, loss_weight=None),
    "ms1m_iresnet100_sphereface (2023)": HeadConfig("v0", 1.7, scale=64.0, loss_weight=None),
}


def angular_functions(
    psi: str, margin: float | Tensor
) -> tuple[margins.AngularFunction | None, margins.AngularFunction | None]:
    r"""Target function :math:`\psi` and non-target function :math:`\eta` of a head, as functions of the cosine.

    None stands for the cosine itself. Every head but v2 keeps :math:`\eta(\theta) = \cos\theta`:

    ======== ============================================== =========================
    head     :math:`\psi(\theta)`                           :math:`\eta(\theta)`
    ======== ============================================== =========================
    normface :math:`\cos\theta`                             :math:`\cos\theta`
    cosface  :math:`\cos\theta - m`                         :math:`\cos\theta`
    arcface  :math:`\cos\min(\pi, \theta + m)`              :math:`\cos\theta`
    v0       :math:`(-1)^k\cos m\theta - 2k`                :math:`\cos\theta`
    v1       :math:`\cos\min(m\theta, \pi)`                 :math:`\cos\theta`
    v2       :math:`\cos\theta`                             :math:`\cos(\theta/m)`
    ======== ============================================== =========================
    """
    return {
        "normface": (None, None),
        "cosface": (partial(margins.cosface, margin=margin), None),
        "arcface": (partial(margins.arcface, margin=margin), None),
        "v0": (partial(margins.sphereface, margin=margin), None),
        "v1": (partial(margins.sphereface_r_v1, margin=margin), None),
        "v2": (margins.clamped_cosine, partial(margins.sphereface_r_v2, margin=margin)),
    }[psi]


def psi_eta(psi: str, theta: Float[Tensor, " points"], margin: float) -> tuple[Tensor, Tensor]:
    r"""Values :math:`\psi(\theta)` and :math:`\eta(\theta)` at angles in radians, for looking at them."""
    target, other = angular_functions(psi, margin)
    cosine = torch.cos(theta)
    return cosine if target is None else target(cosine), cosine if other is None else other(cosine)


def characteristic(psi: str, theta: Float[Tensor, " points"], margin: float) -> Float[Tensor, " points"]:
    r"""The characteristic function :math:`\Delta(\theta) = \eta(\theta) - \psi(\theta)`: 0 is no margin, positive is a margin."""
    target, other = psi_eta(psi, theta, margin)
    return other - target


# --------------------------------------------------------------------------------------------- 2. slopes and boundaries


def slopes(
    psi: str, theta: Float[Tensor, " points"], margin: float, *, detach: bool
) -> tuple[Float[Tensor, " points"], Float[Tensor, " points"]]:
    r"""How fast the logits follow the cosine: :math:`d\psi/dc` and :math:`d\eta/dc` at angles in radians, by automatic differentiation.

    With detachment both are 1 at every angle, for every head. Without it v0 has :math:`\pm m\sin(m\theta)/\sin\theta`.
    """
    cosine = torch.cos(theta).requires_grad_()
    pairs = torch.stack([cosine, cosine], dim=-1)  # column 0 is the target, column 1 another class, both at angle theta
    labels = torch.zeros(len(theta), dtype=torch.long)
    logits = margins.margin_cosines(pairs, labels, *angular_functions(psi, margin), detach=detach)
    both = [torch.autograd.grad(logits[:, column].sum(), cosine, retain_graph=True)[0] for column in (0, 1)]
    return both[0], both[1]


def boundary_angle(psi: str, between: float, margin: float) -> float:
    r"""Angle from the target's proxy at which a feature between two proxies is decided either way.

    Solves :math:`\psi(a) = \eta(\phi - a)` for two proxies :math:`\phi` apart. For v0, v1 and v2 it is :math:`\phi/(1+m)`:
    the target must be m times as near as the other.

    Parameters
    ----------
    psi, margin
        The head.
    between
        :math:`\phi` in radians.

    Raises
    ------
    ValueError
        If the feature loses everywhere between the two proxies (an additive margin wider than the gap).
    """

    def lead(angle: float) -> float:
        target, _ = psi_eta(psi, torch.tensor([angle], dtype=torch.float64), margin)
        _, other = psi_eta(psi, torch.tensor([between - angle], dtype=torch.float64), margin)
        return float(target - other)

    if lead(0.0) <= 0:
        raise ValueError(f"between: {psi} with margin {margin} leaves no room between proxies {between} rad apart")
    return float(optimize.brentq(lead, 0.0, between, xtol=1e-10))


# ------------------------------------------------------------------------------------------------------------ 3. the head


class Head(nn.Module):
    r"""The unified loss: class proxies, a margin, a cross-entropy.

    .. math:: L = -\log \frac{e^{\rho\,\psi(\theta_y)}}{e^{\rho\,\psi(\theta_y)} + \sum_{i \ne y} e^{\rho\,\eta(\theta_i)}}

    Parameters
    ----------
    dim, classes
        Width of the embedding, number of classes.
    config
        Which head.
    seed
        Seed of the first proxies. A list makes one independent head a seed, along a leading dimension.
    strict
        Raise on inputs that cannot be right (see `margins.check_inputs`). Off, a diverged run yields NaN instead.

    Attributes
    ----------
    calls
        How often the head was called in training mode; it drives the growing margin. It is saved with the weights, so a resumed
        run goes on with the margin it had. (In the authors' code the counter is not saved and restarts at 0.)

    Examples
    --------
    >>> head = Head(8, 3, HeadConfig("v1", 1.5, scale=8.0), seed=0)
    >>> loss = head(torch.ones(4, 8), torch.tensor([0, 1, 2, 0]))
    >>> loss.shape
    torch.Size([])
    """

    def __init__(self, dim: int, classes: int, config: HeadConfig, *, seed: int | Sequence[int], strict: bool = True):
        super().__init__()
        if classes < 2:
            raise ValueError(f"classes: a classification head needs at least 2, found {classes}; check the class split")
        own = isinstance(config.margin, tuple)
        if own and (isinstance(seed, int) or len(config.margin) != len(seed)):
            raise ValueError(f"margin: {len(config.margin)} margins need as many seeds, found seed={seed}")
        self.config, self.strict = config, strict
        self.proxies = nn.Parameter(margins.xavier_proxies(classes, dim, seed))
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        if config.psi == "softmax":
            self.bias = nn.Parameter(torch.zeros(self.proxies.shape[:-1]))

    def margin(self) -> float | Tensor:
        """The margin of the current call."""
        config = self.config
        if isinstance(config.margin, tuple):
            return self.proxies.new_tensor(config.margin).view(-1, 1, 1)
        if not config.growth_steps:
            return config.margin
        passed = torch.tensor(config.growth_steps, device=self.calls.device) < self.calls
        return 1.0 + config.growth * passed.sum().to(self.proxies.dtype)

    def logits(
        self, embeddings: Float[Tensor, "*lead batch dim"], labels: Int[Tensor, "*lead batch"]
    ) -> Float[Tensor, "*lead batch classes"]:
        r"""What cross-entropy sees: :math:`\rho\,\psi(\theta_y)` for the target, :math:`\rho\,\eta(\theta_i)` for the others."""
        config = self.config
        if config.psi == "softmax":
            return margins.softmax_logits(embeddings, self.proxies, self.bias)
        margins.make_unit_(self.proxies)
        cosine = margins.cosines(embeddings, self.proxies)
        psi, eta = angular_functions(config.psi, self.margin())
        rho = config.scale if config.normalization == "HFN" else lengths(embeddings).unsqueeze(-1)
        return rho * margins.margin_cosines(cosine, labels, psi, eta, detach=config.detach)

    def _fused(self, embeddings: Float[Tensor, "batch dim"], labels: Int[Tensor, " batch"]) -> Float[Tensor, ""]:
        """Cross-entropy of `logits`, but made for very many classes; for one head, without leading dimensions."""
        config = self.config
        if config.psi == "softmax":
            return fused_softmax.softmax_cross_entropy(embeddings, self.proxies, self.bias, labels)
        margins.make_unit_(self.proxies)
        margin = self.margin()
        psi, eta = angular_functions(config.psi, margin)
        return fused_softmax.margin_cross_entropy(
            embeddings,
            self.proxies,
            labels,
            psi=psi,
            eta=None if eta is None else fused_softmax.RaisedCosine(float(margin)),
            scale=config.scale if config.normalization == "HFN" else lengths(embeddings),
            detach=config.detach,
        )

    def forward(
        self, embeddings: Float[Tensor, "*lead batch dim"], labels: Int[Tensor, "*labels"]
    ) -> Float[Tensor, "*lead"]:
        """Loss, mean over the batch; one value for each leading index."""
        config = self.config
        if self.strict:
            margins.check_inputs(embeddings, self.proxies, labels)
        if self.training:
            self.calls += 1
        one = embeddings.dim() == self.proxies.dim() == 2
        loss = (
            self._fused(embeddings, labels) if one else margins.cross_entropy(self.logits(embeddings, labels), labels)
        )
        if config.psi == "softmax":
            return loss
        if config.loss_weight is not None:
            loss = loss * (config.loss_weight / (1.0 if config.normalization == "NFN" else config.scale))
        if config.normalization == "SFN":
            loss = loss + config.norm_weight * (lengths(embeddings) - config.scale).abs().mean(-1)
        if config.energy_weight:
            loss = loss + config.energy_weight * margins.hyperspherical_energy(self.proxies, labels)
        return loss

    def diagnose(
        self, embeddings: Float[Tensor, "*lead batch dim"], labels: Int[Tensor, "*lead batch"]
    ) -> dict[str, Float[Tensor, "*lead"]]:
        """See `diagnose`."""
        return diagnose(self, embeddings, labels)


def lengths(embeddings: Float[Tensor, "*lead batch dim"]) -> Float[Tensor, "*lead batch"]:
    """Euclidean length of each embedding, in float32 or better."""
    return (embeddings.float() if embeddings.dtype in (torch.float16, torch.bfloat16) else embeddings).norm(dim=-1)


def diagnose(
    head: Head, embeddings: Float[Tensor, "*lead batch dim"], labels: Int[Tensor, "*lead batch"]
) -> dict[str, Float[Tensor, "*lead"]]:
    r"""What the margin does to one batch, without touching the run.

    Returns
    -------
    dict
        ``pull``: largest :math:`|\partial L_b/\partial c_{by}| / \rho` over the batch, at most 1 with detachment;
        ``pull_p99``: its 99th percentile; ``target_angle``: mean angle to the own proxy (rad);
        ``rival``: mean over the batch of the largest cosine with another class; ``length``: mean length of the embeddings.
    """
    if head.config.psi == "softmax":
        raise ValueError("diagnose: the plain softmax head has no margin to look at")
    proxies = functional.normalize(head.proxies.detach(), dim=-1)
    cosine = margins.cosines(embeddings.detach(), proxies).requires_grad_()
    index = labels.unsqueeze(-1)
    with torch.enable_grad():
        psi, eta = angular_functions(head.config.psi, head.margin())
        size = lengths(embeddings.detach()).unsqueeze(-1)
        rho = torch.full_like(size, head.config.scale) if head.config.normalization == "HFN" else size
        logits = rho * margins.margin_cosines(cosine, labels, psi, eta, detach=head.config.detach)
        total = functional.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="sum")
        gradient = torch.autograd.grad(total, cosine)[0]
    pull = (gradient.gather(-1, index) / rho).squeeze(-1).abs()
    target = cosine.detach().gather(-1, index).squeeze(-1)
    rival = cosine.detach().scatter(-1, index, -1.0).amax(-1)
    return {
        "pull": pull.amax(-1),
        "pull_p99": pull.nan_to_num(math.inf).quantile(0.99, dim=-1),
        "target_angle": torch.arccos(target.clamp(-1, 1)).mean(-1),
        "rival": rival.mean(-1),
        "length": size.squeeze(-1).mean(-1),
    }


def distance_from_normface(psi: str, excess: float, *, seed: int) -> tuple[float, float]:
    """How far a head with a margin of `excess` above "off" is from NormFace, on one random batch in float64.

    Parameters
    ----------
    psi
        The head; "off" is 0 for CosFace and ArcFace, 1 for v0, v1 and v2.
    excess
        0 is "off": the head should be NormFace itself.
    seed
        Of batch and proxies.

    Returns
    -------
    tuple
        Relative difference of the loss, and largest difference of the gradient relative to its largest entry (ordinary gradient).
    """
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(64, 16, generator=generator, dtype=torch.float64)
    labels = torch.randint(10, (64,), generator=generator)
    margin = excess + (1.0 if psi in MULTIPLICATIVE else 0.0)
    results = []
    for config in (HeadConfig(psi, margin, scale=16.0, detach=False), HeadConfig("normface", 0.0, scale=16.0)):
        head = Head(16, 10, config, seed=seed).double()
        x = embeddings.clone().requires_grad_()
        loss = head(x, labels)
        loss.backward()
        results.append((loss.detach(), torch.cat([x.grad.flatten(), head.proxies.grad.flatten()])))
    (loss, gradient), (plain_loss, plain_gradient) = results
    return float(abs(loss / plain_loss - 1)), float(
        (gradient - plain_gradient).abs().max() / plain_gradient.abs().max()
    )
