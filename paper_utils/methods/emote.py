r"""EMOTE (paper 09): a face speaks with the emotion that it is told, while the words move the lips.

Top to bottom, in the order of the paper: sizes; FLINT, the prior of facial motion; the network from sound and style to motion; the
exchange of emotions between clips; the losses; the stages of training; animation of a recording. Clips, and faces that their motion moves,
are in `paper_utils.data.emote_clips`, the networks that losses look with in `paper_utils.nn.face_perception`, weights of the published
code in `paper_utils.recipes.emote_weights`.
Radek Danecek et al., "Emotional Speech-Driven Animation with Content-Emotion Disentanglement", arXiv:2306.08990 (SIGGRAPH Asia 2023).
Only the abstract was at hand: layers, losses and schedules follow the published code, its state at the paper's deadline where they differ.
Offsets of vertices are in **metres** here, because the published weights of the losses presume it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import lightning_fabric
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from paper_utils import training
from paper_utils.data.emote_clips import Batch, ClipSource, Face, check_labels
from paper_utils.data.talking_faces import EMOTIONS, INTENSITIES, check_fps, check_intensity, emotion_code
from paper_utils.mesh.skinning import rotation_matrices
from paper_utils.nn import whole_batch
from paper_utils.nn.face_perception import Perception
from paper_utils.nn.motion_readers import LipReader, MotionEmotion, reader_losses
from paper_utils.nn.temporal import BiasedTransformer, periodic_positions, seeded, stack_frames

SLOPE = 0.2  # of LeakyReLU; published code
KERNEL = 5  # frames that FLINT's convolutions span; published code


# ------------------------------------------------------------------------------------------------------------------ 0. sizes


@dataclass(frozen=True)
class PriorSizes:
    """FLINT; defaults are those of the paper's state of the published code.

    Parameters
    ----------
    motion
        Numbers a frame: expression, then the axis-angle of the jaw. 50 + 3; 100 + 3 in the release of November 2023.
    dim, heads, hidden, layers
        Width of everything, heads, feed-forward width and layers of both transformers.
    halvings
        One latent vector stands for ``2**halvings`` frames.
    """

    motion: int = 53
    dim: int = 128
    heads: int = 8
    hidden: int = 384
    layers: int = 1
    halvings: int = 3

    def __post_init__(self) -> None:
        if min(dataclasses.astuple(self)) < 1:
            raise ValueError(f"prior sizes: all must be positive, found {self}")

    @property
    def group(self) -> int:
        """Frames for which one latent vector stands."""
        return 2**self.halvings


@dataclass(frozen=True)
class EmoteSizes:
    """The network between sound and prior; defaults are those of the published code.

    Parameters
    ----------
    audio
        Numbers a frame of the speech features (768 of wav2vec2-base).
    dim, heads, layers, dropout
        Width before style is joined; heads, layers and dropout of the transformer.
    identities
        Training people; 32 of MEAD.
    jaw
        How many of the last motion numbers are the jaw: an axis-angle of 3, or 1 angle.
    period
        Frames of one step of the transformer's bias; ``None``: no bias.
    join
        ``"concatenate"`` style and sound (paper), or ``"add"`` them.
    fps
        Frames a second.
    transformer_ignored
        Until February 2023 the published code computed the transformer and then read its input instead of its output.
    """

    audio: int = 768
    dim: int = 128
    heads: int = 8
    layers: int = 1
    dropout: float = 0.25
    identities: int = 32
    jaw: int = 3
    period: int | None = 30
    join: str = "concatenate"
    fps: float = 25.0
    transformer_ignored: bool = False

    def __post_init__(self) -> None:
        if self.join not in ("concatenate", "add"):
            raise ValueError(f"join: expected 'concatenate' or 'add', found {self.join!r}")
        if min(self.audio, self.dim, self.heads, self.layers, self.identities, self.jaw) < 1:
            raise ValueError(f"sizes: all must be positive, found {self}")

    @property
    def condition(self) -> int:
        """Numbers of the style: one-hot emotion, intensity and identity (8 + 3 + 32 = 43)."""
        return len(EMOTIONS) + len(INTENSITIES) + self.identities

    @property
    def styled(self) -> int:
        """Width once style is joined."""
        return 2 * self.dim if self.join == "concatenate" else self.dim


# --------------------------------------------------------------------------------------------- 1. FLINT, the prior of motion


class FlintEncoder(nn.Module):
    r"""Motion to a Gaussian for every group of frames.

    Convolutions of 5 frames that halve the rate (the first by its stride, the others by pooling), each with LeakyReLU and batch
    normalisation; a linear layer; a transformer with ALiBi; mean :math:`\mu` and :math:`\log\sigma^2` by one linear layer each.

    Examples
    --------
    >>> sum(parameter.numel() for parameter in FlintEncoder(PriorSizes(), seed=0).parameters())
    413824
    """

    def __init__(self, sizes: PriorSizes, *, seed: int) -> None:
        super().__init__()
        self.sizes = sizes
        with seeded(seed):
            self.squash = nn.Sequential(*(_halving(sizes, first=not index) for index in range(sizes.halvings)))
            self.embed = nn.Linear(sizes.dim, sizes.dim)
            self.transformer = _prior_transformer(sizes)
            self.mean, self.log_variance = nn.Linear(sizes.dim, sizes.dim), nn.Linear(sizes.dim, sizes.dim)

    def forward(
        self, motion: Float[Tensor, "clips time motion"]
    ) -> tuple[Float[Tensor, "clips groups dim"], Float[Tensor, "clips groups dim"]]:
        """Mean and log-variance of each group.

        Raises
        ------
        ValueError
            If the frames do not make whole groups.
        """
        if motion.shape[1] % self.sizes.group or not motion.shape[1]:
            raise ValueError(
                f"motion: {motion.shape[1]} frames do not make whole groups of {self.sizes.group}; cut or lengthen the clip"
            )
        hidden = self.transformer(self.embed(self.squash(motion.transpose(1, 2)).transpose(1, 2)))
        return self.mean(hidden), self.log_variance(hidden)


class FlintDecoder(nn.Module):
    r"""Latent vectors to motion: the mirror image, at the full rate before the transformer.

    A transposed convolution doubles the rate, the other steps convolve and repeat every frame. The layer behind the transformer starts at
    zero, so an untrained decoder says the same in every frame.

    Examples
    --------
    >>> sum(parameter.numel() for parameter in FlintDecoder(PriorSizes(), seed=0).parameters())
    479285
    """

    def __init__(self, sizes: PriorSizes, *, seed: int) -> None:
        super().__init__()
        self.sizes = sizes
        with seeded(seed):
            self.expand = nn.ModuleList(_doubling(sizes, first=not index) for index in range(sizes.halvings))
            self.embed = nn.Linear(sizes.dim, sizes.dim)
            self.transformer = _prior_transformer(sizes)
            self.turn = nn.Linear(sizes.dim, sizes.dim)
            self.smooth = nn.Conv1d(sizes.dim, sizes.motion, KERNEL, padding=KERNEL // 2)
        nn.init.zeros_(self.turn.weight)
        nn.init.zeros_(self.turn.bias)

    def forward(self, latents: Float[Tensor, "clips groups dim"]) -> Float[Tensor, "clips time motion"]:
        """Motion of all frames of all groups."""
        hidden = latents.transpose(1, 2)
        for index, step in enumerate(self.expand):
            hidden = step(hidden)
            if index:
                hidden = hidden.repeat_interleave(2, dim=2)
        hidden = self.turn(self.transformer(self.embed(hidden.transpose(1, 2))))
        return self.smooth(hidden.transpose(1, 2)).transpose(1, 2)


def _halving(sizes: PriorSizes, *, first: bool) -> nn.Sequential:
    inputs, stride = (sizes.motion, 2) if first else (sizes.dim, 1)
    convolution = nn.Conv1d(inputs, sizes.dim, KERNEL, stride, KERNEL // 2, padding_mode="replicate")
    layers = [convolution, nn.LeakyReLU(SLOPE), nn.BatchNorm1d(sizes.dim)]
    return nn.Sequential(*layers, *([] if first else [nn.MaxPool1d(2)]))


def _doubling(sizes: PriorSizes, *, first: bool) -> nn.Sequential:
    if first:
        convolution = nn.ConvTranspose1d(sizes.dim, sizes.dim, KERNEL, 2, KERNEL // 2, output_padding=1)
    else:
        convolution = nn.Conv1d(sizes.dim, sizes.dim, KERNEL, padding=KERNEL // 2, padding_mode="replicate")
    return nn.Sequential(convolution, nn.LeakyReLU(SLOPE), nn.BatchNorm1d(sizes.dim))


def _prior_transformer(sizes: PriorSizes) -> BiasedTransformer:
    return BiasedTransformer(sizes.dim, heads=sizes.heads, hidden=sizes.hidden, layers=sizes.layers)


class Coded(NamedTuple):
    """What FLINT makes of motion: the motion again, and the Gaussians it went through."""

    motion: Float[Tensor, "clips time motion"]
    mean: Float[Tensor, "clips groups dim"]
    log_variance: Float[Tensor, "clips groups dim"]


class Flint(nn.Module):
    r"""Temporal variational autoencoder of facial motion.

    .. math:: z \sim \mathcal N(\mu(x), \sigma^2(x)), \qquad \hat x = D(z)

    Parameters
    ----------
    sizes
        Widths.
    seed
        Of the first weights.

    Attributes
    ----------
    shift, scale
        What the networks see of a number x is ``(x - shift) / scale``; 0 and 1 in the published code, statistics of the training
        motion after `standardise_by`.
    """

    def __init__(self, sizes: PriorSizes, *, seed: int) -> None:
        super().__init__()
        self.sizes = sizes
        self.encoder, self.decoder = FlintEncoder(sizes, seed=seed), FlintDecoder(sizes, seed=seed + 1)
        self.register_buffer("shift", torch.zeros(sizes.motion))
        self.register_buffer("scale", torch.ones(sizes.motion))

    @torch.no_grad()
    def standardise_by(self, motion: Float[Tensor, "clips time motion"]) -> None:
        """Bring every number to mean 0 and variance 1 over these clips; one that never moves keeps a scale of a hundredth of the mean one."""
        flat = motion.flatten(0, 1)
        sd = flat.std(0)
        self.shift.copy_(flat.mean(0))
        self.scale.copy_(sd.clamp_min(0.01 * float(sd.mean()) + 1e-8))

    def encode(
        self, motion: Float[Tensor, "clips time motion"]
    ) -> tuple[Float[Tensor, "clips groups dim"], Float[Tensor, "clips groups dim"]]:
        """Mean and log-variance of each group of frames."""
        return self.encoder((motion - self.shift) / self.scale)

    def decode(self, latents: Float[Tensor, "clips groups dim"]) -> Float[Tensor, "clips time motion"]:
        """Motion of given latent vectors."""
        return self.shift + self.scale * self.decoder(latents)

    def forward(
        self, motion: Float[Tensor, "clips time motion"], noise: Float[Tensor, "clips groups dim"] | None = None
    ) -> Coded:
        r"""There and back with :math:`z = \mu + \sigma\varepsilon`; without noise :math:`z = \mu`."""
        mean, log_variance = self.encode(motion)
        latents = mean if noise is None else mean + torch.exp(log_variance / 2) * noise
        return Coded(self.decode(latents), mean, log_variance)


def kl_divergence(
    mean: Float[Tensor, "clips groups dim"], log_variance: Float[Tensor, "clips groups dim"]
) -> Float[Tensor, ""]:
    r"""How far the Gaussians are from a standard normal one, summed over dimensions, averaged over groups.

    .. math:: \mathrm{KL} = -\tfrac12 \sum_d \left(1 + \log\sigma_d^2 - \mu_d^2 - \sigma_d^2\right)
    """
    return (-0.5 * (1 + log_variance - mean.square() - log_variance.exp())).sum(-1).mean()


# --------------------------------------------------------------------------------------- 2. from sound and style to motion


def condition_vectors(
    emotion: Int[Tensor, "*rows"], intensity: Int[Tensor, "*rows"], identity: Int[Tensor, "*rows"], identities: int
) -> Float[Tensor, "*rows condition"]:
    """One-hot emotion (8), intensity (3) and identity, side by side.

    Parameters
    ----------
    emotion
        Index into `EMOTIONS`, the order of AffectNet.
    intensity
        Level 1, 2 or 3.
    identity
        Whose style, a training person.
    identities
        Number of training people.

    Raises
    ------
    ValueError
        If a label is none of these; the message lists the valid ones.
    """
    check_labels(emotion, intensity, identity, identities)
    parts = (emotion, len(EMOTIONS)), (intensity - 1, len(INTENSITIES)), (identity, identities)
    return torch.cat([functional.one_hot(index, count) for index, count in parts], dim=-1).float()


def condition_named(emotion: str, intensity: int, identity: int, sizes: EmoteSizes) -> Float[Tensor, "1 condition"]:
    """The condition of one clip by name, as ``condition_named("happy", 3, 0, sizes)``.

    Raises
    ------
    ValueError
        For an unknown emotion, intensity or identity; the message lists the valid ones.
    """
    labels = emotion_code(emotion), check_intensity(intensity), identity
    return condition_vectors(*(torch.tensor([label]) for label in labels), sizes.identities)


def condition_path(
    keys: Sequence[tuple[int, Float[Tensor, " condition"]]], frames: int, *, mode: str = "linear"
) -> Float[Tensor, "1 frames condition"]:
    """A condition for every frame that moves from one to the next.

    Parameters
    ----------
    keys
        Frame and condition, frames rising; before the first and after the last the condition stays.
    frames
        Length of the clip.
    mode
        ``"linear"`` or ``"nearest"``.

    Raises
    ------
    ValueError
        If frames do not rise or the mode is unknown.
    """
    at = torch.tensor([float(frame) for frame, _ in keys])
    if mode not in ("linear", "nearest"):
        raise ValueError(f"mode: expected 'linear' or 'nearest', found {mode!r}")
    if not len(keys) or (at.diff() <= 0).any():
        raise ValueError(f"keys: expected at least one, their frames rising, found {at.tolist()}")
    values, time = torch.stack([condition for _, condition in keys]), torch.arange(float(frames))
    high = torch.searchsorted(at, time, right=True).clamp(max=len(keys) - 1)
    low = (high - 1).clamp(min=0)
    share = ((time - at[low]) / (at[high] - at[low]).clamp_min(1e-9)).clamp(0, 1)
    if mode == "nearest":
        share = share.round()
    return torch.lerp(values[low], values[high], share[:, None])[None]


class Prediction(NamedTuple):
    """Motion, and the inner values that it came from.

    `latents` is what the prior's decoder was given, None without a prior; `bottleneck` what the head says in each frame.
    """

    motion: Float[Tensor, "rows time motion"]
    bottleneck: Float[Tensor, "rows time dim"]
    latents: Float[Tensor, "rows groups dim"] | None


class Emote(nn.Module):
    r"""The network: features of sound and a style vector, a transformer, and the frozen decoder of the prior.

    .. math::
        h_t = [\,W_a a_t \,;\, W_s c\,], \quad b_t = W_b\,\mathrm{Transformer}(h)_t, \quad
        z_k = W_q\,[\,b_{gk+1} ; \ldots ; b_{g(k+1)}\,], \quad \hat x = D(z)

    Zeros fill the last group of frames; the motion is cut to the length of the sound. The latents are not sampled, and no KL term keeps
    them where the prior's own latents lie.

    Parameters
    ----------
    sizes
        Widths.
    prior
        A trained `Flint`; its decoder is copied by reference and never trained here. ``None``: the ablation "w/o FLINT", in which the head
        gives motion frame by frame and the transformer knows positions modulo `EmoteSizes.period`.
    audio
        Speech features, see `paper_utils.nn.speech_features`: called with sound and the number of frames.
    motion
        Numbers a frame, needed without a prior.
    seed
        Of the first weights.

    Raises
    ------
    ValueError
        If parts do not fit each other.
    """

    def __init__(
        self, sizes: EmoteSizes, prior: Flint | None, audio: nn.Module, *, motion: int | None = None, seed: int
    ) -> None:
        super().__init__()
        if audio.dim != sizes.audio:
            raise ValueError(f"audio: the network takes {sizes.audio} numbers a frame, these features have {audio.dim}")
        if prior is None and motion is None:
            raise ValueError("motion: without a prior, say how many numbers a frame the head shall give")
        self.sizes, self.audio, width = sizes, audio, sizes.styled
        latent = motion if prior is None else prior.sizes.dim
        with seeded(seed):
            self.project = nn.Linear(sizes.audio, sizes.dim)
            self.style = nn.Linear(sizes.condition, sizes.dim)
            self.transformer = BiasedTransformer(
                width, heads=sizes.heads, hidden=width, layers=sizes.layers, dropout=sizes.dropout, period=sizes.period
            )
            self.head = nn.Linear(width, latent)
            self.squash = None if prior is None else nn.Linear(latent * prior.sizes.group, latent)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.prior = prior
        if prior is not None:
            prior.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Emote:
        """The prior stays in evaluation mode: its batch normalisation must not see new motion."""
        super().train(mode)
        if self.prior is not None:
            self.prior.eval()
        return self

    def features(self, sound: Float[Tensor, "clips ..."], frames: int) -> Float[Tensor, "clips time dim"]:
        """Speech features at the frames of the video, projected."""
        return self.project(self.audio(sound, frames))

    def decode(
        self, features: Float[Tensor, "rows time dim"], condition: Float[Tensor, "rows *time condition"]
    ) -> Prediction:
        """Motion for projected features and a condition a clip, or one a frame."""
        style = self.style(condition)
        if style.ndim == 2:
            style = style[:, None].expand(-1, features.shape[1], -1)
        styled = torch.cat([features, style], dim=-1) if self.sizes.join == "concatenate" else features + style
        frames, width = styled.shape[1:]
        if self.prior is None:
            styled = styled + periodic_positions(frames, width, self.sizes.period or frames).to(styled)
        hidden = styled if self.sizes.transformer_ignored else self.transformer(styled)
        bottleneck = self.head(hidden)
        if self.prior is None:
            return Prediction(bottleneck, bottleneck, None)
        latents = self.squash(stack_frames(bottleneck, self.prior.sizes.group))
        return Prediction(self.prior.decode(latents)[:, :frames], bottleneck, latents)

    def forward(
        self,
        sound: Float[Tensor, "clips ..."],
        frames: int,
        emotion: Int[Tensor, " clips"],
        intensity: Int[Tensor, " clips"],
        identity: Int[Tensor, " clips"],
        permutation: Int[Tensor, " clips"] | None = None,
    ) -> Prediction:
        """Motion of every clip; with a permutation also of the exchanged clips, as rows B to 2B - 1 (see `exchange`).

        The sound is encoded once for both.
        """
        rows = {"features": self.features(sound, frames), "emotion": emotion, "intensity": intensity}
        rows["identity"] = identity
        if permutation is not None:
            rows = exchange(rows, permutation)
        labels = (rows[name] for name in ("emotion", "intensity", "identity"))
        return self.decode(rows["features"], condition_vectors(*labels, self.sizes.identities).to(rows["features"]))


# ---------------------------------------------------------------------------------------- 3. exchange of content and emotion


EXCHANGED = ("emotion", "intensity")


def derangement(count: int, generator: torch.Generator) -> Int[Tensor, " clips"]:
    r"""A random permutation :math:`\pi` that leaves nobody in place: two clips swap, more are redrawn until it holds (about e draws).

    It promises another *clip*, not another emotion.

    Raises
    ------
    ValueError
        For fewer than two clips.
    """
    if count < 2:
        raise ValueError(f"exchange: needs a batch of at least 2 clips, found {count}")
    if count == 2:
        return torch.tensor([1, 0])
    place = torch.arange(count)
    while True:
        drawn = torch.randperm(count, generator=generator)
        if not (drawn == place).any():
            return drawn


def exchange(
    batch: Mapping[str, Tensor], permutation: Int[Tensor, " clips"], *, exchanged: Sequence[str] = EXCHANGED
) -> dict[str, Tensor]:
    r"""The batch twice: as it is, and with the emotion of another clip.

    ==================  ==============  ==========================
    row                 sound           emotion and intensity
    ==================  ==============  ==========================
    i (reconstruction)  clip i          clip i
    B + i (exchange)    clip i          clip :math:`\pi(i)`
    ==================  ==============  ==========================

    Nothing else moves: sound, identity, face and all references stay those of clip i. Texts need not agree; no pair of clips that say the
    same is ever looked for.

    Parameters
    ----------
    batch
        Tensors with one row a clip.
    permutation
        :math:`\pi`, see `derangement`.
    exchanged
        Names that are taken through the permutation.

    Returns
    -------
    dict
        Tensors of twice the length, and ``input_indices`` and ``condition_indices``: whose sound and whose emotion a row has.

    Raises
    ------
    ValueError
        If a tensor has another length, a name is not in the batch, or it is no permutation.
    """
    count = len(permutation)
    clips = torch.arange(count, device=permutation.device)
    if not torch.equal(permutation.sort().values, clips):
        raise ValueError(f"permutation: expected each of 0..{count - 1} once, found {permutation.tolist()}")
    lengths = {name: len(value) for name, value in batch.items() if whole_batch.count(value) != count}
    if lengths or (missing := [name for name in exchanged if name not in batch]):
        raise ValueError(
            f"exchange: expected {count} rows each, found {lengths}" if lengths else f"exchange: no {missing}"
        )
    rows = {
        name: torch.cat([value, _taken(value, permutation) if name in exchanged else value])
        for name, value in batch.items()
    }
    return rows | {
        "input_indices": whole_batch.own(torch.cat([clips, clips])),
        "condition_indices": whole_batch.own(torch.cat([clips, permutation])),
    }


def _taken(values: Tensor, permutation: Int[Tensor, " clips"]) -> Tensor:
    """``values[permutation]``, where the batch may be shared by several processes."""
    return whole_batch.own(whole_batch.gather(values)[permutation])


def emotion_targets(permutation: Int[Tensor, " clips"], *, wrong_pairing: bool = False) -> Int[Tensor, " clips"]:
    r"""Whose video an exchanged clip is compared with: :math:`\pi(i)`, the clip its emotion came from.

    Parameters
    ----------
    permutation
        :math:`\pi`.
    wrong_pairing
        Until April 2023 the published code compared it with :math:`\pi^{-1}(i)`, the clip that got emotion i. Both are the same where
        :math:`\pi(\pi(i)) = i`: always for two clips, for 3 of the 9 derangements of four.
    """
    return permutation.argsort() if wrong_pairing else permutation


# --------------------------------------------------------------------------------------------------------------- 4. losses


@dataclass(frozen=True)
class LossWeights:
    r"""Weights of the terms of the second stage, for vertices in metres.

    .. math:: L = w_v L_v + w_l L_{lip} + w_l' L_{lip}' + w_e L_{emo} + w_e' L_{emo}'

    Defaults are the paper's (release script, comments of the evaluation and notes on the paper agree). They face a mean square in m²: per
    mm² the sum reads MSE + 25 (lip + lip') + 2.5 (emo + emo').

    Parameters
    ----------
    vertex, lip, lip_exchanged, emotion, emotion_exchanged
        Of the terms; primed ones belong to exchanged clips.
    static
        The emotion terms compare frame by frame instead of one vector a clip.
    """

    vertex: float = 1.0
    lip: float = 2.5e-5
    lip_exchanged: float = 2.5e-5
    emotion: float = 2.5e-6
    emotion_exchanged: float = 2.5e-6
    static: bool = False

    @property
    def perceptual(self) -> bool:
        """Whether anything but vertices counts."""
        return any((self.lip, self.lip_exchanged, self.emotion, self.emotion_exchanged))

    def scaled(self, factor: float) -> LossWeights:
        """All perceptual weights times a factor, the vertex weight as it is."""
        names = ("lip", "lip_exchanged", "emotion", "emotion_exchanged")
        return dataclasses.replace(self, **{name: factor * getattr(self, name) for name in names})

    def total(self, losses: Mapping[str, Float[Tensor, ""]]) -> Float[Tensor, ""]:
        """The weighted sum of the terms that are there."""
        return sum(getattr(self, name) * value for name, value in losses.items() if hasattr(self, name))


# Runs of the paper by name (history of the published code): weights, and whether emotions are exchanged. Without exchange the remaining
# perceptual weights are doubled, so the single-loss ablations differ from EMOTE in two things; the last two separate them (ours).
_ONLY = {"lip_exchanged": 0.0, "emotion_exchanged": 0.0}
VARIANTS: dict[str, tuple[LossWeights, bool]] = {
    "EMOTE": (LossWeights(), True),
    "EMOTE v2": (LossWeights(emotion=1.5e-6, emotion_exchanged=1.5e-6), True),  # release, factor 0.6
    "w/o exchange": (LossWeights(lip=5e-5, emotion=5e-6, **_ONLY), False),
    "w/o emotion loss": (LossWeights(lip=5e-5, emotion=0.0, **_ONLY), False),
    "w/o lip loss": (LossWeights(lip=0.0, emotion=5e-6, **_ONLY), False),
    "static emotion loss": (
        LossWeights(lip=5e-5, lip_exchanged=5e-5, emotion=5e-5, emotion_exchanged=5e-5, static=True),
        True,
    ),
    "vertex loss only": (LossWeights(lip=0.0, emotion=0.0, **_ONLY), False),
    "exchange, lip loss only": (LossWeights(emotion=0.0, emotion_exchanged=0.0), True),
    "exchange, emotion loss only": (LossWeights(lip=0.0, lip_exchanged=0.0), True),
}


def vertex_loss(
    predicted: Float[Tensor, "clips time coordinates"],
    reference: Float[Tensor, "clips time coordinates"],
    valid: Bool[Tensor, "clips time"],
    *,
    skip_batch: bool = False,
) -> Float[Tensor, ""]:
    r"""Mean square over coordinates, averaged over the valid frames of a clip, then over clips.

    .. math:: L = \frac1B \sum_i \frac{1}{|V_i|} \sum_{t \in V_i} \frac1C \lVert \hat v_{it} - v_{it} \rVert^2

    Parameters
    ----------
    predicted, reference
        In metres for the published weights.
    valid
        Frames in which landmarks were found.
    skip_batch
        In the published code one clip without a valid frame silences the term for its whole batch. Off, only that clip is left out.

    Raises
    ------
    ValueError
        If no clip has a valid frame.
    """
    frames = whole_batch.gather(valid.sum(1))
    if skip_batch and not frames.all():
        return 0.0 * predicted.sum()
    if not frames.any():
        raise ValueError(f"valid: none of the {len(frames)} clips of the batch has a valid frame; leave such clips out")
    error = (predicted - reference).square().mean(-1)
    clips = whole_batch.gather((error * valid).sum(1)) / frames.clamp_min(1)
    return clips[frames > 0].mean()


def velocity_loss(
    predicted: Float[Tensor, "clips time coordinates"],
    reference: Float[Tensor, "clips time coordinates"],
    valid: Bool[Tensor, "clips time"],
) -> Float[Tensor, ""]:
    """`vertex_loss` of the differences between neighbouring frames, where both are valid; watched, not optimised."""
    return vertex_loss(predicted.diff(dim=1), reference.diff(dim=1), valid[:, 1:] & valid[:, :-1])


def feature_loss(
    predicted: Float[Tensor, "*rows features"],
    reference: Float[Tensor, "*rows features"],
    valid: Bool[Tensor, "*rows"] | None = None,
) -> Float[Tensor, ""]:
    r"""What perceptual losses compare: the angle between features.

    .. math:: L = \frac1N \sum_n \left(1 - \frac{\hat f_n \cdot f_n}{\lVert \hat f_n \rVert \lVert f_n \rVert}\right)

    Lip reading has a vector a frame and leaves invalid frames out; emotion has a vector a clip and ignores validity.

    Raises
    ------
    ValueError
        If nothing is valid.
    """
    distance = 1 - functional.cosine_similarity(predicted, reference, dim=-1)
    if valid is None:
        return distance.mean()
    distance, valid = whole_batch.gather(distance), whole_batch.gather(valid)
    if not valid.any():
        raise ValueError("valid: no frame of the batch is valid; leave clips without landmarks out")
    return distance[valid].mean()


def jaw_rotation_loss(
    predicted: Float[Tensor, "clips time 3"],
    reference: Float[Tensor, "clips time 3"],
    valid: Bool[Tensor, "clips time"],
) -> Float[Tensor, ""]:
    """`vertex_loss` of the first two rows of the jaw's rotation matrices; watched, not optimised."""
    six = (rotation_matrices(jaw)[..., :2, :].flatten(-2) for jaw in (predicted, reference))
    return vertex_loss(*six, valid)


