"""SphereFace2's head, forward and backward, against the three matrix products that no head can avoid, and its peak memory.

Run by ``make bench``; ratios of CPU times stand in ``extra_info`` and are printed. One thread, float32, 256 samples of width 512.
Normalising the proxies counts. Memory is what a step adds at its peak, in arrays of batch x classes; the proxies' gradient is two.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from paper_utils.methods import sphereface2 as sf2
from paper_utils.nn import binary_margins, margins

BATCH, WIDTH = 256, 512
PROCESS = Path("/proc/self/status")
CASES = {
    "C": sf2.PUBLISHED["iclr C"],
    "C, straight": sf2.PUBLISHED["v0 C"],
    "A": sf2.PUBLISHED["paper A"],
    "M": sf2.PUBLISHED["paper M"],
    "speech C": sf2.PUBLISHED["speech C"],
    "speech A": sf2.PUBLISHED["speech A"],
}
SIZES = [(name, 10_000) for name in CASES] + [("C, for autograd", 10_000), ("C", 85_742), ("C, for autograd", 85_742)]


def make(name: str, classes: int) -> tuple[sf2.Head, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(BATCH, WIDTH, generator=generator).requires_grad_()
    labels = torch.randint(classes, (BATCH,), generator=generator)
    return sf2.Head(WIDTH, classes, CASES[name.split(", for")[0]], seed=0), embeddings, labels


def step(name: str, head: sf2.Head, embeddings: torch.Tensor, labels: torch.Tensor) -> None:
    embeddings.grad = head.proxies.grad = head.bias.grad = None
    if name.endswith("for autograd"):
        margins.make_unit_(head.proxies)
        loss = binary_margins.plain_loss(embeddings, head.proxies, head.bias, labels, head.config)
    else:
        loss = head(embeddings, labels)
    loss.backward()


@pytest.mark.parametrize(("name", "classes"), SIZES)
def test_head_against_three_matrix_products(benchmark, name, classes):
    head, embeddings, labels = make(name, classes)
    seconds = {"floor": [], "head": []}  # of the processor, which other programs take nothing of

    def floor() -> None:
        began = time.process_time()
        with torch.no_grad():
            logits = embeddings @ head.proxies.T
            logits @ head.proxies
            logits.T @ embeddings
        seconds["floor"].append(time.process_time() - began)

    def timed_step() -> None:
        began = time.process_time()
        step(name, head, embeddings, labels)
        seconds["head"].append(time.process_time() - began)

    # Floor and head take turns, so that a slow spell of the machine meets both.
    benchmark.pedantic(timed_step, setup=floor, rounds=8 if classes < 50_000 else 4, warmup_rounds=1)
    least = min(seconds["floor"][1:])
    ratio = min(seconds["head"][1:]) / least
    benchmark.extra_info.update(floor_cpu_s=least, ratio_to_three_products=ratio)
    print(f"\n{name}, {classes} classes: {ratio:.2f} x three matrix products ({least * 1e3:.0f} ms)")
    assert torch.isfinite(embeddings.grad).all()


def peak_arrays(name: str, classes: int) -> float:
    """Growth of the process's peak resident memory by one step, in arrays of batch x classes."""
    torch.set_num_threads(1)
    head, embeddings, labels = make(name, classes)
    # A small step of the same kind first: libraries and their work space are no cost of the method.
    step(name, *make(name, 2_000))
    before = peak_bytes()
    step(name, head, embeddings, labels)
    return (peak_bytes() - before) / (BATCH * classes * 4)


def peak_bytes() -> int:
    """Largest resident memory since this program started (getrusage would also count the program that started it)."""
    line = next(line for line in PROCESS.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


@pytest.mark.skipif(not PROCESS.exists(), reason="peak memory is read from Linux's /proc")
@pytest.mark.parametrize("name", ["C", "C, for autograd"])
def test_peak_memory(benchmark, name):
    """In a process of its own, as a peak never falls again."""

    def measure() -> float:
        command = [sys.executable, __file__, name]
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    arrays = benchmark.pedantic(measure, rounds=1)
    benchmark.extra_info["peak_arrays"] = arrays
    print(f"\n{name}, 85742 classes: peak {arrays:.2f} arrays of batch x classes")
    assert arrays > 1.5  # the proxies' gradient alone is 2, less what the small step left free


if __name__ == "__main__":
    print(peak_arrays(sys.argv[1], 85_742))
