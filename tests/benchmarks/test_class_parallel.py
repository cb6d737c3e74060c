"""Time of a head's training step over two gloo processes: class-parallel softmax and SphereFace2 against data parallelism.

Run by ``make bench``; ratios stand in ``extra_info`` and are printed. float32, one thread a process, the schemes take turns. A loopback
network is the fastest there is: over a real one the bytes, printed as well, weigh more.
"""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from paper_utils.nn import margins
from paper_utils.nn.binary_margins import BinaryMargin, binary_loss
from paper_utils.nn.class_parallel import BinaryFamily, ClassParallel, SoftmaxFamily, first_proxies
from paper_utils.nn.exchanges import Ranks, sent_by_kind, step_exchanges

BATCH, DIM, CLASSES, ROUNDS = 128, 256, 20_000, 7
ARCFACE = SoftmaxFamily(partial(margins.arcface, margin=0.5), scale=64.0)
SPHEREFACE2 = BinaryFamily(BinaryMargin("C", 0.4, 40.0, 0.7, 3.0, 10.0), bias=3.0)


def softmax_by_itself(x, w, y) -> torch.Tensor:
    """The peer: the same loss from the functions that know nothing of ranks."""
    margins.make_unit_(w)
    return margins.cross_entropy(64.0 * margins.margin_cosines(margins.cosines(x, w), y, ARCFACE.psi), y)


def binary_by_itself(x, w, y, b) -> torch.Tensor:
    """The peer: SphereFace2 in one sweep."""
    margins.make_unit_(w)
    return binary_loss(x, w, b, y, SPHEREFACE2.rule)


def batch(rows: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, DIM, generator=generator), torch.randint(CLASSES, (rows,), generator=generator)


def schemes(ranks: Ranks) -> dict[str, Callable[[], None]]:
    """One training step of each scheme."""
    x, y = batch(BATCH // ranks.size, ranks.rank)
    x.requires_grad_()
    shard = first_proxies(CLASSES, DIM, 0, ranks)
    heads = {f"{name}, classes shared out": ClassParallel(shard, CLASSES, family, ranks)
             for name, family in (("softmax", ARCFACE), ("binary", SPHEREFACE2))}  # fmt: skip
    w = first_proxies(CLASSES, DIM, 0, Ranks(alone=True)).requires_grad_()
    b = torch.tensor(SPHEREFACE2.bias, requires_grad=True)

    def shared_out(head: ClassParallel) -> None:
        x.grad = head.proxies.grad = None
        head(x, y).backward()

    def data_parallel(loss: Callable[[], torch.Tensor]) -> None:
        x.grad = w.grad = None
        loss().backward()
        ranks.all_reduce(w.grad, "proxy gradient", "backward")

    return {name: partial(shared_out, head) for name, head in heads.items()} | {
        "softmax, data parallel": partial(data_parallel, lambda: softmax_by_itself(x, w, y)),
        "binary, data parallel": partial(data_parallel, lambda: binary_by_itself(x, w, y, b)),
    }


def main(rank: int, size: int, folder: Path) -> None:
    """What each process runs: the schemes in turns, the least seconds of each to FOLDER/rank<RANK>.json."""
    torch.set_num_threads(1)
    limit = datetime.timedelta(seconds=120)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=size, timeout=limit
    )
    steps, seconds = schemes(Ranks()), {}
    for _ in range(ROUNDS):
        for name, step in steps.items():
            dist.barrier()
            began = time.perf_counter()
            step()
            seconds.setdefault(name, []).append(time.perf_counter() - began)
    (folder / f"rank{rank}.json").write_text(json.dumps({name: min(each[1:]) for name, each in seconds.items()}))
    dist.destroy_process_group()


def test_step_over_two_processes_against_data_parallelism(benchmark, tmp_path):
    def run() -> None:
        command = [sys.executable, __file__]
        environment = dict(os.environ, OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="")
        processes = [subprocess.Popen([*command, str(rank), "2", str(tmp_path)], env=environment) for rank in range(2)]
        try:
            assert [process.wait(timeout=240) for process in processes] == [0, 0]
        finally:
            for process in processes:
                process.kill()

    benchmark.pedantic(run, rounds=1)
    ranks = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(2)]
    slowest = {name: max(rank[name] for rank in ranks) for name in ranks[0]}
    sizes = {"batch": BATCH, "dim": DIM, "classes": CLASSES, "ranks": 2}
    print()
    for family in ("softmax", "binary"):
        shared, data = slowest[f"{family}, classes shared out"], slowest[f"{family}, data parallel"]
        sent = [sum(sent_by_kind(step_exchanges(scheme, **sizes)).values()) for scheme in (family, "data parallel")]
        benchmark.extra_info[family] = {"ratio_to_data_parallel": shared / data, "seconds": shared, "bytes": sent}
        print(
            f"{family}: {shared * 1e3:.0f} ms shared out, {data * 1e3:.0f} ms data parallel, ratio {shared / data:.2f}; "
            f"sent {sent[0] / 1e6:.3f} against {sent[1] / 1e6:.1f} MB"
        )


@pytest.mark.parametrize("family", ["softmax", "binary"])
def test_one_process_against_the_plain_functions(benchmark, family):
    (x, y), w = batch(BATCH, 0), first_proxies(CLASSES, DIM, 0, Ranks()).requires_grad_()
    x.requires_grad_()
    b = torch.tensor(SPHEREFACE2.bias, requires_grad=True)
    head = ClassParallel(w, CLASSES, ARCFACE if family == "softmax" else SPHEREFACE2, Ranks())
    plain_seconds = []

    def plain() -> None:
        began = time.perf_counter()
        x.grad = w.grad = None
        (softmax_by_itself(x, w, y) if family == "softmax" else binary_by_itself(x, w, y, b)).backward()
        plain_seconds.append(time.perf_counter() - began)

    def step() -> None:
        x.grad = head.proxies.grad = None
        head(x, y).backward()

    # The two take turns, so that a busy machine slows both.
    benchmark.pedantic(step, setup=plain, rounds=8, warmup_rounds=1)
    ratio = benchmark.stats.stats.min / min(plain_seconds[1:])
    benchmark.extra_info["ratio_to_plain"] = ratio
    print(f"\n{family}, one process: {ratio:.2f} x the plain functions ({min(plain_seconds) * 1e3:.0f} ms)")
    assert torch.isfinite(x.grad).all()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
