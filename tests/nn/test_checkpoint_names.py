"""Foreign weights load only if every name and shape fits, and nothing in a file is run."""

import os

import pytest
import torch
from torch import nn

from paper_utils.nn.checkpoint_names import CheckpointNamesError, load_strictly, read_state, renamed


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}, lambda s: {"model": s}])
def test_states_are_read_bare_or_inside_a_checkpoint(tmp_path, wrap):
    state = nn.Linear(2, 3).state_dict()
    torch.save(wrap(state), tmp_path / "w.pt")
    found = read_state(tmp_path / "w.pt")
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], state[name]) for name in state)


class Hostile:
    def __reduce__(self):
        return os.system, ("touch " + str(self.marker),)


def test_a_hostile_file_is_refused_and_nothing_runs(tmp_path):
    hostile = Hostile()
    hostile.marker = tmp_path / "ran"
    torch.save({"state_dict": hostile}, tmp_path / "w.pt")
    with pytest.raises(CheckpointNamesError, match=r"asks for \w+\.system, which is no tensor.*plain.pt"):
        read_state(tmp_path / "w.pt")
    assert not hostile.marker.exists()


def test_files_that_hold_no_state_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.pt: no such file"):
        read_state(tmp_path / "absent.pt")
    (tmp_path / "cut.pt").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(CheckpointNamesError, match=r"cut.pt: not a whole file of tensors .* found 12 bytes"):
        read_state(tmp_path / "cut.pt")
    torch.save(torch.zeros(3), tmp_path / "one.pt")
    with pytest.raises(CheckpointNamesError, match="expected a state dictionary, found Tensor"):
        read_state(tmp_path / "one.pt")
    torch.save({"a": torch.zeros(1), "b": 3}, tmp_path / "odd.pt")
    with pytest.raises(CheckpointNamesError, match="1 entries are no named tensors: b"):
        read_state(tmp_path / "odd.pt")


def test_names_are_compared_part_by_part_and_the_longest_wins():
    state = {"a.x": torch.zeros(1), "a.b.x": torch.ones(1), "ab.x": torch.ones(2), "gone.y": torch.ones(3)}
    found = renamed(state, {"a": "one", "a.b": "two", "ab": "three"}, drop=["gone"])
    assert {name: len(value) for name, value in found.items()} == {"one.x": 1, "two.x": 1, "three.x": 2}
    with pytest.raises(CheckpointNamesError, match=r"1 names are not known: gone\.y"):
        renamed(state, {"a": "one", "ab": "three"})
    with pytest.raises(CheckpointNamesError, match=r"two tensors become one\.x"):
        renamed({"a.x": torch.zeros(1), "b.x": torch.zeros(1)}, {"a": "one", "b": "one"})
    assert renamed({"a.x": torch.zeros(1)}, {"a": ""}).keys() == {"x"}


def test_loading_lists_every_fault_and_changes_nothing():
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = {
        "0.weight": torch.zeros(2, 3), "0.bias": torch.tensor([0.0, float("nan")]), "1.weight": torch.zeros(2, 2), "2.bias": torch.zeros(2),
    }  # fmt: skip
    message = (
        r"w.pt: does not fit Sequential. 1 missing: 1.bias; 1 unexpected: 2.bias; 1 of another shape: 0.weight \(network \(2, 2\), "
        r"file \(2, 3\)\); 1 not finite: 0.bias"
    )
    with pytest.raises(CheckpointNamesError, match=message):
        load_strictly(network, state, "w.pt")
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    load_strictly(network, {name: value + 1 for name, value in before.items()})
    assert torch.equal(network[0].bias, before["0.bias"] + 1)
