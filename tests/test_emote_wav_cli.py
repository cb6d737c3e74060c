"""A recording becomes a film with a chosen emotion; everything that can be wrong with it is said in a line."""

from __future__ import annotations

import pytest
import torch

from paper_utils import emote_wav, experiment
from paper_utils.audio_files import write_wav
from paper_utils.methods import emote
from paper_utils.studies import emote as st
from paper_utils.studies import emote_world as worlds
from paper_utils.world.people import Population


@pytest.fixture
def speaker() -> st.Speaker:
    """A small network whose motion hangs on sound and style."""
    scale = worlds.profiles()["smoke"].emote
    model = st.new_model(scale.network, emote.Flint(scale.prior, seed=0), seed=0).eval().requires_grad_(False)
    for weight, seed in ((model.head.weight, 0), (model.prior.decoder.turn.weight, 1)):
        torch.nn.init.normal_(weight, generator=torch.Generator().manual_seed(seed))
    return st.Speaker(model, Population(size=6))


@pytest.fixture
def noise() -> torch.Tensor:
    chance = torch.Generator().manual_seed(0)
    loud = torch.sin(torch.linspace(0, 40, 8000)).abs()
    return 0.3 * loud * (2 * torch.rand(8000, generator=chance) - 1)


def test_motion_has_a_row_for_every_40_ms_and_follows_emotion_and_sound(speaker, noise):
    happy = emote_wav.motion_of(speaker, noise, "happy", 3, 0)
    assert happy.shape == (13, worlds.MOTION)
    for other in (
        emote_wav.motion_of(speaker, noise, "anger", 3, 0),
        emote_wav.motion_of(speaker, noise, "happy", 1, 0),
        emote_wav.motion_of(speaker, noise.flip(0), "happy", 3, 0),
    ):
        assert not torch.allclose(happy, other, atol=1e-4)


def test_loudness_of_the_microphone_changes_nothing(speaker, noise):
    one, other = (emote_wav.motion_of(speaker, gain * noise, "sad", 2, 1) for gain in (1.0, 0.1))
    torch.testing.assert_close(one, other, atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"emotion": "joy"}, "emotion: expected one of neutral, happy, .*; found 'joy'"),
        ({"intensity": 4}, "intensity: expected one of 1, 2, 3; found 4"),
        ({"person": 8}, "identity: .* valid: 0 to 7"),
        ({"samples": torch.zeros(1600)}, "the recording is silent"),
        ({"samples": torch.zeros(0)}, "expected a recording of finite numbers, found 0 samples"),
        ({"samples": torch.ones(16_000 * 31)}, "lasts 31.0 s, expected at most 30 s"),
    ],
)
def test_what_cannot_be_said_is_refused(speaker, noise, changes, message):
    asked = {"samples": noise, "emotion": "happy", "intensity": 3, "person": 0} | changes
    with pytest.raises(ValueError, match=message):
        emote_wav.motion_of(speaker, **asked)


def test_the_command_writes_a_film_with_the_sound_of_the_recording(speaker, noise, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(emote_wav, "load_speaker", lambda _: speaker)
    write_wav(tmp_path / "me.wav", noise, 16_000)
    target = tmp_path / "me.gif"
    assert emote_wav.main([str(tmp_path / "me.wav"), "--emotion", "fear", "--output", str(target)]) == 0
    assert target.stat().st_size > 1000
    assert target.with_suffix(".wav").is_file()
    assert "nobody's" in capsys.readouterr().out


def test_the_command_names_a_missing_recording_and_missing_networks(speaker, tmp_path, monkeypatch, capsys):
    assert emote_wav.main([str(tmp_path / "me.wav")]) == 2
    assert "run notebook 09, or train" in capsys.readouterr().err
    monkeypatch.setattr(emote_wav, "load_speaker", lambda _: speaker)
    assert emote_wav.main([str(tmp_path / "me.wav")]) == 2
    assert "me.wav" in capsys.readouterr().err


def test_the_profile_of_the_stored_network_is_the_notebooks():
    assert st.speaker_path().name == f"{experiment.start('09').profile}.safetensors"
