r"""Face recognition networks that papers 05 and 06 share: SFNet without and with batch normalisation, and IResNet.

Configurations are data: depth, widths, picture size, and which branch of the official OpenSphere code (v0, iclr, main) sets the
initial weights. State dictionaries carry the official names, so released checkpoints load (see `official_weights`).
"""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

Stages = tuple[int, ...]  # four numbers, one a stage

# Residual units in each of the four stages (OpenSphere, all branches). The number in a name counts the convolutions, without the
# 1x1 ones; that of an IResNet counts the linear layer as well.
SFNET_UNITS: dict[int, Stages] = {
    4: (0, 0, 0, 0),
    10: (0, 1, 2, 0),
    20: (1, 2, 4, 1),
    36: (2, 4, 8, 2),
    64: (3, 8, 16, 3),
}
IRESNET_UNITS: dict[int, Stages] = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 14, 3), 100: (3, 13, 30, 3)}
CHANNELS: Stages = (64, 128, 256, 512)  # OpenSphere, both families

# Branches in which a variant of SFNet exists. "v0" is the 2022 code, "iclr" the one published with paper 05, "main" that of 2023.
SFNET_BRANCHES = {"plain": ("v0", "iclr"), "relu_after": ("v0", "main"), "bn": ("v0", "main")}
IRESNET_BRANCHES = ("v0", "main")
VARIANT_SUFFIXES = {"plain": "", "relu_after": "v2", "bn": "bn"}


# -------------------------------------------------------------------------------------------------------- configurations


@dataclass(frozen=True)
class SFNetConfig:
    """An SFNet; the defaults are SFNet-20 as all published SphereFace2 configurations use it.

    Parameters
    ----------
    units
        Residual units in each stage, after the stage's stride-2 convolution.
    channels
        Width of each stage.
    features
        Width of the embedding.
    image_size
        Height and width in pixels, multiples of 16; the last linear layer is sized for it.
    variant
        ``"plain"``: no normalisation, ReLU *before* the sum of a residual unit ("deprecated" in the official code).
        ``"relu_after"``: no normalisation, ReLU after the sum. ``"bn"``: the same with batch normalisation after every
        convolution and on the embedding.
    branch
        Whose initial weights (and, for iclr, whose names): see `SFNet`.
    dropout
        Probability in front of the last linear layer; ``"plain"`` has none.
    zero_init_residual
        Start the last normalisation of each residual unit at 0, so that units begin as the identity; ``"bn"`` only.
    """

    units: Stages = SFNET_UNITS[20]
    channels: Stages = CHANNELS
    features: int = 512  # OpenSphere, all configurations
    image_size: tuple[int, ...] = (112, 112)  # OpenSphere, all configurations
    variant: str = "plain"
    branch: str = "v0"
    dropout: float = 0.0  # OpenSphere's default; no published configuration sets it
    zero_init_residual: bool = False  # OpenSphere's default

    def __post_init__(self) -> None:
        if self.variant not in SFNET_BRANCHES:
            raise ValueError(f"variant: expected one of {', '.join(SFNET_BRANCHES)}; found {self.variant!r}")
        _check_config(self, SFNET_BRANCHES[self.variant], f"an SFNet of variant {self.variant!r}")
        if self.variant == "plain" and self.dropout:
            raise ValueError(
                "dropout: the plain SFNet has no dropout; use variant 'relu_after' or 'bn', or leave it at 0"
            )
        if self.zero_init_residual and self.variant != "bn":
            raise ValueError("zero_init_residual: only variant 'bn' has a normalisation to start at 0")


@dataclass(frozen=True)
class IResNetConfig:
    """An IResNet; the defaults are IResNet-100. Parameters as for `SFNetConfig`; the stem has the width of the first stage."""

    units: Stages = IRESNET_UNITS[100]
    channels: Stages = CHANNELS
    features: int = 512  # OpenSphere, all configurations
    image_size: tuple[int, ...] = (112, 112)  # OpenSphere, all configurations
    branch: str = "v0"
    dropout: float = 0.0  # OpenSphere's default; no published configuration sets it

    def __post_init__(self) -> None:
        _check_config(self, IRESNET_BRANCHES, "an IResNet")


