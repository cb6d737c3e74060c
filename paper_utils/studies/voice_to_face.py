r"""What notebook 03 trains and measures: faces from the voices of people who were never heard or seen, in the world and where its links are cut.

From top to bottom: sizes of a run; the people; the two stages of training and their controls; the embedder that judges; matching, traits
and measurements of generated faces; baselines; checks of the game.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lightning_fabric
import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn import functional

from paper_utils import audio, files, provenance, training
from paper_utils.data import voices_and_faces
from paper_utils.data.voice_features import FrontEnd
from paper_utils.data.voxceleb import Spans, SpeakerRecordings
from paper_utils.experiment import Experiment
from paper_utils.methods import voice_to_face as v2f
from paper_utils.metrics import cross_modal
from paper_utils.metrics.by_identity import percentile_estimate, resample_identities
from paper_utils.metrics.frechet import frechet_distance
from paper_utils.metrics.statistics import Estimate
from paper_utils.nn.voice_encoder import VoiceEncoder, initialise_
from paper_utils.world import people as world_people
from paper_utils.world.anthropometry import DISTANCES, measure
from paper_utils.world.face import head
from paper_utils.world.meetings import deal
from paper_utils.world.passports import passport_pictures
from paper_utils.world.people import Population
from paper_utils.world.portraits import neutral_faces
from paper_utils.world.recordings import voices

RESAMPLES = 2000  # of people, for every interval
WORLDS = {
    "linked": None,
    "sex only": ("sex",),
    "shuffled": (),
}  # what a voice and its face have in common where the link is cut
RIDGE = np.logspace(-3, 5, 17)
MALE = 1  # in `world.people.SEXES`


# --------------------------------------------------------------------------------------------------------------- 1. sizes


@dataclass(frozen=True)
class Scale:
    """Sizes of a run. The quick ones are choices of ours: small enough for one core, large enough that strangers' faces can be told apart.

    Parameters
    ----------
    learned, unseen
        Training and test people of the world.
    recordings, pictures
        Of each person.
    seconds
        Length of the recordings.
    link
        `Population.voice_face_link`: 1, so that the cavities of a vocal tract follow the face as far as the anatomy table says. That is more
        than is reported of adults (0.6, the world's default); a few hundred speakers could not teach less to so short a training.
    severity
        How much recording sessions differ.
    sizes
        Widths of the networks.
    voice, gan
        The two stages.
    judge_steps
        Training of the embedder that judges.
    """

    learned: int
    unseen: int
    recordings: int
    pictures: int
    seconds: float
    sizes: v2f.Sizes
    voice: v2f.VoiceTraining
    gan: v2f.GanTraining
    judge_steps: int
    link: float = 1.0
    severity: float = 0.5

    @property
    def watch_at(self) -> tuple[int, ...]:
        """Iterations whose pictures are kept: about twice as many each time."""
        return tuple(step for step in (0, *(25 * 2**power for power in range(12))) if step < self.gan.steps)


SMALL = v2f.Sizes(voice=(48, 64, 80, 96), generator=(64, 48, 32, 16), face=(8, 24, 48, 64))
SPANS = Spans(window=160, shortest=80)  # 0.8 to 1.6 of the 2 s there are
# Choices of ours for some hundred iterations of a generator an eightieth of the paper's size, made by pictures and matching accuracy: batch,
# rate and first weights in trials on smaller populations of seed 0, the average on seed 7. Steps are what a minute allows; 550 were too few for
# training people to be told from others with seed 1.
# The paper's own settings are the defaults of `GanTraining`.
SHORT_GAN = v2f.GanTraining(steps=600, batch=16, lr=2e-3, spans=SPANS, average=0.99, first_weights="relu")


def scale(exp: Experiment) -> Scale:
    """Sizes of a profile."""
    tiny = v2f.Sizes(voice=(8, 8, 8, 8), generator=(8, 8, 8, 8), face=(8, 8, 8, 8))
    return exp.scale(
        smoke=Scale(
            12, 10, 4, 4, 1.0, tiny,
            v2f.VoiceTraining(steps=4, batch=8, spans=Spans(60, 40)),
            dataclasses.replace(SHORT_GAN, steps=4, batch=8, spans=Spans(60, 40)),
            4,
        ),
        quick=Scale(
            200, 200, 4, 8, 2.0, SMALL, v2f.VoiceTraining(steps=600, batch=64, lr=3e-3, spans=SPANS), SHORT_GAN, 400
        ),
        full=Scale(
            924, 189, 20, 20, 10.0, v2f.Sizes(), v2f.VoiceTraining(), v2f.GanTraining(), 10_000
        ),
    )  # fmt: skip


# -------------------------------------------------------------------------------------------------------------- 2. people


@dataclass(frozen=True)
class Side:
    """Training people, or test people: what is heard and seen of them, and what is true of them.

    Parameters
    ----------
    speech
        Recordings for training.
    heard, speakers
        Recordings of equal length for the evaluation, and who speaks, in ``[0, people)``.
    pictures, shown
        In [-1, 1], and who is on them.
    sex
        Of each person: 1 a man, 0 a woman.
    age
        Of each face in years; ``None`` where it is not known.
    measures
        True measurements of each face in mm; ``None`` where they are not known.
    measure_names
        Their names.
    """

    speech: v2f.Speech | SpeakerRecordings
    heard: Float[Tensor, "recordings frames bands"]
    speakers: Int[Tensor, " recordings"]
    pictures: Float[Tensor, "pictures 3 side side"]
    shown: Int[Tensor, " pictures"]
    sex: Int[np.ndarray, " people"]
    age: Float[np.ndarray, " people"] | None
    measures: Float[np.ndarray, "people measures"] | None
    measure_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.sex)


@dataclass(frozen=True)
class People:
    """Both sides, with no person in common, and how recordings were prepared."""

    train: Side
    test: Side
    front_end: FrontEnd
    name: str

    @property
    def fingerprint(self) -> str:
        """The training data's part of a cache key."""
        parts = {"speech": self.train.speech.identities.tolist(), "shown": self.train.shown.tolist()}
        stored = getattr(self.train.speech, "fingerprint", None)
        parts["sound"] = stored or float(self.train.heard.double().square().sum())
        parts["pictures"] = float(self.train.pictures.double().square().sum())
        return provenance.key_hash(parts)


def people(exp: Experiment, world: str = "linked") -> People:
    """The people of a run.

    Parameters
    ----------
    exp
        ``exp.data`` is ``"world"``, or ``"voxceleb"`` with the folder of `paper_utils.data.voices_and_faces.read` as ``exp.data_root``.
    world
        ``"linked"``; ``"sex only"``: everybody has the voice of somebody else of the same sex (control N2); ``"shuffled"``: of anybody
        else (control N1). Voices are dealt inside the training people and inside the test people, so the recordings and the faces stay the
        same and only who belongs to whom changes.

    Raises
    ------
    ValueError
        For an unknown world, or a control on real data.
    """
    if world not in WORLDS:
        raise ValueError(f"world: expected one of {', '.join(WORLDS)}, found {world!r}")
    if exp.data == "voxceleb":
        if world != "linked":
            raise ValueError(f"world {world!r}: controls are made of synthetic people; run them with data='world'")
        return _real_people(exp)
    sides = [_side(_population(exp), chosen, exp, world) for chosen in _ranges(scale(exp))]
    return People(*sides, FrontEnd("world", minimum=sides[0].heard.shape[1]), "synthetic people")


def _population(exp: Experiment) -> Population:
    size = scale(exp)
    return Population(seed=exp.seed, size=size.learned + size.unseen, voice_face_link=size.link)


def _ranges(size: Scale) -> tuple[range, range]:
    """Training people, test people."""
    return range(size.learned), range(size.learned, size.learned + size.unseen)


def _measures(who: world_people.People) -> Float[np.ndarray, "people measures"]:
    whole = head(2)
    return measure(whole.anatomy(neutral_faces(who, whole)), DISTANCES).double().numpy()


def _side(population: Population, chosen: range, exp: Experiment, world: str) -> Side:
    size = scale(exp)
    made = voices(
        population, chosen, size.recordings, seconds=size.seconds, mel=size.sizes.bands, severity=size.severity, sections=22,
        seed=exp.seed,
    )  # fmt: skip
    shared = WORLDS[world]
    if shared is not None:
        made = deal(made, exp.rng(f"deal {chosen.start}"), within=shared)
    pictures = passport_pictures(population, chosen, size.pictures, size=size.sizes.image, seed=exp.seed)
    heard = audio.normalise_recording(made.stacked())
    speakers = made.identities - chosen.start
    who = population.people(chosen)
    return Side(
        speech=v2f.Speech.of(heard, speakers),
        heard=heard,
        speakers=speakers,
        pictures=pictures.images,
        shown=pictures.identities - chosen.start,
        sex=who.sex,
        age=who.age,
        measures=_measures(who),
        measure_names=tuple(m.name for m in DISTANCES),
    )


def _real_people(exp: Experiment) -> People:
    """VoxCeleb and VGGFace people by the published split; for the evaluation a few recordings of each, cut to the front end's minimum (1,000 frames)."""
    size = scale(exp)
    parts = voices_and_faces.read(exp.data_root, ("train", "test"), size=(size.sizes.image, size.sizes.image))
    front_end = parts["train"].voices.hear
    sides = []
    for name in ("train", "test"):
        joined = parts[name]
        rows = voices_and_faces.some_of_each(joined.voices.identities, size.recordings, exp.rng(f"{name}, heard"))
        heard = [audio.repeat_frames(joined.voices.features(row)[None], front_end.minimum)[0] for row in rows.tolist()]
        # Training sees all pictures; as floats those of the official archive take 5 GB.
        faces = joined.load_faces(max_bytes=2**34)
        sides.append(
            Side(
                speech=joined.voices,
                heard=torch.stack([frames[: front_end.minimum] for frames in heard]),
                speakers=joined.voices.identities[rows],
                pictures=faces.images,
                shown=faces.identities,
                sex=joined.covariates["sex"].numpy(),
                age=None,
                measures=None,
            )
        )
    return People(*sides, front_end, parts["train"].name)


# ------------------------------------------------------------------------------------------------------------ 3. training


@dataclass(frozen=True)
class Trained:
    """Networks of one run, and what their training logged.

    Parameters
    ----------
    model
        Voice network and generator.
    critics
        As they were at the end.
    losses
        By name, see `v2f.train_gan`.
    """

    model: v2f.Reconstructor
    critics: v2f.Critics
    losses: dict[str, Float[np.ndarray, ...]]


def _cached(
    name: str, exp: Experiment, who: People, settings: Mapping[str, Any], train: Callable[[Path], dict[str, Any]],
    fabric: lightning_fabric.Fabric | None = None,
) -> dict[str, Any]:  # fmt: skip
    key = {"data": who.fingerprint, "seed": exp.seed, **settings}
    return training.cached(
        f"voice_to_face_{name}", key, train, code=[Path(v2f.__file__), Path(__file__)], fabric=fabric
    )


def voice_network(
    exp: Experiment, who: People, fabric: lightning_fabric.Fabric | None = None
) -> tuple[VoiceEncoder, np.ndarray]:
    """Stage 1, from the cache if it is there: the voice network, and the loss of every step.

    Where voices are dealt to others, speakers have other numbers and nothing else changes, so a control can use the network of the linked
    world.
    """
    size, run = scale(exp), fabric or training.launch(str(exp.device))

    def train(checkpoint: Path) -> dict[str, Any]:
        encoder, loss = v2f.train_voice(
            run, who.train.speech, size.sizes, size.voice, seed=exp.seed, checkpoint=checkpoint
        )
        return {"encoder": encoder.cpu().state_dict(), "loss": torch.from_numpy(loss)}

    state = _cached("voice", exp, who, _plain(sizes=size.sizes, config=size.voice), train, run)
    encoder = VoiceEncoder(size.sizes.bands, size.sizes.dim, channels=size.sizes.voice)
    encoder.load_state_dict(state["encoder"])
    return encoder.eval().requires_grad_(False), state["loss"].numpy()


def _plain(**settings: Any) -> dict[str, Any]:
    return {name: dataclasses.asdict(value) for name, value in settings.items()}


def faces_from_voices(
    exp: Experiment,
    who: People,
    encoder: VoiceEncoder,
    fabric: lightning_fabric.Fabric | None = None,
    **changes: float,
) -> Trained:
    """Stage 2, from the cache if it is there.

    Parameters
    ----------
    exp, who
        The run and its people, linked or not.
    encoder
        From stage 1.
    fabric
        Where to train; ``exp.device`` if not given.
    changes
        Of `v2f.GanTraining`, such as ``identity=0`` for control N3.
    """
    size, run = scale(exp), fabric or training.launch(str(exp.device))
    config = dataclasses.replace(size.gan, **changes)

    def train(checkpoint: Path) -> dict[str, Any]:
        with torch.no_grad():
            first = [torch.nonzero(who.train.speakers == person)[0, 0] for person in range(min(8, len(who.train)))]
            watched = v2f.on_sphere(encoder(who.train.heard[torch.stack(first)].transpose(1, 2)))
        generator, critics, losses = v2f.train_gan(
            run, encoder, who.train.speech, who.train.pictures, who.train.shown, size.sizes,
            config, seed=exp.seed, checkpoint=checkpoint, watched=watched, watch_at=size.watch_at,
        )  # fmt: skip
        return {
            "generator": generator.cpu().state_dict(),
            "critics": critics.cpu().state_dict(),
            "losses": {name: torch.from_numpy(values) for name, values in losses.items()},
        }

    voice = {name: float(value.double().square().sum()) for name, value in encoder.state_dict().items()}
    state = _cached("faces", exp, who, {**_plain(sizes=size.sizes, config=config), "voice": voice}, train, run)
    generator, critics = v2f.Generator(size.sizes, seed=0), v2f.Critics(size.sizes, len(who.train), seed=0)
    generator.load_state_dict(state["generator"])
    critics.load_state_dict(state["critics"])
    generator.to(memory_format=torch.channels_last)  # as in training: the same numbers in half the time
    model = v2f.Reconstructor(encoder, generator, size.sizes, who.front_end)
    losses = {name: values.numpy() for name, values in state["losses"].items()}
    return Trained(model, critics.eval().requires_grad_(False), losses)


def model_path(profile: str = "quick") -> Path:
    """Where the networks for a reader's own recording stand, see `paper_utils.voice_to_face`."""
    return files.output_root(profile) / ".cache" / "voice_to_face" / f"{profile}.safetensors"


def trainings(exp: Experiment) -> dict[str, Callable[[lightning_fabric.Fabric], Float[np.ndarray, " steps"]]]:
    """The study's trainings as calls that fill the cache and give the loss of every step; ``linked`` also writes `model_path`."""

    def stage_two(world: str, fabric: lightning_fabric.Fabric, **changes: float) -> np.ndarray:
        encoder, _ = voice_network(exp, people(exp), fabric)
        trained = faces_from_voices(exp, people(exp, world), encoder, fabric, **changes)
        if world == "linked" and not changes and fabric.is_global_zero:
            v2f.save(trained.model, model_path(exp.profile))
        return trained.losses["fooled"] + trained.losses["speaker"]

    calls = {
        "voice": lambda fabric: voice_network(exp, people(exp), fabric)[1],
        "linked": partial(stage_two, "linked"),
        "no identity": partial(stage_two, "linked", identity=0.0),
    }
    if exp.data == "world":
        calls |= {name: partial(stage_two, name) for name in ("sex only", "shuffled")}
    return calls


# ------------------------------------------------------------------------------------------------------------ 4. the judge


class Judge(nn.Module):
    """The face embedder of the evaluation: it knows real training faces and nothing of the generator or its critics.

    Four convolutions with batch normalisation and a normalised softmax over the training people. It is trained on blurred, noisy, brightened
    and tinted pictures, so that it reads a face in a generated picture instead of its flaws.

    Parameters
    ----------
    classes
        Training people.
    side
        Pixels a side.
    seed
        Of the first weights.
    """

    WIDTHS = (16, 32, 64, 96)
    DIM = 64
    SCALE = 12.0  # on cosines; choice of ours for some hundred classes

    def __init__(self, classes: int, side: int, *, seed: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in zip((3, *self.WIDTHS[:-1]), self.WIDTHS, strict=True):
            layers += [nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        left = (side // 2 ** len(self.WIDTHS)) ** 2
        self.trunk = nn.Sequential(
            *layers, nn.Flatten(), nn.Linear(left * self.WIDTHS[-1], self.DIM, bias=False), nn.BatchNorm1d(self.DIM, affine=False)
        )  # fmt: skip
        self.people = nn.Parameter(torch.empty(classes, self.DIM))
        generator = torch.Generator().manual_seed(seed)
        initialise_(self, generator)
        nn.init.normal_(self.people, generator=generator)

    def forward(self, images: Float[Tensor, "batch 3 side side"]) -> Float[Tensor, "batch dim"]:
        """Embeddings of length 1."""
        return functional.normalize(self.trunk(images), dim=1)

    def loss(self, images: Float[Tensor, "batch 3 side side"], labels: Int[Tensor, " batch"]) -> Float[Tensor, ""]:
        """Cross-entropy of scaled cosines with one vector a person."""
        return functional.cross_entropy(self.SCALE * self(images) @ functional.normalize(self.people, dim=1).T, labels)

    @torch.no_grad()
    def embed(self, images: Float[Tensor, "n 3 side side"]) -> Float[Tensor, "n dim"]:
        """Embeddings of any number of pictures, in float64."""
        return torch.cat([self(part) for part in images.clamp(-1, 1).split(512)]).double()


def spoiled(images: Float[Tensor, "n 3 side side"], generator: torch.Generator) -> Float[Tensor, "n 3 side side"]:
    """Pictures mirrored, blurred, with noise, other contrast and other tint, each by chance; what they show stays the same."""
    count = len(images)
    images = v2f.random_flips(images, generator)
    blurred = functional.avg_pool2d(functional.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)
    images = torch.lerp(images, blurred, torch.rand(count, 1, 1, 1, generator=generator))
    noise = torch.randn(images.shape, generator=generator)
    images = images + 0.15 * torch.rand(count, 1, 1, 1, generator=generator) * noise
    contrast = 1 + 0.2 * torch.randn(count, 1, 1, 1, generator=generator)
    return images * contrast + 0.1 * torch.randn(count, 3, 1, 1, generator=generator)


def judge(exp: Experiment, who: People) -> Judge:
    """The trained embedder, from the cache if it is there."""
    size = scale(exp)
    side, images, labels = who.train, who.train.pictures, who.train.shown
    batch = min(64, len(images))

    def train(checkpoint: Path) -> dict[str, Any]:
        network = Judge(len(side), size.sizes.image, seed=exp.seed).to(memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, size.judge_steps)
        run = training.Run(
            training.launch("cpu"), {"judge": network}, optimizer, steps=size.judge_steps, schedule=schedule, checkpoint=checkpoint
        )  # fmt: skip
        for step in run:
            rows = training.batch_indices(len(images), batch, step, seed=exp.seed)
            chance = torch.Generator().manual_seed(int(np.random.default_rng([exp.seed, 5, step]).integers(2**63 - 1)))
            run.update(network.loss(spoiled(images[rows], chance), labels[rows]))
        return {"judge": network.state_dict()}

    network = Judge(len(side), size.sizes.image, seed=exp.seed)
    network.load_state_dict(_cached("judge", exp, who, {"steps": size.judge_steps}, train)["judge"])
    return network.eval().requires_grad_(False)


# -------------------------------------------------------------------------------------------------------------- 5. matching


@dataclass(frozen=True)
class Matching:
    """Voice-to-face 1:2 matching, exact over all pairs of faces, with intervals over resampled people.

    Parameters
    ----------
    any_impostor, same_sex, other_sex
        U, G and A: the impostor is anybody, of the speaker's sex, of the other sex. Shares of trials.
    wins
        The table behind them.
    draws
        The same three on every resample, by name.
    """

    any_impostor: Estimate
    same_sex: Estimate
    other_sex: Estimate
    wins: cross_modal.PairWins
    draws: dict[str, Float[np.ndarray, " resamples"]]


def match(
    probes: Float[Tensor, "probes dim"],
    probe_people: Int[Tensor, " probes"],
    gallery: Float[Tensor, "gallery dim"],
    gallery_people: Int[Tensor, " gallery"],
    sex: Int[np.ndarray, " people"],
    *,
    weights: Int[np.ndarray, "resamples people"],
) -> Matching:
    r"""How often the probe's own face is more alike than another's: cosine, ties half, speakers averaged alike.

    .. math:: A_i = \mathrm{mean}_{jk}\; [s_{ij} > s_{ik}] + \tfrac12 [s_{ij} = s_{ik}]

    over all own faces :math:`j` and all faces :math:`k` of impostors, so that an impostor with many pictures weighs more.

    Parameters
    ----------
    probes, probe_people
        Embeddings and who they should match.
    gallery, gallery_people
        Embeddings of real faces and who is on them.
    sex
        Of all people.
    weights
        Resamples of people (`resample_identities`); probes and rivals are drawn at once.
    """
    scores = (functional.normalize(probes.double(), dim=1) @ functional.normalize(gallery.double(), dim=1).T).numpy()
    wins = cross_modal.pair_wins(scores, probe_people.numpy(), gallery_people.numpy(), len(sex))
    everybody, alike = ~np.eye(len(sex), dtype=bool), sex[:, None] == sex
    eligible = {"any_impostor": everybody, "same_sex": alike & everybody, "other_sex": ~alike}
    found = {name: wins.accuracy(rivals, weights=weights, average="people") for name, rivals in eligible.items()}
    estimates = {
        name: percentile_estimate(measured.value, measured.draws, len(sex)) for name, measured in found.items()
    }
    return Matching(**estimates, wins=wins, draws={name: measured.draws for name, measured in found.items()})


def difference(one: Matching, other: Matching, which: str = "same_sex", *, same_people: bool = True) -> Estimate:
    """How much more often `one` is right than `other`.

    Parameters
    ----------
    one, other
        Of two kinds of probes, or of two groups of people.
    which
        ``"any_impostor"``, ``"same_sex"`` or ``"other_sex"``.
    same_people
        Whether both are about the same people, drawn alike: then their resamples are paired, which makes the interval narrow. Otherwise the
        order of one is turned round, since the resamples of two groups have nothing to do with each other.

    Raises
    ------
    ValueError
        If they were drawn a different number of times.
    """
    first, second = one.draws[which], other.draws[which]
    if len(first) != len(second):
        raise ValueError(f"difference: expected equally many resamples, found {len(first)} and {len(second)}")
    value = getattr(one, which).value - getattr(other, which).value
    return percentile_estimate(value, first - (second if same_people else second[::-1]), getattr(one, which).n)


def sex_only_ceiling(sex: Int[np.ndarray, " people"]) -> float:
    r"""U of somebody who hears the sex perfectly and nothing else: :math:`p + (1 - p)/2` with p the share of pairs that differ in sex."""
    men = float(np.mean(sex == MALE))
    share = 2 * men * (1 - men) * len(sex) / (len(sex) - 1)
    return share + (1 - share) / 2


@dataclass(frozen=True)
class Evaluation:
    """Everything that judges one set of people with one embedder; made once, used for every run and baseline.

    Parameters
    ----------
    side
        The people, with their true speakers.
    gallery
        Embeddings of their real pictures.
    weights
        Resamples of people.
    """

    side: Side
    gallery: Float[Tensor, "pictures dim"]
    weights: Int[np.ndarray, "resamples people"]

    @classmethod
    def of(cls, exp: Experiment, side: Side, network: Judge, *, resamples: int = RESAMPLES) -> Evaluation:
        """Embed the real pictures of `side`."""
        weights = resample_identities(len(side), resamples, exp.rng("people drawn"))
        return cls(side, network.embed(side.pictures), weights)

    def match(self, probes: Float[Tensor, "probes dim"], speakers: Int[Tensor, " probes"] | None = None) -> Matching:
        """Probes made from all recordings (or of the given people) against all pictures."""
        who = self.side.speakers if speakers is None else speakers
        return match(probes, who, self.gallery, self.side.shown, self.side.sex, weights=self.weights)

    def real_faces(self) -> Matching:
        """Upper bound (h): everybody's even pictures are the probes, the odd ones the gallery."""
        even = torch.arange(len(self.gallery)) % 2 == 0
        shown = self.side.shown
        return match(
            self.gallery[even], shown[even], self.gallery[~even], shown[~even], self.side.sex, weights=self.weights
        )

    def relabelled(self, probes: Float[Tensor, "probes dim"], rng: np.random.Generator) -> Matching:
        """Control N4: the same probes, but every face of the gallery carries somebody else's name."""
        new = torch.from_numpy(np.roll(rng.permutation(len(self.side)), 1))
        old = torch.empty_like(new)
        old[new] = new.roll(1)
        return match(
            probes, self.side.speakers, self.gallery, old[self.side.shown], self.side.sex, weights=self.weights
        )


@torch.no_grad()
def generate(model: v2f.Reconstructor, heard: Float[Tensor, "n frames bands"]) -> Float[Tensor, "n 3 side side"]:
    """One face for each recording, clamped to [-1, 1]."""
    return torch.cat([model(part.transpose(1, 2)) for part in heard.split(256)]).clamp(-1, 1)


@torch.no_grad()
def voice_embeddings(encoder: VoiceEncoder, heard: Float[Tensor, "n frames bands"]) -> Float[Tensor, "n dim"]:
    """Voices on the sphere, in float64."""
    return torch.cat([v2f.on_sphere(encoder(part.transpose(1, 2))) for part in heard.split(256)]).double()


def duration_curve(
    evaluation: Evaluation, model: v2f.Reconstructor, network: Judge, frames: tuple[int, ...]
) -> dict[int, Matching]:
    """Matching when the voice network hears only the first so many frames of each recording; the trials are the same."""
    heard = evaluation.side.heard
    return {count: evaluation.match(network.embed(generate(model, heard[:, :count]))) for count in frames}


# ------------------------------------------------------------------------------------------------------------ 6. baselines


def person_means(
    values: Float[Tensor, "items dim"], who: Int[Tensor, " items"], people: int
) -> Float[Tensor, "people dim"]:
    """Mean of each person's items."""
    total = torch.zeros(people, values.shape[1], dtype=values.dtype).index_add_(0, who, values)
    return total / who.bincount(minlength=people)[:, None]


@dataclass(frozen=True)
class Baselines:
    """What can be had without a generator: probes for every test recording, by name.

    Parameters
    ----------
    probes
        ``"mean face of the heard sex"`` (c), ``"regression, no picture"`` (d), ``"face of the nearest speaker"`` (e).
    heard_sex
        Sex predicted from each test recording, 1 a man.
    """

    probes: dict[str, Float[Tensor, "recordings dim"]]
    heard_sex: Int[np.ndarray, " recordings"]


def baselines(who: People, encoder: VoiceEncoder, network: Judge) -> Baselines:
    """Fit them on the training people.

    The sex and the face embedding are predicted from the voice embedding by ridge regression (regularisation by leave-one-out on the
    training recordings).
    """
    train, test = who.train, who.test
    known, unknown = (voice_embeddings(encoder, side.heard) for side in (train, test))
    faces = network.embed(train.pictures)
    centres = person_means(faces, train.shown, len(train))
    speakers = train.speakers.numpy()
    regression = RidgeCV(RIDGE).fit(known, centres[train.speakers])
    men = RidgeCV(RIDGE).fit(known, train.sex[speakers])
    heard_sex = (men.predict(unknown) > train.sex[speakers].mean()).astype(int)
    mean_face = [train.pictures[torch.from_numpy(train.sex == sex)[train.shown]].mean(0) for sex in (0, MALE)]
    voices_of = functional.normalize(person_means(known, train.speakers, len(train)), dim=1)
    nearest = (unknown @ voices_of.T).argmax(1)
    first = torch.stack([torch.nonzero(train.shown == person)[0, 0] for person in range(len(train))])
    return Baselines(
        {
            "mean face of the heard sex": network.embed(torch.stack(mean_face))[torch.from_numpy(heard_sex)],
            "regression, no picture": torch.from_numpy(regression.predict(unknown)),
            "face of the nearest speaker": faces[first[nearest]],
        },
        heard_sex,
    )


# ----------------------------------------------------------------------------------- 7. traits and measurements of the faces


def _people_bootstrap(values: Float[np.ndarray, " people"], weights: Int[np.ndarray, "resamples people"]) -> Estimate:
    return percentile_estimate(float(values.mean()), weights @ values / weights.sum(1), len(values))


def sex_agreement(
    train: Side,
    train_faces: Float[Tensor, "pictures dim"],
    evaluation: Evaluation,
    probes: Float[Tensor, "recordings dim"],
) -> Estimate:
    """Share of generated faces on the speaker's side of the plane half-way between the mean embeddings of real men and real women."""
    man = torch.from_numpy(train.sex == MALE)[train.shown]
    centres = train_faces[man].mean(0), train_faces[~man].mean(0)
    direction = centres[0] - centres[1]
    looks_male = (probes @ direction > sum(centre @ direction for centre in centres) / 2).numpy()
    side = evaluation.side
    agree = torch.from_numpy((looks_male == (side.sex[side.speakers.numpy()] == MALE)).astype(float))
    return _people_bootstrap(person_means(agree[:, None], side.speakers, len(side))[:, 0].numpy(), evaluation.weights)


@dataclass(frozen=True)
class FaceReader:
    """Linear maps from a picture to what is true of the face: measurements in mm, and years. Fitted on real training pictures.

    Parameters
    ----------
    regression
        Of the standardised truth on the main directions of the pixels.
    mean, sd
        Of the truth over training people; the last column is the age.
    women, men
        Means of each sex over training people.
    names
        Of the columns.
    """

    regression: Any
    mean: Float[np.ndarray, " columns"]
    sd: Float[np.ndarray, " columns"]
    women: Float[np.ndarray, " columns"]
    men: Float[np.ndarray, " columns"]
    names: tuple[str, ...]

    @staticmethod
    def truth(side: Side) -> Float[np.ndarray, "people columns"]:
        """Measurements, and the age in the last column."""
        if side.measures is None or side.age is None:
            raise ValueError("face reader: measurements and ages are known of synthetic people only; use data='world'")
        return np.column_stack([side.measures, side.age])

    @classmethod
    def fit(cls, side: Side, *, directions: int = 150) -> FaceReader:
        """Ridge regression on at most `directions` main directions of the pictures."""
        truth = cls.truth(side)
        mean, sd = truth.mean(0), truth.std(0)
        count = min(directions, len(side.pictures) // 2)
        regression = make_pipeline(
            PCA(count, svd_solver="randomized", random_state=0), StandardScaler(), RidgeCV(RIDGE)
        )
        regression.fit(side.pictures.flatten(1).numpy(), ((truth - mean) / sd)[side.shown.numpy()])
        women, men = (truth[side.sex == sex].mean(0) for sex in (0, MALE))
        return cls(regression, mean, sd, women, men, (*side.measure_names, "age"))

    def read(
        self, pictures: Float[Tensor, "n 3 side side"], who: Int[Tensor, " n"], people: int
    ) -> Float[np.ndarray, "people columns"]:
        """Mean reading of each person's pictures, in mm and years."""
        read = torch.from_numpy(self.regression.predict(pictures.flatten(1).numpy()))
        return person_means(read, who, people).numpy() * self.sd + self.mean


@dataclass(frozen=True)
class Readings:
    r"""How well faces tell measurements, in squared errors over training variances.

    Parameters
    ----------
    names
        Columns.
    generated, sex_mean, mean_face, real
        Squared error of each person and column when the generated face is read, when everybody gets the mean of the speaker's sex or the mean
        face, and when the real pictures are read, over the variance.
    read, truth
        Readings of generated faces and the truth, in mm and years.
    """

    names: tuple[str, ...]
    generated: Float[np.ndarray, "people columns"]
    sex_mean: Float[np.ndarray, "people columns"]
    mean_face: Float[np.ndarray, "people columns"]
    real: Float[np.ndarray, "people columns"]
    read: Float[np.ndarray, "people columns"]
    truth: Float[np.ndarray, "people columns"]

    def explained(self, which: str, over: str) -> Float[np.ndarray, " columns"]:
        """:math:`1 - \\sum e^2 / \\sum e_0^2` of each column: 1 perfect, 0 no better than `over`, negative worse."""
        return 1 - getattr(self, which).sum(0) / getattr(self, over).sum(0)

    def gain(
        self, over: str, weights: Int[np.ndarray, "resamples people"], columns: np.ndarray | slice = slice(None)
    ) -> Estimate:
        """The same for generated faces over all `columns` together, with its interval over people."""
        ours, theirs = (getattr(self, name)[:, columns].sum(1) for name in ("generated", over))
        draws = 1 - (weights @ ours) / (weights @ theirs)
        return percentile_estimate(float(1 - ours.sum() / theirs.sum()), draws, len(ours))


def readings(
    reader: FaceReader,
    side: Side,
    generated: Float[Tensor, "recordings 3 side side"],
    heard_sex: Int[np.ndarray, " recordings"],
) -> Readings:
    """Read measurements off the generated faces of test people and compare with the truth.

    Parameters
    ----------
    reader
        Fitted on real training faces.
    side, generated
        Test people and the faces generated from their recordings.
    heard_sex
        Sex predicted from each recording: the mean face of that sex is what a listener without the generator would answer.
    """
    truth, people_ = FaceReader.truth(side), len(side)
    share = person_means(torch.from_numpy(heard_sex)[:, None].double(), side.speakers, people_).numpy()
    answers = {
        "generated": reader.read(generated, side.speakers, people_),
        "sex_mean": share * reader.men + (1 - share) * reader.women,
        "mean_face": np.broadcast_to(reader.mean, truth.shape),
        "real": reader.read(side.pictures, side.shown, people_),
    }
    errors = {name: ((answer - truth) / reader.sd) ** 2 for name, answer in answers.items()}
    return Readings(reader.names, **errors, read=answers["generated"], truth=truth)


@dataclass(frozen=True)
class Correlations:
    """Correlation between what faces show and what is true, inside a sex, of every column.

    Parameters
    ----------
    names
        Columns.
    values, draws
        On the people as they are, and on each resample.
    people
        How many.
    """

    names: tuple[str, ...]
    values: Float[np.ndarray, " columns"]
    draws: Float[np.ndarray, "resamples columns"]
    people: int

    def of(self, name: str) -> Estimate:
        """One column with its interval."""
        column = self.names.index(name)
        return percentile_estimate(float(self.values[column]), self.draws[:, column], self.people)

    def mean(self, names: Sequence[str]) -> Estimate:
        """Mean over some columns with its interval."""
        columns = [self.names.index(name) for name in names]
        value = float(self.values[columns].mean())
        return percentile_estimate(value, self.draws[:, columns].mean(1), self.people)


def within_sex_correlations(
    found: Readings, sex: Int[np.ndarray, " people"], weights: Int[np.ndarray, "resamples people"]
) -> Correlations:
    """Blind to scale and offset of the readings, and to sex: the means of men and of women are taken off first.

    A generated face that shows nothing but the sex has correlation 0, and so has the mean face of a sex.
    """

    shown, true = _without_sex(found.read, sex), _without_sex(found.truth, sex)
    drawn = np.concatenate([np.ones((1, len(sex))), weights])
    joint, first, second = (drawn @ product for product in (shown * true, shown**2, true**2))
    every = joint / np.sqrt(first * second)
    return Correlations(found.names, every[0], every[1:], len(sex))


def told_by_tract(exp: Experiment) -> dict[str, float]:
    """How much of each measurement the true vocal tract tells inside a sex: explained variance of unseen people, by measurement.

    The ceiling for everybody who listens, and zero where the world has no link. Ridge regression of the measurements on the sizes of all
    cavities, fitted on the training people; the means of men and of women are taken off first.
    """
    size, population = scale(exp), _population(exp)
    sides = []
    for chosen in _ranges(size):
        who = population.people(chosen)
        sides.append([_without_sex(values, who.sex) for values in (who.anatomy, _measures(who))])
    (cavities, known), (others, truth) = sides
    explained = 1 - ((RidgeCV(RIDGE).fit(cavities, known).predict(others) - truth) ** 2).sum(0) / (truth**2).sum(0)
    return {m.name: float(share) for m, share in zip(DISTANCES, explained, strict=True)}


def _without_sex(values: Float[np.ndarray, "people columns"], sex: Int[np.ndarray, " people"]) -> np.ndarray:
    return values - np.stack([values[sex == s].mean(0) for s in (0, MALE)])[sex]


# ------------------------------------------------------------------------------------------------------ 8. checks of the game


@dataclass(frozen=True)
class Consistency:
    """Mean cosine of generated faces: of one person's recordings, of different people of one sex, of different sexes."""

    same_person: float
    same_sex: float
    other_sex: float


def consistency(side: Side, probes: Float[Tensor, "recordings dim"]) -> Consistency:
    """How alike the faces are that come from different recordings. That one person's are alike is no evidence that they are right."""
    unit = functional.normalize(probes, dim=1)
    cosine = (unit @ unit.T).numpy()
    speaker = side.speakers.numpy()
    same, alike = speaker[:, None] == speaker, side.sex[speaker][:, None] == side.sex[speaker]
    return Consistency(
        float(cosine[same & ~np.eye(len(speaker), dtype=bool)].mean()),
        float(cosine[alike & ~same].mean()),
        float(cosine[~alike].mean()),
    )


@dataclass(frozen=True)
class Inputs:
    """What the networks make of an input: faces, how alike they are, and what the critics say.

    Parameters
    ----------
    pictures
        Some of them.
    cosine
        Mean over pairs of pictures, of their embeddings.
    real
        Mean probability of being a photograph.
    largest
        Mean largest probability over the training people.
    """

    pictures: Float[Tensor, "n 3 side side"]
    cosine: float
    real: float
    largest: float


def inputs(
    trained: Trained, network: Judge, who: People, rng: np.random.Generator, *, count: int = 64
) -> dict[str, Inputs]:
    """Test voices, noise in place of a voice (normalised like one), and real faces, before the critics."""
    heard = who.test.heard
    chosen = rng.permutation(len(heard))[:count]
    noise = torch.from_numpy(rng.standard_normal((count, *heard.shape[1:]))).to(heard)
    pictures = {
        "voice": generate(trained.model, heard[chosen]),
        "noise": generate(trained.model, audio.normalise_recording(noise)),
        "real face": who.test.pictures[rng.permutation(len(who.test.pictures))[:count]],
    }
    found = {}
    for name, images in pictures.items():
        embedded = network.embed(images)
        cosine = embedded @ embedded.T
        with torch.no_grad():
            score, people_ = trained.critics(images)
        found[name] = Inputs(
            images,
            float((cosine.sum() - cosine.trace()) / (len(images) * (len(images) - 1))),
            float(score.sigmoid().mean()),
            float(people_.softmax(1).amax(1).mean()),
        )
    return found


@dataclass(frozen=True)
class Variety:
    """Diagnostics of collapse: how much pictures differ, and how far their embeddings are from those of real test faces.

    Parameters
    ----------
    diversity, real_diversity
        See `v2f.diversity`.
    distance, real_distance
        Fréchet distance of embeddings to real test faces, of generated faces and of real training faces in the same number.
    """

    diversity: float
    real_diversity: float
    distance: float
    real_distance: float


def variety(
    who: People, network: Judge, generated: Float[Tensor, "n 3 side side"], rng: np.random.Generator
) -> Variety:
    """Compare generated faces of test people with their real faces; the embedder knows neither."""
    real = network.embed(who.test.pictures).numpy()
    chosen = rng.permutation(len(who.train.pictures))[: len(generated)]
    return Variety(
        v2f.diversity(generated),
        v2f.diversity(who.test.pictures),
        frechet_distance(network.embed(generated).numpy(), real),
        frechet_distance(network.embed(who.train.pictures[chosen]).numpy(), real),
    )
