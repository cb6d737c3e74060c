"""Tables of measurements and of landmarks: what is read, and damaged ones, which are named."""

import numpy as np
import pytest

from paper_utils.data import subject_tables as tables

TABLE = "speaker,sex,age,site,nose,jaw\n5,F,30,north,1.5,9\n3,m,40,south,2.5,\n8,female,50,north,3.5,7\n"


def written(tmp_path, text, name="table.csv"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_a_table_of_measurements_is_read(tmp_path):
    table = tables.read_measurements(written(tmp_path, TABLE), covariates=("age", "site"))
    assert table.names == ("nose", "jaw")
    assert table.subjects.tolist() == [5, 3, 8]
    assert table.sex.tolist() == [0, 1, 0]
    assert table.covariates["site"].tolist() == [0, 1, 0]
    assert np.isnan(table.values[1, 1])
    assert table.of_sex("woman").subjects.tolist() == [5, 8]
    with pytest.raises(ValueError, match="no woman among 1 subjects"):
        table.of_sex("man").of_sex("woman")


def test_paper_10s_table_is_read(tmp_path):
    text = "ID," + ",".join(map(str, range(1, 97))) + "\n12," + ",".join(f"{i / 96:.3f}" for i in range(96)) + "\n"
    table = tables.read_measurements(written(tmp_path, text, "AMs_final.csv"))
    assert table.names == tuple(map(str, range(1, 97)))
    assert table.subjects.tolist() == [12]
    assert table.sex.tolist() == [-1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "no column None; found a, b; say subject="),
        ("speaker,nose\n1,2\n1,3\n", "stand there twice: \\[1\\]"),
        ("speaker,nose\n1,two\n", "line 2, column 'nose': expected a number, found 'two'"),
        ("speaker,sex,nose\n1,x,2\n", "sex: expected F or M .* found 'x'"),
        ("speaker,nose\nanna,2\n", "speaker 'anna' is no whole number"),
        ("speaker\n1\n", "no column of measurements"),
        ("speaker,nose\n", "found no rows"),
    ],
)
def test_damaged_tables_are_named(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        tables.read_measurements(written(tmp_path, text))


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none.csv: no such file; expected a CSV"):
        tables.read_measurements(tmp_path / "none.csv")


def test_landmarks_in_mm_and_in_pixels(tmp_path):
    columns = [f"{axis}{i}" for i in (1, 2) for axis in "xyz"]
    path = written(tmp_path, "speaker," + ",".join(columns) + "\n7,1,2,3,4,5,6\n")
    assert tables.read_landmarks(path, unit="mm").points.tolist() == [[[1, 2, 3], [4, 5, 6]]]
    flat = written(tmp_path, "speaker,x1,y1,x2,y2\n7,1,2,4,5\n", "flat.csv")
    found = tables.read_landmarks(flat, unit="pixels")
    assert found.points.tolist() == [[[1, -2, 0], [4, -5, 0]]]
    assert found.unit == "pixels"
    with pytest.raises(ValueError, match="missing z1, z2"):
        tables.read_landmarks(flat, unit="mm")
    with pytest.raises(ValueError, match="unit: expected 'mm' or 'pixels', found 'cm'"):
        tables.read_landmarks(flat, unit="cm")
    holes = written(tmp_path, "speaker,x1,y1\n7,1,\n", "holes.csv")
    with pytest.raises(ValueError, match="line 2: a coordinate is missing"):
        tables.read_landmarks(holes, unit="pixels")
