"""CPU time of every explorer's moves at quick size, beside the time of drawing the same pictures anew with matplotlib's own layout.

Run by ``make bench``; it runs every notebook up to section 9 (a second time from the cache in ``build/bench``). The aim is 150 ms a move.
"""

from __future__ import annotations

import json
from pathlib import Path

import nbclient
import nbformat
import papermill.iorw
import pytest

from paper_utils import files, papers

AIM_MS = 150.0
READY = [paper for paper in papers.NOTEBOOKS.values() if paper.ready]


def measured(paper: papers.Paper) -> list[dict]:
    """Rows of `widget_moves.measured` from a kernel that has run the notebook."""
    notebook = papermill.iorw.load_notebook_node(str(files.project_root() / "notebooks" / f"{paper.name}.ipynb"))
    exercises = next(
        i for i, c in enumerate(notebook.cells) if c.cell_type == "markdown" and "\n## 10" in f"\n{c.source}"
    )
    path = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import widget_moves"
    notebook.cells = [
        nbformat.v4.new_code_cell(f"{path}; widget_moves.record()"),
        *notebook.cells[:exercises],
        nbformat.v4.new_code_cell("import json; print(json.dumps(widget_moves.measured()))"),
    ]
    nbclient.NotebookClient(notebook, timeout=1200, kernel_name="python3").execute()
    said = [o.text for o in notebook.cells[-1].outputs if o.output_type == "stream" and o.name == "stdout"]
    return json.loads("".join(said).strip().splitlines()[-1])


@pytest.mark.parametrize("paper", READY, ids=lambda paper: paper.name)
def test_moves(benchmark, paper, monkeypatch):
    # Of its own, so that no figures and results are overwritten, and kept, so that a second run need not train again.
    monkeypatch.setenv(files.OUTPUT_VARIABLE, str(files.project_root() / "build" / "bench"))
    rows = benchmark.pedantic(lambda: measured(paper), rounds=1)
    benchmark.extra_info.update({row["name"]: row for row in rows})
    for row in rows:
        late = "" if row["most"] < AIM_MS else f"  (slowest above the aim of {AIM_MS:.0f} ms)"
        print(
            f"\n{paper.number} {row['name']}: {row['median']:.0f} ms a move, slowest {row['most']:.0f}; drawn anew {row['plain']:.0f} ms, "
            f"{row['plain'] / row['median']:.1f} times as long{late}",
            end="",
        )
    assert rows
