"""Claims and their verdicts: a rule that is written down before anything is measured, and what it says of a measurement.

One run gives one verdict. Runs with several seeds give another of the same claim by the same rule, from one value a run: its interval
also holds the luck of a training and of the people drawn, which an interval within a run may not.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from paper_utils.metrics.statistics import Estimate, mean_t_interval

Direction = Literal["above", "below", "within"]
Outcome = Literal["reproduced", "not reproduced", "inconclusive"]


@dataclass(frozen=True)
class Claim:
    """A statement that a measurement can support or refute, with the rule that decides.

    Parameters
    ----------
    id
        Short name such as ``"S4"``, unique in its notebook.
    statement
        What is claimed, in one sentence.
    paper_value
        What the paper reports, with its source, or why nothing is quoted.
    threshold
        Where the rule draws the line, in `unit`.
    direction
        ``"above"``: the effect exceeds the threshold. ``"below"``: it stays under it.
        ``"within"``: it lies in ``[-threshold, +threshold]`` (an equivalence claim).
    unit
        Unit of the effect and of the threshold.
    control
        The negative control in one sentence: the same measurement where the effect is switched off. ``None`` only if the
        data cannot express one.
    """

    id: str
    statement: str
    paper_value: str
    threshold: float
    direction: Direction
    unit: str
    control: str | None = None

    def __post_init__(self) -> None:
        if self.direction not in ("above", "below", "within"):
            raise ValueError(
                f"claim {self.id}: direction must be 'above', 'below' or 'within', found {self.direction!r}"
            )
        if not np.isfinite(self.threshold) or (self.direction == "within" and self.threshold < 0):
            raise ValueError(
                f"claim {self.id}: threshold must be finite, and not negative for 'within'; found {self.threshold}"
            )

    @property
    def rule(self) -> str:
        """The rule in words."""
        where = {
            "above": f"above {self.threshold:g}",
            "below": f"below {self.threshold:g}",
            "within": f"inside [-{self.threshold:g}, {self.threshold:g}]",
        }[self.direction]
        return f"the whole 95 % interval lies {where} {self.unit}".rstrip()

    def judge(self, estimate: Estimate) -> tuple[Outcome, str]:
        """Apply the rule to one estimate.

        Returns
        -------
        tuple
            Outcome and the reason in words. "Reproduced" needs the whole interval on the claim's side, "not reproduced" the whole
            interval on the other side; an interval across the line is "inconclusive".
        """
        low, high, edge = estimate.low, estimate.high, self.threshold
        inside = {"above": low > edge, "below": high < edge, "within": -edge <= low and high <= edge}[self.direction]
        outside = {"above": high <= edge, "below": low >= edge, "within": high < -edge or low > edge}[self.direction]
        if inside:
            return "reproduced", self.rule
        if outside:
            return "not reproduced", "the whole interval lies on the other side of the rule's line"
        return "inconclusive", "the interval crosses the rule's line"

    def decide(self, measured: Estimate, control: Estimate | None = None) -> Verdict:
        """What the rule says of a measurement together with that of the negative control.

        Returns
        -------
        Verdict
            If the control is "reproduced" as well, the measurement does not show what it should, and the outcome is "inconclusive".
        """
        outcome, reason = self.judge(measured)
        if control is None:
            return Verdict(self, outcome, reason, measured)
        control_outcome, _ = self.judge(control)
        if control_outcome == "reproduced" and outcome == "reproduced":
            outcome, reason = "inconclusive", "the negative control shows the effect too"
        return Verdict(self, outcome, reason, measured, control, control_outcome)


def read_claims(table: str) -> list[Claim]:
    """Claims from a table in plain text, one a line: id | statement | what the paper reports | rule | negative control.

    Parameters
    ----------
    table
        The rule is ``direction threshold unit``, such as ``above 0.5 points of EER``; an empty control means that there is none.

    Raises
    ------
    ValueError
        If a line has not five parts or its rule cannot be read; the message shows the line.

    Examples
    --------
    >>> (only,) = read_claims("S1 | one is above zero | none | above 0 points | zero itself")
    >>> only.rule
    'the whole 95 % interval lies above 0 points'
    """
    claims = []
    for line in table.strip().splitlines():
        parts = [part.strip() for part in line.split("|")]
        rule = parts[3].split(maxsplit=2) if len(parts) == 5 else []
        if len(rule) != 3:
            raise ValueError(
                f"claims: expected 'id | statement | paper | direction threshold unit | control', found {line!r}"
            )
        name, statement, paper_value, _, control = parts
        claims.append(Claim(name, statement, paper_value, float(rule[1]), rule[0], rule[2], control or None))
    return claims


@dataclass(frozen=True)
class Verdict:
    """A claim, what was measured, and what the rule says of it and of its negative control."""

    claim: Claim
    outcome: Outcome
    reason: str
    measured: Estimate
    control: Estimate | None = None
    control_outcome: Outcome | None = None

    def as_record(self) -> dict[str, Any]:
        """The verdict as it stands in ``results/NN.json``."""
        record = {
            "id": self.claim.id,
            "statement": self.claim.statement,
            "paper_value": self.claim.paper_value,
            "measured": self.measured.value,
            "ci95": [self.measured.low, self.measured.high],
            "unit": self.claim.unit,
            "n": self.measured.n,
            "method": self.measured.method,
            "rule": self.claim.rule,
            "verdict": self.outcome,
            "reason": self.reason,
            "control": None,
        }
        if self.control is not None:
            record["control"] = {
                "statement": self.claim.control,
                "measured": self.control.value,
                "ci95": [self.control.low, self.control.high],
                "n": self.control.n,
                "verdict": self.control_outcome,
            }
        return record


RULE = re.compile(r"the whole 95 % interval lies (?:(above|below) (\S+)|inside \[\S+, (\S+)\])(?: (.*))?")


def claim_of(record: dict[str, Any]) -> Claim:
    """A claim as its record in a results file tells it; the inverse of `Verdict.as_record`.

    Raises
    ------
    ValueError
        If the record's rule is not one that `Claim.rule` writes.
    """
    parts = RULE.fullmatch(record["rule"])
    if parts is None:
        raise ValueError(f"claim {record['id']}: its rule cannot be read: {record['rule']!r}")
    direction, line, width, unit = parts.groups()
    control = record["control"]["statement"] if record["control"] else None
    threshold = float(line or width)
    return Claim(
        record["id"],
        record["statement"],
        record["paper_value"],
        threshold,
        direction or "within",
        unit or "",
        control,
    )


def over_seeds(records: Sequence[dict[str, Any]]) -> Verdict:
    """The verdict of one claim from several independent runs, which differ in their seed.

    Parameters
    ----------
    records
        The claim's records in the results of at least two runs.

    Returns
    -------
    Verdict
        By the claim's own rule, for the measurement as for the control: mean over the runs with Student's t interval. What is exact
        in every run (no interval: a largest error, say) has no error to average; its interval is the range over the runs.

    Raises
    ------
    ValueError
        With fewer than two records, or if they are not records of one claim with one rule.
    """
    (first, *_), rules = records, {(record["id"], record["rule"], record["control"] is None) for record in records}
    if len(rules) > 1:
        raise ValueError(f"over_seeds: expected runs of one claim with one rule, found {sorted(rules)}")
    control = _over_runs([record["control"] for record in records]) if first["control"] else None
    return claim_of(first).decide(_over_runs(records), control)


def _over_runs(measured: Sequence[dict[str, Any]]) -> Estimate:
    values = np.array([one["measured"] for one in measured], dtype=float)
    interval = mean_t_interval(values)
    if all(low == high for low, high in (one["ci95"] for one in measured)):
        return Estimate(
            interval.value, float(values.min()), float(values.max()), len(values), "exact in each run, range"
        )
    return interval
