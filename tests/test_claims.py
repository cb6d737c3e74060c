"""Claims: what rules say of intervals, how they are read, and one verdict from several seeds."""

import json

import numpy as np
import pytest

from paper_utils import claims
from paper_utils.claims import Claim
from paper_utils.metrics.statistics import Estimate, mean_t_interval


def claim(direction="above", threshold=0.0, control="the effect is switched off", unit="points"):
    return Claim("T1", "it has an effect", "none quoted", threshold, direction, unit, control)


def interval(low, high):
    return Estimate((low + high) / 2, low, high, 10, "given")


def runs(values, controls, **options):
    """Records of one claim, one a run; the intervals within a run are so narrow that they decide nothing."""
    given = claim(**options)
    return [
        given.decide(interval(v - 0.01, v + 0.01), None if c is None else interval(c - 0.01, c + 0.01)).as_record()
        for v, c in zip(values, controls, strict=True)
    ]


@pytest.mark.parametrize(
    ("direction", "threshold", "low", "high", "outcome"),
    [
        ("above", 1.0, 1.1, 2.0, "reproduced"),
        ("above", 1.0, 0.9, 2.0, "inconclusive"),
        ("above", 1.0, 0.0, 1.0, "not reproduced"),
        ("below", 1.0, 0.0, 0.9, "reproduced"),
        ("below", 1.0, 0.0, 1.1, "inconclusive"),
        ("below", 1.0, 1.0, 1.1, "not reproduced"),
        ("within", 1.0, -1.0, 1.0, "reproduced"),
        ("within", 1.0, -1.1, 0.0, "inconclusive"),
        ("within", 1.0, 1.1, 2.0, "not reproduced"),
        ("within", 1.0, -2.0, -1.1, "not reproduced"),
        ("within", 0.0, 0.0, 0.0, "reproduced"),
    ],
)
def test_rule_decides_by_the_whole_interval(direction, threshold, low, high, outcome):
    assert claim(direction, threshold).judge(interval(low, high))[0] == outcome


def test_claims_are_read_from_a_table_with_their_rule_and_control():
    first, second = claims.read_claims(
        """
        A1 | heads differ | 3 points (paper) | below -0.5 points of EER | m = 1
        A2 | they agree | none | within 1e-6 relative |
        """
    )
    assert (first.id, first.direction, first.threshold, first.unit, first.control) == (
        "A1",
        "below",
        -0.5,
        "points of EER",
        "m = 1",
    )
    assert (second.direction, second.threshold, second.control) == ("within", 1e-6, None)


@pytest.mark.parametrize("line", ["A1 | heads differ | none | below 3 points", "A1 | heads differ | none | below | x"])
def test_a_claim_that_cannot_be_read_is_shown(line):
    with pytest.raises(ValueError, match=r"expected 'id \| statement.*found 'A1"):
        claims.read_claims(line)


@pytest.mark.parametrize("direction", ["above", "below", "within"])
@pytest.mark.parametrize("unit", ["points of EER", "", "% of [0, 1]"])
@pytest.mark.parametrize("threshold", [0.0, 0.05, 1e-10, 3.0])
def test_a_claim_is_read_back_from_its_record(direction, unit, threshold):
    given = claim(direction, threshold, unit=unit)
    record = json.loads(json.dumps(given.decide(interval(1, 2), interval(0, 1)).as_record()))
    assert claims.claim_of(record) == given


def test_a_rule_that_cannot_be_read_is_shown():
    (record,) = runs([1.0], [0.0])
    with pytest.raises(ValueError, match="claim T1: its rule cannot be read: 'always'"):
        claims.claim_of(record | {"rule": "always"})


def test_the_verdict_over_seeds_takes_one_value_a_run_by_the_claims_own_rule():
    values, controls = [1.0, 1.2, 1.4, 1.1], [0.1, -0.2, 0.0, 0.05]
    found = claims.over_seeds(runs(values, controls))
    assert found.outcome == "reproduced"
    assert (found.measured.low, found.measured.high) == pytest.approx(
        (mean_t_interval(np.array(values)).low, mean_t_interval(np.array(values)).high)
    )
    assert found.control_outcome == "inconclusive"
    # Each run is certain of its own value; what they say together is not.
    spread = claims.over_seeds(runs([1.0, -1.2, 3.4, 1.1], controls))
    assert spread.outcome == "inconclusive"


def test_what_is_exact_in_every_run_has_its_range():
    given = claim("below", 4.0)
    one, other, third = (given.decide(interval(v, v), interval(9.0, 9.0)).as_record() for v in (1.0, 3.9, 2.0))
    found = claims.over_seeds([one, other, third])
    assert (found.measured.low, found.measured.high, found.outcome) == (1.0, 3.9, "reproduced")
    assert (found.control.low, found.control.high) == (9.0, 9.0)
    inexact = third | {"ci95": [1.9, 2.1]}
    assert claims.over_seeds([one, other, inexact]).outcome == "inconclusive"  # 2.3 [-1.4, 6.0]


def test_the_control_over_seeds_takes_the_verdict_back():
    found = claims.over_seeds(runs([1.0, 1.2, 1.4], [0.5, 0.6, 0.4]))
    assert (found.outcome, found.control_outcome) == ("inconclusive", "reproduced")
    assert "control shows the effect too" in found.reason


def test_a_claim_without_control_is_judged_over_seeds_too():
    found = claims.over_seeds(runs([1.0, 1.2, 1.4], [None] * 3, control=None))
    assert (found.outcome, found.control) == ("reproduced", None)


def test_runs_of_different_claims_are_not_put_together():
    with pytest.raises(ValueError, match="expected runs of one claim with one rule"):
        claims.over_seeds([*runs([1.0, 1.2], [0, 0]), *runs([1.0], [0], threshold=0.5)])
    with pytest.raises(ValueError, match="needs at least 2 values, found 1"):
        claims.over_seeds(runs([1.0], [0]))
