"""Reads text, JSON, arrays, MATLAB and HDF5 files of strangers.

A file may be cut off, damaged or made to harm. Here every size that it declares is held against the bytes that are there before memory is asked
for, nothing in it is run, and whatever is wrong is a `ValueError` that begins with the file's name. Pickles are for `paper_utils.safe_pickle`.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.io

# Choices of ours. The largest official file of arrays (BFM 2009) has about 250 MB; packed arrays of numbers come out ten times larger at most,
# a bomb of zeros a thousand times.
MAX_BYTES = 4 << 30
MAX_TEXT = 1 << 30
MAX_RATIO = 200
SMALL = 64 << 20  # less than this may come out of any file
_PLAIN_KINDS = "biufcSU"
_HEADER = 10_000  # bytes, as numpy's own limit for the header of an array
_DAMAGED = "is the download complete? Compare its size with the source and fetch it again"


class UnreadableFileError(ValueError):
    """A file that is cut off, damaged, of another kind than expected, or larger inside than it can honestly be."""


def existing(path: str | Path, expected: str) -> Path:
    """The path of a file that is there.

    Raises
    ------
    FileNotFoundError
        If there is none, or it is a folder; says what was expected.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}; expected {expected}")
    return path


@contextlib.contextmanager
def named(path: str | Path, expected: str) -> Iterator[None]:
    """Whatever goes wrong inside becomes an `UnreadableFileError` that names the file; errors of these readers and of the system pass.

    For calls into a library that has its own kinds of errors for damaged files.
    """
    try:
        yield
    except (UnreadableFileError, FileNotFoundError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise UnreadableFileError(
            f"{path}: {_size(path)}, not readable ({type(error).__name__}: {reason}); expected {expected}; {_DAMAGED}"
        ) from error


def _size(path: str | Path) -> str:
    try:
        return f"{os.path.getsize(path)} bytes"
    except OSError:
        return "of unknown size"


@contextlib.contextmanager
def prefixed(path: str | Path) -> Iterator[None]:
    """A `ValueError` of what was made from a file names the file too, if it does not already."""
    try:
        yield
    except ValueError as error:
        if str(path) in str(error):
            raise
        raise UnreadableFileError(f"{path}: {error}") from error


# ---------------------------------------------------------------------------------------------------------------- text


def text(path: str | Path, expected: str, *, encoding: str = "utf-8-sig", max_bytes: int = MAX_TEXT) -> str:
    """All text of a file.

    Parameters
    ----------
    path
        The file.
    expected
        What it should be, for messages.
    encoding
        The default takes UTF-8 with or without a byte order mark.
    max_bytes
        Larger files are refused unread.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    UnreadableFileError
        If it is too large, not in that encoding, or has a null character.
    """
    path = existing(path, expected)
    size = path.stat().st_size
    if size > max_bytes:
        raise UnreadableFileError(
            f"{path}: {size} bytes of text, more than the {max_bytes} allowed; expected {expected}"
        )
    data = path.read_bytes()
    name = encoding.removesuffix("-sig").upper()
    try:
        found = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UnreadableFileError(
            f"{path}: line {line} is not {name} ({error.reason} at byte {error.start}); expected {expected}, convert the file to {name}"
        ) from error
    if "\0" in found:
        line = found.count("\n", 0, found.index("\0")) + 1
        raise UnreadableFileError(f"{path}: line {line} holds a null character; expected {expected}")
    return found


def json_value(path: str | Path, expected: str, *, max_bytes: int = MAX_TEXT) -> Any:
    """The value in a JSON file. Raises as `text`, and if it is no JSON, or nested too deeply to be data."""
    return json_of(text(path, expected, max_bytes=max_bytes), str(path), expected)


def json_of(content: str, where: str, expected: str) -> Any:
    """The value in a JSON text.

    Raises
    ------
    UnreadableFileError
        If it is no JSON, a number in it has thousands of digits, or it is nested too deeply to be data.
    """
    try:
        return json.loads(content)
    except RecursionError as error:
        raise UnreadableFileError(f"{where}: nested too deeply to be data; expected {expected}") from error
    except ValueError as error:
        raise UnreadableFileError(f"{where}: not valid JSON ({error}); expected {expected}; {_DAMAGED}") from error


def table(path: str | Path, expected: str) -> np.ndarray:
    """Numbers in rows of equal length, separated by blanks; ``#`` begins a comment.

    Returns
    -------
    (rows, columns), float64; values are not checked to be finite.

    Raises
    ------
    FileNotFoundError, UnreadableFileError
        As `text`; if a word is no number, rows differ in length, or there are none.
    """
    lines = [line.split("#", 1)[0].split() for line in text(path, expected).splitlines()]
    rows = [(number, words) for number, words in enumerate(lines, 1) if words]
    if not rows:
        raise UnreadableFileError(f"{path}: holds no numbers; expected {expected}")
    width = len(rows[0][1])
    values = np.empty((len(rows), width))
    for row, (number, words) in enumerate(rows):
        if len(words) != width:
            raise UnreadableFileError(
                f"{path}: line {number} has {len(words)} numbers, the first has {width}; expected {expected}"
            )
        for column, word in enumerate(words):
            values[row, column] = float_of(word, f"{path}: line {number}")
    return values


def csv(path: str | Path, expected: str, *, text_of: str | None = None, **options: Any) -> pd.DataFrame:
    """A table of a text file.

    Parameters
    ----------
    path
        The file.
    expected
        What it should be, for messages.
    text_of
        Its text, if that was read before.
    options
        Of ``pandas.read_csv``.

    Raises
    ------
    FileNotFoundError, UnreadableFileError
        As `text`; if it is empty, or lines do not fit each other.
    """
    content = text(path, expected) if text_of is None else text_of
    with named(path, expected):
        return pd.read_csv(io.StringIO(content), **options)


def float_of(word: str, where: str) -> float:
    """A number written in plain ASCII.

    Raises
    ------
    UnreadableFileError
        If it is none; names the place.
    """
    try:
        if word.isascii() and "_" not in word:
            return float(word)
    except ValueError:
        pass
    raise UnreadableFileError(f"{where}: {word[:40]!r} is no number")


# -------------------------------------------------------------------------------------------------------------- arrays


def npy(path: str | Path, expected: str, *, mmap: bool = False, max_bytes: int | None = MAX_BYTES) -> np.ndarray:
    """The array in a ``.npy`` file.

    Parameters
    ----------
    path
        The file.
    expected
        What it should be, for messages.
    mmap
        Leave the numbers on disk until they are used; then `max_bytes` does not count.
    max_bytes
        Larger arrays are refused unread.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    UnreadableFileError
        If it is no ``.npy`` file, cut off, or holds Python objects or records instead of numbers or text.
    """
    path = existing(path, expected)
    with path.open("rb") as file, named(path, expected):
        size = path.stat().st_size
        shape, dtype, start = _checked_header(file, size, str(path), expected)
        if mmap and math.prod(shape):
            return np.load(path, mmap_mode="r", allow_pickle=False)
        if not mmap and max_bytes is not None and size - start > max_bytes:
            raise UnreadableFileError(
                f"{path}: an array {shape} of {dtype}, {size - start} bytes, more than the {max_bytes} allowed; expected {expected}"
            )
        file.seek(0)
        return np.lib.format.read_array(file, allow_pickle=False)


def npz(
    path: str | Path, expected: str, *, names: Collection[str] | None = None, max_bytes: int = MAX_BYTES
) -> dict[str, np.ndarray]:
    """Arrays of an ``.npz`` file, all of them or those of `names` that are there.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    UnreadableFileError
        As `npy`, for what is read; if a name stands in the archive twice, or it is larger inside than it can honestly be.
    """
    path = existing(path, expected)
    with named(path, expected), zipfile.ZipFile(path) as archive:
        entries = _npz_entries(archive, path, expected)
        chosen = {name: entry for name, entry in entries.items() if names is None or name in names}
        _refuse_bomb(path, sum(entry.file_size for entry in chosen.values()), max_bytes, expected)
        arrays = {}
        for name, entry in chosen.items():
            with archive.open(entry) as file:
                _checked_header(file, entry.file_size, f"{path}: {name}", expected)
            with archive.open(entry) as file:
                arrays[name] = np.lib.format.read_array(file, allow_pickle=False)
        return arrays


def npz_names(path: str | Path, expected: str) -> tuple[str, ...]:
    """Names of the arrays in an ``.npz`` file, none of which is read. Raises as `npz`."""
    path = existing(path, expected)
    with named(path, expected), zipfile.ZipFile(path) as archive:
        return tuple(_npz_entries(archive, path, expected))


def _npz_entries(archive: zipfile.ZipFile, path: Path, expected: str) -> dict[str, zipfile.ZipInfo]:
    entries: dict[str, zipfile.ZipInfo] = {}
    for entry in archive.infolist():
        name = entry.filename.removesuffix(".npy")
        if name in entries:
            raise UnreadableFileError(f"{path}: {name!r} stands in the archive twice; expected {expected}")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise UnreadableFileError(
                f"{path}: {name!r} is packed in a way that numpy.savez does not use; expected {expected}"
            )
        entries[name] = entry
    return entries


def array_header(
    file: io.BufferedIOBase, size: int, where: str, expected: str
) -> tuple[tuple[int, ...], np.dtype, int]:
    """The header of an ``.npy`` file.

    Parameters
    ----------
    file
        At its beginning.
    size
        Bytes that it has.
    where, expected
        For messages.

    Returns
    -------
    Shape, type, and the byte at which the content begins, which is not looked at.

    Raises
    ------
    UnreadableFileError
        If it begins otherwise or the header is damaged.
    """
    begin = file.read(12)
    if len(begin) < 12 or not begin.startswith(b"\x93NUMPY") or begin[6] not in (1, 2):
        raise UnreadableFileError(
            f"{where}: not a readable .npy file: {size} bytes that begin with {begin[:8]!r}; expected {expected}; {_DAMAGED}"
        )
    start, length = (
        (10, struct.unpack("<H", begin[8:10])[0]) if begin[6] == 1 else (12, struct.unpack("<I", begin[8:])[0])
    )
    if length > min(_HEADER, size - start):
        raise UnreadableFileError(
            f"{where}: its header claims {length} bytes, there are {size}; expected {expected}; {_DAMAGED}"
        )
    head = io.BytesIO(begin[8:] + file.read(start + length - 12))
    read = np.lib.format.read_array_header_1_0 if begin[6] == 1 else np.lib.format.read_array_header_2_0
    try:
        shape, _, dtype = read(head)
    except Exception as error:  # the header is a Python literal, and its parsers have many kinds of errors
        raise UnreadableFileError(
            f"{where}: the header of the array is damaged ({type(error).__name__}); expected {expected}; {_DAMAGED}"
        ) from error
    return shape, dtype, start + length


def _checked_header(
    file: io.BufferedIOBase, size: int, where: str, expected: str
) -> tuple[tuple[int, ...], np.dtype, int]:
    """The same for plain numbers or text that fill exactly the bytes behind it."""
    shape, dtype, start = array_header(file, size, where, expected)
    if dtype.hasobject:
        raise UnreadableFileError(
            f"{where}: holds pickled Python objects, which could run code and are not opened; expected {expected}; "
            "save it as a plain array in the environment it was made in"
        )
    if dtype.kind not in _PLAIN_KINDS:
        raise UnreadableFileError(f"{where}: holds {dtype}; expected {expected}, plain numbers or text")
    wanted, held = math.prod(shape) * max(dtype.itemsize, 1), size - start
    fits = held == wanted if dtype.itemsize else wanted <= 1
    if min(shape, default=0) < 0 or not fits:
        raise UnreadableFileError(
            f"{where}: its header promises {shape} numbers of type {dtype}, {wanted} bytes; found {held} bytes; expected {expected}; {_DAMAGED}"
        )
    return shape, dtype, start


def _refuse_bomb(path: Path, size: int, max_bytes: int, expected: str) -> None:
    """`size` bytes shall come out of a packed file."""
    stored = path.stat().st_size
    if size > min(max_bytes, max(SMALL, MAX_RATIO * stored)):
        raise UnreadableFileError(
            f"{path}: {stored} bytes that would unpack to {size}; expected at most {min(max_bytes, max(SMALL, MAX_RATIO * stored))}, "
            f"as for {expected}; it is damaged or made to fill the memory"
        )


# -------------------------------------------------------------------------------------------------------------- MATLAB

_COMPRESSED, _MATRIX = 15, 14
_SPARSE, _LAST_NUMERIC = 5, 15


def mat(path: str | Path, expected: str, *, names: Sequence[str], max_bytes: int = MAX_BYTES) -> dict[str, np.ndarray]:
    """Those of the named arrays that a MATLAB 5 file holds.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    UnreadableFileError
        If it is another kind of file, cut off or damaged, declares more than it holds, or has sparse matrices.
    """
    path = existing(path, expected)
    with named(path, expected):
        _check_mat(path, max_bytes, expected)
        stored = scipy.io.loadmat(path, variable_names=list(names))
    return {name: stored[name] for name in names if name in stored}


def mat_names(path: str | Path, expected: str) -> tuple[str, ...]:
    """Names of the arrays in a MATLAB 5 file, none of which is read. Raises as `mat`."""
    path = existing(path, expected)
    with named(path, expected):
        _check_mat(path, MAX_BYTES, expected)
        return tuple(name for name, *_ in scipy.io.whosmat(path))


class _Inflated:
    """Reads on in a packed stretch of a file without holding it."""

    def __init__(self, file: io.BufferedIOBase, length: int) -> None:
        self._file, self._left, self._unpacker, self._waiting = file, length, zlib.decompressobj(), b""

    def read(self, count: int) -> bytes:
        out = bytearray()
        while len(out) < count:
            if not self._waiting:
                self._waiting = self._file.read(min(self._left, 1 << 16))
                self._left -= len(self._waiting)
            block = self._unpacker.decompress(self._waiting, min(count - len(out), 1 << 20))
            self._waiting = self._unpacker.unconsumed_tail
            if not block and (self._unpacker.eof or not (self._waiting or self._left)):
                break
            out += block
        return bytes(out)

    def skip(self, count: int) -> None:
        while count > 0:
            block = self.read(min(count, 1 << 20))
            if not block:
                raise ValueError(f"a packed array ends {count} bytes too early")
            count -= len(block)

    def finish(self) -> None:
        """Leave the file behind the stretch."""
        self._file.seek(self._left, os.SEEK_CUR)


class _Plain:
    """The same for a stretch that is not packed."""

    def __init__(self, file: io.BufferedIOBase) -> None:
        self._file = file

    def read(self, count: int) -> bytes:
        return self._file.read(count)

    def skip(self, count: int) -> None:
        self._file.seek(count, os.SEEK_CUR)


def _check_mat(path: Path, max_bytes: int, expected: str) -> None:
    """Walk over all lengths and dimensions of a file without reading its numbers; scipy asks for memory by them."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(128)
        if len(head) < 128 or not head.startswith(b"MATLAB 5.0") or head[126:] not in (b"IM", b"MI"):
            raise UnreadableFileError(
                f"{path}: no file of MATLAB 5 format: {size} bytes that begin with {head[:10]!r}; expected {expected}; save it with -v7, or fetch it again"
            )
        order = "<" if head[126:] == b"IM" else ">"
        total = 0
        while file.tell() < size:
            kind, length = _tag(file.read(8), order)
            if file.tell() + length > size:
                raise ValueError(f"an array of {length} bytes at byte {file.tell()} goes beyond the end")
            if kind == _COMPRESSED:
                inside = _Inflated(file, length)
                kind, length = _tag(inside.read(8), order)
                total += length
                _refuse_bomb(path, total, max_bytes, expected)
                _check_matrix(inside, kind, length, order, 0)
                inside.finish()
            else:
                _check_matrix(_Plain(file), kind, length, order, 0)


def _tag(data: bytes, order: str) -> tuple[int, int]:
    if len(data) < 8:
        raise ValueError("it ends within the head of an array")
    return struct.unpack(f"{order}II", data)


def _check_matrix(source: _Inflated | _Plain, kind: int, length: int, order: str, depth: int) -> None:
    """One array: flags, dimensions, name, and its parts, which are arrays themselves in cells and structures."""
    if kind != _MATRIX or depth > 32:
        raise ValueError(f"a part of kind {kind} at depth {depth} where an array was expected")
    left, number, array_class = length, 0, 0
    while left >= 8:
        data = source.read(8)
        first, size = _tag(data, order)
        left -= 8
        if first >> 16:  # four bytes or fewer stand in the head itself
            content, first, size = data[4:], first & 0xFFFF, 0
        else:
            padded = -(-size // 8) * 8
            if size > left:
                raise ValueError(f"a part of {size} bytes in an array of {length} that has {left} left")
            padded = min(padded, left)
            left -= padded
            if first == _MATRIX:
                _check_matrix(source, first, size, order, depth + 1)
                source.skip(padded - size)
                number += 1
                continue
            content = source.read(padded) if number < 2 and padded <= 256 else b""
            source.skip(padded - len(content))
        if number == 0:
            array_class = struct.unpack(f"{order}I", content[:4])[0] & 0xFF if len(content) >= 4 else 0
            if array_class == _SPARSE:
                raise ValueError("a sparse matrix; save it as a full one")
        elif number == 1 and array_class <= _LAST_NUMERIC:
            shape = struct.unpack(f"{order}{len(content) // 4}i", content[: len(content) // 4 * 4])
            if min(shape, default=0) < 0 or math.prod(shape) > length:
                raise ValueError(f"an array {shape} in {length} bytes")
        number += 1
    source.skip(left)


# ---------------------------------------------------------------------------------------------------------------- HDF5


def h5(file: Any, names: Sequence[str], expected: str, *, max_bytes: int = MAX_BYTES) -> dict[str, np.ndarray]:
    """Those of the named arrays that an open HDF5 file (``h5py.File``) holds.

    Raises
    ------
    UnreadableFileError
        If a name is no array of numbers, lies in another file, or is larger than what the file can honestly hold.
    """
    path = Path(file.filename)
    found: dict[str, Any] = {name: file[name] for name in names if name in file}
    for name, item in found.items():
        if not hasattr(item, "shape") or item.dtype.kind not in "biuf" or item.shape is None:
            raise UnreadableFileError(f"{path}: {name} is no array of numbers; expected {expected}")
        if item.file.filename != file.filename or item.external or item.is_virtual:
            raise UnreadableFileError(f"{path}: {name} lies in another file; expected {expected} in one file")
    _refuse_bomb(path, sum(math.prod(item.shape) * item.dtype.itemsize for item in found.values()), max_bytes, expected)
    return {name: np.asarray(item[()]) for name, item in found.items()}
