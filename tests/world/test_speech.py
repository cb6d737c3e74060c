"""Utterances: durations, contours, emotion, accents, batches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paper_utils.data.speech import Alignment
from paper_utils.world import speech
from paper_utils.world.lexicon import SENTENCES, transcribe
from paper_utils.world.phones import MONOPHTHONGS, PHONES, SILENCE, VOWELS
from paper_utils.world.phonotactics import hvd
from paper_utils.world.prosody import ACCENTS, EMOTIONAL_VOICES, Accent, Prosody, emotional_prosody
from paper_utils.world.speech import of_length, utterance, utterances


def say(text, seed=0, **options):
    return utterance(text, rng=np.random.default_rng(seed), **options)


def mean_ms(text, phone, *, place=0, draws=200, **options):
    """Geometric mean duration of one occurrence of a phone over many readings: the spread averages out."""
    rng = np.random.default_rng(7)
    logs = []
    for _ in range(draws):
        said = utterance(text, rng=rng, **options)
        where = [i for i, name in enumerate(said.alignment.phones) if name == phone][place]
        logs.append(np.log(1000 * np.diff(said.alignment.boundaries_s)[where]))
    return float(np.exp(np.mean(logs)))


# ---------------------------------------------------------------------------------------------------------- alignment


@given(st.integers(0, 2**32 - 1), st.integers(0, len(ACCENTS) - 1), st.floats(0.5, 2.0))
@settings(max_examples=60)
def test_alignments_are_contiguous_complete_and_above_their_floors(seed, accent, tempo):
    rng = np.random.default_rng(seed)
    text = SENTENCES[seed % len(SENTENCES)]
    said = utterance(text, rng=rng, prosody=Prosody(tempo=tempo), accent=accent)
    alignment, words = said.alignment, transcribe(text).words
    assert alignment.phones[0] == alignment.phones[-1] == SILENCE
    assert alignment.boundaries_s[0] == 0
    lengths = np.diff(alignment.boundaries_s)
    assert (lengths * 1000 >= np.array([PHONES[p].shortest_ms for p in alignment.phones]) - 1e-6).all()
    assert [w for w, _, _ in alignment.words] == [w.text for w in words]
    for word, (_, first, last) in zip(words, alignment.words, strict=True):
        assert said.intended[first:last] == word.phones
        assert alignment.phones[first:last] == ACCENTS[accent].spoken(word.phones)
        assert alignment.stress[first:last] == word.stress
    spoken = [p for p in said.intended if p != SILENCE]
    assert spoken == [p for w in words for p in w.phones]


def test_same_state_same_reading_and_another_state_another():
    one, two, other = say(SENTENCES[0], 5), say(SENTENCES[0], 5), say(SENTENCES[0], 6)
    np.testing.assert_array_equal(one.alignment.boundaries_s, two.alignment.boundaries_s)
    assert one.prosody == two.prosody
    assert (one.alignment.boundaries_s != other.alignment.boundaries_s)[1:].all()


def test_prosody_and_accent_draw_nothing_themselves():
    draws = []
    for options in (
        {},
        {"prosody": emotional_prosody("fear")},
        {"accent": 3},
        {"prosody": Prosody(accents=(1.0,) * 10)},
    ):
        rng = np.random.default_rng(4)
        utterance(SENTENCES[0], rng=rng, **options)
        draws.append(rng.random())
    assert len(transcribe(SENTENCES[0]).words) == 10
    assert len(set(draws)) == 1
    angry, calm = say(SENTENCES[0], prosody=emotional_prosody("angry")), say(SENTENCES[0])
    assert angry.prosody.accents == calm.prosody.accents


def test_edges_and_pauses_have_their_lengths():
    edges, commas, stops = [], [], []
    for seed in range(100):
        lengths = np.diff(say("Yes, no. Yes.", seed).alignment.boundaries_s)
        silent = [i for i, p in enumerate(say("Yes, no. Yes.").alignment.phones) if p == SILENCE]
        assert len(silent) == 4
        edges += [lengths[silent[0]], lengths[silent[3]]]
        commas.append(lengths[silent[1]])
        stops.append(lengths[silent[2]])
    assert np.mean(edges) == pytest.approx(0.12, rel=0.03)
    assert np.mean(commas) == pytest.approx(0.18, rel=0.05)
    assert np.mean(stops) == pytest.approx(0.40, rel=0.05)


# ---------------------------------------------------------------------------------------------------------- durations


@given(st.floats(0.3, 1.0))
def test_durations_scale_with_tempo_where_no_phone_meets_its_floor(tempo):
    text = "HH AA1 D"
    usual, slow = say(text), say(text, prosody=Prosody(tempo=tempo))
    np.testing.assert_allclose(
        np.diff(slow.alignment.boundaries_s) * tempo, np.diff(usual.alignment.boundaries_s), rtol=1e-12
    )


def test_at_extreme_tempo_every_phone_is_at_its_floor():
    said = say(SENTENCES[0], prosody=Prosody(tempo=1000))
    np.testing.assert_allclose(
        np.diff(said.alignment.boundaries_s), [PHONES[p].shortest_ms / 1000 for p in said.alignment.phones]
    )


def test_a_single_stressed_syllable_has_nearly_its_inherent_durations():
    # At the end of a phrase 0.70 * 1.40 for a vowel, 0.85 * 1.20 for the consonant behind it, 0.85 for the one before.
    assert mean_ms("HH AA1 D", "AA") == pytest.approx(240 * 0.98, rel=0.03)
    assert mean_ms("HH AA1 D", "D") == pytest.approx(75 * 1.02, rel=0.03)
    assert mean_ms("HH AA1 D", "HH") == pytest.approx(80 * 0.85, rel=0.03)


def test_stress_position_clusters_and_voicing_change_durations_as_the_rules_say():
    rules = speech.RULES
    assert mean_ms("T AA1 B AA0 D | D AA1", "AA", place=1) / mean_ms(
        "T AA0 B AA1 D | D AA1", "AA", place=1
    ) == pytest.approx(rules.unstressed_vowel, rel=0.03)
    assert mean_ms("T AA1 B AA2 D | D AA1", "AA", place=1) / mean_ms(
        "T AA0 B AA1 D | D AA1", "AA", place=1
    ) == pytest.approx(rules.secondary_vowel, rel=0.03)
    assert mean_ms("B AA1 D", "AA") / mean_ms("B AA1 D | B AA1 D", "AA") == pytest.approx(rules.final_vowel, rel=0.03)
    assert mean_ms("B AA1 D , B AA1 D", "AA") == pytest.approx(mean_ms("B AA1 D", "AA"), rel=0.03)
    assert mean_ms("B AA1 T", "AA") / mean_ms("B AA1 D", "AA") == pytest.approx(rules.before_voiceless, rel=0.03)
    assert mean_ms("S P AA1", "S") / mean_ms("S AA1", "S") == pytest.approx(rules.cluster_one_side, rel=0.03)
    assert mean_ms("S P R AA1", "P") / mean_ms("P AA1", "P") == pytest.approx(rules.cluster_both_sides, rel=0.03)
    assert mean_ms("B AA1 S AA0", "S") / mean_ms("B AA0 S AA1", "S") == pytest.approx(rules.unstressed_onset, rel=0.03)


def test_spread_of_durations_is_log_normal_with_the_stated_width():
    rng = np.random.default_rng(0)
    logs = [np.log(np.diff(utterance("HH AA1 D", rng=rng).alignment.boundaries_s)) for _ in range(2000)]
    assert np.std(logs, axis=0)[[0, 2, 3]] == pytest.approx(speech.RULES.spread, rel=0.06)


def test_ordinary_sentences_run_at_the_rate_of_read_speech():
    batch = utterances(len(SENTENCES), rng=np.random.default_rng(0))
    phones = sum(sum(p != SILENCE for p in u.alignment.phones) for u in batch)
    seconds = sum(np.diff(u.alignment.boundaries_s)[[p != SILENCE for p in u.alignment.phones]].sum() for u in batch)
    assert 12.5 < phones / seconds < 15


# ----------------------------------------------------------------------------------------------------------- contours


def flat(text, **options):
    """A reading without pitch accents."""
    return say(text, prosody=Prosody(accents=(0.0,) * len(transcribe(text).words), **options))


def test_pitch_falls_along_a_statement_from_first_to_last_factor():
    said = flat("The garden smells of roses after the rain.")
    begin, end = said.alignment.boundaries_s[[1, -2]]
    times = np.linspace(begin, end, 500)
    line = np.linspace(speech.CONTOUR.first, speech.CONTOUR.last, 500)
    ratio = said.pitch(times) / line
    assert np.abs(ratio - 1).max() == pytest.approx(speech.CONTOUR.undulation, rel=0.05)
    assert said.pitch(np.array([-1.0, 0.0])) == pytest.approx(line[0], rel=0.051)
    assert said.pitch(np.array([end + 5])) == pytest.approx(line[-1], rel=0.051)


def test_undulation_has_a_period_of_three_phones():
    said = flat("The garden smells of roses after the rain.")
    bounds = said.alignment.boundaries_s[1:-1]
    line = speech.CONTOUR.first + (speech.CONTOUR.last - speech.CONTOUR.first) * (bounds - bounds[0]) / (
        bounds[-1] - bounds[0]
    )
    swing = said.pitch(bounds) / line - 1
    np.testing.assert_allclose(swing[3:], swing[:-3], atol=1e-12)
    assert np.abs(swing[1:] - swing[:-1]).min() > 1e-3


def test_a_question_rises_in_its_last_200_ms_and_nowhere_else():
    statement, question = (
        flat("Is there a good place to eat near the station."),
        flat("Is there a good place to eat near the station?"),
    )
    np.testing.assert_array_equal(statement.alignment.boundaries_s, question.alignment.boundaries_s)
    end = question.alignment.boundaries_s[-2]
    times = np.array([0.5, end - 0.2, end - 0.1, end, end + 0.05])
    np.testing.assert_allclose(question.pitch(times) / statement.pitch(times), [1, 1, 1.2, 1.4, 1.4], rtol=1e-9)
    assert question.prosody.question
    assert not statement.prosody.question
    asked = flat("Is there a good place to eat near the station.", question=True)
    np.testing.assert_array_equal(asked.pitch(times), question.pitch(times))


def test_each_sentence_of_an_utterance_has_its_own_contour():
    said = flat("Is it cold? We went home.")
    (_, first_end, first_asked), (second_begin, _, second_asked) = said.sentences
    assert (first_asked, second_asked) == (True, False)
    bounds = said.alignment.boundaries_s
    peak, reset = said.pitch(bounds[[first_end, second_begin]])
    assert peak == pytest.approx(speech.CONTOUR.last * 1.4, rel=0.051)
    assert reset == pytest.approx(speech.CONTOUR.first, rel=0.051)
    assert not said.prosody.question


def test_a_comma_does_not_end_a_sentence():
    said = flat("Be careful, the glass is thin.")
    assert said.sentences == ((1, len(said.alignment.phones) - 1, False),)
    behind_comma = said.alignment.phones.index("SIL", 1) + 1
    assert said.pitch(said.alignment.boundaries_s[[behind_comma]])[0] < 1.05


def test_accents_raise_pitch_and_loudness_on_stressed_vowels_only():
    text = "The garden smells of roses."
    still, lively = flat(text), say(text, prosody=Prosody(accents=(0.0, 1.0, 0.0, 0.0, 2.0)))
    np.testing.assert_array_equal(still.alignment.boundaries_s, lively.alignment.boundaries_s)
    bounds, phones = still.alignment.boundaries_s, still.alignment.phones
    centre = (bounds[1:] + bounds[:-1]) / 2
    garden, smells, roses = (centre[phones.index(p)] for p in ("AA", "EH", "OW"))
    times = np.array([garden, smells, roses])
    np.testing.assert_allclose(lively.pitch(times) / still.pitch(times), [1.15, 1.0, 1.30], rtol=1e-9)
    np.testing.assert_allclose(lively.loudness_db(times), [2, 0, 4], atol=1e-9)
    # The unstressed syllable of "roses" is beyond the reach of the accent on its first.
    edge = bounds[phones.index("OW") + 1] + speech.CONTOUR.accent_margin_s + 1e-6
    assert lively.loudness_db(np.array([edge]))[0] == pytest.approx(0, abs=1e-9)


def test_drawn_accents_sit_on_content_words_with_the_last_strongest():
    rng = np.random.default_rng(0)
    batch = [
        utterance("The old farmer measured the field. A gray cat slept.", rng=rng).prosody.accents for _ in range(400)
    ]
    mean = np.mean(batch, axis=0)
    assert (mean[[0, 4, 6]] == 0).all()
    np.testing.assert_allclose(mean[[1, 2, 3, 7, 8]], 7 / 8, atol=0.06)
    np.testing.assert_allclose(mean[[5, 9]], 1.3, atol=0.04)
    assert np.array(batch)[:, [5, 9]].min() >= 0.9


@given(st.lists(st.floats(-5, 20), min_size=1, max_size=20), st.floats(0.5, 2), st.floats(0, 2), st.integers(0, 5))
@settings(max_examples=60)
def test_pitch_scales_with_its_factors_and_is_evaluated_point_by_point(times, pitch, pitch_range, accent):
    times = np.array(times)
    usual = say(SENTENCES[1], accent=accent)
    changed = say(SENTENCES[1], accent=accent, prosody=Prosody(pitch=pitch, pitch_range=pitch_range))
    np.testing.assert_allclose(changed.pitch(times), pitch * usual.pitch(times) ** pitch_range, rtol=1e-9)
    np.testing.assert_allclose(usual.pitch(times), [usual.pitch(np.array([t]))[0] for t in times], rtol=1e-12)
    assert (usual.pitch(times) > 0).all()


def test_monotone_voice_has_one_pitch():
    times = np.linspace(0, 2, 50)
    assert (say(SENTENCES[1], prosody=Prosody(pitch=1.3, pitch_range=0)).pitch(times) == 1.3).all()


def test_contours_take_no_times_and_refuse_nan():
    said = say("yes")
    assert said.pitch(np.zeros(0)).shape == said.loudness_db(np.zeros(0)).shape == (0,)
    for contour in (said.pitch, said.loudness_db):
        with pytest.raises(ValueError, match="1 of 2 are NaN"):
            contour(np.array([0.0, np.nan]))


def test_beats_are_the_onsets_of_stressed_vowels():
    said = say("The airplane flew over us.", prosody=Prosody(accents=(0.0, 1.2, 0.1, 0.0, 0.0)))
    times, strengths = said.beats()
    alignment = said.alignment
    stressed = [i for i, s in enumerate(alignment.stress) if s in (1, 2)]
    np.testing.assert_array_equal(times, alignment.boundaries_s[stressed])
    assert [alignment.phones[i] for i in stressed] == ["EH", "EY", "UW", "OW"]
    assert strengths.tolist() == [1.2, 0.3, 0.3, 0.3]
    middle = alignment.boundaries_s[stressed[:2]] + 0.03
    primary, secondary = said.loudness_db(middle)
    assert primary > 1
    assert secondary == 0


# ------------------------------------------------------------------------------------------------------------ emotion


@pytest.mark.parametrize("emotion", EMOTIONAL_VOICES)
def test_without_leak_the_voice_is_exactly_neutral(emotion):
    for intensity in (1, 2, 3):
        assert emotional_prosody(emotion, intensity, leak=0) == Prosody()
        base = Prosody(pitch=1.07, pitch_range=0.9, loudness_db=-1.3, tempo=1.1, question=True)
        assert emotional_prosody(emotion, intensity, leak=0.0, base=base) == base
    text = SENTENCES[3]
    neutral, silent = say(text), say(text, prosody=emotional_prosody(emotion, leak=0))
    assert neutral.prosody == silent.prosody
    np.testing.assert_array_equal(neutral.alignment.boundaries_s, silent.alignment.boundaries_s)


@given(
    st.sampled_from(sorted(EMOTIONAL_VOICES)),
    st.lists(st.floats(0, 1), min_size=2, max_size=2, unique=True).map(sorted),
    st.sampled_from([1, 2, 3]),
)
def test_emotion_grows_with_leak_and_with_intensity(emotion, leaks, intensity):
    def distance(prosody):
        return np.abs([np.log(prosody.pitch), np.log(prosody.pitch_range), np.log(prosody.tempo), prosody.loudness_db])

    less, more = (distance(emotional_prosody(emotion, intensity, leak=leak)) for leak in leaks)
    assert (less <= more + 1e-12).all()
    weak, strong = (distance(emotional_prosody(emotion, level, leak=leaks[1])) for level in (1, 3))
    assert (weak <= strong + 1e-12).all()
    if emotion != "neutral" and leaks[1] > 0.01:
        assert (weak < strong).all()


def test_emotions_point_where_the_literature_says():
    voices = {name: emotional_prosody(name) for name in EMOTIONAL_VOICES}
    assert voices["neutral"] == Prosody()
    for high in ("angry", "happy", "fear"):
        assert voices[high].pitch > 1 > voices["sad"].pitch
        assert voices[high].tempo > 1 > voices["sad"].tempo
    for loud in ("angry", "happy"):
        assert voices[loud].loudness_db > 0 > voices["sad"].loudness_db
        assert voices[loud].pitch_range > 1 > voices["sad"].pitch_range
    assert len(voices) == 8
    assert len(set(voices.values())) == 8
    slow, fast = (say(SENTENCES[2], prosody=voices[name]).duration_s for name in ("sad", "fear"))
    assert slow > 1.3 * fast


def test_wrong_emotions_are_named():
    with pytest.raises(ValueError, match=r"emotion: expected one of neutral, .*found 'joy'"):
        emotional_prosody("joy")
    with pytest.raises(ValueError, match="intensity: expected 1, 2 or 3, found 0"):
        emotional_prosody("happy", 0)
    for leak in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="leak: expected a share"):
            emotional_prosody("happy", leak=leak)


# ------------------------------------------------------------------------------------------------------------ accents


def test_the_reference_accent_changes_nothing():
    assert ACCENTS[0] == Accent("A")
    assert all(ACCENTS[0].mixture(v) == {v: 1.0} for v in VOWELS)
    assert say(SENTENCES[0], accent=0).intended == say(SENTENCES[0], accent=0).alignment.phones


def test_accents_are_six_distinct_systems_with_proper_weights():
    assert [a.name for a in ACCENTS] == list("ABCDEF")
    mixtures = [tuple(tuple(sorted(a.mixture(v).items())) for v in MONOPHTHONGS) for a in ACCENTS]
    assert len(set(mixtures)) == 6
    for accent in ACCENTS:
        assert all(sum(accent.mixture(v).values()) == pytest.approx(1) for v in VOWELS)


def test_the_alignment_names_the_spoken_consonant_and_keeps_the_intended_one():
    said = say("I think this path is smooth.", accent=1)
    assert "TH" not in said.alignment.phones
    assert "DH" not in said.alignment.phones
    changed = {(a, b) for a, b in zip(said.intended, said.alignment.phones, strict=True) if a != b}
    assert changed == {("TH", "S"), ("DH", "Z")}


def test_rhythm_and_length_of_an_accent_act_on_durations(monkeypatch):
    even = Accent("even", stress_contrast=0.0)
    long = Accent("long", vowel_length={"AA": 1.5}, tempo=2.0)
    blunt = Accent("blunt", final_lengthening=0.0)
    monkeypatch.setattr(speech, "ACCENTS", (Accent("A"), even, long, blunt))
    speech._word_durations.cache_clear()
    speech._lay_out.cache_clear()
    text = "T AA1 B AA0 B AA1 D"
    assert mean_ms(text, "AA", place=1, accent=1) == pytest.approx(mean_ms(text, "AA", place=0, accent=1), rel=0.03)
    assert mean_ms("HH AA1 D", "AA", accent=2) == pytest.approx(0.75 * mean_ms("HH AA1 D", "AA"), rel=0.03)
    assert mean_ms("HH AA1 D", "AA", accent=3) == pytest.approx(mean_ms("HH AA1 D", "AA") / 1.4, rel=0.03)
    monkeypatch.undo()
    speech._word_durations.cache_clear()
    speech._lay_out.cache_clear()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vowel_shift": {"AA": {"AA": 0.5, "AE": 0.4}}}, "weights of AA must be 0 or more and sum to 1"),
        ({"vowel_shift": {"AA": {"AA": 1.5, "AE": -0.5}}}, "weights of AA"),
        ({"vowel_shift": {"AY": {"AA": 1.0}}}, r"simple vowels, found \['AY'\]"),
        ({"consonants": {"TH": "Q"}}, "accent X: unknown phone 'Q'"),
    ],
)
def test_wrong_accents_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        Accent("X", **options)


# ------------------------------------------------------------------------------------------------------------ batches


@given(st.floats(0.5, 12.0), st.integers(0, 1000), st.sampled_from(["sentences", "words"]))
@settings(max_examples=40)
def test_of_length_is_exactly_as_long_as_asked(seconds, seed, source):
    said = of_length(seconds, rng=np.random.default_rng(seed), source=source)
    assert said.duration_s == seconds
    assert said.alignment.phones[0] == said.alignment.phones[-1] == SILENCE
    assert (np.diff(said.alignment.boundaries_s) > 0.01).all()


def test_of_length_stretches_little():
    rng = np.random.default_rng(0)
    edges = [said.alignment.boundaries_s[1] for said in utterances(400, rng=rng, seconds=2.0)]
    stretch = np.sqrt(np.var(np.log(edges)) - speech.RULES.spread**2)
    assert stretch < 0.09
    assert np.mean(np.log(edges)) == pytest.approx(np.log(0.12), abs=0.03)


def test_batches_repeat_per_state_and_use_every_sentence_equally():
    one, two = (utterances(310, rng=np.random.default_rng(9)) for _ in range(2))
    assert [u.text for u in one] == [u.text for u in two]
    np.testing.assert_array_equal(one[-1].alignment.boundaries_s, two[-1].alignment.boundaries_s)
    assert sorted(u.text for u in one[: len(SENTENCES)]) == sorted(SENTENCES)
    assert sorted(u.text for u in one[len(SENTENCES) : 2 * len(SENTENCES)]) == sorted(SENTENCES)
    assert utterances(0, rng=np.random.default_rng(0)) == []


def test_batches_take_one_manner_for_all_or_one_for_each():
    rng = np.random.default_rng(0)
    manners = [emotional_prosody(e) for e in ("sad", "happy", "neutral")]
    batch = utterances(3, rng=rng, prosody=manners, accent=[0, 2, 5], source="words")
    assert [u.accent for u in batch] == [0, 2, 5]
    assert [u.prosody.pitch for u in batch] == [m.pitch for m in manners]
    assert {u.accent for u in utterances(4, rng=rng, accent=3, seconds=1.0)} == {3}


def test_wrong_arguments_of_batches_are_named():
    rng = np.random.default_rng(0)
    for call, message in [
        (lambda: utterances(3, rng=rng, accent=[0, 1]), "expected 3 prosodies and accents, found 3 and 2"),
        (lambda: utterances(-1, rng=rng), "count: expected 0 or more"),
        (lambda: utterances(1, rng=rng, source="news"), "source: expected 'sentences'"),
        (lambda: of_length(0.4, rng=rng), "seconds: expected at least 0.5"),
        (lambda: of_length(float("nan"), rng=rng), "seconds: expected at least 0.5"),
        (lambda: of_length(2.0, rng=rng, accent=6), r"accent: expected 0 to 5 \(A, B, C, D, E, F\), found 6"),
        (lambda: say("yes", accent=-1), "accent: expected 0 to 5"),
        (lambda: say("yes", prosody=Prosody(accents=(1.0, 1.0))), "one strength for each of the 1 words"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tempo": 0.0}, "tempo: expected a positive factor"),
        ({"pitch": float("nan")}, "pitch: expected a positive factor"),
        ({"pitch_range": -1.0}, "pitch_range: expected a factor of 0"),
        ({"loudness_db": float("inf")}, "loudness_db, undulation_phase: expected finite"),
        ({"accents": (1.0, -1.0)}, "accents: expected strengths of 0 or more"),
    ],
)
def test_wrong_prosody_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        Prosody(**options)


def test_utterances_refuse_alignments_they_cannot_speak():
    good = say("yes").alignment
    for alignment, message in [
        (replace(good, stress=()), "does not say which vowels are stressed"),
        (replace(good, phones=("SIL", "Y", "EH", "S", "T")), "expected SIL at both ends"),
        (replace(good, phones=("SIL", "Y", "EH", "Q", "SIL")), r"unknown phones \['Q'\]"),
        (Alignment(("SIL", "SIL"), np.array([0, 1, 2.0]), (-1, -1)), "speech between"),
    ]:
        with pytest.raises(ValueError, match=message):
            speech.Utterance(alignment, "yes", Prosody())
    with pytest.raises(ValueError, match="expected 5 intended phones, found 1"):
        speech.Utterance(good, "yes", Prosody(), intended=("Y",))


def test_an_utterance_from_a_real_alignment_needs_no_more_than_stress():
    good = say("Yes, the garden.").alignment
    said = speech.Utterance(good, "Yes, the garden.", Prosody(question=True))
    assert said.word_accents == (1.0, 0.0, 1.0)
    assert said.pitch(good.boundaries_s[-2:-1])[0] == pytest.approx(0.84 * 1.4, rel=0.051)


def test_teaching_carriers_can_be_said():
    assert say(hvd("OW")).alignment.phones == ("SIL", "HH", "OW", "D", "SIL")
