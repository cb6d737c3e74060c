"""Train a paper's models outside its notebook, on one device or many, into the cache that the notebook then reads.

    python -m paper_utils.train 06 --profile full --device cuda
    torchrun --nproc-per-node 4 -m paper_utils.train 06 --profile full

Runs that are already in ``.cache/`` are not trained again; a run that was killed goes on from its checkpoint.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence

from paper_utils import devices, experiment, papers, training
from paper_utils.studies import sphereface2, sphereface_r

# What each paper trains: a function of the experiment that gives named calls, each taking a Fabric.
STUDIES = {"05": sphereface2.trainings, "06": sphereface_r.trainings}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m paper_utils.train", description=__doc__.splitlines()[0])
    parser.add_argument("paper", help=f"one of {', '.join(STUDIES)}")
    parser.add_argument("--profile", default="quick", help=", ".join(papers.PROFILES))
    parser.add_argument("--data", default=None, help="data name of the paper")
    parser.add_argument("--data-root", default=None, help="folder of real data in its official layout")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help=", ".join(devices.DEVICES))
    parser.add_argument("--precision", default="32-true", help=", ".join(training.PRECISIONS))
    parser.add_argument("--only", default="", help="names of the models to train, comma-separated; all if empty")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns
    -------
    int
        0: trained or already there; 2: a wrong argument.
    """
    options = parse(arguments)
    try:
        paper = papers.find(options.paper)
        if paper.number not in STUDIES:
            raise ValueError(f"paper {paper.number} has nothing to train here; papers that have: {', '.join(STUDIES)}")
        exp = experiment.start(
            paper.number,
            profile=options.profile,
            seed=options.seed,
            data=options.data,
            data_root=options.data_root,
            device=options.device,
        )
        processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        nodes = int(os.environ.get("WORLD_SIZE", "1")) // processes
        fabric = training.launch(options.device, options.precision, processes, nodes)
        available = STUDIES[paper.number](exp)
        chosen = [name for name in options.only.split(",") if name] or list(available)
        unknown = [name for name in chosen if name not in available]
        if unknown:
            raise ValueError(f"unknown model {', '.join(unknown)}; valid: {', '.join(available)}")
    except (ValueError, OSError) as error:
        print(f"paper_utils.train: {error}", file=sys.stderr)
        return 2
    for name in chosen:
        began = time.perf_counter()
        history = available[name](fabric)
        if fabric.is_global_zero:
            seconds = time.perf_counter() - began
            print(
                f"{name:<24} {len(history):>6} steps, last loss {history[-1].mean():.4f}, {seconds:.1f} s", flush=True
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
