r"""Small networks that read moving faces: a lip reader and two emotion networks for a world in which faces are vertices.

They stand in for networks trained on real video. The same classes serve as part of a loss and as judges of its result, but never with the
same weights: a judge has another architecture, other seeds, and learned from other people and clips.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from paper_utils.nn.temporal import seeded


@dataclass(frozen=True)
class ReaderSizes:
    """Widths of a reader; the defaults are those used inside losses (choices of ours).

    Parameters
    ----------
    hidden, features
        Inner width, and numbers that the loss compares.
    kernels
        Frames that the two convolutions of a lip reader span, odd.

    Raises
    ------
    ValueError
        If a width is not positive or a kernel is even.
    """

    hidden: int = 48
    features: int = 32
    kernels: tuple[int, int] = (5, 3)

    def __post_init__(self) -> None:
        if min(self.hidden, self.features, *self.kernels) < 1 or any(kernel % 2 == 0 for kernel in self.kernels):
            raise ValueError(f"reader sizes: expected positive widths and odd kernels, found {self}")


JUDGE = ReaderSizes(hidden=64, features=24, kernels=(7, 3))


class _Reader(nn.Module):
    """Inputs are standardised by the statistics of the clips that the reader learned from."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.inputs = inputs
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("sd", torch.ones(inputs))

    @torch.no_grad()
    def standardise_by(self, motion: Float[Tensor, "clips time inputs"]) -> None:
        """Take mean and standard deviation of every input from training clips; inputs that hardly move are not blown up."""
        flat = motion.flatten(0, 1)
        sd = flat.std(0)
        self.mean.copy_(flat.mean(0))
        self.sd.copy_(sd.clamp_min(0.05 * float(sd.mean()) + 1e-12))

    def standardised(self, motion: Tensor) -> Tensor:
        """The motion on the scale that the reader knows."""
        if motion.shape[-1] != self.inputs:
            raise ValueError(f"motion: this reader takes {self.inputs} numbers a frame, found {motion.shape[-1]}")
        return (motion - self.mean) / self.sd


class LipReader(_Reader):
    r"""Reads phonemes off a moving mouth.

    .. math:: f = \mathrm{conv}_2(\mathrm{GELU}(\mathrm{conv}_1(x))), \qquad \text{logits} = W f

    Parameters
    ----------
    inputs
        Numbers a frame: coordinates of the mouth's vertices.
    phones
        Classes.
    sizes
        Widths.
    seed
        Of the first weights.
    """

    def __init__(self, inputs: int, phones: int, sizes: ReaderSizes | None = None, *, seed: int) -> None:
        super().__init__(inputs)
        sizes = sizes or ReaderSizes()
        first, second = sizes.kernels
        with seeded(seed):
            self.first = nn.Conv1d(inputs, sizes.hidden, first, padding=first // 2)
            self.second = nn.Conv1d(sizes.hidden, sizes.features, second, padding=second // 2)
            self.phone = nn.Linear(sizes.features, phones)

    def forward(self, mouth: Float[Tensor, "clips time inputs"]) -> Float[Tensor, "clips time features"]:
        """What a lip-reading loss compares."""
        moved = self.standardised(mouth).transpose(1, 2)
        return self.second(functional.gelu(self.first(moved))).transpose(1, 2)

    def logits(self, features: Float[Tensor, "clips time features"]) -> Float[Tensor, "clips time phones"]:
        """Phones from what `forward` gives."""
        return self.phone(features)


class MotionEmotion(_Reader):
    r"""Reads emotion and intensity off a moving face: once a clip, or (its static twin) once a frame.

    .. math:: f = \tanh\left(W_2 \frac1T \sum_t \mathrm{GELU}(W_1 x_t)\right), \qquad f_t = \tanh(W_2\,\mathrm{GELU}(W_1 x_t))

    Parameters
    ----------
    inputs
        Numbers a frame: coordinates of vertices.
    emotions, intensities
        Classes of the two heads.
    sizes
        Widths.
    static
        No mean over time: a vector a frame, whose heads are trained frame by frame.
    seed
        Of the first weights.
    """

    def __init__(
        self,
        inputs: int,
        emotions: int = 8,
        intensities: int = 3,
        sizes: ReaderSizes | None = None,
        *,
        static: bool = False,
        seed: int,
    ) -> None:
        super().__init__(inputs)
        sizes = sizes or ReaderSizes()
        self.static = static
        with seeded(seed):
            self.frame = nn.Linear(inputs, sizes.hidden)
            self.clip = nn.Linear(sizes.hidden, sizes.features)
            self.emotion, self.intensity = (nn.Linear(sizes.features, n) for n in (emotions, intensities))

    def forward(self, face: Float[Tensor, "clips time inputs"]) -> Float[Tensor, "clips *time features"]:
        """A vector a clip; of the static twin a vector a frame."""
        hidden = functional.gelu(self.frame(self.standardised(face)))
        return torch.tanh(self.clip(hidden if self.static else hidden.mean(1)))

    def logits(
        self, features: Float[Tensor, "*rows features"]
    ) -> tuple[Float[Tensor, "*rows emotions"], Float[Tensor, "*rows intensities"]]:
        """Emotion and intensity (level 1 first) from what `forward` gives."""
        return self.emotion(features), self.intensity(features)


def clip_verdicts(network: MotionEmotion, face: Float[Tensor, "clips time inputs"]) -> Int[Tensor, " clips"]:
    """The emotion of each clip; the static twin's frames vote by their summed log-probabilities."""
    with torch.no_grad():
        logits = network.logits(network(face))[0]
        return (logits.log_softmax(-1).sum(1) if network.static else logits).argmax(-1)


def reader_losses(
    network: LipReader | MotionEmotion, motion: Float[Tensor, "clips time inputs"], *labels: Int[Tensor, clips * time]
) -> Float[Tensor, ""]:
    """Sum of the mean cross-entropies of a reader's heads.

    Parameters
    ----------
    network
        Which reader.
    motion
        Its input.
    labels
        Phones of every frame for a `LipReader`; emotion and intensity (from 0) of every clip for a `MotionEmotion`. A negative label of a
        frame is left out.

    Raises
    ------
    ValueError
        If the number of label tensors does not fit the reader's heads.
    """
    features = network(motion)
    logits = network.logits(features)
    logits = logits if isinstance(logits, tuple) else (logits,)
    if len(labels) != len(logits):
        raise ValueError(f"labels: this reader has {len(logits)} heads, found labels for {len(labels)}")
    return sum(
        functional.cross_entropy(scores.flatten(0, -2), _every_frame(target, scores), ignore_index=-1)
        for scores, target in zip(logits, labels, strict=True)
    )


def _every_frame(target: Tensor, scores: Tensor) -> Tensor:
    """Labels in the order of the flattened scores; a clip's label holds for each of its frames."""
    if target.ndim < scores.ndim - 1:
        target = target[:, None].expand(scores.shape[:-1])
    return target.clamp_min(-1).flatten()
