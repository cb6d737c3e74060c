r"""What notebook 04 trains and measures: MeshTalk on talking faces of the world, worlds that switch an effect off, and real layouts.

From top to bottom: sizes of a run; faces; the two steps of training and the regressors; the file for one's own recording. What is measured
is in `meshtalk_measures`. It stands above the method and below the notebook and `paper_utils.train`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import lightning_fabric
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from paper_utils import files, safe_checkpoints, training
from paper_utils.audio_windows import QUICK_WINDOWS, GatheredWindows, ReleasedWindows, Windows
from paper_utils.data import biwi, multiface, vocaset
from paper_utils.data.clip_files import ClipFiles
from paper_utils.data.mesh_masks import read_mask
from paper_utils.data.talking_faces import FaceMesh, TalkingFaces
from paper_utils.experiment import Experiment
from paper_utils.methods import meshtalk
from paper_utils.network_files import REMEDY, ModelFileError, NetworkFile, config_of
from paper_utils.nn.meshtalk_networks import (
    ContextModel,
    Encoder,
    Regressor,
    Sizes,
    VertexUnet,
    quick_sizes,
    vertex_statistics,
)
from paper_utils.studies import meshtalk_measures as ms
from paper_utils.world.people import Population
from paper_utils.world.talking_faces import Scene, Script, neutral_heads, talking_faces

# Who moves the upper face: chance and speech, or speech alone (control); and sound of another utterance (control).
WORLDS = ("mixed", "driven", "shuffled")


# --------------------------------------------------------------------------------------------------------------- 1. sizes


@dataclass(frozen=True)
class Scale:
    """Sizes of a run.

    Parameters
    ----------
    learned, unseen
        Training and test people of the world.
    clips, test_clips
        Of each training and each test person.
    seconds
        Length of the world's clips; a whole number of segments.
    step_one, step_two, regressor
        Schedules.
    few_heads
        Heads of the latent-size ablation.
    samples
        Drawn for each test clip.
    idle_amplitude
        See `Scene`: how much brows and lids move. 1 is lively; at the world's default of .35 the upper face moves a fifth of what the mouth
        does, squared errors in mm hardly see it, and a training of seconds ignores it. Choice of ours.
    """

    learned: int
    unseen: int
    clips: int
    test_clips: int
    seconds: float
    step_one: meshtalk.Schedule
    step_two: meshtalk.Schedule
    regressor: meshtalk.Schedule
    few_heads: int = 1
    samples: int = 8
    idle_amplitude: float = 1.0


def scale(exp: Experiment) -> Scale:
    """Sizes of a profile; those of ``full`` are the release's."""
    one = dataclasses.replace(meshtalk.QUICK_STEP_ONE, steps=340)
    two = dataclasses.replace(meshtalk.QUICK_STEP_TWO, steps=220)
    clip = 64 / 30
    return exp.scale(
        smoke=Scale(
            4, 4, 2, 2, clip, *(dataclasses.replace(s, steps=4, batch=4) for s in (one, two, one)), samples=2
        ),
        quick=Scale(20, 12, 6, 4, clip, one, two, dataclasses.replace(one, steps=260)),
        full=Scale(
            200, 40, 40, 10, 4 * clip, meshtalk.RELEASED_STEP_ONE, meshtalk.RELEASED_STEP_TWO, meshtalk.RELEASED_STEP_ONE,
            few_heads=4,
        ),
    )  # fmt: skip


def sizes(exp: Experiment, vertices: int, *, heads: int | None = None) -> Sizes:
    """Networks of a profile: the release's in ``full``, otherwise `quick_sizes` with one LSTM layer in the decoder instead of two.

    With two of them the small networks had not begun to use the codes for the upper face after 400 steps (seen on seed 0).
    """
    if exp.profile == "full":
        made = Sizes(vertices=vertices, mask="corrected")
    else:
        made = dataclasses.replace(quick_sizes(vertices), decoder_lstm=1)
    return made if heads is None else dataclasses.replace(made, heads=heads)


