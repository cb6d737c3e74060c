"""The loss as a sum of binary questions: the sweep against the written-out formula, slopes, shards, strangers, poles and faults."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from paper_utils.nn import binary_margins as bm
from paper_utils.nn import margins

MARGINS = {"C": 0.4, "A": 0.5, "M": 1.7, "speech-A": 0.15}
SWEPT = ("C", "A", "M")
seeds = st.integers(0, 1000)
cosines = st.floats(-1, 1)


def rule_of(kind: str = "C", **options) -> bm.BinaryMargin:
    values = {"margin": MARGINS[kind], "scale": 20.0, "balance": 0.7, "exponent": 3.0, "loss_weight": 10.0}
    return bm.BinaryMargin(kind, **{**values, **options})


def batch(seed: int = 0, lead=(), rows: int = 7, dim: int = 6, classes: int = 9, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(*lead, rows, dim, generator=generator, dtype=dtype)
    proxies = functional.normalize(torch.randn(*lead, classes, dim, generator=generator, dtype=dtype), dim=-1)
    bias = 2 + torch.randn(lead, generator=generator, dtype=dtype)
    labels = torch.randint(-1, classes, (*lead, rows), generator=generator)
    # Half of the samples near their class, as in training.
    near = proxies.gather(-2, labels.clamp_min(0).unsqueeze(-1).expand(*labels.shape, dim))
    embeddings[..., ::2, :] = near[..., ::2, :] + 0.1 * embeddings[..., ::2, :]
    return [tensor.requires_grad_() for tensor in (embeddings, proxies, bias)], labels


def loss_and_gradients(loss_function, leaves, labels, rule, **options):
    loss = loss_function(*leaves, labels, rule, **options)
    weights = torch.arange(1.0, loss.numel() + 1, dtype=loss.dtype).view(loss.shape)
    return loss.detach(), *torch.autograd.grad((weights * loss).sum(), leaves)


def assert_same(found, expected, tolerance: float):
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert (one - other).abs().max() <= tolerance * other.abs().max()


# -------------------------------------------------------------------------------------------- the sweep is the formula


@pytest.mark.parametrize("gradient", bm.GRADIENTS)
@pytest.mark.parametrize("kind", SWEPT)
@given(seed=seeds, chunk=st.integers(1, 12), exponent=st.sampled_from([1.0, 2.0, 2.5, 3.0, 4.0]))
@settings(max_examples=15, deadline=None)
def test_the_sweep_equals_the_formula(kind, gradient, seed, chunk, exponent):
    leaves, labels = batch(seed)
    rule = rule_of(kind, gradient=gradient, exponent=exponent)
    found = loss_and_gradients(bm.binary_loss, leaves, labels, rule, chunk=chunk)
    assert_same(found, loss_and_gradients(bm.plain_loss, leaves, labels, rule), 1e-12)


@pytest.mark.parametrize("kind", SWEPT)
def test_the_sweep_equals_the_formula_in_float32_at_training_size(kind):
    leaves, labels = batch(0, rows=64, dim=128, classes=3000, dtype=torch.float32)
    rule = rule_of(kind, scale=40.0)
    exact = loss_and_gradients(
        bm.plain_loss, [leaf.detach().double().requires_grad_() for leaf in leaves], labels, rule
    )
    for function in (bm.binary_loss, bm.plain_loss):
        assert_same(loss_and_gradients(function, leaves, labels, rule), exact, 3e-6)
    assert_same(
        loss_and_gradients(bm.binary_loss, leaves, labels, rule, chunk=100),
        loss_and_gradients(bm.plain_loss, leaves, labels, rule),
        3e-6,
    )


@pytest.mark.parametrize("lead", [(3,), (2, 3)])
@pytest.mark.parametrize("kind", bm.KINDS)
def test_leading_dimensions_are_independent_heads(kind, lead):
    leaves, labels = batch(1, lead)
    together = loss_and_gradients(bm.binary_loss, leaves, labels, rule_of(kind), chunk=4)
    assert_same(together, loss_and_gradients(bm.plain_loss, leaves, labels, rule_of(kind)), 1e-12)
    for place, index in enumerate(np.ndindex(*lead)):
        own = [leaf.detach()[index].clone().requires_grad_() for leaf in leaves]
        alone = loss_and_gradients(bm.binary_loss, own, labels[index], rule_of(kind))
        expected = (alone[0], *(gradient * (place + 1) for gradient in alone[1:]))
        assert_same([value[index] for value in together], expected, 1e-12)


def test_gradients_agree_with_finite_differences():
    (embeddings, proxies, bias), labels = batch(3, rows=5, dim=4, classes=6)
    for loss, options in ((bm.binary_loss, {"chunk": 4}), (bm.plain_loss, {})):
        for kind in ("C", "speech-A"):  # A and M stop the gradient of their margin on purpose

            def function(x, w, b, loss=loss, kind=kind, options=options):
                return loss(x, w, b, labels, rule_of(kind, scale=5.0), **options)

            if kind == "C" or loss is bm.plain_loss:
                assert torch.autograd.gradcheck(function, (embeddings, proxies, bias))


@pytest.mark.parametrize("kind", SWEPT)
def test_each_gradient_can_be_asked_for_alone(kind):
    leaves, labels = batch(4)
    rule = rule_of(kind)
    everything = loss_and_gradients(bm.plain_loss, leaves, labels, rule)
    for wanted in range(3):
        frozen = [leaf.detach().clone().requires_grad_(i == wanted) for i, leaf in enumerate(leaves)]
        loss = bm.binary_loss(*frozen, labels, rule, chunk=2)
        (gradient,) = torch.autograd.grad(loss, frozen[wanted])
        assert_same([loss.detach(), gradient], [everything[0], everything[1 + wanted]], 1e-12)


def test_evaluation_computes_no_gradient(monkeypatch):
    leaves, labels = batch(5)
    asked = []
    original = bm._sweep

    def spy(*arguments):
        loss, gradients = original(*arguments)
        asked.append([gradient is not None for gradient in gradients])
        return loss, gradients

    monkeypatch.setattr(bm, "_sweep", spy)
    with torch.no_grad():
        silent = bm.binary_loss(*leaves, labels, rule_of())
    recorded = bm.binary_loss(*leaves, labels, rule_of())
    assert asked == [[False] * 3, [True] * 3]
    assert silent == recorded
    assert not silent.requires_grad


def test_a_second_backward_pass_gives_the_same_and_leaves_the_first_alone():
    leaves, labels = batch(6)
    loss = bm.binary_loss(*leaves, labels, rule_of())
    first = torch.autograd.grad(3 * loss, leaves, retain_graph=True)
    kept = [gradient.clone() for gradient in first]
    second = torch.autograd.grad(loss, leaves)
    assert_same(first, kept, 0.0)
    assert_same([3 * gradient for gradient in second], kept, 1e-12)


def test_second_derivatives_are_refused_by_the_sweep_and_given_by_the_formula():
    leaves, labels = batch(7)
    with pytest.raises(RuntimeError, match="use plain_loss"):
        torch.autograd.grad(bm.binary_loss(*leaves, labels, rule_of()), leaves, create_graph=True)
    first = torch.autograd.grad(bm.plain_loss(*leaves, labels, rule_of()), leaves, create_graph=True)
    assert torch.isfinite(torch.autograd.grad(first[0].square().sum(), leaves[0])[0]).all()


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_the_loss_stays_in_full_precision_under_autocast(half):
    leaves, labels = batch(8, dim=32, dtype=torch.float32)
    for kind in ("C", "speech-A"):
        for loss in (bm.binary_loss, bm.plain_loss):
            expected = loss_and_gradients(loss, leaves, labels, rule_of(kind))
            with torch.autocast("cpu", dtype=half):
                found = loss(*leaves, labels, rule_of(kind))
            assert found.dtype == torch.float32
            assert_same([found.detach(), *torch.autograd.grad(found, leaves)], expected, 1e-6)
    assert bm.binary_loss(leaves[0].to(half), *leaves[1:], labels, rule_of()).dtype == torch.float32


# ---------------------------------------------------------------------------------- a sum over classes: shards, strangers


@pytest.mark.parametrize("kind", bm.KINDS)
@given(seed=seeds, cut=st.integers(1, 8))
@settings(max_examples=15, deadline=None)
def test_shards_of_classes_add_up_exactly(kind, seed, cut):
    leaves, labels = batch(seed)
    embeddings, proxies, bias = leaves
    whole = loss_and_gradients(bm.binary_loss, leaves, labels, rule_of(kind))
    parts = []
    for first, stop in ((0, cut), (cut, 9)):
        own = [embeddings, proxies.detach()[first:stop].clone().requires_grad_(), bias]
        parts.append(
            loss_and_gradients(bm.binary_loss, own, bm.shard_labels(labels, first, stop - first), rule_of(kind))
        )
    summed = [parts[0][i] + parts[1][i] for i in (0, 1, 3)]
    assert_same(summed, [whole[i] for i in (0, 1, 3)], 1e-12)
    assert_same([torch.cat([parts[0][2], parts[1][2]])], [whole[2]], 1e-12)


def test_a_softmax_cannot_be_cut_into_shards():
    (embeddings, proxies, _), _ = batch(9)
    labels = torch.tensor([0, 1, 2, 3, 4, 5, 6])
    logits = 16 * margins.cosines(embeddings, proxies)
    whole = functional.cross_entropy(logits, labels)
    halves = functional.cross_entropy(logits[:5, :5], labels[:5], reduction="sum")
    halves = halves + functional.cross_entropy(logits[5:, 5:], labels[5:] - 5, reduction="sum")
    assert abs(halves / 7 - whole) > 0.01 * whole


@pytest.mark.parametrize("kind", bm.KINDS)
@given(seed=seeds)
@settings(max_examples=15, deadline=None)
def test_renaming_the_classes_changes_nothing(kind, seed):
    leaves, labels = batch(seed)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(seed))
    renamed = torch.where(labels < 0, -1, torch.argsort(order)[labels])
    loss, grad_x, grad_w, grad_b = loss_and_gradients(bm.binary_loss, leaves, labels, rule_of(kind), chunk=4)
    shuffled = [leaves[0], leaves[1].detach()[order].requires_grad_(), leaves[2]]
    found = loss_and_gradients(bm.binary_loss, shuffled, renamed, rule_of(kind), chunk=4)
    assert_same(found, (loss, grad_x, grad_w[order], grad_b), 1e-12)


@pytest.mark.parametrize("kind", bm.KINDS)
def test_the_loss_by_hand_with_a_stranger(kind):
    rule = rule_of(kind, scale=3.0)
    c = {"own": 0.8, "other": -0.1, "one": 0.3, "two": 0.2}
    embeddings = torch.tensor([[0.8, -0.1, 0.591607978], [0.3, 0.2, 0.932737905]], dtype=torch.float64)
    proxies = torch.eye(3, dtype=torch.float64)[:2]
    m, bias = rule.margin, 0.4

    def g(cosine):
        return 2 * ((cosine + 1) / 2) ** 3 - 1

    def moved(cosine, sign):
        return math.cos(math.acos(cosine) + sign * m)

    theta = math.acos(0.8)
    positive = {
        "C": g(0.8) - m,
        "A": g(moved(0.8, 1)),
        "M": g(math.cos(m * theta)),
        "speech-A": g(moved(0.8, 1)),
    }[kind]
    negatives = [{"C": g(x) + m, "speech-A": g(moved(x, -1))}.get(kind, g(x)) for x in (c["other"], c["one"], c["two"])]
    terms = 0.7 * math.log1p(math.exp(-3 * positive - bias))
    terms += sum(0.3 * math.log1p(math.exp(3 * n + bias)) for n in negatives)
    for loss in (bm.binary_loss, bm.plain_loss):
        found = loss(embeddings, proxies, torch.tensor(bias, dtype=torch.float64), torch.tensor([0, -1]), rule)
        assert found.item() == pytest.approx(10 / 3 * terms / 2, rel=1e-8)


def test_strangers_alone_push_every_class_away():
    leaves, labels = batch(10)
    _, grad_x, _, grad_b = loss_and_gradients(bm.binary_loss, leaves, torch.full_like(labels, -1), rule_of())
    assert grad_b > 0
    cosine = margins.cosines(leaves[0], leaves[1]).detach().requires_grad_()
    logits = bm.binary_logits(cosine, torch.full_like(labels, -1), leaves[2].detach(), rule_of())
    bm.loss_of_logits(logits, torch.full_like(labels, -1), rule_of()).backward()
    assert (cosine.grad > 0).all()
    assert torch.isfinite(grad_x).all()


# ------------------------------------------------------------------------------------------------ slopes and monotony


@pytest.mark.parametrize("kind", SWEPT)
def test_slopes_are_0_three_quarters_and_3_through_g_and_1_straight(kind):
    cosine = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64, requires_grad=True)
    for gradient, expected in (("through", [0.0, 0.75, 3.0]), ("straight", [1.0, 1.0, 1.0])):
        rule = rule_of(kind, gradient=gradient)
        for similarity in (bm.positive_similarity, bm.negative_similarity):
            (slope,) = torch.autograd.grad(similarity(cosine, rule).sum(), cosine)
            assert slope.tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("clamp", bm.CLAMPS)
@pytest.mark.parametrize("kind", bm.KINDS)
def test_values_and_slopes_are_finite_at_the_exact_poles_and_just_beyond(kind, clamp, dtype):
    for exponent in (1.0, 2.5, 3.0):
        rule = rule_of(kind, clamp=clamp, exponent=exponent)
        cosine = torch.tensor([1.0, -1.0, 1 + 1e-6, -1 - 1e-6], dtype=dtype, requires_grad=True)
        for similarity in (bm.positive_similarity, bm.negative_similarity):
            value = similarity(cosine, rule)
            (slope,) = torch.autograd.grad(value.sum(), cosine)
            assert torch.isfinite(value).all()
            assert torch.isfinite(slope).all()


@pytest.mark.parametrize("kind", bm.KINDS)
def test_a_whole_batch_on_the_poles_has_finite_gradients(kind):
    proxies = torch.eye(3)
    embeddings = torch.cat([proxies, -proxies])
    leaves = [tensor.clone().requires_grad_() for tensor in (embeddings, proxies, torch.tensor(0.5))]
    for value in loss_and_gradients(bm.binary_loss, leaves, torch.tensor([0, 1, 2, 0, 1, 2]), rule_of(kind)):
        assert torch.isfinite(value).all()


@pytest.mark.parametrize("kind", bm.KINDS)
@given(cosine=cosines, other=cosines)
@settings(deadline=None)
def test_the_loss_never_rises_with_the_target_cosine(kind, cosine, other):
    low, high = sorted((cosine, other))
    labels, bias = torch.zeros(2, dtype=torch.long), torch.tensor(0.3, dtype=torch.float64)
    points = torch.tensor([[low, 0.1], [high, 0.1]], dtype=torch.float64)
    logits = bm.binary_logits(points, labels, bias, rule_of(kind))
    losses = [bm.loss_of_logits(logits[i : i + 1], labels[:1], rule_of(kind)) for i in (0, 1)]
    assert losses[1] <= losses[0] + 1e-6
    assert logits[0, 1] == logits[1, 1]


@pytest.mark.parametrize("kind", SWEPT)
@given(cosine=cosines, other=cosines)
@settings(deadline=None)
def test_the_loss_never_falls_with_another_classs_cosine(kind, cosine, other):
    low, high = torch.tensor(sorted((cosine, other)), dtype=torch.float64)
    rule = rule_of(kind)
    assert bm.negative_similarity(high, rule) >= bm.negative_similarity(low, rule)


@given(cosine=st.floats(-0.99, 0.99), more=st.floats(0.0, 0.4))
@settings(deadline=None)
def test_a_larger_margin_makes_the_target_harder(cosine, more):
    point = torch.tensor(cosine, dtype=torch.float64)
    for kind in bm.KINDS:
        small, large = rule_of(kind), rule_of(kind, margin=MARGINS[kind] + more)
        assert bm.positive_similarity(point, large) <= bm.positive_similarity(point, small) + 1e-12


@given(cosine=cosines, exponent=st.floats(1, 6))
def test_the_adjustment_maps_the_range_onto_itself_and_can_be_undone(cosine, exponent):
    value = bm.adjusted_similarity(torch.tensor(cosine, dtype=torch.float64), exponent).item()
    assert -1 <= value <= cosine + 1e-12
    if cosine > -0.9:
        assert bm.original_cosine(value, exponent) == pytest.approx(cosine, abs=1e-9)


def test_the_adjustment_by_hand():
    values = bm.adjusted_similarity(torch.tensor([-1.0, 0.0, 1.0]), 3.0)
    assert values.tolist() == [-1.0, -0.75, 1.0]
    assert math.isnan(bm.original_cosine(1.2, 3.0))


def test_the_speaker_version_continues_straight_and_joins_up():
    rule = rule_of("speech-A", margin=0.4, exponent=1.0)
    far = torch.tensor(-0.99, dtype=torch.float64)
    assert bm.positive_similarity(far, rule).item() == pytest.approx(-0.99 - (1 + math.cos(math.pi - 0.4)))
    seam = math.cos(math.pi - 0.4)
    around = torch.tensor([seam - 1e-9, seam + 1e-9], dtype=torch.float64)
    below, above = bm.positive_similarity(around, rule)
    assert abs(above - -1) < 1e-7
    assert below == pytest.approx(-1 + math.cos(0.4) - math.cos(0.4), abs=1e-6)


@pytest.mark.parametrize("scale", [100.0, 500.0])
def test_large_scales_do_not_overflow(scale):
    leaves, labels = batch(11, dtype=torch.float32)
    for loss in (bm.binary_loss, bm.plain_loss):
        for value in loss_and_gradients(loss, leaves, labels, rule_of(scale=scale, margin=0.9)):
            assert torch.isfinite(value).all()


# ---------------------------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "B"}, "kind: expected one of C, A, M, speech-A; found 'B'"),
        ({"gradient": "none"}, "gradient: expected one of through, straight"),
        ({"clamp": "v1"}, "clamp: expected one of v0, iclr, none"),
        ({"margin": 1.0}, r"margin: C expects a value in \[0, 1\)"),
        ({"kind": "A", "margin": 3.2}, "margin: A expects"),
        ({"kind": "M", "margin": 0.9}, r"margin: M expects a value in \[1, inf\)"),
        ({"margin": math.nan}, "margin: C expects"),
        ({"balance": 1.0}, "balance: expected a share between 0 and 1"),
        ({"exponent": 0.5}, "exponent: expected at least 1"),
        ({"scale": 0.0}, "scale: expected a positive number, found 0.0"),
        ({"loss_weight": -1.0}, "loss_weight: expected a positive number"),
        ({"kind": "speech-A", "gradient": "straight"}, "speech-A exists with gradient='through' only"),
    ],
)
def test_wrong_settings_are_named(options, message):
    values = {"kind": "C", "margin": 0.3, "scale": 20.0, "balance": 0.7, "exponent": 3.0, "loss_weight": 10.0}
    with pytest.raises(ValueError, match=message):
        bm.BinaryMargin(**{**values, **options})


def test_inputs_that_cannot_be_right_are_named_and_strangers_are_right():
    (embeddings, proxies, _), labels = batch(12)
    bm.check_inputs(embeddings, proxies, labels.clone().fill_(-1))
    for arguments, message in [
        ((embeddings, proxies, labels.clone().fill_(-2)), r"labels: expected -1 \(none of the classes\).*found -2"),
        ((embeddings, proxies, labels.clone().fill_(9)), r"values in \[0, 8\], found \[9, 9\]"),
        ((embeddings * math.nan, proxies, labels), "7 of 7 rows hold NaN"),
        ((embeddings[:0], proxies, labels[:0]), "batch is empty"),
        ((embeddings[:, :4], proxies, labels), "width 4 does not match the proxies' 6"),
    ]:
        with pytest.raises(ValueError, match=message):
            bm.check_inputs(*arguments)


def test_shard_labels_by_hand():
    assert bm.shard_labels(torch.tensor([0, 3, 4, 6, -1, 7]), 3, 4).tolist() == [-1, 0, 1, 3, -1, -1]
