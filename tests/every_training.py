"""Every training of the collection at toy size, saved with all weights and losses.

    torchrun --nproc-per-node 2 every_training.py FOLDER ["NAME;NAME"]
    FORKED="1 2 4" python every_training.py FOLDER

writes FOLDER/NAME.pt, or FOLDER/1/NAME.pt and so on. With KILLED="NAME;NAME" the last process sends itself SIGKILL in the middle of the first
of these trainings, and, when torchrun has started all of them again, of the second; checkpoints are written every second step.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import lightning_fabric
import numpy as np
import torch
from torch import Tensor, nn

from paper_utils import open_set, training
from paper_utils.audio_windows import QUICK_WINDOWS
from paper_utils.data.emote_clips import EmoteClips
from paper_utils.data.motion_clips import Clips
from paper_utils.data.samples import LabelledImages
from paper_utils.data.speech import Voices
from paper_utils.data.talking_faces import FaceMesh, TalkingClip, TalkingFaces
from paper_utils.data.voxceleb import Spans
from paper_utils.methods import (
    cest,
    dimnet,
    emote,
    meshtalk,
    phonemes,
    sphereface2,
    sphereface_r,
    talkshow,
    voice_to_face,
)
from paper_utils.nn.face_perception import MotionPerception
from paper_utils.nn.meshtalk_networks import quick_sizes
from paper_utils.nn.motion_readers import LipReader, MotionEmotion
from paper_utils.nn.pixelcnn import PixelCnnConfig
from paper_utils.nn.quantizer import QuantizerConfig
from paper_utils.nn.speech_features import ConvSpeechFeatures
from paper_utils.nn.voice_encoder import VoiceEncoder
from paper_utils.world import face

STEPS = 5
OPTIMIZERS = torch.optim.Adam, torch.optim.AdamW
Result = dict[str, Tensor]


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def result(history: dict[str, np.ndarray], **modules: nn.Module) -> Result:
    """Losses and weights by name."""
    found = {f"history.{name}": torch.from_numpy(np.asarray(values)) for name, values in history.items()}
    return found | {f"{name}.{key}": v.cpu() for name, m in modules.items() for key, v in m.state_dict().items()}


# ------------------------------------------------------------------------------------------------------------ papers 05 and 06


def people_images() -> LabelledImages:
    return LabelledImages(torch.randn(54, 1, 4, 4, generator=chance(3)), torch.arange(6).repeat_interleave(9), "toy")


def heads(head: sphereface_r.HeadConfig | sphereface2.HeadConfig, **options: object) -> Callable[..., Result]:
    """An ensemble of two networks with a head; the batch of 8 goes past the end of the 27 images of a member."""

    def train(fabric: lightning_fabric.Fabric, checkpoint: Path | None) -> Result:
        splits = (open_set.Split((0, 1, 2), (3, 4, 5), 5), open_set.Split((1, 3, 5), (0, 2, 4), 6))
        config = open_set.TrainConfig(hidden=(12,), dim=6, steps=STEPS, batch_size=8, clip_norm=1.0, **options)
        done = open_set.fit(fabric, people_images(), splits, head, config, checkpoint=checkpoint)
        return result(done.history, network=done.network, head=done.head)

    return train


# ---------------------------------------------------------------------------------------------------------------- paper 02


def meetings() -> dimnet.Meetings:
    """Sixteen people, three recordings of uneven length and three pictures each."""
    who, bands = torch.arange(16).repeat_interleave(3), 6
    lengths = 12 + torch.arange(len(who)) % 7
    starts = torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)])
    labels = {"sex": who % 2, "nationality": who % 3}
    voices = Voices(
        torch.randn(int(starts[-1]), bands, generator=chance()), starts, 10.0, who, ("SIL",), torch.zeros(len(who), dtype=torch.int16),
        torch.arange(len(who) + 1), torch.arange(2 * len(who)).float(), "toy voices", labels,
    )  # fmt: skip
    return dimnet.Meetings(
        voices, LabelledImages(torch.randn(len(who), 1, 8, 8, generator=chance(1)), who, "toy faces", labels)
    )


def matching(method: dimnet.Method) -> Callable[..., Result]:
    def train(fabric: lightning_fabric.Fabric, checkpoint: Path | None) -> Result:
        config = dimnet.TrainConfig(
            dimnet.EncoderConfig(6, 1, 4, 1 / 32), STEPS, batch_size=8, learning_rate=0.02, clip_norm=2.0, crop_frames=(10, 16)
        )  # fmt: skip
        split = open_set.Split(tuple(range(12)), (12, 13, 14, 15), seed=5)
        done = dimnet.fit(fabric, meetings(), split, method, config, checkpoint=checkpoint)
        return result(done.history, **done.modules)

    return train


# ---------------------------------------------------------------------------------------------------------------- paper 03


def speech() -> voice_to_face.Speech:
    who = torch.arange(24) % 4
    return voice_to_face.Speech.of(torch.randn(24, 20, 6, generator=chance()), who)


FACE_SIZES = voice_to_face.Sizes(bands=6, dim=8, voice=(16, 16), generator=(8, 4), face=(4, 8))


def voice_network(fabric: lightning_fabric.Fabric, checkpoint: Path | None) -> Result:
    config = voice_to_face.VoiceTraining(steps=STEPS, batch=8, lr=1e-3, spans=Spans(20, 10))
    encoder, losses = voice_to_face.train_voice(fabric, speech(), FACE_SIZES, config, seed=0, checkpoint=checkpoint)
    return result({"loss": losses}, encoder=encoder)


def players(fabric: lightning_fabric.Fabric, checkpoint: Path | None) -> Result:
    encoder = VoiceEncoder(FACE_SIZES.bands, FACE_SIZES.dim, channels=FACE_SIZES.voice, seed=5).eval()
    config = voice_to_face.GanTraining(steps=STEPS, batch=8, lr=1e-3, average=0.5, spans=Spans(20, 10))
    pictures, who = torch.rand(24, 3, 8, 8, generator=chance(1)), torch.arange(24) % 4
    generator, critics, losses = voice_to_face.train_gan(
        fabric, encoder.requires_grad_(False), speech(), pictures, who, FACE_SIZES, config, seed=3, checkpoint=checkpoint
    )  # fmt: skip
    return result(losses, generator=generator, critics=critics)


# ---------------------------------------------------------------------------------------------------------------- paper 04


@functools.cache
def talking() -> tuple[TalkingFaces, meshtalk.Segments]:
    clips, base = [], 30 * torch.randn(20, 3, generator=chance())
    for clip in range(3):
        meshes = base + torch.randn(40, 20, 3, generator=chance(clip + 1))
        sound = (0.2 * torch.randn(round(40 * 16_000 / 30), generator=chance(clip))).clamp(-1, 1)
        clips.append(TalkingClip(base, meshes, 30.0, sound, 16_000, f"subject {clip}", "words"))
    masks = {name: torch.linspace(0.1, 1, 20) for name in ("mouth", "upper_face", "eyelids")}
    faces = TalkingFaces.of_clips(
        clips, FaceMesh("test", 20, torch.zeros(0, 3, dtype=torch.long), masks=masks), "toy faces"
    )
    return faces, meshtalk.Segments(faces, QUICK_WINDOWS, length=16, stride=8)


MESH_SCHEDULE = meshtalk.Schedule(STEPS, batch=8, length=16, lr=0.1, drop_at=0.8)
# Dropout in the sound encoder, which the quick sizes do without.
MESH_SIZES = dataclasses.replace(quick_sizes(20), audio_dropout=0.2)


def joint(fabric: lightning_fabric.Fabric, checkpoint: Path | None) -> Result:
    faces, segments = talking()
    model, history = meshtalk.train_joint(
        fabric, segments, meshtalk.Masks.of(faces), MESH_SIZES, MESH_SCHEDULE, seed=0, checkpoint=checkpoint
    )
    return result(history, model=model)


def context(fabric: lightning_fabric.Fabric, checkpoint: Path | None) -> Result:
    sizes = MESH_SIZES
    codes = meshtalk.Codes(
        torch.randn(12, 16, sizes.audio_code, generator=chance()),
        torch.randint(sizes.classes, (12, 16, sizes.heads), generator=chance(1)),
    )
    model, history = meshtalk.train_context(fabric, codes, sizes, MESH_SCHEDULE, seed=0, checkpoint=checkpoint)
    return result(history, model=model)


def mesh_regressor(fabric: lightning_fabric.Fabric, checkpoint: Path | None) -> Result:
    model, loss = meshtalk.train_regressor(
        fabric, talking()[1], MESH_SIZES, MESH_SCHEDULE, seed=0, checkpoint=checkpoint
    )
    return result({"loss": loss}, model=model)


# ---------------------------------------------------------------------------------------------------------------- paper 07


def filmed(partner: str = "random", **options: object) -> Callable[..., Result]:
    """Three videos; four a step, so that one of them comes twice and its frames have twice as many partners."""

    def train(fabric: lightning_fabric.Fabric, checkpoint: Path | None) -> Result:
        head = face.head(2)
        space = cest.FaceSpace(head.morphable(), 16, skin=head.face_part == 0)
        tiny = dataclasses.replace(
            cest.QUICK, image_size=32, encoder=(8, 8, 8), unet=(8, 8), light=(8, 8, 8), light_size=16
        )
        images = torch.rand(12, 3, 32, 32, generator=chance()) * 2 - 1
        points = 32 * torch.rand(12, 68, 2, generator=chance(1))
        source = cest.Frames(images, torch.arange(3).repeat_interleave(4), points)
        estimator = cest.Estimator(space, tiny, seed=0)
        config = cest.TrainConfig(steps=3, warm_up=2, videos=4, frames=3, lr=1e-2)
        history = cest.train(
            fabric, estimator, source, cest.Objective(partner=partner, **options), config, seed=4, checkpoint=checkpoint
        )
        return result(history, estimator=estimator)

    return train


# ---------------------------------------------------------------------------------------------------------------- paper 08


def gestures() -> Clips:
    motion = torch.randn(6, 24, 265, generator=chance()).cumsum(1) / 8
    return Clips.of(motion, torch.randn(6, 24, 5, generator=chance(1)), torch.arange(6) % 4)


CODE_SIZES = talkshow.CodebookConfig(8, 1, QuantizerConfig(codes=6, dim=3))


def codebook(fabric: lightning_fabric.Fabric, checkpoint: Path | None) -> Result:
    settings = talkshow.CodebookTraining(
        steps=STEPS + 3, batch=4, window=16, lr=3e-3, warmup=2, start="data", restart_every=3
    )
    network, history = talkshow.train_codebook(
        gestures(), np.arange(39), CODE_SIZES, settings, fabric=fabric, checkpoint=checkpoint
    )
    return result(history, network=network)


def prior_of_codes(fabric: lightning_fabric.Fabric, checkpoint: Path | None) -> Result:
    clips = gestures()
    windows = clips.windows(16, 4)
    grid = PixelCnnConfig(codes=6, width=8, layers=3, head=8, audio=4)
    prior, history = talkshow.train_prior(
        clips, windows, torch.randint(6, (len(windows), 4, 2), generator=chance(2)),
        talkshow.PriorConfig(grid, features=5, residual_layers=1), talkshow.PriorTraining(steps=STEPS, batch=4, window=16, lr=3e-3),
        fabric=fabric, checkpoint=checkpoint,
    )  # fmt: skip
    return result(history, prior=prior)


def gesture_regressor(fabric: lightning_fabric.Fabric, checkpoint: Path | None) -> Result:
    settings = talkshow.RegressorTraining(steps=STEPS, batch=4, window=16, lr=3e-3)
    network, history = talkshow.train_regressor(
        gestures(), np.arange(6), talkshow.RegressorConfig(5, 6, 8, 2), settings, fabric=fabric, checkpoint=checkpoint
    )
    return result(history, network=network)


class SpokenFaces:
    """Whole clips of different lengths."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int]:
        return (
            torch.randn(40, 4, generator=chance(index)),
            torch.randn(12 + index, 265, generator=chance(index)),
            index % 4,
        )


