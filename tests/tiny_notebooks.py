"""A small project for tests of what runs notebooks: its notebooks need no torch, and write a results file with one claim each."""

from __future__ import annotations

from pathlib import Path

import nbformat

from paper_utils import papers

PARAMETERS = """profile = "quick"
seed = 0
data = "world"
data_root = None
device = "auto"
strength = 1.0
mode = "plain"
"""

# What `Experiment.finish` writes, as far as runners read it; VALUE and the cell before decide what is measured.
FINISH = """
import json
from paper_utils import files
estimate = {"measured": value, "ci95": [value - 0.5, value + 0.5], "n": 3}
verdict = "reproduced" if value > 0.5 else "not reproduced" if value < -0.5 else "inconclusive"
claim = {"id": "T1", "statement": "the value is above zero", "paper_value": "none", "unit": "points", "method": "t",
    "rule": "the whole 95 % interval lies above 0 points", "verdict": verdict, "reason": "where it lies", **estimate,
    "control": {"statement": "zero", "verdict": "inconclusive", **estimate, "measured": 0.0, "ci95": [-0.5, 0.5]}}
record = {"paper": "NUMBER", "title": "A title | with a bar", "profile": profile, "seed": seed, "data": data, "seconds": 0.1,
    "environment": {"device": "cpu", "commit": "none", "packages": {"torch": "none"}},
    "claims": [claim], "tables": {"values": [value, strength]}, "figures": []}
files.write_text(files.output_root(profile) / "results" / "NUMBER.json", json.dumps(record))
"""


def write_notebook(project: Path, number: str, value: str, first: str = "*Reading time about 5 minutes.*") -> None:
    """A notebook of paper `number` whose claim measures `value`, code that sets ``value`` from the parameters."""
    parameters = nbformat.v4.new_code_cell(PARAMETERS)
    parameters.metadata["tags"] = ["parameters"]
    code = [value, FINISH.replace("NUMBER", number)]
    cells = [nbformat.v4.new_markdown_cell(first), parameters, *map(nbformat.v4.new_code_cell, code)]
    notebook = nbformat.v4.new_notebook(
        cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python", "language": "python"}}
    )
    nbformat.write(notebook, project / "notebooks" / f"{papers.find(number).name}.ipynb")


def make_project(folder: Path) -> Path:
    """An empty project in `folder`."""
    (folder / "notebooks").mkdir(parents=True)
    (folder / "pyproject.toml").write_text("")
    (folder / "requirements.lock").write_text("torch==2.13.0\n")
    return folder
