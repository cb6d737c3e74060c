"""Pictures and explorers of notebook 00, the tour of the synthetic world.

Each picture is a plain drawing function (used for the static figures too) and an explorer that gives it sliders.
"""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Mapping, Sequence

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import soundfile
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from torch import Tensor

from paper_utils import plotting
from paper_utils.data.speech import Alignment, Recording
from paper_utils.metrics.statistics import Estimate
from paper_utils.widgets.explorer import explorer
from paper_utils.world.face import EMOTIONS, EXPRESSION_UNITS, PARAMETERS, Head, emotion_pose, head
from paper_utils.world.people import ANATOMY, TRACT, People
from paper_utils.world.portraits import studio
from paper_utils.world.reflectance import Skin
from paper_utils.world.skeleton import BONES, point
from paper_utils.world.speakers import Speakers
from paper_utils.world.speech import utterance
from paper_utils.world.tract_spectra import formants, spectral_envelope, vowel_area
from paper_utils.world.voice import SAMPLE_RATE, waveform

HZ = np.arange(50.0, 5000.0, 12.5)
CLOSED_CM2 = 0.02  # drawn as closed
SHOWN_VOWELS, GAIN_DB = ("AA", "IY"), (-32.0, 32.0)  # of the explorer of cavities
LOWEST_M = 0.12  # stick figures are drawn from the hips up


def displayed(images: Float[Tensor, "n 3 height width"]) -> Float[np.ndarray, "n height width 3"]:
    """Linear light in [-1, 1] as a screen wants it (square root, near the display curve), still in [-1, 1]."""
    return (2 * (images / 2 + 0.5).clamp(0, 1).sqrt() - 1).permute(0, 2, 3, 1).numpy()


def draw_faces(
    images: Float[Tensor, "n 3 height width"], *, columns: int, titles: Sequence[str] | None = None, cell: float = 1.2
) -> Figure:
    """A page of pictures in reading order."""
    fig, _ = plotting.image_grid(displayed(images), columns=columns, titles=titles, cell=cell)
    return fig


def varied_faces(
    model: Head, changes: Sequence[Mapping[str, float]], *, hair_mm: float = 9.0
) -> Float[Tensor, "n vertices 3"]:
    """The mean person with some identity parameters moved, one face for each set of changes.

    Parameters
    ----------
    model
        A head.
    changes
        Parameter name to shift in standard deviations.
    hair_mm
        Volume of the hair.

    Raises
    ------
    ValueError
        If a name is not one of `PARAMETERS`.
    """
    unknown = {name for change in changes for name in change} - set(PARAMETERS)
    if unknown:
        raise ValueError(f"unknown face parameters {sorted(unknown)}; valid: {', '.join(PARAMETERS)}")
    shifts = torch.tensor([[change.get(name, 0.0) for name in PARAMETERS] for change in changes])
    hair = torch.tensor([[hair_mm, 0.2]]).expand(len(changes), 2)
    return model.identity_vertices(shifts * model.parameter_sd, torch.zeros(len(changes)), hair)


def expressive_faces(
    model: Head,
    neutral: Float[Tensor, "1 vertices 3"],
    weights: Sequence[Mapping[str, float]],
    jaw_deg: Sequence[float],
) -> Float[Tensor, "n vertices 3"]:
    """One face with expression units set by name, and the jaw opened by degrees."""
    rows = torch.tensor([[weight.get(name, 0.0) for name in EXPRESSION_UNITS] for weight in weights])
    jaw = torch.deg2rad(torch.tensor(jaw_deg, dtype=torch.float32))
    return model.pose(neutral.expand(len(rows), -1, -1), rows, jaw)


def draw_tracts(
    axes: Sequence[Axes] | np.ndarray, vowels: Mapping[str, str], speakers: Speakers, index: int = 0
) -> None:
    """Left: the tube of each vowel. Right: how much of each frequency it lets through, with its first three resonances.

    Parameters
    ----------
    axes
        Two axes.
    vowels
        Vowel to the label of its curve.
    speakers, index
        Whose tract.
    """
    areas = np.stack([vowel_area(name, speakers, index) for name in vowels])
    gain = spectral_envelope(areas, speakers, HZ, index=index)
    peaks = formants(areas, speakers, index=index)
    lengths = np.repeat([speakers.pharynx_cm[index] / 22, speakers.oral_cm[index] / 22], 22)
    for area, curve, peak, label, color in zip(areas, gain, peaks, vowels.values(), plotting.PALETTE, strict=False):
        axes[0].step(np.cumsum(lengths), area, where="pre", color=color, label=label)
        axes[1].plot(HZ, curve, color=color, label=label)
        axes[1].plot(peak, np.interp(peak, HZ, curve), "o", color=color, markersize=5)
    axes[0].set(title="The tube, glottis to lips", xlabel="distance from the glottis (cm)", ylabel="area (cm²)")
    axes[1].set(title="What it lets through", xlabel="frequency (Hz)", ylabel="gain (dB)")
    axes[0].legend()