def regulariser(values: Float[Tensor, "*rows dims"]) -> Float[Tensor, ""]:
    r""":math:`\tfrac12 \lVert x \rVert^2`, averaged over rows: of expressions and latents, exchanged clips included; watched, not optimised."""
    return 0.5 * values.square().sum(-1).mean()


def watched(
    prediction: Prediction, motion: Float[Tensor, "clips time motion"], valid: Bool[Tensor, "clips time"], jaw: int
) -> dict[str, Float[Tensor, ""]]:
    """Quantities that the published code logs beside the losses; the last `jaw` numbers of the motion are the jaw."""
    said = prediction.motion[: len(motion)]
    parts = {"expression": (said[..., :-jaw], motion[..., :-jaw]), "jaw": (said[..., -jaw:], motion[..., -jaw:])}
    values = {name: vertex_loss(*pair, valid) for name, pair in parts.items()}
    values |= {f"{name}_velocity": velocity_loss(*pair, valid) for name, pair in parts.items()}
    values["expression_regulariser"] = regulariser(prediction.motion[..., :-jaw])
    if jaw == 3:
        values["jaw_rotation"] = jaw_rotation_loss(*parts["jaw"], valid)
    if prediction.latents is not None:
        values["latent_regulariser"] = regulariser(prediction.latents)
    return values


