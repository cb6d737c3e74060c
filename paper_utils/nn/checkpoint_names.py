"""Weights that others trained: read without running code, renamed, and loaded only if every name and shape fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from paper_utils import safe_checkpoints

SHOWN = 5  # names listed for each kind of fault


class CheckpointNamesError(ValueError):
    """A checkpoint that is no file of tensors, or whose names or shapes are not those of the network."""


def read_state(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint: a plain state dictionary, or the entry ``state_dict`` or ``model`` of a larger one.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    CheckpointNamesError
        If it is cut off, holds something else, or asks for other objects than tensors; nothing in it is run.
    """
    try:
        stored = safe_checkpoints.load(path)
    except safe_checkpoints.UnsafeCheckpointError as error:
        raise CheckpointNamesError(
            f"{error}. Where you trust the file and have the program that wrote it: "
            'torch.save(torch.load(path, weights_only=False)["state_dict"], "plain.pt"), then give plain.pt'
        ) from error
    except safe_checkpoints.UnreadableCheckpointError as error:
        raise CheckpointNamesError(str(error)) from error
    for name in ("state_dict", "model"):
        if isinstance(stored, Mapping) and isinstance(stored.get(name), Mapping):
            stored = stored[name]
    if not isinstance(stored, Mapping) or not stored:
        raise CheckpointNamesError(f"{path}: expected a state dictionary, found {type(stored).__name__}")
    odd = [str(name) for name, value in stored.items() if not (isinstance(name, str) and isinstance(value, Tensor))]
    if odd:
        raise CheckpointNamesError(f"{path}: {len(odd)} entries are no named tensors: {_some(odd)}")
    return dict(stored)


def renamed(
    state: Mapping[str, Tensor], names: Mapping[str, str], *, drop: Sequence[str] = (), source: str = "state"
) -> dict[str, Tensor]:
    """The state with other beginnings of names.

    Parameters
    ----------
    state
        Names of the other program.
    names
        From the beginning of a name there to its beginning here; whole parts between dots are compared, the longest beginning wins.
    drop
        Beginnings whose tensors are knowingly left out.
    source
        Named in the message.

    Raises
    ------
    CheckpointNamesError
        If a name has none of these beginnings, or two become one.

    Examples
    --------
    >>> renamed({"old.weight": torch.zeros(1)}, {"old": "new"}).keys()
    dict_keys(['new.weight'])
    """
    known = sorted(names, key=len, reverse=True)
    result, unknown = {}, []
    for name, value in state.items():
        if any(_begins(name, start) for start in drop):
            continue
        start = next((start for start in known if _begins(name, start)), None)
        if start is None:
            unknown.append(name)
            continue
        new = (names[start] + name[len(start) :]).lstrip(".")
        if new in result:
            raise CheckpointNamesError(f"{source}: two tensors become {new}; is it a mixture of two layouts?")
        result[new] = value
    if unknown:
        raise CheckpointNamesError(
            f"{source}: {len(unknown)} names are not known: {_some(unknown)}; expected names that begin with {', '.join(names)}"
        )
    return result


def load_strictly(network: nn.Module, state: Mapping[str, Tensor], source: str = "state") -> None:
    """Copy `state` into `network` if names and shapes are exactly its own; otherwise raise and leave it as it is.

    Raises
    ------
    CheckpointNamesError
        Lists what is missing, unexpected, of another shape or kind of number, or not finite.
    """
    fault = misfit(network, state)
    if fault:
        raise CheckpointNamesError(f"{source}: does not fit {type(network).__name__}. {fault}")
    network.load_state_dict(state)


def misfit(network: nn.Module, state: Mapping[str, Tensor]) -> str:
    """What keeps `state` from being exactly that of `network`, which may be without memory (device ``"meta"``); empty if nothing does."""
    own = network.state_dict()
    shared = [name for name in state if name in own]
    plain = [name for name in shared if torch.can_cast(state[name].dtype, own[name].dtype)]
    faults = {
        "missing": [name for name in own if name not in state],
        "unexpected": [name for name in state if name not in own],
        "of another shape": [
            f"{name} (network {tuple(own[name].shape)}, file {tuple(state[name].shape)})"
            for name in shared
            if own[name].shape != state[name].shape
        ],
        "of another kind": [
            f"{name} (network {own[name].dtype}, file {state[name].dtype})" for name in shared if name not in plain
        ],
        "not finite": [name for name in plain if not torch.isfinite(state[name].to(own[name].dtype)).all()],
    }
    return "; ".join(f"{len(names)} {fault}: {_some(names)}" for fault, names in faults.items() if names)


def _begins(name: str, start: str) -> bool:
    return not start or name == start or name.startswith(f"{start}.")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f", ... {len(names) - SHOWN} more" if len(names) > SHOWN else "")
