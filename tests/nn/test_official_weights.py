"""Checkpoints in the layouts of OpenSphere's three branches: round trips through files, and files that must be refused."""

from __future__ import annotations

import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from paper_utils.nn import backbones, official_weights
from paper_utils.nn.official_weights import (
    CheckpointLayoutError,
    OfficialCheckpointError,
    StateMismatchError,
    UnreadableCheckpointError,
    UnsafeCheckpointError,
)

SMALL = {"channels": (2, 3, 4, 5), "features": 6, "image_size": (32, 32)}
CLASSES = 9
LAYOUTS = ["v0", "iclr", "main", "main training state"]


def network(name: str = "sfnet4", branch: str = "v0", seed: int = 1, **changes) -> nn.Module:
    return backbones.build_backbone(name, branch=branch, seed=seed, **(SMALL | changes))


def proxies(classes: int = CLASSES, dim: int = 6, seed: int = 2) -> torch.Tensor:
    return torch.randn(classes, dim, generator=torch.Generator().manual_seed(seed))


def prefixed(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"module.{name}": value for name, value in state.items()}


def write(folder: Path, layout: str, state: dict, rows: torch.Tensor, bias: torch.Tensor | None) -> Path:
    """A file as the official code of that branch writes it; returns the path that a user would give."""
    extra = {} if bias is None else {"b": bias}
    columns, rows = {"w": rows.T.contiguous(), **extra}, {"w": rows, **extra}
    if layout == "v0":
        torch.save(prefixed(columns), folder / "head_70000.pth")
        torch.save(prefixed(state), folder / "backbone_70000.pth")
        return folder / "backbone_70000.pth"
    if layout == "iclr":
        torch.save({"backbone": prefixed(state), "head": prefixed(columns)}, folder / "checkpoint_80000.pth")
        return folder / "checkpoint_80000.pth"
    model = {"backbone": state, "head": rows}
    if layout == "main":
        torch.save(model, folder / "model_240000.pth")
        return folder / "model_240000.pth"
    parameter = nn.Parameter(torch.ones(2))
    parameter.grad = torch.ones(2)
    optimizer = torch.optim.SGD([parameter], lr=0.1, momentum=0.9)
    optimizer.step()
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [80000, 140000])
    scaler = {
        "scale": 65536.0,
        "growth_factor": 2.0,
        "backoff_factor": 0.5,
        "growth_interval": 2000,
        "_growth_tracker": 0,
    }
    states = {"optimizer": optimizer.state_dict(), "scheduler": schedule.state_dict(), "scaler": scaler}
    torch.save({"step": 5, "epoch": 2, "model": model, **states}, folder / "ckpt_5.pth")
    return folder / "ckpt_5.pth"


def rewritten(path: Path, change) -> Path:
    """The same file with its content changed in place."""
    torch.save(change(torch.load(path, weights_only=True)), path)
    return path


def altered(content: dict, part: str, *, without: str = "", **entries) -> dict:
    """A copy of a {backbone, head} file with entries of one part added, replaced (dots written as two underscores) or left out."""
    new = {name.replace("__", "."): value for name, value in entries.items()}
    return {**content, part: {name: value for name, value in (content[part] | new).items() if name != without}}


