"""RecordIO and .bin files, written here byte by byte in the official format; damaged and hostile ones."""

from __future__ import annotations

import io
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from paper_utils import safe_pickle
from paper_utils.data import insightface as ins
from paper_utils.data.face_images import ImageError

SIZE = (6, 5)
MAGIC = struct.pack("<I", 0xCED7230A)


def picture(level: int, form: str = "PNG", size: tuple[int, int] = SIZE) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((*size, 3), level, np.uint8)).save(file, form)
    return file.getvalue()


# ------------------------------------------------------------------------------------- a writer, from the format's rules


def packed(labels: list[float], key: int, content: bytes = b"") -> bytes:
    """IRHeader, then further labels, then the content."""
    if len(labels) == 1:
        return struct.pack("<IfQQ", 0, labels[0], key, 0) + content
    return struct.pack("<IfQQ", len(labels), 0.0, key, 0) + np.array(labels, "<f4").tobytes() + content


def parts(data: bytes) -> bytes:
    """One record; where the magic number stands at a multiple of 4, the record is cut and the number dropped."""
    places = [i for i in range(0, len(data) - 3, 4) if data[i : i + 4] == MAGIC]
    starts, ends = [0, *(i + 4 for i in places)], [*places, len(data)]
    out = b""
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        last = number == len(starts) - 1
        kind = (0 if last else 1) if number == 0 else (3 if last else 2)
        piece = data[start:end]
        out += MAGIC + struct.pack("<I", kind << 29 | len(piece)) + piece + bytes(-len(piece) % 4)
    return out


def write_records(path: Path, records: dict[int, bytes]) -> Path:
    offsets, data = [], b""
    for key, record in records.items():
        offsets.append(f"{key}\t{len(data)}\n")
        data += parts(record)
    path.write_bytes(data)
    path.with_suffix(".idx").write_text("".join(offsets))
    return path


PEOPLE = [0, 0, 2, 1, 2]


def training_records() -> dict[int, bytes]:
    """Record 0 describes, 1 to 5 are images, 6 to 8 are people with their range of images."""
    images = {i + 1: packed([float(p)], i + 1, picture(10 * (i + 1))) for i, p in enumerate(PEOPLE)}
    people = {6 + p: packed([1.0 + p, 2.0 + p], 6 + p) for p in range(3)}
    return {0: packed([6.0, 9.0], 0), **images, **people}


def levels(faces, rows=None) -> list[int]:
    rows = torch.arange(len(faces)) if rows is None else torch.as_tensor(rows)
    return ((faces.images(rows).mean(dim=(1, 2, 3)) + 1) * 127.5).round().int().tolist()


# ------------------------------------------------------------------------------------------------------------ RecordIO


def test_a_training_set_gives_images_and_labels_and_leaves_out_the_describing_records(tmp_path):
    faces = ins.read_records(write_records(tmp_path / "train.rec", training_records()), size=SIZE)
    assert faces.name == "train"
    assert faces.identities.tolist() == PEOPLE
    assert faces.identity_names == ("0", "1", "2")
    assert levels(faces) == [10, 20, 30, 40, 50]
    assert levels(faces, [4, 0, 4]) == [50, 10, 50]
    assert faces.source.where(0).endswith("train.rec: record 1")


def test_order_in_the_index_and_labels_of_several_numbers_do_not_matter(tmp_path):
    shuffled = dict(sorted(training_records().items(), key=lambda item: item[0] * 7 % 9))
    shuffled[3] = packed([2.0, 0.5, 0.25], 3, picture(30))
    faces = ins.read_records(write_records(tmp_path / "train.rec", shuffled), size=SIZE)
    assert faces.identities.tolist() == PEOPLE
    assert levels(faces) == [10, 20, 30, 40, 50]


