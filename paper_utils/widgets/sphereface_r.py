"""Pictures and explorers of paper 06, SphereFace-R.

Each picture is a plain drawing function (used for the static figures too) and an explorer that gives it sliders.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import ipywidgets as widgets
import numpy as np
import torch
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from torch import Tensor

from paper_utils import plotting
from paper_utils.methods import sphereface_r
from paper_utils.metrics.statistics import Estimate
from paper_utils.nn import margins
from paper_utils.widgets.explorer import explorer

FACTOR_HEADS = {"SphereFace (v0)": "v0", "SphereFace-R v1": "v1", "SphereFace-R v2": "v2"}
MARGIN_HEADS = {"NormFace": "normface", "CosFace": "cosface", "ArcFace": "arcface", **FACTOR_HEADS}


def _margin_in_range(psi: str, margin: float) -> float:
    """Move a slider's value (1 to 4) into the head's own range: (m - 1)/5 for the additive heads, m itself for the others."""
    return (margin - 1) / 5 if psi in ("cosface", "arcface") else margin


def draw_angular_functions(
    axes: Sequence[Axes] | np.ndarray, psi: str, margin: float, *, detach: bool, title: str | None = None
) -> None:
    r"""Left: :math:`\psi`, :math:`\eta` and :math:`\Delta` over the angle. Right: how fast the logits follow the cosine.

    Parameters
    ----------
    axes
        Two axes.
    psi, margin
        Head and its own margin.
    detach
        Slopes with characteristic gradient detachment or without.
    title
        Of the left panel.
    """
    theta = torch.linspace(0.01, math.pi - 0.01, 400, dtype=torch.float64)
    degrees = torch.rad2deg(theta)
    target, other = sphereface_r.psi_eta(psi, theta, margin)
    for values, label, color, style in (
        (target, r"$\psi$: own class", plotting.PALETTE[0], "-"),
        (other, r"$\eta$: other classes", plotting.PALETTE[1], "--"),
        (other - target, r"$\Delta=\eta-\psi$", plotting.PALETTE[7], ":"),
    ):
        axes[0].plot(degrees, values, style, color=color, label=label)
    slope_target, slope_other = sphereface_r.slopes(psi, theta, margin, detach=detach)
    axes[1].plot(degrees, slope_target, color=plotting.PALETTE[0], label=r"$d\psi/dc$")
    axes[1].plot(degrees, slope_other, "--", color=plotting.PALETTE[1], label=r"$d\eta/dc$")
    axes[1].set_yscale("symlog", linthresh=1)
    axes[1].set_ylim(-0.2, 60)
    axes[0].set_title(title or f"{psi}, m = {margin:.2g}")
    axes[1].set_title("Slopes, " + ("detached" if detach else "full gradient"))
    for ax, name in zip(axes, ("logit / scale", "slope per unit of cosine"), strict=True):
        ax.set(xlabel=r"angle $\theta$ (degrees)", ylabel=name, xticks=range(0, 181, 45))
        ax.legend()


def draw_decision_regions(ax: Axes, psi: str, margin: float, proxies_deg: Sequence[float] = (90, 210, 330)) -> None:
    """Directions on the circle that a class may claim under its margin; white is nobody's.

    Parameters
    ----------
    ax
        Polar axes.
    psi, margin
        Head and its own margin.
    proxies_deg
        Directions of the class proxies.
    """
    around = torch.linspace(0, 2 * math.pi, 721, dtype=torch.float64)
    proxies = torch.deg2rad(torch.tensor(proxies_deg, dtype=torch.float64))
    distance = (around[:, None] - proxies).remainder(2 * math.pi)
    distance = torch.minimum(distance, 2 * math.pi - distance)
    target, other = sphereface_r.psi_eta(psi, distance.flatten(), margin)
    target, other = target.view_as(distance), other.view_as(distance)
    for number, color in zip(range(len(proxies)), plotting.PALETTE, strict=False):
        rivals = torch.cat([other[:, :number], other[:, number + 1 :]], dim=1).amax(1)
        claimed = (target[:, number] >= rivals).numpy()
        ax.fill_between(around.numpy(), 0.72, 1.0, where=claimed, color=color, alpha=0.75, linewidth=0)
        ax.plot([proxies[number]] * 2, [0, 1.0], color=color, linewidth=2.5)
    ax.set(yticks=[], ylim=(0, 1.02))
    ax.set_xticks([math.radians(d) for d in range(0, 360, 60)])
    ax.grid(False)


def draw_logits_of_one_sample(ax: Axes, margin: float, *, target_deg: float = 50.0, scale: float = 16.0) -> None:
    """Logits of one sample among eight classes: untouched, own class lowered (v1), other classes lifted (v2)."""
    degrees = torch.tensor([target_deg, 62.0, 71.0, 80.0, 90.0, 101.0, 115.0, 140.0], dtype=torch.float64)
    cosine = torch.cos(torch.deg2rad(degrees)).unsqueeze(0)
    labels = torch.zeros(1, dtype=torch.long)
    place = torch.arange(len(degrees))
    for shift, (name, psi) in zip(
        (-0.27, 0, 0.27), (("no margin", "normface"), ("v1", "v1"), ("v2", "v2")), strict=True
    ):
        logits = scale * margins.margin_cosines(cosine, labels, *sphereface_r.angular_functions(psi, margin))
        share = torch.softmax(logits, dim=1)[0, 0]
        color = {"normface": plotting.PALETTE[7], "v1": plotting.PALETTE[0], "v2": plotting.PALETTE[1]}[psi]
        ax.bar(place + shift, logits[0], 0.25, color=color, label=f"{name}: own class gets P = {share:.2g}")
    ax.axhline(0, color="black", linewidth=0.8)
    names = ["own", *"BCDEFGH"]
    ax.set_xticks(place, [f"{n}\n{d:.0f}°" for n, d in zip(names, degrees, strict=True)])
    ax.set(
        xlabel="class and its angle to the sample", ylabel="logit", title=f"Who is moved by a margin of {margin:.2g}?"
    )
    ax.legend()


def draw_gradient_trace(
    axes: Sequence[Axes] | np.ndarray, histories: Mapping[str, Mapping[str, np.ndarray]], *, every: int = 1
) -> None:
    """Largest pull on a target cosine, mean target angle and nearest rival over training; one curve a run name.

    Parameters
    ----------
    axes
        Three axes.
    histories
        By label: the history of a training run with ``pull``, ``target_angle`` and ``rival``, each (records, members).
    every
        Steps between two records.
    """
    for number, (label, history) in enumerate(histories.items()):
        look = {"color": plotting.PALETTE[number // 2], "linestyle": "--" if number % 2 else "-", "label": label}
        steps = every * np.arange(len(history["pull"]))
        axes[0].semilogy(steps, np.nanmax(history["pull"], axis=1), linewidth=1.2, **look)
        axes[1].plot(steps, np.degrees(history["target_angle"]).mean(1), **look)
        axes[2].plot(steps, np.degrees(np.arccos(np.clip(history["rival"], -1, 1))).mean(1), **look)
    axes[0].axhline(1, color="black", linestyle=":", linewidth=1)
    axes[0].set(xlabel="step", ylabel=r"max $|\partial L/\partial c_y|\,/\,s$", title="The strongest pull in a batch")
    axes[1].set(xlabel="step", ylabel="degrees", title="Mean angle to the own class", ylim=(0, 185))
    axes[2].set(xlabel="step", ylabel="degrees", title="Mean angle to the nearest rival", ylim=(0, 185))
    axes[1].legend(loc="center right")


def draw_norm_and_quality(ax: Axes, quality: np.ndarray, norms: np.ndarray, *, title: str) -> None:
    """Length of unseen images' embeddings against the planted quality, with the mean of ten quality bins."""
    ax.plot(
        quality[::3], norms[::3], ".", color=plotting.PALETTE[7], markersize=3
    )  # a third of the dots is enough to see
    bins = np.clip((quality * 10).astype(int), 0, 9)
    means = [norms[bins == b].mean() for b in range(10)]
    ax.plot((np.arange(10) + 0.5) / 10, means, "o-", color=plotting.PALETTE[0])
    ax.set(xlabel="planted quality (0 poor, 1 clean)", ylabel="length of the embedding", title=title, ylim=(0, None))


