"""300W-LP and AFLW2000-3D: folders and parameter files in the official format, and the official formula for the projected mesh."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from mesh.model_writers import planted, write_3ddfa
from numpy.testing import assert_allclose
from PIL import Image

from paper_utils.data import fitted_faces
from paper_utils.data.face_images import ImageError
from paper_utils.mesh.bfm_files import deviations_3ddfa, read_3ddfa
from paper_utils.metrics.faces_3d import nme_by_yaw


def parameters(seed: int = 0, yaw: float = 0.4, **changes: np.ndarray | None) -> dict[str, np.ndarray]:
    """Arrays of a file of 300W-LP with their official shapes and types."""
    rng = np.random.default_rng(seed)
    arrays = {
        "pt2d": rng.uniform(100, 350, (2, 68)),
        "roi": np.array([[80, 90, 400, 410]], dtype=np.int16),
        "Pose_Para": np.array([[0.1, yaw, -0.2, 220.0, 210.0, -80.0, 1e-3]], dtype=np.float32),
        "Shape_Para": rng.normal(0, 1e5, (199, 1)),
        "Exp_Para": rng.normal(0, 1, (29, 1)),
        "Tex_Para": rng.normal(0, 1, (199, 1)),
        "Illum_Para": rng.uniform(0, 1, (1, 10)),
        "Color_Para": rng.uniform(0, 1, (1, 7)),
    }
    return {name: value for name, value in (arrays | changes).items() if value is not None}


def write_picture(path: Path, **arrays: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (45, 45, 3)).astype(np.uint8)).save(path)
    scipy.io.savemat(path.with_suffix(".mat"), arrays)


@pytest.fixture
def w300lp(tmp_path) -> Path:
    root = tmp_path / "300W_LP"
    for seed, name in enumerate(
        ("AFW/AFW_134212_1_0", "AFW/AFW_134212_1_1", "AFW/AFW_5_0", "AFW_Flip/AFW_5_0", "IBUG/IBUG_image_003_1_0")
    ):
        write_picture(root / f"{name}.jpg", **parameters(seed))
    points = root / "landmarks/AFW/AFW_134212_1_0_pts.mat"
    points.parent.mkdir(parents=True)
    scipy.io.savemat(points, {"pts_2d": np.full((68, 2), 7.0), "pts_3d": np.full((68, 2), 8.0)})
    return root


def test_variants_of_a_photograph_are_one_video(w300lp) -> None:
    faces = fitted_faces.read_300wlp(w300lp, sets=("AFW", "IBUG"))
    assert faces.photo_names == ("AFW/AFW_134212_1", "AFW/AFW_5", "IBUG/IBUG_image_003_1")
    assert faces.video.tolist() == [0, 0, 1, 2]
    assert faces.skipped == ()
    both = fitted_faces.read_300wlp(w300lp, sets=("AFW",), flipped=True) if (w300lp / "AFW_Flip").is_dir() else None
    assert both.photo_names == ("AFW/AFW_134212_1", "AFW/AFW_5", "AFW_Flip/AFW_5")


def test_parameters_are_read_as_they_are_stored(w300lp) -> None:
    faces = fitted_faces.read_300wlp(w300lp, sets=("AFW",))
    stored, found = parameters(1), faces.parameters(1)
    assert_allclose(found.pose, stored["Pose_Para"][0])
    assert_allclose(found.shape, stored["Shape_Para"][:, 0])
    assert_allclose(found.expression, stored["Exp_Para"][:, 0])
    assert_allclose(found.landmarks, stored["pt2d"].T)
    assert (found.roi.tolist(), found.landmarks_3d) == ([80, 90, 400, 410], None)
    assert found.yaw_degrees == pytest.approx(np.rad2deg(0.4), rel=1e-6)


def test_landmarks_come_from_their_folder_if_they_are_there(w300lp) -> None:
    faces = fitted_faces.read_300wlp(w300lp, sets=("AFW",))
    assert (faces.landmarks(0) == 7).all()
    assert_allclose(faces.landmarks(1), parameters(1)["pt2d"].T)
    scipy.io.savemat(w300lp / "landmarks/AFW/AFW_134212_1_0_pts.mat", {"pts_2d": np.zeros((21, 2))})
    with pytest.raises(ValueError, match=r"pts\.mat: expected pts_2d \(68, 2\) .* found \(21, 2\)"):
        faces.landmarks(0)


def official(arrays: dict[str, np.ndarray], model: dict[str, np.ndarray], height: int) -> np.ndarray:
    """3DDFA's and face3d's public formula, written out from the file's own arrays (micrometres, deviations not used)."""
    vertices = (
        model["shapeMU"]
        + model["expMU"]
        + model["shapePC"] @ arrays["Shape_Para"]
        + model["expPC"] @ arrays["Exp_Para"]
    )
    pitch, yaw, roll = arrays["Pose_Para"][0, :3].astype(float)
    c, s = np.cos, np.sin
    rx = np.array([[1, 0, 0], [0, c(pitch), s(pitch)], [0, -s(pitch), c(pitch)]])
    ry = np.array([[c(yaw), 0, -s(yaw)], [0, 1, 0], [s(yaw), 0, c(yaw)]])
    rz = np.array([[c(roll), s(roll), 0], [-s(roll), c(roll), 0], [0, 0, 1]])
    image = arrays["Pose_Para"][0, 6] * vertices.reshape(-1, 3) @ (rx @ ry @ rz).T + arrays["Pose_Para"][0, 3:6]
    image[:, 1] = height - image[:, 1] - 1
    return image


