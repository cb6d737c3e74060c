"""The book: pages made from stored notebooks, and a small one built and read back. No network, no kernel."""

import base64
import io
import json
import re
import shutil

import nbformat
import pytest
from bs4 import BeautifulSoup
from conftest import ROOT
from PIL import Image

from paper_utils import book, book_figures, book_names, papers, results, workshop

READY = [paper for paper in papers.NOTEBOOKS.values() if paper.ready]
PAPER = papers.find("05")
code, text = nbformat.v4.new_code_cell, nbformat.v4.new_markdown_cell


def picture(alt="Something to be seen.", width=72, height=36):
    buffer = io.BytesIO()
    Image.new("RGB", (width, height)).save(buffer, format="PNG")
    data = {"image/png": base64.b64encode(buffer.getvalue()).decode()}
    return nbformat.v4.new_output("display_data", data=data, metadata={"image/png": {"alt": alt}} if alt else {})


def shown(html):
    return nbformat.v4.new_output("display_data", data={"text/html": html})


VERDICTS = (
    "<table><caption>Paper 05: verdicts (quick profile)</caption><thead><tr><th>id</th><th>claim</th><th>measured [95 %]</th><th>verdict</th>"
    "<th>control's verdict</th></tr></thead><tbody><tr><td>S1</td><td>a &lt; b</td><td>3 [2, 4] %</td><td>✔ reproduced</td>"
    "<td>✘ not reproduced</td></tr></tbody></table>"
)


def small_notebook():
    """Something of everything that a page can hold."""
    widget = nbformat.v4.new_output("display_data", data={book.VIEW: {"model_id": "box"}, "text/plain": "VBox()"})
    stored = {
        "box": {
            "model_name": "VBoxModel",
            "state": {"children": ["IPY_MODEL_dial", "IPY_MODEL_view", "IPY_MODEL_pick"]},
        },
        "dial": {"model_name": "FloatSliderModel", "state": {"description": "link", "value": 0.25}},
        "pick": {
            "model_name": "DropdownModel",
            "state": {"description": "<vowel>", "_options_labels": ["AA", "IY"], "index": 1},
        },
        "view": {
            "model_name": "ImageModel",
            "state": {"format": "png"},
            "buffers": [{"encoding": "base64", "path": ["value"], "data": "AAAA"}],
        },
    }
    made = nbformat.v4.new_notebook(
        metadata={
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python", "pygments_lexer": "ipython3"},
            "widgets": {book.STATE: {"state": stored}},
        }
    )
    made.cells = [
        text(
            "# 05 Small\n\nUse `sf2.balanced_bias(config)` and `other`: $a_1 + a_2$. See [itself](05_sphereface2.ipynb)."
        ),
        code(
            "from paper_utils import experiment\nfrom paper_utils.methods import sphereface2 as sf2\n\nexp = experiment.start('05')\n"
            "bias = sf2.balanced_bias(1)\nexp.save_figure(fig, 'slopes', 'Slopes of \"both\" heads.')",
            outputs=[picture('Slopes of "both" heads. Title: Slopes.')],
        ),
        text("*See*: it rises."),
        code("ax.set_title('Who pushes?')", outputs=[picture("Title: Who pushes? Legend: far; near.")]),
        text("*See*: the far ones do not. If they did, bars would be equal.\n\n## 9. Play"),
        code("show.explore()", outputs=[widget]),
        code("film.play('moves')", outputs=[shown('<video controls src="data:video/mp4;base64,AAAA"></video>')]),
        code("Audio(x)", outputs=[shown('<audio controls src="data:audio/wav;base64,AAAA"></audio>')]),
        code("exp.claims_table()", outputs=[shown(VERDICTS)]),
        code(
            "# NBVAL_CHECK_OUTPUT\nprint(exp.finish())",
            outputs=[nbformat.v4.new_output("stream", text="S1: reproduced")],
        ),
        code("def f():\n    ### BEGIN SOLUTION\n    return 41 + 1\n    ### END SOLUTION"),
    ]
    return made


@pytest.fixture
def notebook():
    """The same, anew for each test."""
    return small_notebook()


