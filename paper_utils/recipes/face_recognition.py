"""Trains a recipe of papers 05 and 06 on real faces: one process or many, head whole or sharded, exact resume, evaluation, export.

What a step does is a function of the seed and the step's number (rows, mirrored pictures, sampled classes), so a run that was killed
goes on from its checkpoint as if nothing had happened.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import json
import math
import os
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning_fabric
import numpy as np
import torch
from jaxtyping import Bool, Int
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.fsdp.sharded_grad_scaler import ShardedGradScaler
from tqdm.auto import tqdm

from paper_utils import files, provenance, training
from paper_utils.data.face_images import FacePairs, LabelledFaces, decoded_ahead, mirrored
from paper_utils.data.face_lists import with_label_noise
from paper_utils.nn import backbones
from paper_utils.nn.class_parallel import ClassParallel, clip_gradients_
from paper_utils.nn.exchanges import Ranks, sent_by_kind
from paper_utils.nn.official_weights import PREFIX
from paper_utils.recipes import evaluation, heads
from paper_utils.recipes.published import Recipe

APART = 1000  # iterations between the last five evaluations, as between the official checkpoints
CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class Options:
    """How a run is carried out; what it computes is the recipe's and the data's.

    Parameters
    ----------
    seed
        Of backbone, proxies, order, mirroring and sampling.
    class_parallel
        Share the classes out over the processes (`ClassParallel`).
    partial
        Share of its classes that each shard keeps a step (Partial FC); below 1 it needs `class_parallel`.
    compile
        Compile the backbone.
    resume
        Go on from the checkpoint in the output folder, if there is one.
    evaluate_every, save_every, report_every
        Iterations between evaluations (with exports), checkpoints and progress lines.
    threads
        Batches decoded at once in the background, and held in memory.
    """

    seed: int = 0
    class_parallel: bool = False
    partial: float = 1.0
    compile: bool = False
    resume: bool = False
    evaluate_every: int = 5000
    save_every: int = 1000
    report_every: int = 100
    threads: int = 4

    def __post_init__(self) -> None:
        for name in ("evaluate_every", "save_every", "report_every", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, found {getattr(self, name)}")
        if not 0 < self.partial <= 1:
            raise ValueError(f"partial: expected a share of the classes in (0, 1], found {self.partial}")
        if self.partial < 1 and not self.class_parallel:
            raise ValueError("partial: sampling classes needs a class-parallel head; add --class-parallel")


# --------------------------------------------------------------------------------------------------------- what a step is


@dataclass(frozen=True)
class Batches:
    """The batches of a run, each a pure function of the seed and its number.

    Parameters
    ----------
    images, batch_size
        Size of the training set, and of a batch over all processes.
    flip
        Probability of mirroring.
    seed
        Of order, mirroring and sampling.
    rank, world_size
        This process takes every ``world_size``-th picture of a batch.
    """

    images: int
    batch_size: int
    flip: float
    seed: int
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        if self.batch_size > self.images:
            raise ValueError(
                f"batch_size: a batch of {self.batch_size} is larger than the training set of {self.images} images; lower --batch-size"
            )
        if self.batch_size % self.world_size:
            raise ValueError(
                f"batch_size: a batch of {self.batch_size} does not split evenly over {self.world_size} processes; choose a multiple"
            )

    def rows(self, step: int) -> Int[Tensor, " own"]:
        """Rows of the training set for this process."""
        share = {"rank": self.rank, "world_size": self.world_size}
        return training.batch_indices(self.images, self.batch_size, step, seed=self.seed, **share)

    def flips(self, step: int) -> Bool[Tensor, " own"]:
        """Which of them are mirrored; a picture's fate does not depend on the number of processes."""
        drawn = np.random.default_rng([self.seed, step, 1]).random(self.batch_size) < self.flip
        return torch.from_numpy(drawn[self.rank :: self.world_size].copy())

    def sampler(self, step: int) -> torch.Generator:
        """Source of this process's sampled classes."""
        seed = int(np.random.SeedSequence([self.seed, step, 2, self.rank]).generate_state(1)[0])
        return torch.Generator().manual_seed(seed)


