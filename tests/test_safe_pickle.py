"""What is harmless comes back as it was, what is not is named and never runs."""

from __future__ import annotations

import contextlib
import datetime
import os
import pickle
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse

from paper_utils import safe_pickle as sp

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=8) | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.tuples(inner, inner) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


def write(folder: Path, content: bytes, name: str = "data.pkl") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def same(first, second) -> bool:
    if isinstance(second, np.ndarray):
        return first.dtype == second.dtype and first.shape == second.shape and (first == second).all()
    return type(first) is type(second) and first == second


class Calls:
    """Pickles as a call of any function."""

    def __init__(self, function, *arguments, state=None):
        self.reduced = (function, arguments, state)

    def __reduce__(self):
        return self.reduced


# ------------------------------------------------------------------------------------------------------ round trips


@given(content=plain, protocol=st.sampled_from(PROTOCOLS))
@settings(max_examples=60, deadline=None)
def test_plain_data_comes_back_as_ordinary_pickle_gives_it(content, protocol, tmp_path_factory):
    stored = pickle.dumps(content, protocol=protocol)
    path = write(tmp_path_factory.mktemp("pickle"), stored)
    assert same(sp.load(path, allowed=sp.ARRAYS), content)


@given(
    array=hnp.arrays(
        st.sampled_from(["<f8", ">f4", "<i4", "u1", "?", "<c8", "<U3", "S2"]), hnp.array_shapes(min_dims=0, min_side=0)
    ),
    protocol=st.sampled_from(PROTOCOLS),
    transpose=st.booleans(),
)
@settings(max_examples=80, deadline=None)
def test_arrays_of_all_plain_types_come_back(array, protocol, transpose, tmp_path_factory):
    array = array.T if transpose else array
    path = write(tmp_path_factory.mktemp("pickle"), pickle.dumps({"a": array}, protocol=protocol))
    found = sp.load(path, allowed=sp.NUMPY)["a"]
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)
    found.flat[:] = found.flat[:]  # writable, as numpy's own


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_scalars_sets_sparse_and_object_arrays_come_back(protocol, tmp_path):
    matrix = sparse.csc_matrix(np.array([[0, 2.5, 0], [1, 0, 0]]))
    objects = np.array([{"x": np.arange(3)}, None], dtype=object)
    content = {"scalar": np.float32(1.5), "set": {1, 2}, "matrix": matrix, "objects": objects}
    found = sp.load(write(tmp_path, pickle.dumps(content, protocol=protocol)), allowed=sp.ARRAYS)
    assert same(found["scalar"], np.float32(1.5))
    assert found["set"] == {1, 2}
    np.testing.assert_array_equal(found["matrix"].toarray(), matrix.toarray())
    np.testing.assert_array_equal(found["objects"][0]["x"], np.arange(3))


def test_one_object_referred_to_twice_stays_one(tmp_path):
    shared = [np.arange(3)]
    found = sp.load(write(tmp_path, pickle.dumps([shared, shared])), allowed=sp.ARRAYS)
    assert found[0] is found[1]
    cycle: list = [1]
    cycle.append(cycle)
    found = sp.load(write(tmp_path, pickle.dumps(cycle)), allowed=sp.ARRAYS)
    assert found[1] is found


def test_several_pickles_in_a_row_are_read_in_order(tmp_path):
    parts = [3, ["a.mp4"], {"fps": "25/1"}]
    path = write(tmp_path, b"".join(map(pickle.dumps, parts)))
    assert sp.load_all(path, allowed={}) == parts
    with pytest.raises(ValueError, match="expected one pickled object, found 3; read them with load_all"):
        sp.load(path, allowed={})


def test_the_caller_decides_what_a_class_becomes(tmp_path):
    path = write(tmp_path, pickle.dumps(Path("M003") / "front.mp4"))
    name = f"{type(Path()).__module__}.{type(Path()).__name__}"
    with pytest.raises(sp.UnsafePickleError, match=r"PosixPath|WindowsPath"):
        sp.load(path, allowed=sp.ARRAYS)
    assert sp.load(path, allowed=sp.ARRAYS | {name: lambda parts, _: "/".join(parts)}) == "M003/front.mp4"


