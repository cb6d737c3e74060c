"""Voices against faces: everything against enumeration of all trials, with ties, uneven numbers of items and people drawn twice."""

from __future__ import annotations

import dataclasses
import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paper_utils.metrics import by_identity, cross_modal, matching, retrieval, verification
from paper_utils.metrics.by_identity import resample_identities

# Person 4 has faces only, person 5 voices only; the others have uneven numbers of both.
PROBE = np.array([0, 0, 0, 1, 2, 2, 3, 5])
GALLERY = np.array([0, 1, 1, 2, 3, 3, 3, 4, 0])
PEOPLE = 6
COVARIATES = {"sex": np.array([0, 0, 1, 1, 0, 1]), "nationality": np.array([0, 1, 0, 2, 0, 0])}
STRATA = ((), ("sex",), ("nationality",), ("sex", "nationality"))


def drawn_scores(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4, (len(PROBE), len(GALLERY))).astype(float)


def enumerated(scores, probe, gallery, allowed, *, by_person=False):
    """Mean over all (probe, own item) of the mean over all items of allowed people; or over people, items of each first."""
    means = {}
    for p, person in enumerate(probe):
        for m in np.flatnonzero(gallery == person):
            rivals = []
            for g, other in enumerate(gallery):
                if other != person and allowed[person, other]:
                    rivals.append((scores[p, m] > scores[p, g]) + 0.5 * (scores[p, m] == scores[p, g]))
            if rivals:
                means.setdefault(person, []).append(np.mean(rivals))
    if by_person:
        return np.mean([np.mean(values) for values in means.values()])
    return np.mean([x for values in means.values() for x in values])


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_one_of_two_equals_enumeration_in_every_stratum(seed: int) -> None:
    scores = drawn_scores(seed)
    wins = cross_modal.pair_wins(scores, PROBE, GALLERY, PEOPLE)
    for shared in STRATA:
        allowed = cross_modal.eligible_people(COVARIATES, shared)
        for average, by_person in (("items", False), ("people", True)):
            found = wins.accuracy(allowed, average=average).value
            assert found == pytest.approx(enumerated(scores, PROBE, GALLERY, allowed, by_person=by_person), abs=1e-12)


def test_rivals_weigh_by_their_items_however_probes_are_averaged() -> None:
    # Probes of person 0 win against 1, who has one picture, and lose against 2, who has three.
    scores = np.array([[0.5, 0.1, 0.9, 0.9, 0.9], [0.1, 0.5, 0.9, 0.9, 0.9]])
    wins = cross_modal.pair_wins(scores, np.array([0, 1]), np.array([0, 1, 2, 2, 2]), 3)
    for average in ("items", "people"):
        found = wins.accuracy(average=average, weights=np.array([[1, 1, 2]]))
        assert found.value == pytest.approx(1 / 4)
        assert found.draws[0] == pytest.approx(1 / 7)
    # With equal counts every person is one, to the last bit.
    drawn = np.random.default_rng(0).random((30, 30))
    thirds = cross_modal.pair_wins(drawn, np.arange(30) % 10, np.arange(30) % 10, 10)
    single = dataclasses.replace(thirds, items=np.ones(10, int), matches=np.ones(10, int))
    weights = resample_identities(10, 20, np.random.default_rng(1))
    one, other = (table.accuracy(average="people", weights=weights) for table in (thirds, single))
    assert one.value == other.value
    assert np.array_equal(one.draws, other.draws)


def test_a_list_of_all_trials_counts_probes_of_people_with_few_items_more() -> None:
    scores = np.array([[0.5, 0.1, 0.9, 0.9], [0.5, 0.9, 0.9, 0.9], [0.1, 0.2, 0.9, 0.9]])
    probe, gallery = np.array([0, 1, 2]), np.array([0, 1, 2, 2])
    wins = cross_modal.pair_wins(scores, probe, gallery, 3)
    own = [1 / 3, 2 / 3, 1.0]  # by hand: of three rival items, three, and two
    assert wins.per_person() == pytest.approx(own)
    assert wins.accuracy(average="items").value == pytest.approx(np.average(own, weights=[1, 1, 2]))
    trials = np.average(own, weights=[1 * 3, 1 * 3, 2 * 2])
    assert trials != pytest.approx(wins.accuracy(average="items").value)


def test_one_of_two_agrees_with_the_one_of_n_of_paper_01() -> None:
    scores = drawn_scores(1)
    same = PROBE[:, None] == GALLERY
    sex = COVARIATES["sex"]
    eligible = sex[PROBE][:, None] == sex[GALLERY]
    wins = cross_modal.pair_wins(scores, PROBE, GALLERY, PEOPLE)
    expected = matching.match_accuracy(scores, 2, same, eligible=eligible)
    assert wins.accuracy(cross_modal.eligible_people(COVARIATES, ("sex",))).value == pytest.approx(expected, rel=1e-12)


