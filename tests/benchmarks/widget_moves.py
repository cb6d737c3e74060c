"""Runs in a notebook's kernel: remembers every explorer that the notebook makes, then moves its controls and measures."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from typing import Any

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from paper_utils.widgets import explorer as module

MOST = 5  # values of a control that are tried
made: list[tuple[Callable[..., Figure], dict[str, widgets.Widget]]] = []


def record() -> None:
    """From now on remember explorers; to be called before the notebook imports the module that it shows."""
    original = module.explorer

    def recording(draw: Callable[..., Figure], controls: dict[str, widgets.Widget], **more: Any) -> module.Explorer:
        made.append((draw, controls))
        return original(draw, controls, **more)

    module.explorer = recording


def other_values(control: widgets.Widget) -> list[Any]:
    """A few values of a control, spread over its range, without the present one."""
    if isinstance(control, widgets.Checkbox):
        return [not control.value]
    if hasattr(control, "options"):
        options = control.options.values() if isinstance(control.options, dict) else control.options
        values = [option[1] if isinstance(option, tuple) else option for option in options]
    elif isinstance(control, widgets.FloatLogSlider):
        values = list(control.base ** np.linspace(control.min, control.max, MOST + 1))
    else:
        steps = round((control.max - control.min) / control.step)
        values = [type(control.value)(control.min + number * control.step) for number in range(steps + 1)]
    values = [value for value in values if value != control.value]
    return [values[i] for i in np.unique(np.linspace(0, len(values) - 1, MOST).round().astype(int))] if values else []


def measured() -> list[dict[str, Any]]:
    """CPU milliseconds of every move, and of drawing and saving the same picture with matplotlib's own layout."""
    rows = []
    for draw, controls in made:
        moves, plain = [], []
        for control in controls.values():
            began = control.value
            for value in other_values(control):
                start = time.process_time()
                control.value = value
                moves.append(1000 * (time.process_time() - start))
                start = time.process_time()
                fig = draw(**{name: one.value for name, one in controls.items()})
                fig.savefig(io.BytesIO(), format="png", dpi=module.DPI)
                plt.close(fig)
                plain.append(1000 * (time.process_time() - start))
            control.value = began
        name = draw.__qualname__.split(".")[0]
        rows.append(
            {"name": name, "median": float(np.median(moves)), "most": max(moves), "plain": float(np.median(plain))}
        )
    return rows
