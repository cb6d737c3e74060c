"""What notebook 07 trains and measures: CEST and its ablations on clips of the world, worlds that switch an effect off, and what is true.

It stands above the method and below the notebook and `paper_utils.train`, which both use it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import lightning_fabric
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics import r2_score
from sklearn.metrics.pairwise import euclidean_distances
from torch import Tensor
from torch.nn import functional

from paper_utils import provenance, training
from paper_utils.experiment import Experiment
from paper_utils.methods import cest
from paper_utils.metrics import faces_3d, mesh
from paper_utils.metrics.statistics import Estimate, bootstrap_interval
from paper_utils.recipes import cest as recipe
from paper_utils.world.clips import Clips, ClipSettings, clips, shuffled_clips
from paper_utils.world.face import EXPRESSION_UNITS, Head, head
from paper_utils.world.people import Population
from paper_utils.world.portraits import VIEW_CENTRE_MM, VIEW_MM, ImageNuisance

RESAMPLES = 2000  # of people, for every interval
# Spread of the world's expression weights and of the jaw's angle in radians: one unit of the estimator's coefficients. Rounded by us.
EXPRESSION_SD, JAW_SD = 0.15, 0.04
BATCH = 120  # frames evaluated at once
FRONTAL = ImageNuisance(pose=0.0)
# Trained on, by name; each changes one thing of the first.
WORLDS: dict[str, dict[str, Any]] = {
    "clips": {},
    "still": {"same_light": True, "same_pose": True},
    "mid-plane": {"midplane_light": True, "nuisance": FRONTAL},
}
RELIEF_MM = 1.5  # about half of what shapes differ by; choice of ours
# Heads that the estimator's model cannot make: relief that no parameter describes, and hair, ears and neck around the face.
MISMATCHED: dict[str, dict[str, Any]] = {
    "relief": {"bumps_mm": RELIEF_MM},
    "hair": {"full": True},
    "relief and hair": {"bumps_mm": RELIEF_MM, "full": True},
}


# --------------------------------------------------------------------------------------------------------------- 1. sizes


@dataclass(frozen=True)
class Scale:
    """Sizes of a run. The quick ones are choices of ours for one core.

    Parameters
    ----------
    learned, frames
        Training clips, one a person, and frames of each.
    control
        Training clips of the worlds that switch an effect off.
    unseen, unseen_frames
        Clips of people that no training sees.
    chain
        Sizes of the networks.
    uv_size
        Texels a side.
    points_per_cell
        Resolution of the head.
    first, second, third
        Stages of training: viewpoint and shape from landmarks; reflectance and light with that geometry held; all together.
    ridge
        Training and test pictures of the kernel regression.
    """

    learned: int
    frames: int
    control: int
    unseen: int
    unseen_frames: int
    chain: cest.ChainConfig
    uv_size: int
    points_per_cell: int
    first: cest.TrainConfig
    second: cest.TrainConfig
    third: cest.TrainConfig
    ridge: tuple[int, int]


def scale(exp: Experiment) -> Scale:
    """Sizes of a profile."""
    quick = cest.TrainConfig(warm_up=0, videos=8, frames=2, lr=5e-3)
    small = dataclasses.replace(cest.QUICK, light_size=32)
    tiny = dataclasses.replace(small, encoder=(8, 8, 8, 8), unet=(8, 8, 8), light=(8, 8, 8, 8))
    full = cest.TrainConfig()
    return exp.scale(
        smoke=Scale(
            12, 3, 8, 6, 2, tiny, 32, 2,
            first=dataclasses.replace(quick, steps=0, warm_up=3, lr=2e-3),
            second=dataclasses.replace(quick, steps=2, videos=4),
            third=dataclasses.replace(quick, steps=2, videos=4, lr=2e-3),
            ridge=(40, 20),
        ),
        quick=Scale(
            240, 4, 108, 60, 2, small, 32, 2,
            first=dataclasses.replace(quick, steps=0, warm_up=300, lr=2e-3),
            second=dataclasses.replace(quick, steps=76),
            third=dataclasses.replace(quick, steps=14, lr=2e-3),
            ridge=(1000, 400),
        ),
        full=Scale(
            500, 8, 250, 100, 4, cest.ChainConfig(), 256, 4,
            first=dataclasses.replace(full, steps=0),
            second=dataclasses.replace(full, steps=0, warm_up=0),
            third=dataclasses.replace(full, warm_up=0),
            ridge=(4000, 800),
        ),
    )  # fmt: skip


def face_space(size: Scale) -> cest.FaceSpace:
    """The world's head as the estimator's model: 28 identity and 17 expression coefficients, the last opens the jaw.

    The jaw's rotation is replaced by its derivative at rest, so even without mismatch an open mouth is only nearly in the model.
    """
    whole: Head = head(size.points_per_cell)
    rest = whole.vertices[None]
    opened = whole.pose(rest, torch.zeros(1, len(EXPRESSION_UNITS)), torch.tensor([JAW_SD]), linear_jaw=True)
    jaw = (opened - rest)[0]
    model = whole.morphable()
    expression = torch.cat((EXPRESSION_SD * model.expression, jaw[..., None]), dim=2)
    return cest.FaceSpace(
        dataclasses.replace(model, expression=expression), size.uv_size, skin=whole.face_part == 0,
        view_mm=VIEW_MM[False], centre_mm=VIEW_CENTRE_MM[False],
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------------------- 2. variants


@dataclass(frozen=True)
class Variant:
    """One training.

    Parameters
    ----------
    objective
        Terms of the loss.
    conditional
        The chain, or its independent twin.
    correct
        See `cest.ChainConfig`.
    world
        What it is trained on, see `WORLDS`.
    shuffled
        Frames of different people are called a clip.
    supervised
        Learn from the truth.
    """

    objective: cest.Objective = field(default_factory=cest.Objective)
    conditional: bool = True
    correct: bool = True
    world: str = "clips"
    shuffled: bool = False
    supervised: bool = False


CONSISTENCY, SYMMETRY = cest.Objective(symmetry=False), cest.Objective("self")
NEITHER = cest.Objective("self", symmetry=False)
VARIANTS: dict[str, Variant] = {
    "CEST": Variant(),
    "independent": Variant(conditional=False),
    "without symmetry": Variant(CONSISTENCY),
    "without consistency": Variant(SYMMETRY),
    "neither": Variant(NEITHER),
    "supervised": Variant(supervised=True),
    "different people": Variant(CONSISTENCY, shuffled=True),
    "still, consistency": Variant(CONSISTENCY, world="still"),
    "still, neither": Variant(NEITHER, world="still"),
    "mid-plane, symmetry": Variant(SYMMETRY, world="mid-plane"),
    "mid-plane, neither": Variant(NEITHER, world="mid-plane"),
}


# -------------------------------------------------------------------------------------------------------------- 3. worlds


@dataclass(frozen=True)
class World:
    """Clips in the method's terms.

    Parameters
    ----------
    clips
        What was filmed, with its truth.
    frames
        What the method sees: frames, clip numbers, detected landmarks.
    truth
        Parameters of every frame in the estimator's own units.
    """

    clips: Clips
    frames: cest.Frames
    truth: cest.Truth

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def fingerprint(self) -> str:
        """Its part of a cache key."""
        images, points = self.frames.images.double(), self.frames.landmarks.double()
        return provenance.key_hash({"images": float(images.square().sum()), "landmarks": float(points.square().sum())})


def in_estimator_units(space: cest.FaceSpace, filmed: Clips) -> cest.Truth:
    """True parameters of frames as the estimator would have to say them.

    A head of log size s is, for a parallel camera, one of size 1 nearer by the factor :math:`e^s`, so the size goes into the viewpoint.
    """
    who = filmed.person.numpy()
    size = torch.tensor(filmed.people.log_size[who], dtype=torch.float32)
    spread = head(2).parameter_sd
    identity = torch.tensor(filmed.people.face[who], dtype=torch.float32) / spread
    moves = torch.cat((filmed.setting.expression / EXPRESSION_SD, filmed.setting.jaw[:, None] / JAW_SD), dim=1)
    view = space.view(filmed.camera, filmed.images.shape[-1])
    view[:, 6] += size
    alpha = torch.cat((identity, moves * (-size).exp()[:, None]), dim=1)
    return cest.Truth(view, alpha, filmed.reflectance[filmed.person], filmed.setting.light)


@dataclass(frozen=True)
class Trained:
    """Networks of one training and the terms of its loss, stage by stage.

    Parameters
    ----------
    estimator
        The networks at the end.
    losses
        By term; the stages one after another.
    """

    estimator: cest.Estimator
    losses: dict[str, Float[np.ndarray, " steps"]]


@dataclass(frozen=True)
class Study:
    """Everything of one run, made when it is asked for and kept.

    Parameters
    ----------
    exp
        The run; its data must be the world's.

    Raises
    ------
    ValueError
        For other data, of which nobody knows the truth.
    """

    exp: Experiment
    _kept: dict[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.exp.data != "world":
            raise ValueError(
                f"data: this study compares with the truth, which only 'world' has, found {self.exp.data!r}; "
                "real frames are trained by paper_utils.recipes.cest"
            )

    def _keep(self, name: str, make: Callable[[], Any]) -> Any:
        if name not in self._kept:
            self._kept[name] = make()
        return self._kept[name]

    @cached_property
    def scale(self) -> Scale:
        """Sizes of the run's profile."""
        return scale(self.exp)

    @cached_property
    def space(self) -> cest.FaceSpace:
        """The estimator's face model."""
        return face_space(self.scale)

    @cached_property
    def population(self) -> Population:
        """Who there is: first the people of trainings, then those that no training sees."""
        return Population(seed=self.exp.seed, size=self.scale.learned + self.scale.unseen)

    def _film(self, name: str, people: range, frames: int, settings: Mapping[str, Any]) -> World:
        size = self.scale
        seed = int(self.exp.rng(f"clips {name}").integers(2**31))
        chosen = ClipSettings(
            frames=frames, size=size.chain.image_size, points_per_cell=size.points_per_cell, **settings
        )
        filmed = clips(self.population, people, chosen, texels=size.uv_size, seed=seed)
        seen = cest.Frames(filmed.images, filmed.person, filmed.landmarks)
        return World(filmed, seen, in_estimator_units(self.space, filmed))

    def world(self, name: str = "clips") -> World:
        """Training clips of a world of `WORLDS`.

        Raises
        ------
        ValueError
            For an unknown name.
        """
        _known(name, WORLDS)
        people = range(self.scale.learned if name == "clips" else self.scale.control)
        return self._keep(f"world {name}", lambda: self._film(name, people, self.scale.frames, WORLDS[name]))

    def unseen(self, name: str = "clips") -> World:
        """Clips of the test people: in a world of `WORLDS`, or filmed from heads of `MISMATCHED`.

        In all of them the same people stand in the same poses and light, as far as the world lets these vary, so that they can be compared frame by frame.
        The still world's frames are tested on clips that move.
        """
        _known(name, {**WORLDS, **MISMATCHED})
        settings = {} if name == "still" else WORLDS.get(name) or MISMATCHED.get(name, {})
        first = self.scale.learned
        people = range(first, first + self.scale.unseen)
        return self._keep(f"unseen {name}", lambda: self._film("unseen", people, self.scale.unseen_frames, settings))

    @cached_property
    def seen_texels(self) -> Bool[Tensor, "texture_height texture_width"]:
        """Texels that at least half of some training frames show under true geometry; the rim of the map counts nowhere."""
        world = self.world()
        rows = torch.arange(min(len(world), 4 * BATCH))
        return self._look(world, rows, world.truth.view, None).visible.mean(0)[0] >= 0.5

    def _shown(self, world: World) -> Bool[Tensor, "frames texture_height texture_width"]:
        """Texels that each frame itself shows, of those that count: what a picture does not show is guessed, not decomposed."""
        name = f"shown {world.fingerprint}"
        return self._keep(
            name,
            lambda: (
                self.seen_texels
                & (self._look(world, torch.arange(len(world)), world.truth.view, None).visible[:, 0] > 0)
            ),
        )

    def _look(self, world: World, rows: Tensor, view: Tensor, alpha: Tensor | None) -> cest.Geometry:
        images = world.frames.images
        with torch.no_grad():
            parts = []
            for some in rows.split(BATCH):
                shapes = world.clips.vertices[some] if alpha is None else self.space.vertices(alpha[some])
                camera = self.space.camera(view[some], images.shape[-1])
                if alpha is None:  # true shapes carry their size
                    camera = dataclasses.replace(camera, scale=world.clips.camera.scale[some])
                parts.append(cest.look(self.space, images[some], shapes, camera))
        return _joined(parts)

    # ------------------------------------------------------------------------------------------------------ 4. trainings

    def trained(self, name: str = "CEST", fabric: lightning_fabric.Fabric | None = None) -> Trained:
        """Networks of a variant, from the cache if they are there.

        Parameters
        ----------
        name
            One of `VARIANTS`.
        fabric
            Where to train; the experiment's device if not given.
        """
        _known(name, VARIANTS)
        return self._keep(f"trained {name}", lambda: self._trained(VARIANTS[name], fabric))

    def _trained(self, variant: Variant, fabric: lightning_fabric.Fabric | None) -> Trained:
        size, world = self.scale, self.world(variant.world)
        estimator, losses = self._started(variant, fabric)
        source = world.frames
        if variant.shuffled:
            dealt = shuffled_clips(source.video, size.frames, self.exp.rng("different people"))
            source = cest.Frames(source.images, dealt, source.landmarks)
        truth = world.truth if variant.supervised else None
        run = fabric or training.launch(str(self.exp.device))

        def train(checkpoint: Path) -> dict[str, Any]:
            parts = [losses]
            for stage, config in enumerate((size.second, size.third)):
                if not config.steps:
                    continue
                geometry = self._first_geometry(variant, estimator) if not stage else None
                parts.append(
                    cest.train(
                        run, estimator, source, variant.objective, config, seed=self.exp.seed + stage,
                        geometry=geometry, truth=truth, checkpoint=checkpoint.with_name(f"{checkpoint.name}.{stage}"),
                    )
                )  # fmt: skip
            return _state(estimator.cpu(), parts)

        key = {"stage": "all", "people": source.video.tolist(), **self._key(variant, world)}
        state = self._cached(key, train, run)
        return Trained(_loaded(estimator, state["networks"]), {n: v.numpy() for n, v in state["losses"].items()})

    def _started(
        self, variant: Variant, fabric: lightning_fabric.Fabric | None
    ) -> tuple[cest.Estimator, dict[str, np.ndarray]]:
        """Networks after the first stage: variants that do not differ in it share it, and control worlds start from the main one."""
        size, world = self.scale, self.world()
        estimator = self._untrained(variant)
        run = fabric or training.launch(str(self.exp.device))

        def train(checkpoint: Path) -> dict[str, Any]:
            losses = cest.train(
                run, estimator, world.frames, cest.Objective(), size.first,
                seed=self.exp.seed, truth=world.truth if variant.supervised else None, checkpoint=checkpoint,
            )  # fmt: skip
            return _state(estimator.cpu(), [losses])

        shared = Variant(conditional=variant.conditional, supervised=variant.supervised)
        state = self._cached({"stage": "first", **self._key(shared, world)}, train, run)
        own = estimator.state_dict()
        # f_r and f_l do not take part in it; they keep their own beginning.
        taken = {n: v for n, v in state["networks"].items() if n.startswith(("networks.view", "networks.shape"))}
        return _loaded(estimator, {**own, **taken}), {n: v.numpy() for n, v in state["losses"].items()}

    def _untrained(self, variant: Variant) -> cest.Estimator:
        config = dataclasses.replace(self.scale.chain, conditional=variant.conditional, correct=variant.correct)
        return cest.Estimator(self.space, config, seed=self.exp.seed)

    def _first_geometry(self, variant: Variant, estimator: cest.Estimator) -> cest.Geometry:
        """What viewpoint and shape of the first stage say of all training frames of a world."""
        name = f"geometry {variant.world} {variant.conditional} {variant.supervised}"
        return self._keep(name, lambda: self._estimated_geometry(self.world(variant.world), estimator))

    def _estimated_geometry(self, world: World, estimator: cest.Estimator) -> cest.Geometry:
        with torch.no_grad():
            parts = [estimator.pose_and_shape(images) for images in world.frames.images.split(BATCH)]
        view, alpha = (torch.cat(values) for values in zip(*parts, strict=True))
        return self._look(world, torch.arange(len(world)), view, alpha)

    def _key(self, variant: Variant, world: World) -> dict[str, Any]:
        size = {name: value for name, value in dataclasses.asdict(self.scale).items() if name != "ridge"}
        return {
            "variant": dataclasses.asdict(variant), "scale": size, "data": world.fingerprint, "seed": self.exp.seed,
            "space": self.space.signature,
        }  # fmt: skip

    def _cached(
        self, key: dict[str, Any], train: Callable[[Path], dict[str, Any]], fabric: lightning_fabric.Fabric
    ) -> dict[str, Any]:
        return training.cached("cest", key, train, code=[Path(cest.__file__), Path(__file__)], fabric=fabric)

    # ------------------------------------------------------------------------------------------------- 5. measurements

    def estimate(self, trained: Trained, world: World, rows: Sequence[int] | None = None) -> cest.Estimate:
        """The chain on frames of a world."""
        chosen = torch.arange(len(world)) if rows is None else torch.as_tensor(rows)
        with torch.no_grad():
            return _joined([trained.estimator(world.frames.images[some]) for some in chosen.split(BATCH)])

    def errors(self, name: str, test: str | None = None) -> Errors:
        """How far a variant's estimates of unseen people are from the truth.

        Parameters
        ----------
        name
            One of `VARIANTS`; or ``"mean face"``: mean viewpoint, shape, reflectance and light of the training clips for everybody; or
            ``"texture"``: CEST's geometry with the illuminated texture taken for the reflectance, in even light; or
            ``"misled"``: CEST's reflectance and light conditioned on the viewpoint and shape of somebody else's frame; or
            ``"dealt"``: CEST's whole estimate of somebody else's frame.
        test
            Where, see `unseen`; the variant's own world if not given.
        """
        variant = VARIANTS.get(name, VARIANTS["CEST"])
        world = self.unseen(test or variant.world)
        return self._keep(f"errors {name} {test}", lambda: self._errors(self._estimates(name, world), world))

    def _estimates(self, name: str, world: World) -> cest.Estimate:
        if name == "mean face":
            return self._mean_face(world)
        trained = self.trained("CEST" if name in STAND_INS else name)
        estimate = self.estimate(trained, world)
        if name not in STAND_INS:
            return estimate
        if name == "texture":
            even = torch.zeros_like(estimate.light)
            even[:, 0] = 1
            return dataclasses.replace(estimate, reflectance=estimate.geometry.texture, light=even)
        # The frame of the next person at the same place of the clip.
        others = torch.arange(len(world)).roll(self.scale.unseen_frames)
        view, alpha, vertices = estimate.view[others], estimate.alpha[others], estimate.vertices[others]
        if name == "dealt":
            geometry, maps, light = estimate.geometry.take(others), estimate.reflectance[others], estimate.light[others]
        else:
            geometry = self._look(world, torch.arange(len(world)), view, alpha)
            with torch.no_grad():
                maps, light = trained.estimator.appearance(world.frames.images, geometry)
        return cest.Estimate(view, alpha, vertices, geometry, maps, light)

    def truth(self, world: World, rows: Sequence[int] | None = None) -> cest.Estimate:
        """What an estimator that knows everything would say of frames of a world."""
        chosen = torch.arange(len(world)) if rows is None else torch.as_tensor(rows)
        known, geometry = world.truth.take(chosen), self._look(world, chosen, world.truth.view, None)
        vertices = world.clips.vertices[chosen]
        return cest.Estimate(known.view, known.alpha, vertices, geometry, known.reflectance, known.light)

    def _mean_face(self, world: World) -> cest.Estimate:
        known, count = self.world().truth, len(world)
        view, alpha, reflectance, light = (
            value.mean(0, keepdim=True).expand(count, *value.shape[1:])
            for value in (known.view, known.alpha, known.reflectance, known.light)
        )
        geometry = self._look(world, torch.arange(count), view, alpha)
        return cest.Estimate(view, alpha, self.space.vertices(alpha), geometry, reflectance, light)

    def _errors(self, estimate: cest.Estimate, world: World) -> Errors:
        filmed, truth = world.clips, world.truth
        both = ((estimate.geometry.mask > 0) & (filmed.mask > 0))[:, 0]
        shown = self._shown(world)
        hidden = self.seen_texels & ~shown
        shading = faces_3d.shading_error(estimate.shading, filmed.shading, both)
        direction = faces_3d.light_direction_error(estimate.light, truth.light)
        degrees = torch.full((len(world),), math.nan, dtype=torch.float64)
        degrees[direction.defined] = direction.degrees
        identity = self.space.model.identity.shape[2]
        neutral = self.space.model.vertices(estimate.alpha[:, :identity])
        points = self.space.model.landmark_points(estimate.vertices)
        camera = self.space.camera(estimate.view, filmed.images.shape[-1])
        real = filmed.camera.project(self.space.model.landmark_points(filmed.vertices))[..., :2]
        values = {
            "shape": mesh.vertex_rmse(estimate.vertices, filmed.vertices),
            "shape at rest": mesh.vertex_rmse(neutral, filmed.neutral[filmed.person]),
            "viewpoint": faces_3d.viewpoint_error(estimate.view[:, :3], truth.view[:, :3]),
            "landmarks": faces_3d.nme(camera.project(points)[..., :2], real),
            "reflectance": faces_3d.reflectance_error(estimate.reflectance, truth.reflectance, shown),
            "hidden reflectance": hidden_error(estimate.reflectance, truth.reflectance, shown, hidden),
            "own pattern": own_pattern(estimate.reflectance, truth.reflectance, self._mean_map, shown),
            "shading": shading.relative,
            "shading correlation": shading.correlation,
            "light direction": degrees,
            "photometric": cest.photometric(filmed.images, estimate.geometry, [estimate.reflectance], estimate.light)[
                0
            ],
        }
        return Errors({name: value.double().numpy() for name, value in values.items()}, filmed.person.numpy())

    @cached_property
    def _mean_map(self) -> Float[Tensor, "3 texture_height texture_width"]:
        return self.world().clips.reflectance.mean(0)


