"""The head of paper 05 against reference arrays and an official run; its bias, surfaces, slopes, ladder, strangers and faults."""

from __future__ import annotations

import dataclasses
import json
import math
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paper_utils.methods import sphereface2 as sf2
from paper_utils.methods import sphereface_r as sfr
from paper_utils.nn import binary_margins, margins

FACES = {kind: sf2.HeadConfig(kind, margin, scale=20.0) for kind, margin in (("C", 0.2), ("A", 0.25), ("M", 1.3))}
EVERY = {**FACES, "speech C": sf2.speech_config("C", 0.2), "speech A": sf2.speech_config("speech-A", 0.15)}


def relative_error(found: torch.Tensor, expected: np.ndarray) -> float:
    return float(np.abs(found.detach().numpy() - expected).max() / np.abs(expected).max())


def config_of(variant: str, hp: dict) -> sf2.HeadConfig:
    if variant == "speech_sf2_C":
        return sf2.speech_config(hp["margin"], hp["m"], scale=hp["scale"], balance=hp["lam"])
    return sf2.HeadConfig(
        hp["margin"],
        hp["m"],
        scale=hp["r"],
        balance=hp["lam"],
        exponent=hp["t"],
        loss_weight=hp["lw"],
        gradient="through" if variant.endswith("iclr") else "straight",
    )