def evaluation_steps(steps: int, every: int) -> set[int]:
    """Iterations after which the network is tested: every so many, and the last five 1,000 apart if the run has room for them."""
    last = {steps - i * APART for i in range(evaluation.LAST)} if steps >= 2 * evaluation.LAST * APART else {steps}
    return last | set(range(every, steps + 1, every))


# --------------------------------------------------------------------------------------------------------------- the run


def train(
    recipe: Recipe,
    faces: LabelledFaces,
    validation: Mapping[str, FacePairs],
    fabric: lightning_fabric.Fabric,
    output: str | Path,
    options: Options,
) -> dict[str, Any]:
    """Train one recipe and leave everything in `output`.

    ``checkpoint.pt`` (to resume from), ``history.csv`` (a line an iteration), ``evaluation.json`` (by iteration, and the mean of the last
    five), an export in the official layout after each evaluation, ``model.safetensors`` at the end, ``run.json`` (what was run).

    Parameters
    ----------
    recipe, options
        What to train, and how to carry it out.
    faces
        Training pictures, before label noise.
    validation
        Lists of pairs by name; may be empty.
    fabric
        From `training.launch`.
    output
        Folder of this run; all processes must see it.

    Returns
    -------
    dict
        The content of ``run.json``.

    Raises
    ------
    ValueError
        If the batch is larger than the set or does not split over the processes, or the head cannot be sharded.
    FileExistsError
        If the folder holds a run and `options` do not say to resume.
    training.CheckpointError
        If the checkpoint is damaged or of another run.
    training.DivergedError
        If the loss becomes NaN or infinite.
    """
    output = Path(output)
    checkpoint = output / CHECKPOINT
    if checkpoint.exists() and not options.resume:
        raise FileExistsError(
            f"{checkpoint}: the folder holds a run; add --resume to go on, or choose another --output"
        )
    share = {"rank": fabric.global_rank, "world_size": fabric.world_size}
    batches = Batches(len(faces), recipe.batch_size, recipe.flip, options.seed, **share)
    if recipe.noise_ratio:
        noise = torch.Generator().manual_seed(recipe.noise_seed)
        faces, _ = with_label_noise(faces, recipe.noise_ratio, generator=noise)

    backbone = backbones.build_backbone(
        recipe.backbone, seed=options.seed, branch=recipe.branch, **recipe.backbone_changes
    )
    dim, classes = backbone.config.features, len(faces.identity_names)
    ranks = Ranks(alone=not options.class_parallel)
    if options.class_parallel:
        head = heads.sharded_head(recipe.head, dim, classes, options.seed + 1, ranks, options.partial)
    else:
        head = heads.whole_head(recipe.head, dim, classes, options.seed + 1)
    parameters = [parameter for module in (backbone, head) for parameter in module.parameters()]
    optimizer = torch.optim.SGD(
        parameters, lr=recipe.learning_rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay
    )
    if options.class_parallel:
        heads.hold_whole_states(head, optimizer)
        _agree_on_loss_scale(fabric)
    identity = {
        "recipe": _as_plain(dataclasses.asdict(recipe)),
        "data": faces.fingerprint,
        "seed": options.seed,
        "class_parallel": options.class_parallel,
        "partial": options.partial,
        "precision": fabric.strategy.precision.precision,
    }
    torch.manual_seed(options.seed + fabric.global_rank)  # dropout, which no published network has, has no other source
    run = training.Run(
        fabric,
        {"backbone": torch.compile(backbone) if options.compile else backbone, "head": head},
        optimizer,
        steps=recipe.steps,
        schedule=torch.optim.lr_scheduler.MultiStepLR(optimizer, recipe.decay_at, gamma=recipe.decay),
        clip_norm=recipe.clip_norm,
        checkpoint=checkpoint,
        every_steps=options.save_every,
        every_seconds=None,
        identity=provenance.key_hash(identity),
        apart=("head",) if options.class_parallel else (),
        clip=(lambda largest: clip_gradients_(backbone.parameters(), head, largest))
        if options.class_parallel
        else None,
        coupled=False,  # as published: each process normalises its own part of the batch
    )
    _say(fabric, f"{recipe.name}: {len(faces)} images of {classes} people ({faces.name}), from iteration {run.step}")
    loss_of = heads.loss_function(run.modules["head"], recipe.head)
    tested = evaluation_steps(recipe.steps, options.evaluate_every)
    began, first = time.perf_counter(), run.step
    ahead = decoded_ahead(faces, map(batches.rows, range(first, recipe.steps)), threads=options.threads)
    with contextlib.closing(ahead) as pictures:
        for step, images in zip(run, pictures, strict=True):
            flips, labels = batches.flips(step), faces.identities[batches.rows(step)].to(fabric.device)
            images = images.to(fabric.device)
            images = torch.where(flips.to(fabric.device).view(-1, 1, 1, 1), mirrored(images), images)
            embeddings = run.modules["backbone"](images)
            sampler = batches.sampler(step) if options.partial < 1 else None
            loss = loss_of(embeddings, labels, sampler)
            run.update(loss, length=embeddings.detach().float().norm(dim=1).mean())
            if run.step % options.report_every == 0 or run.step == recipe.steps:
                _report(run, recipe, loss, first, began)
            if run.step in tested:
                _test(run, recipe, backbone, head, validation, output, options)
    return _finish(run, recipe, faces, head, output, options, first, time.perf_counter() - began)


