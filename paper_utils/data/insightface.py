"""InsightFace's files, read without MXNet: training sets as RecordIO (``train.rec`` with ``train.idx``), validation sets as ``.bin``.

Both are binary files of strangers: every length is checked against the file before it is used, and the pickle inside a ``.bin`` may hold
lists, tuples, bytes and booleans only; nothing in it is run.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int

from paper_utils import safe_pickle
from paper_utils.data.face_images import SIZE, FaceImages, FacePairs, ImageBytes, LabelledFaces
from paper_utils.data.face_lists import first_few

MAGIC = 0xCED7230A  # begins every part of a record (dmlc RecordIO)
WHOLE, BEGIN, MIDDLE, END = range(4)  # upper three bits of a part's second word; the lower 29 are its length
LENGTH_MASK = (1 << 29) - 1
HEADER = struct.Struct("<IfQQ")  # flag, label, id, id2 (MXNet's IRHeader); flag n > 0: n labels follow as float32
MAX_RECORD_BYTES = 1 << 26  # choice of ours: an encoded face takes some kilobytes
_CHUNK = 1 << 16

# Bytes as Python 3 writes them into pickles that Python 2 can read; real bytes and booleans need no name.
_PLAIN = {
    name: builder for name, builder in safe_pickle.NUMPY.items() if name == "_codecs.encode" or name.endswith(".bytes")
}


class RecordError(ValueError):
    """A RecordIO file or its index that is damaged; the message names file, record and place."""


@dataclass(frozen=True)
class Record:
    """One unpacked record.

    Parameters
    ----------
    labels
        One label, or as many as the record's flag says.
    key
        Number of the record as written in it.
    content
        The encoded image; empty for records that only describe others.
    """

    labels: Float[np.ndarray, " labels"]
    key: int
    content: bytes


# ------------------------------------------------------------------------------------------------------------ RecordIO


@dataclass(frozen=True)
class RecordFile:
    """Records of a RecordIO file by number, read when asked for.

    Parameters
    ----------
    path
        The ``.rec`` file.
    keys
        Key of each record, rising.
    offsets
        Byte where each one begins.
    """

    path: Path
    keys: Int[np.ndarray, " n"]
    offsets: Int[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.keys)

    def where(self, row: int) -> str:
        """What to call the record in messages."""
        return f"{self.path}: record {self.keys[row]}"

    def record(self, row: int) -> bytes:
        """All bytes of a record; parts of a divided one are joined by the magic number at which the writer cut it.

        Raises
        ------
        RecordError
            If a part does not begin with the magic number, leaves the file, or parts are out of order.
        """
        size, where = self.path.stat().st_size, self.where(row)
        position, parts, total = int(self.offsets[row]), [], 0
        with self.path.open("rb") as file:
            while True:
                file.seek(position)
                head = file.read(8)
                if len(head) < 8:
                    raise RecordError(
                        f"{where} is cut off: its part at byte {position} has no room in {size} bytes; is the download complete?"
                    )
                magic, word = struct.unpack("<II", head)
                kind, length = word >> 29, word & LENGTH_MASK
                if magic != MAGIC:
                    raise RecordError(
                        f"{where}: expected the magic number {MAGIC:#x} at byte {position}, found {magic:#x}; does the index belong to this file?"
                    )
                if kind not in ((MIDDLE, END) if parts else (WHOLE, BEGIN)):
                    raise RecordError(f"{where}: part {len(parts)} at byte {position} is of kind {kind}, out of order")
                if position + 8 + length > size:
                    raise RecordError(
                        f"{where} is cut off: it needs {length} bytes from byte {position + 8}, the file has {size}; is the download complete?"
                    )
                total += length + 4
                if total > MAX_RECORD_BYTES:
                    raise RecordError(f"{where}: more than {MAX_RECORD_BYTES} bytes, which no face needs")
                parts.append(file.read(length))
                if kind in (WHOLE, END):
                    return struct.pack("<I", MAGIC).join(parts)
                position += 8 + length + -length % 4


def read_index(path: str | Path) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Keys and byte offsets from a ``.idx`` file (``key<tab>offset`` in every line), sorted by key.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is empty, a line is no pair of whole numbers, or a key repeats.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected lines 'key<tab>offset'")
    lines = path.read_bytes().splitlines()
    if not lines:
        raise RecordError(f"{path}: is empty; expected lines 'key<tab>offset'")
    fields = [line.split() for line in lines]
    for number, entry in enumerate(fields, 1):
        if len(entry) != 2 or not all(field.isdigit() and len(field) < 19 for field in entry):
            raise RecordError(
                f"{path}: line {number} is {lines[number - 1][:60]!r}; expected 'key<tab>offset', two whole numbers"
            )
    table = np.array(fields, dtype=np.bytes_).astype(np.int64)
    keys, first, counts = np.unique(table[:, 0], return_index=True, return_counts=True)
    if counts.max() > 1:
        raise RecordError(
            f"{path}: {int((counts > 1).sum())} keys repeat: {first_few(keys[counts > 1].tolist())}; expected each once"
        )
    return keys, table[first, 1]


def open_records(path: str | Path, index: str | Path | None = None) -> RecordFile:
    """A RecordIO file with its index, ``.idx`` beside it unless given.

    Raises
    ------
    FileNotFoundError
        If one of the two files is missing.
    RecordError
        If the index is damaged or points outside the file; all such records are counted.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected a RecordIO file with its .idx beside it")
    keys, offsets = read_index(path.with_suffix(".idx") if index is None else index)
    size = path.stat().st_size
    outside = np.flatnonzero((offsets + 8 > size) | (offsets % 4 != 0))
    if len(outside):
        raise RecordError(
            f"{path}: {len(outside)} of {len(keys)} records begin outside its {size} bytes or not at a multiple of 4, "
            f"the first is key {keys[outside[0]]} at byte {offsets[outside[0]]}; is the download complete, does the index belong to it?"
        )
    return RecordFile(path, keys, offsets)


