"""Model and posterior files: read back what was written, refuse what cannot be right with file, line and reason."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from paper_utils.data import covariate_files as files
from paper_utils.methods.covariates import CovariateModel, match_accuracy

REFERENCE = Path(__file__).parents[1] / "reference" / "covariates"
MODEL = {
    "prior": [0.6, 0.4],
    "probe_confusion": [[0.9, 0.1], [0.2, 0.8]],
    "gallery_confusion": [[1.0, 0.0], [0.0, 1.0]],
}


def write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize("case", ["C04_asymmetric_binary", "C07_posteriors_discrete", "C11_two_independent_covariates"])
def test_model_files_of_every_layout_make_a_model(case: str, tmp_path: Path) -> None:
    inputs = json.loads((REFERENCE / f"{case}.json").read_text())["inputs"]
    model = CovariateModel.from_mapping(files.load_model(write(tmp_path / "model.json", inputs)))
    assert 0.5 < match_accuracy(model, 2) < 1


PAIR = {"probe_confusions": [np.eye(2).tolist()] * 2, "gallery_confusions": [[[0.9, 0.1], [0.2, 0.8]]] * 2}
SYMBOLS = {
    f"{side}_symbols": {"mass": [0.5, 0.5], "posterior": [[0.8, 0.2], [0.4, 0.6]]} for side in ("probe", "gallery")
}


def test_the_impostors_of_a_file_are_those_of_its_model(tmp_path: Path) -> None:
    impostors = [[0.1, 0.2], [0.3, 0.4]]
    for content, expected in (
        ({**MODEL, "impostor_prior": [0.3, 0.7]}, [0.3, 0.7]),
        ({"joint_prior": [[0.4, 0.1], [0.1, 0.4]], **PAIR, "impostor_prior": impostors}, [0.1, 0.2, 0.3, 0.4]),
        ({"joint_prior": [[0.4, 0.1], [0.1, 0.4]], **PAIR, "impostor_prior": [0.1, 0.2, 0.3, 0.4]}, [0.1, 0.2, 0.3, 0.4]),
        ({"prior": [0.6, 0.4], **SYMBOLS, "impostor_prior": [0.1, 0.9]}, [0.1, 0.9]),
        ({"prior": [0.5, 0.5], **SYMBOLS, "training_prior": [0.6, 0.4], "impostor_prior": [0.1, 0.9]}, [0.1, 0.9]),
    ):  # fmt: skip
        model = CovariateModel.from_mapping(files.load_model(write(tmp_path / "model.json", content)))
        assert model.impostor_prior.tolist() == pytest.approx(expected)
        same = CovariateModel(model.prior, model.probe_confusion, model.gallery_confusion)
        assert match_accuracy(model, 5) != pytest.approx(match_accuracy(same, 5), abs=1e-3)


@pytest.mark.parametrize(
    ("content", "key"),
    [
        ({**MODEL, "training_prior": [0.5, 0.5]}, "training_prior"),
        ({**MODEL, "priors": [[0.5, 0.5]]}, "priors"),
        ({"joint_prior": [[0.4, 0.1], [0.1, 0.4]], **PAIR, "training_prior": [0.5, 0.5]}, "training_prior"),
        ({"joint_prior": [[0.4, 0.1], [0.1, 0.4]], **PAIR, "match_table": np.full((4, 4), 1 / 16).tolist()}, "match_table"),
        ({"priors": [[0.5, 0.5]] * 2, **PAIR, "impostor_prior": [0.5, 0.5]}, "impostor_prior"),
        ({"prior": [0.6, 0.4], **SYMBOLS, "match_table": [[0.5, 0], [0, 0.5]]}, "match_table"),
    ],
)  # fmt: skip
def test_entries_that_a_layout_does_not_use_are_refused(content: dict, key: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"model\.json: found keys {key}, which a model of .* does not use"):
        files.load_model(write(tmp_path / "model.json", content))
    with pytest.raises(ValueError, match=rf"model: found keys {key}, which a model of .* does not use"):
        CovariateModel.from_mapping(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ([1, 2], "expected a JSON object"),
        ({}, "found keys none; expected gallery_confusion, prior, probe_confusion"),
        ({**MODEL, "extra": 1}, "found keys extra"),
        ({**MODEL, "prior": [0.6, 0.5]}, "model.json: prior: it sums to 1.1"),
        ({**MODEL, "probe_confusion": [[0.9, 0.1], [0.2, 0.9]]}, "model.json: probe_confusion: row 1 sums to 1.1"),
        ({**MODEL, "impostor_prior": [-0.5, 1.5]}, "impostor_prior: entry .* is -0.5"),
        ({**MODEL, "gallery_confusion": "no"}, "gallery_confusion: expected numbers"),
        (
            {"joint_prior": [[0.5, 0.6]], "probe_confusions": [[[1]]], "gallery_confusions": [[[1]]]},
            "joint_prior .* sums to 1.1",
        ),
        ({"joint_prior": [[0.5], [0.2, 0.3]], **PAIR}, "model.json: joint_prior: expected a table with rows of equal"),
        ({"priors": [], "probe_confusions": [[[1]]], "gallery_confusions": [[[1]]]}, "priors: expected a list"),
        ({"prior": [1.0], "probe_symbols": {"mass": [1]}, "gallery_symbols": {}}, "'mass' and 'posterior'"),
    ],
)
def test_a_model_file_that_is_none_is_refused(content: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        files.load_model(write(tmp_path / "model.json", content))


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.json does not exist"):
        files.load_model(tmp_path / "nowhere.json")
    with pytest.raises(FileNotFoundError, match=r"voice_age.csv do not exist; expected a CSV with columns item_path"):
        files.load_pair(tmp_path, "age")


VOICE = """item_path,covariate,p_1,p_2
anna/v1/1.wav,1,0.9,0.1
anna/v1/2.wav,1,0.7,0.3
ben/v2/1.wav,2,0.333,0.667
carl/v3/1.wav,2,0.2,0.8
"""
FACE = """# training_prior: 0.25 0.75
person,item_path,covariate,p_1,p_2
anna,x/1.jpg,1,0.8,0.2
ben,x/2.jpg,2,0.1,0.9
ben,x/3.jpg,2,0.4,0.6
dora,x/4.jpg,1,0.5,0.5
"""


def test_a_pair_is_read_and_aligned_by_person(tmp_path: Path) -> None:
    write(tmp_path / "voice_gender.csv", VOICE)
    write(tmp_path / "face_gender.csv", FACE)
    voice, face = files.load_pair(tmp_path, "gender")
    assert voice.person.tolist() == ["anna", "anna", "ben", "carl"]
    assert voice.values.tolist() == [0, 0, 1, 1]
    assert voice.training_prior.tolist() == [0.5, 0.5]
    assert face.training_prior.tolist() == [0.25, 0.75]
    assert voice.labels.tolist() == [0, 0, 1, 1]
    assert voice.accuracy == 1
    one, other = files.one_item_each(voice, face, np.random.default_rng(0))
    assert one.person.tolist() == other.person.tolist() == ["anna", "ben"]
    assert (one.values == other.values).all()
    drawn = {files.one_item_each(voice, face, np.random.default_rng(seed))[0].posterior[0, 0] for seed in range(20)}
    assert drawn == {0.9, 0.7}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("p_2", "p_3"), "found columns item_path, covariate, p_1, p_3; expected"),
        (("covariate", "value"), "expected item_path, covariate, p_1"),
        (("0.9,0.1", "0.9,0.2"), "line 2: they sum to 1.1"),
        (("0.7,0.3", "1.7,-0.7"), "line 3"),
        (("0.7,0.3", "0.7,x"), "1 rows have empty cells .* line 3"),
        (("0.7,0.3", "0.7,"), "1 rows have empty cells .* line 3"),
        (("wav,2,0.2", "wav,3,0.2"), "line 5 has covariate 3, expected a whole number from 1 to 2"),
        (("wav,2,0.2", "wav,1.5,0.2"), "line 5 has covariate 1.5"),
        (("item_path", "# training_prior: a b\nitem_path"), "line 1: expected numbers"),
        (("item_path", "# training_prior: 1\nitem_path"), "line 1 states 1 training priors, expected 2"),
        ((VOICE, ""), "0 bytes, not readable .* expected a CSV with columns item_path"),
        ((VOICE, VOICE.split("\n")[0] + "\n"), "there are no rows"),
    ],
)
def test_posteriors_that_cannot_be_right_are_refused(change: tuple[str, str], message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "voice_gender.csv", VOICE.replace(*change))
    with pytest.raises(ValueError, match=message):
        files.load_posteriors(path)


def test_pairs_that_disagree_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "voice_gender.csv", VOICE)
    for content, message in (
        (
            FACE.replace("anna,x/1.jpg,1", "anna,x/1.jpg,2"),
            "1 persons have more than one true gender, the first is 'anna'",
        ),
        (FACE.replace("anna", "eva").replace("ben", "fay"), "share no person"),
        ("item_path,covariate,p_1,p_2,p_3\nanna/1.jpg,1,1,0,0\n", "voice has 2 values of gender, face has 3"),
    ):
        write(tmp_path / "face_gender.csv", content)
        with pytest.raises(ValueError, match=message):
            files.load_pair(tmp_path, "gender")


def test_posteriors_must_fit_their_people() -> None:
    table = np.array([[0.5, 0.5]])
    with pytest.raises(ValueError, match="test: expected 1 persons, 1 true values and 2 priors"):
        files.CovariatePosteriors(np.array(["a", "b"]), np.array([0]), table, np.array([0.5, 0.5]), "test")
    with pytest.raises(ValueError, match=r"true values must lie in 0\.\.1"):
        files.CovariatePosteriors(np.array(["a"]), np.array([2]), table, np.array([0.5, 0.5]), "test")