def test_a_set_without_a_describing_record_is_images_throughout_and_unused_numbers_close_up(tmp_path):
    records = {i: packed([label], i, picture(10 + i)) for i, label in enumerate([7.0, 100.0, 7.0, 20.0])}
    path = write_records(tmp_path / "a.rec", records)
    os.rename(path.with_suffix(".idx"), tmp_path / "other.idx")
    faces = ins.read_records(path, tmp_path / "other.idx", size=SIZE)
    assert faces.identities.tolist() == [0, 2, 0, 1]
    assert faces.identity_names == ("7", "20", "100")
    assert levels(faces) == [10, 11, 12, 13]


@given(st.lists(st.one_of(st.just(MAGIC), st.binary(max_size=9)), max_size=8))
@settings(max_examples=150, deadline=None)
def test_records_survive_also_when_they_hold_the_magic_number(tmp_path_factory, pieces):
    content = b"".join(pieces)
    path = write_records(tmp_path_factory.mktemp("rec") / "a.rec", {0: packed([1.0], 0, content), 5: content})
    records = ins.open_records(path)
    unpacked = ins.unpack(records.record(0), records.where(0))
    assert (unpacked.content, unpacked.labels.tolist(), unpacked.key) == (content, [1.0], 0)
    assert records.record(1) == content


def test_labels_are_read_from_divided_records_too(tmp_path):
    records = training_records()
    records[2] = packed([0.0], 2, picture(20) + bytes(-len(picture(20)) % 4) + MAGIC + b"tail")
    path = write_records(tmp_path / "train.rec", records)
    assert path.read_bytes().count(MAGIC) == 10
    faces = ins.read_records(path, size=SIZE)
    assert faces.identities.tolist() == PEOPLE
    assert levels(faces) == [10, 20, 30, 40, 50]


def test_many_records_are_read_in_several_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr(ins, "_CHUNK", 2)
    assert ins.read_records(write_records(tmp_path / "a.rec", training_records())).identities.tolist() == PEOPLE


def test_the_fingerprint_follows_the_index_and_the_labels(tmp_path):
    records = training_records()
    sets = [ins.read_records(write_records(tmp_path / "a.rec", records))]
    again = ins.read_records(write_records(tmp_path / "b.rec", records))
    records[1] = packed([1.0], 1, picture(10))
    sets.append(ins.read_records(write_records(tmp_path / "c.rec", records)))
    records[1] = packed([1.0], 1, picture(10) + b"....")
    sets.append(ins.read_records(write_records(tmp_path / "d.rec", records)))
    assert len({faces.fingerprint for faces in sets}) == 3
    assert again.fingerprint == sets[0].fingerprint


def test_a_file_cut_in_the_middle_is_refused_wherever_the_cut_is(tmp_path):
    path = write_records(tmp_path / "train.rec", training_records())
    whole = path.read_bytes()
    for cut in range(0, len(whole), 7):
        path.write_bytes(whole[:cut])
        with pytest.raises(ins.RecordError, match=r"train\.rec: .*(is the download complete|cut off)"):
            ins.read_records(path, size=SIZE)


