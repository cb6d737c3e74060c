"""Sound to features: mel energies, their logarithm and MFCC, in the convention of each paper.

One function computes them all, batched and differentiable; a convention is a frozen `LogMel`. Reading and resampling live in
`paper_utils.audio_files`, voice activity in `paper_utils.audio_activity`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Scale = Literal["htk", "slaney"]

_SLANEY_HZ_PER_MEL = 200 / 3  # Auditory Toolbox: linear below 1 kHz ...
_SLANEY_BREAK_HZ = 1000.0
_SLANEY_LOG_STEP = math.log(6.4) / 27  # ... and 27 mels to 6.4 kHz above it
_BLOCK_VALUES = {
    "cpu": 2**19,
    "cuda": 2**25,
}  # FFT input at once: stays in a core's cache, bounds memory (choice of ours)


@dataclass(frozen=True)
class LogMel:
    """A log-mel convention; the defaults are the ones of the synthetic world and of every paper that names none.

    Parameters
    ----------
    sample_rate
        Hz; the samples are taken to have it.
    n_fft, window_length, hop
        Samples. The window stands in the middle of the FFT's frame.
    bands
        Number of mel filters.
    low_hz, high_hz
        Outer edges of the first and last filter; `high_hz` None is half the sample rate.
    scale, norm, round_edges
        See `mel_filterbank`.
    window
        ``"hann"`` is periodic, ``"hamming"`` symmetric, as the programs that use them have it.
    framing
        ``"centred_zeros"`` and ``"centred_reflect"``: frame ``t`` is centred on sample ``t * hop``, what lies outside is zero or mirrored;
        ``1 + samples // hop`` frames. ``"cyclic"``: frame ``t`` begins at ``t * hop``, a frame that the recording does not fill repeats what
        is left of it, or is zero if nothing is; as many frames.
    pre_emphasis
        Share of the previous sample that is taken off each one; only with ``"cyclic"`` framing. The first sample of a frame meets the last one of
        the frame before, not its neighbour in the recording: the convention of the program that papers 02 and 03 used.
    input_scale
        Factor on the samples; 32768 where a program works on 16-bit integers.
    log, floor, top_db
        ``"ln"``: natural logarithm; ``"db"``: ten times the decimal one. Energies below `floor` are raised to it; values more than `top_db`
        below the recording's largest are raised to that.

    Raises
    ------
    ValueError
        If the numbers do not fit each other.
    """

    sample_rate: int = 16_000
    n_fft: int = 512
    window_length: int = 400  # 25 ms
    hop: int = 160  # 10 ms
    bands: int = 64  # the number of papers 02, 03 and 10
    low_hz: float = 0.0
    high_hz: float | None = None
    scale: Scale = "htk"
    norm: Literal["area"] | None = None
    round_edges: bool = False
    window: Literal["hann", "hamming"] = "hann"
    framing: Literal["centred_zeros", "centred_reflect", "cyclic"] = "centred_zeros"
    pre_emphasis: float = 0.0
    input_scale: float = 1.0
    log: Literal["ln", "db"] = "ln"
    floor: float = 1e-10  # choice of ours: 20 dB below the rounding noise of 16-bit samples
    top_db: float | None = None

    def __post_init__(self) -> None:
        if min(self.sample_rate, self.hop, self.bands) < 1 or not 1 <= self.window_length <= self.n_fft:
            raise ValueError(
                "log-mel convention: sample_rate, hop and bands must be positive and 1 <= window_length <= n_fft, "
                f"found {self.sample_rate}, {self.hop}, {self.bands}, {self.window_length}, {self.n_fft}"
            )
        if self.floor <= 0 or self.input_scale <= 0:
            raise ValueError(
                f"log-mel convention: floor and input_scale must be positive, found {self.floor}, {self.input_scale}"
            )
        if self.pre_emphasis and self.framing != "cyclic":
            raise ValueError(
                f"log-mel convention: pre_emphasis belongs to framing 'cyclic', found framing {self.framing!r}"
            )
        if self.top_db is not None and self.log != "db":
            raise ValueError("log-mel convention: top_db needs log='db'")

    @property
    def hop_ms(self) -> float:
        """Time between frames."""
        return 1000 * self.hop / self.sample_rate

    def frame_count(self, samples: int) -> int:
        """Frames that `samples` samples give."""
        uncovered = self.n_fft % 2 if self.framing != "cyclic" else 0
        return 1 + (samples - uncovered) // self.hop

    def frame_times_s(self, frames: int) -> Float[Tensor, " frames"]:
        """Time of the middle of each frame's window, in seconds from the first sample."""
        middle = self.window_length / 2 if self.framing == "cyclic" else 0.0
        return (torch.arange(frames, dtype=torch.float64) * self.hop + middle) / self.sample_rate

    def filters(self) -> Float[Tensor, "bins bands"]:
        """The convention's mel matrix, float64; see `mel_filterbank`."""
        return mel_filterbank(
            self.sample_rate,
            self.n_fft,
            self.bands,
            low_hz=self.low_hz,
            high_hz=self.high_hz,
            scale=self.scale,
            norm=self.norm,
            round_edges=self.round_edges,
        )


