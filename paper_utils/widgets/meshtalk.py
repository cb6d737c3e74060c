"""Pictures and explorers of paper 04: exchanged inputs, maps of influence, labels with their cone of dependency, fans of samples, a vote."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from paper_utils import plotting
from paper_utils.animation import ColourScale, Framing, mesh_film
from paper_utils.audio import scale_loudness
from paper_utils.audio_windows import window_features
from paper_utils.film import Film
from paper_utils.methods import meshtalk
from paper_utils.metrics.statistics import Estimate, wilson_interval
from paper_utils.nn.heads_sampler import HeadsSampler
from paper_utils.nn.meshtalk_networks import Sizes, head_dependencies
from paper_utils.studies import meshtalk_measures as measures
from paper_utils.widgets.explorer import Pictured, explorer, fewer_colours
from paper_utils.world.face import head
from paper_utils.world.speakers import Speakers
from paper_utils.world.speech import utterance
from paper_utils.world.talking_faces import on_head
from paper_utils.world.voice import waveform

FPS = 30.0
SIDE = 110  # pixels of a face in a widget
SENTENCE = "M AY1 M AH1 DH ER0 AO2 L W EY0 Z B AO1 T B R EH1 D"
PAPER_STUDY = {  # table 3: competitor better, equal, ours better; percent
    "full face": (24.7, 20.9, 54.4),
    "lip sync": (23.0, 19.8, 57.2),
    "upper face": (33.6, 21.6, 44.8),
}


# --------------------------------------------------------------------------------------------------------------- pictures


def draw_paper(ax: Axes) -> None:
    """Votes of the paper's user study against VOCA."""
    names = list(PAPER_STUDY)
    left = np.zeros(len(names))
    for number, (label, color) in enumerate((("VOCA better", 7), ("equal", 5), ("MeshTalk better", 0))):
        values = np.array([PAPER_STUDY[name][number] for name in names])
        ax.barh(names, values, left=left, color=plotting.PALETTE[color], label=label)
        for row, (value, begin) in enumerate(zip(values, left, strict=True)):
            ax.text(begin + value / 2, row, f"{value:.0f}", ha="center", va="center", color="white", fontsize=10)
        left += values
    ax.axvline(50, color="black", linestyle=":", linewidth=1.2)
    ax.invert_yaxis()
    ax.set(title="Which of two clips looks more natural?", xlabel="votes (%)", xlim=(0, 100))
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.25), ncols=3)


def head_film(
    motion: Float[Tensor, "time vertices 3"],
    neutral: Float[Tensor, "head_vertices 3"],
    *,
    fps: float = FPS,
    size: int = SIDE,
    yaw_deg: float = 18.0,
) -> Film:
    """A film of a whole head that moves as the vertices of the set ``"front"`` say; all heads in the same view."""
    model = head(2)
    framing = Framing.around(model.vertices[None], yaw_deg=yaw_deg, margin=0.1)
    return mesh_film(on_head(motion, neutral), model.faces, fps, framing=framing, size=size)


def draw_maps(
    maps: Mapping[str, Float[Tensor, " vertices"]],
    vertices: Float[Tensor, "vertices 3"],
    faces: Int[Tensor, "triangles 3"],
    scale: ColourScale,
    *,
    title: str = "",
    size: int = 170,
) -> Figure:
    """A face mesh for each map, coloured by a number at each vertex, with one colour bar."""
    films = {
        name: mesh_film(vertices[None], faces, 1.0, colours=scale.colours(v), size=size) for name, v in maps.items()
    }
    fig, axes = plt.subplots(1, len(films), figsize=(2.5 * len(films) + 1.2, 3.1), squeeze=False)
    for ax, (name, film) in zip(axes[0], films.items(), strict=True):
        ax.imshow(film.pictures[0])
        ax.set(xticks=[], yticks=[])
        ax.set_title(name, fontsize=10)
        ax.spines[:].set_visible(False)
    mapped = plt.cm.ScalarMappable(plt.Normalize(scale.low, scale.high), scale.colormap)
    fig.colorbar(mapped, ax=axes, label=scale.label, shrink=0.85)
    if title:
        fig.suptitle(title, fontsize=12, fontweight="bold")
    return fig


def draw_estimates(
    ax: Axes, values: Mapping[str, Estimate], *, title: str, xlabel: str, line: float | None = None
) -> None:
    """One dot with its interval for each name, from top to bottom; `line` is the line of a claim."""
    for row, estimate in enumerate(values.values()):
        color = plotting.PALETTE[0]
        ax.plot([estimate.low, estimate.high], [row, row], color=color, linewidth=3, solid_capstyle="butt")
        ax.plot(estimate.value, row, "o", color=color, markersize=7)
    if line is not None:
        ax.axvline(line, color="black", linestyle=":", linewidth=1.4)
    ax.set_yticks(range(len(values)), list(values))
    ax.set_ylim(len(values) - 0.5, -0.5)
    ax.set(title=title, xlabel=xlabel)


