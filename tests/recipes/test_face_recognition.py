"""Training a recipe on small real layouts: the command line, resume, shards, exports, and what is refused."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import face_fixtures as small
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from paper_utils import train, training
from paper_utils.data import face_lists
from paper_utils.methods import sphereface_r
from paper_utils.nn import backbones, official_weights
from paper_utils.nn.class_parallel import SoftmaxFamily
from paper_utils.nn.exchanges import Ranks, sent_by_kind, step_exchanges
from paper_utils.recipes import face_recognition, heads, published

SCRIPT = Path(small.__file__)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A data folder in OpenSphere's layout, with every kind of validation list."""
    folder = tmp_path_factory.mktemp("faces")
    small.write_training_list(folder)
    small.write_validation(folder)
    return folder


@pytest.fixture(autouse=True)
def _small_recipes(monkeypatch):
    monkeypatch.setattr(published, "RECIPES", dict(published.RECIPES))
    small.register()


def run(recipe: str, root: Path, output: Path, *more: str) -> Path:
    """The command line in this process; the folder of the run."""
    code = train.main(["05", "--recipe", recipe, "--data-root", str(root), "--output", str(output), "--device", "cpu", *more])  # fmt: skip
    assert code == 0
    return output


def processes(size: int, arguments: list[str], **environment: str) -> list[subprocess.CompletedProcess]:
    """The same as `size` processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    calm = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    started = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(rank), str(size), port, *arguments],
            env=os.environ | calm | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    try:
        said = [process.communicate(timeout=120) for process in started]
    finally:
        for process in started:
            process.kill()
    return [
        subprocess.CompletedProcess(process.args, process.returncode, *text)
        for process, text in zip(started, said, strict=True)
    ]


def history(output: Path) -> dict[str, np.ndarray]:
    with (output / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


def state(output: Path) -> dict:
    return torch.load(output / "checkpoint.pt", weights_only=True)


def same_state(first, second) -> bool:
    """Equal to the last bit, through dictionaries and lists."""
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same_state(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(same_state, first, second))
    return first == second


# ------------------------------------------------------------------------------------------------------------ whole runs


def test_a_run_leaves_history_numbers_exports_and_its_description(root, tmp_path):
    output = run("tiny_sphereface2", root, tmp_path / "run", "--evaluate-every", "4")
    found = history(output)
    assert found["iteration"].tolist() == [1, 2, 3, 4, 5, 6]
    assert found["learning_rate"].tolist() == pytest.approx([0.02] * 4 + [0.002] * 2)
    assert np.isfinite(found["loss"]).all()
    assert (found["length"] > 0).all()
    numbers = json.loads((output / "evaluation.json").read_text())
    assert list(numbers["iterations"]) == ["4", "6"]
    lists = ["lfw/pairs.txt", "third.bin", "val/first_ann.txt", "val/second_pairs.lst"]
    assert list(numbers["iterations"]["6"]) == lists
    mean = numbers["mean_of_the_last"]
    assert mean["iterations"] == [4, 6]
    for name in lists:
        both = [numbers["iterations"][step][name]["eer"] for step in ("4", "6")]
        assert mean["pairs"][name]["eer"] == pytest.approx(np.mean(both))
    described = json.loads((output / "run.json").read_text())
    assert described["data"] == {"name": "small", "images": 40, "identities": 8}
    assert described["iterations"] == 6
    assert {path.name for path in output.glob("*.pth")} == {
        f"{part}_{step}.pth" for part in ("backbone", "head") for step in (4, 6)
    }
    assert (output / "model.safetensors").is_file()


def test_the_same_pictures_as_list_records_and_folder_give_the_same_run(root, tmp_path):
    expected = history(run("tiny_sphereface2", root, tmp_path / "list"))
    (tmp_path / "rec").mkdir()
    small.write_records(tmp_path / "rec" / "small")
    found = history(run("tiny_sphereface2", tmp_path / "rec", tmp_path / "records"))
    np.testing.assert_array_equal(found["loss"], expected["loss"])
    folder = root / "train" / "small"
    found = history(run("tiny_sphereface2", root, tmp_path / "folder", "--train-data", str(folder)))
    np.testing.assert_array_equal(found["loss"], expected["loss"])


def test_a_loss_by_hand_is_the_first_one_of_the_run(root, tmp_path):
    found = history(run("tiny_spherefacer", root, tmp_path / "run", "--steps", "1"))
    recipe = published.RECIPES["tiny_spherefacer"]
    faces = face_lists.read_training_list(root / "train" / "small_train_ann.txt", root / "train", size=(32, 32))
    rows = training.batch_indices(len(faces), 8, 0, seed=0)
    flips = torch.from_numpy(np.random.default_rng([0, 0, 1]).random(8) < 0.5)
    assert 0 < flips.sum() < 8
    network = backbones.build_backbone("sfnet4", seed=0, branch="v0", **small.SMALL).train()
    with torch.no_grad():
        embeddings = network(faces.images(rows, mirror=flips))
        loss = heads.whole_head(recipe.head, 12, 8, 1)(embeddings, faces.identities[rows])
    assert found["loss"][0] == pytest.approx(float(loss), rel=1e-6)


def test_label_noise_is_drawn_by_the_recipe_and_changes_the_run(root, tmp_path):
    clean = run("tiny_sphereface2", root, tmp_path / "clean")
    noisy = run("tiny_noise", root, tmp_path / "noisy")
    assert "60% of labels drawn anew" in json.loads((noisy / "run.json").read_text())["data"]["name"]
    assert not np.allclose(history(clean)["loss"], history(noisy)["loss"])


def test_bf16_and_every_branch_train(root, tmp_path):
    for recipe, more in [("tiny_sphereface2", ("--precision", "bf16-mixed")), ("tiny_iclr", ()), ("tiny_main", ("--precision", "32-true"))]:  # fmt: skip
        losses = history(run(recipe, root, tmp_path / f"{recipe}{len(more)}", "--steps", "2", *more))["loss"]
        assert np.isfinite(losses).all()
    plain = history(run("tiny_sphereface2", root, tmp_path / "plain", "--steps", "2"))["loss"]
    half = history(tmp_path / "tiny_sphereface22")["loss"]
    assert not np.array_equal(plain, half)
    np.testing.assert_allclose(plain, half, rtol=0.02)


def test_it_learns(root, tmp_path):
    found = history(run("tiny_arcface", root, tmp_path / "run", "--steps", "60"))["loss"]
    assert found[-10:].mean() < 0.7 * found[:10].mean()


def test_quiet_runs_say_nothing_and_others_report(root, tmp_path, monkeypatch, capsys):
    run("tiny_sphereface2", root, tmp_path / "quiet", "--report-every", "2")
    assert capsys.readouterr().out == ""
    monkeypatch.delenv("PAPER_UTILS_QUIET")
    run("tiny_sphereface2", root, tmp_path / "loud", "--report-every", "2")
    said = capsys.readouterr().out
    assert "tiny_sphereface2: 40 images of 8 people (small), from iteration 0" in said
    assert "4/6  loss" in said
    assert "val/first_ann.txt" in said


# --------------------------------------------------------------------------------------------------------------- resume


class PulledPlug(BaseException):
    """Nothing in the package catches it."""


def kill_in_a_process(arguments: list[str]) -> None:
    (killed,) = processes(1, [*arguments, "--kill-at=3"])
    assert killed.returncode == -9, killed.stderr


def pull_the_plug(arguments: list[str]) -> None:
    def flips_until(batches: face_recognition.Batches, step: int) -> torch.Tensor:
        if step == 3:
            raise PulledPlug
        return flips(batches, step)

    with pytest.MonkeyPatch.context() as patch:
        flips = face_recognition.Batches.flips
        patch.setattr(face_recognition.Batches, "flips", flips_until)
        with pytest.raises(PulledPlug):
            train.main(arguments)


@pytest.mark.parametrize(
    ("end", "more"),
    [(kill_in_a_process, ()), (pull_the_plug, ("--class-parallel", "--partial", "0.9"))],
    ids=["killed", "sampled shards"],
)
def test_a_run_that_ended_early_goes_on_to_the_same_bits(root, tmp_path, end, more):
    whole = run("tiny_sphereface2", root, tmp_path / "whole", "--save-every", "2", *more)
    cut = tmp_path / "cut"
    end(["05", "--recipe", "tiny_sphereface2", "--data-root", str(root), "--output", str(cut), "--device", "cpu",
         "--save-every", "2", *more])  # fmt: skip
    assert state(cut)["step"] == 2
    assert not (cut / "history.csv").exists()
    run("tiny_sphereface2", root, cut, "--save-every", "2", "--resume", *more)
    assert same_state(state(cut), state(whole))
    np.testing.assert_array_equal(history(cut)["loss"], history(whole)["loss"])
    assert (cut / "evaluation.json").read_text() == (whole / "evaluation.json").read_text()
    assert torch.load(cut / "head_6.pth", weights_only=True)["module.w"].shape == (12, 8)


def test_a_folder_with_a_run_is_not_overwritten_and_other_runs_do_not_resume_it(root, tmp_path, capsys):
    output = run("tiny_sphereface2", root, tmp_path / "run")
    before = (output / "checkpoint.pt").read_bytes()
    arguments = ["05", "--recipe", "tiny_sphereface2", "--data-root", str(root), "--output", str(output), "--device", "cpu"]  # fmt: skip
    assert train.main(arguments) == 2
    assert "the folder holds a run; add --resume" in capsys.readouterr().err
    assert train.main([*arguments, "--resume", "--seed", "1"]) == 1
    assert "belongs to another run" in capsys.readouterr().err
    assert (output / "checkpoint.pt").read_bytes() == before
    assert train.main([*arguments, "--resume"]) == 0  # nothing left to do
    assert same_state(state(output)["modules"], torch.load(output / "checkpoint.pt", weights_only=True)["modules"])


@pytest.mark.parametrize(("world", "step"), [(1, 0), (2, 7), (4, 3)])
def test_a_batch_does_not_depend_on_the_number_of_processes(world, step):
    whole = face_recognition.Batches(40, 8, 0.5, 3)
    parts = [face_recognition.Batches(40, 8, 0.5, 3, rank, world) for rank in range(world)]
    for name in ("rows", "flips"):
        found = torch.stack([getattr(part, name)(step) for part in parts], dim=1).flatten()
        assert torch.equal(found, getattr(whole, name)(step))
    states = {tuple(part.sampler(step).get_state().tolist()) for part in parts}
    assert len(states) == world
    assert not torch.equal(whole.flips(step), whole.flips(step + 1)) or not torch.equal(whole.rows(step), whole.rows(step + 1))  # fmt: skip


def test_evaluations_come_regularly_and_for_the_last_five_thousand():
    assert face_recognition.evaluation_steps(6, 4) == {4, 6}
    assert face_recognition.evaluation_steps(20_000, 10_000) == {10_000, *range(16_000, 20_001, 1000)}


# ---------------------------------------------------------------------------------------------------- several processes


@pytest.fixture(scope="module")
def shards(root, tmp_path_factory) -> dict[str, Path]:
    """Two processes: half of the classes each, for both families of heads one after the other; then a head that both have whole."""
    recipes = ("tiny_sphereface2", "tiny_spherefacer", "tiny_arcface")
    found = {name: tmp_path_factory.mktemp("shards") / name for name in recipes}
    arguments = []
    for recipe, output in found.items():
        arguments += ["05", "--recipe", recipe, "--data-root", str(root), "--output", str(output), "--device", "cpu"]
        arguments += ["--save-every", "2", *(["--class-parallel"] if recipe != "tiny_arcface" else []), "--then"]
    both = processes(2, arguments, PAPER_UTILS_QUIET="1")
    assert [each.returncode for each in both] == [0, 0], both[0].stderr + both[1].stderr
    return found


@pytest.mark.parametrize("recipe", ["tiny_sphereface2", "tiny_spherefacer", "tiny_arcface"])
def test_two_processes_with_or_without_shards_are_one_process_with_the_plain_head(shards, recipe, root, tmp_path):
    plain, sharded = run(recipe, root, tmp_path / "plain"), shards[recipe]
    np.testing.assert_allclose(history(sharded)["loss"], history(plain)["loss"], rtol=1e-5)
    expected, found = state(plain)["modules"], state(sharded)["modules"]
    for name, value in expected["backbone"].items():
        torch.testing.assert_close(found["backbone"][name], value, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["head"]["proxies"], expected["head"]["proxies"], rtol=1e-4, atol=1e-5)
    numbers = [json.loads((folder / "evaluation.json").read_text())["iterations"]["6"] for folder in (plain, sharded)]
    assert numbers[0].keys() == numbers[1].keys()
    for name, report in numbers[0].items():
        assert numbers[1][name]["auc"] == pytest.approx(report["auc"], abs=0.02)


def test_what_the_shards_exchange_is_the_closed_form(shards):
    for recipe, scheme in (("tiny_sphereface2", "binary"), ("tiny_spherefacer", "softmax")):
        found = json.loads((shards[recipe] / "run.json").read_text())
        assert found["processes"] == 2
        expected = sent_by_kind(step_exchanges(scheme, batch=8, dim=12, classes=8, ranks=2))
        assert found["bytes_sent_by_the_head_a_step"] == expected


def test_one_process_resumes_what_two_began(shards, root, tmp_path, recwarn):
    begun = tmp_path / "begun"
    shutil.copytree(shards["tiny_sphereface2"], begun)
    earlier = state(begun)
    proxies, momentum = earlier["modules"]["head"]["proxies"], earlier["optimizer"]["state"]
    assert proxies.shape == (8, 12)
    assert [8, 12] in [list(entry["momentum_buffer"].shape) for entry in momentum.values()]
    run("tiny_sphereface2", root, begun, "--class-parallel", "--resume")
    assert same_state(state(begun)["modules"], earlier["modules"])
    assert same_state(state(begun)["optimizer"], earlier["optimizer"])
    assert any("was written by 2 processes" in str(each.message) for each in recwarn)


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_every_process_takes_its_rows_of_a_checkpoint(rank):
    def trained(ranks: Ranks, seed: int):
        head = heads.sharded_head(small.HEADS["sphereface2"], 12, 8, seed, ranks, 1.0)
        other = torch.nn.Parameter(torch.ones(2))
        optimizer = torch.optim.SGD([other, *head.parameters()], lr=0.1, momentum=0.9)
        for parameter in (other, *head.parameters()):
            parameter.grad = torch.arange(parameter.numel(), dtype=torch.float32).view_as(parameter) + seed
        optimizer.step()
        heads.hold_whole_states(head, optimizer)
        return head, optimizer

    whole, whole_optimizer = trained(Ranks(alone=True), 1)
    one_of_three = Ranks(alone=True)
    one_of_three.rank, one_of_three.size = rank, 3
    head, optimizer = trained(one_of_three, 2)
    head.load_state_dict(whole.state_dict())
    optimizer.load_state_dict(whole_optimizer.state_dict())
    rows = slice(*[(0, 3), (3, 6), (6, 8)][rank])
    assert torch.equal(head.proxies, whole.proxies[rows])
    assert torch.equal(head.bias, whole.bias)
    expected, found = whole_optimizer.state, optimizer.state
    assert torch.equal(found[head.proxies]["momentum_buffer"], expected[whole.proxies]["momentum_buffer"][rows])
    assert torch.equal(found[head.bias]["momentum_buffer"], expected[whole.bias]["momentum_buffer"])


def test_sharded_heads_in_one_process_are_the_plain_ones():
    faces = torch.randn(6, 12, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 3, 4, 7])
    for name in ("sphereface2", "spherefacer", "arcface"):
        config = small.HEADS[name]
        whole = heads.whole_head(config, 12, 8, 3)(faces, labels)
        module = heads.sharded_head(config, 12, 8, 3, Ranks(alone=True), 1.0)
        found = heads.loss_function(module, config)(faces, labels, None)
        torch.testing.assert_close(found, whole, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (small.HEADS["spherefaceplus"], r"SphereFace\+ compares proxies"),
        (sphereface_r.HeadConfig("softmax", 0.0), "the plain softmax has a bias for each class"),
        (sphereface_r.HeadConfig("v1", 1.2, "SFN"), "SFN adds a penalty"),
        (sphereface_r.HeadConfig("v1", 1.2, "NFN", growth_steps=(3,)), "its margin grows"),
    ],
)
def test_heads_that_cannot_be_sharded_say_why(config, reason):
    with pytest.raises(ValueError, match=f"class-parallel: this head cannot be sharded, {reason}"):
        heads.shard_family(config)


def test_free_length_heads_shard_without_a_scale():
    config = sphereface_r.HeadConfig("v1", 1.2, "NFN", loss_weight=2.0)
    family = heads.shard_family(config)
    assert isinstance(family, SoftmaxFamily)
    assert family.scale is None
    assert heads.shard_weight(config) == 2.0


# -------------------------------------------------------------------------------------------------------------- exports


@pytest.mark.parametrize("recipe", ["tiny_sphereface2", "tiny_iclr", "tiny_main", "tiny_arcface"])
def test_exports_are_read_back_by_the_reader_of_official_checkpoints(recipe, root, tmp_path):
    output = run(recipe, root, tmp_path / "run", "--steps", "2", "--precision", "32-true")
    chosen = published.RECIPES[recipe]
    name = {"v0": "backbone_2.pth", "iclr": "checkpoint_2.pth", "main": "model_2.pth"}[chosen.branch]
    network, weights = official_weights.load_backbone(chosen.backbone, output / name, **small.SMALL)
    assert (weights.branch, weights.iteration) == (chosen.branch, 2)
    kept = state(output)["modules"]
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(3)) * 2 - 1
    trained = backbones.build_backbone(chosen.backbone, branch=chosen.branch, **small.SMALL)
    trained.load_state_dict(kept["backbone"])
    assert torch.equal(backbones.embed(network, images), backbones.embed(trained.eval(), images))
    assert torch.equal(weights.proxies, kept["head"]["proxies"])
    assert (weights.bias is None) == ("bias" not in kept["head"])
    tensors = load_file(output / "model.safetensors")
    assert torch.equal(tensors["head.proxies"], weights.proxies)
    assert {name.removeprefix("backbone.") for name in tensors if name.startswith("backbone.")} == set(weights.backbone)
    for name, value in weights.backbone.items():
        assert torch.equal(tensors[f"backbone.{name}"], value)


def test_shards_export_all_classes(shards):
    weights = official_weights.read_checkpoint(shards["tiny_sphereface2"] / "backbone_6.pth")
    assert torch.equal(weights.proxies, state(shards["tiny_sphereface2"])["modules"]["head"]["proxies"])


# ------------------------------------------------------------------------------------------------------------ bad input


def refused(capsys, *arguments: str) -> str:
    assert train.main(list(arguments)) == 2
    return capsys.readouterr().err


def test_wrong_recipes_and_options_are_named(root, tmp_path, capsys):
    data = ("--data-root", str(root))
    assert "unknown recipe 'x' of paper 05; valid: vggface2_sfnet20_sphereface2," in refused(capsys, "05", "--recipe", "x", *data)  # fmt: skip
    assert "unknown recipe 'tiny_arcface' of paper 06" in refused(capsys, "06", "--recipe", "tiny_arcface", *data)
    tiny = ("05", "--recipe", "tiny_sphereface2")
    assert "--data-root: a recipe needs the folder" in refused(capsys, *tiny)
    assert "--profile: only with a notebook's models" in refused(capsys, *tiny, *data, "--profile", "full")
    assert "--steps, --class-parallel: only with --recipe" in refused(capsys, "05", "--class-parallel", "--steps", "3")
    assert "--weights: only with evaluate" in refused(capsys, *tiny, *data, "--weights", "x.pth")
    assert "evaluate needs --recipe" in refused(capsys, "evaluate", *data)
    assert "add --class-parallel" in refused(capsys, *tiny, *data, "--partial", "0.1")
    assert "partial: expected a share" in refused(capsys, *tiny, *data, "--class-parallel", "--partial", "0")
    assert "threads: expected at least 1, found 0" in refused(capsys, *tiny, *data, "--threads", "0")
    assert "steps: expected at least 1, found 0" in refused(capsys, *tiny, *data, "--steps", "0")
    assert "precision 16-mixed needs cuda" in refused(capsys, *tiny, *data, "--device", "cpu", "--precision", "16-mixed")  # fmt: skip
    assert not list(tmp_path.rglob("checkpoint.pt"))


def test_wrong_data_is_named(root, tmp_path, capsys):
    tiny = ("05", "--recipe", "tiny_sphereface2", "--device", "cpu", "--output", str(tmp_path / "run"))
    missing = tmp_path / "nowhere"
    assert f"{missing}: no such folder; --data-root" in refused(capsys, *tiny, "--data-root", str(missing))
    empty = tmp_path / "empty"
    empty.mkdir()
    said = refused(capsys, *tiny, "--data-root", str(empty))
    for place in ("train/small_train_ann.txt", "small.lst", "train.rec", "train/small/<identity>/<image>"):
        assert place in said
    small.write_training_list(empty, people=1)
    assert "expected at least two identities, found only ['p00']" in refused(capsys, *tiny, "--data-root", str(empty))
    small.write_records(empty / "train")
    assert "found 2 training sets" in refused(capsys, *tiny, "--data-root", str(empty))
    said = refused(capsys, *tiny, "--data-root", str(root), "--batch-size", "41")
    assert "a batch of 41 is larger than the training set of 40 images; lower --batch-size" in said
    said = refused(capsys, *tiny, "--data-root", str(root), "--train-data", str(tmp_path / "none.lst"))
    assert "none.lst: no such file or folder" in said
    damaged = tmp_path / "damaged"
    shutil.copytree(root, damaged)
    (damaged / "val" / "first_ann.txt").write_text("1 faces/p08/0.png faces/p99/0.png\n0 faces/p08/0.png faces/p09/0.png\n")  # fmt: skip
    assert "1 of the images it names are not in" in refused(capsys, *tiny, "--data-root", str(damaged))


def test_a_batch_that_does_not_split_over_the_processes_is_refused():
    with pytest.raises(ValueError, match="a batch of 9 does not split evenly over 2 processes"):
        face_recognition.Batches(40, 9, 0.5, 0, 0, 2)


def test_a_diverged_run_stops_with_advice(root, tmp_path, monkeypatch, capsys):
    wild = dataclasses.replace(small.tiny("arcface"), learning_rate=1e30, clip_norm=None)
    monkeypatch.setitem(published.RECIPES, "tiny_arcface", wild)
    arguments = ["05", "--recipe", "tiny_arcface", "--data-root", str(root), "--output", str(tmp_path / "run")]
    assert train.main([*arguments, "--device", "cpu"]) == 2
    assert "the run has diverged, lower the learning rate" in capsys.readouterr().err
