"""All notebooks as one static site that works without a network: ``make book``.

This file turns stored notebooks into pages for Sphinx (no cell is run): pictures get alternative texts and a link to their cell, widgets
their last state, names of this package a link to their documentation. ``docs/conf.py`` says how Sphinx draws the pages.
"""

from __future__ import annotations

import argparse
import base64
import copy
import html
import importlib.util
import io
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from PIL import Image

from paper_utils import files, papers, results, workshop
from paper_utils.book_figures import BookError, captions, frozen_widget, stored_alt
from paper_utils.book_names import documented, imported, link_code, link_names

NEEDS = ("sphinx", "myst_nb", "sphinx_book_theme", "mathjax", "bs4")
CHECKED = "# NBVAL_CHECK_OUTPUT"
SEEDS_PAGE = results.OVER_SEEDS.with_suffix(".md")
VIEW, STATE = "application/vnd.jupyter.widget-view+json", "application/vnd.jupyter.widget-state+json"


@dataclass(frozen=True)
class Picture:
    """One figure of a page.

    Parameters
    ----------
    paper
        Its paper.
    cell
        Number of its cell among all cells of the notebook.
    file
        Its place below the site's root.
    alt
        What is to be seen, for those who cannot see it.
    caption
        What the notebook says that it shows; empty if it says nothing.
    """

    paper: papers.Paper
    cell: int
    file: str
    alt: str
    caption: str

    @property
    def anchor(self) -> str:
        """Of the cell."""
        return anchor(self.paper, self.cell)


def anchor(paper: papers.Paper, cell: int) -> str:
    """Name of a cell that links can point to."""
    return f"nb{paper.number}-cell-{cell}"


# -------------------------------------------------------------------------------------------------------------- pages


def page(notebook: NotebookNode, paper: papers.Paper, root: Path, site: Path) -> tuple[NotebookNode, list[Picture]]:
    """A notebook as Sphinx is to read it, and its figures.

    Parameters
    ----------
    notebook
        As stored, with outputs.
    paper
        Its paper.
    root
        The project's folder, whose ``figures/`` hold the figures at full resolution.
    site
        Folder whose content Sphinx copies to the site's root; pictures are written to it.

    Raises
    ------
    BookError
        If a picture has no description.
    """
    names = imported(notebook.cells)
    state = notebook.metadata.get("widgets", {}).get(STATE, {}).get("state", {})
    made = nbformat.v4.new_notebook(
        metadata={"kernelspec": notebook.metadata.kernelspec, "language_info": notebook.metadata.language_info}
    )
    captioned = captions(notebook.cells)
    pictures: list[Picture] = []
    for index, cell in enumerate(notebook.cells):
        cell = copy.deepcopy(cell)
        if cell.cell_type != "code":
            cell.source = link_names(relocate(cell.source, "notebooks"), names)
            made.cells.append(cell)
            continue
        made.cells.append(nbformat.v4.new_markdown_cell(f"({anchor(paper, index)})="))
        saved = iter(captioned[index])
        for output in cell.outputs:
            data = output.get("data", {})
            if "image/png" in data and VIEW not in data:
                number = sum(picture.cell == index for picture in pictures)
                file = f"figures/{paper.name}/cell-{index}-{number}.png"
                name, caption = next(saved, ("", ""))
                try:
                    picture = Picture(paper, index, file, stored_alt(output), caption)
                except BookError as error:
                    raise BookError(f"cell {index}: {error}") from error
                full = root / "figures" / paper.name / f"{name}.png"
                width = _write_picture(site / file, data["image/png"], full)
                pictures.append(picture)
                output.data = {"text/html": _figure(picture, width)}
            elif VIEW in data:
                output.data = {"text/html": frozen_widget(state, data[VIEW]["model_id"])}
        _dress(cell)
        made.cells.append(cell)
    return made, pictures


def _write_picture(target: Path, stored: str, full: Path) -> int:
    """Write the sharper of the stored picture and the file in figures/; return the stored one's width in pixels."""
    inline = base64.b64decode(stored)
    width, height = Image.open(io.BytesIO(inline)).size
    target.parent.mkdir(parents=True, exist_ok=True)
    if full.is_file():
        with Image.open(full) as other:
            # A file of another shape is another figure: figures/ may be older or newer than the notebook's outputs.
            same = abs(other.width / other.height / (width / height) - 1) < 0.02 and other.width >= width
        if same:
            shutil.copyfile(full, target)
            return width
    target.write_bytes(inline)
    return width


