"""Which device to run on. Importing this does not import torch; choosing a device does."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

DEVICES = ("auto", "cpu", "cuda", "mps")


def check_name(name: str) -> str:
    """`name` itself if it is one of `DEVICES`, else a ``ValueError`` that lists them."""
    if name not in DEVICES:
        raise ValueError(f"unknown device {name!r}; valid: {', '.join(DEVICES)}")
    return name


def choose_device(name: str = "auto") -> torch.device:
    """The device of a name; ``"auto"`` takes cuda, then mps, then cpu.

    Raises
    ------
    ValueError
        If the name is unknown, or the device is not there; the message lists the valid names.
    """
    import torch

    check_name(name)
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(candidate for candidate, there in present.items() if there)
    if not present[name]:
        there = ", ".join(candidate for candidate, found in present.items() if found)
        raise ValueError(
            f"device {name!r} was asked for, but torch {torch.__version__} finds none here; present: {there}"
        )
    return torch.device(name)
