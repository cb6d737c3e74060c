r"""Sources of the voice: the pulse of the vocal folds, breath noise at the glottis, friction noise at a constriction.

One set of rules for the air pressure gives all three, so that voicing dies in closures, bursts appear at releases and aspiration follows
while the glottis is wide; no sound is pasted in.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from paper_utils.world import tract_tables as tables
from paper_utils.world.tract import AIR_DENSITY

RD_GRID = np.linspace(0.5, 2.7, 23)  # where Fant's regressions hold
PULSE_SAMPLES = 4096
HARMONIC_STEPS = 8  # table points between two harmonics
HARMONICS = 160
OPEN_SHARE = 0.55  # of a period; the noise is louder then
OPEN_NOISE, CLOSED_NOISE = 1.3, 0.7  # choices of ours

# Noise against a glottal pulse of unit excitation; choices of ours. Our prototype had twice the aspiration and a tight glottis of .03: HH
# was as loud as a vowel but for 7 dB, and modal vowels had a harmonics-to-noise ratio of 9 to 11 dB in Praat instead of about 20.
FRICTION_SCALE = 6e-4
ASPIRATION_SCALE = 1.1e-5
TIGHT_GLOTTIS_CM2 = 0.045  # leaks no noise
EPILARYNX = 8  # sections that are never the oral constriction
WIDEST_FRICTION_CM2, FRICTION_FADE_CM2 = 0.35, 0.05
VELUM_LEAK_CM2, VELUM_FADE_CM2 = 0.15, 0.05  # through an open velum no pressure builds up
JET_SPEED = float(np.sqrt(2 * tables.LUNG_PRESSURE / AIR_DENSITY))  # cm/s


@dataclass(frozen=True)
class LfTable:
    """Glottal flow derivatives of one period and their spectra, for all shapes of RD_GRID.

    Parameters
    ----------
    pulse
        Excitation :math:`E_e = 1`, zero net flow.
    spectrum
        Half the amplitude of a harmonic at :math:`\\nu = f/F_0` = column / HARMONIC_STEPS.
    """

    pulse: Float[np.ndarray, "shapes samples"]
    spectrum: Float[np.ndarray, "shapes columns"]

    def at(self, rd: float) -> tuple[Float[np.ndarray, " samples"], Float[np.ndarray, " columns"]]:
        """Pulse and spectrum of a shape, by linear interpolation; beyond the grid its ends."""
        place = float(np.clip(np.interp(rd, RD_GRID, np.arange(len(RD_GRID))), 0, len(RD_GRID) - 1 - 1e-9))
        row, share = int(place), place - int(place)
        return tuple(t[row] + share * (t[row + 1] - t[row]) for t in (self.pulse, self.spectrum))


def lf_timing(rd: Float[np.ndarray, " shapes"]) -> dict[str, Float[np.ndarray, " shapes"]]:
    r"""Instants of an LF pulse in periods from its shape (Fant 1995; regressions from memory, unverified).

    .. math:: R_a = \frac{-1 + 4.8 R_d}{100},\quad R_k = \frac{22.4 + 11.8 R_d}{100},\quad
       R_g = \frac{R_k}{4\,(0.11 R_d/(0.5 + 1.2 R_k) - R_a)}

    Parameters
    ----------
    rd
        0.5 tense to 2.7 lax.

    Returns
    -------
    dict
        ``peak`` :math:`t_p`, ``excitation`` :math:`t_e`, ``return`` :math:`t_a`.
    """
    ra, rk = (-1 + 4.8 * rd) / 100, (22.4 + 11.8 * rd) / 100
    rg = rk / (4 * (0.11 * rd / (0.5 + 1.2 * rk) - ra))
    peak = 1 / (2 * rg)
    return {"peak": peak, "excitation": peak * (1 + rk), "return": ra}


def lf_pulses(rd: Float[np.ndarray, " shapes"], samples: int = PULSE_SAMPLES) -> Float[np.ndarray, "shapes samples"]:
    r"""One period of the LF model's flow derivative (Fant, Liljencrants and Lin 1985).

    .. math:: E(t) = E_0 e^{\alpha t}\sin(\pi t/t_p),\; t \le t_e;\qquad
       E(t) = -\frac{E_e}{\epsilon t_a}\left(e^{-\epsilon(t - t_e)} - e^{-\epsilon(1 - t_e)}\right),\; t > t_e

    Parameters
    ----------
    rd
        Shapes.
    samples
        A period.
    """
    when = lf_timing(rd)
    te, ta, omega = when["excitation"], when["return"], np.pi / when["peak"]
    rest = 1 - te
    eps = 1 / ta
    for _ in range(50):  # eps ta = 1 - exp(-eps rest); the fixed point contracts for every shape of the grid
        eps = (1 - np.exp(-eps * rest)) / ta
    closing = -((1 - np.exp(-eps * rest)) / eps - rest * np.exp(-eps * rest)) / (eps * ta)
    low, high = np.full_like(rd, -50.0), np.full_like(rd, 200.0)
    for _ in range(80):
        alpha = 0.5 * (low + high)
        grown = np.exp(-alpha * te)
        area = alpha * np.sin(omega * te) - omega * np.cos(omega * te) + omega * grown
        opening = -area / (alpha**2 + omega**2) / np.sin(omega * te)
        # A faster growth piles the same excitation on less flow, so the net flow falls with alpha.
        low, high = np.where(opening + closing > 0, alpha, low), np.where(opening + closing > 0, high, alpha)
    t = np.arange(samples) / samples
    te, ta, omega, alpha, eps, rest = (v[:, None] for v in (te, ta, omega, alpha, eps, rest))
    open_phase = -np.exp(alpha * np.minimum(t - te, 0)) * np.sin(omega * t) / np.sin(omega * te)
    return_phase = -(np.exp(-eps * np.maximum(t - te, 0)) - np.exp(-eps * rest)) / (eps * ta)
    return np.where(t <= te, open_phase, return_phase)


@lru_cache(maxsize=1)
def lf_table() -> LfTable:
    """The pulses of RD_GRID and their spectra; made once, in a tenth of a second."""
    pulse = lf_pulses(RD_GRID)
    spectrum = np.abs(np.fft.rfft(pulse, HARMONIC_STEPS * PULSE_SAMPLES, axis=1)) / PULSE_SAMPLES
    return LfTable(pulse, spectrum[:, : HARMONIC_STEPS * HARMONICS + 2])


@dataclass(frozen=True)
class Sources:
    """Strengths of the three sources in each frame.

    Parameters
    ----------
    voice
        Excitation of the glottal pulse.
    friction, aspiration
        Noise at the constriction and at the glottis, without the scale constants.
    cutoff_hz
        Of the friction noise.
    position
        Sections below the friction source.
    """

    voice: Float[Tensor, " frames"]
    friction: Float[Tensor, " frames"]
    aspiration: Float[Tensor, " frames"]
    cutoff_hz: Float[Tensor, " frames"]
    position: Int[Tensor, " frames"]


def sources(
    area: Float[Tensor, "frames sections"],
    velum_cm2: Float[Tensor, " frames"],
    glottis_cm2: Float[Tensor, " frames"],
    pressure: Float[Tensor, " frames"],
    *,
    cavity: Float[Tensor, " frames"],
    noise: Float[Tensor, " frames"],
    cutoff: Float[Tensor, " frames"],
    obstacle: Int[Tensor, " frames"],
    least_area: float,
) -> Sources:
    r"""Share the lung pressure among glottis and constriction, and read the sources off the shares.

    .. math:: \Delta P_c = P_{sub} \frac{A_g^2}{A_g^2 + A_c^2},\quad \Delta P_g = \max(P_{sub} - \Delta P_c,\; q P_{sub})

    Voice: :math:`\mathrm{clip}((.15 - A_g)/.10, 0, 1)\,(\Delta P_g/8000)^{1.2}`; friction:
    :math:`g\,(\Delta P_c/8000)^{1.5}\sqrt{A_c}` (Stevens 1971: turbulence grows with the 3/2 power of pressure); aspiration:
    :math:`(\Delta P_g/8000)^{1.5}\sqrt{A_g - A_0}`.

    Parameters
    ----------
    area
        Of the speaker, in cm2.
    velum_cm2, glottis_cm2, pressure, cavity, noise, cutoff, obstacle
        Tracks of `paper_utils.world.articulation.Articulation`; `cavity` is :math:`q`, `noise` is :math:`g`.
    least_area
        What counts as closed.
    """
    sections = area.shape[1]
    per = tables.SECTIONS // sections
    oral = area[:, EPILARYNX // per :].amin(1)
    narrowest = area[:, sections // 2 :].argmin(1) + sections // 2
    through = oral + velum_cm2
    at_constriction = pressure * glottis_cm2**2 / (glottis_cm2**2 + through**2)
    at_glottis = torch.maximum(pressure - at_constriction, cavity * pressure) / tables.LUNG_PRESSURE
    at_constriction = at_constriction / tables.LUNG_PRESSURE
    adducted = ((0.15 - glottis_cm2) / 0.10).clamp(0, 1)
    gate = ((WIDEST_FRICTION_CM2 - oral) / FRICTION_FADE_CM2).clamp(0, 1)
    gate = gate * ((VELUM_LEAK_CM2 - velum_cm2) / VELUM_FADE_CM2).clamp(0, 1)
    leak = (oral - least_area).clamp(min=0.0)
    return Sources(
        voice=adducted * at_glottis**1.2,
        friction=noise * gate * at_constriction**1.5 * torch.sqrt(leak.clamp(max=0.3)),
        aspiration=at_glottis**1.5 * torch.sqrt((glottis_cm2 - TIGHT_GLOTTIS_CM2).clamp(min=0.0)),
        cutoff_hz=cutoff * (0.2 * JET_SPEED) / torch.sqrt(4 / np.pi * oral),
        position=(narrowest + 1 + obstacle // per).clamp(max=sections),
    )


def voiced_power(
    f0: Float[Tensor, " frames"],
    hz: Float[Tensor, " bins"],
    spectrum: Float[Tensor, " columns"],
    *,
    width_hz: float,
    jitter: float = 0.0,
    shimmer_db: float = 0.0,
) -> tuple[Float[Tensor, "frames bins"], Float[Tensor, "frames bins"]]:
    r"""Power spectrum of a unit voice as a short window shows it: harmonics with the window's main lobe around each, and what
    irregular pulses make of them, a noise.

    .. math:: |S|^2 (1 - m) \sum_h e^{-(f - hF_0)^2/2w^2}, \qquad |S|^2\, m\, \frac{\sqrt{2\pi} w}{F_0}, \qquad
       m = 1 - e^{-s^2 - 2(\pi j f/F_0)^2}

    over the two harmonics next to f. A timing error of :math:`j` periods turns the phase of harmonic h by :math:`2\pi j h`: high
    harmonics lose their coherence first. The mean power stays what it was.

    Parameters
    ----------
    f0
        Hz.
    hz
        Frequencies.
    spectrum
        Row of `LfTable`, squared.
    width_hz
        :math:`w`; 24.5 Hz fits the main lobe of a Hann window of 25 ms.
    jitter, shimmer_db
        Standard deviations from period to period: :math:`j` in periods, and of the amplitude (:math:`s` as a share).

    Returns
    -------
    harmonics, noise
        Means; the noise's chance is the caller's.
    """
    order = hz / f0[:, None]
    nearest = order.round().clamp_(min=1.0)
    apart = (order - nearest).abs_().mul_(f0[:, None])
    steepness = -0.5 / width_hz**2
    comb = torch.exp(apart.square().mul_(steepness))
    other = torch.exp((apart - f0[:, None]).square_().mul_(steepness))
    comb.add_(other.mul_(order >= 1))  # below the first harmonic there is no second one
    coherent = order.square().mul_(-2 * (np.pi * jitter) ** 2).sub_((np.log(10) / 20 * shimmer_db) ** 2).exp_()
    place = order.mul_(HARMONIC_STEPS).clamp_(max=len(spectrum) - 1.001)
    row = place.to(torch.int32)
    share = place.sub_(row)
    low = spectrum[row]
    envelope = torch.lerp(low, spectrum[row + 1], share)
    noise = (1 - coherent).mul_(envelope).mul_((np.sqrt(2 * np.pi) * width_hz / f0)[:, None])
    return comb.mul_(coherent).mul_(envelope), noise
