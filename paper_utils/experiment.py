"""The frame of every notebook: profile, seeds, claims with their verdicts, figures and results on disk.

A claim is declared with its rule before anything is trained; `Experiment.verdict` then applies that rule to a measurement
and to its negative control, and `Experiment.finish` writes everything to ``results/NN.json``.
"""

from __future__ import annotations

import functools
import inspect
import json
import os
import platform
import re
import subprocess
import textwrap
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import pandas as pd
import threadpoolctl
import torch
from IPython.display import Markdown
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from pandas.io.formats.style import Styler

from paper_utils import devices, figure_text, files, papers, plotting, results
from paper_utils.claims import Claim, Verdict
from paper_utils.claims import read_claims as read_claims  # notebooks take all of the frame from here
from paper_utils.metrics.statistics import Estimate, mean_t_interval

Choice = TypeVar("Choice")

FIGURE_DPI = 110
FIGURE_SUFFIXES = {".png", ".mp4", ".gif", ".wav"}
RECORDED_PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "statsmodels", "lightning-fabric", "matplotlib")


@runtime_checkable
class Animation(Protocol):
    """What `Experiment.save_animation` takes, such as a `film.Film`; named here so that drawing code does not key what studies train."""

    def save(self, path: Path) -> list[Path]:
        """Write to `path`, whose suffix it adds, and say what was written."""


def source(*functions: Callable) -> Markdown:
    """Source of functions without their docstrings, for a notebook that shows the code of an equation beside it."""
    texts = [re.sub(r'\n +r?""".*?"""', "", inspect.getsource(f), count=1, flags=re.DOTALL) for f in functions]
    return Markdown("```python\n" + "\n\n".join(textwrap.dedent(text).strip() for text in texts) + "\n```")


class Experiment:
    """One run of one notebook. Make it with `start`."""

    def __init__(
        self, paper: papers.Paper, profile: str, seed: int, data: str, data_root: Path | None, device: torch.device
    ):
        self.paper, self.profile, self.seed = paper, profile, seed
        self.data, self.data_root, self.device = data, data_root, device
        self.root = files.output_root(profile)
        self._claims: dict[str, Claim] = {}
        self._verdicts: dict[str, Verdict] = {}
        self._figures: list[dict[str, Any]] = []
        self._tables: dict[str, Any] = {}
        self._began = time.perf_counter()

    def scale(self, *, smoke: Choice, quick: Choice, full: Choice) -> Choice:
        """The value for this run's profile: sizes are written where they are used, all three side by side."""
        return {"smoke": smoke, "quick": quick, "full": full}[self.profile]

    def rng(self, name: str) -> np.random.Generator:
        """A numpy generator that depends on the run's seed and on `name` alone, not on the order of cells."""
        return np.random.default_rng([self.seed, zlib.crc32(name.encode())])

    def generator(self, name: str) -> torch.Generator:
        """The same for torch, on the CPU."""
        return torch.Generator().manual_seed(int(self.rng(name).integers(2**63 - 1)))

    def seeds(self, count: int, name: str = "runs") -> list[int]:
        """`count` different seeds for repeated runs; the first ones stay the same when `count` grows."""
        state = np.random.SeedSequence([self.seed, zlib.crc32(name.encode())])
        return [int(child.generate_state(1)[0]) for child in state.spawn(count)]

    def declare(self, *claims: Claim) -> Styler:
        """Write claims down before anything is measured.

        Raises
        ------
        ValueError
            If an id is declared twice with different content, or a verdict was already drawn.
        """
        for claim in claims:
            known = self._claims.get(claim.id)
            if known is not None and known != claim:
                raise ValueError(f"claim {claim.id} was already declared with other content; a rule is fixed once")
            if self._verdicts and known is None:
                raise ValueError(
                    f"claim {claim.id} is declared after verdicts were drawn ({', '.join(self._verdicts)}); declare it before training"
                )
            self._claims[claim.id] = claim
        rows = [
            {
                "id": c.id,
                "claim": c.statement,
                "the paper": c.paper_value,
                "reproduced if": c.rule,
                "negative control": c.control or "none: the data cannot express one",
            }
            for c in self._claims.values()
        ]
        return plotting.claims_styler(rows, "Claims, written down before any result")

    def verdict(
        self, claim_id: str, measured: Estimate | ArrayLike, *, control: Estimate | ArrayLike | None = None
    ) -> Verdict:
        """Apply a claim's rule to its measurement and to its negative control.

        Parameters
        ----------
        claim_id
            A declared claim.
        measured
            Effect with its interval, or one value a run (then the mean with its t-interval is taken).
        control
            The same for the negative control; required if the claim names one.

        Returns
        -------
        Verdict
            If the control is "reproduced" as well, the measurement does not show what it should, and the outcome is "inconclusive".

        Raises
        ------
        ValueError
            If the claim was not declared, the control is missing or unasked for, or a value is not finite.
        """
        if claim_id not in self._claims:
            raise ValueError(f"claim {claim_id!r} was not declared; declared: {', '.join(self._claims) or 'none'}")
        claim = self._claims[claim_id]
        if (claim.control is None) != (control is None):
            raise ValueError(
                f"claim {claim_id}: {'a control was measured but none was declared' if claim.control is None else 'its negative control was not measured'}"
            )
        verdict = claim.decide(_as_estimate(measured), None if control is None else _as_estimate(control))
        if self.profile == "smoke":
            verdict = replace(verdict, outcome="inconclusive", reason="smoke profile: no verdict is drawn")
        self._verdicts[claim_id] = verdict
        return verdict

    def claims_table(self) -> Styler:
        """All verdicts as a table."""
        return plotting.claims_styler(
            results.claim_rows([v.as_record() for v in self._verdicts.values()]),
            f"Paper {self.paper.number}: verdicts ({self.profile} profile)",
        )

    def save_figure(self, fig: Figure, name: str, caption: str) -> None:
        """Save a figure to ``figures/NN_slug/name.png`` and list it in the results; its caption is read out where it is shown."""
        path = self.figure_folder / f"{name}.png"
        with files.atomic_path(path) as temporary:
            # A smoke run looks at no picture: it checks that one can be drawn and written.
            dpi = 20 if self.profile == "smoke" else FIGURE_DPI
            fig.savefig(temporary, metadata={"Software": None}, dpi=dpi)
        # The layout is settled; the notebook need not solve it again to show the figure.
        fig.set_layout_engine("none")
        figure_text.set_caption(fig, caption)
        self._list_figure(name, caption, [path])

    def save_animation(self, film: Animation, name: str, caption: str) -> None:
        """Save a film to ``figures/NN_slug/name.mp4``, or ``.gif`` (with its sound as ``.wav``) without PyAV, and list it in the results."""
        self._list_figure(name, caption, film.save(self.figure_folder / name))

    def _list_figure(self, name: str, caption: str, written: list[Path]) -> None:
        shown, *beside = (f"figures/{self.paper.name}/{path.name}" for path in written)
        self._figures = [entry for entry in self._figures if entry["name"] != name]
        entry = {"name": name, "file": shown, "caption": caption, "cell": _execution_count()}
        self._figures.append({**entry, "sound": beside[0]} if beside else entry)

    def save_table(self, name: str, table: pd.DataFrame) -> None:
        """Store a table with the results (values as they are, not as they are shown)."""
        self._tables[name] = json.loads(table.to_json(orient="split"))

    def finish(self) -> str:
        """Write ``results/NN.json``.

        Returns
        -------
        str
            One line a claim, the same on every machine as long as the verdicts are.

        Raises
        ------
        ValueError
            If a declared claim has no verdict.
        """
        open_claims = [name for name in self._claims if name not in self._verdicts]
        if open_claims:
            raise ValueError(
                f"declared claims without a verdict: {', '.join(open_claims)}; measure them or take the declaration out"
            )
        record = {
            "paper": self.paper.number,
            "title": self.paper.title,
            "profile": self.profile,
            "seed": self.seed,
            "data": self.data,
            "seconds": round(time.perf_counter() - self._began, 2),
            "environment": environment(self.device),
            "claims": [self._verdicts[name].as_record() for name in self._claims],
            "tables": self._tables,
            "figures": self._figures,
        }
        files.write_text(
            self.root / "results" / f"{self.paper.number}.json", json.dumps(record, indent=1, allow_nan=False)
        )
        self._remove_stale_figures()
        return "\n".join(_stable_line(self._verdicts[name]) for name in self._claims)

    @property
    def figure_folder(self) -> Path:
        """Where this notebook's figures go."""
        return self.root / "figures" / self.paper.name

    def _remove_stale_figures(self) -> None:
        drawn = {Path(entry[key]).name for entry in self._figures for key in ("file", "sound") if key in entry}
        for path in self.figure_folder.glob("*"):
            if path.suffix in FIGURE_SUFFIXES and path.name not in drawn:
                path.unlink()


