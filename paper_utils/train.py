"""Train outside the notebooks, on one device or many: a notebook's models into its cache, or a published recipe on real faces.

    python -m paper_utils.train 06 --profile full --device cuda
    torchrun --nproc-per-node 4 -m paper_utils.train 06 --profile full

    python -m paper_utils.train 08 --profile full --data show --data-root /data/show --device cuda

    python -m paper_utils.train --list-recipes
    python -m paper_utils.train 05 --recipe vggface2_sfnet20_sphereface2 --data-root /data/faces --precision bf16-mixed
    torchrun --nproc-per-node 4 -m paper_utils.train 05 --recipe ms1m_iresnet100_sphereface2 --data-root /data/faces --class-parallel
    python -m paper_utils.train evaluate --recipe ms1m_iresnet100_sphereface2 --weights model_240000.pth --data-root /data/faces

A notebook's runs that are already in ``.cache/`` are not trained again; a run that was killed goes on from its checkpoint, a recipe's
with ``--resume``.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import lightning_fabric
import numpy as np

from paper_utils import devices, experiment, files, papers, training
from paper_utils.nn import official_weights
from paper_utils.recipes import evaluation, face_data, face_recognition, published
from paper_utils.studies import (
    cest,
    dimnet,
    emote,
    meshtalk,
    phonemes,
    sphereface2,
    sphereface_r,
    talkshow,
    voice_to_face,
)

Training = Callable[[lightning_fabric.Fabric], np.ndarray]  # gives the loss of every step
# What each paper trains: a function of the experiment that gives named calls, each taking a Fabric.
STUDIES = {
    "02": dimnet.trainings,
    "03": voice_to_face.trainings,
    "04": meshtalk.trainings,
    "05": sphereface2.trainings,
    "06": sphereface_r.trainings,
    "07": cest.trainings,
    "09": emote.trainings,
    "08": talkshow.trainings,
    "10": phonemes.trainings,
}
EVALUATE = "evaluate"
# Options that mean something for one way of training only; they have no value unless given.
STUDY_ONLY = ("profile", "data", "only")
RECIPE_ONLY = (
    "train_data", "output", "resume", "steps", "batch_size", "class_parallel", "partial", "compile", "evaluate_every",
    "save_every", "report_every", "threads",
)  # fmt: skip
EVALUATE_ONLY = ("weights",)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m paper_utils.train", description=__doc__.splitlines()[0])
    parser.add_argument("paper", nargs="?", help=f"one of {', '.join(STUDIES)}, or {EVALUATE}")
    parser.add_argument("--data-root", help="folder of real data in its official layout")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help=", ".join(devices.DEVICES))
    parser.add_argument("--precision", help=f"{', '.join(training.PRECISIONS)}; the recipe's, or 32-true")

    study = parser.add_argument_group("a notebook's models")
    study.add_argument("--profile", help=f"{', '.join(papers.PROFILES)}; quick if not given")
    study.add_argument("--data", help="data name of the paper")
    study.add_argument("--only", help="names of the models to train, comma-separated; all if empty")

    recipe = parser.add_argument_group("a published recipe on real faces")
    recipe.add_argument("--list-recipes", action="store_true", help="print all recipes and end")
    recipe.add_argument("--recipe", help="name of the recipe")
    recipe.add_argument(
        "--train-data", help="list, .rec file or folder to train on; else it is looked for in --data-root"
    )
    recipe.add_argument(
        "--output", help="folder of this run, or file of the numbers with evaluate; else in build/recipes"
    )
    recipe.add_argument("--resume", action="store_true", default=None, help="go on from the checkpoint in --output")
    recipe.add_argument("--steps", type=int, help="another length of the run; decays at the same fractions of it")
    recipe.add_argument("--batch-size", type=int, help="over all processes; the recipe's if not given")
    recipe.add_argument("--class-parallel", action="store_true", default=None, help="share the classes over processes")
    recipe.add_argument("--partial", type=float, help="share of the classes a step, with --class-parallel (Partial FC)")
    recipe.add_argument("--compile", action="store_true", default=None, help="compile the backbone")
    recipe.add_argument("--evaluate-every", type=int, help="iterations between evaluations, each with an export")
    recipe.add_argument("--save-every", type=int, help="iterations between checkpoints")
    recipe.add_argument("--report-every", type=int, help="iterations between progress lines")
    recipe.add_argument("--threads", type=int, help="batches decoded at once in the background")
    recipe.add_argument("--weights", help="with evaluate: official checkpoint, such as the exports of a run")
    return parser.parse_args(arguments)


def refuse(options: argparse.Namespace, names: Sequence[str], needs: str) -> None:
    """Raise if any of the options was given that has no meaning here.

    Raises
    ------
    ValueError
        Naming them, and what they need.
    """
    given = [f"--{name.replace('_', '-')}" for name in names if getattr(options, name) is not None]
    if given:
        raise ValueError(f"{', '.join(given)}: only with {needs}")


def launch(options: argparse.Namespace, precision: str) -> lightning_fabric.Fabric:
    """The process, or this one of those that torchrun started."""
    return training.launch_all(options.device, options.precision or precision)


def chosen_paper(options: argparse.Namespace) -> papers.Paper:
    """The paper of the command line.

    Raises
    ------
    ValueError
        If none was given, or it is unknown.
    """
    if options.paper is None:
        raise ValueError(f"which paper? expected one of {', '.join(STUDIES)}, or {EVALUATE}, or --list-recipes")
    return papers.find(options.paper)


def choose_models(options: argparse.Namespace) -> tuple[lightning_fabric.Fabric, dict[str, Training]]:
    """The chosen models of a paper's notebook, as calls that train them into its cache."""
    refuse(options, (*RECIPE_ONLY, *EVALUATE_ONLY), "--recipe")
    paper = chosen_paper(options)
    if paper.number not in STUDIES:
        raise ValueError(f"paper {paper.number} has nothing to train here; papers that have: {', '.join(STUDIES)}")
    exp = experiment.start(
        paper.number,
        profile=options.profile or "quick",
        seed=options.seed,
        data=options.data,
        data_root=options.data_root,
        device=options.device,
    )
    fabric = launch(options, "32-true")
    available = STUDIES[paper.number](exp)
    chosen = [name for name in (options.only or "").split(",") if name] or list(available)
    unknown = [name for name in chosen if name not in available]
    if unknown:
        raise ValueError(f"unknown model {', '.join(unknown)}; valid: {', '.join(available)}")
    return fabric, {name: available[name] for name in chosen}


