r"""A gated PixelCNN over a grid of (time, part), and a sampler that draws from it row by row without computing anything twice.

Rows are steps of time, the two columns are parts of a person: body, then hands. A vertical stack sees earlier rows of both columns, a
horizontal stack adds what stands to the left in the same row. Names and shapes of parameters are those of the released TalkSHOW code
(paper 08). With two columns the convolutions are small matrix products over (part, channel), which the sampler shares with the network.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from paper_utils.nn.temporal import seeded

PARTS = 2
VARIANTS = ("cross", "independent")
MASKED_GRADIENTS = ("zero", "official")


@dataclass(frozen=True)
class PixelCnnConfig:
    """Size and variant; the defaults are those of the released code of paper 08.

    Parameters
    ----------
    codes
        Codes of each part; both share one embedding and one head.
    width, layers, head
        Channels of the grid, layers, channels of the head's hidden layer.
    first_kernel, kernel
        Nominal kernels in time; a row sees kernel // 2 rows before its own, the first layer not its own.
    speakers
        Number of classes that shift every gate.
    audio
        Channels of the sound features of a row; 0: no sound.
    variant
        ``"cross"``: every column sees both columns' past, and hands see the body of their own row. ``"independent"``: the ablation, each
        column sees its own past only; both share all weights.
    part_vector
        Adds a learned vector for each column to its sound features. Without it nothing tells the columns of the independent variant apart,
        which then give both the same distribution after the same past: a handicap of the released ablation.
    masked_gradient
        The first layer's forbidden taps are zero. ``"official"``: they still have a gradient, which counts in the norm that is clipped,
        since the released code zeroes the weights in place. ``"zero"``: they have none.

    Raises
    ------
    ValueError
        If a number is out of range, or sound or a part vector is asked for where there is no place for it.
    """

    codes: int = 2048
    width: int = 256
    layers: int = 15
    head: int = 512
    first_kernel: int = 7
    kernel: int = 3
    speakers: int = 4
    audio: int = 256
    variant: str = "cross"
    part_vector: bool = False
    masked_gradient: str = "zero"

    def __post_init__(self) -> None:
        if min(self.codes, self.width, self.layers, self.head, self.speakers) < 1 or self.audio < 0:
            raise ValueError(
                "pixelcnn: expected codes, width, layers, head and speakers >= 1 and audio >= 0, found "
                f"{self.codes}, {self.width}, {self.layers}, {self.head}, {self.speakers}, {self.audio}"
            )
        if self.first_kernel < 3 or self.kernel < 1:
            raise ValueError(
                f"pixelcnn: expected first_kernel >= 3 and kernel >= 1, found {self.first_kernel}, {self.kernel}"
            )
        for name, valid in (("variant", VARIANTS), ("masked_gradient", MASKED_GRADIENTS)):
            if getattr(self, name) not in valid:
                raise ValueError(f"{name}: expected one of {', '.join(valid)}, found {getattr(self, name)!r}")
        if self.audio and self.layers < 2:
            raise ValueError("pixelcnn: sound enters before the second layer, found 1 layer; use 2 or more")
        if self.part_vector and not self.audio:
            raise ValueError("pixelcnn: the part vector is added to sound features, but audio is 0")

    @property
    def window(self) -> int:
        """Rows of the past that a code depends on: those of the first layer, and kernel // 2 more a layer."""
        return self.first_kernel // 2 + (self.layers - 1) * (self.kernel // 2)

    @property
    def audio_window(self) -> int:
        """Rows of sound before its own that a code depends on."""
        return (self.layers - 1) * (self.kernel // 2)


def gate(x: Float[Tensor, "*batch doubled"]) -> Float[Tensor, "*batch width"]:
    r""":math:`G(a \,|\, b) = \tanh(a)\,\sigma(b)`, the two halves of the channels."""
    a, b = x.chunk(2, dim=-1)
    return a.tanh() * b.sigmoid()


def _pointwise(x: Tensor, layer: nn.Module) -> Tensor:
    """A convolution over one cell, on (batch, row, part, channel)."""
    return functional.linear(x, layer.weight.flatten(1), layer.bias)


class GatedLayer(nn.Module):
    r"""One layer of both stacks.

    .. math::
        v_t &= \sum_{i=0}^{k/2} V_i\, x^v_{t-i} + b, & x^v &\leftarrow G(v + u_s) \\
        w_{t,j} &= H_0\, x^h_{t,j} + H_1\, x^h_{t,j-1} + b, & x^h &\leftarrow R\,G(A v + w + u_s) + x^h

    with :math:`V_i` over both columns and :math:`u_s` of the speaker. The first layer has :math:`V_0 = H_0 = 0` (it must not see what it
    predicts) and adds no :math:`x^h`. The independent variant has no horizontal stack, :math:`V_i` within a column, and
    :math:`x^v \leftarrow R\,G(v + u_s) + x^v`.

    Parameters
    ----------
    config
        Of the whole network.
    first
        Whether it is the first layer.
    """

    def __init__(self, config: PixelCnnConfig, *, first: bool) -> None:
        super().__init__()
        width, self.first, self.cross = config.width, first, config.variant == "cross"
        self._counted = config.masked_gradient == "official"
        rows = (config.first_kernel if first else config.kernel) // 2 + 1
        self.class_cond_embedding = nn.Embedding(config.speakers, 2 * width)
        self.vert_stack = nn.Conv2d(width, 2 * width, (rows, 3 if self.cross else 1))
        if self.cross:
            self.vert_to_horiz = nn.Conv2d(2 * width, 2 * width, 1)
            self.horiz_stack = nn.Conv2d(width, 2 * width, (1, 2))
        self.horiz_resid = nn.Conv2d(width, width, 1)

    def _masked(self, weight: Tensor, dim: int) -> Tensor:
        """The weight with the last tap along `dim` at zero."""
        forbidden = torch.zeros_like(weight)
        forbidden.select(dim, -1).fill_(1)
        return weight - ((weight * forbidden).detach() if self._counted else weight * forbidden)

    def vertical_matrix(self) -> Float[Tensor, "rows inputs outputs"]:
        """(row from the oldest to its own; part, channel; part, channel) of the vertical kernel."""
        weight = self.vert_stack.weight
        if self.first:
            weight = self._masked(weight, 2)
        outputs, inputs, rows, _ = weight.shape
        if self.cross:
            # The kernel is three columns wide and centred: output column q meets input column p at tap p - q + 1.
            taps = [[weight[..., p - q + 1] for q in range(PARTS)] for p in range(PARTS)]
        else:
            same, other = weight[..., 0], torch.zeros_like(weight[..., 0])
            taps = [[same if p == q else other for q in range(PARTS)] for p in range(PARTS)]
        stacked = torch.stack([torch.stack(row) for row in taps])  # p, q, output, input, row
        return stacked.permute(4, 0, 3, 1, 2).reshape(rows, PARTS * inputs, PARTS * outputs)

    def horizontal_taps(self) -> tuple[Float[Tensor, "outputs inputs"], Float[Tensor, "outputs inputs"]]:
        """Weights of the column to the left and of the column itself."""
        weight = self.horiz_stack.weight
        if self.first:
            weight = self._masked(weight, 3)
        return weight[:, :, 0, 0], weight[:, :, 0, 1]

    def _look_up(self, x: Tensor) -> Tensor:
        batch, time = x.shape[:2]
        matrix = self.vertical_matrix()
        rows = len(matrix)
        padded = functional.pad(x.flatten(2), (0, 0, rows - 1, 0))
        window = torch.cat([padded[:, row : row + time] for row in range(rows)], dim=-1)
        bias = self.vert_stack.bias.repeat(PARTS)
        return torch.addmm(bias, window.flatten(0, 1), matrix.flatten(0, 1)).view(batch, time, PARTS, -1)

    def _look_left(self, x: Tensor) -> Tensor:
        left, own = self.horizontal_taps()
        seen = functional.linear(x, own, self.horiz_stack.bias)
        body, hands = seen.unbind(2)
        return torch.stack([body, hands + functional.linear(x[:, :, 0], left)], dim=2)

    def forward(
        self,
        vertical: Float[Tensor, "batch time 2 width"],
        horizontal: Float[Tensor, "batch time 2 width"],
        speakers: Int[Tensor, " batch"],
    ) -> tuple[Float[Tensor, "batch time 2 width"], Float[Tensor, "batch time 2 width"]]:
        """Both stacks after this layer; the independent variant leaves the horizontal one as it is."""
        shift = self.class_cond_embedding(speakers)[:, None, None]
        v = self._look_up(vertical)
        seen = gate(v + shift)
        if not self.cross:
            seen = _pointwise(seen, self.horiz_resid)
            return (seen if self.first else seen + vertical), horizontal
        out = gate(_pointwise(v, self.vert_to_horiz) + self._look_left(horizontal) + shift)
        out = _pointwise(out, self.horiz_resid)
        return seen, (out if self.first else out + horizontal)


class PixelCnn(nn.Module):
    r"""Distribution of every code given all codes before it, sound and speaker.

    .. math:: p(c \mid a, s) = \prod_t p(c_{t,0} \mid c_{<t}, a, s)\; p(c_{t,1} \mid c_{t,0}, c_{<t}, a, s)

    Sound enters once, before the second layer: :math:`x \leftarrow F\,[x, E a]`, in each stack by its own F.

    Parameters
    ----------
    config
        Size and variant.
    seed
        Of the first weights: Xavier-uniform convolutions without bias, standard normal embeddings.

    Examples
    --------
    >>> sum(p.numel() for p in PixelCnn(PixelCnnConfig(), seed=0).parameters())
    23522816
    """

    def __init__(self, config: PixelCnnConfig, *, seed: int) -> None:
        super().__init__()
        self.config = config
        cross = config.variant == "cross"
        with seeded(seed):
            self.embedding = nn.Embedding(config.codes, config.width)
            self.layers = nn.ModuleList(GatedLayer(config, first=index == 0) for index in range(config.layers))
            if config.audio:
                self.embedding_aud = nn.Conv2d(config.audio, config.width, 1)
                self.fusion_v = nn.Conv2d(2 * config.width, config.width, 1)
            if config.audio and cross:
                self.fusion_h = nn.Conv2d(2 * config.width, config.width, 1)
            if config.part_vector:
                self.part_vector = nn.Parameter(torch.randn(PARTS, config.width))
            self.output_conv = nn.Sequential(
                nn.Conv2d(config.width, config.head, 1), nn.ReLU(), nn.Conv2d(config.head, config.codes, 1)
            )
            for layer in self.modules():
                if isinstance(layer, nn.Conv2d):
                    nn.init.xavier_uniform_(layer.weight)
                    nn.init.zeros_(layer.bias)

    def embedded_audio(self, audio: Float[Tensor, "batch time audio"]) -> Float[Tensor, "batch time 2 width"]:
        """Sound features of every row as both columns get them, before any dropout."""
        embedded = _pointwise(audio, self.embedding_aud)[:, :, None].expand(-1, -1, PARTS, -1)
        return embedded + self.part_vector if self.config.part_vector else embedded

    def head(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch codes"]:
        """Logits of cells."""
        return _pointwise(_pointwise(x, self.output_conv[0]).relu(), self.output_conv[2])

    def check(self, speakers: Int[Tensor, " batch"], audio: Float[Tensor, "batch time audio"] | None) -> None:
        """Raise unless the speakers are known and sound is given where the network has a place for it."""
        config = self.config
        if len(speakers) and not 0 <= int(speakers.min()) <= int(speakers.max()) < config.speakers:
            raise ValueError(
                f"speakers: expected 0 to {config.speakers - 1}, found {sorted(set(speakers.tolist()))}; the network knows no other"
            )
        found = 0 if audio is None else audio.shape[-1]
        if found != config.audio:
            raise ValueError(f"audio: expected {config.audio or 'no'} channels a row, found {found or 'no sound'}")

    def forward(
        self,
        codes: Int[Tensor, "batch time 2"],
        speakers: Int[Tensor, " batch"],
        audio: Float[Tensor, "batch time audio"] | None = None,
        *,
        keep: Float[Tensor, " time"] | None = None,
    ) -> Float[Tensor, "batch time 2 codes"]:
        """Logits of every code, each from what comes before it.

        Parameters
        ----------
        codes
            Body in column 0, hands in column 1.
        speakers
            Class of each sequence.
        audio
            Features of the sound of each row.
        keep
            Factor of each row of embedded sound, see `row_dropout`.

        Raises
        ------
        ValueError
            If a speaker is unknown, or sound is missing or not expected.
        """
        self.check(speakers, audio)
        vertical = horizontal = self.embedding(codes)
        for index, layer in enumerate(self.layers):
            if index == 1 and audio is not None:
                sound = self.embedded_audio(audio)
                sound = sound if keep is None else sound * keep[:, None, None]
                vertical = _pointwise(torch.cat([vertical, sound], dim=-1), self.fusion_v)
                if layer.cross:
                    horizontal = _pointwise(torch.cat([horizontal, sound], dim=-1), self.fusion_h)
            vertical, horizontal = layer(vertical, horizontal, speakers)
        return self.head(horizontal if self.config.variant == "cross" else vertical)


def row_dropout(rows: int, probability: float, generator: torch.Generator) -> Float[Tensor, " rows"]:
    """Factors that drop whole rows for the whole batch: 0 with this probability, else 1 / (1 - probability)."""
    if not 0 <= probability < 1:
        raise ValueError(f"row dropout: expected a probability in [0, 1), found {probability}")
    kept = torch.rand(rows, generator=generator) >= probability
    return kept.float() / (1 - probability)


# -------------------------------------------------------------------------------------------------------- the sampler


def choose(
    logits: Float[Tensor, "batch codes"], uniforms: Float[Tensor, " batch"] | None, temperature: float = 1.0
) -> Int[Tensor, " batch"]:
    r"""A code from each row of logits: the smallest k whose cumulative probability exceeds u, in float64.

    .. math:: c = \min \{k : \textstyle\sum_{i \le k} \mathrm{softmax}(\ell / \tau)_i > u\}

    Parameters
    ----------
    logits
        One row a draw.
    uniforms
        u in [0, 1), float64; None takes the most probable code.
    temperature
        :math:`\tau`; 1 in the released code.
    """
    if uniforms is None:
        return logits.argmax(-1)
    cumulative = (logits.double() / temperature).softmax(-1).cumsum(-1)
    return (cumulative <= uniforms[:, None]).sum(-1).clamp(max=logits.shape[-1] - 1)


def draw_uniforms(batch: int, rows: int, generator: torch.Generator) -> Float[Tensor, "batch rows 2"]:
    """Random numbers of a batch of sequences, drawn row by row: a sequence drawn in pieces gets the same ones as in one go."""
    return torch.rand(rows, batch, PARTS, generator=generator, dtype=torch.float64).transpose(0, 1)


class Sampler:
    r"""Draws codes row by row, exactly as if the whole network were run anew for each code, in time linear in the rows.

    The vertical stack of row t depends on earlier rows only, so it runs once a row for both columns, from the last few rows of every
    layer's input that its kernel sees (its causal window). The horizontal stack then runs once a column; what column 1 needs of column 0
    is kept. Nothing older than the window is stored: memory and time a row do not depend on how much was drawn. The naive way, one run of
    the network a code over all rows, costs :math:`2\tau` times as much.

    Parameters
    ----------
    network
        Trained. Its weights are copied: train it further and make a new sampler.
    speakers
        Class of each sequence of the batch. Several draws from one sound are several sequences.
    temperature
        See `choose`; an extension, 1 in the released code.
    greedy
        Take the most probable code each time.

    Raises
    ------
    ValueError
        If a speaker is unknown or the temperature is not positive.

    Examples
    --------
    >>> network = PixelCnn(PixelCnnConfig(codes=8, width=4, layers=3, head=8, audio=0), seed=0)
    >>> uniforms = draw_uniforms(1, 6, torch.Generator().manual_seed(0))
    >>> whole = Sampler(network, torch.tensor([2])).draw(6, uniforms)
    >>> pieces = Sampler(network, torch.tensor([2]))
    >>> torch.equal(torch.cat([pieces.draw(4, uniforms[:, :4]), pieces.draw(2, uniforms[:, 4:])], 1), whole)
    True
    """

    @torch.no_grad()
    def __init__(
        self, network: PixelCnn, speakers: Int[Tensor, " batch"], *, temperature: float = 1.0, greedy: bool = False
    ) -> None:
        if not temperature > 0:
            raise ValueError(f"temperature: expected a positive number, found {temperature}")
        config = network.config
        if len(speakers) and not 0 <= int(speakers.min()) <= int(speakers.max()) < config.speakers:
            raise ValueError(f"speakers: expected 0 to {config.speakers - 1}, found {sorted(set(speakers.tolist()))}")
        self.network, self.config, self.temperature, self.greedy = network, config, temperature, greedy
        self.batch, self.cross = len(speakers), config.variant == "cross"
        width, layers = config.width, list(network.layers)
        like = network.embedding.weight
        self._vertical = [_halves_first(layer.vertical_matrix()) for layer in layers]
        self._bias = [_halves_first(layer.vert_stack.bias.repeat(PARTS)) for layer in layers]
        shift = torch.stack([layer.class_cond_embedding(speakers) for layer in layers])  # layer, batch, 2 width
        self._shift = _halves_first(shift.repeat(1, 1, PARTS))
        self._residual = [
            (layer.horiz_resid.weight.flatten(1).T.contiguous(), layer.horiz_resid.bias) for layer in layers
        ]
        # Inputs of every layer in earlier rows, oldest first, both parts side by side; zeros before the first row.
        self._past = [like.new_zeros(self.batch, len(matrix) - 1, PARTS * width) for matrix in self._vertical]
        if self.cross:
            across = [layer.vert_to_horiz for layer in layers]
            self._across = torch.stack([conv.weight.flatten(1).T for conv in across])
            left, own = zip(*(layer.horizontal_taps() for layer in layers), strict=True)
            self._left = torch.stack([weight.T for weight in left])
            self._own = [weight.T.contiguous() for weight in own]
            still = torch.stack([conv.bias for conv in across]) + torch.stack([x.horiz_stack.bias for x in layers])
            self._still = (still[:, None] + shift)[:, :, None]  # layer, batch, 1, 2 width

    @torch.inference_mode()
    def draw(
        self,
        audio: Float[Tensor, "batch rows audio"] | int,
        uniforms: Float[Tensor, "sequences drawn 2"] | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Int[Tensor, "batch rows 2"]:
        """The next rows; call it again as more sound arrives.

        Parameters
        ----------
        audio
            Features of these rows, or, for a network without sound, how many rows to draw.
        uniforms
            One number in [0, 1) a code, float64. The same numbers give the same codes, whatever the pieces.
        generator
            Draws them if they are not given.

        Raises
        ------
        ValueError
            If sound does not fit the network, or neither or both of `uniforms` and `generator` are given for a random draw.
        """
        rows, sound = self._checked(audio)
        if not self.greedy and (uniforms is None) == (generator is None):
            raise ValueError("draw: expected either uniforms or a generator")
        if generator is not None and not self.greedy:
            uniforms = draw_uniforms(self.batch, rows, generator)
        if uniforms is not None:
            uniforms = uniforms.to(device=self.network.embedding.weight.device, dtype=torch.float64)
            if uniforms.shape != (self.batch, rows, PARTS):
                raise ValueError(f"uniforms: expected {(self.batch, rows, PARTS)}, found {tuple(uniforms.shape)}")
        drawn = [
            self._row(
                [None if stack is None else stack[:, row] for stack in sound],
                None if self.greedy else uniforms[:, row],
            )
            for row in range(rows)
        ]
        empty = torch.zeros(self.batch, 0, PARTS, dtype=torch.long, device=self.network.embedding.weight.device)
        return torch.stack(drawn, dim=1) if drawn else empty

    def _checked(self, audio: Tensor | int) -> tuple[int, list[Tensor | None]]:
        """Number of rows, and what sound adds to each stack before the second layer, all rows at once."""
        if isinstance(audio, int):
            if self.config.audio:
                raise ValueError(f"audio: expected {self.config.audio} channels a row, found a number of rows")
            return audio, [None, None]
        if len(audio) != self.batch or audio.shape[2] != self.config.audio or not self.config.audio:
            raise ValueError(
                f"audio: expected ({self.batch}, rows, {self.config.audio or 'no sound'}), found {tuple(audio.shape)}"
            )
        if not torch.isfinite(audio).all():
            raise ValueError("audio: features hold NaN or infinite values")
        embedded, width = self.network.embedded_audio(audio), self.config.width
        fusions = [self.network.fusion_v, self.network.fusion_h if self.cross else None]
        return audio.shape[1], [
            None if fusion is None else functional.linear(embedded, fusion.weight.flatten(1)[:, width:], fusion.bias)
            for fusion in fusions
        ]

    def _row(self, sound: list[Tensor | None], uniforms: Tensor | None) -> Tensor:
        """Draw the codes of the next row and remember what later rows see of it."""
        stack, inputs = self._look_up(sound[0])
        if not self.cross:
            logits = self.network.head(stack.unflatten(1, (PARTS, -1)))
            columns = [
                choose(logits[:, p], None if uniforms is None else uniforms[:, p], self.temperature)
                for p in range(PARTS)
            ]
            return self._remember(inputs, torch.stack(columns, dim=1))
        # What the vertical stack says to every layer of both columns; (layer, batch, part, 2 width).
        said = torch.bmm(stack.flatten(1, 2), self._across).unflatten(1, (self.batch, PARTS)) + self._still
        columns, left = [], None
        for part in range(PARTS):
            told = said[:, :, part] if left is None else said[:, :, part] + left
            x, seen = self._look_left(told, None if sound[1] is None else sound[1][:, part])
            u = None if uniforms is None else uniforms[:, part]
            columns.append(choose(self.network.head(x), u, self.temperature))
            if part == 0:
                left = torch.bmm(torch.stack([self.network.embedding.weight[columns[0]], *seen]), self._left)
        return self._remember(inputs, torch.stack(columns, dim=1))

    def _look_up(self, sound: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        """The vertical stack of the next row: what it tells the horizontal stack or the head, and the input of every layer."""
        width, inputs, said = self.config.width, [], []
        x = self._past[0].new_zeros(
            self.batch, PARTS * width
        )  # the row's own codes, which the first layer does not see
        for index, (matrix, bias) in enumerate(zip(self._vertical, self._bias, strict=True)):
            if index == 1 and sound is not None:
                fused = x.view(-1, width) @ self.network.fusion_v.weight.flatten(1)[:, :width].T
                x = (fused.view(self.batch, PARTS, width) + sound).flatten(1)
            inputs.append(x)
            v = torch.addmm(bias, self._past[index].flatten(1), matrix[:-1].flatten(0, 1))
            if index:
                v = torch.addmm(v, x, matrix[-1])
            shifted = v + self._shift[index]
            a, b = shifted.chunk(2, dim=1)
            seen = a.tanh() * b.sigmoid()
            if self.cross:
                said.append(v.view(self.batch, 2, PARTS, width).transpose(1, 2).flatten(2))
                x = seen
            else:
                weight, offset = self._residual[index]
                out = torch.addmm(offset, seen.view(-1, width), weight).view(self.batch, -1)
                x = out + x if index else out
        return (torch.stack(said) if self.cross else x), inputs

    def _look_left(self, said: Tensor, sound: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        """The horizontal stack of one column: its last output, and the input of every layer but the first, which sees codes."""
        width = self.config.width
        x, inputs = None, []
        for index, (own, (weight, offset)) in enumerate(zip(self._own, self._residual, strict=True)):
            if index == 1 and sound is not None:
                x = torch.addmm(sound, x, self.network.fusion_h.weight.flatten(1)[:, :width].T)
            if index:
                inputs.append(x)
            pre = (
                torch.addmm(said[index], x, own) if index else said[0]
            )  # the first layer does not see the column itself
            a, b = pre.chunk(2, dim=1)
            out = torch.addmm(offset, a.tanh() * b.sigmoid(), weight)
            x = out + x if index else out
        return x, inputs

    def _remember(self, inputs: list[Tensor], codes: Tensor) -> Tensor:
        """Move every layer's window one row on."""
        inputs[0] = self.network.embedding.weight[codes].flatten(1)
        self._past = [
            torch.cat([past[:, 1:], x[:, None]], dim=1) if past.shape[1] else past
            for past, x in zip(self._past, inputs, strict=True)
        ]
        return codes


def _halves_first(x: Tensor) -> Tensor:
    """Last dimension from (part, half, channel) to (half, part, channel), so that one split serves the gates of both parts."""
    return x.unflatten(-1, (PARTS, 2, -1)).transpose(-3, -2).flatten(-3).contiguous()
