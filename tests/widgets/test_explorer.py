"""What all explorers share: they follow their controls, skip stale pictures, keep their layout, and leave a picture where no kernel runs."""

from __future__ import annotations

import asyncio
import base64
import io
import threading

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from paper_utils import plotting
from paper_utils.widgets import explorer as module
from paper_utils.widgets.explorer import explorer

VIEW = "application/vnd.jupyter.widget-view+json"


class Drawing:
    """A bar of the slider's height; keeps its figures."""

    def __init__(self) -> None:
        self.figures: list[Figure] = []
        self.values: list[int] = []

    def __call__(self, height: int) -> Figure:
        fig, ax = plotting.figure(width=4, height=3)
        ax.bar([0], [height])
        ax.set(title="A bar", xlabel="place", ylabel="height (m)")
        self.figures.append(fig)
        self.values.append(height)
        return fig

    def explore(self, **more):
        def draw(height: int) -> Figure:
            return self(height)

        return explorer(draw, {"height": widgets.IntSlider(1, min=1, max=10**7, description="height")}, **more)


@pytest.fixture(autouse=True)
def _style():
    with plt.rc_context():
        plotting.use_style()
        yield


def test_moves_of_another_thread_are_drawn_by_the_first_one_once_and_with_the_last_value():
    drawing = Drawing()

    async def session() -> None:
        slider = drawing.explore().children[0].children[0]

        def drag() -> None:
            for value in range(2, 40):
                slider.value = value

        front_end = threading.Thread(target=drag)
        front_end.start()
        front_end.join()  # a cell runs meanwhile: the loop stands still
        assert drawing.values == [1]
        await asyncio.sleep(0)
        assert drawing.values == [1, 39]
        slider.value = 50  # of this thread: drawn at once
        assert drawing.values == [1, 39, 50]

    asyncio.run(session())


def test_a_picture_that_was_seen_is_not_drawn_again():
    drawing = Drawing()
    _, picture = (box := drawing.explore()).children
    slider = box.children[0].children[0]
    slider.value = 7
    seen = bytes(picture.value)
    slider.value = 9
    slider.value = 7
    assert drawing.values == [1, 7, 9]
    assert bytes(picture.value) == seen


def test_axes_stand_still_until_a_label_needs_more_room_and_then_nothing_is_cut_off():
    drawing = Drawing()
    slider = drawing.explore().children[0].children[0]
    for value in (2, 90_000, 3):
        slider.value = value
    first, second, wide, narrow = (fig.axes[0] for fig in drawing.figures)
    places = [ax.get_position().bounds for ax in (first, second, wide, narrow)]
    np.testing.assert_allclose(places[0], places[1])
    assert places[2][0] > places[0][0]
    np.testing.assert_allclose(places[2], places[3])
    assert all(ax.yaxis.label.get_window_extent().x0 >= 0 for ax in (first, second, wide, narrow))


def test_a_title_stands_where_matplotlib_would_put_it():
    drawing = Drawing()
    drawing.explore().children[0].children[0].value = 2
    fig, ax = plotting.figure(width=4, height=3)
    ax.set(title="A bar", xlabel="place", ylabel="height (m)")
    ax.bar([0], [2])
    fig.canvas.draw()
    np.testing.assert_allclose(
        drawing.figures[1].axes[0].title.get_window_extent().bounds, ax.title.get_window_extent().bounds, atol=0.5
    )
    plt.close(fig)


def test_pictures_without_axes_keep_their_size():
    figures = []

    def draw(shade: int) -> Figure:
        fig, axes = plotting.figure(3, width=8, height=2.6)
        for number, ax in enumerate(axes[:2]):
            ax.imshow(np.full((4, 4), shade))
            ax.set_title(f"shade {shade}" if number else "shade")
            ax.set_axis_off()
        axes[2].plot([0, 1], [0, shade])
        axes[2].set(title="line", xlabel="x", ylabel="shade")
        figures.append(fig)
        return fig

    slider = explorer(draw, {"shade": widgets.IntSlider(1, max=90_000)}).children[0].children[0]
    for value in (2, 10, 90_000, 3):
        slider.value = value
    sizes = np.array([[ax.get_window_extent().size for ax in fig.axes[:2]] for fig in figures])
    np.testing.assert_allclose(sizes, np.broadcast_to(sizes[0, 0], sizes.shape))


def test_a_title_stays_clear_of_the_angles_of_a_circle():
    figures = []

    def draw(turn: int) -> Figure:
        fig, ax = plotting.figure(width=4, height=4, subplot_kw={"projection": "polar"})
        ax.set_title(f"Turned by {turn}")
        figures.append(fig)
        return fig

    explorer(draw, {"turn": widgets.IntSlider(1)}).children[0].children[0].value = 2
    for fig in figures:
        (ax,) = fig.axes
        top = max(label.get_window_extent().y1 for label in ax.get_xticklabels())
        assert ax.title.get_window_extent().y0 > top


def test_the_output_holds_a_picture_for_readers_without_a_kernel():
    box = Drawing().explore()
    data, metadata = box._repr_mimebundle_()
    assert VIEW in data
    with Image.open(io.BytesIO(base64.b64decode(data["image/png"]))) as stored:
        assert stored.size == (4 * module.DPI, 3 * module.DPI)
        assert stored.mode == "P"
    assert metadata["image/png"]["alt"] == data["text/plain"]
    assert data["text/plain"].startswith("Interactive figure. ")
    assert "height (m)" in data["text/plain"]


def test_fewer_colours_change_no_pixel_much():
    fig = Drawing()(3)
    pixels = module._KeptLayout().pixels(fig)
    plt.close(fig)
    few = module.fewer_colours(module.png(pixels))
    with Image.open(io.BytesIO(few)) as stored:
        found = np.asarray(stored.convert("RGB")).astype(int)
    assert np.abs(found - pixels[..., :3]).mean() < 1
    assert len(few) < len(module.png(pixels))


def test_sound_stands_below_the_picture_only_where_there_is_one():
    drawing = Drawing()
    assert len(drawing.explore().children) == 2
    box = drawing.explore(sound=lambda height: bytes([height]))
    box.children[0].children[0].value = 5
    assert bytes(box.children[2].value) == b"\x05"


def test_an_explorer_names_itself_for_style_sheets_and_tests():
    assert "explorer" in Drawing().explore()._dom_classes


def test_a_figure_that_fails_is_closed_and_the_failure_told():
    opened = plt.get_fignums()

    def draw(height: int) -> Figure:
        fig, ax = plotting.figure()
        ax.set_title(f"$\\notacommand_{height}$")
        return fig

    with pytest.raises(ValueError, match="notacommand"):
        explorer(draw, {"height": widgets.IntSlider(1)})
    assert plt.get_fignums() == opened
