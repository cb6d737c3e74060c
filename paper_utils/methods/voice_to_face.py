r"""Face reconstruction from voice (paper 03): a generator turns the embedding of a voice into a face of somebody it takes for the speaker.

Top to bottom, in the order of the paper: sizes; the five networks; the voice on the sphere; losses; how batches are cut; the two stages
of training; monitors of the game; from a recording to a picture; files, the official ones included.
Yandong Wen, Rita Singh, Bhiksha Raj, "Face Reconstruction from Voice using Generative Adversarial Networks", arXiv:1905.10604
(NeurIPS 2019). Layers, losses and schedule follow the description of the code published with the paper; the paper's text was read only in
part. The method speaks of populations, not of persons: the picture is what tends to go with a voice, never evidence of who spoke.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import lightning_fabric
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from paper_utils import training
from paper_utils.data.voice_features import FrontEnd
from paper_utils.data.voxceleb import LONGEST, Spans, SpeakerRecordings
from paper_utils.network_files import ModelFileError, NetworkFile, read_networks, save_networks
from paper_utils.nn import whole_batch
from paper_utils.nn.checkpoint_names import CheckpointNamesError, read_state
from paper_utils.nn.voice_encoder import CHANNELS, VoiceEncoder, initialise_

SLOPE = 0.2  # of LeakyReLU; published code
FORMAT = "voice-to-face 1"


@dataclass(frozen=True)
class Sizes:
    """Widths of the networks; the defaults are those of the published code, for pictures of 64 pixels.

    Parameters
    ----------
    bands, dim
        Mel bands; width of the voice and face embeddings.
    voice
        Inner widths of the voice network.
    generator
        Widths from 4 x 4 pixels on; each further one doubles the side.
    face
        Widths of the face network from the full picture on; each further one halves the side. As many as `generator` has.

    Raises
    ------
    ValueError
        If a width is not positive, or generator and face network do not make and take pictures of one size.
    """

    bands: int = 64
    dim: int = 64
    voice: tuple[int, ...] = CHANNELS
    generator: tuple[int, ...] = (1024, 512, 256, 128, 64)
    face: tuple[int, ...] = (32, 64, 128, 256, 512)

    def __post_init__(self) -> None:
        widths = (self.bands, self.dim, *self.voice, *self.generator, *self.face)
        if min(widths) < 1 or not self.voice:
            raise ValueError(f"sizes: all widths must be positive, found {widths}")
        if len(self.generator) != len(self.face) or not self.generator:
            raise ValueError(
                f"sizes: generator and face network need equally many widths, found {self.generator} and {self.face}; "
                "the picture has 4 * 2**(widths - 1) pixels a side in both"
            )

    @property
    def image(self) -> int:
        """Pixels a side."""
        return 4 * 2 ** (len(self.generator) - 1)


# ------------------------------------------------------------------------------------------------------------ 1. networks
# The voice embedding network F_e is `paper_utils.nn.voice_encoder.VoiceEncoder`.


class Generator(nn.Module):
    r"""The generator :math:`F_g`: from a point on the sphere to a picture, by transposed convolutions that double the side.

    The first layer makes 4 x 4 pixels (kernel 4, stride 1, no padding), the inner ones have kernel 4, stride 2, padding 1, the last one is
    1 x 1. ReLU in between, biases everywhere, no normalisation, and no tanh: values are bounded only when they are shown.

    Parameters
    ----------
    sizes
        Widths.
    seed
        Of the first weights.

    Examples
    --------
    >>> generator = Generator(Sizes(), seed=0)
    >>> sum(p.numel() for p in generator.parameters())
    12191875
    """

    def __init__(self, sizes: Sizes, *, seed: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.ConvTranspose2d(sizes.dim, sizes.generator[0], 4), nn.ReLU()]
        for inputs, outputs in zip(sizes.generator[:-1], sizes.generator[1:], strict=True):
            layers += [nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1), nn.ReLU()]
        self.model = nn.Sequential(*layers, nn.ConvTranspose2d(sizes.generator[-1], 3, 1))
        initialise_(self, torch.Generator().manual_seed(seed))

    def forward(self, unit: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch 3 side side"]:
        """Pictures, nominally in [-1, 1], not clamped."""
        return self.model(unit[:, :, None, None])


class FaceEncoder(nn.Module):
    r"""The trunk :math:`F_f` that discriminator and classifier share: a picture becomes a vector of `dim` numbers, not normalised.

    A 1 x 1 convolution, then convolutions with kernel 4, stride 2, padding 1 that halve the side down to 4 x 4, then one with kernel 4
    without padding. LeakyReLU with slope 0.2 in between, biases, no normalisation layers.

    Examples
    --------
    >>> sum(p.numel() for p in FaceEncoder(Sizes(), seed=0).parameters())
    3310720
    """

    def __init__(self, sizes: Sizes, *, seed: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, sizes.face[0], 1), nn.LeakyReLU(SLOPE)]
        for inputs, outputs in zip(sizes.face[:-1], sizes.face[1:], strict=True):
            layers += [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), nn.LeakyReLU(SLOPE)]
        self.model = nn.Sequential(*layers, nn.Conv2d(sizes.face[-1], sizes.dim, 4))
        self.side = sizes.image
        initialise_(self, torch.Generator().manual_seed(seed))

    def forward(self, images: Float[Tensor, "batch 3 side side"]) -> Float[Tensor, "batch dim"]:
        """Embed pictures.

        Raises
        ------
        ValueError
            If the pictures have another size than the network takes.
        """
        if images.shape[1:] != (3, self.side, self.side):
            raise ValueError(f"images: expected (batch, 3, {self.side}, {self.side}), found {tuple(images.shape)}")
        return self.model(images).flatten(1)


class Critics(nn.Module):
    r"""Everything that judges pictures: the trunk :math:`F_f`, the discriminator :math:`F_d` and the classifier :math:`F_c` on top of it.

    Both heads are linear without bias and read the same vector.

    Parameters
    ----------
    sizes
        Widths.
    classes
        Training people K, at least 2.
    seed
        Of the first weights.

    Raises
    ------
    ValueError
        For fewer than two classes.
    """

    def __init__(self, sizes: Sizes, classes: int, *, seed: int) -> None:
        super().__init__()
        if classes < 2:
            raise ValueError(
                f"classes: a classifier needs at least 2 people, found {classes}; check the people's split"
            )
        self.face = FaceEncoder(sizes, seed=seed)
        self.discriminator = nn.Linear(sizes.dim, 1, bias=False)
        self.classifier = nn.Linear(sizes.dim, classes, bias=False)
        generator = torch.Generator().manual_seed(seed + 1)
        for head in (self.discriminator, self.classifier):
            initialise_(head, generator)

    def forward(
        self, images: Float[Tensor, "batch 3 side side"]
    ) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch classes"]]:
        """Logit of "this is a photograph" and logits of who it shows."""
        embedding = self.face(images)
        return self.discriminator(embedding).squeeze(1), self.classifier(embedding)


# -------------------------------------------------------------------------------------------- 2. the voice on the sphere


def on_sphere(embedding: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
    r""":math:`\mathrm{norm}(a) = a / \lVert a \rVert_2`: what the generator reads."""
    return functional.normalize(embedding, dim=1)


def blurred(
    unit: Float[Tensor, "batch dim"], sd: float, generator: torch.Generator | None = None
) -> Float[Tensor, "batch dim"]:
    r"""The voice as the generator meets it in training: moved a little on the sphere.

    .. math:: z = \mathrm{norm}(\mathrm{norm}(F_e(v)) + \eta), \qquad \eta \sim \mathcal N(0, \sigma^2 I)

    With :math:`\sigma = 0.05` in 64 dimensions the cosine with the clean embedding is about :math:`1/\sqrt{1 + 64\sigma^2} = 0.93`.
    At test time there is no noise. Published code; nothing of it was seen in the part of the paper that was read.

    Parameters
    ----------
    unit
        Of length 1.
    sd
        :math:`\sigma`.
    generator
        Source of the noise, on the CPU.
    """
    noise = torch.randn(whole_batch.count(unit), unit.shape[1], generator=generator, dtype=unit.dtype)
    noise = whole_batch.own(noise).to(unit.device)
    return on_sphere(unit + sd * noise)


# --------------------------------------------------------------------------------------------------------------- 3. losses


def critic_losses(
    real: Float[Tensor, " batch"],
    fake: Float[Tensor, " batch"],
    who: Float[Tensor, "batch classes"],
    labels: Int[Tensor, " batch"],
) -> dict[str, Float[Tensor, ""]]:
    r"""Three terms of the critics: photographs are real, generated pictures are not, and photographs show who they show.

    .. math::
        L_D = \mathrm{BCE}(\sigma(F_d(F_f(x))), 1) + \mathrm{BCE}(\sigma(F_d(F_f(\hat x))), 0) + \mathrm{CE}(F_c(F_f(x)), y_x)

    The classifier never sees a generated picture. All weights are 1, means over the batch.

    Parameters
    ----------
    real, fake
        Logits of the discriminator for photographs and for generated pictures; softplus of a logit is the cross-entropy.
    who
        Logits of the classifier for the photographs.
    labels
        Who is on the photographs.
    """
    return {
        "real": functional.softplus(-real).mean(),
        "fake": functional.softplus(fake).mean(),
        "who": functional.cross_entropy(who, labels),
    }


def generator_losses(
    fake: Float[Tensor, " batch"], who: Float[Tensor, "batch classes"], labels: Int[Tensor, " batch"]
) -> dict[str, Float[Tensor, ""]]:
    r"""Two terms of the generator: its pictures pass for photographs, and for photographs of the speaker.

    .. math:: L_G = \mathrm{BCE}(\sigma(F_d(F_f(\hat x))), 1) + \mathrm{CE}(F_c(F_f(\hat x)), y_v)

    The critics are the ones that have just been updated. No voice is ever compared with a face: the labels alone link them.
    """
    return {"fooled": functional.softplus(-fake).mean(), "speaker": functional.cross_entropy(who, labels)}


def turn_losses(
    critics: nn.Module,
    fakes: Float[Tensor, "batch 3 side side"],
    speakers: Int[Tensor, " batch"],
    images: Float[Tensor, "batch 3 side side"] | None = None,
    people: Int[Tensor, " batch"] | None = None,
) -> dict[str, Float[Tensor, ""]]:
    """The losses of one player's turn: the critics' if photographs are given, the generator's if not.

    The player whose turn it is not stays out of the graph: generated pictures are detached in the critics' turn, the critics are frozen in
    the generator's. Photographs and generated pictures go through the trunk as one batch, which changes nothing but the time it takes.

    Parameters
    ----------
    critics
        `Critics`, or a module that wraps it.
    fakes, speakers
        Generated pictures and the labels of the voices they were generated from.
    images, people
        Photographs of anybody, and their labels.
    """
    critics.requires_grad_(images is not None)
    if images is None:
        scores, who = critics(fakes)
        return generator_losses(scores, who, speakers)
    scores, who = critics(torch.cat([images, fakes.detach()]))
    count = len(images)
    return critic_losses(scores[:count], scores[count:], who[:count], people)


# -------------------------------------------------------------------------------------------------------------- 4. batches


@dataclass(frozen=True)
class Speech:
    """Recordings in memory, with the one method that training needs; `paper_utils.data.voxceleb.SpeakerRecordings` has it too and reads files.

    Parameters
    ----------
    log_mel
        Frames of all recordings, one after the other, normalised.
    starts
        First frame of each recording, and the number of frames as last.
    identities
        Speaker of each recording, in ``[0, K)``.

    Raises
    ------
    ValueError
        If the parts do not fit each other, or a recording is empty.
    """

    log_mel: Float[Tensor, "frames bands"]
    starts: Int[Tensor, " recordings_plus_one"]
    identities: Int[Tensor, " recordings"]

    def __post_init__(self) -> None:
        if len(self.starts) != len(self.identities) + 1 or not len(self.identities):
            raise ValueError(
                f"speech: expected at least one recording and one speaker each, found {len(self.starts) - 1} recordings "
                f"and {len(self.identities)} speakers"
            )
        if int(self.starts[-1]) != len(self.log_mel) or int(self.starts.diff().min()) < 1:
            raise ValueError(
                f"speech: starts must rise to the {len(self.log_mel)} frames there are, found {self.starts.tolist()[-3:]} as last"
            )

    @classmethod
    def of(cls, features: Float[Tensor, "recordings frames bands"], identities: Int[Tensor, " recordings"]) -> Speech:
        """Recordings of equal length."""
        count, frames = features.shape[:2]
        return cls(features.flatten(0, 1), torch.arange(count + 1) * frames, identities)

    def crops(
        self, rows: Int[Tensor, " rows"], *, generator: torch.Generator, spans: Spans | None = None
    ) -> Float[Tensor, "rows time bands"]:
        """A random stretch of each chosen recording, all of one random length; recordings shorter than the window are repeated.

        Published code: 800 consecutive frames at random from each item, then one length of 300 to 800 and one offset for all items.
        """
        spans = spans or Spans()
        length = int(torch.randint(spans.shortest, spans.window + 1, (), generator=generator))
        offset = int(torch.randint(spans.window - length + 1, (), generator=generator))
        begin, count = self.starts[rows], self.starts.diff()[rows]
        room = (count - spans.window).clamp(min=0) + 1
        places = whole_batch.own(torch.rand(whole_batch.count(rows), generator=generator, dtype=torch.float64))
        first = (places * room).long() + offset
        index = begin[:, None] + (first[:, None] + torch.arange(length)) % count[:, None]
        return self.log_mel[index]


def random_flips(
    images: Float[Tensor, "batch 3 height width"], generator: torch.Generator
) -> Float[Tensor, "batch 3 height width"]:
    """Each picture mirrored with probability one half."""
    flip = whole_batch.own(torch.rand(whole_batch.count(images), generator=generator)) < 0.5
    return torch.where(flip.to(images.device)[:, None, None, None], images.flip(3), images)


def _chance(seed: int, step: int) -> torch.Generator:
    """Chance as a function of seed and step alone, so that a resumed run draws what it would have drawn."""
    return torch.Generator().manual_seed(int(np.random.default_rng([seed, step]).integers(2**63 - 1)))


# ------------------------------------------------------------------------------------------------- 5. two stages of training


@dataclass(frozen=True)
class VoiceTraining:
    """Stage 1, speaker recognition. The paper's settings are not published (an author: plain classification loss); these are ours.

    Parameters
    ----------
    steps, batch, lr
        Of Adam; the learning rate falls to zero along a cosine.
    spans
        Which stretches of the recordings are taken.
    """

    steps: int = 20_000
    batch: int = 128
    lr: float = 1e-3
    spans: Spans = dataclasses.field(default_factory=Spans)


@dataclass(frozen=True)
class GanTraining:
    """Stage 2; the defaults are those of the published code.

    Parameters
    ----------
    steps
        Iterations; each is a turn of the critics and a turn of the generator. (From memory, unverified: the paper says 100,000.)
    batch
        Voices, and photographs, of an iteration; they are drawn independently.
    lr, betas
        Of Adam.
    noise
        Standard deviation of the noise on the embedding, see `blurred`.
    spans
        Which stretches of the recordings are taken.
    identity
        Weight of the generator's identity term; 0 takes it out (ablation f).
    average
        Decay of a running average of the generator's weights that is returned in its place; 0 returns the generator itself, as published.
        Short trainings stop in the middle of the players' back and forth, which the average takes out.
    first_weights
        ``"default"``: PyTorch's, as published. ``"relu"``: see `rectified_weights_`; short trainings begin to draw faces sooner.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    steps: int = 50_000
    batch: int = 128
    lr: float = 2e-4
    betas: tuple[float, float] = (0.5, 0.999)
    noise: float = 0.05
    spans: Spans = dataclasses.field(default_factory=Spans)
    identity: float = 1.0
    average: float = 0.0
    first_weights: str = "default"

    def __post_init__(self) -> None:
        if self.first_weights not in ("default", "relu"):
            raise ValueError(f"first_weights: expected 'default' or 'relu', found {self.first_weights!r}")
        if min(self.steps, self.batch) < 1 or not (self.noise >= 0 and self.identity >= 0 and 0 <= self.average < 1):
            raise ValueError(
                "gan training: expected steps and batch of at least 1, noise and identity of at least 0 and average in [0, 1), found "
                f"{self.steps}, {self.batch}, {self.noise}, {self.identity}, {self.average}"
            )


