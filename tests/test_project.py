"""The project's own files agree with each other: dependencies, lock, conda file, README, floors, notebooks."""

import ast
import re
import tomllib

import nbformat
import pytest
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from paper_utils import papers

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
HEADINGS = [
    "The question", "Parameters", "The idea", "The data", "The model", "Training", "Evaluation", "Claims", "Play", "Exercises",
]  # fmt: skip
FLOORS = {
    "metrics": 0,
    "nn": 0,
    "mesh": 0,
    "world": 1,
    "data": 1,
    "methods": 2,
    "experiment": 3,
    "studies": 3,
    "recipes": 3,
    "widgets": 4,
}


def readable(path):
    """Text of a file; of a notebook the sources and text outputs, not the pictures, whose letters are chance."""
    if path.suffix != ".ipynb":
        return path.read_text(errors="ignore")
    cells = nbformat.read(path, as_version=4).cells
    outputs = [o for cell in cells if cell.cell_type == "code" for o in cell.outputs]
    shown = [
        str({k: v for k, v in o.get("data", {}).items() if not k.startswith("image/")}) + str(o.get("text", ""))
        for o in outputs
    ]
    return "\n".join([*(cell.source for cell in cells), *shown])


@pytest.fixture(scope="module")
def pyproject():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def lock():
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    found = [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]
    return {canonicalize_name(requirement.name): requirement for requirement in found}


def test_every_line_of_the_lock_pins_one_version(lock):
    assert len(lock) > 50
    for requirement in lock.values():
        (pin,) = requirement.specifier
        assert pin.operator == "==", requirement


def test_torch_is_the_pinned_release_without_a_build_of_one_machine(lock):
    assert str(lock["torch"].specifier) == "==2.13.0"
    assert not [name for name in lock if name.startswith("nvidia")]


def test_check_sums_are_those_of_the_lock(lock):
    """All packages but torch, whose build differs from machine to machine, with the versions of the lock and a SHA-256 of each file."""
    blocks = re.split(r"\n(?=[a-z])", (ROOT / "requirements.hashes").read_text().strip().replace(" \\\n", "\n"))
    found = {}
    for block in blocks:
        pin, *hashes = [line for line in block.splitlines() if line.strip() and not line.startswith("#")]
        assert hashes, pin
        assert all(re.fullmatch(r" +--hash=sha256:[0-9a-f]{64}", line) for line in hashes), pin
        found[canonicalize_name(Requirement(pin).name)] = Requirement(pin).specifier
    assert found == {name: requirement.specifier for name, requirement in lock.items() if name != "torch"}


def test_lock_satisfies_every_range_of_pyproject(pyproject, lock):
    asked = pyproject["project"]["dependencies"] + pyproject["project"]["optional-dependencies"]["dev"]
    for requirement in map(Requirement, asked):
        pinned = lock[canonicalize_name(requirement.name)]
        version = next(iter(pinned.specifier)).version
        assert requirement.specifier.contains(version), f"{requirement} but the lock has {version}: run `make lock`"


def test_conda_file_repeats_no_version_and_agrees_on_python(pyproject):
    # Read as text: the file is small, and a YAML reader is no dependency of ours.
    text = (ROOT / "environment.yml").read_text()
    assert f"python{pyproject['project']['requires-python']}" in text.replace(" ", "")
    assert "--requirement requirements.lock" in text
    assert "--editable ." in text
    assert "==" not in text


def test_no_file_imports_from_a_floor_above_or_another_method():
    for path in (ROOT / "paper_utils").rglob("*.py"):
        room = path.relative_to(ROOT / "paper_utils").parts[0]
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("paper_utils."):
                _, other, *rest = [
                    *node.module.split("."),
                    *([a.name for a in node.names] if node.module.count(".") == 1 else []),
                ]
                assert FLOORS.get(other, 0) <= FLOORS.get(room, 9), f"{path.name} imports {node.module}"
                assert not (room == other == "methods" and rest != [path.stem]), f"{path.name} imports another method"


def test_readme_table_states_what_is_there():
    text = (ROOT / "README.md").read_text()
    for paper in papers.NOTEBOOKS.values():
        (line,) = [line for line in text.splitlines() if line.startswith(f"| {paper.number} |")]
        assert paper.title in line
        assert paper.arxiv in line
        assert (f"notebooks/{paper.name}.ipynb" in line) == paper.ready, f"README on paper {paper.number}"


