"""Intervals over identities against the plain bootstrap that repeats the images, and own thresholds by trying them all."""

from __future__ import annotations

import numpy as np
import pytest

from paper_utils.metrics import by_identity, verification


def population(people: int = 14, images: int = 5, noise: float = 0.7, seed: int = 0, decimals: int | None = None):
    rng = np.random.default_rng(seed)
    identities = np.repeat(np.arange(people), images)
    embeddings = rng.normal(size=(people, 6))[identities] + noise * rng.normal(size=(people * images, 6))
    similarities = verification.cosine_similarities(embeddings)
    return (similarities if decimals is None else np.round(similarities, decimals)), identities


def repeated(similarities, identities, weights):
    """Pairs of a resample spelled out: every copy of a person brings all images; pairs between copies are left out."""
    people = np.unique(identities)
    rows, copies = [], []
    for person, count in zip(people, weights, strict=True):
        for _ in range(count):
            own = np.flatnonzero(identities == person)
            rows.append(own)
            copies.append(np.full(len(own), len(copies)))
    rows, copies = np.concatenate(rows), np.concatenate(copies)
    same = copies[:, None] == copies
    keep = np.triu(same | (identities[rows][:, None] != identities[rows]), k=1)
    return similarities[np.ix_(rows, rows)][keep], same[keep]


@pytest.mark.parametrize("decimals", [None, 1], ids=["no ties", "ties"])
@pytest.mark.parametrize("images", [2, 5])
def test_each_resample_has_the_numbers_of_its_spelled_out_pairs(decimals, images):
    similarities, identities = population(images=images, decimals=decimals)
    shuffled = np.random.default_rng(1).permutation(len(identities))
    similarities, identities = similarities[np.ix_(shuffled, shuffled)], identities[shuffled]
    weights = by_identity.resample_identities(14, 25, np.random.default_rng(2))
    found = by_identity.identity_bootstrap(similarities, identities, weights, fars=[0.02, 0.3, 1.0])
    for index in range(25):
        curve = verification.roc(*repeated(similarities, identities, weights[index]))
        assert found.draws["EER"][index] == pytest.approx(verification.eer(curve), abs=1e-12)
        for far in (0.02, 0.3, 1.0):
            assert found.draws[f"TAR@FAR={far:g}"][index] == pytest.approx(
                verification.tar_at_far(curve, far), abs=1e-12
            )


def test_values_are_those_of_all_pairs_and_do_not_depend_on_cells_or_walks(monkeypatch):
    similarities, identities = population()
    weights = by_identity.resample_identities(14, 40, np.random.default_rng(2))
    found = by_identity.identity_bootstrap(similarities, identities, weights, fars=[0.01])
    above = np.triu_indices(len(identities), k=1)
    curve = verification.roc(similarities[above], (identities[:, None] == identities)[above])
    assert found.values["EER"] == pytest.approx(verification.eer(curve), abs=1e-12)
    assert found.values["TAR@FAR=0.01"] == pytest.approx(verification.tar_at_far(curve, 0.01), abs=1e-12)
    for name, value in (("CELLS", 3), ("CELLS", 1), ("WALK", 50)):
        monkeypatch.setattr(by_identity, name, value)
        other = by_identity.identity_bootstrap(similarities, identities, weights, fars=[0.01])
        for key, draws in found.draws.items():
            np.testing.assert_allclose(other.draws[key], draws, atol=1e-12)


def test_interval_over_identities_covers_the_truth_and_is_wider_than_over_pairs():
    truth = verification.eer(verification.roc(*_all(*population(people=400, images=4, seed=99))))
    covered, widths, pair_widths = 0, [], []
    for seed in range(40):
        similarities, identities = population(people=30, images=4, seed=seed)
        weights = by_identity.resample_identities(30, 200, np.random.default_rng(seed))
        interval = by_identity.identity_bootstrap(similarities, identities, weights).interval("EER")
        covered += interval.low <= truth <= interval.high
        widths.append(interval.high - interval.low)
        scores, same = _all(similarities, identities)
        rng = np.random.default_rng(seed)
        rows = rng.integers(len(scores), size=(20, len(scores)))
        pair_widths.append(4 * np.std([verification.eer(verification.sorted_scores(scores[r], same[r])) for r in rows]))
    assert covered >= 32
    assert np.mean(widths) > 1.3 * np.mean(pair_widths)


def _all(similarities, identities):
    above = np.triu_indices(len(identities), k=1)
    return similarities[above], (identities[:, None] == identities)[above]


