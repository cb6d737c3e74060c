"""Shared by all tests: no window, one thread, outputs in a folder of their own."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import matplotlib
import pytest
import torch

matplotlib.use("Agg")
torch.set_num_threads(1)
# The same examples on every machine and every day; HYPOTHESIS_PROFILE=default looks for new ones.
hypothesis.settings.register_profile("same", derandomize=True, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

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
