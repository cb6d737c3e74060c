"""How far two sets of vectors are apart as normal distributions: the distance behind FID and its relatives."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def frechet_distance(first: Float[np.ndarray, "n dim"], second: Float[np.ndarray, "m same_dim"]) -> float:
    r"""Squared Fréchet distance between the normal distributions with the sets' means and covariances.

    .. math:: d^2 = |\mu_1 - \mu_2|^2 + \operatorname{tr}\big(S_1 + S_2 - 2\,(S_1^{1/2} S_2 S_1^{1/2})^{1/2}\big)

    With the features of a network trained on photographs this is the Fréchet inception distance; the smaller a set, the larger the
    distance comes out, so compare it with that of two sets of real pictures of the same sizes.

    Parameters
    ----------
    first, second
        One row an item. More rows than columns, or the covariances are singular and the distance says little.

    Raises
    ------
    ValueError
        If the sets differ in width, hold fewer than two rows, or a value is not finite.

    Examples
    --------
    >>> corners = np.array([[0.0, 0.0], [0.0, 2.0], [2.0, 0.0], [2.0, 2.0]])
    >>> round(frechet_distance(corners, corners + 3.0), 6)
    18.0
    """
    first, second = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if first.ndim != 2 or first.shape[1:] != second.shape[1:] or min(len(first), len(second)) < 2:
        raise ValueError(
            f"expected two sets of at least two rows and of one width, found shapes {first.shape} and {second.shape}"
        )
    bad = sum(int((~np.isfinite(values)).sum()) for values in (first, second))
    if bad:
        raise ValueError(f"{bad} values are NaN or infinite; look for a diverged network")
    one, two = (np.atleast_2d(np.cov(values, rowvar=False)) for values in (first, second))
    values, vectors = np.linalg.eigh(one)
    root = vectors * np.sqrt(values.clip(min=0)) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ two @ root).clip(min=0)).sum()
    return float(np.sum((first.mean(0) - second.mean(0)) ** 2) + np.trace(one) + np.trace(two) - 2 * cross)
