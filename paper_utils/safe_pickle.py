"""Reads pickles of strangers without running anything that is in them.

A pickle is a program. Here every class or function that it names becomes an inert record of how it was to be called; only when the whole
file has been read and every name is on the caller's list, builders that the caller chose turn the records into arrays.
"""

from __future__ import annotations

import io
import math
import mmap
import pickle
import pickletools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from scipy import sparse

from paper_utils import safe_files

# Makes the object that a record stands for, from the arguments of the call and the state that followed (None without one).
Builder = Callable[[tuple[Any, ...], Any], Any]

MAX_BYTES = 1 << 30  # choice of ours; the official FLAME files are around 50 MB
_PLAIN_DTYPE = re.compile(r"[|<>=]?(?:[biufcSU]\d*|\?|O8?)")
_OUTSIDE_OPCODES = {"PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER"}


class UnsafePickleError(ValueError):
    """The pickle asks for a class or function that is not on the list, or for something outside the file."""


class _Record:
    """What a pickle wanted to call: never called, kept with its arguments and state."""

    name = ""
    calls: ClassVar[set[str]] = set()
    __hash__ = None  # type: ignore[assignment]  # a record is no key: its value is not known yet

    def __new__(cls, *args: Any) -> _Record:
        cls.calls.add(cls.name)
        record = super().__new__(cls)
        record.args, record.state = args, None
        return record

    def __init__(self, *args: Any) -> None:
        """Nothing left to do: `__new__` kept the arguments."""

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        """Items of what would have been a dictionary count as its state."""
        if self.state is None:
            self.state = {}
        self.state[key] = value


class _Reader(pickle.Unpickler):
    """Resolves every name to a fresh kind of record and remembers the names."""

    def __init__(self, file: io.BytesIO | mmap.mmap, encoding: str) -> None:
        super().__init__(file, encoding=encoding)
        self.names: dict[str, type[_Record]] = {}
        self.called: set[str] = set()
        self.references: list[Any] = []

    def find_class(self, module: str, name: str) -> type[_Record]:
        full = f"{module}.{name}"
        return self.names.setdefault(full, type("_Record", (_Record,), {"name": full, "calls": self.called}))

    def persistent_load(self, pid: Any) -> None:
        """What stands outside the pickle is noted, not fetched; `_scan` refuses it where nobody asked for the notes."""
        self.references.append(pid)


def load(
    path: str | Path, *, allowed: Mapping[str, Builder], encoding: str = "latin1", max_bytes: int = MAX_BYTES
) -> Any:
    """The one object in a pickle file.

    Parameters
    ----------
    path
        The file.
    allowed
        Full names (``"numpy.dtype"``) and what to build for them; `ARRAYS` is the table for numpy, scipy and chumpy arrays.
        Joined with ``|`` tables add up.
    encoding
        For the byte strings of Python 2; latin1 keeps the bytes of old arrays.
    max_bytes
        Larger files are refused unread.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    UnsafePickleError
        If a class is not on the list; all of them are named. Nothing has run by then.
    ValueError
        If the file is too large, cut off, no pickle, or holds several objects.
    """
    objects = load_all(path, allowed=allowed, encoding=encoding, max_bytes=max_bytes)
    if len(objects) != 1:
        raise ValueError(f"{path}: expected one pickled object, found {len(objects)}; read them with load_all")
    return objects[0]


def load_all(
    path: str | Path, *, allowed: Mapping[str, Builder], encoding: str = "latin1", max_bytes: int = MAX_BYTES
) -> list[Any]:
    """All objects of a file into which several pickles were written one after the other. Parameters and errors as for `load`."""
    file, objects = _open(path, max_bytes), []
    size = file.getbuffer().nbytes
    while file.tell() < size or not objects:
        objects.append(_load_first(file, str(path), allowed, encoding))
    return objects


