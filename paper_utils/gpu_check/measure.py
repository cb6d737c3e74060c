"""Time and memory of training steps: the median of steps after a warm-up, and the most memory that was allocated during one."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from paper_utils.gpu_check.steps import Step, full_float32, in_precision

MIB = 2**20
WARM_UP = 3  # steps; the first ones choose kernels and fill the allocator
MOST_STEPS, LEAST_STEPS = 30, 5


class Meter:
    """Clock and memory of a device. On the CPU, where torch does not count memory, only the clock.

    Parameters
    ----------
    device
        ``cuda`` or ``cpu``.
    seconds
        For how long one thing is timed, though at least five and at most thirty times.
    """

    def __init__(self, device: torch.device, seconds: float = 4.0) -> None:
        self.device, self.seconds, self.on_gpu = device, seconds, device.type == "cuda"

    def once(self, work: Callable[[], Any]) -> float:
        """Milliseconds of one call: on a GPU between two events in its queue."""
        if not self.on_gpu:
            began = time.perf_counter()
            work()
            return (time.perf_counter() - began) * 1e3
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        work()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end)

    def run(self, work: Callable[[], Any]) -> dict[str, float | int | None]:
        """Warm up, then time.

        Returns
        -------
        dict
            ``ms`` (median), ``fastest_ms``, ``slowest_ms``, ``steps`` (how many were timed) and ``peak_mib``, the most memory allocated
            during them, weights and batch included; None where it is not counted.
        """
        for _ in range(WARM_UP):
            work()
        if self.on_gpu:
            torch.cuda.synchronize(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
        times: list[float] = []
        began = time.perf_counter()
        while len(times) < LEAST_STEPS or (len(times) < MOST_STEPS and time.perf_counter() - began < self.seconds):
            times.append(self.once(work))
        peak = torch.cuda.max_memory_allocated(self.device) / MIB if self.on_gpu else None
        return {
            "ms": statistics.median(times), "fastest_ms": min(times), "slowest_ms": max(times), "steps": len(times), "peak_mib": peak,
        }  # fmt: skip


def training_step(step: Step, device: torch.device, precision: str, backend: str | None = None) -> Callable[[], None]:
    """A whole update, ready to be repeated: zero, forward, backward, optimiser.

    Parameters
    ----------
    step
        What to train.
    device, precision
        Where and how.
    backend
        Of `torch.compile`, which then compiles the modules that the step names; None: nothing is compiled.
    """
    for module in step.modules.values():
        module.to(device).train()
    optimizer = step.optimizer(step.parameters)
    for group in optimizer.param_groups:
        group["lr"] = 0.0  # an update costs the same, and weights that learn noise would diverge
    inputs = step.inputs(device)
    modules = {
        name: torch.compile(module, backend=backend) if backend and name in step.compiled else module
        for name, module in step.modules.items()
    }
    modules = in_precision(modules, precision, device)

    def update() -> None:
        optimizer.zero_grad()
        step.loss(modules, inputs).backward()
        optimizer.step()

    return update


def speed(
    step: Step, device: torch.device, precision: str, *, seconds: float = 4.0, backend: str | None = None
) -> dict[str, float | int | None]:
    """Throughput and memory of a step; numbers as `Meter.run`, and ``samples`` of a batch, ``samples_per_s``."""
    with full_float32():
        found = Meter(device, seconds).run(training_step(step, device, precision, backend))
    return found | {"samples": step.samples, "samples_per_s": 1e3 * step.samples / found["ms"]}
