"""From a recording to the voice features of papers 02 and 03: speech only, log-mel, normalised over the recording, at least ten seconds."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from paper_utils.audio import SPHINX_MEL, WORLD_MEL, LogMel, log_mel, normalise_recording, repeat_frames
from paper_utils.audio_activity import energy_vad, take_segments, webrtc_vad

CONVENTIONS = {"sphinx": SPHINX_MEL, "world": WORLD_MEL}
_FINDERS = {"energy": energy_vad, "webrtc": webrtc_vad}


class NoSpeechError(ValueError):
    """A recording in which nobody speaks, or not for long enough; the message names it."""


@dataclass(frozen=True)
class FrontEnd:
    """What a recording goes through before a network sees it; the names are plain, so that files can state them.

    Parameters
    ----------
    convention
        ``"sphinx"``: log-mel as in the program published with paper 03, with its quirks at the edges of frames. ``"world"``: that of the
        synthetic voices.
    minimum
        Recordings shorter than that many frames are repeated up to it; 1,000 in the published program.
    activity
        What finds speech. ``"webrtc"`` is the published rule and needs the package ``webrtcvad``; ``"energy"`` needs nothing and is the
        default; ``"none"`` keeps the whole recording.
    no_speech
        What to do if nobody speaks: ``"error"`` raises `NoSpeechError`, ``"whole"`` keeps the whole recording. The published program stops
        with an unbound variable.
    shortest_s
        Less speech than that, in seconds, counts as none: what is left of less is a syllable's worth or two. Choice of ours.
    """

    convention: str = "sphinx"
    minimum: int = 1000
    activity: str = "energy"
    no_speech: str = "error"
    shortest_s: float = 0.3

    def __post_init__(self) -> None:
        for name, allowed in (
            ("convention", tuple(CONVENTIONS)),
            ("activity", (*_FINDERS, "none")),
            ("no_speech", ("error", "whole")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"front end: {name} must be one of {', '.join(allowed)}, found {getattr(self, name)!r}"
                )
        if self.minimum < 1 or not self.shortest_s >= 0:
            raise ValueError(
                f"front end: expected minimum >= 1 frame and shortest_s >= 0, found {self.minimum} and {self.shortest_s}"
            )

    @property
    def mel(self) -> LogMel:
        """The log-mel convention."""
        return CONVENTIONS[self.convention]

    def speech(self, samples: Float[Tensor, " samples"], where: str = "recording") -> Float[Tensor, " kept"]:
        """The stretches of speech, one after the other.

        Raises
        ------
        NoSpeechError
            If there is less than `shortest_s` and `no_speech` says so.
        """
        if self.activity == "none":
            return samples
        rate = self.mel.sample_rate
        segments = _FINDERS[self.activity](samples, rate)
        seconds = sum(end - start for start, end in segments)
        if segments and seconds >= self.shortest_s:
            return take_segments(samples, rate, segments)
        if self.no_speech == "whole":
            return samples
        raise NoSpeechError(
            f"{where}: no speech, found {seconds:.2f} s of it in {len(samples) / rate:.2f} s ({self.activity} voice activity), at least "
            f"{self.shortest_s:g} s are needed; leave the recording out, or keep it whole with no_speech='whole'"
        )

    def features(self, samples: Float[Tensor, " samples"], where: str = "recording") -> Float[Tensor, "time mel"]:
        """Features of one recording: mean 0 and standard deviation 1 in each band, at least `minimum` frames.

        Parameters
        ----------
        samples
            In [-1, 1], at the convention's sample rate.
        where
            What to call the recording in messages.

        Raises
        ------
        NoSpeechError
            See `speech`.
        ValueError
            If there are no samples or they are NaN or infinite.
        """
        frames = normalise_recording(log_mel(self.speech(samples, where)[None], self.mel))
        return repeat_frames(frames, self.minimum)[0]
