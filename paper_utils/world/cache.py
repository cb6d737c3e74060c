"""Generated data on disk: made once, memory-mapped afterwards, shared by all notebooks whose parameters agree.

An entry's name is a hash of its parameters and of the source code that makes it, so an entry is never out of date.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from paper_utils import files, provenance


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
        Makes the tensors; called only if they are not there or cannot be read (a warning then says so).

    Returns
    -------
    dict of Tensor
        Contiguous tensors by name, memory-mapped.
    """
    path = entry_path(module, parameters)
    if path.exists():
        try:
            return load_file(path)
        except SafetensorError as error:
            warnings.warn(f"cached world {path.name} cannot be read ({error}); it is made again", stacklevel=2)
    with files.atomic_path(path) as temporary:
        save_file({name: value.contiguous() for name, value in make().items()}, temporary)
    return load_file(path)