class Resampled(nn.Module):
    """Speech features that are given as they are."""

    def forward(self, sound: Tensor, frames: int) -> Tensor:
        return talkshow.resample_features(sound, frames)


def spoken_face(fabric: lightning_fabric.Fabric, checkpoint: Path | None) -> Result:
    config = talkshow.FaceConfig(hidden=4, width=8, jaw_width=8, speaker_width=2)
    network = talkshow.FaceGenerator(Resampled(), talkshow.FaceHead(config, seed=0))
    settings = talkshow.FaceTraining(steps=STEPS, lr=0.02, batch=4)
    network, history = talkshow.train_face(SpokenFaces(), network, settings, fabric=fabric, checkpoint=checkpoint)
    return result(history, network=network)


# ---------------------------------------------------------------------------------------------------------------- paper 09


class LinearFace:
    """A face of two vertices that every number of the motion moves."""

    basis = torch.randn(5, 6, generator=chance(9))

    def offsets(self, motion: Tensor, person: Tensor) -> Tensor:
        assert len(person) == len(motion)
        return motion @ self.basis


def emotional(frames: int = 24) -> EmoteClips:
    """Clips of which one has no valid frame and others have some."""
    count = 24
    sound = torch.randn(count, 4 * frames, 4, generator=chance())
    valid = torch.rand(count, frames, generator=chance(2)) < 0.8
    valid[3] = False
    return EmoteClips(
        sound, torch.randn(count, frames, 5, generator=chance(1)), torch.zeros(count, 1), emotion=torch.arange(count) % 2 + 1,
        intensity=torch.ones(count, dtype=torch.long), identity=torch.arange(count) % 3, valid=valid,
    )  # fmt: skip


