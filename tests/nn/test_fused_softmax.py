"""The blockwise margin softmax against the plain one: losses, gradients, gradients of gradients, block edges, poles, memory, faults."""

from __future__ import annotations

import dataclasses
import json
import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from paper_utils.methods import sphereface_r as sfr
from paper_utils.nn import fused_softmax, margins

FUNCTIONS = {
    "normface": (None, None),
    "cosface": (partial(margins.cosface, margin=0.35), None),
    "arcface": (partial(margins.arcface, margin=0.5), None),
    "v0": (partial(margins.sphereface, margin=1.7), None),
    "v1": (partial(margins.sphereface_r_v1, margin=1.5), None),
    "v2": (margins.clamped_cosine, fused_softmax.RaisedCosine(1.4)),
}
MARGINS = {"softmax": 0.0, "normface": 0.0, "cosface": 0.35, "arcface": 0.5, "v0": 1.7, "v1": 1.5, "v2": 1.4}


def batch(seed: int = 0, *, rows: int = 12, dim: int = 7, classes: int = 9, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(rows, dim, generator=generator, dtype=torch.float64)
    proxies = functional.normalize(torch.randn(classes, dim, generator=generator, dtype=torch.float64), dim=-1)
    labels = torch.randint(classes, (rows,), generator=generator)
    return embeddings.to(dtype), proxies.to(dtype), labels


def plain(embeddings, proxies, labels, *, psi=None, eta=None, scale=1.0, detach=True):
    rho = scale.unsqueeze(1) if isinstance(scale, torch.Tensor) else scale
    cosine = margins.cosines(embeddings, proxies)
    return margins.cross_entropy(rho * margins.margin_cosines(cosine, labels, psi, eta, detach=detach), labels)


def graded(function, embeddings, proxies, labels, **options):
    """Loss and both gradients."""
    x, w = embeddings.clone().requires_grad_(), proxies.clone().requires_grad_()
    loss = function(x, w, labels, **options)
    return loss.detach(), *torch.autograd.grad(loss, (x, w))


def assert_near(found, expected, tolerance, *, rounding=0.0):
    """Relative to the largest entry; `rounding` is what 1 - P leaves of a gradient when a sample is all but certain."""
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        assert (one - other).abs().max() <= tolerance * other.abs().max() + rounding


# ----------------------------------------------------------------------------------------------- same as the plain head


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 3e-6)])
@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("normalization", ["HFN", "NFN", "SFN"])
@pytest.mark.parametrize("psi", sfr.HEADS)
def test_a_head_alone_equals_the_same_head_as_the_only_one_of_several(psi, normalization, detach, dtype, tolerance):
    grows = psi in sfr.MULTIPLICATIVE and normalization != "HFN"
    config = sfr.HeadConfig(psi, MARGINS[psi], normalization, scale=12.0, detach=detach, energy_weight=0.1)
    config = dataclasses.replace(config, growth_steps=(0, 5), growth=0.4) if grows else config
    embeddings, _, labels = batch(3, dtype=dtype)
    results = []
    for seed in (0, [0]):  # the second has a leading dimension and goes through autograd
        head = sfr.Head(7, 9, config, seed=seed).to(dtype)
        if psi == "softmax":
            torch.nn.init.normal_(head.bias, generator=torch.Generator().manual_seed(1))
        x = embeddings.clone().requires_grad_()
        several = isinstance(seed, list)
        loss = head(x.unsqueeze(0), labels.unsqueeze(0)) if several else head(x, labels)
        loss.sum().backward()
        kept = [loss.detach(), x.grad, *(p.grad for p in head.parameters()), *(p.detach() for p in head.parameters())]
        results.append([value.squeeze(0) if several and value is not x.grad else value for value in kept])
    assert_near(*results, tolerance)


@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("name", FUNCTIONS)
@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(1, 9),
    classes=st.integers(2, 40),
    block=st.integers(1, 45),
    scale=st.floats(0.1, 80.0),
)
@settings(max_examples=20, deadline=None)
def test_the_cut_into_blocks_changes_nothing(name, detach, seed, rows, classes, block, scale):
    psi, eta = FUNCTIONS[name]
    inputs = batch(seed, rows=rows, classes=classes)
    options = {"psi": psi, "eta": eta, "scale": scale, "detach": detach}
    found = graded(fused_softmax.margin_cross_entropy, *inputs, **options, block=block)
    rounding = 8 * scale * torch.finfo(torch.float64).eps
    assert_near(found, graded(plain, *inputs, **options), 1e-10, rounding=rounding)


