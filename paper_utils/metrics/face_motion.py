r"""How a talking face moves, by region: error, liveliness against the truth, diversity over samples, and what leaks between inputs (papers 04, 09)."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Bool, Float
from torch import Tensor


def region_rms(
    predicted: Float[Tensor, "batch time vertices 3"],
    truth: Float[Tensor, "batch time vertices 3"],
    region: Bool[Tensor, " marks"],
) -> Float[Tensor, " batch"]:
    r"""Root mean squared vertex distance on a region, one number a sequence: :math:`E = \sqrt{\overline{\lVert \hat x - x \rVert^2}}`, mm.

    The *leak ratio* of paper 04's disentanglement is ``region_rms`` on the mouth with the expression of somebody else over that with the own
    expression (1: nothing leaks), and on the upper face with the sound of somebody else. Its upper bound is the error of a face at rest.

    Raises
    ------
    ValueError
        If shapes differ, or the region is empty.
    """
    return _of(region, predicted, truth)[0].square().sum(-1).mean((-2, -1)).sqrt()


def variance_ratio(
    predicted: Float[Tensor, "batch time vertices 3"],
    truth: Float[Tensor, "batch time vertices 3"],
    region: Bool[Tensor, " marks"],
) -> Float[Tensor, " batch"]:
    r"""Variance over time of the prediction over that of the truth, each summed over the region; below 1 is regression to the mean.

    Raises
    ------
    ValueError
        As `region_rms`, or if the truth does not move.
    """
    _of(region, predicted, truth)
    moved = _temporal_variance(truth, region)
    if not (moved > 0).all():
        raise ValueError("truth: a sequence does not move on the region, so there is no ratio; leave it out")
    return _temporal_variance(predicted, region) / moved


def sample_diversity(
    samples: Float[Tensor, "samples batch time vertices 3"],
    truth: Float[Tensor, "batch time vertices 3"],
    region: Bool[Tensor, " marks"],
) -> Float[Tensor, " batch"]:
    r"""Variance over samples for the same sound, averaged over frames and region, over the variance over time of the truth there.

    Raises
    ------
    ValueError
        For fewer than two samples, or as `variance_ratio`.
    """
    if len(samples) < 2:
        raise ValueError(f"samples: diversity needs at least two, found {len(samples)}")
    _of(region, samples[0], truth)
    moved = _temporal_variance(truth, region)
    if not (moved > 0).all():
        raise ValueError("truth: a sequence does not move on the region, so there is no ratio; leave it out")
    return samples[..., region, :].var(0).sum(-1).mean((-2, -1)) / moved


def dynamics_deviation(
    predicted: Float[Tensor, "batch time vertices 3"],
    truth: Float[Tensor, "batch time vertices 3"],
    template: Float[Tensor, "batch vertices 3"],
    region: Bool[Tensor, " marks"],
    *,
    squared: bool = False,
) -> Float[Tensor, " batch"]:
    r"""Upper-face dynamics deviation (FDD) of each clip: does the face move as much as the truth, wherever it goes?

    .. math:: d = \overline{\operatorname{std}_t \lVert x_{tv} - h_v \rVert^p - \operatorname{std}_t \lVert \hat x_{tv} - h_v \rVert^p}

    averaged over the region's vertices; positive if the prediction moves too little.

    Parameters
    ----------
    predicted, truth
        Meshes.
    template
        Face at rest h of each clip.
    region
        The upper face.
    squared
        p = 2, in mm²: how published code computes FDD, whose mean over clips is `fdd`; its numbers (1e-5 on BIWI) are in squared units of other
        data. Else p = 1, in mm, as it is told in short (from memory, unverified); it can be read as a length.

    Raises
    ------
    ValueError
        As `region_rms`.
    """
    _of(region, predicted, truth)
    lengths = [(meshes - template[:, None])[..., region, :].norm(dim=-1) for meshes in (truth, predicted)]
    spread = [(length.square() if squared else length).std(1, correction=0) for length in lengths]
    return (spread[0] - spread[1]).mean(-1)


class Fdd(NamedTuple):
    """FDD over clips, both ways to average it.

    Parameters
    ----------
    signed
        Mean of the deviations (ProbTalk3D): too lively and too still clips cancel, so 0 does not mean that all is right.
    absolute
        Mean of their sizes (DEEPTalk), never below that of `signed`.
    """

    signed: float
    absolute: float


def fdd(deviations: Float[Tensor, " clips"]) -> Fdd:
    r"""Upper-face dynamics deviation over clips, :math:`\overline{d}` and :math:`\overline{|d|}`; report both.

    Parameters
    ----------
    deviations
        From `dynamics_deviation`, with ``squared`` for the definition of published code; clips may differ in length.

    Raises
    ------
    ValueError
        If there are none, or one is not finite.

    Examples
    --------
    >>> import torch
    >>> fdd(torch.tensor([1.0, -3.0]))
    Fdd(signed=-1.0, absolute=2.0)
    """
    if not len(deviations) or not deviations.isfinite().all():
        raise ValueError(
            f"deviations: expected one finite number a clip, found {len(deviations)} clips, "
            f"{int((~deviations.isfinite()).sum())} of them NaN or infinite"
        )
    return Fdd(float(deviations.mean()), float(deviations.abs().mean()))


def _of(region: Tensor, predicted: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Differences on the region, and the region."""
    if predicted.shape != truth.shape or region.shape != truth.shape[-2:-1]:
        raise ValueError(
            f"region: expected meshes of one shape and one truth value for each vertex, found {tuple(predicted.shape)}, "
            f"{tuple(truth.shape)} and {tuple(region.shape)}"
        )
    if not region.any():
        raise ValueError(f"region: none of the {len(region)} vertices belongs to it")
    return (predicted - truth)[..., region, :], region


def _temporal_variance(meshes: Tensor, region: Tensor) -> Tensor:
    return meshes[..., region, :].var(1, correction=0).sum(-1).mean(-1)
