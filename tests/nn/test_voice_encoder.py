"""The voice embedding network has the published sizes, and the first weights are PyTorch's from an explicit source."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from paper_utils.nn.voice_encoder import CHANNELS, VoiceEncoder, initialise_


def test_full_size_is_the_published_one():
    encoder = VoiceEncoder()
    assert sum(p.numel() for p in encoder.parameters()) == 2_670_720
    assert sum(b.numel() for b in encoder.buffers()) == 4_164
    names = set(encoder.state_dict())
    assert {f"model.{i}.weight" for i in (0, 3, 6, 9, 12)} | {"model.12.bias"} <= names
    norms = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    assert {f"model.{i}.{n}" for i in (1, 4, 7, 10) for n in norms} <= names
    assert len(names) == 26
    assert [encoder.state_dict()[f"model.{i}.weight"].shape[0] for i in (0, 3, 6, 9)] == list(CHANNELS)


@pytest.mark.parametrize(("frames", "steps"), [(1, 1), (32, 1), (33, 2), (300, 10), (800, 25), (1000, 32)])
def test_a_step_covers_32_frames_and_the_embedding_is_their_mean(frames, steps):
    encoder = VoiceEncoder(width=1 / 32, seed=1).eval()
    sound = torch.randn(2, 64, frames, generator=torch.Generator().manual_seed(0))
    parts = encoder.steps(sound)
    assert parts.shape == (2, 64, steps)
    torch.testing.assert_close(encoder(sound), parts.mean(2))


def test_width_is_a_factor_on_the_inner_layers():
    encoder = VoiceEncoder(bands=40, dim=16, width=0.25)
    shapes = [layer.weight.shape[:2] for layer in encoder.model if isinstance(layer, nn.Conv1d)]
    assert shapes == [(64, 40), (96, 64), (144, 96), (216, 144), (16, 216)]


def test_same_seed_same_weights_and_another_seed_others():
    first, again, other = (VoiceEncoder(width=0.1, seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["model.0.weight"], other["model.0.weight"])


@pytest.mark.parametrize(
    "layer", [nn.Linear(48, 300), nn.Conv1d(24, 96, 3), nn.Conv2d(12, 128, 4), nn.ConvTranspose2d(128, 12, 4)]
)
def test_first_weights_have_the_law_of_pytorch(layer):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer.reset_parameters()
    official = layer.weight.detach().clone()
    bias = layer.bias.detach().clone()
    initialise_(layer.requires_grad_(False), torch.Generator().manual_seed(0))
    assert float(layer.weight.std()) == pytest.approx(float(official.std()), rel=0.02)
    assert float(layer.weight.abs().max()) == pytest.approx(float(official.abs().max()), rel=0.01)
    # The bias has its own few draws from the same law.
    bound = math.sqrt(3) * float(official.std())
    assert float(layer.bias.abs().max()) <= 1.03 * bound
    assert float(bias.abs().max()) <= 1.03 * bound
    assert float(layer.bias.abs().max()) > 0.7 * bound


@pytest.mark.parametrize(("shape", "message"), [((2, 63, 50), "64 bands"), ((2, 64, 0), "at least one frame")])
def test_features_that_do_not_fit_are_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        VoiceEncoder(width=0.02)(torch.zeros(shape))


@pytest.mark.parametrize(
    "arguments", [{"bands": 0}, {"dim": 0}, {"channels": ()}, {"channels": (4, 0)}, {"width": 0.0}]
)
def test_sizes_that_cannot_be_are_refused(arguments):
    with pytest.raises(ValueError, match="to be positive"):
        VoiceEncoder(**arguments)