@pytest.mark.parametrize("labels", [[0, 0, 0], [8, 8, 4], [3, 4, 3], [2, 3, 8]])
def test_targets_at_block_edges_and_blocks_without_any(labels):
    embeddings, proxies, _ = batch(5, rows=3)
    inputs = (embeddings, proxies, torch.tensor(labels))
    for name in ("v1", "v2"):
        psi, eta = FUNCTIONS[name]
        options = {"psi": psi, "eta": eta, "scale": 20.0}
        for block in (1, 3, 4, 8, 9, None):
            found = graded(fused_softmax.margin_cross_entropy, *inputs, **options, block=block)
            assert_near(found, graded(plain, *inputs, **options), 1e-11)


@pytest.mark.parametrize("eta", [None, fused_softmax.RaisedCosine(1.4)])
@pytest.mark.parametrize("detach", [True, False])
def test_a_scale_of_each_sample_has_its_gradient(eta, detach):
    embeddings, proxies, labels = batch(6)
    psi = FUNCTIONS["v0"][0]
    found = []
    for function in (partial(fused_softmax.margin_cross_entropy, block=4), plain):
        scale = torch.linspace(3.0, 30.0, len(labels), dtype=torch.float64).requires_grad_()
        function(embeddings, proxies, labels, psi=psi, eta=eta, scale=scale, detach=detach).backward()
        found.append(scale.grad)
    assert_near(found[:1], found[1:], 1e-11)


def test_logits_of_any_size_neither_overflow_nor_vanish():
    embeddings, proxies, labels = batch(7)
    for scale in (1e-3, 1e3, 1e6):
        found = graded(fused_softmax.margin_cross_entropy, embeddings, proxies, labels, scale=scale, block=2)
        assert_near(found, graded(plain, embeddings, proxies, labels, scale=scale), 1e-10)
        single = graded(
            fused_softmax.margin_cross_entropy, embeddings.float(), proxies.float(), labels, scale=scale, block=2
        )
        assert all(torch.isfinite(value).all() for value in single)


def test_the_loss_of_a_nearly_certain_sample_keeps_its_digits():
    proxies = torch.eye(3, 3)
    loss = fused_softmax.margin_cross_entropy(proxies[:1], proxies, torch.tensor([0]), scale=14.0, block=1)
    assert loss.item() == pytest.approx(math.log1p(2 * math.exp(-14)), rel=0.05)


@pytest.mark.parametrize("rate", ["0.3", "1.0"])
@pytest.mark.parametrize("kind", ["arc", "cos"])
def test_softmax_over_a_subset_of_classes_matches_partial_fc(reference, kind, rate):
    stored = np.load(reference / "sphereface" / "partial_fc" / f"pfc_{kind}_rate{rate}.npz")
    hp = json.loads(str(stored["hp"]))
    embeddings = torch.tensor(stored["x"], requires_grad=True)
    proxies = torch.tensor(stored["w"], requires_grad=True)
    kept = torch.tensor(stored["weight_index"])
    labels = torch.searchsorted(kept, torch.tensor(stored["y"]))
    arc, cos = partial(margins.arcface, margin=hp["m_arc"], eps=0.0), partial(margins.cosface, margin=hp["m_cos"])
    loss = fused_softmax.margin_cross_entropy(
        embeddings,
        functional.normalize(proxies[kept], dim=-1),
        labels,
        psi=arc if kind == "arc" else cos,
        scale=hp["s"],
        floor=1e-30,
        block=32,
    )
    loss.backward()
    for found, name in ((loss, "loss"), (embeddings.grad, "grad_x"), (proxies.grad, "grad_w")):
        assert np.abs(found.detach().numpy() - stored[name]).max() < 2e-5 * np.abs(stored[name]).max()


def test_sampled_classes_alone_get_a_gradient():
    embeddings, proxies, labels = batch(8, classes=60)
    proxies.requires_grad_()
    kept, among = margins.sample_classes(labels, 60, 0.4, torch.Generator().manual_seed(0))
    fused_softmax.margin_cross_entropy(embeddings, proxies[kept], among, scale=8.0).backward()
    touched = proxies.grad.abs().sum(1).nonzero().squeeze(1)
    assert touched.equal(kept)


# --------------------------------------------------------------------------------------------------- cos(theta / m) fast