def draw_gains(ax: Axes, gains: Mapping[str, Mapping[str, Estimate]], *, title: str, unit: str) -> None:
    """Paired differences with their intervals, one line a head; one colour a condition, all with the same first heads."""
    for number, (condition, found) in enumerate(gains.items()):
        middle, bars = plotting.whiskers(found.values())
        place = np.arange(len(middle)) + 0.14 * (2 * number - len(gains) + 1)
        ax.errorbar(middle, place, xerr=bars, fmt="o", color=plotting.PALETTE[number], capsize=3, label=condition)
    heads = max(gains.values(), key=len)
    ax.set_yticks(np.arange(len(heads)), list(heads))
    ax.axvline(0, color="black", linewidth=1)
    ax.set(title=title, xlabel=unit, ylim=(len(heads) - 0.5, -0.5))  # the first head on top
    ax.legend()


def draw_on_circle(
    ax: Axes,
    unit: Float[Tensor, "n 2"],
    identities: Int[Tensor, " n"],
    portraits: Mapping[int, Float[np.ndarray, "height width 3"]],
    *,
    title: str,
) -> None:
    """Embeddings of length one as dots on the circle, with a portrait of each person outside, where the person's mean points."""
    for (who, portrait), color in zip(portraits.items(), plotting.PALETTE, strict=False):
        own = unit[identities == who]
        ax.plot(*own.T, ".", color=color, alpha=0.3, markersize=8)
        middle = own.mean(0) / own.mean(0).norm()
        ax.plot(*torch.stack([0 * middle, middle], dim=1), color=color, linewidth=1)
        picture = OffsetImage(np.clip(portrait / 2 + 0.5, 0, 1), zoom=1.0)
        frame = {"edgecolor": color, "boxstyle": "square,pad=0.1"}
        ax.add_artist(AnnotationBbox(picture, tuple((1.4 * middle).tolist()), bboxprops=frame))
    ax.set(title=title, aspect="equal", xlim=(-1.75, 1.75), ylim=(-1.75, 1.75), xticks=(-1, 0, 1), yticks=(-1, 0, 1))
    ax.set(xlabel="first number of the embedding", ylabel="second number")


