"""Pictures and explorers of paper 10, phonemes and facial measurements.

Each picture is a plain drawing function (used for the static figures too) and an explorer that gives it controls. Whatever is slow is
computed before, so that a move only draws.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence

import ipywidgets as widgets
import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure

from paper_utils import plotting
from paper_utils.mesh.cameras import ScaledOrthographic
from paper_utils.mesh.renderer import render
from paper_utils.mesh.shading import directional_light
from paper_utils.methods import phonemes as method
from paper_utils.metrics import predictability
from paper_utils.metrics.statistics import Estimate
from paper_utils.studies.phonemes import KEPT
from paper_utils.widgets.explorer import explorer
from paper_utils.world.anthropometry import Measurement
from paper_utils.world.face import head

CLASS_COLOR = dict(zip(method.CLASS_ORDER, plotting.PALETTE, strict=False))
MM = (-86.0, 162.0, -130.0, 84.0)  # what the picture of the face shows: left, right, bottom, top
PIXELS_PER_MM = 2
SPLIT_NAMES = {
    "released": "two shuffles (released)",
    "tokens": "disjoint tokens",
    "subjects": "disjoint people",
}
# A token is unused, learned from, tested on, or both.
SPLIT_COLORS = ListedColormap(["#dddddd", plotting.PALETTE[0], plotting.PALETTE[4], "#000000"])


# ----------------------------------------------------------------------------------------------------------- heat maps


def draw_heat_map(
    ax: Axes,
    explained: Float[np.ndarray, "phonemes measurements"],
    rejected: Bool[np.ndarray, "phonemes measurements"],
    phonemes: Sequence[str],
    measurements: Sequence[str],
    *,
    title: str,
    limit: float = 0.25,
    breaks: Sequence[int] = (),
) -> None:
    """Explained variance of every pair, a star where it is rejected; rows grouped by class.

    Parameters
    ----------
    ax
        Axes, wide.
    explained, rejected
        Of every pair, in the order of the names.
    phonemes, measurements
        Names of rows and columns.
    title
        Of the picture.
    limit
        Explained variance of the strongest colour.
    breaks
        Columns before which a white line stands.
    """
    ax.imshow(np.clip(explained, 0, limit), aspect="auto", cmap=plotting.SEQUENTIAL, vmin=0, vmax=limit)
    rows, columns = np.nonzero(rejected)
    ax.plot(columns, rows, "*", color="white", markersize=4, markeredgewidth=0)
    kinds = method.phone_classes(phonemes)
    for row, (above, below) in enumerate(itertools.pairwise(kinds), start=1):
        if above != below:
            ax.axhline(row - 0.5, color="white", linewidth=1.5)
    for column in breaks:
        ax.axvline(column - 0.5, color="white", linewidth=1.5)
    ax.set_xticks(range(len(measurements)), measurements, rotation=90, fontsize=9)
    ax.set_yticks(range(len(phonemes)), phonemes, fontsize=9)
    for label, kind in zip(ax.get_yticklabels(), kinds, strict=True):
        label.set_color(CLASS_COLOR[kind])
    ax.set(title=title, xlabel="measurement", ylabel="phoneme")
    ax.grid(False)


def add_color_bar(ax: Axes, limit: float, label: str) -> None:
    """Scale beside a heat map or a face."""
    ax.figure.colorbar(ScalarMappable(Normalize(0, limit), plotting.SEQUENTIAL), ax=ax, label=label, fraction=0.03)


def draw_declared(
    ax: Axes,
    errors: Float[np.ndarray, "repetitions phonemes measurements"],
    phonemes: Sequence[str],
    *,
    keep: float = 1.0,
    title: str,
) -> None:
    """What the release plots, 1 - CI_u, of every pair; grey where the bound does not lie below 1."""
    hits, shown = method.release_test(errors, keep=keep)
    ax.set_facecolor("#bbbbbb")
    ax.imshow(np.where(hits, shown, np.nan), aspect="auto", cmap=plotting.SEQUENTIAL, vmin=0, vmax=1)
    ax.set(title=f"{title}\n{hits.mean():.0%} declared predictable", xlabel="measurement", ylabel="phoneme")
    ax.set_xticks([])
    ax.set_yticks(range(len(phonemes)), phonemes, fontsize=6.5)
    ax.grid(False)


def draw_leak(ax: Axes, table: pd.DataFrame, *, title: str, nominal: float = 0.05) -> None:
    """Share of pairs declared predictable, by split and by how many repetitions are kept (of `studies.phonemes.leak_table`)."""
    splits = list(dict.fromkeys(table["split"]))
    for number, (bound, rows) in enumerate(table.groupby("bound", sort=False)):
        place = np.arange(len(splits)) + 0.2 * (number - 1.5)
        shares = 100 * rows.set_index("split").loc[splits, "declared"]
        ax.bar(place, shares, 0.19, color=plotting.PALETTE[number], label=bound)
        for x, share in zip(place, shares, strict=True):
            ax.text(x, share + 1, f"{share:.0f}", ha="center", fontsize=8.5)
    ax.axhline(100 * nominal, color="black", linestyle=":", linewidth=1.2)
    ax.set_xticks(range(len(splits)), [SPLIT_NAMES.get(split, split) for split in splits])
    ax.set(title=title, xlabel="split of training and test", ylabel="pairs declared predictable (%)", ylim=(0, 112))
    ax.legend()


# ---------------------------------------------------------------------------------------------------- tests and classes


def draw_null(
    ax: Axes, null: Float[np.ndarray, " permutations"], observed: float, *, title: str, rejected: bool | None = None
) -> None:
    """Errors of permuted people and the observed one.

    Parameters
    ----------
    ax
        Axes.
    null, observed
        Normalised errors.
    title
        Of the picture.
    rejected
        Decision over all pairs, if it is to be told.
    """
    p = float(predictability.permutation_p(np.array([[observed]]), null[None])[0, 0])
    low, high = min(null.min(), observed), max(null.max(), observed)
    ax.hist(null, np.linspace(low, high, 50), color=plotting.PALETTE[7], label=f"{len(null)} permutations")
    told = "" if rejected is None else (", rejected among all pairs" if rejected else ", not rejected among all pairs")
    ax.axvline(observed, color=plotting.PALETTE[1], label=f"observed: p = {p:.4f}{told}")
    ax.axvline(1, color="black", linestyle=":", linewidth=1)
    ax.set(title=title, xlabel="normalised error (1: as bad as knowing nothing)", ylabel="permutations")
    ax.legend(loc="upper right", fontsize=8.5)


def draw_step_up(ax: Axes, p_values: Float[np.ndarray, ...], *, label: str, color: str, q: float = 0.05) -> None:
    """Sorted p-values against the line of Benjamini and Hochberg, both logarithmic."""
    ordered = np.sort(p_values.ravel())
    rank = np.arange(1, len(ordered) + 1)
    found = int(predictability.discoveries(ordered, q).sum())
    ax.loglog(rank, ordered, ".", color=color, markersize=4, label=f"{label}: {found} rejected")
    ax.loglog(rank, q * rank / len(ordered), color="black", linewidth=1)
    ax.set(xlabel="rank of the pair", ylabel="p-value")
    ax.legend()


def draw_class_bars(ax: Axes, table: pd.DataFrame, *, title: str, kind: str = "linked") -> None:
    """Share of pairs rejected in each class of phonemes with Wilson's interval (of `studies.phonemes.by_class`)."""
    rows = table[(table["measurements"] == kind) & (table["class"] != "all")]
    found = rows[["share", "low", "high", "pairs"]].itertuples(index=False)
    shares, bars = plotting.whiskers(Estimate(*row, "share, Wilson") for row in found)
    colors = [CLASS_COLOR[name] for name in rows["class"]]
    ax.bar(rows["class"], 100 * shares, color=colors, yerr=100 * bars, capsize=3)
    for x, (share, pairs) in enumerate(zip(rows["share"], rows["pairs"], strict=True)):
        ax.text(x, 2, f"{100 * share:.0f} %\nof {pairs}", ha="center", color="white", fontsize=8.5)
    ax.set(title=title, xlabel="class of the phoneme", ylabel="pairs rejected (%)", ylim=(0, 105))


