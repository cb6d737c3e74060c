"""The list of papers and the checks of what a user asks for."""

import dataclasses

import pytest

from paper_utils import papers


def test_there_are_ten_papers_in_order():
    assert list(papers.PAPERS) == [f"{number:02d}" for number in range(1, 11)]


def test_ready_papers_have_a_notebook_and_no_other_has(root):
    found = {path.stem for path in (root / "notebooks").glob("[0-9][0-9]_*.ipynb")}
    assert found == {paper.name for paper in papers.NOTEBOOKS.values() if paper.ready}


@pytest.mark.parametrize("number", ["6", "06", 6])
def test_a_number_is_found_with_or_without_the_zero(number):
    assert papers.find(number).number == "06"


def test_unknown_paper_lists_the_valid_ones():
    with pytest.raises(ValueError, match=r"unknown paper '42'; valid: 00, 01, .*10"):
        papers.find("42")


def test_unknown_profile_lists_the_valid_ones():
    with pytest.raises(ValueError, match="unknown profile 'fast'; valid: smoke, quick, full"):
        papers.check_profile("fast")


def test_unknown_data_lists_the_valid_ones():
    with pytest.raises(ValueError, match="unknown data 'mnist' for paper 01; valid: world, posteriors"):
        papers.check_data(papers.find("01"), "mnist")


def test_a_paper_without_notebook_says_which_have_one():
    with pytest.raises(ValueError, match=r"paper 04 .* has no notebook yet; papers that have one: 00, 01, .*05, 06"):
        papers.check_data(dataclasses.replace(papers.find("04"), data=()), None)


def test_data_root_is_asked_for_refused_and_checked(tmp_path):
    paper = papers.find("01")
    with pytest.raises(ValueError, match="data 'posteriors' needs data_root"):
        papers.check_data_root(paper, "posteriors", None)
    with pytest.raises(ValueError, match="'world' reads no files, but data_root="):
        papers.check_data_root(paper, "world", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="does not exist; expected the folder of 'posteriors'"):
        papers.check_data_root(paper, "posteriors", str(tmp_path / "nowhere"))
    (tmp_path / "a_file").write_text("")
    with pytest.raises(NotADirectoryError, match="is a file"):
        papers.check_data_root(paper, "posteriors", str(tmp_path / "a_file"))
    assert papers.check_data_root(paper, "posteriors", str(tmp_path)) == tmp_path


def test_papers_are_chosen_by_numbers_each_once_or_all_that_are_ready():
    assert [paper.number for paper in papers.chosen(" 06,01,, 6")] == ["06", "01"]
    assert papers.chosen(" , ") == papers.chosen("") == [paper for paper in papers.NOTEBOOKS.values() if paper.ready]
    with pytest.raises(ValueError, match="unknown paper '17'"):
        papers.chosen("01,17")