def _check_config(config: SFNetConfig | IResNetConfig, branches: tuple[str, ...], what: str) -> None:
    if config.branch not in branches:
        raise ValueError(
            f"branch: {what} exists in OpenSphere's {' and '.join(branches)}, found {config.branch!r}; choose one of these"
        )
    least_units = 0 if isinstance(config, SFNetConfig) else 1
    for name, values, least in (("units", config.units, least_units), ("channels", config.channels, 1)):
        if len(values) != 4 or min(values) < least:
            raise ValueError(f"{name}: expected four counts of at least {least}, one a stage, found {values}")
    if config.features < 1:
        raise ValueError(f"features: expected the width of the embedding, at least 1, found {config.features}")
    if len(config.image_size) != 2 or any(side < 16 or side % 16 for side in config.image_size):
        raise ValueError(
            f"image_size: expected (height, width) in multiples of 16 pixels (four stages halve it), found {config.image_size}"
        )
    if not 0 <= config.dropout < 1:
        raise ValueError(f"dropout: expected a probability in [0, 1), found {config.dropout}")


def names() -> list[str]:
    """Names that `backbone_config` and `build_backbone` know.

    ``sfnet20``: no normalisation, ReLU before the sum. ``sfnet20v2``: ReLU after the sum. ``sfnet20bn``: that with batch
    normalisation. ``iresnet100``.

    Returns
    -------
    list of str
        19 names.
    """
    sfnets = [f"sfnet{depth}{suffix}" for suffix in VARIANT_SUFFIXES.values() for depth in SFNET_UNITS]
    return sfnets + [f"iresnet{depth}" for depth in IRESNET_UNITS]


def branches(name: str) -> tuple[str, ...]:
    """Branches of the official code in which the network `name` exists, the one built by default first."""
    config = backbone_config(name)
    return SFNET_BRANCHES[config.variant] if isinstance(config, SFNetConfig) else IRESNET_BRANCHES


def backbone_config(name: str, **changes: Any) -> SFNetConfig | IResNetConfig:
    """Configuration of a network by its name.

    Parameters
    ----------
    name
        One of `names`.
    changes
        Fields that shall differ, such as ``channels=(4, 8, 16, 32), features=16, image_size=(64, 64)`` or ``branch="main"``.

    Raises
    ------
    ValueError
        For an unknown name, or fields that do not go together.

    Examples
    --------
    >>> backbone_config("sfnet64", branch="iclr").units
    (3, 8, 16, 3)
    """
    if name not in names():
        raise ValueError(f"name: expected one of {', '.join(names())}; found {name!r}")
    family, depth, suffix = re.fullmatch(r"([a-z]+)(\d+)(\w*)", name).groups()
    if family == "iresnet":
        return IResNetConfig(**{"units": IRESNET_UNITS[int(depth)]} | changes)
    variant = next(variant for variant, end in VARIANT_SUFFIXES.items() if end == suffix)
    return SFNetConfig(**{"units": SFNET_UNITS[int(depth)], "variant": variant} | changes)


def build_backbone(name: str, *, seed: int = 0, device: torch.device | str = "cpu", **changes: Any) -> SFNet | IResNet:
    """The network `name`, freshly initialised.

    Parameters
    ----------
    name, changes
        As for `backbone_config`.
    seed
        Of the initial weights; they are drawn on the CPU, so every device gets the same ones.
    device
        ``"meta"`` gives shapes without memory, to count parameters or to be filled from a checkpoint.

    Raises
    ------
    ValueError
        As for `backbone_config`.

    Examples
    --------
    >>> sum(p.numel() for p in build_backbone("sfnet20", device="meta").parameters())
    24500992
    """
    config = backbone_config(name, **changes)
    kind = SFNet if isinstance(config, SFNetConfig) else IResNet
    return kind(config, seed=seed, device=device)


# --------------------------------------------------------------------------------------------------------------- blocks


def _conv(inputs: int, outputs: int, stride: int = 1, *, size: int = 3, bias: bool = False) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride=stride, padding=size // 2, bias=bias)


