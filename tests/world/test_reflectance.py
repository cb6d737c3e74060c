"""Paint: within [0, 1], mirror-symmetric unless asked otherwise, the same for a person in any batch, and where it should be."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from hypothesis import given, settings
from hypothesis import strategies as st

from paper_utils.world.face import head
from paper_utils.world.reflectance import Skin, pixel_reflectance, reflectance_maps, skin_colour, vertex_colours

SIZE = 64


def varied(count: int, seed: int = 0, asymmetry: float = 0.0) -> Skin:
    rng = np.random.default_rng(seed)
    return Skin.typical(
        count,
        melanin=rng.uniform(0.02, 1.2, count),
        blood=rng.uniform(0.1, 0.8, count),
        lip=rng.uniform(0.2, 0.9, count),
        brow=rng.uniform(0.3, 1.0, count),
        beard=rng.uniform(0, 1, count),
        freckles=rng.uniform(0, 1, count),
        iris=rng.uniform(0, 1, (count, 3)),
        hair=rng.uniform(0, 1, (count, 3)),
        hair_volume=rng.uniform(0, 15, count),
        hair_length=rng.uniform(0, 1, count),
        asymmetry=asymmetry,
        seed=rng.integers(0, 10**9, count),
    )


def texel(row: float, column: float, size: int = SIZE) -> tuple[int, int]:
    return int(row / 15 * size), int((column + 8) / 16 * size)


# ------------------------------------------------------------------------------------------------------- properties


@given(st.integers(0, 10_000), st.sampled_from([0.0, 3.0]))
@settings(max_examples=10, deadline=None)
def test_reflectance_lies_between_nothing_and_everything(seed, asymmetry):
    skin = varied(2, seed, asymmetry)
    for values in (reflectance_maps(skin, 32), vertex_colours(skin, head(2, full=True))):
        assert values.isfinite().all()
        assert values.min() >= 0
        assert values.max() <= 1


@pytest.mark.parametrize("size", [SIZE, 33])
def test_maps_are_their_own_mirror_image_exactly_without_asymmetry(size):
    maps = reflectance_maps(varied(4), size)
    assert maps.shape == (4, 3, size, size)
    assert torch.equal(maps, maps.flip(-1))


def test_asymmetry_grows_with_its_knob():
    unevenness = []
    for asymmetry in (0.5, 1.0, 3.0):
        maps = reflectance_maps(varied(6, asymmetry=asymmetry), SIZE)
        unevenness.append(float((maps - maps.flip(-1)).abs().mean()))
    assert 0 < unevenness[0] < unevenness[1] < unevenness[2]


def test_unpaired_blotches_fall_on_both_halves_alike():
    change = (
        (reflectance_maps(varied(40, asymmetry=3.0), SIZE) - reflectance_maps(varied(40), SIZE)).abs().mean((0, 1, 2))
    )
    right, left = change.chunk(2)
    assert 0.6 < float(right.mean() / left.mean()) < 1.6


@pytest.mark.parametrize("full", [False, True])
def test_vertex_colours_are_symmetric_without_asymmetry_only(full):
    face = head(2, full=full)
    colours = vertex_colours(varied(3), face)
    torch.testing.assert_close(colours[:, face.mirror], colours, atol=1e-5, rtol=0)
    uneven = vertex_colours(varied(3, asymmetry=3.0), face)
    assert (uneven[:, face.mirror] - uneven).abs().max() > 0.01


def test_a_person_looks_the_same_in_every_batch():
    crowd = varied(5)
    alone = reflectance_maps(crowd.take([3]), SIZE)
    torch.testing.assert_close(reflectance_maps(crowd, SIZE)[3:4], alone)
    torch.testing.assert_close(vertex_colours(crowd, head(2))[3:4], vertex_colours(crowd.take([3]), head(2)))


def test_the_seed_alone_makes_people_of_equal_pigment_differ():
    maps = reflectance_maps(Skin.typical(3, seed=[1, 1, 2]), SIZE)
    assert torch.equal(maps[0], maps[1])
    assert (maps[0] - maps[2]).abs().mean() > 0.003


def test_vertex_colours_agree_with_the_map():
    face, skin = head(3), dataclasses.replace(varied(2), freckles=np.zeros(2))  # freckles are finer than the mesh
    colours = vertex_colours(skin, face)
    maps = reflectance_maps(skin, 256)
    sampled = functional.grid_sample(
        maps, (2 * face.uv - 1).expand(2, 1, -1, 2), padding_mode="border", align_corners=False
    )[:, :, 0]
    smooth = (face.part == 0) & (face.grid[:, 0] > 5) & (face.grid[:, 0] < 7.4) & (face.grid[:, 1].abs() < 7)
    torch.testing.assert_close(colours[:, smooth], sampled.transpose(1, 2)[:, smooth], atol=0.04, rtol=0)


# ------------------------------------------------------------------------------------------------------- right place


def test_pigments_absorb_as_beer_and_lambert_say():
    clear = skin_colour(torch.tensor(0.0), torch.tensor(0.0))
    torch.testing.assert_close(clear, torch.tensor([0.93, 0.80, 0.70]))
    torch.testing.assert_close(
        skin_colour(torch.tensor(0.5), torch.tensor(0.4)),
        clear * torch.exp(-torch.tensor([0.5 * 0.95 + 0.4 * 0.10, 0.5 * 1.30 + 0.4 * 0.50, 0.5 * 1.62 + 0.4 * 0.42])),
    )
    twice = (
        skin_colour(torch.tensor(0.6), torch.tensor(0.2)) * skin_colour(torch.tensor(0.3), torch.tensor(0.1)) / clear
    )
    torch.testing.assert_close(twice, skin_colour(torch.tensor(0.9), torch.tensor(0.3)))


def test_more_melanin_is_darker_everywhere_on_bare_skin():
    maps = reflectance_maps(Skin.typical(3, melanin=[0.1, 0.5, 1.0], hair_volume=0.0), SIZE)
    rows = slice(texel(5, 0)[0], texel(7, 0)[0])
    assert (maps[0, :, rows] > maps[1, :, rows]).all()
    assert (maps[1, :, rows] > maps[2, :, rows]).all()


@pytest.mark.parametrize(
    ("change", "where", "elsewhere"),
    [
        ({"brow": 0.0}, (2.0, 3.0), (6.0, 0.0)),
        ({"lip": 0.0}, (9.5, 1.0), (6.0, 4.0)),
        ({"beard": 1.0}, (12.5, 2.0), (1.0, 0.0)),
        ({"lash": 0.0}, (3.95, 3.0), (7.0, 4.0)),
        ({"hair_volume": 0.0}, (0.2, 7.5), (6.0, 2.0)),
    ],
)
def test_each_layer_paints_its_place_and_no_other(change, where, elsewhere):
    size = 256
    before, after = reflectance_maps(Skin.typical(1), size)[0], reflectance_maps(Skin.typical(1, **change), size)[0]
    difference = (before - after).abs().amax(0)
    assert difference[texel(*where, size)] > 0.05
    assert difference[texel(*elsewhere, size)] < 1e-6


def test_lips_are_redder_and_nostrils_darker_than_the_skin_around():
    image = reflectance_maps(Skin.typical(1), 256)[0]

    def redness(row: float, column: float) -> float:
        red, green, _ = image[(slice(None), *texel(row, column, 256))].tolist()
        return red / green

    assert redness(9.6, 0.5) > 1.1 * redness(8.3, 0.5)
    assert (
        image[(slice(None), *texel(7.78, 0.95, 256))].mean() < 0.5 * image[(slice(None), *texel(7.78, 2.5, 256))].mean()
    )


def test_eyes_have_pupil_iris_and_white():
    face = head(2)
    colours = vertex_colours(Skin.typical(1, iris=(0.1, 0.3, 0.6)), face)[0]
    ball = colours[(face.part == 1) & (face.vertices[:, 0] > 0)]
    assert ball[0].max() < 0.05
    iris = ball[(ball[:, 2] > ball[:, 0] * 2)]
    assert len(iris) > 14
    assert ball[ball.min(1).values > 0.7].shape[0] >= 14


def test_bald_heads_show_skin_and_long_hair_covers_the_neck():
    face = head(2, full=True)
    skin = Skin.typical(3, hair=(0.9, 0.1, 0.1), hair_volume=[0.0, 10.0, 10.0], hair_length=[0.0, 0.0, 1.0])
    colours = vertex_colours(skin, face)
    cranium = face.part == face.part_names.index("cranium")
    red = colours[:, cranium, 0] / colours[:, cranium, 1].clamp_min(1e-3) > 4
    assert red.sum(1)[0] == 0
    assert 0 < red.sum(1)[1] < red.sum(1)[2]


def test_pictures_take_the_map_on_skin_and_vertex_colours_elsewhere():
    maps = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    centres = (torch.arange(8) + 0.5) / 8
    v, u = torch.meshgrid(centres, centres, indexing="ij")
    colours = torch.full((1, 3, 8, 8), 0.5)
    skin = (torch.arange(64) % 2 == 0).reshape(1, 8, 8)
    drawn = pixel_reflectance(maps, colours, torch.stack([u, v])[None], skin)
    torch.testing.assert_close(drawn[:, :, skin[0]], maps[:, :, skin[0]])
    torch.testing.assert_close(drawn[:, :, ~skin[0]], colours[:, :, ~skin[0]])


# ----------------------------------------------------------------------------------------------------------- faults


def test_people_can_be_chosen_by_row():
    skin = varied(5)
    chosen = skin.take([4, 0])
    assert len(chosen) == 2
    assert chosen.melanin.tolist() == [skin.melanin[4], skin.melanin[0]]
    assert chosen.hair.shape == (2, 3)
    torch.testing.assert_close(chosen.hair_style[:, 0].double(), torch.tensor(chosen.hair_volume), atol=1e-6, rtol=0)


def test_short_hair_and_bald_heads_have_no_length():
    styles = Skin.typical(4, hair_length=[0.2, 0.25, 1.0, 1.0], hair_volume=[9.0, 9.0, 9.0, 0.0]).hair_style
    torch.testing.assert_close(styles[:, 1], torch.tensor([0.0, 0.35, 1.0, 0.0]))


@pytest.mark.parametrize("size", [0, -4])
def test_maps_need_a_positive_size(size):
    with pytest.raises(ValueError, match="size: expected a positive whole number of texels"):
        reflectance_maps(Skin.typical(1), size)


def test_bad_skin_is_refused():
    with pytest.raises(ValueError, match=r"Skin.melanin: expected finite numbers from 0 up"):
        Skin.typical(1, melanin=-0.1)
    with pytest.raises(ValueError, match=r"Skin.blood: expected finite numbers from 0 up"):
        Skin.typical(1, blood=np.nan)
    with pytest.raises(ValueError, match=r"Skin.hair: a colour lies in \[0, 1\]"):
        Skin.typical(1, hair=(120.0, 90.0, 60.0))
    with pytest.raises(ValueError, match=r"unknown fields \['eyes'\]"):
        Skin.typical(1, eyes=1.0)
