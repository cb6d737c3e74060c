"""IJB meta files: parity with the official template features, the join, galleries, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from paper_utils.data import ijb
from paper_utils.data.face_images import TEMPLATE_112
from paper_utils.data.face_lists import MissingImagesError


@pytest.fixture
def mini(reference: Path) -> Path:
    return reference / "sphereface" / "ijb_mini"


@pytest.fixture
def meta(mini: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(mini / "meta", tmp_path / "meta"))


def change(path: Path, line: int, text: str | None) -> None:
    """Replace a line, counted from 1; ``None`` removes it."""
    lines = path.read_text().splitlines()
    lines[line - 1 : line] = [] if text is None else [text]
    path.write_text("\n".join(lines) + "\n")


def fused(features: np.ndarray, templates: ijb.Templates, weights: np.ndarray) -> np.ndarray:
    total = np.zeros((len(templates), features.shape[1]))
    np.add.at(total, templates.image_template, features * weights[:, None])
    return total / np.linalg.norm(total, axis=1, keepdims=True)


# -------------------------------------------------------------------------------------------------------------- parity


def test_order_weights_and_faceness_give_the_official_template_features(mini):
    found, expected = ijb.load_meta(mini / "meta"), np.load(mini / "expected.npz")
    templates = found.templates
    np.testing.assert_array_equal(templates.ids, expected["template_ids_in_order"])
    v0 = fused(expected["feats"], templates, templates.media_weights * templates.faceness)
    np.testing.assert_allclose(v0, expected["template_feats_v0"], atol=2e-6)
    main = fused(expected["feats_orig_flip"].mean(axis=1), templates, templates.media_weights)
    np.testing.assert_allclose(main, expected["template_feats_main"], atol=2e-6)


def test_galleries_and_probes_list_the_official_subjects(mini):
    found, expected = ijb.load_meta(mini / "meta"), np.load(mini / "expected.npz")
    subjects = np.concatenate([gallery.subjects for gallery in found.galleries])
    np.testing.assert_array_equal(subjects, expected["gallery_subjects"])
    np.testing.assert_array_equal(found.probes.subjects, expected["probe_subjects"])
    assert [gallery.name for gallery in found.galleries] == ["S1", "S2"]
    first = found.galleries[0]
    assert found.templates.ids[first.templates].tolist()[:3] == [108, 138, 155]


def test_official_identification_and_verification_figures_follow_from_the_arrays(mini):
    found, expected = ijb.load_meta(mini / "meta"), np.load(mini / "expected.npz")
    features = expected["template_feats_v0"]
    official = dict(zip(expected["metrics_v0_names"].tolist(), expected["metrics_v0_values"].tolist(), strict=True))
    gallery = np.concatenate([entry.templates for entry in found.galleries])
    people = np.concatenate([entry.subjects for entry in found.galleries])
    scores = features[found.probes.templates] @ features[gallery].T
    best = np.argsort(-scores, axis=1)
    for k in (1, 5, 10):
        hits = (people[best[:, :k]] == found.probes.subjects[:, None]).any(axis=1)
        assert 100 * hits.mean() == pytest.approx(official[f"top{k}"], abs=1e-4)
    pair_scores = (features[found.pairs.first] * features[found.pairs.second]).sum(axis=1)
    threshold = np.sort(pair_scores[~found.pairs.same])[-int(0.1 * (~found.pairs.same).sum()) :][0]
    near = 100 * (pair_scores[found.pairs.same] > threshold).mean()
    assert near == pytest.approx(official["TPR@FPR=1e-1"], abs=2)


def test_the_report_counts_everything_with_the_lines_left_out(mini):
    report = ijb.load_meta(mini / "meta").report()
    lines = {path.name: len(path.read_text().splitlines()) for path in (mini / "meta").iterdir()}
    assert report["images"] == lines["ijbb_face_tid_mid.txt"] == 200
    assert report["templates"] == 66
    assert report["pairs"] == lines["ijbb_template_pair_label.txt"]
    assert 0 < report["same pairs"] < report["pairs"]
    assert report["media in templates"] == len(
        {tuple(line.split()[1:]) for line in (mini / "meta" / "ijbb_face_tid_mid.txt").read_text().splitlines()}
    )
    for name, file in [("S1", "gallery_S1"), ("S2", "gallery_S2"), ("probe_mixed", "probe_mixed")]:
        listed = report[f"{name} templates"] + report[f"{name} lines repeated"]
        assert listed == lines[f"ijbb_1N_{file}.csv"] - 1
        assert report[f"{name} lines repeated"] > 0


# ------------------------------------------------------------------------------------------------------------ structure


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 6)), min_size=1, max_size=40),
    st.integers(0, 2**31),
)
@settings(max_examples=100, deadline=None)
def test_every_media_of_a_template_weighs_one_in_all(members, seed):
    template, media = np.array(members).T
    found = ijb.group(template, media, np.random.default_rng(seed).uniform(0.1, 1, len(template)))
    np.testing.assert_array_equal(found.ids[found.image_template], template)
    assert list(found.ids) == list(dict.fromkeys(template.tolist()))
    for key in set(members):
        inside = [i for i, member in enumerate(members) if member == key]
        np.testing.assert_allclose(found.media_weights[inside], 1 / len(inside))
    np.testing.assert_array_equal(found.ids[found.rows(template, "x")], template)


def test_ijb_c_has_other_names(meta):
    for path in list(meta.iterdir()):
        name = path.name.replace("ijbb", "ijbc").replace("_S", "_G")
        path.rename(meta / name)
    found = ijb.load_meta(meta, ijb.IJB_C)
    assert (found.name, [entry.name for entry in found.galleries]) == ("IJB-C", ["G1", "G2"])
    with pytest.raises(FileNotFoundError, match=r"missing ijbb_name_5pts_score\.txt, .*ijbb_1N_probe_mixed\.csv; expected the meta folder of IJB-B"):  # fmt: skip
        ijb.load_meta(meta)


def test_the_images_come_aligned_and_missing_ones_are_all_named(meta, tmp_path):
    found = ijb.load_meta(meta)
    crops = tmp_path / "loose_crop"
    crops.mkdir()
    rows, columns = np.mgrid[:180, :160]
    for name, marks in zip(found.image_names.tolist()[:3], found.landmarks[:3], strict=True):
        spots = sum(np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 8) for x, y in marks)
        Image.fromarray(np.repeat((255 * np.clip(spots, 0, 1))[..., None], 3, 2).astype(np.uint8)).save(
            crops / name, quality=95
        )
    with pytest.raises(
        MissingImagesError, match=r"IJB-B: 197 of the images it names are not in .*: 4\.jpg, 5\.jpg"
    ) as fault:
        found.faces(crops)
    assert len(fault.value.missing) == 197
    aligned = found.faces(crops, check_files=False).images(torch.arange(3))
    assert aligned.shape == (3, 3, 112, 112)
    transform_errors = 4  # pixels; the random landmarks of the fixture fit no similarity exactly
    for image in aligned[:, 0]:
        for x, y in TEMPLATE_112:
            near = image[int(y) - transform_errors : int(y) + 6, int(x) - transform_errors : int(x) + 6]
            assert near.max() > 0.3


# --------------------------------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize(
    ("file", "line", "text", "message"),
    [
        ("face_tid_mid.txt", 7, "8.jpg 12 5", r"name different images in 1 lines, the first is line 7: '7\.jpg' and '8\.jpg'"),
        ("face_tid_mid.txt", 7, None, r"name_5pts_score\.txt has 200 lines, .*face_tid_mid\.txt has 199; they are joined"),
        ("face_tid_mid.txt", 7, "7.jpg 12", r"face_tid_mid\.txt: line 7 is '7\.jpg 12'; expected 'image\.jpg template_id media_id'"),
        ("face_tid_mid.txt", 7, "7.jpg 12 x", r"line 7 is '7\.jpg 12 x'"),
        ("face_tid_mid.txt", 7, "7.jpg 12 5 6", "line 7 is"),
        ("face_tid_mid.txt", 1, "1.jpg 12", "line 1 is"),
        ("face_tid_mid.txt", 7, "7.jpg 12 99999999999999999999", "line 7 is"),
        ("face_tid_mid.txt", 7, "", "line 7 is empty"),
        ("name_5pts_score.txt", 9, "9.jpg 1 2 3 4 5 6 7 8 9 10", r"name_5pts_score\.txt: line 9 is"),
        ("name_5pts_score.txt", 9, "9.jpg 1 2 3 4 5 6 7 8 9 10 nan", "line 9"),
        ("name_5pts_score.txt", 9, "9.jpg 1 2 3 4 5 6 7 8 9 inf 0.5", "1 lines hold NaN, infinite values or a negative score, the first is line 9"),
        ("name_5pts_score.txt", 9, "9.jpg 1 2 3 4 5 6 7 8 9 10 -0.5", "the first is line 9"),
        ("template_pair_label.txt", 3, "108 123 2", r"1 labels are not 0 or 1, the first is 2 in line 3"),
        ("template_pair_label.txt", 3, "108 123", "line 3 is '108 123'"),
        ("template_pair_label.txt", 3, "108 9999 1", r"template_pair_label\.txt: 1 template ids have no media .*: 9999"),
        ("template_pair_label.txt", 3, "-4 123 1", "1 template ids have no media .*: -4"),
        ("1N_gallery_S1.csv", 4, "9998,3,a,b", r"gallery_S1\.csv: 1 template ids have no media .*: 9998"),
        ("1N_gallery_S1.csv", 3, "108,2,a,b", "line 3 gives template 108 to person 2, it was listed for 1"),
        ("1N_gallery_S2.csv", 3, "108,2,a,b", "line 3 gives template 108 to person 2, it was listed for 1"),
        ("1N_gallery_S1.csv", 1, None, "line 1 is '108,1.*a line of data; expected the header"),
        ("1N_gallery_S1.csv", 4, "one,3,a,b", "line 4 is 'one,3,a,b'"),
        ("1N_probe_mixed.csv", 4, "108", "line 4 is '108'"),
    ],
)  # fmt: skip
def test_damaged_lines_are_named(meta, file, line, text, message):
    change(meta / f"ijbb_{file}", line, text)
    with pytest.raises(ValueError, match=message):
        ijb.load_meta(meta)


def test_the_same_gallery_twice_is_refused(meta):
    # The official configuration listed the first half twice until April 2022.
    shutil.copy(meta / "ijbb_1N_gallery_S1.csv", meta / "ijbb_1N_gallery_S2.csv")
    with pytest.raises(
        ValueError, match=r"gallery_S2\.csv: none of its 14 lines lists a template that is new; is the same gallery"
    ):
        ijb.load_meta(meta)


@pytest.mark.parametrize(
    "file",
    ["name_5pts_score.txt", "face_tid_mid.txt", "template_pair_label.txt", "1N_gallery_S1.csv", "1N_probe_mixed.csv"],
)
def test_empty_cut_and_foreign_files_are_named(meta, file):
    path = meta / f"ijbb_{file}"
    whole = path.read_bytes()
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=rf"{file}: is empty \(0 bytes\)"):
        ijb.load_meta(meta)
    path.write_bytes(whole[:100] + b"\xff\xfe\xfd" + whole[103:])
    with pytest.raises(ValueError, match=rf"{file}: line \d+ is not UTF-8"):
        ijb.load_meta(meta)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=f"missing ijbb_{file}; expected the meta folder"):
        ijb.load_meta(meta)


def test_templates_without_weight_and_names_that_leave_the_folder_are_refused(meta, tmp_path):
    with pytest.raises(ValueError, match="1 templates have faceness 0 in all of their images: 8"):
        ijb.group(np.array([7, 8, 8]), np.array([1, 1, 2]), np.array([0.5, 0.0, 0.0]))
    for file in ("name_5pts_score.txt", "face_tid_mid.txt"):
        path = meta / f"ijbb_{file}"
        path.write_text(path.read_text().replace("5.jpg", "../5.jpg", 1))
    with pytest.raises(ValueError, match=r"IJB-B: 1 paths lead out of .*: \.\./5\.jpg"):
        ijb.load_meta(meta).faces(tmp_path)
