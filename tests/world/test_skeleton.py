"""Skeleton and pose layout: official index sets, rest pose, known rotations, and an independent chain of rotations."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from paper_utils.world import pose_layout as layout
from paper_utils.world import skeleton


@pytest.fixture
def official(reference):
    return json.loads((reference / "pose_layout" / "pose_layout.json").read_text())


def posed(**angles: tuple[float, float, float]) -> torch.Tensor:
    """Positions with a few joints turned, float64."""
    pose = torch.zeros(55, 3, dtype=torch.float64)
    for name, angle in angles.items():
        pose[skeleton.point(name)] = torch.tensor(angle, dtype=torch.float64)
    return skeleton.positions(pose)


def bone_lengths(points: torch.Tensor) -> torch.Tensor:
    parents, children = torch.tensor(skeleton.BONES).T
    return (points[..., children, :] - points[..., parents, :]).norm(dim=-1)


# ------------------------------------------------------------------------------------------------------------- layout


def test_every_part_stands_in_the_columns_of_the_official_code(official):
    for name, (first, last) in official["vector_265"].items():
        if name in ("left_hand", "right_hand"):
            joints = layout.LEFT_HAND if name == "left_hand" else layout.RIGHT_HAND
            found = (layout.joint_columns(joints[0]).start, layout.joint_columns(joints[-1]).stop)
        elif name == "expression":
            found = (layout.EXPRESSION.start, layout.EXPRESSION.stop)
        else:
            found = (layout.joint_columns(name).start, layout.joint_columns(name).stop)
        assert found == (first, last), name


@pytest.mark.parametrize("index_set", ["official", "consistent"])
def test_predicted_columns_are_those_of_the_official_code(official, index_set):
    assert layout.upper_columns(index_set).tolist() == official[f"{index_set}_kept_129"]


def test_six_number_columns_are_those_of_the_official_code(official):
    assert layout.six_d_columns(layout.upper_columns("official")).tolist() == official["official_kept_129_6d"]


@pytest.mark.parametrize("posture", ["sit", "stand"])
def test_frames_are_assembled_as_by_the_official_code(official, posture):
    count = torch.arange(232.0)
    face = torch.cat([count[:3], count[132:]])
    found = layout.assemble(face[None], count[None, 3:132], posture=posture)
    torch.testing.assert_close(found[0], torch.tensor(official[f"part2full_{posture}"]), atol=0, rtol=1e-6)


def test_taking_the_predicted_columns_apart_undoes_assembling():
    torch.manual_seed(0)
    face, upper = torch.randn(2, 5, 103), torch.randn(2, 5, 129)
    frames = layout.assemble(face, upper)
    assert torch.equal(frames[..., layout.upper_columns()], upper)
    assert torch.equal(torch.cat([frames[..., :3], frames[..., layout.EXPRESSION]], -1), face)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: layout.joint_columns("tail"), "joint 'tail' is unknown; expected one of jaw"),
        (lambda: layout.upper_columns("mine"), "index_set: expected one of consistent, official, found 'mine'"),
        (lambda: layout.constant_frame("lie"), "posture: expected one of sit, stand, found 'lie'"),
        (lambda: layout.six_d_columns(np.array([19, 20, 21])), "expected whole joints"),
        (lambda: layout.six_d_columns(np.array([18, 19])), "expected whole joints"),
        (lambda: skeleton.point("tail"), "point 'tail' is unknown"),
        (lambda: skeleton.positions(torch.full((55, 3), float("nan"))), "pose holds NaN"),
    ],
)
def test_what_does_not_exist_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# ----------------------------------------------------------------------------------------------------------- skeleton


def test_joints_have_the_indices_of_smplx():
    expected = {
        "pelvis": 0, "spine1": 3, "neck": 12, "left_collar": 13, "right_collar": 14, "head": 15, "left_shoulder": 16, "right_shoulder": 17,
        "left_elbow": 18, "right_elbow": 19, "left_wrist": 20, "right_wrist": 21, "jaw": 22, "left_index1": 25, "left_pinky1": 31, "left_ring1": 34, "left_thumb3": 39,
        "right_index1": 40, "right_thumb3": 54,
    }  # fmt: skip
    assert {name: skeleton.point(name) for name in expected} == expected
    assert all(parent < child for parent, child in skeleton.BONES)


def test_zero_pose_is_the_rest_pose_and_its_own_mirror_image():
    rest = skeleton.positions(torch.zeros(55, 3, dtype=torch.float64))
    assert torch.equal(rest, skeleton.rest_positions())
    for left in (name for name in skeleton.POINTS if name.startswith("left_")):
        right = rest[skeleton.point(left.replace("left_", "right_"))]
        torch.testing.assert_close(rest[skeleton.point(left)] * torch.tensor([-1.0, 1, 1], dtype=torch.float64), right)


def test_segments_have_the_shares_of_the_stature_from_the_literature():
    rest = skeleton.rest_positions() / skeleton.STATURE_M
    for upper, lower, share in (
        ("left_shoulder", "left_elbow", 0.186),
        ("left_elbow", "left_wrist", 0.146),
        ("left_hip", "left_knee", 0.245),
    ):
        assert float((rest[skeleton.point(upper)] - rest[skeleton.point(lower)]).norm()) == pytest.approx(share)
    height = rest[skeleton.point("head_top"), 1] - rest[skeleton.point("left_foot"), 1]
    assert float(height) == pytest.approx(1.0, abs=0.03)


@given(st.integers(0, 2**31 - 1))
@settings(max_examples=20, deadline=None)
def test_bones_keep_their_length_in_any_pose(seed):
    pose = 1.5 * torch.randn(3, 55, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    expected = bone_lengths(skeleton.rest_positions()).expand(3, -1)
    torch.testing.assert_close(bone_lengths(skeleton.positions(pose)), expected, atol=1e-7, rtol=0)


def test_bending_the_elbow_by_a_right_angle_points_the_forearm_forward():
    points = posed(left_elbow=(0, -np.pi / 2, 0))
    forearm = points[skeleton.point("left_wrist")] - points[skeleton.point("left_elbow")]
    expected = torch.tensor([0, 0, 0.146 * skeleton.STATURE_M], dtype=torch.float64)
    torch.testing.assert_close(forearm, expected, atol=1e-7, rtol=0)


def test_nodding_moves_the_face_and_nothing_below_the_head():
    rest, points = skeleton.rest_positions(), posed(head=(0.3, 0, 0))
    moved = (points - rest).norm(dim=-1) > 1e-9
    assert {skeleton.POINTS[i] for i in torch.nonzero(moved).ravel().tolist()} == {
        "head_top",
        "jaw",
        "left_eye",
        "right_eye",
    }
    assert points[skeleton.point("left_eye"), 1] < rest[skeleton.point("left_eye"), 1]  # down


def test_a_chain_of_rotations_agrees_with_scipy():
    angles = {
        "spine2": (0.2, -0.4, 0.1),
        "left_shoulder": (0.3, 1.0, -0.7),
        "left_elbow": (0.1, -1.2, 0.4),
        "left_wrist": (0.9, 0.2, 0.3),
    }
    points, rest = posed(**angles), skeleton.rest_positions()
    turn, place = Rotation.identity(), rest[skeleton.point("pelvis")].numpy()
    chain = [
        "pelvis",
        "spine1",
        "spine2",
        "spine3",
        "left_collar",
        "left_shoulder",
        "left_elbow",
        "left_wrist",
        "left_index1",
    ]
    for parent, child in pairwise(chain):
        turn = turn * Rotation.from_rotvec(angles.get(parent, (0, 0, 0)))
        place = place + turn.apply((rest[skeleton.point(child)] - rest[skeleton.point(parent)]).numpy())
        np.testing.assert_allclose(points[skeleton.point(child)], place, atol=1e-7)


def test_frames_are_read_joint_by_joint_in_the_order_of_the_skeleton():
    motion = torch.arange(265.0).expand(2, 4, 265)
    pose = skeleton.pose_of(motion, turn_root=True)
    for name in skeleton.JOINTS:
        column = layout.joint_columns("global_orient" if name == "pelvis" else name)
        assert torch.equal(pose[1, 2, skeleton.point(name)], motion[1, 2, column]), name
    assert (skeleton.pose_of(motion)[..., 0, :] == 0).all()
    assert torch.equal(skeleton.pose_of(motion)[..., 1:, :], pose[..., 1:, :])


def test_a_batch_is_its_poses_one_by_one():
    pose = torch.randn(2, 3, 55, 3, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(skeleton.positions(pose)[1, 2], skeleton.positions(pose[1, 2]))