STAND_INS = ("texture", "misled", "dealt")  # what `Study.errors` makes of CEST's networks
UNITS = {
    "shape": "mm", "shape at rest": "mm", "viewpoint": "degrees", "landmarks": "% of face size", "reflectance": "", "hidden reflectance": "",
    "own pattern": "correlation", "shading": "share of mean shading", "shading correlation": "correlation",
    "light direction": "degrees", "photometric": "",
}  # fmt: skip


@dataclass(frozen=True)
class Errors:
    """Measurements of frames of unseen people.

    Parameters
    ----------
    values
        By name, see `UNITS`; NaN where a light has no direction.
    person
        Who is on each frame, counted from 0.
    """

    values: dict[str, Float[np.ndarray, " frames"]]
    person: Int[np.ndarray, " frames"]

    def people(self, name: str) -> Float[np.ndarray, " people"]:
        """Mean over each person's frames, NaN left out."""
        values = self.values[name]
        known = np.isfinite(values)
        counts = np.bincount(self.person[known], minlength=self.person.max() + 1)
        sums = np.bincount(self.person[known], weights=values[known], minlength=len(counts))
        return np.divide(sums, counts, out=np.full(len(counts), np.nan), where=counts > 0)

    def mean(self, name: str, rng: np.random.Generator) -> Estimate:
        """Mean over people with a bootstrap interval over people; people without a value are left out and `n` says how many remain."""
        values = self.people(name)
        return bootstrap_interval(values[np.isfinite(values)], rng=rng, resamples=RESAMPLES)


