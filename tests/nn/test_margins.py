"""Angular functions, gradient conventions and head building blocks against reference arrays, and their properties."""

from __future__ import annotations

import json
import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from paper_utils.nn import margins

FUNCTIONS = {
    "cosface": partial(margins.cosface, margin=0.35),
    "arcface": partial(margins.arcface, margin=0.5),
    "v0": partial(margins.sphereface, margin=1.5),
    "v1": partial(margins.sphereface_r_v1, margin=1.5),
    "v2": partial(margins.sphereface_r_v2, margin=1.5),
}
angles = st.floats(0.01, math.pi - 0.01)


def relative_error(found: torch.Tensor, expected: np.ndarray) -> float:
    return float(np.abs(found.detach().numpy() - expected).max() / np.abs(expected).max())


def batch(seed: int = 0, lead: tuple[int, ...] = (), rows: int = 6, dim: int = 5, classes: int = 4):
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(*lead, rows, dim, generator=generator, dtype=torch.float64)
    proxies = functional.normalize(torch.randn(*lead, classes, dim, generator=generator, dtype=torch.float64), dim=-1)
    return embeddings, proxies, torch.randint(classes, (*lead, rows), generator=generator)


# ------------------------------------------------------------------------------------------------ reference arrays


@pytest.mark.parametrize("case", ["random", "clustered", "edge"])
@pytest.mark.parametrize("head", ["normface", "cosface", "arcface", "sphereface"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-8), (torch.float32, 2e-5)])
def test_detached_heads_match_the_official_loss_logits_and_gradients(reference, head, case, dtype, tolerance):
    stored = np.load(reference / "sphereface" / "heads" / f"{head}__{case}.npz")
    hp, suffix = json.loads(str(stored["hp"])), "f64" if dtype == torch.float64 else "f32"
    embeddings = torch.tensor(stored["x"], dtype=dtype, requires_grad=True)
    proxies = torch.tensor(stored["w"].T.copy(), dtype=dtype, requires_grad=True)
    labels = torch.tensor(stored["y"])
    psi = {
        "normface": None,
        "cosface": lambda c: margins.cosface(c, hp["m"]),
        "arcface": lambda c: margins.arcface(c, hp["m"]),
        "sphereface": lambda c: margins.sphereface(c, hp["m"]),
    }[head]
    margins.make_unit_(proxies)
    logits = hp["s"] * margins.margin_cosines(margins.cosines(embeddings, proxies), labels, psi)
    loss = margins.cross_entropy(logits, labels)
    loss.backward()
    for name, found in {
        "loss": loss,
        "logits": logits,
        "grad_x": embeddings.grad,
        "grad_w": proxies.grad.T,
        "w_after": proxies.T,
    }.items():
        assert relative_error(found, stored[f"{name}_{suffix}"]) < tolerance, name


@pytest.mark.parametrize("case", ["random", "clustered", "edge"])
@pytest.mark.parametrize("head", ["pml_arcface", "pml_sphereface"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-8), (torch.float32, 2e-5)])
def test_undetached_heads_match_an_independent_library(reference, head, case, dtype, tolerance):
    stored = np.load(reference / "sphereface" / "heads" / f"{head}__{case}.npz")
    hp, suffix = json.loads(str(stored["hp"])), "f64" if dtype == torch.float64 else "f32"
    embeddings = torch.tensor(stored["x"], dtype=dtype, requires_grad=True)
    proxies = torch.tensor(stored["w"].T.copy(), dtype=dtype, requires_grad=True)
    labels = torch.tensor(stored["y"])
    if head == "pml_arcface":
        psi = partial(margins.arcface, margin=math.radians(hp["margin_degrees"]), beyond="linear", eps=0.0)
        rho = hp["scale"]
    else:
        psi = partial(margins.sphereface, margin=hp["margin"], eps=0.0)
        rho = hp["scale"] * embeddings.norm(dim=-1, keepdim=True)
    cosine = margins.cosines(embeddings, functional.normalize(proxies, dim=-1))
    logits = rho * margins.margin_cosines(cosine, labels, psi, detach=False)
    loss = margins.cross_entropy(logits, labels)
    loss.backward()
    for name, found in {"loss": loss, "logits": logits, "grad_x": embeddings.grad, "grad_w": proxies.grad.T}.items():
        assert relative_error(found, stored[f"{name}_{suffix}"]) < tolerance, name


