r"""Encoders of pictures for regression: the residual networks of 2015 in their usual form, and small stacks of convolutions.

The residual networks carry torchvision's parameter names, so ImageNet weights that a user has can be loaded; group normalisation is
an option where batches are small or hold several frames of one video.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

# Blocks in each of the four stages, and whether a block is a bottleneck (He et al. 2015, table 1).
RESNETS: dict[int, tuple[tuple[int, int, int, int], bool]] = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
}
STAGE_WIDTHS = (64, 128, 256, 512)
GROUPS = 32  # of group normalisation (Wu and He 2018)
BLOCK_GROUPS = 8  # of the small blocks, whose narrowest layer has 16 channels or fewer; choice of ours


def _norm(kind: str, width: int) -> nn.Module:
    if kind == "batch":
        return nn.BatchNorm2d(width)
    if kind == "group":
        return nn.GroupNorm(min(GROUPS, width), width)
    raise ValueError(f"norm: expected 'batch' or 'group', found {kind!r}")


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, or 1x1 - 3x3 - 1x1 with four times the width at the end, added to the input."""

    def __init__(self, inputs: int, width: int, stride: int, *, bottleneck: bool, norm: str):
        super().__init__()
        outputs = 4 * width if bottleneck else width
        kernels = ((1, 1), (3, stride), (1, 1)) if bottleneck else ((3, stride), (3, 1))
        widths = (inputs, width, width, outputs) if bottleneck else (inputs, width, outputs)
        self.count = len(kernels)
        for index, (kernel, step) in enumerate(kernels, start=1):
            convolution = nn.Conv2d(widths[index - 1], widths[index], kernel, step, kernel // 2, bias=False)
            self.add_module(f"conv{index}", convolution)
            self.add_module(f"bn{index}", _norm(norm, widths[index]))
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), _norm(norm, outputs))

    def forward(self, maps: Float[Tensor, "batch inputs height width"]) -> Float[Tensor, "batch outputs h w"]:
        """Feature maps, half as large where the stride is 2."""
        shortcut = maps if self.downsample is None else self.downsample(maps)
        for index in range(1, self.count + 1):
            maps = getattr(self, f"bn{index}")(getattr(self, f"conv{index}")(maps))
            maps = torch.relu(maps + shortcut if index == self.count else maps)
        return maps


class ResNet(nn.Module):
    """Residual network of He et al. with a linear layer on the mean over places.

    Parameters
    ----------
    depth
        18, 34 or 50.
    outputs
        Numbers to regress.
    norm
        ``"batch"`` (as published) or ``"group"``.
    seed
        Of the first weights: He's normal draw for convolutions, PyTorch's default for the last layer.

    Raises
    ------
    ValueError
        For an unknown depth or normalisation.

    References
    ----------
    He et al. (2015), Deep Residual Learning for Image Recognition, table 1; the bottleneck's stride is on its 3x3 convolution, as in torchvision.
    """

    def __init__(self, depth: int, outputs: int, *, norm: str = "batch", seed: int = 0):
        super().__init__()
        if depth not in RESNETS:
            raise ValueError(f"depth: expected one of {', '.join(map(str, RESNETS))}; found {depth}")
        counts, bottleneck = RESNETS[depth]
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = _norm(norm, 64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inputs = 64
        for stage, (count, width) in enumerate(zip(counts, STAGE_WIDTHS, strict=True)):
            blocks = []
            for block in range(count):
                stride = 2 if stage and not block else 1
                blocks.append(ResidualBlock(inputs, width, stride, bottleneck=bottleneck, norm=norm))
                inputs = 4 * width if bottleneck else width
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(inputs, outputs)
        initialise(self, seed)

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch outputs"]:
        """Regressed numbers of pictures of any size from 32 pixels up."""
        maps = self.maxpool(torch.relu(self.bn1(self.conv1(images))))
        for stage in range(1, 5):
            maps = getattr(self, f"layer{stage}")(maps)
        return self.fc(maps.mean((2, 3)))


class ConvBlock(nn.Sequential):
    """3x3 convolution, group normalisation, SiLU; half as large with a stride of 2."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1):
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.GroupNorm(math.gcd(BLOCK_GROUPS, outputs), outputs),
            nn.SiLU(),
        )


class SmallEncoder(nn.Module):
    """Convolutions that halve the picture each, then one linear layer that sees every place.

    Parameters
    ----------
    inputs, widths
        Channels of the picture and of each layer.
    size
        Height and width of the picture in pixels.
    outputs
        Numbers to regress.
    seed
        Of the first weights.

    Raises
    ------
    ValueError
        If the picture cannot be halved so often.
    """

    def __init__(self, inputs: int, widths: Sequence[int], size: int, outputs: int, *, seed: int = 0):
        super().__init__()
        if size % 2 ** len(widths):
            raise ValueError(f"size: {len(widths)} layers halve the picture, {2 ** len(widths)} must divide {size}")
        channels = (inputs, *widths)
        self.layers = nn.Sequential(*(ConvBlock(a, b, 2) for a, b in zip(channels, widths, strict=False)))
        self.fc = nn.Linear(widths[-1] * (size // 2 ** len(widths)) ** 2, outputs)
        initialise(self, seed)

    def forward(self, images: Float[Tensor, "batch inputs size size"]) -> Float[Tensor, "batch outputs"]:
        """Regressed numbers."""
        return self.fc(self.layers(images).flatten(1))


@torch.no_grad()
def initialise(network: nn.Module, seed: int) -> None:
    """First weights from a seed alone: convolutions by He's normal draw, linear layers by PyTorch's uniform one."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            bound = 1 / math.sqrt(module.in_features)
            module.weight.uniform_(-bound, bound, generator=generator)
            module.bias.uniform_(-bound, bound, generator=generator)
