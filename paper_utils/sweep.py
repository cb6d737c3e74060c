"""Behind `make sweep`: one notebook at many points, seeds x profiles x parameters, and one table of what its claims said at each.

Points run side by side on this machine or on the workers of a Dask cluster. Each has a folder of its own, so a sweep that was
killed goes on where it was: finished points are kept as long as `reproduce.job_key` says that nothing they depend on has changed,
a point that was cut off goes on from its training's checkpoint, and failed points are tried again by the next call.

A cluster needs a file system that all its machines share, with this project in one place. On Slurm (`pip install dask-jobqueue`)::

    from dask_jobqueue import SLURMCluster

    cluster = SLURMCluster(queue="cpu", cores=1, processes=1, memory="4GB", walltime="01:00:00")  # of one Slurm job = one worker
    cluster.scale(jobs=32)
    print(cluster.scheduler_address)  # make sweep PAPER=06 SEEDS=0-31 ENGINE=dask SCHEDULER=tcp://...
    input("Enter ends the cluster")

Other schedulers (PBS, SGE, LSF, HTCondor) have classes of the same kind there; workers started by hand serve as well:
``dask scheduler`` on one machine, ``dask worker tcp://... --nthreads 1`` on the others, with the Python of ``.venv``.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import itertools
import logging
import os
import re
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import papermill

from paper_utils import devices, files, papers, points, provenance, report, reproduce, results, sweep_tables

ENGINES = ("local", "dask")
# Entries whose names are hashes of all that they depend on (`training.cached`, `world.cache`); not checkpoints of unfinished trainings.
FINISHED_ENTRY = re.compile(r"[0-9a-f]{20}\.(?!checkpoint)[\w.]+")
CONNECT_SECONDS = 20


@dataclass
class SweepPoint(points.Point):
    """A point of a sweep; `store` holds finished cache entries that points share."""

    store: Path = Path()

    def before(self) -> None:
        """Lend the store's entries to this point's own cache: points that train the same network need not do so twice."""
        lend(self.store, self.place / ".cache")

    def after(self) -> None:
        """Keep what a finished point computed for the others; one that failed keeps its cache, checkpoints included, for the next try."""
        lend(self.place / ".cache", self.store)
        if self.failure is None:
            shutil.rmtree(self.place / ".cache", ignore_errors=True)
            report.write(self.output_root)


def lend(source: Path, target: Path) -> None:
    """Give `target` the finished cache entries of `source` that it lacks, as second names of the same files where the disk can.

    Points never share a folder that they write to: two that train the same network at once would share its checkpoint, too.
    """
    # What stands beside an entry goes first (its name is longer): no entry is ever there without it.
    for path in sorted(source.glob("*/*"), reverse=True):
        there = target / path.relative_to(source)
        if not FINISHED_ENTRY.fullmatch(path.name) or there.exists():
            continue
        there.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, there)
        except FileExistsError:
            pass  # another point was quicker; an entry's name says what is in it
        except OSError:
            with contextlib.suppress(FileNotFoundError), files.atomic_path(there) as temporary:
                shutil.copyfile(path, temporary)


# -------------------------------------------------------------------------------------------------------------- points


def read_grid(text: str, notebook: Path) -> dict[str, list[Any]]:
    """Values of a notebook's parameters from text such as ``"voice_face_link=0,0.6;data=world"``.

    Parameters
    ----------
    text
        ``name=value,value`` for each parameter, separated by semicolons.
    notebook
        Its cell tagged ``parameters`` says which names there are; a value gets the type of the name's default.

    Raises
    ------
    ValueError
        For a name that the notebook does not have or that has an option of its own, a repeated name or value, a value that is
        not of its default's type, or text that is not of this form.
    """
    try:
        known = {name: entry["default"] for name, entry in papermill.inspect_notebook(str(notebook)).items()}
    except ValueError as error:
        raise ValueError(f"notebook {notebook.name}: its parameters cannot be read ({error})") from error
    valid = ", ".join(name for name in known if name not in ("seed", "profile"))
    grid: dict[str, list[Any]] = {}
    for part in filter(None, map(str.strip, text.split(";"))):
        name, equals, values = (piece.strip() for piece in part.partition("="))
        if not equals or not values:
            raise ValueError(f"GRID: expected name=value,value;name=value, found {part!r}")
        if name in ("seed", "profile"):
            raise ValueError(f"GRID: {name} has an option of its own, {'SEEDS=' if name == 'seed' else 'PROFILES='}")
        if name not in known:
            raise ValueError(f"GRID: unknown parameter {name!r} of notebook {notebook.stem}; valid: {valid}")
        if name in grid:
            raise ValueError(f"GRID: {name} is given twice; list its values in one place, separated by commas")
        grid[name] = [_typed(value.strip(), known[name], name) for value in values.split(",")]
        if len(set(grid[name])) < len(grid[name]):
            raise ValueError(f"GRID: {name} has a value twice: {values}")
    return grid


def _typed(text: str, default: str, name: str) -> Any:
    """A value in the type of its parameter's default, so that text can only ever become text, a number, a truth value or nothing."""
    try:
        kind = type(ast.literal_eval(default))
        if kind in (str, type(None)):
            return None if text == "None" else text
        value = ast.literal_eval(text) if kind in (bool, int, float) else None
    except (ValueError, SyntaxError) as error:
        raise ValueError(f"GRID: {name}={text!r}: expected a value like its default {default}") from error
    if value is None:
        raise ValueError(
            f"GRID: {name}: a sweep varies text, numbers and truth values; the default of {name} is {default}"
        )
    if type(value) is kind or (kind is float and type(value) is int):
        return kind(value)
    raise ValueError(f"GRID: {name}={text!r}: expected {kind.__name__} like its default {default}")


