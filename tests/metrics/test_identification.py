"""Ranks and open-set rates of searches by enumeration, and a case in which the two definitions of TPIR part."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paper_utils.metrics import identification as ident

# Three probes (a, b and a stranger z) against a gallery of a and b.
SCORES = np.array([[0.9, 0.2], [0.7, 0.6], [0.5, 0.65]])
PROBES, GALLERY = np.array(["a", "b", "z"]), np.array(["a", "b"])


@st.composite
def score_tables(draw):
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    probes, gallery = draw(st.integers(1, 12)), draw(st.integers(1, 8))
    scores = np.round(rng.normal(size=(probes, gallery)), draw(st.sampled_from([0, 1, 6])))
    return scores, rng.integers(0, 5, probes), rng.integers(0, 5, gallery)


# ---------------------------------------------------------------------------------------------------------- by hand


def test_the_two_definitions_differ_on_a_case_by_hand():
    found = ident.search(SCORES, PROBES, GALLERY)
    # Scores between different people are .2, .7, .5, .65. One third of three probes allows the first of them, so the threshold is .7:
    # only a's .9 is above it, one of three probes.
    official = ident.tpir_opensphere(found, 1 / 3)
    assert (official.threshold, official.tpir) == (0.7, pytest.approx(1 / 3))
    # z is the only search without mate; b's impostor at .7 is not its concern. At FPIR 1 everything is returned.
    assert np.isnan(ident.tpir_nist(found, 1 / 3).tpir)
    assert ident.tpir_nist(found, 1.0).tpir == 1.0
    two = ident.search(np.r_[SCORES, [[0.1, 0.3]]], np.r_[PROBES, ["y"]], GALLERY)
    # Strangers reach .65 and .3; half of them may return somebody, so the threshold is .3, and both a (.9) and b (.6) are returned.
    nist = ident.tpir_nist(two, 0.5)
    assert (nist.threshold, nist.tpir, nist.mated, nist.non_mated) == (0.3, 1.0, 2, 2)
    # b's mate is only second: with rank 1 it is a miss. The official number at .5 (two of .7, .65, ...) counts a alone, of four probes.
    assert ident.tpir_nist(two, 0.5, rank=1).tpir == 0.5
    other = ident.tpir_opensphere(two, 0.5)
    assert (other.threshold, other.tpir) == (0.65, 0.25)
    assert (official.definition, nist.definition) == ("opensphere", "nist")


def test_top_k_divides_by_all_probes_unless_told():
    found = ident.search(SCORES, PROBES, GALLERY)
    assert found.mate_rank.tolist() == [1, 2, 3]
    assert (ident.top_k(found, 1), ident.top_k(found, 2)) == (1 / 3, 2 / 3)
    assert ident.top_k(found, 1, mated_only=True) == 1 / 2


def test_a_tie_with_another_subject_is_not_a_win():
    found = ident.search(np.full((2, 3), 0.5), np.array([1, 2]), np.array([1, 2, 3]))
    assert [ident.top_k(found, k) for k in (1, 2, 3)] == [0, 0, 1]


def test_a_second_template_of_the_subject_does_not_push_it_down():
    found = ident.search(np.array([[0.9, 0.8, 0.85]]), np.array([1]), np.array([1, 1, 2]))
    assert found.mate_rank.tolist() == [1]
    assert sorted(found.mate_scores) == [0.8, 0.9]


def test_galleries_apart_turn_probes_of_the_other_half_into_strangers():
    gallery = np.array([0, 1])
    report = ident.evaluate(SCORES, PROBES, GALLERY, gallery=gallery, ks=[1], fpirs=[0.5])
    (first, second), *rest = report.nist
    assert not rest
    # Gallery a: strangers b (.7) and z (.5), threshold .5, a returned. Gallery b: strangers a (.2), z (.65), threshold .2, b returned.
    assert (first.threshold, first.tpir, first.mated, first.non_mated) == (0.5, 1.0, 1, 2)
    assert (second.threshold, second.tpir) == (0.2, 1.0)
    assert report.nist_mean == (1.0,)
    assert report.opensphere[0].tpir == ident.tpir_opensphere(ident.search(SCORES, PROBES, GALLERY), 0.5).tpir


def test_probes_without_mate_are_counted_in_the_report():
    report = ident.evaluate(SCORES, PROBES, GALLERY, ks=[1, 2], fpirs=[0.5, 1.0])
    assert (report.probes, report.without_mate, report.gallery, report.subjects) == (3, 1, 2, 2)
    assert report.notes == (
        "nist: FPIR 0.5 cannot be read from 1 searches without and 2 with a mate",
        "1 of 3 probes have no mate in any gallery",
    )


# ------------------------------------------------------------------------------------------------------ enumeration


@given(score_tables(), st.sampled_from([0.1, 0.3, 0.5, 1.0]))
@settings(max_examples=150)
def test_both_rates_are_their_definitions(table, fpir):
    scores, probes, gallery = table
    found = ident.search(scores, probes, gallery)
    mate = probes[:, None] == gallery
    official = ident.tpir_opensphere(found, fpir)
    wrong, budget = sorted(scores[~mate], reverse=True), math.ceil(fpir * len(probes))
    if budget > len(wrong):
        assert np.isnan(official.tpir)
        assert official.note
    else:
        assert official.tpir == pytest.approx((scores[mate] > wrong[budget - 1]).sum() / len(probes))
    nist = ident.tpir_nist(found, fpir)
    mated = mate.any(axis=1)
    if not mated.any() or fpir * (~mated).sum() < 1 - 1e-9:
        assert np.isnan(nist.tpir)
        return
    best = np.where(mate, scores, -np.inf).max(axis=1)
    allowed = [t for t in [-np.inf, *scores.ravel()] if (scores[~mated].max(axis=1) > t).mean() <= fpir + 1e-9]
    assert nist.tpir == pytest.approx(max((best[mated] > t).mean() for t in allowed))


@given(score_tables())
@settings(max_examples=100)
def test_ranks_count_the_others_that_are_ahead(table):
    scores, probes, gallery = table
    found = ident.search(scores, probes, gallery)
    for row, (person, rank) in enumerate(zip(probes, found.mate_rank, strict=True)):
        own = gallery == person
        expected = 1 + (scores[row, ~own] >= scores[row, own].max()).sum() if own.any() else len(gallery) + 1
        assert rank == expected
    assert found.mated == np.isin(probes, gallery).sum()
    shares = [ident.top_k(found, k) for k in range(1, len(gallery) + 1)]
    assert shares == sorted(shares)
    assert shares[-1] == found.mated / len(probes)


@given(score_tables())
@settings(max_examples=60)
def test_rates_depend_on_order_only_and_not_on_blocks(table):
    scores, probes, gallery = table
    plain = ident.evaluate(scores, probes, gallery, ks=[1])
    stretched = ident.evaluate(np.exp(scores), probes, gallery, ks=[1])
    for first, second in zip(plain.opensphere, stretched.opensphere, strict=True):
        np.testing.assert_equal(first.tpir, second.tpir)
    np.testing.assert_equal(plain.nist_mean, stretched.nist_mean)
    assert plain.top == stretched.top
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ident, "BLOCK_CELLS", 9)
        blocks = ident.search(scores, probes, gallery)
    for name, value in vars(ident.search(scores, probes, gallery)).items():
        np.testing.assert_array_equal(getattr(blocks, name), value)


# ----------------------------------------------------------------------------------------------------------- faults


def test_faults_are_named():
    found = ident.search(SCORES, PROBES, GALLERY)
    search = getattr(ident.search, "__wrapped__", ident.search)
    with pytest.raises(ValueError, match="found 3 and 0"):
        search(np.ones((3, 0)), PROBES, GALLERY[:0])
    with pytest.raises(ValueError, match="for 3 probe and 1 gallery subjects"):
        search(SCORES, PROBES, GALLERY[:1])
    with pytest.raises(ValueError, match="1 of 6 are NaN"):
        search(np.where(SCORES == 0.9, np.nan, SCORES), PROBES, GALLERY)
    with pytest.raises(ValueError, match="k: expected 1 to 2"):
        ident.top_k(found, 3)
    for function in (ident.tpir_opensphere, ident.tpir_nist):
        with pytest.raises(ValueError, match="fpir: expected a rate"):
            function(found, 0.0)
    with pytest.raises(ValueError, match="rank: expected at least 1"):
        ident.tpir_nist(found, 1.0, rank=0)
    strangers = ident.search(SCORES, np.array(["x", "y", "z"]), GALLERY)
    assert ident.top_k(strangers, 1) == 0
    assert "no probe has a mate" in ident.tpir_opensphere(strangers, 0.5).note
    with pytest.raises(ValueError, match="named alike"):
        ident.top_k(strangers, 1, mated_only=True)
