r"""What is measured in notebook 04: what leaks between inputs, what the latent model knows, what it says when it draws.

The independent unit of every interval is the test person: functions return one number a person, `over_people` makes the interval.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from paper_utils.data.talking_faces import FaceMesh
from paper_utils.experiment import Experiment
from paper_utils.methods import meshtalk
from paper_utils.metrics.face_motion import region_rms, sample_diversity, variance_ratio
from paper_utils.metrics.lip_closure import inner_lip_gap
from paper_utils.metrics.lips import lip_error
from paper_utils.metrics.statistics import Estimate, bootstrap_interval
from paper_utils.nn.heads_sampler import HeadsSampler
from paper_utils.nn.meshtalk_networks import ContextModel, Regressor, VertexUnet, one_hot

RESAMPLES = 2000  # of test people, for every interval
OWN, SWAPPED_EXPRESSION, SWAPPED_AUDIO = meshtalk.OWN, meshtalk.EXPRESSION_SWAPPED, meshtalk.AUDIO_SWAPPED
REGIONS = ("lips", "mouth", "upper_face", "eyelids")


# ------------------------------------------------------------------------------------------------------ 1. what leaks


@dataclass(frozen=True)
class Inputs:
    """Test segments as the encoders see them.

    Parameters
    ----------
    segments
        The segments.
    expression, audio
        Codes of mesh and sound.
    """

    segments: meshtalk.Segments
    expression: Float[Tensor, "segments time expression"]
    audio: Float[Tensor, "segments time audio"]

    @classmethod
    @torch.no_grad()
    def of(cls, model: meshtalk.JointModel, segments: meshtalk.Segments, *, batch: int = 16) -> Inputs:
        """Encode all segments."""
        parts = segments.batches(batch)
        expression = [model.encoder.expression_encoder(part.vertices) for part in parts]
        audio = [model.encoder.audio_encoder(part.log_mel) for part in parts]
        return cls(segments, torch.cat(expression), torch.cat(audio))


def stranger(subjects: Int[Tensor, " segments"]) -> Int[Tensor, " segments"]:
    """For each segment one of another person: the rotation of the list, sorted by person, by as many as the most that one person has.

    If one person has more than half of all, not everybody can be paired with a segment of its own: that person's segments get those of the
    others in turn, some of them more than once.

    Raises
    ------
    ValueError
        If all are of one person.

    Examples
    --------
    >>> stranger(torch.tensor([0, 0, 1, 1, 2])).tolist()
    [2, 3, 4, 0, 1]
    >>> stranger(torch.tensor([0, 0, 0, 1])).tolist()
    [3, 3, 3, 0]
    """
    order = torch.argsort(subjects, stable=True)
    counts = torch.bincount(subjects)
    most = int(counts.max())
    if most == len(subjects):
        raise ValueError(f"segments: all {most} are of one person; an exchange between people needs two")
    partner = torch.empty_like(order)
    if 2 * most <= len(subjects):
        partner[order] = order.roll(-most)
        return partner
    many = subjects == counts.argmax()
    (mine,), (others,) = torch.nonzero(many, as_tuple=True), torch.nonzero(~many, as_tuple=True)
    partner[mine] = others[torch.arange(len(mine)) % len(others)]
    partner[others] = mine[: len(others)]
    return partner


@torch.no_grad()
def decode(
    model: meshtalk.JointModel,
    inputs: Inputs,
    *,
    expression: Int[Tensor, " segments"] | None = None,
    audio: Int[Tensor, " segments"] | None = None,
) -> tuple[Float[Tensor, "segments time vertices 3"], Int[Tensor, "segments time heads"]]:
    """Meshes and labels of all segments, with the most probable codes and the rest face of the truth.

    Parameters
    ----------
    model, inputs
        A model, and the segments as it encodes them.
    expression, audio
        Which segment's expression and sound each one gets; None: its own.
    """
    expressions = inputs.expression if expression is None else inputs.expression[expression]
    audios = inputs.audio if audio is None else inputs.audio[audio]
    labels = model.encoder.fusion_model.logits(expressions, audios).argmax(-1)
    return decoded_labels(model.decoder, inputs.segments, labels), labels


@torch.no_grad()
def decoded_labels(
    decoder: VertexUnet, segments: meshtalk.Segments, labels: Int[Tensor, "segments time heads"]
) -> Float[Tensor, "segments time vertices 3"]:
    """Meshes of labels, with the rest faces of the segments."""
    templates = segments.faces.templates[segments.subjects]
    return decoder(templates, one_hot(labels, decoder.code_shape[1]))


def by_subject(
    squares: Float[Tensor, " segments"], subjects: Int[Tensor, " segments"]
) -> Float[np.ndarray, " subjects"]:
    """Mean over the segments of each person, in the order of their numbers; the unit of every bootstrap here."""
    return np.array([float(squares[subjects == person].double().mean()) for person in subjects.unique().tolist()])


@dataclass(frozen=True)
class Leaks:
    """Errors of a model on unseen people when inputs are their own and when one is somebody else's; RMS mm of each person.

    Parameters
    ----------
    errors
        ``errors[decoded][region]``; ``decoded`` is own, expression_swapped, audio_swapped, or ``"mean pose"``: the person at rest moved by
        the mean displacement of the training, which knows nothing of the utterance.
    """

    errors: dict[str, dict[str, Float[np.ndarray, " subjects"]]]

    def log_ratio(self, above: str, below: str, region: str) -> Float[np.ndarray, " subjects"]:
        r""":math:`\ln(E_\mathrm{above} / E_\mathrm{below})` of each person."""
        return np.log(self.errors[above][region] / self.errors[below][region])


def true_vertices(segments: meshtalk.Segments) -> Float[Tensor, "segments time vertices 3"]:
    """What the faces really did."""
    frames = (segments.faces.starts[segments.rows[:, 0]] + segments.rows[:, 1])[:, None] + torch.arange(segments.length)
    return segments.faces.vertices[frames]


def errors(
    predicted: Float[Tensor, "segments time vertices 3"], segments: meshtalk.Segments
) -> dict[str, Float[np.ndarray, " subjects"]]:
    """RMS vertex distance of each region and person, mm."""
    truth, mesh = true_vertices(segments), segments.faces.mesh
    squares = {name: region_rms(predicted, truth, mesh.region(name)).square() for name in REGIONS}
    return {name: np.sqrt(by_subject(values, segments.subjects)) for name, values in squares.items()}


def leaks(model: meshtalk.JointModel, inputs: Inputs, mean_motion: Float[Tensor, "vertices 3"]) -> Leaks:
    """Exchange inputs between unseen people and measure what changes; `mean_motion` is the mean displacement of the training."""
    segments, partner = inputs.segments, stranger(inputs.segments.subjects)
    rest = segments.faces.templates[segments.subjects][:, None].expand(-1, segments.length, -1, -1)
    found = {
        OWN: decode(model, inputs)[0],
        SWAPPED_EXPRESSION: decode(model, inputs, expression=partner)[0],
        SWAPPED_AUDIO: decode(model, inputs, audio=partner)[0],
        "mean pose": rest + mean_motion,
    }
    return Leaks({name: errors(meshes, segments) for name, meshes in found.items()})


def one_frame_late(model: meshtalk.JointModel, inputs: Inputs) -> dict[str, Float[np.ndarray, " subjects"]]:
    """Errors with the person's own expression, one frame late: the exchange that changes nothing but the machinery."""
    late = torch.cat([inputs.expression[:, :1], inputs.expression[:, :-1]], 1)
    return errors(decode(model, dataclasses.replace(inputs, expression=late))[0], inputs.segments)


