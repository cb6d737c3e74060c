"""Pictures and explorers of paper 03: sheets of faces, the game of the players, matching and what it is made of, voices to play with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from torch import Tensor

from paper_utils import audio, plotting
from paper_utils.methods import voice_to_face as v2f
from paper_utils.metrics.statistics import Estimate
from paper_utils.studies.voice_to_face import MALE, Matching, Side, generate
from paper_utils.widgets.explorer import explorer
from paper_utils.world.speakers import Speakers
from paper_utils.world.speech import utterance
from paper_utils.world.voice import log_mel

HOP_S = 0.01
SCREEN_DPI = 72  # of notebooks, see `plotting.use_style`
GAP = 2  # pixels between pictures
LEVELS = 63  # of each colour
WHITE = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}  # behind numbers that may stand on a line
SENTENCE = "HH EH0 L OW1 DH EH1 R AY0 AE1 M HH IH1 R"  # about a second
NETWORKS = {  # name: place, what it says, colour; see `draw_networks`
    "voice": ((0.0, 1.0), "voice v\nof person $y_v$", 7),
    "F_e": ((1.6, 1.0), "$F_e$ voice network\nfrozen after stage 1", 0),
    "z": ((3.2, 1.0), "z on the sphere\n+ a little noise", 7),
    "F_g": ((4.8, 1.0), "$F_g$ generator", 1),
    "face": ((6.4, 1.0), r"face $\hat x$", 7),
    "photo": ((6.4, -0.2), "photograph x\nof person $y_x$", 7),
    "F_f": ((8.0, 0.4), "$F_f$ face network", 2),
    "F_d": ((9.6, 1.0), "$F_d$ real?", 2),
    "F_c": ((9.6, -0.2), "$F_c$ who?", 2),
}
ARROWS = (
    ("voice", "F_e"), ("F_e", "z"), ("z", "F_g"), ("F_g", "face"), ("face", "F_f"), ("photo", "F_f"), ("F_f", "F_d"), ("F_f", "F_c"),
)  # fmt: skip
# U and G of the paper's table on its 189 test people, in percent: rivals as the paper quotes them.
PAPER_TABLE = {
    "SVHF, trained matcher": (81.00, 65.20),
    "DIMNet-I, no picture (paper 02)": (83.45, 70.91),
    "this paper, generated face": (76.07, 59.69),
    "DIMNet-G, sex only": (72.90, 50.32),
}
PAPER_CEILING = 74.0  # of perfect sex and nothing else among 115 men and 74 women; derived
BOX = (1.3, 0.62)  # inches in the units of the places above


# ------------------------------------------------------------------------------------------------------------- pictures


def draw_networks(ax: Axes) -> None:
    """The five networks, and what flows between them."""
    width, height = BOX
    for place, text, color in NETWORKS.values():
        corner = (place[0] - width / 2, place[1] - height / 2)
        shade = plotting.PALETTE[color]
        ax.add_patch(FancyBboxPatch(corner, width, height, boxstyle="round,pad=0.04", facecolor=shade, alpha=0.18))
        ax.text(*place, text, ha="center", va="center", fontsize=9)
    for begin, end in ARROWS:
        (x0, y0), (x1, y1) = NETWORKS[begin][0], NETWORKS[end][0]
        middle = {"arrowstyle": "->", "color": "black", "linewidth": 1.2}
        ax.annotate("", (x1 - width / 2 - 0.06, y1), (x0 + width / 2 + 0.06, y0), arrowprops=middle)
    ax.set(xlim=(-0.9, 10.5), ylim=(-0.8, 1.6), title="Five networks; nothing pairs a voice with a photograph")
    ax.set_axis_off()


def draw_paper(ax: Axes) -> None:
    """The paper's matching accuracies, chance, and what perfect sex alone would reach."""
    places = np.arange(len(PAPER_TABLE))
    for number, label in enumerate(("U, anybody", "G, same sex")):
        values = [row[number] for row in PAPER_TABLE.values()]
        ax.barh(places + 0.38 * number, values, 0.36, color=plotting.PALETTE[number], label=label)
    ax.axvline(50, color="black", linestyle=":", label="chance")
    ax.axvline(PAPER_CEILING, color=plotting.PALETTE[7], linestyle="--", label="perfect sex, nothing else")
    ax.set_yticks(places + 0.19, list(PAPER_TABLE))
    ax.invert_yaxis()
    ax.set(title="The paper's test people", xlabel="trials won (%)", xlim=(40, 90))
    ax.legend(loc="upper center", bbox_to_anchor=(0.4, -0.2), ncols=4)


