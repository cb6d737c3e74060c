"""Pictures and explorers of paper 07, CEST.

Each picture is a plain drawing function (used for the static figures too) and an explorer that gives it sliders.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional

from paper_utils import plotting
from paper_utils.mesh.shading import directional_light
from paper_utils.methods import cest
from paper_utils.metrics.faces_3d import fitted_scale
from paper_utils.metrics.statistics import Estimate
from paper_utils.studies import cest as study
from paper_utils.widgets.explorer import explorer
from paper_utils.widgets.voice_to_face import draw_sheet, smooth

# Arrows of the chain beyond those that come from the picture, by the factor that they belong to.
CONDITIONS: dict[str, tuple[tuple[str, str], ...]] = {
    "P(S|I, v)": (("v", "S"),),
    "P(R|I, v, S)": (("v", "R"), ("S", "R")),
    "P(l|I, v, S, R)": (("v", "l"), ("S", "l"), ("R", "l")),
}
LAYERS = ("overlay", "texture", "reflectance", "normals", "shading")
SHADES = (
    40  # levels of grey on the screen: enough for the eye at this size, and pixel noise hardly shows or costs memory
)
LAMP, AMBIENT = 2.4, 0.25  # of relighting: irradiance, and light from everywhere


def screen(light: Float[Tensor, "batch 3 height width"], side: int | None = None) -> Float[Tensor, "batch 3 side side"]:
    """Linear light in [0, 1] as `draw_sheet` takes pictures: square root, in [-1, 1], in whole multiples of its pixels if `side` is given."""
    shown = 2 * (light.clamp(0, 1).sqrt() * SHADES).round() / SHADES - 1
    return shown if side is None else functional.interpolate(shown, (side, side), mode="nearest")


# -------------------------------------------------------------------------------------------------- the factorisation


def draw_factorisation(ax: Axes, conditions: Sequence[str], *, title: str) -> None:
    """The four estimates and what each of them sees.

    Parameters
    ----------
    ax
        One axes.
    conditions
        Factors of `CONDITIONS` whose arrows are on; without any it is the independent model.
    title
        Of the panel.

    Raises
    ------
    ValueError
        For a factor that the chain does not have.
    """
    unknown = [name for name in conditions if name not in CONDITIONS]
    if unknown:
        raise ValueError(f"factorisation: expected some of {', '.join(CONDITIONS)}; found {', '.join(unknown)}")
    places = {"I": (0.0, 0.0), "v": (1.5, 1.5), "S": (2.5, 0.5), "R": (3.5, -0.5), "l": (4.5, -1.5)}
    arrows = [("I", node, False) for node in "vSRl"]
    arrows += [(*arrow, True) for name in conditions for arrow in CONDITIONS[name]]
    for start, end, earlier in arrows:
        look = {"arrowstyle": "-|>", "color": plotting.PALETTE[1 if earlier else 7], "shrinkA": 15, "shrinkB": 15}
        bend = f"arc3,rad={-0.25 if earlier else 0.0}"
        ax.annotate("", places[end], places[start], arrowprops={**look, "connectionstyle": bend, "linewidth": 1.6})
    names = {"I": "picture", "v": "viewpoint", "S": "shape", "R": "reflectance", "l": "light"}
    for node, (x, y) in places.items():
        color = plotting.PALETTE[7 if node == "I" else 0]
        ax.text(x, y, node, ha="center", va="center", color="white", fontweight="bold", bbox={"boxstyle": "circle,pad=0.45", "fc": color, "ec": "white"})  # fmt: skip
        ax.text(x, y + (0.42 if node == "v" else -0.42), names[node], ha="center", va="center", fontsize=10)
    ax.set(title=title, xlim=(-0.5, 5.6), ylim=(-2.2, 2.2))
    ax.axis("off")


def explore_factorisation() -> widgets.VBox:
    """Switch arrows of the chain off and on."""

    def draw(shape: bool, reflectance: bool, light: bool) -> Figure:
        on = [name for name, chosen in zip(CONDITIONS, (shape, reflectance, light), strict=True) if chosen]
        left = [name.split("|")[0] + "|I)" if name not in on else name for name in CONDITIONS]
        fig, ax = plt.subplots(figsize=(8, 3.4))
        draw_factorisation(ax, on, title=" ".join(["P(v|I)", *left]))
        return fig

    boxes = [widgets.Checkbox(True, description=name) for name in ("shape", "reflectance", "light")]
    return explorer(draw, {box.description: box for box in boxes})


# ---------------------------------------------------------------------------------------------------- decompositions


def layer_rows(
    estimate: cest.Estimate, truth: cest.Estimate, images: Float[Tensor, "batch 3 size size"], row: int
) -> Float[Tensor, "layers 3 size size"]:
    """The `LAYERS` of one picture, ready for `draw_sheet`; the reflectance after the factor that brings it nearest to the truth."""
    rows = torch.tensor([row])
    one = cest.Estimate(
        None, None, None, estimate.geometry.take(rows), estimate.reflectance[rows], estimate.light[rows]
    )
    found = study.layers(one, images[rows])
    found["reflectance"] = brightened(one.reflectance, truth.reflectance[rows])
    return torch.cat([screen(found[name], images.shape[-1]) for name in LAYERS])


def brightened(
    maps: Float[Tensor, "batch 3 height width"], truth: Float[Tensor, "batch 3 height width"]
) -> Float[Tensor, "batch 3 height width"]:
    """Maps after the one factor, for each, that brings them nearest to the truth: brightness of skin and of light can be traded."""
    return maps * fitted_scale(maps, truth, torch.ones_like(maps))[:, None, None, None]


def draw_layers(
    estimates: Mapping[str, cest.Estimate],
    truth: cest.Estimate,
    images: Float[Tensor, "batch 3 size size"],
    row: int,
    errors: Mapping[str, study.Errors],
    *,
    title: str,
    zoom: int = 3,
) -> Figure:
    """Decompositions of one picture, one row a model, with its mean errors of picture and reflectance at the left.

    Parameters
    ----------
    estimates, truth
        By model, of the same pictures, and what is true of them: the first row, which begins with the picture itself.
    images
        In [-1, 1].
    row
        Which of them.
    errors
        Of all test frames, by model.
    title, zoom
        See `draw_sheet`.
    """

    def mean(name: str, what: str) -> str:
        return f"{errors[name].values[what].mean():.3f}".lstrip("0")

    labels = [f"{name} ({mean(name, 'photometric')} / {mean(name, 'reflectance')})" for name in estimates]
    rows = [layer_rows(estimate, truth, images, row) for estimate in (truth, *estimates.values())]
    rows[0] = torch.cat([screen(cest.linear(images[row : row + 1])), rows[0][1:]])
    columns = ["picture", "texture T", "reflectance A", "normals", "shading"]
    return draw_sheet(rows, columns, ["input and truth", *labels], title=title, zoom=zoom)


def explore_variants(
    estimates: Mapping[str, cest.Estimate],
    truth: cest.Estimate,
    images: Float[Tensor, "batch 3 size size"],
    errors: Mapping[str, study.Errors],
) -> widgets.VBox:
    """Slide over the models of the paper's figure 4 and over test frames."""

    def draw(model: str, frame: int) -> Figure:
        return draw_layers({model: estimates[model]}, truth, images, frame, errors, title=model)

    return explorer(
        draw,
        {
            "model": widgets.SelectionSlider(options=list(estimates), description="model"),
            "frame": widgets.IntSlider(0, min=0, max=len(images) - 1, description="frame"),
        },
    )


