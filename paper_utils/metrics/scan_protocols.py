r"""Published ways to compare a reconstructed face with a scan, each with a function of its own.

They differ in what is cut from the scan, in whether the size is free, in which way distances are taken and in how they are averaged. So
their numbers, although all are millimetres, cannot be compared with each other. On synthetic faces, where vertices correspond, use
`paper_utils.metrics.mesh.vertex_rmse`: it needs no search and ranks methods better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float

from paper_utils.mesh.morphable import Similarity
from paper_utils.metrics.mesh import (
    Alignment,
    FaceScan,
    Surface,
    align_landmarks,
    apply,
    fit_points,
    icp,
    least_squares_alignment,
    undo,
)

RADIUS_MM = 95.0  # around the nose tip: the face of a MICC Florence scan (GANFit's evaluation, Deep3D's protocol)
BROWS = slice(17, 27)  # of the 68 landmarks
FOREHEAD_MM = 10.0  # kept above the brows; choice of ours, Deep3D's cut is not published
EYES, MOUTH = slice(36, 48), slice(48, 68)


@dataclass(frozen=True)
class ScanError:
    """Distances between the points of a scan and a reconstruction under one protocol.

    Parameters
    ----------
    value_mm
        The protocol's own number.
    surface_mm, plane_mm
        Distance of each point of the scan that is compared to the reconstruction, and to its tangent plane there.
    alignment
        How the reconstruction was brought onto the scan.
    """

    value_mm: float
    surface_mm: Float[np.ndarray, " points"]
    plane_mm: Float[np.ndarray, " points"]
    alignment: Alignment

    @property
    def surface_rmse(self) -> float:
        """Root mean square point-to-surface distance."""
        return _rms(self.surface_mm)

    @property
    def plane_rmse(self) -> float:
        """Root mean square point-to-plane distance."""
        return _rms(self.plane_mm)


def _rms(distances: np.ndarray) -> float:
    return float(np.sqrt(np.square(distances).mean()))


def around_nose(face: FaceScan, radius_mm: float = RADIUS_MM) -> Bool[np.ndarray, " vertices"]:
    """Vertices within a ball around the tip of the nose."""
    return np.linalg.norm(face.surface.vertices - face.nose, axis=1) <= radius_mm


def below_forehead(face: FaceScan, margin_mm: float = FOREHEAD_MM) -> Bool[np.ndarray, " vertices"]:
    """Vertices that are not higher than the highest brow landmark plus a margin, along the line from mouth to eyes.

    Where the forehead is cut is not published; this line is a choice of ours.

    Raises
    ------
    ValueError
        If the face has not the 68 landmarks.
    """
    if len(face.landmarks) != 68:
        raise ValueError(f"forehead: the brows are found by the 68 landmarks, the face has {len(face.landmarks)}")
    up = face.landmarks[EYES].mean(0) - face.landmarks[MOUTH].mean(0)
    up = up / np.linalg.norm(up)
    return face.surface.vertices @ up <= (face.landmarks[BROWS] @ up).max() + margin_mm


def _chosen(scan: FaceScan, mask: np.ndarray) -> np.ndarray:
    """Vertices of the surface (not stray ones) that are in the mask."""
    used = np.zeros(len(mask), dtype=bool)
    used[scan.surface.faces] = True
    if not (mask & used).any():
        raise ValueError("scan: no vertex is left after cropping; are the landmarks in the scan's frame and in mm?")
    return scan.surface.vertices[mask & used]


def _scan_error(points: np.ndarray, surface: Surface, found: Alignment) -> tuple[np.ndarray, np.ndarray]:
    """Point-to-surface and point-to-plane distances after an alignment of the surface."""
    size = float(found.similarity.scale[0])
    plane = surface.plane_distances(undo(points, found.similarity), found.nearest)
    return found.distances_mm, size * plane


def deep3d_error(prediction: FaceScan, scan: FaceScan, *, forehead_mm: float | None = FOREHEAD_MM) -> ScanError:
    """Scan error in the style of Deep3D: alignment with a size of its own for each mesh, root mean square point-to-plane distance.

    Points are the vertices of the scan within 95 mm of its nose tip, without the forehead.

    Parameters
    ----------
    prediction
        With the landmarks of the scan; its unit does not matter.
    scan
        In mm.
    forehead_mm
        See `below_forehead`; None keeps the forehead.

    References
    ----------
    Deng et al. (2019), accurate 3D face reconstruction with weakly-supervised learning; the authors' answers on the protocol in public.
    """
    mask = around_nose(scan)
    if forehead_mm is not None:
        mask &= below_forehead(scan, forehead_mm)
    points = _chosen(scan, mask)
    found = least_squares_alignment(points, prediction.surface, align_landmarks(prediction, scan))
    surface, plane = _scan_error(points, prediction.surface, found)
    return ScanError(_rms(plane), surface, plane, found)


def global_scale(predictions: Sequence[FaceScan], scans: Sequence[FaceScan]) -> float:
    r"""One size for all reconstructions of a model: the least squares factor over all landmarks, each pair turned and shifted on its own.

    .. math:: s = \frac{\sum_i \langle R_i x_i, y_i \rangle}{\sum_i \langle x_i, x_i \rangle} \quad \text{(centred landmarks)}

    Raises
    ------
    ValueError
        If there are no pairs or their numbers differ.
    """
    if len(predictions) != len(scans) or not scans:
        raise ValueError(f"scale: expected one scan for each prediction, found {len(predictions)} and {len(scans)}")
    shared = own = 0.0
    for prediction, scan in zip(predictions, scans, strict=True):
        fitted = float(align_landmarks(prediction, scan).scale[0])
        spread = float(np.square(prediction.landmarks - prediction.landmarks.mean(0)).sum())
        shared, own = shared + fitted * spread, own + spread
    return shared / own


def genova_errors(predictions: Sequence[FaceScan], scans: Sequence[FaceScan]) -> list[ScanError]:
    """Scan errors in the style of Genova: one size for all meshes, rigid alignment, mean point-to-plane distance over the overlap.

    The overlap is what is published least: here it is the scan within 95 mm of its nose tip, without points whose nearest point lies on the
    rim of the reconstruction (choice of ours), once when the landmarks have brought the two together and again at the end.

    Raises
    ------
    ValueError
        If there are no pairs, their numbers differ, or two meshes do not overlap.

    References
    ----------
    Genova et al. (2018), unsupervised training for 3D morphable model regression; the protocol as others describe it in public.
    """
    size = global_scale(predictions, scans)
    errors = []
    for prediction, scan in zip(predictions, scans, strict=True):
        points = _chosen(scan, around_nose(scan))
        start = fit_points(prediction.landmarks, scan.landmarks, torch.tensor([size], dtype=torch.float64))
        surface = prediction.surface
        points = points[~surface.on_rim(surface.nearest(undo(points, start)))]
        if not len(points):
            raise ValueError("genova: scan and reconstruction do not overlap; do their landmarks correspond?")
        found = least_squares_alignment(points, surface, start, scale=False)
        distances, plane = _scan_error(points, surface, found)
        overlap = ~surface.on_rim(found.nearest)
        if not overlap.any():
            raise ValueError("genova: nothing of the scan lies over the reconstruction after the alignment")
        errors.append(ScanError(float(plane[overlap].mean()), distances[overlap], plane[overlap], found))
    return errors


@dataclass(frozen=True)
class TwoWayError:
    """Mean distances of one face to another and back.

    Parameters
    ----------
    to_scan, to_prediction
        The ICP of the reconstruction's vertices onto the scan, and of the scan's onto the reconstruction.
    """

    to_scan: Alignment
    to_prediction: Alignment

    @property
    def value_mm(self) -> float:
        """Mean of both ways."""
        return (self.to_scan.mean_mm + self.to_prediction.mean_mm) / 2


def ganfit_error(
    prediction: FaceScan, scans: Sequence[FaceScan], *, radius_mm: float = RADIUS_MM
) -> tuple[float, list[TwoWayError]]:
    """Scan error in the style of GANFit: similarity ICP both ways, mean point-to-surface distance, the best of a person's scans.

    The landmarks align the reconstruction first and give it the size of the scan. Then the vertices of each side within 95 mm of its own
    nose tip are moved onto the whole other side.

    Parameters
    ----------
    prediction
        One mesh for a video; GANFit takes the mean of the shapes of five random frames.
    scans
        Of one person, in mm: frontal1 and frontal2 of MICC Florence.
    radius_mm
        `paper_utils.data.florence` knows the one subject for which it is 60.

    Returns
    -------
    The smallest of the scans' numbers in mm, and the details of each scan.

    Raises
    ------
    ValueError
        If there is no scan, landmarks do not correspond, or nothing lies in the ball.

    Notes
    -----
    GANFit's code starts from the correspondence of scans that were registered to its template; landmarks need no registration.
    """
    if not scans:
        raise ValueError("ganfit: expected one or more scans, found none")
    errors = []
    for scan in scans:
        by = align_landmarks(prediction, scan)
        surface = Surface(apply(prediction.surface.vertices, by), prediction.surface.faces)
        placed = FaceScan(surface, apply(prediction.landmarks, by), prediction.nose_tip)
        one = torch.ones(1, dtype=torch.float64)
        still = Similarity(one, torch.eye(3, dtype=torch.float64)[None], torch.zeros(1, 3, dtype=torch.float64))
        ways = [
            icp(_chosen(a, around_nose(a, radius_mm)), b.surface, still, moving="points")
            for a, b in ((placed, scan), (scan, placed))
        ]
        errors.append(TwoWayError(*ways))
    return min(error.value_mm for error in errors), errors


# --------------------------------------------------------------------------------------------------------- NoW


def now_region(landmarks: Float[np.ndarray, "7 3"]) -> tuple[Float[np.ndarray, 3], float]:
    r"""Centre and radius of the ball that NoW cuts out of a scan.

    .. math:: c = b + 0.3\,(m - b), \qquad r = 1.4\,(\lVert e_1 - e_4 \rVert + \lVert m - b \rVert) / 2

    with the bottom of the nose :math:`b`, the middle :math:`m` of the inner eye corners and the outer corners :math:`e_1, e_4`.

    Parameters
    ----------
    landmarks
        Right eye outer and inner corner, left eye inner and outer corner, bottom of the nose, mouth corners.

    References
    ----------
    The benchmark's public evaluation code.
    """
    bridge = (landmarks[1] + landmarks[2]) / 2
    nose = bridge - landmarks[4]
    radius = 1.4 * (np.linalg.norm(landmarks[0] - landmarks[3]) + np.linalg.norm(nose)) / 2
    return landmarks[4] + 0.3 * nose, float(radius)


def now_errors(prediction: FaceScan, scan: FaceScan) -> Float[np.ndarray, " points"]:
    """Distances in mm of a scan's points to a reconstruction, by the rules of the NoW benchmark.

    Similarity on seven landmarks, then position, turn and size that bring the surface nearest to the cropped scan (point to surface, in
    least squares; the benchmark uses another solver for the same minimum).

    Raises
    ------
    ValueError
        If a face has not seven landmarks, or no vertex of the scan is in the region.
    """
    for name, face in (("prediction", prediction), ("scan", scan)):
        if len(face.landmarks) != 7:
            raise ValueError(f"NoW: expected the 7 landmarks of the benchmark, the {name} has {len(face.landmarks)}")
    centre, radius = now_region(scan.landmarks)
    points = _chosen(scan, np.linalg.norm(scan.surface.vertices - centre, axis=1) <= radius)
    start = align_landmarks(prediction, scan)
    return least_squares_alignment(points, prediction.surface, start).distances_mm


@dataclass(frozen=True)
class NowStatistics:
    """What the NoW benchmark reports: over all points of all images, so that large scans weigh more.

    Parameters
    ----------
    median_mm, mean_mm, std_mm
        Of the pooled distances.
    points, images
        How many.
    """

    median_mm: float
    mean_mm: float
    std_mm: float
    points: int
    images: int


def now_statistics(errors: Sequence[np.ndarray]) -> NowStatistics:
    """Pool the distances of all images.

    Raises
    ------
    ValueError
        If there is none, one is empty, or a distance is not finite.
    """
    empty = [i for i, values in enumerate(errors) if not len(values) or not np.isfinite(values).all()]
    if not errors or empty:
        raise ValueError(
            f"NoW: expected finite distances for each image, found {len(errors)} images, bad ones: {empty[:5]}"
        )
    pooled = np.concatenate([np.asarray(values, dtype=np.float64) for values in errors])
    return NowStatistics(float(np.median(pooled)), float(pooled.mean()), float(pooled.std()), len(pooled), len(errors))