class TestPictures:
    """Every figure has a text for those who cannot see it."""

    def test_captions_in_order_positional_by_name_and_with_values_of_a_run(self):
        source = (
            "exp.save_figure(fig, 'a', f'Error of {best:.1%} at best.')\nexp.save_figure(fig, name='b', caption='One ' + 'two.')\n"
            "other.save(1, 2, 3)\nexp.save_figure(fig, 'c', make())"
        )
        assert book_figures.saved_figures(source) == [("a", "Error of … at best."), ("b", "One two.")]

    def test_a_figure_saved_later_than_it_is_shown_keeps_its_caption(self):
        save = "exp.save_figure(fig, '{0}', 'Caption {0}')".format
        cells = [
            code("fig = draw()", outputs=[picture()]),
            text("Words."),
            code(f"exp = start()\n{save('a')}"),
            code(f"{save('b')}\n{save('c')}", outputs=[picture(), picture(), picture()]),
            code(save("d"), outputs=[picture()]),
        ]
        named = {index: [name for name, _ in found] for index, found in book_figures.captions(cells).items()}
        assert named == {0: ["a"], 2: [], 3: ["b", "c"], 4: ["d"]}

    @pytest.mark.parametrize("alt", ["", "A figure"])
    def test_a_picture_without_a_text_that_says_something_is_refused(self, notebook, tmp_path, alt):
        notebook.cells[3].outputs = [picture(alt)]
        with pytest.raises(book.BookError, match=r"cell 3: a picture has no alternative text .* run `make outputs`"):
            book.page(notebook, PAPER, tmp_path, tmp_path / "site")

    def test_the_sharper_file_is_taken_if_it_is_the_same_figure(self, notebook, tmp_path):
        folder = tmp_path / "figures" / PAPER.name
        folder.mkdir(parents=True)
        for size, taken in (((144, 72), (144, 72)), ((144, 144), (72, 36)), ((36, 18), (72, 36))):
            Image.new("RGB", size).save(folder / "slopes.png")
            _, (first, _) = book.page(notebook, PAPER, tmp_path, tmp_path / "site")
            assert Image.open(tmp_path / "site" / first.file).size == taken

    @pytest.mark.parametrize("paper", READY, ids=lambda paper: paper.name)
    def test_every_figure_of_the_collection_says_what_is_seen(self, paper):
        cells = workshop.read(ROOT / "notebooks" / f"{paper.name}.ipynb").cells
        captioned = book_figures.captions(cells)
        for index, cell in enumerate(cells):
            shown = book_figures.pictures(cell)
            for number, output in enumerate(shown):
                alt = book_figures.stored_alt(output)
                assert not alt.startswith("<Figure"), f"{paper.name} cell {index}: {alt}"
                # Where only the picture's own text is read (VS Code, MyST), it is the same.
                assert output.data["text/plain"] == alt, f"{paper.name} cell {index}"
                if "save_figure" in cell.source:
                    caption = captioned[index][number][1].partition("…")[0].rstrip(".")
                    assert alt.startswith(caption), f"{paper.name} cell {index}: {alt}"


class TestNames:
    """Names in text and code lead to their documentation."""

    def test_imports_and_what_they_make_are_known(self, notebook):
        names = book_names.imported(notebook.cells)
        assert names["sf2"] == "paper_utils.methods.sphereface2"
        assert names["exp"] == "paper_utils.experiment.Experiment"
        assert book_names.meaning("exp.verdict", names) == "paper_utils.experiment.Experiment.verdict"
        assert book_names.meaning("np.sum", names) is None
        assert book_names.meaning("sf2.no_such_name", names) is None

    def test_quoted_names_become_links_and_code_fences_stay(self):
        names = {"sf2": "paper_utils.methods.sphereface2"}
        linked = book_names.link_names(
            "`sf2.balanced_bias(c)`, `sf2.missing`, `a b`\n```\n`sf2.balanced_bias`\n```", names
        )
        assert linked.startswith(
            "{py:func}`sf2.balanced_bias(c) <paper_utils.methods.sphereface2.balanced_bias>`, `sf2.missing`, `a b`"
        )
        assert linked.endswith("```\n`sf2.balanced_bias`\n```")

    def test_code_links_the_longest_known_name_only(self):
        page = (
            '<div class="highlight-ipython3 notranslate"><pre><span class="n">sf2</span><span class="o">.</span><span class="n">HeadConfig</span>'
            '<span class="o">.</span><span class="n">margin</span> <span class="n">x</span></pre></div><span class="n">sf2</span>'
        )
        linked = book_names.link_code(page, {"sf2": "paper_utils.methods.sphereface2"})
        (link,) = BeautifulSoup(linked, "html.parser").select("a")
        assert link["href"] == "../api/paper_utils.methods.sphereface2.html#paper_utils.methods.sphereface2.HeadConfig"
        assert link.get_text() == "sf2.HeadConfig"
        assert BeautifulSoup(linked, "html.parser").get_text() == BeautifulSoup(page, "html.parser").get_text()


