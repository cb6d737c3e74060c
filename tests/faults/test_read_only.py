"""A figures folder that cannot be written to: by permissions, a read-only disk, or a file in its place."""

import errno
import tempfile

import matplotlib.pyplot as plt
import pytest
from fault_tools import mounted, names_in, permissions_heeded

from paper_utils import experiment, files


def save_empty_figure():
    exp = experiment.start("06")
    fig = plt.figure(figsize=(1, 1))
    try:
        exp.save_figure(fig, "empty", "Nothing.")
    finally:
        plt.close(fig)
    return exp.figure_folder / "empty.png"


def test_a_figures_folder_without_permission_is_named(tmp_path):
    path = save_empty_figure()
    before = path.read_bytes()
    path.parent.chmod(0o555)
    try:
        with (
            permissions_heeded(),
            pytest.raises(files.WriteError, match=r"empty\.png cannot be written: no permission") as caught,
        ):
            save_empty_figure()
    finally:
        path.parent.chmod(0o755)
    assert f"no permission to write in {path.parent}; give yourself that permission" in str(caught.value)
    assert caught.value.errno == errno.EACCES
    assert path.read_bytes() == before
    assert names_in(path.parent) == ["empty.png"]
    assert path.is_relative_to(tmp_path)


def test_figures_on_a_read_only_disk_are_named(tmp_path, monkeypatch):
    with mounted(tmp_path / "disk", "ro") as folder:
        monkeypatch.setenv("PAPER_UTILS_OUTPUT", str(folder))
        with pytest.raises(
            files.WriteError, match=r"empty\.png cannot be written: the disk that holds .*disk is read-only"
        ):
            save_empty_figure()


def test_a_refusal_of_the_system_becomes_a_named_error(tmp_path, monkeypatch):
    def refuse(**options):
        raise OSError(errno.EROFS, "Read-only file system", str(options["dir"]))

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    with pytest.raises(
        files.WriteError, match=r"value\.txt cannot be written: the disk that holds .* is read-only; mount it"
    ):
        files.write_text(tmp_path / "value.txt", "new")


@pytest.mark.parametrize("depth", [0, 1])
def test_a_file_in_place_of_the_figures_folder_is_named(tmp_path, depth):
    blocker = tmp_path / "figures"
    if depth:
        blocker.mkdir()
        blocker = blocker / "06_sphereface_r"
    blocker.write_text("mine")
    with pytest.raises(
        files.WriteError, match=rf"{blocker} is a file, and a folder is needed there; move that file away"
    ):
        save_empty_figure()
    assert blocker.read_text() == "mine"


def test_a_folder_in_place_of_a_results_file_is_named(tmp_path):
    (tmp_path / "06.json").mkdir()
    with pytest.raises(files.WriteError, match=r"06\.json cannot be written: it is a folder; move that folder away"):
        files.write_text(tmp_path / "06.json", "{}")
    assert names_in(tmp_path) == ["06.json"]