def perceptual_losses(
    offsets: Float[Tensor, "rows time coordinates"],
    reference: Float[Tensor, "clips time coordinates"],
    batch: Batch,
    perception: Perception,
    weights: LossWeights,
    permutation: Int[Tensor, " clips"] | None = None,
    *,
    wrong_pairing: bool = False,
) -> dict[str, Float[Tensor, ""]]:
    r"""Lip-reading and emotion losses of a batch, and of its exchanged clips.

    =======================  ==============  ==========================================
    term                     rows            compared with
    =======================  ==============  ==========================================
    ``lip``                  i               lips of clip i
    ``lip_exchanged``        B + i           lips of clip i: the sound is the same
    ``emotion``              i               emotion of video i
    ``emotion_exchanged``    B + i           emotion of video :math:`\pi(i)`
    =======================  ==============  ==========================================

    How the upper face of an exchanged clip must look, nothing says but the emotion feature. Terms without weight are not computed.

    Parameters
    ----------
    offsets
        Predicted; 2B rows with an exchange.
    reference
        True, B rows.
    batch
        Validity, faces at rest, and features of the real video if there are any.
    perception, weights
        What looks, and what counts.
    permutation, wrong_pairing
        See `emotion_targets`; None without exchange.
    """
    count, losses = len(reference), {}
    blocks = {"": slice(0, count)} | ({} if permutation is None else {"_exchanged": slice(count, 2 * count)})
    if lips := {end: rows for end, rows in blocks.items() if getattr(weights, f"lip{end}")}:
        with torch.no_grad():
            true = perception.lips(reference, batch.person)
        for end, rows in lips.items():
            losses[f"lip{end}"] = feature_loss(perception.lips(offsets[rows], batch.person), true, batch.valid)
    if emotions := {end: rows for end, rows in blocks.items() if getattr(weights, f"emotion{end}")}:
        true = batch.emotion_features
        if true is None:
            with torch.no_grad():
                true = perception.emotion(reference, batch.person, static=weights.static)
        for end, rows in emotions.items():
            seen = perception.emotion(offsets[rows], batch.person, static=weights.static)
            target = _taken(true, emotion_targets(permutation, wrong_pairing=wrong_pairing)) if end else true
            losses[f"emotion{end}"] = feature_loss(seen, target)
    return losses


