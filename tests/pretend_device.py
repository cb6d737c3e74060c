"""A device that does not exist: tensors on it are computed on the CPU, and every operation is refused that a GPU would refuse.

Run as a program it takes the training step, and the training loop, of each method to that device and prints as JSON what was refused, how often a
step waited for the device, and which operations were in float64. Values are real, so steps that look at their data run as well
(FakeTensorMode cannot do that, and on a build of torch without CUDA it cannot walk a graph back). It lives in a process of its own: the
device, once registered, stays.
"""

import json
import sys
import traceback
from collections import Counter
from pathlib import Path

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

NAME = "pretend"
aten = torch.ops.aten
# The CPU may index on a device, not the other way round.
INDEXING = {aten.index.Tensor, aten.index_put_.default, aten.index_put.default, aten._index_put_impl_.default}
# Operations whose result's shape or value the program must know: it waits until the device has caught up.
WAITING = {aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default, aten.equal.default}
WAITING |= {
    aten._unique2.default,
    aten.unique_consecutive.default,
    aten.repeat_interleave.Tensor,
    aten.bincount.default,
}


class MismatchError(RuntimeError):
    """What a GPU would refuse."""


class OnDevice(torch.Tensor):
    """A tensor of the device; `held` is its content on the CPU."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, real: torch.Tensor) -> "OnDevice":
        self = torch.Tensor._make_wrapper_subclass(
            cls, real.shape, real.stride(), real.storage_offset(), dtype=real.dtype, device=f"{NAME}:0",
            requires_grad=False,
        )  # fmt: skip
        self.held = real.detach()
        return self

    def numpy(self, *_: object, **__: object) -> None:
        raise MismatchError("numpy: a tensor of a device was handed to NumPy; call .cpu() first")

    __array__ = numpy

    def tolist(self) -> list:
        """Through the CPU, which waits."""
        return self.cpu().tolist()

    def new_tensor(self, data: object, **options: object) -> torch.Tensor:
        """By way of the CPU, see `FromLists`; a gradient's thread does not know that one."""
        return torch.tensor(data, **({"dtype": self.dtype} | options)).to(self.device)

    def __repr__(self, **_: object) -> str:
        return f"OnDevice({tuple(self.shape)}, {self.dtype})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise MismatchError(f"{func}: used outside of Pretend")


