"""Pictures and explorers of paper 01, covariate matching.

Each picture is a plain drawing function (used for the static figures too) and an explorer that gives it sliders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import ipywidgets as widgets
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from paper_utils import plotting
from paper_utils.data.covariate_files import CovariatePosteriors
from paper_utils.methods import covariates
from paper_utils.metrics import ceilings, label_simulation, label_tests, ranks
from paper_utils.metrics.statistics import Estimate
from paper_utils.widgets.explorer import explorer
from paper_utils.world import covariates as world


def gender_model(prior: float, probe_error: float, gallery_error: float) -> covariates.CovariateModel:
    """A binary covariate with symmetric recognition errors on either side."""
    tables = [[[1 - error, error], [error, 1 - error]] for error in (probe_error, gallery_error)]
    return covariates.CovariateModel([prior, 1 - prior], *tables)


def draw_matching_accuracy(ax: Axes, model: covariates.CovariateModel, *, trials: int = 2000, seed: int = 0) -> None:
    """Accuracy of 1:N matching against N: formula, simulation, perfect recognition, the bound K/N and chance.

    Parameters
    ----------
    ax
        Axes.
    model
        The covariate and its recognisers.
    trials, seed
        Of the simulated dots.
    """
    sizes = np.unique(np.geomspace(1, 1000, 60).astype(int))
    dots = np.array([2, 5, 20, 100])
    rng = np.random.default_rng(seed)
    tables = model.joint, model.gallery_marginal, model.likelihood_ratio
    found = [(label_simulation.places(*tables, int(n), trials, rng) == 1).mean() for n in dots]
    values = int((model.prior > 0).sum())
    palette = plotting.PALETTE
    ax.loglog(sizes, ceilings.perfect_match_accuracy(model.prior, sizes), color=palette[2], label="perfect recognition")
    ax.loglog(sizes, covariates.match_accuracy(model, sizes), color=palette[0], label="these recognisers")
    ax.loglog(dots, np.maximum(found, 1e-6), "o", color=palette[1], label="simulated")
    ax.loglog(sizes, np.minimum(1, values / sizes), ":", color="black", linewidth=1.2, label=f"bound {values}/N")
    ax.loglog(sizes, 1 / sizes, "--", color=palette[7], linewidth=1.2, label="chance 1/N")
    two = covariates.match_accuracy(model, 2)
    ax.set_xticks([1, 10, 100, 1000], ["1", "10", "100", "1000"])
    ax.set_yticks([1, 0.1, 0.01, 0.001], ["1", "0.1", "0.01", "0.001"])
    ax.minorticks_off()
    ax.set(xlabel="entries in the gallery, N", ylabel="accuracy", ylim=(8e-4, 1.3), title=f"1:2 accuracy {two:.1%}")
    ax.legend()


def draw_likelihood_ratio(ax: Axes, model: covariates.CovariateModel, *, title: str) -> None:
    """Table of L(a, b): colour is its logarithm, a frame marks the gallery label to prefer for each probe label."""
    ratio = model.likelihood_ratio
    bound = np.abs(np.log(np.maximum(ratio[np.isfinite(ratio)], 1e-3))).max()
    ax.imshow(np.log(np.maximum(ratio, 1e-3)), cmap=plotting.DIVERGING, vmin=-bound, vmax=bound)
    for (a, b), value in np.ndenumerate(ratio):
        strong = np.isfinite(value) and abs(np.log(max(value, 1e-3))) > 0.6 * bound
        ax.text(b, a, f"{value:.2f}", ha="center", va="center", fontsize=11, color="white" if strong else "black")
    for a, b in enumerate(np.nanargmax(ratio, axis=1)):
        ax.add_patch(Rectangle((b - 0.46, a - 0.46), 0.92, 0.92, fill=False, edgecolor="black", linewidth=2.5))
    ax.set_xticks(range(ratio.shape[1]), range(1, ratio.shape[1] + 1))
    ax.set_yticks(range(ratio.shape[0]), range(1, ratio.shape[0] + 1))
    ax.set(xlabel="gallery label b", ylabel="probe label a", title=title)
    ax.grid(False)


def draw_roc_and_dual(axes: Sequence[Axes] | np.ndarray, model: covariates.CovariateModel) -> None:
    """Left: ROC polygon with the randomised EER point. Right: the dual curve, whose peak is the EER."""
    test = covariates.verify(model)
    weights = np.linspace(0, 1, 401)
    error = label_tests.dual_error(model.joint, model.strangers, weights)
    axes[0].plot(
        test.false_accept, test.true_accept, "o-", color=plotting.PALETTE[0], label="ROC: one vertex a level of L"
    )
    axes[0].plot([0, 1], [1, 0], ":", color="black", linewidth=1.2, label="false accepts = false rejects")
    axes[0].plot(test.eer, 1 - test.eer, "D", color=plotting.PALETTE[1], markersize=9, label=f"EER {test.eer:.4f}")
    axes[0].set(
        xlabel="false accept rate", ylabel="true accept rate", title="Best test on the two labels", aspect="equal"
    )
    axes[0].legend(loc="lower right")
    axes[1].plot(weights, error, color=plotting.PALETTE[0])
    axes[1].axhline(test.eer, color=plotting.PALETTE[1], linestyle="--", linewidth=1.2, label=f"EER {test.eer:.4f}")
    axes[1].set(
        xlabel="weight w of pairs of strangers", ylabel="sum of min(w P0, (1 - w) P1)", title="Certificate from below"
    )
    axes[1].legend(loc="lower center")


def draw_share_ahead(axes: Sequence[Axes] | np.ndarray, models: Mapping[str, covariates.CovariateModel]) -> None:
    """Left: law of the share of impostors that outrank the match. Right: its density, and what a 1:10 gallery rewards."""
    z = np.linspace(0, 1, 1001)
    for label, model in models.items():
        law = covariates.mean_roc(model, z)
        axes[0].plot(z, law, label=label)
        axes[1].plot(z[1:], np.diff(law) * 1000, label=label)
    axes[0].plot([0, 1], [0, 1], "--", color=plotting.PALETTE[7], label="no information")
    axes[1].plot(z, 2 * (1 - z) ** 9, ":", color="black", label="what 1:10 rewards (scaled)")
    axes[0].set(title="Law of Z: the mean ROC of the probes", ylabel="probability of at most z")
    axes[1].set(title="Its density is the likelihood ratio", ylabel="density")
    for ax in axes:
        ax.set(xlabel="share of impostors ahead, z")
        ax.legend()


def draw_saturation(ax: Axes, models: Mapping[str, covariates.CovariateModel]) -> None:
    """N times the accuracy up to a million entries, with its limit (dotted)."""
    sizes = np.unique(np.geomspace(1, 1e6, 100).astype(int))
    for (label, model), color in zip(models.items(), plotting.PALETTE, strict=False):
        ax.semilogx(sizes, sizes * covariates.match_accuracy(model, sizes), color=color, label=label)
        ax.axhline(covariates.match_accuracy_limit(model), color=color, linestyle=":", linewidth=1)
    ax.set(
        title="Accuracy times N saturates", xlabel="entries in the gallery, N", ylabel="N times accuracy (1: chance)"
    )
    ax.legend()


def draw_eer_against_prior(ax: Axes) -> None:
    """Smallest EER of a perfectly recognised binary covariate, and that of the test that accepts every pair of one value."""
    p = np.linspace(0.5, 0.99, 400)
    best = 100 * np.array([ceilings.perfect_eer([x, 1 - x]) for x in p])
    same = 100 * np.array([covariates.same_label_eer(1.0, x**2 + (1 - x) ** 2) for x in p])
    low = best.argmin()
    ax.plot(p, same, "--", color=plotting.PALETTE[1], label="accept every pair of one gender")
    ax.plot(p, best, color=plotting.PALETTE[0], label="optimal (rare gender first)")
    ax.plot(p[low], best[low], "D", color="black", label=f"minimum {best[low]:.3f} % at {p[low]:.3f}")
    ax.set(title="Lowest EER that perfect gender allows", xlabel="share of the more frequent gender", ylabel="EER (%)")
    ax.legend()


def draw_retrieval_and_open_set(
    axes: Sequence[Axes] | np.ndarray, models: Mapping[str, covariates.CovariateModel], presence: float
) -> None:
    """Left: mAP with one relevant item against the size of the collection. Right: open-set accuracy."""
    items, entries = np.unique(np.geomspace(2, 1e6, 20).astype(int)), np.arange(1, 31)
    chance = {"linestyle": "--", "color": plotting.PALETTE[7]}
    axes[0].loglog(items, ranks.harmonic(items) / items, label="no information", **chance)
    for (label, model), color in zip(models.items(), plotting.PALETTE, strict=False):
        axes[0].loglog(items, [covariates.mean_reciprocal_rank(model, int(m)) for m in items], color=color, label=label)
        axes[1].plot(entries, covariates.open_set_accuracy(model, entries, presence), color=color, label=label)
    axes[1].axhline(1 - presence, label='always say "absent"', **chance)
    axes[0].set(title="One relevant item among M", xlabel="items in the collection, M", ylabel="mAP")
    axes[1].set(
        title=f"Probe present in {presence:.0%} of trials", xlabel="entries, N", ylabel="share of correct answers"
    )
    for ax in axes:
        ax.legend()


def draw_people(axes: Sequence[Axes] | np.ndarray, planet: world.CovariateWorld, people: world.CovariatePeople) -> None:
    """Joint prior of age and nationality, then voices and faces along the directions of gender and of one nationality."""
    names = world.COVARIATES
    image = axes[0].imshow(planet.joint_prior.sum(0), cmap=plotting.SEQUENTIAL, aspect="auto")
    axes[0].figure.colorbar(image, ax=axes[0], label="share of people")
    axes[0].set_xticks(range(len(names["nationality"])), names["nationality"])
    axes[0].set_yticks(range(len(names["age"])), names["age"])
    axes[0].set(title="Age depends on nationality", xlabel="nationality", ylabel="age band")
    axes[0].grid(False)
    for ax, features, name in ((axes[1], people.voice, "Voices"), (axes[2], people.face, "Faces")):
        centre = features.mean(axis=0)
        along = [features[people.values[c] == 1].mean(axis=0) - centre for c in ("gender", "nationality")]
        place = (features - centre) @ np.transpose([d / np.linalg.norm(d) for d in along])
        for value, label in enumerate(names["gender"]):
            ax.plot(*place[people.values["gender"] == value].T, ".", markersize=3, label=label)
        ax.set(title=name, xlabel="towards women (noise = 1)", ylabel="towards nationality B (noise = 1)")
        ax.legend(markerscale=3)


def draw_calibration(ax: Axes, sides: Mapping[str, Sequence[CovariatePosteriors]], *, title: str) -> None:
    """Stated probability against observed frequency, in ten bins, pooled over values and over the given sets of people."""
    for label, sets in sides.items():
        stated = np.concatenate([people.posterior.ravel() for people in sets])
        true = np.concatenate([np.eye(people.posterior.shape[1])[people.values].ravel() for people in sets])
        bins = np.clip((stated * 10).astype(int), 0, 9)
        count = np.maximum(np.bincount(bins, minlength=10), 1)
        ax.plot(np.bincount(bins, stated, 10) / count, np.bincount(bins, true, 10) / count, "o-", label=label)
    ax.plot([0, 1], [0, 1], "--", color=plotting.PALETTE[7], label="calibrated")
    ax.set(title=title, xlabel="stated probability", ylabel="observed frequency", aspect="equal")
    ax.legend()


def draw_checks(ax: Axes, table: pd.DataFrame, *, title: str) -> None:
    """One dot a check (columns ``check`` and ``z``), in standard errors; the band is two wide."""
    ax.plot(table.z, range(len(table)), "o", color=plotting.PALETTE[0])
    ax.axvspan(-2, 2, color=plotting.PALETTE[0], alpha=0.08)
    ax.axvline(0, color="black", linewidth=0.8)
    ax.set_yticks(range(len(table)), table.check, fontsize=9)
    ax.set(title=title, xlabel="simulated minus formula (standard errors)", xlim=(-4.2, 4.2), ylim=(len(table), -1))


def draw_intervals(
    ax: Axes, groups: Mapping[str, Mapping[str, Estimate]], *, line: float, title: str, ylabel: str
) -> None:
    """Estimates with their intervals: a colour a group, a place on the x axis for each name; the band is `line` wide."""
    names = list(max(groups.values(), key=len))
    for number, (label, found) in enumerate(groups.items()):
        place = [names.index(name) + 0.16 * (number - (len(groups) - 1) / 2) for name in found]
        middle, bars = plotting.whiskers(found.values())
        ax.errorbar(place, middle, bars, fmt="o", color=plotting.PALETTE[number], label=label)
    ax.axhspan(-line, line, color=plotting.PALETTE[2], alpha=0.12)
    ax.axhline(0, color="black", linewidth=0.8)
    ax.set_xticks(range(len(names)), names)
    ax.set(title=title, xlabel="metric", ylabel=ylabel)
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))


def draw_runs(ax: Axes, groups: Mapping[str, Mapping[str, Sequence[float]]], *, title: str, ylabel: str) -> None:
    """One dot a run: a place on the x axis for each outer name, a colour for each inner one."""
    labels = list(dict.fromkeys(label for found in groups.values() for label in found))
    for place, found in enumerate(groups.values()):
        for label, values in found.items():
            number = labels.index(label)
            across = place + 0.3 * (number - (len(labels) - 1) / 2) + np.linspace(-0.08, 0.08, len(values))
            ax.plot(across, values, "o", color=plotting.PALETTE[number], alpha=0.7, label=None if place else label)
    ax.set_xticks(range(len(groups)), groups)
    ax.set(title=title, xlabel="world", ylabel=ylabel)
    ax.legend()


def draw_rules(
    ax: Axes, sizes: Sequence[int], rules: Mapping[str, Float[np.ndarray, "runs sizes"]], *, title: str
) -> None:
    """N times accuracy of several rules, with bands over runs; broken lines for what is not measured."""
    styles = {"predicted from tables": ":", "perfect recognition": "--"}
    for (label, values), color in zip(rules.items(), ["black", *plotting.PALETTE], strict=False):
        scaled = values * np.asarray(sizes)
        plotting.curve_with_interval(ax, sizes, scaled, label=label, color=color, linestyle=styles.get(label, "-"))
    ax.axhline(1, color=plotting.PALETTE[7], linestyle="--", linewidth=1.2, label="chance")
    ax.set_xscale("log")
    ax.set_xticks(sizes, sizes)
    ax.minorticks_off()
    ax.set(title=title, xlabel="entries in the gallery, N", ylabel="N times accuracy")
    ax.legend(loc="upper left")


def _share(value: float, name: str, low: float = 0.0, high: float = 0.5) -> widgets.FloatSlider:
    return widgets.FloatSlider(value, min=low, max=high, step=0.01, description=name)


def explore_matching_accuracy() -> widgets.VBox:
    """Play 1: how far a binary covariate carries, for any prior and recognisers."""

    def draw(prior: float, probe_error: float, gallery_error: float) -> Figure:
        fig, ax = plotting.figure(width=6.5, layout="none")
        fig.subplots_adjust(bottom=0.17)
        draw_matching_accuracy(ax, gender_model(prior, probe_error, gallery_error))
        return fig

    controls = {
        "prior": _share(0.61, "prior", 0.5, 0.95),
        "probe_error": _share(0.03, "probe err"),
        "gallery_error": _share(0.05, "gallery err"),
    }
    return explorer(draw, controls)


def overlapping_model(second_as_third: float, third_as_second: float) -> covariates.CovariateModel:
    """Three values, of which the probe recogniser mixes up the last two at will."""
    probe = [
        [0.75, 0.2, 0.05],
        [0.05, 0.95 - second_as_third, second_as_third],
        [0.1, third_as_second, 0.9 - third_as_second],
    ]
    gallery = [[0.85, 0.1, 0.05], [0.15, 0.7, 0.15], [0.02, 0.38, 0.6]]
    return covariates.CovariateModel([0.55, 0.35, 0.1], probe, gallery)


def explore_likelihood_ratio() -> widgets.VBox:
    """Play 2: edit the confusion of two values and watch the choice leave the diagonal."""

    def draw(second_as_third: float, third_as_second: float) -> Figure:
        fig, ax = plotting.figure(width=4.6, height=4.0)
        model = overlapping_model(second_as_third, third_as_second)
        lost = covariates.match_accuracy(model, 2) - covariates.match_accuracy(
            model, 2, covariates.same_label_score(model)
        )
        draw_likelihood_ratio(ax, model, title=f'"Same label" loses {lost:.1%} at 1:2')
        return fig

    controls = {
        "second_as_third": _share(0.4, "2 seen as 3", 0, 0.95),
        "third_as_second": _share(0.6, "3 seen as 2", 0, 0.9),
    }
    return explorer(draw, controls)


def explore_verification() -> widgets.VBox:
    """Play 3: ROC polygon, EER and its certificate for a binary covariate."""

    def draw(prior: float, probe_error: float, gallery_error: float) -> Figure:
        fig, axes = plotting.figure(2, layout="none")
        fig.subplots_adjust(bottom=0.17, wspace=0.3)
        draw_roc_and_dual(axes, gender_model(prior, probe_error, gallery_error))
        return fig

    controls = {
        "prior": _share(0.61, "prior", 0.5, 0.95),
        "probe_error": _share(0.0, "probe err"),
        "gallery_error": _share(0.0, "gallery err"),
    }
    return explorer(draw, controls)
