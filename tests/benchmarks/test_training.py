"""What the frame around a training step costs, as a ratio to the bare step in the same run."""

from __future__ import annotations

import time

import pytest
import torch

from paper_utils import training

STEPS, ROUNDS = 300, 5


def net():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10))


def bare(inputs, labels):
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(STEPS):
        loss = torch.nn.functional.cross_entropy(model(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def framed(inputs, labels):
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    run = training.Run(training.launch("cpu"), {"net": model}, optimizer, steps=STEPS)
    for _ in run:
        run.update(torch.nn.functional.cross_entropy(run.modules["net"](inputs), labels))


@pytest.mark.benchmark(group="training step")
@pytest.mark.parametrize("batch", [32, 512])
def test_frame_against_the_bare_step(benchmark, batch):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(batch, 64, generator=generator)
    labels = torch.randint(10, (batch,), generator=generator)

    def seconds(function):
        began = time.perf_counter()
        function(inputs, labels)
        return time.perf_counter() - began

    bare(inputs, labels)
    floor = min(seconds(bare) for _ in range(ROUNDS))
    benchmark.pedantic(framed, (inputs, labels), rounds=ROUNDS, warmup_rounds=1)
    ratio = benchmark.stats.stats.min / floor
    benchmark.extra_info["ratio to the bare step"] = round(ratio, 2)
    print(f"\ntraining step, batch {batch}: {ratio:.2f} x the bare step ({1e6 * floor / STEPS:.0f} us)")
