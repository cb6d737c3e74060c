"""Networks on disk: what is written comes back, no other file is taken for one of ours, and a file is not believed what it does not hold."""

import dataclasses
import json
import re
import tracemalloc
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from paper_utils import network_files
from paper_utils.network_files import ModelFileError, NetworkFile, config_of


@dataclasses.dataclass(frozen=True)
class Inner:
    name: Literal["one", "two"]
    rate: float


@dataclasses.dataclass(frozen=True)
class Outer:
    width: int
    layers: tuple[int, ...]
    pair: tuple[int, str] | None
    inner: Inner
    biased: bool
    label: str = "plain"

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"width: expected at least 1, found {self.width}")


OUTER = Outer(3, (4, 5), (6, "x"), Inner("two", 0.5), True)


def as_json(**changes) -> dict:
    return json.loads(json.dumps(dataclasses.asdict(OUTER))) | changes


def file_of(network: nn.Module, **about: str) -> NetworkFile:
    return NetworkFile("own.safetensors", about, network.state_dict())


def test_weights_and_words_come_back(tmp_path):
    network = nn.Linear(3, 2)
    path = tmp_path / "deeper" / "own.safetensors"
    network_files.save_networks(network, path, "own 1", {"sizes": "[3, 2]"})
    found = network_files.read_networks(path, "own 1")
    assert found.about == {"format": "own 1", "sizes": "[3, 2]"}
    assert torch.equal(found.state["weight"], network.weight)
    assert [file.name for file in path.parent.iterdir()] == ["own.safetensors"]
    read = found.network(lambda: nn.Linear(3, 2))
    assert torch.equal(read.weight, network.weight)
    assert not read.training


def test_other_files_are_named_and_refused(tmp_path):
    path = tmp_path / "own.safetensors"
    with pytest.raises(FileNotFoundError, match=re.escape(f"{path}: no such file; train first")):
        network_files.read_networks(path, "own 1", missing="train first")
    network_files.save_networks(nn.Linear(3, 2), path, "other 1", {})
    with pytest.raises(ModelFileError, match="expected a file of format 'own 1', found 'other 1'"):
        network_files.read_networks(path, "own 1")
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ModelFileError, match="truncated or no safetensors"):
        network_files.read_networks(path, "other 1")


# ----------------------------------------------------------------------------------------------------------- descriptions


def test_a_description_becomes_the_dataclass_that_it_was():
    file = file_of(nn.Linear(1, 1), sizes=json.dumps(dataclasses.asdict(OUTER)))
    assert file.config("sizes", Outer) == OUTER
    assert config_of(Outer, dataclasses.asdict(OUTER), "x") == OUTER  # tuples as they are, as in a checkpoint
    assert config_of(Outer, as_json(pair=None), "x") == dataclasses.replace(OUTER, pair=None)
    assert config_of(Inner, {"name": "one", "rate": 1}, "x").rate == 1  # JSON writes 1.0 of other programs as 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (None, "expected the fields of Outer, found NoneType"),
        ([1, 2], "expected the fields of Outer, found list"),
        ({}, "missing: 'width', 'layers', 'pair', 'inner', 'biased', ..."),
        (as_json(height=2), "unknown: 'height'"),
        ({n: v for n, v in as_json().items() if n != "label"}, "missing: 'label'"),
        (as_json(width="3"), r"width: expected int, found str '3'"),
        (as_json(width=True), "width: expected int, found bool True"),
        (as_json(width=3.0), "width: expected int, found float 3.0"),
        (as_json(width=10**30), "width: expected int, found int"),
        (as_json(width=0), "width: expected at least 1, found 0"),
        (as_json(layers=4), r"layers: expected tuple\[int, \.\.\.\], found int 4"),
        (as_json(layers=[4, None]), r"layers\[1\]: expected int, found NoneType"),
        (as_json(pair=[6]), r"pair: expected tuple\[int, str\], found list"),
        (as_json(pair=[6, 7]), r"pair\[1\]: expected str, found int 7"),
        (as_json(inner={"name": "three", "rate": 1.0}), r"inner.name: expected Literal\['one', 'two'\], found str 'three'"),
        (as_json(inner={"name": ["one"], "rate": 1.0}), r"inner.name: expected Literal\['one', 'two'\], found list"),
        (as_json(inner={"name": "one", "rate": float("nan")}), "inner.rate: expected float, found float nan"),
        (as_json(inner={"name": "one", "rate": 10**400}), "inner.rate: expected float, found int"),
        (as_json(inner={"name": "one"}), "inner: expected the fields of Inner; missing: 'rate'"),
        (as_json(biased=1), "biased: expected bool, found int 1"),
        (as_json(label="x" * 10**6, width="y" * 10**6), "width: expected int, found str 'yyy"),
    ],
)  # fmt: skip
def test_descriptions_of_another_form_are_named(fields, message):
    with pytest.raises(ModelFileError, match=f"^file: sizes.*{message}") as raised:
        config_of(Outer, fields, "file: sizes")
    assert len(str(raised.value)) < 400


