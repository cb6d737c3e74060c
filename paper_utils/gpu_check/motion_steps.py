"""Training steps of the methods that make motion from sound (papers 04, 08 and 09), small or at the paper's size, on made-up batches.

Each function builds one step from ``"tiny"`` or ``"paper"``; `gpu_check.cases` lists them.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from paper_utils.audio_windows import QUICK_WINDOWS, ReleasedWindows
from paper_utils.data.emote_clips import Batch as EmoteBatch
from paper_utils.data.emote_clips import FlameFace
from paper_utils.gpu_check.steps import SEED, Modules, Step, adam, chance, moved, noise, sgd, whole
from paper_utils.mesh.morphable import MorphableModel
from paper_utils.mesh.skinning import Skinning
from paper_utils.methods import emote, meshtalk, talkshow
from paper_utils.nn import meshtalk_networks
from paper_utils.nn.face_perception import MotionPerception
from paper_utils.nn.motion_readers import LipReader, MotionEmotion
from paper_utils.nn.pixelcnn import row_dropout

# ------------------------------------------------------------------------------------------------------------- paper 04


def joint_step(size: str) -> Step:
    """Step 1: 8 segments of 32 frames, 6,172 vertices, three decodings of each."""
    if size == "paper":
        sizes, windows, schedule = meshtalk_networks.RELEASED, ReleasedWindows(), meshtalk.RELEASED_STEP_ONE
    else:
        sizes, windows = meshtalk_networks.quick_sizes(40), QUICK_WINDOWS
        schedule = dataclasses.replace(meshtalk.QUICK_STEP_ONE, batch=4, length=8)
    count, batch, length = sizes.vertices, schedule.batch, schedule.length
    mean, stddev = noise(count, 3), 1 + noise(count, 3, stream=1).abs()
    model = meshtalk.JointModel(
        meshtalk_networks.Encoder(sizes, mean, stddev, seed=SEED),
        meshtalk_networks.VertexUnet(sizes, mean, stddev, seed=SEED + 1),
    )
    given = meshtalk.Batch(
        template=noise(batch, count, 3, stream=2),
        vertices=noise(batch, length, count, 3, stream=3),
        log_mel=noise(batch, length, windows.mel.bands, windows.subframes, stream=4),
    )
    masks = meshtalk.Masks(*(torch.rand(count, generator=chance(stream)) + 0.01 for stream in range(3)))

    def loss(modules: Modules, inputs: tuple[meshtalk.Batch, meshtalk.Masks]) -> Tensor:
        (batch, masks), drawn = inputs, chance()
        shifts = meshtalk.draw_shifts(len(batch.template), drawn)
        parts = meshtalk.DECODED["released"]
        decoded = modules["joint"](batch, parts, shifts=shifts, generator=drawn)
        return sum(meshtalk.joint_losses(decoded, batch.vertices, masks).values())

    return Step(
        modules={"joint": model},
        inputs=lambda device: moved((given, masks), device),
        loss=loss,
        samples=batch * length,
        optimizer=adam(schedule.lr),
    )


def context_step(size: str) -> Step:
    """Step 2: 8 segments of 64 frames of codes."""
    sizes = meshtalk_networks.RELEASED if size == "paper" else meshtalk_networks.quick_sizes(40)
    batch, length = (8, 64) if size == "paper" else (4, 12)
    labels, audio = whole(sizes.classes, batch, length, sizes.heads), noise(batch, length, sizes.audio_code)

    def loss(modules: Modules, inputs: tuple[Tensor, Tensor]) -> Tensor:
        labels, audio = inputs
        return meshtalk.nll(modules["context"](labels, audio), labels).mean()

    return Step(
        modules={"context": meshtalk_networks.ContextModel(sizes, seed=SEED)},
        inputs=lambda device: moved((labels, audio), device),
        loss=loss,
        samples=batch * length,
        optimizer=adam(1e-4),
        compiled=("context",),
    )


# ------------------------------------------------------------------------------------------------------------- paper 08


class Given(nn.Module):
    """Stands where wav2vec 2.0 does and hands on hidden states: what is measured are the method's own layers."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def set_trainable(self, trainable: bool) -> None:
        """There is nothing to train."""

    def forward(self, hidden: Tensor, frames: int) -> Tensor:
        """The first `frames` frames."""
        return hidden[:, :frames]


