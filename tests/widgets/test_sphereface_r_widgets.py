"""Explorers of paper 06: they draw without a browser and draw anew when a control moves."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from paper_utils import plotting
from paper_utils.metrics.statistics import Estimate
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


def test_gains_stand_beside_their_heads_with_their_intervals():
    fig, ax = plotting.figure()
    clean = {
        "a": Estimate(1.0, 0.5, 1.5, 4, "t"),
        "b": Estimate(-1.0, -3.0, 0.5, 4, "t"),
        "c": Estimate(0.0, 0.0, 0.0, 4, "t"),
    }
    noisy = {name: clean[name] for name in "ab"}
    widgets.draw_gains(ax, {"clean": clean, "noisy": noisy}, title="gain", unit="points")
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b", "c"]
    (line, _, (bars,)) = ax.containers[0]
    np.testing.assert_allclose(np.asarray(line.get_xdata(), dtype=float), [1.0, -1.0, 0.0])
    np.testing.assert_allclose([segment[:, 0] for segment in bars.get_segments()], [[0.5, 1.5], [-3.0, 0.5], [0, 0]])
    assert len(ax.containers) == 2
    plt.close(fig)


def test_portraits_stand_where_their_people_point():
    fig, ax = plotting.figure()
    unit = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.8, -0.6], [0.0, 1.0], [-0.6, 0.8], [0.6, 0.8]])
    who = torch.tensor([3, 3, 3, 8, 8, 8])
    portraits = {3: np.zeros((4, 4, 3)), 8: np.ones((4, 4, 3))}
    widgets.draw_on_circle(ax, unit, who, portraits, title="two")
    places = [artist.xybox for artist in ax.artists]
    np.testing.assert_allclose(places, [[1.4, 0.0], [0.0, 1.4]], atol=1e-6)
    plt.close(fig)