def _chance(seed: int, step: int) -> torch.Generator:
    """A generator for one step, so that a resumed run draws what an uninterrupted one does."""
    return torch.Generator().manual_seed(int(np.random.default_rng([seed, step]).integers(2**63 - 1)))


# ------------------------------------------------------------------------------------------------------------- 5. training


@dataclass(frozen=True)
class ReaderTraining:
    """Stage 0: stand-ins for the perceptual networks (choices of ours)."""

    steps: int = 300
    batch: int = 32
    lr: float = 2e-3


@dataclass(frozen=True)
class PriorTraining:
    """Stage 1 of the published code; its best checkpoint on validation clips was kept, here it is the last one.

    Parameters
    ----------
    steps, batch, frames, lr
        Of Adam. Published: 1,200 epochs at most, of about 21,000 clips (30 sentences a condition, from memory, unverified).
    reconstruction, kl
        Weights; the first turns m² into mm². The release script says 0.001 for the second and calls it final; the paper's state points to a
        prior trained with 0.01.
    decay_last
        Share of the steps over which the learning rate falls to 0; published: none.
    standardise
        Whether the networks see standardised motion; published: no.
    """

    steps: int = 787_000
    batch: int = 32
    frames: int = 32
    lr: float = 1e-4
    reconstruction: float = 1e6
    kl: float = 1e-3
    decay_last: float = 0.0
    standardise: bool = False