class Pretend(TorchDispatchMode):
    """While it is active tensors can be on the device; `waits` and `doubles` count what happens there, by operation."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self.doubles: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func is aten._fused_sdp_choice.default:
            return 0  # attention by plain products
        func = KERNELS.get(func, func)
        flat, spec = pytree.tree_flatten((args, kwargs))
        tensors = [value for value in flat if isinstance(value, torch.Tensor)]
        here = [value for value in tensors if isinstance(value, OnDevice)]
        target = self.target(func, args, kwargs, tensors, bool(here))
        self.check_generator(func, kwargs, target)
        if here and (self.waits_for(func, args) or self.leaves(func, args, target)):
            self.waits[name(func) + caller()] += 1
        args, kwargs = pytree.tree_unflatten([v.held if isinstance(v, OnDevice) else v for v in flat], spec)
        if "device" in kwargs:
            kwargs["device"] = torch.device("cpu")
        result = func(*args, **kwargs)
        known = {id(value.held): value for value in here}

        def wrapped(value: object) -> object:
            if not isinstance(value, torch.Tensor) or isinstance(value, OnDevice):
                return value
            if id(value) in known:
                assert known[id(value)].shape == value.shape, f"{func} resizes"
                return known[id(value)]
            if not target:
                return value
            if value.dtype == torch.float64 and value.ndim:
                self.doubles[name(func) + caller()] += 1
            return OnDevice(value)

        return pytree.tree_map(wrapped, result)

    def target(self, func, args, kwargs, tensors, any_here) -> bool:
        """Whether the result is on the device, or an error if the operands are not where they must be."""
        if "device" in kwargs and kwargs["device"] is not None:
            on_device = torch.device(kwargs["device"]).type == NAME
            if func is aten._to_copy.default or not tensors:
                return on_device
        if func in (aten.copy_.default, aten._to_copy.default):
            return isinstance(args[0], OnDevice)
        if func in INDEXING:
            values = [args[0], *(args[2:3] if len(args) > 2 else [])]
            inner = [index for index in args[1] if isinstance(index, OnDevice)]
            if inner and not isinstance(args[0], OnDevice):
                raise MismatchError(f"{func}: a tensor of the CPU indexed by one of the device")
            tensors = [value for value in values if isinstance(value, torch.Tensor)]
        elsewhere = [value for value in tensors if not isinstance(value, OnDevice) and value.ndim]
        if any_here and elsewhere:
            shapes = ", ".join(f"{'device' if isinstance(v, OnDevice) else 'CPU'} {tuple(v.shape)}" for v in tensors)
            raise MismatchError(f"{func}: tensors of the device and of the CPU together: {shapes}")
        return any_here

    @staticmethod
    def check_generator(func, kwargs, target: bool) -> None:
        generator = kwargs.get("generator")
        if target and generator is not None and generator.device.type != NAME:
            raise MismatchError(f"{func}: a generator of the {generator.device.type} draws on the device")

    @staticmethod
    def waits_for(func, args) -> bool:
        if func in WAITING:
            return True
        return func in INDEXING and any(v is not None and v.dtype in (torch.bool, torch.uint8) for v in args[1])

    @staticmethod
    def leaves(func, args, target: bool) -> bool:
        """Whether numbers go from the device to the CPU."""
        if func is aten.copy_.default:
            return not isinstance(args[0], OnDevice)
        return func is aten._to_copy.default and not target


def name(func) -> str:
    """Of an operation."""
    return func.overloadpacket.__name__ if hasattr(func, "overloadpacket") else func.__name__


def fused_lstm_cell(from_input, from_hidden, cell, input_bias=None, hidden_bias=None):
    """The one kernel that these steps need and the CPU does not have: a step of an LSTM, and what its gradient reads."""
    gates = from_input + from_hidden
    for bias in (input_bias, hidden_bias):
        gates = gates if bias is None else gates + bias
    let_in, keep, new, let_out = gates.chunk(4, 1)
    let_in, keep, new, let_out = let_in.sigmoid(), keep.sigmoid(), new.tanh(), let_out.sigmoid()
    cell = keep * cell + let_in * new
    return let_out * cell.tanh(), cell, torch.cat([let_in, keep, new, let_out], 1)


def fused_lstm_cell_gradient(to_hidden, to_cell, before, cell, workspace, has_bias):
    """Gradients of the gates, of the cell before, and of the biases."""
    let_in, keep, new, let_out = workspace.chunk(4, 1)
    shown = cell.tanh()
    to_hidden = torch.zeros_like(cell) if to_hidden is None else to_hidden
    total = to_hidden * let_out * (1 - shown**2) + (0 if to_cell is None else to_cell)
    gates = torch.cat(
        [
            total * new * let_in * (1 - let_in), total * before * keep * (1 - keep),
            total * let_in * (1 - new**2), to_hidden * shown * let_out * (1 - let_out),
        ], 1,
    )  # fmt: skip
    return gates, total * keep, gates.sum(0) if has_bias else None


KERNELS = {
    aten._thnn_fused_lstm_cell.default: fused_lstm_cell,
    aten._thnn_fused_lstm_cell_backward_impl.default: fused_lstm_cell_gradient,
}


def caller() -> str:
    """Where in the package the running operation was called."""
    for frame in reversed(traceback.extract_stack()):
        if "paper_utils" in frame.filename:
            return f" at {Path(frame.filename).name}:{frame.lineno}"
    return ""


class FromLists(TorchFunctionMode):
    """Lists become tensors on the CPU and are moved; torch itself would ask the device for memory, which it does not have."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        from_list = func in (torch.tensor, torch.as_tensor) and not isinstance(args[0], torch.Tensor)
        if from_list and torch.device(kwargs.get("device") or "cpu").type == NAME:
            return func(*args, **(kwargs | {"device": "cpu"})).to(kwargs["device"])
        if func is torch.Tensor.quantile and isinstance(args[0], OnDevice):  # changes shapes in place inside
            return OnDevice(args[0].held.quantile(*args[1:], **kwargs))
        return func(*args, **kwargs)


