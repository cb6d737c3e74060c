"""The runner behind `make reproduce`, on a small project of its own whose notebooks succeed, fail, die or hang."""

import json
import os
import signal
import subprocess
import sys
import time

import nbformat
import psutil
import pytest

from paper_utils import papers

FRAME = """
from paper_utils import experiment
from paper_utils.metrics.statistics import exact
import matplotlib.pyplot as plt
exp = experiment.start("{number}", profile=profile, seed=seed, data=data, data_root=data_root, device=device)
exp.declare(experiment.Claim("T1", "one is above zero", "none", 0.0, "above", "points", "zero"))
exp.verdict("T1", exact(1.0), control=exact(0.0))
exp.save_figure(plt.figure(), "empty", "An empty figure.")
exp.finish()
"""
NAME = papers.find("01").name
OTHER = papers.find("06").name


def write_notebook(project, name, *cells):
    parameters = nbformat.v4.new_code_cell("profile, seed, data, data_root, device = 'quick', 0, None, None, 'auto'")
    parameters.metadata["tags"] = ["parameters"]
    notebook = nbformat.v4.new_notebook(cells=[parameters, *map(nbformat.v4.new_code_cell, cells)])
    nbformat.write(notebook, project / "notebooks" / f"{name}.ipynb")


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setenv("PAPER_UTILS_OUTPUT", str(tmp_path))
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "requirements.lock").write_text("torch==2.13.0\n")
    write_notebook(tmp_path, NAME, FRAME.format(number="01"))
    write_notebook(tmp_path, OTHER, FRAME.format(number="06"))
    return tmp_path


def reproduce(project, *arguments):
    chosen = () if "--paper" in arguments else ("--paper", "01,06")  # the two notebooks that this project has
    command = [sys.executable, "-m", "paper_utils.reproduce", *chosen, *arguments]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=240, check=False)


def left_behind(project):
    """Files that only a run in progress may have."""
    return [p for p in project.rglob("*") if p.suffix == ".part" or (p.is_file() and ".running" in p.parts)]


def test_success_then_skip_then_only_what_changed(project):
    first = reproduce(project)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "2 of 2 notebooks succeeded" in first.stdout
    assert first.stdout.count("one is above zero") == 2
    assert (project / "build" / f"{NAME}.ipynb").exists()
    assert (project / "figures" / NAME / "empty.png").exists()
    assert "one is above zero" in (project / "results" / "report.html").read_text()
    assert left_behind(project) == []

    began = time.monotonic()
    second = reproduce(project)
    assert second.returncode == 0
    assert second.stdout.count("skipped (FORCE=1 runs it)") == 2
    assert second.stdout.count("one is above zero") == 2
    assert time.monotonic() - began < 60

    write_notebook(project, OTHER, FRAME.format(number="06"), "1 + 1")
    (project / "figures" / NAME / "empty.png").unlink()
    third = reproduce(project)
    assert third.returncode == 0
    assert "skipped" not in third.stdout


def test_what_a_result_depends_on_makes_it_run_again(project):
    assert reproduce(project, "--paper", "01").returncode == 0
    assert "skipped" in reproduce(project, "--paper", "1").stdout
    assert "skipped" not in reproduce(project, "--paper", "01", "--seed", "1").stdout
    (project / "requirements.lock").write_text("torch==2.13.0\nnumpy==2.0.0\n")
    assert "skipped" not in reproduce(project, "--paper", "01", "--seed", "1").stdout
    results = project / "results" / "01.json"
    results.write_text(results.read_text()[:-20])
    repaired = reproduce(project, "--paper", "01", "--seed", "1")
    assert "skipped" not in repaired.stdout
    assert repaired.returncode == 0


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (
            "values = []\nvalues[3]",
            ["exception in code cell 2 of 3", "| values = []", "IndexError: list index out of range"],
        ),
        (
            "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
            ["dead kernel in code cell 2 of 3", "out of memory"],
        ),
        ("import time\ntime.sleep(600)", ["time-out in code cell 2 of 3", "not finished after 12 s"]),
        (
            "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\nimport time\ntime.sleep(600)",
            ["dead worker in code cell 2 of 3", "signal SIGKILL"],
        ),
    ],
    ids=["exception", "killed kernel", "time-out", "killed worker"],
)
def test_a_notebook_that_fails_is_named_and_does_not_stop_the_other(project, cell, expected):
    write_notebook(project, NAME, cell, "print('never')")
    timeout = ("--timeout", "12") if "time-out" in expected[0] else ()
    papers_run = ("--paper", "01") if timeout else ()
    done = reproduce(project, "--jobs", "1", *timeout, *papers_run)
    assert done.returncode == 1
    for text in (f"FAILED {NAME}: {expected[0]}", *expected[1:]):
        assert text in done.stdout, done.stdout
    if not papers_run:
        assert "1 of 2 notebooks succeeded" in done.stdout
        assert (project / "results" / "06.json").exists()
    assert not (project / "results" / "01.json").exists()
    assert not (project / "build" / f"{NAME}.ipynb").exists()
    assert left_behind(project) == []


