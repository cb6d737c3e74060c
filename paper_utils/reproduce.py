"""Behind `make reproduce`: run notebooks headless, several at once, skip what has not changed, and end with a table of claims.

Each notebook runs in a process of its own (`paper_utils.notebook_worker`). The executed copy, figures and results take their
places only when they are whole; a notebook that fails, dies or hangs is named in the summary and does not stop the others.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import psutil
from tqdm import tqdm

from paper_utils import devices, files, papers, provenance, report, results

HEARTBEAT_SECONDS = 15.0
GRACE_SECONDS = 5.0
LOCK_NAME = ".reproduce.lock"
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


@dataclass
class Job:
    """One notebook to run, and what is known of it so far."""

    paper: papers.Paper
    notebook: Path
    parameters: dict[str, Any]
    key: str
    folder: Path
    process: subprocess.Popen | None = None
    family: set[psutil.Process] = field(default_factory=set)
    environment: dict[str, str] = field(default_factory=dict)
    began: float = 0.0
    seconds: float = 0.0
    done: int = 0
    total: int = 0
    current: tuple[int, list[str]] = (0, [])
    failure: dict[str, Any] | None = None

    @property
    def name(self) -> str:
        return self.paper.name

    @property
    def running_copy(self) -> Path:
        # Named after this process: the notebooks of a run that was killed take a moment to end, and may write theirs once more.
        return self.build / ".running" / f"{self.paper.name}.{os.getpid()}.ipynb"

    @property
    def executed_copy(self) -> Path:
        return self.build / f"{self.paper.name}.ipynb"

    @property
    def failed_copy(self) -> Path:
        return self.build / f"{self.paper.name}.failed.ipynb"

    @property
    def stamp(self) -> Path:
        return self.build / ".stamps" / f"{self.paper.name}.json"

    @property
    def output_root(self) -> Path:
        return files.output_root(self.parameters["profile"])

    @property
    def build(self) -> Path:
        """Folder of executed copies: below the outputs, so that runs with different outputs share no file."""
        return self.output_root if self.parameters["profile"] == "smoke" else self.output_root / "build"

    @property
    def results_file(self) -> Path:
        return self.output_root / "results" / f"{self.paper.number}.json"


def job_key(notebook: Path, parameters: dict[str, Any], folder: Path) -> str:
    """Hash of everything that a notebook's outcome depends on: its cells, the package source it imports, parameters, lock, data folder."""
    cells = [(cell.cell_type, cell.source) for cell in nbformat.read(notebook, as_version=4).cells]
    code = "\n".join(source for kind, source in cells if kind == "code")
    lock = folder / "requirements.lock"
    data_root = parameters.get("data_root")
    listing = [(e.name, e.stat().st_size, e.stat().st_mtime_ns) for e in os.scandir(data_root)] if data_root else []
    return provenance.key_hash(
        {
            "cells": cells,
            "source": provenance.source_hash(provenance.imported_sources(code)),
            "parameters": parameters,
            "lock": lock.read_text() if lock.exists() else "",
            "data": sorted(listing),
            "python": sys.version,
        }
    )


def is_current(job: Job) -> bool:
    """Whether the last success of this notebook had the same key and all its outputs still stand."""
    try:
        stamp = json.loads(job.stamp.read_text())
        figures = [job.output_root / entry["file"] for entry in results.load_results(job.results_file)["figures"]]
    except (OSError, ValueError, results.ResultsError):
        return False
    return stamp.get("key") == job.key and all(path.exists() for path in (job.executed_copy, *figures))


def make_jobs(arguments: argparse.Namespace, folder: Path) -> list[Job]:
    """The chosen notebooks with their parameters, all of which are checked before anything runs.

    Raises
    ------
    ValueError, OSError
        For an unknown paper, profile, data or device, or a data folder that cannot be read.
    """
    papers.check_profile(arguments.profile)
    if arguments.seed < 0:
        raise ValueError(f"SEED must be at least 0, found {arguments.seed}")
    devices.check_name(arguments.device)
    jobs = []
    for paper in papers.chosen(arguments.paper):
        data = papers.check_data(paper, arguments.data)
        root = papers.check_data_root(paper, data, arguments.data_root)
        parameters = {
            "profile": arguments.profile,
            "seed": arguments.seed,
            "data": data,
            "data_root": str(root.resolve()) if root else None,
            "device": arguments.device,
        }
        notebook = folder / "notebooks" / f"{paper.name}.ipynb"
        if not notebook.exists():
            raise ValueError(
                f"notebook {notebook.name} is missing from {notebook.parent}; restore it from version control"
            )
        jobs.append(Job(paper, notebook, parameters, job_key(notebook, parameters, folder), folder))
    return jobs


