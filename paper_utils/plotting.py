"""One look for every figure: size, palette, curves with intervals, grids of small images, verdict tables."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from pandas.io.formats.style import Styler
from scipy import stats

from paper_utils import figure_text, results
from paper_utils.metrics.statistics import Estimate

# Okabe and Ito (2008), "Color Universal Design": told apart under the common colour-vision deficiencies.
PALETTE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999"]
# Perceptually uniform maps: one for magnitudes, one for signed values around zero.
SEQUENTIAL = "viridis"
DIVERGING = "RdBu_r"


def use_style() -> None:
    """Set matplotlib to the look of this collection; called by `experiment.start`."""
    sns.set_theme(style="whitegrid", context="notebook", palette=PALETTE)
    plt.rcParams.update(
        {
            "figure.dpi": 72,
            "savefig.dpi": "figure",
            "figure.constrained_layout.use": True,
            "axes.titlesize": 12,
            "axes.labelsize": 11,
            "axes.titleweight": "bold",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "legend.frameon": False,
            "legend.fontsize": 9.5,
            "grid.color": "#e3e3e3",
            "lines.linewidth": 2.0,
        }
    )
    _draw_inline_as_it_is()
    figure_text.announce_figures()


def _draw_inline_as_it_is() -> None:
    """In a notebook, show a figure in its own size: finding the tight box would draw each of them twice."""
    if "matplotlib_inline" in sys.modules:
        from matplotlib_inline.config import InlineBackend

        InlineBackend.instance().print_figure_kwargs = {"bbox_inches": None, "pil_kwargs": {"optimize": True}}


def figure(
    ncols: int = 1, nrows: int = 1, *, width: float | None = None, height: float = 3.6, **options
) -> tuple[Figure, Axes | np.ndarray]:
    """A figure with axes in the style of the collection.

    Parameters
    ----------
    ncols, nrows
        Number of panels.
    width, height
        Inches of the whole figure's width (default 4.6 a column, at most 13) and of one row.
    options
        Passed on to `matplotlib.pyplot.subplots`.
    """
    size = (width or min(13.0, 4.6 * ncols + 0.6), height * nrows)
    return plt.subplots(nrows, ncols, figsize=size, **options)


def curve_with_interval(
    ax: Axes, x: ArrayLike, values: Float[np.ndarray, "runs points"], *, label: str, color: str, **style
) -> None:
    """Mean curve over runs with its pointwise 95 % t-interval as a band.

    Raises
    ------
    ValueError
        If there are fewer than two runs, or the number of points differs from `x`.
    """
    values = np.asarray(values, dtype=float)
    if values.ndim != 2 or len(values) < 2 or values.shape[1] != len(np.asarray(x)):
        raise ValueError(f"values must be (runs >= 2, points = {len(np.asarray(x))}), found shape {values.shape}")
    mean = values.mean(0)
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(0, ddof=1) / np.sqrt(len(values))
    ax.plot(x, mean, color=color, label=label, **style)
    ax.fill_between(x, mean - half, mean + half, color=color, alpha=0.18, linewidth=0)


def whiskers(estimates: Iterable[Estimate]) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, "2 n"]]:
    """Values and the lengths of their intervals below and above, as `matplotlib.axes.Axes.errorbar` takes them.

    A percentile interval of a skewed sample need not hold its own value; the length on that side is then 0.

    Examples
    --------
    >>> middle, bars = whiskers([Estimate(2.0, 1.5, 3.0, 10, "t"), Estimate(1.0, 1.2, 1.4, 10, "percentile")])
    >>> bars.round(1).tolist()
    [[0.5, 0.0], [1.0, 0.4]]
    """
    rows = np.array([(one.value, one.low, one.high) for one in estimates], dtype=float).reshape(-1, 3).T
    return rows[0], np.maximum([rows[0] - rows[1], rows[2] - rows[0]], 0)


def image_grid(
    images: Float[np.ndarray, "n height width"] | Float[np.ndarray, "n height width 3"],
    *,
    columns: int,
    titles: Sequence[str] | None = None,
    cell: float = 0.9,
) -> tuple[Figure, np.ndarray]:
    """A grid of small images with values in [-1, 1], grey or RGB.

    Parameters
    ----------
    images
        Images to show in reading order.
    columns
        Images a row.
    titles
        One short title an image.
    cell
        Inches of one cell.
    """
    images = np.asarray(images)
    rows = -(-len(images) // columns)
    fig, axes = plt.subplots(
        rows, columns, figsize=(columns * cell, rows * (cell + (0.25 if titles else 0))), squeeze=False
    )
    for index, ax in enumerate(axes.flat):
        ax.set_axis_off()
        if index < len(images):
            ax.imshow(np.clip(images[index] / 2 + 0.5, 0, 1), cmap="gray", vmin=0, vmax=1)
            if titles:
                ax.set_title(titles[index], fontsize=9, fontweight="normal")
    return fig, axes


def claims_styler(rows: list[dict[str, str]], caption: str) -> Styler:
    """A claims table; cells that hold a verdict get its symbol and shade."""
    table = pd.DataFrame(rows)

    def look(cell: object) -> str:
        return results.VERDICT_LOOK.get(str(cell), ("", ""))[1]

    return (
        table.style.hide(axis="index")
        .set_uuid(f"claims-{len(table)}")
        .set_caption(caption)
        .map(look)
        .format(lambda cell: results.VERDICT_LOOK.get(str(cell), (str(cell), ""))[0])
        .set_properties(**{"text-align": "left", "vertical-align": "top", "max-width": "34em", "white-space": "normal"})
        .set_table_styles(
            [
                {"selector": "caption", "props": "text-align: left; font-weight: 600; padding-bottom: 0.5em"},
                {"selector": "th", "props": "text-align: left"},
            ]
        )
    )
