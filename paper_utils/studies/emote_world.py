"""Sizes, people and clips of notebook 09: who says what with which emotion in the synthetic world, and what a network knows of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from paper_utils.data.emote_clips import EmoteClips, HeadFace
from paper_utils.data.talking_faces import EMOTIONS
from paper_utils.experiment import Experiment
from paper_utils.methods import emote
from paper_utils.world.face import EXPRESSION_UNITS, head
from paper_utils.world.people import Population
from paper_utils.world.talking_faces import (
    MEAD_CONDITIONS,
    Scene,
    Script,
    coefficients,
    heard,
    talking_faces,
    vertex_set,
)

BANDS = 40
SOUND_PER_FRAME = 4  # log-mel frames of 10 ms for a frame of 40 ms
MOTION = len(EXPRESSION_UNITS) + 1
STRONG = tuple((emotion, 1 if emotion == "neutral" else 3) for emotion in EMOTIONS)


# ----------------------------------------------------------------------------------------------------------------- sizes


@dataclass(frozen=True)
class Sizes:
    """A run of the study.

    Parameters
    ----------
    people, clips
        Training people, and clips of each; 22 conditions take turns.
    judge_people, judge_clips
        Of the judges: other people.
    test_clips
        New sentences of the training people, whose style the network knows.
    seconds
        Length of each clip.
    emote
        Widths and schedules.
    judge
        Training of the judges.
    """

    people: int
    clips: int
    judge_people: int
    judge_clips: int
    test_clips: int
    seconds: float
    emote: emote.Scale
    judge: emote.ReaderTraining


# Choices of ours, made with seed 0 on this world before claims were written: 2 frames a latent and a strong reconstruction, because with 4
# frames the prior of so short a training swallows the phones; published weights' 10 : 1 of lips and emotion.
_PRIOR = emote.PriorTraining(
    steps=320, batch=24, lr=3e-3, reconstruction=1e5, kl=1e-5, decay_last=0.3, standardise=True
)
QUICK = dataclasses.replace(
    emote.QUICK,
    prior=dataclasses.replace(emote.QUICK.prior, motion=MOTION, halvings=1),
    prior_training=_PRIOR,
    first=dataclasses.replace(emote.QUICK.first, steps=165, lr=4e-3),
    second=dataclasses.replace(emote.QUICK.second, steps=90, batch=12, frames=40, lr=2e-3),
    readers=emote.ReaderTraining(steps=200),
)


def sizes(exp: Experiment) -> Sizes:
    """Sizes of the run's profile."""
    return exp.scale(**profiles())


def profiles() -> dict[str, Sizes]:
    """Sizes by profile."""
    tiny = emote.ReaderTraining(steps=3, batch=8)
    quick, few = emote.QUICK, {"steps": 3, "batch": 4, "frames": 16}
    smoke = dataclasses.replace(
        QUICK,
        prior_training=dataclasses.replace(_PRIOR, **few),
        first=dataclasses.replace(quick.first, **few),
        second=dataclasses.replace(quick.second, **few),
        readers=tiny,
    )
    # The paper's widths on the synthetic face; steps of ours, for hours on one GPU.
    full = dataclasses.replace(
        emote.FULL,
        prior=dataclasses.replace(emote.FULL.prior, motion=MOTION, halvings=2),
        prior_training=dataclasses.replace(_PRIOR, steps=20_000, lr=1e-3),
        network=dataclasses.replace(emote.FULL.network, audio=128, identities=32, jaw=1),
        first=dataclasses.replace(quick.first, steps=10_000, frames=64, lr=3e-4),
        second=dataclasses.replace(quick.second, steps=4_000, frames=64, lr=3e-4),
        readers=emote.ReaderTraining(steps=3_000),
    )
    return {
        "smoke": Sizes(4, 22, 2, 22, 16, 1.2, smoke, tiny),
        "quick": Sizes(8, 44, 8, 44, 24, 2.6, QUICK, emote.ReaderTraining(steps=250)),
        "full": Sizes(32, 220, 16, 66, 24, 2.6, full, emote.ReaderTraining(steps=3_000)),
    }


# ------------------------------------------------------------------------------------------------------------------ data


@dataclass(frozen=True)
class Spoken:
    """Clips, and what is said in each frame.

    Parameters
    ----------
    clips
        Sound, motion and labels; `EmoteClips.person` is the face at rest, mm.
    phones
        Index into `PHONE_NAMES` of each frame.
    texts
        Words of each clip.
    script
        What names them.
    """

    clips: EmoteClips
    phones: Int[Tensor, "clips time"]
    texts: tuple[str, ...]
    script: Script


