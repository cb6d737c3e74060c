"""Pictures and explorers of paper 02, DIMNet.

Each picture is a plain drawing function (used for the static figures too) and an explorer that gives it controls. Whatever is slow is
computed before, so that a move only draws.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ipywidgets as widgets
import lightning_fabric
import matplotlib
import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.stats import ortho_group

from paper_utils import plotting
from paper_utils.data.matching_lists import STRATA
from paper_utils.data.speech import Voices
from paper_utils.methods import dimnet
from paper_utils.metrics import ceilings, cross_modal, verification
from paper_utils.metrics.statistics import Estimate
from paper_utils.open_set import Split
from paper_utils.studies.dimnet import Examined
from paper_utils.widgets.explorer import explorer
from paper_utils.widgets.world import displayed

STRATUM_NAMES = {"U": "anybody", "G": "same sex", "N": "same nationality", "GN": "same sex and nationality"}
# How much an entry of a gallery agrees with the probe's person, and the colour of its frame.
AGREEMENT = {
    "the same person": plotting.PALETTE[2],
    "sex and nationality agree": plotting.PALETTE[5],
    "sex agrees": plotting.PALETTE[0],
    "nationality agrees": plotting.PALETTE[4],
    "nothing agrees": plotting.PALETTE[1],
}


# ------------------------------------------------------------------------------------------------------ the question


def draw_paper(ax: Axes, recalled: Mapping[str, tuple[float, float]], women: int, men: int) -> None:
    """Recalled 1:2 accuracies beside the computed accuracy of somebody who knows the sex of the test people, and nothing else.

    Parameters
    ----------
    ax
        Axes.
    recalled
        Percent against anybody and against people of the same sex, by method.
    women, men
        Test people.
    """
    ceiling = 100 * float(ceilings.finite_match_accuracy([women, men], 2))
    place = np.arange(len(recalled))
    for shift, column, label in ((-0.2, 0, "against anybody"), (0.2, 1, "against the same sex")):
        values = [pair[column] for pair in recalled.values()]
        ax.bar(place + shift, values, 0.38, color=plotting.PALETTE[column], label=label)
        for x, value in zip(place, values, strict=True):
            ax.text(x + shift, value - 2.6, f"{value:.1f}", ha="center", fontsize=9, color="white")
    ax.axhline(ceiling, color="black", linestyle="--", linewidth=1.3, label=f"sex known, else nothing: {ceiling:.1f}")
    ax.axhline(50, color=plotting.PALETTE[7], linestyle=":", linewidth=1.3, label="guessing")
    ax.set_xticks(place, list(recalled))
    ax.set(title="Which of two faces belongs to the voice?", ylabel="right answers (%)", ylim=(40, 100))
    ax.legend(ncols=2, loc="upper left")


# ------------------------------------------------------------------------------------------------ two numbers a person


@dataclass(frozen=True)
class Plane:
    """Embeddings of two numbers of the people that a small run has learned.

    Parameters
    ----------
    points
        By modality, one row an item.
    people
        By modality, place of each item's person among all.
    vectors
        By modality, the class vectors; equal if the classifier is shared.
    classes
        Names of the classes.
    sex
        Of each person.
    """

    points: dict[str, Float[np.ndarray, "_ 2"]]
    people: dict[str, Int[np.ndarray, " _"]]
    vectors: dict[str, Float[np.ndarray, "classes 2"]]
    classes: tuple[str, ...]
    sex: Int[np.ndarray, " people"]


def some_people(data: dimnet.Meetings, count: int, among: Sequence[int] | None = None) -> tuple[int, ...]:
    """The first people of either sex, as many of one as of the other, women first.

    Parameters
    ----------
    data
        Voices and faces.
    count
        How many, an even number.
    among
        Whom to choose from; everybody if not given.
    """
    known = data.faces.identities if among is None else torch.tensor(sorted(among))
    allowed = torch.isin(data.faces.identities, known)
    sex = data.faces.covariates["sex"]
    chosen = [data.faces.identities[allowed & (sex == value)].unique()[: count // 2] for value in (0, 1)]
    return tuple(torch.cat(chosen).tolist())


def learn_plane(
    fabric: lightning_fabric.Fabric,
    job: dimnet.Job,
    people: Sequence[int],
    *,
    covariate: str = dimnet.IDENTITY,
    shared: bool = True,
    steps: int = 100,
    names: Sequence[str] = ("woman", "man"),
) -> Plane:
    """Train two numbers a person on a few people, so that a picture can show all there is.

    Parameters
    ----------
    fabric
        From `training.launch`.
    job
        Whose data and sizes are used.
    people
        Whom to learn.
    covariate
        ``"identity"`` or ``"sex"``.
    shared
        One classifier for both modalities, or one for each.
    steps
        Updates, each on as many items as fit a batch of 40.
    names
        Of the values of the sex.
    """
    data = job.data
    others = [who for who in data.identities.tolist() if who not in set(people)]
    few = dataclasses.replace(
        job.train,
        encoders=dataclasses.replace(job.train.encoders, dim=2),
        steps=steps,
        batch_size=min(40, job.train.batch_size),
        learning_rate=0.1,  # half of the study's: two numbers diverge sooner
    )
    method = dimnet.DIMNet(((covariate, 1.0),), shared=shared)
    split = Split(tuple(sorted(people)), tuple(others[:2]), seed=0)
    (done,) = dimnet.Job(method, data, (split,), few).run(fabric)
    rows = {modality: data.rows(modality, people) for modality in dimnet.MODALITIES}
    sides = {"voice": data.voices.identities, "face": data.faces.identities}
    ordered = np.array(sorted(people))
    first = [int(torch.nonzero(data.faces.identities == int(who))[0, 0]) for who in ordered]
    vectors = {m: done.modules["heads"].weight(covariate, m).detach().double().numpy() for m in dimnet.MODALITIES}
    everybody = tuple(f"person {i + 1}" for i in range(len(ordered)))
    return Plane(
        {m: dimnet.embed(done.modules[m], data, m, rows[m]) for m in dimnet.MODALITIES},
        {m: np.searchsorted(ordered, sides[m][rows[m]].numpy()) for m in dimnet.MODALITIES},
        vectors,
        everybody if covariate == dimnet.IDENTITY else tuple(names[: len(vectors["voice"])]),
        data.faces.covariates["sex"][first].numpy(),
    )


def draw_plane(ax: Axes, plane: Plane, *, title: str) -> None:
    """Voices (dots) and faces (triangles) in the plane, one colour a person, and the class vectors as rays.

    Lengths are shown in units of the modality's longest: only directions are compared.
    """
    colors = _person_colors(len(plane.sex))
    by_class = len(plane.classes) == len(plane.sex)
    for modality, marker in (("voice", "o"), ("face", "^")):
        points = plane.points[modality] / np.linalg.norm(plane.points[modality], axis=1).max()
        ax.scatter(*points.T, c=colors[plane.people[modality]], marker=marker, s=26, linewidths=0, zorder=3)
        rays = plane.vectors[modality] / np.linalg.norm(plane.vectors[modality], axis=1, keepdims=True)
        style = "-" if modality == "voice" else "--"
        for number, ray in enumerate(rays):
            color = colors[number] if by_class else "black"
            ax.plot([0, 1.1 * ray[0]], [0, 1.1 * ray[1]], style, color=color, linewidth=1.1, alpha=0.8)
            if not by_class and modality == "voice":
                ax.text(*(1.18 * ray), plane.classes[number], ha="center", va="center")
    ax.set(title=title, aspect="equal", xlim=(-1.3, 1.3), ylim=(-1.3, 1.3), xticks=(-1, 0, 1), yticks=(-1, 0, 1))
    ax.set(xlabel="first number", ylabel="second number")


def _person_colors(count: int) -> Float[np.ndarray, "{count} 4"]:
    """Colours that can be told apart as long as there are no more than twenty people."""
    return matplotlib.colormaps["tab10" if count <= 10 else "tab20"](np.arange(count) % 20)


def plane_legend(fig: Figure) -> None:
    """What dots, triangles and rays are, below all pictures."""
    grey = plotting.PALETTE[7]
    marks = [
        Line2D([], [], marker="o", color=grey, linestyle="", label="voice"),
        Line2D([], [], marker="^", color=grey, linestyle="", label="face"),
        Line2D([], [], color=grey, linewidth=1.1, label="class vector of voices"),
        Line2D([], [], color=grey, linewidth=1.1, linestyle="--", label="class vector of faces"),
    ]
    fig.legend(handles=marks, loc="outside lower center", ncols=4)


def agreement(plane: Plane) -> float:
    """Share of voices whose direction is closest to a face of the same person."""
    unit = {m: p / np.linalg.norm(p, axis=1, keepdims=True) for m, p in plane.points.items()}
    nearest = (unit["voice"] @ unit["face"].T).argmax(axis=1)
    return float((plane.people["face"][nearest] == plane.people["voice"]).mean())


def explore_plane(planes: Mapping[tuple[str, bool], Plane]) -> widgets.VBox:
    """Play 1: what is learned (identity or sex), and whether the classifier is shared. Keys: label of what is learned, shared or not."""

    def draw(learned: str, shared: bool) -> Figure:
        plane = planes[learned, shared]
        fig, ax = plotting.figure(width=7, height=5)
        what = "one classifier" if shared else "a classifier for each"
        share = f": nearest face is the own for {agreement(plane):.0%}"
        draw_plane(ax, plane, title=f"{learned}, {what}{share}")
        plane_legend(fig)
        return fig

    names = list(dict.fromkeys(learned for learned, _ in planes))
    controls = {
        "learned": widgets.Dropdown(options=names, value=names[0], description="learned"),
        "shared": widgets.Checkbox(True, description="shared classifier"),
    }
    return explorer(draw, controls)


# ---------------------------------------------------------------------------------------------------------- the data


def draw_voices(axes: np.ndarray, voices: Voices, rows: Sequence[int], titles: Sequence[str]) -> None:
    """Log-mel pictures of recordings, side by side, on one scale.

    Parameters
    ----------
    axes
        One for each.
    voices
        All recordings.
    rows
        Which ones.
    titles
        One for each.
    """
    for ax, row, title in zip(np.ravel(axes), rows, titles, strict=True):
        first, end = int(voices.starts[row]), int(voices.starts[row + 1])
        seconds = (end - first) * voices.hop_ms / 1000
        frames = voices.log_mel[first:end].T.numpy()
        ax.imshow(
            frames, origin="lower", aspect="auto", extent=(0, seconds, 0, len(frames)), cmap="magma", vmin=-2, vmax=2.5
        )
        ax.set_title(title, fontsize=10)
        ax.set(xlabel="time (s)", ylabel="mel band")
        ax.grid(False)
        ax.label_outer()


def draw_losses(ax: Axes, results: Mapping[str, Sequence[Examined]], classes: Mapping[str, int]) -> None:
    """Loss of each variant over the updates, as a share of what guessing costs; mean over runs, smoothed over ten updates.

    Parameters
    ----------
    ax
        Axes.
    results
        Runs by name.
    classes
        Number of classes of each covariate, for the loss of a guess: log of the number, in both modalities.
    """
    for (name, runs), color in zip(results.items(), plotting.PALETTE, strict=False):
        known = [covariate for covariate, _ in runs[0].trained.method.weights]
        guess = 2 * sum(np.log(classes[covariate]) for covariate in known)
        loss = np.mean([run.trained.history["loss"] for run in runs], axis=0) / guess
        window = min(10, len(loss))
        smooth = np.convolve(loss, np.ones(window) / window, mode="valid")
        ax.plot(np.arange(len(smooth)) + window, smooth, color=color, label=f"DIMNet-{name}")
    ax.axhline(1, color="black", linestyle=":", linewidth=1)
    ax.set(title="Loss, relative to guessing", xlabel="update", ylabel="loss / loss of a guess", ylim=(0, None))
    ax.legend()


# ------------------------------------------------------------------------------------------------ a rotation decides


def rotated_accuracies(
    run: Examined, count: int, rng: np.random.Generator, direction: str = "v2f"
) -> Float[np.ndarray, " {count}"]:
    """1:2 accuracies when the face embeddings of a run are turned by random rotations: all that separate training leaves open.

    Parameters
    ----------
    run
        A run with embeddings.
    count
        Rotations.
    rng
        Source of chance.
    direction
        Which side the probes are.
    """
    dim, found = run.items.face.shape[1], []
    for _ in range(count):
        turned = dataclasses.replace(run.items, face=run.items.face @ ortho_group.rvs(dim, random_state=rng))
        found.append(turned_accuracy(run, turned, direction))
    return np.array(found)


def turned_accuracy(run: Examined, items: dimnet.Unseen, direction: str = "v2f", stratum: str = "U") -> float:
    """1:2 accuracy of a run whose embeddings were replaced by `items`."""
    other = dataclasses.replace(run, items=items)
    wins = cross_modal.pair_wins(*other.sided(direction), run.people)
    return wins.accuracy(run.eligible(stratum)).value


def draw_rotations(
    ax: Axes, turned: Float[np.ndarray, " rotations"], separate: Sequence[float], marks: Mapping[str, float]
) -> None:
    """Histogram of the accuracies of random rotations, ticks for separately trained runs, lines for what else is to be compared."""
    ax.hist(100 * turned, bins=16, color=plotting.PALETTE[7], label=f"{len(turned)} random rotations")
    ax.plot(100 * np.asarray(separate), np.zeros(len(separate)), "^", color=plotting.PALETTE[1], markersize=11,
            clip_on=False, label="runs with separate classifiers")  # fmt: skip
    for (label, value), color in zip(marks.items(), (plotting.PALETTE[0], plotting.PALETTE[2]), strict=False):
        ax.axvline(100 * value, color=color, label=f"{label}: {100 * value:.0f} %")
    ax.axvline(50, color="black", linestyle=":", linewidth=1)
    ax.set(title="What two separate spaces are worth", xlabel="1:2 accuracy (%)", ylabel="rotations", ylim=(0, None))
    ax.legend()


# ------------------------------------------------------------------------------------------------------- evaluation


def draw_strata(
    ax: Axes, table: pd.DataFrame, models: Sequence[str], limits: Mapping[str, Mapping[str, float]], *, title: str
) -> None:
    """1:2 accuracy by stratum with intervals over people, one colour a model, and lines for people who know covariates perfectly.

    Parameters
    ----------
    ax
        Axes, wide.
    table
        Of `studies.dimnet.matching_table`; both directions are averaged.
    models
        Which of its models.
    limits
        By who knows what: the accuracy in each stratum.
    title
        Of the picture.
    """
    strata = list(STRATA)
    mean = table.groupby(["model", "stratum"])[["accuracy", "low", "high"]].mean() * 100
    width = 0.8 / len(models)
    for number, name in enumerate(models):
        rows = mean.loc[name].loc[strata]
        place = np.arange(len(strata)) + width * (number - (len(models) - 1) / 2)
        spread = np.maximum([rows.accuracy - rows.low, rows.high - rows.accuracy], 0)
        ax.bar(place, rows.accuracy, 0.92 * width, color=_color(number), label=name)
        ax.errorbar(place, rows.accuracy, yerr=spread, fmt="none", ecolor="black", elinewidth=1, capsize=2)
    for (label, values), style in zip(limits.items(), ("-", "--", ":"), strict=False):
        for place, stratum in enumerate(strata):
            ax.plot([place - 0.45, place + 0.45], [100 * values[stratum]] * 2, style, color="black", linewidth=1.4,
                    label=label if place == 0 else None)  # fmt: skip
    ax.set_xticks(range(len(strata)), [f"{s}: {STRATUM_NAMES[s]}" for s in strata])
    ax.set(title=title, xlabel="who stands against the own face or voice", ylabel="1:2 accuracy (%)", ylim=(40, None))
    ax.legend(ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.18))


def _color(number: int) -> str:
    return plotting.PALETTE[number % len(plotting.PALETTE)]


def draw_curves(axes: Sequence[Axes] | np.ndarray, curves: pd.DataFrame, counts: Sequence[int], *, at: int = 0) -> None:
    """1:N accuracy over N, and N times it, with the bound of perfectly known sex.

    Parameters
    ----------
    axes
        Two axes.
    curves
        Of `studies.dimnet.match_curves`.
    counts
        Test people of either sex, for the exact bound.
    at
        A gallery size to mark, 0 for none.
    """
    sizes = np.array(sorted(curves.N.unique()))
    bound = np.asarray(ceilings.finite_match_accuracy(list(counts), sizes.tolist()))
    for (name, rows), color in zip(curves.groupby("model", sort=False), plotting.PALETTE, strict=False):
        for ax, factor in ((axes[0], 1), (axes[1], rows.N)):
            ax.plot(rows.N, factor * rows.accuracy, "o-", color=color, markersize=4, label=name)
            ax.fill_between(rows.N, factor * rows.low, factor * rows.high, color=color, alpha=0.18, linewidth=0)
    for ax, factor in ((axes[0], 1), (axes[1], sizes)):
        ax.plot(sizes, factor * bound, "--", color="black", label="perfect sex")
        ax.plot(sizes, factor / sizes, ":", color="black", label="guessing")
        ax.set(xscale="log", xlabel="entries of the gallery, N")
        ax.set_xticks(sizes, sizes)
        if at:
            ax.axvline(at, color=plotting.PALETTE[3], linewidth=1)
    axes[0].set(yscale="log", title="One of N", ylabel="accuracy")
    axes[0].set_yticks([0.02, 0.05, 0.1, 0.2, 0.5], [0.02, 0.05, 0.1, 0.2, 0.5])
    for ax in axes:
        ax.minorticks_off()
    axes[1].set(title="N times accuracy: worth how many guesses?", ylabel="N times accuracy", ylim=(0.8, None))
    axes[1].legend()


@dataclass(frozen=True)
class PairScores:
    """Scores of pairs in three groups, and the equal error rate of a stratum.

    Parameters
    ----------
    same, same_sex, other_sex
        One person; two people of one sex; two people of different sex.
    """

    same: Float[np.ndarray, " _"]
    same_sex: Float[np.ndarray, " _"]
    other_sex: Float[np.ndarray, " _"]

    def eer(self, stratum: str) -> tuple[float, float]:
        """Equal error rate and its threshold, against anybody (``"U"``) or against the same sex (``"G"``)."""
        strangers = self.same_sex if stratum == "G" else np.concatenate([self.same_sex, self.other_sex])
        scores = np.concatenate([self.same, strangers])
        curve = verification.sorted_scores(scores, np.arange(len(scores)) < len(self.same))
        rate = verification.eer(curve)
        return rate, float(np.quantile(self.same, rate))


def pair_scores(run: Examined) -> PairScores:
    """Scores of all pairs of a run, by who is compared."""
    scores, probe, gallery = run.sided("v2f")
    same = probe[:, None] == gallery
    alike = run.eligible("G")[probe][:, gallery]
    return PairScores(scores[same], scores[alike], scores[~same & ~alike])


def draw_scores(ax: Axes, pairs: PairScores, stratum: str = "U", *, title: str) -> None:
    """Histograms of the three groups of pairs, with the threshold of equal errors in a stratum."""
    bins = np.linspace(-1, 1, 61)
    groups = (
        ("one person", pairs.same, 2),
        ("two of one sex", pairs.same_sex, 4),
        ("of different sex", pairs.other_sex, 1),
    )
    for label, values, color in groups:
        ax.hist(values, bins, density=True, histtype="step", linewidth=2, color=plotting.PALETTE[color], label=label)
    rate, threshold = pairs.eer(stratum)
    ax.axvline(
        threshold,
        color="black",
        linestyle="--",
        linewidth=1.3,
        label=f"EER {100 * rate:.1f} % ({STRATUM_NAMES[stratum]})",
    )
    ax.set(title=title, xlabel="cosine of voice and face", ylabel="density")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)


def draw_people(
    ax: Axes, share: Float[np.ndarray, " people"], over_people: Estimate, trials: int, *, title: str
) -> None:
    """1:2 accuracy of each person's voices, with the interval over people and the one that treats all trials as independent."""
    ax.hist(100 * share, bins=np.arange(0, 101, 5), color=plotting.PALETTE[5], label="one person each")
    half = 196 * np.sqrt(over_people.value * (1 - over_people.value) / trials)
    top = ax.get_ylim()[1]
    middle = 100 * over_people.value
    spread = [[middle - 100 * over_people.low], [100 * over_people.high - middle]]
    ax.errorbar(middle, 0.95 * top, xerr=spread, fmt="o", color="black", capsize=4, label="mean, interval over people")
    ax.errorbar(middle, 0.8 * top, xerr=half, fmt="o", color=plotting.PALETTE[1], capsize=4,
                label=f"the same, {trials:,} trials as if independent")  # fmt: skip
    ax.set(title=title, xlabel="1:2 accuracy (%)", ylabel="people", xlim=(0, 101), ylim=(0, 1.05 * top))
    ax.legend(loc="upper left")


