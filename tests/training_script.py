"""A small training run for the tests of `paper_utils.training`: started, killed, resumed, and split over processes.

    python training_script.py FOLDER [KILL_AT]

writes FOLDER/result.pt (weights and losses). With KILL_AT the process sends itself SIGKILL in the middle of that step.
"""

import os
import signal
import sys
from pathlib import Path

import torch

from paper_utils import training

STEPS, BATCH, ROWS = 120, 24, 100


def main(folder: Path, kill_at: int = -1) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    fabric = training.launch("cpu", processes=processes)
    inputs = torch.randn(ROWS, 6, generator=torch.Generator().manual_seed(1))
    targets = inputs.square().sum(1, keepdim=True)
    # Dropout and an explicit generator: both random states must survive, unless the batch is split over processes.
    net = torch.nn.Sequential(
        torch.nn.Linear(6, 16),
        torch.nn.Tanh(),
        torch.nn.Dropout(0.2 if processes == 1 and kill_at != -2 else 0.0),
        torch.nn.Linear(16, 1),
    )
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [60, 90])
    noise = torch.Generator().manual_seed(2)
    run = training.Run(
        fabric,
        {"net": net},
        optimizer,
        steps=STEPS,
        schedule=schedule,
        clip_norm=5.0,
        checkpoint=folder / "checkpoint.pt",
        every_steps=25,
        identity="test run",
        generators={"noise": noise},
    )
    for step in run:
        if step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        rows = training.batch_indices(ROWS, BATCH, step, seed=3, rank=fabric.global_rank, world_size=fabric.world_size)
        jitter = 0.1 * torch.randn(len(rows), 6, generator=noise) if processes == 1 and kill_at != -2 else 0.0
        loss = (run.modules["net"](inputs[rows] + jitter) - targets[rows]).square().mean()
        run.update(loss, weight=net[0].weight.abs().sum())
    if fabric.is_global_zero:
        torch.save({"weights": net.state_dict(), "losses": torch.from_numpy(run.history["loss"])}, folder / "result.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else -1)
