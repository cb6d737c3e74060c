"""Pictures and explorers of paper 02: they draw what they are given, without a browser, and draw anew when a control moves."""

from __future__ import annotations

import dataclasses

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from paper_utils import plotting, training
from paper_utils.data.matching_lists import STRATA
from paper_utils.data.samples import LabelledImages
from paper_utils.data.speech import Voices
from paper_utils.methods import dimnet
from paper_utils.metrics import ceilings, cross_modal
from paper_utils.metrics.statistics import Estimate
from paper_utils.open_set import Split
from paper_utils.studies import dimnet as studies
from paper_utils.widgets import dimnet as show

PEOPLE, ITEMS, FRAMES = 8, 2, 24


@pytest.fixture(scope="module")
def meetings() -> dimnet.Meetings:
    """Eight people, half of them women (0), three nationalities, two recordings and two pictures each."""
    generator = torch.Generator().manual_seed(0)
    who = torch.arange(PEOPLE).repeat_interleave(ITEMS)
    covariates = {"sex": (who % 2), "nationality": (who % 3)}
    count = len(who)
    voices = Voices(
        log_mel=torch.randn(count * FRAMES, 6, generator=generator),
        starts=torch.arange(count + 1) * FRAMES,
        hop_ms=10.0,
        identities=who,
        phone_names=("SIL",),
        phones=torch.zeros(count, dtype=torch.int16),
        phone_starts=torch.arange(count + 1),
        boundaries_s=torch.tensor([0.0, FRAMES / 100]).repeat(count),
        name="voices",
        covariates=covariates,
    )
    images = torch.rand(count, 3, 12, 12, generator=generator) * 2 - 1
    return dimnet.Meetings(voices, LabelledImages(images, who, "faces", covariates))


def examined(*, noise: float = 0.2, seed: int = 0) -> studies.Examined:
    """A run whose embeddings hold the person in the first numbers."""
    rng = np.random.default_rng(seed)
    who = np.arange(PEOPLE).repeat(ITEMS)
    sides = [np.eye(PEOPLE)[who] + noise * rng.standard_normal((len(who), PEOPLE)) for _ in range(2)]
    trained = dimnet.Trained(
        {}, dimnet.DIMNet(), Split((100, 101), tuple(range(PEOPLE)), seed), {"loss": np.linspace(3.0, 1.0, 20)}
    )
    items = dimnet.Unseen(np.arange(PEOPLE), *sides, who, who)
    values = {"sex": np.arange(PEOPLE) % 2, "nationality": np.arange(PEOPLE) % 3}
    run = studies.Examined(trained, items, {}, values, np.ones((3, PEOPLE), dtype=np.int64))
    wins = {d: cross_modal.pair_wins(*run.sided(d), PEOPLE) for d in studies.DIRECTIONS}
    return dataclasses.replace(run, wins=wins)


def plane(*, apart: bool) -> show.Plane:
    """Four people around the circle; with `apart` the faces are turned by a quarter."""
    angle = np.arange(4) * np.pi / 2
    points = np.column_stack([np.cos(angle), np.sin(angle)])
    faces = np.roll(points, 1, axis=0) if apart else points
    who = np.arange(4)
    names = tuple(f"person {i}" for i in who)
    return show.Plane(
        {"voice": 3 * points, "face": faces},
        {"voice": who, "face": who},
        {"voice": points, "face": faces},
        names,
        who % 2,
    )


def curves() -> pd.DataFrame:
    rows = [(name, n, 2 / n, 1.8 / n, 2.2 / n) for name in ("I", "G") for n in (2, 5, 10)]
    return pd.DataFrame(rows, columns=["model", "N", "accuracy", "low", "high"])


def estimates(value: float) -> dict[str, Estimate]:
    return {stratum: Estimate(value, value - 0.1, value + 0.1, 5, "t") for stratum in STRATA}


EXPLORERS = {
    "plane": (
        lambda _: show.explore_plane({("identity", True): plane(apart=False), ("identity", False): plane(apart=True)}),
        {"shared classifier": False},
    ),
    "strata": (
        lambda _: show.explore_strata({"all": {"I": estimates(0.7)}, "nothing": {"I": estimates(0.5)}}),
        {"in common": "nothing", "against": "GN"},
    ),
    "probes": (lambda meetings: show.explore_probes(examined(), meetings), {"person": 3}),
    "gallery": (lambda _: show.explore_gallery(curves(), [4, 6]), {"N": 5}),
    "scores": (
        lambda _: show.explore_scores({"I": show.pair_scores(examined()), "G": show.pair_scores(examined(noise=1.0))}),
        {"model": "G", "against": "G"},
    ),
}


