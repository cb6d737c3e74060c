"""From features to posteriors: train a covariate recogniser for each of two modalities, on people kept apart from all others.

Synthetic people, digit halves and posteriors read from files all end as the same type, `Recognised`: people for calibration and people
for the test, each with a posterior from either modality.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike
from scipy import special
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from paper_utils.data.covariate_files import CovariatePosteriors, one_item_each
from paper_utils.metrics.probabilities import distributions
from paper_utils.world.covariates import CovariatePeople


@dataclass(frozen=True)
class Recognised:
    """One covariate of people who were not used for training, recognised in two modalities; rows of probe and gallery are one person.

    Parameters
    ----------
    probe_calibration, gallery_calibration
        People for the tables.
    probe_test, gallery_test
        People for the measurement.
    """

    probe_calibration: CovariatePosteriors
    gallery_calibration: CovariatePosteriors
    probe_test: CovariatePosteriors
    gallery_test: CovariatePosteriors

    @property
    def prior(self) -> Float[np.ndarray, " values"]:
        """Frequencies of the values among the calibration people."""
        return np.bincount(self.probe_calibration.values, minlength=len(self.probe_calibration.training_prior)) / len(
            self.probe_calibration
        )

    def resampled(self, rng: np.random.Generator) -> Recognised:
        """The same people drawn with replacement, calibration and test apart: one bootstrap sample."""
        calibration, test = (rng.integers(n, size=n) for n in (len(self.probe_calibration), len(self.probe_test)))
        return Recognised(
            self.probe_calibration.take(calibration),
            self.gallery_calibration.take(calibration),
            self.probe_test.take(test),
            self.gallery_test.take(test),
        )

    def label_scores(
        self, score: Float[np.ndarray, "probe_labels gallery_labels"]
    ) -> Float[np.ndarray, "people people"]:
        """Score matrix of the test people from a table over labels."""
        return score[self.probe_test.labels][:, self.gallery_test.labels]


def train_recogniser(
    features: Float[np.ndarray, "people dim"],
    values: Int[np.ndarray, " people"],
    *,
    inverse_penalty: float = 1.0,
    iterations: int = 500,
) -> Pipeline:
    """A covariate recogniser: standardise, then multinomial logistic regression.

    Raises
    ------
    ValueError
        With fewer than two values in the training people.
    """
    if len(np.unique(values)) < 2:
        raise ValueError(
            f"values: a recogniser needs at least two values to tell apart, found only {np.unique(values).tolist()}"
        )
    regression = LogisticRegression(C=inverse_penalty, max_iter=iterations)
    return make_pipeline(StandardScaler(), regression).fit(features, values)


def posteriors_of(
    recogniser: Pipeline, features: Float[np.ndarray, "people dim"], values: int
) -> Float[np.ndarray, "people values"]:
    """Posteriors over all `values`; those that training never saw get zero."""
    posterior = np.zeros((len(features), values))
    posterior[:, recogniser.classes_] = recogniser.predict_proba(features)
    return posterior


def recognise(people: CovariatePeople, covariate: str) -> Recognised:
    """Train a recogniser a modality on the first 40 % of people; the next 30 % calibrate, the rest test.

    Parameters
    ----------
    people
        In random order. Probe = voice, gallery = face.
    covariate
        Name of one of the covariates.
    """
    values = people.values[covariate]
    count = int(values.max()) + 1
    train, calibrate, test = np.split(np.arange(len(people)), [int(0.4 * len(people)), int(0.7 * len(people))])
    prior = np.bincount(values[train], minlength=count) / len(train)
    sides = []
    for name, features in (("voice", people.voice), ("face", people.face)):
        recogniser = train_recogniser(features[train], values[train])
        for rows in (calibrate, test):
            posterior = posteriors_of(recogniser, features[rows], count)
            sides.append(CovariatePosteriors(rows, values[rows], posterior, prior, f"{name}, synthetic"))
    return Recognised(sides[0], sides[2], sides[1], sides[3])


def recognise_halves(
    left: Float[np.ndarray, "images pixels"],
    right: Float[np.ndarray, "images pixels"],
    values: Int[np.ndarray, " images"],
    rng: np.random.Generator,
    *,
    calibration: int = 900,
    folds: int = 5,
) -> Recognised:
    """Digits as entities, their halves as modalities: random split into calibration and test images.

    The calibration images also train the recognisers. Their own posteriors are therefore cross-validated: each comes from a recogniser
    that did not see the image.
    """
    count = int(values.max()) + 1
    order = rng.permutation(len(values))
    rows, test = order[:calibration], order[calibration:]
    prior = np.bincount(values[rows], minlength=count) / calibration
    fold = np.arange(calibration) % folds
    sides = []
    for name, pixels in (("left halves", left), ("right halves", right)):
        held_out = np.empty((calibration, count))
        for f in range(folds):
            seen = rows[fold != f]
            recogniser = train_recogniser(pixels[seen], values[seen], inverse_penalty=0.1)
            held_out[fold == f] = posteriors_of(recogniser, pixels[rows[fold == f]], count)
        recogniser = train_recogniser(pixels[rows], values[rows], inverse_penalty=0.1)
        sides.append(CovariatePosteriors(rows, values[rows], held_out, prior, name))
        sides.append(
            CovariatePosteriors(test, values[test], posteriors_of(recogniser, pixels[test], count), prior, name)
        )
    return Recognised(sides[0], sides[2], sides[1], sides[3])


def correct_prior(
    posterior: Float[np.ndarray, "n values"], training_prior: ArrayLike, prior: ArrayLike
) -> Float[np.ndarray, "n values"]:
    r"""Posteriors made under :math:`\tau`, turned into posteriors under :math:`\pi`: :math:`u_c \leftarrow u_c\,\pi_c/\tau_c`, renormalised.

    Raises
    ------
    ValueError
        If a value has training prior 0 but a positive prior: its posterior was never learned. Or if a posterior has all its mass on values
        with prior 0.
    """
    tau, pi = distributions(training_prior, "training_prior", ndim=1), distributions(prior, "prior", ndim=1)
    if len(tau) != len(pi) or posterior.shape[-1] != len(pi):
        raise ValueError(
            f"posterior, training_prior, prior: expected as many values, found {posterior.shape[-1]}, {len(tau)}, {len(pi)}"
        )
    if ((tau == 0) & (pi > 0)).any():
        raise ValueError(
            f"training_prior: value {int(np.argmax((tau == 0) & (pi > 0)))} has prior 0 in training and not in use; retrain with such people"
        )
    weighted = posterior * np.where(tau > 0, pi / np.where(tau > 0, tau, 1), 0)
    mass = weighted.sum(axis=-1, keepdims=True)
    lost = np.flatnonzero(mass == 0)
    if len(lost):
        raise ValueError(
            f"posterior: {len(lost)} of {mass.size} have all their mass on values with prior 0, the first in row {lost[0]}; join rare values "
            "or take more people"
        )
    return weighted / mass


def split_people(probe: CovariatePosteriors, gallery: CovariatePosteriors, rng: np.random.Generator) -> Recognised:
    """Recognised items from files: one random item a person, half of the people calibrate, half test.

    The posteriors of a file assume the prior under which its recogniser was trained. All are corrected to the frequencies among the
    calibration people (`correct_prior`), which are their `training_prior` from then on.

    Raises
    ------
    ValueError
        If fewer than 20 people are in both, or as `correct_prior` with the file's name.
    """
    probe, gallery = one_item_each(probe, gallery, rng)
    if len(probe) < 20:
        raise ValueError(
            f"{probe.name}, {gallery.name}: only {len(probe)} people are in both files; calibration and test need at least 20"
        )
    calibrate, test = np.array_split(rng.permutation(len(probe)), 2)
    prior = np.bincount(probe.values[calibrate], minlength=probe.posterior.shape[1]) / len(calibrate)
    probe, gallery = (_under(side, prior) for side in (probe, gallery))
    return Recognised(probe.take(calibrate), gallery.take(calibrate), probe.take(test), gallery.take(test))


def _under(side: CovariatePosteriors, prior: Float[np.ndarray, " values"]) -> CovariatePosteriors:
    try:
        corrected = correct_prior(side.posterior, side.training_prior, prior)
    except ValueError as error:
        raise ValueError(f"{side.name}: {error}") from error
    return replace(side, posterior=corrected, training_prior=prior)


def calibration(posteriors: CovariatePosteriors) -> tuple[float, Float[np.ndarray, " values"]]:
    r"""Brier score :math:`\frac1n\sum_i\sum_c(u_{ic}-[c=c_i])^2`, and "mean posterior minus frequency" of every value (0 if calibrated)."""
    truth: Bool[np.ndarray, "people values"] = posteriors.values[:, None] == np.arange(posteriors.posterior.shape[1])
    return float(((posteriors.posterior - truth) ** 2).sum(axis=1).mean()), posteriors.posterior.mean(
        axis=0
    ) - truth.mean(axis=0)


def sharpen(posterior: Float[np.ndarray, "n values"], temperature: float) -> Float[np.ndarray, "n values"]:
    r"""Posteriors made over- or under-confident: :math:`u_c^{1/T}`, renormalised. T below 1 sharpens. Raises unless T > 0."""
    if not temperature > 0:
        raise ValueError(f"temperature: expected a positive number, found {temperature}")
    return special.softmax(np.log(np.maximum(posterior, 1e-300)) / temperature, axis=-1)
