"""Tables of probabilities: accepted within rounding, refused with row and sum."""

from __future__ import annotations

import numpy as np
import pytest

from paper_utils.metrics import probabilities


def test_rounded_rows_become_exact() -> None:
    table = probabilities.distributions([[0.333333333333, 0.666666666667], [1, 0]], "table")
    assert (table.sum(axis=1) == 1).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[0.5, 0.5], [0.5, 0.500001]], "table: row 1 sums to 1.000001, expected 1 within 1e-09"),
        ([[-0.1, 1.1]], r"table: entry \(0, 0\) is -0.1"),
        ([[np.inf, 0]], r"entry \(0, 0\) is inf"),
        ([0.5, 0.5], "with 2 axes, found shape"),
        (np.zeros((0, 2)), "non-empty"),
        ("abc", "expected numbers"),
    ],
)
def test_other_tables_are_refused(values: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        probabilities.distributions(values, "table")


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_a_probability_is_one(value: float) -> None:
    with pytest.raises(ValueError, match="presence: expected a probability"):
        probabilities.probability(value, "presence")
