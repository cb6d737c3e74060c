"""Tables of a sweep: every claim at every point, and for each claim how its verdict and its estimate vary over the seeds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from paper_utils import files, points, results
from paper_utils.claims import over_seeds

VERDICTS = tuple(results.VERDICT_LOOK)

MARKDOWN = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(
    """{% macro table(rows) %}
{% if rows %}
| {{ rows[0] | join(" | ") }} |
|{{ "---|" * (rows[0] | length) }}
{% for row in rows %}
| {% for cell in row.values() %}{{ cell | replace("|", "\\\\|") }} | {% endfor %}

{% endfor %}
{% endif %}
{% endmacro %}
# Sweep of {{ title }}

{{ counts }}

## Claims over the seeds

{{ table(summary) }}
## Points

{{ table(states) }}
## Claims at each point

{{ table(claims) }}
"""
)

PAGE = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
    """{% macro table(rows) %}
<table>
{% if rows %}
<tr>{% for name in rows[0] %}<th>{{ name }}</th>{% endfor %}</tr>
{% endif %}
{% for row in rows %}
<tr>{% for name, cell in row.items() %}
{% if name == "report" and cell %}<td><a href="{{ cell }}">claims and figures</a></td>
{% elif cell in looks %}<td style="{{ looks[cell][1] }}">{{ looks[cell][0] }}</td>
{% else %}<td>{{ cell }}</td>{% endif %}
{% endfor %}</tr>
{% endfor %}
</table>
{% endmacro %}
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Sweep of {{ title }}</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 90rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
  table { border-collapse: collapse; font-size: 0.9rem } td, th { text-align: left; vertical-align: top; padding: 0.3rem 0.7rem; border-bottom: 1px solid #ddd }
</style>
<h1>Sweep of {{ title }}</h1>
<p>{{ counts }}</p>
<h2>Claims over the seeds</h2>
<p>How often each verdict was given, and how far the estimates lie apart. <em>Over seeds</em>: the claim's own rule, applied to one value a seed
(mean with Student's t interval, low to high); it counts the luck of trainings and of the people drawn, which one run cannot see.</p>
{{ table(summary) }}
<h2>Points</h2>
{{ table(states) }}
<h2>Claims at each point</h2>
{{ table(claims) }}
</html>
"""
)


def claims_table(done: Sequence[tuple[points.Point, dict[str, Any]]]) -> pd.DataFrame:
    """One row a point and claim: the point's parameters, the estimate with its 95 % interval, the verdict, and the same of the control."""
    rows = []
    for point, record in done:
        for claim in record["claims"]:
            control = claim["control"] or {"measured": None, "ci95": (None, None), "verdict": None}
            rows.append(
                {
                    **point.parameters,
                    "claim": claim["id"],
                    "estimate": claim["measured"],
                    "low": claim["ci95"][0],
                    "high": claim["ci95"][1],
                    "unit": claim["unit"],
                    "n": claim["n"],
                    "verdict": claim["verdict"],
                    "control_estimate": control["measured"],
                    "control_low": control["ci95"][0],
                    "control_high": control["ci95"][1],
                    "control_verdict": control["verdict"],
                    "rule": claim["rule"],
                    "reason": claim["reason"],
                    "statement": claim["statement"],
                }
            )
    return pd.DataFrame(rows)


def summary_table(
    done: Sequence[tuple[points.Point, dict[str, Any]]], claims: pd.DataFrame, parameters: Sequence[str]
) -> pd.DataFrame:
    """One row a claim and combination of `parameters` other than the seed.

    Returns
    -------
    DataFrame
        Number of seeds, how many of them gave each verdict, whether all gave the same ("-" for one seed), mean, standard deviation (0 for one seed),
        least and greatest of the estimates; and the verdict over the seeds (`claims.over_seeds`, "-" for one seed) with its interval and the mean and
        verdict of its control.
    """
    if claims.empty:
        return pd.DataFrame()
    records = [claim for _, record in done for claim in record["claims"]]
    by = [*(name for name in parameters if name != "seed"), "claim", "unit"]
    rows = []
    for values, group in claims.groupby(by, sort=False, dropna=False):
        counts = group["verdict"].value_counts()
        spread = group["estimate"]
        rows.append(
            {
                **dict(zip(by, values, strict=True)),
                "seeds": len(group),
                **{name: int(counts.get(name, 0)) for name in VERDICTS},
                "stable": "-" if len(group) == 1 else "yes" if len(counts) == 1 else "no",
                "mean": spread.mean(),
                "sd": spread.std() if len(group) > 1 else 0.0,
                "least": spread.min(),
                "greatest": spread.max(),
                **_over_seeds([records[row] for row in group.index]),
            }
        )
    return pd.DataFrame(rows)


def _over_seeds(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    if len(records) == 1:
        return dict.fromkeys(("over seeds", "low", "high", "control_mean", "control over seeds"), "-")
    found = over_seeds(records)
    return {
        "over seeds": found.outcome,
        "low": found.measured.low,
        "high": found.measured.high,
        "control_mean": found.control.value if found.control else None,
        "control over seeds": found.control_outcome,
    }


def states_table(
    base: Path, chosen: Sequence[points.Point], done: Sequence[tuple[points.Point, dict[str, Any]]]
) -> pd.DataFrame:
    """One row a point: whether it finished, how long the notebook took, what went wrong, and where its outputs are."""
    seconds = {point.label: record["seconds"] for point, record in done}
    rows = []
    for point in chosen:
        finished = point.label in seconds
        error = f"{point.failure['kind']}: {' '.join(point.failure['error'])}" if point.failure else ""
        page = os.path.relpath(point.output_root / "results" / "report.html", base)
        rows.append(
            {
                **point.parameters,
                "state": "finished" if finished else "failed" if point.failure else "not run",
                "seconds": seconds.get(point.label),
                "error": error,
                "folder": os.path.relpath(point.place, base),
                "report": page if finished else "",
            }
        )
    return pd.DataFrame(rows)


def write(
    base: Path, chosen: Sequence[points.Point], done: Sequence[tuple[points.Point, dict[str, Any]]]
) -> list[Path]:
    """Write ``claims.csv``, ``summary.csv``, ``points.csv``, ``sweep.md`` and ``sweep.html`` below `base`.

    Parameters
    ----------
    base
        The sweep's folder.
    chosen
        All points of the sweep.
    done
        Those that finished, with their results.

    Returns
    -------
    list of Path
        The files.
    """
    claims, states = claims_table(done), states_table(base, chosen, done)
    summary = summary_table(done, claims, list(chosen[0].parameters))
    tables = {"claims": claims, "summary": summary, "points": states}
    written = []
    for name, table in tables.items():
        files.write_text(base / f"{name}.csv", table.to_csv(index=False) if len(table) else "")
        written.append(base / f"{name}.csv")
    varied = {name for name in chosen[0].parameters if len({str(point.parameters[name]) for point in chosen}) > 1}
    constant = [name for name in chosen[0].parameters if name not in varied | {"seed"}]
    same = ", ".join(f"{name}={chosen[0].parameters[name]}" for name in constant)
    content = {
        "title": f"paper {chosen[0].paper.number}, {chosen[0].paper.title}",
        "counts": f"{len(done)} of {len(chosen)} points finished. The same at all points: {same}.",
        "looks": results.VERDICT_LOOK,
        "summary": _shown(summary, constant),
        "states": _shown(states, constant),
        "claims": _shown(claims, [*constant, "statement"]),
    }
    for path, template in ((base / "sweep.md", MARKDOWN), (base / "sweep.html", PAGE)):
        files.write_text(path, template.render(content))
        written.append(path)
    return written


def _shown(table: pd.DataFrame, left_out: Sequence[str]) -> list[dict[str, str]]:
    """Rows for people: numbers to three digits, nothing for what is missing, no columns that are the same everywhere."""
    kept = table.drop(columns=[name for name in left_out if name in table])
    return [{str(name): _text(value) for name, value in row.items()} for row in kept.to_dict("records")]


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and value != value):
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
