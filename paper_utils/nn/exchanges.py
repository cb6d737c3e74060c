"""What the ranks of a class-parallel head say to each other: every collective operation, counted in bytes by kind.

`Ranks` makes the exchanges and counts them; `step_exchanges` says in closed form what a training step must exchange, for both families
of heads and for plain data parallelism. The two are checked against each other.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import torch.distributed as dist
from torch import Tensor

SCHEMES = ("softmax", "binary", "data parallel")
# Whole numbers of 8 bytes that each rank shows the others before a step (see `class_parallel.check_agreement`).
HEADER_NUMBERS = 9


@dataclass(frozen=True)
class Exchange:
    """One collective operation, seen from one rank.

    Parameters
    ----------
    kind
        What travels: ``"check"``, ``"labels"``, ``"features"``, ``"normaliser"``, ``"loss"``, ``"feature gradient"``,
        ``"bias gradient"``, ``"proxy gradient"``, ``"gradient norm"`` or ``"proxies"``.
    phase
        ``"forward"``, ``"backward"`` or ``"apart"`` (not part of a step's forward and backward pass).
    collective
        ``"all_gather"``, ``"all_reduce"`` or ``"reduce_scatter"``.
    size
        Bytes of the whole message: what `all_gather` leaves on every rank, what every rank puts into the other two.
    ranks
        Number of ranks that take part.
    """

    kind: str
    phase: str
    collective: str
    size: int
    ranks: int

    @property
    def sent(self) -> float:
        """Bytes that each rank sends if the message goes round in a ring, the least that any schedule needs.

        ``(ranks - 1) / ranks`` of the message, twice that for `all_reduce` (a `reduce_scatter`, then an `all_gather`).
        """
        return (2 if self.collective == "all_reduce" else 1) * self.size * (self.ranks - 1) / self.ranks


def sent_by_kind(exchanges: Counter[Exchange]) -> dict[str, float]:
    """Bytes that one rank sends, by kind of exchange, in order of appearance."""
    total: dict[str, float] = {}
    for exchange, times in exchanges.items():
        total[exchange.kind] = total.get(exchange.kind, 0.0) + times * exchange.sent
    return total


def step_exchanges(
    scheme: str,
    *,
    batch: int,
    dim: int,
    classes: int,
    ranks: int,
    itemsize: int = 4,
    bias: bool = True,
    check: bool = True,
) -> Counter[Exchange]:
    r"""What a training step exchanges for its head, in closed form.

    With S ranks, B samples over all ranks, features of width D, K classes and w bytes a number, the messages are

    =================== ======== ============== ====================== ============ ======= =============
    kind                phase    collective     bytes                  softmax      binary  data parallel
    =================== ======== ============== ====================== ============ ======= =============
    check               forward  all_gather     :math:`72 S`           yes          yes     no
    features            forward  all_gather     :math:`B D w`          yes          yes     no
    labels              forward  all_gather     :math:`8 B`            yes          yes     no
    normaliser: maximum forward  all_reduce     :math:`B w`            yes          no      no
    normaliser: sums    forward  all_reduce     :math:`2 B w`          yes          no      no
    loss                forward  all_reduce     :math:`w`              no           yes     no
    bias gradient       backward all_reduce     :math:`w`              no           yes     with a bias
    feature gradient    backward reduce_scatter :math:`B D w`          yes          yes     no
    proxy gradient      backward all_reduce     :math:`K D w`          no           no      yes
    =================== ======== ============== ====================== ============ ======= =============

    The sums are the row sums of exponentials together with the target logits, which only their owners know; a softmax rank then
    knows the whole loss. Sharding pays as soon as :math:`K > B`. What SphereFace2 saves on top is small in bytes
    (:math:`6 B w` sent against :math:`2 B D w`, a share of :math:`3 / D`) but it is *both* exchanges for which a softmax has to wait between the
    logits and their gradient: its ranks can go from the gathered features to the feature gradient without hearing of each other.
    (The loss is exchanged to be reported, no gradient depends on it.)

    Parameters
    ----------
    scheme
        ``"softmax"``, ``"binary"`` (SphereFace2), both class-parallel, or ``"data parallel"``: every rank has all proxies.
    batch
        Samples over all ranks.
    dim, classes, ranks
        D, K, S. K plays a role for data parallelism only.
    itemsize
        Bytes a number: 4, or 8 in float64.
    bias
        SphereFace2 has its shared bias (``"softmax"`` never has one).
    check
        The ranks compare their inputs first.

    Returns
    -------
    Counter
        Number of times of each `Exchange`; empty for one rank.

    Raises
    ------
    ValueError
        For an unknown scheme, a number that is not positive, or a batch that does not split evenly.

    References
    ----------
    Paper 05, section on the parallel classifier layer. The bytes are ours.

    Examples
    --------
    >>> step = step_exchanges("binary", batch=512, dim=512, classes=1_000_000, ranks=8)
    >>> whole = step_exchanges("data parallel", batch=512, dim=512, classes=1_000_000, ranks=8)
    >>> round(sum(sent_by_kind(whole).values()) / sum(sent_by_kind(step).values()))
    1949
    """
    if scheme not in SCHEMES:
        raise ValueError(f"scheme: expected one of {', '.join(SCHEMES)}; found {scheme!r}")
    for name, value in {"batch": batch, "dim": dim, "classes": classes, "ranks": ranks, "itemsize": itemsize}.items():
        if value < 1:
            raise ValueError(f"{name}: expected a positive number, found {value}")
    if batch % ranks:
        raise ValueError(f"batch: {batch} samples do not split evenly over {ranks} ranks; choose a multiple")
    if ranks == 1:
        return Counter()
    one = [("bias gradient", "backward", "all_reduce", itemsize)] if bias and scheme != "softmax" else []
    if scheme == "data parallel":
        made = [*one, ("proxy gradient", "backward", "all_reduce", classes * dim * itemsize)]
    else:
        between = {
            "softmax": [
                ("normaliser", "forward", "all_reduce", batch * itemsize),
                ("normaliser", "forward", "all_reduce", 2 * batch * itemsize),
            ],
            "binary": [("loss", "forward", "all_reduce", itemsize)],
        }[scheme]
        made = [
            *([("check", "forward", "all_gather", 8 * HEADER_NUMBERS * ranks)] if check else []),
            ("features", "forward", "all_gather", batch * dim * itemsize),
            ("labels", "forward", "all_gather", 8 * batch),
            *between,
            *one,
            ("feature gradient", "backward", "reduce_scatter", batch * dim * itemsize),
        ]
    return Counter(Exchange(*each, ranks) for each in made)


class Ranks:
    """The processes that share the classes, and the only place from which a head talks to them.

    Without `torch.distributed` initialised there is one rank and nothing is ever exchanged.

    Parameters
    ----------
    group
        Process group; the default group if not given.
    alone
        Be the only rank even if there are other processes.

    Attributes
    ----------
    rank, size
        Number of this process, number of all.
    exchanges
        How often each exchange was made so far, in the order of their first appearance; clear it to begin a new count.

    Raises
    ------
    ValueError
        If this process does not belong to `group`.
    """

    def __init__(self, group: dist.ProcessGroup | None = None, *, alone: bool = False) -> None:
        started = dist.is_available() and dist.is_initialized() and not alone
        self.group = group
        self.rank, self.size = (dist.get_rank(group), dist.get_world_size(group)) if started else (0, 1)
        if self.rank < 0:
            raise ValueError("group: this process is not one of its members; build the head on its members only")
        self.exchanges: Counter[Exchange] = Counter()

    def _count(self, kind: str, phase: str, collective: str, message: Tensor) -> None:
        size = message.numel() * message.element_size()
        self.exchanges[Exchange(kind, phase, collective, size, self.size)] += 1

    def all_gather(self, rows: Tensor, kind: str, phase: str) -> Tensor:
        """The rows of all ranks, one rank after the other; every rank must bring as many."""
        if self.size == 1:
            return rows
        everywhere = rows.new_empty(self.size * len(rows), *rows.shape[1:])
        dist.all_gather_single(everywhere, rows.contiguous(), group=self.group)
        self._count(kind, phase, "all_gather", everywhere)
        return everywhere

    def all_reduce(self, values: Tensor, kind: str, phase: str, *, largest: bool = False) -> Tensor:
        """The sum over ranks (the maximum with ``largest=True``) of tensors of one shape, the same bits on every rank."""
        if self.size == 1:
            return values
        total = values.detach().contiguous().clone()
        dist.all_reduce(total, dist.ReduceOp.MAX if largest else dist.ReduceOp.SUM, group=self.group)
        self._count(kind, phase, "all_reduce", total)
        return total

    def reduce_scatter(self, rows: Tensor, kind: str, phase: str) -> Tensor:
        """The sum over ranks of the rows of all ranks, of which each rank keeps its own part: `all_gather` backwards."""
        if self.size == 1:
            return rows
        own = rows.new_empty(len(rows) // self.size, *rows.shape[1:])
        dist.reduce_scatter_single(own, rows.contiguous(), group=self.group)
        self._count(kind, phase, "reduce_scatter", rows)
        return own
