"""Pictures as identity documents want them: nearly frontal, evenly lit, mouth closed, before a plain wall, smooth at outlines.

What differs between pictures of a person is small, so a generator of a few thousand steps can spend itself on what differs between people.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from paper_utils.data.samples import LabelledImages
from paper_utils.world.cache import cached
from paper_utils.world.people import Population
from paper_utils.world.portraits import ImageNuisance, photograph, scenes

# All numbers are choices of ours: a sixth of the default turning and lighting, no expression, little noise, a grey wall.
NUISANCE = ImageNuisance(pose=0.15, light=0.15, expression=0.0, occlusion=0.0, noise=0.2)
WALL = 0.6
SUPERSAMPLE = 2
GAMMA = 2.2  # about what cameras store and screens show


def encoded(light: Tensor) -> Tensor:
    r"""Linear light as a camera stores it, both in [-1, 1]: :math:`2\,((x + 1)/2)^{1/2.2} - 1`."""
    return ((light + 1) / 2).clamp(0, 1) ** (1 / GAMMA) * 2 - 1


def passport_pictures(
    population: Population,
    identities: range,
    per_person: int,
    *,
    size: int = 32,
    nuisance: ImageNuisance = NUISANCE,
    seed: int = 0,
) -> LabelledImages:
    """Pictures of heads with hair, from disk if they were taken before.

    Parameters
    ----------
    population, identities
        Who.
    per_person
        Pictures of each, in a row.
    size
        Pixels a side.
    nuisance
        Strength of each nuisance.
    seed
        Of the scenes.

    Returns
    -------
    LabelledImages
        As a camera stores them (not linear light), in [-1, 1], with the covariates of the person on each.
    """
    people = population.people(identities)

    def take() -> dict[str, Tensor]:
        setting = scenes(len(people), per_person, np.random.default_rng([seed, 17]), nuisance)
        setting = dataclasses.replace(setting, background=torch.full_like(setting.background, WALL))
        pictures = avg_pool2d(photograph(people, setting, SUPERSAMPLE * size), SUPERSAMPLE)
        return {"images": (encoded(pictures) * 127.5 + 127.5).round().to(torch.uint8)}

    parameters = {
        "population": dataclasses.asdict(population),
        "identities": [identities.start, identities.stop, identities.step],
        "per_person": per_person,
        "size": size,
        "nuisance": dataclasses.asdict(nuisance),
        "seed": seed,
    }
    images = cached(__name__, parameters, take)["images"].float().div_(127.5).sub_(1)
    who = np.arange(len(people)).repeat(per_person)
    covariates = {name: torch.from_numpy(values[who]) for name, values in people.covariates().items()}
    return LabelledImages(images, torch.from_numpy(people.identity[who]), "passport pictures", covariates)
