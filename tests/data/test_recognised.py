"""Recognisers and the splits of people around them."""

from __future__ import annotations

import numpy as np
import pytest

from paper_utils.data import digits, recognised
from paper_utils.data.covariate_files import CovariatePosteriors
from paper_utils.methods import covariates as cv
from paper_utils.metrics import matching
from paper_utils.world import covariates as world

PEOPLE = world.sample(world.CovariateWorld(), 1500, np.random.default_rng(0))


def test_people_for_training_calibration_and_test_are_disjoint() -> None:
    found = recognised.recognise(PEOPLE, "gender")
    assert found.probe_calibration.person.tolist() == list(range(600, 1050))
    assert found.gallery_test.person.tolist() == list(range(1050, 1500))
    for side in (found.probe_calibration, found.gallery_calibration, found.probe_test, found.gallery_test):
        assert side.accuracy > 0.85
    assert found.prior.sum() == pytest.approx(1)
    scores = found.label_scores(np.array([[2.0, 0.5], [0.1, 3.0]]))
    assert scores.shape == (450, 450)
    assert scores[3, 7] == [[2.0, 0.5], [0.1, 3.0]][found.probe_test.labels[3]][found.gallery_test.labels[7]]


def test_a_bootstrap_sample_keeps_pairs_and_parts_together() -> None:
    found = recognised.recognise(PEOPLE, "gender")
    drawn = found.resampled(np.random.default_rng(0))
    assert (drawn.probe_test.person == drawn.gallery_test.person).all()
    assert set(drawn.probe_test.person) < set(found.probe_test.person)
    assert len(drawn.probe_calibration) == len(found.probe_calibration)
    assert len(set(drawn.probe_calibration.person)) == pytest.approx(0.632 * 450, rel=0.1)


def test_halves_are_calibrated_on_images_that_their_recogniser_did_not_see() -> None:
    data = digits.load()
    left, right = (half.numpy().astype(float) for half in digits.halves(data))
    values = data.identities.numpy()
    found = recognised.recognise_halves(left, right, values, np.random.default_rng(0))
    assert len(found.probe_calibration) == 900
    assert len(found.gallery_test) == 897
    assert not set(found.probe_calibration.person) & set(found.probe_test.person)
    assert found.probe_test.accuracy == pytest.approx(0.83, abs=0.03)


def test_calibration_posteriors_of_pure_noise_are_no_better_than_chance() -> None:
    # Sixty random pixels fit two hundred random labels well, in sample.
    rng = np.random.default_rng(2)
    left, right = rng.normal(size=(2, 300, 60))
    values = rng.integers(0, 2, size=300)
    found = recognised.recognise_halves(left, right, values, rng, calibration=200)
    assert recognised.train_recogniser(left, values, inverse_penalty=0.1).score(left, values) > 0.7
    assert found.probe_calibration.accuracy == pytest.approx(0.5, abs=0.12)


def test_items_of_files_are_split_by_person() -> None:
    rng = np.random.default_rng(1)
    person = np.repeat([f"p{i:02}" for i in range(30)], 3)
    values = np.repeat(rng.integers(0, 2, size=30), 3)
    sides = [
        CovariatePosteriors(person, values, np.full((90, 2), 0.5), np.array([0.5, 0.5]), name)
        for name in ("voice", "face")
    ]
    found = recognised.split_people(*sides, rng)
    assert (len(found.probe_calibration), len(found.probe_test)) == (15, 15)
    assert not set(found.probe_calibration.person) & set(found.probe_test.person)
    assert found.probe_test.person.tolist() == found.gallery_test.person.tolist()
    with pytest.raises(ValueError, match="only 5 people are in both files"):
        recognised.split_people(sides[0].take(np.arange(15)), sides[1], rng)


def trained_elsewhere(people: int, prior: float, training_prior: float, seed: int = 0) -> list[CovariatePosteriors]:
    """Two sides of people with a binary value, seen in unit noise; their posteriors assume another prior."""
    rng = np.random.default_rng(seed)
    values = (rng.random(people) > prior).astype(int)
    sides = []
    for name in ("voice", "face"):
        seen = values + 0.7 * rng.standard_normal(people)
        second = 1 / (1 + training_prior / (1 - training_prior) * np.exp((0.5 - seen) / 0.49))
        posterior = np.column_stack([1 - second, second])
        sides.append(
            CovariatePosteriors(
                np.arange(people), values, posterior, np.array([training_prior, 1 - training_prior]), name
            )
        )
    return sides


