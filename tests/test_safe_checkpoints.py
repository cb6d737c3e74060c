"""Checkpoints that lie about their size or ask for other things than tensors; nothing is built of them, let alone run."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections import OrderedDict

import pytest
import torch

from paper_utils import safe_checkpoints


class Stored:
    """Stands for a storage that the pickle refers to: kind, key, place, count."""

    def __init__(self, count: int, kind: type = torch.FloatStorage, key: str = "0") -> None:
        self.reference = ("storage", kind, key, "cpu", count)


class Calls:
    def __init__(self, function, *arguments):
        self.called = function, arguments

    def __reduce__(self):
        return self.called


class Writer(pickle.Pickler):
    def persistent_id(self, value):
        return value.reference if isinstance(value, Stored) else None


def tensor(count: int, shape: tuple[int, ...], stride: tuple[int, ...] | None = None, **storage) -> Calls:
    stride = stride or tuple(1 for _ in shape)
    return Calls(torch._utils._rebuild_tensor_v2, Stored(count, **storage), 0, shape, stride, False, OrderedDict())


def pickled(value: object) -> bytes:
    out = io.BytesIO()
    Writer(out, protocol=2).dump(value)
    return out.getvalue()


def archive(value: object, storages: dict[str, bytes], **changes: object) -> bytes:
    """A file in torch's present form."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", changes.get("compression", zipfile.ZIP_STORED)) as packed:
        packed.writestr("a/data.pkl", pickled(value))
        packed.writestr("a/byteorder", b"little")
        for key, data in storages.items():
            packed.writestr(f"a/data/{key}", data)
        packed.writestr("a/version", b"3\n")
    return out.getvalue()


def old_form(value: object, storages: dict[str, tuple[int, bytes]]) -> bytes:
    """A file in the form before torch 1.6."""
    parts = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, value, list(storages)]
    data = b"".join(pickled(part) for part in parts)
    return data + b"".join(count.to_bytes(8, "little", signed=True) + held for count, held in storages.values())


def test_both_forms_written_here_are_torchs_own(tmp_path):
    """So that what is refused below is refused for its lie."""
    content = {"w": tensor(4, (2, 2), (2, 1))}
    held = torch.arange(4.0).numpy().tobytes()
    reference = [*Stored(4).reference, None]
    content_old = {"w": tensor(4, (2, 2), (2, 1))}
    content_old["w"].called[1][0].reference = tuple(reference)
    for data in (archive(content, {"0": held}), old_form(content_old, {"0": (4, held)})):
        (tmp_path / "w.pth").write_bytes(data)
        assert torch.equal(safe_checkpoints.load(tmp_path / "w.pth")["w"], torch.arange(4.0).view(2, 2))
    for new in (True, False):
        state = {"w": torch.ones(2, 3), "h": torch.ones(2, dtype=torch.bfloat16), "n": 3, "empty": torch.zeros(0)}
        torch.save(state, tmp_path / "own.pth", _use_new_zipfile_serialization=new)
        assert torch.equal(safe_checkpoints.load(tmp_path / "own.pth")["w"], torch.ones(2, 3))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (archive({"w": tensor(2**40, (2,))}, {"0": bytes(8)}), "storage 0 shall have 4398046511104 bytes, the archive has 8"),
        (archive({"w": tensor(4, (4,))}, {"0": bytes(8)}), "storage 0 shall have 16 bytes, the archive has 8"),
        (archive({"w": tensor(4, (4,))}, {}), "storage 0 shall have 16 bytes, the archive has 0"),
        (archive({"w": tensor(1, (2**20, 2**20), (0, 0))}, {"0": bytes(4)}), r"w of shape \(1048576, 1048576\) has 1 numbers behind it"),
        (archive({"w": tensor(-1, (2,))}, {"0": bytes(8)}), "a storage is described as"),
        (archive([tensor(2, (2,)), tensor(3, (2,))], {"0": bytes(8)}), "storage 0 has two sizes"),
        (archive({"w": tensor(4, (4,))}, {"0": bytes(16)}, compression=zipfile.ZIP_DEFLATED), "is packed or stands twice"),
        (old_form({"w": tensor(2**40, (2,))}, {"0": (2**40, bytes(8))}), "storage 0 of 4398046511104 bytes does not stand at byte"),
        (old_form({"w": tensor(2, (2,))}, {"0": (3, bytes(12))}), "storage 0 of 8 bytes does not stand at byte"),
        (old_form({"w": tensor(2, (2,))}, {}), "its list of storages is"),
        (b"PK\x03\x04", "it begins with"),
    ],
)  # fmt: skip
def test_sizes_that_the_file_does_not_hold_are_refused(tmp_path, data, message):
    path = tmp_path / "w.pth"
    path.write_bytes(data)
    with pytest.raises(safe_checkpoints.UnreadableCheckpointError, match=rf"w\.pth: .*{message}"):
        safe_checkpoints.load(path)


@pytest.mark.parametrize(
    "asked",
    [
        Calls(os.system, "touch ran"), Calls(eval, "1"), Calls(bytearray, 2**40), Calls(torch.FloatStorage, 2**40), Calls(torch.Tensor, 2**20, 2**20),
        Calls(torch.load, "x"), Calls(torch.hub.load, "a", "b"), Calls(getattr, 1, "real"),
    ],
    ids=lambda asked: asked.called[0].__name__,
)  # fmt: skip
@pytest.mark.parametrize("new", [True, False])
def test_calls_of_anything_but_tensors_are_refused_by_name(tmp_path, monkeypatch, asked, new):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "w.pth"
    path.write_bytes(archive({"w": asked}, {}) if new else old_form({"w": asked}, {}))
    with pytest.raises(safe_checkpoints.UnsafeCheckpointError, match=r"w\.pth: asks for .*; nothing was run") as caught:
        safe_checkpoints.load(path)
    assert any(name.endswith(asked.called[0].__name__) for name in caught.value.asked)
    assert not (tmp_path / "ran").exists()
