r"""The Hidden Dance of Phonemes and Visage (paper 10): which facial measurements can be predicted from which phoneme?

Top to bottom: 96 measurements of 65 landmarks; splits; one estimator a (phoneme, measurement) pair (ridge, the light network of the sister
paper, MnasNet), all pairs at once; the test of the release and the leak in it; the careful test; movement.
Liao Qu, Xianwei Zou, Xiang Li, Yandong Wen, Rita Singh, Bhiksha Raj, "The Hidden Dance of Phonemes and Visage", arXiv:2307.13953
(Interspeech 2023); sister paper: "Rethinking Voice-Face Correlation: A Geometry View", arXiv:2307.13948. The text of paper 10 beyond its
abstract was not seen; what is said of it here follows its released code and that of the sister paper.
"""

from __future__ import annotations

import copy
import itertools
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import lightning_fabric
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional

from paper_utils.data.phones import PhoneTokens
from paper_utils.data.subject_tables import SubjectTable
from paper_utils.metrics import predictability
from paper_utils.training import Run, alone, batch_indices, gathered
from paper_utils.world.anthropometry import Measurement, measure
from paper_utils.world.phones import CLASSES, PHONES

# ------------------------------------------------------------------------------------------------- 1. measurements
# Labels 1 to 65 of the released figure: 1-10 brows, 11-26 eyes, 27-38 nose, 39-50 lips, 51-54 midline below the nose, 55-65 contour (60 the
# top of the forehead). The released code counts from 0.

LANDMARKS = 65
# Vertices of the FLAME topology (5,023), in the order of the labels: the list released with paper 10.
FLAME_LANDMARKS = (
    2570, 2569, 2564, 3675, 2582, 1445, 3848, 1427, 1432, 1433, 2428, 2451, 2495, 2471, 3638, 2276, 2355, 2359, 3835, 1292, 1344, 1216,
    1154, 999, 991, 4046, 3704, 3553, 3561, 3501, 3564, 2747, 1613, 1392, 3527, 471, 480, 1611, 3797, 2864, 2811, 3543, 1694, 1749, 3920,
    2881, 2905, 1802, 1774, 3503, 3515, 3502, 3401, 3399, 3393, 3385, 1962, 3381, 3063, 3505, 3595, 3581, 3577, 2023, 567,
)  # fmt: skip
# Points of the mask of 6,790 on which the faces were scanned: the sister's list. (Paper 10's script applies the FLAME list to it.)
MASK_LANDMARKS = (
    5732, 5471, 5120, 4662, 4212, 2462, 2084, 1686, 1352, 1106, 5366, 5062, 4884, 4711, 4256, 4720, 4842, 5078, 2415, 2066, 1904, 1718,
    1389, 1728, 1839, 2065, 3358, 3362, 3418, 3389, 3371, 4272, 4049, 3706, 3378, 3094, 2701, 2478, 4680, 4336, 3759, 3397, 3091, 2700,
    2214, 2588, 2926, 3393, 3887, 4311, 3388, 3411, 3459, 3493, 4721, 6489, 6769, 6778, 6512, 3246, 186, 0, 57, 437, 2096,
)  # fmt: skip
# The middle of each lower lid is the mean of two points there.
MASK_PAIRS = {17: 4955, 25: 1950}

_DISTANCES = """11-15 19-23 15-19 11-23 5-6 1-10 3-8 59-61 58-62 57-63 56-64 55-65 32-38 33-37 34-36 49-47 41-43 55-54 54-65 39-45 49-47 40-44
    42-48 13-17 21-25 60-28 60-31 60-35 60-51 60-52 60-54 28-31 27-51 31-35 31-52 31-53 31-54 35-51 42-48 52-53 53-54 51-54 55-56 56-57
    57-58 58-59 61-62 62-63 63-64 64-65"""
_RATIOS = """32-38/28-31 33-37/28-31 58-62/28-31 57-63/28-31 56-64/28-31 55-65/28-31 39-45/28-31 32-38/60-54 33-37/60-54 58-62/60-54
    57-63/60-54 56-64/60-54 55-65/60-54 39-45/60-54 59-61/58-62 58-62/57-63 57-63/56-64 56-64/55-65 58-62/32-38 57-63/32-38 56-64/32-38
    59-61/32-38 55-65/32-38 39-45/32-38 60-54/28-31 52-53/53-54 51-52/51-54 28-31/28-54"""
_ANGLES = """57-58-59 56-57-58 55-56-57 54-55-56 65-54-55 64-65-54 63-64-65 62-63-64 61-62-63 32-30-38 32-31-38 28-31-35 52-53-54 28-31-32
    38-31-28 38-51-32 64-54-56 30-31-35"""


def _measurements() -> dict[int, Measurement]:
    made = []
    for text in _DISTANCES.split():
        made.append(("distance", (tuple(text.split("-")),), ()))
    for text in _RATIOS.split():
        above, below = text.split("/")
        made.append(("ratio", (tuple(above.split("-")),), (tuple(below.split("-")),)))
    for text in _ANGLES.split():
        made.append(("angle", (tuple(text.split("-")),), ()))
    return {number: Measurement(f"AM {number}", *parts) for number, parts in enumerate(made, start=1)}


AMS = _measurements()  # the released table's columns 1 to 96: 50 distances, 28 ratios, 18 angles
DUPLICATES = {21: 16, 39: 23}  # the same landmarks twice; to be tested once
DRIVER_AMS = (
    89,
    13,
    88,
    51,
    14,
    52,
    58,
    17,
    59,
    73,
    71,
    22,
    15,
    69,
    70,
    96,
    42,
    7,
    37,
    31,
)  # those of the released driver
SISTER_AMS = (13, 14, 17, 22, 51, 52, 58, 59, 72, 73, 88, 89)  # the sister paper's follow-up
# Direction against which the sister's code counts each angle 79 to 96 as below or above 180 degrees.
ANGLE_REFERENCES = (
    (-0.1011, -0.3078, 0.9344), (-0.9009, -0.1629, 0.3678), (-0.7863, -0.1348, 0.5986), (-0.3654, 0.5084, 0.7771),
    (-0.0262, 0.9601, 0.2719), (0.2780, 0.6064, 0.7425), (0.8007, -0.1164, 0.5832), (0.9095, -0.1439, 0.3239),
    (0.4377, -0.2226, 0.8568), (-0.0054, -0.6474, 0.7596), (-0.0098, -0.9611, 0.2697), (-0.9997, -0.0218, -0.0046),
    (-0.9893, 0.0432, -0.0409), (-0.7108, 0.4236, 0.5553), (0.7083, 0.4411, 0.5448), (0.0048, 0.2632, 0.9614),
    (0.0039, 0.8142, 0.5791), (-0.9987, -0.0466, 0.0199),
)  # fmt: skip


