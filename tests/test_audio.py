"""Features agree with the programs of the papers and with librosa, and behave as energies must."""

from __future__ import annotations

import dataclasses
import inspect
import json
import math

import numpy as np
import pytest
import scipy.fft
import scipy.signal
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paper_utils import audio
from paper_utils.audio import MESHTALK_MEL, SPHINX_MEL, TALKSHOW_MEL, VISAGE_MEL, WORLD_MEL, LogMel

NAMED = {
    "world": WORLD_MEL,
    "sphinx": SPHINX_MEL,
    "meshtalk": MESHTALK_MEL,
    "talkshow": TALKSHOW_MEL,
    "visage": VISAGE_MEL,
}
CENTRED = {name: config for name, config in NAMED.items() if config.framing != "cyclic"}
RECORDINGS = ("chirps_a", "harmonic_a", "short_a", "silence_a")
DIGITS = ("3_jackson_7", "7_nicolas_12", "9_theo_21")
SMALL = LogMel(sample_rate=8000, n_fft=64, window_length=50, hop=20, bands=6)
seeds = st.integers(0, 2**32 - 1)


def load(path):
    with np.load(path) as arrays:
        return {name: arrays[name] for name in arrays.files}


@pytest.fixture(scope="module")
def folder(request):
    return request.config.rootpath / "tests" / "reference" / "audio"


@pytest.fixture(scope="module")
def sphinx(folder):
    return load(folder / "sphinx_features.npz")


@pytest.fixture(scope="module")
def recordings(folder):
    return {
        name: torch.from_numpy(samples / 32768.0)[None] for name, samples in load(folder / "sphinx_audio.npz").items()
    }


@pytest.fixture(scope="module")
def meshtalk(folder):
    return load(folder / "meshtalk.npz")


@pytest.fixture(scope="module")
def talkshow(folder):
    return load(folder / "talkshow_mfcc.npz")


def noise(seed, *shape, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype) * 0.1


# Papers 02 and 03


@pytest.mark.parametrize("name", RECORDINGS)
def test_sphinx_log_mel_equals_the_authors(name, sphinx, recordings):
    expected = sphinx[f"{name}__raw"]
    np.testing.assert_allclose(audio.log_mel(recordings[name], SPHINX_MEL)[0], expected, rtol=0, atol=1e-6)
    single = audio.log_mel(recordings[name].float(), SPHINX_MEL)
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single[0], expected, rtol=0, atol=1.1e-4)


@pytest.mark.parametrize("name", RECORDINGS)
def test_normalised_sphinx_features_equal_the_authors(name, sphinx, recordings):
    for features, tolerance in (
        (audio.log_mel(recordings[name], SPHINX_MEL).float(), 1e-5),
        (audio.log_mel(recordings[name].float(), SPHINX_MEL), 1e-3),
    ):
        np.testing.assert_allclose(
            audio.normalise_recording(features)[0], sphinx[f"{name}__norm"], rtol=0, atol=tolerance
        )


@pytest.mark.parametrize("name", RECORDINGS)
def test_repeated_sphinx_features_equal_the_authors(name, folder, recordings):
    expected = json.loads((folder / "sphinx_final.json").read_text())[name]
    features = audio.repeat_frames(audio.normalise_recording(audio.log_mel(recordings[name], SPHINX_MEL).float()))[0]
    assert list(features.shape) == expected["final_shape"]
    assert float(features.double().sum()) == pytest.approx(expected["final_sum"], abs=2e-2)
    assert float(features.double().square().sum()) == pytest.approx(expected["final_sumsq"], rel=1e-6)
    np.testing.assert_allclose(features[999, :4], expected["final_row_999_first4"], atol=1e-5)


