"""Voices and faces of the same people, and voices dealt anew."""

import numpy as np
import pytest
import torch

from paper_utils.world import meetings
from paper_utils.world.people import Population


@pytest.fixture
def pair(tmp_path, monkeypatch):
    monkeypatch.setenv("PAPER_UTILS_OUTPUT", str(tmp_path))
    return meetings.voices_and_faces(
        Population(seed=3, size=30), range(30), recordings=2, pictures=2, seconds=0.5, mel=8, size=8
    )


def test_both_modalities_show_the_same_people(pair):
    voices, faces = pair
    assert torch.equal(voices.identities.unique(), faces.identities.unique())
    assert faces.images.shape == (60, 3, 8, 8)
    assert len(voices) == 60
    sexes = [meetings.person_values(side.covariates, side.identities, "sex", side.name) for side in (voices, faces)]
    assert np.array_equal(*sexes)
    assert torch.equal(voices.covariates["nationality"], voices.covariates["accent"])


def test_dealing_gives_everybody_the_voice_of_another_who_agrees(pair):
    voices, _ = pair
    dealt = meetings.deal(voices, np.random.default_rng(0), within=("sex",))
    assert torch.equal(dealt.log_mel, voices.log_mel)
    assert (dealt.identities != voices.identities).all()
    sex, new = (meetings.person_values(v.covariates, v.identities, "sex", v.name) for v in (voices, dealt))
    assert np.array_equal(sex, new)
    # Recordings of one person stay together.
    assert len(torch.stack([voices.identities, dealt.identities]).unique(dim=1).T) == 30
    assert "sex" in dealt.name


def test_dealing_without_a_condition_breaks_the_sex_too(pair):
    voices, _ = pair
    dealt = meetings.deal(voices, np.random.default_rng(0))
    sex, new = (meetings.person_values(v.covariates, v.identities, "sex", v.name) for v in (voices, dealt))
    assert not np.array_equal(sex, new)
    assert np.array_equal(np.bincount(sex), np.bincount(new))


def test_a_person_alone_in_a_group_keeps_the_voice(pair):
    voices, _ = pair
    voices.covariates["lonely"] = (voices.identities == 4).long()
    dealt = meetings.deal(voices, np.random.default_rng(0), within=("lonely",))
    kept = dealt.identities == voices.identities
    assert torch.equal(kept, voices.identities == 4)


def test_a_covariate_that_differs_inside_a_person_is_refused(pair):
    voices, _ = pair
    voices.covariates["mood"] = torch.arange(len(voices)) % 2
    with pytest.raises(ValueError, match="items of person 0 differ in mood"):
        meetings.deal(voices, np.random.default_rng(0), within=("mood",))
    with pytest.raises(ValueError, match="no covariate 'height'"):
        meetings.deal(voices, np.random.default_rng(0), within=("height",))
