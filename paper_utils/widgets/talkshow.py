"""Pictures, films and explorers of paper 08, TalkSHOW.

Each picture is a plain drawing function (used for the static figures too); explorers give some of them sliders.
"""

from __future__ import annotations

from collections.abc import Mapping

import ipywidgets as widgets
import numpy as np
import torch
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from paper_utils import plotting
from paper_utils.animation import Framing, side_colours, skeleton_film
from paper_utils.film import Film
from paper_utils.metrics import motion as metric
from paper_utils.metrics.beats import beat_consistency
from paper_utils.metrics.statistics import Estimate
from paper_utils.nn.pixelcnn import PixelCnn, PixelCnnConfig
from paper_utils.widgets.explorer import explorer
from paper_utils.world import skeleton
from paper_utils.world.gestures import FPS

_LEGS = ("hip", "knee", "ankle", "foot")
BONES = [pair for pair in skeleton.BONES if not any(part in skeleton.POINTS[pair[1]] for part in _LEGS)]
VIEW = {"yaw_deg": 25.0, "pitch_deg": 8.0}  # half from the side, so that hands in front of the trunk are seen
HEAD = (skeleton.point("head"), skeleton.point("head_top"))
WRISTS = (skeleton.point("left_wrist"), skeleton.point("right_wrist"))


# ------------------------------------------------------------------------------------------------------------------ films


def framing_of(frames: Float[Tensor, "*batch 265"]) -> Framing:
    """A view of body and arms that holds all these frames."""
    seen = sorted({end for pair in BONES for end in pair})
    return Framing.around(_points(frames).reshape(-1, len(skeleton.POINTS), 3)[:, seen], **VIEW)


def _points(frames: Float[Tensor, "*batch 265"]) -> Float[Tensor, "*batch 66 3"]:
    return skeleton.positions(skeleton.pose_of(frames))


def film_of(frames: Float[Tensor, "time 265"], *, framing: Framing | None = None, size: int = 150) -> Film:
    """Body and arms as a stick figure, blue its left, orange its right side, with half a second of the wrists' paths."""
    colours = side_colours(skeleton.POINTS, BONES)
    return skeleton_film(
        _points(frames),
        BONES,
        FPS,
        framing=framing or framing_of(frames),
        size=size,
        colours=colours,
        head=HEAD,
        trail=WRISTS,
    )


# --------------------------------------------------------------------------------------------------------------- the grid


def sees(
    cell: tuple[int, int], *, rows: int = 12, layers: int = 4, variant: str = "cross", seed: int = 0
) -> Bool[np.ndarray, "rows 2"]:
    """Which codes the distribution of a cell depends on, found by changing one code after the other.

    Parameters
    ----------
    cell
        Row and column (0 body, 1 hands).
    rows, layers, variant
        Of the grid and of a small network with random weights.
    seed
        Of the weights.

    Raises
    ------
    ValueError
        If the cell lies outside the grid.
    """
    if not (0 <= cell[0] < rows and cell[1] in (0, 1)):
        raise ValueError(f"cell: expected a row below {rows} and column 0 or 1, found {cell}")
    config = PixelCnnConfig(codes=3, width=6, layers=layers, head=6, audio=0, variant=variant)
    network = PixelCnn(config, seed=seed).double().eval()
    changed = torch.zeros(2 * rows, rows, 2, dtype=torch.long)
    changed.view(2 * rows, -1)[torch.arange(2 * rows), torch.arange(2 * rows)] = 1
    both = torch.cat([torch.zeros(1, rows, 2, dtype=torch.long), changed])
    with torch.no_grad():
        found = network(both, torch.zeros(len(both), dtype=torch.long), None)[:, cell[0], cell[1]]
    return ((found[1:] - found[0]).abs().amax(1) > 0).view(rows, 2).numpy()


