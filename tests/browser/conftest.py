"""A JupyterLab server and a browser for the tests of this folder, which `make test-browser` runs."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import chromium
import nbformat
import papermill.iorw
import papermill.parameterize
import pytest
from jupyter_lab import Lab
from playwright import sync_api

from paper_utils import papers

ROOT = Path(__file__).resolve().parents[2]
SECONDS_TO_START = 120


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--paper", default="", help="numbers of the notebooks, such as 01,06; all if empty")
    parser.addoption("--profile", default="smoke", choices=papers.PROFILES, help="size of the runs")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "paper" in metafunc.fixturenames:
        asked = [part for part in metafunc.config.getoption("--paper").split(",") if part.strip()]
        chosen = [papers.find(part) for part in asked] or [paper for paper in papers.NOTEBOOKS.values() if paper.ready]
        metafunc.parametrize("paper", chosen, ids=lambda paper: paper.name, scope="class")


@pytest.fixture(scope="session")
def pictures() -> Path:
    """Where screenshots go."""
    folder = ROOT / "build" / "browser"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A server of its own: copies of the notebooks without outputs, no settings of this user, nothing asked of the network."""
    home = tmp_path_factory.mktemp("jupyter")
    notebooks = home / "notebooks"
    notebooks.mkdir()
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        nbformat.write(_cleared(path, request.config.getoption("--profile")), notebooks / path.name)
    _settle(home / "settings")
    folders = {f"JUPYTER_{kind}_DIR": str(home / kind.lower()) for kind in ("CONFIG", "DATA", "RUNTIME")}
    folders |= {
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
    }
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    environment = (
        os.environ | folders | one_thread | {"PAPER_UTILS_OUTPUT": str(home / "made"), "PAPER_UTILS_QUIET": "1"}
    )
    token, log = secrets.token_hex(16), home / "server.log"
    options = {
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": "0",
        "ServerApp.root_dir": str(notebooks),
        "ServerApp.open_browser": "False",
        "ServerApp.allow_root": "True",
        "IdentityProvider.token": token,
        "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
        "LabApp.extension_manager": "readonly",
        # The front end's own objects say when all cells have run; nothing else is asked of them.
        "LabApp.expose_app_in_browser": "True",
    }
    command = [sys.executable, "-m", "jupyterlab", *(f"--{name}={value}" for name, value in options.items())]
    with log.open("w") as stream:
        server = subprocess.Popen(command, env=environment, cwd=home, stdout=stream, stderr=subprocess.STDOUT)
    try:
        yield Lab(_address(server, home / "runtime", log), token, log)
    finally:
        server.terminate()
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()


def _cleared(path: Path, profile: str) -> nbformat.NotebookNode:
    """The notebook as it comes to a reader who runs it with another profile: without outputs, parameters set as papermill sets them."""
    notebook = papermill.parameterize.parameterize_notebook(
        papermill.iorw.load_notebook_node(str(path)), {"profile": profile}
    )
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    notebook.metadata.pop("widgets", None)
    notebook.metadata.pop("papermill", None)
    return notebook


def _settle(folder: Path) -> None:
    """Answer the question whether news may be fetched, which JupyterLab asks on its first start."""
    file = folder / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"fetchNews": "false", "checkForUpdates": False}))


def _address(server: subprocess.Popen, runtime: Path, log: Path) -> str:
    """Where the server listens, as soon as it does."""
    until = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < until and server.poll() is None:
        for file in runtime.glob(f"jpserver-{server.pid}.json"):
            said = file.read_text()
            if said.endswith("}"):
                return json.loads(said)["url"]
        time.sleep(0.2)
    raise RuntimeError(f"JupyterLab did not start within {SECONDS_TO_START} s; its log ends: {log.read_text()[-2000:]}")


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sync_api.BrowserContext]:
    """A headless Chromium with an empty profile."""
    found = chromium.find()
    if found is None:
        pytest.exit("no Chromium found: run `make test-browser`, which says how to get one", returncode=2)
    with sync_api.sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("chromium"),
            executable_path=found,
            headless=True,
            args=list(chromium.ARGUMENTS),
            viewport={"width": 1280, "height": 900},
        )
        yield context
        context.close()
