"""Where somebody speaks: voice activity by energy alone, for recordings of one speaker in steady noise; WebRTC's detector as an extra.

The energy detector needs no model and no absolute level: the quietest frames of the recording tell what its noise is, and speech is
what rises above.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from paper_utils.audio import LogMel, mel_energies

WEBRTC_RATES = (8000, 16_000, 32_000, 48_000)
WEBRTC_FRAME_MS = 20  # published with paper 03
_BANDS = 16  # their triangles add up to 1 over the band, so the number changes its edges only


@dataclass(frozen=True)
class EnergyVad:
    """Settings of `speech_frames`. All numbers are choices of ours, set on synthetic vowels in white and pink noise and on six spoken digits.

    Parameters
    ----------
    window_ms, hop_ms
        Length and distance of frames.
    low_hz, high_hz
        Band whose energy counts: leaves out hum and rumble, keeps the first three formants.
    smooth_frames
        Energies are averaged over that many frames (odd), so that noise does not flutter across the thresholds.
    floor_percentile
        The noise floor is this percentile of the frames that are not digital silence.
    open_db, keep_db
        A stretch of frames at least `keep_db` above the floor is speech if one of them reaches `open_db`.
    range_db
        And none of them is more than this below the recording's loudest frame.
    shortest_ms
        Stretches shorter than that are clicks; window and smoothing widen each sound by 65 ms, so speech of 35 ms and more is kept.
    hangover_ms
        Speech is prolonged by that on both sides (weak onsets, fading ends); stretches that then touch become one.
    """

    window_ms: float = 25.0
    hop_ms: float = 10.0
    low_hz: float = 200.0
    high_hz: float = 4000.0
    smooth_frames: int = 5
    floor_percentile: float = 10.0
    open_db: float = 5.0
    keep_db: float = 2.5
    range_db: float = 40.0
    shortest_ms: float = 100.0
    hangover_ms: float = 80.0

    def __post_init__(self) -> None:
        if not (0 < self.hop_ms <= self.window_ms and 0 <= self.low_hz < self.high_hz and self.smooth_frames % 2 == 1):
            raise ValueError(
                "energy VAD: expected 0 < hop_ms <= window_ms, 0 <= low_hz < high_hz and an odd smooth_frames, found "
                f"{self.hop_ms}, {self.window_ms}, {self.low_hz}, {self.high_hz}, {self.smooth_frames}"
            )
        if not (0 <= self.floor_percentile < 100 and 0 < self.keep_db <= self.open_db < self.range_db):
            raise ValueError(
                "energy VAD: expected 0 <= floor_percentile < 100 and 0 < keep_db <= open_db < range_db, found "
                f"{self.floor_percentile}, {self.keep_db}, {self.open_db}, {self.range_db}"
            )


def speech_frames(
    samples: Float[Tensor, " samples"], sample_rate: int, config: EnergyVad | None = None
) -> Bool[Tensor, " frames"]:
    r"""Speech or not, for each frame of one recording; frame ``t`` is centred on ``t * hop_ms``.

    With :math:`L_t` the smoothed energy of frame :math:`t` in dB between `low_hz` and `high_hz` and :math:`L_0` its percentile, candidates are
    the frames

    .. math:: L_t \ge \max(L_0 + \mathrm{keep},\; \max_s L_s - \mathrm{range}).

    Runs of candidates that never reach :math:`L_0 + \mathrm{open}` or are too short are dropped, the others prolonged. A gain on the recording
    changes nothing. A sound that never changes its level is no speech by this rule, and without any pause the softest sounds are taken for noise.

    Parameters
    ----------
    samples
        One recording; the further its noise is from steady, the more of it is called speech.
    sample_rate
        Hz.
    config
        Settings; the defaults of `EnergyVad` if not given.

    Returns
    -------
    Tensor
        All False for silence, for a steady noise, and for recordings shorter than the shortest speech.

    Raises
    ------
    ValueError
        If there are no samples, they are NaN or infinite, or the sample rate leaves nothing of the band.
    """
    config = config or EnergyVad()
    energy = _band_energy(samples, sample_rate, config)
    loudest = energy.max()
    if loudest == 0:
        return torch.zeros_like(energy, dtype=torch.bool)
    level = 10 * torch.log10((energy / loudest).clamp(min=1e-12))
    floor = torch.quantile(level[energy > 0], config.floor_percentile / 100)
    candidates = level >= torch.clamp(floor + config.keep_db, min=-config.range_db)
    first, last = _runs(candidates)
    opening = F.pad((level >= floor + config.open_db).cumsum(0), (1, 0))
    wanted = (opening[last] > opening[first]) & (last - first >= config.shortest_ms / config.hop_ms)
    hangover = round(config.hangover_ms / config.hop_ms)
    return _filled((first[wanted] - hangover).clamp(min=0), (last[wanted] + hangover).clamp(max=len(level)), len(level))


def energy_vad(
    samples: Float[Tensor, " samples"], sample_rate: int, config: EnergyVad | None = None
) -> list[tuple[float, float]]:
    """Stretches of speech as (start, end) in seconds, in order, apart from each other; empty if nobody speaks.

    Parameters, rule and errors as for `speech_frames`.

    Examples
    --------
    >>> energy_vad(torch.zeros(16_000), 16_000)
    []
    """
    config = config or EnergyVad()
    speech = speech_frames(samples, sample_rate, config)
    first, last = _runs(speech)
    hop, end, frames = _hop(sample_rate, config), len(samples), len(speech)
    starts = ((first * hop - hop // 2).clamp(min=0)).tolist()
    ends = torch.where(last == frames, end, (last * hop - hop // 2).clamp(max=end)).tolist()
    return [(start / sample_rate, stop / sample_rate) for start, stop in zip(starts, ends, strict=True)]


def take_segments(
    samples: Float[Tensor, " samples"], sample_rate: int, segments: list[tuple[float, float]]
) -> Float[Tensor, " kept"]:
    """The samples of the given stretches (seconds), one after the other, as the front end of papers 02 and 03 keeps speech.

    Raises
    ------
    ValueError
        If there is no stretch, or one lies outside the recording.
    """
    if not segments:
        raise ValueError(
            "segments: there are none, so nothing would be left of the recording; leave it out or keep it whole"
        )
    bounds = [(round(start * sample_rate), round(end * sample_rate)) for start, end in segments]
    wrong = [
        segment
        for segment, (first, last) in zip(segments, bounds, strict=True)
        if not 0 <= first < last <= len(samples)
    ]
    if wrong:
        raise ValueError(
            f"segments: {wrong[0]} does not lie within the {len(samples) / sample_rate:g} s of the recording"
        )
    return torch.cat([samples[first:last] for first, last in bounds])


def webrtc_vad(
    samples: Float[Tensor, " samples"], sample_rate: int = 16_000, *, mode: int = 2
) -> list[tuple[float, float]]:
    """Stretches of speech by WebRTC's detector, collected as the code published with paper 03 does; needs the extra ``vad``.

    Frames of 20 ms; see `collect_speech` for how they become stretches. A fresh detector hears every recording (the published code goes on
    with the one of the file before); its first five frames or so count as speech whatever they hold.

    Parameters
    ----------
    samples
        One recording in [-1, 1]; the detector gets it in 16 bits.
    sample_rate
        8,000, 16,000, 32,000 or 48,000 Hz, what the detector knows.
    mode
        0 (keeps most) to 3 (drops most); 2 in the published code.

    Raises
    ------
    ModuleNotFoundError
        If the detector is not installed.
    ValueError
        If there are no samples, they are NaN or infinite, or the rate or mode is none of the detector's.
    """
    if sample_rate not in WEBRTC_RATES or mode not in range(4):
        raise ValueError(
            f"WebRTC voice activity: expected {', '.join(map(str, WEBRTC_RATES))} Hz and mode 0 to 3, found {sample_rate} Hz and {mode}"
        )
    if len(samples) == 0 or not torch.isfinite(samples).all():
        raise ValueError(f"samples: expected at least one and all finite, found {len(samples)}")
    try:
        import webrtcvad
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "WebRTC voice activity needs the package webrtcvad-wheels: pip install 'paper-utils[vad]'; "
            "the energy detector (energy_vad) needs nothing"
        ) from error
    detector = webrtcvad.Vad(mode)
    length = sample_rate * WEBRTC_FRAME_MS // 1000
    integers = (samples.detach().cpu().double() * 32768).round().clamp(-32768, 32767).to(torch.int16).numpy()
    # The published reader takes a frame only if at least one more sample follows it.
    count = (len(integers) - 1) // length
    frames = [integers[i * length : (i + 1) * length].tobytes() for i in range(count)]
    segments = collect_speech(count, lambda index: detector.is_speech(frames[index], sample_rate))
    return [(first * length / sample_rate, last * length / sample_rate) for first, last in segments]


def collect_speech(frames: int, is_speech: Callable[[int], bool], *, queue: int = 2) -> list[tuple[int, int]]:
    """Join frames to stretches [first, last): one opens when a whole queue is speech, and closes when a whole queue is not.

    At every new frame the detector is asked again about all frames in the queue, as in the code published with paper 03. A detector with a
    memory then hears most frames twice, and answers otherwise than in a single pass. The frames that close a stretch belong to it; one that
    is open at the end is kept.

    Parameters
    ----------
    frames
        How many there are.
    is_speech
        Asked for a frame by its number; may depend on what it was asked before.
    queue
        Frames that must agree.
    """
    segments, waiting, opened = [], [], None
    for index in range(frames):
        waiting = [*waiting, index][-queue:]
        voiced = [is_speech(frame) for frame in waiting]
        if len(waiting) == queue and opened is None and all(voiced):
            opened, waiting = waiting[0], []
        elif len(waiting) == queue and opened is not None and not any(voiced):
            segments.append((opened, index + 1))
            opened, waiting = None, []
    return segments if opened is None else [*segments, (opened, frames)]


def _hop(sample_rate: int, config: EnergyVad) -> int:
    return max(1, round(config.hop_ms * sample_rate / 1000))


def _band_energy(samples: Tensor, sample_rate: int, config: EnergyVad) -> Tensor:
    """Smoothed energy of each frame between the two frequencies."""
    window = max(2, round(config.window_ms * sample_rate / 1000))
    convention = LogMel(
        sample_rate=sample_rate,
        n_fft=2 ** math.ceil(math.log2(window)),
        window_length=window,
        hop=_hop(sample_rate, config),
        bands=_BANDS,
        low_hz=config.low_hz,
        high_hz=min(config.high_hz, sample_rate / 2),
    )
    energy = mel_energies(_without_offset(samples.detach())[None], convention)[0].sum(1)
    side = config.smooth_frames // 2
    return F.pad(energy[None, None], (side, side), mode="replicate")[0, 0].unfold(0, config.smooth_frames, 1).mean(1)


def _without_offset(samples: Tensor) -> Tensor:
    """Take the mean off, which would leak into the band, but leave digital silence silent: it shows where nothing was recorded."""
    sounding = (samples != 0) & samples.isfinite()  # bad values stay for the check that counts them
    if not sounding.any():
        return samples
    return torch.where(sounding, samples - samples[sounding].mean(), samples)


def _runs(mask: Tensor) -> tuple[Tensor, Tensor]:
    """First index of each run of True, and one past its last."""
    steps = torch.diff(F.pad(mask.int(), (1, 1)))
    return (steps == 1).nonzero()[:, 0], (steps == -1).nonzero()[:, 0]


def _filled(first: Tensor, last: Tensor, length: int) -> Tensor:
    """Mask that is True within any of the runs, which may overlap."""
    steps = torch.zeros(length + 1, dtype=torch.int64, device=first.device)
    steps.index_add_(0, first, torch.ones_like(first))
    steps.index_add_(0, last, -torch.ones_like(last))
    return steps.cumsum(0)[:-1] > 0