def draw_grid(ax: Axes, cell: tuple[int, int], *, rows: int = 12, layers: int = 4, variant: str = "cross") -> None:
    """The grid of codes; the chosen cell in orange, what it sees in blue."""
    seen = sees(cell, rows=rows, layers=layers, variant=variant)
    shade = np.ones((2, rows, 3))
    shade[seen.T] = (0.45, 0.68, 0.85)
    shade[cell[1], cell[0]] = (0.84, 0.37, 0.0)
    ax.imshow(shade, aspect="auto")
    ax.set_xticks(np.arange(rows + 1) - 0.5, minor=True)
    ax.set_yticks([0.5], minor=True)
    ax.grid(which="minor", color="#888888")
    ax.grid(which="major", visible=False)
    ax.set(
        title=f"{variant}, {layers} layers", xlabel="step of time (4 frames, 133 ms)", xticks=range(rows), yticks=[0, 1],
        yticklabels=["body", "hands"],
    )  # fmt: skip


def explore_grid(rows: int = 12) -> widgets.VBox:
    """Choose a cell, the number of layers and the variant."""

    def draw(time: int, part: str, layers: int, variant: str) -> Figure:
        fig, ax = plotting.figure(width=8, height=2.2)
        draw_grid(ax, (time, ("body", "hands").index(part)), rows=rows, layers=layers, variant=variant)
        return fig

    return explorer(
        draw,
        {
            "time": widgets.IntSlider(8, 0, rows - 1, description="step"),
            "part": widgets.Dropdown(options=["body", "hands"], value="hands", description="part"),
            "layers": widgets.IntSlider(2, 1, 8, description="layers"),
            "variant": widgets.Dropdown(options=["cross", "independent"], description="variant"),
        },
    )


# ------------------------------------------------------------------------------------------------------------- codebooks


def draw_life(ax: Axes, histories: Mapping[str, Float[np.ndarray, " steps"]], codes: int) -> None:
    """Perplexity of each step's codes over training, log scale of the steps."""
    for (name, values), color in zip(histories.items(), plotting.PALETTE, strict=False):
        ax.plot(1 + np.arange(len(values)), values, color=color, label=name)
    ax.axhline(codes, color="black", linestyle=":", linewidth=1, label=f"all {codes} codes equally often")
    ax.set(title="Codes in use", xlabel="training step", ylabel="perplexity (codes)", xscale="log")
    ax.legend()


def draw_estimates(ax: Axes, found: Mapping[str, Estimate], *, title: str, xlabel: str) -> None:
    """One point a row with its 95 % interval, the first at the top; a dotted line at zero."""
    for place, (value, bars) in enumerate(zip(*(part.T for part in plotting.whiskers(found.values())), strict=True)):
        ax.errorbar(value, place, xerr=bars[:, None], fmt="o", color=plotting.PALETTE[place % 8], capsize=4)
    ax.axvline(0, color="black", linestyle=":", linewidth=1)
    ax.set_yticks(range(len(found)), list(found))
    ax.invert_yaxis()
    ax.margins(y=0.2)
    ax.set(title=title, xlabel=xlabel)


# ---------------------------------------------------------------------------------------------------------------- motion


def draw_fan(
    ax: Axes,
    lines: Mapping[str, Float[np.ndarray, "curves time"]],
    onsets_s: Float[np.ndarray, " onsets"],
    *,
    title: str,
    ylabel: str,
) -> None:
    """Curves over time, one colour a name, stressed vowels as dotted lines."""
    for (name, curves), color in zip(lines.items(), plotting.PALETTE, strict=False):
        seconds = np.arange(curves.shape[1]) / FPS
        for number, curve in enumerate(curves):
            ax.plot(seconds, curve, color=color, linewidth=1.3, alpha=0.85, label=name if number == 0 else None)
    for onset in onsets_s:
        ax.axvline(onset, color="black", linestyle=":", linewidth=0.8)
    ax.set(title=title, xlabel="time (s), stressed vowels dotted" if len(onsets_s) else "time (s)", ylabel=ylabel)
    ax.legend(loc="upper right")


