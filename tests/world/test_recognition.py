"""Faces for recognition: the front end is learned elsewhere, whitens, and forgets nothing about who is who; quality is planted."""

import numpy as np
import pytest
import torch

from paper_utils.world import recognition


def test_directions_whiten_the_pictures_they_were_found_on():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(200, 1, 4, 4, generator=generator) * torch.linspace(0.1, 2, 16).view(1, 1, 4, 4)
    mean, directions = recognition.main_directions(images, 5)
    seen = (images.flatten(1).double().numpy() - mean) @ directions
    np.testing.assert_allclose(seen.T @ seen / len(seen), np.eye(5), atol=1e-8)


def test_more_directions_than_pictures_are_refused():
    with pytest.raises(ValueError, match="8 directions need more than 8 pictures"):
        recognition.main_directions(torch.randn(8, 1, 4, 4), 8)


def test_features_and_pictures_show_the_same_people_in_the_same_order(monkeypatch):
    monkeypatch.setattr(recognition, "FRONT_END_PEOPLE", 5)
    features, pictures = recognition.recognition_faces(4, 3, seed=1, dimensions=10)
    assert features.images.shape == (12, 1, 1, 10)
    assert pictures.images.shape == (12, 3, 32, 32)
    assert torch.equal(features.identities, pictures.identities)
    assert features.identities.unique().tolist() == [0, 1, 2, 3]
    assert set(features.covariates) == {"sex", "age", "nationality"}


def test_quality_one_leaves_pictures_and_features_bit_for_bit_and_renders_nothing_anew(monkeypatch):
    monkeypatch.setattr(recognition, "FRONT_END_PEOPLE", 5)
    features, pictures = recognition.recognition_faces(4, 3, dimensions=10)
    taken = []
    monkeypatch.setattr("paper_utils.world.portraits.photograph", lambda *_, **__: taken.append(1))
    clean = recognition.recognition_faces(4, 3, dimensions=10, quality=torch.ones(12))
    assert torch.equal(clean[0].images, features.images)
    assert torch.equal(clean[1].images, pictures.images)
    poor_features, poor = recognition.recognition_faces(4, 3, dimensions=10, quality=torch.tensor([1.0, 0.0] * 6))
    same = (poor.images == pictures.images).flatten(1).all(1)
    assert same.tolist() == [True, False] * 6
    assert ((poor_features.images == features.images).flatten(1).all(1) == same).all()
    assert torch.equal(poor.identities, pictures.identities)
    assert not taken


def test_poor_quality_blurs_pales_and_adds_noise_by_the_planted_amounts(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    grey = torch.full((3, 3, 64, 64), 0.2)
    noisy = recognition.degraded(grey, torch.tensor([1.0, 0.5, 0.0]), seed=1)
    assert [picture.std().item() for picture in noisy] == pytest.approx([0.0, 0.05, 0.1], abs=0.002)
    assert torch.equal(recognition.degraded(grey, torch.zeros(3), seed=1)[2], noisy[2])
    assert not torch.equal(recognition.degraded(grey, torch.zeros(3), seed=2)[2], noisy[2])

    monkeypatch.setattr(recognition, "NOISE_SD", 0.0)
    steps = torch.sign(torch.randn(1, 1, 4, 4, generator=generator)).repeat_interleave(16, 2).repeat_interleave(16, 3)
    pale = recognition.degraded(0.5 * steps.expand(2, 3, -1, -1), torch.tensor([1.0, 0.0]), seed=0)
    middle = pale[:, 0, 8::16, 8::16]  # far from all edges, where a blur of one pixel does nothing
    torch.testing.assert_close(middle[1] - middle[1].mean(), 0.7 * (middle[0] - middle[0].mean()), atol=1e-4, rtol=0)

    monkeypatch.setattr(recognition, "CONTRAST_LOST", 0.0)
    dot = torch.full((1, 1, 21, 21), -0.5)
    dot[0, 0, 10, 10] = 0.5
    blurred = recognition.degraded(dot, torch.zeros(1), seed=0)[0, 0] + 0.5
    place = torch.arange(21.0) - 10
    assert blurred.sum().item() == pytest.approx(1.0, abs=1e-4)
    assert (blurred.sum(0) * place**2).sum().item() == pytest.approx(1.0, abs=0.02), "variance of a one-pixel Gaussian"


@pytest.mark.parametrize("quality", [torch.ones(3), torch.tensor([0.5, 1.1]), torch.tensor([0.5, float("nan")])])
def test_a_quality_that_does_not_fit_is_refused(quality):
    with pytest.raises(ValueError, match=r"quality: expected 2 values in \[0, 1\], one a picture"):
        recognition.degraded(torch.zeros(2, 3, 8, 8), quality, seed=0)