@given(margin=st.floats(1.0, 50.0))
@settings(max_examples=60, deadline=None)
def test_the_series_for_v2_is_exact_to_rounding_over_the_whole_range(margin):
    poles = torch.logspace(-9, -1, 400, dtype=torch.float64)
    cosine = torch.cat([torch.linspace(-1, 1, 4001, dtype=torch.float64), poles - 1, 1 - poles]).float()
    eta = fused_softmax.RaisedCosine(margin)
    exact = torch.cos(torch.arccos(cosine.clamp(-1 + 1e-5, 1 - 1e-5).double()) / margin)
    assert (eta.fast(cosine) - exact).abs().max() < 4e-7
    series = np.polynomial.Polynomial(fused_softmax._raised_series(margin)[::-1])
    theta = np.linspace(0, math.pi, 2001)
    assert np.abs(series(math.sqrt(2) * (np.cos(theta / 2) - 1)) - np.cos(theta / margin)).max() < 2e-8


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("margin", [1.0, 1.4, 2.0, 7.0])
def test_the_slope_of_v2_is_that_of_autograd_and_zero_at_the_poles(margin, dtype):
    cosine = torch.cat([torch.linspace(-0.9999, 0.9999, 2001), torch.tensor([-1.0, 1.0])]).to(dtype)
    eta, tracked = fused_softmax.RaisedCosine(margin), cosine.clone().requires_grad_()
    (expected,) = torch.autograd.grad(eta(tracked).sum(), tracked)
    torch.testing.assert_close(eta.slope(cosine), expected, rtol=1e-4 if dtype == torch.float32 else 1e-12, atol=0)
    assert eta.slope(cosine)[-2:].abs().sum() == 0


def test_whole_margins_give_the_textbook_polynomials():
    assert len(fused_softmax._raised_series(2.0)) == 2  # half angle: linear in cos(theta/2)
    assert len(fused_softmax._raised_series(1.0)) == 3  # theta itself: 2 cos^2(theta/2) - 1
    with pytest.raises(ValueError, match="v2 expects"):
        fused_softmax.RaisedCosine(0.5)


# ---------------------------------------------------------------------------------------------------------- derivatives


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_and_gradients_of_gradients_agree_with_finite_differences(name):
    psi, eta = FUNCTIONS[name]
    embeddings, proxies, labels = batch(4, rows=3, dim=4, classes=5)
    scale = torch.tensor([2.0, 4.0, 3.0], dtype=torch.float64)

    def loss(x, w, rho):
        return fused_softmax.margin_cross_entropy(
            x, w, labels, psi=psi, eta=eta, scale=rho, detach=False, floor=1e-30, block=2
        )

    inputs = tuple(tensor.requires_grad_() for tensor in (embeddings, proxies, scale))
    assert torch.autograd.gradcheck(loss, inputs)
    assert torch.autograd.gradgradcheck(loss, inputs)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_gradient_penalty_through_a_detached_head_is_that_of_the_plain_one(name):
    psi, eta = FUNCTIONS[name]
    embeddings, proxies, labels = batch(9)
    found = []
    for function in (fused_softmax.margin_cross_entropy, plain):
        x, w = embeddings.clone().requires_grad_(), proxies.clone().requires_grad_()
        (slope,) = torch.autograd.grad(function(x, w, labels, psi=psi, eta=eta, scale=9.0), x, create_graph=True)
        slope.square().sum().backward()
        found.append((x.grad, w.grad))
    assert_near(*found, 1e-10)


def test_softmax_with_bias_has_right_derivatives_of_both_orders():
    embeddings, weights, labels = batch(4, rows=3, dim=4, classes=5)
    bias = torch.linspace(-1, 1, 5, dtype=torch.float64)
    inputs = tuple(tensor.requires_grad_() for tensor in (embeddings, weights, bias))
    loss = lambda x, w, b: fused_softmax.softmax_cross_entropy(x, w, b, labels, block=2)  # noqa: E731
    assert torch.autograd.gradcheck(loss, inputs)
    assert torch.autograd.gradgradcheck(loss, inputs)


def test_the_graph_may_be_walked_twice():
    embeddings, proxies, labels = batch()
    proxies.requires_grad_()
    loss = fused_softmax.margin_cross_entropy(embeddings, proxies, labels, scale=9.0, block=4)
    first, second = (torch.autograd.grad(loss, proxies, retain_graph=True)[0] for _ in range(2))
    assert first.equal(second)


@pytest.mark.parametrize("name", ["arcface", "v2"])
def test_frozen_inputs_get_no_gradient_and_the_others_stay_right(name):
    psi, eta = FUNCTIONS[name]
    embeddings, proxies, labels = batch(2)
    _, for_x, for_w = graded(plain, embeddings, proxies, labels, psi=psi, eta=eta, scale=5.0)
    x = embeddings.clone().requires_grad_()
    fused_softmax.margin_cross_entropy(x, proxies, labels, psi=psi, eta=eta, scale=5.0).backward()
    w = proxies.clone().requires_grad_()
    fused_softmax.margin_cross_entropy(embeddings, w, labels, psi=psi, eta=eta, scale=5.0).backward()
    assert_near((x.grad, w.grad), (for_x, for_w), 1e-10)
    assert proxies.grad is embeddings.grad is None


