"""A face for one's own recording: every kind of file has a defined result."""

from __future__ import annotations

import math

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from paper_utils import voice_to_face as cli
from paper_utils.data.voice_features import FrontEnd
from paper_utils.methods import voice_to_face as v2f
from paper_utils.nn.voice_encoder import VoiceEncoder
from paper_utils.studies.voice_to_face import model_path

RATE = 16_000


@pytest.fixture
def checkpoint(tmp_path):
    sizes = v2f.Sizes(voice=(8, 8, 8, 8), generator=(8, 8), face=(8, 8))
    encoder = VoiceEncoder(sizes.bands, sizes.dim, channels=sizes.voice, seed=1)
    generator = v2f.Generator(sizes, seed=2)
    v2f.rectified_weights_(generator, torch.Generator().manual_seed(0))
    path = tmp_path / "model.safetensors"
    v2f.save(v2f.Reconstructor(encoder, generator, sizes, FrontEnd("world", minimum=100)), path)
    return path


def spoken(seconds=2.0, rate=RATE):
    """Harmonic bursts in weak noise."""
    time = np.arange(round(rate * seconds)) / rate
    voice = sum(np.sin(2 * np.pi * 120 * k * time) / k for k in range(1, 20))
    noise = np.random.default_rng(0).standard_normal(len(time))
    return 0.1 * voice * (np.sin(2 * np.pi * 1.5 * time) > 0) + 1e-3 * noise


def run(checkpoint, recording, tmp_path, *more):
    picture = tmp_path / "face.png"
    code = cli.main([str(recording), "--checkpoint", str(checkpoint), "--output", str(picture), *more])
    return code, np.asarray(Image.open(picture)).astype(int) if picture.exists() else None


def written(tmp_path, samples, rate=RATE, subtype="PCM_16"):
    path = tmp_path / "voice.wav"
    soundfile.write(path, samples, rate, subtype=subtype)
    return path


@pytest.fixture
def plain(checkpoint, tmp_path):
    """Picture for 16 kHz, mono, 16 bits."""
    code, picture = run(checkpoint, written(tmp_path, spoken()), tmp_path)
    assert code == 0
    return picture


def test_a_picture_of_at_least_256_pixels_is_written_with_a_caution(checkpoint, tmp_path, capsys):
    code, picture = run(checkpoint, written(tmp_path, spoken()), tmp_path)
    assert code == 0
    assert picture.shape == (256, 256, 3)
    assert np.array_equal(picture, picture[::32, ::32].repeat(32, 0).repeat(32, 1))
    assert "not a picture of the speaker" in capsys.readouterr().out


@pytest.mark.parametrize("subtype", ["PCM_24", "FLOAT", "PCM_32"])
def test_other_sample_formats_give_the_same_face(subtype, plain, checkpoint, tmp_path):
    code, picture = run(checkpoint, written(tmp_path, spoken(), subtype=subtype), tmp_path)
    assert code == 0
    assert np.abs(picture - plain).max() <= 2


def test_stereo_is_averaged(plain, checkpoint, tmp_path):
    both = np.stack([1.5 * spoken(), 0.5 * spoken()], axis=1)
    code, picture = run(checkpoint, written(tmp_path, both), tmp_path)
    assert code == 0
    assert np.abs(picture - plain).max() <= 2


@pytest.mark.parametrize("rate", [8000, 44_100])
def test_other_rates_are_resampled(rate, checkpoint, tmp_path):
    code, picture = run(checkpoint, written(tmp_path, spoken(rate=rate), rate), tmp_path)
    assert code == 0
    assert picture is not None


def test_full_contrast_on_demand(checkpoint, tmp_path):
    _, picture = run(checkpoint, written(tmp_path, spoken()), tmp_path, "--stretch")
    assert (picture.min(), picture.max()) == (0, 255)


@pytest.mark.parametrize(
    ("samples", "subtype", "message"),
    [
        (np.zeros(0), "PCM_16", "holds no samples"),
        (np.zeros(2 * RATE), "PCM_16", "no speech, found 0.00 s"),
        (spoken(0.1), "PCM_16", "no speech, found"),
        (np.full(RATE, math.nan), "FLOAT", "16000 of 16000 samples are NaN"),
    ],
    ids=["empty", "silent", "a tenth of a second", "NaN"],
)
def test_recordings_without_a_voice_are_named_and_nothing_is_written(
    samples, subtype, message, checkpoint, tmp_path, capsys
):
    code, picture = run(checkpoint, written(tmp_path, samples, subtype=subtype), tmp_path)
    assert (code, picture) == (2, None)
    error = capsys.readouterr().err
    assert message in error
    assert "voice.wav" in error


def test_what_is_no_recording_is_named(checkpoint, tmp_path, capsys):
    text = tmp_path / "notes.wav"
    text.write_text("not sound" * 100)
    assert run(checkpoint, text, tmp_path)[0] == 2
    assert run(checkpoint, tmp_path / "nowhere.wav", tmp_path)[0] == 2
    error = capsys.readouterr().err
    assert "notes.wav: not readable as audio" in error
    assert "nowhere.wav: no such audio file" in error


def test_silence_is_kept_where_voice_activity_is_off(checkpoint, tmp_path):
    code, picture = run(checkpoint, written(tmp_path, np.zeros(RATE)), tmp_path, "--activity", "none")
    assert code == 0
    assert picture is not None


def test_without_trained_networks_it_says_how_to_train_them(tmp_path, capsys):
    assert cli.main([str(written(tmp_path, spoken()))]) == 2
    assert "paper_utils.train 03 --only linked" in capsys.readouterr().err


def test_networks_of_the_notebook_are_the_default(checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model_path().parent.mkdir(parents=True)
    model_path().write_bytes(checkpoint.read_bytes())
    assert cli.main([str(written(tmp_path, spoken()))]) == 0
    assert (tmp_path / "voice_face.png").exists()


def test_official_checkpoints_can_be_used(checkpoint, tmp_path):
    model = v2f.load(checkpoint)
    paths = [tmp_path / "voice_embedding.pth", tmp_path / "generator.pth"]
    for network, path in zip((model.voice, model.generator), paths, strict=True):
        torch.save(network.state_dict(), path)
    picture = tmp_path / "official.png"
    arguments = [str(written(tmp_path, spoken())), "--official", *map(str, paths), "--output", str(picture)]
    assert cli.main([*arguments, "--activity", "energy"]) == 0
    assert picture.exists()


@pytest.mark.parametrize(
    ("more", "message"), [(["--output", "face.jpg"], "ends in .png"), (["--activity", "loud"], "must be one of energy")]
)
def test_wrong_arguments_are_named(more, message, checkpoint, tmp_path, capsys):
    assert cli.main([str(written(tmp_path, spoken())), "--checkpoint", str(checkpoint), *more]) == 2
    assert message in capsys.readouterr().err


def test_other_files_are_no_networks(tmp_path, capsys):
    recording = written(tmp_path, spoken())
    assert cli.main([str(recording), "--checkpoint", str(recording)]) == 2
    assert "no safetensors file" in capsys.readouterr().err
