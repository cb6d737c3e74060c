"""Words and sentences that English could have had, and the carriers of teaching: hVd words, CV, VC and VCV frames.

Random words know no meaning and no frequency: every phone meets every other as far as English allows, so that no method can learn
the lexicon instead of the sounds.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from paper_utils.world.lexicon import LEXICON, Transcript, Word, spoken_word
from paper_utils.world.phones import CONSONANTS, DIPHTHONGS, VOWELS

HVD = {
    "IY": "heed", "IH": "hid", "EH": "head", "AE": "had", "AA": "hod", "AO": "hawed", "UH": "hood", "UW": "who'd", "AH": "hud",
    "ER": "heard", "EY": "hayed", "AY": "hide", "OY": "hoyed", "AW": "how'd", "OW": "hoed",
}  # fmt: skip


def hvd(vowel: str) -> Transcript:
    """The vowel between HH and D, the frame of most studies of vowels: its neighbours hardly move the mouth.

    Raises
    ------
    ValueError
        If `vowel` is none of the 15 vowels and diphthongs.

    Examples
    --------
    >>> hvd("IY").words[0]
    Word(text='heed', phones=('HH', 'IY', 'D'), stress=(-1, 1, -1))
    """
    if vowel not in HVD:
        raise ValueError(f"vowel: expected one of {' '.join(HVD)}, found {vowel!r}")
    return Transcript.of((spoken_word(["HH", f"{vowel}1", "D"], HVD[vowel]),), (".",))


def carrier(consonant: str, *, vowel: str = "AA", form: str = "VCV") -> Transcript:
    """A consonant in a vowel: ``CV``, ``VC``, or ``VCV`` with the stress on the second vowel.

    Raises
    ------
    ValueError
        If the consonant, the vowel or the form is unknown.

    Examples
    --------
    >>> carrier("B", vowel="IY").words[0].phones
    ('IY', 'B', 'IY')
    """
    if consonant not in CONSONANTS:
        raise ValueError(f"consonant: expected one of {' '.join(CONSONANTS)}, found {consonant!r}")
    if vowel not in VOWELS:
        raise ValueError(f"vowel: expected one of {' '.join(VOWELS)}, found {vowel!r}")
    frames = {
        "CV": [consonant, f"{vowel}1"],
        "VC": [f"{vowel}1", consonant],
        "VCV": [f"{vowel}0", consonant, f"{vowel}1"],
    }
    if form not in frames:
        raise ValueError(f"form: expected one of {' '.join(frames)}, found {form!r}")
    return Transcript.of((spoken_word(frames[form]),), (".",))


# Which clusters English allows is common knowledge of phonology; the shares below are choices of ours that let every phone occur often.
_ONSET_TABLE = "P L|P R|B L|B R|T R|T W|D R|K L|K R|K W|G L|G R|F L|F R|TH R|SH R|S P|S T|S K|S M|S N|S L|S W|S P R|S T R|S K R|S K W|S P L"
_CODA_TABLE = "S T|S K|S P|N D|N T|M P|NG K|L D|L T|L K|L P|L F|L V|R D|R T|R K|R M|R N|K T|P T|K S|T S|P S|N S|N Z|D Z|N CH|N JH|F T"
ONSET_CLUSTERS, CODA_CLUSTERS = (
    tuple(tuple(cluster.split()) for cluster in table.split("|")) for table in (_ONSET_TABLE, _CODA_TABLE)
)
_ONSETS = tuple((phone,) for phone in CONSONANTS if phone not in ("NG", "ZH"))
_CODAS = tuple((phone,) for phone in CONSONANTS if phone not in ("HH", "W", "Y"))
LAX_VOWELS = ("IH", "EH", "AE", "AH", "UH")
_WEAK_VOWELS = ("AH", "IH", "ER", "IY", "OW")
_GLUE = ("the", "a", "of", "and", "with", "to", "this", "my")

Choice = TypeVar("Choice")


def _pick(rng: np.random.Generator, choices: tuple[Choice, ...]) -> Choice:
    return choices[int(rng.integers(len(choices)))]


def _onset(rng: np.random.Generator, *, medial: bool) -> tuple[str, ...]:
    """Consonants before a vowel: none (only at the start of a word), one, or a cluster; ZH only inside a word."""
    chance = rng.random()
    if not medial and chance < 0.12:
        return ()
    if chance < (0.15 if medial else 0.35):
        return _pick(rng, ONSET_CLUSTERS)
    if medial and chance > 0.96:
        return ("ZH",)
    return _pick(rng, _ONSETS)


def _coda(rng: np.random.Generator, vowel: str) -> tuple[str, ...]:
    """Consonants after the last vowel: a lax vowel needs one, NG needs a lax vowel, diphthongs take no cluster, ER takes no R."""
    chance = rng.random()
    if chance < 0.3 and vowel not in LAX_VOWELS:
        return ()
    choices = CODA_CLUSTERS if chance > 0.75 and vowel not in DIPHTHONGS else _CODAS
    unfit = {"NG"} if vowel not in ("IH", "AE", "AH") else set()
    unfit |= {"R"} if vowel in ("ER", "AW", "OY") else set()
    return _pick(rng, tuple(choice for choice in choices if choice[0] not in unfit))


def random_word(rng: np.random.Generator, *, syllables: int | None = None) -> Word:
    """A word that English could have had: onsets, vowels and codas that English allows, one primary stress.

    Parameters
    ----------
    rng
        Source of chance; the same state gives the same word.
    syllables
        1 to 4; drawn if ``None`` (55 % one, 35 % two, 10 % three: choice of ours).

    Raises
    ------
    ValueError
        If syllables is outside 1 to 4.

    Examples
    --------
    >>> random_word(np.random.default_rng(0), syllables=2).stress.count(1)
    1
    """
    if syllables is None:
        syllables = 1 + int(np.searchsorted((0.55, 0.9), rng.random(), side="right"))
    if not 1 <= syllables <= 4:
        raise ValueError(f"syllables: expected 1 to 4, found {syllables}")
    stressed = 0 if syllables == 1 or rng.random() < 0.75 else 1
    symbols: list[str] = []
    for syllable in range(syllables):
        symbols += _onset(rng, medial=syllable > 0)
        vowel = _pick(rng, VOWELS if syllable == stressed else _WEAK_VOWELS)
        symbols.append(f"{vowel}{int(syllable == stressed)}")
    return spoken_word([*symbols, *_coda(rng, vowel)])


def random_sentence(rng: np.random.Generator, *, words: int | None = None) -> Transcript:
    """Random words in a row, some joined by function words as in English; one in five is a question.

    Parameters
    ----------
    rng
        Source of chance.
    words
        How many random words; 2 to 5 if ``None``.

    Raises
    ------
    ValueError
        If `words` is less than 1.
    """
    words = int(rng.integers(2, 6)) if words is None else words
    if words < 1:
        raise ValueError(f"words: expected at least 1, found {words}")
    said: list[Word] = []
    for _ in range(words):
        if rng.random() < 0.4:
            said.append(LEXICON[_pick(rng, _GLUE)])
        said.append(random_word(rng))
    return Transcript.of(tuple(said), ("",) * (len(said) - 1) + ("?" if rng.random() < 0.2 else ".",))