def draw_sheet(
    rows: Sequence[Float[Tensor, "columns 3 side side"]],
    columns: Sequence[str],
    labels: Sequence[str] = (),
    *,
    title: str = "",
    zoom: int = 2,
) -> Figure:
    """Rows of pictures under column titles, with a label at the left of each row.

    All pictures are one image in whole multiples of their pixels: sharp, and small on disk.

    Parameters
    ----------
    rows, columns, labels
        Pictures, titles, and labels of the rows (none, or one a row).
    title
        Of the whole sheet, if any.
    zoom
        Screen pixels for each pixel of a picture of 32 pixels; larger pictures get fewer.

    Raises
    ------
    ValueError
        If a row has another number of pictures than there are titles, or there are labels and not one a row.
    """
    wrong = [number for number, row in enumerate(rows) if len(row) != len(columns)]
    if wrong or (labels and len(labels) != len(rows)):
        raise ValueError(
            f"sheet: expected {len(columns)} pictures a row and a label for each of {len(rows)} rows, found rows of "
            f"{sorted({len(row) for row in rows})} and {len(labels)} labels"
        )
    side = rows[0].shape[-1]
    step = side + GAP
    page = np.ones((len(rows) * step - GAP, len(columns) * step - GAP, 3))
    for down, row in enumerate(rows):
        for across, picture in enumerate(v2f.displayed(row).permute(0, 2, 3, 1).numpy()):
            page[down * step : down * step + side, across * step : across * step + side] = picture
    scale = max(1, round(zoom * 32 / side))
    pixels = np.array(page.shape[1::-1]) * scale
    left = 10 + (7 * max(map(len, labels)) if labels else 0)
    above = 8 + 15 * max(title.count("\n") + bool(title) for title in columns)
    above += 24 if title else 0
    whole = pixels + np.array([left + 10, above + 6])
    fig = plt.figure(figsize=tuple(whole / SCREEN_DPI), layout="none")
    ax = fig.add_axes((left / whole[0], 6 / whole[1], pixels[0] / whole[0], pixels[1] / whole[1]))
    # As many levels as the eye needs at this size; the rest would be speckle that no file can compress.
    ax.imshow(np.round(page * LEVELS) / LEVELS, interpolation="nearest", aspect="auto")
    if title:
        fig.text(left / whole[0], 1 - 4 / whole[1], title, fontsize=12, fontweight="bold", va="top")
    ax.xaxis.tick_top()
    ax.set_xticks(np.arange(len(columns)) * step + side / 2 - 0.5, columns, fontsize=9)
    ax.set_yticks(np.arange(len(labels)) * step + side / 2 - 0.5, labels, fontsize=9)
    ax.tick_params(length=0, pad=3)
    ax.spines[:].set_visible(False)
    ax.grid(False)
    return fig


def smooth(values: Float[np.ndarray, " steps"], window: int = 25) -> Float[np.ndarray, " smoothed"]:
    """Running mean, shorter than the input by the window."""
    window = min(window, len(values))
    return np.convolve(values, np.ones(window) / window, mode="valid")


def draw_game(
    axes: Sequence[Axes] | np.ndarray, losses: Mapping[str, np.ndarray], classes: int, real_diversity: float
) -> None:
    """Three panels: the adversarial losses, the losses of identity, the variety of a batch; dotted lines are chance or reality.

    Parameters
    ----------
    axes
        Three.
    losses
        From `v2f.train_gan`.
    classes
        Training people.
    real_diversity
        `v2f.diversity` of photographs.
    """
    meaning = {
        "real": "critics: photographs are real",
        "fake": "critics: generated ones are not",
        "fooled": "generator: passes for real",
        "who": "critics: who is on a photograph",
        "speaker": "generator: shows the speaker",
    }
    chance = v2f.chance_levels(classes)
    for number, (name, label) in enumerate(meaning.items()):
        ax = axes[0] if number < 3 else axes[1]
        ax.plot(smooth(losses[name]), color=plotting.PALETTE[number], label=label, linewidth=1.4)
    axes[2].plot(smooth(losses["spread"]), color=plotting.PALETTE[1], label="generated faces")
    for ax, level, label in zip(
        axes,
        (chance["real"], chance["who"], real_diversity),
        ("knows nothing: log 2", f"knows nothing: log {classes}", "photographs"),
        strict=True,
    ):
        ax.axhline(level, color="black", linestyle=":", linewidth=1.2, label=label)
        ax.set_xlabel("iteration")
        ax.set_ylim(0, None)
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2))
    axes[0].set(title="Real or generated?", ylabel="loss (nat)")
    axes[1].set(title="Who?", ylabel="loss (nat)")
    axes[2].set(title="Has it collapsed?", ylabel="difference of two pictures")


