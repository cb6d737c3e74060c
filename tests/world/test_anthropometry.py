"""Measurements against hand-made landmark tables, their invariances, and the known effect of the head's parameters on them."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paper_utils.world import anthropometry as am
from paper_utils.world.face import PARAMETERS, head


def table(**points: tuple[float, float, float]) -> dict[str, torch.Tensor]:
    return {name: torch.tensor([point], dtype=torch.float64) for name, point in points.items()}


def one(landmarks: dict[str, torch.Tensor], wanted: am.Measurement) -> float:
    return float(am.measure(landmarks, [wanted])[0, 0])


def faces(count: int = 8, seed: int = 0) -> dict[str, torch.Tensor]:
    face = head(2).to(torch.float64)
    parameters = (
        torch.randn(count, 28, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * face.parameter_sd
    )
    return face.anatomy(face.identity_vertices(parameters, torch.zeros(count, dtype=torch.float64)))


# ------------------------------------------------------------------------------------------------------ exact values


def test_distance_ratio_and_angle_by_hand():
    landmarks = table(n=(0, 0, 0), gn=(0, -12, 5), zy_l=(26, 0, 0), zy_r=(-26, 0, 0), gl=(0, 1, 0), prn=(0, 0, 3))
    assert one(landmarks, am.measurement("n-gn")) == pytest.approx(13)
    assert one(landmarks, am.measurement("n-gn/zy-zy")) == pytest.approx(25)
    assert one(landmarks, am.measurement("gl-n-prn")) == pytest.approx(90)


def test_sides_are_left_right_or_their_mean():
    landmarks = table(en_l=(1, 0, 0), ex_l=(4, 0, 0), en_r=(-1, 0, 0), ex_r=(-6, 0, 0))
    assert [one(landmarks, am.measurement(f"en-ex{side}")) for side in (" left", " right", "")] == [3, 5, 4]


def test_tilt_is_positive_when_the_outer_corner_is_higher_on_both_sides():
    landmarks = table(en_l=(10, 0, 0), ex_l=(20, 10, -5), en_r=(-10, 0, 0), ex_r=(-20, 10, -5))
    tilt = am.ANGLES[[m.name for m in am.ANGLES].index("canthal tilt")]
    assert one(landmarks, tilt) == pytest.approx(45)
    down = {name: point * torch.tensor([1, -1, 1]) for name, point in landmarks.items()}
    assert one(down, tilt) == pytest.approx(-45)


def test_taper_is_the_angle_of_the_cheek_to_jaw_line_against_the_vertical():
    landmarks = table(zy_l=(60, 0, 0), zy_r=(-60, 0, 0), go_l=(50, -10, 0), go_r=(-50, -10, 0))
    assert one(landmarks, am.ANGLES[-1]) == pytest.approx(45)


def test_any_names_serve_as_landmarks():
    numbered = table(**{"31": (0, 0, 1), "32": (1, 0, 0), "38": (-1, 0, 0)})
    assert one(numbered, am.Measurement("13", "distance", (("32", "38"),))) == 2
    assert one(numbered, am.Measurement("89", "angle", (("32", "31", "38"),))) == pytest.approx(90)


def test_names_are_unique_and_counts_are_those_stated():
    names = [m.name for m in am.MEASUREMENTS]
    assert len(set(names)) == len(names)
    assert (len(am.DISTANCES), len(am.RATIOS), len(am.ANGLES)) == (30, 12, 8)
    assert len(am.PAPER_10) == 33
    assert {m.kind for m in am.PAPER_10.values()} == {"distance", "ratio", "angle"}


# ------------------------------------------------------------------------------------------------------- properties


@given(st.integers(0, 1000), st.floats(0.5, 2.0), st.floats(-3, 3), st.floats(-50, 50))
@settings(max_examples=20, deadline=None)
def test_moving_and_turning_changes_nothing_and_size_only_distances(seed, size, angle, shift):
    landmarks = faces(2, seed)
    kept = [m for m in am.MEASUREMENTS if m.kind not in ("tilt", "taper")]  # these two are read against the axes
    turn = torch.linalg.matrix_exp(
        angle * torch.tensor([[0, -0.3, 0.5], [0.3, 0, -0.8], [-0.5, 0.8, 0]], dtype=torch.float64)
    )
    moved = {name: size * point @ turn.T + shift for name, point in landmarks.items()}
    factor = torch.tensor([size if m.kind == "distance" else 1.0 for m in kept], dtype=torch.float64)
    torch.testing.assert_close(am.measure(moved, kept), am.measure(landmarks, kept) * factor, rtol=1e-7, atol=1e-7)


def test_distances_scale_with_the_exponential_of_log_size():
    face = head(2).to(torch.float64)
    sizes = torch.tensor([-0.1, 0.0, 0.1], dtype=torch.float64)
    values = am.measure(face.anatomy(face.identity_vertices(torch.zeros(3, 28, dtype=torch.float64), sizes)))
    for m, column in zip(am.MEASUREMENTS, values.T, strict=True):
        wanted = column[1] * (sizes.exp() if m.kind == "distance" else 1)
        torch.testing.assert_close(column, wanted.expand(3), msg=m.name)


def test_a_mirror_image_swaps_left_and_right_only():
    landmarks = faces(4)
    swapped = {}
    for name, point in landmarks.items():
        other = name[:-2] + {"_l": "_r", "_r": "_l"}[name[-2:]] if name[-2:] in ("_l", "_r") else name
        swapped[other] = point * torch.tensor([-1.0, 1, 1])
    torch.testing.assert_close(am.measure(swapped), am.measure(landmarks))


def test_all_measurements_of_people_are_finite_and_plausible():
    values = am.measure(faces(500, seed=5))
    assert values.isfinite().all()
    for m, column in zip(am.MEASUREMENTS, values.T, strict=True):
        assert column.std() > 0.3, m.name
        if m.kind in ("distance", "ratio"):
            assert column.min() > 0, m.name
    assert am.measure(faces(3), list(am.PAPER_10.values())).shape == (3, 33)


def test_the_effect_of_a_parameter_on_a_measurement_is_in_its_gradient():
    face = head(2).to(torch.float64)
    parameters = torch.zeros(1, 28, dtype=torch.float64, requires_grad=True)
    values = am.measure(
        face.anatomy(face.identity_vertices(parameters, torch.zeros(1, dtype=torch.float64))), [am.measurement("al-al")]
    )
    (slope,) = torch.autograd.grad(values.sum(), parameters)
    wanted = torch.zeros(28, dtype=torch.float64)
    wanted[PARAMETERS.index("nose_width")] = 1.0
    torch.testing.assert_close(slope[0], wanted, atol=1e-6, rtol=0)


def test_landmark_noise_gives_the_predicted_error_of_a_distance():
    landmarks = {name: point.expand(20_000, 3) for name, point in faces(1).items()}
    noisy = am.noisy_landmarks(landmarks, 0.5, torch.Generator().manual_seed(0))
    error = am.measure(noisy, [am.measurement("n-gn")]) - am.measure(landmarks, [am.measurement("n-gn")])
    assert float(error.std()) == pytest.approx(0.5 * math.sqrt(2), rel=0.03)
    again = am.noisy_landmarks(landmarks, 0.5, torch.Generator().manual_seed(0))
    assert all(torch.equal(again[name], noisy[name]) for name in noisy)
    untouched = am.noisy_landmarks(landmarks, 0.0)
    assert all(torch.equal(untouched[name], landmarks[name]) for name in landmarks)


# ----------------------------------------------------------------------------------------------- degenerate, faults


def test_ratio_without_denominator_and_angle_without_direction_are_nan():
    same = table(n=(0, 0, 0), gn=(0, -1, 0), zy_l=(5, 0, 0), zy_r=(5, 0, 0), gl=(0, 0, 0), prn=(0, 0, 1))
    assert math.isnan(one(same, am.measurement("n-gn/zy-zy")))
    assert math.isnan(one(same, am.measurement("gl-n-prn")))
    assert one(same, am.measurement("zy-zy")) == 0


def test_straight_and_folded_angles_are_exact_enough_and_have_a_gradient():
    straight = table(gl=(0, 1, 0), n=(0, 0, 0), prn=(0, -1, 0))
    assert one(straight, am.measurement("gl-n-prn")) == pytest.approx(180, abs=1e-4)
    point = straight["prn"].clone().requires_grad_()
    am.measure({**straight, "prn": point}, [am.measurement("gl-n-prn")]).sum().backward()
    assert point.grad.isfinite().all()


@pytest.mark.parametrize("text", ["n", "n-", "n-gn-sn-prn", "n/gn", "en-ex middle", ""])
def test_unreadable_notation_is_refused(text):
    with pytest.raises(ValueError, match="text: expected 'n-gn'"):
        am.measurement(text)


def test_unfit_measurements_are_refused():
    with pytest.raises(ValueError, match="kind must be one of distance"):
        am.Measurement("x", "area", (("a", "b"),))
    with pytest.raises(ValueError, match="angle needs 3 landmarks"):
        am.Measurement("x", "angle", (("a", "b"),))
    with pytest.raises(ValueError, match="only a ratio"):
        am.Measurement("x", "distance", (("a", "b"),), (("c", "d"),))
    with pytest.raises(ValueError, match="only a ratio"):
        am.Measurement("x", "ratio", (("a", "b"),))


def test_missing_nan_and_misshapen_landmarks_are_refused():
    with pytest.raises(ValueError, match=r"landmarks: gn missing; the table has n$"):
        am.measure(table(n=(0, 0, 0)), [am.measurement("n-gn")])
    with pytest.raises(ValueError, match="gn holds NaN"):
        am.measure(table(n=(0, 0, 0), gn=(0, math.nan, 0)), [am.measurement("n-gn")])
    with pytest.raises(ValueError, match="none given"):
        am.measure(table(n=(0, 0, 0)), [])
    with pytest.raises(ValueError, match="sd_mm: expected"):
        am.noisy_landmarks(table(n=(0, 0, 0)), -1.0)
