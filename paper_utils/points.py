"""Runs of one notebook that must not disturb each other: each writes below a folder of its own.

`paper_utils.sweep` runs a notebook at many points of its parameters, `paper_utils.verify` runs it several times to compare. Both
use the runner of `paper_utils.reproduce`; what is here gives each run its own place for outputs, caches and what is known of it.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import re
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paper_utils import files, provenance, reproduce

LOCK_NAME = ".lock"  # in a folder of runs: held by the command that writes to it
MOST = 10_000  # numbers in one range: more is a slip of the finger


@dataclass
class Point(reproduce.Job):
    """One run of a notebook with its own folder `place`; `label` names it on the screen."""

    label: str = ""
    place: Path = Path()

    def __post_init__(self) -> None:
        self.environment = {files.OUTPUT_VARIABLE: str(self.place)}

    @property
    def name(self) -> str:
        return self.label

    @property
    def build(self) -> Path:
        return self.place

    @property
    def stamp(self) -> Path:
        return self.place / "stamp.json"

    @property
    def output_root(self) -> Path:
        return files.output_root(self.parameters["profile"], self.place)

    def before(self) -> None:
        """Called in the runner just before the notebook starts."""

    def after(self) -> None:
        """Called in the runner when the notebook has ended, whether it succeeded or not."""


class PointRunner(reproduce.Runner):
    """The runner, which lets each point prepare its folder and clear it up."""

    def _start(self, job: Point) -> None:
        self._remove_leftovers(job)  # of a run that was killed together with its runner
        shutil.rmtree(job.running_copy.parent, ignore_errors=True)
        job.before()
        super()._start(job)

    def _finish(self, job: Point) -> None:
        super()._finish(job)
        try:
            job.after()
        except OSError as error:
            self._fail(job, error)


def point_key(job: reproduce.Job, parameters: dict[str, Any], **more: Any) -> str:
    """Key of a run of `job`'s notebook with other parameters: all that `reproduce.job_key` counts, and `more`."""
    return provenance.key_hash({"notebook": job.key, "parameters": parameters, **more})


@functools.cache
def base_job(
    paper: str, profile: str, data: str | None, data_root: str | None, device: str, folder: Path
) -> reproduce.Job:
    """The notebook with its checked parameters and seed 0; the others of a sweep differ from it in some of them.

    Raises
    ------
    ValueError, OSError
        As `reproduce.make_jobs`.
    """
    asked = argparse.Namespace(paper=paper, profile=profile, seed=0, data=data, data_root=data_root, device=device)
    (job,) = reproduce.make_jobs(asked, folder)
    return job


def whole_numbers(text: str, name: str, least: int = 0) -> list[int]:
    """Different whole numbers from text such as ``"0,1,2"`` or ``"0-9"``, in the order given.

    Raises
    ------
    ValueError
        If a part is neither a number of at least `least` nor a range of such.

    Examples
    --------
    >>> whole_numbers("7, 0-3", "SEEDS")
    [7, 0, 1, 2, 3]
    """
    found: list[int] = []
    for part in filter(None, map(str.strip, text.split(","))):
        read = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", part)
        first, last = (int(read[1]), int(read[2] or read[1])) if read else (0, -1)
        if not (least <= first <= last and last - first < MOST):
            raise ValueError(
                f"{name}: expected numbers of at least {least} such as {least},{least + 1} or {least}-{least + 3} (no more than {MOST}), found {part!r}"
            )
        found += range(first, last + 1)
    if not found:
        raise ValueError(f"{name}: expected at least one number, found {text!r}")
    return list(dict.fromkeys(found))


def positive(text: str, name: str, default: float | None, kind: type = int) -> Any:
    """A number above zero from the command line; an empty text gives `default`.

    Raises
    ------
    ValueError
        If it is not a number above zero.
    """
    if not text:
        return default
    with contextlib.suppress(ValueError, OverflowError):
        if (value := kind(text)) > 0:
            return value
    raise ValueError(f"{name} must be a {'whole ' if kind is int else ''}number above 0, found {text!r}")


def heed_interrupts() -> None:
    """Let Ctrl-C and a polite kill raise ``KeyboardInterrupt``, even in a process that a shell started in the background."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
