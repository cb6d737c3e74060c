"""Template fusion against the official evaluation of a small IJB, by hand, and by its invariances."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paper_utils.metrics import templates as tmp


class Mini:
    """The small IJB, read without the package's own readers."""

    def __init__(self, folder):
        meta = folder / "meta"
        members = np.loadtxt(meta / "ijbb_face_tid_mid.txt", dtype=str)
        self.template, self.media = members[:, 1].astype(int), members[:, 2].astype(int)
        self.faceness = np.loadtxt(meta / "ijbb_name_5pts_score.txt", dtype=str)[:, -1].astype(float)
        self.pairs = np.loadtxt(meta / "ijbb_template_pair_label.txt", dtype=int)
        names = ("1N_gallery_S1", "1N_gallery_S2", "1N_probe_mixed")
        self.lists = [
            np.loadtxt(meta / f"ijbb_{name}.csv", delimiter=",", skiprows=1, usecols=(0, 1), dtype=int)
            for name in names
        ]
        self.expected = np.load(folder / "expected.npz")

    def fuse(self, branch):
        if branch == "main":
            return tmp.fuse_templates(self.expected["feats_orig_flip"], self.template, self.media)
        return tmp.fuse_templates(self.expected["feats"], self.template, self.media, faceness=self.faceness)


@pytest.fixture
def mini(reference):
    return Mini(reference / "sphereface" / "ijb_mini")


# ------------------------------------------------------------------------------------------------ reference arrays


@pytest.mark.parametrize("branch", ["v0", "main"])
def test_fused_templates_match_the_official_code(mini, branch):
    fused = mini.fuse(branch)
    np.testing.assert_array_equal(fused.ids, mini.expected["template_ids_in_order"])
    np.testing.assert_allclose(fused.features, mini.expected[f"template_feats_{branch}"], atol=5e-7)
    assert fused.features.dtype == np.float32


@pytest.mark.parametrize("branch", ["v0", "main"])
def test_all_numbers_of_both_protocols_match_the_official_code(mini, branch):
    fused = mini.fuse(branch)
    lists = []
    for listed in mini.lists:
        lines, repeated = tmp.first_listings(listed[:, 0], listed[:, 1])
        assert len(lines) + repeated == len(listed)
        lists.append((fused.rows(listed[lines, 0]), listed[lines, 1]))
    *galleries, probes = lists
    np.testing.assert_array_equal(
        np.concatenate([people for _, people in galleries]), mini.expected["gallery_subjects"]
    )
    np.testing.assert_array_equal(probes[1], mini.expected["probe_subjects"])
    pairs = (fused.rows(mini.pairs[:, 0]), fused.rows(mini.pairs[:, 1]), mini.pairs[:, 2] == 1)
    report = tmp.evaluate_templates(fused, pairs, probes, galleries)
    names, values = (mini.expected[f"metrics_{branch}_{part}"] for part in ("names", "values"))
    # The 1:N numbers are stored in single precision.
    assert report.official() == pytest.approx(dict(zip(names.tolist(), values, strict=True)), rel=1e-7, abs=1e-7)
    assert report.identification.without_mate == 8
    assert "8 of 46 probes have no mate in any gallery" in report.identification.notes


# ---------------------------------------------------------------------------------------------------------- by hand


def test_a_video_of_many_frames_weighs_as_much_as_one_picture():
    picture, video = [3.0, 0.0], [0.0, 2.0]
    fused = tmp.fuse_templates(np.array([picture, video, video, video]), np.full(4, 7), np.array([1, 2, 2, 2]))
    np.testing.assert_allclose(fused.features, [np.array([3.0, 2.0]) / np.sqrt(13)])
    assert (fused.images.tolist(), fused.media.tolist(), fused.ids.tolist()) == ([4], [2], [7])


def test_the_same_media_counts_apart_in_two_templates():
    features = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    fused = tmp.fuse_templates(features, np.array([5, 5, 2, 5]), np.array([1, 1, 1, 9]))
    np.testing.assert_allclose(fused.features, [np.array([0.5, 1.5]) / np.sqrt(2.5), [1.0, 0.0]])
    assert fused.ids.tolist() == [5, 2]


def test_faceness_weighs_images_and_a_blind_detector_leaves_them_out():
    features = np.array([[1.0, 0.0], [0.0, 1.0], [9.0, 9.0]])
    fused = tmp.fuse_templates(features, np.zeros(3, int), np.arange(3), faceness=np.array([0.6, 0.8, 0.0]))
    np.testing.assert_allclose(fused.features, [[0.6, 0.8]])


