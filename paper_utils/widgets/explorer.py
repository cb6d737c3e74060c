"""Controls above a picture that follows them: what every explorer is made of.

Every explorer has a drawing function beside it that makes the same picture once, so that a notebook read on paper loses nothing.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import io
import threading
from collections.abc import Callable, Hashable
from typing import Any

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from PIL import Image

from paper_utils import figure_text

DPI = 72  # as figures of the notebooks: pictures of whole pixels stay sharp, and letters are as large as elsewhere
SLACK = 2.0  # pixels that a label may leave its place before the layout is solved anew; the layout itself pads by three
REMEMBERED = 64  # pictures an explorer keeps, so that a way back costs nothing
# Titles stand where they would anyway if no ticks are above; matplotlib need not measure all of them to find out.
QUICK = {"axes.titley": 1.0}
COLOURS = 128  # of the stored picture


class Pictured(widgets.VBox):
    """A box of widgets whose output also holds a picture, for where no kernel runs."""

    def _still(self) -> tuple[bytes, str]:
        """The picture as a PNG file, and what it shows in words."""
        raise NotImplementedError

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        picture, text = self._still()
        text = f"Interactive figure. {text}".rstrip()
        shown = {"image/png": base64.b64encode(picture).decode(), "text/plain": text}
        return super()._repr_mimebundle_(**options) | shown, {"image/png": {"alt": text}}


class Explorer(Pictured):
    """Controls above a picture that is drawn anew when one of them moves; `explorer` makes them.

    Where no kernel runs (a page on the web, a printed notebook) its output shows the picture as it was when the cell ran.

    Parameters
    ----------
    draw, controls, sound
        See `explorer`.
    """

    def __init__(
        self,
        draw: Callable[..., Figure],
        controls: dict[str, widgets.Widget],
        sound: Callable[..., bytes] | None = None,
    ) -> None:
        self._names, self._controls, self._waiting = tuple(controls), tuple(controls.values()), False
        self._thread, self._loop = threading.current_thread(), _running_loop()
        layout, rules = _KeptLayout(), {}

        def shown(*values: Hashable) -> tuple[bytes, str, list[bytes]]:
            chosen = dict(zip(self._names, values, strict=True))
            with plt.rc_context(rules):
                fig = draw(**chosen)
            if all(ax.name == "rectilinear" for ax in fig.axes):
                rules.update(QUICK)
            try:
                pixels = layout.pixels(fig)
                return png(pixels), figure_text.alternative_text(fig), [sound(**chosen)] if sound else []
            finally:
                plt.close(fig)

        self._shown = functools.lru_cache(REMEMBERED)(shown)
        # In its own size: a box would stretch it to its width.
        own_size = widgets.Layout(align_self="flex-start", max_width="100%")
        self._picture = widgets.Image(format="png", layout=own_size)
        below = [widgets.Audio(format="flac", autoplay=False, loop=False)] if sound else []
        # A row that is too long for the window goes on below.
        row = widgets.HBox(self._controls, layout=widgets.Layout(flex_flow="row wrap"))
        super().__init__([row, self._picture, *below])
        self.add_class("explorer")
        self.add_class(draw.__qualname__.split(".")[0])
        self._redraw()
        self._picture.value = fewer_colours(bytes(self._picture.value))
        for control in self._controls:
            control.style.description_width = "initial"  # as wide as the word
            control.observe(self._moved, names="value")

    def _moved(self, _: object) -> None:
        """Draw, or have it drawn where figures are drawn: a front end may send moves to another thread while a cell runs.

        However many moves come in meanwhile, one redraw waits at most, and it takes the values of its own time.
        """
        if self._loop is None or threading.current_thread() is self._thread:
            self._redraw()
        elif not self._waiting:
            self._waiting = True
            self._loop.call_soon_threadsafe(self._redraw)

    def _redraw(self) -> None:
        self._waiting = False
        self._picture.value, self._text, sounds = self._shown(*(control.value for control in self._controls))
        for player, sound in zip(self.children[2:], sounds, strict=True):
            player.value = sound

    def _still(self) -> tuple[bytes, str]:
        return bytes(self._picture.value), self._text


def explorer(
    draw: Callable[..., Figure],
    controls: dict[str, widgets.Widget],
    *,
    sound: Callable[..., bytes] | None = None,
) -> Explorer:
    """Controls above a picture that follows them while they move.

    The picture goes through an image widget rather than an output area: a notebook run without a browser then neither waits for a
    front end nor stores every picture twice. Moves that come faster than pictures are skipped, never queued.

    Parameters
    ----------
    draw
        Makes a figure from the controls' values. The same values must give the same figure: pictures are remembered.
    controls
        By the name of the argument. Their values must be hashable.
    sound
        Makes a FLAC file of the same values, which can be played below the picture.
    """
    return Explorer(draw, controls, sound)


def png(pixels: np.ndarray) -> bytes:
    """A picture of (height, width, RGBA) bytes as a PNG file, written fast rather than small."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert("RGB").save(buffer, format="png", compress_level=1)
    return buffer.getvalue()


