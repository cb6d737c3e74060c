"""Voices and faces of the same people, and the control in which voices are dealt among people anew."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from paper_utils.data.samples import LabelledImages
from paper_utils.data.speech import Voices
from paper_utils.world.people import Population
from paper_utils.world.portraits import ImageNuisance, portraits
from paper_utils.world.recognition import NUISANCE
from paper_utils.world.recordings import voices


def voices_and_faces(
    population: Population,
    identities: range,
    *,
    recordings: int,
    pictures: int,
    seconds: float = 2.0,
    mel: int = 40,
    severity: float = 1.0,
    size: int = 32,
    nuisance: ImageNuisance = NUISANCE,
    seed: int = 0,
) -> tuple[Voices, LabelledImages]:
    """Recordings and pictures of people, from disk if they were made before; a recording and a picture have nothing but the person in common.

    Parameters
    ----------
    population
        ``voice_face_link`` and ``shared`` say what voices and faces have to do with each other.
    identities
        Who.
    recordings, pictures
        Of each person.
    seconds, mel, severity
        Length of the recordings, mel bands, and how much sessions differ.
    size, nuisance
        Pixels a side, and how much pictures differ. Faces fill the picture.
    seed
        Of sessions and scenes.

    Returns
    -------
    tuple
        Both have the covariates ``sex``, ``age`` and ``nationality`` of their items; that of a voice is its accent, the one thing that is
        heard of a nationality. One person in ten has an accent from elsewhere.
    """
    heard = voices(
        population, identities, recordings, seconds=seconds, mel=mel, severity=severity, sections=22, seed=seed
    )
    covariates = heard.covariates | {"nationality": heard.covariates["accent"]}
    seen = portraits(population, identities, pictures, size=size, nuisance=nuisance, seed=seed, full=False)
    return dataclasses.replace(heard, covariates=covariates), seen


def deal(voices: Voices, rng: np.random.Generator, *, within: Sequence[str] = ()) -> Voices:
    """The same recordings, given to other people: everybody gets the voice of somebody who agrees in the covariates `within`.

    With ``("sex",)`` voices and faces share their sex and nothing else, with ``()`` nothing at all: the law of
    ``Population.sex_only()`` and of ``voice_face_link=0``, without one new recording, and for real recordings as well. The covariates
    go with the voice.

    Parameters
    ----------
    voices
        Covariates must be the same in all recordings of a person.
    rng
        Source of chance. Everybody's voice is another's, unless nobody else agrees.

    Raises
    ------
    ValueError
        If a covariate is missing, or differs between recordings of one person.
    """
    names, person = voices.identities.unique(return_inverse=True)
    cell = np.zeros(len(names), dtype=np.int64)
    for name in within:
        values = person_values(voices.covariates, voices.identities, name, voices.name)
        cell = np.unique(np.stack([cell, values]), axis=1, return_inverse=True)[1].reshape(-1)
    # People in random order, cell by cell; each hands his voice to the next one of his cell.
    order = np.lexsort((rng.random(len(names)), cell))
    starts = np.flatnonzero(np.r_[True, np.diff(cell[order]) > 0])
    receiver = np.roll(order, -1)
    receiver[np.r_[starts[1:], len(order)] - 1] = order[starts]
    new = torch.empty(len(names), dtype=torch.long)
    new[torch.from_numpy(order)] = torch.from_numpy(receiver)
    shared = f" but {', '.join(within)}" if within else ""
    return dataclasses.replace(
        voices, identities=names[new[person]], name=f"{voices.name}, sharing nothing{shared} with the faces"
    )


def person_values(
    covariates: dict[str, Tensor], identities: Int[Tensor, " items"], name: str, source: str
) -> Int[np.ndarray, " people"]:
    """Value of a covariate of each person, in the order of the sorted identities.

    Raises
    ------
    ValueError
        If there is no such covariate, or two items of a person differ in it.
    """
    if name not in covariates:
        raise ValueError(f"{source}: no covariate {name!r}; there are {', '.join(covariates) or 'none'}")
    names, person = identities.unique(return_inverse=True)
    values = covariates[name].long()
    low, high = (
        torch.zeros(len(names), dtype=torch.long).scatter_reduce(0, person, values, how, include_self=False)
        for how in ("amin", "amax")
    )
    if not torch.equal(low, high):
        odd = names[torch.nonzero(low != high)[0, 0]]
        raise ValueError(f"{source}: items of person {int(odd)} differ in {name}; it must be a property of the person")
    return low.numpy()
