"""Names of MEAD's clips and its official splits: equal to what EMOTE's own loader gives, and every fault is named."""

import json
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paper_utils.data import mead_names as names
from paper_utils.data.talking_faces import EMOTIONS


@pytest.fixture(scope="module")
def official():
    path = pathlib.Path(__file__).parents[1] / "reference" / "mead" / "splits.json"
    return json.loads(path.read_text())


# ---------------------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("path", "folder"),
    [
        ("M003/video/front/angry/level_3/001.mp4", "M003/front/angry/level_3/001"),
        ("W011/1/front/angry/level_3/001.mp4", "W011/front/angry/level_3/001"),
        ("W011/video/1/front/angry/level_3/001.mp4", "W011/1/front/angry/level_3/001"),
        ("M003/front/angry/level_3/001", "M003/front/angry/level_3/001"),
    ],
)
def test_names_are_read_through_the_faults_of_the_release(path, folder):
    name = names.parse_name(path)
    assert (name.emotion, name.intensity, name.sentence, name.folder) == ("anger", 3, "001", folder)


def test_labels_are_those_of_the_official_tables(official):
    for folder, label in official["label_index"].items():
        assert EMOTIONS[label] == names.EMOTION_FOLDERS[folder]
    for pair, index in official["emotion_intensity_index"].items():
        emotion, intensity = map(int, pair.split("_"))
        assert names.condition_index(emotion, intensity) == index
    assert names.parse_name("M003/video/front/surprised/level_2/004.mp4").condition == 8


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("M003/video/front/furious/level_3/001.mp4", "unknown emotion 'furious'; expected one of angry, contempt"),
        ("M003/video/front/angry/level_4/001.mp4", "intensity: expected one of 1, 2, 3; found 4"),
        ("M003/video/front/angry/loud/001.mp4", "expected a folder level_1, level_2 or level_3, found 'loud'"),
        ("X003/video/front/angry/level_1/001.mp4", "person such as M003"),
        ("001.mp4", "person such as M003"),
    ],
)
def test_names_that_mead_does_not_have_are_refused(path, message):
    with pytest.raises(ValueError, match=message):
        names.parse_name(path)


def test_conditions_outside_the_table_are_refused():
    with pytest.raises(ValueError, match=r"emotion: expected an index in 0\.\.7"):
        names.condition_index(8, 1)
    with pytest.raises(ValueError, match="intensity: expected one of 1, 2, 3; found 0"):
        names.condition_index(1, 0)


# --------------------------------------------------------------------------------------------------------------- splits


def test_splits_are_the_official_ones(official):
    for name, parts in official["splits"].items():
        assert names.split(official["videos"], name) == parts, name


def test_the_split_of_emote_holds_out_the_people_of_the_paper(official):
    parts = names.split(official["videos"])
    people = {part: {official["videos"][i].split("/")[0] for i in rows} for part, rows in parts.items()}
    assert people["val"] == {"M032", "M033", "M034", "M035", "W033", "W035", "W036"}
    assert people["test"] == {"M037", "M039", "M040", "M041", "M042", "W037", "W038", "W040"}
    assert people["train"] == {*names.MEN, *names.WOMEN} - people["val"] - people["test"]
    assert len(people["train"]) == 32


def test_identities_are_cut_at_shares_of_all_not_one_after_the_other():
    """Of four people 2.8 and 3.4 are rounded down: 2, 1, 1. Rounding the shares themselves would leave none for validation."""
    videos = [f"{person}/video/front/sad/level_1/001.mp4" for person in (*names.MEN[:4], *names.WOMEN[:4])]
    assert names.split(videos) == {"train": [0, 1, 4, 5], "val": [2, 6], "test": [3, 7]}
    assert {part: len(rows) for part, rows in names.split(videos[:1] * 4, names.SPLIT_OF_CLASSIFIER).items()} == {
        "train": 2,
        "val": 0,
        "test": 2,
    }


def test_identity_split_called_random_is_the_sorted_one(official):
    name = names.SPLIT_OF_EMOTE
    assert names.split(official["videos"], name.replace("sorted", "random")) == names.split(official["videos"], name)


@given(
    st.lists(
        st.tuples(st.sampled_from(names.MEN + names.WOMEN), st.integers(1, 40)), min_size=1, max_size=40, unique=True
    ),
    st.sampled_from(
        ["random", "random_by_identityV2_sorted", "random_by_sequence_sorted", "random_by_sequence_random"]
    ),
    st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(1, 9)),
)
def test_every_clip_is_in_one_part(clips, kind, shares):
    videos = [f"{person}/video/front/happy/level_{1 + n % 3}/{n:03d}.mp4" for person, n in clips]
    parts = names.split(videos, "_".join([kind, *map(str, shares)]))
    assert sorted(row for rows in parts.values() for row in rows) == list(range(len(videos)))
    if "identity" in kind:
        people = [{videos[i].split("/")[0] for i in rows} for rows in parts.values()]
        assert not (people[0] & people[1] | people[0] & people[2] | people[1] & people[2])


@pytest.mark.parametrize(
    "name", ["by_identity", "random_by_age_70_15_15", "random_0_0_0", "random_by_identityV2_70_15_15"]
)
def test_unknown_splits_are_refused(name):
    with pytest.raises(ValueError, match="split: expected random_<a>_<b>_<c>"):
        names.split(["M003/video/front/angry/level_1/001.mp4"], name)
    with pytest.raises(ValueError, match="there are no clips"):
        names.split([])