def draw_alignment(ax: Axes, recording: Recording, *, title: str) -> None:
    """Log-mel frames with the phones and their boundaries on top."""
    hop_s = recording.hop_ms / 1000
    extent = (-hop_s / 2, (len(recording.log_mel) - 0.5) * hop_s, -0.5, recording.log_mel.shape[1] - 0.5)
    ax.imshow(recording.log_mel.T, origin="lower", aspect="auto", extent=extent, cmap="magma", interpolation="nearest")
    ax.set(title=title, xlabel="time (s)", ylabel="mel band")
    ax.grid(False)
    _mark_phones(ax, recording.alignment)


def _mark_phones(ax: Axes, alignment: Alignment) -> None:
    top = ax.get_ylim()[1]
    bounds = alignment.boundaries_s
    for name, begin, end in zip(alignment.phones, bounds[:-1], bounds[1:], strict=True):
        ax.axvline(begin, color="white", linewidth=0.7)
        ax.text((begin + end) / 2, top, name, ha="center", va="bottom", fontsize=8)
    ax.title.set_position((0.5, 1.06))
    ax.set_title(ax.get_title(), pad=16)


def draw_articulation(
    axes: Sequence[Axes] | np.ndarray, log_area: np.ndarray, visemes: pd.DataFrame, alignment: Alignment, hop_s: float
) -> None:
    """Above: the area of every section of the tract over time. Below: what the lips and the jaw do, from the same activations."""
    times = np.arange(len(log_area)) * hop_s
    extent = (0, times[-1], 0.5, log_area.shape[1] + 0.5)
    shown = np.clip(log_area, math.log(CLOSED_CM2), None)
    axes[0].imshow(
        shown.T, origin="lower", aspect="auto", extent=extent, cmap=plotting.SEQUENTIAL, interpolation="nearest"
    )
    axes[0].set(title="Log area of the tract", xlabel="time (s)", ylabel="section\n(1 glottis, 44 lips)")
    axes[0].grid(False)
    _mark_phones(axes[0], alignment)
    for (name, values), color in zip(visemes.items(), plotting.PALETTE, strict=False):
        axes[1].plot(times, values, color=color, label=name)
    for boundary in alignment.boundaries_s:
        axes[1].axvline(boundary, color="#cccccc", linewidth=0.7)
    axes[1].set(title="Jaw and lips", xlabel="time (s)", ylabel="share of the\nlargest move", xlim=(0, times[-1]))
    axes[1].legend(ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.3))


def draw_formant_chart(ax: Axes, measured: pd.DataFrame, published: pd.DataFrame, *, title: str) -> None:
    """F1 against F2, both turned round as phoneticians draw them; a line leads from the published mean to ours.

    Parameters
    ----------
    ax
        Axes.
    measured, published
        One row a vowel, with columns ``F1`` and ``F2`` in Hz.
    title
        Of the chart.
    """
    for vowel in measured.index:
        ours, theirs = measured.loc[vowel], published.loc[vowel]
        ax.plot([theirs.F2, ours.F2], [theirs.F1, ours.F1], color="#999999", linewidth=1)
        ax.text(ours.F2, ours.F1, f" {vowel}", fontsize=9, va="bottom")
    ax.plot(published.F2, published.F1, "o", color=plotting.PALETTE[7], label="published")
    ax.plot(measured.F2, measured.F1, "o", color=plotting.PALETTE[0], label="this tract")
    ax.set(title=title, xlabel="F2 (Hz)", ylabel="F1 (Hz)")
    ax.invert_xaxis()
    ax.invert_yaxis()
    ax.legend(loc="lower left")