def reported(work) -> dict:
    """Run something on the device; what it waited for, and why it was refused."""
    mode, error = Pretend(), None
    try:
        with mode, FromLists():
            work()
    except Exception as raised:
        error = f"{type(raised).__name__}: {str(raised)[:300]}{caller_of(raised)}"
    return {"error": error, "waits": dict(mode.waits), "doubles": dict(mode.doubles)}


def caller_of(error: BaseException) -> str:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "paper_utils" in f.filename]
    return f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""


class Module(_DummyBackendModule):
    """What torch asks a kind of device."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


def register() -> torch.device:
    """Make the device known to torch."""
    _setup_privateuseone_for_python_backend(NAME, backend_module=Module())
    move = torch.nn.Module._apply

    def swapping(module: torch.nn.Module, *args: object, **kwargs: object) -> torch.nn.Module:
        # Parameters stay the objects that an optimiser knows, as they do where a real device is.
        before = torch.__future__.get_swap_module_params_on_conversion()
        torch.__future__.set_swap_module_params_on_conversion(True)
        try:
            return move(module, *args, **kwargs)
        finally:
            torch.__future__.set_swap_module_params_on_conversion(before)

    torch.nn.Module._apply = swapping
    return torch.device(f"{NAME}:0")


def reported_step(case, device) -> dict:
    """Forward, backward and update of a case, whose preparation is not counted."""
    from paper_utils.gpu_check import measure

    prepared: list = []

    def prepare() -> None:
        prepared.append(measure.training_step(case.build("tiny"), device, "32-true"))
        prepared[0]()  # the first step makes what later ones find made

    found = reported(prepare)
    return found if found["error"] else reported(prepared[0])


class WrongGradient(torch.autograd.Function):
    """A gradient that makes a tensor and forgets where."""

    @staticmethod
    def forward(ctx, values: torch.Tensor) -> torch.Tensor:  # noqa: ARG004
        return values * 2

    @staticmethod
    def backward(ctx, upstream: torch.Tensor) -> torch.Tensor:  # noqa: ARG004
        return upstream * torch.full(upstream.shape, 2.0)


def self_tests(device) -> dict:
    """Faults that must be refused, and things that must not."""
    there, here = torch.ones(3).to(device), torch.ones(3)

    def waits() -> None:
        assert float((there * 2).sum()) == 6

    return {
        "sum of two devices": reported(lambda: there + here),
        "list of two devices": reported(lambda: torch.cat([there, here])),
        "index of another device": reported(lambda: here[torch.zeros(2, dtype=torch.long).to(device)]),
        "numpy": reported(lambda: there.numpy()),
        "generator": reported(lambda: torch.rand(3, device=device, generator=torch.Generator())),
        "later, in a gradient": reported(lambda: WrongGradient.apply(there.requires_grad_()).sum().backward()),
        "allowed: number of the CPU": reported(lambda: there * torch.tensor(2.0)),
        "allowed: index of the CPU": reported(lambda: there[torch.tensor([0, 1])]),
        "allowed: moved": reported(lambda: there + here.to(device)),
        "allowed: waits": reported(waits),
    }


def main() -> None:
    torch.set_num_threads(1)
    device = register()
    with Pretend():
        found = {"self": self_tests(device)}
    from paper_utils.gpu_check import cases

    only = sys.argv[1:]
    found["steps"] = {
        case.name: reported_step(case, device)
        for case in cases.CASES
        if not only or any(part in case.name for part in only)
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
