"""`make sweep` on a small project: points and tables, failures, a kill and what comes after it, and the two engines."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import distributed
import pandas as pd
import psutil
import pytest
from tiny_notebooks import make_project, write_notebook

from paper_utils import papers, points, sweep

NAME = papers.find("01").name
# Counts its own runs in the folder that the notebook runs in, which all points share.
COUNTED = "open(f'ran-{seed}', 'a').write('x')\n"


@pytest.fixture
def project(tmp_path, monkeypatch):
    folder = make_project(tmp_path / "project")
    monkeypatch.setenv("PAPER_UTILS_OUTPUT", "")
    monkeypatch.setattr(points, "heed_interrupts", lambda: None)  # a process of its own has them, the tests' has not
    points.base_job.cache_clear()
    monkeypatch.chdir(folder)
    write_notebook(folder, "01", COUNTED + "value = 1.0")
    return folder


def make_sweep(*arguments, paper="01"):
    return sweep.main(["--paper", paper, "--jobs", "2", *arguments])


def tables(project, name=NAME):
    return {path.stem: pd.read_csv(path) for path in (project / "build" / "sweeps" / name).glob("*.csv")}


def runs(project):
    return {path.name: len(path.read_text()) for path in project.glob("ran-*")}


def test_every_point_and_claim_is_a_row_and_a_second_sweep_runs_only_what_is_new(project, capsys):
    # Text that looks like code must arrive as text.
    grid = """strength=1.0;mode="+str(open('pwned', 'w'))+'""".replace(", ", "/")
    mode = grid.partition("mode=")[2]
    write_notebook(project, "01", COUNTED + f"assert mode == {mode!r}\nvalue = strength * (1 - 2 * (seed == 1))")
    assert make_sweep("--seeds", "0,1", "--grid", grid) == 0
    assert not list(project.rglob("pwned*"))
    found = tables(project)
    assert found["claims"]["mode"].tolist() == [mode] * 2
    claims = found["claims"].set_index("seed")
    assert claims.loc[[0, 1], "estimate"].tolist() == [1.0, -1.0]
    assert claims.loc[[0, 1], "verdict"].tolist() == ["reproduced", "not reproduced"]
    assert claims.loc[0, ["low", "high", "control_estimate"]].tolist() == [0.5, 1.5, 0.0]
    (summary,) = found["summary"].to_dict("records")
    assert [summary[name] for name in ("seeds", "reproduced", "not reproduced", "inconclusive")] == [2, 1, 1, 0]
    assert summary["stable"] == "no"
    assert (summary["mean"], summary["least"], summary["greatest"]) == (0.0, -1.0, 1.0)
    assert summary["sd"] == pytest.approx(2**0.5)
    assert summary["over seeds"] == "inconclusive"  # its own rule, on the two values: 0 [-12.7, 12.7]
    assert (summary["low"], summary["high"]) == pytest.approx((-12.706, 12.706), rel=1e-3)
    assert (summary["control_mean"], summary["control over seeds"]) == (0.0, "not reproduced")
    assert found["points"]["state"].tolist() == ["finished"] * 2
    page = (project / "build" / "sweeps" / NAME / "sweep.html").read_text()
    assert "✔ reproduced" in page
    assert "✘ not reproduced" in page
    for folder, report in found["points"][["folder", "report"]].itertuples(index=False):
        assert (project / "build" / "sweeps" / NAME / report).is_file()
        assert not (project / "build" / "sweeps" / NAME / folder / ".cache").exists()

    assert make_sweep("--seeds", "0-2", "--grid", grid) == 0
    assert "3 points, 2 of them finished before" in capsys.readouterr().out
    assert runs(project) == {"ran-0": 1, "ran-1": 1, "ran-2": 1}
    assert len(tables(project)["claims"]) == 3

    # Threads can change bits, and the notebook can change everything: neither point counts as finished then.
    (point,) = chosen(project, "--seeds", "0", "--grid", grid)
    assert sweep.reproduce.is_current(point)
    (point,) = chosen(project, "--seeds", "0", "--threads", "2", "--grid", grid)
    assert not sweep.reproduce.is_current(point)
    write_notebook(project, "01", COUNTED + "value = 3.0")
    (point,) = chosen(project, "--seeds", "0", "--grid", grid)
    assert not sweep.reproduce.is_current(point)


