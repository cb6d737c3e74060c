"""Pictures and explorers of paper 09, EMOTE.

Each picture is a plain drawing function (used for the static figures too); explorers give some of them sliders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from paper_utils import plotting
from paper_utils.data.talking_faces import EMOTIONS, INTENSITIES
from paper_utils.methods import emote
from paper_utils.metrics.statistics import Estimate
from paper_utils.studies.emote_world import World
from paper_utils.widgets import world as show_world
from paper_utils.widgets.explorer import explorer
from paper_utils.world import portraits
from paper_utils.world.face import EXPRESSION_UNITS, head
from paper_utils.world.people import Population

# What stands for the mouth and for the brows in curves over time.
CURVES = {"jaw opening (rad)": -1, "brow raise": EXPRESSION_UNITS.index("brow_raise"), "smile": EXPRESSION_UNITS.index("smile")}  # fmt: skip
LEVELS = 8  # grey values that become one
BORDER, TOP = 0.22, 0.26  # shares of a portrait that are cut off at its sides and above, to come near


def face_pictures(
    population: Population, motion: Float[Tensor, "frames motion"], identity: int, *, size: int = 96
) -> UInt8[np.ndarray, "frames size size 3"]:
    """A person's face, with skin and hair, in every frame of a motion."""
    model, person = head(2, full=True), population.people([identity])
    rest = portraits.neutral_faces(person, model).expand(len(motion), -1, -1)
    posed = model.pose(rest, motion[:, :-1], motion[:, -1])
    wide = round(size / (1 - 2 * BORDER))
    pictures = show_world.displayed(portraits.studio(posed, person.skin, model, size=wide, yaw_deg=8.0))
    left, top = round(BORDER * wide), round(TOP * wide)
    face = pictures[:, top : top + size, left : left + size]
    # Few levels: a notebook with a hundred faces stays small, and nobody sees the steps.
    return (np.clip(127.5 * (face + 1), 0, 255) // LEVELS * LEVELS + LEVELS // 2).astype(np.uint8)


def draw_faces(
    pictures: Sequence[np.ndarray], rows: Sequence[str], columns: Sequence[str], *, title: str, cell: float = 0.98
) -> Figure:
    """A table of pictures, row by row.

    Raises
    ------
    ValueError
        If the number of pictures does not fit the table.
    """
    if len(pictures) != len(rows) * len(columns):
        raise ValueError(f"pictures: expected {len(rows)} x {len(columns)}, found {len(pictures)}")
    size = (cell * len(columns) + 0.5, cell * len(rows) + 0.55)
    fig, axes = plt.subplots(len(rows), len(columns), figsize=size, squeeze=False)
    for number, (ax, picture) in enumerate(zip(axes.flat, pictures, strict=True)):
        row, column = divmod(number, len(columns))
        ax.imshow(picture, interpolation="nearest")
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        if row == 0:
            ax.set_title(columns[column], fontsize=10, fontweight="normal")
        if column == 0:
            ax.set_ylabel(rows[row], fontsize=10)
    fig.suptitle(title, fontsize=12, fontweight="bold")
    return fig


def draw_exchange(ax: Axes, permutation: Int[Tensor, " clips"], *, wrong_pairing: bool = False) -> None:
    """The doubled batch as a table, and the clip that each loss of an exchanged row compares with; wrong ones are orange.

    Parameters
    ----------
    ax
        Is emptied.
    permutation
        Whose emotion each clip gets.
    wrong_pairing
        The published code before April 2023, see `emote.emotion_targets`.
    """
    count = len(permutation)
    rows = emote.exchange({"emotion": torch.arange(count), "intensity": torch.arange(count)}, permutation)
    targets = torch.cat([torch.arange(count), emote.emotion_targets(permutation, wrong_pairing=wrong_pairing)])
    heads = ("row", "sound", "emotion told", "lips held to", "emotion held to")
    ax.clear()
    ax.set_axis_off()
    for column, text in enumerate(heads):
        ax.text(column, 0, text, ha="center", weight="bold", fontsize=9.5)
    for row in range(2 * count):
        sound, condition = int(rows["input_indices"][row]), int(rows["condition_indices"][row])
        kind = "reconstruct" if row < count else "exchange"
        right = int(targets[row]) == condition
        ax.text(0, -row - 1, f"{row} {kind}", ha="center", fontsize=9.5)
        for column, clip, good in (
            (1, sound, True),
            (2, condition, True),
            (3, sound, True),
            (4, int(targets[row]), right),
        ):
            color = plotting.PALETTE[clip % 6] if good else plotting.PALETTE[1]
            box = {"boxstyle": "round", "facecolor": color, "alpha": 0.25 if good else 0.9, "edgecolor": "none"}
            ax.text(
                column, -row - 1, f"clip {clip}" + ("" if good else " (wrong)"), ha="center", fontsize=9.5, bbox=box
            )
    ax.set(xlim=(-0.6, 4.6), ylim=(-2 * count - 0.6, 0.6))


def draw_estimates(
    ax: Axes,
    found: Mapping[str, Estimate],
    *,
    title: str,
    xlabel: str,
    line: float | None = None,
    color: str | None = None,
) -> None:
    """One row a name with its 95 % interval, the first on top; a dotted line where one is given."""
    middle, bars = plotting.whiskers(found.values())
    ax.errorbar(middle, range(len(middle)), xerr=bars, fmt="o", color=color or plotting.PALETTE[0], capsize=3)
    if line is not None:
        ax.axvline(line, color="black", linestyle=":", linewidth=1.3)
    ax.set_yticks(range(len(found)), list(found))
    ax.set(title=title, xlabel=xlabel, ylim=(len(found) - 0.5, -0.5))


def draw_confusion(ax: Axes, asked: np.ndarray, seen: np.ndarray, *, title: str) -> None:
    """Share of clips that were asked for an emotion (rows) and in which the judge sees another (columns)."""
    counts = np.zeros((len(EMOTIONS), len(EMOTIONS)))
    np.add.at(counts, (asked, seen), 1)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.argwhere(shares >= 0.05):
        color = "white" if shares[row, column] > 0.6 else "black"
        ax.text(column, row, f"{100 * shares[row, column]:.0f}", ha="center", va="center", fontsize=8.5, color=color)
    ax.set_xticks(range(len(EMOTIONS)), EMOTIONS, rotation=40, ha="right")
    ax.set_yticks(range(len(EMOTIONS)), EMOTIONS)
    ax.set(title=title, xlabel="judge sees", ylabel="asked for")
    ax.grid(False)


def draw_curves(
    axes: Sequence[Axes] | np.ndarray, motions: Mapping[str, Float[Tensor, "time motion"]], fps: float
) -> None:
    """Some numbers of several motions over time, one panel each; a name that begins with "truth" is dashed."""
    for ax, (label, place) in zip(axes, CURVES.items(), strict=False):
        for number, (name, motion) in enumerate(motions.items()):
            style = (
                {"linestyle": "--", "color": "black"}
                if name.startswith("truth")
                else {"color": plotting.PALETTE[number % 6]}
            )
            ax.plot((np.arange(len(motion)) + 0.5) / fps, motion[:, place], label=name, linewidth=1.6, **style)
        ax.set(title=label.split(" (")[0].capitalize(), xlabel="time (s)", ylabel=label if "(" in label else "weight")
    axes[0].legend()


def explore_exchange() -> widgets.VBox:
    """Draw another permutation, of more clips, with the right or the historical pairing."""

    def draw(clips: int, draw_number: int, wrong: bool) -> Figure:
        fig, ax = plt.subplots(figsize=(8.5, 0.42 * (2 * clips + 1) + 0.3))
        permutation = emote.derangement(clips, torch.Generator().manual_seed(draw_number))
        draw_exchange(ax, permutation, wrong_pairing=wrong)
        return fig

    return explorer(
        draw,
        {
            "clips": widgets.IntSlider(4, min=2, max=6, description="clips"),
            "draw_number": widgets.IntSlider(1, min=0, max=20, description="draw"),
            "wrong": widgets.Checkbox(False, description="before April 2023"),
        },
    )


def explore_style(model: emote.Emote, known: World, clip: int) -> widgets.VBox:
    """One sound under any emotion, intensity and training person's style: the face in its middle, and curves beside the truth."""
    clips = known.test.clips
    with torch.no_grad():  # the same sound under all conditions
        features = model.features(clips.sound[clip : clip + 1], clips.motion.shape[1])
    # Axes that hold every true clip: they stand still, so that curves of different emotions can be compared.
    recorded = clips.motion[..., list(CURVES.values())].flatten(0, -2)
    low, high = recorded.amin(0), recorded.amax(0)
    ranges = torch.stack([low - 0.05 * (high - low), high + 0.05 * (high - low)], dim=1).tolist()

    def draw(emotion: str, intensity: int, person: int) -> Figure:
        condition = emote.condition_named(emotion, intensity, person, model.sizes)
        with torch.no_grad():
            motion = model.decode(features, condition).motion[0]
        fig, axes = plt.subplots(1, 3, figsize=(10, 3), gridspec_kw={"width_ratios": (1, 1.3, 1.3)})
        middle = int(motion[:, -1].argmax())
        axes[0].imshow(face_pictures(known.train.script.population, motion[middle : middle + 1], person, size=128)[0])
        axes[0].set_axis_off()
        axes[0].set_title(f"{emotion} {intensity}")
        draw_curves(axes[1:], {"EMOTE": motion}, clips.fps)
        for ax, ends in zip(axes[1:], ranges, strict=False):
            ax.set_ylim(*ends)
        return fig

    return explorer(
        draw,
        {
            "emotion": widgets.Dropdown(options=list(EMOTIONS), value="happy", description="emotion"),
            "intensity": widgets.IntSlider(3, min=min(INTENSITIES), max=max(INTENSITIES), description="intensity"),
            "person": widgets.IntSlider(0, min=0, max=len(known.train.script.identities) - 1, description="person"),
        },
    )
