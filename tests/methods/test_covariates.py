"""Paper 01: exact reference values, enumeration of tiny galleries, properties that must hold for every model, limits and faults."""

from __future__ import annotations

import inspect
import itertools
import json
import warnings
from collections.abc import Callable
from decimal import Decimal, getcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from paper_utils.data import recognised
from paper_utils.data.covariate_files import CovariatePosteriors
from paper_utils.methods import covariates as cv
from paper_utils.metrics import ceilings, matching
from paper_utils.metrics import label_simulation as simulation
from paper_utils.metrics.label_tests import dual_error, verify_tables
from paper_utils.metrics.retrieval import average_precision
from paper_utils.world import covariates as world

CASES = Path(__file__).parents[1] / "reference" / "covariates"

# Two models of the kind the formulas are written for; the second has an "unsure" label on each side.
THREE = cv.CovariateModel(
    [0.5, 0.3, 0.2],
    [[0.8, 0.15, 0.05], [0.2, 0.7, 0.1], [0.1, 0.3, 0.6]],
    [[0.9, 0.04, 0.06], [0.25, 0.55, 0.2], [0.05, 0.35, 0.6]],
)
REJECTING = cv.CovariateModel(
    [0.6, 0.4], [[0.7, 0.1, 0.2], [0.2, 0.5, 0.3]], [[0.6, 0.1, 0.3], [0.05, 0.8, 0.15]], impostor_prior=[0.3, 0.7]
)


# --- Reference values -------------------------------------------------------------------------------------------------


def reference_outputs() -> list[Any]:
    cases = []
    for path in sorted(CASES.glob("*.json")):
        case = json.loads(path.read_text())
        for index, output in enumerate(case["outputs"]):
            inputs = case["inputs"][output["block"]] if "block" in output else case["inputs"]
            name = f"{case['id'].split('_')[0]}-{index}-{output['quantity']}"
            cases.append(pytest.param(inputs, output, id=name))
    return cases


def rule_score(model: cv.CovariateModel, inputs: dict, args: dict) -> np.ndarray | None:
    """Score table of a named rule; None for the optimal one."""
    rule = args.get("rule")
    if rule in (None, "posterior_optimal", "prior_corrected_optimal"):
        return None
    if rule == "same_label":
        return cv.same_label_score(model)
    if rule == "score_matrix":
        return np.array(next(value for key, value in args.items() if key not in ("N", "rule")), dtype=float)
    if rule == "naive_product":
        return cv.naive_product_score(inputs["joint_prior"], inputs["probe_confusions"], inputs["gallery_confusions"])
    probe, gallery = model.probe_posterior, model.gallery_posterior
    if rule == "uncorrected_inner_product":
        probe, gallery = (cv.correct_prior(p, inputs["prior"], inputs["training_prior"]) for p in (probe, gallery))
    if rule == "same_argmax_label":
        return (probe.argmax(1)[:, None] == gallery.argmax(1)).astype(float)
    assert rule in ("posterior_inner_product", "uncorrected_inner_product", "corrected_but_plain_inner_product"), rule
    return np.nan_to_num(cv.posterior_score(probe, gallery))


def evaluate(inputs: dict, quantity: str, args: dict) -> Any:
    if "counts" in inputs:
        test = verify_tables(*ceilings.finite_tables(inputs["counts"]))
        return {
            "finite_match_accuracy": lambda: ceilings.finite_match_accuracy(inputs["counts"], args["N"]),
            "finite_eer": lambda: test.eer,
            "finite_auc": lambda: test.auc,
        }[quantity]()
    if "probe_beta" in inputs:
        return cv.beta_match_accuracy(inputs["probe_beta"], inputs["gallery_beta"], args["N"])
    model = cv.CovariateModel.from_mapping(inputs)
    score = rule_score(model, inputs, args)
    answers: dict[str, Callable[[], Any]] = {
        "match_accuracy": lambda: cv.match_accuracy(model, args["N"], score),
        "match_accuracy_rule": lambda: cv.match_accuracy(model, args["N"], score),
        "match_accuracy_limit": lambda: cv.match_accuracy_limit(model),
        "lr_table": lambda: model.likelihood_ratio,
        "eer": lambda: cv.verify(model).eer,
        "eer_rule": lambda: cv.verify(model, score).eer,
        "auc": lambda: cv.verify(model).auc,
        "auc_rule": lambda: cv.verify(model, score).auc,
        "eer_lr_threshold": lambda: cv.verify(model).threshold,
        "eer_mix": lambda: cv.verify(model).mix,
        "roc_vertices": lambda: np.c_[cv.verify(model).false_accept, cv.verify(model).true_accept],
        "mrr": lambda: cv.mean_reciprocal_rank(model, args["M"]),
        "hit_at_k": lambda: cv.hit_at_k(model, args["M"], args["k"]),
        "map": lambda: cv.mean_average_precision(model, args["M"], args["R"]),
        "precision_at_k": lambda: cv.precision_at_k(model, args["M"], args["R"], args["k"]),
        "open_set_accuracy": lambda: cv.open_set_accuracy(model, args["N"], args["omega"]),
        "dir": lambda: cv.identification_rates(model, args["N"], args["tau"])[0],
        "far": lambda: cv.identification_rates(model, args["N"], args["tau"])[1],
    }
    return answers[quantity]()


@pytest.mark.parametrize(("inputs", "output"), reference_outputs())
def test_reference_value_is_met(inputs: dict, output: dict) -> None:
    value = np.asarray(evaluate(inputs, output["quantity"], output["args"]), dtype=float)
    expected = np.array(output["value"], dtype=float)
    defined = np.isfinite(expected)
    assert value.shape == expected.shape
    assert not np.isfinite(value[~defined]).any()
    np.testing.assert_allclose(value[defined], expected[defined], rtol=1e-10, atol=1e-12)


# --- Exhaustive enumeration --------------------------------------------------------------------------------------------


def enumerated_accuracy(model: cv.CovariateModel, size: int, score: np.ndarray) -> float:
    """Sum over every label of the probe, its match and all impostors; ties shared evenly."""
    total = 0.0
    labels = range(model.joint.shape[1])
    for a, own in np.ndindex(model.joint.shape):
        for others in itertools.product(labels, repeat=size - 1):
            mass = model.joint[a, own] * np.prod(model.gallery_marginal[list(others)])
            scores = [score[a, b] for b in others]
            if all(s <= score[a, own] * (1 + 1e-12) for s in scores):
                total += mass / (1 + sum(abs(s - score[a, own]) <= 1e-12 * score[a, own] for s in scores))
    return total


@pytest.mark.parametrize("model", [THREE, REJECTING], ids=["three", "rejecting"])
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_accuracy_equals_enumeration(model: cv.CovariateModel, size: int) -> None:
    assert cv.match_accuracy(model, size) == pytest.approx(
        enumerated_accuracy(model, size, model.likelihood_ratio), rel=1e-13
    )


@pytest.mark.parametrize("size", [2, 3, 4])
def test_accuracy_of_a_coarse_rule_equals_enumeration(size: int) -> None:
    # Tied on purpose, and tied only up to rounding in the last row.
    score = np.array([[1.0, 1.0, 0.0], [0.0, 2.0, 2.0], [0.1 + 0.2, 0.3, 0.3]])
    assert cv.match_accuracy(THREE, size, score) == pytest.approx(enumerated_accuracy(THREE, size, score), rel=1e-13)
    assert cv.match_accuracy(THREE, size, score) < cv.match_accuracy(THREE, size)


