"""Gestures for one's own recording: every kind of file has a defined result."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch

from paper_utils import gesture as cli
from paper_utils.methods import talkshow as ts
from paper_utils.nn.pixelcnn import PixelCnnConfig
from paper_utils.nn.quantizer import QuantizerConfig
from paper_utils.recipes import talkshow_files
from paper_utils.world.gesture_clips import FEATURES

RATE = 16_000


@pytest.fixture
def checkpoint(tmp_path):
    codebook = ts.CodebookConfig(8, 1, QuantizerConfig(codes=6, dim=3))
    grid = PixelCnnConfig(codes=6, width=8, layers=2, head=8, audio=4)
    prior = ts.Prior(ts.PriorConfig(grid, features=FEATURES, residual_layers=1), seed=0)
    face = ts.Regressor(ts.RegressorConfig(FEATURES, 103, 8, 2), seed=0)
    model = ts.TalkShow(ts.VqVae(39, codebook, seed=0), ts.VqVae(90, codebook, seed=1), prior, face)
    talkshow_files.save(model, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def written(tmp_path, seconds=1.0, level=0.1, rate=RATE):
    path = tmp_path / "voice.wav"
    soundfile.write(path, level * np.random.default_rng(0).standard_normal(round(rate * seconds)).clip(-3, 3), rate)
    return path


def run(checkpoint, recording, tmp_path, *more):
    motion = tmp_path / "motion.npy"
    code = cli.main(
        [
            str(recording),
            "--checkpoint",
            str(checkpoint),
            "--output",
            str(tmp_path / "film.gif"),
            "--motion",
            str(motion),
            *more,
        ]
    )
    return code, np.load(motion) if motion.exists() else None


def test_a_recording_becomes_a_film_and_frames_of_its_length(checkpoint, tmp_path):
    code, motion = run(checkpoint, written(tmp_path), tmp_path)
    assert code == 0
    assert motion.shape == (30, 265)
    assert (tmp_path / "film.gif").stat().st_size > 1000
    assert (tmp_path / "film.wav").is_file()


def test_another_rate_gives_as_many_frames_and_another_seed_other_gestures(checkpoint, tmp_path):
    _, plain = run(checkpoint, written(tmp_path, rate=22_050), tmp_path)
    assert len(plain) == 30
    _, again = run(checkpoint, written(tmp_path, rate=22_050), tmp_path)
    _, other = run(checkpoint, written(tmp_path, rate=22_050), tmp_path, "--seed", "7")
    assert np.array_equal(plain, again)
    assert not np.array_equal(plain, other)


def test_a_standing_speaker_stands(checkpoint, tmp_path):
    _, sitting = run(checkpoint, written(tmp_path), tmp_path)
    _, standing = run(checkpoint, written(tmp_path), tmp_path, "--speaker", "dov")
    assert sitting[0, 12] != 0
    assert standing[0, 12] == 0


@pytest.mark.parametrize(
    ("recording", "more", "message"),
    [
        ({"level": 0.0}, (), "the recording is silent"),
        ({"seconds": 61.0}, (), "has 61.0 s, expected at most 60 s"),
        ({"seconds": 0.02}, (), "at least 0.033 s"),
        ({"seconds": 0.08}, (), "expected at least the 4 frames of a code"),
        ({}, ("--speaker", "nobody"), "unknown nobody; expected one of asha"),
        ({}, ("--temperature", "0"), "expected a positive number"),
        ({}, ("--motion", "motion.txt"), "ends in .npy"),
    ],
)
def test_bad_input_is_named_and_nothing_is_written(checkpoint, tmp_path, capsys, recording, more, message):
    code, motion = run(checkpoint, written(tmp_path, **recording), tmp_path, *more)
    assert code == 2
    assert motion is None
    assert message in capsys.readouterr().err
    assert not (tmp_path / "film.gif").exists()


def test_missing_networks_are_asked_for_with_the_command(tmp_path, capsys):
    assert cli.main([str(written(tmp_path))]) == 2
    assert "python -m paper_utils.train 08 --only model" in capsys.readouterr().err


def test_frames_are_finite(checkpoint):
    samples = 0.1 * torch.randn(RATE, generator=torch.Generator().manual_seed(0))
    assert torch.isfinite(cli.gestures_of(talkshow_files.load(checkpoint), samples, 0)).all()