class PlainUnit(nn.Module):
    r"""Residual unit of the plain SFNet: :math:`x + \mathrm{ReLU}(W_2 * \mathrm{ReLU}(W_1 * x))`, so what it adds is never negative."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = _conv(width, width, bias=True)
        self.conv2 = _conv(width, width, bias=True)

    def forward(self, maps: Float[Tensor, "batch width h w"]) -> Float[Tensor, "batch width h w"]:
        """Feature maps to feature maps of the same shape."""
        hidden = functional.relu(self.conv1(maps), inplace=True)
        return maps + functional.relu(self.conv2(hidden), inplace=True)


class ReluAfterUnit(nn.Module):
    r"""Residual unit of the newer SFNet: :math:`\mathrm{ReLU}(x + B_2 W_2 * \mathrm{ReLU}(B_1 W_1 * x))`, B identity or batch normalisation."""

    def __init__(self, width: int, *, batch_norm: bool) -> None:
        super().__init__()
        self.conv1 = _conv(width, width, bias=not batch_norm)
        self.bn1 = nn.BatchNorm2d(width) if batch_norm else nn.Identity()
        self.conv2 = _conv(width, width, bias=not batch_norm)
        self.bn2 = nn.BatchNorm2d(width) if batch_norm else nn.Identity()

    def forward(self, maps: Float[Tensor, "batch width h w"]) -> Float[Tensor, "batch width h w"]:
        """Feature maps to feature maps of the same shape."""
        hidden = functional.relu(self.bn1(self.conv1(maps)), inplace=True)
        return functional.relu(self.bn2(self.conv2(hidden)) + maps, inplace=True)


class IResNetUnit(nn.Module):
    r"""Pre-activated unit: BN - conv - BN - PReLU - conv(stride) - BN, plus the input; nothing after the sum.

    A unit with stride 2 projects its input by a 1x1 convolution and BN.
    """

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = _conv(inputs, width)
        self.bn2 = nn.BatchNorm2d(width)
        self.prelu = nn.PReLU(width)
        self.conv2 = _conv(width, width, stride)
        self.bn3 = nn.BatchNorm2d(width)
        self.downsample = (
            nn.Sequential(_conv(inputs, width, stride, size=1), nn.BatchNorm2d(width)) if stride != 1 else nn.Identity()
        )

    def forward(self, maps: Float[Tensor, "batch inputs h w"]) -> Float[Tensor, "batch width h2 w2"]:
        """Feature maps to feature maps, a stride smaller."""
        hidden = self.prelu(self.bn2(self.conv1(self.bn1(maps))))
        return self.bn3(self.conv2(hidden)) + self.downsample(maps)


# -------------------------------------------------------------------------------------------------------------- networks


class SFNet(nn.Module):
    r"""The network family of SphereFace: four stages, each a stride-2 convolution with ReLU and then residual units, and a linear layer.

    Initial weights, by branch of the official code:

    =========== ====== =====================================================================================================
    variant     branch convolutions
    =========== ====== =====================================================================================================
    plain       v0     Xavier normal
    plain       iclr   stage convolutions Xavier normal, those in residual units :math:`N(0, 0.01^2)`
    relu_after  both   Kaiming normal, fan-out
    bn          v0     as relu_after; normalisation of the embedding starts with scale 1
    bn          main   as relu_after; normalisation of the embedding starts with scale 0.1
    =========== ====== =====================================================================================================

    Biases and the linear layer follow PyTorch's default, uniform within :math:`\pm 1/\sqrt{\text{fan-in}}`. The 2017 network had
    PReLU in place of ReLU (from memory, unverified).

    Parameters
    ----------
    config
        See `SFNetConfig`.
    seed, device
        As for `build_backbone`.

    References
    ----------
    Liu et al., "SphereFace: Deep Hypersphere Embedding for Face Recognition" (2017), for the depths; OpenSphere v0, iclr and
    main for everything else. Paper 05 uses the plain SFNet-20 and SFNet-64.
    """

    def __init__(self, config: SFNetConfig | None = None, *, seed: int = 0, device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.config = config = config or SFNetConfig()
        norm = config.variant == "bn"
        with torch.device("meta"):
            # The order of attributes is the order of the official state dictionary.
            self.features = nn.BatchNorm1d(config.features) if norm else nn.Identity()
            widths = (3, *config.channels)
            for stage in range(4):
                stages = self._stage(widths[stage], widths[stage + 1], config.units[stage])
                self.add_module(f"layer{stage + 1}", stages)
            self.dropout = nn.Dropout(config.dropout)
            self.fc = nn.Linear(_flat_width(config), config.features)
        _materialise(self, seed, device)

    def _stage(self, inputs: int, width: int, units: int) -> nn.Sequential:
        config = self.config
        norm = config.variant == "bn"
        # The iclr branch calls the first convolution of a stage "conv", the others "conv1".
        first = OrderedDict({"conv" if config.branch == "iclr" else "conv1": _conv(inputs, width, 2, bias=not norm)})
        if norm:
            first["bn1"] = nn.BatchNorm2d(width)
        first["relu"] = nn.ReLU(inplace=True)
        plain = config.variant == "plain"
        rest = [PlainUnit(width) if plain else ReluAfterUnit(width, batch_norm=norm) for _ in range(units)]
        return nn.Sequential(nn.Sequential(first), *rest)

    def initialise_(self, generator: torch.Generator) -> None:
        """Draw all weights anew, by the table above."""
        config = self.config
        _default_initialise_(self, generator)
        for name, module in self.named_modules():
            if not isinstance(module, nn.Conv2d):
                continue
            if config.variant != "plain":
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
            elif config.branch == "iclr" and not name.endswith(".0.conv"):
                nn.init.normal_(module.weight, 0.0, 0.01, generator=generator)
            else:
                nn.init.xavier_normal_(module.weight, generator=generator)
        if config.variant == "bn":
            nn.init.constant_(self.features.weight, 1.0 if config.branch == "v0" else 0.1)
        if config.zero_init_residual:
            for module in self.modules():
                if isinstance(module, ReluAfterUnit):
                    nn.init.zeros_(module.bn2.weight)

    def forward(self, images: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch features"]:
        """Embeddings of RGB pictures with values in [-1, 1], that is ``(v - 127.5) / 127.5``.

        Raises
        ------
        ValueError
            If the pictures have another shape or number type than the network was built for.
        """
        check_images(images, self.config.image_size)
        maps = self.layer4(self.layer3(self.layer2(self.layer1(images))))
        return self.features(self.fc(self.dropout(maps.flatten(1))))


class IResNet(nn.Module):
    r"""The "improved" residual network of ArcFace: a stride-1 stem, four stages of `IResNetUnit`, BN - dropout - linear - BN.

    No convolution has a bias. Initial weights: convolutions :math:`N(0, 0.1^2)`, PReLU 0.25, linear layer PyTorch's default.
    The normalisation of the embedding starts with scale 1 and stays there in v0 (its bias is trained); in main it starts at 0.1
    and is trained.

    Parameters
    ----------
    config
        See `IResNetConfig`.
    seed, device
        As for `build_backbone`.

    References
    ----------
    OpenSphere v0 and main, after InsightFace. Papers 05 and 06 use IResNet-100 on MS1M.
    """

    def __init__(
        self, config: IResNetConfig | None = None, *, seed: int = 0, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__()
        self.config = config = config or IResNetConfig()
        with torch.device("meta"):
            widths = (config.channels[0], *config.channels)
            self.conv1 = _conv(3, widths[0])
            self.bn1 = nn.BatchNorm2d(widths[0])
            self.prelu = nn.PReLU(widths[0])
            for stage in range(4):
                first = IResNetUnit(widths[stage], widths[stage + 1], stride=2)
                rest = [IResNetUnit(widths[stage + 1], widths[stage + 1], 1) for _ in range(config.units[stage] - 1)]
                self.add_module(f"layer{stage + 1}", nn.Sequential(first, *rest))
            self.bn2 = nn.BatchNorm2d(widths[4])
            self.dropout = nn.Dropout(config.dropout)
            self.fc = nn.Linear(_flat_width(config), config.features)
            self.features = nn.BatchNorm1d(config.features)
        self.features.weight.requires_grad = config.branch != "v0"
        _materialise(self, seed, device)

    def initialise_(self, generator: torch.Generator) -> None:
        """Draw all weights anew, by the rules above."""
        _default_initialise_(self, generator)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0.0, 0.1, generator=generator)
        nn.init.constant_(self.features.weight, 1.0 if self.config.branch == "v0" else 0.1)

    def forward(self, images: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch features"]:
        """Embeddings of RGB pictures with values in [-1, 1], that is ``(v - 127.5) / 127.5``.

        Raises
        ------
        ValueError
            If the pictures have another shape or number type than the network was built for.
        """
        check_images(images, self.config.image_size)
        maps = self.prelu(self.bn1(self.conv1(images)))
        maps = self.bn2(self.layer4(self.layer3(self.layer2(self.layer1(maps)))))
        return self.features(self.fc(self.dropout(maps.flatten(1))))


def _flat_width(config: SFNetConfig | IResNetConfig) -> int:
    height, width = config.image_size
    return config.channels[3] * (height // 16) * (width // 16)


def _materialise(network: SFNet | IResNet, seed: int, device: torch.device | str) -> None:
    """Give a network built on the meta device memory and its initial weights, without touching the global generator."""
    if torch.device(device).type == "meta":
        return
    network.to_empty(device="cpu")
    network.initialise_(torch.Generator().manual_seed(seed))
    network.to(device)


@torch.no_grad()
def _default_initialise_(network: nn.Module, generator: torch.Generator) -> None:
    """PyTorch's own defaults for everything that no rule of a network covers, from an explicit generator."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            bound = 1 / math.sqrt(module.weight[0].numel())
            for parameter in module.parameters(recurse=False):
                parameter.uniform_(-bound, bound, generator=generator)
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_parameters()
        elif isinstance(module, nn.PReLU):
            nn.init.constant_(module.weight, module.init)


