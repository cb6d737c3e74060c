"""Faces for recognition: the front end is learned elsewhere, whitens, and forgets nothing about who is who."""

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
