"""Class-parallel heads: 2 and 4 processes against one, bytes against the closed form, official batches, sampling, refusals."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import class_parallel_script as script
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from paper_utils.nn import binary_margins, margins
from paper_utils.nn import class_parallel as cp
from paper_utils.nn.exchanges import Exchange, Ranks, sent_by_kind, step_exchanges

SCRIPT = Path(script.__file__)
REFERENCE = SCRIPT.parents[1] / "reference" / "sphereface"
SIZES = (2, 4)


def launch(size: int, folder: Path) -> list[dict]:
    """Run the script in `size` processes that see nothing but the processor, and collect what they wrote."""
    environment = dict(os.environ, OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="")
    command = [sys.executable, str(SCRIPT)]
    processes = [
        subprocess.Popen(
            [*command, str(rank), str(size), str(folder), str(REFERENCE)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(size)
    ]
    try:
        said = [process.communicate(timeout=240)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert [process.returncode for process in processes] == [0] * size, "\n".join(said)[-4000:]
    return [torch.load(folder / f"rank{rank}.pt", weights_only=False) for rank in range(size)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[int, list[dict]]:
    return {size: launch(size, tmp_path_factory.mktemp(f"ranks{size}")) for size in SIZES}


@pytest.fixture(params=SIZES, ids=lambda size: f"{size} processes")
def ranks(request, runs) -> list[dict]:
    return runs[request.param]


def joined(ranks: list[dict], key) -> dict[str, torch.Tensor]:
    """One step of all ranks put together: loss and bias gradient must be the same bits everywhere."""
    steps = [rank["steps"][key] if isinstance(key, tuple) else rank["reference"][key] for rank in ranks]
    for name in ("loss", "bias"):
        assert all(step[name] is None or torch.equal(step[name], steps[0][name]) for step in steps), name
    whole = {name: torch.cat([step[name] for step in steps]) for name in ("x", "w")}
    return {"loss": steps[0]["loss"], **whole, "bias": steps[0]["bias"]}


def softplus(x: torch.Tensor) -> torch.Tensor:
    return torch.logaddexp(x, torch.zeros_like(x))


def binary_by_hand(x, w, b, y, rule: binary_margins.BinaryMargin) -> torch.Tensor:
    """SphereFace2 with the margin on the similarity, as the paper writes it."""
    g = 2 * ((margins.cosines(x, w) + 1) / 2) ** rule.exponent - 1
    known = functional.one_hot(y.clamp_min(0), len(w)).bool() & (y >= 0).unsqueeze(1)
    positive = softplus(-(rule.scale * (g - rule.margin) + b)) * known
    negative = softplus(rule.scale * (g + rule.margin) + b) * ~known
    rows = rule.balance * positive.sum(1) + (1 - rule.balance) * negative.sum(1)
    return rule.loss_weight / rule.scale * rows.mean()


def in_one_process(name: str, x, w, y) -> dict[str, torch.Tensor]:
    """The loss with all classes in one place, from the functions that know nothing of ranks."""
    family = script.FAMILIES[name]
    x, w, b = x.clone().requires_grad_(), w.clone().requires_grad_(), x.new_zeros(()).requires_grad_()
    margins.make_unit_(w)
    if isinstance(family, cp.BinaryFamily):
        b.data.fill_(family.bias)
        by_hand = family.rule.kind == "C"
        loss = (
            binary_by_hand(x, w, b, y, family.rule) if by_hand else binary_margins.plain_loss(x, w, b, y, family.rule)
        )
    else:
        rho = x.norm(dim=1, keepdim=True) if family.scale is None else family.scale
        cosine = margins.margin_cosines(margins.cosines(x, w), y, family.psi, family.eta, detach=family.detach)
        loss = functional.cross_entropy(rho * cosine, y)
    loss.backward()
    return {"loss": loss.detach(), "x": x.grad, "w": w.grad, "bias": b.grad}


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest deviation, relative to the largest value."""
    return float((found.double() - expected.double()).abs().max() / expected.double().abs().max())


def assert_same(found: dict, expected: dict, tolerance: float) -> None:
    for name in ("loss", "x", "w", "bias"):
        assert (found[name] is None) == (expected[name] is None), name
        if found[name] is not None:
            assert found[name].dtype == expected[name].dtype, name
            assert error(found[name], expected[name]) < tolerance, name


# ---------------------------------------------------------------------------------------------- several processes like one


