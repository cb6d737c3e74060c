r"""MeshTalk (paper 04): a face mesh that speaks, from sound and one mesh at rest.

Top to bottom: losses with masks and swapped inputs; step 1, encoder and decoder; step 2, the autoregressive model of the latent space; speaking, as
a whole or as a stream; what else the latent space is good for; regressors to compare with; the official checkpoints. The networks are
`paper_utils.nn.meshtalk_networks`, the sampler is `paper_utils.nn.heads_sampler`.
Alexander Richard, Michael Zollhoefer, Yandong Wen, Fernando de la Torre, Yaser Sheikh, "MeshTalk: 3D Face Animation from Speech using
Cross-Modality Disentanglement", arXiv:2104.08223 (ICCV 2021). "Released" means the authors' code, which differs from the text where said.
Symbols: x mesh sequence, h mesh at rest, a sound, c codes; H heads of C classes. Everything in millimetres.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import lightning_fabric
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from paper_utils import training
from paper_utils.audio import scale_loudness
from paper_utils.audio_windows import ReleasedWindows, Windows, WindowStream, at_rate, features_at
from paper_utils.data.talking_faces import TalkingFaces
from paper_utils.nn import meshtalk_checkpoints, whole_batch
from paper_utils.nn.categorical import draw_uniforms, quantize
from paper_utils.nn.heads_sampler import Generators, HeadsSampler
from paper_utils.nn.meshtalk_networks import (
    ContextModel,
    Encoder,
    LstmState,
    Regressor,
    Sizes,
    VertexUnet,
    check_mesh,
    one_hot,
    vertex_statistics,
)

MEAN_ABS = 0.01  # loudness at which sound is heard; released code


# ------------------------------------------------------------------------------------------ 1. losses and swapped inputs

# What is decoded: the codes of x and a; of the expression of somebody else with a; of x with the sound of somebody else.
OWN, EXPRESSION_SWAPPED, AUDIO_SWAPPED = "own", "expression_swapped", "audio_swapped"
Objective = Literal["released", "paper", "reconstruction"]
DECODED: dict[str, tuple[str, ...]] = {
    "released": (OWN, EXPRESSION_SWAPPED, AUDIO_SWAPPED),
    "paper": (EXPRESSION_SWAPPED, AUDIO_SWAPPED),
    "reconstruction": (OWN,),
}


@dataclass(frozen=True)
class Masks:
    """Soft weights of the vertices in the loss, high on their region and low elsewhere; see `paper_utils.data.mesh_masks`.

    Parameters
    ----------
    mouth, upper, eyelids
        Where sound is to be heard; where the expression is to be seen; the lids (eye keypoints in the release).

    Raises
    ------
    ValueError
        If lengths differ, or a mask is negative, not finite, or zero everywhere.
    """

    mouth: Float[Tensor, " mouth_weights"]
    upper: Float[Tensor, " upper_weights"]
    eyelids: Float[Tensor, " eyelid_weights"]

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            mask = getattr(self, field.name)
            if mask.shape != self.mouth.shape:
                raise ValueError(
                    f"masks: {field.name} has {len(mask)} values, mouth has {len(self.mouth)}; all need one value a vertex"
                )
            if not torch.isfinite(mask).all() or (mask < 0).any() or not (mask > 0).any():
                raise ValueError(
                    f"masks: {field.name} must be finite, not negative, and positive somewhere; found {mask.min():g} to {mask.max():g}"
                )

    @classmethod
    def of(cls, faces: TalkingFaces) -> Masks:
        """The masks ``mouth``, ``upper_face`` and ``eyelids`` of a data set's mesh."""
        return cls(*(faces.mesh.mask(name) for name in ("mouth", "upper_face", "eyelids")))

    def to(self, device: torch.device | str) -> Masks:
        """The same on another device."""
        return Masks(self.mouth.to(device), self.upper.to(device), self.eyelids.to(device))


