"""Energy voice activity finds planted speech whatever its level, and nothing where nobody speaks."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paper_utils.audio_activity import (
    EnergyVad,
    collect_speech,
    energy_vad,
    speech_frames,
    take_segments,
    webrtc_vad,
)

RATE = 16_000
PLANTED = ((0.6, 1.3), (2.2, 2.6), (3.7, 4.6))  # seconds
SECONDS = 6


def coloured_noise(rng, colour, samples):
    white = rng.standard_normal(samples)
    if colour == "white":
        return white
    spectrum = np.fft.rfft(white)
    pink = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 1)), samples)
    return pink / pink.std()


def vowel(rng, seconds, rate):
    """Harmonics under three formants, with the rise, fall and syllable rhythm of speech; power 1."""
    count = round(seconds * rate)
    time = np.arange(count) / rate
    phase = 2 * np.pi * np.cumsum(120 + 20 * np.sin(2 * np.pi * 1.3 * time + rng.uniform(0, 6))) / rate
    formants = (*((300, 2200), (700, 1200), (500, 1500))[rng.integers(3)], 2500)
    harmonics = np.arange(1, min(32, rate // 300))[:, None]
    strength = sum(1 / (1 + ((harmonics * 120 - formant) / 80) ** 2) for formant in formants)
    envelope = np.clip(3 * np.sin(np.pi * time / time[-1]), 0, 1) * (0.65 + 0.35 * np.cos(8 * np.pi * time))
    sound = (strength * np.sin(harmonics * phase)).sum(0) * envelope
    return sound / np.sqrt(np.mean(sound**2))


def planted(seed, snr_db, colour="white", rate=RATE):
    rng = np.random.default_rng(seed)
    samples = coloured_noise(rng, colour, SECONDS * rate)
    for start, end in PLANTED:
        first = round(start * rate)
        speech = vowel(rng, end - start, rate)
        samples[first : first + len(speech)] += speech * 10 ** (snr_db / 20)
    return torch.from_numpy(0.01 * samples)


def mask(segments):
    times = (np.arange(SECONDS * 1000) + 0.5) / 1000
    return np.any([(times >= start) & (times < end) for start, end in segments], axis=0)


@pytest.mark.parametrize("colour", ["white", "pink"])
@pytest.mark.parametrize("snr_db", [30, 20, 10, 5])
@pytest.mark.parametrize("rate", [8000, 16_000, 44_100])
def test_planted_speech_is_found(colour, snr_db, rate):
    for seed in range(3):
        segments = energy_vad(planted(seed, snr_db, colour, rate), rate)
        assert len(segments) == len(PLANTED)
        for (start, end), (true_start, true_end) in zip(segments, PLANTED, strict=True):
            assert true_start - 0.15 <= start <= true_start + 0.02
            assert true_end - 0.02 <= end <= true_end + 0.15


def test_most_of_speech_as_loud_as_the_noise_is_found():
    truth = mask(PLANTED)
    found = np.stack([mask(energy_vad(planted(seed, 0.0), RATE)) for seed in range(6)])
    assert found[:, truth].mean() > 0.85
    assert found[:, ~truth].mean() < 0.1


@pytest.mark.parametrize("colour", ["white", "pink"])
@pytest.mark.parametrize("seconds", [1, 4, 15])
def test_nobody_speaks_in_steady_noise(colour, seconds):
    for seed in range(5):
        noise = coloured_noise(np.random.default_rng(seed), colour, seconds * RATE)
        assert energy_vad(torch.from_numpy(0.05 * noise).float(), RATE) == []


@pytest.mark.parametrize(
    "samples",
    [
        torch.zeros(16_000),
        torch.zeros(1),
        torch.full((16_000,), 0.3),
        0.1 * torch.sin(2 * math.pi * 440 / RATE * torch.arange(16_000).double()),
        0.1 * torch.ones(300),
    ],
    ids=["silence", "one sample", "constant", "steady tone", "shorter than a window"],
)
def test_nobody_speaks_where_nothing_changes(samples):
    assert energy_vad(samples, RATE) == []
    assert not speech_frames(samples, RATE).any()


def test_click_is_no_speech():
    samples = planted(0, -100.0)
    samples[30_000:30_040] += 0.5
    assert energy_vad(samples, RATE) == []


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), gain_db=st.floats(-160, 40))
def test_gain_changes_nothing(seed, gain_db):
    samples = planted(seed, 10.0)
    assert energy_vad(samples * 10 ** (gain_db / 20), RATE) == energy_vad(samples, RATE)


def test_constant_offset_changes_nothing():
    samples = 0.01 * planted(5, 20.0)
    np.testing.assert_allclose(energy_vad(samples + 0.9, RATE), energy_vad(samples, RATE), atol=0.011)


@pytest.mark.parametrize(("rise_db", "count"), [(1.5, 0), (3.5, 0), (8.0, 1)])
def test_a_stretch_must_once_rise_well_above_the_noise(rise_db, count):
    samples = 0.01 * torch.from_numpy(np.random.default_rng(6).standard_normal(4 * RATE))
    samples[RATE : 2 * RATE] *= 10 ** (rise_db / 20)
    assert len(energy_vad(samples, RATE)) == count


def test_what_is_far_below_the_loudest_is_no_speech():
    samples = 1e-5 * torch.from_numpy(np.random.default_rng(7).standard_normal(4 * RATE))
    samples[RATE : 2 * RATE] *= 1e4
    samples[3 * RATE : 7 * RATE // 2] *= 30  # 30 dB above the noise, 50 dB below the loudest
    assert len(energy_vad(samples, RATE)) == 1
    assert len(energy_vad(samples, RATE, EnergyVad(range_db=60.0))) == 2


@pytest.mark.parametrize("snr_db", [20, 10])
def test_digital_silence_around_the_recording_does_not_move_the_noise_floor(snr_db):
    samples = planted(1, snr_db)
    padded = torch.cat([torch.zeros(4 * RATE), samples, torch.zeros(4 * RATE)])
    shifted = [(start + 4, end + 4) for start, end in energy_vad(samples, RATE)]
    found = energy_vad(padded, RATE)
    np.testing.assert_allclose(found, shifted, atol=0.011)


def test_real_digits_are_found_between_noise(spoken_digits):
    digits = [digit["audio"] / 32768.0 for digit in spoken_digits.values()]
    rng = np.random.default_rng(31)
    parts, truth, at = [], [], 0
    for digit in digits:
        parts += [np.zeros(8000), digit]
        truth.append((at + 8000, at + 8000 + len(digit)))
        at += 8000 + len(digit)
    samples = np.concatenate([*parts, np.zeros(8000)])
    samples += 6e-4 * rng.standard_normal(len(samples))  # 20 of 32768
    segments = energy_vad(torch.from_numpy(samples), RATE)
    assert len(segments) == 3
    for (start, end), (first, last) in zip(segments, truth, strict=True):
        covered = min(end * RATE, last) - max(start * RATE, first)
        assert covered / (last - first) > 0.8
        assert start * RATE > first - 0.15 * RATE
        assert end * RATE < last + 0.15 * RATE


def test_segments_are_the_runs_of_the_frame_mask():
    samples = planted(2, 20.0)
    frames = speech_frames(samples, RATE).numpy()
    assert len(frames) == 1 + len(samples) // 160
    centres = np.arange(len(frames)) * 0.01
    inside = np.any([(centres >= start) & (centres < end) for start, end in energy_vad(samples, RATE)], axis=0)
    np.testing.assert_array_equal(inside, frames)


def test_speech_that_runs_to_both_ends_is_kept_whole():
    samples = planted(3, 30.0)[round(0.7 * RATE) : round(4.4 * RATE) + 150]
    segments = energy_vad(samples, RATE)
    assert segments[0][0] == 0.0
    assert segments[-1][1] == len(samples) / RATE


def test_longer_hangover_joins_neighbours():
    samples = planted(4, 20.0)
    joined = energy_vad(samples, RATE, dataclasses.replace(EnergyVad(), hangover_ms=600))
    assert len(joined) == 1
    assert len(energy_vad(samples, RATE)) == 3


def test_segments_are_taken_one_after_the_other():
    samples = torch.arange(100.0)
    assert take_segments(samples, 10, [(0.0, 0.3), (9.5, 10.0)]).tolist() == [0, 1, 2, 95, 96, 97, 98, 99]


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        ([], "there are none"),
        ([(0.0, 1.0), (9.0, 10.5)], r"\(9\.0, 10\.5\) does not lie"),
        ([(2.0, 2.0)], "does not lie"),
    ],
)
def test_segments_outside_the_recording_are_refused(segments, message):
    with pytest.raises(ValueError, match=message):
        take_segments(torch.zeros(100), 10, segments)


@pytest.mark.parametrize(
    ("samples", "rate", "message"),
    [
        (torch.zeros(0), RATE, "at least one sample"),
        (torch.tensor([0.0, math.nan, 0.1]), RATE, "1 of 3 values are NaN"),
        (torch.rand(1000), 300, "low_hz < high_hz"),
    ],
)
def test_bad_recordings_are_refused(samples, rate, message):
    with pytest.raises(ValueError, match=message):
        energy_vad(samples, rate)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hop_ms": 0.0}, "0 < hop_ms"),
        ({"smooth_frames": 4}, "odd smooth_frames"),
        ({"keep_db": 8.0}, "keep_db <= open_db"),
        ({"floor_percentile": 100.0}, "floor_percentile < 100"),
    ],
)
def test_settings_that_contradict_themselves_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(EnergyVad(), **changes)


@pytest.mark.parametrize(
    ("speech", "stretches"),
    [
        ("0000", []),
        ("1", []),
        ("11", [(0, 2)]),
        ("0110100", [(1, 7)]),  # one silent frame closes nothing; the two that close belong to the stretch
        ("11000011", [(0, 4), (6, 8)]),
        ("1101", [(0, 4)]),  # open at the end
    ],
)
def test_a_stretch_opens_with_two_frames_of_speech_and_closes_with_two_without(speech, stretches):
    assert collect_speech(len(speech), lambda frame: speech[frame] == "1") == stretches


def test_the_collector_asks_about_most_frames_twice():
    asked = []
    collect_speech(5, lambda frame: asked.append(frame) or False)
    assert asked == [0, 0, 1, 1, 2, 2, 3, 3, 4]


def test_webrtc_stretches_equal_those_of_the_published_program(reference):
    webrtcvad = pytest.importorskip("webrtcvad", reason="the extra 'vad' is not installed")
    expected = np.load(reference / "voice_to_face" / "vad_harmonic.npz")
    with np.load(reference / "audio" / "sphinx_audio.npz") as arrays:
        samples = arrays["harmonic_a"]
    found = [(round(start / 0.02), round(end / 0.02)) for start, end in webrtc_vad(torch.from_numpy(samples / 32768.0))]
    assert found == [tuple(segment) for segment in expected["segments"].tolist()]
    detector = webrtcvad.Vad(2)
    frames = samples[: 159 * 320].reshape(159, 320)
    assert [detector.is_speech(f.tobytes(), RATE) for f in frames] == expected["single_pass"].tolist()


@pytest.mark.parametrize("name", ["3_jackson_7", "7_nicolas_12", "9_theo_21"])
def test_webrtc_stretches_of_spoken_digits_equal_those_of_the_published_program(name, spoken_digits):
    pytest.importorskip("webrtcvad", reason="the extra 'vad' is not installed")
    samples, expected = spoken_digits[name]["audio"], spoken_digits[name]["segments"]
    found = [(round(start / 0.02), round(end / 0.02)) for start, end in webrtc_vad(torch.from_numpy(samples / 32768.0))]
    assert found == [tuple(segment) for segment in expected.tolist()]


@pytest.mark.parametrize(
    ("samples", "arguments", "message"),
    [
        (torch.zeros(RATE), {"sample_rate": 44_100}, "found 44100 Hz"),
        (torch.zeros(RATE), {"mode": 4}, "mode 0 to 3"),
        (torch.zeros(0), {}, "at least one"),
        (torch.tensor([math.nan]), {}, "all finite"),
    ],
)
def test_what_webrtc_cannot_hear_is_refused(samples, arguments, message):
    with pytest.raises(ValueError, match=message):
        webrtc_vad(samples, **arguments)