def ratio(first: Errors, second: Errors, name: str, *, rng: np.random.Generator) -> Estimate:
    r"""How many times the error of `second` the error of `first` is: geometric mean over people, with an interval over people.

    .. math:: \exp\Big(\frac{1}{P} \sum_p \log \frac{e_{1p}}{e_{2p}}\Big)

    Raises
    ------
    ValueError
        If the two were measured on different people, or an error is not positive.
    """
    if not np.array_equal(first.person, second.person):
        raise ValueError(
            f"ratio: the frames differ, found {len(first.person)} and {len(second.person)}; use one test world"
        )
    one, two = first.people(name), second.people(name)
    if not ((one > 0).all() and (two > 0).all()):
        raise ValueError(f"ratio: {name} is not a positive error for everybody; compare differences instead")
    return bootstrap_interval(np.log(one / two), lambda rows: float(np.exp(rows.mean())), rng=rng, resamples=RESAMPLES)


def difference(first: Errors, second: Errors, name: str, *, rng: np.random.Generator) -> Estimate:
    """First minus second, mean over people with an interval over people.

    Raises
    ------
    ValueError
        If the two were measured on different people.
    """
    if not np.array_equal(first.person, second.person):
        raise ValueError(
            f"difference: the frames differ, found {len(first.person)} and {len(second.person)}; use one test world"
        )
    values = first.people(name) - second.people(name)
    return bootstrap_interval(values[np.isfinite(values)], rng=rng, resamples=RESAMPLES)


