"""MEAD as EMOTE trains on it: windows, identities, emotion features of the real video; what the recipe asks for, and how its stages follow."""

from __future__ import annotations

import dataclasses
import pickle
import shutil

import h5py
import numpy as np
import pytest
import torch

from paper_utils import training
from paper_utils.data import mead
from paper_utils.data.emote_clips import ClipSource, FlameFace
from paper_utils.data.mead_names import EMOTION_FOLDERS
from paper_utils.mesh.flame_files import read_flame
from paper_utils.methods import emote
from paper_utils.recipes import emote as recipe
from paper_utils.recipes.emote_data import MeadSource, missing_features

FRAMES = 4


@pytest.fixture
def found(reference, tmp_path):
    root = tmp_path / "processed"
    shutil.copytree(reference / "mead" / "processed", root)
    return mead.read_processed(root)


@pytest.fixture
def source(found):
    return MeadSource(found, tuple(range(len(found))), ("M003", "M005"))


def add_features(found, numbers=6):
    for row, name in enumerate(found.names):
        folder = found.root / "emotions" / "resnet50" / name.folder
        folder.mkdir(parents=True)
        with h5py.File(folder / "features.hdf5", "w") as file:
            values = 100.0 * row + np.arange(len(found[row]))[None, :, None] + np.zeros((1, 1, numbers))
            file["feature"] = values.astype(np.float32)