def draw_contrasts(ax: Axes, rows: Mapping[str, tuple[Estimate, Estimate]], *, title: str, unit: str) -> None:
    """Estimates with intervals, one line each with its control below, and zero."""
    for number, label in enumerate(("measured", "no link")):
        middle, bars = plotting.whiskers(pair[number] for pair in rows.values())
        place = np.arange(len(middle)) + 0.22 * number
        color = (plotting.PALETTE[0], plotting.PALETTE[7])[number]
        ax.errorbar(middle, place, xerr=bars, fmt="o", color=color, capsize=3, label=label)
    ax.set_yticks(range(len(rows)), list(rows))
    ax.axvline(0, color="black", linewidth=1)
    ax.set(title=title, xlabel=unit, ylim=(len(rows) - 0.5, -0.5))
    ax.legend()


# ------------------------------------------------------------------------------------------------------------- movement


def draw_movement(
    ax: Axes,
    moved: Float[np.ndarray, "phonemes measurements"],
    explained: Float[np.ndarray, "phonemes measurements"],
    classes: Sequence[str],
    *,
    centred: bool,
) -> None:
    """Movement against explained variance, one dot a pair; raw, or without the means of measurement and phoneme."""
    first, second = (predictability.two_way_centred(m) for m in (moved, explained)) if centred else (moved, explained)
    kinds = np.array(classes)
    for kind in dict.fromkeys(classes):
        mine = kinds == kind
        ax.plot(first[mine].ravel(), second[mine].ravel(), ".", color=CLASS_COLOR[kind], markersize=4, label=kind)
    correlation = predictability.association(moved, explained, rng=np.random.default_rng(0), permutations=1)
    value = correlation["two-way" if centred else "pairs"].correlation
    what = "two-way centred" if centred else "as it is"
    ax.set(title=f"{what}: Spearman {value:.2f}", ylabel="explained variance, 1 - nMSE")
    ax.set(xlabel="movement (SD between people)" + (", centred" if centred else ""))
    ax.legend(markerscale=2)


