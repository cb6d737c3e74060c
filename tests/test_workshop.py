"""Student notebooks: what is taken out, what stays, and that every self-check tells an answer from none."""

import ast
import copy

import jaxtyping
import nbformat
import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from paper_utils import papers, workshop

READY = [paper for paper in papers.NOTEBOOKS.values() if paper.ready]
code, text = nbformat.v4.new_code_cell, nbformat.v4.new_markdown_cell

DOUBLE = """def double(x):
    ### BEGIN SOLUTION
    return 2 * x
    ### END SOLUTION
"""


@pytest.fixture
def small():
    """A notebook with a slow cell that no exercise needs, a function to write and an array to write."""
    cells = [
        text(
            "# 99 Small\n\n*Reading time a minute, running time about two seconds on one thread.*\n\n[up](../README.md)"
        ),
        code('profile = "quick"', metadata={"tags": ["parameters"]}),
        code("raise SystemExit('a slow cell that draws')"),
        code("base = [3]"),
        code("base.append(4)", outputs=[nbformat.v4.new_output("stream", text="kept")], execution_count=4),
        text("## 10. Exercises\n\n**1. Double it.** Write it."),
        code(DOUBLE, outputs=[nbformat.v4.new_output("stream", text="8")], execution_count=5),
        code("assert double(base[1]) == 8", execution_count=6),
        text("So that was that.\n\n**(b) Add up.**"),
        code("### BEGIN SOLUTION\ntotal = sum(base)\n### END SOLUTION"),
        code("assert total == double(3.5)", outputs=[nbformat.v4.new_output("stream", text="7")]),
        code("assert total > 0"),
    ]
    return nbformat.v4.new_notebook(cells=cells)


def answered(notebook, answers):
    """A student's copy with these answers."""
    student = workshop.student_notebook(notebook)
    cells = {cell.id: cell for cell in student.cells}
    for exercise, answer in zip(workshop.exercises(notebook), answers, strict=True):
        cells[notebook.cells[exercise.solution].id].source = answer
    return student


class TestTheCollection:
    """Each notebook's exercises, on its model solutions."""

    @pytest.fixture(autouse=True)
    def _as_in_a_notebook(self):
        """Notebooks hand lists to functions that ask for arrays, which only the type checks of these tests mind."""
        jaxtyping.config.update("jaxtyping_disable", True)
        yield
        jaxtyping.config.update("jaxtyping_disable", False)

    @pytest.mark.parametrize("paper", READY, ids=lambda paper: paper.name)
    def test_every_self_check_passes_with_the_solution_and_fails_without(self, paper):
        notebook = workshop.read(ROOT / "notebooks" / f"{paper.name}.ipynb")
        marker = workshop.Marker(notebook, name=paper.name)
        assert len(marker.exercises) >= 2
        without = {
            position: [
                workshop.without_solutions(notebook.cells[exercise.solution].source, stub)
                for stub in workshop.STUBS.values()
            ]
            for position, exercise in enumerate(marker.exercises)
        }
        for marks in marker.mark(without).values():
            *stubs, solved = marks
            assert solved.passed, f"{solved.exercise.title}: {solved.errors}"
            for name, mark in zip(workshop.STUBS, stubs, strict=True):
                assert all(mark.errors), f"{mark.exercise.title}: a self-check passes without a solution ({name})"

    @pytest.mark.parametrize("paper", READY, ids=lambda paper: paper.name)
    def test_text_after_an_exercise_is_the_next_one_or_says_what_to_look_at(self, paper):
        """Students keep all text, so what a solution shows belongs into the solution."""
        notebook = workshop.read(ROOT / "notebooks" / f"{paper.name}.ipynb")
        first = workshop.exercises(notebook)[0].solution
        for index, cell in enumerate(notebook.cells[first:], start=first):
            if cell.cell_type == "markdown":
                assert cell.source.startswith(("**", "*See*")), f"{paper.name} cell {index}: {cell.source[:80]}"

    def test_build_writes_students_and_solutions_of_all_that_is_ready(self, tmp_path):
        written = workshop.build(ROOT / "notebooks", tmp_path)
        assert [path.stem for path in written] == [paper.name for paper in READY]
        for path in written:
            student, solved = workshop.read(path), workshop.read(tmp_path / "solutions" / path.name)
            nbformat.validate(student)
            assert solved == workshop.read(ROOT / "notebooks" / path.name)
            assert "SOLUTION" not in nbformat.writes(student)
            hidden = [
                cell
                for cell in student.cells
                if "raise NotImplementedError" in cell.source and cell.cell_type == "code"
            ]
            assert len(hidden) == len(workshop.exercises(solved))
            for cell in student.cells:
                if cell.cell_type == "code":
                    ast.parse(cell.source)

    def test_command_line_builds_and_says_where(self, tmp_path, capsys):
        assert workshop.main(["build", "--output", str(tmp_path / "out")]) == 0
        assert f"{len(READY)} student notebooks" in capsys.readouterr().out
        assert (tmp_path / "out" / f"{READY[0].name}.ipynb").exists()


