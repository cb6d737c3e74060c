"""What each process of the tests of `paper_utils.nn.class_parallel` runs.

    python class_parallel_script.py RANK SIZE FOLDER REFERENCE

joins SIZE gloo processes through FOLDER/meeting, computes every case, and writes FOLDER/rank<RANK>.pt. The problems and the heads are
defined here once, for these processes and for the tests that compute the same in one process.
"""

from __future__ import annotations

import datetime
import json
import sys
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from paper_utils.nn import margins
from paper_utils.nn.binary_margins import BinaryMargin, binary_loss
from paper_utils.nn.class_parallel import (
    BinaryFamily,
    ClassParallel,
    SoftmaxFamily,
    clip_gradients_,
    first_proxies,
    shard,
)
from paper_utils.nn.exchanges import Ranks

BATCH, DIM, CLASSES, STEPS = 24, 12, 11, 6
V2 = {"psi": margins.clamped_cosine, "eta": partial(margins.sphereface_r_v2, margin=1.4)}
FAMILIES = {
    "normface": SoftmaxFamily(scale=16.0),
    "cosface": SoftmaxFamily(partial(margins.cosface, margin=0.35)),
    "arcface": SoftmaxFamily(partial(margins.arcface, margin=0.5)),
    "arcface, full gradient": SoftmaxFamily(partial(margins.arcface, margin=0.5), detach=False),
    "v0": SoftmaxFamily(partial(margins.sphereface, margin=1.5)),
    "v1": SoftmaxFamily(partial(margins.sphereface_r_v1, margin=1.4)),
    "v2": SoftmaxFamily(**V2, scale=60.0),
    "v2, full gradient": SoftmaxFamily(**V2, scale=60.0, detach=False),
    "v1, free length": SoftmaxFamily(partial(margins.sphereface_r_v1, margin=1.4), scale=None),
    "SphereFace2 C": BinaryFamily(BinaryMargin("C", 0.4, 40.0, 0.7, 3.0, 10.0), bias=1.0),
    "SphereFace2 A": BinaryFamily(BinaryMargin("A", 0.5, 40.0, 0.7, 3.0, 10.0), bias=1.0),
    "SphereFace2 M": BinaryFamily(BinaryMargin("M", 1.7, 40.0, 0.7, 3.0, 10.0), bias=1.0),
}
TRAINED = ("v1", "SphereFace2 C")


def problem(dtype: torch.dtype, *, last_label: int = CLASSES) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features near their class, proxies of any length, labels."""
    rng = np.random.default_rng(4)
    proxies = rng.normal(size=(CLASSES, DIM))
    labels = rng.integers(last_label, size=BATCH)
    features = 1.5 * proxies[labels] + 2.0 * rng.normal(size=(BATCH, DIM))
    return torch.tensor(features, dtype=dtype), torch.tensor(proxies, dtype=dtype), torch.tensor(labels)


def own_rows(rows: torch.Tensor, ranks: Ranks) -> torch.Tensor:
    """This rank's part of a batch."""
    return rows.chunk(ranks.size)[ranks.rank].clone()


def own_shard(proxies: torch.Tensor, ranks: Ranks) -> torch.Tensor:
    """This rank's part of the classes."""
    own = shard(len(proxies), ranks.rank, ranks.size)
    return proxies[own.start : own.stop]


def one_step(features, proxies, labels, family, ranks, *, generator=None, autocast=False, **options) -> dict:
    """Loss, gradients and exchanges of one step of this rank."""
    ranks.exchanges.clear()
    head = ClassParallel(own_shard(proxies, ranks), len(proxies), family, ranks, **options)
    x = own_rows(features, ranks).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        loss = head(x, own_rows(labels, ranks), generator)
    loss.backward()
    bias = None if head.bias is None else head.bias.grad
    seen = [(e.kind, e.phase, e.collective, e.size, e.ranks, n) for e, n in ranks.exchanges.items()]
    return {"loss": loss.detach(), "x": x.grad, "w": head.proxies.grad, "bias": bias, "exchanges": seen}


def reference_steps(reference: Path, ranks: Ranks) -> dict:
    """The official programs' batches: OpenSphere's heads at the edges of the angle, InsightFace's Partial FC."""
    found = {}
    for name in ("cosface", "arcface", "sphereface"):
        stored = np.load(reference / "heads" / f"{name}__edge.npz")
        hp = json.loads(str(stored["hp"]))
        family = SoftmaxFamily(partial(getattr(margins, name), margin=hp["m"]), scale=hp["s"])
        batch = (torch.tensor(stored["x"]), torch.tensor(stored["w"].T.copy()), torch.tensor(stored["y"]))
        found[f"{name}__edge"] = one_step(*batch, family, ranks)
    for kind in ("arc", "cos"):
        for rate in ("0.3", "1.0"):
            stored = np.load(reference / "partial_fc" / f"pfc_{kind}_rate{rate}.npz")
            hp, kept = json.loads(str(stored["hp"])), torch.tensor(stored["weight_index"])
            psi = {
                "arc": partial(margins.arcface, margin=hp["m_arc"], eps=0.0),
                "cos": partial(margins.cosface, margin=hp["m_cos"]),
            }[kind]
            labels = torch.searchsorted(kept, torch.tensor(stored["y"]))
            family = SoftmaxFamily(psi, scale=hp["s"], floor=1e-30)
            batch = (torch.tensor(stored["x"]), torch.tensor(stored["w"])[kept], labels)
            found[f"pfc_{kind}_rate{rate}"] = one_step(*batch, family, ranks, inside=True)
    return found


