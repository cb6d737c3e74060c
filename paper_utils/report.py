"""``results/report.html``: the claims of all papers that were run, and every figure with where it came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

from paper_utils import files, papers, results

TEMPLATE = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
    """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Claims and figures</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
  table { border-collapse: collapse; font-size: 0.9rem } td, th { text-align: left; vertical-align: top; padding: 0.4rem 0.7rem; border-bottom: 1px solid #ddd }
  figure { margin: 1.5rem 0 } img, video { max-width: 100% } figcaption, .run { color: #555; font-size: 0.9rem }
</style>
<h1>Claims and figures</h1>
<p>A claim is <em>reproduced</em> if the whole 95&nbsp;% interval lies on its side of the line that was drawn before measuring,
<em>not reproduced</em> if it lies wholly on the other side, and <em>inconclusive</em> otherwise, or if its negative control shows the effect too.
{% if seeds %}
The last two columns, where there are such, are what the same rule said over the seeds {{ seeds }}; that interval also holds the luck of trainings and of the people
drawn, and <code>docs/claims_over_seeds.md</code> has the numbers.
{% endif %}
</p>
{% for record in records %}
<h2>{{ record.paper }} {{ record.title }}</h2>
<p class="run">{{ record.profile }} profile, seed {{ record.seed }}, data {{ record.data }}, {{ record.seconds|round|int }} s on {{ record.environment.device }},
  commit {{ record.environment.commit }}, torch {{ record.environment.packages.torch }}</p>
<table>
<tr>{% for name in record.rows[0] %}<th>{{ name }}</th>{% endfor %}</tr>
{% for row in record.rows %}
<tr>{% for cell in row.values() %}<td style="{{ looks.get(cell, ('', ''))[1] }}">{{ looks.get(cell, (cell, ''))[0] }}</td>{% endfor %}</tr>
{% endfor %}
</table>
{% for figure in record.figures %}
<figure>
{% if figure.file.endswith(".mp4") %}
<video controls src="../{{ figure.file }}" aria-label="{{ figure.caption }}"></video>
{% else %}
<img src="../{{ figure.file }}" alt="{{ figure.caption }}">
{% endif %}
{% if figure.sound %}
<br><audio controls src="../{{ figure.sound }}" aria-label="sound of: {{ figure.caption }}"></audio>
{% endif %}
<figcaption>{{ figure.caption }} <br>Drawn by notebooks/{{ record.notebook }}, execution {{ figure.cell }},
with profile={{ record.profile }}, seed={{ record.seed }}, data={{ record.data }}.</figcaption></figure>
{% endfor %}
{% endfor %}
</html>
"""
)


def write(root: Path) -> list[str]:
    """Write the report of all results under ``root/results``.

    Parameters
    ----------
    root
        Folder that holds ``results/`` and ``figures/``.

    Returns
    -------
    list of str
        Messages about results files that cannot be read; they are left as they are and left out.
    """
    records: list[dict[str, Any]] = []
    known, unreadable = results.known_over_seeds(files.project_root())
    for paper in papers.NOTEBOOKS.values():
        path = root / "results" / f"{paper.number}.json"
        if not path.exists():
            continue
        try:
            record = results.load_results(path)
        except results.ResultsError as error:
            unreadable.append(str(error))
            continue
        rows = results.claim_rows(record["claims"])
        if beside := results.over_seeds_of(known, record):
            rows = [row | _over_seeds(beside.get(row["id"])) for row in rows]
        records.append({**record, "rows": rows, "notebook": f"{paper.name}.ipynb"})
    seeds = ", ".join(map(str, next(iter(known.values()))["seeds"])) if known else ""
    page = TEMPLATE.render(records=records, looks=results.VERDICT_LOOK, seeds=seeds)
    files.write_text(root / "results" / "report.html", page)
    return unreadable


def _over_seeds(claim: dict[str, Any] | None) -> dict[str, str]:
    shown = results.claim_rows([claim])[0] if claim else {results.MEASURED: "-", "verdict": "-"}
    return {"over seeds [95 %]": shown[results.MEASURED], "verdict over seeds": shown["verdict"]}
