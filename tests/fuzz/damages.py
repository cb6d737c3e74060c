"""Ways to damage a file: bytes changed anywhere, hostile contents for any reader, and values that no reader expects inside a whole container."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import torch
from hypothesis import strategies as st
from safetensors.torch import load as safetensors_load
from safetensors.torch import save as safetensors_save

# A place in a file of unknown length, as a share of it.
PLACES = st.integers(0, 1 << 20)
WORDS = (0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)
TOKENS = (
    "nan", "-inf", "1e400", "-1", "0", "99999999999999999999", "9" * 5000, "1e-400", "0x10", "²", "١٢", "1_0", "", "\0", "é", "\ufeff", "\u2028",
    "../secret_outside.txt", "/etc/passwd", "..\\secret_outside.txt", "a" * 100_000, '"', "[[", "{", "<", "&a;", "%s", "None", "true", "\x1c", "{}",
)  # fmt: skip


# ------------------------------------------------------------------------------------------------------- changed bytes


def _at(place: int, size: int) -> int:
    return place * size >> 20


def cut(data: bytes, place: int) -> bytes:
    return data[: _at(place, len(data))]


def flipped(data: bytes, places: list[tuple[int, int]]) -> bytes:
    out = bytearray(data)
    for place, bit in places:
        if out:
            out[min(_at(place, len(out)), len(out) - 1)] ^= 1 << bit
    return bytes(out)


def overwritten(data: bytes, place: int, word: int, form: str) -> bytes:
    packed = struct.pack(form, word & (1 << 8 * struct.calcsize(form)) - 1)
    start = _at(place, len(data))
    return data[:start] + packed + data[start + len(packed) :]


def spliced(data: bytes, places: tuple[int, int], new: bytes) -> bytes:
    first, last = sorted(_at(place, len(data)) for place in places)
    return data[:first] + new + data[last:]


def repeated(data: bytes, places: tuple[int, int]) -> bytes:
    first, last = sorted(_at(place, len(data)) for place in places)
    return data[:last] + data[first:]


def retold(data: bytes, place: int, token: str) -> bytes:
    """Text with one of its words replaced; separators are those of all text formats here."""
    marks = b" \t\n\r,:/=\"'[]{}<>_"
    words, start = [], None
    for i, byte in enumerate(data[:20_000] + b" "):
        if byte in marks:
            if start is not None:
                words.append((start, i))
            start = None
        elif start is None:
            start = i
    if not words:
        return token.encode()
    first, last = words[min(_at(place, len(words)), len(words) - 1)]
    return data[:first] + token.encode() + data[last:]


def lines_of(data: bytes, place: int, what: str) -> bytes:
    """Text with a line dropped, doubled, or swapped with the next."""
    lines = data.split(b"\n")
    i = min(_at(place, len(lines)), len(lines) - 1)
    if what == "drop":
        del lines[i]
    elif what == "double":
        lines.insert(i, lines[i])
    else:
        lines[i : i + 2] = lines[i : i + 2][::-1]
    return b"\n".join(lines)


def byte_changes() -> st.SearchStrategy[tuple[str, Callable[[bytes], bytes]]]:
    """A named change of any file's bytes."""
    pair = st.tuples(PLACES, PLACES)
    bits = st.lists(st.tuples(PLACES, st.integers(0, 7)), min_size=1, max_size=6)
    return st.one_of(
        PLACES.map(lambda p: (f"cut at {p}", lambda data: cut(data, p))),
        bits.map(lambda b: (f"bits {b} flipped", lambda data: flipped(data, b))),
        # Headers are where sizes stand.
        st.tuples(PLACES | st.integers(0, 1 << 14), st.sampled_from(WORDS), st.sampled_from(["<I", ">I", "<Q", ">Q", "<H"])).map(
            lambda w: (f"number {w}", lambda data: overwritten(data, *w))
        ),
        st.tuples(pair, st.binary(max_size=24)).map(lambda s: (f"spliced {s}", lambda data: spliced(data, *s))),
        pair.map(lambda p: (f"repeated {p}", lambda data: repeated(data, p))),
    )  # fmt: skip


