"""Moving faces: what speech does to mouth and jaw, what emotion adds, and what sound does not tell (brows, blinks, head).

Chance and mechanism are apart: `idle_motion` draws everything random, `face_motion` is a plain function of it. So the same person saying
the same words with another emotion is one more call, and the truth that no recorded corpus has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from paper_utils.world.face import EMOTIONS, EXPRESSION_UNITS, Head, emotion_pose
from paper_utils.world.face_tables import CAGE, EXPRESSION, HANDLES, JAW_AXIS, JAW_WEIGHTS
from paper_utils.world.idle_motion import Beats, FaceSettings, Idle, check_rate, draw_idle, smooth_noise

UPPER_FACE = {"independent": 0.0, "mixed": 0.5, "driven": 1.0}
MOUTH_UNITS = (
    "lip_round", "lip_spread", "smile", "frown", "upper_lip_raise", "lower_lip_drop", "lip_press", "lip_tuck", "cheek_puff", "jaw_side",
)  # fmt: skip
UPPER_UNITS = ("brow_raise", "brow_raise_inner", "brow_lower", "eye_close", "eye_wide")

# Columns of the visemes, in the order of the articulation.
_JAW, _ROUND, _SPREAD, _PRESS, _TUCK, _DROP, _RAISE = range(7)
_VISEME_TO_UNIT = {
    "lip_round": _ROUND, "lip_spread": _SPREAD, "lip_press": _PRESS, "lip_tuck": _TUCK, "lower_lip_drop": _DROP,
    "upper_lip_raise": _RAISE,
}  # fmt: skip
_UNIT = {name: i for i, name in enumerate(EXPRESSION_UNITS)}

# Articulation grows or shrinks with emotion: factor on excursions at full intensity. Choices of ours, in the order of effort.
ARTICULATION_OF_EMOTION: dict[str, float] = {
    "neutral": 1.0, "happy": 1.1, "sad": 0.8, "angry": 1.25, "fear": 0.95, "disgust": 0.9, "surprise": 1.15, "contempt": 0.85,
}  # fmt: skip
STRONGEST = 3.0  # intensity levels 1, 2, 3 as in MEAD; 3 gives the full preset


@dataclass(frozen=True)
class FaceMotion:
    """Motion of one face, or of many clips of equal length.

    Parameters
    ----------
    expression
        Weights in the order of `EXPRESSION_UNITS`.
    jaw
        Opening in radians.
    head
        Pitch (down positive), yaw (to the subject's left positive) and roll (to the subject's right shoulder positive: about the forward
        axis), radians.
    fps
        Frames a second.
    """

    expression: Float[np.ndarray, "*clips time 16"]
    jaw: Float[np.ndarray, "*clips time"]
    head: Float[np.ndarray, "*clips time 3"]
    fps: float

    def __getitem__(self, clip: int) -> FaceMotion:
        """One clip of many."""
        if self.jaw.ndim == 1:
            raise ValueError("face motion: this is a single clip already; index its arrays to choose frames")
        return FaceMotion(self.expression[clip], self.jaw[clip], self.head[clip], self.fps)

    def vertices(self, head: Head, neutral: Float[Tensor, "vertices 3"]) -> Float[Tensor, "time vertices 3"]:
        """Vertices of every frame of a single clip in mm, head pose removed.

        Parameters
        ----------
        head
            The procedural head.
        neutral
            The person at rest, mm.
        """
        if self.jaw.ndim != 1:
            raise ValueError(
                f"face motion of {self.jaw.shape[:-1]} clips: choose one clip first, motion[i].vertices(...)"
            )
        expression = torch.from_numpy(self.expression).to(neutral)
        return head.pose(neutral.expand(len(self.jaw), -1, -1), expression, torch.from_numpy(self.jaw).to(neutral))


def at_frames(
    signal: Float[np.ndarray, "samples channels"],
    times_s: Float[np.ndarray, " times"],
    *,
    fps: float,
    frames: int | None = None,
) -> Float[np.ndarray, "time channels"]:
    """A signal at the frames of a camera with a short shutter: linear between samples, constant beyond the ends.

    Parameters
    ----------
    signal
        For example visemes at the rate of the articulation.
    times_s
        Rising time of each sample. Frame ``k`` is taken ``k / fps`` after the first.
    fps
        Frames a second.
    frames
        How many; by default all that fit.

    Raises
    ------
    ValueError
        If the lengths disagree, times do not rise, the rate is not positive or no frame is left.
    """
    check_rate(fps)
    if (
        len(signal) == 0
        or len(signal) != len(times_s)
        or not np.isfinite(times_s).all()
        or (np.diff(times_s) <= 0).any()
    ):
        raise ValueError(
            f"at_frames: expected one rising time for each of at least one sample, found {len(signal)} samples and {len(times_s)} times"
        )
    if frames is None:
        frames = int(np.floor((times_s[-1] - times_s[0]) * fps + 1e-9)) + 1
    if frames < 1:
        raise ValueError(f"at_frames: expected at least one frame, found frames={frames}")
    at = times_s[0] + np.arange(frames) / fps
    return np.stack([np.interp(at, times_s, channel) for channel in signal.T], axis=-1)


def spoken_visemes(
    visemes: Float[np.ndarray, "samples 7"],
    starts: Int[np.ndarray, " utterances_plus_one"],
    hop_s: float,
    *,
    fps: float,
) -> list[Float[np.ndarray, "time 7"]]:
    """The visemes of each utterance at the frames of a camera that starts with its first phone.

    Parameters
    ----------
    visemes, starts, hop_s
        As an articulation holds them: samples of all utterances, utterance ``u`` from ``starts[u]`` to ``starts[u + 1]``, time between samples.
    fps
        Frames a second.
    """
    return [
        at_frames(visemes[first:last], hop_s * np.arange(last - first), fps=fps) for first, last in pairwise(starts)
    ]


def lip_closure(visemes: Float[np.ndarray, "*clips time 7"]) -> Float[np.ndarray, "*clips time"]:
    """How far the lips are pressed together or tucked under the teeth: 0 open, 1 as closed as P, B, M, F and V make them."""
    # Full at half of the usual target (.8 and 1): by then lips touch, and smoothed motion rarely reaches its target.
    share = np.maximum(visemes[..., _PRESS] / 0.4, visemes[..., _TUCK] / 0.5)
    share = np.clip(share, 0, 1)
    return share * share * (3 - 2 * share)


def _lip_moves(handle: str) -> Float[np.ndarray, "16 3"]:
    """How each unit moves a lip, mm at weight 1."""
    return np.array([EXPRESSION[unit].get(handle, (0.0, 0.0, 0.0)) for unit in EXPRESSION_UNITS])


def lip_gap(
    expression: Float[np.ndarray, "*clips time 16"], jaw: Float[np.ndarray, "*clips time"]
) -> Float[np.ndarray, "*clips time"]:
    """Height of the mouth opening at the mid-line of the mean face, in mm; below 0 where the lips overlap (a tucked lower lip).

    Parameters
    ----------
    expression, jaw
        As in `FaceMotion`.
    """
    upper, lower = (expression @ _lip_moves(handle) for handle in ("sto", "stoL"))
    row, column, _ = HANDLES["stoL"]
    y, z = (CAGE[row, column, i] + lower[..., i] - JAW_AXIS[i] for i in (1, 2))
    return upper[..., 1] - lower[..., 1] + JAW_WEIGHTS["stoL"] * (z * np.sin(jaw) + y * (1 - np.cos(jaw)))


def articulation_drive(
    visemes: Float[np.ndarray, "*clips time 7"],
    *,
    fps: float,
    loudness: Float[np.ndarray, "*shape"] | None = None,
    settings: FaceSettings | None = None,
) -> Float[np.ndarray, "*clips time 3"]:
    """What articulation says to brows, inner brows and lids: a fixed, smooth function of it, near mean 0 and variance 1 in running speech.

    Effort (loudness where known, jaw opening else) raises the brows, rounding against spreading the inner brows, closed lips lower the lids.
    People do move their brows with vocal effort; the other two links are inventions that serve as a control.

    Parameters
    ----------
    visemes, fps
        Articulation at the rate of the clip.
    loudness
        0 silent .. 1 loud.
    settings
        Its ``driven_smooth_s``; the lids are twice as slow.
    """
    settings = settings or FaceSettings()
    # Centred and scaled on our own sentences: mean 0, variance 1 after smoothing.
    effort = (visemes[..., _JAW] - 5.0) / 2.0 if loudness is None else (loudness - 0.5) / 0.2
    shape = (visemes[..., _ROUND] - visemes[..., _SPREAD] - 0.06) / 0.28
    fast = gaussian_filter1d(
        np.stack([effort, shape], axis=-1), settings.driven_smooth_s * fps, axis=-2, mode="nearest"
    )
    closed = (0.1 - lip_closure(visemes)) / 0.12
    lids = gaussian_filter1d(closed, 2 * settings.driven_smooth_s * fps, axis=-1, mode="nearest")
    return np.concatenate([fast, lids[..., None]], axis=-1)


def emotion_envelope(
    modulation: Float[np.ndarray, "*clips time"], *, fps: float, settings: FaceSettings
) -> Float[np.ndarray, "*clips time"]:
    """Strength of an emotion over time: a slow rise, a modulated middle around 1, a slow fall."""
    frames = modulation.shape[-1]
    times, end = np.arange(frames) / fps, (frames - 1) / fps
    ramps = np.ones(frames)
    for duration, elapsed in ((settings.onset_s, times), (settings.offset_s, end - times)):
        duration = min(duration, 0.4 * end)
        if duration > 0:
            ramps = ramps * (0.5 - 0.5 * np.cos(np.pi * np.clip(elapsed / duration, 0, 1)))
    return ramps * np.clip(1 + settings.modulation * modulation, 0, None)


def anatomy_gain(size: Float[np.ndarray, " people"], gain: float = 0.3) -> Float[np.ndarray, " people"]:
    r"""Factor on jaw and lip excursions of people whose anatomy is larger or smaller than usual: :math:`e^{g z}`.

    With 0 everyone articulates alike; with 0.3 a longer jaw opens about 30 % wider per standard deviation, the world in which faces that
    move more while a phone is pronounced are also the ones it tells more about.

    Parameters
    ----------
    size
        :math:`z`, a static measure of each person in standard deviations from the mean.
    gain
        :math:`g`.

    Raises
    ------
    ValueError
        If a size or the gain is not finite.
    """
    if not np.isfinite(size).all() or not np.isfinite(gain):
        raise ValueError(
            "anatomy_gain: sizes and gain must be finite; standardise the measure first and drop missing people"
        )
    return np.exp(gain * size)


def _check_finite(name: str, values: np.ndarray) -> None:
    if values.size == 0:
        raise ValueError(f"{name}: expected at least one clip and one frame, found shape {values.shape}")
    if not np.isfinite(values).all():
        wrong = int((~np.isfinite(values)).sum())
        raise ValueError(
            f"{name}: {wrong} of {values.size} values are NaN or infinite; repair the articulation before it moves a face"
        )


def _share(upper_face: str | float) -> float:
    """The setting as a number."""
    if isinstance(upper_face, str):
        if upper_face not in UPPER_FACE:
            raise ValueError(
                f"upper_face: expected one of {', '.join(UPPER_FACE)} or a share in [0, 1], found {upper_face!r}"
            )
        return UPPER_FACE[upper_face]
    if not 0 <= upper_face <= 1:
        raise ValueError(f"upper_face: expected a share in [0, 1], found {upper_face}")
    return float(upper_face)


def _per_clip(name: str, value: ArrayLike, clips: tuple[int, ...], low: float, high: float) -> np.ndarray:
    """A number, or one a clip, with an axis for time."""
    array = np.asarray(value, dtype=float)
    if array.shape not in ((), clips):
        raise ValueError(f"{name}: expected one number or one for each of {clips} clips, found shape {array.shape}")
    if not ((array >= low) & (array <= high)).all():
        raise ValueError(f"{name}: expected values from {low:g} to {high:g}, found {array.min():g} to {array.max():g}")
    return np.broadcast_to(array, clips)[..., None]


@dataclass(frozen=True)
class _Feeling:
    """Preset of the emotion of each clip at its intensity; an axis for time of length 1."""

    weights: np.ndarray  # (*clips, 1, 16)
    jaw: np.ndarray  # (*clips, 1), radians
    gain: np.ndarray  # (*clips, 1), on articulation


def _feeling(
    emotion: str | Sequence[str] | np.ndarray, intensity: ArrayLike, clips: tuple[int, ...], settings: FaceSettings
) -> _Feeling:
    names = np.array(emotion)
    unknown = sorted(set(names.ravel().tolist()) - set(EMOTIONS))
    if unknown:
        raise ValueError(f"emotion: unknown {', '.join(map(repr, unknown))}; expected one of {', '.join(EMOTIONS)}")
    if names.shape not in ((), clips):
        raise ValueError(f"emotion: expected one name or one for each of {clips} clips, found shape {names.shape}")
    index = np.vectorize(EMOTIONS.index, otypes=[int])(np.broadcast_to(names, clips))
    strength = _per_clip("intensity", intensity, clips, 0.0, STRONGEST) / STRONGEST
    presets = [emotion_pose(name) for name in EMOTIONS]
    weights, jaw = np.stack([pose.double().numpy() for pose, _ in presets]), np.array([angle for _, angle in presets])
    gain = np.array([ARTICULATION_OF_EMOTION[name] for name in EMOTIONS])
    at_mouth = settings.emotion_at_mouth * strength
    reach = np.array([1.0 if unit in UPPER_UNITS else settings.emotion_at_mouth for unit in EXPRESSION_UNITS])
    return _Feeling(
        weights=reach * weights[index][..., None, :] * strength[..., None],
        jaw=jaw[index][..., None] * at_mouth,
        gain=1 + (gain[index][..., None] - 1) * at_mouth,
    )


def _mouth(
    visemes: np.ndarray, envelope: np.ndarray, feeling: _Feeling, gain: np.ndarray, settings: FaceSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Expression weights and jaw of speech and emotion together, with what each forbids the other at the mouth."""
    closed = lip_closure(visemes)
    gain = gain * (1 + (feeling.gain - 1) * envelope)
    gain = 1 + (gain - 1) * (1 - closed)  # closing the lips is all or nothing: effort does not scale it
    open_share = np.clip(visemes[..., _JAW] / 14.0, 0, 1)  # 14 degrees: the widest vowel

    added = envelope[..., None] * feeling.weights
    for unit in ("upper_lip_raise", "lower_lip_drop"):
        added[..., _UNIT[unit]] *= 1 - closed  # nothing parts closed lips
    for unit in ("smile", "frown", "lip_spread"):
        added[..., _UNIT[unit]] *= 1 - (1 - settings.closed_corner_pull) * closed
    added[..., _UNIT["lip_press"]] *= 1 - open_share  # an open mouth cannot press its lips

    for unit, column in _VISEME_TO_UNIT.items():
        added[..., _UNIT[unit]] += visemes[..., column] * gain
    # A dropped jaw leaves less to drop.
    jaw = np.deg2rad(visemes[..., _JAW]) * gain + envelope * feeling.jaw * (1 - closed) * (1 - 0.7 * open_share)
    jaw = np.clip(jaw, 0, None)
    # The lower lip rises to meet the upper one over whatever opening the jaw still has from its neighbours.
    parted = added.copy()
    parted[..., _UNIT["lip_tuck"]] = 0  # a tucked lip is inside the mouth, not in the gap
    added[..., _UNIT["lower_lip_drop"]] += closed * lip_gap(parted, jaw) / EXPRESSION["lower_lip_drop"]["stoL"][1]
    return added, jaw


