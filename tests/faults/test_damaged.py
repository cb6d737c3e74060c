"""Damaged files: every flipped bit in cached data is found and the entry made again with a note; a checkpoint is refused by name."""

import json
import os
import random
import warnings

import pytest
import torch
from fault_tools import flipped, names_in

from paper_utils import results, training
from paper_utils.world import cache

TENSORS = {
    "motion": torch.randn(6, 5, generator=torch.Generator().manual_seed(0)),
    "seen": torch.tensor([True, False]),
    "half": torch.arange(3, dtype=torch.bfloat16),
    "none": torch.zeros(0, 3),
    "rate": torch.tensor(25),
}


def same(found, expected):
    if isinstance(expected, torch.Tensor):
        return isinstance(found, torch.Tensor) and found.dtype == expected.dtype and torch.equal(found, expected)
    if isinstance(expected, dict):
        return list(found) == list(expected) and all(same(found[name], expected[name]) for name in expected)
    return found == expected


def damages(content, seed, *, count):
    """Flipped bits, truncations, stretches overwritten or added, and files of something else."""
    rng = random.Random(seed)
    for _ in range(count):
        place, noise = rng.randrange(len(content)), rng.randbytes(rng.randrange(1, 40))
        yield flipped(content, rng.randrange(8 * len(content)))
        yield content[:place]
        yield content[:place] + noise + content[place + len(noise) :]
        yield content[:place] + noise + content[place:]
        yield noise


# ---------------------------------------------------------------------------------------------------- entries of the world


def read_entry(expected_warning, make=lambda: TENSORS):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = cache.cached(cache.__name__, {}, make)
    told = [str(warning.message) for warning in caught]
    assert len(told) == expected_warning, told
    assert all("cached world" in text and "made again" in text for text in told)
    return found, told


def written_entry():
    read_entry(0)
    path = cache.entry_path(cache.__name__, {})
    return path, path.read_bytes()


def damage(path, content):
    """Put `content` in the place of a file, as a copy tool or a disk would: another file under the same name."""
    path.unlink()
    path.write_bytes(content)


def test_a_flipped_bit_of_a_cache_entry_is_found_and_the_entry_made_again():
    path, good = written_entry()
    for bit in random.Random(0).sample(range(8 * len(good)), 150):
        damage(path, flipped(good, bit))
        found, _ = read_entry(1)
        assert all(same(found[name], value) for name, value in TENSORS.items())
        assert path.read_bytes() == good
    assert names_in(path.parent) == [path.name]


def test_the_note_on_a_damaged_cache_entry_says_what_is_wrong_with_it():
    path, good = written_entry()
    damage(path, flipped(good, 8 * len(good) - 9))
    _, (told,) = read_entry(1)
    assert path.name in told
    assert "its checksum is" in told


def test_no_damage_of_a_cache_entry_goes_unseen():
    path, good = written_entry()
    for content in damages(good, 1, count=25):
        if content == good:
            continue
        damage(path, content)
        read_entry(1)


def test_an_entry_without_a_checksum_is_made_again():
    path, _ = written_entry()
    damage(path, b"")
    cache.save_file(TENSORS, path)
    _, (told,) = read_entry(1)
    assert "not None as when it was written" in told


def test_a_process_compares_an_entry_with_its_checksum_once(monkeypatch):
    path, good = written_entry()
    damage(path, good)
    counted = []
    real = cache.checksum
    monkeypatch.setattr(cache, "checksum", lambda tensors: counted.append(1) or real(tensors))
    for _ in range(3):
        read_entry(0, make=lambda: pytest.fail("made again"))
    assert len(counted) == 1
    damage(path, good)  # another file under that name is another entry
    read_entry(0)
    assert len(counted) == 2


# ------------------------------------------------------------------------------------------------ trainings and checkpoints

STATE = {"weight": TENSORS["motion"], "steps": [1, 2.5, "x"], "nested": {"count": torch.arange(4)}}


def test_no_damage_of_a_checkpoint_goes_unseen(tmp_path):
    path = tmp_path / "c.pt"
    training.save_state(path, {"state": STATE})
    good, refusals = path.read_bytes(), []
    for content in damages(good, 2, count=150):
        path.write_bytes(content)
        try:
            found = training.load_state(path, {"state"})
        except training.DamagedError as error:
            refusals.append(str(error).startswith(f"checkpoint {path} ({len(content)} bytes) cannot be read"))
        else:
            assert same(found["state"], STATE), "only bytes without meaning were changed"
    assert all(refusals)
    assert len(refusals) > 400


def test_a_flipped_bit_in_a_weight_is_found(tmp_path):
    path = tmp_path / "c.pt"
    training.save_state(path, {"state": STATE})
    good = path.read_bytes()
    place = good.index(STATE["weight"].numpy().tobytes())
    for bit in range(8 * place, 8 * place + 64):
        path.write_bytes(flipped(good, bit))
        assert not same(torch.load(path, weights_only=True)["state"], STATE), "torch itself takes it for a weight"
        with pytest.raises(training.DamagedError, match=r"damaged.*the checksum of .*data/0 does not agree"):
            training.load_state(path, {"state"})


