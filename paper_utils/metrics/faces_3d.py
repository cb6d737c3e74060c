r"""How far a decomposed face is from the truth: reflectance, shading, light, viewpoint, and landmarks in the picture.

All of it in batches of tensors, one number for each image, so that intervals can be taken over people afterwards. Light times reflectance
is all a picture shows, so their common factor cannot be known from it: the errors of both are taken after the best single factor.
Shapes are measured in `paper_utils.metrics.mesh`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from paper_utils.mesh.cameras import rotation_matrix

LEAST_DIRECTION = (
    0.05  # of the ambient term; below it a light has no direction worth the name (design of the reproduction)
)
YAW_EDGES = (30.0, 60.0)  # degrees; the three bins of the AFLW2000-3D benchmark (its evaluation code)
FLAT = 1e-6  # relative spread under which an image counts as constant: rounding, not a pattern (choice of ours)


def _check_pair(name: str, predicted: Tensor, truth: Tensor) -> None:
    if predicted.shape != truth.shape or not truth.numel():
        raise ValueError(
            f"{name}: expected two arrays of one shape, found {tuple(predicted.shape)} and {tuple(truth.shape)}"
        )
    for side, values in (("predicted", predicted), ("truth", truth)):
        bad = int((~torch.isfinite(values)).sum())
        if bad:
            raise ValueError(f"{name}: {side} holds {bad} NaN or infinite values of {values.numel()}")


def _weights(name: str, mask: Tensor | None, truth: Tensor) -> Tensor:
    """Zero or one for each channel of each place, flat; all items of the batch need at least one place."""
    if mask is None:
        return truth.new_ones(len(truth), truth[0].numel())
    if mask.shape != truth.shape[:1] + truth.shape[2:]:
        raise ValueError(
            f"{name}: mask must have shape {(len(truth), *truth.shape[2:])} (batch and places), found {tuple(mask.shape)}"
        )
    weights = mask.to(truth)[:, None].expand_as(truth).flatten(1)
    empty = torch.nonzero(weights.sum(1) == 0).flatten().tolist()
    if empty:
        raise ValueError(f"{name}: the mask is empty for items {empty[:5]}; nothing can be measured there")
    return weights


def fitted_scale(
    predicted: Float[Tensor, batch * place], truth: Float[Tensor, batch * place], weights: Float[Tensor, batch * place]
) -> Float[Tensor, " batch"]:
    r"""The factor that brings `predicted` nearest to `truth`: :math:`s^* = \langle A, G\rangle / \langle A, A\rangle`, 0 if A is 0."""
    predicted, truth, weights = (values.flatten(1) for values in (predicted, truth, weights))
    own = (weights * predicted.square()).sum(1)
    shared = (weights * predicted * truth).sum(1)
    return torch.where(own > 0, shared / own.clamp_min(torch.finfo(own.dtype).tiny), 0.0)


def _scaled_rms(name: str, predicted: Tensor, truth: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Root mean square difference after the best factor, and the weights it was taken with."""
    _check_pair(name, predicted, truth)
    weights = _weights(name, mask, truth)
    predicted, truth = predicted.flatten(1), truth.flatten(1)
    difference = fitted_scale(predicted, truth, weights)[:, None] * predicted - truth
    return ((weights * difference.square()).sum(1) / weights.sum(1)).sqrt(), weights


def reflectance_error(
    predicted: Float[Tensor, "batch channels *place"],
    truth: Float[Tensor, "batch channels *place"],
    mask: Bool[Tensor, batch * place] | None = None,
) -> Float[Tensor, " batch"]:
    r"""Error of reflectance maps up to one factor for all places and channels, in the unit of `truth`.

    .. math:: e = \sqrt{\operatorname{mean} (s^* A - G)^2}, \qquad s^* = \langle A, G \rangle / \langle A, A \rangle

    A map of zeros has no best factor; its error is the root mean square of the truth.

    Parameters
    ----------
    predicted, truth
        Maps :math:`A` and :math:`G`, in UV space or in the picture.
    mask
        Places that count; all if None.

    Raises
    ------
    ValueError
        If shapes differ, a number is not finite, or a mask is empty.
    """
    return _scaled_rms("reflectance", predicted, truth, mask)[0]


@dataclass(frozen=True)
class ShadingErrors:
    """What `shading_error` finds, for each image.

    Parameters
    ----------
    relative
        Error after the best factor, as a share of the mean true shading.
    correlation
        Pearson's r over the pixels that count; 0 where the prediction or the truth is constant.
    """

    relative: Float[Tensor, " batch"]
    correlation: Float[Tensor, " batch"]