class Runner:
    """Runs jobs, a few at once, and keeps one progress line for each."""

    def __init__(self, jobs: Sequence[Job], *, at_once: int, threads: int, timeout: float | None) -> None:
        self.jobs, self.at_once, self.threads, self.timeout = list(jobs), at_once, threads, timeout
        self.events: queue.Queue[tuple[Job, dict[str, Any] | None]] = queue.Queue()
        self.live = sys.stderr.isatty() and not os.environ.get("CI")
        self.bars: dict[str, tqdm] = {}
        self.last_heartbeat = time.monotonic()

    def run(self) -> None:
        """Run all jobs; return when the last has ended. An interrupt ends all of them and their kernels, then propagates."""
        waiting, running = list(self.jobs), []
        try:
            while waiting or running:
                while waiting and len(running) < self.at_once:
                    job = waiting.pop(0)
                    try:
                        self._start(job)
                        running.append(job)
                    except OSError as error:
                        self._fail(job, error)
                for job in self._handle_events(running):
                    running.remove(job)
        except BaseException:
            for job in running:
                self._end_family(job)
                self._remove_leftovers(job)
            raise
        finally:
            for bar in self.bars.values():
                bar.close()

    @staticmethod
    def _fail(job: Job, error: OSError) -> None:
        """A disk that is full or read-only ends this notebook, not the others."""
        job.failure = job.failure or {"kind": "disk", "error": [str(error)]}

    def _start(self, job: Job) -> None:
        job.running_copy.parent.mkdir(parents=True, exist_ok=True)
        job.began = time.monotonic()
        environment = dict(os.environ, PAPER_UTILS_QUIET="1", **dict.fromkeys(THREAD_VARIABLES, str(self.threads)))
        environment.update(job.environment)
        command = [sys.executable, "-m", "paper_utils.notebook_worker", str(job.notebook), str(job.running_copy)]
        # A session of its own: Ctrl-C reaches this process alone, which then ends the others in order.
        job.process = subprocess.Popen(
            [*command, str(job.folder), json.dumps(job.parameters)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            cwd=job.folder,
            text=True,
            start_new_session=True,
        )
        threading.Thread(target=self._listen, args=(job,), daemon=True).start()
        if self.live:
            layout = "{desc:<28} {n_fmt:>3}/{total_fmt:<3} cells |{bar:24}| {elapsed}"
            self.bars[job.name] = tqdm(total=0, desc=job.name, bar_format=layout, position=len(self.bars))
        else:
            print(f"{job.name:<28} started", flush=True)

    def _listen(self, job: Job) -> None:
        for line in job.process.stdout:
            with contextlib.suppress(ValueError):
                self.events.put((job, json.loads(line)))
        self.events.put((job, None))

    def _handle_events(self, running: Sequence[Job]) -> Iterator[Job]:
        """Wait a moment for events; yield the jobs that have ended."""
        with contextlib.suppress(queue.Empty):
            job, event = self.events.get(timeout=0.2)
            if event is None:
                self._finish(job)
                yield job
            elif event["event"] == "start":
                job.current = (event["cell"], event["source"])
            elif event["event"] == "cell":
                job.done, job.total = event["done"], event["total"]
            elif event["event"] == "failed" and job.failure is None:
                job.failure = event
        self._watch(running)

    def _watch(self, running: Sequence[Job]) -> None:
        for job in running:
            with contextlib.suppress(psutil.Error):
                worker = psutil.Process(job.process.pid)
                job.family |= {worker, *worker.children(recursive=True)}
            if self.timeout and job.failure is None and time.monotonic() - job.began > self.timeout:
                job.failure = {"kind": "time-out", "error": [f"not finished after {self.timeout:g} s (TIMEOUT=)"]}
                self._end_family(job)
            if self.live:
                bar = self.bars[job.name]
                bar.total, bar.n = job.total, job.done
                bar.refresh()
        if not self.live and time.monotonic() - self.last_heartbeat > HEARTBEAT_SECONDS:
            self.last_heartbeat = time.monotonic()
            for job in running:
                elapsed = time.monotonic() - job.began
                print(f"{job.name:<28} {job.done:>3}/{job.total:<3} cells  {elapsed:4.0f} s", flush=True)

    def _finish(self, job: Job) -> None:
        status = job.process.wait()
        job.seconds = time.monotonic() - job.began
        self._end_family(job)
        job.process.stdin.close()
        if status != 0 and job.failure is None:
            cause = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
            job.failure = {"kind": "dead worker", "error": [f"the process that ran the notebook ended with {cause}"]}
        if job.failure is None:
            job.failure = self._check_results(job)
        try:
            self._keep_copy(job)
        except OSError as error:
            self._fail(job, error)
        self._remove_leftovers(job)
        if self.live:
            bar = self.bars[job.name]
            bar.total, bar.n = job.total, job.done
            bar.refresh()
        else:
            word = "failed" if job.failure else "done"
            print(f"{job.name:<28} {job.done:>3}/{job.total:<3} cells  {job.seconds:4.0f} s  {word}", flush=True)

    @staticmethod
    def _keep_copy(job: Job) -> None:
        if job.failure is None:
            job.failed_copy.unlink(missing_ok=True)
            os.replace(job.running_copy, job.executed_copy)
            files.write_text(
                job.stamp, json.dumps({"key": job.key, "parameters": job.parameters, "seconds": round(job.seconds, 1)})
            )
        elif job.running_copy.exists():
            os.replace(job.running_copy, job.failed_copy)

    @staticmethod
    def _check_results(job: Job) -> dict[str, Any] | None:
        try:
            results.load_results(job.results_file)
        except results.ResultsError as error:
            return {"kind": "results", "error": [str(error)]}
        return None

    def _end_family(self, job: Job) -> None:
        """End the worker, its kernel and whatever they started: first with an interrupt, then without mercy."""
        with contextlib.suppress(psutil.Error):
            worker = psutil.Process(job.process.pid)
            job.family |= {worker, *worker.children(recursive=True)}
        alive = [process for process in job.family if process.is_running()]
        for process in alive:
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGINT)
        _, alive = psutil.wait_procs(alive, timeout=GRACE_SECONDS)
        for process in alive:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(alive, timeout=GRACE_SECONDS)

    @staticmethod
    def _remove_leftovers(job: Job) -> None:
        """Remove what a killed process may have left half-written."""
        job.running_copy.unlink(missing_ok=True)
        caches = (files.output_root(chosen=job.environment.get(files.OUTPUT_VARIABLE)) / ".cache").glob("*")
        for folder in (job.output_root / "figures" / job.paper.name, job.results_file.parent, *caches):
            files.remove_leftovers(folder)


