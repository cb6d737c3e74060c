"""Training steps of the methods that listen (papers 02, 03 and 10), small or at the paper's size, on made-up batches.

Each function builds one step from ``"tiny"`` or ``"paper"``; `gpu_check.cases` lists them.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from paper_utils.data.samples import LabelledImages
from paper_utils.data.speech import Voices
from paper_utils.gpu_check.steps import SEED, Modules, Step, adam, chance, moved, noise, sgd, whole
from paper_utils.methods import dimnet, phonemes, voice_to_face
from paper_utils.nn.voice_encoder import VoiceEncoder, initialise_
from paper_utils.open_set import Split

# ------------------------------------------------------------------------------------------------------------- paper 02


def dimnet_step(size: str) -> Step:
    """DIMNet-IGN: 256 recordings of 800 frames (the longest crop) and 256 pictures of 128 x 128 pixels, 924 people."""
    people, frames, pixels = (924, 800, 128) if size == "paper" else (12, 64, 32)
    train = dimnet.TrainConfig(crop_frames=(frames, frames), batch_size=256 if size == "paper" else 16)
    if size == "tiny":
        train = dataclasses.replace(train, encoders=dimnet.EncoderConfig(dim=16, width=0.125))
    people += 2  # a split needs somebody to be tested on
    identities = torch.arange(people)
    covariates = {"sex": identities % 2, "nationality": identities % (32 if size == "paper" else 3)}
    voices = Voices(
        log_mel=noise(people * frames, 64), starts=torch.arange(people + 1) * frames, hop_ms=10.0, identities=identities,
        phone_names=("speech",), phones=torch.zeros(people, dtype=torch.long), phone_starts=torch.arange(people + 1),
        boundaries_s=torch.tensor([0.0, frames / 100]).repeat(people), name="made-up voices", covariates=covariates,
    )  # fmt: skip
    pictures = noise(people, 3, pixels, pixels, stream=1).clamp_(-1, 1)
    data = dimnet.Meetings(voices, LabelledImages(pictures, identities, "made-up faces", covariates))
    split = Split(tuple(range(people - 2)), (people - 2, people - 1), SEED)
    method = dimnet.DIMNet.variant("IGN")

    def loss(modules: Modules, batches: dimnet.Batches) -> Tensor:
        return method.loss(modules, batches, 0)

    return Step(
        modules=method.build(data, split, train),
        inputs=lambda device: dimnet.Batches(data, split, train, device=device),
        loss=loss,
        samples=2 * train.batch_size,
        optimizer=sgd(train.learning_rate, train.weight_decay),
        compiled=("voice", "face"),
    )


# ------------------------------------------------------------------------------------------------------------- paper 03

_SMALL_FACES = voice_to_face.Sizes(dim=16, voice=(16, 24, 32, 48), generator=(32, 24, 16), face=(8, 16, 24))


def voice_step(size: str) -> Step:
    """Stage 1: 128 recordings of 800 frames, 924 speakers."""
    batch, frames, people, sizes = (
        (128, 800, 924, voice_to_face.Sizes()) if size == "paper" else (8, 64, 5, _SMALL_FACES)
    )
    head = nn.Linear(sizes.dim, people, bias=False)
    initialise_(head, chance())
    log_mel, labels = noise(batch, sizes.bands, frames), whole(people, batch)

    def loss(modules: Modules, inputs: tuple[Tensor, Tensor]) -> Tensor:
        return functional.cross_entropy(modules["head"](modules["encoder"](inputs[0])), inputs[1])

    return Step(
        modules={"encoder": VoiceEncoder(sizes.bands, sizes.dim, channels=sizes.voice, seed=SEED), "head": head},
        inputs=lambda device: moved((log_mel, labels), device),
        loss=loss,
        samples=batch,
        optimizer=adam(1e-3),
        compiled=("encoder",),
    )


def gan_step(size: str) -> Step:
    """Stage 2, both players' turns: 128 recordings of 800 frames, 128 photographs of 64 x 64 pixels, 924 people."""
    batch, frames, people, sizes = (
        (128, 800, 924, voice_to_face.Sizes()) if size == "paper" else (8, 64, 5, _SMALL_FACES)
    )
    generator, critics = (
        network.to(memory_format=torch.channels_last)
        for network in (voice_to_face.Generator(sizes, seed=SEED), voice_to_face.Critics(sizes, people, seed=SEED + 1))
    )
    for player in (generator, critics):  # PyTorch's first weights shrink every signal: nothing would be left to compare
        voice_to_face.rectified_weights_(player, chance())
    encoder = VoiceEncoder(sizes.bands, sizes.dim, channels=sizes.voice, seed=SEED).requires_grad_(False).eval()
    photographs = noise(batch, 3, sizes.image, sizes.image).clamp_(-1, 1).to(memory_format=torch.channels_last)
    inputs = {"encoder": encoder, "log_mel": noise(batch, sizes.bands, frames), "photographs": photographs}
    inputs |= {"speakers": whole(people, batch), "people": whole(people, batch, stream=1)}

    def loss(modules: Modules, given: dict[str, Any]) -> Tensor:
        with torch.no_grad():
            unit = voice_to_face.on_sphere(given["encoder"](given["log_mel"]))
        fakes = modules["generator"](voice_to_face.blurred(unit, 0.05, chance()))
        critics = modules["critics"]
        judged = voice_to_face.turn_losses(critics, fakes, given["speakers"], given["photographs"], given["people"])
        fooled = voice_to_face.turn_losses(critics, fakes, given["speakers"])
        critics.requires_grad_(True)  # both turns are walked back at once
        return sum(judged.values()) + sum(fooled.values())

    return Step(
        modules={"generator": generator, "critics": critics},
        inputs=lambda device: moved(inputs, device),
        loss=loss,
        samples=batch,
        optimizer=functools.partial(torch.optim.Adam, lr=2e-4, betas=(0.5, 0.999)),
        compiled=("generator", "critics"),
    )


# ------------------------------------------------------------------------------------------------------------- paper 10


def phoneme_step(size: str, *, network: str, members: int) -> Step:
    """Estimators of one measurement: 32 tokens of 32 frames of 64 bands for each member."""
    config = phonemes.RELEASED if network == "mnasnet" else dataclasses.replace(phonemes.SMALL, width=1.0)
    batch = 32
    if size == "tiny":
        config, batch, members = dataclasses.replace(config, width=0.25), 8, min(members, 2)
    model = config.build(64, 1, members, list(range(members)))
    features, target = noise(batch, members, 64, 32), noise(batch, members, 1, stream=1)

    def loss(modules: Modules, inputs: tuple[Tensor, Tensor]) -> Tensor:
        return phonemes.member_losses(*modules["network"](inputs[0]), inputs[1]).sum()

    return Step(
        modules={"network": model},
        inputs=lambda device: moved((features, target), device),
        loss=loss,
        samples=batch * members,
        optimizer=functools.partial(torch.optim.AdamW, lr=config.learning_rate, weight_decay=config.weight_decay),
        compiled=("network",),
    )