def load_npy(
    path: str | Path, *, allowed: Mapping[str, Builder], encoding: str = "latin1", max_bytes: int = MAX_BYTES
) -> Any:
    """An ``.npy`` file, also if it holds a pickle (``np.save`` of a dictionary makes a 0-d array of objects).

    Returns
    -------
    The array; of a 0-d array of objects the object itself. Parameters and errors as for `load`.
    """
    file = _open(path, max_bytes)
    expected = "what numpy.save writes"
    shape, dtype, start = safe_files.array_header(file, file.getbuffer().nbytes, str(path), expected)
    if not dtype.hasobject:
        return safe_files.npy(path, expected, max_bytes=max_bytes)
    file.seek(start)
    value = _load_first(file, str(path), allowed, encoding)
    if not isinstance(value, np.ndarray) or value.shape != shape:
        raise ValueError(f"{path}: the header promises an array of shape {shape}, the pickle holds {_kind(value)}")
    return value.item() if shape == () else value


@dataclass(frozen=True)
class Outline:
    """What a pickle wants, found without building it.

    Parameters
    ----------
    names
        Full names of classes and functions that it mentions.
    called
        Those of them that it calls.
    references
        What it refers to outside itself (persistent identifiers), with classes as inert types that have a ``name``.
    value
        What it holds, with inert records in place of all objects.
    end
        The byte behind it.
    """

    names: frozenset[str]
    called: frozenset[str]
    references: tuple[Any, ...]
    value: Any
    end: int


def outline(data: bytes | mmap.mmap, source: str, *, start: int = 0) -> Outline:
    """Names and references of one pickle, which may lie inside a larger file.

    Parameters
    ----------
    data
        The bytes, or a mapped file.
    source
        Its name, for messages.
    start
        Where it begins.

    Raises
    ------
    UnsafePickleError, ValueError
        As `load`, except that references outside are welcome.
    """
    file = io.BytesIO(data) if isinstance(data, bytes) else data
    file.seek(start)
    _scan(file, source, len(data), outside=True)
    end = file.tell()
    file.seek(start)
    reader = _Reader(file, "latin1")
    try:
        value = reader.load()
    except Exception as error:  # whatever a broken or hostile pickle raises
        raise ValueError(f"{source}: not a readable pickle ({type(error).__name__}: {error})") from error
    return Outline(frozenset(reader.names), frozenset(reader.called), tuple(reader.references), value, end)


def _open(path: str | Path, max_bytes: int) -> io.BytesIO:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected a pickle")
    size = path.stat().st_size
    if size > max_bytes:
        raise ValueError(f"{path}: {size} bytes, more than the {max_bytes} allowed; raise max_bytes if that is right")
    return io.BytesIO(path.read_bytes())


def _load_first(file: io.BytesIO, source: str, allowed: Mapping[str, Builder], encoding: str) -> Any:
    """The next object in `file`, which is left behind it."""
    start = file.tell()
    _scan(file, source, file.getbuffer().nbytes)
    end = file.tell()
    file.seek(start)
    reader = _Reader(file, encoding)
    value, fault = None, None
    try:
        value = reader.load()
    except Exception as error:  # whatever a broken or hostile pickle raises
        fault = error
    file.seek(end)
    refused = sorted(set(reader.names) - set(allowed))
    if refused:
        hint = (
            "; composite chumpy objects need one save as plain arrays in the environment they were made in"
            if any(name.startswith("chumpy.") for name in refused)
            else ""
        )
        raise UnsafePickleError(
            f"{source}: the pickle asks for {', '.join(refused)}, which is not on the list of harmless names; nothing was run. "
            f"Do not open this file with plain pickle unless you trust who made it{hint}"
        )
    if fault is not None:
        raise ValueError(f"{source}: not a readable pickle ({type(fault).__name__}: {fault})") from fault
    try:
        return _build(value, allowed, {})
    except RecursionError as error:
        raise ValueError(f"{source}: the pickled object is nested too deeply to be data") from error
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise ValueError(f"{source}: {error}") from error