def test_the_blocks_of_a_large_matrix_change_nothing(monkeypatch) -> None:
    scores = drawn_scores(2)
    whole = cross_modal.pair_wins(scores, PROBE, GALLERY, PEOPLE).wins
    monkeypatch.setattr(cross_modal, "BLOCK_CELLS", 20)
    assert np.allclose(cross_modal.pair_wins(scores, PROBE, GALLERY, PEOPLE).wins, whole)
    assert (np.diag(whole) == 0).all()


def test_a_constant_score_is_chance_whatever_the_order() -> None:
    wins = cross_modal.pair_wins(np.zeros((len(PROBE), len(GALLERY))), PROBE, GALLERY, PEOPLE)
    assert wins.accuracy().value == pytest.approx(0.5)


def test_probes_without_match_or_impostor_are_counted_as_skipped() -> None:
    wins = cross_modal.pair_wins(drawn_scores(0), PROBE, GALLERY, PEOPLE)
    assert wins.skipped() == 1  # person 5 has no face
    # Nobody else of nationality 1 or 2: the probes of 1 and 3 cannot be tested either.
    assert wins.skipped(cross_modal.eligible_people(COVARIATES, ("nationality",))) == 3
    assert np.isnan(wins.per_person(cross_modal.eligible_people(COVARIATES, ("nationality",)))[[1, 3, 4, 5]]).all()


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1))
def test_a_resample_equals_a_sample_with_copied_people(seed: int) -> None:
    """Copies of a person have the same items; they are rivals of everybody but of each other."""
    rng = np.random.default_rng(seed)
    scores = drawn_scores(seed)
    weights = rng.multinomial(PEOPLE, np.full(PEOPLE, 1 / PEOPLE), size=3)
    allowed = cross_modal.eligible_people(COVARIATES, ("sex",))
    drawn = cross_modal.pair_wins(scores, PROBE, GALLERY, PEOPLE).accuracy(allowed, weights=weights).draws
    for weight, value in zip(weights, drawn, strict=True):
        rows, columns = (np.repeat(np.arange(len(who)), weight[who]) for who in (PROBE, GALLERY))
        expected = []
        for p in rows:
            for m in np.flatnonzero(PROBE[p] == GALLERY):
                rivals = [g for g in columns if allowed[PROBE[p], GALLERY[g]]]
                wins = [(scores[p, m] > scores[p, g]) + 0.5 * (scores[p, m] == scores[p, g]) for g in rivals]
                expected += [np.mean(wins)] if wins else []
        assert value == pytest.approx(np.mean(expected), abs=1e-12) if expected else np.isnan(value)


def test_verification_equals_the_pairs_written_out() -> None:
    scores = np.random.default_rng(4).normal(size=(len(PROBE), len(GALLERY)))
    for shared in STRATA[:2]:
        allowed = cross_modal.eligible_people(COVARIATES, shared)
        pairs = [
            (scores[p, g], bool(PROBE[p] == GALLERY[g]))
            for p in range(len(PROBE))
            for g in range(len(GALLERY))
            if PROBE[p] == GALLERY[g] or allowed[PROBE[p], GALLERY[g]]
        ]
        curve = verification.roc(*map(list, zip(*pairs, strict=True)))
        found = cross_modal.pair_test(scores, PROBE, GALLERY, allowed, hull=True)
        assert found.eer.value == pytest.approx(verification.eer(curve))
        assert found.auc.value == pytest.approx(verification.auc(curve))
        assert found.hull_eer.value == pytest.approx(verification.convex_hull_eer(curve))
        assert (found.positives, found.negatives) == (curve.positives, curve.negatives)


def test_verification_of_a_resample_equals_copied_pairs() -> None:
    rng = np.random.default_rng(5)
    scores = rng.normal(size=(len(PROBE), len(GALLERY)))
    allowed = cross_modal.eligible_people(COVARIATES, ())
    weights = rng.multinomial(PEOPLE, np.full(PEOPLE, 1 / PEOPLE), size=4)
    found = cross_modal.pair_test(scores, PROBE, GALLERY, allowed, weights=weights, hull=True)
    for number, weight in enumerate(weights):
        values, same = [], []
        for p, i in enumerate(PROBE):
            for g, j in enumerate(GALLERY):
                copies = weight[i] if i == j else weight[i] * weight[j]
                values += [scores[p, g]] * copies
                same += [bool(i == j)] * copies
        curve = verification.roc(values, same)
        assert found.eer.draws[number] == pytest.approx(verification.eer(curve), abs=1e-12)
        assert found.auc.draws[number] == pytest.approx(verification.auc(curve), abs=1e-12)
        # The hull is touched by a hundred lines: close, and never above the truth.
        assert -5e-3 < found.hull_eer.draws[number] - verification.convex_hull_eer(curve) < 1e-12


