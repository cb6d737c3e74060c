"""What was measured, as tables for people and for README.md. Numbers of a CPU, or none at all, never become a table of README."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from paper_utils import files, readme
from paper_utils.gpu_check import checks

PART = "gpu"
PLACEHOLDER = "No GPU figures yet: run `make gpu-check` on a machine with a GPU.\n"
_SIGNS = {checks.PASSED: "✔", checks.MISSED: "✘ missed", checks.MEMORY: "out of memory", checks.ERROR: "error"}

Result = Mapping[str, Any]


def _number(value: float | None, digits: int = 3) -> str:
    """Three significant digits, thousands apart."""
    if value is None:
        return "-"
    rounded = float(f"{value:.{digits}g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 100 else f"{rounded:g}"


def _cell(result: Result | None, key: str) -> str:
    """A measured number, or why there is none."""
    if result is None:
        return "-"
    return _number(result[key]) if key in result else _SIGNS.get(result["status"], result["status"])


def _sign(result: Result | None) -> str:
    """Whether a comparison kept its limits."""
    if result is None:
        return "-"
    sign = _SIGNS.get(result["status"], result["status"])
    return f"{sign} {result['angle']['found']:.1g} rad" if "angle" in result else sign


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def methods_table(record: Mapping[str, Any]) -> str:
    """One row a method: agreement, throughput and memory in both precisions, gain of compilation."""
    results = record["checks"]
    names = dict.fromkeys(
        name.split(": ", 1)[1].rsplit(" (", 1)[0]
        for name, result in results.items()
        if result["kind"] in ("agree", "speed", "compile")
    )
    rows = []
    for name in names:
        found = {
            (kind, precision): results.get(f"{kind}: {name} ({precision})")
            for kind in ("agree", "speed", "compile")
            for precision in ("32-true", "bf16-mixed")
        }
        unit = next((r["unit"] for (kind, _), r in found.items() if kind == "speed" and r and "unit" in r), "")
        rows.append([
            name,
            _sign(found["agree", "32-true"]), _sign(found["agree", "bf16-mixed"]),
            _cell(found["speed", "32-true"], "samples_per_s"), _cell(found["speed", "bf16-mixed"], "samples_per_s"), unit,
            _gain(found["speed", "32-true"], found["compile", "32-true"]),
            _gain(found["speed", "bf16-mixed"], found["compile", "bf16-mixed"]),
            _cell(found["speed", "32-true"], "peak_mib"), _cell(found["speed", "bf16-mixed"], "peak_mib"),
        ])  # fmt: skip
    head = ["training step", "fp32 agrees", "bf16 agrees", "fp32 a second", "bf16 a second", "unit", "compiled, fp32", "compiled, bf16", "fp32 MiB", "bf16 MiB"]  # fmt: skip
    return _table(head, rows)


def _gain(plain: Result | None, compiled: Result | None) -> str:
    """How many times faster the compiled step is."""
    if compiled is None:
        return "-"
    if "ms" not in compiled:
        return _SIGNS.get(compiled["status"], compiled["status"])
    return f"x {plain['ms'] / compiled['ms']:.2f}" if plain and "ms" in plain else "-"


def heads_table(record: Mapping[str, Any]) -> str:
    """One row a head; empty if none was measured."""
    found = {name.split(": ", 1)[1]: r for name, r in record["checks"].items() if r["kind"] == "head"}
    if not any("ms" in result for result in found.values()):
        return ""
    rows = [
        [
            name, _cell(r, "classes"), _cell(r, "ms"), _cell(r, "floor_ms"), _cell(r, "ratio_to_floor"),
            _cell(r, "peak_mib"), _cell(r, "floor_mib"),
        ]
        for name, r in found.items()
    ]  # fmt: skip
    return _table(["head", "classes", "ms a step", "three products, ms", "ratio", "MiB", "products' MiB"], rows)


def surfaces_lines(record: Mapping[str, Any]) -> str:
    """The renderer and the log-mel front end in a sentence each."""
    lines, results = [], record["checks"]
    drawn = results.get("draw: renderer")
    if drawn and "ms" in drawn:
        found = drawn["found"]
        lines.append(
            f"Renderer against its CPU path: {_sign(drawn)}. {found['different triangles that are no tie']:g} of {drawn['pixels']:,} pixels see "
            f"another triangle ({drawn['ties']} ties), depths differ by {found['depth_mm']:.1g} mm, gradients by {found['gradient']:.1g} relative; "
            f"{_number(drawn['ms'])} ms for {drawn['batch']} pictures of {drawn['size']} x {drawn['size']} pixels and their gradients."
        )
    heard = results.get("hear: log-mel")
    if heard and "ms" in heard:
        lines.append(
            f"Log-mel against the CPU: {_sign(heard)}, largest difference {max(heard['found'].values()):.1g} nepers; "
            f"{_number(heard['x_real_time'])} times real time."
        )
    return "\n".join(f"* {line}" for line in lines) + "\n" if lines else ""


def faults_lines(record: Mapping[str, Any]) -> str:
    """Checks that were missed, failed, or were not run, each with its reason."""
    lines = []
    for name, result in record["checks"].items():
        if result["status"] in (checks.PASSED, checks.MEASURED):
            continue
        because = result.get("because", "")
        if result["status"] == checks.MISSED:
            parts = ("loss", "angle", "norm", "parameter")
            broken = [part for part in parts if part in result and not result[part]["passed"]]
            because = ", ".join(f"{p} {result[p]['found']:.3g} (at most {result[p]['limit']:.3g})" for p in broken)
            if "parameter" in broken:
                because += f" at {result['parameter']['name']}"
            if "limits" in result:
                over = [n for n, limit in result["limits"].items() if not result["found"][n] <= limit]
                because = ", ".join(f"{n} {result['found'][n]:.3g} (at most {result['limits'][n]:.3g})" for n in over)
            elif "limit" in result:
                because = f"largest difference {max(result['found'].values()):.3g} (at most {result['limit']:.3g})"
        lines.append(f"* {name}: {result['status']}{f', {because}' if because else ''}")
    return "\n".join(lines) + "\n" if lines else ""


def where(record: Mapping[str, Any]) -> str:
    """The device and software in one line."""
    about = record["environment"]
    parts = [about["device"]]
    if "memory_gib" in about:
        parts[0] += f" ({about['memory_gib']:g} GiB)"
        parts += [f"driver {about['driver']}", f"CUDA {about['cuda']}", f"cuDNN {about['cudnn']}"]
    return ", ".join([*parts, f"torch {about['torch']}"])


def markdown(record: Mapping[str, Any]) -> str:
    """All tables."""
    size = (
        "sizes and batches of the papers"
        if record["plan"]["size"] == "paper"
        else "tiny sizes that say nothing of speed"
    )
    parts = [
        f"Measured on {where(record)}, {size}, made-up data, TF32 off, median of steps after a warm-up.",
        methods_table(record).rstrip(),
        heads_table(record).rstrip(),
        surfaces_lines(record).rstrip(),
    ]
    left = faults_lines(record).rstrip()
    if left:
        parts.append(f"Without a figure, or with a missed limit:\n\n{left}")
    return "\n\n".join(part for part in parts if part) + "\n"


def readme_part(record: Mapping[str, Any] | None) -> str:
    """What README.md says: the tables of a GPU, or that there are none.

    Raises
    ------
    GpuCheckError
        If the record is not of a GPU at the papers' sizes, covers a selection only, or holds no measured speed.
    """
    if record is None:
        return PLACEHOLDER
    plan = record["plan"]
    if plan["device"] != "cuda" or plan["size"] != "paper" or plan["only"]:
        raise checks.GpuCheckError(
            f"README shows whole runs of a GPU at paper size, this record is of device {plan['device']}, size {plan['size']}"
            f"{', only ' + ', '.join(plan['only']) if plan['only'] else ''}; run `make gpu-check` on a machine with a GPU"
        )
    if not any("ms" in result for result in record["checks"].values()):
        raise checks.GpuCheckError(
            "README shows measured figures only, and this record holds none; look at its errors, or give it more --minutes"
        )
    return markdown(record)


def write_readme(record: Mapping[str, Any] | None, path: Path) -> bool:
    """Put the tables between the marks of README.md; whether that changed it. Errors as `readme_part`, and if the marks are missing."""
    text = path.read_text(encoding="utf-8")
    try:
        new = readme.replaced(text, PART, readme_part(record))
    except readme.ReadmeError as error:
        raise checks.GpuCheckError(f"{path.name}: {error}") from error
    if new != text:
        files.write_text(path, new)
    return new != text


def line(name: str, result: Result) -> str:
    """One progress line."""
    text = f"{name:<58} {result['status']}"
    if "ms" in result:
        text += f"  {_number(result['ms'])} ms"
        text += f", {_number(result['samples_per_s'])} {result['unit']}/s" if "samples_per_s" in result else ""
        text += f", {_number(result['peak_mib'])} MiB" if result.get("peak_mib") is not None else ""
    if "angle" in result:
        text += f"  loss {result['loss']['found']:.1e}, gradient {result['angle']['found']:.1e} rad apart"
    return f"{text}  {result.get('because', '')}".rstrip()