def _scan(file: io.BytesIO | mmap.mmap, source: str, size: int, *, outside: bool = False) -> None:
    """Walk over one pickle; refuses lengths and memo slots that make the C reader claim memory the file does not hold."""
    start = file.tell()
    try:
        for opcode, argument, position in pickletools.genops(file):
            if opcode.name in _OUTSIDE_OPCODES and not (outside and opcode.name in ("PERSID", "BINPERSID")):
                raise UnsafePickleError(f"{source}: opcode {opcode.name} at byte {position} refers outside the file")
            if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and argument > position - start:
                raise UnsafePickleError(
                    f"{source}: memo slot {argument} at byte {position}: more slots than bytes so far, a memory bomb"
                )
            if opcode.name == "FRAME" and argument > size - position:
                raise ValueError(f"a frame of {argument} bytes at byte {position} goes beyond the end")
    except UnsafePickleError:
        raise
    except Exception as error:  # genops raises many kinds on broken files
        file.seek(start)
        begin = file.read(8)
        raise ValueError(
            f"{source}: not a whole pickle ({error}); found {size} bytes, from byte {start} on {begin!r}; is the download complete?"
        ) from error


def _build(value: Any, allowed: Mapping[str, Builder], done: dict[int, tuple[Any, Any]]) -> Any:
    """Replace records by what they stand for, inner ones first; each object once, however often it is referred to."""
    if not isinstance(value, (dict, list, tuple, set, frozenset, _Record)):
        return value
    if id(value) in done:
        return done[id(value)][1]
    if isinstance(value, _Record):
        args = _build(value.args, allowed, done)
        result = allowed[value.name](args, _build(value.state, allowed, done))
    elif isinstance(value, dict):
        result = done.setdefault(id(value), (value, {}))[1]
        result.update((_build(key, allowed, done), _build(item, allowed, done)) for key, item in value.items())
    elif isinstance(value, list):
        result = done.setdefault(id(value), (value, []))[1]
        result.extend(_build(item, allowed, done) for item in value)
    else:
        result = type(value)(_build(item, allowed, done) for item in value)
    done[id(value)] = (value, result)  # the original stays alive, so that its id is not given to another
    return result


# ------------------------------------------------------------------------------------------------------- builders


def _kind(value: Any) -> str:
    return f"an array {value.shape}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"


def _dtype(args: tuple[Any, ...], state: Any) -> np.dtype:
    code = args[0].decode("ascii") if isinstance(args[0], bytes) else args[0]
    order = state[1] if state is not None else "="
    order = order.decode("ascii") if isinstance(order, bytes) else order
    structured = state is not None and any(part is not None for part in state[2:5])
    if not isinstance(code, str) or not _PLAIN_DTYPE.fullmatch(code) or structured or order not in ("<", ">", "=", "|"):
        raise ValueError(f"array type {code!r}: expected plain numbers, strings or objects, no structured type")
    plain = np.dtype(code)
    return plain if order in "=|" else plain.newbyteorder(order)


def _shape(shape: Any) -> tuple[int, ...]:
    if not isinstance(shape, tuple) or not all(isinstance(n, int) and n >= 0 for n in shape) or len(shape) > 32:
        raise ValueError(f"array shape {shape!r}: expected a tuple of counts")
    return shape


def _array(shape: Any, dtype: np.dtype, fortran: bool, data: Any) -> np.ndarray:
    shape = _shape(shape)
    if not isinstance(dtype, np.dtype):
        raise ValueError(f"array type: expected a dtype, found {_kind(dtype)}")
    data = data.encode("latin1") if isinstance(data, str) else data  # bytes of Python 2
    size, unit = math.prod(shape), 1 if dtype.hasobject else dtype.itemsize
    expected = size * unit
    if (unit == 0 and size) or not isinstance(data, (list if dtype.hasobject else (bytes, bytearray))):
        raise ValueError(f"array {shape} of {dtype}: its content is {_kind(data)}")
    if len(data) != expected:
        raise ValueError(f"array {shape} of {dtype}: expected {expected} {'bytes' if unit else ''}, found {len(data)}")
    order = "F" if fortran else "C"
    if dtype.hasobject:
        flat = np.empty(len(data), dtype=object)
        flat[:] = data
        return flat.reshape(shape, order=order)
    return np.frombuffer(data, dtype=dtype).reshape(shape, order=order).copy(order="K")


