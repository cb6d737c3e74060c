"""The straight-through quantizer: equal to the released one, a draw from the softmax, and faults."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paper_utils.nn.categorical import draw_uniforms, gumbel_noise, quantize


@pytest.fixture
def stored(reference):
    with np.load(reference / "meshtalk" / "quantize.npz") as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays}


def test_values_and_gradient_equal_the_released_ones(stored):
    log_probs = stored["logprobs"].requires_grad_()
    one_hot, labels = quantize(log_probs, stored["uniform"])
    assert torch.equal(labels, stored["labels"].long())
    torch.testing.assert_close(one_hot, stored["one_hot"], atol=1e-6, rtol=0)
    (one_hot * stored["cotangent"]).sum().backward()
    torch.testing.assert_close(log_probs.grad, stored["grad_logprobs"], atol=1e-6, rtol=1e-4)
    one_hot, labels = quantize(stored["logprobs"].detach())
    assert torch.equal(labels, stored["argmax_labels"].long())
    assert torch.equal(one_hot, stored["argmax_one_hot"])


@given(seed=st.integers(0, 10**6), tau=st.floats(0.1, 10))
def test_the_value_is_a_choice_that_tau_does_not_change(seed, tau):
    generator = torch.Generator().manual_seed(seed)
    logits, uniforms = torch.randn(3, 4, 5, generator=generator), torch.rand(3, 4, 5, generator=generator)
    one_hot, labels = quantize(logits, uniforms, tau=tau)
    assert torch.equal(one_hot.sum(-1), torch.ones(3, 4))
    assert torch.equal(labels, quantize(logits + 7.0, uniforms)[1])


def test_draws_have_the_frequencies_of_the_softmax():
    logits = torch.tensor([0.0, 1.0, -1.0])
    uniforms = draw_uniforms((20_000, 3), torch.Generator().manual_seed(0), logits)
    _, labels = quantize(logits.expand(20_000, -1), uniforms)
    found = torch.bincount(labels, minlength=3) / 20_000
    assert (found - logits.softmax(-1)).abs().max() < 4 * math.sqrt(0.25 / 20_000)


def test_the_gradient_is_that_of_the_softmax_at_every_temperature():
    logits = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    weight = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for tau in (0.5, 1.0, 3.0):
        (found,) = torch.autograd.grad((quantize(logits, tau=tau)[0] * weight).sum(), logits)
        (expected,) = torch.autograd.grad(((logits / tau).softmax(-1) * weight).sum(), logits)
        torch.testing.assert_close(found, expected)


def test_extreme_uniforms_stay_usable():
    noise = gumbel_noise(torch.tensor([0.0, 1e-12, 0.5]))
    assert torch.isfinite(noise).all()
    assert noise[0] == noise[1]


def test_faults_are_named():
    with pytest.raises(ValueError, match=r"found 0\.0"):
        quantize(torch.zeros(2, 3), tau=0.0)
    with pytest.raises(ValueError, match=r"1 of 6 are NaN"):
        quantize(torch.tensor([[0.0, torch.nan, 0.0], [0.0, 0.0, 0.0]]))
    with pytest.raises(ValueError, match="one for each logit"):
        quantize(torch.zeros(3), torch.zeros(3, 3)[:2].flatten())


def test_noise_for_16_bit_logits_is_drawn_in_float32_and_leaves_gradients_finite():
    logits = torch.zeros(4, 1000, dtype=torch.bfloat16, requires_grad=True)
    uniforms = draw_uniforms(logits.shape, torch.Generator().manual_seed(0), logits)
    assert uniforms.dtype == torch.float32
    assert float(uniforms.max()) < 1
    assert bool((uniforms.bfloat16() == 1).any()), "rounding must have something to break"
    quantize(logits, uniforms)[0].square().sum().backward()
    assert torch.isfinite(logits.grad).all()