@pytest.mark.parametrize("rate", ["0.3", "1.0"])
@pytest.mark.parametrize("kind", ["arc", "cos"])
def test_softmax_over_a_subset_of_classes_matches_partial_fc(reference, kind, rate):
    stored = np.load(reference / "sphereface" / "partial_fc" / f"pfc_{kind}_rate{rate}.npz")
    hp = json.loads(str(stored["hp"]))
    embeddings = torch.tensor(stored["x"], requires_grad=True)
    proxies = torch.tensor(stored["w"], requires_grad=True)
    kept = torch.tensor(stored["weight_index"])
    labels = torch.searchsorted(kept, torch.tensor(stored["y"]))
    psi = (
        partial(margins.arcface, margin=hp["m_arc"], eps=0.0)
        if kind == "arc"
        else partial(margins.cosface, margin=hp["m_cos"])
    )
    cosine = margins.cosines(embeddings, functional.normalize(proxies[kept], dim=-1))
    loss = margins.cross_entropy(hp["s"] * margins.margin_cosines(cosine, labels, psi), labels, floor=1e-30)
    loss.backward()
    assert relative_error(loss, stored["loss"]) < 2e-5
    assert relative_error(embeddings.grad, stored["grad_x"]) < 2e-5
    assert relative_error(proxies.grad, stored["grad_w"]) < 2e-5


# ------------------------------------------------------------------------------------------------------ properties


@given(theta=angles, further=st.floats(0.001, 0.5), margin=st.floats(1.0, 5.0))
def test_target_functions_never_rise_with_the_angle(theta, further, margin):
    near, far = torch.cos(torch.tensor([theta, min(theta + further, math.pi)], dtype=torch.float64))
    for function in (margins.sphereface, margins.sphereface_r_v1, margins.sphereface_r_v2):
        assert function(near, margin) >= function(far, margin) - 1e-12


@given(theta=angles, margin=st.floats(1.0, 5.0), wider=st.floats(0.0, 2.0))
def test_a_larger_margin_lowers_the_target_and_lifts_the_others(theta, margin, wider):
    cosine = torch.cos(torch.tensor(theta, dtype=torch.float64))
    for function in (margins.sphereface, margins.sphereface_r_v1):
        assert function(cosine, margin + wider) <= function(cosine, margin) + 1e-12
    assert margins.sphereface_r_v2(cosine, margin + wider) >= margins.sphereface_r_v2(cosine, margin) - 1e-12


@given(margin=st.floats(1.0, 5.0), multiple=st.integers(1, 4))
def test_sphereface_is_continuous_where_its_pieces_meet(margin, multiple):
    seam = multiple * math.pi / margin
    if seam < math.pi - 0.02:
        around = torch.cos(torch.tensor([seam - 1e-7, seam + 1e-7], dtype=torch.float64))
        below, above = margins.sphereface(around, margin)
        assert abs(below - above) < 1e-5
        assert below == pytest.approx(1 - 2 * multiple, abs=1e-5)