@pytest.mark.parametrize("name", DIGITS)
def test_features_of_spoken_digits_equal_the_authors(name, spoken_digits):
    digit = spoken_digits[name]
    raw = audio.log_mel(torch.from_numpy(digit["audio"] / 32768.0)[None], SPHINX_MEL)
    np.testing.assert_allclose(raw[0], digit["raw"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(audio.normalise_recording(raw.float())[0], digit["norm"], rtol=0, atol=1e-5)


def test_silence_is_exactly_the_floor_and_exactly_zero(recordings):
    raw = audio.log_mel(recordings["silence_a"], SPHINX_MEL)
    assert (raw == math.log(1e-5)).all()
    assert (audio.normalise_recording(raw.float()) == 0).all()


@settings(max_examples=30, deadline=None)
@given(value=st.floats(-30, 30, width=32), frames=st.integers(1, 400))
def test_band_that_never_changes_is_normalised_to_exactly_zero(value, frames):
    assert (audio.normalise_recording(torch.full((1, frames, 2), value)) == 0).all()


def test_carry_goes_on_where_the_recording_before_ended(sphinx, recordings):
    carry = audio.last_framed_sample(recordings["chirps_a"])
    second = audio.log_mel(recordings["harmonic_a"], SPHINX_MEL, carry=carry)[0]
    np.testing.assert_allclose(second[:2], sphinx["carry__second_call_rows0_1"], rtol=0, atol=1e-6)
    fresh = audio.log_mel(recordings["harmonic_a"], SPHINX_MEL)[0]
    assert float((second[0] - fresh[0]).abs().max()) == pytest.approx(4.250964576857295, abs=1e-6)
    assert torch.equal(second[1:], fresh[1:])


def test_long_recording_stays_whole(sphinx, recordings):
    features = audio.normalise_recording(audio.log_mel(recordings["harmonic_a"].repeat(1, 4), SPHINX_MEL).float())
    features = audio.repeat_frames(features)[0]
    assert len(features) == 1281
    np.testing.assert_allclose(features[::50], sphinx["tile4_harmonic__norm_every50"], rtol=0, atol=2e-5)


def test_sphinx_filters_equal_the_authors(sphinx):
    np.testing.assert_allclose(SPHINX_MEL.filters(), sphinx["filters"], rtol=0, atol=1e-15)


# Paper 04


def test_meshtalk_filters_and_log_mel_equal_the_authors(meshtalk):
    np.testing.assert_allclose(MESHTALK_MEL.filters(), meshtalk["filters"], rtol=0, atol=1e-5)
    features = audio.log_mel(torch.from_numpy(meshtalk["wave"]), MESHTALK_MEL).transpose(1, 2)
    np.testing.assert_allclose(features, meshtalk["log_mel"], rtol=0, atol=1e-4)


def test_video_windows_equal_the_authors(meshtalk):
    for samples, fps, length, count, *expected in meshtalk["chunk_rows"].tolist():
        ramp = torch.arange(1, samples + 1, dtype=torch.float64)[None]
        if count == -1:
            with pytest.raises(ValueError, match="more than one video frame"):
                audio.video_windows(ramp, fps=fps, length=length)
            continue
        windows = audio.video_windows(ramp, fps=fps, length=length)[0]
        first, last = windows[0], windows[-1]
        found = [int(first[length // 2]), int(last[length // 2]), int((first == 0).sum()), int((last == 0).sum())]
        assert (len(windows), found) == (count, expected)


def test_video_window_is_centred_where_the_documentation_says():
    ramp = torch.arange(20_000, dtype=torch.float64)[None]
    windows = audio.video_windows(ramp, fps=30)[0]
    step, length = 533, 16_000
    centres = torch.arange(len(windows)) * step + length // 2 - (length - step) // 2
    assert torch.equal(windows[:, length // 2].long(), centres)


@pytest.mark.parametrize("fps", [0, -25, 20_000])
def test_video_windows_refuse_a_rate_without_frames(fps):
    with pytest.raises(ValueError, match=f"fps: .*found {fps} fps"):
        audio.video_windows(torch.zeros(1, 16_000), fps=fps)


def test_loudness_is_set_and_silence_stays():
    scaled = audio.scale_loudness(torch.cat([noise(0, 2, 500), torch.zeros(1, 500)]))
    np.testing.assert_allclose(scaled.abs().mean(1), [0.01, 0.01, 0.0])


# Paper 08


def test_talkshow_mel_and_mfcc_equal_torchaudio(talkshow):
    wave = torch.from_numpy(talkshow["wave"])[None]
    energies = audio.mel_energies(wave, TALKSHOW_MEL)[0]
    np.testing.assert_allclose(energies, talkshow["mel_power_T256"], rtol=1e-4, atol=1e-7)
    coefficients = audio.mfcc(wave)[0]
    assert coefficients.shape == (30, 64)
    np.testing.assert_allclose(coefficients, talkshow["mfcc_T64"], rtol=0, atol=1e-3)


def test_ten_seconds_are_three_hundred_talkshow_frames():
    assert TALKSHOW_MEL.frame_count(220_000) == 300


def test_mfcc_is_the_orthonormal_cosine_transform_of_the_log_mel():
    samples = noise(1, 2, 4000)
    expected = scipy.fft.dct(audio.log_mel(samples, WORLD_MEL).numpy(), type=2, norm="ortho", axis=-1)
    np.testing.assert_allclose(audio.mfcc(samples, WORLD_MEL, coefficients=64), expected, atol=1e-10)
    np.testing.assert_allclose(audio.mfcc(samples, WORLD_MEL, coefficients=13), expected[..., :13], atol=1e-10)


@pytest.mark.parametrize("coefficients", [0, 65])
def test_mfcc_refuses_more_coefficients_than_bands(coefficients):
    with pytest.raises(ValueError, match=f"expected 1 to 64 .*found {coefficients}"):
        audio.mfcc(noise(0, 1, 4000), WORLD_MEL, coefficients=coefficients)


# Against librosa and PyTorch


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("htk", WORLD_MEL),
        (
            "slaney",
            LogMel(
                n_fft=1024, bands=80, low_hz=50, high_hz=7600, scale="slaney", norm="area", framing="centred_reflect"
            ),
        ),
    ],
)
def test_energies_equal_librosa(name, config, folder, recordings):
    expected = load(folder / "librosa_mel.npz")[name]
    samples = recordings["chirps_a"][:, :8000]
    np.testing.assert_allclose(audio.mel_energies(samples, config)[0], expected, rtol=1e-9)
    np.testing.assert_allclose(audio.log_mel(samples.float(), config)[0], np.log(expected), rtol=0, atol=2e-3)


@pytest.mark.parametrize("scale", ["htk", "slaney"])
@pytest.mark.parametrize("norm", [None, "area"])
@pytest.mark.parametrize(
    ("rate", "n_fft", "bands", "low", "high"),
    [(16_000, 512, 40, 0.0, 8000.0), (22_050, 2048, 128, 30.0, 9000.0), (8000, 256, 20, 300.0, 3400.0)],
)
def test_filters_equal_librosa(scale, norm, rate, n_fft, bands, low, high):
    librosa = pytest.importorskip("librosa")
    expected = librosa.filters.mel(
        sr=rate,
        n_fft=n_fft,
        n_mels=bands,
        fmin=low,
        fmax=high,
        htk=scale == "htk",
        norm="slaney" if norm else None,
        dtype=np.float64,
    ).T
    found = audio.mel_filterbank(rate, n_fft, bands, low_hz=low, high_hz=high, scale=scale, norm=norm)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", CENTRED)
def test_blocks_give_what_one_stft_gives(name):
    config = CENTRED[name]
    samples = noise(2, 2, 40_000)
    spectrum = torch.stft(
        samples,
        config.n_fft,
        config.hop,
        config.window_length,
        torch.hann_window(config.window_length, dtype=torch.float64),
        center=True,
        pad_mode="reflect" if config.framing == "centred_reflect" else "constant",
        return_complex=True,
    )
    expected = (spectrum.abs().square().transpose(1, 2) @ config.filters()).clamp(min=1e-10).log()
    if config.log == "db":
        expected *= 10 / math.log(10)
    torch.testing.assert_close(audio.log_mel(samples, config), expected, rtol=0, atol=1e-8)


def test_decibels_reach_down_no_further_than_asked():
    samples = torch.cat([noise(3, 1, 8000), torch.zeros(1, 8000)], 1)
    config = dataclasses.replace(WORLD_MEL, log="db", top_db=30.0)
    free = audio.log_mel(samples, dataclasses.replace(config, top_db=None))
    assert float(free.min()) == -100
    limited = audio.log_mel(samples, config)
    torch.testing.assert_close(limited, free.clamp(min=float(free.max()) - 30))
    loud_and_soft = torch.cat([samples, samples * 1e-2])
    torch.testing.assert_close(audio.log_mel(loud_and_soft, config)[1], limited[0] - 40)


# Paper 10


def test_standardised_frames_forget_level_and_nothing_else():
    samples = noise(4, 1, 20_000)
    features = audio.standardise_frames(audio.log_mel(samples, VISAGE_MEL))
    torch.testing.assert_close(features.mean(2), torch.zeros(1, features.shape[1], dtype=torch.float64))
    ones = torch.ones(1, features.shape[1], dtype=torch.float64)
    torch.testing.assert_close(
        features.std(2, correction=0), ones, rtol=0, atol=1e-6
    )  # the published 1e-6 below the line
    louder = audio.standardise_frames(audio.log_mel(samples * 7, VISAGE_MEL))
    torch.testing.assert_close(louder, features)


def test_frames_are_cut_or_filled_with_zeros():
    features = torch.arange(1, 11).float().reshape(1, 5, 2)
    assert torch.equal(audio.fit_frames(features, 3), features[:, :3])
    filled = audio.fit_frames(features, 8)
    assert filled.shape == (1, 8, 2)
    assert torch.equal(filled[:, :5], features)
    assert (filled[:, 5:] == 0).all()
    with pytest.raises(ValueError, match="frames: expected at least 1"):
        audio.fit_frames(features, 0)


def test_short_recordings_are_repeated_from_their_start():
    features = torch.arange(3).float().reshape(1, 3, 1)
    assert audio.repeat_frames(features, 7).flatten().tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert torch.equal(audio.repeat_frames(features, 2), features)
    with pytest.raises(ValueError, match="at least one frame"):
        audio.repeat_frames(torch.zeros(1, 0, 4))


def test_deltas_are_the_slope_of_the_least_squares_line():
    ramp = 3.0 * torch.arange(20, dtype=torch.float64)[None, :, None]
    torch.testing.assert_close(audio.deltas(ramp)[:, 2:-2], torch.full((1, 16, 1), 3.0, dtype=torch.float64))
    features = noise(5, 2, 30, 4)
    expected = scipy.signal.savgol_filter(features.numpy(), 7, 1, deriv=1, axis=1, mode="nearest")
    np.testing.assert_allclose(audio.deltas(features, half_width=3), expected, atol=1e-12)
    assert audio.deltas(features[:, :1]).abs().max() < 1e-15
    with pytest.raises(ValueError, match="half_width"):
        audio.deltas(features, half_width=0)


# Properties


@pytest.mark.parametrize("name", NAMED)
@settings(max_examples=15, deadline=None)
@given(seed=seeds, hops=st.integers(1, 4))
def test_delay_by_hops_delays_frames(name, seed, hops):
    config = NAMED[name]
    samples = noise(seed, 1, 6 * config.n_fft)
    delayed = torch.nn.functional.pad(samples, (hops * config.hop, 0))
    edge = config.n_fft // config.hop + 1  # frames that see the mirrored or repeated ends
    early, late = audio.mel_energies(samples, config), audio.mel_energies(delayed, config)
    torch.testing.assert_close(late[:, hops:][:, edge:-edge], early[:, edge:-edge])


@pytest.mark.parametrize("name", NAMED)
@settings(max_examples=15, deadline=None)
@given(seed=seeds, gain_db=st.floats(-20, 20))
def test_gain_adds_a_constant_to_the_log(name, seed, gain_db):
    config = NAMED[name]
    samples = noise(seed, 2, 3000)
    step = gain_db if config.log == "db" else gain_db / 10 * math.log(10)
    louder = audio.log_mel(samples * 10 ** (gain_db / 20), config)
    torch.testing.assert_close(louder, audio.log_mel(samples, config) + step, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", NAMED)
@settings(max_examples=15, deadline=None)
@given(seed=seeds)
def test_energies_obey_the_parallelogram_law(name, seed):
    first, second = noise(seed, 2, 1, 3000)
    energies = lambda samples: audio.mel_energies(samples, NAMED[name])  # noqa: E731
    torch.testing.assert_close(
        energies(first + second) + energies(first - second), 2 * (energies(first) + energies(second)), rtol=1e-9, atol=0
    )


@pytest.mark.parametrize("name", NAMED)
@settings(max_examples=4, deadline=None)
@given(seed=seeds, samples=st.integers(1100, 5000))
def test_batch_equals_single_and_float32_equals_float64(name, seed, samples):
    batch = noise(seed, 3, samples)
    features = audio.log_mel(batch, NAMED[name])
    assert features.shape == (3, NAMED[name].frame_count(samples), NAMED[name].bands)
    torch.testing.assert_close(features[1:2], audio.log_mel(batch[1:2], NAMED[name]), rtol=0, atol=1e-9)
    scale = 10 / math.log(10) if NAMED[name].log == "db" else 1.0
    single = audio.log_mel(batch.float(), NAMED[name]).double()
    torch.testing.assert_close(single, audio.log_mel(batch.float().double(), NAMED[name]), rtol=0, atol=2e-3 * scale)


@pytest.mark.parametrize("framing", ["centred_zeros", "centred_reflect", "cyclic"])
@pytest.mark.parametrize("samples", [1, 19, 20, 21, 40, 50, 51, 163])
def test_any_length_gives_its_frames_or_a_clear_error(framing, samples):
    config = dataclasses.replace(SMALL, framing=framing)
    if framing == "centred_reflect" and samples <= 25:
        with pytest.raises(ValueError, match=f"mirroring .*found {samples}"):
            audio.log_mel(noise(6, 1, samples), config)
    else:
        assert audio.log_mel(noise(6, 1, samples), config).shape[1] == config.frame_count(samples) == 1 + samples // 20


@pytest.mark.parametrize("framing", ["centred_zeros", "cyclic"])
def test_click_is_loudest_in_the_frame_whose_time_is_nearest(framing):
    config = dataclasses.replace(WORLD_MEL, framing=framing)
    for at in (3000, 8123, 12_345):
        samples = torch.zeros(1, 16_000, dtype=torch.float64)
        samples[0, at] = 1.0
        energy = audio.mel_energies(samples, config)[0].sum(1)
        times = config.frame_times_s(len(energy))
        assert abs(float(times[energy.argmax()]) - at / 16_000) <= config.hop_ms / 2000 + 1e-9


def test_a_tone_lands_in_the_band_around_it():
    for scale in ("htk", "slaney"):
        config = dataclasses.replace(WORLD_MEL, scale=scale)
        edges = audio.mel_edges_hz(64, high_hz=8000.0, scale=scale)
        for hertz in (300.0, 999.0, 1001.0, 5000.0):
            tone = torch.sin(2 * math.pi * hertz / 16_000 * torch.arange(8000, dtype=torch.float64))[None]
            band = int(audio.mel_energies(tone, config)[0].sum(0).argmax())
            assert edges[band] < hertz < edges[band + 2]


# Gradients, precision, devices


@pytest.mark.parametrize("framing", ["centred_zeros", "centred_reflect", "cyclic"])
def test_log_mel_gradient_is_that_of_finite_differences(framing):
    config = dataclasses.replace(SMALL, framing=framing, pre_emphasis=0.97 if framing == "cyclic" else 0.0)
    samples = noise(7, 1, 90).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: audio.log_mel(x, config), (samples,))


def test_gradients_are_finite_in_silence():
    samples = torch.zeros(1, 4000, requires_grad=True)
    audio.normalise_recording(audio.log_mel(samples, SPHINX_MEL)).sum().backward()
    assert (samples.grad == 0).all()


def test_mixed_precision_does_not_touch_the_features():
    samples = noise(8, 1, 4000, dtype=torch.float32)
    expected = audio.mfcc(samples, WORLD_MEL, coefficients=20)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = audio.mfcc(samples, WORLD_MEL, coefficients=20)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_half_precision_samples_are_computed_in_float32():
    samples = noise(9, 1, 4000).half()
    torch.testing.assert_close(audio.log_mel(samples), audio.log_mel(samples.float()), rtol=0, atol=0)


def test_a_convention_first_used_in_inference_mode_still_trains():
    config = dataclasses.replace(SMALL, bands=5)  # used nowhere else, so nothing of it is kept
    with torch.inference_mode():
        audio.log_mel(noise(10, 1, 200), config)
    samples = noise(10, 1, 200).requires_grad_()
    audio.log_mel(samples, config).sum().backward()
    assert samples.grad.abs().sum() > 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", NAMED)
def test_gpu_equals_cpu(name):
    samples = noise(11, 4, 20_000)
    found = audio.log_mel(samples.cuda(), NAMED[name])
    assert found.is_cuda
    torch.testing.assert_close(found.cpu(), audio.log_mel(samples, NAMED[name]), rtol=0, atol=1e-8)
    single = audio.log_mel(samples.cuda().float(), NAMED[name])
    torch.testing.assert_close(single.cpu(), audio.log_mel(samples, NAMED[name]).float(), rtol=0, atol=1e-2)


# Faults


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_samples_that_are_not_finite_are_counted(bad):
    samples = noise(12, 2, 1000)
    samples[1, [3, 500]] = bad
    with pytest.raises(ValueError, match="2 of 2000 values are NaN or infinite"):
        audio.log_mel(samples)


def test_infinities_of_both_signs_do_not_hide_each_other():
    samples = torch.zeros(1, 100)
    samples[0, 0], samples[0, 1] = math.inf, -math.inf
    with pytest.raises(ValueError, match="2 of 100"):
        audio.log_mel(samples)


@pytest.mark.parametrize("shape", [(1, 0), (0, 100)])
def test_no_samples_are_refused(shape):
    with pytest.raises(ValueError, match="at least one sample"):
        audio.log_mel(torch.zeros(shape))


def test_integers_are_refused():
    unchecked = inspect.unwrap(audio.mel_energies)  # without the tests' own type check
    with pytest.raises(ValueError, match=r"found torch\.int16; divide 16-bit integers by 32768"):
        unchecked(torch.ones(1, 1000, dtype=torch.int16))


def test_carry_without_pre_emphasis_is_refused():
    with pytest.raises(ValueError, match=r"carry: .*no pre-emphasis"):
        audio.log_mel(noise(0, 1, 1000), WORLD_MEL, carry=torch.zeros(1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hop": 0}, "must be positive"),
        ({"window_length": 513}, "window_length <= n_fft"),
        ({"floor": 0.0}, "floor and input_scale"),
        ({"pre_emphasis": 0.97}, "belongs to framing 'cyclic'"),
        ({"top_db": 80.0}, "needs log='db'"),
    ],
)
def test_conventions_that_contradict_themselves_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(WORLD_MEL, **changes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bands": 200}, "200 bands catch no bin"),
        ({"bands": 200, "round_edges": True}, "rounded to the bins .* coincide"),
        ({"bands": 0}, "bands >= 1"),
        ({"bands": 20, "high_hz": 9000.0}, "<= 8000 Hz"),
        ({"bands": 20, "low_hz": 5000.0, "high_hz": 4000.0}, "low_hz < high_hz"),
    ],
)
def test_filters_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        audio.mel_filterbank(16_000, 512, **arguments)
