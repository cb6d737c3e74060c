"""Synthetic people with covariates, heard and seen through two noisy feature vectors.

The smallest world in which covariate matching can succeed or fail for known reasons: gender, age band and nationality (dependent on
each other) move a voice and a face vector; latents that only one of the two shows add private noise. Switches let both show a common
latent (identity beyond the covariates) or let the records of some people be wrong. Every number here is a choice of ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

COVARIATES = {"gender": ("m", "f"), "age": ("young", "middle", "old"), "nationality": ("A", "B", "C", "D", "E", "F")}


@dataclass(frozen=True)
class CovariateWorld:
    """How people are made.

    Parameters
    ----------
    gender
        Prior of the two genders; near the 115 : 74 of a public voice-face test split.
    nationality
        Prior of six nationalities, falling like Zipf's law, one above one half.
    age_given_nationality
        Age bands of each nationality; differ, so that the covariates are dependent.
    voice_spread, face_spread
        Distance between the centres of the values of gender, age, nationality, in units of the noise. Set so that recognisers are
        right for about 9 of 10 genders and 6 to 8 of 10 ages and nationalities: useful and far from perfect.
    private
        Standard deviation of four latents that only one modality shows.
    shared
        Standard deviation of three latents that both modalities show; 0 switches identity beyond the covariates off.
    mislabelled
        Share of people whose recorded gender is wrong. Voice and face both follow the true one, so the errors of probe and match agree.
    voice_dim, face_dim
        Length of the two feature vectors.
    physics
        Seed of the directions in which covariates and latents act: the same people-making physics in every run.
    """

    gender: tuple[float, ...] = (0.61, 0.39)
    nationality: tuple[float, ...] = (0.55, 0.18, 0.11, 0.08, 0.05, 0.03)
    age_given_nationality: tuple[tuple[float, ...], ...] = (
        (0.25, 0.45, 0.30),
        (0.35, 0.45, 0.20),
        (0.55, 0.30, 0.15),
        (0.20, 0.30, 0.50),
        (0.60, 0.30, 0.10),
        (0.15, 0.25, 0.60),
    )
    voice_spread: tuple[float, float, float] = (3.4, 1.3, 2.6)
    face_spread: tuple[float, float, float] = (3.8, 1.6, 2.4)
    private: float = 0.7
    shared: float = 0.0
    mislabelled: float = 0.0
    voice_dim: int = 12
    face_dim: int = 16
    physics: int = 1807

    def __post_init__(self) -> None:
        rows = [self.gender, self.nationality, *self.age_given_nationality]
        if any(min(row) < 0 or abs(sum(row) - 1) > 1e-9 for row in rows):
            raise ValueError(
                "gender, nationality, age_given_nationality: every prior must be non-negative and sum to 1"
            )
        sizes = (len(self.gender), len(self.nationality), len(self.age_given_nationality))
        if sizes != (2, 6, 6) or any(len(row) != 3 for row in self.age_given_nationality):
            raise ValueError(
                f"expected 2 genders, 6 nationalities and 3 ages for each of 6 nationalities, found {sizes}"
            )
        if not 0 <= self.mislabelled <= 1 or min(self.private, self.shared) < 0:
            raise ValueError(
                f"mislabelled must lie in [0, 1], private and shared must not be negative; found {self.mislabelled}, {self.private}, {self.shared}"
            )

    @property
    def joint_prior(self) -> Float[np.ndarray, "gender age nationality"]:
        """P(gender) P(nationality) P(age | nationality)."""
        gender, nationality, age = (
            np.array(self.gender),
            np.array(self.nationality),
            np.array(self.age_given_nationality),
        )
        return gender[:, None, None] * age.T[None] * nationality


@dataclass(frozen=True)
class CovariatePeople:
    """People, one voice and one face vector each.

    Parameters
    ----------
    values
        Recorded values of gender, age, nationality, by name.
    voice, face
        Feature vectors.
    """

    values: dict[str, Int[np.ndarray, " people"]]
    voice: Float[np.ndarray, "people voice_dim"]
    face: Float[np.ndarray, "people face_dim"]

    def __len__(self) -> int:
        return len(self.voice)

    @property
    def cell(self) -> Int[np.ndarray, " people"]:
        """Index of the joint value (gender, age, nationality), row-major."""
        shape = tuple(len(names) for names in COVARIATES.values())
        return np.ravel_multi_index(tuple(self.values[name] for name in COVARIATES), shape)


def sample(world: CovariateWorld, people: int, rng: np.random.Generator) -> CovariatePeople:
    """Draw people.

    Parameters
    ----------
    world
        How people are made.
    people
        How many.
    rng
        Source of the people; the directions of the features come from ``world.physics``.

    Raises
    ------
    ValueError
        If `people` is below one.
    """
    if people < 1:
        raise ValueError(f"people: expected at least 1, found {people}")
    joint = world.joint_prior
    gender, age, nationality = np.unravel_index(rng.choice(joint.size, size=people, p=joint.ravel()), joint.shape)
    common = rng.normal(size=(people, 3))
    directions = np.random.default_rng(world.physics)
    features = []
    for dim, spread in ((world.voice_dim, world.voice_spread), (world.face_dim, world.face_spread)):
        centres = _centres(dim, spread, directions)
        loading_private, loading_shared = (
            directions.normal(size=(latents, dim)) / np.sqrt(latents) for latents in (4, 3)
        )
        private = rng.normal(size=(people, 4))
        features.append(
            centres["gender"][gender]
            + centres["age"][age]
            + centres["nationality"][nationality]
            + world.private * private @ loading_private
            + world.shared * common @ loading_shared
            + rng.normal(size=(people, dim))
        )
    wrong = rng.random(people) < world.mislabelled
    return CovariatePeople(
        {"gender": np.where(wrong, 1 - gender, gender), "age": age, "nationality": nationality}, *features
    )


def _centres(dim: int, spread: tuple[float, float, float], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Feature centres of every value: gender and age on a line, nationalities in directions of their own."""
    lines = rng.normal(size=(2 + len(COVARIATES["nationality"]), dim))
    lines /= np.linalg.norm(lines, axis=1, keepdims=True)
    return {
        "gender": spread[0] * np.outer([-0.5, 0.5], lines[0]),
        "age": spread[1] * np.outer([-1, 0, 1], lines[1]),
        "nationality": spread[2] / np.sqrt(2) * lines[2:],
    }
