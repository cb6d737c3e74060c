"""Synthetic people with covariates: priors, dependence, and what each switch does."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from paper_utils.world import covariates as world


def test_people_follow_the_joint_prior_and_covariates_depend() -> None:
    people = world.sample(world.CovariateWorld(), 20_000, np.random.default_rng(0))
    joint = world.CovariateWorld().joint_prior
    assert joint.sum() == pytest.approx(1)
    counts = np.bincount(people.cell, minlength=joint.size)
    assert stats.chisquare(counts, joint.ravel() * 20_000).pvalue > 1e-3
    table = np.histogram2d(people.values["age"], people.values["nationality"], bins=(3, 6))[0]
    assert stats.chi2_contingency(table).pvalue < 1e-6
    assert max(world.CovariateWorld().nationality) > 0.5


def test_same_seed_same_people_and_the_physics_is_shared_by_all_seeds() -> None:
    one, again, other = (world.sample(world.CovariateWorld(), 4000, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.voice, again.voice)
    assert not np.array_equal(one.voice, other.voice)
    centre = [people.face[people.values["gender"] == 0].mean(0) for people in (one, other)]
    np.testing.assert_allclose(centre[0], centre[1], atol=0.25)
    assert len(one) == 4000
    assert (one.voice.shape[1], one.face.shape[1]) == (12, 16)


def residuals(people: world.CovariatePeople) -> tuple[np.ndarray, np.ndarray]:
    """Features without the mean of the person's cell."""
    kept = []
    for features in (people.voice, people.face):
        counts = np.bincount(people.cell, minlength=36)
        means = (
            np.stack([np.bincount(people.cell, column, minlength=36) for column in features.T], axis=1)
            / np.maximum(counts, 1)[:, None]
        )
        kept.append(features - means[people.cell])
    return kept[0], kept[1]


def test_only_the_shared_latent_ties_voice_and_face_inside_a_cell() -> None:
    largest = {}
    for shared in (0.0, 1.0):
        people = world.sample(world.CovariateWorld(shared=shared), 8000, np.random.default_rng(3))
        voice, face = residuals(people)
        largest[shared] = np.abs(np.corrcoef(voice.T, face.T)[:12, 12:]).max()
    assert largest[0.0] < 0.06
    assert largest[1.0] > 0.25


def test_wrong_records_leave_voice_and_face_as_they_are() -> None:
    right, wrong = (
        world.sample(world.CovariateWorld(mislabelled=share), 3000, np.random.default_rng(4)) for share in (0.0, 0.1)
    )
    np.testing.assert_array_equal(right.voice, wrong.voice)
    np.testing.assert_array_equal(right.values["age"], wrong.values["age"])
    assert np.mean(right.values["gender"] != wrong.values["gender"]) == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gender": (0.5, 0.6)}, "sum to 1"),
        ({"nationality": (0.5, 0.5)}, "expected 2 genders, 6 nationalities"),
        ({"mislabelled": 1.5}, "mislabelled must lie"),
        ({"shared": -1.0}, "must not be negative"),
    ],
)
def test_a_world_that_cannot_be_is_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        world.CovariateWorld(**change)


def test_nobody_is_not_a_population() -> None:
    with pytest.raises(ValueError, match="people: expected at least 1, found 0"):
        world.sample(world.CovariateWorld(), 0, np.random.default_rng(0))