def _figure(picture: Picture, width: int) -> str:
    alt = html.escape(picture.alt, quote=True)
    caption = f"{html.escape(picture.caption.rstrip('.'))}. " if picture.caption else ""
    return (
        f'<figure><img loading="lazy" width="{width}" src="../{picture.file}" alt="{alt}">'
        f'<figcaption>{caption}<a href="#{picture.anchor}">Code of this figure</a></figcaption></figure>'
    )


def _dress(cell: NotebookNode) -> None:
    """Drop what only machines read, and fold solutions."""
    lines = [line for line in cell.source.splitlines() if line.strip() != CHECKED]
    if workshop.has_solution(cell.source):
        lines = [line for line in lines if line.strip() not in (workshop.BEGIN, workshop.END)]
        cell.metadata["tags"] = [*cell.metadata.get("tags", []), "hide-input"]
        cell.metadata["mystnb"] = {"code_prompt_show": "Show a solution", "code_prompt_hide": "Hide the solution"}
    cell.source = "\n".join(lines).strip("\n")


def relocate(text: str, folder: str) -> str:
    """Markdown of the project with links to notebooks and pages of the book turned to where these are in the book.

    Parameters
    ----------
    text
        Markdown.
    folder
        Where it stands in the project, ``""`` for its root. Links to files that the book does not hold lose their link.
    """
    places = {f"notebooks/{p.name}.ipynb": f"/notebooks/{p.name}.ipynb" for p in papers.NOTEBOOKS.values() if p.ready}
    places |= {"notebooks/README.md": "/teaching.md", "README.md": "/about.md", "CONTRIBUTING.md": "/contributing.md"}
    places |= {str(SEEDS_PAGE): "/seeds.md"}

    def turn(match: re.Match[str]) -> str:
        picture, shown, target = match[1], match[2], match[3]
        if re.match(r"[a-z]+:|#", target):
            return match[0]
        file, mark, section = target.partition("#")
        place = os.path.normpath(os.path.join(folder, file))
        if picture:
            return f"![{shown}](/{place})"
        return f"[{shown}]({places[place]}{mark}{section})" if place in places else shown

    return re.sub(r"(!?)\[((?:[^][]|\[[^]]*\])*)\]\(([^)\s]+)\)", turn, text)


# ------------------------------------------------------------------------------------------------------ table of claims


def claims(notebook: NotebookNode) -> list[dict[str, str]]:
    """Rows of the table of verdicts that a notebook shows, with the number of the cell under ``"cell"``.

    Raises
    ------
    BookError
        If it shows none.
    """
    from bs4 import BeautifulSoup

    for index, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            page = output.get("data", {}).get("text/html", "")
            if ": verdicts (" not in page:
                continue
            table = BeautifulSoup(page, "html.parser").table
            head = [th.get_text().strip() for th in table.thead.find_all("th")]
            rows = [[td.get_text().strip() for td in tr.find_all("td")] for tr in table.tbody.find_all("tr")]
            return [{**dict(zip(head, row, strict=True)), "cell": str(index)} for row in rows]
    raise BookError("no table of verdicts among the outputs: expected one of exp.claims_table(); run `make outputs`")


def _cell(text: str) -> str:
    return html.escape(text.replace("\n", " "))


