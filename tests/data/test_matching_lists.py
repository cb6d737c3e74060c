"""Trial lists: the published text formats, strata, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from paper_utils.data import matching_lists as ml
from paper_utils.data import trial_builders
from paper_utils.data.face_images import string_array
from paper_utils.data.face_lists import MissingImagesError
from paper_utils.data.voxceleb_speakers import SpeakerTable

NATIONS = ("India", "Ireland", "UK", "USA")
PEOPLE = [  # identifier, name, sex (1 man), nationality
    ("id10003", "Aamir_Khan", 1, 0),
    ("id10004", "Aaron_Tveit", 1, 3),
    ("id10006", "Abbie_Cornish", 0, 2),
    ("id10007", "Abigail_Breslin", 0, 3),
    ("id10010", "Adam_Brody", 1, 3),
    ("id10055", "Andrew_Scott", 1, 1),
    ("id10061", "Anne_Hathaway", 0, 3),
]
MATCH = (
    "id10003/E_6MjfYr0sQ/00019.wav Aamir_Khan/00000558.jpg Andrew_Scott/00000233.jpg\n"
    "id10003/E_6MjfYr0sQ/00019.wav Aamir_Khan/00000819.jpg Adam_Brody/00000001.jpg\n"
    "id10055/x/00001.wav Andrew_Scott/00000233.jpg Aamir_Khan/00000558.jpg\n"
)
VERIFY = (
    "Aamir_Khan/00000558.jpg id10003/E_6MjfYr0sQ/00019.wav\n"
    "Aamir_Khan/00000558.jpg id10004/y/00001.wav\n"
    "Abbie_Cornish/00000001.jpg id10007/z/00002.wav\n"
)
RETRIEVE = "id10055/x/00001.wav id10003/y/00001.wav\nAndrew_Scott/00000009.jpg Adam_Brody/00000001.jpg Aamir_Khan/00000001.jpg\n"


@pytest.fixture
def people() -> SpeakerTable:
    return table(PEOPLE)


def table(rows: list[tuple[str, str, int, int]]) -> SpeakerTable:
    ids, names, sex, nation = zip(*rows, strict=True)
    return SpeakerTable(ids, names, np.array(sex), np.array(nation), NATIONS, ("dev",) * len(ids), "vox1_meta")


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def items(people: SpeakerTable, counts: list[int], kind: str) -> trial_builders.Items:
    """As many items of each person as `counts` says."""
    owner = np.repeat(np.arange(len(people)), counts)
    number = np.concatenate([np.arange(count) for count in counts])
    if kind == "voice":
        paths = [f"{people.voxceleb_ids[i]}/v{n % 3}/{n:05d}.wav" for i, n in zip(owner, number, strict=True)]
    else:
        paths = [f"{people.vggface_names[i]}/{n:08d}.jpg" for i, n in zip(owner, number, strict=True)]
    return trial_builders.Items(string_array(paths, "items"), owner)


def equal(first: object, second: object) -> bool:
    """Whether two lists hold the same, field by field."""
    assert type(first) is type(second)
    return all(np.array_equal(value, getattr(second, name)) for name, value in vars(first).items())


# ------------------------------------------------------------------------------------------------------- published form


def test_a_matching_list_is_read_as_published(people, tmp_path):
    trials = ml.read_matching(write(tmp_path / "match_g_v2f_2_val.txt", MATCH), people)
    assert (trials.name, trials.direction, trials.size, len(trials)) == ("match_g_v2f_2_val", "v2f", 2, 3)
    assert trials.voice_paths.tolist() == ["id10003/E_6MjfYr0sQ/00019.wav", "id10055/x/00001.wav"]
    assert trials.face_paths.tolist() == [
        "Aamir_Khan/00000558.jpg",
        "Aamir_Khan/00000819.jpg",
        "Adam_Brody/00000001.jpg",
        "Andrew_Scott/00000233.jpg",
    ]
    assert trials.probe.tolist() == [0, 0, 1]
    assert trials.positive.tolist() == [0, 1, 3]
    assert trials.negatives.tolist() == [[3], [2], [0]]
    assert trials.probe_people.tolist() == [0, 5]
    assert trials.gallery_people.tolist() == [0, 0, 4, 5]


def test_a_verification_list_takes_its_labels_from_the_people(people, tmp_path):
    trials = ml.read_verification(write(tmp_path / "verify_g_f2v_test.txt", VERIFY), people)
    assert trials.direction == "f2v"
    assert trials.same.tolist() == [True, False, False]
    assert trials.face_paths.tolist() == ["Aamir_Khan/00000558.jpg", "Abbie_Cornish/00000001.jpg"]
    assert trials.gallery_paths[trials.candidate].tolist() == [line.split()[1] for line in VERIFY.splitlines()]


def test_a_retrieval_list_keeps_its_order(people, tmp_path):
    for name in ("reterival_v2f_test.txt", "retrieval_v2f_test.txt"):
        search = ml.read_retrieval(write(tmp_path / name, RETRIEVE), people)
        assert search.probe_people.tolist() == [5, 0]
        assert search.gallery_people.tolist() == [5, 4, 0]
        assert "\n".join(search.lines()) + "\n" == RETRIEVE


@pytest.mark.parametrize(
    ("name", "text", "read"),
    [
        ("match_v2f_2_test", MATCH, ml.read_matching),
        ("verify_f2v_test", VERIFY, ml.read_verification),
        ("reterival_v2f_test", RETRIEVE, ml.read_retrieval),
    ],
)
def test_what_is_read_is_written_back_byte_by_byte(name, text, read, people, tmp_path):
    listing = read(write(tmp_path / f"{name}.txt", text), people)
    ml.write_list(tmp_path / "again.txt", listing)
    assert (tmp_path / "again.txt").read_bytes() == text.encode()


def test_galleries_of_more_than_two_and_free_names_are_read(people, tmp_path):
    lines = MATCH.replace("\n", " Aaron_Tveit/00000003.jpg\n")
    trials = ml.read_matching(write(tmp_path / "mine.txt", lines), people, direction="v2f")
    assert trials.size == 3
    assert trials.negatives.shape == (3, 2)
    with pytest.raises(ValueError, match=r"mine\.txt: direction is None; name the list like match_v2f"):
        ml.read_matching(tmp_path / "mine.txt", people)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (("match", "v2f", "val"), "match_v2f_2_val.txt"),
        (("verify", "f2v"), "verify_f2v_test.txt"),
        (("retrieval", "f2v"), "reterival_f2v_test.txt"),
    ],
)
def test_lists_are_named_as_published(arguments, name):
    assert ml.list_name(*arguments) == name
    assert ml.list_name("match", "f2v", stratum="G", size=10) == "match_g_f2v_10_test.txt"
    assert ml.list_name("verify", "v2f", stratum="GN") == "verify_gn_v2f_test.txt"
    with pytest.raises(ValueError, match="a retrieval list holds everybody"):
        ml.list_name("retrieval", "v2f", stratum="G")


# --------------------------------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("match_v2f_2_val", (" Andrew_Scott/00000233.jpg\n", "\n"), r"line 2 has 3 fields, line 1 has 2"),
        ("match_v2f_3_val", ("", ""), r"line 1 has 3 fields, expected 4, as the name says"),
        ("match_f2v_2_val", ("", ""), r"line 1 has 'id10003/.*' where a picture .* is expected; is the direction right\?"),
        ("verify_v2f_val", ("", ""), r"by its name a list of kind 'verify', expected 'match'; call its own reader"),
        ("match_v2f_2_val", ("id10055/", "id10056/"), r"line 3 has 'id10056/x/00001\.wav', of nobody in vox1_meta; 1 items"),
        ("match_v2f_2_val", ("Adam_Brody", "../Adam_Brody"), r"line 2 has '\.\./Adam_Brody/00000001\.jpg', which leads out"),
        ("match_v2f_2_val", ("Adam_Brody/", ""), r"line 2 has '00000001\.jpg' where a picture"),
        ("match_v2f_2_val", ("wav Aamir_Khan/00000819", "wav Aaron_Tveit/00000819"), r"line 2 has a positive of another person than"),
        ("match_v2f_2_val", ("Adam_Brody", "Aamir_Khan"), r"line 2 has a negative of the probe's own person: 'id10003.*; 1 of 3 lines do"),
        ("match_g_v2f_2_val", ("Adam_Brody", "Anne_Hathaway"), r"line 2 has a negative that does not share sex with the probe"),
        ("match_gn_v2f_2_val", ("", ""), r"line 1 has a negative that does not share sex and nationality with .*; 3 of 3 lines do"),
        ("match_v2f_2_val", ("\nid10055", "\n\nid10055"), r"line 3 is empty"),
        ("match_v2f_2_val", (MATCH, ""), r"is empty \(0 bytes\)"),
    ],
)  # fmt: skip
def test_a_damaged_matching_list_is_refused_with_the_line(name, change, message, people, tmp_path):
    path = write(tmp_path / f"{name}.txt", MATCH.replace(*change))
    with pytest.raises(ValueError, match=rf"{name}\.txt: {message}"):
        ml.read_matching(path, people)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("verify_f2v_test", (".wav\n", ".wav x\n"), r"line 1 has 3 fields, expected 2"),
        (
            "verify_f2v_test",
            ("id10003/", "id10004/"),
            r"all 3 pairs are of different people; verification needs both kinds",
        ),
        ("verify_g_f2v_test", ("id10007", "id10055"), r"line 3 has people who do not share sex"),
        ("verify_v2f_test", ("", ""), r"line 1 has 'Aamir_Khan/00000558\.jpg' where a recording"),
    ],
)
def test_a_damaged_verification_list_is_refused(name, change, message, people, tmp_path):
    path = write(tmp_path / f"{name}.txt", VERIFY.replace(*change))
    with pytest.raises(ValueError, match=rf"{name}\.txt: {message}"):
        ml.read_verification(path, people)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("\nAndrew", " Andrew"), r"has 1 lines, expected 2: all probes, all gallery items"),
        (("Aamir_Khan/00000001.jpg", "Adam_Brody/00000001.jpg"), r"line 2 names 1 items more than once"),
        (("id10003", "id99999"), r"line 1 has 'id99999/y/00001\.wav', of nobody"),
        (("Aamir_Khan/00000001.jpg", "/Aamir_Khan/00000001.jpg"), r"line 2 has '/Aamir_Khan.*leads out of the folder"),
    ],
)
def test_a_damaged_retrieval_list_is_refused(change, message, people, tmp_path):
    path = write(tmp_path / "reterival_v2f_test.txt", RETRIEVE.replace(*change))
    with pytest.raises(ValueError, match=rf"reterival_v2f_test\.txt: {message}"):
        ml.read_retrieval(path, people)


def test_files_that_a_list_names_must_exist(people, tmp_path):
    trials = ml.read_matching(write(tmp_path / "match_v2f_2_val.txt", MATCH), people)
    wav, faces = tmp_path / "wav", tmp_path / "faces"
    for root, paths in ((wav, trials.voice_paths), (faces, trials.face_paths)):
        for path in paths.tolist():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).touch()
    trials.check_files(wav, faces)
    with pytest.raises(
        MissingImagesError, match=r"match_v2f_2_val: 2 of the recordings it names are not in .*wav"
    ) as caught:
        trials.check_files(wav, faces, voice_suffix=".npy")
    assert caught.value.missing == ("id10003/E_6MjfYr0sQ/00019.npy", "id10055/x/00001.npy")
    (faces / "Adam_Brody" / "00000001.jpg").unlink()
    with pytest.raises(MissingImagesError, match=r"1 of the images it names are not in .*: Adam_Brody/00000001\.jpg"):
        trials.check_files(wav, faces)
    with pytest.raises(
        FileNotFoundError, match=r"nowhere: no such folder; expected the recordings that match_v2f_2_val"
    ):
        trials.check_files(tmp_path / "nowhere", faces)


def test_paths_with_blanks_cannot_be_written(people, tmp_path):
    voices, faces = items(people, [1] * 7, "voice"), items(people, [1] * 7, "face")
    blank = trial_builders.Items(np.strings.replace(faces.paths, "Adam_Brody", "Adam Brody"), faces.people)
    with pytest.raises(ValueError, match=r"list\.txt: 1 paths have blanks in them: Adam Brody/00000000\.jpg; rename"):
        ml.write_list(tmp_path / "list.txt", trial_builders.build_retrieval(voices, blank, direction="v2f"))
    assert not (tmp_path / "list.txt").exists()


# --------------------------------------------------------------------------------------------------------------- strata


def test_strata_say_who_has_an_impostor_and_which_groups_are_not_testable(people):
    sizes = ml.strata_sizes(people.covariates, people.covariate_names)
    assert {name: (stratum.people, stratum.testable) for name, stratum in sizes.items()} == {
        "U": (7, True),
        "G": (7, True),
        "N": (4, True),
        "GN": (4, True),
    }
    assert sizes["U"].groups == ((("everybody",), 7),)
    assert sizes["G"].groups == ((("woman",), 3), (("man",), 4))
    assert sizes["N"].alone == (("India",), ("Ireland",), ("UK",))
    assert str(sizes["GN"]) == (
        "GN: 4 of 7 people in 2 groups have an impostor; not testable: woman UK, man India, man Ireland"
    )
    assert str(sizes["G"]) == "G: 7 of 7 people in 2 groups have an impostor"


def test_a_stratum_needs_its_covariates(people):
    sex = {"sex": people.covariates["sex"]}
    with pytest.raises(ValueError, match="stratum GN needs the covariates sex, nationality; found sex"):
        ml.strata_sizes(sex, people.covariate_names, ["GN"])
    with pytest.raises(ValueError, match="stratum: expected one of U, G, N, GN, found 'A'"):
        ml.strata_sizes(sex, people.covariate_names, ["A"])