class TestStudentNotebook:
    """What a student gets."""

    def test_solution_becomes_a_stub_with_the_indent_of_its_mark(self):
        assert (
            workshop.without_solutions(DOUBLE) == "def double(x):\n    # Your code here.\n    raise NotImplementedError"
        )

    def test_lines_around_and_between_two_solutions_stay(self):
        source = "a = 1\n### BEGIN SOLUTION\nb = 2\n### END SOLUTION\nc = 3\n### BEGIN SOLUTION\nd = 4\n### END SOLUTION\ne = 5"
        assert workshop.without_solutions(source, ["pass"]) == "a = 1\npass\nc = 3\npass\ne = 5"

    @given(st.text(alphabet="ab \n=#", max_size=60))
    def test_source_without_marks_keeps_its_lines(self, source):
        assert workshop.without_solutions(source) == "\n".join(source.splitlines())

    @pytest.mark.parametrize(
        ("source", "message"),
        [
            ("### BEGIN SOLUTION\na = 1", "without '### END SOLUTION'"),
            ("a = 1\n### END SOLUTION", "line 2: '### END SOLUTION' where '### BEGIN SOLUTION' was expected"),
            ("### BEGIN SOLUTION\n### BEGIN SOLUTION\n### END SOLUTION", "line 2: '### BEGIN SOLUTION' where"),
        ],
    )
    def test_marks_without_partner_are_refused(self, source, message):
        with pytest.raises(workshop.WorkshopError, match=message):
            workshop.without_solutions(source)

    def test_outputs_stay_before_the_exercises_and_go_from_the_first_on(self, small):
        student = workshop.student_notebook(small)
        cells = [cell for cell in student.cells if cell.cell_type == "code"]
        assert cells[3].outputs
        assert cells[3].execution_count == 4
        assert not any(cell.outputs or cell.execution_count for cell in cells[4:])
        assert [cell.source for cell in cells if "assert" in cell.source] == [
            cell.source for cell in small.cells if "assert" in cell.source
        ]

    def test_it_says_what_to_do_and_how_long_it_takes(self, small):
        note = workshop.student_notebook(small).cells[1]
        assert "Run all cells down to section 10 once (about two seconds)" in note.source

    def test_links_out_of_the_folder_are_turned(self, small):
        student = workshop.student_notebook(small, links="../../notebooks")
        assert "[up](../../notebooks/../README.md)" in student.cells[0].source

    def test_the_original_is_left_as_it_is(self, small):
        before = copy.deepcopy(small)
        workshop.student_notebook(small)
        assert small == before

    def test_an_exercise_without_a_check_is_refused(self, small):
        del small.cells[7]
        with pytest.raises(workshop.WorkshopError, match=r"'1\. Double it\.' \(cell 6\) has no self-check"):
            workshop.student_notebook(small)

    def test_a_notebook_without_exercises_is_refused(self):
        with pytest.raises(workshop.WorkshopError, match="no exercise"):
            workshop.student_notebook(nbformat.v4.new_notebook(cells=[code("a = 1")]))

    def test_missing_and_broken_files_are_named(self, tmp_path):
        with pytest.raises(workshop.WorkshopError, match=r"00_the_world\.ipynb cannot be read"):
            workshop.build(tmp_path, tmp_path / "out")
        (tmp_path / "00_the_world.ipynb").write_text("not json")
        with pytest.raises(workshop.WorkshopError, match=r"00_the_world\.ipynb is not a Jupyter notebook"):
            workshop.build(tmp_path, tmp_path / "out")
        assert not (tmp_path / "out").exists()