def draw_shifts(batch: int, generator: torch.Generator) -> tuple[int, int]:
    """Rotations of the batch, for the expressions and for the sounds: uniform in 1 to ``batch - 1``, so nobody meets himself.

    Raises
    ------
    ValueError
        For a batch of one, in which there is nobody to swap with.
    """
    if batch < 2:
        raise ValueError(
            f"batch: the cross-modality loss swaps expressions and sounds between samples, found {batch}; take at least 2"
        )
    first, second = torch.randint(1, batch, (2,), generator=generator).tolist()
    return first, second


def rotate(codes: Float[Tensor, "batch ..."], shift: int) -> Float[Tensor, "batch ..."]:
    """Sample i takes the place of sample ``(i + shift) mod B``'s code."""
    return whole_batch.own(whole_batch.gather(codes).roll(-shift, 0))


def masked_error(
    predicted: Float[Tensor, "batch time vertices 3"],
    truth: Float[Tensor, "batch time vertices 3"],
    mask: Float[Tensor, " weights"],
) -> Float[Tensor, ""]:
    r"""Squared error where the mask is, in mm².

    .. math:: M(R, m) = \frac{\sum_{b,t,v,k} m_v\,(R_{btvk} - x_{btvk})^2}{3\,B\,T \sum_v m_v}

    Raises
    ------
    ValueError
        If the mask has another length than the meshes.
    """
    if predicted.shape != truth.shape or mask.shape != truth.shape[2:3]:
        raise ValueError(
            f"mask: expected meshes of one shape and one weight for each of {truth.shape[2]} vertices, found {tuple(predicted.shape)}, "
            f"{tuple(truth.shape)} and {tuple(mask.shape)}"
        )
    per_vertex = (predicted - truth).square().mean((0, 1, 3))
    return (per_vertex * mask).sum() / mask.sum()


def joint_losses(
    decoded: Mapping[str, Float[Tensor, "batch time vertices 3"]],
    truth: Float[Tensor, "batch time vertices 3"],
    masks: Masks,
    objective: Objective = "released",
) -> dict[str, Float[Tensor, ""]]:
    r"""The terms of step 1; their plain sum is the loss. R, R_A, R_E: own, expression swapped (sound kept), sound swapped (expression kept).

    .. math::
        L_{\mathrm{released}} &= \overline{(R - x)^2} + M(R, m_{\mathrm{lid}}) + M(R_A, m_{\mathrm{mouth}}) + M(R_E, m_{\mathrm{upper}}) \\
        L_{\mathrm{paper}} &= M(R_A, m_{\mathrm{mouth}}) + M(R_E, m_{\mathrm{upper}}) + M(R_E, m_{\mathrm{lid}}) \\
        L_{\mathrm{reconstruction}} &= \overline{(R - x)^2}

    The paper sums over frames and vertices instead of taking means. That its eyelid term stands on R_E and that it has no term on R is from memory,
    unverified. Plain reconstruction is the ablation: it does not say which input is to explain what.

    Parameters
    ----------
    decoded
        Meshes by name, as `JointModel` returns them.
    truth
        x.
    masks
        Weights of the vertices.
    objective
        Which loss.

    Returns
    -------
    dict
        ``reconstruction``, ``eyelids``, ``mouth`` and ``upper`` as far as they are part of the objective; mm².
    """
    losses = {}
    if OWN in DECODED[objective]:
        losses["reconstruction"] = functional.mse_loss(decoded[OWN], truth)
    if objective == "released":
        losses["eyelids"] = masked_error(decoded[OWN], truth, masks.eyelids)
    if objective != "reconstruction":
        losses["mouth"] = masked_error(decoded[EXPRESSION_SWAPPED], truth, masks.mouth)
        losses["upper"] = masked_error(decoded[AUDIO_SWAPPED], truth, masks.upper)
    if objective == "paper":
        losses["eyelids"] = masked_error(decoded[AUDIO_SWAPPED], truth, masks.eyelids)
    return losses


# ------------------------------------------------------------------------------------------------------------- 2. step 1


