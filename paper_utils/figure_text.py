"""What a figure says to those who cannot see it: its caption, and the words that are drawn in it.

Notebooks keep this text twice, since readers of notebooks look for it in two places: as ``alt`` in the picture's metadata (nbconvert,
the book of this collection, ``make lab``) and as the picture's plain text (VS Code, MyST).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from matplotlib.figure import Figure

MOST = 8  # words of a kind that are read out, such as the titles of the first eight panels


def set_caption(fig: Figure, caption: str) -> None:
    """Say what a figure shows, before the notebook shows it."""
    fig.caption = caption


def alternative_text(fig: Figure) -> str:
    """Caption, titles, axis labels and legend of a figure as sentences; empty if it has none of them.

    Examples
    --------
    >>> fig = Figure()
    >>> ax = fig.add_subplot(title="Pull", xlabel=r"angle $\\theta$ (degrees)")
    >>> set_caption(fig, "How hard the own class is pulled")
    >>> alternative_text(fig)
    'How hard the own class is pulled. Title: Pull. Horizontal axis: angle theta (degrees).'
    """
    axes = [ax for ax in fig.axes if ax.get_visible()]
    ruled = [ax for ax in axes if ax.axison]
    legends = [*fig.legends, *(ax.get_legend() for ax in axes if ax.get_legend())]
    caption = _plain(getattr(fig, "caption", ""))
    titles = [
        *(text.get_text() for text in fig.texts),
        *(ax.get_title(loc) for ax in axes for loc in ("left", "center", "right")),
    ]
    parts = {
        "Title": [title for title in titles if _plain(title) != caption],
        "Horizontal axis": [ax.get_xlabel() for ax in ruled],
        "Vertical axis": [ax.get_ylabel() for ax in ruled],
        "Legend": [text.get_text() for legend in legends for text in legend.get_texts()],
    }
    said = [caption, *(f"{kind}: {words}" for kind, texts in parts.items() if (words := _listed(texts)))]
    return " ".join(
        sentence if sentence.endswith(("?", "!")) else f"{sentence.rstrip('.')}." for sentence in said if sentence
    )


def _listed(texts: Iterable[str]) -> str:
    different = list(dict.fromkeys(plain for text in texts if (plain := _plain(text))))
    more = [f"and {len(different) - MOST} more"] if len(different) > MOST else []
    return "; ".join([*different[:MOST], *more])


def _plain(text: str) -> str:
    """Text without the marks of mathematics, on one line."""
    spaced = re.sub(r"[${}]", "", re.sub(r"\\([a-zA-Z]+)", r" \1 ", text))
    return re.sub(r"(?<=\() | (?=[_^)])", "", " ".join(spaced.replace("\\", " ").split()))


def announce_figures() -> None:
    """In a notebook, give every figure that is shown from now on its text. Elsewhere there is nothing to do."""
    from IPython import get_ipython

    if shell := get_ipython():
        shell.display_formatter.mimebundle_formatter.for_type(Figure, _bundle)


def _bundle(fig: Figure, **_: Any) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """What IPython adds to the picture: its plain text, and the picture's metadata. Types that nobody asked for IPython drops itself."""
    text = alternative_text(fig)
    return ({"text/plain": text}, {"image/png": {"alt": text}}) if text else ({}, {})