# --------------------------------------------------------------------------------------------------------- round trips


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["sfnet10", "sfnet10bn", "iresnet18"])
def test_network_and_head_come_back_from_every_layout(tmp_path, layout, name):
    plain = name == "sfnet10"
    branch = {"v0": "v0", "iclr": "iclr" if plain else "v0"}.get(layout, "v0" if plain else "main")
    original, head = network(name, branch).eval(), proxies()
    path = write(tmp_path, layout, original.state_dict(), head, torch.tensor([-3.5]))
    fresh, weights = official_weights.load_backbone(name, path, **SMALL, branch=branch)
    assert weights.branch == layout.split()[0]
    assert weights.iteration == {"v0": 70000, "iclr": 80000, "main": 240000}.get(layout, 5)
    assert torch.equal(weights.proxies, head)
    assert torch.equal(weights.bias, torch.tensor([-3.5]))
    assert path.name in weights.source
    assert not fresh.training
    images = 2 * torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(3)) - 1
    assert torch.equal(fresh(images), original(images))
    assert [(n, p.requires_grad) for n, p in fresh.named_parameters()] == [
        (n, p.requires_grad) for n, p in original.named_parameters()
    ]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    layout=st.sampled_from(LAYOUTS),
    classes=st.integers(2, 12),
    dim=st.integers(1, 12),
    bias=st.sampled_from(["none", "one", "one a class"]),
)
def test_proxies_are_rows_and_the_bias_a_vector_whatever_their_number(tmp_path, layout, classes, dim, bias):
    head = proxies(classes, dim)
    stored = {"none": None, "one": torch.tensor([0.5]), "one a class": torch.arange(float(classes))[None]}[bias]
    for old in tmp_path.iterdir():
        old.unlink()
    path = write(tmp_path, layout, network(features=dim).state_dict(), head, stored)
    weights = official_weights.read_checkpoint(path)
    assert torch.equal(weights.proxies, head)
    assert (weights.bias is None) == (stored is None)
    assert stored is None or torch.equal(weights.bias, stored.flatten())


def test_logits_of_a_read_head_are_those_of_the_written_one(tmp_path):
    columns = proxies().T
    path = write(tmp_path, "v0", network().state_dict(), columns.T, None)
    features = torch.randn(4, 6, generator=torch.Generator().manual_seed(4))
    assert torch.equal(features @ official_weights.read_checkpoint(path).proxies.T, features @ columns)


def test_the_branch_of_the_file_is_built_unless_another_is_asked_for(tmp_path):
    original = network("sfnet10", "iclr")
    path = write(tmp_path, "iclr", original.state_dict(), proxies(), None)
    loaded, _ = official_weights.load_backbone("sfnet10", path, **SMALL)
    assert loaded.config == original.config
    with pytest.raises(StateMismatchError, match=r"fit sfnet10 \(branch iclr\)$"):
        official_weights.load_backbone("sfnet10", path, **SMALL, branch="v0")


def test_a_main_softmax_head_keeps_its_columns_and_still_becomes_rows(tmp_path):
    path = write(tmp_path, "main", network().state_dict(), proxies(), None)
    rewritten(path, lambda c: altered(c, "head", w=proxies().T.contiguous()))
    assert torch.equal(official_weights.read_checkpoint(path).proxies, proxies())


def test_a_v0_backbone_may_come_without_head_or_with_one_from_elsewhere(tmp_path):
    path = write(tmp_path, "v0", network().state_dict(), proxies(), torch.tensor([1.0]))
    elsewhere = tmp_path / "elsewhere" / "best.pth"
    elsewhere.parent.mkdir()
    (tmp_path / "head_70000.pth").rename(elsewhere)
    alone = official_weights.read_checkpoint(path)
    assert alone.proxies is None
    assert alone.bias is None
    both = official_weights.read_checkpoint(str(path), head_path=str(elsewhere))
    assert torch.equal(both.proxies, proxies())
    assert "best.pth" in both.source


def test_files_of_the_time_before_zip_archives_are_read(tmp_path):
    path = write(tmp_path, "iclr", network().state_dict(), proxies(), None)
    torch.save(torch.load(path, weights_only=True), path, _use_new_zipfile_serialization=False)
    assert torch.equal(official_weights.read_checkpoint(path).proxies, proxies())


def test_half_precision_is_kept_as_read_and_becomes_single_in_the_network(tmp_path):
    state = {name: value.half() for name, value in network().state_dict().items()}
    path = write(tmp_path, "v0", state, proxies().half(), None)
    loaded, weights = official_weights.load_backbone("sfnet4", path, **SMALL)
    assert weights.backbone["fc.weight"].dtype == torch.float16
    assert loaded.fc.weight.dtype == torch.float32
    assert torch.equal(loaded.fc.weight, state["fc.weight"].float())


def test_training_a_loaded_network_leaves_the_weights_as_read(tmp_path):
    loaded, weights = official_weights.load_backbone(
        "sfnet4", write(tmp_path, "v0", network().state_dict(), proxies(), None), **SMALL
    )
    before = weights.backbone["fc.weight"].clone()
    with torch.no_grad():
        loaded.fc.weight.zero_()
    assert torch.equal(weights.backbone["fc.weight"], before)