def make_points(options: argparse.Namespace, folder: Path, base: Path) -> list[SweepPoint]:
    """All points of a sweep, checked before anything runs.

    Parameters
    ----------
    options
        As `parse` makes them.
    folder, base
        The project's folder, and where the sweep's outputs go.

    Raises
    ------
    ValueError, OSError
        For an unknown paper, profile, parameter, data or device, or a data folder that cannot be read.
    """
    notebook = folder / "notebooks" / f"{papers.find(options.paper).name}.ipynb"
    grid = read_grid(options.grid, notebook) if notebook.exists() else {}
    profiles = list(dict.fromkeys(part.strip() for part in options.profiles.split(",") if part.strip()))
    for profile in profiles or [""]:
        papers.check_profile(profile)
    found = []
    several = {"seed", *(name for name, values in [("profile", profiles), *grid.items()] if len(values) > 1)}
    for profile, seed, *values in itertools.product(profiles, options.seeds, *grid.values()):
        chosen = dict(zip(grid, values, strict=True))
        of_frame = {name: chosen.get(name, getattr(options, name) or None) for name in ("data", "data_root", "device")}
        of_frame["device"] = of_frame["device"] or "auto"
        job = points.base_job(options.paper, profile, folder=folder, **of_frame)
        knobs = {name: value for name, value in chosen.items() if name not in of_frame}
        parameters = job.parameters | {"seed": seed} | knobs
        varied = {"profile": profile, "seed": seed} | chosen
        label = " ".join(f"{name}={value}" for name, value in varied.items() if name in several)
        slug = re.sub(r"[^\w.,=+-]+", "_", ",".join(f"{name}={value}" for name, value in varied.items()))[:80]
        found.append(
            SweepPoint(
                paper=job.paper,
                notebook=job.notebook,
                parameters=parameters,
                key=points.point_key(job, parameters, threads=options.threads),
                folder=folder,
                label=label,
                place=base / "points" / f"{slug}-{provenance.key_hash(parameters)[:8]}",
                # The keys of cached states count neither the device nor the threads, which change the last bits.
                store=base / "cache" / f"{parameters['device']}-{options.threads}",
            )
        )
    return found


# ------------------------------------------------------------------------------------------------------------- engines


def run_point(point: SweepPoint, threads: int, timeout: float | None) -> dict[str, Any]:
    """Run one point on a worker of a cluster.

    Returns
    -------
    dict
        The fields of the point that say how it went.
    """
    runner = points.PointRunner([point], at_once=1, threads=threads, timeout=timeout)
    runner.live = False  # many workers may share a terminal, or write to log files
    runner.run()
    return {name: getattr(point, name) for name in ("failure", "seconds", "done", "total", "current")}