def windows(exp: Experiment, fps: float) -> Windows:
    """What is heard for a frame: the released windows in ``full``, else those of `QUICK_WINDOWS`, which look 90 ms ahead."""
    if exp.profile == "full":
        return ReleasedWindows(fps=round(fps))
    return dataclasses.replace(QUICK_WINDOWS, fps=fps)


# --------------------------------------------------------------------------------------------------------------- 2. faces


@dataclass(frozen=True)
class Sides:
    """Faces to learn from and faces of people who were never seen."""

    train: TalkingFaces
    test: TalkingFaces


def sides(exp: Experiment, world: str = "mixed") -> Sides:
    """The faces of a run.

    Parameters
    ----------
    exp
        ``exp.data`` is ``"world"`` or a real layout in ``exp.data_root``: ``"multiface"`` as released, ``"multiface_npy"`` as a follow-up
        converts it, ``"vocaset"`` or ``"biwi"`` in the layout of FaceFormer. Masks see `read_mesh`.
    world
        ``"mixed"``; ``"driven"``: the upper face is a function of articulation; ``"shuffled"``: training clips have the sound of
        somebody else's. Of real data there are ``"mixed"`` (as they are) and ``"shuffled"``.

    Raises
    ------
    ValueError
        For an unknown world, a control that real data cannot give, or clips of one person, which cannot be shuffled.
    """
    if world not in WORLDS:
        raise ValueError(f"world: expected one of {', '.join(WORLDS)}, found {world!r}")
    if exp.data != "world" and world == "driven":
        raise ValueError(
            "world 'driven': in recorded faces nobody can choose what moves the brows; run it with data='world'"
        )
    if exp.data == "world":
        found = Sides(*(talking_faces(script(exp, part, world)) for part in ("train", "test")))
    else:
        found = Sides(*_recorded(exp.data, exp.data_root))
    if world == "shuffled":
        found = dataclasses.replace(found, train=found.train.with_sound_of(_of_others(found.train)))
    return found


def population(exp: Experiment) -> Population:
    """Everybody of the world."""
    size = scale(exp)
    return Population(seed=exp.seed, size=size.learned + size.unseen)


def script(exp: Experiment, part: Literal["train", "test"], world: str = "mixed") -> Script:
    """Who says what in the world. Words, sound and blinks of a clip are the same in all worlds."""
    size = scale(exp)
    everybody = range(size.learned + size.unseen)
    chosen = everybody[: size.learned] if part == "train" else everybody[size.learned :]
    scene = Scene(
        seconds=size.seconds,
        upper_face="driven" if world == "driven" else "mixed",
        idle_amplitude=size.idle_amplitude,
    )
    return Script(
        population(exp), tuple(chosen), size.clips if part == "train" else size.test_clips, scene=scene, seed=exp.seed
    )


def _of_others(faces: TalkingFaces) -> Int[np.ndarray, " clips"]:
    """For each clip one of another person."""
    partner = ms.stranger(faces.subject)
    giver = torch.empty_like(partner)
    giver[partner] = torch.arange(len(partner))
    # Where partners are a permutation its inverse is taken, by which the synthetic clips have always been dealt; else the partner itself.
    return (giver if len(partner.unique()) == len(partner) else partner).numpy()


def _recorded(name: str, root: Path) -> tuple[TalkingFaces, TalkingFaces]:
    """Training and test clips of a real layout."""
    vertices = {"multiface": multiface.VERTICES, "multiface_npy": multiface.VERTICES, "vocaset": vocaset.VERTICES}
    mesh = read_mesh(root, vertices.get(name, biwi.VERTICES))
    readers: dict[str, tuple[Callable[..., ClipFiles], Callable[[ClipFiles], dict[str, list[int]]], str]] = {
        "multiface": (multiface.read_multiface, multiface.split, "test"),
        "multiface_npy": (multiface.read_converted, multiface.split, "test"),
        "vocaset": (vocaset.read_vocaset, vocaset.split, "test"),
        "biwi": (biwi.read_biwi, biwi.split, "test_b"),
    }
    read, split, test = readers[name]
    clips = read(root, mesh=mesh)
    rows = split(clips)
    return clips.of(rows["train"]).read(), clips.of(rows[test]).read()


