"""Cost and memory of each head, forward and backward, against the three matrix products that no head can avoid.

Run by ``make bench``; CPU-time ratios and memory stand in ``extra_info`` and are printed, beside those of the same head left to autograd
and, for CosFace and ArcFace, of pytorch-metric-learning.
One thread, float32, 256 samples of width 512, 10,000 and 85,742 classes (MS1MV2). Normalising the proxies counts as part of the head.
"""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pytorch_metric_learning import losses

from paper_utils.methods import sphereface_r as sfr
from paper_utils.nn import margins

BATCH, WIDTH = 256, 512
CASES = {
    "softmax": sfr.HeadConfig("softmax"),
    "normface": sfr.HeadConfig("normface", scale=64.0, loss_weight=None),
    "cosface": sfr.HeadConfig("cosface", 0.35, scale=64.0, loss_weight=None),
    "arcface": sfr.HeadConfig("arcface", 0.5, scale=64.0, loss_weight=None),
    "sphereface v0": sfr.HeadConfig("v0", 1.7, scale=64.0, loss_weight=None),
    "sphereface v0, full gradient": sfr.HeadConfig("v0", 1.7, scale=64.0, detach=False, loss_weight=None),
    "sphereface-r v1": sfr.HeadConfig("v1", 1.4, scale=60.0),
    "sphereface-r v2": sfr.HeadConfig("v2", 1.4, scale=60.0),
    "sphereface-r v2, full gradient": sfr.HeadConfig("v2", 1.4, scale=60.0, detach=False),
    "sphereface-r v1, free length": sfr.HeadConfig("v1", 1.4, "NFN", loss_weight=1.0),
    "sphereface-r v2, free length": sfr.HeadConfig("v2", 1.4, "NFN", loss_weight=1.0),
}
# The same heads in pytorch-metric-learning, whose angles are in degrees.
PEERS = {
    "cosface": lambda classes: losses.CosFaceLoss(classes, WIDTH, margin=0.35, scale=64.0),
    "arcface": lambda classes: losses.ArcFaceLoss(classes, WIDTH, margin=math.degrees(0.5), scale=64.0),
}


class Setup:
    """One head with its inputs, its training step, the same step left to autograd, and that of another library where it has the head."""

    def __init__(self, name: str, classes: int):
        generator = torch.Generator().manual_seed(0)
        self.embeddings = torch.empty(BATCH, WIDTH).normal_(generator=generator).requires_grad_()
        self.labels = torch.randint(classes, (BATCH,), generator=generator)
        self.head = sfr.Head(WIDTH, 2, CASES[name], seed=0)
        # In place, so that a child's largest memory so far is what it holds now.
        self.head.proxies = torch.nn.Parameter(torch.empty(classes, WIDTH).normal_(std=0.05, generator=generator))
        if CASES[name].psi == "softmax":
            self.head.bias = torch.nn.Parameter(torch.zeros(classes))
        self.peer = PEERS[name](classes) if name in PEERS else None

    def peer_step(self) -> None:
        self.embeddings.grad = self.peer.W.grad = None
        self.peer(self.embeddings, self.labels).backward()

    def step(self) -> None:
        self.embeddings.grad = self.head.proxies.grad = None
        self.head(self.embeddings, self.labels).backward()

    def autograd_step(self) -> None:
        self.embeddings.grad = self.head.proxies.grad = None
        margins.cross_entropy(self.head.logits(self.embeddings, self.labels), self.labels).backward()

    @torch.no_grad()
    def floor(self) -> None:
        logits = self.embeddings @ self.head.proxies.T
        logits @ self.head.proxies
        logits.T @ self.embeddings


def resident_mib(field: str) -> float:
    """This process's ``VmRSS`` (memory now) or ``VmHWM`` (most so far), as Linux tells it."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def extra_memory(name: str, classes: int, step: str) -> float:
    """Most memory during one step beyond the inputs, in arrays of batch x classes float32, in a child process of its own.

    The gradient of the proxies, width / batch = 2 such arrays, is part of it.
    """
    if not Path("/proc/self/status").exists():
        return float("nan")
    child = [sys.executable, __file__, name, str(classes), step]
    return float(subprocess.run(child, check=True, capture_output=True, text=True).stdout)


def cpu_seconds(call: Callable[[], None]) -> float:
    began = time.process_time()
    call()
    return time.process_time() - began


@pytest.mark.benchmark(timer=time.process_time)
@pytest.mark.parametrize("classes", [10_000, 85_742])
@pytest.mark.parametrize("name", CASES)
def test_head_against_three_matrix_products(benchmark, name, classes):
    setup = Setup(name, classes)
    floors, plain, peers = [], [], []

    def others() -> None:
        floors.append(cpu_seconds(setup.floor))
        plain.append(cpu_seconds(setup.autograd_step))
        if setup.peer:
            peers.append(cpu_seconds(setup.peer_step))

    # Floor, peer and head take turns, so that a busy machine slows all.
    benchmark.pedantic(setup.step, setup=others, rounds=6 if classes < 50_000 else 3, warmup_rounds=1)
    least = min(floors[1:])
    found = {
        "ratio_to_three_products": benchmark.stats.stats.min / least,
        "autograd_ratio": min(plain[1:]) / least,
        "memory": extra_memory(name, classes, "step"),
        "autograd_memory": extra_memory(name, classes, "autograd_step"),
    }
    if setup.peer:
        found["pytorch_metric_learning_ratio"] = min(peers[1:]) / least
        found["pytorch_metric_learning_memory"] = extra_memory(name, classes, "peer_step")
    benchmark.extra_info.update(found, floor_s=least)
    print(
        f"\n{name}, {classes:,} classes: {found['ratio_to_three_products']:.2f} x three matrix products "
        f"({least * 1e3:.0f} ms) and {found['memory']:.2f} logit arrays; "
        f"autograd {found['autograd_ratio']:.2f} x and {found['autograd_memory']:.2f}"
        + (
            f"; pytorch-metric-learning {found['pytorch_metric_learning_ratio']:.2f} x "
            f"and {found['pytorch_metric_learning_memory']:.2f}"
            if setup.peer
            else ""
        )
    )
    assert torch.isfinite(setup.embeddings.grad).all()


def _child(name: str, classes: str, step: str) -> None:
    getattr(Setup(name, 300), step)()  # libraries and their workspaces are loaded before the measurement
    setup = Setup(name, int(classes))
    before = resident_mib("VmRSS")
    getattr(setup, step)()
    print((resident_mib("VmHWM") - before) / (BATCH * int(classes) * 4 / 2**20))


if __name__ == "__main__":
    torch.set_num_threads(1)
    _child(*sys.argv[1:])