@pytest.mark.parametrize("file", ["flame_fixture.pkl", "flame_fixture_chumpy.pkl"])
def test_files_as_python_2_wrote_them_give_the_reference_arrays(reference, file):
    found = sp.load(reference / "flame" / file, allowed=sp.ARRAYS)
    with np.load(reference / "flame" / "flame_fixture_plain.npz") as expected:
        for key in expected.files:
            value = found[key].toarray() if sparse.issparse(found[key]) else np.asarray(found[key])
            assert same(value, expected[key]), key


def test_bytes_of_python_2_strings_make_arrays(tmp_path):
    # An int16 array as Python 2 stored it: its bytes are an 8-bit string (opcode U).
    old = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02i2K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x04\x01\x00\xff\xfftb."
    )
    assert same(sp.load(write(tmp_path, old), allowed=sp.NUMPY), np.array([1, -1], dtype="<i2"))


def test_oldest_protocol_objects_are_chumpy_leaves_or_refused(tmp_path):
    begin, end = b"ccopy_reg\n_reconstructor\n(cchumpy.ch\nCh\nc__builtin__\nobject\nNtR", b"b."
    leaf = pickle.dumps({"x": 2}, protocol=0)[:-1]
    assert float(sp.load(write(tmp_path, begin + leaf + end), allowed=sp.ARRAYS)) == 2.0
    foreign = begin.replace(b"chumpy.ch\nCh", b"numpy\nndarray")
    with pytest.raises(ValueError, match=r"_reconstructor of numpy.ndarray: expected a chumpy or scipy array"):
        sp.load(write(tmp_path, foreign + leaf + end), allowed=sp.ARRAYS)


def test_npy_files_with_and_without_a_pickle(tmp_path):
    np.save(tmp_path / "plain.npy", np.arange(4.0))
    assert same(sp.load_npy(tmp_path / "plain.npy", allowed=sp.NUMPY), np.arange(4.0))
    np.save(tmp_path / "dict.npy", {"a": np.arange(2)}, allow_pickle=True)
    assert sp.load_npy(tmp_path / "dict.npy", allowed=sp.NUMPY)["a"].tolist() == [0, 1]
    np.save(tmp_path / "list.npy", np.array([None, "b"], dtype=object), allow_pickle=True)
    assert sp.load_npy(tmp_path / "list.npy", allowed=sp.NUMPY).tolist() == [None, "b"]
    np.save(tmp_path / "evil.npy", np.array([Calls(os.system, "true")], dtype=object), allow_pickle=True)
    with pytest.raises(sp.UnsafePickleError, match=r"evil.npy: .*system"):
        sp.load_npy(tmp_path / "evil.npy", allowed=sp.NUMPY)
    with pytest.raises(ValueError, match=r"other.npy: not a readable .npy file"):
        sp.load_npy(write(tmp_path, b"\x93NUMPY\x01\x00", "other.npy"), allowed=sp.NUMPY)
    header = (tmp_path / "dict.npy").read_bytes()[:128]
    with pytest.raises(ValueError, match=r"promises an array of shape \(\), the pickle holds a int"):
        sp.load_npy(write(tmp_path, header + pickle.dumps(3), "int.npy"), allowed=sp.NUMPY)


# ---------------------------------------------------------------------------------------------------------- attacks


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_call_of_the_shell_is_named_and_never_made(protocol, tmp_path):
    mark = tmp_path / "ran"
    path = write(tmp_path, pickle.dumps([1, {"k": Calls(os.system, f"touch {mark}")}], protocol=protocol))
    with pytest.raises(
        sp.UnsafePickleError, match=rf"data.pkl: the pickle asks for {os.name}.system, .* nothing was run"
    ):
        sp.load(path, allowed=sp.ARRAYS)
    assert not mark.exists()


