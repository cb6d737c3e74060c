r"""People who talk with body and hands: strokes on stressed syllables, in the 265 columns of SHOW, with the truth behind them.

Which gesture a beat gets is drawn at random, so one sound has many right answers; how far the hands follow the body, and how far sound tells
the gesture, are knobs. Synthetic stand-in for SHOW (Yi et al. 2023); tables of poses are in `gesture_tables`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from paper_utils.data.speech import HolisticClip, Recording
from paper_utils.world import skeleton
from paper_utils.world.face_motion import FaceMotion, face_motion
from paper_utils.world.gesture_tables import (
    BODY_CLASSES,
    BODY_TEMPLATES,
    HAND_DRIFT,
    HAND_TEMPLATES,
    POSTURE_DRIFT,
    SPEAKERS,
)
from paper_utils.world.idle_motion import Beats, check_rate, smooth_noise
from paper_utils.world.pose_layout import EXPRESSION, UPPER_BODY_JOINTS, assemble, constant_frame, joint_columns

FPS = 30.0  # of SHOW
_BODY = 3 * len(UPPER_BODY_JOINTS)
_NECK, _HEAD = (
    slice(3 * UPPER_BODY_JOINTS.index(name), 3 * UPPER_BODY_JOINTS.index(name) + 3) for name in ("neck", "head")
)


@dataclass(frozen=True)
class GestureKnobs:
    r"""What the world says about body, hands, face and sound; each knob has a claim that lives or dies with it.

    Parameters
    ----------
    rho
        Probability that the hands make the gesture that belongs to the body's; otherwise any of the six, so that the classes agree with
        probability :math:`\rho + (1 - \rho)/6`.
    kappa
        Probability that the cue channels show the class of the body; otherwise any of the six. With 0 sound tells nothing of the class, with 1
        all of it.
    face_link
        Probability that the face of a clip follows its own phones; otherwise a copy shifted in time by a third to two thirds of the clip.

    Raises
    ------
    ValueError
        If one is outside [0, 1].
    """

    rho: float = 0.6
    kappa: float = 0.0
    face_link: float = 1.0

    def __post_init__(self) -> None:
        for name in ("rho", "kappa", "face_link"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: expected a probability in [0, 1], found {getattr(self, name)}")


@dataclass(frozen=True)
class GestureSettings:
    """Shape and size of gestures. Unless a source is given, a choice of ours; frames are those of 30 a second.

    Parameters
    ----------
    body_size, hand_size
        Length of a template vector (39 and 90 angles) at beat strength 1 and speaker gain 1, radians.
    delay_frames, rise_frames, fall_frames
        The stroke peaks this long after the beat; standard deviations of the Gaussian before and after the peak. Relaxation is slower.
    preparation, preparation_frames, preparation_lead_frames
        Depth of the counter-movement before a stroke, its width and how long before the peak it is deepest.
    cue_frames
        A cue lasts this long on both sides of the beat.
    drift, drift_time_s
        Standard deviation of the slow posture modes and its time constant.
    noise, noise_frames
        Standard deviation of smooth noise on every angle, and the width of its smoothing.
    body_jitter, hand_jitter, jaw_jitter, expression_jitter
        Frame-to-frame noise of the tracker that real data would come from.
    """

    body_size: float = 1.0
    hand_size: float = 1.5
    delay_frames: float = 2.0
    rise_frames: float = 4.0
    fall_frames: float = 5.0
    preparation: float = 0.15
    preparation_frames: float = 3.0
    preparation_lead_frames: float = 10.0
    cue_frames: float = 4.0
    drift: float = 1.0
    drift_time_s: float = 1.5
    noise: float = 0.012
    noise_frames: float = 4.0
    # Third differences of eight published clips of SHOW, less what the strokes themselves have: hands and expression are jittery.
    body_jitter: float = 0.0003
    hand_jitter: float = 0.008
    jaw_jitter: float = 0.002
    expression_jitter: float = 0.01


@dataclass(frozen=True)
class HolisticMotion:
    """Clips of equal length with everything that made them.

    Parameters
    ----------
    motion
        Frames in the layout of `pose_layout`. Of the 100 expression columns the first 16 are the weights of `EXPRESSION_UNITS`, the rest zero.
    fps
        Frames a second.
    speakers
        Index into `SPEAKERS`.
    strokes
        The beats in order of time; strength 0 where there is padding or the speaker left a beat without a stroke.
    body_class, hand_class
        Index into `BODY_CLASSES` and `HAND_CLASSES` of each stroke; -1 where there is none.
    cues
        Six audible channels, one-hot around each stroke's beat: they show a class of body gesture, right or wrong.
    linked
        Whether the face follows the clip's own phones.
    face
        Face and head alone.
    """

    motion: Float[Tensor, "clips time 265"]
    fps: float
    speakers: Int[np.ndarray, " clips"]
    strokes: Beats
    body_class: Int[np.ndarray, "clips beats"]
    hand_class: Int[np.ndarray, "clips beats"]
    cues: Float[np.ndarray, "clips time 6"]
    linked: Bool[np.ndarray, " clips"]
    face: FaceMotion

    def __len__(self) -> int:
        return len(self.motion)

    def clip(self, index: int, recording: Recording) -> HolisticClip:
        """One clip with its sound, as every loader gives it."""
        return HolisticClip(self.motion[index], self.fps, int(self.speakers[index]), recording)

    def joints(self) -> Float[Tensor, "clips time 66 3"]:
        """Positions of joints and tips in metres, order `skeleton.POINTS`, root upright."""
        return skeleton.positions(skeleton.pose_of(self.motion))


def speaker_rest(speaker: int) -> Float[np.ndarray, " upper"]:
    """How a speaker sits or stands when nothing is said: 129 angles of body and hands, radians.

    Parameters
    ----------
    speaker
        Index into `SPEAKERS`.

    Raises
    ------
    ValueError
        If there is no such speaker.
    """
    _check_speakers(np.array([speaker]))
    return np.concatenate([SPEAKERS[speaker].body_rest, SPEAKERS[speaker].hand_rest])


def random_beats(
    rng: np.random.Generator, clips: int, duration_s: float, *, shortest_s: float = 10 / 30, longest_s: float = 22 / 30
) -> Beats:
    """Beats without a sentence: steps uniform between two lengths, strengths from 0.6 to 1.4.

    Parameters
    ----------
    rng
        Source of times and strengths.
    clips, duration_s
        How many clips, and their length.
    shortest_s, longest_s
        From beat to beat.

    Raises
    ------
    ValueError
        If there is no clip, or the lengths are not positive or in the wrong order.
    """
    if clips < 1 or not duration_s > 0 or not 0 < shortest_s <= longest_s:
        raise ValueError(
            f"random_beats: expected clips >= 1, a positive duration and 0 < shortest <= longest, "
            f"found {clips} clips, {duration_s} s, {shortest_s} to {longest_s} s"
        )
    most = int(np.ceil(duration_s / shortest_s)) + 1
    steps = rng.uniform(shortest_s, longest_s, (clips, most))
    steps[:, 0] *= rng.uniform(0, 1, clips)  # the clip begins anywhere between two beats
    times = np.cumsum(steps, axis=1)
    strength = rng.uniform(0.6, 1.4, times.shape)
    return Beats(times, np.where(times < duration_s, strength, 0.0))


def choose_strokes(beats: Beats, least_gap_s: Float[np.ndarray, " clips"]) -> Beats:
    """The beats that a speaker gestures on: in order of time, each at least a gap after the one before.

    Parameters
    ----------
    beats
        Of many clips, in any order.
    least_gap_s
        Of the speaker of each clip.

    Returns
    -------
    All beats in order of time (padding last), strength 0 where there is no stroke.
    """
    order = np.argsort(np.where(beats.strength > 0, beats.time_s, np.inf), axis=1, kind="stable")
    times, strength = (np.take_along_axis(x, order, 1) for x in (beats.time_s, beats.strength))
    last = np.full(len(times), -np.inf)
    kept = np.zeros(strength.shape, bool)
    for i in range(times.shape[1]):
        kept[:, i] = (strength[:, i] > 0) & (times[:, i] - last >= least_gap_s)
        last = np.where(kept[:, i], times[:, i], last)
    return Beats(times, np.where(kept, strength, 0.0))


def stroke_profile(since_s: Float[np.ndarray, ...], settings: GestureSettings) -> Float[np.ndarray, ...]:
    r"""Size of a stroke at each time since its beat: a small counter-movement, a quick rise, a slower fall; 1 at the peak.

    .. math:: k(t) = e^{-(t - 2)^2 / 2 \sigma^2} - p\, e^{-(t - 2 + l)^2 / 2 q^2}

    in frames, with :math:`\sigma` = 4 before the peak.

    Parameters
    ----------
    since_s
        Time since the beat, seconds.
    settings
        Delay, widths and preparation.
    """
    frames = since_s * FPS - settings.delay_frames
    width = np.where(frames < 0, settings.rise_frames, settings.fall_frames)
    preparation = np.exp(-0.5 * ((frames + settings.preparation_lead_frames) / settings.preparation_frames) ** 2)
    return np.exp(-0.5 * (frames / width) ** 2) - settings.preparation * preparation


@dataclass(frozen=True)
class _Choices:
    """What chance decided about each beat; drawn in full whatever the knobs are, so that a knob changes only what it is about."""

    body: np.ndarray
    hand: np.ndarray
    shown: np.ndarray
    linked: np.ndarray
    shift: np.ndarray


def _choose(
    rng: np.random.Generator, strokes: Beats, speakers: np.ndarray, knobs: GestureKnobs, frames: int
) -> _Choices:
    shape, classes = strokes.time_s.shape, len(BODY_CLASSES)
    prior = np.cumsum([speaker.prior for speaker in SPEAKERS], axis=1)
    body = (rng.random((*shape, 1)) >= prior[speakers][:, None, :-1]).sum(-1)
    coupled, other = rng.random(shape) < knobs.rho, rng.integers(classes, size=shape)
    told, decoy = rng.random(shape) < knobs.kappa, rng.integers(classes, size=shape)
    linked = rng.random(shape[0]) < knobs.face_link
    third = max(frames // 3, 1)
    shift = rng.integers(third, max(frames - third, third) + 1, size=shape[0])
    return _Choices(
        body, np.where(coupled, body, other), np.where(told, body, decoy), linked, np.where(linked, 0, shift)
    )


def _rolled(series: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Each clip turned around in time by its own number of frames."""
    frames = series.shape[1]
    index = (np.arange(frames) - shift[:, None]) % frames
    return np.take_along_axis(series, index.reshape(*index.shape, *[1] * (series.ndim - 2)), axis=1)