# ------------------------------------------------------------------------------------------------------------- the face


@functools.cache
def _picture() -> np.ndarray:
    """The mean face of the world from the front, in grey."""
    model = head(3)
    left, right, bottom, top = MM
    size = (round(PIXELS_PER_MM * (top - bottom)), round(PIXELS_PER_MM * (right - left)))
    camera = ScaledOrthographic(
        torch.zeros(1, 3), torch.tensor([float(PIXELS_PER_MM)]), PIXELS_PER_MM * torch.tensor([[-left, top]])
    )
    lamp = directional_light(torch.tensor([[0.2, 0.4, 1.0]]), torch.tensor([1.9]), torch.tensor([0.25]))
    white = torch.ones(1, len(model.vertices), 1)
    drawn = render(model.vertices[None], model.faces, camera, size, light=lamp, colours=white, background=1.0)
    return drawn.images[0, 0].clamp(0, 1).numpy()


@functools.cache
def _handles() -> dict[str, np.ndarray]:
    """Landmarks of the mean face from the front, mm."""
    model = head(3)
    return {name: point[0].numpy()[:2] for name, point in model.anatomy(model.vertices[None]).items()}


def _segments(measured: Measurement) -> list[np.ndarray]:
    """Lines between the landmarks of a measurement, from the front."""
    points = _handles()
    return [np.stack([points[name] for name in names]) for names in measured.readings]


def draw_face(
    ax: Axes,
    explained: Mapping[str, float],
    measurements: Mapping[str, Measurement],
    *,
    title: str,
    limit: float = 0.25,
) -> None:
    """The face with its distances and angles, coloured by how well a phoneme tells them; those of the midline stand beside it as bars.

    Parameters
    ----------
    ax
        Axes.
    explained
        Of each measurement by name.
    measurements
        What these are read from; ratios, which have no line of their own, are left out.
    title
        Of the picture.
    limit
        Explained variance of the strongest colour.
    """
    ax.imshow(_picture(), cmap="gray", vmin=-0.6, vmax=1, extent=MM)
    shown = [name for name in measurements if measurements[name].kind != "ratio" and name in explained]
    color = {name: ScalarMappable(Normalize(0, limit), plotting.SEQUENTIAL).to_rgba(explained[name]) for name in shown}
    midline = []
    for name in sorted(shown, key=lambda one: explained[one]):
        lines = _segments(measurements[name])
        if all(np.abs(line[:, 0]).max() < 1 for line in lines):
            midline.append(name)
            continue
        for line in lines:
            ax.plot(*line.T, "-", color=color[name], linewidth=2.5, solid_capstyle="round")
    for number, name in enumerate(sorted(midline, key=list(measurements).index)):
        heights = _segments(measurements[name])[0][[0, -1], 1]
        place = 80 + 6 * number
        ax.plot([place] * 2, heights, "-", color=color[name], linewidth=3.5, solid_capstyle="butt")
        label = name.split()[0]
        if label.isdigit():
            # Neighbours on two levels: their numbers are wider than they stand apart.
            ax.text(place, heights.max() + 2 + 6 * (number % 2), label, ha="center", fontsize=7)
    ax.set(title=title, xlim=MM[:2], ylim=MM[2:], xlabel="mm", ylabel="mm", aspect="equal")
    ax.grid(False)


# ------------------------------------------------------------------------------------------------------------ explorers


def _flat(width: float, height: float) -> tuple[Figure, Axes]:
    """One plot with fixed margins: solving a layout would take longer than drawing."""
    fig, ax = plotting.figure(width=width, height=height, layout="none")
    fig.subplots_adjust(0.13, 0.15, 0.98, 0.88)
    return fig, ax