def share_differing(women: Float[np.ndarray, " shares"]) -> Float[np.ndarray, " shares"]:
    """Probability that two people of a large gallery differ in sex, from the share of women."""
    return 2 * women * (1 - women)


def _room_for_labels(ax: Axes) -> None:
    """Text is a little wider on the screen than in the file for which a figure was laid out."""
    engine = ax.figure.get_layout_engine()
    if engine is not None:
        engine.set(w_pad=0.15)


def draw_decomposition(ax: Axes, found: Mapping[str, Matching], share: float, ceiling: float) -> None:
    """U of each kind of probes as a number and a bar of two parts, pairs that differ in sex and pairs that do not; the line is all that sex can give.

    The parts are :math:`pA` and :math:`(1-p)G`. They add up to U if every person meets the same share of rivals of the other sex, as with equal
    numbers of men and women; otherwise the bar ends a little beside the number.

    Parameters
    ----------
    ax
        Axes.
    found
        By name.
    share
        Of pairs that differ in sex.
    ceiling
        `studies.voice_to_face.sex_only_ceiling`.
    """
    names = list(found)
    other = np.array([share * found[name].other_sex.value for name in names])
    same = np.array([(1 - share) * found[name].same_sex.value for name in names])
    ax.barh(names, other, color=plotting.PALETTE[5], label="won against the other sex")
    ax.barh(names, same, left=other, color=plotting.PALETTE[0], label="won inside the sex")
    for row, (name, end) in enumerate(zip(names, other + same, strict=True)):
        ax.text(end + 0.01, row, f"{found[name].any_impostor.value:.2f}", va="center", fontsize=9, bbox=WHITE)
    ax.axvline(0.5, color="black", linestyle=":", linewidth=1.2, label="chance")
    ax.axvline(ceiling, color=plotting.PALETTE[1], linestyle="--", linewidth=1.5, label="perfect sex, nothing else")
    ax.invert_yaxis()
    ax.set(title="What U is made of", xlabel="U, share of trials won", xlim=(0, 1.12))
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
    _room_for_labels(ax)


def draw_rates(
    ax: Axes, found: Mapping[str, Estimate], *, title: str, xlabel: str, line: float = 0.5, said: str = "chance"
) -> None:
    """Estimates with their intervals, one below the other, and the line where nothing is known."""
    middle, bars = plotting.whiskers(found.values())
    ax.errorbar(middle, np.arange(len(found)), xerr=bars, fmt="o", color=plotting.PALETTE[0], capsize=3)
    ax.axvline(line, color="black", linestyle=":", linewidth=1.2, label=said)
    ax.set_yticks(np.arange(len(found)), list(found))
    ax.invert_yaxis()
    ax.set(title=title, xlabel=xlabel)
    ax.legend()
    _room_for_labels(ax)


def draw_durations(ax: Axes, curve: Mapping[int, Matching], control: Mapping[int, Matching] | None = None) -> None:
    """U and G over the frames of speech that are heard, with 95 % bands; the control's G, perhaps at fewer lengths, in grey."""
    parts = [(curve, "any_impostor", "U, anybody", 0), (curve, "same_sex", "G, same sex", 1)]
    if control:
        parts.append((control, "same_sex", "G where only sex is shared", 7))
    for points, which, label, color in parts:
        rows = np.array([(e.value, e.low, e.high) for e in (getattr(m, which) for m in points.values())])
        seconds = HOP_S * np.array(list(points))
        ax.plot(seconds, rows[:, 0], "o-", color=plotting.PALETTE[color], label=label)
        ax.fill_between(seconds, rows[:, 1], rows[:, 2], color=plotting.PALETTE[color], alpha=0.15, linewidth=0)
    ax.axhline(0.5, color="black", linestyle=":", linewidth=1.2)
    ax.set_xscale("log")
    ticks = HOP_S * np.array(list(curve))
    ax.set_xticks(ticks, [f"{value:g}" for value in ticks])
    ax.minorticks_off()
    ax.set(title="How long must one listen?", xlabel="speech heard (s)", ylabel="trials won")
    ax.legend()


