"""Pictures and explorers of paper 09: they draw without a browser and show what is so."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from paper_utils import experiment, plotting
from paper_utils.metrics.statistics import Estimate
from paper_utils.studies import emote as st
from paper_utils.studies import emote_world as worlds
from paper_utils.widgets import emote as show
from paper_utils.world.people import Population


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def controls(box):
    return {control.description: control for control in box.children[0].children}


def test_the_exchange_shows_wrong_pairs_only_where_the_permutation_is_no_swap():
    swap, cycle = torch.tensor([1, 0]), torch.tensor([1, 2, 0])
    counted = []
    for permutation, wrong in ((cycle, False), (swap, True), (cycle, True)):
        _, ax = plotting.figure()
        show.draw_exchange(ax, permutation, wrong_pairing=wrong)
        counted.append(sum("(wrong)" in text.get_text() for text in ax.texts))
    assert counted == [0, 0, 3]


def test_rows_of_the_exchange_name_sound_and_emotion():
    _, ax = plotting.figure()
    show.draw_exchange(ax, torch.tensor([1, 2, 0]))
    rows = {}
    for text in ax.texts:
        x, y = text.get_position()
        rows.setdefault(-round(y), {})[round(x)] = text.get_text()
    assert rows[4] == {0: "3 exchange", 1: "clip 0", 2: "clip 1", 3: "clip 0", 4: "clip 1"}


def test_a_table_of_pictures_needs_one_for_each_place():
    pictures = [np.zeros((4, 4, 3), np.uint8)] * 6
    fig = show.draw_faces(pictures, ["a", "b"], ["x", "y", "z"], title="faces")
    assert [ax.get_title() for ax in fig.axes[:3]] == ["x", "y", "z"]
    with pytest.raises(ValueError, match="pictures: expected 2 x 2, found 6"):
        show.draw_faces(pictures, ["a", "b"], ["x", "y"], title="faces")


def test_estimates_stand_at_their_values_with_their_intervals():
    _, ax = plotting.figure()
    show.draw_estimates(ax, {"one": Estimate(0.5, 0.4, 0.7, 9, "toy")}, title="t", xlabel="x", line=0.0)
    (segment,) = ax.containers[0].lines[2][0].get_segments()
    np.testing.assert_allclose(segment[:, 0], [0.4, 0.7])


def test_confusion_counts_rows_in_percent():
    _, ax = plotting.figure()
    show.draw_confusion(ax, np.array([1, 1, 1, 1, 2]), np.array([1, 1, 1, 0, 2]), title="t")
    assert sorted(text.get_text() for text in ax.texts) == ["100", "25", "75"]


def test_a_face_is_drawn_for_every_frame_and_moves():
    motion = torch.zeros(2, worlds.MOTION)
    motion[1, -1] = 0.3
    pictures = show.face_pictures(Population(size=3), motion, 1, size=40)
    assert pictures.shape == (2, 40, 40, 3)
    assert np.abs(pictures[0].astype(int) - pictures[1]).max() > 50


def test_the_explorer_of_exchanges_redraws():
    box = show.explore_exchange()
    before = box.children[1].value
    controls(box)["clips"].value = 3
    assert box.children[1].value != before
    assert not plt.get_fignums()


def test_the_explorer_of_styles_follows_emotion_and_intensity():
    exp = experiment.start("09", profile="smoke")
    known = worlds.world(exp)
    flint = st.emote.Flint(worlds.sizes(exp).emote.prior, seed=0)
    model = st.new_model(worlds.sizes(exp).emote.network, flint, seed=0).eval()
    torch.nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(0))
    torch.nn.init.normal_(flint.decoder.turn.weight, generator=torch.Generator().manual_seed(1))
    box = show.explore_style(model, known, 0)
    before = box.children[1].value
    controls(box)["emotion"].value = "anger"
    after = box.children[1].value
    assert after != before
    controls(box)["intensity"].value = 1
    assert box.children[1].value != after
    assert not plt.get_fignums()
