"""Pictures and explorers of paper 05: they draw without a browser and show what the formulas say."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest

from paper_utils import plotting
from paper_utils.methods import sphereface2
from paper_utils.metrics import verification
from paper_utils.metrics.statistics import Estimate
from paper_utils.widgets import sphereface2 as show

RNG = np.random.default_rng(0)
SCORES = np.r_[RNG.normal(0.6, 0.2, 40), RNG.normal(0.0, 0.2, 400)].clip(-1, 1)
SAME = np.arange(440) < 40
CURVE = verification.roc(SCORES, SAME)


def circle(bias: float = -2.0, margin: float = 0.2):
    """Four people on the circle, one picture each exactly on its proxy and one 60 degrees off."""
    angles = np.pi / 2 * np.arange(4)
    proxies = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    off = np.stack([np.cos(angles + np.pi / 3), np.sin(angles + np.pi / 3)], axis=1)
    config = sphereface2.HeadConfig("C", margin, scale=10.0)
    return np.concatenate([proxies, off]), np.tile(np.arange(4), 2), proxies, config, bias


@pytest.mark.parametrize(
    ("make", "control", "value"),
    [
        (show.explore_questions, "r", 40.0),
        (show.explore_shares, "closest", 0.8),
        (lambda: show.explore_scores(SCORES, SAME), "t", 6.0),
        (lambda: show.explore_circle(*circle()), "b", 4.0),
        (lambda: show.explore_definitions(CURVE), "FAR", 0.1),
    ],
    ids=["questions", "shares", "scores", "circle", "definitions"],
)
def test_an_explorer_redraws_when_a_control_moves_and_leaves_no_figure_open(make, control, value):
    opened = plt.get_fignums()
    controls, picture = make().children
    before = bytes(picture.value)
    next(one for one in controls.children if one.description == control).value = value
    assert bytes(picture.value) != before
    assert bytes(picture.value).startswith(b"\x89PNG")
    assert plt.get_fignums() == opened


def test_dotted_lines_stand_where_the_two_questions_turn():
    config = sphereface2.HeadConfig("C", 0.1, scale=20.0)
    fig, axes = plotting.figure(2)
    show.draw_questions(axes, config, 10, title="questions")
    lines = [line.get_xdata()[0] for line in axes[0].lines if line.get_linestyle() == ":"]
    expected = sphereface2.decision_cosines(config, sphereface2.balanced_bias(config, 10))
    np.testing.assert_allclose(lines, expected)
    plt.close(fig)


def test_binary_weights_do_not_depend_on_the_other_classes_and_softmax_shares_do():
    def heights(negatives):
        fig, ax = plotting.figure()
        show.draw_shares(ax, np.array(negatives), scale=16.0, bias=-5.0)
        bars = [bar.get_height() for container in ax.containers for bar in container]
        plt.close(fig)
        return np.array(bars).reshape(2, -1)

    both, alone = heights([0.5, 0.4]), heights([0.4])
    assert both[1, 1] == pytest.approx(alone[1, 0])
    assert both[0, 1] < 0.9 * alone[0, 0]


def test_heads_are_drawn_with_their_intervals():
    fig, ax = plotting.figure()
    show.draw_heads(ax, {"ArcFace": Estimate(3, 2, 5, 4, "toy")}, title="heads", ylabel="EER")
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["ArcFace"]
    (segment,) = ax.collections[0].get_segments()
    np.testing.assert_allclose(segment[:, 1], [2, 5])
    plt.close(fig)


def test_estimates_over_a_quantity_keep_their_places_and_intervals():
    fig, ax = plotting.figure()
    points = {0.0: Estimate(3, 2, 5, 4, "toy"), 30.0: Estimate(7, 6, 9, 4, "toy")}
    show.draw_over(ax, {"A": points, "B": points}, title="noise", xlabel="share", ylabel="EER")
    assert ax.get_xticks().tolist() == [0.0, 30.0]
    for container in ax.containers:
        line, _, (bars,) = container
        np.testing.assert_allclose(line.get_xdata(), [0, 30], atol=0.5)
        np.testing.assert_allclose([segment[:, 1] for segment in bars.get_segments()], [[2, 5], [6, 9]])
    plt.close(fig)


def test_a_curve_is_read_at_the_largest_rate_that_is_not_above():
    fig, ax = plotting.figure()
    show.draw_curves(ax, {"head": CURVE})
    (line,) = ax.lines
    for far, tar in zip(*line.get_data(), strict=True):
        if far * CURVE.negatives >= 1:
            assert tar == verification.tar_at_far(CURVE, far)
    plt.close(fig)


@pytest.mark.parametrize("far", [0.02, 0.3 / CURVE.negatives])
def test_three_definitions_stand_at_what_they_say(far):
    fig, ax = plotting.figure()
    show.draw_definitions(ax, CURVE, far)
    marks = {line.get_marker(): line.get_ydata()[0] for line in ax.lines if line.get_marker() in "os^"}
    expected = [verification.operating_point(CURVE, far, method=method).tar for method in verification.METHODS]
    np.testing.assert_array_equal([marks[marker] for marker in "os^"], expected)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert ("exact: no number" in labels) == np.isnan(expected[0])
    plt.close(fig)


def test_all_classes_have_the_same_two_cones_and_yes_is_counted_at_the_bias():
    arguments = circle(bias=3.0)
    fig, ax = plotting.figure(subplot_kw={"projection": "polar"})
    show.draw_circle(ax, *arguments)
    widths = np.array([wedge.get_width() for wedge in ax.patches]).reshape(4, 2)
    inner, outer = np.arccos(sphereface2.decision_cosines(arguments[3], arguments[4]))
    np.testing.assert_allclose(widths, np.tile([2 * inner, 2 * outer], (4, 1)))
    # Above the threshold of -0.3 are g(1) = 1, g(cos 60) = -0.16 and g(cos 30) = 0.62 (the neighbour's picture); g(0) = -0.75 is not.
    assert ax.get_title() == "yes to the own class 100%, to another 16.7%"
    plt.close(fig)
