"""The cached sampler draws what the whole network would, code for code, in pieces or in one go, at a cost linear in the rows."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_pixelcnn import CASES, naive_codes, official

from paper_utils.nn import pixelcnn
from paper_utils.nn.pixelcnn import PixelCnn, PixelCnnConfig, Sampler, choose, draw_uniforms

seeds = st.integers(0, 2**31 - 1)


def generator(seed=0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", CASES)
def test_codes_equal_those_drawn_by_the_released_code(name, reference):
    arrays = dict(np.load(reference / "talkshow" / f"pixelcnn_{name}.npz"))
    network, codes, speakers, sound = official(arrays)
    given_sound = codes.shape[1] if sound is None else sound
    greedy = Sampler(network, speakers, greedy=True).draw(given_sound)
    np.testing.assert_array_equal(greedy, arrays["sample_greedy"])
    drawn = Sampler(network, speakers).draw(given_sound, torch.from_numpy(arrays["uniforms"]))
    np.testing.assert_array_equal(drawn, arrays["sample_icdf"])


@settings(max_examples=40)
@given(
    seed=seeds,
    layers=st.integers(1, 5),
    kernel=st.sampled_from([1, 2, 3, 5]),
    first_kernel=st.sampled_from([3, 4, 7]),
    audio=st.sampled_from([0, 3]),
    variant=st.sampled_from(["cross", "independent"]),
    part_vector=st.booleans(),
    batch=st.integers(1, 3),
    rows=st.integers(1, 12),
)
def test_codes_equal_the_naive_ones_for_the_same_uniforms(
    seed, layers, kernel, first_kernel, audio, variant, part_vector, batch, rows
):
    audio = audio if layers > 1 else 0
    config = PixelCnnConfig(
        codes=7, width=5, layers=layers, head=6, kernel=kernel, first_kernel=first_kernel, audio=audio, variant=variant,
        part_vector=part_vector and audio > 0,
    )  # fmt: skip
    # In float64 no rounding can push a cumulative probability over a uniform number.
    network = PixelCnn(config, seed=seed).double()
    with torch.no_grad():  # biases that matter
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator(seed), dtype=torch.float64)
    speakers = torch.randint(4, (batch,), generator=generator(seed))
    sound = torch.randn(batch, rows, audio, generator=generator(seed), dtype=torch.float64) if audio else None
    uniforms = draw_uniforms(batch, rows, generator(seed))
    expected = naive_codes(network, speakers, rows, sound, uniforms)
    assert torch.equal(Sampler(network, speakers).draw(rows if sound is None else sound, uniforms), expected)
    expected = naive_codes(network, speakers, rows, sound)
    assert torch.equal(Sampler(network, speakers, greedy=True).draw(rows if sound is None else sound), expected)


@given(seeds, st.lists(st.integers(0, 5), min_size=1, max_size=6))
def test_pieces_of_sound_give_the_codes_of_the_whole(seed, pieces):
    network = PixelCnn(PixelCnnConfig(codes=7, width=4, layers=4, head=6, audio=3), seed=seed)
    speakers, rows = torch.tensor([0, 3]), sum(pieces)
    sound = torch.randn(2, rows, 3, generator=generator(seed))
    whole = Sampler(network, speakers).draw(sound, generator=generator(seed))
    sampler, source = Sampler(network, speakers), generator(seed)
    drawn = [sampler.draw(piece, generator=source) for piece in sound.split(pieces, dim=1)]
    assert torch.equal(torch.cat(drawn, dim=1), whole)


def test_a_batch_gives_what_its_members_give_alone():
    network = PixelCnn(PixelCnnConfig(codes=9, width=4, layers=3, head=6, audio=3), seed=0).double()
    speakers, sound = torch.tensor([2, 0, 1]), torch.randn(3, 10, 3, generator=generator(), dtype=torch.float64)
    uniforms = draw_uniforms(3, 10, generator(1))
    together = Sampler(network, speakers).draw(sound, uniforms)
    for i in range(3):
        alone = Sampler(network, speakers[i : i + 1]).draw(sound[i : i + 1], uniforms[i : i + 1])
        assert torch.equal(alone[0], together[i])


def test_codes_follow_the_distribution_of_the_network():
    network = PixelCnn(PixelCnnConfig(codes=3, width=4, layers=2, head=6, audio=0), seed=1)
    count = 20_000
    codes = Sampler(network, torch.zeros(count, dtype=torch.long)).draw(1, generator=generator())[:, 0]
    grid = torch.cartesian_prod(torch.arange(3), torch.arange(3))[:, None]
    with torch.no_grad():
        log_p = network(grid, torch.zeros(9, dtype=torch.long)).log_softmax(-1).gather(3, grid[..., None])
    expected = log_p.sum((1, 2, 3)).exp()
    found = torch.bincount(3 * codes[:, 0] + codes[:, 1], minlength=9) / count
    assert float(expected.sum()) == pytest.approx(1, abs=1e-5)
    assert ((found - expected).abs() < 5 * (expected * (1 - expected) / count).sqrt() + 1e-4).all()


def test_choice_is_the_first_code_whose_cumulative_probability_exceeds_the_uniform_number():
    logits = torch.tensor([0.25, 0.5, 0.25]).double().log().expand(6, 3)
    uniforms = torch.tensor([0.0, 0.2499, 0.2501, 0.7499, 0.7501, 1 - 1e-16], dtype=torch.float64)
    assert choose(logits, uniforms).tolist() == [0, 0, 1, 1, 2, 2]
    assert choose(logits, None).tolist() == [1] * 6
    assert choose(logits, uniforms, temperature=0.01).tolist()[1:] == [1] * 5
    impossible = torch.tensor([[0.0, -torch.inf, 0.0]])
    assert choose(impossible, torch.tensor([0.5], dtype=torch.float64)).tolist() == [2]


def test_a_forgotten_window_is_caught(monkeypatch):
    """The comparison with the naive sampler sees when a layer's past is one row short."""
    remember = Sampler._remember

    def forgetful(self, inputs, codes):
        result = remember(self, inputs, codes)
        self._past[2] = torch.zeros_like(self._past[2])
        return result

    monkeypatch.setattr(pixelcnn.Sampler, "_remember", forgetful)
    network = PixelCnn(PixelCnnConfig(codes=16, width=8, layers=4, head=6, audio=0), seed=0)
    speakers, uniforms = torch.zeros(4, dtype=torch.long), draw_uniforms(4, 20, generator())
    assert not torch.equal(
        Sampler(network, speakers).draw(20, uniforms), naive_codes(network, speakers, 20, None, uniforms)
    )


