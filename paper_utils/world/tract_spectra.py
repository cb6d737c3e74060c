"""Spectra of single tract shapes: what resonates where, for one speaker and one shape at a time.

For figures, teaching and checks; whole utterances are in `paper_utils.world.voice`.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from paper_utils.world import tract
from paper_utils.world import tract_tables as tables
from paper_utils.world.speakers import NYQUIST_HZ, Speakers

LEAST_AREA, LARGEST_AREA = 3e-4, 15.0  # cm2; what the acoustics take for closed and for wide open


def speaker_tables(
    speakers: Speakers,
    index: int,
    hz: Float[Tensor, " bins"],
    *,
    sections: int = tables.SECTIONS,
    walls: tract.Walls | None = None,
) -> tract.TractTables:
    """What of one speaker's acoustics no frame changes, at the given frequencies (see `tract.tract_tables_of`)."""
    names = ("pharynx_cm", "oral_cm", "nose_length", "nose_gain", "nostril_gain")
    return tract.tract_tables_of(
        hz, **{n: float(getattr(speakers, n)[index]) for n in names}, sections=sections, walls=walls
    )


def vowel_area(name: str, speakers: Speakers, index: int = 0) -> Float[np.ndarray, " 44"]:
    """Area function of a speaker's vowel in cm2, glottis to lips.

    Parameters
    ----------
    name
        One of `tract_tables.TARGETS`: a simple vowel, or E, O (starts of EY, OW), Lsub, Tsub, Ksub.
    speakers, index
        Who.

    Raises
    ------
    ValueError
        If there is no such shape.
    """
    log_area = np.log(tables.AREAS_CM2[tables.target_index(name)]) + speakers.log_gains()[index]
    return np.exp(np.clip(log_area, np.log(LEAST_AREA), np.log(LARGEST_AREA)))


def spectral_envelope(
    area: Float[np.ndarray, "shapes 44"],
    speakers: Speakers,
    hz: Float[np.ndarray, " bins"],
    *,
    index: int = 0,
    velum_cm2: float = 0.0,
) -> Float[np.ndarray, "shapes bins"]:
    """Gain of the tract in dB: flow out of mouth and nose over flow at the glottis.

    Parameters
    ----------
    area
        In cm2; any positive areas, such as those of `vowel_area`.
    speakers, index
        Whose lengths and nose.
    hz
        Frequencies.
    velum_cm2
        Area of the velar port.

    Raises
    ------
    ValueError
        If an area is not finite and positive, or the speaker's index out of range.
    """
    return 20 * np.log10(np.abs(_transfer(area, speakers, hz, index, velum_cm2, tract.Walls())))


def _transfer(
    area: np.ndarray, speakers: Speakers, hz: np.ndarray, index: int, velum_cm2: float, walls: tract.Walls
) -> np.ndarray:
    if not (np.isfinite(area) & (area > 0)).all():
        raise ValueError("area: expected finite areas above 0 cm2; for a closure give a small one, such as 3e-4")
    if not 0 <= index < len(speakers):
        raise ValueError(f"index: {index} is out of range; there are {len(speakers)} speakers, counted from 0")
    constants = speaker_tables(speakers, index, torch.as_tensor(np.array(hz, dtype=float)), walls=walls)
    velum = torch.full((len(area),), float(velum_cm2), dtype=torch.float64)
    return tract.response(torch.as_tensor(np.array(area, dtype=float)), velum, constants).voice.numpy()


def formants(
    area: Float[np.ndarray, "shapes 44"],
    speakers: Speakers,
    *,
    index: int = 0,
    count: int = 3,
    velum_cm2: float = 0.0,
    step_hz: float = 5.0,
) -> Float[np.ndarray, "shapes count"]:
    """Resonances of tract shapes in Hz: peaks of the transfer function below 8 kHz, without the voice bar of the neck.

    Parameters
    ----------
    area
        In cm2.
    speakers, index
        Whose lengths and nose.
    count
        How many, from the lowest; NaN where there are fewer.
    velum_cm2
        Area of the velar port.
    step_hz
        Grid; peaks between its points are found by a parabola.

    Raises
    ------
    ValueError
        As `spectral_envelope`.

    Examples
    --------
    >>> man = Speakers.typical("man")
    >>> formants(vowel_area("IY", man)[None], man).round(-1)
    array([[ 270., 2290., 2930.]])
    """
    hz = np.arange(step_hz, NYQUIST_HZ, step_hz)
    silent_neck = tract.Walls(voice_bar=0.0)
    return tract.resonances(np.abs(_transfer(area, speakers, hz, index, velum_cm2, silent_neck)), hz, count)
