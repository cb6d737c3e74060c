"""`make verify` on a small project: chance in a notebook, verdicts that hang on threads or seeds, and what it says of them."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_notebooks import make_project, write_notebook

from paper_utils import papers, points, results, verify

THREADS = "import os\nthreads = int(os.environ['OMP_NUM_THREADS'])\n"
COUNTED = "open(f'ran-{seed}', 'a').write('x')\n"
STATED = "*Reading time about 5 minutes, running time about a minute and a half on one thread. Before: nothing.*"


@pytest.fixture
def project(tmp_path, monkeypatch):
    folder = make_project(tmp_path / "project")
    monkeypatch.setenv("PAPER_UTILS_OUTPUT", "")
    monkeypatch.setattr(points, "heed_interrupts", lambda: None)  # a process of its own has them, the tests' has not
    monkeypatch.chdir(folder)
    return folder


def make_verify(*arguments):
    return verify.main(["--paper", "01", "--jobs", "2", *arguments])


def folder_of(project, run, profile="quick"):
    return project / "build" / "verify" / profile / papers.find("01").name / run


def test_a_steady_notebook_passes_and_a_second_call_runs_nothing(project, capsys):
    # A cache that is not clean would be seen: the second run would find what the first one left.
    cache = "from paper_utils import files\nleft = files.output_root() / '.cache' / 'left'\nassert not left.exists()\n"
    cache += "files.write_text(left, 'x')\n"
    write_notebook(project, "01", COUNTED + cache + THREADS + "value = 1.0 + 1e-9 * threads + seed", STATED)
    verify.files.write_text(folder_of(project, "seed-1-threads-1") / ".cache" / "left", "of a run that was killed")
    assert make_verify() == 0
    out = capsys.readouterr().out
    assert "4 runs, 0 of them finished before" in out
    assert (
        "about 4 minutes by the notebooks' own statements" in out
    )  # 3 x 1.5 / 2 side by side, and 1.5 with two threads
    (row,) = [line for line in out.splitlines() if line.startswith("01  ")]
    cells = [cell.strip() for cell in row.split("  ") if cell.strip()]
    assert cells == ["01", "same bits", "1 of 1 same", "1 of 1 same", "0 of 0 same pixels"]
    assert "NOT" not in out
    assert (project / "ran-0").read_text() == "xxx"
    assert (project / "ran-1").read_text() == "x"
    assert not list((project / "build").rglob(".cache"))
    assert "1 of 1 same" in (project / "build" / "verify" / "quick" / "verify.txt").read_text()

    assert make_verify() == 0
    assert "4 runs, 4 of them finished before" in capsys.readouterr().out
    assert (project / "ran-0").read_text() == "xxx"

    # A run that is missing is named, and nothing else is said of its paper.
    folder_of(project, "seed-1-threads-1").joinpath("stamp.json").unlink()
    runs = verify.make_runs(verify.parse(["--paper", "01"]), project, project / "build" / "verify" / "quick")
    assert verify.compare(runs).failed == ["01 seed 1 threads 1: not run"]
    runs[-1].failure = {"kind": "exception", "error": ["...", "ValueError: bad luck"]}
    outcome = verify.compare(runs)
    assert outcome.failed == ["01 seed 1 threads 1: exception, ValueError: bad luck"]
    assert verify.table([outcome], verify.parse([]))[1] == ["01", *["a run failed"] * 4]
    assert verify.judge([outcome], allow_unstable=True)[0] == 1


def test_chance_is_caught_by_the_bits_and_named_with_its_values(project, capsys):
    write_notebook(project, "01", "import random\nvalue = 2.0 + 1e-12 * random.SystemRandom().random()")
    assert make_verify("--seeds", "0", "--threads-list", "1") == 1
    out = capsys.readouterr().out
    assert "NOT THE SAME BITS  01: " in out
    assert "claims[T1].measured: 2.0" in out
    assert out.count("not asked") == 2
    assert "other bits in 1 of 1 papers" in out


def test_a_verdict_that_hangs_on_threads_fails_and_one_that_hangs_on_the_seed_is_listed(project, capsys):
    write_notebook(project, "01", THREADS + "value = 1.0 if seed == 0 and threads == 1 else 0.2")
    assert make_verify() == 1
    out = capsys.readouterr().out
    assert (
        "NOT STABLE across threads  01 T1: the value is above zero (decided in one run, inconclusive in another)" in out
    )
    assert "NOT STABLE across seeds  01 T1" in out
    lines = [line.split() for line in out.splitlines() if line.startswith("    seed ")]
    assert ["seed", "0,", "2", "threads", "inconclusive", "0.2", "[-0.3,", "0.7]", "points"] in lines
    assert ["seed", "1,", "1", "thread", "inconclusive", "0.2", "[-0.3,", "0.7]", "points"] in lines
    assert lines.count(["seed", "0,", "1", "thread", "reproduced", "1", "[0.5,", "1.5]", "points"]) == 2
    assert "1 depend on threads and 1 on the seed (0 with opposite verdicts)" in out
    assert make_verify("--allow-unstable", "1") == 1  # threads never pass

    # Without the thread run, the seed alone: what is finished is used again. What is recorded of the claim over seeds stands below.
    claim = {
        "paper": "01",
        "id": "T1",
        "profile": "quick",
        "data": "world",
        "seeds": [0, 1, 2],
        "verdict": "reproduced",
    }
    claim |= {"statement": "it is", "paper_value": "none", "unit": "points", "reason": "-", "control": None}
    (project / "docs").mkdir()
    (project / results.OVER_SEEDS).write_text(json.dumps({"claims": [claim | {"measured": 0.9, "ci95": [0.6, 1.2]}]}))
    assert make_verify("--threads-list", "1") == 1
    out = capsys.readouterr().out
    assert "ALLOW_UNSTABLE=1 lets it pass, still listed" in out
    assert re.search(
        r"over 3 seeds +reproduced +0\.9 \[0\.6, 1\.2\] points \(recorded in docs/claims_over_seeds\.json\)", out
    )
    assert make_verify("--threads-list", "1", "--allow-unstable", "1") == 0
    assert "NOT STABLE across seeds  01 T1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--paper", "17"), "unknown paper '17'; valid: 00, 01"),
        (("--profile", "fast"), "unknown profile 'fast'; valid: smoke, quick, full"),
        (("--profile", "../up"), "unknown profile '../up'"),
        (("--threads-list", "0,1"), "THREADS_LIST: expected numbers of at least 1 such as 1,2"),
        (("--seeds", "one"), "SEEDS: expected numbers of at least 0"),
        (("--device", "abacus"), "unknown device 'abacus'; valid: auto, cpu"),
        (("--timeout", "soon"), "TIMEOUT must be a number above 0, found 'soon'"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_runs(project, capsys, arguments, message):
    write_notebook(project, "01", "value = 1.0")
    try:
        status = make_verify(*arguments)
    except SystemExit as stop:
        status = stop.code
    assert status == 2
    assert message in capsys.readouterr().err
    assert not (project / "build").exists()


# ----------------------------------------------------------------------------------- rules, without running anything


def claim(name, verdict, value=1.0):
    return {"id": name, "statement": f"claim {name}", "paper_value": "-", "measured": value, "ci95": [value, value],
            "unit": "", "verdict": verdict, "reason": "", "control": None}  # fmt: skip


def flips_of(*verdicts, across="seeds"):
    paper, nowhere = papers.find("01"), Path()
    runs = [
        verify.CleanRun(paper, nowhere, {"seed": seed}, "", nowhere, label=str(seed)) for seed in range(len(verdicts))
    ]
    records = {run.label: {"claims": [claim("C", v)] if v else []} for run, v in zip(runs, verdicts, strict=True)}
    return list(verify.flips(runs, records, across))


@pytest.mark.parametrize(
    ("verdicts", "opposite"),
    [
        (("reproduced", "reproduced"), None),
        (("inconclusive", "inconclusive", "inconclusive"), None),
        (("reproduced", "inconclusive"), False),
        (("not reproduced", "inconclusive", "inconclusive"), False),
        (("reproduced", "not reproduced"), True),
        (("reproduced", "inconclusive", "not reproduced"), True),
        (("inconclusive", None), True),
        ((None, "reproduced"), True),
    ],
)
def test_verdicts_flip_or_do_not_and_opposite_ones_never_pass(verdicts, opposite):
    found = flips_of(*verdicts)
    assert [flip.opposite for flip in found] == ([] if opposite is None else [opposite])
    outcome = verify.Comparison("01", claims=1, flips=found)
    assert verify.judge([outcome], allow_unstable=False)[0] == (opposite is not None)
    assert verify.judge([outcome], allow_unstable=True)[0] == bool(opposite)


def test_a_flip_across_threads_never_passes():
    outcome = verify.Comparison("01", claims=1, flips=flips_of("reproduced", "inconclusive", across="threads"))
    assert verify.judge([outcome], allow_unstable=True)[0] == 1


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ({"a": 0.1 + 0.2}, {"a": 0.3}, ["a: 0.30000000000000004 / 0.3"]),
        ({"a": 0.0}, {"a": -0.0}, ["a: 0.0 / -0.0"]),
        ({"a": 1}, {"a": 1.0}, ["a: 1 / 1.0"]),
        ({"a": 1, "b": 2}, {"a": 1}, ["b: only in the first run"]),
        ({}, {"b": {}}, ["b: only in the second run"]),
        ([{"id": "T1", "x": [1, 2]}], [{"id": "T1", "x": [1, 3]}], ["[T1].x[1]: 2 / 3"]),
        ([1, 2], [1], [": [1, 2] / [1]"]),
        ({"a": [None, True, "x"]}, {"a": [None, True, "x"]}, []),
    ],
)
def test_differences_are_found_to_the_last_bit_and_say_where(first, second, expected):
    assert list(verify.differences(*json.loads(json.dumps([first, second])))) == expected


def test_pictures_are_compared_by_pixels_and_other_files_by_bytes(tmp_path):
    pixels = np.zeros((10, 10, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(pixels).save(tmp_path / "same.png", compress_level=0)
    pixels[0, 0, 1] = 7
    Image.fromarray(pixels).save(tmp_path / "other.png")
    Image.fromarray(pixels[:5]).save(tmp_path / "short.png")
    (tmp_path / "a.mp4").write_bytes(b"1")
    (tmp_path / "b.mp4").write_bytes(b"2")
    assert verify.picture_difference(tmp_path / "a.png", tmp_path / "same.png") is None
    apart = verify.picture_difference(tmp_path / "a.png", tmp_path / "other.png")
    assert apart == "1.00% of the pixels, by at most 7 of 255"
    assert verify.picture_difference(tmp_path / "a.png", tmp_path / "short.png") == "10 x 10 and 10 x 5 pixels"
    assert verify.picture_difference(tmp_path / "a.mp4", tmp_path / "a.mp4") is None
    assert verify.picture_difference(tmp_path / "a.mp4", tmp_path / "b.mp4") == "other bytes"


@pytest.mark.parametrize(
    "path", sorted(verify.files.project_root().glob("notebooks/[01]*.ipynb")), ids=lambda p: p.stem
)
def test_every_notebook_states_a_running_time_that_the_estimate_can_read(path):
    assert 0.5 <= verify.stated_minutes(path) <= 2
