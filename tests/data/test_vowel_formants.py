"""The table of published vowels holds together as measured formants must."""

import numpy as np

from paper_utils.data.vowel_formants import SPEAKERS, peterson_barney


def test_every_vowel_has_rising_formants_and_smaller_speakers_higher_ones():
    table = peterson_barney()
    assert table.shape == (10, 12)
    for who in SPEAKERS:
        assert (np.diff(table[who].to_numpy(), axis=1) > 0).all()
    means = [table[who][["F1", "F2", "F3"]].mean().to_numpy() for who in SPEAKERS]
    assert (means[0] < means[1]).all()
    assert (means[1] < means[2]).all()


def test_formants_of_women_are_about_a_sixth_above_those_of_men():
    table = peterson_barney()
    ratio = np.log(table["woman"][["F2", "F3"]] / table["man"][["F2", "F3"]]).to_numpy()
    assert 1.12 < np.exp(ratio.mean()) < 1.22
    assert ratio.std() < 0.06  # a mistyped digit would stand out
