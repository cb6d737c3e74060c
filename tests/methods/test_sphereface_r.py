"""The head of paper 06 against reference arrays, the deterministic claims S1 to S3, growth, checkpoints, and training in parallel."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning import losses

from paper_utils import open_set, training
from paper_utils.data.samples import LabelledImages
from paper_utils.methods import sphereface_r as sfr

NO_MARGIN = {"normface": 0.0, "cosface": 0.0, "arcface": 0.0, "v0": 1.0, "v1": 1.0, "v2": 1.0}
TINY = open_set.TrainConfig(hidden=(12,), dim=6, steps=14, batch_size=8, diagnose_every=1)


def relative_error(found: torch.Tensor, expected: np.ndarray) -> float:
    return float(np.abs(found.detach().numpy() - expected).max() / np.abs(expected).max())


def config_of(variant: str, hp: dict) -> sfr.HeadConfig:
    if not variant.startswith("sfr"):
        psi = "v0" if variant == "sphereface" else variant
        return sfr.HeadConfig(psi, hp.get("m", 0.0), scale=hp["s"], loss_weight=None)
    _, scheme, psi = variant.split("_")
    if scheme == "hfn":
        return sfr.HeadConfig(psi, hp["m"], scale=hp["s"], loss_weight=hp["lw"])
    growing = {"growth_steps": tuple(hp["steps"]), "growth": hp["dm"], "loss_weight": hp["lw"]}
    if scheme == "nfn":
        return sfr.HeadConfig(psi, normalization="NFN", **growing)
    return sfr.HeadConfig(psi, normalization="SFN", scale=hp["s"], norm_weight=hp["t"], **growing)


def batch(seed: int, *, rows: int = 8, dim: int = 6, classes: int = 5, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(rows, dim, generator=generator, dtype=dtype)
    return embeddings, torch.randint(classes, (rows,), generator=generator)


def head_of(config: sfr.HeadConfig, *, dim: int = 6, classes: int = 5, seed=0, **options) -> sfr.Head:
    return sfr.Head(dim, classes, config, seed=seed, **options).double()


def toy_images(people: int = 6, each: int = 9) -> LabelledImages:
    generator = torch.Generator().manual_seed(3)
    faces = torch.randn(people, 1, 1, 4, 4, generator=generator)
    images = (faces + 0.3 * torch.randn(people, each, 1, 4, 4, generator=generator)).flatten(0, 1)
    return LabelledImages(images, torch.arange(people).repeat_interleave(each) * 10, "toy")


SPLITS = (open_set.Split((0, 10, 20), (30, 40, 50), 5), open_set.Split((10, 30, 50), (0, 20, 40), 6))


# ------------------------------------------------------------------------------------------------ reference arrays


@pytest.mark.parametrize("case", ["random", "clustered", "edge"])
@pytest.mark.parametrize(
    "variant",
    ["normface", "cosface", "arcface", "sphereface", "sfr_hfn_v1", "sfr_hfn_v2", "sfr_nfn_v2", "sfr_sfn_v0"],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_heads_match_the_official_loss_logits_and_gradients(reference, variant, case, dtype):
    stored = np.load(reference / "sphereface" / "heads" / f"{variant}__{case}.npz")
    hp, suffix = json.loads(str(stored["hp"])), "f64" if dtype == torch.float64 else "f32"
    head = sfr.Head(32, 50, config_of(variant, hp), seed=0).to(dtype)
    head.proxies.data.copy_(torch.tensor(stored["w"].T))
    head.calls.fill_(hp.get("iter_before", 0))
    embeddings = torch.tensor(stored["x"], dtype=dtype, requires_grad=True)
    labels = torch.tensor(stored["y"])
    loss = head(embeddings, labels)
    loss.backward()
    # At the edge a float32 cosine carries 1e-7, arccos turns that into 1e-4 rad near the poles, and v0 multiplies it again.
    tolerance = 1e-8 if dtype == torch.float64 else (2e-4 if case == "edge" else 2e-5)
    for name, found in {
        "loss": loss,
        "logits": head.logits(embeddings, labels),
        "grad_x": embeddings.grad,
        "grad_w": head.proxies.grad.T,
        "w_after": head.proxies.T,
    }.items():
        assert relative_error(found, stored[f"{name}_{suffix}"]) < tolerance, name


def test_twelve_sgd_steps_follow_the_official_run(reference):
    stored = np.load(reference / "sphereface" / "trajectory" / "sphereface.npz")
    linear = torch.nn.Parameter(torch.tensor(stored["A0"]))
    head = head_of(sfr.HeadConfig("v0", 1.5, scale=30.0, loss_weight=None), dim=32, classes=50)
    head.proxies.data.copy_(torch.tensor(stored["w0"].T))
    optimizer = torch.optim.SGD([linear, head.proxies], lr=0.1, momentum=0.9, weight_decay=5e-4)
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


# ------------------------------------------------------------------------------------------ S1 to S3 and other algebra


@given(seed=st.integers(0, 1000), detach=st.booleans())
@settings(max_examples=25, deadline=None)
def test_s1_without_margin_every_head_is_normface(seed, detach):
    embeddings, labels = batch(seed)
    results = {}
    for psi, none in NO_MARGIN.items():
        head = head_of(sfr.HeadConfig(psi, none, scale=8.0, detach=detach, loss_weight=None), seed=seed)
        x = embeddings.clone().requires_grad_()
        loss = head(x, labels)
        loss.backward()
        results[psi] = (loss.detach(), x.grad, head.proxies.grad)
    for psi in NO_MARGIN:
        for found, expected in zip(results[psi], results["normface"], strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


@given(margin=st.floats(1.0, 4.0), share=st.floats(0.1, 0.95))
@settings(max_examples=40, deadline=None)
def test_s2_all_multiplicative_heads_decide_at_the_same_angle(margin, share):
    between = share * math.pi * min(1.0, (1 + margin) / margin / 1.01)  # phi m / (1 + m) < pi
    for psi in sfr.MULTIPLICATIVE:
        assert sfr.boundary_angle(psi, between, margin) == pytest.approx(between / (1 + margin), abs=1e-3)


def test_additive_heads_decide_at_a_constant_distance_from_the_middle():
    for between in (1.0, 2.0):
        assert sfr.boundary_angle("arcface", between, 0.3) == pytest.approx((between - 0.3) / 2, abs=1e-6)
    with pytest.raises(ValueError, match="leaves no room"):
        sfr.boundary_angle("arcface", 0.2, 0.3)


@pytest.mark.parametrize("psi", [p for p in sfr.HEADS if p != "softmax"])
def test_s3_with_detachment_every_slope_is_one(psi):
    theta = torch.linspace(0, math.pi, 101, dtype=torch.float64)
    for slope in sfr.slopes(psi, theta, max(NO_MARGIN[psi], 0.4), detach=True):
        torch.testing.assert_close(slope, torch.ones_like(theta))


@pytest.mark.parametrize(
    ("margin", "theta", "expected"),
    [(4, 0.05, 15.90), (4, 1.2, 4.28), (4, math.pi / 2, 0.0), (1.5, math.pi - 0.05, 29.93)],
)
def test_s3_slopes_of_sphereface_by_hand(margin, theta, expected):
    target, other = sfr.slopes("v0", torch.tensor([theta], dtype=torch.float64), margin, detach=False)
    assert target.item() == pytest.approx(expected, abs=0.005)
    assert target.item() == pytest.approx(abs(margin * math.sin(margin * theta) / math.sin(theta)), abs=1e-6)
    assert other.item() == pytest.approx(1.0)


def test_slopes_of_the_revived_forms_by_hand():
    theta = torch.tensor([0.3, 2.0], dtype=torch.float64)
    v1, _ = sfr.slopes("v1", theta, 2.0, detach=False)
    assert v1.tolist() == pytest.approx([2 * math.sin(0.6) / math.sin(0.3), 0.0])  # nothing to learn beyond pi/m
    target, other = sfr.slopes("v2", theta, 2.0, detach=False)
    assert target.tolist() == pytest.approx([1.0, 1.0])
    assert other.tolist() == pytest.approx([math.sin(t / 2) / (2 * math.sin(t)) for t in (0.3, 2.0)])


@given(theta=st.floats(0.01, 3.1), margin=st.floats(1.01, 5.0))
@settings(deadline=None)
def test_the_characteristic_function_is_positive_exactly_with_a_margin(theta, margin):
    angle = torch.tensor([theta], dtype=torch.float64)
    for psi in sfr.MULTIPLICATIVE:
        assert sfr.characteristic(psi, angle, margin).item() > 0
        assert abs(sfr.characteristic(psi, angle, 1.0).item()) < 1.1e-5


@given(seed=st.integers(0, 1000), factor=st.floats(0.05, 50))
@settings(max_examples=25, deadline=None)
def test_hard_normalisation_ignores_the_length_of_features_and_proxies(seed, factor):
    embeddings, labels = batch(seed)
    head = head_of(sfr.HeadConfig("v1", 1.5, scale=8.0), seed=seed)
    x = embeddings.clone().requires_grad_()
    logits = head.logits(x, labels)
    head(x, labels).backward()
    assert (x.grad * embeddings).sum(-1).abs().max() < 1e-12  # the gradient is tangential
    head.proxies.data.mul_(factor)
    torch.testing.assert_close(head.logits(factor * embeddings, labels), logits)


@given(seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_renaming_the_classes_changes_nothing(seed):
    embeddings, labels = batch(seed)
    names = torch.randperm(5, generator=torch.Generator().manual_seed(seed))
    for psi in ("v0", "v2", "softmax"):
        head, renamed = (head_of(sfr.HeadConfig(psi, 1.5, scale=8.0), seed=seed) for _ in range(2))
        renamed.proxies.data[names] = head.proxies.data.clone()
        torch.testing.assert_close(head(embeddings, labels), renamed(embeddings, names[labels]))


@pytest.mark.parametrize("normalization", ["HFN", "NFN", "SFN"])
@pytest.mark.parametrize("psi", sfr.MULTIPLICATIVE)
def test_ordinary_gradients_agree_with_finite_differences(psi, normalization):
    embeddings, labels = batch(4)
    config = sfr.HeadConfig(psi, 1.3, normalization, scale=4.0, detach=False)
    head = head_of(config, seed=4).eval()
    assert torch.autograd.gradcheck(lambda x: head(x, labels), embeddings.requires_grad_())


def test_detachment_with_free_lengths_lets_the_margin_act_on_the_length():
    embeddings, labels = batch(2)
    head = head_of(sfr.HeadConfig("v1", 1.6, "NFN", loss_weight=1.0), seed=2).eval()
    x = embeddings.clone().requires_grad_()
    gradient = torch.autograd.grad(head.logits(x, labels).gather(1, labels.unsqueeze(1)).sum(), x)[0]
    unit = x.detach() / x.detach().norm(dim=1, keepdim=True)
    proxy = head.proxies.detach()[labels]
    cosine = (unit * proxy).sum(1, keepdim=True)
    shift = torch.cos((1.6 * torch.arccos(cosine)).clamp(max=math.pi)) - cosine
    torch.testing.assert_close(gradient, proxy + shift * unit, rtol=1e-6, atol=1e-6)


def test_the_soft_penalty_and_the_loss_weight_by_hand():
    embeddings, labels = batch(1)
    plain = sfr.HeadConfig("v2", 1.3, "SFN", scale=10.0, loss_weight=None, norm_weight=0.0)
    ce = head_of(plain).eval()(embeddings, labels)
    weighted = head_of(dataclasses.replace(plain, loss_weight=50.0, norm_weight=0.01)).eval()(embeddings, labels)
    penalty = (embeddings.norm(dim=1) - 10).abs().mean()
    torch.testing.assert_close(weighted, 5 * ce + 0.01 * penalty)
    energy = head_of(dataclasses.replace(plain, normalization="HFN", energy_weight=0.1)).eval()
    bare = head_of(dataclasses.replace(plain, normalization="HFN")).eval()
    term = sfr.margins.hyperspherical_energy(torch.nn.functional.normalize(bare.proxies, dim=-1), labels)
    torch.testing.assert_close(energy(embeddings, labels), bare(embeddings, labels) + 0.1 * term)


# ------------------------------------------------------------------------------------------------------- growth


def test_the_margin_grows_with_the_calls_and_survives_a_checkpoint():
    embeddings, labels = batch(0)
    config = sfr.HeadConfig("v1", normalization="NFN", growth_steps=(0, 2), growth=0.25, loss_weight=1.0)
    head = head_of(config)
    assert float(head.margin()) == 1.0
    seen = []
    for _ in range(4):
        head(embeddings, labels)
        seen.append(float(head.margin()))
    assert seen == [1.25, 1.25, 1.5, 1.5]  # step 0 counts from the first call on, step 2 from the third
    resumed = head_of(config)
    resumed.load_state_dict(head.state_dict())
    assert int(resumed.calls) == 4
    resumed.eval()(embeddings, labels)
    assert int(resumed.calls) == 4  # looking at the loss in evaluation mode is no training step


def test_published_heads_are_the_ones_in_the_official_configurations():
    head = sfr.PUBLISHED["vggface2_sfnet20_spherefacer"]
    assert head == sfr.HeadConfig()
    assert (head.psi, head.margin, head.scale, head.loss_weight) == ("v2", 1.4, 60.0, 50.0)


# ------------------------------------------------------------------------------------------------------- training


@pytest.mark.parametrize("psi", ["v1", "softmax"])
def test_members_trained_together_equal_members_trained_alone(psi):
    data, config = toy_images(), sfr.HeadConfig(psi, 1.4, scale=8.0, loss_weight=None)
    fabric = training.launch("cpu")
    together = open_set.fit(
        fabric, data, SPLITS, config, TINY if psi == "v1" else dataclasses.replace(TINY, diagnose_every=0)
    )
    for index, split in enumerate(SPLITS):
        alone = open_set.fit(fabric, data, [split], config, dataclasses.replace(TINY, diagnose_every=0))
        torch.testing.assert_close(
            together.embed(data.images)[index], alone.embed(data.images)[0], rtol=1e-5, atol=1e-5
        )
        np.testing.assert_allclose(
            together.history["loss"][:, index], alone.history["loss"][:, 0], rtol=1e-5, atol=1e-6
        )
    assert together.history["loss"][-1].mean() < together.history["loss"][0].mean()


def test_every_member_has_its_own_batch_order(monkeypatch):
    asked = set()
    original = training.batch_indices

    def spy(n, batch_size, step, *, seed, **share):
        asked.add(seed)
        return original(n, batch_size, step, seed=seed, **share)

    monkeypatch.setattr(training, "batch_indices", spy)
    config = sfr.HeadConfig("normface", 0.0, scale=8.0)
    open_set.fit(training.launch("cpu"), toy_images(), SPLITS, config, dataclasses.replace(TINY, steps=2))
    assert asked == {5, 6}


def test_members_may_have_their_own_margins():
    data, fabric = toy_images(), training.launch("cpu")
    short = dataclasses.replace(TINY, diagnose_every=0)
    both = sfr.HeadConfig("v2", (1.0, 1.8), scale=8.0, detach=False, loss_weight=None)
    together = open_set.fit(fabric, data, (SPLITS[0], SPLITS[0]), both, short)
    for index, margin in enumerate((1.0, 1.8)):
        alone = open_set.fit(fabric, data, SPLITS[:1], dataclasses.replace(both, margin=margin), short)
        torch.testing.assert_close(
            together.embed(data.images)[index], alone.embed(data.images)[0], rtol=1e-5, atol=1e-5
        )
    assert not torch.allclose(together.embed(data.images)[0], together.embed(data.images)[1])


def test_a_killed_run_resumes_to_the_same_end(tmp_path):
    data = toy_images()
    config = sfr.HeadConfig("v1", normalization="NFN", growth_steps=(0, 6), growth=0.2, loss_weight=1.0)
    fabric = training.launch("cpu")
    whole = open_set.fit(fabric, data, SPLITS, config, TINY)
    path = tmp_path / "run.pt"
    half = dataclasses.replace(TINY, decay_at=(8 / 5, 12 / 5), steps=5)  # the same milestones, cut after 5 steps
    open_set.fit(fabric, data, SPLITS, config, half, checkpoint=path)
    resumed = open_set.fit(fabric, data, SPLITS, config, TINY, checkpoint=path)
    assert torch.equal(resumed.head.proxies, whole.head.proxies)
    assert torch.equal(resumed.embed(data.images), whole.embed(data.images))
    assert int(resumed.head.calls) == TINY.steps
    np.testing.assert_array_equal(resumed.history["loss"], whole.history["loss"])


def test_training_is_cached_and_gives_the_same_back():
    job = open_set.Job(sfr.HeadConfig("v2", 1.4, scale=8.0, loss_weight=None), toy_images(), SPLITS, TINY)
    fabric = training.launch("cpu")
    first, second = job.run(fabric), job.run(fabric)
    assert torch.equal(first.embed(job.data.images), second.embed(job.data.images))
    assert not torch.equal(first.embed(job.data.images), job.untrained().embed(job.data.images))
    assert set(second.history) == {"loss", "pull", "pull_p99", "target_angle", "rival", "length"}
    np.testing.assert_array_equal(first.history["loss"], second.history["loss"])


def test_a_diverged_member_leaves_its_neighbour_alone():
    data = toy_images()
    config = sfr.HeadConfig("v0", 4.0, scale=8.0, detach=False, loss_weight=None)
    wild = dataclasses.replace(TINY, diagnose_every=0)
    fabric = training.launch("cpu")
    network, head = open_set.build(16, SPLITS, config, wild)
    clean = open_set.fit(fabric, data, SPLITS, config, wild)
    with torch.no_grad():
        network.embed__weight[0] = math.nan
    broken = head(network(data.images.flatten(1), shared=True), torch.zeros(2, len(data), dtype=torch.long))
    assert torch.isnan(broken[0])
    assert torch.isfinite(broken[1])
    assert np.isfinite(clean.history["loss"]).all()


def test_diagnosis_is_bounded_with_detachment_and_equals_the_gradient_of_the_loss():
    embeddings, labels = batch(7)
    for detach in (True, False):
        head = head_of(sfr.HeadConfig("v0", 4.0, scale=8.0, detach=detach, loss_weight=None), seed=7)
        found = sfr.diagnose(head, embeddings, labels)
        sfr.margins.make_unit_(head.proxies)
        cosine = sfr.margins.cosines(embeddings, head.proxies.detach()).requires_grad_()
        psi, eta = sfr.angular_functions("v0", 4.0)
        logits = 8.0 * sfr.margins.margin_cosines(cosine, labels, psi, eta, detach=detach)
        torch.nn.functional.cross_entropy(logits, labels, reduction="sum").backward()
        expected = cosine.grad.gather(1, labels.unsqueeze(1)).abs().max() / 8
        assert found["pull"].item() == pytest.approx(expected.item())
        if detach:
            assert found["pull"] <= 1
        assert int(head.calls) == 0
    with pytest.raises(ValueError, match="softmax head has no margin"):
        sfr.diagnose(head_of(sfr.HeadConfig("softmax")), embeddings, labels)


def test_splits_are_disjoint_and_seeded():
    identities = toy_images().identities
    splits = [open_set.random_splits(identities, 3, 2, rng=np.random.default_rng(1), seeds=range(4)) for _ in range(2)]
    assert splits[0] == splits[1]
    for split in splits[0]:
        assert len(set(split.train) | set(split.test)) == 5
        assert set(split.train + split.test) <= {0, 10, 20, 30, 40, 50}
    assert len({split.train for split in splits[0]}) > 1


def test_members_are_tested_on_their_own_unseen_identities():
    data = toy_images()
    trained = open_set.fit(training.launch("cpu"), data, SPLITS, sfr.HeadConfig("normface", 0.0, scale=8.0), TINY)
    curves = open_set.open_set_scores(trained, data, per_identity=4)
    for index, (split, curve) in enumerate(zip(SPLITS, curves, strict=True)):
        keep = np.isin(data.identities.numpy(), split.test) & (np.arange(len(data)) % 9 < 4)
        embeddings = trained.embed(data.images)[index].double().numpy()[keep]
        same = data.identities.numpy()[keep]
        expected = open_set.verification.roc(*open_set.verification.all_pairs(embeddings, same))
        assert open_set.verification.auc(curve) == pytest.approx(open_set.verification.auc(expected), abs=1e-6)
        assert (curve.positives, curve.negatives) == (18, 48)


def test_runs_that_learned_nothing_or_broke_are_counted_as_failed():
    data = toy_images()
    config = sfr.HeadConfig("normface", 0.0, scale=8.0, loss_weight=None)
    trained = open_set.fit(training.launch("cpu"), data, SPLITS, config, dataclasses.replace(TINY, steps=60))
    curves = open_set.open_set_scores(trained, data)
    assert open_set.failed_runs(trained, data, curves, scale=8.0).tolist() == [False, False]
    with torch.no_grad():
        trained.network.embed__weight[0] = math.nan
        trained.head.proxies[1] = 1.0  # all classes in one place: guessing
    curves = open_set.open_set_scores(trained, data)
    assert curves[0] is None
    assert open_set.failed_runs(trained, data, curves, scale=8.0).tolist() == [True, True]


# ---------------------------------------------------------------------------------------------------------- faults


def test_wrong_configurations_are_named():
    for options, message in [
        ({"psi": "v3"}, "psi: expected one of"),
        ({"psi": "v1", "margin": 0.5}, "v1 expects"),
        ({"normalization": "BN"}, "HFN, NFN or SFN"),
        ({"scale": 0.0}, "positive number, found 0.0"),
        ({"psi": "arcface", "margin": 0.5, "growth_steps": (1,)}, "only v0, v1 and v2"),
        ({"psi": "v1", "margin": (1.5, 0.2)}, "v1 expects"),
    ]:
        with pytest.raises(ValueError, match=message):
            sfr.HeadConfig(**options)
    with pytest.raises(ValueError, match="2 margins need as many seeds"):
        sfr.Head(4, 3, sfr.HeadConfig("v1", (1.0, 2.0)), seed=0)
    with pytest.raises(ValueError, match="at least 2, found 1"):
        sfr.Head(4, 1, sfr.HeadConfig(), seed=0)


def test_wrong_batches_are_named():
    head = head_of(sfr.HeadConfig())
    embeddings, labels = batch(0)
    for arguments, message in [
        ((embeddings, labels + 5), r"values in \[0, 4\]"),
        ((embeddings[:, :4], labels), "width 4 does not match the proxies' 6"),
        ((embeddings * math.nan, labels), "8 of 8 rows hold NaN"),
        ((embeddings, labels[:3]), "one label an embedding"),
    ]:
        with pytest.raises(ValueError, match=message):
            head(*arguments)


def test_wrong_splits_are_named():
    data = toy_images()
    with pytest.raises(ValueError, match=r"identities \[10\] are in train and in test"):
        open_set.Split((0, 10), (10, 20), 1)
    with pytest.raises(ValueError, match="at least 2 identities on each side"):
        open_set.Split((0, 10), (20,), 1)
    with pytest.raises(ValueError, match="5 to learn and 2 to test need 7, found 6"):
        open_set.random_splits(data.identities, 5, 2, rng=np.random.default_rng(0), seeds=[1, 2])
    with pytest.raises(ValueError, match=r"no images of the training identities \[99\]"):
        open_set.fit(training.launch("cpu"), data, [open_set.Split((0, 99), (10, 20), 1)], sfr.HeadConfig(), TINY)
    with pytest.raises(ValueError, match="as many training identities"):
        open_set.build(16, [SPLITS[0], open_set.Split((0, 10), (20, 30), 1)], sfr.HeadConfig(), TINY)


@pytest.mark.parametrize(
    ("psi", "margin", "peer"),
    [
        ("cosface", 0.35, lambda **kw: losses.CosFaceLoss(margin=0.35, **kw)),
        ("arcface", 0.5, lambda **kw: losses.ArcFaceLoss(margin=math.degrees(0.5), **kw)),  # that library takes degrees
    ],
)
def test_an_independent_library_agrees_on_loss_and_ordinary_gradient(psi, margin, peer):
    generator = torch.Generator().manual_seed(5)
    labels = torch.randint(10, (64,), generator=generator)
    theirs = peer(num_classes=10, embedding_size=32, scale=16.0).double()
    ours = sfr.Head(32, 10, sfr.HeadConfig(psi, margin, scale=16.0, loss_weight=None, detach=False), seed=0).double()
    with torch.no_grad():
        ours.proxies.copy_(theirs.W.T)
    x = torch.randn(64, 32, generator=generator, dtype=torch.float64).requires_grad_()
    values, gradients = zip(
        *[(loss.item(), torch.autograd.grad(loss, x)[0]) for loss in (theirs(x, labels), ours(x, labels))], strict=True
    )
    assert values[0] == pytest.approx(values[1], rel=1e-12)
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-12)
