"""What MeshTalk's reference arrays were made with: numbers by integer arithmetic. And two samplers that are right but slow."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from paper_utils.nn.categorical import gumbel_noise


def uniforms(shape, stream, seed=0):
    """Hash uniforms in [0, 1), float64; see the README of the reference arrays."""
    count, word = int(np.prod(shape)), np.uint64(0xFFFFFFFF)
    x = np.arange(count, dtype=np.uint64) * np.uint64(2654435761) + np.uint64(
        (stream * 1013904223 + seed * 1664525 + 974711) % 2**32
    )
    x &= word
    x ^= x >> np.uint64(15)
    x = x * np.uint64(2246822519) & word
    x ^= x >> np.uint64(13)
    x = x * np.uint64(3266489917) & word
    x ^= x >> np.uint64(16)
    return (x / 2.0**32).reshape(shape)


def array(shape, stream, low=0.0, high=1.0, seed=0):
    return torch.from_numpy((low + (high - low) * uniforms(shape, stream, seed)).astype(np.float32))


def labels(shape, classes, stream):
    return torch.from_numpy(np.floor(classes * uniforms(shape, stream)).astype(np.int64))


@torch.no_grad()
def set_weights_(parameters, seed=0):
    """The deterministic weights, parameter n from stream n."""
    for stream, parameter in enumerate(parameters):
        fan_in = parameter[0].numel()
        bound = 0.1 if parameter.ndim == 1 else np.sqrt(3 / fan_in)
        parameter.copy_(array(parameter.shape, stream, -bound, bound, seed).reshape(parameter.shape))


def context_parameters(model):
    """In the order of the reference."""
    return [
        parameter
        for layer in (model.embedding, *model.context_layers, model.logits)
        for part in ("unmasked_linear", "masked_linear", "historic")
        if hasattr(layer, part)
        for parameter in (getattr(layer, part).weight, getattr(layer, part).bias)
    ]


@torch.no_grad()
def naive_sample(model, audio, noise=None):
    """Head after head of frame after frame, each time with the whole network on everything so far."""
    batch, frames, _ = audio.shape
    drawn = torch.zeros(batch, frames, model.sizes.heads, dtype=torch.long)
    for t in range(frames):
        for h in range(model.sizes.heads):
            scores = model(drawn[:, : t + 1], audio[:, : t + 1])[:, t, h]
            if noise is not None:
                scores = scores + gumbel_noise(noise[:, t, h])
            drawn[:, t, h] = scores.argmax(-1)
    return drawn


@torch.no_grad()
def released_sample(model, audio, noise):
    """The algorithm of the released sampler in our own words, with its costs: a buffer a layer, channels first, which grows by a frame at a
    time. A head computes its own rows of the newest frame only, but on the way from layer to layer the whole past is turned channels last,
    activated and turned back, and at the end normalised over classes.
    """
    sizes, layers = model.sizes, [model.embedding, *model.context_layers, model.logits]
    one_hot = torch.zeros(1, audio.shape[1], sizes.heads * sizes.classes)
    buffers = [torch.zeros(1, sizes.heads * layer.outputs, 0) for layer in layers]
    drawn = torch.zeros(1, audio.shape[1], sizes.heads, dtype=torch.long)
    reach = 1 + sum(1 + layer.dilation for layer in model.context_layers)
    for t in range(audio.shape[1]):
        buffers = [torch.cat([buffer, torch.zeros(1, buffer.shape[1], 1)], -1) for buffer in buffers]
        seen = one_hot[:, max(0, t - reach) : t + 1]
        for h in range(sizes.heads):
            x = seen
            for layer, buffer in zip(layers, buffers, strict=True):
                x = _one_head(layer, buffer, x, audio[:, t], h)
                if layer.dilation is not None:
                    x = functional.leaky_relu(x, model.slope)
            log_probs = x.view(1, -1, sizes.heads, sizes.classes).log_softmax(-1)
            (
                log_probs.softmax(-1),
                log_probs.argmax(-1),
            )  # returned by the released network for all frames, used by nobody
            drawn[0, t, h] = (log_probs[0, -1, h] + gumbel_noise(noise[0, t, h])).argmax()
            one_hot[0, t, h * sizes.classes + int(drawn[0, t, h])] = 1.0
    return drawn


def _one_head(layer, buffer, x, audio, h):
    """Put a head's output for the newest frame into the buffer (with the first head, the past's share of all heads); the whole buffer, channels last."""
    x = x.transpose(1, 2).contiguous()
    rows, known = slice(h * layer.outputs, (h + 1) * layer.outputs), h * layer.inputs
    buffer[:, rows, -1:] += layer.masked_linear.bias[rows].view(1, -1, 1)
    if h:
        buffer[:, rows, -1:] += functional.conv1d(x[:, :known, -1:], layer.masked_linear.weight[rows, :known])
    if layer.dilation is not None:
        linear = layer.unmasked_linear
        buffer[:, rows, -1:] += functional.conv1d(audio[..., None], linear.weight[rows], linear.bias[rows])
        if h == 0:
            past = x[:, :, -(layer.dilation + 2) : -1]
            buffer[:, :, -1:] += layer.historic(functional.pad(past, (layer.dilation + 1 - past.shape[-1], 0)))
    return buffer.transpose(1, 2).contiguous()