def text_changes() -> st.SearchStrategy[tuple[str, Callable[[bytes], bytes]]]:
    """A named change of a text file."""
    word = st.tuples(PLACES, st.sampled_from(TOKENS)).map(
        lambda w: (f"word at {w[0]} became {w[1]!r:.40}", lambda data: retold(data, *w))
    )
    line = st.tuples(PLACES, st.sampled_from(["drop", "double", "swap"])).map(
        lambda w: (f"line at {w[0]}: {w[1]}", lambda data: lines_of(data, *w))
    )
    return st.one_of(word, word, line)


# ------------------------------------------------------------------------------------------------------ hostile contents


class Gadget:
    """Unpickling it would run a command that leaves a mark in the working folder."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch executed_by_a_reader",)


def npy_header(shape: str, descr: str = "<f8", version: int = 1) -> bytes:
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (63 - (len(text) + 10) % 64) + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H", len(text)) + text


def zipped(entries: dict[str, bytes], *, compress: bool = True) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return out.getvalue()


def zip_that_lies(name: str, content: bytes, size: int) -> bytes:
    """An archive whose directory declares another size of its only entry."""
    data = bytearray(zipped({name: content}))
    central = data.index(b"PK\x01\x02")
    data[central + 24 : central + 28] = data[22:26] = struct.pack("<I", size)
    return bytes(data)


def png_header(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    content = zlib.compress(b"\0" * 100)
    return (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
        + struct.pack(">I", len(content)) + b"IDAT" + content + struct.pack(">I", zlib.crc32(b"IDAT" + content))
        + b"\0\0\0\0IEND\xaeB`\x82"
    )  # fmt: skip


def mat_header(content: bytes) -> bytes:
    return b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + content


def packed_zeros(head: bytes, mebibytes: int, wbits: int = zlib.MAX_WBITS) -> bytes:
    """`head` and many zeros as one stream without its check sum, made fast: every block of zeros is packed alike."""
    packer = zlib.compressobj(9, zlib.DEFLATED, wbits)
    begin = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return begin + block * mebibytes + packer.flush()


def mat_array(name: str, array_class: int, shape: tuple[int, int], data: bytes = b"", length: int = 0) -> bytes:
    """An array of a MATLAB file that claims a shape, up to its numbers."""
    padded = name.encode().ljust(-(-len(name) // 8) * 8, b"\0")
    inner = (
        struct.pack("<IIII", 6, 8, array_class, 0)
        + struct.pack("<IIii", 5, 8, *shape)
        + struct.pack("<II", 1, len(name))
        + padded
        + data
    )
    return struct.pack("<II", 14, len(inner) + length) + inner


def mat_bomb(name: str = "v", mebibytes: int = 512) -> bytes:
    """Half a gigabyte of zeros in half a megabyte."""
    size = mebibytes << 20
    out = packed_zeros(mat_array(name, 6, (size // 8, 1), struct.pack("<II", 9, size), size), mebibytes)
    return mat_header(struct.pack("<II", 15, len(out)) + out)


def mat_of_cells(name: str = "v") -> bytes:
    """A cell array that declares 2^31 cells and holds none."""
    return mat_header(mat_array(name, 1, (2**31 - 1, 1)))


def npz_bomb(name: str = "v", mebibytes: int = 512) -> bytes:
    """Half a gigabyte of zeros in half a megabyte, with a check sum that nobody should come to."""
    head = npy_header(f"({mebibytes << 17},)")
    stream, size = packed_zeros(head, mebibytes, -zlib.MAX_WBITS), len(head) + (mebibytes << 20)
    entry = f"{name}.npy".encode()
    fields = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 33, 0, len(stream), size, len(entry), 0)
    local = b"PK\x03\x04" + fields + entry
    central = b"PK\x01\x02" + struct.pack("<H", 20) + fields + struct.pack("<HHHII", 0, 0, 0, 0, 0) + entry
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(central), len(local) + len(stream), 0)
    return local + stream + central + end


def bombs(path: Path) -> dict[str, bytes]:
    """Small files of the same kind, with the name of an array that the reader looks for, that ask for half a gigabyte or more."""
    begin = path.read_bytes()[:10]
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=True) as stored:
            names = [name for name in stored.files if name != "format"]
        found = {}
        for name in names[:2]:
            huge, objects = npy_header(f"({2**40},)") + bytes(64), npy_header("(1,)", "|O") + pickle.dumps(Gadget())
            for what, content in {"2^40 numbers": huge, "objects": objects}.items():
                found[f"{name} of {what}"] = _with_entry(path, name, content)
            found[f"{name} of zeros"] = npz_bomb(name)
        return found
    if begin.startswith(b"MATLAB"):
        names = [name for name, *_ in scipy.io.whosmat(path)]
        return {
            f"{name} of {what}": make(name)
            for name in names[:1]
            for what, make in {"zeros": mat_bomb, "cells": mat_of_cells}.items()
        }
    if begin.startswith(b"\x89HDF"):
        return _h5_bombs(path)
    return {}


def _with_entry(path: Path, name: str, content: bytes) -> bytes:
    with zipfile.ZipFile(path) as archive:
        entries = {entry: archive.read(entry) for entry in archive.namelist()}
    return zipped(entries | {f"{name}.npy": content})


def _h5_bombs(path: Path) -> dict[str, bytes]:
    import h5py

    found = {}
    for name in _h5_names(path)[:3]:
        for what in ("2^40 numbers", "a link to another file", "numbers in another file"):
            out = io.BytesIO(path.read_bytes())
            with h5py.File(out, "r+") as file:
                del file[name]
                if what == "2^40 numbers":
                    file.create_dataset(name, shape=(1 << 40,), chunks=(1 << 20,), dtype="f8")
                elif what == "a link to another file":
                    file[name] = h5py.ExternalLink(str(path.parent.parent / "secret_outside.txt"), "/")
                else:
                    file.create_dataset(
                        name, shape=(1,), dtype="u1", external=[(str(path.parent.parent / "secret_outside.txt"), 0, 1)]
                    )
            found[f"{name}: {what}"] = out.getvalue()
    return found


def _h5_names(path: Path) -> list[str]:
    import h5py

    names: list[str] = []
    with h5py.File(path) as file:
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    return names


def hostile() -> dict[str, bytes]:
    """Contents that any file may be replaced by."""
    deep = b"\x80\x02" + b"]" * 5000 + b"a" * 4999 + b"."
    return {
        "nothing": b"",
        "zeros": bytes(512),
        "chance": np.random.default_rng(0).bytes(2048),
        "one byte": b"\xff",
        "blanks": b" \n\t\r\n" * 50,
        "no UTF-8": b"\xff\xfe\xfd 1 2 3\n" * 20,
        "UTF-16 without its mark": "1 2 3\n".encode("utf-16-le") * 9,
        "null characters": b"1\0 2\0 3\0\n" * 9,
        "a line of a million digits": b"9" * 1_000_000,
        "a line of a million characters": b"x" * 1_000_000,
        "a hundred thousand empty lines": b"\n" * 100_000,
        "a million quotes": b'"' * 1_000_000,
        "nested JSON lists": b"[" * 200_000,
        "nested JSON objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        "JSON of huge numbers": b'{"a": ' + b"9" * 5000 + b', "b": 1e999, "c": NaN, "d": -Infinity}',
        "JSON null": b"null",
        "a billion laughs": b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "ha">' + b"".join(
            b'<!ENTITY %c "%s">' % (98 + i, b"&%c;" % (97 + i) * 10) for i in range(12)) + b"]><l>&m;</l>",
        "pickled command": pickle.dumps(Gadget(), protocol=2),
        "pickled command, text": pickle.dumps({"a": Gadget()}, protocol=0),
        "pickled command of Python 3": pickle.dumps([Gadget(), Gadget()], protocol=4),
        "nested pickle": deep,
        "pickle that claims 2^31 bytes": b"\x80\x04B" + struct.pack("<I", 2**31 - 1) + b"x.",
        "pickle that claims 2^62 bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x.",
        "pickle with a far memo slot": b"\x80\x02}r" + struct.pack("<I", 2**31 - 1) + b".",
        "array of 2^40 numbers": npy_header(f"({2**40},)") + bytes(64),
        "array of 2^62 numbers": npy_header(f"({2**31}, {2**31})") + bytes(64),
        "array of negative size": npy_header("(-1, 3)") + bytes(64),
        "array of 2^40 empty strings": npy_header(f"({2**40},)", "|S0"),
        "array whose header is code": npy_header("(__import__('os').system('touch executed_by_a_reader'),)"),
        "array with a long header": b"\x93NUMPY\x02\0" + struct.pack("<I", 2**32 - 1) + b"{'descr': '<f8'",
        "array with a nested header": b"\x93NUMPY\x02\0" + struct.pack("<I", 8000) + b"(" * 8000,
        "pickled command as array": npy_header("(1,)", "|O") + pickle.dumps(Gadget()),
        "archive with paths that lead out": zipped({"../../secret_outside.npy": npy_header("(2,)") + bytes(16), "/etc/x.npy": b""}),
        "archive that declares 4 GiB": zip_that_lies("v.npy", npy_header(f"({2**29},)") + bytes(64), 2**32 - 2),
        "archive of 512 MiB of zeros": npz_bomb(),
        "archive of objects": zipped({"v.npy": npy_header("(1,)", "|O") + pickle.dumps(Gadget())}),
        "archive with one name twice": _twice(),
        "archive in an archive": zipped({"v.npy": zipped({"v.npy": b""})}),
        "checkpoint that runs a command": zipped({"a/data.pkl": pickle.dumps(Gadget(), protocol=2), "a/version": b"3\n"}, compress=False),
        "picture of 2^31 pixels": png_header(65_535, 65_535),
        "picture of 2^31 columns": png_header(2**31 - 1, 1),
        "sound of 4 GiB": b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\x01\0\x01\0\x80>\0\0\0}\0\0\x02\0\x10\0data\xff\xff\xff\xff" + bytes(64),
        "sound of 2^36 samples": b"fLaC\x80\0\0\x22" + struct.pack(">HH", 4096, 4096) + bytes(6) + b"\x03\xe8\x00\xff\xff\xff\xff\xff" + bytes(16),
        "MATLAB element of 4 GiB": mat_header(struct.pack("<II", 14, 2**32 - 16) + bytes(64)),
        "MATLAB zeros, compressed": mat_bomb(),
        "MATLAB cells, 2^31 of them": mat_of_cells(),
        "weights that declare 2^60 bytes": struct.pack("<Q", 2**60) + b"{}",
        "weights without end": _weights(2**50),
        "records of 2^29 bytes": struct.pack("<II", 0xCED7230A, 2**29 - 1) + bytes(64),
    }  # fmt: skip


def _twice() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in ("v.npy", "w.npy"):  # zipfile warns of two entries with one name
            archive.writestr(zipfile.ZipInfo(name), npy_header("(1,)") + bytes(8))
    return out.getvalue().replace(b"w.npy", b"v.npy")


def _weights(count: int) -> bytes:
    head = json.dumps({"w": {"dtype": "F64", "shape": [count], "data_offsets": [0, 8 * count]}}).encode()
    return struct.pack("<Q", len(head)) + head + bytes(64)


# --------------------------------------------------------------------------- unexpected values in a whole container


def odd_array(array: np.ndarray, kind: int) -> Any:
    """Something that does not belong where `array` stood."""
    a = np.asarray(array)
    numbers = a.astype(float) if a.dtype.kind in "fiub" else np.zeros(a.shape or (2,))
    made: list[Callable[[], Any]] = [
        lambda: a[:0] if a.ndim else np.zeros(0),
        lambda: a[..., :-1] if a.ndim else np.zeros(3),
        lambda: a[1:] if a.ndim else np.zeros((2, 2)),
        lambda: a[None],
        lambda: a.reshape(-1),
        lambda: a.T,
        lambda: np.concatenate([a, a]) if a.ndim else np.zeros(2),
        lambda: np.full(numbers.shape, np.nan),
        lambda: np.where(np.arange(numbers.size).reshape(numbers.shape) == 0, np.inf, numbers),
        lambda: -numbers - 1,
        lambda: numbers * 1e300,
        lambda: np.zeros(numbers.shape),
        lambda: np.full(numbers.shape, 2**62, dtype=np.int64),
        lambda: np.full(numbers.shape, 2**64 - 1, dtype=np.uint64),
        lambda: np.full(numbers.shape, -1, dtype=np.int64),
        lambda: numbers.astype(np.int64) if np.isfinite(numbers).all() else numbers,
        lambda: numbers + 0.5,
        lambda: numbers.astype(">f8"),
        lambda: np.zeros(numbers.shape, dtype=np.float16),
        lambda: numbers.astype(complex),
        lambda: np.full(numbers.shape, "x"),
        lambda: np.full(numbers.shape, b"\xff"),
        lambda: np.ones(numbers.shape, dtype=bool),
        lambda: np.array(3.0),
        lambda: np.array("text"),
        lambda: np.zeros(numbers.shape, dtype=[("a", "f4"), ("b", "i2")]),
        lambda: np.zeros(numbers.shape, dtype="datetime64[s]"),
        lambda: np.zeros((0, 3)),
        lambda: np.zeros((1,) * 9),
    ]
    return made[kind % len(made)]()


ODD_VALUES: tuple[Any, ...] = (
    None, True, -1, 2**70, float("nan"), 1e308, "", "x", "../secret_outside.txt", b"\xff\xfe", [], {}, [[[]]], {"a": None}, [None, 1, "a"],
    "²", 0, 0.5, "9" * 5000, "\0", [2**70], {"a": {"b": []}},
)  # fmt: skip
SIZES = (0, -1, 2, 1000, 10**6, 10**9, 2**40, 2**62)
KINDS = 64  # more than there are of either


def paths_in(tree: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Places in a tree of dictionaries and lists, the root among them; of long lists only the first and last few."""
    yield here
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from paths_in(value, (*here, key))
    elif isinstance(tree, (list, tuple)):
        chosen = range(len(tree)) if len(tree) < 8 else (0, 1, len(tree) - 1)
        for key in chosen:
            yield from paths_in(tree[key], (*here, key))


