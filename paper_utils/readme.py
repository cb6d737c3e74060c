"""Keeps the parts of README.md and notebooks/README.md that repeat what notebooks say: the gallery and the list of notebooks. ``make gallery``."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from nbformat import NotebookNode

from paper_utils import book_figures, files, papers, workshop

PICTURES = 2  # of each notebook in the gallery
COLUMNS = 2
READING = re.compile(
    r"\*Reading time (?:about )?(.+?), running time (?:about )?(.+?)(?: on one thread)?\.(.*?)\*", re.DOTALL
)


class ReadmeError(RuntimeError):
    """A page without the marks between which a part is kept, or a notebook that does not say what a part repeats."""


@dataclass(frozen=True)
class Shown:
    """One picture of the gallery: its file, its alternative text and the sentence below it."""

    file: str
    alt: str
    sentence: str


def between(text: str, part: str) -> str:
    """What stands between the marks of `part`.

    Raises
    ------
    ReadmeError
        If a mark is missing.
    """
    found = re.search(rf"<!-- {part} -->\n(.*?)<!-- end of {part} -->", text, re.DOTALL)
    if not found:
        raise ReadmeError(
            f"expected the lines '<!-- {part} -->' and '<!-- end of {part} -->' around what is kept by `make gallery`"
        )
    return found[1]


def replaced(text: str, part: str, new: str) -> str:
    """`text` with `new` between the marks of `part`."""
    return text.replace(
        f"<!-- {part} -->\n{between(text, part)}<!-- end of {part} -->", f"<!-- {part} -->\n{new}<!-- end of {part} -->"
    )


# ------------------------------------------------------------------------------------------------------------- gallery


def read_gallery(table: str) -> list[Shown]:
    """Pictures of a gallery as it stands, with the sentences that somebody wrote below them."""
    shown = []
    lines = table.splitlines()
    for line, below in pairwise(lines):
        pictures = re.findall(r"!\[([^]]*)\]\(([^)]+)\)", line)
        sentences = [part.strip() for part in below.strip().strip("|").split(" | ")]
        shown += [
            Shown(file, alt, re.sub(r"^\*\*\d\d\*\* ", "", sentence))
            for (alt, file), sentence in zip(pictures, sentences, strict=False)
        ]
    return shown


def gallery(root: Path, table: str) -> str:
    """The gallery made anew: pictures that still exist keep their sentences; a notebook without any gets its first two figures.

    Parameters
    ----------
    root
        The project's folder.
    table
        The gallery as it stands.
    """
    standing = [shown for shown in read_gallery(table) if (root / shown.file).is_file()]
    pictures: list[tuple[str, Shown]] = []
    for paper in papers.NOTEBOOKS.values():
        if not paper.ready:
            continue
        folder = f"figures/{paper.name}/"
        kept = [shown for shown in standing if shown.file.startswith(folder)]
        if not kept:
            cells = workshop.read(root / "notebooks" / f"{paper.name}.ipynb").cells
            drawn = [
                pair for cell in cells if cell.cell_type == "code" for pair in book_figures.saved_figures(cell.source)
            ]
            there = [(name, text) for name, text in drawn if (root / folder / f"{name}.png").is_file()]
            kept = [Shown(f"{folder}{name}.png", text.rstrip("."), text) for name, text in there[:PICTURES]]
        pictures += [(paper.number, shown) for shown in kept]
    lines = ["|" + " |" * COLUMNS, "|" + "---|" * COLUMNS]
    for start in range(0, len(pictures), COLUMNS):
        row = pictures[start : start + COLUMNS]
        lines.append("| " + " | ".join(f"![{shown.alt}]({shown.file})" for _, shown in row) + " |")
        lines.append("| " + " | ".join(f"**{number}** {shown.sentence}" for number, shown in row) + " |")
    return "\n".join(lines) + "\n"


# -------------------------------------------------------------------------------------------------- list of notebooks


def times(notebook: NotebookNode) -> tuple[str, str, str]:
    """Reading time, running time, and what to read before, as the first cell of a notebook says.

    Raises
    ------
    ReadmeError
        If it does not.

    Examples
    --------
    >>> import nbformat
    >>> cell = nbformat.v4.new_markdown_cell("*Reading time about 25 minutes, running time about a minute on one thread. Before: nothing.*")
    >>> times(nbformat.v4.new_notebook(cells=[cell]))
    ('25 minutes', 'a minute', 'nothing')
    """
    found = READING.search(notebook.cells[0].source)
    if not found:
        raise ReadmeError(
            "its first cell does not say how long it takes; expected a line such as '*Reading time about 30 minutes, running time "
            "about a minute on one thread. Before: notebook 00.*'"
        )
    before = re.search(r"Before: (.+?)\.(?=\s|$)", found[3], re.DOTALL)
    return found[1], found[2], before[1] if before else "nothing"


def list_of_notebooks(root: Path) -> str:
    """Table of all papers: notebook, reading time, running time, what to read before."""
    lines = ["| | notebook | reading | running (one thread) | read before |", "|---|---|---|---|---|"]
    for paper in papers.NOTEBOOKS.values():
        if not paper.ready:
            lines.append(f"| {paper.number} | {paper.title} | planned | - | - |")
            continue
        try:
            reading, running, before = times(workshop.read(root / "notebooks" / f"{paper.name}.ipynb"))
        except ReadmeError as error:
            raise ReadmeError(f"{paper.name}.ipynb: {error}") from error
        lines.append(f"| {paper.number} | [{paper.title}]({paper.name}.ipynb) | {reading} | {running} | {before} |")
    return "\n".join(lines) + "\n"


def updated(root: Path) -> dict[str, str]:
    """Both pages as they should be, by their place in the project."""
    pages = {}
    for place, part, make in (
        ("README.md", "gallery", lambda old: gallery(root, old)),
        ("notebooks/README.md", "notebooks", lambda _: list_of_notebooks(root)),
    ):
        text = (root / place).read_text(encoding="utf-8")
        try:
            pages[place] = replaced(text, part, make(between(text, part)))
        except ReadmeError as error:
            raise ReadmeError(f"{place}: {error}") from error
    return pages


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m paper_utils.readme``."""
    argparse.ArgumentParser(prog="python -m paper_utils.readme", description=__doc__.splitlines()[0]).parse_args(
        arguments
    )
    root = files.project_root()
    try:
        pages = updated(root)
    except (ReadmeError, workshop.WorkshopError) as error:
        print(f"gallery: {error}", file=sys.stderr)
        return 2
    for place, text in pages.items():
        changed = text != (root / place).read_text(encoding="utf-8")
        if changed:
            files.write_text(root / place, text)
        print(f"{place}: {'renewed' if changed else 'current'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
