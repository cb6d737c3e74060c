"""TalkSHOW on SHOW: from a folder in the official layout to trained networks, stage by stage, each resumed from its checkpoint.

    python -m paper_utils.train 08 --profile full --data show --data-root /data/show --device cuda
    torchrun --nproc-per-node 4 -m paper_utils.train 08 --profile full --data show --data-root /data/show --only model

Body codes, hand codes, the face, the codes of every window, their prior; then the rivals and the evaluation on the test part
(`paper_utils.recipes.talkshow_evaluation`). Sizes and schedules of ``full`` are those of the released code.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import lightning_fabric
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from paper_utils import files, training
from paper_utils.audio_files import resample
from paper_utils.data import show
from paper_utils.data.face_lists import first_few
from paper_utils.data.motion_clips import Clips
from paper_utils.data.show_pickles import HandComponents, read_hand_components
from paper_utils.experiment import Experiment
from paper_utils.methods import talkshow as ts
from paper_utils.nn.motion_autoencoder import MotionAutoencoder
from paper_utils.nn.pixelcnn import PixelCnnConfig
from paper_utils.nn.quantizer import QuantizerConfig
from paper_utils.nn.speech_features import load_wav2vec2
from paper_utils.recipes import talkshow_evaluation, talkshow_files
from paper_utils.recipes.talkshow_evaluation import FACE, PARTS, UPPER

SPLIT_FILES = ("train_val_test.json", "split_more_than_2s.pkl")  # both of the released code
BODY_MODEL = "SMPLX_NEUTRAL.npz"
SPEECH_MODEL = "wav2vec2-base-960h"
SPEECH_RATE = 16_000  # Hz


# --------------------------------------------------------------------------------------------------------------- 1. sizes


@dataclass(frozen=True)
class Sizes:
    """Sizes of a training on SHOW.

    Parameters
    ----------
    codebook, codebook_training
        Of body and hands; the network of the Fréchet distance has the same sizes without a codebook.
    prior, prior_training
        Over their codes.
    face_training
        Of the face behind wav2vec 2.0.
    regressor, regressor_training
        The face without wav2vec 2.0, and the deterministic rival.
    draws
        For each test clip; 2 in the released evaluation.
    """

    codebook: ts.CodebookConfig
    codebook_training: ts.CodebookTraining
    prior: ts.PriorConfig
    prior_training: ts.PriorTraining
    face_training: ts.FaceTraining
    regressor: ts.RegressorConfig
    regressor_training: ts.RegressorTraining
    draws: int = 2


# The released codebooks start at random and are never restarted. With the mended update unused codes stay where they are, so they start on data here,
# and one that fewer than one vector in twenty batches chose is put there again (choices of ours).
FULL_CODEBOOK_TRAINING = dataclasses.replace(
    ts.CodebookTraining(), start="data", restart_every=500, restart_until=0.5, restart_least=0.05
)


def sizes(exp: Experiment) -> Sizes:
    """Sizes of a profile; only the full one, which is the released one, is meant for results."""
    tiny = PixelCnnConfig(codes=8, width=8, layers=2, head=8, audio=8)
    quick = dataclasses.replace(ts.QUICK_PRIOR.grid, codes=64)
    short = {"steps": 4, "batch": 4}
    return exp.scale(
        smoke=Sizes(
            ts.CodebookConfig(8, 1, QuantizerConfig(codes=8, dim=4)),
            dataclasses.replace(ts.QUICK_CODEBOOK_TRAINING, warmup=1, restart_every=2, **short),
            ts.PriorConfig(tiny, residual_layers=1),
            dataclasses.replace(ts.QUICK_PRIOR_TRAINING, **short),
            ts.FaceTraining(steps=3),
            ts.RegressorConfig(width=8, layers=2),
            ts.RegressorTraining(**short),
        ),
        quick=Sizes(
            ts.CodebookConfig(128, 1, QuantizerConfig(codes=64, dim=16, decay=0.95)),
            dataclasses.replace(ts.QUICK_CODEBOOK_TRAINING, steps=2000, warmup=200, lr=1e-3),
            ts.PriorConfig(quick, residual_layers=1),
            dataclasses.replace(ts.QUICK_PRIOR_TRAINING, steps=2000, lr=1e-3),
            ts.FaceTraining(steps=2000),
            ts.RegressorConfig(),
            ts.RegressorTraining(steps=2000, lr=1e-3, loss="l1"),
        ),
        full=Sizes(
            ts.CodebookConfig(),
            FULL_CODEBOOK_TRAINING,
            ts.PriorConfig(),
            ts.PriorTraining(),
            ts.FaceTraining(),
            # The paper's deterministic rival is not in the released code; width, depth and schedule are choices of ours.
            ts.RegressorConfig(width=256, layers=6),
            ts.RegressorTraining(steps=100_000, batch=128, lr=3e-4, loss="l1"),
        ),
    )


# ---------------------------------------------------------------------------------------------------------------- 2. SHOW


class ShowData:
    """SHOW's clips in a folder, by part.

    Parameters
    ----------
    root
        Folder of the clips in any of the layouts of `show.index_clips`, converted (`python -m paper_utils.data.show convert`) or, with
        ``SMPLX_NEUTRAL.npz`` beside them, as pickles; with ``train_val_test.json`` of the released code, unless folders name the parts.
    reports
        Folder that lists of clips are written to.

    Raises
    ------
    FileNotFoundError, ValueError
        If there are no clips, no split, or pickles without the hand components that they need.
    """

    def __init__(self, root: Path, reports: Path) -> None:
        self.root, self._reports = root, reports
        self.index = show.index_clips(root)
        self.split = _split(self.index)
        for part in ("train", "test"):
            if not self.split[part]:
                raise ValueError(f"{root}: the split has no clips of the part {part!r}")
        body_model = root / BODY_MODEL
        self.hands: HandComponents | None = read_hand_components(body_model) if body_model.is_file() else None
        pickled = [path for path in self.index.motion.values() if path.endswith(".pkl")]
        if pickled and self.hands is None:
            raise ValueError(
                f"{root}: {len(pickled)} clips are pickles ({first_few(pickled)}), whose hands need {BODY_MODEL} beside them; put it there, "
                "or convert the clips first: python -m paper_utils.data.show convert"
            )

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the split and of the names and sizes of all files."""
        lines = [f"{part} {name}" for part, names in self.split.items() for name in names]
        for kind in (self.index.motion, self.index.sound):
            lines += [f"{path} {(self.root / path).stat().st_size}" for path in kind.values()]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    @cached_property
    def train(self) -> Clips:
        """Motion and 64 MFCC of the training clips, in memory: about 5 GB for all of SHOW. Clips that are left out are named on the error stream.

        Windows begin where those of the released code do, which takes none of a clip that has no frame to spare.
        """
        clips, report = show.load_clips(self.index, self.split["train"], self.hands, min_frames=show.MIN_FRAMES + 1)
        self._say("train", report)
        return dataclasses.replace(clips, official_starts=True)

    @cached_property
    def test(self) -> list[show.ShowClip]:
        """Whole test clips. What cannot be read is named on the error stream."""
        clips, left_out = [], []
        for name in self.split["test"]:
            try:
                clip = show.read_clip(self.index, name, self.hands)
            except (KeyError, ValueError, FileNotFoundError) as error:
                left_out.append((name, str(error)))
                continue
            if len(clip.motion) < show.MIN_FRAMES:
                left_out.append((name, f"{len(clip.motion)} frames, fewer than {show.MIN_FRAMES}"))
                continue
            clips.append(clip)
        trimmed = tuple((clip.name, *clip.trimmed) for clip in clips if clip.trimmed)
        report = show.LoadReport(tuple(clip.name for clip in clips), trimmed, tuple(left_out))
        self._say("test", report)
        if not clips:
            raise ValueError(f"{self.root}: none of {len(left_out)} test clips can be used; {report}")
        return clips

    def _say(self, part: str, report: show.LoadReport) -> None:
        """Write what was done with every clip, and name those that are left out; one of several processes does."""
        if int(os.environ.get("RANK", "0")):
            return
        outside = "".join(f"\n  {name}: {reason}" for name, reason in self.index.left_out)
        path = self._reports / f"clips_{part}.txt"
        files.write_text(path, f"{report}\nnot in the index:{outside or ' nothing'}\n")
        if report.left_out:
            shown = first_few([f"{name} ({reason})" for name, reason in report.left_out])
            print(f"{part}: {len(report.left_out)} clips left out, all named in {path}: {shown}", file=sys.stderr)


