"""Non-causal networks on sequences in pieces: same outputs, as early as possible."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paper_utils.nn.motion_autoencoder import MotionCodec, MotionDecoder, MotionEncoder
from paper_utils.nn.streaming import Reach, Streamed, decoder_reach, encoder_reach
from paper_utils.nn.temporal import seeded


def network(kind: str, residual_layers: int) -> tuple[torch.nn.Module, Reach, int]:
    """An encoder or decoder in float64 with its reach and unit."""
    with seeded(0):
        codec = MotionCodec(3, 8, 4, residual_layers)
        made = MotionEncoder(codec) if kind == "encoder" else MotionDecoder(codec)
    made = made.double().eval()
    return made, *((encoder_reach(residual_layers), 4) if kind == "encoder" else (decoder_reach(residual_layers), 1))


def seen(made: torch.nn.Module, length: int, outputs: slice, channels: int) -> torch.Tensor:
    """Which steps of input some outputs depend on, by gradients at several inputs."""
    hit = torch.zeros(length, dtype=torch.bool)
    for seed in range(6):
        x = torch.randn(1, channels, length, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        made(x.requires_grad_())[..., outputs].square().sum().backward()
        hit |= (x.grad[0] != 0).any(0)
    return hit.nonzero()[:, 0]


@pytest.mark.parametrize("residual_layers", [1, 2, 3])
def test_reach_of_the_encoder_is_what_gradients_say(residual_layers):
    made, reach, _ = network("encoder", residual_layers)
    steps = seen(made, 160, slice(20, 21), 3)
    assert (80 - int(steps.min()), int(steps.max()) - 80) == tuple(reach)


@pytest.mark.parametrize("residual_layers", [1, 2, 3])
def test_reach_of_the_decoder_is_what_gradients_say(residual_layers):
    made, reach, _ = network("decoder", residual_layers)
    steps = seen(made, 40, slice(80, 84), 4)
    assert (20 - int(steps.min()), int(steps.max()) - 20) == tuple(reach)


@settings(max_examples=25)
@given(
    st.sampled_from(["encoder", "decoder"]),
    st.integers(1, 2),
    st.lists(st.integers(0, 40), min_size=1, max_size=8).filter(lambda sizes: sum(sizes) >= 4),
)
def test_joined_outputs_of_pieces_are_those_of_the_whole(kind, residual_layers, sizes):
    made, reach, unit = network(kind, residual_layers)
    x = torch.randn(
        2, 3 if kind == "encoder" else 4, sum(sizes), generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    stream, pieces = Streamed(made, reach, unit), []
    with torch.no_grad():
        for index, piece in enumerate(x.split(sizes, dim=2)):
            pieces.append(stream.push(piece, last=index == len(sizes) - 1))
        whole = made(x)
    torch.testing.assert_close(torch.cat(pieces, dim=2), whole, rtol=1e-9, atol=1e-9)


def test_an_output_comes_as_soon_as_everything_it_sees_is_there():
    made, reach, unit = network("encoder", 2)
    stream, counts = Streamed(made, reach, unit), []
    with torch.no_grad():
        for _ in range(40):
            counts.append(stream.push(torch.zeros(1, 3, 1, dtype=torch.float64)).shape[2])
    assert [i + 1 for i, count in enumerate(counts) if count] == [29, 33, 37], (
        "frame 4r + 28 is the last that code r sees"
    )


def test_a_reach_that_is_too_short_is_caught():
    made, reach, unit = network("encoder", 2)
    stream = Streamed(made, Reach(reach.before, reach.after - 8), unit)
    x = torch.randn(1, 3, 80, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        pieces = torch.cat([stream.push(x[..., :40]), stream.push(x[..., 40:], last=True)], dim=2)
        assert not torch.allclose(pieces, made(x), atol=1e-9)


def test_faults_are_named():
    made, reach, unit = network("encoder", 1)
    with pytest.raises(ValueError, match="evaluation mode"):
        Streamed(made.train(), reach, unit)
    made.eval()
    stream = Streamed(made, reach, unit)
    with pytest.raises(ValueError, match="ended after 3 steps; an output needs at least 4"):
        stream.push(torch.zeros(1, 3, 3, dtype=torch.float64), last=True)
    with pytest.raises(ValueError, match="make a new stream"):
        stream.push(torch.zeros(1, 3, 3, dtype=torch.float64))