def train_models(fabric: lightning_fabric.Fabric, chosen: dict[str, Training]) -> None:
    """Train one after the other, with a line each."""
    for name, train in chosen.items():
        began = time.perf_counter()
        history = train(fabric)
        if fabric.is_global_zero:
            steps = f"{len(history):>6} steps, last loss {history[-1].mean():.4f}, " if len(history) else ""
            print(f"{name:<24} {steps}{time.perf_counter() - began:.1f} s", flush=True)


def data_root(options: argparse.Namespace) -> Path:
    """The folder of the user's data.

    Raises
    ------
    ValueError
        If it was not given.
    """
    if options.data_root is None:
        raise ValueError("--data-root: a recipe needs the folder of the data, with train/ or train.rec in it")
    return Path(options.data_root)


def train_recipe(options: argparse.Namespace) -> None:
    """Train a published recipe on real faces."""
    refuse(options, STUDY_ONLY, "a notebook's models, without --recipe")
    refuse(options, EVALUATE_ONLY, EVALUATE)
    recipe = published.find(options.recipe, chosen_paper(options).number)
    if options.batch_size is not None:
        recipe = dataclasses.replace(recipe, batch_size=options.batch_size)
    if options.steps is not None:
        recipe = recipe.lasting(options.steps)
    chosen = {field.name: getattr(options, field.name) for field in dataclasses.fields(face_recognition.Options)}
    how = face_recognition.Options(**{name: value for name, value in chosen.items() if value is not None})
    root = data_root(options)
    size = recipe.image_size
    faces = (
        face_data.read_training_set(options.train_data, size=size)
        if options.train_data
        else face_data.find_training_set(root, recipe.train_set, size=size)
    )
    validation = face_data.find_validation_sets(root, size=size)
    output = options.output or files.output_root() / "build" / "recipes" / f"{recipe.name}-seed{options.seed}"
    fabric = launch(options, recipe.precision)
    face_recognition.train(recipe, faces, validation, fabric, output, how)


def evaluate(options: argparse.Namespace) -> None:
    """Test an official checkpoint on every pair list and benchmark of the data folder; write the numbers as JSON."""
    refuse(options, STUDY_ONLY, "a notebook's models")
    refuse(options, [name for name in RECIPE_ONLY if name not in ("output", "threads")], "training a recipe")
    if options.recipe is None or options.weights is None:
        raise ValueError(f"{EVALUATE} needs --recipe (which network) and --weights (which checkpoint)")
    recipe, weights = published.find(options.recipe), Path(options.weights)
    backbone, found = official_weights.load_backbone(
        recipe.backbone, weights, branch=recipe.branch, **recipe.backbone_changes
    )
    root = data_root(options)
    fabric = launch(options, "32-true")
    report = evaluation.evaluate_everything(
        backbone.to(fabric.device), root, fabric, branch=recipe.branch, threads=options.threads or 4
    )
    if fabric.is_global_zero:
        output = Path(options.output) if options.output else weights.with_name(f"{weights.stem}_evaluation.json")
        content = {"recipe": recipe.name, "weights": weights.name, "iteration": found.iteration, **report}
        files.write_text(output, json.dumps(content, indent=1))
        if not os.environ.get(training.QUIET_VARIABLE):
            print(evaluation.summary(report["pairs"]))
            print(f"written to {output}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns
    -------
    int
        0: done or already there; 1: a checkpoint that cannot be used, or an infinite loss; 2: a wrong argument or bad data.
    """
    options = parse(arguments)
    if options.list_recipes:
        print(published.table())
        return 0
    try:
        if options.paper == EVALUATE:
            evaluate(options)
        elif options.recipe:
            train_recipe(options)
        else:
            train_models(*choose_models(options))
    except (ValueError, OSError) as error:
        print(f"paper_utils.train: {error}", file=sys.stderr)
        return 2
    except (training.CheckpointError, training.DivergedError) as error:
        print(f"paper_utils.train: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