def chosen(project, *arguments):
    points.base_job.cache_clear()
    options = sweep.parse(["--paper", "01", *arguments])
    return sweep.make_points(options, project, project / "build" / "sweeps" / NAME)


def test_points_are_the_product_of_seeds_profiles_and_values_each_in_its_own_folder(project):
    found = chosen(project, "--seeds", "4,2", "--profiles", "smoke,quick", "--grid", "strength=0,2.5; mode=a,b/..")
    assert len(found) == 16
    assert len({point.place for point in found}) == len({point.label for point in found}) == 16
    assert all(point.place.parent == project / "build" / "sweeps" / NAME / "points" for point in found)
    values = [[point.parameters[name] for name in ("profile", "seed", "strength", "mode")] for point in found]
    assert values[0] == ["smoke", 4, 0.0, "a"]
    assert values[-1] == ["quick", 2, 2.5, "b/.."]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--grid", "strenght=1"), f"unknown parameter 'strenght' of notebook {NAME}; valid: data, data_root, device, strength, mode"),
        (("--grid", "seed=1,2"), "seed has an option of its own, SEEDS="),
        (("--grid", "strength"), "expected name=value,value;name=value, found 'strength'"),
        (("--grid", "strength=much"), "strength='much': expected a value like its default 1.0"),
        (("--grid", "strength=__import__('os').getpid()"), "GRID: strength="),
        (("--grid", "strength=1,1.0"), "strength has a value twice"),
        (("--grid", "strength=1;strength=2"), "strength is given twice"),
        (("--grid", "data=mnist"), "unknown data 'mnist' for paper 01; valid: world"),
        (("--grid", "device=abacus"), "unknown device 'abacus'; valid: auto, cpu"),
        (("--profiles", ","), "unknown profile ''; valid: smoke, quick, full"),
        (("--profiles", "quick,fast"), "unknown profile 'fast'; valid: smoke, quick, full"),
        (("--seeds", "0,-1"), "SEEDS: expected numbers of at least 0 such as 0,1 or 0-3 (no more than 10000), found '-1'"),
        (("--seeds", "0-999999999"), "no more than 10000"),
        (("--jobs", "0"), "JOBS must be a whole number above 0, found '0'"),
        (("--engine", "spark"), "unknown engine 'spark'; valid: local, dask"),
        (("--engine", "local", "--scheduler", "tcp://x:1"), "it goes with ENGINE=dask"),
        (("--name", "../up"), "SWEEP: expected letters, digits"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused_before_anything_runs(project, capsys, arguments, message):
    try:
        status = make_sweep(*arguments)
    except SystemExit as stop:
        status = stop.code
    assert status == 2
    assert message in capsys.readouterr().err
    assert not (project / "build").exists()


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("paper", ["", "01,06", "17"])
def test_a_sweep_takes_one_paper(capsys, paper):
    with contextlib.suppress(SystemExit):
        assert make_sweep(paper=paper) == 2
    assert "valid: 00, 01" in capsys.readouterr().err


def test_a_failing_point_is_named_on_both_engines_with_the_same_table_and_the_same_command_tries_it_again(
    project, capsys
):
    flaky = "from pathlib import Path\nassert seed != 1 or Path('mended').exists(), 'no luck'\nvalue = strength + seed"
    write_notebook(project, "01", COUNTED + flaky)
    arguments = ("--seeds", "0,1", "--grid", "strength=0.1")
    for name, engine in (("here", "local"), ("there", "dask")):
        assert make_sweep(*arguments, "--name", name, "--engine", engine) == 1
        out = capsys.readouterr().out
        assert "FAILED seed=1: exception in code cell 2 of 3" in out
        assert "AssertionError: no luck" in out
        assert "1 of 2 points finished" in out
    here, there = tables(project, "here"), tables(project, "there")
    pd.testing.assert_frame_equal(here["claims"], there["claims"], check_exact=True)
    pd.testing.assert_frame_equal(here["summary"], there["summary"], check_exact=True)
    assert here["claims"]["seed"].tolist() == [0]
    for found in (here, there):
        assert found["points"]["state"].tolist() == ["finished", "failed"]
        assert "no luck" in found["points"]["error"][1]
    assert runs(project) == {"ran-0": 2, "ran-1": 2}
    (project / "mended").touch()
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
    ) as cluster:
        assert make_sweep(*arguments, "--name", "there", "--scheduler", cluster.scheduler_address) == 0
    assert runs(project) == {"ran-0": 2, "ran-1": 3}
    assert tables(project, "there")["claims"]["estimate"].tolist() == [0.1, 1.1]


