"""How notebook 09 judges talking faces: requests, counterfactual truth, what judges and rulers say of each clip, intervals over clips.

Apart from `paper_utils.studies.emote`, so that another measurement trains nothing anew.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from paper_utils.data.emote_clips import EmoteClips
from paper_utils.data.speech import SILENCE
from paper_utils.data.talking_faces import EMOTIONS, INTENSITIES
from paper_utils.mesh.flame_files import METRE
from paper_utils.methods import emote
from paper_utils.metrics.lips import lip_max_error
from paper_utils.metrics.statistics import Estimate, bootstrap_interval
from paper_utils.nn.face_perception import mouth_motion
from paper_utils.nn.motion_readers import clip_verdicts
from paper_utils.studies import emote as st
from paper_utils.studies.emote_world import Spoken, World
from paper_utils.world.recordings import PHONE_NAMES
from paper_utils.world.talking_faces import coefficients, talking_faces

BILABIAL = ("P", "B", "M")


@dataclass(frozen=True)
class Request:
    """What test clips are asked to show: emotion and intensity of each."""

    emotion: Int[Tensor, " clips"]
    intensity: Int[Tensor, " clips"]

    def conditions(self) -> tuple[tuple[str, int], ...]:
        """As `talking_faces` takes them."""
        pairs = zip(self.emotion.tolist(), self.intensity.tolist(), strict=True)
        return tuple((EMOTIONS[emotion], intensity) for emotion, intensity in pairs)


def other_emotion(spoken: Spoken, intensity: int = 3) -> Request:
    """For each clip another emotion than its sound has, all pairs equally often as far as the number of clips allows."""
    count = len(spoken.clips)
    shift = 1 + torch.arange(count) // len(EMOTIONS) % (len(EMOTIONS) - 1)
    emotion = (spoken.clips.emotion + shift) % len(EMOTIONS)
    return Request(emotion, torch.where(emotion == 0, 1, intensity))


def own_emotion(spoken: Spoken) -> Request:
    """What the sound has."""
    return Request(spoken.clips.emotion, spoken.clips.intensity)


def truth(known: World, request: Request) -> Float[Tensor, "clips time motion"]:
    """What the same people would do if they said the same at the same time with the requested emotion: no recorded corpus has this."""
    expression, jaw = coefficients(known.test.script, shown=request.conditions())
    return torch.cat([expression, jaw[:, None]], dim=1).view(known.test.clips.motion.shape)


@torch.no_grad()
def say(
    model: emote.Emote, known: World, request: Request, *, sound: Float[Tensor, "clips steps bands"] | None = None
) -> Float[Tensor, "clips time motion"]:
    """The test clips' motion under a request; with another sound if one is given."""
    clips = known.test.clips
    frames = clips.motion.shape[1]
    heard_sound = clips.sound if sound is None else sound
    return model(heard_sound, frames, request.emotion, request.intensity, clips.identity).motion


@dataclass(frozen=True)
class Measured:
    """What judges and rulers say of each clip.

    Parameters
    ----------
    seen
        Emotion that the judge sees.
    right, leaked
        1 where it is the requested one; where it is the sound's.
    phones
        Share of sounding frames whose phone the judge reads off the lips.
    bilabials
        Share of frames of P, B and M in which the judge reads one of these; NaN in a clip without any.
    lips_mm, upper_mm
        Distance from the counterfactual truth: worst lip vertex, and mean above; means over frames.
    jerk
        Root mean square third difference of vertices, mm per frame³.
    """

    seen: Int[np.ndarray, " clips"]
    right: Float[np.ndarray, " clips"]
    leaked: Float[np.ndarray, " clips"]
    phones: Float[np.ndarray, " clips"]
    bilabials: Float[np.ndarray, " clips"]
    lips_mm: Float[np.ndarray, " clips"]
    upper_mm: Float[np.ndarray, " clips"]
    jerk: Float[np.ndarray, " clips"]

    def row(self) -> dict[str, float]:
        """Means, as a row of a table."""
        return {f.name: float(np.nanmean(getattr(self, f.name))) for f in dataclasses.fields(self) if f.name != "seen"}


