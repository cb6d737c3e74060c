"""What networks trained on SHOW are measured by: the released evaluation on whole test clips, its definitions first, corrected ones beside.

Joints are those of SMPL-X if the data folder has ``SMPLX_NEUTRAL.npz`` and the optional package smplx is there; otherwise those of the package's
own stick figure, and the report says so: metres and beats can then be compared within a report only.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from paper_utils.audio_files import resample
from paper_utils.audio_onsets import ONSET_MEL, onsets_s
from paper_utils.data import show
from paper_utils.data.motion_clips import Clips
from paper_utils.data.show_frames import evaluation_frames
from paper_utils.data.smplx_body import SmplxBody
from paper_utils.experiment import Experiment
from paper_utils.methods import talkshow as ts
from paper_utils.metrics import motion as metric
from paper_utils.metrics.beats import OFFICIAL_CHANGE, arm_angles, beat_consistency, mean_angle_change
from paper_utils.metrics.statistics import bootstrap_interval
from paper_utils.nn.motion_autoencoder import FRAMES_A_CODE, MotionAutoencoder
from paper_utils.nn.quantizer import perplexity
from paper_utils.world import skeleton
from paper_utils.world.pose_layout import FACE_COLUMNS, assemble, face_columns, upper_columns

UPPER, FACE = upper_columns(), face_columns()
PARTS = {"body": slice(0, ts.BODY), "hands": slice(ts.BODY, None)}
BATCH = 32
RESAMPLES = 1000
SPEECH_RATE = 16_000  # Hz
Points = Callable[[Tensor, Tensor], Float[np.ndarray, "frames points 3"]]  # of frames and a body shape, metres


@dataclass(frozen=True)
class Networks:
    """What is evaluated.

    Parameters
    ----------
    models
        By name; the first one's codebooks and face are measured too.
    regressor
        The deterministic rival, of body and hands.
    motion
        The network of the Fréchet distance.
    speech
        What the face hears, unless it is the MFCC.
    draws
        For each clip.
    """

    models: dict[str, ts.TalkShow]
    regressor: ts.Regressor
    motion: MotionAutoencoder
    speech: ts.SpeechFeatures | None
    draws: int = 2


@torch.no_grad()
def evaluate(
    networks: Networks,
    clips: Sequence[show.ShowClip],
    learned: Clips,
    *,
    exp: Experiment,
    device: torch.device,
) -> dict[str, Any]:
    """Measure on whole test clips.

    Parameters
    ----------
    networks
        Trained, in evaluation mode.
    clips
        Of the test part.
    learned
        Training clips, for the mean poses.
    exp
        The run: source of chance, and the data folder, where a body model may be.
    device
        Where to draw.

    Returns
    -------
    Numbers by name, ready for JSON.
    """
    for one in (*networks.models.values(), networks.regressor, networks.motion, *filter(None, [networks.speech])):
        one.to(device)
    groups = [[clips[row] for row in rows] for rows in _equal_lengths(clips)]
    clips = [clip for group in groups for clip in group]
    first = next(iter(networks.models.values()))
    methods = {
        name: list(_drawn(model, groups, device, networks.draws, exp.generator("draws")))
        for name, model in networks.models.items()
    }
    methods["regression"] = list(_regressed(networks.regressor, groups, device))
    methods["codes"] = list(_through_codes(first, groups, device))
    still = _mean_poses(learned)
    methods["speaker's mean pose"] = [still[c.speaker].expand(1, _kept(c), -1) for c in clips]
    points, joints = _points(Path(exp.data_root))
    measure = _Measures(clips, points, networks.motion, released_change=joints == "SMPL-X")
    return {
        "clips": len(clips),
        "draws": networks.draws,
        "joints": joints,
        "FGD of real motion from itself": measure.floor(exp.seed),
        "methods": {name: measure(motion, exp.rng(name)) for name, motion in methods.items()},
        "face": _face_errors(first, networks.speech, groups, device, points if joints == "SMPL-X" else None),
        "codes": _code_numbers(first, groups, device),
    }


def _kept(clip: show.ShowClip) -> int:
    """Frames that codes can make."""
    return len(clip.motion) // FRAMES_A_CODE * FRAMES_A_CODE


def _upper(clip: show.ShowClip) -> Float[Tensor, "frames 129"]:
    return clip.motion[: _kept(clip), torch.from_numpy(UPPER)]


def _equal_lengths(clips: Sequence[show.ShowClip]) -> list[list[int]]:
    """Rows of clips of one length, at most `BATCH` at once."""
    by_length: dict[int, list[int]] = {}
    for row, clip in enumerate(clips):
        by_length.setdefault(len(clip.motion), []).append(row)
    return [rows[i : i + BATCH] for rows in by_length.values() for i in range(0, len(rows), BATCH)]


def _heard(group: Sequence[show.ShowClip], device: torch.device) -> tuple[Tensor, Tensor]:
    """MFCC and speakers of clips of one length."""
    speakers = torch.tensor([clip.speaker for clip in group], device=device)
    return torch.stack([clip.mfcc() for clip in group]).to(device), speakers


# ------------------------------------------------------------------------------------------------------------- 1. motion


def _drawn(
    model: ts.TalkShow,
    groups: Sequence[Sequence[show.ShowClip]],
    device: torch.device,
    draws: int,
    generator: torch.Generator,
) -> Iterator[Float[Tensor, "draws frames 129"]]:
    for group in groups:
        features, speakers = _heard(group, device)
        codes = model.draw_codes(features, speakers, generator=generator, draws=draws)
        yield from model.decode(codes.flatten(0, 1)).unflatten(0, codes.shape[:2]).cpu()


def _regressed(
    regressor: ts.Regressor, groups: Sequence[Sequence[show.ShowClip]], device: torch.device
) -> Iterator[Float[Tensor, "one frames 129"]]:
    for group in groups:
        features, speakers = _heard(group, device)
        found = regressor(features, ts.one_hot(speakers, regressor.config.speakers)).cpu()
        yield from found[:, None, : _kept(group[0])]


def _through_codes(
    model: ts.TalkShow, groups: Sequence[Sequence[show.ShowClip]], device: torch.device
) -> Iterator[Float[Tensor, "one frames 129"]]:
    for group in groups:
        yield from model.decode(_encoded(model, group, device)).cpu()[:, None]


def _encoded(model: ts.TalkShow, group: Sequence[show.ShowClip], device: torch.device) -> Tensor:
    upper = torch.stack([_upper(clip) for clip in group]).to(device)
    parts = model.body.encode(upper[..., PARTS["body"]]), model.hands.encode(upper[..., PARTS["hands"]])
    return torch.stack(parts, dim=2)


def _mean_poses(clips: Clips) -> Float[Tensor, "speakers 129"]:
    who = clips.speakers.repeat_interleave(clips.starts.diff())
    upper = torch.from_numpy(UPPER)
    return torch.stack(
        [
            clips.motion[who == s][:, upper].mean(0) if (who == s).any() else clips.motion.mean(0)[upper]
            for s in range(len(show.SPEAKERS))
        ]
    )


# ------------------------------------------------------------------------------------------------------------ 2. measures


def _points(root: Path) -> tuple[Points, str]:
    """Joints of frames, and whose."""
    path = root / "SMPLX_NEUTRAL.npz"
    if path.is_file() and importlib.util.find_spec("smplx"):
        body = SmplxBody(path)
        return lambda frames, betas: body(frames, betas)[0].numpy(), "SMPL-X"

    def stick_figure(frames: Tensor, _: Tensor) -> np.ndarray:
        return skeleton.positions(skeleton.pose_of(frames))[:, : len(skeleton.JOINTS)].numpy()

    lacking = "the package smplx is not installed" if path.is_file() else "no SMPLX_NEUTRAL.npz in the data folder"
    return stick_figure, f"stick figure of this package ({lacking})"


def _frames(upper: Float[Tensor, "draws frames 129"], speaker: int) -> Float[Tensor, "draws frames 265"]:
    """Frames as the released evaluation compares bodies: no face, the same legs and root in all."""
    posture = show.POSTURES[show.SPEAKERS[speaker]]
    whole = assemble(upper.new_zeros(*upper.shape[:-1], FACE_COLUMNS), upper, posture=posture)
    return evaluation_frames(whole, posture=posture)


class _Measures:
    """Measures of a method on the test clips; what depends on the real motion alone is computed once.

    The official beat consistency measures speed in the released constants k, which belong to SMPL-X's arms, if `released_change` says so; the
    corrected one, and the official one of other arms, in the mean change of these clips' real motion. Its name says which.
    """

    def __init__(
        self, clips: Sequence[show.ShowClip], points: Points, network: MotionAutoencoder, *, released_change: bool
    ) -> None:
        self._clips, self._points, self._network = clips, points, network
        self._real = [self._joints(_upper(clip)[None], clip)[0] for clip in clips]
        self._features = self._rows([_upper(clip)[None] for clip in clips])
        self._onsets = [onsets_s(resample(c.samples, show.SAMPLE_RATE, SPEECH_RATE), ONSET_MEL) for c in clips]
        own = {
            unit: np.mean([mean_angle_change(arm_angles(one, unit_bones=unit)) for one in self._real], 0)
            for unit in (False, True)
        }
        self._change = {
            "official": ("the released code", OFFICIAL_CHANGE) if released_change else ("these clips", own[False]),
            "corrected": ("these clips", own[True]),
        }

    def _joints(self, upper: Tensor, clip: show.ShowClip) -> Float[np.ndarray, "draws frames points 3"]:
        return np.stack([self._points(frames, clip.betas) for frames in _frames(upper, clip.speaker)])

    def _rows(self, motion: Sequence[Float[Tensor, "draws _ 129"]]) -> Float[np.ndarray, "rows features"]:
        return np.concatenate([metric.motion_features(self._network, one) for one in motion])

    def floor(self, seed: int) -> float:
        """Fréchet distance of half of the real rows from the other half."""
        return metric.gesture_distance(self._features, self._features, seed=seed).floor

    def __call__(self, motion: Sequence[Float[Tensor, "draws _ 129"]], rng: np.random.Generator) -> dict[str, Any]:
        """Measures by name; those that are means over clips with a 95 % interval over clips."""
        joints = [self._joints(upper, clip) for upper, clip in zip(motion, self._clips, strict=True)]
        body = [one[..., metric.BODY_JOINTS, :] for one in joints]
        several = len(motion[0]) > 1
        pairs = list(zip(self._real, joints, strict=True))
        by_clip = {
            "L2 (m, summed over joints)": [metric.joint_error(real, one) for real, one in pairs],
            "LVD (m a frame, summed over body joints)": [
                metric.velocity_difference(real[:, metric.BODY_JOINTS], one)
                for real, one in zip(self._real, body, strict=True)
            ],
            "error (rad a frame, summed over angles)": [
                float((upper - _upper(clip)).abs().sum(-1).mean())
                for upper, clip in zip(motion, self._clips, strict=True)
            ],
            "variation (m², summed over joints)": [metric.variation(one) if several else 0.0 for one in joints],
            "diversity (rad)": [metric.pairwise_diversity(one.numpy()) if several else 0.0 for one in motion],
        }
        found: dict[str, Any] = {name: _mean(values, rng) for name, values in by_clip.items()}
        found["FGD (squared features)"] = metric.gesture_distance(self._features, self._rows(motion)).value
        for convention, (whose, change) in self._change.items():
            score = beat_consistency(joints, self._onsets, convention=convention, change=change).score
            found[f"beat consistency, {convention} (k of {whose})"] = None if np.isnan(score) else score
        return found


def _mean(values: Sequence[float], rng: np.random.Generator) -> dict[str, float]:
    """Mean over clips; with an interval if there are clips enough for one."""
    if len(values) < 2:
        return {"value": float(np.mean(values))}
    found = bootstrap_interval(np.array(values), rng=rng, resamples=RESAMPLES)
    return {"value": found.value, "low": found.low, "high": found.high}


@torch.no_grad()
def _face_errors(
    model: ts.TalkShow,
    speech: ts.SpeechFeatures | None,
    groups: Sequence[Sequence[show.ShowClip]],
    device: torch.device,
    points: Points | None,
) -> dict[str, float]:
    """Errors of jaw and expression; of SMPL-X's face joints too if there are any."""
    found: dict[str, list[float]] = {}
    for group in groups:
        heard, speakers = _heard(group, device)
        if speech is not None:
            samples = torch.stack([resample(clip.samples, show.SAMPLE_RATE, SPEECH_RATE) for clip in group])
            heard = speech(samples.to(device), len(group[0].motion))
        faces = model.face(heard, ts.one_hot(speakers, model.face.config.speakers)).cpu()
        for clip, face in zip(group, faces, strict=True):
            losses = ts.face_losses(face[None], clip.motion[None])
            errors = {
                "jaw (rad, absolute)": float(losses["jaw"]),
                "expression (squared)": float(losses["expression"]),
            }
            if points is not None:
                errors |= _face_points(face, clip, points)
            for name, value in errors.items():
                found.setdefault(name, []).append(value)
    return {name: float(np.mean(values)) for name, values in found.items()}