def read_mesh(root: str | Path, vertices: int) -> FaceMesh:
    """Masks and regions beside recorded faces.

    Parameters
    ----------
    root
        With ``assets/`` of MeshTalk's release (see `multiface.read_assets`), or ``masks/mouth.txt``, ``upper_face.txt`` and ``eyelids.txt`` in
        the released format; and, if you have it, ``lips.txt`` with the numbers of your lip vertices. No lip mask is published: without that
        file the core of the mouth mask stands for the lips, and errors in mm cannot be compared with the paper's.
    vertices
        Of the mesh.

    Returns
    -------
    FaceMesh
        With regions ``mouth``, ``upper_face``, ``eyelids`` (mask 1), ``lips`` and ``rest``.

    Raises
    ------
    FileNotFoundError, ValueError
        If a mask is missing or does not fit.
    """
    root = Path(root)
    if (root / "assets").is_dir():
        mesh = multiface.read_assets(root / "assets", vertices=vertices).mesh
    else:
        masks = {
            name: read_mask(root / "masks" / f"{name}.txt", vertices) for name in ("mouth", "upper_face", "eyelids")
        }
        mesh = FaceMesh("mesh with own masks", vertices, torch.zeros(0, 3, dtype=torch.int64), masks=masks)
    regions = {name: mesh.masks[name] == 1 for name in ("mouth", "upper_face", "eyelids")}
    if empty := [name for name, region in regions.items() if not region.any()]:
        raise ValueError(
            f"{root}: masks {', '.join(empty)} have no vertex of weight 1; their core is what errors are measured on"
        )
    lips = root / "lips.txt"
    regions["lips"] = biwi.read_region(lips, vertices) if lips.is_file() else regions["mouth"]
    regions["rest"] = ~(regions["mouth"] | regions["upper_face"])
    return dataclasses.replace(mesh, regions=regions)


def shown_heads(exp: Experiment, part: Literal["train", "test"] = "test") -> Float[Tensor, "people vertices 3"]:
    """Whole heads at rest of the people of a script, for pictures."""
    chosen = script(exp, part)
    return neutral_heads(chosen.population.people(chosen.identities))


# ------------------------------------------------------------------------------------------------------------ 3. training