def test_differences_are_taken_on_the_same_resamples():
    similarities, identities = population()
    worse = similarities + 0.001 * population(seed=5)[0]
    weights = by_identity.resample_identities(14, 200, np.random.default_rng(2))
    first, second = (by_identity.identity_bootstrap(s, identities, weights) for s in (similarities, worse))
    nothing = by_identity.paired_difference(first, first, "EER")
    assert (nothing.value, nothing.low, nothing.high) == (0, 0, 0)
    difference = by_identity.paired_difference(first, second, "EER")
    alone = first.interval("EER")
    assert difference.high - difference.low < 0.5 * (alone.high - alone.low)
    assert difference.value == pytest.approx(first.values["EER"] - second.values["EER"])
    others = by_identity.resample_identities(14, 200, np.random.default_rng(3))
    with pytest.raises(ValueError, match="same weights"):
        by_identity.paired_difference(first, by_identity.identity_bootstrap(worse, identities, others), "EER")


def test_undefined_resamples_are_left_out_and_counted():
    similarities, identities = population(people=3, images=2)
    weights = np.array([[3, 0, 0], [1, 1, 1], [0, 1, 2], [2, 1, 0]])  # the first has no pair of different people
    found = by_identity.identity_bootstrap(similarities, identities, weights, fars=[0.1])
    assert np.isnan(found.draws["EER"]).tolist() == [True, False, False, False]
    assert "1 of them undefined" in found.interval("EER").method
    # 12, 8 and 8 different pairs: a FAR of .1 is finer than one of 8.
    assert np.isnan(found.draws["TAR@FAR=0.1"]).tolist() == [True, False, True, True]
    tiny = by_identity.identity_bootstrap(similarities, identities, weights, fars=[0.01])
    with pytest.raises(ValueError, match="0 of 4 resamples are defined"):
        tiny.interval("TAR@FAR=0.01")


def test_resampling_draws_as_many_as_there_are():
    weights = by_identity.resample_identities(50, 300, np.random.default_rng(0))
    assert (weights.sum(axis=1) == 50).all()
    assert (weights == 0).mean() == pytest.approx(np.exp(-1), abs=0.02)


# -------------------------------------------------------------------------------------------------------- thresholds


def test_own_thresholds_are_the_best_of_all():
    similarities, identities = population(people=8, images=4, noise=1.0)
    identities = identities * 3 + 1
    found = by_identity.own_thresholds(similarities, identities)
    for person, threshold in zip(found.people, found.thresholds, strict=True):
        own = identities == person
        rows = similarities[own]
        genuine = rows[:, own][~np.eye(own.sum(), dtype=bool)]
        impostor = rows[:, ~own].ravel()
        values = np.unique(np.r_[genuine, impostor])
        middle = (values[1:] + values[:-1]) / 2
        quality = (genuine[:, None] > middle).mean(0) + (impostor[:, None] < middle).mean(0)
        assert threshold == pytest.approx(middle[quality >= quality.max() - 1e-12].mean())
    assert found.spread == pytest.approx(np.std(found.thresholds, ddof=1))
    assert found.unknown == 0


def test_own_thresholds_move_with_the_score_and_count_the_unknown():
    similarities, identities = population(people=6, images=3)
    base = by_identity.own_thresholds(similarities, identities)
    moved = by_identity.own_thresholds(2 * similarities + 1, identities)
    np.testing.assert_allclose(moved.thresholds, 2 * base.thresholds + 1)
    assert moved.spread == pytest.approx(2 * base.spread)
    single = by_identity.own_thresholds(similarities[:-2, :-2], identities[:-2])
    assert single.unknown == 1
    assert np.isnan(single.thresholds[-1])


def test_a_common_threshold_has_no_spread():
    identities = np.repeat(np.arange(4), 2)
    similarities = np.where(identities[:, None] == identities, 0.8, 0.2)
    found = by_identity.own_thresholds(similarities, identities)
    np.testing.assert_allclose(found.thresholds, 0.5)
    assert found.spread == pytest.approx(0)


# ------------------------------------------------------------------------------------------------------------ faults


def test_faults_are_named():
    similarities, identities = population(people=4, images=2)
    weights = by_identity.resample_identities(4, 3, np.random.default_rng(0))

    def run(s=similarities, i=identities, w=weights, **options):
        return by_identity.identity_bootstrap(s, i, w, **options)

    broken = similarities.copy()
    broken[0, 1] = np.nan
    with pytest.raises(ValueError, match="1 of 64 are NaN"):
        run(broken)
    broken[0, 1] = 5
    with pytest.raises(ValueError, match="symmetric"):
        run(broken)
    with pytest.raises(ValueError, match="one of them twice"):
        run(i=np.arange(8))
    with pytest.raises(ValueError, match="at least two people"):
        run(i=np.zeros(8, dtype=int))
    with pytest.raises(ValueError, match="one column for each of 4 people"):
        run(w=weights[:, :3])
    with pytest.raises(ValueError, match="rates in"):
        run(fars=[0.0])
    with pytest.raises(ValueError, match="found 1 and 5"):
        by_identity.resample_identities(1, 5, np.random.default_rng(0))
    with pytest.raises(ValueError, match="two images each, found 1"):
        by_identity.own_thresholds(similarities[:3, :3], identities[:3])
    with pytest.raises(ValueError, match="rows are zero or not finite"):
        verification.cosine_similarities(np.zeros((2, 3)))