def chance(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_batch_holds_windows_of_the_clips_with_their_own_sound_and_labels(found, source):
    assert isinstance(source, ClipSource)
    batch = source.batch(torch.arange(len(found)), FRAMES, chance())
    for row, name in enumerate(found.names):
        whole = found[row]
        starts = [s for s in range(len(whole)) if torch.equal(batch.motion[row, 0, -3:], whole.jaw[s])]
        assert len(starts) == 1
        start = starts[0]
        np.testing.assert_array_equal(batch.motion[row, :, :50], whole.expression[start : start + FRAMES, :50])
        np.testing.assert_array_equal(batch.sound[row], whole.audio[start : start + FRAMES].flatten())
        assert EMOTION_FOLDERS[name.folder.split("/")[2]] == name.emotion
        assert int(batch.intensity[row]) == name.intensity
    assert batch.emotion_features is None


def test_frames_behind_a_short_clip_are_zero_and_invalid(found, source):
    length = max(len(found[row]) for row in range(len(found))) + 3
    batch = source.batch(torch.tensor([0]), length, chance())
    ends = len(found[0])
    assert not batch.valid[0, ends:].any()
    assert not batch.motion[0, ends:].any()


def test_training_people_keep_their_number_and_others_borrow_one_that_never_changes(found, source):
    names = [name.person for name in found.names]
    first, again = source.identities(), dataclasses.replace(source).identities()
    assert torch.equal(first, again)
    for name, number in zip(names, first.tolist(), strict=True):
        assert 0 <= number < 2
        if name in source.people:
            assert source.people[number] == name


def test_features_of_the_video_are_those_of_the_window(found, source):
    add_features(found)
    seeing = dataclasses.replace(source, classifier=torch.nn.Identity())
    batch = seeing.batch(torch.arange(len(found)), FRAMES, chance(3))
    for row in range(len(found)):
        start = int(batch.emotion_features[row, 0, 0]) - 100 * row
        np.testing.assert_array_equal(batch.motion[row, :, -3:], found[row].jaw[start : start + FRAMES])


def test_missing_or_cut_features_are_named(found, source):
    seeing = dataclasses.replace(source, classifier=torch.nn.Identity())
    with pytest.raises(FileNotFoundError, match=r"features\.hdf5: no emotion features of this clip"):
        seeing.batch(torch.tensor([0]), FRAMES, chance())
    assert missing_features(found, [0, 1]) == [found.names[0].folder, found.names[1].folder]
    add_features(found)
    assert missing_features(found, [0, 1]) == []
    path = found.root / "emotions" / "resnet50" / found.names[0].folder / "features.hdf5"
    with h5py.File(path, "w") as file:
        file["feature"] = np.zeros((1, 2, 6), np.float32)
    with pytest.raises(ValueError, match=r"expected \(1, \d+ frames, numbers\), found \(1, 2, 6\)"):
        seeing.batch(torch.tensor([0]), FRAMES, chance())


@pytest.fixture
def old(found):
    """The same clips in an older reconstruction, of 50 coefficients."""
    for name in found.names:
        path = found.root / "reconstructions" / found.reconstruction / name.folder / "shape_pose_cam.hdf5"
        with h5py.File(path, "r+") as file:
            values = file["exp"][..., :50]
            del file["exp"]
            file["exp"] = values
    return found


def test_older_reconstructions_are_filled_with_zeros(old, source):
    rows = torch.arange(len(old))
    few = source.batch(rows, FRAMES, chance()).motion
    many = dataclasses.replace(source, expressions=100).batch(rows, FRAMES, chance()).motion
    assert many.shape[2] == 103
    assert few[..., :50].any()
    assert torch.equal(many[..., :50], few[..., :50])
    assert not many[..., 50:100].any()
    assert torch.equal(many[..., 100:], few[..., 50:]), "the jaw stays last"


def test_only_what_the_release_has_is_filled(old, source):
    with pytest.raises(ValueError, match="expected 101 expression coefficients, found 50"):
        dataclasses.replace(source, expressions=101).batch(torch.tensor([0]), FRAMES, chance())
    path = old.root / "reconstructions" / old.reconstruction / old.names[0].folder / "shape_pose_cam.hdf5"
    with h5py.File(path, "r+") as file:
        values = file["exp"][..., :49]
        del file["exp"]
        file["exp"] = values
    with pytest.raises(ValueError, match="expected 100 expression coefficients, found 49"):
        dataclasses.replace(source, expressions=100).batch(torch.tensor([0]), FRAMES, chance())


def test_too_few_coefficients_and_unknown_parts_are_refused(found, source):
    with pytest.raises(ValueError, match="expected 500 expression coefficients, found"):
        dataclasses.replace(source, expressions=500).batch(torch.tensor([0]), FRAMES, chance())
    with pytest.raises(ValueError, match="part: expected one of train, val, test; found 'all'"):
        MeadSource.of_split(found, "all")
    with pytest.raises(ValueError, match="expected clips and training people, found 0 and 1"):
        MeadSource(found, (), ("M003",))


def test_the_prior_trains_on_flame_and_mead(source, reference):
    model = read_flame(reference / "flame" / "flame_fixture_plain.npz", identity=300, check_size=False)
    directions = model.expression.shape[-1] if hasattr(model, "expression") else 100
    sizes = emote.PriorSizes(motion=min(50, directions) + 3, dim=8, heads=2, hidden=8, halvings=1)
    config = emote.PriorTraining(steps=2, batch=2, frames=4)
    source = dataclasses.replace(source, expressions=sizes.motion - 3)
    prior, losses = emote.train_prior(training.launch("cpu"), source, FlameFace(model), sizes, config, seed=0)
    assert len(losses["loss"]) == 2
    assert np.isfinite(losses["reconstruction"]).all()
    assert not prior.training


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["third"], "stage: expected one of prior, first, second; found 'third'"),
        (["prior", "--variant", "best"], "--variant: expected one of EMOTE"),
        (["first"], "stage first needs --wav2vec2 as well"),
        (["second", "--lips", "x"], "stage second needs --wav2vec2, --landmarks, --frames, --classifier as well"),
        (["prior", "--variant", "w/o FLINT"], "w/o FLINT: there is no prior to train; begin with the stage first"),
        (["prior"], "no such folder"),
    ],
)
def test_the_recipe_names_what_is_wrong(arguments, message, capsys, tmp_path):
    given = [*arguments, "--data-root", str(tmp_path / "nothing"), "--flame", "f.npz", "--output", str(tmp_path)]
    assert recipe.main([*given, "--device", "cpu"]) == 2
    assert message in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------ stages of the recipe


class Heard(torch.nn.Module):
    """Stands for wav2vec 2.0: loudness of each frame."""

    dim = 1

    def set_trainable(self, trainable):
        """It has nothing to learn."""

    def forward(self, samples, frames):
        return samples.unflatten(1, (frames, -1)).square().mean(-1, keepdim=True)


class Eyes:
    """Stand for the networks of the perceptual losses: they see the offsets themselves."""

    def lips(self, offsets, _):
        return offsets + 1

    def emotion(self, offsets, _, **__):
        return offsets.mean(1)[:, :6] + 1