def draw_heads(ax: Axes, nll: Mapping[str, Float[np.ndarray, "subjects heads"]]) -> None:
    """Mean negative log-likelihood of every head, a bar for each model."""
    width = 0.8 / len(nll)
    for number, (name, values) in enumerate(nll.items()):
        places = np.arange(values.shape[1]) + width * (number - (len(nll) - 1) / 2)
        ax.bar(places, values.mean(0), width, label=name, color=plotting.PALETTE[(7, 1, 0)[number % 3]])
    ax.set(title="How surprising is the next label?", xlabel="head", ylabel="negative log-likelihood (nat)")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=len(nll))


def reach(sizes: Sizes, frames: int, frame: int, of_head: int) -> Bool[np.ndarray, "heads frames"]:
    """Which labels the distribution of one label can depend on.

    Parameters
    ----------
    sizes
        Heads, dilations and mask.
    frames
        Length of the picture.
    frame, of_head
        The label.
    """
    table = head_dependencies(sizes, delays=frames)[0]
    cone = np.zeros((sizes.heads, frames), dtype=bool)
    for delay in range(frame + 1):
        cone[:, frame - delay] = table[delay, of_head].numpy()
    return cone


def draw_labels(
    ax: Axes, labels: Int[Tensor, "time heads"], sizes: Sizes, frame: int, of_head: int, *, title: str = ""
) -> None:
    """Labels as colours, head by frame; those that one label can depend on stay bright, the label itself has a frame."""
    cone = reach(sizes, len(labels), frame, of_head)
    colours = plt.get_cmap("tab20")(labels.T.numpy() % 20)[..., :3]
    shown = np.where(cone[..., None], colours, 0.82 + 0.18 * colours)
    ax.imshow(shown, aspect="auto", interpolation="nearest", origin="upper")
    ax.add_patch(plt.Rectangle((frame - 0.5, of_head - 0.5), 1, 1, fill=False, edgecolor="black", linewidth=2.2))
    ax.set(title=title, xlabel="frame", ylabel="head")
    ax.grid(False)


def draw_fan(
    ax: Axes,
    samples: Float[np.ndarray, "samples time"],
    truth: Float[np.ndarray, " time"],
    *,
    title: str,
    ylabel: str,
    fps: float = FPS,
) -> None:
    """Curves of several draws for one sound, and what the person really did."""
    seconds = np.arange(len(truth)) / fps
    for number, sample in enumerate(samples):
        ax.plot(
            seconds, sample, color=plotting.PALETTE[0], alpha=0.55, linewidth=1.2, label="" if number else "samples"
        )
    ax.plot(seconds, truth, color="black", linewidth=2, label="truth")
    ax.set(title=title, xlabel="time (s)", ylabel=ylabel)
    ax.legend()


# ------------------------------------------------------------------------------------------------------ exchanged inputs


@dataclass(frozen=True)
class Exchange:
    """Models, how each sees the test segments, and the heads that show what they make of them.

    Parameters
    ----------
    models, inputs
        By name of the loss.
    heads
        Whole heads at rest of the subjects.
    """

    models: Mapping[str, meshtalk.JointModel]
    inputs: Mapping[str, measures.Inputs]
    heads: Float[Tensor, "people head_vertices 3"]

    def motion(self, loss: str, heard: int, seen: int) -> Float[Tensor, "time vertices 3"]:
        """Displacements of the person who is heard, with the sound of segment `heard` and the expression of segment `seen`."""
        inputs = self.inputs[loss]
        one = measures.Inputs(inputs.segments, inputs.expression[[seen]], inputs.audio[[heard]])
        labels = self.models[loss].encoder.fusion_model.logits(one.expression, one.audio).argmax(-1)
        template = inputs.segments.faces.templates[inputs.segments.subjects[heard]]
        codes = torch.nn.functional.one_hot(labels, self.models[loss].decoder.code_shape[1]).float()
        with torch.no_grad():
            return self.models[loss].decoder(template[None], codes)[0] - template

    def truth(self, segment: int) -> Float[Tensor, "time vertices 3"]:
        """Displacements that were recorded."""
        segments = next(iter(self.inputs.values())).segments
        person = int(segments.subjects[segment])
        return measures.true_vertices(segments)[segment] - segments.faces.templates[person]

    def draw(self, heard: int, seen: int, frame: int, *, side: int = SIDE) -> Figure:
        """Both originals, and for each loss the mixture, at one frame."""
        segments = next(iter(self.inputs.values())).segments
        person = int(segments.subjects[heard])
        shown = {
            f"sound: {heard}": (self.truth(heard), person),
            f"expression: {seen}": (self.truth(seen), int(segments.subjects[seen])),
            **{loss: (self.motion(loss, heard, seen), person) for loss in self.models},
        }
        fig, axes = plt.subplots(1, len(shown), figsize=(2.3 * len(shown), 2.7))
        for ax, (name, (motion, who)) in zip(axes, shown.items(), strict=True):
            film = head_film(motion[frame : frame + 1], self.heads[who], size=side, yaw_deg=0.0)
            ax.imshow(film.pictures[0])
            ax.set_title(name, fontsize=10)
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        fig.suptitle("Mouth of one, brows of the other?", fontsize=12, fontweight="bold")
        return fig