@torch.no_grad()
def rectified_weights_(module: nn.Module, generator: torch.Generator) -> None:
    r"""First weights that keep the size of what passes through layers with ReLU: uniform in :math:`\pm\sqrt{6/n}`, biases 0.

    n is the number of inputs that one output sums up: of a transposed convolution that is its input channels times the taps that reach a
    pixel, :math:`(k/s)^2`, and one tap where the input is a single pixel. PyTorch's own first weights shrink the signal about 2.4 times
    a layer. Not of the paper.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            inputs = layer.weight[0].numel()
            if isinstance(layer, nn.ConvTranspose2d):
                inputs = layer.in_channels * ((layer.kernel_size[0] // layer.stride[0]) ** 2 if layer.padding[0] else 1)
            bound = math.sqrt(6 / inputs)
            layer.weight.uniform_(-bound, bound, generator=generator)
            if layer.bias is not None:
                layer.bias.zero_()


def train_voice(
    fabric: lightning_fabric.Fabric,
    speech: Speech | SpeakerRecordings,
    sizes: Sizes,
    config: VoiceTraining,
    *,
    seed: int,
    checkpoint: Path | None = None,
) -> tuple[VoiceEncoder, Float[np.ndarray, " steps"]]:
    r"""Stage 1: the voice network learns to tell the training speakers apart, then it is frozen.

    .. math:: \min\; \mathrm{CE}(W F_e(v), y_v)

    Returns
    -------
    tuple
        The network in evaluation mode, without gradients, and the loss of every step.
    """
    encoder = VoiceEncoder(sizes.bands, sizes.dim, channels=sizes.voice, seed=seed)
    head = nn.Linear(sizes.dim, int(speech.identities.max()) + 1, bias=False)
    initialise_(head, torch.Generator().manual_seed(seed + 1))
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=config.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    labels = speech.identities.to(fabric.device)
    run = training.Run(
        fabric, {"encoder": encoder, "head": head}, optimizer, steps=config.steps, schedule=schedule, checkpoint=checkpoint
    )  # fmt: skip
    for step in run:
        rows = whole_batch.own(training.batch_indices(len(labels), config.batch, step, seed=seed))
        crops = speech.crops(rows, generator=_chance(seed, step), spans=config.spans).to(fabric.device)
        logits = run.modules["head"](run.modules["encoder"](crops.transpose(1, 2)))
        run.update(functional.cross_entropy(logits, labels[rows.to(fabric.device)]))
    return encoder.eval().requires_grad_(False), run.history["loss"]


def train_gan(
    fabric: lightning_fabric.Fabric,
    encoder: VoiceEncoder,
    speech: Speech | SpeakerRecordings,
    images: Float[Tensor, "photographs 3 side side"],
    people: Int[Tensor, " photographs"],
    sizes: Sizes,
    config: GanTraining,
    *,
    seed: int,
    checkpoint: Path | None = None,
    watched: Float[Tensor, "voices dim"] | None = None,
    watch_at: Sequence[int] = (),
) -> tuple[Generator, Critics, dict[str, Float[np.ndarray, "steps ..."]]]:
    r"""Stage 2: critics and generator take turns; the voice network stays as it is.

    One iteration: draw voices and, independently, photographs; generate :math:`\hat x`; the critics descend :math:`L_D`; the generator
    descends :math:`L_G` on the same :math:`\hat x` with the critics as they are now.

    Parameters
    ----------
    encoder
        From `train_voice`, frozen.
    speech
        Recordings of the training people.
    images, people
        Photographs of the training people in [-1, 1]; labels in the same numbering as those of `speech`.
    watched, watch_at
        Points on the sphere whose pictures are kept before these iterations, to see faces appear.

    Returns
    -------
    tuple
        Generator, critics, and by name the loss of every iteration: ``real``, ``fake``, ``who``, ``fooled``, ``speaker``; ``spread``,
        the `diversity` of each batch; and ``watched``, the pictures that were kept.

    Raises
    ------
    ValueError
        If labels do not fit, or there are fewer voices or photographs than a batch.
    """
    classes = int(people.max()) + 1
    if int(speech.identities.max()) >= classes or len(images) != len(people):
        raise ValueError(
            f"people: expected a label for each of {len(images)} photographs, in the numbering of the voices (up to "
            f"{int(speech.identities.max())}), found {len(people)} labels up to {classes - 1}"
        )
    if min(len(images), len(speech.identities)) < config.batch:
        raise ValueError(
            f"a batch of {config.batch} needs as many voices and photographs, found {len(speech.identities)} and {len(images)}"
        )
    # Channels innermost: the same numbers, and about two thirds of the time of a step on a CPU.
    generator, critics, images = (
        value.to(memory_format=torch.channels_last)
        for value in (Generator(sizes, seed=seed), Critics(sizes, classes, seed=seed + 1), images)
    )
    if config.first_weights == "relu":
        chance = torch.Generator().manual_seed(seed)
        for player in (generator, critics):
            rectified_weights_(player, chance)
    # One Adam serves both players: a parameter without a gradient, which is everything of the player whose turn it is not, is left alone.
    players = [*generator.parameters(), *critics.parameters()]
    optimizer = torch.optim.Adam(players, lr=config.lr, betas=config.betas, fused=True)
    labels, images, people = speech.identities.to(fabric.device), images.to(fabric.device), people.to(fabric.device)
    encoder = encoder.to(fabric.device)
    averaged = copy.deepcopy(generator).requires_grad_(False)
    follow = torch.optim.swa_utils.get_ema_multi_avg_fn(config.average)
    modules = {"generator": generator, "critics": critics, "averaged": averaged}
    run = training.Run(fabric, modules, optimizer, steps=2 * config.steps, checkpoint=checkpoint, apart=("averaged",))
    generate, judge = run.modules["generator"], run.modules["critics"]
    fakes = None
    for turn in run:
        step, generator_moves = divmod(turn, 2)
        if fakes is None:  # also after resuming in the middle of an iteration
            chance = _chance(seed, step)
            rows = whole_batch.own(training.batch_indices(len(labels), config.batch, step, seed=seed + 2))
            speakers = labels[rows.to(fabric.device)]
            crops = speech.crops(rows, generator=chance, spans=config.spans).to(fabric.device)
            with torch.no_grad():
                unit = on_sphere(encoder(crops.transpose(1, 2)))
            fakes = generate(blurred(unit, config.noise, chance))
        if generator_moves:
            with fabric.no_backward_sync(
                judge
            ):  # the critics are frozen: processes have no gradients of theirs to average
                losses = turn_losses(judge, fakes, speakers)
            total = losses["fooled"] + config.identity * losses["speaker"]
            logged, fakes = losses | {"spread": diversity(whole_batch.gather(fakes.detach()))}, None
        else:
            seen = whole_batch.own(training.batch_indices(len(images), config.batch, step, seed=seed + 3)).to(
                fabric.device
            )
            losses = turn_losses(judge, fakes, speakers, random_flips(images[seen], chance), people[seen])
            total, logged = sum(losses.values()), dict(losses)
            if watched is not None and step in watch_at:
                logged["watched"] = averaged(watched.to(fabric.device))
        run.update(total, **logged)
        if generator_moves:
            follow(list(averaged.parameters()), list(generator.parameters()), None)
    critics.eval().requires_grad_(False)
    return averaged.eval(), critics, {name: values for name, values in run.history.items() if name != "loss"}


# ------------------------------------------------------------------------------------------------- 6. monitors of the game


def chance_levels(classes: int) -> dict[str, float]:
    """What each loss is for players that know nothing: log 2 where the question is "real?", log K where it is "who?"."""
    return dict.fromkeys(("real", "fake", "fooled"), math.log(2)) | dict.fromkeys(("who", "speaker"), math.log(classes))


def diversity(images: Float[Tensor, "n 3 height width"]) -> float:
    r"""Root mean squared difference between two pictures of a set, a pixel: 0 if all are the same, whatever they look like.

    .. math:: D = \sqrt{\tfrac{1}{n(n-1)} \sum_{i \ne j} \overline{(x_i - x_j)^2}} = \sqrt{2\,\overline{\operatorname{var}(x)}}

    A generator whose modes have collapsed falls far below the photographs.

    Raises
    ------
    ValueError
        For fewer than two pictures.
    """
    if len(images) < 2:
        raise ValueError(f"diversity: expected at least two pictures, found {len(images)}")
    # As one norm: a variance over the first dimension takes eight times as long, and training asks for it at every step.
    deviation = torch.linalg.vector_norm(images - images.mean(dim=0), dtype=torch.float64)
    return float(deviation) * math.sqrt(2 / ((len(images) - 1) * images[0].numel()))


# ---------------------------------------------------------------------------------------- 7. from a recording to a picture


def displayed(images: Float[Tensor, "n 3 side side"], *, stretch: bool = False) -> Float[Tensor, "n 3 side side"]:
    r"""Pictures for the screen, in [0, 1]: clamped to [-1, 1] and shifted.

    Parameters
    ----------
    images
        From the generator.
    stretch
        Stretch each picture to its own darkest and brightest value, as the published code does on saving. Contrast then differs
        between pictures.
    """
    shown = images.clamp(-1, 1)
    if not stretch:
        return shown / 2 + 0.5
    low, high = (edge(shown.flatten(1), dim=1).values[:, None, None, None] for edge in (torch.min, torch.max))
    return (shown - low) / (high - low).clamp(min=1e-5)


class Reconstructor(nn.Module):
    r"""What is left when training is over: :math:`\hat x = F_g(\mathrm{norm}(F_e(v)))`.

    Parameters
    ----------
    encoder, generator
        The two networks.
    sizes
        Their widths.
    front_end
        How sound becomes what the voice network reads.
    """

    def __init__(self, encoder: VoiceEncoder, generator: Generator, sizes: Sizes, front_end: FrontEnd) -> None:
        super().__init__()
        self.voice, self.generator, self.sizes, self.front_end = encoder, generator, sizes, front_end
        self.eval().requires_grad_(False)

    def forward(self, log_mel: Float[Tensor, "batch bands time"]) -> Float[Tensor, "batch 3 side side"]:
        """Faces for recordings of equal length, not clamped."""
        return self.generator(on_sphere(self.voice(log_mel)))

    def face_of(
        self, samples: Float[Tensor, " samples"], *, sample_rate: int = 16_000
    ) -> Float[Tensor, "1 3 side side"]:
        """A face for one recording: silence out, log-mel, normalised, short ones repeated, then both networks.

        Parameters
        ----------
        samples
            In [-1, 1].
        sample_rate
            Must be that of the front end; `paper_utils.audio_files.read_audio` resamples files.

        Raises
        ------
        NoSpeechError
            If there is less than 0.3 s of speech (`paper_utils.data.voice_features`).
        ValueError
            If the rate is another one, or samples are missing, NaN or infinite.
        """
        if sample_rate != self.front_end.mel.sample_rate:
            raise ValueError(
                f"sample_rate: expected {self.front_end.mel.sample_rate} Hz, found {sample_rate}; resample the recording first "
                "(paper_utils.audio_files.resample)"
            )
        return self(self.front_end.features(samples).T[None])


# ---------------------------------------------------------------------------------------------------------------- 8. files


def save(model: Reconstructor, path: Path) -> None:
    """Write voice network and generator with their sizes and front end, as safetensors."""
    about = {
        "sizes": json.dumps(dataclasses.asdict(model.sizes)),
        "front_end": json.dumps(dataclasses.asdict(model.front_end)),
    }
    save_networks(model, path, FORMAT, about)


def load(path: Path) -> Reconstructor:
    """Read what `save` wrote.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ModelFileError
        If it is truncated or not ours.
    """
    file = read_networks(path, FORMAT)
    sizes, front_end = file.config("sizes", Sizes), file.config("front_end", FrontEnd)
    file.check_range(1, LONGEST, minimum=front_end.minimum)
    return _assembled(file, sizes, front_end)


def load_official(voice_path: Path, generator_path: Path) -> Reconstructor:
    """Networks from the checkpoints published with the paper: ``voice_embedding.pth`` and ``generator.pth``.

    Each holds a plain state dict with names such as ``model.0.weight``; widths are read off the shapes, so narrower networks trained with the
    authors' code load too. Pickled code is never run.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ModelFileError
        If it holds something else.
    """
    voice, generator = (_official_state(Path(path)) for path in (voice_path, generator_path))
    state = {f"voice.{n}": v for n, v in voice.items()} | {f"generator.{n}": v for n, v in generator.items()}
    source = f"{voice_path}, {generator_path}"
    try:
        sizes = _sizes_of(voice, generator)
    except KeyError as error:
        raise ModelFileError(
            f"{source}: {error} is missing; expected the names model.0.weight, ... of paper 03"
        ) from None
    except (IndexError, ValueError) as error:
        raise ModelFileError(f"{source}: expected the shapes of the networks of paper 03 ({error})") from error
    return _assembled(NetworkFile(source, {}, state), sizes, FrontEnd(activity="webrtc"))


def _official_state(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; it is published with the authors' code of paper 03")
    try:
        state = read_state(path)
    except CheckpointNamesError as error:
        raise ModelFileError(f"no readable checkpoint: {error}") from error
    return {name.removeprefix("module."): value for name, value in state.items()}


def _sizes_of(voice: Mapping[str, Tensor], generator: Mapping[str, Tensor]) -> Sizes:
    """Widths from the shapes of the official tensors; the face network, which was never published, gets the paper's."""
    convolutions = [voice[f"model.{index}.weight"] for index in (0, 3, 6, 9, 12)]
    makers = [generator[f"model.{index}.weight"] for index in range(0, len(generator), 2)]
    return Sizes(
        bands=convolutions[0].shape[1],
        dim=convolutions[-1].shape[0],
        voice=tuple(weight.shape[0] for weight in convolutions[:-1]),
        generator=tuple(weight.shape[1] for weight in makers[:-1]),
        face=tuple(32 * 2**index for index in range(len(makers) - 1)),
    )


def _assembled(file: NetworkFile, sizes: Sizes, front_end: FrontEnd) -> Reconstructor:
    def make() -> Reconstructor:
        encoder = VoiceEncoder(sizes.bands, sizes.dim, channels=sizes.voice)
        return Reconstructor(encoder, Generator(sizes, seed=0), sizes, front_end)

    return file.network(make)
