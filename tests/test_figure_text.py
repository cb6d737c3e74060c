"""What figures say to those who cannot see them, and that a notebook stores it."""

import matplotlib.pyplot as plt
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.pylabtools import select_figure_formats
from matplotlib.figure import Figure

from paper_utils import experiment, figure_text, plotting


@pytest.fixture
def shell():
    """A notebook's formatters, which the tests after this one do not see."""
    shell = InteractiveShell.instance()
    select_figure_formats(shell, {"png"})
    figure_text.announce_figures()
    yield shell.display_formatter
    InteractiveShell.clear_instance()
    plt.close("all")


def panels(*titles):
    fig, axes = plt.subplots(1, len(titles), squeeze=False)
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set(title=title, xlabel="angle (degrees)", ylabel="slope")
    return fig, axes[0]


class TestText:
    """The sentences."""

    def test_caption_then_titles_axes_and_legend_each_once(self):
        fig, axes = panels("Own", "Other")
        axes[0].plot([0, 1], label="full")
        axes[0].legend()
        figure_text.set_caption(fig, "Slopes.")
        assert figure_text.alternative_text(fig) == (
            "Slopes. Title: Own; Other. Horizontal axis: angle (degrees). Vertical axis: slope. Legend: full."
        )

    def test_a_title_that_is_the_caption_is_not_said_twice(self):
        fig, axes = panels("Slopes")
        axes[0].set_axis_off()
        figure_text.set_caption(fig, "Slopes")
        assert figure_text.alternative_text(fig) == "Slopes."

    def test_labels_of_axes_that_are_off_or_hidden_are_not_seen_and_not_said(self):
        fig, axes = panels("Face", "Gone")
        axes[0].set_axis_off()
        axes[1].set_visible(False)
        assert figure_text.alternative_text(fig) == "Title: Face."

    def test_titles_of_the_figure_and_at_the_left_and_free_text_are_said(self):
        fig, axes = panels("")
        axes[0].set_axis_off()
        axes[0].set_title("a", loc="left")
        fig.suptitle("All")
        fig.text(0, 0, "row 1")
        assert figure_text.alternative_text(fig) == "Title: All; row 1; a."

    def test_a_title_that_asks_keeps_its_question_mark(self):
        fig, axes = panels("Who?")
        axes[0].set_axis_off()
        assert figure_text.alternative_text(fig) == "Title: Who?"

    def test_of_many_the_first_are_said_and_the_others_counted(self):
        fig, _ = panels(*"abcdefghijk")
        assert "Title: a; b; c; d; e; f; g; h; and 3 more." in figure_text.alternative_text(fig)

    def test_mathematics_and_line_breaks_are_put_in_words(self):
        fig, axes = panels("one\ntwo")
        axes[0].set(xlabel=r"angle $\theta_{y}$ ($\mu$m)", ylabel="")
        assert figure_text.alternative_text(fig) == "Title: one two. Horizontal axis: angle theta_y (mu m)."

    def test_a_figure_without_words_has_no_text(self):
        fig, axes = panels("")
        axes[0].set_axis_off()
        assert figure_text.alternative_text(fig) == ""


class TestNotebook:
    """What reaches the stored output."""

    def test_a_saved_figure_carries_its_caption_as_alt_and_as_plain_text(self, shell):
        run = experiment.start("01", profile="smoke")
        fig, _ = panels("Own")
        run.save_figure(fig, "slopes", "Slopes of the heads")
        data, metadata = shell.format(fig)
        assert set(data) == {"image/png", "text/plain"}
        assert metadata == {"image/png": {"alt": data["text/plain"]}}
        assert data["text/plain"].startswith("Slopes of the heads. Title: Own.")

    def test_the_style_alone_announces_figures_that_are_shown_before_an_experiment_starts(self):
        shell = InteractiveShell.instance()
        try:
            plotting.use_style()
            assert Figure in shell.display_formatter.mimebundle_formatter
        finally:
            InteractiveShell.clear_instance()

    def test_a_figure_without_words_is_shown_as_ever(self, shell):
        fig, axes = panels("")
        axes[0].set_axis_off()
        data, metadata = shell.format(fig)
        assert data["text/plain"].startswith("<Figure")
        assert metadata == {}

    def test_only_what_is_asked_for_is_made(self, shell):
        fig, _ = panels("Own")
        data, metadata = shell.format(fig, include={"text/plain"})
        assert set(data) == {"text/plain"}
        assert metadata == {}

    def test_outside_a_notebook_nothing_happens(self):
        assert not InteractiveShell.initialized()
        figure_text.announce_figures()
        assert not InteractiveShell.initialized()