def print_failures(jobs: Sequence[Job]) -> None:
    """Name every failed notebook, its cell, and the last lines of the error."""
    for job in jobs:
        if job.failure is None:
            continue
        cell, source = job.current
        print(f"\nFAILED {job.name}: {job.failure['kind']} in code cell {cell} of {job.total}")
        for line in source:
            print(f"    | {line}")
        for line in job.failure["error"]:
            print(f"    {line}")
        if job.failed_copy.exists():
            print(f"    as far as it came: {os.path.relpath(job.failed_copy, job.folder)}")


def print_claims(records: Sequence[dict[str, Any]], known: dict[tuple[str, str], dict[str, Any]] | None = None) -> None:
    """The claims of all results as plain text; with what is known of them over seeds (`results.recorded_over_seeds`)."""
    width = min(shutil.get_terminal_size((120, 24)).columns, 140)
    for record in records:
        head = f"{record['profile']} profile, seed {record['seed']}, data {record['data']}, {record['seconds']:.0f} s"
        print(f"\n{record['paper']}  {record['title']}\n    {head}")
        rows = results.claim_rows(record["claims"])
        beside = results.over_seeds_of(known or {}, record)
        wide = {column: max((len(row[column]) for row in rows), default=0) for column in ("id", results.MEASURED)}
        for row in rows:
            verdict = row[results.CONTROL_VERDICT]
            control = f"control: {verdict}" if verdict != "-" else "no control"
            measured = f"{row[results.MEASURED]:<{wide[results.MEASURED]}}"
            print(
                f"    {row['id']:<{wide['id']}}  {row['verdict']:<14}  {measured}  {control:<23}{_told(beside.get(row['id']))}".rstrip()
            )
            indent = " " * (6 + wide["id"])
            print(textwrap.fill(row["claim"], width, initial_indent=indent, subsequent_indent=indent))


