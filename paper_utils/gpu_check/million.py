"""Classification heads of papers 05 and 06 at very many classes, against the three matrix products that no head can avoid.

The products are logits = x w^T, and the gradients of x and of w. All in float32 without TF32, as the heads compute. Proxies and batch are
drawn on the device: at a million classes of 512 numbers each array of proxies has 2 GB.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from paper_utils.gpu_check.measure import MIB, Meter
from paper_utils.gpu_check.steps import full_float32
from paper_utils.methods import sphereface2, sphereface_r
from paper_utils.nn.class_parallel import ClassParallel
from paper_utils.nn.exchanges import Ranks
from paper_utils.recipes.heads import shard_family, shard_weight

PARTIAL = 0.1  # share of the classes that Partial FC keeps (InsightFace's default)
_STRONG = {"scale": 64.0, "loss_weight": None}
HEADS: dict[str, sphereface2.HeadConfig | sphereface_r.HeadConfig] = {
    "softmax": sphereface_r.HeadConfig("softmax"),
    "CosFace": sphereface_r.HeadConfig("cosface", 0.4, **_STRONG),
    "ArcFace": sphereface_r.HeadConfig("arcface", 0.5, **_STRONG),
    "SphereFace": sphereface_r.HeadConfig("v0", 1.7, **_STRONG),
    "SphereFace-R v1": sphereface_r.HeadConfig("v1", 1.4, scale=60.0),
    "SphereFace-R v2": sphereface_r.HeadConfig("v2", 1.4, scale=60.0),
    "SphereFace2-C": sphereface2.PUBLISHED["main C"],
    "SphereFace2-A": sphereface2.PUBLISHED["v0 A"],
}
PARTIAL_HEADS = ("ArcFace", "SphereFace2-C")


def _drawn(*shape: int, device: torch.device, scale: float = 1.0) -> Tensor:
    generator = torch.Generator(device).manual_seed(0)
    return torch.empty(shape, device=device).normal_(std=scale, generator=generator)


def head_step(name: str, classes: int, dim: int, batch: int, device: torch.device, *, rate: float = 1.0) -> Any:
    """One forward and backward pass of a head, ready to be repeated, and the proxies.

    Parameters
    ----------
    name
        One of `HEADS`.
    classes, dim, batch
        Sizes.
    device
        Where.
    rate
        Below 1: a class-parallel head on one process that keeps a random share of the classes each step (Partial FC).
    """
    config = HEADS[name]
    embeddings = _drawn(batch, dim, device=device).requires_grad_()
    labels = torch.randint(classes, (batch,), generator=torch.Generator().manual_seed(0)).to(device)
    proxies = _drawn(classes, dim, device=device, scale=dim**-0.5)
    if rate < 1:
        head: nn.Module = ClassParallel(
            proxies, classes, shard_family(config), Ranks(alone=True), rate=rate, check=False
        )
        weight, drawn = shard_weight(config), torch.Generator().manual_seed(0)

        def loss() -> Tensor:
            return weight * head(embeddings, labels, drawn)
    else:
        kind = sphereface2.Head if isinstance(config, sphereface2.HeadConfig) else sphereface_r.Head
        head = kind(dim, 2, config, seed=0, strict=False).to(device)
        head.proxies = nn.Parameter(proxies)
        if isinstance(config, sphereface2.HeadConfig):
            head.bias.data.fill_(sphereface2.balanced_bias(config, classes))
        elif config.psi == "softmax":
            head.bias = nn.Parameter(torch.zeros(classes, device=device))

        def loss() -> Tensor:
            return head(embeddings, labels)

    def step() -> None:
        embeddings.grad = head.proxies.grad = None
        loss().backward()

    return step


def three_products(classes: int, dim: int, batch: int, device: torch.device) -> Callable[[], None]:
    """The floor: logits, and both gradients as if the logits were their own gradient."""
    x, w = _drawn(batch, dim, device=device), _drawn(classes, dim, device=device, scale=dim**-0.5)

    @torch.no_grad()
    def products() -> None:
        logits = x @ w.T
        logits @ w
        logits.T @ x

    return products


def check_head(
    name: str, device: torch.device, *, classes: int, dim: int, batch: int, rate: float, seconds: float
) -> dict[str, Any]:
    """Time and memory of a head and of the floor, one after the other in this call.

    Returns
    -------
    dict
        Of the head as `Meter.run` says; ``floor_ms``, ``ratio_to_floor``, ``floor_mib`` (most memory of the products), ``logits_mib``.
    """
    meter = Meter(device, seconds)
    with full_float32():
        floor = meter.run(three_products(classes, dim, batch, device))
        found = meter.run(head_step(name, classes, dim, batch, device, rate=rate))
    return {
        **found, "floor_ms": floor["ms"], "floor_mib": floor["peak_mib"], "ratio_to_floor": found["ms"] / floor["ms"],
        "logits_mib": 4 * batch * classes / MIB, "classes": classes, "dim": dim, "batch": batch, "rate": rate,
    }  # fmt: skip