def explore_exchange(exchange: Exchange, *, seen: int = 0, frame: int = 0) -> widgets.VBox:
    """Choose whose sound and whose expression, beginning with the first sound, the expression `seen` and the frame."""
    segments = next(iter(exchange.inputs.values())).segments
    last = len(segments) - 1

    def draw(heard: int, seen: int, frame: int) -> Figure:
        return exchange.draw(heard, seen, frame)

    return explorer(
        draw,
        {
            "heard": widgets.IntSlider(0, min=0, max=last, description="sound"),
            "seen": widgets.IntSlider(seen, min=0, max=last, description="expression"),
            "frame": widgets.IntSlider(frame, min=0, max=segments.length - 1, description="frame"),
        },
    )


def explore_labels(labels: Int[Tensor, "time heads"], sizes: Mapping[str, Sizes]) -> widgets.VBox:
    """Choose a label and a mask, and see what the label can depend on."""

    def draw(frame: int, of_head: int, mask: str) -> Figure:
        fig, ax = plotting.figure(width=8, height=2.8)
        draw_labels(ax, labels, sizes[mask], frame, of_head, title=f"{mask} mask: labels in full colour are read")
        return fig

    return explorer(
        draw,
        {
            "frame": widgets.IntSlider(len(labels) - 4, min=0, max=len(labels) - 1),
            "of_head": widgets.IntSlider(0, min=0, max=labels.shape[1] - 1, description="head"),
            "mask": widgets.ToggleButtons(options=list(sizes)),
        },
    )


# ----------------------------------------------------------------------------------------------------------- made voices


def made_voice(length: float, f0_hz: float, *, sentence: str = SENTENCE) -> Float[Tensor, " samples"]:
    """One sentence by a speaker between the average woman and the average man.

    Parameters
    ----------
    length
        Of the vocal tract: 0 the woman's, 1 the man's; values outside go on in the same direction.
    f0_hz
        Base of the pitch.
    sentence
        Phones in ARPABET.
    """
    woman, man = (vars(Speakers.typical(who)) for who in ("woman", "man"))
    between = {name: woman[name] * (man[name] / woman[name]) ** length for name in woman}
    speaker = Speakers(**(between | {"f0_hz": np.array([f0_hz])}))
    said = utterance(sentence, rng=np.random.default_rng(0))
    return waveform([said], speaker, 0, seed=0, sections=22)[0]


def draw_heard(
    networks: meshtalk.MeshTalk,
    template: Float[Tensor, "vertices 3"],
    opening: Callable[[Tensor], Tensor],
    samples: Mapping[str, Float[Tensor, " samples"]],
    *,
    levelled: bool = True,
) -> Figure:
    """Opening of the mouth for several sounds (most probable codes), and how far their audio codes are from the first one's.

    Parameters
    ----------
    networks, template
        What speaks, and whose face.
    opening
        Opening of the mouth of meshes, mm.
    samples
        Sounds by name, of one length.
    levelled
        Bring every sound to the loudness of the training first, as the method does; False shows why it does.
    """
    fig, axes = plotting.figure(2, width=11, height=3.2)
    first: Tensor | None = None
    for number, (name, sound) in enumerate(samples.items()):
        heard = scale_loudness(sound[None], meshtalk.MEAN_ABS) if levelled else sound[None] * 0.1
        features = window_features(heard, networks.windows)
        with torch.no_grad():
            codes = networks.encoder.audio_encoder(features)
            labels = HeadsSampler(networks.context).step(codes)
            one_hot = torch.nn.functional.one_hot(labels, networks.context.sizes.classes).float()
            meshes = networks.decoder(template[None], one_hot)[0]
        first = codes if first is None else first
        seconds = np.arange(len(meshes)) / float(networks.windows.fps)
        style = {"color": plotting.PALETTE[number % 6], "label": name, "linewidth": 1.6}
        axes[0].plot(seconds, opening(meshes), **style)
        axes[1].plot(seconds, (codes - first)[0].norm(dim=-1) / first[0].norm(dim=-1).mean(), **style)
    axes[0].set(title="What the mouth does", xlabel="time (s)", ylabel="opening (mm)")
    axes[1].set(title="How far the audio code moved", xlabel="time (s)", ylabel="relative distance")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(samples))
    return fig


