"""Pictures and explorers of paper 03: they draw without a browser and show what the numbers say."""

from __future__ import annotations

import time

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from paper_utils import plotting
from paper_utils.data.voice_features import FrontEnd
from paper_utils.methods import voice_to_face as v2f
from paper_utils.metrics.by_identity import resample_identities
from paper_utils.metrics.statistics import Estimate
from paper_utils.nn.voice_encoder import VoiceEncoder
from paper_utils.studies import voice_to_face as study
from paper_utils.widgets import voice_to_face as show

SIZES = v2f.Sizes(voice=(8, 8, 8, 8), generator=(8, 8, 8, 8), face=(8, 8, 8, 8))
SEX = np.array([0, 1, 0, 1, 0, 1, 1, 0])
WHO = torch.arange(8).repeat_interleave(3)


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def model() -> v2f.Reconstructor:
    generator = v2f.Generator(SIZES, seed=0)
    v2f.rectified_weights_(generator, torch.Generator().manual_seed(0))  # pictures that differ enough to be seen
    return v2f.Reconstructor(
        VoiceEncoder(64, 64, channels=SIZES.voice, seed=0).eval(), generator, SIZES, FrontEnd("world")
    )


@pytest.fixture(scope="module")
def side() -> study.Side:
    heard = noise(24, 50, 64)
    pictures = noise(24, 3, 32, 32).clamp(-1, 1)
    return study.Side(v2f.Speech.of(heard, WHO), heard, WHO, pictures, WHO, SEX, None, None)


@pytest.fixture(scope="module")
def matching() -> study.Matching:
    weights = resample_identities(8, 50, np.random.default_rng(0))
    probes = noise(24, 5).double()
    return study.match(probes, WHO, probes + noise(5).double(), WHO, SEX, weights=weights)


@pytest.fixture
def explorers(model, side, matching):
    """Each explorer, a control and another value for it."""
    points = v2f.on_sphere(noise(3, 64))
    return {
        "speakers": (show.explore_speakers(side, model, show.mean_faces(side)), "seconds", 0.2),
        "ratio": (show.explore_ratio(matching), "women", 0.2),
        "voice": (show.explore_voice(model, show.mean_faces(side)), "tract", 1.0),
        "walk": (show.explore_walk(model, points, ["a", "b", "c"]), "share", 0.9),
    }


@pytest.mark.parametrize("name", ["speakers", "ratio", "voice", "walk"])
def test_an_explorer_redraws_when_a_control_moves_and_leaves_no_figure_open(name, explorers):
    opened = plt.get_fignums()
    box, control, value = explorers[name]
    controls, picture = box.children
    before = bytes(picture.value)
    began = time.process_time()
    next(one for one in controls.children if one.description == control).value = value
    assert time.process_time() - began < 1.0  # usually a tenth of that
    assert bytes(picture.value) != before
    assert bytes(picture.value).startswith(b"\x89PNG")
    assert plt.get_fignums() == opened


def test_a_walk_from_somebody_to_himself_stays_there(model):
    controls, picture = show.explore_walk(model, v2f.on_sphere(noise(2, 64)), ["a", "b"]).children
    before = bytes(picture.value)
    controls.children[1].value = 0
    assert bytes(picture.value) != before


# ------------------------------------------------------------------------------------------------------------- pictures


