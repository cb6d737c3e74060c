"""Reads torch checkpoints of strangers as plain tensors.

``torch.load(weights_only=True)`` runs no code, but it trusts sizes: a file of some bytes may ask for terabytes, claim more numbers than its
archive holds, or hold a view of one number that looks like a matrix. Here the pickle inside is read first without building anything, and what it
asks for is held against the bytes that are there.
"""

from __future__ import annotations

import io
import math
import mmap
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paper_utils import safe_pickle

# Names that a state of tensors, or an optimiser's, is made of. The first are called, the others only named.
_CALLED = {
    "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter", "collections.OrderedDict", "collections.defaultdict",
    "collections.Counter", "torch.Size", "torch.device", "builtins.set", "__builtin__.set", "_codecs.encode",
}  # fmt: skip
_BYTES = {
    "Byte": 1, "Char": 1, "Bool": 1, "Short": 2, "Half": 2, "BFloat16": 2, "Int": 4, "Float": 4, "Long": 8, "Double": 8,
    "ComplexFloat": 8, "ComplexDouble": 16,
}  # fmt: skip
_STORAGES = {f"torch.{kind}Storage": size for kind, size in _BYTES.items()} | {"torch.storage.UntypedStorage": 1}
_NAMED = re.compile(r"torch\.(?:u?int\d+|b?float\d+|bfloat16|complex\d+|bool|half|double|long|short)")
_OLD_FORM = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # how files of torch before 1.6 begin


class UnreadableCheckpointError(ValueError):
    """Not a whole file of tensors: cut off, damaged, lying about its size, or something else altogether."""


class UnsafeCheckpointError(ValueError):
    """The file asks for other objects than tensors; nothing was run. They are in `asked`."""

    def __init__(self, message: str, asked: tuple[str, ...]) -> None:
        super().__init__(message)
        self.asked = asked


def load(path: str | Path) -> Any:
    """What ``torch.save`` wrote, as far as it is made of tensors, numbers, texts, lists and dictionaries; on the CPU.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    UnsafeCheckpointError
        If it asks for anything else; nothing was run.
    UnreadableCheckpointError
        If it is cut off or damaged, a check sum is wrong, or it claims more numbers than it holds.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}; expected a checkpoint")
    if not path.stat().st_size:
        raise UnreadableCheckpointError(
            f"{path}: not a whole file of tensors (it is empty), found 0 bytes; is the download complete? Fetch it again"
        )
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return _load(file, content, str(path))


def loads(data: bytes, source: str) -> Any:
    """The same for the content of a file, called `source` in messages."""
    return _load(io.BytesIO(data), data, source)


def _load(file: io.BufferedIOBase, content: bytes | mmap.mmap, source: str) -> Any:
    try:
        if zipfile.is_zipfile(file):
            _check_archive(file, len(content), source)
        else:
            _check_old_form(content, source)
        file.seek(0)
        stored = torch.load(file, map_location="cpu", weights_only=True)
        for name, tensor in _tensors(stored, "checkpoint"):
            _check_tensor(name, tensor)
    except UnsafeCheckpointError:
        raise
    except Exception as error:  # readers of archives and pickles raise many kinds on damaged files
        reason = " ".join(str(error).split())[:160] or "it ends at once"
        raise UnreadableCheckpointError(
            f"{source}: not a whole file of tensors ({type(error).__name__}: {reason}), found {len(content)} bytes; "
            "is the download complete? Fetch it again"
        ) from error
    return stored


def _check_archive(file: io.BufferedIOBase, size: int, source: str) -> None:
    """The form since torch 1.6: an archive that packs nothing, with a pickle and one entry a storage."""
    with zipfile.ZipFile(file) as archive:
        entries: dict[str, int] = {}
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_STORED or entry.filename in entries:
                raise ValueError(f"entry {entry.filename} is packed or stands twice, as torch never writes it")
            entries[entry.filename] = entry.file_size
        if sum(entries.values()) > size:
            raise ValueError(f"its entries claim {sum(entries.values())} bytes")
        pickles = [name for name in entries if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError(f"{len(pickles)} entries data.pkl, expected one")
        asked = safe_pickle.outline(archive.read(pickles[0]), source)
        _refuse_others(source, asked)
        folder = pickles[0].removesuffix("data.pkl")
        for key, (count, width) in _asked(asked).items():
            held = entries.get(f"{folder}data/{key}", 0)
            if held != count * width:
                raise ValueError(f"storage {key} shall have {count * width} bytes, the archive has {held}")
        # torch checks that an archive is complete, not that its bytes are the ones written; the archive's check sums do.
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"the check sum of {damaged} is wrong")


def _check_old_form(content: bytes | mmap.mmap, source: str) -> None:
    """The form before torch 1.6: five pickles, then each storage behind its length."""
    if content[: len(_OLD_FORM)] != _OLD_FORM:
        raise ValueError(f"it begins with {content[:8]!r}")
    size, parts = len(content), []
    for _ in range(5):
        parts.append(safe_pickle.outline(content, source, start=parts[-1].end if parts else 0))
        _refuse_others(source, parts[-1])
    counts, keys, position = _asked(parts[3]), parts[4].value, parts[4].end
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(counts):
        raise ValueError(f"its list of storages is {str(keys)[:80]}")
    for key in keys:
        count, width = counts[key]
        end = position + 8 + count * width
        if end > size or struct.unpack("<q", content[position : position + 8])[0] != count:
            raise ValueError(f"storage {key} of {count * width} bytes does not stand at byte {position} of {size}")
        position = end


def _refuse_others(source: str, asked: safe_pickle.Outline) -> None:
    strange = sorted(
        name
        for name in asked.names
        if name not in _CALLED and not (name not in asked.called and (name in _STORAGES or _NAMED.fullmatch(name)))
    )
    if strange:
        raise UnsafeCheckpointError(
            f"{source}: asks for {', '.join(strange)}, which is no tensor, so it was not opened; nothing was run",
            tuple(strange),
        )


def _asked(asked: safe_pickle.Outline) -> dict[str, tuple[int, int]]:
    """By the key of each storage, its count of numbers and the bytes of one."""
    found: dict[str, tuple[int, int]] = {}
    for reference in asked.references:
        kind, storage, key, _, count, *_ = (
            reference if isinstance(reference, tuple) and len(reference) >= 5 else (None,) * 5
        )
        name = getattr(storage, "name", "")
        if (
            kind != "storage"
            or name not in _STORAGES
            or not isinstance(key, str)
            or type(count) is not int
            or count < 0
        ):
            raise ValueError(f"a storage is described as {str(reference)[:80]}")
        if found.setdefault(key, (count, _STORAGES[name])) != (count, _STORAGES[name]):
            raise ValueError(f"storage {key} has two sizes")
    return found


def _tensors(stored: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    waiting, seen = [(name, stored)], set()
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, Tensor):
            yield name, value
        elif isinstance(value, (Mapping, list, tuple, set)) and id(value) not in seen:
            seen.add(id(value))
            pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
            waiting += [(str(key), inner) for key, inner in pairs]


def _check_tensor(name: str, tensor: Tensor) -> None:
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized or tensor.is_nested:
        raise ValueError(f"{name} is no plain tensor of numbers")
    held = tensor.untyped_storage().nbytes() // tensor.element_size()
    if math.prod(tensor.shape) > held:
        raise ValueError(f"{name} of shape {tuple(tensor.shape)} has {held} numbers behind it")