def draw_shapes(
    axes: Sequence[Axes] | np.ndarray,
    correlations: Mapping[str, Float[np.ndarray, " measures"]],
    told: Mapping[str, float],
    readable: Float[np.ndarray, " measures"],
) -> None:
    """Each measurement as a point: how much the tract tells of it, and how well generated faces show it; a panel a world.

    Parameters
    ----------
    axes
        As many as worlds.
    correlations
        By world, inside a sex, in the order of `told`.
    told
        By measurement, see `studies.voice_to_face.told_by_tract`.
    readable
        The same correlation for real pictures: what could be read if the face were right.
    """
    names, shares = list(told), np.array(list(told.values()))
    for ax, (world, values) in zip(axes, correlations.items(), strict=True):
        ax.plot(shares, readable, "x", color=plotting.PALETTE[7], markersize=5, label="real pictures")
        ax.plot(shares, values, "o", color=plotting.PALETTE[0], markersize=5, label="generated faces")
        for marked in {int(np.argmax(values)), int(np.argmax(shares))}:
            place = (shares[marked], values[marked])
            ax.annotate(names[marked], place, fontsize=9, xytext=(6, 3), textcoords="offset points")
        ax.axhline(0, color="black", linestyle=":", linewidth=1.2)
        ax.set(title=world, xlabel="variance told by the true vocal tract", ylim=(-0.4, 1.05), xlim=(-0.1, 1.1))
    axes[0].set_ylabel("correlation of shown and true")
    axes[0].legend(loc="lower left", ncols=2)


# ------------------------------------------------------------------------------------------------------ points and voices


def walk(
    begin: Float[Tensor, " dim"], end: Float[Tensor, " dim"], shares: Sequence[float]
) -> Float[Tensor, "steps dim"]:
    r"""Points on the great circle between two unit vectors.

    .. math:: z(t) = \frac{\sin((1 - t)\,\theta)\,a + \sin(t\,\theta)\,b}{\sin\theta}, \qquad \cos\theta = a \cdot b

    Raises
    ------
    ValueError
        If the two are the same or opposite: there is then no circle, or no one circle.
    """
    angle = torch.arccos((begin * end).sum().clamp(-1, 1))
    if float(torch.sin(angle)) < 1e-4:
        raise ValueError("walk: expected two different, not opposite points; there is no one way between these")
    t = torch.tensor(list(shares), dtype=begin.dtype)[:, None]
    return (torch.sin((1 - t) * angle) * begin + torch.sin(t * angle) * end) / torch.sin(angle)


def mean_faces(side: Side) -> Float[Tensor, "2 3 side side"]:
    """Mean picture of women and of men, in the order of the codes of sex."""
    return torch.stack([side.pictures[torch.from_numpy(side.sex == sex)[side.shown]].mean(0) for sex in (0, MALE)])


def made_voice(length: float, f0_hz: float, laxness: float, *, bands: int) -> Float[Tensor, "frames bands"]:
    """Log-mel of one sentence by a speaker between the average woman and the average man, not normalised.

    Parameters
    ----------
    length
        Of the vocal tract: 0 the woman's, 1 the man's; all cavities go along. Values outside go on in the same direction.
    f0_hz
        Base of the pitch.
    laxness
        Shape of the glottal pulse, 0.5 tense to 2.7 lax: the tilt of the spectrum.
    bands
        Mel bands.
    """
    woman, man = (vars(Speakers.typical(who)) for who in ("woman", "man"))
    between = {name: woman[name] * (man[name] / woman[name]) ** length for name in woman}
    speaker = Speakers(**(between | {"f0_hz": np.array([f0_hz]), "rd": np.array([laxness])}))
    said = utterance(SENTENCE, rng=np.random.default_rng(0))
    return log_mel([said], speaker, 0, mel=bands, seed=0, sections=22)[0]


# ------------------------------------------------------------------------------------------------------------- explorers


def explore_speakers(
    side: Side, generated: v2f.Reconstructor, means: Float[Tensor, "2 3 side side"], *, shown: int = 40
) -> widgets.VBox:
    """Choose a test speaker, a recording and how much of it is heard.

    Parameters
    ----------
    side
        Test people.
    generated
        Trained networks.
    means
        Mean training faces, `mean_faces`.
    shown
        How many people can be chosen.
    """
    frames = side.heard.shape[1]
    per_person = int(side.speakers.bincount().min())

    def draw(person: int, recording: int, seconds: float) -> Figure:
        row = torch.nonzero(side.speakers == person).flatten()[recording - 1]
        heard = side.heard[row : row + 1, : max(1, round(seconds / HOP_S))]
        real = side.pictures[torch.nonzero(side.shown == person).flatten()[:1]]
        mean = means[int(side.sex[person])][None]
        return draw_sheet(
            [torch.cat([real, generate(generated, heard), mean])], ("real", "from the voice", "mean of the sex"), zoom=4
        )  # fmt: skip

    return explorer(
        draw,
        {
            "person": widgets.IntSlider(0, min=0, max=min(shown, len(side)) - 1, description="person"),
            "recording": widgets.IntSlider(1, min=1, max=per_person, description="recording"),
            "seconds": widgets.FloatSlider(
                HOP_S * frames, min=0.08, max=HOP_S * frames, step=0.04, description="seconds"
            ),
        },
    )


