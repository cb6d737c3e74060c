"""Trained networks on disk: safetensors with a few words about them, written and read in one way for all papers; nothing in a file is ever run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from paper_utils import files


class ModelFileError(ValueError):
    """A file that holds no networks of ours, or other ones than expected."""


def save_networks(network: nn.Module, path: Path, file_format: str, about: Mapping[str, str]) -> None:
    """Write a network's weights and what is to be known of them.

    Parameters
    ----------
    network
        On any device.
    path
        Is replaced in one step; parent folders are made.
    file_format
        Name that `read_networks` will ask for.
    about
        Sizes and such, as text.
    """
    state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    with files.atomic_path(path) as temporary:
        save_file(state, temporary, metadata={"format": file_format, **about})


def read_networks(
    path: str | Path, file_format: str, *, missing: str = "train networks first, or give the file of trained ones"
) -> tuple[dict[str, str], dict[str, Tensor]]:
    """What `save_networks` wrote: the words and the weights.

    Parameters
    ----------
    path, file_format
        As they were given to it.
    missing
        What to do if there is no such file.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ModelFileError
        If it is truncated, or of another format.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; {missing}")
    try:
        with safe_open(path, "pt") as file:
            about, state = file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelFileError(f"{path}: cannot be read, it is truncated or no safetensors file ({error})") from error
    if about.get("format") != file_format:
        raise ModelFileError(f"{path}: expected a file of format {file_format!r}, found {about.get('format')!r}")
    return about, state
