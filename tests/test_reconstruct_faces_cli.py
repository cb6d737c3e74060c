"""3D faces for one's own pictures: every kind of file has a defined result."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from mesh.model_writers import planted, write_3ddfa
from PIL import Image

from paper_utils import experiment
from paper_utils import reconstruct_faces as cli
from paper_utils.mesh.cameras import ScaledOrthographic
from paper_utils.mesh.model_files import read_model
from paper_utils.mesh.obj_files import read_obj
from paper_utils.methods import cest
from paper_utils.recipes import cest as recipe
from paper_utils.recipes import cest_data
from paper_utils.studies import cest as study

SIZE = 32
TINY = dataclasses.replace(cest.QUICK, image_size=SIZE, light_size=16, encoder=(8, 8, 8), unet=(8, 8), light=(8, 8, 8))


@pytest.fixture(scope="module")
def space() -> cest.FaceSpace:
    return study.face_space(study.scale(experiment.start("07")))


@pytest.fixture
def checkpoint(tmp_path, space):
    path = tmp_path / "model.safetensors"
    cest.save(cest.Estimator(space, TINY, seed=0), path)
    return path


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "pictures"
    place.mkdir()
    return place


def picture(width: int = 48, height: int = 48, mode: str = "RGB", seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3)).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode)


def run(folder, checkpoint, tmp_path, *more: str):
    """Exit code and the meshes written; untrained networks follow no face, so the check is off unless asked for."""
    out = tmp_path / "out"
    code = cli.main([str(folder), "--checkpoint", str(checkpoint), "--output", str(out), *(more or ("--force",))])
    return code, sorted(path.name for path in out.glob("*.obj")) if out.exists() else []


def test_a_mesh_for_each_picture_and_one_figure(folder, checkpoint, tmp_path, space, capsys):
    for name in ("ann.png", "bob.jpg"):
        picture(seed=len(name)).save(folder / name)
    assert run(folder, checkpoint, tmp_path) == (0, ["ann.obj", "bob.obj"])
    found = read_obj(tmp_path / "out/ann.obj")
    assert np.array_equal(found.triangles, space.model.faces.numpy())
    # Untrained networks say the mean face, in mm.
    np.testing.assert_allclose(found.vertices, space.model.mean.numpy(), atol=1e-3)
    with Image.open(tmp_path / "out/faces.png") as figure:
        assert figure.size[0] > 600
    shown = capsys.readouterr().out
    assert "ann.obj (48 x 48 pixels, resized to 32 x 32)" in shown
    assert "no measurement of a person" in shown


def test_vertices_carry_the_reflectance_and_what_is_no_skin_is_grey(folder, checkpoint, tmp_path, space):
    picture().save(folder / "ann.png")
    run(folder, checkpoint, tmp_path)
    rows = [line.split()[4:] for line in (tmp_path / "out/ann.obj").read_text().splitlines() if line.startswith("v ")]
    colours = np.array(rows, dtype=float)
    on_skin = np.zeros(len(colours), dtype=bool)
    on_skin[space.model.faces[space.skin].unique().numpy()] = True
    assert (colours[~on_skin] == 0.8).all()
    assert colours[on_skin].std() > 0.01


@pytest.mark.parametrize(
    ("mode", "note"),
    [("L", "grey: repeated in three channels"), ("RGBA", "transparency is left out"), ("LA", "grey: repeated in three channels; transparency is left out")],
)  # fmt: skip
def test_grey_and_transparent_pictures_are_converted_with_a_note(mode, note, folder, checkpoint, tmp_path, capsys):
    picture(SIZE, SIZE, mode).save(folder / "ann.png")
    assert run(folder, checkpoint, tmp_path) == (0, ["ann.obj"])
    assert f"ann.obj ({note})" in capsys.readouterr().out


def test_bad_pictures_are_named_and_the_good_ones_written(folder, checkpoint, tmp_path, capsys):
    picture().save(folder / "good.png")
    picture(64, 48).save(folder / "oblong.png")
    picture(20, 20).save(folder / "tiny.png")
    Image.new("RGB", (48, 48), (90, 80, 70)).save(folder / "blank.png")
    (folder / "cut.png").write_bytes((folder / "good.png").read_bytes()[:200])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "notes.txt").write_text("hello")
    assert run(folder, checkpoint, tmp_path) == (1, ["good.obj"])
    shown = capsys.readouterr()
    for message in (
        "oblong.png: 64 x 48 pixels, and no landmarks oblong.npy beside it",
        "tiny.png: 20 x 20 pixels; a face needs 32",
        "blank.png: no face",
        "cut.png: not a whole JPEG",
        "empty.jpg: is empty",
    ):
        assert message in shown.err
    assert "left alone: notes.txt" in shown.out


def test_a_picture_without_a_face_is_refused_unless_forced(folder, checkpoint, tmp_path, capsys):
    picture().save(folder / "wall.png")
    out = tmp_path / "out"
    arguments = [str(folder), "--checkpoint", str(checkpoint), "--output", str(out)]
    assert cli.main(arguments) == 2
    assert "wall: no face recognised" in capsys.readouterr().err
    assert not out.exists()
    assert cli.main([*arguments, "--force"]) == 0


# ------------------------------------------------------------------------------------------------------- the face check


class Follower(cest.Estimator):
    """An estimator whose viewpoints come from a function of the pictures."""

    def __init__(self, space: cest.FaceSpace, look) -> None:
        super().__init__(space, TINY)
        self.look = look

    def pose_and_shape(self, images, *_):
        return self.look(images), torch.zeros(len(images), self.space.coefficients)


def test_networks_that_do_not_look_follow_nothing(space):
    fixed = Follower(space, lambda images: torch.tensor([[0.1, 0.4, -0.2, 0.02, 0.05, 0, 0.1]]).expand(len(images), -1))
    assert cli.following(fixed, torch.zeros(3, SIZE, SIZE)) == pytest.approx(0, abs=1e-6)


def test_networks_that_see_where_the_face_went_follow_all_the_way(space):
    """A dot stands for the place of the face; turn and size are told, so only the movement of pixels is looked at."""
    image = torch.full((3, 64, 64), -1.0)
    row, column = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    image += 2 * torch.exp(-((row - 38) ** 2 + (column - 27) ** 2) / 18.0)
    moves = torch.tensor([(0.0, 1.0, 0.0, 0.0), *cli.MOVEMENTS])

    def look(images):
        weight = (images[:, 0] + 1).flatten(1)
        place = torch.stack([(weight * (axis.flatten() + 0.5)).sum(1) / weight.sum(1) for axis in (column, row)], dim=1)
        turned = torch.tensor([[0.1, 0.3, 0.2]]).repeat(len(images), 1)
        turned[:, 2] -= moves[:, 0]  # a positive turn is clockwise in the picture, a positive roll is not
        return space.view(ScaledOrthographic(turned, 0.3 * moves[:, 1], place), 64)

    assert cli.following(Follower(space, look), image) > 0.999


# ------------------------------------------------------------------------------------------------------------ landmarks


@pytest.mark.parametrize("count", [68, 5])
def test_landmarks_beside_a_picture_crop_it(count, folder, space):
    model = space.model
    camera = ScaledOrthographic(torch.zeros(1, 3), torch.tensor([0.9]), torch.tensor([[150.0, 120.0]]))
    points = camera.project(model.landmark_points(model.mean[None]))[0, :, :2].double().numpy() - 0.5
    pixels = np.zeros((300, 400, 3), np.uint8)
    column, line = np.round(points[30]).astype(int)
    pixels[line - 3 : line + 4, column - 3 : column + 4] = 255  # a bright nose
    Image.fromarray(pixels).save(folder / "ann.png")
    np.save(folder / "ann.npy", points if count == 68 else cest_data.five_points(points))
    found = cli.read_picture(folder / "ann.png", space, 64)
    assert found.notes == ("cropped by its landmarks",)
    expected = space.camera(torch.zeros(1, 7), 64).project(model.landmark_points(model.mean[None]))[0, 30, :2]
    brightest = np.unravel_index(int(found.image[0].argmax()), (64, 64))
    assert np.abs(np.array(brightest[::-1]) + 0.5 - expected.numpy()).max() < 1.5


@pytest.mark.parametrize(
    ("points", "message"),
    [(np.zeros((67, 2)), r"ann.npy: expected landmarks (68, 2) or (5, 2), found (67, 2)"), (np.full((68, 2), np.nan), "ann.npy: no face: NaN"),
     (np.full((5, 2), 3.0), "ann.png: points: all landmarks of a face coincide")],
)  # fmt: skip
def test_wrong_landmarks_are_named(points, message, folder, checkpoint, tmp_path, capsys):
    picture().save(folder / "ann.png")
    np.save(folder / "ann.npy", points)
    assert run(folder, checkpoint, tmp_path) == (2, [])
    assert message in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------- networks and folders


def test_without_trained_networks_it_says_how_to_train_them(folder, capsys):
    picture().save(folder / "ann.png")
    assert cli.main([str(folder)]) == 2
    assert "no trained networks yet" in (shown := capsys.readouterr().err)
    assert "paper_utils.train 07 --only CEST" in shown


def test_networks_of_the_study_are_the_default(folder, checkpoint, tmp_path, monkeypatch):
    picture().save(folder / "ann.png")
    path = recipe.model_path("world", "quick")
    path.parent.mkdir(parents=True)
    path.write_bytes(checkpoint.read_bytes())
    monkeypatch.chdir(tmp_path)
    assert cli.main([str(folder), "--force"]) == 0
    assert (tmp_path / "pictures_faces/ann.obj").exists()


def test_networks_and_face_model_must_belong_together(folder, checkpoint, tmp_path, capsys):
    picture(SIZE, SIZE).save(folder / "ann.png")
    basel = write_3ddfa(tmp_path, planted(symmetric=False))
    assert run(folder, checkpoint, tmp_path, "--force", "--model", str(basel))[0] == 2
    assert "the networks were trained with" in capsys.readouterr().err
    own = tmp_path / "basel.safetensors"
    cest.save(cest.Estimator(cest_data.face_space(read_model(basel), uv_size=24), TINY, seed=0), own)
    assert run(folder, own, tmp_path, "--force", "--model", str(basel)) == (0, ["ann.obj"])
    assert len(read_obj(tmp_path / "out/ann.obj").vertices) == 12


def test_wrong_places_are_named(folder, checkpoint, tmp_path, capsys):
    assert run(tmp_path / "nowhere", checkpoint, tmp_path)[0] == 2
    assert "nowhere: no such folder or picture" in capsys.readouterr().err
    assert run(folder, checkpoint, tmp_path)[0] == 2
    assert "no picture (.jpg" in capsys.readouterr().err
    picture().save(folder / "ann.png")
    picture().save(folder / "ann.jpg")
    assert run(folder, checkpoint, tmp_path)[0] == 2
    assert "several pictures are called ann" in capsys.readouterr().err
    assert run(folder / "ann.png", tmp_path / "none.safetensors", tmp_path)[0] == 2
    assert "none.safetensors: no such file" in capsys.readouterr().err
    assert run(folder / "ann.png", checkpoint, tmp_path) == (0, ["ann.obj"])