def replaced(tree: Any, path: tuple[Any, ...], make: Callable[[Any], Any]) -> Any:
    if not path:
        return make(tree)
    key, *rest = path
    if isinstance(tree, dict):
        return type(tree)({**tree, key: replaced(tree[key], tuple(rest), make)})
    items = list(tree)
    items[key] = replaced(items[key], tuple(rest), make)
    return tuple(items) if isinstance(tree, tuple) else items


def _odd(value: Any, kind: int) -> Any:
    if isinstance(value, torch.Tensor):
        found = odd_array(value.detach().cpu().numpy(), kind)
        try:
            return torch.from_numpy(np.ascontiguousarray(found))
        except (TypeError, ValueError):  # text, another byte order
            return found
    if isinstance(value, np.ndarray) and kind < KINDS // 2:
        return odd_array(value, kind)
    if isinstance(value, dict) and value and kind % 3 == 0:
        return dict(list(value.items())[:-1])
    if isinstance(value, (list, tuple)) and kind % 3 == 0:
        return type(value)(value[:-1]) if kind % 2 else type(value)([*value, *value])
    return ODD_VALUES[kind % len(ODD_VALUES)]


def _changed_tree(tree: Any, place: int, kind: int) -> Any:
    paths = list(paths_in(tree))
    return replaced(tree, paths[min(_at(place, len(paths)), len(paths) - 1)], lambda value: _odd(value, kind))


