"""Every notebook in a real JupyterLab and a real browser: it runs, its explorers follow their controls, and nothing complains.

Run by `make test-browser`; not part of `make test`. Screenshots go to ``build/browser``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from jupyter_lab import Lab, Notebook, settled
from playwright.sync_api import BrowserContext

from paper_utils import papers

ROOT = Path(__file__).resolve().parents[2]
MANY = 20  # values of a long drag
VIEW = "application/vnd.jupyter.widget-view+json"


@pytest.fixture(scope="class")
def opened(lab: Lab, browser: BrowserContext, paper: papers.Paper) -> Iterator[tuple[Notebook, list[dict]]]:
    """The notebook after all its cells have run, and the errors of its cells."""
    notebook = lab.open(browser, paper.name)
    yield notebook, notebook.run_all()
    notebook.close()


class TestNotebook:
    """In this order, in one tab."""

    def test_all_cells_run(self, opened: tuple[Notebook, list[dict]], paper: papers.Paper) -> None:
        _, errors = opened
        assert errors == [], f"a cell of {paper.name} failed"

    def test_every_picture_follows_its_controls(
        self, opened: tuple[Notebook, list[dict]], paper: papers.Paper, pictures: Path
    ) -> None:
        notebook, _ = opened
        explorers = notebook.explorers()
        heading = notebook.page.locator("h2", has_text="9. Play")
        assert heading.count() == 1
        heading.scroll_into_view_if_needed()
        for explorer in explorers:
            explorer.show()
            followed = []
            for control, move in explorer.moves():
                began = time.perf_counter()
                if explorer.changes(move):
                    followed.append(f"{control} {1000 * (time.perf_counter() - began):.0f} ms")
                    break
            assert followed, f"{explorer.name} in {paper.name}: no control changes the picture"
            print(f"{paper.name}: {explorer.name} followed its {followed[0]} after the move")
            settled(explorer.picture, notebook.page)
            explorer.show()
            explorer.box.screenshot(path=pictures / f"{paper.number}_{explorer.name}.png")
        explorers[0].show()
        notebook.page.screenshot(path=pictures / f"{paper.name}.png")

    def test_a_fast_drag_leaves_no_queue_and_ends_with_the_last_value(
        self, opened: tuple[Notebook, list[dict]], paper: papers.Paper
    ) -> None:
        sliders = [(explorer, slider) for explorer in opened[0].explorers() for slider in explorer.sliders()]
        if not sliders:
            pytest.skip(f"{paper.name} has no slider")
        drags = []
        for explorer, slider in sliders:
            explorer.show()
            drags.append(explorer.drag(slider))
            if drags[-1].tells and drags[-1].values >= MANY:
                break
        drag = max(drags, key=lambda one: (one.tells, one.values))
        print(f"{paper.name}: {explorer.name} showed {drag.redraws} pictures of {drag.values} values")
        assert all(one.ended_right for one in drags)
        assert drag.tells
        # How many are skipped depends on whether the machine draws slower than the mouse moves; a queue would show after the release.
        assert drag.redraws <= drag.values
        # When the mouse is let go, one redraw may be under way, one waits, and one message with the last value may not have come in yet.
        assert drag.after_release <= 3

    def test_nothing_complains(self, opened: tuple[Notebook, list[dict]]) -> None:
        notebook, _ = opened
        complaints = [*notebook.complaints, *notebook.said_by_server()]
        print(*complaints, sep="\n")
        assert complaints == []


class TestStored:
    """What is seen where no kernel runs."""

    def test_every_widget_has_a_static_picture(self, paper: papers.Paper) -> None:
        cells = nbformat.read(ROOT / "notebooks" / f"{paper.name}.ipynb", as_version=4).cells
        shown = [o for cell in cells if cell.cell_type == "code" for o in cell.outputs if VIEW in o.get("data", {})]
        assert shown, f"{paper.name} shows no widget in its stored outputs"
        assert all("image/png" in output.data for output in shown), "store the outputs anew: make outputs"