# ------------------------------------------------------------------------------------- states that do not fit a network


@pytest.fixture
def weights(tmp_path):
    """The backbone of an SFNet-10."""
    return official_weights.read_checkpoint(write(tmp_path, "v0", network("sfnet10").state_dict(), proxies(), None))


def test_a_fitting_state_is_loaded_and_a_misfit_changes_nothing(weights):
    target = network("sfnet10", seed=7)
    before = {name: value.clone() for name, value in target.state_dict().items()}
    damaged = {name: value for name, value in weights.backbone.items() if name != "fc.bias"}
    with pytest.raises(StateMismatchError, match=r"1 missing: fc\.bias\."):
        official_weights.load_backbone_state(
            target, official_weights.OfficialWeights("v0", 1, damaged, None, None, "x")
        )
    assert all(torch.equal(before[name], value) for name, value in target.state_dict().items())
    official_weights.load_backbone_state(target, weights)
    assert all(torch.equal(weights.backbone[name], value) for name, value in target.state_dict().items())


def test_missing_unexpected_and_misshapen_entries_are_counted_and_listed(weights):
    with pytest.raises(StateMismatchError) as caught:
        official_weights.check_state(network("sfnet20", features=7), weights.backbone, "some.pth")
    message = str(caught.value)
    assert message.startswith("some.pth: does not fit the network. ")
    assert "20 missing: layer1.1.conv1.weight, layer1.1.conv1.bias, " in message
    assert "... 15 more" in message
    assert "fc.weight (network (7, 20), file (6, 20)), fc.bias (network (7,), file (6,))" in message
    assert "2 of another shape" in message
    assert "unexpected" not in message
    assert message.endswith(
        "Hint: the names fit sfnet10 (branch v0) or sfnet10v2 (branch v0) or sfnet10v2 (branch main)"
    )


def test_unexpected_entries_are_listed(weights):
    with pytest.raises(StateMismatchError, match=r"\. 12 unexpected: layer2\.1\.conv1\.weight, .* 7 more\. Hint"):
        official_weights.check_state(network("sfnet4"), weights.backbone)


def test_other_widths_alone_give_another_hint(weights):
    with pytest.raises(StateMismatchError, match=r"Hint: the names fit, so give .* channels, features and image_size"):
        official_weights.check_state(network("sfnet10", channels=(3, 3, 4, 5)), weights.backbone)


def test_a_network_of_another_family_is_told_apart(weights):
    state = {f"stem.{name}": value for name, value in weights.backbone.items()}
    with pytest.raises(StateMismatchError, match="the names fit no network of"):
        official_weights.check_state(network("sfnet10"), state)


@pytest.mark.parametrize(
    "name", ["sfnet4", "sfnet20", "sfnet36bn", "sfnet64bn", "iresnet18", "iresnet34", "iresnet100"]
)
@pytest.mark.parametrize("last", [False, True])
def test_candidates_name_the_network_a_state_comes_from(name, last):
    branch = backbones.branches(name)[-1 if last else 0]
    state = backbones.build_backbone(name, branch=branch, device="meta").state_dict()
    found = official_weights.candidates(state)
    assert (name, branch) in found
    assert len({re.sub("v2$", "", candidate) for candidate, _ in found}) == 1


# ------------------------------------------------------------------------------------------------------- wrong layouts


def test_a_head_in_the_place_of_a_backbone_is_refused(tmp_path):
    write(tmp_path, "v0", network().state_dict(), proxies(), torch.ones(1))
    with pytest.raises(CheckpointLayoutError, match=r"no matrix `fc\.weight` among w, b: this is a head, pass its"):
        official_weights.read_checkpoint(tmp_path / "head_70000.pth")


