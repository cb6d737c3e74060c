"""Portraits: every nuisance does what it says and nothing else, people keep their looks, the light knobs hold."""

import dataclasses

import numpy as np
import pytest
import torch

from paper_utils.world import portraits as po
from paper_utils.world.people import Population

CLEAN = po.ImageNuisance.of(0)


@pytest.fixture(scope="module")
def people():
    return Population(seed=1, size=6).people()


def shoot(people, nuisance=CLEAN, per_person=2, seed=0, size=32, full=True, **knobs):
    setting = po.scenes(len(people), per_person, np.random.default_rng(seed), nuisance, **knobs)
    plain = {"background": torch.full_like(setting.background, 0.5)}
    return po.photograph(people, dataclasses.replace(setting, **plain), size, full=full)


def test_without_nuisance_all_pictures_of_a_person_are_equal_and_people_differ(people):
    pictures = shoot(people).view(6, 2, -1)
    assert torch.equal(pictures[:, 0], pictures[:, 1])
    assert all((pictures[0, 0] - pictures[other, 0]).abs().max() > 0.2 for other in range(1, 6))


@pytest.mark.parametrize("name", ["pose", "light", "expression", "occlusion", "noise"])
def test_each_nuisance_alone_makes_pictures_of_a_person_differ_the_more_the_stronger(people, name):
    def spread(strength):
        pictures = shoot(people, dataclasses.replace(CLEAN, **{name: strength}), per_person=12).view(6, 12, -1)
        return float(pictures.var(1).mean())

    assert spread(0.3) > 0
    assert spread(1.5) > 1.2 * spread(0.3)


def test_clean_picture_of_a_symmetric_person_is_its_own_mirror_image(people):
    pictures = shoot(people, size=64)
    assert (pictures - pictures.flip(-1)).abs().mean() < 2e-3


def test_asymmetry_breaks_the_mirror():
    uneven = Population(seed=1, size=6, asymmetry=3.0).people()
    pictures = shoot(uneven, size=64)
    assert (pictures - pictures.flip(-1)).abs().mean() > 5e-3


def test_same_pictures_whatever_the_company(people):
    setting = po.scenes(6, 3, np.random.default_rng(3))
    alone = setting.take(torch.tensor([7, 2]))
    both = po.photograph(people, setting, 32)
    torch.testing.assert_close(po.photograph(people, alone, 32), both[[7, 2]], atol=1e-5, rtol=0)


def test_light_and_pose_can_be_held_fixed_inside_a_clip():
    def spread(**knobs):
        setting = po.scenes(5, 8, np.random.default_rng(0), **knobs)
        by_person = {name: getattr(setting, name).view(5, 8, -1) for name in ("light", "rotation", "scale", "shift")}
        return {name: float(values.std(1).max()) for name, values in by_person.items()}

    free = spread()
    assert min(free.values()) > 0
    assert spread(same_light=True)["light"] == 0
    assert spread(same_light=True)["rotation"] > 0
    still = spread(same_pose=True)
    assert still["rotation"] == still["scale"] == still["shift"] == 0
    assert still["light"] > 0


def test_midplane_light_has_no_side():
    side = [1, 4, 5]  # coefficients of x, xy and xz
    setting = po.scenes(5, 8, np.random.default_rng(0), midplane_light=True)
    assert float(setting.light[:, side].abs().max()) < 1e-6
    assert float(po.scenes(5, 8, np.random.default_rng(0)).light[:, side].abs().max()) > 0.05


def test_a_picture_lies_in_range_and_shows_a_head(people):
    pictures = shoot(people, po.ImageNuisance(), size=48)
    assert pictures.min() >= -1
    assert pictures.max() <= 1
    centre = pictures[:, :, 20:28, 20:28].flatten(1)
    assert (centre.mean(1).abs() > 0.02).all()


def test_portraits_come_from_disk_the_second_time_and_carry_covariates(tmp_path, monkeypatch):
    population = Population(seed=2, size=4)
    first = po.portraits(population, range(1, 4), 2, size=16)
    monkeypatch.setattr(po, "photograph", None)  # a second making would fail
    second = po.portraits(population, range(1, 4), 2, size=16)
    assert torch.equal(first.images, second.images)
    assert second.identities.tolist() == [1, 1, 2, 2, 3, 3]
    assert set(second.covariates) == {"sex", "age", "nationality"}
    assert second.covariates["age"].tolist() == population.people([1, 1, 2, 2, 3, 3]).age.tolist()
    assert list(tmp_path.rglob("*.safetensors"))


def test_a_broken_cache_entry_is_made_again_with_a_warning(tmp_path):
    population = Population(seed=2, size=3)
    first = po.portraits(population, range(3), 1, size=16).images
    (entry,) = tmp_path.rglob("*.safetensors")
    entry.write_bytes(entry.read_bytes()[:100])
    with pytest.warns(UserWarning, match="cannot be read .* made again"):
        again = po.portraits(population, range(3), 1, size=16).images
    assert torch.equal(first, again)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: po.ImageNuisance(pose=-1.0), "nuisance pose: expected a strength of at least 0, found -1.0"),
        (lambda: po.ImageNuisance(noise=float("nan")), "nuisance noise"),
        (lambda: po.ImageNuisance(occlusion=9.0), "nuisance occlusion: at most 3.33"),
        (lambda: po.scenes(0, 3, np.random.default_rng(0)), "at least one person and one picture"),
    ],
)
def test_wrong_strengths_and_counts_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_scene_of_nobody_is_refused(people):
    setting = po.scenes(8, 1, np.random.default_rng(0))
    with pytest.raises(IndexError, match="scenes name people 0 to 7; there are 6"):
        po.photograph(people, setting)
