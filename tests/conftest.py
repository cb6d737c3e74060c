"""Shared by all tests: no window, one thread, outputs in a folder of their own."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import matplotlib
import numpy as np
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


@pytest.fixture(scope="session")
def spoken_digits() -> dict[str, dict[str, np.ndarray]]:
    """Three spoken digits with the features and voice activity of paper 03's authors, which are not part of the project; skips where they are absent."""
    folder = ROOT.parent / "shared" / "parity" / "voice_to_face"
    if not folder.is_dir():
        pytest.skip("recordings of spoken digits are not part of the project: no shared/parity/voice_to_face beside it")
    with (
        np.load(folder / "fsdd_audio_16k.npz") as audio,
        np.load(folder / "features.npz") as features,
        np.load(folder / "vad.npz") as activity,
    ):
        names = ("3_jackson_7", "7_nicolas_12", "9_theo_21")
        return {
            name: {
                "audio": audio[name],
                **{kind: features[f"{name}__{kind}"] for kind in ("raw", "norm")},
                "segments": activity[f"{name}__segments_frames"],
            }
            for name in names
        }


@pytest.fixture(autouse=True)
def _outputs_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAPER_UTILS_OUTPUT", str(tmp_path))
    monkeypatch.setenv("PAPER_UTILS_QUIET", "1")
