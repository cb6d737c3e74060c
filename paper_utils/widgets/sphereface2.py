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
from matplotlib.ticker import NullFormatter

from paper_utils import plotting
from paper_utils.methods import sphereface2
from paper_utils.metrics import verification
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
            ax.set_xticks(np.linspace(-1, 1, 5))
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
            style = {"density": True, "histtype": "stepfilled", "alpha": 0.6, "color": color}
            ax.hist(adjusted[kind], np.linspace(-1, 1, 61), label=label, **style)
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
    middle, bars = plotting.whiskers(found.values())
    colors = [plotting.PALETTE[1 if "2" in name else 0] for name in found]
    for place, (value, low, high, color) in enumerate(zip(middle, *bars, colors, strict=True)):
        ax.errorbar(place, value, [[low], [high]], fmt="o", color=color, capsize=4)
    ax.set_xticks(range(len(found)), list(found), rotation=20, ha="right")
    ax.set(title=title, ylabel=ylabel)


def draw_over(ax: Axes, found: Mapping[str, Mapping[float, Estimate]], *, title: str, xlabel: str, ylabel: str) -> None:
    """One line a head over a quantity that was varied, with 95 % intervals; heads stand a little apart."""
    places = sorted({place for points in found.values() for place in points})
    apart = 0.012 * (places[-1] - places[0])
    for number, (name, points) in enumerate(found.items()):
        middle, bars = plotting.whiskers(points.values())
        x = np.array(list(points)) + (number - (len(found) - 1) / 2) * apart
        ax.errorbar(x, middle, bars, fmt="o-", color=plotting.PALETTE[number], label=name, capsize=3, linewidth=1.5)
    ax.set_xticks(places)
    ax.set(title=title, xlabel=xlabel, ylabel=ylabel)
    ax.legend()


def draw_curves(ax: Axes, curves: Mapping[str, Roc]) -> None:
    """ROC of several heads over a logarithmic false accept rate."""
    rates = np.geomspace(1e-5, 1, 400)
    for (name, curve), color in zip(curves.items(), plotting.PALETTE, strict=False):
        reached = curve.tpr[np.searchsorted(curve.fpr, rates, side="right") - 1]
        ax.plot(rates, reached, color=color, label=name, linewidth=1.5)
    ax.set_xscale("log")
    ax.set(title="Unseen people, one run", xlabel="false accept rate", ylabel="true accept rate", xlim=(1e-5, 1))
    ax.legend()


def draw_definitions(ax: Axes, curve: Roc, far: float) -> None:
    """Three definitions of "the true accept rate at a false accept rate" on one small test.

    Parameters
    ----------
    ax
        Its false accept rate is logarithmic.
    curve
        Of few pairs, so that single steps can be seen.
    far
        The rate asked for; below one different pair the definition "exact" gives no number.
    """
    finest = 1 / curve.negatives
    ax.step(
        np.maximum(curve.fpr, finest / 10), curve.tpr, where="post", color=plotting.PALETTE[7], label="real thresholds"
    )
    ax.axvline(far, color="black", linestyle=":", linewidth=1.2)
    for method, marker, color in zip(verification.METHODS, "os^", plotting.PALETTE, strict=False):
        point = verification.operating_point(curve, far, method=method)
        label = f"{method}: {100 * point.tar:.1f} %" if np.isfinite(point.tar) else f"{method}: no number"
        ax.plot(far, point.tar, marker, color=color, markersize=8, fillstyle="none", markeredgewidth=2, label=label)
    ax.set_xscale("log")
    ax.xaxis.set_minor_formatter(NullFormatter())
    # What happens near the rate in question, and no more.
    high = curve.tpr[np.searchsorted(curve.fpr, min(1.0, 4 * far + 4 * finest), side="right") - 1]
    ax.set(xlim=(finest / 4, 4 * far + 4 * finest), ylim=(-0.02 * high, 1.15 * high + 1e-3))
    ax.set(
        title=f"FAR {far:.1e}; one different pair is {finest:.1e}",
        xlabel="false accept rate",
        ylabel="true accept rate",
    )
    ax.legend(loc="lower right")


