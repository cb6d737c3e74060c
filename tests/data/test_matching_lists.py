"""Trial lists: the published text formats, lists made anew, strata, and what is refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paper_utils.data import matching_lists as ml
from paper_utils.data.face_images import string_array
from paper_utils.data.face_lists import MissingImagesError
from paper_utils.data.voxceleb import SpeakerTable

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


def items(people: SpeakerTable, counts: list[int], kind: str) -> ml.Items:
    """As many items of each person as `counts` says."""
    owner = np.repeat(np.arange(len(people)), counts)
    number = np.concatenate([np.arange(count) for count in counts])
    if kind == "voice":
        paths = [f"{people.voxceleb_ids[i]}/v{n % 3}/{n:05d}.wav" for i, n in zip(owner, number, strict=True)]
    else:
        paths = [f"{people.vggface_names[i]}/{n:08d}.jpg" for i, n in zip(owner, number, strict=True)]
    return ml.Items(string_array(paths, "items"), owner)


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
    blank = ml.Items(np.strings.replace(faces.paths, "Adam_Brody", "Adam Brody"), faces.people)
    with pytest.raises(ValueError, match=r"list\.txt: 1 paths have blanks in them: Adam Brody/00000000\.jpg; rename"):
        ml.write_list(tmp_path / "list.txt", ml.build_retrieval(voices, blank, direction="v2f"))
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


def test_a_stratum_of_single_people_is_not_testable(people):
    some = people.take(np.array([0, 1, 2]))
    sizes = ml.strata_sizes(some.covariates, some.covariate_names, ["N"])
    assert not sizes["N"].testable
    everything = items(some, [2, 2, 2], "voice"), items(some, [2, 2, 2], "face")
    with pytest.raises(
        ValueError,
        match=r"stratum N is not testable: of 6 probes 0 have nobody .* 6 have fewer than 1 impostors there; see `strata_sizes`",
    ):
        ml.build_matching(*everything, some.covariates, direction="v2f", stratum="N", rng=np.random.default_rng(0))


def test_a_stratum_needs_its_covariates(people):
    sex = {"sex": people.covariates["sex"]}
    with pytest.raises(ValueError, match="stratum GN needs the covariates sex, nationality; found sex"):
        ml.strata_sizes(sex, people.covariate_names, ["GN"])
    with pytest.raises(ValueError, match="stratum: expected one of U, G, N, GN, found 'A'"):
        ml.strata_sizes(sex, people.covariate_names, ["A"])


# --------------------------------------------------------------------------------------------------------- making lists


@pytest.mark.parametrize("direction", ["v2f", "f2v"])
@pytest.mark.parametrize("stratum", ["U", "G", "N", "GN"])
def test_lists_made_anew_are_saved_and_read_back_identical(direction, stratum, people, tmp_path):
    voices, faces = items(people, [3, 4, 1, 2, 5, 0, 2], "voice"), items(people, [2, 1, 0, 6, 3, 2, 1], "face")
    common = {"direction": direction, "stratum": stratum, "part": "val"}
    match, left_match = ml.build_matching(voices, faces, people.covariates, rng=np.random.default_rng(1), **common)
    verify, left_verify = ml.build_verification(
        voices, faces, people.covariates, rng=np.random.default_rng(1), **common
    )
    assert left_match == left_verify
    for kind, listing, read in (("match", match, ml.read_matching), ("verify", verify, ml.read_verification)):
        path = tmp_path / ml.list_name(kind, direction, "val", stratum=stratum)
        ml.write_list(path, listing)
        assert equal(read(path, people), listing)
    search = ml.build_retrieval(voices, faces, direction=direction)
    path = tmp_path / ml.list_name("retrieval", direction)
    ml.write_list(path, search)
    assert equal(ml.read_retrieval(path, people), search)
    again, _ = ml.build_matching(voices, faces, people.covariates, rng=np.random.default_rng(1), **common)
    other, _ = ml.build_matching(voices, faces, people.covariates, rng=np.random.default_rng(2), **common)
    assert equal(again, match)
    assert again.lines() != other.lines()


@given(data=st.data())
@settings(max_examples=60)
def test_every_probe_gets_equally_many_correct_trials(data):
    count = data.draw(st.integers(2, 8))
    numbers = st.lists(st.integers(0, 4), min_size=count, max_size=count).filter(any)
    rows = [
        (f"id{10001 + i}", f"P_{i}", data.draw(st.integers(0, 1)), data.draw(st.integers(0, 2))) for i in range(count)
    ]
    people = table(rows)
    voice_counts, face_counts = data.draw(numbers), data.draw(numbers)
    voices, faces = items(people, voice_counts, "voice"), items(people, face_counts, "face")
    stratum, size = data.draw(st.sampled_from(list(ml.STRATA))), data.draw(st.integers(2, 4))
    trials_per_probe = data.draw(st.integers(1, 3))
    group = [tuple(row[2 + "GN".index(letter)] for letter in stratum.replace("U", "")) for row in rows]
    # By enumeration: who can be tested, and why not.
    positive = [face_counts[i] > 0 for i in range(count)]
    rivals = [sum(face_counts[j] > 0 and j != i and group[j] == group[i] for j in range(count)) for i in range(count)]
    testable = [positive[i] and rivals[i] >= size - 1 for i in range(count)]
    arguments = {"direction": "v2f", "stratum": stratum, "size": size, "trials_per_probe": trials_per_probe}
    build = lambda: ml.build_matching(voices, faces, people.covariates, rng=np.random.default_rng(0), **arguments)  # noqa: E731
    if not sum(voice_counts[i] for i in range(count) if testable[i]):
        with pytest.raises(ValueError, match="is not testable"):
            build()
        return
    listing, left_out = build()
    assert left_out.without_positive == sum(n for n, good in zip(voice_counts, positive, strict=True) if not good)
    assert left_out.without_impostor == sum(voice_counts[i] for i in range(count) if positive[i] and not testable[i])
    assert len(listing.probe_paths) == sum(voice_counts[i] for i in range(count) if testable[i])
    assert set(Counter(listing.probe.tolist()).values()) == {trials_per_probe}
    own = listing.probe_people[listing.probe]
    assert (listing.gallery_people[listing.positive] == own).all()
    others = listing.gallery_people[listing.negatives]
    for person, row in zip(own.tolist(), others.tolist(), strict=True):
        assert person not in row
        assert len(set(row)) == size - 1
        assert all(group[other] == group[person] for other in row)
    # Positives of a probe differ as long as its person has enough pictures.
    for probe in range(len(listing.probe_paths)):
        chosen = listing.positive[listing.probe == probe]
        assert len(set(chosen.tolist())) == min(trials_per_probe, face_counts[listing.probe_people[probe]])


def test_impostors_are_equally_likely_people_however_many_pictures_they_have(people):
    voices, faces = items(people, [400, 0, 0, 0, 0, 0, 0], "voice"), items(people, [3, 1, 50, 2, 2, 4, 9], "face")
    listing, _ = ml.build_matching(
        voices, faces, people.covariates, direction="v2f", rng=np.random.default_rng(0), trials_per_probe=30
    )
    counts = np.bincount(listing.gallery_people[listing.negatives].reshape(-1), minlength=7)
    assert counts[0] == 0
    # 12,000 draws, 2,000 expected of each of six people, standard deviation 41.
    assert np.abs(counts[1:] - 2000).max() < 5 * 41
    pictures = np.bincount(listing.negatives.reshape(-1), minlength=len(listing.gallery_paths))
    of_two = pictures[listing.gallery_people == 2]
    assert (of_two.size, of_two.min() > 10) == (50, True)
    wide, _ = ml.build_matching(
        voices, faces, people.covariates, direction="v2f", rng=np.random.default_rng(0), trials_per_probe=10, size=4
    )
    places = np.stack([np.bincount(column, minlength=7) for column in wide.gallery_people[wide.negatives].T])
    # 4,000 draws in each place of the gallery, 667 expected, standard deviation 24.
    assert np.abs(places[:, 1:] - 667).max() < 5 * 24


def test_verification_lists_are_balanced_for_every_probe(people):
    voices, faces = items(people, [2] * 7, "voice"), items(people, [3] * 7, "face")
    listing, left_out = ml.build_verification(
        voices, faces, people.covariates, direction="f2v", rng=np.random.default_rng(0), each=2
    )
    assert left_out == ml.LeftOut(0, 0)
    assert len(listing) == 4 * 21
    assert listing.same.reshape(21, 4).tolist() == [[True, True, False, False]] * 21
    assert len(set(listing.lines())) == len(listing)


def test_the_world_covariates_serve_as_well(people):
    covariates = {"sex": torch.tensor([0, 0, 1, 1]), "age": torch.tensor([20.0, 30.0, 40.0, 50.0])}
    some = people.take(np.arange(4))
    listing, _ = ml.build_matching(
        items(some, [1] * 4, "voice"), items(some, [1] * 4, "face"), covariates, direction="v2f", stratum="G",
        rng=np.random.default_rng(0), trials_per_probe=1,
    )  # fmt: skip
    assert listing.gallery_people[listing.negatives[:, 0]].tolist() == [1, 0, 3, 2]


def test_impossible_requests_are_refused(people):
    voices, faces = items(people, [1] * 7, "voice"), items(people, [1] * 7, "face")
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="expected size >= 2 and trials_per_probe >= 1, found 1 and 3"):
        ml.build_matching(voices, faces, people.covariates, direction="v2f", rng=rng, size=1)
    with pytest.raises(ValueError, match="each: expected at least 1 pair of either kind, found 0"):
        ml.build_verification(voices, faces, people.covariates, direction="v2f", rng=rng, each=0)
    with pytest.raises(ValueError, match=r"gallery: people must be rows 0\.\.2 of the covariates"):
        ml.build_matching(voices, faces, people.take(np.arange(3)).covariates, direction="v2f", rng=rng)
    with pytest.raises(ValueError, match="items: expected a person for each, found 0 items and 0 people"):
        ml.Items(string_array([], "items"), np.zeros(0, dtype=np.int64))
