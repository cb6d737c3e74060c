"""Generated data on disk: made once, memory-mapped afterwards, shared by all notebooks whose parameters agree.

An entry's name is a hash of its parameters and of the source code that makes it, so an entry is never out of date. A checksum in
the entry tells whether its bytes are still those that were written; each process compares it once, when it first reads the entry.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from paper_utils import files, provenance

CHECKSUM = "crc32"


def entry_path(module: str, parameters: dict[str, Any]) -> Path:
    """Where the data of these parameters stand, made or not.

    Parameters
    ----------
    module
        Name of the module that makes them; its source and all it imports count.
    parameters
        Plain values that determine the data.
    """
    name = provenance.key_hash({"module": module, "code": _code_version(module), "parameters": parameters})
    return files.output_root() / ".cache" / "world" / f"{name}.safetensors"


@functools.cache
def _code_version(module: str) -> str:
    """Hash of the code as it was when this process first asked: a running process does not see later edits."""
    source = inspect.getsource(importlib.import_module(module))
    return provenance.source_hash(provenance.imported_sources(f"import {module}\n{source}"))


def cached(module: str, parameters: dict[str, Any], make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors that `make` returns, from disk if they were made before.

    Parameters
    ----------
    module, parameters
        As for `entry_path`.
    make
        Makes the tensors; called only if they are not there, or are damaged (a warning then says so).

    Returns
    -------
    dict of Tensor
        Contiguous tensors by name, memory-mapped.

    Raises
    ------
    files.WriteError
        If they cannot be written: the disk is full, say.
    OSError
        If an entry is there and may not be read.
    """
    path = entry_path(module, parameters)
    if path.exists():
        open(path, "rb").close()  # if it may not be read at all, making it again would not help
        try:
            return _read(path)
        except Exception as error:  # of damaged bytes, the reader raises almost anything
            warnings.warn(f"cached world {path.name} cannot be read ({error}); it is made again", stacklevel=2)
    tensors = {name: value.contiguous() for name, value in make().items()}
    with files.atomic_path(path, sum(value.nbytes for value in tensors.values())) as temporary:
        save_file(tensors, temporary, metadata={CHECKSUM: checksum(tensors)})
    _verified.add(_state(path))
    return load_file(path)


def checksum(tensors: dict[str, Tensor]) -> str:
    """CRC-32 of names, types, shapes and bytes; it finds every single flipped bit, at some GB a second."""
    found = 0
    for name, value in sorted(tensors.items()):
        found = zlib.crc32(f"{name} {value.dtype} {tuple(value.shape)}\n".encode(), found)
        found = zlib.crc32(value.reshape(-1).view(torch.uint8).numpy(), found)
    return f"{found:08x}"


# Entries as they stood on disk when this process compared them with their checksums.
_verified: set[tuple[str, int, int, int]] = set()


def _state(path: Path) -> tuple[str, int, int, int]:
    status = path.stat()
    return str(path), status.st_ino, status.st_size, status.st_mtime_ns


def _read(path: Path) -> dict[str, Tensor]:
    tensors, state = load_file(path), _state(path)
    if state not in _verified:
        with safe_open(path, "pt") as file:
            written = (file.metadata() or {}).get(CHECKSUM)
        if written != (found := checksum(tensors)):
            raise ValueError(f"its checksum is {found}, not {written} as when it was written")
        _verified.add(state)
    return tensors