# ---------------------------------------------------------------------------------------------------- listen and look


def agreement_of(run: Examined, probe: int, entries: Int[np.ndarray, " n"]) -> list[str]:
    """For each person of a gallery, what he or she has in common with the probe's person: a key of `AGREEMENT`."""
    sex, home = (run.covariates[name] for name in ("sex", "nationality"))
    names = list(AGREEMENT)
    found = []
    for other in entries:
        alike = int(sex[other] == sex[probe]), int(home[other] == home[probe])
        found.append(names[0] if other == probe else names[{(1, 1): 1, (1, 0): 2, (0, 1): 3, (0, 0): 4}[alike]])
    return found


def draw_probe(run: Examined, data: dimnet.Meetings, person: int, *, count: int = 5, one_each: bool = True) -> Figure:
    """A probe voice and the faces that the run finds most like it; frames say what a face has in common with the probe.

    Parameters
    ----------
    run
        A run with embeddings.
    data
        What it was tested on.
    person
        Place of the probe among the test people; the first recording is taken.
    count
        Faces.
    one_each
        One picture a person stands in the gallery, the first one; otherwise all of them.
    """
    scores, probes, gallery = run.sided("v2f")
    row = int(np.flatnonzero(probes == person)[0])
    entries = np.flatnonzero(np.diff(gallery, prepend=-1)) if one_each else np.arange(len(gallery))
    order = entries[np.argsort(-scores[row, entries], kind="stable")]
    rank = 1 + int(np.flatnonzero(gallery[order] == person)[0])
    test = run.trained.split.test
    voice, faces = data.rows("voice", test), data.rows("face", test)
    fig, axes = plotting.figure(count + 1, width=2.6 + 1.55 * count, height=2.5, width_ratios=[1.9] + [1] * count)
    title = f"Test person {person + 1} speaks;\nown face: place {rank} of {len(order)}"
    draw_voices(axes[:1], data.voices, [int(voice[row])], [title])
    pictures = displayed(data.faces.images[faces[order[:count]]].expand(-1, 3, -1, -1))
    for place, (ax, picture, entry) in enumerate(zip(axes[1:], pictures, order[:count], strict=True), start=1):
        (kind,) = agreement_of(run, person, gallery[[entry]])
        ax.imshow(np.clip(picture / 2 + 0.5, 0, 1))
        ax.set(xticks=[], yticks=[])
        ax.set_title(
            f"{place}: {kind}".replace("and nationality ", "and\nnationality "), fontsize=8.5, fontweight="normal"
        )
        for side in ax.spines.values():
            side.set(visible=True, color=AGREEMENT[kind], linewidth=4)
        ax.grid(False)
    return fig


