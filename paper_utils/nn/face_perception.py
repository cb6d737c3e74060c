"""Frozen networks that look at a moving face, so that a loss can compare what they see in two of them.

In the synthetic world they read vertices; for real data they are the published networks, which look at drawn pictures. Both have the same
two methods. Offsets of vertices from the face at rest are in metres.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from paper_utils.mesh.cameras import ScaledOrthographic
from paper_utils.mesh.flame_files import METRE
from paper_utils.mesh.morphable import MorphableModel
from paper_utils.mesh.renderer import render
from paper_utils.mesh.skinning import rotation_matrices
from paper_utils.nn.emotion_video import SequenceEmotionClassifier
from paper_utils.nn.motion_readers import LipReader, MotionEmotion
from paper_utils.nn.visual_speech import LipReadingTrunk, grey, mouth_crop


@runtime_checkable
class Perception(Protocol):
    """Frozen networks that look at a moving face; losses compare what they see."""

    def lips(self, offsets: Float[Tensor, "rows time coordinates"], person: Float[Tensor, "rows ..."]) -> Tensor:
        """Lip-reading features, a vector a frame."""

    def emotion(
        self,
        offsets: Float[Tensor, "rows time coordinates"],
        person: Float[Tensor, "rows ..."],
        *,
        static: bool = False,
    ) -> Tensor:
        """Emotion features: a vector a clip, or a frame if static."""


@dataclass(frozen=True)
class MotionPerception:
    """Stand-ins that read vertices, for the synthetic world; the networks are trained by `train_reader` and frozen.

    Parameters
    ----------
    lip_reader, clip_emotion, frame_emotion
        The networks; what no loss asks for may be None.
    mouth
        Numbers of the vertices that the lip reader sees.
    """

    lip_reader: LipReader | None
    clip_emotion: MotionEmotion | None
    mouth: Int[Tensor, " mouth"]
    frame_emotion: MotionEmotion | None = None

    def __post_init__(self) -> None:
        for network in (self.lip_reader, self.clip_emotion, self.frame_emotion):
            if network is not None:
                network.eval().requires_grad_(False)

    def to(self, device: torch.device | str) -> MotionPerception:
        """Copies of the networks on another device; itself where they are there already."""
        if self.mouth.device == torch.device(device):
            return self
        networks = (self.lip_reader, self.clip_emotion, self.frame_emotion)
        lips, clip, frame = (network and copy.deepcopy(network).to(device) for network in networks)
        return MotionPerception(lips, clip, self.mouth.to(device), frame)

    def lips(
        self, offsets: Float[Tensor, "rows time coordinates"], person: Float[Tensor, "rows ..."] | None = None
    ) -> Float[Tensor, "rows time features"]:
        """Features of the moving mouth."""
        del person
        return self._asked(self.lip_reader, "lip_reader")(mouth_motion(offsets, self.mouth))

    def emotion(
        self,
        offsets: Float[Tensor, "rows time coordinates"],
        person: Float[Tensor, "rows ..."] | None = None,
        *,
        static: bool = False,
    ) -> Float[Tensor, "rows *time features"]:
        """Features of the whole face."""
        del person
        network = (self.frame_emotion, "frame_emotion") if static else (self.clip_emotion, "clip_emotion")
        return self._asked(*network)(offsets)

    @staticmethod
    def _asked(network: nn.Module | None, name: str) -> nn.Module:
        if network is None:
            raise ValueError(
                f"perception: a loss with a weight asks for {name}, which is None; train it or set the weight to 0"
            )
        return network


def mouth_motion(
    offsets: Float[Tensor, "rows time coordinates"], mouth: Int[Tensor, " mouth"]
) -> Float[Tensor, "rows time inputs"]:
    """The coordinates of the mouth's vertices: what a `LipReader` of the world reads."""
    return offsets.unflatten(-1, (-1, 3))[:, :, mouth.to(offsets.device)].flatten(2)


