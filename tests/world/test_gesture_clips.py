"""Sentences with gestures: one sound for many takes, features that do not depend on the level, the same from a wave as from the acoustics."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from paper_utils import audio
from paper_utils.world import gesture_clips as gc
from paper_utils.world.gestures import FPS, GestureKnobs


@pytest.fixture(scope="module")
def said():
    return gc.sentences(8, seed=0)


def test_a_sentence_sounds_the_same_whatever_is_gestured_to_it(said):
    one, other = (gc.act(said, seed=3, knobs=GestureKnobs(rho=rho)) for rho in (0.0, 1.0))
    again, take = gc.act(said, seed=3, knobs=GestureKnobs(rho=0.0)), gc.act(said, seed=4)
    clips, different = gc.as_clips(said, one), gc.as_clips(said, other)
    assert torch.equal(clips.features[:, :14], different.features[:, :14])
    assert torch.equal(one.motion, again.motion)
    assert np.array_equal(one.body_class, other.body_class)
    assert not torch.equal(one.motion, take.motion)
    assert clips.features.shape == (8 * 88, gc.FEATURES)


def test_onsets_are_the_stressed_vowels_within_the_clip(said):
    for onsets, utterance in zip(said.onsets_s(), said.utterances, strict=True):
        times = np.sort(utterance.beats()[0])
        np.testing.assert_allclose(onsets, times[times < 88 / FPS])
        assert len(onsets) > 2


def test_features_do_not_depend_on_level_or_microphone():
    mel = torch.randn(2, 295, gc.BANDS, generator=torch.Generator().manual_seed(0))
    tilted = mel + 3 + torch.linspace(-1, 1, gc.BANDS)
    plain, other = gc.sound_features(mel, 88), gc.sound_features(tilted, 88)
    torch.testing.assert_close(plain[..., : gc.BANDS], other[..., : gc.BANDS])
    torch.testing.assert_close(plain, gc.sound_features(mel + 5, 88))
    torch.testing.assert_close(plain.mean(1)[:, : gc.BANDS + 1], torch.zeros(2, gc.BANDS + 1), atol=1e-6, rtol=0)


def test_a_recording_is_heard_as_its_acoustics_are(said):
    samples = said.waveform(1)
    heard = gc.recording_features(samples)[:88]
    assert heard.shape == (88, gc.FEATURES)
    assert (heard[:, -gc.CUES :] == 0).all()
    straight = said.sound[1][: len(heard)]
    loud = [np.corrcoef(one[:80, gc.BANDS], other[:80, gc.BANDS])[0, 1] for one, other in ((heard, straight),)]
    assert min(loud) > 0.9


def test_parts_keep_what_belongs_together(said):
    rows = [5, 2]
    part = said.part(rows)
    assert len(part) == 2
    assert torch.equal(part.sound, said.sound[rows])
    assert part.speakers.tolist() == [1, 2]
    assert part.utterances[0] is said.utterances[5]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gc.sentences(0, seed=0), "at least one clip, found 0"),
        (lambda: gc.sound_features(torch.full((10, 12), float("nan")), 3), "expected finite log-mel"),
        (lambda: gc.recording_features(torch.zeros(100)), "at least 0.033 s, found 0.006 s"),
    ],
)
def test_bad_input_names_what_was_found(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_world_mel_has_the_hop_that_the_features_expect():
    assert audio.WORLD_MEL.hop / audio.WORLD_MEL.sample_rate == pytest.approx(gc.HOP_MS / 1000)