def top_agreement(run: Examined, count: int = 5) -> dict[str, float]:
    """Share of each kind of agreement among the best faces of all probes, one picture a person in the gallery."""
    scores, probes, gallery = run.sided("v2f")
    entries = np.flatnonzero(np.diff(gallery, prepend=-1))
    best = gallery[entries[np.argsort(-scores[:, entries], axis=1, kind="stable")[:, :count]]]
    kinds = [kind for probe, row in zip(probes, best, strict=True) for kind in agreement_of(run, int(probe), row)]
    return {name: kinds.count(name) / len(kinds) for name in AGREEMENT}


def chance_agreement(run: Examined) -> dict[str, float]:
    """The same for a gallery in random order."""
    everybody = np.arange(run.people)
    kinds = [kind for probe in everybody for kind in agreement_of(run, int(probe), everybody)]
    return {name: kinds.count(name) / len(kinds) for name in AGREEMENT}


def explore_probes(run: Examined, data: dimnet.Meetings) -> widgets.VBox:
    """Play 3: choose whose voice is asked for."""
    slider = widgets.IntSlider(1, min=1, max=run.people, description="person")
    return explorer(lambda person: draw_probe(run, data, person - 1), {"person": slider})


# ---------------------------------------------------------------------------------------------------------- the bridge