@pytest.mark.parametrize("name", script.FAMILIES)
def test_loss_and_gradients_are_those_of_one_process(ranks, name):
    batch = script.problem(torch.float64)
    assert_same(joined(ranks, (name, torch.float64)), in_one_process(name, *batch), 1e-10)
    batch = script.problem(torch.float32)
    alone = script.one_step(*batch, script.FAMILIES[name], Ranks())
    assert_same(joined(ranks, (name, torch.float32)), alone, 1e-6)
    # Another order of the same float32 arithmetic: a logit of 40 is uncertain by 2e-6.
    assert_same(alone, in_one_process(name, *batch), 1e-5)


@pytest.mark.parametrize("name", script.TRAINED)
def test_shards_without_any_target_are_no_exception(ranks, name):
    batch = script.problem(torch.float64, last_label=2)
    assert_same(joined(ranks, (name, "all in the first shard")), in_one_process(name, *batch), 1e-10)


@pytest.mark.parametrize("name", ["cosface", "arcface", "sphereface"])
def test_official_heads_at_the_edges_of_the_angle_are_matched_over_ranks(ranks, name):
    stored, found = np.load(REFERENCE / "heads" / f"{name}__edge.npz"), joined(ranks, f"{name}__edge")
    for mine, theirs in (("loss", "loss_f64"), ("x", "grad_x_f64"), ("w", "grad_w_f64")):
        expected = stored[theirs].T if mine == "w" else stored[theirs]
        assert error(found[mine], torch.tensor(expected)) < 1e-8, mine


@pytest.mark.parametrize("rate", ["0.3", "1.0"])
@pytest.mark.parametrize("kind", ["arc", "cos"])
def test_partial_fc_is_matched_over_ranks_and_in_one_process(runs, kind, rate):
    stored = np.load(REFERENCE / "partial_fc" / f"pfc_{kind}_rate{rate}.npz")
    kept = torch.tensor(stored["weight_index"])
    alone = [{"reference": script.reference_steps(REFERENCE, Ranks())}]
    for ranks in (alone, *runs.values()):
        found = joined(ranks, f"pfc_{kind}_rate{rate}")
        assert error(found["loss"], torch.tensor(stored["loss"])) < 2e-5
        assert error(found["x"], torch.tensor(stored["grad_x"])) < 2e-5
        assert error(found["w"], torch.tensor(stored["grad_w"])[kept]) < 2e-5


@pytest.mark.parametrize("name", script.TRAINED)
def test_several_clipped_steps_behind_an_averaging_backbone_stay_equal(ranks, name):
    expected = script.train(name, Ranks())
    for rank in ranks:
        for key, value in expected.items():
            assert (rank["trained"][name][key] is None) == (value is None), key
            assert value is None or error(rank["trained"][name][key], value) < 1e-10, key
    assert expected["losses"][-1] < 0.9 * expected["losses"][0]
    assert expected["norms"].max() > 1  # clipping did take place


@pytest.mark.parametrize("name", script.TRAINED)
def test_sampling_is_a_head_over_the_chosen_classes_of_all_shards(ranks, name):
    x, w, y = script.problem(torch.float64, last_label=4)
    shards = [cp.shard(script.CLASSES, rank, len(ranks)) for rank in range(len(ranks))]
    chosen = []
    for rank, own in enumerate(shards):
        target = binary_margins.shard_labels(y, own.start, len(own))
        kept, _ = cp.sample_shard(target, len(own), 0.7, torch.Generator().manual_seed(rank))
        chosen.append(kept + own.start)
    chosen = torch.cat(chosen)
    assert len(chosen) < script.CLASSES
    found, expected = (
        joined(ranks, (name, "sampled")),
        in_one_process(name, x, w[chosen], torch.searchsorted(chosen, y)),
    )
    left_out = torch.ones(script.CLASSES, dtype=torch.bool).index_fill(0, chosen, False)
    assert found["w"][left_out].abs().sum() == 0
    assert_same({**found, "w": found["w"][chosen]}, expected, 1e-10)


@pytest.mark.parametrize("name", script.TRAINED)
def test_half_precision_features_give_a_full_precision_loss(ranks, name):
    x, w, y = script.problem(torch.float32)
    expected = script.one_step(x.bfloat16().float(), w, y, script.FAMILIES[name], Ranks())
    found = joined(ranks, (name, "autocast"))
    assert found["loss"].dtype == torch.float32
    assert found["x"].dtype == torch.bfloat16
    assert_same({**found, "x": expected["x"]}, expected, 1e-6)
    assert error(found["x"], expected["x"]) < 2**-8  # one rounding, of the sum


