"""Pictures and explorers of paper 10: they draw without a browser, draw anew when a control moves, and show what they were given."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba

from paper_utils import plotting
from paper_utils.methods import phonemes as method
from paper_utils.metrics import predictability
from paper_utils.metrics.statistics import Estimate
from paper_utils.studies import phonemes as study
from paper_utils.widgets import phonemes as widgets

PHONES = ("AA", "IY", "M", "N", "P")
NAMES = ("13 al-al", "20 ch-ch", "31 tr-gn", "58 al-al/tr-gn", "canthal tilt")
KINDS = method.phone_classes(PHONES)


def pair_tests() -> method.PairTests:
    rng = np.random.default_rng(0)
    errors = rng.uniform(0.8, 1.1, (5, 5))
    null = rng.normal(1.0, 0.02, (5, 199))
    blank = np.zeros((5, 5))
    return method.PairTests(
        PHONES, NAMES, errors, null, predictability.permutation_p(errors, null), blank, blank, blank,
        np.zeros((3, 5, 5)), np.zeros((3, 5, 5)), np.arange(3),
    )  # fmt: skip


TESTS = pair_tests()
EXPLAINED = pd.DataFrame(TESTS.explained, PHONES, NAMES)
NASALS = EXPLAINED.loc[["M", "N"]]
ERRORS = {split: np.random.default_rng(i).normal(0.98, 0.05, (10, 5, 5)) for i, split in enumerate(method.SPLITS)}
MOVED = np.random.default_rng(3).gamma(1.0, size=(5, 5))

EXPLORERS = {
    "link": (
        lambda: widgets.explore_link({0.0: (0 * TESTS.errors, TESTS.errors > 9), 0.6: (TESTS.explained, TESTS.rejected())}, PHONES, NAMES, (3,)),
        {"link": 0.0},
    ),
    "splits": (lambda: widgets.explore_splits(ERRORS, ("IY", "N")), {"split": "subjects", "trainings": 0.5}),
    "null": (lambda: widgets.explore_null(TESTS), {"phoneme": "N", "measurement": "20 ch-ch", "B": 19}),
    "face": (
        lambda: widgets.explore_face(EXPLAINED, {"open": NASALS, "closed": 0 * NASALS}, study.MEASUREMENTS),
        {"velum": "closed", "phoneme": "P"},
    ),
    "movement": (
        lambda: widgets.explore_movement(MOVED, {"a": TESTS.explained, "b": MOVED}, KINDS),
        {"world": "b", "two-way centred": True},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EXPLORERS)
def test_an_explorer_redraws_when_a_control_moves_and_leaves_no_figure_open(name):
    opened = plt.get_fignums()
    make, moves = EXPLORERS[name]
    controls, picture = make().children
    before = bytes(picture.value)
    assert before.startswith(b"\x89PNG")
    for key, value in moves.items():
        control = next(c for c in controls.children if c.description == key)
        control.value = value
        assert bytes(picture.value) != before
        before = bytes(picture.value)
    assert plt.get_fignums() == opened


def test_the_velum_changes_the_face_of_nasals_and_of_no_other_phoneme():
    controls, picture = EXPLORERS["face"][0]().children
    phoneme, velum = controls.children
    phoneme.value = "P"
    before = bytes(picture.value)
    plosive = widgets.explore_face(EXPLAINED, {"open": NASALS, "closed": 0 * NASALS}, study.MEASUREMENTS)
    plosive.children[0].children[0].value = "P"
    assert bytes(plosive.children[1].value) == before
    phoneme.value = "N"
    opened = bytes(picture.value)
    velum.value = "closed"
    assert bytes(picture.value) != opened


@pytest.fixture
def ax():
    fig, ax = plotting.figure()
    yield ax
    plt.close(fig)


def test_stars_stand_on_the_rejected_pairs(ax):
    hits = np.zeros((5, 5), bool)
    hits[1, 2] = hits[4, 0] = True
    widgets.draw_heat_map(ax, TESTS.explained, hits, PHONES, NAMES, title="t", breaks=(3,))
    stars = ax.lines[0]
    assert set(zip(stars.get_ydata(), stars.get_xdata(), strict=True)) == {(1, 2), (4, 0)}
    colors = [to_rgba(label.get_color()) for label in ax.get_yticklabels()]
    assert colors[2] == colors[3] == to_rgba(widgets.CLASS_COLOR["nasal"])


def test_pairs_whose_bound_is_not_below_one_are_left_blank(ax):
    errors = np.stack([np.full((2, 2), 1.2), np.full((2, 2), 1.2)])
    errors[:, 0, 1] = 0.5
    widgets.draw_declared(ax, errors, ("IY", "N"), title="t")
    shown = ax.images[0].get_array()
    assert np.ma.getmaskarray(np.ma.masked_invalid(shown)).tolist() == [[True, False], [True, True]]
    assert "25% declared" in ax.get_title()
    assert [label.get_text() for label in ax.get_yticklabels()] == ["IY", "N"]


def test_bars_of_the_leak_are_the_tables_shares(ax):
    table = study.leak_table(ERRORS)
    widgets.draw_leak(ax, table, title="t")
    drawn = {tuple(bar.get_height() for bar in container) for container in ax.containers}
    expected = {tuple(100 * rows["declared"]) for _, rows in table.groupby("bound", sort=False)}
    assert drawn == expected


def test_a_null_says_the_permutation_p_of_the_observed_error(ax):
    widgets.draw_null(ax, np.linspace(0.9, 1.1, 99), 0.5, title="t", rejected=True)
    label = ax.get_legend_handles_labels()[1]
    assert any("p = 0.0100, rejected" in text for text in label)


def test_sorted_p_values_count_what_benjamini_and_hochberg_reject(ax):
    widgets.draw_step_up(ax, np.array([0.001, 0.02, 0.04, 0.5]), label="four", color="black")
    assert ax.get_legend_handles_labels()[1] == ["four: 2 rejected"]


def test_movement_shows_the_correlation_that_the_association_has(ax):
    widgets.draw_movement(ax, MOVED, 2 * MOVED, KINDS, centred=True)
    assert "Spearman 1.00" in ax.get_title()
    assert sum(len(line.get_xdata()) for line in ax.lines) == MOVED.size


def test_the_face_has_a_line_for_every_distance_and_none_for_ratios(ax):
    explained = dict.fromkeys(NAMES, 0.1) | {"31 tr-gn": 0.25}
    widgets.draw_face(ax, explained, study.MEASUREMENTS, title="t")
    # Alar width, mouth width, two sides of the tilt; the midline's face height stands beside as a bar.
    assert len(ax.lines) == 5
    bar = next(line for line in ax.lines if len(set(line.get_xdata())) == 1)
    assert min(bar.get_xdata()) > 75
    assert to_rgba(bar.get_color()) == to_rgba(plt.get_cmap(plotting.SEQUENTIAL)(1.0))


def test_class_bars_and_contrasts_show_their_tables(ax):
    rows = [("linked", name, 10, share, share - 0.1, share + 0.1) for name, share in (("vowel", 0.5), ("plosive", 0.2))]
    table = pd.DataFrame(rows, columns=["measurements", "class", "pairs", "share", "low", "high"])
    widgets.draw_class_bars(ax, table, title="t")
    assert [bar.get_height() for bar in ax.patches] == [50.0, 20.0]
    plt.close(ax.figure)
    fig, other = plotting.figure()
    one, none = Estimate(0.02, 0.01, 0.03, 9, "b"), Estimate(0.0, -0.001, 0.001, 9, "b")
    widgets.draw_contrasts(other, {"a": (one, none)}, title="t", unit="u")
    assert [label.get_text() for label in other.get_yticklabels()] == ["a"]
    assert len(other.containers) == 2
    plt.close(fig)


def test_every_kind_of_phoneme_has_a_colour():
    assert set(widgets.CLASS_COLOR) == set(method.CLASS_ORDER)
    assert len(set(widgets.CLASS_COLOR.values())) == len(method.CLASS_ORDER)
