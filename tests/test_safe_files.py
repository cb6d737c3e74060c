"""Text, JSON and arrays of strangers: whole ones are read, others refused with the file's name and what was expected."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import scipy.io
from fuzz import damages
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from paper_utils import safe_files
from paper_utils.safe_files import UnreadableFileError

ARRAYS = arrays_of.arrays(
    st.sampled_from(["f4", ">f8", "i8", "u2", "?", "c16", "S3", "U2"]), arrays_of.array_shapes(min_dims=0, min_side=0)
)


def same(one: np.ndarray, other: np.ndarray) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


@given(ARRAYS, st.booleans())
def test_arrays_that_numpy_writes_are_read_as_numpy_reads_them(tmp_path_factory, array, fortran):
    folder = tmp_path_factory.mktemp("arrays")
    array = np.asfortranarray(array) if fortran else array
    np.save(folder / "a.npy", array)
    for mmap in (False, True):
        assert same(safe_files.npy(folder / "a.npy", "an array", mmap=mmap), array)
    for save in (np.savez, np.savez_compressed):
        save(folder / "a.npz", one=array, two=np.arange(3))
        found = safe_files.npz(folder / "a.npz", "arrays")
        assert same(found["one"], array)
        assert safe_files.npz(folder / "a.npz", "arrays", names=("two", "three")).keys() == {"two"}
        assert safe_files.npz_names(folder / "a.npz", "arrays") == ("one", "two")


@pytest.mark.parametrize("compress", [False, True])
def test_matlab_files_are_read_as_scipy_reads_them(tmp_path, compress):
    path = tmp_path / "a.mat"
    content = {
        "numbers": np.arange(12.0).reshape(3, 4), "small": np.array([[7]], np.uint8), "text": np.array(["abc"]), "empty": np.zeros((0, 3)),
        "cells": np.array([[np.arange(3.0), "x"]], dtype=object), "model": {"a": np.eye(3), "b": {"c": np.arange(5)}}, "truth": np.array([[True]]),
        "complex": np.array([[1 + 2j]]), "wide": np.zeros((1, 100_000)),
    }  # fmt: skip
    scipy.io.savemat(path, content, do_compression=compress)
    ours, theirs = safe_files.mat(path, "arrays", names=tuple(content)), scipy.io.loadmat(path)
    assert ours.keys() == content.keys()
    for name in content:
        assert repr(ours[name]) == repr(theirs[name])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (damages.npz_bomb(), r"would unpack to 53687\d+; expected at most"),
        (damages.zip_that_lies("v.npy", damages.npy_header("(8,)") + bytes(64), 2**32 - 2), "would unpack to 4294967294"),
        (damages.zipped({"v.npy": damages.npy_header(f"({2**40},)") + bytes(64)}), "v: its header promises .*; found 64 bytes"),
        (damages.zipped({"v.npy": damages.npy_header("(1,)", "|O") + b"x"}), "v: holds pickled Python objects, which could run code"),
        (damages.zipped({"v.npy": damages.npy_header("(2,)", "|V4") + bytes(8)}), "plain numbers or text"),
        (b"PK", "2 bytes, not readable"),
    ],
)  # fmt: skip
def test_archives_that_are_larger_inside_than_they_can_be_are_refused(tmp_path, content, message):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(UnreadableFileError, match=rf"a\.npz: .*{message}"):
        safe_files.npz(tmp_path / "a.npz", "arrays")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (damages.mat_bomb(), r"would unpack to 53687\d+"),
        (damages.mat_of_cells(), r"an array \(2147483647, 1\) in \d+ bytes"),
        (
            damages.mat_header(b"\x0e\0\0\0\xf0\xff\xff\xff"),
            "an array of 4294967280 bytes at byte 136 goes beyond the end",
        ),
        (b"MATLAB 7.3", "no file of MATLAB 5 format"),
    ],
)
def test_matlab_files_that_promise_more_than_they_hold_are_refused(tmp_path, content, message):
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(UnreadableFileError, match=rf"a\.mat: .*{message}"):
        safe_files.mat(tmp_path / "a.mat", "arrays", names=("v",))


def test_sparse_matrices_of_matlab_are_refused(tmp_path):
    import scipy.sparse

    scipy.io.savemat(tmp_path / "a.mat", {"v": scipy.sparse.eye(3, format="csc")})
    with pytest.raises(UnreadableFileError, match="a sparse matrix; save it as a full one"):
        safe_files.mat(tmp_path / "a.mat", "arrays", names=("v",))


def test_texts_and_tables_are_read_or_their_line_is_named(tmp_path):
    path = tmp_path / "t.txt"
    path.write_bytes("\ufeffä 1\n".encode())
    assert safe_files.text(path, "words") == "ä 1\n"
    for data, message in [(b"a\nb\xff", "line 2 is not UTF-8"), (b"a\0", "line 1 holds a null character")]:
        path.write_bytes(data)
        with pytest.raises(UnreadableFileError, match=message):
            safe_files.text(path, "words")
    path.write_text("1 2 # comment\n\n3 nan\n")
    np.testing.assert_equal(safe_files.table(path, "numbers"), [[1, 2], [3, np.nan]])
    for text, message in [
        ("1 2\n3\n", "line 2 has 1 numbers"),
        ("1 x\n", "line 1: 'x' is no number"),
        ("1_0\n", "'1_0'"),
        ("١\n", "'١'"),
        ("# 1\n", "no numbers"),
    ]:
        path.write_text(text, encoding="utf-8")
        with pytest.raises(UnreadableFileError, match=message):
            safe_files.table(path, "numbers")
    with pytest.raises(FileNotFoundError, match="is a folder; expected words"):
        safe_files.text(tmp_path, "words")
    with pytest.raises(UnreadableFileError, match="more than the 3 allowed"):
        safe_files.text(path, "words", max_bytes=3)


@given(
    st.recursive(
        st.none() | st.integers(-(2**60), 2**60) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_json_is_read_and_nests_as_deeply_as_data_does(value):
    assert safe_files.json_of(json.dumps(value), "x", "JSON") == value


@pytest.mark.parametrize(
    ("text", "message"), [("[" * 100_000, "nested too deeply"), ("{", "not valid JSON"), ("9" * 5000, "not valid JSON")]
)
def test_json_that_is_no_data_is_refused(text, message):
    with pytest.raises(UnreadableFileError, match=rf"here: .*{message}"):
        safe_files.json_of(text, "here", "JSON")


def test_arrays_in_hdf5_lie_in_the_file_and_are_no_larger_than_it(tmp_path):
    h5py = pytest.importorskip("h5py")
    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        file["v"] = np.arange(3.0)
        file.create_dataset("huge", shape=(1 << 40,), chunks=(1 << 20,), dtype="f8")
        file["words"] = ["a", "b"]
        file["other"] = h5py.ExternalLink("other.h5", "/v")
    (tmp_path / "a.h5").write_bytes(out.getvalue())
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["v"] = np.arange(3.0)
    with h5py.File(tmp_path / "a.h5") as file:
        assert safe_files.h5(file, ["v", "none"], "arrays")["v"].tolist() == [0, 1, 2]
        for name, message in {
            "huge": "would unpack to 8796093022208",
            "words": "no array of numbers",
            "other": "lies in another file",
        }.items():
            with pytest.raises(UnreadableFileError, match=message):
                safe_files.h5(file, [name], "arrays")