def shading_error(
    predicted: Float[Tensor, "batch channels *place"],
    truth: Float[Tensor, "batch channels *place"],
    mask: Bool[Tensor, batch * place] | None = None,
) -> ShadingErrors:
    r"""Error of shading images up to one factor, relative to the mean true shading, and their correlation.

    .. math:: e = \sqrt{\operatorname{mean} (s^* C - G)^2}\,/\,\operatorname{mean} G

    Parameters
    ----------
    predicted, truth
        Shading of each pixel, one channel for white light.
    mask
        Pixels of the face; all if None.

    Raises
    ------
    ValueError
        If shapes differ, a number is not finite, a mask is empty, or the true shading is zero everywhere.
    """
    error, weights = _scaled_rms("shading", predicted, truth, mask)
    share = weights / weights.sum(1, keepdim=True)
    predicted, truth = predicted.flatten(1), truth.flatten(1)
    mean = (share * truth).sum(1)
    if not (mean > 0).all():
        raise ValueError("shading: the mean true shading must be positive; is the mask on the face and the light on?")
    a, b = (values - (share * values).sum(1, keepdim=True) for values in (predicted, truth))
    spreads = [(share * values.square()).sum(1).sqrt() for values in (a, b)]
    sizes = [(share * values.square()).sum(1).sqrt() for values in (predicted, truth)]
    flat = (spreads[0] <= FLAT * sizes[0]) | (spreads[1] <= FLAT * sizes[1])
    product = torch.where(flat, 1.0, spreads[0] * spreads[1])
    correlation = torch.where(flat, 0.0, ((share * a * b).sum(1) / product).clamp(-1, 1))
    return ShadingErrors(error / mean, correlation)


@dataclass(frozen=True)
class DirectionErrors:
    """Angles between lights where both have a direction.

    Parameters
    ----------
    degrees
        Angle for each item in which both lights have a direction, in the order of the batch.
    defined
        Which items these are.
    """

    degrees: Float[Tensor, " kept"]
    defined: Bool[Tensor, " batch"]

    @property
    def undefined(self) -> int:
        """Number of items without an angle; report it beside the mean."""
        return int((~self.defined).sum())


def light_direction_error(
    predicted: Float[Tensor, "batch 9"], truth: Float[Tensor, "batch 9"], *, least: float = LEAST_DIRECTION
) -> DirectionErrors:
    r"""Angle between the directions :math:`(l_2, l_3, l_4)` of two lights, in degrees.

    Parameters
    ----------
    predicted, truth
        Coefficients of the plain basis of `paper_utils.mesh.shading`.
    least
        A light whose direction is not longer than this share of :math:`|l_1|` has none: such items are dropped and counted.

    Raises
    ------
    ValueError
        If shapes differ or a number is not finite.
    """
    _check_pair("light", predicted, truth)
    first, second = predicted[:, 1:4].double(), truth[:, 1:4].double()
    defined = torch.ones(len(truth), dtype=torch.bool, device=truth.device)
    for light, direction in ((predicted, first), (truth, second)):
        length = torch.linalg.vector_norm(direction, dim=1)
        defined &= (length > 0) & (length >= least * light[:, 0].double().abs())
    first, second = first[defined], second[defined]
    # The arctangent keeps its accuracy for nearly equal directions, where the arccosine of the product loses half the digits.
    across = torch.linalg.vector_norm(torch.linalg.cross(first, second, dim=1), dim=1)
    return DirectionErrors(torch.rad2deg(torch.atan2(across, (first * second).sum(1))), defined)


def rotation_error(predicted: Float[Tensor, "batch 3 3"], truth: Float[Tensor, "batch 3 3"]) -> Float[Tensor, " batch"]:
    r"""Geodesic distance of rotations in degrees: the angle of :math:`R G^\top`.

    .. math:: \theta = 2 \operatorname{atan2}\big(\lVert R - G \rVert_F / \sqrt 8,\ \sqrt{1 + \operatorname{tr} R G^\top} / 2\big)

    Raises
    ------
    ValueError
        If shapes differ, a number is not finite, or a matrix is not a rotation (to a thousandth).
    """
    _check_pair("rotation", predicted, truth)
    first, second = predicted.double(), truth.double()
    identity = torch.eye(3, dtype=torch.float64, device=first.device)
    for side, matrices in (("predicted", first), ("truth", second)):
        off = float((matrices @ matrices.transpose(1, 2) - identity).abs().max())
        if off > 1e-3 or not (torch.linalg.det(matrices) > 0).all():
            raise ValueError(
                f"rotation: {side} must hold proper rotations, R R' differs from the identity by up to {off:.2g}"
            )
    sine = torch.linalg.matrix_norm(first - second) / math.sqrt(8)
    cosine = (1 + (first * second).sum((1, 2))).clamp_min(0).sqrt() / 2
    return torch.rad2deg(2 * torch.atan2(sine, cosine))


