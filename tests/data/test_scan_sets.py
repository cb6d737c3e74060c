"""MICC Florence and NoW: folders in the published layouts with tiny heads, and the protocols run on them from file to number."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from PIL import Image

from paper_utils.data import florence, now_faces
from paper_utils.data.face_images import ImageError
from paper_utils.metrics import mesh, scan_protocols


def head(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices, triangles and 68 points of a relief like a face, in mm."""
    axis = np.linspace(-70, 70, 17)
    x, y = (grid.reshape(-1) for grid in np.meshgrid(axis, axis))
    rng = np.random.default_rng(seed)
    z = 40 * np.exp(-(x**2 + 0.6 * y**2) / 60**2) + 22 * np.exp(-(x**2 + y**2) / 14**2) + rng.normal(0, 1, x.size)
    number = np.arange(17 * 17).reshape(17, 17)
    a, b, c, d = (part.reshape(-1) for part in (number[:-1, :-1], number[:-1, 1:], number[1:, 1:], number[1:, :-1]))
    faces = np.concatenate((np.stack((a, b, c), 1), np.stack((a, c, d), 1)))
    vertices = np.stack((x, y, z), 1)
    chosen = np.random.default_rng(0).integers(0, len(vertices), 68)
    chosen[30] = number[8, 8]  # the nose
    return vertices, faces, vertices[chosen]


def write_obj(path: Path, vertices: np.ndarray, faces: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in vertices] + [f"f {a} {b} {c}" for a, b, c in faces + 1]
    path.write_text("\n".join(rows) + "\n")


