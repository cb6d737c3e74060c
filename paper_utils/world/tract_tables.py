"""Shapes of the vocal tract as numbers: area functions, consonants, the nose, and the lips that go with each of them.

Data only, with sources. Areas in cm2 and lengths in cm run from the glottis to the lips; section numbers count from 1 there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

SECTIONS = 44  # 1-22 from glottis to velum (1-6 epilarynx), 23-44 from velum to lips; the nose joins between 22 and 23

# One man's MRI area functions (Story, Titze and Hoffman 1996; Story 2008), resampled to 44 sections. We tuned each vowel by a smooth
# change of log area (rms 0.07-0.29) until a tract of 8.8 + 8.7 cm has the mean F1-F3 of men of Peterson and Barney (1952); E and O,
# the starts of EY and OW, those of Hillenbrand et al. (1995, from memory, unverified). Lsub, Tsub and Ksub are the measured shapes
# of l, t and k with their closures filled to .30, .45 and .50: what is left of the tongue when the tip or dorsum has let go.
_AREAS = {
    "IY": """
        .42 .38 .44 .43 .74 .69 1.98 3.78 3.67 3.18 3.43 3.94 3.95 4.03 4.42 4.57 4.72 5.06 5.03 4.83 4.85 4.27
        3.64 2.53 1.99 1.57 1.14 .65 .36 .27 .14 .08 .10 .16 .21 .26 .33 .30 .42 .75 1.45 1.63 1.44 1.09""",
    "IH": """
        .21 .18 .19 .19 .12 .68 1.72 2.01 1.72 1.38 1.43 2.39 3.89 4.33 4.78 5.16 5.00 5.16 5.47 5.05 4.88 4.16
        3.43 2.90 2.52 2.08 1.89 1.67 1.39 1.28 1.02 .77 .63 .68 .87 1.09 1.33 1.31 1.26 1.34 1.22 .98 .79 .68""",
    "E": """
        .18 .16 .18 .25 .36 .53 .80 1.02 .97 .83 1.00 1.72 2.71 3.25 3.32 3.30 3.23 3.09 2.89 2.67 2.52 2.37
        2.10 1.81 1.52 1.28 1.13 1.00 .89 .86 .84 .77 .73 .76 .89 1.00 1.10 1.28 1.30 1.31 1.52 1.74 1.80 1.80""",
    "EH": """
        .20 .14 .15 .15 .11 .27 1.07 1.46 1.44 1.20 .94 .98 1.36 2.12 2.50 2.85 3.15 3.27 3.35 3.29 3.06 3.00
        2.96 2.52 2.28 2.14 1.96 1.89 1.88 1.74 1.46 1.31 1.25 1.25 1.49 1.63 1.89 1.95 1.72 1.60 1.76 1.85 1.48 1.13""",
    "AE": """
        .23 .27 .27 .18 .14 .20 .59 1.32 1.52 1.23 .89 1.03 1.83 2.41 2.21 2.14 2.48 3.12 3.53 3.94 3.98 3.85
        4.01 3.80 3.32 3.30 3.32 3.24 3.24 3.25 3.36 3.63 3.81 3.88 4.09 4.35 4.45 4.41 4.07 3.95 3.75 3.84 3.54 3.21""",
    "AA": """
        .66 .29 .36 .28 .42 .39 .45 1.45 1.53 1.11 .76 .43 .27 .27 .22 .32 .30 .31 .46 .80 1.49 1.31
        1.94 2.32 2.52 2.39 2.15 2.05 2.43 3.01 3.54 4.59 5.52 5.82 6.25 6.23 5.68 5.04 4.01 3.99 3.74 3.40 3.42 3.49""",
    "AO": """
        .72 .34 .24 .13 .11 .44 .27 1.71 2.06 1.62 .83 .54 .39 .54 .42 .22 .28 .29 .34 .39 .51 .45
        .43 .74 1.70 2.25 2.31 2.65 3.50 4.81 5.49 6.20 7.32 8.61 8.26 7.43 6.89 5.70 4.65 2.57 1.81 1.25 1.09 .79""",
    "AH": """
        .53 .42 .31 .18 .19 .36 .42 1.11 1.32 1.19 .81 .71 .59 .71 .66 .64 1.11 .98 1.19 1.16 1.17 1.23
        1.42 1.53 1.80 2.00 2.19 2.31 2.73 3.41 4.01 4.49 5.12 6.06 6.53 6.36 6.38 5.36 4.91 3.24 2.54 1.72 1.47 .82""",
    "O": """
        .16 .15 .21 .25 .51 1.23 1.33 .91 .66 .81 2.18 2.16 1.55 1.52 1.35 1.32 1.23 1.04 1.18 1.04 .72 1.01
        1.13 .92 .62 .42 .37 .31 .56 1.04 1.37 2.30 3.09 3.98 4.80 6.00 8.24 8.24 5.76 3.89 2.44 1.32 .88 .34""",
    "UH": """
        .37 .44 .44 .47 .59 1.45 2.03 1.74 1.22 .80 .76 .86 .92 .77 .84 .88 .77 1.40 1.20 1.56 .88 1.03
        1.37 1.26 1.19 1.35 1.26 1.38 1.68 1.85 2.33 2.85 3.61 4.51 5.06 5.31 5.05 4.73 3.35 1.87 1.29 .74 .17 .26""",
    "UW": """
        .53 .50 .40 .61 .95 2.64 3.79 3.34 2.62 2.83 4.45 5.14 4.58 3.94 3.51 3.31 2.98 2.92 3.05 3.58 3.95 3.11
        2.79 2.59 1.61 .62 .19 .13 .17 .21 .38 .63 .85 1.49 2.71 3.41 4.65 6.74 5.85 2.85 1.04 .53 .23 .41""",
    "ER": """
        .58 .52 .52 .37 .16 .68 2.04 2.00 1.48 1.33 1.01 .72 .82 1.05 1.14 1.24 1.37 1.45 1.52 1.82 2.17 2.22
        3.07 3.55 3.64 3.57 3.08 2.92 2.69 2.52 2.32 1.81 1.14 .62 .37 .44 1.14 3.22 5.86 6.30 4.95 2.97 1.53 .65""",
    "Lsub": """
        .55 .64 .83 1.95 3.09 3.53 3.38 3.21 2.98 2.82 3.26 3.66 3.63 2.94 2.47 2.34 2.40 2.19 2.25 2.28 2.26 2.33
        2.43 2.45 2.55 2.64 2.76 3.28 3.85 4.57 5.40 6.09 6.49 6.73 6.80 6.02 4.55 3.07 .71 .78 3.10 4.86 4.60 3.72""",
    "Tsub": """
        .45 .50 .45 1.07 1.38 1.65 1.29 1.01 .92 .86 1.03 1.60 2.46 2.24 2.47 2.86 2.74 3.32 3.83 3.97 4.16 4.41
        4.11 3.95 3.64 3.37 2.89 2.61 2.69 2.32 2.04 1.64 1.39 1.26 .87 .60 .45 .45 .45 .45 .45 1.48 1.60 1.43""",
    "Ksub": """
        .50 .50 .50 .78 1.31 1.34 1.19 .94 .69 .92 1.45 1.73 1.67 2.13 1.61 1.56 1.54 1.18 1.44 1.12 .76 .96
        1.09 .79 .50 .50 .50 .50 .50 .50 .50 .50 .50 1.27 2.28 2.35 2.40 2.41 4.21 3.37 2.46 2.46 2.14 1.50""",
}

TARGETS: tuple[str, ...] = tuple(_AREAS)
AREAS_CM2: Float[np.ndarray, "targets 44"] = np.array([text.split() for text in _AREAS.values()], dtype=float)
AREAS_CM2.setflags(write=False)

# Where a vowel or glide reaches which target: (share of its duration, target). 25 and 75 % for a steady vowel, 25 and 80 % for a
# diphthong, the middle of a glide; choices of ours after listening by numbers.
ANCHORS: dict[str, tuple[tuple[float, str], ...]] = {
    **{v: ((0.25, v), (0.75, v)) for v in ("IY", "IH", "EH", "AE", "AA", "AO", "AH", "UH", "UW", "ER")},
    "EY": ((0.25, "E"), (0.80, "IY")),
    "AY": ((0.25, "AA"), (0.80, "IH")),
    "OY": ((0.25, "AO"), (0.80, "IH")),
    "AW": ((0.25, "AA"), (0.80, "UH")),
    "OW": ((0.25, "O"), (0.80, "UH")),
    "R": ((0.5, "ER"),),
    "W": ((0.5, "UW"),),
    "Y": ((0.5, "IY"),),
}
NEUTRAL = "AH"  # shape of an utterance that has no vowel at all
FRONT_VOWELS = ("IY", "IH", "EY", "Y")  # the dorsum closes further forward next to these

VISEME_UNITS = ("jaw_deg", "lip_round", "lip_spread", "lip_press", "lip_tuck", "lower_lip_drop", "upper_lip_raise")

# Lips and jaw of each vowel target, in VISEME_UNITS (jaw in degrees, the rest 0-1 weights of the face's expression units). Choices of
# ours, judged on pictures of the procedural head; E, O and ER lie between their neighbours.
_VOWEL_VISEMES = {
    "IY": (4, 0, 0.8, 0, 0, 0, 0),
    "IH": (5, 0, 0.3, 0, 0, 0, 0),
    "E": (6, 0, 0.4, 0, 0, 0, 0),
    "EH": (8, 0, 0.3, 0, 0, 0, 0),
    "AE": (11, 0, 0.4, 0, 0, 0, 0),
    "AA": (14, 0, 0, 0, 0, 0.3, 0),
    "AO": (11, 0.5, 0, 0, 0, 0, 0),
    "AH": (9, 0, 0, 0, 0, 0, 0),
    "O": (7, 0.7, 0, 0, 0, 0, 0),
    "UH": (5, 0.6, 0, 0, 0, 0, 0),
    "UW": (4, 1, 0, 0, 0, 0, 0),
    "ER": (5, 0.3, 0, 0, 0, 0, 0),
}
# The substrates are never a vowel's target, so their rows are not used.
VOWEL_VISEMES: Float[np.ndarray, "targets 7"] = np.array(
    [_VOWEL_VISEMES.get(name, (0,) * 7) for name in TARGETS], float
)
VOWEL_VISEMES.setflags(write=False)


@dataclass(frozen=True)
class Gesture:
    """What a consonant does to whatever vowel shape is present.

    The constriction multiplies the area by :math:`1 - m(t)\\,d\\,e^{-\\ln 16\\,((k - place)/reach)^2}` (the superposition of Story 2005),
    :math:`d` such that the area at `place` becomes `area_cm2` at full activation :math:`m = 1`. Where not said otherwise the numbers are
    choices of ours, set so that closures, spectra and levels come out near published values.

    Parameters
    ----------
    manner
        ``"stop"`` (also nasals), ``"affricate"``, ``"fricative"`` (also liquids and glides) or ``"open"`` (no constriction).
    place, reach
        Section of the constriction, counted from 1 at the glottis, and its width in sections; `place` 0: none.
    area_cm2
        Area at full activation; of an affricate after its closure.
    opening_ms
        How long the constriction takes to open: lips, tip and dorsum differ.
    vot_ms
        Longest time from release to the end of the phone.
    substrate, substrate_weight
        Tract shape that the whole tract moves toward, and how far.
    lips
        Factor on the lip sections is ``1 - lips * m``.
    velum_cm2, glottis_cm2, release_glottis_cm2
        Areas of the velar port and of the glottis while it lasts, and of the glottis after the release.
    noise, obstacle_sections, cutoff
        Gain of the frication source, how many sections downstream of the narrowest point it sits (teeth), factor on its cut-off frequency.
    cavity
        Share of the lung pressure that stays across the glottis in a closure because the cavity expands.
    visemes, viseme_weights
        Lips and jaw in VISEME_UNITS, and how strongly each is imposed on the vowel's (0 leaves the vowel's).
    """

    manner: str
    place: float = 0.0
    reach: float = 1.0
    area_cm2: float = 0.0
    opening_ms: float = 22.0
    vot_ms: float = 0.0
    substrate: str = ""
    substrate_weight: float = 0.0
    lips: float = 0.0
    velum_cm2: float = 0.0
    glottis_cm2: float = 0.05
    release_glottis_cm2: float = 0.05
    noise: float = 0.0
    obstacle_sections: int = 0
    cutoff: float = 1.0
    cavity: float = 0.0
    visemes: tuple[float, ...] = (0,) * 7
    viseme_weights: tuple[float, ...] = (0,) * 7


_LIPS, _TIP, _DORSUM = 22.0, 30.0, 45.0  # opening_ms
_VOICED_VOT = 7.0


def _look(jaw: float, jaw_weight: float, **units: tuple[float, float]) -> dict[str, tuple[float, ...]]:
    """Viseme targets and weights from the jaw and (value, weight) of each unit named."""
    pairs = [(jaw, jaw_weight)] + [units.get(name, (0.0, 0.0)) for name in VISEME_UNITS[1:]]
    return {"visemes": tuple(v for v, _ in pairs), "viseme_weights": tuple(w for _, w in pairs)}


# Lips of each consonant; targets and weights are choices of ours. Tongue consonants leave rounding to the vowel (weight .4 on spread).
_PRESSED = _look(1, 1, lip_press=(0.8, 1), lower_lip_drop=(0, 1), lip_round=(0, 0.3), lip_spread=(0, 0.3))
_TUCKED = _look(2, 1, lip_tuck=(1, 1), lower_lip_drop=(0, 1), lip_round=(0, 0.4))
_DENTAL = _look(4, 0.9, lower_lip_drop=(0.2, 1))
_ALVEOLAR = _look(3, 0.8, lip_spread=(0.2, 0.4))
_PALATAL = _look(4, 1, lip_round=(0.5, 0.8), lip_spread=(0, 0.8), upper_lip_raise=(0.3, 1))
_VELAR = _look(5, 0.6)
_RHOTIC = _look(4, 0.8, lip_round=(0.4, 0.7), lip_spread=(0, 0.5))
_ROUNDED = _look(3, 0.9, lip_round=(0.9, 0.9), lip_spread=(0, 0.9))
_SPREAD = _look(4, 0.8, lip_spread=(0.5, 0.5))
_T = {"place": 39, "reach": 6, "opening_ms": _TIP, "substrate": "Tsub", "substrate_weight": 0.5, **_ALVEOLAR}
_P = {"place": 44, "reach": 5, "opening_ms": _LIPS, **_PRESSED}
_K = {"place": 28, "reach": 9, "opening_ms": _DORSUM, "substrate": "Ksub", "substrate_weight": 0.3, **_VELAR}
_F = {"place": 43.5, "reach": 4, "opening_ms": _LIPS, "cutoff": 8.0, **_TUCKED}
_TH = {
    "place": 42,
    "reach": 4,
    "opening_ms": _TIP,
    "substrate": "Tsub",
    "substrate_weight": 0.4,
    "cutoff": 1.5,
    **_DENTAL,
}
_S = {
    "place": 39.5,
    "reach": 5,
    "opening_ms": _TIP,
    "substrate": "Tsub",
    "substrate_weight": 0.7,
    "obstacle_sections": 2,
    **_ALVEOLAR,
}
_SH = {
    "place": 37,
    "reach": 7,
    "opening_ms": _DORSUM,
    "substrate": "IY",
    "substrate_weight": 0.6,
    "lips": 0.2,
    "obstacle_sections": 2,
}
_SH = _CH = {**_SH, **_PALATAL}  # with the shape of ER behind it and a place of 34.5 the centroid of SH was 1.5 kHz
_VOICELESS_STOP = {"glottis_cm2": 0.12, "release_glottis_cm2": 0.30, "noise": 1.0}
_VOICED_STOP = {"vot_ms": _VOICED_VOT, "cavity": 0.45, "noise": 1.0}
_OPEN_GLOTTIS = {"glottis_cm2": 0.25, "release_glottis_cm2": 0.25}

CONSONANTS: dict[str, Gesture] = {
    "P": Gesture("stop", **_P, **_VOICELESS_STOP, vot_ms=58),  # VOT of P, T, K: Lisker and Abramson (1964)
    "B": Gesture("stop", **_P, **_VOICED_STOP),
    "M": Gesture("stop", **_P, velum_cm2=0.6),
    "T": Gesture("stop", **_T, **{**_VOICELESS_STOP, "noise": 0.5}, vot_ms=70),
    "D": Gesture("stop", **_T, **_VOICED_STOP),
    "N": Gesture("stop", **_T, velum_cm2=0.6),
    "K": Gesture("stop", **_K, **_VOICELESS_STOP, vot_ms=80),
    "G": Gesture("stop", **_K, **_VOICED_STOP),
    "NG": Gesture("stop", **{**_K, "place": 29}, velum_cm2=0.6),
    "F": Gesture("fricative", **_F, **_OPEN_GLOTTIS, area_cm2=0.08, noise=4.5),
    "V": Gesture("fricative", **_F, area_cm2=0.12, glottis_cm2=0.11, release_glottis_cm2=0.11, noise=0.5),
    "TH": Gesture("fricative", **_TH, **_OPEN_GLOTTIS, area_cm2=0.10, noise=0.8),
    "DH": Gesture("fricative", **_TH, area_cm2=0.16, glottis_cm2=0.11, release_glottis_cm2=0.11, noise=0.5),
    "S": Gesture("fricative", **_S, **_OPEN_GLOTTIS, area_cm2=0.10, noise=2.0),
    "Z": Gesture("fricative", **_S, area_cm2=0.12, glottis_cm2=0.12, release_glottis_cm2=0.12, noise=2.0),
    "SH": Gesture("fricative", **_SH, **_OPEN_GLOTTIS, area_cm2=0.14, noise=12.0),
    "ZH": Gesture("fricative", **_SH, area_cm2=0.16, glottis_cm2=0.12, release_glottis_cm2=0.12, noise=12.0),
    "CH": Gesture("affricate", **_CH, **_OPEN_GLOTTIS, area_cm2=0.13, noise=12.0),
    "JH": Gesture(
        "affricate", **_CH, area_cm2=0.15, glottis_cm2=0.12, release_glottis_cm2=0.12, noise=12.0, cavity=0.45
    ),
    "HH": Gesture("open", **_OPEN_GLOTTIS),
    "L": Gesture("fricative", place=39, reach=4, area_cm2=0.45, substrate="Lsub", substrate_weight=0.8, **_ALVEOLAR),
    "R": Gesture("fricative", place=44, reach=4, area_cm2=0.5, substrate="ER", substrate_weight=0.95, **_RHOTIC),
    "W": Gesture("fricative", place=44, reach=5, area_cm2=0.25, substrate="UW", substrate_weight=0.9, **_ROUNDED),
    "Y": Gesture("fricative", place=34, reach=9, area_cm2=0.18, substrate="IY", substrate_weight=0.95, **_SPREAD),
}
FRONTED = {"K": 32.0, "G": 32.0, "NG": 32.0}  # place next to FRONT_VOWELS
VOWEL_GLOTTIS_CM2 = 0.05
REST_GLOTTIS_CM2 = 0.15  # choice of ours: a pause is a breath held loosely
LUNG_PRESSURE = 8000.0  # dyn/cm2, about 8 cmH2O

# Both nasal passages summed, from the velar port (0.8 cm long, its area is what the velum opens) to the nostrils, after the data of a
# public articulatory simulator that were measured on magnetic resonance images; the last six sections (2.4 cm) are the nostrils.
# fmt: off
NASAL_AREAS_CM2: Float[np.ndarray, " 25"] = np.array([
    2.6, 3.7, 4.0, 4.5, 4.0,  # behind the maxillary sinus, then 20 sections to the nostrils
    3.78, 3.53, 2.92, 3.79, 4.19, 4.55, 4.77, 4.41, 4.48, 4.89, 4.61, 5.06, 4.92, 3.81, 2.83, 2.43, 2.41, 1.69, 1.35, 0.84,
])
# fmt: on
NASAL_AREAS_CM2.setflags(write=False)
NASAL_SECTION_CM, PORT_CM, NOSTRIL_SECTIONS, SINUS_AFTER = 0.397, 0.8, 6, 5


def target_index(name: str) -> int:
    """Row of a target in AREAS_CM2 and VOWEL_VISEMES.

    Raises
    ------
    ValueError
        If there is no such target; the message lists them.
    """
    if name not in TARGETS:
        raise ValueError(f"tract shape {name!r} is unknown; expected one of {' '.join(TARGETS)}")
    return TARGETS.index(name)