def _face_points(face: Tensor, clip: show.ShowClip, points: Points) -> dict[str, float]:
    real, drawn = (
        points(assemble(one, one.new_zeros(len(one), len(UPPER))), clip.betas)
        for one in (clip.motion[:, torch.from_numpy(FACE)], face)
    )
    rows = np.r_[np.arange(len(real[0]))[metric.JAW_AND_EYES], np.arange(len(real[0]))[metric.FACE_LANDMARKS]]
    errors = {f"L2 of {name} (m)": value for name, value in metric.face_joint_errors(real, drawn).items()}
    return errors | {"LVD (m a frame)": metric.velocity_difference(real[:, rows], drawn[:, rows])}


@torch.no_grad()
def _code_numbers(
    model: ts.TalkShow, groups: Sequence[Sequence[show.ShowClip]], device: torch.device
) -> dict[str, float]:
    """Codes in use on the test clips, and their surprise given sound and speaker."""
    surprise, seen = [], []
    for group in groups:
        features, speakers = _heard(group, device)
        codes = _encoded(model, group, device)
        surprise.append(ts.code_nll(model.prior(codes, features, speakers), codes).flatten(0, 1).cpu())
        seen.append(codes.flatten(0, 1).cpu())
    rows, codes = torch.cat(surprise), torch.cat(seen)
    size = model.body.config.quantizer.codes
    return {
        f"{what} of {part}": value
        for column, part in enumerate(PARTS)
        for what, value in (
            ("codes in use (perplexity)", perplexity(codes[:, column], size)),
            ("surprise (nat a code)", float(rows[:, column].mean())),
        )
    }


def summary(report: dict[str, Any]) -> str:
    """A few lines of `evaluate`'s numbers."""
    lines = [f"{report['clips']} test clips, joints of the {report['joints']}"]
    for name, row in report["methods"].items():
        error, lvd = (
            row["L2 (m, summed over joints)"]["value"],
            row["LVD (m a frame, summed over body joints)"]["value"],
        )
        lines.append(f"{name:<20} FGD {row['FGD (squared features)']:.4g}  L2 {error:.3f} m  LVD {lvd:.4f} m a frame")
    return "\n".join(lines)
