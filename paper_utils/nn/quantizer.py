r"""Vector quantizer with a codebook that follows the data by moving averages, and what keeps its codes alive.

Vectors are replaced by the nearest of K codes; gradients pass straight through. The codebook is no parameter: it moves after each training
batch towards the mean of the vectors that chose each code (van den Oord et al. 2017, appendix A.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from paper_utils.nn import whole_batch

UNUSED = ("keep", "official")
_GOLDEN = -7046029254386353131  # 2^64 over the golden ratio as a signed number: spreads the bits of a hash


@dataclass(frozen=True)
class QuantizerConfig:
    r"""Size and rule of a codebook; the defaults are those of the released TalkSHOW code (paper 08).

    Parameters
    ----------
    codes, dim
        K and the length of a code.
    decay
        :math:`\gamma` of the moving averages.
    epsilon
        Smoothing of the counts.
    commitment
        Factor of the commitment loss.
    unused
        What an update does to a code that nothing chose so far. ``"official"``: it becomes the zero vector, as in the released code, where 0 is
        divided by a smoothed count; all unused codes are then the same point and only the first of them can ever be chosen again.
        ``"keep"``: it stays where it is.
    least_count
        With ``"keep"``, codes whose averaged count is below this stay too: the smoothing would draw them towards zero.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    codes: int = 2048
    dim: int = 64
    decay: float = 0.99
    epsilon: float = 1e-5
    commitment: float = 0.25
    unused: str = "keep"
    least_count: float = 1e-3  # choice of ours: a hundred times epsilon, so that smoothing moves a code by 1 % at most

    def __post_init__(self) -> None:
        if self.codes < 2 or self.dim < 1:
            raise ValueError(f"quantizer: expected codes >= 2 and dim >= 1, found {self.codes} and {self.dim}")
        if not 0 <= self.decay < 1 or self.epsilon <= 0 or self.commitment < 0 or self.least_count < 0:
            raise ValueError(
                "quantizer: expected 0 <= decay < 1, epsilon > 0, commitment >= 0 and least_count >= 0, "
                f"found {self.decay}, {self.epsilon}, {self.commitment}, {self.least_count}"
            )
        if self.unused not in UNUSED:
            raise ValueError(f"unused: expected one of {', '.join(UNUSED)}, found {self.unused!r}")


class Quantized(NamedTuple):
    """What a quantizer makes of vectors.

    Parameters
    ----------
    vectors
        The chosen codes; their gradient goes to the input unchanged.
    codes
        Which ones.
    commitment
        Loss that keeps the input near its codes, its factor included.
    """

    vectors: Float[Tensor, "*batch dim"]
    codes: Int[Tensor, "*batch"]
    commitment: Float[Tensor, ""]


