"""The interface of morphable models: linear, checked, saved and aligned."""

from __future__ import annotations

import dataclasses

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_writers import EXPRESSIONS, IDENTITIES, VERTICES, planted
from scipy.spatial.transform import Rotation

from paper_utils.mesh import morphable as mm
from paper_utils.mesh.landmarks import Landmarks
from paper_utils.mesh.skinning import Skinning

seeds = st.integers(0, 2**32 - 1)


def tensor(values):
    return torch.from_numpy(np.array(values, dtype=np.float64))


def joints(vertices=VERTICES):
    """Two joints, the second one moving the upper half of the fixture's vertices."""
    generator = torch.Generator().manual_seed(4)
    share = torch.rand(vertices, 1, generator=generator, dtype=torch.float64)
    regressor = torch.rand(2, vertices, generator=generator, dtype=torch.float64)
    correctives = torch.randn(vertices, 3, 9, generator=generator, dtype=torch.float64)
    return Skinning(
        regressor / regressor.sum(1, keepdim=True),
        torch.cat((share, 1 - share), dim=1),
        (-1, 0),
        correctives,
        ("root", "jaw"),
    )


@pytest.fixture
def unchecked_types():
    """The type checker of the tests would answer first; users meet our own messages."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def model():
    return build()


def build(**changes):
    head = planted()
    faces = torch.from_numpy(head.faces)
    fields = {
        "name": "planted",
        "mean": tensor(head.mean),
        "identity": tensor(head.identity),
        "expression": tensor(head.expression),
        "faces": faces,
        "landmarks": Landmarks.from_vertices(head.landmarks, faces),
        "mirror": mm.find_mirror(tensor(head.mean)),
        "uv": tensor(np.random.default_rng(0).uniform(size=(VERTICES, 2))),
        "colour_mean": tensor(head.colour_mean),
        "colour": tensor(head.colour),
        "skinning": joints(),
    }
    return mm.MorphableModel(**(fields | changes))


def draw(seed, batch=3):
    rng = np.random.default_rng(seed)
    return tensor(rng.normal(size=(batch, IDENTITIES))), tensor(rng.normal(size=(batch, EXPRESSIONS)))


# ----------------------------------------------------------------------------------------------------------- linear


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_vertices_are_the_mean_plus_each_direction_times_its_coefficient(seed):
    model, (identity, expression) = build(), draw(seed)
    by_hand = torch.stack(
        [
            model.mean + sum(model.identity[..., k] * a[k] for k in range(IDENTITIES))
            + sum(model.expression[..., k] * e[k] for k in range(EXPRESSIONS))
            for a, e in zip(identity, expression, strict=True)
        ]
    )  # fmt: skip
    torch.testing.assert_close(model.vertices(identity, expression), by_hand)


def test_zero_coefficients_no_expression_and_zero_pose_give_the_mean(model):
    zero = torch.zeros(2, IDENTITIES, dtype=torch.float64)
    for expression in (None, torch.zeros(2, EXPRESSIONS, dtype=torch.float64)):
        for pose in (None, torch.zeros(2, 2, 3, dtype=torch.float64)):
            torch.testing.assert_close(model.vertices(zero, expression, pose), model.mean.expand(2, -1, -1))


def test_fewer_coefficients_use_the_first_directions(model):
    identity, expression = draw(1)
    short = model.vertices(identity[:, :2], expression[:, :1])
    filled_identity, filled_expression = identity.clone(), expression.clone()
    filled_identity[:, 2:] = 0
    filled_expression[:, 1:] = 0
    torch.testing.assert_close(short, model.vertices(filled_identity, filled_expression))
    small = model.truncated(2, 1)
    assert (small.identity.shape[2], small.expression.shape[2]) == (2, 1)
    torch.testing.assert_close(short, small.vertices(identity[:, :2], expression[:, :1]))


def test_one_person_serves_all_frames(model):
    identity, expression = draw(2)
    pose = 0.3 * torch.randn(3, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    one = model.vertices(identity[:1], expression, pose)
    torch.testing.assert_close(one, model.vertices(identity[:1].expand(3, -1), expression, pose))
    torch.testing.assert_close(
        model.vertices(identity[:1], None, pose), model.vertices(identity[:1].expand(3, -1), None, pose)
    )


def test_rest_joints_follow_the_expression_only_if_told_to(model):
    identity, expression = draw(3)
    pose = torch.zeros(3, 2, 3, dtype=torch.float64)
    rest = model.skinning.joint_regressor
    shaped, person = model.vertices(identity, expression), model.vertices(identity)
    torch.testing.assert_close(model.posed_joints(identity, expression, pose=pose), rest @ shaped)
    fixed = dataclasses.replace(model, skinning=dataclasses.replace(model.skinning, joints_follow_expression=False))
    torch.testing.assert_close(fixed.posed_joints(identity, expression, pose=pose), rest @ person)
    torch.testing.assert_close(fixed.vertices(identity, expression, pose), shaped)


def test_gradients_reach_every_coefficient(model):
    identity, expression = (value.requires_grad_() for value in draw(4, batch=1))
    pose = torch.zeros(1, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *inputs: model.vertices(*inputs)[:, :3], (identity, expression, pose))


def test_landmarks_on_vertices_give_those_vertices(model):
    identity, expression = draw(5)
    vertices = model.vertices(identity, expression)
    torch.testing.assert_close(model.landmark_points(vertices), vertices[:, planted().landmarks])
    assert mm.inter_canthal_mm(model) == pytest.approx(32)


def test_landmarks_follow_the_triangle_when_its_order_is_turned(model):
    turned = model.faces[:, [0, 2, 1]]
    landmarks = Landmarks(model.landmarks.faces, model.landmarks.barycentric[:, [0, 2, 1]])
    torch.testing.assert_close(landmarks.points(model.mean[None], turned), model.landmark_points(model.mean[None]))


def test_colours_are_linear(model):
    coefficients, _ = draw(6)
    by_hand = model.colour_mean + torch.einsum("vck,bk->bvc", model.colour, coefficients)
    torch.testing.assert_close(model.colours(coefficients), by_hand)


def test_copies_in_another_precision_keep_indices(model):
    single = model.to(dtype=torch.float32)
    assert single.identity.dtype == single.skinning.weights.dtype == torch.float32
    assert single.faces.dtype == single.landmarks.faces.dtype == torch.int64
    identity, expression = draw(7)
    torch.testing.assert_close(
        single.vertices(identity.float(), expression.float()).double(), model.vertices(identity, expression), rtol=1e-5, atol=1e-4
    )  # fmt: skip


# --------------------------------------------------------------------------------------------------------- symmetry


def test_mirror_list_turns_the_mean_into_its_reflection(model):
    reflected = model.mean * tensor([-1.0, 1.0, 1.0])
    torch.testing.assert_close(model.mean[model.mirror], reflected)
    assert mm.find_mirror(model.mean + tensor([[1.0, 0, 0]])) is None
    assert mm.find_mirror(model.mean + tensor([[0.1, 0, 0]])) is not None
    assert mm.find_mirror(model.mean + tensor([[0.1, 0, 0]]), tolerance_mm=0.1) is None


def test_two_vertices_with_one_partner_are_no_mirror():
    assert mm.find_mirror(tensor([[1.0, 0, 0], [-1, 0, 0], [-1, 0.1, 0], [0, 2, 0]])) is None


# -------------------------------------------------------------------------------------------------------- alignment


@given(seeds, st.booleans())
@settings(max_examples=40, deadline=None)
def test_a_planted_similarity_is_recovered(seed, scaled):
    rng = np.random.default_rng(seed)
    source = rng.normal(0, 50, (2, 8, 3))
    rotation = Rotation.random(2, rng=rng).as_matrix()
    scale = rng.uniform(0.3, 3, 2) if scaled else np.ones(2)
    shift = rng.normal(0, 30, (2, 3))
    target = scale[:, None, None] * source @ rotation.transpose(0, 2, 1) + shift[:, None]
    found = mm.procrustes(tensor(source), tensor(target), scale=scaled)
    torch.testing.assert_close(found.rotation, tensor(rotation), atol=1e-9, rtol=0)
    torch.testing.assert_close(found.scale, tensor(scale))
    torch.testing.assert_close(found(tensor(source)), tensor(target), atol=1e-8, rtol=0)


@given(seeds)
@settings(max_examples=40, deadline=None)
def test_alignment_never_reflects_and_no_small_change_is_better(seed):
    rng = np.random.default_rng(seed)
    source = tensor(rng.normal(size=(1, 7, 3)))
    target = source * tensor([-1.0, 1.0, 1.0]) + 0.05 * tensor(rng.normal(size=(1, 7, 3)))  # a mirror image
    weights = tensor(rng.uniform(0.1, 1, 7))
    found = mm.procrustes(source, target, weights)
    torch.testing.assert_close(torch.linalg.det(found.rotation), torch.ones(1, dtype=torch.float64))

    def loss(similarity):
        return float((weights[:, None] * (similarity(source) - target[0]).square()).sum())

    best = loss(found)
    for _ in range(10):
        turn = tensor(Rotation.from_rotvec(rng.normal(0, 0.05, 3)).as_matrix())
        near = mm.Similarity(
            found.scale * float(np.exp(rng.normal(0, 0.05))),
            turn @ found.rotation,
            found.translation + tensor(rng.normal(0, 0.05, 3)),
        )
        assert loss(near) >= best - 1e-12


def test_points_of_weight_zero_do_not_count():
    rng = np.random.default_rng(0)
    source = tensor(rng.normal(size=(1, 6, 3)))
    target = 2 * source + 1
    spoilt = target.clone()
    spoilt[0, 5] = 100
    weights = tensor([1.0, 1, 1, 1, 1, 0])
    torch.testing.assert_close(mm.procrustes(source, spoilt, weights)(source), target)


def test_alignment_refuses_what_has_no_answer():
    points = torch.zeros(1, 4, 3, dtype=torch.float64)
    with pytest.raises(ValueError, match="all source points are one point"):
        mm.procrustes(points, points)
    with pytest.raises(ValueError, match="three or more finite points, found 2"):
        mm.procrustes(points[:, :2], points[:, :2])
    with pytest.raises(ValueError, match="or NaN among them"):
        mm.procrustes(points * torch.nan, points)
    with pytest.raises(ValueError, match="weights must not be negative"):
        mm.procrustes(points, points, tensor([1.0, 1, 1, -1]))


# ------------------------------------------------------------------------------------------------------ our own file


def test_a_saved_model_comes_back_whole_and_without_pickle(model, tmp_path):
    mm.save_model(model, tmp_path / "deep" / "model.npz")
    with np.load(tmp_path / "deep" / "model.npz", allow_pickle=False) as stored:
        assert all(stored[name].dtype != object for name in stored.files)
    again = mm.load_model(tmp_path / "deep" / "model.npz")
    for field in ("mean", "identity", "expression", "faces", "mirror", "uv", "colour_mean", "colour"):
        assert torch.equal(getattr(again, field), getattr(model, field)), field
    assert torch.equal(again.landmarks.barycentric, model.landmarks.barycentric)
    assert again.skinning.parents == (-1, 0)
    assert again.skinning.joint_names == ("root", "jaw")
    assert torch.equal(again.skinning.correctives, model.skinning.correctives)


def test_a_bare_model_comes_back_bare(tmp_path):
    bare = build(landmarks=None, mirror=None, uv=None, colour=None, colour_mean=None, skinning=None)
    mm.save_model(bare, tmp_path / "bare.npz")
    again = mm.load_model(tmp_path / "bare.npz")
    assert [again.landmarks, again.mirror, again.uv, again.colour, again.colour_mean, again.skinning] == [None] * 6


def test_files_that_are_no_saved_model_are_named(model, tmp_path):
    np.savez(tmp_path / "other.npz", v_template=np.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"other.npz: expected a model written by save_model, found arrays v_template"):
        mm.load_model(tmp_path / "other.npz")
    mm.save_model(model, tmp_path / "cut.npz")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "cut.npz").read_bytes()[:900])
    with pytest.raises(ValueError, match=r"cut.npz: "):
        mm.load_model(tmp_path / "cut.npz")
    with pytest.raises(FileNotFoundError, match=r"absent.npz: no such file"):
        mm.load_model(tmp_path / "absent.npz")
    with pytest.raises(ValueError, match=r"ends in .npz"):
        mm.save_model(model, tmp_path / "model.pt")


# ----------------------------------------------------------------------------------------------------------- faults


def with_nan(values):
    values = values.clone()
    values.view(-1)[0] = torch.nan
    return values


HEAD = planted()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mean": tensor(HEAD.mean[:, :2])}, r"planted: mean must have shape \(12, 3\), found \(12, 2\)"),
        ({"identity": tensor(HEAD.identity[:11])}, r"identity must have shape \(12, 3, any\), found \(11, 3, 4\)"),
        ({"expression": tensor(HEAD.expression[..., 0])}, r"expression must have shape .* found \(12, 3\)"),
        ({"uv": torch.zeros(12, 3)}, r"uv must have shape \(12, 2\)"),
        ({"mean": with_nan(tensor(HEAD.mean))}, "mean holds 1 NaN or infinite values of 36"),
        ({"identity": with_nan(tensor(HEAD.identity))}, "identity holds 1 NaN"),
        ({"faces": torch.from_numpy(HEAD.faces + 1)}, r"faces must be int64 in 0..11, found torch.int64 in 1..12; do they count from 1"),
        ({"faces": torch.from_numpy(HEAD.faces).int()}, "faces must be int64 in 0..11, found torch.int32"),
        ({"faces": torch.zeros(0, 3, dtype=torch.int64), "landmarks": None}, "needs vertices and triangles, found 12 and 0"),
        ({"colour_mean": tensor(HEAD.colour_mean * 255)}, "colour_mean must lie in 0..1, found .* divide by 255"),
        ({"colour_mean": None}, "colour directions without colour_mean"),
        ({"mirror": torch.arange(12).roll(1)}, "mirror must be its own inverse, found 0 -> 11 -> 10 .12 vertices"),
        ({"mirror": torch.full((12,), 12)}, r"mirror must point to vertices 0..11, found 12..12"),
        ({"landmarks": Landmarks(torch.tensor([20]), torch.tensor([[1.0, 0, 0]]))}, r"triangle numbers in 0..19, found 20..20"),
        ({"skinning": joints(11)}, "skinning is for 11 vertices, the mesh has 12"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("unchecked_types")
def test_inconsistent_models_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        build(**changes)


def test_wrong_requests_are_named(model):
    identity, expression = draw(0)
    bare = build(landmarks=None, colour=None, skinning=None)
    with pytest.raises(ValueError, match="planted: identity: 8 coefficients but the model has 4 directions"):
        model.vertices(torch.cat((identity, identity), dim=1))
    with pytest.raises(ValueError, match="the model has no joints, leave pose out"):
        bare.vertices(identity, expression, torch.zeros(3, 2, 3, dtype=torch.float64))
    with pytest.raises(ValueError, match="pose must give 2 joints, found 5"):
        model.vertices(identity, expression, torch.zeros(3, 5, 3, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"has no landmarks; add some with dataclasses.replace"):
        bare.landmark_points(model.mean[None])
    with pytest.raises(ValueError, match="no colour directions"):
        bare.colours(identity)
    with pytest.raises(ValueError, match="has 4 identity and 3 expression directions, asked for 5 and 3"):
        model.truncated(5, 3)
    few = dataclasses.replace(model, landmarks=Landmarks.from_vertices([0, 1], model.faces))
    with pytest.raises(ValueError, match="expected 68 landmarks, found 2"):
        mm.inter_canthal_mm(few)


@pytest.mark.parametrize("indices", [[0, -1], [0, 12], [0, 99]])
def test_landmark_vertices_outside_the_mesh_are_named(model, indices):
    with pytest.raises(
        ValueError, match=rf"vertices \[{indices[1]}\] are corners of no triangle; do the numbers start at 0"
    ):
        Landmarks.from_vertices(indices, model.faces)
