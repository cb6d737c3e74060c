"""``kill -9`` at chosen points: in training, and in the middle of writing a checkpoint, a cache entry or a results file."""

import json
from pathlib import Path
from typing import BinaryIO

import pytest
import torch
from fault_tools import kill_at, kill_this_process, names_in, run_until_killed

from paper_utils import files, results, training
from paper_utils.world import cache

STEPS, EVERY = 12, 5


def train(checkpoint: Path | None, killed_in: int | None = None) -> dict[str, torch.Tensor]:
    """A short training with dropout, momentum, a schedule and a generator: all its states must survive."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Dropout(0.3), torch.nn.Linear(8, 1))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    noise = torch.Generator().manual_seed(1)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 4, 0.5)
    run = training.Run(
        training.launch("cpu"),
        {"net": net},
        optimizer,
        steps=STEPS,
        schedule=schedule,
        checkpoint=checkpoint,
        every_steps=EVERY,
        generators={"noise": noise},
    )
    for step in run:
        inputs = torch.randn(16, 3, generator=noise)
        loss = (run.modules["net"](inputs) - inputs.sum(1, keepdim=True)).square().mean()
        if step == killed_in:
            kill_this_process()
        run.update(loss)
    return {"losses": torch.from_numpy(run.history["loss"]), **net.state_dict()}


def assert_identical(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def write_half(state: object, file: BinaryIO, real=torch.save) -> None:
    """As far as a writer came that was killed half-way."""
    real(state, file)
    file.truncate(file.tell() // 2)
    file.flush()


@pytest.mark.parametrize("step", [0, 4, 5, 6, 11])
def test_training_killed_in_any_step_resumes_bit_identically(tmp_path, step):
    path = tmp_path / "c.pt"
    run_until_killed(lambda: train(path, killed_in=step))
    assert path.exists() == (step >= EVERY)
    assert_identical(train(path), train(None))


@pytest.mark.parametrize(
    ("target", "before"),
    [("torch.save", None), ("torch.save", write_half), ("os.replace", None)],
    ids=["before the first byte", "half-way", "before it takes its place"],
)
def test_kill_during_a_checkpoint_write_keeps_the_old_one_and_the_next_run_resumes(tmp_path, target, before):
    path = tmp_path / "c.pt"

    def second_save_is_killed():
        with kill_at(target, 2, before=before):
            train(path)

    run_until_killed(second_save_is_killed)
    assert training.load_state(path, {"step"})["step"] == EVERY
    assert len(list(tmp_path.iterdir())) == 2, "the killed process leaves its half-written file"
    assert_identical(train(path), train(None))
    assert names_in(tmp_path) == ["c.pt"]


def test_kill_during_the_first_checkpoint_write_starts_anew(tmp_path):
    path = tmp_path / "c.pt"

    def first_save_is_killed():
        with kill_at("torch.save", before=write_half):
            train(path)

    run_until_killed(first_save_is_killed)
    assert not path.exists()
    assert_identical(train(path), train(None))
    assert names_in(tmp_path) == ["c.pt"]


def test_kill_while_a_finished_training_is_cached_loses_no_step(tmp_path):
    steps = []

    def train_once(checkpoint):
        steps.append(checkpoint.exists())
        return train(checkpoint)

    def last_save_is_killed():
        with kill_at("torch.save", 4, before=write_half):  # after 5 and 10 steps, at the end, and the result
            training.cached("method", {}, train, code=[])

    run_until_killed(last_save_is_killed)
    found = training.cached("method", {}, train_once, code=[])
    assert steps == [True], "the checkpoint of the last step was there"
    assert_identical(found, train(None))
    assert len(names_in(tmp_path / ".cache" / "method")) == 1


def test_kill_during_a_results_write_keeps_the_old_results(tmp_path):
    path = tmp_path / "results" / "06.json"
    files.write_text(path, json.dumps({"old": True}))

    def write_is_killed():
        with kill_at("os.replace"):
            files.write_text(path, json.dumps({"old": False}))

    run_until_killed(write_is_killed)
    assert json.loads(path.read_text()) == {"old": True}
    assert len(names_in(tmp_path / "results")) > 1
    files.write_text(path, json.dumps({"old": False}))
    assert json.loads(path.read_text()) == {"old": False}
    assert names_in(tmp_path / "results") == ["06.json"]


def test_kill_during_the_first_results_write_leaves_no_results(tmp_path):
    path = tmp_path / "06.json"

    def write_is_killed():
        with kill_at("os.chmod"):
            files.write_text(path, "{")

    run_until_killed(write_is_killed)
    with pytest.raises(results.ResultsError, match="No such file"):
        results.load_results(path)


def test_kill_during_a_cache_write_makes_the_entry_again_and_cleans_up():
    make = lambda: {"values": torch.arange(5.0)}  # noqa: E731
    path = cache.entry_path(cache.__name__, {})

    def leave_what_safetensors_leaves(_, temporary, **__):
        (Path(temporary).parent / ".tmpQ6nFrz").write_bytes(b"half")

    def write_is_killed():
        with kill_at("paper_utils.world.cache.save_file", before=leave_what_safetensors_leaves):
            cache.cached(cache.__name__, {}, make)

    run_until_killed(write_is_killed)
    assert any(name.endswith(".tmpQ6nFrz") for name in names_in(path.parent))
    assert torch.equal(cache.cached(cache.__name__, {}, make)["values"], torch.arange(5.0))
    assert names_in(path.parent) == [path.name]


def test_what_a_living_process_writes_is_not_taken_for_a_leftover(tmp_path):
    with files.atomic_path(tmp_path / "slow.txt") as slow:
        slow.write_text("slow")
        files.write_text(tmp_path / "quick.txt", "quick")
        files.remove_leftovers(tmp_path)
        assert slow.read_text() == "slow"
    assert names_in(tmp_path) == ["quick.txt", "slow.txt"]