MOTION_PRIOR = emote.PriorSizes(motion=5, dim=16, heads=2, hidden=16, halvings=2)


def lip_reader(fabric: lightning_fabric.Fabric, checkpoint: Path | None) -> Result:
    reader, phones = LipReader(6, 3, seed=0), torch.randint(-1, 3, (20, 12), generator=chance())
    loss = emote.train_reader(
        fabric, reader, torch.randn(20, 12, 6, generator=chance(1)), phones, config=emote.ReaderTraining(steps=STEPS, batch=8),
        seed=0, checkpoint=checkpoint,
    )  # fmt: skip
    return result({"loss": loss}, reader=reader)


def motion_prior(fabric: lightning_fabric.Fabric, checkpoint: Path | None) -> Result:
    config = emote.PriorTraining(
        steps=STEPS, batch=8, frames=16, lr=3e-3, reconstruction=1.0, kl=1e-4, standardise=True
    )
    prior, history = emote.train_prior(
        fabric, emotional(), LinearFace(), MOTION_PRIOR, config, seed=0, checkpoint=checkpoint
    )
    return result(history, prior=prior)


def stage(**options: object) -> Callable[..., Result]:
    def train(fabric: lightning_fabric.Fabric, checkpoint: Path | None) -> Result:
        sizes = emote.EmoteSizes(audio=8, dim=8, heads=2, identities=3, jaw=1, dropout=0.1)
        model = emote.Emote(sizes, emote.Flint(MOTION_PRIOR, seed=0), ConvSpeechFeatures(4, 8, seed=0), seed=0)
        with torch.no_grad():  # first weights of some layers are zero, and nothing would be learned behind them
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=chance()))
        looking = MotionPerception(LipReader(6, 3, seed=0), MotionEmotion(6, seed=1), torch.tensor([0, 1]))
        config = emote.StageTraining(steps=STEPS, batch=8, frames=16, lr=1e-3, **options)
        history = emote.train_stage(
            fabric, model, emotional(), LinearFace(), config, perception=looking, seed=1, checkpoint=checkpoint
        )
        return result(history, model=model)

    return train


