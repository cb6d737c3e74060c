"""Damaged and hostile files of recordings, alignments and tables: read, or refused by name."""

from __future__ import annotations

import pytest
from fuzz.cases import Case, fuzz
from fuzz.speech_cases import CASES


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_damaged_files_are_read_or_refused_by_name(case: Case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where a command that a file smuggles in would leave its mark
    fuzz(case, tmp_path)
