"""Passport pictures: plain, alike for a person, and the same in every world whose people have the same faces."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paper_utils.world.passports import encoded, passport_pictures
from paper_utils.world.people import Population

POPULATION = Population(seed=3, size=20, voice_face_link=1.0)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAPER_UTILS_OUTPUT", str(tmp_path_factory.mktemp("world")))
        return passport_pictures(POPULATION, range(4, 12), 4, size=16)


def test_they_name_the_people_on_them(pictures):
    assert pictures.images.shape == (32, 3, 16, 16)
    assert pictures.identities.tolist() == [person for person in range(4, 12) for _ in range(4)]
    assert pictures.covariates["sex"].reshape(8, 4).unique(dim=1).shape == (8, 1)
    assert -1 <= float(pictures.images.min()) < float(pictures.images.max()) <= 1


def test_the_wall_is_plain_and_the_face_is_not(pictures):
    corners = pictures.images[:, :, :2, :2]
    assert float(corners.std()) < 0.05
    assert float(pictures.images[:, :, 4:12, 4:12].std()) > 0.15


def test_pictures_of_a_person_differ_less_than_people(pictures):
    by_person = pictures.images.flatten(1).view(8, 4, -1)
    within = by_person.var(dim=1).mean()
    between = by_person.mean(1).var(dim=0).mean()
    assert float(within) < 0.5 * float(between)


def test_cutting_the_link_changes_no_face(pictures):
    other = dataclasses.replace(POPULATION, voice_face_link=0.0, shared=("sex",))
    assert torch.equal(passport_pictures(other, range(4, 12), 4, size=16).images, pictures.images)


@given(st.floats(-1, 1), st.floats(-1, 1))
def test_encoding_keeps_the_ends_and_the_order(one, two):
    light = torch.tensor([-1.0, min(one, two), max(one, two), 1.0])
    stored = encoded(light)
    assert stored[0] == -1
    assert stored[3] == 1
    assert stored[1] <= stored[2]