# ---------------------------------------------------------------------------------------------------------------- paper 10


def side_by_side(fabric: lightning_fabric.Fabric, checkpoint: Path | None) -> Result:
    """Three networks, so that with four processes one has nothing to do."""
    row = np.repeat(np.arange(24), 3)
    features, targets = torch.randn(72, 8, 12, generator=chance()), torch.randn(72, 2, generator=chance(1))
    jobs = [
        phonemes.Job(np.flatnonzero(row % 3 != fold)[fold:], np.flatnonzero(row % 3 == fold), (0, 1), seed=fold)
        for fold in range(3)
    ]
    config = dataclasses.replace(
        phonemes.SMALL, width=0.125, epochs=2, batch_size=16, checks=2, validation_share=0.2, learning_rate=1e-3
    )
    history: dict[str, np.ndarray] = {}
    found = phonemes.train_members(
        features, targets, row, jobs, config, fabric, checkpoint=checkpoint, every_steps=2, finished=history.update
    )
    return result({"member_losses": history["member_losses"]}) | {
        f"job {i}": torch.from_numpy(values) for i, values in enumerate(found)
    }


EXCHANGED = {"weights": emote.LossWeights(1, 0.1, 0.1, 0.1, 0.1), "exchange": True}
TRAININGS: dict[str, Callable[[lightning_fabric.Fabric, Path | None], Result]] = {
    "02 DIMNet-IG": matching(dimnet.DIMNet.variant("IG")),
    "02 DIMNet-I, taking turns": matching(dimnet.DIMNet.variant("I", alternating=True)),
    "02 DIMNet-I, not shared": matching(dimnet.DIMNet.variant("I", shared=False)),
    "02 SVHF": matching(dimnet.SVHF(strangers=2)),
    "02 contrastive": matching(dimnet.Contrastive()),
    "03 voice network": voice_network,
    "03 players": players,
    "04 step one": joint,
    "04 step two": context,
    "04 regressor": mesh_regressor,
    "05 SphereFace2": heads(sphereface2.HeadConfig()),
    "05 SphereFace2, standardised": heads(sphereface2.HeadConfig(), standardise=True),
    "06 SphereFace-R": heads(sphereface_r.HeadConfig("v1", 1.2, scale=8.0)),
    "07 random partners": filmed(),
    "07 all partners": filmed("all"),
    "07 own reflectance": filmed("self"),
    "08 codebook": codebook,
    "08 prior": prior_of_codes,
    "08 regressor": gesture_regressor,
    "08 face": spoken_face,
    "09 reader": lip_reader,
    "09 prior": motion_prior,
    "09 first stage": stage(weights=emote.LossWeights(1, 0, 0, 0, 0), biased=False),
    "09 second stage": stage(**EXCHANGED, train_audio=False),
    "09 second stage, silenced batches": stage(**EXCHANGED, skip_batch=True, wrong_pairing=True),
    "10 networks side by side": side_by_side,
}  # fmt: skip


