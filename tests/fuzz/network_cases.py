"""Readers of trained networks: torch checkpoints in both of torch's forms, safetensors, and what our own files say of their networks."""

from __future__ import annotations

import dataclasses
import functools
import json
import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from fuzz.cases import Case
from scipy import sparse
from torch import nn

from paper_utils import network_files, safe_checkpoints, safe_pickle, training
from paper_utils.audio import LogMel
from paper_utils.data.voice_features import FrontEnd
from paper_utils.methods import cest, emote, talkshow, voice_to_face
from paper_utils.nn import checkpoint_names, meshtalk_networks, official_weights
from paper_utils.nn.backbones import build_backbone
from paper_utils.nn.pixelcnn import PixelCnnConfig
from paper_utils.nn.quantizer import QuantizerConfig
from paper_utils.nn.voice_encoder import VoiceEncoder
from paper_utils.recipes import talkshow_files
from paper_utils.studies import emote as emote_study
from paper_utils.studies import emote_world
from paper_utils.studies import meshtalk as meshtalk_study
from paper_utils.world import face

SMALL = {"channels": (2, 3, 4, 5), "features": 6, "image_size": (32, 32)}


def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).state_dict()


def old_and_new(folder: Path) -> None:
    torch.save({"state_dict": state(), "epoch": 3}, folder / "new.pth")
    torch.save(state(), folder / "old.pth", _use_new_zipfile_serialization=False)


def own(folder: Path) -> None:
    network_files.save_networks(
        nn.Linear(3, 2), folder / "own.safetensors", "own 1", {"sizes": json.dumps({"width": 3, "image": [4]})}
    )


@dataclass(frozen=True)
class Sizes:
    width: int
    image: tuple[int, ...]


def read_own(folder: Path) -> None:
    file = network_files.read_networks(folder / "own.safetensors", "own 1")
    sizes = file.config("sizes", Sizes)
    file.network(lambda: nn.Linear(sizes.width, 2))


def voice_to_face_networks(*widths: int) -> voice_to_face.Reconstructor:
    sizes = voice_to_face.Sizes(bands=2, dim=2, voice=widths, generator=(1, 1), face=(1, 1))
    encoder = VoiceEncoder(2, 2, channels=widths)
    return voice_to_face.Reconstructor(encoder, voice_to_face.Generator(sizes, seed=0), sizes, FrontEnd())


def voice_to_face_official(folder: Path) -> None:
    networks = voice_to_face_networks(1, 1, 1, 1)
    torch.save(networks.voice.state_dict(), folder / "voice.pth")
    torch.save(networks.generator.state_dict(), folder / "generator.pth")


@functools.cache
def face_space() -> cest.FaceSpace:
    return cest.FaceSpace(face.head(2).morphable(), 8)


def cest_networks() -> cest.Estimator:
    small = cest.ChainConfig(8, 8, None, encoder=(1,), unet=(1, 1), light=(1,))
    return cest.Estimator(face_space(), small)


def talkshow_networks(face: str) -> talkshow.TalkShow:
    codes = talkshow.CodebookConfig(4, 1, QuantizerConfig(codes=2, dim=1))
    grid = PixelCnnConfig(codes=2, width=1, layers=2, head=1, audio=4)
    head = {
        "regressor": lambda: talkshow.Regressor(talkshow.RegressorConfig(1, 103, 1, 1, 1, 1), seed=0),
        "head": lambda: talkshow.FaceHead(talkshow.FaceConfig(1, 8, 8, 1, 1), seed=0),
    }[face]()
    body, hands = (talkshow.VqVae(channels, codes, seed=0) for channels in (39, 90))
    prior = talkshow.Prior(talkshow.PriorConfig(grid, features=1, residual_layers=1), seed=0)
    return talkshow.TalkShow(body, hands, prior, head)


def emote_networks(folder: Path) -> None:
    scale = emote_world.profiles()["smoke"].emote
    network = emote_study.new_model(scale.network, emote.Flint(scale.prior, seed=0), seed=0)
    about = {"profile": "smoke", "population": "0 44"}
    network_files.save_networks(network, folder / "emote.safetensors", emote_study.FORMAT, about)


MESH = meshtalk_networks.Sizes(
    vertices=3, bands=2, subframes=3, audio_channels=1, audio_kernel=1, audio_dilations=(1,), audio_code=1, expression_layers=(1, 1), expression_code=1,
    fusion=(1,), heads=2, classes=2, decoder=(1,), decoder_lstm=1, units=1, dilations=(1,), mask="corrected",
)  # fmt: skip


