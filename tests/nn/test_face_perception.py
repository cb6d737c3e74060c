"""Both kinds of perception answer the same two questions, the drawn one with gradients through the picture."""

import pytest
import torch

from paper_utils.nn.emotion_video import SequenceEmotionClassifier
from paper_utils.nn.face_perception import FixedView, MotionPerception, Perception, RenderedPerception, mouth_motion
from paper_utils.nn.motion_readers import LipReader, MotionEmotion
from paper_utils.nn.visual_speech import LipReadingTrunk
from paper_utils.world.face import head

MOUTH = torch.tensor([1, 3])


def moving(rows=2, frames=4, vertices=5):
    return torch.randn(rows, frames, 3 * vertices, generator=torch.Generator().manual_seed(0))


def test_the_lip_reader_sees_the_mouth_alone():
    reader = LipReader(6, 3, seed=0)
    perception = MotionPerception(reader, None, MOUTH)
    assert isinstance(perception, Perception)
    elsewhere = moving()
    elsewhere[..., :3] += 1  # vertex 0
    mouth = moving()
    mouth[..., 3:6] += 1  # vertex 1
    torch.testing.assert_close(perception.lips(elsewhere), perception.lips(moving()))
    assert not torch.allclose(perception.lips(mouth), perception.lips(moving()))
    assert mouth_motion(moving(), MOUTH).shape == (2, 4, 6)


def test_emotion_is_a_vector_a_clip_or_a_frame():
    perception = MotionPerception(None, MotionEmotion(15, seed=0), MOUTH, MotionEmotion(15, static=True, seed=1))
    assert perception.emotion(moving()).shape == (2, 32)
    assert perception.emotion(moving(), static=True).shape == (2, 4, 32)


def test_networks_are_frozen_and_missing_ones_are_named():
    reader = LipReader(6, 3, seed=0)
    perception = MotionPerception(reader, None, MOUTH)
    assert not any(p.requires_grad for p in reader.parameters())
    with pytest.raises(ValueError, match="asks for clip_emotion, which is None"):
        perception.emotion(moving())
    with pytest.raises(ValueError, match="asks for frame_emotion"):
        perception.emotion(moving(), static=True)


def test_the_fixed_view_is_the_published_camera():
    view = FixedView()
    camera = view.camera(1, torch.zeros(1))
    # The published camera: scale 10 (x + shift) in halves of the picture, y down, for metres.
    points = torch.tensor([[[0.0, 0.0, 0.0], [50.0, -30.0, 10.0]]])
    expected = 10 * (points[0, :, :2] / 1000 + torch.tensor([0.0019, 0.030])) * torch.tensor([1.0, -1.0])
    torch.testing.assert_close(camera.project(points)[0, :, :2] / 112 - 1, expected, rtol=0, atol=1e-5)
    turned = view.turned(points)
    torch.testing.assert_close(turned.norm(dim=-1), points.norm(dim=-1))
    assert not torch.allclose(turned, points)


class Mean(torch.nn.Module):
    """A frame network of three features: the mean colour of each third of the picture."""

    def forward(self, pictures):
        return torch.stack([part.mean((1, 2, 3)) for part in pictures.chunk(3, dim=2)], dim=1)


@pytest.fixture(scope="module")
def drawn():
    model = head(2).morphable()
    colours = torch.rand(len(model.mean), 3, generator=torch.Generator().manual_seed(0))
    light = torch.zeros(9)
    light[0] = 1.0
    classifier = SequenceEmotionClassifier(3, dim=8, heads=2, seed=0)
    view = FixedView(size=96, scale=10.0)
    return RenderedPerception(model, LipReadingTrunk(seed=0), Mean(), classifier, colours, light, view)


def test_the_drawn_face_has_landmarks_on_it(drawn):
    offsets, person = torch.zeros(1, 2, drawn.model.mean.numel()), torch.zeros(1, 3)
    pictures, points = drawn.frames(offsets, person)
    assert pictures.shape == (1, 2, 3, 96, 96)
    assert points.shape == (1, 2, 68, 2)
    assert 0.1 < (pictures[0, 0].sum(0) > 0).float().mean() < 0.95
    place = ((points[0, 0, 30] + 1) * 48).round().long()  # tip of the nose
    assert pictures[0, 0, :, place[1], place[0]].sum() > 0
    assert isinstance(drawn, Perception)


def test_gradients_reach_the_offsets_through_the_picture(drawn):
    offsets = torch.zeros(1, 2, drawn.model.mean.numel(), requires_grad=True)
    person = torch.zeros(1, 3)
    lips, emotion = drawn.lips(offsets, person), drawn.emotion(offsets, person)
    assert lips.shape == (1, 2, 512)
    assert emotion.shape == (1, 8)
    assert drawn.emotion(offsets, person, static=True).shape == (1, 2, 3)
    (lips.square().sum() + emotion.square().sum()).backward()
    assert torch.isfinite(offsets.grad).all()
    assert offsets.grad.abs().sum() > 0