@dataclass(frozen=True)
class StageTraining:
    """One stage of EMOTE: the first with vertices alone, the second with everything.

    Parameters
    ----------
    steps, batch, frames, lr
        Of Adam. Published: 20 epochs, then 2 (notes on the paper), of batches of 4 windows of 64 frames (release script).
    weights
        Of the losses.
    exchange
        Whether every batch is doubled.
    train_audio
        Whether the speech features learn: in the first stage only.
    biased
        Whether the transformer's attention knows distance. Names of the paper's runs say: only in the second stage.
    decay_last
        Share of the steps over which the learning rate falls to 0; published: none.
    wrong_pairing, skip_batch
        Defects of the published code, see `emotion_targets` and `vertex_loss`.
    """

    steps: int = 106_000
    batch: int = 4
    frames: int = 64
    lr: float = 1e-4
    weights: LossWeights = VARIANTS["vertex loss only"][0]
    exchange: bool = False
    train_audio: bool = True
    biased: bool = True
    decay_last: float = 0.0
    wrong_pairing: bool = False
    skip_batch: bool = False

    def __post_init__(self) -> None:
        exchanged = self.weights.lip_exchanged or self.weights.emotion_exchanged
        if exchanged and not self.exchange:
            raise ValueError("stage: weights of exchanged clips need exchange=True")