class Batch(NamedTuple):
    """Segments of equal length: whose face, how it moved, what was heard."""

    template: Float[Tensor, "batch vertices 3"]
    vertices: Float[Tensor, "batch time vertices 3"]
    log_mel: Float[Tensor, "batch time bands subframes"]

    def to(self, device: torch.device | str) -> Batch:
        """The same on another device."""
        return Batch(self.template.to(device), self.vertices.to(device), self.log_mel.to(device))


class Segments:
    """Talking faces cut into segments of equal length, with the log-mel windows that are heard at their frames.

    Loudness is levelled a clip (released code). Sound outside a clip is silence.

    Parameters
    ----------
    faces
        Clips at the windows' frame rate and sample rate.
    windows
        Convention of the log-mel windows.
    length
        Frames of a segment.
    stride
        Frames from one segment to the next; by default they do not overlap.
    keep
        Compute the windows of all frames once and keep them. False: compute those of a batch when it is asked for; the released windows take
        32 KiB a frame.

    Raises
    ------
    ValueError
        If rates differ, or no clip is long enough.
    """

    def __init__(
        self, faces: TalkingFaces, windows: Windows, *, length: int, stride: int | None = None, keep: bool = True
    ) -> None:
        faces.check_fps(float(windows.fps))
        if faces.sample_rate != windows.mel.sample_rate:
            raise ValueError(
                f"{faces.name}: sound at {faces.sample_rate} Hz, the windows are made for {windows.mel.sample_rate} Hz; read the data at that rate"
            )
        self.faces, self.windows, self.length = faces, windows, length
        self.rows = faces.windows(length, stride)
        self._kept = None
        if keep:
            counts = faces.lengths.tolist()
            self._kept = torch.cat([self._heard(clip, 0, count) for clip, count in enumerate(counts)])

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def subjects(self) -> Int[Tensor, " segments"]:
        """Who speaks in each segment: an index into the subjects of the faces."""
        return self.faces.subject[self.rows[:, 0]]

    def _heard(self, clip: int, first: int, count: int) -> Tensor:
        samples = self.faces.audio[slice(*self.faces.audio_starts[clip : clip + 2].tolist())]
        return features_at(scale_loudness(samples[None], MEAN_ABS), self.windows, first, count)[0]

    def batch(self, index: Int[Tensor, " batch"]) -> Batch:
        """The chosen segments."""
        rows = self.rows[index]
        frames = (self.faces.starts[rows[:, 0]] + rows[:, 1])[:, None] + torch.arange(self.length)
        if self._kept is None:
            log_mel = torch.stack([self._heard(clip, first, self.length) for clip, first in rows.tolist()])
        else:
            log_mel = self._kept[frames]
        return Batch(self.faces.templates[self.faces.subject[rows[:, 0]]], self.faces.vertices[frames], log_mel)

    def batches(self, size: int) -> list[Batch]:
        """All segments in order, for evaluation; the last batch may be smaller."""
        return [self.batch(index) for index in torch.arange(len(self)).split(size)]


class JointModel(nn.Module):
    r"""Encoder and decoder, trained together: :math:`r(e, a) = D(h, \mathrm{quantize}(\mathrm{fuse}(e, a)))`, always with the rest face of the truth.

    Parameters
    ----------
    encoder, decoder
        Networks of the same sizes.
    """

    def __init__(self, encoder: Encoder, decoder: VertexUnet) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(
        self,
        batch: Batch,
        parts: Sequence[str] = (OWN,),
        *,
        shifts: tuple[int, int] = (0, 0),
        uniforms: Float[Tensor, "parts batch time heads classes"] | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Float[Tensor, "batch time vertices 3"]]:
        """Decoded meshes by name; every input is encoded once, all parts are decoded as one batch.

        Parameters
        ----------
        batch
            Segments.
        parts
            Which of own, expression swapped, sound swapped.
        shifts
            Rotations of expressions and of sounds, see `draw_shifts`.
        uniforms, generator
            Noise of the codes, given or drawn, and the source of dropout. With neither the most probable codes are taken.
        """
        expression = self.encoder.expression_encoder(batch.vertices)
        audio = self.encoder.audio_encoder(batch.log_mel, generator)
        pairs = {
            OWN: (expression, audio),
            EXPRESSION_SWAPPED: (rotate(expression, shifts[0]), audio),
            AUDIO_SWAPPED: (expression, rotate(audio, shifts[1])),
        }
        expressions, audios = (torch.cat([pairs[part][index] for part in parts]) for index in (0, 1))
        log_probs = self.encoder.fusion_model(expressions, audios)
        if uniforms is not None:
            uniforms = uniforms.flatten(0, 1)
        elif generator is not None:
            uniforms = draw_uniforms(log_probs.shape, generator, log_probs)
        codes, _ = quantize(log_probs, uniforms)
        decoded = self.decoder(batch.template.repeat(len(parts), 1, 1), codes)
        return dict(zip(parts, decoded.chunk(len(parts)), strict=True))


