"""Tells recorded motion from generated motion: three convolutions over time and a mean. Behind our realism score of paper 08.

The paper's own classifier was not released; sizes and training here are choices of ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from paper_utils import training

LEAST_FRAMES = 8  # three halvings


@dataclass(frozen=True)
class ClassifierTraining:
    """Sizes and training of `MotionClassifier`.

    Parameters
    ----------
    width
        Channels of the convolutions.
    steps, batch_size, learning_rate
        Adam; a batch is half real, half generated.
    """

    width: int = 32
    steps: int = 200
    batch_size: int = 32
    learning_rate: float = 3e-3

    def __post_init__(self) -> None:
        if min(self.width, self.steps) < 1 or self.batch_size < 2 or self.batch_size % 2 or not self.learning_rate > 0:
            raise ValueError(f"classifier training: expected positive numbers and an even batch, found {self}")


class MotionClassifier(nn.Module):
    """Logit that a clip is real, from frames that are first brought to the scale of the training data.

    Parameters
    ----------
    mean, scale
        Of each channel of the training data.
    width
        Channels of the convolutions.
    """

    def __init__(self, mean: Float[Tensor, " channels"], scale: Float[Tensor, " channels"], width: int) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)
        sizes = [len(mean), width, width, width]
        self.convolutions = nn.ModuleList(
            [nn.Conv1d(before, after, 5, stride=2, padding=2) for before, after in pairwise(sizes)]
        )
        self.norms = nn.ModuleList([nn.BatchNorm1d(width) for _ in sizes[1:]])
        self.head = nn.Linear(width, 1)

    def forward(self, motion: Float[Tensor, "batch time channels"]) -> Float[Tensor, " batch"]:
        """Positive for real."""
        y = ((motion - self.mean) / self.scale).transpose(1, 2)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            y = F.leaky_relu(norm(convolution(y)), 0.2)
        return self.head(y.mean(-1))[:, 0]


def train_classifier(
    real: Float[Tensor, "clips time channels"],
    generated: Float[Tensor, "fakes time channels"],
    config: ClassifierTraining = ClassifierTraining(),
    *,
    seed: int = 0,
    device: str = "cpu",
) -> MotionClassifier:
    r"""Learn :math:`P(\text{real})` by cross entropy on balanced batches; returns the network in evaluation mode.

    Raises
    ------
    ValueError
        If clips are shorter than eight frames or of different shapes, or one side is empty.
    """
    if real.shape[1:] != generated.shape[1:] or real.shape[1] < LEAST_FRAMES or min(len(real), len(generated)) < 1:
        raise ValueError(
            f"expected real and generated clips of one shape with at least {LEAST_FRAMES} frames, "
            f"found {tuple(real.shape)} and {tuple(generated.shape)}"
        )
    everything = torch.cat((real, generated)).flatten(0, 1)
    # A channel that never moves carries nothing; dividing by its spread would be 0/0.
    scale = everything.std(0)
    scale = torch.where(scale > 0, scale, 1.0)
    fabric = training.launch(device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = MotionClassifier(everything.mean(0), scale, config.width)
    optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    run = training.Run(fabric, {"network": network}, optimizer, steps=config.steps, schedule=schedule)
    half = config.batch_size // 2
    target = torch.cat((torch.ones(half), torch.zeros(half))).to(fabric.device)
    for step in run:
        rows = [
            training.batch_indices(len(side), half, step, seed=seed + i) for i, side in enumerate((real, generated))
        ]
        batch = torch.cat((real[rows[0]], generated[rows[1]])).to(fabric.device)
        run.update(F.binary_cross_entropy_with_logits(run.modules["network"](batch), target))
    return network.eval()


@torch.no_grad()
def real_probability(
    network: MotionClassifier, motion: Float[Tensor, "clips time channels"], *, batch: int = 256
) -> Float[np.ndarray, " clips"]:
    """P(real) of each clip, between 0 and 1."""
    device = network.mean.device
    return torch.cat([torch.sigmoid(network(part.to(device))) for part in motion.split(batch)]).cpu().numpy()