def _upper(
    expression: np.ndarray,
    idle: Idle,
    drive: np.ndarray,
    share: float,
    amplitude: float,
    blinks: bool,
    settings: FaceSettings,
) -> np.ndarray:
    """Add the movement of brows and lids; a blink closes what the rest left open."""
    brow, inner, lid = np.moveaxis(amplitude * (np.sqrt(share) * drive + np.sqrt(1 - share) * idle.slow), -1, 0)
    lid = settings.lid_amplitude * lid
    expression[..., _UNIT["brow_raise"]] += np.clip(brow, 0, None)
    expression[..., _UNIT["brow_lower"]] += np.clip(-brow, 0, None)
    expression[..., _UNIT["brow_raise_inner"]] += inner
    expression[..., _UNIT["eye_wide"]] += np.clip(lid, 0, None)
    blink = idle.blink if blinks and share < 1 else np.zeros_like(idle.blink)
    closed = np.clip(expression[..., _UNIT["eye_close"]] + np.clip(-lid, 0, None), 0, 1)
    expression[..., _UNIT["eye_close"]] = closed + (1 - closed) * blink
    expression[..., _UNIT["eye_wide"]] *= 1 - blink
    return expression


def _head(idle: Idle, beats: Beats | None, settings: FaceSettings) -> np.ndarray:
    """Slow wander, and a nod behind every beat."""
    head = idle.head * np.deg2rad(settings.head_deg)
    if beats is None:
        return head
    clips, frames = idle.blink.shape[:-1], idle.blink.shape[-1]
    if beats.time_s.shape[:-1] != clips:
        raise ValueError(f"beats: expected those of {clips} clips, found {beats.time_s.shape[:-1]}")
    since = np.arange(frames) / idle.fps - beats.time_s[..., None] - settings.nod_delay_s
    nods = (beats.strength[..., None] * np.exp(-0.5 * (since / settings.nod_width_s) ** 2)).sum(-2)
    head[..., 0] += np.deg2rad(settings.nod_deg) * nods
    return head