def talkshow_face_step(size: str) -> Step:
    """The face behind wav2vec 2.0, from hidden states: one clip of 300 frames (10 s)."""
    config = talkshow.FaceConfig() if size == "paper" else talkshow.FaceConfig(hidden=24, width=16, jaw_width=8)
    frames = 300 if size == "paper" else 20
    network = talkshow.FaceGenerator(Given(config.hidden), talkshow.FaceHead(config, seed=SEED))
    inputs = (
        noise(1, frames, config.hidden),
        noise(1, frames, 265, stream=1),
        talkshow.one_hot(torch.tensor([1]), config.speakers),
    )

    def loss(modules: Modules, given: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        hidden, motion, who = given
        return sum(talkshow.face_losses(modules["network"](hidden, motion.shape[1], who), motion).values())

    return Step(
        modules={"network": network},
        inputs=lambda device: moved(inputs, device),
        loss=loss,
        samples=frames,
        optimizer=sgd(1e-3, 0.0),
        compiled=("network",),
    )


def talkshow_codes_step(size: str) -> Step:
    """Codes of the body: 128 windows of 88 frames, 2,048 codes."""
    config = talkshow.CodebookConfig() if size == "paper" else talkshow.QUICK_CODEBOOK
    batch, window = (128, 88) if size == "paper" else (6, 24)
    motion = noise(batch, window, talkshow.BODY)
    network = talkshow.VqVae(talkshow.BODY, config, seed=SEED)
    if size == "tiny":  # codes on data lie apart, and few choices hang on the last digits
        with torch.no_grad():
            network.quantizer.start_from(network.encoder(motion.transpose(1, 2)).transpose(1, 2), chance(1))

    def loss(modules: Modules, motion: Tensor) -> Tensor:
        return sum(talkshow.codebook_losses(modules["network"](motion), motion).values())

    return Step(
        modules={"network": network},
        inputs=lambda device: motion.to(device),
        loss=loss,
        samples=batch * window,
        optimizer=adam(1e-4),
        compiled=("network",),
    )


def talkshow_prior_step(size: str) -> Step:
    """The prior over codes: 128 windows of 22 rows of two codes, with sound."""
    config = talkshow.PriorConfig() if size == "paper" else talkshow.QUICK_PRIOR
    batch, rows = (128, 22) if size == "paper" else (4, 6)
    inputs = whole(config.grid.codes, batch, rows, 2), noise(batch, 4 * rows, config.features), whole(4, batch)

    def loss(modules: Modules, given: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        codes, features, speakers = given
        keep = row_dropout(codes.shape[1], config.row_dropout, chance()).to(codes.device)
        return talkshow.code_nll(modules["prior"](codes, features, speakers, keep), codes).mean()

    return Step(
        modules={"prior": talkshow.Prior(config, seed=SEED)},
        inputs=lambda device: moved(inputs, device),
        loss=loss,
        samples=batch * rows,
        optimizer=adam(1e-4),
        compiled=("prior",),
    )


# ------------------------------------------------------------------------------------------------------------- paper 09


def made_up_flame(vertices: int, shape: int, expression: int) -> MorphableModel:
    """A model with FLAME's joints and sizes and no face in it: what posing it costs, without the licensed file."""
    weights = torch.rand(vertices, 5, generator=chance())
    regressor = torch.rand(5, vertices, generator=chance(1))
    skinning = Skinning(
        joint_regressor=regressor / regressor.sum(1, keepdim=True),
        weights=weights / weights.sum(1, keepdim=True),
        parents=(-1, 0, 1, 1, 1),
        correctives=0.1 * noise(vertices, 3, 36, stream=2),
        joint_names=("root", "neck", "jaw", "left_eye", "right_eye"),
    )
    return MorphableModel(
        "made-up FLAME",
        100 * noise(vertices, 3, stream=3),
        noise(vertices, 3, shape, stream=4),
        noise(vertices, 3, expression, stream=5),
        torch.arange(vertices - vertices % 3).view(-1, 3),
        skinning=skinning,
    )


def _emote_batch(clips: int, frames: int, motion: int, audio: int, shape: int) -> EmoteBatch:
    return EmoteBatch(
        sound=noise(clips, frames, audio),
        motion=0.3 * noise(clips, frames, motion, stream=1),
        person=noise(clips, shape, stream=2),
        emotion=torch.arange(clips) % 8,
        intensity=torch.arange(clips) % 3 + 1,
        identity=torch.arange(clips) % 4,
        valid=torch.ones(clips, frames, dtype=torch.bool),
    )


def _emote_sizes(size: str) -> tuple[emote.PriorSizes, emote.EmoteSizes, MorphableModel]:
    if size == "paper":
        return emote.PriorSizes(), emote.EmoteSizes(dropout=0.25), made_up_flame(5023, 300, 50)
    small = emote.PriorSizes(motion=9, dim=16, heads=4, hidden=24, halvings=2)
    return small, emote.EmoteSizes(audio=12, dim=16, heads=4, dropout=0.0, identities=8), made_up_flame(40, 5, 6)


def flint_step(size: str) -> Step:
    """FLINT, the prior of motion: 32 clips of 32 frames on 5,023 vertices."""
    sizes, _, model = _emote_sizes(size)
    clips, frames = (32, 32) if size == "paper" else (4, 16)
    config = dataclasses.replace(emote.PriorTraining(), kl=1e-2)
    prior = emote.Flint(sizes, seed=SEED)
    _wake(prior)
    batch = _emote_batch(clips, frames, sizes.motion, 4, model.identity.shape[2])
    drawn = noise(clips, frames // sizes.group, sizes.dim, stream=3)

    def loss(modules: Modules, inputs: tuple[EmoteBatch, FlameFace, Tensor]) -> Tensor:
        return emote.prior_losses(modules["prior"], *inputs, config)["total"]

    return Step(
        modules={"prior": prior},
        inputs=lambda device: moved((batch, FlameFace(model), drawn), device),
        loss=loss,
        samples=clips * frames,
        optimizer=adam(1e-4),
        compiled=("prior",),
    )


def _wake(prior: emote.Flint) -> None:
    """The layer behind the decoder's transformer starts at zero and would hide all gradients before it."""
    nn.init.normal_(prior.decoder.turn.weight, std=0.1, generator=chance())


def emote_step(size: str) -> Step:
    """The second stage, emotions exchanged: 4 clips of 64 frames, 8 predicted, readers of vertices in place of the published networks."""
    prior_sizes, sizes, model = _emote_sizes(size)
    clips, frames = (4, 64) if size == "paper" else (4, 12)
    prior = emote.Flint(prior_sizes, seed=SEED)
    _wake(prior)
    network = emote.Emote(sizes, prior, Given(sizes.audio), seed=SEED)
    nn.init.normal_(network.head.weight, std=0.1, generator=chance())  # starts at zero as well
    coordinates = model.mean.numel()
    mouth = torch.arange(0, len(model.mean), 4)
    perception = MotionPerception(
        LipReader(3 * len(mouth), 20, seed=SEED), MotionEmotion(coordinates, seed=SEED + 1), mouth
    )
    stage = emote.FULL.second
    batch = _emote_batch(clips, frames, prior_sizes.motion, sizes.audio, model.identity.shape[2])
    permutation = emote.derangement(clips, chance())

    def loss(modules: Modules, inputs: tuple[EmoteBatch, FlameFace, MotionPerception, Tensor]) -> Tensor:
        batch, surface, looks, order = inputs
        return emote.stage_losses(modules["model"], batch, surface, stage, looks, order)[1]["total"]

    return Step(
        modules={"model": network},
        inputs=lambda device: moved((batch, FlameFace(model), perception, permutation), device),
        loss=loss,
        samples=2 * clips * frames,
        optimizer=adam(1e-4),
        compiled=("model",),
    )