def _strokes_of(profile: np.ndarray, amplitude: np.ndarray, chosen: np.ndarray, templates: np.ndarray) -> np.ndarray:
    """Sum of strokes: (clips, beats, time), (clips, beats), (clips, beats), (classes, channels) -> (clips, time, channels)."""
    one_hot = (chosen[..., None] == np.arange(len(templates))).astype(np.float32)
    weights = np.einsum("cbt,cb,cbk->ctk", profile, amplitude, one_hot, optimize=True)
    return weights.astype(np.float32) @ templates.astype(np.float32)


def _wander(rng: np.random.Generator, shape: tuple[int, int], fps: float, settings: GestureSettings) -> np.ndarray:
    """Slow posture, smooth noise and tracker jitter of body and hands, (clips, time, 129)."""
    clips, frames = shape
    modes = len(POSTURE_DRIFT) + len(HAND_DRIFT)
    slow = smooth_noise(rng, (modes, clips, frames), fps=fps, time_constant_s=settings.drift_time_s, dtype=np.float32)
    drift = np.zeros((modes, _BODY + HAND_TEMPLATES.shape[1]), np.float32)
    drift[: len(POSTURE_DRIFT), :_BODY], drift[len(POSTURE_DRIFT) :, _BODY:] = POSTURE_DRIFT, HAND_DRIFT
    moved = settings.drift * np.moveaxis(slow, 0, -1) @ drift
    width = settings.noise_frames * fps / FPS
    rough = gaussian_filter1d(rng.standard_normal(moved.shape, dtype=np.float32), width, axis=1, mode="wrap")
    kept = np.sqrt(2 * width * np.sqrt(np.pi))  # white noise so smoothed has variance 1 / kept^2
    moved += settings.noise * kept * rough
    jitter = rng.standard_normal(moved.shape, dtype=np.float32)
    jitter[..., :_BODY] *= settings.body_jitter
    jitter[..., _BODY:] *= settings.hand_jitter
    return moved + jitter


