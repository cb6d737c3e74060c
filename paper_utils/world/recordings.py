"""Recordings of synthetic people: who says what through which channel, as log-mel frames with exact phones.

One number, the severity, says how much sessions differ (tilt, level, noise, pitch of the day); the switches of the tract stand beside it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from paper_utils.data.speech import Voices
from paper_utils.world.cache import cached
from paper_utils.world.people import People, Population
from paper_utils.world.phones import PHONES
from paper_utils.world.prosody import Prosody
from paper_utils.world.speech import Utterance, utterance, utterances
from paper_utils.world.voice import Channel, log_mel

HOP_MS = 10.0
PHONE_NAMES = tuple(PHONES)
BLOCK = 256  # recordings made at once


def speak(
    people: People,
    per_person: int,
    rng: np.random.Generator,
    *,
    seconds: float | None = 2.0,
    texts: Sequence[str] | None = None,
    source: str = "sentences",
) -> list[Utterance]:
    """What everybody says, `per_person` utterances in a row for each, at his own tempo and with his own accent.

    Parameters
    ----------
    people
        The speakers.
    per_person
        Utterances of each.
    rng
        Source of chance.
    seconds
        Length of each, or ``None`` for whole sentences; not used with `texts`.
    texts
        Everybody reads these, from the first on, again and again. Otherwise everybody says something else.
    source
        ``"sentences"`` or ``"words"`` (random ones), see `paper_utils.world.speech.utterances`.

    Raises
    ------
    ValueError
        If `per_person` is below one, or `texts` is empty.
    """
    if per_person < 1:
        raise ValueError(f"per_person: expected at least 1, found {per_person}")
    manners = [Prosody(tempo=float(tempo)) for tempo in people.speakers.tempo for _ in range(per_person)]
    accents = people.accent.repeat(per_person).tolist()
    if texts is None:
        return utterances(len(manners), rng=rng, source=source, seconds=seconds, prosody=manners, accent=accents)
    if not texts:
        raise ValueError("texts: expected at least one to read, found none; leave texts out for random sentences")
    read = [texts[number % len(texts)] for _ in range(len(people)) for number in range(per_person)]
    return [utterance(t, rng=rng, prosody=p, accent=a) for t, p, a in zip(read, manners, accents, strict=True)]


def record(
    people: People,
    spoken: Sequence[Utterance],
    rng: np.random.Generator,
    *,
    mel: int = 40,
    severity: float = 1.0,
    mute_nose: bool = False,
    sections: int = 44,
    amplitude: ArrayLike = 1.0,
) -> Voices:
    """Record utterances, an equal number in a row for each person.

    Parameters
    ----------
    people, spoken
        Who says what.
    rng
        Source of the channels and of the noise.
    mel
        Bands.
    severity
        How much sessions differ: 0 not at all, 1 as documented at `paper_utils.world.voice.Channel.draw`.
    mute_nose
        The velum stays closed, also in M, N and NG.
    sections
        Resolution of the tract, 44 or 22.
    amplitude
        How far jaw and lips move, of everybody or one factor a person; see `paper_utils.world.articulation.articulate`.

    Raises
    ------
    ValueError
        If the utterances cannot be shared out equally.
    """
    if not spoken or len(spoken) % len(people):
        raise ValueError(f"spoken: {len(spoken)} utterances cannot be shared out equally among {len(people)} people")
    speaker = np.arange(len(people)).repeat(len(spoken) // len(people))
    channels = Channel.draw(severity, rng, len(spoken))
    seeds = rng.integers(2**31, size=len(spoken)).tolist()
    moves = np.broadcast_to(np.asarray(amplitude, dtype=float), len(people))[speaker]
    blocks, lengths = [], []
    for first in range(0, len(spoken), BLOCK):
        part = slice(first, first + BLOCK)
        made = log_mel(
            spoken[part], people.speakers, speaker[part], mel=mel, hop_ms=HOP_MS, seed=seeds[part],
            channels=channels[part], mute_nose=mute_nose, sections=sections, amplitude=moves[part],
        )  # fmt: skip
        lengths += map(len, made)
        blocks.append(torch.cat(made))
    code = {name: number for number, name in enumerate(PHONE_NAMES)}
    phones = [[code[phone] for phone in u.alignment.phones] for u in spoken]
    return Voices(
        log_mel=_joined(blocks),
        starts=_ends(lengths),
        hop_ms=HOP_MS,
        identities=torch.from_numpy(people.identity[speaker]),
        phone_names=PHONE_NAMES,
        phones=torch.tensor([phone for row in phones for phone in row], dtype=torch.int16),
        phone_starts=_ends([len(row) for row in phones]),
        boundaries_s=torch.from_numpy(np.concatenate([u.alignment.boundaries_s for u in spoken])).float(),
        name="synthetic voices",
        covariates=_covariates(people, speaker),
    )


def _ends(lengths: Sequence[int]) -> Tensor:
    return torch.from_numpy(np.cumsum([0, *lengths]))


def _joined(blocks: list[Tensor]) -> Tensor:
    """All blocks in one tensor; each is let go when it is copied, so that the whole never stands in memory twice."""
    joined = torch.empty(sum(map(len, blocks)), blocks[0].shape[1])
    first = 0
    while blocks:
        block = blocks.pop(0)
        joined[first : first + len(block)] = block
        first += len(block)
    return joined


def _covariates(people: People, speaker: np.ndarray) -> dict[str, Tensor]:
    named = {"sex": people.voice_sex, "age": people.voice_age, "accent": people.accent}
    return {name: torch.from_numpy(values[speaker]) for name, values in named.items()}


def voices(
    population: Population,
    identities: Sequence[int],
    per_person: int,
    *,
    seconds: float | None = 2.0,
    texts: Sequence[str] | None = None,
    source: str = "sentences",
    mel: int = 40,
    severity: float = 1.0,
    mute_nose: bool = False,
    sections: int = 44,
    amplitude: ArrayLike = 1.0,
    seed: int = 0,
) -> Voices:
    """Recordings of people of a population, from disk if they were made before; parameters as for `speak` and `record`."""
    people = population.people(identities)

    def make() -> dict[str, Tensor]:
        spoken = speak(
            people, per_person, np.random.default_rng([seed, 11]), seconds=seconds, texts=texts, source=source
        )
        made = record(
            people, spoken, np.random.default_rng([seed, 12]), mel=mel, severity=severity, mute_nose=mute_nose, sections=sections,
            amplitude=amplitude,
        )  # fmt: skip
        return {name: getattr(made, name) for name in STORED}

    parameters = {
        "population": dataclasses.asdict(population),
        "identities": people.identity.tolist(),
        "per_person": per_person,
        "seconds": seconds,
        "texts": list(texts) if texts is not None else None,
        "source": source,
        "mel": mel,
        "severity": severity,
        "mute_nose": mute_nose,
        "sections": sections,
        "amplitude": np.asarray(amplitude, dtype=float).tolist(),
        "seed": seed,
    }
    speaker = np.arange(len(people)).repeat(per_person)
    return Voices(
        **cached(__name__, parameters, make),
        hop_ms=HOP_MS,
        identities=torch.from_numpy(people.identity[speaker]),
        phone_names=PHONE_NAMES,
        name="synthetic voices",
        covariates=_covariates(people, speaker),
    )


STORED = ("log_mel", "starts", "phones", "phone_starts", "boundaries_s")
