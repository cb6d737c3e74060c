r"""Loss and gradients of one step, on a device and in a precision, against float32 on the CPU.

.. math::
    \epsilon_L = \frac{|L' - L|}{|L|}, \qquad \alpha = \angle(g', g), \qquad \epsilon_n = \Big|\frac{|g'|}{|g|} - 1\Big|, \qquad
    \epsilon_p = \frac{|g'_p - g_p|}{|g_p| + |g| / 100}

over the whole gradient g and over each parameter tensor p; the last one finds a single layer whose gradient is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from paper_utils.gpu_check.steps import Step, full_float32, in_precision, without_dropout

SMALL = 0.01  # share of the whole gradient's norm below which one parameter's is not looked at closely
ROUNDING = 2.0**-9 / math.sqrt(3)  # standard deviation of rounding to the 8 bits of bfloat16, relative


@dataclass(frozen=True)
class Tolerance:
    """How far a device and precision may be from float32 on the CPU.

    Parameters
    ----------
    loss
        Largest relative difference of the loss.
    angle
        Largest angle between the gradients, radians.
    norm
        Largest relative difference of their norms.
    parameter
        Largest relative difference of one parameter's gradient.
    reason
        Why so much.
    rounding
        Where it is above 0, each limit is at least so many times the difference that the control makes: the same step in float32 with its
        weights moved by the rounding of bfloat16.
    """

    loss: float
    angle: float
    norm: float
    parameter: float
    reason: str
    rounding: float = 0.0


@dataclass(frozen=True)
class Gradients:
    """What one step gives: its loss, and the gradient of each parameter by name (None: it got none), float64 on the CPU."""

    loss: float
    values: Mapping[str, Tensor | None]


@dataclass(frozen=True)
class Agreement:
    """Differences between two steps, see the head of this file; infinite where one is not finite or a gradient is missing."""

    loss: float
    angle: float
    norm: float
    parameters: Mapping[str, float]


def gradients(
    build: Callable[[str], Step],
    device: torch.device,
    precision: str = "32-true",
    *,
    size: str = "tiny",
    rounded: bool = False,
) -> Gradients:
    """Run one step without dropout.

    Parameters
    ----------
    build
        Makes the step.
    device, precision, size
        Where and how.
    rounded
        Move every weight by noise as large as the rounding of bfloat16 first: the control.
    """
    step = build(size)
    without_dropout(step.modules)
    if rounded:
        chance = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in step.parameters:
                parameter.mul_(1 + ROUNDING * torch.randn(parameter.shape, generator=chance))
    for module in step.modules.values():
        module.to(device).train()
    with full_float32():
        loss = step.loss(in_precision(step.modules, precision, device), step.inputs(device))
        loss.backward()
    values = {
        f"{name}.{key}": None if parameter.grad is None else parameter.grad.detach().cpu().double()
        for name, module in step.modules.items()
        for key, parameter in module.named_parameters()
        if parameter.requires_grad
    }
    return Gradients(float(loss.detach().cpu()), values)


def agreement(found: Gradients, reference: Gradients) -> Agreement:
    """How far `found` is from `reference`."""
    a, b = ({n: v for n, v in side.values.items() if v is not None} for side in (found, reference))
    finite = math.isfinite(found.loss) and all(bool(torch.isfinite(value).all()) for value in a.values())
    if a.keys() != b.keys() or not finite:
        lost = dict.fromkeys(a.keys() ^ b.keys(), math.inf)
        lost |= {name: math.inf for name, value in a.items() if not torch.isfinite(value).all()}
        lost = lost or dict.fromkeys(b, math.inf)
        return Agreement(math.inf, math.inf, math.inf, lost)
    mine, true = (torch.cat([side[name].flatten() for name in b]) for side in (a, b))
    size, wanted = float(mine.norm()), float(true.norm())
    apart = float((mine / max(size, 1e-300) - true / max(wanted, 1e-300)).norm())
    return Agreement(
        loss=abs(found.loss - reference.loss) / max(abs(reference.loss), 1e-300),
        angle=2 * math.asin(min(1.0, apart / 2)),
        norm=abs(size / max(wanted, 1e-300) - 1),
        parameters={name: float((a[name] - b[name]).norm() / (b[name].norm() + SMALL * wanted)) for name in b},
    )


def judged(found: Agreement, tolerance: Tolerance, control: Agreement | None = None) -> dict:
    """Every difference with its limit, and whether all are kept.

    Returns
    -------
    dict
        ``passed``; ``loss``, ``angle``, ``norm`` and ``parameter``, each with ``found``, ``limit`` and ``passed``; of ``parameter`` the one
        that comes nearest to its limit or breaks it most, with its ``name``.
    """
    factor = tolerance.rounding if control is not None else 0.0

    def limit(name: str, of_control: float) -> float:
        most = math.pi / 2 if name == "angle" else math.inf  # beyond it a step would lead uphill
        return min(most, max(getattr(tolerance, name), factor * of_control))

    result = {}
    for name in ("loss", "angle", "norm"):
        bound = limit(name, getattr(control, name) if factor else 0.0)
        value = getattr(found, name)
        result[name] = {"found": value, "limit": bound, "passed": value <= bound}
    bounds = {
        name: limit("parameter", control.parameters.get(name, 0.0) if factor else 0.0) for name in found.parameters
    }
    worst = max(found.parameters, key=lambda name: found.parameters[name] / bounds[name])
    value = found.parameters[worst]
    result["parameter"] = {"name": worst, "found": value, "limit": bounds[worst], "passed": value <= bounds[worst]}
    return {"passed": all(part["passed"] for part in result.values()), **result, "reason": tolerance.reason}
