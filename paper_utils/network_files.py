"""Trained networks on disk: safetensors with a few words about them, written and read in one way for all papers.

Nothing in a file is ever run, and nothing it says is believed: a description must have the fields and types of its dataclass, and a network is
sketched without memory and compared with the weights before the real one is built.
"""

from __future__ import annotations

import dataclasses
import re
import sys
import types
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from paper_utils import files, safe_files
from paper_utils.nn.checkpoint_names import misfit

REMEDY = "fetch the file again, or train the networks again"
# Calls of torch while a network is sketched; the papers' networks need 4 to 9 for each of their tensors.
_CALLS, _CALLS_A_TENSOR = 500, 30

Config = TypeVar("Config")
Network = TypeVar("Network", bound=nn.Module)


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


@dataclass(frozen=True)
class NetworkFile:
    """What a file says and holds. Every method raises `ModelFileError`, which names the file, what was found and what was expected.

    Parameters
    ----------
    path
        For messages.
    about
        The words of `save_networks`.
    state
        The weights.
    """

    path: str | Path
    about: Mapping[str, str]
    state: Mapping[str, Tensor]

    def words(self, name: str, pattern: str, expected: str) -> tuple[str, ...]:
        """Groups of the regular expression that an entry of the description must match; `expected` says it in words."""
        found = re.fullmatch(pattern, self._entry(name))
        if found is None:
            raise ModelFileError(f"{self.path}: {name}: expected {expected}, found {self.about[name]!r:.60}; {REMEDY}")
        return found.groups()

    def config(self, name: str, kind: type[Config]) -> Config:
        """The dataclass that an entry of the description holds as JSON, see `config_of`."""
        try:
            fields = safe_files.json_of(self._entry(name), f"{self.path}: {name}", f"the fields of {kind.__name__}")
        except safe_files.UnreadableFileError as error:
            raise ModelFileError(str(error)) from error
        return config_of(kind, fields, f"{self.path}: {name}")

    def check_range(self, least: int, most: int, **numbers: float) -> None:
        """Refuse numbers that no shape of a weight confirms and that memory will be asked by later."""
        for name, number in numbers.items():
            if not least <= number <= most:
                raise ModelFileError(f"{self.path}: {name}: expected {least} to {most}, found {number}; {REMEDY}")

    def network(self, make: Callable[[], Network], sizes: str = "the sizes that it names") -> Network:
        """The network that `make` builds, with the weights of the file, in evaluation mode.

        It is built twice. The first time it has names and shapes but no memory (torch's device ``"meta"``), and building stops after a number
        of steps in proportion to the tensors of the file, so a file of some bytes cannot ask for gigabytes or for a million layers. Only if
        every name and shape is that of a tensor in the file is it built in earnest.

        Parameters
        ----------
        make
            Builds it with any weights.
        sizes
            What it is built from, for the message.
        """
        try:
            # The end may come in a block without gradients or with random numbers of its own, which then cannot switch back: both are kept here.
            with (
                torch.set_grad_enabled(torch.is_grad_enabled()),
                torch.random.fork_rng(devices=[]),
                torch.device("meta"),
                _AtMost(_CALLS + _CALLS_A_TENSOR * len(self.state)),
            ):
                sketch = make()
            fault = misfit(sketch, self.state)
        except Exception as error:  # of absurd sizes, constructors raise many kinds
            raise ModelFileError(f"{self.path}: {sizes} make no network ({error!s:.300}); {REMEDY}") from error
        if fault:
            raise ModelFileError(f"{self.path}: its weights do not fit {sizes}. {fault}; {REMEDY}")
        network = make()
        network.load_state_dict(self.state)
        return network.eval()

    def _entry(self, name: str) -> str:
        if name not in self.about:
            raise ModelFileError(
                f"{self.path}: its description lacks {name!r}, found {_some(self.about) or 'nothing'}; {REMEDY}"
            )
        return self.about[name]