def _check_speakers(speakers: np.ndarray) -> None:
    if len(speakers) == 0 or ((speakers < 0) | (speakers >= len(SPEAKERS))).any():
        raise ValueError(
            f"speakers: expected indices 0 to {len(SPEAKERS) - 1} ({', '.join(s.name for s in SPEAKERS)}), found {np.unique(speakers)}"
        )


def holistic_motion(
    visemes: Float[np.ndarray, "clips time 7"],
    beats: Beats,
    speakers: Int[np.ndarray, " clips"],
    *,
    rng: np.random.Generator,
    fps: float = FPS,
    knobs: GestureKnobs | None = None,
    settings: GestureSettings | None = None,
    face: Mapping[str, object] | None = None,
) -> HolisticMotion:
    r"""Jaw, face, body and hands of many clips.

    .. math:: x_t = r_s + g_s \sum_b \beta_b\, k(t - t_b)\, T_{c_b} + \text{drift} + \text{noise}

    Rest pose :math:`r` and gain :math:`g` of the speaker, strength :math:`\beta` and class :math:`c` of each beat. The class is drawn from
    the speaker's own habits, independently of everything audible but the cues.

    Parameters
    ----------
    visemes
        See `face_motion`; at the rate of the clips.
    beats
        Stressed syllables of each clip.
    speakers
        Index into `SPEAKERS`.
    rng
        All chance. With equal seed and shapes a knob changes only what it is about: another ``rho`` leaves body, face and sound as they are.
    fps
        Frames a second.
    knobs, settings
        See there.
    face
        Further arguments of `face_motion`, such as ``upper_face`` or ``emotion``.

    Raises
    ------
    ValueError
        If shapes do not fit, a speaker is unknown, the clips are empty or numbers are not finite.
    """
    check_rate(fps)
    _check_speakers(speakers)
    clips, frames = visemes.shape[:2]
    if len(speakers) != clips or beats.time_s.ndim != 2 or len(beats.time_s) != clips:
        raise ValueError(
            f"holistic_motion: {clips} clips of visemes, {len(speakers)} speakers and beats of shape {beats.time_s.shape}; expected "
            "one speaker and one row of beats for each clip"
        )
    knobs, settings = knobs or GestureKnobs(), settings or GestureSettings()
    strokes = choose_strokes(beats, np.array([speaker.least_gap_s for speaker in SPEAKERS])[speakers])
    choices = _choose(rng, strokes, speakers, knobs, frames)
    options = dict(face or {})
    if options.get("loudness") is not None:
        options["loudness"] = _rolled(options["loudness"], choices.shift)
    moving = face_motion(_rolled(visemes, choices.shift), fps=fps, rng=rng, beats=beats, **options)

    since = np.arange(frames) / fps - strokes.time_s[..., None]
    profile = stroke_profile(since, settings)
    amplitude = strokes.strength * np.array([speaker.gain for speaker in SPEAKERS])[speakers, None]
    upper = _wander(rng, (clips, frames), fps, settings)
    upper += np.stack([speaker_rest(i) for i in range(len(SPEAKERS))]).astype(np.float32)[speakers, None]
    upper[..., :_BODY] += settings.body_size * _strokes_of(profile, amplitude, choices.body, BODY_TEMPLATES)
    upper[..., _BODY:] += settings.hand_size * _strokes_of(profile, amplitude, choices.hand, HAND_TEMPLATES)
    upper[..., _NECK] += 0.4 * moving.head
    upper[..., _HEAD] += 0.6 * moving.head

    there = strokes.strength > 0
    near = (np.abs(since) <= settings.cue_frames / FPS + 1e-9) & there[..., None]
    cues = (near[..., None] & (choices.shown[..., None, None] == np.arange(len(BODY_CLASSES)))).any(1)
    return HolisticMotion(
        motion=_frames(moving, upper, speakers, rng, settings),
        fps=fps,
        speakers=speakers,
        strokes=strokes,
        body_class=np.where(there, choices.body, -1),
        hand_class=np.where(there, choices.hand, -1),
        cues=cues.astype(float),
        linked=choices.linked,
        face=moving,
    )


