"""Skinning against the reference arrays, scipy's rotations, and hand-made joints; FLAME's landmarks with both signs of yaw."""

from __future__ import annotations

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from paper_utils.mesh import model_files as mf
from paper_utils.mesh import skinning as sk
from paper_utils.mesh.landmarks import Landmarks, barycentric_points

vectors = st.lists(st.floats(-3, 3), min_size=3, max_size=3)


@pytest.fixture(scope="module")
def tree():
    from conftest import ROOT

    with np.load(ROOT / "tests" / "reference" / "flame" / "lbs_flame_tree.npz") as stored:
        return {key: torch.from_numpy(stored[key]) for key in stored.files}


@pytest.fixture(scope="module")
def flame(tmp_path_factory):
    """The fixture model and its landmark tables, through the converter."""
    from conftest import ROOT

    folder, source = tmp_path_factory.mktemp("flame"), ROOT / "tests" / "reference" / "flame"
    tables = mf.convert_flame_landmarks(source / "flame_fixture_landmarks.npy", folder / "landmarks.npz")
    landmarks = mf.read_flame_landmarks(tables)
    path = mf.convert_flame(source / "flame_fixture_chumpy.pkl", folder / "flame.npz")
    model = mf.read_flame(path, landmarks=landmarks, dtype=torch.float64)
    with np.load(source / "flame_fixture_expected.npz") as stored:
        return model, landmarks, {key: torch.from_numpy(stored[key]) for key in stored.files}


