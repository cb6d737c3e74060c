"""What the tests of faults share: processes that kill themselves at a chosen point, small and read-only disks, damaged bytes."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest

LIMIT = 1 << 18  # bytes of the small disk, and of the largest file where a limit stands in for one


def kill_this_process(*_: object, **__: object) -> None:
    """``kill -9`` of the process itself: it has no say in it."""
    os.kill(os.getpid(), signal.SIGKILL)


def run_until_killed(work: Callable[[], object]) -> None:
    """Run `work`, which must kill its process, in a copy of this one."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "the process ended before it came to the point at which it kills itself"
    assert os.WTERMSIG(status) == signal.SIGKILL


def kill_at(
    target: str, call: int = 1, *, before: Callable[..., object] | None = None
) -> contextlib.AbstractContextManager:
    """Inside the block, the `call`-th call of the function named `target` kills the process, after `before` was given its arguments."""
    module, _, name = target.rpartition(".")
    real = getattr(sys.modules[module], name)
    calls = 0

    def instead(*arguments: object, **named: object) -> object:
        nonlocal calls
        calls += 1
        if calls < call:
            return real(*arguments, **named)
        if before is not None:
            before(*arguments, **named)
        return kill_this_process()

    return mock.patch.object(sys.modules[module], name, instead)


@contextlib.contextmanager
def no_larger_file() -> Iterator[None]:
    """Inside the block no file of this process can grow beyond `LIMIT`; the system refuses as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A disk in memory at `folder`; skips where it cannot be made."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("a disk in memory needs the command mount")
    if done.returncode:
        pytest.skip(f"a disk in memory needs the rights of root: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@contextlib.contextmanager
def permissions_heeded() -> Iterator[None]:
    """Inside the block permission bits hold for this thread even if it belongs to root, whom they do not stop otherwise."""
    if os.geteuid() != 0:
        yield
        return
    if not sys.platform.startswith("linux"):
        pytest.skip("as root, permission bits can be made to hold on Linux only")
    library = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3 of the capability calls; this thread
    before = (ctypes.c_uint32 * 6)()
    assert library.capget(header, before) == 0
    without = (ctypes.c_uint32 * 6)(*before)
    without[0] &= ~0b110  # effective CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
    assert library.capset(header, without) == 0
    try:
        yield
    finally:
        assert library.capset(header, before) == 0


def flipped(content: bytes, bit: int) -> bytes:
    """The same bytes with one bit changed."""
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def names_in(folder: Path) -> list[str]:
    """Everything below a folder, hidden files too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