def ranked_lists(model: cv.CovariateModel, items: int, relevant: int, score: np.ndarray):
    """Every ranked list with its probability: (mass, relevance flags from the top); tie orders enumerated."""
    labels = range(model.gallery_confusion.shape[1])
    orders = list(itertools.permutations(range(items)))
    flags = np.arange(items) < relevant
    for c, a in np.ndindex(model.probe_confusion.shape):
        for seen in itertools.product(labels, repeat=items):
            seen = np.array(seen)
            mass = model.prior[c] * model.probe_confusion[c, a] * np.prod(model.gallery_confusion[c, seen[:relevant]])
            mass *= np.prod(model.gallery_marginal[seen[relevant:]])
            values = np.round(score[a, seen], 12)
            for order in orders:
                ranking = sorted(range(items), key=lambda j, v=values, o=order: (-v[j], o[j]))
                yield mass / len(orders), flags[ranking]


@pytest.mark.parametrize(("items", "relevant"), [(4, 2), (4, 3), (3, 1), (4, 4)])
def test_retrieval_equals_enumeration_with_all_tie_orders(items: int, relevant: int) -> None:
    model = cv.CovariateModel([0.6, 0.4], [[0.7, 0.3], [0.35, 0.65]], [[0.8, 0.2], [0.25, 0.75]])
    average, precision, hit = 0.0, np.zeros(items), np.zeros(items)
    for mass, flags in ranked_lists(model, items, relevant, model.likelihood_ratio):
        share = np.cumsum(flags) / np.arange(1, items + 1)
        average += mass * share[flags].mean()
        precision += mass * share
        hit += mass * (share > 0)
    assert cv.mean_average_precision(model, items, relevant) == pytest.approx(average, rel=1e-12)
    k = range(1, items + 1)
    np.testing.assert_allclose([cv.precision_at_k(model, items, relevant, i) for i in k], precision, rtol=1e-10)
    np.testing.assert_allclose(
        [cv.recall_at_k(model, items, relevant, i) for i in k], precision * np.array(k) / relevant, rtol=1e-10
    )
    if relevant == 1:
        np.testing.assert_allclose([cv.hit_at_k(model, items, i) for i in k], hit, rtol=1e-12)


@pytest.mark.parametrize("omega", [0.0, 0.3, 0.7, 0.9, 1.0])
def test_open_set_equals_enumeration_of_the_best_answer(omega: float) -> None:
    size, total = 3, 0.0
    for a in range(3):
        for labels in itertools.product(range(3), repeat=size):
            labels = list(labels)
            absent = (1 - omega) * REJECTING.probe_marginal[a] * np.prod(REJECTING.gallery_marginal[labels])
            with_match_at = [
                omega / size * REJECTING.joint[a, labels[j]] * np.prod(np.delete(REJECTING.gallery_marginal[labels], j))
                for j in range(size)
            ]
            total += max(absent, *with_match_at)
    assert cv.open_set_accuracy(REJECTING, size, omega) == pytest.approx(total, rel=1e-12)


def test_identification_rates_equal_enumeration() -> None:
    size, tau = 3, 1.2
    found = alarm = 0.0
    ratio = THREE.likelihood_ratio
    for a, own in np.ndindex(3, 3):
        for others in itertools.product(range(3), repeat=size - 1):
            values = ratio[a, list(others)]
            if ratio[a, own] >= tau and (values <= ratio[a, own] * (1 + 1e-12)).all():
                mass = THREE.joint[a, own] * np.prod(THREE.gallery_marginal[list(others)])
                found += mass / (1 + np.isclose(values, ratio[a, own], rtol=1e-12).sum())
    for a in range(3):
        for labels in itertools.product(range(3), repeat=size):
            if ratio[a, list(labels)].max() >= tau:
                alarm += THREE.probe_marginal[a] * np.prod(THREE.gallery_marginal[list(labels)])
    assert cv.identification_rates(THREE, size, tau) == pytest.approx((found, alarm), rel=1e-12)
    # A threshold equal to a level, up to rounding, is reached.
    level = ratio[1, 1]
    at, above = (cv.identification_rates(THREE, size, tau)[0] for tau in (level * (1 + 1e-14), level * (1 + 1e-9)))
    assert at > above