@pytest.fixture
def unchecked_types():
    """The type checker of the tests would answer first; users meet our own messages."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def tree_skinning(tree, dtype=torch.float64):
    parents = tuple(tree["model_parents"].tolist())
    tensors = (tree[f"model_{key}"].to(dtype) for key in ("J_regressor", "weights"))
    return sk.Skinning(*tensors, parents, tree["model_posedirs"].to(dtype))


def simple_skinning(parents=(-1, 0, 1), vertices=4):
    joints = len(parents)
    weights = torch.eye(joints, dtype=torch.float64)[torch.arange(vertices) % joints]
    regressor = torch.full((joints, vertices), 1 / vertices, dtype=torch.float64)
    return sk.Skinning(regressor, weights, parents, torch.zeros(vertices, 3, 0, dtype=torch.float64))


def full_pose(expected):
    """Global and jaw rotation, neck zero, both eyes: the five joints of the fixture."""
    root, jaw = expected["pose"].double().split(3, dim=1)
    left, right = expected["eye_pose"].double().split(3, dim=1)
    return torch.stack((root, torch.zeros_like(root), jaw, left, right), dim=1)


# -------------------------------------------------------------------------------------------------------- reference


def test_skinned_vertices_joints_and_rotations_match_the_reference_in_double_precision(tree):
    skinning = tree_skinning(tree)
    rotations = sk.rotation_matrices(tree["pose"].unflatten(1, (5, 3)))
    torch.testing.assert_close(rotations, tree["rotations"], rtol=0, atol=1e-12)
    rest = sk.rest_joints(tree["v_shaped"], skinning.joint_regressor)
    torch.testing.assert_close(rest, tree["joints_rest"], rtol=0, atol=1e-12)
    vertices, joints = sk.skin(tree["v_shaped"], rest, rotations, skinning)
    torch.testing.assert_close(vertices, tree["vertices_f64"], rtol=0, atol=1e-12)
    torch.testing.assert_close(joints, tree["joints_posed_f64"], rtol=0, atol=1e-12)


def test_single_precision_stays_near_the_reference(tree):
    skinning, shaped = tree_skinning(tree, torch.float32), tree["v_shaped"].float()
    rotations = sk.rotation_matrices(tree["pose"].float().unflatten(1, (5, 3)))
    vertices, _ = sk.skin(shaped, sk.rest_joints(shaped, skinning.joint_regressor), rotations, skinning)
    torch.testing.assert_close(vertices, tree["vertices_f32"], rtol=0, atol=1e-6)


def test_barycentric_points_that_differ_between_meshes_match_the_reference(tree):
    points = barycentric_points(tree["vertices_f64"], tree["model_faces"], tree["lmk_face"], tree["lmk_bary"])
    torch.testing.assert_close(points, tree["landmarks"], rtol=0, atol=1e-12)


def test_flame_fixture_vertices_match_in_millimetres(flame):
    model, _, expected = flame
    vertices = model.vertices(expected["shape"], expected["expression"], full_pose(expected))
    torch.testing.assert_close(vertices, 1000 * expected["vertices"].double(), rtol=0, atol=1e-3)


def test_flame_fixture_landmarks_match_with_the_moving_contour(flame):
    model, landmarks, expected = flame
    pose = full_pose(expected)
    vertices = model.vertices(expected["shape"], expected["expression"], pose)
    rotations = sk.rotation_matrices(pose)
    points = landmarks.points(vertices, model.faces, rotations)
    torch.testing.assert_close(points, 1000 * expected["landmarks2d"].double(), rtol=0, atol=1e-3)
    torch.testing.assert_close(
        model.landmark_points(vertices), 1000 * expected["landmarks3d"].double(), rtol=0, atol=1e-3
    )
    other = landmarks.points(vertices, model.faces, rotations, convention="smplx")
    contour = barycentric_points(
        vertices,
        model.faces,
        landmarks.contour_faces[expected["contour_row_smplx_sign"]],
        landmarks.contour_barycentric[expected["contour_row_smplx_sign"]],
    )
    torch.testing.assert_close(other[:, :17], contour, rtol=0, atol=1e-9)
    torch.testing.assert_close(other[:, 17:], points[:, 17:], rtol=0, atol=0)
    assert (other[:, :17] - points[:, :17]).abs().max() > 1


@pytest.mark.parametrize(
    ("convention", "key"), [("deca", "contour_row_deca_sign"), ("smplx", "contour_row_smplx_sign")]
)
def test_contour_rows_match_the_reference_for_both_signs_of_yaw(flame, convention, key):
    _, _, expected = flame
    yaw = sk.head_yaw(sk.rotation_matrices(full_pose(expected)))
    assert sk.contour_rows(sk.YAW_SIGNS[convention] * yaw).tolist() == expected[key].tolist()


def test_yaw_is_that_of_root_and_neck_in_this_order():
    # Neck turned by 0.4 inside a head bent by 0.3: R[2, 0] = -cos(0.3) sin(0.4); the other order would give -sin(0.4).
    pose = torch.zeros(1, 2, 3, dtype=torch.float64)
    pose[0, 0, 0], pose[0, 1, 1] = 0.3, 0.4
    yaw = sk.head_yaw(sk.rotation_matrices(pose))
    assert float(yaw) == pytest.approx(np.arcsin(np.cos(0.3) * np.sin(0.4)), abs=1e-7)


def test_contour_rows_by_hand():
    degrees = torch.tensor([0.0, -0.4, 0.6, 5.0, 39.0, 80.0, -1.0, -39.0, -39.4, -90.0], dtype=torch.float64)
    assert sk.contour_rows(torch.deg2rad(degrees)).tolist() == [0, 0, 1, 5, 39, 39, 40, 78, 78, 78]


# -------------------------------------------------------------------------------------------------------- rotations


@given(vectors)
@settings(max_examples=80, deadline=None)
def test_rotations_agree_with_scipy(vector):
    found = sk.rotation_matrices(torch.tensor([vector], dtype=torch.float64))[0].numpy()
    np.testing.assert_allclose(found, Rotation.from_rotvec(vector).as_matrix(), atol=1e-7)  # the official constant


def test_zero_rotation_is_exactly_the_identity_with_a_right_gradient():
    for dtype in (torch.float32, torch.float64):
        zero = torch.zeros(2, 5, 3, dtype=dtype, requires_grad=True)
        matrices = sk.rotation_matrices(zero)
        assert torch.equal(matrices, torch.eye(3, dtype=dtype).expand(2, 5, 3, 3))
        (gradient,) = torch.autograd.grad(matrices[..., 2, 1].sum() - matrices[..., 1, 2].sum(), zero)
        torch.testing.assert_close(gradient, torch.tensor([2.0, 0, 0], dtype=dtype).expand(2, 5, 3))
    worst = torch.full((3,), -1e-8, dtype=torch.float64, requires_grad=True)
    matrix = sk.rotation_matrices(worst)
    assert torch.isfinite(matrix).all()
    assert torch.isfinite(torch.autograd.grad(matrix.sum(), worst)[0]).all()


def test_gradients_of_skinning_pass_the_numerical_check(tree):
    skinning, shaped = tree_skinning(tree), tree["v_shaped"][:1, :, :].clone().requires_grad_()
    pose = (0.3 * tree["pose"][1:2].unflatten(1, (5, 3))).requires_grad_()

    def posed(shaped, pose):
        rest = sk.rest_joints(shaped, skinning.joint_regressor)
        return sk.skin(shaped, rest, sk.rotation_matrices(pose), skinning)[0][:, :4]

    assert torch.autograd.gradcheck(posed, (shaped, pose))


# ------------------------------------------------------------------------------------------------------- properties


def test_the_rest_pose_maps_to_itself(tree):
    skinning, shaped = tree_skinning(tree), tree["v_shaped"]
    rotations = torch.eye(3, dtype=torch.float64).expand(len(shaped), 5, 3, 3)
    rest = sk.rest_joints(shaped, skinning.joint_regressor)
    vertices, joints = sk.skin(shaped, rest, rotations, skinning)
    torch.testing.assert_close(vertices, shaped, rtol=0, atol=1e-14)
    torch.testing.assert_close(joints, rest, rtol=0, atol=1e-14)


@given(vectors)
@settings(max_examples=30, deadline=None)
def test_turning_the_root_turns_the_whole_mesh_about_the_root_joint(vector):
    skinning = simple_skinning()
    shaped = torch.randn(1, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rest = torch.randn(1, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    pose = torch.zeros(1, 3, 3, dtype=torch.float64)
    pose[0, 0] = torch.tensor(vector)
    rotation = sk.rotation_matrices(pose)[0, 0]
    vertices, joints = sk.skin(shaped, rest, sk.rotation_matrices(pose), skinning)
    torch.testing.assert_close(vertices[0], (shaped[0] - rest[0, 0]) @ rotation.T + rest[0, 0])
    torch.testing.assert_close(joints[0], (rest[0] - rest[0, 0]) @ rotation.T + rest[0, 0])


def test_a_bent_elbow_by_hand():
    # Joints at 0, 1 and 2 on the x axis; the middle one bends by 90 degrees about z: what lies beyond goes up.
    skinning = simple_skinning(vertices=3)
    rest = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [2, 0, 0]]], dtype=torch.float64)
    shaped = torch.tensor([[[0.5, 0, 0], [1.5, 0, 0], [3, 0, 0]]], dtype=torch.float64)
    pose = torch.zeros(1, 3, 3, dtype=torch.float64)
    pose[0, 1, 2] = np.pi / 2
    vertices, joints = sk.skin(shaped, rest, sk.rotation_matrices(pose), skinning)
    expected = torch.tensor([[0.5, 0, 0], [1, 0.5, 0], [1, 2, 0]], dtype=torch.float64)
    torch.testing.assert_close(vertices[0], expected, atol=1e-7, rtol=0)
    torch.testing.assert_close(joints[0, 2], torch.tensor([1.0, 1, 0], dtype=torch.float64), atol=1e-7, rtol=0)


def test_correctives_are_linear_in_the_change_of_the_matrices_and_blind_to_the_root():
    generator = torch.Generator().manual_seed(2)
    directions = torch.randn(6, 3, 18, generator=generator, dtype=torch.float64)
    rotations = sk.rotation_matrices(torch.randn(2, 3, 3, generator=generator, dtype=torch.float64))
    found = sk.pose_correctives(rotations, directions)
    by_hand = torch.zeros(2, 6, 3, dtype=torch.float64)
    for joint in (1, 2):
        for row in range(3):
            for column in range(3):
                change = rotations[:, joint, row, column] - float(row == column)
                by_hand += change[:, None, None] * directions[:, :, 9 * (joint - 1) + 3 * row + column]
    torch.testing.assert_close(found, by_hand)
    rotations[:, 0] = 7.0
    torch.testing.assert_close(sk.pose_correctives(rotations, directions), found)


# ----------------------------------------------------------------------------------------------------------- faults


def faulty(**changes):
    good = simple_skinning()
    fields = {
        "joint_regressor": good.joint_regressor, "weights": good.weights, "parents": good.parents, "correctives": good.correctives,
    }  # fmt: skip
    return sk.Skinning(**(fields | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parents": (-1, 2, 1)}, r"joint 1 has parent 2; expected an earlier joint \(0..0\), so that there is no cycle"),
        ({"parents": (-1, 0, 2)}, "joint 2 has parent 2"),
        ({"parents": (0, 0, 1)}, r"beginning with the root's -1, found \[0, 0, 1\]"),
        ({"parents": (-1, 0)}, "expected 3 joints"),
        ({"weights": torch.full((4, 3), 0.5, dtype=torch.float64)}, "must sum to 1 within 0.0001, found a sum that is off by 0.5"),
        ({"weights": torch.full((4, 3), torch.nan, dtype=torch.float64)}, "must sum to 1"),
        ({"weights": torch.eye(3, dtype=torch.float64)}, r"needs weights \(4, 3\)"),
        ({"correctives": torch.zeros(4, 3, 7, dtype=torch.float64)}, "9 columns for each of 2 joints below the root .* found 7"),
        ({"correctives": torch.full((4, 3, 18), torch.inf, dtype=torch.float64)}, "NaN or infinite"),
        ({"joint_names": ("root",)}, "3 joints but 1 joint_names"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("unchecked_types")
def test_inconsistent_joints_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        faulty(**changes)


@pytest.mark.usefixtures("unchecked_types")
def test_landmark_tables_are_checked(flame):
    model, landmarks, _ = flame
    with pytest.raises(ValueError, match=r"odd number of rows .* found 78"):
        sk.FlameLandmarks(landmarks.static, landmarks.contour_faces[1:], landmarks.contour_barycentric[1:])
    with pytest.raises(ValueError, match=r"contour landmarks: .* found shapes \(78, 17\) and \(79, 17, 3\)"):
        sk.FlameLandmarks(landmarks.static, landmarks.contour_faces[1:], landmarks.contour_barycentric)
    with pytest.raises(ValueError, match="weights must sum to 1"):
        Landmarks(torch.tensor([0]), torch.tensor([[0.5, 0.6, 0.5]]))
    with pytest.raises(ValueError, match="convention: expected one of deca, smplx, found 'flame'"):
        landmarks.points(
            model.mean[None], model.faces, torch.eye(3, dtype=torch.float64).expand(1, 5, 3, 3), convention="flame"
        )