def main(folder: Path, names: list[str]) -> None:
    """Train, as one process or as one of those that torchrun started."""
    torch.set_num_threads(1)
    # With Adam's usual epsilon a weight whose gradient is nothing but rounding, such as a bias before a batch normalisation, takes steps of the
    # full learning rate in random directions; then weights of two orders of summation could not be compared.
    torch.optim.Adam, torch.optim.AdamW = (functools.partial(kind, eps=1e-2) for kind in OPTIMIZERS)
    fabric = training.launch("cpu", processes=int(os.environ.get("WORLD_SIZE", "1")))
    folder.mkdir(parents=True, exist_ok=True)
    killed = os.environ.get("KILLED")
    for name in names:
        torch.manual_seed(0)
        if killed:
            _die_on_the_way(name, killed.split(";"), folder)
        found = TRAININGS[name](fabric, folder / f"{name}.checkpoint" if killed else None)
        if fabric.is_global_zero:
            torch.save(found, folder / f"{name}.pt")


UPDATE, RUN = training.Run.update, training.Run


def _die_on_the_way(name: str, killed: list[str], folder: Path) -> None:
    """Attempt i of torchrun ends in the middle of the training ``killed[i]``, of which a checkpoint was written; the steps are noted."""
    attempt = int(os.environ["TORCHELASTIC_RESTART_COUNT"])

    def update(run: training.Run, loss: Tensor, **logged: Tensor | float) -> None:
        if int(os.environ["RANK"]) == int(os.environ["WORLD_SIZE"]) - 1:
            with (folder / "steps.txt").open("a") as file:
                file.write(f"{attempt}|{name}|{run.step}\n")
            if killed[attempt : attempt + 1] == [name] and run.step == 3:
                os.kill(os.getpid(), signal.SIGKILL)
        UPDATE(run, loss, **logged)

    RUN.update = update
    training.Run = phonemes.Run = functools.partial(RUN, every_steps=2)


def fork(processes: int, folder: Path, names: list[str]) -> None:
    """Start processes as torchrun does, but from this one, which has imported everything already.

    Raises
    ------
    RuntimeError
        If one of them fails.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(processes):
        child = os.fork()
        if child:
            children.append(child)
            continue
        code = 1
        try:
            if processes > 1:
                same = {
                    "WORLD_SIZE": processes,
                    "LOCAL_WORLD_SIZE": processes,
                    "MASTER_ADDR": "127.0.0.1",
                    "MASTER_PORT": port,
                }
                own = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "TORCHELASTIC_RUN_ID": "forked"}
                os.environ.update({name: str(value) for name, value in (same | own).items()})
            main(folder, names)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    failed = [rank for rank, child in enumerate(children) if os.waitpid(child, 0)[1]]
    if failed:
        raise RuntimeError(f"of {processes} processes these failed: {failed}")


if __name__ == "__main__":
    chosen = sys.argv[2].split(";") if len(sys.argv) > 2 else list(TRAININGS)
    if "FORKED" in os.environ:
        for count in map(int, os.environ["FORKED"].split()):
            fork(count, Path(sys.argv[1]) / str(count), chosen)
    else:
        main(Path(sys.argv[1]), chosen)
