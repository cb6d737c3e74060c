"""A reader, a small valid folder for it, and the files in it to damage; how often each is damaged."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import hypothesis
from fuzz import damages, guarded
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "24"))  # damaged versions of each file, beside the hostile contents


@dataclass(frozen=True)
class Case:
    """What is fuzzed together.

    Parameters
    ----------
    name
        For the test's name.
    make
        Writes the valid folder.
    read
        Reads it, and uses what is read only later.
    targets
        Files to damage, relative to the folder.
    covers
        Readers that this exercises: module below `paper_utils` and function.
    share
        Of the usual number of examples, for a reader whose smallest valid file is large.
    """

    name: str
    make: Callable[[Path], object]
    read: Callable[[Path], object]
    targets: tuple[str, ...]
    covers: tuple[str, ...]
    share: float = 1.0


@functools.cache
def hostile_contents() -> dict[str, bytes]:
    """Made once for all cases."""
    return damages.hostile()


def fuzz(case: Case, place: Path, examples: int = EXAMPLES) -> None:
    """Damage each file of a case in turn; the first one that is not refused by name fails the test."""
    for what, fault in faults(case, place, examples):
        raise AssertionError(f"{case.name}: {what}: {fault}")


def faults(case: Case, place: Path, examples: int) -> Iterator[tuple[str, str]]:
    """What was done to which file, and what was wrong with how the reader took it."""
    folder = place / "valid"
    folder.mkdir()
    (place / guarded.SECRET).write_text("1 2 3\n")
    case.make(folder)
    case.read(folder)  # what is valid is read; this also imports and warms up, which counts against no limit
    mark = Path("executed_by_a_reader")
    for target in case.targets:
        path = folder / target
        valid = path.read_bytes()
        assert valid, f"{path} is empty"

        def attempt(what: str, data: bytes, path: Path = path, target: str = target) -> Iterator[tuple[str, str]]:
            path.write_bytes(data)
            fault = guarded.fault_of(case.read, folder, target)
            if fault is None and mark.exists():
                mark.unlink()
                fault = "ran a command"
            if fault is not None:
                yield f"{target} {what}", fault

        try:
            for what, data in (hostile_contents() | damages.bombs(path)).items():
                yield from attempt(f"replaced by {what}", data)
            yield from _drawn(path, valid, attempt, max(1, round(case.share * examples)))
        finally:
            path.write_bytes(valid)
        path.unlink()
        path.mkdir()
        fault = guarded.fault_of(case.read, folder, target)
        path.rmdir()
        path.write_bytes(valid)
        if fault is not None:
            yield f"{target} replaced by a folder", fault
    assert guarded.fault_of(case.read, folder) is None, "the files were put back"


def _drawn(
    path: Path, valid: bytes, attempt: Callable[[str, bytes], Iterator[tuple[str, str]]], examples: int
) -> Iterator[tuple[str, str]]:
    """Changes that hypothesis draws."""
    change = damages.changer(path)
    kinds = [damages.byte_changes()]
    if damages.is_text(path):
        kinds.append(damages.text_changes())
    if change is not None:
        inner = st.tuples(damages.PLACES, st.integers(0, damages.KINDS - 1))
        kinds.append(inner.map(lambda c: (f"with value {c}", lambda _: change(path, *c))))
    found: list[tuple[str, str]] = []

    @hypothesis.settings(
        max_examples=examples * len(kinds),
        suppress_health_check=list(hypothesis.HealthCheck),
        database=None,
        phases=[hypothesis.Phase.generate],
    )
    @hypothesis.given(st.one_of(*kinds))
    def draw(drawn: tuple[str, Callable[[bytes], bytes]]) -> None:
        what, make = drawn
        path.write_bytes(valid)  # changes of values begin from the valid file
        found.extend(attempt(what, make(valid)))

    draw()
    yield from found
