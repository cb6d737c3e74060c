"""Sentences that four people say and gesture to, as clips of sound and motion: what notebook 08 learns from.

A sentence has one sound and many right answers: it can be acted any number of times, in worlds with other knobs, and sounds the same each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from paper_utils import audio
from paper_utils.data.motion_clips import Clips
from paper_utils.world.articulation import articulate
from paper_utils.world.face_motion import at_frames, spoken_visemes
from paper_utils.world.gesture_tables import BODY_CLASSES, SPEAKERS
from paper_utils.world.gestures import FPS, GestureKnobs, GestureSettings, HolisticMotion, holistic_motion
from paper_utils.world.idle_motion import Beats
from paper_utils.world.people import Population
from paper_utils.world.prosody import Prosody
from paper_utils.world.speakers import Speakers
from paper_utils.world.speech import Utterance, utterances
from paper_utils.world.voice import log_mel, waveform

BANDS = 12
CUES = len(BODY_CLASSES)
FEATURES = BANDS + 2 + CUES  # bands, loudness, its slope, cues
HOP_MS = 10.0  # of `audio.WORLD_MEL`
SCALE = 2.5  # typical standard deviation of a log-mel band over time, so that features are of order one
# Which of the population's first people lend the speakers their voices: women for asha and chiara, men for bruno and dov.
VOICES = (1, 0, 2, 3)


@dataclass(frozen=True)
class Sentences:
    """What is said and heard, before anybody moves.

    Parameters
    ----------
    utterances
        One a clip.
    speakers
        Index into `SPEAKERS`.
    visemes
        See `paper_utils.world.face_motion`, at the rate of the motion.
    beats
        Stressed vowels: what one can gesture on, and what beat metrics take for the onsets of the sound.
    sound
        `sound_features` of each.
    """

    utterances: tuple[Utterance, ...]
    speakers: Int[np.ndarray, " clips"]
    visemes: Float[np.ndarray, "clips time 7"]
    beats: Beats
    sound: Float[Tensor, "clips time heard"]

    def __len__(self) -> int:
        return len(self.speakers)

    @property
    def frames(self) -> int:
        """Frames of each clip."""
        return self.visemes.shape[1]

    def onsets_s(self) -> list[Float[np.ndarray, " onsets"]]:
        """Times of the stressed vowels of each clip, in seconds."""
        end = self.frames / FPS
        rows = zip(self.beats.time_s, self.beats.strength, strict=True)
        return [np.sort(time[(strength > 0) & (time < end)]) for time, strength in rows]

    def waveform(self, clip: int) -> Float[Tensor, " samples"]:
        """Sound of one clip at 16 kHz."""
        return waveform([self.utterances[clip]], voices(), int(self.speakers[clip]), seed=clip, sections=22)[0]

    def part(self, rows: Sequence[int] | Int[np.ndarray, " rows"]) -> Sentences:
        """Some of the clips."""
        rows = np.asarray(rows)
        beats = Beats(self.beats.time_s[rows], self.beats.strength[rows])
        said = tuple(self.utterances[row] for row in rows.tolist())
        return Sentences(said, self.speakers[rows], self.visemes[rows], beats, self.sound[rows])


def voices() -> Speakers:
    """Voices of `SPEAKERS`, in their order."""
    return Population(size=len(VOICES)).people(list(VOICES)).speakers


def sound_features(
    mel: Float[Tensor, "*batch sound_frames bands"], frames: int, *, fps: float = FPS
) -> Float[Tensor, "*batch frames heard"]:
    r"""Log-mel energies every 10 ms as features at the frames of motion.

    Each band and the loudness :math:`\ell = \log \sum_b e^{m_b}` without their means over the recording, so that microphone and level do not
    count, and the loudness' change a frame.

    Parameters
    ----------
    mel
        Natural logarithm, from `paper_utils.world.voice.log_mel` or, for a recording, `paper_utils.audio.log_mel`.
    frames
        Of the motion.
    fps
        Frames a second.

    Raises
    ------
    ValueError
        If there is no frame, or a number is not finite.
    """
    if not mel.numel() or frames < 1 or not torch.isfinite(mel).all():
        raise ValueError(
            f"sound: expected finite log-mel energies of at least one frame, found shape {tuple(mel.shape)} for {frames} frames of motion"
        )
    values = torch.cat([mel, mel.logsumexp(-1, keepdim=True)], dim=-1)
    flat = values.reshape(-1, *values.shape[-2:]).double().numpy()
    times = HOP_MS / 1000 * np.arange(flat.shape[1])
    # A mean over a motion frame's time before sampling: single 10-ms frames of voiced speech flicker.
    smooth = np.apply_along_axis(lambda x: np.convolve(np.pad(x, 1, mode="edge"), np.ones(3) / 3, "valid"), 1, flat)
    at = np.stack([at_frames(one, times, fps=fps, frames=frames) for one in smooth])
    at = (at - at.mean(1, keepdims=True)) / SCALE
    slope = np.diff(at[..., -1:], axis=1, prepend=at[:, :1, -1:])
    found = torch.from_numpy(np.concatenate([at, slope], axis=-1)).float()
    return found.reshape(*mel.shape[:-2], frames, -1)


def recording_features(samples: Float[Tensor, " samples"]) -> Float[Tensor, "frames heard"]:
    """What a network of notebook 08 hears of somebody's recording at 16 kHz: `sound_features` with silent cue channels.

    Raises
    ------
    ValueError
        If the recording is shorter than a frame of motion, or not finite.
    """
    config = audio.LogMel(bands=BANDS)
    frames = int(len(samples) / config.sample_rate * FPS)
    if frames < 1:
        raise ValueError(
            f"recording: expected at least {1 / FPS:.3f} s, found {len(samples) / config.sample_rate:.3f} s"
        )
    heard = sound_features(audio.log_mel(samples[None], config)[0], frames)
    return torch.cat([heard, heard.new_zeros(frames, CUES)], dim=1)


def sentences(count: int, *, seed: int, frames: int = 88) -> Sentences:
    """Ordinary sentences of exactly one length, the speakers in turn.

    Parameters
    ----------
    count
        How many clips.
    seed
        Of words, manner and noise.
    frames
        Of each clip, at 30 a second; 88 is the training window of the released code.

    Raises
    ------
    ValueError
        If there is no clip, or a clip is too short for speech.
    """
    if count < 1:
        raise ValueError(f"sentences: expected at least one clip, found {count}")
    who, spoken_by = np.arange(count) % len(SPEAKERS), voices()
    manners = [Prosody(tempo=float(spoken_by.tempo[speaker])) for speaker in who]
    seconds = frames / FPS + 0.05
    said = utterances(count, rng=np.random.default_rng([seed, 1]), seconds=seconds, prosody=manners)
    tracks = articulate(said)
    visemes = [one[:frames] for one in spoken_visemes(tracks.visemes, tracks.starts, tracks.hop_s, fps=FPS)]
    mel = log_mel(said, spoken_by, who, mel=BANDS, hop_ms=HOP_MS, seed=seed, sections=22)
    shortest = min(len(one) for one in mel)
    sound = sound_features(torch.stack([one[:shortest] for one in mel]), frames)
    return Sentences(tuple(said), who, np.stack(visemes), Beats.of([one.beats() for one in said]), sound)


def act(
    said: Sentences, *, seed: int, knobs: GestureKnobs | None = None, settings: GestureSettings | None = None
) -> HolisticMotion:
    """The sentences' gestures and faces. Equal seeds differ only in what the knobs are about; another seed is another take."""
    rng = np.random.default_rng([seed, 2])
    return holistic_motion(said.visemes, said.beats, said.speakers, rng=rng, knobs=knobs, settings=settings)


def as_clips(said: Sentences, moved: HolisticMotion, name: str = "gestures") -> Clips:
    """Motion with what is heard: sound and cues."""
    heard = torch.cat([said.sound, torch.from_numpy(moved.cues).float()], dim=2)
    return Clips.of(moved.motion, heard, torch.from_numpy(moved.speakers), name)
