"""Explorers for the notebooks: pictures with sliders, one section a paper.

Every explorer has a drawing function beside it that makes the same picture once, so that a notebook read on paper loses nothing.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from paper_utils import plotting
from paper_utils.data.covariate_files import CovariatePosteriors
from paper_utils.methods import covariates, sphereface_r
from paper_utils.metrics import ceilings, label_simulation, label_tests, ranks
from paper_utils.metrics.statistics import Estimate
from paper_utils.nn import margins
from paper_utils.world import covariates as world

# ------------------------------------------------------------------------------------------------- paper 06: SphereFace-R
# Each picture is a plain drawing function (used for the static figures too) and an explorer that gives it sliders.

FACTOR_HEADS = {"SphereFace (v0)": "v0", "SphereFace-R v1": "v1", "SphereFace-R v2": "v2"}
MARGIN_HEADS = {"NormFace": "normface", "CosFace": "cosface", "ArcFace": "arcface", **FACTOR_HEADS}


def _margin_in_range(psi: str, margin: float) -> float:
    """Move a slider's value (1 to 4) into the head's own range: (m - 1)/5 for the additive heads, m itself for the others."""
    return (margin - 1) / 5 if psi in ("cosface", "arcface") else margin


def draw_angular_functions(
    axes: Sequence[Axes] | np.ndarray, psi: str, margin: float, *, detach: bool, title: str | None = None
) -> None:
    r"""Left: :math:`\psi`, :math:`\eta` and :math:`\Delta` over the angle. Right: how fast the logits follow the cosine.

    Parameters
    ----------
    axes
        Two axes.
    psi, margin
        Head and its own margin.
    detach
        Slopes with characteristic gradient detachment or without.
    title
        Of the left panel.
    """
    theta = torch.linspace(0.01, math.pi - 0.01, 400, dtype=torch.float64)
    degrees = torch.rad2deg(theta)
    target, other = sphereface_r.psi_eta(psi, theta, margin)
    for values, label, color, style in (
        (target, r"$\psi$: own class", plotting.PALETTE[0], "-"),
        (other, r"$\eta$: other classes", plotting.PALETTE[1], "--"),
        (other - target, r"$\Delta=\eta-\psi$", plotting.PALETTE[7], ":"),
    ):
        axes[0].plot(degrees, values, style, color=color, label=label)
    slope_target, slope_other = sphereface_r.slopes(psi, theta, margin, detach=detach)
    axes[1].plot(degrees, slope_target, color=plotting.PALETTE[0], label=r"$d\psi/dc$")
    axes[1].plot(degrees, slope_other, "--", color=plotting.PALETTE[1], label=r"$d\eta/dc$")
    axes[1].set_yscale("symlog", linthresh=1)
    axes[1].set_ylim(-0.2, 60)
    axes[0].set_title(title or f"{psi}, m = {margin:.2g}")
    axes[1].set_title("Slopes, " + ("detached" if detach else "full gradient"))
    for ax, name in zip(axes, ("logit / scale", "slope per unit of cosine"), strict=True):
        ax.set(xlabel=r"angle $\theta$ (degrees)", ylabel=name, xticks=range(0, 181, 45))
        ax.legend()


def draw_decision_regions(ax: Axes, psi: str, margin: float, proxies_deg: Sequence[float] = (90, 210, 330)) -> None:
    """Directions on the circle that a class may claim under its margin; white is nobody's.

    Parameters
    ----------
    ax
        Polar axes.
    psi, margin
        Head and its own margin.
    proxies_deg
        Directions of the class proxies.
    """
    around = torch.linspace(0, 2 * math.pi, 721, dtype=torch.float64)
    proxies = torch.deg2rad(torch.tensor(proxies_deg, dtype=torch.float64))
    distance = (around[:, None] - proxies).remainder(2 * math.pi)
    distance = torch.minimum(distance, 2 * math.pi - distance)
    target, other = sphereface_r.psi_eta(psi, distance.flatten(), margin)
    target, other = target.view_as(distance), other.view_as(distance)
    for number, color in zip(range(len(proxies)), plotting.PALETTE, strict=False):
        rivals = torch.cat([other[:, :number], other[:, number + 1 :]], dim=1).amax(1)
        claimed = (target[:, number] >= rivals).numpy()
        ax.fill_between(around.numpy(), 0.72, 1.0, where=claimed, color=color, alpha=0.75, linewidth=0)
        ax.plot([proxies[number]] * 2, [0, 1.0], color=color, linewidth=2.5)
    ax.set(yticks=[], ylim=(0, 1.02))
    ax.set_xticks([math.radians(d) for d in range(0, 360, 60)])
    ax.grid(False)


def draw_logits_of_one_sample(ax: Axes, margin: float, *, target_deg: float = 50.0, scale: float = 16.0) -> None:
    """Logits of one sample among eight classes: untouched, own class lowered (v1), other classes lifted (v2)."""
    degrees = torch.tensor([target_deg, 62.0, 71.0, 80.0, 90.0, 101.0, 115.0, 140.0], dtype=torch.float64)
    cosine = torch.cos(torch.deg2rad(degrees)).unsqueeze(0)
    labels = torch.zeros(1, dtype=torch.long)
    place = torch.arange(len(degrees))
    for shift, (name, psi) in zip(
        (-0.27, 0, 0.27), (("no margin", "normface"), ("v1", "v1"), ("v2", "v2")), strict=True
    ):
        logits = scale * margins.margin_cosines(cosine, labels, *sphereface_r.angular_functions(psi, margin))
        share = torch.softmax(logits, dim=1)[0, 0]
        color = {"normface": plotting.PALETTE[7], "v1": plotting.PALETTE[0], "v2": plotting.PALETTE[1]}[psi]
        ax.bar(place + shift, logits[0], 0.25, color=color, label=f"{name}: own class gets P = {share:.2g}")
    ax.axhline(0, color="black", linewidth=0.8)
    names = ["own", *"BCDEFGH"]
    ax.set_xticks(place, [f"{n}\n{d:.0f}°" for n, d in zip(names, degrees, strict=True)])
    ax.set(
        xlabel="class and its angle to the sample", ylabel="logit", title=f"Who is moved by a margin of {margin:.2g}?"
    )
    ax.legend()


def draw_gradient_trace(
    axes: Sequence[Axes] | np.ndarray, histories: Mapping[str, Mapping[str, np.ndarray]], *, every: int = 1
) -> None:
    """Largest pull on a target cosine, mean target angle and nearest rival over training; one curve a run name.

    Parameters
    ----------
    axes
        Three axes.
    histories
        By label: the history of a training run with ``pull``, ``target_angle`` and ``rival``, each (records, members).
    every
        Steps between two records.
    """
    for number, (label, history) in enumerate(histories.items()):
        look = {"color": plotting.PALETTE[number // 2], "linestyle": "--" if number % 2 else "-", "label": label}
        steps = every * np.arange(len(history["pull"]))
        axes[0].semilogy(steps, np.nanmax(history["pull"], axis=1), linewidth=1.2, **look)
        axes[1].plot(steps, np.degrees(history["target_angle"]).mean(1), **look)
        axes[2].plot(steps, np.degrees(np.arccos(np.clip(history["rival"], -1, 1))).mean(1), **look)
    axes[0].axhline(1, color="black", linestyle=":", linewidth=1)
    axes[0].set(xlabel="step", ylabel=r"max $|\partial L/\partial c_y|\,/\,s$", title="The strongest pull in a batch")
    axes[1].set(xlabel="step", ylabel="degrees", title="Mean angle to the own class", ylim=(0, 185))
    axes[2].set(xlabel="step", ylabel="degrees", title="Mean angle to the nearest rival", ylim=(0, 185))
    axes[1].legend(loc="center right")


def draw_norm_and_quality(ax: Axes, quality: np.ndarray, norms: np.ndarray, *, title: str) -> None:
    """Length of unseen images' embeddings against the planted quality, with the mean of ten quality bins."""
    ax.plot(
        quality[::3], norms[::3], ".", color=plotting.PALETTE[7], markersize=3
    )  # a third of the dots is enough to see
    bins = np.clip((quality * 10).astype(int), 0, 9)
    means = [norms[bins == b].mean() for b in range(10)]
    ax.plot((np.arange(10) + 0.5) / 10, means, "o-", color=plotting.PALETTE[0])
    ax.set(xlabel="planted quality (0 poor, 1 clean)", ylabel="length of the embedding", title=title, ylim=(0, None))