def read_networks(
    path: str | Path, file_format: str, *, missing: str = "train networks first, or give the file of trained ones"
) -> NetworkFile:
    """What `save_networks` wrote, if it is of that format; its description is not looked at.

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
    except Exception as error:  # of damaged bytes, the reader raises almost anything
        raise ModelFileError(
            f"{path}: cannot be read, it is truncated or no safetensors file ({error!s:.300}); {REMEDY}"
        ) from error
    if about.get("format") != file_format:
        raise ModelFileError(f"{path}: expected a file of format {file_format!r}, found {about.get('format')!r:.60}")
    return NetworkFile(path, about, state)


def config_of(kind: type[Config], fields: object, where: str) -> Config:
    """A dataclass from plain values that somebody else wrote, as `dataclasses.asdict` or JSON have them; lists become tuples.

    Parameters
    ----------
    kind
        Its fields may be int, float, bool, str, a ``Literal``, a dictionary, a tuple of these, another such dataclass, or one of them or None.
    fields
        Must be a dictionary with exactly the fields of `kind`. Defaults are not used: a network trained with another value than today's default
        would be taken for what it is not.
    where
        Begins messages.

    Raises
    ------
    ModelFileError
        Names the fields that are missing, unknown, of another type, or refused by `kind`.

    Examples
    --------
    >>> from paper_utils.nn.quantizer import QuantizerConfig
    >>> config_of(QuantizerConfig, {"codes": 4, "size": 2}, "own.safetensors: codebook")
    Traceback (most recent call last):
    paper_utils.network_files.ModelFileError: own.safetensors: codebook: expected the fields of QuantizerConfig; missing: 'dim', 'decay', 'epsilon', 'commitment', 'unused', ...; unknown: 'size'; fetch the file again, or train the networks again
    """
    if not isinstance(fields, Mapping):
        raise ModelFileError(f"{where}: expected the fields of {kind.__name__}, found {_shown(fields)}; {REMEDY}")
    names = [field.name for field in dataclasses.fields(kind)]
    faults = {"missing": [n for n in names if n not in fields], "unknown": [n for n in fields if n not in names]}
    if any(faults.values()):
        found = "; ".join(f"{fault}: {_some(wrong)}" for fault, wrong in faults.items() if wrong)
        raise ModelFileError(f"{where}: expected the fields of {kind.__name__}; {found}; {REMEDY}")
    annotations = typing.get_type_hints(kind)
    values = {name: _typed(annotations[name], fields[name], f"{where}.{name}") for name in names}
    try:
        return kind(**values)
    except (ValueError, ArithmeticError) as error:
        raise ModelFileError(f"{where}: {error!s:.300}; {REMEDY}") from error


def _typed(annotation: Any, value: Any, where: str) -> Any:
    """The value, if it is of the annotated type."""
    kind, inside = typing.get_origin(annotation), typing.get_args(annotation)
    if dataclasses.is_dataclass(annotation):
        return config_of(annotation, value, where)
    if kind in (typing.Union, types.UnionType) and type(None) in inside:
        return None if value is None else _typed(inside[0], value, where)
    if kind is tuple and isinstance(value, (list, tuple)):
        kinds = inside[:1] * len(value) if inside[-1] is ... else inside
        if len(kinds) == len(value):
            return tuple(_typed(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(zip(kinds, value, strict=True)))
    if kind is dict and isinstance(value, dict):
        return {_typed(inside[0], n, where): _typed(inside[1], v, f"{where}.{n!s:.60}") for n, v in value.items()}
    fits = {
        int: type(value) is int and value.bit_length() < 64,
        float: type(value) in (int, float) and abs(value) <= sys.float_info.max,
        typing.Literal: type(value) is str and value in inside,
        dict: isinstance(value, dict),
    }
    if not fits.get(kind or annotation, kind is None and type(value) is annotation):
        expected = annotation.__name__ if kind is None else str(annotation).replace("typing.", "")
        raise ModelFileError(f"{where}: expected {expected}, found {_shown(value)}; {REMEDY}")
    return value


def _shown(value: object) -> str:
    """A value of any size in a few letters; Python refuses to print numbers of thousands of digits."""
    short = isinstance(value, (str, float)) or (isinstance(value, int) and value.bit_length() < 64)
    return f"{type(value).__name__} {value!r:.40}" if short else type(value).__name__


def _some(names: Collection[object]) -> str:
    """The first of many names."""
    return ", ".join([_shown(name).removeprefix("str ") for name in list(names)[:5]] + ["..."] * (len(names) > 5))


class _AtMost(TorchFunctionMode):
    """Ends what calls torch more often."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.left = calls

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.left -= 1
        if self.left < 0:
            raise ValueError("it would have many times more layers than the file has tensors")
        return func(*args, **(kwargs or {}))