SMALL = emote.Scale(
    prior=emote.PriorSizes(dim=8, heads=2, hidden=8, halvings=1),
    prior_training=emote.PriorTraining(steps=2, batch=2, frames=4),
    network=emote.EmoteSizes(audio=1, dim=8, heads=2),
    first=emote.StageTraining(steps=2, batch=2, frames=4, biased=False),
    second=dataclasses.replace(emote.FULL.second, steps=2, batch=2, frames=4),
)


@pytest.fixture
def command(found, reference, tmp_path, monkeypatch):
    """The recipe with small networks, and stand-ins for those that are not part of the project."""
    add_features(found)
    # Two people make no split: all of their clips are for training here.
    every = {"train": range(len(found)), "val": (), "test": ()}
    monkeypatch.setattr(mead, "split", lambda *_: {part: list(rows) for part, rows in every.items()})
    model = read_flame(reference / "flame" / "flame_fixture_plain.npz", identity=300, check_size=False)
    monkeypatch.setattr(recipe, "read_flame", lambda *_, **__: model)
    monkeypatch.setattr(recipe, "load_wav2vec2", lambda _: None)
    monkeypatch.setattr(recipe, "Wav2Vec2Features", lambda _: Heard())
    monkeypatch.setattr(recipe, "perception", lambda *_: Eyes())
    monkeypatch.setattr(recipe, "load_emotion_classifier", lambda _: OfClip())
    monkeypatch.setattr(recipe.emote, "FULL", SMALL)

    def run(stage, *more):
        given = ["--data-root", str(found.root), "--flame", "f", "--output", str(tmp_path / "out"), "--device", "cpu"]
        given += [word for name in recipe.NEEDED["second"] for word in (f"--{name}", "x")]
        return recipe.main([stage, *given, *more])

    run.output = tmp_path / "out"
    return run


class OfClip(torch.nn.Module):
    """A feature a clip from those of its frames."""

    def forward(self, frames):
        return frames.mean(1)


def test_without_flint_two_stages_train_a_network_that_says_the_motion_itself(command, capsys):
    for stage in ("first", "second"):
        assert command(stage, "--variant", "w/o FLINT") == 0, capsys.readouterr().err
    assert {path.name for path in command.output.glob("*.pt")} >= {"first-w-o-flint.pt", "second-w-o-flint.pt"}
    first, second = (
        training.load_state(command.output / f"{stage}-w-o-flint.pt", {"state"})["state"]
        for stage in ("first", "second")
    )
    assert not [name for name in second if name.startswith(("prior.", "squash."))]
    assert second["head.weight"].shape == (53, 16), "50 coefficients and the jaw"
    assert not torch.equal(first["head.weight"], second["head.weight"])


def test_the_run_without_flint_has_emotes_losses_and_exchange():
    assert recipe.VARIANTS["w/o FLINT"] == emote.VARIANTS["EMOTE"]


def test_stages_of_emote_keep_their_names_and_variants_their_own_files(command, capsys):
    for stage in ("prior", "first", "second"):
        assert command(stage) == 0, capsys.readouterr().err
    assert command("second", "--variant", "w/o exchange") == 0, capsys.readouterr().err
    states = {
        name: training.load_state(command.output / f"{name}.pt", {"state"})["state"]
        for name in ("first", "second", "second-w-o-exchange")
    }
    assert torch.equal(states["first"]["prior.decoder.smooth.weight"], states["second"]["prior.decoder.smooth.weight"])
    assert not torch.equal(states["second"]["head.weight"], states["second-w-o-exchange"]["head.weight"])
    assert command("second", "--variant", "w/o FLINT") == 2
    assert "first-w-o-flint.pt: no such file; run the stage first before" in capsys.readouterr().err


def test_clips_without_a_face_are_named_and_no_training_meets_them(command, found, capsys):
    for name in found.names:
        path = found.root / "landmarks_original" / "mediapipe" / name.folder
        path.mkdir(parents=True)
        valid = [] if name == found.names[0] else [0, 1, 2, 3]
        (path / "landmarks_alignment_used_frame_indices.pkl").write_bytes(pickle.dumps(valid))
    assert command("prior", "--steps", "8") == 0
    said, reason = capsys.readouterr().err, f"{found.names[0].folder}: landmarks were found in none of its frames"
    listed = command.output / "clips_left_out.txt"
    assert f"1 of {len(found)} clips left out, all named in {listed}: {reason}" in said
    assert listed.read_text() == f"{reason}\n"