WORLD_MEL = LogMel()

# Papers 02 and 03: front end published with paper 03 (Sphinx-style). Follow it by `normalise_recording` and `repeat_frames`.
SPHINX_MEL = LogMel(
    n_fft=1024,
    low_hz=20.0,
    high_hz=7200.0,
    norm="area",
    round_edges=True,
    window="hamming",
    framing="cyclic",
    pre_emphasis=0.97,
    input_scale=32768.0,
    floor=1e-5,
)

# Paper 04: released MeshTalk code, on the one-second windows of `video_windows`; the paper's text says 80 features every 10 ms.
MESHTALK_MEL = LogMel(n_fft=2048, window_length=800, bands=80, framing="centred_reflect")

# Paper 08: mel bands under TalkSHOW's MFCC; 734 samples are a frame of 29.97 Hz at 22 kHz. See `mfcc`.
TALKSHOW_MEL = LogMel(
    sample_rate=22_000,
    n_fft=2048,
    window_length=2048,
    hop=734,
    bands=256,
    framing="centred_reflect",
    log="db",
    top_db=80.0,
)

# Paper 10: released code. Follow it by `standardise_frames` and `fit_frames(..., 32)`.
VISAGE_MEL = LogMel(
    sample_rate=44_100, n_fft=1024, window_length=1024, hop=512, framing="centred_reflect", log="db", top_db=80.0
)


def mel_edges_hz(
    bands: int, *, low_hz: float = 0.0, high_hz: float, scale: Scale = "htk"
) -> Float[Tensor, " bands_plus_two"]:
    r"""Edges of the filters in Hz, equally spaced in mel; filter ``m`` rises from edge ``m`` to ``m + 1`` and falls to ``m + 2``.

    .. math:: \mathrm{mel}_{\mathrm{htk}}(f) = 2595 \log_{10}(1 + f/700), \qquad
       \mathrm{mel}_{\mathrm{slaney}}(f) = \begin{cases} 3f/200 & f < 1000 \\ 15 + 27 \log_{6.4}(f/1000) & \text{else} \end{cases}

    Parameters
    ----------
    bands
        Number of filters; there are two more edges.
    low_hz, high_hz
        First and last edge.
    scale
        ``"htk"`` or ``"slaney"``.
    """
    mel = torch.linspace(_hz_to_mel(low_hz, scale), _hz_to_mel(high_hz, scale), bands + 2, dtype=torch.float64)
    if scale == "htk":
        return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    knee = _SLANEY_BREAK_HZ / _SLANEY_HZ_PER_MEL
    return torch.where(
        mel < knee, mel * _SLANEY_HZ_PER_MEL, _SLANEY_BREAK_HZ * torch.exp(_SLANEY_LOG_STEP * (mel - knee))
    )


def _hz_to_mel(hz: float, scale: str) -> float:
    if scale == "htk":
        return 2595.0 * math.log10(1.0 + hz / 700.0)
    if scale == "slaney":
        above = max(hz, _SLANEY_BREAK_HZ)
        return min(hz, _SLANEY_BREAK_HZ) / _SLANEY_HZ_PER_MEL + math.log(above / _SLANEY_BREAK_HZ) / _SLANEY_LOG_STEP
    raise ValueError(f"scale: expected 'htk' or 'slaney', found {scale!r}")


