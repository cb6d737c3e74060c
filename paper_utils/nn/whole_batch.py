r"""One batch shared by several processes: each computes its own rows, and whatever couples the rows sees all of them.

In a step of `paper_utils.training.Run` with W processes, process r holds the rows r, r + W, ... of the batch. `own` cuts them out of the whole
batch, `gather` puts the rows of all processes together again, with gradients. Random numbers are drawn for the whole batch and cut by `own`, so
they do not depend on W. Outside of a step, and with one process, all functions give back what they got.

Gradients: every process differentiates its own loss :math:`L_r`, and data-parallel training averages over processes. `gather` passes back the
sum over processes of what arrives, so that the average is the gradient of :math:`\frac1W \sum_r L_r`, the loss of the whole batch, where each
:math:`L_r` is a mean over own rows, or the same function of the whole batch everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
import torch.distributed as dist
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

_SHARE: ContextVar[tuple[int, int]] = ContextVar("share of the batch", default=(0, 1))


@contextmanager
def shared_by(processes: int, rank: int) -> Iterator[None]:
    """Within it the batch is shared by so many processes, of which this is number `rank`; `paper_utils.training.Run` enters it for each step."""
    before = _SHARE.get()
    _SHARE.set((rank, processes))
    try:
        yield
    finally:
        _SHARE.set(before)


def sharing() -> int:
    """Number of processes that share the batch."""
    return _SHARE.get()[1]


def count(rows: Shaped[Tensor, "rows ..."]) -> int:
    """Number of rows of the whole batch, of which this process holds `rows`."""
    return len(rows) * sharing()


def own(batch: Shaped[Tensor, "batch ..."]) -> Shaped[Tensor, "rows ..."]:
    """This process's rows of the whole batch.

    Raises
    ------
    ValueError
        If the batch does not split evenly (means of unequal parts would not average to the mean).

    Examples
    --------
    >>> with shared_by(2, rank=1):
    ...     own(torch.arange(6)).tolist()
    [1, 3, 5]
    """
    rank, processes = _SHARE.get()
    if processes == 1:
        return batch
    if len(batch) % processes:
        raise ValueError(f"a batch of {len(batch)} does not split evenly over {processes} processes; choose a multiple")
    return batch[rank::processes]


def gather(rows: Shaped[Tensor, "rows ..."]) -> Shaped[Tensor, "batch ..."]:
    """The rows of all processes in the order of the batch; every process must call it with as many rows."""
    if sharing() == 1:
        return rows
    return _Gathered.apply(rows, *_SHARE.get())


def own_pairs(
    first: Int[Tensor, " pairs"], second: Int[Tensor, " pairs"]
) -> tuple[Int[Tensor, " own_pairs"], Int[Tensor, " own_pairs"]]:
    """Of pairs of rows of the whole batch, those whose first row is here: its number here, and the second one's in the whole batch."""
    rank, processes = _SHARE.get()
    if processes == 1:
        return first, second
    here = first % processes == rank
    return first[here] // processes, second[here]


def total(values: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """Sum over processes, the same bits on each; gradients are summed too."""
    return values if sharing() == 1 else _Summed.apply(values)


def mean_of_some(values: Float[Tensor, " own_values"], among_all: int) -> Float[Tensor, ""]:
    """What averages over processes to the mean of `among_all` values, of which this process holds some, others possibly more."""
    return values.mean() if sharing() == 1 else values.sum() * (sharing() / among_all)


class _Gathered(torch.autograd.Function):
    """Forward: rows of all processes, interleaved. Backward: own rows of the sum over processes."""

    @staticmethod
    def forward(ctx, rows, rank, processes):
        ctx.rank, ctx.processes = rank, processes
        parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(processes)]
        dist.all_gather(parts, rows.contiguous())
        return torch.stack(parts, dim=1).flatten(0, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        gradient = gradient.contiguous().clone()
        dist.all_reduce(gradient)
        return gradient[ctx.rank :: ctx.processes], None, None


class _Summed(torch.autograd.Function):
    """Forward and backward: the sum over processes."""

    @staticmethod
    def forward(ctx, values):  # noqa: ARG004
        values = values.contiguous().clone()
        dist.all_reduce(values)
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):  # noqa: ARG004
        gradient = gradient.contiguous().clone()
        dist.all_reduce(gradient)
        return gradient


# ------------------------------------------------------------------------------------------------ layers that couple the rows


def couple_(module: nn.Module) -> None:
    """Make batch normalisation and dropout layers of a module those of the whole batch; parameters, buffers and their names stay.

    PyTorch's own ``SyncBatchNorm`` runs on GPUs only; these run on every device.
    """
    for layer in module.modules():
        if type(layer) in _COUPLED:
            layer.__class__ = _COUPLED[type(layer)]


class _Normalised:
    """Batch normalisation with the statistics of the whole batch, each over as many values a process."""

    def forward(self, x: Float[Tensor, "batch channels ..."]) -> Float[Tensor, "batch channels ..."]:
        if sharing() == 1 or not self.training:
            return super().forward(x)
        values, over = x.to(torch.promote_types(x.dtype, torch.float32)), [0, *range(2, x.ndim)]
        size = values.numel() // values.shape[1] * sharing()
        shape = (1, -1, *[1] * (x.ndim - 2))
        mean = total(values.sum(over)) / size
        centred = values - mean.view(shape)
        variance = total(centred.square().sum(over)) / size
        self._remember(mean.detach(), variance.detach() * size / (size - 1))
        y = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            y = y * self.weight.view(shape) + self.bias.view(shape)
        return y.to(x.dtype)

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        self.num_batches_tracked += 1
        share = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean), share)
        self.running_var.lerp_(variance.to(self.running_var), share)


class _Normalised1d(_Normalised, nn.BatchNorm1d):
    pass


class _Normalised2d(_Normalised, nn.BatchNorm2d):
    pass


class _Dropout(nn.Dropout):
    def forward(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        return dropout(x, self.p, training=self.training)


_COUPLED = {nn.BatchNorm1d: _Normalised1d, nn.BatchNorm2d: _Normalised2d, nn.Dropout: _Dropout}


def dropout(x: Float[Tensor, "batch ..."], probability: float, *, training: bool) -> Float[Tensor, "batch ..."]:
    """Dropout from torch's own random numbers, which must be the same in all processes; they are drawn for the whole batch."""
    if sharing() == 1 or not training or not probability:
        return functional.dropout(x, probability, training)
    return x * own(functional.dropout(x.new_ones(count(x), *x.shape[1:]), probability))
