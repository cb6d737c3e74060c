"""The motion of a face that neither speech nor emotion decides: slow brows and lids, blinks, a wandering head.

All chance of a moving face is drawn here, in amounts that depend on shapes alone, so that it can be held fixed while words, emotion or
person change. Also here: what every part of a moving person shares, its settings, smooth noise and prosodic beats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.signal import lfilter

_PROCESSES = 3  # brows, inner brows, lids


@dataclass(frozen=True)
class FaceSettings:
    """How a face behaves apart from what it says and feels. Unless a source is given, a choice of ours.

    Parameters
    ----------
    blink_interval_s, blink_refractory_s
        Mean time from blink to blink, and the part of it in which none can follow.
    blink_shortest_s, blink_longest_s, blink_closing
        Duration is uniform between the first two; the share of it in which the lid falls.
    brow_time_s, lid_time_s
        Time constants of the slow processes.
    lid_amplitude
        Idle movement of the lids against that of the brows.
    driven_smooth_s
        Smoothing (standard deviation of a Gaussian) of articulation on its way to brows and lids.
    onset_s, offset_s
        Time an emotion takes to come and to go; each at most 40 % of the clip. 0: it is there throughout, as in a clip cut from a longer take.
    modulation, modulation_time_s
        Relative standard deviation and time constant of the strength of an emotion.
    head_deg, head_time_s
        Standard deviation of pitch, yaw and roll, and their time constant.
    nod_deg, nod_delay_s, nod_width_s
        Depth of a nod at a beat of strength 1, its delay behind the beat, and its width (standard deviation).
    closed_corner_pull
        Share of an emotion's pull at the mouth corners that is left while the lips are closed.
    emotion_at_mouth
        Factor on what an emotion does below the eyes and to articulation; 0 is a world in which emotion and speech never meet.

    Raises
    ------
    ValueError
        If blinks would overlap or a time is not positive.
    """

    blink_interval_s: float = (
        2.5  # about one per 2.5 s; measured rates in talk lie at 15 to 30 a minute (from memory, unverified)
    )
    blink_refractory_s: float = 0.6
    blink_shortest_s: float = 0.15
    blink_longest_s: float = 0.2
    blink_closing: float = 1 / 3  # the lid falls about twice as fast as it rises (from memory, unverified)
    brow_time_s: float = 0.35
    lid_time_s: float = 0.25
    lid_amplitude: float = 0.6
    driven_smooth_s: float = 0.08
    onset_s: float = 0.6
    offset_s: float = 0.8
    modulation: float = 0.15
    modulation_time_s: float = 0.6
    head_deg: tuple[float, float, float] = (2.5, 4.0, 1.5)
    head_time_s: float = 0.7
    nod_deg: float = 2.5
    nod_delay_s: float = 2 / 30  # as gestures follow the beat
    nod_width_s: float = 0.1
    closed_corner_pull: float = 0.5
    emotion_at_mouth: float = 1.0

    def __post_init__(self) -> None:
        rising = (0, self.blink_shortest_s, self.blink_longest_s, self.blink_refractory_s, self.blink_interval_s)
        if not (rising[0] < rising[1] <= rising[2] <= rising[3] < rising[4] and 0 < self.blink_closing < 1):
            raise ValueError(
                f"blinks: expected 0 < shortest <= longest <= refractory < interval and 0 < closing < 1, found {rising[1:]} s and "
                f"{self.blink_closing}"
            )
        if not (0 <= self.closed_corner_pull <= 1 and 0 <= self.emotion_at_mouth <= 1):
            raise ValueError(
                f"face settings: closed_corner_pull and emotion_at_mouth must lie in [0, 1], found {self.closed_corner_pull} and "
                f"{self.emotion_at_mouth}"
            )
        times = (
            self.brow_time_s,
            self.lid_time_s,
            self.driven_smooth_s,
            self.modulation_time_s,
            self.head_time_s,
            self.nod_width_s,
        )
        if not min(times) > 0 or min(self.onset_s, self.offset_s) < 0:
            raise ValueError(
                f"face settings: time constants must be positive, onset and offset not negative; found {self}"
            )


@dataclass(frozen=True)
class Beats:
    """Prosodic beats of one or many clips, padded to equal number.

    Parameters
    ----------
    time_s
        From the first frame of the clip; may lie outside it.
    strength
        1 for a usual stressed syllable; 0 for padding.

    Raises
    ------
    ValueError
        If shapes differ, a number is not finite or a strength is negative.
    """

    time_s: Float[np.ndarray, "*clips beats"]
    strength: Float[np.ndarray, "*shape"]

    def __post_init__(self) -> None:
        if self.time_s.shape != self.strength.shape:
            raise ValueError(
                f"beats: times {self.time_s.shape} and strengths {self.strength.shape} must have one shape"
            )
        if not (np.isfinite(self.time_s).all() and np.isfinite(self.strength).all()) or (self.strength < 0).any():
            raise ValueError("beats: times and strengths must be finite, strengths not negative; pad with strength 0")

    @classmethod
    def of(cls, clips: Sequence[tuple[Sequence[float] | np.ndarray, Sequence[float] | np.ndarray]]) -> Beats:
        """From one pair (times, strengths) a clip, of any lengths."""
        if not clips:
            raise ValueError("beats: expected one pair (times, strengths) a clip, found none")
        most = max(len(times) for times, _ in clips)
        padded = np.zeros((2, len(clips), most))
        for i, (times, strengths) in enumerate(clips):
            if len(times) != len(strengths):
                raise ValueError(f"beats of clip {i}: {len(times)} times and {len(strengths)} strengths")
            padded[0, i, : len(times)], padded[1, i, : len(times)] = times, strengths
        return cls(padded[0], padded[1])


@dataclass(frozen=True)
class Idle:
    """Everything random about the motion of one or many clips; nothing in it knows what is said or felt.

    Parameters
    ----------
    slow
        Processes of brows, inner brows and lids; smooth, mean 0, variance 1.
    blink
        Lid closure by blinks: 0 open, 1 closed.
    modulation
        Process of the strength of an emotion; smooth, mean 0, variance 1.
    head
        Processes of pitch, yaw and roll; smooth, mean 0, variance 1.
    fps
        Frames a second.
    """

    slow: Float[np.ndarray, "*clips time 3"]
    blink: Float[np.ndarray, "*clips time"]
    modulation: Float[np.ndarray, "*clips time"]
    head: Float[np.ndarray, "*clips time 3"]
    fps: float


def check_rate(fps: float) -> None:
    """Refuse a frame rate that is none."""
    if not np.isfinite(fps) or fps <= 0:
        raise ValueError(f"fps: expected a positive number of frames a second, found {fps}")


def smooth_noise(
    rng: np.random.Generator, shape: Sequence[int], *, fps: float, time_constant_s: float, dtype: type = np.float64
) -> Float[np.ndarray, ...]:
    r"""Stationary smooth Gaussian noise along the last axis, mean 0 and variance 1: white noise through two equal leaky integrators.

    .. math:: x_t = 2 a x_{t-1} - a^2 x_{t-2} + \sigma \epsilon_t, \quad a = e^{-1/(f \tau)}, \quad
        \sigma^2 = \frac{(1 - a^2)^3}{1 + a^2}

    One integrator alone (an Ornstein-Uhlenbeck process) has no velocity; after two of them the velocity is finite, as in a face.

    Parameters
    ----------
    rng
        Source of the noise.
    shape
        Of the result; the last entry is the number of frames.
    fps, time_constant_s
        :math:`f` and :math:`\tau`.
    dtype
        ``float32`` halves the cost of large arrays.
    """
    a = float(np.exp(-1 / (fps * time_constant_s)))
    warm_up = int(np.ceil(12 * fps * time_constant_s))  # the start has decayed to (1 + 12) e^-12 of itself
    white = rng.standard_normal((*shape[:-1], shape[-1] + warm_up), dtype=dtype)
    scale = np.sqrt((1 - a * a) ** 3 / (1 + a * a))
    return lfilter(np.array([scale], dtype), np.array([1, -2 * a, a * a], dtype), white, axis=-1)[..., warm_up:]


def blink_profile(phase: Float[np.ndarray, ...], closing: float) -> Float[np.ndarray, ...]:
    """Lid closure at each phase of a blink (0 start, 1 end): a raised cosine down, a slower one up, zero outside.

    Parameters
    ----------
    phase
        Time since the start over the duration.
    closing
        Share of the blink in which the lid falls.
    """
    down, up = phase / closing, (1 - phase) / (1 - closing)
    rise = np.clip(np.minimum(down, up), 0, 1)
    return 0.5 - 0.5 * np.cos(np.pi * rise)


def draw_blinks(
    rng: np.random.Generator, clips: Sequence[int], frames: int, *, fps: float, settings: FaceSettings
) -> Float[np.ndarray, "*clips time"]:
    """Lid closure by blinks: waits of a refractory time plus an exponential one, each blink with its own duration.

    Parameters
    ----------
    rng
        Source of waits and durations.
    clips, frames
        Shape of the result, without and with time.
    fps
        Frames a second.
    settings
        Its ``blink_...`` entries.
    """
    before_s = 4 * settings.blink_interval_s  # the clip begins somewhere in a long stare, not at a blink
    span_s = before_s + frames / fps
    most = int(np.ceil(span_s / settings.blink_refractory_s))
    waits = settings.blink_refractory_s + rng.exponential(
        settings.blink_interval_s - settings.blink_refractory_s, (*clips, most)
    )
    lasts = rng.uniform(settings.blink_shortest_s, settings.blink_longest_s, waits.shape)
    # Blinks do not overlap, so the last one that began decides. All clips are laid end to end for one look-up.
    clip_s = (waits.sum(-1).max() + span_s) * np.arange(waits[..., 0].size)
    starts = (np.cumsum(waits, axis=-1).reshape(-1, most) + clip_s[:, None]).ravel()
    times = (before_s + np.arange(frames) / fps + clip_s[:, None]).ravel()
    last = np.searchsorted(starts, times, side="right") - 1
    phase = np.where(last < 0, -1.0, (times - starts[last]) / lasts.ravel()[last])
    return blink_profile(phase, settings.blink_closing).reshape(*clips, frames)


def draw_idle(
    rng: np.random.Generator,
    frames: int,
    *,
    fps: float,
    clips: Sequence[int] = (),
    settings: FaceSettings | None = None,
) -> Idle:
    """Draw everything about the motion that neither speech nor emotion decides.

    Parameters
    ----------
    rng
        Source of all of it; how much is drawn depends on the shape alone.
    frames, fps
        Length of each clip and its rate.
    clips
        Shape in front of time: ``()`` for one clip, ``(600,)`` for many.
    settings
        Rates and time constants.

    Raises
    ------
    ValueError
        If there are no frames or the rate is not positive.
    """
    check_rate(fps)
    if frames < 1 or any(n < 1 for n in clips):
        raise ValueError(
            f"face motion: expected at least one frame and one clip, found {frames} frames, clips {tuple(clips)}"
        )
    settings = settings or FaceSettings()
    shape = (*clips, frames)

    def processes(count: int, time_constant_s: float) -> np.ndarray:
        return np.moveaxis(smooth_noise(rng, (count, *shape), fps=fps, time_constant_s=time_constant_s), 0, -1)

    brows = processes(_PROCESSES - 1, settings.brow_time_s)
    lids = processes(1, settings.lid_time_s)
    return Idle(
        slow=np.concatenate([brows, lids], axis=-1),
        blink=draw_blinks(rng, clips, frames, fps=fps, settings=settings),
        modulation=smooth_noise(rng, shape, fps=fps, time_constant_s=settings.modulation_time_s),
        head=processes(3, settings.head_time_s),
        fps=fps,
    )
