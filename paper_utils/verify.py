"""Behind `make verify`: are results the same bits when they are made again, and are verdicts the same elsewhere?

Each notebook runs several times, always from a clean cache in a folder of its own: twice alike, once for each other number of
threads, once for each other seed. Two runs alike must write the same results bit for bit. Another number of threads may change
last digits but no verdict. Another seed is another experiment: a claim whose verdict changes with it is named with its numbers.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import platform
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
from PIL import Image

from paper_utils import devices, files, papers, points, readme, reproduce, results

ALIKE, ALIKE_AGAIN = "first", "again"
NOT_COMPARED = ("seconds", "environment")  # how long it took, and on what and from which commit
DIFFERENCES_SHOWN = 5
MINUTES = {"half a minute": 0.5, "a minute": 1.0, "a minute and a quarter": 1.25, "a minute and a half": 1.5}


@dataclass
class CleanRun(points.Point):
    """One run of a notebook from nothing: with `threads`, as the `role` that it has in the comparison."""

    role: str = ALIKE
    threads: int = 1

    def before(self) -> None:
        """Remove what another run left here: its cache would hide what this one computes."""
        shutil.rmtree(self.place, ignore_errors=True)

    def after(self) -> None:
        """A finished run's cache is of no further use, and large."""
        shutil.rmtree(self.place / ".cache", ignore_errors=True)

    @property
    def condition(self) -> str:
        """In words."""
        return f"seed {self.parameters['seed']}, {self.threads} {'thread' if self.threads == 1 else 'threads'}"


@dataclass
class Flip:
    """A claim whose verdict is not the same in two runs."""

    paper: str
    claim: str
    statement: str
    across: str
    runs: list[tuple[str, str, str]]
    opposite: bool


@dataclass
class Comparison:
    """What the runs of one notebook say of it."""

    paper: str
    claims: int = 0
    failed: list[str] = field(default_factory=list)
    bits: list[str] = field(default_factory=list)
    figures: int = 0
    pictures: list[str] = field(default_factory=list)
    flips: list[Flip] = field(default_factory=list)

    def across(self, kind: str) -> list[Flip]:
        """The flips across ``"threads"`` or ``"seeds"``."""
        return [flip for flip in self.flips if flip.across == kind]


# ----------------------------------------------------------------------------------------------------------- comparing


def differences(first: Any, second: Any, place: str = "") -> Iterator[str]:
    """Where two values read from JSON differ, with both values. Numbers are the same only if every bit is.

    Examples
    --------
    >>> list(differences({"a": [1.0, 2.0]}, {"a": [1.0, 2.5]}))
    ['a[1]: 2.0 / 2.5']
    """
    if isinstance(first, dict) and isinstance(second, dict):
        for name in dict.fromkeys([*first, *second]):
            inner = f"{place}.{name}" if place else str(name)
            if name not in first or name not in second:
                yield f"{inner}: only in the {'second' if name in second else 'first'} run"
            else:
                yield from differences(first[name], second[name], inner)
    elif isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        for index, (one, other) in enumerate(zip(first, second, strict=True)):
            name = one["id"] if isinstance(one, dict) and "id" in one else index
            yield from differences(one, other, f"{place}[{name}]")
    elif json.dumps(first) != json.dumps(second):
        yield f"{place}: {_short(first)} / {_short(second)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def picture_difference(first: Path, second: Path) -> str | None:
    """How two files of a figure differ; ``None`` if they show the same pixels (or, for films and sounds, are the same bytes)."""
    if first.read_bytes() == second.read_bytes():
        return None
    if first.suffix != ".png":
        return "other bytes"
    with Image.open(first) as one, Image.open(second) as other:
        if one.size != other.size:
            return f"{one.size[0]} x {one.size[1]} and {other.size[0]} x {other.size[1]} pixels"
        apart = np.abs(np.asarray(one.convert("RGBA"), dtype=int) - np.asarray(other.convert("RGBA"), dtype=int)).max(
            -1
        )
    return f"{(apart > 0).mean():.2%} of the pixels, by at most {apart.max()} of 255" if apart.any() else None


