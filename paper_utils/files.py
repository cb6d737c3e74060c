"""Where outputs go, and how they are written: always whole, never half."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows; nothing is locked there, and so nothing is taken for abandoned
    fcntl = None

OUTPUT_VARIABLE = "PAPER_UTILS_OUTPUT"
LOCK_NAME = ".lock"
PROBE_BYTES = 1 << 16
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})  # there is no room for the file

# What the system says when a file cannot be written: in words, and what helps.
_ELSEWHERE = f"set {OUTPUT_VARIABLE} to a folder on another disk"
_REFUSALS = {
    errno.ENOSPC: ("the disk is full", f"free some space or {_ELSEWHERE}"),
    errno.EDQUOT: ("the quota on this disk is used up", f"delete files of yours there or {_ELSEWHERE}"),
    errno.EFBIG: ("a limit on the size of files was reached", f"raise it (`ulimit -f unlimited`) or {_ELSEWHERE}"),
    errno.EACCES: ("no permission to write in {}", f"give yourself that permission or {_ELSEWHERE}"),
    errno.EPERM: ("no permission to write in {}", f"give yourself that permission or {_ELSEWHERE}"),
    errno.EROFS: ("the disk that holds {} is read-only", f"mount it writable or {_ELSEWHERE}"),
    errno.ENOTDIR: ("{} is a file, and a folder is needed there", "move that file away"),
    errno.EEXIST: ("{} is a file, and a folder is needed there", "move that file away"),
    errno.EISDIR: ("it is a folder", "move that folder away"),
    errno.EIO: ("the disk reported an error", f"check the disk or {_ELSEWHERE}"),
}


class WriteError(OSError):
    """A file that could not be written; the message says which, why, and what to do. `errno` is the system's number."""

    def __init__(self, path: Path, cause: OSError, needed: int | None = None, kept: str = "") -> None:
        why, remedy = _REFUSALS.get(cause.errno, (cause.strerror or str(cause), f"mend that or {_ELSEWHERE}"))
        # Above the file something stands already; that is what is in the way, or may not be written to.
        standing = next((folder for folder in path.parents if folder.exists()), path.parent)
        why = why.format(standing)
        if needed is not None and cause.errno in FULL:
            why += f", it needs {needed / 1e6:,.2f} MB"
            with contextlib.suppress(OSError):
                why += f" and {shutil.disk_usage(path.parent).free / 1e6:,.2f} MB are free"
        self.message = f"{path} cannot be written: {why}; {remedy}{kept and '; '}{kept}"
        super().__init__(self.message)
        self.errno, self.filename = cause.errno, str(path)

    def __str__(self) -> str:
        return self.message


def project_root() -> Path:
    """Nearest folder, from the working folder upwards, that holds this project; the working folder itself if none does."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "pyproject.toml").is_file() and (folder / "notebooks").is_dir():
            return folder
    return here


def output_root(profile: str | None = None, chosen: str | Path | None = None) -> Path:
    """Folder that ``figures/``, ``results/`` and ``.cache/`` are written under.

    The project's own folder, unless the environment variable ``PAPER_UTILS_OUTPUT`` names another (tests do, so that
    checking a notebook never overwrites what `make reproduce` made). A run of the smoke profile checks plumbing: it gets
    ``build/smoke`` below, so that it overwrites no figures and results that somebody reads. `chosen` stands in for the
    variable where one process asks about the outputs of another.
    """
    chosen = chosen or os.environ.get(OUTPUT_VARIABLE)
    root = Path(chosen) if chosen else project_root()
    return root / "build" / "smoke" if profile == "smoke" else root


def try_lock(file: BinaryIO) -> bool | None:
    """Lock an open file for this process; the system takes the lock back when the process ends, however it ends.

    Returns
    -------
    bool or None
        Whether the lock was free. ``None`` if locks do not exist there (Windows, some network disks).
    """
    if fcntl is None:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in (errno.EAGAIN, errno.EACCES) else None
    return True


class LockedError(RuntimeError):
    """Something that only one process may do at a time is being done by another; the message says by which."""


@contextlib.contextmanager
def only_one(path: Path) -> Iterator[str]:
    """Hold the lock file `path` while the block runs.

    Parameters
    ----------
    path
        Says who holds it: process and host. It stays where it is when the block ends, empty; after a kill it still names the dead
        process, but the lock itself is free, since the system gave it back.

    Yields
    ------
    str
        Who held the lock before and died with it, ``""`` if nobody.

    Raises
    ------
    LockedError
        If a living process holds it.
    WriteError
        If the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a+b", buffering=0)  # noqa: SIM115 - held until the block ends
    except OSError as error:
        raise WriteError(path, error) from error
    with file:
        free = try_lock(file)
        file.seek(0)
        holder = file.read().decode("utf-8", "replace").strip()
        if free is False:
            raise LockedError(holder or "a process that has only just begun")
        if free is None:
            warnings.warn(f"{path}: no locks on this disk; see to it that nothing else writes there", stacklevel=3)
        file.truncate(0)
        try:
            file.write(f"process {os.getpid()} on {platform.node()}\n".encode())
        except OSError as error:
            raise WriteError(path, error) from error
        try:
            yield holder
        finally:
            file.truncate(0)