def draw_covariates(axes: Sequence[Axes] | np.ndarray, people: People, names: Sequence[str]) -> None:
    """A histogram of every covariate and of what is measured on everybody; women and men apart.

    Parameters
    ----------
    axes
        At least eight axes.
    people
        Whom to count.
    names
        Names of the nationalities.
    """
    speakers = people.speakers
    values = {
        "age (years)": people.age,
        "body height (cm)": people.stature_cm,
        "log size of the head": people.log_size,
        "tract length (cm)": speakers.pharynx_cm + speakers.oral_cm,
        "pitch F0 (Hz)": speakers.f0_hz,
        "melanin": people.skin.melanin,
    }
    axes = np.asarray(axes).ravel()
    for ax, (name, column) in zip(axes, values.items(), strict=False):
        edges = np.linspace(column.min(), column.max(), 30)
        for sex, label, color in ((0, "women", plotting.PALETTE[1]), (1, "men", plotting.PALETTE[0])):
            ax.hist(column[people.sex == sex], edges, alpha=0.6, color=color, label=label)
        ax.set(title=name, ylabel="people")
    for ax, name, count in ((axes[6], "nationality", people.nationality), (axes[7], "accent", people.accent)):
        ax.bar(names, np.bincount(count, minlength=len(names)), color=plotting.PALETTE[2])
        ax.set(title=name, ylabel="people")
    axes[0].figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)


def draw_correlations(ax: Axes, correlation: Float[np.ndarray, "cavities parameters"], *, title: str) -> None:
    """What each cavity of the tract shares with each parameter of the face; parameters that share nothing are left out."""
    table = pd.DataFrame(correlation, list(ANATOMY), [*PARAMETERS, "size of the head"])
    shown = table.loc[:, (table.abs() > 0.1).any()]
    sns.heatmap(shown.rename(columns=lambda c: c.replace("_", " ")), cmap=plotting.DIVERGING, center=0, annot=True, fmt=".1f",
                annot_kws={"fontsize": 8}, ax=ax, cbar_kws={"label": "correlation"})  # fmt: skip
    ax.set(title=title, xlabel="face", ylabel="vocal tract")
    ax.tick_params(axis="y", rotation=0)


def draw_estimates(
    ax: Axes, points: Mapping[float, Estimate], truth: Mapping[float, float], *, title: str, xlabel: str, ylabel: str
) -> None:
    """Measured values with intervals, and the line on which they must lie."""
    ax.plot(list(truth), list(truth.values()), color=plotting.PALETTE[7], label="closed form")
    middle, bars = plotting.whiskers(points.values())
    ax.errorbar(list(points), middle, bars, fmt="o", color=plotting.PALETTE[0], capsize=4, label="measured, 95 %")
    ax.axhline(0, color="black", linewidth=0.8)
    ax.set(title=title, xlabel=xlabel, ylabel=ylabel)
    ax.legend()


def draw_told(ax: Axes, table: pd.DataFrame, *, title: str) -> None:
    """How much of each cavity the sounds of each kind tell: share of explained variance on people kept apart."""
    sns.heatmap(table, cmap=plotting.SEQUENTIAL, vmin=0, annot=True, fmt=".2f", ax=ax, cbar_kws={"label": "R²"})
    ax.set(title=title, xlabel="cavity", ylabel="sounds used")
    ax.tick_params(axis="y", rotation=0)


def draw_stick_figures(
    ax: Axes, joints: Float[Tensor, "poses 66 3"], times_s: Sequence[float], *, title: str, step_m: float = 0.75
) -> None:
    """Upper bodies seen from the front, one beside the other as time goes on."""
    shoulder, top = point("neck"), point("head_top")
    for number, pose in enumerate(joints.numpy()):
        across, up = pose[:, 0] + number * step_m, pose[:, 1]
        for parent, child in BONES:
            if min(up[parent], up[child]) > -LOWEST_M and child != top:
                ax.plot(across[[parent, child]], up[[parent, child]], color=plotting.PALETTE[0], linewidth=1.2)
        middle = ((across[shoulder] + across[top]) / 2, (up[shoulder] + up[top]) / 2 + 0.03)
        ax.add_patch(Circle(middle, 0.1, color=plotting.PALETTE[0], fill=False, linewidth=1.2))
    ax.set_xticks(np.arange(len(joints)) * step_m, [f"{time:.1f}" for time in times_s])
    ax.set(title=title, aspect="equal", yticks=[], xlabel="time (s)", ylabel="")
    ax.grid(False)


# --------------------------------------------------------------------------------------------------------- explorers


