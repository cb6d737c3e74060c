"""Student versions of the notebooks, and the marking of what students hand in: ``make workshop``.

A solution stands between nbgrader's marks ``### BEGIN SOLUTION`` and ``### END SOLUTION``; the code cells with ``assert`` that follow it
are its self-check. nbgrader itself would bring a web server and a database, so the few lines that are needed live here.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import io
import itertools
import linecache
import os
import re
import symtable
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from paper_utils import files, papers

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
# What stands in a student's notebook instead of a solution; the first is handed out, the second is what a careless student leaves.
STUBS = {"raise": ("# Your code here.", "raise NotImplementedError"), "pass": ("pass",)}
# Methods that change the object they are called on: a cell that calls one matters to all that read the object. `declare` is the frame's own.
MUTATORS = {
    "add",
    "append",
    "clear",
    "declare",
    "discard",
    "extend",
    "insert",
    "pop",
    "remove",
    "setdefault",
    "sort",
    "update",
}
NOTE = """> **Student version.** Run all cells down to section 10 once ({time}). Then replace each `raise NotImplementedError` by your own
> code; you may change anything in that cell that makes it work. The cell below it checks the answer: it is right when the check runs without an error."""


class WorkshopError(ValueError):
    """A notebook whose exercises cannot be read or marked."""


@dataclass(frozen=True)
class Exercise:
    """Where an exercise stands in its notebook.

    Parameters
    ----------
    title
        Its first words, such as ``"1. The bias without a margin."``.
    solution
        Index of the cell that holds the solution.
    checks
        Indices of the self-check cells that belong to it.
    """

    title: str
    solution: int
    checks: tuple[int, ...]


@dataclass(frozen=True)
class Mark:
    """What the self-checks say of one answer.

    Parameters
    ----------
    exercise
        The exercise.
    errors
        One entry a self-check cell: why it failed, or ``None`` if it passed.
    """

    exercise: Exercise
    errors: tuple[str | None, ...]

    @property
    def passed(self) -> bool:
        """Whether every self-check passed."""
        return not any(self.errors)


# ------------------------------------------------------------------------------------------------------------- reading


def has_solution(source: str) -> bool:
    """Whether a cell holds a solution, or one of its marks."""
    return BEGIN in source or END in source


def without_solutions(source: str, stub: Sequence[str] = STUBS["raise"]) -> str:
    """Source of a cell with `stub` in place of each solution, indented like its mark.

    Parameters
    ----------
    source
        Any cell; one without marks comes back as it is.
    stub
        Lines that replace a solution.

    Raises
    ------
    WorkshopError
        If a mark lacks its partner or marks are nested.

    Examples
    --------
    >>> print(without_solutions("def f():\\n    ### BEGIN SOLUTION\\n    return 1\\n    ### END SOLUTION", ["pass"]))
    def f():
        pass
    """
    kept: list[str] = []
    inside = False
    for number, line in enumerate(source.splitlines(), start=1):
        mark = line.strip()
        if mark in (BEGIN, END) and inside == (mark == BEGIN):
            raise WorkshopError(f"line {number}: {mark!r} where {END if inside else BEGIN!r} was expected")
        if mark == BEGIN:
            indent = line[: len(line) - len(line.lstrip())]
            kept += [indent + text for text in stub]
            inside = True
        elif mark == END:
            inside = False
        elif not inside:
            kept.append(line)
    if inside:
        raise WorkshopError(f"{BEGIN!r} without {END!r} below it")
    return "\n".join(kept)


def exercises(notebook: NotebookNode) -> list[Exercise]:
    """The exercises of a notebook in order.

    Raises
    ------
    WorkshopError
        If a solution has no self-check between it and the next exercise.
    """
    cells = notebook.cells
    solutions = [i for i, cell in enumerate(cells) if cell.cell_type == "code" and has_solution(cell.source)]
    found = []
    for index, following in itertools.zip_longest(solutions, solutions[1:], fillvalue=len(cells)):
        title = _title(cells, index)
        checks = tuple(
            i for i in range(index + 1, following) if cells[i].cell_type == "code" and "assert" in cells[i].source
        )
        if not checks:
            raise WorkshopError(
                f"exercise {title!r} (cell {index}) has no self-check: expected a code cell with `assert` below it"
            )
        found.append(Exercise(title, index, checks))
    return found


def _title(cells: Sequence[NotebookNode], index: int) -> str:
    """The last words in bold before a solution that begin with a number or letter, such as "**1. Name.**" or "**(a) Name.**"."""
    for cell in reversed(cells[:index]):
        if cell.cell_type == "markdown":
            titles = re.findall(r"^\*\*(\(?\w{1,2}[.)].*?)\*\*", cell.source, re.MULTILINE)
            return titles[-1] if titles else f"cell {index}"
    return f"cell {index}"


# ------------------------------------------------------------------------------------------------------------- writing


def student_notebook(notebook: NotebookNode, *, links: str = "") -> NotebookNode:
    """A copy for students: no solutions, and no outputs from the first exercise on, where they would show one.

    Parameters
    ----------
    notebook
        As it is kept, executed, with solutions.
    links
        Path from the copy's folder to the notebook's, put before relative links that lead out of it.

    Raises
    ------
    WorkshopError
        If marks or self-checks are missing, or a solution is left anywhere.
    """
    found = exercises(notebook)
    if not found:
        raise WorkshopError("no exercise: expected at least one cell with a solution between marks")
    student = copy.deepcopy(notebook)
    first = found[0].solution
    for index, cell in enumerate(student.cells):
        if cell.cell_type == "markdown" and links:
            cell.source = re.sub(r"\]\((?=\.\./)", f"]({links}/", cell.source)
        if cell.cell_type != "code":
            continue
        if index >= first:
            cell.outputs, cell.execution_count = [], None
        try:
            cell.source = without_solutions(cell.source)
        except WorkshopError as error:
            raise WorkshopError(f"cell {index}: {error}") from error
    time = re.search(r"running time ([^.*]+?)(?: on one thread)?\.", student.cells[0].source)
    note = nbformat.v4.new_markdown_cell(NOTE.format(time=time[1] if time else "a minute or two"), id="student-version")
    student.cells.insert(1, note)
    return student


def build(source: Path, target: Path) -> list[Path]:
    """Write student notebooks to `target` and those with solutions to ``target/solutions``.

    Parameters
    ----------
    source
        Folder of the notebooks.
    target
        Folder to write to; notebooks of an earlier build are replaced.

    Returns
    -------
    list of Path
        The student notebooks.

    Raises
    ------
    WorkshopError
        If a notebook is missing or its exercises cannot be read; the message names it. Nothing is written then.
    """
    written = {}
    for paper in papers.NOTEBOOKS.values():
        if not paper.ready:
            continue
        notebook = read(source / f"{paper.name}.ipynb")
        try:
            student = student_notebook(notebook, links=os.path.relpath(source, target))
        except WorkshopError as error:
            raise WorkshopError(f"{paper.name}.ipynb: {error}") from error
        written[target / f"{paper.name}.ipynb"] = student
        written[target / "solutions" / f"{paper.name}.ipynb"] = notebook
    for path, notebook in written.items():
        files.write_text(path, nbformat.writes(notebook) + "\n")
    return [path for path in written if path.parent == target]


def read(path: Path) -> NotebookNode:
    """A notebook from a file.

    Raises
    ------
    WorkshopError
        If the file is missing or is no notebook; the message names it.
    """
    try:
        return nbformat.read(path, as_version=4)
    except OSError as error:
        raise WorkshopError(f"{path} cannot be read ({error.strerror}); expected a Jupyter notebook") from error
    except (nbformat.reader.NotJSONError, nbformat.ValidationError, KeyError) as error:
        raise WorkshopError(f"{path} is not a Jupyter notebook ({str(error).splitlines()[0][:80]})") from error


# ----------------------------------------------------------------------------------------- which cells an exercise needs


@dataclass(frozen=True)
class _Names:
    """Names at the top of a cell.

    Parameters
    ----------
    reads
        Read when the cell runs.
    later
        Read inside functions, so at some later time.
    sets
        Set for certain.
    touches
        Set or changed, perhaps.
    """

    reads: frozenset[str]
    later: frozenset[str]
    sets: frozenset[str]
    touches: frozenset[str]


def _names(source: str) -> _Names:
    tree = ast.parse(source)
    top = symtable.symtable(source, "cell", "exec")
    certain = [n for n in tree.body if not isinstance(n, (ast.If, ast.For, ast.While, ast.Try))]
    changed = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Attribute, ast.Subscript)) and not isinstance(node.ctx, ast.Load):
            changed.add(_root(node))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS:
            changed.add(_root(node.func))
    return _Names(
        reads=frozenset(symbol.get_name() for symbol in top.get_symbols() if symbol.is_referenced()),
        later=frozenset(name for table in top.get_children() for name in _globals_read(table)),
        sets=_bound(symtable.symtable("\n".join(map(ast.unparse, certain)), "cell", "exec")),
        touches=_bound(top) | changed,
    )


def _bound(table: symtable.SymbolTable) -> frozenset[str]:
    symbols = table.get_symbols()
    return frozenset(s.get_name() for s in symbols if s.is_assigned() or s.is_imported() or s.is_namespace())


def _globals_read(table: symtable.SymbolTable) -> Iterator[str]:
    yield from (symbol.get_name() for symbol in table.get_symbols() if symbol.is_referenced() and symbol.is_global())
    for child in table.get_children():
        yield from _globals_read(child)


def _root(node: ast.AST) -> str:
    """The variable at the left end of ``a.b[c].d``."""
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Call)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def needed_cells(sources: Sequence[str | None], targets: Sequence[int]) -> list[int]:
    """Cells that must run so that `targets` can: a backward slice over the names that cells read and set.

    Parameters
    ----------
    sources
        Source of each cell, ``None`` for text.
    targets
        Indices of cells.

    Returns
    -------
    list of int
        `targets` and the cells before them whose names they read, directly or through others, in the order of the notebook. A cell that
        only draws or prints is left out.

    Examples
    --------
    >>> needed_cells(["a = 1", "print('slow')", "b = a", "a = 5", "assert b"], [4])
    [0, 2, 4]
    """
    names = [_names(source) if source is not None else None for source in sources]
    last = max(targets, default=-1)
    later: set[str] = set()
    while True:
        wanted: set[str] = set()
        kept = []
        for index in reversed(range(last + 1)):
            cell = names[index]
            if cell is not None and (index in targets or cell.touches & (wanted | later)):
                wanted = (wanted - cell.sets) | cell.reads
                kept.append(index)
        # What a function reads is set before its call, not before its definition: any cell that sets it counts.
        found = set().union(*(names[index].later for index in kept))
        if found <= later:
            return kept[::-1]
        later |= found


# ------------------------------------------------------------------------------------------------------------- marking


class Marker:
    """Runs what the exercises of a notebook need, once, and marks answers to them in turn.

    Cells run in this process; a student's code can do what the one who marks it can do, as with every autograder of this kind.

    Parameters
    ----------
    notebook
        The notebook with its solutions.
    name
        Name in messages.
    profile
        ``"smoke"`` is quick and lets checks that need a trained network pass; ``"quick"`` is what students see.
    """

    def __init__(self, notebook: NotebookNode, *, name: str = "notebook", profile: str = "smoke"):
        papers.check_profile(profile)
        self.notebook, self.name, self.profile = notebook, name, profile
        self.exercises = exercises(notebook)
        self._sources = [cell.source if cell.cell_type == "code" else None for cell in notebook.cells]

    def mark(self, answers: dict[int, Sequence[str]]) -> dict[int, list[Mark]]:
        """Mark several answers to each exercise, and the model solution after them, on which later exercises build.

        Parameters
        ----------
        answers
            For the position of an exercise, sources of the cell that holds the answer.

        Returns
        -------
        dict
            One `Mark` an answer, then that of the model solution.

        Raises
        ------
        WorkshopError
            If a cell that exercises need fails.
        """
        role = {self.exercises[i].solution: i for i in range(len(self.exercises))}
        checks = {index for exercise in self.exercises for index in exercise.checks}
        # `__main__` is a module that exists, which dataclasses of a cell ask for.
        scope: dict[str, Any] = {"__name__": "__main__", "__builtins__": __builtins__}
        marks: dict[int, list[Mark]] = {}
        for index in needed_cells(self._sources, [*role, *checks]):
            if index in role:
                position = role[index]
                exercise = self.exercises[position]
                tried = [self._attempt(exercise, source, dict(scope)) for source in answers.get(position, ())]
                marks[position] = [*tried, self._attempt(exercise, self._sources[index], scope)]
            elif index not in checks:
                error = self._run(index, self._sources[index], scope)
                if error:
                    raise WorkshopError(f"{self.name}, cell {index}, which exercises need, failed: {error}")
                if "parameters" in self.notebook.cells[index].metadata.get("tags", []):
                    scope["profile"] = self.profile
        return marks

    def _attempt(self, exercise: Exercise, source: str, scope: dict[str, Any]) -> Mark:
        # Without an answer the checks still run: they must fail by themselves, not because the cell above them stopped.
        self._run(exercise.solution, source, scope)
        return Mark(exercise, tuple(self._run(index, self._sources[index], scope) for index in exercise.checks))

    def _run(self, index: int, source: str, scope: dict[str, Any]) -> str | None:
        """Run a cell quietly; why it failed, or ``None``."""
        place = f"<{self.name} cell {index}>"
        linecache.cache[place] = (len(source), None, source.splitlines(keepends=True), place)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(source, place, "exec"), scope)
        except Exception as error:  # a student's code may raise anything
            return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
        finally:
            _close_figures()
        return None


def _close_figures() -> None:
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


def grade(
    student: NotebookNode, notebook: NotebookNode, *, name: str = "notebook", profile: str = "smoke"
) -> list[Mark]:
    """Mark a student's notebook with the self-checks of the original, whatever the student made of them.

    Parameters
    ----------
    student
        As handed in; its answers are found by the ids of their cells.
    notebook
        The notebook with solutions.
    name, profile
        As in `Marker`.

    Raises
    ------
    WorkshopError
        If a cell of an answer is gone.
    """
    marker = Marker(notebook, name=name, profile=profile)
    handed = {cell.get("id"): cell.source for cell in student.cells if cell.cell_type == "code"}
    answers = {}
    for position, exercise in enumerate(marker.exercises):
        cell = notebook.cells[exercise.solution]
        if cell.get("id") not in handed:
            raise WorkshopError(
                f"{name}: the cell of exercise {exercise.title!r} (id {cell.get('id')!r}) is not in the student's notebook; "
                "copy the answer into a fresh student version, whose cells keep their ids"
            )
        answers[position] = [handed[cell.id]]
    return [marks[0] for _, marks in sorted(marker.mark(answers).items())]


# -------------------------------------------------------------------------------------------------------- command line


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m paper_utils.workshop build`` and ``... grade NOTEBOOK``."""
    parser = argparse.ArgumentParser(prog="python -m paper_utils.workshop", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    building = commands.add_parser("build", help="write the student notebooks")
    building.add_argument("--output", type=Path, default=Path("build/workshop"))
    grading = commands.add_parser("grade", help="mark notebooks that students hand in; runs their code")
    grading.add_argument("notebooks", type=Path, nargs="+", metavar="NOTEBOOK")
    grading.add_argument("--profile", default="smoke", choices=papers.PROFILES)
    chosen = parser.parse_args(arguments)
    originals = files.project_root() / "notebooks"
    try:
        if chosen.command == "build":
            written = build(originals, chosen.output)
            print(
                f"{len(written)} student notebooks in {chosen.output}, their solutions in {chosen.output / 'solutions'}"
            )
            return 0
        return max(_grade_file(path, originals, chosen.profile) for path in chosen.notebooks)
    except WorkshopError as error:
        print(f"workshop: {error}", file=sys.stderr)
        return 2


def _grade_file(path: Path, originals: Path, profile: str) -> int:
    paper = papers.NOTEBOOKS.get(path.stem[:2])
    if paper is None or not paper.ready:
        ready = ", ".join(other.name for other in papers.NOTEBOOKS.values() if other.ready)
        raise WorkshopError(f"{path}: expected a file name that begins with the number of a notebook, one of {ready}")
    marks = grade(read(path), read(originals / f"{paper.name}.ipynb"), name=path.name, profile=profile)
    print(f"{path}: {sum(mark.passed for mark in marks)} of {len(marks)} right")
    for mark in marks:
        why = "" if mark.passed else f" - {next(filter(None, mark.errors))}"
        print(f"  {'✔' if mark.passed else '✘'} {mark.exercise.title}{why}")
    return 0 if all(mark.passed for mark in marks) else 1


if __name__ == "__main__":
    sys.exit(main())
