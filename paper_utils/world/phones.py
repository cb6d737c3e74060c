"""The 39 phones of American English in ARPABET, and silence: what kind each is, where it is made, how long it lasts.

One table, so that sound, face, text and alignments agree on the same set. A phone's spectrum and lips are not here: they follow from
the tract shapes of the articulation.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from paper_utils.data.speech import SILENCE

KINDS = ("vowel", "diphthong", "plosive", "fricative", "affricate", "nasal", "approximant", "silence")

# Shortest a phone of each kind becomes, in ms, however fast and reduced the speech. Choice of ours, near half the least duration
# that Klatt (1979) gives stressed segments; a stop needs room for a closure and a release.
SHORTEST_MS = {
    "vowel": 40.0,
    "diphthong": 60.0,
    "plosive": 40.0,
    "fricative": 35.0,
    "affricate": 60.0,
    "nasal": 35.0,
    "approximant": 35.0,
    "silence": 30.0,
}


@dataclass(frozen=True)
class Phone:
    """One phone of the set.

    Parameters
    ----------
    name
        ARPABET, upper case, without stress digit.
    kind
        One of `KINDS`.
    voiced
        Whether the vocal folds swing in its usual form.
    duration_ms
        Inherent duration: stressed, at the end of a phrase, at normal tempo. From Klatt (1979), from memory, unverified; ZH and SIL are
        choices of ours.
    place
        Where the mouth is narrowest, for consonants; for vowels front, central or back.
    rounded
        Whether the lips are rounded in some part of it.
    ipa
        The same phone in the International Phonetic Alphabet.
    example
        A word that has it.
    """

    name: str
    kind: str
    voiced: bool
    duration_ms: float
    place: str
    rounded: bool
    ipa: str
    example: str

    @property
    def shortest_ms(self) -> float:
        """Floor of its duration: that of its kind."""
        return SHORTEST_MS[self.kind]

    @property
    def is_vowel(self) -> bool:
        """Whether it makes a syllable and so carries stress: simple vowels and diphthongs."""
        return self.kind in ("vowel", "diphthong")


# name, kind, voiced, inherent ms, place, rounded, IPA, example
_TABLE = (
    ("IY", "vowel", True, 155, "front", False, "i", "bee"),
    ("IH", "vowel", True, 135, "front", False, "ɪ", "bit"),
    ("EH", "vowel", True, 150, "front", False, "ɛ", "bed"),
    ("AE", "vowel", True, 230, "front", False, "æ", "bad"),
    ("AA", "vowel", True, 240, "back", False, "ɑ", "father"),
    ("AO", "vowel", True, 240, "back", True, "ɔ", "law"),
    ("UH", "vowel", True, 160, "back", True, "ʊ", "book"),
    ("UW", "vowel", True, 210, "back", True, "u", "blue"),
    ("AH", "vowel", True, 140, "central", False, "ʌ", "bus"),
    ("ER", "vowel", True, 180, "central", True, "ɝ", "bird"),
    ("EY", "diphthong", True, 190, "front", False, "eɪ", "day"),
    ("AY", "diphthong", True, 250, "central", False, "aɪ", "buy"),
    ("OY", "diphthong", True, 280, "back", True, "ɔɪ", "boy"),
    ("AW", "diphthong", True, 260, "central", True, "aʊ", "cow"),
    ("OW", "diphthong", True, 220, "back", True, "oʊ", "boat"),
    ("P", "plosive", False, 90, "bilabial", False, "p", "pay"),
    ("B", "plosive", True, 85, "bilabial", False, "b", "bay"),
    ("T", "plosive", False, 75, "alveolar", False, "t", "tea"),
    ("D", "plosive", True, 75, "alveolar", False, "d", "day"),
    ("K", "plosive", False, 80, "velar", False, "k", "key"),
    ("G", "plosive", True, 80, "velar", False, "ɡ", "go"),
    ("F", "fricative", False, 100, "labiodental", False, "f", "fee"),
    ("V", "fricative", True, 60, "labiodental", False, "v", "vow"),
    ("TH", "fricative", False, 90, "dental", False, "θ", "thin"),
    ("DH", "fricative", True, 50, "dental", False, "ð", "then"),
    ("S", "fricative", False, 105, "alveolar", False, "s", "see"),
    ("Z", "fricative", True, 75, "alveolar", False, "z", "zoo"),
    ("SH", "fricative", False, 105, "postalveolar", True, "ʃ", "she"),
    ("ZH", "fricative", True, 70, "postalveolar", True, "ʒ", "measure"),
    ("HH", "fricative", False, 80, "glottal", False, "h", "hay"),
    ("CH", "affricate", False, 110, "postalveolar", True, "tʃ", "chew"),
    ("JH", "affricate", True, 90, "postalveolar", True, "dʒ", "joy"),
    ("M", "nasal", True, 70, "bilabial", False, "m", "me"),
    ("N", "nasal", True, 60, "alveolar", False, "n", "no"),
    ("NG", "nasal", True, 95, "velar", False, "ŋ", "sing"),
    ("L", "approximant", True, 80, "alveolar", False, "l", "low"),
    ("R", "approximant", True, 80, "postalveolar", True, "ɹ", "row"),
    ("W", "approximant", True, 80, "labiovelar", True, "w", "we"),
    ("Y", "approximant", True, 80, "palatal", False, "j", "you"),
    (SILENCE, "silence", False, 120, "", False, "", ""),
)

PHONES: dict[str, Phone] = {row[0]: Phone(*row) for row in _TABLE}


def _where(**wanted: object) -> tuple[str, ...]:
    return tuple(p.name for p in PHONES.values() if all(getattr(p, key) == value for key, value in wanted.items()))


CLASSES: dict[str, tuple[str, ...]] = {kind: _where(kind=kind) for kind in KINDS}
MONOPHTHONGS = CLASSES["vowel"]
DIPHTHONGS = CLASSES["diphthong"]
VOWELS = _where(is_vowel=True)
CONSONANTS = tuple(p for p in PHONES if p not in VOWELS and p != SILENCE)
PLOSIVES = CLASSES["plosive"]
FRICATIVES = CLASSES["fricative"]
AFFRICATES = CLASSES["affricate"]
NASALS = CLASSES["nasal"]
APPROXIMANTS = CLASSES["approximant"]
BILABIALS = _where(place="bilabial")
LABIODENTALS = _where(place="labiodental")
SIBILANTS = ("S", "Z", "SH", "ZH", "CH", "JH")
ROUNDED = _where(rounded=True)
VOICED = _where(voiced=True)


def phone(name: str) -> Phone:
    """The phone of that name.

    Raises
    ------
    ValueError
        If there is none; the message lists the set.

    Examples
    --------
    >>> phone("B").kind, phone("B").place
    ('plosive', 'bilabial')
    """
    if name not in PHONES:
        raise ValueError(f"phone {name!r} is unknown; expected one of {' '.join(PHONES)} (upper case, no stress digit)")
    return PHONES[name]


def check_phones(names: Iterable[str], where: str = "phones") -> None:
    """Refuse anything outside the set.

    Parameters
    ----------
    names
        Phones without stress digits.
    where
        What to call them in the message.

    Raises
    ------
    ValueError
        Naming each unknown phone with its position, counted from 1.
    """
    wrong = [f"{name!r} at position {i}" for i, name in enumerate(names, start=1) if name not in PHONES]
    if wrong:
        raise ValueError(f"{where}: unknown phone {', '.join(wrong)}; expected the 39 ARPABET phones or {SILENCE}")
