"""Faces for recognition experiments at small scale: pictures of many people, seen through a fixed linear front end.

The front end is learned on people who appear in no experiment. It stands in for the first layers of a large network, so that what is
trained in seconds is what the papers are about: the embedding and the head.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from scipy import linalg
from torch import Tensor

from paper_utils.data.samples import LabelledImages
from paper_utils.world.people import Population
from paper_utils.world.portraits import ImageNuisance, portraits

# Half the default turning of the head: detectors align faces before they are recognised. Choice of ours.
NUISANCE = ImageNuisance(pose=0.5, light=1.0, expression=0.5, occlusion=0.0, noise=1.0)
FRONT_END_PEOPLE = 60
SIZE = 32


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


def recognition_faces(
    people: int,
    per_person: int,
    *,
    seed: int = 0,
    dimensions: int = 128,
    nuisance: ImageNuisance = NUISANCE,
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
    mean, directions = main_directions(others.images, min(dimensions, len(others) - 1))
    faces = portraits(population, range(people), per_person, size=SIZE, nuisance=nuisance, seed=seed, full=False)
    seen = (faces.images.flatten(1).double().numpy() - mean) @ directions
    features = torch.from_numpy(seen).float().view(len(faces), 1, 1, -1)
    return LabelledImages(features, faces.identities, f"{faces.name}, front end", faces.covariates), faces