@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_exact_poles_are_finite_and_as_in_the_plain_head(name, detach, dtype, tolerance):
    psi, eta = FUNCTIONS[name]
    proxies = torch.eye(4, dtype=dtype)
    embeddings = torch.cat([2 * proxies, -3 * proxies])
    inputs = (embeddings, proxies, torch.arange(4).repeat(2))
    options = {"psi": psi, "eta": eta, "scale": 10.0, "detach": detach}
    found = graded(fused_softmax.margin_cross_entropy, *inputs, **options, block=3)
    assert all(torch.isfinite(value).all() for value in found)
    assert_near(found, graded(plain, *inputs, **options), tolerance)


def test_an_embedding_of_length_zero_is_finite_with_a_free_length():
    embeddings, _, labels = batch(1)
    embeddings[2] = 0.0
    x = embeddings.requires_grad_()
    head = sfr.Head(7, 9, sfr.HeadConfig("v1", 1.5, "NFN", loss_weight=1.0), seed=0).double()
    loss = head(x, labels)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(x.grad).all()


# ---------------------------------------------------------------------------------------------------- memory, precision


@pytest.mark.parametrize("name", FUNCTIONS)
def test_one_array_of_batch_times_classes_is_kept_and_none_without_gradients(name, monkeypatch):
    psi, eta = FUNCTIONS[name]
    embeddings, proxies, labels = batch(rows=16, dim=3, classes=50)
    kept = []

    def pack(tensor):
        kept.append(tensor.numel())
        return tensor

    options = {"psi": psi, "eta": eta, "scale": 4.0}
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = fused_softmax.margin_cross_entropy(embeddings, proxies.requires_grad_(), labels, **options)
    assert [size for size in kept if size > proxies.numel()] == [16 * 50]
    monkeypatch.setattr(fused_softmax._MarginCrossEntropy, "apply", None)  # it would be an error to call it
    with torch.no_grad():
        torch.testing.assert_close(fused_softmax.margin_cross_entropy(embeddings, proxies, labels, **options), loss)
    free = fused_softmax.margin_cross_entropy(embeddings, proxies.detach(), labels, **options, block=7)
    assert not free.requires_grad


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("psi", ["softmax", "arcface", "v2"])
def test_a_head_computes_in_full_precision_under_autocast(psi, half):
    embeddings, _, labels = batch(dtype=torch.float32)
    results = []
    for cast in (False, True):
        head = sfr.Head(7, 9, sfr.HeadConfig(psi, MARGINS[psi], scale=30.0), seed=0)
        x = embeddings.clone().requires_grad_()
        with torch.autocast("cpu", dtype=half, enabled=cast):
            loss = head(x, labels)
            loss.backward()
        results.append((loss.detach(), x.grad, head.proxies.grad))
    assert_near(*results, 1e-7)
    stored = fused_softmax.margin_cross_entropy(embeddings.to(half), head.proxies.detach().to(half), labels, scale=30.0)
    assert stored.dtype == torch.float32


# --------------------------------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize("wrong", [-1, 9])
def test_labels_out_of_range_are_named_also_without_the_strict_checks(wrong):
    embeddings, proxies, labels = batch()
    labels[3] = wrong
    with pytest.raises(ValueError, match=rf"labels: expected values in \[0, 8\], found \[.*{wrong}"):
        fused_softmax.margin_cross_entropy(embeddings, proxies, labels)
    with pytest.raises(ValueError, match=r"labels: expected values in \[0, 8\]"):
        sfr.Head(7, 9, sfr.HeadConfig(), seed=0, strict=False).double()(embeddings, labels)


def test_inputs_that_do_not_fit_are_named():
    embeddings, proxies, labels = batch()
    function = fused_softmax.margin_cross_entropy
    unchecked = getattr(function, "__wrapped__", function)  # as users have it, without run-time types
    for message, arguments in {
        "at least 2 classes, found 1": (embeddings, proxies[:1], labels),
        "width 7 does not match the proxies' 5": (embeddings, proxies[:, :5].contiguous(), labels),
        "batch is empty": (embeddings[:0], proxies, labels[:0]),
    }.items():
        with pytest.raises(ValueError, match=message):
            unchecked(*arguments)
    with pytest.raises(ValueError, match="at least 1 class at a time, found 0"):
        fused_softmax.margin_cross_entropy(embeddings, proxies, labels, block=0)


def test_a_diverged_head_without_strict_checks_gives_nan():
    embeddings, _, labels = batch()
    head = sfr.Head(7, 9, sfr.HeadConfig(), seed=0, strict=False).double()
    assert torch.isnan(head(embeddings * math.nan, labels))