def test_values_in_a_dictionary_are_looked_at_too():
    @dataclasses.dataclass(frozen=True)
    class Stored:
        state: dict[str, Tensor]
        rest: dict

    weight = torch.zeros(2)
    assert config_of(Stored, {"state": {"w": weight}, "rest": {1: 2}}, "x").state["w"] is weight
    with pytest.raises(ModelFileError, match=r"^x\.state\.w: expected Tensor, found int 3"):
        config_of(Stored, {"state": {"w": 3}, "rest": {}}, "x")
    with pytest.raises(ModelFileError, match=r"^x\.state: expected str, found int 3"):
        config_of(Stored, {"state": {3: weight}, "rest": {}}, "x")
    with pytest.raises(ModelFileError, match=r"^x\.rest: expected dict, found list"):
        config_of(Stored, {"state": {}, "rest": []}, "x")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[" * 200_000, "nested too deeply"),
        ('{"name": ' + "9" * 5000 + "}", "not valid JSON"),
        ("null", "expected the fields of Inner, found NoneType"),
        ('{"name": "one", "rate": 1e999}', "rate: expected float, found float inf"),
    ],
    ids=["empty", "cut", "nested", "digits", "null", "infinite"],
)
def test_entries_that_are_no_description_are_named(text, message):
    with pytest.raises(ModelFileError, match=f"own.safetensors: sizes.*{message}"):
        file_of(nn.Linear(1, 1), sizes=text).config("sizes", Inner)


def test_a_missing_entry_is_named():
    with pytest.raises(ModelFileError, match="its description lacks 'sizes', found 'more'"):
        file_of(nn.Linear(1, 1), more="1").config("sizes", Inner)


def test_words_are_taken_apart_or_refused():
    file = file_of(nn.Linear(1, 1), people="0 44", other="0 ٤٤")
    assert file.words("people", "([0-9]+) ([0-9]+)", "seed and size") == ("0", "44")
    with pytest.raises(ModelFileError, match=r"^own.safetensors: other: expected seed and size, found '0 ٤٤'"):
        file.words("other", "([0-9]+) ([0-9]+)", "seed and size")


@pytest.mark.parametrize("number", [0, -1, 11, 10**18, 0.5])
def test_numbers_that_no_weight_confirms_have_limits(number):
    file = file_of(nn.Linear(1, 1))
    file.check_range(1, 10, low=1, high=10)
    with pytest.raises(ModelFileError, match=f"^own.safetensors: side: expected 1 to 10, found {number}"):
        file.check_range(1, 10, low=1, side=number)


# --------------------------------------------------------------------------------------------------------------- networks


def deep(layers: int) -> nn.Module:
    return nn.Sequential(*(nn.Linear(1, 1) for _ in range(layers)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Linear(2, 2), r"do not fit the sizes that it names. 1 of another shape: weight \(network \(2, 2\), file \(2, 3\)\)"),
        (lambda: nn.Linear(3, 2, bias=False), "1 unexpected: bias"),
        (lambda: deep(1), "2 missing: 0.weight, 0.bias; 2 unexpected: weight, bias"),
        (lambda: nn.Linear(10**9, 10**6), "do not fit the sizes that it names"),
        (lambda: nn.Linear(10**18, 10**18), "make no network"),
        (lambda: nn.Linear(-1, 2), "make no network"),
        (lambda: deep(10**7), "many times more layers than the file has tensors"),
    ],
    ids=["width", "bias", "names", "terabytes", "overflow", "negative", "layers"],
)  # fmt: skip
def test_a_network_that_the_weights_do_not_fit_takes_neither_memory_nor_time(make, message):
    file = file_of(nn.Linear(3, 2))
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError, match=f"^own.safetensors: .*{message}"):
            file.network(make)
        assert tracemalloc.get_traced_memory()[1] < 5 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (torch.full((2, 3), torch.nan), "1 not finite: weight"),
        (torch.full((2, 3), 1e300, dtype=torch.float64), "1 not finite: weight"),
        (torch.zeros(2, 3, dtype=torch.complex64), r"1 of another kind: weight \(network torch.float32, file torch.complex64\)"),
    ],
)  # fmt: skip
def test_weights_that_are_no_finite_numbers_of_the_networks_kind_are_named(weight, message):
    file = NetworkFile("own.safetensors", {}, {"weight": weight, "bias": torch.zeros(2)})
    with pytest.raises(ModelFileError, match=message):
        file.network(lambda: nn.Linear(3, 2))


def test_a_deep_network_of_ours_is_within_the_limits():
    network = deep(500)
    assert torch.equal(file_of(network).network(lambda: deep(500))[499].weight, network[499].weight)