def test_a_sheet_shows_every_picture_in_its_place_at_whole_pixels():
    levels = torch.linspace(-1, 1, 6)
    rows = [levels[row * 3 : row * 3 + 3, None, None, None].expand(3, 3, 32, 32) for row in range(2)]
    fig = show.draw_sheet(rows, ["one", "two", "three"], ["first", "second"], title="sheet", zoom=3)
    (ax,) = fig.axes
    page = ax.images[0].get_array()
    step = 32 + show.GAP
    assert page.shape == (2 * step - show.GAP, 3 * step - show.GAP, 3)
    for index, level in enumerate(levels):
        row, column = divmod(index, 3)
        assert_allclose(
            page[row * step + 16, column * step + 16], float(level / 2 + 0.5), atol=0.5 / show.LEVELS + 1e-6
        )
    assert_allclose(page[:, 32 : 32 + show.GAP], 1.0)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["one", "two", "three"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["first", "second"]
    width = ax.get_position().width * fig.get_figwidth() * show.SCREEN_DPI
    assert width == pytest.approx(3 * page.shape[1])
    plt.close(fig)


def test_the_papers_table_is_drawn_with_the_ceiling_that_its_test_people_give():
    fig, ax = plotting.figure()
    show.draw_paper(ax)
    widths = [bar.get_width() for container in ax.containers for bar in container]
    assert widths == [row[number] for number in (0, 1) for row in show.PAPER_TABLE.values()]
    people = np.array([0] * 74 + [1] * 115)
    assert pytest.approx(100 * study.sex_only_ceiling(people), abs=0.05) == show.PAPER_CEILING
    plt.close(fig)


def test_a_sheet_refuses_rows_and_labels_that_do_not_fit():
    with pytest.raises(ValueError, match="expected 3 pictures a row"):
        show.draw_sheet([torch.zeros(2, 3, 32, 32)], ["a", "b", "c"])
    with pytest.raises(ValueError, match="found rows of \\[2\\] and 2 labels"):
        show.draw_sheet([torch.zeros(2, 3, 32, 32)], ["a", "b"], ["one", "two"])


def test_every_arrow_joins_two_networks_and_none_joins_voice_and_photograph():
    names = {name for arrow in show.ARROWS for name in arrow}
    assert names == set(show.NETWORKS)
    assert not {("voice", "photo"), ("photo", "voice")} & set(show.ARROWS)
    fig, ax = plotting.figure()
    show.draw_networks(ax)
    assert len(ax.patches) == len(show.NETWORKS)
    plt.close(fig)


def test_the_game_is_drawn_with_what_knows_nothing():
    rng = np.random.default_rng(0)
    losses = {name: rng.random(60) for name in ("real", "fake", "fooled", "who", "speaker", "spread")}
    fig, axes = plotting.figure(3)
    show.draw_game(axes, losses, 20, 0.3)
    levels = [next(line for line in ax.lines if line.get_linestyle() == ":").get_ydata()[0] for ax in axes]
    assert_allclose(levels, [np.log(2), np.log(20), 0.3])
    assert_allclose(axes[2].lines[0].get_ydata()[0], losses["spread"][:25].mean())
    plt.close(fig)


def test_parts_of_a_bar_add_up_to_its_number(matching):
    share = float((SEX[:, None] != SEX).sum() / (8 * 7))
    fig, ax = plotting.figure()
    show.draw_decomposition(ax, {"it": matching}, share, 0.75)
    widths = [bar.get_width() for container in ax.containers for bar in container]
    assert sum(widths) == pytest.approx(matching.any_impostor.value, abs=1e-9)
    assert ax.texts[0].get_text() == f"{matching.any_impostor.value:.2f}"
    plt.close(fig)


def test_the_number_at_a_bar_is_u_where_the_parts_are_not():
    # One man among seven women: A and G average people who meet quite different shares of the other sex.
    sex = np.array([1, 0, 0, 0, 0, 0, 0, 0])
    probes = torch.eye(8, dtype=torch.float64)[WHO]
    probes[:3] = -probes[:3]  # the man loses all his trials
    uneven = study.match(
        probes, WHO, torch.eye(8, dtype=torch.float64), torch.arange(8), sex, weights=np.ones((2, 8), int)
    )
    share = float((sex[:, None] != sex).sum() / (8 * 7))
    fig, ax = plotting.figure()
    show.draw_decomposition(ax, {"it": uneven}, share, 0.75)
    assert uneven.any_impostor.value == pytest.approx(7 / 8)
    assert ax.texts[0].get_text() == "0.88"
    plt.close(fig)


@given(st.floats(0, 1))
def test_more_mixed_galleries_are_easier_for_sex_alone(women):
    share, mirrored = show.share_differing(np.array([women, 1 - women]))
    assert 0 <= share <= 0.5
    assert share == pytest.approx(mirrored)


def test_the_curve_over_galleries_meets_g_where_there_is_one_sex():
    fig, ax = plotting.figure()
    show.draw_ratio(ax, 0.3, 0.9, 0.6)
    system, sex = (line.get_ydata() for line in (ax.lines[0], ax.lines[2]))
    assert_allclose(system[[0, -1, 50]], [0.6, 0.6, 0.75])
    assert_allclose(sex[[0, -1, 50]], [0.5, 0.5, 0.75])
    assert {text.get_text() for text in ax.texts} == {"0.73", "0.71"}
    plt.close(fig)


def test_rates_and_durations_keep_their_places_and_intervals(matching):
    fig, axes = plotting.figure(2)
    show.draw_rates(axes[0], {"a": Estimate(0.6, 0.5, 0.7, 9, "toy")}, title="t", xlabel="x")
    (segment,) = axes[0].collections[0].get_segments()
    assert_allclose(segment[:, 0], [0.5, 0.7])
    show.draw_durations(axes[1], {10: matching, 100: matching}, {10: matching, 100: matching})
    assert [label.get_text() for label in axes[1].get_xticklabels()] == ["0.1", "1"]
    assert_allclose(axes[1].lines[1].get_ydata(), matching.same_sex.value)
    plt.close(fig)


def test_shapes_are_points_at_what_is_told_and_shown():
    told = {"n-gn": 0.9, "en-en": 0.1}
    fig, axes = plotting.figure(2)
    values = {"linked": np.array([0.5, 0.0]), "cut": np.array([-0.1, 0.1])}
    show.draw_shapes(axes, values, told, np.array([0.9, 0.8]))
    for ax, shown in zip(axes, values.values(), strict=True):
        assert_allclose(ax.lines[1].get_data(), [[0.9, 0.1], shown])
    assert [text.get_text() for text in axes[0].texts] == ["n-gn"]
    plt.close(fig)


# ------------------------------------------------------------------------------------------------------ points and voices


@given(st.integers(0, 1000), st.floats(0, 1))
def test_a_walk_stays_on_the_sphere_and_goes_evenly(seed, share):
    a, b = v2f.on_sphere(torch.randn(2, 16, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))
    begin, there, end = show.walk(a, b, (0.0, share, 1.0))
    torch.testing.assert_close(torch.stack([begin, end]), torch.stack([a, b]))
    assert float(there.norm()) == pytest.approx(1.0)
    angle = torch.arccos(a @ b)
    assert float(torch.arccos((a @ there).clamp(-1, 1))) == pytest.approx(share * float(angle), abs=1e-6)


def test_there_is_no_one_way_between_opposite_or_equal_points():
    point = v2f.on_sphere(noise(1, 8))[0]
    for other in (point, -point):
        with pytest.raises(ValueError, match="two different, not opposite"):
            show.walk(point, other, (0.5,))


def test_a_longer_tract_lowers_resonances_and_pitch_leaves_the_length_alone():
    short, long = (show.made_voice(length, 200.0, 1.2, bands=64).exp().mean(0) for length in (0.0, 1.0))
    centre = [float((power * torch.arange(64)).sum() / power.sum()) for power in (short, long)]
    assert centre[1] < centre[0]
    assert show.made_voice(0.0, 100.0, 1.2, bands=64).shape == show.made_voice(0.0, 250.0, 1.2, bands=64).shape


def test_mean_faces_are_those_of_each_sex(side):
    means = show.mean_faces(side)
    women = torch.from_numpy(SEX == 0)[WHO]
    torch.testing.assert_close(means[0], side.pictures[women].mean(0))
    torch.testing.assert_close(means[1], side.pictures[~women].mean(0))


def test_first_rows_are_in_order_and_must_be_there():
    assert show.first_rows(torch.tensor([1, 0, 1, 1]), 1, 2).tolist() == [0, 2]
    with pytest.raises(ValueError, match="person 0: expected at least 2 items, found 1"):
        show.first_rows(torch.tensor([1, 0, 1]), 0, 2)
