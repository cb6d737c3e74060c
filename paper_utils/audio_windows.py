r"""What a face-animation network hears for each video frame: a window of log-mel features around it, whole or as a stream (paper 04).

Two conventions: that of the released code, whose windows are cut first and transformed apart, and that of the paper's text, where the
features of the whole recording are computed once and gathered.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from paper_utils import audio
from paper_utils.audio_files import resample

PAPER_MEL = audio.LogMel(
    n_fft=1024, window_length=800, bands=80
)  # 80 features every 10 ms (paper; the authors' issue 6)
_TOGETHER = 64  # windows transformed at once: bounds the memory for long recordings. Choice of ours.


@dataclass(frozen=True)
class ReleasedWindows:
    r"""One second of sound centred on the frame, transformed by itself with mirrored ends: 80 bands, 101 sub-frames (released code).

    The network therefore hears half a second of the future. Windows step by a whole number of samples, see `audio.video_windows`.

    Parameters
    ----------
    fps
        Video frames a second, a whole number.
    mel
        Log-mel convention; its `sample_rate` is that of the samples.
    length
        Samples of a window.
    """

    fps: int = 30
    mel: audio.LogMel = audio.MESHTALK_MEL
    length: int = 16_000

    def __post_init__(self) -> None:
        if self.fps < 1 or not 0 < self.step <= self.length:
            raise ValueError(
                f"fps: expected a frame of 1 to {self.length} samples at {self.mel.sample_rate} Hz, found {self.fps} fps"
            )

    @property
    def step(self) -> int:
        """Samples from one window to the next."""
        return self.mel.sample_rate // self.fps

    @property
    def before(self) -> int:
        """Samples that the window of frame 0 begins before the recording."""
        return (self.length - self.step) // 2

    @property
    def subframes(self) -> int:
        """Feature vectors of a window."""
        return self.mel.frame_count(self.length)

    def start(self, frame: int) -> int:
        """First sample of a frame's window; negative: the recording is preceded by zeros."""
        return frame * self.step - self.before

    def frame_count(self, samples: int) -> int:
        """Video frames of a recording."""
        return max(0, -(-(samples + 2 * self.before - self.length) // self.step))

    def of_segment(
        self,
        segment: Float[Tensor, "batch samples"],
        first: int,  # noqa: ARG002  (all windows are alike here, those of the other convention are not)
        count: int,
    ) -> Float[Tensor, "batch frames bands subframes"]:
        """Features of `count` frames; the segment begins with the window of frame `first` and ends with that of the last one."""
        cuts = segment.unfold(1, self.length, self.step)[:, :count].flatten(0, 1)
        features = torch.cat([audio.log_mel(part, self.mel).transpose(1, 2) for part in cuts.split(_TOGETHER)])
        return features.unflatten(0, (len(segment), count))


@dataclass(frozen=True)
class GatheredWindows:
    r"""Features of the recording on a grid, gathered around each frame: from 500 ms before to 100 ms after it in the paper's text.

    A window holds sub-frames at :math:`t_k + j\,\delta` for j from ``-past`` to ``future``, :math:`t_k` being the middle of frame k, rounded to
    the hop.
    Centres do not drift, and sound outside the recording is silence. The future that is heard is ``future`` sub-frames and half an FFT window.

    Parameters
    ----------
    fps
        Video frames a second.
    mel
        Log-mel convention with framing ``"centred_zeros"``; its hop is the grid.
    every
        :math:`\delta` in hops.
    past, future
        Sub-frames before and after the one at the frame.
    centre, spread
        Features are ``(log_mel - centre) / spread``. Nothing in the paper; a small network that meets raw log-mel values around -6 begins with
        activations that hardly differ from frame to frame, and finds the sound late.

    Raises
    ------
    ValueError
        If a number is out of range or the framing another one.
    """

    fps: float = 30.0
    mel: audio.LogMel = PAPER_MEL
    every: int = 1
    past: int = 50
    future: int = 10
    centre: float = 0.0
    spread: float = 1.0

    def __post_init__(self) -> None:
        if not (self.fps > 0 and self.spread > 0) or self.every < 1 or min(self.past, self.future) < 0:
            raise ValueError(
                "windows: expected fps > 0, every >= 1, past >= 0, future >= 0 and spread > 0, "
                f"found {self.fps}, {self.every}, {self.past}, {self.future}, {self.spread}"
            )
        if self.mel.framing != "centred_zeros":
            raise ValueError(f"windows: a stream needs framing 'centred_zeros', found {self.mel.framing!r}")

    @property
    def subframes(self) -> int:
        """Feature vectors of a window."""
        return self.past + 1 + self.future

    @property
    def length(self) -> int:
        """Samples that a window's features are made of."""
        return (self.subframes - 1) * self.every * self.mel.hop + self.mel.n_fft

    def start(self, frame: int) -> int:
        """First sample that a frame's features are made of; negative: the recording is preceded by zeros."""
        hop = self.mel.hop
        centre = round((frame + 0.5) * self.mel.sample_rate / self.fps / hop)
        return (centre - self.past * self.every) * hop - self.mel.n_fft // 2

    def frame_count(self, samples: int) -> int:
        """Video frames that lie wholly within a recording, whose length was rounded to whole samples."""
        return int((samples + 0.5) * self.fps / self.mel.sample_rate)

    def of_segment(
        self, segment: Float[Tensor, "batch samples"], first: int, count: int
    ) -> Float[Tensor, "batch frames bands subframes"]:
        """Features of `count` frames; the segment begins with the window of frame `first` and ends with that of the last one."""
        hop, half = self.mel.hop, self.mel.n_fft // 2
        # The first point lies half an FFT window into the segment. Zeros before it bring it onto the grid, whose earlier points are left out.
        pad = -half % hop
        grid = audio.log_mel(F.pad(segment, (pad, 0)), self.mel)[:, (half + pad) // hop :]
        begins = torch.tensor([(self.start(first + k) - self.start(first)) // hop for k in range(count)])
        index = begins[:, None] + torch.arange(self.subframes) * self.every
        return (grid[:, index.to(grid.device)].transpose(2, 3) - self.centre) / self.spread


Windows = ReleasedWindows | GatheredWindows

# For small experiments: 16 bands every 30 ms from 480 ms before the frame to 90 ms after it. Centre and spread are about the mean and the
# standard deviation of speech whose mean absolute value is 0.01.
QUICK_WINDOWS = GatheredWindows(mel=audio.LogMel(bands=16), every=3, past=16, future=3, centre=-6.0, spread=6.0)


def at_rate(
    samples: Float[Tensor, "batch samples"], sample_rate: int, windows: Windows
) -> Float[Tensor, "batch resampled"]:
    """Recordings at the rate that the windows expect; one of another rate is resampled, with a warning that says so. NaN is refused."""
    _check_finite(samples)
    expected = windows.mel.sample_rate
    if sample_rate == expected:
        return samples
    warnings.warn(
        f"samples: {sample_rate} Hz, the network hears {expected} Hz; resampled. Give {expected} Hz to silence this note",
        stacklevel=3,
    )
    return resample(samples, sample_rate, expected)


def _check_finite(samples: Tensor) -> None:
    bad = int((~torch.isfinite(samples)).sum())
    if bad:
        raise ValueError(f"samples: {bad} of {samples.numel()} are NaN or infinite; look for a failed decoder")


def window_features(
    samples: Float[Tensor, "batch samples"], windows: Windows, *, sample_rate: int | None = None
) -> Float[Tensor, "batch frames bands subframes"]:
    """Log-mel windows of all video frames of recordings of equal length; outside a recording there is silence.

    Parameters
    ----------
    samples
        Mono, in [-1, 1].
    windows
        Convention.
    sample_rate
        Hz of `samples`; another rate than the convention's is resampled with a note. None: the convention's.

    Raises
    ------
    ValueError
        If the recordings are shorter than one video frame, or hold NaN.

    Warns
    -----
    UserWarning
        If they are resampled, or shorter than one window, so that every window is partly silence.
    """
    if sample_rate is not None:
        samples = at_rate(samples, sample_rate, windows)
    stream = WindowStream(windows, batch=len(samples))
    return torch.cat([stream.feed(samples), stream.finish()], 1)


def features_at(
    samples: Float[Tensor, "batch samples"], windows: Windows, first: int, count: int
) -> Float[Tensor, "batch count bands subframes"]:
    """Log-mel windows of the frames from `first` on, also of such that lie outside the recording, where there is silence.

    Parameters
    ----------
    samples
        Mono, in [-1, 1], at the convention's rate.
    windows
        Convention.
    first, count
        Frames.

    Raises
    ------
    ValueError
        If no frame is asked for.
    """
    if count < 1:
        raise ValueError(f"count: expected at least one frame, found {count}")
    begin, end = windows.start(first), windows.start(first + count - 1) + windows.length
    heard = samples[:, max(0, begin) : max(0, end)]
    left = min(max(0, -begin), end - begin)
    segment = F.pad(heard, (left, end - begin - left - heard.shape[1]))
    return windows.of_segment(segment, first, count)


class WindowStream:
    """The same windows for sound that arrives in pieces: a frame comes out as soon as its whole window has been heard.

    However the sound is cut, the frames are those of the whole recording.

    Parameters
    ----------
    windows
        Convention.
    batch
        Recordings side by side.
    """

    def __init__(self, windows: Windows, batch: int = 1) -> None:
        self.windows, self.batch = windows, batch
        self.received, self.frame = 0, 0
        # Samples from the start of the next frame's window on, preceded by the silence before the recording.
        self._samples = torch.zeros(batch, -windows.start(0))

    @property
    def look_ahead_s(self) -> float:
        """How much sound after a frame's own time must be heard before the frame comes out, in seconds."""
        return (self.windows.start(0) + self.windows.length) / self.windows.mel.sample_rate

    def feed(self, samples: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch frames bands subframes"]:
        """Take in the next samples; features of the frames that are complete now, perhaps none.

        Raises
        ------
        ValueError
            If the batch is another one or samples are NaN or infinite.
        """
        if samples.ndim != 2 or len(samples) != self.batch:
            raise ValueError(f"samples: expected ({self.batch}, samples), found {tuple(samples.shape)}")
        _check_finite(samples)
        self._samples = torch.cat([self._samples.to(samples), samples], 1)
        self.received += samples.shape[1]
        complete = self.frame
        while (
            complete < self.windows.frame_count(self.received)
            and self.windows.start(complete) + self.windows.length <= self.received
        ):
            complete += 1
        return self._emit(complete)

    def finish(self) -> Float[Tensor, "batch frames bands subframes"]:
        """The recording has ended: features of the remaining frames, with silence after it.

        Raises
        ------
        ValueError
            If the whole recording is shorter than one video frame.
        """
        count, rate = self.windows.frame_count(self.received), self.windows.mel.sample_rate
        if count < 1:
            raise ValueError(
                f"samples: {self.received} at {rate} Hz are no video frame at {self.windows.fps:g} fps; "
                f"give more than {rate / self.windows.fps:.0f}"
            )
        if self.received < self.windows.length:
            warnings.warn(
                f"samples: {self.received / rate:.2f} s are shorter than one window of {self.windows.length / rate:.2f} s; "
                "what is missing is taken for silence",
                stacklevel=2,
            )
        missing = self.windows.start(count - 1) + self.windows.length - self.received
        self._samples = F.pad(self._samples, (0, max(0, missing)))
        return self._emit(count)

    def _emit(self, until: int) -> Tensor:
        count, windows = until - self.frame, self.windows
        if count < 1:
            return self._samples.new_zeros(self.batch, 0, windows.mel.bands, windows.subframes)
        begin = windows.start(self.frame)
        needed = windows.start(until - 1) + windows.length - begin
        features = windows.of_segment(self._samples[:, :needed], self.frame, count)
        self._samples = self._samples[:, windows.start(until) - begin :]
        self.frame = until
        return features
