"""Faces for recognition experiments at small scale: pictures of many people, seen through a fixed linear front end.

The front end is learned on people who appear in no experiment. It stands in for the first layers of a large network, so that what is
trained in seconds is what the papers are about: the embedding and the head.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from scipy import linalg, ndimage
from torch import Tensor

from paper_utils.data.samples import LabelledImages
from paper_utils.world.people import Population
from paper_utils.world.portraits import ImageNuisance, portraits

# Half the default turning of the head: detectors align faces before they are recognised. Choice of ours.
NUISANCE = ImageNuisance(pose=0.5, light=1.0, expression=0.5, occlusion=0.0, noise=1.0)
FRONT_END_PEOPLE = 60
SIZE = 32
# At quality 0: a Gaussian blur of one pixel, 30 % less contrast, and five times the noise of a clean picture. Choices of ours: they cost a
# network about one point of EER, so that people stay recognisable.
BLUR_PX, CONTRAST_LOST, NOISE_SD = 1.0, 0.3, 0.1


def main_directions(
    images: Float[Tensor, "n channel height width"], dimensions: int
) -> tuple[Float[np.ndarray, " pixels"], Float[np.ndarray, "pixels dimensions"]]:
    """Mean picture and the directions of largest variance, scaled so that each has variance one.

    Raises
    ------
    ValueError
        If there are not more pictures than directions.
    """
    if len(images) <= dimensions:
        raise ValueError(f"main_directions: {dimensions} directions need more than {len(images)} pictures")
    pixels = images.flatten(1).double().numpy()
    mean = pixels.mean(0)
    _, spread, directions = linalg.svd(pixels - mean, full_matrices=False)
    return mean, directions[:dimensions].T / (spread[:dimensions] / np.sqrt(len(pixels)))


def through_front_end(faces: LabelledImages, others: LabelledImages, dimensions: int) -> LabelledImages:
    """What a linear front end, learned on pictures of other people, sees of faces: images ``(n, 1, 1, dimensions)``.

    With few pictures of other people there are as many dimensions as these allow, one fewer than pictures.
    """
    mean, directions = main_directions(others.images, min(dimensions, len(others) - 1))
    seen = (faces.images.flatten(1).double().numpy() - mean) @ directions
    features = torch.from_numpy(seen).float().view(len(faces), 1, 1, -1)
    return LabelledImages(features, faces.identities, f"{faces.name}, front end", faces.covariates)


def degraded(
    images: Float[Tensor, "n channel height width"], quality: Float[Tensor, " pictures"], *, seed: int
) -> Float[Tensor, "n channel height width"]:
    r"""Pictures as a poorer camera takes them: blurred, then paler, then noisy, each by its own quality.

    .. math:: x_1 = x + (1-q)(g * x - x), \qquad x_2 = x_1 + 0.3\,(1-q)(\bar x_1 - x_1), \qquad x_3 = x_2 + 0.1\,(1-q)\,\epsilon

    with :math:`g` a Gaussian of one pixel, :math:`\bar x_1` the picture's mean and :math:`\epsilon` white noise of standard deviation 1.

    Parameters
    ----------
    images
        In [-1, 1].
    quality
        :math:`q` of each picture: 1 leaves it bit for bit as it is, 0 takes all that is taken.
    seed
        Of the noise; it is drawn for every picture alike, whatever the quality.

    Raises
    ------
    ValueError
        If there is not one quality a picture, or one leaves [0, 1].
    """
    if quality.shape != (len(images),) or not ((quality >= 0) & (quality <= 1)).all():
        raise ValueError(
            f"quality: expected {len(images)} values in [0, 1], one a picture, found shape {tuple(quality.shape)} "
            f"from {quality.min().item():.3g} to {quality.max().item():.3g}"
        )
    lost = (1 - quality).view(-1, 1, 1, 1)
    blurred = torch.from_numpy(ndimage.gaussian_filter(images.numpy(), (0, 0, BLUR_PX, BLUR_PX), mode="nearest"))
    pictures = torch.lerp(images, blurred, lost)
    pictures = torch.lerp(pictures, pictures.mean((1, 2, 3), keepdim=True), CONTRAST_LOST * lost)
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))
    return (pictures + NOISE_SD * lost * noise).clamp(-1, 1)


def recognition_faces(
    people: int,
    per_person: int,
    *,
    seed: int = 0,
    dimensions: int = 128,
    nuisance: ImageNuisance = NUISANCE,
    quality: Float[Tensor, " pictures"] | None = None,
) -> tuple[LabelledImages, LabelledImages]:
    """Pictures of people for an open-set experiment, as seen by the front end, and as they are.

    Parameters
    ----------
    people, per_person
        How many people, and pictures of each.
    seed
        Of the population and the pictures.
    dimensions
        Width of what the front end sees.
    nuisance
        Strength of pose, light, expression, occlusion and noise.
    quality
        Planted quality of each picture, person by person, see `degraded`. The faces are the same ones, rendered once for all
        qualities; the front end is always learned on clean pictures. ``None``: all are clean.

    Returns
    -------
    tuple
        Features ``(n, 1, 1, dimensions)`` and pictures ``(n, 3, 32, 32)`` of the same faces in the same order.
    """
    population = Population(seed=seed, size=people + FRONT_END_PEOPLE)
    others = portraits(
        population,
        range(people, people + FRONT_END_PEOPLE),
        per_person,
        size=SIZE,
        nuisance=nuisance,
        seed=seed,
        full=False,
    )
    faces = portraits(population, range(people), per_person, size=SIZE, nuisance=nuisance, seed=seed, full=False)
    if quality is not None:
        name = f"{faces.name} of planted quality"
        faces = LabelledImages(degraded(faces.images, quality, seed=seed), faces.identities, name, faces.covariates)
    return through_front_end(faces, others, dimensions), faces
