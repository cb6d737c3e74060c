"""What a user sets on make's command line reaches the programs as data: no shell, no make and no notebook runs it."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from papermill.parameterize import parameterize_notebook

from paper_utils import notebook_worker, papers, reproduce

VALUES = {
    "a command for make": "$(shell touch touched)",
    "a command for the shell": "$(touch touched)",
    "backticks": "`touch touched`",
    "an end of quotes": '"; touch touched; "',
    "an end of single quotes": "'; touch touched; '",
    "a line of its own": "a\ntouch touched\nb",
    "a redirection": "x > touched",
    "a variable": "${HOME} $HOME %HOME%",
    "an option": "--help",
    "blanks and a comment": "two  words # no comment ",
    "a backslash at the end": "folder\\",
    "a star": "*",
    "code": '"); import os; os.system("touch touched"); ("',
}
# The variables that each target passes on, and how its program gets them: as an option, or as the file behind `--`.
TARGETS = {
    "reproduce": ("PAPER", "PROFILE", "DATA", "DATA_ROOT", "SEED", "DEVICE", "JOBS", "THREADS", "TIMEOUT", "FORCE"),
    "sweep": ("PAPER", "SEEDS", "PROFILES", "GRID", "DATA", "DATA_ROOT", "DEVICE", "SWEEP", "ENGINE", "SCHEDULER", "JOBS", "THREADS", "TIMEOUT", "FORCE"),
    "verify": ("PAPER", "PROFILE", "SEEDS", "THREADS_LIST", "DEVICE", "JOBS", "TIMEOUT", "FORCE", "ALLOW_UNSTABLE"),
    "voice": ("WAV",),
    "animate": ("WAV",),
    "emote": ("EMOTION", "INTENSITY", "WAV"),
    "faces": ("IMAGES",),
    "gesture": ("WAV",),
}  # fmt: skip
STUB = '#!{python}\nimport json, os, sys\njson.dump(sys.argv[1:], open(os.environ["SEEN"], "w"))\n'


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The Makefile with an environment whose Python only notes how it was called."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    folder = tmp_path / "checkout"
    (folder / ".venv" / "bin").mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", folder)
    for name in ("requirements.lock", "requirements.hashes", "pyproject.toml", ".venv/.complete"):
        (folder / name).touch()
    for name in ("python", "ruff", "jupyter"):
        stub = folder / ".venv" / "bin" / name
        stub.write_text(STUB.format(python=sys.executable))
        stub.chmod(0o755)
    return folder


def called(folder: Path, target: str, settings: dict[str, str], *, as_environment: bool) -> list[str]:
    """Arguments of the program that a target calls, its settings given as arguments of make or in the environment."""
    seen = folder / "seen.json"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")} | {"SEEN": str(seen)}
    arguments = [] if as_environment else [f"{name}={value}" for name, value in settings.items()]
    subprocess.run(
        ["make", "-s", target, *arguments],
        cwd=folder,
        env=environment | (settings if as_environment else {}),
        check=True,
        timeout=60,
    )
    found = json.loads(seen.read_text())
    seen.unlink()
    return found


@pytest.mark.parametrize("as_environment", [False, True], ids=["argument", "environment"])
@pytest.mark.parametrize("what", VALUES)
def test_no_value_of_a_variable_is_run(what, as_environment, checkout):
    before = sorted(path.name for path in checkout.iterdir())
    # One target has all kinds of variables; the others are gone through with the value that holds every special character.
    for target in TARGETS if what == "code" else ("reproduce", "emote"):
        names = TARGETS[target]
        settings = {name: f"{VALUES[what]}{i}" for i, name in enumerate(names)}
        found = called(checkout, target, settings, as_environment=as_environment)
        for name in names:
            last = names.index(name) == len(names) - 1
            if name in ("WAV", "IMAGES"):
                assert last
                assert found[-2:] == ["--", settings[name]]
            else:
                assert sum(argument.partition("=")[2] == settings[name] for argument in found) == 1, (target, name)
    assert sorted(path.name for path in checkout.iterdir()) == before


def test_every_variable_of_the_makefile_goes_this_way():
    """A new variable is passed on like the others, and no recipe lets make put one into a command."""
    text = (ROOT / "Makefile").read_text()
    listed = re.search(r"^VARIABLES := ((?:.*\\\n)*.*)$", text, re.MULTILINE).group(1).replace("\\\n", " ").split()
    assert set(re.findall(r"^([A-Z_]+) \?=", text, re.MULTILINE)) <= set(listed)
    assert {name for names in TARGETS.values() for name in names} <= set(listed)
    recipes = "\n".join(line for line in text.splitlines() if line.startswith("\t"))
    assert not re.findall(rf"\$[({{](?:{'|'.join(listed)})[)}}]", recipes)
    assert set(re.findall(r"\$\$\{?([A-Z_]+)", recipes)) <= {*listed, "PWD"}


@pytest.mark.parametrize("name", ["voice_to_face", "animate", "emote_wav", "gesture", "reconstruct_faces"])
def test_a_file_may_be_named_like_an_option(name):
    parse = importlib.import_module(f"paper_utils.{name}").parse
    assert "--help" in map(str, vars(parse(["--", "--help"])).values())


# ------------------------------------------------------------------------------------------------------------- notebooks

CELLS = {"profile": "quick", "seed": 0, "data": "world", "data_root": None, "device": "auto"}


def injected(parameters: dict[str, object]) -> ast.Module:
    """The cell that papermill puts into a notebook."""
    cell = nbformat.v4.new_code_cell(
        "\n".join(f"{k} = {v!r}" for k, v in CELLS.items()), metadata={"tags": ["parameters"]}
    )
    notebook = nbformat.v4.new_notebook(
        cells=[cell],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}, "papermill": {}},
    )
    changed = parameterize_notebook(
        notebook, json.loads(json.dumps(parameters)), kernel_name="python3", language="python"
    )
    (found,) = [c for c in changed.cells if "injected-parameters" in c.metadata.get("tags", [])]
    return ast.parse(found.source)


VALUE = st.one_of(
    st.text(max_size=40), st.sampled_from(list(VALUES.values())), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.none(), st.booleans()
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(list(CELLS)), VALUE | st.lists(VALUE, max_size=3), min_size=1))
@settings(max_examples=60)
def test_parameters_of_a_notebook_are_literals_of_the_values_given(parameters):
    found = {}
    for node in injected(parameters).body:
        assert isinstance(node, ast.Assign), ast.dump(node)
        found[node.targets[0].id] = ast.literal_eval(node.value)
    assert found == parameters


def test_the_runner_gives_a_notebook_only_names_of_its_own(monkeypatch, tmp_path):
    """A parameter's name is put into the cell as it is, so none of them may come from outside."""
    seen = {}
    monkeypatch.setattr(
        notebook_worker.papermill, "execute_notebook", lambda *_, parameters, **__: seen.update(parameters)
    )
    monkeypatch.setattr(notebook_worker.threading, "Thread", lambda **_: type("Still", (), {"start": lambda _: None})())
    notebook_worker.main("in.ipynb", "out.ipynb", str(tmp_path), json.dumps(dict.fromkeys(CELLS, VALUES["code"])))
    assert set(seen) == set(CELLS)
    assert set(seen.values()) == {VALUES["code"]}


@pytest.mark.parametrize("what", VALUES)
def test_the_runner_refuses_values_that_are_no_setting(what, capsys):
    for argument in ("--seed", "--jobs", "--threads", "--timeout"):
        with pytest.raises(SystemExit):
            reproduce.parse([f"{argument}={VALUES[what]}"])
    assert "must be a number, found" in capsys.readouterr().err
    with pytest.raises((SystemExit, ValueError, KeyError)):
        papers.find(VALUES[what])
