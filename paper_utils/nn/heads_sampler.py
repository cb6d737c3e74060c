r"""Draws labels from a stack of `masked_heads` layers one frame after the other, exactly, at a cost that does not grow with time.

A frame needs, of each layer, the last d + 1 inputs and nothing else. What does not depend on the frame's own labels is computed before
them: the audio's share, and the past's, whose older half for d + 1 frames at once. Then each head needs only its own rows of the masked product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from paper_utils.nn.categorical import draw_uniforms, gumbel_noise
from paper_utils.nn.masked_heads import MaskedHeads

# Frames whose audio is projected together: enough for the product to be fast, little to keep. Choice of ours.
AUDIO_BLOCK = 64

Generators = torch.Generator | Sequence[torch.Generator]


class HeadsSampler:
    r"""Samples of :math:`\prod_t \prod_h p(c_{t,h} \mid c_{<t}, c_{t,<h}, a_{\le t})`, label for label those of drawing head after head with
    the whole network, and linear in the number of frames.

    With n labels of a frame known, a strict mask makes layer k complete up to head n + k: after the embedding, each strict layer adds one head.
    The logits of n to n + r are then ready together, r being the number of strict layers after the embedding: six heads at a time for the
    released network (:math:`r = 5`), one for the corrected (:math:`r = 0`).

    Several sequences share the reading of the weights, which is what a frame costs.

    Parameters
    ----------
    network
        With layers ``embedding``, ``context_layers`` and ``logits``, all `MaskedHeads`, and the ``slope`` of its leaky ReLU, as
        `meshtalk_networks.ContextModel`. The weights are copied; make another sampler after training on.
    batch
        Sequences that are drawn side by side.

    Examples
    --------
    >>> from paper_utils.nn.meshtalk_networks import ContextModel, quick_sizes
    >>> model = ContextModel(quick_sizes(90), seed=0)
    >>> sampler = HeadsSampler(model)
    >>> codes = torch.zeros(1, 5, 48)
    >>> whole = sampler.step(codes)
    >>> sampler.reset()
    >>> torch.equal(torch.cat([sampler.step(codes[:, :2]), sampler.step(codes[:, 2:])], 1), whole)
    True
    """

    @torch.no_grad()
    def __init__(self, network: nn.Module, batch: int = 1) -> None:
        embedding, layers, logits = network.embedding, list(network.context_layers), network.logits
        if batch < 1:
            raise ValueError(f"batch: expected at least one sequence, found {batch}")
        if embedding.inclusive:
            raise ValueError(
                "network: the embedding's mask must be strict, or a label would have to be known before it is drawn"
            )
        self.batch, self.heads, self.classes, self.slope = batch, embedding.heads, embedding.inputs, network.slope
        self.audio_width = layers[0].unmasked_linear.in_channels
        self._audio = [(_copy(layer.unmasked_linear.weight[:, :, 0]), _biases(layer)) for layer in layers]
        self._old, self._last = (
            [_copy(layer.past_weights()[index]) for layer in layers] for index in (0, 1)
        )  # P_0 and P_1 of every layer
        self._table = _copy(embedding.masked_weight().T)  # one row a head and class
        self._start = embedding.masked_linear.bias.detach().clone()
        self._waves, self._rest = _waves(layers, logits)
        self._rings = [
            torch.zeros(layer.dilation + 1, batch, layer.heads * layer.inputs).to(self._table) for layer in layers
        ]
        self._top = torch.zeros(batch, logits.heads * logits.inputs).to(self._table)
        self._first_rows = torch.arange(self.heads, device=self._table.device) * self.classes
        self.reset()

    def reset(self) -> None:
        """Forget the past: the next frame is the first of new sequences."""
        self.frame = 0
        for ring in self._rings:
            ring.zero_()
        self._far = [torch.zeros_like(ring) for ring in self._rings]  # P_0's share of the next d + 1 frames

    @torch.no_grad()
    def step(
        self,
        audio: Float[Tensor, "batch frames audio"],
        *,
        uniforms: Float[Tensor, "batch frames heads classes"] | None = None,
        generator: Generators | None = None,
    ) -> Int[Tensor, "batch frames heads"]:
        """Labels of the next frames, one or many; how they are cut into calls does not change them.

        Parameters
        ----------
        audio
            Audio codes of these frames.
        uniforms
            Noise to draw with, see `gumbel_noise`.
        generator
            Draws the noise, a frame at a time; one for all sequences, or one each, so that a sequence does not depend on its neighbours.
            Without `uniforms` and `generator` the most probable label is taken.

        Raises
        ------
        ValueError
            If shapes do not fit the sampler, the audio is not finite, or both kinds of noise are given.
        """
        self._check(audio, uniforms, generator)
        drawn = torch.empty(*audio.shape[:2], self.heads, dtype=torch.long, device=self._table.device)
        for begin in range(0, audio.shape[1], AUDIO_BLOCK):
            block = audio[:, begin : begin + AUDIO_BLOCK].transpose(0, 1).to(self._table)
            shares = [functional.linear(block, weight, bias) for weight, bias in self._audio]
            for index in range(len(block)):
                at = begin + index
                noise = self._noise(None if uniforms is None else uniforms[:, at], generator)
                self._frame([share[index] for share in shares], noise, drawn[:, at])
        return drawn

    def _check(self, audio: Tensor, uniforms: Tensor | None, generator: Generators | None) -> None:
        if audio.ndim != 3 or audio.shape[0] != self.batch or audio.shape[2] != self.audio_width:
            raise ValueError(
                f"audio: expected codes ({self.batch}, frames, {self.audio_width}) for this sampler, found {tuple(audio.shape)}"
            )
        if not torch.isfinite(audio).all():
            raise ValueError("audio: codes hold NaN or infinite values; look at the recording and the audio encoder")
        wanted = (*audio.shape[:2], self.heads, self.classes)
        if uniforms is not None and uniforms.shape != wanted:
            raise ValueError(f"uniforms: expected {wanted}, found {tuple(uniforms.shape)}")
        if uniforms is not None and generator is not None:
            raise ValueError("uniforms and generator: give one of them, the noise can come from one place only")
        if generator is not None and not isinstance(generator, torch.Generator) and len(generator) != self.batch:
            raise ValueError(
                f"generator: expected one, or one for each of {self.batch} sequences, found {len(generator)}"
            )

    def _noise(self, uniforms: Tensor | None, generator: Generators | None) -> Tensor | None:
        """Gumbel noise of one frame, (batch, heads, classes)."""
        if uniforms is None and generator is None:
            return None
        if uniforms is None and isinstance(generator, torch.Generator):
            uniforms = draw_uniforms((self.batch, self.heads, self.classes), generator, self._table)
        elif uniforms is None:
            uniforms = torch.stack([draw_uniforms((self.heads, self.classes), g, self._table) for g in generator])
        return gumbel_noise(uniforms.to(self._table))

    def _frame(self, shares: list[Tensor], noise: Tensor | None, labels: Tensor) -> None:
        """Draw all heads of the next frame into `labels` (batch, heads)."""
        inputs, outputs = self._past(shares)
        inputs[0].copy_(self._start.expand_as(inputs[0]))
        for wave in self._waves:
            self._complete(wave.blocks, inputs, outputs)
            scores = torch.addmm(wave.bias, self._top[:, wave.columns], wave.weight)
            scores = scores.view(self.batch, -1, self.classes)
            if noise is not None:
                scores += noise[:, wave.heads]
            drawn = scores.argmax(-1)
            labels[:, wave.heads] = drawn
            inputs[0].add_(functional.embedding_bag(drawn + self._first_rows[wave.heads], self._table, mode="sum"))
        self._complete(self._rest, inputs, outputs)
        self.frame += 1

    def _complete(self, blocks: list[_Block], inputs: list[Tensor], outputs: list[Tensor]) -> None:
        for layer, rows, columns, weight in blocks:
            part = outputs[layer][:, rows]
            part.addmm_(inputs[layer][:, columns], weight)
            functional.leaky_relu_(part, self.slope)

    def _past(self, shares: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Inputs of every layer in this frame, with what is known of them before any label: the shares of past and audio below them."""
        inputs, far_shares = [], []
        for ring, far, old in zip(self._rings, self._far, self._old, strict=True):
            length = len(ring)
            slot = self.frame % length
            if slot == 0 and self.frame:
                # The last d + 1 inputs are all that P_0 reads in the next d + 1 frames: one reading of it serves them all.
                torch.mm(ring.view(length * self.batch, -1), old.T, out=far.view(length * self.batch, -1))
            inputs.append(ring[slot])
            far_shares.append(far[slot])
        near_shares = [
            torch.addmm(share, ring[(self.frame - 1) % len(ring)], last.T)
            for share, ring, last in zip(shares, self._rings, self._last, strict=True)
        ]
        outputs = [
            *inputs[1:],
            self._top,
        ]  # a layer's output is the next one's input; only now may the oldest inputs go
        for output, near, far in zip(outputs, near_shares, far_shares, strict=True):
            torch.add(near, far, out=output)
        return inputs, outputs