@pytest.mark.parametrize("name", script.TRAINED)
def test_the_same_step_gives_the_same_bits(ranks, name):
    for rank in ranks:
        first, *others = (rank["steps"][name, key] for key in (torch.float32, "again", "unchecked"))
        for other in others:
            for key in ("loss", "x", "w", "bias"):
                assert first[key] is None or torch.equal(first[key], other[key]), key


def test_a_class_starts_the_same_on_any_number_of_ranks(runs):
    alone = cp.first_proxies(script.CLASSES, script.DIM, 7, Ranks())
    for rank in (*runs[2], *runs[4]):
        assert torch.equal(rank["first"], alone)
    assert not torch.equal(alone, cp.first_proxies(script.CLASSES, script.DIM, 8, Ranks()))


@pytest.mark.parametrize("size", [2, 3, 7])
def test_shards_are_drawn_alike_across_the_borders_of_the_blocks(size):
    parts = []
    for rank in range(size):
        one = Ranks(alone=True)
        one.rank, one.size = rank, size
        parts.append(cp.first_proxies(2500, 3, 7, one))
    whole = cp.first_proxies(2500, 3, 7, Ranks())
    assert torch.equal(torch.cat(parts), whole)
    assert len(whole.unique(dim=0)) == 2500
    assert whole.std().item() == pytest.approx(math.sqrt(2 / 2503), rel=0.05)


def test_the_processes_warned_of_nothing(ranks):
    assert [rank["warnings"] for rank in ranks] == [[]] * len(ranks)


# ------------------------------------------------------------------------------------------------------------ exchanges


def counted(seen: list[tuple]) -> Counter[Exchange]:
    return Counter({Exchange(*what): times for *what, times in seen})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", script.FAMILIES)
def test_counted_exchanges_are_those_of_the_closed_form_in_its_order(ranks, name, dtype):
    scheme = "binary" if name.startswith("SphereFace2") else "softmax"
    sizes = {"batch": script.BATCH, "dim": script.DIM, "classes": script.CLASSES, "ranks": len(ranks)}
    expected = step_exchanges(scheme, **sizes, itemsize=dtype.itemsize)
    for rank in ranks:
        found = counted(rank["steps"][name, dtype]["exchanges"])
        assert found == expected
        assert [e.phase for e in found] == [e.phase for e in expected]
    if dtype == torch.float32 and name in script.TRAINED:
        unchecked = step_exchanges(scheme, **sizes, check=False)
        assert counted(ranks[0]["steps"][name, "unchecked"]["exchanges"]) == unchecked
        sampled = counted(ranks[0]["steps"][name, "sampled"]["exchanges"])
        assert sampled == step_exchanges(scheme, **sizes, itemsize=8)  # fewer classes, same exchanges


def test_data_parallel_training_gives_the_same_gradient_for_other_bytes(ranks):
    sizes = {"batch": script.BATCH, "dim": script.DIM, "classes": script.CLASSES, "ranks": len(ranks)}
    expected = script.one_step(*script.problem(torch.float32), script.FAMILIES["SphereFace2 C"], Ranks())["w"]
    for rank in ranks:
        assert error(rank["data parallel"]["w"], expected) < 1e-6
        assert counted(rank["data parallel"]["exchanges"]) == step_exchanges("data parallel", **sizes)


def test_only_a_softmax_waits_between_logits_and_their_gradient():
    sizes = {"batch": 512, "dim": 512, "classes": 85_742, "ranks": 8}
    softmax, binary, data = (step_exchanges(scheme, **sizes) for scheme in ("softmax", "binary", "data parallel"))
    assert "normaliser" not in {e.kind for e in binary}
    assert sum(n for e, n in softmax.items() if e.kind == "normaliser") == 2
    assert sent_by_kind(softmax)["normaliser"] == 7 / 8 * 2 * 3 * 512 * 4
    for scheme in (softmax, binary):
        sent = sent_by_kind(scheme)
        assert sent["features"] == sent["feature gradient"] == 7 / 8 * 512 * 512 * 4
    assert sent_by_kind(data)["proxy gradient"] == 7 / 8 * 2 * 85_742 * 512 * 4