def flips(runs: Sequence[CleanRun], records: dict[str, dict[str, Any]], across: str) -> Iterator[Flip]:
    """Claims whose verdict is not the same in all of these runs.

    Parameters
    ----------
    runs
        At least two.
    records
        Results by the runs' labels.
    across
        What differs between the runs, ``"threads"`` or ``"seeds"``.
    """
    by_run = [{claim["id"]: claim for claim in records[run.label]["claims"]} for run in runs]
    for name in dict.fromkeys(itertools.chain(*by_run)):
        found = [claims.get(name) for claims in by_run]
        verdicts = {claim["verdict"] if claim else "no such claim" for claim in found}
        if len(verdicts) > 1:
            rows = [
                (run.condition, claim["verdict"], results.claim_rows([claim])[0][results.MEASURED])
                if claim
                else (run.condition, "no such claim", "-")
                for run, claim in zip(runs, found, strict=True)
            ]
            statement = next(claim["statement"] for claim in found if claim)
            opposite = {"reproduced", "not reproduced"} <= verdicts or "no such claim" in verdicts
            yield Flip(runs[0].paper.number, name, statement, across, rows, opposite)


def compare(runs: Sequence[CleanRun]) -> Comparison:
    """Compare the runs of one notebook, all of which have ended."""
    paper = runs[0].paper.number
    failed = [run for run in runs if not reproduce.is_current(run)]
    outcome = Comparison(paper, failed=[f"{run.label}: {_why(run)}" for run in failed])
    whole = [run for run in runs if run not in failed]
    records = {run.label: results.load_results(run.results_file) for run in whole}
    first = next((run for run in whole if run.role == ALIKE), None)
    if first is None:
        return outcome
    outcome.claims = len(records[first.label]["claims"])
    for again in (run for run in whole if run.role == ALIKE_AGAIN):
        one, other = (
            {name: value for name, value in records[run.label].items() if name not in NOT_COMPARED}
            for run in (first, again)
        )
        outcome.bits += differences(one, other)
        for entry in one["figures"]:
            there, here = (run.output_root / entry["file"] for run in (first, again))
            outcome.figures += 1
            apart = picture_difference(there, here) if here.exists() else "only in the first run"
            if apart:
                outcome.pictures.append(f"{entry['name']}: {apart}")
    for kind in ("threads", "seeds"):
        others = [run for run in whole if run.role == kind]
        if others:
            outcome.flips += flips([first, *others], records, kind)
    return outcome


def _why(run: CleanRun) -> str:
    return f"{run.failure['kind']}, {run.failure['error'][-1]}" if run.failure else "not run"


# ---------------------------------------------------------------------------------------------------------------- runs


def make_runs(options: argparse.Namespace, folder: Path, base: Path) -> list[CleanRun]:
    """All runs of all chosen notebooks; arguments are checked before anything runs.

    Raises
    ------
    ValueError, OSError
        As `reproduce.make_jobs`.
    """
    asked = argparse.Namespace(
        paper=options.paper, profile=options.profile, seed=0, data=None, data_root=None, device=options.device
    )
    (seed, *seeds), (threads, *counts) = options.seeds, options.threads_list
    plan = [(ALIKE, seed, threads), (ALIKE_AGAIN, seed, threads)]
    plan += [("threads", seed, count) for count in counts] + [("seeds", other, threads) for other in seeds]
    runs = []
    for job in reproduce.make_jobs(asked, folder):
        for role, of_run, count in plan:
            parameters = job.parameters | {"seed": of_run}
            name = f"seed-{of_run}-threads-{count}{'-again' if role == ALIKE_AGAIN else ''}"
            # The same bits are promised on one machine only, so a run made on another does not count.
            key = points.point_key(job, parameters, threads=count, machine=platform.node(), role=role == ALIKE_AGAIN)
            label = f"{job.paper.number} seed {of_run} threads {count}{' again' if role == ALIKE_AGAIN else ''}"
            place = base / job.paper.name / name
            runs.append(
                CleanRun(
                    job.paper, job.notebook, parameters, key, folder, label=label, place=place, role=role, threads=count
                )
            )
    return runs


def stated_minutes(notebook: Path) -> float | None:
    """Running time of the quick profile on one thread as the notebook's first cell says it; ``None`` if it does not."""
    try:
        _, running, _ = readme.times(nbformat.read(notebook, as_version=4))
    except readme.ReadmeError:
        return None
    number = re.fullmatch(r"(\d+) minutes", running)
    return float(number[1]) if number else MINUTES.get(running)


