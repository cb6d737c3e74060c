"""Verification metrics on ten million scores against the two sorts that no exact method avoids, and against scikit-learn's curve.

Run by ``make bench``; ratios of process CPU time on one thread stand in ``extra_info`` and are printed, with the peak of memory beyond
the scores themselves (both classes sorted apart make one copy; the aim was 1.5 times the sorts and 2 copies).
"""

from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pytest
from sklearn.metrics import auc, roc_curve

from paper_utils.metrics import by_identity, verification

PAIRS = 10_000_000
MAKE_UPS = {"balanced": 0.5, "1 in 100": 0.01, "99 in 100": 0.99}


def seconds(function, *arguments):
    began = time.process_time()
    function(*arguments)
    return time.process_time() - began


def peak_bytes(function, *arguments):
    tracemalloc.start()
    function(*arguments)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def two_sorts(genuine, impostor):
    np.sort(genuine)
    np.sort(impostor)


def library(scores, same):
    fpr, tpr, _ = roc_curve(same, scores)
    return auc(fpr, tpr)


@pytest.mark.benchmark(group="verification of 10 million pairs")
@pytest.mark.parametrize("make_up", [*MAKE_UPS, "balanced, rounded"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_report_against_two_sorts_and_scikit_learn(benchmark, dtype, make_up):
    rng = np.random.default_rng(0)
    same = rng.random(PAIRS) < MAKE_UPS[make_up.split(",")[0]]
    scores = rng.normal(0.5 * same, 0.2)
    scores = (np.round(scores, 3) if "rounded" in make_up else scores).astype(dtype)
    classes = scores[same], scores[~same]
    floor, own = [], []
    for _ in range(3):  # in turns, so that a busy machine slows both
        floor.append(seconds(two_sorts, *classes))
        own.append(seconds(verification.evaluate, scores, same))
    sklearn = seconds(library, scores, same)
    peak = peak_bytes(verification.evaluate, scores, same) / scores.nbytes
    benchmark.pedantic(verification.evaluate, (scores, same), rounds=1)
    ratio, gain = min(own) / min(floor), sklearn / min(own)
    benchmark.extra_info.update(ratio_to_two_sorts=ratio, times_faster_than_sklearn=gain, peak_in_copies=peak)
    print(
        f"\n{make_up}, {np.dtype(dtype)}: {ratio:.2f} x the two sorts ({min(floor):.2f} s), {gain:.1f} x faster than scikit-learn's "
        f"curve and area, {peak:.2f} copies of the scores"
    )


@pytest.mark.benchmark(group="bootstrap over identities")
def test_identity_bootstrap_against_one_curve_a_resample(benchmark):
    rng = np.random.default_rng(0)
    identities = np.repeat(np.arange(120), 8)
    embeddings = rng.normal(size=(120, 12))[identities] + 0.6 * rng.normal(size=(960, 12))
    similarities = verification.cosine_similarities(embeddings)
    weights = by_identity.resample_identities(120, 1000, rng)
    above = np.triu_indices(960, k=1)
    pairs = similarities[above], (identities[:, None] == identities)[above]
    peer = min(seconds(verification.evaluate, *pairs) for _ in range(5))
    own = min(seconds(by_identity.identity_bootstrap, similarities, identities, weights) for _ in range(3))
    benchmark.pedantic(by_identity.identity_bootstrap, (similarities, identities, weights), rounds=1)
    benchmark.extra_info.update(seconds_of_1000=own, curves_at_that_cost=own / peer)
    print(f"\n1,000 resamples of 120 people: {own:.2f} s, the cost of {own / peer:.0f} re-sorted curves")
