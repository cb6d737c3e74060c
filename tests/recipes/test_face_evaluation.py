"""Evaluation of a network on pair lists and IJB: the numbers are those of the metrics called by hand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import face_fixtures as small
import numpy as np
import pytest
import torch
from PIL import Image

from paper_utils import train, training
from paper_utils.data import ijb
from paper_utils.data.face_images import FacePairs
from paper_utils.metrics import templates, verification
from paper_utils.nn import backbones
from paper_utils.recipes import evaluation, face_data, published

SIZE = (small.SIDE, small.SIDE)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("faces")
    small.write_training_list(folder)
    small.write_validation(folder)
    return folder


@pytest.fixture
def network() -> torch.nn.Module:
    return backbones.build_backbone("sfnet4", seed=4, **small.SMALL)


@pytest.fixture(scope="module")
def fabric():
    return training.launch("cpu")


def unit(network: torch.nn.Module, pictures: list[Image.Image]) -> np.ndarray:
    """Mirror-averaged unit embeddings, by hand."""
    values = torch.stack([torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() for picture in pictures])
    values = (values - 127.5) / 127.5
    with torch.no_grad():
        features = (network.eval()(values) + network(values.flip(-1))).numpy()
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def test_every_layout_of_pairs_gives_the_numbers_of_the_metrics(root, network, fabric):
    first = unit(network, [small.face(*one) for _, one, _ in small.pairs()])
    second = unit(network, [small.face(*two) for _, _, two in small.pairs()])
    same = np.array([bool(label) for label, *_ in small.pairs()])
    scores = (first * second).sum(1)
    curve = verification.roc(scores, same)
    fold = verification.tenfold_accuracy(verification.squared_distances(first, second), same)
    sets = face_data.find_validation_sets(root, size=SIZE)
    network.train()
    report = evaluation.evaluate_pairs(network, sets, fabric, batch_size=3)
    assert network.training
    for name in ("val/first_ann.txt", "val/second_pairs.lst", "third.bin"):
        found = report[name]
        assert found["pairs"] == 20
        assert found["accuracy_oracle"] == pytest.approx(verification.best_threshold_accuracy(curve))
        assert found["accuracy_10fold"] == pytest.approx(fold.mean)
        assert found["accuracy_10fold_std"] == pytest.approx(fold.std)
        assert found["eer"] == pytest.approx(verification.eer(curve))
        assert found["auc"] == pytest.approx(verification.auc(curve))
        assert found["tar_at_far"]["0.1"] == pytest.approx(verification.tar_at_far(curve, 0.1))
        assert found["tar_at_far"]["0.001"] is None
        assert any("FAR 0.001 is finer" in note for note in found["notes"])
    assert report["lfw/pairs.txt"]["folds"] == 2
    assert "third.bin" in evaluation.summary(report)


def test_known_embeddings_give_known_numbers(root):
    pairs = face_data.find_validation_sets(root, size=SIZE)["third.bin"]
    people = np.array([person for _, *both in small.pairs() for person, _ in both])
    perfect = evaluation.pair_numbers(np.eye(people.max() + 1)[people] * 7.0, pairs)
    assert perfect["accuracy_oracle"] == perfect["accuracy_10fold"] == perfect["auc"] == 1.0
    assert perfect["eer"] == 0.0
    flipped = FacePairs(pairs.faces, pairs.first, pairs.second, ~pairs.same, "flipped", pairs.folds)
    assert evaluation.pair_numbers(np.eye(people.max() + 1)[people], flipped)["auc"] == 0.0
    broken = np.eye(people.max() + 1)[people]
    broken[3] = np.nan
    with pytest.raises(ValueError, match=r"third: 1 of 40 embeddings are zero or not finite"):
        evaluation.pair_numbers(broken, pairs)


def test_the_mean_over_checkpoints_takes_the_lists_that_all_have():
    one = {"accuracy_oracle": 0.8, "accuracy_10fold": 0.7, "eer": 0.2, "auc": 0.9}
    two = {"accuracy_oracle": 0.6, "accuracy_10fold": 0.5, "eer": 0.4, "auc": 0.7}
    mean = evaluation.mean_of([{"a": one}, {"a": two, "b": one}])
    assert mean == {"a": pytest.approx({"accuracy_oracle": 0.7, "accuracy_10fold": 0.6, "eer": 0.3, "auc": 0.8})}


def test_pairs_of_training_images_are_found_and_training_lists_are_not(root, tmp_path):
    shutil.copytree(root / "train", tmp_path / "train")
    line = "1 small/p00/0.png small/p00/1.png\n0 small/p00/0.png small/p01/1.png\n"
    (tmp_path / "train" / "small_train50_ann.txt").write_text(line * 5)
    assert list(face_data.find_validation_sets(tmp_path, size=SIZE)) == ["train/small_train50_ann.txt"]


# ------------------------------------------------------------------------------------------------------------------ IJB


@pytest.fixture(scope="module")
def mini_ijb(tmp_path_factory) -> Path:
    """The small IJB-B of the reference arrays, with pictures drawn here: a pattern for each template."""
    folder = tmp_path_factory.mktemp("data") / "test" / "IJB-B"
    meta = Path(__file__).parents[1] / "reference" / "sphereface" / "ijb_mini" / "meta"
    shutil.copytree(meta, folder / "meta")
    (folder / "loose_crop").mkdir()
    for number, line in enumerate((meta / "ijbb_face_tid_mid.txt").read_text().splitlines()):
        name, template, _ = line.split()
        small.face(int(template), number, 112).save(folder / "loose_crop" / name, "PNG")
    return folder


@pytest.mark.parametrize("branch", ["v0", "main"])
def test_ijb_numbers_are_those_of_template_fusion_and_both_protocols(mini_ijb, fabric, branch):
    network = backbones.build_backbone("sfnet4", seed=4, **(small.SMALL | {"image_size": (112, 112)}))
    report = evaluation.evaluate_ijb(network, mini_ijb, fabric, branch=branch, batch_size=64)
    found = ijb.load_meta(mini_ijb / "meta")
    pictures = found.faces(mini_ijb / "loose_crop").images(torch.arange(200))
    features = backbones.embed(network.eval(), pictures).numpy()
    weights = found.templates.faceness if branch == "v0" else None
    fused = templates.fuse_templates(
        features, found.templates.image_template, found.templates.image_media, faceness=weights
    )
    expected = templates.evaluate_templates(
        fused,
        (found.pairs.first, found.pairs.second, found.pairs.same),
        (found.probes.templates, found.probes.subjects),
        [(gallery.templates, gallery.subjects) for gallery in found.galleries],
    )
    official = {name: value for name, value in expected.official().items() if not np.isnan(value)}
    assert official.items() <= report["official"].items()
    assert {"TPR@FPR=1e-6", "TPR@FPR=1e-5", "TPR@FPR=1e-4", "top1", "TPIR@FPIR=1e-2", "TPIR@FPIR=1e-1"} <= set(
        report["official"]
    )
    who = expected.identification
    assert report["top"]["1"] == who.top[1]
    assert report["tpir_opensphere"]["0.1"] == who.opensphere[1].tpir
    nist = who.nist_mean[1]
    assert report["tpir_nist"]["0.1"] == (None if np.isnan(nist) else nist)
    assert report["counts"]["images"] == 200
    assert report["tar_at_far"]["1e-06"] is None
    json.dumps(report, allow_nan=False)


def test_the_two_template_rules_differ_and_unknown_ones_are_refused(mini_ijb, fabric):
    network = backbones.build_backbone("sfnet4", seed=4, **(small.SMALL | {"image_size": (112, 112)}))
    assert list(face_data.find_ijb(mini_ijb.parents[1])) == [ijb.IJB_B]
    with pytest.raises(ValueError, match="branch: expected one of v0, iclr, main; found 'v1'"):
        evaluation.evaluate_ijb(network, mini_ijb, fabric, branch="v1")
    (mini_ijb.parent / "IJB-C" / "meta").mkdir(parents=True)
    assert list(face_data.find_ijb(mini_ijb.parents[1])) == [ijb.IJB_B, ijb.IJB_C]
    with pytest.raises(FileNotFoundError, match="expected the meta folder of IJB-C"):
        evaluation.evaluate_ijb(network, mini_ijb.parent / "IJB-C", fabric, layout=ijb.IJB_C)
    shutil.rmtree(mini_ijb.parent / "IJB-C")


# --------------------------------------------------------------------------------------------------------- command line


def test_the_command_line_evaluates_an_export(root, tmp_path, monkeypatch):
    monkeypatch.setattr(published, "RECIPES", dict(published.RECIPES))
    small.register()
    data = ["--recipe", "tiny_sphereface2", "--data-root", str(root), "--device", "cpu"]
    assert train.main(["05", *data, "--output", str(tmp_path / "run"), "--steps", "2"]) == 0
    weights = tmp_path / "run" / "backbone_2.pth"
    assert train.main(["evaluate", *data, "--weights", str(weights)]) == 0
    found = json.loads((tmp_path / "run" / "backbone_2_evaluation.json").read_text())
    trained = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert found["pairs"] == trained["iterations"]["2"]
    assert (found["iteration"], found["ijb"]) == (2, {})


def test_a_folder_without_anything_to_evaluate_on_is_named(tmp_path, network, fabric):
    with pytest.raises(FileNotFoundError, match=r"nothing to evaluate on; looked for val/\*_ann.txt"):
        evaluation.evaluate_everything(network, tmp_path, fabric, branch="v0")
