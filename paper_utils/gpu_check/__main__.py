"""``python -m paper_utils.gpu_check``: check and measure every method on this machine's GPU.

A second process does the work, so that a device or a check that takes its process down costs one result and not all of them.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from paper_utils import files
from paper_utils.gpu_check import checks, report

GRACE_S = 20.0  # that a check may run on when the time is up
MOST_RESTARTS = 10
RECORD, SELECTION, UNFINISHED = "gpu.json", "gpu_selection.json", ".gpu_unfinished.json"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m paper_utils.gpu_check", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=20.0, help="end after so many minutes; what is left is recorded as not run (default 20)")  # fmt: skip
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME",
        help="checks with this in their name, such as 07, 'speed: 05*' or draw; may be given several times; writes results/gpu_selection.json",
    )  # fmt: skip
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: try the machinery and bf16-mixed without a GPU")  # fmt: skip
    parser.add_argument("--size", choices=("paper", "tiny"), default="paper", help="of what is timed")
    parser.add_argument("--compile", default="inductor", metavar="BACKEND", help="backend of torch.compile; '' compiles nothing")  # fmt: skip
    parser.add_argument("--seconds", type=float, default=4.0, help="for how long one thing is timed (default 4)")
    parser.add_argument("--list", action="store_true", help="list the checks and end")
    parser.add_argument("--readme", action="store_true", help="put the figures of results/gpu.json into README.md and end")  # fmt: skip
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.only = [name for name in options.only if name]
    if not options.minutes > 0 or not options.seconds > 0:
        parser.error(
            f"--minutes and --seconds: expected positive numbers, found {options.minutes} and {options.seconds}"
        )
    return options


def plan_of(options: argparse.Namespace) -> checks.Plan:
    """What the command line asks for."""
    return checks.Plan(options.device, options.size, tuple(options.only), options.compile, options.seconds)


def work(options: argparse.Namespace, folder: Path) -> int:
    """The second process: run what has no result yet."""
    plan, unfinished = plan_of(options), folder / UNFINISHED
    record = checks.read_record(unfinished) if unfinished.is_file() else checks.new_record(plan, options.minutes)
    checks.write_record(unfinished, record)
    until = time.monotonic() + 60 * options.minutes
    for name, result in checks.run_checks(plan, record, lambda r: checks.write_record(unfinished, r), until=until):
        print(report.line(name, result), flush=True)
    return 0


def supervise(options: argparse.Namespace, folder: Path) -> dict:
    """The first process: start the second one, again if it dies, and end it when the time is up.

    Raises
    ------
    GpuCheckError
        If it does not even begin.
    """
    unfinished, until = folder / UNFINISHED, time.monotonic() + 60 * options.minutes
    unfinished.unlink(missing_ok=True)
    for _ in range(MOST_RESTARTS):
        left = until - time.monotonic()
        if left <= 0:
            break
        command = [
            sys.executable,
            "-m",
            "paper_utils.gpu_check",
            "--worker",
            "--minutes",
            str(left / 60),
            "--device",
            options.device,
        ]
        command += ["--size", options.size, "--compile", options.compile, "--seconds", str(options.seconds)]
        command += [part for name in options.only for part in ("--only", name)]
        process = subprocess.Popen(command)
        try:
            status = process.wait(left + GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            _settle(unfinished, "stopped when the time was up", checks.LATE)
            break
        except BaseException:
            process.kill()
            process.wait()
            raise
        if status == 0:
            break
        if not unfinished.is_file():
            raise checks.GpuCheckError(f"the process that measures ended with status {status} before its first check")
        if status != checks.POISONED:
            _settle(unfinished, f"its process ended with status {status}", checks.ERROR)
    record = checks.read_record(unfinished)
    record["minutes"] = options.minutes
    return record


def _settle(path: Path, why: str, status: str) -> None:
    if path.is_file():
        record = checks.read_record(path)
        checks.ended_early(record, why, status)
        checks.write_record(path, record)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns
    -------
    int
        0: all limits kept, or no GPU here; 1: a limit missed, or a comparison that did not run; 2: a wrong argument, or no record to show.
    """
    options = parse(arguments)
    folder = files.output_root() / "results"
    try:
        if options.readme:
            path = files.project_root() / "README.md"
            changed = report.write_readme(checks.read_record(folder / RECORD), path)
            print(f"README.md: {'renewed' if changed else 'current'}")
            return 0
        if options.list:
            print("\n".join(check.name for check in checks.chosen(plan_of(options))))
            return 0
        if options.device == "cuda" and not torch.cuda.is_available():
            build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "a build without CUDA"
            print(
                f"gpu-check: skipped, there is no GPU here (torch {torch.__version__}, {build}); nothing was measured and nothing written"
            )
            return 0
        checks.chosen(plan_of(options))  # names are checked before a process is started
        if options.worker:
            return work(options, folder)
        record = supervise(options, folder)
    except checks.GpuCheckError as error:
        print(f"gpu-check: {error}", file=sys.stderr)
        return 2
    target = folder / (SELECTION if options.only or options.device != "cuda" or options.size != "paper" else RECORD)
    checks.write_record(target, record)
    (folder / UNFINISHED).unlink(missing_ok=True)
    print(f"\n{report.markdown(record)}\nwritten to {target}")
    if target.name == RECORD:
        print("to put this into README.md: python -m paper_utils.gpu_check --readme")
    missed = checks.faults(record)
    if missed:
        print(
            f"gpu-check: {len(missed)} comparisons missed their limit or failed: {'; '.join(missed)}", file=sys.stderr
        )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
