"""Speed of the synthetic voice, in seconds of speech per second of process CPU time, beside Praat's Klatt synthesizer.

Run by ``make bench``; the ratios stand in ``extra_info`` and are printed. One thread, float32.
"""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from paper_utils.world.articulation import articulate
from paper_utils.world.speech import utterance
from paper_utils.world.voice import Speakers, log_mel, waveform

SPEAKERS, EACH = 60, 5
PHRASES = (
    "HH AH0 L OW1 W ER1 L D S IY1 DH AH0 P AA1 T AA0 N DH AH0 S T OW1 V",
    "M AE1 N IY0 SH IH1 P S K AA1 M AH0 N D AO1 N AH0 V DH AH0 D EY1",
    "DH IY0 B OY1 Z R AE1 N T UW1 F AA1 S T F AO1 R AH0 L AO1 NG W AO1 K",
)


@pytest.fixture(scope="module")
def speech():
    """About two seconds an utterance, five of each of sixty speakers."""
    rng = np.random.default_rng(0)
    spoken = [utterance(PHRASES[i % 3], rng=rng) for i in range(SPEAKERS * EACH)]
    kinds = [Speakers.typical(k) for k in ("man", "woman")]
    fields = {k: np.concatenate([getattr(s, k) for s in kinds] * (SPEAKERS // 2)) for k in vars(kinds[0])}
    spread = {k: v * np.exp(0.05 * rng.standard_normal(SPEAKERS)) for k, v in fields.items()}
    return spoken, Speakers(**spread), np.repeat(np.arange(SPEAKERS), EACH)


def rate(run, seconds_of_speech):
    began = time.process_time()
    run()
    return seconds_of_speech / (time.process_time() - began)


def klatt_rate(seconds=4.0):
    """Praat's KlattGrid: a vowel with five formants, steady pitch."""
    praat = pytest.importorskip("parselmouth").praat

    def run():
        grid = praat.call("Create KlattGrid", "kg", 0, seconds, 5, 0, 0, 0, 0, 0, 0)
        praat.call(grid, "Add pitch point", 0.1, 120)
        praat.call(grid, "Add voicing amplitude point", 0.1, 90)
        for k, hz in enumerate((700, 1200, 2500, 3500, 4500), start=1):
            praat.call(grid, "Add oral formant frequency point", k, 0.1, hz)
            praat.call(grid, "Add oral formant bandwidth point", k, 0.1, 60 * k)
        praat.call(grid, "To Sound")

    run()
    return max(rate(run, seconds) for _ in range(3))


@pytest.mark.parametrize("what", ["articulation", "log-mel", "log-mel, 22 sections", "waveform"])
def test_faster_than_real_time(benchmark, speech, what):
    spoken, speakers, index = speech
    if what == "waveform":
        spoken, index = spoken[::5], index[::5]
    runs = {
        "articulation": lambda: [articulate(spoken[i : i + 60]) for i in range(0, len(spoken), 60)],
        "log-mel": lambda: log_mel(spoken, speakers, index, seed=0),
        "log-mel, 22 sections": lambda: log_mel(spoken, speakers, index, seed=0, sections=22),
        "waveform": lambda: waveform(spoken, speakers, index, seed=0),
    }
    seconds = sum(u.duration_s for u in spoken)
    rates, peers = [], []

    def step():
        rates.append(rate(runs[what], seconds))

    # Peer and voice take turns, so that a busy machine slows both.
    with torch.inference_mode():
        benchmark.pedantic(step, setup=lambda: peers.append(klatt_rate()), rounds=3, warmup_rounds=1)
    best, peer = max(rates[1:]), max(peers[1:])
    benchmark.extra_info.update(times_real_time=best, klattgrid_times_real_time=peer, ratio_to_klattgrid=best / peer)
    print(f"\n{what}: {best:.0f} x real time of one thread ({seconds:.0f} s of speech), KlattGrid {peer:.0f} x")