@dataclass(frozen=True)
class Scale:
    """All sizes and schedules of one scale.

    Parameters
    ----------
    prior, prior_training, network, first, second, readers
        See there.
    """

    prior: PriorSizes = PriorSizes()
    prior_training: PriorTraining = PriorTraining()
    network: EmoteSizes = EmoteSizes()
    first: StageTraining = StageTraining(biased=False)
    second: StageTraining = StageTraining(steps=10_600, weights=VARIANTS["EMOTE"][0], exchange=True, train_audio=False)
    readers: ReaderTraining = ReaderTraining()


FULL = Scale()
# For the synthetic world on one CPU thread; choices of ours. One latent for 4 frames, because with 8 the prior learns too slowly to keep the
# phones; a vertex weight of 1e4 and the published 10 : 1 between lips and emotion.
QUICK_WEIGHTS = LossWeights(vertex=1e4, lip=3.0, lip_exchanged=3.0, emotion=0.3, emotion_exchanged=0.3)
QUICK = Scale(
    prior=PriorSizes(motion=17, dim=64, heads=4, hidden=96, halvings=2),
    prior_training=PriorTraining(steps=500, lr=3e-3, reconstruction=1e4, kl=1e-5, decay_last=0.3, standardise=True),
    network=EmoteSizes(audio=32, dim=32, heads=4, dropout=0.0, identities=8, jaw=1),
    first=StageTraining(
        steps=300, batch=16, frames=48, lr=1e-3, weights=LossWeights(1e4, 0.0, 0.0, 0.0, 0.0), decay_last=0.3
    ),
    second=StageTraining(
        steps=120, batch=16, frames=48, lr=1e-3, weights=QUICK_WEIGHTS, exchange=True, train_audio=False, decay_last=0.3
    ),
)