def test_readme_links_and_commands_exist():
    text = (ROOT / "README.md").read_text()
    for target in re.findall(r"\]\((?!http|#)([^)]+)\)", text):
        assert (ROOT / target).exists(), target
    makefile = (ROOT / "Makefile").read_text()
    for command in re.findall(r"make ([a-z-]+)", text):
        assert re.search(rf"^{command}:", makefile, re.MULTILINE), f"README names `make {command}`"


def test_no_two_test_files_share_a_name():
    """Pytest imports test files by their bare names, and the second of two fails."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py") if path.parent.name != "benchmarks"]
    assert sorted(set(names)) == sorted(names)


def test_every_make_target_explains_itself():
    makefile = (ROOT / "Makefile").read_text()
    targets = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE).group(1).split()
    for target in targets:
        assert re.search(rf"^{target}:.*## \w+", makefile, re.MULTILINE), target


def test_no_file_names_a_machine_or_leaves_work_undone():
    secret = re.compile(r"/(?:home|root|work|Users)/\w+|\b(?:TODO|FIXME|XXX)\b")
    folders = ("paper_utils", "tests", "notebooks", ".ci")
    paths = [
        p
        for folder in folders
        for p in (ROOT / folder).rglob("*")
        if p.suffix in {".py", ".ipynb", ".md", ".json", ""} and p.is_file()
    ]
    assert len(paths) > 20
    for path in [*paths, ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "Makefile"]:
        if path.name != "test_project.py" and "__pycache__" not in path.parts:
            found = secret.search(readable(path))
            assert found is None, f"{path.relative_to(ROOT)}: {found.group()}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
class TestNotebook:
    """What all notebooks share."""

    def test_has_the_ten_headings_in_order(self, path):
        cells = nbformat.read(path, as_version=4).cells
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        found = re.findall(r"^## (\d+)\. (.+)$", text, re.MULTILINE)
        assert [int(number) for number, _ in found] == list(range(1, 11))
        assert [name.strip() for _, name in found] == HEADINGS

    def test_is_stored_executed_in_order_without_errors(self, path):
        code = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code" and c.source.strip()]
        assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
        assert not [output for cell in code for output in cell.outputs if output.output_type == "error"]
        assert not [o for cell in code for o in cell.outputs if o.output_type == "stream" and o.name == "stderr"]

    def test_is_readable(self, path):
        cells = nbformat.read(path, as_version=4).cells
        code = [cell for cell in cells if cell.cell_type == "code"]
        lines = [len([line for line in cell.source.splitlines() if line.strip()]) for cell in code]
        words = sum(len(cell.source.split()) for cell in cells if cell.cell_type == "markdown")
        shown = [o.get("data", {}) for cell in code for o in cell.outputs]
        figures = sum("image/png" in data and not any("widget-view" in kind for kind in data) for data in shown)
        assert max(lines) <= 30
        assert sorted(lines)[len(lines) // 2] <= 10
        assert 25 <= len(code) <= 50
        assert 2000 <= words <= 5500
        assert 8 <= figures <= 24
        assert path.stat().st_size < 1_500_000

    def test_takes_the_shared_parameters(self, path):
        (cell,) = [c for c in nbformat.read(path, as_version=4).cells if "parameters" in c.metadata.get("tags", [])]
        names = {target.id for node in ast.parse(cell.source).body for target in node.targets}
        assert {"profile", "seed", "data", "data_root", "device"} <= names
        assert 'profile = "quick"' in cell.source

    def test_checks_some_outputs_and_holds_no_run_metadata(self, path):
        notebook = nbformat.read(path, as_version=4)
        assert any("NBVAL_CHECK_OUTPUT" in cell.source for cell in notebook.cells)
        assert "papermill" not in notebook.metadata

    def test_every_exercise_has_a_solution_and_a_self_check(self, path):
        cells = nbformat.read(path, as_version=4).cells
        solutions = [i for i, cell in enumerate(cells) if "### BEGIN SOLUTION" in cell.source]
        assert solutions
        for index in solutions:
            assert "### END SOLUTION" in cells[index].source
            assert any("assert" in cell.source for cell in cells[index + 1 : index + 3] if cell.cell_type == "code")
