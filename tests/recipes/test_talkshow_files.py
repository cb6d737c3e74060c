"""Paper 08's files: round trips of our own, official names and shapes accepted whole and refused in part."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from paper_utils.methods import talkshow as ts
from paper_utils.nn.checkpoint_names import CheckpointNamesError
from paper_utils.nn.pixelcnn import PixelCnnConfig
from paper_utils.nn.quantizer import QuantizerConfig
from paper_utils.recipes import talkshow_files as tf

CODES = ts.CodebookConfig(8, 1, QuantizerConfig(codes=6, dim=3))


def model(face: str = "regressor") -> ts.TalkShow:
    grid = PixelCnnConfig(codes=6, width=4, layers=3, head=4, audio=4)
    faces = {
        "": None,
        "regressor": ts.Regressor(ts.RegressorConfig(5, 103, 4, 2), seed=0),
        "head": ts.FaceHead(ts.FaceConfig(hidden=5, width=8, jaw_width=4, speaker_width=2), seed=0),
    }
    prior = ts.Prior(ts.PriorConfig(grid, features=5, residual_layers=1), seed=0)
    return ts.TalkShow(ts.VqVae(39, CODES, seed=0), ts.VqVae(90, CODES, seed=1), prior, faces[face])


@pytest.fixture(scope="module")
def keys(request):
    path = request.config.rootpath / "tests/reference/talkshow/official_checkpoint_keys.json"
    return json.loads(path.read_text())


def narrow(shapes: dict[str, list[int]], factor: int, kept: tuple[int, ...] = ()) -> dict[str, torch.Tensor]:
    """The official tensors with every width from 64 on divided, so that nothing is large."""
    random = torch.Generator().manual_seed(0)
    sizes = {name: [n // factor if n >= 64 and n not in kept else n for n in shape] for name, shape in shapes.items()}
    drawn = {name: torch.randn(shape, generator=random) for name, shape in sizes.items() if "num_batches" not in name}
    return {
        name: torch.tensor(3) if "num_batches" in name else drawn[name].abs() if "running_var" in name else drawn[name]
        for name in sizes
    }


# ---------------------------------------------------------------------------------------------------------------- our own


@pytest.mark.parametrize("face", ["", "regressor", "head"])
def test_what_is_saved_comes_back(face, tmp_path):
    made = model(face)
    tf.save(made, tmp_path / "talkshow.safetensors")
    read = tf.load(tmp_path / "talkshow.safetensors")
    assert read.prior.config == made.prior.config
    assert not read.training
    features, speakers = torch.randn(1, 9, 5, generator=torch.Generator().manual_seed(0)), torch.tensor([1])
    motions = [m.generate(features, speakers, generator=torch.Generator().manual_seed(1)) for m in (made, read)]
    assert torch.equal(*motions)


def test_damaged_and_foreign_files_are_refused(tmp_path):
    file = tmp_path / "talkshow.safetensors"
    with pytest.raises(FileNotFoundError, match="train networks first"):
        tf.load(file)
    tf.save(model(), file)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(tf.ModelFileError, match="truncated"):
        tf.load(file)
    save_file({"a": torch.zeros(1)}, file)
    with pytest.raises(tf.ModelFileError, match="expected a file of format 'talkshow 1', found None"):
        tf.load(file)


# ---------------------------------------------------------------------------------------------------------- the official ones


def test_official_names_and_shapes_are_those_of_the_full_size(keys):
    with torch.device("meta"):
        own = {
            "g_body": ts.VqVae(39, ts.CodebookConfig(), seed=0),
            "g_hand": ts.VqVae(90, ts.CodebookConfig(), seed=0),
        }
    for name, network in own.items():
        ours = {
            key: list(value.shape) for key, value in network.state_dict().items() if not key.startswith("quantizer")
        }
        theirs = {key: shape for key, shape in keys[name].items() if not key.startswith("vq_layer")}
        assert ours == theirs
    prior = {"body_pixel.generator": PixelCnnConfig(), "body_pixel.audioencoder": None}
    for name, config in prior.items():
        network = ts.SoundEncoder(64, 256) if config is None else ts.Prior(ts.PriorConfig(config), seed=0).grid
        assert {key: list(value.shape) for key, value in network.state_dict().items()} == keys[name]


def test_sizes_are_read_off_the_official_shapes(keys):
    body = tf.codebook_from_official(narrow(keys["g_body"], 32))
    assert body.channels == 39
    assert body.config == ts.CodebookConfig(32, 2, QuantizerConfig(codes=64, dim=2, unused="official"))
    face = tf.face_from_official(narrow(keys["face.generator_without_audio_encoder"], 16, kept=(100,)))
    assert face.config == ts.FaceConfig(hidden=48, width=16, jaw_width=4, speaker_width=4)
    grid, sound = (narrow(keys[f"body_pixel.{name}"], 16) for name in ("generator", "audioencoder"))
    prior = tf.prior_from_official(grid, sound)
    assert prior.config == ts.PriorConfig(
        PixelCnnConfig(codes=128, width=16, head=32, audio=16, masked_gradient="official"), features=4
    )


@pytest.fixture
def checkpoints(keys, tmp_path):
    """Small files in the layout of the released code, with the prefix of parallel training."""
    prefixed = lambda state: {f"module.{name}": value for name, value in state.items()}  # noqa: E731
    part = lambda name, *kept: prefixed(narrow(keys[name], 16, kept=kept))  # noqa: E731
    face = part("face.generator_without_audio_encoder", 100) | {
        "module.audio_encoder.masked_spec_embed": torch.zeros(4)
    }
    contents = {
        "vq.pth": {"g_body": part("g_body", 90), "g_hand": part("g_hand", 90), "g_body_optim": {"state": {}}},
        "pixel.pth": {
            "generator": part("body_pixel.generator"),
            "audioencoder": part("body_pixel.audioencoder"),
        },
        "face.pth": {"generator": face},
    }
    for name, inner in contents.items():
        torch.save({"generator": inner, "epoch": 99, "global_steps": 7}, tmp_path / name)
    return [tmp_path / name for name in contents]


def test_official_checkpoints_load_and_generate(checkpoints):
    network, speech = tf.load_official(*checkpoints)
    assert set(speech) == {"masked_spec_embed"}
    assert network.body.config.quantizer.unused == "official"
    codes = network.draw_codes(
        torch.randn(1, 12, 4), torch.tensor([2]), generator=torch.Generator().manual_seed(0), draws=2
    )
    assert network.decode(codes[0]).shape == (2, 12, 129)


def test_averages_of_a_trained_codebook_count_as_settled(keys):
    state = narrow(keys["g_body"], 32)
    quantizer = tf.codebook_from_official(state).quantizer
    torch.testing.assert_close(quantizer.average_counts, state["vq_layer.ema_cluster_size.hidden"])
    state["vq_layer.ema_cluster_size.hidden"].zero_()
    assert int(tf.codebook_from_official(state).quantizer.updates) == 0


def test_official_states_are_loaded_strictly(keys, reference):
    state = narrow(keys["g_hand"], 32, kept=(90,))
    extra = state | {"decoder.gru.weight": torch.zeros(1)}
    with pytest.raises(tf.ModelFileError, match=r"1 unexpected: decoder\.gru\.weight"):
        tf.codebook_from_official(extra)
    with pytest.raises(CheckpointNamesError, match=r"1 names are not known: discriminator\.weight"):
        tf.codebook_from_official(state | {"discriminator.weight": torch.zeros(1)})
    missing = {name: value for name, value in state.items() if name != "decoder.project.bias"}
    with pytest.raises(tf.ModelFileError, match=r"1 missing: decoder\.project\.bias"):
        tf.codebook_from_official(missing)
    with pytest.raises(tf.ModelFileError, match="of another shape"):
        tf.codebook_from_official(state | {"decoder.project.bias": torch.zeros(3)})
    with pytest.raises(tf.ModelFileError, match=r"vq_layer\.embeddings is missing"):
        tf.codebook_from_official({name: value for name, value in state.items() if "vq" not in name})
    recorded = np.load(reference / "talkshow" / "pixelcnn_cross.npz")
    grid = {name[2:]: torch.tensor(recorded[name]) for name in recorded if name.startswith("w/")}
    with pytest.raises(tf.ModelFileError, match="no sound encoder was given"):
        tf.prior_from_official(grid)


def test_a_state_whose_shapes_ask_for_more_memory_than_there_is_is_refused_before_it_is_given(keys):
    state = narrow(keys["g_hand"], 32, kept=(90,))
    first = state["encoder.project.conv.weight"]
    state["encoder.project.conv.weight"] = first[:1].expand(2**22, *first.shape[1:])  # layers of 2**24 times 2**24
    with pytest.raises(tf.ModelFileError, match=r"official codebook: .*the sizes read off its shapes"):
        tf.codebook_from_official(state)


def test_unused_tensors_of_the_independent_variant_are_left_out_knowingly(reference):
    recorded = np.load(reference / "talkshow" / "pixelcnn_independent.npz")
    grid = {name[2:]: torch.tensor(recorded[name]) for name in recorded if name.startswith("w/")}
    sound = ts.SoundEncoder(8, 256).state_dict()
    prior = tf.prior_from_official(grid, sound)
    assert prior.config.grid.variant == "independent"
    assert prior.config.features == 8
    with pytest.raises(tf.ModelFileError, match="unexpected"):
        tf.prior_from_official(grid | {"fusion_x.weight": torch.zeros(1)}, sound)


def test_wrong_checkpoints_are_refused(checkpoints, tmp_path):
    vq, pixel, _ = checkpoints
    with pytest.raises(tf.ModelFileError, match=re.escape("expected the state dictionaries g_body, g_hand, found")):
        tf.load_official(pixel, vq)
    with pytest.raises(FileNotFoundError, match="released TalkSHOW code"):
        tf.load_official(tmp_path / "none.pth", pixel)
    vq.write_bytes(vq.read_bytes()[:1000])
    with pytest.raises(tf.ModelFileError, match="no readable checkpoint"):
        tf.load_official(vq, pixel)
