"""A film for one's own recording: every kind of file has a defined result."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from paper_utils import animate as cli
from paper_utils import experiment, training
from paper_utils.studies import meshtalk as study

RATE = 16_000


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAPER_UTILS_OUTPUT", str(tmp_path_factory.mktemp("output")))
        made = study.Study(experiment.start("04", profile="smoke"), training.launch("cpu"))
        path = tmp_path_factory.mktemp("speaker") / "speaker.pt"
        study.save_speaker(made, path)
        return path


def spoken(seconds=1.2, rate=RATE):
    """Harmonic bursts in weak noise."""
    time = np.arange(round(rate * seconds)) / rate
    voice = sum(np.sin(2 * np.pi * 120 * k * time) / k for k in range(1, 20))
    return 0.1 * voice * (np.sin(2 * np.pi * 2 * time) > 0) + 1e-3 * np.random.default_rng(0).standard_normal(len(time))


def run(checkpoint, folder, samples, *more, rate=RATE, output="face.gif"):
    soundfile.write(folder / "voice.wav", samples, rate)
    given = [
        str(folder / "voice.wav"),
        "--checkpoint",
        str(checkpoint),
        "--output",
        str(folder / output),
        "--size",
        "48",
    ]
    return cli.main([*given, *more])


def test_a_recording_becomes_a_film_with_its_sound_beside_it(checkpoint, tmp_path, capsys):
    assert run(checkpoint, tmp_path, spoken()) == 0
    with Image.open(tmp_path / "face.gif") as film:
        assert film.size == (48, 48)
        assert film.n_frames > 5
    assert soundfile.info(tmp_path / "face.wav").duration == pytest.approx(1.2, abs=0.05)
    assert "face.gif" in capsys.readouterr().out


def test_mp4_holds_frames_of_the_networks_rate(checkpoint, tmp_path):
    av = pytest.importorskip("av")
    assert run(checkpoint, tmp_path, spoken(), output="face.mp4") == 0
    with av.open(str(tmp_path / "face.mp4")) as container:
        assert float(container.streams.video[0].average_rate) == pytest.approx(30.0)
        assert len(container.streams.audio) == 1


def test_the_speaker_fed_in_pieces_says_what_the_method_says(checkpoint):
    file = study.load_speaker(checkpoint)
    talker = cli.Talker(file.networks, file.templates[0], file.faces, file.heads[0])
    samples = torch.from_numpy(spoken()).float()
    meshes = cli.speak(talker, samples, None)
    whole = cli.meshtalk.animate(file.networks, samples[None], file.templates[:1], sample_rate=RATE)[0]
    torch.testing.assert_close(meshes, whole, atol=1e-3, rtol=0)
    assert talker.shown(meshes).shape[1:] == file.heads[0].shape


def test_another_rate_is_resampled_with_a_note_and_short_sound_is_named(checkpoint, tmp_path, capsys):
    assert run(checkpoint, tmp_path, spoken(rate=44_100), rate=44_100) == 0
    assert "expected 16000 Hz, found 44100 Hz; resampled" in capsys.readouterr().out
    assert run(checkpoint, tmp_path, spoken(0.2)) == 0
    assert "shorter than one window" in capsys.readouterr().out
    assert run(checkpoint, tmp_path, spoken(0.02)) == 2
    assert "no video frame" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--person", "99"), "--person: expected 0 to 3, found 99"),
        (("--official", "nowhere"), "give --assets"),
    ],
)
def test_wrong_arguments_are_named(checkpoint, tmp_path, capsys, arguments, message):
    assert run(checkpoint, tmp_path, spoken(), *arguments) == 2
    assert message in capsys.readouterr().err


def test_silence_a_missing_file_and_a_wrong_suffix_are_named(checkpoint, tmp_path, capsys):
    assert run(checkpoint, tmp_path, np.zeros(RATE)) == 2
    assert "is it silence?" in capsys.readouterr().err
    assert cli.main([str(tmp_path / "none.wav"), "--checkpoint", str(checkpoint)]) == 2
    assert "none.wav" in capsys.readouterr().err
    assert run(checkpoint, tmp_path, spoken(), output="face.avi") == 2
    assert "ends in .mp4 or .gif" in capsys.readouterr().err


def test_without_trained_networks_the_message_says_how_to_train(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PAPER_UTILS_OUTPUT", str(tmp_path))
    soundfile.write(tmp_path / "voice.wav", spoken(), RATE)
    assert cli.main([str(tmp_path / "voice.wav")]) == 2
    assert "python -m paper_utils.train 04 --only 'step 2'" in capsys.readouterr().err


def test_a_damaged_checkpoint_is_named(checkpoint, tmp_path, capsys):
    (tmp_path / "broken.pt").write_bytes(checkpoint.read_bytes()[:5000])
    assert run(tmp_path / "broken.pt", tmp_path, spoken()) == 1
    assert "broken.pt" in capsys.readouterr().err


def test_another_seed_gives_another_face_and_greedy_needs_none(checkpoint):
    file = study.load_speaker(checkpoint)
    talker = cli.Talker(file.networks, file.templates[0], file.faces)
    samples = torch.from_numpy(spoken()).float()
    one, again, other = (cli.speak(talker, samples, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
