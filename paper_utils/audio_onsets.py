"""Onsets of sound, by spectral flux: the moments that beat metrics compare with motion (paper 08). Equal to librosa's detector at its defaults, which a test checks."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float
from torch import Tensor

from paper_utils.audio import LogMel, log_mel

# librosa's convention for onsets, at the rate at which TalkSHOW's released evaluation listens.
ONSET_MEL = LogMel(
    n_fft=2048, window_length=2048, hop=512, bands=128, scale="slaney", norm="area", log="db", top_db=80.0
)
LOCAL_S = 0.1  # a frame is compared with the mean this long before and after it
LEAST_RISE = 0.07  # of the largest strength


def onset_strength(samples: Float[Tensor, " samples"], mel: LogMel = ONSET_MEL) -> Float[np.ndarray, " frames"]:
    r"""How much louder the bands become from one frame to the next, mean over bands, in dB.

    .. math:: o_t = \frac{1}{M} \sum_m \max(0, \ell_{tm} - \ell_{t-1,m})

    Moved by half a window, as librosa does, so that a rise stands where the sound begins to be in the window; the first frames are 0.

    Parameters
    ----------
    samples
        In [-1, 1], at the convention's rate.
    mel
        The convention.

    Raises
    ------
    ValueError
        On the faults of `paper_utils.audio.log_mel`.
    """
    bands = log_mel(samples[None].double(), mel)[0].numpy()
    rises = np.maximum(0.0, np.diff(bands, axis=0)).mean(1)
    late = 1 + mel.n_fft // (2 * mel.hop)
    return np.concatenate([np.zeros(late), rises])[: len(bands)]


def onsets_s(samples: Float[Tensor, " samples"], mel: LogMel = ONSET_MEL) -> Float[np.ndarray, " onsets"]:
    r"""Times of onsets in seconds; none in silence.

    A frame is an onset if its strength, scaled to [0, 1] over the recording, exceeds the mean of the frames up to 100 ms around it by `LEAST_RISE`
    (and, with a hop below 30 ms, is the largest of the last 30 ms, of which only one counts).

    Parameters
    ----------
    samples, mel
        As for `onset_strength`.
    """
    strength = onset_strength(samples, mel)
    strength = strength - strength.min()
    if not strength.max() > 0:
        return np.zeros(0)
    strength /= strength.max()
    rate = mel.sample_rate / mel.hop
    around, apart = math.floor(LOCAL_S * rate), math.floor(0.03 * rate)
    chosen, free_from = [], 0
    for frame, value in enumerate(strength):
        local = strength[max(0, frame - around) : frame + around + 1].mean()
        if (
            frame >= free_from
            and value >= strength[max(0, frame - apart) : frame + 1].max()
            and value >= local + LEAST_RISE
        ):
            chosen.append(frame)
            free_from = frame + apart + 1
    return np.array(chosen, dtype=float) / rate
