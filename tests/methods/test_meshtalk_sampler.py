"""The cached sampler draws label for label what drawing with the whole network draws; and what depends on what."""

from __future__ import annotations

import dataclasses

import meshtalk_reference as ref
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paper_utils.nn import meshtalk_networks as nets
from paper_utils.nn.heads_sampler import AUDIO_BLOCK, HeadsSampler
from paper_utils.nn.masked_heads import dependencies

TINY = dataclasses.replace(nets.RELEASED, heads=8, classes=6, audio_code=7, units=5)
REFERENCE = {
    "context_small": dataclasses.replace(nets.RELEASED, heads=8, classes=6, audio_code=7),
    "context_full_H16": nets.RELEASED,
}


@pytest.fixture(scope="module", params=REFERENCE)
def case(request):
    from conftest import ROOT

    sizes = REFERENCE[request.param]
    with np.load(ROOT / "tests" / "reference" / "meshtalk" / f"{request.param}.npz") as stored:
        arrays = {name: stored[name] for name in stored}
    model = nets.ContextModel(sizes, seed=0)
    ref.set_weights_(ref.context_parameters(model))
    audio = torch.from_numpy(arrays["audio_code"])
    return model, arrays, audio


def test_log_probabilities_equal_the_released_ones(case):
    model, arrays, audio = case
    labels = torch.from_numpy(arrays["labels_in"]).long()
    with torch.no_grad():
        found = model(labels, audio)
    np.testing.assert_allclose(found, arrays["logprobs"], atol=1e-4)
    each = -found.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    np.testing.assert_allclose(each, arrays["nll_per_position"], atol=1e-4)
    np.testing.assert_allclose(each.mean(), arrays["nll_mean"], atol=1e-5)


def test_labels_equal_the_released_ones(case):
    model, arrays, audio = case
    sampler = HeadsSampler(model)
    np.testing.assert_array_equal(sampler.step(audio), arrays["sample_argmax_labels"])
    sampler.reset()
    noise = ref.array((*arrays["labels_in"].shape, model.sizes.classes), 1002)
    np.testing.assert_array_equal(sampler.step(audio, uniforms=noise), arrays["sample_noise_labels"])


def test_our_account_of_the_released_sampler_draws_the_released_labels(case):
    model, arrays, audio = case
    noise = ref.array((*arrays["labels_in"].shape, model.sizes.classes), 1002)
    np.testing.assert_array_equal(ref.released_sample(model, audio, noise), arrays["sample_noise_labels"])


def model_and_input(sizes, batch, frames, seed):
    generator = torch.Generator().manual_seed(seed)
    model = nets.ContextModel(sizes, seed=seed).double()
    audio = torch.randn(batch, frames, sizes.audio_code, generator=generator, dtype=torch.float64)
    noise = torch.rand(batch, frames, sizes.heads, sizes.classes, generator=generator, dtype=torch.float64)
    return model, audio, noise


