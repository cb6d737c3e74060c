"""`make seeds` on a small project, and the record that the project keeps."""

import json
import re
from pathlib import Path

import nbformat
import pytest
from tiny_notebooks import make_project, write_notebook

from paper_utils import over_seeds, papers, points, readme, report, reproduce, results

ROOT = Path(__file__).parents[1]


@pytest.fixture
def project(tmp_path, monkeypatch):
    folder = make_project(tmp_path / "project")
    monkeypatch.setenv("PAPER_UTILS_OUTPUT", "")
    monkeypatch.setattr(points, "heed_interrupts", lambda: None)
    points.base_job.cache_clear()
    monkeypatch.chdir(folder)
    write_notebook(folder, "01", "value = [1.0, 0.3, 1.1][seed]")
    write_notebook(folder, "02", "value = [5.0, -5.0, 0.0][seed]")
    return folder


def test_each_claim_is_judged_over_the_seeds_and_kept(project, monkeypatch, capsys):
    monkeypatch.setattr(papers, "NOTEBOOKS", {number: papers.find(number) for number in ("01", "02")})
    (project / "README.md").write_text("# Papers\n<!-- seeds -->\nolder\n<!-- end of seeds -->\nend\n")
    assert over_seeds.main(["--seeds", "0-2", "--jobs", "2", "--record", "1"]) == 0
    assert (project / "README.md").read_text() == (
        "# Papers\n<!-- seeds -->\nOf 2 claims, over the seeds 0, 1, 2: 0 reproduced, 0 not reproduced, 2 inconclusive. "
        "0 have the same verdict from each of the seeds, 1 have opposite verdicts from two of them.\n<!-- end of seeds -->\nend\n"
    )
    record = json.loads((project / "docs" / "claims_over_seeds.json").read_text())
    assert record["seeds"] == [0, 1, 2]
    one, other = record["claims"]
    assert one["verdicts"] == ["reproduced", "inconclusive", "reproduced"]
    assert (one["paper"], one["id"], one["verdict"]) == ("01", "T1", "inconclusive")  # .8 [-.28, 1.88]
    assert one["measured"] == pytest.approx(0.8)
    assert one["n"] == 3
    assert other["verdicts"] == ["reproduced", "not reproduced", "inconclusive"]
    text = (project / "docs" / "claims_over_seeds.md").read_text()
    assert (
        "| T1 | the value is above zero | ✔○✔ | 0.8 [-0.283, 1.88] points | ○ inconclusive | 0 points: not reproduced |"
        in text
    )
    flat = " ".join(text.split())
    assert "same verdict from every seed: 0 of 2; with opposite verdicts from two seeds: 1." in flat
    assert "2 claims, each over 3 seeds: 0 reproduced, 0 not reproduced, 2 inconclusive" in text

    # The report of any run shows the record beside that run's own verdicts.
    point = project / "build" / "sweeps" / papers.find("01").name / "points"
    (run,) = [path for path in point.iterdir() if "seed=1" in path.name]
    assert report.write(run) == []
    html = (run / "results" / "report.html").read_text()
    assert "over the seeds 0, 1, 2" in html
    assert re.search(r"0.3 \[-0.2, 0.8\] points.*0.8 \[-0.283, 1.88\] points", html, re.DOTALL)

    # So does the table that `make reproduce` ends with, for the profile and the data of the record only.
    known, ran = results.recorded_over_seeds(project), results.load_results(run / "results" / "01.json")
    capsys.readouterr()
    reproduce.print_claims([ran, ran | {"profile": "full"}, ran | {"data": "posteriors"}], known)
    assert re.findall(r"control: inconclusive +(over.*)", capsys.readouterr().out) == ["over 3 seeds: inconclusive"]

    # Finished runs are kept.
    capsys.readouterr()
    assert over_seeds.main(["--paper", "01", "--seeds", "0-2"]) == 0
    assert "3 of them finished before" in capsys.readouterr().out
    assert (project / "build" / "seeds" / "docs" / "claims_over_seeds.md").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "3"], "needs at least two, found \\[3\\]"),
        (["--paper", "77"], "77"),
        (["--paper", "01", "--record", "1"], "leave PAPER= out"),
    ],
)
def test_wrong_arguments_are_named(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        over_seeds.main(arguments)
    assert stop.value.code == 2
    assert re.search(message, capsys.readouterr().err)


def test_a_run_that_fails_ends_it_and_nothing_is_recorded(project, capsys):
    write_notebook(project, "01", "value = 1 / seed")
    assert over_seeds.main(["--paper", "01", "--seeds", "0-1"]) == 1
    assert "ZeroDivisionError" in capsys.readouterr().out
    assert not list(project.rglob("claims_over_seeds*"))


def test_runs_with_other_claims_are_not_put_together():
    runs = [{"seed": seed, "claims": [{"id": name}]} for seed, name in enumerate("AB")]
    with pytest.raises(ValueError, match="paper 01: the runs do not have the same claims"):
        over_seeds.judged("01", runs)


@pytest.mark.parametrize("content", ['{"claims": [{}]}', "{", '{"claims": 3}', "[]"])
def test_a_damaged_record_is_named_and_the_report_goes_without(content, project):
    (project / "docs").mkdir()
    (project / over_seeds.RECORD).write_text(content)
    with pytest.raises(results.ResultsError, match=r"is not a record of claims over seeds.*make seeds RECORD=1"):
        results.recorded_over_seeds(project)
    (message,) = report.write(project)
    assert "is not a record of claims over seeds" in message
    assert "over seeds" not in (project / "results" / "report.html").read_text()
    assert results.recorded_over_seeds(project / "elsewhere") == {}


def test_the_record_is_of_the_notebooks_as_they_are():
    """Same claims, and with the stored seed the stored verdicts; a notebook that changed needs `make seeds RECORD=1`."""
    record = json.loads((ROOT / over_seeds.RECORD).read_text())
    assert (ROOT / over_seeds.PAGE).read_text() == over_seeds.page(record)
    assert readme.between((ROOT / "README.md").read_text(), "seeds") == over_seeds.summary(record)
    at = record["seeds"].index(0)
    for paper in (paper for paper in papers.NOTEBOOKS.values() if paper.ready):
        notebook = nbformat.read(ROOT / "notebooks" / f"{paper.name}.ipynb", as_version=4)
        printed = [
            out.text for cell in notebook.cells for out in cell.get("outputs", []) if out.output_type == "stream"
        ]
        stored = dict(
            re.findall(r"^(\S.*?): (reproduced|not reproduced|inconclusive)\b", "\n".join(printed), re.MULTILINE)
        )
        kept = {claim["id"]: claim["verdicts"][at] for claim in record["claims"] if claim["paper"] == paper.number}
        assert kept == stored, f"{paper.name}: run `make seeds RECORD=1`"