@torch.no_grad()
def influence(
    model: meshtalk.JointModel, inputs: Inputs
) -> tuple[Float[Tensor, " vertices"], Float[Tensor, " vertices"]]:
    """How far each vertex moves when only the sound, and when only the expression is somebody else's: mean distance in mm (figure 5)."""
    partner = stranger(inputs.segments.subjects)
    own = decode(model, inputs)[0]
    by_audio, by_expression = (
        (decode(model, inputs, **{which: partner})[0] - own).norm(dim=-1).mean((0, 1))
        for which in ("audio", "expression")
    )
    return by_audio, by_expression


def changed_heads(
    model: meshtalk.JointModel, inputs: Inputs
) -> tuple[Float[np.ndarray, " heads"], Float[np.ndarray, " heads"]]:
    """Share of frames in which each head takes another class when only the sound, and when only the expression is exchanged (figure 4)."""
    partner = stranger(inputs.segments.subjects)
    own = decode(model, inputs)[1]
    by_audio, by_expression = (
        (decode(model, inputs, **{which: partner})[1] != own).float().mean((0, 1)).numpy()
        for which in ("audio", "expression")
    )
    return by_audio, by_expression


# ------------------------------------------------------------------------------------------ 2. what the latent model knows


@torch.no_grad()
def nll_of_subjects(
    model: ContextModel, codes: meshtalk.Codes, subjects: Int[Tensor, " segments"]
) -> Float[np.ndarray, "subjects heads"]:
    """Negative log-likelihood of the labels of each person and head, in nats."""
    each = meshtalk.nll(model(codes.labels, codes.audio), codes.labels).mean(1)
    return np.stack([by_subject(head, subjects) for head in each.T], 1)