def draw_bridge(ax: Axes, table: pd.DataFrame, models: Mapping[str, str], *, title: str) -> None:
    """Predicted against measured, one point for each quantity and model, with intervals over people; logarithmic axes.

    Parameters
    ----------
    ax
        Axes.
    table
        Of `studies.dimnet.theory_table`.
    models
        Which models, and what to call them.
    title
        Of the picture.
    """
    marks = dict(zip(table.quantity.unique(), "osD^vP", strict=False))
    colors = _model_colors(table)
    for name in models:
        for row in table[table.model == name].itertuples(index=False):
            spread = [[max(row.measured - row.low, 0)], [max(row.high - row.measured, 0)]]
            ax.errorbar(row.predicted, row.measured, yerr=spread, fmt=marks[row.quantity], color=colors[name], markersize=7,
                        capsize=3, elinewidth=1.2)  # fmt: skip
    edge = np.array([0.8 * table.predicted.min(), 1.15 * table.predicted.max()])
    ax.plot(edge, edge, color="black", linewidth=1, zorder=0)
    ticks = [0.05, 0.1, 0.2, 0.3, 0.5, 0.7]
    ax.set(
        xscale="log",
        yscale="log",
        title=title,
        xlabel="predicted from what the heads say",
        ylabel="measured with the cosine",
    )
    ax.set_xticks(ticks, ticks)
    ax.set_yticks(ticks, ticks)
    ax.minorticks_off()
    kinds = [Line2D([], [], color=colors[name], linewidth=4, label=label) for name, label in models.items()]
    kinds += [Line2D([], [], color="black", marker=m, linestyle="", label=q) for q, m in marks.items()]
    ax.legend(handles=kinds, loc="upper left", fontsize=8.5)