def unpack(data: bytes, where: str) -> Record:
    """Labels, key and content of a record that MXNet's image tools packed.

    Raises
    ------
    RecordError
        If it is shorter than its header promises.
    """
    if len(data) < HEADER.size:
        raise RecordError(f"{where}: {len(data)} bytes, a header alone takes {HEADER.size}")
    flag, label, key, _ = HEADER.unpack_from(data)
    end = HEADER.size + 4 * flag
    if end > len(data):
        raise RecordError(
            f"{where}: the header promises {flag} labels, which take {end} bytes; the record has {len(data)}"
        )
    labels = np.frombuffer(data, "<f4", flag, HEADER.size) if flag else np.array([label], np.float32)
    return Record(labels.astype(np.float32), key, data[end:])


def _heads(records: RecordFile) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, "n 2"]]:
    """Flag and first two labels of every record, from the bytes at its beginning only."""
    flags, labels = np.zeros(len(records), np.int64), np.zeros((len(records), 2), np.float32)
    data = np.memmap(records.path, np.uint8, mode="r")
    for begin in range(0, len(records), _CHUNK):
        offsets = records.offsets[begin : begin + _CHUNK]
        places = np.minimum(offsets[:, None] + np.arange(40), len(data) - 1)
        words = np.ascontiguousarray(data[places]).view("<u4").astype(np.int64)
        magic, kind, length, flag = words[:, 0], words[:, 1] >> 29, words[:, 1] & LENGTH_MASK, words[:, 2]
        plain = (
            (magic == MAGIC)
            & (kind == WHOLE)
            & (HEADER.size + 4 * flag <= length)
            & (offsets + 8 + length <= len(data))
        )
        numbers = words.astype("<u4").view("<f4")
        rows = slice(begin, begin + len(offsets))
        flags[rows] = flag
        labels[rows] = np.where(flag[:, None] > 0, numbers[:, 8:10], numbers[:, [3, 3]])
        # The rest is divided at a magic number inside, or damaged: reading it whole says which.
        for row in (np.flatnonzero(~plain) + begin).tolist():
            record = unpack(records.record(row), records.where(row))
            flags[row] = record.labels.size if record.labels.size > 1 else 0
            labels[row] = np.resize(record.labels, 2)
    return flags, labels


@dataclass(frozen=True)
class RecordImages:
    """The images of a RecordIO file."""

    records: RecordFile

    def __len__(self) -> int:
        return len(self.records)

    def encoded(self, row: int) -> bytes:
        """The encoded image, without the record's header."""
        return unpack(self.records.record(row), self.records.where(row)).content

    def where(self, row: int) -> str:
        """File and key of the record."""
        return self.records.where(row)

    @property
    def fingerprint(self) -> str:
        """Hash of the keys, the offsets and the size of the file."""
        digest = hashlib.sha256(str(self.records.path.stat().st_size).encode())
        for values in (self.records.keys, self.records.offsets):
            digest.update(values.astype("<i8").tobytes())
        return digest.hexdigest()[:16]