def own_pattern(
    predicted: Float[Tensor, "batch 3 height width"],
    truth: Float[Tensor, "batch 3 height width"],
    mean: Float[Tensor, "3 height width"],
    texels: Bool[Tensor, "batch height width"],
) -> Float[Tensor, " batch"]:
    r"""Correlation of what is a person's own in the two maps: the log of each map over the mean map, its mean over texels taken away.

    .. math:: r\big(\log A - \log \bar G,\ \log G - \log \bar G\big)

    A blurred map, which is near to everybody and nobody, has 0; so has the mean map itself. The error in `metrics.faces_3d` does not see that.
    """

    weights = texels[:, None].expand_as(truth).flatten(1).double()
    share = weights / weights.sum(1, keepdim=True)

    def own(maps: Tensor) -> Tensor:
        values = (maps.clamp_min(1e-3) / mean.clamp_min(1e-3)).log().flatten(1).double()
        return (values - (share * values).sum(1, keepdim=True)) * weights

    a, b = own(predicted), own(truth)
    product = a.norm(dim=1) * b.norm(dim=1)
    return torch.where(product > 1e-9, (a * b).sum(1) / product.clamp_min(1e-9), 0.0)


def hidden_error(
    predicted: Float[Tensor, "batch 3 height width"],
    truth: Float[Tensor, "batch 3 height width"],
    seen: Bool[Tensor, "batch height width"],
    hidden: Bool[Tensor, "batch height width"],
) -> Float[Tensor, " batch"]:
    """Root mean square error on texels that a picture does not show, after the factor that fits those that it does; NaN if there are none."""
    weights = seen[:, None].expand_as(truth).to(truth)
    scaled = faces_3d.fitted_scale(predicted, truth, weights)[:, None, None, None] * predicted
    squared = ((scaled - truth).square().mean(1) * hidden).sum((1, 2))
    return (squared / hidden.sum((1, 2))).sqrt()