# -------------------------------------------------------------------------------------------------- relight and swap


def lamp(azimuth_deg: float, elevation_deg: float) -> Float[Tensor, "1 9"]:
    """Light of one lamp and a dim surround; 0, 0 is in front of the face, a positive azimuth at the right of the picture."""
    azimuth, elevation = math.radians(azimuth_deg), math.radians(elevation_deg)
    direction = torch.tensor(
        [
            [
                math.cos(elevation) * math.sin(azimuth),
                math.sin(elevation),
                math.cos(elevation) * math.cos(azimuth),
            ]
        ]
    )
    return directional_light(direction, torch.tensor([LAMP]), torch.tensor([AMBIENT]))


def relit(
    estimate: cest.Estimate, light: Float[Tensor, "1 9"], truth: cest.Estimate | None = None
) -> Float[Tensor, "batch 3 size size"]:
    """Faces under another light. Reflectance is known up to a factor: with `truth`, its best one is taken, so that brightness can be compared."""
    maps = estimate.reflectance if truth is None else brightened(estimate.reflectance, truth.reflectance)
    return estimate.image(reflectance=maps, light=light.expand(len(maps), -1))


def explore_relight(
    estimates: Mapping[str, cest.Estimate], truth: cest.Estimate, images: Float[Tensor, "batch 3 size size"]
) -> widgets.VBox:
    """Keep the reflectance, move the lamp; the last column is what it should look like."""

    def draw(model: str, frame: int, azimuth: float, elevation: float) -> Figure:
        light, rows = lamp(azimuth, elevation), torch.tensor([frame])
        pictures = [
            cest.linear(images[rows]),
            relit(estimates[model], light, truth)[rows],
            relit(truth, light)[rows],
        ]
        return draw_sheet([screen(torch.cat(pictures))], ["input", f"{model}, relit", "truth, relit"], zoom=4)

    return explorer(
        draw,
        {
            "model": widgets.Dropdown(options=list(estimates), description="model"),
            "frame": widgets.IntSlider(0, min=0, max=len(images) - 1, description="frame"),
            "azimuth": widgets.IntSlider(50, min=-80, max=80, step=10, description="azimuth"),
            "elevation": widgets.IntSlider(10, min=-60, max=60, step=10, description="elevation"),
        },
    )