def _reconstructed(args: tuple[Any, ...], state: Any) -> np.ndarray:
    if len(args) != 3 or getattr(args[0], "name", "") != "numpy.ndarray" or state is None:
        raise ValueError("an array is not stored as numpy stores arrays; was the file made by another program?")
    return _array(state[-4], state[-3], bool(state[-2]), state[-1])


def _buffered(args: tuple[Any, ...], _: Any) -> np.ndarray:
    data, dtype, shape, order = args
    return _array(shape, dtype, order == "F", data)


def _scalar(args: tuple[Any, ...], _: Any) -> Any:
    return _array((), args[0], False, args[1])[()]


def _encoded(args: tuple[Any, ...], _: Any) -> bytes:
    if not isinstance(args[0], str) or args[1:] not in (("latin1",), ("latin-1",)):
        raise ValueError("_codecs.encode: expected a string to be encoded in latin1")
    return args[0].encode("latin1")


def _no_bytes(args: tuple[Any, ...], _: Any) -> bytes:
    if args:
        raise ValueError("bytes: expected the call without arguments, which is how protocols 0 to 2 write empty bytes")
    return b""


def _set(args: tuple[Any, ...], _: Any) -> set[Any]:
    return set(args[0]) if args else set()


def _csc(_: tuple[Any, ...], state: Any) -> sparse.csc_matrix:
    if not isinstance(state, dict) or not {"data", "indices", "indptr"} <= set(state):
        raise ValueError("a sparse matrix without data, indices and indptr")
    shape = _shape(state.get("_shape", state.get("shape")))
    matrix = sparse.csc_matrix((state["data"], state["indices"], state["indptr"]), shape=shape)
    matrix.check_format(full_check=True)
    return matrix


def chumpy_leaf(_: tuple[Any, ...], state: Any) -> np.ndarray:
    """The array of a chumpy object: a leaf keeps it under ``x``; a composite one, which computes it, is refused."""
    leaf = state.get("x") if isinstance(state, dict) else None
    if not isinstance(leaf, (np.ndarray, float, int)):
        raise ValueError(
            "a chumpy object without stored values under 'x' (a composite one); save it as a plain array in the environment it was made in"
        )
    return np.asarray(leaf, dtype=float if not isinstance(leaf, np.ndarray) or leaf.dtype.kind != "f" else None)


def _reference_only(_: tuple[Any, ...], __: Any) -> Any:
    raise ValueError("a class is called that may only be named")


def _rebuilt(args: tuple[Any, ...], state: Any) -> Any:
    """``copy_reg._reconstructor(class, object, None)``: how Python 2 wrote objects in its oldest protocols."""
    builders = CHUMPY | SCIPY
    name = getattr(args[0], "name", "") if args else ""
    if name not in builders:
        raise ValueError(f"copy_reg._reconstructor of {name or _kind(args)}: expected a chumpy or scipy array")
    return builders[name]((), state)


NUMPY: dict[str, Builder] = {
    "numpy.ndarray": _reference_only,
    "numpy.dtype": _dtype,
    "_codecs.encode": _encoded,
    **{f"{module}.bytes": _no_bytes for module in ("__builtin__", "builtins")},
    **{f"numpy.{core}.multiarray._reconstruct": _reconstructed for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": _scalar for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": _buffered for core in ("core", "_core")},
}
SCIPY: dict[str, Builder] = {f"scipy.sparse.{module}.csc_matrix": _csc for module in ("csc", "_csc")}
CHUMPY: dict[str, Builder] = {"chumpy.ch.Ch": chumpy_leaf, "chumpy.Ch": chumpy_leaf}
PYTHON: dict[str, Builder] = {
    **{f"{module}.set": _set for module in ("__builtin__", "builtins")},
    **{f"{module}.object": _reference_only for module in ("__builtin__", "builtins")},
    **{f"{module}._reconstructor": _rebuilt for module in ("copy_reg", "copyreg")},
}
# What the official FLAME files need, chumpy leaves included.
ARRAYS: dict[str, Builder] = NUMPY | SCIPY | CHUMPY | PYTHON
