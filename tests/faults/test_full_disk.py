"""A full disk, real (a small disk in memory, as root) and by a limit on the size of files: a named error, nothing half-written, old files kept."""

import contextlib
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from fault_tools import LIMIT, mounted, names_in, no_larger_file

from paper_utils import audio_files, experiment, files, film, network_files, training
from paper_utils.world import cache

NOISE = np.random.default_rng(0).integers(0, 256, (30, 160, 160, 3), dtype=np.uint8)


@pytest.fixture(params=["limit on file size", "small disk"])
def full(request, tmp_path, monkeypatch):
    """A folder for outputs, and a block in which it is full."""
    if request.param == "limit on file size":
        yield tmp_path, no_larger_file
    else:
        with mounted(tmp_path / "disk", f"size={LIMIT}") as folder:
            monkeypatch.setenv("PAPER_UTILS_OUTPUT", str(folder))
            yield folder, contextlib.nullcontext


def checkpoint(path: Path, size: int) -> None:
    torch.manual_seed(0)
    net = torch.nn.Linear(size, 1)
    run = training.Run(
        training.launch("cpu"), {"net": net}, torch.optim.SGD(net.parameters(), lr=0.1), steps=1, checkpoint=path
    )
    run.save()


def figure(path: Path, size: int) -> None:
    side = round(size**0.5)
    exp = experiment.start("06")
    fig, ax = plt.subplots(figsize=(side / 100, side / 100), layout="none")
    ax.imshow(np.random.default_rng(0).random((side, side, 3)))
    try:
        exp.figure_folder.parent.mkdir(parents=True, exist_ok=True)
        exp.save_figure(fig, path.stem, "Noise.")
    finally:
        plt.close(fig)


def film_file(path: Path, size: int) -> None:
    frames = len(NOISE) if size > 1000 else 1
    film.Film(NOISE[:frames], 25.0).save(path)


def network(path: Path, size: int) -> None:
    network_files.save_networks(torch.nn.Linear(size, 1), path, "test", {})


WRITERS = {
    "trained.pt": lambda path, size: training.save_state(path, {"weight": torch.zeros(size)}),
    "results.json": lambda path, size: files.write_text(path, "x" * 4 * size),
    "figures/06_sphereface_r/noise.png": figure,
    "film.mp4": film_file,
    "film.gif": film_file,
    "sound.wav": lambda path, size: audio_files.write_wav(path, torch.zeros(2 * size), 16000),
    "network.safetensors": network,
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_named_and_the_old_file_kept(full, name):
    folder, filling = full
    if name == "film.mp4" and not film.has_video():
        pytest.skip("mp4 needs PyAV")
    path, write = folder / name, WRITERS[name]
    write(path, 100)
    before, listing = path.read_bytes(), names_in(folder)
    with filling(), pytest.raises(files.WriteError) as caught:
        write(path, 300_000)
    message = str(caught.value)
    assert message.startswith(f"{path} cannot be written: ")
    assert "limit on the size of files" in message or "the disk is full" in message
    assert "PAPER_UTILS_OUTPUT" in message
    assert "the file that stood there is unchanged" in message
    assert path.read_bytes() == before
    assert names_in(folder) == listing


def test_a_full_disk_says_how_much_a_checkpoint_needs(full):
    folder, filling = full
    with (
        filling(),
        pytest.raises(files.WriteError, match=r"it needs 4\.01 MB and [\d.,]+ MB are free.*nothing half-written"),
    ):
        checkpoint(folder / "c.pt", 1_000_000)
    assert names_in(folder) == []


def test_a_cache_entry_on_a_full_disk_is_an_error_that_names_it(full):
    folder, filling = full
    path = cache.entry_path(cache.__name__, {})
    with filling(), pytest.raises(files.WriteError, match=rf"{path.name} cannot be written.*it needs 4\.00 MB"):
        cache.cached(cache.__name__, {}, lambda: {"values": torch.zeros(1_000_000)})
    assert names_in(path.parent) == []
    found = cache.cached(cache.__name__, {}, lambda: {"values": torch.zeros(10)})
    assert len(found["values"]) == 10
    assert path.is_relative_to(folder)


def test_a_training_whose_result_finds_no_room_keeps_its_checkpoint(full):
    _, filling = full
    seen = []

    def train(path):
        seen.append(path.exists())
        files.write_text(path, "all steps")
        return {"weight": torch.zeros(1_000_000)}

    with filling(), pytest.raises(files.WriteError, match="cannot be written"):
        training.cached("method", {}, train, code=[])
    with contextlib.suppress(files.WriteError):
        training.cached("method", {}, train, code=[])
    assert seen == [False, True]


def test_an_error_of_another_kind_stays_what_it_is(tmp_path):
    target = tmp_path / "value.txt"

    def fail(error):
        with files.atomic_path(target) as temporary:
            temporary.write_text("half")
            raise error

    for error in (
        ValueError("a bad value"),
        PermissionError(13, "Permission denied", "/some/data/set"),
        ConnectionResetError(104, "Connection reset by peer"),
        KeyboardInterrupt(),
    ):
        with pytest.raises(type(error)) as caught:
            fail(error)
        assert caught.value is error
    assert names_in(tmp_path) == []
