"""Explorers of paper 06: they draw without a browser and draw anew when a control moves."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest

from paper_utils import plotting
from paper_utils.widgets import sphereface_r as widgets


def history(members: int = 2) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.uniform(0.1, 0.9, size=(5, members)) for name in ("pull", "target_angle", "rival")}


EXPLORERS = {
    "angular functions": (widgets.explore_angular_functions, {"detach": True}),
    "decision regions": (widgets.explore_decision_regions, {"psi": "arcface"}),
    "logits": (widgets.explore_logits, {"target_deg": 100.0}),
    "traces": (lambda: widgets.explore_gradient_traces({"a": history(), "b": history()}), {"first": "b"}),
    "norms": (
        lambda: widgets.explore_norms(
            {n: (np.linspace(0, 1, 60), np.arange(1.0, 61) * k) for k, n in enumerate("ab", 1)}
        ),
        {"scheme": "b"},
    ),
    "collapse": (widgets.explore_margin_collapse, {"excess": 0.1}),
}
DESCRIPTIONS = {
    "margin": "m", "detach": "detach the gradient", "psi": "head", "target_deg": "own angle", "first": "run", "scheme": "scheme",
    "excess": "margin",
}  # fmt: skip


@pytest.mark.parametrize("name", EXPLORERS)
def test_an_explorer_redraws_when_a_control_moves_and_leaves_no_figure_open(name):
    opened = plt.get_fignums()
    make, moves = EXPLORERS[name]
    box = make()
    controls, picture = box.children
    before = bytes(picture.value)
    assert before.startswith(b"\x89PNG")
    for key, value in moves.items():
        control = next(c for c in controls.children if c.description == DESCRIPTIONS[key])
        control.value = value
        assert bytes(picture.value) != before
        before = bytes(picture.value)
    assert plt.get_fignums() == opened


def test_regions_of_the_three_factor_heads_are_the_same_picture():
    drawn = []
    for psi in ("v0", "v1", "v2"):
        fig, ax = plotting.figure(width=2, height=2, subplot_kw={"projection": "polar"})
        widgets.draw_decision_regions(ax, psi, 1.7)
        drawn.append([patch.get_paths()[0].vertices for patch in ax.collections])
        plt.close(fig)
    for other in drawn[1:]:
        for first, second in zip(drawn[0], other, strict=True):
            np.testing.assert_allclose(first, second)
