r"""A categorical bottleneck: several heads, each of which picks one of its classes, trained straight through the choice (paper 04).

The forward value is a choice, one-hot; the gradient is that of the softmax it was made from. Noise makes it a draw from the softmax.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from paper_utils.nn import whole_batch

SMALLEST_UNIFORM = 1e-10  # released code of paper 04: keeps both logarithms of the noise finite below 1; 1 itself gives an infinite draw


def gumbel_noise(uniforms: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    r"""Gumbel noise of uniform numbers: :math:`g = -\ln(-\ln u)` with u clipped to :math:`[10^{-10}, 1]`.

    The class with the largest :math:`\log p_c + g_c` is a draw from p. A uniform of exactly 1 gives :math:`+\infty`: that class wins.

    Examples
    --------
    >>> gumbel_noise(torch.tensor([0.5])).round(decimals=4)
    tensor([0.3665])
    """
    return -torch.log(-torch.log(uniforms.clamp(SMALLEST_UNIFORM, 1.0)))


def draw_uniforms(
    shape: tuple[int, ...], generator: torch.Generator | None, like: Float[Tensor, "*any"]
) -> Float[Tensor, "*drawn"]:
    """Uniform numbers in [0, 1) on the device of `like`; drawn on the generator's device (None: torch's own, on the CPU).

    They have the type of `like`, but float32 at least: rounded to 16 bits some become 1, whose `gumbel_noise` is infinite. The first dimension is
    the batch: where several processes share it, each draws for all of it and keeps its own rows.
    """
    device = generator.device if generator is not None else "cpu"
    drawn = whole_batch.own(
        torch.rand((shape[0] * whole_batch.sharing(), *shape[1:]), generator=generator, device=device)
    )
    return drawn.to(like.device, torch.promote_types(like.dtype, drawn.dtype))


def quantize(
    logits: Float[Tensor, "*lead classes"], uniforms: Float[Tensor, "*noise"] | None = None, *, tau: float = 1.0
) -> tuple[Float[Tensor, "*lead classes"], Int[Tensor, "*lead"]]:
    r"""Straight-through choice of a class: forward value one-hot, gradient of the softmax.

    .. math:: s = \mathrm{softmax}\big((\log p + g)/\tau\big), \qquad c = \arg\max s, \qquad
        y = \mathrm{onehot}(c), \quad \frac{\partial y}{\partial \log p} := \frac{\partial s}{\partial \log p}

    Parameters
    ----------
    logits
        Log-probabilities, or logits up to a constant.
    uniforms
        Noise in [0, 1), see `gumbel_noise`. None: no noise, the most probable class.
    tau
        Temperature of the softmax; 1 throughout in the released code of paper 04. It changes the gradient, not the choice.

    Returns
    -------
    tuple
        The one-hot choice and its class numbers. Of equal scores the first class wins.

    Raises
    ------
    ValueError
        If `tau` is not positive, the noise has another shape, or the logits are NaN.

    References
    ----------
    Paper 04, categorical latent space; released code.
    """
    if not tau > 0:
        raise ValueError(f"tau: expected a positive temperature, found {tau}")
    scores = logits
    if uniforms is not None:
        if uniforms.shape != logits.shape:
            raise ValueError(
                f"uniforms: expected one for each logit, {tuple(logits.shape)}, found {tuple(uniforms.shape)}"
            )
        scores = logits + gumbel_noise(uniforms)
    labels = scores.argmax(-1)
    if torch.isnan(scores.detach().sum()):
        raise ValueError(
            f"logits: {int(torch.isnan(logits).sum())} of {logits.numel()} are NaN; look for bad input or a diverged run"
        )
    one_hot = functional.one_hot(labels, logits.shape[-1]).to(logits.dtype)
    if not (torch.is_grad_enabled() and logits.requires_grad):
        return one_hot, labels
    soft = torch.softmax(scores / tau, -1)
    return one_hot + (soft - soft.detach()), labels
