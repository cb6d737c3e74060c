"""Clips of faces whose motion is a few numbers a frame, with sound and labels; and the faces that such numbers move (paper 09).

Expression and jaw stand for vertices. Offsets of vertices are in **metres** here, because the published weights of the paper's losses
presume it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from paper_utils.data.talking_faces import EMOTIONS, INTENSITIES
from paper_utils.mesh.flame_files import METRE
from paper_utils.mesh.morphable import MorphableModel
from paper_utils.nn import whole_batch
from paper_utils.world.face import Head


def check_labels(
    emotion: Int[Tensor, "*rows"], intensity: Int[Tensor, "*rows"], identity: Int[Tensor, "*rows"], identities: int
) -> None:
    """Refuse labels that do not exist.

    Parameters
    ----------
    emotion, intensity, identity
        Index into `EMOTIONS`, level 1 to 3, number of a person.
    identities
        How many people there are.

    Raises
    ------
    ValueError
        Names the label, how many are wrong, the first of them, and the valid ones.
    """
    for name, values, first, count, valid in (
        ("emotion", emotion, 0, len(EMOTIONS), ", ".join(f"{i} {word}" for i, word in enumerate(EMOTIONS))),
        ("intensity", intensity, 1, len(INTENSITIES), ", ".join(map(str, INTENSITIES))),
        ("identity", identity, 0, identities, f"0 to {identities - 1}"),
    ):
        flat = values.flatten()
        wrong = torch.nonzero((flat < first) | (flat >= first + count)).flatten()
        if len(wrong):
            raise ValueError(
                f"{name}: {len(wrong)} of {len(flat)} labels are not valid, the first is {int(flat[wrong[0]])} at {int(wrong[0])}; valid: {valid}. "
                "A negative one stands for a clip without label: leave such clips out"
            )


# -------------------------------------------------------------------------------------------------- from motion to vertices


@runtime_checkable
class Face(Protocol):
    """Turns motion into offsets of vertices from the person's face at rest, in metres."""

    def offsets(
        self, motion: Float[Tensor, "clips time motion"], person: Float[Tensor, "clips ..."]
    ) -> Float[Tensor, "clips time coordinates"]:
        """Offsets of every frame; `person` is what describes each clip's face at rest."""


@dataclass(frozen=True)
class HeadFace:
    """The procedural head, or some vertices of it: motion is its 16 expression weights and the jaw's angle in radians.

    Parameters
    ----------
    head
        See `HeadFace.of`.
    """

    head: Head

    @classmethod
    def of(cls, head: Head, vertices: Int[Tensor, " kept"] | None = None) -> HeadFace:
        """The face of a head, or of chosen vertices alone, which can be posed but have no triangles, landmarks or names."""
        if vertices is None:
            return cls(head)
        values = {f.name: getattr(head, f.name) for f in dataclasses.fields(head)}
        count = len(head.vertices)
        kept = {name: v[vertices] for name, v in values.items() if isinstance(v, Tensor) and len(v) == count}
        kept |= {"faces": head.faces[:0], "face_part": head.face_part[:0], "handles": {}}
        kept["regions"] = {name: region[vertices] for name, region in head.regions.items()}
        return cls(dataclasses.replace(head, **kept))

    def to(self, device: torch.device | str) -> HeadFace:
        """The same on another device; itself where it is there already."""
        return self if self.head.vertices.device == torch.device(device) else HeadFace(self.head.to(device))

    def offsets(
        self, motion: Float[Tensor, "clips time motion"], person: Float[Tensor, "clips vertices 3"]
    ) -> Float[Tensor, "clips time coordinates"]:
        """Offsets in metres; `person` is the face at rest in mm."""
        clips, frames = motion.shape[:2]
        rows, neutral = motion.flatten(0, 1), person.repeat_interleave(frames, dim=0)
        moved = self.head.pose(neutral, rows[:, :-1], rows[:, -1]) - neutral
        return (moved / METRE).flatten(1).unflatten(0, (clips, frames))


@dataclass(frozen=True)
class FlameFace:
    """FLAME: motion is expression and the axis-angle of the jaw; head, neck and eyes stay at rest.

    Parameters
    ----------
    model
        With joints; in mm, as `paper_utils.mesh.flame_files.read_flame` gives it.

    Raises
    ------
    ValueError
        If the model has no jaw.
    """

    model: MorphableModel

    def __post_init__(self) -> None:
        if self.model.skinning is None or "jaw" not in self.model.skinning.joint_names:
            raise ValueError(
                f"{self.model.name}: expected a model with a joint named jaw, such as FLAME read by read_flame"
            )

    def offsets(
        self, motion: Float[Tensor, "clips time motion"], person: Float[Tensor, "clips shape"]
    ) -> Float[Tensor, "clips time coordinates"]:
        """Offsets in metres from the person with a closed jaw and no expression; `person` is the shape coefficients."""
        clips, frames = motion.shape[:2]
        rows, joints = motion.flatten(0, 1), self.model.skinning.joint_names
        pose = torch.stack([rows[:, -3:] if j == "jaw" else torch.zeros_like(rows[:, -3:]) for j in joints], dim=1)
        moved = self.model.vertices(person.repeat_interleave(frames, dim=0), rows[:, :-3], pose)
        # In the zero pose every rotation is exactly the identity, so the neutral face needs no joints.
        neutral = self.model.vertices(person).repeat_interleave(frames, dim=0)
        return ((moved - neutral) / METRE).flatten(1).unflatten(0, (clips, frames))


