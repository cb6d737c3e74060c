"""Pictures and explorers of paper 04: cones, exchanges, votes, and that every explorer draws again when a control moves."""

from __future__ import annotations

import base64

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paper_utils import plotting
from paper_utils.animation import ColourScale
from paper_utils.audio_windows import QUICK_WINDOWS
from paper_utils.film import Film
from paper_utils.methods import meshtalk
from paper_utils.metrics.statistics import Estimate
from paper_utils.nn.meshtalk_networks import ContextModel, Encoder, VertexUnet, quick_sizes
from paper_utils.studies import meshtalk_measures as ms
from paper_utils.widgets import meshtalk as show
from paper_utils.world.people import Population
from paper_utils.world.talking_faces import Script, neutral_heads, talking_faces, vertex_set

SIZES = quick_sizes(215)


@pytest.fixture(scope="module")
def faces():
    return talking_faces(Script(Population(size=4), (0, 1, 2, 3), 1), cache=False)


@pytest.fixture(scope="module")
def joint(faces):
    mean, stddev = faces.vertices.mean(0), faces.vertices.std(0).clamp(min=0.1)
    model = meshtalk.JointModel(Encoder(SIZES, mean, stddev, seed=0), VertexUnet(SIZES, mean, stddev, seed=1))
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def exchange(faces, joint):
    inputs = ms.Inputs.of(joint, meshtalk.Segments(faces, QUICK_WINDOWS, length=32))
    return show.Exchange({"one": joint}, {"one": inputs}, neutral_heads(Population(size=4).people((0, 1, 2, 3))))


@pytest.fixture(scope="module")
def networks(joint):
    return meshtalk.MeshTalk(joint.encoder, joint.decoder, ContextModel(SIZES, seed=0), QUICK_WINDOWS)


# --------------------------------------------------------------------------------------------------------------- pictures


def test_the_papers_votes_add_up():
    fig, ax = plotting.figure()
    show.draw_paper(ax)
    widths = np.array([bar.get_width() for container in ax.containers for bar in container]).reshape(3, 3)
    np.testing.assert_allclose(widths.sum(0), 100.0, atol=0.11)
    plt.close(fig)


@given(st.integers(0, 15), st.integers(0, 27), st.sampled_from(["released", "corrected"]))
def test_a_cone_holds_no_later_frame_and_no_later_head_of_its_frame(of_head, frame, mask):
    cone = show.reach(quick_sizes(90, mask), 28, frame, min(of_head, 7))
    assert not cone[:, frame + 1 :].any()
    assert not cone[min(of_head, 7) :, frame].any()
    if mask == "released" and of_head == 0:
        assert not cone.any()
    if mask == "corrected":
        assert cone[: min(of_head, 7), frame].all()


def test_a_cone_is_what_the_networks_gradient_says():
    model = ContextModel(quick_sizes(90, "released"), seed=0)
    labels = torch.zeros(1, 6, 8, dtype=torch.long)
    audio = torch.zeros(1, 6, 48)
    before = model(labels, audio)
    found = np.zeros((8, 6), dtype=bool)
    for head in range(8):
        for frame in range(6):
            other = labels.clone()
            other[0, frame, head] = 3
            found[head, frame] = not torch.equal(model(other, audio)[0, 5, 7], before[0, 5, 7])
    np.testing.assert_array_equal(found, show.reach(quick_sizes(90, "released"), 6, 5, 7))


def test_labels_outside_the_cone_are_pale():
    labels = torch.arange(28 * 8).view(28, 8) % 16
    fig, ax = plotting.figure()
    sizes = quick_sizes(90, "corrected")
    show.draw_labels(ax, labels, sizes, 20, 3, title="t")
    pixels = np.asarray(ax.images[0].get_array())
    cone = show.reach(sizes, 28, 20, 3)
    assert pixels.shape == (8, 28, 3)
    assert pixels[~cone].min() >= 0.82
    assert pixels[cone].min() < 0.5
    plt.close(fig)


def test_maps_share_one_scale_and_heads_one_view(faces):
    maps = {"a": torch.zeros(215), "b": torch.ones(215)}
    fig = show.draw_maps(maps, faces.templates[0], vertex_set().mesh.faces, ColourScale(0, 1, "mm"), title="t")
    assert [ax.get_title() for ax in fig.axes[:2]] == ["a", "b"]
    assert fig.axes[2].get_ylabel() == "mm"
    plt.close(fig)
    heads = neutral_heads(Population(size=2).people((0, 1)))
    film = show.head_film(torch.zeros(2, 215, 3), heads[0], size=32)
    assert film.pictures.shape == (2, 32, 32, 3)
    assert not np.array_equal(film.pictures[0], show.head_film(torch.zeros(1, 215, 3), heads[1], size=32).pictures[0])