def trainings(exp: Experiment) -> dict[str, Callable[[lightning_fabric.Fabric], Float[np.ndarray, " steps"]]]:
    """The study's trainings as calls that fill the cache and give the loss of every step.

    ``CEST`` also writes the networks for `paper_utils.reconstruct_faces`. Real data have the trainings of `paper_utils.recipes.cest`.
    """
    if exp.data != "world":
        return recipe.trainings(exp)
    study = Study(exp)

    def run(name: str, fabric: lightning_fabric.Fabric) -> np.ndarray:
        trained = study.trained(name, fabric)
        if name == "CEST" and fabric.is_global_zero:
            cest.save(trained.estimator, recipe.model_path("world", exp.profile))
        losses = trained.losses
        return losses["reflectance" if VARIANTS[name].supervised else "photometric"]

    return {name: partial(run, name) for name in VARIANTS}


def _known(name: str, names: Mapping[str, Any]) -> None:
    if name not in names:
        raise ValueError(f"expected one of {', '.join(names)}; found {name!r}")


def _state(estimator: cest.Estimator, parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, Any]:
    names = dict.fromkeys(name for part in parts for name in part)
    losses = {name: torch.from_numpy(np.concatenate([part[name] for part in parts if name in part])) for name in names}
    return {"networks": estimator.state_dict(), "losses": losses}


