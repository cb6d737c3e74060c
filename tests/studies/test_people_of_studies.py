"""People of notebooks 05 and 06: who they are depends on the data's name, their number and order do not."""

import pytest
import torch

from paper_utils import experiment
from paper_utils.studies import people


@pytest.mark.parametrize("data", ["world", "digits"])
def test_what_networks_see_and_pictures_agree_and_quality_changes_both(data):
    exp = experiment.start("06", profile="smoke", data=data)
    seen, pictures = people.load(exp, 5, 4)
    assert seen.identities.tolist() == pictures.identities.tolist() == [who for who in range(5) for _ in range(4)]
    poor_seen, poor = people.load(exp, 5, 4, quality=torch.zeros(20))
    fine_seen, fine = people.load(exp, 5, 4, quality=torch.ones(20))
    assert poor_seen.images.shape == seen.images.shape
    assert (poor.images - fine.images).abs().amax((1, 2, 3)).min() > 0.01
    assert not torch.equal(poor_seen.images, fine_seen.images)


def test_numbers_of_people_do_not_depend_on_the_paper_and_fit_the_drawings():
    for profile in ("smoke", "quick", "full"):
        both = [people.counts(experiment.start(number, profile=profile)) for number in ("05", "06")]
        assert both[0] == both[1]
        assert people.counts(experiment.start("06", profile=profile, data="digits")).people <= 1797


def test_more_people_than_drawings_are_refused():
    exp = experiment.start("06", profile="smoke", data="digits")
    with pytest.raises(ValueError, match="people: expected at most 1797, one a drawn digit, found 1798"):
        people.drawn_people(exp, 1798, 1)