@settings(max_examples=15)
@given(
    heads=st.integers(1, 14),
    classes=st.integers(1, 7),
    dilations=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    mask=st.sampled_from(["released", "corrected"]),
    batch=st.integers(1, 3),
    frames=st.integers(1, 10),
    noisy=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_labels_are_those_of_the_whole_network(heads, classes, dilations, mask, batch, frames, noisy, seed):
    sizes = dataclasses.replace(
        TINY, heads=heads, classes=classes, units=3, dilations=tuple(dilations), mask=mask, audio_code=4
    )
    model, audio, noise = model_and_input(sizes, batch, frames, seed)
    noise = noise if noisy else None
    drawn = HeadsSampler(model, batch).step(audio, uniforms=noise)
    assert torch.equal(drawn, ref.naive_sample(model, audio, noise))


@pytest.mark.parametrize("mask", ["released", "corrected"])
def test_ancestral_samples_are_the_argmax_of_teacher_forcing_with_the_same_noise(mask):
    model, audio, noise = model_and_input(dataclasses.replace(TINY, mask=mask), 2, 40, 5)
    drawn = HeadsSampler(model, 2).step(audio, uniforms=noise)
    with torch.no_grad():
        scores = model(drawn, audio) - torch.log(-torch.log(noise))
    assert torch.equal(scores.argmax(-1), drawn)


@settings(max_examples=8)
@given(cuts=st.lists(st.integers(1, AUDIO_BLOCK + 6), min_size=2, max_size=3), seed=st.integers(0, 10**6))
def test_pieces_give_the_labels_of_the_whole(cuts, seed):
    model, audio, _ = model_and_input(TINY, 1, sum(cuts), seed)
    whole = HeadsSampler(model).step(audio, generator=torch.Generator().manual_seed(seed))
    sampler, generator = HeadsSampler(model), torch.Generator().manual_seed(seed)
    pieces = [sampler.step(piece, generator=generator) for piece in audio.split(cuts, 1)]
    assert torch.equal(torch.cat(pieces, 1), whole)


def test_the_future_changes_nothing():
    model, audio, noise = model_and_input(TINY, 1, 30, 0)
    other = torch.cat([audio[:, :20], -audio[:, 20:]], 1)
    one, two = (HeadsSampler(model).step(a, uniforms=noise) for a in (audio, other))
    assert torch.equal(one[:, :20], two[:, :20])
    assert not torch.equal(one[:, 20:], two[:, 20:])


def test_a_sequence_with_its_own_generator_does_not_depend_on_its_neighbours():
    model, audio, _ = model_and_input(TINY, 3, 20, 1)
    together = HeadsSampler(model, 3).step(audio, generator=[torch.Generator().manual_seed(s) for s in (7, 8, 9)])
    for row, seed in enumerate((7, 8, 9)):
        alone = HeadsSampler(model).step(audio[row : row + 1], generator=torch.Generator().manual_seed(seed))
        assert torch.equal(together[row : row + 1], alone)


def test_reset_begins_anew_and_training_on_does_not_reach_a_sampler():
    model, audio, _ = model_and_input(TINY, 1, 25, 2)
    sampler = HeadsSampler(model)
    first = sampler.step(audio)
    sampler.reset()
    with torch.no_grad():
        model.context_layers[0].historic.weight.mul_(-3)
    assert torch.equal(sampler.step(audio), first)
    assert not torch.equal(HeadsSampler(model).step(audio), first)


@pytest.mark.parametrize(("mask", "waves"), [("released", 3), ("corrected", 16)])
def test_six_heads_at_once_with_the_released_mask_and_one_with_the_corrected(mask, waves):
    sizes = dataclasses.replace(TINY, heads=16, mask=mask)
    assert len(HeadsSampler(nets.ContextModel(sizes, seed=0))._waves) == waves


def test_samples_follow_the_models_distribution():
    """One head, no past to speak of: frequencies are the probabilities."""
    sizes = dataclasses.replace(TINY, heads=1, classes=4, mask="corrected")
    model = nets.ContextModel(sizes, seed=3)
    audio = torch.zeros(2000, 1, sizes.audio_code)
    drawn = HeadsSampler(model, 2000).step(audio, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(torch.zeros(1, 1, 1, dtype=torch.long), audio[:1]).exp()[0, 0, 0]
    found = torch.bincount(drawn.flatten(), minlength=4) / 2000
    assert (found - expected).abs().max() < 4 * (0.25 / 2000) ** 0.5


# ------------------------------------------------------------------------------------------------- what depends on what


def test_dependencies_equal_the_references(reference):
    with np.load(reference / "meshtalk" / "causality_H16_delay.npz") as stored:
        labels, audio = nets.head_dependencies(nets.RELEASED)
        np.testing.assert_array_equal(labels, stored["dep_label"])
        np.testing.assert_array_equal(audio, stored["dep_audio"])
    labels, audio = nets.head_dependencies(dataclasses.replace(nets.RELEASED, heads=8))
    with np.load(reference / "meshtalk" / "causality_H8_T24.npz") as stored:
        for t_out in range(24):
            for t_in in range(24):
                future = t_in > t_out
                seen, heard = stored["dep_label"][t_out, :, t_in], stored["dep_audio"][t_out, :, t_in]
                np.testing.assert_array_equal(seen, False if future else labels[t_out - t_in])
                np.testing.assert_array_equal(heard, False if future else audio[t_out - t_in])


def test_the_released_masks_defects():
    labels, audio = nets.head_dependencies(nets.RELEASED)
    assert not labels[:, 0].any()
    assert not audio[:, 0].any()  # head 0 is a constant
    assert not labels[:, :, -1].any()  # the last head's labels are never read
    h = torch.arange(16)
    assert torch.equal(labels[0], h[None] <= h[:, None] - 6)
    assert labels[1:20].any((1, 2)).all()
    assert not labels[20:].any()


def test_the_corrected_mask_mends_them():
    labels, audio = nets.head_dependencies(dataclasses.replace(nets.RELEASED, mask="corrected"))
    h = torch.arange(16)
    assert torch.equal(labels[0], h[None] < h[:, None])  # every earlier head of the frame, never itself
    assert labels[1:20, :, :-1].all()  # the past is read through the embedding, so the last head's label stays unread
    assert not labels[:, :, -1].any()
    assert audio[0].all()


def test_reach_within_a_frame_is_one_head_a_strict_layer():
    for layers in range(1, 5):
        labels, _ = dependencies(12, (1,) * layers, first_inclusive=False, inclusive=False, delays=1)
        h = torch.arange(12)
        assert torch.equal(labels[0], h[None] <= h[:, None] - (layers + 2))


@pytest.mark.parametrize("mask", ["released", "corrected"])
def test_the_network_depends_on_what_the_table_says(mask):
    """Change one label, or the sound of one frame, and see which log-probabilities move; positive weights let nothing cancel."""
    sizes = dataclasses.replace(TINY, mask=mask, units=2)
    model = nets.ContextModel(sizes, seed=0).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=torch.Generator().manual_seed(1)) + 0.1)
    frames, heads = 23, sizes.heads
    labels = torch.zeros(1 + heads + 1, frames, heads, dtype=torch.long)
    audio = torch.ones(len(labels), frames, sizes.audio_code, dtype=torch.float64)
    for head in range(heads):
        labels[1 + head, 0, head] = 1
    audio[-1, 0] = 2.0
    with torch.no_grad():
        # Logits, not probabilities: a constant added to all classes of a head is a dependence too.
        x = model.embedding.embed(labels)
        for layer in model.context_layers:
            x = torch.nn.functional.leaky_relu(layer(x, audio), 0.2)
        logits = model.logits(x).unflatten(-1, (heads, sizes.classes))
    moved = ((logits[1:] - logits[:1]).abs() > 1e-9 * logits[:1].abs()).any(-1)
    expected_labels, expected_audio = nets.head_dependencies(sizes, frames)
    assert torch.equal(moved[:heads].permute(1, 2, 0), expected_labels)
    assert torch.equal(moved[-1], expected_audio)