def meshtalk_speaker(folder: Path) -> None:
    """As `studies.meshtalk.save_speaker` writes it, without its training."""
    mean, stddev = torch.zeros(3, 3), torch.ones(3, 3)
    mel = dataclasses.asdict(LogMel(bands=2))
    state = {
        "sizes": dataclasses.asdict(MESH),
        "windows": {"kind": "GatheredWindows", "fps": 30.0, "every": 1, "past": 1, "future": 1, "centre": 0.0, "spread": 1.0},
        "mel": mel,
        "encoder": meshtalk_networks.Encoder(MESH, mean, stddev, seed=0).state_dict(),
        "decoder": meshtalk_networks.VertexUnet(MESH, mean, stddev, seed=0).state_dict(),
        "context": meshtalk_networks.ContextModel(MESH, seed=0).state_dict(),
        "templates": torch.zeros(2, 3, 3),
        "heads": torch.zeros(0, 0, 3),
        "faces": torch.tensor([[0, 1, 2]]),
    }  # fmt: skip
    training.save_state(folder / "speaker.pt", state)


def read_cest(folder: Path) -> None:
    cest.read_texels(folder / "cest.safetensors")
    cest.load(folder / "cest.safetensors", face_space())


def official(folder: Path) -> None:
    backbone = {
        f"module.{name}": value for name, value in build_backbone("sfnet10", branch="v0", **SMALL).state_dict().items()
    }
    torch.save(backbone, folder / "backbone_7.pth")
    torch.save({"module.w": torch.ones(6, 5)}, folder / "head_7.pth")


def pickles(folder: Path) -> None:
    content = {
        "a": np.arange(6.0).reshape(2, 3),
        "b": ["x", 1, None],
        "c": sparse.csc_matrix(np.eye(3)),
        "d": np.float64(2),
        "e": {1, 2},
    }
    (folder / "arrays.pkl").write_bytes(pickle.dumps(content, protocol=2) + pickle.dumps(3, protocol=2))
    np.save(folder / "object.npy", {"a": np.arange(3)}, allow_pickle=True)


def read_pickles(folder: Path) -> None:
    safe_pickle.load_all(folder / "arrays.pkl", allowed=safe_pickle.ARRAYS)
    safe_pickle.load_npy(folder / "object.npy", allowed=safe_pickle.ARRAYS)


CASES = (
    Case("pickles", pickles, read_pickles, ("arrays.pkl", "object.npy"), ("safe_pickle.load_all", "safe_pickle.load_npy")),

    Case("checkpoint", old_and_new, lambda f: checkpoint_names.read_state(f / "new.pth"), ("new.pth",),
         ("nn.checkpoint_names.read_state", "safe_checkpoints.load")),
    Case("old_checkpoint", old_and_new, lambda f: safe_checkpoints.load(f / "old.pth"), ("old.pth",), ()),
    Case("own_networks", own, read_own, ("own.safetensors",), ("network_files.read_networks",)),
    Case("voice_to_face_networks", lambda f: voice_to_face.save(voice_to_face_networks(1), f / "voice.safetensors"),
         lambda f: voice_to_face.load(f / "voice.safetensors"), ("voice.safetensors",), ("methods.voice_to_face.load",)),
    Case("voice_to_face_official", voice_to_face_official,
         lambda f: voice_to_face.load_official(f / "voice.pth", f / "generator.pth"), ("voice.pth", "generator.pth"),
         ("methods.voice_to_face.load_official",)),
    Case("cest_networks", lambda f: cest.save(cest_networks(), f / "cest.safetensors"), read_cest, ("cest.safetensors",),
         ("methods.cest.load", "methods.cest.read_texels")),
    Case("talkshow_networks", lambda f: talkshow_files.save(talkshow_networks("regressor"), f / "talkshow.safetensors"),
         lambda f: talkshow_files.load(f / "talkshow.safetensors"), ("talkshow.safetensors",), ("recipes.talkshow_files.load",)),
    Case("talkshow_head", lambda f: talkshow_files.save(talkshow_networks("head"), f / "talkshow.safetensors"),
         lambda f: talkshow_files.load(f / "talkshow.safetensors"), ("talkshow.safetensors",), (), share=0.5),
    Case("emote_speaker", emote_networks, lambda f: emote_study.load_speaker(f / "emote.safetensors"), ("emote.safetensors",),
         ("studies.emote.load_speaker",), share=0.5),
    Case("meshtalk_speaker", meshtalk_speaker, lambda f: meshtalk_study.load_speaker(f / "speaker.pt"), ("speaker.pt",),
         ("studies.meshtalk.load_speaker",)),
    Case("official_weights", official, lambda f: official_weights.load_backbone("sfnet10", f / "backbone_7.pth", **SMALL), ("backbone_7.pth", "head_7.pth"),
         ("nn.official_weights.read_checkpoint", "nn.official_weights.load_backbone")),
)  # fmt: skip
