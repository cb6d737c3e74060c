"""MEAD as EMOTE trains on it: windows, identities, emotion features of the real video; and what the recipe asks for."""

from __future__ import annotations

import dataclasses
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
        (["prior"], "no such folder"),
    ],
)
def test_the_recipe_names_what_is_wrong(arguments, message, capsys, tmp_path):
    given = [*arguments, "--data-root", str(tmp_path / "nothing"), "--flame", "f.npz", "--output", str(tmp_path)]
    assert recipe.main([*given, "--device", "cpu"]) == 2
    assert message in capsys.readouterr().err
