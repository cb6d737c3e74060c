"""Cost of a whole population: pictures and voices of many people, and of finding them on disk again.

Run by ``make bench``, one thread, process time. The aim is 1,000 people with 10 pictures of 64 pixels and 10 utterances of 2 s in three
minutes and 2 GiB; a tenth of it is made here, since both costs grow in proportion to the number of people.
"""

from __future__ import annotations

import resource
import time

import numpy as np
import torch

from paper_utils.world import portraits, recordings
from paper_utils.world.people import Population

PEOPLE, EACH, SECONDS = 100, 10, 2.0


def process_seconds(make):
    began = time.process_time()
    made = make()
    return time.process_time() - began, made


def test_a_tenth_of_a_thousand_people(benchmark):
    torch.set_num_threads(1)
    population = Population(size=1000)
    portraits.portraits(population, range(2), 1)  # tables and indices that are made once
    recordings.voices(population, range(2), 1, seconds=1.0)

    def make():
        return (
            process_seconds(lambda: portraits.portraits(population, range(PEOPLE), EACH)),
            process_seconds(lambda: recordings.voices(population, range(PEOPLE), EACH, seconds=SECONDS)),
        )

    (seeing, images), (hearing, voices) = benchmark.pedantic(make, rounds=1)
    again, _ = process_seconds(make)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    speech = voices.starts.diff().sum().item() * voices.hop_ms / 1000
    whole = 1000 / PEOPLE * (seeing + hearing)
    benchmark.extra_info.update(pictures_s=seeing, voices_s=hearing, again_s=again, peak_gib=peak)
    print(
        f"\n{len(images)} pictures {seeing:.1f} s ({1000 * seeing / len(images):.1f} ms each), {speech:.0f} s of speech in {hearing:.1f} s "
        f"({speech / hearing:.0f} x real time); 1,000 people would take {whole:.0f} s; again from disk {again:.2f} s; peak {peak:.2f} GiB"
    )
    assert np.isfinite(voices.log_mel[::1000].numpy()).all()


def test_a_million_people_without_pictures(benchmark):
    """Covariates and anatomy of 100,000 people, ten in a hundred of the largest population."""
    population = Population(size=1_000_000)
    seconds, crowd = benchmark.pedantic(lambda: process_seconds(lambda: population.people(range(100_000))), rounds=1)
    print(f"\n{len(crowd):,} people in {seconds:.2f} s, {1e6 * seconds / len(crowd):.0f} microseconds each")
    assert len(crowd) == 100_000