def test_posteriors_of_recognisers_trained_under_another_prior_are_corrected() -> None:
    sides = trained_elsewhere(4000, 0.9, 0.5)
    assert recognised.calibration(sides[0])[1][0] < -0.1  # as they stand in the file
    found = recognised.split_people(*sides, np.random.default_rng(3))
    parts = (found.probe_calibration, found.gallery_calibration, found.probe_test, found.gallery_test)
    for part in parts:
        assert part.training_prior.tolist() == found.prior.tolist()
        assert np.abs(recognised.calibration(part)[1]).max() < 0.02
        # Bayes' rule, item by item
        given = sides[0 if part.name == "voice" else 1].posterior[part.person]
        odds = given[:, 0] / given[:, 1] * found.prior[0] / found.prior[1]
        np.testing.assert_allclose(part.posterior[:, 0], odds / (1 + odds), rtol=1e-9)
    rules = {name: values[0] for name, values in cv.rule_accuracies(found, [2]).items()}
    assert rules["optimal, posteriors"] > rules["posteriors, 1/prior forgotten"] + 0.01
    # "For a uniform prior" are the posteriors of the file, which is just what the correction takes them from.
    uniform = cv.posterior_score(*(sides[i].posterior[found.probe_test.person] for i in (0, 1)), found.prior)
    assert rules["posteriors for a uniform prior"] == pytest.approx(matching.match_accuracy(uniform, 2), abs=1e-9)
    promised, measured = cv.believed_accuracy(found, 2)
    assert promised == pytest.approx(measured, abs=0.02)


def test_posteriors_on_values_that_nobody_has_are_refused_and_the_file_named() -> None:
    rng = np.random.default_rng(0)
    values = np.r_[np.arange(40) % 2, 2]
    sides = [
        CovariatePosteriors(np.arange(41), values, np.eye(3)[values], np.array([0.4, 0.4, 0.2]), name)
        for name in ("voice", "face")
    ]
    # Seed 1 makes the only person of value 2 a calibration person, seed 0 a test person.
    assert 40 in recognised.split_people(*sides, np.random.default_rng(1)).probe_calibration.person
    with pytest.raises(ValueError, match="voice: posterior: 1 of 41 have all their mass on values with prior 0"):
        recognised.split_people(*sides, np.random.default_rng(0))
    kept = [side.take(np.arange(40)) for side in sides]
    found = recognised.split_people(*kept, rng)
    assert found.prior[2] == 0
    assert np.isfinite(cv.rule_accuracies(found, [2])["posteriors for a uniform prior"]).all()
    unlearned = [CovariatePosteriors(s.person, s.values, s.posterior, np.array([1.0, 0, 0]), s.name) for s in kept]
    with pytest.raises(ValueError, match="voice: training_prior: value 1 has prior 0 in training and not in use"):
        recognised.split_people(*unlearned, rng)


def test_recogniser_keeps_columns_of_values_it_never_saw() -> None:
    rng = np.random.default_rng(8)
    values = np.repeat([0, 2], 50)
    features = rng.normal(size=(100, 3)) + values[:, None]
    posterior = recognised.posteriors_of(recognised.train_recogniser(features, values), features, 4)
    assert posterior.shape == (100, 4)
    assert (posterior[:, [1, 3]] == 0).all()
    people = CovariatePosteriors(np.arange(100), values, posterior, np.full(4, 0.25), "test")
    brier, drift = recognised.calibration(people)
    assert brier < 0.3
    np.testing.assert_allclose(drift, 0, atol=1e-3)


def test_sharpening_keeps_the_label_and_moves_the_confidence() -> None:
    posterior = np.array([[0.6, 0.3, 0.1], [0.0, 0.5, 0.5]])
    assert recognised.sharpen(posterior, 0.3)[0, 0] > 0.9
    np.testing.assert_allclose(recognised.sharpen(posterior, 1.0), posterior, atol=1e-12)
    with pytest.raises(ValueError, match="temperature: expected a positive number"):
        recognised.sharpen(posterior, 0.0)


def test_one_value_cannot_be_recognised() -> None:
    with pytest.raises(ValueError, match="at least two values"):
        recognised.train_recogniser(np.zeros((3, 2)), np.zeros(3, int))
