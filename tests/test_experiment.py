"""The frame: rules, controls, results on disk."""

import json

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from paper_utils import experiment, report, results
from paper_utils.experiment import Claim
from paper_utils.metrics.statistics import Estimate, exact


def claim(direction="above", threshold=0.0, control="the effect is switched off", name="T1"):
    return Claim(name, "it has an effect", "none quoted", threshold, direction, "points", control)


def interval(low, high):
    return Estimate((low + high) / 2, low, high, 10, "given")


@pytest.fixture
def run():
    return experiment.start("01")


def test_a_control_that_shows_the_effect_takes_the_verdict_back(run):
    run.declare(claim())
    verdict = run.verdict("T1", interval(1, 2), control=interval(1, 2))
    assert verdict.outcome == "inconclusive"
    assert "control shows the effect too" in verdict.reason
    assert verdict.control_outcome == "reproduced"


def test_a_control_without_effect_leaves_the_verdict(run):
    run.declare(claim())
    assert run.verdict("T1", interval(1, 2), control=interval(-1, 1)).outcome == "reproduced"


def test_an_array_is_taken_as_one_value_a_run(run):
    run.declare(claim())
    values = np.array([1.0, 2.0, 3.0])
    verdict = run.verdict("T1", values, control=values - 2)
    assert verdict.measured.value == 2.0
    assert verdict.measured.n == 3


def test_claims_are_fixed_once_and_before_any_verdict(run):
    run.declare(claim())
    with pytest.raises(ValueError, match="already declared with other content"):
        run.declare(claim(threshold=-5.0))
    run.verdict("T1", interval(1, 2), control=interval(-1, 1))
    with pytest.raises(ValueError, match="declared after verdicts were drawn"):
        run.declare(claim(name="T2"))


def test_verdicts_need_a_declaration_and_the_declared_control(run):
    with pytest.raises(ValueError, match="'T9' was not declared; declared: none"):
        run.verdict("T9", exact(1.0))
    run.declare(claim(), claim(name="T2", control=None))
    with pytest.raises(ValueError, match="its negative control was not measured"):
        run.verdict("T1", exact(1.0))
    with pytest.raises(ValueError, match="none was declared"):
        run.verdict("T2", exact(1.0), control=exact(0.0))
    with pytest.raises(ValueError, match="NaN"):
        run.verdict("T2", np.array([np.nan, 1.0]))


def test_finish_refuses_open_claims_and_writes_all_keys(run, tmp_path):
    run.declare(claim())
    with pytest.raises(ValueError, match="without a verdict: T1"):
        run.finish()
    run.verdict("T1", interval(1, 2), control=interval(-1, 1))
    run.save_table("a table", pd.DataFrame({"x": [1.5, None]}))
    fig, _ = plt.subplots()
    run.save_figure(fig, "a_figure", "What it shows.")
    assert run.finish() == "T1: reproduced (control: inconclusive)"
    record = results.load_results(tmp_path / "results" / "01.json")
    assert set(record) == {
        "paper", "title", "profile", "seed", "data", "seconds", "environment", "claims", "tables", "figures",
    }  # fmt: skip
    stored = record["claims"][0]
    assert {
        "id",
        "statement",
        "paper_value",
        "measured",
        "ci95",
        "unit",
        "n",
        "rule",
        "verdict",
        "reason",
        "control",
    } <= set(stored)
    assert {"statement", "measured", "ci95", "verdict"} <= set(stored["control"])
    assert stored["ci95"] == [1, 2]
    assert (tmp_path / record["figures"][0]["file"]).exists()
    assert {"packages", "device", "commit", "threads"} <= set(record["environment"])


def test_figures_that_are_no_longer_drawn_are_removed(tmp_path):
    for name in ("old", "new"):
        run = experiment.start("01")
        fig, _ = plt.subplots()
        run.save_figure(fig, name, "caption")
        run.finish()
    assert [path.name for path in (tmp_path / "figures" / "01_covariate_matching").iterdir()] == ["new.png"]


def test_smoke_draws_no_verdict_and_touches_no_real_output(tmp_path):
    run = experiment.start("01", profile="smoke")
    run.declare(claim())
    assert run.verdict("T1", interval(1, 2), control=interval(-1, 1)).outcome == "inconclusive"
    run.finish()
    assert not (tmp_path / "results").exists()
    assert (tmp_path / "build" / "smoke" / "results" / "01.json").exists()


def test_randomness_depends_on_seed_and_name_only(run):
    first = run.rng("a").random(3)
    run.rng("b").random(3)
    assert (first == run.rng("a").random(3)).all()
    assert (first != experiment.start("01", seed=1).rng("a").random(3)).all()
    assert run.seeds(5)[:3] == run.seeds(3)
    assert len(set(run.seeds(50))) == 50


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"number": "99"}, "unknown paper '99'; valid: 00, 01"),
        ({"number": "01", "profile": "huge"}, "unknown profile 'huge'; valid: smoke, quick, full"),
        ({"number": "01", "data": "mnist"}, "unknown data 'mnist' for paper 01; valid: world"),
        ({"number": "01", "device": "tpu"}, "unknown device 'tpu'; valid: auto, cpu, cuda, mps"),
        ({"number": "01", "seed": -1}, "seed must be an integer of at least 0"),
    ],
)
def test_unknown_parameters_list_the_valid_ones(arguments, message):
    with pytest.raises(ValueError, match=message):
        experiment.start(**arguments)


@pytest.mark.parametrize("content", ["", '{"paper": "01", "cla', "[]", '{"paper": "01"}'])
def test_a_corrupt_results_file_is_named_and_left_as_it_is(content, tmp_path):
    path = tmp_path / "results" / "01.json"
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(results.ResultsError, match=r"01\.json.*make reproduce PAPER=01 FORCE=1"):
        results.load_results(path)
    assert len(report.write(tmp_path)) == 1
    assert path.read_text() == content


def test_report_shows_claims_and_where_figures_come_from(run, tmp_path):
    run.declare(claim())
    run.verdict("T1", interval(1, 2), control=interval(-1, 1))
    fig, _ = plt.subplots()
    run.save_figure(fig, "a_figure", "What <it> shows.")
    run.finish()
    assert report.write(tmp_path) == []
    html = (tmp_path / "results" / "report.html").read_text()
    for expected in (
        "it has an effect",
        "✔ reproduced",
        "What &lt;it&gt; shows.",
        "01_covariate_matching.ipynb",
        "seed=0",
    ):
        assert expected in html


def test_results_hold_no_nan(run, tmp_path):
    run.save_table("with a gap", pd.DataFrame({"x": [np.nan]}))
    run.finish()
    assert json.loads((tmp_path / "results" / "01.json").read_text())["tables"]["with a gap"]["data"] == [[None]]


def test_source_shows_code_without_the_docstring():
    shown = experiment.source(experiment.Claim.judge).data
    assert shown.startswith("```python\ndef judge(self, estimate: Estimate)")
    assert "Apply the rule" not in shown
    assert "inconclusive" in shown