def train_reader(
    fabric: lightning_fabric.Fabric,
    network: LipReader | MotionEmotion,
    motion: Float[Tensor, "clips time inputs"],
    *labels: Int[Tensor, clips * time],
    config: ReaderTraining,
    seed: int,
    checkpoint: Path | None = None,
) -> Float[np.ndarray, " steps"]:
    """Stage 0: a reader learns from true motion, then it is frozen. See `paper_utils.nn.motion_readers.reader_losses` for the labels.

    Readers are small: where several processes train, each of them computes the whole batch.

    Returns
    -------
    Loss of every step.
    """
    network.standardise_by(motion)
    optimizer = torch.optim.Adam(network.parameters(), lr=config.lr)
    motion, labels = motion.to(fabric.device), [label.to(fabric.device) for label in labels]
    run = training.Run(fabric, {"reader": network}, optimizer, steps=config.steps, checkpoint=checkpoint)
    for step in run:
        rows = training.batch_indices(len(motion), config.batch, step, seed=seed).to(fabric.device)
        run.update(reader_losses(network, motion[rows], *(label[rows] for label in labels)))
    network.eval().requires_grad_(False)
    return run.history["loss"]


def prior_losses(
    prior: nn.Module,
    batch: Batch,
    face: Face,
    noise: Float[Tensor, "clips groups dim"],
    config: PriorTraining,
) -> dict[str, Float[Tensor, ""]]:
    r"""FLINT's loss: vertices, and the distance of the latents from a normal distribution.

    .. math:: L = w_r\,\overline{\lVert V(x) - V(\hat x) \rVert^2} + w_{KL}\,\mathrm{KL}

    Each clip has its own face at rest, and no global pose.
    """
    coded = prior(batch.motion, noise)
    offsets, true = face.offsets(coded.motion, batch.person), face.offsets(batch.motion, batch.person)
    losses = {
        "reconstruction": functional.mse_loss(offsets, true),
        "kl": kl_divergence(coded.mean, coded.log_variance),
    }
    return losses | {"total": config.reconstruction * losses["reconstruction"] + config.kl * losses["kl"]}


