r"""What a lip reader sees and the network that sees it: the crop of the mouth, and the trunk of a published lip reader.

The trunk is that of "Visual Speech Recognition for Multiple Languages" (Ma et al. 2022): one convolution over space and time, then a
residual network on each frame. EMOTE and SPECTRE compare its features, 512 numbers a frame, of two videos.
"""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from paper_utils.nn.checkpoint_names import load_strictly, read_state, renamed
from paper_utils.nn.image_encoders import RESNETS, STAGE_WIDTHS, ResidualBlock
from paper_utils.nn.temporal import seeded

MOUTH = slice(48, 68)  # of the 68 landmarks
SMOOTHING = 12  # frames of the moving average of landmarks; published code
CROP, CENTRE = 96, 88  # pixels a side of the crop and of its middle that is read; published code
GREY_MEAN, GREY_SD = 0.421, 0.165  # published code
LUMA = (0.2989, 0.587, 0.114)  # red, green and blue in grey, ITU-R 601
# Where the trunk stands in the published checkpoint (ESPnet): the lip reader's encoder has it as its front end.
PREFIX = "encoder.frontend"


def mouth_centres(
    landmarks: Float[Tensor, "clips time 68 2"], *, smoothing: int = SMOOTHING
) -> Float[Tensor, "clips time 2"]:
    r"""Middle of the mouth in each frame, steadied over time but not held back when the whole face moves.

    .. math:: c_t = \frac{1}{20} \sum_{i = 48}^{67} \bar l_{t,i} + \frac{1}{68} \sum_j (l_{t,j} - \bar l_{t,j}), \qquad
        \bar l_t = \frac1n \sum_{k=-n/2}^{n/2-1} l_{t+k}

    Frames beyond the ends count as the first and the last.

    Parameters
    ----------
    landmarks
        The usual 68 points, any unit.
    smoothing
        :math:`n`, even.

    Raises
    ------
    ValueError
        If the window is odd.

    References
    ----------
    Published code of SPECTRE and EMOTE.
    """
    if smoothing < 2 or smoothing % 2:
        raise ValueError(f"smoothing: expected an even number of frames, found {smoothing}")
    half = smoothing // 2
    flat = landmarks.flatten(2).transpose(1, 2)
    padded = functional.pad(flat, (half, half - 1), mode="replicate")
    smooth = padded.unfold(-1, smoothing, 1).mean(-1).transpose(1, 2).unflatten(2, (68, 2))
    return smooth[:, :, MOUTH].mean(2) + (landmarks - smooth).mean(2)


def mouth_crop(
    images: Float[Tensor, "clips time 1 height width"],
    landmarks: Float[Tensor, "clips time 68 2"],
    *,
    size: int = CROP,
    smoothing: int = SMOOTHING,
) -> Float[Tensor, "clips time 1 size size"]:
    """Square pictures of the mouth; gradients reach the pixels, not the place of the crop.

    As published, `size` samples span `size` pixels end to end, so neighbours lie ``size / (size - 1)`` pixels apart.

    Parameters
    ----------
    images
        Grey pictures, see `grey`.
    landmarks
        The usual 68 points, column and row, -1 and 1 at the borders of the picture.
    size
        Pixels a side, even.
    smoothing
        See `mouth_centres`.

    References
    ----------
    Published code of SPECTRE and EMOTE: bicubic, corners aligned, black outside.
    """
    clips, frames, _, height, width = images.shape
    centres = mouth_centres(landmarks.detach(), smoothing=smoothing)
    offsets = torch.linspace(-(size // 2), size // 2, size, dtype=images.dtype, device=images.device)
    column = centres[..., 0, None] + offsets / (width / 2)
    row = centres[..., 1, None] + offsets / (height / 2)
    grid = torch.stack(torch.broadcast_tensors(column[..., None, :], row[..., :, None]), dim=-1).flatten(0, 1)
    crops = functional.grid_sample(
        images.flatten(0, 1), grid.to(images), mode="bicubic", padding_mode="zeros", align_corners=True
    )
    return crops.unflatten(0, (clips, frames))


def grey(images: Float[Tensor, "clips time 3 height width"]) -> Float[Tensor, "clips time 1 height width"]:
    """Colour to grey with the weights of ITU-R 601."""
    return (images * images.new_tensor(LUMA)[:, None, None]).sum(2, keepdim=True)


class _TrunkBlock(ResidualBlock):
    """A residual block with the lip reader's activations."""

    def __init__(self, inputs: int, width: int, stride: int, activation: str) -> None:
        super().__init__(inputs, width, stride, bottleneck=False, norm="batch")
        self.relu1, self.relu2 = _activation(activation, width), _activation(activation, width)

    def forward(self, maps: Float[Tensor, "batch inputs height width"]) -> Float[Tensor, "batch outputs h w"]:
        shortcut = maps if self.downsample is None else self.downsample(maps)
        maps = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(maps)))))
        return self.relu2(maps + shortcut)