def test_a_failure_keeps_the_last_good_copy(project):
    assert reproduce(project, "--paper", "01").returncode == 0
    good = (project / "build" / f"{NAME}.ipynb").read_text()
    results = (project / "results" / "01.json").read_text()
    write_notebook(project, NAME, "1 / 0")
    assert reproduce(project, "--paper", "01").returncode == 1
    assert (project / "build" / f"{NAME}.ipynb").read_text() == good
    assert (project / "results" / "01.json").read_text() == results
    assert (project / "build" / f"{NAME}.failed.ipynb").exists()


def test_a_notebook_that_writes_no_results_has_failed(project):
    write_notebook(project, NAME, "1 + 1")
    done = reproduce(project, "--paper", "01")
    assert done.returncode == 1
    assert "results" in done.stdout
    assert "cannot be read" in done.stdout


@pytest.mark.parametrize("started", ["in front", "in the background"])
@pytest.mark.parametrize(
    "sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=["ctrl-c", "terminate", "kill -9"]
)
def test_an_interrupt_leaves_no_kernel_and_no_half_written_file(project, sent, started):
    write_notebook(project, NAME, "open('started', 'w').close()", "import time\ntime.sleep(600)")
    command = [sys.executable, "-m", "paper_utils.reproduce", "--paper", "01"]
    # A shell without job control starts background commands with interrupts ignored, and children inherit that.
    before = signal.signal(
        signal.SIGINT, signal.SIG_IGN if started == "in the background" else signal.default_int_handler
    )
    try:
        runner = subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, before)
    deadline = time.monotonic() + 60
    while not (project / "started").exists():
        assert time.monotonic() < deadline
        assert runner.poll() is None, runner.communicate()
        time.sleep(0.1)
    family = psutil.Process(runner.pid).children(recursive=True)
    assert len(family) >= 2
    runner.send_signal(sent)
    output, errors = runner.communicate(timeout=40)
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == []
    if sent != signal.SIGKILL:
        assert runner.returncode == 130, output + errors
        assert "interrupted" in errors
        assert left_behind(project) == []
    assert not (project / "results" / "01.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--paper", "17"), "unknown paper '17'; valid: 00, 01"),
        (("--profile", "fast"), "unknown profile 'fast'; valid: smoke, quick, full"),
        (("--paper", "06", "--data", "mnist"), "unknown data 'mnist' for paper 06; valid: world, digits"),
        (("--paper", "01", "--data", "posteriors", "--data-root", "/nowhere"), "data_root '/nowhere' does not exist"),
        (("--device", "abacus"), "unknown device 'abacus'; valid: auto, cpu"),
        (("--seed", "one"), "SEED must be a number, found 'one'"),
        (("--seed", "-4"), "SEED must be at least 0, found -4"),
        (("--jobs", "0"), "JOBS and THREADS must be at least 1"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_runs(project, arguments, message):
    done = reproduce(project, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert not (project / "build").exists()


def test_workers_get_one_thread_and_the_parameters(project):
    cell = "import os, json\njson.dump([os.environ['OMP_NUM_THREADS'], seed, profile, data], open('seen.json', 'w'))"
    write_notebook(project, NAME, cell, FRAME.format(number="01"))
    assert reproduce(project, "--paper", "01", "--seed", "7", "--profile", "smoke").returncode == 0
    assert json.loads((project / "seen.json").read_text()) == ["1", 7, "smoke", "world"]
    assert (project / "build" / "smoke" / "results" / "report.html").exists()
    assert not (project / "results").exists()
    assert os.listdir(project / "build" / "smoke" / "figures")
