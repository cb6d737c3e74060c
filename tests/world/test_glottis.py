"""Glottal pulses, the sharing of air pressure, and the comb of harmonics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paper_utils.world import glottis


def test_modal_pulse_closes_where_fants_regressions_say():
    timing = glottis.lf_timing(np.array([1.0]))
    assert timing["excitation"][0] == pytest.approx(0.650, abs=5e-4)
    pulse = glottis.lf_pulses(np.array([1.0]))[0]
    assert pulse.argmin() / len(pulse) == pytest.approx(0.650, abs=1e-3)
    assert pulse.min() == pytest.approx(-1, abs=5e-3)  # unit excitation, but for sampling


def test_pulses_carry_no_net_flow_and_turn_positive_only_while_opening():
    table = glottis.lf_table()
    assert np.abs(table.pulse.mean(1)).max() < 1e-6
    peak = (glottis.lf_timing(glottis.RD_GRID)["peak"] * glottis.PULSE_SAMPLES).astype(int)
    for pulse, turn in zip(table.pulse, peak, strict=True):
        assert (pulse[1 : turn - 1] > 0).all()
        assert (pulse[turn + 2 :] <= 1e-12).all()


def test_spectrum_is_that_of_the_repeated_pulse():
    pulse, spectrum = glottis.lf_table().at(1.0)
    harmonics = np.abs(np.fft.rfft(pulse)) / len(pulse)
    np.testing.assert_allclose(spectrum[:: glottis.HARMONIC_STEPS][1:100], harmonics[1:100], rtol=1e-6)


def test_lax_voices_fall_more_steeply():
    tilt = [np.log(s[80] / s[8]) for s in (glottis.lf_table().at(rd)[1] for rd in (0.6, 1.0, 1.8, 2.6))]
    assert np.all(np.diff(tilt) < 0)


def test_shapes_between_grid_points_lie_between_and_outside_hold_the_ends():
    low, high, middle = (glottis.lf_table().at(rd)[1] for rd in (1.0, 1.1, 1.05))
    np.testing.assert_allclose(middle, (low + high) / 2, rtol=1e-9)
    np.testing.assert_allclose(glottis.lf_table().at(9.0)[1], glottis.lf_table().spectrum[-1], rtol=1e-6)


def shares(area_at, glottis_cm2=0.05, velum=0.0, cavity=0.0, noise=1.0, section=38, pressure=8000.0):
    area_at = np.atleast_1d(np.asarray(area_at, dtype=float))
    area = torch.full((len(area_at), 44), 3.0, dtype=torch.float64)
    area[:, section] = torch.as_tensor(area_at)

    def track(value):
        return torch.full((len(area_at),), float(value), dtype=torch.float64)

    return glottis.sources(
        area, track(velum), track(glottis_cm2), track(pressure), cavity=track(cavity), noise=track(noise),
        cutoff=track(1.0), obstacle=torch.full((len(area_at),), 2), least_area=3e-4,
    )  # fmt: skip


def test_an_open_mouth_leaves_all_pressure_to_the_voice():
    assert float(shares(3.0).voice) == pytest.approx(1.0, abs=1e-3)
    assert float(shares(3.0).friction) == 0.0


def test_a_closure_stops_the_voice_unless_the_cavity_grows_or_the_nose_is_open():
    assert float(shares(3e-4).voice) < 1e-4
    assert float(shares(3e-4, cavity=0.45).voice) == pytest.approx(0.45**1.2, rel=1e-3)
    assert float(shares(3e-4, velum=0.6).voice) > 0.98
    assert float(shares(3e-4).friction) == 0.0


@given(st.floats(0.03, 0.3), st.floats(0.0, 0.3))
@settings(max_examples=50, deadline=None)
def test_friction_peaks_between_closed_and_open(opening, velum):
    path = np.linspace(3e-4, 1.0, 200)
    found = shares(path, glottis_cm2=opening, velum=velum, noise=2.0).friction.numpy()
    assert (found >= 0).all()
    assert found[0] == 0
    assert found[-1] == 0
    if velum < 0.1:
        assert 0 < found.argmax() < 199


def test_friction_grows_with_the_gap_of_the_glottis_and_the_pressure():
    assert (
        float(shares(0.1, 0.25).friction)
        > float(shares(0.1, 0.1).friction)
        > float(shares(0.1, 0.1, pressure=4000).friction)
    )


def test_source_sits_downstream_of_the_narrowest_section():
    assert int(shares(0.1, section=38).position) == 38 + 1 + 2
    assert int(shares(0.1, section=43).position) == 44


def test_wide_open_glottis_does_not_swing():
    assert float(shares(3.0, 0.16).voice) == 0.0
    assert float(shares(3.0, 0.25).aspiration) > float(shares(3.0, 0.05).aspiration) > 0


@given(st.floats(70, 400))
@settings(max_examples=30, deadline=None)
def test_comb_has_its_teeth_at_the_harmonics_and_none_at_zero(f0):
    hz = torch.cat([torch.arange(0, 6) * f0, torch.tensor([0.5 * f0])]).double()
    flat = torch.ones(1282, dtype=torch.float64)
    found = glottis.voiced_power(torch.tensor([f0], dtype=torch.float64), hz, flat, width_hz=10.0)[0][0]
    np.testing.assert_allclose(found[1:6], 1.0, atol=1e-9)
    assert float(found[0]) < 1e-9
    assert float(found[6]) < 0.01


def test_comb_matches_the_spectrum_of_a_windowed_voice():
    """A Hann window of 25 ms over a train of LF pulses."""
    pulse, spectrum = glottis.lf_table().at(1.0)
    f0, rate = 200.0, 16_000
    phase = (np.arange(400) * f0 / rate * 4096).astype(int) % 4096
    window = np.hanning(401)[:-1]
    hz = np.fft.rfftfreq(512, 1 / rate)
    true = np.abs(np.fft.rfft(pulse[phase] * window, 512)) ** 2 / window.sum() ** 2
    found = glottis.voiced_power(
        torch.tensor([f0]), torch.tensor(hz).float(), torch.tensor(spectrum**2).float(), width_hz=24.5
    )[0][0]
    near = (np.abs(hz / f0 - np.round(hz / f0)) * f0 < 35) & (hz > 100) & (hz < 3000)
    assert np.abs(10 * np.log10(found.numpy()[near] / true[near])).mean() < 1.0


def test_irregular_pulses_turn_high_harmonics_into_noise_and_keep_the_power():
    f0, flat = torch.tensor([110.0], dtype=torch.float64), torch.ones(1282, dtype=torch.float64)
    hz = torch.linspace(110.0, 7700.0, 6901, dtype=torch.float64)
    regular, nothing = glottis.voiced_power(f0, hz, flat, width_hz=24.5)
    harmonics, noise = glottis.voiced_power(f0, hz, flat, width_hz=24.5, jitter=0.01, shimmer_db=0.25)
    assert float(nothing.abs().max()) == 0
    assert float((harmonics + noise).mean()) == pytest.approx(float(regular.mean()), rel=0.02)
    share = noise / regular.mean()
    assert float(share[0, 0]) < 0.02
    assert float(share[0, -1]) > 0.95
    assert (noise[0].diff() >= 0).all()