def test_a_lone_state_without_prefix_is_refused(tmp_path):
    torch.save(network().state_dict(), tmp_path / "backbone_1.pth")
    with pytest.raises(CheckpointLayoutError, match=r"backbone_1\.pth: a lone state .* lack `module\.`; expected v0"):
        official_weights.read_checkpoint(tmp_path / "backbone_1.pth")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: {**c, "head": {"w": proxies().T}}, r"only one of backbone and head has names with `module\.`"),
        (lambda c: altered(c, "backbone", stray=torch.ones(1)), r"'backbone': 1 of 11 names lack `module\.` \(stray\)"),
        (lambda c: {**c, "head": {}}, "'head': expected a state dictionary, found nothing"),
        (lambda c: {**c, "head": [1, 2]}, "'head': expected a state dictionary, found a list"),
        (lambda c: altered(c, "head", module__step=3), r"'head': 1 entries are no named tensors \(module\.step\)"),
        (lambda c: altered(c, "head", without="module.w"), r"a matrix `w` and perhaps `b`, found b \(1,\)"),
        (lambda c: altered(c, "head", module__c=torch.ones(2)), r"`b`, found w \(6, 9\), b \(1,\), c \(2,\)"),
        (lambda c: altered(c, "head", module__b=torch.ones(4)), r"`b` is \(4,\) .*one for each of 9 classes"),
        (lambda c: altered(c, "head", module__b=torch.ones(1).int()), r"`b` is \(1,\) of torch\.int32"),
        (
            lambda c: altered(c, "head", module__w=proxies()),
            r"`w` has shape \(9, 6\), expected \(dim, classes\) with dim 6",
        ),
        (lambda c: altered(c, "head", module__w=proxies()[0]), r"expected a head with a matrix `w`.*found w \(6,\)"),
        (lambda c: {"backbone": c["backbone"]}, r"1 entries are no named tensors \(backbone\)"),
        (lambda c: {"state_dict": c["backbone"], "epoch": 3}, r"2 entries are no named tensors \(state_dict, epoch\)"),
        (lambda c: c["head"]["module.b"], "expected a state dictionary, found a Tensor; expected v0"),
        (lambda c: altered(c, "backbone", without="module.fc.weight"), r"no matrix `fc\.weight` among .* no SFNet"),
    ],
)
def test_other_contents_are_refused_and_named(tmp_path, change, message):
    path = write(tmp_path, "iclr", network().state_dict(), proxies(), torch.ones(1))
    rewritten(path, change)
    with pytest.raises(CheckpointLayoutError, match=message) as caught:
        official_weights.read_checkpoint(path)
    assert str(path) in str(caught.value)


def test_a_head_of_another_width_is_refused_in_main(tmp_path):
    path = write(tmp_path, "main", network().state_dict(), proxies(dim=7), None)
    with pytest.raises(
        CheckpointLayoutError, match=r"\(9, 7\), expected \(classes, dim\) or \(dim, classes\) with dim 6"
    ):
        official_weights.read_checkpoint(path)


def test_heads_of_another_iteration_or_without_need_are_refused(tmp_path):
    path = write(tmp_path, "v0", network().state_dict(), proxies(), None)
    other = tmp_path / "head_69000.pth"
    (tmp_path / "head_70000.pth").rename(other)
    with pytest.raises(CheckpointLayoutError, match=r"is of iteration 69000, .* of 70000; pair equal ones"):
        official_weights.read_checkpoint(path, head_path=other)
    whole = write(tmp_path, "main", network().state_dict(), proxies(), None)
    with pytest.raises(CheckpointLayoutError, match="holds backbone and head; leave head_path"):
        official_weights.read_checkpoint(whole, head_path=other)
    torch.save({"w": proxies().T}, tmp_path / "head.pth")
    with pytest.raises(CheckpointLayoutError, match=r"head\.pth: names \(w\) lack `module\.`"):
        official_weights.read_checkpoint(path, head_path=tmp_path / "head.pth")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_diverged_run_is_refused(tmp_path, value):
    path = write(tmp_path, "main", network().state_dict(), proxies(), None)
    rewritten(path, lambda c: altered(c, "backbone", layer2__0__conv1__weight=torch.full((3, 2, 3, 3), value)))
    with pytest.raises(OfficialCheckpointError, match=r"1 tensors hold NaN or infinity \(layer2\.0\.conv1\.weight\)"):
        official_weights.read_checkpoint(path)


def test_a_name_that_the_branch_does_not_have_is_refused(tmp_path):
    path = write(tmp_path, "main", network().state_dict(), proxies(), None)
    with pytest.raises(ValueError, match="branch: an SFNet of variant 'plain' exists in OpenSphere's v0 and iclr"):
        official_weights.load_backbone("sfnet4", path, **SMALL)


