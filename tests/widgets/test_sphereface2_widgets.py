"""Pictures and explorers of paper 05: they draw without a browser and show what the formulas say."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest

from paper_utils import plotting
from paper_utils.methods import sphereface2
from paper_utils.metrics.statistics import Estimate
from paper_utils.widgets import sphereface2 as show


def test_the_explorer_redraws_when_a_control_moves_and_leaves_no_figure_open():
    opened = plt.get_fignums()
    controls, picture = show.explore_questions().children
    before = bytes(picture.value)
    next(control for control in controls.children if control.description == "r").value = 40.0
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