def test_harmless_names_do_not_run_either_when_one_is_refused(tmp_path):
    made = []
    allowed = {"builtins.set": lambda args, _: made.append(args)}
    path = write(tmp_path, pickle.dumps([Calls(set, [1]), Calls(os.getcwd)], protocol=4))
    with pytest.raises(sp.UnsafePickleError, match=r"getcwd"):
        sp.load(path, allowed=allowed)
    assert made == []


def test_all_refused_names_are_listed_once(tmp_path):
    content = [Calls(os.getpid), Calls(os.getpid), Calls(eval, "1"), datetime.date(2020, 1, 1)]
    with pytest.raises(sp.UnsafePickleError, match=r"asks for builtins.eval, datetime.date, posix.getpid, which"):
        sp.load(write(tmp_path, pickle.dumps(content, protocol=4)), allowed=sp.ARRAYS)


@pytest.mark.parametrize(
    "program",
    [
        b"cos\nsystem\n(S'true'\ntR.",  # GLOBAL and REDUCE
        b"(S'true'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nS'true'\no.",  # OBJ
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",  # STACK_GLOBAL
        b"\x80\x02cos\nsystem\nU\x04true\x85\x81.",  # NEWOBJ
        b"cos\nsystem\n}b.",  # BUILD on the function itself
        b"cos.path\n__builtins__.eval\n(S'1'\ntR.",  # dotted name
        b"\x80\x02cos\nsystem\nN\x8a\x01\x01.",  # only named, stack left over
    ],
)
def test_every_opcode_that_can_name_something_is_stopped(program, tmp_path):
    with pytest.raises(sp.UnsafePickleError, match=r"asks for os\.(system|path\.__builtins__\.eval)"):
        sp.load(write(tmp_path, program), allowed=sp.ARRAYS)


@pytest.mark.parametrize("program", [b"P1\n.", b"\x80\x02U\x01aQ.", b"\x80\x02\x82\x01.", b"\x80\x05\x97."])
def test_references_outside_the_file_are_refused(program, tmp_path):
    with pytest.raises(sp.UnsafePickleError, match="refers outside the file"):
        sp.load(write(tmp_path, program), allowed=sp.ARRAYS)


def test_allowed_names_cannot_be_changed_from_inside_the_pickle(tmp_path):
    # BUILD with a state on the class object itself tries to overwrite its attributes.
    attack = b"\x80\x02cnumpy\ndtype\n}U\x08__init__NsbU\x02f4\x85R."
    with pytest.raises(ValueError, match="not a readable pickle"):
        sp.load(write(tmp_path, attack), allowed=sp.ARRAYS)
    assert same(sp.load(write(tmp_path, pickle.dumps(np.arange(2.0))), allowed=sp.NUMPY), np.arange(2.0))