def _activation(kind: str, width: int) -> nn.Module:
    if kind == "swish":
        return nn.SiLU()
    if kind == "prelu":
        return nn.PReLU(width)
    raise ValueError(f"activation: expected 'swish' or 'prelu', found {kind!r}")


class LipReadingTrunk(nn.Module):
    """Mouth crops to one vector a frame.

    Parameters
    ----------
    activation
        ``"swish"`` or ``"prelu"``, by the release.
    seed
        Of the first weights.

    Examples
    --------
    >>> trunk = LipReadingTrunk(seed=0).eval()
    >>> trunk(torch.zeros(1, 3, 1, 96, 96)).shape
    torch.Size([1, 3, 512])
    """

    dim = STAGE_WIDTHS[-1]

    def __init__(self, activation: str = "swish", *, seed: int) -> None:
        super().__init__()
        width = STAGE_WIDTHS[0]
        with seeded(seed):
            self.frontend3D = nn.Sequential(
                nn.Conv3d(1, width, (5, 7, 7), (1, 2, 2), (2, 3, 3), bias=False),
                nn.BatchNorm3d(width),
                nn.SiLU() if activation == "swish" else _activation(activation, width),
                nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
            )
            self.trunk = nn.Module()
            for stage, (count, outputs) in enumerate(zip(RESNETS[18][0], STAGE_WIDTHS, strict=True)):
                blocks = [_TrunkBlock(width, outputs, 2 if stage else 1, activation)]
                blocks += [_TrunkBlock(outputs, outputs, 1, activation) for _ in range(count - 1)]
                self.trunk.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
                width = outputs

    def forward(self, crops: Float[Tensor, "clips time 1 size size"]) -> Float[Tensor, "clips time features"]:
        """Features of grey crops in [0, 1], 96 pixels a side; their middle 88 are read.

        Raises
        ------
        ValueError
            If the crops are smaller than that.
        """
        size = crops.shape[-1]
        if size < CENTRE:
            raise ValueError(f"crops: expected at least {CENTRE} pixels a side, found {size}")
        edge = round((size - CENTRE) / 2)
        middle = crops[..., edge : edge + CENTRE, edge : edge + CENTRE]
        maps = self.frontend3D(((middle - GREY_MEAN) / GREY_SD).transpose(1, 2)).transpose(1, 2)
        clips = maps.shape[0]
        maps = maps.flatten(0, 1)
        for stage in range(1, 5):
            maps = getattr(self.trunk, f"layer{stage}")(maps)
        return maps.mean((2, 3)).unflatten(0, (clips, -1))


def load_lip_reading_trunk(path: str | Path) -> LipReadingTrunk:
    """The frozen trunk from the published checkpoint of the lip reader; encoder, decoder and CTC layer behind it are left out.

    Raises
    ------
    FileNotFoundError, CheckpointNamesError
        If the file is missing or holds something else.
    """
    state = {name.removeprefix("model."): value for name, value in read_state(path).items()}
    outside = sorted({".".join(n.split(".")[:2]) for n in state if not n.startswith(f"{PREFIX}.") and "." in n})
    own = renamed(state, {PREFIX: ""}, drop=outside, source=str(path))
    trunk = LipReadingTrunk("prelu" if any(name.endswith("relu1.weight") for name in own) else "swish", seed=0)
    load_strictly(trunk, own, str(path))
    return trunk.eval().requires_grad_(False)