@torch.no_grad()
def measure(known: World, judges: st.Readers, motion: Float[Tensor, "clips time motion"], request: Request) -> Measured:
    """Judge the motion of all test clips.

    Parameters
    ----------
    known, judges
        World, and networks that no loss has used.
    motion
        Of the test clips.
    request
        What they were asked to show.
    """
    clips, phones = known.test.clips, known.test.phones
    offsets, true = (known.face.offsets(values, clips.person) for values in (motion, truth(known, request)))
    seen = clip_verdicts(judges.clip, offsets)
    read = judges.lips.logits(judges.lips(mouth_motion(offsets, known.mouth))).argmax(-1)
    sounding = phones != PHONE_NAMES.index(SILENCE)
    points, true_points = (METRE * values.unflatten(-1, (-1, 3)) for values in (offsets, true))
    shut = torch.tensor([PHONE_NAMES.index(name) for name in BILABIAL])
    third = points.diff(n=3, dim=1).norm(dim=-1)
    apart = (points - true_points)[:, :, known.upper].norm(dim=-1)
    values = {
        "seen": seen,
        "right": (seen == request.emotion).float(),
        "leaked": (seen == clips.emotion).float(),
        "phones": _share(read == phones, sounding),
        "bilabials": _share(torch.isin(read, shut), torch.isin(phones, shut)),
        "lips_mm": lip_max_error(points, true_points, known.lips).mean(1),
        "upper_mm": apart.mean((1, 2)),
        "jerk": third.square().mean((1, 2)).sqrt(),
    }
    return Measured(**{name: value.numpy() for name, value in values.items()})


def _share(hits: Bool[Tensor, "clips time"], where: Bool[Tensor, "clips time"]) -> Float[Tensor, " clips"]:
    """Share of the marked frames of each clip; NaN where none is marked."""
    return (hits & where).sum(1) / where.sum(1)


def mean_of(values: Float[np.ndarray, " clips"], rng: np.random.Generator) -> Estimate:
    """Mean over clips with a bootstrap interval; clips without a value are left out."""
    return bootstrap_interval(values[np.isfinite(values)], rng=rng)


def difference(first: Measured, second: Measured, what: str, rng: np.random.Generator) -> Estimate:
    """First less second of the same clips."""
    return mean_of(getattr(first, what) - getattr(second, what), rng)


@torch.no_grad()
def seen_by_clip_and_frame(
    judge: st.Readers, known: World, spoken: Spoken, shown: str = "emotions"
) -> tuple[Float[np.ndarray, " clips"], Float[np.ndarray, " clips"]]:
    """Of each clip, whether the clip network names its emotion, and in which share of frames the frame network does."""
    offsets, emotion = st.face_of(known, spoken, shown), spoken.clips.emotion
    frames = judge.frame.logits(judge.frame(offsets))[0].argmax(-1)
    return (clip_verdicts(judge.clip, offsets) == emotion).float().numpy(), (
        (frames == emotion[:, None]).float().mean(1).numpy()
    )


@torch.no_grad()
def lips_read(judge: st.Readers, known: World, spoken: Spoken) -> Float[np.ndarray, " clips"]:
    """Share of the sounding frames of each true clip whose phone is read off the lips."""
    read = judge.lips.logits(judge.lips(mouth_motion(known.offsets(spoken.clips), known.mouth))).argmax(-1)
    return _share(read == spoken.phones, spoken.phones != PHONE_NAMES.index(SILENCE)).numpy()


def heard_emotion(known: World) -> Float[np.ndarray, " clips"]:
    """Whether a linear classifier names the emotion of each test clip's sound, from mean and spread of its mel bands over time."""

    def summary(clips: EmoteClips) -> np.ndarray:
        return torch.cat([clips.sound.mean(1), clips.sound.std(1)], dim=1).numpy()

    train, test = known.train.clips, known.test.clips
    listener = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500, C=0.1))
    listener.fit(summary(train), train.emotion.numpy())
    return (listener.predict(summary(test)) == test.emotion.numpy()).astype(float)


def other_text(spoken: Spoken) -> Int[Tensor, " clips"]:
    """For each clip another one of the same person and emotion, which says something else."""
    per_person = spoken.script.per_person
    place = torch.arange(len(spoken.clips))
    person, number = place // per_person, place % per_person
    return person * per_person + (number + len(EMOTIONS)) % per_person


@torch.no_grad()
def all_conditions(model: emote.Emote, known: World, clip: int) -> dict[tuple[str, int], Float[Tensor, "time motion"]]:
    """One test clip's sound under every emotion and intensity."""
    clips, shape = known.test.clips, model.sizes
    features = model.features(clips.sound[clip : clip + 1], clips.motion.shape[1])
    identity = int(clips.identity[clip])
    return {
        (emotion, level): model.decode(features, emote.condition_named(emotion, level, identity, shape)).motion[0]
        for emotion in EMOTIONS
        for level in INTENSITIES
    }


def sound_of(known: World, clip: int) -> tuple[Float[Tensor, " samples"], int]:
    """Waveform of a test clip and its rate: the same words, voice and timing as the network heard.

    Raises
    ------
    ValueError
        For another clip than the first of a person: a script of one clip has no other.
    """
    script = known.test.script
    person, number = divmod(clip, script.per_person)
    if number:
        raise ValueError(f"clip: expected the first clip of a person, a multiple of {script.per_person}, found {clip}")
    alone = dataclasses.replace(
        script, identities=(script.identities[person],), per_person=1, conditions=script.conditions[:1],
        scene=dataclasses.replace(script.scene, sound=True),
    )  # fmt: skip
    made = talking_faces(alone)
    return made.audio, made.sample_rate