def test_views_of_an_image_are_averaged():
    views = np.random.default_rng(0).normal(size=(6, 2, 4))
    template, media = np.array([1, 1, 2, 2, 2, 1]), np.array([1, 1, 2, 3, 3, 4])
    np.testing.assert_allclose(
        tmp.fuse_templates(views, template, media).features,
        tmp.fuse_templates(views.mean(axis=1), template, media).features,
    )


# ------------------------------------------------------------------------------------------------------- properties


@given(st.integers(0, 10_000), st.integers(1, 30))
@settings(max_examples=40)
def test_fusion_is_the_loop_and_forgets_the_order_of_images(seed, images):
    rng = np.random.default_rng(seed)
    features, faceness = rng.normal(size=(images, 5)), rng.random(images) + 0.1
    template, media = rng.integers(0, 4, images), rng.integers(0, 3, images)
    fused = tmp.fuse_templates(features, template, media, faceness=faceness)
    for number, direction in zip(fused.ids, fused.features, strict=True):
        own = template == number
        weight = np.array([1 / (media[own] == m).sum() for m in media[own]])
        mean = (features[own] * (faceness[own] * weight)[:, None]).mean(axis=0)
        np.testing.assert_allclose(direction, mean / np.linalg.norm(mean), atol=1e-9)
    order = rng.permutation(images)
    again = tmp.fuse_templates(features[order], template[order], media[order], faceness=faceness[order])
    np.testing.assert_allclose(again.features[again.rows(fused.ids)], fused.features, atol=1e-9)
    scaled = tmp.fuse_templates(7 * features, template, media, faceness=3 * faceness)
    np.testing.assert_allclose(scaled.features, fused.features, atol=1e-9)


def test_pair_scores_in_blocks_are_the_cosines(monkeypatch):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(20, 8)).astype(np.float32)
    first, second = rng.integers(20, size=(2, 101))
    expected = (features @ features.T)[first, second]
    monkeypatch.setattr(tmp, "BLOCK_ENTRIES", 80)
    found = tmp.pair_scores(features, first, second)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.dtype == np.float32


# ----------------------------------------------------------------------------------------------------------- faults


def test_templates_without_media_are_named():
    fused = tmp.fuse_templates(np.eye(3), np.array([4, 8, 6]), np.arange(3))
    assert fused.rows(np.array([6, 4, 6])).tolist() == [2, 0, 2]
    with pytest.raises(ValueError, match="2 templates have no media among the images, the first is 5"):
        fused.rows(np.array([4, 9, 5, 9]))


def test_templates_listed_twice_are_left_out_and_counted():
    lines, repeated = tmp.first_listings(np.array([7, 3, 7, 7, 1]), np.array([1, 2, 1, 1, 2]))
    assert (lines.tolist(), repeated) == ([0, 1, 4], 2)
    with pytest.raises(ValueError, match="template 3 is listed for subjects 2 and 5"):
        tmp.first_listings(np.array([7, 3, 3]), np.array([1, 2, 5]))


@pytest.mark.parametrize(
    ("features", "media", "faceness", "message"),
    [
        (np.ones((0, 2)), [], None, "found 0 rows"),
        (np.ones((2, 2)), [1], None, "one row an image"),
        (np.array([[1.0, np.nan], [1.0, 1.0]]), [1, 2], None, "1 of 2 images have NaN"),
        (np.ones((2, 2)), [1, 2], [0.5, np.nan], "faceness: expected finite"),
        (np.ones((2, 2)), [1, 2], [0.5, -0.1], "found 1 others"),
        (np.ones((2, 2)), [1, 2], [0.0, 0.0], "1 templates have no direction, the first is 4"),
        (np.array([[1.0, 0.0], [-1.0, 0.0]]), [1, 2], None, "no direction"),
    ],
)
def test_wrong_images_are_named(features, media, faceness, message):
    template = np.full(len(features), 4)
    quality = None if faceness is None else np.array(faceness)
    # The hook of the tests would refuse unequal lengths before the function can name them.
    function = getattr(tmp.fuse_templates, "__wrapped__", tmp.fuse_templates)
    with pytest.raises(ValueError, match=message):
        function(features, template, np.array(media, dtype=int), faceness=quality)