@settings(deadline=None)  # the machine may be busy
@given(
    scheme=st.sampled_from(["softmax", "binary"]),
    each=st.integers(1, 600),
    dim=st.integers(1, 600),
    classes=st.integers(2, 10**6),
    ranks=st.integers(2, 64),
)
def test_class_parallel_bytes_do_not_depend_on_the_number_of_classes(scheme, each, dim, classes, ranks):
    sizes = {"batch": each * ranks, "dim": dim, "ranks": ranks}
    assert step_exchanges(scheme, classes=classes, **sizes) == step_exchanges(scheme, classes=2 * classes, **sizes)
    data = sent_by_kind(step_exchanges("data parallel", classes=classes, **sizes))["proxy gradient"]
    sent = sent_by_kind(step_exchanges(scheme, classes=classes, **sizes))
    assert (data > sent["features"] + sent["feature gradient"]) == (classes > each * ranks)


def test_one_process_exchanges_nothing_and_equals_the_plain_head():
    ranks = Ranks()
    for name in script.FAMILIES:
        batch = script.problem(torch.float64)
        assert_same(script.one_step(*batch, script.FAMILIES[name], ranks), in_one_process(name, *batch), 1e-10)
    assert (ranks.rank, ranks.size, ranks.exchanges) == (0, 1, Counter())
    assert step_exchanges("softmax", batch=8, dim=4, classes=9, ranks=1) == Counter()


def test_closed_form_refuses_what_cannot_be():
    sizes = {"batch": 8, "dim": 4, "classes": 9, "ranks": 2}
    with pytest.raises(ValueError, match="scheme: expected one of softmax, binary, data parallel; found 'sum'"):
        step_exchanges("sum", **sizes)
    with pytest.raises(ValueError, match="dim: expected a positive number, found 0"):
        step_exchanges("softmax", **{**sizes, "dim": 0})
    with pytest.raises(ValueError, match="batch: 8 samples do not split evenly over 3 ranks"):
        step_exchanges("softmax", **{**sizes, "ranks": 3})


# --------------------------------------------------------------------------------------------------- shards and samples


@settings(deadline=None)  # the machine may be busy
@given(ranks=st.integers(1, 20), more=st.integers(1, 100))
def test_shards_cover_all_classes_once_and_differ_by_one_at_most(ranks, more):
    classes = ranks + more
    parts = [cp.shard(classes, rank, ranks) for rank in range(ranks)]
    assert [c for part in parts for c in part] == list(range(classes))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@settings(deadline=None)  # the machine may be busy
@given(classes=st.integers(2, 60), rate=st.floats(0.01, 1.0), seed=st.integers(0, 100))
def test_sampling_a_shard_that_owns_all_labels_is_sampling_in_one_process(classes, rate, seed):
    labels = torch.randint(classes, (5,), generator=torch.Generator().manual_seed(seed))
    one = margins.sample_classes(labels, classes, rate, torch.Generator().manual_seed(seed))
    part = cp.sample_shard(labels, classes, rate, torch.Generator().manual_seed(seed))
    assert all(map(torch.equal, one, part))


@settings(deadline=None)  # the machine may be busy
@given(classes=st.integers(1, 40), rate=st.floats(0.01, 1.0), seed=st.integers(0, 100), data=st.data())
def test_a_sampled_shard_keeps_its_positives_and_marks_the_others(classes, rate, seed, data):
    target = torch.tensor(data.draw(st.lists(st.integers(-1, classes - 1), min_size=1, max_size=8)))
    kept, places = cp.sample_shard(target, classes, rate, torch.Generator().manual_seed(seed))
    owned = target >= 0
    assert kept[places[owned]].equal(target[owned])
    assert (places[~owned] == -1).all()
    assert kept.unique().equal(kept)
    assert len(kept) == max(target[owned].unique().numel(), round(rate * classes), 1)


def test_a_shard_without_positives_samples_uniformly():
    generator, counts = torch.Generator().manual_seed(0), torch.zeros(8)
    for _ in range(2000):
        kept, _ = cp.sample_shard(torch.full((3,), -1), 8, 0.25, generator)
        counts[kept] += 1
    # Binomial with 2000 draws of probability 1/4 has a standard deviation of 19.
    assert (counts - 500).abs().max() < 5 * 19.4


# ---------------------------------------------------------------------------------------- shards that never hear of others


