"""Explicit training loops on Lightning Fabric: device, precision, several processes, checkpoints, exact resume, history.

A method writes its loop as ``for step in run: ...; run.update(loss)``. `Run` takes care of everything around the step: it begins
where the last checkpoint ended, saves atomically, and a killed and resumed run ends bit for bit like an uninterrupted one on the CPU.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import time
import warnings
import zipfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import lightning_fabric
import numpy as np
import torch
from jaxtyping import Float, Int
from lightning_fabric.strategies import DDPStrategy
from torch import Tensor, nn
from tqdm.auto import tqdm

from paper_utils import devices, files, provenance
from paper_utils.nn import whole_batch

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
QUIET_VARIABLE = "PAPER_UTILS_QUIET"


class CheckpointError(RuntimeError):
    """A checkpoint or cached state that cannot be used."""


class DamagedError(CheckpointError):
    """One whose content is not what was once written."""


class DivergedError(RuntimeError):
    """A training loss that is NaN or infinite."""


def launch(
    device: str = "auto", precision: str = "32-true", processes: int = 1, nodes: int = 1
) -> lightning_fabric.Fabric:
    """A launched Fabric: one process by itself, or one rank of those that torchrun started.

    Parameters
    ----------
    device
        See `devices.choose_device`.
    precision
        ``"32-true"``, ``"bf16-mixed"`` or ``"16-mixed"`` (with a loss scale; needs cuda).
    processes, nodes
        Processes a machine and machines; more than one process in all needs torchrun.

    Raises
    ------
    ValueError
        For an unknown device or precision, or one that the device does not have.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision {precision!r}; valid: {', '.join(PRECISIONS)}")
    several = processes * nodes > 1
    if several and "LOCAL_RANK" not in os.environ:
        raise ValueError(
            f"{processes * nodes} processes were asked for; start them with `torchrun --nproc-per-node {processes} -m paper_utils.train ...`"
        )
    accelerator = devices.choose_device(device).type
    if precision == "16-mixed" and accelerator != "cuda":
        raise ValueError(f"precision 16-mixed needs cuda, the device is {accelerator}; use 32-true or bf16-mixed there")
    strategy = DDPStrategy(process_group_backend="nccl" if accelerator == "cuda" else "gloo") if several else "auto"
    fabric = lightning_fabric.Fabric(
        accelerator=accelerator, strategy=strategy, devices=processes, num_nodes=nodes, precision=precision
    )
    fabric.launch()
    return fabric


