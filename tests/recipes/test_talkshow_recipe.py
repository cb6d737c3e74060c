"""TalkSHOW on SHOW: from a folder in the official layout to networks on disk and an evaluation, resumed, split over processes, faults named."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from paper_utils import experiment, gesture, train, training
from paper_utils.audio_files import write_wav
from paper_utils.data import show, show_pickles
from paper_utils.methods import talkshow as ts
from paper_utils.metrics import beats
from paper_utils.recipes import talkshow as recipe
from paper_utils.recipes import talkshow_evaluation as evaluation
from paper_utils.recipes import talkshow_files
from paper_utils.studies import talkshow as studies

FRAMES = 100
VIDEO = "late_night.webm"


def clip_name(number: int) -> str:
    return f"{214037 + number}-00_{number:02d}_00-00_{number:02d}_03"


def sound(seconds: float, seed: int) -> torch.Tensor:
    """Bursts of noise."""
    rng = np.random.default_rng(seed)
    samples = 1e-3 * rng.standard_normal(round(seconds * show.SAMPLE_RATE))
    for begin in rng.integers(0, len(samples) - 4000, 5):
        samples[begin : begin + 3000] += 0.2 * rng.standard_normal(3000) * np.exp(-np.arange(3000) / 800)
    return torch.from_numpy(samples.clip(-1, 1)).float()


def put(root: Path, name: str, *, seed: int, frames: int = FRAMES, converted: bool = True, bad: bool = False) -> None:
    """A clip, as converted arrays or as a pickle of release 1.0."""
    speaker, video, clip = name.split("/")
    rng = np.random.default_rng(seed)
    slow = np.cumsum(0.02 * rng.standard_normal((frames, 265)), axis=0).astype(np.float32)
    folder = root / speaker / video if converted else root / speaker / video / clip
    folder.mkdir(parents=True, exist_ok=True)
    if bad:
        slow[3, 5] = np.nan
    if converted:
        np.savez(folder / f"{clip}.npz", motion=slow, betas=np.zeros(300, np.float32))
    else:
        fields = {key: slow[:, :width] for key, width in show_pickles.FIELDS.items()}
        (folder / f"{clip}.pkl").write_bytes(pickle.dumps(fields | {"betas": np.zeros((1, 300), np.float32)}))
    write_wav(folder / f"{clip}.wav", sound(frames / show.FPS, seed), show.SAMPLE_RATE)


def split_file(root: Path, parts: dict[str, list[str]]) -> None:
    (root / "train_val_test.json").write_text(json.dumps({"train": [], "val": [], "test": [], **parts}))


@pytest.fixture(scope="module")
def names() -> dict[str, list[str]]:
    speakers = show.SPEAKERS
    return {
        part: [f"{speakers[i % 4]}/{VIDEO}/{clip_name(first + i)}" for i in range(count)]
        for part, first, count in (("train", 0, 6), ("test", 20, 4))
    }


@pytest.fixture(scope="module")
def show_root(tmp_path_factory, names) -> Path:
    """Ten converted clips with the split file; one of training is damaged, one of the test has too little sound."""
    root = tmp_path_factory.mktemp("show")
    for part, chosen in names.items():
        for seed, name in enumerate(chosen):
            put(root, name, seed=seed + 100 * (part == "test"), bad=part == "train" and seed == 5)
    cut = root / f"{names['test'][1]}.wav"
    write_wav(cut, sound(3.1, 7), show.SAMPLE_RATE)
    split_file(root, names)
    return root


@pytest.fixture(scope="module")
def output(tmp_path_factory) -> Path:
    """Of one complete run."""
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture
def _outputs_together(_outputs_apart, output, monkeypatch):
    monkeypatch.setenv("PAPER_UTILS_OUTPUT", str(output))


def arguments(root: Path, *more: str) -> list[str]:
    return ["08", "--profile", "smoke", "--data", "show", "--data-root", str(root), "--device", "cpu", *more]


def read_state(path: Path) -> dict:
    return torch.load(path, weights_only=True)["state"]


def stages(root: Path) -> recipe.Stages:
    exp = experiment.start("08", profile="smoke", data="show", data_root=str(root), device="cpu")
    return recipe.Stages(exp, recipe.ShowData(root, recipe.run_folder(exp)), training.launch("cpu"))


# ----------------------------------------------------------------------------------------------------- the whole command


@pytest.fixture(scope="module")
def complete(show_root, output):
    """One run of everything: its folder, and what it printed."""
    with pytest.MonkeyPatch.context() as patch, pytest.MonkeyPatch.context() as quiet:
        patch.setenv("PAPER_UTILS_OUTPUT", str(output))
        quiet.setenv("PAPER_UTILS_QUIET", "1")
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            assert train.main(arguments(show_root)) == 0, err.getvalue()
        exp = experiment.start("08", profile="smoke", data="show", data_root=str(show_root), device="cpu")
        return recipe.run_folder(exp), out.getvalue(), err.getvalue()


def test_one_command_trains_everything_and_says_so(complete):
    folder, said, _ = complete
    for name in ("body", "hands", "face", "model", "independent", "regressor", "evaluation"):
        assert any(line.startswith(name) for line in said.splitlines()), name
    assert {path.name for path in folder.iterdir()} == {
        "networks.safetensors", "evaluation.json", "clips_train.txt", "clips_test.txt",
    }  # fmt: skip


def test_a_damaged_clip_and_a_trimmed_one_are_named(complete, names):
    folder, _, complaints = complete
    assert f"1 clips left out, all named in {folder / 'clips_train.txt'}: {names['train'][5]}" in complaints
    assert "motion: expected finite" in complaints
    assert names["train"][5] in (folder / "clips_train.txt").read_text()
    assert (
        f"{names['test'][1]}: motion 3.33 s, sound 3.10 s, cut to the shorter"
        in (folder / "clips_test.txt").read_text()
    )


def test_the_networks_gesture_to_a_recording_at_any_rate(complete, tmp_path):
    folder, _, _ = complete
    model = talkshow_files.load(folder / "networks.safetensors")
    assert model.prior.config.features == 64
    recording = tmp_path / "voice.wav"
    write_wav(recording, sound(2.0, 1), show.SAMPLE_RATE)
    command = [
        str(recording),
        "--checkpoint",
        str(folder / "networks.safetensors"),
        "--output",
        str(tmp_path / "f.gif"),
    ]
    assert gesture.main([*command, "--speaker", "conan", "--motion", str(tmp_path / "m.npy")]) == 0
    moved = np.load(tmp_path / "m.npy")
    assert moved.shape == (60, 265)
    assert moved[0, 12] == 0, "conan stands"


def test_the_evaluation_has_every_method_and_measure(complete):
    report = json.loads((complete[0] / "evaluation.json").read_text())
    assert report["clips"] == 4
    assert report["joints"].startswith("stick figure of this package (no SMPLX_NEUTRAL.npz")
    methods = report["methods"]
    assert list(methods) == ["drawn jointly", "drawn separately", "regression", "codes", "speaker's mean pose"]
    for row in methods.values():
        assert row["L2 (m, summed over joints)"]["low"] <= row["L2 (m, summed over joints)"]["value"]
        scores = {name: value for name, value in row.items() if name.startswith("beat consistency")}
        assert list(scores) == [f"beat consistency, {way} (k of these clips)" for way in ("official", "corrected")]
        assert all(value is None or 0 <= value <= 1 for value in scores.values())
    assert methods["drawn jointly"]["diversity (rad)"]["value"] > 0
    assert methods["regression"]["diversity (rad)"]["value"] == 0
    assert methods["speaker's mean pose"]["LVD (m a frame, summed over body joints)"]["value"] > 0
    assert set(report["face"]) == {"jaw (rad, absolute)", "expression (squared)"}
    assert 0 < report["codes"]["surprise (nat a code) of hands"] < 20


@pytest.mark.usefixtures("_outputs_together")
def test_a_second_command_trains_nothing(complete, show_root, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("trained again")

    for name in ("train_codebook", "train_prior", "train_regressor", "encode_windows"):
        monkeypatch.setattr(ts, name, refuse)
    written = load_file(complete[0] / "networks.safetensors")
    assert train.main(arguments(show_root, "--only", "model")) == 0
    again = load_file(complete[0] / "networks.safetensors")
    assert written.keys() == again.keys()
    assert all(torch.equal(written[name], again[name]) for name in written)


# ---------------------------------------------------------------------------------------------------------------- resuming


@pytest.mark.usefixtures("complete")
def test_a_stopped_stage_goes_on_and_ends_like_an_uninterrupted_one(show_root, output, tmp_path, monkeypatch):
    update, steps = training.Run.update, []

    def stop(self, *args, **kwargs):
        update(self, *args, **kwargs)
        if self.step == 2:
            self.save()
            raise KeyboardInterrupt

    monkeypatch.setattr(training.Run, "update", stop)
    with pytest.raises(KeyboardInterrupt):
        train.main(arguments(show_root, "--only", "hands"))
    unfinished = list((tmp_path / "build/smoke/.cache/talkshow_show").glob("*")) or list(
        (tmp_path / ".cache/talkshow_show").glob("*")
    )
    assert [path.name.endswith(".checkpoint.pt") for path in unfinished] == [True]

    def count(self, *args, **kwargs):
        steps.append(self.step)
        update(self, *args, **kwargs)

    monkeypatch.setattr(training.Run, "update", count)
    resumed, history = stages(show_root).codebook("hands")
    assert steps == [2, 3]
    monkeypatch.setenv("PAPER_UTILS_OUTPUT", str(output))
    whole, expected = stages(show_root).codebook("hands")
    assert steps == [2, 3], "the uninterrupted one is in the cache of the other folder"
    np.testing.assert_array_equal(history["loss"], expected["loss"])
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


@pytest.mark.usefixtures("complete")
def test_two_processes_train_what_one_trains_and_agree_on_the_codes(show_root, output, tmp_path):
    environment = dict(os.environ, OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="", PAPER_UTILS_OUTPUT=str(tmp_path))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "paper_utils.train"]
    done = subprocess.run(
        [sys.executable, *launcher, *arguments(show_root, "--only", "model")],
        env=environment, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stderr.count("1 clips left out") == 1
    written = recipe.run_folder(experiment.start("08", profile="smoke", data="show", data_root=str(show_root)))
    model = talkshow_files.load(written / "networks.safetensors")
    # Losses, not weights: biases before a batch norm have a gradient of rounding noise, along which Adam moves them.
    states = {
        folder: [read_state(path) for path in folder.rglob("talkshow_show/*.pt")] for folder in (output, tmp_path)
    }
    one, two = (
        sorted(state["history"]["loss"].tolist() for state in found if "perplexity" in state.get("history", {}))
        for found in states.values()
    )
    assert len(two) == 2
    for losses in two:
        assert any(losses == pytest.approx(other, rel=1e-3) for other in one)
    (cached,) = (state["codes"] for state in states[tmp_path] if "codes" in state)
    clips = stages(show_root).data.train
    assert torch.equal(cached, ts.encode_windows(clips, clips.windows(88, 3), model.body, model.hands))


# ------------------------------------------------------------------------------------------------- data, faces, evaluation


def test_the_full_profile_is_the_released_one(show_root):
    full = recipe.sizes(experiment.start("08", profile="full", data="show", data_root=str(show_root), device="cpu"))
    assert full.codebook == ts.CodebookConfig()
    assert full.prior == ts.PriorConfig()
    assert full.prior_training == ts.PriorTraining()
    released = ts.CodebookTraining()
    for field in ("steps", "batch", "window", "stride", "lr", "velocity", "decay_share", "warmup"):
        assert getattr(full.codebook_training, field) == getattr(released, field), field


def test_pickles_are_read_with_the_body_model_beside_them_and_asked_for_without(tmp_path):
    name = f"seth/{VIDEO}/{clip_name(1)}"
    put(tmp_path, name, seed=0, converted=False)
    split_file(tmp_path, {"train": [name], "test": [name.replace(clip_name(1), clip_name(2))]})
    with pytest.raises(ValueError, match=r"1 clips are pickles .*need SMPLX_NEUTRAL.npz beside them"):
        recipe.ShowData(tmp_path, tmp_path / "reports")
    hands = np.random.default_rng(0).standard_normal((45, 45))
    np.savez(tmp_path / "SMPLX_NEUTRAL.npz", hands_componentsl=hands, hands_componentsr=hands)
    data = recipe.ShowData(tmp_path, tmp_path / "reports")
    assert len(data.train) == 1
    with pytest.raises(ValueError, match="none of 1 test clips can be used"):
        _ = data.test


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: (root / "train_val_test.json").unlink(), "which clips are for training? expected train_val_test"),
        (lambda root: (root / "train_val_test.json").write_text("{"), "train_val_test.json: not "),
        (lambda root: split_file(root, {"train": [f"seth/{VIDEO}/{clip_name(1)}"]}), "no clips of the part 'test'"),
        (lambda root: next(root.rglob("*.npz")).unlink(), "found no clip"),
    ],
)
def test_a_folder_that_cannot_be_used_says_what_is_missing(tmp_path, capsys, spoil, message):
    name = f"seth/{VIDEO}/{clip_name(1)}"
    put(tmp_path, name, seed=0)
    split_file(tmp_path, {"train": [name], "test": [name.replace(clip_name(1), clip_name(2))]})
    spoil(tmp_path)
    assert train.main(arguments(tmp_path)) == 2
    assert message in capsys.readouterr().err


def test_folders_that_name_parts_are_a_split(tmp_path):
    for part, number in (("train", 1), ("test", 2)):
        put(tmp_path / part, f"seth/{VIDEO}/{clip_name(number)}", seed=number)
    data = recipe.ShowData(tmp_path, tmp_path / "reports")
    assert data.split["test"] == (f"seth/{VIDEO}/{clip_name(2)}",)
    put(tmp_path, f"seth/{VIDEO}/{clip_name(3)}", seed=3)
    with pytest.raises(ValueError, match="stands in no folder train, val or test"):
        recipe.ShowData(tmp_path, tmp_path / "reports")


def test_the_notebook_refuses_show_and_names_the_command(show_root):
    exp = experiment.start("08", profile="smoke", data="show", data_root=str(show_root), device="cpu")
    with pytest.raises(ValueError, match=r"only 'world' has, found 'show'.*train 08 --data show"):
        studies.Study(exp)


class FakeWav2Vec2(nn.Module):
    """The parts of ``Wav2Vec2Model`` that are called, made small."""

    def __init__(self) -> None:
        super().__init__()
        self.config = type("Config", (), {"hidden_size": 6})()
        self.feature_extractor = nn.Conv1d(1, 5, 400, stride=320)
        self.projection, self.mix = nn.Linear(5, 6), nn.Linear(6, 6)
        self.masked_spec_embed = nn.Parameter(torch.zeros(6))

    def feature_projection(self, x):
        return self.projection(x), x

    def encoder(self, x):
        return (self.mix(x),)

    def save_pretrained(self, folder):
        Path(folder).mkdir(parents=True)
        torch.save(self.state_dict(), Path(folder) / "weights.pt")


def test_the_face_learns_behind_wav2vec2_where_it_is(show_root, tmp_path, monkeypatch):
    root = tmp_path / "data"
    shutil.copytree(show_root, root)
    (root / recipe.SPEECH_MODEL).mkdir()

    class Listening(FakeWav2Vec2):
        def __init__(self):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                super().__init__()
                extract = self.feature_extractor
                self.feature_extractor = nn.Sequential(nn.Unflatten(1, (1, -1)), extract)

    monkeypatch.setattr(recipe, "load_wav2vec2", lambda _: Listening())
    found = stages(root)
    written = found.write()
    model = talkshow_files.load(written)
    assert isinstance(model.face, ts.FaceHead)
    saved = torch.load(written.with_name("wav2vec2") / "weights.pt", weights_only=True)
    fresh = Listening().state_dict()
    assert not torch.equal(saved["mix.weight"], fresh["mix.weight"]), "fine-tuned"
    assert torch.equal(saved["feature_extractor.1.weight"], fresh["feature_extractor.1.weight"]), "frozen"
    again = stages(root)
    assert torch.equal(again.speech().model.mix.weight, saved["mix.weight"]), "from the cache"
    clips = found.data.test[:1]
    errors = evaluation._face_errors(found.model(), found.speech(), [clips], torch.device("cpu"), None)
    assert np.isfinite(list(errors.values())).all()


@pytest.mark.usefixtures("complete", "_outputs_together")
def test_with_the_joints_of_smplx_the_official_beats_use_the_released_constants(show_root, monkeypatch):
    found = stages(show_root)
    figure, _ = evaluation._points(show_root)

    def like_smplx(frames, betas):
        joints = figure(frames, betas)
        return np.pad(joints, ((0, 0), (0, 127 - joints.shape[1]), (0, 0)))

    monkeypatch.setattr(evaluation, "_points", lambda _: (like_smplx, "SMPL-X"))
    networks = evaluation.Networks({"drawn": found.model()}, found.regressor("upper")[0], found.motion_network(), None)
    clips = found.data.test
    report = evaluation.evaluate(networks, clips, found.data.train, exp=found.exp, device=torch.device("cpu"))
    row = report["methods"]["codes"]
    assert row["beat consistency, official (k of the released code)"] > 0
    names = [name for name in row if name.startswith("beat consistency")]
    assert names == [
        "beat consistency, official (k of the released code)", "beat consistency, corrected (k of these clips)",
    ]  # fmt: skip
    # Constants so large that nothing moves by their measure: the score that uses them finds no beat.
    monkeypatch.setattr(evaluation, "OFFICIAL_CHANGE", 1e9 * beats.OFFICIAL_CHANGE)
    for released in (True, False):
        measure = evaluation._Measures(clips, like_smplx, found.motion_network(), released_change=released)
        official, corrected = list(
            measure([evaluation._upper(c)[None] for c in clips], np.random.default_rng(0)).values()
        )[-2:]
        assert (official is None) == released
        assert corrected > 0


def test_training_windows_begin_where_the_released_ones_do_and_short_clips_are_named(tmp_path):
    names = [f"seth/{VIDEO}/{clip_name(number)}" for number in range(3)]
    for number, frames in enumerate((88, 95, 100)):
        put(tmp_path, names[number], seed=number, frames=frames)
        write_wav(tmp_path / f"{names[number]}.wav", sound(4.0, number), show.SAMPLE_RATE)
    split_file(tmp_path, {"train": names[:2], "test": names[2:]})
    data = recipe.ShowData(tmp_path, tmp_path / "reports")
    assert data.train.windows(88, 3).tolist() == [[0, 0], [0, 3], [0, 6], [0, 6]]
    assert f"{names[0]}: 88 frames, fewer than 89" in (tmp_path / "reports" / "clips_train.txt").read_text()


def test_perfect_motion_has_no_error_and_the_distance_of_nothing(show_root):
    found = stages(show_root)
    clips = found.data.test[:2]
    points, _ = evaluation._points(show_root)
    measure = evaluation._Measures(clips, points, found.motion_network(), released_change=False)
    rng = np.random.default_rng(0)
    row = measure([evaluation._upper(clip)[None] for clip in clips], rng)
    for name in ("L2 (m, summed over joints)", "LVD (m a frame, summed over body joints)"):
        assert row[name]["value"] == 0
    assert row["FGD (squared features)"] == pytest.approx(0, abs=1e-6)
    moved = measure([evaluation._upper(clip)[None] + 0.1 for clip in clips], rng)
    assert moved["error (rad a frame, summed over angles)"]["value"] == pytest.approx(12.9, abs=1e-3)
    assert moved["FGD (squared features)"] > row["FGD (squared features)"] + 1e-6