# -------------------------------------------------------------------------------------------------------- clips and batches


@dataclass(frozen=True)
class Batch:
    """Windows of clips, all of one length.

    Parameters
    ----------
    sound
        What the speech features read: samples, or log-mel frames.
    motion
        Pseudo ground truth.
    person
        Face at rest, in the form that the `Face` reads.
    emotion, intensity, identity
        Labels.
    valid
        Frames in which the face was found.
    emotion_features
        Emotion features of the real videos, if they are not to be taken from the pseudo ground truth: a vector a clip, or a frame for the
        static loss.
    """

    sound: Float[Tensor, "clips ..."]
    motion: Float[Tensor, "clips time motion"]
    person: Float[Tensor, "clips ..."]
    emotion: Int[Tensor, " clips"]
    intensity: Int[Tensor, " clips"]
    identity: Int[Tensor, " clips"]
    valid: Bool[Tensor, "clips time"]
    emotion_features: Float[Tensor, "clips ..."] | None = None

    def to(self, device: torch.device | str) -> Batch:
        """The batch on a device."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return Batch(**{name: None if value is None else value.to(device) for name, value in values.items()})


@runtime_checkable
class ClipSource(Protocol):
    """Where batches come from: `EmoteClips` in memory, or files that are read when asked for."""

    fps: float

    def __len__(self) -> int:
        """Number of clips."""

    def batch(self, rows: Int[Tensor, " rows"], frames: int, generator: torch.Generator) -> Batch:
        """A window of `frames` frames of each chosen clip."""


@dataclass(frozen=True)
class EmoteClips:
    """Clips of one length in memory; a `ClipSource`.

    Parameters
    ----------
    sound
        Samples or log-mel frames, a whole number of them for each frame of video.
    motion, person, emotion, intensity, identity, valid
        As in `Batch`.
    fps
        Frames a second of the motion.
    name
        For messages.

    Raises
    ------
    ValueError
        If lengths disagree, labels are missing or unknown, or motion is not finite.
    """

    sound: Float[Tensor, "clips steps ..."]
    motion: Float[Tensor, "clips time motion"]
    person: Float[Tensor, "clips ..."]
    emotion: Int[Tensor, " clips"]
    intensity: Int[Tensor, " clips"]
    identity: Int[Tensor, " clips"]
    valid: Bool[Tensor, "clips time"]
    fps: float = 25.0
    name: str = "clips"

    def __post_init__(self) -> None:
        count, frames = self.motion.shape[:2]
        lengths = {name: len(value) for name, value in self._tensors().items()}
        if wrong := {name: length for name, length in lengths.items() if length != count}:
            raise ValueError(f"{self.name}: expected {count} clips everywhere, found {wrong}")
        if not frames or self.sound.shape[1] % frames or self.valid.shape[1] != frames:
            raise ValueError(
                f"{self.name}: {frames} frames of motion need as many of `valid` and a whole multiple of sound steps, found "
                f"{self.valid.shape[1]} and {self.sound.shape[1]}"
            )
        if not torch.isfinite(self.motion).all():
            raise ValueError(f"{self.name}: motion holds NaN or infinite values")
        people = int(self.identity.max()) + 1 if count else 0
        try:
            check_labels(self.emotion, self.intensity, self.identity, people)
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from error

    def _tensors(self) -> dict[str, Tensor]:
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    def __len__(self) -> int:
        return len(self.motion)

    def of(self, rows: Int[Tensor, " rows"] | Bool[Tensor, " clips"]) -> EmoteClips:
        """Some of the clips."""
        return dataclasses.replace(self, **{name: value[rows] for name, value in self._tensors().items()})

    def batch(self, rows: Int[Tensor, " rows"], frames: int, generator: torch.Generator) -> Batch:
        """A window of each chosen clip, whose start is uniform; its sound begins and ends with it.

        Raises
        ------
        ValueError
            If the clips are shorter.
        """
        length = self.motion.shape[1]
        if frames > length:
            raise ValueError(f"{self.name}: clips of {length} frames are shorter than a window of {frames}")
        first = whole_batch.own(torch.randint(length - frames + 1, (whole_batch.count(rows), 1), generator=generator))
        steps = self.sound.shape[1] // length
        inside, sounding = first + torch.arange(frames), first * steps + torch.arange(frames * steps)
        at = rows[:, None]
        return Batch(
            self.sound[at, sounding],
            self.motion[at, inside],
            self.person[rows],
            self.emotion[rows],
            self.intensity[rows],
            self.identity[rows],
            self.valid[at, inside],
        )