def test_cost_is_linear_in_the_rows_and_far_below_the_naive_one():
    network = PixelCnn(PixelCnnConfig(codes=16, width=8, layers=4, head=16, audio=4), seed=0)
    speakers = torch.zeros(4, dtype=torch.long)

    def seconds(draw, rows):
        times = []
        for _ in range(3):
            began = time.process_time()
            draw(torch.zeros(4, rows, 4), draw_uniforms(4, rows, generator()))
            times.append(time.process_time() - began)
        return min(times)

    def cached(sound, uniforms):
        return Sampler(network, speakers).draw(sound, uniforms)

    short = seconds(cached, 60)
    assert seconds(cached, 120) / short <= 2.6
    assert seconds(lambda a, u: naive_codes(network, speakers, 60, a, u), 60) / short > 3


def test_faults_are_named():
    network = PixelCnn(PixelCnnConfig(codes=7, width=4, layers=3, head=6, audio=3), seed=0)
    deaf = PixelCnn(PixelCnnConfig(codes=7, width=4, layers=3, head=6, audio=0), seed=0)
    one = torch.tensor([0])
    with pytest.raises(ValueError, match=r"speakers: expected 0 to 3, found \[5\]"):
        Sampler(network, torch.tensor([5]))
    with pytest.raises(ValueError, match="temperature"):
        Sampler(network, one, temperature=0.0)
    with pytest.raises(ValueError, match="either uniforms or a generator"):
        Sampler(network, one).draw(torch.zeros(1, 2, 3))
    with pytest.raises(ValueError, match="found a number of rows"):
        Sampler(network, one).draw(4, generator=generator())
    with pytest.raises(ValueError, match="no sound"):
        Sampler(deaf, one).draw(torch.zeros(1, 2, 3), generator=generator())
    with pytest.raises(ValueError, match="NaN"):
        Sampler(network, one).draw(torch.full((1, 2, 3), torch.nan), generator=generator())
    with pytest.raises(ValueError, match=r"uniforms: expected \(1, 2, 2\), found \(1, 3, 2\)"):
        Sampler(network, one).draw(torch.zeros(1, 2, 3), torch.zeros(1, 3, 2, dtype=torch.float64))