def estimate(to_run: Sequence[CleanRun], jobs: int, profile: str) -> str:
    """How long the runs will take, as far as the notebooks say."""
    if profile != "quick":
        return f"the notebooks state running times for the quick profile only, so there is no estimate for {profile}"
    stated = {run.notebook: stated_minutes(run.notebook) for run in to_run}
    # A run with several threads takes as many of the places; it is not counted as any quicker.
    total = sum((stated[run.notebook] or 0.0) / places(jobs, run.threads) for run in to_run)
    unknown = sorted(path.name for path, minutes in stated.items() if minutes is None)
    without = f" (without {', '.join(unknown)}, which do not say)" if unknown else ""
    return f"about {math.ceil(total)} minutes by the notebooks' own statements{without}, longer on a busy machine"


def places(jobs: int, threads: int) -> int:
    """How many runs with so many threads go side by side where `jobs` with one thread would."""
    return max(1, jobs // threads)


def run(to_run: Sequence[CleanRun], *, jobs: int, timeout: float | None) -> None:
    """Run all, those with equal numbers of threads side by side: threads that share a core would distort nothing but time."""
    for threads in sorted({one.threads for one in to_run}):
        group = [one for one in to_run if one.threads == threads]
        points.PointRunner(group, at_once=places(jobs, threads), threads=threads, timeout=timeout).run()


# ----------------------------------------------------------------------------------------------------------- reporting


def table(outcomes: Sequence[Comparison], options: argparse.Namespace) -> list[list[str]]:
    """Rows of the table, its head first."""
    rows = [["paper", "run twice", "verdicts across threads", "verdicts across seeds", "figures run twice"]]
    for outcome in outcomes:
        if outcome.failed:
            rows.append([outcome.paper, *["a run failed"] * 4])
            continue
        bits = f"{len(outcome.bits)} values differ" if outcome.bits else "same bits"
        verdicts = [
            f"{outcome.claims - len(outcome.across(kind))} of {outcome.claims} same"
            if len(several) > 1
            else "not asked"
            for kind, several in (("threads", options.threads_list), ("seeds", options.seeds))
        ]
        pictures = f"{outcome.figures - len(outcome.pictures)} of {outcome.figures} same pixels"
        rows.append([outcome.paper, bits, *verdicts, pictures])
    return rows


def describe(
    outcomes: Sequence[Comparison], rows: Sequence[Sequence[str]], known: dict[tuple[str, str], dict[str, Any]]
) -> str:
    """The table and, below it, everything that is not the same, by name and with its values, and what is recorded of it over seeds."""
    wide = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, wide, strict=True)).rstrip() for row in rows]
    for outcome in outcomes:
        lines += [f"\nFAILED {text}" for text in outcome.failed]
        if outcome.bits:
            lines.append(f"\nNOT THE SAME BITS  {outcome.paper}: {len(outcome.bits)} values, first run / second run")
            lines += [f"    {text}" for text in outcome.bits[:DIFFERENCES_SHOWN]]
            lines += [f"    ... and {len(outcome.bits) - DIFFERENCES_SHOWN} more"] * (
                len(outcome.bits) > DIFFERENCES_SHOWN
            )
        for flip in outcome.flips:
            kind = "opposite verdicts" if flip.opposite else "decided in one run, inconclusive in another"
            lines.append(f"\nNOT STABLE across {flip.across}  {flip.paper} {flip.claim}: {flip.statement} ({kind})")
            found = [*flip.runs, *_recorded(known.get((flip.paper, flip.claim)))]
            lines += [f"    {condition:<20}  {verdict:<14}  {measured}" for condition, verdict, measured in found]
        if outcome.pictures:
            lines.append(
                f"\nnote  {outcome.paper}: figures with other pixels in the second run (a clock's time in a figure does that)"
            )
            lines += [f"    {text}" for text in outcome.pictures]
    return "\n".join(lines)


def _recorded(claim: dict[str, Any] | None) -> list[tuple[str, str, str]]:
    if claim is None:
        return []
    measured = results.claim_rows([claim])[0][results.MEASURED]
    return [(f"over {len(claim['seeds'])} seeds", claim["verdict"], f"{measured} (recorded in {results.OVER_SEEDS})")]