@dataclass(frozen=True)
class Schedule:
    """Adam, whose learning rate falls to a tenth once; no gradient clipping, as in the release.

    Parameters
    ----------
    steps, batch, length
        Iterations; segments a batch; frames a segment.
    lr, drop_at
        Learning rate, and the share of the steps after which it is a tenth.
    decoder_decay
        Step 1: L2 in the gradient of the decoder.
    mean_start
        Step 1: the decoder begins with the mean displacement in its vertex bias (see `start_at_mean_`) instead of zeros; a regressor with the
        mean displacement in its last bias. Choice of ours.
    """

    steps: int
    batch: int
    length: int
    lr: float
    drop_at: float
    decoder_decay: float = 0.0
    mean_start: bool = False

    def __post_init__(self) -> None:
        if min(self.steps, self.batch, self.length) < 1 or not self.lr > 0 or not 0 < self.drop_at <= 1:
            raise ValueError(f"schedule: expected positive numbers and drop_at in (0, 1], found {self}")


# Released code; the authors gave a learning rate of 1e-3 for the paper's own runs (their issue 8).
RELEASED_STEP_ONE = Schedule(50_000, batch=8, length=32, lr=1e-4, drop_at=0.8, decoder_decay=1e-3)
RELEASED_STEP_TWO = Schedule(15_000, batch=8, length=64, lr=1e-4, drop_at=2 / 3)
# For `quick_sizes`: what a pilot on a small synthetic world found enough. More of step 2 overfits.
QUICK_STEP_ONE = Schedule(400, batch=8, length=32, lr=2e-3, drop_at=0.8, decoder_decay=1e-3, mean_start=True)
QUICK_STEP_TWO = Schedule(250, batch=16, length=32, lr=2e-3, drop_at=0.8)


def joint_optimizer(model: JointModel, schedule: Schedule) -> torch.optim.Adam:
    """One Adam, L2 on the decoder alone: the same as the release's two, as no number of Adam is shared between parameters."""
    groups = [
        {"params": list(model.encoder.parameters()), "weight_decay": 0.0},
        {"params": list(model.decoder.parameters()), "weight_decay": schedule.decoder_decay},
    ]
    return torch.optim.Adam(groups, lr=schedule.lr)


@torch.no_grad()
def start_at_mean_(decoder: VertexUnet, faces: TalkingFaces) -> None:
    r"""Put the mean displacement into the vertex bias: :math:`b_v = \overline{(x_{tv} - h_v)} / \sigma_v`.

    People who talk have their mouth open more than at rest. With a large learning rate a decoder whose bias is zero moves all its codes to one
    class to open the mouth, the one-hot codes saturate, and nothing is learned any more.
    """
    decoder.vertex_bias.copy_((faces.motion().mean(0) / decoder.stddev[0, 0].cpu()).flatten())


