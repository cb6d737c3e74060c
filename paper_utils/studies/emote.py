"""What notebook 09 trains and measures: stand-ins that look at faces, judges of the result, the prior, EMOTE and its ablations.

Everything is of the synthetic world. A judge has another architecture than the networks inside the losses, another seed, and learned from
other people.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning_fabric
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from paper_utils import files, training
from paper_utils.experiment import Experiment
from paper_utils.methods import emote
from paper_utils.network_files import read_networks, save_networks
from paper_utils.nn.face_perception import MotionPerception, mouth_motion
from paper_utils.nn.motion_readers import JUDGE, LipReader, MotionEmotion, ReaderSizes
from paper_utils.nn.speech_features import ConvSpeechFeatures
from paper_utils.studies.emote_world import BANDS, MOTION, Spoken, World, profiles, relabelled, sizes, world
from paper_utils.world.people import LARGEST, Population
from paper_utils.world.recordings import PHONE_NAMES
from paper_utils.world.talking_faces import NEUTRAL, coefficients

# ------------------------------------------------------------------------------------------- 0. networks that look at faces


@dataclass(frozen=True)
class Readers:
    """A lip reader, an emotion network that looks at clips, and its twin that looks at single frames."""

    lips: LipReader
    clip: MotionEmotion
    frame: MotionEmotion

    def perception(self, mouth: Int[Tensor, " mouth"]) -> MotionPerception:
        """What the losses ask."""
        return MotionPerception(self.lips, self.clip, mouth, self.frame)


def _cached(
    name: str, key: Mapping[str, Any], train: Callable[[Path], dict[str, Any]], fabric: lightning_fabric.Fabric
) -> dict[str, Any]:
    return training.cached(
        f"emote_{name}", dict(key), train, code=[Path(emote.__file__), Path(__file__)], fabric=fabric
    )


def _key(exp: Experiment, spoken: Spoken, **settings: Any) -> dict[str, Any]:
    plain = {
        name: dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value
        for name, value in settings.items()
    }
    return {"script": dataclasses.asdict(spoken.script), "seed": exp.seed, **plain}


def _fabric(exp: Experiment, fabric: lightning_fabric.Fabric | None) -> lightning_fabric.Fabric:
    return fabric or training.launch(str(exp.device))


def readers(
    exp: Experiment,
    known: World,
    spoken: Spoken,
    shape: ReaderSizes,
    config: emote.ReaderTraining,
    *,
    seed: int,
    shown: str = "emotions",
    names: Sequence[str] = ("lips", "clip", "frame"),
    fabric: lightning_fabric.Fabric | None = None,
) -> tuple[Readers, dict[str, Float[np.ndarray, " steps"]]]:
    """Stage 0, from the cache if it is there: three readers of these clips, frozen, and the loss of every step.

    Parameters
    ----------
    exp, known
        Run, and the face.
    spoken
        What they learn from.
    shape, config
        Widths and schedule: those of the losses' networks, or of the judges.
    seed
        Of first weights and order. The two emotion networks have both in common, so nothing but time sets them apart.
    shown
        ``"emotions"``; ``"none"``: the same clips with neutral faces under the same labels; ``"still"``: one frame, the mean of its clip.
    names
        Which of the three learn; the others keep their first weights.
    fabric
        Where to train.
    """
    inputs = 3 * len(known.kept)
    made = Readers(
        LipReader(3 * len(known.mouth), len(PHONE_NAMES), shape, seed=seed),
        MotionEmotion(inputs, sizes=shape, seed=seed + 1),
        MotionEmotion(inputs, sizes=shape, static=True, seed=seed + 1),
    )

    run = _fabric(exp, fabric)

    def train(checkpoint: Path) -> dict[str, Any]:
        offsets = face_of(known, spoken, shown)
        labels = spoken.clips.emotion, spoken.clips.intensity - 1
        jobs = {
            "lips": (mouth_motion(offsets, known.mouth), spoken.phones),
            "clip": (offsets, *labels),
            "frame": (offsets, *labels),
        }
        state: dict[str, Any] = {}
        for name, (motion, *targets) in jobs.items():
            if name not in names:
                continue
            path = checkpoint.with_name(f"{checkpoint.stem}_{name}.pt")
            network = getattr(made, name)
            loss = emote.train_reader(run, network, motion, *targets, config=config, seed=seed, checkpoint=path)
            path.unlink(missing_ok=True)
            state |= {name: network.cpu().state_dict(), f"{name}_loss": torch.from_numpy(loss)}
        return state

    key = _key(exp, spoken, shape=shape, config=config, number=seed, shown=shown, names=list(names))
    state = _cached("readers", key, train, run)
    for name in names:
        getattr(made, name).load_state_dict(state[name])
    for field in dataclasses.fields(made):
        getattr(made, field.name).eval().requires_grad_(False)
    return made, {name: state[f"{name}_loss"].numpy() for name in names}


def face_of(known: World, spoken: Spoken, shown: str) -> Float[Tensor, "clips time coordinates"]:
    """Offsets of clips as they are, with neutral faces, or held still at their mean; see `readers`."""
    if shown == "none":
        expression, jaw = coefficients(spoken.script, shown=NEUTRAL)
        motion = torch.cat([expression, jaw[:, None]], dim=1).view(spoken.clips.motion.shape)
        return known.face.offsets(motion, spoken.clips.person)
    offsets = known.offsets(spoken.clips)
    if shown == "still":
        return offsets.mean(1, keepdim=True)
    if shown != "emotions":
        raise ValueError(f"shown: expected 'emotions', 'none' or 'still', found {shown!r}")
    return offsets


# -------------------------------------------------------------------------------------------------- 1. and 2. prior, EMOTE


def prior(
    exp: Experiment, known: World, *, halvings: int | None = None, steps: int | None = None,
    fabric: lightning_fabric.Fabric | None = None,
) -> tuple[emote.Flint, dict[str, Float[np.ndarray, " steps"]]]:  # fmt: skip
    """Stage 1: FLINT on the training clips, from the cache if it is there, and its losses.

    Parameters
    ----------
    exp, known
        Run and clips.
    halvings, steps
        Another rate of latents or length of training than the profile's.
    fabric
        Where to train.
    """
    scale = sizes(exp).emote
    shape = dataclasses.replace(scale.prior, halvings=scale.prior.halvings if halvings is None else halvings)
    config = dataclasses.replace(scale.prior_training, steps=scale.prior_training.steps if steps is None else steps)

    run = _fabric(exp, fabric)

    def train(checkpoint: Path) -> dict[str, Any]:
        found, losses = emote.train_prior(
            run, known.train.clips, known.face.to(run.device), shape, config, seed=exp.seed, checkpoint=checkpoint
        )
        return {"prior": found.cpu().state_dict(), "losses": _tensors(losses)}

    state = _cached("prior", _key(exp, known.train, shape=shape, config=config), train, run)
    network = emote.Flint(shape, seed=exp.seed)
    network.load_state_dict(state["prior"])
    return network.eval().requires_grad_(False), {name: v.numpy() for name, v in state["losses"].items()}


def _tensors(values: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(value) for name, value in values.items()}


@dataclass(frozen=True)
class Variant:
    """One way to train EMOTE.

    Parameters
    ----------
    stage
        The second stage; ``None``: the first stage is all there is.
    first
        The first stage, if it is another one than the profile's.
    leak
        Whether voices betray the emotion.
    wrong
        Share of the clips whose labels are dealt at random among themselves; 1 is control N2.
    flint
        Whether the decoder of the prior is used.
    reads_lips
        Whether the lip reader of the loss was trained.
    """

    stage: emote.StageTraining | None = None
    first: emote.StageTraining | None = None
    leak: bool = True
    wrong: float = 0.0
    flint: bool = True
    reads_lips: bool = True


def variants(exp: Experiment) -> dict[str, Variant]:
    """All variants of the notebook by name. Without exchange the remaining weights are doubled, as in the paper's runs."""
    second = sizes(exp).emote.second
    full = second.weights

    def stage(exchange: bool = True, **weights: Any) -> emote.StageTraining:
        return dataclasses.replace(second, weights=dataclasses.replace(full, **weights), exchange=exchange)

    def longer(one: emote.StageTraining) -> emote.StageTraining:
        return dataclasses.replace(one, steps=round(1.8 * one.steps))

    # Where labels are wrong, the first stage learns the shortcut and the second must unlearn it: it gets more of the time.
    short = dataclasses.replace(sizes(exp).emote.first, steps=round(0.6 * sizes(exp).emote.first.steps))
    doubled = {"lip": 2 * full.lip, "emotion": 2 * full.emotion, "lip_exchanged": 0.0, "emotion_exchanged": 0.0}
    no_lip, no_emotion = {"lip": 0.0, "lip_exchanged": 0.0}, {"emotion": 0.0, "emotion_exchanged": 0.0}
    return {
        "stage 1 only": Variant(),
        "EMOTE": Variant(stage()),
        "w/o exchange": Variant(stage(False, **doubled)),
        "exchange, emotion loss only": Variant(stage(**no_lip)),
        "exchange, lip loss only": Variant(stage(**no_emotion)),
        "static emotion loss": Variant(stage(static=True)),
        "untrained lip reader": Variant(stage(), reads_lips=False),
        "no prior, stage 1": Variant(flint=False),
        "no prior": Variant(stage(), flint=False),
        "half the labels, EMOTE": Variant(longer(stage()), first=short, wrong=0.5),
        "half the labels, w/o exchange": Variant(longer(stage(False, **doubled)), first=short, wrong=0.5),
        "no leak, half the labels, EMOTE": Variant(longer(stage()), first=short, leak=False, wrong=0.5),
        "no leak, half the labels, w/o exchange": Variant(
            longer(stage(False, **doubled)), first=short, leak=False, wrong=0.5
        ),
        "shuffled labels, EMOTE": Variant(stage(), wrong=1.0),
    }