@dataclass(frozen=True)
class Study:
    """Trainings of a run, each from the cache or made when asked for.

    Parameters
    ----------
    exp, fabric
        The run, and where it trains.
    """

    exp: Experiment
    fabric: lightning_fabric.Fabric

    @cached_property
    def _faces(self) -> dict[str, Sides]:
        return {}

    def faces(self, world: str = "mixed") -> Sides:
        """See `sides`; read once."""
        if world not in self._faces:
            self._faces[world] = sides(self.exp, world)
        return self._faces[world]

    def segments(self, part: str = "train", world: str = "mixed", length: int | None = None) -> meshtalk.Segments:
        """Segments of ``"train"`` or ``"test"``, as long as in step 1 unless another length is given."""
        faces = getattr(self.faces(world), part)
        length = scale(self.exp).step_one.length if length is None else length
        return meshtalk.Segments(faces, windows(self.exp, faces.fps), length=length, keep=self.exp.profile != "full")

    def _cached(self, name: str, key: Mapping[str, Any], train: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
        return training.cached(
            "meshtalk",
            {"training": name, "seed": self.exp.seed, **key},
            train,
            code=[Path(meshtalk.__file__)],
            fabric=self.fabric,
        )

    def step_one(
        self, world: str = "mixed", objective: meshtalk.Objective = "released", heads: int | None = None
    ) -> tuple[meshtalk.JointModel, dict[str, Float[np.ndarray, " steps"]]]:
        """Encoder and decoder, and their losses."""
        segments, size = self.segments(world=world), scale(self.exp)
        own = sizes(self.exp, segments.faces.mesh.vertices, heads=heads)
        key = {"sizes": dataclasses.asdict(own), "schedule": dataclasses.asdict(size.step_one), "objective": objective}
        key |= {"faces": segments.faces.fingerprint}

        def train(checkpoint: Path) -> dict[str, Any]:
            model, history = meshtalk.train_joint(
                self.fabric, segments, meshtalk.Masks.of(segments.faces), own, size.step_one, objective=objective,
                seed=self.exp.seed, checkpoint=checkpoint, identity=str(key),
            )  # fmt: skip
            return {"model": model.state_dict(), "history": {n: torch.from_numpy(v) for n, v in history.items()}}

        state = self._cached("step one", key, train)
        mean, stddev = vertex_statistics(segments.faces.vertices)
        model = meshtalk.JointModel(Encoder(own, mean, stddev, seed=0), VertexUnet(own, mean, stddev, seed=0))
        return _ready(model, state["model"]), {n: v.numpy() for n, v in state["history"].items()}

    def codes(self, model: meshtalk.JointModel, part: str = "train", world: str = "mixed") -> meshtalk.Codes:
        """Codes of all segments of the length of step 2."""
        length = scale(self.exp).step_two.length if part == "train" else None
        return meshtalk.encode(model.encoder, self.segments(part, world, length))

    def step_two(
        self, world: str = "mixed", mask: Literal["released", "corrected"] = "corrected"
    ) -> tuple[ContextModel, dict[str, Float[np.ndarray, "steps ..."]]]:
        """The autoregressive model over the codes of the cross-modality model, and its losses."""
        first, size = self.step_one(world)[0], scale(self.exp)
        own = dataclasses.replace(sizes(self.exp, self.faces(world).train.mesh.vertices), mask=mask)
        codes = self.codes(first, world=world)
        key = {"sizes": dataclasses.asdict(own), "schedule": dataclasses.asdict(size.step_two)}
        key |= {"codes": float(codes.audio.double().square().sum()), "labels": codes.labels.flatten()[:4096].tolist()}

        def train(checkpoint: Path) -> dict[str, Any]:
            model, history = meshtalk.train_context(
                self.fabric, codes, own, size.step_two, seed=self.exp.seed, checkpoint=checkpoint, identity=str(key)
            )
            return {"model": model.state_dict(), "history": {n: torch.from_numpy(v) for n, v in history.items()}}

        state = self._cached("step two", key, train)
        return _ready(ContextModel(own, seed=0), state["model"]), {n: v.numpy() for n, v in state["history"].items()}

    def regressor(
        self, world: str = "mixed", audio: Literal["meshtalk", "voca"] = "meshtalk"
    ) -> tuple[Regressor, Float[np.ndarray, " steps"]]:
        """The deterministic rival, and its loss."""
        segments, size = self.segments(world=world), scale(self.exp)
        own = sizes(self.exp, segments.faces.mesh.vertices)
        key = {"sizes": dataclasses.asdict(own), "schedule": dataclasses.asdict(size.regressor), "audio": audio}
        key |= {"faces": segments.faces.fingerprint}

        def train(checkpoint: Path) -> dict[str, Any]:
            model, loss = meshtalk.train_regressor(
                self.fabric, segments, own, size.regressor, audio=audio, seed=self.exp.seed, checkpoint=checkpoint,
                identity=str(key),
            )  # fmt: skip
            return {"model": model.state_dict(), "loss": torch.from_numpy(loss)}

        state = self._cached("regressor", key, train)
        return _ready(Regressor(own, audio, seed=0), state["model"]), state["loss"].numpy()

    def networks(self, world: str = "mixed") -> meshtalk.MeshTalk:
        """Everything that speaks."""
        joint = self.step_one(world)[0]
        return meshtalk.MeshTalk(
            joint.encoder, joint.decoder, self.step_two(world)[0], windows(self.exp, self.faces(world).train.fps)
        )


def _ready(model: Any, state: Mapping[str, Tensor]) -> Any:
    model.load_state_dict(state)
    return model.eval().requires_grad_(False)


def trainings(exp: Experiment) -> dict[str, Callable[[lightning_fabric.Fabric], Float[np.ndarray, " steps"]]]:
    """The study's trainings as calls that fill the cache and give the loss of every step; ``step 2`` also writes `model_path`."""

    def one(fabric: lightning_fabric.Fabric, **options: Any) -> np.ndarray:
        return Study(exp, fabric).step_one(**options)[1]["loss"]

    def two(fabric: lightning_fabric.Fabric, **options: Any) -> np.ndarray:
        study = Study(exp, fabric)
        loss = study.step_two(**options)[1]["loss"]
        if not options and fabric.is_global_zero:
            save_speaker(study, model_path(exp.profile))
        return loss

    def regressor(fabric: lightning_fabric.Fabric, **options: Any) -> np.ndarray:
        return Study(exp, fabric).regressor(**options)[1]

    calls = {
        "step 1": one,
        "step 1, reconstruction": partial(one, objective="reconstruction"),
        "step 1, few heads": partial(one, heads=scale(exp).few_heads),
        "step 1, shuffled": partial(one, world="shuffled"),
        "step 2": two,
        "step 2, released mask": partial(two, mask="released"),
        "regressor": regressor,
        "regressor, VOCA": partial(regressor, audio="voca"),
    }
    if exp.data == "world":
        calls |= {
            "step 1, driven": partial(one, world="driven"),
            "step 2, driven": partial(two, world="driven"),
            "regressor, driven": partial(regressor, world="driven"),
        }
    return calls


# ------------------------------------------------------------------------------------------- 4. for one's own recording

LONGEST_WINDOW_S, HIGHEST_RATE, LONGEST_REACH = 10, 192_000, 10_000  # s, Hz, frames that a file may ask for


@dataclass(frozen=True)
class SpeakerFile:
    """What `paper_utils.animate` needs.

    Parameters
    ----------
    networks
        What speaks.
    templates
        Faces at rest to choose from.
    heads
        The same people as whole heads; empty for real data.
    faces
        Triangles of the templates.
    """

    networks: meshtalk.MeshTalk
    templates: Float[Tensor, "people vertices 3"]
    heads: Float[Tensor, "shown_people head_vertices 3"]
    faces: Int[Tensor, "triangles 3"]


def model_path(profile: str = "quick") -> Path:
    """Where the networks for a reader's own recording stand."""
    return files.output_root(profile) / ".cache" / "meshtalk" / f"speaker_{profile}.pt"


def save_speaker(study: Study, path: Path) -> None:
    """Write networks and test people for `paper_utils.animate`."""
    networks = study.networks()
    heard = networks.windows
    kept = {"kind": type(heard).__name__, **{k: v for k, v in dataclasses.asdict(heard).items() if k != "mel"}}
    faces = study.faces().test
    state = {
        "sizes": dataclasses.asdict(networks.context.sizes),
        "windows": kept,
        "mel": dataclasses.asdict(heard.mel),
        "encoder": networks.encoder.state_dict(),
        "decoder": networks.decoder.state_dict(),
        "context": networks.context.state_dict(),
        "templates": faces.templates,
        "heads": shown_heads(study.exp) if study.exp.data == "world" else torch.zeros(0, 0, 3),
        "faces": faces.mesh.faces,
    }
    training.save_state(path, state)


def load_speaker(path: Path) -> SpeakerFile:
    """Read what `save_speaker` wrote; no code is unpickled.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ModelFileError
        If it is damaged or of another kind.
    """
    try:
        stored = safe_checkpoints.load(path)
    except (safe_checkpoints.UnreadableCheckpointError, safe_checkpoints.UnsafeCheckpointError) as error:
        raise ModelFileError(f"cannot be read: {error}") from error
    file = config_of(_Stored, stored, str(path))
    own, windows = file.sizes, _stored_windows(file, path)
    parts = {
        name: NetworkFile(f"{path}: {name}", {}, getattr(file, name)) for name in ("encoder", "decoder", "context")
    }
    parts["context"].check_range(1, LONGEST_REACH, dilations=max(own.dilations))
    mean, stddev = (
        _array(file.decoder.get(name), (1, 1, own.vertices, 3), f"{path}: decoder.{name}")[0, 0]
        for name in ("mean", "stddev")
    )
    networks = [
        parts["encoder"].network(lambda: Encoder(own, mean, stddev, seed=0)),
        parts["decoder"].network(lambda: VertexUnet(own, mean, stddev, seed=0)),
        parts["context"].network(lambda: ContextModel(own, seed=0)),
    ]
    try:
        talker = meshtalk.MeshTalk(*(network.requires_grad_(False) for network in networks), windows)
    except ValueError as error:
        raise ModelFileError(f"{path}: {error}; {REMEDY}") from error
    templates = _array(file.templates, (None, own.vertices, 3), f"{path}: templates")
    heads = _array(file.heads, (None, None, 3), f"{path}: heads")
    faces = _array(file.faces, (None, 3), f"{path}: faces", below=own.vertices)
    return SpeakerFile(talker, templates, heads, faces)


@dataclass(frozen=True)
class _Stored:
    """What `save_speaker` writes; the windows with the name of their class and without the convention of their sound."""

    sizes: Sizes
    windows: dict
    mel: dict
    encoder: dict[str, Tensor]
    decoder: dict[str, Tensor]
    context: dict[str, Tensor]
    templates: Tensor
    heads: Tensor
    faces: Tensor


def _stored_windows(file: _Stored, path: Path) -> Windows:
    kinds = {kind.__name__: kind for kind in (GatheredWindows, ReleasedWindows)}
    name = file.windows.get("kind")
    if not isinstance(name, str) or name not in kinds:
        raise ModelFileError(f"{path}: windows.kind: expected one of {', '.join(kinds)}, found {name!r:.40}; {REMEDY}")
    fields = {**file.windows, "mel": file.mel}
    del fields["kind"]
    windows = config_of(kinds[name], fields, f"{path}: windows")
    source, rate = NetworkFile(f"{path}: windows", {}, {}), windows.mel.sample_rate
    source.check_range(1, HIGHEST_RATE, sample_rate=rate, fps=windows.fps)
    source.check_range(1, LONGEST_WINDOW_S * rate, length=windows.length, n_fft=windows.mel.n_fft)
    return windows


def _array(value: object, shape: tuple[int | None, ...], where: str, *, below: int | None = None) -> Tensor:
    """Finite numbers of a shape (None: any size); with `below`, whole ones from 0 on."""
    plain = isinstance(value, Tensor) and not value.is_complex() and value.dtype != torch.bool
    fits = plain and value.ndim == len(shape) and all(b in (None, a) for a, b in zip(value.shape, shape, strict=True))
    if not fits or value.is_floating_point() != (below is None):
        found = f"{tuple(value.shape)}, {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
        kind = "numbers" if below is None else "whole numbers"
        sizes = ", ".join("any" if size is None else str(size) for size in shape)
        raise ModelFileError(f"{where}: expected {kind} of shape ({sizes}), found {found}; {REMEDY}")
    numbers = value.float() if below is None else value.long()
    if not (torch.isfinite(numbers) if below is None else (numbers >= 0) & (numbers < below)).all():
        limits = "finite numbers" if below is None else f"numbers from 0 to {below - 1}"
        raise ModelFileError(f"{where}: expected {limits} only, found others; {REMEDY}")
    return numbers