def train_joint(
    fabric: lightning_fabric.Fabric,
    segments: Segments,
    masks: Masks,
    sizes: Sizes,
    schedule: Schedule = RELEASED_STEP_ONE,
    *,
    objective: Objective = "released",
    seed: int,
    checkpoint: Path | None = None,
    identity: str = "",
) -> tuple[JointModel, dict[str, Float[np.ndarray, " steps"]]]:
    """Step 1: encoder and decoder learn together, with swapped inputs.

    Parameters
    ----------
    fabric
        From `training.launch`.
    segments, masks, sizes, schedule, objective
        What to learn from, and how.
    seed
        Of weights, order and noise.
    checkpoint, identity
        As for `training.Run`.

    Returns
    -------
    tuple
        The model in evaluation mode without gradients, and the losses of every step by name.

    Raises
    ------
    ValueError
        If the batch is of one although inputs are swapped, or masks or segments do not fit the sizes.
    """
    mean, stddev = vertex_statistics(segments.faces.vertices)
    model = JointModel(Encoder(sizes, mean, stddev, seed=seed), VertexUnet(sizes, mean, stddev, seed=seed + 1))
    if schedule.mean_start:
        start_at_mean_(model.decoder, segments.faces)
    optimizer = joint_optimizer(model, schedule)
    run = training.Run(
        fabric, {"joint": model}, optimizer, steps=schedule.steps, schedule=_falling(optimizer, schedule),
        checkpoint=checkpoint, identity=identity,
    )  # fmt: skip
    masks, parts = masks.to(fabric.device), DECODED[objective]
    for step in run:
        chance = _chance(seed, step)
        batch = segments.batch(_rows(fabric, len(segments), schedule.batch, step, seed)).to(fabric.device)
        shifts = draw_shifts(whole_batch.count(batch.template), chance) if len(parts) > 1 else (0, 0)
        decoded = run.modules["joint"](batch, parts, shifts=shifts, generator=chance)
        losses = joint_losses(decoded, batch.vertices, masks, objective)
        run.update(sum(losses.values()), **losses)
    return model.eval().requires_grad_(False), run.history


def _falling(optimizer: torch.optim.Optimizer, schedule: Schedule) -> torch.optim.lr_scheduler.MultiStepLR:
    return torch.optim.lr_scheduler.MultiStepLR(optimizer, [round(schedule.drop_at * schedule.steps)], gamma=0.1)


def _rows(fabric: lightning_fabric.Fabric, count: int, batch: int, step: int, seed: int) -> Tensor:
    return training.batch_indices(count, batch, step, seed=seed, rank=fabric.global_rank, world_size=fabric.world_size)


def _chance(seed: int, step: int) -> torch.Generator:
    """Chance as a function of seed and step, so that a resumed run, and each of several processes, draws what it would have drawn."""
    return torch.Generator().manual_seed(int(np.random.default_rng([seed, step, 0]).integers(2**63 - 1)))


# ------------------------------------------------------------------------------------------------------------- 3. step 2


def nll(
    log_probs: Float[Tensor, "batch time heads classes"], labels: Int[Tensor, "batch time heads"]
) -> Float[Tensor, "batch time heads"]:
    r"""Negative log-likelihood of each label in nats. Its mean is the loss of step 2, exp of the mean is the perplexity a head.

    The mean over batch and time of each head tells more: with the released mask head 0 stands out, as it knows nothing.
    """
    return -log_probs.gather(-1, labels.long().unsqueeze(-1)).squeeze(-1)


@dataclass(frozen=True)
class Codes:
    """Segments as the encoder sees them, computed once for step 2.

    Parameters
    ----------
    audio
        Audio codes.
    labels
        Most probable codes of expression and sound together.
    """

    audio: Float[Tensor, "segments time code"]
    labels: Int[Tensor, "segments time heads"]

    def __len__(self) -> int:
        return len(self.audio)


@torch.no_grad()
def encode(encoder: Encoder, segments: Segments, *, batch: int = 16) -> Codes:
    """Codes of all segments, without noise and dropout: what the frozen encoder says does not change during step 2."""
    device, was_training = encoder.fusion_model.mlp[0].weight.device, encoder.training
    encoder.eval()
    audio, labels = [], []
    for part in segments.batches(batch):
        part = part.to(device)
        audio.append(encoder.audio_encoder(part.log_mel))
        labels.append(encoder.fusion_model.logits(encoder.expression_encoder(part.vertices), audio[-1]).argmax(-1))
    encoder.train(was_training)
    return Codes(torch.cat(audio).cpu(), torch.cat(labels).cpu())


