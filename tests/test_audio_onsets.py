"""Onsets of sound: equal to librosa's, found where clicks are planted, none in silence."""

from __future__ import annotations

import dataclasses

import librosa
import numpy as np
import pytest
import torch

from paper_utils.audio_onsets import ONSET_MEL, onset_strength, onsets_s


def clicks(at, seconds=3.0, noise=1e-3, seed=0):
    """Decaying noise bursts at known times over a little noise."""
    rng = np.random.default_rng(seed)
    samples = noise * rng.standard_normal(round(16_000 * seconds))
    for time in at:
        begin = round(16_000 * time)
        length = min(1600, len(samples) - begin)
        samples[begin : begin + length] += 0.3 * rng.standard_normal(length) * np.exp(-np.arange(length) / 300)
    return torch.from_numpy(samples.clip(-1, 1))


@pytest.mark.parametrize("hop", [512, 160])
@pytest.mark.parametrize("seed", range(3))
def test_strength_and_onsets_are_those_of_librosa(hop, seed):
    rng = np.random.default_rng(seed)
    samples = clicks(np.sort(rng.uniform(0, 2.9, 7)), noise=10.0 ** -rng.integers(2, 5), seed=seed)
    mel = dataclasses.replace(ONSET_MEL, hop=hop)
    expected = librosa.onset.onset_strength(y=samples.numpy(), sr=16_000, hop_length=hop)
    np.testing.assert_allclose(onset_strength(samples, mel), expected, atol=1e-3)
    found = librosa.onset.onset_detect(y=samples.numpy(), sr=16_000, hop_length=hop, units="time")
    np.testing.assert_allclose(onsets_s(samples, mel), found)
    assert len(found)


def test_planted_clicks_are_found_within_a_frame():
    at = np.array([0.5, 1.1, 2.0])
    found = onsets_s(clicks(at))
    assert np.abs(found[:, None] - at).min(0).max() <= 2 * 512 / 16_000


def test_silence_has_no_onset():
    assert onsets_s(torch.zeros(16_000)).shape == (0,)


def test_numbers_that_are_none_are_refused():
    with pytest.raises(ValueError, match="values are NaN or infinite"):
        onsets_s(torch.full((16_000,), float("nan")))
