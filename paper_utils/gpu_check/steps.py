"""One training step of a method, apart from its loop: what is trained, on which batch, with which loss. The unit that is compared and timed.

Weights and batches come from seeds and are made on the CPU, so the step is the same on every device.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric.plugins.precision import MixedPrecision, Precision
from torch import Tensor, nn

PRECISIONS = ("32-true", "bf16-mixed")
SIZES = ("tiny", "paper")
SEED = 0

Modules = Mapping[str, nn.Module]


@dataclass(frozen=True)
class Step:
    """One training step.

    Parameters
    ----------
    modules
        What is trained, by name.
    inputs
        Everything else, put on a device when it is called with one.
    loss
        Loss of the modules on the inputs. It draws all chance from generators that it makes anew, so two calls give the same.
    samples
        Samples of the batch, for the throughput.
    optimizer
        The method's own, over a list of parameters.
    compiled
        Names of the modules that `torch.compile` is tried on; empty: it is not.
    """

    modules: dict[str, nn.Module]
    inputs: Callable[[torch.device], Any]
    loss: Callable[[Modules, Any], Tensor]
    samples: int
    optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer]
    compiled: tuple[str, ...] = ()

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All that learns."""
        return [p for module in self.modules.values() for p in module.parameters() if p.requires_grad]


def chance(stream: int = 0) -> torch.Generator:
    """A generator of this package's seed."""
    return torch.Generator().manual_seed(1000 * SEED + stream)


def noise(*shape: int, stream: int = 0) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(shape, generator=chance(stream))


def whole(high: int, *shape: int, stream: int = 0) -> Tensor:
    """Whole numbers from 0 to ``high - 1``."""
    return torch.randint(high, shape, generator=chance(stream))


def sgd(rate: float, decay: float) -> Callable[[list[nn.Parameter]], torch.optim.Optimizer]:
    """Gradient descent with momentum 0.9."""
    return functools.partial(torch.optim.SGD, lr=rate, momentum=0.9, weight_decay=decay)


def adam(rate: float) -> Callable[[list[nn.Parameter]], torch.optim.Optimizer]:
    """Adam with PyTorch's defaults but for the rate."""
    return functools.partial(torch.optim.Adam, lr=rate)


class InPrecision(nn.Module):
    """A module that computes in a precision as `training.Run` makes it: Lightning Fabric's own casts and autocast around each call.

    Parameters
    ----------
    module
        Any.
    plugin
        Of Lightning Fabric.
    """

    def __init__(self, module: nn.Module, plugin: Precision) -> None:
        super().__init__()
        self.module, self.plugin = module, plugin

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The module's output in float32."""
        args, kwargs = self.plugin.convert_input((args, kwargs))
        with self.plugin.forward_context():
            output = self.module(*args, **kwargs)
        return self.plugin.convert_output(output)


def in_precision(modules: Modules, precision: str, device: torch.device) -> dict[str, nn.Module]:
    """The modules as a training run in `precision` would call them.

    Raises
    ------
    ValueError
        If the precision is unknown.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision: expected one of {', '.join(PRECISIONS)}, found {precision!r}")
    if precision == "32-true":
        return dict(modules)
    plugin = MixedPrecision("bf16-mixed", device=device.type)
    return {name: InPrecision(module, plugin) for name, module in modules.items()}


@contextlib.contextmanager
def full_float32() -> Iterator[None]:
    """A context in which float32 means float32: no TF32 in products and convolutions."""
    products, convolutions = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = products, convolutions


def moved(value: Any, device: torch.device) -> Any:
    """A tensor, module, or nest of them on a device; dictionaries, lists, tuples and dataclasses are taken apart, the rest stays as it is."""
    if isinstance(value, Tensor | nn.Module):
        return value.to(device)
    if isinstance(value, dict):
        return {name: moved(inner, device) for name, inner in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(moved(inner, device) for inner in value))
    if isinstance(value, list | tuple):
        return type(value)(moved(inner, device) for inner in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: moved(getattr(value, f.name), device) for f in dataclasses.fields(value) if f.init}
        return dataclasses.replace(value, **fields)
    return value


def without_dropout(modules: Modules) -> None:
    """Switch dropout off in place: devices have generators of their own, so what one drops another keeps."""
    for module in modules.values():
        for layer in module.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = 0.0
            elif isinstance(layer, nn.MultiheadAttention):
                layer.dropout = 0.0
