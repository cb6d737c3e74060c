"""The front end of papers 02 and 03: what is cut out, what is done without speech, and the published rule for speech."""

from __future__ import annotations

import sys
import types
from dataclasses import replace

import numpy as np
import pytest
import torch

from paper_utils.audio import SPHINX_MEL
from paper_utils.data.voice_features import FrontEnd, NoSpeechError

RATE = 16_000


def speech(seconds: float) -> np.ndarray:
    """Syllables of a buzz in weak noise: what voice activity takes for speech."""
    time = np.arange(round(seconds * RATE)) / RATE
    buzz = sum(np.sin(2 * np.pi * 120 * k * time) / k for k in range(1, 20))
    noise = np.random.default_rng(0).standard_normal(len(time))
    return 0.1 * buzz * (np.sin(2 * np.pi * 1.5 * time) > 0) + 0.001 * noise


@pytest.mark.parametrize("name", ["chirps_a", "harmonic_a", "short_a", "silence_a"])
def test_features_equal_the_authors(name, reference):
    audio, expected = (np.load(reference / "audio" / f"sphinx_{kind}.npz") for kind in ("audio", "features"))
    features = FrontEnd(activity="none").features(torch.from_numpy(audio[name] / 32768.0))
    once = expected[f"{name}__norm"]
    assert features.shape == (1000, 64)
    np.testing.assert_allclose(features, once[np.arange(1000) % len(once)], rtol=0, atol=2e-5)


def test_pauses_are_cut_out_before_the_recording_is_normalised():
    front_end = FrontEnd(minimum=1)
    samples = torch.from_numpy(np.concatenate([np.zeros(RATE), speech(3.0), np.zeros(RATE)]))
    kept = front_end.speech(samples)
    assert 1.0 * RATE < len(kept) < 3.2 * RATE
    features = front_end.features(samples)
    assert len(features) == SPHINX_MEL.frame_count(len(kept))
    torch.testing.assert_close(features.mean(0), torch.zeros(64, dtype=features.dtype), rtol=0, atol=1e-9)


def test_what_is_done_without_speech_is_the_callers_choice():
    silence = torch.zeros(8000)
    with pytest.raises(
        NoSpeechError,
        match=r"a\.wav: no speech, found 0.00 s of it in 0.50 s \(energy voice activity\), at least 0.3 s are needed; leave .*no_speech='whole'",
    ):
        FrontEnd().features(silence, "a.wav")
    assert torch.equal(FrontEnd(no_speech="whole").features(silence), torch.zeros(1000, 64))


def test_too_little_speech_counts_as_none():
    samples = torch.from_numpy(np.concatenate([np.zeros(RATE), speech(1.0)[: RATE // 3], np.zeros(RATE)]))
    kept = FrontEnd().speech(samples)
    seconds = len(kept) / RATE
    assert 0.3 < seconds < 1
    assert torch.equal(FrontEnd(shortest_s=seconds - 0.01).speech(samples), kept)
    strict = FrontEnd(shortest_s=seconds + 0.01)
    with pytest.raises(NoSpeechError, match=r"recording: no speech, found 0\."):
        strict.speech(samples)
    assert torch.equal(replace(strict, no_speech="whole").speech(samples), samples)


def test_the_published_rule_finds_the_published_segments(monkeypatch, reference):
    # WebRTC's answers, in order, when the rule of paper 03's program asks it about this recording (webrtcvad-wheels 2.0.14, mode 2).
    runs = (
        (False, 1),
        (True, 4),
        (False, 13),
        (True, 75),
        (False, 33),
        (True, 85),
        (False, 17),
        (True, 76),
        (False, 5),
    )
    answers = iter([answer for answer, length in runs for _ in range(length)])

    class Vad:
        def __init__(self, mode):
            assert mode == 2

        def is_speech(self, block, rate):
            assert (len(block), rate) == (640, RATE)
            return next(answers)

    monkeypatch.setitem(sys.modules, "webrtcvad", types.SimpleNamespace(Vad=Vad))
    samples = np.load(reference / "audio" / "sphinx_audio.npz")["harmonic_a"]
    kept = FrontEnd(activity="webrtc").speech(torch.from_numpy(samples / 32768.0))
    assert next(answers, None) is None
    published = ((0, 5), (10, 50), (65, 110), (117, 157))  # frames of 20 ms: the authors' program on this recording
    expected = np.concatenate([samples[first * 320 : last * 320] for first, last in published])
    np.testing.assert_array_equal((kept * 32768).numpy(), expected)


def test_the_published_rule_without_its_package_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "webrtcvad", None)
    with pytest.raises(ModuleNotFoundError, match=r"needs the package webrtcvad-wheels: pip install"):
        FrontEnd(activity="webrtc").features(torch.zeros(1000))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"convention": "mel"}, "convention must be one of sphinx, world, found 'mel'"),
        ({"activity": "loud"}, "activity must be one of energy, webrtc, none, found 'loud'"),
        ({"no_speech": "skip"}, "no_speech must be one of error, whole, found 'skip'"),
        ({"minimum": 0}, "expected minimum >= 1 frame and shortest_s >= 0, found 0 and 0.3"),
        ({"shortest_s": float("nan")}, "found 1000 and nan"),
    ],
)
def test_impossible_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        FrontEnd(**arguments)