def batch(seed: int, *, rows: int = 8, dim: int = 6, classes: int = 5, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(rows, dim, generator=generator, dtype=dtype)
    return embeddings, torch.randint(classes, (rows,), generator=generator)


def head_of(config: sf2.HeadConfig, *, dim: int = 6, classes: int = 5, seed=0, **options) -> sf2.Head:
    return sf2.Head(dim, classes, config, seed=seed, **options).double()


# ------------------------------------------------------------------------------------------------ reference arrays


@pytest.mark.parametrize("case", ["random", "clustered", "edge"])
@pytest.mark.parametrize("variant", ["sf2_C_straight", "sf2_C_iclr", "sf2_A_straight", "speech_sf2_C"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_heads_match_the_official_loss_logits_and_gradients(reference, variant, case, dtype):
    stored = np.load(reference / "sphereface" / "heads" / f"{variant}__{case}.npz")
    hp, suffix = json.loads(str(stored["hp"])), "f64" if dtype == torch.float64 else "f32"
    head = sf2.Head(32, 50, config_of(variant, hp), seed=0).to(dtype)
    assert head.bias.item() == pytest.approx(stored["b_init"].item(), rel=1e-6, abs=1e-6)
    head.load_official({"w": torch.tensor(stored["w"]), "b": torch.tensor(stored["b"])})
    embeddings = torch.tensor(stored["x"], dtype=dtype, requires_grad=True)
    labels = torch.tensor(stored["y"])
    loss = head(embeddings, labels)
    loss.backward()
    found = {
        "loss": loss,
        "grad_x": embeddings.grad,
        "grad_w": head.proxies.grad.T,
        "grad_b": head.bias.grad.reshape(stored["b"].shape),
        "w_after": head.proxies.T,
    }
    if variant.startswith("speech"):
        # Their second output, for watching accuracy: the ordinary cosine margin.
        shown = partial(margins.cosface, margin=hp["m"])
        found["output"] = hp["scale"] * margins.margin_cosines(
            margins.cosines(embeddings, head.unit_proxies()), labels, shown
        )
    else:
        found["logits"] = head.logits(embeddings, labels)
    # At the edge a float32 cosine carries 1e-7, which arccos turns into 1e-4 rad near the poles.
    tolerance = 1e-8 if dtype == torch.float64 else (2e-4 if case == "edge" else 5e-5)
    for name, value in found.items():
        assert relative_error(value, stored[f"{name}_{suffix}"]) < tolerance, name


def test_twelve_sgd_steps_follow_the_official_run(reference):
    stored = np.load(reference / "sphereface" / "trajectory" / "sf2_C_straight.npz")
    linear = torch.nn.Parameter(torch.tensor(stored["A0"]))
    head = head_of(sf2.PUBLISHED["v0 C"], dim=32, classes=50)
    head.load_official({"module.w": torch.tensor(stored["w0"]), "module.b": torch.tensor(stored["b0"])})
    optimizer = torch.optim.SGD([linear, *head.parameters()], lr=0.1, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [6, 9], gamma=0.1)
    losses, norms = [], []
    for features, labels in zip(stored["X"], stored["Y"], strict=True):
        loss = head(torch.tensor(features) @ linear, torch.tensor(labels))
        optimizer.zero_grad()
        loss.backward()
        losses.append(loss.item())
        norms.append([linear.grad.norm().item(), head.proxies.grad.norm().item()])
        optimizer.step()
        schedule.step()
    np.testing.assert_allclose(losses, stored["losses"], rtol=1e-8)
    np.testing.assert_allclose(norms, stored["grad_norms"], rtol=1e-8)
    assert relative_error(linear, stored["A_final"]) < 1e-8
    assert relative_error(head.proxies.T, stored["w_final"]) < 1e-8
    assert head.bias.item() == pytest.approx(stored["b_final"].item(), rel=1e-8)  # trained, with weight decay


def test_the_starting_bias_is_the_official_one(reference):
    rows = json.loads((reference / "sphereface" / "bias_init.json").read_text())
    assert len(rows) > 40
    for row in rows:
        config = sf2.HeadConfig(
            row["margin"], row["m"], scale=row["r"], balance=row["lam"], exponent=row["t"], loss_weight=1.0
        )
        assert sf2.balanced_bias(config, row["K"]) == pytest.approx(row["b_exact"], rel=1e-6, abs=1e-6)


# ---------------------------------------------------------------------------------------------------------- the bias


@given(
    kind=st.sampled_from(["C", "A", "M"]),
    classes=st.integers(2, 100_000),
    balance=st.floats(0.05, 0.995),
    scale=st.floats(1, 64),
    exponent=st.floats(1, 4),
    share=st.floats(0, 0.9),
)
@settings(max_examples=200, deadline=None)
def test_at_the_starting_bias_both_sides_pull_equally_for_any_number_of_classes(
    kind, classes, balance, scale, exponent, share
):
    margin = {"C": share, "A": share, "M": 1 + share}[kind]
    config = sf2.HeadConfig(kind, margin, scale=scale, balance=balance, exponent=exponent, clamp="none")
    bias = sf2.balanced_bias(config, classes)
    positive, negative = sf2.attention(config, torch.zeros(1, dtype=torch.float64), bias)
    assert positive.item() == pytest.approx((classes - 1) * negative.item(), rel=1e-9)


@pytest.mark.parametrize("kind", FACES)
@pytest.mark.parametrize("classes", [3, 5])
def test_the_bias_does_not_move_while_all_cosines_are_zero(kind, classes):
    head = head_of(dataclasses.replace(FACES[kind], clamp="none"), dim=8, classes=classes)
    head.proxies.data.copy_(torch.eye(8, dtype=torch.float64)[:classes])
    head.bias.data.fill_(sf2.balanced_bias(head.config, classes))  # not rounded to float32
    across = torch.eye(8, dtype=torch.float64)[classes:]
    head(across, torch.arange(len(across)) % classes).backward()
    untouched = head.bias.grad.abs()
    head.bias.grad = None
    head.bias.data += 1
    head(across, torch.arange(len(across)) % classes).backward()
    assert untouched < 1e-12
    assert head.bias.grad.abs() > 0.01


@pytest.mark.parametrize(
    ("classes", "options"), [(3, {"scale": 64.0, "margin": 0.5}), (11, {"balance": 0.99}), (2, {"balance": 0.5})]
)
def test_few_classes_where_the_official_expression_fails(classes, options):
    config = dataclasses.replace(sf2.HeadConfig(), **options)
    bias = sf2.balanced_bias(config, classes)
    positive, negative = sf2.attention(config, torch.zeros(1, dtype=torch.float64), bias)
    assert positive.item() == pytest.approx((classes - 1) * negative.item(), rel=1e-9)


def test_without_margin_the_starting_bias_is_the_log_odds():
    config = sf2.HeadConfig(margin=0.0, scale=10.0, exponent=1.0)
    assert sf2.balanced_bias(config, 50) == pytest.approx(math.log(0.7 / (0.3 * 49)))


def test_the_bias_can_start_elsewhere_and_stay_there():
    fixed = head_of(dataclasses.replace(FACES["C"], bias_start=-1.5, train_bias=False))
    embeddings, labels = batch(0)
    fixed(embeddings, labels).backward()
    assert fixed.bias.item() == -1.5
    assert fixed.bias.grad is None
    assert head_of(EVERY["speech C"]).bias.item() == 0


# ------------------------------------------------------------------------------------------------ surfaces and slopes


@given(kind=st.sampled_from(list(EVERY)), bias=st.floats(-15, 15))
@settings(deadline=None)
def test_the_logits_are_zero_on_the_decision_surfaces(kind, bias):
    config = dataclasses.replace(EVERY[kind], clamp="none")
    surfaces = sf2.decision_cosines(config, bias)
    for side, cosine in enumerate(surfaces):
        if not math.isnan(cosine) and abs(cosine) < 0.999:
            logit = sf2.questions(config, torch.tensor([cosine], dtype=torch.float64), bias)[side]
            assert abs(logit.item()) < 1e-6


def test_the_surfaces_of_c_are_two_margins_apart_on_the_adjusted_scale():
    config = sf2.HeadConfig("C", 0.3, scale=20.0)
    ends = torch.tensor(sf2.decision_cosines(config, 6.0), dtype=torch.float64)
    high, low = sf2.adjusted_similarity(ends, 3.0)
    assert high - low == pytest.approx(0.6)
    assert (high + low) / 2 == pytest.approx(-0.3)
    assert all(math.isnan(end) for end in sf2.decision_cosines(config, 30.0))
    assert math.isnan(sf2.decision_cosines(sf2.HeadConfig("A", 0.5, scale=20.0), -19.0)[0])


@pytest.mark.parametrize("kind", FACES)
def test_slopes_at_minus_1_0_and_1(kind):
    cosine = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    for slope in sf2.slopes(FACES[kind], cosine):
        assert slope.tolist() == pytest.approx([0.0, 15.0, 60.0])
    for slope in sf2.slopes(dataclasses.replace(FACES[kind], gradient="straight"), cosine):
        assert slope.tolist() == pytest.approx([20.0] * 3)


@pytest.mark.parametrize("kind", EVERY)
def test_the_loss_is_the_sum_of_its_parts_and_attention_is_its_gradient(kind):
    config, head = EVERY[kind], head_of(EVERY[kind], seed=2)
    embeddings, labels = batch(2)
    bias = head.bias.item()
    cosine = margins.cosines(embeddings, head.unit_proxies()).detach()
    parts = [part.view_as(cosine) for part in sf2.loss_parts(config, cosine.flatten(), bias)]
    own = torch.nn.functional.one_hot(labels, 5).bool()
    loss = head(embeddings, labels)
    assert loss.item() == pytest.approx(torch.where(own, parts[0], parts[1]).sum(1).mean().item())
    loss.backward()
    positive, negative = (weight.view_as(cosine) for weight in sf2.attention(config, cosine.flatten(), bias))
    expected = torch.where(own, -positive, negative).sum(1).mean() * config.loss_weight / config.scale
    assert head.bias.grad.item() == pytest.approx(expected.item())


@pytest.mark.parametrize("kind", FACES)
@given(seed=st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_straight_and_through_have_the_same_loss_and_other_gradients(kind, seed):
    embeddings, labels = batch(seed)
    results = []
    for gradient in binary_margins.GRADIENTS:
        head = head_of(dataclasses.replace(FACES[kind], gradient=gradient), seed=seed)
        x = embeddings.clone().requires_grad_()
        loss = head(x, labels)
        loss.backward()
        results.append((loss.detach(), head.bias.grad, x.grad))
    torch.testing.assert_close(results[0][:2], results[1][:2])
    assert (results[0][2] - results[1][2]).abs().max() > 1e-4 * results[0][2].abs().max()


def test_the_clamps_of_the_branches_differ_at_the_poles_only():
    cosine = torch.tensor([-1.0, -0.6, 0.0, 0.9, 1.0], dtype=torch.float64)
    for kind in "AM":
        v0, iclr, paper = (
            sf2.questions(sf2.PUBLISHED[f"{branch} {kind}"], cosine, 0.0)[0] for branch in ("v0", "iclr", "paper")
        )
        torch.testing.assert_close(v0[1:4], iclr[1:4])
        torch.testing.assert_close(v0, paper)
        assert (v0 - iclr)[[0, 4]].abs().max() > 1e-4
        # M keeps the pole at 1 but for the clamp of the cosine: 1e-8 against 1e-5.
        if kind == "M":
            assert (40 - v0[4]) / (40 - iclr[4]) == pytest.approx(1000, rel=0.01)


# ---------------------------------------------------------------------------------------------------------- the head


@pytest.mark.parametrize("kind", EVERY)
def test_a_list_of_seeds_makes_independent_heads(kind):
    data = [batch(seed) for seed in (3, 4)]
    embeddings, labels = (torch.stack(values) for values in zip(*data, strict=True))
    together = head_of(EVERY[kind], seed=[3, 4])
    losses = together(embeddings.requires_grad_(), labels)
    losses.sum().backward()
    assert together.bias.shape == losses.shape == (2,)
    for index, seed in enumerate((3, 4)):
        alone = head_of(EVERY[kind], seed=seed)
        x = data[index][0].clone().requires_grad_()
        loss = alone(x, labels[index])
        loss.backward()
        for found, expected in (
            (losses[index], loss),
            (embeddings.grad[index], x.grad),
            (together.proxies.grad[index], alone.proxies.grad),
            (together.bias.grad[index], alone.bias.grad),
            (together.logits(embeddings, labels)[index], alone.logits(x, labels[index])),
        ):
            torch.testing.assert_close(found, expected)


def test_a_diverged_member_leaves_its_neighbour_alone():
    data = [batch(seed) for seed in (3, 4)]
    embeddings, labels = (torch.stack(values) for values in zip(*data, strict=True))
    head = head_of(FACES["A"], seed=[3, 4], strict=False)
    embeddings[0, 2] = math.nan
    x = embeddings.requires_grad_()
    losses = head(x, labels)
    losses.sum().backward()
    assert torch.isnan(losses).tolist() == [True, False]
    assert torch.isfinite(x.grad[1]).all()
    assert torch.isfinite(head.proxies.grad[1]).all()


def test_heads_of_all_papers_start_from_the_same_proxies_so_runs_can_be_paired():
    ours = sf2.Head(16, 10, sf2.HeadConfig(), seed=7).proxies
    torch.testing.assert_close(ours, sfr.Head(16, 10, sfr.HeadConfig(), seed=7).proxies)


@pytest.mark.parametrize("kind", EVERY)
@given(seed=st.integers(0, 1000), factor=st.floats(0.05, 50))
@settings(max_examples=15, deadline=None)
def test_lengths_of_features_and_proxies_do_not_matter(kind, seed, factor):
    embeddings, labels = batch(seed)
    head = head_of(EVERY[kind], seed=seed)
    x = embeddings.clone().requires_grad_()
    loss = head(x, labels)
    loss.backward()
    assert (x.grad * embeddings).sum(-1).abs().max() < 1e-9  # tangential
    head.proxies.data.mul_(factor)
    torch.testing.assert_close(head(factor * embeddings, labels), loss)


def test_overwritten_proxies_keep_the_radial_gradient_and_those_in_the_graph_lose_it():
    embeddings, labels = batch(5)
    radial = {}
    for normalization in sf2.NORMALIZATIONS:
        head = head_of(dataclasses.replace(FACES["C"], normalization=normalization))
        before = head.proxies.detach().clone()
        head(embeddings, labels).backward()
        radial[normalization] = (head.proxies.grad * head.proxies.detach()).sum(-1).abs().max()
        assert torch.equal(before, head.proxies) == (normalization == "graph")
    assert radial["overwrite"] > 1e-3
    assert radial["graph"] < 1e-12


def test_strangers_are_negatives_of_every_class():
    embeddings, labels = batch(6)
    head = head_of(FACES["C"])
    mixed = torch.cat([labels, torch.full((4,), -1)])
    strangers = torch.randn(4, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    both = head(torch.cat([embeddings, strangers]), mixed)
    alone = head(strangers, mixed[-4:])
    torch.testing.assert_close(both * 12, head(embeddings, labels) * 8 + alone * 4)
    cosine = margins.cosines(strangers, head.unit_proxies())
    expected = sf2.loss_parts(FACES["C"], cosine.flatten(), head.bias.item())[1].sum() / 4
    torch.testing.assert_close(alone, expected)


def test_training_separates_people_and_leaves_strangers_below_the_threshold():
    generator = torch.Generator().manual_seed(0)
    centres = torch.nn.functional.normalize(torch.randn(6, 12, generator=generator), dim=-1)
    linear = torch.nn.Linear(12, 8, bias=False)
    linear.weight.data = torch.randn(8, 12, generator=generator) * 0.3
    head = sf2.Head(8, 5, sf2.HeadConfig("C", 0.2, scale=20.0), seed=1)
    optimizer = torch.optim.SGD([*linear.parameters(), *head.parameters()], lr=0.1, momentum=0.9)
    people = torch.arange(6).repeat(10)
    labels = torch.where(people == 5, -1, people)
    for _ in range(150):
        loss = head(linear(centres[people] + 0.05 * torch.randn(60, 12, generator=generator)), labels)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(linear.parameters(), 1.0)
        optimizer.step()
    high, low = sf2.decision_cosines(dataclasses.replace(head.config, margin=0.0), head.bias.item())
    assert high == low
    cosine = margins.cosines(linear(centres), head.unit_proxies())
    assert (cosine.diagonal() > high).all()
    assert cosine[~torch.eye(6, 5, dtype=torch.bool)].max() < low


def test_the_state_of_a_head_survives_saving():
    head, other = head_of(FACES["M"], seed=1), head_of(FACES["M"], seed=2)
    other.load_state_dict(head.state_dict())
    embeddings, labels = batch(7)
    assert torch.equal(head(embeddings, labels), other(embeddings, labels))


# ------------------------------------------------------------------------------------------ ladder, speech, published


@pytest.mark.parametrize("kind", FACES)
def test_the_ladder_adds_one_ingredient_at_a_time(kind):
    steps = sf2.ladder(FACES[kind])
    assert list(steps) == ["naive", "+ balance", "+ scale", "+ margin", "+ similarity"]
    assert steps["+ similarity"] == FACES[kind]
    configs = [dataclasses.asdict(step) for step in steps.values()]
    changes = [{name for name in before if before[name] != after[name]} for before, after in pairwise(configs)]
    assert changes == [{"balance", "bias_start"}, {"scale"}, {"margin"}, {"exponent"}]


def test_the_naive_step_is_plain_binary_cross_entropy():
    config = dataclasses.replace(sf2.ladder(FACES["C"])["naive"], loss_weight=2.0)
    embeddings, labels = batch(8)
    head = head_of(config)
    cosine = margins.cosines(embeddings, head.unit_proxies())
    truth = torch.nn.functional.one_hot(labels, 5).double()
    expected = torch.nn.functional.binary_cross_entropy_with_logits(cosine, truth, reduction="none").sum(1).mean()
    torch.testing.assert_close(head(embeddings, labels), expected)


def test_the_speaker_margin_rises_from_off_to_full():
    config = sf2.PUBLISHED["speech A"]
    assert [sf2.ramped(config, step, 10, 20).margin for step in (0, 10, 15, 20, 99)] == [0, 0, 0.075, 0.15, 0.15]
    assert sf2.ramped(FACES["M"], 5, 0, 10).margin == pytest.approx(1.15)
    with pytest.raises(ValueError, match="stop: expected a step after start=5, found 5"):
        sf2.ramped(config, 0, 5, 5)
    embeddings, labels = batch(9)
    head = head_of(config)
    full = head(embeddings, labels)
    head.config = sf2.ramped(config, 0, 10, 20)
    assert head(embeddings, labels) < full


def test_published_configurations_make_finite_losses():
    embeddings, labels = batch(10)
    for name, config in sf2.PUBLISHED.items():
        head = head_of(config)
        head(embeddings, labels).backward()
        assert torch.isfinite(head.proxies.grad).all(), name


# ---------------------------------------------------------------------------------------------------------- faults


def test_wrong_configurations_are_named():
    for options, message in [
        ({"kind": "B"}, "kind: expected one of"),
        ({"margin": 1.5}, "C expects a value in"),
        ({"normalization": "none"}, "'overwrite' or 'graph', found 'none'"),
        ({"bias_start": "log odds"}, "bias_start: expected 'balanced' or a number, found 'log odds'"),
        ({"kind": "speech-A"}, "'balanced' is not defined for speech-A"),
    ]:
        with pytest.raises(ValueError, match=message):
            sf2.HeadConfig(**options)
    with pytest.raises(ValueError, match="at least 2, found 1"):
        sf2.Head(4, 1, sf2.HeadConfig(), seed=0)
    with pytest.raises(ValueError, match="classes: expected at least 2, found 1"):
        sf2.balanced_bias(sf2.HeadConfig(), 1)
    with pytest.raises(ValueError, match="expected C, A or M, found speech-A"):
        sf2.balanced_bias(EVERY["speech A"], 10)


def test_wrong_batches_are_named():
    head = head_of(FACES["C"])
    embeddings, labels = batch(0)
    for arguments, message in [
        ((embeddings, labels + 5), r"values in \[0, 4\]"),
        ((embeddings, labels - 9), r"expected -1 \(none of the classes\)"),
        ((embeddings[:, :4], labels), "width 4 does not match the proxies' 6"),
        ((embeddings * math.nan, labels), "8 of 8 rows hold NaN"),
        ((embeddings, labels[:3]), "one label an embedding"),
    ]:
        with pytest.raises(ValueError, match=message):
            head(*arguments)


def test_official_heads_of_all_branches_load_and_others_are_refused():
    head = head_of(FACES["C"])
    weights = torch.randn(6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    bias = torch.tensor([3.0], dtype=torch.float64)
    for state in ({"module.w": weights, "module.b": bias}, {"w": weights.T, "b": bias.view(1, 1)}):
        head.load_official(state)
        assert torch.equal(head.proxies, weights.T)
        assert head.bias.item() == 3.0
    for target, state, message in [
        (head, {"w": weights}, r"keys w and b of an OpenSphere head, found \['w'\]"),
        (head, {"w": weights[:4], "b": bias}, r"expected w of 6 x 5 or 5 x 6 and a single b, found \(4, 5\)"),
        (head, {"w": weights, "b": torch.zeros(5)}, r"found \(6, 5\) and \(5,\)"),
        (head_of(FACES["C"], dim=5), {"w": weights, "b": bias}, "dim different from classes"),
    ]:
        with pytest.raises(ValueError, match=message):
            target.load_official(state)