def explore_voice(
    networks: meshtalk.MeshTalk, template: Float[Tensor, "vertices 3"], opening: Callable[[Tensor], Tensor]
) -> widgets.VBox:
    """Loudness, tract and pitch of a speaker, and what the face makes of it."""

    typical = made_voice(0.0, 200.0)

    def draw(loudness: float, length: float, f0: float, levelled: bool) -> Figure:
        voice = made_voice(length, f0) * 10 ** (loudness / 20)
        return draw_heard(
            networks, template, opening, {"average woman": typical, "this voice": voice}, levelled=levelled
        )

    return explorer(
        draw,
        {
            "loudness": widgets.FloatSlider(0.0, min=-30, max=10, step=5, description="dB"),
            "length": widgets.FloatSlider(0.0, min=-0.5, max=1.5, step=0.25, description="tract"),
            "f0": widgets.FloatSlider(200.0, min=80, max=300, step=20, description="f0 (Hz)"),
            "levelled": widgets.Checkbox(value=True, description="levelled"),
        },
    )


# ------------------------------------------------------------------------------------------------------------------ vote


class Votes:
    """Two-alternative votes between A and B with ties, and what they say.

    The order of each pair is drawn, so that a voter cannot know which is which.

    Parameters
    ----------
    pairs
        How many.
    rng
        Draws the order.
    """

    def __init__(self, pairs: int, rng: np.random.Generator) -> None:
        self.swapped = rng.random(pairs) < 0.5
        self.given: list[str] = []

    def vote(self, answer: str) -> None:
        """Note ``"left"``, ``"equal"`` or ``"right"`` for the next pair.

        Raises
        ------
        ValueError
            For another answer, or when all pairs have one.
        """
        if answer not in ("left", "equal", "right"):
            raise ValueError(f"vote: expected left, equal or right, found {answer!r}")
        if len(self.given) == len(self.swapped):
            raise ValueError(f"vote: all {len(self.swapped)} pairs have their vote")
        first = "left" if not self.swapped[len(self.given)] else "right"
        self.given.append("equal" if answer == "equal" else "A" if answer == first else "B")

    def summary(self) -> str:
        """Counts, and the share of A among decided votes with its interval."""
        counts = {name: self.given.count(name) for name in ("A", "equal", "B")}
        decided = counts["A"] + counts["B"]
        text = ", ".join(f"{name}: {count}" for name, count in counts.items())
        return f"{text}. A preferred: {wilson_interval(counts['A'], decided)}" if decided else f"{text}."


class Ballot(Pictured):
    """The question, two filmstrips in one picture, and buttons."""

    def _still(self) -> tuple[bytes, str]:
        said, picture, _ = self.children
        return fewer_colours(bytes(picture.value)), f"Two filmstrips of a talking face. {said.value}"


def explore_votes(
    films: Sequence[tuple[Film, Film]], names: tuple[str, str], rng: np.random.Generator, *, frames: int = 6
) -> Ballot:
    """Vote on pairs of filmstrips: A and B in drawn order; the summary tells who won when all pairs have a vote."""
    votes, picture, said = Votes(len(films), rng), widgets.Image(format="png"), widgets.HTML()

    def show() -> None:
        number = len(votes.given)
        if number == len(films):
            said.value = f"A is {names[0]}, B is {names[1]}. {votes.summary()}"
            return
        pair = films[number][::-1] if votes.swapped[number] else films[number]
        at = np.linspace(0, len(pair[0]) - 1, frames).round().astype(int)
        rows = [np.concatenate(list(film.pictures[at]), 1) for film in pair]
        gap = np.full((rows[0].shape[0], 16, 3), 255, dtype=np.uint8)
        buffer = io.BytesIO()
        plt.imsave(buffer, np.concatenate([rows[0], gap, rows[1]], 1))
        picture.value = buffer.getvalue()
        said.value = f"Pair {number + 1} of {len(films)}: which moves more like a face that talks?"

    def answer(text: str) -> Callable[[object], None]:
        def note(_: object) -> None:
            if len(votes.given) < len(films):
                votes.vote(text)
                show()

        return note

    buttons = [widgets.Button(description=text) for text in ("left", "equal", "right")]
    for button in buttons:
        button.on_click(answer(button.description))
    show()
    return Ballot([said, picture, widgets.HBox(buttons)])