def _json(path: Path, place: int, kind: int) -> bytes:
    changed = _changed_tree(json.loads(path.read_bytes()), place, kind)
    return json.dumps(changed, default=repr).encode()


def _pickle(path: Path, place: int, kind: int) -> bytes:
    objects, out = [], io.BytesIO(path.read_bytes())
    while out.tell() < len(out.getbuffer()):
        objects.append(pickle.load(out, encoding="latin1"))
    objects = _changed_tree(objects, place, kind)
    return b"".join(
        pickle.dumps(value, protocol=2 + kind % 3) for value in (objects if isinstance(objects, list) else [objects])
    )


def _npz(path: Path, place: int, kind: int) -> bytes:
    with np.load(path, allow_pickle=True) as stored:
        arrays = {name: stored[name] for name in stored.files}
    name = list(arrays)[min(_at(place, len(arrays)), len(arrays) - 1)]
    arrays[name] = odd_array(arrays[name], kind)
    if kind == KINDS - 1:
        del arrays[name]
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def _npy(path: Path, _: int, kind: int) -> bytes:
    out = io.BytesIO()
    np.save(out, odd_array(np.load(path, allow_pickle=True), kind), allow_pickle=True)
    return out.getvalue()


def _mat(path: Path, place: int, kind: int) -> bytes:
    arrays = {name: value for name, value in scipy.io.loadmat(path).items() if not name.startswith("__")}
    name = list(arrays)[min(_at(place, len(arrays)), len(arrays) - 1)]
    fields = arrays[name].dtype.names
    if fields and kind % 8:
        field = fields[min(_at(place, len(fields)), len(fields) - 1)]
        arrays[name][field][0, 0] = odd_array(arrays[name][field][0, 0], kind)
    else:
        arrays[name] = odd_array(arrays[name], kind)
    out = io.BytesIO()
    scipy.io.savemat(out, arrays, do_compression=bool(kind % 2))
    return out.getvalue()


