"""Meshes written as OBJ are read back as they were."""

from __future__ import annotations

import numpy as np
import pytest

from paper_utils.mesh.obj_files import read_obj, write_obj

VERTICES = np.random.default_rng(0).normal(0, 80, (5, 3))
TRIANGLES = np.array([[0, 1, 2], [2, 3, 4]])


@pytest.mark.parametrize("colours", [None, np.random.default_rng(1).uniform(0, 1, (5, 3))])
def test_a_mesh_comes_back(colours, tmp_path) -> None:
    path = tmp_path / "face.obj"
    write_obj(path, VERTICES, TRIANGLES, colours)
    found = read_obj(path)
    np.testing.assert_allclose(found.vertices, VERTICES, atol=5.1e-5)
    assert np.array_equal(found.triangles, TRIANGLES)
    numbers = path.read_text().splitlines()[0].split()[1:]
    assert len(numbers) == (3 if colours is None else 6)
    if colours is not None:
        np.testing.assert_allclose([float(n) for n in numbers[3:]], colours[0], atol=5.1e-5)


def test_what_is_no_mesh_is_refused_and_leaves_no_file(tmp_path) -> None:
    for path, vertices, triangles, message in (
        (tmp_path / "face.ply", VERTICES, TRIANGLES, "ends in .obj"),
        (tmp_path / "face.obj", VERTICES * np.nan, TRIANGLES, "15 numbers of the mesh are NaN"),
        (tmp_path / "face.obj", VERTICES, TRIANGLES + 1, r"0\.\.4, found 1\.\.5"),
    ):
        with pytest.raises(ValueError, match=message):
            write_obj(path, vertices, triangles)
    assert list(tmp_path.iterdir()) == []
