r"""TalkSHOW (paper 08): a speaking person's face by regression, body and hands by drawing codes one after the other, given the sound.

Top to bottom: sizes; what is heard; codes of body and hands; the cross-conditional prior; the face; a deterministic baseline; training;
from sound to motion, whole or as a stream. Grid network and sampler are in `paper_utils.nn.pixelcnn`, codebooks in
`paper_utils.nn.quantizer`, clips in `paper_utils.data.motion_clips`, files (official ones included) in `paper_utils.recipes.talkshow_files`.
Hongwei Yi, Hualin Liang, Yifei Liu, Qiong Cao, Yandong Wen, Timo Bolkart, Dacheng Tao, Michael J. Black, "Generating Holistic 3D Human Motion
from Speech", arXiv:2212.04420 (CVPR 2023). Layers, losses and schedules follow the authors' released code; the paper's text was not available.
Where that code does something it evidently does not mean, the named option ``"official"`` does the same and the default does what is meant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import lightning_fabric
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from paper_utils import audio, training
from paper_utils.data.motion_clips import Clips, check_finite
from paper_utils.nn import whole_batch
from paper_utils.nn.motion_autoencoder import FRAMES_A_CODE, MotionCodec, MotionDecoder, MotionEncoder
from paper_utils.nn.pixelcnn import PixelCnn, PixelCnnConfig, Sampler, draw_uniforms, row_dropout
from paper_utils.nn.quantizer import Quantized, QuantizerConfig, VectorQuantizer, perplexity
from paper_utils.nn.streaming import Streamed, decoder_reach, encoder_reach
from paper_utils.nn.temporal import seeded
from paper_utils.world.pose_layout import EXPRESSION, assemble, joint_columns, upper_columns

BODY = 39  # columns of the body among the 129 of body and hands; released code
FACE_LOSSES = ("jaw", "official")


@dataclass(frozen=True)
class CodebookConfig:
    """An autoencoder with a codebook in the middle; the defaults are those of the released code, for body and for hands.

    Parameters
    ----------
    width, residual_layers
        See `paper_utils.nn.motion_autoencoder.MotionCodec`.
    quantizer
        Number and length of codes, and how they move.
    """

    width: int = 1024
    residual_layers: int = 2
    quantizer: QuantizerConfig = field(default_factory=QuantizerConfig)

    def codec(self, channels: int) -> MotionCodec:
        """Sizes of encoder and decoder for so many columns."""
        return MotionCodec(channels, self.width, self.quantizer.dim, self.residual_layers)


@dataclass(frozen=True)
class PriorConfig:
    """The distribution of codes given sound and speaker; defaults of the released code.

    Parameters
    ----------
    grid
        The network over (time, part); its `audio` is the width of the sound encoder.
    features
        Numbers a frame of sound: 64 MFCC.
    residual_layers
        Of the sound encoder.
    row_dropout
        Probability that a row of sound is dropped in training, for the whole batch.
    """

    grid: PixelCnnConfig = field(default_factory=PixelCnnConfig)
    features: int = 64
    residual_layers: int = 2
    row_dropout: float = 0.1


@dataclass(frozen=True)
class FaceConfig:
    """The face network behind wav2vec 2.0; defaults of the released code.

    Parameters
    ----------
    hidden
        Numbers a frame that come in.
    width, jaw_width, speaker_width
        Channels of the shared and expression layers, of the jaw layers, and of the speaker.
    speakers
        Known speakers.
    jaw, expression
        Numbers a frame that go out.
    dropout
        On the projected features.
    """

    hidden: int = 768
    width: int = 256
    jaw_width: int = 64
    speaker_width: int = 64
    speakers: int = 4
    jaw: int = 3
    expression: int = 100
    dropout: float = 0.1


@dataclass(frozen=True)
class RegressorConfig:
    """The deterministic baseline: dilated convolutions at full frame rate. All choices of ours.

    Parameters
    ----------
    features, channels
        Numbers a frame that come in and go out.
    width, layers, kernel
        Layer i has dilation 2^i.
    speakers
        Known speakers, given as one number each.
    """

    features: int = 64
    channels: int = 129
    width: int = 48
    layers: int = 4
    kernel: int = 5
    speakers: int = 4


QUICK_CODEBOOK = CodebookConfig(64, 1, QuantizerConfig(codes=32, dim=16, decay=0.95))
QUICK_PRIOR = PriorConfig(PixelCnnConfig(codes=32, width=24, layers=4, head=64, audio=32))


# --------------------------------------------------------------------------------------------------- 1. what is heard


def sound_features(samples: Float[Tensor, "batch samples"], sample_rate: int) -> Float[Tensor, "batch time 64"]:
    """What body and hands hear: 64 MFCC at 29.97 frames a second, not normalised (released code).

    The hop of 734 samples drifts against motion at 30 frames a second, by 55 ms a minute.

    Parameters
    ----------
    samples
        In [-1, 1].
    sample_rate
        Must be 22,000 Hz, that of SHOW's files (not 22,050).

    Raises
    ------
    ValueError
        If the rate is another one, or samples are missing, NaN or infinite.
    """
    if sample_rate != audio.TALKSHOW_MEL.sample_rate:
        raise ValueError(
            f"sample_rate: expected {audio.TALKSHOW_MEL.sample_rate} Hz, found {sample_rate}; resample the recording first "
            "(paper_utils.audio_files.resample)"
        )
    return audio.mfcc(samples, audio.TALKSHOW_MEL)


# --------------------------------------------------------------------------------------------- 2. codes of body and hands


class Coded(NamedTuple):
    """What a `VqVae` makes of motion: the reconstruction, what the encoder said, and its codes."""

    motion: Float[Tensor, "batch time channels"]
    latents: Float[Tensor, "batch codes dim"]
    quantized: Quantized


class VqVae(nn.Module):
    r"""Motion to one code for every four frames and back; one network for the body, another one for both hands.

    .. math:: z = E(x), \qquad c_r = \arg\min_k \lVert z_r - e_k \rVert, \qquad \hat x = D(e_{c_1}, e_{c_2}, \ldots)

    Not causal: a code sees 54 frames, a frame 13 codes. The last T mod 4 frames are lost.

    Parameters
    ----------
    channels
        39 body, 90 hands; 129 is the ablation with a single codebook.
    config
        Sizes.
    seed
        Of the first weights and codes.

    Examples
    --------
    >>> sum(p.numel() for p in VqVae(39, CodebookConfig(), seed=0).parameters())
    35472743
    """

    def __init__(self, channels: int, config: CodebookConfig, *, seed: int) -> None:
        super().__init__()
        self.channels, self.config = channels, config
        codec = config.codec(channels)
        with seeded(seed):
            self.encoder, self.decoder = MotionEncoder(codec), MotionDecoder(codec)
        self.quantizer = VectorQuantizer(config.quantizer, seed=seed)

    def forward(self, motion: Float[Tensor, "batch time channels"], *, quantize: bool = True) -> Coded:
        """Reconstruction; with `quantize` off the decoder gets what the encoder said."""
        latents = self.encoder(motion.transpose(1, 2)).transpose(1, 2)
        if quantize:
            quantized = self.quantizer(latents)
        else:
            quantized = Quantized(latents, self.quantizer.assign(latents.detach()), latents.new_zeros(()))
        return Coded(self.decoder(quantized.vectors.transpose(1, 2)).transpose(1, 2), latents, quantized)

    @torch.no_grad()
    def encode(self, motion: Float[Tensor, "batch time channels"]) -> Int[Tensor, "batch codes"]:
        """Codes of motion; call it in evaluation mode.

        Raises
        ------
        ValueError
            If the motion is shorter than a code, has other columns, or is not finite.
        """
        if motion.shape[1] < FRAMES_A_CODE or motion.shape[2] != self.channels:
            raise ValueError(
                f"motion: expected (batch, at least {FRAMES_A_CODE} frames, {self.channels} columns), found {tuple(motion.shape)}; a "
                f"sequence shorter than the {FRAMES_A_CODE} frames of a code has none"
            )
        check_finite(motion, "motion")
        return self.quantizer.assign(self.encoder(motion.transpose(1, 2)).transpose(1, 2))

    @torch.no_grad()
    def decode(self, codes: Int[Tensor, "batch codes"]) -> Float[Tensor, "batch time channels"]:
        """Four frames for each code; call it in evaluation mode."""
        if not codes.shape[1]:
            raise ValueError("codes: there are none to decode")
        return self.decoder(self.quantizer.lookup(codes).transpose(1, 2)).transpose(1, 2)


def codebook_losses(
    coded: Coded, motion: Float[Tensor, "batch time channels"], *, velocity: float = 1.0
) -> dict[str, Float[Tensor, ""]]:
    r"""Three terms, to be added.

    .. math::
        L = \overline{|\hat x - x|} + \lambda\,\overline{|(\hat x_{t+1} - \hat x_t) - (x_{t+1} - x_t)|}
            + \beta\,\overline{(z - \mathrm{sg}(e_c))^2}

    Parameters
    ----------
    coded
        From `VqVae`.
    motion
        What went in; frames that no code stands for are left out.
    velocity
        :math:`\lambda`, 1 in the released code.
    """
    target = motion[:, : coded.motion.shape[1]]
    return {
        "frames": functional.l1_loss(coded.motion, target),
        "velocity": velocity * functional.l1_loss(coded.motion.diff(dim=1), target.diff(dim=1)),
        "commitment": coded.quantized.commitment,
    }


# ---------------------------------------------------------------------------------------- 3. the cross-conditional prior


class SoundEncoder(MotionEncoder):
    """The encoder of motion without its last layer, on sound: one vector for every four frames. Not causal."""

    def __init__(self, features: int, width: int, residual_layers: int = 2) -> None:
        super().__init__(MotionCodec(features, width, width, residual_layers))
        self.pre_vq_conv = nn.Identity()


class Prior(nn.Module):
    r"""Sound encoder and grid network: :math:`p(c_{t,0}, c_{t,1} \mid c_{<t}, a, s)`, body first, hands given the body of the same row.

    Parameters
    ----------
    config
        Sizes. With ``grid.audio = 0`` there is no sound encoder.
    seed
        Of the first weights.
    """

    def __init__(self, config: PriorConfig, *, seed: int) -> None:
        super().__init__()
        self.config = config
        self.sound = None
        if config.grid.audio:
            with seeded(seed):
                self.sound = SoundEncoder(config.features, config.grid.audio, config.residual_layers)
        self.grid = PixelCnn(config.grid, seed=seed)

    def rows(self, features: Float[Tensor, "batch time features"]) -> Float[Tensor, "batch rows audio"] | None:
        """One vector of sound for every four frames; None for a prior without sound."""
        return None if self.sound is None else self.sound(features.transpose(1, 2)).transpose(1, 2)

    def forward(
        self,
        codes: Int[Tensor, "batch rows 2"],
        features: Float[Tensor, "batch time features"],
        speakers: Int[Tensor, " batch"],
        keep: Float[Tensor, " rows"] | None = None,
    ) -> Float[Tensor, "batch rows 2 codes"]:
        """Logits of every code.

        Parameters
        ----------
        codes
            Body in column 0, hands in column 1.
        features
            Sound, four frames a row; up to three more are ignored.
        speakers
            Number of each speaker.
        keep
            See `paper_utils.nn.pixelcnn.row_dropout`.

        Raises
        ------
        ValueError
            If rows of sound and of codes differ in number, or a speaker is unknown.
        """
        sound = self.rows(features)
        if sound is not None and sound.shape[1] != codes.shape[1]:
            raise ValueError(
                f"prior: {codes.shape[1]} rows of codes, but {features.shape[1]} frames of sound make {sound.shape[1]}; cut both to one length"
            )
        return self.grid(codes, speakers, sound, keep=keep)


def code_nll(
    logits: Float[Tensor, "batch rows 2 codes"], codes: Int[Tensor, "batch rows 2"]
) -> Float[Tensor, "batch rows 2"]:
    r"""Surprise of each code in nats, :math:`-\log p(c_{t,j} \mid \ldots)`; its mean is the training loss, and column 1 that of the hands."""
    return functional.cross_entropy(logits.permute(0, 3, 1, 2), codes, reduction="none")


# ------------------------------------------------------------------------------------------------------------- 4. the face


def resample_features(
    features: Float[Tensor, "batch time channels"],
    frames: int | None = None,
    *,
    rate: float = 50.0,
    target: float = 30.0,
) -> Float[Tensor, "batch frames channels"]:
    r"""Linear interpolation to another number of frames, each frame taken as the middle of its time (``align_corners`` off).

    .. math:: y_i = x\big((i + \tfrac12)\,T/T' - \tfrac12\big)

    Parameters
    ----------
    features
        T frames.
    frames
        T'; by default :math:`\lfloor T r' / r \rfloor`.
    rate, target
        :math:`r` and :math:`r'`: wav2vec 2.0 has 50 frames a second, SHOW 30.

    Raises
    ------
    ValueError
        If no frame is there or wanted.
    """
    wanted = int(features.shape[1] / rate * target) if frames is None else frames
    if features.shape[1] < 1 or wanted < 1:
        raise ValueError(f"resample: expected at least one frame, found {features.shape[1]} and {wanted} wanted")
    return functional.interpolate(features.transpose(1, 2), size=wanted, mode="linear").transpose(1, 2)


class SpeechFeatures(nn.Module):
    """wav2vec 2.0 at the frames of the motion, as TalkSHOW uses it: samples as they are, convolutions frozen, evaluation mode throughout.

    Parameters
    ----------
    model
        ``transformers.Wav2Vec2Model``, such as `paper_utils.nn.speech_features.load_wav2vec2` reads; wav2vec2-base-960h in the paper.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model.eval()
        self.model.feature_extractor.requires_grad_(False)

    def train(self, mode: bool = True) -> SpeechFeatures:
        """The model stays in evaluation mode, without dropout and masking: nothing in the released code switches it over."""
        super().train(mode)
        self.model.eval()
        return self

    def forward(self, samples: Float[Tensor, "batch samples"], frames: int) -> Float[Tensor, "batch frames hidden"]:
        """Hidden states of 16 kHz recordings at `frames` frames."""
        local = self.model.feature_extractor(samples).transpose(1, 2)
        hidden, _ = self.model.feature_projection(resample_features(local, frames))
        return self.model.encoder(hidden)[0]


class FaceBlock(nn.Module):
    r"""Convolution over three frames, layer norm over the channels of each frame, what is added, ReLU.

    Parameters
    ----------
    inputs, outputs
        Channels.
    residual
        ``"none"``, ``"identity"``, or ``"conv"``: a convolution of its own.
    """

    def __init__(self, inputs: int, outputs: int, residual: str = "none") -> None:
        super().__init__()
        self.conv, self.norm, self.kind = nn.Conv1d(inputs, outputs, 3, padding=1), nn.LayerNorm(outputs), residual
        if residual == "conv":
            self.residual = nn.Conv1d(inputs, outputs, 3, padding=1)

    def forward(self, x: Float[Tensor, "batch inputs time"]) -> Float[Tensor, "batch outputs time"]:
        """Same length."""
        y = self.norm(self.conv(x).transpose(1, 2)).transpose(1, 2)
        if self.kind != "none":
            y = y + (self.residual(x) if self.kind == "conv" else x)
        return y.relu()


class FaceHead(nn.Module):
    """From hidden states of speech and a speaker to jaw and expression: shared layers, then three for the jaw and three for the expression.

    Deterministic. A frame sees six frames of features on either side.

    Parameters
    ----------
    config
        Sizes.
    seed
        Of the first weights.

    Examples
    --------
    >>> sum(p.numel() for p in FaceHead(FaceConfig(), seed=0).parameters())
    1776807
    """

    def __init__(self, config: FaceConfig, *, seed: int) -> None:
        super().__init__()
        self.config, width = config, config.width
        with seeded(seed):
            self.project = nn.Linear(config.hidden, width)
            self.dropout = nn.Dropout(config.dropout)
            self.speaker = nn.Conv1d(config.speakers, config.speaker_width, 1)
            first = FaceBlock(width + config.speaker_width, width, "conv")
            self.shared = nn.Sequential(first, *(FaceBlock(width, width, "identity") for _ in range(2)))
            widths = (width, *(config.jaw_width,) * 3)
            self.jaw = nn.Sequential(*(FaceBlock(a, b) for a, b in pairwise(widths)))
            self.expression = nn.Sequential(*(FaceBlock(width, width) for _ in range(3)))
            self.jaw_out = nn.Conv1d(config.jaw_width, config.jaw, 1)
            self.expression_out = nn.Conv1d(width, config.expression, 1)

    def shared_features(
        self, hidden: Float[Tensor, "batch time hidden"], speakers: Float[Tensor, "batch speakers"]
    ) -> Float[Tensor, "batch width time"]:
        """What both heads read."""
        x = self.dropout(self.project(hidden)).transpose(1, 2)
        who = self.speaker(speakers[:, :, None]).expand(-1, -1, x.shape[2])
        return self.shared(torch.cat([x, who], dim=1))

    def forward(
        self, hidden: Float[Tensor, "batch time hidden"], speakers: Float[Tensor, "batch speakers"]
    ) -> Float[Tensor, "batch time face"]:
        """Jaw, then expression.

        Parameters
        ----------
        hidden
            Speech features at the frames of the motion.
        speakers
            One-hot (`one_hot`). The released demo gives all zeros, which training never shows.
        """
        shared = self.shared_features(hidden, speakers)
        parts = self.jaw_out(self.jaw(shared)), self.expression_out(self.expression(shared))
        return torch.cat(parts, dim=1).transpose(1, 2)


def one_hot(speakers: Int[Tensor, " batch"], count: int = 4) -> Float[Tensor, "batch speakers"]:
    """Speakers as one-hot rows.

    Raises
    ------
    ValueError
        If one is unknown.
    """
    if len(speakers) and not 0 <= int(speakers.min()) <= int(speakers.max()) < count:
        raise ValueError(f"speakers: expected 0 to {count - 1}, found {sorted(set(speakers.tolist()))}")
    return functional.one_hot(speakers, count).float()


def face_losses(
    face: Float[Tensor, "batch time 103"], motion: Float[Tensor, "batch time 265"], *, jaw: str = "jaw"
) -> dict[str, Float[Tensor, ""]]:
    r"""Two terms, to be added: absolute error of the jaw, squared error of the expression.

    .. math:: L = \overline{|\hat j - j|} + \overline{(\hat e - e)^2}

    Parameters
    ----------
    face
        Jaw (3) and expression (100).
    motion
        Full frames.
    jaw
        ``"jaw"``: the three columns of the jaw. ``"official"``: columns 0 to 5 of both arrays, as in the released code, which compares the
        first three expression coefficients with the pose of the left eye. (In its six-number representation the slice is right.)

    Raises
    ------
    ValueError
        If `jaw` is unknown.
    """
    if jaw not in FACE_LOSSES:
        raise ValueError(f"jaw: expected one of {', '.join(FACE_LOSSES)}, found {jaw!r}")
    columns = joint_columns("jaw") if jaw == "jaw" else slice(0, 6)
    return {
        "jaw": functional.l1_loss(face[..., columns], motion[..., columns]),
        "expression": functional.mse_loss(face[..., 3:], motion[..., EXPRESSION]),
    }


# ----------------------------------------------------------------------------------------- 5. the deterministic baseline


class Regressor(nn.Module):
    r"""Motion as a function of sound and speaker: :math:`\hat x = f(a, s)`, dilated convolutions at full frame rate.

    It learns the mean of all motion that goes with a sound. That is right for a face and lifeless for gestures.

    Parameters
    ----------
    config
        Sizes.
    seed
        Of the first weights.
    """

    def __init__(self, config: RegressorConfig, *, seed: int) -> None:
        super().__init__()
        self.config = config
        layers: list[nn.Module] = []
        with seeded(seed):
            self.scale = nn.BatchNorm1d(config.features, affine=False)  # sound features have no common scale
            inputs = config.features + config.speakers
            for index in range(config.layers):
                reach = 2**index * (config.kernel // 2)
                layers += [nn.Conv1d(inputs, config.width, config.kernel, dilation=2**index, padding=reach), nn.ReLU()]
                inputs = config.width
            self.net = nn.Sequential(*layers, nn.Conv1d(inputs, config.channels, 1))

    def forward(
        self, features: Float[Tensor, "batch time features"], speakers: Float[Tensor, "batch speakers"]
    ) -> Float[Tensor, "batch time channels"]:
        """As many frames as the sound has.

        Parameters
        ----------
        features
            Sound.
        speakers
            One-hot (`one_hot`).
        """
        x = self.scale(features.transpose(1, 2))
        who = speakers[:, :, None].expand(-1, -1, x.shape[2])
        return self.net(torch.cat([x, who], dim=1)).transpose(1, 2)


# ------------------------------------------------------------------------------------------------------------- 6. training


@dataclass(frozen=True)
class CodebookTraining:
    """How a `VqVae` is trained; the defaults are the released ones.

    Parameters
    ----------
    steps, batch, window, stride, lr
        Adam over windows of so many frames, see `Clips.windows`.
    velocity
        Weight of the velocity term.
    decay_share
        Learning rate falls linearly to zero over this last share of the steps.
    warmup
        Steps without quantizer at first.
    start
        ``"random"``: the codebook as it was made. ``"data"``: after `warmup` it is put on random encoder outputs.
    restart_every, restart_until, restart_least
        Every so many steps, up to this share of the steps, codes that fewer vectors than `restart_least` a batch chose of late are put on
        random encoder outputs; 0: never.
    """

    steps: int = 285_000  # 100 epochs of 2,850 steps, by nominal durations
    batch: int = 128
    window: int = 88
    stride: int = 3
    lr: float = 1e-4
    velocity: float = 1.0
    decay_share: float = 0.0
    warmup: int = 0
    start: str = "random"
    restart_every: int = 0
    restart_until: float = 0.7
    restart_least: float = 1.0

    def __post_init__(self) -> None:
        if self.start not in ("random", "data"):
            raise ValueError(f"start: expected 'random' or 'data', found {self.start!r}")


@dataclass(frozen=True)
class PriorTraining:
    """How a `Prior` is trained; the defaults are the released ones.

    Parameters
    ----------
    steps, batch, window, stride, lr, decay_share
        As for `CodebookTraining`.
    clip_norm
        Largest norm of the grid network's gradient; the sound encoder's is not clipped.
    """

    steps: int = 285_000
    batch: int = 128
    window: int = 88
    stride: int = 3
    lr: float = 1e-4
    decay_share: float = 0.0
    clip_norm: float = 5.0


@dataclass(frozen=True)
class RegressorTraining:
    """How a `Regressor` is trained; all choices of ours but the window.

    Parameters
    ----------
    steps, batch, window, stride, lr, decay_share
        As for `CodebookTraining`.
    loss
        ``"mse"``, or ``"l1"``: absolute error of frames and of velocities, as the audio encoder-decoder baseline of the paper.
    """

    steps: int = 400
    batch: int = 32
    window: int = 88
    stride: int = 3
    lr: float = 3e-3
    decay_share: float = 0.4
    loss: str = "mse"

    def __post_init__(self) -> None:
        if self.loss not in ("mse", "l1"):
            raise ValueError(f"loss: expected 'mse' or 'l1', found {self.loss!r}")


@dataclass(frozen=True)
class FaceTraining:
    """How the face network is trained; the defaults are the released ones.

    Parameters
    ----------
    steps, lr, momentum, clip_norm
        SGD over whole clips. The released configuration says 1e-4, its trainer uses 1e-3.
    jaw
        See `face_losses`.
    batch
        Clips a step.
    """

    steps: int = 1_372_700  # 100 epochs over 13,727 clips
    lr: float = 1e-3
    momentum: float = 0.9
    clip_norm: float = 5.0
    jaw: str = "jaw"
    batch: int = 1


# The smallest settings that gave useful codes in a pilot on synthetic motion; choices of ours.
QUICK_CODEBOOK_TRAINING = CodebookTraining(
    steps=300, batch=32, lr=8e-3, velocity=0.5, decay_share=0.4, warmup=100, start="data", restart_every=20
)
QUICK_PRIOR_TRAINING = PriorTraining(steps=250, batch=32, lr=4e-3)


def _number(*of: int) -> int:
    return int(np.random.default_rng(of).integers(2**63 - 1))


def _chance(seed: int, step: int) -> torch.Generator:
    """A generator that depends on seed and step alone, so that a resumed run draws the same numbers."""
    return torch.Generator().manual_seed(_number(seed, step))


def _adam(network: nn.Module, lr: float, fabric: lightning_fabric.Fabric) -> torch.optim.Adam:
    """Adam; on a CPU in one pass over all weights, of which these networks have many small ones."""
    return torch.optim.Adam(network.parameters(), lr=lr, fused=fabric.device.type == "cpu")


def _falling(optimizer: torch.optim.Optimizer, steps: int, share: float) -> torch.optim.lr_scheduler.LambdaLR | None:
    """Constant, then linearly to zero over the last share of the steps."""
    if not share:
        return None
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (steps - step) / (share * steps)))