def draw_circle(
    ax: Axes,
    directions: Float[np.ndarray, "n 2"],
    classes: np.ndarray,
    proxies: Float[np.ndarray, "classes 2"],
    config: sphereface2.HeadConfig,
    bias: float,
) -> None:
    """Faces and proxies on the circle, and around every proxy the same cone in which the answer is yes.

    Parameters
    ----------
    ax
        Polar axes.
    directions, classes, proxies
        Unit embeddings, the class of each, unit proxies.
    config, bias
        The head; its margin makes the inner cone (yes, and surely) narrower than the outer one (not surely no).
    """
    surfaces = [np.arccos(cosine) for cosine in sphereface2.decision_cosines(config, bias)]
    cosine = torch.from_numpy(directions @ proxies.T)
    yes = (config.scale * sphereface2.adjusted_similarity(cosine, config.exponent) + bias > 0).numpy()
    own = classes[:, None] == np.arange(len(proxies))
    for number, proxy in enumerate(proxies):
        color, middle = plotting.PALETTE[number % len(plotting.PALETTE)], np.arctan2(proxy[1], proxy[0])
        for half, alpha in zip(surfaces, (0.5, 0.2), strict=True):
            if np.isfinite(half):
                ax.bar(middle, 0.75, 2 * half, bottom=0.0, color=color, alpha=alpha, linewidth=0)
        ax.plot([middle, middle], [0, 0.85], color=color, linewidth=2.5)
        faces = directions[classes == number]
        angles = np.arctan2(faces[:, 1], faces[:, 0])
        ax.scatter(angles, np.linspace(0.9, 1.1, len(faces)), s=9, color=color, linewidth=0)
    ax.set(ylim=(0, 1.15), yticks=[])
    ax.set_title(f"yes to the own class {yes[own].mean():.0%}, to another {yes[~own].mean():.1%}", fontsize=11, pad=14)
    ax.grid(False)


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
            "balance": widgets.FloatSlider(0.7, min=0.5, max=0.98, step=0.02, description="lambda"),
            "scale": widgets.FloatSlider(20.0, min=1.0, max=60.0, step=1.0, description="r"),
            "margin": widgets.FloatSlider(0.2, min=0.0, max=0.5, step=0.05, description="m"),
            "exponent": widgets.FloatSlider(3.0, min=1.0, max=5.0, step=0.5, description="t"),
        },
    )


def explore_shares() -> widgets.VBox:
    """Move the closest wrong class and see whose weight that changes."""

    def draw(closest: float, scale: float) -> Figure:
        fig, ax = plt.subplots(figsize=(8, 3.2))
        draw_shares(ax, np.array([closest, 0.4, 0.3, 0.2, 0.1, 0.0, -0.1, -0.2]), scale=scale, bias=-5.0)
        ax.set_ylim(0, 1)
        return fig

    closest = widgets.FloatSlider(0.5, min=-0.2, max=0.9, step=0.05, description="closest")
    scale = widgets.FloatSlider(16.0, min=4.0, max=40.0, step=2.0, description="scale")
    return explorer(draw, {"closest": closest, "scale": scale})


def explore_scores(scores: Float[np.ndarray, " pairs"], same: np.ndarray) -> widgets.VBox:
    """Scores of unseen pairs under another exponent."""

    def draw(exponent: float) -> Figure:
        fig, axes = plt.subplots(1, 2, figsize=(10, 3.2), sharey=False)
        draw_scores(axes, scores, same, (1.0, exponent))
        return fig

    slider = widgets.FloatSlider(3.0, min=1.0, max=8.0, step=0.5, description="t")
    return explorer(draw, {"exponent": slider})


def explore_circle(
    directions: Float[np.ndarray, "n 2"],
    classes: np.ndarray,
    proxies: Float[np.ndarray, "classes 2"],
    config: sphereface2.HeadConfig,
    bias: float,
) -> widgets.VBox:
    """Open and close the cones of all classes at once."""

    def draw(bias: float, margin: float) -> Figure:
        fig, ax = plt.subplots(figsize=(5, 4.6), subplot_kw={"projection": "polar"})
        draw_circle(ax, directions, classes, proxies, dataclasses.replace(config, margin=margin), bias)
        return fig

    # As far as the threshold -b/r can go; the cone is the whole circle at one end and empty at the other.
    far = config.scale
    dial = widgets.FloatSlider(bias, min=-far, max=far, step=0.5, description="b")
    margin = widgets.FloatSlider(config.margin, min=0.0, max=0.5, step=0.05, description="m")
    return explorer(draw, {"bias": dial, "margin": margin})


def explore_definitions(curve: Roc) -> widgets.VBox:
    """Ask for another false accept rate and compare three definitions."""

    def draw(far: float) -> Figure:
        fig, ax = plt.subplots(figsize=(7, 3.4))
        draw_definitions(ax, curve, far)
        return fig

    lowest = np.log10(0.3 / curve.negatives)
    slider = widgets.FloatLogSlider(1e-2, min=lowest, max=-0.5, step=0.05, description="FAR", readout_format=".1e")
    return explorer(draw, {"far": slider})