def draw_margin_collapse(ax: Axes, excess: float, *, seed: int = 0) -> None:
    """Distance of each head's loss and gradient from NormFace when every margin is `excess` away from "off"."""
    found = [sphereface_r.distance_from_normface(psi, excess, seed=seed) for psi in list(MARGIN_HEADS.values())[1:]]
    place = np.arange(len(found))
    for shift, column, label, color in (
        (-0.2, 0, "loss", plotting.PALETTE[0]),
        (0.2, 1, "gradient", plotting.PALETTE[4]),
    ):
        ax.bar(place + shift, [max(row[column], 1e-17) for row in found], 0.4, color=color, label=label)
    ax.axhline(1e-6, color="black", linestyle=":", linewidth=1)
    ax.set_yscale("log")
    ax.set_xticks(place, list(MARGIN_HEADS)[1:], rotation=15)
    ax.set(ylabel="relative distance from NormFace", title=f"Margins {excess:g} above 'off'", ylim=(1e-17, 1e4))
    ax.legend(ncols=2)


def _explorer(draw: Callable[..., Figure], controls: dict[str, widgets.Widget]) -> widgets.VBox:
    """Controls above a picture that is drawn anew whenever one of them moves.

    The picture goes through an image widget rather than an output area: a notebook run without a browser then neither waits for a
    front end nor stores every picture twice.
    """
    picture = widgets.Image(format="png")

    def show(_: object = None) -> None:
        fig = draw(**{name: control.value for name, control in controls.items()})
        buffer = io.BytesIO()
        fig.savefig(buffer, format="png", dpi=55)
        plt.close(fig)
        picture.value = buffer.getvalue()

    for control in controls.values():
        control.observe(show, names="value")
    show()
    return widgets.VBox([widgets.HBox(list(controls.values())), picture])


