r"""The voice embedding network of papers 02 and 03: strided 1-D convolutions over log-mel frames, then the mean over time.

One voice embedding for any length of speech. Parameter names are those of the network published with paper 03, so its weights load as
they are.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

CHANNELS = (256, 384, 576, 864)  # published code of paper 03; each 1.5 times the one before
STRIDE = 2


class VoiceEncoder(nn.Module):
    r"""A 64 x T matrix of log-mel energies becomes one vector.

    .. math:: F_e(v) = \frac1{T'} \sum_{t=1}^{T'} \big(\mathrm{conv}_5 \circ (\mathrm{ReLU} \circ \mathrm{BN} \circ \mathrm{conv}_i)_{i=4..1}(v)\big)_t,
        \qquad T' = \lceil T / 32 \rceil

    Every convolution has kernel 3, stride 2, padding 1; the first four have no bias, the last has one and no normalisation.

    Parameters
    ----------
    bands
        Mel bands; 64 in papers 02 and 03.
    dim
        Width of the embedding; 64 in papers 02 and 03.
    channels
        Widths of the inner layers.
    width
        Factor on `channels`, rounded, at least 1. With 1 and the other defaults there are 2,670,720 parameters.
    seed
        Of the first weights.

    Examples
    --------
    >>> encoder = VoiceEncoder(seed=0)
    >>> sum(p.numel() for p in encoder.parameters())
    2670720
    >>> encoder(torch.zeros(2, 64, 300)).shape
    torch.Size([2, 64])
    """

    def __init__(
        self,
        bands: int = 64,
        dim: int = 64,
        *,
        channels: Sequence[int] = CHANNELS,
        width: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if bands < 1 or dim < 1 or not channels or min(channels) < 1 or not width > 0:
            raise ValueError(
                "voice encoder: expected bands, dim, width and all channels to be positive, "
                f"found {bands}, {dim}, {width} and {tuple(channels)}"
            )
        sizes = (bands, *(max(1, round(width * count)) for count in channels))
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(sizes):
            layers += [_halving(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU()]
        self.model = nn.Sequential(*layers, _halving(sizes[-1], dim, bias=True))
        self.bands, self.dim = bands, dim
        initialise_(self, torch.Generator().manual_seed(seed))

    def forward(self, log_mel: Float[Tensor, "batch bands time"]) -> Float[Tensor, "batch dim"]:
        """Embed recordings of equal length, not normalised.

        Parameters
        ----------
        log_mel
            Bands before time, as a 1-D convolution takes it.

        Raises
        ------
        ValueError
            If the bands are not those of the network, or there is no frame.
        """
        return self.steps(log_mel).mean(dim=2)

    def steps(self, log_mel: Float[Tensor, "batch bands time"]) -> Float[Tensor, "batch dim steps"]:
        """The embedding before the mean over time: one vector for about 32 frames."""
        if log_mel.shape[1] != self.bands or log_mel.shape[2] == 0:
            raise ValueError(
                f"log_mel: expected (batch, {self.bands} bands, at least one frame), found {tuple(log_mel.shape)}; "
                "features with time first must be transposed"
            )
        return self.model(log_mel)


def _halving(inputs: int, outputs: int, *, bias: bool) -> nn.Conv1d:
    return nn.Conv1d(inputs, outputs, 3, stride=STRIDE, padding=1, bias=bias)


@torch.no_grad()
def initialise_(module: nn.Module, generator: torch.Generator) -> None:
    r"""PyTorch's default first weights, drawn from an explicit generator.

    Weights and biases of convolutions and linear layers are uniform in :math:`\pm 1/\sqrt{n}` with n the fan-in that PyTorch counts (of a
    transposed convolution: its output channels times the kernel). Normalisation layers keep their ones and zeros.

    Parameters
    ----------
    module
        Its layers are visited in order.
    generator
        Source of the weights.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d):
            bound = 1 / math.sqrt(layer.weight[0].numel())
            for values in (layer.weight, layer.bias):
                if values is not None:
                    values.uniform_(-bound, bound, generator=generator)