def launch_all(device: str = "auto", precision: str = "32-true") -> lightning_fabric.Fabric:
    """`launch` with as many processes and machines as torchrun says that it started; one without torchrun."""
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return launch(device, precision, processes, int(os.environ.get("WORLD_SIZE", "1")) // processes)


def alone(fabric: lightning_fabric.Fabric) -> lightning_fabric.Fabric:
    """The same device and precision for this process by itself, for trainings that processes share as wholes; itself if there is one process."""
    if fabric.world_size == 1:
        return fabric
    device, precision = fabric.device, fabric.strategy.precision.precision
    devices_ = 1 if device.index is None else [device.index]
    return lightning_fabric.Fabric(accelerator=device.type, strategy="auto", devices=devices_, precision=precision)


def gathered(fabric: lightning_fabric.Fabric, result: Any) -> list[Any]:
    """What each process brings, in their order, on all of them. The content is pickled, among the processes of this run only."""
    if fabric.world_size == 1:
        return [result]
    results = [None] * fabric.world_size
    torch.distributed.all_gather_object(results, result)
    return results


def _permuted(n: int, seed: int, epoch: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng([seed, epoch]).permutation(n))


# Many small runs side by side have an order each; of millions of rows only the last two orders are kept.
_small_permutation, _large_permutation = (functools.lru_cache(maxsize=kept)(_permuted) for kept in (64, 2))


def _permutation(n: int, seed: int, epoch: int) -> Tensor:
    return (_large_permutation if n > 1 << 20 else _small_permutation)(n, seed, epoch)


def batch_indices(
    n: int, batch_size: int, step: int, *, seed: int, rank: int = 0, world_size: int = 1
) -> Int[Tensor, " rows"]:
    """Rows of the training set that make up one step's batch: a pure function of seed and step, so resuming needs no sampler state.

    The stream is one random permutation after another, cut into batches; every row appears once before any appears twice.

    Parameters
    ----------
    n, batch_size
        Size of the training set and of the batch over all processes.
    step
        Step number from 0.
    seed
        Seed of the order.
    rank, world_size
        This process takes every ``world_size``-th row of the batch, from ``rank`` on.

    Raises
    ------
    ValueError
        If the set is empty, or the batch does not split evenly over the processes (means of unequal parts would not average to the mean).
    """
    if n < 1 or batch_size < 1:
        raise ValueError(f"batch_indices needs n >= 1 and batch_size >= 1, found n={n}, batch_size={batch_size}")
    if batch_size % world_size:
        raise ValueError(
            f"a batch of {batch_size} does not split evenly over {world_size} processes; choose a multiple"
        )
    first, rows = step * batch_size, []
    while sum(map(len, rows)) < batch_size:
        begin = first + sum(map(len, rows))
        epoch, offset = divmod(begin, n)
        rows.append(_permutation(n, seed, epoch)[offset : offset + first + batch_size - begin])
    return torch.cat(rows)[rank::world_size]


class Run:
    """A training run: iterate over it for the step numbers, call `update` once a step.

    Parameters
    ----------
    fabric
        From `launch`.
    modules
        Named modules with parameters. Call them through ``run.modules[name]``, which carry precision and several processes.
    optimizer
        Over the parameters of `modules`.
    steps
        Total number of steps.
    schedule
        Learning-rate schedule, stepped once a step.
    clip_norm
        Largest norm of the gradient over all parameters.
    checkpoint
        File to resume from and to save to. ``None``: neither.
    every_steps, every_seconds
        Save after that many steps, or that much time, whichever comes first. ``None``: not for that reason.
    identity
        Text that must agree between a checkpoint and the run that resumes it (a config hash).
    generators
        Random generators that the steps draw from; their states are saved.
    allow_divergence
        If false, a loss that is not finite raises `DivergedError`.
    apart
        Names of modules of which every process has its own part (class-parallel heads): they are used as they are, not averaged.
    clip
        Clips all gradients to the largest norm it is given and returns their norm; for modules apart, whose norm no process knows alone.
    coupled
        With several processes, batch normalisation and dropout are those of the whole batch (`paper_utils.nn.whole_batch`), so the run is that
        of one process. False: each process has those of its own rows, as in plain data-parallel training.

    Examples
    --------
    >>> fabric = launch("cpu")
    >>> line = torch.nn.Linear(1, 1)
    >>> run = Run(fabric, {"line": line}, torch.optim.SGD(line.parameters(), lr=0.1), steps=200)
    >>> x = torch.linspace(-1, 1, 16).unsqueeze(1)
    >>> for step in run:
    ...     run.update(((run.modules["line"](x) - 3 * x - 1) ** 2).mean())
    >>> round(line.weight.item(), 2), round(line.bias.item(), 2)
    (3.0, 1.0)
    """

    def __init__(
        self,
        fabric: lightning_fabric.Fabric,
        modules: dict[str, nn.Module],
        optimizer: torch.optim.Optimizer,
        *,
        steps: int,
        schedule: torch.optim.lr_scheduler.LRScheduler | None = None,
        clip_norm: float | None = None,
        checkpoint: Path | None = None,
        every_steps: int | None = None,
        every_seconds: float | None = 60.0,
        identity: str = "",
        generators: dict[str, torch.Generator] | None = None,
        allow_divergence: bool = False,
        apart: Collection[str] = (),
        clip: Callable[[float], Tensor] | None = None,
        coupled: bool = True,
    ) -> None:
        self.fabric, self.steps, self.schedule, self.clip_norm = fabric, steps, schedule, clip_norm
        self.checkpoint = Path(checkpoint) if checkpoint else None
        self.every_steps, self.every_seconds = every_steps, every_seconds
        self.identity, self.generators, self.allow_divergence = identity, generators or {}, allow_divergence
        self._clip = clip
        for module in modules.values() if coupled and fabric.world_size > 1 else ():
            whole_batch.couple_(module)
        self.modules = {
            name: module.to(fabric.device) if name in apart else fabric.setup_module(module)
            for name, module in modules.items()
        }
        self.optimizer = fabric.setup_optimizers(optimizer)
        self._raw_optimizer = optimizer
        self._log: dict[str, list[Tensor]] = {}
        self.step = 0
        if self.checkpoint and self.checkpoint.exists():
            self._restore()

    def __iter__(self) -> Iterator[int]:
        """Step numbers from where the checkpoint ended; saves between steps, and at the end."""
        for module in self.modules.values():
            module.train()
        saved_at = time.monotonic()
        with progress(self.steps, self.step) as bar:
            while self.step < self.steps:
                before = self.step
                with whole_batch.shared_by(self.fabric.world_size, self.fabric.global_rank):
                    yield self.step
                if self.step != before + 1:
                    raise RuntimeError(
                        f"run.update(loss) must be called exactly once a step; at step {before} it was called {self.step - before} times"
                    )
                bar.update()
                if self._is_due(saved_at):
                    self.save()
                    saved_at = time.monotonic()
        if self.checkpoint:
            self.save()

    def update(self, loss: Float[Tensor, ""], **logged: Tensor | float) -> None:
        """One optimiser step: backward, clip, step, schedule; `loss` and `logged` go to the history.

        Parameters
        ----------
        loss
            Mean over this process's part of the batch.
        logged
            Further values to keep a step, scalars or tensors of a fixed shape.

        Raises
        ------
        DivergedError
            If the loss is not finite and divergence is not allowed.
        """
        if not self.allow_divergence and self.fabric.device.type == "cpu" and not torch.isfinite(loss).all():
            raise DivergedError(
                f"the loss at step {self.step} is {loss.item()}; lower the learning rate, clip the gradient, or look for bad input"
            )
        self.optimizer.zero_grad()
        self.fabric.backward(loss)
        if self.clip_norm is not None:
            self._clip_gradients(self.clip_norm)
        self.optimizer.step()
        if self.schedule is not None:
            self.schedule.step()
        for name, value in {"loss": loss, **logged}.items():
            value = torch.as_tensor(value, device=self.fabric.device).detach()
            if self.fabric.world_size > 1:
                value = self.fabric.all_reduce(value.clone(), reduce_op="mean")
            self._log.setdefault(name, []).append(value)
        self.step += 1

    def _clip_gradients(self, max_norm: float) -> None:
        precision = self.fabric.strategy.precision
        if self._clip is not None:
            precision.unscale_gradients(self._raw_optimizer)
            self._clip(max_norm)
            return
        any_module = next(iter(self.modules.values()))
        # With a loss scale, infinite gradients are part of finding it: the scaler leaves out the step and lowers the scale.
        finite = precision.precision != "16-mixed"
        self.fabric.clip_gradients(any_module, self.optimizer, max_norm=max_norm, error_if_nonfinite=finite)

    @property
    def history(self) -> dict[str, Float[np.ndarray, "steps ..."]]:
        """Everything logged so far, one row a step, the steps before a resume included."""
        return {name: torch.stack(values).float().cpu().numpy() for name, values in self._log.items()}

    def save(self) -> None:
        """Write the checkpoint, whole or not at all.

        Raises
        ------
        files.WriteError
            If the disk is full or cannot be written to; the checkpoint before is kept.
        """
        if self.checkpoint is None:
            raise ValueError("this run has no checkpoint file; give `checkpoint=` to Run")
        state = {
            "identity": self.identity,
            "step": self.step,
            "modules": {name: module.state_dict() for name, module in self.modules.items()},
            "optimizer": self._raw_optimizer.state_dict(),
            "schedule": self.schedule.state_dict() if self.schedule else {},
            "precision": self.fabric.strategy.precision.state_dict(),
            "history": {name: torch.stack(values).cpu() for name, values in self._log.items()},
            "random": self._random_states(),
        }
        # Not Fabric's own save: it writes to the machine's folder for temporary files first and moves the file from there, which is
        # not one step if that is another disk.
        if self.fabric.is_global_zero:
            save_state(self.checkpoint, state)
        self.fabric.barrier()

    def _is_due(self, saved_at: float) -> bool:
        if self.checkpoint is None or self.step >= self.steps:
            return False
        if self.every_steps and self.step % self.every_steps == 0:
            return True
        if not self.every_seconds:
            return False
        due = time.monotonic() - saved_at > self.every_seconds
        if self.fabric.world_size == 1:
            return due
        # Clocks of ranks differ and saving is collective, so rank 0 decides; it is asked seldom because asking synchronises.
        return self.step % 16 == 0 and bool(self.fabric.broadcast(due))

    def _random_states(self) -> dict[str, Tensor]:
        """States of all random sources, stacked over processes."""
        states = {
            "torch": torch.get_rng_state(),
            **{f"generator.{name}": g.get_state() for name, g in self.generators.items()},
        }
        if self.fabric.device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(self.fabric.device)
        if self.fabric.world_size == 1:
            return {name: state.unsqueeze(0) for name, state in states.items()}
        return {name: self.fabric.all_gather(state.to(self.fabric.device)).cpu() for name, state in states.items()}

    def _restore(self) -> None:
        state = load_state(
            self.checkpoint, {"identity", "step", "modules", "optimizer", "schedule", "history", "random"}
        )
        if state["identity"] != self.identity:
            raise CheckpointError(
                f"checkpoint {self.checkpoint} belongs to another run (identity {state['identity']!r}, this run {self.identity!r}); "
                "give this run another file, or delete that one"
            )
        if state["step"] > self.steps:
            raise CheckpointError(
                f"checkpoint {self.checkpoint} is at step {state['step']}, this run ends at {self.steps}; delete it or ask for more steps"
            )
        if set(state["modules"]) != set(self.modules):
            raise CheckpointError(
                f"checkpoint {self.checkpoint} holds modules {sorted(state['modules'])}, this run has {sorted(self.modules)}"
            )
        for name, module in self.modules.items():
            module.load_state_dict(state["modules"][name])
        self._raw_optimizer.load_state_dict(state["optimizer"])
        if self.schedule is not None:
            self.schedule.load_state_dict(state["schedule"])
        if state.get("precision"):  # the loss scale
            self.fabric.strategy.precision.load_state_dict(state["precision"])
        self.step = state["step"]
        self._log = {name: list(values.to(self.fabric.device)) for name, values in state["history"].items()}
        self._restore_random(state["random"])

    def _restore_random(self, states: dict[str, Tensor]) -> None:
        rank, world = self.fabric.global_rank, self.fabric.world_size
        if all(
            bool((state == state[0]).all()) for state in states.values()
        ):  # numbers of the whole batch: the same on all
            rank, states = 0, {name: state[:1] for name, state in states.items()}
        elif len(states["torch"]) != world:
            warnings.warn(
                f"checkpoint {self.checkpoint} was written by {len(states['torch'])} processes and is resumed by {world}: "
                "weights, optimizer and data order go on exactly, random states (dropout, sampling) start anew",
                stacklevel=2,
            )
            return
        torch.set_rng_state(states["torch"][rank])
        for name, generator in self.generators.items():
            generator.set_state(states[f"generator.{name}"][rank])
        if self.fabric.device.type == "cuda" and "cuda" in states:
            torch.cuda.set_rng_state(states["cuda"][rank], self.fabric.device)


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a state for `load_state`, whole or not at all.

    Raises
    ------
    files.WriteError
        If the disk is full or cannot be written to; a file that stood there is kept.
    """
    # By storage, since tensors that share one are written once.
    storages = [tensor.untyped_storage() for tensor in _tensors_in(state)]
    needed = sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
    # Into an open file: given a path, torch keeps the file open after an error, and a full disk would stay full while this process lives.
    with files.atomic_path(path, needed) as temporary, open(temporary, "wb") as file:
        torch.save(state, file)


def _tensors_in(state: Any) -> Iterator[Tensor]:
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, dict | list | tuple):
        for part in state.values() if isinstance(state, dict) else state:
            yield from _tensors_in(part)


def _check_sums(path: Path) -> None:
    """Compare a checkpoint, which is a ZIP archive, with the checksums in it: `torch.load` does not, and would take a flipped bit for a weight."""
    with zipfile.ZipFile(path) as archive:
        if any(record.compress_type != zipfile.ZIP_STORED for record in archive.infolist()):
            raise zipfile.BadZipFile("torch does not compress what it saves")
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"the checksum of {damaged} does not agree")


def load_state(path: Path, keys: set[str]) -> dict[str, Any]:
    """Read a checkpoint or cached state without unpickling code, and check that it holds `keys`.

    Raises
    ------
    DamagedError
        If the file is truncated, is no checkpoint, or any bit of its content is not as it was written.
    CheckpointError
        If it is not there, may not be read, does not fit the memory, or lacks a key.
    """
    path, remedy = Path(path), "delete it to start that training anew"
    try:
        open(path, "rb").close()
    except OSError as error:
        raise CheckpointError(
            f"checkpoint {path} cannot be opened ({error.strerror}); check its path and permissions"
        ) from error
    try:
        _check_sums(path)
        state = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # of damaged bytes, readers of archives and pickles raise almost anything
        if isinstance(error, MemoryError) or "tried to allocate" in str(error):
            raise CheckpointError(f"checkpoint {path} ({path.stat().st_size} bytes) does not fit the memory") from error
        reason = f"{type(error).__name__}: {error}" if isinstance(error, zipfile.BadZipFile) else type(error).__name__
        raise DamagedError(
            f"checkpoint {path} ({path.stat().st_size} bytes) cannot be read, it is truncated, damaged or not a checkpoint ({reason}); {remedy}"
        ) from error
    missing = sorted(keys - set(state)) if isinstance(state, dict) else sorted(keys)
    if missing:
        raise CheckpointError(f"checkpoint {path} lacks {', '.join(missing)}; {remedy}")
    return state


def cached(
    name: str,
    key: dict[str, Any],
    train: Callable[[Path], dict[str, Any]],
    *,
    code: list[Path],
    fabric: lightning_fabric.Fabric | None = None,
) -> dict[str, Any]:
    """A trained state from ``.cache/``, or from `train` if it is not there yet.

    Parameters
    ----------
    name
        Folder under ``.cache/``, such as the method's name.
    key
        Plain values that the result depends on: config, data fingerprint, seed.
    train
        Called with the path of a checkpoint to resume from and save to; returns tensors and plain values by name.
    code
        Source files that the result depends on; files that they import from this package are added.
    fabric
        The launched Fabric if several processes train together; one of them writes the file, which all of them must be able to read.

    Returns
    -------
    dict
        What `train` returned. If the file of an earlier call is damaged, a warning says so, it is moved aside, and `train` is called again:
        the same key gives the same state.

    Raises
    ------
    CheckpointError
        If the cached file may not be read, or the checkpoint of an unfinished training is damaged.
    files.WriteError
        If the result cannot be written; the training's own checkpoint is kept, so that nothing is computed twice.
    """
    sources = set(code).union(*(provenance.imported_sources(Path(path).read_text(encoding="utf-8")) for path in code))
    parts = {"key": key, "code": provenance.source_hash(sources), "torch": torch.__version__}
    if fabric is not None:
        parts["precision"] = fabric.strategy.precision.precision
    digest = provenance.key_hash(parts)
    folder = files.output_root() / ".cache" / name
    finished, unfinished = folder / f"{digest}.pt", folder / f"{digest}.checkpoint.pt"
    if finished.exists():
        try:
            return load_state(finished, {"state"})["state"]
        except DamagedError as error:
            aside = folder / f"damaged-{finished.name}"
            warnings.warn(
                f"{error} - not needed here: it is trained again, and the damaged file is kept as {aside}", stacklevel=2
            )
            with contextlib.suppress(FileNotFoundError):  # of several processes one moves it
                os.replace(finished, aside)
    state = train(unfinished)
    if fabric is None or fabric.is_global_zero:
        save_state(finished, {"state": state})
        unfinished.unlink(missing_ok=True)
    if fabric is not None:
        fabric.barrier()
    return state


def progress(total: int, initial: int = 0) -> tqdm:
    """A progress bar for people: shown on a terminal and in a live notebook, silent in headless runs and under CI."""
    headless = bool(os.environ.get("CI") or os.environ.get(QUIET_VARIABLE))
    live = sys.stderr.isatty() or "ipykernel" in sys.modules
    return tqdm(total=total, initial=initial, unit="step", leave=False, disable=headless or not live)
