"""Results files: what `experiment` writes, read back and checked, and laid out as rows of the claims table.

Kept apart from `experiment` so that the runner can read results without importing torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from types import UnionType
from typing import Any

OVER_SEEDS = Path("docs") / "claims_over_seeds.json"  # written by `paper_utils.over_seeds`
MEASURED, CONTROL, CONTROL_VERDICT = "measured [95 %]", "control [95 %]", "control's verdict"

# Text and style of each verdict: they differ in symbol and in lightness, not in hue alone.
VERDICT_LOOK = {
    "reproduced": ("✔ reproduced", "background-color: #d3ecdf; color: #003d2b"),
    "not reproduced": ("✘ not reproduced", "background-color: #f6d9c7; color: #5c2400"),
    "inconclusive": ("○ inconclusive", "background-color: #e6e6e6; color: #333333"),
}

# What the claims table, the runner and the report read of a results file.
_NUMBER = int | float
_MEASURED = {"measured": _NUMBER, "ci95": [_NUMBER, _NUMBER], "verdict": str}
_CLAIM = _MEASURED | dict.fromkeys(("id", "statement", "paper_value", "unit", "reason"), str) | {"control": object}
_RECORD = {
    **dict.fromkeys(("paper", "title", "profile", "data"), str),
    "seed": int,
    "seconds": _NUMBER,
    "environment": {"device": str, "commit": str, "packages": {"torch": str}},
    "claims": [_CLAIM],
    "tables": dict,
    "figures": [{"file": str, "caption": str, "cell": object}],
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
        If the file is missing, is not JSON (truncated, say), or lacks something that the tables and the report show; the message says what,
        and how to make it anew.
    """
    remedy = f"run `make reproduce PAPER={Path(path).stem} FORCE=1` to make it anew"
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ResultsError(f"results file {path} cannot be read ({error.strerror}); {remedy}") from error
    except (ValueError, RecursionError) as error:
        raise ResultsError(f"results file {path} is not valid JSON ({error}); {remedy}") from error
    lacking = _lacks(record, _RECORD, "")
    if not lacking:
        controls = [
            (f"claims[{n}].control", c["control"]) for n, c in enumerate(record["claims"]) if c["control"] is not None
        ]
        lacking = [name for where, control in controls for name in _lacks(control, _MEASURED, where)]
    if lacking:
        raise ResultsError(f"results file {path} lacks {', '.join(lacking)}, or holds something else there; {remedy}")
    return record


def recorded_over_seeds(root: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """What is recorded of claims over seeds below the project's folder `root`, by paper and claim; empty if nothing is.

    Raises
    ------
    ResultsError
        If the file is not such a record.
    """
    path = root / OVER_SEEDS
    if not path.exists():
        return {}
    try:
        claims = json.loads(path.read_text(encoding="utf-8"))["claims"]
        lacking = _lacks(claims, [_CLAIM | {"paper": str, "profile": str, "data": str, "seeds": [_NUMBER]}], "claims")
        if not lacking:
            return {(claim["paper"], claim["id"]): claim for claim in claims}
    except (ValueError, KeyError, TypeError) as error:
        lacking = [repr(error)]
    raise ResultsError(
        f"{path} is not a record of claims over seeds ({', '.join(lacking)}); run `make seeds RECORD=1` to make it anew"
    )


def known_over_seeds(root: Path) -> tuple[dict[tuple[str, str], dict[str, Any]], list[str]]:
    """`recorded_over_seeds` for those who can go on without: nothing, and the message, instead of an error."""
    try:
        return recorded_over_seeds(root), []
    except ResultsError as error:
        return {}, [str(error)]


def over_seeds_of(known: dict[tuple[str, str], dict[str, Any]], record: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What is recorded of the claims of one results file, by claim; empty if the record is of another profile or other data.

    Parameters
    ----------
    known
        As `recorded_over_seeds` reads it.
    record
        A results file.
    """
    kind = [record[name] for name in ("paper", "profile", "data")]
    return {name: c for (_, name), c in known.items() if [c["paper"], c["profile"], c["data"]] == kind}


def _lacks(value: Any, form: Any, where: str) -> list[str]:
    """Names of what `value` lacks to be of `form`: a type, a dictionary of forms by name, or a list: one form for all items, or one for each."""
    if isinstance(form, dict) and isinstance(value, dict):
        places = {name: f"{where}.{name}".lstrip(".") for name in sorted(form)}
        parts = [_lacks(value[name], form[name], place) if name in value else [place] for name, place in places.items()]
    elif isinstance(form, list) and isinstance(value, list) and len(form) in (1, len(value)):
        forms = form * len(value) if len(form) == 1 else form
        parts = [
            _lacks(item, one, f"{where}[{place}]") for place, (item, one) in enumerate(zip(value, forms, strict=True))
        ]
    elif isinstance(form, type | UnionType) and isinstance(value, form):
        parts = []
    else:
        parts = [[where] if where else sorted(form)]
    return [name for part in parts for name in part]


def _with_interval(record: dict[str, Any], unit: str) -> str:
    low, high = record["ci95"]
    interval = "" if low == high else f" [{low:.3g}, {high:.3g}]"
    return f"{record['measured']:.3g}{interval} {unit}".rstrip()