def _model_colors(table: pd.DataFrame) -> dict[str, str]:
    """A colour for each model of a table, the same in all pictures of it."""
    return {name: _color(number) for number, name in enumerate(table.model.unique())}


def draw_gaps(ax: Axes, table: pd.DataFrame, models: Mapping[str, str], *, title: str, unit: str) -> None:
    """Measured minus predicted, in points, with intervals; one colour a model, quantities on the vertical axis.

    A smaller EER is the better one, so that its difference is turned: to the right is always better than predicted.
    """
    quantities, colors = list(table.quantity.unique()), _model_colors(table)
    for number, name in enumerate(models):
        rows = table[table.model == name].set_index("quantity").loc[quantities]
        sign = np.where(np.array(quantities) == "EER", -1, 1)
        middle, ends = 100 * sign * rows.difference, 100 * sign[:, None] * rows[["difference low", "difference high"]]
        place = np.arange(len(quantities)) + 0.16 * (number - (len(models) - 1) / 2)
        spread = np.maximum([middle - ends.min(axis=1), ends.max(axis=1) - middle], 0)
        ax.errorbar(middle, place, xerr=spread, fmt="o", color=colors[name], capsize=3, label=models[name])
    ax.axvline(0, color="black", linewidth=1)
    ax.set_yticks(range(len(quantities)), [f"{q} (turned)" if q == "EER" else q for q in quantities])
    ax.set(title=title, xlabel=unit, ylim=(len(quantities) - 0.5, -0.5))
    ax.legend(fontsize=8.5)


