"""Results files: what `experiment` writes, read back and checked, and laid out as rows of the claims table.

Kept apart from `experiment` so that the runner can read results without importing torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

MEASURED, CONTROL, CONTROL_VERDICT = "measured [95 %]", "control [95 %]", "control's verdict"

# Text and style of each verdict: they differ in symbol and in lightness, not in hue alone.
VERDICT_LOOK = {
    "reproduced": ("✔ reproduced", "background-color: #d3ecdf; color: #003d2b"),
    "not reproduced": ("✘ not reproduced", "background-color: #f6d9c7; color: #5c2400"),
    "inconclusive": ("○ inconclusive", "background-color: #e6e6e6; color: #333333"),
}


class ResultsError(RuntimeError):
    """A results file that cannot be read or lacks what it must hold."""


def claim_rows(records: Iterable[dict[str, Any]]) -> list[dict[str, str]]:
    """Claim records of a results file as rows of the claims table, every number with its interval."""
    return [
        {
            "id": record["id"],
            "claim": record["statement"],
            "the paper": record["paper_value"],
            MEASURED: _with_interval(record, record["unit"]),
            "verdict": record["verdict"],
            "because": record["reason"],
            CONTROL: _with_interval(record["control"], record["unit"]) if record["control"] else "-",
            CONTROL_VERDICT: record["control"]["verdict"] if record["control"] else "-",
        }
        for record in records
    ]


def load_results(path: Path) -> dict[str, Any]:
    """Read a results file and check that it holds what one must.

    Raises
    ------
    ResultsError
        If the file is missing, is not JSON (truncated, say), or lacks a key; the message says how to make it anew.
    """
    remedy = f"run `make reproduce PAPER={Path(path).stem} FORCE=1` to make it anew"
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ResultsError(f"results file {path} cannot be read ({error.strerror}); {remedy}") from error
    except ValueError as error:
        raise ResultsError(f"results file {path} is not valid JSON ({error}); {remedy}") from error
    required = {"paper", "title", "profile", "seed", "data", "seconds", "environment", "claims", "tables", "figures"}
    missing = sorted(required - set(record)) if isinstance(record, dict) else sorted(required)
    if missing:
        raise ResultsError(f"results file {path} lacks {', '.join(missing)}; {remedy}")
    return record


def _with_interval(record: dict[str, Any], unit: str) -> str:
    low, high = record["ci95"]
    interval = "" if low == high else f" [{low:.3g}, {high:.3g}]"
    return f"{record['measured']:.3g}{interval} {unit}".rstrip()