def draw_margin_collapse(ax: Axes, excess: float, *, seed: int = 0) -> None:
    """Distance of each head's loss and gradient from NormFace when every margin is `excess` away from "off"."""
    found = [sphereface_r.distance_from_normface(psi, excess, seed=seed) for psi in list(MARGIN_HEADS.values())[1:]]
    place = np.arange(len(found))
    for shift, column, label, color in (
        (-0.2, 0, "loss", plotting.PALETTE[0]),
        (0.2, 1, "gradient", plotting.PALETTE[4]),
    ):
        ax.bar(place + shift, [max(row[column], 1e-17) for row in found], 0.4, color=color, label=label)
    ax.axhline(1e-6, color="black", linestyle=":", linewidth=1)
    ax.set_yscale("log")
    ax.set_xticks(place, list(MARGIN_HEADS)[1:], rotation=15)
    ax.set(ylabel="relative distance from NormFace", title=f"Margins {excess:g} above 'off'", ylim=(1e-17, 1e4))
    ax.legend(ncols=2)


def _margin_slider(value: float, high: float = 4.0) -> widgets.FloatSlider:
    return widgets.FloatSlider(value, min=1.0, max=high, step=0.1, description="m")


def explore_angular_functions() -> widgets.VBox:
    """Play 1: psi, eta, Delta and slopes of any head. For CosFace and ArcFace the slider's m stands for (m - 1)/5."""

    def draw(psi: str, margin: float, detach: bool) -> Figure:
        fig, axes = plotting.figure(2)
        draw_angular_functions(axes, psi, _margin_in_range(psi, margin), detach=detach)
        return fig

    controls = {
        "psi": widgets.Dropdown(options=MARGIN_HEADS, value="v0", description="head"),
        "margin": _margin_slider(2.0),
        "detach": widgets.Checkbox(False, description="detach the gradient"),
    }
    return explorer(draw, controls)


def explore_decision_regions() -> widgets.VBox:
    """Play 2: what a class may claim on the circle, with movable second proxy."""

    def draw(psi: str, margin: float, second: float) -> Figure:
        fig, ax = plotting.figure(width=4.2, height=4.2, subplot_kw={"projection": "polar"})
        draw_decision_regions(ax, psi, _margin_in_range(psi, margin), (90, second, 330))
        return fig

    controls = {
        "psi": widgets.Dropdown(options=MARGIN_HEADS, value="v1", description="head"),
        "margin": _margin_slider(1.5),
        "second": widgets.FloatSlider(210, min=120, max=300, step=5, description="2nd proxy"),
    }
    return explorer(draw, controls)


def explore_logits() -> widgets.VBox:
    """Play 3: which logits a margin moves, v1 against v2."""

    def draw(margin: float, target_deg: float) -> Figure:
        fig, ax = plotting.figure(width=8.5)
        draw_logits_of_one_sample(ax, margin, target_deg=target_deg)
        return fig

    angle = widgets.FloatSlider(50, min=5, max=150, step=5, description="own angle")
    return explorer(draw, {"margin": _margin_slider(1.4), "target_deg": angle})


def explore_gradient_traces(histories: Mapping[str, Mapping[str, np.ndarray]], *, every: int = 1) -> widgets.VBox:
    """Play 4: training with and without detachment, any two runs on top of each other."""

    def draw(first: str, second: str) -> Figure:
        fig, axes = plotting.figure(3, width=12)
        draw_gradient_trace(axes, {name: histories[name] for name in (first, second)}, every=every)
        return fig

    names = list(histories)
    controls = {
        "first": widgets.Dropdown(options=names, value=names[0], description="run"),
        "second": widgets.Dropdown(options=names, value=names[-1], description="against"),
    }
    return explorer(draw, controls)


def explore_norms(results: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> widgets.VBox:
    """Play 5: length against quality for each normalisation; `results` maps a name to (quality, norms)."""

    def draw(scheme: str) -> Figure:
        fig, ax = plotting.figure(width=6.0)
        draw_norm_and_quality(ax, *results[scheme], title=scheme)
        return fig

    return explorer(draw, {"scheme": widgets.Dropdown(options=list(results), description="scheme")})


def explore_margin_collapse() -> widgets.VBox:
    """Play 6: turn every margin off and watch all heads become NormFace."""

    def draw(excess: float) -> Figure:
        fig, ax = plotting.figure(width=7.5)
        draw_margin_collapse(ax, excess)
        return fig

    options = [0.0, 1e-6, 1e-4, 1e-2, 0.1, 0.3]
    return explorer(
        draw,
        {"excess": widgets.SelectionSlider(options=options, value=0.0, description="margin")},
    )
