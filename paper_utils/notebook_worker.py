"""Runs one notebook through papermill in a process of its own and reports each step as a line of JSON on standard output.

`paper_utils.reproduce` starts one such process a notebook, so that a notebook that dies takes nothing else with it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import papermill
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillExecutionError

from paper_utils import files

ENGINE = "reporting"
ERROR_LINES = 6


def report(**event: Any) -> None:
    """One event to the parent process."""
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


class ReportingEngine(NBClientEngine):
    """Papermill's own engine, telling where it is."""

    @classmethod
    def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **options: Any) -> None:
        """Run all cells; report the start and the end of each code cell, numbered as in the notebook on disk."""
        written = [
            index
            for index, cell in enumerate(nb_man.nb.cells)
            if cell.cell_type == "code" and "injected-parameters" not in cell.metadata.get("tags", [])
        ]
        number = {index: position + 1 for position, index in enumerate(written)}
        started, completed = nb_man.cell_start, nb_man.cell_complete

        def cell_start(cell: Any, cell_index: int | None = None, **kwargs: Any) -> None:
            if cell_index in number:
                report(event="start", cell=number[cell_index], source=cell.source.strip().splitlines()[:3])
            started(cell, cell_index, **kwargs)

        def cell_complete(cell: Any, cell_index: int | None = None, **kwargs: Any) -> None:
            completed(cell, cell_index, **kwargs)
            if cell_index in number:
                report(event="cell", done=number[cell_index], total=len(number))

        nb_man.cell_start, nb_man.cell_complete = cell_start, cell_complete
        report(event="cell", done=0, total=len(number))
        super().execute_managed_notebook(nb_man, kernel_name, **options)


def _die_with_parent() -> None:
    # The parent holds the other end of standard input: its end means that the parent is gone, however it went.
    # (Read from the descriptor: a thread that waits in sys.stdin's own lock would abort the interpreter at its end.)
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGINT)


def _last_lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip().splitlines() if line.strip()][-ERROR_LINES:]


def main(notebook: str, output: str, folder: str, parameters: str) -> int:
    """Execute `notebook` into `output`, with `folder` as its working folder and JSON `parameters`.

    Returns
    -------
    int
        0 if every cell ran; 1 if one did not (a last event ``failed`` says why).
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    papermill_engines.register(ENGINE, ReportingEngine)
    try:
        papermill.execute_notebook(
            notebook,
            output,
            parameters=json.loads(parameters),
            engine_name=ENGINE,
            kernel_name="python3",
            language="python",
            progress_bar=False,
            cwd=folder,
        )
    except PapermillExecutionError as error:
        report(event="failed", kind="exception", error=_last_lines(f"{error.ename}: {error.evalue}"))
    except DeadKernelError:
        report(
            event="failed",
            kind="dead kernel",
            error=[
                "the kernel died without an error of its own: killed from outside, out of memory, or a crash in native code"
            ],
        )
    except CellTimeoutError as error:
        report(event="failed", kind="time-out", error=_last_lines(str(error)))
    except KeyboardInterrupt:
        report(event="failed", kind="interrupted", error=["interrupted"])
    except Exception as error:
        if isinstance(error, OSError) and error.errno in files.FULL:  # papermill writes the copy after each cell
            report(event="failed", kind="disk", error=[str(files.WriteError(Path(output), error))])
        else:
            report(event="failed", kind="runner", error=_last_lines(f"{type(error).__name__}: {error}"))
    else:
        report(event="done")
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