def _split(index: show.ShowIndex) -> dict[str, tuple[str, ...]]:
    for name in SPLIT_FILES:
        if (index.root / name).is_file():
            return show.read_split(index.root / name)
    if not index.split:
        raise ValueError(
            f"{index.root}: which clips are for training? expected {SPLIT_FILES[0]} of the released code there, or folders train, val and test"
        )
    parts: dict[str, list[str]] = {part: [] for part in show.SPLITS}
    for name in index.motion:
        if name not in index.split:
            raise ValueError(f"{index.root}: clip {name} stands in no folder train, val or test, as others do")
        parts[index.split[name]].append(name)
    return {part: tuple(names) for part, names in parts.items()}


@dataclass(frozen=True)
class SpokenClips:
    """Training clips for the face behind wav2vec 2.0, read when asked for: recording at 16 kHz, motion, speaker.

    Parameters
    ----------
    data
        The folder.
    names
        Usable clips.
    """

    data: ShowData
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int]:
        """One clip."""
        clip = show.read_clip(self.data.index, self.names[index], self.data.hands)
        return resample(clip.samples, show.SAMPLE_RATE, SPEECH_RATE), clip.motion, clip.speaker


# ----------------------------------------------------------------------------------------------------------- 3. trainings


def run_folder(exp: Experiment) -> Path:
    """Where networks, lists of clips and the evaluation of a run are written."""
    return files.output_root(exp.profile) / "build" / "recipes" / f"talkshow_show_{exp.profile}-seed{exp.seed}"