@dataclass(frozen=True)
class FixedView:
    """The one camera, head rotation and light under which EMOTE's faces are drawn; published code.

    Parameters
    ----------
    size
        Pixels a side.
    scale, shift
        Of the published orthographic camera: half picture sides per metre, and metres.
    rotation
        Axis-angle of the head, radians.
    """

    size: int = 224
    scale: float = 10.0
    shift: tuple[float, float] = (0.0019, 0.030)
    rotation: tuple[float, float, float] = (0.042, 0.058, 0.024)

    def camera(self, rows: int, like: Tensor) -> ScaledOrthographic:
        """The camera for a number of pictures, in pixels and millimetres."""
        half = self.size / 2
        place = (half + half * self.scale * self.shift[0], half - half * self.scale * self.shift[1])
        return ScaledOrthographic(
            like.new_zeros(rows, 3),
            like.new_full((rows,), half * self.scale / METRE),
            like.new_tensor(place).expand(rows, 2),
        )

    def turned(self, vertices: Float[Tensor, "rows vertices 3"]) -> Float[Tensor, "rows vertices 3"]:
        """Vertices of the turned head."""
        return vertices @ rotation_matrices(vertices.new_tensor(self.rotation)).T


@dataclass(frozen=True)
class RenderedPerception:
    """Published networks that look at drawn pictures of the face.

    A face is drawn with one colour a vertex, the mouth cut out for the lip reader, the whole picture given to the network of frames whose
    features the emotion network reads. The reference of the emotion loss is the real video, see `Batch.emotion_features`.

    Parameters
    ----------
    model
        FLAME with its 68 landmarks, mm.
    lip_reader, frame_network, classifier
        From `load_lip_reading_trunk`, `load_emotion_frame_network` and `load_emotion_classifier`, or untrained ones in tests.
    colours
        Reflectance of each vertex, 0 to 1.
    light
        Nine spherical harmonics, see `paper_utils.mesh.renderer.render`.
    view
        Camera and head.
    crop
        Pixels a side of the mouth.
    """

    model: MorphableModel
    lip_reader: LipReadingTrunk
    frame_network: nn.Module
    classifier: SequenceEmotionClassifier
    colours: Float[Tensor, "vertices 3"]
    light: Float[Tensor, " 9"]
    view: FixedView = field(default_factory=FixedView)
    crop: int = 96

    def __post_init__(self) -> None:
        for network in (self.lip_reader, self.frame_network, self.classifier):
            network.eval().requires_grad_(False)

    def frames(
        self, offsets: Float[Tensor, "rows time coordinates"], person: Float[Tensor, "rows shape"]
    ) -> tuple[Float[Tensor, "rows time 3 size size"], Float[Tensor, "rows time 68 2"]]:
        """Pictures, and landmarks with -1 and 1 at their borders."""
        rows, time = offsets.shape[:2]
        neutral = self.model.vertices(person).repeat_interleave(time, dim=0)
        vertices = self.view.turned(neutral + METRE * offsets.flatten(0, 1).unflatten(1, (-1, 3)))
        camera, size = self.view.camera(len(vertices), vertices), self.view.size
        pictures = render(
            vertices,
            self.model.faces,
            camera,
            (size, size),
            light=self.light.to(vertices).expand(len(vertices), 9),
            colours=self.colours.to(vertices).expand(len(vertices), -1, -1),
        ).images
        points = camera.project(self.model.landmark_points(vertices))[..., :2] / (size / 2) - 1
        return pictures.unflatten(0, (rows, time)), points.unflatten(0, (rows, time))

    def lips(
        self, offsets: Float[Tensor, "rows time coordinates"], person: Float[Tensor, "rows shape"]
    ) -> Float[Tensor, "rows time features"]:
        """Features of the drawn mouth."""
        pictures, points = self.frames(offsets, person)
        return self.lip_reader(mouth_crop(grey(pictures), points, size=self.crop))

    def emotion(
        self,
        offsets: Float[Tensor, "rows time coordinates"],
        person: Float[Tensor, "rows shape"],
        *,
        static: bool = False,
    ) -> Float[Tensor, "rows *time features"]:
        """Features of the drawn face: of each frame, or of the clip."""
        frames = self.frame_network(self.frames(offsets, person)[0].flatten(0, 1)).unflatten(0, offsets.shape[:2])
        return frames if static else self.classifier(frames)
