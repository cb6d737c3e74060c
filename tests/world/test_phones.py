"""Phone set, lexicon, sentences, transcription and random words."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paper_utils.world import lexicon, phones, phonotactics
from paper_utils.world.lexicon import FUNCTION_WORDS, LEXICON, SENTENCES, parse_phones, read, transcribe
from paper_utils.world.phones import CONSONANTS, PHONES, SILENCE, VOWELS

# ---------------------------------------------------------------------------------------------------------- phone set


def test_the_set_is_the_39_phones_and_silence():
    assert len(PHONES) == 40
    assert len(VOWELS) == 15
    assert len(CONSONANTS) == 24
    assert {*VOWELS, *CONSONANTS, SILENCE} == set(PHONES)
    assert sorted(p for kind in phones.KINDS for p in phones.CLASSES[kind]) == sorted(PHONES)


def test_classes_hold_what_phonetics_says():
    assert phones.BILABIALS == ("P", "B", "M")
    assert phones.LABIODENTALS == ("F", "V")
    assert phones.NASALS == ("M", "N", "NG")
    assert set(phones.SIBILANTS) <= {*phones.FRICATIVES, *phones.AFFRICATES}
    assert set(VOWELS) | set(phones.NASALS) | set(phones.APPROXIMANTS) <= set(phones.VOICED)
    pairs = ["PB", "TD", "KG", "FV", "SZ", ("TH", "DH"), ("SH", "ZH"), ("CH", "JH")]
    for voiceless, voiced in pairs:
        assert (PHONES[voiceless].voiced, PHONES[voiced].voiced) == (False, True)
        assert PHONES[voiceless].place == PHONES[voiced].place
        assert PHONES[voiceless].duration_ms >= PHONES[voiced].duration_ms


def test_every_phone_lasts_longer_than_its_floor():
    assert all(p.duration_ms > p.shortest_ms > 0 for p in PHONES.values())


def test_unknown_phones_are_named_with_their_positions():
    with pytest.raises(ValueError, match="'AX' is unknown"):
        phones.phone("AX")
    with pytest.raises(ValueError, match="'ax' at position 2, 'Q' at position 4"):
        phones.check_phones(["AA", "ax", "B", "Q"])


# ------------------------------------------------------------------------------------------------------------ lexicon


def test_every_word_is_made_of_known_phones_with_stress_on_vowels_only():
    assert len(LEXICON) > 900
    for word in LEXICON.values():
        assert word.text == word.text.lower()
        for phone, stress in zip(word.phones, word.stress, strict=True):
            assert (stress in (0, 1, 2)) == (phone in VOWELS), word
            assert phone in PHONES


def test_content_words_have_one_primary_stress_and_short_function_words_none():
    assert set(LEXICON) >= FUNCTION_WORDS
    for text, word in LEXICON.items():
        syllables = sum(stress >= 0 for stress in word.stress)
        expected = 0 if text in FUNCTION_WORDS and syllables == 1 else 1
        assert word.stress.count(1) == expected, word


def test_no_word_is_defined_twice():
    entries = [entry.split()[0] for entry in lexicon._PRONUNCIATIONS.split(";")]
    assert len(entries) == len(set(entries)) == len(LEXICON)


def test_known_pairs_sound_as_they_should():
    for one, other in [
        ("sea", "see"),
        ("blue", "blew"),
        ("hour", "our"),
        ("one", "won"),
        ("wood", "would"),
        ("no", "know"),
    ]:
        assert LEXICON[one].phones == LEXICON[other].phones
    for one, other in [("ship", "sheep"), ("bath", "breathe"), ("house", "how"), ("read", "ride")]:
        assert LEXICON[one].phones != LEXICON[other].phones


def test_sentences_are_ordinary_distinct_and_cover_all_phones():
    assert len(SENTENCES) >= 150
    assert len({s.lower() for s in SENTENCES}) == len(SENTENCES)
    counts = Counter(p for s in SENTENCES for word in transcribe(s).words for p in word.phones)
    assert set(counts) == set(PHONES) - {SILENCE}
    assert min(counts.values()) >= 10
    assert sum(s.endswith("?") for s in SENTENCES) >= 20
    assert all(s[0].isupper() and s[-1] in ".?" for s in SENTENCES)
    assert all(4 <= len(transcribe(s).words) <= 14 for s in SENTENCES)


# ------------------------------------------------------------------------------------------------------ transcription


def test_text_becomes_words_and_marks():
    found = transcribe("“Yes,” she said: is it 42?")
    assert [w.text for w in found.words] == ["yes", "she", "said", "is", "it", "four", "two"]
    assert found.marks == (",", "", ",", "", "", "", "?")
    assert transcribe("no... yes!").marks == (".", ".")
    assert transcribe("wait").marks == (".",)
    assert transcribe("The door?").text == "The door?"


def test_unknown_words_are_all_listed_with_the_nearest_known():
    with pytest.raises(ValueError, match=r"'Hapy' \(nearest: happy.*'xqzv' \(nearest: none\)"):
        transcribe("Hapy birds xqzv")
    for empty in ("", " ... ", "?"):
        with pytest.raises(ValueError, match="at least one word"):
            transcribe(empty)


def test_phone_strings_become_words():
    found = parse_phones("HH AH0 L OW1 | W ER1 L D ? Y EH1 S SIL N OW1")
    assert [w.phones for w in found.words] == [
        ("HH", "AH", "L", "OW"),
        ("W", "ER", "L", "D"),
        ("Y", "EH", "S"),
        ("N", "OW"),
    ]
    assert found.words[0].stress == (-1, 0, -1, 1)
    assert found.marks == ("", "?", ",", ".")
    assert parse_phones("N OW1 | ? ").marks == ("?",)
    assert parse_phones(". | N OW1 , . Y EH1 S ?").marks == (".", "?")


@pytest.mark.parametrize(
    ("string", "message"),
    [
        ("HH AX0 L OW1", "'AX0' at position 2 of 4 is no ARPABET phone"),
        ("N OW1 | XX", "'XX' at position 4 of 4 is no ARPABET phone"),
        ("HH AA D", "'AA' at position 2 of 3 is a vowel and needs its stress"),
        ("AA3", "'AA3' at position 1 of 1 is a vowel and needs its stress"),
        ("HH1 AA1", "'HH1' at position 1 of 2 is a consonant"),
        (" | . ", "at least one phone"),
    ],
)
def test_wrong_phone_strings_name_symbol_and_position(string, message):
    with pytest.raises(ValueError, match=message):
        parse_phones(string)


def test_read_tells_phones_from_text():
    assert read("N OW1").words[0].phones == ("N", "OW")
    assert [w.text for w in read("AM I IN?").words] == ["am", "i", "in"]
    assert [w.text for w in read("I am 4").words] == ["i", "am", "four"]


def test_first_words_close_their_sentence():
    whole = transcribe("Yes, we can. Is it good?")
    assert whole.first(1).marks == (".",)
    assert whole.first(1).text == "yes."
    assert whole.first(5).marks == (*whole.marks[:4], ".")
    assert whole.first(6).marks == whole.marks
    with pytest.raises(ValueError, match="expected 1 to 6, found 7"):
        whole.first(7)


def test_transcripts_refuse_what_is_no_transcript():
    word = LEXICON["yes"]
    with pytest.raises(ValueError, match="at least one word"):
        lexicon.Transcript((), (), "")
    with pytest.raises(ValueError, match="end with"):
        lexicon.Transcript((word,), (",",), "yes,")
    with pytest.raises(ValueError, match="1 words and 2 marks"):
        lexicon.Transcript((word,), ("", "."), "yes")


# ------------------------------------------------------------------------------------------------------- random words


@given(st.integers(0, 2**32 - 1), st.sampled_from([None, 1, 2, 3, 4]))
def test_random_words_obey_english_phonotactics(seed, syllables):
    word = phonotactics.random_word(np.random.default_rng(seed), syllables=syllables)
    again = phonotactics.random_word(np.random.default_rng(seed), syllables=syllables)
    assert word == again
    nuclei = [i for i, phone in enumerate(word.phones) if phone in VOWELS]
    assert word.stress.count(1) == 1
    assert len(nuclei) == (syllables or len(nuclei)) <= 4
    onset, coda = word.phones[: nuclei[0]], word.phones[nuclei[-1] + 1 :]
    assert len(onset) <= 1 or onset in phonotactics.ONSET_CLUSTERS
    assert len(coda) <= 1 or coda in phonotactics.CODA_CLUSTERS
    assert not {"NG", "ZH"} & set(onset)
    assert not {"HH", "W", "Y"} & set(coda)
    assert coda or word.phones[-1] not in phonotactics.LAX_VOWELS
    assert "NG" not in coda or word.phones[nuclei[-1]] in phonotactics.LAX_VOWELS


def test_random_words_cover_all_phones_and_lengths():
    rng = np.random.default_rng(3)
    words = [phonotactics.random_word(rng) for _ in range(3000)]
    counts = Counter(phone for word in words for phone in word.phones)
    assert set(counts) == set(PHONES) - {SILENCE}
    assert min(counts.values()) > 0.003 * sum(counts.values())
    lengths = Counter(sum(s >= 0 for s in word.stress) for word in words)
    assert lengths[1] / 3000 == pytest.approx(0.55, abs=0.04)
    assert lengths[3] / 3000 == pytest.approx(0.10, abs=0.03)
    stresses = [[s for s in word.stress if s >= 0] for word in words]
    assert np.mean([s[0] for s in stresses if len(s) > 1]) == pytest.approx(0.75, abs=0.05)


def test_random_sentences_mix_random_and_function_words():
    rng = np.random.default_rng(1)
    sentences = [phonotactics.random_sentence(rng, words=3) for _ in range(300)]
    assert all(sum(w.text not in FUNCTION_WORDS for w in s.words) == 3 for s in sentences)
    assert np.mean([s.marks[-1] == "?" for s in sentences]) == pytest.approx(0.2, abs=0.08)
    assert np.mean([len(s.words) - 3 for s in sentences]) == pytest.approx(1.2, abs=0.2)


def test_carriers_frame_the_phone():
    assert set(phonotactics.HVD) == set(VOWELS)
    for vowel in VOWELS:
        (word,) = phonotactics.hvd(vowel).words
        assert word.phones == ("HH", vowel, "D")
        if word.text in LEXICON and word.text not in FUNCTION_WORDS:
            assert LEXICON[word.text].phones == word.phones
    assert phonotactics.carrier("S", form="CV").words[0].phones == ("S", "AA")
    assert phonotactics.carrier("NG", vowel="IH", form="VC").words[0].phones == ("IH", "NG")
    assert phonotactics.carrier("B").words[0].stress == (0, -1, 1)
    assert [LEXICON[d].text for d in lexicon.DIGITS][:3] == ["zero", "one", "two"]


def test_wrong_arguments_are_named():
    rng = np.random.default_rng(0)
    for call, message in [
        (lambda: phonotactics.hvd("B"), "vowel: expected one of IY"),
        (lambda: phonotactics.carrier("AA"), "consonant: expected one of P"),
        (lambda: phonotactics.carrier("B", vowel="D"), "vowel: expected"),
        (lambda: phonotactics.carrier("B", form="CVC"), "form: expected one of CV VC VCV"),
        (lambda: phonotactics.random_word(rng, syllables=5), "syllables: expected 1 to 4, found 5"),
        (lambda: phonotactics.random_sentence(rng, words=0), "words: expected at least 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
