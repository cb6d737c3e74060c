"""The sequence emotion classifier equals the published one, its forgotten bias included."""

import json

import numpy as np
import pytest
import torch
from conftest import ROOT

from paper_utils.nn import emotion_video as ev
from paper_utils.nn.checkpoint_names import CheckpointNamesError

REFERENCE = ROOT / "tests" / "reference" / "emote"


@pytest.fixture(scope="module")
def stored():
    with np.load(REFERENCE / "emotion_classifier.npz") as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


@pytest.fixture
def published(stored, tmp_path):
    """A checkpoint with the published names."""
    state = {n.replace("seq.", "sequence_encoder.", 1): v for n, v in stored.items() if n.startswith("seq.")}
    state |= {n.replace("head.", "classification_head.", 1): v for n, v in stored.items() if n.startswith("head.")}
    torch.save({"state_dict": state}, tmp_path / "emotion.ckpt")
    return tmp_path / "emotion.ckpt"


def close(found, expected, atol=1e-5):
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


@torch.no_grad()
def test_the_classifier_is_the_published_one(stored, published):
    network = ev.load_emotion_classifier(published, heads=4)
    clip = network(stored["x"])
    close(clip, stored["pooled"])
    emotion, intensity = network.logits(clip)
    close(emotion, stored["logits_expression"])
    close(intensity, stored["logits_intensity"])


@torch.no_grad()
def test_the_published_classifier_takes_frames_as_a_bag_and_the_mended_one_does_not(stored, published):
    network = ev.load_emotion_classifier(published, heads=4)
    shuffled = stored["x"][:, stored["perm"]]
    close(network(shuffled), stored["pooled_after_frame_permutation"])
    close(network(shuffled), network(stored["x"]), atol=1e-6)
    mended = ev.SequenceEmotionClassifier(12, dim=16, heads=4, seed=0).eval()
    mended.load_state_dict(network.state_dict())
    close(mended(stored["x"]), stored["pooled_if_bias_were_applied"])
    assert (mended(shuffled) - mended(stored["x"])).abs().max() > 0.01


def test_full_size_has_the_published_counts():
    expected = json.loads((REFERENCE / "full_size_counts.json").read_text())["video_emotion_classifier"]
    network = ev.SequenceEmotionClassifier(seed=0)
    heads = sum(p.numel() for head in (network.emotion, network.intensity) for p in head.parameters())
    assert heads == expected["heads"]
    assert sum(p.numel() for p in network.parameters()) - heads == expected["sequence"]


def test_other_files_are_refused(published, tmp_path):
    state = torch.load(published)["state_dict"]
    state["decoder.weight"] = torch.zeros(1)
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(CheckpointNamesError, match=r"1 names are not known: decoder\.weight"):
        ev.load_emotion_classifier(tmp_path / "other.pt", heads=4)
    torch.save({"sequence_encoder.pooler.dense.bias": torch.zeros(1)}, tmp_path / "part.pt")
    with pytest.raises(CheckpointNamesError, match="missing: narrow"):
        ev.load_emotion_classifier(tmp_path / "part.pt")


@torch.no_grad()
def test_the_frame_network_loads_the_published_names_and_gives_2048_numbers(tmp_path):
    network = ev.emotion_frame_network(seed=0).eval()
    state = {f"backbone.{name}": value for name, value in network.state_dict().items()}
    state |= {
        "backbone.fc.weight": torch.zeros(2),
        "linear.weight": torch.zeros(10, 2048),
        "linear.bias": torch.zeros(10),
    }
    torch.save({"state_dict": state}, tmp_path / "resnet.ckpt")
    loaded = ev.load_emotion_frame_network(tmp_path / "resnet.ckpt")
    pictures = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    features = loaded(pictures)
    assert features.shape == (1, ev.FRAME_FEATURES)
    close(features, network(pictures))
    assert network.layer2[0].conv1.stride == (2, 2)
    assert network.layer2[0].conv2.stride == (1, 1)
    assert (
        len(state) - 3 == len(network.state_dict()) == 318
    )  # 53 convolutions with a normalisation of five tensors each