def landmarks_of(vertices: Float[Tensor, "faces vertices 3"], topology: str = "flame") -> Float[Tensor, "faces 65 3"]:
    """The 65 landmarks of registered faces.

    Parameters
    ----------
    vertices
        Of the FLAME topology (5,023), or points of the scanned mask (6,790).
    topology
        ``"flame"`` or ``"mask"``.

    Raises
    ------
    ValueError
        If the topology is unknown or has another number of vertices.
    """
    expected = {"flame": 5023, "mask": 6790}
    if topology not in expected:
        raise ValueError(f"topology: expected 'flame' or 'mask', found {topology!r}")
    if vertices.shape[1] != expected[topology]:
        raise ValueError(f"vertices: the {topology} topology has {expected[topology]}, found {vertices.shape[1]}")
    points = vertices[:, list(FLAME_LANDMARKS if topology == "flame" else MASK_LANDMARKS)]
    if topology == "mask":
        for label, other in MASK_PAIRS.items():
            points[:, label - 1] = (points[:, label - 1] + vertices[:, other]) / 2
    return points


def anthropometry(
    points: Float[Tensor, "faces 65 3"],
    numbers: Sequence[int] = tuple(AMS),
    *,
    signed: bool = False,
    unit: str = "mm",
) -> Float[Tensor, "faces measurements"]:
    r"""Measurements of paper 10 by their numbers: distances, ratios, angles in degrees.

    .. math:: d(a, b) = |a - b|, \qquad p(a, b \mid c, e) = \frac{d(a, b)}{d(c, e)}, \qquad
        \angle(a, b, c) = \arccos\frac{(a - b)\cdot(c - b)}{|a - b||c - b|}

    Parameters
    ----------
    points
        Landmarks in the order of the labels.
    numbers
        Which, from 1 to 96.
    signed
        Angles from 0 to 360 degrees, as the sister's code has them: :math:`360 - \angle` where
        :math:`((a-b)\times(c-b))\cdot r < 0` with the fixed direction r of each angle.
    unit
        Of the points. In ``"pixels"`` distances depend on the picture's scale and are refused.

    Raises
    ------
    ValueError
        If a number is unknown, or a distance is asked for in pixels.
    """
    unknown = [number for number in numbers if number not in AMS]
    if unknown or not numbers:
        raise ValueError(f"numbers: expected measurements 1 to 96, found {unknown or 'none'}")
    lengths = [number for number in numbers if AMS[number].kind == "distance"]
    if unit == "pixels" and lengths:
        raise ValueError(
            f"numbers: {lengths[:5]} ... are distances, which pixels do not give; ask for numbers 51 to 96 (ratios and angles)"
        )
    table = {str(label): points[:, label - 1] for label in range(1, points.shape[1] + 1)}
    values = measure(table, [AMS[number] for number in numbers])
    values[:, [column for column, number in enumerate(numbers) if AMS[number].kind == "ratio"]] /= (
        100  # they come in percent
    )
    if signed:
        for column, number in enumerate(numbers):
            if AMS[number].kind == "angle":
                a, b, c = (table[name] for name in AMS[number].readings[0])
                reference = points.new_tensor(ANGLE_REFERENCES[number - 79])
                behind = torch.linalg.cross(a - b, c - b) @ reference < 0
                values[:, column] = torch.where(behind, 360 - values[:, column], values[:, column])
    return values


CLASS_ORDER = ("vowel", "diphthong", "approximant", "nasal", "fricative", "affricate", "plosive")