def test_an_index_that_points_outside_or_between_is_refused(tmp_path):
    path = write_records(tmp_path / "train.rec", training_records())
    good = path.with_suffix(".idx").read_text()
    size = path.stat().st_size
    for offset, message in [
        (size, rf"1 of 9 records begin outside its {size} bytes .* key 4 at byte {size}"),
        (10**17, "begin outside"),
        (2, "not at a multiple of 4"),
        (4, "record 4: expected the magic number 0xced7230a at byte 4, found 0x"),
    ]:
        lines = good.splitlines()
        lines[4] = f"4\t{offset}"
        path.with_suffix(".idx").write_text("\n".join(lines))
        with pytest.raises(ins.RecordError, match=message):
            ins.read_records(path)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (b"", r"train\.idx: is empty"),
        (b"0\t0\nx\t8\n", r"line 2 is b'x"),
        (b"0\t0\n1\t-8\n", "line 2 is"),
        (b"0\t0\n1\n", "line 2 is"),
        (b"0\t0\n1\t8\t9\n", "line 2 is"),
        (b"0\t0\n\n1\t8\n", "line 2 is b''"),
        (b"0\t0\n1\t" + b"9" * 19, "line 2 is"),
        (b"\xff\xfe\n", "line 1 is"),
        (b"0\t0\n3\t0\n3\t0\n", "1 keys repeat: 3"),
        (b"1\t0\n", "there is no record 0"),
        (b"0\t0\n1\t40\n2\t152\n", "record 0 promises images 1 to 5, the index has 2"),
    ],
)
def test_damaged_indices_are_named(tmp_path, index, message):
    path = write_records(tmp_path / "train.rec", training_records())
    path.with_suffix(".idx").write_bytes(index)
    with pytest.raises(ins.RecordError, match=message):
        ins.read_records(path)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (MAGIC + struct.pack("<I", 3 << 29 | 24) + bytes(24), "record 1: part 0 at byte 40 is of kind 3, out of order"),
        (
            MAGIC + struct.pack("<I", 1 << 29 | 24) + bytes(24) + parts(bytes(24)),
            "part 1 at byte 72 is of kind 0, out of",
        ),
        (MAGIC + struct.pack("<I", 5 << 29 | 24) + bytes(24), "is of kind 5"),
        (MAGIC + struct.pack("<I", (1 << 29) - 1) + bytes(24), "cut off: it needs 536870911 bytes"),
        (MAGIC + struct.pack("<I", 1 << 29 | 24) + bytes(24), "cut off: its part at byte 72 has no room"),
        (parts(bytes(23)), "record 1: 23 bytes, a header alone takes 24"),
        (parts(struct.pack("<IfQQ", 2**32 - 1, 0, 1, 0)), "header promises 4294967295 labels"),
    ],
)
def test_damaged_records_are_named(tmp_path, record, message):
    first = parts(packed([0.0, 2.0], 0))  # 40 bytes
    (tmp_path / "a.rec").write_bytes(first + record)
    (tmp_path / "a.idx").write_text("0\t0\n1\t40\n")
    with pytest.raises(ins.RecordError, match=message):
        ins.read_records(tmp_path / "a.rec")


@pytest.mark.parametrize("label", [-1.0, 0.5, float("nan"), float("inf"), 1e9])
def test_labels_that_number_no_person_are_refused(tmp_path, label):
    records = training_records() | {3: packed([label], 3, picture(30))}
    with pytest.raises(ins.RecordError, match=r"1 labels are no whole numbers from 0 .* of record 3"):
        ins.read_records(write_records(tmp_path / "a.rec", records))


@pytest.mark.parametrize("count", [float("nan"), 0.0, 2.5, 1e12])
def test_a_describing_record_that_promises_nonsense_is_refused(tmp_path, count):
    records = training_records() | {0: packed([count, 9.0], 0)}
    with pytest.raises(ins.RecordError, match=r"record 0 (says|promises)"):
        ins.read_records(write_records(tmp_path / "a.rec", records))


def test_records_larger_than_any_face_and_missing_files_are_refused(tmp_path, monkeypatch):
    path = write_records(tmp_path / "a.rec", training_records())
    faces = ins.read_records(path, size=SIZE)
    monkeypatch.setattr(ins, "MAX_RECORD_BYTES", 60)
    with pytest.raises(ins.RecordError, match="record 1: more than 60 bytes"):
        faces.images(torch.tensor([0]))
    path.with_suffix(".idx").unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.idx: no such file"):
        ins.read_records(path)
    with pytest.raises(FileNotFoundError, match=r"b\.rec: no such file; expected a RecordIO file"):
        ins.read_records(tmp_path / "b.rec")


