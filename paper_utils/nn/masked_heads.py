r"""Temporal layers over vectors of H blocks, one a head, in which a head sees only earlier heads of its own frame (paper 04).

Stacked, they model a sequence of H labels a frame autoregressively: over frames by causal convolution, within a frame by a mask over heads.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional


def head_mask(heads: int, *, inclusive: bool) -> Bool[Tensor, "out_heads in_heads"]:
    """Which heads of the same frame a head may read: ``h' < h``, or ``h' <= h`` if `inclusive`."""
    return torch.ones(heads, heads, dtype=torch.bool).tril(0 if inclusive else -1)


class MaskedHeads(nn.Module):
    r"""One layer: masked over the heads of the frame, unmasked over the past and the audio.

    .. math:: y_t[h] = b + \sum_{h' < h} W[h,h']\, x_t[h'] + (A a_t)[h] + (P_1 x_{t-1})[h] + (P_0 x_{t-1-d})[h]

    with x = 0 before the start. The sum runs over :math:`h' \le h` if `inclusive`. Parameter names are those of the released code
    (``masked_linear`` W, ``unmasked_linear`` A, ``historic`` P), so official checkpoints load as they are.

    Parameters
    ----------
    heads, inputs, outputs
        Number of heads; width of a head's block going in and coming out.
    audio
        Width of the audio code.
    dilation
        d. None: a layer without past and without audio; its audio weights exist, as in the released code, and are never used.
    inclusive
        See above.
    """

    def __init__(
        self, heads: int, inputs: int, outputs: int, audio: int, *, dilation: int | None, inclusive: bool
    ) -> None:
        super().__init__()
        self.heads, self.inputs, self.outputs, self.dilation, self.inclusive = (
            heads,
            inputs,
            outputs,
            dilation,
            inclusive,
        )
        self.unmasked_linear = nn.Conv1d(audio, heads * outputs, 1)
        self.masked_linear = nn.Conv1d(heads * inputs, heads * outputs, 1)
        if dilation is not None:
            self.historic = nn.Conv1d(heads * inputs, heads * outputs, 2, dilation=dilation)
        self.register_buffer("allowed", head_mask(heads, inclusive=inclusive), persistent=False)

    def masked_weight(self) -> Float[Tensor, "outputs inputs"]:
        """W with zeros where a head must not look."""
        weight = self.masked_linear.weight
        blocks = weight.view(self.heads, self.outputs, self.heads, self.inputs)
        return (blocks * self.allowed[:, None, :, None]).view(weight.shape[:2])

    def past_weights(self) -> tuple[Float[Tensor, "outputs inputs"], Float[Tensor, "outputs inputs"]]:
        """:math:`P_0`, which reads d + 1 frames back, and :math:`P_1`, which reads the frame before."""
        return self.historic.weight[:, :, 0], self.historic.weight[:, :, 1]

    def audio_part(self, audio: Float[Tensor, "*lead audio"]) -> Float[Tensor, "*lead outputs"]:
        """The audio's share of the output with all three biases."""
        bias = self.unmasked_linear.bias + self.masked_linear.bias + self.historic.bias
        return functional.linear(audio, self.unmasked_linear.weight[:, :, 0], bias)

    def embed(self, labels: Int[Tensor, "batch time heads"]) -> Float[Tensor, "batch time outputs"]:
        """The output for one-hot inputs, given as class numbers: a sum of columns instead of a product with zeros."""
        numbers = labels.long() + torch.arange(self.heads, device=labels.device) * self.inputs
        rows = functional.embedding_bag(numbers.flatten(0, 1), self.masked_weight().T, mode="sum")
        return rows.view(*labels.shape[:2], -1) + self.masked_linear.bias

    def forward(
        self, x: Float[Tensor, "batch time inputs"], audio: Float[Tensor, "batch time audio"] | None = None
    ) -> Float[Tensor, "batch time outputs"]:
        """All frames at once; `audio` is needed by, and only by, layers with a past."""
        if self.dilation is None:
            return functional.linear(x, self.masked_weight(), self.masked_linear.bias)
        padded = functional.pad(x, (0, 0, self.dilation + 1, 0))
        frames = x.shape[1]
        far, near = padded[:, :frames], padded[:, self.dilation : self.dilation + frames]
        old, last = self.past_weights()
        seen = torch.cat([x, near, far], -1)
        return self.audio_part(audio) + functional.linear(seen, torch.cat([self.masked_weight(), last, old], 1))


def dependencies(
    heads: int, dilations: Sequence[int], *, first_inclusive: bool, inclusive: bool, delays: int
) -> tuple[Bool[Tensor, "delay out_head in_head"], Bool[Tensor, "delay out_head"]]:
    r"""What the logits of a head can depend on, by delay in frames: labels, and audio codes. Follows from the masks alone.

    Parameters
    ----------
    heads, dilations
        Of a stack: embedding, one layer with a past for each dilation, logits.
    first_inclusive, inclusive
        Masks of the embedding and of all later layers.
    delays
        Delays 0 to ``delays - 1``.

    Returns
    -------
    tuple
        ``labels[delay, h_out, h_in]`` and ``audio[delay, h_out]``.

    Examples
    --------
    The released stack: head 0 depends on nothing, head 6 on one label of its frame.

    >>> labels, audio = dependencies(8, (1, 2, 4, 8), first_inclusive=False, inclusive=False, delays=24)
    >>> bool(audio[:, 0].any()), labels[0, 6].nonzero().flatten().tolist()
    (False, [0])
    """
    later = head_mask(heads, inclusive=inclusive).float()
    everything = torch.ones(heads, heads)
    labels, audio = torch.zeros(delays, heads, heads), torch.zeros(delays, heads, 1)
    labels[0] = head_mask(heads, inclusive=first_inclusive).float()
    for dilation in dilations:
        labels, audio = (
            later @ reached + everything @ (_delayed(reached, 1) + _delayed(reached, 1 + dilation))
            for reached in (labels, audio)
        )
        audio[0] += 1
        labels, audio = labels.clamp(max=1), audio.clamp(max=1)
    return later @ labels > 0, (later @ audio > 0).squeeze(-1)


def _delayed(reached: Tensor, frames: int) -> Tensor:
    return torch.cat([torch.zeros_like(reached[:frames]), reached])[: len(reached)]
