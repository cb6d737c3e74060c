"""Voices caused by anatomy: log-mel frames and waveforms of timed phones, and spectra of single shapes for teaching.

Log-mel frames come straight from the acoustics, without a waveform; both use the same articulation, tract and sources.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from paper_utils.audio import LogMel
from paper_utils.world import glottis, tract
from paper_utils.world import tract_tables as tables
from paper_utils.world.articulation import Articulation, articulate
from paper_utils.world.prosody import Accent
from paper_utils.world.speakers import Channel, Speakers
from paper_utils.world.speech import Utterance
from paper_utils.world.tract_spectra import (
    LARGEST_AREA,
    LEAST_AREA,
    formants,
    speaker_tables,
    spectral_envelope,
    vowel_area,
)

__all__ = [
    "Channel",
    "Speakers",
    "formants",
    "log_mel",
    "speaker_tables",
    "spectral_envelope",
    "vowel_area",
    "waveform",
]

SAMPLE_RATE = 16_000
FULL_SCALE = 0.25  # digital value of unit sound pressure; a man's loud vowel then peaks near .5
_BLOCK = 64  # utterances articulated at once
_CHUNK = 256  # frames whose spectra fit in a core's cache
_WINDOW_SUM, _NOISE_BANDWIDTH = 200.0, 1.5 / 400  # of the Hann window of 400 samples
_COMB_HZ = 24.5  # its main lobe
_SILENT = 1e-5  # weaker sources are not computed


# ---------------------------------------------------------------------------------------- one utterance, ready to sound


@dataclass(frozen=True)
class _Frames:
    """Frames of one utterance as its speaker makes them."""

    area: Tensor
    velum: Tensor
    glottis: Tensor
    strength: glottis.Sources
    f0: Tensor


@dataclass(frozen=True)
class _Manner:
    """How a call wants it: the arguments that all utterances share."""

    hop_s: float
    sections: int
    amplitude: ArrayLike
    accents: Sequence[Accent] | None
    mute_nose: bool
    device: str | torch.device = "cpu"
    dtype: torch.dtype = torch.float32

    def tensor(self, values: np.ndarray) -> Tensor:
        """The values where and as precise as wanted."""
        return torch.as_tensor(values).to(self.device, self.dtype)


@dataclass(frozen=True)
class _Voice:
    """One speaker at the frequencies of a call."""

    constants: tract.TractTables
    log_gains: Tensor
    pulse: np.ndarray
    spectrum: Tensor
    f0_hz: float
    breath: float
    jitter: float
    shimmer_db: float


@dataclass(frozen=True)
class _Job:
    """One utterance with all that its sound needs."""

    position: int  # in the caller's list
    frames: _Frames
    voice: _Voice
    channel: Channel
    rng: np.random.Generator
    duration_s: float


def _speaker_areas(log_area: Tensor, log_gains: Tensor, sections: int) -> Tensor:
    area = (log_area + log_gains).clamp_(np.log(LEAST_AREA), np.log(LARGEST_AREA))
    if sections != tables.SECTIONS:  # geometric means of neighbours
        area = area.view(len(area), sections, -1).mean(-1)
    return area.exp_()


def _checked(
    utterances: Sequence[Utterance],
    speakers: Speakers,
    speaker_index: ArrayLike,
    seed: int | Sequence[int],
    channels: Sequence[Channel] | None,
    sections: int,
) -> tuple[np.ndarray, list[tuple[int, ...]], Sequence[Channel]]:
    count = len(utterances)
    if not count:
        raise ValueError("utterances: there are none; expected at least one")
    index = (
        np.broadcast_to(np.asarray(speaker_index), count) if np.ndim(speaker_index) == 0 else np.asarray(speaker_index)
    )
    if index.shape != (count,) or not np.issubdtype(index.dtype, np.integer):
        raise ValueError(
            f"speaker_index: expected {count} integers, one an utterance, found {index.dtype} {index.shape}"
        )
    if ((index < 0) | (index >= len(speakers))).any():
        wrong = index[(index < 0) | (index >= len(speakers))][0]
        raise ValueError(f"speaker_index: {wrong} is out of range; there are {len(speakers)} speakers, counted from 0")
    if sections not in (tables.SECTIONS, tables.SECTIONS // 2):
        raise ValueError(f"sections: expected {tables.SECTIONS} or {tables.SECTIONS // 2}, found {sections}")
    seeds = [(seed, i) for i in range(count)] if isinstance(seed, int | np.integer) else [(int(s),) for s in seed]
    if len(seeds) != count:
        raise ValueError(f"seed: expected one number, or {count} numbers, one an utterance; found {len(seeds)}")
    if any(s < 0 for pair in seeds for s in pair):
        raise ValueError("seed: expected numbers of at least 0")
    chosen = (Channel(),) * count if channels is None else channels
    if len(chosen) != count:
        raise ValueError(f"channels: expected {count}, one an utterance, found {len(chosen)}")
    return index, seeds, chosen


def _jobs(
    utterances: Sequence[Utterance],
    speakers: Speakers,
    checked: tuple[np.ndarray, list[tuple[int, ...]], Sequence[Channel]],
    hz: Tensor,
    manner: _Manner,
) -> Iterator[_Job]:
    """The utterances, those of one speaker together, articulated in blocks so that memory stays bounded."""
    index, seeds, channels = checked
    amplitude = np.broadcast_to(np.asarray(manner.amplitude, dtype=float), len(utterances))
    order = np.argsort(index, kind="stable")
    current, voice = -1, None
    for block in np.array_split(order, -(-len(order) // _BLOCK)):
        spoken = [utterances[i] for i in block]
        tracks = articulate(
            spoken,
            hop_s=manner.hop_s,
            accents=manner.accents,
            amplitude=amplitude[block],
            mute_nose=manner.mute_nose,
        )
        for place, position in enumerate(block.tolist()):
            if index[position] != current:
                current = index[position]
                voice = _voice(speakers, int(current), hz, manner)
            part = slice(int(tracks.starts[place]), int(tracks.starts[place + 1]))
            yield _Job(
                position=position,
                frames=_frames(spoken[place], tracks, part, voice, channels[position], manner),
                voice=voice,
                channel=channels[position],
                rng=np.random.default_rng(seeds[position]),
                duration_s=spoken[place].alignment.duration_s,
            )


def _voice(speakers: Speakers, index: int, hz: Tensor, manner: _Manner) -> _Voice:
    pulse, spectrum = glottis.lf_table().at(float(speakers.rd[index]))
    return _Voice(
        constants=speaker_tables(speakers, index, hz, sections=manner.sections).to(manner.device, manner.dtype),
        log_gains=manner.tensor(speakers.take(index).log_gains()),
        pulse=pulse,
        spectrum=manner.tensor(spectrum**2),
        **{name: float(getattr(speakers, name)[index]) for name in ("f0_hz", "breath", "jitter", "shimmer_db")},
    )


def _frames(
    utterance: Utterance, tracks: Articulation, part: slice, voice: _Voice, channel: Channel, manner: _Manner
) -> _Frames:
    """Areas, sources and pitch of one utterance; apart from others, so that its bits do not depend on theirs."""
    times = np.arange(part.stop - part.start) * tracks.hop_s
    f0 = np.asarray(utterance.pitch(times), dtype=float) * (voice.f0_hz * channel.f0_factor)
    if not (np.isfinite(f0) & (f0 > 20) & (f0 < 1000)).all():
        raise ValueError(
            f"pitch: F0 must lie between 20 and 1000 Hz, found {np.nanmin(f0):.0f} to {np.nanmax(f0):.0f} Hz; "
            "check f0_hz of the speakers and the utterances' pitch"
        )
    area = _speaker_areas(manner.tensor(tracks.log_area[part]), voice.log_gains, manner.sections)
    names = ("velum_cm2", "glottis_cm2", "pressure", "cavity", "noise", "cutoff")
    track = {name: manner.tensor(getattr(tracks, name)[part]) for name in names}
    obstacle = torch.as_tensor(tracks.obstacle[part]).to(manner.device)
    strength = glottis.sources(area, **track, obstacle=obstacle, least_area=LEAST_AREA)
    strength.aspiration.mul_(voice.breath)
    return _Frames(area, track["velum_cm2"], track["glottis_cm2"], strength, manner.tensor(f0))


def _slice(frames: _Frames, part: slice | Tensor) -> _Frames:
    strength = glottis.Sources(**{k: v[part] for k, v in vars(frames.strength).items()})
    return _Frames(frames.area[part], frames.velum[part], frames.glottis[part], strength, frames.f0[part])


def _sounding(job: _Job) -> tuple[Tensor, ...]:
    """Frames with any source, in chunks."""
    s = job.frames.strength
    return torch.nonzero(torch.maximum(torch.maximum(s.voice, s.friction), s.aspiration) > _SILENT)[:, 0].split(_CHUNK)


def _responses(frames: _Frames, constants: tract.TractTables) -> tuple[tract.Response, Tensor]:
    """Transfer functions of some frames, and which of them have friction."""
    at = torch.nonzero(frames.strength.friction > _SILENT)[:, 0]
    found = tract.response(
        frames.area,
        frames.velum,
        constants,
        friction_frames=at,
        source=frames.strength.position[at],
        glottis_cm2=frames.glottis[at],
    )
    return found, at


def _squared(values: Tensor) -> Tensor:
    parts = torch.view_as_real(values)
    return parts[..., 0].square().addcmul_(parts[..., 1], parts[..., 1])


# ------------------------------------------------------------------------------------------------------------- log-mel


def log_mel(
    utterances: Sequence[Utterance],
    speakers: Speakers,
    speaker_index: ArrayLike,
    *,
    mel: int = 64,
    hop_ms: float = 10.0,
    seed: int | Sequence[int],
    channels: Sequence[Channel] | None = None,
    sections: int = tables.SECTIONS,
    speckle: bool = True,
    amplitude: ArrayLike = 1.0,
    accents: Sequence[Accent] | None = None,
    mute_nose: bool = False,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> list[Float[Tensor, "time mel"]]:
    r"""Natural-log mel energies of utterances, straight from the acoustics.

    .. math:: P(f) = |H_g|^2 \big(a_v^2 V_h + a_v^2 V_n\chi + a_a^2\omega^2 B\chi\big) + a_f^2\omega^2 |H_f|^2 B\chi + N\chi

    with the source strengths :math:`a`, the harmonics :math:`V_h` of the glottal pulses and the noise :math:`V_n` of their irregularity
    (`glottis.voiced_power`), the noise bandwidth B of the window, and :math:`\chi` exponential with mean 1: what a
    periodogram makes of noise. Conventions of `paper_utils.audio.WORLD_MEL` with `mel` bands: frame i is centred on time ``i * hop`` from
    the first phone's beginning, there are ``1 + samples // hop`` frames.

    Parameters
    ----------
    utterances
        With alignment, prosody, accent and ``pitch(times_s)``.
    speakers, speaker_index
        Voices, and which of them speaks each utterance (one number: all).
    mel, hop_ms
        Bands, and time between frames.
    seed
        One number: utterance i draws from stream ``(seed, i)``. One number an utterance: its result does not depend on its place either.
    channels
        One an utterance; None: all clean.
    sections
        Tubes of the tract, 44 or 22.
    speckle
        False sets :math:`\chi = 1`: mean energies.
    amplitude, accents, mute_nose
        See `paper_utils.world.articulation.articulate`.
    device, dtype
        Where and how precisely to compute; the result is float32 on that device.

    Raises
    ------
    ValueError
        If there is no utterance, a phone is unknown, a speaker index out of range, or lengths of arguments disagree.
    """
    checked = _checked(utterances, speakers, speaker_index, seed, channels, sections)
    config = LogMel(bands=mel)
    hz = torch.linspace(0, SAMPLE_RATE / 2, config.n_fft // 2 + 1, dtype=torch.float64)
    filters = config.filters().to(device, dtype)
    results: list[Tensor | None] = [None] * len(utterances)
    manner = _Manner(1e-3 * hop_ms, sections, amplitude, accents, mute_nose, device, dtype)
    for job in _jobs(utterances, speakers, checked, hz, manner):
        energies = _power(job, speckle, 1e-3 * hop_ms) @ filters
        results[job.position] = energies.clamp_(min=config.floor).log_().float()
    return results


def _power(job: _Job, speckle: bool, hop_s: float) -> Tensor:
    """Power spectrum of every frame of one utterance, in the scale of a windowed FFT."""
    frames, constants = job.frames, job.voice.constants
    hz, count = constants.hz, len(frames.f0)
    voiced, noisy = hz.new_zeros(2, count, len(hz))
    rising = (2 * np.pi * hz) ** 2 * _NOISE_BANDWIDTH
    for part in _sounding(job):
        voiced[part], noisy[part] = _part_power(_slice(frames, part), job.voice, rising)
    gain = job.channel.gain(hz) * (FULL_SCALE * _WINDOW_SUM) ** 2
    voiced, noisy = _smeared(voiced, hop_s).mul_(gain), _smeared(noisy, hop_s).mul_(gain)
    noisy += 10 ** (job.channel.noise_db / 10) * _NOISE_BANDWIDTH * _WINDOW_SUM**2
    if speckle:  # drawn on the CPU, so that a GPU gets the same numbers
        noisy *= torch.as_tensor(job.rng.standard_exponential((count, len(hz)), dtype=np.float32)).to(hz)
    return voiced.add_(noisy)


def _smeared(power: Tensor, hop_s: float) -> Tensor:
    """Each frame as its window sees it: neighbours shine in with the share of the squared Hann window that lies nearer to them."""
    edges = np.clip(np.arange(-0.5, 0.6 + 0.0125 / hop_s) * hop_s, -0.0125, 0.0125) * (np.pi / 0.025)
    mass = np.diff(3 * edges / 8 + np.sin(2 * edges) / 4 + np.sin(4 * edges) / 32) / (3 * np.pi / 8)
    result = power * float(mass[0])
    for apart, share in enumerate(mass[1:].tolist(), start=1):
        result[apart:].add_(power[:-apart], alpha=share)
        result[:-apart].add_(power[apart:], alpha=share)
    return result


def _part_power(frames: _Frames, voice: _Voice, rising: Tensor) -> tuple[Tensor, Tensor]:
    """Power of harmonics and of noise of sounding frames."""
    strength, constants = frames.strength, voice.constants
    found, at = _responses(frames, constants)
    through = _squared(found.voice)
    harmonics, irregular = glottis.voiced_power(
        frames.f0, constants.hz, voice.spectrum, width_hz=_COMB_HZ, jitter=voice.jitter, shimmer_db=voice.shimmer_db
    )
    loudness = strength.voice.square()[:, None]
    harmonics.mul_(through).mul_(loudness)
    noisy = (glottis.ASPIRATION_SCALE * strength.aspiration).square()[:, None] * rising
    noisy.add_(irregular.mul_(loudness)).mul_(through)
    if len(at):
        loud = (glottis.FRICTION_SCALE * strength.friction[at]).square()[:, None] * rising
        low_pass = 1 + (constants.hz / strength.cutoff_hz[at, None]).square_()
        noisy.index_add_(0, at, _squared(found.friction).mul_(loud).div_(low_pass))
    return harmonics, noisy


# ------------------------------------------------------------------------------------------------------------ waveform

_STEP = 80  # samples from one filtered piece to the next, 5 ms; a piece is a Hann window of twice that
_FFT = 1024
_OVERSAMPLING = 2  # of the pulses; what lies above 8 kHz is then dropped in the spectrum
PEAK = 0.7


def waveform(
    utterances: Sequence[Utterance],
    speakers: Speakers,
    speaker_index: ArrayLike,
    *,
    seed: int | Sequence[int],
    channels: Sequence[Channel] | None = None,
    sections: int = tables.SECTIONS,
    amplitude: ArrayLike = 1.0,
    accents: Sequence[Accent] | None = None,
    mute_nose: bool = False,
    peak: float | None = PEAK,
) -> list[Float[Tensor, " samples"]]:
    """Listenable sound of utterances at 16 kHz, by default each with a largest absolute sample of 0.7.

    Glottal pulses with jitter and shimmer, and two noises, in pieces of 10 ms every 5 ms, each filtered by the tract of its instant.

    Parameters
    ----------
    utterances, speakers, speaker_index, seed, channels, sections, amplitude, accents, mute_nose
        As for `log_mel`.
    peak
        Largest absolute sample of each. None: loud stays loud and soft soft, in the scale of `log_mel`; shouted vowels may pass 1.

    Returns
    -------
    list of Tensor
        Sample i belongs to time ``i / 16000`` from the beginning of the first phone; an utterance without any sound stays zero.

    Raises
    ------
    ValueError
        As `log_mel`.
    """
    checked = _checked(utterances, speakers, speaker_index, seed, channels, sections)
    hz = torch.linspace(0, SAMPLE_RATE / 2, _FFT // 2 + 1, dtype=torch.float64)
    results: list[Tensor | None] = [None] * len(utterances)
    manner = _Manner(_STEP / SAMPLE_RATE, sections, amplitude, accents, mute_nose)
    for job in _jobs(utterances, speakers, checked, hz, manner):
        sound = _sound(job)
        results[job.position] = sound if peak is None else sound * (peak / sound.abs().max().clamp(min=1e-12))
    return results


def _sound(job: _Job) -> Tensor:
    """Samples of one utterance, in digital scale."""
    samples = int(job.duration_s * SAMPLE_RATE + 1e-3)
    pieces = len(job.frames.f0)
    length = (pieces + 1) * _STEP
    phase, pulses = _pulse_train(job.frames.f0.numpy(), length, job.voice, job.rng)
    noise = torch.from_numpy(job.rng.standard_normal((2, length), dtype=np.float32))
    room = torch.from_numpy(job.rng.standard_normal(samples, dtype=np.float32))
    louder = torch.where(phase % 1.0 < glottis.OPEN_SHARE, glottis.OPEN_NOISE, glottis.CLOSED_NOISE)
    voicing = job.frames.strength.voice.clamp(max=1.0)
    out = torch.zeros(pieces - 1 + -(-(_FFT) // _STEP), _STEP)
    gain = torch.sqrt(job.channel.gain(job.voice.constants.hz)) * FULL_SCALE
    for part in _sounding(job):
        filtered = _filtered(_slice(job.frames, part), part, job.voice.constants, pulses, noise, louder, voicing[part])
        wave = torch.fft.irfft(filtered.mul_(gain), _FFT)
        wave = torch.nn.functional.pad(wave, (0, -_FFT % _STEP)).view(len(part), -1, _STEP)
        for k in range(wave.shape[1]):
            out.index_add_(0, part + k, wave[:, k])
    # Piece i begins one step before its middle, at sample (i - 1) * step.
    sound = out.flatten()[_STEP : _STEP + samples]
    return sound + room * 10 ** (job.channel.noise_db / 20)


def _pulse_train(f0: np.ndarray, length: int, voice: _Voice, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Phase in periods at 16 kHz, and unit glottal pulses at 32 kHz, from one step before the first frame on."""
    coarse = np.concatenate([[0.0], np.cumsum(f0)]) * (_STEP / SAMPLE_RATE)  # periods before each frame
    cycles = int(coarse[-1]) + 3
    edges = np.interp(np.arange(cycles), coarse, np.arange(len(coarse)))
    periods = np.maximum(np.diff(edges, append=edges[-1] + 1.0), 1e-3)
    periods *= np.maximum(1 + voice.jitter * rng.standard_normal(cycles), 0.5)
    loudness = 10 ** (voice.shimmer_db / 20 * rng.standard_normal(cycles))
    begin = np.concatenate([[0.0], np.cumsum(periods)])
    grid = np.arange(_OVERSAMPLING * length) / (_OVERSAMPLING * _STEP)
    phase = np.interp(grid, begin, np.arange(cycles + 1))
    cycle = np.minimum(phase.astype(np.int64), cycles - 1)
    place = (phase - cycle) * glottis.PULSE_SAMPLES
    low = np.minimum(place.astype(np.int64), glottis.PULSE_SAMPLES - 1)
    closed = np.append(voice.pulse, voice.pulse[0]).astype(np.float32)
    value = closed[low] + (place - low).astype(np.float32) * (closed[low + 1] - closed[low])
    train = (value * loudness[cycle]).astype(np.float32)
    return torch.from_numpy(phase[::_OVERSAMPLING].astype(np.float32)), torch.from_numpy(train)


