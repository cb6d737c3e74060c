"""Shared by all tests: no window, one thread, outputs in a folder of their own."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import pytest
import torch

matplotlib.use("Agg")
torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def root() -> Path:
    """The project's folder."""
    return ROOT


@pytest.fixture
def reference() -> Path:
    """Small reference arrays; each folder's README says where they come from."""
    return ROOT / "tests" / "reference"


@pytest.fixture(autouse=True)
def _outputs_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAPER_UTILS_OUTPUT", str(tmp_path))
    monkeypatch.setenv("PAPER_UTILS_QUIET", "1")