@pytest.fixture
def fitted(tmp_path):
    """A tiny 3DDFA model, one picture's parameters for it, and the official result."""
    path = write_3ddfa(tmp_path, planted(symmetric=False))
    stored = scipy.io.loadmat(path)["model"][0, 0]
    model = {name: stored[name].astype(np.float64) for name in ("shapeMU", "expMU", "shapePC", "expPC")}
    rng = np.random.default_rng(5)
    arrays = parameters(Shape_Para=rng.normal(0, 300, (4, 1)), Exp_Para=rng.normal(0, 1, (3, 1)))
    found = fitted_faces.FittedParameters(
        arrays["Pose_Para"][0].astype(float),
        arrays["Shape_Para"][:, 0],
        arrays["Exp_Para"][:, 0],
        None,
        None,
        None,
        None,
        None,
        None,
    )
    return found, read_3ddfa(path, dtype=torch.float64), deviations_3ddfa(path), official(arrays, model, 450)


def test_projected_mesh_is_that_of_the_official_formula(fitted) -> None:
    found, model, deviations, expected = fitted
    assert np.ptp(expected[:, :2]) > 50
    assert_allclose(fitted_faces.fitted_vertices(found, model, deviations, 450), expected, atol=1e-3)


def test_camera_sees_the_fitted_shape_where_the_official_formula_does(fitted) -> None:
    found, model, deviations, expected = fitted
    shape = torch.from_numpy(fitted_faces.fitted_shape(found, model, deviations))
    points = fitted_faces.camera_of(found, 450).project(shape[None])[0]
    assert_allclose(points[:, :2], expected[:, :2] + 0.5, atol=1e-3)  # pixel centres at halves
    # Depth: ours grows away from the camera and is in mm, theirs comes forward in pixels and has a shift.
    assert_allclose(-points[:, 2] * found.pose[6] * 1000 + found.pose[5], expected[:, 2], atol=1e-3)


def test_parameters_of_another_model_are_refused(fitted) -> None:
    found, model, deviations, _ = fitted
    with pytest.raises(ValueError, match="are for 4 identity and 3 expression directions, the model has 2 and 3"):
        fitted_faces.fitted_shape(found, model.truncated(2, 3), deviations)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Pose_Para": None, "Exp_Para": None}, "lacks Pose_Para, Exp_Para"),
        ({"Shape_Para": np.zeros((80, 1))}, r"Shape_Para of shape \(199, 1\).*found \(80, 1\)"),
        ({"Pose_Para": np.full((1, 7), np.nan)}, "Pose_Para"),
    ],
)
def test_wrong_parameter_files_are_named(changes, message, tmp_path) -> None:
    scipy.io.savemat(tmp_path / "face_0.mat", parameters(**changes))
    with pytest.raises(ValueError, match=rf"face_0\.mat.*{message}"):
        fitted_faces.read_parameters(tmp_path / "face_0.mat")


def test_damaged_files_are_named(w300lp) -> None:
    faces = fitted_faces.read_300wlp(w300lp, sets=("AFW",))
    for suffix in (".jpg", ".mat"):
        path = Path(faces.where(2)).with_suffix(suffix)
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ImageError, match=r"AFW_5_0\.jpg"):
        faces.pixels(2)
    with pytest.raises(ValueError, match=r"AFW_5_0\.mat: no file of MATLAB 5 format"):
        faces.parameters(2)


def test_what_does_not_belong_is_listed(w300lp) -> None:
    (w300lp / "AFW/AFW_5_0.mat").unlink()
    (w300lp / "AFW/Code.zip").write_bytes(b"x")
    scipy.io.savemat(w300lp / "AFW/AFW_9_0.mat", parameters())
    faces = fitted_faces.read_300wlp(w300lp, sets=("AFW",))
    assert faces.skipped == (
        "AFW/AFW_5_0.jpg (no .mat beside it)",
        "AFW/AFW_9_0.mat (no picture beside it)",
        "AFW/Code.zip",
    )
    with pytest.raises(FileNotFoundError, match="no folder HELEN, LFPW"):
        fitted_faces.read_300wlp(w300lp)
    with pytest.raises(ValueError, match="expected some of AFW, HELEN, IBUG, LFPW, found COFW"):
        fitted_faces.read_300wlp(w300lp, sets=("COFW",))


def test_aflw2000_is_read_with_its_points_in_space_and_its_yaw_bins(tmp_path) -> None:
    root = tmp_path / "AFLW2000"
    for number, yaw in enumerate((0.0, -0.5, 0.53, 1.0, -1.4), 1):
        write_picture(
            root / f"image{number:05d}.jpg", **parameters(number, yaw, pt3d_68=np.full((3, 68), float(number)))
        )
    (root / "Code").mkdir()
    faces = fitted_faces.read_aflw2000(root)
    assert len(faces) == 5
    assert faces.video.tolist() == [0, 1, 2, 3, 4]
    assert (faces.parameters(2).landmarks_3d == 3).all()
    bins = nme_by_yaw(torch.ones(5), torch.from_numpy(faces.yaw_degrees()).float())
    assert bins.counts == (2, 2, 1)  # 0.5 radians are 28.6 degrees, 0.53 are 30.4
    with pytest.raises(ValueError, match=r"no picture image#####\.jpg"):
        fitted_faces.read_aflw2000(root / "Code")
