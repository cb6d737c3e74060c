"""Networks on disk: what is written comes back, and no other file is taken for one of ours."""

import re

import pytest
import torch
from torch import nn

from paper_utils import network_files


def test_weights_and_words_come_back(tmp_path):
    network = nn.Linear(3, 2)
    path = tmp_path / "deeper" / "own.safetensors"
    network_files.save_networks(network, path, "own 1", {"sizes": "[3, 2]"})
    about, state = network_files.read_networks(path, "own 1")
    assert about == {"format": "own 1", "sizes": "[3, 2]"}
    assert torch.equal(state["weight"], network.weight)
    assert [file.name for file in path.parent.iterdir()] == ["own.safetensors"]


def test_other_files_are_named_and_refused(tmp_path):
    path = tmp_path / "own.safetensors"
    with pytest.raises(FileNotFoundError, match=re.escape(f"{path}: no such file; train first")):
        network_files.read_networks(path, "own 1", missing="train first")
    network_files.save_networks(nn.Linear(3, 2), path, "other 1", {})
    with pytest.raises(network_files.ModelFileError, match="expected a file of format 'own 1', found 'other 1'"):
        network_files.read_networks(path, "own 1")
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(network_files.ModelFileError, match="truncated or no safetensors"):
        network_files.read_networks(path, "other 1")