def sound_bytes(samples: Float[Tensor, " samples"]) -> bytes:
    """Samples at 16 kHz as a FLAC file in memory."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples.numpy(), SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def moved_speaker(base: Speakers, cavity: str, amount: float) -> Speakers:
    """One speaker with a cavity made larger by `amount` standard deviations of its population."""
    changed = {}
    for name, (_, _, sd, of) in TRACT.items():
        if of == cavity:
            changed[name] = getattr(base, name) * np.exp(sd * amount)
    return Speakers(**{name: changed.get(name, value) for name, value in vars(base).items()})


@functools.cache
def _average(who: str, size: int, yaw_deg: float) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Picture of the mean face, and the gain of the average tract for each vowel that is shown: the same beside every other person."""
    picture = studio(
        varied_faces(head(2, full=True), [{}]), Skin.typical(), head(2, full=True), size=size, yaw_deg=yaw_deg
    )
    return displayed(picture)[0], _gains(Speakers.typical(who))


def _gains(speaker: Speakers) -> dict[str, np.ndarray]:
    areas = np.stack([vowel_area(vowel, speaker) for vowel in SHOWN_VOWELS])
    return dict(zip(SHOWN_VOWELS, spectral_envelope(areas, speaker, HZ), strict=True))


def draw_anatomy(cavity: str, amount: float, *, who: str = "woman", size: int = 200, yaw_deg: float = 40.0) -> Figure:
    """A face and its voice when one cavity grows: the face by the parameters that the cavity follows, the tract by the cavity."""
    model = head(2, full=True)
    weights = {name: value for name, value in ANATOMY[cavity].items() if name != "size"}
    scale = amount / math.sqrt(sum(value**2 for value in weights.values()))
    moved = varied_faces(model, [{name: scale * value for name, value in weights.items()}])
    own = displayed(studio(moved, Skin.typical(), model, size=size, yaw_deg=yaw_deg))[0]
    mean, usual = _average(who, size, yaw_deg)
    fig, axes = plt.subplots(1, 4, figsize=(10, 2.6), width_ratios=(1, 1, 1.5, 1.5))
    for ax, picture, title in zip(axes, (mean, own), ("average", f"{cavity} {amount:+.1f} sd"), strict=False):
        ax.imshow(picture / 2 + 0.5)
        ax.set_title(title)
        ax.set_axis_off()
    gains = _gains(moved_speaker(Speakers.typical(who), cavity, amount))
    for ax, vowel in zip(axes[2:], SHOWN_VOWELS, strict=True):
        ax.plot(HZ, usual[vowel], color=plotting.PALETTE[7], label="average")
        ax.plot(HZ, gains[vowel], color=plotting.PALETTE[0], label="this person")
        # Axes that stand still, so that two settings can be compared.
        ax.set(title=f"gain of the tract, {vowel}", xlabel="frequency (Hz)", ylabel="dB", ylim=GAIN_DB)
    axes[2].legend()
    return fig


def explore_anatomy() -> widgets.VBox:
    """Make a cavity larger or smaller: see the face, see the spectrum, hear the word."""
    controls = {
        "cavity": widgets.Dropdown(options=list(ANATOMY), value="oral", description="cavity"),
        "amount": widgets.FloatSlider(3.0, min=-4.0, max=4.0, step=0.5, description="sd"),
    }
    said = utterance("HH EH0 L OW1", rng=np.random.default_rng(0))

    def draw(cavity: str, amount: float) -> Figure:
        return draw_anatomy(cavity, amount, size=128)

    def speak(cavity: str, amount: float) -> bytes:
        speaker = moved_speaker(Speakers.typical("woman"), cavity, amount)
        return sound_bytes(waveform([said], speaker, 0, seed=0)[0])

    return explorer(draw, controls, sound=speak)


def explore_emotion() -> widgets.VBox:
    """Mix an emotion into a face, open its jaw, turn its head."""
    model = head(2, full=True)
    neutral = varied_faces(model, [{}])

    def draw(emotion: str, intensity: float, jaw: float, yaw: float) -> Figure:
        weights, opening = emotion_pose(emotion)
        posed = model.pose(neutral, intensity * weights[None], torch.tensor([intensity * opening + math.radians(jaw)]))
        picture = displayed(studio(posed, Skin.typical(), model, size=160, yaw_deg=yaw))[0]
        fig, ax = plt.subplots(figsize=(4, 4))
        ax.imshow(picture / 2 + 0.5)
        ax.set_axis_off()
        return fig

    return explorer(
        draw,
        {
            "emotion": widgets.Dropdown(options=EMOTIONS, value="happy", description="emotion"),
            "intensity": widgets.FloatSlider(1.0, min=0.0, max=1.0, step=0.1, description="intensity"),
            "jaw": widgets.FloatSlider(0.0, min=0.0, max=16.0, step=1.0, description="jaw (deg)"),
            "yaw": widgets.FloatSlider(20.0, min=-80.0, max=80.0, step=5.0, description="yaw (deg)"),
        },
    )
