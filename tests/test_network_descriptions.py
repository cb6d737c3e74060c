"""Files of the papers' own networks with hostile descriptions: each is refused by name, before memory or time is spent on what it claims."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from fuzz import guarded, network_cases
from fuzz.damages import replaced
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from paper_utils import training
from paper_utils.network_files import ModelFileError

CASES = {case.name: case for case in network_cases.CASES}


def change_entry(path: Path, entry: str, place: Sequence[Any], value: object) -> None:
    """Another value at a place of an entry of the description; at no place: another text."""
    with safe_open(path, "pt") as file:
        about = file.metadata()
    about[entry] = json.dumps(replaced(json.loads(about[entry]), tuple(place), lambda _: value)) if place else value
    save_file(load_file(path), path, metadata=about)


def refused(name: str, change: Callable[[Path], None], message: str, folder: Path) -> None:
    """The file of a case of the fuzzer is read, and refused with that message after the change."""
    case = CASES[name]
    case.make(folder)
    case.read(folder)
    change(folder / case.targets[0])
    assert guarded.fault_of(case.read, folder, case.targets[0]) is None  # within seconds, megabytes, and by name
    with pytest.raises(ModelFileError, match=f"{case.targets[0]}.*{message}"):
        case.read(folder)
    assert torch.is_grad_enabled()  # whatever was being built when it ended


UNFIT, NO_NETWORK = "do not fit the sizes", "make no network"
MANY = "many times more layers than the file has tensors"
HOSTILE = [
    ("voice_to_face_networks", "sizes", ("bands",), 10**9, UNFIT),
    ("voice_to_face_networks", "sizes", ("dim",), 10**18, NO_NETWORK),
    ("voice_to_face_networks", "sizes", ("voice",), [30_000, 30_000], UNFIT),
    ("voice_to_face_networks", "sizes", ("voice",), [1] * 100_000, MANY),
    ("voice_to_face_networks", "sizes", ("generator",), [1], "equally many widths"),
    ("voice_to_face_networks", "sizes", ("generator",), 7, r"sizes\.generator: expected tuple\[int, \.\.\.\], found int 7"),
    ("voice_to_face_networks", "sizes", (), "{}", "sizes: expected the fields of Sizes; missing: 'bands'"),
    ("voice_to_face_networks", "front_end", ("minimum",), 10**9, "minimum: expected 1 to 100000, found 1000000000"),
    ("voice_to_face_networks", "front_end", ("activity",), "x", "activity must be one of"),
    ("cest_networks", "config", ("image_size",), 10**9, "image_size: expected 1 to 4096"),
    ("cest_networks", "config", ("image_size",), -8, "image_size: expected 1 to 4096"),
    ("cest_networks", "config", ("light_size",), 4096, UNFIT),
    ("cest_networks", "config", ("resnets",), [18, 50], MANY),
    ("cest_networks", "config", ("resnets",), [18], r"config\.resnets: expected tuple\[int, int\], found list"),
    ("cest_networks", "config", ("unet",), [], NO_NETWORK),
    ("cest_networks", "config", ("unet",), [1] * 100_000, MANY),
    ("cest_networks", "config", ("light",), [1] * 100_000, NO_NETWORK),
    ("cest_networks", "config", ("hide",), None, r"config\.hide: expected bool, found NoneType"),
    ("cest_networks", "space", ("uv_size",), 10**6, "uv_size: expected 1 to 4096"),
    ("cest_networks", "space", ("signature",), 1, r"space\.signature: expected str, found int 1"),
    ("cest_networks", "space", (), "[]", "space: expected the fields of Learned, found list"),
    ("talkshow_networks", "sizes", ("body", "width"), 4 * 10**8, UNFIT),
    ("talkshow_networks", "sizes", ("body", "residual_layers"), 10**7, MANY),
    ("talkshow_networks", "sizes", ("prior", "grid", "layers"), 10**7, MANY),
    ("talkshow_networks", "sizes", ("prior", "grid", "kernel"), 10**9, UNFIT),
    ("talkshow_networks", "sizes", ("hands", "quantizer", "codes"), 10**9, "equally many codes"),
    ("talkshow_networks", "sizes", ("channels",), [39], r"sizes\.channels: expected tuple\[int, int\], found list"),
    ("talkshow_networks", "sizes", ("face", 0), "hat", r"sizes\.face\[0\]: expected Literal"),
    ("talkshow_networks", "sizes", ("face", 0), "", "unexpected: face"),
    ("talkshow_networks", "sizes", ("face", 0), "head", r"sizes\.face: expected the fields of FaceConfig; missing: 'hidden'"),
    ("talkshow_networks", "sizes", ("face", 1, "layers"), 40, "layers: expected 1 to 16, found 40"),
    ("talkshow_head", "sizes", ("face", 1, "dropout"), 1.5, NO_NETWORK),
    ("talkshow_head", "sizes", ("face", 1, "speakers"), 10**9, UNFIT),
    ("emote_speaker", "profile", (), "full", "do not fit the sizes of profile full"),
    ("emote_speaker", "profile", (), "huge", "profile: expected one of smoke, quick, full, found 'huge'"),
    ("emote_speaker", "population", (), "0", "population: expected seed and size"),
    ("emote_speaker", "population", (), "0 0", "population: expected 1 to 1000000, found 0;"),
    ("emote_speaker", "population", (), "0 9999999", "population: expected 1 to 1000000, found 9999999"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "entry", "place", "value", "message"), HOSTILE)
def test_a_description_that_lies_is_refused_by_name(name, entry, place, value, message, tmp_path):
    refused(name, lambda path: change_entry(path, entry, place, value), message, tmp_path)


def gathered(**changes: object) -> dict[str, object]:
    fields = {"kind": "GatheredWindows", "fps": 30.0, "every": 1, "past": 1, "future": 1, "centre": 0.0, "spread": 1.0}
    return fields | changes


SPEAKER = [
    (("sizes", "vertices"), 10**9, r"decoder\.mean: expected numbers of shape \(1, 1, 1000000000, 3\)"),
    (("sizes", "heads"), 10**6, UNFIT),
    (("sizes", "decoder_lstm"), 10**7, MANY),
    (("sizes", "dilations"), (10**9,), "dilations: expected 1 to 10000, found 1000000000"),
    (("sizes", "dilations"), (), "no list of layers empty"),
    (("sizes", "mask"), "x", r"sizes\.mask: expected Literal"),
    (("sizes", "bands"), b"2", r"sizes\.bands: expected int, found bytes"),
    (("sizes", "subframes"), 4, "the audio encoder expects 2 x 4"),
    (("windows",), gathered(kind="Other"), "kind: expected one of GatheredWindows, ReleasedWindows, found 'Other'"),
    (("windows",), gathered(past=10**8), "length: expected 1 to 160000"),
    (("windows",), gathered(fps=1e-300), "fps: expected 1 to 192000"),
    (("windows",), {"kind": "GatheredWindows"}, "windows: expected the fields of GatheredWindows; missing: 'fps'"),
    (("mel", "n_fft"), 2**40, "length: expected 1 to 160000"),
    (("mel", "sample_rate"), 2**40, "sample_rate: expected 1 to 192000"),
    (("mel", "bands"), 0, "must be positive"),
    (("encoder",), {}, "encoder: its weights do not fit"),
    (("encoder",), {1: torch.zeros(1)}, "encoder: expected str, found int 1"),
    (("context",), 3, "context: expected dict"),
    (("decoder", "stddev"), torch.zeros(1, 1, 3, 3), "positive deviations"),
    (("decoder", "mean"), torch.full((1, 1, 3, 3), torch.nan), r"decoder\.mean: expected finite numbers only"),
    (("decoder", "mean"), torch.zeros(1, 1, 3, 3, dtype=torch.int64), r"decoder\.mean: expected numbers of shape"),
    (("templates",), torch.zeros(2, 4, 3), r"templates: expected numbers of shape \(any, 3, 3\), found \(2, 4, 3\)"),
    (("templates",), None, "templates: expected Tensor, found NoneType"),
    (("heads",), torch.zeros(3), "heads: expected numbers of shape"),
    (("faces",), torch.tensor([[0, 1, 3]]), "faces: expected numbers from 0 to 2 only"),
    (("faces",), torch.zeros(1, 3), "faces: expected whole numbers of shape"),
]


@pytest.mark.parametrize(("place", "value", "message"), SPEAKER)
def test_a_speaker_of_paper_04_that_lies_is_refused_by_name(place, value, message, tmp_path):
    def change(path: Path) -> None:
        training.save_state(path, replaced(training.load_state(path, set()), place, lambda _: value))

    refused("meshtalk_speaker", change, message, tmp_path)
