"""All (phoneme, measurement) pairs at once against one by one: ridge against scikit-learn, networks side by side against a loop."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest
import torch
from sklearn.linear_model import RidgeCV

from paper_utils import training
from paper_utils.methods import phonemes as ph

SUBJECTS, PHONEMES, MEASUREMENTS, FOLDS, VALUES = 662, 25, 41, 5, 200


def seconds(function):
    began = time.perf_counter()
    result = function()
    return time.perf_counter() - began, result


@pytest.mark.benchmark(group="phonemes")
def test_ridge_of_all_pairs_against_one_pair_after_another(benchmark):
    rng = np.random.default_rng(0)
    means = rng.normal(size=(PHONEMES, SUBJECTS, VALUES))
    scores = rng.normal(size=(SUBJECTS, MEASUREMENTS)) + 0.5 * means[0, :, :MEASUREMENTS]
    folds = ph.subject_folds(SUBJECTS, FOLDS, rng)
    errors = benchmark.pedantic(ph.ridge_errors, (means, scores, folds), rounds=3, warmup_rounds=1)
    together = benchmark.stats.stats.min / errors.size

    def allowed(phoneme, fold):
        """The penalties that leave at most a tenth of the training subjects as degrees of freedom."""
        values = means[phoneme, folds != fold]
        squares = np.linalg.svd((values - values.mean(0)) / values.std(0), compute_uv=False) ** 2
        penalties = np.array(ph.PENALTIES) * VALUES
        freedom = 1 + (squares / (squares + penalties[:, None])).sum(1)
        return penalties[(freedom <= ph.MOST_FREEDOM * len(values)) | (penalties == penalties.max())]

    penalties = {(phoneme, fold): allowed(phoneme, fold) for phoneme in (0, 7) for fold in range(FOLDS)}

    def one_by_one(phoneme, measurement):
        prediction, baseline = np.empty(SUBJECTS), np.empty(SUBJECTS)
        for fold in range(FOLDS):
            train, test = folds != fold, folds == fold
            mean, sd = means[phoneme, train].mean(0), means[phoneme, train].std(0)
            model = RidgeCV(penalties[phoneme, fold]).fit(
                (means[phoneme, train] - mean) / sd, scores[train, measurement]
            )
            prediction[test] = model.predict((means[phoneme, test] - mean) / sd)
            baseline[test] = scores[train, measurement].mean()
        y = scores[:, measurement]
        return ((y - prediction) ** 2).sum() / ((y - baseline) ** 2).sum()

    pairs = [(phoneme, measurement) for phoneme in (0, 7) for measurement in range(6)]
    spent, alone = seconds(lambda: [one_by_one(*pair) for pair in pairs])
    apart = np.abs(np.array(alone) - [errors[pair] for pair in pairs]).max()
    factor = spent / len(pairs) / together
    benchmark.extra_info["speed-up per pair"] = round(factor, 1)
    print(
        f"\nridge, {errors.size} pairs x {FOLDS} folds: {1e3 * together:.2f} ms a pair, scikit-learn one by one {1e3 * spent / len(pairs):.1f} ms "
        f"({factor:.0f} x); normalised errors differ by at most {apart:.3f}"
    )
    assert factor > 10
    assert apart < 0.02


@pytest.mark.benchmark(group="phonemes")
def test_permutations_of_all_measurements_against_the_fit_alone(benchmark):
    rng = np.random.default_rng(0)
    features, scores = rng.normal(size=(SUBJECTS, VALUES)), rng.normal(size=(SUBJECTS, MEASUREMENTS))
    shuffled = rng.permuted(np.tile(scores[:, 0], (1999, 1)), axis=1).T
    folds = ph.subject_folds(SUBJECTS, FOLDS, rng)
    alone, _ = seconds(lambda: ph.ridge_cross_validated(features, scores, folds, keep=0))
    everything = np.hstack([scores, shuffled])
    benchmark.pedantic(lambda: ph.ridge_cross_validated(features, everything, folds, keep=0), rounds=3, warmup_rounds=1)
    factor = benchmark.stats.stats.min / alone
    print(f"\n1,999 permutations ride along: {factor:.1f} x the time of the fit without them, instead of 2,000 x")


@pytest.mark.benchmark(group="phonemes")
def test_networks_side_by_side_against_a_loop(benchmark):
    rng = np.random.default_rng(0)
    tokens = 400
    features = torch.from_numpy(rng.normal(size=(tokens, 16, 40))).float()
    targets = torch.from_numpy(rng.normal(size=(tokens, 8))).float()
    subjects = np.arange(tokens) // 2
    train, test = np.flatnonzero(subjects % 5), np.flatnonzero(subjects % 5 == 0)
    config = dataclasses.replace(ph.SMALL, width=0.125, epochs=2, validation_share=0.0)
    fabric = training.launch("cpu")
    pairs = [ph.Job(train, test, (column,), seed=column) for column in range(8)]

    def train_all(jobs):
        return ph.train_members(features, targets, subjects, jobs, config, fabric)

    loop, alone = seconds(lambda: [train_all([job])[0] for job in pairs])
    together = benchmark.pedantic(train_all, (pairs,), rounds=2, warmup_rounds=1)
    side_by_side = benchmark.stats.stats.min
    shared, _ = seconds(lambda: train_all([ph.Job(train, test, tuple(range(8)), seed=0)]))
    apart = max(np.abs(a - b).max() for a, b in zip(alone, together, strict=True))
    print(
        f"\n8 light networks: side by side {loop / side_by_side:.1f} x faster than one by one (predictions differ by at most {apart:.4f}); "
        f"one network with 8 outputs {loop / shared:.1f} x"
    )
    assert apart < 0.05
