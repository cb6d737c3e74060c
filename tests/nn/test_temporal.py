"""Layers along time: biases and resampling equal the published ones, and order matters exactly where it should."""

import numpy as np
import pytest
import torch
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from paper_utils.nn import temporal

REFERENCE = ROOT / "tests" / "reference" / "emote"


def arrays(name):
    with np.load(REFERENCE / name) as stored:
        return {key: torch.from_numpy(stored[key]) for key in stored.files}


def test_attention_bias_is_the_published_one():
    expected = arrays("attention_bias.npz")
    assert torch.equal(temporal.alibi_slopes(8), expected["slopes_h8"])
    assert torch.equal(temporal.attention_bias(8, 8), expected["alibi_future_h8_L1200_p1_crop8"])
    assert torch.equal(temporal.attention_bias(8, 64, period=30), expected["faceformer_future_h8_L1200_p30_crop64"])
    assert torch.equal(temporal.attention_bias(8, 8, causal=True), expected["alibi_h8_L600_p1_crop8"])


@pytest.mark.parametrize("heads", [1, 3, 6, 8, 12])
def test_slopes_of_other_head_counts_add_every_second_of_the_next_power(heads):
    slopes = temporal.alibi_slopes(heads).tolist()
    lower = 2 ** (heads.bit_length() - 1)
    expected = [2 ** (-8 * h / lower) for h in range(1, lower + 1)]
    expected += [2 ** (-8 * h / (2 * lower)) for h in range(1, 2 * lower + 1, 2)][: heads - lower]
    assert slopes == pytest.approx(expected)
    assert len(set(slopes)) == heads


def test_a_shorter_bias_is_a_corner_of_a_longer_one():
    assert torch.equal(temporal.attention_bias(4, 50, period=7)[:, :20, :20], temporal.attention_bias(4, 20, period=7))


@pytest.mark.parametrize(("heads", "frames", "period"), [(0, 4, 1), (2, 0, 1), (2, 4, 0)])
def test_impossible_biases_are_refused(heads, frames, period):
    with pytest.raises(ValueError, match="expected at least"):
        temporal.attention_bias(heads, frames, period=period)


def pytorchs(network, period):
    """PyTorch's own encoder with the same weights, kept off its fused path."""
    layer = nn.TransformerEncoderLayer(8, 2, 12, 0.0, activation="gelu", batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    encoder.load_state_dict(network.state_dict())
    return lambda x: encoder(
        x, mask=None if period is None else temporal.attention_bias(2, 9, period=period).repeat(3, 1, 1)
    )


@pytest.mark.parametrize("period", [None, 1, 4])
@pytest.mark.parametrize("training", [True, False])
def test_the_transformer_is_pytorchs_in_training_and_evaluation(period, training):
    with temporal.seeded(0):
        network = temporal.BiasedTransformer(8, heads=2, hidden=12, layers=2, period=period).train(training)
    x = torch.randn(3, 9, 8, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(network(x), pytorchs(network, period)(x), rtol=0, atol=1e-5)
    with torch.no_grad():  # where PyTorch's own layer would change its mind
        torch.testing.assert_close(
            network(x), pytorchs(network, period)(x.requires_grad_()).detach(), rtol=0, atol=1e-5
        )


def test_without_bias_frames_are_a_bag_and_with_it_they_are_not():
    x = torch.randn(1, 7, 8, generator=torch.Generator().manual_seed(1))
    order = torch.tensor([3, 1, 0, 2, 6, 5, 4])
    for period, same in ((None, True), (1, False)):
        network = temporal.BiasedTransformer(8, heads=2, hidden=8, period=period).eval()
        assert torch.allclose(network(x[:, order]), network(x)[:, order], atol=1e-5) == same


def test_the_bias_follows_length_and_period():
    network = temporal.BiasedTransformer(8, heads=2, hidden=8).eval()
    x = torch.randn(1, 12, 8, generator=torch.Generator().manual_seed(1))
    long = network(x)
    assert network(x[:, :5]).shape == (1, 5, 8)
    torch.testing.assert_close(network(x), long)
    network.period = 3
    assert not torch.allclose(network(x), long)
    with pytest.raises(ValueError, match="3 heads do not divide a width of 8"):
        temporal.BiasedTransformer(8, heads=3, hidden=8)


def test_features_are_resampled_as_published():
    stored = arrays("feature_resampling.npz")
    for frames, wanted in ((49, None), (127, 64), (30, 16), (51, None)):
        found = temporal.resample_time(stored[f"in_T{frames}"], wanted)
        torch.testing.assert_close(found, stored[f"out_T{frames}_L{wanted}"], rtol=0, atol=1e-6)


@given(st.integers(2, 40), st.integers(2, 40))
def test_resampling_keeps_a_straight_line_and_both_ends(frames, wanted):
    line = torch.linspace(-1, 3, frames).view(1, -1, 1)
    torch.testing.assert_close(
        temporal.resample_time(line, wanted).flatten(), torch.linspace(-1, 3, wanted), atol=1e-5, rtol=0
    )


@given(st.integers(1, 30), st.integers(1, 9))
def test_stacked_frames_come_apart_again(frames, count):
    x = torch.arange(1.0, 2 * frames * 3 + 1).view(2, frames, 3)
    stacked = temporal.stack_frames(x, count)
    apart = stacked.reshape(2, -1, 3)
    assert torch.equal(apart[:, :frames], x)
    assert not apart[:, frames:].any()
    assert apart.shape[1] - frames < count


def test_positions_start_anew_after_a_period():
    positions = temporal.periodic_positions(10, 6, 4)
    assert torch.equal(positions[:4], positions[4:8])
    assert torch.equal(positions[0], torch.tensor([0.0, 1, 0, 1, 0, 1]))
    assert positions[3, 0] == pytest.approx(np.sin(3.0), abs=1e-6)
    assert positions[3, 2] == pytest.approx(np.sin(3 * 10000 ** (-2 / 6)), abs=1e-6)
    with pytest.raises(ValueError, match="even width"):
        temporal.periodic_positions(4, 5, 2)


def test_seeded_weights_leave_the_global_generator_alone():
    before = torch.get_rng_state()
    with temporal.seeded(3):
        torch.rand(5)
    assert torch.equal(torch.get_rng_state(), before)
