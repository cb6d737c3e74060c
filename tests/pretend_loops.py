"""The training loops of the notebooks' models on the pretended device of `pretend_device`: everything that a real run does around its steps.

Run as a program it trains what the smoke profile trains and prints as JSON what was refused. Arguments are numbers of papers, each with
names of models behind an equals sign or all of them: ``02 "04=step 1,step 2"``.
"""

import json
import os
import sys
import tempfile
import time
from types import SimpleNamespace

import torch
from pretend_device import register, reported
from torch.utils import _pytree as pytree


class OneProcess:
    """What the loops use of a launched Fabric, on any device."""

    global_rank, world_size, is_global_zero = 0, 1, True

    def __init__(self, device: torch.device) -> None:
        self.device = device
        precision = SimpleNamespace(precision="32-true", state_dict=dict, unscale_gradients=lambda _: None)
        self.strategy = SimpleNamespace(precision=precision)

    def setup_module(self, module):
        return module.to(self.device)

    def setup_optimizers(self, optimizer):
        return optimizer

    def backward(self, loss) -> None:
        loss.backward()

    def clip_gradients(self, _, optimizer, *, max_norm, error_if_nonfinite) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, max_norm, error_if_nonfinite=error_if_nonfinite, foreach=False)

    def barrier(self) -> None:
        pass


def saved_from_cpu(training) -> None:
    """States are taken to the CPU before they are written: the device has no memory that a file could be made of."""
    save = training.save_state

    def on_cpu(path, state):
        save(path, pytree.tree_map(lambda v: v.cpu() if isinstance(v, torch.Tensor) else v, state))

    training.save_state = on_cpu


def main() -> None:
    torch.set_num_threads(1)
    os.environ["PAPER_UTILS_QUIET"] = "1"
    os.environ["PAPER_UTILS_OUTPUT"] = tempfile.mkdtemp()
    device = register()
    from paper_utils import experiment, train, training

    saved_from_cpu(training)

    found = {}
    for argument in sys.argv[1:]:
        number, _, names = argument.partition("=")
        exp = experiment.start(number, profile="smoke", seed=0, device="cpu")
        for name, run in train.STUDIES[number](exp).items():
            if names and name not in names.split(","):
                continue
            began = time.process_time()
            found[f"{number} {name}"] = reported(lambda run=run: run(OneProcess(device)))
            found[f"{number} {name}"]["seconds"] = round(time.process_time() - began, 1)
            print(
                f"{number} {name}",
                found[f"{number} {name}"]["error"],
                found[f"{number} {name}"]["seconds"],
                file=sys.stderr,
                flush=True,
            )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