def front_page(
    found: dict[papers.Paper, list[dict[str, str]]], known: dict[tuple[str, str], dict[str, Any]] | None = None
) -> str:
    """Markdown of the front page: what was claimed, what came of it, and what came of it over seeds (`results.recorded_over_seeds`)."""
    known = known or {}
    looks = dict(results.VERDICT_LOOK.values())
    counts = Counter(row["verdict"] for rows in found.values() for row in rows)
    total = sum(counts.values())
    rows = []
    for paper, claimed in found.items():
        link = f'<a href="notebooks/{paper.name}.html">{paper.number} {_cell(paper.title)}</a>'
        rows.append(f'<tr><th colspan="6" scope="rowgroup">{link}</th></tr>')
        rows += [
            f'<tr><td><a href="notebooks/{paper.name}.html#{anchor(paper, int(row["cell"]))}">{_cell(row["id"])}</a></td><td>{_cell(row["claim"])}</td>'
            f'<td>{_cell(row[results.MEASURED])}</td><td style="{looks.get(row["verdict"], "")}">{_cell(row["verdict"])}</td>'
            f"<td>{_cell(row[results.CONTROL_VERDICT])}</td>{_over_seeds(known.get((paper.number, row['id'])))}</tr>"
            for row in claimed
        ]
    summary = ", ".join(f"{counts[shown]} {shown}" for shown in looks if counts[shown])
    notebooks = "\n".join(f"notebooks/{paper.name}" for paper in found)
    return f"""# Ten face, voice and speech papers

Each paper is a notebook that explains its idea, shows the code of its equations, trains it, and tests its claims. A claim is written down with its
rule before anything is measured, and has a negative control: the same measurement where the effect is switched off. This is what came out: **{total} claims, {summary}.**

All was measured on synthetic people and small real data, at small scale, so these are verdicts about mechanisms, not about anybody's benchmark numbers;
[what a verdict means](about.md#what-a-verdict-means), [honest limits](about.md#honest-limits). One run gave the numbers; the last column is the verdict
[over several seeds]({"seeds.md" if known else "about.md"}), which also knows the luck of a training.

<div class="wide"><table class="claims">
<thead><tr><th scope="col">id</th><th scope="col">claim</th><th scope="col">measured [95 % interval]</th><th scope="col">verdict</th><th scope="col">its negative control</th><th scope="col">verdict over seeds</th></tr></thead>
<tbody>
{chr(10).join(rows)}
</tbody></table></div>

```{{toctree}}
:caption: Papers
:maxdepth: 1
:hidden:

{notebooks}
```

```{{toctree}}
:caption: Around them
:maxdepth: 1
:hidden:

Teaching <teaching>
figures
{"seeds" if known else ""}
About <about>
contributing
api/index
```
"""


def _over_seeds(claim: dict[str, Any] | None) -> str:
    shown, style = results.VERDICT_LOOK[claim["verdict"]] if claim else ("-", "")
    return f'<td style="{style}">{shown}</td>'


def figures_page(pictures: Sequence[Picture]) -> str:
    """Markdown of a page with all captioned figures, each with a link to the cell that draws it."""
    text = ["# All figures\n\nEach picture leads to the cell that draws it."]
    for paper in dict.fromkeys(picture.paper for picture in pictures):
        text.append(f"## {paper.number} {paper.title}\n")
        cards = [
            f'<figure><a href="notebooks/{p.paper.name}.html#{p.anchor}"><img loading="lazy" src="{p.file}" alt="{html.escape(p.alt, quote=True)}"></a>'
            f"<figcaption>{html.escape(p.caption)}</figcaption></figure>"
            for p in pictures
            if p.paper == paper and p.caption
        ]
        text.append(f'<div class="gallery">\n{chr(10).join(cards)}\n</div>')
    return "\n\n".join(text) + "\n"


def api_pages() -> dict[str, str]:
    """Markdown of one page a module, and their index.

    Module pages are listed on the index only: in the sidebar of every page they would take most of the building time and hide the papers.
    """
    modules = sorted(name for name, entry in documented().items() if entry.kind == "mod")
    pages = {
        name: f"---\norphan: true\n---\n\n# {name}\n\n```{{eval-rst}}\n.. automodule:: {name}\n   :members:\n   :undoc-members:\n```\n"
        for name in modules
    }
    text = [
        "# The package\n\nEvery public name with its equations, shapes and source. Names in the notebooks' code lead here."
    ]
    for folder in dict.fromkeys(".".join(name.split(".")[:2]) for name in modules):
        inside = [name for name in modules if name.startswith(f"{folder}.") or name == folder]
        if len(inside) > 1:
            text.append(f"## {folder}\n\n" + "\n".join(f"* [{name}]({name}.md)" for name in inside))
    single = [
        name for name in modules if name.count(".") < 2 and not any(other.startswith(f"{name}.") for other in modules)
    ]
    text.append("## Modules on their own\n\n" + "\n".join(f"* [{name}]({name}.md)" for name in single))
    pages["index"] = "\n\n".join(text) + "\n"
    return pages


# --------------------------------------------------------------------------------------------------------------- build