def _margin_slider(value: float, high: float = 4.0) -> widgets.FloatSlider:
    return widgets.FloatSlider(value, min=1.0, max=high, step=0.1, description="m", continuous_update=False)


def explore_angular_functions() -> widgets.VBox:
    """Play 1: psi, eta, Delta and slopes of any head. For CosFace and ArcFace the slider's m stands for (m - 1)/5."""

    def draw(psi: str, margin: float, detach: bool) -> Figure:
        fig, axes = plotting.figure(2)
        draw_angular_functions(axes, psi, _margin_in_range(psi, margin), detach=detach)
        return fig

    controls = {
        "psi": widgets.Dropdown(options=MARGIN_HEADS, value="v0", description="head"),
        "margin": _margin_slider(2.0),
        "detach": widgets.Checkbox(False, description="detach the gradient"),
    }
    return _explorer(draw, controls)


def explore_decision_regions() -> widgets.VBox:
    """Play 2: what a class may claim on the circle, with movable second proxy."""

    def draw(psi: str, margin: float, second: float) -> Figure:
        fig, ax = plotting.figure(width=4.2, height=4.2, subplot_kw={"projection": "polar"})
        draw_decision_regions(ax, psi, _margin_in_range(psi, margin), (90, second, 330))
        return fig

    controls = {
        "psi": widgets.Dropdown(options=MARGIN_HEADS, value="v1", description="head"),
        "margin": _margin_slider(1.5),
        "second": widgets.FloatSlider(210, min=120, max=300, step=5, description="2nd proxy", continuous_update=False),
    }
    return _explorer(draw, controls)


def explore_logits() -> widgets.VBox:
    """Play 3: which logits a margin moves, v1 against v2."""

    def draw(margin: float, target_deg: float) -> Figure:
        fig, ax = plotting.figure(width=8.5)
        draw_logits_of_one_sample(ax, margin, target_deg=target_deg)
        return fig

    angle = widgets.FloatSlider(50, min=5, max=150, step=5, description="own angle", continuous_update=False)
    return _explorer(draw, {"margin": _margin_slider(1.4), "target_deg": angle})


def explore_gradient_traces(histories: Mapping[str, Mapping[str, np.ndarray]], *, every: int = 1) -> widgets.VBox:
    """Play 4: training with and without detachment, any two runs on top of each other."""

    def draw(first: str, second: str) -> Figure:
        fig, axes = plotting.figure(3, width=12)
        draw_gradient_trace(axes, {name: histories[name] for name in (first, second)}, every=every)
        return fig

    names = list(histories)
    controls = {
        "first": widgets.Dropdown(options=names, value=names[0], description="run"),
        "second": widgets.Dropdown(options=names, value=names[-1], description="against"),
    }
    return _explorer(draw, controls)


def explore_norms(results: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> widgets.VBox:
    """Play 5: length against quality for each normalisation; `results` maps a name to (quality, norms)."""

    def draw(scheme: str) -> Figure:
        fig, ax = plotting.figure(width=6.0)
        draw_norm_and_quality(ax, *results[scheme], title=scheme)
        return fig

    return _explorer(draw, {"scheme": widgets.Dropdown(options=list(results), description="scheme")})


def explore_margin_collapse() -> widgets.VBox:
    """Play 6: turn every margin off and watch all heads become NormFace."""

    def draw(excess: float) -> Figure:
        fig, ax = plotting.figure(width=7.5)
        draw_margin_collapse(ax, excess)
        return fig

    options = [0.0, 1e-6, 1e-4, 1e-2, 0.1, 0.3]
    return _explorer(
        draw,
        {"excess": widgets.SelectionSlider(options=options, value=0.0, description="margin", continuous_update=False)},
    )


# -------------------------------------------------------------------------------------------- paper 01: covariate matching


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
        value = np.array([[e.value, e.value - e.low, e.high - e.value] for e in found.values()]).T
        ax.errorbar(place, value[0], value[1:], fmt="o", color=plotting.PALETTE[number], label=label)
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
    return widgets.FloatSlider(value, min=low, max=high, step=0.01, description=name, continuous_update=False)


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
    return _explorer(draw, controls)


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
    return _explorer(draw, controls)


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
    return _explorer(draw, controls)