def swapped(
    space: cest.FaceSpace,
    estimate: cest.Estimate,
    frame: int,
    reflectance_of: int,
    light_of: int,
    *,
    mirror: bool = False,
) -> Float[Tensor, "1 3 size size"]:
    """One frame's geometry painted with the reflectance of another, mirrored if asked for, in the light of a third."""
    one = torch.tensor([frame])
    maps = estimate.reflectance[[reflectance_of]]
    if mirror:
        maps = space.mirrored(maps)
    return cest.paint(estimate.geometry.take(one), maps, estimate.light[[light_of]])


def explore_swap(
    space: cest.FaceSpace, estimate: cest.Estimate, images: Float[Tensor, "batch 3 size size"]
) -> widgets.VBox:
    """Paint frame i with the reflectance of frame j, mirrored or not, in the light of frame k."""

    def draw(i: int, j: int, k: int, mirror: bool) -> Figure:
        light = cest.linear(images)
        face = swapped(space, estimate, i, j, k, mirror=mirror)
        pictures = torch.cat([light[[i]], light[[j]], light[[k]], face])
        return draw_sheet(
            [screen(pictures)], ["frame i: geometry", "frame j: reflectance", "frame k: light", "painted"], zoom=4
        )

    last = len(images) - 1
    sliders = {
        name: widgets.IntSlider(min(start, last), min=0, max=last, description=name)
        for name, start in (("i", 0), ("j", 1), ("k", 0))
    }
    return explorer(draw, {**sliders, "mirror": widgets.Checkbox(False, description="mirror")})


# ------------------------------------------------------------------------------------------------------------ unwrap


def unwrapping(
    space: cest.FaceSpace,
    vertices: Float[Tensor, "1 vertices 3"],
    reflectance: Float[Tensor, "1 3 texture_height texture_width"],
    light: Float[Tensor, "1 9"],
    yaw_deg: float,
    *,
    size: int = 64,
) -> Float[Tensor, "4 3 size size"]:
    """A face turned by a yaw: its picture, the texture unwrapped from it, where the picture really shows it, and what is left of the texture."""
    view = torch.zeros(1, cest.VIEW)
    view[:, 1] = math.radians(yaw_deg)
    camera = space.camera(view, size)
    geometry = cest.look(space, torch.zeros(1, 3, size, size), vertices, camera)
    picture = cest.paint(geometry, reflectance, light).clamp(0, 1)
    seen = cest.look(space, 2 * picture - 1, vertices, camera)
    visible = seen.visible.expand(-1, 3, -1, -1)
    return torch.cat([screen(values, size) for values in (picture, seen.texture, visible, seen.texture * visible)])


UNWRAPPED = ["picture", "texture T", "really seen", "T where seen"]


def explore_unwrap(
    space: cest.FaceSpace,
    vertices: Float[Tensor, "1 vertices 3"],
    reflectance: Float[Tensor, "1 3 texture_height texture_width"],
    light: Float[Tensor, "1 9"],
) -> widgets.VBox:
    """Turn a head and see which half of its texture is lost."""

    def draw(yaw: float) -> Figure:
        return draw_sheet([unwrapping(space, vertices, reflectance, light, yaw)], UNWRAPPED, zoom=4)

    slider = widgets.IntSlider(40, min=-80, max=80, step=5, description="yaw")
    return explorer(draw, {"yaw": slider})


# ------------------------------------------------------------------------------------------------------------ numbers


def draw_measured(
    ax: Axes,
    measured: Mapping[str, Estimate],
    *,
    title: str,
    xlabel: str,
    references: Mapping[str, float] | None = None,
    legend: bool = True,
) -> None:
    """One point a model with its 95 % interval, the first at the top; dashed lines for what models are compared with."""
    names = list(measured)
    middle, bars = plotting.whiskers(measured.values())
    ax.errorbar(middle, np.arange(len(names)), xerr=bars, fmt="o", color=plotting.PALETTE[0], capsize=3)
    for (name, value), color in zip((references or {}).items(), (1, 2, 3, 4), strict=False):
        ax.axvline(value, color=plotting.PALETTE[color], linestyle="--", linewidth=1.5, label=name)
    ax.set_yticks(np.arange(len(names)), names)
    ax.set(title=title, xlabel=xlabel, ylim=(len(names) - 0.5, -0.5))
    if references and legend:
        ax.legend(loc="best")


