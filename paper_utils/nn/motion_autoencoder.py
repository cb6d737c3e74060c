r"""TalkSHOW's one-dimensional convolutional encoder and decoder of motion, four frames a code, and the autoencoder behind its Fréchet distance.

The same encoder and decoder stand on both sides of TalkSHOW's quantizers. Names of parameters are the official ones, so an official state
loads as it is. Shapes are (batch, channel, time), as convolutions take them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from paper_utils import training

FRAMES_A_CODE = 4
LEAK = 0.2  # slope of the leaky rectifiers (released code)


class ConvNormReLU(nn.Module):
    """Convolution of three frames, batch norm, leaky rectifier."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, 3, padding=1)
        self.norm = nn.BatchNorm1d(outputs)

    def forward(self, x: Float[Tensor, "batch inputs time"]) -> Float[Tensor, "batch outputs time"]:
        """Same number of frames."""
        return F.leaky_relu(self.norm(self.conv(x)), LEAK)


class ResidualStack(nn.Module):
    r"""Several `ConvNormReLU`, one more convolution, and the input added: :math:`\max(0, x + B(C(\ldots x)))`."""

    def __init__(self, channels: int, layers: int) -> None:
        super().__init__()
        self._layers = nn.ModuleList([ConvNormReLU(channels, channels) for _ in range(layers)])
        self.conv = nn.Conv1d(channels, channels, 3, padding=1)
        self.norm = nn.BatchNorm1d(channels)

    def forward(self, x: Float[Tensor, "batch channels time"]) -> Float[Tensor, "batch channels time"]:
        """Same shape; the last rectifier is not leaky."""
        y = x
        for layer in self._layers:
            y = layer(y)
        return F.relu(x + self.norm(self.conv(y)))


class HalfRate(nn.Module):
    """Convolution over four frames with stride two, and a second one beside it as the shortcut; floor(time / 2) frames."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.residual_layer = nn.Conv1d(inputs, outputs, 4, stride=2, padding=1)
        self.conv = nn.Conv1d(inputs, outputs, 4, stride=2, padding=1)
        self.norm = nn.BatchNorm1d(outputs)

    def forward(self, x: Float[Tensor, "batch inputs time"]) -> Float[Tensor, "batch outputs half"]:
        """Half as many frames."""
        return F.leaky_relu(self.norm(self.conv(x)) + self.residual_layer(x), LEAK)


class DoubleRate(nn.Module):
    """`HalfRate` turned round: transposed convolutions; 2 time frames."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.residual_layer = nn.ConvTranspose1d(inputs, outputs, 4, stride=2, padding=1)
        self.conv = nn.ConvTranspose1d(inputs, outputs, 4, stride=2, padding=1)
        self.norm = nn.BatchNorm1d(outputs)

    def forward(self, x: Float[Tensor, "batch inputs time"]) -> Float[Tensor, "batch outputs double"]:
        """Twice as many frames."""
        return F.leaky_relu(self.norm(self.conv(x)) + self.residual_layer(x), LEAK)


@dataclass(frozen=True)
class MotionCodec:
    """Sizes of an encoder and a decoder.

    Parameters
    ----------
    channels
        Numbers a frame: 39 body, 90 hands, or 129 both.
    width
        Channels of the innermost level; the outer ones have a half and a quarter of them.
    features
        Numbers a code.
    residual_layers
        Layers in every `ResidualStack`.

    Raises
    ------
    ValueError
        If a number is below one, or the width is not a multiple of four.
    """

    channels: int = 129  # body and hands (released code)
    width: int = 1024  # released code
    features: int = 64  # released code
    residual_layers: int = 2  # released code

    def __post_init__(self) -> None:
        if min(self.channels, self.width, self.features, self.residual_layers) < 1 or self.width % 4:
            raise ValueError(f"motion codec: expected sizes of at least 1 and a width that 4 divides, found {self}")

    def frames(self, time: int) -> int:
        """How many frames come back of `time` frames: the last ``time % 4`` are lost."""
        return FRAMES_A_CODE * self.codes(time)

    def codes(self, time: int) -> int:
        """How many codes `time` frames have: floor(floor(time / 2) / 2)."""
        return time // 2 // 2


class MotionEncoder(nn.Module):
    """Frames to features at a quarter of the rate; feature r sees frames 4r - 25 to 4r + 28 at two residual layers."""

    def __init__(self, codec: MotionCodec) -> None:
        super().__init__()
        self.codec, quarter, half, full = codec, codec.width // 4, codec.width // 2, codec.width
        layers = codec.residual_layers
        self.project = ConvNormReLU(codec.channels, quarter)
        self._enc_1 = ResidualStack(quarter, layers)
        self._down_1 = HalfRate(quarter, half)
        self._enc_2 = ResidualStack(half, layers)
        self._down_2 = HalfRate(half, full)
        self._enc_3 = ResidualStack(full, layers)
        self.pre_vq_conv = nn.Conv1d(full, codec.features, 1)

    def forward(self, motion: Float[Tensor, "batch channels time"]) -> Float[Tensor, "batch features codes"]:
        """One feature vector for every four frames.

        Raises
        ------
        ValueError
            If there are fewer frames than one code needs, or not the codec's channels.
        """
        if motion.shape[1] != self.codec.channels or motion.shape[2] < FRAMES_A_CODE:
            raise ValueError(
                f"motion: expected (batch, {self.codec.channels}, time >= {FRAMES_A_CODE}), found {tuple(motion.shape)}; "
                f"a code stands for {FRAMES_A_CODE} frames"
            )
        y = self._enc_1(self.project(motion))
        y = self._enc_2(self._down_1(y))
        return self.pre_vq_conv(self._enc_3(self._down_2(y)))


