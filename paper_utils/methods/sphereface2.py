r"""SphereFace2 (paper 05): train face recognition with binary questions, all of which share one threshold.

Top to bottom: the similarity adjustment g; decision surfaces; the loss for three kinds of margin; the bias to start with; the head;
the ablation ladder; the speaker-verification version; published configurations. The formulas at work are `paper_utils.nn.binary_margins`.
Yandong Wen, Weiyang Liu, Adrian Weller, Bhiksha Raj, Rita Singh, "SphereFace2: Binary Classification is All You Need for Deep Face
Recognition", arXiv:2108.01513 (ICLR 2022). Conventions follow the authors' OpenSphere code where the text leaves them open.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from paper_utils.nn import binary_margins, margins

NORMALIZATIONS = ("overwrite", "graph")


@dataclass(frozen=True)
class HeadConfig(binary_margins.BinaryMargin):
    r"""The loss (see `binary_margins.BinaryMargin` for its fields) and how a head starts.

    Defaults are SphereFace2-C of the OpenSphere branch dedicated to the paper ("iclr": all of sections 3.1 to 3.3 and the appendix).

    Parameters
    ----------
    bias_start
        ``"balanced"``: `balanced_bias`, the official start; or a number.
    train_bias
        The official bias is trained, with weight decay like everything else. Off, it stays where it starts.
    normalization
        ``"overwrite"``: proxies are overwritten by their unit versions before each forward pass, outside the graph (OpenSphere).
        ``"graph"``: they are normalised inside the graph (speaker version).
    """

    kind: str = "C"
    margin: float = 0.4  # iclr
    scale: float = 40.0  # iclr
    balance: float = 0.7  # iclr
    exponent: float = 3.0  # iclr
    loss_weight: float = 10.0  # iclr and v0 configurations (the class default there is 50)
    bias_start: str | float = "balanced"
    train_bias: bool = True
    normalization: str = "overwrite"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.normalization not in NORMALIZATIONS:
            raise ValueError(f"normalization: expected 'overwrite' or 'graph', found {self.normalization!r}")
        if isinstance(self.bias_start, str) and self.bias_start != "balanced":
            raise ValueError(f"bias_start: expected 'balanced' or a number, found {self.bias_start!r}")
        if self.bias_start == "balanced" and self.kind == "speech-A":
            raise ValueError("bias_start: 'balanced' is not defined for speech-A, whose official bias starts at 0.0")

    def build(self, dim: int, classes: int, seeds: Sequence[int]) -> Head:
        """One independent head a seed, as `paper_utils.open_set` trains them."""
        return Head(dim, classes, self, seed=seeds, strict=False)


# -------------------------------------------------------------------------------------------- 1. the similarity adjustment

adjusted_similarity = binary_margins.adjusted_similarity


def slopes(
    config: HeadConfig, cosine: Float[Tensor, " points"]
) -> tuple[Float[Tensor, " points"], Float[Tensor, " points"]]:
    r"""How fast the two logits follow the cosine: :math:`\partial p/\partial c` and :math:`\partial n/\partial c`, by autograd.

    With ``gradient="through"`` they are :math:`r g'(c)`: for t = 3 a factor of 0, 0.75 and 3 at c = -1, 0 and 1, so opposite
    pairs do not move at all. With ``"straight"`` they are r everywhere.
    """
    results = []
    for similarity in (binary_margins.positive_similarity, binary_margins.negative_similarity):
        points = cosine.detach().clone().requires_grad_()
        results.append(torch.autograd.grad(config.scale * similarity(points, config).sum(), points)[0])
    return results[0], results[1]


# --------------------------------------------------------------------------------------------------- 2. decision surfaces


def questions(
    config: HeadConfig, cosine: Float[Tensor, " points"], bias: float
) -> tuple[Float[Tensor, " points"], Float[Tensor, " points"]]:
    r"""Logits :math:`p(c)` of "is it this person?" and :math:`n(c)` of "is it one of the others?", at the same cosines.

    ==== ============================================================= ==========================
    kind positive logit                                                negative logits
    ==== ============================================================= ==========================
    C    :math:`r\,(g(\cos\theta_y) - m) + b`                          :math:`r\,(g(\cos\theta_i) + m) + b`
    A    :math:`r\,g(\cos\min(\pi, \theta_y + m)) + b`                 :math:`r\,g(\cos\theta_i) + b`
    M    :math:`r\,g(\cos(\min(m, \pi/\theta_y)\,\theta_y)) + b`       :math:`r\,g(\cos\theta_i) + b`
    ==== ============================================================= ==========================
    """
    positive = config.scale * binary_margins.positive_similarity(cosine, config) + bias
    return positive, config.scale * binary_margins.negative_similarity(cosine, config) + bias


def decision_cosines(config: HeadConfig, bias: float) -> tuple[float, float]:
    r"""Where the two questions turn: the cosine with :math:`p = 0` and the cosine with :math:`n = 0`.

    For C these are :math:`g(c_y) = m - b/r` and :math:`g(c_i) = -m - b/r`, 2m apart on the scale of g and the same for every class:
    one universal threshold for the *training* identities. On unseen people it is not calibrated.

    Returns
    -------
    tuple
        NaN where no angle reaches the surface. (The negatives of speech-A fall again within m of the proxy; this is the outer surface.)
    """
    threshold = -bias / config.scale
    if config.kind == "C":
        ends = (threshold + config.margin, threshold - config.margin)
        return tuple(binary_margins.original_cosine(end, config.exponent) for end in ends)
    turn = binary_margins.original_cosine(threshold, config.exponent)
    if math.isnan(turn):
        return math.nan, math.nan
    angle = math.acos(turn)
    positive = angle / config.margin if config.kind == "M" else angle - config.margin
    negative = angle + (config.margin if config.kind == "speech-A" else 0.0)
    return tuple(math.cos(theta) if 0 <= theta <= math.pi else math.nan for theta in (positive, negative))


# ---------------------------------------------------------------------------------------------------------- 3. the loss


def loss_parts(
    config: HeadConfig, cosine: Float[Tensor, " points"], bias: float
) -> tuple[Float[Tensor, " points"], Float[Tensor, " points"]]:
    r"""What one positive and one negative pair contribute at a cosine.

    .. math::
        L = \underbrace{\tfrac{\lambda}{r}\log(1 + e^{-p})}_{\text{first value}}
            + \sum_{i \ne y} \underbrace{\tfrac{1-\lambda}{r}\log(1 + e^{n_i})}_{\text{second value}}

    Both are multiplied by the loss weight.

    References
    ----------
    Paper 05; the authors' code calls the loss with :math:`\lambda` equation 5.
    """
    positive, negative = questions(config, cosine, bias)
    weight = config.loss_weight / config.scale
    return (
        weight * config.balance * binary_margins.softplus(-positive),
        weight * (1 - config.balance) * binary_margins.softplus(negative),
    )


def attention(
    config: HeadConfig, cosine: Float[Tensor, " points"], bias: float
) -> tuple[Float[Tensor, " points"], Float[Tensor, " points"]]:
    r"""Weight of a pair in the gradient: :math:`\lambda\,\sigma(-p)` of a positive, :math:`(1-\lambda)\,\sigma(n)` of a negative.

    No pair's weight depends on another pair's score; in a softmax all classes share a total of 1.
    """
    positive, negative = questions(config, cosine, bias)
    return config.balance * torch.sigmoid(-positive), (1 - config.balance) * torch.sigmoid(negative)


# -------------------------------------------------------------------------------------------------- 4. the bias to start with


def balanced_bias(config: HeadConfig, classes: int) -> float:
    r"""The bias at which the loss does not change with the bias while all cosines are 0, as they nearly are before training.

    With :math:`z = \lambda / ((1-\lambda)(K-1))` and the logits :math:`p_0, n_0` at cosine 0 without bias,
    :math:`z\,\sigma(-(p_0+b)) = \sigma(n_0+b)` is a quadratic equation in :math:`e^b`:

    .. math:: e^{p_0} u^2 + (1 - z)\,u - z e^{-n_0} = 0

    Its positive root is written so that nothing cancels, also for z > 1 (few classes), where the authors' expression loses all
    digits or fails.

    Parameters
    ----------
    config
        Of kind C, A or M.
    classes
        K, at least 2.

    Raises
    ------
    ValueError
        For fewer than two classes, or for speech-A, which has no such start.
    """
    if classes < 2:
        raise ValueError(f"classes: expected at least 2, found {classes}")
    right = math.pi / 2
    at_zero = {"A": min(math.pi, right + config.margin), "M": min(math.pi, right * config.margin), "C": right}
    if config.kind not in at_zero:
        raise ValueError(f"kind: expected C, A or M, found {config.kind}; its official bias starts at 0")

    def g(cosine: float) -> float:
        return 2 * ((cosine + 1) / 2) ** config.exponent - 1

    p0 = config.scale * (g(math.cos(at_zero[config.kind])) - config.shift)
    n0 = config.scale * (g(0.0) + config.shift)
    z = config.balance / ((1 - config.balance) * (classes - 1))
    root = math.hypot(1 - z, 2 * math.sqrt(z) * math.exp((p0 - n0) / 2))
    if z <= 1:
        return math.log(2 * z) - n0 - math.log(1 - z + root)
    return math.log(z - 1 + root) - math.log(2) - p0


# ---------------------------------------------------------------------------------------------------------- 5. the head


class Head(nn.Module):
    r"""Class proxies, one bias, and the sum of binary losses.

    .. math:: L = \ell_w\left[\frac{\lambda}{r} \log(1 + e^{-p}) + \frac{1-\lambda}{r} \sum_{i \ne y} \log(1 + e^{n_i})\right]

    Parameters
    ----------
    dim, classes
        Width of the embedding, number of classes.
    config
        Which head.
    seed
        Seed of the first proxies. A list makes one independent head a seed, along a leading dimension.
    strict
        Raise on inputs that cannot be right (see `binary_margins.check_inputs`). Off, a diverged run yields NaN instead.

    Attributes
    ----------
    proxies, bias
        ``(*lead, classes, dim)`` and ``(*lead)``.

    Examples
    --------
    >>> head = Head(8, 3, HeadConfig(), seed=0)
    >>> loss = head(torch.ones(4, 8), torch.tensor([0, 1, 2, -1]))  # -1: a stranger, negative for every class
    >>> loss.shape
    torch.Size([])
    """

    def __init__(self, dim: int, classes: int, config: HeadConfig, *, seed: int | Sequence[int], strict: bool = True):
        super().__init__()
        if classes < 2:
            raise ValueError(f"classes: a classification head needs at least 2, found {classes}; check the class split")
        self.config, self.strict = config, strict
        self.proxies = nn.Parameter(margins.xavier_proxies(classes, dim, seed))
        start = balanced_bias(config, classes) if config.bias_start == "balanced" else float(config.bias_start)
        self.bias = nn.Parameter(torch.full(self.proxies.shape[:-2], start), requires_grad=config.train_bias)

    def unit_proxies(self) -> Float[Tensor, "*lead classes dim"]:
        """Proxies of length 1, by the convention of the configuration."""
        if self.config.normalization == "graph":
            return functional.normalize(self.proxies, dim=-1)
        margins.make_unit_(self.proxies)
        return self.proxies

    def logits(
        self, embeddings: Float[Tensor, "*lead batch dim"], labels: Int[Tensor, "*lead batch"]
    ) -> Float[Tensor, "*lead batch classes"]:
        """Logits of all binary questions, with their margins; what the loss is made of."""
        cosine = margins.cosines(embeddings, self.unit_proxies())
        return binary_margins.binary_logits(cosine, labels, self.bias, self.config)

    def forward(
        self, embeddings: Float[Tensor, "*lead batch dim"], labels: Int[Tensor, "*labels"]
    ) -> Float[Tensor, "*lead"]:
        """Loss, mean over the batch; one value for each leading index. The label -1 stands for people outside the classes."""
        if self.strict:
            binary_margins.check_inputs(embeddings, self.proxies, labels)
        return binary_margins.binary_loss(embeddings, self.unit_proxies(), self.bias, labels, self.config)

    @torch.no_grad()
    def load_official(self, state: Mapping[str, Tensor]) -> None:
        """Take proxies and bias from a head of an OpenSphere checkpoint.

        Parameters
        ----------
        state
            Keys ``w`` and ``b``, with or without the prefix ``module.``. `w` is (dim, classes) in the branches v0 and iclr and
            (classes, dim) in main; the shape decides.

        Raises
        ------
        ValueError
            On missing keys or other shapes, or when dim equals classes, so that the shape cannot decide.
        """
        found = {name.removeprefix("module."): value for name, value in state.items()}
        if not {"w", "b"} <= set(found):
            raise ValueError(f"state: expected the keys w and b of an OpenSphere head, found {sorted(state)}")
        classes, dim = self.proxies.shape[-2:]
        if self.proxies.ndim != 2 or classes == dim:
            raise ValueError(
                "state: loading needs a single head with dim different from classes; assign proxies and bias by hand"
            )
        weights = found["w"].T if found["w"].shape == (dim, classes) else found["w"]
        if weights.shape != (classes, dim) or found["b"].numel() != 1:
            raise ValueError(
                f"state: expected w of {dim} x {classes} or {classes} x {dim} and a single b, "
                f"found {tuple(found['w'].shape)} and {tuple(found['b'].shape)}"
            )
        self.proxies.copy_(weights)
        self.bias.copy_(found["b"].reshape(()))


# ------------------------------------------------------------------------------------------------- 6. the ablation ladder


def ladder(full: HeadConfig) -> dict[str, HeadConfig]:
    r"""From naive one-vs-all training to the full head, one ingredient at a time.

    Naive is the plain binary cross-entropy: :math:`\lambda = 1/2`, r = 1, no margin, t = 1, b = 0. The balanced start of the bias
    comes with :math:`\lambda`, as both answer the imbalance of one positive to K - 1 negatives (choice of ours).

    Parameters
    ----------
    full
        The last step, whose values the earlier ones take on.
    """
    off = 1.0 if full.kind == "M" else 0.0
    naive = dataclasses.replace(full, balance=0.5, scale=1.0, margin=off, exponent=1.0, bias_start=0.0)
    steps = {"naive": naive}
    for name, added in {
        "+ balance": {"balance": full.balance, "bias_start": full.bias_start},
        "+ scale": {"scale": full.scale},
        "+ margin": {"margin": full.margin},
        "+ similarity": {"exponent": full.exponent},
    }.items():
        steps[name] = dataclasses.replace(list(steps.values())[-1], **added)
    return steps


# -------------------------------------------------------------------------------------------------- 7. the speaker version


def speech_config(kind: str, margin: float, *, scale: float = 32.0, balance: float = 0.7) -> HeadConfig:
    r"""The head of the speaker-verification version (Han, Chen, Qian, ICASSP 2023).

    .. math:: L = \lambda \log(1 + e^{-p}) + (1-\lambda) \sum_{i \ne y} \log(1 + e^{n_i})

    No factor 1/r (here: a loss weight of r), proxies normalised inside the graph, and a bias that starts at 0.

    Parameters
    ----------
    kind
        ``"C"`` as in faces, or ``"speech-A"``: positive :math:`\cos(\theta+m)`, beyond :math:`\pi - m` continued as
        :math:`\cos\theta - (1 + \cos(\pi - m))`, negatives :math:`\cos(\theta_i - m)`.
    margin
        Final margin; it is approached by `ramped`.
    scale, balance
        Defaults of their code.
    """
    return HeadConfig(
        kind, margin, scale, balance, exponent=3.0, loss_weight=scale, bias_start=0.0, normalization="graph"
    )


def ramped(config: HeadConfig, step: int, start: int, stop: int) -> HeadConfig:
    """The configuration with its margin on the way from "off" to full: off until `start`, full from `stop`, linear between.

    The speaker version raises its margin from 0; that the rise is linear is a choice of ours. It depends on the step alone, so a
    resumed run has the right margin: ``head.config = ramped(final, step, start, stop)`` before each forward pass.

    Raises
    ------
    ValueError
        If `stop` does not come after `start`.
    """
    if stop <= start:
        raise ValueError(f"stop: expected a step after start={start}, found {stop}")
    off = 1.0 if config.kind == "M" else 0.0
    share = min(1.0, max(0.0, (step - start) / (stop - start)))
    return dataclasses.replace(config, margin=off + share * (config.margin - off))


# ------------------------------------------------------------------------------------------- 8. published configurations

# Faces: batch 512, SGD .1 with momentum .9, weight decay 5e-4 on network, proxies and bias alike. The published loss is the same in the
# OpenSphere branches v0 (2022-05), iclr (2022-11) and main (2023-10); gradients and clamps are not.
PUBLISHED = {
    "iclr C": HeadConfig(),
    "iclr A": HeadConfig("A", 0.5, gradient="straight", clamp="iclr"),
    "iclr M": HeadConfig("M", 1.7, gradient="straight", clamp="iclr"),
    # The formulas of the paper: gradient through g, none through the margin; margins of the iclr configurations.
    "paper A": HeadConfig("A", 0.5),
    "paper M": HeadConfig("M", 1.7),
    "v0 C": HeadConfig(gradient="straight"),
    "v0 A": HeadConfig("A", 0.5, gradient="straight"),
    "v0 M": HeadConfig("M", 1.7, gradient="straight"),
    # main: MS1M, IResNet-100.
    "main C": HeadConfig("C", 0.5, scale=64.0, balance=0.8, loss_weight=50.0, gradient="straight"),
    # Recommended margins of the speaker version, and those of its large-margin fine-tuning.
    "speech C": speech_config("C", 0.2),
    "speech A": speech_config("speech-A", 0.15),
    "speech C, fine-tuning": speech_config("C", 0.3),
    "speech A, fine-tuning": speech_config("speech-A", 0.25),
}