class TestPages:
    """What Sphinx is given."""

    def test_links_to_what_the_book_holds_are_turned_and_others_lose_their_link(self):
        source = "[a](05_sphereface2.ipynb#x) [b](../README.md) [c](../Makefile) [d](https://example.org) ![e](../figures/e.png)"
        expected = (
            "[a](/notebooks/05_sphereface2.ipynb#x) [b](/about.md) c [d](https://example.org) ![e](/figures/e.png)"
        )
        assert book.relocate(source, "notebooks") == expected

    def test_a_widget_shows_its_last_state_and_escapes_it(self, notebook):
        stored = notebook.metadata.widgets[book.STATE]["state"]
        page = BeautifulSoup(book_figures.frozen_widget(stored, "box"), "html.parser")
        assert page.img["src"] == "data:image/png;base64,AAAA"
        assert page.img["alt"] == "Interactive figure at link = 0.25, <vowel> = IY"
        assert "link = 0.25, <vowel> = IY" in page.figcaption.get_text()

    def test_a_widget_without_state_says_where_it_moves(self):
        assert "Moves in JupyterLab" in book_figures.frozen_widget({}, "gone")

    def test_claims_are_read_from_the_stored_table(self, notebook):
        (row,) = book.claims(notebook)
        assert row["id"] == "S1"
        assert row["claim"] == "a < b"
        assert row["verdict"] == "✔ reproduced"
        assert row["cell"] == "8"

    def test_a_notebook_without_verdicts_is_refused(self, notebook):
        del notebook.cells[8]
        with pytest.raises(book.BookError, match="no table of verdicts"):
            book.claims(notebook)

    @pytest.mark.parametrize("paper", READY, ids=lambda paper: paper.name)
    def test_every_notebook_of_the_collection_shows_its_verdicts(self, paper):
        rows = book.claims(workshop.read(ROOT / "notebooks" / f"{paper.name}.ipynb"))
        assert len(rows) >= 3
        for row in rows:
            assert row["verdict"] in dict(book.results.VERDICT_LOOK.values())

    def test_a_missing_notebook_is_named(self, tmp_path):
        with pytest.raises(book.BookError, match=r"05_sphereface2\.ipynb cannot be read"):
            book.prepare(tmp_path, tmp_path / "out", chosen=[PAPER])

    def test_missing_packages_are_named_with_the_remedy(self, tmp_path, monkeypatch):
        monkeypatch.setattr(book, "NEEDS", ("sphinx", "no_such_package"))
        with pytest.raises(book.BookError, match="packages are missing: no_such_package; run `make setup`"):
            book.build(ROOT, tmp_path)


def small_project(root, about="See `papers.find`."):
    """A project with one small notebook, to make a book of without the package's own pages."""
    (root / "notebooks").mkdir()
    nbformat.write(small_notebook(), root / "notebooks" / f"{PAPER.name}.ipynb")
    for place in ("README.md", "CONTRIBUTING.md", "notebooks/README.md"):
        (root / place).write_text(f"# A page\n\n## What a verdict means\n\n## Honest limits\n\n{about}\n")
    shutil.copytree(ROOT / "docs", root / "docs")
    claim = {"id": "S1", "statement": "a < b", "paper_value": "none", "unit": "%", "reason": "-", "control": None}
    claim |= {"paper": PAPER.number, "profile": "quick", "data": "world", "seeds": [0, 1], "verdict": "inconclusive"}
    record = json.dumps({"claims": [claim | {"measured": 2.0, "ci95": [-1.0, 5.0]}]})
    (root / results.OVER_SEEDS).write_text(record)
    (root / book.SEEDS_PAGE).write_text("# Claims over seeds\n\nMeasured twice.\n")