def test_sphereface_with_integer_margin_is_the_polynomial_of_the_first_paper():
    cosine = torch.linspace(-0.999, 0.999, 401, dtype=torch.float64)
    fourth = 8 * cosine**4 - 8 * cosine**2 + 1  # cos(4 theta)
    k = torch.floor(4 * torch.arccos(cosine) / math.pi)
    torch.testing.assert_close(margins.sphereface(cosine, 4), (-1) ** k * fourth - 2 * k)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_agree_with_finite_differences_away_from_seams(name):
    cosine = torch.tensor([-0.93, -0.4, 0.13, 0.71, 0.95], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(FUNCTIONS[name], cosine)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("eps", [1e-5, 0.0])
@pytest.mark.parametrize("name", ["arcface", "v0", "v1", "v2"])
def test_values_and_gradients_are_finite_at_the_exact_poles(name, eps, dtype):
    cosine = torch.tensor([1.0, -1.0, 1 + 1e-6, -1 - 1e-6], dtype=dtype, requires_grad=True)
    value = FUNCTIONS[name](cosine, eps=eps)
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert torch.isfinite(cosine.grad).all()


def test_arcface_beyond_pi_stays_or_goes_on_and_refuses_other_words():
    cosine = torch.cos(torch.tensor([2.9], dtype=torch.float64))
    assert margins.arcface(cosine, 0.5).item() == pytest.approx(-1, abs=1e-6)
    assert margins.arcface(cosine, 0.5, beyond="linear").item() == pytest.approx(cosine.item() - 0.5 * math.sin(0.5))
    with pytest.raises(ValueError, match="'clip' or 'linear', found 'wrap'"):
        margins.arcface(cosine, 0.5, beyond="wrap")


@given(seed=st.integers(0, 1000))
@settings(max_examples=30)
def test_detachment_keeps_the_value_and_replaces_the_gradient_by_that_of_the_cosine(seed):
    embeddings, proxies, labels = batch(seed)
    for psi, eta in ((FUNCTIONS["v0"], None), (FUNCTIONS["v1"], None), (margins.clamped_cosine, FUNCTIONS["v2"])):
        cosine = margins.cosines(embeddings, proxies).requires_grad_()
        full = margins.margin_cosines(cosine, labels, psi, eta, detach=False)
        plain = margins.margin_cosines(cosine, labels, psi, eta, detach=True)
        torch.testing.assert_close(full, plain)
        pattern = torch.rand(plain.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        (gradient,) = torch.autograd.grad((pattern * plain).sum(), cosine)
        torch.testing.assert_close(gradient, pattern)


@given(seed=st.integers(0, 1000), factor=st.floats(0.01, 100))
@settings(max_examples=30)
def test_cosines_ignore_lengths(seed, factor):
    embeddings, proxies, _ = batch(seed)
    torch.testing.assert_close(margins.cosines(factor * embeddings, proxies), margins.cosines(embeddings, proxies))
    raw = factor * proxies
    margins.make_unit_(raw)
    torch.testing.assert_close(raw, proxies)


def test_the_gradient_of_overwritten_proxies_keeps_its_radial_part():
    embeddings, proxies, labels = batch()
    proxies = (3 * proxies).requires_grad_()
    margins.make_unit_(proxies)
    margins.cross_entropy(8 * margins.cosines(embeddings, proxies), labels).backward()
    outside = (proxies.grad * proxies.detach()).sum(-1).abs()
    inside = proxies.detach().clone().requires_grad_()
    unit = functional.normalize(inside, dim=-1)
    margins.cross_entropy(8 * margins.cosines(embeddings, unit), labels).backward()
    assert outside.max() > 0.01
    assert (inside.grad * proxies.detach()).sum(-1).abs().max() < 1e-12


def test_two_forward_passes_before_the_first_backward_pass_are_allowed():
    embeddings, proxies, labels = batch()
    proxies = proxies.clone().requires_grad_()
    losses = []
    for _ in range(2):
        margins.make_unit_(proxies)
        losses.append(margins.cross_entropy(margins.cosines(embeddings, proxies), labels))
    sum(losses).backward()
    assert torch.isfinite(proxies.grad).all()


@pytest.mark.parametrize("lead", [(3,), (2, 3)])
def test_leading_dimensions_are_independent_heads(lead):
    embeddings, proxies, labels = batch(1, lead)
    cosine = margins.cosines(embeddings, proxies)
    together = margins.cross_entropy(8 * margins.margin_cosines(cosine, labels, FUNCTIONS["v1"]), labels)
    energy = margins.hyperspherical_energy(proxies, labels)
    for index in np.ndindex(*lead):
        alone = margins.margin_cosines(
            margins.cosines(embeddings[index], proxies[index]), labels[index], FUNCTIONS["v1"]
        )
        torch.testing.assert_close(together[index], margins.cross_entropy(8 * alone, labels[index]))
        torch.testing.assert_close(energy[index], margins.hyperspherical_energy(proxies[index], labels[index]))


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_heads_compute_in_full_precision_under_autocast(half):
    embeddings, proxies, labels = batch(dim=32)
    embeddings, proxies = embeddings.float(), proxies.float()
    expected = margins.margin_cosines(margins.cosines(embeddings, proxies), labels, FUNCTIONS["arcface"])
    with torch.autocast("cpu", dtype=half):
        found = margins.margin_cosines(margins.cosines(embeddings, proxies), labels, FUNCTIONS["arcface"])
        softmax = margins.softmax_logits(embeddings, proxies, torch.zeros(4))
    assert found.dtype == softmax.dtype == torch.float32
    torch.testing.assert_close(found, expected)
    assert margins.cosines(embeddings.to(half), proxies.to(half)).dtype == torch.float32


def test_softmax_logits_by_hand():
    logits = margins.softmax_logits(
        torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0], [5.0, 6.0]]), torch.tensor([0.5, -1])
    )
    assert logits.tolist() == [[11.5, 16.0]]


