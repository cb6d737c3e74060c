"""Behind `make seeds`: every claim judged over several seeds, kept beside the code in ``docs/``.

One run of a notebook draws one set of people and trains once, or a few times. Its intervals cannot hold all of that luck, so a verdict
near its line may be another with the next seed. Here each notebook runs with several seeds (`paper_utils.sweep` does it, and keeps what
is finished), and each claim is judged once more by its own rule, from one value a seed. With ``RECORD=1`` the outcome is written to
``docs/claims_over_seeds.json`` and, for people, ``docs/claims_over_seeds.md``; the report of `make reproduce` shows it beside its own verdicts.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from paper_utils import files, papers, points, readme, results, sweep
from paper_utils.claims import over_seeds

RECORD = results.OVER_SEEDS
PAGE = RECORD.with_suffix(".md")
SEEDS = "0-5"
SYMBOLS = {verdict: look[0].split()[0] for verdict, look in results.VERDICT_LOOK.items()}

TEMPLATE = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(
    """# Claims over seeds

Every notebook's quick profile, run with the seeds {{ seeds | join(', ') }}: other people, voices and trainings each time. **{{ total }}.**

A verdict in a notebook comes from one run. Its intervals are over people, clips, images or a few trainings, whatever the claim names, and seldom hold
everything that is drawn by lot; so near its line a verdict can be another with another seed. Here each claim is judged again by the rule that was written
down with it, from one value a seed: the mean with Student's t interval. That interval holds the luck of everything that a seed draws. What is exact in each
run, such as a largest error, has its range over the seeds. And what is the same for every seed, such as the 1,797 images of digits in notebook 01 or the
phonemes and measurements of notebook 10, is in no interval here: a verdict over seeds is about these.

The column *one by one* has a sign for each seed: {{ symbols }}. Claims with the same verdict from every seed: {{ stable }} of {{ claims | length }};
with opposite verdicts from two seeds: {{ opposed }}.

Measured at {{ commit }} (git commits) on {{ device }} with torch {{ torch }}, one thread. Made by `make seeds RECORD=1`; do not edit.

{% for paper, rows in papers %}
## {{ paper.number }} {{ paper.title }}

| claim | | one by one | over {{ seeds | length }} seeds [95 %] | verdict | its negative control |
|---|---|---|---|---|---|
{% for row in rows %}
| {{ row.id }} | {{ row.statement | replace("|", "\\\\|") }} | {{ row.signs }} | {{ row.measured }} | {{ row.verdict }} | {{ row.control }} |
{% endfor %}

{% endfor %}
"""
)


def judged(paper: str, runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each claim of a notebook over several runs of it, one a seed.

    Parameters
    ----------
    paper
        Number of the paper.
    runs
        Results of the runs (`results.load_results`).

    Raises
    ------
    ValueError
        With fewer than two runs, or if their claims differ.
    """
    named = [{claim["id"]: claim for claim in run["claims"]} for run in runs]
    if any(list(found) != list(named[0]) for found in named):
        raise ValueError(f"paper {paper}: the runs do not have the same claims")
    return [
        {
            "paper": paper,
            "profile": runs[0]["profile"],
            "data": runs[0]["data"],
            "seeds": [run["seed"] for run in runs],
            "verdicts": [found[name]["verdict"] for found in named],
            "estimates": [found[name]["measured"] for found in named],
            **over_seeds([found[name] for found in named]).as_record(),
        }
        for name in named[0]
    ]


def summary(record: dict[str, Any]) -> str:
    """The record in one sentence, for README.md."""
    claims = record["claims"]
    return (
        f"Of {len(claims)} claims, over the seeds {', '.join(map(str, record['seeds']))}: {_counts(claims)}. "
        f"{_stable(claims)} have the same verdict from each of the seeds, {_opposed(claims)} have opposite verdicts from two of them.\n"
    )


def _counts(claims: Sequence[dict[str, Any]]) -> str:
    counts = Counter(claim["verdict"] for claim in claims)
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in SYMBOLS)


def _stable(claims: Sequence[dict[str, Any]]) -> int:
    return sum(len(set(claim["verdicts"])) == 1 for claim in claims)


def _opposed(claims: Sequence[dict[str, Any]]) -> int:
    return sum({"reproduced", "not reproduced"} <= set(claim["verdicts"]) for claim in claims)