# ------------------------------------------------------------------------------- files that are broken or worse than that


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.7, 0.999])
def test_truncated_files_are_refused(tmp_path, layout, zipped, kept):
    path = write(tmp_path, layout, network().state_dict(), proxies(), None)
    torch.save(torch.load(path, weights_only=True), path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(
        UnreadableCheckpointError, match=r"not a whole file of tensors .* bytes; is the download complete"
    ):
        official_weights.read_checkpoint(path)


def test_a_truncated_head_beside_a_whole_backbone_is_refused(tmp_path):
    path = write(tmp_path, "v0", network().state_dict(), proxies(), None)
    head = tmp_path / "head_70000.pth"
    head.write_bytes(head.read_bytes()[:-100])
    with pytest.raises(UnreadableCheckpointError, match=r"head_70000\.pth: not a whole file of tensors"):
        official_weights.read_checkpoint(path)


def test_a_single_wrong_bit_in_the_weights_is_noticed(tmp_path):
    path = write(tmp_path, "main", network().state_dict(), proxies(), None)
    content = bytearray(path.read_bytes())
    place = content.find(proxies().numpy().tobytes())
    assert place > 0
    content[place + 5] ^= 1
    path.write_bytes(content)
    torch.load(path, weights_only=True)  # torch itself does not notice
    with pytest.raises(UnreadableCheckpointError, match=r"the check sum of .*data/\d+ is wrong"):
        official_weights.read_checkpoint(path)


@pytest.mark.parametrize("content", [b"", b"hello world", b"PK\x03\x04", b"\x80\x02}q\x00.", b"\xff" * 64])
def test_files_of_something_else_are_refused(tmp_path, content):
    path = tmp_path / "model_1.pth"
    path.write_bytes(content)
    with pytest.raises(UnreadableCheckpointError, match=f"found {len(content)} bytes; is the download complete"):
        official_weights.read_checkpoint(path)


@pytest.mark.filterwarnings("ignore")  # torch deprecates writing script archives, not meeting them
def test_numpy_and_script_archives_are_refused(tmp_path):
    np.savez(tmp_path / "model_1.npz", w=np.ones(3))
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), tmp_path / "script.pth")
    for name in ("model_1.npz", "script.pth"):
        with pytest.raises(UnreadableCheckpointError, match=re.escape(name)):
            official_weights.read_checkpoint(tmp_path / name)


class Planted:
    """Runs a command when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("layout", ["v0", "iclr", "main"])
def test_code_in_a_file_is_named_and_not_run(tmp_path, layout, zipped):
    marker = tmp_path / "ran"
    path = write(tmp_path, layout, network().state_dict(), proxies(), None)
    content = torch.load(path, weights_only=True)
    torch.save({**content, "extra": Planted(marker)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UnsafeCheckpointError, match=r"asks for \w+\.system, .* nothing was run"):
        official_weights.read_checkpoint(path)
    assert not marker.exists()
    torch.load(path, weights_only=False)
    assert marker.exists()  # so it was a live one


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_code_in_a_bare_pickle_is_refused_and_not_run(tmp_path, protocol):
    marker, path = tmp_path / "ran", tmp_path / "model_1.pth"
    path.write_bytes(pickle.dumps({"backbone": Planted(marker)}, protocol=protocol))
    with pytest.raises(OfficialCheckpointError, match=re.escape(str(path))):
        official_weights.read_checkpoint(path)
    assert not marker.exists()


def test_a_whole_pickled_network_is_refused_with_advice(tmp_path):
    path = tmp_path / "model_1.pth"
    torch.save({"backbone": network(), "head": {"w": proxies()}}, path)
    with pytest.raises(
        UnsafeCheckpointError, match=r"backbones\.SFNet, .* Save the state dictionary of the network instead"
    ):
        official_weights.read_checkpoint(path)


def test_absent_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"model_7\.pth: no such file; expected v0 `backbone_<iter>\.pth`"):
        official_weights.read_checkpoint(tmp_path / "model_7.pth")
    path = write(tmp_path, "v0", network().state_dict(), proxies(), None)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth: no such file"):
        official_weights.read_checkpoint(path, head_path=tmp_path / "nowhere.pth")
