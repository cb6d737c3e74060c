"""Pictures and explorers of the tour: they draw without a browser and show what they say."""

from __future__ import annotations

import io

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from paper_utils import plotting
from paper_utils.data.speech import Alignment, Recording
from paper_utils.widgets import world as show
from paper_utils.world.face import PARAMETERS, head
from paper_utils.world.people import ANATOMY, TRACT, Population
from paper_utils.world.speakers import Speakers
from paper_utils.world.tract_spectra import formants, vowel_area


@pytest.mark.parametrize(
    ("make", "description", "value"),
    [(show.explore_anatomy, "sd", -4.0), (show.explore_emotion, "jaw (deg)", 12.0)],
)
def test_an_explorer_redraws_when_a_control_moves_and_leaves_no_figure_open(make, description, value):
    opened = plt.get_fignums()
    controls, picture, *_ = make().children
    before = bytes(picture.value)
    next(control for control in controls.children if control.description == description).value = value
    assert bytes(picture.value) != before
    assert bytes(picture.value).startswith(b"\x89PNG")
    assert plt.get_fignums() == opened


def test_the_anatomy_explorer_speaks_anew_when_the_cavity_changes():
    controls, _, sound = show.explore_anatomy().children
    before = bytes(sound.value)
    next(control for control in controls.children if control.description == "cavity").value = "pharynx"
    samples, rate = soundfile.read(io.BytesIO(bytes(sound.value)))
    assert bytes(sound.value) != before
    assert rate == 16_000
    assert 0.5 < np.abs(samples).max() < 0.8


def test_a_larger_cavity_moves_the_fields_that_follow_it_and_lowers_formants():
    base = Speakers.typical("woman")
    moved = show.moved_speaker(base, "oral", 4.0)
    changed = {name for name, value in vars(base).items() if not np.array_equal(value, getattr(moved, name))}
    assert changed == {name for name, (*_, cavity) in TRACT.items() if cavity == "oral"} == {"oral_cm"}
    assert (formants(vowel_area("AA", moved)[None], moved) < formants(vowel_area("AA", base)[None], base)).all()


def test_varied_faces_move_what_is_named_and_refuse_what_is_not():
    model = head(2)
    plain, wide = show.varied_faces(model, [{}, {"mouth_width": 2.0}], hair_mm=0.0)
    corner = model.handles["ch_l"]
    sd = float(model.parameter_sd[PARAMETERS.index("mouth_width")])
    assert float(wide[corner, 0] - plain[corner, 0]) == pytest.approx(0.5 * 2 * sd, abs=1e-4)
    with pytest.raises(ValueError, match=r"unknown face parameters .*'moustache'.*; valid: face_width"):
        show.varied_faces(model, [{"moustache": 1.0}])


def test_displayed_keeps_black_and_white_and_brightens_between():
    grey = torch.tensor([-1.0, 0.0, 1.0]).view(3, 1, 1, 1).expand(3, 3, 2, 2)
    shown = show.displayed(grey)
    assert shown.shape == (3, 2, 2, 3)
    np.testing.assert_allclose(shown[:, 0, 0, 0], [-1, 2 * np.sqrt(0.5) - 1, 1], atol=1e-6)


def test_phones_stand_over_their_own_stretch_of_the_spectrogram():
    alignment = Alignment(("SIL", "M", "AA"), np.array([0.0, 0.1, 0.2, 0.5]))
    fig, ax = plotting.figure()
    show.draw_alignment(ax, Recording(torch.zeros(51, 8), 10.0, 0, alignment), title="ma")
    places = {text.get_text(): text.get_position()[0] for text in ax.texts}
    assert places == pytest.approx({"SIL": 0.05, "M": 0.15, "AA": 0.35})
    assert [line.get_xdata()[0] for line in ax.lines] == pytest.approx([0.0, 0.1, 0.2])
    plt.close(fig)


def test_formant_chart_draws_each_vowel_at_its_place_on_turned_axes():
    ours = pd.DataFrame({"F1": [300.0, 700.0], "F2": [2300.0, 1100.0]}, ["IY", "AA"])
    fig, ax = plotting.figure()
    show.draw_formant_chart(ax, ours, ours + 10, title="chart")
    assert ax.get_xlim()[0] > ax.get_xlim()[1]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]
    drawn = next(line for line in ax.lines if line.get_label() == "this tract")
    np.testing.assert_allclose(np.c_[drawn.get_xdata(), drawn.get_ydata()], ours[["F2", "F1"]].to_numpy())
    plt.close(fig)


def test_correlation_picture_leaves_out_what_nothing_is_shared_with():
    fig, ax = plotting.figure(width=9)
    show.draw_correlations(ax, Population().true_correlation(), title="link")
    shown = [tick.get_text() for tick in ax.get_xticklabels()]
    assert "mouth width" in shown
    assert "canthal tilt" not in shown
    assert [tick.get_text() for tick in ax.get_yticklabels()] == list(ANATOMY)
    plt.close(fig)
