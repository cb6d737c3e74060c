r"""How far lips are from where they should be: the authors' lip error of paper 04, and the measures that are easily taken for it.

All of them go by the worst lip vertex of a frame or by the mean over lip vertices; they differ in centring, squares and unit, by orders
of magnitude. Always name the variant beside the number.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def lip_error(
    predicted: Float[Tensor, "*batch time vertices 3"],
    truth: Float[Tensor, "*batch time vertices 3"],
    lips: Bool[Tensor, " marks"],
) -> Float[Tensor, "*batch time"]:
    r"""Lip error of paper 04 for every frame, in the unit of the meshes (mm); its mean over frames is what the paper's table 2 reports.

    .. math:: e_t = \max_{v \in S} \big\lVert (\hat x_{tv} - \overline{\hat x_{t}}) - (x_{tv} - \overline{x_t}) \big\rVert_2

    with means over the lip vertices S, so moving the whole mouth costs nothing. The maximum because upper lip and corners move little and
    would dilute a mean.

    Parameters
    ----------
    predicted, truth
        Meshes.
    lips
        S, picked by hand; the authors' is not published, so only differences within one choice can be compared.

    Raises
    ------
    ValueError
        If shapes differ, or no vertex is a lip.

    References
    ----------
    Paper 04, table 2; definition given by the authors in the discussion of their code (issue 32).
    """
    difference = _difference(predicted, truth, lips)
    return (difference - difference.mean(-2, keepdim=True)).norm(dim=-1).amax(-1)


def lip_max_error(
    predicted: Float[Tensor, "*batch time vertices 3"],
    truth: Float[Tensor, "*batch time vertices 3"],
    lips: Bool[Tensor, " marks"],
) -> Float[Tensor, "*batch time"]:
    r"""The same without centring: :math:`\max_v \lVert \hat x_{tv} - x_{tv} \rVert`. Not the paper's; a shifted mouth counts."""
    return _difference(predicted, truth, lips).norm(dim=-1).amax(-1)


def lip_vertex_error(
    predicted: Float[Tensor, "*batch time vertices 3"],
    truth: Float[Tensor, "*batch time vertices 3"],
    lips: Bool[Tensor, " marks"],
) -> Float[Tensor, "*batch time"]:
    r"""LVE of later papers: :math:`\max_v \lVert \hat x_{tv} - x_{tv} \rVert^2`, squared and not centred, in squared units.

    Their numbers (1e-4 on BIWI, 1e-5 on VOCASET, in the units of those data; from memory, unverified) cannot be compared with millimetres.
    """
    return lip_max_error(predicted, truth, lips).square()


def lip_mean_error(
    predicted: Float[Tensor, "*batch time vertices 3"],
    truth: Float[Tensor, "*batch time vertices 3"],
    lips: Bool[Tensor, " marks"],
) -> Float[Tensor, "*batch time"]:
    r"""Mean over the lips instead of the worst vertex: :math:`\overline{\lVert \hat x_{tv} - x_{tv} \rVert}`. Not the paper's."""
    return _difference(predicted, truth, lips).norm(dim=-1).mean(-1)


def _difference(predicted: Tensor, truth: Tensor, lips: Tensor) -> Tensor:
    """Predicted less true lip vertices."""
    if predicted.shape != truth.shape or lips.shape != truth.shape[-2:-1]:
        raise ValueError(
            f"lips: expected meshes of one shape and one truth value for each vertex, found {tuple(predicted.shape)}, "
            f"{tuple(truth.shape)} and {tuple(lips.shape)}"
        )
    if not lips.any():
        raise ValueError(f"lips: none of the {len(lips)} vertices is a lip; is it the right mask?")
    difference = (predicted - truth)[..., lips, :]
    if not torch.isfinite(difference.sum()):
        raise ValueError("predicted and truth: lip vertices hold NaN or infinite values")
    return difference
