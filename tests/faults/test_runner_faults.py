"""`make reproduce` under faults: killed kernels, disks that take no more, and two runs at once."""

import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fault_tools import LIMIT, mounted, names_in
from tiny_notebooks import make_project, write_notebook

from paper_utils import files, papers, reproduce, results

NAME, OTHER = papers.find("01").name, papers.find("06").name

# Kills the kernel at the moment at which a finished file would take its place.
KILLED_WRITE = """
import os, signal
os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
value = 5.0
"""
WRITE_MUCH = f"""
from paper_utils import files
files.write_text(files.output_root() / "figures" / "{NAME}" / "large.png", "x" * {4 * LIMIT})
"""
HOLD = """
import sys
from pathlib import Path
from paper_utils import files
with files.only_one(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    folder = make_project(tmp_path / "project")
    monkeypatch.setenv("PAPER_UTILS_OUTPUT", str(folder))
    monkeypatch.chdir(folder)
    write_notebook(folder, "01", "value = 1.0")
    write_notebook(folder, "06", "value = 1.0")
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield folder
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def ran(monkeypatch):
    """Names of the notebooks of each run that got the lock; none of them is really run."""
    runs = []
    monkeypatch.setattr(reproduce, "run_jobs", lambda jobs, _: runs.append([job.name for job in jobs]) or 0)
    return runs


def half_written(folder):
    return [name for name in names_in(folder) if ".part" in name or ".running/" in name]


def test_a_kernel_killed_while_it_writes_results_is_named_and_the_others_go_on(project, capsys):
    assert reproduce.main(["--paper", "01"]) == 0
    before = (project / "results" / "01.json").read_bytes()
    write_notebook(project, "01", KILLED_WRITE)
    assert reproduce.main(["--paper", "01,06"]) == 1
    output = capsys.readouterr().out
    assert f"FAILED {NAME}: dead kernel in code cell 3 of 3" in output
    assert "killed from outside, out of memory" in output
    assert "1 of 2 notebooks succeeded" in output
    assert (project / "results" / "01.json").read_bytes() == before
    assert results.load_results(project / "results" / "06.json")["paper"] == "06"
    assert half_written(project) == []


def test_a_killed_kernel_disturbs_no_file_that_another_notebook_is_writing(project, capsys):
    """Leftovers of one notebook are removed while the other is in the middle of a write to the same folder."""
    write_notebook(project, "01", KILLED_WRITE)
    waits = """
import time
from pathlib import Path
from paper_utils import files
with files.atomic_path(Path("results/slow.txt")) as temporary:
    temporary.write_text("slow")
    deadline = time.monotonic() + 60
    while not Path("build/NAME.failed.ipynb").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
