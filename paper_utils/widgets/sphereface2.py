"""Pictures and explorers of paper 05, SphereFace2.

Each picture is a plain drawing function (used for the static figures too) and an explorer that gives it sliders.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_utils import plotting
from paper_utils.methods import sphereface2
from paper_utils.metrics.statistics import Estimate
from paper_utils.metrics.verification import Roc
from paper_utils.widgets.explorer import explorer

COSINES = torch.linspace(-1, 1, 401, dtype=torch.float64)


def draw_questions(
    axes: Sequence[Axes] | np.ndarray, config: sphereface2.HeadConfig, classes: int, *, title: str
) -> None:
    """Left: the loss of a positive and of a negative pair over their cosine. Right: the weight of each in the gradient.

    Parameters
    ----------
    axes
        Two axes.
    config
        The head; its bias is where training starts with so many `classes`.
    title
        Of the left panel.
    """
    bias = sphereface2.balanced_bias(config, classes)
    parts, weights = sphereface2.loss_parts(config, COSINES, bias), sphereface2.attention(config, COSINES, bias)
    surfaces = sphereface2.decision_cosines(config, bias)
    for pair, weight, where, label, color in zip(
        parts, weights, surfaces, ("same person", "different"), (plotting.PALETTE[0], plotting.PALETTE[1]), strict=True
    ):
        axes[0].plot(COSINES, pair, color=color, label=label)
        axes[1].plot(COSINES, weight, color=color, label=label)
        for ax in axes:
            ax.axvline(where, color=color, linestyle=":", linewidth=1.2)
    axes[0].set(title=title, xlabel="cosine of face and proxy", ylabel="loss of one pair")
    axes[1].set(title=f"Weight in the gradient (b = {bias:.2f})", xlabel="cosine of face and proxy", ylabel="weight")
    axes[0].legend()


def draw_adjustment(ax: Axes, exponents: Sequence[float]) -> None:
    """The similarity adjustment g for several exponents."""
    for t, color in zip(exponents, plotting.PALETTE, strict=False):
        ax.plot(COSINES, sphereface2.adjusted_similarity(COSINES, t), color=color, label=f"t = {t:g}")
    ax.set(title="Similarity adjustment g", xlabel="cosine", ylabel="g(cosine)")
    ax.legend()


def draw_scores(
    axes: Sequence[Axes] | np.ndarray, scores: Float[np.ndarray, " pairs"], same: np.ndarray, exponents: Sequence[float]
) -> None:
    """Scores of same and different pairs of unseen people after the adjustment, one panel an exponent."""
    for ax, t in zip(axes, exponents, strict=True):
        adjusted = sphereface2.adjusted_similarity(torch.from_numpy(scores), t).numpy()
        for kind, label, color in ((same, "same", plotting.PALETTE[0]), (~same, "different", plotting.PALETTE[1])):
            ax.hist(adjusted[kind], np.linspace(-1, 1, 80), density=True, alpha=0.6, color=color, label=label)
        ax.set(title=f"t = {t:g}", xlabel="g(cosine)", ylabel="density")
    axes[0].legend()


def draw_shares(ax: Axes, negatives: Float[np.ndarray, " others"], *, scale: float, bias: float) -> None:
    """Weight that each of some negatives gets: in a softmax they compete for one total, in binary questions they do not."""
    places = np.arange(len(negatives))
    exponentials = np.exp(scale * negatives)
    softmax = exponentials / (exponentials.sum() + np.exp(scale * 0.6))
    binary = 1 / (1 + np.exp(-(scale * negatives + bias)))
    for shift, values, label, color in (
        (-0.2, softmax, "softmax: share of one total", plotting.PALETTE[0]),
        (0.2, binary, "binary: each on its own", plotting.PALETTE[1]),
    ):
        ax.bar(places + shift, values, 0.4, color=color, label=label)
    ax.set_xticks(places, [f"{cosine:.1f}" for cosine in negatives])
    ax.set(title="Who pushes a face away?", xlabel="cosine with each other class", ylabel="weight in the gradient")
    ax.legend()


def draw_heads(ax: Axes, found: Mapping[str, Estimate], *, title: str, ylabel: str) -> None:
    """One point a head with its 95 % interval."""
    middle = np.array([estimate.value for estimate in found.values()])
    bars = np.abs(np.array([(estimate.low, estimate.high) for estimate in found.values()]).T - middle)
    colors = [plotting.PALETTE[1 if "2" in name else 0] for name in found]
    for place, (value, low, high, color) in enumerate(zip(middle, *bars, colors, strict=True)):
        ax.errorbar(place, value, [[low], [high]], fmt="o", color=color, capsize=4)
    ax.set_xticks(range(len(found)), list(found), rotation=20, ha="right")
    ax.set(title=title, ylabel=ylabel)


def draw_curves(ax: Axes, curves: Mapping[str, Roc]) -> None:
    """ROC of several heads over a logarithmic false accept rate."""
    for (name, curve), color in zip(curves.items(), plotting.PALETTE, strict=False):
        ax.plot(np.maximum(curve.fpr, 1e-6), curve.tpr, color=color, label=name, linewidth=1.5)
    ax.set_xscale("log")
    ax.set(title="Unseen people, one run", xlabel="false accept rate", ylabel="true accept rate", xlim=(1e-5, 1))
    ax.legend()


def explore_questions() -> widgets.VBox:
    """Turn the four dials of SphereFace2 and see losses, thresholds and weights."""

    def draw(balance: float, scale: float, margin: float, exponent: float) -> Figure:
        fig, axes = plt.subplots(1, 2, figsize=(10, 3.2))
        config = dataclasses.replace(
            sphereface2.HeadConfig(), balance=balance, scale=scale, margin=margin, exponent=exponent
        )
        draw_questions(axes, config, 200, title="Two questions, 200 classes")
        return fig

    return explorer(
        draw,
        {
            "balance": widgets.FloatSlider(
                0.7, min=0.5, max=0.98, step=0.02, description="lambda", continuous_update=False
            ),
            "scale": widgets.FloatSlider(20.0, min=1.0, max=60.0, step=1.0, description="r", continuous_update=False),
            "margin": widgets.FloatSlider(0.2, min=0.0, max=0.5, step=0.05, description="m", continuous_update=False),
            "exponent": widgets.FloatSlider(3.0, min=1.0, max=5.0, step=0.5, description="t", continuous_update=False),
        },
    )