def read_records(path: str | Path, index: str | Path | None = None, *, size: tuple[int, int] = SIZE) -> LabelledFaces:
    """An InsightFace training set: ``train.rec`` with ``train.idx``.

    If record 0 has several labels, it describes the set: records 1 to labels[0] - 1 are images, the others belong to identities and are
    left out, as InsightFace does. Otherwise every record is an image.

    Parameters
    ----------
    path
        The ``.rec`` file.
    index
        The ``.idx`` file, if it is not beside it.
    size
        Height and width of the images.

    Returns
    -------
    LabelledFaces
        Identities are the stored labels, closed up if numbers are unused; the names are the stored numbers.

    Raises
    ------
    FileNotFoundError
        If one of the two files is missing.
    RecordError
        If the index points outside the file, the file is cut off, a record is damaged, a promised record is missing, or a label is no
        whole number from 0.
    """
    records = open_records(path, index)
    if records.keys[0] != 0:
        raise RecordError(
            f"{path}: there is no record 0, which says what the others are; found keys {first_few(records.keys.tolist())}"
        )
    flags, labels = _heads(records)
    chosen = np.arange(len(records))
    if flags[0] > 1:
        last = labels[0, 0]
        if not (np.isfinite(last) and last == np.floor(last) and last >= 2):
            raise RecordError(
                f"{path}: record 0 says that images end before record {last}; expected a whole number from 2"
            )
        chosen = np.flatnonzero((records.keys >= 1) & (records.keys < int(last)))
        if len(chosen) != int(last) - 1:
            raise RecordError(
                f"{path}: record 0 promises images 1 to {int(last) - 1}, the index has {len(chosen)} of them"
            )
    stored = labels[chosen, 0]
    wrong = np.flatnonzero(~(np.isfinite(stored) & (stored >= 0) & (stored == np.floor(stored)) & (stored <= 1 << 24)))
    if len(wrong):
        raise RecordError(
            f"{path}: {len(wrong)} labels are no whole numbers from 0 to {1 << 24}, the first is {stored[wrong[0]]} of record {records.keys[chosen[wrong[0]]]}"
        )
    numbers, identities = np.unique(stored.astype(np.int64), return_inverse=True)
    images = RecordImages(RecordFile(records.path, records.keys[chosen], records.offsets[chosen]))
    return LabelledFaces(
        source=images,
        name=Path(path).stem,
        size=size,
        identities=torch.from_numpy(identities.astype(np.int64)),
        identity_names=tuple(map(str, numbers.tolist())),
    )


# ------------------------------------------------------------------------------------------------------ validation sets


def read_bin(
    path: str | Path, *, size: tuple[int, int] = SIZE, folds: int = 10, max_bytes: int = safe_pickle.MAX_BYTES
) -> FacePairs:
    """An InsightFace validation set (``lfw.bin``, ``agedb_30.bin``, ``cfp_fp.bin``): pair i is images 2i and 2i + 1.

    The file is a pickle, of Python 2 or 3, of (list of 2N encoded images, list of N booleans). Only lists, tuples, bytes and booleans are
    admitted; it is read without running anything.

    Parameters
    ----------
    path
        The file.
    size
        Height and width of the images.
    folds
        Contiguous folds of the protocol.
    max_bytes
        Larger files are refused unread.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    safe_pickle.UnsafePickleError
        If the pickle asks for any other class or function; nothing has run by then.
    ValueError
        If it is no whole pickle, holds something else, an image is empty, or there are not two images for each pair.
    """
    found = safe_pickle.load(path, allowed=_PLAIN, encoding="bytes", max_bytes=max_bytes)
    expected = "expected a pair of (list of encoded images, list of booleans)"
    if (
        not isinstance(found, (tuple, list))
        or len(found) != 2
        or not all(isinstance(part, (tuple, list)) for part in found)
    ):
        raise ValueError(f"{path}: holds {_describe(found)}; {expected}")
    images, same = found
    _all_are(bytes, images, f"{path}: image", expected)
    _all_are(bool, same, f"{path}: label", expected)
    if len(images) != 2 * len(same):
        odd = " (an odd number)" if len(images) % 2 else ""
        raise ValueError(
            f"{path}: {len(images)} images{odd} and {len(same)} labels; expected two images for each label"
        )
    empty = [index for index, image in enumerate(images) if not image]
    if empty:
        raise ValueError(f"{path}: {len(empty)} images are empty (0 bytes): {first_few(empty)}; pack the set again")
    name = Path(path).stem
    faces = FaceImages(source=ImageBytes(tuple(images), str(path)), name=name, size=size)
    rows = np.arange(len(images), dtype=np.int64).reshape(-1, 2)
    labels = np.array(same, dtype=bool)
    return FacePairs(faces, rows[:, 0], rows[:, 1], labels, name, folds if len(same) % folds == 0 else 1)


def _all_are(kind: type, values: list | tuple, what: str, expected: str) -> None:
    wrong = [index for index, value in enumerate(values) if type(value) is not kind]
    if wrong:
        raise ValueError(f"{what} {wrong[0]} is {_describe(values[wrong[0]])}, and {len(wrong) - 1} more; {expected}")


def _describe(value: object) -> str:
    return (
        f"a {type(value).__name__} of {len(value)}"
        if isinstance(value, (tuple, list, dict))
        else f"a {type(value).__name__}"
    )
