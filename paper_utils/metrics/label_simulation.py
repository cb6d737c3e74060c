"""Matching by labels, simulated: draw labels, rank, break ties by lot. What the closed forms are checked against.

Nothing here uses a formula of `ranks` or of a method; every function draws from the tables that define the problem.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from paper_utils.metrics.ranks import level_numbers


def labels(
    law: Float[np.ndarray, "probe_labels gallery_labels"], trials: int, rng: np.random.Generator
) -> tuple[Int[np.ndarray, " trials"], Int[np.ndarray, " trials"]]:
    """Pairs of labels drawn from a table that sums to one."""
    probe, gallery = np.unravel_index(rng.choice(law.size, size=trials, p=law.ravel()), law.shape)
    return probe, gallery


def places(
    match: Float[np.ndarray, "probe_labels gallery_labels"],
    impostor: Float[np.ndarray, " gallery_labels"],
    score: Float[np.ndarray, "probe_labels gallery_labels"],
    size: int,
    trials: int,
    rng: np.random.Generator,
) -> Int[np.ndarray, " trials"]:
    """Place of the match (1 is found) in random galleries.

    Parameters
    ----------
    match
        Law of the labels of a probe and its match.
    impostor
        Law of an impostor's label.
    score
        What the gallery is ranked by; ties are broken by lot.
    size
        Entries of a gallery, match included.
    trials
        Number of galleries.
    rng
        Source of all draws.
    """
    level = level_numbers(score)
    a, b = labels(match, trials, rng)
    rivals = rng.multinomial(size - 1, impostor, size=trials)
    own = level[a, b][:, None]
    ahead, tied = ((rivals * (compare(level[a], own))).sum(axis=1) for compare in (np.greater, np.equal))
    return 1 + ahead + rng.integers(0, tied + 1)


def open_set(
    match: Float[np.ndarray, "probe_labels gallery_labels"],
    impostor: Float[np.ndarray, " gallery_labels"],
    score: Float[np.ndarray, "probe_labels gallery_labels"],
    size: int,
    presence: float,
    trials: int,
    rng: np.random.Generator,
) -> tuple[Bool[np.ndarray, " trials"], Float[np.ndarray, " trials"], Bool[np.ndarray, " trials"]]:
    """Galleries that hold the probe's match with probability `presence`, and impostors otherwise; arguments as in `places`.

    Returns
    -------
    tuple
        Whether the match is present, the best score in the gallery, and whether the match came first.
    """
    present = rng.random(trials) < presence
    a, b = labels(match, trials, rng)
    row = score[a]
    rivals = rng.multinomial(size - 1, impostor, size=trials)
    # The last entry is the match if there is one, and one more impostor if not.
    stranger = rng.choice(len(impostor), size=trials, p=impostor)
    last = row[np.arange(trials), np.where(present, b, stranger)]
    best = np.where(rivals > 0, row, -np.inf).max(axis=1)
    tied = (rivals * (row == last[:, None])).sum(axis=1)
    lucky = rng.random(trials) < 1 / (1 + tied)
    return present, np.maximum(best, last), present & ((last > best) | ((last == best) & lucky))


def rankings(
    prior: Float[np.ndarray, " values"],
    probe_confusion: Float[np.ndarray, "values probe_labels"],
    gallery_confusion: Float[np.ndarray, "values gallery_labels"],
    impostor: Float[np.ndarray, " gallery_labels"],
    score: Float[np.ndarray, "probe_labels gallery_labels"],
    items: int,
    relevant: int,
    trials: int,
    rng: np.random.Generator,
) -> Bool[np.ndarray, "trials items"]:
    """Relevance of every place of ranked collections: `relevant` items share the probe's value, the rest are impostors."""
    value = rng.choice(len(prior), size=trials, p=prior)
    a = _choose(probe_confusion[value], 1, rng)[:, 0]
    matches = _choose(gallery_confusion[value], relevant, rng)
    rivals = _choose(np.tile(impostor, (trials, 1)), items - relevant, rng)
    level = level_numbers(score)[a[:, None], np.concatenate([matches, rivals], axis=1)]
    return np.argsort(-(level + rng.random(level.shape)), axis=1) < relevant


def beta_posteriors(
    probe: tuple[float, float], gallery: tuple[float, float], size: int, trials: int, rng: np.random.Generator
) -> Bool[np.ndarray, " trials"]:
    """Whether the match is found with calibrated posteriors of a binary value, Beta(a, b) on either side.

    A calibrated posterior *is* the law of the value: draw ``u``, then the value is 1 with probability ``u``; a match's posterior is drawn
    from the law of the posterior given that value, an impostor's from the law of all.
    """
    a, b = gallery
    prior = a / (a + b)
    u = rng.beta(*probe, size=(trials, 1))
    value = rng.random((trials, 1)) < u
    match = np.where(value, rng.beta(a + 1, b, size=(trials, 1)), rng.beta(a, b + 1, size=(trials, 1)))
    v = np.concatenate([match, rng.beta(a, b, size=(trials, size - 1))], axis=1)
    return (u * v / prior + (1 - u) * (1 - v) / (1 - prior)).argmax(axis=1) == 0


def finite_population(
    counts: list[int], size: int, trials: int, rng: np.random.Generator
) -> Float[np.ndarray, " trials"]:
    """Chance of the match in galleries of distinct people, perfectly recognised: one over the entries with the probe's value."""
    counts = np.asarray(counts)
    value = rng.choice(len(counts), size=trials, p=counts / counts.sum())
    alike = np.ones(trials)
    for c in range(len(counts)):
        others = counts - (np.arange(len(counts)) == c)
        here = value == c
        alike[here] += rng.multivariate_hypergeometric(others, size - 1, size=int(here.sum()))[:, c]
    return 1 / alike


def _choose(
    rows: Float[np.ndarray, "trials labels"], count: int, rng: np.random.Generator
) -> Int[np.ndarray, "trials count"]:
    """`count` labels for every trial, each from its own law."""
    steps = np.cumsum(rows, axis=1)[:, None, :-1]
    return (rng.random((len(rows), count))[..., None] > steps).sum(axis=-1)
