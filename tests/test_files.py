"""Files are written whole or not at all."""

import pytest

from paper_utils import files


def test_atomic_path_replaces_only_when_the_block_ends(tmp_path):
    target = tmp_path / "deep" / "value.txt"
    files.write_text(target, "old")
    with files.atomic_path(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert list(target.parent.iterdir()) == [target]


def test_atomic_path_keeps_the_old_file_when_writing_fails(tmp_path):
    target = tmp_path / "value.txt"
    files.write_text(target, "old")

    def write_half():
        with files.atomic_path(target) as temporary:
            temporary.write_text("ne")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_half()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_project_root_is_found_from_a_folder_inside_it(root, monkeypatch):
    monkeypatch.chdir(root / "notebooks")
    assert files.project_root() == root