def test_a_label_that_impostors_never_report_reaches_every_threshold() -> None:
    # The third value is nobody's among impostors: its matches have an infinite likelihood ratio.
    model = cv.CovariateModel([0.5, 0.3, 0.2], np.eye(3), np.eye(3), [0.6, 0.4, 0.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found, alarm = cv.identification_rates(model, 4, [1.0, np.inf, -np.inf])
    assert found == pytest.approx([cv.match_accuracy(model, 4), 0.2, cv.match_accuracy(model, 4)], rel=1e-12)
    # An alarm at 1 is an impostor of the probe's value.
    assert alarm == pytest.approx([0.5 * (1 - 0.4**4) + 0.3 * (1 - 0.6**4), 0.0, 1.0], rel=1e-12)
    rates = cv.identification_rates(model, 4, np.inf)
    assert rates == pytest.approx((0.2, 0.0), rel=1e-12)


def test_a_match_that_impostors_cannot_imitate_stands_first_in_any_collection() -> None:
    model = cv.CovariateModel([0.5, 0.3, 0.2], np.eye(3), np.eye(3), [0.6, 0.4, 0.0])
    found, limit = cv.mean_reciprocal_rank(model, 10**7), cv.mean_reciprocal_rank_limit(model, 10**7)
    assert limit == pytest.approx(found, rel=1e-6)
    assert (limit - 0.2) * 10**7 == pytest.approx((found - 0.2) * 10**7, rel=1e-3)


def test_presence_test_equals_enumeration() -> None:
    model, size = cv.CovariateModel([0.6, 0.4], [[0.9, 0.1], [0.2, 0.8]], [[0.8, 0.2], [0.3, 0.7]]), 4
    cells = [(a, *labels) for a in range(2) for labels in itertools.product(range(2), repeat=size)]
    absent = np.array([model.probe_marginal[a] * np.prod(model.gallery_marginal[list(b)]) for a, *b in cells])
    present = np.array(
        [mass * model.likelihood_ratio[a, list(b)].mean() for mass, (a, *b) in zip(absent, cells, strict=True)]
    )
    direct, counted = verify_tables(present[None], absent[None]), cv.presence_test(model, size)
    assert (counted.eer, counted.auc) == pytest.approx((direct.eer, direct.auc), rel=1e-12)


def test_relevance_posterior_equals_bayes_over_all_subsets() -> None:
    labels, relevant, a = np.array([0, 2, 1, 0, 2, 0]), 3, 1
    weight = np.zeros(len(labels))
    for subset in itertools.combinations(range(len(labels)), relevant):
        outside = np.setdiff1d(np.arange(len(labels)), subset)
        likelihood = sum(
            THREE.prior[c] * THREE.probe_confusion[c, a] * np.prod(THREE.gallery_confusion[c, labels[list(subset)]])
            for c in range(3)
        )
        weight[list(subset)] += likelihood * np.prod(THREE.gallery_marginal[labels[outside]])
    expected = weight / weight.sum() * relevant
    np.testing.assert_allclose(cv.relevance_posterior(THREE, a, labels, relevant), expected, rtol=1e-12)
    np.testing.assert_allclose(cv.relevance_posterior(THREE, a, labels, 6), 1.0, rtol=1e-12)


def test_exact_gallery_posterior_beats_the_likelihood_ratio_when_most_items_are_relevant() -> None:
    model = cv.CovariateModel([0.6, 0.4], [[0.7, 0.3], [0.35, 0.65]], [[0.8, 0.2], [0.25, 0.75]])
    by_ratio = cv.mean_average_precision(model, 20, 8)
    assert by_ratio == pytest.approx(0.5141, abs=1e-4)
    # Exact mAP of the exact posterior: a sum over value, probe label and the number of relevant and other items with label 0.
    total = flipped = 0.0
    for c, a in np.ndindex(2, 2):
        for hits, rest in np.ndindex(9, 13):
            mass = (
                model.prior[c] * model.probe_confusion[c, a] * stats.binom.pmf(hits, 8, model.gallery_confusion[c, 0])
            )
            mass *= stats.binom.pmf(rest, 12, model.gallery_marginal[0])
            labels = np.r_[np.zeros(hits + rest, int), np.ones(20 - hits - rest, int)]
            relevant = np.r_[
                np.ones(hits, bool), np.zeros(rest, bool), np.ones(8 - hits, bool), np.zeros(12 - rest, bool)
            ]
            posterior = cv.relevance_posterior(model, a, labels, 8)
            total += mass * average_precision(posterior[None], relevant[None])[0]
            if labels.min() != labels.max():
                flipped += mass * (
                    (posterior[0] > posterior[-1]) != (model.likelihood_ratio[a, 0] > model.likelihood_ratio[a, 1])
                )
    assert total == pytest.approx(0.5457, abs=2e-4)
    assert flipped == pytest.approx(0.32, abs=0.01)


# --- Properties ---------------------------------------------------------------------------------------------------------


@st.composite
def models(draw: st.DrawFn, values: int | None = None) -> cv.CovariateModel:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    k = values or draw(st.integers(1, 4))
    a, b = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    sparse = draw(st.sampled_from([0.3, 1.0, 5.0]))
    tables = [rng.dirichlet(np.full(n, sparse) + 1e-3, size=k) for n in (a, b)]
    priors = rng.dirichlet(np.ones(k), size=2)
    return cv.CovariateModel(priors[0], *tables, impostor_prior=priors[1] if draw(st.booleans()) else None)


SIZES = [1, 2, 3, 10, 1000]


@settings(deadline=None, max_examples=60)
@given(models())
def test_likelihood_ratio_has_mean_one_and_accuracy_its_bounds(model: cv.CovariateModel) -> None:
    assert (model.strangers * model.likelihood_ratio).sum() == pytest.approx(1, rel=1e-9)
    accuracy = cv.match_accuracy(model, SIZES)
    assert accuracy[0] == pytest.approx(1, rel=1e-12)
    gained = accuracy * SIZES
    assert (np.diff(gained) >= -1e-12).all()
    assert gained[-1] <= cv.match_accuracy_limit(model) * (1 + 1e-12)
    assert (
        cv.match_accuracy_limit(model)
        <= model.probe_confusion.max(axis=0).sum() * np.max(model.prior / model.impostor_prior) + 1e-9
    )


@settings(deadline=None, max_examples=60)
@given(models())
def test_without_impostor_prior_the_gain_never_exceeds_the_number_of_values(model: cv.CovariateModel) -> None:
    same = cv.CovariateModel(model.prior, model.probe_confusion, model.gallery_confusion)
    bound = same.probe_confusion.max(axis=0).sum()
    assert cv.match_accuracy(same, 10**6) * 10**6 <= bound * (1 + 1e-9) <= len(same.prior) * (1 + 2e-9)
    ceiling = ceilings.perfect_match_accuracy(same.prior, SIZES)
    assert (cv.match_accuracy(same, SIZES) <= ceiling + 1e-12).all()


@settings(deadline=None, max_examples=60)
@given(models(), st.integers(0, 2**32 - 1))
def test_garbled_labels_never_help(model: cv.CovariateModel, seed: int) -> None:
    rng = np.random.default_rng(seed)
    blur = [
        rng.dirichlet(np.ones(3), size=table.shape[1]) for table in (model.probe_confusion, model.gallery_confusion)
    ]
    worse = cv.CovariateModel(
        model.prior, model.probe_confusion @ blur[0], model.gallery_confusion @ blur[1], model.impostor_prior
    )
    assert (cv.match_accuracy(worse, SIZES) <= cv.match_accuracy(model, SIZES) + 1e-12).all()
    assert cv.verify(worse).auc <= cv.verify(model).auc + 1e-12
    assert cv.verify(worse).eer >= cv.verify(model).eer - 1e-12
    assert cv.mean_reciprocal_rank(worse, 30) <= cv.mean_reciprocal_rank(model, 30) + 1e-12


@settings(deadline=None, max_examples=60)
@given(models())
def test_eer_equals_the_peak_of_its_dual(model: cv.CovariateModel) -> None:
    test = cv.verify(model)
    weights = np.append(np.linspace(0, 1, 201), test.threshold / (1 + test.threshold))
    bound = dual_error(model.joint, model.strangers, weights)
    assert bound.max() == pytest.approx(test.eer, rel=1e-9)
    assert bound[-1] == pytest.approx(test.eer, rel=1e-9)
    slopes = np.diff(test.true_accept) / np.maximum(np.diff(test.false_accept), 1e-300)
    assert (np.diff(slopes) <= 1e-6 * slopes[:-1]).all()


@settings(deadline=None, max_examples=40)
@given(models(), st.integers(0, 2**32 - 1))
def test_nothing_depends_on_the_order_of_values_and_labels(model: cv.CovariateModel, seed: int) -> None:
    rng = np.random.default_rng(seed)
    c, a, b = (rng.permutation(n) for n in (len(model.prior), *model.joint.shape))
    moved = cv.CovariateModel(
        model.prior[c], model.probe_confusion[c][:, a], model.gallery_confusion[c][:, b], model.impostor_prior[c]
    )
    np.testing.assert_allclose(cv.match_accuracy(moved, SIZES), cv.match_accuracy(model, SIZES), rtol=1e-10)
    assert cv.verify(moved).eer == pytest.approx(cv.verify(model).eer, rel=1e-10)
    assert cv.mean_average_precision(moved, 12, 3) == pytest.approx(cv.mean_average_precision(model, 12, 3), rel=1e-9)


@settings(deadline=None, max_examples=40)
@given(models(), st.integers(0, 2**32 - 1))
def test_no_rule_beats_the_likelihood_ratio_and_all_rules_rank_everything(model: cv.CovariateModel, seed: int) -> None:
    rule = np.random.default_rng(seed).integers(0, 3, size=model.joint.shape).astype(float)
    assert (cv.match_accuracy(model, SIZES, rule) <= cv.match_accuracy(model, SIZES) + 1e-12).all()
    # The match is somewhere: being first, with every rule, is what is left of being among the first N.
    assert cv.hit_at_k(model, 7, 7, rule) == pytest.approx(1, rel=1e-12)
    assert cv.hit_at_k(model, 7, 1, rule) == pytest.approx(cv.match_accuracy(model, 7, rule), rel=1e-9)
    mean_rank = sum(1 - cv.hit_at_k(model, 7, k, rule) for k in range(1, 7)) + 1
    assert cv.mean_rank(model, 7, rule) == pytest.approx(mean_rank, rel=1e-9)


@settings(deadline=None, max_examples=30)
@given(models(values=2))
def test_same_label_is_optimal_for_two_values(model: cv.CovariateModel) -> None:
    rng = np.random.default_rng(int(model.prior[0] * 1e9))
    tables = [
        np.array([[hit, 1 - hit], [miss, 1 - miss]])
        for miss, hit in np.sort(rng.uniform(0.01, 0.99, size=(2, 2)), axis=1)
    ]
    model = cv.CovariateModel(model.prior, *tables)
    np.testing.assert_allclose(
        cv.match_accuracy(model, SIZES, cv.same_label_score(model)), cv.match_accuracy(model, SIZES), rtol=1e-10
    )
    np.testing.assert_allclose(cv.binary_match_accuracy(model, SIZES), cv.match_accuracy(model, SIZES), rtol=1e-10)


def test_same_label_is_not_optimal_for_three_values_or_another_impostor_prior() -> None:
    three = cv.CovariateModel.from_mapping(json.loads((CASES / "C05_three_values.json").read_text())["inputs"])
    assert (three.likelihood_ratio.argmax(axis=1) == [0, 2, 1]).all()
    assert cv.match_accuracy(three, 2) - cv.match_accuracy(three, 2, cv.same_label_score(three)) > 0.03
    # Weak probe evidence for value 1 against a population of impostors that is nearly all of value 1.
    table = [[0.6, 0.4], [0.4, 0.6]]
    shifted = cv.CovariateModel([0.5, 0.5], table, table, impostor_prior=[0.95, 0.05])
    assert shifted.likelihood_ratio[0].argmax() == 1


def test_two_entries_compare_like_two_numbers() -> None:
    score = np.array([[3.0, 1.0, 0.0], [1.0, 1.0, 0.0], [2.0, 5.0, 5.0]])
    difference = score[:, :, None] - score[:, None, :]
    expected = 0.5 + 0.5 * np.einsum("ab,c,abc->", THREE.joint, THREE.gallery_marginal, np.sign(difference))
    assert cv.match_accuracy(THREE, 2, score) == pytest.approx(expected, rel=1e-13)
    matches, strangers = cv.agreement(THREE)
    assert cv.match_accuracy(THREE, 2, cv.same_label_score(THREE)) == pytest.approx(
        (1 + matches - strangers) / 2, rel=1e-13
    )
    same = cv.verify(THREE, cv.same_label_score(THREE))
    assert same.auc == pytest.approx((1 + matches - strangers) / 2, rel=1e-13)
    assert same.eer == pytest.approx(cv.same_label_eer(matches, strangers), rel=1e-12)
    # The optimal test pools pairs of different probes, which 1:2 matching never compares.
    assert cv.match_accuracy(THREE, 2) < cv.verify(THREE).auc


def test_posteriors_of_labels_score_like_the_likelihood_ratio() -> None:
    scores = cv.posterior_score(REJECTING.probe_posterior, REJECTING.gallery_posterior, REJECTING.impostor_prior)
    np.testing.assert_allclose(scores, REJECTING.likelihood_ratio, rtol=1e-13)
    deviation = [posterior - THREE.prior for posterior in (THREE.probe_posterior, THREE.gallery_posterior)]
    np.testing.assert_allclose(1 + (deviation[0] / THREE.prior) @ deviation[1].T, THREE.likelihood_ratio, rtol=1e-12)


def test_position_posterior_is_bayes() -> None:
    labels = np.array([0, 1, 1, 2])
    others = np.array([np.prod(np.delete(THREE.gallery_marginal[labels], j)) for j in range(4)])
    expected = THREE.joint[0, labels] * others
    np.testing.assert_allclose(cv.position_posterior(THREE, 0, labels), expected / expected.sum(), rtol=1e-13)


# --- Labels that never occur, sizes from one to a million ----------------------------------------------------------------


def test_a_label_that_nobody_reports_changes_nothing() -> None:
    padded = cv.CovariateModel(
        [0.5, 0.3, 0.2, 0.0],
        np.block([[THREE.probe_confusion, np.zeros((3, 1))], [np.zeros((1, 3)), np.ones((1, 1))]]),
        np.block([[THREE.gallery_confusion, np.zeros((3, 1))], [np.zeros((1, 3)), np.ones((1, 1))]]),
    )
    assert np.isnan(padded.likelihood_ratio[3]).all()
    np.testing.assert_allclose(cv.match_accuracy(padded, SIZES), cv.match_accuracy(THREE, SIZES), rtol=1e-13)
    for measure in (
        lambda m: cv.verify(m).eer,
        lambda m: cv.verify(m).auc,
        lambda m: cv.mean_average_precision(m, 20, 4),
        cv.match_accuracy_limit,
    ):
        assert measure(padded) == pytest.approx(measure(THREE), rel=1e-12)


def test_a_label_that_only_the_match_can_report_wins() -> None:
    model = cv.CovariateModel([0.5, 0.5], np.eye(2), np.eye(2), impostor_prior=[1.0, 0.0])
    assert model.likelihood_ratio[1, 1] == np.inf
    sizes = np.array([1, 2, 10, 10**6])
    np.testing.assert_allclose(cv.match_accuracy(model, sizes), 0.5 / sizes + 0.5, rtol=1e-13)
    np.testing.assert_allclose(
        ceilings.perfect_match_accuracy(model.prior, sizes, [1.0, 0.0]), 0.5 / sizes + 0.5, rtol=1e-13
    )
    assert cv.match_accuracy_limit(model) == np.inf
    assert cv.verify(model).eer == pytest.approx(0.25)
    assert cv.position_posterior(model, 1, np.array([0, 1])).tolist() == [0.0, 1.0]
    assert cv.mean_reciprocal_rank(model, 10) == pytest.approx(
        0.5 + 0.5 * sum(1 / i for i in range(1, 11)) / 10, rel=1e-12
    )
    # A rule that ranks this label last still places it: first only if it is alone.
    last = np.array([[1.0, 0.0], [1.0, 0.0]])
    assert cv.match_accuracy(model, 1, last) == pytest.approx(1)
    assert cv.match_accuracy(model, 3, last) == pytest.approx(0.5 / 3)


def test_a_million_entries_keep_ten_digits() -> None:
    getcontext().prec = 60
    common = [0.3, 0.7], [[0.9, 0.1], [0.2, 0.8]], [[0.95, 0.05], [0.0001, 0.9999]]
    # A level of mass about 1e-6 in front of the next one: (1 - U)^N is far from both 0 and 1 at a million.
    rare = [
        ([p, 1 - p], [[0.9, 0.1], [0.2, 0.8]], [[0.95, 0.05], [0.7 * p, 1 - 0.7 * p]])
        for p in (1e-6, 3.3e-7, 7.1e-7, 2.3e-6)
    ]
    for prior, probe, gallery in (common, *rare):
        m11, m12, m21, m22 = (
            sum(Decimal(prior[c]) * Decimal(probe[c][a]) * Decimal(gallery[c][b]) for c in range(2))
            for a, b in np.ndindex(2, 2)
        )
        m1, m2 = (sum(Decimal(prior[c]) * Decimal(gallery[c][b]) for c in range(2)) for b in range(2))
        model = cv.CovariateModel(prior, probe, gallery)
        for n in (10**3, 10**5, 10**6):
            first = m11 * (1 - (1 - m1) ** n) / m1 + m22 * (1 - (1 - m2) ** n) / m2
            last = m12 * (1 - m1) ** (n - 1) + m21 * (1 - m2) ** (n - 1)
            assert cv.match_accuracy(model, n) == pytest.approx(float((first + last) / n), rel=2e-13, abs=0)
    # A rare value, so that the bracket still moves at a million.
    rare = cv.CovariateModel([1e-6, 1 - 1e-6], np.eye(2), np.eye(2))
    exact = (2 - (1 - Decimal("1e-6")) ** 10**6 - Decimal("1e-6") ** 10**6) / 10**6
    assert cv.match_accuracy(rare, 10**6) == pytest.approx(float(exact), rel=1e-12)


def test_a_thousand_values_agree_with_closed_forms() -> None:
    k, probe, gallery = 1000, 0.7, 0.8
    tables = [
        np.full((k, k), (1 - hit) / (k - 1)) + np.eye(k) * (hit - (1 - hit) / (k - 1)) for hit in (probe, gallery)
    ]
    model = cv.CovariateModel(np.full(k, 1 / k), *tables)
    sizes = [1, 2, 100, 10**6]
    np.testing.assert_allclose(
        cv.match_accuracy(model, sizes), cv.even_errors_match_accuracy(k, probe, gallery, sizes), rtol=1e-10
    )
    assert cv.verify(model).eer == pytest.approx(cv.even_errors_eer(k, probe, gallery), rel=1e-9)
    assert ceilings.perfect_match_accuracy(np.full(k, 1 / k), 5000) == pytest.approx(
        ceilings.many_values_match_accuracy(k, 5000), rel=1e-3
    )


@pytest.mark.parametrize("errors", [(0.0, 0.0), (0.1, 0.2), (0.3, 0.05)])
def test_balanced_binary_closed_forms(errors: tuple[float, float]) -> None:
    model = cv.CovariateModel([0.5, 0.5], *([[1 - e, e], [e, 1 - e]] for e in errors))
    np.testing.assert_allclose(
        cv.match_accuracy(model, SIZES), cv.symmetric_binary_match_accuracy(*errors, SIZES), rtol=1e-12
    )
    assert cv.verify(model).eer == pytest.approx(cv.symmetric_binary_eer(*errors), rel=1e-12)
    assert cv.match_accuracy(model, 2) == pytest.approx(0.5 + (1 - 2 * errors[0]) * (1 - 2 * errors[1]) / 4, rel=1e-12)


@pytest.mark.parametrize(
    "prior", [[0.5, 0.5], [0.7, 0.3], [0.4, 0.3, 0.2, 0.1], [0.05] * 20, [0.34, 0.33, 0.33], [1.0]]
)
def test_perfect_recognition_closed_forms(prior: list[float]) -> None:
    model = cv.CovariateModel(prior, np.eye(len(prior)), np.eye(len(prior)))
    np.testing.assert_allclose(
        cv.match_accuracy(model, SIZES), ceilings.perfect_match_accuracy(prior, SIZES), rtol=1e-12
    )
    assert cv.verify(model).eer == pytest.approx(ceilings.perfect_eer(prior), rel=1e-10)
    for items in (1, 20, 500, 10**5):
        assert cv.mean_reciprocal_rank(model, items) == pytest.approx(
            ceilings.perfect_mean_reciprocal_rank(prior, items), rel=1e-10
        )
    assert cv.mean_average_precision(model, 60, 7) == pytest.approx(
        ceilings.perfect_mean_average_precision(prior, 60, 7), rel=1e-10
    )
    for omega in (0.2, 0.9):
        np.testing.assert_allclose(
            cv.open_set_accuracy(model, SIZES, omega),
            ceilings.perfect_open_set_accuracy(prior, SIZES, omega),
            rtol=1e-10,
        )


def test_even_errors_below_chance_use_the_other_branch_of_the_eer() -> None:
    tables = [np.full((3, 3), 0.35) - np.eye(3) * 0.05, np.full((3, 3), 0.15) + np.eye(3) * 0.55]
    model = cv.CovariateModel(np.full(3, 1 / 3), *tables)
    same = cv.verify(model, cv.same_label_score(model))
    assert same.eer == pytest.approx(cv.even_errors_eer(3, 0.3, 0.7), rel=1e-12)
    np.testing.assert_allclose(
        cv.match_accuracy(model, SIZES, cv.same_label_score(model)),
        cv.even_errors_match_accuracy(3, 0.3, 0.7, SIZES),
        rtol=1e-12,
    )


# --- Verification ------------------------------------------------------------------------------------------------------------


def test_no_balanced_covariate_gets_below_its_eer_bound() -> None:
    rng = np.random.default_rng(0)
    for values in (2, 3, 5):
        tables = rng.dirichlet(np.full(values, 0.3), size=(200, 2, values))
        errors = [cv.verify(cv.CovariateModel(np.full(values, 1 / values), *pair)).eer for pair in tables]
        assert min(errors) >= 1 / (values + 1) - 1e-12
    priors = np.linspace(0.02, 0.98, 4001)
    best = [ceilings.perfect_eer([p, 1 - p]) for p in priors]
    assert min(best) == pytest.approx(2 * np.sqrt(10) - 6, abs=1e-7)
    assert np.maximum(priors, 1 - priors)[int(np.argmin(best))] == pytest.approx((np.sqrt(10) - 2) / 2, abs=1e-3)


def test_eer_at_a_vertex_accepts_its_whole_level() -> None:
    # d = 0 exactly at the first vertex, up to rounding of 0.1 + 0.2.
    test = verify_tables(np.array([[0.7, 0.1 + 0.2]]), np.array([[0.3, 0.7]]))
    assert (test.eer, test.mix) == pytest.approx((0.3, 1.0), rel=1e-12)
    assert test.threshold == pytest.approx(7 / 3)


def test_uniform_posteriors_meet_their_eer() -> None:
    grid = (np.arange(1200) + 0.5) / 1200
    ratio = 1 + 4 * np.outer(grid - 0.5, grid - 0.5)
    test = verify_tables(ratio / ratio.size, np.full_like(ratio, 1 / ratio.size))
    assert test.eer == pytest.approx(cv.uniform_posterior_eer(), abs=1e-5)


# --- Posteriors -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gallery", [(3.0, 7.0), (0.3, 0.7), (3000.0, 7000.0)])
def test_beta_posteriors_agree_with_a_fine_table(gallery: tuple[float, float]) -> None:
    probe, sizes = (1.5, 3.5), [1, 2, 10, 300]
    # Cells of equal mass; the posterior of a cell is its mean, so the table is calibrated.
    symbols = []
    for a, b in (probe, gallery):
        edges = stats.beta(a, b).ppf(np.linspace(0, 1, 801))
        mean = np.diff(stats.beta(a + 1, b).cdf(edges)) * a / (a + b) * 800
        mean += 0.3 - mean.mean()
        symbols.append((np.full(800, 1 / 800), np.c_[mean, 1 - mean]))
    model = cv.CovariateModel.from_symbols([0.3, 0.7], *symbols)
    np.testing.assert_allclose(
        cv.match_accuracy(model, sizes), cv.beta_match_accuracy(probe, gallery, sizes), rtol=2e-3
    )


def test_uniform_posterior_closed_form_to_a_million() -> None:
    n = np.array([1, 2, 5, 100, 10**6])
    np.testing.assert_allclose(cv.beta_match_accuracy((1, 1), (1, 1), n), (1 + (n - 1) / (2 * (n + 1))) / n, rtol=1e-11)


def test_posterior_sample_estimate_is_the_mean_over_all_galleries() -> None:
    rng = np.random.default_rng(1)
    probe, gallery, rho = rng.dirichlet([2, 1, 1], size=4), rng.dirichlet([1, 1, 1], size=6), np.array([0.5, 0.3, 0.2])
    scores = cv.posterior_score(probe, gallery, rho)
    for n in (1, 2, 3, 6):
        brute = (
            np.mean([scores[:, list(chosen)].max(axis=1).mean() for chosen in itertools.combinations(range(6), n)]) / n
        )
        assert cv.sampled_posterior_match_accuracy(probe, gallery, rho, n) == pytest.approx(brute, rel=1e-12)


def test_prior_correction_recovers_the_posterior_of_the_deployment_prior() -> None:
    tau = np.full(3, 1 / 3)
    trained = cv.CovariateModel(tau, THREE.probe_confusion, THREE.gallery_confusion)
    np.testing.assert_allclose(
        cv.correct_prior(trained.probe_posterior, tau, THREE.prior), THREE.probe_posterior, rtol=1e-12
    )
    wrong = cv.posterior_score(trained.probe_posterior, trained.gallery_posterior)
    assert cv.match_accuracy(THREE, 5, wrong) < cv.match_accuracy(THREE, 5)


def test_symbols_under_another_prior_give_the_same_tables() -> None:
    tau = np.array([0.2, 0.3, 0.5])
    trained = cv.CovariateModel(tau, THREE.probe_confusion, THREE.gallery_confusion)
    symbols = [(trained.probe_marginal, trained.probe_posterior), (trained.gallery_marginal, trained.gallery_posterior)]
    model = cv.CovariateModel.from_symbols(THREE.prior, *symbols, training_prior=tau)
    np.testing.assert_allclose(model.likelihood_ratio, THREE.likelihood_ratio, rtol=1e-12)
    np.testing.assert_allclose(model.probe_confusion, THREE.probe_confusion, rtol=1e-12)


# --- Several covariates, finite populations, strata ----------------------------------------------------------------------------------


def test_independent_covariates_multiply_and_dependent_ones_do_not() -> None:
    parts = [
        cv.CovariateModel([0.6, 0.4], np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([[0.8, 0.2], [0.1, 0.9]])),
        THREE,
    ]
    product = cv.CovariateModel.independent(parts)
    np.testing.assert_allclose(
        product.likelihood_ratio, np.kron(parts[0].likelihood_ratio, parts[1].likelihood_ratio), rtol=1e-12
    )
    tables = [[part.probe_confusion for part in parts], [part.gallery_confusion for part in parts]]
    joint = np.outer(parts[0].prior, parts[1].prior)
    np.testing.assert_allclose(cv.CovariateModel.dependent(joint, *tables).joint, product.joint, rtol=1e-12)
    tilted = joint + 0.1 * np.array([[1, -1, 0], [-1, 1, 0]])
    dependent = cv.CovariateModel.dependent(tilted, *tables)
    naive = cv.naive_product_score(tilted, *tables)
    assert cv.match_accuracy(dependent, 10, naive) < cv.match_accuracy(dependent, 10)
    np.testing.assert_allclose(naive, product.likelihood_ratio, rtol=1e-12)


def test_many_covariates_by_convolution_agree_with_the_full_table() -> None:
    rng = np.random.default_rng(3)
    parts = [cv.CovariateModel(p, *rng.dirichlet([4, 1], size=(2, 2))) for p in rng.dirichlet([5, 5], size=8)]
    # One of them perfectly recognised: most of its label pairs are impossible.
    parts[0] = cv.CovariateModel(parts[0].prior, np.eye(2), np.eye(2))
    exact = cv.match_accuracy(cv.CovariateModel.independent(parts), [2, 10, 100])
    value, error = cv.many_covariates_match_accuracy(parts, [2, 10, 100], rng=rng, probes=1500)
    assert (np.abs(value - exact) < 4 * error + 1e-3 * exact).all()


def test_finite_population_equals_enumeration_of_galleries() -> None:
    value = np.repeat([0, 1, 2], [3, 2, 1])
    for n in (1, 2, 4, 6):
        total = 0.0
        for gallery in itertools.combinations(range(6), n):
            total += np.mean([1 / (value[list(gallery)] == value[probe]).sum() for probe in gallery])
        expected = total / len(list(itertools.combinations(range(6), n)))
        assert ceilings.finite_match_accuracy([3, 2, 1], n) == pytest.approx(expected, rel=1e-12)
    big = np.array([600_000, 400_000])
    assert ceilings.finite_match_accuracy(big, 10) == pytest.approx(
        ceilings.perfect_match_accuracy(big / 1e6, 10), rel=1e-5
    )
    # Table of gender on the 115 men and 74 women of a public test split, every person once as query.
    relevant, group = np.ones(189, int), np.repeat([115, 74], [115, 74])
    assert ceilings.finite_mean_average_precision(relevant, group) > np.sum(1 / np.arange(1, 190)) / 189


def test_inside_its_own_stratum_a_covariate_is_worth_nothing() -> None:
    joint = np.array([[0.3, 0.1], [0.2, 0.4]])
    model = cv.CovariateModel(joint.ravel(), np.eye(4), np.eye(4))
    assert cv.stratified_match_accuracy(model, np.arange(4), 5) == pytest.approx(1 / 5, rel=1e-12)
    first = np.array([0, 0, 1, 1])
    expected = sum(row.sum() * ceilings.perfect_match_accuracy(row / row.sum(), 5) for row in joint)
    assert cv.stratified_match_accuracy(model, first, 5) == pytest.approx(expected, rel=1e-12)
    assert cv.stratified_match_accuracy(model, np.zeros(4, int), [2, 5]) == pytest.approx(
        cv.match_accuracy(model, [2, 5]), rel=1e-12
    )


def test_impostors_of_a_stratum_are_those_of_their_own_prior() -> None:
    prior, impostors, strata = np.array([0.5, 0.1, 0.2, 0.2]), np.array([0.1, 0.6, 0.2, 0.1]), np.array([0, 0, 1, 1])
    model = cv.CovariateModel(prior, np.eye(4), np.eye(4), impostors)
    total = 0.0
    for value, share in enumerate(prior):  # every gallery of four impostors of the probe's stratum, ties by lot
        law = np.where(strata == strata[value], impostors, 0)
        for others in itertools.product(range(4), repeat=4):
            mass = np.prod(law[list(others)] / law.sum())
            # The likelihood ratio of another value is 0, that of the own one positive.
            total += share * mass / (1 + others.count(value))
    assert cv.stratified_match_accuracy(model, strata, 5) == pytest.approx(total, rel=1e-12)
    assert total == pytest.approx(0.5634, abs=5e-5)
    nobody = cv.CovariateModel(prior, np.eye(4), np.eye(4), [0.5, 0.5, 0, 0])
    with pytest.raises(ValueError, match="stratum 1 has probes but impostor prior 0"):
        cv.stratified_match_accuracy(nobody, strata, 5)
    joint = cv.CovariateModel(prior, np.eye(4), np.eye(4), match_table=np.diag(prior))
    with pytest.raises(ValueError, match=r"match_table .* cannot be split into strata"):
        cv.stratified_match_accuracy(joint, strata, 5)


def test_correlated_errors_need_the_joint_table() -> None:
    # A shared flip with probability 0.1 and private flips of 0.05: probe and match err together.
    prior, shared, private = np.array([0.6, 0.4]), 0.1, 0.05
    flip = lambda e: np.array([[1 - e, e], [e, 1 - e]])  # noqa: E731
    single = flip(shared) @ flip(private)
    joint = sum(
        prior[c] * flip(shared)[c, d] * np.outer(flip(private)[d], flip(private)[d]) for c in range(2) for d in range(2)
    )
    product = cv.CovariateModel(prior, single, single)
    measured = cv.CovariateModel(prior, single, single, match_table=joint)
    assert cv.match_accuracy(product, 2) == pytest.approx(0.625, abs=2e-3)
    assert cv.match_accuracy(measured, 2) == pytest.approx(0.698, abs=2e-3)
    with pytest.raises(ValueError, match="match_table"):
        cv.mean_average_precision(measured, 20, 3)


# --- Limits ---------------------------------------------------------------------------------------------------------------------------


def test_accuracy_and_rank_reach_their_limits() -> None:
    for model in (THREE, REJECTING):
        assert cv.match_accuracy(model, 10**5) * 10**5 == pytest.approx(cv.match_accuracy_limit(model), rel=1e-9)
        assert cv.mean_reciprocal_rank(model, 10**7) == pytest.approx(
            cv.mean_reciprocal_rank_limit(model, 10**7), rel=1e-5
        )
        z = np.linspace(0, 1, 11)
        recall = [cv.hit_at_k(model, 10**6, max(1, int(1e6 * x))) for x in z]
        np.testing.assert_allclose(cv.mean_roc(model, z)[1:], recall[1:], atol=2e-3)
        # P_N is the mean of (1 - Z)^(N - 1) under that law.
        fine = np.linspace(0, 1, 200_001)
        law = np.diff(cv.mean_roc(model, fine))
        assert ((1 - (fine[1:] + fine[:-1]) / 2) ** 9 @ law) == pytest.approx(cv.match_accuracy(model, 10), rel=1e-8)


def test_the_better_recogniser_belongs_on_the_probe_side_of_a_large_gallery() -> None:
    weak, strong = [[0.95, 0.05], [0.3, 0.7]], [[0.99, 0.01], [0.02, 0.98]]
    gain = [
        cv.match_accuracy(cv.CovariateModel([0.6, 0.4], *pair), 1000) * 1000
        for pair in ((weak, strong), (strong, weak))
    ]
    assert gain == pytest.approx([1.632, 1.707], abs=1e-3)


# --- Simulation ---------------------------------------------------------------------------------------------------------------------------


def test_simulation_agrees() -> None:
    rng, trials, items = np.random.default_rng(5), 60_000, 20
    score = THREE.likelihood_ratio
    place = simulation.places(THREE.joint, THREE.gallery_marginal, score, items, trials, rng)
    present, best, first = simulation.open_set(THREE.joint, THREE.gallery_marginal, score, 5, 0.8, trials, rng)
    correct = np.where(0.8 / 5 * best < 1 - 0.8, ~present, first)
    flags = simulation.rankings(
        THREE.prior,
        THREE.probe_confusion,
        THREE.gallery_confusion,
        THREE.gallery_marginal,
        score,
        items,
        4,
        20_000,
        rng,
    )
    precision = np.cumsum(flags, axis=1) / np.arange(1, items + 1)
    detected, alarmed = cv.identification_rates(THREE, 5, 1.45)
    for simulated, formula in (
        (place == 1, cv.match_accuracy(THREE, items)),
        (place <= 5, cv.hit_at_k(THREE, items, 5)),
        (1 / place, cv.mean_reciprocal_rank(THREE, items)),
        (place, cv.mean_rank(THREE, items)),
        (correct, cv.open_set_accuracy(THREE, 5, 0.8)),
        ((first & (best >= 1.45))[present], detected),
        ((best >= 1.45)[~present], alarmed),
        ((precision * flags).sum(axis=1) / 4, cv.mean_average_precision(THREE, items, 4)),
        (precision[:, 4], cv.precision_at_k(THREE, items, 4, 5)),
        (simulation.beta_posteriors((2, 3), (4, 6), 5, trials, rng), cv.beta_match_accuracy((2, 3), (4, 6), 5)),
        (simulation.finite_population([4, 3, 2], 5, trials, rng), ceilings.finite_match_accuracy([4, 3, 2], 5)),
    ):
        assert abs(np.mean(simulated) - formula) < 4 * np.std(simulated) / np.sqrt(len(simulated))


def test_swapping_partners_of_one_value_leaves_what_the_value_explains() -> None:
    rng = np.random.default_rng(10)
    value = np.repeat([0, 1, 2], 40)
    identity, noise = rng.normal(size=(2, 120))
    only_value = (value[:, None] == value).astype(float)
    own, swapped = cv.swapped_accuracy(only_value, value)
    np.testing.assert_allclose(own, swapped, rtol=1e-12)
    own, swapped = cv.swapped_accuracy(only_value - 0.1 * np.abs(identity[:, None] - identity - 0.1 * noise), value)
    assert own.mean() - swapped.mean() > 0.1
    np.testing.assert_allclose(
        own.mean(), matching.match_accuracy(only_value - 0.1 * np.abs(identity[:, None] - identity - 0.1 * noise), 2)
    )
    # The mean over partners, by hand for one probe.
    scores = rng.integers(0, 3, size=(5, 5)).astype(float)
    _, swapped = cv.swapped_accuracy(scores, np.array([0, 0, 0, 1, 1]))
    by_hand = [
        np.mean([(scores[0, j] > scores[0, i]) + (scores[0, j] == scores[0, i]) / 2 for i in range(5) if i != j])
        for j in (1, 2)
    ]
    assert swapped[0] == pytest.approx(np.mean(by_hand))
    with pytest.raises(ValueError, match="value 1 has one person only"):
        cv.swapped_accuracy(scores, np.array([0, 0, 0, 0, 1]))


def test_partners_are_exchanged_within_their_value_only() -> None:
    rng = np.random.default_rng(13)
    values = rng.integers(0, 4, size=300)
    partner = cv.same_value_partners(values, rng)
    assert (values[partner] == values).all()
    assert sorted(partner) == list(range(300))
    assert (partner == np.arange(300)).mean() < 0.1


@pytest.fixture(scope="module")
def population() -> dict[str, recognised.Recognised]:
    people = world.sample(world.CovariateWorld(), 3000, np.random.default_rng(14))
    return {name: recognised.recognise(people, name) for name in world.COVARIATES}


def test_rules_are_measured_in_the_order_that_theory_demands(population: dict[str, recognised.Recognised]) -> None:
    people = population["nationality"]
    found = cv.rule_accuracies(people, [2, 10])
    order = [
        "same label",
        "optimal, hard labels",
        "posteriors, 1/prior forgotten",
        "optimal, posteriors",
        "perfect recognition",
    ]
    assert (np.diff([found[name][0] for name in order]) > 0).all()
    assert found["optimal, posteriors"][0] > found["posteriors for a uniform prior"][0]
    scores = people.label_scores(cv.model_of(people).likelihood_ratio)
    np.testing.assert_allclose(found["optimal, hard labels"], matching.match_accuracy(scores, [2, 10]), rtol=1e-12)
    gap = cv.prediction_gap(people)
    assert gap["1:2"] == pytest.approx(
        found["optimal, hard labels"][0] - cv.match_accuracy(cv.model_of(people), 2), rel=1e-9
    )
    assert list(gap) == ["1:2", "1:10", "EER", "AUC", "mAP"]


def test_sharp_posteriors_promise_more_than_they_hold(population: dict[str, recognised.Recognised]) -> None:
    promised, measured = cv.believed_accuracy(population["nationality"], 10)
    assert promised == pytest.approx(measured, abs=0.04)
    promised, measured = cv.believed_accuracy(population["nationality"], 10, temperature=0.3)
    assert promised > measured + 0.04


def test_three_covariates_together_beat_each_alone(population: dict[str, recognised.Recognised]) -> None:
    together = cv.combined_accuracy(population)
    alone = max(cv.rule_accuracies(people, [2])["optimal, hard labels"][0] for people in population.values())
    assert min(together.values()) > alone + 0.05


def test_direct_model_gains_from_identity_beyond_the_covariates() -> None:
    accuracy = [
        cv.direct_accuracy(world.sample(world.CovariateWorld(shared=shared), 1500, np.random.default_rng(15)))
        for shared in (0.0, 1.5)
    ]
    assert accuracy[1] > accuracy[0] + 0.1


def test_ridge_finds_the_partner_of_a_linear_map() -> None:
    rng = np.random.default_rng(11)
    probe = rng.normal(size=(200, 6))
    gallery = probe @ rng.normal(size=(6, 4)) + 0.05 * rng.normal(size=(200, 4)) + 3
    scores = cv.ridge_score(probe[:100], gallery[:100], probe[100:], gallery[100:], penalty=0.1)
    assert matching.match_accuracy(scores, 50) > 0.95


def test_prediction_from_calibration_people_meets_measurement_on_others() -> None:
    rng = np.random.default_rng(6)
    value = rng.choice(3, size=6000, p=THREE.prior)
    draw = lambda table: (rng.random((6000, 1)) > np.cumsum(table, axis=1)[value]).sum(-1)  # noqa: E731
    probe, gallery = draw(THREE.probe_confusion), draw(THREE.gallery_confusion)
    model = cv.estimate_model(value[:5000], probe[:5000], gallery[:5000], (3, 3, 3))
    measured = cv.measured_performance(model.likelihood_ratio[probe[5000:]][:, gallery[5000:]], (2, 10))
    predicted = cv.predicted_performance(model, (2, 10), 1000)
    assert measured.keys() == predicted.keys()
    for name, tolerance in {"1:2": 0.03, "1:10": 0.03, "EER": 0.03, "AUC": 0.03, "mAP": 0.002}.items():
        assert measured[name] == pytest.approx(predicted[name], abs=tolerance)


def test_confusion_table_is_smoothed_by_one_person_a_row() -> None:
    table = cv.estimate_confusion(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 2]), (3, 3), smoothing=1.0)
    third = 1 / 3
    np.testing.assert_allclose(
        table, [[(2 + third) / 4, (1 + third) / 4, third / 4], [third / 2, third / 2, (1 + third) / 2], [third] * 3]
    )


