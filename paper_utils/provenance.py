"""Which source files a result depends on, and one hash of them: the basis of the training cache and of `make reproduce`'s skipping."""

from __future__ import annotations

import ast
import functools
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parent


def imported_sources(source: str) -> set[Path]:
    """Files of this package that a piece of Python code imports, directly or through other files of the package.

    Parameters
    ----------
    source
        Python code, such as the joined code cells of a notebook. Lines of IPython magic are left out.

    Returns
    -------
    set of Path
        Source files; importing ``paper_utils.nn.margins`` also counts ``paper_utils/__init__.py`` and ``nn/__init__.py``,
        since Python runs them.
    """
    found: set[Path] = set()
    waiting = _direct_imports(source)
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting |= _direct_imports(path.read_text(encoding="utf-8")) - found
    return found


def _direct_imports(source: str) -> set[Path]:
    return set().union(*map(_files_of, _imported_names(source)))


@functools.lru_cache(
    maxsize=512
)  # reading a file is quick, parsing it is not, and a notebook asks for the same files once a training
def _imported_names(source: str) -> frozenset[str]:
    plain = "\n".join("" if line.lstrip().startswith(("%", "!")) else line for line in source.splitlines())
    names: set[str] = set()
    for node in ast.walk(ast.parse(plain)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            # `from paper_utils.nn import margins` may name a module or a member of one: take whichever exists.
            names.update([node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)])
    return frozenset(names)


def _files_of(module: str) -> set[Path]:
    parts = module.split(".")
    if parts[0] != PACKAGE.name:
        return set()
    files, here = {PACKAGE / "__init__.py"}, PACKAGE
    for part in parts[1:]:
        if (here / f"{part}.py").is_file():
            return files | {here / f"{part}.py"}
        here = here / part
        if not (here / "__init__.py").is_file():
            break
        files.add(here / "__init__.py")
    return files


def source_hash(paths: Iterable[Path]) -> str:
    """Hash of the content of source files, independent of where the project stands."""
    digest = hashlib.sha256()
    for path in sorted(Path(p).resolve() for p in paths):
        digest.update(path.relative_to(PACKAGE.parent).as_posix().encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def key_hash(key: dict[str, Any]) -> str:
    """Short hash of a dictionary of plain values.

    Raises
    ------
    TypeError
        If a value has no stable text (an array or an object, say).
    """
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:20]