def face_motion(
    visemes: Float[np.ndarray, "*clips time 7"],
    *,
    fps: float,
    rng: np.random.Generator | None = None,
    idle: Idle | None = None,
    emotion: str | Sequence[str] | np.ndarray = "neutral",
    intensity: ArrayLike = STRONGEST,
    articulation_gain: ArrayLike = 1.0,
    upper_face: str | float = "mixed",
    idle_amplitude: float = 0.35,
    blinks: bool = True,
    loudness: Float[np.ndarray, "*shape"] | None = None,
    beats: Beats | None = None,
    settings: FaceSettings | None = None,
) -> FaceMotion:
    r"""Face and head of one clip, or of many clips of equal length, while they speak.

    .. math:: w_t = g_t\, a_t + e_t\, (1 - c_t k) \odot E + A\,(\sqrt{s}\, d_t + \sqrt{1 - s}\, o_t) + b_t

    Articulation :math:`a` with gain :math:`g`, the emotion's preset :math:`E` with its envelope :math:`e`, held back where closed lips
    (:math:`c`) forbid it; brows and lids follow articulation (:math:`d`) or themselves (:math:`o`) by the share :math:`s`, with amplitude
    :math:`A`; blinks :math:`b`. During P, B and M the mouth is shut whatever the emotion and the gain: the jaw is that of the visemes, no lip is
    parted, and the lower lip rises over what opening the jaw has left (a negative ``lower_lip_drop``).

    Parameters
    ----------
    visemes
        Jaw in degrees, then rounding, spreading, pressing, tucking, dropping and raising of the lips, at the rate of the clip
        (see `at_frames`).
    fps
        Frames a second.
    rng, idle
        What brows, lids and head do by themselves: drawn from ``rng``, or given as drawn before by `draw_idle`. Exactly one of them.
    emotion, intensity
        One for all clips or one a clip; intensity from 0 to 3, as the levels of MEAD, 3 being the full preset.
    articulation_gain
        Factor on excursions of jaw and lips, for a person or anatomy (see `anatomy_gain`); closures are not scaled.
    upper_face
        ``"independent"`` of speech (share 0), ``"mixed"`` (0.5), ``"driven"`` (1), or the share :math:`s` itself. With 1 brows and lids are a
        function of articulation alone: there are no blinks either.
    idle_amplitude
        Standard deviation of the brow process in units of the weights.
    blinks
        Whether there are any.
    loudness
        0 silent .. 1 loud; drives the brows instead of the jaw opening.
    beats
        Where the head nods.
    settings
        Rates and time constants.

    Raises
    ------
    ValueError
        If the clip is empty, visemes or loudness hold NaN, the emotion is unknown, a number is out of its range, shapes do not fit, or not
        exactly one of ``rng`` and ``idle`` is given.
    """
    check_rate(fps)
    _check_finite("visemes", visemes)
    clips, frames = visemes.shape[:-2], visemes.shape[-2]
    settings = settings or FaceSettings()
    share = _share(upper_face)
    if not np.isfinite(idle_amplitude) or idle_amplitude < 0:
        raise ValueError(f"idle_amplitude: expected a number not below 0, found {idle_amplitude}")
    if (rng is None) == (idle is None):
        raise ValueError("face_motion: give either rng (to draw the idle motion) or idle (drawn before), not both")
    if idle is None:
        idle = draw_idle(rng, frames, fps=fps, clips=clips, settings=settings)
    if idle.blink.shape != (*clips, frames) or idle.fps != fps:
        raise ValueError(
            f"idle: drawn for {idle.blink.shape} frames at {idle.fps:g} a second, but the visemes have {(*clips, frames)} at {fps:g}"
        )
    if loudness is not None:
        _check_finite("loudness", loudness)
        if loudness.shape != (*clips, frames):
            raise ValueError(f"loudness: expected one value a frame, {(*clips, frames)}, found {loudness.shape}")

    feeling = _feeling(emotion, intensity, clips, settings)
    gain = _per_clip("articulation_gain", articulation_gain, clips, 0.0, 10.0)
    envelope = emotion_envelope(idle.modulation, fps=fps, settings=settings)
    expression, jaw = _mouth(visemes, envelope, feeling, gain, settings)
    drive = articulation_drive(visemes, fps=fps, loudness=loudness, settings=settings)
    expression = _upper(expression, idle, drive, share, float(idle_amplitude), blinks, settings)
    return FaceMotion(expression, jaw, _head(idle, beats, settings), fps)