# ------------------------------------------------------------------------------------------------------------------ faults


def test_bad_input_is_named():
    model, audio, noise = model_and_input(TINY, 2, 3, 0)
    sampler = HeadsSampler(model, 2)
    for wrong in (audio[:1], audio[..., :5]):
        with pytest.raises(ValueError, match=r"expected codes \(2, frames, 7\)"):
            sampler.step(wrong)
    with pytest.raises(ValueError, match="NaN or infinite"):
        sampler.step(audio * torch.inf)
    with pytest.raises(ValueError, match=r"uniforms: expected \(2, 3, 8, 6\), found \(2, 3, 8, 5\)"):
        sampler.step(audio, uniforms=noise[..., :5])
    generator = torch.Generator()
    with pytest.raises(ValueError, match="one of them"):
        sampler.step(audio, uniforms=noise, generator=generator)
    with pytest.raises(ValueError, match="one for each of 2 sequences, found 3"):
        sampler.step(audio, generator=[generator] * 3)
    with pytest.raises(ValueError, match="at least one sequence"):
        HeadsSampler(model, 0)
    with pytest.raises(ValueError, match=r"expected \(batch, time, 8\)"):
        model(torch.zeros(2, 3, 7, dtype=torch.long), audio)
    assert sampler.step(audio[:, :0]).shape == (2, 0, 8)
