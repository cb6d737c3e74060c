"""Pictures of drawings: the camera does what its numbers say, and nothing else."""

from __future__ import annotations

import pytest
import torch

from paper_utils.data import digits
from paper_utils.data.photographs import Camera, photograph
from paper_utils.data.samples import LabelledImages

STILL = Camera(rotation_deg=0, shift_px=0, zoom=0, contrast=0, noise=0, blur=0)


def few(count: int = 5) -> LabelledImages:
    data = digits.load()
    return LabelledImages(data.images[:count], data.identities[:count], "few")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_still_camera_copies_and_numbers_the_drawings():
    pictures, quality = photograph(few(), 3, generator=generator(), camera=STILL)
    torch.testing.assert_close(pictures.images, few().images.repeat_interleave(3, 0), atol=1e-6, rtol=0)
    assert pictures.identities.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]
    assert quality.shape == (15,)


def test_quality_sets_the_noise_and_the_blur():
    noisy = Camera(0, 0, 0, 0, noise=0.4, blur=0.0)
    level = torch.tensor([1.0, 0.5, 0.0]).repeat(200)
    drawings = LabelledImages(torch.zeros(200, 1, 8, 8), torch.arange(200), "grey")
    pictures, _ = photograph(drawings, 3, generator=generator(), camera=noisy, quality=level)
    spread = [pictures.images[level == q].std().item() for q in (1.0, 0.5, 0.0)]
    assert spread == pytest.approx([0.0, 0.2, 0.4], abs=0.01)
    blurry = Camera(0, 0, 0, 0, noise=0.0, blur=1.0)
    dot = torch.full((1, 1, 5, 5), -1.0)
    dot[0, 0, 2, 2] = 1.0
    pictures, _ = photograph(
        LabelledImages(dot, torch.tensor([0]), "dot"), 1, generator=generator(), camera=blurry, quality=torch.zeros(1)
    )
    assert pictures.images[0, 0, 2, 1:4].tolist() == pytest.approx([-0.75, -0.5, -0.75])


def test_a_shift_moves_by_pixels():
    dot = torch.full((400, 1, 9, 9), -1.0)
    dot[:, 0, 4, 4] = 1.0
    moving = Camera(0, shift_px=2.0, zoom=0, contrast=0, noise=0, blur=0)
    pictures, _ = photograph(LabelledImages(dot, torch.arange(400), "dots"), 1, generator=generator(), camera=moving)
    mass = (pictures.images + 1).squeeze(1)
    place = (mass.sum(1) * torch.arange(9)).sum(1) / mass.sum((1, 2)) - 4
    assert 1.8 < place.abs().max() <= 2.01
    assert abs(place.mean()) < 0.2


def test_the_same_generator_gives_the_same_pictures():
    first, second = (photograph(few(), 2, generator=generator(7)) for _ in range(2))
    assert torch.equal(first[0].images, second[0].images)
    assert torch.equal(first[1], second[1])


def test_faults_are_named():
    with pytest.raises(ValueError, match="at least one picture"):
        photograph(few(), 0, generator=generator())
    with pytest.raises(ValueError, match=r"expected 10 values in \[0, 1\]"):
        photograph(few(), 2, generator=generator(), quality=torch.ones(3))
    with pytest.raises(ValueError, match=r"expected 10 values in \[0, 1\]"):
        photograph(few(), 2, generator=generator(), quality=torch.full((10,), 1.5))