@pytest.mark.parametrize(
    ("program", "error", "message"),
    [
        (b"\x80\x02N" + b"r" + struct.pack("<I", 2**31) + b".", sp.UnsafePickleError, "memo slot 2147483648 .* memory bomb"),
        (b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"x.", ValueError, "not a whole pickle"),
        (b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"x.", ValueError, "not a whole pickle"),
        (b"\x80\x04\x95" + struct.pack("<Q", 2**40) + b"N.", ValueError, "frame of 1099511627776 bytes"),
        (b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b".", ValueError, "nested too deeply"),
    ],
)  # fmt: skip
def test_memory_bombs_are_stopped_before_memory_is_claimed(program, error, message, tmp_path):
    path = write(tmp_path, program)
    tracemalloc.start()
    with pytest.raises(error, match=message):
        sp.load(path, allowed=sp.ARRAYS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6


def test_an_array_larger_than_its_bytes_is_refused(tmp_path):
    class Huge:
        def __reduce__(self):
            reconstruct, args, state = np.arange(2.0).__reduce__()
            return reconstruct, args, (state[0], (10**12,), *state[2:])

    class Reconstructed:
        def __reduce__(self):
            return np.arange(2.0).__reduce__()[0], (np.ndarray, (10**12,), b"b")

    class Nothing:
        def __reduce__(self):
            reconstruct, args, state = np.zeros(0, "S1").__reduce__()
            return reconstruct, args, (state[0], (10**12,), np.dtype("S0"), False, b"")

    for content, message in [
        (Huge(), "expected 8000000000000 bytes, found 16"),
        (Reconstructed(), "not stored as numpy stores arrays"),
        (Nothing(), "its content is a bytes"),
    ]:
        with pytest.raises(ValueError, match=message):
            sp.load(write(tmp_path, pickle.dumps(content)), allowed=sp.NUMPY)


def test_files_above_the_limit_are_refused_unread(tmp_path):
    path = write(tmp_path, pickle.dumps(bytes(1000)))
    with pytest.raises(ValueError, match=r"more than the 500 allowed; raise max_bytes"):
        sp.load(path, allowed={}, max_bytes=500)


# ----------------------------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.zeros(2, dtype=[("a", "f4")]), "no structured type"),
        (np.array(["2020-01-01"], dtype="M8[D]"), "expected plain numbers"),
    ],
)
def test_array_types_beyond_plain_ones_are_refused(content, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        sp.load(write(tmp_path, pickle.dumps(content)), allowed=sp.NUMPY)


def test_composite_chumpy_objects_are_refused_with_a_hint(tmp_path):
    composite = b"\x80\x02cchumpy.ch\nCh\n)\x81}U\x01aK\x01sb."
    with pytest.raises(
        ValueError, match=r"data.pkl: a chumpy object without stored values .* plain array in the environment"
    ):
        sp.load(write(tmp_path, composite), allowed=sp.ARRAYS)
    operation = b"\x80\x02cchumpy.reordering\nSelect\n)\x81}b."
    with pytest.raises(sp.UnsafePickleError, match=r"chumpy.reordering.Select, .* environment they were made in"):
        sp.load(write(tmp_path, operation), allowed=sp.ARRAYS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a whole pickle"),
        (b"hello world, this is text", "not a whole pickle"),
        (pickle.dumps({"a": np.arange(100.0)})[:-50], "not a whole pickle .* download complete"),
        (pickle.dumps(1) + b"rest", "not a whole pickle"),
        (b"\x80\x02a.", "not a readable pickle"),
        (b"\x80\x02cscipy.sparse.csc\ncsc_matrix\n)\x81}b.", "a sparse matrix without data"),
        (b"\x80\x02c_codecs\nencode\nU\x01a\x85R.", "string to be encoded in latin1"),
        (b"\x80\x02cnumpy\nndarray\n)R.", "a class is called that may only be named"),
    ],
)
def test_broken_files_are_named(content, message, tmp_path):
    with pytest.raises(ValueError, match=message) as caught:
        sp.load(write(tmp_path, content), allowed=sp.ARRAYS)
    assert "data.pkl" in str(caught.value)
    assert not isinstance(caught.value, sp.UnsafePickleError)


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent.pkl: no such file; expected a pickle"):
        sp.load(tmp_path / "absent.pkl", allowed={})


@given(position=st.integers(0, 10**6), byte=st.integers(0, 255), protocol=st.sampled_from(PROTOCOLS))
@settings(max_examples=150, deadline=None)
def test_a_spoilt_byte_gives_data_or_a_value_error_and_nothing_else(position, byte, protocol, tmp_path_factory):
    content = {"a": np.arange(4.0), "m": sparse.csc_matrix(np.eye(2)), "s": {1}, "t": (1, "x", None)}
    stored = bytearray(pickle.dumps(content, protocol=protocol))
    stored[position % len(stored)] = byte
    path = write(tmp_path_factory.mktemp("pickle"), bytes(stored))
    with contextlib.suppress(ValueError):  # any other kind, or a crash, fails the test
        sp.load(path, allowed=sp.ARRAYS)
