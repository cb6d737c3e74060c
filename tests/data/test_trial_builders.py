"""New trial lists: equal chances, balanced, within their stratum, saved and read back; and who is left out."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from data.test_matching_lists import PEOPLE, equal, items, table
from hypothesis import given, settings
from hypothesis import strategies as st

from paper_utils.data import matching_lists as ml
from paper_utils.data import trial_builders
from paper_utils.data.face_images import string_array
from paper_utils.data.voxceleb_speakers import SpeakerTable


@pytest.fixture
def people() -> SpeakerTable:
    return table(PEOPLE)


@pytest.mark.parametrize("direction", ["v2f", "f2v"])
@pytest.mark.parametrize("stratum", ["U", "G", "N", "GN"])
def test_lists_made_anew_are_saved_and_read_back_identical(direction, stratum, people, tmp_path):
    voices, faces = items(people, [3, 4, 1, 2, 5, 0, 2], "voice"), items(people, [2, 1, 0, 6, 3, 2, 1], "face")
    common = {"direction": direction, "stratum": stratum, "part": "val"}
    match, left_match = trial_builders.build_matching(
        voices, faces, people.covariates, rng=np.random.default_rng(1), **common
    )
    verify, left_verify = trial_builders.build_verification(
        voices, faces, people.covariates, rng=np.random.default_rng(1), **common
    )
    assert left_match == left_verify
    for kind, listing, read in (("match", match, ml.read_matching), ("verify", verify, ml.read_verification)):
        path = tmp_path / ml.list_name(kind, direction, "val", stratum=stratum)
        ml.write_list(path, listing)
        assert equal(read(path, people), listing)
    search = trial_builders.build_retrieval(voices, faces, direction=direction)
    path = tmp_path / ml.list_name("retrieval", direction)
    ml.write_list(path, search)
    assert equal(ml.read_retrieval(path, people), search)
    again, _ = trial_builders.build_matching(voices, faces, people.covariates, rng=np.random.default_rng(1), **common)
    other, _ = trial_builders.build_matching(voices, faces, people.covariates, rng=np.random.default_rng(2), **common)
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

    def build():
        return trial_builders.build_matching(
            voices, faces, people.covariates, rng=np.random.default_rng(0), **arguments
        )

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
    listing, _ = trial_builders.build_matching(
        voices, faces, people.covariates, direction="v2f", rng=np.random.default_rng(0), trials_per_probe=30
    )
    counts = np.bincount(listing.gallery_people[listing.negatives].reshape(-1), minlength=7)
    assert counts[0] == 0
    # 12,000 draws, 2,000 expected of each of six people, standard deviation 41.
    assert np.abs(counts[1:] - 2000).max() < 5 * 41
    pictures = np.bincount(listing.negatives.reshape(-1), minlength=len(listing.gallery_paths))
    of_two = pictures[listing.gallery_people == 2]
    assert (of_two.size, of_two.min() > 10) == (50, True)
    wide, _ = trial_builders.build_matching(
        voices, faces, people.covariates, direction="v2f", rng=np.random.default_rng(0), trials_per_probe=10, size=4
    )
    places = np.stack([np.bincount(column, minlength=7) for column in wide.gallery_people[wide.negatives].T])
    # 4,000 draws in each place of the gallery, 667 expected, standard deviation 24.
    assert np.abs(places[:, 1:] - 667).max() < 5 * 24


def test_verification_lists_are_balanced_for_every_probe(people):
    voices, faces = items(people, [2] * 7, "voice"), items(people, [3] * 7, "face")
    listing, left_out = trial_builders.build_verification(
        voices, faces, people.covariates, direction="f2v", rng=np.random.default_rng(0), each=2
    )
    assert left_out == trial_builders.LeftOut(0, 0)
    assert len(listing) == 4 * 21
    assert listing.same.reshape(21, 4).tolist() == [[True, True, False, False]] * 21
    assert len(set(listing.lines())) == len(listing)


def test_the_world_covariates_serve_as_well(people):
    covariates = {"sex": torch.tensor([0, 0, 1, 1]), "age": torch.tensor([20.0, 30.0, 40.0, 50.0])}
    some = people.take(np.arange(4))
    listing, _ = trial_builders.build_matching(
        items(some, [1] * 4, "voice"), items(some, [1] * 4, "face"), covariates, direction="v2f", stratum="G",
        rng=np.random.default_rng(0), trials_per_probe=1,
    )  # fmt: skip
    assert listing.gallery_people[listing.negatives[:, 0]].tolist() == [1, 0, 3, 2]


def test_impossible_requests_are_refused(people):
    voices, faces = items(people, [1] * 7, "voice"), items(people, [1] * 7, "face")
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="expected size >= 2 and trials_per_probe >= 1, found 1 and 3"):
        trial_builders.build_matching(voices, faces, people.covariates, direction="v2f", rng=rng, size=1)
    with pytest.raises(ValueError, match="each: expected at least 1 pair of either kind, found 0"):
        trial_builders.build_verification(voices, faces, people.covariates, direction="v2f", rng=rng, each=0)
    with pytest.raises(ValueError, match=r"gallery: people must be rows 0\.\.2 of the covariates"):
        trial_builders.build_matching(voices, faces, people.take(np.arange(3)).covariates, direction="v2f", rng=rng)
    with pytest.raises(ValueError, match="items: expected a person for each, found 0 items and 0 people"):
        trial_builders.Items(string_array([], "items"), np.zeros(0, dtype=np.int64))


def test_a_stratum_of_single_people_is_not_testable(people):
    some = people.take(np.array([0, 1, 2]))
    sizes = ml.strata_sizes(some.covariates, some.covariate_names, ["N"])
    assert not sizes["N"].testable
    everything = items(some, [2, 2, 2], "voice"), items(some, [2, 2, 2], "face")
    with pytest.raises(
        ValueError,
        match=r"stratum N is not testable: of 6 probes 0 have nobody .* 6 have fewer than 1 impostors there; see `strata_sizes`",
    ):
        trial_builders.build_matching(
            *everything, some.covariates, direction="v2f", stratum="N", rng=np.random.default_rng(0)
        )