@dataclass(frozen=True)
class Trained:
    """A network and what its last stage logged."""

    model: emote.Emote
    losses: dict[str, Float[np.ndarray, " steps"]]


def new_model(shape: emote.EmoteSizes, flint: emote.Flint | None, *, seed: int) -> emote.Emote:
    """EMOTE with its first weights and the stand-in of wav2vec 2.0."""
    audio = ConvSpeechFeatures(BANDS, shape.audio, seed=seed)
    return emote.Emote(shape, flint, audio, motion=MOTION, seed=seed + 1)


def train_variant(
    exp: Experiment,
    known: World,
    variant: Variant,
    flint: emote.Flint,
    looking: Readers,
    fabric: lightning_fabric.Fabric | None = None,
) -> Trained:
    """Both stages of a variant, each from the cache if it is there; variants share first stages.

    Parameters
    ----------
    exp, known
        Run, and the world whose leak is the variant's.
    variant
        What to train.
    flint, looking
        Prior and readers, of the world with leak for all.
    fabric
        Where to train.
    """
    clips = known.train.clips
    if variant.wrong:
        clips = relabelled(clips, variant.wrong, exp.generator("deal"))
    if not variant.reads_lips:
        untrained = LipReader(3 * len(known.mouth), len(PHONE_NAMES), seed=exp.seed + 99)
        untrained.load_state_dict({**untrained.state_dict(), "mean": looking.lips.mean, "sd": looking.lips.sd})
        looking = dataclasses.replace(looking, lips=untrained)
    scale = sizes(exp).emote
    model = new_model(scale.network, flint if variant.flint else None, seed=exp.seed)
    shared = {"wrong": variant.wrong, "flint": variant.flint, "leak": variant.leak}
    first = variant.first or scale.first
    key = _key(exp, known.train, network=scale.network, first=first, prior=_digest(flint), **shared)

    processes = _fabric(exp, fabric)

    def run(stage: emote.StageTraining, seed: int) -> Callable[[Path], dict[str, Any]]:
        def train(checkpoint: Path) -> dict[str, Any]:
            losses = emote.train_stage(
                processes, model, clips, known.face.to(processes.device), stage,
                perception=looking.perception(known.mouth).to(processes.device), seed=seed, checkpoint=checkpoint,
            )  # fmt: skip
            return {"model": model.cpu().state_dict(), "losses": _tensors(losses)}

        return train

    state = _cached("stage", key, run(first, exp.seed), processes)
    model.load_state_dict(state["model"])
    if variant.stage is not None:
        again = {"second": dataclasses.asdict(variant.stage), "reads_lips": variant.reads_lips}
        again["readers"] = [_digest(network) for network in (looking.lips, looking.clip, looking.frame)]
        state = _cached("stage", key | again, run(variant.stage, exp.seed + 1), processes)
        model.load_state_dict(state["model"])
        model.transformer.period = model.sizes.period if variant.stage.biased else None
    model.eval().requires_grad_(False)
    return Trained(model, {name: values.numpy() for name, values in state["losses"].items()})