def test_model_of_recognised_people_can_take_their_joint_table() -> None:
    rng = np.random.default_rng(12)
    value = rng.choice(2, size=4000, p=[0.6, 0.4])
    shown = np.where(rng.random(4000) < 0.2, 1 - value, value)
    sides = [
        CovariatePosteriors(np.arange(4000), value, np.eye(2)[shown], np.array([0.6, 0.4]), name)
        for name in ("voice", "face")
    ]
    people = recognised.Recognised(*sides, *sides)
    product, joint = cv.model_of(people), cv.model_of(people, joint=True)
    np.testing.assert_allclose(product.probe_confusion, [[0.8, 0.2], [0.2, 0.8]], atol=0.03)
    assert joint.joint[0, 1] < 1e-3 < product.joint[0, 1]


def test_labels_are_measured_as_their_score_matrix_would_be() -> None:
    rng = np.random.default_rng(9)
    value = rng.choice(3, size=300, p=THREE.prior)
    draw = lambda table: (rng.random((300, 1)) > np.cumsum(table, axis=1)[value]).sum(-1)  # noqa: E731
    probe, gallery = draw(THREE.probe_confusion), draw(THREE.gallery_confusion)
    score = np.round(THREE.likelihood_ratio, 1)
    by_matrix = cv.measured_performance(score[probe][:, gallery], (2, 10))
    by_count = cv.measured_label_performance(probe, gallery, score, (2, 10))
    assert by_count == pytest.approx(by_matrix, rel=1e-10)