@pytest.mark.parametrize("name", EXPLORERS)
def test_an_explorer_redraws_when_a_control_moves_and_leaves_no_figure_open(name, meetings) -> None:
    opened = plt.get_fignums()
    make, moves = EXPLORERS[name]
    controls, picture = make(meetings).children
    before = bytes(picture.value)
    assert before.startswith(b"\x89PNG")
    for description, value in moves.items():
        next(c for c in controls.children if c.description == description).value = value
        assert bytes(picture.value) != before, description
        before = bytes(picture.value)
    assert plt.get_fignums() == opened


# ------------------------------------------------------------------------------------------------ what is computed


def test_people_are_chosen_evenly_women_first_and_only_among_those_allowed(meetings) -> None:
    assert show.some_people(meetings, 4) == (0, 2, 1, 3)
    assert show.some_people(meetings, 4, (7, 6, 5, 4)) == (4, 6, 5, 7)


def test_nearest_faces_are_own_ones_where_the_senses_share_their_circle() -> None:
    assert show.agreement(plane(apart=False)) == 1.0
    assert show.agreement(plane(apart=True)) == 0.0


def test_a_learned_plane_has_everybody_and_one_set_of_vectors_if_shared(meetings) -> None:
    train = dimnet.TrainConfig(
        encoders=dimnet.EncoderConfig(6, 3, 16, 1 / 32), batch_size=16, crop_frames=(16, 24), schedule="one-cycle"
    )
    job = dimnet.Job(dimnet.DIMNet(), meetings, (), train)
    people = show.some_people(meetings, 4)
    fabric = training.launch("cpu")
    for shared in (True, False):
        found = show.learn_plane(fabric, job, people, shared=shared, steps=2)
        assert found.points["voice"].shape == found.points["face"].shape == (4 * ITEMS, 2)
        assert found.people["voice"].tolist() == np.arange(4).repeat(ITEMS).tolist()
        assert np.array_equal(found.vectors["voice"], found.vectors["face"]) == shared
        assert found.sex.tolist() == [0, 1, 0, 1]
    assert show.learn_plane(fabric, job, people, covariate="sex", steps=2).classes == ("woman", "man")


def test_a_rotation_destroys_a_perfect_match_and_the_identity_does_not() -> None:
    run = examined(noise=0.0)
    assert show.turned_accuracy(run, run.items) == 1.0
    turned = show.rotated_accuracies(run, 40, np.random.default_rng(0))
    assert turned.max() < 1.0
    assert abs(turned.mean() - 0.5) < 0.1


def test_pairs_are_split_by_person_and_sex_and_the_rate_depends_on_who_is_compared() -> None:
    run = examined(noise=0.6)
    pairs = show.pair_scores(run)
    assert len(pairs.same) == PEOPLE * ITEMS**2
    assert len(pairs.same_sex) == PEOPLE * 3 * ITEMS**2
    assert len(pairs.other_sex) == PEOPLE * 4 * ITEMS**2
    for stratum in ("U", "G"):
        rate, threshold = pairs.eer(stratum)
        assert rate == pytest.approx(studies.verification([run], stratum)["EER"].value)
        assert (pairs.same < threshold).mean() == pytest.approx(rate, abs=0.05)


def test_agreement_names_what_is_shared_with_the_probe() -> None:
    names = list(show.AGREEMENT)
    # Person 0: sex 0, nationality 0. 6 has both, 2 the sex, 3 the nationality, 1 nothing.
    assert show.agreement_of(examined(), 0, np.array([0, 6, 2, 3, 1])) == names


def test_a_model_that_knows_everybody_has_the_person_among_its_best() -> None:
    known, chance = show.top_agreement(examined(noise=0.0), 1), show.chance_agreement(examined())
    assert known["the same person"] == 1.0
    assert chance["the same person"] == pytest.approx(1 / PEOPLE)
    assert sum(chance.values()) == pytest.approx(1.0)