def _loaded(estimator: cest.Estimator, state: Mapping[str, Tensor]) -> cest.Estimator:
    estimator.load_state_dict(state)
    return estimator.eval()


def _joined(parts: Sequence[Any]) -> Any:
    """One dataclass of tensors from several of the same kind, row after row."""
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat(list(parts))
    if first is None:
        return None
    return type(first)(
        **{f.name: _joined([getattr(part, f.name) for part in parts]) for f in dataclasses.fields(first)}
    )


# -------------------------------------------------------------------------- 6. what conditioning on the viewpoint is worth


ALIGNMENTS = ("raw picture", "estimated viewpoint", "true viewpoint", "shuffled viewpoint")
RIDGE_SIZE = 24  # pixels a side
RIDGE_PENALTY = 0.3  # on a kernel of ones on its diagonal; choice of ours, the same for all


@dataclass(frozen=True)
class Ridge:
    """Kernel regression of shape from pictures.

    Parameters
    ----------
    parameters
        :math:`R^2` on test people of each shape parameter of `PARAMETERS`, by alignment.
    viewpoint
        :math:`R^2` of pitch, yaw, roll, shift right, shift down, log scale from the raw picture.
    squared
        Squared error of each test person, summed over the standardised parameters, by alignment; ``"mean"`` is that of the training mean.
    """

    parameters: dict[str, Float[np.ndarray, " parameters"]]
    viewpoint: dict[str, float]
    squared: dict[str, Float[np.ndarray, " people"]]

    def gain(self, first: str, second: str, *, rng: np.random.Generator) -> Estimate:
        r"""How much more of the variance of all parameters together `first` explains than `second`, with an interval over people.

        .. math:: \Delta R^2 = \frac{\sum_p (e_{2p} - e_{1p})}{\sum_p e_{0p}}

        with the squared errors :math:`e_0` of the mean face.
        """
        rows = np.column_stack([self.squared[name] for name in (first, second, "mean")])
        return bootstrap_interval(
            rows, lambda r: float((r[:, 1] - r[:, 0]).sum() / r[:, 2].sum()), rng=rng, resamples=RESAMPLES
        )


