"""Cost of each head, forward and backward, against the three matrix products that no head can avoid.

Run by ``make bench``; the ratio stands in ``extra_info`` and is printed. One thread, float32, 512 samples of width 512, 10,000 classes.
"""

from __future__ import annotations

import time

import pytest
import torch

from paper_utils.methods import sphereface_r as sfr

BATCH, WIDTH, CLASSES = 512, 512, 10_000
CASES = {
    "softmax": sfr.HeadConfig("softmax"),
    "normface": sfr.HeadConfig("normface", scale=30.0, loss_weight=None),
    "cosface": sfr.HeadConfig("cosface", 0.35, scale=30.0, loss_weight=None),
    "arcface": sfr.HeadConfig("arcface", 0.5, scale=30.0, loss_weight=None),
    "sphereface v0": sfr.HeadConfig("v0", 1.5, scale=30.0, loss_weight=None),
    "sphereface v0, full gradient": sfr.HeadConfig("v0", 1.5, scale=30.0, detach=False, loss_weight=None),
    "sphereface-r v1": sfr.HeadConfig("v1", 1.4, scale=60.0),
    "sphereface-r v2": sfr.HeadConfig("v2", 1.4, scale=60.0),
    "sphereface-r v2, full gradient": sfr.HeadConfig("v2", 1.4, scale=60.0, detach=False),
    "sphereface-r v1, free length": sfr.HeadConfig("v1", 1.4, "NFN", loss_weight=1.0),
}


@pytest.mark.parametrize("name", CASES)
def test_head_against_three_matrix_products(benchmark, name):
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(BATCH, WIDTH, generator=generator).requires_grad_()
    labels = torch.randint(CLASSES, (BATCH,), generator=generator)
    head = sfr.Head(WIDTH, CLASSES, CASES[name], seed=0)

    floor_seconds = []

    def floor() -> None:
        began = time.perf_counter()
        with torch.no_grad():
            logits = embeddings @ head.proxies.T
            logits @ head.proxies
            logits.T @ embeddings
        floor_seconds.append(time.perf_counter() - began)

    def step() -> None:
        embeddings.grad = head.proxies.grad = None
        head(embeddings, labels).backward()

    # Floor and head take turns, so that a busy machine slows both.
    benchmark.pedantic(step, setup=floor, rounds=8, warmup_rounds=1)
    least = min(floor_seconds[1:])
    ratio = benchmark.stats.stats.min / least
    benchmark.extra_info.update(floor_s=least, ratio_to_three_products=ratio)
    print(f"\n{name}: {ratio:.2f} x three matrix products ({least * 1e3:.0f} ms)")
    assert torch.isfinite(embeddings.grad).all()