def test_the_probe_page_frames_faces_and_says_where_the_own_one_stands(meetings) -> None:
    fig = show.draw_probe(examined(noise=0.0), meetings, 2, count=3)
    assert "own face: place 1 of 8" in fig.axes[0].get_title()
    assert fig.axes[1].get_title() == "1: the same person"
    plt.close(fig)


# ----------------------------------------------------------------------------------------------------- what is drawn


def test_the_broken_line_of_the_question_is_the_ceiling_of_the_lists() -> None:
    fig, ax = plotting.figure()
    show.draw_paper(ax, {"I": (83.0, 70.0)}, 74, 115)
    assert ax.lines[0].get_ydata()[0] == pytest.approx(100 * ceilings.finite_match_accuracy([74, 115], 2))
    plt.close(fig)


def test_losses_are_relative_to_a_guess_in_both_modalities() -> None:
    fig, ax = plotting.figure()
    show.draw_losses(ax, {"I": [examined()]}, {"identity": 8})
    assert ax.lines[0].get_ydata()[-1] == pytest.approx(np.linspace(3.0, 1.0, 20)[-10:].mean() / (2 * np.log(8)))
    plt.close(fig)


def theory() -> pd.DataFrame:
    rows = [("G", "1:2", 0.7, 0.72, 0.70, 0.74, 0.02, 0.0, 0.04), ("G", "EER", 0.3, 0.25, 0.2, 0.3, -0.05, -0.1, -0.01)]
    columns = [
        "model", "quantity", "predicted", "measured", "low", "high", "difference", "difference low", "difference high",
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def test_the_bridge_puts_predictions_against_measurements_and_turns_the_error_rate() -> None:
    fig, axes = plotting.figure(2)
    show.draw_bridge(axes[0], theory(), {"G": "G"}, title="bridge")
    points = [(float(c.lines[0].get_xdata()[0]), float(c.lines[0].get_ydata()[0])) for c in axes[0].containers]
    assert points == [(0.7, 0.72), (0.3, 0.25)]
    show.draw_gaps(axes[1], theory(), {"G": "G"}, title="gaps", unit="points")
    line, _, (bars,) = axes[1].containers[0]
    np.testing.assert_allclose(np.asarray(line.get_xdata(), dtype=float), [2.0, 5.0])
    np.testing.assert_allclose([segment[:, 0] for segment in bars.get_segments()], [[0.0, 4.0], [1.0, 10.0]])
    plt.close(fig)


def test_bars_of_strata_have_the_mean_of_both_directions() -> None:
    run = examined(noise=1.0)
    table = studies.matching_table({"I": [run]})
    fig, ax = plotting.figure()
    show.draw_strata(ax, table, ["I"], {"sex known": dict.fromkeys(STRATA, 0.5)}, title="strata")
    heights = [bar.get_height() for bar in ax.patches]
    expected = [100 * studies.matching([run], stratum, resampled=False).value for stratum in STRATA]
    np.testing.assert_allclose(heights, expected)
    plt.close(fig)


def test_the_curve_of_guesses_is_accuracy_times_the_gallery() -> None:
    fig, axes = plotting.figure(2)
    show.draw_curves(axes, curves(), [4, 6])
    np.testing.assert_allclose(axes[1].lines[0].get_ydata(), 2.0)
    plt.close(fig)


def test_other_pictures_take_what_they_are_given() -> None:
    fig, axes = plotting.figure(2, 2)
    show.draw_rotations(axes[0, 0], np.array([0.4, 0.5, 0.6]), [0.45], {"one classifier": 0.8})
    assert axes[0, 0].lines[0].get_xdata().tolist() == [45.0]
    show.draw_people(axes[0, 1], np.array([0.2, 0.9]), Estimate(0.6, 0.5, 0.7, 2, "t"), 100, title="people")
    show.draw_heads([axes[1, 0], axes[1, 0]], [np.eye(2)[:, [0, 0, 1, 1]] / 2] * 2, ("woman", "man"))
    assert [label.get_text() for label in axes[1, 0].get_xticklabels()] == ["woman 1", "woman 2", "man 1", "man 2"]
    show.draw_sweep(axes[1, 1], [0, 1], {"U": [0.6, 0.7]}, title="sweep", xlabel="weight")
    assert axes[1, 1].lines[0].get_ydata().tolist() == [60.0, 70.0]
    plt.close(fig)
