"""EMOTE at its published scale on MEAD: the prior, then two stages, each from a checkpoint if it is there.

    python -m paper_utils.recipes.emote prior  --data-root processed --flame flame.npz --output runs/emote
    python -m paper_utils.recipes.emote first  --data-root processed --flame flame.npz --wav2vec2 wav2vec2-base-960h --output runs/emote
    python -m paper_utils.recipes.emote second ... --landmarks landmarks.npz --lips lipread.pth --frames emoca.ckpt --classifier video.ckpt

Ablations take ``--variant``: "w/o FLINT" with the stages first and second (it has no prior), the others with the second alone; each writes files
of its own. `paper_utils.mesh.flame_files` converts FLAME's pickles. Everything is read from files that you have; nothing is downloaded.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import lightning_fabric
import torch

from paper_utils import devices, files, training
from paper_utils.data import mead
from paper_utils.data.emote_clips import FlameFace
from paper_utils.data.face_lists import first_few
from paper_utils.mesh.flame_files import read_flame, read_flame_landmarks
from paper_utils.methods import emote
from paper_utils.nn.emotion_video import load_emotion_classifier, load_emotion_frame_network
from paper_utils.nn.face_perception import RenderedPerception
from paper_utils.nn.speech_features import Wav2Vec2Features, load_wav2vec2
from paper_utils.nn.visual_speech import load_lip_reading_trunk
from paper_utils.recipes.emote_data import MeadSource, missing_features

STAGES = ("prior", "first", "second")
NEEDED = {"prior": (), "first": ("wav2vec2",), "second": ("wav2vec2", "landmarks", "lips", "frames", "classifier")}
# Runs of the paper by the second stage's weights and exchange. "w/o FLINT" has those of EMOTE, but its network says expression and jaw itself
# (history of the published code).
WITHOUT_PRIOR = "w/o FLINT"
VARIANTS = {**emote.VARIANTS, WITHOUT_PRIOR: emote.VARIANTS["EMOTE"]}
SKIN, LIGHT = 0.6, 3.5  # reflectance of the drawn face and its even light, where no texture is at hand; choices of ours


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m paper_utils.recipes.emote", description=__doc__.splitlines()[0])
    parser.add_argument("stage", help=", ".join(STAGES))
    parser.add_argument("--data-root", required=True, help="folder of the processed MEAD data")
    parser.add_argument("--reconstruction", default=mead.RECONSTRUCTIONS[0], help="folder below reconstructions")
    parser.add_argument("--flame", required=True, help="FLAME as .npz, see paper_utils.mesh.flame_files.convert_flame")
    parser.add_argument("--output", required=True, help="folder of checkpoints and results")
    parser.add_argument("--wav2vec2", help="folder of wav2vec2-base-960h")
    parser.add_argument("--landmarks", help="FLAME's 68 landmarks as .npz, see convert_flame_landmarks")
    parser.add_argument("--lips", help="checkpoint of the lip reader")
    parser.add_argument("--frames", help="EMOCA's checkpoint of the ResNet-50 for emotions")
    parser.add_argument("--classifier", help="checkpoint of the video emotion network")
    parser.add_argument("--variant", default="EMOTE", help=f"run of the paper: {', '.join(VARIANTS)}")
    parser.add_argument("--expressions", type=int, default=50, help="50 of the paper's state, 100 of the release")
    parser.add_argument("--steps", type=int, help="another number of steps")
    parser.add_argument("--batch-size", type=int, help="another batch over all processes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help=", ".join(devices.DEVICES))
    parser.add_argument("--precision", default="32-true", help=", ".join(training.PRECISIONS))
    return parser.parse_args(arguments)


def check(options: argparse.Namespace) -> None:
    """Refuse an unknown stage or variant or one without this stage, and name every file that the stage still needs.

    Raises
    ------
    ValueError
        The message lists what is valid or missing.
    """
    if options.stage not in STAGES:
        raise ValueError(f"stage: expected one of {', '.join(STAGES)}; found {options.stage!r}")
    if options.variant not in VARIANTS:
        raise ValueError(f"--variant: expected one of {', '.join(VARIANTS)}; found {options.variant!r}")
    if options.stage == "prior" and options.variant == WITHOUT_PRIOR:
        raise ValueError(f"--variant {WITHOUT_PRIOR}: there is no prior to train; begin with the stage first")
    if missing := [f"--{name}" for name in NEEDED[options.stage] if getattr(options, name) is None]:
        raise ValueError(f"stage {options.stage} needs {', '.join(missing)} as well; --help says what they are")


def changed(options: argparse.Namespace) -> dict[str, int]:
    """Fields of a schedule that the command line sets."""
    given = {"steps": options.steps, "batch": options.batch_size}
    return {name: value for name, value in given.items() if value is not None}


def file_name(options: argparse.Namespace, stage: str) -> str:
    """Name of a stage's files: with that of the variant where the stage depends on it, so that no run goes on from another's checkpoint."""
    own = options.variant != "EMOTE" and (stage == "second" or options.variant == WITHOUT_PRIOR)
    return f"{stage}-{re.sub(r'[^a-z0-9]+', '-', options.variant.lower())}" if own else stage


def load_prior(options: argparse.Namespace, sizes: emote.PriorSizes) -> emote.Flint:
    """The prior that the stage prior wrote."""
    network = emote.Flint(sizes, seed=options.seed)
    network.load_state_dict(_read(Path(options.output) / "prior.pt", "run the stage prior first"))
    return network.eval().requires_grad_(False)


def _read(path: Path, remedy: str) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; {remedy}")
    return training.load_state(path, {"state"})["state"]


def _write(path: Path, network: torch.nn.Module) -> None:
    training.save_state(path, {"state": network.state_dict()})


def _name_skipped(found: mead.MeadFiles, path: Path) -> None:
    """Write which clips no training meets, and say so on the error stream."""
    files.write_text(path, "".join(f"{reason}\n" for reason in found.skipped))
    total = len(found) + len(found.skipped)
    print(
        f"{len(found.skipped)} of {total} clips left out, all named in {path}: {first_few(found.skipped)}",
        file=sys.stderr,
    )


def perception(options: argparse.Namespace, device: torch.device) -> RenderedPerception:
    """The published networks, looking at an evenly lit face of one colour."""
    model = read_flame(options.flame, landmarks=read_flame_landmarks(options.landmarks))
    networks = (
        load_lip_reading_trunk(options.lips),
        load_emotion_frame_network(options.frames),
        load_emotion_classifier(options.classifier),
    )
    light = torch.zeros(9)
    light[0] = LIGHT
    return RenderedPerception(
        model.to(device), *(network.to(device) for network in networks), torch.full((len(model.mean), 3), SKIN), light
    )


def run(options: argparse.Namespace, fabric: lightning_fabric.Fabric) -> Path:
    """Train one stage and write its network.

    Returns
    -------
    Where it was written.
    """
    output, scale = Path(options.output), emote.FULL
    output.mkdir(parents=True, exist_ok=True)
    shape = dataclasses.replace(scale.prior, motion=options.expressions + 3)
    found = mead.read_processed(options.data_root, reconstruction=options.reconstruction)
    if found.skipped and fabric.is_global_zero:
        _name_skipped(found, output / "clips_left_out.txt")
    source = MeadSource.of_split(found, "train", expressions=options.expressions)
    face = FlameFace(read_flame(options.flame).to(fabric.device))
    name = file_name(options, options.stage)
    checkpoint, written = output / f"{name}.checkpoint.pt", output / f"{name}.pt"
    if options.stage == "prior":
        config = dataclasses.replace(scale.prior_training, **changed(options))
        network: torch.nn.Module = emote.train_prior(
            fabric, source, face, shape, config, seed=options.seed, checkpoint=checkpoint
        )[0]
    else:
        sizes = dataclasses.replace(scale.network, identities=len(source.people))
        audio = Wav2Vec2Features(load_wav2vec2(options.wav2vec2))
        prior = None if options.variant == WITHOUT_PRIOR else load_prior(options, shape)
        network = emote.Emote(sizes, prior, audio, motion=shape.motion, seed=options.seed)
        stage, looking = scale.first, None
        if options.stage == "second":
            weights, exchange = VARIANTS[options.variant]
            stage = dataclasses.replace(scale.second, weights=weights, exchange=exchange)
            network.load_state_dict(_read(output / f"{file_name(options, 'first')}.pt", "run the stage first before"))
            looking = perception(options, fabric.device)
            if absent := missing_features(found, source.rows):
                raise ValueError(
                    f"{options.data_root}: no emotion features of {len(absent)} clips, the first {absent[0]}"
                )
            # The static loss compares the frames' own features.
            video = torch.nn.Identity() if weights.static else load_emotion_classifier(options.classifier)
            source = dataclasses.replace(source, classifier=video)
        emote.train_stage(
            fabric, network, source, face, dataclasses.replace(stage, **changed(options)),
            perception=looking, seed=options.seed, checkpoint=checkpoint,
        )  # fmt: skip
    if fabric.is_global_zero:
        _write(written, network)
    return written


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns
    -------
    int
        0: written; 2: an argument or a file is wrong, and the message says what.
    """
    options = parse(arguments)
    try:
        check(options)
        fabric = training.launch_all(options.device, options.precision)
        written = run(options, fabric)
    except (ValueError, OSError, ImportError, training.CheckpointError) as error:
        print(f"paper_utils.recipes.emote: {error}", file=sys.stderr)
        return 2
    if fabric.is_global_zero:
        print(f"written to {written}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
