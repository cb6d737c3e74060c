"""What a step of paper 09 costs on the synthetic face at quick size, and what the exchange and the perceptual losses add.

Run by ``make bench``; CPU times stand in ``extra_info`` and are printed. One thread, float32, made-up clips.
"""

from __future__ import annotations

import dataclasses
import time

import pytest
import torch

from paper_utils import training
from paper_utils.data.emote_clips import EmoteClips, HeadFace
from paper_utils.methods import emote
from paper_utils.nn.face_perception import MotionPerception
from paper_utils.nn.motion_readers import LipReader, MotionEmotion
from paper_utils.nn.speech_features import ConvSpeechFeatures
from paper_utils.world.face import head
from paper_utils.world.talking_faces import vertex_set

BANDS, STEPS = 40, 8


def clips(vertices: torch.Tensor, count: int = 64, frames: int = 64) -> EmoteClips:
    chance = torch.Generator().manual_seed(0)
    labels = {
        "emotion": torch.arange(count) % 8, "intensity": torch.arange(count) % 3 + 1, "identity": torch.arange(count) % 8,
    }  # fmt: skip
    return EmoteClips(
        torch.randn(count, 4 * frames, BANDS, generator=chance),
        0.3 * torch.rand(count, frames, emote.QUICK.prior.motion, generator=chance),
        vertices.expand(count, -1, -1),
        **labels,
        valid=torch.ones(count, frames, dtype=torch.bool),
    )


@pytest.fixture(scope="module")
def world():
    chosen = vertex_set("front")
    face = HeadFace.of(head(2), chosen.kept)
    mouth = torch.nonzero(chosen.mesh.region("mouth")).flatten()
    lips, emotion = LipReader(3 * len(mouth), 20, seed=0), MotionEmotion(3 * len(chosen.kept), seed=1)
    return face, clips(face.head.vertices), MotionPerception(lips, emotion, mouth)


def prior_seconds(world) -> float:
    face, data, _ = world
    config = dataclasses.replace(emote.QUICK.prior_training, steps=STEPS)
    began = time.process_time()
    emote.train_prior(training.launch("cpu"), data, face, emote.QUICK.prior, config, seed=0)
    return (time.process_time() - began) / STEPS


def stage_seconds(world, stage: emote.StageTraining) -> float:
    face, data, perception = world
    prior = emote.Flint(emote.QUICK.prior, seed=0)
    audio = ConvSpeechFeatures(BANDS, emote.QUICK.network.audio, seed=0)
    model = emote.Emote(emote.QUICK.network, prior, audio, seed=0)
    began = time.process_time()
    stage = dataclasses.replace(stage, steps=STEPS)
    emote.train_stage(training.launch("cpu"), model, data, face, stage, perception=perception, seed=0)
    return (time.process_time() - began) / STEPS


def test_steps_at_quick_size(benchmark, world):
    without = dataclasses.replace(
        emote.QUICK.second, exchange=False, weights=dataclasses.replace(emote.QUICK_WEIGHTS, lip_exchanged=0.0, emotion_exchanged=0.0)
    )  # fmt: skip
    runs = {
        "prior": lambda: prior_seconds(world),
        "first stage": lambda: stage_seconds(world, emote.QUICK.first),
        "second stage, no exchange": lambda: stage_seconds(world, without),
        "second stage": lambda: stage_seconds(world, emote.QUICK.second),
    }

    # All kinds of step take turns, so that a slow spell of the machine meets each.
    def turn() -> dict[str, float]:
        return {name: run() for name, run in runs.items()}

    turn()
    found = [benchmark.pedantic(turn, rounds=1)] + [turn() for _ in range(2)]
    best = {name: min(seconds[name] for seconds in found) for name in runs}
    benchmark.extra_info.update(best)
    print("\n" + "; ".join(f"{name}: {1e3 * seconds:.1f} ms" for name, seconds in best.items()))
    # The exchange doubles the rows behind the speech features: it must not cost much more than twice.
    assert best["second stage"] < 2.5 * best["second stage, no exchange"]
