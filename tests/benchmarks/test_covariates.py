"""Formulas of paper 01 at large sizes, as ratios to a floor (one sort of the same table) and to simulation, in the same run."""

from __future__ import annotations

import time

import numpy as np
import pytest

from paper_utils.methods import covariates

VALUES, TRIALS = 1000, 20_000


def random_model():
    rng = np.random.default_rng(0)
    tables = rng.dirichlet(np.full(VALUES, 0.2), (2, VALUES))
    return covariates.CovariateModel(rng.dirichlet(np.ones(VALUES)), *(0.5 * np.eye(VALUES) + 0.5 * t for t in tables))


def simulate(model, size, trials):
    """Galleries drawn one after another, as one would without the formula; standard error about 1/sqrt(trials)."""
    rng = np.random.default_rng(1)
    cells = rng.choice(VALUES * VALUES, trials, p=model.joint.ravel())
    probe, match = np.divmod(cells, VALUES)
    lr, found = model.likelihood_ratio, 0.0
    for a, b in zip(probe, match, strict=True):
        impostors = lr[a, rng.choice(VALUES, size - 1, p=model.gallery_marginal)]
        if impostors.max() < lr[a, b]:
            found += 1
        elif impostors.max() == lr[a, b]:
            found += 1 / (1 + (impostors == lr[a, b]).sum())
    return found / trials


def seconds(function):
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


@pytest.mark.benchmark(group="covariates")
def test_matching_formula_against_a_sort_and_against_simulation(benchmark):
    model = random_model()
    table = model.likelihood_ratio
    floor = min(seconds(lambda: np.sort(table, axis=1)) for _ in range(3))
    simulated = seconds(lambda: simulate(model, 100, TRIALS // 20)) * 20
    sizes = np.array([2, 10, 100, 1000, 1_000_000])
    benchmark.pedantic(covariates.match_accuracy, (model, sizes), rounds=3, warmup_rounds=1)
    found = benchmark.stats.stats.min
    benchmark.extra_info["ratio to one sort"] = round(found / floor, 1)
    print(
        f"\n1:N accuracy, K = {VALUES}, five sizes up to 10^6: {found / floor:.1f} x one sort of the table ({floor:.2f} s); "
        f"{simulated / found:.0f} x faster than {TRIALS} simulated galleries of 100"
    )
