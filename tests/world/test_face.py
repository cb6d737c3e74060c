"""The procedural head: symmetry, exact handles, linearity, no folds, and the constants of the world that others rely on."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paper_utils.world.anthropometry import MEASUREMENTS, measure
from paper_utils.world.face import EMOTIONS, EXPRESSION_UNITS, PARAMETERS, Head, emotion_pose, head
from paper_utils.world.face_mesh import BALL_RADIUS, lid_patch
from paper_utils.world.face_tables import EMOTION_WEIGHTS, EXPRESSION, HANDLES, IDENTITY, JAW_AXIS, LANDMARKS_68

FLIP = torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
MASK_SIZES = {2: (1262, 2348), 3: (2527, 4808), 4: (4272, 8228), 9: (20197, 39728)}
# Distances of the mean person in mm: constants of the world, not norms.
MEAN_PERSON = {
    "n-gn": 115, "n-sn": 50.1, "sn-gn": 66, "sn-prn": 16.8, "al-al": 33.6, "en-en": 33, "ex-ex": 91, "en-ex": 30.1, "ps-pi": 9.4, "ch-ch": 52,
    "zy-zy": 131, "go-go": 94, "sn-sto": 22.5, "ls-sto": 8.3, "tr-n": 78.9, "t-n": 117.3, "cph-cph": 12,
}  # fmt: skip


def double(points_per_cell: int = 2, *, full: bool = False) -> Head:
    return head(points_per_cell, full=full).to(dtype=torch.float64)


def people(count: int, seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(count, 28, generator=generator, dtype=torch.float64) * double().parameter_sd


def neutral(face: Head, parameters: torch.Tensor | None = None) -> torch.Tensor:
    parameters = torch.zeros(1, 28, dtype=torch.float64) if parameters is None else parameters
    return face.identity_vertices(parameters, torch.zeros(len(parameters), dtype=torch.float64))


def unit(name: str, weight: float = 1.0) -> torch.Tensor:
    weights = torch.zeros(1, 16, dtype=torch.float64)
    weights[0, EXPRESSION_UNITS.index(name)] = weight
    return weights


def angles(*degrees: float) -> torch.Tensor:
    return torch.deg2rad(torch.tensor(degrees, dtype=torch.float64))


def slit_pairs(face: Head, row: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Upper and lower copy of every vertex along a slit, by their column."""
    on_row = torch.nonzero(face.grid[:, 0] == row)[:, 0]
    columns = face.grid[on_row, 1]
    twice = [on_row[columns == column] for column in columns.unique()]
    pairs = torch.stack([pair for pair in twice if len(pair) == 2])
    return pairs[:, 0], pairs[:, 1]