@dataclass(frozen=True)
class World:
    """What a run of the study knows.

    Parameters
    ----------
    train, judging, test
        Clips. The sound of a test clip has its emotion at full intensity.
    face
        Vertices around mouth, brows and eyes.
    mouth, lips, upper
        Which of them the lip reader sees, lie on the lips, and lie above.
    kept
        The same vertices in the set ``"front"``.
    mean, sd
        Of the log-mel bands of the training sound.
    """

    train: Spoken
    judging: Spoken
    test: Spoken
    face: HeadFace
    mouth: Int[Tensor, " mouth"]
    lips: Bool[Tensor, " vertices"]
    upper: Bool[Tensor, " vertices"]
    kept: Int[Tensor, " vertices"]
    mean: Float[Tensor, " bands"]
    sd: Float[Tensor, " bands"]

    def offsets(self, clips: EmoteClips) -> Float[Tensor, "clips time coordinates"]:
        """Offsets of the true motion, m."""
        return self.face.offsets(clips.motion, clips.person)


def read_clips(script: Script, kept: Int[Tensor, " kept"], *, sounding: bool = True) -> Spoken:
    """Clips of a script; sound is raw log-mel energies, or silence where nobody listens."""
    made, (expression, jaw) = talking_faces(script), coefficients(script)
    count, frames = len(made), int(made.lengths[0])
    motion = torch.cat([expression, jaw[:, None]], dim=1).view(count, frames, MOTION)
    steps = SOUND_PER_FRAME * frames
    sound = torch.zeros(count, steps, 1)
    if sounding:
        voices = heard(script, mel=BANDS)
        sound = torch.stack([voices[i].log_mel[:steps] for i in range(count)])
    clips = EmoteClips(
        sound,
        motion,
        made.templates[:, kept][made.subject],
        *made.labels(),
        made.subject,
        torch.ones(count, frames, dtype=torch.bool),
        fps=made.fps,
        name=made.name,
    )
    return Spoken(clips, made.phones.view(count, frames).long(), made.sentences, script)


def scene(exp: Experiment, leak: float) -> Scene:
    """How people talk: one quiet studio for all, so that a voice can betray as much of the emotion as this world's voices have."""
    return Scene(seconds=sizes(exp).seconds, fps=25.0, sound=False, leak=leak, severity=0.0)


def world(exp: Experiment, *, leak: float = 1.0) -> World:
    """Everybody and everything they say.

    Parameters
    ----------
    exp
        Profile and seed.
    leak
        How much of the emotion the voice betrays; 0 is control N1.
    """
    size, front = sizes(exp), vertex_set("front")
    upper, mouth = front.mesh.region("upper_face"), front.mesh.region("mouth")
    kept = torch.nonzero(upper | mouth).flatten()
    population = Population(size=size.people + size.judge_people, seed=exp.seed)
    learned = tuple(range(size.people))
    others = tuple(range(size.people, size.people + size.judge_people))

    def script(identities: tuple[int, ...], clips: int, stream: int, conditions: Sequence[tuple[str, int]]) -> Script:
        return Script(
            population, identities, clips, tuple(conditions), scene=scene(exp, leak), seed=10 * exp.seed + stream
        )

    train = read_clips(script(learned, size.clips, 1, MEAD_CONDITIONS), kept)
    # Only the lips and faces of the judges' people matter, and these are those of the world with leak for all.
    judging = read_clips(
        dataclasses.replace(script(others, size.judge_clips, 2, MEAD_CONDITIONS), scene=scene(exp, 1.0)),
        kept,
        sounding=False,
    )
    test = read_clips(script(learned, size.test_clips, 3, STRONG), kept)
    flat = train.clips.sound.flatten(0, 1)
    mean, sd = flat.mean(0), flat.std(0)

    def standardised(spoken: Spoken) -> Spoken:
        clips = dataclasses.replace(spoken.clips, sound=(spoken.clips.sound - mean) / sd)
        return dataclasses.replace(spoken, clips=clips)

    return World(
        train=standardised(train),
        judging=judging,
        test=standardised(test),
        face=HeadFace.of(head(2), front.kept[kept]),
        mouth=torch.nonzero(mouth[kept]).flatten(),
        lips=front.mesh.region("lips")[kept],
        upper=upper[kept],
        kept=kept,
        mean=mean,
        sd=sd,
    )


def relabelled(clips: EmoteClips, share: float, generator: torch.Generator) -> EmoteClips:
    """Emotion and intensity of a share of the clips dealt among these at random; 1 is control N2."""
    chosen = torch.randperm(len(clips), generator=generator)[: round(share * len(clips))]
    dealt = chosen[torch.randperm(len(chosen), generator=generator)]
    emotion, intensity = (values.index_put((chosen,), values[dealt]) for values in (clips.emotion, clips.intensity))
    return dataclasses.replace(clips, emotion=emotion, intensity=intensity)
