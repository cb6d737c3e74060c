"""What the tests of this folder do in JupyterLab's window: open a notebook, run it, move controls, look at pictures."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from playwright.sync_api import BrowserContext, ConsoleMessage, Locator, Page

Seen = TypeVar("Seen")
SECONDS_TO_RUN = 600
SECONDS_TO_REDRAW = 30.0
# Chromium's own words about a machine without a graphics card; nothing of the page's.
HARMLESS = re.compile(r"WebGL|GPU|GroupMarkerNotSet")

# What the front end knows of the cells of the open notebook.
CELLS = """() => {
  const {content, context} = window.jupyterapp.shell.currentWidget;
  const code = content.widgets.filter(cell => cell.model.type === "code" && cell.model.sharedModel.source.trim());
  const outputs = cell => Array.from({length: cell.model.outputs.length}, (_, i) => cell.model.outputs.get(i));
  return {
    kernel: context.sessionContext.session?.kernel?.status ?? "none",
    waiting: code.filter(cell => cell.model.executionCount === null || cell.model.executionState === "running").length,
    errors: code.flatMap(outputs).filter(output => output.type === "error").map(output => output.data["application/vnd.jupyter.error"] ?? {}),
  };
}"""
# Counts how often a picture gets another source, and notes the values that a slider shows, where a test can read them.
WATCH_PICTURE = """img => {
  img.redraws = 0;
  img.watcher?.disconnect();
  img.watcher = new MutationObserver(changes => { img.redraws += changes.length; });
  img.watcher.observe(img, {attributes: true, attributeFilter: ["src"]});
}"""
WATCH_READOUT = """readout => {
  readout.values = new Set();
  readout.watcher?.disconnect();
  readout.watcher = new MutationObserver(() => readout.values.add(readout.textContent));
  readout.watcher.observe(readout, {childList: true, characterData: true, subtree: true});
}"""
BYTES = "async img => Array.from(new Uint8Array(await (await fetch(img.src)).arrayBuffer()))"


@dataclass
class Lab:
    """A running server."""

    address: str
    token: str
    log: Path

    def open(self, browser: BrowserContext, name: str) -> Notebook:
        """Open a notebook in a tab of its own, in a workspace that holds nothing else."""
        page = browser.new_page()
        notebook = Notebook(page, self.log, len(self.log.read_text()))
        page.on("console", notebook.hear)
        page.on("pageerror", lambda error: notebook.complaints.append(f"page error: {error}"))
        page.goto(f"{self.address}lab/workspaces/{name}/tree/{name}.ipynb?token={self.token}&reset")
        page.locator(".jp-NotebookPanel .jp-Cell").first.wait_for(timeout=60_000)
        page.wait_for_function(f"() => ({CELLS})().kernel === 'idle'", timeout=60_000)
        return notebook


@dataclass
class Notebook:
    """An open notebook."""

    page: Page
    log: Path
    log_begin: int
    complaints: list[str] = field(default_factory=list)

    def hear(self, message: ConsoleMessage) -> None:
        """Note what the console says is wrong."""
        if message.type == "error" and not HARMLESS.search(message.text):
            self.complaints.append(f"console: {message.text} ({message.location.get('url', '')})")

    def run_all(self) -> list[dict]:
        """Run all cells with the menu, as a reader does; return the errors of cells."""
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        done = "() => { const now = (%s)(); return now.errors.length > 0 || (now.waiting === 0 && now.kernel === 'idle'); }"
        self.page.wait_for_function(done % CELLS, timeout=1000 * SECONDS_TO_RUN, polling=250)
        return self.page.evaluate(CELLS)["errors"]

    def explorers(self) -> list[Explorer]:
        """All explorers, from top to bottom."""
        self.page.locator(".explorer").first.wait_for(state="attached", timeout=20_000)
        return [Explorer(self.page, box) for box in self.page.locator(".explorer").all()]

    def said_by_server(self) -> list[str]:
        """Lines of the server's log since the notebook was opened that tell of an exception: a callback that fails tells nobody else."""
        lines = self.log.read_text()[self.log_begin :].splitlines()
        return [line for line in lines if re.search(r"Traceback|Exception in|Error:", line)]

    def close(self) -> None:
        """Close the tab and end its kernel."""
        self.page.evaluate("() => window.jupyterapp.shell.currentWidget.context.sessionContext.shutdown()")
        self.page.close()