def test_damaged_pictures_inside_are_named_by_their_record(tmp_path):
    records = training_records()
    records[2], records[3] = packed([0.0], 2, b""), packed([1.0], 3, picture(30, "JPEG")[:-99])
    faces = ins.read_records(write_records(tmp_path / "a.rec", records), size=SIZE)
    with pytest.raises(ImageError, match=r"a\.rec: record 2: is empty"):
        faces.images(torch.tensor([1]))
    with pytest.raises(ImageError, match=r"a\.rec: record 3: not a whole"):
        faces.images(torch.tensor([2]))


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_hostile_records_and_indices_give_data_or_a_named_error(tmp_path_factory, data):
    path = write_records(tmp_path_factory.mktemp("rec") / "a.rec", training_records())
    for file in (path, path.with_suffix(".idx")):
        content = bytearray(file.read_bytes())
        for _ in range(data.draw(st.integers(0, 3))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        file.write_bytes(
            bytes(content[: data.draw(st.integers(0, len(content)))]) if data.draw(st.booleans()) else content
        )
    try:
        faces = ins.read_records(path, size=SIZE)
        faces.images(torch.arange(len(faces)))
    except ValueError as error:
        if not str(error).startswith((str(path.with_suffix("")), "a: ")):
            raise


# ----------------------------------------------------------------------------------------------------------------- .bin


def pairs_of(count: int) -> tuple[list[bytes], list[bool]]:
    return [picture(10 * i % 256, "JPEG" if i % 2 else "PNG") for i in range(2 * count)], [
        i % 3 == 0 for i in range(count)
    ]


def python2_pickle(images: list[bytes], same: list[bool]) -> bytes:
    """What Python 2's cPickle wrote with protocol 2: byte strings as BINSTRING or SHORT_BINSTRING, booleans as NEWTRUE and NEWFALSE."""
    out = b"\x80\x02]("
    for image in images:
        short = len(image) < 256
        out += (b"U" + bytes([len(image)]) if short else b"T" + struct.pack("<i", len(image))) + image
    return out + b"e](" + b"".join(b"\x88" if flag else b"\x89" for flag in same) + b"e\x86."


def write_bin(path: Path, value: object, protocol: int = 4) -> Path:
    path.write_bytes(value if isinstance(value, bytes) else pickle.dumps(value, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("pair", [tuple, list])
def test_validation_sets_of_every_pickle_protocol_are_read(tmp_path, protocol, pair):
    images, same = pairs_of(5)
    pairs = ins.read_bin(write_bin(tmp_path / "cfp_fp.bin", pair((images, same)), protocol), size=SIZE, folds=5)
    assert (pairs.name, pairs.folds) == ("cfp_fp", 5)
    assert pairs.same.tolist() == same
    assert levels(pairs.faces, pairs.first) == [0, 20, 40, 60, 80]
    assert levels(pairs.faces, pairs.second) == [10, 30, 50, 70, 90]


def test_validation_sets_of_python_2_are_read(tmp_path):
    images, same = pairs_of(4)
    images[1] = picture(10, "BMP")
    pairs = ins.read_bin(write_bin(tmp_path / "lfw.bin", python2_pickle(images, same)), size=SIZE, folds=2)
    assert pairs.faces.source.contents == tuple(images)
    assert pairs.same.tolist() == same


def test_sets_that_do_not_split_into_the_folds_have_one(tmp_path):
    assert ins.read_bin(write_bin(tmp_path / "a.bin", pairs_of(7))).folds == 1
    assert ins.read_bin(write_bin(tmp_path / "a.bin", pairs_of(20))).folds == 10


class Hostile:
    """Leaves a mark if a reader runs it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("place", ["alone", "image", "label", "key"])
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_what_would_run_code_is_refused_before_it_runs(tmp_path, place, protocol):
    images, same = pairs_of(2)
    hostile = Hostile(tmp_path / "ran")
    value = {
        "alone": hostile,
        "image": ([*images, hostile], same),
        "label": (images, [True, hostile]),
        "key": ({"a": hostile}, same),
    }[place]
    path = write_bin(tmp_path / "a.bin", value, protocol)
    with pytest.raises(safe_pickle.UnsafePickleError, match=r"a\.bin: the pickle asks for .*mkdir.* nothing was run"):
        ins.read_bin(path)
    assert not (tmp_path / "ran").exists()
    pickle.loads(path.read_bytes())  # the trap is a real one
    assert (tmp_path / "ran").exists()


IMAGES, SAME = pairs_of(2)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ((IMAGES, [1, 0]), "label 0 is a int, and 1 more; expected a pair of"),
        ((IMAGES, [True, None]), "label 1 is a NoneType"),
        ((["text", *IMAGES[1:]], SAME), "image 0 is a str"),
        (([*IMAGES[:3], [b"x"]], SAME), "image 3 is a list of 1"),
        (([*IMAGES[:3], bytearray(IMAGES[3])], SAME), "image 3 is a bytearray|asks for builtins.bytearray"),
        ((IMAGES[:3], SAME), r"3 images \(an odd number\) and 2 labels; expected two images for each label"),
        ((IMAGES, SAME[:1]), "4 images and 1 labels"),
        (([*IMAGES[:3], b""], SAME), r"1 images are empty \(0 bytes\): 3"),
        ((IMAGES, [True, True]), "all 2 pairs are same"),
        (([], []), "there are no images"),
        ((IMAGES, SAME, 3), "holds a tuple of 3; expected a pair of"),
        ({"images": IMAGES}, "holds a dict of 1"),
        ((IMAGES[0], SAME), "holds a tuple of 2"),
        (5, "holds a int"),
        (b"", "not a whole pickle"),
        (pickle.dumps(pairs_of(2))[:-50], "not a whole pickle"),
        (b"PK\x03\x04 a zip file", "not a whole pickle"),
        (pickle.dumps(pairs_of(2)) * 2, "expected one pickled object, found 2"),
    ],
    ids=lambda value: None if isinstance(value, str) else "value",
)
def test_anything_but_bytes_and_booleans_in_pairs_is_refused(tmp_path, value, message):
    with pytest.raises(ValueError, match=rf"a(\.bin)?: .*({message})"):
        ins.read_bin(write_bin(tmp_path / "a.bin", value))


def test_arrays_are_refused_as_images_and_as_labels(tmp_path):
    for value in ((IMAGES, np.array(SAME)), ([np.frombuffer(image, np.uint8) for image in IMAGES], SAME)):
        with pytest.raises(safe_pickle.UnsafePickleError, match=r"asks for .*numpy"):
            ins.read_bin(write_bin(tmp_path / "a.bin", value))


def test_large_and_absent_files_are_refused_unread(tmp_path):
    path = write_bin(tmp_path / "a.bin", pairs_of(2))
    with pytest.raises(ValueError, match="more than the 100 allowed"):
        ins.read_bin(path, max_bytes=100)
    with pytest.raises(FileNotFoundError, match=r"b\.bin: no such file"):
        ins.read_bin(tmp_path / "b.bin")


def test_lists_that_hold_themselves_are_refused(tmp_path):
    images = list(IMAGES)
    images[0] = images
    with pytest.raises(ValueError, match="image 0 is a list of 4"):
        ins.read_bin(write_bin(tmp_path / "a.bin", (images, SAME)))


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_hostile_pickles_never_run_and_end_in_pairs_or_a_named_error(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("bin")
    # Below the working folder: the name is part of the pickle, and hypothesis wants the same pickle every time.
    images, hostile = [b"a", b"b"] * 2, Hostile(Path("made_by_a_hostile_pickle"))
    plain = [pickle.dumps((images, SAME), protocol) for protocol in (0, 2, 4, 5)]
    traps = [pickle.dumps(([*images[:3], hostile], SAME), protocol) for protocol in (0, 2, 4)]
    good = data.draw(st.sampled_from([python2_pickle(images, SAME), *plain, *traps]))
    content = bytearray(good)
    for _ in range(data.draw(st.integers(0, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place : place + 1] = data.draw(st.binary(max_size=5))
        if not content:
            content = bytearray(b".")
    (folder / "a.bin").write_bytes(bytes(content))
    try:
        assert len(ins.read_bin(folder / "a.bin")) > 0
    except ValueError as error:
        if "a.bin: " not in str(error) and not str(error).startswith("a: "):
            raise
    assert not hostile.mark.exists()