def run_on_dask(
    chosen: Sequence[SweepPoint], *, scheduler: str | None, at_once: int, threads: int, timeout: float | None
) -> None:
    """Run points on a Dask cluster: the one at `scheduler`, or `at_once` workers on this machine. Sets the points' fields.

    Raises
    ------
    ModuleNotFoundError
        Without the packages of the extra ``cluster``.
    ConnectionError
        If there is no scheduler at that address.
    """
    import distributed

    with contextlib.ExitStack() as stack:
        if scheduler is None:
            # The notebooks run in processes of the workers, so Dask can neither see nor limit their memory.
            cluster = distributed.LocalCluster(
                n_workers=min(at_once, len(chosen)),
                threads_per_worker=1,
                dashboard_address=None,
                memory_limit=0,
                host="127.0.0.1",
                silence_logs=logging.ERROR,
            )
            stack.enter_context(cluster)
        try:
            client = stack.enter_context(distributed.Client(scheduler or cluster, timeout=CONNECT_SECONDS))
        except (OSError, ValueError) as error:
            raise ConnectionError(
                f"no Dask scheduler answers at SCHEDULER={scheduler} ({error}); expected tcp://host:port of one that runs"
            ) from error
        if not client.scheduler_info()["workers"]:
            print(f"{scheduler} has no worker yet; points wait until one comes", flush=True)
        futures = {
            client.submit(
                run_point, replace(point), threads, timeout, key=f"{point.label}-{point.key}", pure=False
            ): point
            for point in chosen
        }
        try:
            for number, future in enumerate(distributed.as_completed(futures), start=1):
                _take(future, futures[future])
                print(f"{number} of {len(chosen)} points ended", flush=True)
        except BaseException:
            client.cancel(list(futures))
            raise


def _take(future: Any, point: SweepPoint) -> None:
    """Set the fields of a point from what its worker returned."""
    try:
        for name, value in future.result().items():
            setattr(point, name, value)
    except Exception as error:
        # Whatever went wrong on a worker (it died, it lacks this package) belongs to this point and must not end the others.
        point.failure = {"kind": "worker", "error": [f"{type(error).__name__}: {error}"]}
    if point.failure is None and not reproduce.is_current(point):
        text = (
            f"its worker finished, but {point.place} has no results on this machine; workers must share its file system"
        )
        point.failure = {"kind": "worker", "error": [text]}


