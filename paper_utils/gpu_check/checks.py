"""The list of checks, and how they are run: one after the other, each by itself, every result written down before the next begins.

An error or a lack of memory in one check is recorded under its name, and the others go on.
"""

from __future__ import annotations

import contextlib
import fnmatch
import functools
import gc
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from paper_utils import files
from paper_utils.gpu_check import cases, compare, measure, million, surfaces
from paper_utils.gpu_check.steps import PRECISIONS, SIZES

FORMAT = "gpu-check 1"
# What became of a check. The first two are results, the others say why there is none.
PASSED, MISSED, MEASURED, MEMORY, ERROR, LATE = (
    "passed", "missed", "measured", "out of memory", "error", "not run: time is up",
)  # fmt: skip
RUNNING = "running"
POISONED = 77  # exit status of a process whose device refuses all further work


class GpuCheckError(RuntimeError):
    """A record that cannot be used, or a check that does not exist."""


@dataclass(frozen=True)
class Plan:
    """What is to be run.

    Parameters
    ----------
    device
        ``cuda`` or ``cpu``. On the CPU the machinery runs, and bf16-mixed is compared with float32.
    size
        Of what is timed: ``"paper"``, or ``"tiny"`` for tests. Comparisons are always tiny.
    only
        Patterns of names (``"07*"``); empty: all.
    compiled
        Backend of `torch.compile`; empty: nothing is compiled.
    seconds
        For how long one thing is timed.

    Raises
    ------
    ValueError
        For an unknown size or device.
    """

    device: str = "cuda"
    size: str = "paper"
    only: tuple[str, ...] = ()
    compiled: str = "inductor"
    seconds: float = 4.0

    def __post_init__(self) -> None:
        if self.size not in SIZES or self.device not in ("cuda", "cpu"):
            raise ValueError(
                f"gpu-check: expected size tiny or paper and device cuda or cpu, found {self.size!r} and {self.device!r}"
            )

    @property
    def torch_device(self) -> torch.device:
        """As torch has it."""
        return torch.device(self.device)


@dataclass(frozen=True)
class Check:
    """One check.

    Parameters
    ----------
    name
        Of what; begins with its kind.
    kind
        ``agree``, ``draw``, ``hear``, ``head``, ``speed`` or ``compile``.
    run
        Returns numbers; with ``passed`` among them if it can be missed.
    """

    name: str
    kind: str
    run: Callable[[], dict[str, Any]]


# ----------------------------------------------------------------------------------------------------------- the checks


def agree(case: cases.Case, precision: str, plan: Plan) -> dict[str, Any]:
    """Loss and gradients on the device in a precision against float32 on the CPU."""
    cpu, tolerance = torch.device("cpu"), case.tolerance(precision)
    reference = compare.gradients(case.build, cpu)
    found = compare.agreement(compare.gradients(case.build, plan.torch_device, precision), reference)
    control = None
    if tolerance.rounding:
        control = compare.agreement(compare.gradients(case.build, cpu, rounded=True), reference)
    return compare.judged(found, tolerance, control)


def speed(case: cases.Case, precision: str, plan: Plan, backend: str | None = None) -> dict[str, Any]:
    """Time and memory of a step at the plan's size."""
    found = measure.speed(
        case.build(plan.size), plan.torch_device, precision, seconds=plan.seconds, backend=backend
    )  # fmt: skip
    return found | {"unit": case.unit, "batch": case.about}


def all_checks(plan: Plan) -> list[Check]:
    """Everything in the order in which it is run: whether things are right, then how fast they are, compilation last."""
    device, seconds, big = plan.torch_device, plan.seconds, plan.size == "paper"
    made: list[Check] = [
        Check(f"agree: {case.name} ({precision})", "agree", functools.partial(agree, case, precision, plan))
        for case in cases.CASES
        for precision in PRECISIONS
    ]
    scene = {"size": 224, "batch": 16, "points_per_cell": 9} if big else {"size": 32, "batch": 2, "points_per_cell": 2}
    sound = {"batch": 32, "duration_s": 10.0} if big else {"batch": 2, "duration_s": 0.3}
    made.append(
        Check("draw: renderer", "draw", functools.partial(surfaces.check_renderer, device, **scene, seconds=seconds))
    )
    made.append(
        Check("hear: log-mel", "hear", functools.partial(surfaces.check_log_mel, device, **sound, seconds=seconds))
    )
    heads = {"classes": 1_000_000, "dim": 512, "batch": 512} if big else {"classes": 500, "dim": 8, "batch": 8}
    for rate, names in ((1.0, tuple(million.HEADS)), (million.PARTIAL, million.PARTIAL_HEADS)):
        for name in names:
            label = name if rate == 1 else f"{name}, {rate:.0%} of the classes"
            work = functools.partial(million.check_head, name, device, **heads, rate=rate, seconds=seconds)
            made.append(Check(f"head: {label}", "head", work))
    made += [
        Check(f"speed: {case.name} ({precision})", "speed", functools.partial(speed, case, precision, plan))
        for precision in PRECISIONS
        for case in cases.CASES
    ]
    if plan.compiled:
        made += [
            Check(f"compile: {case.name} ({precision})", "compile", functools.partial(speed, case, precision, plan, plan.compiled))
            for precision in reversed(PRECISIONS)
            for case in cases.CASES
            if case.compiles
        ]  # fmt: skip
    return made