def phone_classes(names: Sequence[str], table: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Class of each phone, one of `CLASS_ORDER`: ARPABET with or without stress digits, the 39 of TIMIT, or what the table says.

    Raises
    ------
    ValueError
        If a phone is in neither; all such are listed.

    Examples
    --------
    >>> phone_classes(["AA1", "P", "dx"])
    ('vowel', 'plosive', 'plosive')
    """
    # The flap of TIMIT is a quick D; its other labels fold into ARPABET.
    known = {name: phone.kind for name, phone in PHONES.items()} | {"DX": "plosive"}
    found = [(table or {}).get(name) or known.get(name.upper().rstrip("012")) for name in names]
    lost = [name for name, kind in zip(names, found, strict=True) if kind not in CLASS_ORDER]
    if lost:
        raise ValueError(
            f"phones without a class: {', '.join(lost)}; give table={{'{lost[0]}': 'vowel', ...}} with one of {', '.join(CLASS_ORDER)}"
        )
    return tuple(found)


def class_ordered(names: Sequence[str]) -> list[str]:
    """ARPABET phones by class, plosives last, as the figures show them."""
    order = [name for kind in CLASS_ORDER for name in CLASSES[kind]]
    return sorted(names, key=order.index)


# -------------------------------------------------------------------------------------------------------- 2. splits


def subject_folds(
    count: int, folds: int, rng: np.random.Generator, *, strata: Int[np.ndarray, " subjects"] | None = None
) -> Int[np.ndarray, " subjects"]:
    """Fold of each subject, of equal size up to one (in every stratum): no subject is on both sides.

    Raises
    ------
    ValueError
        If there are fewer subjects than folds or fewer than two folds.
    """
    strata = np.zeros(count, dtype=int) if strata is None else strata
    smallest = int(np.unique(strata, return_counts=True)[1].min()) if count else 0
    if folds < 2 or smallest < folds:
        raise ValueError(
            f"folds: {folds} folds need at least 2 folds and as many subjects in every stratum, found {smallest}; take fewer folds or more subjects"
        )
    fold = np.empty(count, dtype=int)
    for stratum in np.unique(strata):
        rows = np.flatnonzero(strata == stratum)
        fold[rng.permutation(rows)] = np.arange(len(rows)) % folds
    return fold


def _deal(units: int, rng: np.random.Generator, shares: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    order = rng.permutation(units)
    first, second = (round(share * units) for share in shares)
    return order[:first], order[first : first + second]


SPLITS = ("released", "tokens", "subjects")


def token_split(
    subjects: Int[np.ndarray, " tokens"],
    kind: str,
    rng: np.random.Generator,
    *,
    train_share: float = 0.7,
    test_share: float = 0.1,
) -> tuple[Int[np.ndarray, " train"], Int[np.ndarray, " test"]]:
    """Training and evaluation tokens.

    ``"released"``: the released loader shuffles its file list anew whenever it is built, without a seed, so "the first 70 %" and "the
    next 10 %" come from two orders: on average 70 % of the evaluation tokens are training tokens. ``"tokens"``: one order, so tokens are disjoint
    and speakers are not. ``"subjects"``: speakers are disjoint.

    Parameters
    ----------
    subjects
        Speaker of each token.
    kind
        One of `SPLITS`.
    rng
        Of the shuffles.
    train_share, test_share
        70 and 10 % in the release.

    Raises
    ------
    ValueError
        If the kind is unknown or there are too few tokens or subjects.
    """
    if kind not in SPLITS:
        raise ValueError(f"kind: expected one of {', '.join(SPLITS)}, found {kind!r}")
    people = np.unique(subjects)
    units = len(people) if kind == "subjects" else len(subjects)
    if units * test_share < 1:
        raise ValueError(f"{kind}: {test_share:.0%} of {units} leaves nobody to test; take more")
    train, test = _deal(units, rng, (train_share, test_share))
    if kind == "released":
        test = _deal(units, rng, (train_share, test_share))[1]
    if kind != "subjects":
        return train, test
    return np.flatnonzero(np.isin(subjects, people[train])), np.flatnonzero(np.isin(subjects, people[test]))


# --------------------------------------------------------------------------------- 3. ridge: all measurements at once


# In units of the number of features, which are standardised: 0.1 hardly shrinks, 1,000 leaves the mean.
PENALTIES = tuple(float(10**power) for power in np.arange(-1.0, 3.25, 0.5))
MOST_FREEDOM = 0.1  # degrees of freedom for each training subject, the usual ten subjects a coefficient; choice of ours


@dataclass(frozen=True)
class CrossValidated:
    """Held-out predictions of every subject.

    Parameters
    ----------
    prediction, baseline
        Of the model, and the mean of the training subjects.
    errors
        `predictability.normalised_error` of each column.
    """

    prediction: Float[np.ndarray, "subjects kept"]
    baseline: Float[np.ndarray, "subjects kept"]
    errors: Float[np.ndarray, " columns"]


def ridge_cross_validated(
    features: Float[np.ndarray, "subjects values"],
    targets: Float[np.ndarray, "subjects columns"],
    folds: Int[np.ndarray, " subjects"],
    *,
    penalties: Sequence[float] = PENALTIES,
    keep: int | None = None,
) -> CrossValidated:
    r"""Ridge regression of any number of targets on one phoneme's features, by subject-disjoint cross-validation.

    With standardised training features :math:`X = U S V^\top` and centred targets Y,

    .. math:: \hat W_\lambda = V \frac{S}{S^2 + \lambda}\, U^\top Y, \qquad
        \lambda = \arg\min_\lambda \frac{|Y - X \hat W_\lambda|^2}{\bigl(1 - \frac1n(1 + \sum_j \frac{s_j^2}{s_j^2 + \lambda})\bigr)^2}

    (generalised cross-validation among the training subjects, for every column by itself; it chooses badly where fits have nearly as many
    degrees of freedom :math:`\sum_j s_j^2 / (s_j^2 + \lambda)` as there are subjects, so penalties that leave more than a tenth are passed over). The factorisation
    does not depend on the targets: hundreds of measurements, and thousands of their permutations, cost little more than one.

    A fold in which a target is the same for all training subjects, or in which their mean makes no error, is left out of that target's
    error, with a warning.

    Parameters
    ----------
    features
        One row a subject.
    targets
        Columns may be measurements and permutations of them.
    folds
        From `subject_folds`.
    penalties
        Candidates for :math:`\lambda`, divided by the number of features.
    keep
        Predictions are kept of the first so many columns, all by default; errors of all.

    Raises
    ------
    ValueError
        If a value is not finite.
    """
    if not np.isfinite(features).all() or not np.isfinite(targets).all():
        raise ValueError(
            "ridge: features or targets are not finite; leave subjects without this phone or measurement out"
        )
    keep = targets.shape[1] if keep is None else keep
    penalties = np.sort(np.asarray(penalties)) * features.shape[1]
    kept, means = np.empty((len(targets), keep)), np.empty((len(targets), keep))
    loss, base, skipped = np.zeros(targets.shape[1]), np.zeros(targets.shape[1]), np.zeros(targets.shape[1], dtype=int)
    for fold in np.unique(folds):
        test = folds == fold
        train = ~test
        mean, sd = features[train].mean(0), features[train].std(0) + 1e-12
        x, held_out = (features[train] - mean) / sd, (features[test] - mean) / sd
        centre = targets[train].mean(0)
        y = targets[train] - centre
        # Eigenvectors of the smaller Gram matrix are cheaper than a singular value decomposition and as good for these penalties.
        if x.shape[1] <= len(x):
            squares, right = np.linalg.eigh(x.T @ x)
            scores, rotated = right.T @ (x.T @ y), held_out @ right
        else:
            squares, left = np.linalg.eigh(x @ x.T)
            root = np.sqrt(np.maximum(squares, 0.0))
            scores = root[:, None] * (left.T @ y)
            rotated = (held_out @ x.T @ left) / np.maximum(root, 1e-6 * root.max())  # centred rows: one root is 0
        squares = np.maximum(squares, 0.0)
        rows = np.where(squares[:, None] > 1e-9 * squares.max(), scores**2 / np.maximum(squares, 1e-12)[:, None], 0.0)
        shrink = squares / (squares + penalties[:, None])  # (penalties, directions)
        total = (y**2).sum(0)
        left_over = total - (2 * shrink - shrink**2) @ rows
        freedom = (1 + shrink.sum(1)) / len(x)
        gcv = left_over / ((1 - freedom) ** 2)[:, None]
        gcv[:-1][freedom[:-1] > MOST_FREEDOM] = np.inf
        best = penalties[gcv.argmin(0)]
        prediction = rotated @ (scores / (squares[:, None] + best)) + centre
        fold_loss, fold_base = (((targets[test] - known) ** 2).sum(0) for known in (prediction, centre))
        # Nothing to learn where all training subjects are alike (up to rounding of their mean), nothing to lose where the mean makes no error.
        useless = (total <= 1e-24 * len(y) * (1 + centre**2)) | (fold_base == 0)
        if useless.any():
            skipped += useless
            fold_loss[useless] = fold_base[useless] = 0.0
            prediction[:, useless] = centre[useless]
        loss += fold_loss
        base += fold_base
        kept[test], means[test] = prediction[:, :keep], centre[:keep]
    if not (base > 0).all():
        raise ValueError("ridge: a target is the same for all subjects; leave it out")
    if skipped.any():
        warnings.warn(
            f"ridge: {int(skipped.sum())} folds of {int((skipped > 0).sum())} targets were left out of the errors: the target is the same for all "
            "training subjects, or the fold's mean makes no error",
            stacklevel=2,
        )
    return CrossValidated(kept, means, loss / base)


def kernel_ridge(
    train: Float[np.ndarray, "train values"],
    targets: Float[np.ndarray, "train columns"],
    test: Float[np.ndarray, "test values"],
    *,
    penalty: float = 0.1,
) -> Float[np.ndarray, "test columns"]:
    r"""Kernel ridge with :math:`k(x, x') = e^{-|x - x'|^2 / 2\sigma^2}`, :math:`\sigma^2` half the median squared distance.

    An estimator that can learn a training set by heart, as a network can; used to show leaks.
    """
    mean, sd = train.mean(0), train.std(0) + 1e-12
    a, b = (train - mean) / sd, (test - mean) / sd

    def squared(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x**2).sum(1)[:, None] + (y**2).sum(1) - 2 * x @ y.T

    own = squared(a, a)
    scale = np.median(own[np.triu_indices(len(a), 1)])
    centre = targets.mean(0)
    weights = np.linalg.solve(np.exp(-own / scale) + penalty * np.eye(len(a)), targets - centre)
    return np.exp(-squared(b, a) / scale) @ weights + centre


# -------------------------------------------------------------------------------- 4. networks: many in one, side by side
# A network with M members is M networks: every convolution has M groups, every normalisation M times the channels. Members share
# nothing, so with a loss summed over them and an elementwise optimiser each is trained exactly as it would be alone.


def _conv2d(inputs: int, outputs: int, size: int, members: int, *, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(
        inputs * members, outputs * members, size, stride, size // 2, groups=groups * members, bias=False
    )  # fmt: skip


class MemberLinear(nn.Module):
    """One linear layer a member: weight ``(members * outputs, inputs)``, so that with one member it is `torch.nn.Linear`."""

    def __init__(self, inputs: int, outputs: int, members: int) -> None:
        super().__init__()
        self.members = members
        self.weight = nn.Parameter(torch.zeros(members * outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(members * outputs))

    def forward(self, x: Float[Tensor, "batch members inputs"]) -> Float[Tensor, "batch members outputs"]:
        """Apply each member's layer to its own inputs."""
        weight = self.weight.view(self.members, -1, x.shape[2])
        return torch.einsum("bmi,moi->bmo", x, weight) + self.bias.view(self.members, -1)


class _InvertedResidual(nn.Module):
    """1x1 expansion, depthwise k x k, 1x1 projection; with a skip where the shapes agree."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int, expansion: int, members: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.skip = inputs == outputs and stride == 1
        self.layers = nn.Sequential(
            _conv2d(inputs, inner, 1, members), nn.BatchNorm2d(inner * members), nn.ReLU(inplace=True),
            _conv2d(inner, inner, size, members, stride=stride, groups=inner), nn.BatchNorm2d(inner * members), nn.ReLU(inplace=True),
            _conv2d(inner, outputs, 1, members), nn.BatchNorm2d(outputs * members),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x) + x if self.skip else self.layers(x)


# Outputs, kernel, stride, expansion, repeats of the six stages (MnasNet-B1, torchvision's mnasnet1_0).
_STAGES = ((24, 3, 2, 3, 3), (40, 5, 2, 3, 3), (80, 5, 2, 6, 3), (96, 3, 1, 6, 2), (192, 5, 2, 6, 4), (320, 3, 1, 6, 1))


def _multiple_of_8(channels: float) -> int:
    """The nearest multiple of 8 that is not below 0.9 of the value (torchvision's rule for other widths)."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8


class MnasNet(nn.Module):
    """Paper 10's estimator: torchvision's ``mnasnet1_0`` with one input channel and one output, from random weights.

    3,103,017 parameters. Names of parameters are torchvision's.

    Parameters
    ----------
    outputs
        Numbers to predict; 1 in the paper (one network a pair), all measurements where a phoneme's pairs share a network.
    width
        Factor on the channels; below 1 for machines without GPU.
    members
        Independent networks side by side.
    dropout
        Before the last layer.
    momentum
        Of the running statistics of the batch normalisation. The released 0.0003 (torchvision's value for a million updates) makes them
        remember where training began: see `statistics_learned`.
    seed
        Of the first weights; one a member, or one for all of them to count up from.

    Examples
    --------
    >>> network = MnasNet(seed=0)
    >>> sum(p.numel() for p in network.parameters())
    3103017
    >>> network(torch.zeros(2, 1, 64, 32))[0].shape
    torch.Size([2, 1, 1, 1])
    """

    def __init__(
        self,
        outputs: int = 1,
        *,
        width: float = 1.0,
        members: int = 1,
        dropout: float = 0.2,
        momentum: float = 0.1,
        seed: int | Sequence[int] = 0,
    ) -> None:
        super().__init__()
        self.members, self.outputs = members, outputs
        stem, first = (_multiple_of_8(width * c) for c in (32, 16))
        layers: list[nn.Module] = [
            _conv2d(1, stem, 3, members, stride=2), nn.BatchNorm2d(stem * members), nn.ReLU(inplace=True),
            _conv2d(stem, stem, 3, members, groups=stem), nn.BatchNorm2d(stem * members), nn.ReLU(inplace=True),
            _conv2d(stem, first, 1, members), nn.BatchNorm2d(first * members),
        ]  # fmt: skip
        inputs = first
        for channels, size, stride, expansion, repeats in _STAGES:
            wide = _multiple_of_8(width * channels)
            blocks = [_InvertedResidual(inputs, wide, size, stride, expansion, members)]
            blocks += [_InvertedResidual(wide, wide, size, 1, expansion, members) for _ in range(repeats - 1)]
            layers.append(nn.Sequential(*blocks))
            inputs = wide
        layers += [_conv2d(inputs, 1280, 1, members), nn.BatchNorm2d(1280 * members), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(dropout, inplace=True), MemberLinear(1280, outputs, members))
        _set_momentum(self, momentum)
        _initialise(self, members, seed)

    def forward(
        self, x: Float[Tensor, "batch members bands frames"]
    ) -> tuple[Float[Tensor, "batch members outputs 1"], None]:
        """Predictions; this network says nothing of their confidence."""
        pooled = self.layers(x).mean((2, 3)).view(len(x), self.members, -1)
        return self.classifier(pooled)[..., None], None


class _ResidualBlock(nn.Module):
    """conv3, BN, ReLU, conv3, BN, skip, ReLU over time."""

    def __init__(self, channels: int, members: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _conv1d(channels, channels, members), nn.BatchNorm1d(channels * members), nn.ReLU(),
            _conv1d(channels, channels, members), nn.BatchNorm1d(channels * members),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.layers(x) + x)


def _conv1d(inputs: int, outputs: int, members: int, *, stride: int = 1, bias: bool = False) -> nn.Conv1d:
    return nn.Conv1d(inputs * members, outputs * members, 3, stride, 1, groups=members, bias=bias)


class LightNet(nn.Module):
    r"""The sister paper's estimator: strided 1-D convolutions with residual blocks; every output frame has a value and a confidence.

    .. math:: \hat y = \frac{\sum_t c_t \hat y_t}{\sum_t c_t}, \qquad c_t = \frac{\ln(1 + e^{u_t})}{\ln 2}

    c is the inverse variance of a frame up to a factor. Which layers have biases is not known; here those without normalisation.

    Parameters
    ----------
    bands
        Mel bands.
    outputs, members, momentum, seed
        As in `MnasNet`.
    channels
        Of the sister's network, 64 to 216 and the last 64.
    width
        Factor on the channels; 0.25 suits a few hundred people.

    Examples
    --------
    >>> value, confidence = LightNet(40, 3, width=0.25, members=2)(torch.zeros(5, 2, 40, 16))
    >>> value.shape
    torch.Size([5, 2, 3, 1])
    """

    def __init__(
        self,
        bands: int = 64,
        outputs: int = 1,
        *,
        channels: Sequence[int] = (64, 96, 144, 216, 64),
        width: float = 1.0,
        members: int = 1,
        momentum: float = 0.1,
        seed: int | Sequence[int] = 0,
    ) -> None:
        super().__init__()
        self.members, self.outputs, self.bands = members, outputs, bands
        sizes = [bands, *(max(1, round(width * c)) for c in channels)]
        layers: list[nn.Module] = []
        for inputs, wide in itertools.pairwise(sizes[:-1]):
            layers += [_conv1d(inputs, wide, members, stride=2), nn.BatchNorm1d(wide * members), nn.ReLU()]
            layers.append(_ResidualBlock(wide, members))
        self.layers = nn.Sequential(*layers, _conv1d(sizes[-2], sizes[-1], members, stride=2, bias=True))
        self.value = MemberLinear(sizes[-1], outputs, members)
        self.confidence = MemberLinear(sizes[-1], outputs, members)
        _set_momentum(self, momentum)
        _initialise(self, members, seed)

    def forward(
        self, x: Float[Tensor, "batch members bands frames"]
    ) -> tuple[Float[Tensor, "batch members outputs steps"], Float[Tensor, "batch members outputs steps"]]:
        """Value and confidence of every output frame (one for 32 input frames)."""
        hidden = self.layers(x.flatten(1, 2))
        batch, _, steps = hidden.shape
        frames = (
            hidden.view(batch, self.members, -1, steps).permute(0, 3, 1, 2).reshape(batch * steps, self.members, -1)
        )

        def head(layer: MemberLinear) -> Tensor:
            return layer(frames).view(batch, steps, self.members, -1).permute(0, 2, 3, 1)

        return head(self.value), functional.softplus(head(self.confidence)) / math.log(2)


Network = MnasNet | LightNet


def _set_momentum(network: nn.Module, momentum: float) -> None:
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.momentum = momentum


@torch.no_grad()
def _initialise(network: nn.Module, members: int, seed: int | Sequence[int]) -> None:
    """First weights: normal, of variance 2 / fan-out in convolutions (as torchvision's MnasNet) and 0.0001 in linear layers; biases 0.

    Each member draws from its own seed, layer by layer: it starts as it would alone. (torchvision's linear layer has 0.01 as standard deviation in
    its first release; later ones take a fan-out rule that makes a single output start some 30 standard deviations off.)
    """
    seeds = [seed + i for i in range(members)] if isinstance(seed, int) else list(seed)
    if len(seeds) != members:
        raise ValueError(f"seed: expected one a member ({members}), found {len(seeds)}")
    for member, own in enumerate(seeds):
        generator = torch.Generator().manual_seed(own)
        for layer in network.modules():
            if not isinstance(layer, nn.Conv1d | nn.Conv2d | MemberLinear):
                continue
            part = layer.weight.view(members, -1, *layer.weight.shape[1:])[member]
            fan_out = part.shape[0] * part[0, 0].numel()
            part.normal_(0, 0.01 if isinstance(layer, MemberLinear) else math.sqrt(2 / fan_out), generator=generator)
            if layer.bias is not None:
                layer.bias.zero_()


def member_state(network: Network, member: int) -> dict[str, Tensor]:
    """State of one member under the names of a network by itself, ready for ``load_state_dict``."""
    return {
        name: value.view(network.members, -1, *value.shape[1:])[member].clone() if value.ndim else value.clone()
        for name, value in network.state_dict().items()
    }


def statistics_learned(momentum: float, updates: int) -> float:
    r"""How much of a batch normalisation's running statistics comes from training: :math:`1 - (1 - m)^n`; the rest are the initial 0 and 1.

    Examples
    --------
    >>> round(statistics_learned(3e-4, 1100), 2), round(statistics_learned(0.1, 1100), 2)
    (0.28, 1.0)
    """
    return 1 - (1 - momentum) ** updates


@torch.no_grad()
def recompute_statistics(network: Network, batches: Sequence[Float[Tensor, "batch members bands frames"]]) -> None:
    """Replace the running statistics by plain means over batches: the cure where training ended before they had converged."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)]
    momenta = [layer.momentum for layer in layers]
    was_training = network.training
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # PyTorch: cumulative average
    network.train()
    for batch in batches:
        network(batch)
    network.train(was_training)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


# ------------------------------------------------------------------------------------------------------ 5. training


@dataclass(frozen=True)
class TrainConfig:
    """How networks are trained. Defaults are paper 10's release.

    Parameters
    ----------
    network
        ``"mnasnet"`` or ``"light"``.
    width, momentum
        See `MnasNet`; the release has a momentum of 0.0003.
    epochs, batch_size
        Passes over the (largest) training set, and tokens a step.
    optimizer, learning_rate, weight_decay
        ``"adam"``, or ``"sgd"`` with momentum 0.9.
    schedule
        ``"cosine"`` to 0, or ``"constant"``.
    clip
        Largest norm of a member's gradient; None: not clipped. The gradients of members are clipped together only if there is one member.
    validation_share
        Part of the training subjects that choose the best step; 0 takes the last, as the release does.
    checks
        How often they are asked.
    """

    network: str = "mnasnet"
    width: float = 1.0
    momentum: float = 0.1
    epochs: float = 10
    batch_size: int = 32
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    schedule: str = "cosine"
    validation_share: float = 0.0
    checks: int = 10

    def __post_init__(self) -> None:
        for name, value, known in (
            ("network", self.network, ("mnasnet", "light")),
            ("optimizer", self.optimizer, ("adam", "sgd")),
            ("schedule", self.schedule, ("cosine", "constant")),
        ):
            if value not in known:
                raise ValueError(f"{name}: expected one of {', '.join(known)}, found {value!r}")
        if not 0 <= self.validation_share < 1 or self.checks < 1:
            raise ValueError(f"validation_share must lie in [0, 1) and checks be at least 1, found {self}")

    def build(self, bands: int, outputs: int, members: int, seeds: Sequence[int]) -> Network:
        """Networks side by side, one a seed."""
        options = {"width": self.width, "members": members, "momentum": self.momentum, "seed": seeds}
        return MnasNet(outputs, **options) if self.network == "mnasnet" else LightNet(bands, outputs, **options)


RELEASED = TrainConfig(momentum=3e-4)
# The sister paper's network at a size for a few hundred people a phoneme; the sister trains it on 6 to 8 s of speech (choice of ours).
SMALL = TrainConfig(
    network="light", width=0.25, epochs=12, batch_size=64, learning_rate=3e-3, weight_decay=1e-2, validation_share=0.125
)


@dataclass(frozen=True)
class Job:
    """One member to train and test.

    Parameters
    ----------
    train, test
        Rows of the tokens.
    columns
        Columns of the targets that it predicts, as many for every job.
    seed
        Of its first weights and batches.
    """

    train: Int[np.ndarray, " train"]
    test: Int[np.ndarray, " test"]
    columns: tuple[int, ...]
    seed: int


def member_losses(
    value: Float[Tensor, "batch members outputs steps"],
    confidence: Float[Tensor, "batch members outputs steps"] | None,
    target: Float[Tensor, "batch members outputs"],
) -> Float[Tensor, " members"]:
    r"""Loss of each member: squared error (paper 10), or with confidence :math:`\overline{c\,(\hat y - y)^2 - \ln c}` (sister paper)."""
    squared = (value - target[..., None]).square()
    if confidence is not None:
        squared = confidence * squared - confidence.log()
    return squared.mean((0, 2, 3))


def train_members(
    features: Float[Tensor, "tokens frames bands"],
    targets: Float[Tensor, "tokens columns"],
    subjects: Int[np.ndarray, " tokens"],
    jobs: Sequence[Job],
    config: TrainConfig,
    fabric: lightning_fabric.Fabric,
    *,
    checkpoint: Path | None = None,
    every_steps: int | None = None,
    progress: Callable[[int, Float[np.ndarray, " members"]], None] | None = None,
    finished: Callable[[dict[str, np.ndarray]], None] | None = None,
) -> list[Float[np.ndarray, "test outputs"]]:
    """Train all jobs side by side and predict their test tokens.

    Jobs may be any mixture of phonemes, folds and measurements; each sees batches of its own rows, drawn by its own seed, so it ends (up to
    rounding) where it would end alone. Several processes therefore share whole jobs and exchange nothing but the results; only the dropout of
    `MnasNet`, drawn for all members at once, then comes from other numbers.

    Parameters
    ----------
    features, targets
        Of all tokens.
    subjects
        Speaker of each token, by which validation tokens are chosen.
    jobs
        What to train.
    config
        How.
    fabric
        From `paper_utils.training.launch`.
    checkpoint, every_steps
        File to resume from and save to, every so many steps (or minute); each of several processes has one of its own beside it.
    progress
        Called with the step and the validation loss of every member of this process.
    finished
        Called once, at the end, with what the run logged: ``"member_losses"`` (steps, members).

    Returns
    -------
    list
        One array a job; a token's prediction is weighted by confidence over frames.

    Raises
    ------
    ValueError
        If there is no job, jobs differ in how many columns they have, or train and test share a token.
    """
    _check_jobs(jobs)
    train, held = zip(*(_validation(job, subjects, config.validation_share) for job in jobs), strict=True)
    steps = max(1, math.ceil(config.epochs * max(map(len, train)) / config.batch_size))
    parts = [slice(rank, None, fabric.world_size) for rank in range(fabric.world_size)]
    mine = parts[fabric.global_rank]
    predictions, losses = [], np.empty((steps, 0), dtype=np.float32)
    if jobs[mine]:
        rank = f"{fabric.global_rank}-of-{fabric.world_size}"
        own = (
            checkpoint
            if checkpoint is None or fabric.world_size == 1
            else checkpoint.with_name(f"{checkpoint.name}.{rank}")
        )
        predictions, losses = _train_side_by_side(
            features, targets, jobs[mine], train[mine], held[mine], config, alone(fabric), steps,
            checkpoint=own, every_steps=every_steps, progress=progress,
        )  # fmt: skip
    everything, logged = [None] * len(jobs), np.empty((steps, len(jobs)), dtype=np.float32)
    for part, (found, history) in zip(parts, gathered(fabric, (predictions, losses)), strict=True):
        everything[part], logged[:, part] = found, history
    if finished is not None:
        finished({"member_losses": logged})
    return everything


def _train_side_by_side(
    features: Float[Tensor, "tokens frames bands"],
    targets: Float[Tensor, "tokens columns"],
    jobs: Sequence[Job],
    train: Sequence[Int[np.ndarray, " _"]],
    held: Sequence[Int[np.ndarray, " _"]],
    config: TrainConfig,
    fabric: lightning_fabric.Fabric,
    steps: int,
    *,
    checkpoint: Path | None,
    every_steps: int | None,
    progress: Callable[[int, Float[np.ndarray, " members"]], None] | None,
) -> tuple[list[Float[np.ndarray, "_ outputs"]], Float[np.ndarray, "steps members"]]:
    """Predictions and losses of jobs with their training and validation rows, by one process."""
    bands, outputs = features.shape[2], len(jobs[0].columns)
    device = fabric.device
    inputs, wanted = features.transpose(1, 2).to(device), targets.float().to(device)
    columns = torch.tensor([job.columns for job in jobs], device=device)  # (members, outputs)
    network = config.build(bands, outputs, len(jobs), [job.seed for job in jobs])
    best = _Best(network, len(jobs))
    optimizer = _optimizer(network, config)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps) if config.schedule == "cosine" else None
    modules = {"network": network, "best": best}
    run = Run(
        fabric, modules, optimizer, steps=steps, schedule=schedule, checkpoint=checkpoint, every_steps=every_steps, apart=("best",)
    )  # fmt: skip
    every = max(1, steps // config.checks)
    for step in run:
        rows = torch.stack([
            torch.from_numpy(own)[batch_indices(len(own), config.batch_size, step, seed=job.seed)]
            for own, job in zip(train, jobs, strict=True)
        ], dim=1).to(device)  # fmt: skip
        losses = member_losses(*run.modules["network"](inputs[rows]), wanted[rows[..., None], columns])
        run.update(losses.sum(), member_losses=losses)
        if config.validation_share and ((step + 1) % every == 0 or step + 1 == steps):
            found = _validation_losses(network, inputs, wanted, held, columns)
            best.keep(network, found)
            if progress is not None:
                progress(step + 1, found.cpu().numpy())
    chosen = best.network if config.validation_share else network
    return _predictions(chosen.to(device), inputs, [job.test for job in jobs]), run.history["member_losses"]


class _Best(nn.Module):
    """The best state of every member so far; part of the checkpoint."""

    def __init__(self, network: Network, members: int) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.register_buffer("loss", torch.full((members,), math.inf))

    @torch.no_grad()
    def keep(self, network: Network, losses: Tensor) -> None:
        """Take over the members whose loss is the lowest so far."""
        better = losses < self.loss
        self.loss[better] = losses[better]
        members = len(self.loss)
        for mine, new in zip(self.network.state_dict().values(), network.state_dict().values(), strict=True):
            if mine.ndim:
                mine.view(members, -1, *mine.shape[1:])[better] = new.view(members, -1, *new.shape[1:])[better]


def _optimizer(network: Network, config: TrainConfig) -> torch.optim.Optimizer:
    if config.optimizer == "adam":
        return torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    return torch.optim.SGD(network.parameters(), config.learning_rate, momentum=0.9, weight_decay=config.weight_decay)


def _check_jobs(jobs: Sequence[Job]) -> None:
    if not jobs:
        raise ValueError("jobs: there is nothing to train")
    widths = {len(job.columns) for job in jobs}
    if len(widths) != 1 or widths == {0}:
        raise ValueError(f"jobs: all must predict equally many columns, found {sorted(widths)}")
    for number, job in enumerate(jobs):
        if len(job.train) == 0 or len(job.test) == 0:
            raise ValueError(f"jobs: job {number} has {len(job.train)} tokens to train and {len(job.test)} to test")


def _validation(job: Job, subjects: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Training rows without, and those of, the subjects that choose the best step."""
    people = np.unique(subjects[job.train])
    count = max(1, round(share * len(people))) if share else 0
    chosen = np.random.default_rng([job.seed, 1]).permutation(people)[:count]
    apart = np.isin(subjects[job.train], chosen)
    if apart.all():
        raise ValueError(f"validation_share: {share:g} of {len(people)} subjects leaves nobody to train on")
    return job.train[~apart], job.train[apart]


def _padded(rows: Sequence[np.ndarray]) -> Tensor:
    """Rows of each member below each other, the short ones filled up with their first row."""
    longest = max(map(len, rows))
    return torch.from_numpy(np.stack([np.concatenate([r, np.repeat(r[:1], longest - len(r))]) for r in rows], axis=1))


@torch.no_grad()
def _outputs(network: Network, inputs: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Predictions and confidences in evaluation mode, (rows, members, outputs, steps)."""
    was_training = network.training
    network.eval()
    values, weights = [], []
    for part in rows.to(inputs.device).split(256):
        value, confidence = network(inputs[part])
        values.append(value)
        weights.append(torch.ones_like(value) if confidence is None else confidence)
    network.train(was_training)
    return torch.cat(values), torch.cat(weights)


def _predictions(network: Network, inputs: Tensor, rows: Sequence[np.ndarray]) -> list[np.ndarray]:
    value, weight = _outputs(network, inputs, _padded(rows))
    token = ((weight * value).sum(3) / weight.sum(3)).cpu().numpy()
    return [token[: len(own), member].astype(float) for member, own in enumerate(rows)]


def _validation_losses(
    network: Network, inputs: Tensor, wanted: Tensor, rows: Sequence[np.ndarray], columns: Tensor
) -> Tensor:
    """Squared error of each member on its own validation rows."""
    padded = _padded(rows)
    value, weight = _outputs(network, inputs, padded)
    token = (weight * value).sum(3) / weight.sum(3)
    squared = (token - wanted[padded.to(wanted.device)[..., None], columns]).square().mean(2)
    lengths = torch.tensor([len(own) for own in rows], device=squared.device)
    inside = torch.arange(len(padded), device=squared.device)[:, None] < lengths
    return (squared * inside).sum(0) / lengths


def subject_average(
    values: Float[np.ndarray, "tokens outputs"], subjects: Int[np.ndarray, " tokens"]
) -> tuple[Int[np.ndarray, " subjects"], Float[np.ndarray, "subjects outputs"]]:
    """Mean of each subject's tokens: the unit of every test."""
    people, place = np.unique(subjects, return_inverse=True)
    total = np.zeros((len(people), values.shape[1]))
    np.add.at(total, place, values)
    return people, total / np.bincount(place)[:, None]


# ------------------------------------------------------------------------------ 6. the release's test, and its leak


def repeated_errors(
    features: Float[np.ndarray, "tokens values"],
    targets: Float[np.ndarray, "tokens measurements"],
    subjects: Int[np.ndarray, " tokens"],
    split: str,
    *,
    rng: np.random.Generator,
    repetitions: int = 10,
    penalty: float = 0.1,
) -> Float[np.ndarray, "repetitions measurements"]:
    r"""The release's experiment with kernel ridge: :math:`\rho_m = \mathrm{MSE(model)} / \mathrm{MSE(training\ mean)}` of ten trainings.

    Parameters
    ----------
    features, targets, subjects
        Tokens of one phoneme of one sex, and the measurements of whoever said them.
    split
        See `token_split`.
    rng
        Of the splits.
    repetitions
        10 in the release.
    penalty
        Of `kernel_ridge`; small, so that it learns by heart.
    """
    found = []
    for _ in range(repetitions):
        train, test = token_split(subjects, split, rng)
        prediction = kernel_ridge(features[train], targets[train], features[test], penalty=penalty)
        baseline = np.broadcast_to(targets[train].mean(0), prediction.shape)
        found.append(predictability.normalised_error(targets[test], prediction, baseline))
    return np.stack(found)


def release_test(
    errors: Float[np.ndarray, repetitions * pairs], *, keep: float = 1.0
) -> tuple[Bool[np.ndarray, " *pairs"], Float[np.ndarray, " *pairs"]]:
    r"""The release's decision: predictable where :math:`CI_u < 1`; and what it plots, :math:`1 - CI_u`.

    Parameters
    ----------
    errors
        From `repeated_errors`.
    keep
        1, or the "75%" and "50%" of the release, which keep the repetitions that came out best.
    """
    bound = predictability.error_bound(errors, ddof=0, correction="none", keep=keep)
    return bound < 1, 1 - bound


# --------------------------------------------------------------------------------------------- 7. the careful test


@dataclass(frozen=True)
class PairTests:
    """All (phoneme, measurement) pairs of one group of people.

    Parameters
    ----------
    phonemes, measurements
        Names of rows and columns.
    errors
        Normalised errors of the cross-validated ridge.
    null
        Those of permuted people, for each phoneme (and measurement, if each has its own).
    p_values
        Permutation test, one-sided.
    paired_p, effect
        Cross-check: paired t test over subjects, and its effect size (Cohen's d).
    rank_correlation
        Spearman's, of prediction and truth.
    model_loss, baseline_loss
        Squared errors of every subject, for intervals.
    subjects
        Who, in the order of these.
    others
        Normalised errors of other targets, by the same folds; the same null serves them.
    """

    phonemes: tuple[str, ...]
    measurements: tuple[str, ...]
    errors: Float[np.ndarray, "phonemes measurements"]
    null: Float[np.ndarray, "phonemes permutations"]
    p_values: Float[np.ndarray, "phonemes measurements"]
    paired_p: Float[np.ndarray, "phonemes measurements"]
    effect: Float[np.ndarray, "phonemes measurements"]
    rank_correlation: Float[np.ndarray, "phonemes measurements"]
    model_loss: Float[np.ndarray, "subjects phonemes measurements"]
    baseline_loss: Float[np.ndarray, "subjects phonemes measurements"]
    subjects: Int[np.ndarray, " subjects"]
    others: dict[str, Float[np.ndarray, "phonemes _"]] = field(default_factory=dict)

    @property
    def explained(self) -> Float[np.ndarray, "phonemes measurements"]:
        """Cross-validated explained variance, 1 - nMSE; below 0 where predicting does harm."""
        return 1 - self.errors

    def rejected(self, q: float = 0.05, *, method: str = "fdr_bh") -> Bool[np.ndarray, "phonemes measurements"]:
        """Pairs that are predictable at a false-discovery rate q over all pairs."""
        return predictability.discoveries(self.p_values, q, method=method)


def design(
    table: SubjectTable, covariates: Sequence[str], categories: Sequence[str] = ()
) -> Float[np.ndarray, "subjects columns"]:
    """Covariates of a table as columns of a regression: numbers as they are, categories as indicators.

    Raises
    ------
    ValueError
        If the table does not have one, or it is not known of somebody.
    """
    columns = [np.empty((len(table), 0))]
    for name in (*covariates, *categories):
        if name not in table.covariates:
            raise ValueError(f"{table.name}: no covariate {name!r}; found {', '.join(table.covariates) or 'none'}")
        values = np.asarray(table.covariates[name], dtype=float)
        if not np.isfinite(values).all():
            raise ValueError(
                f"{table.name}: {name} is not known of {int((~np.isfinite(values)).sum())} subjects; leave them out"
            )
        columns.append((values[:, None] == np.unique(values)).astype(float) if name in categories else values[:, None])
    return np.hstack(columns)


def target_scores(
    table: SubjectTable, *, covariates: Float[np.ndarray, "subjects covariates"] | None = None
) -> Float[np.ndarray, "subjects measurements"]:
    """Measurements as normal scores, after a regression on covariates if there are any (Freedman and Lane's test then).

    Raises
    ------
    ValueError
        If a measurement is the same for all, or missing for somebody; it is named.
    """
    missing = [name for name, column in zip(table.names, table.values.T, strict=True) if not np.isfinite(column).all()]
    if missing:
        raise ValueError(
            f"{table.name}: {', '.join(missing[:5])} is not known of everybody; use matched(..., missing='drop')"
        )
    constant = [name for name, column in zip(table.names, table.values.T, strict=True) if np.ptp(column) == 0]
    if constant:
        raise ValueError(f"{table.name}: {', '.join(constant)} is the same for all {len(table)} subjects; leave it out")
    values = table.values if covariates is None else predictability.residuals(table.values, covariates)
    return predictability.normal_scores(values)


def ridge_errors(
    means: Float[np.ndarray, "phonemes subjects values"],
    targets: Float[np.ndarray, "subjects columns"],
    folds: Int[np.ndarray, " subjects"],
    *,
    penalties: Sequence[float] = PENALTIES,
) -> Float[np.ndarray, "phonemes columns"]:
    """Normalised error of every phoneme and target column; subjects who never say a phoneme (NaN) are left out of it."""
    spoken = np.isfinite(means).all(2)
    return np.stack([
        ridge_cross_validated(rows[said], targets[said], folds[said], penalties=penalties, keep=0).errors
        for rows, said in zip(means, spoken, strict=True)
    ])  # fmt: skip


def pair_tests(
    tokens: PhoneTokens,
    table: SubjectTable,
    *,
    folds: int = 10,
    permutations: int = 1999,
    seed: int = 0,
    covariates: Float[np.ndarray, "subjects covariates"] | None = None,
    penalties: Sequence[float] = PENALTIES,
    others: Mapping[str, Float[np.ndarray, "subjects _"]] | None = None,
) -> PairTests:
    """The careful test of every pair: subject-disjoint ridge, permutations, cross-checks.

    Targets are normal scores, so the measurements of a phoneme share one null distribution: `permutations` of one column are enough for all.
    This is exact where every subject says every phoneme, and near it otherwise.

    Parameters
    ----------
    tokens, table
        Of one sex, the same people in both (see `paper_utils.data.phones.matched`).
    folds
        K of the cross-validation.
    permutations
        B; p-values are no smaller than 1 / (B + 1).
    seed
        Of folds and permutations.
    covariates
        Taken out of the measurements first, see `design`.
    penalties
        Of the ridge.
    others
        Further targets as normal scores, such as measurements of strangers: they ride along for almost nothing.

    Raises
    ------
    ValueError
        If a phoneme is said by fewer subjects than there are folds, or a measurement is constant.
    """
    rng = np.random.default_rng([seed, 7])
    means, _ = tokens.subject_means(table.subjects)
    scores = target_scores(table, covariates=covariates)
    count, columns = scores.shape
    shape = (len(means), columns)
    errors, paired_p, effect, correlation = (np.empty(shape) for _ in range(4))
    model_loss, baseline_loss = (np.full((count, *shape), np.nan) for _ in range(2))
    null = np.empty((len(means), permutations))
    riders, parts = np.empty((count, 0)), {}
    for name, matrix in (others or {}).items():
        parts[name] = slice(riders.shape[1], riders.shape[1] + matrix.shape[1])
        riders = np.hstack([riders, matrix])
    other_errors = np.empty((len(means), riders.shape[1]))
    for row, values in enumerate(means):
        said = np.isfinite(values).all(1)
        if said.sum() < folds:
            raise ValueError(
                f"{tokens.name}: {tokens.phone_names[row]!r} is said by {said.sum()} of {count} subjects, fewer than {folds} folds; leave it out"
            )
        y = scores[said]
        shuffled = rng.permuted(np.tile(y[:, 0], (permutations, 1)), axis=1).T
        fold = subject_folds(len(y), folds, rng)
        targets = np.hstack([y, shuffled, riders[said]])
        found = ridge_cross_validated(values[said], targets, fold, penalties=penalties, keep=columns)
        errors[row], null[row], other_errors[row] = np.split(found.errors, [columns, columns + permutations])
        paired_p[row], effect[row] = predictability.paired_test(y, found.prediction, found.baseline)
        correlation[row] = [stats.spearmanr(*pair).statistic for pair in zip(y.T, found.prediction.T, strict=True)]
        model_loss[said, row] = (y - found.prediction) ** 2
        baseline_loss[said, row] = (y - found.baseline) ** 2
    return PairTests(
        phonemes=tokens.phone_names,
        measurements=table.names,
        errors=errors,
        null=null,
        p_values=predictability.permutation_p(errors, null),
        paired_p=paired_p,
        effect=effect,
        rank_correlation=correlation,
        model_loss=model_loss,
        baseline_loss=baseline_loss,
        subjects=table.subjects,
        others={name: other_errors[:, part] for name, part in parts.items()},
    )


# ------------------------------------------------------------------------------------------------------ 8. movement


def movement(
    measured: Float[np.ndarray, "frames measurements"],
    neutral: Float[np.ndarray, "frames measurements"],
    phones: Int[np.ndarray, " frames"],
    tokens: Int[np.ndarray, " frames"],
    between_sd: Float[np.ndarray, " measurements"],
    count: int,
) -> Float[np.ndarray, "phonemes measurements"]:
    r"""How much each measurement moves while each phoneme is pronounced, in standard deviations between people.

    .. math:: M_{pa} = \frac{1}{|T_p|}\sum_{\tau \in T_p} \frac{1}{|\tau|}\sum_{t \in \tau} \frac{|a(t) - a_{\mathrm{neutral}}|}{\mathrm{sd}_a}

    How paper 10 measures movement is not known; this is a choice of ours.

    Parameters
    ----------
    measured, neutral
        Measurement in each frame, and of the same face at rest.
    phones, tokens
        Phoneme (from 0 to `count`, -1 for none) and number of the token that each frame belongs to.
    between_sd
        Of the measurements over people.
    count
        Number of phonemes.

    Raises
    ------
    ValueError
        If a phoneme has no frame.
    """
    kept = phones >= 0
    away = np.abs(measured - neutral)[kept] / between_sd
    names, first, place = np.unique(tokens[kept], return_index=True, return_inverse=True)
    per_token = np.zeros((len(names), away.shape[1]))
    np.add.at(per_token, place, away)
    per_token /= np.bincount(place)[:, None]
    phone = phones[kept][first]
    sizes = np.bincount(phone, minlength=count)
    if (sizes == 0).any():
        raise ValueError(f"movement: phonemes {np.flatnonzero(sizes == 0).tolist()} have no frame")
    total = np.zeros((count, away.shape[1]))
    np.add.at(total, phone, per_token)
    return total / sizes[:, None]