def test_cross_fitted_and_plug_in_predictions_bracket_the_truth_on_average() -> None:
    rng, truth = np.random.default_rng(7), cv.match_accuracy(THREE, 2)
    pairs = []
    for _ in range(150):
        value = rng.choice(3, size=40, p=THREE.prior)
        draw = lambda table, c: (rng.random((40, 1)) > np.cumsum(table, axis=1)[c]).sum(-1)  # noqa: E731
        labels = draw(THREE.probe_confusion, value), draw(THREE.gallery_confusion, value)
        pairs.append(cv.accuracy_bracket(value, *labels, (3, 3, 3), 2, rng=rng))
    low, high = np.mean(pairs, axis=0)
    assert low < truth < high


def test_label_scores_measured_on_a_matrix_equal_the_finite_formula() -> None:
    value = np.repeat([0, 1], [115, 74])
    scores = (value[:, None] == value) / np.where(value == 0, 114, 73)  # the likelihood ratio, up to a factor
    np.testing.assert_allclose(
        matching.match_accuracy(scores, [2, 5, 50]), ceilings.finite_match_accuracy([115, 74], [2, 5, 50]), rtol=1e-12
    )
    measured = cv.measured_performance(scores, [2])
    assert measured["EER"] == pytest.approx(verify_tables(*ceilings.finite_tables([115, 74])).eer, rel=1e-12)
    assert measured["mAP"] == pytest.approx(
        ceilings.finite_mean_average_precision(np.ones(189, int), np.repeat([115, 74], [115, 74]))
    )