def _batch(windows: Tensor, batch: int, step: int, seed: int, fabric: lightning_fabric.Fabric) -> Tensor:
    return training.batch_indices(
        len(windows), batch, step, seed=seed, rank=fabric.global_rank, world_size=fabric.world_size
    )


def train_codebook(
    clips: Clips,
    columns: Sequence[int] | Int[np.ndarray, " columns"],
    config: CodebookConfig,
    settings: CodebookTraining,
    *,
    fabric: lightning_fabric.Fabric,
    seed: int = 0,
    checkpoint: Path | None = None,
    identity: str = "",
) -> tuple[VqVae, dict[str, Float[np.ndarray, " steps"]]]:
    """Train codes for some columns of motion; body and hands are trained separately.

    Parameters
    ----------
    clips
        Training motion.
    columns
        Which of its columns; ``upper_columns()[:39]`` is the body, ``[39:]`` the hands. With ``upper_columns("official")`` the feet are
        learned in place of neck and left collar, as in the released code.
    config, settings
        Sizes and schedule.
    fabric
        See `paper_utils.training.launch`.
    seed
        Of weights, order and restarts.
    checkpoint, identity
        See `paper_utils.training.Run`.

    Returns
    -------
    The network in evaluation mode; and, for each step, the loss, its terms and the perplexity of the batch's codes.
    """
    columns = torch.as_tensor(np.asarray(columns))
    windows = clips.windows(settings.window, settings.stride)
    network = VqVae(len(columns), config, seed=seed)
    optimizer = _adam(network, settings.lr, fabric)
    run = training.Run(
        fabric,
        {"network": network},
        optimizer,
        steps=settings.steps,
        schedule=_falling(optimizer, settings.steps, settings.decay_share),
        checkpoint=checkpoint,
        identity=identity,
    )
    quantizer, size = network.quantizer, config.quantizer.codes
    for step in run:
        rows = windows[_batch(windows, settings.batch, step, seed, fabric)]
        motion = clips.cut(rows, settings.window)[0][..., columns].to(fabric.device)
        if step == settings.warmup and settings.start == "data":
            with torch.no_grad():
                latents = network.encoder(motion.transpose(1, 2)).transpose(1, 2)
                quantizer.start_from(whole_batch.gather(latents), _chance(seed, step))
        coded = run.modules["network"](motion, quantize=step >= settings.warmup)
        losses = codebook_losses(coded, motion, velocity=settings.velocity)
        codes, latents = whole_batch.gather(coded.quantized.codes), whole_batch.gather(coded.latents.detach())
        run.update(sum(losses.values()), **losses, perplexity=perplexity(codes, size))
        due = settings.restart_every and step % settings.restart_every == 0
        if due and settings.warmup < step < settings.restart_until * settings.steps:
            quantizer.restart_unused(latents, _chance(seed, step), least_count=settings.restart_least)
    return network.eval(), run.history