def unigram_nll(
    train: meshtalk.Codes, test: meshtalk.Codes, subjects: Int[Tensor, " segments"], classes: int
) -> Float[np.ndarray, "subjects heads"]:
    """The same of somebody who only counted the training labels of each head, one added to every count."""
    counts = functional.one_hot(train.labels, classes).sum((0, 1)) + 1
    log_probs = (counts / counts.sum(-1, keepdim=True)).log()
    each = meshtalk.nll(log_probs.expand(*test.labels.shape, classes), test.labels).mean(1)
    return np.stack([by_subject(head, subjects) for head in each.T], 1)


def torn(codes: meshtalk.Codes, subjects: Int[Tensor, " segments"], generator: torch.Generator) -> meshtalk.Codes:
    """The same labels with frames in random order and somebody else's sound: neither sound nor history fits any more."""
    order = torch.randperm(codes.labels.shape[1], generator=generator)
    return meshtalk.Codes(codes.audio[stranger(subjects)], codes.labels[:, order])


# ------------------------------------------------------------------------------------------------------ 3. what it says


@torch.no_grad()
def drawn(
    networks: meshtalk.MeshTalk,
    inputs: Inputs,
    *,
    samples: int,
    seed: int,
    audio: Int[Tensor, " segments"] | None = None,
) -> Float[Tensor, "samples segments time vertices 3"]:
    """Faces from the sound alone.

    Parameters
    ----------
    networks
        What speaks.
    inputs
        Test segments; only their sound is used.
    samples
        How many; 0: one, of the most probable code at every step.
    seed
        Of the draws.
    audio
        Whose sound each one gets; None: its own.
    """
    codes = inputs.audio if audio is None else inputs.audio[audio]
    sampler = HeadsSampler(networks.context, batch=len(codes))
    made = []
    for number in range(max(samples, 1)):
        sampler.reset()
        chance = torch.Generator().manual_seed(seed + number) if samples else None
        labels = sampler.step(codes, generator=chance)
        made.append(decoded_labels(networks.decoder, inputs.segments, labels))
    return torch.stack(made)


@torch.no_grad()
def regressed(
    model: Regressor, segments: meshtalk.Segments, audio: Int[Tensor, " segments"] | None = None, *, batch: int = 16
) -> Float[Tensor, "segments time vertices 3"]:
    """The deterministic faces; `audio` as for `drawn`."""
    rows = torch.arange(len(segments)) if audio is None else audio
    heard = torch.cat([part.log_mel for part in (segments.batch(index) for index in rows.split(batch))])
    templates = segments.faces.templates[segments.subjects]
    return torch.cat([model(t, a) for t, a in zip(templates.split(batch), heard.split(batch), strict=True)])


def lip_errors(
    predicted: Float[Tensor, "segments time vertices 3"], segments: meshtalk.Segments
) -> Float[np.ndarray, " subjects"]:
    """The authors' lip error (centred, worst vertex, mean over frames) of each person, mm."""
    each = lip_error(predicted, true_vertices(segments), segments.faces.mesh.region("lips")).mean(1)
    return by_subject(each, segments.subjects)