class VectorQuantizer(nn.Module):
    r"""Nearest code, straight-through gradient, moving averages.

    .. math::
        c = \arg\min_k \lVert z \rVert^2 + \lVert e_k \rVert^2 - 2\,z \cdot e_k, \qquad
        \tilde z = z + \mathrm{sg}(e_c - z), \qquad L = \beta\,\overline{(z - \mathrm{sg}(e_c))^2}

    After each training batch, in which code k was chosen :math:`n_k` times by vectors with sum :math:`m_k`,

    .. math::
        N_k \leftarrow \gamma N_k + (1 - \gamma) n_k, \quad M_k \leftarrow \gamma M_k + (1 - \gamma) m_k, \quad
        \hat N = \frac{N}{1 - \gamma^i}, \; \hat M = \frac{M}{1 - \gamma^i}, \quad
        e_k \leftarrow \hat M_k \Big/ \frac{(\hat N_k + \epsilon)\,n}{n + K\epsilon}, \; n = \textstyle\sum_k \hat N_k

    at update i. Codes are chosen before the update. Where several codes are equally near, the first is taken.

    Parameters
    ----------
    config
        Size and rule.
    seed
        Of the first codebook, Xavier-uniform.

    Attributes
    ----------
    codebook, counts, sums, updates
        :math:`e` (codes, dim), :math:`N`, :math:`M` and i. All four are part of the state, so that training resumes exactly.

    Examples
    --------
    >>> quantizer = VectorQuantizer(QuantizerConfig(codes=4, dim=2), seed=0).eval()
    >>> quantizer(quantizer.codebook[None]).codes.tolist()
    [[0, 1, 2, 3]]
    """

    codebook: Tensor
    counts: Tensor
    sums: Tensor
    updates: Tensor

    def __init__(self, config: QuantizerConfig, *, seed: int) -> None:
        super().__init__()
        self.config = config
        bound = (6 / (config.codes + config.dim)) ** 0.5
        uniform = torch.rand(config.codes, config.dim, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("codebook", bound * (2 * uniform - 1))
        self.register_buffer("counts", torch.zeros(config.codes))
        self.register_buffer("sums", torch.zeros(config.codes, config.dim))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def assign(self, vectors: Float[Tensor, "*batch dim"]) -> Int[Tensor, "*batch"]:
        """Number of the nearest code of each vector; of codes that are the same, the first."""
        distances = vectors.square().sum(-1, keepdim=True) + self.codebook.square().sum(1)
        nearest = (distances - 2 * vectors @ self.codebook.T).argmin(-1)
        # A matrix product may round its columns differently, so that of two equal codes the later one looks nearer.
        return first_equal_rows(self.codebook)[nearest]

    def forward(self, vectors: Float[Tensor, "*batch dim"]) -> Quantized:
        """Quantize; in training mode the codebook then moves. Always in the number format of the codebook, also under mixed precision."""
        with torch.autocast(vectors.device.type, enabled=False):
            vectors = vectors.to(self.codebook)
            codes = self.assign(vectors.detach())
            nearest = self.codebook[codes]
            commitment = self.config.commitment * functional.mse_loss(vectors, nearest)
            straight = vectors + (nearest - vectors).detach()
            if self.training:
                self._follow(vectors.detach(), codes)
        return Quantized(straight, codes, commitment)

    def lookup(self, codes: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch dim"]:
        """The vectors of codes.

        Raises
        ------
        ValueError
            If there is no such code.
        """
        if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < self.config.codes:
            raise ValueError(
                f"codes: expected 0 to {self.config.codes - 1}, found {int(codes.min())} to {int(codes.max())}; "
                "were they made with another codebook?"
            )
        return self.codebook[codes]

    @property
    def average_counts(self) -> Float[Tensor, " codes"]:
        r""":math:`\hat N`: how often a batch chose each code of late. Zero before the first update."""
        return self.counts / self._correction() if int(self.updates) else self.counts.clone()

    def _correction(self) -> Tensor:
        return (1 - self.config.decay ** self.updates.double()).to(self.counts)

    @torch.no_grad()
    def _follow(self, vectors: Tensor, codes: Tensor) -> None:
        config = self.config
        # Sums by a matrix product: the same bits every time, also on a GPU.
        chosen = functional.one_hot(codes.flatten(), config.codes).to(vectors)
        self.updates += 1
        # Where several processes share the batch, all codebooks follow the vectors of all processes.
        times, together = whole_batch.total(chosen.sum(0)), whole_batch.total(chosen.T @ vectors.flatten(0, -2))
        self.counts -= (self.counts - times) * (1 - config.decay)
        self.sums -= (self.sums - together) * (1 - config.decay)
        counts, sums = self.counts / self._correction(), self.sums / self._correction()
        total = counts.sum()
        smoothed = (counts + config.epsilon) / (total + config.codes * config.epsilon) * total
        moved = sums / smoothed[:, None]
        if config.unused == "keep":
            moved = torch.where((counts >= config.least_count)[:, None], moved, self.codebook)
        self.codebook.copy_(moved)

    # ------------------------------------------------------------------------------------------ codes that nobody chooses

    @torch.no_grad()
    def start_from(self, vectors: Float[Tensor, "*batch dim"], generator: torch.Generator) -> None:
        """Put every code on a random one of these vectors and forget the averages: a start from data.

        With fewer vectors than codes some codes coincide; the later of them are unused until `restart_unused` moves them.

        Parameters
        ----------
        vectors
            What the encoder makes of a batch.
        generator
            Source of the choice, on the CPU.

        Raises
        ------
        ValueError
            If there is no vector, or one is not finite.
        """
        self.codebook.copy_(_random_rows(vectors, self.config.codes, generator))
        for average in (self.counts, self.sums, self.updates):
            average.zero_()

    @torch.no_grad()
    def restart_unused(
        self, vectors: Float[Tensor, "*batch dim"], generator: torch.Generator, *, least_count: float = 1.0
    ) -> int:
        """Put codes that fewer than `least_count` vectors a batch chose of late on random ones of these vectors, with a count of 1.

        Parameters
        ----------
        vectors
            What the encoder makes of the current batch.
        generator
            Source of the choice, on the CPU.
        least_count
            On the scale of `average_counts`.

        Returns
        -------
        Number of codes that were moved.

        Raises
        ------
        ValueError
            If there is no vector, or one is not finite.
        """
        unused = (self.average_counts < least_count).nonzero()[:, 0]
        if len(unused):
            fresh = _random_rows(vectors, len(unused), generator)
            # The averages are stored without bias correction, so that a count of 1 is 1 - decay^i.
            weight = self._correction() if int(self.updates) else torch.zeros_like(self.counts[0])
            self.codebook[unused], self.counts[unused], self.sums[unused] = fresh, weight, weight * fresh
        return len(unused)


def _random_rows(vectors: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """As many of the vectors, none twice before all were taken."""
    rows = vectors.detach().reshape(-1, vectors.shape[-1])
    if not len(rows) or not torch.isfinite(rows).all():
        raise ValueError(
            f"codebook: expected finite vectors to put codes on, found {len(rows)} rows"
            f"{', some of them NaN or infinite' if len(rows) else ''}"
        )
    rounds = [torch.randperm(len(rows), generator=generator) for _ in range(-(-count // len(rows)))]
    return rows[torch.cat(rounds)[:count].to(rows.device)]


def first_equal_rows(table: Float[Tensor, "rows dim"]) -> Int[Tensor, " rows"]:
    r"""For each row the number of the first row that equals it, :math:`f_k = \min \{ j : e_j = e_k \}`; k where all rows differ.

    Rows are compared by a hash of their bits, which costs O(rows dim) and a sort, and has no branch that depends on values. A row that holds
    NaN stands for itself, as does one whose hash is that of an earlier row which it does not equal (a chance of 1e-13 for 2,048 rows).

    Examples
    --------
    >>> first_equal_rows(torch.tensor([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0], [3.0, 4.0]])).tolist()
    [0, 1, 0, 1]
    """
    rows, dim = table.shape
    plain = table.masked_fill(table == 0, 0.0)  # 0 and -0 are equal numbers with other bits
    bits = plain.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[table.element_size()]).long()
    # Odd multipliers; integers wrap round, so the sum has the same bits in any order.
    place = torch.arange(1, dim + 1, device=table.device)
    mixed = (bits ^ (bits >> 15)) * (place * _GOLDEN | 1)
    hashes, order = (mixed ^ (mixed >> 29)).sum(1).sort(stable=True)
    number = torch.arange(rows, device=table.device)
    begins = functional.pad(hashes.diff() != 0, (1, 0), value=True)
    group = torch.where(begins, number, 0).cummax(0).values
    first = torch.empty_like(order).scatter(0, order, order[group])
    return torch.where((table[first] == table).all(1), first, number)


def usage(codes: Int[Tensor, "*batch"], size: int) -> Int[Tensor, " size"]:
    """How often each of `size` codes occurs."""
    return torch.bincount(codes.flatten(), minlength=size)


def perplexity(codes: Int[Tensor, "*batch"], size: int) -> float:
    r"""Effective number of codes in use, from 1 (always the same) to K (all equally often).

    .. math:: \exp\Big(-\sum_k p_k \log p_k\Big), \qquad p_k = n_k / \textstyle\sum_j n_j

    Parameters
    ----------
    codes
        Of many sequences.
    size
        K.

    Raises
    ------
    ValueError
        If there is no code.

    Examples
    --------
    >>> round(perplexity(torch.tensor([0, 1, 2, 3, 3, 2, 1, 0]), 16), 6)
    4.0
    """
    if codes.numel() == 0:
        raise ValueError("perplexity: there are no codes")
    share = usage(codes, size).double() / codes.numel()
    return float(torch.exp(-torch.special.xlogy(share, share).sum()))