def laboratory(
    real: Float[np.ndarray, "time joints 3"],
    onsets_s: Float[np.ndarray, " onsets"],
    changes: Mapping[str, Float[np.ndarray, " 4"]],
    *,
    jitter_mm: float = 0.0,
    delay: int = 0,
    smooth: float = 0.0,
    seed: int = 0,
) -> dict[str, float]:
    """Metrics of a real motion that was damaged, against itself.

    Parameters
    ----------
    real
        Joints, m.
    onsets_s
        Of its sound.
    changes
        Unit of beats for each of `metrics.beats.CONVENTIONS`.
    jitter_mm, delay, smooth
        White noise on every coordinate; frames that the motion is late; frames of Gaussian smoothing.
    seed
        Of the noise.
    """
    moved = real[np.maximum(np.arange(len(real)) - delay, 0)]
    moved = gaussian_filter1d(moved, smooth, axis=0, mode="nearest") if smooth else moved
    moved = moved + jitter_mm / 1000 * np.random.default_rng(seed).standard_normal(real.shape)
    beats = {
        f"beats, {name}": beat_consistency([moved], [onsets_s], change=change, convention=name).score
        for name, change in changes.items()
    }
    body = metric.BODY_JOINTS
    return {
        "joint error (m)": metric.joint_error(real[:, body], moved[:, body]),
        "speed error (cm/frame)": 100 * metric.velocity_difference(real[:, body], moved[:, body]),
        **beats,
    }


def draw_laboratory(ax: Axes, found: Mapping[str, float], *, title: str) -> None:
    """Bars of `laboratory`."""
    colors = [plotting.PALETTE[7], plotting.PALETTE[7], plotting.PALETTE[0], plotting.PALETTE[1]]
    places = np.arange(len(found))
    ax.barh(places, list(found.values()), color=colors)
    for place, value in zip(places, found.values(), strict=True):
        ax.text(value, place, f" {value:.2f}", va="center", fontsize=9)
    ax.set_yticks(places, list(found))
    ax.invert_yaxis()
    ax.set(title=title, xlabel="value, unit as named", xlim=(0, max(1.15, 1.15 * max(found.values()))))


def explore_laboratory(
    real: Float[np.ndarray, "time joints 3"],
    onsets_s: Float[np.ndarray, " onsets"],
    changes: Mapping[str, Float[np.ndarray, " 4"]],
) -> widgets.VBox:
    """Damage a motion and see which metric likes it."""

    def draw(jitter: float, delay: int, smooth: float) -> Figure:
        fig, ax = plotting.figure(width=8, height=2.6)
        found = laboratory(real, onsets_s, changes, jitter_mm=jitter, delay=delay, smooth=smooth)
        draw_laboratory(ax, found, title="A real motion, damaged, against itself")
        return fig

    return explorer(
        draw,
        {
            "jitter": widgets.FloatSlider(0.0, min=0, max=5, step=0.5, description="jitter, mm"),
            "delay": widgets.IntSlider(0, 0, 15, description="delay"),
            "smooth": widgets.FloatSlider(0.0, min=0, max=6, step=1, description="smoothing"),
        },
    )


def explore_temperature(
    curves: Mapping[float, Float[np.ndarray, "draws time"]], onsets_s: Float[np.ndarray, " onsets"], *, ylabel: str
) -> widgets.VBox:
    """Draws of one sentence at several temperatures (an extension: the released sampler has none)."""

    def draw(temperature: float) -> Figure:
        fig, ax = plotting.figure(width=8, height=2.8)
        draw_fan(
            ax,
            {f"temperature {temperature:g}": curves[temperature]},
            onsets_s,
            title="One sentence, several bodies",
            ylabel=ylabel,
        )
        both = np.concatenate(list(curves.values()))
        ax.set_ylim(both.min(), both.max())
        return fig

    slider = widgets.SelectionSlider(options=list(curves), value=next(iter(curves)), description="temperature")
    return explorer(draw, {"temperature": slider})


def wrist_height(
    joints: Float[np.ndarray, "*batch time 55 3"], side: str = "right"
) -> Float[np.ndarray, "*batch time"]:
    """Height of a wrist over the pelvis, cm: the one curve that shows most of a gesture."""
    return 100 * (joints[..., skeleton.point(f"{side}_wrist"), 1] - joints[..., 0, 1])