@torch.no_grad()
def encode_windows(
    clips: Clips,
    windows: Int[Tensor, "windows 2"],
    body: VqVae,
    hands: VqVae,
    *,
    length: int = 88,
    index_set: str = "consistent",
    batch: int = 256,
) -> Int[Tensor, "windows rows 2"]:
    """Codes of windows, body in column 0 and hands in column 1: what the prior learns from.

    Parameters
    ----------
    clips, windows, length
        See `Clips`.
    body, hands
        Trained, in evaluation mode.
    index_set
        See `paper_utils.world.pose_layout.upper_columns`; the one the networks were trained with.
    batch
        Windows at once.
    """
    columns = torch.from_numpy(upper_columns(index_set))
    device = next(body.parameters()).device
    parts = []
    for rows in windows.split(batch):
        upper = clips.cut(rows, length)[0][..., columns].to(device)
        parts.append(torch.stack([body.encode(upper[..., :BODY]), hands.encode(upper[..., BODY:])], dim=2).cpu())
    return torch.cat(parts)


def train_prior(
    clips: Clips,
    windows: Int[Tensor, "windows 2"],
    codes: Int[Tensor, "coded rows 2"],
    config: PriorConfig,
    settings: PriorTraining,
    *,
    fabric: lightning_fabric.Fabric,
    seed: int = 0,
    checkpoint: Path | None = None,
    identity: str = "",
) -> tuple[Prior, dict[str, Float[np.ndarray, "steps ..."]]]:
    """Train the prior on the codes of windows.

    Parameters
    ----------
    clips, windows
        Where the sound of each window is.
    codes
        From `encode_windows`.
    config, settings
        Sizes and schedule.
    fabric, seed, checkpoint, identity
        As for `train_codebook`.

    Returns
    -------
    The network in evaluation mode; and, for each step, the loss and the mean surprise of body and hands in nats.

    Raises
    ------
    ValueError
        If codes and windows differ in number or length.
    """
    if len(codes) != len(windows) or codes.shape[1] != settings.window // FRAMES_A_CODE:
        raise ValueError(
            f"codes: expected ({len(windows)}, {settings.window // FRAMES_A_CODE}, 2) for these windows, found {tuple(codes.shape)}"
        )
    prior = Prior(config, seed=seed)
    optimizer = _adam(prior, settings.lr, fabric)

    def clip(norm: float) -> Tensor:
        return nn.utils.clip_grad_norm_(prior.grid.parameters(), norm)

    run = training.Run(
        fabric,
        {"prior": prior},
        optimizer,
        steps=settings.steps,
        schedule=_falling(optimizer, settings.steps, settings.decay_share),
        clip_norm=settings.clip_norm,
        clip=clip,
        checkpoint=checkpoint,
        identity=identity,
    )
    for step in run:
        rows = _batch(windows, settings.batch, step, seed, fabric)
        _, features, speakers = clips.cut(windows[rows], settings.window)
        target = codes[rows].to(fabric.device)
        keep = None
        if config.grid.audio:
            keep = row_dropout(codes.shape[1], config.row_dropout, _chance(seed, step)).to(fabric.device)
        logits = run.modules["prior"](target, features.to(fabric.device), speakers.to(fabric.device), keep)
        surprise = code_nll(logits, target)
        run.update(surprise.mean(), parts=surprise.detach().mean((0, 1)))
    return prior.eval(), run.history