def liveliness(
    predicted: Float[Tensor, "segments time vertices 3"], segments: meshtalk.Segments, region: str
) -> Float[np.ndarray, " subjects"]:
    """Variance over time of the prediction over that of the truth, of each person."""
    ratio = variance_ratio(predicted, true_vertices(segments), segments.faces.mesh.region(region))
    return by_subject(ratio, segments.subjects)


def diversity(
    samples: Float[Tensor, "samples segments time vertices 3"], segments: meshtalk.Segments, region: str
) -> Float[np.ndarray, " subjects"]:
    """Variance over draws over the truth's variance over time, of each person."""
    ratio = sample_diversity(samples, true_vertices(segments), segments.faces.mesh.region(region))
    return by_subject(ratio, segments.subjects)


def explained(
    predicted: Float[Tensor, "segments time vertices 3"], segments: meshtalk.Segments, region: str
) -> Float[np.ndarray, " subjects"]:
    r"""Share of a region's motion that a prediction explains, of each person.

    .. math:: 1 - \frac{\sum_t \lVert (\hat x_t - x_t) - \overline{(\hat x - x)} \rVert^2}{\sum_t \lVert x_t - \bar x \rVert^2}

    with means over the segment, so that a constant offset counts for nothing.
    """
    truth, where = true_vertices(segments), segments.faces.mesh.region(region)
    missed, moved = ((meshes[:, :, where].var(1, correction=0)).sum((1, 2)) for meshes in (predicted - truth, truth))
    return 1 - by_subject(missed, segments.subjects) / by_subject(moved, segments.subjects)


def over_people(exp: Experiment, values: Float[np.ndarray, " subjects"], name: str) -> Estimate:
    """Mean over test people with its bootstrap interval."""
    return bootstrap_interval(values, rng=exp.rng(name), resamples=RESAMPLES)


def retargeted(
    model: meshtalk.JointModel, inputs: Inputs
) -> tuple[Float[Tensor, "segments time vertices 3"], Float[Tensor, "segments time vertices 3"]]:
    """The codes of each segment on somebody else's face, and that face with the very displacements of the first person."""
    segments = inputs.segments
    partner = stranger(segments.subjects)
    labels = decode(model, inputs)[1]
    others = segments.faces.templates[segments.subjects[partner]]
    with torch.no_grad():
        made = model.decoder(others, one_hot(labels, model.decoder.code_shape[1]))
    moved = true_vertices(segments) - segments.faces.templates[segments.subjects][:, None]
    return made, others[:, None] + moved


class Openings(NamedTuple):
    """What a face opens, frame by frame, in mm: mouth (mean over pairs of lips), lids (mean over eyes), and the height of the brows."""

    mouth: Float[Tensor, "*lead time"]
    lids: Float[Tensor, "*lead time"]
    brows: Float[Tensor, "*lead time"]


def openings(meshes: Float[Tensor, "*lead time vertices 3"], mesh: FaceMesh) -> Openings:
    """Openings of faces of the world.

    Raises
    ------
    ValueError
        If the mesh has no lip pairs, or no regions of brows and lids.
    """
    if mesh.lip_pairs is None or not {"brows", "eyelids"} <= set(mesh.regions):
        raise ValueError(
            f"{mesh.name}: openings need lip pairs and regions brows and eyelids; the world's meshes have them"
        )
    edges = meshes[..., mesh.region("eyelids"), :]
    left = edges.flatten(0, -3)[0, :, 0] > 0
    eyes = [edges[..., side, 1].amax(-1) - edges[..., side, 1].amin(-1) for side in (left, ~left)]
    lips = inner_lip_gap(meshes, *mesh.lip_pairs.T)
    return Openings(lips, sum(eyes) / 2, meshes[..., mesh.region("brows"), 1].mean(-1))


def region_counts(mesh: FaceMesh) -> dict[str, int]:
    """Vertices of each region that errors are measured on."""
    return {name: int(mesh.region(name).sum()) for name in REGIONS}