# -------------------------------------------------------------------------------------------------------- command line


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Command line; an empty value means the default, so that make can pass its variables as they are."""
    parser = argparse.ArgumentParser(
        prog="python -m paper_utils.sweep",
        description="Run one notebook at many points.",
        epilog=__doc__.partition("\n\n")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--paper", default="", help="number of the paper")
    parser.add_argument("--seeds", default="", help="such as 0,1,2 or 0-9; 0,1,2 if empty")
    parser.add_argument(
        "--profiles", default="", help=f"of {', '.join(papers.PROFILES)}, comma-separated; quick if empty"
    )
    parser.add_argument("--grid", default="", help="name=value,value;name=value: parameters of the notebook")
    parser.add_argument("--data", default="", help="data name of the paper; its default if empty")
    parser.add_argument("--data-root", default="", help="folder of real data in its official layout")
    parser.add_argument("--device", default="", help=f"{', '.join(devices.DEVICES)}; auto if empty")
    parser.add_argument("--name", default="", help="folder below build/sweeps; the notebook's name if empty")
    parser.add_argument("--engine", default="", help="local: processes of this machine; dask: a Dask cluster")
    parser.add_argument(
        "--scheduler", default="", help="tcp://host:port of a running Dask cluster; own workers if empty"
    )
    parser.add_argument("--jobs", default="", help="points at once on this machine; as many as cores if empty")
    parser.add_argument("--threads", default="", help="threads of each point; 1 if empty")
    parser.add_argument("--timeout", default="", help="seconds after which a point is given up; none if empty")
    parser.add_argument("--force", default="", help="run even what is finished")
    found = parser.parse_args(arguments)
    try:
        if not found.paper.strip() or "," in found.paper:
            raise ValueError(
                f"PAPER: a sweep takes one paper, found {found.paper!r}; valid: {', '.join(papers.NOTEBOOKS)}"
            )
        found.seeds = points.whole_numbers(found.seeds or "0,1,2", "SEEDS")
        found.profiles = found.profiles or "quick"
        found.jobs = points.positive(found.jobs, "JOBS", reproduce.cores())
        found.threads = points.positive(found.threads, "THREADS", 1)
        found.timeout = points.positive(found.timeout, "TIMEOUT", None, float)
        found.engine = found.engine or ("dask" if found.scheduler else "local")
        if found.engine not in ENGINES:
            raise ValueError(f"ENGINE: unknown engine {found.engine!r}; valid: {', '.join(ENGINES)}")
        if found.scheduler and found.engine != "dask":
            raise ValueError("SCHEDULER names a Dask cluster; it goes with ENGINE=dask")
        if found.name and not re.fullmatch(r"\w[\w.=+-]*", found.name):
            raise ValueError(f"SWEEP: expected letters, digits and . _ = + - (it names a folder), found {found.name!r}")
    except ValueError as error:
        parser.error(str(error))
    return found


def run(chosen: Sequence[SweepPoint], options: argparse.Namespace) -> None:
    """Run points on the engine that was asked for."""
    if not chosen:
        return
    if options.engine == "dask":
        limits = {"at_once": options.jobs, "threads": options.threads, "timeout": options.timeout}
        run_on_dask(chosen, scheduler=options.scheduler or None, **limits)
    else:
        points.PointRunner(chosen, at_once=options.jobs, threads=options.threads, timeout=options.timeout).run()


def finished(chosen: Iterable[SweepPoint]) -> list[tuple[SweepPoint, dict[str, Any]]]:
    """Points whose results stand and are current, with their results."""
    return [(point, results.load_results(point.results_file)) for point in chosen if reproduce.is_current(point)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns
    -------
    int
        0: all points ran or were finished; 1: a point failed; 2: a wrong argument; 3: another sweep is writing to the same
        folder; 130: interrupted.
    """
    options = parse(arguments)
    folder = files.project_root()
    try:
        base = files.output_root().resolve() / "build" / "sweeps" / (options.name or papers.find(options.paper).name)
        chosen = make_points(options, folder, base)
    except (ValueError, OSError) as error:
        print(f"make sweep: {error}", file=sys.stderr)
        return 2
    to_run = [point for point in chosen if options.force or not reproduce.is_current(point)]
    print(
        f"{len(chosen)} points, {len(chosen) - len(to_run)} of them finished before (FORCE=1 runs them again)",
        flush=True,
    )
    points.heed_interrupts()
    interrupted = False
    try:
        with files.only_one(base / points.LOCK_NAME):
            run(to_run, options)
    except files.LockedError as holder:
        print(
            f"make sweep: {holder} is already sweeping into {base}; wait for it, or name another folder: SWEEP=",
            file=sys.stderr,
        )
        return 3
    except KeyboardInterrupt:
        interrupted = True
    except ModuleNotFoundError as error:
        print(
            f"make sweep: ENGINE=dask needs the package {error.name!r}: .venv/bin/pip install -e '.[cluster]'",
            file=sys.stderr,
        )
        return 2
    except ConnectionError as error:
        print(f"make sweep: {error}", file=sys.stderr)
        return 2
    except files.WriteError as error:
        print(f"make sweep: {error}", file=sys.stderr)
        return 1
    done = finished(point for point in chosen if point.failure is None)
    reproduce.print_failures(chosen)
    try:
        written = sweep_tables.write(base, chosen, done)
    except files.WriteError as error:
        print(f"make sweep: {error}", file=sys.stderr)
        return 1
    if interrupted:
        print(
            "\ninterrupted: running points were ended, finished ones are kept; the same command goes on",
            file=sys.stderr,
        )
    elif len(done) < len(chosen):
        print("\nthe same command tries the failed points again")
    print(f"\n{len(done)} of {len(chosen)} points finished")
    print("\n".join(f"    {path}" for path in written))
    if interrupted:
        return 130
    return 0 if len(done) == len(chosen) else 1


if __name__ == "__main__":
    # Workers of a cluster import what they are sent by name, and this file's name is not __main__ there.
    from paper_utils import sweep

    sys.exit(sweep.main())