def _h5(path: Path, place: int, kind: int) -> bytes:
    import h5py

    names, out = _h5_names(path), io.BytesIO(path.read_bytes())
    with h5py.File(out, "r+") as file:
        name = names[min(_at(place, len(names)), len(names) - 1)]
        value = file[name][()]
        del file[name]
        if kind == KINDS - 1:
            file.create_group(name)
        else:
            odd = np.asarray(odd_array(value, kind))
            file[name] = odd.astype("S32") if odd.dtype.kind in "UM" else odd
    return out.getvalue()


def _checkpoint(path: Path, place: int, kind: int) -> bytes:
    tree = torch.load(path, map_location="cpu", weights_only=True)
    out = io.BytesIO()
    changed = _changed_tree(tree, place, kind)
    if kind in (KINDS - 1, KINDS - 2):
        big = (
            torch.zeros(1).expand(1 << 20, 1 << 20)
            if kind % 2
            else torch.sparse_coo_tensor(size=(1 << 20, 1 << 20), check_invariants=False)
        )
        changed = _changed_tree_with(tree, place, big)
    torch.save(changed, out, _use_new_zipfile_serialization=bool(kind % 2))
    return out.getvalue()


def _changed_tree_with(tree: Any, place: int, value: Any) -> Any:
    paths = list(paths_in(tree))
    return replaced(tree, paths[min(_at(place, len(paths)), len(paths) - 1)], lambda _: value)


