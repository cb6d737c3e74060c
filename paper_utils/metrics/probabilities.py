"""Checks that a table is made of probabilities, with messages that name the row and its sum."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

SUM_TOLERANCE = 1e-9


def distributions(
    values: ArrayLike, name: str, *, ndim: int = 2, tolerance: float = SUM_TOLERANCE
) -> Float[np.ndarray, "*shape"]:
    """`values` as float64 whose last axis sums to one, after checking that it does.

    Sums are accepted within `tolerance` (decimals in a file) and then made exact, so that formulas agree to the last digits.

    Parameters
    ----------
    values
        One distribution (``ndim=1``) or one a row.
    name
        What the message calls it.
    ndim
        Expected number of axes.
    tolerance
        Largest distance of a sum from one.

    Raises
    ------
    ValueError
        If the values are not numbers, NaN, infinite, negative, of another number of axes, empty, or do not sum to one.

    Examples
    --------
    >>> distributions([0.25, 0.75], "prior", ndim=1).tolist()
    [0.25, 0.75]
    """
    try:
        array = np.array(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name}: expected numbers in {ndim} axes with rows of equal length, found {values!r:.80}"
        ) from error
    if array.ndim != ndim or array.size == 0:
        raise ValueError(f"{name}: expected a non-empty array with {ndim} axes, found shape {array.shape}")
    if not np.isfinite(array).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(f"{name}: entry {where} is {array[where]}; probabilities must be finite")
    if (array < 0).any():
        where = tuple(int(i) for i in np.argwhere(array < 0)[0])
        raise ValueError(f"{name}: entry {where} is {array[where]:g}; probabilities must not be negative")
    sums = array.sum(axis=-1, keepdims=True)
    wrong = np.argwhere(np.abs(sums[..., 0] - 1) > tolerance)
    if len(wrong):
        row = tuple(int(i) for i in wrong[0])
        which = f"row {row[0] if len(row) == 1 else row}" if row else "it"
        raise ValueError(f"{name}: {which} sums to {float(sums[..., 0][row]):.12g}, expected 1 within {tolerance:g}")
    return array / sums


def probability(value: float, name: str) -> float:
    """`value` itself if it is a probability, else a ``ValueError`` that names it."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name}: expected a probability in [0, 1], found {value}")
    return float(value)


def ratio(above: Float[np.ndarray, "*shape"], below: Float[np.ndarray, "*broadcasts"]) -> Float[np.ndarray, "*shape"]:
    """Quotient of masses without warnings: infinite where only the lower one is 0, NaN where both are."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return above / below
