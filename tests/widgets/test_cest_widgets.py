"""Pictures and explorers of paper 07: they draw without a browser, and show what the truth of a world says they must."""

from __future__ import annotations

import dataclasses

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from paper_utils import experiment, papers, plotting
from paper_utils.mesh.shading import shade
from paper_utils.methods import cest
from paper_utils.metrics.statistics import Estimate
from paper_utils.studies import cest as study
from paper_utils.widgets import cest as show


@dataclasses.dataclass(frozen=True)
class Case:
    """Test frames of a small world with an estimator that knows everything."""

    run: study.Study
    truth: cest.Estimate
    images: torch.Tensor
    errors: dict[str, study.Errors]

    @property
    def face(self):
        """First test person at rest: what the unwrapping pictures take."""
        return self.run.unseen().clips.neutral[:1], self.truth.reflectance[:1], show.lamp(0, 0)


@pytest.fixture(scope="module")
def case():
    paper = dataclasses.replace(papers.NOTEBOOKS["07"], data=("world",), needs_root=())
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(papers.NOTEBOOKS, "07", paper)
        run = study.Study(experiment.start("07", profile="smoke"))
    world = run.unseen()
    truth = run.truth(world)
    zeros = {name: np.full(len(world), 0.012) for name in study.UNITS}
    return Case(run, truth, world.frames.images, {"all-knowing": study.Errors(zeros, world.frames.video.numpy())})


def lopsided(estimate):
    """The same with a reflectance that is darker at the left; the world's own is symmetric."""
    ramp = torch.linspace(0.2, 1, estimate.reflectance.shape[-1])
    return dataclasses.replace(estimate, reflectance=estimate.reflectance * ramp)


EXPLORERS = {
    "frame": lambda c: show.explore_variants({"all-knowing": c.truth}, c.truth, c.images, c.errors),
    "azimuth": lambda c: show.explore_relight({"all-knowing": c.truth}, c.truth, c.images),
    "mirror": lambda c: show.explore_swap(c.run.space, lopsided(c.truth), c.images),
    "yaw": lambda c: show.explore_unwrap(c.run.space, *c.face),
    "reflectance": lambda _: show.explore_factorisation(),
}


@pytest.mark.parametrize(
    ("control", "value"), [("frame", 3), ("azimuth", -50), ("mirror", True), ("yaw", 0), ("reflectance", False)]
)
def test_an_explorer_redraws_when_a_control_moves_and_leaves_no_figure_open(case, control, value):
    opened = plt.get_fignums()
    controls, picture = EXPLORERS[control](case).children
    before = bytes(picture.value)
    next(one for one in controls.children if one.description == control).value = value
    assert bytes(picture.value) != before
    assert bytes(picture.value).startswith(b"\x89PNG")
    assert plt.get_fignums() == opened


def arrows(conditions):
    fig, ax = plotting.figure()
    show.draw_factorisation(ax, conditions, title="")
    count = sum(text.arrow_patch is not None for text in ax.texts if hasattr(text, "arrow_patch"))
    plt.close(fig)
    return count


def test_each_factor_brings_the_arrows_of_what_it_is_conditioned_on():
    assert arrows([]) == 4
    assert (
        [arrows([name]) - 4 for name in show.CONDITIONS] == [name.count(",") for name in show.CONDITIONS] == [1, 2, 3]
    )
    with pytest.raises(ValueError, match=r"found P\(v\|S\)"):
        arrows(["P(v|S)"])


def test_a_lamp_at_positive_azimuth_lights_the_right_of_the_picture_and_one_above_the_forehead():
    right, up, ahead = torch.tensor([1.0, 0, 0]), torch.tensor([0.0, 1, 0]), torch.tensor([0.0, 0, 1])

    def seen(normal, azimuth, elevation):
        return float(shade(normal.view(1, 3, 1, 1), show.lamp(azimuth, elevation)))

    assert seen(right, 60, 0) > 2 * seen(-right, 60, 0)
    assert seen(up, 0, 50) > 2 * seen(-up, 0, 50)
    assert seen(ahead, 0, 0) == max(seen(n, 0, 0) for n in (right, up, ahead, -right, -up))


def test_a_map_that_is_right_up_to_a_factor_is_relit_like_the_truth(case):
    dim = dataclasses.replace(case.truth, reflectance=0.4 * case.truth.reflectance)
    light = show.lamp(40, 20)
    torch.testing.assert_close(show.relit(dim, light, case.truth), show.relit(case.truth, light))
    assert not torch.allclose(show.relit(dim, light), show.relit(case.truth, light), atol=0.05)


def test_a_swap_takes_geometry_reflectance_and_light_from_three_frames(case):
    truth, space = case.truth, case.run.space
    torch.testing.assert_close(show.swapped(space, truth, 2, 2, 2)[0], truth.image()[2])
    # Frames 0 and 1 are of one person, whose skin is the same in both.
    torch.testing.assert_close(show.swapped(space, truth, 0, 1, 0)[0], truth.image()[0])
    other = show.swapped(space, truth, 0, 4, 3)
    expected = cest.paint(truth.geometry.take(torch.tensor([0])), truth.reflectance[4:5], truth.light[3:4])
    torch.testing.assert_close(other, expected)
    uneven = lopsided(truth)
    plain = show.swapped(space, uneven, 0, 0, 0)
    assert not torch.allclose(show.swapped(space, uneven, 0, 0, 0, mirror=True), plain, atol=0.05)