def _digest(network: torch.nn.Module) -> float:
    """A number that tells two trained states apart."""
    return float(sum(value.double().square().sum() for value in network.state_dict().values()))


# ------------------------------------------------------------------------------------------------ for a reader's own recording


FORMAT = "emote of the synthetic world 1"


@dataclass(frozen=True)
class Speaker:
    """A trained EMOTE and its people.

    Parameters
    ----------
    model
        In evaluation mode.
    population
        Of its training people, the first `emote.EmoteSizes.identities` of it.
    """

    model: emote.Emote
    population: Population


def speaker_path(profile: str = "quick") -> Path:
    """Where the network for a reader's own recording stands, see `paper_utils.emote_wav`."""
    return files.output_root(profile) / ".cache" / "emote_speaker" / f"{profile}.safetensors"


def save_speaker(exp: Experiment, known: World, model: emote.Emote) -> Path:
    """Write the network for `load_speaker`; where, is returned."""
    path = speaker_path(exp.profile)
    population = known.train.script.population
    about = {"profile": exp.profile, "population": f"{population.seed} {population.size}"}
    save_networks(model, path, FORMAT, about)
    return path


def load_speaker(path: str | Path) -> Speaker:
    """Read what `save_speaker` wrote.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ModelFileError
        If it is truncated, not ours, or of networks of other sizes.
    """
    known = profiles()
    file = read_networks(
        path,
        FORMAT,
        missing="run notebook 09, or train the network in about a minute with `python -m paper_utils.train 09 --only EMOTE`",
    )
    (profile,) = file.words("profile", f"({'|'.join(known)})", f"one of {', '.join(known)}")
    seed, size = map(int, file.words("population", "([0-9]{1,18}) ([0-9]{1,9})", "seed and size, such as '0 44'"))
    scale = known[profile].emote
    file.check_range(1, LARGEST, population=size)
    model = file.network(
        lambda: new_model(scale.network, emote.Flint(scale.prior, seed=0), seed=0), f"the sizes of profile {profile}"
    )
    return Speaker(model.requires_grad_(False), Population(size=size, seed=seed))


