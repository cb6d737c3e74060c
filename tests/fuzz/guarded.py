"""Runs a reader of untrusted files under watch: what it may raise, how long it may take, what it may allocate, and what it must not touch.

Memory is watched by a limit of the address space, so a size that a file only declares counts as soon as it is asked for. An audit hook sees every
file that is opened and every program, connection or command that is started.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jaxtyping

SECONDS = 5.0  # CPU time of one read; the valid files take some milliseconds
BYTES = 384 << 20  # of address space beyond what is in use; the valid files have some kilobytes
STARTS = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "socket.connect", "urllib.Request", "ctypes.dlopen")  # fmt: skip
_STATM = Path("/proc/self/statm")
SECRET = "secret_outside.txt"  # stands beside the folder of a case: nothing in a file may lead a reader there


class TooSlow(BaseException):
    """The time is over; no reader's `except Exception` catches it."""


class _Watch:
    """What the audit hook, which cannot be taken off again, saw since the last read began."""

    def __init__(self) -> None:
        self.on = False
        self.seen: list[str] = []
        sys.addaudithook(self)

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event in STARTS:
            self.seen.append(f"{event} {args!r:.200}")
        elif event == "open" and isinstance(args[0], (str, os.PathLike)):
            place, mode, flags = str(args[0]), args[1], args[2]
            writes = any(letter in (mode or "") for letter in "wax+") or bool(flags & (os.O_WRONLY | os.O_RDWR))
            if (writes and place != os.devnull) or place.endswith(SECRET):
                self.seen.append(f"open {place!r} {mode!r}")


_WATCH = _Watch()


@contextlib.contextmanager
def _limits() -> Iterator[None]:
    def over(*_: object) -> None:
        raise TooSlow

    before = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGPROF, over)
    if _STATM.exists():  # only Linux says how much address space is in use, and keeps to the limit
        used = int(_STATM.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + BYTES, before[1]))
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    _WATCH.seen, _WATCH.on = [], True
    try:
        yield
    finally:
        _WATCH.on = False
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.signal(signal.SIGPROF, handler)


def fault_of(read: Callable[[Path], object], folder: Path, damaged: str = "") -> str | None:
    """Reads a folder of which a file may be damaged; what was wrong with how that went, None if nothing.

    Allowed are a return, and a `ValueError`, `OSError` or an own subclass of them whose message names the file or the folder.

    Parameters
    ----------
    read
        The reader.
    folder
        What it reads.
    damaged
        Name of the damaged file, which a message may give instead of the folder.
    """
    with _type_checks(False):
        error, fault = _attempt(read, folder)
    if fault is not None:
        return fault
    if error is not None:
        return _wrong_error(error, folder, damaged)
    with _type_checks(True):  # what was returned must be what the annotations say
        error, fault = _attempt(read, folder)
    return fault if error is None else f"returned what it should not: {_shown(error)}"


def _attempt(read: Callable[[Path], object], folder: Path) -> tuple[Exception | None, str | None]:
    error: BaseException | None = None
    began = time.process_time()
    try:
        with _limits(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read(folder)
    except (Exception, TooSlow) as raised:
        error = raised
    seconds = time.process_time() - began
    if _WATCH.seen:
        return None, f"touched {_WATCH.seen}"
    if isinstance(error, TooSlow) or seconds > SECONDS:
        return None, f"took more than {SECONDS:g} s of CPU time"
    return error, None


@contextlib.contextmanager
def _type_checks(on: bool) -> Iterator[None]:
    """Shapes and types of annotations are checked in tests only; a user sees what the readers themselves check."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", not on)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)


def _wrong_error(error: BaseException, folder: Path, damaged: str) -> str | None:
    link: BaseException | None = error
    while link is not None:
        if type(link).__name__ == "TypeCheckError":
            return f"passed on what is not of the annotated kind: {_shown(link)}"
        if isinstance(link, MemoryError) or "allocate memory" in str(link):
            return f"asked for more than {BYTES >> 20} MiB: {_shown(error)}"
        link = link.__cause__ or link.__context__
    own = type(error).__module__.startswith("paper_utils") and isinstance(error, (ValueError, OSError))
    if type(error) is not ValueError and not own and not isinstance(error, OSError):
        return f"raised {_shown(error)}"
    names = (str(folder), Path(damaged).name)
    return None if any(name and name in str(error) for name in names) else f"names no file: {_shown(error)}"


def _shown(error: BaseException) -> str:
    place = ""
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if "paper_utils" in code.co_filename:
            place = f"{Path(code.co_filename).name}:{trace.tb_lineno} {code.co_name}"
        trace = trace.tb_next
    return f"{type(error).__name__} at {place or 'no line of ours'}: {str(error)[:300]}"