value = 1.0
"""
    write_notebook(project, "06", waits.replace("NAME", NAME))
    assert reproduce.main(["--paper", "01,06", "--jobs", "2"]) == 1
    assert "1 of 2 notebooks succeeded" in capsys.readouterr().out
    assert (project / "results" / "slow.txt").read_text() == "slow"
    assert half_written(project) == []


def test_a_full_disk_ends_the_notebook_that_fills_it_with_the_name_of_the_file(project, tmp_path, monkeypatch, capsys):
    with mounted(tmp_path / "disk", f"size={2 * LIMIT}") as folder:
        monkeypatch.setenv("PAPER_UTILS_OUTPUT", str(folder))
        write_notebook(project, "01", WRITE_MUCH + "value = 1.0")
        assert reproduce.main(["--paper", "01"]) == 1
        output = capsys.readouterr().out
        assert f"FAILED {NAME}: exception in code cell 2 of 3" in output
        assert "large.png cannot be written: the disk is full, it needs 1.05 MB" in output
        assert half_written(folder) == []


@pytest.mark.usefixtures("project")
def test_a_disk_without_room_for_the_executed_copy_is_named(tmp_path, monkeypatch, capsys):
    with mounted(tmp_path / "disk", "size=16k") as folder:
        monkeypatch.setenv("PAPER_UTILS_OUTPUT", str(folder))
        (folder / "full").write_bytes(bytes(1))
        with contextlib.suppress(OSError), open(folder / "full", "wb", buffering=0) as file:
            while True:
                file.write(bytes(512))
        assert reproduce.main(["--paper", "01"]) == 1
        told = capsys.readouterr()
        assert "cannot be written: the disk is full" in told.out + told.err
        assert half_written(folder) == []


def test_a_file_in_place_of_the_figures_folder_is_named_by_the_runner(project, capsys):
    (project / "figures").write_text("mine")
    write_notebook(project, "01", WRITE_MUCH + "value = 1.0")
    assert reproduce.main(["--paper", "01"]) == 1
    output = capsys.readouterr().out
    assert f"FAILED {NAME}" in output
    assert "figures is a file, and a folder is needed there; move that file away" in output
    assert (project / "figures").read_text() == "mine"


def test_a_build_folder_that_cannot_be_made_is_named(project, capsys):
    (project / "build").write_text("mine")
    assert reproduce.main(["--paper", "01"]) == 1
    assert "build is a file, and a folder is needed there" in capsys.readouterr().err


@contextlib.contextmanager
def another_run(project):
    """A living process that holds the lock of this project, as another `make reproduce` would."""
    command = [sys.executable, "-c", HOLD, str(project / "build" / reproduce.LOCK_NAME)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment())
    try:
        assert holder.stdout.readline() == "held\n"
        yield holder
    finally:
        holder.kill()
        holder.communicate()


def environment():
    return dict(os.environ, PYTHONPATH=str(Path(files.__file__).parents[1]))


def test_a_second_run_on_the_same_checkout_is_refused_at_once_and_names_the_first(project, ran, capsys):
    with another_run(project) as holder:
        for asked in ("01", "06"):  # which notebooks are asked for makes no difference: the report is of all
            assert reproduce.main(["--paper", asked]) == 3
            message = capsys.readouterr().err
            assert f"another run is writing to {project}: process {holder.pid} on {platform.node()}" in message
            assert "PAPER_UTILS_OUTPUT=" in message
    assert ran == []


def test_runs_with_other_outputs_do_not_clash(project, ran, tmp_path, monkeypatch):
    with another_run(project):
        assert reproduce.main(["--paper", "01", "--profile", "smoke"]) == 0
        monkeypatch.setenv("PAPER_UTILS_OUTPUT", str(tmp_path / "elsewhere"))
        assert reproduce.main(["--paper", "01"]) == 0
    assert ran == [[NAME], [NAME]]


def test_runs_with_other_outputs_share_no_file(project, tmp_path, monkeypatch):
    def written_by(profile):
        job = reproduce.Job(papers.find("01"), project, {"profile": profile}, "key", project)
        return {job.running_copy, job.executed_copy, job.failed_copy, job.stamp, job.results_file}

    here, smoke = written_by("quick"), written_by("smoke")
    monkeypatch.setenv("PAPER_UTILS_OUTPUT", str(tmp_path / "elsewhere"))
    assert len(here | smoke | written_by("quick") | written_by("smoke")) == 20


def test_the_lock_of_a_killed_run_is_taken_over_and_its_leftovers_removed(project, ran, capsys):
    left = project / "results" / ".06-abc.part"
    left.mkdir(parents=True)
    (left / files.LOCK_NAME).touch()
    (left / "06.json").write_text("{")
    (project / "build" / ".running").mkdir(parents=True)
    (project / "build" / ".running" / f"{OTHER}.1.ipynb").write_text("{")
    with another_run(project) as holder:
        holder.kill()
        holder.wait()
        assert reproduce.main(["--paper", "01"]) == 0
    assert f"the last run (process {holder.pid} on {platform.node()}) was killed" in capsys.readouterr().out
    assert half_written(project) == []
    assert reproduce.main(["--paper", "01"]) == 0
    assert "was killed" not in capsys.readouterr().out
    assert ran == [[NAME], [NAME]]


def test_the_lock_is_free_after_a_run_that_failed(project, monkeypatch):
    def fail(*_):
        raise ValueError("a defect of the runner")

    monkeypatch.setattr(reproduce, "run_jobs", fail)
    for _ in range(2):
        with pytest.raises(ValueError, match="a defect of the runner"):
            reproduce.main(["--paper", "01"])
    with files.only_one(project / "build" / reproduce.LOCK_NAME) as dead:
        assert dead == ""


def test_a_disk_without_locks_is_said_and_does_not_stop_a_run(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "fcntl", None)
    with pytest.warns(UserWarning, match="no locks on this disk"), files.only_one(tmp_path / "lock"):
        files.write_text(tmp_path / "value.json", json.dumps(1))
    assert names_in(tmp_path) == ["lock", "value.json"]