def bare(function: Callable) -> Callable:
    """The function without the tests' type checks: what a user's mistake meets."""
    return inspect.unwrap(function)


# --- Faults ---------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.5, 0.6], np.eye(2), np.eye(2)), "prior: it sums to 1.1"),
        (([0.5, 0.5], [[0.9, 0.2], [0, 1]], np.eye(2)), "probe_confusion: row 0 sums to 1.1"),
        (([0.5, 0.5], np.eye(2), [[1, 0], [1.5, -0.5]]), r"gallery_confusion: entry \(1, 1\) is -0.5"),
        (([0.5, np.nan], np.eye(2), np.eye(2)), "prior: entry .* nan"),
        (([0.5, 0.5], np.eye(3), np.eye(2)), "probe_confusion: expected one row for each of the 2 values"),
        (([0.5, 0.5], np.eye(2), np.eye(2), [1.0]), "impostor_prior: expected 2 values"),
        (([0.5, 0.5], np.eye(2), np.eye(2), None, np.eye(3) / 3), "match_table: expected shape"),
        (([0.5, 0.5], np.eye(2), np.eye(2), None, np.eye(2)), "match_table.* sums to 2"),
        (([0.5, 0.5], [[0.5, 0.5], [1.0]], np.eye(2)), "probe_confusion: expected numbers"),
        (([], np.eye(2), np.eye(2)), "prior: expected a non-empty array"),
    ],
)
def test_a_model_that_is_none_is_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cv.CovariateModel(*arguments)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cv.match_accuracy(THREE, 0), "sizes: expected whole numbers"),
        (lambda: cv.match_accuracy(THREE, 2.5), "sizes: expected whole numbers"),
        (lambda: cv.match_accuracy(THREE, []), "sizes: expected whole numbers"),
        (lambda: cv.match_accuracy(THREE, 2, np.eye(2)), "score: expected shape"),
        (lambda: cv.match_accuracy(THREE, 2, np.full((3, 3), np.nan)), "score NaN"),
        (lambda: cv.hit_at_k(THREE, 5, 6), "k: expected a whole number from 1 to the number of items"),
        (lambda: cv.mean_average_precision(THREE, 5, 6), "relevant: expected"),
        (lambda: cv.mean_reciprocal_rank(THREE, 0), "items: expected"),
        (lambda: cv.open_set_accuracy(THREE, 5, 1.5), "presence: expected a probability"),
        (lambda: cv.presence_test(THREE, 5), "2 gallery labels"),
        (lambda: cv.binary_match_accuracy(THREE, 5), "closed form needs"),
        (lambda: cv.beta_match_accuracy((1, 1), (2, 1), 5), "mean of the posterior"),
        (lambda: bare(cv.posterior_score)(np.eye(2), np.eye(3), [0.5, 0.5]), "expected as many values"),
        (lambda: cv.posterior_score(np.eye(2), np.eye(2), [1.0, 0.0]), "impostor prior 0"),
        (lambda: cv.correct_prior(np.eye(2), [1.0, 0.0], [0.5, 0.5]), "prior 0 in training"),
        (lambda: cv.sampled_posterior_match_accuracy(np.eye(2), np.eye(2), [0.5, 0.5], 3), "at most the 2 gallery"),
        (lambda: ceilings.finite_match_accuracy([3, 2], 6), "cannot exceed the 5"),
        (lambda: ceilings.finite_match_accuracy([1], 1), "counts: expected"),
        (lambda: cv.CovariateModel.independent([]), "at least one model"),
        (lambda: cv.CovariateModel.dependent(np.full((2, 2), 0.25), [np.eye(2)], [np.eye(2)]), "2 axes"),
        (
            lambda: cv.CovariateModel.from_symbols([0.5, 0.5], ([1], [[0.6, 0.4]]), ([1], [[0.5, 0.5]])),
            "not calibrated",
        ),
        (lambda: cv.stratified_match_accuracy(THREE, np.array([0, 1]), 2), "strata: expected one"),
        (
            lambda: cv.estimate_confusion(np.array([0, 3]), np.array([0, 1]), (2, 2)),
            "values: expected integers from 0 to 1",
        ),
        (lambda: cv.estimate_confusion(np.array([0]), np.array([0]), (2, 2), smoothing=0), "has no person"),
        (lambda: cv.relevance_posterior(THREE, 0, np.array([0, 1]), 3), "relevant: expected"),
        (lambda: bare(verify_tables)(np.eye(2) / 2, np.ones((2, 3)) / 6), "expected one shape"),
        (lambda: cv.many_covariates_match_accuracy([], [2], rng=np.random.default_rng(0)), "at least one covariate"),
    ],
)
def test_bad_input_is_refused_with_its_name(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