def test_a_checkpoint_that_is_missing_or_unreadable_is_not_called_damaged(tmp_path, monkeypatch):
    with pytest.raises(
        training.CheckpointError, match=r"c\.pt cannot be opened \(No such file or directory\)"
    ) as caught:
        training.load_state(tmp_path / "c.pt", {"state"})
    assert not isinstance(caught.value, training.DamagedError)
    training.save_state(tmp_path / "c.pt", {"state": STATE})
    monkeypatch.setattr(torch, "load", lambda *_, **__: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(training.CheckpointError, match="does not fit the memory") as caught:
        training.load_state(tmp_path / "c.pt", {"state"})
    assert not isinstance(caught.value, training.DamagedError)


def test_a_damaged_cached_training_is_trained_again_with_a_note_and_kept_aside(tmp_path):
    training.cached("method", {}, lambda _: STATE, code=[])
    (path,) = (tmp_path / ".cache" / "method").iterdir()
    damaged = flipped(path.read_bytes(), 4 * path.stat().st_size)
    path.write_bytes(damaged)
    with pytest.warns(
        UserWarning, match=rf"{path.name} .*cannot be read.*trained again.*kept as .*damaged-{path.name}"
    ):
        again = training.cached("method", {}, lambda _: STATE, code=[])
    assert same(again, STATE)
    assert path.with_name(f"damaged-{path.name}").read_bytes() == damaged
    assert same(training.cached("method", {}, lambda _: pytest.fail("trained again"), code=[]), STATE)


# ----------------------------------------------------------------------------------------------------------------- results


MEASURED = {"measured": 2.5, "ci95": [1.0, 4.0], "n": 8, "verdict": "reproduced"}
CLAIM = MEASURED | {
    "id": "S1",
    "statement": "one is above zero",
    "paper_value": "Table 1: 3.2 points",
    "unit": "points",
    "rule": "above 0",
    "reason": "the whole interval",
    "method": "t",
    "control": MEASURED | {"statement": "zero"},
}
RECORD = {
    "paper": "06",
    "title": "A paper",
    "profile": "quick",
    "seed": 0,
    "data": "world",
    "seconds": 41.2,
    "environment": {"device": "cpu", "commit": "0123456789ab", "packages": {"torch": "2.13.0"}},
    "claims": [CLAIM, CLAIM | {"id": "S2", "control": None}],
    "tables": {"heads": {"columns": ["eer"], "index": [0], "data": [[0.25]]}},
    "figures": [{"name": "a", "file": "figures/06/a.png", "caption": "A figure.", "cell": 3}],
}


def test_whole_results_are_read_back(tmp_path):
    (tmp_path / "06.json").write_text(json.dumps(RECORD))
    assert results.load_results(tmp_path / "06.json") == RECORD


def test_no_damage_of_a_results_file_breaks_the_claims_table(tmp_path):
    good = json.dumps(RECORD, indent=1).encode()
    path, refusals = tmp_path / "06.json", []
    for content in damages(good, 3, count=200):
        path.write_bytes(content)
        try:
            results.claim_rows(results.load_results(path)["claims"])
        except results.ResultsError as error:
            refusals.append(str(path) in str(error) and "make reproduce PAPER=06 FORCE=1" in str(error))
    assert all(refusals)
    assert len(refusals) > 500


@pytest.mark.parametrize(
    ("place", "value", "named"),
    [
        (("claims",), 3, "claims"),
        (("claims", 0, "ci95"), [1.0], r"claims\[0\].ci95"),
        (("claims", 0, "measured"), None, r"claims\[0\].measured"),
        (
            ("claims", 0, "control"),
            {"verdict": "reproduced"},
            r"claims\[0\].control.ci95, claims\[0\].control.measured",
        ),
        (("environment", "packages"), {}, r"environment.packages.torch"),
        (("figures", 0), {"file": "a.png", "cell": 3}, r"figures\[0\].caption"),
        (("seconds",), "long", "seconds"),
    ],
)
def test_what_a_results_file_lacks_is_named(tmp_path, place, value, named):
    record = json.loads(json.dumps(RECORD))
    inner = record
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    (tmp_path / "06.json").write_text(json.dumps(record))
    with pytest.raises(results.ResultsError, match=rf"06\.json lacks {named}, or holds something else there"):
        results.load_results(tmp_path / "06.json")


def test_deeply_nested_results_are_refused(tmp_path):
    (tmp_path / "06.json").write_text("[" * 100_000)
    with pytest.raises(results.ResultsError, match="not valid JSON"):
        results.load_results(tmp_path / "06.json")
    assert os.listdir(tmp_path) == ["06.json"]
