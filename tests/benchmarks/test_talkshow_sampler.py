"""Paper 08's cached sampler against the naive one, which runs the whole network for every code, and its growth with length.

Run by ``make bench``; ratios of CPU times stand in ``extra_info`` and are printed. One thread, float32. The naive sampler is the one of the
tests; both draw the same codes from the same random numbers.
"""

from __future__ import annotations

import time

import pytest
import torch
from naive_pixelcnn import naive_codes

from paper_utils.nn.pixelcnn import PixelCnn, PixelCnnConfig, Sampler, draw_uniforms

BATCH, STEPS = 32, 75  # 75 rows of codes are ten seconds of motion
SIZES = {"codes": 64, "width": 32, "layers": 6, "audio": 32}


class Case:
    """A network, its inputs, and both samplers with their CPU seconds."""

    def __init__(self, rows: int, batch: int, **sizes: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.network, self.rows = PixelCnn(PixelCnnConfig(**sizes), seed=0), rows
        self.speakers = torch.arange(batch) % 4
        self.audio = torch.randn(batch, rows, self.network.config.audio, generator=generator)
        self.uniforms = draw_uniforms(batch, rows, generator)

    def cached(self) -> tuple[torch.Tensor, float]:
        began = time.process_time()
        codes = Sampler(self.network, self.speakers).draw(self.audio, self.uniforms)
        return codes, time.process_time() - began

    def naive(self) -> tuple[torch.Tensor, float]:
        began = time.process_time()
        codes = naive_codes(self.network, self.speakers, self.rows, self.audio, self.uniforms)
        return codes, time.process_time() - began


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_cached_against_naive(benchmark):
    """At least 15 times as fast (75 steps), and at most 2.6 times as long for twice the steps."""
    short, long = Case(STEPS, BATCH, **SIZES), Case(2 * STEPS, BATCH, **SIZES)
    short_s, long_s = [], []

    def take_turns() -> None:  # so that a slow spell of the machine meets both
        short_s.append(short.cached()[1])
        long_s.append(long.cached()[1])

    benchmark.pedantic(take_turns, rounds=5, warmup_rounds=1)
    codes, naive_s = short.naive()
    assert torch.equal(codes, short.cached()[0])
    ratio, growth = naive_s / min(short_s), min(long_s) / min(short_s)
    benchmark.extra_info.update(
        naive_cpu_s=naive_s, cached_cpu_s=min(short_s), naive_over_cached=ratio, growth_75_to_150=growth
    )
    print(f"\ncached sampler: {ratio:.0f} x the naive one ({naive_s:.2f} s), 150 steps take {growth:.2f} x 75 steps")
    assert ratio >= 15
    assert growth <= 2.6


@pytest.mark.parametrize("batch", [1, 8])
def test_full_size_against_the_motion_it_makes(benchmark, batch):
    """The released size: 2048 codes, width 256, 15 layers."""
    case, seconds = Case(STEPS, batch), []
    benchmark.pedantic(lambda: seconds.append(case.cached()[1]), rounds=2, warmup_rounds=1)
    times = batch * STEPS * 4 / 30 / min(seconds)
    benchmark.extra_info.update(cpu_s_a_row=min(seconds) / STEPS, times_real_time=times)
    print(f"\nfull size, batch {batch}: {1e3 * min(seconds) / STEPS:.0f} ms a row, {times:.1f} x real time")