def draw_tradeoff(ax: Axes, errors: Mapping[str, study.Errors], *, title: str) -> None:
    """Error of the picture against error of the reflectance, one point a model."""
    for number, (name, found) in enumerate(errors.items()):
        x, y = (found.values[key].mean() for key in ("photometric", "reflectance"))
        ax.plot(x, y, "o", color=plotting.PALETTE[number % len(plotting.PALETTE)], markersize=8)
        ax.annotate(name, (x, y), xytext=(8, 3), textcoords="offset points", fontsize=10)
    ax.set(title=title, xlabel="photometric error (share of the range of light)", ylabel="reflectance error (RMSE)")
    ax.margins(x=0.25, y=0.15)


def draw_training(axes: Sequence[Axes] | np.ndarray, trained: Mapping[str, study.Trained]) -> None:
    """Left: landmarks and regulariser in the first stage. Right: the photometric loss of the stages after it."""
    for number, (name, found) in enumerate(trained.items()):
        color = plotting.PALETTE[number % len(plotting.PALETTE)]
        if number == 0:
            axes[0].plot(smooth(found.losses["warm_up"], 9), color=color)
        if "photometric" in found.losses:
            axes[1].plot(smooth(found.losses["photometric"], 9), color=color, label=name)
    axes[0].set(title="First stage: landmarks", xlabel="step", ylabel="loss (tenths of the side)")
    axes[1].set(title="Then: pictures", xlabel="step", ylabel="photometric loss, all terms")
    axes[1].set_ylim(0, 1.5 * axes[1].get_ylim()[1])  # room for the legend
    axes[1].legend(loc="upper right")


def draw_cost(axes: Sequence[Axes] | np.ndarray, cost: study.Cost) -> None:
    """Painted pictures of one step, and numbers kept for its gradient, over the frames of a clip; both axes logarithmic."""
    for name, color in zip(cost.renders, plotting.PALETTE, strict=False):
        axes[0].plot(cost.frames, cost.renders[name], "o-", color=color, label=f"{name}: slope {cost.slope(name):.2f}")
        axes[1].plot(cost.frames, np.array(cost.kept[name]) / 1e6, "o-", color=color, label=name)
    for ax in axes:
        ax.set(xscale="log", yscale="log", xlabel="frames of a clip, N")
        ax.set_xticks(cost.frames, [str(count) for count in cost.frames])
        ax.minorticks_off()
        ax.legend()
    millions = [0.5, 1, 2, 4]
    axes[1].set_yticks(millions, [f"{count:g}" for count in millions])
    axes[0].set(title="Pictures painted in a step", ylabel="number")
    axes[1].set(title="Kept for the gradient", ylabel="numbers (millions)")


def draw_ridge(axes: Sequence[Axes] | np.ndarray, ridge: study.Ridge) -> None:
    """Left: variance of all shape parameters explained on test people, by alignment. Right: of each parameter, raw against true viewpoint."""
    share = {name: 1 - ridge.squared[name].sum() / ridge.squared["mean"].sum() for name in study.ALIGNMENTS}
    colors = [plotting.PALETTE[i] for i in (7, 5, 0, 1)]
    axes[0].bar(range(len(share)), list(share.values()), color=colors)
    axes[0].set_xticks(range(len(share)), [name.replace(" ", "\n", 1) for name in share])
    axes[0].axhline(0, color="black", linewidth=1)
    axes[0].set(title="Shape from pictures", ylabel="variance explained (R²)")
    raw, true = (ridge.parameters[name] for name in ("raw picture", "true viewpoint"))
    axes[1].plot(raw, true, "o", color=plotting.PALETTE[0])
    ends = [min(raw.min(), true.min()) - 0.03, max(raw.max(), true.max()) + 0.03]
    axes[1].plot(ends, ends, color="black", linestyle=":", linewidth=1.2, label="no difference")
    axes[1].set(title="Each parameter", xlabel="R² from the raw picture", ylabel="R² with the true viewpoint")
    axes[1].legend()


def intrinsic(
    images: Float[Tensor, "batch 3 size size"], shading: Float[Tensor, "batch 1 size size"]
) -> Float[Tensor, "batch 3 size size"]:
    """Reflectance at each pixel, picture over shading; the picture itself where no light falls."""
    light = cest.linear(images)
    return torch.where(shading > 0.02, light / shading.clamp_min(0.02), light).clamp(0, 1)
