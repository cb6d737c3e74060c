"""Who speaks, and through what: speakers as arrays of anatomical numbers, and recording channels.

Everything in a voice that differs between people or between sessions is here; what they say is elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from paper_utils.world import tract_tables as tables

NYQUIST_HZ = 8000.0
# Pharynx and mouth gains act on one half each, jaw and lips on the sections they move (counted from 1).
GAIN_SECTIONS = {"pharynx_gain": (1, 22), "mouth_gain": (23, 44), "jaw_gain": (29, 41), "lip_gain": (42, 44)}

# Means of adults and a child. Lengths: 8.8 + 8.7 cm of a man is the tract the areas are tuned for; a woman's is .84 and .86 of it (in the
# range of Fitch and Giedd 1999); a child of eight .75 (from memory, unverified). F0: Peterson and Barney's men and telephone speakers'
# women. The rest are choices of ours.
_TYPICAL = {
    "man": {"pharynx_cm": 8.8, "oral_cm": 8.7, "f0_hz": 118.0},
    "woman": {
        "pharynx_cm": 7.4,
        "oral_cm": 7.5,
        "pharynx_gain": 0.9,
        "nose_length": 0.95,
        "nose_gain": 0.9,
        "f0_hz": 205.0,
        "rd": 1.3,
    },
    "child": {
        "pharynx_cm": 6.3,
        "oral_cm": 6.8,
        "pharynx_gain": 0.8,
        "nose_length": 0.8,
        "nose_gain": 0.7,
        "f0_hz": 260.0,
        "rd": 1.2,
    },
}


@dataclass(frozen=True)
class Speakers:
    """Voices as arrays, one entry a speaker.

    Parameters
    ----------
    pharynx_cm, oral_cm
        Lengths from glottis to velum and from velum to lips.
    pharynx_gain, mouth_gain, jaw_gain, lip_gain
        Factors on the areas of sections 1-22, 23-44, 29-41 and 42-44.
    nose_length, nose_gain, nostril_gain
        Factors on the nose's length, its areas, and those of its last 2.4 cm.
    f0_hz
        Base of the pitch.
    rd
        Shape of the glottal pulse, 0.5 tense to 2.7 lax.
    breath
        Factor on breath noise.
    tempo
        Factor on the rate of speech; used where utterances are timed, not here.
    jitter, shimmer_db
        Standard deviations of period (share) and amplitude from period to period; in waveforms only.

    Raises
    ------
    ValueError
        If lengths differ, a value is not finite, or one has the wrong sign; the message names the field and the speaker.
    """

    pharynx_cm: Float[np.ndarray, " speakers"]
    oral_cm: Float[np.ndarray, " speakers"]
    pharynx_gain: Float[np.ndarray, " speakers"]
    mouth_gain: Float[np.ndarray, " speakers"]
    jaw_gain: Float[np.ndarray, " speakers"]
    lip_gain: Float[np.ndarray, " speakers"]
    nose_length: Float[np.ndarray, " speakers"]
    nose_gain: Float[np.ndarray, " speakers"]
    nostril_gain: Float[np.ndarray, " speakers"]
    f0_hz: Float[np.ndarray, " speakers"]
    rd: Float[np.ndarray, " speakers"]
    breath: Float[np.ndarray, " speakers"]
    tempo: Float[np.ndarray, " speakers"]
    jitter: Float[np.ndarray, " speakers"]
    shimmer_db: Float[np.ndarray, " speakers"]

    def __post_init__(self) -> None:
        count = len(self.pharynx_cm)
        for field in fields(self):
            values = getattr(self, field.name)
            if len(values) != count:
                raise ValueError(
                    f"speakers: expected {count} values of {field.name} as of pharynx_cm, found {len(values)}"
                )
            may_be_zero = field.name in ("breath", "jitter", "shimmer_db")
            good = np.isfinite(values) & ((values >= 0) if may_be_zero else (values > 0))
            if not good.all():
                wrong = int(np.flatnonzero(~good)[0])
                raise ValueError(
                    f"speakers: {field.name} of speaker {wrong} is {values[wrong]}; expected a finite value "
                    f"{'of at least' if may_be_zero else 'above'} 0"
                )

    def __len__(self) -> int:
        return len(self.pharynx_cm)

    @classmethod
    def typical(cls, who: str) -> Speakers:
        """One average speaker: ``"man"``, ``"woman"`` or ``"child"`` (of eight).

        Raises
        ------
        ValueError
            For any other name.
        """
        if who not in _TYPICAL:
            raise ValueError(f"who: expected one of {', '.join(_TYPICAL)}, found {who!r}")
        usual = {"rd": 1.0, "jitter": 0.01, "shimmer_db": 0.25}
        values = {f.name: 1.0 for f in fields(cls)} | usual | _TYPICAL[who]
        return cls(**{name: np.array([value], dtype=float) for name, value in values.items()})

    def take(self, indices: ArrayLike) -> Speakers:
        """The chosen speakers, in the order given; an index may occur more than once."""
        return Speakers(**{f.name: getattr(self, f.name)[np.atleast_1d(np.asarray(indices))] for f in fields(self)})

    def log_gains(self) -> Float[np.ndarray, "speakers 44"]:
        """Natural logarithm of the factor on each section's area."""
        gains = np.zeros((len(self), tables.SECTIONS))
        for name, (first, last) in GAIN_SECTIONS.items():
            gains[:, first - 1 : last] += np.log(getattr(self, name))[:, None]
        return gains


