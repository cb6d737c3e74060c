"""Published names load strictly: the prior, and the network with and without its prior and speech features."""

import numpy as np
import pytest
import torch
from conftest import ROOT
from torch import nn

from paper_utils.methods.emote import Emote
from paper_utils.nn.checkpoint_names import CheckpointNamesError
from paper_utils.nn.speech_features import ConvSpeechFeatures
from paper_utils.recipes.emote_weights import emote_from_official, flint_from_official

REFERENCE = ROOT / "tests" / "reference" / "emote"


def stored(name):
    with np.load(REFERENCE / name) as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


def prior_state():
    names = {"enc.": "motion_encoder.", "dec.": "motion_decoder."}
    return {names[n[:4]] + n[4:]: v for n, v in stored("flint_small.npz").items() if n[:4] in names}


class Audio(nn.Module):
    """Speech features whose model has one weight, under the published name."""

    dim = 16

    def __init__(self):
        super().__init__()
        self.model = nn.Linear(2, 2, bias=False)


def network_state(*, prior=True, audio=True):
    arrays = stored("emote_small.npz")
    state = {f"sequence_decoder.{n.removeprefix('emote.')}": v for n, v in arrays.items() if n.startswith("emote.")}
    state |= {"sequence_encoder.linear.weight": torch.eye(16), "sequence_encoder.linear.bias": torch.zeros(16)}
    state |= {"renderer.fixed_cams": torch.zeros(3), "preprocessor.flame.v_template": torch.zeros(2, 3)}
    if prior:
        start = "sequence_decoder.motion_prior."
        state |= {
            f"{start}motion_decoder.{n.removeprefix('prior_dec.')}": v
            for n, v in arrays.items()
            if n.startswith("prior_dec.")
        }
        state[f"{start}preprocessor.flame.v_template"] = torch.zeros(2, 3)
    if audio:
        state["audio_model.model.weight"] = torch.full((2, 2), 7.0)
    return state


def test_the_prior_is_read_with_its_sizes():
    prior = flint_from_official(prior_state() | {"preprocessor.flame.v_template": torch.zeros(2, 3)}, heads=4)
    assert (prior.sizes.motion, prior.sizes.dim, prior.sizes.hidden, prior.sizes.layers, prior.sizes.halvings) == (
        53,
        32,
        48,
        1,
        3,
    )
    assert not prior.training
    assert not any(p.requires_grad for p in prior.parameters())


def test_the_network_takes_prior_and_speech_features_from_the_checkpoint_or_from_outside():
    outside = flint_from_official(prior_state(), heads=4)
    outside.decoder.expand[1][0].weight += 1
    decoder = {name: value.clone() for name, value in outside.decoder.state_dict().items()}
    audio = Audio()
    model = emote_from_official(network_state(), audio, outside, heads=4)
    assert isinstance(model, Emote)
    assert model.sizes.identities == 5
    assert (audio.model.weight == 7).all()
    expected = stored("emote_small.npz")["prior_dec.expander.1.0.weight"]
    assert torch.equal(model.prior.decoder.expand[1][0].weight, expected)
    # The prior that was handed in stays as it was: the network has its own.
    assert all(torch.equal(value, decoder[name]) for name, value in outside.decoder.state_dict().items())
    without = emote_from_official(network_state(prior=False, audio=False), Audio(), outside, heads=4)
    assert torch.equal(without.prior.decoder.expand[1][0].weight, outside.decoder.expand[1][0].weight)
    assert not (without.audio.model.weight == 7).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("sequence_decoder.decoder.bias"), r"1 missing: head\.bias"),
        (lambda s: s.update({"sequence_decoder.decoder.bias": torch.zeros(3)}), r"1 of another shape: head\.bias"),
        (lambda s: s.update({"sequence_decoder.extra.bias": torch.zeros(3)}), r"1 names are not known: sequence_decoder\.extra\.bias"),
        (lambda s: s.pop("sequence_decoder.motion_prior.motion_decoder.cross_smooth_layer.bias"), r"1 missing: smooth\.bias"),
        (lambda s: s.update({"audio_model.model.other": s.pop("audio_model.model.weight")}), r"unexpected: audio\.model\.other"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(change, message):
    state = network_state()
    change(state)
    with pytest.raises(CheckpointNamesError, match=message):
        emote_from_official(state, Audio(), flint_from_official(prior_state(), heads=4), heads=4)


def test_a_checkpoint_without_prior_needs_one():
    with pytest.raises(CheckpointNamesError, match=r"holds no whole prior .* give prior="):
        emote_from_official(network_state(), Audio(), heads=4)
    with pytest.raises(CheckpointNamesError, match="missing"):
        flint_from_official({"motion_encoder.mean.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match="takes 16 numbers a frame, these features have 5"):
        emote_from_official(
            network_state(), ConvSpeechFeatures(3, 5, seed=0), flint_from_official(prior_state(), heads=4), heads=4
        )