@contextlib.contextmanager
def atomic_path(path: Path, needed: int | None = None) -> Iterator[Path]:
    """A temporary path that takes the place of `path` when the block ends, and vanishes if the block fails.

    It lies in a folder of its own beside `path`, locked while this process lives: what a killed process left half-written
    is removed by the next one that writes there (`remove_leftovers`), also what the savers of libraries left under names of their own.

    Parameters
    ----------
    path
        Where the finished file shall stand; parent folders are made.
    needed
        Size of the file in bytes where it is known, for the message.

    Yields
    ------
    Path
        Write here. It has the name of `path`, since savers choose the format by its suffix.

    Raises
    ------
    WriteError
        If the disk is full, the folder cannot be written to, and the like. A file that stood at `path` before is kept as it was.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent)
        folder, lock = _locked_folder(path)
    except OSError as error:
        raise WriteError(path, error, needed) from error
    temporary = folder / path.name
    try:
        yield temporary
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except WriteError:
        raise
    except Exception as error:
        cause = _refusal(temporary, error)
        if cause is None:
            raise
        shutil.rmtree(folder, ignore_errors=True)  # before the message says how much is free
        kept = "the file that stood there is unchanged" if path.is_file() else "nothing half-written was left"
        raise WriteError(path, cause, needed, kept) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.close()


def _locked_folder(path: Path) -> tuple[Path, BinaryIO]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f".{path.stem}-", suffix=".part", dir=path.parent))
        try:
            lock = open(folder / LOCK_NAME, "wb")  # noqa: SIM115 - held until the file is whole
        except FileNotFoundError:
            continue  # another process took the folder for a leftover before it was locked
        except OSError:
            folder.rmdir()
            raise
        if try_lock(lock) is not False and (folder / LOCK_NAME).exists():
            return folder, lock
        lock.close()


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left half-written in `folder`; files that a living process is writing stay."""
    for left in folder.glob(".*.part"):
        try:
            lock = open(left / LOCK_NAME, "r+b")  # noqa: SIM115 - closed below, after the folder
        except FileNotFoundError:
            with contextlib.suppress(OSError):  # killed before it locked the folder, which is empty then
                left.rmdir()
            continue
        except OSError:
            continue
        with lock:
            if try_lock(lock):
                shutil.rmtree(left, ignore_errors=True)


def _refusal(temporary: Path, error: Exception) -> OSError | None:
    """The system's reason for not taking more of the file, or ``None`` if `error` has another cause."""
    if isinstance(error, OSError) and error.errno is not None:
        ours = error.filename is None or Path(os.fsdecode(error.filename)).is_relative_to(temporary.parent)
        return error if ours and error.errno in _REFUSALS else None
    told = re.search(r"\(os error (\d+)\)", str(error))  # as code in Rust says it
    if told and int(told[1]) in _REFUSALS:
        return OSError(int(told[1]), os.strerror(int(told[1])))
    # Savers in native code often do not say why they failed; the system does, when it is asked to take a little more.
    try:
        with open(temporary, "ab") as file:
            file.write(bytes(PROBE_BYTES))
    except OSError as refused:
        return refused if refused.errno in _REFUSALS else None
    return None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` in UTF-8, whole or not at all."""
    content = text.encode("utf-8")
    with atomic_path(path, needed=len(content)) as temporary:
        temporary.write_bytes(content)