def data_parallel_step(family: BinaryFamily, ranks: Ranks) -> dict:
    """The same gradients with all proxies on every rank, and what that exchanges."""
    ranks.exchanges.clear()
    features, proxies, labels = problem(torch.float32)
    margins.make_unit_(proxies)
    w, b = proxies.requires_grad_(), torch.tensor(family.bias, requires_grad=True)
    binary_loss(own_rows(features, ranks), w, b, own_rows(labels, ranks), family.rule).backward()
    ranks.all_reduce(b.grad, "bias gradient", "backward")
    total = ranks.all_reduce(w.grad, "proxy gradient", "backward") / ranks.size
    return {"w": total, "exchanges": [(*vars(e).values(), n) for e, n in ranks.exchanges.items()]}


def train(name: str, ranks: Ranks) -> dict:
    """Several clipped steps of SGD through a linear map whose gradient is averaged over ranks: by DistributedDataParallel in two processes,
    by hand in more (its import takes seconds)."""
    features, proxies, labels = problem(torch.float64)
    torch.manual_seed(0)
    net = torch.nn.Linear(DIM, DIM, dtype=torch.float64)
    backbone = DistributedDataParallel(net) if ranks.size == 2 else net
    head = ClassParallel(own_shard(proxies, ranks), CLASSES, FAMILIES[name], ranks, averaged=True)
    # SGD by hand: the first call of an optimiser of torch imports its compiler, two seconds for each process.
    parameters = [*net.parameters(), *head.parameters()]
    velocities = [torch.zeros_like(parameter) for parameter in parameters]
    losses, norms = [], []
    for step in range(STEPS):
        x, y = (own_rows(each.roll(step, 0), ranks) for each in (features, labels))
        loss = head(backbone(x), y)
        loss.backward()
        if backbone is net:
            for parameter in net.parameters():
                parameter.grad = ranks.all_reduce(parameter.grad, "backbone gradient", "backward") / ranks.size
        norms.append(clip_gradients_(net.parameters(), head, max_norm=1.0))
        losses.append(loss.detach())
        with torch.no_grad():
            for parameter, velocity in zip(parameters, velocities, strict=True):
                velocity.mul_(0.9).add_(parameter.grad + 5e-4 * parameter)
                parameter.sub_(0.1 * velocity)
                parameter.grad = None
    return {
        "losses": torch.stack(losses),
        "norms": torch.stack(norms),
        "net": net.weight.detach(),
        "proxies": head.all_proxies(),
        "bias": None if head.bias is None else head.bias.detach(),
    }


def refusals(ranks: Ranks) -> dict[str, str]:
    """What each rank says when one of them is wrong; the last rank is."""
    features, proxies, labels = problem(torch.float32)
    x, y, odd = own_rows(features, ranks), own_rows(labels, ranks), ranks.rank == ranks.size - 1
    head = ClassParallel(own_shard(proxies, ranks), CLASSES, FAMILIES["cosface"], ranks)
    binary = ClassParallel(own_shard(proxies, ranks), CLASSES, FAMILIES["SphereFace2 C"], ranks)
    cases = {
        "batch": (head, x[:-1], y[:-1]),
        "width": (head, x[:, :-1], y),
        "label": (head, x, y.clone().index_fill_(0, torch.tensor([1]), CLASSES)),
        "infinite": (head, x.clone().index_fill_(0, torch.tensor([1]), float("nan")), y),
        "precision": (head, x.double(), y),
        "gradient": (head, x.clone().requires_grad_(), y),
        "family": (binary, x, y),
        "shapes": (head, x, y[:, None].expand(-1, 2)),
    }
    found = {}
    for name, wrong in cases.items():
        used, *batch = wrong if odd else (head, x, y)
        try:
            used(*batch)
        except ValueError as error:
            found[name] = str(error)
    found["afterwards"] = f"{head(x, y).item():.6f}"  # a refusal leaves nobody behind in an exchange
    return found


def everything(ranks: Ranks, reference: Path) -> dict:
    """All cases of this rank."""
    found = {"steps": {}, "trained": {name: train(name, ranks) for name in TRAINED}}
    for dtype in (torch.float32, torch.float64):
        for name, family in FAMILIES.items():
            found["steps"][name, dtype] = one_step(*problem(dtype), family, ranks)
    for name in TRAINED:
        family = FAMILIES[name]
        found["steps"][name, "again"] = one_step(*problem(torch.float32), family, ranks)
        found["steps"][name, "unchecked"] = one_step(*problem(torch.float32), family, ranks, check=False)
        found["steps"][name, "all in the first shard"] = one_step(*problem(torch.float64, last_label=2), family, ranks)
        generator = torch.Generator().manual_seed(ranks.rank)
        found["steps"][name, "sampled"] = one_step(
            *problem(torch.float64, last_label=4), family, ranks, generator=generator, rate=0.7
        )
        x, w, y = problem(torch.float32)
        found["steps"][name, "autocast"] = one_step(x.bfloat16(), w, y, family, ranks, autocast=True)
    found["reference"] = reference_steps(reference, ranks)
    found["data parallel"] = data_parallel_step(FAMILIES["SphereFace2 C"], ranks)
    found["refusals"] = refusals(ranks)
    fresh = first_proxies(CLASSES, DIM, 7, ranks)
    found["first"] = ClassParallel(fresh, CLASSES, FAMILIES["cosface"], ranks).all_proxies()
    return found


def main(rank: int, size: int, folder: Path, reference: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'meeting'}",  # no port to be taken by somebody else in between
        rank=rank,
        world_size=size,
        timeout=datetime.timedelta(seconds=120),
    )
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            found = everything(Ranks(), reference)
        found["warnings"] = [str(each.message) for each in warned if "paper_utils" in each.filename]
        torch.save(found, folder / f"rank{rank}.pt")
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]))