def test_a_killed_sweep_goes_on_where_it_was(project, capsys):
    # Seed 1 waits until it is killed; it then leaves a file behind by which its next run knows better.
    wait = "import time\nfrom pathlib import Path\nwaited = Path(f'waited-{seed}')\n"
    wait += "if seed == 1 and not waited.exists():\n    waited.touch()\n    time.sleep(600)\nvalue = 1.0"
    write_notebook(project, "01", COUNTED + wait)
    command = [sys.executable, "-m", "paper_utils.sweep", "--paper", "01", "--seeds", "0,1"]
    running = subprocess.Popen([*command, "--jobs", "1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (project / "waited-1").exists():
        assert time.monotonic() < deadline
        assert running.poll() is None
        time.sleep(0.1)
    assert make_sweep("--seeds", "0,1") == 3
    assert f"process {running.pid} on " in capsys.readouterr().err
    family = psutil.Process(running.pid).children(recursive=True)
    running.send_signal(signal.SIGKILL)
    running.wait()
    _, alive = psutil.wait_procs(family, timeout=30)
    assert alive == []
    assert make_sweep("--seeds", "0,1") == 0
    assert "2 points, 1 of them finished before" in capsys.readouterr().out
    assert runs(project) == {"ran-0": 1, "ran-1": 2}
    assert len(tables(project)["claims"]) == 2
    assert not [path for path in (project / "build").rglob("*") if path.is_file() and ".running" in path.parts]


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nowhere"])
def test_a_scheduler_that_does_not_answer_is_named(capsys, monkeypatch, address):
    monkeypatch.setattr(sweep, "CONNECT_SECONDS", 0.5)
    assert make_sweep("--scheduler", address) == 2
    assert f"no Dask scheduler answers at SCHEDULER={address}" in capsys.readouterr().err


def test_a_worker_that_cannot_run_a_point_fails_that_point_alone(tmp_path):
    class Future:
        def __init__(self, error):
            self.error = error

        def result(self):
            if self.error:
                raise self.error
            return {"failure": None, "seconds": 1.0}

    job = sweep.SweepPoint(papers.find("01"), Path("x.ipynb"), {"profile": "quick"}, "key", tmp_path, place=tmp_path)
    sweep._take(Future(ModuleNotFoundError("No module named 'paper_utils'")), job)
    assert job.failure == {"kind": "worker", "error": ["ModuleNotFoundError: No module named 'paper_utils'"]}
    sweep._take(Future(None), job)
    assert "workers must share its file system" in job.failure["error"][0]


def test_finished_cache_entries_are_lent_and_unfinished_ones_are_not(tmp_path):
    digest, other = "0123456789abcdef0123", "f" * 20
    own, store = tmp_path / "own", tmp_path / "store"
    for name in (
        f"{digest}.pt",
        f"{other}.checkpoint.pt",
        f"{other}.safetensors",
        "quick.safetensors",
        f".{digest}-x.part.pt",
    ):
        (own / "method").mkdir(parents=True, exist_ok=True)
        (own / "method" / name).write_text(name)
    (store / "method").mkdir(parents=True)
    (store / "method" / f"{other}.safetensors").write_text("older")
    sweep.lend(own, store)
    assert sorted(path.name for path in store.rglob("*.*")) == [f"{digest}.pt", f"{other}.safetensors"]
    assert (store / "method" / f"{digest}.pt").read_text() == f"{digest}.pt"
    assert (store / "method" / f"{other}.safetensors").read_text() == "older"
    # A file that is made anew takes the name, not the content: what was lent stays as it was.
    sweep.files.write_text(own / "method" / f"{digest}.pt", "rebuilt")
    assert (store / "method" / f"{digest}.pt").read_text() == f"{digest}.pt"


def test_entries_are_copied_where_a_file_cannot_have_two_names(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    entry = Path("method") / f"{'a' * 20}.pt"
    (tmp_path / "own" / "method").mkdir(parents=True)
    (tmp_path / "own" / entry).write_text("state")
    sweep.lend(tmp_path / "own", tmp_path / "store")
    assert (tmp_path / "store" / entry).read_text() == "state"
