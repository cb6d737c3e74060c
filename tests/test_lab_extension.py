"""The extension that gives pictures in JupyterLab their alternative text: that JupyterLab finds it where `make lab` says."""

import json
import re
import shutil
import subprocess

import pytest
from conftest import ROOT
from jupyterlab_server.config import get_federated_extensions

LAB = ROOT / "docs" / "lab"

PLAY = """
const window = globalThis;
require(process.argv[1]);
const picture = {alt: ""};
const drawn = [];
const factory = {mimeTypes: ["image/png", "image/gif"], createRenderer: () => ({
  node: {querySelector: () => picture}, renderModel: async (model) => { drawn.push(model); }})};
const added = [];
const registry = {getFactory: (type) => type === "image/png" ? factory : undefined, addFactory: (f) => added.push(f)};
const container = window._JUPYTERLAB["alternative-text"];
container.init({"@jupyterlab/rendermime": {"4.0.0": {get: async () => () => ({IRenderMimeRegistry: "token"})}}});
container.get("./extension").then(async (make) => {
  const plugin = make().default;
  plugin.activate({}, registry);
  const renderer = added[0].createRenderer({});
  await renderer.renderModel({metadata: {"image/png": {alt: "Slopes."}}});
  const first = picture.alt;
  await renderer.renderModel({metadata: {}});
  console.log(JSON.stringify({requires: plugin.requires, types: added[0].mimeTypes, first, second: picture.alt, drawn: drawn.length}));
});
"""


def test_jupyterlab_finds_the_extension_where_make_lab_points():
    found = get_federated_extensions([str(LAB)])["alternative-text"]
    assert (LAB / "alternative-text" / found["jupyterlab"]["_build"]["load"]).is_file()
    assert found["name"] == "alternative-text"
    recipe = re.search(r"^lab:.*\n\t(.*)", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    assert f"extra_labextensions_path={LAB.relative_to(ROOT)} " in recipe


@pytest.mark.skipif(
    shutil.which("node") is None,
    reason="no Node.js to run the extension's script; make test-browser runs it in a browser",
)
def test_a_picture_gets_its_text_after_jupyterlab_has_drawn_it():
    script = LAB / "alternative-text" / "static" / "remoteEntry.js"
    done = subprocess.run(["node", "-e", PLAY, str(script)], capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout) == {
        "requires": ["token"], "types": ["image/png"], "first": "Slopes.", "second": "Slopes.", "drawn": 2,
    }  # fmt: skip
