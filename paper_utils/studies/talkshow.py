"""What notebook 08 trains and measures: TalkSHOW and its rivals on sentences that four people gesture to, and worlds that switch an effect off.

It stands above the method and below the notebook and `paper_utils.train`, which both use it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import lightning_fabric
import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from paper_utils import files, training
from paper_utils.data.motion_clips import Clips
from paper_utils.experiment import Experiment
from paper_utils.methods import talkshow as ts
from paper_utils.metrics import motion as metric
from paper_utils.metrics.beats import (
    SMOOTHING_FRAMES,
    BeatConsistency,
    arm_angles,
    beat_consistency,
    mean_angle_change,
    motion_beats,
)
from paper_utils.metrics.frechet import frechet_distance
from paper_utils.metrics.statistics import Estimate, bootstrap_interval
from paper_utils.nn.pixelcnn import PixelCnnConfig
from paper_utils.nn.quantizer import QuantizerConfig
from paper_utils.recipes import talkshow as recipe
from paper_utils.recipes import talkshow_files
from paper_utils.world import gesture_clips, skeleton
from paper_utils.world.face import EXPRESSION_UNITS
from paper_utils.world.gesture_tables import BODY_TEMPLATES
from paper_utils.world.gestures import FPS, GestureKnobs, GestureSettings, HolisticMotion
from paper_utils.world.pose_layout import assemble, face_columns, upper_columns

BODY = ts.BODY
UPPER, FACE = upper_columns(), face_columns()
_MOUTH = ("lip_round", "lip_spread", "lip_press", "lip_tuck", "lower_lip_drop", "upper_lip_raise")
# Of the columns of `FACE`: jaw, and what speech does to the lips. Brows, lids and smiles have a life of their own.
MOUTH = np.array([0, *(3 + EXPRESSION_UNITS.index(name) for name in _MOUTH)])
PARTS = {"body": slice(0, BODY), "hands": slice(BODY, None), "single": slice(None)}
# Each changes one thing of the first.
WORLDS = {
    "main": GestureKnobs(),
    "uncoupled": GestureKnobs(rho=0.0),
    "coupled": GestureKnobs(rho=1.0),
    "told": GestureKnobs(kappa=1.0),
    "face unlinked": GestureKnobs(face_link=0.0),
}
# Posture drifts a third as far as usual: 32 codes cannot say both where an arm drifts and what it does.
SETTINGS = GestureSettings(drift=0.3)
UNIT = (
    10.0  # networks learn tenths of a radian around the mean pose: steps of Adam then suit their first and last layers
)
SHUFFLES = 6  # other sentences that a training clip of the deaf world is heard with
PRIORS = ("cross", "independent", "deaf world")
VARIANTS = ("cross", "independent")
WINDOW_FRAMES, KEPT = 8, 32  # features of the Fréchet distance: short windows, so many whitened components
RESAMPLES = 400


# --------------------------------------------------------------------------------------------------------------- 1. sizes


@dataclass(frozen=True)
class Scale:
    """Sizes of a run. The quick ones are choices of ours for one core, fixed by the time they take.

    Parameters
    ----------
    train, test
        Sentences; of the test, a quarter by each speaker.
    takes
        How often the training sentences are acted for the comparison of joint and separate drawing, which needs many clips.
    runs
        Seeds of that comparison.
    codebook, prior
        Networks.
    codebook_training, official_steps, prior_training, regressor_training
        Schedules; `official_steps` is that of the official codebook, which is only watched dying.
    coupling_steps
        Steps of each prior of the comparison.
    draws
        For each sound.
    """

    train: int
    test: int
    takes: int
    runs: int
    codebook: ts.CodebookConfig
    prior: ts.PriorConfig
    codebook_training: ts.CodebookTraining
    official_steps: int
    prior_training: ts.PriorTraining
    regressor_training: ts.RegressorTraining
    coupling_steps: int
    draws: int = 4


def scale(exp: Experiment) -> Scale:
    """Sizes of this run's profile."""
    smoke, quick, full = "smoke", "quick", "full"
    steps = {smoke: (6, 4, 4, 4, 3), quick: (560, 40, 200, 200, 100), full: (4000, 400, 4000, 4000, 2000)}[exp.profile]
    sizes = {smoke: (64, 16, 1, 2), quick: (480, 160, 3, 3), full: (4000, 400, 3, 10)}[exp.profile]
    width, dim, codes = {smoke: (16, 8, 8), quick: (64, 16, 32), full: (256, 64, 256)}[exp.profile]
    layers, channels = {smoke: (2, 8), quick: (4, 24), full: (15, 128)}[exp.profile]
    lr = {smoke: 4e-3, quick: 4e-3, full: 1e-3}[exp.profile]
    grid = PixelCnnConfig(codes=codes, width=channels, layers=layers, head=64, audio=max(channels, 32))
    return Scale(
        *sizes,
        codebook=ts.CodebookConfig(width, 1, QuantizerConfig(codes=codes, dim=dim, decay=0.95)),
        prior=ts.PriorConfig(grid, features=gesture_clips.FEATURES, residual_layers=1),
        codebook_training=dataclasses.replace(
            ts.QUICK_CODEBOOK_TRAINING,
            steps=steps[0],
            batch={smoke: 12, quick: 12, full: 24}[exp.profile],
            warmup=steps[0] // 3,
            lr=lr,
            restart_every=max(steps[0] // 15, 1),
        ),
        official_steps=steps[1],
        prior_training=dataclasses.replace(ts.QUICK_PRIOR_TRAINING, steps=steps[2], lr=lr),
        regressor_training=ts.RegressorTraining(steps=steps[3], lr=6e-3),
        coupling_steps=steps[4],
    )


# --------------------------------------------------------------------------------------------------------------- 2. worlds


@dataclass(frozen=True)
class World:
    """Training and test clips of a world, and what was planted in the test clips."""

    train: Clips
    test: Clips
    truth: HolisticMotion


def upper_of(clips: Clips) -> Float[Tensor, "clips time 129"]:
    """Body and hands of clips of equal length."""
    return clips.motion.view(len(clips), -1, clips.motion.shape[1])[..., torch.from_numpy(UPPER)]


def joints_of(upper: Float[Tensor, "*batch time 129"]) -> Float[np.ndarray, "*batch time 55 3"]:
    """Positions in metres, legs in the sitting pose for everybody (no network predicts them)."""
    still = upper.new_zeros(*upper.shape[:-1], 103)
    return skeleton.positions(skeleton.pose_of(assemble(still, upper)))[..., : len(skeleton.JOINTS), :].numpy()


class Study:
    """The worlds, trainings and measurements of one run; everything is made when first asked for.

    Parameters
    ----------
    exp
        The run.
    fabric
        Where to train; ``exp.device`` if not given.

    Raises
    ------
    ValueError
        For other data than the world's, of which nobody knows the truth.
    """

    def __init__(self, exp: Experiment, fabric: lightning_fabric.Fabric | None = None) -> None:
        if exp.data != "world":
            raise ValueError(
                f"data: this notebook compares with the truth of worlds whose knobs it turns, which only 'world' has, found {exp.data!r}; "
                "train and evaluate on SHOW with `python -m paper_utils.train 08 --data show --data-root ...`"
            )
        self.exp, self.scale = exp, scale(exp)
        self._fabric = fabric
        self._worlds: dict[str, World] = {}
        self._trained: dict[str, Any] = {}

    @cached_property
    def fabric(self) -> lightning_fabric.Fabric:
        """Where to train."""
        return self._fabric or training.launch(str(self.exp.device))

    @cached_property
    def said(self) -> tuple[gesture_clips.Sentences, gesture_clips.Sentences]:
        """Training and test sentences."""
        both = gesture_clips.sentences(self.scale.train + self.scale.test, seed=self.exp.seed)
        return both.part(range(self.scale.train)), both.part(range(self.scale.train, len(both)))

    def world(self, name: str = "main") -> World:
        """Sentences acted in one of `WORLDS`.

        Raises
        ------
        ValueError
            If there is no such world.
        """
        if name not in WORLDS:
            raise ValueError(f"world: expected one of {', '.join(WORLDS)}, found {name!r}")
        if name not in self._worlds:
            test, seed = self.said[1], 1000 * self.exp.seed + 1
            truth = gesture_clips.act(test, seed=seed, knobs=WORLDS[name], settings=SETTINGS)
            self._worlds[name] = World(self.take(name, 0), gesture_clips.as_clips(test, truth, f"{name}, test"), truth)
        return self._worlds[name]

    def take(self, name: str, number: int) -> Clips:
        """Training sentences of a world with other gestures each time; take 0 is the one that `world` has."""
        train, seed = self.said[0], 1000 * self.exp.seed + 2 * number
        moved = gesture_clips.act(train, seed=seed, knobs=WORLDS[name], settings=SETTINGS)
        return gesture_clips.as_clips(train, moved, f"{name}, training")

    @cached_property
    def centre(self) -> Float[Tensor, " columns"]:
        """The mean frame of the training motion, around which all networks learn."""
        return self.world().train.motion.mean(0)

    def deaf(self) -> Clips:
        """Training clips whose sound is that of another sentence of the same speaker: gestures ignore speech.

        All clips `SHUFFLES` times, each time with another sentence: of one wrong partner a network could learn by heart what chance put together.
        """
        clips = self.world().train
        heard = clips.features.view(len(clips), -1, clips.features.shape[1])
        return dataclasses.replace(
            clips,
            motion=clips.motion[:, :1].repeat(SHUFFLES, 1),
            features=torch.cat([heard.roll(4 * by, 0) for by in range(1, SHUFFLES + 1)]).flatten(0, 1),
            starts=torch.arange(SHUFFLES * len(clips) + 1) * heard.shape[1],
            speakers=clips.speakers.repeat(SHUFFLES),
            name="gestures that ignore speech",
        )

    # ----------------------------------------------------------------------------------------------------- 3. trainings

    def _cached(self, name: str, key: Mapping[str, Any], train: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
        whole = {"scale": dataclasses.asdict(self.scale), "seed": self.exp.seed, "name": name, **key}
        code = [Path(ts.__file__), Path(gesture_clips.__file__), Path(__file__)]
        return training.cached("talkshow", whole, train, code=code, fabric=self.fabric)

    def _network(
        self, name: str, network: torch.nn.Module, train: Callable[[Path], tuple[torch.nn.Module, dict]]
    ) -> Any:
        """A trained network with its history, from memory, from the cache, or trained now."""
        if name not in self._trained:

            def fill(checkpoint: Path) -> dict[str, Any]:
                made, history = train(checkpoint)
                return {
                    "network": made.cpu().state_dict(),
                    "history": {key: torch.from_numpy(np.asarray(values)) for key, values in history.items()},
                }

            state = self._cached(name, {}, fill)
            network.load_state_dict(state["network"])
            self._trained[name] = network.eval(), {key: values.numpy() for key, values in state["history"].items()}
        return self._trained[name]

    def _seed(self, run: int) -> int:
        """Of the trainings of a run of the model; the first one's is the notebook's."""
        return self.exp.seed if run == 0 else self.exp.seeds(run + 1, "model")[run] % 2**31

    def _learned(self, world: str, columns: Int[np.ndarray, " columns"]) -> Clips:
        """Training clips with these columns of motion alone, in tenths of a radian around the mean pose."""
        clips, kept = self.world(world).train, torch.from_numpy(columns)
        return dataclasses.replace(clips, motion=UNIT * (clips.motion[:, kept] - self.centre[kept]))

    def codebook(
        self, part: str, world: str = "main", *, codes: int | None = None, unused: str = "keep", run: int = 0
    ) -> tuple[ts.VqVae, dict[str, Float[np.ndarray, " steps"]]]:
        """Codes of ``"body"``, ``"hands"`` or both together (``"single"``), and the history of their training.

        It encodes motion from which `centre` has been taken, and decodes to motion as it is.

        Parameters
        ----------
        part, world
            What is coded, and in which world.
        codes
            Another number of them.
        unused
            ``"official"``: codes move as in the released code, from random ones, without restarts, for `Scale.official_steps`.
        run
            Of the model, see `models`.
        """
        quantizer = dataclasses.replace(
            self.scale.codebook.quantizer, codes=codes or self.scale.codebook.quantizer.codes, unused=unused
        )
        config = dataclasses.replace(self.scale.codebook, quantizer=quantizer)
        settings = self.scale.codebook_training
        if unused == "official":
            settings = dataclasses.replace(
                settings, steps=self.scale.official_steps, warmup=0, start="random", restart_every=0, decay_share=0.0
            )
        columns = UPPER[PARTS[part]]
        seed = self._seed(run)

        def train(checkpoint: Path) -> tuple[ts.VqVae, dict]:
            network, history = ts.train_codebook(
                self._learned(world, columns), np.arange(len(columns)), config, settings,
                fabric=self.fabric, seed=seed, checkpoint=checkpoint,
            )  # fmt: skip
            return in_radians(network, self.centre[torch.from_numpy(columns)]), history

        name = f"codebook {part}, {world}, {quantizer.codes}, {unused}, {run}"
        return self._network(name, ts.VqVae(len(columns), config, seed=seed), train)

    def codes(self, clips: Clips, run: int = 0) -> Int[Tensor, "clips rows 2"]:
        """Codes of body and hands by the codebooks of the main world: the knobs change what goes together, not what there is."""
        windows = clips.windows(self.said[0].frames)
        clips = dataclasses.replace(clips, motion=clips.motion - self.centre)
        return ts.encode_windows(clips, windows, *(self.codebook(part, run=run)[0] for part in ("body", "hands")))

    def learned_codes(self, world: str = "main", run: int = 0) -> Int[Tensor, "clips rows 2"]:
        """`codes` of a world's training clips, encoded once."""
        name = f"codes {world}, {run}"
        if name not in self._trained:
            self._trained[name] = self.codes(self.world(world).train, run)
        return self._trained[name]

    def prior(
        self, name: str = "cross", world: str = "main", run: int = 0
    ) -> tuple[ts.Prior, dict[str, Float[np.ndarray, ...]]]:
        """One of `PRIORS`: jointly drawn, separately drawn (with a part vector), or jointly drawn and taught with other sentences' sound."""
        if name not in PRIORS:
            raise ValueError(f"prior: expected one of {', '.join(PRIORS)}, found {name!r}")
        config = self._prior_config("independent" if name == "independent" else "cross", self.scale.prior.grid.audio)

        def train(checkpoint: Path) -> tuple[ts.Prior, dict]:
            clips = self.world(world).train
            codes = self.learned_codes(world, run)
            heard = dataclasses.replace(clips, motion=clips.motion[:, :1])  # the codes stand for it
            if name == "deaf world":
                heard, codes = self.deaf(), codes.repeat(SHUFFLES, 1, 1)
            return ts.train_prior(
                heard, heard.windows(self.said[0].frames), codes, config, self.scale.prior_training,
                fabric=self.fabric, seed=self._seed(run), checkpoint=checkpoint,
            )  # fmt: skip

        return self._network(f"prior {name}, {world}, {run}", ts.Prior(config, seed=self.exp.seed), train)

    def _prior_config(self, variant: str, sound: int) -> ts.PriorConfig:
        # The released ablation cannot tell its two columns apart; with sound there is a vector that tells them.
        told = variant == "independent" and sound > 0
        grid = dataclasses.replace(self.scale.prior.grid, variant=variant, audio=sound, part_vector=told)
        return dataclasses.replace(self.scale.prior, grid=grid)

    def regressor(self, part: str, world: str = "main") -> tuple[ts.Regressor, dict[str, Float[np.ndarray, " steps"]]]:
        """The deterministic answer: body and hands (``"upper"``), or ``"face"``."""
        columns = {"upper": UPPER, "face": FACE}[part]
        config = ts.RegressorConfig(gesture_clips.FEATURES, len(columns))

        def train(checkpoint: Path) -> tuple[ts.Regressor, dict]:
            network, history = ts.train_regressor(
                self._learned(world, columns), np.arange(len(columns)), config, self.scale.regressor_training,
                fabric=self.fabric, seed=self.exp.seed, checkpoint=checkpoint,
            )  # fmt: skip
            return regressor_in_radians(network, self.centre[torch.from_numpy(columns)]), history

        return self._network(f"regressor {part}, {world}", ts.Regressor(config, seed=self.exp.seed), train)

    def model(self, name: str = "cross", world: str = "main", *, face: bool = True, run: int = 0) -> ts.TalkShow:
        """Codebooks, a prior and the face as one."""
        codebooks = (self.codebook(part, run=run)[0] for part in ("body", "hands"))
        networks = *codebooks, self.prior(name, world, run)[0]
        return ts.TalkShow(*networks, self.regressor("face")[0] if face else None)

    # --------------------------------------------------------------------------------------- 4. joint or separate drawing

    def takes(self, world: str) -> Int[Tensor, "clips rows 2"]:
        """Codes of all takes of the training sentences."""
        others = [self.codes(self.take(world, number)) for number in range(1, self.scale.takes)]
        return torch.cat([self.learned_codes(world), *others])

    def coupling(self, world: str) -> Float[np.ndarray, "runs clips"]:
        r"""What drawing hands after the body saves, in nats a hand code, for each run and each test clip.

        .. math:: D = \overline{-\log p(h_t \mid h_{<t})} - \overline{-\log p(h_t \mid b_t, b_{<t}, h_{<t})}

        Priors without sound, so that both learn in time; all clips by all speakers.
        """
        if f"coupling {world}" not in self._trained:
            state = self._cached(f"coupling {world}", {}, lambda _: {"saved": self._compare(world)})
            self._trained[f"coupling {world}"] = state["saved"].numpy()
        return self._trained[f"coupling {world}"]

    def _compare(self, world: str) -> Float[Tensor, "runs clips"]:
        codes, test = self.takes(world), self.codes(self.world(world).test)
        first = self.world(world).train
        clips = dataclasses.replace(  # only speakers and lengths count: these priors hear nothing
            first,
            motion=first.motion[:, :1].repeat(self.scale.takes, 1),
            features=first.features[:, :1].repeat(self.scale.takes, 1),
            starts=torch.arange(len(codes) + 1) * self.said[0].frames,
            speakers=first.speakers.repeat(self.scale.takes),
        )
        settings = dataclasses.replace(self.scale.prior_training, steps=self.scale.coupling_steps)
        speakers = self.world(world).test.speakers
        saved = []
        for seed in self.exp.seeds(self.scale.runs, "coupling"):
            surprise = []
            for variant in VARIANTS:
                prior, _ = ts.train_prior(
                    clips, clips.windows(self.said[0].frames), codes, self._prior_config(variant, 0), settings,
                    fabric=self.fabric, seed=seed % 2**31,
                )  # fmt: skip
                with torch.no_grad():
                    nothing = torch.zeros(len(test), self.said[1].frames, self.scale.prior.features)
                    surprise.append(ts.code_nll(prior.cpu()(test, nothing, speakers), test)[..., 1].mean(1))
            saved.append(surprise[1] - surprise[0])
        return torch.stack(saved)

    # -------------------------------------------------------------------------------------------------- 5. generated motion

    def draw(
        self, model: ts.TalkShow, *, speakers: Int[Tensor, " clips"] | None = None, name: str = "draws"
    ) -> Float[Tensor, "clips draws time 129"]:
        """Body and hands for the sound of the test clips.

        Parameters
        ----------
        model
            Trained.
        speakers
            Whose style; the clip's own speaker by default.
        name
            Of the source of chance.
        """
        clips = self.world().test
        features = clips.features.view(len(clips), -1, clips.features.shape[1])
        who = clips.speakers if speakers is None else speakers
        codes = model.draw_codes(features, who, generator=self.exp.generator(name), draws=self.scale.draws)
        return model.decode(codes.flatten(0, 1)).unflatten(0, codes.shape[:2])

    def regressed(self, part: str, world: str = "main") -> Float[Tensor, "clips time channels"]:
        """What the regressor of a world says to that world's test clips."""
        clips, network = self.world(world).test, self.regressor(part, world)[0]
        with torch.no_grad():
            return network(clips.features.view(len(clips), -1, clips.features.shape[1]), ts.one_hot(clips.speakers))

    def reconstructed(self, world: str = "main", run: int = 0) -> Float[Tensor, "clips time 129"]:
        """What the two codebooks keep of the test clips: no draw can be better."""
        codes = self.codes(self.world(world).test, run)
        body, hands = (self.codebook(part, run=run)[0] for part in ("body", "hands"))
        return torch.cat([body.decode(codes[..., 0]), hands.decode(codes[..., 1])], dim=2)

    @cached_property
    def whitening(self) -> metric.Whitening:
        """The fixed features of every Fréchet distance: windows of real training motion, whitened."""
        rows = metric.windows(upper_of(self.world().train).numpy(), frames=WINDOW_FRAMES)
        return metric.Whitening.of(rows, keep=KEPT)

    def features(self, upper: Float[Tensor, "*clips time 129"]) -> Float[np.ndarray, "clips rows kept"]:
        """`whitening` of the windows of each clip (all its draws together)."""
        rows = metric.windows(upper.numpy(), frames=WINDOW_FRAMES)
        return self.whitening(rows).reshape(len(upper), -1, KEPT)

    def mean_of(self, values: Float[np.ndarray, " clips"], name: str) -> Estimate:
        """Mean over clips with its interval."""
        return bootstrap_interval(np.asarray(values, dtype=float), rng=self.exp.rng(name), resamples=RESAMPLES)


# ---------------------------------------------------------------------------------------------------------- 6. measurements


@torch.no_grad()
def in_radians(network: ts.VqVae, centre: Float[Tensor, " channels"]) -> ts.VqVae:
    """A codebook that learned tenths of a radian around a mean pose, in radians: it encodes what is beyond that pose, and decodes the whole.

    The unit goes into the first layer, unit and pose into the last one, which sees single frames. The pose cannot go into the first layer,
    whose convolution is padded with zeros.
    """
    network.encoder.project.conv.weight.mul_(UNIT)
    last = network.decoder.project
    last.weight.div_(UNIT)
    last.bias.div_(UNIT).add_(centre.to(last.bias.device))
    return network


@torch.no_grad()
def regressor_in_radians(network: ts.Regressor, centre: Float[Tensor, " channels"]) -> ts.Regressor:
    """The same for a regressor, whose input is sound: only its last layer changes."""
    last = network.net[-1]
    last.weight.div_(UNIT)
    last.bias.div_(UNIT).add_(centre.to(last.bias.device))
    return network


def reconstruction_errors(
    network: ts.VqVae, clips: Clips, part: str, centre: Float[Tensor, " columns"]
) -> Float[np.ndarray, " clips"]:
    """Absolute error of each clip, summed over the part's channels, radians a frame; the network as `Study.codebook` gives it."""
    motion = upper_of(clips)[..., PARTS[part]]
    kept = network.decode(network.encode(motion - centre[torch.from_numpy(UPPER[PARTS[part]])]))
    return (kept - motion).abs().sum(-1).mean(1).numpy()


def closer(
    real: Float[np.ndarray, "clips rows kept"],
    first: Float[np.ndarray, "clips rows_of_first kept"],
    second: Float[np.ndarray, "clips rows_of_second kept"],
    rng: np.random.Generator,
    resamples: int = 100,
) -> Estimate:
    """Fréchet distance of `first` from real motion minus that of `second`, with a bootstrap over clips."""
    rows = np.arange(len(real), dtype=float)

    def gap(chosen: np.ndarray) -> float:
        truth, one, other = (part[chosen.astype(int)].reshape(-1, part.shape[-1]) for part in (real, first, second))
        return frechet_distance(truth, one) - frechet_distance(truth, other)

    return bootstrap_interval(rows, gap, rng=rng, resamples=resamples)


def explained(
    clips: Clips,
    learned: Clips,
    found: Float[Tensor, "clips time channels"],
    columns: Int[np.ndarray, " channels"],
) -> Float[np.ndarray, "clips 2"]:
    """For each clip the squared error, and the squared distance from its speaker's mean pose in training; R2 is one minus their ratio."""
    index = torch.from_numpy(columns)
    motion = clips.motion.view(len(clips), -1, 265)[..., index].double()
    shown = learned.motion.view(len(learned), -1, 265)[..., index].double()
    means = torch.stack([shown[learned.speakers == speaker].mean((0, 1)) for speaker in range(4)])
    error = (found.double() - motion).square().sum((1, 2))
    spread = (motion - means[clips.speakers][:, None]).square().sum((1, 2))
    return torch.stack([error, spread], dim=1).numpy()


def r_squared(parts: Float[np.ndarray, "clips 2"]) -> float:
    """Share of the variance within speakers that is explained."""
    error, spread = parts.sum(0)
    return float(1 - error / spread)


def r_squared_gap(
    first: Float[np.ndarray, "clips 2"], second: Float[np.ndarray, "clips 2"], rng: np.random.Generator
) -> Estimate:
    """Difference of two R2 on the same clips, with a bootstrap over clips."""
    both = np.stack([first, second], axis=1)
    gap: Callable[[np.ndarray], float] = lambda rows: r_squared(rows[:, 0]) - r_squared(rows[:, 1])  # noqa: E731
    return bootstrap_interval(both, gap, rng=rng, resamples=RESAMPLES)


def beat_scores(
    joints: Sequence[Float[np.ndarray, ...]],
    onsets_s: Sequence[Float[np.ndarray, ...]],
    change: Float[np.ndarray, " 4"],
    *,
    convention: str = "corrected",
) -> BeatConsistency:
    """`metrics.beats.beat_consistency`, with clips that have no onset left out of nothing: they are an error here."""
    silent = [number for number, onsets in enumerate(onsets_s) if not len(onsets)]
    if silent:
        raise ValueError(f"onsets: clips {silent[:5]} have none; a beat score needs at least one in each clip")
    return beat_consistency(joints, onsets_s, change=change, convention=convention)


def angle_changes(joints: Float[np.ndarray, "clips time 55 3"], *, unit_bones: bool) -> Float[np.ndarray, " 4"]:
    """Mean change a frame of the four arm angles over real clips: the unit of beats."""
    return np.mean([mean_angle_change(arm_angles(one, unit_bones=unit_bones)) for one in joints], axis=0)


def lifted(upper: Float[Tensor, "*clips time 129"]) -> Float[np.ndarray, "*clips time"]:
    """How far the body is from the middle pose of its clip at each frame, in standard deviations of the clip; mean zero."""
    body = upper[..., PARTS["body"]]
    away = (body - body.median(-2, keepdim=True).values).norm(dim=-1)
    return ((away - away.mean(-1, keepdim=True)) / away.std(-1, keepdim=True).clamp_min(1e-6)).numpy()


def at_vowels(
    lift: Float[np.ndarray, "clips draws time"], onsets_s: Sequence[Float[np.ndarray, ...]]
) -> Float[np.ndarray, " clips"]:
    """Mean of `lifted` where strokes on these vowels would have their peaks; 0 is chance."""
    frames = lift.shape[-1]
    peaks = [np.round(FPS * onsets + SETTINGS.delay_frames).astype(int) for onsets in onsets_s]
    return np.array([one[:, at[at < frames]].mean() for one, at in zip(lift, peaks, strict=True)])


def own_beats(
    joints: Float[np.ndarray, "clips time 55 3"], change: Float[np.ndarray, " 4"]
) -> list[Float[np.ndarray, " beats"]]:
    """Times at which each clip's left elbow comes to rest: a sound with these onsets is one that the motion is exactly in time with."""
    smooth = gaussian_filter1d(joints, SMOOTHING_FRAMES, axis=1, mode="nearest")
    return [motion_beats(arm_angles(one), change=change)[2] for one in smooth]


def rolled(items: Sequence[Any], by: int = 4) -> list[Any]:
    """Each clip gets what belongs to another clip of the same speaker: the speakers take turns."""
    return [items[(number - by) % len(items)] for number in range(len(items))]


def style(upper: Float[Tensor, "*clips time 129"]) -> Float[np.ndarray, "*clips 6"]:
    """Which of the six body gestures a clip has more of, however lively it is: shares of the movement along each gesture's direction."""
    body = upper[..., PARTS["body"]]
    along = (body - body.median(-2, keepdim=True).values).numpy() @ BODY_TEMPLATES.T
    amount = along.std(-2)
    return amount / amount.sum(-1, keepdims=True).clip(1e-9)


def recognised(
    learned: Float[np.ndarray, "train 6"],
    speakers: Int[np.ndarray, " train"],
    shown: Float[np.ndarray, "clips 6"],
    truth: Int[np.ndarray, " clips"],
) -> Float[np.ndarray, " clips"]:
    """Whether the nearest mean style (in units of the spread within speakers) is the true speaker's, 0 or 1 for each clip."""
    means = np.stack([learned[speakers == speaker].mean(0) for speaker in range(4)])
    within = (learned - means[speakers]).std(0)
    distances = (((shown[:, None] - means) / within) ** 2).sum(-1)
    return (distances.argmin(1) == truth).astype(float)


# ------------------------------------------------------------------------------------------------------------ 7. to a file


def model_path(profile: str = "quick") -> Path:
    """Where the networks for a reader's own recording stand, see `paper_utils.gesture`."""
    return files.output_root(profile) / ".cache" / "talkshow" / f"{profile}.safetensors"


def trainings(exp: Experiment) -> dict[str, Callable[[lightning_fabric.Fabric], Float[np.ndarray, " steps"]]]:
    """The study's trainings as calls that fill the cache and give the loss of every step; ``model`` also writes `model_path`.

    SHOW has the trainings of `paper_utils.recipes.talkshow`.
    """
    if exp.data != "world":
        return recipe.trainings(exp)

    def call(train: Callable[[Study], np.ndarray]) -> Callable[[lightning_fabric.Fabric], np.ndarray]:
        return lambda fabric: train(Study(exp, fabric))

    def whole(study: Study) -> np.ndarray:
        model = study.model()
        if study.fabric.is_global_zero:
            talkshow_files.save(model, model_path(exp.profile))
        return study.prior()[1]["loss"]

    calls = {
        "model": whole,
        "independent": lambda study: study.prior("independent")[1]["loss"],
        "deaf world": lambda study: study.prior("deaf world")[1]["loss"],
        "single": lambda study: study.codebook("single")[1]["loss"],
        "regressor": lambda study: study.regressor("upper")[1]["loss"],
        "coupled": lambda study: study.coupling("coupled").mean(1),
        "uncoupled": lambda study: study.coupling("uncoupled").mean(1),
    }
    return {name: call(train) for name, train in calls.items()}