def train_prior(
    fabric: lightning_fabric.Fabric,
    source: ClipSource,
    face: Face,
    sizes: PriorSizes,
    config: PriorTraining,
    *,
    seed: int,
    checkpoint: Path | None = None,
) -> tuple[Flint, dict[str, Float[np.ndarray, " steps"]]]:
    """FLINT learns to say motion in few numbers; then it is frozen.

    Returns
    -------
    tuple
        The prior in evaluation mode, and by name its losses at every step.
    """
    prior = Flint(sizes, seed=seed)
    if config.standardise:
        sample = source.batch(torch.arange(len(source)), config.frames, _chance(seed, config.steps))
        prior.standardise_by(sample.motion)
    optimizer = torch.optim.Adam(prior.parameters(), lr=config.lr)
    schedule = _schedule(optimizer, config.steps, config.decay_last)
    run = training.Run(
        fabric, {"prior": prior}, optimizer, steps=config.steps, schedule=schedule, checkpoint=checkpoint
    )
    for step in run:
        chance, rows = _chance(seed, step), _rows(fabric, len(source), config.batch, step, seed)
        batch = source.batch(rows, config.frames, chance).to(fabric.device)
        noise = torch.randn(config.batch, config.frames // sizes.group, sizes.dim, generator=chance)
        noise = whole_batch.own(noise).to(fabric.device)
        losses = prior_losses(run.modules["prior"], batch, face, noise, config)
        run.update(losses.pop("total"), **losses)
    return prior.eval().requires_grad_(False), run.history


def stage_losses(
    model: nn.Module,
    batch: Batch,
    face: Face,
    stage: StageTraining,
    perception: Perception | None = None,
    permutation: Int[Tensor, " clips"] | None = None,
) -> tuple[Prediction, dict[str, Float[Tensor, ""]]]:
    """One step's prediction and losses, ``total`` among them; the vertex loss looks at rows that were not exchanged."""
    frames = batch.motion.shape[1]
    labels = batch.emotion, batch.intensity, batch.identity
    prediction = model(batch.sound, frames, *labels, permutation)
    person = batch.person if permutation is None else torch.cat([batch.person, batch.person])
    offsets, true = face.offsets(prediction.motion, person), face.offsets(batch.motion, batch.person)
    count = len(batch.motion)
    losses = {"vertex": vertex_loss(offsets[:count], true, batch.valid, skip_batch=stage.skip_batch)}
    if stage.weights.perceptual:
        if perception is None:
            raise ValueError("perception: the stage has perceptual weights, so it needs networks that look")
        losses |= perceptual_losses(
            offsets, true, batch, perception, stage.weights, permutation, wrong_pairing=stage.wrong_pairing
        )
    return prediction, losses | {"total": stage.weights.total(losses)}


def train_stage(
    fabric: lightning_fabric.Fabric,
    model: Emote,
    source: ClipSource,
    face: Face,
    stage: StageTraining,
    *,
    perception: Perception | None = None,
    seed: int,
    checkpoint: Path | None = None,
) -> dict[str, Float[np.ndarray, " steps"]]:
    """One stage of training, in place; the model ends in evaluation mode.

    Parameters
    ----------
    model
        New, or from the stage before.
    source, face, perception
        Clips, what turns motion into vertices, and what looks at them (needed by perceptual weights).
    stage
        Weights and schedule.
    seed
        Of the order of clips, windows, exchanges and dropout.

    Returns
    -------
    By name the losses and the quantities of `watched` at every step.

    Raises
    ------
    ValueError
        If the clips have another frame rate or more people than the network.
    """
    check_fps(source.fps, model.sizes.fps, "clips")
    model.audio.set_trainable(stage.train_audio)
    model.transformer.period = model.sizes.period if stage.biased else None
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=stage.lr)
    schedule = _schedule(optimizer, stage.steps, stage.decay_last)
    with seeded(seed):  # dropout has no other source; a run that is resumed sets its own state
        run = training.Run(
            fabric, {"model": model}, optimizer, steps=stage.steps, schedule=schedule, checkpoint=checkpoint
        )
        for step in run:
            chance, rows = _chance(seed, step), _rows(fabric, len(source), stage.batch, step, seed)
            batch = source.batch(rows, stage.frames, chance).to(fabric.device)
            permutation = derangement(stage.batch, chance).to(fabric.device) if stage.exchange else None
            prediction, losses = stage_losses(run.modules["model"], batch, face, stage, perception, permutation)
            with torch.no_grad():
                logged = watched(prediction, batch.motion, batch.valid, model.sizes.jaw)
            run.update(losses.pop("total"), **losses, **logged)
    model.eval()
    return run.history


def _rows(fabric: lightning_fabric.Fabric, count: int, batch: int, step: int, seed: int) -> Tensor:
    return training.batch_indices(count, batch, step, seed=seed, rank=fabric.global_rank, world_size=fabric.world_size)


def _schedule(
    optimizer: torch.optim.Optimizer, steps: int, decay_last: float
) -> torch.optim.lr_scheduler.LRScheduler | None:
    """A constant learning rate that falls to 0 over the last share of the steps."""
    if not decay_last:
        return None
    falling = max(decay_last * steps, 1.0)
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (steps - step) / falling))


# ------------------------------------------------------------------------------------------------- 6. animation of a recording


def sound_rows(
    samples: Float[Tensor, " samples"],
    *,
    sample_rate: int,
    fps: float = 25.0,
    wrapping_int16: bool = False,
    row_padding: bool = False,
) -> Float[Tensor, "frames per_frame"]:
    """A recording as one row of samples for each frame of video; silence fills the last row.

    Parameters
    ----------
    samples
        Mono, in [-1, 1].
    sample_rate, fps
        16,000 Hz and 25 frames a second make rows of 640 samples.
    wrapping_int16
        The published demo goes through 16-bit integers, where a full-scale positive sample becomes the lowest negative one.
    row_padding
        The published demo pads both axes of this table: a zero after every 40 ms of sound, and one more row.

    Raises
    ------
    ValueError
        If the recording is empty or not finite, or the rates make no whole rows.
    """
    if not len(samples) or not torch.isfinite(samples).all():
        raise ValueError(f"samples: expected a recording of finite numbers, found {len(samples)} samples")
    per_frame = sample_rate / fps
    if not per_frame.is_integer():
        raise ValueError(
            f"sample_rate: {sample_rate} Hz and {fps:g} frames a second make rows of {per_frame:g} samples; resample"
        )
    if wrapping_int16:
        whole = torch.round(samples.double() * 2**15).long()
        samples = ((whole + 2**15) % 2**16 - 2**15).to(samples) / (2**15 - 1)
    rows = functional.pad(samples, (0, -len(samples) % int(per_frame))).unflatten(0, (-1, int(per_frame)))
    return functional.pad(rows, (0, 1, 0, 1)) if row_padding else rows


@torch.no_grad()
def animate(
    model: Emote,
    sound: Float[Tensor, "steps ..."],
    condition: Float[Tensor, "1 *time condition"],
    *,
    steps_per_frame: int,
) -> Float[Tensor, "time motion"]:
    """The motion of one recording with a chosen style; any length (the published demo cuts after 22 s).

    Parameters
    ----------
    model
        Trained, in evaluation mode.
    sound
        What its speech features read: samples (see `sound_rows`; flatten it), or log-mel frames.
    condition
        See `condition_named` and `condition_path`.
    steps_per_frame
        Samples or log-mel frames for each frame of video.

    Raises
    ------
    ValueError
        If the sound does not make whole frames.
    """
    if len(sound) % steps_per_frame or not len(sound):
        raise ValueError(
            f"sound: {len(sound)} steps do not make whole frames of {steps_per_frame}; fill up with silence"
        )
    return model.decode(model.features(sound[None], len(sound) // steps_per_frame), condition).motion[0]
