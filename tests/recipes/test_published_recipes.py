"""The published configurations against the tables of the official code."""

from __future__ import annotations

import dataclasses

import pytest

from paper_utils import train
from paper_utils.methods import sphereface2, sphereface_r
from paper_utils.nn import backbones
from paper_utils.recipes import published
from paper_utils.recipes.published import RECIPES

# The tables of the official configurations, typed in here once more: iterations and decay points in thousands.
SCHEDULES = {
    "vggface2_sfnet20_sphereface2": (100, (50, 78, 94, 100)),
    "v0_vggface2_sfnet20_arcface": (70, (40, 60, 70)),
    "iclr_vggface2_sfnet64_sphereface2_a": (80, (40, 60, 80)),
    "iclr_noise_vggface2_sfnet20_sphereface2": (80, (40, 60, 80)),
    "ms1m_iresnet100_sphereface2": (240, (80, 140, 200, 240)),
    "vggface2_sfnet20_spherefacer": (70, (40, 60, 70)),
    "vggface2_sfnet20_spherefaceplus": (70, (40, 60, 70)),
    "ms1m_sfnet64bn_sphereface": (240, (100, 180, 220, 240)),
    "ms1m_iresnet100_sphereface_2022": (360, (150, 270, 320, 360)),
    "ms1m_iresnet100_sphereface_2023": (240, (80, 140, 200, 240)),
}
MARGINS = {  # kind, margin, scale
    "iclr_vggface2_sfnet20_sphereface2": ("C", 0.4, 40.0),
    "iclr_vggface2_sfnet20_sphereface2_a": ("A", 0.5, 40.0),
    "iclr_vggface2_sfnet20_sphereface2_m": ("M", 1.7, 40.0),
    "iclr_vggface2_sfnet20_arcface": ("arcface", 0.5, 30.0),
    "iclr_vggface2_sfnet20_cosface": ("cosface", 0.35, 30.0),
    "iclr_vggface2_sfnet20_sphereface": ("v0", 1.5, 30.0),
    "ms1m_iresnet100_sphereface2": ("C", 0.5, 64.0),
    "ms1m_iresnet100_arcface": ("arcface", 0.5, 64.0),
    "ms1m_iresnet100_cosface": ("cosface", 0.4, 64.0),
    "ms1m_iresnet100_sphereface_2023": ("v0", 1.7, 64.0),
    "vggface2_sfnet20_spherefacer": ("v2", 1.4, 60.0),
    "ms1m_sfnet64bn_sphereface": ("v0", 1.7, 32.0),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_are_the_official_ones(name):
    steps, decay_at = SCHEDULES[name]
    assert RECIPES[name].steps == 1000 * steps
    assert RECIPES[name].decay_at == tuple(1000 * at for at in decay_at)


@pytest.mark.parametrize("name", MARGINS)
def test_margins_and_scales_are_the_official_ones(name):
    head = RECIPES[name].head
    kind = head.kind if isinstance(head, sphereface2.HeadConfig) else head.psi
    assert (kind, head.margin, head.scale) == MARGINS[name]


def test_what_all_recipes_share_and_what_only_some_have():
    for recipe in RECIPES.values():
        assert (recipe.batch_size, recipe.learning_rate, recipe.momentum, recipe.weight_decay) == (512, 0.1, 0.9, 5e-4)
        assert recipe.branch in backbones.branches(recipe.backbone)
        assert recipe.image_size == (112, 112)
        assert (recipe.clip_norm == 100.0) == (recipe.branch == "main") == (recipe.precision == "16-mixed")
        assert (recipe.noise_ratio == 0.6) == ("noise" in recipe.name)
        assert recipe.noise_seed == 10086
        # Gradients of SphereFace2-C: through g in the branch of the paper, straight in the others.
        if isinstance(recipe.head, sphereface2.HeadConfig) and recipe.head.kind == "C":
            assert recipe.head.gradient == ("through" if recipe.branch == "iclr" else "straight")
    assert {paper for recipe in RECIPES.values() for paper in recipe.papers} == {"05", "06"}
    assert len(RECIPES) == len({(r.backbone, r.branch, r.train_set, r.head, r.steps, r.noise_ratio) for r in RECIPES.values()})  # fmt: skip


def test_every_head_can_be_told_and_built():
    for recipe in RECIPES.values():
        kind = sphereface2.Head if isinstance(recipe.head, sphereface2.HeadConfig) else sphereface_r.Head
        assert kind(8, 3, recipe.head, seed=0).proxies.shape == (3, 8)
        assert f"{recipe.head.margin:g}" in published.describe_head(recipe.head) or recipe.head.psi == "softmax"


def test_the_learning_rate_falls_at_its_points_and_with_the_length_of_the_run():
    recipe = RECIPES["vggface2_sfnet20_spherefacer"]
    rates = [recipe.learning_rate_at(step) for step in (0, 39_999, 40_000, 59_999, 60_000)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001])
    short = recipe.lasting(7)
    assert (short.steps, short.decay_at) == (7, (4, 6, 7))
    with pytest.raises(ValueError, match="steps: expected at least 1, found 0"):
        recipe.lasting(0)


def test_unknown_recipes_list_those_of_the_paper():
    with pytest.raises(ValueError, match=r"unknown recipe 'x' of paper 06; valid: .*vggface2_sfnet20_spherefacer") as e:
        published.find("x", "06")
    assert "sphereface2" not in str(e.value)
    with pytest.raises(ValueError, match="unknown recipe 'vggface2_sfnet20_spherefacer' of paper 05"):
        published.find("vggface2_sfnet20_spherefacer", "05")


@pytest.mark.parametrize("change", [{"steps": 0}, {"batch_size": 0}, {"flip": 1.5}, {"noise_ratio": -0.1}])
def test_recipes_with_impossible_numbers_are_refused(change):
    with pytest.raises(ValueError, match=f"{next(iter(change))}.*expected"):
        dataclasses.replace(RECIPES["vggface2_sfnet20_spherefacer"], **change)


def test_the_list_of_recipes_shows_each_of_them(capsys):
    assert train.main(["--list-recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == list(RECIPES)
    (line,) = [line for line in lines if line.startswith("ms1m_iresnet100_sphereface2 ")]
    assert "240k (80k, 140k, 200k, 240k)" in line
    assert "m=0.5 r=64 lambda=0.8 t=3 weight=50 straight" in line
