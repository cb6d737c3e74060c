"""Log-mel frames and waveforms: against each other, against Praat, and against what speech must do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paper_utils import audio
from paper_utils.data.speech import SILENCE, Alignment
from paper_utils.world import voice
from paper_utils.world.phones import PHONES, VOWELS
from paper_utils.world.prosody import Prosody
from paper_utils.world.speech import Utterance, utterance
from paper_utils.world.voice import Channel, Speakers, formants, log_mel, vowel_area, waveform

MAN, WOMAN = Speakers.typical("man"), Speakers.typical("woman")
PAIR = Speakers(**{k: np.r_[v, getattr(WOMAN, k)] for k, v in vars(MAN).items()})
DB = 10 / np.log(10)


def say(phones, *, scale=1.0, pitch=1.0, **durations_ms):
    """Monotone, with inherent durations unless given."""
    names = (SILENCE, *phones.split(), SILENCE)
    lengths = [durations_ms.get(p, scale * PHONES[p].duration_ms) / 1000 for p in names]
    stress = tuple(1 if p in VOWELS else -1 for p in names)
    alignment = Alignment(names, np.r_[0, np.cumsum(lengths)], stress)
    return Utterance(alignment, phones, Prosody(pitch=pitch, pitch_range=0.0))


def sentences(count=3):
    rng = np.random.default_rng(0)
    texts = ["HH AH0 L OW1 W ER1 L D", "S IY1 DH AH0 P AA1 T", "M AE1 N IY0 SH IH1 P S", "K AA1 M AH0 NG V AO1 F"]
    return [utterance(texts[i % 4], rng=rng) for i in range(count)]


def levels(u, speaker=MAN, **arguments):
    """Total level of each frame in dB, without chance."""
    return DB * log_mel([u], speaker, 0, seed=0, speckle=False, **arguments)[0].exp().sum(1).log().numpy()


def during(u, phone, low=0.0, high=1.0, hop_s=0.01):
    begin, end = u.alignment.boundaries_s[phone : phone + 2]
    return slice(int(np.ceil((begin + low * (end - begin)) / hop_s)), int((begin + high * (end - begin)) / hop_s) + 1)


# ----------------------------------------------------------------------------------------- log-mel against the waveform


@pytest.mark.parametrize("who", ["man", "woman"])
def test_log_mel_is_that_of_the_waveform(who):
    """Means over repetitions, since both have chance in their noises; 40 dB below the loudest are compared."""
    u, repeats = sentences(4)[1], 8
    speaker = Speakers.typical(who)
    direct = torch.stack(log_mel([u] * repeats, speaker, 0, seed=1)).exp().mean(0).log().numpy()
    sounds = torch.stack(waveform([u] * repeats, speaker, 0, seed=2))
    measured = audio.log_mel(sounds, audio.WORLD_MEL).exp().mean(0).log().numpy()
    assert direct.shape == measured.shape
    audible = measured > measured.max() - 40 / DB
    apart = DB * (direct - measured)[audible]
    assert np.corrcoef(direct[audible], measured[audible])[0, 1] > 0.95
    assert apart.std() < 3.5
    # One frame too early or too late is worse, so the time axes agree.
    for shifted, fixed in ((direct[1:], measured[:-1]), (direct[:-1], measured[1:])):
        both = fixed > measured.max() - 40 / DB
        assert np.corrcoef(shifted[both], fixed[both])[0, 1] < 0.95


def test_level_of_log_mel_is_absolute():
    """What a recording of the unnormalised sound would give."""
    u = say("AA", AA=400.0)
    checked = voice._checked([u], MAN, 0, 0, None, 44)
    hz = torch.linspace(0, 8000, 513, dtype=torch.float64)
    still = replace(MAN, jitter=np.array([0.0]), shimmer_db=np.array([0.0]))
    manner = voice._Manner(0.005, 44, 1.0, None, False)
    sound = voice._sound(next(iter(voice._jobs([u], still, checked, hz, manner))))
    assert 0.1 < float(sound.abs().max()) < 1.0
    measured = audio.log_mel(sound[None], audio.WORLD_MEL)[0].exp().sum(1).log().numpy() * DB
    middle = during(u, 1, 0.3, 0.7)
    assert levels(u)[middle].mean() == pytest.approx(measured[middle].mean(), abs=1.0)


def test_frames_and_samples_cover_the_utterance():
    u = sentences(1)[0]
    sound, frames = waveform([u], MAN, 0, seed=0)[0], log_mel([u], MAN, 0, seed=0)[0]
    assert abs(len(sound) - 16_000 * u.duration_s) <= 1
    assert len(frames) == 1 + len(sound) // 160
    assert float(sound.abs().max()) == pytest.approx(0.7, abs=1e-6)
    assert log_mel([u], MAN, 0, seed=0, mel=40, hop_ms=20)[0].shape == (1 + len(sound) // 320, 40)


# ----------------------------------------------------------------------------------------------------- what speech does


@pytest.mark.parametrize("stop", ["P", "T", "K"])
def test_voiceless_stops_are_silent_and_then_burst(stop):
    u = say(f"AA {stop} AA", scale=1.4)
    level = levels(u, hop_ms=5)
    vowel = level[during(u, 1, 0.3, 0.6, 0.005)].mean()
    closure = level[during(u, 2, 0.2, 0.35, 0.005)].min()
    burst = level[during(u, 2, 0.45, 0.7, 0.005)].max()
    assert vowel - closure > 20
    assert burst - closure > 15


def test_voiced_stops_keep_a_murmur_that_voiceless_ones_lack():
    low = {}
    for stop in "BP":
        u = say(f"AA {stop} AA", scale=1.5)
        bands = log_mel([u], MAN, 0, seed=0, speckle=False, hop_ms=5)[0].numpy() * DB
        low[stop] = bands[during(u, 2, 0.25, 0.35, 0.005), :6].max(1).mean()
    assert low["B"] - low["P"] > 10


def test_nose_sounds_in_nasals_only_and_only_if_it_is_not_muted():
    u = say("AA M AA N AA NG AA S AA", scale=1.5)
    other = replace(MAN, nostril_gain=np.array([1.6]))
    change = np.abs(levels(u) - levels(u, other))
    bands = np.abs(np.subtract(*(log_mel([u], s, 0, seed=0, speckle=False)[0].numpy() * DB for s in (MAN, other)))).max(
        1
    )
    for nasal in (2, 4, 6):
        assert bands[during(u, nasal, 0.3, 0.6)].min() > 0.5
    assert change[during(u, 8, 0.2, 0.8)].max() < 1e-4
    assert change[during(u, 1, 0.0, 0.5)].max() < 1e-4
    muted = [log_mel([u], s, 0, seed=0, mute_nose=True)[0] for s in (MAN, other)]
    assert torch.equal(*muted)


def test_sibilants_are_ordered_by_their_front_cavity():
    def centroid(phone):
        u = say(f"EH {phone} EH", scale=2)
        power = log_mel([u], MAN, 0, seed=0, speckle=False, mel=80)[0].exp().numpy()[during(u, 2, 0.4, 0.6)].mean(0)
        centres = audio.mel_edges_hz(80, high_hz=8000.0)[1:-1].numpy()
        widths = np.gradient(centres)  # a wide filter gathers more power
        return (centres * power).sum() / power.sum() if widths.all() else np.nan

    found = {p: centroid(p) for p in ("S", "SH", "F", "HH")}
    assert 5000 < found["S"] < 7500
    assert 2800 < found["SH"] < 5000
    assert found["SH"] + 1000 < found["S"]
    assert found["F"] > 2000


def test_vowels_are_louder_than_consonants():
    def level(phone):
        u = say(f"EH {phone} EH", scale=1.5)
        return levels(u)[during(u, 2, 0.4, 0.6)].mean()

    loudest = max(level(p) for p in ("S", "SH", "F", "TH", "V", "Z", "M", "N", "HH", "B"))
    assert loudest < min(level(p) for p in ("AA", "AO", "AE", "EH"))
    assert level("TH") < level("S") < level("SH")


def test_loudness_raises_the_level_by_its_decibels():
    u = say("AA")
    louder = replace(u, prosody=replace(u.prosody, loudness_db=6.0))
    middle = during(u, 1, 0.3, 0.7)
    assert (levels(louder) - levels(u))[middle].mean() == pytest.approx(6.0, abs=0.3)


def test_breath_is_noise_between_the_harmonics():
    u = say("AA", AA=600.0)
    breathy = replace(MAN, breath=np.array([8.0]))
    high = [log_mel([u], s, 0, seed=0, speckle=False)[0][during(u, 1, 0.3, 0.7), -15:].mean() for s in (MAN, breathy)]
    assert float(high[1] - high[0]) * DB > 3


# --------------------------------------------------------------------------------------------------------------- Praat

parselmouth = pytest.importorskip("parselmouth")


@pytest.mark.parametrize(("who", "ceiling", "count"), [("man", 5000.0, 5.5), ("woman", 5500.0, 5.0)])
def test_praat_hears_the_resonances_and_the_pitch(who, ceiling, count):
    """hVd words; Burg formants are drawn to harmonics, so the mean over vowels is compared."""
    speaker = Speakers.typical(who)
    vowels = ["IY", "IH", "EH", "AE", "AH", "AA", "AO", "UH", "UW", "ER"]
    words = [say(f"HH {v} D", scale=1.8) for v in vowels]
    errors, pitch = [], []
    for vowel, word, sound in zip(vowels, words, waveform(words, speaker, 0, seed=3), strict=True):
        begin, end = word.alignment.boundaries_s[2:4]
        heard = parselmouth.Sound(sound.double().numpy(), 16_000)
        track = heard.to_formant_burg(max_number_of_formants=count, maximum_formant=ceiling)
        times = np.linspace(begin + 0.35 * (end - begin), begin + 0.65 * (end - begin), 7)
        found = np.median([[track.get_value_at_time(k, t) for k in (1, 2, 3)] for t in times], 0)
        errors.append(np.abs(found / formants(vowel_area(vowel, speaker)[None], speaker)[0] - 1))
        steady = heard.extract_part(begin + 0.2 * (end - begin), begin + 0.8 * (end - begin))
        f0 = steady.to_pitch_ac(pitch_floor=75.0, pitch_ceiling=400.0).selected_array["frequency"]
        pitch.append(np.median(f0[f0 > 0]))
    assert np.mean(errors) < 0.10
    # Without pitch range the whole contour stays at the base.
    np.testing.assert_allclose(pitch, speaker.f0_hz[0], rtol=0.01)


def test_praat_hears_a_modal_voice():
    call = parselmouth.praat.call
    word = say("HH AA D", AA=800.0)
    sound = parselmouth.Sound(waveform([word], MAN, 0, seed=0)[0].double().numpy(), 16_000).extract_part(0.35, 0.85)
    pulses = call([sound, sound.to_pitch_ac(pitch_floor=75.0, pitch_ceiling=300.0)], "To PointProcess (cc)")
    assert (
        0.002 < call(pulses, "Get jitter (local)", 0, 0, 0.0001, 0.02, 1.3) < 0.0104
    )  # Praat's threshold of pathology
    assert call(sound.to_harmonicity_cc(minimum_pitch=75.0), "Get mean", 0, 0) > 17
    still = replace(MAN, jitter=np.array([0.0]), shimmer_db=np.array([0.0]), breath=np.array([0.0]))
    clean = parselmouth.Sound(waveform([word], still, 0, seed=0)[0].double().numpy(), 16_000).extract_part(0.35, 0.85)
    assert call(clean.to_harmonicity_cc(minimum_pitch=75.0), "Get mean", 0, 0) > 40


# ------------------------------------------------------------------------------------------------------- bits and knobs


def test_same_seed_same_bits_and_another_seed_other_ones():
    u = sentences(2)
    for make in (log_mel, waveform):
        first, again, other = (make(u, PAIR, [0, 1], seed=s) for s in (5, 5, 6))
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
        assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_bits_do_not_depend_on_the_company_or_the_blocks(monkeypatch):
    u = sentences(6)
    index, seeds = [1, 0, 0, 1, 0, 1], [11, 12, 13, 14, 15, 16]
    for make in (log_mel, waveform):
        together = make(u, PAIR, index, seed=seeds)
        for pick in (0, 3, 4):
            alone = make([u[pick]], PAIR.take([index[pick]]), 0, seed=[seeds[pick]])[0]
            assert torch.equal(together[pick], alone)
        with monkeypatch.context() as patch:
            patch.setattr(voice, "_BLOCK", 2)
            smaller = make(u, PAIR, index, seed=seeds)
        assert all(torch.equal(a, b) for a, b in zip(together, smaller, strict=True))


def test_repetitions_differ_in_their_noise_only():
    u = say("AA S AA")
    first, second = log_mel([u, u], MAN, 0, seed=0)
    assert not torch.equal(first, second)
    calm = log_mel([u, u], MAN, 0, seed=0, speckle=False)
    assert torch.equal(*calm)


def test_single_precision_is_within_a_tenth_of_a_decibel():
    u = sentences(2)
    for single, double in zip(
        *(log_mel(u, PAIR, [0, 1], seed=0, dtype=d) for d in (torch.float32, torch.float64)), strict=True
    ):
        audible = double > double.max() - 60 / DB
        assert DB * float((single - double)[audible].abs().max()) < 0.1


def test_half_the_sections_sound_alike():
    u = sentences(1)
    full, half = (log_mel(u, MAN, 0, seed=0, speckle=False, sections=n)[0].numpy() for n in (44, 22))
    assert np.corrcoef(full.ravel(), half.ravel())[0, 1] > 0.97


@given(st.floats(-6, 6), st.floats(-10, 10))
@settings(max_examples=10, deadline=None)
def test_channel_tilts_and_lifts_as_it_says(tilt, level):
    u = say("AA S")
    clean, coloured = (
        log_mel([u], MAN, 0, seed=0, speckle=False, channels=[Channel(*c, noise_db=-200.0)])[0]
        for c in ((0.0, 0.0), (tilt, level))
    )
    audible = clean > clean.max() - 50 / DB
    change = DB * (coloured - clean)
    for band, hz in (
        (10, audio.mel_edges_hz(64, high_hz=8000.0)[11]),
        (50, audio.mel_edges_hz(64, high_hz=8000.0)[51]),
    ):
        expected = level + tilt * (float(hz) / 4000 - 1)
        assert change[audible[:, band], band].mean() == pytest.approx(expected, abs=0.3)


def test_channel_noise_is_white_noise_of_its_level():
    u = say("AA", SIL=500.0)
    noise = log_mel([u], MAN, 0, seed=0, channels=[Channel(noise_db=-40.0)])[0][:40].exp().mean(0)
    white = (
        audio.log_mel(0.01 * torch.randn(1, 64_000, generator=torch.Generator().manual_seed(0)), audio.WORLD_MEL)[0]
        .exp()
        .mean(0)
    )
    assert DB * float((noise / white).log().abs().mean()) < 1.0


def test_severity_zero_is_clean_and_one_has_the_stated_spread():
    rng = np.random.default_rng
    assert Channel.draw(0.0, rng(0), 3) == (Channel(),) * 3
    drawn = Channel.draw(1.0, rng(0), 4000)
    assert np.std([c.tilt_db for c in drawn]) == pytest.approx(2.0, rel=0.05)
    assert np.std([c.level_db for c in drawn]) == pytest.approx(1.5, rel=0.05)
    assert np.std(np.log([c.f0_factor for c in drawn])) == pytest.approx(0.03, rel=0.05)
    twice = Channel.draw(2.0, rng(0), 5)
    assert [c.tilt_db for c in twice] == pytest.approx([2 * c.tilt_db for c in Channel.draw(1.0, rng(0), 5)])


def test_day_factor_moves_the_pitch():
    word = say("HH AA D", scale=2)
    sound = waveform([word], MAN, 0, seed=0, channels=[Channel(f0_factor=1.2)])[0]
    f0 = parselmouth.Sound(sound.double().numpy(), 16_000).to_pitch_ac().selected_array["frequency"]
    assert np.median(f0[f0 > 0]) == pytest.approx(1.2 * MAN.f0_hz[0], rel=0.01)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_gives_the_same_frames():
    u = sentences(2)
    here, there = (log_mel(u, PAIR, [0, 1], seed=0, device=d) for d in ("cpu", "cuda"))
    for a, b in zip(here, there, strict=True):
        audible = a > a.max() - 60 / DB
        assert DB * float((a - b.cpu())[audible].abs().max()) < 0.1


# ------------------------------------------------------------------------------------------------------ speakers, faults


def test_take_and_equal_tracts():
    both = PAIR.take([1, 0, 1])
    assert both.f0_hz.tolist() == [205.0, 118.0, 205.0]
    assert len(both) == 3
    same_tract = replace(PAIR, **{k: np.repeat(getattr(MAN, k), 2) for k in vars(MAN) if k not in ("f0_hz", "rd")})
    area = np.stack([vowel_area("IY", same_tract, i) for i in (0, 1)])
    assert np.array_equal(area[0], area[1])


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("pharynx_cm", -8.0, "pharynx_cm of speaker 1 is -8.0; expected a finite value above 0"),
        ("f0_hz", np.nan, "f0_hz of speaker 1 is nan"),
        ("breath", -0.1, "breath of speaker 1 is -0.1; expected a finite value of at least 0"),
        ("lip_gain", 0.0, "lip_gain of speaker 1"),
    ],
)
def test_impossible_speakers_are_named(field, value, message):
    with pytest.raises(ValueError, match=message):
        replace(PAIR, **{field: np.array([getattr(MAN, field)[0], value])})


def test_fields_must_be_of_one_length():
    broken = replace(PAIR)
    object.__setattr__(broken, "rd", np.array([1.0]))  # past the shape checks that only tests have
    with pytest.raises(ValueError, match="expected 2 values of rd as of pharynx_cm, found 1"):
        broken.__post_init__()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"speaker_index": [2]}, "speaker_index: 2 is out of range; there are 2 speakers"),
        ({"speaker_index": [-1]}, "speaker_index: -1 is out of range"),
        ({"speaker_index": [0, 1]}, "speaker_index: expected 1 integers"),
        ({"speaker_index": [0.5]}, "speaker_index: expected 1 integers"),
        ({"seed": [1, 2]}, "seed: expected one number, or 1 numbers"),
        ({"seed": -1}, "seed: expected numbers of at least 0"),
        ({"channels": []}, "channels: expected 1"),
        ({"sections": 30}, "sections: expected 44 or 22"),
        ({"utterances": []}, "utterances: there are none"),
    ],
)
@pytest.mark.parametrize("make", [log_mel, waveform])
def test_wrong_arguments_are_named(make, arguments, message):
    usual = {"utterances": [say("AA")], "speaker_index": [0], "seed": 0} | arguments
    with pytest.raises(ValueError, match=message):
        make(usual.pop("utterances"), PAIR, usual.pop("speaker_index"), **usual)


def test_a_pitch_out_of_all_range_is_refused():
    with pytest.raises(ValueError, match="F0 must lie between 20 and 1000 Hz"):
        log_mel([say("AA", pitch=20.0)], MAN, 0, seed=0)


def test_unknown_kind_of_speaker_channel_and_severity_are_refused():
    with pytest.raises(ValueError, match="expected one of man, woman, child"):
        Speakers.typical("robot")
    with pytest.raises(ValueError, match="severity: expected a finite number of at least 0, found -1"):
        Channel.draw(-1, np.random.default_rng(0), 2)
    with pytest.raises(ValueError, match="channel: expected finite values"):
        Channel(tilt_db=float("nan"))