def draw_heads(
    axes: Sequence[Axes] | np.ndarray, tables: Sequence[Float[np.ndarray, "values labels"]], names: Sequence[str]
) -> None:
    """Confusion tables of the voice head and the face head: rows true values, columns answers by growing confidence."""
    for ax, table, side in zip(axes, tables, ("voices", "faces"), strict=True):
        ax.imshow(table, cmap=plotting.SEQUENTIAL, vmin=0, vmax=max(t.max() for t in tables), aspect="auto")
        for row, column in np.ndindex(table.shape):
            light = table[row, column] < 0.6 * max(t.max() for t in tables)
            ax.text(
                column,
                row,
                f"{100 * table[row, column]:.0f}",
                ha="center",
                va="center",
                color="white" if light else "black",
            )
        levels = table.shape[1] // len(names)
        ax.set_xticks(
            range(table.shape[1]), [f"{n} {level + 1}" for n in names for level in range(levels)], rotation=40
        )
        ax.set_yticks(range(len(names)), names)
        ax.set(title=f"The head on {side} (%)", xlabel=f"answer, and how sure (1 to {levels})", ylabel="true")
        ax.grid(False)


# --------------------------------------------------------------------------------------------------------- explorers


def explore_strata(worlds: Mapping[str, Mapping[str, Mapping[str, Estimate]]]) -> widgets.VBox:
    """Play 2: 1:2 accuracy of all models against a stratum of impostors, in worlds that share more or less.

    Parameters
    ----------
    worlds
        By world, model and stratum.
    """

    def draw(world: str, stratum: str) -> Figure:
        fig, ax = plotting.figure(width=7, height=3.4)
        found = {name: strata[stratum] for name, strata in worlds[world].items()}
        place = np.arange(len(found))
        shares, bars = plotting.whiskers(found.values())
        ax.bar(place, 100 * shares, 0.6, yerr=100 * bars, capsize=4, color=[_color(n) for n in range(len(found))])
        ax.axhline(50, color="black", linestyle=":", linewidth=1)
        ax.set_xticks(place, list(found))
        ax.set(title=f"{world}; against {STRATUM_NAMES[stratum]}", ylabel="1:2 accuracy (%)", ylim=(35, 80))
        return fig

    controls = {
        "world": widgets.Dropdown(options=list(worlds), description="in common"),
        "stratum": widgets.ToggleButtons(options=list(STRATA), description="against"),
    }
    return explorer(draw, controls)