def test_estimates_heads_and_fans_are_drawn_as_given():
    fig, axes = plotting.figure(3)
    show.draw_estimates(axes[0], {"a": Estimate(1, 0.5, 2, 9, "toy")}, title="t", xlabel="x", line=0.3)
    assert axes[0].lines[0].get_xdata() == pytest.approx([0.5, 2])
    nll = {"counting": np.array([[1.0, 3.0], [2.0, 3.0]]), "model": np.array([[0.5, 0.5]])}
    show.draw_heads(axes[1], nll)
    assert [bar.get_height() for bar in axes[1].containers[0]] == [1.5, 3.0]
    show.draw_fan(axes[2], np.zeros((3, 5)), np.ones(5), title="t", ylabel="mm")
    assert len(axes[2].lines) == 4
    assert axes[2].lines[-1].get_ydata().tolist() == [1.0] * 5
    plt.close(fig)


# -------------------------------------------------------------------------------------------------------------- exchanges


def test_an_exchange_with_oneself_is_the_plain_decoding_and_the_truth_is_the_recording(exchange, faces, joint):
    inputs = exchange.inputs["one"]
    own, _ = ms.decode(joint, inputs)
    template = faces.templates[inputs.segments.subjects[1]]
    torch.testing.assert_close(exchange.motion("one", 1, 1), own[1] - template, atol=1e-4, rtol=0)
    torch.testing.assert_close(exchange.truth(1) + template, ms.true_vertices(inputs.segments)[1])


def test_explorers_draw_again_when_a_control_moves(exchange, networks, faces):
    labels = torch.zeros(12, 8, dtype=torch.long)
    mesh = faces.mesh
    explorers = (
        show.explore_exchange(exchange, seen=1, frame=3),
        show.explore_labels(labels, {mask: quick_sizes(90, mask) for mask in ("released", "corrected")}),
        show.explore_voice(networks, faces.templates[0], lambda meshes: ms.openings(meshes, mesh).mouth),
    )
    for explorer, (number, value) in zip(explorers, ((1, 2), (1, 5), (1, 1.0)), strict=True):
        controls, picture = explorer.children
        before = picture.value
        controls.children[number].value = value
        assert picture.value != before


def test_loudness_moves_the_code_only_where_it_is_not_levelled(networks, faces):
    quiet = {"a": show.made_voice(0.0, 200.0), "b": show.made_voice(0.0, 200.0) / 10}
    distances = []
    for levelled in (True, False):
        fig = show.draw_heard(
            networks, faces.templates[0], lambda m: ms.openings(m, faces.mesh).mouth, quiet, levelled=levelled
        )
        distances.append(float(np.max(fig.axes[1].lines[1].get_ydata())))
        plt.close(fig)
    assert distances[0] < 1e-3 < distances[1]


# ------------------------------------------------------------------------------------------------------------------ votes


def test_votes_are_counted_for_who_stood_there():
    votes = show.Votes(40, np.random.default_rng(0))
    assert 5 < votes.swapped.sum() < 35
    for swapped in votes.swapped:
        votes.vote("right" if swapped else "left")  # always A
    assert votes.given == ["A"] * 40
    assert votes.summary().startswith("A: 40, equal: 0, B: 0. A preferred: 1 [0.9")
    with pytest.raises(ValueError, match="all 40 pairs"):
        votes.vote("left")


def test_ties_and_wrong_answers():
    votes = show.Votes(1, np.random.default_rng(0))
    with pytest.raises(ValueError, match="expected left, equal or right, found 'both'"):
        votes.vote("both")
    votes.vote("equal")
    assert votes.summary() == "A: 0, equal: 1, B: 0."


def test_the_ballot_tells_names_only_when_all_votes_are_given():
    films = [tuple(Film(np.full((4, 16, 16, 3), level, np.uint8), 30.0) for level in (10, 200)) for _ in range(2)]
    box = show.explore_votes(films, ("a draw", "the mean"), np.random.default_rng(0))
    said, picture, buttons = box.children
    assert picture.value
    data, about = box._repr_mimebundle_()
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    assert "Pair 1 of 2" in about["image/png"]["alt"]
    for number in range(2):
        assert f"Pair {number + 1} of 2" in said.value
        assert "a draw" not in said.value
        buttons.children[0].click()
    assert "A is a draw, B is the mean" in said.value
