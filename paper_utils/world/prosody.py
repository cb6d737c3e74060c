"""How something is said: pitch, loudness and tempo of an utterance, what an emotion does to them, and stylised accents.

Kept apart from what is said, so that the same words can be spoken neutrally and in anger, or by the reference accent and another.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from paper_utils.world.phones import MONOPHTHONGS, check_phones


@dataclass(frozen=True)
class Prosody:
    """Manner of one utterance, relative to the speaker's own habits.

    Parameters
    ----------
    pitch
        Factor on the speaker's base F0.
    pitch_range
        Factor on all excursions of pitch on a logarithmic scale; 0 is a monotone voice.
    loudness_db
        Added to the level.
    tempo
        Factor on the rate: 2 halves every duration.
    question
        Whether the last sentence is asked, whatever its punctuation.
    accents
        Strength of the pitch accent of each word, 1 for a normal one. Empty: drawn, or 1 for content words and 0 for function words.
    undulation_phase
        Phase in radians of the slow undulation of pitch.

    Raises
    ------
    ValueError
        If a number is not finite or a factor is not positive.
    """

    pitch: float = 1.0
    pitch_range: float = 1.0
    loudness_db: float = 0.0
    tempo: float = 1.0
    question: bool = False
    accents: tuple[float, ...] = ()
    undulation_phase: float = 0.0

    def __post_init__(self) -> None:
        for name in ("pitch", "tempo"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name}: expected a positive factor (1 is the speaker's own), found {value}")
        if not (math.isfinite(self.pitch_range) and self.pitch_range >= 0):
            raise ValueError(f"pitch_range: expected a factor of 0 (monotone) or more, found {self.pitch_range}")
        if not (math.isfinite(self.loudness_db) and math.isfinite(self.undulation_phase)):
            raise ValueError(
                f"loudness_db, undulation_phase: expected finite numbers, found {self.loudness_db}, {self.undulation_phase}"
            )
        if any(not (math.isfinite(strength) and strength >= 0) for strength in self.accents):
            raise ValueError(f"accents: expected strengths of 0 or more, found {self.accents}")


NEUTRAL = Prosody()


# ------------------------------------------------------------------------------------------------------------ emotion


@dataclass(frozen=True)
class EmotionalVoice:
    """What an emotion at full intensity does to the voice.

    Parameters
    ----------
    pitch, pitch_range, tempo
        Factors.
    loudness_db
        Added level.
    """

    pitch: float = 1.0
    pitch_range: float = 1.0
    tempo: float = 1.0
    loudness_db: float = 0.0


# Directions of anger, fear, joy and sadness follow the reviews of Scherer (2003) and Juslin & Laukka (2003), from memory, unverified:
# anger and joy high, wide, fast and loud; fear high, narrow and fast; sadness low, narrow, slow and soft. Their sizes, and all of
# disgust, surprise and contempt, are choices of ours.
EMOTIONAL_VOICES: dict[str, EmotionalVoice] = {
    "neutral": EmotionalVoice(),
    "happy": EmotionalVoice(pitch=1.25, pitch_range=1.50, tempo=1.08, loudness_db=3.0),
    "sad": EmotionalVoice(pitch=0.88, pitch_range=0.55, tempo=0.80, loudness_db=-5.0),
    "angry": EmotionalVoice(pitch=1.20, pitch_range=1.35, tempo=1.15, loudness_db=7.0),
    "fear": EmotionalVoice(pitch=1.45, pitch_range=0.75, tempo=1.22, loudness_db=-1.0),
    "disgust": EmotionalVoice(pitch=0.93, pitch_range=0.85, tempo=0.84, loudness_db=-1.0),
    "surprise": EmotionalVoice(pitch=1.35, pitch_range=1.70, tempo=0.96, loudness_db=4.0),
    "contempt": EmotionalVoice(pitch=0.90, pitch_range=0.70, tempo=0.92, loudness_db=-2.5),
}

# Share of the full effect at intensity 1, 2, 3; choice of ours.
INTENSITY_SHARE = (0.4, 0.7, 1.0)


def emotional_prosody(emotion: str, intensity: int = 3, *, leak: float = 1.0, base: Prosody = NEUTRAL) -> Prosody:
    r"""Prosody of an emotion, as far as it leaks into the voice.

    .. math:: f = f_0\, e^{\lambda\, w_i \ln f_e} \quad\text{for factors},\qquad g = g_0 + \lambda\, w_i\, g_e \quad\text{for decibels}

    Parameters
    ----------
    emotion
        One of `EMOTIONAL_VOICES`.
    intensity
        1, 2 or 3, as in MEAD; chooses :math:`w_i`. Neutral has no intensity: any of them gives the same.
    leak
        :math:`\lambda` in [0, 1]: how much of the emotion the voice betrays. At 0 the result is exactly `base`, and the sound says
        nothing about the emotion: the negative control of every claim that a method hears it.
    base
        Prosody of the same utterance without emotion, :math:`f_0, g_0`.

    Raises
    ------
    ValueError
        If the emotion is unknown, the intensity is not 1 to 3, or the leak lies outside [0, 1].

    References
    ----------
    EMOTE (Danecek et al. 2023) trains on speech whose sound and label agree; the leak is the switch on that agreement, a choice of ours.

    Examples
    --------
    >>> emotional_prosody("angry", leak=0) == Prosody()
    True
    """
    if emotion not in EMOTIONAL_VOICES:
        raise ValueError(f"emotion: expected one of {', '.join(EMOTIONAL_VOICES)}, found {emotion!r}")
    if intensity not in (1, 2, 3):
        raise ValueError(f"intensity: expected 1, 2 or 3, found {intensity}")
    if not 0 <= leak <= 1:
        raise ValueError(f"leak: expected a share in [0, 1], found {leak}")
    voice = EMOTIONAL_VOICES[emotion]
    share = leak * INTENSITY_SHARE[intensity - 1]
    return replace(
        base,
        pitch=base.pitch * voice.pitch**share,
        pitch_range=base.pitch_range * voice.pitch_range**share,
        tempo=base.tempo * voice.tempo**share,
        loudness_db=base.loudness_db + share * voice.loudness_db,
    )


# ------------------------------------------------------------------------------------------------------------ accents


@dataclass(frozen=True)
class Accent:
    """A systematic way of speaking that a group of people shares.

    Parameters
    ----------
    name
        One letter.
    vowel_shift
        For each simple vowel that moves, the vowels whose tract shapes it is mixed of, with weights that sum to 1. The alignment keeps
        the name of the vowel itself.
    consonants
        Consonants that are replaced by others; the alignment names what is spoken.
    vowel_length
        Factors on the durations of some vowels.
    tempo, pitch_range
        Factors on the rate and on pitch excursions.
    stress_contrast
        1: unstressed syllables are as much shorter as in the reference; 0: all syllables are alike; above 1: more contrast.
    final_lengthening
        Factor on the lengthening before a pause, as an exponent; 1 as in the reference, 0 none.

    Raises
    ------
    ValueError
        If a phone is unknown, a shifted vowel is a diphthong, or weights are negative or do not sum to 1.
    """

    name: str
    vowel_shift: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    consonants: Mapping[str, str] = field(default_factory=dict)
    vowel_length: Mapping[str, float] = field(default_factory=dict)
    tempo: float = 1.0
    pitch_range: float = 1.0
    stress_contrast: float = 1.0
    final_lengthening: float = 1.0

    def __post_init__(self) -> None:
        where = f"accent {self.name}"
        check_phones((*self.consonants, *self.consonants.values(), *self.vowel_length), where)
        for vowel, mixture in self.vowel_shift.items():
            if wrong := {vowel, *mixture} - set(MONOPHTHONGS):
                raise ValueError(f"{where}: vowel_shift takes simple vowels, found {sorted(wrong)}")
            if min(mixture.values()) < 0 or abs(sum(mixture.values()) - 1) > 1e-9:
                raise ValueError(f"{where}: weights of {vowel} must be 0 or more and sum to 1, found {dict(mixture)}")

    def mixture(self, vowel: str) -> dict[str, float]:
        """Vowels that this accent mixes its `vowel` of, with weights that sum to 1; the vowel itself if it does not move."""
        return dict(self.vowel_shift.get(vowel, {vowel: 1.0}))

    def spoken(self, phones: tuple[str, ...]) -> tuple[str, ...]:
        """The phones after the accent's replacements."""
        return tuple(self.consonants.get(phone, phone) for phone in phones) if self.consonants else phones