def test_energy_of_orthogonal_proxies_by_hand_and_zero_for_one_class():
    proxies = torch.eye(3, dtype=torch.float64).requires_grad_()
    both = margins.hyperspherical_energy(proxies, torch.tensor([0, 2, 2]))
    assert both.item() == pytest.approx((math.pi / 2) ** -2)
    both.backward()
    assert proxies.grad[1].abs().sum() == 0  # a class outside the batch takes no part
    assert proxies.grad[0].abs().sum() > 0
    alone = margins.hyperspherical_energy(torch.eye(3, requires_grad=True), torch.tensor([1, 1]))
    alone.backward()
    assert alone.item() == 0


@given(classes=st.integers(2, 60), rate=st.floats(0.01, 1.0), seed=st.integers(0, 100))
def test_sampled_classes_hold_the_batch_and_are_sorted(classes, rate, seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (5,), generator=generator)
    kept, among = margins.sample_classes(labels, classes, rate, generator)
    assert kept[among].equal(labels)
    assert kept.unique().equal(kept)
    assert len(kept) == max(labels.unique().numel(), round(rate * classes))


# ---------------------------------------------------------------------------------------------------------- faults


def test_inputs_that_cannot_be_right_are_named():
    embeddings, proxies, labels = batch()
    margins.check_inputs(embeddings, proxies, labels)
    wrong = {
        "at least 2 classes, found 1": (embeddings, proxies[:1], labels),
        "width 5 does not match the proxies' 3": (embeddings, proxies[:, :3], labels),
        r"expected shape \(6,\)": (embeddings, proxies, labels[:4]),
        r"values in \[0, 3\], found \[0, 7\]": (
            embeddings,
            proxies,
            labels.clone().fill_(0).index_fill_(0, torch.tensor(2), 7),
        ),
        r"found \[-1, ": (embeddings, proxies, labels.clone().index_fill_(0, torch.tensor(2), -1)),
        "1 of 6 rows hold NaN": (embeddings.clone().index_fill_(0, torch.tensor(3), math.nan), proxies, labels),
        "batch is empty": (embeddings[:0], proxies, labels[:0]),
    }
    for message, arguments in wrong.items():
        with pytest.raises(ValueError, match=message):
            margins.check_inputs(*arguments)


@pytest.mark.parametrize(
    ("name", "margin"),
    [("cosface", 1.0), ("cosface", -0.1), ("arcface", 3.2), ("v0", 0.9), ("v1", 0.0), ("v2", math.inf)],
)
def test_margins_out_of_range_are_refused(name, margin):
    with pytest.raises(ValueError, match=f"margin: {name} expects"):
        margins.check_margin(name, margin)
    margins.check_margin("normface", margin)


def test_sampling_refuses_wrong_rates_and_labels():
    labels, generator = torch.tensor([1, 2]), torch.Generator()
    with pytest.raises(ValueError, match="share in"):
        margins.sample_classes(labels, 5, 0.0, generator)
    with pytest.raises(ValueError, match=r"values in \[0, 1\]"):
        margins.sample_classes(labels, 2, 0.5, generator)
