"""Where outputs go, and how they are written: always whole, never half."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

OUTPUT_VARIABLE = "PAPER_UTILS_OUTPUT"


def project_root() -> Path:
    """Nearest folder, from the working folder upwards, that holds this project; the working folder itself if none does."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "pyproject.toml").is_file() and (folder / "notebooks").is_dir():
            return folder
    return here


def output_root(profile: str | None = None) -> Path:
    """Folder that ``figures/``, ``results/`` and ``.cache/`` are written under.

    The project's own folder, unless the environment variable ``PAPER_UTILS_OUTPUT`` names another (tests do, so that
    checking a notebook never overwrites what `make reproduce` made). A run of the smoke profile checks plumbing: it gets
    ``build/smoke`` below, so that it overwrites no figures and results that somebody reads.
    """
    chosen = os.environ.get(OUTPUT_VARIABLE)
    root = Path(chosen) if chosen else project_root()
    return root / "build" / "smoke" if profile == "smoke" else root


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends, and vanishes if the block fails.

    Parameters
    ----------
    path
        Where the finished file shall stand; parent folders are made.

    Yields
    ------
    Path
        Write here. It has the suffix of `path`, since savers choose the format by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=f".part{path.suffix}", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` in UTF-8, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