class MotionDecoder(nn.Module):
    """Features back to frames, four for each."""

    def __init__(self, codec: MotionCodec) -> None:
        super().__init__()
        quarter, half, full, layers = codec.width // 4, codec.width // 2, codec.width, codec.residual_layers
        self.aft_vq_conv = nn.Conv1d(codec.features, full, 1)
        self._dec_1 = ResidualStack(full, layers)
        self._up_2 = DoubleRate(full, half)
        self._dec_2 = ResidualStack(half, layers)
        self._up_3 = DoubleRate(half, quarter)
        self._dec_3 = ResidualStack(quarter, layers)
        self.project = nn.Conv1d(quarter, codec.channels, 1)

    def forward(self, features: Float[Tensor, "batch features codes"]) -> Float[Tensor, "batch channels time"]:
        """Four frames for each code."""
        y = self._dec_1(self.aft_vq_conv(features))
        y = self._dec_2(self._up_2(y))
        return self.project(self._dec_3(self._up_3(y)))


class MotionAutoencoder(nn.Module):
    """The network whose features TalkSHOW's Fréchet gesture distance compares: encoder and decoder without a quantizer."""

    def __init__(self, codec: MotionCodec = MotionCodec()) -> None:
        super().__init__()
        self.codec = codec
        self.encoder = MotionEncoder(codec)
        self.decoder = MotionDecoder(codec)

    def forward(
        self, motion: Float[Tensor, "batch time channels"]
    ) -> tuple[Float[Tensor, "batch codes features"], Float[Tensor, "batch channels kept"]]:
        """Features and reconstruction, in the official layouts (time before and after the channels).

        Parameters
        ----------
        motion
            Frames of axis-angle numbers in radians, not normalised.
        """
        features = self.encoder(motion.transpose(1, 2))
        return features.transpose(1, 2), self.decoder(features)


def reconstruction_loss(
    reconstructed: Float[Tensor, "batch time channels"], motion: Float[Tensor, "batch time channels"]
) -> Float[Tensor, ""]:
    r"""Absolute error of frames and of their differences, equally weighted (TalkSHOW, released code of the autoencoders).

    .. math:: L = \operatorname{mean}|\hat x - x| + \operatorname{mean}|(\hat x_{t+1} - \hat x_t) - (x_{t+1} - x_t)|

    Parameters
    ----------
    reconstructed, motion
        Of one shape, at least two frames.
    """
    return F.l1_loss(reconstructed, motion) + F.l1_loss(reconstructed.diff(dim=1), motion.diff(dim=1))


@dataclass(frozen=True)
class AutoencoderTraining:
    """How `train_autoencoder` trains. The defaults are for small networks on the CPU; the released ones stand beside them.

    Parameters
    ----------
    steps, batch_size, learning_rate
        Adam, learning rate falling to zero along a half cosine.
    window
        Frames of a training window, a multiple of four.
    """

    steps: int = 300  # choice of ours; released: 100 epochs
    batch_size: int = 32  # choice of ours; released: 128
    learning_rate: float = 4e-3  # choice of ours for small widths; released: 1e-4, constant
    window: int = 88  # released code

    def __post_init__(self) -> None:
        if min(self.steps, self.batch_size) < 1 or not self.learning_rate > 0:
            raise ValueError(f"autoencoder training: expected positive numbers, found {self}")
        if self.window < FRAMES_A_CODE or self.window % FRAMES_A_CODE:
            raise ValueError(f"window: expected a positive multiple of {FRAMES_A_CODE} frames, found {self.window}")


def train_autoencoder(
    motion: Float[Tensor, "clips time channels"],
    codec: MotionCodec,
    config: AutoencoderTraining = AutoencoderTraining(),
    *,
    seed: int = 0,
    device: str = "cpu",
) -> tuple[MotionAutoencoder, Float[np.ndarray, " steps"]]:
    """Train the network of a Fréchet distance; returns it in evaluation mode, and the loss of each step.

    Train it on real motion that is not compared later: the distance then speaks about motion, not about what the network has seen.

    Parameters
    ----------
    motion
        Real training motion, clips of equal length.
    codec
        Sizes; its channels must be those of the motion.
    config
        How to train.
    seed
        Of initial weights, order and windows.
    device
        See `devices.choose_device`.

    Raises
    ------
    ValueError
        If clips are shorter than a window, have other channels, or hold NaN.
    """
    clips, time, channels = motion.shape
    if channels != codec.channels or time < config.window or clips < 1:
        raise ValueError(
            f"motion: expected (clips, time >= {config.window}, {codec.channels}), found {tuple(motion.shape)}; "
            "shorten AutoencoderTraining.window for shorter clips"
        )
    if not torch.isfinite(motion).all():
        raise ValueError(
            f"motion: {int((~torch.isfinite(motion)).sum())} of {motion.numel()} numbers are NaN or infinite"
        )
    fabric = training.launch(device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = MotionAutoencoder(codec)
    optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    run = training.Run(fabric, {"network": network}, optimizer, steps=config.steps, schedule=schedule)
    offsets = torch.arange(config.window)
    for step in run:
        rows = training.batch_indices(clips, config.batch_size, step, seed=seed)
        starts = np.random.default_rng([seed, step]).integers(time - config.window + 1, size=len(rows))
        batch = motion[rows[:, None], torch.from_numpy(starts)[:, None] + offsets].to(fabric.device)
        _, reconstructed = run.modules["network"](batch)
        run.update(reconstruction_loss(reconstructed.transpose(1, 2), batch))
    return network.eval(), run.history["loss"]
