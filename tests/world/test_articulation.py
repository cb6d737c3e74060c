"""Gestures in time: what closes, when, how far, and that lips and sound go together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paper_utils.data.speech import SILENCE, Alignment
from paper_utils.world import tract_tables as tables
from paper_utils.world.articulation import VISEME_UNITS, articulate
from paper_utils.world.phones import CONSONANTS, PHONES, VOWELS
from paper_utils.world.prosody import ACCENTS, Accent, Prosody
from paper_utils.world.speech import Utterance


def say(phones, *, scale=1.0, **changes):
    """An utterance with inherent durations."""
    names = (SILENCE, *phones.split(), SILENCE)
    bounds = np.r_[0, np.cumsum([scale * PHONES[p].duration_ms / 1000 for p in names])]
    stress = tuple(1 if p in VOWELS else -1 for p in names)
    return Utterance(Alignment(names, bounds, stress), phones, Prosody(), **changes)


def during(tracks, utterance, phone, low=0.0, high=1.0):
    """Frames of the first utterance between two shares of one phone."""
    begin, end = utterance.alignment.boundaries_s[phone : phone + 2]
    times = tracks.times_s()[: tracks.starts[1]]
    return np.flatnonzero((times >= begin + low * (end - begin)) & (times <= begin + high * (end - begin)))


phrases = st.lists(st.sampled_from(sorted({*VOWELS, *CONSONANTS})), min_size=1, max_size=12).map(" ".join)


# -------------------------------------------------------------------------------------------------------------- shapes


def test_every_phone_of_the_set_has_a_gesture():
    assert set(PHONES) == {*tables.ANCHORS, *tables.CONSONANTS, SILENCE}


@pytest.mark.parametrize("vowel", ["IY", "AE", "UW", "ER"])
def test_a_vowel_has_its_own_shape_in_its_middle(vowel):
    u = say(vowel)
    tracks = articulate([u], hop_s=0.005)
    middle = during(tracks, u, 1, 0.25, 0.75)
    expected = np.log(tables.AREAS_CM2[tables.target_index(vowel)])
    np.testing.assert_allclose(tracks.log_area[middle], np.tile(expected, (len(middle), 1)), atol=1e-5)


def test_a_diphthong_travels_from_one_shape_to_the_other():
    u = say("AY", scale=2)
    tracks = articulate([u], hop_s=0.001)
    for share, name in ((0.25, "AA"), (0.80, "IH")):
        frame = during(tracks, u, 1, share, 1)[0]
        np.testing.assert_allclose(
            tracks.log_area[frame], np.log(tables.AREAS_CM2[tables.target_index(name)]), atol=0.01
        )


@pytest.mark.parametrize(("stop", "place"), [("P", 44), ("T", 39), ("K", 28), ("M", 44), ("N", 39), ("NG", 29)])
def test_stops_and_nasals_close_completely_at_their_place_and_open_after_the_release(stop, place):
    u = say(f"AA {stop} AA")
    tracks = articulate([u], hop_s=0.001)
    closed = during(tracks, u, 2, 0.0, 0.35)
    assert (tracks.log_area[closed, place - 1] < np.log(1e-3)).all()
    assert (tracks.log_area[during(tracks, u, 3, 0.5, 0.75)].min(1) > np.log(0.15)).all()
    assert (tracks.log_area[closed].argmin(1) + 1 == place).all()


@pytest.mark.parametrize("fricative", ["F", "TH", "S", "SH", "Z", "ZH"])
def test_fricatives_narrow_to_their_area(fricative):
    u = say(f"AA {fricative} AA")
    tracks = articulate([u], hop_s=0.001)
    gesture = tables.CONSONANTS[fricative]
    place = int(gesture.place) - 1
    narrow = np.exp(tracks.log_area[during(tracks, u, 2, 0.45, 0.55), place]).mean()
    assert narrow == pytest.approx(gesture.area_cm2, rel=0.35)


def test_an_affricate_is_a_stop_first_and_a_fricative_then():
    u = say("AA CH AA")
    tracks = articulate([u], hop_s=0.001)
    place = int(tables.CONSONANTS["CH"].place) - 1
    assert (tracks.log_area[during(tracks, u, 2, 0.05, 0.4), place] < np.log(1e-3)).all()
    late = np.exp(tracks.log_area[during(tracks, u, 2, 0.62, 0.72), place])
    np.testing.assert_allclose(late, tables.CONSONANTS["CH"].area_cm2, rtol=0.2)


def test_velars_move_forward_next_to_front_vowels():
    def place(phones):
        u = say(phones)
        tracks = articulate([u], hop_s=0.001)
        return 1 + np.median(tracks.log_area[during(tracks, u, 2, 0.0, 0.3)].argmin(1))

    assert place("AA K AA") == 28
    assert place("AA K IY") == 32
    assert place("IY K AA") == 28  # the vowel to come counts
    assert place("IY K T") == 32


def test_vowels_reach_across_consonants():
    """The tongue body in P depends on both neighbours."""
    shapes = []
    for phones in ("IY P IY", "IY P AA", "AA P IY", "AA P AA"):
        u = say(phones)
        tracks = articulate([u])
        shapes.append(tracks.log_area[during(tracks, u, 2, 0.0, 0.3)].mean(0)[8:30])
    apart = [np.abs(a - b).mean() for i, a in enumerate(shapes) for b in shapes[i + 1 :]]
    assert min(apart) > 0.1


# ---------------------------------------------------------------------------------------------------- glottis and nose


def test_velum_opens_before_and_closes_after_a_nasal():
    u = say("AA M AA")
    tracks = articulate([u], hop_s=0.001)
    assert tracks.velum_cm2[during(tracks, u, 2, 0.6, 0.65)].min() > 0.5
    for neighbour, near, far in ((1, (0.9, 1.0), (0.0, 0.8)), (3, (0.0, 0.1), (0.2, 1.0))):
        assert tracks.velum_cm2[during(tracks, u, neighbour, *near)].min() > 0.03
        assert tracks.velum_cm2[during(tracks, u, neighbour, *far)].max() < 1e-6


def test_mute_nose_keeps_the_velum_shut_and_changes_nothing_else():
    u = [say("M AA N IY NG AA S")]
    free, mute = articulate(u), articulate(u, mute_nose=True)
    assert free.velum_cm2.max() > 0.4
    assert (mute.velum_cm2 == 0).all()
    assert np.array_equal(free.log_area, mute.log_area)
    assert np.array_equal(free.visemes, mute.visemes)


def test_glottis_opens_for_the_voiceless_and_lungs_rest_in_pauses():
    u = say("AA S AA Z AA P AA")
    tracks = articulate([u], hop_s=0.001)
    area = [tracks.glottis_cm2[during(tracks, u, p, 0.45, 0.55)].mean() for p in (1, 2, 4)]
    assert area[0] == pytest.approx(0.05, abs=1e-6)
    assert area[1] == pytest.approx(0.25, abs=1e-6)
    assert area[0] < area[2] < area[1]
    release = during(tracks, u, 6, 0.8, 0.9)
    assert tracks.glottis_cm2[release].max() > tracks.glottis_cm2[during(tracks, u, 6, 0.2, 0.3)].max()
    assert tracks.pressure[0] == 0
    assert tracks.pressure[during(tracks, u, 1, 0.2, 0.8)].min() > 7500


def test_loudness_is_lung_pressure():
    quiet, loud = (replace(say("AA"), prosody=Prosody(loudness_db=level)) for level in (0.0, 6.0))
    ratio = articulate([loud]).pressure[20] / articulate([quiet]).pressure[20]
    assert 20 * 1.2 * np.log10(ratio) == pytest.approx(6.0, abs=1e-3)


# ------------------------------------------------------------------------------------------------------------- visemes


def test_lips_are_pressed_exactly_while_the_tract_is_closed_there():
    u = say("AA P AA S AA B AA T AA")
    tracks = articulate([u], hop_s=0.001)
    closed = tracks.log_area[:, 43] < np.log(0.01)
    press = tracks.visemes[:, VISEME_UNITS.index("lip_press")]
    assert closed.any()
    assert press[closed].min() > 0.75
    assert press[during(tracks, u, 4)].max() < 1e-3
    assert (tracks.visemes[closed, VISEME_UNITS.index("jaw_deg")] < 2).all()


def test_rounding_follows_the_vowel_through_tongue_consonants():
    u = [say("UW T UW"), say("IY T IY")]
    tracks = articulate(u)
    rounding = tracks.visemes[:, VISEME_UNITS.index("lip_round")]
    assert rounding[during(tracks, u[0], 2)].min() > 0.9
    assert rounding[tracks.starts[1] :].max() < 1e-6


def test_jaw_is_closed_in_silence_and_open_in_aa():
    u = say("AA")
    tracks = articulate([u])
    assert np.abs(tracks.visemes[0]).max() < 1e-6
    assert np.abs(tracks.visemes[-1]).max() < 0.05
    assert tracks.visemes[during(tracks, u, 1, 0.3, 0.7), 0].min() == pytest.approx(14, abs=0.1)


def test_amplitude_scales_lips_and_spreads_vowels():
    u = [say("AA P IY"), say("AA P IY")]
    tracks = articulate(u, amplitude=[1.0, 0.5])
    count = tracks.starts[1]
    np.testing.assert_allclose(tracks.visemes[count:], 0.5 * tracks.visemes[:count], atol=1e-6)
    plain = articulate(u[:1])
    assert np.array_equal(plain.log_area, tracks.log_area[:count])
    middle = during(tracks, u[0], 1, 0.3, 0.7)
    mean = np.log(tables.AREAS_CM2[:12, 28:]).mean(0)
    full, half = (tracks.log_area[m, 28:] - mean for m in (middle, middle + count))
    np.testing.assert_allclose(half, 0.5 * full, atol=1e-4)
    assert np.array_equal(tracks.log_area[middle, :20], tracks.log_area[middle + count, :20])


# ------------------------------------------------------------------------------------------------------------- accents


def test_an_accent_blends_areas_and_lips_of_its_vowels():
    shift = (Accent("A"), Accent("X", vowel_shift={"AE": {"AE": 0.6, "EH": 0.4}}))
    u = say("AE", accent=1)
    tracks = articulate([u, say("AE")], accents=shift, hop_s=0.005)
    middle = during(tracks, u, 1, 0.3, 0.7)[0]
    ae, eh = tables.target_index("AE"), tables.target_index("EH")
    expected = 0.6 * tables.AREAS_CM2[ae] + 0.4 * tables.AREAS_CM2[eh]
    np.testing.assert_allclose(np.exp(tracks.log_area[middle]), expected, rtol=1e-4)
    np.testing.assert_allclose(
        tracks.visemes[middle], 0.6 * tables.VOWEL_VISEMES[ae] + 0.4 * tables.VOWEL_VISEMES[eh], atol=1e-5
    )
    reference = tracks.log_area[tracks.starts[1] + middle]
    np.testing.assert_allclose(np.exp(reference), tables.AREAS_CM2[ae], rtol=1e-4)


def test_real_accents_move_the_vowels_they_name_and_no_other():
    moved = set(ACCENTS[1].vowel_shift)
    for vowel in ("IY", "IH", "AE", "AA", "UH"):
        a, b = (articulate([say(vowel, accent=k)]).log_area for k in (0, 1))
        assert np.allclose(a, b) == (vowel not in moved)


# ------------------------------------------------------------------------------------------------- properties, bits, faults


@given(phrases, st.floats(0.7, 1.4))
@settings(max_examples=60, deadline=None)
def test_any_phrase_gives_finite_smooth_tracks(phones, scale):
    tracks = articulate([say(phones, scale=scale)], hop_s=0.001)
    for name in ("log_area", "velum_cm2", "glottis_cm2", "pressure", "noise", "cutoff", "cavity", "visemes"):
        assert np.isfinite(getattr(tracks, name)).all(), name
    assert tracks.velum_cm2.min() > -1e-6
    assert tracks.glottis_cm2.min() > 0.049
    assert tracks.visemes.min() > -1e-6
    assert tracks.visemes[:, 1:].max() < 1 + 1e-6
    assert np.abs(np.diff(tracks.visemes[:, 0])).max() < 1.5  # degrees in a millisecond
    assert np.abs(np.diff(tracks.glottis_cm2)).max() < 0.03


@given(st.lists(phrases, min_size=2, max_size=5), st.integers(0, 4))
@settings(max_examples=30, deadline=None)
def test_bits_do_not_depend_on_the_company(many, pick):
    spoken = [say(p, accent=i % len(ACCENTS)) for i, p in enumerate(many)]
    pick %= len(many)
    together, alone = articulate(spoken), articulate([spoken[pick]])
    part = slice(together.starts[pick], together.starts[pick + 1])
    for name in (
        "log_area",
        "velum_cm2",
        "glottis_cm2",
        "pressure",
        "noise",
        "cutoff",
        "obstacle",
        "cavity",
        "visemes",
    ):
        assert np.array_equal(getattr(together, name)[part], getattr(alone, name)), name


def test_frames_lie_on_the_hop_grid_up_to_the_end():
    u = say("AA P")
    tracks = articulate([u, u], hop_s=1 / 30)
    count = 1 + int(u.duration_s * 30)
    assert tracks.starts.tolist() == [0, count, 2 * count]
    np.testing.assert_allclose(tracks.times_s()[count:], np.arange(count) / 30)
    finer = articulate([u], hop_s=1 / 60)
    np.testing.assert_allclose(finer.log_area[::2][:count], tracks.log_area[:count], atol=1e-5)


def test_unknown_phones_are_named_with_their_position():
    u = say("AA P")
    strange = replace(u, alignment=replace(u.alignment, phones=u.alignment.phones))
    object.__setattr__(strange.alignment, "phones", ("SIL", "AA", "QQ", "SIL"))
    with pytest.raises(ValueError, match="utterance 1: unknown phone 'QQ' at position 2"):
        articulate([u, strange])


def test_a_zero_length_utterance_cannot_be_made():
    with pytest.raises(ValueError, match="zero-length utterance"):
        Alignment((), np.array([0.0]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hop_s": 0.0}, "hop_s: expected a time above 0"),
        ({"hop_s": float("nan")}, "hop_s"),
        ({"amplitude": float("nan")}, "amplitude: expected finite"),
        ({"amplitude": -1.0}, "amplitude"),
        ({"accents": ACCENTS[:1]}, "accent: expected 0 to 0"),
    ],
)
def test_unusable_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        articulate([say("AA", accent=1)], **arguments)


def test_no_utterances_is_an_error():
    with pytest.raises(ValueError, match="there are none"):
        articulate([])
