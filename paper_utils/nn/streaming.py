"""Networks that look ahead, run on a sequence that arrives in pieces: the joined outputs are those of the whole sequence."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class Reach(NamedTuple):
    """What an output sees: so many steps of input before its own first step, and so many after it."""

    before: int
    after: int


def encoder_reach(residual_layers: int) -> Reach:
    """Frames that a code of `motion_autoencoder.MotionEncoder` sees, counted from the first of its four.

    Examples
    --------
    >>> encoder_reach(2)
    Reach(before=25, after=28)
    """
    # Every stack reaches one step a convolution to either side; a halving reads steps 2r - 1 to 2r + 2.
    step = residual_layers + 1
    return Reach(7 * step + 4, 7 * step + 7)


def decoder_reach(residual_layers: int) -> Reach:
    """Codes that the four frames of a code see in `motion_autoencoder.MotionDecoder`.

    Examples
    --------
    >>> decoder_reach(2)
    Reach(before=6, after=6)
    """
    # Frames 4r to 4r + 3 through the stacks; step s of a doubled sequence reads steps (s - 2) / 2 to (s + 1) / 2, rounded inwards.
    step = residual_layers + 1
    before = ((step + 2) // 2 + step + 2) // 2 + step
    after = (2 + step // 2 + step + 1) // 2 + step
    return Reach(before, after)


class Streamed:
    """A network over (batch, channels, time) fed piece by piece.

    An output appears as soon as everything it sees has arrived, or the sequence has ended. The network must be in evaluation mode, since
    batch normalisation would otherwise see the pieces.

    Parameters
    ----------
    network
        Makes one unit of output from `unit` steps of input; units left over at the end are dropped. Its padding must be zeros.
    reach
        What a unit of output sees.
    unit
        Steps of input to a unit of output: 4 for an encoder that shortens four times, 1 for a decoder.

    Raises
    ------
    ValueError
        If the network is in training mode.

    Examples
    --------
    >>> smooth = torch.nn.AvgPool1d(3, stride=1, padding=1)
    >>> stream = Streamed(smooth.eval(), Reach(1, 1), 1)
    >>> x = torch.arange(6.0).view(1, 1, 6)
    >>> pieces = [stream.push(x[..., :2]), stream.push(x[..., 2:3]), stream.push(x[..., 3:], last=True)]
    >>> [piece.shape[2] for piece in pieces], torch.equal(torch.cat(pieces, 2), smooth(x))
    ([1, 1, 4], True)
    """

    def __init__(self, network: Callable[[Tensor], Tensor], reach: Reach, unit: int) -> None:
        if getattr(network, "training", False):
            raise ValueError("streaming needs a network in evaluation mode, found training mode; call .eval() on it")
        self._network, self._reach, self._unit = network, reach, unit
        self._context = -(-reach.before // unit)  # units of output whose input is kept for the next piece
        self._kept: Tensor | None = None
        self._arrived = self._done = 0  # steps of input, units of output
        self._ended = False

    def push(
        self, piece: Float[Tensor, "batch channels time"], *, last: bool = False
    ) -> Float[Tensor, "batch outputs ready"]:
        """What can be said now that `piece` has arrived; with `last` everything that is left.

        Raises
        ------
        ValueError
            If the sequence has ended before, or ends without a single output.
        """
        if self._ended:
            raise ValueError("the sequence has ended; make a new stream for the next one")
        kept = piece if self._kept is None else torch.cat([self._kept, piece], dim=2)
        self._arrived, self._ended = self._arrived + piece.shape[2], last
        seen = (self._arrived - 1 - self._reach.after) // self._unit + 1
        ready = self._arrived // self._unit if last else max(self._done, seen)
        if last and ready == 0:
            raise ValueError(f"the sequence ended after {self._arrived} steps; an output needs at least {self._unit}")
        begin = max(0, self._done - self._context)  # first unit whose input is still there
        if ready > self._done:
            outputs = self._network(kept)
            each = outputs.shape[2] // (kept.shape[2] // self._unit)
            outputs = outputs[..., (self._done - begin) * each : (ready - begin) * each]
        else:  # the network tells the shape of what there is nothing to say about yet
            outputs = self._network(piece.new_zeros(*piece.shape[:2], self._unit))[..., :0]
        self._done = ready
        self._kept = kept[..., (max(0, ready - self._context) - begin) * self._unit :]
        return outputs