def viewpoint_ridge(exp: Experiment) -> Ridge:
    """P(S|I) against P(S|I, v) without a network: kernel ridge regression of the face's parameters, one picture a person.

    Pictures are grey, standardised, small; the kernel is Gaussian with the median distance as its width. The same regression sees the picture as it is,
    and turned, scaled and shifted by three viewpoints: estimated from the picture by the same regression (each half of the training people by
    the other), the true one, and somebody else's, which is the control.
    """
    size = scale(exp)
    train, test = size.ridge
    population = Population(seed=exp.seed + 1, size=train + test)
    filmed = clips(
        population, range(train + test), ClipSettings(frames=1, size=2 * RIDGE_SIZE), texels=8, seed=exp.seed
    )
    space = face_space(size)
    views = in_estimator_units(space, filmed).view
    used = [0, 1, 2, 3, 4, 6]
    shape = filmed.people.face / head(2).parameter_sd.numpy()

    def kernels(pictures: Tensor) -> tuple[np.ndarray, np.ndarray]:
        grey = functional.avg_pool2d(pictures.mean(1, keepdim=True), 2).flatten(1)
        grey = ((grey - grey.mean(1, keepdim=True)) / grey.std(1, keepdim=True)).double().numpy()
        squared = euclidean_distances(grey, grey[:train], squared=True)
        width = np.median(squared[:train])
        return np.exp(-squared[:train] / width), np.exp(-squared[train:] / width)

    def regress(
        kernel: tuple[np.ndarray, np.ndarray], values: np.ndarray, rows: np.ndarray
    ) -> Callable[[np.ndarray], np.ndarray]:
        """From kernel values with all training pictures to predictions; learned from some of these pictures."""
        centre = values[rows].mean(0)
        fitted = KernelRidge(alpha=RIDGE_PENALTY, kernel="precomputed")
        fitted.fit(kernel[0][np.ix_(rows, rows)], values[rows] - centre)
        return lambda block: fitted.predict(block[:, rows]) + centre

    everybody = np.arange(train)
    raw = kernels(filmed.images)
    numbers = views[:, used].double().numpy()
    found = np.empty_like(numbers)
    halves = np.array_split(everybody, 2)
    for one, other in (halves, halves[::-1]):
        found[one] = regress(raw, numbers, other)(raw[0][one])
    found[train:] = regress(raw, numbers, everybody)(raw[1])
    estimated, shuffled = (
        torch.zeros_like(views),
        views[torch.from_numpy(exp.rng("shuffled views").permutation(len(views)))],
    )
    estimated[:, used] = torch.from_numpy(found).float()
    scores, squared = {}, {"mean": np.square(shape[train:] - shape[:train].mean(0)).sum(1)}
    for name, view in zip(ALIGNMENTS, (None, estimated, views, shuffled), strict=True):
        kernel = raw if view is None else kernels(cest.aligned(space, filmed.images, view))
        predicted = regress(kernel, shape, everybody)(kernel[1])
        scores[name] = r2_score(shape[train:], predicted, multioutput="raw_values")
        squared[name] = np.square(shape[train:] - predicted).sum(1)
    names = ("pitch", "yaw", "roll", "shift right", "shift down", "log scale")
    own = r2_score(numbers[train:], found[train:], multioutput="raw_values")
    return Ridge(scores, dict(zip(names, own.tolist(), strict=True)), squared)