@dataclass
class Explorer:
    """Controls above a picture, in the window."""

    page: Page
    box: Locator

    @property
    def name(self) -> str:
        """Name of the function that made it."""
        names = (self.box.get_attribute("class") or "").split()
        return next(name for name in names if name.startswith("explore_"))

    @property
    def image(self) -> Locator:
        return self.box.locator("img.widget-image").first

    def sliders(self) -> list[Locator]:
        """All sliders, with their names and what they read."""
        return self.box.locator(".widget-slider").all()

    def picture(self) -> str:
        """Hash of the picture's file as the browser has it."""
        return hashlib.sha256(bytes(self.image.evaluate(BYTES))).hexdigest()

    def redraws(self) -> int:
        """Redraws since the last `drag` began."""
        return self.image.evaluate("img => img.redraws")

    def drag(self, slider: Locator) -> Drag:
        """Drag a slider from its lower end to its upper one without a pause; what the picture is at the upper end is seen first, slowly."""
        readout, mouse, grip = slider.locator(".widget-readout"), self.page.mouse, handle(slider)
        self.image.evaluate(WATCH_PICTURE)
        seen = []
        for key in ("End", "Home"):
            grip.press(key)
            settled(self.redraws, self.page, quiet_s=3.0)
            seen.append(self.picture())
        where, track = grip.bounding_box(), slider.locator(".noUi-target").bounding_box()
        y = where["y"] + where["height"] / 2
        mouse.move(where["x"] + where["width"] / 2, y)
        mouse.down()
        self.image.evaluate(WATCH_PICTURE)
        readout.evaluate(WATCH_READOUT)
        mouse.move(track["x"] + track["width"] + 5, y, steps=40)
        at_release = self.redraws()
        mouse.up()
        until = time.monotonic() + SECONDS_TO_REDRAW
        while self.picture() != seen[0] and time.monotonic() < until:
            self.page.wait_for_timeout(20)
        redraws = settled(self.redraws, self.page)
        values = readout.evaluate("readout => readout.values.size")
        return Drag(values, redraws, redraws - at_release, seen[0] != seen[1], self.picture() == seen[0])

    def show(self) -> None:
        """Scroll to it."""
        self.box.scroll_into_view_if_needed()
        self.page.wait_for_function("img => img.complete && img.naturalWidth > 0", arg=self.image.element_handle())

    def changes(self, move: Callable[[], object]) -> bool:
        """Whether the picture becomes another one after a move."""
        before, until = self.picture(), time.monotonic() + SECONDS_TO_REDRAW
        move()
        while time.monotonic() < until:
            if self.picture() != before:
                return True
            self.page.wait_for_timeout(20)
        return False

    def moves(self) -> Iterator[tuple[str, Callable[[], object]]]:
        """A move of every control, with the control's name."""
        for slider in self.sliders():
            yield slider.locator(".widget-label").inner_text(), lambda slider=slider: step(handle(slider))
        for menu in self.box.locator("select").all():
            count = menu.locator("option").count()
            chosen = menu.evaluate("menu => menu.selectedIndex")
            yield "menu", lambda menu=menu, other=(chosen + 1) % count: menu.select_option(index=other)
        for tick in self.box.locator("input[type=checkbox]").all():
            yield "checkbox", tick.click
        for group in self.box.locator(".widget-toggle-buttons").all():
            yield "buttons", group.locator("button:not(.mod-active)").first.click


@dataclass
class Drag:
    """What was seen while a slider was dragged over some values."""

    values: int
    redraws: int
    after_release: int
    tells: bool  # the picture at one end is another than at the other end
    ended_right: bool  # with the picture of the last value


def handle(slider: Locator) -> Locator:
    """What one takes hold of."""
    return slider.locator(".noUi-handle")


def step(grip: Locator) -> None:
    """Move a slider by two steps with the keyboard, away from the end at which it may stand."""
    low, high, now = (float(grip.get_attribute(f"aria-value{name}") or 0) for name in ("min", "max", "now"))
    grip.focus()
    for _ in range(2):
        grip.press("ArrowRight" if now < (low + high) / 2 else "ArrowLeft")


def settled(seen: Callable[[], Seen], page: Page, *, quiet_s: float = 1.5) -> Seen:
    """What is seen as soon as it has stood still for a while."""
    last, since = seen(), time.monotonic()
    while time.monotonic() - since < quiet_s:
        page.wait_for_timeout(50)
        if (now := seen()) != last:
            last, since = now, time.monotonic()
    return last
