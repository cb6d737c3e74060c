"""The autoencoder behind TalkSHOW's Fréchet distance: equal to the official network, local in time, and able to learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from paper_utils.nn.motion_autoencoder import (
    AutoencoderTraining,
    MotionAutoencoder,
    MotionCodec,
    MotionEncoder,
    reconstruction_loss,
    train_autoencoder,
)
from paper_utils.nn.motion_classifier import ClassifierTraining, real_probability, train_classifier

SMALL = MotionCodec(channels=6, width=8, features=4)


def test_features_and_reconstruction_equal_the_official_network(reference):
    with np.load(reference / "talkshow_metrics" / "fgd_autoencoder_small.npz") as arrays:
        channels, features, width = arrays["meta"][:3].tolist()
        network = MotionAutoencoder(MotionCodec(channels, width, features))
        state = {name[2:]: torch.from_numpy(arrays[name]) for name in arrays if name.startswith("w/")}
        network.load_state_dict(state, strict=True)
        found, reconstructed = network.eval()(torch.from_numpy(arrays["x"]))
        np.testing.assert_allclose(found.detach(), arrays["feature_BTD"], rtol=1e-4, atol=2e-5)
        np.testing.assert_allclose(reconstructed.detach(), arrays["recon"], rtol=1e-4, atol=2e-5)


def test_full_size_is_the_papers():
    with torch.device("meta"):
        network = MotionAutoencoder()
    assert sum(parameter.numel() for parameter in network.parameters()) == pytest.approx(35.56e6, rel=1e-3)


@pytest.mark.parametrize("time", [4, 5, 7, 8, 17, 18, 19, 88])
def test_four_frames_make_a_code_and_the_rest_is_lost(time):
    network = MotionAutoencoder(SMALL).eval()
    features, reconstructed = network(torch.randn(2, time, 6))
    assert features.shape == (2, SMALL.codes(time), 4)
    assert reconstructed.shape == (2, 6, SMALL.frames(time))
    assert SMALL.frames(time) == time // 4 * 4


def test_a_feature_sees_54_frames():
    torch.manual_seed(0)
    encoder = MotionEncoder(SMALL).double().eval()
    motion = torch.randn(1, 6, 120, dtype=torch.float64, requires_grad=True)
    encoder(motion)[0, :, 15].sum().backward()
    seen = motion.grad[0].abs().sum(0).nonzero()[:, 0]
    assert (seen.min(), seen.max()) == (4 * 15 - 25, 4 * 15 + 28)


def test_loss_counts_frames_and_their_differences():
    motion = torch.zeros(1, 4, 2)
    ramp = torch.arange(4.0)[None, :, None].expand(1, 4, 2)
    assert reconstruction_loss(ramp, motion).item() == pytest.approx(1.5 + 1.0)
    assert reconstruction_loss(motion + 1, motion).item() == pytest.approx(1.0)


def waves(clips, seed):
    """Six channels that are mixtures of two sine waves of random phase and rate."""
    rng = torch.Generator().manual_seed(seed)
    phase, rate = torch.rand(2, clips, 1, 2, generator=rng)
    sources = torch.sin(6.28 * phase + (0.1 + 0.3 * rate) * torch.arange(48.0)[None, :, None])
    return sources @ torch.tensor([[1.0, 0.5, -0.5, 0.0, 0.8, -0.3], [0.0, 0.6, 0.7, 1.0, -0.4, 0.2]])


def test_training_learns_to_reconstruct_held_out_motion_and_repeats_itself():
    config = AutoencoderTraining(steps=120, batch_size=16, window=32)
    codec = MotionCodec(channels=6, width=32, features=8)
    network, losses = train_autoencoder(waves(64, 0), codec, config)
    assert not network.training
    held_out = waves(32, 1)
    with torch.no_grad():
        _, reconstructed = network(held_out)
    error = (reconstructed.transpose(1, 2) - held_out).abs().mean()
    assert error < 0.5 * held_out.abs().mean()
    assert losses[-20:].mean() < 0.5 * losses[:5].mean()
    _, again = train_autoencoder(waves(64, 0), codec, AutoencoderTraining(steps=3, batch_size=16, window=32))
    _, once_more = train_autoencoder(waves(64, 0), codec, AutoencoderTraining(steps=3, batch_size=16, window=32))
    np.testing.assert_array_equal(again, once_more)


def test_classifier_ignores_channels_that_never_move():
    real = torch.cat((waves(20, 0), torch.ones(20, 48, 1)), dim=2)
    small = real * torch.tensor([0.3] * 6 + [1.0])
    network = train_classifier(real, small, ClassifierTraining(width=16, steps=120))
    assert real_probability(network, real).mean() > 0.8
    assert real_probability(network, small).mean() < 0.2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MotionCodec(width=6), "width that 4 divides"),
        (lambda: MotionAutoencoder(SMALL)(torch.zeros(1, 3, 6)), "time >= 4"),
        (lambda: MotionAutoencoder(SMALL)(torch.zeros(1, 8, 5)), r"\(batch, 6, time"),
        (lambda: AutoencoderTraining(window=30), "multiple of 4"),
        (lambda: train_autoencoder(torch.zeros(3, 40, 6), SMALL), r"time >= 88, 6\), found \(3, 40, 6\)"),
        (lambda: train_autoencoder(torch.full((3, 88, 6), torch.nan), SMALL), "NaN"),
        (lambda: train_classifier(torch.zeros(3, 4, 6), torch.zeros(3, 4, 6)), "at least 8 frames"),
        (lambda: ClassifierTraining(batch_size=3), "even batch"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