def viewpoint_error(predicted: Float[Tensor, "batch 3"], truth: Float[Tensor, "batch 3"]) -> Float[Tensor, " batch"]:
    """`rotation_error` in degrees of heads given as pitch, yaw, roll in radians (see `paper_utils.mesh.cameras.rotation_matrix`).

    One angle for the whole rotation: it does not depend on the order in which pitch, yaw and roll are applied, and two triples that mean
    the same rotation are 0 apart.
    """
    _check_pair("viewpoint", predicted, truth)
    first, second = (rotation_matrix(*angles.double().unbind(1)) for angles in (predicted, truth))
    return rotation_error(first, second)


# ------------------------------------------------------------------------------------------------------ landmarks


def nme(
    predicted: Float[Tensor, "batch points axes"],
    truth: Float[Tensor, "batch points axes"],
    box_points: Float[Tensor, "batch box 2"] | None = None,
) -> Float[Tensor, " batch"]:
    r"""Normalised mean error of points in percent.

    .. math:: \mathrm{NME} = \frac{100}{n \sqrt{w h}} \sum_j \lVert p_j - g_j \rVert

    Parameters
    ----------
    predicted, truth
        Points in pixels: two axes for the picture, or three. Depth is known only up to a shift, so with three axes the mean depth of each
        side is taken away first (the custom of dense alignment; from memory, unverified).
    box_points
        Points whose tight box gives :math:`w, h`; the true points themselves if None. For dense meshes pass the 68 true landmarks.

    Raises
    ------
    ValueError
        If shapes differ, a number is not finite, there are neither two nor three axes, or a box has no area.
    """
    _check_pair("landmarks", predicted, truth)
    if truth.shape[2] not in (2, 3):
        raise ValueError(f"landmarks: expected points with 2 or 3 axes, found {truth.shape[2]}")
    if truth.shape[2] == 3:
        depth = torch.zeros_like(truth[:, :1])
        predicted, truth = (
            points - torch.cat((depth[..., :2], points[..., 2:].mean(1, keepdim=True)), -1)
            for points in (predicted, truth)
        )
    box = truth[..., :2] if box_points is None else box_points
    if len(box) != len(truth):
        raise ValueError(f"landmarks: box_points are for {len(box)} items, the points for {len(truth)}")
    extent = box.amax(1) - box.amin(1)
    area = extent.prod(1)
    if not (area > 0).all():
        bad = torch.nonzero(~(area > 0)).flatten().tolist()
        raise ValueError(f"landmarks: the box of the true points has no area in items {bad[:5]}")
    return 100 * torch.linalg.vector_norm(predicted - truth, dim=2).mean(1) / area.sqrt()


@dataclass(frozen=True)
class YawBins:
    """NME by the yaw of the head.

    Parameters
    ----------
    names
        Such as ``[0, 30]`` degrees.
    means
        Mean NME of each bin in percent, NaN for a bin without images.
    counts
        Images in each.
    """

    names: tuple[str, ...]
    means: Float[np.ndarray, " bins"]
    counts: tuple[int, ...]

    @property
    def overall(self) -> float:
        """Unweighted mean of the bins' means, as the benchmark reports it; NaN if a bin is empty."""
        return float(self.means.mean())


def nme_by_yaw(
    errors: Float[Tensor, " images"], yaw_degrees: Float[Tensor, " images"], edges: Sequence[float] = YAW_EDGES
) -> YawBins:
    """Mean NME in bins of absolute yaw; an image on an edge counts in the lower bin.

    Parameters
    ----------
    errors
        Output of `nme`.
    yaw_degrees
        True yaw; the sign does not matter.
    edges
        Ends of the bins but the last, which ends at 90 degrees or at the largest yaw if that is more.

    Raises
    ------
    ValueError
        If lengths differ, a number is not finite, or edges do not grow.
    """
    _check_pair("yaw bins", errors, yaw_degrees)
    if any(b <= a for a, b in itertools.pairwise(edges)) or not edges or edges[0] <= 0:
        raise ValueError(f"edges: expected growing positive numbers of degrees, found {tuple(edges)}")
    values, yaw = errors.double().cpu().numpy(), yaw_degrees.double().abs().cpu().numpy()
    place = np.digitize(yaw, edges, right=True)
    counts = np.bincount(place, minlength=len(edges) + 1)
    sums = np.bincount(place, weights=values, minlength=len(edges) + 1)
    means = np.divide(sums, counts, out=np.full(len(counts), np.nan), where=counts > 0)
    ends = (*edges, max(90.0, float(yaw.max())))
    names = [f"[0, {ends[0]:g}]"] + [f"({low:g}, {high:g}]" for low, high in itertools.pairwise(ends)]
    return YawBins(tuple(names), means, tuple(counts.tolist()))