def crowd(dtype: torch.dtype = torch.float64):
    """A hundred classes of features near their proxies."""
    rng = np.random.default_rng(0)
    proxies = rng.normal(size=(101, 16))
    labels = rng.integers(101, size=32)
    features = proxies[labels] + 0.8 * rng.normal(size=(32, 16))
    return torch.tensor(features, dtype=dtype), torch.tensor(proxies, dtype=dtype), torch.tensor(labels)


@pytest.mark.parametrize("shards", [1, 2, 4, 7])
@pytest.mark.parametrize("name", ["SphereFace2 C", "SphereFace2 A", "SphereFace2 M"])
def test_summed_shards_are_exact_for_sphereface2(name, shards):
    sums = cp.simulate_shards(*crowd(), script.FAMILIES[name], shards)
    assert len(sums.partial_losses) == shards
    assert max(sums.errors().values()) < 1e-12
    single = cp.simulate_shards(*crowd(torch.float32), script.FAMILIES[name], shards)
    assert max(single.errors().values()) < 1e-6


@pytest.mark.parametrize("name", [name for name in script.FAMILIES if not name.startswith("SphereFace2")])
def test_summed_shards_of_a_softmax_without_a_shared_normaliser_are_another_loss(name):
    family = script.FAMILIES[name]
    assert min(cp.simulate_shards(*crowd(), family, 4).errors().values()) > 0.01
    assert max(cp.simulate_shards(*crowd(), family, 1).errors().values()) == 0


def test_simulated_whole_is_the_head_and_takes_images_of_nobody():
    x, w, y = crowd()
    y[:3] = -1
    family = script.FAMILIES["SphereFace2 C"]
    sums = cp.simulate_shards(x, w, y, family, 3)
    unit = functional.normalize(w, dim=1)
    bias = torch.tensor(family.bias, dtype=torch.float64)
    assert error(sums.loss, binary_by_hand(x, unit, bias, y, family.rule)) < 1e-12
    assert error(cp.ClassParallel(w, 101, family, Ranks())(x, y).detach(), sums.loss) < 1e-12
    with pytest.raises(ValueError, match=r"values in \[0, 100\], found \[-1"):
        cp.simulate_shards(x, w, y, script.FAMILIES["cosface"], 3)


# ------------------------------------------------------------------------------------------------- pieces of the loss


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000), detach=st.booleans())
def test_margins_of_shards_side_by_side_are_those_of_the_whole(seed, detach):
    generator = torch.Generator().manual_seed(seed)
    cosine = 2 * torch.rand(5, 7, generator=generator, dtype=torch.float64) - 1
    labels = torch.randint(7, (5,), generator=generator)
    pattern = torch.rand(5, 7, generator=generator, dtype=torch.float64)
    for psi, eta in ((None, None), (partial(margins.arcface, margin=0.5), None), tuple(script.V2.values())):
        both = [cosine.clone().requires_grad_() for _ in range(2)]
        whole = margins.margin_cosines(both[0], labels, psi, eta, detach=detach)
        parts = [
            cp.shard_margin_cosines(part, binary_margins.shard_labels(labels, start, width), psi, eta, detach=detach)
            for part, start, width in zip(both[1].split([3, 4], 1), (0, 3), (3, 4), strict=True)
        ]
        side_by_side = torch.cat(parts, 1)
        torch.testing.assert_close(side_by_side, whole)
        for found in (whole, side_by_side):
            (pattern * found).sum().backward()
        torch.testing.assert_close(both[1].grad, both[0].grad)