def fewer_colours(picture: bytes) -> bytes:
    """The same PNG with a palette: a third of the size, since it will be stored in a notebook."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(picture)) as full:
        few = full.convert("RGB").quantize(COLOURS, method=Image.Quantize.MEDIANCUT, kmeans=1, dither=Image.Dither.NONE)
    few.save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:  # no kernel, so all that happens comes from this thread
        return None


class _KeptLayout:
    """Draws figures of one kind: the places of the axes are found for the first one and kept for the others.

    Finding them takes longer than drawing, and axes that stand still are easier to watch. When labels need more room than they have, their
    axes become smaller, once and for all.
    """

    def __init__(self) -> None:
        self._size: tuple[float, ...] = ()
        self._title = (0.5, 0.98)
        self._places: list[Bbox] = []
        self._rooms: list[np.ndarray] = []

    def pixels(self, fig: Figure) -> np.ndarray:
        """The figure as (height, width, RGBA) bytes."""
        canvas = FigureCanvasAgg(fig)
        fig.set_dpi(DPI)
        if fig.get_layout_engine() is None or not self._fits(fig):
            canvas.draw()
            self._keep(fig)
            return np.asarray(canvas.buffer_rgba())
        fig.set_layout_engine("none")
        self._place(fig)
        canvas.draw()
        if self._grown(fig):
            self._place(fig)
            canvas.draw()
        return np.asarray(canvas.buffer_rgba())

    def _fits(self, fig: Figure) -> bool:
        return len(fig.axes) == len(self._places) and tuple(fig.get_size_inches()) == self._size

    def _keep(self, fig: Figure) -> None:
        self._size = tuple(fig.get_size_inches())
        self._places, self._rooms = [ax.get_position(original=True) for ax in fig.axes], [_room(ax) for ax in fig.axes]
        if fig.get_suptitle():
            self._title = fig._suptitle.get_position()

    def _place(self, fig: Figure) -> None:
        for ax, place in zip(fig.axes, self._places, strict=True):
            ax.set_position(place, which="original")
        if fig.get_suptitle():
            fig._suptitle.set_position(self._title)

    def _grown(self, fig: Figure) -> bool:
        """Give labels that need it more room; whether any did."""
        grown = False
        for number, ax in enumerate(fig.axes):
            more = _room(ax) - self._rooms[number]
            if more.max() > SLACK:
                left, below, right, above = np.maximum(more, 0) / np.tile(fig.bbox.size, 2)
                (x0, y0), (x1, y1) = self._places[number].get_points()
                self._places[number] = Bbox([[x0 + left, y0 + below], [x1 - right, y1 - above]])
                self._rooms[number] = np.maximum(_room(ax), self._rooms[number])
                grown = True
        return grown


def _room(ax: Axes) -> np.ndarray:
    """How far the labels and the title of drawn axes stand out at the left, below, at the right and above, in pixels.

    Labels stand beyond all ticks. Along their own axis they may be as long as they like, as in matplotlib's own layout.
    """
    box, title = ax.bbox, ax.title.get_window_extent()
    if not ax.axison:  # nobody has put its labels anywhere
        return np.array([0, 0, 0, max(title.y1 - box.y1, 0)])
    left, below = ax.yaxis.label.get_window_extent(), ax.xaxis.label.get_window_extent()
    out = np.array([box.x0 - left.x0, box.y0 - below.y0, left.x1 - box.x1, title.y1 - box.y1])
    return np.maximum(out, 0)  # what stands at one side only needs no room at the other