def page(record: dict[str, Any]) -> str:
    """The record as Markdown."""
    claims = record["claims"]
    groups = [(papers.find(number), _rows(claims, number)) for number in dict.fromkeys(c["paper"] for c in claims)]
    return TEMPLATE.render(
        total=f"{len(claims)} claims, each over {len(record['seeds'])} seeds: {_counts(claims)}",
        symbols=", ".join(f"{symbol} {verdict}" for verdict, symbol in SYMBOLS.items()),
        stable=_stable(claims),
        opposed=_opposed(claims),
        papers=groups,
        **record,
    )


def _rows(claims: Sequence[dict[str, Any]], number: str) -> list[dict[str, str]]:
    rows = []
    for claim in (claim for claim in claims if claim["paper"] == number):
        shown, control = results.claim_rows([claim])[0], claim["control"]
        rows.append(
            {
                "id": claim["id"],
                "statement": claim["statement"],
                "signs": "".join(SYMBOLS[verdict] for verdict in claim["verdicts"]),
                "measured": shown[results.MEASURED],
                "verdict": results.VERDICT_LOOK[claim["verdict"]][0],
                "control": f"{shown[results.CONTROL]}: {control['verdict']}" if control else "-",
            }
        )
    return rows


def write(found: dict[str, Sequence[dict[str, Any]]], folder: Path) -> list[Path]:
    """Write the record and its page, and the sentence of README.md where there is one with its marks.

    Parameters
    ----------
    found
        Results of the runs of each paper, by its number; the same seeds for all.
    folder
        Where ``docs/`` is.

    Returns
    -------
    list of Path
        The files.
    """
    first = next(iter(found.values()))
    environment = first[0]["environment"]
    commits = dict.fromkeys(run["environment"]["commit"] for runs in found.values() for run in runs)
    record = {
        "seeds": [run["seed"] for run in first],
        "commit": ", ".join(commits),
        "device": environment["device"],
        "torch": environment["packages"]["torch"],
        "claims": [claim for paper, runs in found.items() for claim in judged(paper, runs)],
    }
    files.write_text(folder / RECORD, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    files.write_text(folder / PAGE, page(record))
    about = folder / "README.md"
    if about.exists():
        files.write_text(about, readme.replaced(about.read_text(encoding="utf-8"), "seeds", summary(record)))
    return [folder / RECORD, folder / PAGE]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Command line; an empty value means the default, so that make can pass its variables as they are."""
    parser = argparse.ArgumentParser(
        prog="python -m paper_utils.over_seeds", description="Judge every claim over several seeds."
    )
    parser.add_argument("--paper", default="", help="numbers, comma-separated; all that have a notebook if empty")
    parser.add_argument("--seeds", default="", help=f"at least two, such as 0,1,2 or 0-9; {SEEDS} if empty")
    parser.add_argument("--jobs", default="", help="runs at once; as many as cores if empty")
    parser.add_argument("--timeout", default="", help="seconds after which a run is given up; none if empty")
    parser.add_argument("--force", default="", help="run even what is finished")
    parser.add_argument("--record", default="", help="write to docs/, where the project keeps it; needs all papers")
    found = parser.parse_args(arguments)
    try:
        found.seeds = points.whole_numbers(found.seeds or SEEDS, "SEEDS")
        found.papers = papers.chosen(found.paper)
        if len(found.seeds) < 2:
            raise ValueError(f"SEEDS: an interval over seeds needs at least two, found {found.seeds}")
        if found.paper.strip(", ") and found.record:
            raise ValueError("RECORD=1 keeps all notebooks together; leave PAPER= out")
    except ValueError as error:
        parser.error(str(error))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns
    -------
    int
        0: all judged; 1: a run failed; 2: a wrong argument; 3: another sweep of the same notebook is at work; 130: interrupted.
    """
    options = parse(arguments)
    folder, output = files.project_root(), files.output_root().resolve()
    found = {}
    for number, paper in enumerate(options.papers, start=1):
        print(f"\n{paper.number} {paper.title} ({number} of {len(options.papers)})", flush=True)
        asked = ["--paper", paper.number, "--seeds", ",".join(map(str, options.seeds))]
        asked += ["--jobs", options.jobs, "--timeout", options.timeout, "--force", options.force]
        status = sweep.main(asked)
        if status:
            return status
        chosen = sweep.make_points(sweep.parse(asked), folder, output / "build" / "sweeps" / paper.name)
        found[paper.number] = [record for _, record in sweep.finished(chosen)]
    try:
        written = write(found, folder if options.record else output / "build" / "seeds")
    except files.WriteError as error:
        print(f"make seeds: {error}", file=sys.stderr)
        return 1
    print(f"\n{written[1].read_text(encoding='utf-8')}\n" + "\n".join(f"    {path}" for path in written))
    return 0


if __name__ == "__main__":
    sys.exit(main())