def _told(claim: dict[str, Any] | None) -> str:
    return f"  over {len(claim['seeds'])} seeds: {claim['verdict']}" if claim else ""


def cores() -> int:
    """How many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Command line; an empty value means the default, so that make can pass its variables as they are."""
    parser = argparse.ArgumentParser(
        prog="python -m paper_utils.reproduce", description="Run the paper notebooks headless."
    )
    parser.add_argument("--paper", default="", help="numbers, comma-separated; all that have a notebook if empty")
    parser.add_argument("--profile", default="quick", help=", ".join(papers.PROFILES))
    parser.add_argument("--data", default=None, help="data name of the paper; its default if empty")
    parser.add_argument("--data-root", default=None, help="folder of real data in its official layout")
    parser.add_argument("--seed", default="0", help="source of all randomness")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, mps")
    parser.add_argument("--jobs", default="", help="notebooks at once; as many as cores if empty")
    parser.add_argument("--threads", default="1", help="threads of each notebook")
    parser.add_argument("--timeout", default="", help="seconds after which a notebook is given up; none if empty")
    parser.add_argument("--force", default="", help="run even what has not changed")
    found = parser.parse_args(arguments)
    for name, kind, default in (
        ("seed", int, 0),
        ("jobs", int, cores()),
        ("threads", int, 1),
        ("timeout", float, None),
    ):
        text = getattr(found, name)
        try:
            setattr(found, name, kind(text) if text else default)
        except ValueError:
            parser.error(f"{name.upper()} must be a number, found {text!r}")
    if found.jobs < 1 or found.threads < 1:
        parser.error(f"JOBS and THREADS must be at least 1, found {found.jobs} and {found.threads}")
    found.profile, found.device, found.data = found.profile or "quick", found.device or "auto", found.data or None
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns
    -------
    int
        0: all ran or were current; 1: a notebook failed, or the disk did; 2: a wrong argument; 3: another run is writing to the same
        place; 130: interrupted.
    """
    options = parse(arguments)
    folder = files.project_root()
    try:
        jobs = make_jobs(options, folder)
    except (ValueError, OSError) as error:
        print(f"make reproduce: {error}", file=sys.stderr)
        return 2
    lock = jobs[0].build / LOCK_NAME
    try:
        with files.only_one(lock) as dead:
            if dead:
                print(f"the last run ({dead}) was killed; what it left half-written is removed")
                shutil.rmtree(jobs[0].build / ".running", ignore_errors=True)
                for job in jobs:
                    Runner._remove_leftovers(job)
            return run_jobs(jobs, options)
    except files.LockedError as holder:
        print(
            f"make reproduce: another run is writing to {lock.parent.parent}: {holder}. Wait until it ends, or give this one another folder "
            f"({files.OUTPUT_VARIABLE}=...); PAPER=01,06 runs several notebooks in one",
            file=sys.stderr,
        )
        return 3
    except files.WriteError as error:
        print(f"make reproduce: {error}", file=sys.stderr)
        return 1


def run_jobs(jobs: Sequence[Job], options: argparse.Namespace) -> int:
    """Run what is not current, print claims and failures, write the report; the exit status as of `main`."""
    to_run = [job for job in jobs if options.force or not is_current(job)]
    for job in jobs:
        if job not in to_run:
            print(f"{job.name:<28} unchanged since its last success, skipped (FORCE=1 runs it)")
    # Set both: a shell that starts this in the background leaves interrupts ignored, and they would be ignored by every kernel too.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        Runner(to_run, at_once=options.jobs, threads=options.threads, timeout=options.timeout).run()
    except KeyboardInterrupt:
        print("\ninterrupted: running notebooks and their kernels were ended, finished ones are kept", file=sys.stderr)
        return 130
    succeeded = [job for job in jobs if job.failure is None]
    known, _ = results.known_over_seeds(files.project_root())  # the report names what is wrong with it
    print_claims([results.load_results(job.results_file) for job in succeeded], known)
    unreadable = report.write(jobs[0].output_root)
    print_failures(jobs)
    for message in unreadable:
        print(f"\nleft out of the report: {message}", file=sys.stderr)
    print(
        f"\n{len(succeeded)} of {len(jobs)} notebooks succeeded; report: {(jobs[0].output_root / 'results' / 'report.html')}"
    )
    return 0 if len(succeeded) == len(jobs) and not unreadable else 1


if __name__ == "__main__":
    sys.exit(main())
