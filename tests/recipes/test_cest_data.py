"""CEST on real data: from folders in the official layouts to batches, a training step, and the errors on AFLW2000-3D and MICC Florence."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from mesh.model_writers import planted, write_3ddfa
from numpy.testing import assert_allclose
from PIL import Image

from paper_utils import experiment, training
from paper_utils.data import fitted_faces, florence
from paper_utils.mesh.cameras import ScaledOrthographic
from paper_utils.mesh.morphable import MorphableModel, save_model
from paper_utils.methods import cest
from paper_utils.recipes import cest as recipe
from paper_utils.recipes import cest_data
from paper_utils.studies import cest as study
from paper_utils.world.face import head

SIZE, UV = 32, 16
TINY = dataclasses.replace(
    cest.QUICK, image_size=SIZE, light_size=16, encoder=(8, 8, 8), unet=(8, 8), light=(8, 8, 8)
)  # fmt: skip


@pytest.fixture(scope="module")
def model() -> MorphableModel:
    return head(2).morphable()


@pytest.fixture(scope="module")
def space(model) -> cest.FaceSpace:
    return cest_data.face_space(model, uv_size=UV)


def seen(model: MorphableModel, yaw: float, scale: float, place: tuple[float, float]) -> np.ndarray:
    """Landmarks of the mean face in a picture, the centre of the corner pixel at (0, 0)."""
    camera = ScaledOrthographic(
        torch.tensor([[0.0, yaw, 0.0]]), torch.tensor([scale]), torch.tensor([place], dtype=torch.float32)
    )
    return camera.project(model.landmark_points(model.mean[None]))[0, :, :2].double().numpy() - 0.5


def write_frame(path: Path, points: np.ndarray | None, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (12, 15, 3)).astype(np.uint8)
    Image.fromarray(pixels).resize((150, 120), Image.Resampling.BICUBIC).save(path)
    if points is not None:
        np.save(path.with_suffix(".npy"), points)


@pytest.fixture
def voxceleb(tmp_path, model) -> Path:
    """Two videos of two frames, a video of one, and the face model."""
    for video, frames in (("A/1.6/v/1", 2), ("A/1.6/v/2", 2), ("B/1.6/w/1", 1)):
        for frame in range(frames):
            points = seen(model, 0.3 * frame, 0.5, (70 + 5 * frame, 60))
            write_frame(tmp_path / f"unzippedIntervalFaces/data/{video}/{frame:07d}.jpg", points, frame)
    save_model(model, tmp_path / "model.npz")
    return tmp_path


# ------------------------------------------------------------------------------------------------------------ the face


def test_cylindrical_uv_of_mirrored_points_is_mirrored() -> None:
    points = torch.from_numpy(np.random.default_rng(0).normal(0, 50, (40, 3)))
    both = torch.cat((points, points * torch.tensor([-1.0, 1.0, 1.0])))
    u, v = cest_data.cylindrical_uv(both).unbind(1)
    assert_allclose(u[40:], 1 - u[:40], atol=1e-12)
    assert_allclose(v[40:], v[:40])
    assert ((u > 0) & (u < 1) & (v > 0) & (v < 1)).all()
    top = both[:, 1].argmax()
    assert v[top] == v.min()  # v runs down


def test_a_basel_model_without_symmetry_gets_a_map_that_a_flip_mirrors(tmp_path) -> None:
    write_3ddfa(tmp_path, planted(symmetric=False))
    found = cest_data.find_model(tmp_path)
    assert found.mirror is None
    space = cest_data.face_space(found, uv_size=UV)
    maps = torch.rand(2, 3, UV, UV)
    assert torch.equal(space.mirrored(maps), maps.flip(-1))


def test_a_symmetric_model_keeps_its_own_map(space, model) -> None:
    assert type(space) is cest.FaceSpace
    assert torch.equal(space.model.uv, model.uv)


def test_without_a_face_model_it_says_what_was_looked_for(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=r"looked for BFM\.mat, BFM_model_front\.mat, model\.npz"):
        cest_data.find_model(tmp_path)


# ----------------------------------------------------------------------------------------------------------- the light


def test_stored_levels_come_back_from_linear_light() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
    light = cest_data.linear_light(pixels)
    assert (float(light.min()), float(light.max())) == (-1.0, 1.0)
    assert_allclose((light[0, 11, 12] + 1) / 2, ((188 / 255 + 0.055) / 1.055) ** 2.4, rtol=1e-6)
    back = cest_data.stored_levels((light + 1) / 2).permute(1, 2, 0).numpy()
    assert np.array_equal(back, pixels)


# ---------------------------------------------------------------------------------------------------------- the frames


@pytest.mark.parametrize(("scale", "place"), [(0.5, (70.0, 60.0)), (0.9, (60.0, 70.0)), (0.35, (90.0, 50.0))])
def test_a_mean_face_seen_from_the_front_lands_where_the_mean_viewpoint_has_it(scale, place, tmp_path, space) -> None:
    write_frame(tmp_path / "data/p/1.6/v/1/0000001.jpg", seen(space.model, 0.0, scale, place))
    frames = cest_data.video_frames.read_frames(tmp_path)
    batch = cest_data.FaceFrames(frames, space, SIZE).take(torch.tensor([0]))
    expected = space.camera(torch.zeros(1, 7), SIZE).project(space.model.landmark_points(space.model.mean[None]))
    assert_allclose(batch.landmarks, expected[..., :2], atol=2e-4)


def test_batches_come_from_the_folders(voxceleb) -> None:
    source = cest_data.load("voxceleb", voxceleb, size=SIZE, uv_size=UV)
    assert source.video.tolist() == [0, 0, 1, 1]
    assert source.frames.skipped == ("data/B/1.6/w/1 (1 frames)",)
    batch = source.take(torch.tensor([3, 0]))
    assert batch.images.shape == (2, 3, SIZE, SIZE)
    assert batch.video.tolist() == [1, 0]
    assert torch.equal(batch.images[1], source.take(torch.tensor([0])).images[0])
    assert source.fingerprint != cest_data.load("voxceleb", voxceleb, size=2 * SIZE, uv_size=UV).fingerprint


def test_the_speakers_table_is_used_if_it_is_there(voxceleb) -> None:
    (voxceleb / "vox1_meta.csv").write_text(
        "VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet\nid10001\tB\tm\tIreland\tdev\nid10002\tC\tm\tIndia\tdev\n"
    )
    with pytest.raises(ValueError, match="expected videos of at least 2 frames"):
        cest_data.load("voxceleb", voxceleb)


def test_training_runs_on_the_folders(voxceleb) -> None:
    source = cest_data.load("voxceleb", voxceleb, size=SIZE, uv_size=UV)
    estimator = cest.Estimator(source.space, TINY, seed=0)
    config = cest.TrainConfig(steps=2, warm_up=1, videos=2, frames=2, lr=1e-3)
    fabric = training.launch("cpu", "32-true", 1, 1)
    history = cest.train(fabric, estimator, source, cest.Objective(), config, seed=0)
    assert all(np.isfinite(values).all() for values in history.values())
    assert len(history["photometric"]) == 2


def test_the_studys_trainings_run_on_real_data_and_leave_networks_behind(voxceleb, space) -> None:
    exp = experiment.start("07", profile="smoke", data="voxceleb", data_root=str(voxceleb))
    calls = study.trainings(exp)
    assert list(calls) == ["CEST", "independent", "without symmetry", "without consistency", "neither"]
    fabric = training.launch("cpu", "32-true", 1, 1)
    first = calls["CEST"](fabric)
    assert np.isfinite(first).all()
    assert np.array_equal(calls["CEST"](fabric), first)  # from the cache
    path = recipe.model_path("voxceleb", "smoke")
    assert cest.load(path, cest_data.face_space(space.model, uv_size=16)).config.conditional
    assert not np.array_equal(calls["without consistency"](fabric), first)
    with pytest.raises(ValueError, match=r"expected one of CEST, .* found 'cest'"):
        recipe.trained(exp, "cest", fabric)


def test_faults_name_the_frame(voxceleb) -> None:
    source = cest_data.load("voxceleb", voxceleb, size=SIZE, uv_size=UV)
    path = Path(source.frames.where(1))
    np.save(path.with_suffix(".npy"), np.full((68, 2), 5.0))
    with pytest.raises(ValueError, match=r"0000001\.jpg: .*coincide"):
        source.take(torch.tensor([0, 1]))
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError, match=r"0000001\.jpg: not a whole JPEG"):
        source.take(torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="expected one of voxceleb, 300w_lp, found 'lfw'"):
        cest_data.find_frames("lfw", voxceleb)


# ---------------------------------------------------------------------------------------------------------- evaluation


def write_fitted(path: Path, yaw: float, points: np.ndarray, seed: int = 0) -> None:
    write_frame(path, None, seed)
    pose = np.array([[0, yaw, 0, 70, 60, 0, 5e-4]], dtype=np.float32)
    zeros = {"Shape_Para": np.zeros((199, 1)), "Exp_Para": np.zeros((29, 1))}
    scipy.io.savemat(path.with_suffix(".mat"), {"Pose_Para": pose, "pt2d": points.T, **zeros})


def test_fitted_photographs_can_be_trained_on(tmp_path, model) -> None:
    for name in ("AFW/a_1_0", "AFW/a_1_1", "HELEN/b_0", "IBUG/c_0", "LFPW/d_0"):
        write_fitted(tmp_path / f"300W_LP/{name}.jpg", 0.0, seen(model, 0.2, 0.5, (70, 60)))
    save_model(model, tmp_path / "model.npz")
    source = cest_data.load("300w_lp", tmp_path, size=SIZE, uv_size=UV)
    assert source.video.tolist() == [0, 0, 1, 2, 3]
    assert torch.isfinite(source.take(torch.arange(5)).landmarks).all()


def test_an_estimator_that_says_the_mean_is_right_about_mean_faces_only(tmp_path, space) -> None:
    model = space.model
    for number, (yaw, shown) in enumerate(((0.0, 0.0), (0.7, 0.0), (-1.3, -1.3)), 1):
        write_fitted(tmp_path / f"image{number:05d}.jpg", yaw, seen(model, shown, 0.5, (70, 60)), number)
    estimator = cest.Estimator(space, TINY, seed=0).eval()
    bins = recipe.aflw2000_errors(estimator, fitted_faces.read_aflw2000(tmp_path))
    assert bins.counts == (1, 1, 1)
    assert bins.means[0] < 0.01
    assert bins.means[1] < 0.01  # seen from the front although the file says otherwise: only the bin follows the file
    assert bins.means[2] > 10


def write_obj(path: Path, vertices: np.ndarray, faces: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = ["v {:.6f} {:.6f} {:.6f}".format(*row) for row in vertices] + [
        "f {} {} {}".format(*row) for row in faces + 1
    ]
    path.write_text("\n".join(rows))


def test_florence_is_evaluated_from_its_folders(tmp_path, space) -> None:
    model, root, marks = space.model, tmp_path / "micc", tmp_path / "landmarks"
    wide = model.mean.double().numpy() * (1.1, 1, 1)
    points = model.landmark_points(model.mean[None])[0].double().numpy()
    for subject, vertices, scale in ((1, model.mean.double().numpy(), 1.0), (2, wide, 1.1)):
        for view in florence.FRONTAL:
            place = f"subject_{subject:02d}/Model/{view}/obj/scan"
            write_obj(root / f"{place}.obj", vertices + 50, model.faces.numpy())
            group = {"landmarks": {"points": (points * (scale, 1, 1) + 50).tolist()}}
            (marks / place).parent.mkdir(parents=True, exist_ok=True)
            (marks / f"{place}.ljson").write_text(json.dumps({"groups": {"LJSON": group}}))
        for frame in range(6):
            picture = root / f"subject_{subject:02d}/Video/PTZ-Indoor/{frame:04d}.jpg"
            write_frame(picture, seen(model, 0.1 * frame, 0.5, (70, 60)), frame)
    estimator = cest.Estimator(space, TINY, seed=0).eval()
    found = florence.read_florence(root)
    errors = recipe.florence_errors(estimator, found.evaluated, "PTZ-Indoor", root=root, landmarks_root=marks)
    assert errors[0] < 1e-3  # the estimate is the mean face, and so is the first subject
    assert 0.3 < errors[1] < 5
    with pytest.raises(ValueError, match="subject 1 has no video 'PTZ-Outdoor'; it has PTZ-Indoor"):
        recipe.florence_errors(estimator, found.subjects, "PTZ-Outdoor", root=root, landmarks_root=marks)