def check_images(images: Tensor, image_size: tuple[int, ...]) -> None:
    """Raise unless `images` are a batch of floating-point RGB pictures of the size a network was built for.

    Raises
    ------
    ValueError
        For another number of axes, channels, pixels, or integer values.
    """
    if images.ndim != 4 or tuple(images.shape[1:]) != (3, *image_size):
        raise ValueError(
            f"images: expected shape (batch, 3, {image_size[0]}, {image_size[1]}), found {tuple(images.shape)}; "
            "crop and align the pictures, or build the network with their image_size"
        )
    if not images.is_floating_point():
        raise ValueError(
            f"images: expected floating-point values in [-1, 1], found {images.dtype}; convert by (v - 127.5) / 127.5"
        )


# ------------------------------------------------------------------------------------------------- embeddings of pictures


@torch.no_grad()
def mirror_embeddings(
    network: nn.Module, images: Float[Tensor, "n channel height width"], *, batch_size: int = 256
) -> Float[Tensor, "n 2 features"]:
    """Embeddings of pictures and of their mirror images, as OpenSphere's main branch keeps them.

    Parameters
    ----------
    network
        In evaluation mode.
    images
        Any number; they are moved to the network's device in portions.
    batch_size
        Pictures a portion.

    Returns
    -------
    Float[Tensor, "n 2 features"]
        On the device of `images`; ``[:, 0]`` as given, ``[:, 1]`` mirrored left to right.

    Raises
    ------
    ValueError
        If there is no picture, the batch size is below 1, or the network is in training mode, where batch normalisation would
        make an embedding depend on the other pictures.
    """
    if network.training:
        raise ValueError("network: it is in training mode; call network.eval() before taking embeddings")
    if len(images) == 0 or batch_size < 1:
        raise ValueError(
            f"images, batch_size: expected at least one of each, found {len(images)} pictures in portions of {batch_size}"
        )
    device = next((parameter.device for parameter in network.parameters()), images.device)
    portions = []
    for portion in images.split(batch_size):
        portion = portion.to(device)
        both = torch.stack([network(portion), network(portion.flip(-1))], dim=1)
        portions.append(both.to(images.device))
    return torch.cat(portions)


def embed(
    network: nn.Module,
    images: Float[Tensor, "n channel height width"],
    *,
    fusion: str = "sum",
    batch_size: int = 256,
) -> Float[Tensor, "n features"]:
    r"""Embeddings that do not change when a picture is mirrored: :math:`f(x) + f(\bar x)`.

    Parameters
    ----------
    network, images, batch_size
        As for `mirror_embeddings`.
    fusion
        ``"sum"`` (OpenSphere v0) or ``"mean"`` (iclr). Cosines of the two are the same.

    Returns
    -------
    Float[Tensor, "n features"]
        Not normalised.

    Raises
    ------
    ValueError
        For an unknown fusion, and as `mirror_embeddings`.
    """
    if fusion not in ("sum", "mean"):
        raise ValueError(f"fusion: expected 'sum' or 'mean', found {fusion!r}")
    both = mirror_embeddings(network, images, batch_size=batch_size)
    return both.sum(1) if fusion == "sum" else both.mean(1)