def test_cross_entropy_over_ranks_stays_finite_for_huge_logits_and_passes_gradcheck():
    logits = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 9e3]], dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([1, 1])
    rows = cp._ShardedCrossEntropy.apply(logits, labels, Ranks())
    rows.sum().backward()
    assert rows.tolist() == [2e4, 0.0]
    assert torch.isfinite(logits.grad).all()
    small = torch.randn(3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    places = torch.tensor([4, -1, 0])
    assert torch.autograd.gradcheck(lambda z: cp._ShardedCrossEntropy.apply(z, places, Ranks()), small)


def test_clipping_in_one_process_is_that_of_torch():
    x, w, y = script.problem(torch.float64)
    heads = [cp.ClassParallel(w, script.CLASSES, script.FAMILIES["SphereFace2 C"], Ranks()) for _ in range(2)]
    nets = [torch.nn.Linear(script.DIM, script.DIM, dtype=torch.float64) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    for net, head in zip(nets, heads, strict=True):
        head(net(x), y).backward()
    norm = cp.clip_gradients_(nets[0].parameters(), heads[0], 0.01)
    expected = torch.nn.utils.clip_grad_norm_([*nets[1].parameters(), *heads[1].parameters()], 0.01)
    assert norm.item() == pytest.approx(expected.item())
    for one, two in zip([*nets[0].parameters(), *heads[0].parameters()],
                        [*nets[1].parameters(), *heads[1].parameters()], strict=True):  # fmt: skip
        torch.testing.assert_close(one.grad, two.grad)


def test_an_image_of_nobody_is_a_negative_for_every_class():
    x, w, y = script.problem(torch.float64)
    y[::3] = -1
    found = script.one_step(x, w, y, script.FAMILIES["SphereFace2 C"], Ranks())
    assert_same(found, in_one_process("SphereFace2 C", x, w, y), 1e-10)


# ------------------------------------------------------------------------------------------------------------- faults


def test_every_rank_says_which_rank_is_wrong(ranks):
    last, part = len(ranks) - 1, script.BATCH // len(ranks)
    expected = {
        "batch": rf"^batch: the ranks disagree, found {part} on rank 0, .*{part - 1} on rank {last}; give every rank the same",
        "width": rf"^dim: the ranks disagree, found 12 on rank 0, .*11 on rank {last}",
        "label": rf"^labels: 1 on rank {last} lie outside \[0, 10\]",
        "infinite": rf"^embeddings: 12 numbers on rank {last} are NaN or infinite",
        "precision": rf"^bytes a number: the ranks disagree, found 4 on rank 0, .*8 on rank {last}",
        "gradient": rf"^features that need a gradient: the ranks disagree, found 0 on rank 0, .*1 on rank {last}",
        "family": rf"^lowest label: the ranks disagree, found 0 on rank 0, .*-1 on rank {last}",
        "shapes": rf"^labels: on rank {last} of {last + 1} embeddings, labels and proxies do not fit",
    }
    for rank in ranks:
        said = rank["refusals"]
        afterwards = rank["steps"]["cosface", torch.float32]["loss"].item()
        assert float(said.pop("afterwards")) == pytest.approx(afterwards, rel=1e-5)
        assert set(said) == set(expected)
        for name, pattern in expected.items():
            with pytest.raises(ValueError, match=pattern):
                raise ValueError(said[name])


def test_one_process_refuses_bad_inputs():
    x, w, y = script.problem(torch.float32)
    head = cp.ClassParallel(w, script.CLASSES, script.FAMILIES["cosface"], Ranks())
    wrong = {
        r"labels: 24 on rank 0 lie outside \[0, 10\]": (x, y - 20),
        "embeddings: 288 numbers on rank 0 are NaN": (x * math.nan, y),
        r"labels: on rank 0 of 1 .* rank 0 has \(24, 12\), \(23,\), \(11, 12\)": (x, y[:-1]),
        "labels: the batch is empty": (x[:0], y[:0]),
        r"one precision; rank 0 has .* in float64 and float32": (x.double(), y),
    }
    for message, batch in wrong.items():
        with pytest.raises(ValueError, match=message):
            head(*batch)
    with pytest.raises(ValueError, match="labels: 1 on rank 0 lie outside"):
        head(x, y.index_fill(0, torch.tensor(0), -1))


def test_heads_that_cannot_be_are_refused():
    _, w, _ = script.problem(torch.float32)
    family, ranks = script.FAMILIES["cosface"], Ranks()
    with pytest.raises(ValueError, match=r"rank 0 of 1 needs the 12 rows \[0, 12\) of 12 classes, found 11"):
        cp.ClassParallel(w, 12, family, ranks)
    with pytest.raises(ValueError, match=r"rate: expected a share in \(0, 1\], found 0"):
        cp.ClassParallel(w, 11, family, ranks, rate=0.0)
    with pytest.raises(ValueError, match=r"generator: sampling a share 0\.5"):
        cp.ClassParallel(w, 11, family, ranks, rate=0.5)(torch.ones(2, script.DIM), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="classes: 4 ranks need at least 4, found 3"):
        cp.shard(3, 0, 4)
    with pytest.raises(ValueError, match=r"rank: expected a number in \[0, 3\], found 4"):
        cp.shard(8, 4, 4)
