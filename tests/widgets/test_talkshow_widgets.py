"""Pictures and explorers of paper 08: they draw without a browser, and the grid shows what may be seen and nothing else."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from paper_utils import plotting
from paper_utils.metrics.statistics import Estimate
from paper_utils.widgets import talkshow as show
from paper_utils.world.gestures import holistic_motion, random_beats


@pytest.fixture(scope="module")
def moved():
    rng = np.random.default_rng(0)
    return holistic_motion(np.zeros((2, 88, 7)), random_beats(rng, 2, 88 / 30), np.array([0, 1]), rng=rng)


@pytest.fixture(scope="module")
def joints(moved):
    return moved.joints()[0, :, :55].numpy()


CHANGES = {"official": np.full(4, 1e-4), "corrected": np.full(4, 1e-3)}
ONSETS = np.array([0.4, 1.1, 2.0])


@pytest.mark.parametrize("variant", ["cross", "independent"])
def test_a_hand_sees_the_body_of_its_own_row_only_if_drawn_jointly(variant):
    seen = show.sees((6, 1), rows=8, layers=2, variant=variant)
    assert seen[6].tolist() == [variant == "cross", False]
    assert not seen[7:].any()
    assert seen[2:6, 1].all()
    assert seen[:6, 0].any() == (variant == "cross")


def test_a_body_never_sees_its_own_row():
    assert not show.sees((6, 0), rows=8, layers=3)[6:].any()
    with pytest.raises(ValueError, match="cell: expected a row below 8"):
        show.sees((9, 0), rows=8)


def test_jitter_pleases_the_official_beat_score_and_costs_speed(joints):
    plain = show.laboratory(joints, ONSETS, CHANGES)
    jittered = show.laboratory(joints, ONSETS, CHANGES, jitter_mm=3.0)
    assert plain["joint error (m)"] == 0
    assert jittered["beats, official"] > plain["beats, official"]
    assert jittered["speed error (cm/frame)"] > 1


def test_delay_holds_the_first_frame(joints):
    late = show.laboratory(joints, ONSETS, CHANGES, delay=3)
    assert late["joint error (m)"] > 0
    assert late["joint error (m)"] == show.laboratory(joints, ONSETS, CHANGES, delay=3)["joint error (m)"]


def test_a_film_has_a_picture_a_frame_and_two_people_differ(moved):
    view = show.framing_of(moved.motion)
    films = [show.film_of(clip[:5], framing=view, size=60) for clip in moved.motion]
    assert films[0].pictures.shape == (5, 60, 60, 3)
    assert (films[0].pictures != films[1].pictures).any()
    assert (films[0].pictures < 100).any(), "nothing was drawn"


def test_wrists_are_measured_from_the_pelvis_in_centimetres(joints):
    heights = show.wrist_height(joints[None])
    assert heights.shape == (1, 88)
    lifted = joints.copy()
    lifted[:, 21, 1] += 0.1
    np.testing.assert_allclose(show.wrist_height(lifted[None]) - heights, 10, atol=1e-4)


@pytest.mark.parametrize(
    ("make", "control", "value"),
    [
        (lambda _: show.explore_grid(8), "layers", 4),
        (lambda j: show.explore_laboratory(j, ONSETS, CHANGES), "jitter, mm", 2.0),
        (
            lambda j: show.explore_temperature(
                {1.0: show.wrist_height(j[None]), 0.5: show.wrist_height(j[None, ::-1])}, ONSETS, ylabel="cm"
            ),
            "temperature",
            0.5,
        ),
    ],
    ids=["grid", "laboratory", "temperature"],
)
def test_an_explorer_redraws_when_a_control_moves_and_leaves_no_figure_open(make, control, value, joints):
    opened = plt.get_fignums()
    controls, picture = make(joints).children
    before = bytes(picture.value)
    next(one for one in controls.children if one.description == control).value = value
    assert bytes(picture.value) != before
    assert plt.get_fignums() == opened


def test_intervals_and_lives_are_drawn_where_they_lie():
    fig, (left, right) = plotting.figure(2)
    show.draw_estimates(left, {"one": Estimate(1.0, 0.5, 2.0, 3, "t")}, title="gap", xlabel="nat")
    assert left.get_yticklabels()[0].get_text() == "one"
    assert left.get_xlim()[1] > 2
    show.draw_life(right, {"body": np.array([4.0, 8.0])}, 32)
    assert right.lines[0].get_ydata().tolist() == [4.0, 8.0]
    plt.close(fig)


def test_fan_marks_every_vowel():
    fig, ax = plotting.figure()
    show.draw_fan(ax, {"draws": np.zeros((3, 10))}, ONSETS, title="fan", ylabel="cm")
    assert len(ax.lines) == 3 + len(ONSETS)
    plt.close(fig)


def test_points_follow_the_frames(moved):
    assert torch.isfinite(torch.tensor(show.framing_of(moved.motion).extent))