# ------------------------------------------------------------------------------------------------------------- everything


@dataclass(frozen=True)
class Study:
    """What all variants share.

    Parameters
    ----------
    known, silent
        The world, and the one whose voices betray nothing.
    looking, judges
        Networks inside the losses, and those that judge.
    flint
        The prior.
    """

    known: World
    silent: World
    looking: Readers
    judges: Readers
    flint: emote.Flint

    def of(self, variant: Variant) -> World:
        """The world of a variant."""
        return self.known if variant.leak else self.silent


def looking_readers(exp: Experiment, known: World, fabric: lightning_fabric.Fabric | None = None) -> Readers:
    """The networks inside the losses: they see the training people."""
    config = sizes(exp).emote.readers
    return readers(exp, known, known.train, ReaderSizes(), config, seed=exp.seed + 10, fabric=fabric)[0]


def judging_readers(
    exp: Experiment, known: World, *, shown: str = "emotions", names: Sequence[str] = ("lips", "clip", "frame"),
    fabric: lightning_fabric.Fabric | None = None,
) -> Readers:  # fmt: skip
    """The judges: another architecture, other seeds, other people."""
    config = sizes(exp).judge
    return readers(
        exp, known, known.judging, JUDGE, config, seed=exp.seed + 20, shown=shown, names=names, fabric=fabric
    )[0]


def prepare(exp: Experiment, fabric: lightning_fabric.Fabric | None = None) -> Study:
    """Data, networks that look, and the prior."""
    known, silent = world(exp), world(exp, leak=0.0)
    looking, judges = looking_readers(exp, known, fabric), judging_readers(exp, known, fabric=fabric)
    return Study(known, silent, looking, judges, prior(exp, known, fabric=fabric)[0])


def trainings(exp: Experiment) -> dict[str, Callable[[lightning_fabric.Fabric], Float[np.ndarray, " steps"]]]:
    """The study's trainings as calls that fill the cache and give the loss of every step; ``EMOTE`` also writes `speaker_path`."""

    def variant(fabric: lightning_fabric.Fabric, chosen: Variant) -> np.ndarray:
        study = prepare(exp, fabric)
        found = train_variant(exp, study.of(chosen), chosen, study.flint, study.looking, fabric)
        if chosen == variants(exp)["EMOTE"] and fabric.is_global_zero:
            save_speaker(exp, study.known, found.model)
        return found.losses["loss"][:, None]

    def first(fabric: lightning_fabric.Fabric) -> np.ndarray:
        return prior(exp, world(exp), fabric=fabric)[1]["loss"][:, None]

    named = {name: lambda fabric, chosen=chosen: variant(fabric, chosen) for name, chosen in variants(exp).items()}
    return {"prior": first} | named