def start(
    number: str,
    *,
    profile: str = "quick",
    seed: int = 0,
    data: str | None = None,
    data_root: str | None = None,
    device: str = "auto",
) -> Experiment:
    """Begin a notebook: check its parameters, set threads, seeds and the figures' look.

    Parameters
    ----------
    number
        Number of the paper, such as ``"06"``.
    profile
        ``"smoke"``, ``"quick"`` or ``"full"``.
    seed
        Source of all randomness, at least 0.
    data
        One of the paper's data names; ``None`` takes its default.
    data_root
        Folder of a real data set in its official layout; needed by some of the data names, refused by the others.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"mps"``.

    Raises
    ------
    ValueError
        For an unknown paper, profile, data or device (the message lists the valid ones).
    FileNotFoundError, PermissionError
        If `data_root` is missing, not a folder, or not readable.
    """
    paper = papers.find(number)
    papers.check_profile(profile)
    chosen = papers.check_data(paper, data)
    root = papers.check_data_root(paper, chosen, data_root)
    if int(seed) < 0:
        raise ValueError(f"seed must be an integer of at least 0, found {seed}")
    threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
    torch.set_num_threads(threads)
    threadpoolctl.threadpool_limits(threads)
    plotting.use_style()
    return Experiment(paper, profile, int(seed), chosen, root, devices.choose_device(device))


def environment(device: torch.device) -> dict[str, Any]:
    """What the run ran on: versions, device, git commit, threads."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": {name: metadata.version(name) for name in RECORDED_PACKAGES},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "threads": torch.get_num_threads(),
        "commit": _git_commit(),
    }


@functools.cache
def _git_commit() -> str:
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=files.project_root(),
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()


def _as_estimate(measured: Estimate | ArrayLike) -> Estimate:
    return measured if isinstance(measured, Estimate) else mean_t_interval(measured)


def _stable_line(verdict: Verdict) -> str:
    control = f" (control: {verdict.control_outcome})" if verdict.control_outcome else ""
    return f"{verdict.claim.id}: {verdict.outcome}{control}"


def _execution_count() -> int | None:
    try:
        from IPython import get_ipython
    except ImportError:
        return None
    shell = get_ipython()
    return shell.execution_count if shell else None
