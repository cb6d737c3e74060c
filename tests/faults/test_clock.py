"""A clock that jumps: what lasts is measured on a clock that cannot, and what has changed is told by content, not by times of files."""

import contextlib
import itertools
import os
import sys
import time

import pytest
import torch
from tiny_notebooks import make_project, write_notebook

from paper_utils import experiment, reproduce, training

YEARS = 10 * 365 * 86400.0


@pytest.fixture(params=["back and forth", "back", "forward"])
def jumping_clock(request, monkeypatch):
    """The wall clock jumps by ten years at every look."""
    real = time.time
    jumps = {
        "back and forth": itertools.cycle([YEARS, -YEARS]),
        "back": itertools.count(0, -YEARS / 1000),
        "forward": itertools.count(0, YEARS),
    }[request.param]
    monkeypatch.setattr(time, "time", lambda: real() + next(jumps))


def saved_steps(tmp_path, monkeypatch, seconds_a_step):
    """Steps at which a training of 10 steps saves that shall save every minute, if each step takes so long on the monotonic clock."""
    now = itertools.count(0.0, seconds_a_step / 2)  # looked at once for the interval, and once more where it was saved
    monkeypatch.setattr(training.time, "monotonic", lambda: next(now))
    net = torch.nn.Linear(1, 1)
    run = training.Run(
        training.launch("cpu"),
        {"net": net},
        torch.optim.SGD(net.parameters(), lr=0.1),
        steps=10,
        checkpoint=tmp_path / "c.pt",
        every_seconds=60.0,
    )
    saved, save = [], run.save
    monkeypatch.setattr(run, "save", lambda: (saved.append(run.step), save()))
    for _ in run:
        run.update(run.modules["net"](torch.ones(1, 1)).mean())
    return saved


@pytest.mark.usefixtures("jumping_clock")
def test_clock_jumps_neither_hasten_nor_delay_checkpoints(tmp_path, monkeypatch):
    assert saved_steps(tmp_path / "quick", monkeypatch, 0.01) == [10]
    often = saved_steps(tmp_path / "slow", monkeypatch, 60.0)
    assert len(often) > 3
    assert often[-1] == 10


@pytest.mark.usefixtures("jumping_clock")
def test_clock_jumps_do_not_stop_a_progress_bar(monkeypatch):
    monkeypatch.delenv("PAPER_UTILS_QUIET")
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with training.progress(100) as bar:
        for _ in range(100):
            bar.update()
        assert bar.n == 100


@pytest.mark.usefixtures("jumping_clock")
def test_clock_jumps_do_not_enter_the_seconds_of_a_run():
    exp = experiment.start("06")
    exp.finish()
    seconds = experiment.results.load_results(exp.root / "results" / "06.json")["seconds"]
    assert 0 <= seconds < 60


@pytest.mark.usefixtures("jumping_clock")
@pytest.mark.parametrize("jumping_clock", ["back and forth"], indirect=True)
def test_clock_jumps_neither_time_out_nor_rerun_a_notebook(tmp_path, monkeypatch, capsys):
    project = make_project(tmp_path / "project")
    monkeypatch.setenv("PAPER_UTILS_OUTPUT", str(project))
    monkeypatch.chdir(project)
    write_notebook(project, "06", "value = 1.0")
    assert reproduce.main(["--paper", "06", "--timeout", "300"]) == 0
    assert "1 of 1 notebooks succeeded" in capsys.readouterr().out

    for when in (time.time() + YEARS, 0.0):
        for path in project.rglob("*"):
            with contextlib.suppress(FileNotFoundError):
                os.utime(path, (when, when))
        assert reproduce.main(["--paper", "06"]) == 0
        assert "unchanged since its last success, skipped" in capsys.readouterr().out


def test_a_changed_notebook_runs_again_even_if_its_file_is_older_than_the_results(tmp_path, monkeypatch, capsys):
    project = make_project(tmp_path / "project")
    monkeypatch.setenv("PAPER_UTILS_OUTPUT", str(project))
    monkeypatch.chdir(project)
    write_notebook(project, "06", "value = 1.0")
    assert reproduce.main(["--paper", "06"]) == 0
    write_notebook(project, "06", "value = 2.0")
    os.utime(next((project / "notebooks").glob("06*.ipynb")), (0, 0))
    assert reproduce.main(["--paper", "06"]) == 0
    assert "skipped" not in capsys.readouterr().out
    assert experiment.results.load_results(project / "results" / "06.json")["claims"][0]["measured"] == 2.0