def _other_entry(text: str, place: int, kind: int) -> str:
    """A description with another word, or, if it is a tree in JSON, with a size or a value that does not belong there."""
    if not text.startswith(("{", "[")):
        return retold(text.encode(), place, TOKENS[kind % 12]).decode(errors="replace")
    tree = json.loads(text)
    changed = (
        _changed_tree_with(tree, place, SIZES[kind // 2 % len(SIZES)]) if kind % 2 else _changed_tree(tree, place, kind)
    )
    return json.dumps(changed, default=repr)


def _safetensors(path: Path, place: int, kind: int) -> bytes:
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    about = json.loads(data[8 : 8 + size]).get("__metadata__", {})
    state = safetensors_load(data)
    described = (
        about and kind % 2
    )  # half of the changes are of what the file says of itself, however many tensors it has
    names = list(about if described else state)
    name = names[min(_at(place, len(names)), len(names) - 1)]
    if described:
        about |= {name: _other_entry(about[name], place * len(names) % (1 << 20), kind // 2)}
        if kind == 1:
            del about[name]
    else:
        found = _odd(state[name], kind // 2)
        state = (
            {**state, name: found} if isinstance(found, torch.Tensor) else {n: v for n, v in state.items() if n != name}
        )
    return safetensors_save({n: v.contiguous() for n, v in state.items()}, metadata=about)


def changer(path: Path) -> Callable[[Path, int, int], bytes] | None:
    """What changes a value inside a file of this kind; None for text and other kinds."""
    begin = path.read_bytes()[:19]
    suffix = path.suffix.lower()
    if begin.startswith(b"PK"):
        return _npz if suffix == ".npz" else _checkpoint
    for mark, change in {b"\x93NUMPY": _npy, b"MATLAB 5.0": _mat, b"\x89HDF": _h5}.items():
        if begin.startswith(mark):
            return change
    if suffix in (".json", ".ljson"):
        return _json
    if suffix == ".safetensors":
        return _safetensors
    if suffix in (".pth", ".pt"):
        return _checkpoint
    return _pickle if begin.startswith(b"\x80") else None


def is_text(path: Path) -> bool:
    try:
        return "\0" not in path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        return False
