"""Controls above a picture that is drawn anew whenever one of them moves: what every explorer is made of.

Every explorer has a drawing function beside it that makes the same picture once, so that a notebook read on paper loses nothing.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import ipywidgets as widgets
import matplotlib.pyplot as plt
from matplotlib.figure import Figure


def explorer(draw: Callable[..., Figure], controls: dict[str, widgets.Widget]) -> widgets.VBox:
    """Controls above a picture that is drawn anew whenever one of them moves.

    The picture goes through an image widget rather than an output area: a notebook run without a browser then neither waits for a
    front end nor stores every picture twice.
    """
    picture = widgets.Image(format="png")

    def show(_: object = None) -> None:
        fig = draw(**{name: control.value for name, control in controls.items()})
        buffer = io.BytesIO()
        fig.savefig(buffer, format="png", dpi=55)
        plt.close(fig)
        picture.value = buffer.getvalue()

    for control in controls.values():
        control.observe(show, names="value")
    show()
    return widgets.VBox([widgets.HBox(list(controls.values())), picture])
