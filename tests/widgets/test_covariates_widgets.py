"""Explorers of paper 01: they draw without a browser, draw anew when a control moves, and show what the formulas say."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest

from paper_utils import plotting
from paper_utils.methods import covariates as cv
from paper_utils.widgets import covariates as widgets


@pytest.mark.parametrize(
    ("make", "description", "value"),
    [
        (widgets.explore_matching_accuracy, "prior", 0.9),
        (widgets.explore_verification, "probe err", 0.2),
        (widgets.explore_likelihood_ratio, "2 seen as 3", 0.1),
    ],
)
def test_an_explorer_redraws_when_a_control_moves_and_leaves_no_figure_open(make, description, value):
    opened = plt.get_fignums()
    controls, picture = make().children
    before = bytes(picture.value)
    next(control for control in controls.children if control.description == description).value = value
    assert bytes(picture.value) != before
    assert bytes(picture.value).startswith(b"\x89PNG")
    assert plt.get_fignums() == opened


def test_simulated_dots_lie_on_the_curve_and_the_frame_on_the_best_label():
    fig, axes = plotting.figure(2)
    model = widgets.gender_model(0.61, 0.03, 0.05)
    widgets.draw_matching_accuracy(axes[0], model, trials=20_000)
    dots = next(line for line in axes[0].lines if line.get_label() == "simulated")
    expected = cv.match_accuracy(model, dots.get_xdata())
    np.testing.assert_allclose(dots.get_ydata(), expected, atol=4 * np.sqrt(0.25 / 20_000))
    swapped = widgets.overlapping_model(0.4, 0.6)
    widgets.draw_likelihood_ratio(axes[1], swapped, title="")
    frames = [tuple(np.rint(np.add(patch.get_xy(), 0.46)).astype(int)) for patch in axes[1].patches]
    assert frames == [(b, a) for a, b in enumerate(swapped.likelihood_ratio.argmax(axis=1))]
    plt.close(fig)
