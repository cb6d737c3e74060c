"""Tokens cut out of speech: where they are cut, what they keep of it, and speakers with and without measurements."""

import dataclasses

import numpy as np
import pytest
import torch
from data.test_subject_tables import TABLE, written

from paper_utils.data import phones as ph
from paper_utils.data.speech import Voices
from paper_utils.data.subject_tables import read_measurements


def voices(phones=("SIL", "P", "AA", "SIL"), bounds=(0.0, 0.1, 0.2, 0.5, 0.6), frames=61, bands=8, people=(3, 5)):
    """Log-mel whose band 0 is the frame's number, so that a token shows where it was cut."""
    log_mel = torch.randn(frames * len(people), bands, generator=torch.Generator().manual_seed(0))
    log_mel[:, 0] = torch.arange(frames).repeat(len(people))
    names = tuple(dict.fromkeys(phones))
    return Voices(
        log_mel=log_mel,
        starts=torch.arange(len(people) + 1) * frames,
        hop_ms=10.0,
        identities=torch.tensor(people),
        phone_names=names,
        phones=torch.tensor([names.index(p) for p in phones] * len(people), dtype=torch.int16),
        phone_starts=torch.arange(len(people) + 1) * len(phones),
        boundaries_s=torch.tensor(bounds * len(people)),
        name="made up",
    )


def test_tokens_are_cut_at_equal_parts_of_the_phone():
    made = voices()
    tokens = ph.phone_tokens(made, 3)
    assert tokens.phone_names == ("P", "AA")
    assert tokens.phones.tolist() == [0, 1, 0, 1]
    assert tokens.subjects.tolist() == [3, 3, 5, 5]
    torch.testing.assert_close(tokens.seconds, torch.tensor([0.1, 0.3, 0.1, 0.3]))
    # AA lasts from frame 20 to 50: its thirds have their middles at 25, 35 and 45.
    expected = made.log_mel[[25, 35, 45]]
    expected = (expected - expected.mean(1, keepdim=True)) / (expected.std(1, correction=0, keepdim=True) + 1e-6)
    torch.testing.assert_close(tokens.features[1], expected, atol=1e-4, rtol=1e-4)


def test_padded_tokens_show_how_long_a_phone_lasts_and_stretched_ones_do_not():
    made = voices()
    padded = ph.phone_tokens(made, 32, layout="padded")
    shown = (padded.features != 0).any(2).sum(1)
    assert shown.tolist() == [10, 30, 10, 30]
    assert (ph.phone_tokens(made, 32).features != 0).any(2).all()
    cropped = ph.phone_tokens(made, 20, layout="padded")
    torch.testing.assert_close(cropped.features[1], padded.features[1, :20])


def test_only_the_phones_that_were_asked_for_are_cut():
    tokens = ph.phone_tokens(voices(), 3, phones=("AA",))
    assert tokens.phone_names == ("AA",)
    assert len(tokens) == 2
    with pytest.raises(ValueError, match="no token of IY; leave them out"):
        ph.phone_tokens(voices(), 3, phones=("AA", "IY"))
    with pytest.raises(ValueError, match="layout: expected 'stretched' or 'padded'"):
        ph.phone_tokens(voices(), 3, layout="mine")


def test_level_does_not_reach_the_tokens():
    made = voices()
    louder = dataclasses.replace(made, log_mel=made.log_mel + 3.0)
    torch.testing.assert_close(ph.phone_tokens(made).features, ph.phone_tokens(louder).features, atol=1e-4, rtol=1e-4)


def test_an_alignment_past_the_end_of_its_sound_is_refused():
    with pytest.raises(ValueError, match=r"recording 0: its alignment ends 0.1\d+ s past its sound"):
        ph.phone_tokens(voices(frames=45))


def test_subject_means_average_tokens_and_leave_holes():
    tokens = ph.PhoneTokens(
        torch.tensor([1.0, 3.0, 10.0, 20.0]).view(4, 1, 1).repeat(1, 2, 2), torch.tensor([0, 0, 0, 1]), torch.tensor([9, 9, 4, 4]),
        torch.ones(4), ("AA", "P"), "made up",
    )  # fmt: skip
    means, counts = tokens.subject_means(np.array([4, 9, 2]))
    assert counts.tolist() == [[1, 2, 0], [1, 0, 0]]
    np.testing.assert_allclose(means[0, :, 0], [10.0, 2.0, np.nan])
    assert np.isnan(means[1, 1]).all()
    assert tokens.of("P").subjects.tolist() == [4]
    with pytest.raises(ValueError, match="no token of 'IY'; there are AA P"):
        tokens.of("IY")


def test_speakers_without_measurements_are_refused_or_listed(tmp_path):
    table = read_measurements(written(tmp_path, TABLE), covariates=("age", "site"))
    tokens = ph.phone_tokens(voices(), 2)  # speakers 3 and 5; the jaw of 3 is missing
    with pytest.raises(ValueError, match=r"1 of 2 speakers have no .* measurements in table.csv: 3; measure them"):
        ph.matched(tokens, table)
    speech, kept, lost = ph.matched(tokens, table, missing="drop")
    assert lost == ("3",)
    assert kept.subjects.tolist() == [5]
    assert speech.subjects.unique().tolist() == [5]
    with pytest.raises(ValueError, match="no subject in common"):
        ph.matched(tokens, table.take(np.array([2])), missing="drop")
    with pytest.raises(ValueError, match="missing: expected 'raise' or 'drop'"):
        ph.matched(tokens, table, missing="zero")