def test_turning_a_face_hides_the_half_that_turns_away(case):
    def seen(yaw):
        return show.unwrapping(case.run.space, *case.face, yaw)[2, 0] > 0

    ahead, left, right = seen(0), seen(-70), seen(70)
    assert right.sum() < 0.75 * ahead.sum()
    half = ahead.shape[1] // 2
    sides = {name: (mask[:, :half].sum(), mask[:, half:].sum()) for name, mask in (("left", left), ("right", right))}
    assert (sides["left"][0] < sides["left"][1]) != (sides["right"][0] < sides["right"][1])


def test_unwrapped_texture_where_seen_is_black_elsewhere(case):
    picture, texture, visible, both = show.unwrapping(case.run.space, *case.face, 50)
    assert picture.shape == texture.shape
    hidden = visible < 0
    assert hidden.any()
    assert (both[hidden] == -1).all()
    torch.testing.assert_close(both[~hidden], texture[~hidden])


def test_layers_begin_with_the_picture_and_its_truth(case):
    knowing = show.layer_rows(case.truth, case.truth, case.images, 5)
    assert len(knowing) == len(show.LAYERS)
    # What everything is known of is painted as it was filmed, up to noise and the shades of the screen.
    assert (knowing[0] - show.screen(cest.linear(case.images[5:6]))[0]).abs().mean() < 0.05
    dim = dataclasses.replace(case.truth, reflectance=0.5 * case.truth.reflectance)
    torch.testing.assert_close(show.layer_rows(dim, case.truth, case.images, 5)[2], knowing[2])
    fig = show.draw_layers({"all-knowing": case.truth}, case.truth, case.images, 5, case.errors, title="layers")
    (ax,) = fig.axes
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels == ["input and truth", "all-knowing (.012 / .012)"]
    assert len(ax.get_xticklabels()) == len(show.LAYERS)
    plt.close(fig)


def test_skin_times_shading_is_the_picture(case):
    world = case.run.unseen()
    light = cest.linear(world.frames.images)
    product = show.intrinsic(world.frames.images, world.clips.shading) * world.clips.shading
    # Where the quotient is above one, it is cut.
    lit = (world.clips.shading > 0.1).expand_as(light) & (light < 0.9 * world.clips.shading)
    assert lit.float().mean() > 0.1
    torch.testing.assert_close(product[lit], light[lit])


def test_measured_values_stand_in_order_with_their_intervals_and_references():
    fig, ax = plotting.figure()
    found = {"A": Estimate(3, 2, 5, 4, "toy"), "B": Estimate(7, 6, 9, 4, "toy")}
    show.draw_measured(ax, found, title="t", xlabel="x", references={"floor": 4.0})
    assert [label.get_text() for label in ax.get_yticklabels()] == ["A", "B"]
    (container,) = ax.containers
    np.testing.assert_allclose([segment[:, 0] for segment in container[2][0].get_segments()], [[2, 5], [6, 9]])
    assert ax.get_ylim()[0] > ax.get_ylim()[1]
    assert [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == "--"] == [4.0]
    plt.close(fig)


def test_cost_names_the_exponent_of_the_count():
    cost = study.Cost((2, 4, 8), {"one": (4, 8, 16), "all": (8, 32, 128)}, {"one": (10, 20, 40), "all": (10, 40, 160)})
    fig, axes = plotting.figure(2)
    show.draw_cost(axes, cost)
    assert [t.get_text() for t in axes[0].get_legend().get_texts()] == ["one: slope 1.00", "all: slope 2.00"]
    np.testing.assert_allclose(axes[1].lines[0].get_ydata(), [1e-5, 2e-5, 4e-5])
    plt.close(fig)


def test_ridge_bars_are_shares_of_the_variance_that_the_mean_leaves():
    shares = dict(zip(study.ALIGNMENTS, (0.05, 0.1, 0.2, -0.1), strict=True))
    squared = {"mean": np.array([1.0, 3.0])} | {name: (1 - r) * np.array([1.0, 3.0]) for name, r in shares.items()}
    found = study.Ridge({name: np.array([r, r]) for name, r in shares.items()}, {"yaw": 0.5}, squared)
    fig, axes = plotting.figure(2)
    show.draw_ridge(axes, found)
    np.testing.assert_allclose([bar.get_height() for bar in axes[0].patches], list(shares.values()))
    np.testing.assert_allclose(axes[1].lines[0].get_data(), [[0.05, 0.05], [0.2, 0.2]])
    plt.close(fig)


def test_tradeoff_and_training_are_drawn_from_means_and_losses(case):
    fig, axes = plotting.figure(3)
    show.draw_tradeoff(axes[0], case.errors, title="t")
    np.testing.assert_allclose(axes[0].lines[0].get_data(), [[0.012], [0.012]])
    losses = {"warm_up": np.geomspace(1, 0.1, 20), "photometric": np.geomspace(0.2, 0.02, 15)}
    trained = {name: study.Trained(cest.Estimator(case.run.space, case.run.scale.chain), losses) for name in ("A", "B")}
    show.draw_training(axes[1:], trained)
    assert len(axes[1].lines) == 1
    assert len(axes[2].lines) == 2
    plt.close(fig)
