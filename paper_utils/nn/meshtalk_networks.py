r"""The networks of MeshTalk (paper 04): encoders of sound and of expression, categorical latent space, decoder, autoregressive model.

Sizes are those of the released code by default. Parameter names are the release's, so its checkpoints load (see `meshtalk_checkpoints`).
How the networks are trained and made to speak is `paper_utils.methods.meshtalk`. Symbols: x mesh sequence, h mesh at rest, a sound, c codes;
H heads of C classes; millimetres.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from paper_utils.nn.categorical import draw_uniforms
from paper_utils.nn.masked_heads import MaskedHeads, dependencies
from paper_utils.nn.temporal import seeded

SLOPE = 0.2  # of every leaky ReLU; released code
LEAST_STD_MM = 0.1  # vertices that hardly move are not blown up to unit variance; choice of ours


# -------------------------------------------------------------------------------------------------------------- 1. sizes


@dataclass(frozen=True)
class Sizes:
    """Widths of all networks; the defaults are those of the released code and its checkpoints.

    Parameters
    ----------
    vertices
        Of the mesh.
    bands, subframes
        Of a log-mel window.
    audio_channels, audio_kernel, audio_dilations, audio_dropout, audio_code
        Audio encoder.
    expression_layers, expression_code
        Expression encoder: two linear layers, an LSTM as wide as the second, the code.
    fusion
        Hidden layers between the codes and the logits.
    heads, classes
        H and C.
    decoder
        Widths on the way down; the last one is that of the LSTM.
    decoder_lstm
        Its layers.
    units, dilations
        Autoregressive model: units a head, and dilation of each layer.
    mask
        ``"released"``: strict in all layers, so head 0 is a constant, the last head is never read, and each layer costs a head of reach.
        ``"corrected"``: strict in the embedding only, the usual pair of masks of pixel CNNs. Every head then reads the sound, the past and all
        earlier heads of its frame; the last head's label stays unread, as the past too is read through the embedding. Our proposal, a deviation
        from the release.

    Raises
    ------
    ValueError
        If a width is not positive, or windows are too short for the audio encoder.
    """

    vertices: int = 6172  # released
    bands: int = 80  # paper
    subframes: int = 101  # released: one second
    audio_channels: int = 128  # supplement
    audio_kernel: int = 5  # supplement
    audio_dilations: tuple[int, ...] = (2, 4, 6, 2, 4, 6)  # supplement
    audio_dropout: float = 0.2  # released
    audio_code: int = 128  # supplement
    expression_layers: tuple[int, int] = (256, 128)  # supplement
    expression_code: int = 128  # supplement
    fusion: tuple[int, ...] = (256, 256)  # supplement
    heads: int = 16  # released; 64 in the paper
    classes: int = 128  # paper
    decoder: tuple[int, ...] = (512, 256, 128)  # supplement
    decoder_lstm: int = 2  # supplement
    units: int = 64  # supplement
    dilations: tuple[int, ...] = (1, 2, 4, 8)  # supplement
    mask: Literal["released", "corrected"] = "released"

    def __post_init__(self) -> None:
        widths = [self.vertices, self.bands, self.subframes, self.audio_channels, self.audio_kernel, self.audio_code]
        widths += [*self.audio_dilations, *self.expression_layers, self.expression_code, *self.fusion, self.heads]
        widths += [self.classes, *self.decoder, self.decoder_lstm, self.units, *self.dilations]
        if min(widths) < 1 or not self.decoder or not self.dilations:
            raise ValueError(f"sizes: all widths must be positive and no list of layers empty, found {self}")
        if self.mask not in ("released", "corrected"):
            raise ValueError(f"mask: expected 'released' or 'corrected', found {self.mask!r}")
        if not 0 <= self.audio_dropout < 1:
            raise ValueError(f"audio_dropout: expected a share in [0, 1), found {self.audio_dropout}")
        reach = 1 + (self.audio_kernel - 1) * (1 + sum(self.audio_dilations))
        if self.audio_kernel % 2 == 0 or self.subframes < reach:
            raise ValueError(
                f"subframes: the audio encoder (an odd kernel of {self.audio_kernel}, dilations {self.audio_dilations}) needs windows "
                f"of at least {reach}, found {self.subframes}"
            )

    @property
    def inclusive(self) -> bool:
        """Whether layers after the embedding let a head read itself."""
        return self.mask == "corrected"


RELEASED = Sizes()
PAPER = Sizes(heads=64)  # supplement; 128 ** 64 states


def quick_sizes(vertices: int, mask: Literal["released", "corrected"] = "corrected") -> Sizes:
    """Sizes for a laptop: a few hundred vertices, 8 heads of 16 classes, the windows of `audio_windows.QUICK_WINDOWS`. Choice of ours."""
    return Sizes(
        vertices=vertices,
        bands=16,
        subframes=20,
        audio_channels=48,
        audio_kernel=3,
        audio_dilations=(1, 2, 4),
        audio_code=48,
        expression_layers=(96, 48),
        expression_code=48,
        fusion=(96, 96),
        heads=8,
        classes=16,
        decoder=(128, 48),
        units=16,
        mask=mask,
    )


# ----------------------------------------------------------------------------------------------------------- 2. encoders


class AudioEncoder(nn.Module):
    r"""A log-mel window becomes an audio code: dilated convolutions without padding, each halved with its cropped input, then the mean.

    .. math:: y = \tfrac12\big(\mathrm{crop}(x) + \mathrm{dropout}(\mathrm{lrelu}(\mathrm{conv}\,x))\big)

    For 101 sub-frames and the released dilations exactly one is left. Weights start Xavier uniform, biases of convolutions at 0.01.
    The first layer is a convolution as in the released code; the supplement has a linear layer there.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.bands, self.subframes, self.dropout = sizes.bands, sizes.subframes, sizes.audio_dropout
        width, kernel = sizes.audio_channels, sizes.audio_kernel
        self.convert_dimensions = nn.Conv1d(sizes.bands, width, kernel)
        self.convs = nn.ModuleList(nn.Conv1d(width, width, kernel, dilation=d) for d in sizes.audio_dilations)
        self.code = nn.Linear(width, sizes.audio_code)
        for layer in (self.convert_dimensions, *self.convs):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.constant_(layer.bias, 0.01)

    def forward(
        self, log_mel: Float[Tensor, "batch time bands subframes"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "batch time code"]:
        """Audio codes; in training mode `generator` draws the dropout.

        Raises
        ------
        ValueError
            If windows have another size, or hold NaN.
        """
        if log_mel.shape[2:] != (self.bands, self.subframes):
            raise ValueError(
                f"log_mel: expected windows of {self.bands} bands x {self.subframes} sub-frames, found {tuple(log_mel.shape[2:])}; "
                "the windows' convention and the sizes must belong together"
            )
        x = functional.leaky_relu(self.convert_dimensions(log_mel.flatten(0, 1)), SLOPE)
        for conv in self.convs:
            branch = functional.leaky_relu(conv(x), SLOPE)
            if self.training and self.dropout:
                shape = (*log_mel.shape[:2], *branch.shape[1:])
                kept = draw_uniforms(shape, generator, branch).flatten(0, 1) >= self.dropout
                branch = branch * kept / (1 - self.dropout)
            crop = (x.shape[-1] - branch.shape[-1]) // 2
            x = (x[..., crop : x.shape[-1] - crop] + branch) / 2
        return self.code(x.mean(-1)).unflatten(0, log_mel.shape[:2])


class ExpressionEncoder(nn.Module):
    r"""A mesh sequence becomes an expression code a frame: standardise, two linear layers, an LSTM forward in time, a linear layer."""

    def __init__(self, sizes: Sizes, mean: Float[Tensor, "vertices 3"], stddev: Float[Tensor, "vertices 3"]) -> None:
        super().__init__()
        first, second = sizes.expression_layers
        self.layers = nn.ModuleList([nn.Linear(3 * sizes.vertices, first), nn.Linear(first, second)])
        self.lstm = nn.LSTM(second, second, batch_first=True)
        self.code = nn.Linear(second, sizes.expression_code)
        _register_scale(self, mean, stddev)

    def forward(self, vertices: Float[Tensor, "batch time vertices 3"]) -> Float[Tensor, "batch time code"]:
        """Expression codes; a frame's code depends on it and the frames before it."""
        check_mesh("vertices", vertices, self.mean)
        x = ((vertices - self.mean) / self.stddev).flatten(2)
        for layer in self.layers:
            x = functional.leaky_relu(layer(x), SLOPE)
        return self.code(self.lstm(x)[0])


def vertex_statistics(
    vertices: Float[Tensor, "frames vertices 3"],
) -> tuple[Float[Tensor, "vertices 3"], Float[Tensor, "vertices 3"]]:
    """Mean and standard deviation of every coordinate over training frames, the latter at least 0.1 mm.

    The released file of "standard deviations" looks like variances (27 to 644, about 180 on average); the released networks divide by it as
    it is, and checkpoints bring it along. For own training a true standard deviation is the right thing.
    """
    return vertices.mean(0), vertices.std(0, correction=0).clamp(min=LEAST_STD_MM)


def _register_scale(module: nn.Module, mean: Tensor, stddev: Tensor) -> None:
    if mean.shape != stddev.shape or not (stddev > 0).all():
        raise ValueError(
            f"mean and stddev: expected equal shapes and positive deviations, found {tuple(mean.shape)}, {tuple(stddev.shape)} "
            f"and a smallest deviation of {float(stddev.min()):g}"
        )
    module.register_buffer("mean", mean.clone()[None, None])
    module.register_buffer("stddev", stddev.clone()[None, None])


def check_mesh(name: str, vertices: Float[Tensor, "*lead vertices 3"], mean: Float[Tensor, "1 1 own 3"]) -> None:
    """Refuse meshes of another topology than the networks'."""
    if vertices.shape[-2:] != mean.shape[-2:]:
        raise ValueError(
            f"{name}: the networks were built for {mean.shape[-2]} vertices, found {tuple(vertices.shape)}; meshes must have the "
            "topology of the training data"
        )


# --------------------------------------------------------------------------------------- 3. the categorical latent space


class Fusion(nn.Module):
    r"""Expression code and audio code become log-probabilities of H heads over C classes.

    .. math:: \log p = \mathrm{logsoftmax}_C\big(\mathrm{MLP}([e_t, a_t])\big)
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.heads = sizes.heads
        widths = (sizes.expression_code + sizes.audio_code, *sizes.fusion)
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(widths):
            layers += [nn.Linear(inputs, outputs), nn.LeakyReLU(SLOPE)]
        self.mlp = nn.Sequential(*layers, nn.Linear(widths[-1], sizes.heads * sizes.classes))

    def logits(
        self, expression: Float[Tensor, "batch time expression"], audio: Float[Tensor, "batch time audio"]
    ) -> Float[Tensor, "batch time heads classes"]:
        """Before the softmax."""
        return self.mlp(torch.cat([expression, audio], -1)).unflatten(-1, (self.heads, -1))

    def forward(
        self, expression: Float[Tensor, "batch time expression"], audio: Float[Tensor, "batch time audio"]
    ) -> Float[Tensor, "batch time heads classes"]:
        """Log-probabilities; `categorical.quantize` makes codes of them."""
        return self.logits(expression, audio).log_softmax(-1)


class Encoder(nn.Module):
    r"""E(x, a): audio encoder, expression encoder and fusion. At test time only the audio encoder is used.

    Parameters
    ----------
    sizes
        Widths.
    mean, stddev
        From `vertex_statistics`.
    seed
        Of the first weights.
    """

    def __init__(
        self, sizes: Sizes, mean: Float[Tensor, "vertices 3"], stddev: Float[Tensor, "vertices 3"], *, seed: int
    ) -> None:
        super().__init__()
        _check_sizes(sizes, mean)
        with seeded(seed):
            self.audio_encoder = AudioEncoder(sizes)
            self.expression_encoder = ExpressionEncoder(sizes, mean, stddev)
            self.fusion_model = Fusion(sizes)

    def forward(
        self, vertices: Float[Tensor, "batch time vertices 3"], log_mel: Float[Tensor, "batch time bands subframes"]
    ) -> Float[Tensor, "batch time heads classes"]:
        """Log-probabilities of the codes of a sequence with its sound."""
        return self.fusion_model(self.expression_encoder(vertices), self.audio_encoder(log_mel))


def _check_sizes(sizes: Sizes, mean: Tensor) -> None:
    if mean.shape != (sizes.vertices, 3):
        raise ValueError(f"mean: expected {sizes.vertices} vertices as in the sizes, found {tuple(mean.shape)}")


# ------------------------------------------------------------------------------------------------------------ 4. decoder

LstmState = tuple[Float[Tensor, "layers batch width"], Float[Tensor, "layers batch width"]]


class VertexUnet(nn.Module):
    r"""D(h, c): the mesh at rest goes down a staircase of linear layers, meets codes and time at the bottom, and comes up with skips.

    .. math::
        x_0 = (h - \mu)/\sigma, \quad x_{i} = \mathrm{lrelu}(W_i x_{i-1}), \quad
        y_0 = \mathrm{LSTM}(\mathrm{lrelu}(W[x_n, c_t])), \quad y_{i} = x_{n-i} + \mathrm{lrelu}(U_i y_{i-1})

    The last y, with a learned bias a vertex, is scaled back. Skips are sums, so identity cannot be ignored (supplement). The leaky ReLU also
    stands on the output, as in the release: displacements below zero are made at a fifth of the slope.

    The rest face is the same in all frames, so its way down is computed once a sequence.

    Parameters
    ----------
    sizes, mean, stddev, seed
        As for `Encoder`.
    """

    def __init__(
        self, sizes: Sizes, mean: Float[Tensor, "vertices 3"], stddev: Float[Tensor, "vertices 3"], *, seed: int
    ) -> None:
        super().__init__()
        _check_sizes(sizes, mean)
        widths = (3 * sizes.vertices, *sizes.decoder)
        pairs, bottom = list(itertools.pairwise(widths)), widths[-1]
        self.code_shape = (sizes.heads, sizes.classes)
        with seeded(seed):
            self.vertex_bias = nn.Parameter(torch.zeros(3 * sizes.vertices))
            self.encoder = nn.ModuleList(nn.Linear(inputs, outputs) for inputs, outputs in pairs)
            self.fusion = nn.Linear(bottom + sizes.heads * sizes.classes, bottom)
            self.temporal = nn.LSTM(bottom, bottom, num_layers=sizes.decoder_lstm, batch_first=True)
            self.decoder = nn.ModuleList(nn.Linear(outputs, inputs) for inputs, outputs in reversed(pairs))
        _register_scale(self, mean, stddev)

    def forward(
        self, template: Float[Tensor, "batch vertices 3"], codes: Float[Tensor, "batch time heads classes"]
    ) -> Float[Tensor, "batch time vertices 3"]:
        """Meshes of a sequence of one-hot codes.

        Raises
        ------
        ValueError
            If the template has another number of vertices, or codes other heads or classes, than the network.
        """
        return self.go_on(template, codes, None)[0]

    def go_on(
        self,
        template: Float[Tensor, "batch vertices 3"],
        codes: Float[Tensor, "batch time heads classes"],
        state: LstmState | None,
    ) -> tuple[Float[Tensor, "batch time vertices 3"], LstmState]:
        """The same from the state that an earlier call left, which is returned anew: a sequence may be decoded in pieces."""
        check_mesh("template", template, self.mean)
        if codes.shape[2:] != self.code_shape or len(codes) != len(template):
            raise ValueError(
                f"codes: expected ({len(template)}, time, {self.code_shape[0]}, {self.code_shape[1]}), found {tuple(codes.shape)}"
            )
        levels = [((template[:, None] - self.mean) / self.stddev).flatten(2)]
        for layer in self.encoder:
            levels.append(functional.leaky_relu(layer(levels[-1]), SLOPE))
        of_template, of_codes = self.fusion.weight.split([levels[-1].shape[-1], codes[0, 0].numel()], 1)
        fused = functional.linear(levels[-1], of_template, self.fusion.bias) + codes.flatten(2) @ of_codes.T
        y, state = self.temporal(functional.leaky_relu(fused, SLOPE), state)
        for layer, skip in zip(self.decoder, reversed(levels[:-1]), strict=True):
            y = skip + functional.leaky_relu(layer(y), SLOPE)
        y = (y + self.vertex_bias).unflatten(-1, (-1, 3))
        return y * self.stddev + self.mean, state


def one_hot(labels: Int[Tensor, "batch time heads"], classes: int) -> Float[Tensor, "batch time heads classes"]:
    """Codes as the decoder reads them."""
    return functional.one_hot(labels.long(), classes).float()


# ------------------------------------------------------------------------------------------- 5. the autoregressive model


class ContextModel(nn.Module):
    r"""The latent space over time, given the sound.

    .. math:: p(c \mid a) = \prod_t \prod_h p(c_{t,h} \mid c_{<t}, c_{t,<h}, a_{\le t})

    An embedding of the labels, layers with dilations 1, 2, 4, 8 that read the past and the sound, each followed by a leaky ReLU, and logits;
    see `masked_heads.MaskedHeads`. `head_dependencies` lists what depends on what. The audio weights of embedding and logits exist only
    because the released network has them; nothing reads them.

    Parameters
    ----------
    sizes
        Widths and the mask.
    seed
        Of the first weights.
    """

    slope = SLOPE

    def __init__(self, sizes: Sizes, *, seed: int) -> None:
        super().__init__()
        self.sizes = sizes
        heads, units, audio, inclusive = sizes.heads, sizes.units, sizes.audio_code, sizes.inclusive
        with seeded(seed):
            self.embedding = MaskedHeads(heads, sizes.classes, units, audio, dilation=None, inclusive=False)
            self.context_layers = nn.ModuleList(
                MaskedHeads(heads, units, units, audio, dilation=d, inclusive=inclusive) for d in sizes.dilations
            )
            self.logits = MaskedHeads(heads, units, sizes.classes, audio, dilation=None, inclusive=inclusive)
        for layer in (self.embedding, self.logits):
            layer.unmasked_linear.requires_grad_(False)

    def forward(
        self, labels: Int[Tensor, "batch time heads"], audio: Float[Tensor, "batch time code"]
    ) -> Float[Tensor, "batch time heads classes"]:
        """Log-probabilities of every label given the true ones before it.

        Raises
        ------
        ValueError
            If shapes do not fit, or labels are not class numbers.
        """
        sizes = self.sizes
        if labels.shape != (*audio.shape[:2], sizes.heads) or audio.shape[2] != sizes.audio_code:
            raise ValueError(
                f"labels and audio: expected (batch, time, {sizes.heads}) and (batch, time, {sizes.audio_code}), "
                f"found {tuple(labels.shape)} and {tuple(audio.shape)}"
            )
        x = self.embedding.embed(labels)
        for layer in self.context_layers:
            x = functional.leaky_relu(layer(x, audio), SLOPE)
        return self.logits(x).unflatten(-1, (sizes.heads, sizes.classes)).log_softmax(-1)


def head_dependencies(
    sizes: Sizes, delays: int = 24
) -> tuple[Bool[Tensor, "delay out_head in_head"], Bool[Tensor, "delay out_head"]]:
    """What each head can depend on by delay: labels ``(delay, head, head read)`` and audio ``(delay, head)``; see `masked_heads.dependencies`."""
    return dependencies(sizes.heads, sizes.dilations, first_inclusive=False, inclusive=sizes.inclusive, delays=delays)


# ---------------------------------------------------------------------------------------------- 6. regressors to compare


class Regressor(nn.Module):
    r"""A deterministic mapping from a log-mel window to displacements of the face at rest, trained with L2: no latent space, no chance.

    With ``audio="meshtalk"`` it has the paper's audio encoder, with ``"voca"`` four strided convolutions and two small linear layers as in
    VOCA (from memory, unverified; VOCA hears DeepSpeech features, this one log-mel, and it is told no style).

    Parameters
    ----------
    sizes
        Widths.
    audio
        Which encoder.
    seed
        Of the first weights.
    """

    def __init__(self, sizes: Sizes, audio: Literal["meshtalk", "voca"] = "meshtalk", *, seed: int) -> None:
        super().__init__()
        if audio not in ("meshtalk", "voca"):
            raise ValueError(f"audio: expected 'meshtalk' or 'voca', found {audio!r}")
        self.vertices = sizes.vertices
        with seeded(seed):
            if audio == "meshtalk":
                self.audio_encoder: nn.Module = AudioEncoder(sizes)
                hidden = [nn.LeakyReLU(SLOPE), nn.Linear(sizes.audio_code, sizes.decoder[0]), nn.LeakyReLU(SLOPE)]
                width = sizes.decoder[0]
            else:
                self.audio_encoder, hidden, width = VocaAudio(sizes), [], VocaAudio.components
            self.displacements = nn.Sequential(*hidden, nn.Linear(width, 3 * sizes.vertices))

    def forward(
        self,
        template: Float[Tensor, "batch vertices 3"],
        log_mel: Float[Tensor, "batch time bands subframes"],
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "batch time vertices 3"]:
        """Meshes; in training mode `generator` draws the dropout."""
        if template.shape[1] != self.vertices:
            raise ValueError(f"template: expected {self.vertices} vertices, found {tuple(template.shape)}")
        return template[:, None] + self.displacements(self.audio_encoder(log_mel, generator)).unflatten(-1, (-1, 3))


class VocaAudio(nn.Module):
    """VOCA's encoder of a sound window: halving convolutions, then 128 and 50 units."""

    channels, hidden, components = (32, 32, 64, 64), 128, 50

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        widths, length = (sizes.bands, *self.channels), sizes.subframes
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(widths):
            layers += [nn.Conv1d(inputs, outputs, 3, stride=2, padding=1), nn.ReLU()]
            length = (length + 1) // 2
        self.convolutions = nn.Sequential(*layers, nn.Flatten())
        self.linear = nn.Sequential(
            nn.Linear(widths[-1] * length, self.hidden), nn.Tanh(), nn.Linear(self.hidden, self.components)
        )

    def forward(
        self,
        log_mel: Float[Tensor, "batch time bands subframes"],
        generator: torch.Generator | None = None,  # noqa: ARG002
    ) -> Float[Tensor, "batch time components"]:
        """Coefficients of the displacements' components; there is no dropout."""
        return self.linear(self.convolutions(log_mel.flatten(0, 1))).unflatten(0, log_mel.shape[:2])