def train_regressor(
    clips: Clips,
    columns: Sequence[int] | Int[np.ndarray, " columns"],
    config: RegressorConfig,
    settings: RegressorTraining,
    *,
    fabric: lightning_fabric.Fabric,
    seed: int = 0,
    checkpoint: Path | None = None,
    identity: str = "",
) -> tuple[Regressor, dict[str, Float[np.ndarray, " steps"]]]:
    """Train a regressor of some columns of motion. Parameters and returns as for `train_codebook`."""
    columns = torch.as_tensor(np.asarray(columns))
    if config.channels != len(columns):
        raise ValueError(f"regressor: {config.channels} channels, but {len(columns)} columns to learn")
    windows = clips.windows(settings.window, settings.stride)
    network = Regressor(config, seed=seed)
    optimizer = _adam(network, settings.lr, fabric)
    run = training.Run(
        fabric,
        {"network": network},
        optimizer,
        steps=settings.steps,
        schedule=_falling(optimizer, settings.steps, settings.decay_share),
        checkpoint=checkpoint,
        identity=identity,
    )
    for step in run:
        rows = windows[_batch(windows, settings.batch, step, seed, fabric)]
        motion, features, speakers = (part.to(fabric.device) for part in clips.cut(rows, settings.window))
        found, target = run.modules["network"](features, one_hot(speakers, config.speakers)), motion[..., columns]
        if settings.loss == "mse":
            loss = functional.mse_loss(found, target)
        else:
            loss = functional.l1_loss(found, target) + functional.l1_loss(found.diff(dim=1), target.diff(dim=1))
        run.update(loss)
    return network.eval(), run.history


