r"""How good is generated motion? The measures of TalkSHOW's evaluation, beats apart (`metrics.beats`), with what each of them rewards by mistake.

Joints are in metres in the order of SMPL-X (`world.skeleton` has the same order), one frame a row; several draws for one sound come first.
None of these numbers is a quality score by itself: a frozen mean pose wins the joint error, and noise wins the variation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from paper_utils.metrics.frechet import frechet_distance
from paper_utils.nn.motion_autoencoder import MotionAutoencoder
from paper_utils.nn.motion_classifier import ClassifierTraining, real_probability, train_classifier

# Rows of the joint array that the released evaluation looks at.
BODY_JOINTS = slice(0, 22)
JAW_AND_EYES = slice(22, 25)
FACE_LANDMARKS = slice(74, None)  # starts two fingertips early, as the released code does; the hands are at rest there


def checked_joints(
    name: str, values: Float[np.ndarray, "*draws time joints 3"], least_frames: int = 1
) -> Float[np.ndarray, "*draws time joints 3"]:
    """The same array, if it has enough frames and all its numbers are finite.

    Parameters
    ----------
    name
        What it is called in messages.
    values
        Motion, or draws of it.
    least_frames
        How many frames are needed.

    Raises
    ------
    ValueError
        If there are fewer frames, no joints, or NaN or infinite numbers.
    """
    if values.shape[-3] < least_frames or not values.size:
        raise ValueError(f"{name}: expected at least {least_frames} frames and one joint, found shape {values.shape}")
    _refuse_nan(name, values)
    return values


def _refuse_nan(name: str, values: np.ndarray) -> None:
    bad = int((~np.isfinite(values)).sum())
    if bad:
        raise ValueError(
            f"{name}: {bad} of {values.size} numbers are NaN or infinite; look for a diverged network or a gap in the data"
        )


def as_draws(
    generated: Float[np.ndarray, "time joints 3"] | Float[np.ndarray, "count time joints 3"],
) -> Float[np.ndarray, "draws time joints 3"]:
    """Draws of motion; one motion alone becomes one draw."""
    return generated[None] if generated.ndim == 3 else generated


# -------------------------------------------------------------------------------------------------------------- distances


def joint_error(
    real: Float[np.ndarray, "time joints 3"],
    generated: Float[np.ndarray, "generated_time generated_joints 3"]
    | Float[np.ndarray, "draws generated_time generated_joints 3"],
) -> float:
    r"""Distance of all joints from the recorded ones, metres summed over joints ("L2").

    .. math:: \frac{1}{BT} \sum_{b,t} \sum_j |J_{tj} - \hat J_{btj}|

    The mean over all that could follow a sound minimises it: lively motion pays for every gesture that the speaker did not make.

    Parameters
    ----------
    real, generated
        Of equal length, metres.

    Raises
    ------
    ValueError
        If lengths or joints differ, or a number is not finite.
    """
    drawn = as_draws(checked_joints("generated", generated))
    if drawn.shape[1:] != checked_joints("real", real).shape:
        raise ValueError(
            f"generated: expected {real.shape} for each draw, found {drawn.shape[1:]}; cut the longer one first"
        )
    return float(np.linalg.norm(drawn - real, axis=-1).sum(-1).mean())


def face_joint_errors(
    real: Float[np.ndarray, "time joints 3"],
    generated: Float[np.ndarray, "generated_time generated_joints 3"]
    | Float[np.ndarray, "draws generated_time generated_joints 3"],
) -> dict[str, float]:
    """`joint_error` of jaw and eyes (rows 22 to 24) and of the face landmarks (rows 74 on), metres each, bodies at rest.

    Raises
    ------
    ValueError
        If there are no rows from 74 on (the array is not SMPL-X's 127 joints and landmarks), or as `joint_error`.
    """
    if real.shape[1] <= FACE_LANDMARKS.start:
        raise ValueError(
            f"real: expected SMPL-X's joints with face landmarks from row 74 on (127 in all), found {real.shape[1]} rows"
        )
    parts = {"jaw and eyes": JAW_AND_EYES, "landmarks": FACE_LANDMARKS}
    return {name: joint_error(real[:, part], generated[..., part, :]) for name, part in parts.items()}


def velocity_difference(
    real: Float[np.ndarray, "time joints 3"],
    generated: Float[np.ndarray, "generated_time generated_joints 3"]
    | Float[np.ndarray, "draws generated_time generated_joints 3"],
) -> float:
    r"""Difference of speeds, metres a frame summed over joints ("LVD", landmark velocity difference).

    .. math:: \frac{1}{B(T-1)} \sum_{b,t} \sum_j \big|\, |\hat J_{b,t+1,j} - \hat J_{btj}| - |J_{t+1,j} - J_{tj}| \,\big|

    Only how fast, not whereto; motion that is right but a few frames late is punished like motion that is wrong.

    Parameters
    ----------
    real, generated
        Metres. The longer one is cut to the length of the shorter one, as in the released code. Give ``[:, BODY_JOINTS]`` for the body,
        rows 22 to 24 and 74 on for the face.

    Raises
    ------
    ValueError
        If fewer than two frames are common, joints differ, or a number is not finite.
    """
    drawn, real = as_draws(checked_joints("generated", generated, 2)), checked_joints("real", real, 2)
    if drawn.shape[2:] != real.shape[1:]:
        raise ValueError(f"generated: expected {real.shape[1]} joints, found {drawn.shape[2]}")
    time = min(len(real), drawn.shape[1])
    ours, theirs = (np.linalg.norm(np.diff(x, axis=-3), axis=-1) for x in (drawn[:, :time], real[:time]))
    return float(np.abs(ours - theirs).sum(-1).mean())


def velocity_baselines(motion: Float[np.ndarray, "time joints 3"]) -> dict[str, float]:
    r"""What two motionless guesses score on coordinate speeds :math:`|v|`, metres a frame a coordinate: anchors for `velocity_difference`.

    ``"mean"`` guesses every coordinate's mean speed. ``"first step"`` guesses the first step of the clip, sign and all: the released code
    compares speeds with a velocity here, which this repeats.
    """
    steps = np.diff(checked_joints("motion", motion, 2), axis=0)
    speed = np.abs(steps)
    return {
        "first step": float(np.abs(speed - steps[:1]).mean()),
        "mean": float(np.abs(speed - speed.mean(0)).mean()),
    }


def reconstruction_error(
    motion: Float[np.ndarray, "*clips time channels"], reconstructed: Float[np.ndarray, "*shape"]
) -> float:
    """Absolute error of a frame, summed over its channels (radians for 129 channels of body and hands): how much codes can carry.

    Raises
    ------
    ValueError
        If shapes differ (cut the frames that a code does not fill) or a number is not finite.
    """
    if motion.shape != reconstructed.shape or not motion.size:
        raise ValueError(
            f"reconstructed: expected {motion.shape} with at least one frame, found {reconstructed.shape}; "
            "frames that fill no code are lost, cut them from the motion"
        )
    _refuse_nan("motion", motion)
    _refuse_nan("reconstructed", reconstructed)
    return float(np.abs(reconstructed - motion).sum(-1).mean())


# -------------------------------------------------------------------------------------------------------------- diversity


def variation(generated: Float[np.ndarray, "draws time joints 3"]) -> float:
    r"""Spread of draws for one sound, square metres summed over joints ("variation").

    .. math:: \frac{1}{T} \sum_t \sum_j \big| \operatorname{var}_b \hat J_{btj} \big|

    The unbiased variance of each coordinate, then the length of that vector of variances. With two draws, TalkSHOW's number, a
    coordinate's variance is half the squared difference and very noisy. Noise has the most of it.

    Raises
    ------
    ValueError
        If there are fewer than two draws, or a number is not finite.
    """
    if len(checked_joints("generated", generated)) < 2:
        raise ValueError(f"generated: a spread needs at least 2 draws of the same sound, found {len(generated)}")
    return float(np.linalg.norm(generated.var(0, ddof=1), axis=-1).sum(-1).mean())


def pairwise_diversity(draws: Float[np.ndarray, draws * shape]) -> float:
    r"""Mean absolute difference of two draws, over all pairs and all numbers; the unit is that of the numbers.

    .. math:: \frac{2}{B(B-1)} \sum_{a<b} \operatorname{mean}|x_a - x_b|

    Raises
    ------
    ValueError
        If there are fewer than two draws, or a number is not finite.

    Examples
    --------
    >>> pairwise_diversity(np.array([[0.0], [1.0], [3.0]]))
    2.0
    """
    if len(draws) < 2 or not draws.size:
        raise ValueError(f"draws: expected at least 2 draws of something, found shape {draws.shape}")
    _refuse_nan("draws", draws)
    count = len(draws)
    # In sorted order the value of rank r is added r times and taken off count - 1 - r times.
    ranks = 2.0 * np.arange(count) - (count - 1)
    total = np.tensordot(ranks, np.sort(draws, axis=0).astype(np.float64), axes=1)
    return float(total.mean() / (count * (count - 1) / 2))


# ------------------------------------------------------------------------------------------------------ Fréchet distances


@torch.no_grad()
def motion_features(
    network: MotionAutoencoder, motion: Float[Tensor, "*clips time channels"], *, batch: int = 64
) -> Float[np.ndarray, "rows features"]:
    """Features of all clips, one row for every four frames, stacked: what TalkSHOW's Fréchet gesture distance compares.

    Parameters
    ----------
    network
        In evaluation mode, trained on other real motion (`nn.motion_autoencoder.train_autoencoder`).
    motion
        Clips, or draws of clips.
    batch
        Clips at once.

    Raises
    ------
    ValueError
        If the network is in training mode (batch norm would mix clips), or there are no clips or NaN.
    """
    if network.training:
        raise ValueError("network: it is in training mode, where batch norm depends on the batch; call network.eval()")
    clips = motion.reshape(-1, *motion.shape[-2:])
    if not len(clips) or not torch.isfinite(clips).all():
        raise ValueError(f"motion: expected at least one clip of finite numbers, found shape {tuple(motion.shape)}")
    device = next(network.parameters()).device
    parts = [network.encoder(part.transpose(1, 2).to(device)) for part in clips.split(batch)]
    return torch.cat(parts).transpose(1, 2).flatten(0, 1).cpu().numpy()


@dataclass(frozen=True)
class Whitening:
    """A fixed linear map that gives features of real training motion mean zero and covariance one.

    A Fréchet distance takes its unit from the features. On those of two trainings of one network, distances of real from real differ a hundredfold;
    whitened features have no unit left.

    Parameters
    ----------
    mean
        Subtracted first.
    matrix
        Then multiplied from the right.
    """

    mean: Float[np.ndarray, " features"]
    matrix: Float[np.ndarray, "features kept"]

    @classmethod
    def of(cls, features: Float[np.ndarray, "rows features"], *, keep: int | None = None) -> Whitening:
        """Fit to features of training motion, by principal components.

        Parameters
        ----------
        features
            More rows than columns.
        keep
            How many components, the strongest first; ``None`` for all that have any variance.

        Raises
        ------
        ValueError
            If there are too few rows, a number is not finite, or more components are asked for than have variance.
        """
        _refuse_nan("features", features)
        rows, width = features.shape
        if rows <= width:
            raise ValueError(f"features: whitening {width} features needs more rows than that, found {rows}")
        mean = features.mean(0, dtype=np.float64)
        variances, directions = np.linalg.eigh(np.cov(features, rowvar=False).reshape(width, width))
        variances, directions = variances[::-1], directions[:, ::-1]
        there = int((variances > variances[0] * 1e-10).sum())
        keep = there if keep is None else keep
        if not 1 <= keep <= there:
            raise ValueError(f"keep: expected 1 to {there} (components with variance), found {keep}")
        return cls(mean, directions[:, :keep] / np.sqrt(variances[:keep]))

    def __call__(self, features: Float[np.ndarray, "rows features"]) -> Float[np.ndarray, "rows kept"]:
        """Features in the fixed scale."""
        return (features - self.mean) @ self.matrix


def windows(
    motion: Float[np.ndarray, "*clips time channels"], *, frames: int = 8, step: int = 4
) -> Float[np.ndarray, "rows values"]:
    """Short windows of all clips as rows; with `Whitening` they are features that need no network.

    Raises
    ------
    ValueError
        If clips are shorter than a window.

    Examples
    --------
    >>> windows(np.arange(5.0)[:, None], frames=3, step=2)
    array([[0., 1., 2.],
           [2., 3., 4.]])
    """
    if frames < 1 or step < 1 or motion.shape[-2] < frames:
        raise ValueError(f"motion: expected clips of at least {frames} frames (one window), found shape {motion.shape}")
    cut = np.lib.stride_tricks.sliding_window_view(motion, frames, axis=-2)[..., ::step, :, :]
    return np.ascontiguousarray(np.moveaxis(cut, -1, -2)).reshape(-1, frames * motion.shape[-1])


@dataclass(frozen=True)
class GestureDistance:
    """A Fréchet distance and what real motion scores against itself.

    Parameters
    ----------
    value
        Between real and generated features, in squared units of the features.
    floor
        Between two random halves of the real features: nothing can be told apart below it.
    """

    value: float
    floor: float


def gesture_distance(
    real: Float[np.ndarray, "rows features"], generated: Float[np.ndarray, "more_rows features"], *, seed: int = 0
) -> GestureDistance:
    r"""Fréchet gesture distance (FGD) of generated from real motion features.

    .. math:: |\mu_g - \mu_r|^2 + \operatorname{tr}\big(S_g + S_r - 2 (S_g S_r)^{1/2}\big)

    It has a meaning only within one feature network: on the SHOW data TalkSHOW itself is reported at 6.04 and at 74.88.

    Parameters
    ----------
    real, generated
        From `motion_features` or `windows`, whitened or not; the generated ones of all draws.
    seed
        Of the halves behind the floor.

    Raises
    ------
    ValueError
        If there are fewer than four real rows, or as `frechet_distance`.
    """
    if len(real) < 4:
        raise ValueError(f"real: expected at least 4 rows, for two halves, found {len(real)}")
    order = np.random.default_rng(seed).permutation(len(real))
    half = len(real) // 2
    return GestureDistance(frechet_distance(real, generated), frechet_distance(real[order[:half]], real[order[half:]]))


# -------------------------------------------------------------------------------------------------------------- realism


def realism_scores(
    real: Float[np.ndarray, "clips time channels"],
    generated: Mapping[str, Float[np.ndarray, "_ _ _"]],
    *,
    config: ClassifierTraining | None = None,
    noise: float = 0.2,
    seed: int = 0,
) -> dict[str, Float[np.ndarray, " held_out"]]:
    """How real does a classifier find generated motion ("RS", realistic score)? P(real) of each held-out clip.

    The paper's classifier was not released and its numbers cannot be compared with these. Ours learns on half of the clips to tell real motion from
    that of all methods together, and judges the other half. The score of a method is the mean of its row; real motion and real motion
    with white noise stand beside it as anchors, the noise unseen in training.

    Parameters
    ----------
    real
        Body and hands, radians.
    generated
        Motion of each method for the same clips in the same order, so that no sound is on both sides of the split.
    config
        How the classifier is trained; ``None`` for the defaults.
    noise
        Standard deviation of the noise in the second anchor, in standard deviations of each channel.
    seed
        Of the split, the training and the noise.

    Returns
    -------
    dict
        Row by name: ``"real"``, ``"real + noise"``, then every method.

    Raises
    ------
    ValueError
        If a method has other shapes than the real motion, there are fewer than four clips, or no method, or a name is taken.
    """
    taken = {"real", "real + noise"} & set(generated)
    if taken or not generated:
        raise ValueError(f"generated: expected at least one method, not named as an anchor; found {list(generated)}")
    for name, motion in {"real": real, **generated}.items():
        if motion.shape != real.shape or len(real) < 4:
            raise ValueError(
                f"{name}: expected at least 4 clips and shape {real.shape} as the real motion, found {motion.shape}"
            )
        _refuse_nan(name, motion)
    rng = np.random.default_rng([seed, 0])
    order = rng.permutation(len(real))
    learned, judged = order[: len(real) // 2], order[len(real) // 2 :]
    noisy = real + noise * real.std((0, 1)) * rng.standard_normal(real.shape)

    def tensor(motion: np.ndarray, rows: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(motion[rows], dtype=np.float32))

    fakes = torch.cat([tensor(motion, learned) for motion in generated.values()])
    network = train_classifier(tensor(real, learned), fakes, config or ClassifierTraining(), seed=seed)
    shown = {"real": real, "real + noise": noisy, **generated}
    return {name: real_probability(network, tensor(motion, judged)) for name, motion in shown.items()}