def _agree_on_loss_scale(fabric: lightning_fabric.Fabric) -> None:
    """With a loss scale, a shard's gradient may overflow on one process only; all of them must then leave out the step."""
    precision = fabric.strategy.precision
    if fabric.world_size > 1 and getattr(precision, "scaler", None) is not None:
        precision.scaler = ShardedGradScaler(device=fabric.device.type)


def _test(
    run: training.Run,
    recipe: Recipe,
    backbone: backbones.SFNet | backbones.IResNet,
    head: nn.Module,
    validation: Mapping[str, FacePairs],
    output: Path,
    options: Options,
) -> None:
    """Evaluate and export the network as it is."""
    fabric = run.fabric
    export(recipe, backbone, head, run.step, output, fabric)
    if not validation:
        return
    report = evaluation.evaluate_pairs(backbone, validation, fabric, threads=options.threads)
    _say(fabric, f"iteration {run.step}:\n{evaluation.summary(report)}")
    if not fabric.is_global_zero:
        return
    path = output / "evaluation.json"
    kept = json.loads(path.read_text()) if path.is_file() else {}
    # A run that was killed after an evaluation does it again; one that goes back has no later ones.
    reports = {int(step): old for step, old in kept.get("iterations", {}).items() if int(step) < run.step}
    reports[run.step] = report
    last = dict(list(reports.items())[-evaluation.LAST :])
    mean = {"iterations": list(last), "pairs": evaluation.mean_of(list(last.values()))}
    content = {"recipe": recipe.name, "iterations": reports, "mean_of_the_last": mean}
    files.write_text(path, json.dumps(content, indent=1))


