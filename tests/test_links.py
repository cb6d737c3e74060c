"""Every link of the pages that people read leads somewhere, and what pages repeat from notebooks is current. No network is used."""

import re
import shutil
from pathlib import Path
from urllib.parse import unquote, urlparse

import nbformat
import pytest
from conftest import ROOT

from paper_utils import papers, readme, workshop

READY = [paper for paper in papers.NOTEBOOKS.values() if paper.ready]

PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *(ROOT / "notebooks").glob("*.md"),
        *(ROOT / "notebooks").glob("*.ipynb"),
    ]
)
LINK = re.compile(r"(?<!`)(!?)\[((?:[^][]|\[[^]]*\])*)\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")


def texts(path: Path) -> list[str]:
    """Text of a page, or of the text cells of a notebook."""
    if path.suffix != ".ipynb":
        return [path.read_text(encoding="utf-8")]
    return [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"]


def prose(text: str) -> str:
    """Markdown without code, in which brackets are no links."""
    return re.sub(r"^```.*?^```|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(path: Path) -> set[str]:
    """Names of the headings of a page as GitHub and as JupyterLab make them."""
    found = set()
    for text in texts(path):
        for heading in re.findall(r"^#{1,6} +(.+?) *#*$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M):
            shown = re.sub(r"\[([^]]*)\]\([^)]*\)|[*`]", lambda m: m[1] or "", heading)
            found |= {re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-"), shown.replace(" ", "-")}
    return found


def broken(path: Path, root: Path = ROOT) -> list[str]:
    """Links of a page that lead nowhere, each with the reason."""
    problems = []
    for text in texts(path):
        for picture, shown, target in LINK.findall(prose(text)):
            if re.match(r"[a-z][a-z+.-]*:", target):
                address = urlparse(target)
                if address.scheme not in ("https", "mailto"):
                    problems.append(f"{target}: expected https")
                elif address.scheme == "https" and not re.fullmatch(r"[\w-]+(\.[\w-]+)+", address.netloc):
                    problems.append(f"{target}: no host name")
                elif picture:
                    problems.append(f"{target}: a picture from elsewhere (a badge?) shows what nobody here checks")
                continue
            file, _, section = unquote(target).partition("#")
            place = (path.parent / file).resolve() if file else path
            if not place.exists():
                problems.append(f"{target}: no such file")
            elif not place.is_relative_to(root):
                problems.append(f"{target}: leads out of the project")
            elif section and section not in anchors(place):
                problems.append(f"{target}: {place.name} has no heading of that name")
            if picture and not shown.strip():
                problems.append(f"{target}: a picture without alternative text")
    return problems


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_of_the_page_leads_somewhere(path):
    assert broken(path) == []


def test_most_pages_have_links_so_that_the_check_checks_something():
    assert sum(len(LINK.findall(text)) for path in PAGES for text in texts(path)) > 30


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[a](missing.md)", "missing.md: no such file"),
        ("[a](other.md#nowhere)", "other.md has no heading of that name"),
        ("[a](#nowhere)", "page.md has no heading of that name"),
        ("[a](http://example.org)", "expected https"),
        ("[a](https:///path)", "no host name"),
        ("![badge](https://example.org/badge.svg)", "a picture from elsewhere"),
        ("![](picture.png)", "without alternative text"),
        ("[a](../../../etc/hosts)", "no such file|leads out"),
    ],
)
def test_a_broken_link_is_found(tmp_path, text, reason):
    (tmp_path / "other.md").write_text("# What it is, and why\n")
    (tmp_path / "picture.png").write_bytes(b"")
    (tmp_path / "page.md").write_text(text)
    (problem,) = broken(tmp_path / "page.md", tmp_path)
    assert re.search(reason, problem)


def test_good_links_and_code_are_no_problem(tmp_path):
    (tmp_path / "other.md").write_text("# What *it* is, and `why`\n\n```\n# no heading\n```\n")
    page = tmp_path / "page.md"
    page.write_text(
        "# Here\n[a](other.md#what-it-is-and-why) [b](#here) [c](https://example.org/x#y) ![d](other.md) `[e](nowhere)`\n```\n[f](nowhere)\n```\n"
    )
    assert broken(page, tmp_path) == []
    page.write_text("[a](other.md#no-heading)")
    assert broken(page, tmp_path)


def test_gallery_and_list_of_notebooks_are_current():
    for place, text in readme.updated(ROOT).items():
        assert text == (ROOT / place).read_text(encoding="utf-8"), f"{place}: run `make gallery`"


def test_gallery_shows_every_notebook_and_describes_each_picture():
    shown = readme.read_gallery(readme.between((ROOT / "README.md").read_text(encoding="utf-8"), "gallery"))
    for paper in papers.NOTEBOOKS.values():
        assert any(paper.name in entry.file for entry in shown) == paper.ready, paper.name
    for entry in shown:
        assert (ROOT / entry.file).is_file()
        assert len(entry.alt) >= 4
        assert len(entry.sentence) >= 20


class TestTeaching:
    """notebooks/README.md: a stranger can teach from it."""

    @pytest.fixture
    def page(self):
        """Sections by their headings."""
        text = (ROOT / "notebooks" / "README.md").read_text(encoding="utf-8")
        return dict(part.split("\n", 1) for part in re.split(r"^##+ ", text, flags=re.MULTILINE)[1:])

    @staticmethod
    def rows(section):
        """Cells of the rows that begin with minutes, and first and last minute of each."""
        cells = [line.strip("|").split("|") for line in section.splitlines() if re.match(r"\| \d+-\d+ \|", line)]
        return cells, [tuple(map(int, row[0].split("-"))) for row in cells]

    @pytest.mark.parametrize("paper", READY, ids=lambda paper: paper.name)
    def test_every_notebook_has_a_plan_whose_minutes_and_headings_exist_and_whose_exercises_are_answered(
        self, paper, page
    ):
        (plan,) = [text for heading, text in page.items() if heading.startswith(f"{paper.number} ")]
        cells, minutes = self.rows(plan)
        assert [begin for begin, _ in minutes] == [0, *(end for _, end in minutes[:-1])]
        assert minutes[-1][1] == 90
        assert re.search(
            rf"^\| {paper.number} \|(?: [^|]+ \|){{5}}$", page["Ninety minutes on one paper"], re.MULTILINE
        )
        notebook = workshop.read(ROOT / "notebooks" / f"{paper.name}.ipynb")
        text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
        named = [name for row in cells for name in re.findall("“([^”]+)”", row[1])]
        assert len(named) >= 4
        assert not [name for name in named if name not in text]
        answers = plan.split("*Expected answers.*")[1]
        for exercise in workshop.exercises(notebook):
            assert f"**{exercise.title.split()[0].rstrip('.')}**" in answers, exercise.title

    def test_the_half_day_is_whole_and_holds_every_paper(self, page):
        cells, minutes = self.rows(page["Half a day on all of them"])
        assert [begin for begin, _ in minutes] == [0, *(end for _, end in minutes[:-1])]
        assert {number for row in cells for number in re.findall(r"\((\d\d)\)", row[1])} == set(papers.NOTEBOOKS)

    @pytest.mark.parametrize("paper", READY, ids=lambda paper: paper.name)
    def test_every_notebook_says_its_times_and_what_to_read_before(self, paper):
        head = workshop.read(ROOT / "notebooks" / f"{paper.name}.ipynb").cells[0].source
        assert readme.READING.search(head)
        assert "Before: " in head

    def test_terms_of_every_paper_are_in_the_glossary(self, page):
        terms = (
            "negative control, area function, likelihood ratio, calibrated, covariate, stratified, GAN, leak ratio, retargeting, Gumbel, "
            "driven world, LSTM, U-Net, proxy, margin, detached, EER, texel, unwrapping, consistency, shading, mid-plane, independent twin, "
            "codebook, restart, jitter, beat score, cross-conditioning, stroke, Fréchet, perplexity, FLAME, ALiBi, derangement, lip reader, "
            "intensity, closure, wav2vec, permutation test, explained variance, velum, ridge regression"
        )
        glossary = page["Glossary"].lower()
        assert not [term for term in terms.split(", ") if term.lower() not in glossary]


class TestGallery:
    """How the gallery is made anew."""

    @pytest.fixture
    def project(self, tmp_path, monkeypatch):
        """A project with one notebook that saves three figures."""
        paper = papers.find("05")
        monkeypatch.setattr(papers, "NOTEBOOKS", {"05": paper})
        source = "\n".join(f"exp.save_figure(fig, '{name}', 'What {name} shows.')" for name in "abc")
        cells = [
            nbformat.v4.new_markdown_cell("*Reading time 2 hours, running time about 3 s. Before: notebook 06.*"),
            nbformat.v4.new_code_cell(source),
        ]
        (tmp_path / "notebooks").mkdir()
        nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "notebooks" / f"{paper.name}.ipynb")
        folder = tmp_path / "figures" / paper.name
        folder.mkdir(parents=True)
        for name in "abc":
            (folder / f"{name}.png").write_bytes(b"")
        return tmp_path

    def test_a_notebook_without_pictures_gets_its_first_two_figures(self, project):
        first, second = readme.read_gallery(readme.gallery(project, ""))
        assert first == readme.Shown("figures/05_sphereface2/a.png", "What a shows", "What a shows.")
        assert second.file == "figures/05_sphereface2/b.png"

    def test_chosen_pictures_keep_their_sentences_and_lost_ones_go(self, project):
        table = (
            "| | |\n|---|---|\n| ![c](figures/05_sphereface2/c.png) | ![x](figures/05_sphereface2/x.png) |\n"
            "| **05** Chosen by hand. | **05** Gone. |\n"
        )
        again = readme.gallery(project, table)
        assert readme.read_gallery(again) == [readme.Shown("figures/05_sphereface2/c.png", "c", "Chosen by hand.")]
        assert readme.gallery(project, again) == again

    def test_list_of_notebooks_says_times_and_what_comes_before(self, project):
        assert "| 2 hours | 3 s | notebook 06 |" in readme.list_of_notebooks(project)

    def test_a_notebook_that_does_not_say_its_time_is_named(self, project):
        path = next((project / "notebooks").glob("*.ipynb"))
        notebook = nbformat.read(path, as_version=4)
        notebook.cells[0].source = "# Title"
        nbformat.write(notebook, path)
        with pytest.raises(readme.ReadmeError, match=r"05_sphereface2\.ipynb: its first cell does not say how long"):
            readme.list_of_notebooks(project)

    def test_a_page_without_marks_is_named(self, project):
        (project / "README.md").write_text("no marks")
        with pytest.raises(readme.ReadmeError, match=r"README\.md: expected the lines '<!-- gallery -->'"):
            readme.updated(project)

    def test_command_line_renews_and_then_finds_all_current(self, project, monkeypatch, capsys):
        monkeypatch.setattr(readme.files, "project_root", lambda: project)
        (project / "README.md").write_text("<!-- gallery -->\n<!-- end of gallery -->\n")
        shutil.copyfile(project / "README.md", project / "notebooks" / "README.md")
        (project / "notebooks" / "README.md").write_text("<!-- notebooks -->\nold\n<!-- end of notebooks -->\n")
        assert readme.main([]) == 0
        assert capsys.readouterr().out.count("renewed") == 2
        assert readme.main([]) == 0
        assert capsys.readouterr().out.count("current") == 2