def prepare(
    root: Path, target: Path, *, chosen: Sequence[papers.Paper] | None = None, api: bool = True
) -> list[Picture]:
    """Write the pages for Sphinx to `target`.

    Parameters
    ----------
    root
        The project's folder.
    target
        Folder to write to; it is emptied first.
    chosen
        Notebooks to take, by default all that are ready.
    api
        Whether to document the package, which takes most of the time.

    Raises
    ------
    BookError
        If a notebook is missing or lacks what a page needs; the message names it.
    """
    chosen = [p for p in papers.NOTEBOOKS.values() if p.ready] if chosen is None else chosen
    shutil.rmtree(target, ignore_errors=True)
    pictures: list[Picture] = []
    found: dict[papers.Paper, list[dict[str, str]]] = {}
    for paper in chosen:
        try:
            notebook = workshop.read(root / "notebooks" / f"{paper.name}.ipynb")
            made, drawn = page(notebook, paper, root, target / "site")
            found[paper] = claims(notebook)
        except (workshop.WorkshopError, BookError) as error:
            raise BookError(f"{paper.name}.ipynb: {error}") from error
        pictures += drawn
        files.write_text(target / "notebooks" / f"{paper.name}.ipynb", nbformat.writes(made))
    try:
        known = results.recorded_over_seeds(root)
    except results.ResultsError as error:
        raise BookError(str(error)) from error
    files.write_text(target / "index.md", front_page(found, known))
    files.write_text(target / "figures.md", figures_page(pictures))
    for name, place in (
        ("teaching", "notebooks/README.md"),
        ("about", "README.md"),
        ("contributing", "CONTRIBUTING.md"),
        *([("seeds", str(SEEDS_PAGE))] if known else []),
    ):
        text = (root / place).read_text(encoding="utf-8")
        files.write_text(target / f"{name}.md", link_names(relocate(text, os.path.dirname(place)), {}))
    for picture in re.findall(r"!\[[^]]*\]\(/([^)]+)\)", (target / "about.md").read_text(encoding="utf-8")):
        (target / picture).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / picture, target / picture)
    if api:
        for name, text in api_pages().items():
            files.write_text(target / "api" / f"{name}.md", text)
    else:
        files.write_text(target / "api" / "index.md", "# The package\n\nLeft out of this build.\n")
    mathjax = Path(str(resources.files("mathjax"))) / "static" / "mathjax" / "es5"
    for part in ("tex-svg.js", "input/tex/extensions"):
        source, place = mathjax / part, target / "site" / "_static" / "mathjax" / part
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, place) if source.is_dir() else shutil.copyfile(source, place)
    return pictures


def build(root: Path, target: Path, *, chosen: Sequence[papers.Paper] | None = None, api: bool = True) -> Path:
    """Make the book in ``target/html``.

    Parameters
    ----------
    root, chosen, api
        As in `prepare`.
    target
        Folder for pages, Sphinx's own files, warnings (``warnings.txt``) and the site.

    Returns
    -------
    Path
        The front page.

    Raises
    ------
    BookError
        If a package is missing, a page cannot be made, or Sphinx fails or warns, such as of a link that leads nowhere.
    """
    missing = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        raise BookError(
            f"packages are missing: {', '.join(missing)}; run `make setup`, or pip install 'paper-utils[book]'"
        )
    prepare(root, target / "pages", chosen=chosen, api=api)
    command = [
        *(
            sys.executable,
            "-m",
            "sphinx",
            "-b",
            "html",
            "-q",
            "--fail-on-warning",
            "--keep-going",
            "-j",
            "auto",
            "-c",
            str(root / "docs"),
            "-d",
            str(target / "doctrees"),
        ),
        *("-w", str(target / "warnings.txt"), str(target / "pages"), str(target / "html")),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "MPLBACKEND": "Agg"})
    if done.returncode:
        raise BookError("Sphinx failed or warned:\n" + "\n".join(done.stderr.strip().splitlines()[-12:]))
    for path in (target / "html" / "notebooks").glob("*.html") if api else ():
        names = imported(workshop.read(root / "notebooks" / f"{path.stem}.ipynb").cells)
        files.write_text(path, link_code(path.read_text(encoding="utf-8"), names))
    return target / "html" / "index.html"


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m paper_utils.book``."""
    parser = argparse.ArgumentParser(prog="python -m paper_utils.book", description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("build/book"))
    chosen = parser.parse_args(arguments)
    began = time.perf_counter()
    try:
        front = build(files.project_root(), chosen.output)
    except BookError as error:
        print(f"book: {error}", file=sys.stderr)
        return 2
    pages = len(list(front.parent.rglob("*.html")))
    print(f"{pages} pages in {time.perf_counter() - began:.0f} s; open {front}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
