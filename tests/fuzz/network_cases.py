"""Readers of trained networks: torch checkpoints in both of torch's forms, and safetensors."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import torch
from fuzz.cases import Case
from scipy import sparse
from torch import nn

from paper_utils import network_files, safe_checkpoints, safe_pickle
from paper_utils.nn import checkpoint_names, official_weights
from paper_utils.nn.backbones import build_backbone

SMALL = {"channels": (2, 3, 4, 5), "features": 6, "image_size": (32, 32)}


def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).state_dict()


def old_and_new(folder: Path) -> None:
    torch.save({"state_dict": state(), "epoch": 3}, folder / "new.pth")
    torch.save(state(), folder / "old.pth", _use_new_zipfile_serialization=False)


def own(folder: Path) -> None:
    network_files.save_networks(
        nn.Linear(3, 2), folder / "own.safetensors", "own 1", {"sizes": json.dumps({"width": 3})}
    )


def official(folder: Path) -> None:
    backbone = {
        f"module.{name}": value for name, value in build_backbone("sfnet10", branch="v0", **SMALL).state_dict().items()
    }
    torch.save(backbone, folder / "backbone_7.pth")
    torch.save({"module.w": torch.ones(6, 5)}, folder / "head_7.pth")


def pickles(folder: Path) -> None:
    content = {
        "a": np.arange(6.0).reshape(2, 3),
        "b": ["x", 1, None],
        "c": sparse.csc_matrix(np.eye(3)),
        "d": np.float64(2),
        "e": {1, 2},
    }
    (folder / "arrays.pkl").write_bytes(pickle.dumps(content, protocol=2) + pickle.dumps(3, protocol=2))
    np.save(folder / "object.npy", {"a": np.arange(3)}, allow_pickle=True)


def read_pickles(folder: Path) -> None:
    safe_pickle.load_all(folder / "arrays.pkl", allowed=safe_pickle.ARRAYS)
    safe_pickle.load_npy(folder / "object.npy", allowed=safe_pickle.ARRAYS)


CASES = (
    Case("pickles", pickles, read_pickles, ("arrays.pkl", "object.npy"), ("safe_pickle.load_all", "safe_pickle.load_npy")),

    Case("checkpoint", old_and_new, lambda f: checkpoint_names.read_state(f / "new.pth"), ("new.pth",),
         ("nn.checkpoint_names.read_state", "safe_checkpoints.load")),
    Case("old_checkpoint", old_and_new, lambda f: safe_checkpoints.load(f / "old.pth"), ("old.pth",), ()),
    Case("own_networks", own, lambda f: network_files.read_networks(f / "own.safetensors", "own 1"), ("own.safetensors",),
         ("network_files.read_networks",)),
    Case("official_weights", official, lambda f: official_weights.load_backbone("sfnet10", f / "backbone_7.pth", **SMALL), ("backbone_7.pth", "head_7.pth"),
         ("nn.official_weights.read_checkpoint", "nn.official_weights.load_backbone")),
)  # fmt: skip