@runtime_checkable
class SpokenFaces(Protocol):
    """Whole clips for the face network: ``faces[i]`` is (what the speech network reads, motion (time, 265), speaker)."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int]: ...


class FaceGenerator(nn.Module):
    """Speech network and face head as one.

    Parameters
    ----------
    speech
        (batch of recordings, frames) to (batch, frames, hidden), such as `SpeechFeatures`.
    head
        `FaceHead`.
    """

    def __init__(self, speech: nn.Module, head: FaceHead) -> None:
        super().__init__()
        self.speech, self.head = speech, head

    def forward(
        self, recordings: Float[Tensor, batch * sound], frames: int, speakers: Float[Tensor, "batch speakers"]
    ) -> Float[Tensor, "batch frames face"]:
        """Jaw and expression of every frame."""
        return self.head(self.speech(recordings, frames), speakers)


def train_face(
    faces: SpokenFaces,
    network: FaceGenerator,
    settings: FaceTraining,
    *,
    fabric: lightning_fabric.Fabric,
    seed: int = 0,
    checkpoint: Path | None = None,
    identity: str = "",
) -> tuple[FaceGenerator, dict[str, Float[np.ndarray, " steps"]]]:
    """Train the face network on whole clips, one after the other, as they differ in length.

    Where processes cannot share the clips of a step evenly, as the single clip of the release, each of them computes all.

    Parameters
    ----------
    faces
        Training clips.
    network
        Is trained in place; what does not require a gradient stays.
    settings
        Schedule.
    fabric, seed, checkpoint, identity
        As for `train_codebook`.

    Returns
    -------
    The network in evaluation mode; and, for each step, the loss and its terms.
    """
    learned = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(learned, lr=settings.lr, momentum=settings.momentum)
    run = training.Run(
        fabric, {"network": network}, optimizer, steps=settings.steps, clip_norm=settings.clip_norm, checkpoint=checkpoint,
        identity=identity, coupled=False,
    )  # fmt: skip
    for step in run:
        order, places = (
            training.batch_indices(len(faces), settings.batch, step, seed=seed),
            torch.arange(settings.batch),
        )
        here = places if settings.batch % fabric.world_size else whole_batch.own(places)
        each = []
        for place in here.tolist():
            sound, motion, speaker = faces[int(order[place])]
            sound, motion = sound[None].to(fabric.device), motion[None].to(fabric.device)
            who = one_hot(torch.tensor([speaker]), network.head.config.speakers).to(fabric.device)
            with seeded(_number(seed, step, place)):  # dropout draws from the global generator, for each clip anew
                face = run.modules["network"](sound, motion.shape[1], who)
            each.append(face_losses(face, motion, jaw=settings.jaw))
        losses = {name: torch.stack([part[name] for part in each]).mean() for name in each[0]}
        run.update(sum(losses.values()), **losses)
    return network.eval(), run.history


# ------------------------------------------------------------------------------------------------ 7. from sound to motion


class TalkShow(nn.Module):
    """The trained networks: codes of body and hands, their prior, and a face.

    Parameters
    ----------
    body, hands
        The two `VqVae`.
    prior
        Over their codes.
    face
        `FaceHead` or `Regressor` with 103 channels, or None for no face.

    Raises
    ------
    ValueError
        If codes and prior do not fit each other.
    """

    def __init__(self, body: VqVae, hands: VqVae, prior: Prior, face: FaceHead | Regressor | None = None) -> None:
        super().__init__()
        sizes = body.config.quantizer.codes, hands.config.quantizer.codes, prior.config.grid.codes
        if len(set(sizes)) != 1:
            raise ValueError(f"talkshow: body, hands and prior need equally many codes, found {sizes}")
        self.body, self.hands, self.prior, self.face = body, hands, prior, face
        self.eval()

    @torch.no_grad()
    def decode(self, codes: Int[Tensor, "batch rows 2"]) -> Float[Tensor, "batch time upper"]:
        """Body and hands of codes, in the order of `paper_utils.world.pose_layout.upper_columns`."""
        return torch.cat([self.body.decode(codes[..., 0]), self.hands.decode(codes[..., 1])], dim=2)

    @torch.no_grad()
    def draw_codes(
        self,
        features: Float[Tensor, "batch time features"],
        speakers: Int[Tensor, " batch"],
        *,
        generator: torch.Generator | None = None,
        uniforms: Float[Tensor, "sequences rows 2"] | None = None,
        draws: int = 1,
        temperature: float = 1.0,
    ) -> Int[Tensor, "batch draws rows 2"]:
        """Codes for sound.

        Parameters
        ----------
        features
            Sound.
        speakers
            Number of each speaker.
        generator, uniforms
            Source of chance, one of the two; uniforms have one row a draw, the draws of a sound one after the other.
        draws
            How many for each sound.
        temperature
            1 in the released code.

        Raises
        ------
        ValueError
            If the sound is shorter than a code, or not finite, or a speaker is unknown.
        """
        if features.shape[1] < FRAMES_A_CODE:
            raise ValueError(
                f"features: expected at least the {FRAMES_A_CODE} frames of a code, found {features.shape[1]}; the recording is too short"
            )
        check_finite(features, "features")
        sampler = Sampler(self.prior.grid, speakers.repeat_interleave(draws), temperature=temperature)
        sound = self.prior.rows(features)
        given = features.shape[1] // FRAMES_A_CODE if sound is None else sound.repeat_interleave(draws, 0)
        return sampler.draw(given, uniforms, generator=generator).unflatten(0, (len(features), draws))

    @torch.no_grad()
    def generate(
        self,
        features: Float[Tensor, "batch time features"],
        speakers: Int[Tensor, " batch"],
        *,
        generator: torch.Generator,
        draws: int = 1,
        temperature: float = 1.0,
        face_features: Float[Tensor, "batch frames face_features"] | None = None,
        posture: str = "sit",
    ) -> Float[Tensor, "batch draws frames 265"]:
        """Whole frames for sound: the same face in every draw, another body each time.

        Parameters
        ----------
        features, speakers, generator, draws, temperature
            See `draw_codes`.
        face_features
            What the face network reads, at the frames of the motion; by default `features`.
        posture
            Legs, see `paper_utils.world.pose_layout.constant_frame`; conan of SHOW stands, the others sit.

        Returns
        -------
        As many frames as the face has: the last frame of the body is repeated, or the body is cut (released code). Eyes are zero.
        """
        codes = self.draw_codes(features, speakers, generator=generator, draws=draws, temperature=temperature)
        upper = self.decode(codes.flatten(0, 1)).unflatten(0, codes.shape[:2])
        heard = features if face_features is None else face_features
        if self.face is None:
            face = upper.new_zeros(len(heard), heard.shape[1], 103)
        else:
            face = self.face(heard, one_hot(speakers, self.face.config.speakers).to(heard))
        upper = fit_length(upper, face.shape[1])
        return assemble(face[:, None].expand(-1, draws, -1, -1), upper, posture=posture)


def fit_length(motion: Float[Tensor, "*batch time columns"], frames: int) -> Float[Tensor, "*batch frames columns"]:
    """So many frames: cut, or the last one repeated."""
    last = motion.shape[-2] - 1
    return motion[..., torch.arange(frames).clamp(max=last), :]


class Stream:
    r"""Body and hands while the sound still arrives: the joined pieces are what the whole sound gives with the same random numbers.

    Codes are causal, the sound encoder and the decoders are not: with two residual layers a code waits for 28 frames of sound after its first,
    its frames for six more codes, so motion comes up to `delay` = 55 frames (1.8 s) behind the sound. The features must not depend on the future either;
    those of `sound_features` do so through one number, the loudest band of the recording, 80 dB under which everything is cut off.

    Parameters
    ----------
    model
        Trained, with a prior that hears.
    speakers
        Number of each stream's speaker.
    generator
        Source of chance.
    temperature
        1 in the released code.

    Attributes
    ----------
    delay
        Frames of motion that can be outstanding when sound has arrived.

    Raises
    ------
    ValueError
        If the prior does not hear, or a speaker is unknown.
    """

    def __init__(
        self, model: TalkShow, speakers: Int[Tensor, " batch"], *, generator: torch.Generator, temperature: float = 1.0
    ) -> None:
        prior = model.prior
        if prior.sound is None:
            raise ValueError("stream: the prior was made without sound (grid.audio = 0)")
        self._model, self._generator, self._speakers = model, generator, speakers
        self._sampler = Sampler(prior.grid, speakers, temperature=temperature)
        self._sound = Streamed(prior.sound, encoder_reach(prior.config.residual_layers), FRAMES_A_CODE)
        self._parts = [
            Streamed(part.decoder, decoder_reach(part.config.residual_layers), 1) for part in (model.body, model.hands)
        ]
        codes = max(decoder_reach(part.config.residual_layers).after for part in (model.body, model.hands))
        self.delay = encoder_reach(prior.config.residual_layers).after + FRAMES_A_CODE * codes + FRAMES_A_CODE - 1

    @torch.no_grad()
    def push(
        self, features: Float[Tensor, "batch time features"], *, last: bool = False
    ) -> Float[Tensor, "batch frames upper"]:
        """Frames that are certain now that this sound has arrived; with `last` all that are left.

        Raises
        ------
        ValueError
            If the sound is not finite, or ends before the four frames of a code.
        """
        check_finite(features, "features")
        rows = self._sound.push(features.transpose(1, 2), last=last).transpose(1, 2)
        uniforms = draw_uniforms(len(features), rows.shape[1], self._generator)
        codes = self._sampler.draw(rows, uniforms)
        parts = [
            stream.push(part.quantizer.lookup(codes[..., column]).transpose(1, 2), last=last)
            for column, (stream, part) in enumerate(
                zip(self._parts, (self._model.body, self._model.hands), strict=True)
            )
        ]
        return torch.cat(parts, dim=1).transpose(1, 2)
