r"""Acoustics of the vocal tract: from areas to the sound that leaves lips and nose.

Plane waves in 44 short tubes with friction and yielding walls (Sondhi and Schroeter 1987). All tubes of one half have one length, so
the waves are polynomials with real coefficients in one complex delay: lattice on small real arrays, then one matrix product per half.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from paper_utils.world import tract_tables as tables

SOUND_SPEED = 35_000.0  # cm/s, moist air at body temperature
AIR_DENSITY = 1.14e-3  # g/cm3
OPEN_VELUM = 1e-3  # cm2; below it the nose takes no part, exactly


@dataclass(frozen=True)
class Walls:
    """Losses of the tract, in the form of Sondhi and Schroeter (1987).

    Parameters
    ----------
    wall_rate, wall_stiffness, wall_hz
        Walls that yield: ratio of resistance to mass (1/s), square of their own resonance (1/s2), lowest resonance of the closed tract.
    friction
        Viscous and heat losses grow as the square root of this times frequency (rad/s).
    nasal_friction
        Factor on `friction`'s effect in the nose, whose cross-section is all folds; choice of ours.
    nasal_resistance
        Resistance of the nasal airways to breathing, at the nostrils, in dyn s/cm5 (about that in cmH2O s/l; adults have 2 to 3). Without it
        the murmurs of our prototype were 6 to 9 dB too loud against Fletcher (1953, from memory, unverified).
    voice_bar
        Share of the glottal flow that the neck radiates, low-passed at `voice_bar_hz` Hz: what is heard through a closure. Choices of ours.
    """

    wall_rate: float = 130 * np.pi
    wall_stiffness: float = (30 * np.pi) ** 2
    wall_hz: float = 203.0
    friction: float = 4.0
    nasal_friction: float = 5.0
    nasal_resistance: float = 2.5
    voice_bar: float = 0.004
    voice_bar_hz: float = 250.0


# Maxillary sinus as a side branch: acoustic ohm, g/cm4, cm4 s2/g; resonance 520 Hz (values used with the nose above).
SINUS = (1.0, 5.94e-3, 15.8e-6)


def propagation(
    hz: Float[Tensor, " bins"], walls: Walls, friction_factor: float = 1.0
) -> tuple[Complex[Tensor, " bins"], Complex[Tensor, " bins"]]:
    r"""Propagation constant and characteristic impedance of a tube, apart from its length and area.

    .. math:: \alpha = \sqrt{j\omega c_1},\quad \beta = \frac{j\omega\,\omega_0^2}{(j\omega + a)j\omega + b} + \alpha,\quad
       \gamma = \sqrt{\frac{a + j\omega}{\beta + j\omega}},\quad \sigma = \gamma(\beta + j\omega)

    Parameters
    ----------
    hz
        Frequencies; 0 is replaced by 1 Hz, where the formulas are still finite.
    walls
        Losses.
    friction_factor
        On :math:`\alpha`.

    Returns
    -------
    sigma, gamma
        A tube of length l multiplies a wave by :math:`e^{-\sigma l/c}`; its impedance is :math:`\rho c\gamma/A`.
    """
    jw = 2j * np.pi * hz.clamp(min=1.0)
    alpha = friction_factor * torch.sqrt(jw * walls.friction)
    beta = jw * (2 * np.pi * walls.wall_hz) ** 2 / ((jw + walls.wall_rate) * jw + walls.wall_stiffness) + alpha
    gamma = torch.sqrt((walls.wall_rate + jw) / (beta + jw))
    return gamma * (beta + jw), gamma


@dataclass(frozen=True)
class TractTables:
    """Everything about one speaker's tract that no frame changes: the delays of its tubes, its nose, the radiation.

    Made by `tract_tables_of`; shapes in brackets.

    Parameters
    ----------
    hz
        Frequencies (bins).
    gamma
        Relative characteristic impedance (bins).
    mouth_powers, pharynx_powers
        Powers of the delay of one section to and fro, as pairs of real numbers (sections / 2 + 1, 2 bins); the pharynx also holds the
        delay of the whole tract.
    back_delay
        Delay from a source in the mouth to the lips: row m for m sections (sections / 2 + 1, bins).
    nose_impedance, nose_flow, port_tanh, port_cosh, nose_ratio
        Nose as seen from the port, relative; nostril flow for unit flow into it; the port's line; mouth over nose impedance (bins).
    glottis_load
        Impedance of a glottis of 1 cm2 over that of a tube of 1 cm2 (bins).
    voice_bar
        What the neck radiates (bins).
    """

    hz: Float[Tensor, " bins"]
    gamma: Complex[Tensor, " bins"]
    mouth_powers: Float[Tensor, "rows reim"]
    pharynx_powers: Float[Tensor, "rows reim"]
    back_delay: Complex[Tensor, "rows bins"]
    nose_impedance: Complex[Tensor, " bins"]
    nose_flow: Complex[Tensor, " bins"]
    port_tanh: Complex[Tensor, " bins"]
    port_cosh: Complex[Tensor, " bins"]
    nose_ratio: Complex[Tensor, " bins"]
    glottis_load: Complex[Tensor, " bins"]
    voice_bar: Complex[Tensor, " bins"]

    @property
    def half(self) -> int:
        """Sections of the pharynx, and of the mouth."""
        return len(self.mouth_powers) - 1

    def to(self, device: str | torch.device, dtype: torch.dtype) -> TractTables:
        """The same on a device, in single or double precision."""
        wide = torch.complex128 if dtype == torch.float64 else torch.complex64
        return TractTables(**{k: v.to(device, wide if v.is_complex() else dtype) for k, v in vars(self).items()})


def tract_tables_of(
    hz: Float[Tensor, " bins"],
    *,
    pharynx_cm: float,
    oral_cm: float,
    nose_length: float = 1.0,
    nose_gain: float = 1.0,
    nostril_gain: float = 1.0,
    sections: int = tables.SECTIONS,
    walls: Walls | None = None,
) -> TractTables:
    """Tables of one speaker at the given frequencies, computed in float64.

    Parameters
    ----------
    hz
        Frequencies.
    pharynx_cm, oral_cm
        Lengths below and above the velar port.
    nose_length, nose_gain, nostril_gain
        Factors on the nose's length, on all its areas, and on the areas of its last 2.4 cm.
    sections
        Even number of tubes, half of them below the port.
    walls
        Losses; None: the defaults.
    """
    walls = walls or Walls()
    hz = hz.to(torch.float64)
    half = sections // 2
    sigma, gamma = propagation(hz, walls)
    steps = torch.arange(half + 1, dtype=torch.float64)[:, None]
    mouth = torch.exp(-2 * sigma / SOUND_SPEED * (oral_cm / half) * steps)
    pharynx = torch.exp(-2 * sigma / SOUND_SPEED * (pharynx_cm / half) * steps)
    whole = torch.exp(sigma * (pharynx_cm + oral_cm) / SOUND_SPEED)
    nose = _nose(hz, walls, nose_length, nose_gain, nostril_gain)
    jw = 2j * np.pi * hz
    # A glottis of area A: resistance of turbulent flow at 8 cmH2O, mass of an air plug 0.3 cm long.
    glottis = (np.sqrt(2 * AIR_DENSITY * tables.LUNG_PRESSURE) + jw * AIR_DENSITY * 0.3) / (AIR_DENSITY * SOUND_SPEED)
    return TractTables(
        hz=hz,
        gamma=gamma,
        mouth_powers=torch.view_as_real(mouth).flatten(1),
        pharynx_powers=torch.view_as_real(pharynx * whole).flatten(1),
        back_delay=torch.exp(-sigma / SOUND_SPEED * (oral_cm / half) * steps),
        nose_ratio=gamma / nose["gamma"],
        glottis_load=glottis / gamma,
        voice_bar=walls.voice_bar / (1 + 1j * hz / walls.voice_bar_hz),
        **{k: v for k, v in nose.items() if k != "gamma"},
    )


def _nose(hz: Tensor, walls: Walls, length: float, gain: float, nostril_gain: float) -> dict[str, Tensor]:
    """Chain recursion from the nostrils to the port; once a speaker, so it need not be fast."""
    sigma, gamma = propagation(hz, walls, walls.nasal_friction)
    areas = tables.NASAL_AREAS_CM2 * gain
    areas[-tables.NOSTRIL_SECTIONS :] *= nostril_gain
    step = sigma * tables.NASAL_SECTION_CM * length / SOUND_SPEED
    ch, sh = torch.cosh(step), torch.sinh(step)
    unit = AIR_DENSITY * SOUND_SPEED * gamma
    jw = 2j * np.pi * hz.clamp(min=1.0)
    resistance, mass, compliance = SINUS
    sinus = resistance + jw * mass + 1 / (jw * compliance)
    pressure = radiation(torch.as_tensor(areas[-1:]), hz)[0] * AIR_DENSITY * SOUND_SPEED / areas[-1]
    pressure = pressure + walls.nasal_resistance
    flow = torch.ones_like(pressure)
    for k in range(len(areas) - 1, -1, -1):
        pressure, flow = ch * pressure + unit / areas[k] * sh * flow, areas[k] / unit * sh * pressure + ch * flow
        if k == tables.SINUS_AFTER:
            flow = flow + pressure / sinus
    port = sigma * tables.PORT_CM * length / SOUND_SPEED
    return {
        "nose_impedance": pressure / flow / unit,
        "nose_flow": 1 / flow,
        "port_tanh": torch.tanh(port),
        "port_cosh": torch.cosh(port),
        "gamma": gamma,
    }


def radiation(area_cm2: Float[Tensor, " frames"], hz: Float[Tensor, " bins"]) -> Complex[Tensor, "frames bins"]:
    r"""Radiation impedance of a piston in a baffle over :math:`\rho c/A`: resistance and mass side by side.

    .. math:: Z = \frac{j\omega R L}{R + j\omega L},\quad R = \frac{128\,\rho c}{9\pi^2 A},\quad L = \frac{8\rho}{3\pi\sqrt{\pi A}}

    Parameters
    ----------
    area_cm2
        Opening of each frame.
    hz
        Frequencies.
    """
    resistance = 128 / (9 * np.pi**2)
    reactance = torch.sqrt(area_cm2)[:, None] * (hz.clamp(min=1.0) * (2 * np.pi * 8 / (3 * np.pi**1.5 * SOUND_SPEED)))
    real = reactance * (reactance * resistance) / (reactance * reactance + resistance**2)
    return torch.complex(real, real * (resistance / reactance))


def lattice(
    area: Float[Tensor, "half frames"], start: Int[Tensor, " frames"] | None = None
) -> tuple[Float[Tensor, "rows frames"], Float[Tensor, "rows frames"]]:
    r"""Coefficients of the waves at the inner end of a tube as polynomials in the delay :math:`z` of one section.

    Each section delays the wave that runs back, each junction mixes both with a real coefficient
    :math:`r = (A_k - A_{k+1})/(A_k + A_{k+1})`: :math:`f \leftarrow f + r\,b,\; b \leftarrow b + r f`. Scale factors
    :math:`(A_k + A_{k+1})/2A_k` and the common delay are left out.

    Parameters
    ----------
    area
        Sections from the inner to the outer end.
    start
        None: begin at the outer end with :math:`f = 1, b = 0`. Else begin below section `start` (so many sections lie inside of it) with
        :math:`f = b = 1/2`, which is unit pressure and no flow.

    Returns
    -------
    forward, backward
        Row i belongs to :math:`z^i`.
    """
    half, frames = area.shape
    reflection = (area[:-1] - area[1:]) / (area[:-1] + area[1:])
    forward, spare = area.new_zeros(2, half + 1, frames)
    store = area.new_zeros(2 * half + 1, frames)  # the backward wave; a delay moves its first row up by one
    if start is None:
        forward[0] = 1
    for k in range(half - 1, -1, -1):
        if start is not None:
            begins = 0.5 * (start == k + 1)
            forward[0] += begins
            store[k + 1] += begins
        degree = half - k
        if k:
            backward, r = store[k : k + degree + 1], reflection[k - 1]
            torch.addcmul(forward[: degree + 1], backward, r, out=spare[: degree + 1])
            backward.addcmul_(forward[: degree + 1], r)
            forward, spare = spare, forward
    return forward, store[: half + 1]


def _evaluate(coefficients: Float[Tensor, "series rows frames"], powers: Float[Tensor, "rows reim"]) -> Tensor:
    """Value of each polynomial of each frame at all frequencies: complex (series, frames, bins)."""
    series, rows, frames = coefficients.shape
    values = coefficients.transpose(0, 1).reshape(rows, series * frames).T @ powers
    return torch.view_as_complex(values.view(series, frames, -1, 2))


def _chain(forward: Tensor, backward: Tensor) -> Tensor:
    r"""Polynomials of the chain matrix (p from p, p from U, U from p, U from U), impedances relative to each end's own.

    The lattice is its own mirror image: exchanging f and b turns each polynomial's coefficients round, so one run gives all four.
    """
    turned_forward, turned_backward = forward.flip(0), backward.flip(0)
    to_f, to_b = forward + turned_backward, backward + turned_forward  # from pressure 2
    flow_f, flow_b = forward - turned_backward, backward - turned_forward  # from flow 2
    return 0.5 * torch.stack([to_f + to_b, flow_f + flow_b, to_f - to_b, flow_f - flow_b])


@dataclass(frozen=True)
class Response:
    """Transfer functions of some frames.

    Parameters
    ----------
    voice
        Flow out of lips and nostrils for unit flow at the glottis.
    friction
        Flow out of the lips for unit pressure of the frication source, one row for each of `friction_frames`, cm5/(dyn s).
    """

    voice: Complex[Tensor, "frames bins"]
    friction: Complex[Tensor, "sources bins"]


def response(
    area: Float[Tensor, "frames sections"],
    velum_cm2: Float[Tensor, " frames"],
    constants: TractTables,
    *,
    friction_frames: Int[Tensor, " sources"] | None = None,
    source: Int[Tensor, " sources"] | None = None,
    glottis_cm2: Float[Tensor, " sources"] | None = None,
) -> Response:
    """Transfer functions from glottis and constriction to lips and nostrils.

    Parameters
    ----------
    area
        The speaker's areas, positive, in cm2, glottis to lips.
    velum_cm2
        Area of the velar port; frames below `OPEN_VELUM` have no nose at all.
    constants
        Of the speaker, in the precision and on the device of `area`.
    friction_frames, source, glottis_cm2
        Frames whose frication is wanted, how many sections lie below the source (more than half of them), and the glottis that ends the
        cavity behind it.
    """
    half = constants.half
    if area.shape[1] != 2 * half:
        raise ValueError(f"area: expected {2 * half} sections as in the speaker's tables, found {area.shape[1]}")
    columns = area.T.contiguous()
    scale = 0.5 * (1 + columns[1:] / columns[:-1])  # of the junction of sections k and k + 1
    scale[half - 1] = 1.0  # at the port pressure and flow go on, not waves
    # Both halves in one run: (sections of a half, pharynx frames then mouth frames).
    halves = columns.view(2, half, -1).transpose(0, 1).reshape(half, -1)
    pharynx, mouth = _chain(*lattice(halves)).chunk(2, -1)
    mouth = _evaluate(mouth, constants.mouth_powers)
    opening = radiation(columns[-1], constants.hz) / constants.gamma
    pressure = mouth[0].mul_(opening).add_(mouth[1])
    flow = mouth[2].mul_(opening).add_(mouth[3])
    nasal = torch.nonzero(velum_cm2 >= OPEN_VELUM)[:, 0]
    out = None
    if len(nasal):
        out = _nostril_flow(velum_cm2[nasal], pressure[nasal], columns[half:, nasal], scale[half:, nasal], constants)
        flow.index_add_(0, nasal, pressure[nasal] * _port_admittance(velum_cm2[nasal], columns[half, nasal], constants))
    pharynx[1::2] *= columns[half] / columns[half - 1]
    glottal = _evaluate(pharynx[2:], constants.pharynx_powers)
    glottal = glottal[0].mul_(pressure).add_(glottal[1].mul_(flow))
    voice = torch.reciprocal(glottal.mul_((columns[0] / columns[-1] * torch.prod(scale, 0))[:, None]))
    if out is not None:
        voice.index_add_(0, nasal, voice[nasal] * out)
    voice += constants.voice_bar
    if friction_frames is None or source is None or glottis_cm2 is None or not len(friction_frames):
        return Response(voice, voice[:0])
    at = friction_frames
    back = (pharynx[..., at], columns[:, at], scale[half:, at], velum_cm2[at])
    return Response(voice, _friction(pressure[at], flow[at], *back, source - half, glottis_cm2, constants))


def _port_admittance(velum: Tensor, area: Tensor, constants: TractTables) -> Tensor:
    """Flow into the nose for unit pressure, relative to the mouth section of the given area next to the port."""
    load = velum[:, None] * constants.nose_impedance
    line = (1 + load * constants.port_tanh) / (load + constants.port_tanh)
    return line * constants.nose_ratio * (velum / area)[:, None]


def _nostril_flow(velum: Tensor, pressure: Tensor, mouth: Tensor, scale: Tensor, constants: TractTables) -> Tensor:
    """Flow out of the nostrils for unit flow out of the lips."""
    through = constants.nose_ratio * constants.nose_flow / constants.port_cosh / constants.back_delay[constants.half]
    gain = torch.prod(scale, 0) * velum / mouth[-1]
    return pressure * through * gain[:, None] / (velum[:, None] * constants.nose_impedance + constants.port_tanh)


def _friction(
    pressure: Tensor,
    flow: Tensor,
    pharynx: Tensor,
    columns: Tensor,
    scale: Tensor,
    velum: Tensor,
    start: Tensor,
    glottis: Tensor,
    constants: TractTables,
) -> Tensor:
    r"""Lip flow for unit pressure in series at the source.

    With :math:`(p, U)` at the glottis for unit lip flow, and :math:`(p', U')` for unit pressure at the source, the back cavity closed by
    :math:`Z_g`: :math:`U_{lips}/P_s = (p' + Z_g U')/(p + Z_g U)`, since the chain matrix between has determinant 1.
    """
    half = constants.half
    forward, backward = lattice(columns[half:], start)
    inner = _evaluate(torch.stack([forward + backward, forward - backward]), constants.mouth_powers)
    nasal = torch.nonzero(velum >= OPEN_VELUM)[:, 0]
    if len(nasal):
        admittance = _port_admittance(velum[nasal], columns[half, nasal], constants)
        inner[1].index_add_(0, nasal, inner[0, nasal] * admittance)
    chain = _evaluate(pharynx, constants.pharynx_powers)
    load = constants.glottis_load * (columns[0] / glottis)[:, None]
    from_pressure = chain[2].mul_(load).add_(chain[0])
    from_flow = chain[3].mul_(load).add_(chain[1])
    ratio = from_pressure * inner[0] + from_flow * inner[1]
    ratio /= from_pressure.mul_(pressure).add_(from_flow.mul_(flow))
    # Junctions between source and lips are in the denominator only.
    outside = torch.arange(half - 1, device=start.device)[:, None] >= start - 1
    passed = torch.where(outside, scale, torch.ones_like(scale)).prod(0)
    gain = columns[-1] / passed / (AIR_DENSITY * SOUND_SPEED)
    return ratio * gain[:, None] * constants.back_delay[half - start] / constants.gamma


def resonances(
    magnitude: Float[np.ndarray, "frames bins"], hz: Float[np.ndarray, " bins"], count: int
) -> Float[np.ndarray, "frames count"]:
    """Frequencies of the first peaks of spectra on an even grid, by a parabola through three points of the logarithm.

    Parameters
    ----------
    magnitude
        Positive.
    hz
        Evenly spaced.
    count
        How many; NaN where a spectrum has fewer.
    """
    level = np.log(magnitude)
    left, middle, right = level[:, :-2], level[:, 1:-1], level[:, 2:]
    peak = (middle > left) & (middle >= right)
    shift = 0.5 * (left - right) / np.where(peak, left - 2 * middle + right, -1.0)
    where = hz[1:-1] + shift * (hz[1] - hz[0])
    order = np.cumsum(peak, 1)
    found = np.full((len(level), count), np.nan)
    frame, bin_ = np.nonzero(peak & (order <= count))
    found[frame, order[frame, bin_] - 1] = where[frame, bin_]
    return found