def _frames(
    face: FaceMotion, upper: np.ndarray, speakers: np.ndarray, rng: np.random.Generator, settings: GestureSettings
) -> Tensor:
    """The 265 columns from face, body and hands, with the tracker's jitter on the face and the legs of each speaker's posture."""
    clips, frames, units = face.expression.shape
    columns = torch.zeros(clips, frames, 103)
    jitter = rng.standard_normal((clips, frames, 1 + units), dtype=np.float32)
    columns[..., 0] = torch.from_numpy(face.jaw + settings.jaw_jitter * jitter[..., 0])
    columns[..., 3 : 3 + units] = torch.from_numpy(face.expression + settings.expression_jitter * jitter[..., 1:])
    motion = assemble(columns, torch.from_numpy(upper))
    legs = torch.stack([constant_frame(speaker.posture) for speaker in SPEAKERS])[speakers]
    for joint in ("left_hip", "right_hip", "left_knee", "right_knee"):
        motion[..., joint_columns(joint)] = legs[:, None, joint_columns(joint)]
    return motion


def part_statistics(
    motion: Float[Tensor, "clips time 265"], *, fps: float = FPS
) -> dict[str, tuple[float, float, float]]:
    """How much and how fast each part moves: standard deviation over time, mean speed (1/s) and mean jerk (1/s^3), averaged over channels.

    Parameters
    ----------
    motion
        At least four frames a clip. Expression counts the columns that are ever non-zero.
    fps
        Frames a second.

    Raises
    ------
    ValueError
        If the clips are too short for a third difference.
    """
    check_rate(fps)
    if motion.shape[1] < 4:
        raise ValueError(f"part_statistics: expected at least 4 frames a clip, found {motion.shape[1]}")
    body = torch.cat([motion[..., joint_columns(joint)] for joint in UPPER_BODY_JOINTS], dim=-1)
    expression = motion[..., EXPRESSION]
    used = (expression != 0).flatten(0, 1).any(0)
    parts = {
        "jaw": motion[..., joint_columns("jaw")],
        "body": body,
        "hands": motion[..., 75:165],
        "expression": expression[..., used] if used.any() else expression,
    }
    return {
        name: (
            float(part.std(1).mean()),
            float(part.diff(dim=1).abs().mean() * fps),
            float(part.diff(n=3, dim=1).abs().mean() * fps**3),
        )
        for name, part in parts.items()
    }


def speakers_named(names: Sequence[str]) -> Int[np.ndarray, " clips"]:
    """Indices of speakers by name.

    Raises
    ------
    ValueError
        If a name is unknown; the message lists them.

    Examples
    --------
    >>> speakers_named(["asha", "dov"]).tolist()
    [0, 3]
    """
    known = [speaker.name for speaker in SPEAKERS]
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise ValueError(f"speakers: unknown {', '.join(unknown)}; expected one of {', '.join(known)}")
    return np.array([known.index(name) for name in names])
