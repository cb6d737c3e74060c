"""Speakers of VoxCeleb1: the table, the lists of its parts, the split by letters, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from data.test_voxceleb import write

from paper_utils.data import voxceleb_speakers as vx
from paper_utils.world.people import SEXES

META = (
    "VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet\n"
    "id10001\tA.J._Buckley\tm\tIreland\tdev\n"
    "id10170\tCliff_Curtis\tm\tNew Zealand\tdev\n"
    "id10270\tEartha_Kitt\tf\tUSA\ttest\n"
    "id10310\tFanny_Ardant\tf\tNorway\tdev\n"
)
LIST = (
    "VoxCeleb1_ID,VGGFace1_ID,Gender,Nationality,Set\n"
    "id10270,Eartha_Kitt,f,USA,test\n"
    "id10001,A.J._Buckley,m,Ireland,none\n"
    "id10170,Cliff_Curtis,m,New Zealand,test\n"
)


# ---------------------------------------------------------------------------------------------------------------- table


def test_the_table_is_read_as_published(tmp_path):
    table = vx.read_meta(write(tmp_path / "vox1_meta.csv", META))
    assert table.name == "vox1_meta"
    assert table.voxceleb_ids == ("id10001", "id10170", "id10270", "id10310")
    assert table.vggface_names == ("A.J._Buckley", "Cliff_Curtis", "Eartha_Kitt", "Fanny_Ardant")
    assert table.official_set == ("dev", "dev", "test", "dev")
    assert table.covariate_names == {"sex": SEXES, "nationality": ("Ireland", "New Zealand", "Norway", "USA")}
    assert {name: codes.tolist() for name, codes in table.covariates.items()} == {
        "sex": [1, 1, 0, 0],
        "nationality": [0, 1, 3, 2],
    }
    assert table.rows(["Eartha_Kitt", "id10001", "nobody", "id10270"]).tolist() == [2, 0, -1, 2]


def test_codes_mean_the_same_in_every_part_of_a_table(tmp_path):
    table = vx.read_meta(write(tmp_path / "vox1_meta.csv", META))
    part = table.take(np.array([3, 1]), "part")
    assert part.vggface_names == ("Fanny_Ardant", "Cliff_Curtis")
    assert part.rows(["id10001", "id10170"]).tolist() == [-1, 1]
    for person, code in zip(part.vggface_names, part.nationality, strict=True):
        whole = table.nationality[table.vggface_names.index(person)]
        assert part.nationalities[code] == table.nationalities[whole]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("\t", ","), r"line 1 lacks VoxCeleb1 ID, .*separated by tabs"),
        (("Gender\t", ""), r"line 1 lacks Gender: .*expected the columns VoxCeleb1 ID, VGGFace1 ID, Gender"),
        (("Nationality", "Country"), r"line 1 lacks Nationality"),
        (("Gender\tNationality", "Nationality\tGender"), r"line 1 has the columns .*in this order"),
        (("Set\n", "Set\tAge\n"), r"line 1 has the columns .*Age; expected"),
        (("m\tIreland\tdev", "m\tIreland"), r"line 2 has 4 fields: 'id10001"),
        (("m\tNew Zealand", "\tNew Zealand"), r"line 3 \(id10170\) has no Gender; fill it in"),
        (("f\tUSA", "f\t "), r"line 4 \(id10270\) has no Nationality"),
        (("f\tNorway", "x\tNorway"), r"line 5 \(id10310\) has Gender 'x'; expected 'f' or 'm'"),
        (("id10170", "id10001"), r"line 3 repeats the VoxCeleb1 ID id10001 of line 2; keep one"),
        (("Eartha_Kitt", "A.J._Buckley"), r"line 4 repeats the VGGFace1 ID A.J._Buckley of line 2"),
        (("id10270", "10270"), r"line 4 has the identifier '10270'; expected 'id' and five digits"),
        (("Cliff_Curtis", "Cliff Curtis"), r"line 3 has the name 'Cliff Curtis'; expected a folder's name"),
        (("USA\ttest", "USA\ttrain"), r"line 4 has Set 'train'; expected 'dev' or 'test'"),
        (("id10170\tCliff_Curtis\tm\tNew Zealand\tdev", ""), r"line 3 is empty"),
        ((META[META.index("id10001") :], ""), r"no people below the header"),
        ((META, ""), r"is empty \(0 bytes\)"),
    ],
)
def test_a_damaged_table_is_refused_with_the_line(change, message, tmp_path):
    path = write(tmp_path / "vox1_meta.csv", META.replace(*change))
    with pytest.raises(ValueError, match=r"vox1_meta\.csv: .*" + message):
        vx.read_meta(path)


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"vox1_meta\.csv: no such file; expected the columns VoxCeleb1 ID"):
        vx.read_meta(tmp_path / "vox1_meta.csv")


# ---------------------------------------------------------------------------------------------------------------- split


def published_table() -> vx.SpeakerTable:
    """As many people under each letter as the published table has, which numbers them in alphabetical order."""
    letters = "A" * 60 + "B" * 56 + "C" * 80 + "D" * 70 + "E" * 43 + "F" * 400 + "M" * 300 + "Z" * 242
    ids = tuple(f"id{10001 + row}" for row in range(len(letters)))
    names = tuple(f"{letter}_{row}" for row, letter in enumerate(letters))
    zeros = np.zeros(len(ids), dtype=np.int64)
    return vx.SpeakerTable(ids, names, zeros, zeros, ("USA",), ("dev",) * len(ids), "vox1_meta")


def test_the_letter_rule_gives_the_published_numbers_of_people():
    table = published_table()
    assert len(table) == 1251
    assert {part: len(people) for part, people in vx.letter_split(table, without=()).items()} == {
        "train": 942,
        "val": 116,
        "test": 193,
    }
    parts = vx.letter_split(table)
    assert {part: len(people) for part, people in parts.items()} == vx.PUBLISHED_PEOPLE
    assert {part: len(people.dropped) for part, people in parts.items()} == {"train": 18, "val": 4, "test": 4}
    assert parts["val"].dropped == ("id10001", "id10002", "id10006", "id10077")
    assert parts["test"].dropped == ("id10143", "id10144", "id10204", "id10260")
    everybody = [person for people in parts.values() for person in (*people.voxceleb_ids, *people.dropped)]
    assert sorted(everybody) == list(table.voxceleb_ids)


def test_a_name_without_a_letter_has_no_place_in_the_split(tmp_path):
    path = write(tmp_path / "vox1_meta.csv", META.replace("Eartha_Kitt", "50_Cent"))
    with pytest.raises(ValueError, match="the name '50_Cent' begins with no letter from A to Z"):
        vx.letter_split(vx.read_meta(path))


def test_split_lists_keep_their_order_and_list_whom_they_drop(tmp_path):
    table = vx.read_meta(write(tmp_path / "vox1_meta.csv", META))
    part = vx.read_split_list(write(tmp_path / "vox1_test.csv", LIST), table)
    assert part.name == "vox1_test"
    assert part.voxceleb_ids == ("id10270", "id10170")
    assert part.dropped == ("id10001",)
    assert part.nationalities == table.nationalities
    assert [part.nationalities[code] for code in part.nationality] == ["USA", "New Zealand"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((",", "\t"), r"line 1 lacks VoxCeleb1_ID, .*separated by commas"),
        (("id10270", "id10271"), r"line 2 names id10271, who is not in vox1_meta \(4 people\)"),
        (("Kitt,f", "Kitt,m"), r"line 2 has Gender 'm' of id10270, vox1_meta has 'f'; use files of one release"),
        (("Eartha_Kitt", "Eartha"), r"line 2 has VGGFace1_ID 'Eartha' of id10270"),
        (("New Zealand", "USA"), r"line 4 has Nationality 'USA' of id10170, vox1_meta has 'New Zealand'"),
        ((",test", ",none"), r"all 3 people have Set 'none'"),
        (("m,Ireland,none", "m,,none"), r"line 3 \(id10001\) has no Nationality"),
    ],
)
def test_a_damaged_split_list_is_refused_with_the_line(change, message, tmp_path):
    table = vx.read_meta(write(tmp_path / "vox1_meta.csv", META))
    with pytest.raises(ValueError, match=r"vox1_test\.csv: .*" + message):
        vx.read_split_list(write(tmp_path / "vox1_test.csv", LIST.replace(*change)), table)