def _filtered(
    frames: _Frames,
    part: Tensor,
    constants: tract.TractTables,
    pulses: Tensor,
    noise: Tensor,
    louder: Tensor,
    voicing: Tensor,
) -> Tensor:
    """Spectrum of the pieces of sounding frames: sources through the tract."""
    found, at = _responses(frames, constants)
    hz, bins = constants.hz, len(constants.hz)
    window = torch.hann_window(2 * _STEP)
    strength = frames.strength
    rising = 2j * np.pi * hz
    wide = pulses.unfold(0, 2 * _STEP * _OVERSAMPLING, _STEP * _OVERSAMPLING)[part]
    wide = wide * torch.hann_window(2 * _STEP * _OVERSAMPLING) * (strength.voice / _OVERSAMPLING)[:, None]
    source = torch.fft.rfft(wide, _FFT * _OVERSAMPLING)[:, :bins]
    modulation = 1 + voicing[:, None] * (louder.unfold(0, 2 * _STEP, _STEP)[part] - 1)
    breath = noise[0].unfold(0, 2 * _STEP, _STEP)[part] * modulation * window
    breath = breath * (glottis.ASPIRATION_SCALE * strength.aspiration)[:, None]
    source = source.addcmul(torch.fft.rfft(breath, _FFT), rising)
    result = source.mul_(found.voice)
    if len(at):
        hiss = noise[1].unfold(0, 2 * _STEP, _STEP)[part[at]] * modulation[at] * window
        hiss = torch.fft.rfft(hiss * (glottis.FRICTION_SCALE * strength.friction[at])[:, None], _FFT)
        low_pass = torch.rsqrt(1 + (hz / strength.cutoff_hz[at, None]).square())
        result.index_add_(0, at, hiss.mul_(found.friction).mul_(low_pass * rising))
    return result