def write_ljson(path: Path, points: np.ndarray) -> None:
    """As the landmarker tool writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    group = {
        "labels": [{"label": "chin", "mask": list(range(17))}],
        "landmarks": {"connectivity": [[0, 1]], "points": points.tolist()},
    }
    path.write_text(json.dumps({"groups": {"LJSON": group}, "version": 2}, indent=4))


def jpeg(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (24, 16), (value, value, value)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture
def micc(tmp_path) -> tuple[Path, Path]:
    """Two subjects, number 28 among them, with scans, landmarks and videos."""
    root, landmarks = tmp_path / "Florence", tmp_path / "MICC_landmarks"
    for subject in (1, 28):
        for view, stamp in (("frontal1", "110920150452"), ("frontal2", "110920150505"), ("sidel", "110920150510")):
            place = f"subject_{subject:02d}/Model/{view}/obj/{stamp}"
            vertices, faces, points = head(subject)
            write_obj(root / f"{place}.obj", vertices, faces)
            write_ljson(landmarks / f"{place}.ljson", points)
        video = root / f"subject_{subject:02d}/Video"
        video.mkdir(parents=True)
        (video / "Indoor-Cooperative.mjpg").write_bytes(b"".join(jpeg(10 * k) for k in range(7)))
        (video / "PTZ-Indoor").mkdir()
        (video / "PTZ-Indoor/0001.jpg").write_bytes(jpeg(50))
    return root, landmarks


def test_florence_is_found_with_what_is_missing(micc) -> None:
    found = florence.read_florence(micc[0])
    assert [subject.number for subject in found.subjects] == [1, 28]
    assert list(found.subjects[0].scans) == ["frontal1", "frontal2", "sidel"]
    assert list(found.subjects[0].videos) == ["Indoor-Cooperative", "PTZ-Indoor"]
    assert found.missing == ("subject_01/Video/PTZ-Outdoor", "subject_28/Video/PTZ-Outdoor")
    assert [subject.radius_mm for subject in found.subjects] == [95.0, 60.0]
    assert len(florence.read_florence(micc[0], subjects=[28])) == 1


def test_subject_30_is_in_the_set_but_not_in_the_evaluation(micc) -> None:
    vertices, faces, _ = head()
    write_obj(micc[0] / "subject_30/Model/frontal1/obj/110514193402.obj", vertices, faces)
    found = florence.read_florence(micc[0])
    assert [s.number for s in found.subjects] == [1, 28, 30]
    assert [s.number for s in found.evaluated] == [1, 28]
    assert "subject_30/Model/frontal2/obj/*.obj" in found.missing


def test_a_scan_goes_from_its_files_into_the_protocols(micc) -> None:
    root, landmarks = micc
    subject = florence.read_florence(root).subjects[0]
    scans = [
        florence.read_scan(subject.scans[view], florence.landmark_path(subject.scans[view], root, landmarks))
        for view in florence.FRONTAL
    ]
    vertices, faces, points = head(1)
    assert_allclose(scans[0].surface.vertices, vertices, atol=1e-6)
    assert_allclose(scans[0].landmarks, points)
    prediction = mesh.FaceScan(mesh.Surface(vertices / 100 + 3, faces), points / 100 + 3)
    assert scan_protocols.ganfit_error(prediction, scans, radius_mm=subject.radius_mm)[0] < 1e-4
    assert scan_protocols.deep3d_error(prediction, scans[0]).value_mm < 1e-4


def test_landmarks_of_another_scan_are_noticed(micc) -> None:
    root, landmarks = micc
    scan = florence.read_florence(root).subjects[0].scans["frontal1"]
    place = florence.landmark_path(scan, root, landmarks)
    write_ljson(place, head(1)[2] + 200)
    with pytest.raises(ValueError, match="do they belong together"):
        florence.read_scan(scan, place)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "not valid JSON"), ('{"groups": {}}', "KeyError"), (json.dumps({"groups": {"LJSON": {"landmarks": {"points": [[1, None, 2]] * 68}}}}), "68 missing numbers"),
     (json.dumps({"groups": {"LJSON": {"landmarks": {"points": [[1, 2, 3]] * 51}}}}), r"found shape \(51, 3\)")],
)  # fmt: skip
def test_wrong_landmark_files_are_named(text, message, tmp_path) -> None:
    path = tmp_path / "scan.ljson"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"scan\.ljson.*{message}"):
        florence.read_ljson(path)
    with pytest.raises(FileNotFoundError, match="expected 68 landmarks"):
        florence.read_ljson(tmp_path / "none.ljson")


def test_wrong_florence_folders_are_named(micc, tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="no such folder"):
        florence.read_florence(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no folder subject_XX"):
        florence.read_florence(micc[1] / "subject_01")
    with pytest.raises(FileNotFoundError, match="no subjects 2; there are 2: 1, 28"):
        florence.read_florence(micc[0], subjects=[1, 2])
    vertices, faces, _ = head()
    write_obj(micc[0] / "subject_01/Model/frontal1/obj/second.obj", vertices, faces)
    with pytest.raises(ValueError, match=r"expected one mesh, found 110920150452\.obj, second\.obj"):
        florence.read_florence(micc[0])


def test_motion_jpeg_is_cut_into_its_pictures(micc) -> None:
    subject = florence.read_florence(micc[0]).subjects[0]
    video = florence.open_video(subject.videos["Indoor-Cooperative"])
    assert len(video) == 7
    assert [int(video.pixels(k)[0, 0, 0]) for k in range(7)] == pytest.approx([10 * k for k in range(7)], abs=2)
    assert len(florence.open_video(subject.videos["PTZ-Indoor"])) == 1


def test_motion_jpeg_with_separators_and_a_cut_off_end(tmp_path) -> None:
    path = tmp_path / "PTZ-Outdoor.mjpeg"
    header = b"--myboundary\r\nContent-Type: image/jpeg\r\n\r\n"
    path.write_bytes(b"".join(header + jpeg(40 * k) + b"\r\n" for k in range(3)) + header + jpeg(200)[:60])
    video = florence.open_video(path)
    assert len(video) == 4
    assert int(video.pixels(2)[0, 0, 0]) == pytest.approx(80, abs=2)
    with pytest.raises(ImageError, match="image 3: not a whole JPEG"):
        video.pixels(3)
    path.write_bytes(b"RIFF....AVI ")
    with pytest.raises(ValueError, match="no JPEG picture in 12 bytes"):
        florence.open_video(path)


def test_five_frames_are_drawn_without_repeats_and_the_same_for_a_seed(micc) -> None:
    video = florence.open_video(florence.read_florence(micc[0]).subjects[0].videos["Indoor-Cooperative"])
    chosen = video.chosen(seed=3)
    assert len(set(chosen.tolist())) == 5
    assert chosen.tolist() == video.chosen(seed=3).tolist()
    assert len({tuple(video.chosen(seed=s).tolist()) for s in range(20)}) > 3
    assert video.chosen(50, seed=0).tolist() == list(range(7))


# --------------------------------------------------------------------------------------------------------------- NoW

PP = """<!DOCTYPE PickedPoints>
<PickedPoints>
 <DocumentData>
  <DateTime date="2018-06-15" time="10:39:33"/>
  <User name="user"/>
  <DataFileName name="scan.obj"/>
  <templateName name=""/>
 </DocumentData>
{points}
</PickedPoints>
"""


def seven(vertices: np.ndarray) -> np.ndarray:
    places = [(-45.0, 30), (-15, 30), (15, 30), (45, 30), (0, -12), (-25, -35), (25, -35)]
    return np.stack([vertices[np.argmin(np.linalg.norm(vertices[:, :2] - place, axis=1))] for place in places])


def pp(points: np.ndarray) -> str:
    rows = [
        f' <point x="{x:.6f}" y="{y:.6f}" z="{z:.6f}" active="1" name="{k}"/>' for k, (x, y, z) in enumerate(points)
    ]
    return PP.format(points="\n".join(rows))


@pytest.fixture
def now(tmp_path) -> Path:
    root = tmp_path / "NoW_Dataset"
    lines = []
    for seed, subject in enumerate(("FaMoS_180424_03335_TA", "FaMoS_180426_03336_TA")):
        vertices, faces, _ = head(seed)
        write_obj(root / "scans" / subject / "natural_head_rotation.000001.obj", vertices, faces)
        folder = root / "scans_lmks_onlypp" / subject
        folder.mkdir(parents=True)
        (folder / "natural_head_rotation.000001_picked_points.pp").write_text(pp(seven(vertices)))
        lines += [f"{subject}/multiview_neutral/IMG_0038.jpg", f"{subject}/selfie/IMG_0040.jpg"]
    (root / "imagepathsvalidation.txt").write_text("\n".join(lines) + "\n")
    return root


def test_now_goes_from_its_files_to_its_three_numbers(now, tmp_path) -> None:
    benchmark = now_faces.read_now(now)
    assert len(benchmark) == 4
    errors = []
    for place, image in enumerate(benchmark.images):
        vertices, faces, _ = head(place // 2)
        stem = tmp_path / "mine" / image.stem
        write_obj(stem.with_name(f"{stem.name}.obj"), vertices / 1000, faces)  # in metres
        if place % 2:
            np.save(f"{stem}.npy", seven(vertices / 1000))
        else:
            np.savetxt(f"{stem}.txt", seven(vertices / 1000))
        prediction = now_faces.read_prediction(tmp_path / "mine", image)
        errors.append(scan_protocols.now_errors(prediction, benchmark.scan(image)))
    found = scan_protocols.now_statistics(errors)
    assert found.images == 4
    assert max(found.median_mm, found.mean_mm, found.std_mm) < 1e-2  # six decimals of a metre
    assert (
        benchmark.picture(benchmark.images[0])
        == now / "iphone_pictures/FaMoS_180424_03335_TA/multiview_neutral/IMG_0038.jpg"
    )


def test_challenges_can_be_taken_apart(now) -> None:
    assert [image.challenge for image in now_faces.read_now(now, challenges=("selfie",)).images] == ["selfie", "selfie"]
    with pytest.raises(ValueError, match="found sunglasses"):
        now_faces.read_now(now, challenges=("sunglasses",))
    with pytest.raises(ValueError, match="expected one of validation, test, found 'train'"):
        now_faces.read_now(now, "train")


def test_wrong_now_files_are_named(now, tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=r"imagepathstest\.txt"):
        now_faces.read_now(now, "test")
    points = next((now / "scans_lmks_onlypp/FaMoS_180424_03335_TA").glob("*.pp"))
    benchmark = now_faces.read_now(now)
    for text, message in (
        (pp(seven(head()[0])[:6]), r"expected 7 points in space, found shape \(6, 3\)"),
        ("<PickedPoints", "ParseError"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><PickedPoints/>', "XML entities"),
        ('<PickedPoints><point x="1" y="2"/></PickedPoints>', "KeyError"),
    ):
        points.write_text(text)
        with pytest.raises(ValueError, match=rf"\.pp: .*{message}"):
            benchmark.scan(benchmark.images[0])
    with pytest.raises(FileNotFoundError, match=r"IMG_0038\.obj"):
        now_faces.read_prediction(tmp_path, benchmark.images[0])
    (now / "imagepathsvalidation.txt").write_text("FaMoS_180424_03335_TA/selfie/IMG_1.jpg\nIMG_2.jpg\n")
    with pytest.raises(ValueError, match=r"line 2 is 'IMG_2\.jpg'"):
        now_faces.read_now(now)
    (now / "imagepathsvalidation.txt").write_text("Nobody/selfie/IMG_1.jpg\n")
    with pytest.raises(FileNotFoundError, match=r"Nobody: no \*\.obj"):
        now_faces.read_now(now)