class TestMarking:
    """Which cells run, and what the checks say."""

    def test_a_slice_holds_definitions_mutations_and_nothing_that_only_draws(self):
        cells = [
            "import math",
            "def f(x):\n    return math.sqrt(x) + shift",
            None,
            "shift = 1",
            "plot(f)",
            "box = {}",
            "box['a'] = f(4)",
            "other = 3",
            "if other:\n    shift = 2",
            "answer = box['a']",
        ]
        assert workshop.needed_cells(cells, [9]) == [0, 1, 3, 5, 6, 7, 8, 9]

    def test_a_name_set_anew_cuts_off_what_came_before(self):
        assert workshop.needed_cells(["a = slow()", "a = 1", "b = a"], [2]) == [1, 2]

    def test_names_inside_functions_and_comprehensions_are_not_those_of_the_cell(self):
        cells = ["fig = slow()", "def f():\n    fig = 1\n    return [i for i in range(fig)]", "f()"]
        assert workshop.needed_cells(cells, [2]) == [1, 2]

    def test_right_and_wrong_answers_are_told_apart_and_later_exercises_build_on_the_model(self, small):
        student = answered(small, ["def double(x):\n    return x + x", "total = 8"])
        first, second = workshop.grade(student, small)
        assert first.passed
        assert second.errors == ("AssertionError: no message", None)
        # The second check of the second exercise asks for double(3.5), which a wrong first answer must not spoil.
        first, second = workshop.grade(answered(small, ["double = print", "total = 7"]), small)
        assert not first.passed
        assert second.passed

    def test_a_student_cannot_pass_by_editing_the_check(self, small):
        student = answered(small, ["double = abs", "total = 0"])
        for cell in student.cells:
            if "assert" in cell.source:
                cell.source = "assert True"
        assert not any(mark.passed for mark in workshop.grade(student, small))

    def test_the_profile_reaches_the_cells(self, small):
        small.cells[7].source = "assert double(4) == 8\nassert profile == 'smoke'"
        assert workshop.grade(answered(small, [DOUBLE, "total = 7"]), small)[0].passed
        assert not workshop.grade(answered(small, [DOUBLE, "total = 7"]), small, profile="quick")[0].passed

    def test_a_lost_cell_is_named(self, small):
        student = workshop.student_notebook(small)
        student.cells = [cell for cell in student.cells if "double(x)" not in cell.source]
        with pytest.raises(
            workshop.WorkshopError, match=r"exercise '1\. Double it\.' .* is not in the student's notebook"
        ):
            workshop.grade(student, small)

    def test_a_failing_cell_of_the_notebook_itself_is_no_students_fault(self, small):
        small.cells[3].source = "base = [1 / 0]"
        with pytest.raises(workshop.WorkshopError, match="cell 3, which exercises need, failed: ZeroDivisionError"):
            workshop.grade(answered(small, [DOUBLE, "total = 7"]), small)

    def test_command_line_marks_a_file(self, tmp_path, capsys):
        original = ROOT / "notebooks" / "05_sphereface2.ipynb"
        handed_in = tmp_path / "05_somebody.ipynb"
        nbformat.write(workshop.student_notebook(workshop.read(original)), handed_in)
        assert workshop.main(["grade", str(original)]) == 0
        assert "3 of 3 right" in capsys.readouterr().out
        assert workshop.main(["grade", str(handed_in)]) == 1
        assert "0 of 3 right" in capsys.readouterr().out
        assert workshop.main(["grade", str(tmp_path / "homework.ipynb")]) == 2
        assert "expected a file name that begins with the number of a notebook" in capsys.readouterr().err