def explore_gallery(curves: pd.DataFrame, counts: Sequence[int]) -> widgets.VBox:
    """Play 4: how large is the gallery? Accuracy of every model at N, beside the bound of perfectly known sex and guessing."""
    tables = {name: rows.set_index("N").accuracy for name, rows in curves.groupby("model", sort=False)}
    sizes = sorted(int(size) for size in curves.N.unique())
    bound = dict(zip(sizes, np.asarray(ceilings.finite_match_accuracy(list(counts), sizes)), strict=True))

    def draw(size: int) -> Figure:
        fig, ax = plotting.figure(width=7, height=3.2)
        values = {name: float(table[size]) for name, table in tables.items()}
        values |= {"perfect sex": float(bound[size]), "guessing": 1 / size}
        colors = [_color(n) for n in range(len(tables))] + ["black", plotting.PALETTE[7]]
        ax.barh(range(len(values)), [100 * v for v in values.values()], color=colors)
        for place, value in enumerate(values.values()):
            ax.text(100 * value, place, f" {100 * value:.1f} %, {value * size:.2f} guesses", va="center", fontsize=9)
        ax.set_yticks(range(len(values)), list(values))
        ax.set(
            title=f"One of {size}",
            xlabel="accuracy (%)",
            xlim=(0, 135 * max(values.values())),
            ylim=(len(values) - 0.5, -0.5),
        )
        return fig

    return explorer(draw, {"size": widgets.SelectionSlider(options=sizes, description="N")})