_Block = tuple[
    int, slice, slice, Tensor
]  # layer, rows of its output, columns of its input, the weights between them, transposed


@dataclass(frozen=True)
class _Wave:
    """Heads that are drawn together, and the parts of the masked products that they still need.

    Parameters
    ----------
    heads
        Which.
    blocks
        Of the layers.
    columns, weight, bias
        Of the logits of `heads`.
    """

    heads: slice
    blocks: list[_Block]
    columns: slice
    weight: Tensor
    bias: Tensor


def _waves(layers: Sequence[MaskedHeads], logits: MaskedHeads) -> tuple[list[_Wave], list[_Block]]:
    """The order of one frame, and what is left to do after its last label because later frames read it."""
    heads, waves, known, finished = logits.heads, [], 0, [0] * len(layers)
    while known < heads:
        ready = min(known + 1, heads)  # heads of a layer's input that are complete: the embedding's mask is strict
        blocks = []
        for index, layer in enumerate(layers):
            ready = _ready(ready, layer)
            if ready > finished[index]:
                blocks.append((index, *_block(layer, finished[index], ready)))
                finished[index] = ready
        last = _ready(ready, logits)
        rows, columns, weight = _block(logits, known, last)
        bias = logits.masked_linear.bias[rows].detach().clone()
        waves.append(_Wave(slice(known, last), blocks, columns, weight, bias))
        known = last
    # Of the last layer's output later frames read nothing.
    unfinished = [index for index in range(len(layers) - 1) if finished[index] < heads]
    return waves, [(index, *_block(layers[index], finished[index], heads)) for index in unfinished]


def _ready(ready: int, layer: MaskedHeads) -> int:
    """Heads of the output that are complete when `ready` heads of the input are: a strict mask does not ask for the head itself."""
    return min(ready + (not layer.inclusive), layer.heads)


def _block(layer: MaskedHeads, first: int, last: int) -> tuple[slice, slice, Tensor]:
    """Rows of the heads from `first` to before `last`, the columns that these heads read, and the weights."""
    rows = slice(first * layer.outputs, last * layer.outputs)
    columns = slice(0, (last if layer.inclusive else last - 1) * layer.inputs)
    return rows, columns, _copy(layer.masked_weight()[rows, columns]).T


def _copy(weight: Tensor) -> Tensor:
    return weight.detach().contiguous().clone()


def _biases(layer: MaskedHeads) -> Tensor:
    return (layer.unmasked_linear.bias + layer.masked_linear.bias + layer.historic.bias).detach()