def mel_filterbank(
    sample_rate: int,
    n_fft: int,
    bands: int,
    *,
    low_hz: float = 0.0,
    high_hz: float | None = None,
    scale: Scale = "htk",
    norm: Literal["area"] | None = None,
    round_edges: bool = False,
) -> Float[Tensor, "bins bands"]:
    """Triangular mel filters over the bins of a real FFT, float64: ``energies = power @ filters``.

    Parameters
    ----------
    sample_rate
        Hz.
    n_fft
        Length of the FFT; it has ``n_fft // 2 + 1`` bins.
    bands
        Number of filters.
    low_hz, high_hz
        Outer edges; `high_hz` None is half the sample rate.
    scale
        ``"htk"`` or ``"slaney"``, see `mel_edges_hz`.
    norm
        None: every triangle is 1 high. ``"area"``: every triangle has area 1 over Hz (``"slaney"`` in librosa).
    round_edges
        Move each edge to the nearest bin, as Sphinx does.

    Raises
    ------
    ValueError
        If the edges do not fit below half the sample rate, or a filter catches no bin.
    """
    nyquist = sample_rate / 2
    high_hz = nyquist if high_hz is None else high_hz
    if bands < 1 or n_fft < 2 or not 0 <= low_hz < high_hz <= nyquist:
        raise ValueError(
            f"mel filters: expected bands >= 1, n_fft >= 2 and 0 <= low_hz < high_hz <= {nyquist:g} Hz, "
            f"found {bands}, {n_fft}, {low_hz:g}, {high_hz:g}"
        )
    edges = mel_edges_hz(bands, low_hz=low_hz, high_hz=high_hz, scale=scale)
    if round_edges:
        edges = torch.round(edges * (n_fft / sample_rate)) * (sample_rate / n_fft)
    widths = edges[1:] - edges[:-1]
    if (widths <= 0).any():
        raise ValueError(
            f"mel filters: {bands} bands rounded to the bins of n_fft {n_fft} coincide; take fewer bands or a longer FFT"
        )
    bins = torch.linspace(0.0, nyquist, n_fft // 2 + 1, dtype=torch.float64)[:, None]
    rising = (bins - edges[:-2]) / widths[:-1]
    falling = (edges[2:] - bins) / widths[1:]
    filters = torch.minimum(rising, falling).clamp(min=0.0)
    if norm == "area":
        filters = filters * (2.0 / (edges[2:] - edges[:-2]))
    empty = (filters == 0).all(0)
    if empty.any():
        raise ValueError(
            f"mel filters: {int(empty.sum())} of {bands} bands catch no bin of n_fft {n_fft} at {sample_rate} Hz "
            f"(first: {int(empty.nonzero()[0])}); take fewer bands or a longer FFT"
        )
    return filters


@lru_cache(maxsize=16)
def _constants(config: LogMel, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Window and filters of a convention where they are needed."""
    # A tensor cached in inference mode could not take part in a later backward pass.
    with torch.inference_mode(False):
        if config.window == "hann":
            window = torch.hann_window(config.window_length, periodic=True, dtype=torch.float64)
        else:
            window = torch.hamming_window(
                config.window_length, periodic=False, alpha=0.54, beta=0.46, dtype=torch.float64
            )
        return (window * config.input_scale).to(device, dtype), config.filters().to(device, dtype)


def _checked(samples: Tensor) -> Tensor:
    """Samples that a spectrum can be computed of: at least one, finite, float32 or float64."""
    if samples.ndim != 2 or samples.shape[1] == 0 or samples.shape[0] == 0:
        raise ValueError(f"samples: expected (batch, samples) with at least one sample, found {tuple(samples.shape)}")
    if not samples.is_floating_point():
        raise ValueError(
            f"samples: expected floating point in [-1, 1], found {samples.dtype}; divide 16-bit integers by 32768"
        )
    # One sum tells of any bad value at a fraction of the cost of testing each; only then are they counted.
    if not math.isfinite(float(samples.detach().sum(dtype=torch.float64))):
        bad = int((~torch.isfinite(samples)).sum())
        raise ValueError(f"samples: {bad} of {samples.numel()} values are NaN or infinite; look for a failed decoder")
    return samples if samples.dtype in (torch.float32, torch.float64) else samples.float()


def _frames(samples: Tensor, config: LogMel) -> Tensor:
    """Frames (batch, time, window) before pre-emphasis and window; a view where the convention allows it."""
    count = config.frame_count(samples.shape[1])
    if config.framing == "cyclic":
        return _cyclic_frames(samples, config, count)
    length, hop = config.window_length, config.hop
    left = config.n_fft // 2 - (config.n_fft - length) // 2
    right = max(0, (count - 1) * hop - left + length - samples.shape[1])
    if config.framing == "centred_zeros":
        return F.pad(samples, (left, right)).unfold(1, length, hop)
    if max(left, right) >= samples.shape[1]:
        raise ValueError(
            f"samples: mirroring {max(left, right)} samples at the ends needs more than as many, found {samples.shape[1]}; "
            "take a longer recording, append zeros, or choose framing='centred_zeros'"
        )
    return F.pad(samples[None], (left, right), mode="reflect")[0].unfold(1, length, hop)


def _cyclic_frames(samples: Tensor, config: LogMel, count: int) -> Tensor:
    length, hop, available = config.window_length, config.hop, samples.shape[1]
    full = max(0, (available - length) // hop + 1)
    starts = torch.arange(full, count, device=samples.device)[:, None] * hop
    left = available - starts  # at most `length`; 0 only for the last frame of a recording that the hop divides
    index = starts + torch.arange(length, device=samples.device) % left.clamp(min=1)
    tail = samples[:, index.clamp(max=available - 1)] * (left > 0)
    return torch.cat([samples.unfold(1, length, hop), tail], 1) if full else tail


def _samples_before(frames: Tensor, carry: Tensor | None) -> Tensor:
    """What the first sample of each frame (batch, time) is compared with: the last one of the frame before."""
    first = frames.new_zeros(len(frames)) if carry is None else carry.to(frames)
    return torch.cat([first[:, None], frames[:, :-1, -1]], 1)


def last_framed_sample(samples: Float[Tensor, "batch samples"], config: LogMel = SPHINX_MEL) -> Float[Tensor, " batch"]:
    """Last sample of the last frame: the `carry` that makes `log_mel` go on as the original extractor does, which forgets nothing between files."""
    samples = _checked(samples)
    return _cyclic_frames(samples, config, config.frame_count(samples.shape[1]))[:, -1, -1]


def mel_energies(
    samples: Float[Tensor, "batch samples"],
    config: LogMel = WORLD_MEL,
    *,
    carry: Float[Tensor, " batch"] | None = None,
) -> Float[Tensor, "batch time mel"]:
    r"""Mel energies before the logarithm.

    .. math:: E_{tm} = \sum_k \Big|\sum_n w_n\, x_{t,n}\, e^{-2\pi i k n / N}\Big|^2 M_{km}

    Parameters
    ----------
    samples
        In [-1, 1], at the convention's sample rate. Float32 and float64 are computed as they are, narrower types in float32.
    config
        The convention; :math:`w, N, M` are its window, FFT length and filters.
    carry
        Sample before the first frame for the pre-emphasis; zeros if not given.

    Returns
    -------
    Tensor
        Differentiable with respect to `samples`; on their device.

    Raises
    ------
    ValueError
        If there are no samples, they are integers, NaN or infinite, or too few for mirrored ends; if a carry is given without pre-emphasis.
    """
    samples = _checked(samples)
    if carry is not None and not config.pre_emphasis:
        raise ValueError("carry: this convention has no pre-emphasis that could use it")
    window, filters = _constants(config, samples.dtype, samples.device)
    frames = _frames(samples, config)
    block = max(1, _BLOCK_VALUES.get(samples.device.type, 2**25) // (config.n_fft * len(samples)))
    blocks = frames.split(block, 1)
    if config.pre_emphasis:
        before = _samples_before(frames, carry).split(block, 1)
        blocks = (_pre_emphasised(*pair, config.pre_emphasis) for pair in zip(blocks, before, strict=True))
    # Mixed precision would run the product in 16 bits: bfloat16 rounds energies to 0.4 %, float16 overflows.
    with torch.autocast(samples.device.type, enabled=False):
        return torch.cat([_block_energies(part, window, filters, config.n_fft) for part in blocks], 1)


def _pre_emphasised(frames: Tensor, before: Tensor, share: float) -> Tensor:
    return frames - share * torch.cat([before[..., None], frames[..., :-1]], 2)


def _block_energies(frames: Tensor, window: Tensor, filters: Tensor, n_fft: int) -> Tensor:
    spectrum = torch.fft.rfft(frames * window, n=n_fft)
    return (spectrum.real.square() + spectrum.imag.square()) @ filters


def log_mel(
    samples: Float[Tensor, "batch samples"],
    config: LogMel = WORLD_MEL,
    *,
    carry: Float[Tensor, " batch"] | None = None,
) -> Float[Tensor, "batch time mel"]:
    """Log-mel features of recordings of equal length; parameters and errors as for `mel_energies`.

    Returns
    -------
    Tensor
        Natural logarithm or decibels, as `config` says. Differentiable; the gradient is zero where the floor was met.

    Examples
    --------
    >>> log_mel(torch.zeros(2, 16_000)).shape
    torch.Size([2, 101, 64])
    """
    energies = mel_energies(samples, config, carry=carry).clamp(min=config.floor)
    if config.log == "ln":
        return energies.log()
    decibels = 10.0 * energies.log10()
    if config.top_db is None:
        return decibels
    return torch.maximum(decibels, decibels.amax((1, 2), keepdim=True) - config.top_db)


def mfcc(
    samples: Float[Tensor, "batch samples"], config: LogMel = TALKSHOW_MEL, *, coefficients: int = 64
) -> Float[Tensor, "batch time coefficients"]:
    r"""Mel-frequency cepstral coefficients: the first values of an orthonormal DCT-II over the bands. Paper 08, section on body and hands: 64 of 256.

    .. math:: c_k = \sqrt{\tfrac{2 - [k = 0]}{M}} \sum_m \ell_m \cos\big(\tfrac{\pi}{M} (m + \tfrac12) k\big)

    Parameters
    ----------
    samples, config
        As for `log_mel`.
    coefficients
        How many are kept, from 1 to the number of bands.

    Raises
    ------
    ValueError
        On the faults of `log_mel`, or if more coefficients than bands are asked for.
    """
    if not 1 <= coefficients <= config.bands:
        raise ValueError(f"coefficients: expected 1 to {config.bands} (the number of bands), found {coefficients}")
    features = log_mel(samples, config)
    band = torch.arange(config.bands, dtype=torch.float64)[:, None] + 0.5
    order = torch.arange(coefficients, dtype=torch.float64)
    basis = torch.cos(math.pi / config.bands * band * order) * torch.sqrt((2.0 - (order == 0).double()) / config.bands)
    with torch.autocast(samples.device.type, enabled=False):
        return features @ basis.to(features)


def deltas(
    features: Float[Tensor, "batch time channels"], *, half_width: int = 2
) -> Float[Tensor, "batch time channels"]:
    r"""Slope over time of each channel, per frame: the least-squares line through :math:`2n + 1` frames; the end frames are repeated outside.

    .. math:: d_t = \frac{\sum_{k=1}^{n} k\,(c_{t+k} - c_{t-k})}{2 \sum_{k=1}^{n} k^2}

    Apply it twice for accelerations.

    Parameters
    ----------
    features
        At least one frame.
    half_width
        :math:`n`; 2 is the habit of HTK.

    Raises
    ------
    ValueError
        If there is no frame or `half_width` is below 1.
    """
    if half_width < 1 or features.shape[1] == 0:
        raise ValueError(
            f"deltas: expected half_width >= 1 and at least one frame, found {half_width} and {features.shape[1]} frames"
        )
    weights = torch.arange(-half_width, half_width + 1, device=features.device, dtype=features.dtype)
    padded = F.pad(features.transpose(1, 2), (half_width, half_width), mode="replicate")
    slopes = padded.unfold(2, 2 * half_width + 1, 1) @ (weights / weights.square().sum())
    return slopes.transpose(1, 2)


def normalise_recording(
    features: Float[Tensor, "batch time bands"], *, epsilon: float = 1.1920929e-07
) -> Float[Tensor, "batch time bands"]:
    """Mean 0 and standard deviation 1 over the frames of each recording, band by band (papers 02 and 03).

    Parameters
    ----------
    features
        Log-mel features; float32 in the original.
    epsilon
        Added to the population standard deviation: the distance from 1 to the next float32, as published with paper 03.

    Returns
    -------
    Tensor
        Exactly 0 in a band that never changes, with gradient 0.
    """
    # Taking the first frame off beforehand keeps a constant band exact: its mean is then 0 and no rounding is blown up by 1 / epsilon.
    centred = features - features[:, :1]
    centred = centred - centred.mean(1, keepdim=True)
    return centred / (centred.std(1, correction=0, keepdim=True) + epsilon)


def standardise_frames(
    features: Float[Tensor, "batch time bands"], *, epsilon: float = 1e-6
) -> Float[Tensor, "batch time bands"]:
    """Mean 0 and standard deviation 1 over the bands of each frame: takes the level away and nothing else (paper 10, released code)."""
    return normalise_recording(features.transpose(1, 2), epsilon=epsilon).transpose(1, 2)


def repeat_frames(
    features: Float[Tensor, "batch time bands"], minimum: int = 1000
) -> Float[Tensor, "batch frames bands"]:
    """Recordings shorter than `minimum` frames are repeated from their start up to it, longer ones stay whole (papers 02 and 03: 1,000)."""
    time = features.shape[1]
    if time == 0 or minimum < 1:
        raise ValueError(f"repeat_frames: expected at least one frame and minimum >= 1, found {time} and {minimum}")
    return features if time >= minimum else features[:, torch.arange(minimum, device=features.device) % time]


def fit_frames(features: Float[Tensor, "batch time bands"], frames: int) -> Float[Tensor, "batch frames bands"]:
    """The first `frames` frames, followed by zeros if there are fewer (paper 10: 32)."""
    if frames < 1:
        raise ValueError(f"frames: expected at least 1, found {frames}")
    return F.pad(features[:, :frames], (0, 0, 0, max(0, frames - features.shape[1])))


def scale_loudness(samples: Float[Tensor, "batch samples"], mean_abs: float = 0.01) -> Float[Tensor, "batch samples"]:
    """Every recording at the same mean absolute value, 0.01 in the released code of paper 04; silence stays silent."""
    level = samples.abs().mean(1, keepdim=True)
    return samples * (mean_abs / torch.where(level > 0, level, 1.0))


def video_windows(
    samples: Float[Tensor, "batch samples"], *, fps: int, sample_rate: int = 16_000, length: int = 16_000
) -> Float[Tensor, "batch frames length"]:
    """One window of sound for each video frame, centred on it (paper 04, released code).

    The step is ``sample_rate // fps`` samples: at 30 fps it is cut from 533.3 to 533, so windows run early by 37.5 ms after a minute. Half a window
    of zeros less half a step is put at both ends, so frame ``k`` is centred on sample ``k * step + length // 2 - (length - step) // 2``.

    Parameters
    ----------
    samples
        Mono recordings.
    fps
        Video frames a second.
    sample_rate
        Hz.
    length
        Samples of a window: one second in the released code.

    Returns
    -------
    Tensor
        A view: consecutive windows share memory, so do not write into it.

    Raises
    ------
    ValueError
        If `fps` is out of range or the recording is not longer than one step.
    """
    step = sample_rate // fps if fps > 0 else 0
    if not 0 < step <= length:
        raise ValueError(f"fps: expected a frame of 1 to {length} samples at {sample_rate} Hz, found {fps} fps")
    pad = (length - step) // 2
    count = -(-(samples.shape[1] + 2 * pad - length) // step)
    if count < 1:
        raise ValueError(
            f"samples: expected more than one video frame ({step} samples at {fps} fps), found {samples.shape[1]}"
        )
    return F.pad(samples, (pad, pad)).unfold(1, length, step)[:, :count]