def explore_scores(models: Mapping[str, PairScores]) -> widgets.VBox:
    """Play 5: scores of same and different pairs, and the threshold of equal errors against anybody or the same sex."""

    def draw(model: str, stratum: str) -> Figure:
        fig, ax = plotting.figure(width=7, height=3.4)
        draw_scores(ax, models[model], stratum, title=f"DIMNet-{model}")
        return fig

    controls = {
        "model": widgets.ToggleButtons(options=list(models), description="model"),
        "stratum": widgets.ToggleButtons(options=["U", "G"], description="against"),
    }
    return explorer(draw, controls)


def draw_sweep(
    ax: Axes, weights: Sequence[float], found: Mapping[str, Sequence[float]], *, title: str, xlabel: str
) -> None:
    """1:2 accuracy in percent over a weight, one curve a stratum."""
    for (stratum, values), color in zip(found.items(), plotting.PALETTE, strict=False):
        ax.plot(range(len(weights)), 100 * np.asarray(values), "o-", color=color, label=STRATUM_NAMES[stratum])
    ax.axhline(50, color="black", linestyle=":", linewidth=1)
    ax.set_xticks(range(len(weights)), [f"{w:g}" for w in weights])
    ax.set(title=title, xlabel=xlabel, ylabel="1:2 accuracy (%)")
    ax.legend()