def context_optimizer(model: ContextModel, schedule: Schedule) -> torch.optim.Adam:
    """Adam over what the network reads; no decay."""
    return torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=schedule.lr)


def train_context(
    fabric: lightning_fabric.Fabric,
    codes: Codes,
    sizes: Sizes,
    schedule: Schedule = RELEASED_STEP_TWO,
    *,
    seed: int,
    checkpoint: Path | None = None,
    identity: str = "",
) -> tuple[ContextModel, dict[str, Float[np.ndarray, "steps ..."]]]:
    """Step 2: the autoregressive model learns the codes of the frozen encoder.

    Parameters
    ----------
    codes
        From `encode`, of segments as long as `schedule` says.
    fabric, sizes, schedule, seed, checkpoint, identity
        As for `train_joint`.

    Returns
    -------
    tuple
        The model in evaluation mode without gradients; ``loss`` of every step, and ``heads``, its parts a head.
    """
    model = ContextModel(sizes, seed=seed)
    optimizer = context_optimizer(model, schedule)
    run = training.Run(
        fabric, {"context": model}, optimizer, steps=schedule.steps, schedule=_falling(optimizer, schedule),
        checkpoint=checkpoint, identity=identity,
    )  # fmt: skip
    for step in run:
        rows = _rows(fabric, len(codes), schedule.batch, step, seed)
        labels, audio = codes.labels[rows].to(fabric.device), codes.audio[rows].to(fabric.device)
        each = nll(run.modules["context"](labels, audio), labels)
        run.update(each.mean(), heads=each.detach().mean((0, 1)))
    return model.eval().requires_grad_(False), run.history


# ----------------------------------------------------------------------------------------------------------- 4. speaking


@dataclass(frozen=True)
class MeshTalk:
    """Everything that turns sound and a face at rest into a talking face.

    Parameters
    ----------
    encoder, decoder, context
        Trained networks of the same sizes, in evaluation mode.
    windows
        The log-mel windows that the encoder was trained with.
    """

    encoder: Encoder
    decoder: VertexUnet
    context: ContextModel
    windows: Windows

    def __post_init__(self) -> None:
        sizes, audio = self.context.sizes, self.encoder.audio_encoder
        found = (self.windows.mel.bands, self.windows.subframes)
        if found != (audio.bands, audio.subframes):
            raise ValueError(
                f"windows: {found[0]} bands x {found[1]} sub-frames, the audio encoder expects {audio.bands} x {audio.subframes}"
            )
        if self.decoder.code_shape != (sizes.heads, sizes.classes):
            raise ValueError(
                f"networks: the decoder reads {self.decoder.code_shape} heads and classes, the context model makes {(sizes.heads, sizes.classes)}"
            )
        for network in (self.encoder, self.decoder, self.context):
            network.eval()