def test_mean_average_precision_resamples_the_queries() -> None:
    keep = PROBE != 5
    scores, probe = drawn_scores(3)[keep], PROBE[keep]
    weights = np.array([[2, 0, 1, 1, 1, 1], [0, 0, 0, 0, 3, 3]])
    found = cross_modal.retrieval_by_person(scores, probe, GALLERY, PEOPLE, weights=weights)
    precision = retrieval.average_precision(scores, probe[:, None] == GALLERY)
    assert found.value == pytest.approx(precision.mean())
    assert found.draws[0] == pytest.approx(np.repeat(precision, weights[0][probe]).mean())
    assert np.isnan(found.draws[1])


def test_one_item_each_uses_everybodys_items_evenly() -> None:
    probe, gallery = np.repeat(np.arange(5), 2), np.repeat(np.arange(5), 3)
    # The score names its items, so that the draws can be read off.
    scores = np.arange(10)[:, None] * 100.0 + np.arange(15)
    squares = cross_modal.one_item_each(scores, probe, gallery, 5, draws=6, rng=np.random.default_rng(0))
    rows, columns = squares // 100, squares % 100
    assert squares.shape == (6, 5, 5)
    assert (probe[rows.astype(int)] == np.arange(5)[:, None]).all()
    assert (gallery[columns.astype(int)] == np.arange(5)).all()
    assert np.array_equal(np.bincount(rows[:, :, 0].astype(int).ravel()), np.full(10, 3))
    assert np.array_equal(np.bincount(columns[:, 0].astype(int).ravel()), np.full(15, 2))


def test_one_of_n_from_squares_is_that_of_paper_01() -> None:
    rng = np.random.default_rng(6)
    squares = rng.normal(size=(3, 12, 12))
    weights = by_identity.resample_identities(12, 5, rng)
    value, draws = cross_modal.match_curve(squares, [2, 4, 9], weights=weights)
    assert value == pytest.approx(np.mean([matching.match_accuracy(square, [2, 4, 9]) for square in squares], axis=0))
    assert np.isfinite(draws[:, :2]).all()
    assert np.isnan(draws[:, 2]).all()  # nine of twelve: copies would fill the galleries


def test_reciprocal_rank_is_average_precision_with_one_relevant_item() -> None:
    rng = np.random.default_rng(7)
    squares = rng.integers(0, 5, (4, 9, 9)).astype(float)
    found = cross_modal.reciprocal_rank(squares, weights=np.ones((1, 9), int))
    expected = np.mean([retrieval.mean_average_precision(square, np.eye(9, dtype=bool)) for square in squares])
    assert found.value == pytest.approx(expected)
    assert found.draws == pytest.approx([expected])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"probe": PROBE + 10}, "expected numbers from 0 to 5"),
        ({"probe": np.full(len(PROBE), 5)}, "nobody is on both sides"),
        ({"scores": np.zeros((2, 2))}, "expected one row for each of 8 probes"),
        ({"scores": np.full((len(PROBE), len(GALLERY)), np.nan)}, "72 of 72 are NaN"),
    ],
)
def test_bad_input_is_named(change, message) -> None:
    given_in = {"scores": drawn_scores(0), "probe": PROBE} | change
    with pytest.raises(ValueError, match=message):
        inspect.unwrap(cross_modal.pair_wins)(given_in["scores"], given_in["probe"], GALLERY, PEOPLE)


def test_strata_that_cannot_be_tested_are_refused() -> None:
    wins = cross_modal.pair_wins(drawn_scores(0), PROBE, GALLERY, PEOPLE)
    with pytest.raises(ValueError, match="cannot be tested"):
        wins.accuracy(np.zeros((PEOPLE, PEOPLE), bool))
    with pytest.raises(ValueError, match="no covariate age"):
        cross_modal.eligible_people(COVARIATES, ("age",))
    with pytest.raises(ValueError, match="'items' or 'people'"):
        wins.accuracy(average="micro")
    with pytest.raises(ValueError, match="1 of 6 people have no item"):
        cross_modal.one_item_each(drawn_scores(0), PROBE, GALLERY, PEOPLE, draws=2, rng=np.random.default_rng(0))