# Invented accents, stylised: they borrow kinds of change that languages show (vowels that drift or merge, dental fricatives that become
# stops or sibilants, even or uneven rhythm) in mixtures that match no nation. Every number is a choice of ours.
ACCENTS: tuple[Accent, ...] = (
    Accent("A"),
    Accent(
        "B",
        vowel_shift={
            "IH": {"IH": 0.5, "IY": 0.5},
            "AE": {"AE": 0.4, "EH": 0.6},
            "AH": {"AH": 0.4, "AA": 0.6},
            "UH": {"UH": 0.5, "UW": 0.5},
        },
        consonants={"TH": "S", "DH": "Z"},
        pitch_range=1.15,
        stress_contrast=0.5,
    ),
    Accent(
        "C",
        vowel_shift={
            "UW": {"UW": 0.55, "IH": 0.45},
            "AA": {"AA": 0.4, "AO": 0.6},
            "EH": {"EH": 0.5, "IH": 0.5},
            "ER": {"ER": 0.6, "AH": 0.4},
        },
        consonants={"W": "V"},
        tempo=0.93,
        pitch_range=0.8,
        final_lengthening=1.3,
    ),
    Accent(
        "D",
        vowel_shift={
            "IY": {"IY": 0.6, "IH": 0.4},
            "EH": {"EH": 0.5, "AE": 0.5},
            "AO": {"AO": 0.4, "AA": 0.6},
            "UW": {"UW": 0.55, "UH": 0.45},
        },
        consonants={"TH": "T", "DH": "D"},
        tempo=1.1,
        stress_contrast=0.15,
        final_lengthening=0.6,
    ),
    Accent(
        "E",
        vowel_shift={
            "AA": {"AA": 0.5, "AH": 0.5},
            "AO": {"AO": 0.5, "UH": 0.5},
            "AH": {"AH": 0.5, "UH": 0.5},
            "AE": {"AE": 0.55, "AA": 0.45},
        },
        consonants={"V": "W"},
        tempo=1.05,
        stress_contrast=1.3,
    ),
    Accent(
        "F",
        vowel_shift={
            "IH": {"IH": 0.6, "AH": 0.4},
            "UH": {"UH": 0.55, "ER": 0.45},
            "AE": {"AE": 0.5, "AH": 0.5},
            "EH": {"EH": 0.6, "ER": 0.4},
        },
        consonants={"ZH": "SH", "JH": "CH"},
        vowel_length={"IY": 1.2, "UW": 1.2, "AA": 1.2, "AO": 1.2},
        tempo=0.9,
        pitch_range=1.3,
    ),
)