class Speaker:
    """A talking face for sound that arrives in pieces: a mesh comes out as soon as the window of its frame has been heard.

    The meshes are those of the whole recording, however it is cut.

    Parameters
    ----------
    networks
        See `MeshTalk`.
    template
        Faces at rest, one for each of the recordings that are fed side by side.
    level
        Mean absolute value of each recording, to bring it to the loudness of the training data. A stream does not know its own: take that of
        earlier speech over the same microphone.
    generator
        Draws the codes, see `HeadsSampler.step`. None: the most probable codes.

    Raises
    ------
    ValueError
        If the template has another number of vertices than the networks, or a level is not positive.
    """

    def __init__(
        self,
        networks: MeshTalk,
        template: Float[Tensor, "batch vertices 3"],
        *,
        level: float | Float[Tensor, " batch"],
        generator: Generators | None = None,
    ) -> None:
        check_mesh("template", template, networks.decoder.mean)
        levels = torch.as_tensor(level, dtype=torch.float32).expand(len(template))
        if not (levels > 0).all() or not torch.isfinite(levels).all():
            raise ValueError(f"level: expected positive mean absolute values, found {levels.tolist()}; is it silence?")
        self.networks, self.template, self.generator = networks, template.to(networks.decoder.mean), generator
        self._gain = MEAN_ABS / levels[:, None]
        self._stream = WindowStream(networks.windows, batch=len(template))
        self._sampler = HeadsSampler(networks.context, batch=len(template))
        self._state: LstmState | None = None

    @property
    def look_ahead_s(self) -> float:
        """Sound after a frame's time that must be heard before its mesh comes out."""
        return self._stream.look_ahead_s

    def feed(self, samples: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch frames vertices 3"]:
        """Take in the next samples, at the windows' rate; meshes of the frames that are complete now, perhaps none."""
        return self._speak(self._stream.feed(samples * self._gain.to(samples)))

    def finish(self) -> Float[Tensor, "batch frames vertices 3"]:
        """The recordings have ended: meshes of the remaining frames."""
        return self._speak(self._stream.finish())

    @torch.no_grad()
    def _speak(self, log_mel: Tensor) -> Tensor:
        networks = self.networks
        if log_mel.shape[1] == 0:
            return self.template.new_zeros(len(self.template), 0, *self.template.shape[1:])
        audio = networks.encoder.audio_encoder(log_mel.to(self.template))
        labels = self._sampler.step(audio, generator=self.generator)
        codes = one_hot(labels, networks.context.sizes.classes).to(self.template)
        meshes, self._state = networks.decoder.go_on(self.template, codes, self._state)
        return meshes


def animate(
    networks: MeshTalk,
    samples: Float[Tensor, "batch samples"],
    template: Float[Tensor, "faces vertices 3"],
    *,
    sample_rate: int,
    generator: Generators | None = None,
) -> Float[Tensor, "batch frames vertices 3"]:
    """Talking faces for whole recordings of equal length.

    Parameters
    ----------
    networks
        See `MeshTalk`.
    samples
        Mono, in [-1, 1].
    template
        A face at rest for each.
    sample_rate
        Hz of `samples`; another rate than the networks' is resampled with a note.
    generator
        Draws the codes: other upper faces for the same sound. None: the most probable codes.

    Raises
    ------
    ValueError
        If recordings are shorter than a video frame, silent or not finite, or templates do not fit.

    Warns
    -----
    UserWarning
        If they are resampled, or shorter than one window.
    """
    samples = at_rate(samples, sample_rate, networks.windows)
    if len(samples) != len(template):
        raise ValueError(f"template: expected one for each of {len(samples)} recordings, found {len(template)}")
    speaker = Speaker(networks, template, level=samples.abs().mean(1), generator=generator)
    return torch.cat([speaker.feed(samples), speaker.finish()], 1)


def smooth_over_time(
    vertices: Float[Tensor, "time vertices 3"],
    mask: Float[Tensor, " weights"] | None = None,
    *,
    taps: int = 9,
    sigma: float = 2.0,
) -> Float[Tensor, "time vertices 3"]:
    r"""Gaussian over frames, blended in by a soft mask: what the release does to forehead and neck of a generated sequence.

    .. math:: x' = m\,(G * x) + (1 - m)\,x

    Parameters
    ----------
    vertices
        Frames.
    mask
        m; None: everywhere.
    taps, sigma
        Length of the filter (odd) and its width, in frames; the first and last frame are repeated outside. Released code.

    Raises
    ------
    ValueError
        If there is no frame, `taps` is even, or the mask has another length.
    """
    if taps < 1 or taps % 2 == 0 or not sigma > 0 or len(vertices) == 0:
        raise ValueError(
            f"smooth_over_time: expected frames, an odd number of taps and sigma > 0, found {len(vertices)}, {taps}, {sigma}"
        )
    if mask is not None and mask.shape != vertices.shape[1:2]:
        raise ValueError(
            f"mask: expected one weight for each of {vertices.shape[1]} vertices, found {tuple(mask.shape)}"
        )
    offsets = torch.arange(taps, dtype=torch.float64) - taps // 2
    weights = torch.exp(-offsets.square() / (2 * sigma**2))
    padded = torch.cat([vertices[:1].expand(taps // 2, -1, -1), vertices, vertices[-1:].expand(taps // 2, -1, -1)])
    smooth = padded.unfold(0, taps, 1) @ (weights / weights.sum()).to(vertices)
    return smooth if mask is None else vertices + mask[:, None] * (smooth - vertices)


# ----------------------------------------------------------------------------- 5. what else the latent space is good for


@torch.no_grad()
def retarget(
    model: JointModel, batch: Batch, template: Float[Tensor, "batch vertices 3"]
) -> Float[Tensor, "batch time vertices 3"]:
    """Somebody else makes the same face: the codes of one person's mesh and sound, decoded with another one's face at rest (paper)."""
    return model(Batch(template, batch.vertices, batch.log_mel))[OWN]


@torch.no_grad()
def dub(
    model: JointModel, batch: Batch, log_mel: Float[Tensor, "batch time bands subframes"]
) -> Float[Tensor, "batch time vertices 3"]:
    """The same person, the same expression, other words: expression codes of a recording with the sound of another one of equal length (paper)."""
    return model(Batch(batch.template, batch.vertices, log_mel))[OWN]


@torch.no_grad()
def influence(
    model: JointModel, batch: Batch, generator: torch.Generator
) -> tuple[Float[Tensor, " vertices"], Float[Tensor, " vertices"]]:
    """How far each vertex moves when only the sound is exchanged, and when only the expression is: mean distance in mm (figure 5 of the paper).

    Codes are the most probable ones; the exchange is with other samples of the batch.
    """
    shifts = draw_shifts(len(batch.template), generator)
    decoded = model(batch, DECODED["released"], shifts=shifts)
    by_audio, by_expression = (
        (decoded[part] - decoded[OWN]).norm(dim=-1).mean((0, 1)) for part in (AUDIO_SWAPPED, EXPRESSION_SWAPPED)
    )
    return by_audio, by_expression


# ---------------------------------------------------------------------------------------------- 6. regressors to compare


def train_regressor(
    fabric: lightning_fabric.Fabric,
    segments: Segments,
    sizes: Sizes,
    schedule: Schedule,
    *,
    audio: Literal["meshtalk", "voca"] = "meshtalk",
    seed: int,
    checkpoint: Path | None = None,
    identity: str = "",
) -> tuple[Regressor, Float[np.ndarray, " steps"]]:
    """Fit a `Regressor` by least squares; parameters as for `train_joint`. Returns it in evaluation mode, and the loss of every step in mm²."""
    model = Regressor(sizes, audio, seed=seed)
    if schedule.mean_start:
        with torch.no_grad():
            model.displacements[-1].bias.copy_(segments.faces.motion().mean(0).flatten())
    optimizer = torch.optim.Adam(model.parameters(), lr=schedule.lr)
    run = training.Run(
        fabric, {"regressor": model}, optimizer, steps=schedule.steps, schedule=_falling(optimizer, schedule),
        checkpoint=checkpoint, identity=identity,
    )  # fmt: skip
    for step in run:
        chance = _chance(seed, step)
        batch = segments.batch(_rows(fabric, len(segments), schedule.batch, step, seed)).to(fabric.device)
        predicted = run.modules["regressor"](batch.template, batch.log_mel, chance)
        run.update(functional.mse_loss(predicted, batch.vertices))
    return model.eval().requires_grad_(False), run.history["loss"]


# ------------------------------------------------------------------------------------------- 7. the official checkpoints


def load_official(folder: str | Path) -> MeshTalk:
    """The networks of the authors' release: a folder with ``encoder.pkl``, ``vertex_unet.pkl`` and ``context_model.pkl``; see `meshtalk_checkpoints`."""
    windows = ReleasedWindows()
    return MeshTalk(*meshtalk_checkpoints.load_networks(folder, windows), windows=windows)