def _report(run: training.Run, recipe: Recipe, loss: Tensor, first: int, began: float) -> None:
    """One progress line; the only place where a run waits for the device between evaluations, so divergence is looked for here."""
    value = float(loss.detach())
    if not math.isfinite(value):
        raise training.DivergedError(
            f"the loss at iteration {run.step} is {value}; lower the learning rate or clip the gradient, and resume from the checkpoint"
        )
    pace = (run.step - first) / (time.perf_counter() - began)
    left = time.strftime("%H:%M:%S", time.gmtime((run.steps - run.step) / pace))
    days = int((run.steps - run.step) / pace // 86400)
    _say(
        run.fabric,
        f"{run.step:>7}/{run.steps}  loss {value:<9.4f} lr {recipe.learning_rate_at(run.step - 1):g}  "
        f"{pace * recipe.batch_size:,.0f} images/s  {f'{days} d ' if days else ''}{left} left",
    )


def _finish(
    run: training.Run,
    recipe: Recipe,
    faces: LabelledFaces,
    head: nn.Module,
    output: Path,
    options: Options,
    first: int,
    seconds: float,
) -> dict[str, Any]:
    """History and description of a finished run."""
    done = run.step - first
    described = {
        "recipe": _as_plain(dataclasses.asdict(recipe)),
        "options": dataclasses.asdict(options),
        "data": {"name": faces.name, "images": len(faces), "identities": len(faces.identity_names)},
        "fingerprint": faces.fingerprint,
        "iterations": run.step,
        "processes": run.fabric.world_size,
        "device": str(run.fabric.device),
        "precision": run.fabric.strategy.precision.precision,
        "torch": torch.__version__,
        "iterations_a_second": done / seconds if done else None,
    }
    if isinstance(head, ClassParallel) and done:
        steps_only = {each: times for each, times in head.ranks.exchanges.items() if each.phase != "apart"}
        sent = sent_by_kind(Counter(steps_only))
        described["bytes_sent_by_the_head_a_step"] = {kind: total / done for kind, total in sent.items()}
    if run.fabric.is_global_zero:
        files.write_text(output / "history.csv", history_csv(run.history, recipe))
        files.write_text(output / "run.json", json.dumps(described, indent=1))
    run.fabric.barrier()
    return described


def history_csv(history: Mapping[str, np.ndarray], recipe: Recipe) -> str:
    """Loss, mean length of the embeddings and learning rate of every iteration, as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["iteration", *history, "learning_rate"])
    for step, row in enumerate(zip(*history.values(), strict=True)):
        writer.writerow([step + 1, *(f"{value:.9g}" for value in row), f"{recipe.learning_rate_at(step):g}"])
    return text.getvalue()


# --------------------------------------------------------------------------------------------------------------- exports


def export(
    recipe: Recipe,
    backbone: backbones.SFNet | backbones.IResNet,
    head: nn.Module,
    step: int,
    output: str | Path,
    fabric: lightning_fabric.Fabric,
) -> Path:
    """Weights as the official code of the recipe's branch writes them, and at the last iteration also ``model.safetensors``.

    v0: ``backbone_<step>.pth`` and ``head_<step>.pth``; iclr: ``checkpoint_<step>.pth``; main: ``model_<step>.pth``. All are read by
    `official_weights.load_backbone`. The safetensors file holds ``backbone.<name>``, ``head.proxies`` (a row a class) and ``head.bias``.

    Returns
    -------
    Path
        The file to give to `official_weights.load_backbone`.
    """
    output = Path(output)
    proxies = head.all_proxies() if isinstance(head, ClassParallel) else head.proxies.detach()
    name = {"v0": f"backbone_{step}.pth", "iclr": f"checkpoint_{step}.pth", "main": f"model_{step}.pth"}[recipe.branch]
    if fabric.is_global_zero:
        state = {name: value.detach().cpu().clone() for name, value in backbone.state_dict().items()}
        proxies = proxies.cpu().clone()
        bias = getattr(head, "bias", None)
        bias = None if bias is None else bias.detach().cpu().reshape(-1).clone()
        extra = {} if bias is None else {"b": bias}
        rows = {"w": proxies, **extra}
        columns = {f"{PREFIX}w": proxies.T.contiguous(), **{f"{PREFIX}{key}": value for key, value in extra.items()}}
        prefixed = {f"{PREFIX}{key}": value for key, value in state.items()}
        if recipe.branch == "main":
            training.save_state(output / name, {"backbone": state, "head": rows})
        elif recipe.branch == "iclr":
            training.save_state(output / name, {"backbone": prefixed, "head": columns})
        else:
            training.save_state(output / f"head_{step}.pth", columns)
            training.save_state(output / name, prefixed)
        if step == recipe.steps:
            tensors = {f"backbone.{key}": value for key, value in state.items()} | {"head.proxies": proxies}
            tensors |= {} if bias is None else {"head.bias": bias}
            about = {
                "recipe": recipe.name,
                "backbone": recipe.backbone,
                "branch": recipe.branch,
                "iteration": str(step),
            }
            with files.atomic_path(output / "model.safetensors") as temporary:
                save_file(tensors, temporary, metadata=about)
    fabric.barrier()
    return output / name


# ----------------------------------------------------------------------------------------------------------------- small


def _say(fabric: lightning_fabric.Fabric, line: str) -> None:
    """A line for people, from the first process, above a progress bar if there is one."""
    if fabric.is_global_zero and not os.environ.get(training.QUIET_VARIABLE):
        tqdm.write(line)


def _as_plain(value: Any) -> Any:
    """Mappings, tuples and paths as JSON has them."""
    return json.loads(json.dumps(value, default=dict))