def chosen(plan: Plan) -> list[Check]:
    """The checks that the plan's patterns name, anywhere in their names.

    Raises
    ------
    GpuCheckError
        If a pattern names none.
    """
    every = all_checks(plan)
    for pattern in plan.only:
        if not any(_names(pattern, check) for check in every):
            raise GpuCheckError(
                f"--only {pattern}: no check has it in its name; kinds are agree, draw, hear, head, speed and compile, "
                f"methods {', '.join(case.name for case in cases.CASES)}"
            )
    return [check for check in every if not plan.only or any(_names(pattern, check) for pattern in plan.only)]


def _names(pattern: str, check: Check) -> bool:
    return fnmatch.fnmatch(check.name.lower(), f"*{pattern.lower()}*")


# ------------------------------------------------------------------------------------------------------ running them


def environment(plan: Plan) -> dict[str, Any]:
    """What the numbers were measured on: device, driver, CUDA, cuDNN, torch."""
    there = {"torch": torch.__version__, "python": platform.python_version(), "system": platform.system()}
    if plan.device != "cuda":
        return {"device": "CPU", **there}
    about = torch.cuda.get_device_properties(0)
    return {
        "device": about.name,
        "memory_gib": round(about.total_memory / 2**30, 1),
        "compute_capability": f"{about.major}.{about.minor}",
        "driver": driver(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        **there,
    }


def driver() -> str:
    """Version of the NVIDIA driver, or ``"unknown"``."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        found = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.split()
        if found:
            return found[0]
    return "unknown"


def new_record(plan: Plan, minutes: float) -> dict[str, Any]:
    """A record of which nothing has been run."""
    return {
        "format": FORMAT,
        "environment": environment(plan),
        "plan": {"device": plan.device, "size": plan.size, "only": list(plan.only), "compiled": plan.compiled},
        "minutes": minutes,
        "checks": {check.name: {"kind": check.kind, "status": LATE} for check in chosen(plan)},
    }


def read_record(path: Path) -> dict[str, Any]:
    """Read ``gpu.json``.

    Raises
    ------
    GpuCheckError
        If it is missing, not JSON, or another kind of file.
    """
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise GpuCheckError(
            f"{path}: cannot be read ({error.strerror}); run `make gpu-check` on a machine with a GPU"
        ) from error
    except ValueError as error:
        raise GpuCheckError(f"{path}: is no valid JSON ({error}); run `make gpu-check` again") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        found = record.get("format") if isinstance(record, dict) else type(record).__name__
        raise GpuCheckError(
            f"{path}: expected the format {FORMAT!r}, found {found!r}; run `make gpu-check` with this version"
        )
    return record


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write it, whole or not at all."""
    files.write_text(path, json.dumps(record, indent=1) + "\n")


def run_one(check: Check) -> dict[str, Any]:
    """Run a check; whatever it raises becomes its status."""
    began = time.perf_counter()
    try:
        numbers = check.run()
        status = {True: PASSED, False: MISSED}[numbers.pop("passed")] if "passed" in numbers else MEASURED
        result: dict[str, Any] = {"status": status, **numbers}
    except torch.OutOfMemoryError as error:
        result = {"status": MEMORY, "because": _first_line(error)}
    except Exception as error:
        result = {"status": ERROR, "because": f"{type(error).__name__}: {_first_line(error)}"}
    return {"kind": check.kind, **result, "seconds": round(time.perf_counter() - began, 2)}


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0][:300]


def run_checks(
    plan: Plan, record: dict[str, Any], save: Callable[[dict[str, Any]], None], *, until: float
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Run what the record has no result of, until the time is up.

    Parameters
    ----------
    plan
        What to run.
    record
        Is filled in place.
    save
        Called with it before and after every check, so that a process that dies loses one check at most.
    until
        `time.monotonic` after which none is begun.

    Yields
    ------
    tuple
        Name and result of each check that was run.
    """
    for check in chosen(plan):
        if record["checks"][check.name]["status"] != LATE or time.monotonic() >= until:
            continue
        record["checks"][check.name] = {"kind": check.kind, "status": RUNNING}
        save(record)
        record["checks"][check.name] = result = run_one(check)
        save(record)
        yield check.name, result
        if check.kind == "compile":
            torch.compiler.reset()
        tidy(plan)


def tidy(plan: Plan) -> None:
    """Give memory back between checks; a device that no longer answers ends this process, and the next one goes on."""
    gc.collect()
    if plan.device != "cuda":
        return
    try:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
    except RuntimeError:
        sys.stdout.flush()
        raise SystemExit(POISONED) from None


def ended_early(record: dict[str, Any], why: str, status: str = ERROR) -> None:
    """A check that was under way when its process ended gets this status, and `why`."""
    for name, result in record["checks"].items():
        if result["status"] == RUNNING:
            record["checks"][name] = {"kind": result["kind"], "status": status, "because": why}


def faults(record: dict[str, Any]) -> list[str]:
    """Names of checks that missed a tolerance, or of comparisons that did not run to their end."""
    compared = ("agree", "draw", "hear")
    return [
        name
        for name, result in record["checks"].items()
        if result["status"] == MISSED or (result["status"] in (ERROR, MEMORY) and result["kind"] in compared)
    ]


def unfinished(record: dict[str, Any]) -> Sequence[str]:
    """Names of checks without a result."""
    return [name for name, result in record["checks"].items() if result["status"] == LATE]
