r"""Layers along time: transformers that know distance by a bias on their attention, change of frame rate, stacking of frames.

No layer has a fixed table of positions, so any length works. Parameter names of the transformer are those of PyTorch's own.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from paper_utils.nn import whole_batch


def alibi_slopes(heads: int) -> Float[Tensor, " heads"]:
    r"""How steeply the attention of each head falls with distance.

    .. math:: m_h = 2^{-8h/H}, \quad h = 1 \ldots H

    for H a power of two. Otherwise the slopes of the lower power of two, followed by every second slope of the next one.

    Parameters
    ----------
    heads
        :math:`H`, at least 1.

    Raises
    ------
    ValueError
        For fewer than one head.

    References
    ----------
    ALiBi (Press et al. 2022), section 3.

    Examples
    --------
    >>> alibi_slopes(3).tolist()
    [0.0625, 0.00390625, 0.25]
    """
    if heads < 1:
        raise ValueError(f"heads: expected at least 1, found {heads}")

    def geometric(count: int) -> Tensor:
        return 2.0 ** (-8.0 / count * torch.arange(1, count + 1, dtype=torch.float64))

    lower = 2 ** int(math.log2(heads))
    return torch.cat([geometric(lower), geometric(2 * lower)[0::2][: heads - lower]])


def attention_bias(
    heads: int, frames: int, *, period: int = 1, causal: bool = False, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "heads frames frames"]:
    r"""What is added to the attention logits of frame t (rows) towards frame s (columns).

    .. math:: b_h(t, s) = -m_h \left\lfloor \frac{|t - s|}{p} \right\rfloor

    Parameters
    ----------
    heads, frames
        Number of heads and length.
    period
        :math:`p`: 1 is ALiBi; FaceFormer and EMOTE count periods of 30 frames, so all frames nearer than that are equal.
    causal
        Frames after t get :math:`-\infty`.
    dtype
        Of the result.

    Raises
    ------
    ValueError
        If a number is below 1.
    """
    if frames < 1 or period < 1:
        raise ValueError(
            f"attention_bias: expected at least one frame and a period from 1 up, found {frames}, {period}"
        )
    time = torch.arange(frames)
    steps = time[:, None] - time
    bias = -alibi_slopes(heads)[:, None, None] * torch.div(steps.abs(), period, rounding_mode="floor")
    if causal:
        bias = bias.masked_fill(steps < 0, -torch.inf)
    return bias.to(dtype)


class _BiasedLayer(nn.TransformerEncoderLayer):
    """PyTorch's layer with an attention bias for each head.

    PyTorch's own `forward` takes a fused path in evaluation mode that reads a bias of numbers as a mask of yes and no (seen in 2.13); this one
    gives the same in training and evaluation, and one bias serves the whole batch.
    """

    def forward(
        self, sequence: Float[Tensor, "batch time dim"], bias: Float[Tensor, "heads time time"] | None
    ) -> Float[Tensor, "batch time dim"]:
        """Attention, then the feed-forward part; each is added and normalised."""
        attention = self.self_attn
        parts = functional.linear(sequence, attention.in_proj_weight, attention.in_proj_bias)
        query, key, value = parts.unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
        dropped = attention.dropout if self.training else 0.0
        if dropped and whole_batch.sharing() > 1:  # the same, with chances drawn for the batch of all processes
            scores = query @ key.mT / query.shape[-1] ** 0.5 + (0 if bias is None else bias)
            seen = whole_batch.dropout(scores.softmax(-1), dropped, training=True) @ value
        else:
            seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=dropped)
        hidden = self.norm1(sequence + self.dropout1(attention.out_proj(seen.transpose(1, 2).flatten(2))))
        return self.norm2(hidden + self.dropout2(self.linear2(self.dropout(self.activation(self.linear1(hidden))))))


class BiasedTransformer(nn.Module):
    r"""Transformer encoder with GELU and normalisation after each part, whose only sense of time is `attention_bias`.

    Parameters
    ----------
    dim, heads, hidden
        Width, attention heads (they must divide the width), width of the feed-forward part.
    layers
        Number of layers.
    dropout
        Share of values dropped in training.
    period
        Of the bias; ``None``: no bias, so the layer does not know the order of the frames.

    Raises
    ------
    ValueError
        If the heads do not divide the width.

    Examples
    --------
    >>> BiasedTransformer(16, heads=4, hidden=32)(torch.zeros(2, 10, 16)).shape
    torch.Size([2, 10, 16])
    """

    def __init__(
        self, dim: int, *, heads: int, hidden: int, layers: int = 1, dropout: float = 0.0, period: int | None = 1
    ) -> None:
        super().__init__()
        if heads < 1 or dim % heads:
            raise ValueError(f"heads: {heads} heads do not divide a width of {dim}")
        self.layers = nn.ModuleList(
            _BiasedLayer(dim, heads, hidden, dropout, activation=functional.gelu, batch_first=True)
            for _ in range(layers)
        )
        self.heads, self.period = heads, period
        self._known: tuple[int | None, Tensor] = (None, torch.empty(0, 0))

    def forward(self, sequence: Float[Tensor, "batch time dim"]) -> Float[Tensor, "batch time dim"]:
        """Every frame sees every frame."""
        bias = None if self.period is None else self._bias(sequence)
        for layer in self.layers:
            sequence = layer(sequence, bias)
        return sequence

    def _bias(self, sequence: Tensor) -> Tensor:
        """The bias of the last length is kept, as a training uses one length."""
        frames, (period, bias) = sequence.shape[1], self._known
        if period != self.period or bias.shape[-1] != frames:
            bias = attention_bias(self.heads, frames, period=self.period)
        self._known = (self.period, bias.to(sequence))
        return self._known[1]


def resample_time(
    features: Float[Tensor, "batch time channels"],
    frames: int | None = None,
    *,
    rate: float = 50.0,
    target: float = 25.0,
) -> Float[Tensor, "batch frames channels"]:
    r"""Another number of frames by linear interpolation; the first frame stays the first and the last the last.

    Parameters
    ----------
    features
        Frames at `rate`.
    frames
        How many are wanted; by default :math:`\lceil T r' / r \rceil`.
    rate, target
        :math:`r` and :math:`r'`, frames a second: 50 is wav2vec 2.0, 25 is video.

    Raises
    ------
    ValueError
        If no frame is there or wanted.
    """
    count = features.shape[1]
    wanted = math.ceil(count / float(rate) * target) if frames is None else frames
    if count < 1 or wanted < 1:
        raise ValueError(f"resample_time: expected at least one frame, found {count} and {wanted} wanted")
    if wanted == count:
        return features
    return functional.interpolate(features.transpose(1, 2), size=wanted, mode="linear", align_corners=True).transpose(
        1, 2
    )


def stack_frames(features: Float[Tensor, "batch time channels"], count: int) -> Float[Tensor, "batch groups stacked"]:
    """Groups of `count` consecutive frames side by side in one vector; zeros fill the last group.

    Examples
    --------
    >>> stack_frames(torch.arange(1.0, 4.0).view(1, 3, 1), 2).tolist()
    [[[1.0, 2.0], [3.0, 0.0]]]
    """
    if count < 1:
        raise ValueError(f"stack_frames: expected groups of at least one frame, found {count}")
    batch, frames, channels = features.shape
    padded = functional.pad(features, (0, 0, 0, -frames % count))
    return padded.reshape(batch, -1, count * channels)


def periodic_positions(frames: int, dim: int, period: int) -> Float[Tensor, "frames dim"]:
    r"""Sinusoidal positions that start anew every `period` frames.

    .. math:: p_{t, 2i} = \sin\left((t \bmod p)\, 10000^{-2i/d}\right), \qquad p_{t, 2i+1} = \cos(\ldots)

    Parameters
    ----------
    frames, dim
        Length and width; the width must be even.
    period
        :math:`p` in frames.

    Raises
    ------
    ValueError
        If the width is odd or a number is below 1.

    References
    ----------
    FaceFormer (Fan et al. 2022), periodic positional encoding.
    """
    if min(frames, dim, period) < 1 or dim % 2:
        raise ValueError(
            f"periodic_positions: expected an even width and positive numbers, found {frames}, {dim} and {period}"
        )
    time = torch.arange(frames) % period
    angle = time[:, None] * 10000.0 ** (-torch.arange(0, dim, 2) / dim)
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """A context in which PyTorch's own first weights come from `seed`, and after which its global generator is as before.

    Examples
    --------
    >>> with seeded(0):
    ...     one = nn.Linear(2, 2)
    >>> with seeded(0):
    ...     same = nn.Linear(2, 2)
    >>> torch.equal(one.weight, same.weight)
    True
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