def draw_ratio(ax: Axes, women: float, other_sex: float, same_sex: float) -> None:
    """U, G and the sex-only ceiling over the share of women in a large gallery; one share is marked."""
    shares = np.append(np.linspace(0, 1, 101), women)
    for label, a, g, color in (("U", other_sex, same_sex, 0), ("perfect sex, nothing else", 1.0, 0.5, 1)):
        values = g + share_differing(shares) * (a - g)
        ax.plot(shares[:-1], values[:-1], color=plotting.PALETTE[color], label=label)
        ax.plot(women, values[-1], "o", color=plotting.PALETTE[color])
        ax.annotate(f"{values[-1]:.2f}", (women, values[-1]), xytext=(6, 6), textcoords="offset points", fontsize=9)
    ax.axhline(same_sex, color=plotting.PALETTE[2], label="G")
    ax.axhline(0.5, color="black", linestyle=":", linewidth=1.2, label="chance")
    ax.set(title="One system, many galleries", xlabel="share of women", ylabel="trials won", ylim=(0.45, 0.9))
    ax.legend(loc="upper right", ncols=2)


def explore_ratio(found: Matching) -> widgets.VBox:
    """Change the share of women in the gallery: U moves, G does not."""

    def draw(women: float) -> Figure:
        fig, ax = plt.subplots(figsize=(7, 3.6))
        draw_ratio(ax, women, found.other_sex.value, found.same_sex.value)
        return fig

    slider = widgets.FloatSlider(0.5, min=0.0, max=1.0, step=0.05, description="women")
    return explorer(draw, {"women": slider})


def explore_voice(model: v2f.Reconstructor, means: Float[Tensor, "2 3 side side"]) -> widgets.VBox:
    """Make a voice from a tract, a pitch and a pulse, and see what face goes with it, between the mean faces of women and of men."""

    def draw(length: float, f0: float, laxness: float) -> Figure:
        voice = audio.normalise_recording(made_voice(length, f0, laxness, bands=model.sizes.bands)[None])
        return draw_sheet(
            [torch.cat([means[:1], generate(model, voice), means[MALE : MALE + 1]])],
            ("mean woman", "this voice", "mean man"),
            zoom=4,
        )

    return explorer(
        draw,
        {
            "length": widgets.FloatSlider(
                0.0, min=-0.5, max=1.5, step=0.1, description="tract"
            ),
            "f0": widgets.FloatSlider(200.0, min=80.0, max=300.0, step=10.0, description="f0 (Hz)"),
            "laxness": widgets.FloatSlider(1.2, min=0.5, max=2.7, step=0.1, description="pulse"),
        },
    )  # fmt: skip


def explore_walk(model: v2f.Reconstructor, points: Float[Tensor, "people dim"], names: Sequence[str]) -> widgets.VBox:
    """Walk on the sphere from one voice to another."""
    choices: list[tuple[str, int]] = [(name, number) for number, name in enumerate(names)]

    def draw(begin: int, end: int, share: float) -> Figure:
        if begin == end:
            on_the_way = points[[begin, begin, begin]]
        else:
            on_the_way = walk(points[begin], points[end], (0.0, share, 1.0))
        with torch.no_grad():
            pictures = model.generator(on_the_way.float())
        return draw_sheet([pictures], (names[begin], f"{share:.0%} of the way", names[end]), zoom=4)

    return explorer(
        draw,
        {
            "begin": widgets.Dropdown(options=choices, value=0, description="from"),
            "end": widgets.Dropdown(options=choices, value=len(choices) - 1, description="to"),
            "share": widgets.FloatSlider(0.5, min=0.0, max=1.0, step=0.05, description="share"),
        },
    )  # fmt: skip


def first_rows(labels: Int[Tensor, " items"], person: int, count: int) -> Int[Tensor, " rows"]:
    """The first `count` items of a person.

    Raises
    ------
    ValueError
        If there are fewer.
    """
    rows = torch.nonzero(labels == person).flatten()
    if len(rows) < count:
        raise ValueError(f"person {person}: expected at least {count} items, found {len(rows)}")
    return rows[:count]