# ------------------------------------------------------------------------------------------------------------ channels


@dataclass(frozen=True)
class Channel:
    """What a recording session does to a voice.

    Parameters
    ----------
    tilt_db
        Gain at 8 kHz; at 0 Hz it is minus this, linear between.
    level_db
        Gain of everything but the noise.
    noise_db
        White noise, root mean square over digital full scale.
    f0_factor
        How high the speaker speaks on that day.

    Raises
    ------
    ValueError
        If a value is not finite or `f0_factor` not above 0.
    """

    tilt_db: float = 0.0
    level_db: float = 0.0
    noise_db: float = -80.0  # about the floor of a quiet room through a good microphone; choice of ours
    f0_factor: float = 1.0

    def __post_init__(self) -> None:
        values = (self.tilt_db, self.level_db, self.noise_db, self.f0_factor)
        if not np.isfinite(values).all() or self.f0_factor <= 0:
            raise ValueError(f"channel: expected finite values and f0_factor above 0, found {self}")

    @classmethod
    def draw(cls, severity: float, rng: np.random.Generator, n: int) -> tuple[Channel, ...]:
        """Channels of `n` sessions.

        Parameters
        ----------
        severity
            0: all alike and clean. 1: standard deviations of 2 dB of tilt at the band edges, 1.5 dB of level and 3 % of F0, and noise
            25 dB above the clean floor, 5 dB up and down. Everything grows in proportion. Choices of ours.
        rng
            Source of randomness; a severity changes the size of the same draws.
        n
            How many.

        Raises
        ------
        ValueError
            If `severity` is negative or not finite.
        """
        if not (np.isfinite(severity) and severity >= 0):
            raise ValueError(f"severity: expected a finite number of at least 0, found {severity}")
        tilt, level, noise, day = severity * rng.standard_normal((4, n))
        floor = cls.noise_db + 25.0 * severity
        return tuple(
            cls(2.0 * float(a), 1.5 * float(b), floor + 5.0 * float(c), float(np.exp(0.03 * d)))
            for a, b, c, d in zip(tilt, level, noise, day, strict=True)
        )

    def gain(self, hz: Float[Tensor, " bins"]) -> Float[Tensor, " bins"]:
        """Power gain at each frequency."""
        return 10 ** ((self.level_db + self.tilt_db * (hz / (NYQUIST_HZ / 2) - 1)) / 10)