def counterfactuals(
    visemes: Float[np.ndarray, "time 7"],
    conditions: Sequence[tuple[str, float]],
    *,
    fps: float,
    idle: Idle,
    **options: object,
) -> FaceMotion:
    """The same person saying the same words with the same blinks and brows, once for each emotion: only the emotion differs.

    Timing and words stay as they are; what an emotion does to the voice is another matter. Free of tracking noise; `with_tracking_noise`
    adds it, equal noise with equal seed.

    Parameters
    ----------
    visemes
        Of one clip.
    conditions
        Pairs (emotion, intensity); one clip of the result for each.
    fps, idle
        As for `face_motion`; ``idle`` of one clip.
    options
        Any other argument of `face_motion` that is the same for all conditions.

    Raises
    ------
    ValueError
        If there is no condition, or as `face_motion`.
    """
    if not conditions:
        raise ValueError("conditions: expected at least one pair (emotion, intensity), found none")
    motions = [
        face_motion(visemes, fps=fps, idle=idle, emotion=emotion, intensity=intensity, **options)
        for emotion, intensity in conditions
    ]
    stacked = [np.stack([getattr(motion, name) for motion in motions]) for name in ("expression", "jaw", "head")]
    return FaceMotion(*stacked, fps)


def with_tracking_noise(
    motion: FaceMotion,
    rng: np.random.Generator,
    *,
    smooth: float = 0.02,
    white: float = 0.01,
    time_constant_s: float = 0.1,
) -> FaceMotion:
    """What a monocular tracker would make of a face: every weight and angle with slow and with frame-to-frame error.

    Parameters
    ----------
    motion
        The truth.
    rng
        Source of the noise; how much is drawn depends on the shapes alone, so equal seeds give equal noise to counterfactuals.
    smooth, white
        Standard deviations in units of the weights; angles get a fifth of it in radians. Choices of ours.
    time_constant_s
        Of the slow part.

    Raises
    ------
    ValueError
        If a standard deviation is negative or not finite.
    """
    for name, value in (("smooth", smooth), ("white", white)):
        if not np.isfinite(value) or value < 0:
            raise ValueError(f"{name}: expected a standard deviation not below 0, found {value}")

    channels = motion.expression.shape[-1] + 4
    shape = (channels, *motion.jaw.shape)
    noise = smooth * smooth_noise(rng, shape, fps=motion.fps, time_constant_s=time_constant_s)
    noise = np.moveaxis(noise + white * rng.standard_normal(shape), 0, -1)
    return replace(
        motion,
        expression=motion.expression + noise[..., :-4],
        jaw=motion.jaw + 0.2 * noise[..., -4],
        head=motion.head + 0.2 * noise[..., -3:],
    )