@pytest.fixture(scope="class")
def site(tmp_path_factory):
    """The book of one small notebook."""
    root, target = tmp_path_factory.mktemp("project"), tmp_path_factory.mktemp("book")
    small_project(root)
    book.build(root, target, chosen=[PAPER], api=False)
    assert (target / "warnings.txt").read_text() == ""
    return target / "html"


def test_a_warning_of_sphinx_is_an_error_that_shows_it(tmp_path):
    (tmp_path / "project").mkdir()
    small_project(tmp_path / "project", about="See [there](#no-such-place).")
    with pytest.raises(book.BookError, match="no-such-place"):
        book.build(tmp_path / "project", tmp_path / "book", chosen=[PAPER], api=False)


class TestSite:
    """The site as a browser gets it."""

    @pytest.fixture
    def page(self, site):
        """The notebook's page."""
        return BeautifulSoup((site / "notebooks" / f"{PAPER.name}.html").read_text(encoding="utf-8"), "html.parser")

    def test_front_page_is_the_table_of_claims_and_leads_to_each(self, site):
        front = BeautifulSoup((site / "index.html").read_text(encoding="utf-8"), "html.parser")
        row = front.select("table.claims tbody tr")[1]
        assert [cell.get_text() for cell in row.find_all("td")] == [
            "S1",
            "a < b",
            "3 [2, 4] %",
            "✔ reproduced",
            "✘ not reproduced",
            "○ inconclusive",
        ]
        file, _, anchor = row.a["href"].partition("#")
        assert BeautifulSoup((site / file).read_text(encoding="utf-8"), "html.parser").find(id=anchor)
        assert "1 claims, 1 ✔ reproduced" in front.get_text()
        assert "Measured twice." in (site / "seeds.html").read_text(encoding="utf-8")
        assert front.find("a", href="seeds.html")

    def test_every_picture_has_a_text_and_a_link_to_its_cell(self, page, site):
        figures = [
            figure for figure in page.select("figure") if figure.img and "frozen-widget" not in figure.get("class", [])
        ]
        assert len(figures) == 2
        for figure in figures:
            assert len(figure.img["alt"]) >= book_figures.SHORTEST_ALT
            assert (site / "notebooks" / figure.img["src"]).is_file()
            assert page.find(id=figure.a["href"][1:])
        assert figures[0].img["alt"] == 'Slopes of "both" heads. Title: Slopes.'
        assert figures[0].figcaption.get_text() == 'Slopes of "both" heads. Code of this figure'
        assert figures[1].figcaption.get_text() == "Code of this figure"
        assert not [image for image in page.select("img") if not image.get("alt")]

    def test_films_and_sounds_play(self, page):
        assert page.video["src"].startswith("data:video/mp4")
        assert page.audio["src"].startswith("data:audio/wav")
        assert page.video.has_attr("controls")
        assert page.audio.has_attr("controls")

    def test_solutions_are_folded_and_marks_of_machines_gone(self, page):
        folded = page.select_one("details.hide")
        assert "Show a solution" in folded.summary.get_text()
        assert "41 + 1" in folded.get_text().replace("\n", " ")
        assert "SOLUTION" not in page.get_text()
        assert "NBVAL" not in page.get_text()

    def test_equations_are_drawn_by_a_file_of_the_site(self, page, site):
        assert r"\(a_1 + a_2\)" in page.select_one("span.math").get_text()
        (script,) = [tag["src"] for tag in page.select("script[src]") if "mathjax" in tag["src"].lower()]
        assert (site / "notebooks" / script.partition("?")[0]).resolve().stat().st_size > 1_000_000

    def test_nothing_is_fetched_from_elsewhere(self, site):
        for path in site.rglob("*.html"):
            for tag in BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser").select("[src], link[href]"):
                assert not re.match(r"(https?:)?//", tag.get("src") or tag.get("href")), f"{path.name}: {tag}"

    def test_search_finds_words_of_the_notebook(self, site):
        index = (site / "searchindex.js").read_text(encoding="utf-8")
        assert PAPER.name in index
        assert '"rise' in index