def explore_link(
    worlds: Mapping[float, tuple[np.ndarray, np.ndarray]],
    phonemes: Sequence[str],
    measurements: Sequence[str],
    breaks: Sequence[int] = (),
) -> widgets.VBox:
    """Play 1: the heat map in worlds with a weaker link; `worlds` maps a link to explained variance and rejections."""

    def draw(link: float) -> Figure:
        fig, ax = _flat(12.5, 6.6)
        fig.subplots_adjust(0.05, 0.27, 0.99, 0.94)
        explained, rejected = worlds[link]
        title = f"link {link:g}: {int(rejected.sum())} of {rejected.size} pairs rejected"
        draw_heat_map(ax, explained, rejected, phonemes, measurements, title=title, breaks=breaks)
        return fig

    links = sorted(worlds)
    slider = widgets.SelectionSlider(options=links, value=links[-1], description="link")
    return explorer(draw, {"link": slider})


def explore_splits(
    errors: Mapping[str, Float[np.ndarray, "repetitions phonemes measurements"]], phonemes: Sequence[str]
) -> widgets.VBox:
    """Play 2: the release's test in a world without link, by split and selection of repetitions."""

    def draw(split: str, keep: float) -> Figure:
        fig, ax = _flat(6.5, 4.2)
        fig.subplots_adjust(top=0.82)
        draw_declared(ax, errors[split], phonemes, keep=keep, title=SPLIT_NAMES[split])
        return fig

    controls = {
        "split": widgets.Dropdown(options={SPLIT_NAMES[s]: s for s in errors}, description="split"),
        "keep": widgets.SelectionSlider(options=[(f"best {k:.0%}", k) for k in KEPT], description="trainings"),
    }
    return explorer(draw, controls)


def explore_null(tests: method.PairTests) -> widgets.VBox:
    """Play 3: any pair against its null, with few or many permutations."""
    rejected = tests.rejected()
    most = tests.null.shape[1]

    def draw(phoneme: str, measurement: str, permutations: int) -> Figure:
        fig, ax = _flat(7.5, 3.8)
        row, column = tests.phonemes.index(phoneme), tests.measurements.index(measurement)
        title = f"{measurement} from {phoneme}"
        null, hit = tests.null[row, :permutations], bool(rejected[row, column])
        draw_null(ax, null, float(tests.errors[row, column]), title=title, rejected=hit)
        return fig

    counts = sorted({count for count in (19, 49, 99, 199, 499, 999) if count < most} | {most})
    controls = {
        "phoneme": widgets.Dropdown(options=tests.phonemes, value=tests.phonemes[0], description="phoneme"),
        "measurement": widgets.Dropdown(
            options=tests.measurements, value=tests.measurements[0], description="measurement"
        ),
        "permutations": widgets.SelectionSlider(options=counts, value=most, description="B"),
    }
    return explorer(draw, controls)


def explore_face(
    explained: pd.DataFrame,
    velum: Mapping[str, pd.DataFrame],
    measurements: Mapping[str, Measurement],
) -> widgets.VBox:
    """Play 4: what each phoneme tells of the face, with a switch for the velum.

    Parameters
    ----------
    explained
        Phonemes by measurements.
    velum
        For ``"open"`` and ``"closed"``: the same of the nasals alone. Other phonemes are spoken with a closed velum anyway.
    measurements
        What they are read from.
    """

    def draw(phoneme: str, state: str) -> Figure:
        fig, ax = _flat(7.2, 6.0)
        table = velum[state] if phoneme in velum[state].index else explained
        draw_face(ax, table.loc[phoneme].to_dict(), measurements, title=f"{phoneme}, velum of nasals {state}")
        return fig

    controls = {
        "phoneme": widgets.Dropdown(options=list(explained.index), value="N", description="phoneme"),
        "state": widgets.ToggleButtons(options=list(velum), description="velum"),
    }
    return explorer(draw, controls)


def explore_movement(
    moved: Float[np.ndarray, "phonemes measurements"],
    worlds: Mapping[str, Float[np.ndarray, "phonemes measurements"]],
    classes: Sequence[str],
) -> widgets.VBox:
    """Play 5: movement against explained variance in each world, raw and two-way centred."""

    def draw(world: str, centred: bool) -> Figure:
        fig, ax = _flat(6.5, 4.6)
        draw_movement(ax, moved, worlds[world], classes, centred=centred)
        return fig

    controls = {
        "world": widgets.Dropdown(options=list(worlds), description="world"),
        "centred": widgets.Checkbox(False, description="two-way centred"),
    }
    return explorer(draw, controls)