def areas(vertices: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
    a, b, c = (vertices[:, faces[:, corner]] for corner in range(3))
    return torch.linalg.cross(b - a, c - a)


def flipped(face: Head, vertices: torch.Tensor) -> torch.Tensor:
    """Which triangles point against their direction on the template: (batch, triangles)."""
    return (areas(vertices, face.faces) * areas(face.vertices[None], face.faces)).sum(-1) < 0


# ------------------------------------------------------------------------------------------------------- structure


def test_names_have_the_agreed_order():
    assert PARAMETERS[:4] == ("face_width", "jaw_width", "lower_face_height", "nose_length")
    assert PARAMETERS[-1] == "face_depth"
    assert len(PARAMETERS) == 28
    assert EXPRESSION_UNITS[8:12] == ("brow_raise", "brow_raise_inner", "brow_lower", "eye_close")
    assert len(EXPRESSION_UNITS) == 16
    assert EMOTIONS == ("neutral", "happy", "sad", "angry", "fear", "disgust", "surprise", "contempt")
    assert set(EMOTION_WEIGHTS) == set(EMOTIONS)


@pytest.mark.parametrize(("points_per_cell", "sizes"), MASK_SIZES.items())
def test_mask_has_the_stated_size(points_per_cell, sizes):
    face = head(points_per_cell)
    assert (len(face.vertices), len(face.faces)) == sizes
    assert face.faces.dtype == torch.int64
    assert len(face.handles) == 61


def test_full_head_starts_with_the_mask_and_stays_moderate():
    mask, full = head(2), head(2, full=True)
    n, f = len(mask.vertices), len(mask.faces)
    assert n < len(full.vertices) <= 2400
    for name in ("vertices", "uv", "identity_basis", "expression_basis", "jaw_weights", "part"):
        assert torch.equal(getattr(full, name)[:n], getattr(mask, name)), name
    assert torch.equal(full.faces[:f], mask.faces)
    assert torch.equal(full.mirror[:n], mask.mirror)
    assert set(full.part_names) == {"skin", "eyeball", "mouth", "cranium", "ear", "teeth"}


@pytest.mark.parametrize("full", [False, True])
def test_every_edge_is_shared_by_at_most_two_triangles_of_opposite_sense(full):
    face = head(2, full=full)
    directed = torch.cat([face.faces[:, [a, b]] for a, b in ((0, 1), (1, 2), (2, 0))])
    code = directed[:, 0] * len(face.vertices) + directed[:, 1]
    assert len(code.unique()) == len(code)
    assert areas(face.vertices[None], face.faces).norm(dim=-1).min() > 1e-3


def test_full_head_is_closed_apart_from_slits_eyes_neck_ears_and_teeth():
    face = head(2, full=True)
    directed = torch.cat([face.faces[:, [a, b]] for a, b in ((0, 1), (1, 2), (2, 0))])
    code = directed[:, 0] * len(face.vertices) + directed[:, 1]
    back = directed[:, 1] * len(face.vertices) + directed[:, 0]
    border = directed[~torch.isin(code, back)]
    row, column = face.grid[border[:, 0]].T
    skin = face.part[border[:, 0]] == 0
    # Skin has a border at the eyes and a pinhole at each corner of the mouth: its rim goes over into the cranium, the lips into the mouth.
    eyes = (row == 4) & (column.abs() >= 2) & (column.abs() <= 4)
    corners = (row == 10) & (column.abs() == 3)
    assert (eyes | corners)[skin].all()
    assert corners.sum() == 2
    cranium = face.part[border[:, 0]] == face.part_names.index("cranium")
    assert (face.vertices[border[cranium, 0], 1] < -170).all()


def test_triangles_face_outward():
    face = double(full=True)
    centres = face.vertices[face.faces].mean(1)
    normals = areas(face.vertices[None], face.faces)[0]
    for name, inside in (("skin", (0.0, -30.0, -90.0)), ("cranium", (0.0, -30.0, -95.0))):
        chosen = face.face_part == face.part_names.index(name)
        outward = ((centres - torch.tensor(inside, dtype=torch.float64)) * normals).sum(-1)[chosen] > 0
        assert outward.double().mean() > 0.97, name
    for name in ("eyeball", "teeth"):
        assert (normals[face.face_part == face.part_names.index(name), 2] > 0).double().mean() > 0.95, name
    mouth = torch.nonzero(face.face_part == face.part_names.index("mouth"))[:, 0]
    deepest = mouth[(centres[mouth, 2] < centres[mouth, 2].min() + 4) & (centres[mouth, 0].abs() < 12)]
    assert (normals[deepest, 2] > 0).all()
    roof = mouth[(normals[mouth, 1].abs() > normals[mouth, 2].abs()) & (centres[mouth, 1] > -74)]
    assert (normals[roof, 1] < 0).all()
    ear = (face.face_part == face.part_names.index("ear")) & (centres[:, 0] > 85)
    assert (normals[ear, 0] > 0).double().mean() > 0.5


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("points_per_cell", [2, 3])
def test_template_bases_and_triangles_are_their_own_mirror_image(points_per_cell, full):
    face = head(points_per_cell, full=full)
    flip = FLIP.float()
    assert torch.equal(face.mirror[face.mirror], torch.arange(len(face.vertices)))
    assert torch.equal(face.vertices[face.mirror] * flip, face.vertices)
    torch.testing.assert_close(face.identity_basis[face.mirror] * flip[:, None], face.identity_basis, atol=1e-6, rtol=0)
    torch.testing.assert_close(face.jaw_weights[face.mirror], face.jaw_weights, atol=1e-6, rtol=0)
    torch.testing.assert_close(face.hair_basis[face.mirror] * flip[:, None], face.hair_basis, atol=1e-6, rtol=0)
    both_sided = [i for i, name in enumerate(EXPRESSION_UNITS) if name != "jaw_side"]
    basis = face.expression_basis[..., both_sided]
    torch.testing.assert_close(basis[face.mirror] * flip[:, None], basis, atol=1e-6, rtol=0)
    side = face.expression_basis[..., EXPRESSION_UNITS.index("jaw_side")]
    torch.testing.assert_close(side[face.mirror] * -flip, side, atol=1e-6, rtol=0)
    triangles = {tuple(sorted(t)) for t in face.faces.tolist()}
    assert {tuple(sorted(t)) for t in face.mirror[face.faces].tolist()} == triangles


@given(st.integers(0, 10_000), st.floats(0.0, 2.0))
@settings(max_examples=15, deadline=None)
def test_every_person_is_symmetric(seed, scale):
    face = double(full=True)
    vertices = neutral(face, people(1, seed, scale))[0]
    assert (vertices[face.mirror] * FLIP - vertices).abs().max() < 1e-6


def test_texture_coordinates_mirror_by_a_flip_and_follow_the_grid():
    face = head(3)
    skin = face.part == 0
    torch.testing.assert_close(face.uv[face.mirror][:, 0], 1 - face.uv[:, 0], atol=1e-6, rtol=0)
    torch.testing.assert_close(face.uv[skin], torch.stack([(face.grid[skin, 1] + 8) / 16, face.grid[skin, 0] / 15], -1))
    assert face.grid[~skin].isnan().all()


def test_anatomical_landmarks_are_the_same_points_at_every_resolution():
    reference = double(2).anatomy(neutral(double(2)))
    for points_per_cell in (3, 4):
        face = double(points_per_cell)
        for name, point in face.anatomy(neutral(face)).items():
            # Lids follow the sphere of the eyeball and are the same too.
            torch.testing.assert_close(point, reference[name], atol=1e-5, rtol=0, msg=name)


def test_the_68_points_agree_between_resolutions_and_mirror_each_other():
    found = {k: double(k).landmarks68(neutral(double(k)))[0] for k in (2, 3, 4)}
    assert (found[2] - found[3]).norm(dim=-1).max() < 1.5
    assert (found[4] - found[3]).norm(dim=-1).max() < 1.0
    other_side = {(row, -column, below) for row, column, below in LANDMARKS_68}
    assert other_side == set(LANDMARKS_68)
    order = [LANDMARKS_68.index((row, -column, below)) for row, column, below in LANDMARKS_68]
    torch.testing.assert_close(found[3][order] * FLIP, found[3], atol=1e-4, rtol=0)


def test_the_68_points_lie_where_their_names_say():
    face = double(3)
    points, named = face.landmarks68(neutral(face))[0], face.anatomy(neutral(face))
    expected = {
        8: "gn", 27: "n", 29: "nb", 30: "prn", 33: "sn", 36: "ex_r", 39: "en_r", 42: "en_l", 45: "ex_l", 48: "ch_r", 51: "ls", 54: "ch_l",
        57: "li", 62: "sto", 66: "stoL", 24: "bc_l", 19: "bc_r", 50: "cph_r", 52: "cph_l",
    }  # fmt: skip
    for index, name in expected.items():
        torch.testing.assert_close(points[index], named[name][0], atol=1e-5, rtol=0, msg=f"{index} {name}")
    assert points[:8, 0].lt(0).all()
    assert points[9:17, 0].gt(0).all()


# ------------------------------------------------------------------------------------------------- handles, identity


@pytest.mark.parametrize("points_per_cell", [2, 3])
def test_handles_move_exactly_as_their_tables_say(points_per_cell):
    face = double(points_per_cell)
    for names, table, basis in (
        (PARAMETERS, {name: moves for name, (_, moves) in IDENTITY.items()}, face.identity_basis),
        (EXPRESSION_UNITS, EXPRESSION, face.expression_basis),
    ):
        for index, name in enumerate(names):
            if name == "eye_close":  # placed edge by edge
                continue
            for handle, vertex in face.handles.items():
                wanted = torch.tensor(table[name].get(handle.split("_")[0], (0.0, 0.0, 0.0)), dtype=torch.float64)
                wanted = wanted * FLIP if handle.endswith("_r") else wanted
                torch.testing.assert_close(basis[vertex, :, index], wanted, atol=1e-6, rtol=0, msg=f"{name} {handle}")


def test_each_paired_handle_exists_on_both_sides():
    face = head(2)
    for name, (_, column, _) in HANDLES.items():
        if column == 0:
            assert face.vertices[face.handles[name], 0] == 0
        else:
            assert face.mirror[face.handles[f"{name}_l"]] == face.handles[f"{name}_r"]
            assert face.vertices[face.handles[f"{name}_l"], 0] > 0


def test_mean_person_has_the_stated_measurements():
    face = head(3)
    values = measure(face.anatomy(face.vertices[None]))[0]
    for m, value in zip(MEASUREMENTS, values, strict=True):
        if m.name in MEAN_PERSON:
            assert float(value) == pytest.approx(MEAN_PERSON[m.name], abs=0.06), m.name


@pytest.mark.parametrize(
    ("parameter", "distance", "slope"),
    [
        ("nose_width", "al-al", 1.0),
        ("mouth_width", "ch-ch", 1.0),
        ("intercanthal", "en-en", 1.0),
        ("philtrum_width", "cph-cph", 1.0),
        ("jaw_width", "go-go", 1.0),
        ("nose_length", "n-sn", 1.0),
        ("eye_height", "ps-pi", 1.0),
        ("upper_lip_height", "sn-sto", 1.0),
        ("eye_length", "en-ex", 0.96),
        ("nose_protrusion", "sn-prn", 0.87),
        # Side effects, which are part of the known truth.
        ("intercanthal", "ex-ex", 1.0),
        ("face_width", "go-go", 0.5),
        ("face_width", "zy-zy", 1.0),
        ("lower_face_height", "sn-sto", 0.55),
    ],
)
def test_a_parameter_moves_its_distance_by_the_stated_slope(parameter, distance, slope):
    face = double()
    step = torch.zeros(2, 28, dtype=torch.float64)
    step[:, PARAMETERS.index(parameter)] = torch.tensor([-0.5, 0.5])
    wanted = [m for m in MEASUREMENTS if m.name == distance]
    low, high = measure(face.anatomy(neutral(face, step)), wanted)[:, 0].tolist()
    assert high - low == pytest.approx(slope, abs=0.02)


@given(st.integers(0, 10_000), st.floats(-2, 2), st.floats(-2, 2))
@settings(max_examples=15, deadline=None)
def test_identity_and_expression_superpose(seed, a, b):
    face = double(full=True)
    one, two = people(2, seed)[:1], people(2, seed)[1:]
    base = neutral(face)
    together = neutral(face, a * one + b * two) - base
    apart = a * (neutral(face, one) - base) + b * (neutral(face, two) - base)
    torch.testing.assert_close(together, apart, atol=1e-9, rtol=1e-9)
    still = torch.zeros(1, dtype=torch.float64)
    moved = face.pose(base, unit("smile", a) + unit("brow_raise", b), still) - base
    parts = a * (face.pose(base, unit("smile"), still) - base) + b * (face.pose(base, unit("brow_raise"), still) - base)
    torch.testing.assert_close(moved, parts, atol=1e-9, rtol=1e-9)


def test_size_scales_the_whole_face():
    face = double(full=True)
    parameters, log_size = people(3), torch.tensor([-0.06, 0.0, 0.09], dtype=torch.float64)
    sized = face.identity_vertices(parameters, log_size)
    torch.testing.assert_close(sized, neutral(face, parameters) * log_size.exp()[:, None, None])


def test_people_differ_without_opening_their_mouths():
    face = double(3)
    upper, lower = slit_pairs(face, 10)
    vertices = neutral(face, people(50, scale=2.0))
    assert (vertices[:, upper] - vertices[:, lower]).abs().max() < 1e-9


def test_eyeballs_keep_their_shape_and_follow_the_corners_of_the_eye():
    face = double()
    vertices = neutral(face, people(20))
    left = torch.nonzero((face.part == 1) & (face.vertices[:, 0] > 0))[:, 0]
    shift = vertices[:, left] - face.vertices[left]
    assert (shift - shift[:, :1]).abs().max() < 1e-9
    corners = (vertices - face.vertices)[:, [face.handles["en_l"], face.handles["ex_l"]]].mean(1)
    torch.testing.assert_close(shift[:, 0], corners, atol=1e-5, rtol=0)
    moved = face.pose(vertices, torch.ones(20, 16, dtype=torch.float64), torch.full((20,), 0.2, dtype=torch.float64))
    torch.testing.assert_close(moved[:, left], vertices[:, left])


# ------------------------------------------------------------------------------------------------------------ folds


@pytest.mark.parametrize("points_per_cell", [2, 3, 4])
def test_expressions_and_jaw_fold_nothing(points_per_cell):
    face = double(points_per_cell, full=True)
    template = face.vertices[None].expand(16, -1, -1)
    assert not flipped(
        face, face.pose(template, torch.eye(16, dtype=torch.float64), torch.zeros(16, dtype=torch.float64))
    ).any()
    assert not flipped(face, face.pose(template[:1], torch.zeros(1, 16, dtype=torch.float64), angles(15))).any()


@pytest.mark.parametrize("sign", [-3.0, 3.0])
def test_single_parameters_fold_next_to_nothing_at_three_sd(sign):
    face = double(3, full=True)
    folds = flipped(face, neutral(face, sign * torch.diag(face.parameter_sd)))
    assert folds.double().mean(1).max() < 0.0014
    without = [i for i, name in enumerate(PARAMETERS) if (name, sign) != ("upper_lip_height", -3.0)]
    assert not folds[without].any()


def test_few_people_have_a_fold():
    face = double(3, full=True)
    folds = flipped(face, neutral(face, people(400, seed=1)))
    assert folds.any(1).double().mean() < 0.05
    assert folds.double().mean() < 5e-5


# ------------------------------------------------------------------------------------------------- jaw, mouth, lids


def test_jaw_turns_about_a_fixed_axis():
    face = double()
    axis = torch.tensor(JAW_AXIS, dtype=torch.float64)
    base = neutral(face)
    opened = face.pose(base, torch.zeros(1, 16, dtype=torch.float64), angles(14))[0]
    whole = face.jaw_weights > 1 - 1e-9
    before, after = (base[0, whole] - axis)[:, 1:], (opened[whole] - axis)[:, 1:]
    assert whole.sum() > 10
    torch.testing.assert_close(after.norm(dim=1), before.norm(dim=1))
    torch.testing.assert_close(opened[:, 0], base[0, :, 0])
    turned = torch.atan2(after[:, 1], after[:, 0]) - torch.atan2(before[:, 1], before[:, 0])
    turned = torch.remainder(turned + math.pi, 2 * math.pi) - math.pi
    torch.testing.assert_close(turned.abs(), torch.full_like(turned, math.radians(14)))
    upper = (face.grid[:, 0] < 8) | (face.part == 1)
    assert (opened[upper] - base[0, upper]).abs().max() < 0.5
    assert opened[face.handles["gn"], 1] < base[0, face.handles["gn"], 1] - 15


def test_linear_jaw_is_the_derivative():
    face = double()
    base, still = neutral(face, people(1)), torch.zeros(1, 16, dtype=torch.float64)
    linear = face.pose(base, still, angles(5), linear_jaw=True) - base
    torch.testing.assert_close(face.pose(base, still, angles(10), linear_jaw=True) - base, 2 * linear)
    tiny = torch.tensor([1e-6], dtype=torch.float64)
    torch.testing.assert_close((face.pose(base, still, tiny) - base) / 1e-6, linear / angles(5), atol=1e-3, rtol=0)


def test_slits_part_the_lips():
    face = double(3)
    upper, lower = slit_pairs(face, 10)
    base = neutral(face)
    assert (base[:, upper] - base[:, lower]).abs().max() == 0
    opened = face.pose(base, torch.zeros(1, 16, dtype=torch.float64), angles(12))
    gap = (opened[0, upper] - opened[0, lower])[:, 1]
    assert gap.min() > 1.0
    assert gap.max() > 12.0


def test_pressed_lips_seal_the_mouth_of_a_bilabial():
    face = double(3)
    upper, lower = slit_pairs(face, 10)
    pressed = face.pose(neutral(face), unit("lip_press", 0.8), angles(1))
    assert (pressed[0, upper] - pressed[0, lower])[:, 1].max() < 0.4


def test_eyes_close_for_all_but_a_few_people():
    face = double(3)
    upper, lower = slit_pairs(face, 4)
    parameters = people(500, seed=4)
    weights = unit("eye_close").expand(500, -1)
    shut = face.pose(neutral(face, parameters), weights, torch.zeros(500, dtype=torch.float64))
    gap = (shut[:, upper] - shut[:, lower])[..., 1]
    assert gap[:, :].mean(0).max() < -1.0
    assert (gap.max(1).values <= 0).double().mean() > 0.93
    open_gap = (face.vertices[upper] - face.vertices[lower])[:, 1]
    assert open_gap.min() > 4


@pytest.mark.parametrize("weight", [0.0, 0.3, 0.6, 1.0])
def test_lids_stay_in_front_of_the_eyeball(weight):
    face, parameters = double(3), people(500, seed=2)
    parameters[0] = 0  # the mean person: never; everybody: next to never
    vertices = face.pose(
        neutral(face, parameters), unit("eye_close", weight).expand(500, -1), torch.zeros(500, dtype=torch.float64)
    )
    lids = torch.as_tensor(lid_patch(*face.grid.nan_to_num(-99).numpy().T)) & (face.grid[:, 1] > 0)
    pole = torch.nonzero((face.part == 1) & (face.vertices[:, 0] > 0))[0, 0]
    centre = vertices[:, pole] - torch.tensor([0, 0, BALL_RADIUS], dtype=torch.float64)
    distance = (vertices[:, lids] - centre[:, None]).norm(dim=-1)
    assert distance[0].min() > BALL_RADIUS + 0.5
    assert (distance < BALL_RADIUS).double().mean() < 0.002


@pytest.mark.parametrize("points_per_cell", [2, 3, 4])
def test_a_closed_upper_lid_lies_over_the_lower_one(points_per_cell):
    face = double(points_per_cell)
    upper, lower = slit_pairs(face, 4)
    shut = face.pose(neutral(face), unit("eye_close"), angles(0))[0]
    row, column = face.grid.T
    for edge, start in zip(upper.tolist(), lower.tolist(), strict=True):
        under = torch.nonzero((row > 4) & (row < 5.01) & (column == column[edge]))[:, 0]
        profile = shut[[start, *under[row[under].argsort()].tolist()]].numpy()
        surface = np.interp(-float(shut[edge, 1]), -profile[:, 1], profile[:, 2])
        assert float(shut[edge, 2]) > surface + 0.1


def test_closing_the_eyes_moves_only_the_lids():
    face = head(3)
    moved = face.expression_basis[..., EXPRESSION_UNITS.index("eye_close")].abs().amax(1) > 0
    assert face.regions["eyes"][moved].all()


def test_lip_set_holds_the_motion_of_the_lips_and_the_upper_face_none_of_the_jaw():
    face = double(3)
    assert face.regions["lips"].sum() > 50
    assert not (face.regions["lips"] & face.regions["upper_face"]).any()
    assert face.jaw_weights[face.regions["upper_face"]].max() < 0.02
    rounding = face.expression_basis[..., EXPRESSION_UNITS.index("lip_round")].norm(dim=1)
    assert rounding[face.regions["lips"]].mean() > 20 * rounding[face.regions["upper_face"]].mean()


# --------------------------------------------------------------------------------------------- head parts, emotions


def test_hair_moves_no_measured_landmark_and_nothing_on_a_mask():
    face = double(full=True)
    zero, size = torch.zeros(1, 28, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    bald, haired = (
        face.identity_vertices(zero, size),
        face.identity_vertices(zero, size, torch.tensor([[15.0, 1.0]], dtype=torch.float64)),
    )
    assert (bald - haired).norm(dim=-1).max() > 14
    before, after = face.anatomy(bald), face.anatomy(haired)
    torch.testing.assert_close(measure(before), measure(after))
    assert head(2).hair_basis.abs().max() == 0


def test_parts_ride_on_the_skin():
    face = double(full=True)
    wider = torch.zeros(1, 28, dtype=torch.float64)
    wider[0, PARAMETERS.index("face_width")] = 10.0
    shift = (neutral(face, wider) - neutral(face))[0]
    ear = (face.part == face.part_names.index("ear")) & (face.vertices[:, 0] > 0)
    torch.testing.assert_close(shift[ear], shift[face.handles["t_l"]].expand(int(ear.sum()), 3))
    opened = (face.pose(neutral(face), torch.zeros(1, 16, dtype=torch.float64), angles(15)) - neutral(face))[0]
    assert opened[ear].abs().max() == 0
    teeth = face.part == face.part_names.index("teeth")
    assert set(face.jaw_weights[teeth].tolist()) == {0.0, 1.0}
    back = (face.part == face.part_names.index("cranium")) & (face.vertices[:, 2] < -130) & (face.vertices[:, 1] > -60)
    assert opened[back].norm(dim=-1).max() < 1.0


def test_emotions_differ_and_grow_with_intensity():
    weights = torch.stack([emotion_pose(name)[0] for name in EMOTIONS])
    assert weights[0].abs().sum() == 0
    assert torch.cdist(weights, weights)[~torch.eye(8, dtype=torch.bool)].min() > 0.2
    half, jaw = emotion_pose("surprise", 0.5)
    torch.testing.assert_close(half, emotion_pose("surprise")[0] / 2)
    assert jaw == pytest.approx(math.radians(4))
    assert emotion_pose("sad")[0][EXPRESSION_UNITS.index("brow_raise_inner")] > 0


def test_morphable_model_is_the_same_face():
    pytest.importorskip("paper_utils.mesh.morphable")
    face = head(2)
    model = face.morphable()
    coefficients = torch.randn(2, 28, generator=torch.Generator().manual_seed(0))
    expression = torch.rand(2, 16, generator=torch.Generator().manual_seed(1))
    direct = face.pose(
        face.identity_vertices(coefficients * face.parameter_sd, torch.zeros(2)), expression, torch.zeros(2)
    )
    torch.testing.assert_close(model.vertices(coefficients, expression), direct, atol=1e-3, rtol=0)


def test_faces_are_differentiable():
    face = double()
    chosen = list(face.handles.values())[::9]
    parameters = people(1).requires_grad_()
    size = torch.tensor([0.02], dtype=torch.float64, requires_grad=True)
    expression = torch.full((1, 16), 0.3, dtype=torch.float64, requires_grad=True)
    jaw = angles(6).requires_grad_()

    def landmarks(p, s, e, j):
        return face.pose(face.identity_vertices(p, s), e, j)[:, chosen]

    assert torch.autograd.gradcheck(landmarks, (parameters, size, expression, jaw), atol=1e-4)


def test_precision_follows_the_head():
    face = head(2)
    assert face.identity_vertices(torch.zeros(1, 28), torch.zeros(1)).dtype == torch.float32
    assert face.to(torch.float64).vertices.dtype == torch.float64
    assert face.to(torch.float64).faces.dtype == torch.int64


# ----------------------------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize("points_per_cell", [1, 0, -3])
def test_resolution_below_two_is_refused(points_per_cell):
    with pytest.raises(ValueError, match="points_per_cell: expected a whole number from 2 up"):
        head(points_per_cell)


def test_wrong_lengths_and_nan_are_refused():
    face, zero = head(2), torch.zeros(1)
    with pytest.raises(ValueError, match=r"parameters: .*NaN or infinite"):
        face.identity_vertices(torch.full((1, 28), torch.nan), zero)
    with pytest.raises(ValueError, match="log_size: expected one finite number for each of 1 people"):
        face.identity_vertices(torch.zeros(1, 28), torch.tensor([torch.inf]))
    base = face.vertices[None]
    with pytest.raises(ValueError, match=r"expression: .*NaN or infinite"):
        face.pose(base, torch.full((1, 16), torch.nan), zero)
    with pytest.raises(ValueError, match="jaw: expected one finite angle"):
        face.pose(base, torch.zeros(1, 16), torch.tensor([torch.nan]))
    with pytest.raises(ValueError, match="neutral: expected"):
        face.pose(head(3).vertices[None], torch.zeros(1, 16), zero)


def test_unknown_emotion_and_negative_intensity_are_refused():
    with pytest.raises(ValueError, match="emotion: expected one of neutral, happy"):
        emotion_pose("bored")
    with pytest.raises(ValueError, match="intensity: expected a finite number from 0 up"):
        emotion_pose("happy", -0.1)