# ----------------------------------------------------------------------------------------------------- 7. what a step costs


@dataclass(frozen=True)
class Cost:
    """Cost of one step's photometric loss by the number of frames of a clip.

    Parameters
    ----------
    frames
        Frames in one clip.
    renders
        Painted pictures, by strategy.
    kept
        Numbers that the forward pass keeps for the gradient, by strategy: what the step needs of memory, in units that no machine changes.
    """

    frames: tuple[int, ...]
    renders: dict[str, tuple[int, ...]]
    kept: dict[str, tuple[int, ...]]

    def slope(self, strategy: str) -> float:
        """Exponent of the growth of `renders` with the number of frames: 1 is linear, 2 quadratic."""
        return float(np.polyfit(np.log(self.frames), np.log(self.renders[strategy]), 1)[0])


def consistency_cost(study: Study, frames: Sequence[int] = (2, 3, 4, 6, 8)) -> Cost:
    """Count what the stochastic strategy saves: one other frame for each, or all pairs. `make bench` has the time."""
    world = study.world()
    strategies = {"stochastic": cest.Objective(), "all pairs": cest.Objective("all")}
    renders, kept = {name: [] for name in strategies}, {name: [] for name in strategies}
    for count in frames:
        rows = torch.arange(count)
        geometry = study._look(world, rows, world.truth.view, None)
        maps = world.truth.reflectance[rows].clone().requires_grad_()
        estimate = cest.Estimate(None, None, None, geometry, maps, world.truth.light[rows].clone().requires_grad_())
        for name, objective in strategies.items():
            with _numbers_kept() as numbers:
                cest.photometric_loss(
                    study.space, world.frames.images[rows], torch.zeros(count, dtype=torch.int64), estimate, objective,
                    torch.Generator().manual_seed(0),
                )  # fmt: skip
            renders[name].append(cest.renders(1, count, objective))
            kept[name].append(sum(numbers.values()))
    return Cost(tuple(frames), *({name: tuple(row) for name, row in part.items()} for part in (renders, kept)))


@contextlib.contextmanager
def _numbers_kept() -> Iterator[dict[int, int]]:
    """Sizes of the different tensors that autograd keeps while the block runs, by where they stand."""
    found: dict[int, Tensor] = {}
    sizes: dict[int, int] = {}

    def keep(value: Tensor) -> Tensor:
        found[value.untyped_storage().data_ptr()] = value  # held, so that no other tensor gets its place
        return value

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        yield sizes
    sizes.update({place: value.untyped_storage().nbytes() // value.element_size() for place, value in found.items()})


# ------------------------------------------------------------------------------------------------------------ 8. pictures


def layers(
    estimate: cest.Estimate, images: Float[Tensor, "batch 3 size size"]
) -> dict[str, Float[Tensor, "batch 3 height width"]]:
    """What figures show, linear light in [0, 1]: input, overlay, texture, reflectance, normals, shading, error.

    The overlay puts the rendered face over the input; normals are mapped from [-1, 1]; shading is divided by its largest value.
    """
    geometry, light = estimate.geometry, cest.linear(images)
    mask, rendered, shading = geometry.mask, estimate.image(), estimate.shading
    brightest = shading.amax((1, 2, 3), keepdim=True).clamp_min(1e-6)
    return {
        "input": light,
        "overlay": rendered + (1 - mask) * light,
        "texture": geometry.texture,
        "reflectance": estimate.reflectance,
        "normals": (geometry.normals + 1) / 2 * mask,
        "shading": (shading / brightest).expand(-1, 3, -1, -1),
        "error": (rendered - light).abs() * mask,
    }


def turned(
    study: Study,
    estimate: cest.Estimate,
    images: Float[Tensor, "batch 3 size size"],
    yaw: float = 0.0,
    *,
    rest: bool = False,
) -> Float[Tensor, "batch 3 size size"]:
    """The estimated faces seen from the front, or turned by `yaw` radians; with `rest`, without their expression."""
    view = torch.zeros_like(estimate.view)
    view[:, 1] = yaw
    alpha = estimate.alpha.clone()
    if rest:
        alpha[:, study.space.model.identity.shape[2] :] = 0
    with torch.no_grad():
        camera = study.space.camera(view, images.shape[-1])
        geometry = cest.look(study.space, images, study.space.vertices(alpha), camera)
    return cest.paint(geometry, estimate.reflectance, estimate.light)