def judge(outcomes: Sequence[Comparison], allow_unstable: bool) -> tuple[int, str]:
    """Exit status and the sentence that goes with it.

    Parameters
    ----------
    outcomes
        One for each notebook.
    allow_unstable
        Whether claims that are decided with one seed and inconclusive with another may pass. Opposite verdicts never pass, nor do
        other bits or a verdict that depends on threads.
    """
    failed = sum(len(outcome.failed) for outcome in outcomes)
    bits = [outcome.paper for outcome in outcomes if outcome.bits]
    threads = [flip for outcome in outcomes for flip in outcome.across("threads")]
    seeds = [flip for outcome in outcomes for flip in outcome.across("seeds")]
    opposite = [flip for flip in seeds if flip.opposite]
    counts = (
        f"{failed} runs failed; other bits in {len(bits)} of {len(outcomes)} papers; of {sum(o.claims for o in outcomes)} claims "
        f"{len(threads)} depend on threads and {len(seeds)} on the seed ({len(opposite)} with opposite verdicts)"
    )
    bad = bool(failed or bits or threads or opposite or (seeds and not allow_unstable))
    if bad and not (failed or bits or threads or opposite):
        counts += "\na claim that only the seed decides needs more runs in its notebook; ALLOW_UNSTABLE=1 lets it pass, still listed"
    return int(bad), counts


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Command line; an empty value means the default, so that make can pass its variables as they are."""
    parser = argparse.ArgumentParser(
        prog="python -m paper_utils.verify", description="Run notebooks several times and compare."
    )
    parser.add_argument("--paper", default="", help="numbers, comma-separated; all that have a notebook if empty")
    parser.add_argument("--profile", default="", help=f"{', '.join(papers.PROFILES)}; quick if empty")
    parser.add_argument("--seeds", default="", help="the first is run twice, the others once; 0,1 if empty")
    parser.add_argument("--threads-list", default="", help="numbers of threads, likewise; 1,2 if empty")
    parser.add_argument("--device", default="", help=f"{', '.join(devices.DEVICES)}; cpu if empty")
    parser.add_argument("--jobs", default="", help="threads in use at once; as many as cores if empty")
    parser.add_argument("--timeout", default="", help="seconds after which a run is given up; none if empty")
    parser.add_argument("--force", default="", help="run even what is finished")
    parser.add_argument("--allow-unstable", default="", help="pass although a seed makes a claim inconclusive")
    found = parser.parse_args(arguments)
    try:
        found.seeds = points.whole_numbers(found.seeds or "0,1", "SEEDS")
        found.threads_list = points.whole_numbers(found.threads_list or "1,2", "THREADS_LIST", least=1)
        found.jobs = points.positive(found.jobs, "JOBS", reproduce.cores())
        found.timeout = points.positive(found.timeout, "TIMEOUT", None, float)
    except ValueError as error:
        parser.error(str(error))
    found.profile, found.device = found.profile or "quick", found.device or "cpu"
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns
    -------
    int
        0: all the same; 1: something is not, or a run failed; 2: a wrong argument; 3: another one is at work in the same
        folder; 130: interrupted.
    """
    options = parse(arguments)
    try:
        base = files.output_root().resolve() / "build" / "verify" / papers.check_profile(options.profile)
        runs = make_runs(options, files.project_root(), base)
    except (ValueError, OSError) as error:
        print(f"make verify: {error}", file=sys.stderr)
        return 2
    to_run = [one for one in runs if options.force or not reproduce.is_current(one)]
    print(f"{len(runs)} runs, {len(runs) - len(to_run)} of them finished before (FORCE=1 runs them again)")
    if options.profile == "smoke":
        print("the smoke profile draws no verdicts: only the bits are compared")
    if to_run:
        print(estimate(to_run, options.jobs, options.profile), flush=True)
    points.heed_interrupts()
    try:
        with files.only_one(base / points.LOCK_NAME):
            run(to_run, jobs=options.jobs, timeout=options.timeout)
    except files.LockedError as holder:
        print(f"make verify: {holder} is already verifying in {base}; wait for it or end it", file=sys.stderr)
        return 3
    except files.WriteError as error:
        print(f"make verify: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "\ninterrupted: running notebooks were ended, finished runs are kept; the same command goes on",
            file=sys.stderr,
        )
        return 130
    outcomes = [compare(list(group)) for _, group in itertools.groupby(runs, key=lambda one: one.paper.number)]
    status, sentence = judge(outcomes, bool(options.allow_unstable))
    reproduce.print_failures(runs)
    known, unreadable = results.known_over_seeds(files.project_root()) if options.profile == "quick" else ({}, [])
    for message in unreadable:
        print(f"make verify: {message}", file=sys.stderr)
    text = f"{describe(outcomes, table(outcomes, options), known)}\n\n{sentence}"
    print(f"\n{text}")
    try:
        files.write_text(base / "verify.txt", text + "\n")
    except files.WriteError as error:
        print(f"make verify: {error}", file=sys.stderr)
        return 1
    print(f"this text: {base / 'verify.txt'}")
    return status


if __name__ == "__main__":
    sys.exit(main())