class Stages:
    """The trainings of one run: each from the cache, or from its checkpoint, or from the beginning. In several processes all of them call each stage.

    Parameters
    ----------
    exp
        The run.
    data
        Its clips.
    fabric
        Where to train.
    """

    def __init__(self, exp: Experiment, data: ShowData, fabric: lightning_fabric.Fabric) -> None:
        self.exp, self.data, self.fabric, self.sizes = exp, data, fabric, sizes(exp)

    def _cached(
        self, name: str, settings: Mapping[str, Any], train: Callable[[Path], dict[str, Any]]
    ) -> dict[str, Any]:
        key = {"name": name, "data": self.data.fingerprint, "seed": self.exp.seed, **settings}
        code = [Path(ts.__file__), Path(show.__file__)]
        state = training.cached("talkshow_show", key, train, code=code, fabric=self.fabric)
        # Batch statistics and codebooks of the other processes are not those that were written.
        return self.fabric.broadcast(state) if self.fabric.world_size > 1 else state

    def _network(
        self, name: str, network: nn.Module, settings: Mapping[str, Any], train: Callable[..., tuple[nn.Module, dict]]
    ) -> Any:
        def fill(checkpoint: Path) -> dict[str, Any]:
            made, history = train(fabric=self.fabric, seed=self.exp.seed, checkpoint=checkpoint)
            state = {key: value.detach().cpu() for key, value in made.state_dict().items()}
            return {"network": state, "history": {key: torch.from_numpy(values) for key, values in history.items()}}

        state = self._cached(name, settings, fill)
        network.load_state_dict(state["network"])
        return network.eval(), {key: values.numpy() for key, values in state["history"].items()}

    def codebook(self, part: str) -> tuple[ts.VqVae, dict[str, Float[np.ndarray, " steps"]]]:
        """Codes of ``"body"`` or ``"hands"``, in radians as released."""
        columns, config, how = UPPER[PARTS[part]], self.sizes.codebook, self.sizes.codebook_training
        return self._network(
            f"codebook {part}",
            ts.VqVae(len(columns), config, seed=self.exp.seed),
            {"config": dataclasses.asdict(config), "training": dataclasses.asdict(how)},
            lambda **run: ts.train_codebook(self.data.train, columns, config, how, **run),
        )

    def motion_network(self) -> MotionAutoencoder:
        """The network of the Fréchet distance: the same autoencoder over body and hands, never quantized, on the training clips."""
        config = self.sizes.codebook
        how = dataclasses.replace(
            self.sizes.codebook_training, warmup=self.sizes.codebook_training.steps, start="random", restart_every=0
        )
        network, _ = self._network(
            "motion network",
            ts.VqVae(len(UPPER), config, seed=self.exp.seed),
            {"config": dataclasses.asdict(config), "training": dataclasses.asdict(how)},
            lambda **run: ts.train_codebook(self.data.train, UPPER, config, how, **run),
        )
        made = MotionAutoencoder(config.codec(len(UPPER)))
        made.encoder, made.decoder = network.encoder, network.decoder
        return made.eval()

    @cached_property
    def _codebooks(self) -> tuple[ts.VqVae, ts.VqVae]:
        return self.codebook("body")[0], self.codebook("hands")[0]

    @cached_property
    def _vocabulary(self) -> str:
        """Hash of both codebooks: what codes mean."""
        tensors = [network.quantizer.codebook.numpy().tobytes() for network in self._codebooks]
        return hashlib.sha256(b"".join(tensors)).hexdigest()

    @cached_property
    def codes(self) -> Int[Tensor, "windows rows 2"]:
        """Codes of every training window, each process having encoded its share."""
        how = self.sizes.prior_training
        window = {"window": how.window, "stride": how.stride}

        def encode(_: Path) -> dict[str, Any]:
            windows = self.data.train.windows(how.window, how.stride)
            ranks = self.fabric.world_size
            # The last share is filled up with the first windows.
            rows = torch.arange(self.fabric.global_rank, -(-len(windows) // ranks) * ranks, ranks) % len(windows)
            networks = [network.to(self.fabric.device) for network in self._codebooks]
            codes = ts.encode_windows(self.data.train, windows[rows], *networks, length=how.window)
            if ranks > 1:
                gathered = self.fabric.all_gather(codes.to(self.fabric.device)).cpu()
                codes = gathered.transpose(0, 1).flatten(0, 1)[: len(windows)]
            for network in networks:
                network.cpu()
            return {"codes": codes}

        return self._cached("codes", {"vocabulary": self._vocabulary, **window}, encode)["codes"]

    def prior(self, variant: str = "cross") -> tuple[ts.Prior, dict[str, Float[np.ndarray, ...]]]:
        """Drawn jointly (``"cross"``), or each part by itself (``"independent"``) with a vector that tells the parts apart."""
        grid = dataclasses.replace(self.sizes.prior.grid, variant=variant, part_vector=variant == "independent")
        config, how = dataclasses.replace(self.sizes.prior, grid=grid), self.sizes.prior_training
        codes = self.codes  # before the training begins, since it is a stage of its own

        def train(**run: Any) -> tuple[ts.Prior, dict]:
            clips = self.data.train
            return ts.train_prior(clips, clips.windows(how.window, how.stride), codes, config, how, **run)

        settings = {"config": dataclasses.asdict(config), "training": dataclasses.asdict(how)}
        settings["vocabulary"] = self._vocabulary
        return self._network(f"prior {variant}", ts.Prior(config, seed=self.exp.seed), settings, train)

    def regressor(self, part: str) -> tuple[ts.Regressor, dict[str, Float[np.ndarray, " steps"]]]:
        """A function of the MFCC: of body and hands (``"upper"``), the rival, or of the ``"face"``, where there is no wav2vec 2.0."""
        columns = {"upper": UPPER, "face": FACE}[part]
        config, how = dataclasses.replace(self.sizes.regressor, channels=len(columns)), self.sizes.regressor_training
        return self._network(
            f"regressor {part}",
            ts.Regressor(config, seed=self.exp.seed),
            {"config": dataclasses.asdict(config), "training": dataclasses.asdict(how)},
            lambda **run: ts.train_regressor(self.data.train, columns, config, how, **run),
        )

    @property
    def speech_folder(self) -> Path | None:
        """wav2vec 2.0 in the data folder, if it is there."""
        folder = self.data.root / SPEECH_MODEL
        return folder if folder.is_dir() else None

    @cached_property
    def _face(self) -> tuple[ts.FaceHead | ts.Regressor, nn.Module | None, Float[np.ndarray, " steps"]]:
        if self.speech_folder is None:
            network, history = self.regressor("face")
            return network, None, history["loss"]
        model = load_wav2vec2(self.speech_folder)
        if hasattr(model, "masked_spec_embed"):  # stands for masked frames, of which there are none
            model.masked_spec_embed.requires_grad_(False)
        head = ts.FaceHead(ts.FaceConfig(hidden=model.config.hidden_size), seed=self.exp.seed)
        faces, how = ts.FaceGenerator(ts.SpeechFeatures(model), head), self.sizes.face_training

        def train(**run: Any) -> tuple[ts.FaceGenerator, dict]:
            _, report = show.load_clips(
                self.data.index, self.data.split["train"], self.data.hands, features=_no_features
            )
            return ts.train_face(SpokenClips(self.data, report.used), faces, how, **run)

        _, history = self._network("face", faces, {"training": dataclasses.asdict(how)}, train)
        return head, faces.speech, history["loss"]

    def face(self) -> tuple[ts.FaceHead | ts.Regressor, Float[np.ndarray, " steps"]]:
        """The face and its losses: behind wav2vec 2.0 if the data folder has ``wav2vec2-base-960h``, as in the paper; else from the MFCC."""
        return self._face[0], self._face[2]

    def speech(self) -> ts.SpeechFeatures | None:
        """The speech network that was trained with the face."""
        return self._face[1]

    def model(self, variant: str = "cross") -> ts.TalkShow:
        """All networks as one."""
        return ts.TalkShow(*self._codebooks, self.prior(variant)[0], self.face()[0])

    def write(self) -> Path:
        """Write the networks for `paper_utils.gesture` and `talkshow_files.load`; the trained wav2vec 2.0 beside them in its own layout."""
        model, path = self.model(), run_folder(self.exp) / "networks.safetensors"
        if self.fabric.is_global_zero:
            talkshow_files.save(model, path)
            if (speech := self.speech()) is not None:
                speech.model.save_pretrained(path.with_name("wav2vec2"))
            print(f"written to {path}; the face hears {SPEECH_MODEL if speech else 'MFCC'}", flush=True)
        return path

    def evaluate(self) -> None:
        """Train what is missing, then measure on the test part and write ``evaluation.json``. All processes train; one measures."""
        networks = talkshow_evaluation.Networks(
            {"drawn jointly": self.model(), "drawn separately": self.model("independent")},
            self.regressor("upper")[0],
            self.motion_network(),
            self.speech(),
            self.sizes.draws,
        )
        if self.fabric.is_global_zero:
            report = talkshow_evaluation.evaluate(
                networks, self.data.test, self.data.train, exp=self.exp, device=self.fabric.device
            )
            path = run_folder(self.exp) / "evaluation.json"
            files.write_text(path, json.dumps(report, indent=1, allow_nan=False))
            print(f"{talkshow_evaluation.summary(report)}\nwritten to {path}", flush=True)


def _no_features(clip: show.ShowClip) -> Float[Tensor, "frames none"]:
    return clip.motion.new_zeros(len(clip.motion), 0)


def trainings(exp: Experiment) -> dict[str, Callable[[lightning_fabric.Fabric], Float[np.ndarray, " steps"]]]:
    """Trainings on SHOW as calls that fill the cache and give the loss of every step.

    ``model`` trains all four networks and writes them; ``evaluation`` trains the rivals too and writes what is measured on the test part (it has no
    loss). Whatever a stage needs of another is taken from the cache or trained first.

    Raises
    ------
    FileNotFoundError, ValueError
        If the folder holds no clips, no split, or lacks a file that the clips need.
    """
    data = ShowData(Path(exp.data_root), run_folder(exp))

    def call(train: Callable[[Stages], np.ndarray]) -> Callable[[lightning_fabric.Fabric], np.ndarray]:
        return lambda fabric: train(Stages(exp, data, fabric))

    def whole(stages: Stages) -> np.ndarray:
        stages.write()
        return stages.prior()[1]["loss"]

    def evaluation(stages: Stages) -> np.ndarray:
        stages.evaluate()
        return np.zeros(0)

    calls = {
        "body": lambda stages: stages.codebook("body")[1]["loss"],
        "hands": lambda stages: stages.codebook("hands")[1]["loss"],
        "face": lambda stages: stages.face()[1],
        "model": whole,
        "independent": lambda stages: stages.prior("independent")[1]["loss"],
        "regressor": lambda stages: stages.regressor("upper")[1]["loss"],
        "evaluation": evaluation,
    }
    return {name: call(train) for name, train in calls.items()}
