"""What notebook 07 trains and measures: worlds that switch off what they say, true parameters that paint the true picture, measurements."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from paper_utils import experiment, papers, training
from paper_utils.methods import cest
from paper_utils.metrics import mesh
from paper_utils.studies import cest as study


@pytest.fixture(scope="module")
def run():
    """A smoke run, whatever the table of papers offers."""
    paper = dataclasses.replace(papers.NOTEBOOKS["07"], data=("world",), needs_root=())
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(papers.NOTEBOOKS, "07", paper)
        yield study.Study(experiment.start("07", profile="smoke"))


def errors_of(values, name="shape"):
    values = np.asarray(values, dtype=float)
    return study.Errors({name: values.ravel()}, np.arange(len(values)).repeat(values.shape[1]))


# ----------------------------------------------------------------------------------------------------------------- worlds


def test_nobody_is_trained_on_and_tested(run):
    train, test = (set(world.clips.people.identity.tolist()) for world in (run.world(), run.unseen()))
    assert not train & test
    for name in study.WORLDS:
        assert not set(run.world(name).clips.people.identity.tolist()) & test


def test_worlds_switch_off_what_they_say(run):
    still = run.world("still").clips.setting
    frames = run.scale.frames
    for name in ("light", "rotation", "scale"):
        values = getattr(still, name).view(run.scale.control, frames, -1)
        assert (values == values[:, :1]).all(), name
    middle = run.world("mid-plane").clips.setting
    assert middle.rotation.abs().max() == 0
    assert middle.light[:, 1].abs().max() < 1e-6
    assert run.unseen("still") is not run.unseen("mid-plane")
    assert torch.equal(run.unseen("still").frames.images, run.unseen().frames.images)


def test_mismatched_heads_stand_in_the_same_scenes(run):
    plain = run.unseen().clips
    for name in study.MISMATCHED:
        other = run.unseen(name).clips
        assert torch.equal(other.setting.rotation, plain.setting.rotation)
        assert torch.equal(other.setting.light, plain.setting.light)
        relief = mesh.vertex_rmse(other.vertices, plain.vertices).mean()
        assert (relief > 1.0) == ("relief" in name)


def test_true_parameters_paint_the_true_picture(run):
    world = run.unseen()
    truth, images = world.truth, world.frames.images
    vertices = run.space.vertices(truth.alpha)
    assert (
        mesh.vertex_rmse(vertices, world.clips.vertices).max() < 0.4
    )  # the jaw turns on an arc, the model's on a line
    geometry = cest.look(run.space, images, vertices, run.space.camera(truth.view, images.shape[-1]))
    (error,) = cest.photometric(images, geometry, [truth.reflectance], truth.light)
    assert error.max() < 0.03
    points = run.space.camera(truth.view, images.shape[-1]).project(run.space.model.landmark_points(vertices))
    assert (points[..., :2] - world.frames.landmarks).abs().mean() < 1.0  # the detector's error


# -------------------------------------------------------------------------------------------------------------- trainings


def test_ablations_change_one_thing_each():
    full = dataclasses.asdict(study.VARIANTS["CEST"])
    for name in ("independent", "without symmetry", "without consistency", "supervised"):
        other = dataclasses.asdict(study.VARIANTS[name])
        assert sum(full[field] != other[field] for field in full) == 1, name
    control, own = study.VARIANTS["different people"], study.VARIANTS["without symmetry"]
    assert dataclasses.replace(control, shuffled=False) == own
    for world, term in (("still", "consistency"), ("mid-plane", "symmetry")):
        without = {"consistency": "without symmetry", "symmetry": "without consistency"}[term]
        assert dataclasses.replace(study.VARIANTS[f"{world}, {term}"], world="clips") == study.VARIANTS[without]
        assert dataclasses.replace(study.VARIANTS[f"{world}, neither"], world="clips") == study.VARIANTS["neither"]


def test_trainings_fill_the_cache_once(run, monkeypatch):
    calls = study.trainings(run.exp)
    assert list(calls) == list(study.VARIANTS)
    fabric = training.launch("cpu")
    first = calls["independent"](fabric)
    assert len(first) == run.scale.second.steps + run.scale.third.steps
    assert np.isfinite(first).all()
    monkeypatch.setattr(cest, "train", lambda *_, **__: pytest.fail("trained again"))
    np.testing.assert_array_equal(study.trainings(run.exp)["independent"](fabric), first)


def test_variants_share_their_first_stage(run, monkeypatch):
    run.trained("CEST")
    stages = []
    original = cest.train

    def watched(*args, **kwargs):
        stages.append(args[4].warm_up)
        return original(*args, **kwargs)

    monkeypatch.setattr(cest, "train", watched)
    fresh = study.Study(run.exp)
    fresh.trained("without symmetry")
    assert stages == [0, 0]  # the stage with landmarks came from the cache
    for name in ("without symmetry", "CEST"):
        assert len(fresh.trained(name).losses["warm_up"]) == run.scale.first.warm_up


# ----------------------------------------------------------------------------------------------------------- measurements


def test_truth_has_no_error_and_every_number_has_a_unit(run):
    world = run.unseen()
    truth = world.truth
    exact = cest.Estimate(
        truth.view, truth.alpha, run.space.vertices(truth.alpha),
        cest.look(run.space, world.frames.images, world.clips.vertices, world.clips.camera), truth.reflectance, truth.light,
    )  # fmt: skip
    found = run._errors(exact, world)
    assert set(found.values) == set(study.UNITS)
    near = {"shape": 0.4, "shape at rest": 1e-3, "viewpoint": 1e-3, "landmarks": 0.3, "reflectance": 1e-4, "hidden reflectance": 1e-4, "shading": 1e-4, "light direction": 1e-3}  # fmt: skip
    for name, limit in near.items():
        assert np.nanmax(found.values[name]) < limit, name
    for name in ("own pattern", "shading correlation"):
        assert found.values[name].min() > 0.999, name


def test_errors_of_baselines_are_what_they_are(run):
    mean = run.errors("mean face")
    assert abs(mean.values["own pattern"].mean()) < 0.3
    texture, chain = run.errors("texture"), run.errors("CEST")
    np.testing.assert_array_equal(texture.values["shape"], chain.values["shape"])
    assert (texture.values["shading correlation"] == 0).all()
    assert np.isnan(texture.values["light direction"]).all()


def test_own_pattern_sees_blur_that_is_blind_to_scale():
    generator = torch.Generator().manual_seed(0)
    mean = torch.rand(3, 8, 8, generator=generator) * 0.3 + 0.4
    truth = mean * (0.2 * torch.randn(5, 3, 8, 8, generator=generator)).exp()
    texels = torch.rand(5, 8, 8, generator=generator) > 0.3
    ones = torch.ones(5, dtype=torch.float64)
    torch.testing.assert_close(study.own_pattern(truth, truth, mean, texels), ones)
    torch.testing.assert_close(study.own_pattern(0.5 * truth, truth, mean, texels), ones, atol=1e-6, rtol=0)
    assert study.own_pattern(mean.expand(5, -1, -1, -1), truth, mean, texels).abs().max() == 0
    assert study.own_pattern(mean.square() / truth, truth, mean, texels).max() < -0.999
    elsewhere = torch.where(texels[:, None], truth, torch.zeros(()))
    torch.testing.assert_close(study.own_pattern(elsewhere, truth, mean, texels), ones)


def test_hidden_texels_are_judged_by_the_scale_of_the_seen_ones():
    truth = torch.full((3, 3, 2, 2), 0.5)
    predicted = truth / 2
    predicted[..., 1] = 0.35  # hidden column: 0.7 after the factor of two that fits the other
    seen = torch.tensor([[True, False], [True, False]]).expand(3, -1, -1)
    hidden = ~seen & torch.tensor([True, True, False])[:, None, None]
    found = study.hidden_error(predicted, truth, seen, hidden)
    torch.testing.assert_close(found[:2], torch.full((2,), 0.2))
    assert found[2].isnan()


def test_ratio_is_the_geometric_mean_over_people():
    rng = np.random.default_rng(0)
    base = rng.uniform(1, 2, (30, 1)).repeat(2, 1)
    doubled = study.ratio(errors_of(2 * base), errors_of(base), "shape", rng=rng)
    assert (doubled.value, doubled.low, doubled.high) == pytest.approx((2, 2, 2))
    assert doubled.n == 30
    uneven = errors_of(base * np.where(np.arange(30) % 2, 4.0, 1.0)[:, None])
    assert study.ratio(uneven, errors_of(base), "shape", rng=rng).value == pytest.approx(2)
    with pytest.raises(ValueError, match="the frames differ, found 60 and 20"):
        study.ratio(errors_of(base), errors_of(base[:10]), "shape", rng=rng)
    with pytest.raises(ValueError, match="not a positive error for everybody"):
        study.ratio(errors_of(base - 1.5), errors_of(base), "shape", rng=rng)


def test_people_without_a_value_are_left_out_of_means_and_counted():
    found = errors_of([[1.0, 3.0], [np.nan, 5.0], [np.nan, np.nan]])
    np.testing.assert_array_equal(found.people("shape"), [2.0, 5.0, np.nan])
    mean = found.mean("shape", np.random.default_rng(0))
    assert (mean.value, mean.n) == (3.5, 2)


def test_unknown_names_are_refused(run):
    for ask in (run.world, run.unseen, run.trained):
        with pytest.raises(ValueError, match=r"expected one of .*; found 'nothing'"):
            ask("nothing")


def test_conditioning_on_a_viewpoint_is_measured_on_four_alignments(run):
    found = study.viewpoint_ridge(run.exp)
    assert set(found.parameters) == set(study.ALIGNMENTS)
    assert all(values.shape == (28,) and np.isfinite(values).all() for values in found.parameters.values())
    same = found.gain("raw picture", "raw picture", rng=np.random.default_rng(0))
    assert (same.value, same.low, same.high, same.n) == (0, 0, 0, run.scale.ridge[1])
    planted = dataclasses.replace(found, squared={"mean": np.ones(9), "one": np.full(9, 0.7), "two": np.full(9, 0.9)})
    assert planted.gain("one", "two", rng=np.random.default_rng(0)).value == pytest.approx(0.2)
    assert set(found.viewpoint) == {"pitch", "yaw", "roll", "shift right", "shift down", "log scale"}


def test_all_pairs_cost_quadratically_and_partners_linearly(run):
    cost = study.consistency_cost(run, frames=(1, 2, 3))
    assert cost.renders == {"stochastic": (2, 4, 6), "all pairs": (2, 8, 18)}
    assert cost.slope("stochastic") == pytest.approx(1)
    assert cost.slope("all pairs") == pytest.approx(2)
    few, all_pairs = cost.kept["stochastic"], cost.kept["all pairs"]
    assert few[0] > 10_000
    np.testing.assert_allclose(few, few[0] * np.array([1, 2, 3]), rtol=1e-3)
    np.testing.assert_allclose(all_pairs, few[0] * np.array([1, 4, 9]), rtol=1e-3)


# --------------------------------------------------------------------------------------------------- pictures, real frames


def test_layers_are_pictures_and_frontal_views_look_forward(run):
    world = run.unseen()
    found = run.estimate(run.trained(), world, rows=[0, 3])
    images = world.frames.images[[0, 3]]
    shown = study.layers(found, images)
    assert list(shown) == ["input", "overlay", "texture", "reflectance", "normals", "shading", "error"]
    for name, picture in shown.items():
        assert picture.shape[:2] == (2, 3), name
        assert picture.min() >= 0, name
    outside = (found.geometry.mask == 0).expand_as(images)
    assert torch.equal(shown["overlay"][outside], shown["input"][outside])
    frontal = study.turned(run, found, images)
    covered = (frontal.sum(1) > 0).float()
    left, right = covered[..., :32].sum((1, 2)), covered[..., 32:].sum((1, 2))
    assert ((left - right).abs() / (left + right)).max() < 0.05
    rest = study.turned(run, dataclasses.replace(found, alpha=found.alpha + 1), images, rest=True)
    assert not torch.equal(rest, frontal)


# ---------------------------------------------------------------------------------------------------------- stand-ins


def test_somebody_elses_answer_and_geometry_come_from_another_person_at_the_same_place_of_the_clip(run):
    world = run.unseen()
    own = run.estimate(run.trained(), world)
    dealt, misled = (run._estimates(name, world) for name in ("dealt", "misled"))
    others = [int((row - run.scale.unseen_frames) % len(world)) for row in range(len(world))]
    assert (world.clips.person[others] != world.clips.person).all()
    assert torch.equal(dealt.reflectance, own.reflectance[others])
    assert torch.equal(dealt.light, own.light[others])
    assert torch.equal(misled.view, own.view[others])
    camera = run.space.camera(own.view[others], world.frames.images.shape[-1])
    geometry = cest.look(run.space, world.frames.images, own.vertices[others], camera)
    torch.testing.assert_close(misled.geometry.texture, geometry.texture)
    assert not torch.allclose(misled.reflectance, own.reflectance[others])


def test_an_estimator_that_knows_the_truth_paints_the_pictures_up_to_noise(run):
    world = run.unseen()
    rows = [0, 3, 7]
    truth = run.truth(world, rows)
    error = cest.photometric(world.frames.images[rows], truth.geometry, [truth.reflectance], truth.light)[0]
    wrong = truth.reflectance[[2, 0, 1]]  # three people
    other = cest.photometric(world.frames.images[rows], truth.geometry, [wrong], truth.light)[0]
    assert (error < 0.015).all()
    assert (other > 1.3 * error).all()
