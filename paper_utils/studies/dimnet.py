"""What notebook 02 trains and measures: DIMNet's variants, two methods that look at pairs, and three controls; and paper 01's prediction.

It stands above the methods of papers 01 and 02, which do not know each other: the heads of DIMNet are recognisers whose tables say how
far covariates alone can get.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import lightning_fabric
import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int

from paper_utils import audio
from paper_utils.data import voices_and_faces
from paper_utils.data.matching_lists import STRATA
from paper_utils.data.samples import LabelledImages
from paper_utils.data.speech import Voices
from paper_utils.data.vggface import SIZES
from paper_utils.experiment import Experiment
from paper_utils.methods import covariates, dimnet
from paper_utils.metrics import cross_modal
from paper_utils.metrics.by_identity import resample_identities
from paper_utils.metrics.cross_modal import Measure, PairWins
from paper_utils.metrics.statistics import Estimate
from paper_utils.open_set import Split, random_splits
from paper_utils.world.meetings import deal, person_values
from paper_utils.world.meetings import voices_and_faces as meet
from paper_utils.world.people import Population
from paper_utils.world.portraits import ImageNuisance

COVARIATES = ("sex", "nationality")
DIRECTIONS = {"v2f": "voice to face", "f2v": "face to voice"}
SEPARATE, DEALT, PERMUTED = "separate classifiers", "only the sex in common", "permuted identities"
# Frontal pictures, as the released archive of aligned faces has them: half the light, a quarter of the turning. Choices of ours.
FRONTAL = ImageNuisance(pose=0.25, light=0.5, expression=0.25, occlusion=0.0, noise=1.0)
LINK = 0.6  # default of `Population`
MAX_BYTES = 2**34  # of the recordings, or pictures, of a part of the real people
# Levels of confidence that a head's answer is cut into, for the tables of paper 01. Choice of ours.
LEVELS = 4


# ---------------------------------------------------------------------------------------------------------- the study


@dataclass(frozen=True)
class Study:
    """People and trainings of notebook 02.

    Parameters
    ----------
    data
        Voices and faces.
    dealt
        The same, with voices dealt among people of equal sex.
    jobs
        Trainings by name: the variants (``"IG"``), ``"SVHF"``, ``"contrastive"``, and the controls `SEPARATE`, `DEALT`, `PERMUTED`.
    """

    data: dimnet.Meetings
    dealt: dimnet.Meetings
    jobs: dict[str, dimnet.Job]

    def data_of(self, name: str) -> dimnet.Meetings:
        """What a training saw, and is tested on."""
        return self.jobs[name].data


def load_people(exp: Experiment, *, voice_face_link: float = LINK) -> tuple[dimnet.Meetings, list[int], list[int]]:
    """Voices and faces, and whom to learn and to test; synthetic people, or with ``exp.data == "voxceleb"`` those of the paper's split.

    Of real people the full profile takes all recordings and pictures of test people, and 12 of each training person; quick takes 4
    recordings and 6 pictures of everybody, smoke 2 and 2. Which ones is drawn by ``exp.rng``. All are held in memory: in the full profile
    about 16 GB, twice that for a moment while the parts are joined, and some 30 GB for the verification of all 440 million pairs (from the
    sizes of the arrays, not measured).

    Returns
    -------
    tuple
        Data, identities for training and for the test. Synthetic people are divided anew for each run (`random_splits`).
    """
    recordings, pictures = exp.scale(smoke=(2, 2), quick=(4, 6), full=(12, 12))
    if exp.data == "voxceleb":
        return _real_people(exp, recordings, pictures)
    learned, unseen = exp.scale(smoke=(24, 16), quick=(380, 120), full=(924, 189))
    mel, size = exp.scale(smoke=(16, 16), quick=(40, 24), full=(64, 128))
    population = Population(seed=exp.seed, size=learned + unseen, voice_face_link=voice_face_link)
    seconds = exp.scale(smoke=0.8, quick=2.0, full=6.0)
    voices, faces = meet(
        population, range(learned + unseen), recordings=recordings, pictures=pictures, seconds=seconds, mel=mel, size=size,
        nuisance=FRONTAL, seed=exp.seed,
    )  # fmt: skip
    voices = dataclasses.replace(voices, log_mel=audio.normalise_recording(voices.stacked()).flatten(0, 1))
    return dimnet.Meetings(voices, faces), list(range(learned)), list(range(learned, learned + unseen))


def _real_people(exp: Experiment, recordings: int, pictures: int) -> tuple[dimnet.Meetings, list[int], list[int]]:
    """The paper's training and test people, as `load_people` says."""
    parts = voices_and_faces.read(exp.data_root, ("train", "test"), size=SIZES["02"])
    first = {"train": 0, "test": len(parts["train"].people)}
    voices, faces = [], []
    for name, part in parts.items():
        everything = name == "test" and exp.profile == "full"
        for source, count, load, into in (
            (part.voices, recordings, part.load_voices, voices),
            (part.faces, pictures, part.load_faces, faces),
        ):
            rng = exp.rng(f"{name}, {'voices' if into is voices else 'faces'}")
            rows = voices_and_faces.some_of_each(source.identities, len(source) if everything else count, rng)
            loaded = load(rows, max_bytes=MAX_BYTES)
            into.append(dataclasses.replace(loaded, identities=loaded.identities + first[name]))
    people = sum(len(part.people) for part in parts.values())
    data = dimnet.Meetings(_joined_voices(voices), _joined_faces(faces))
    return data, list(range(first["test"])), list(range(first["test"], people))


def _joined_faces(parts: Sequence[LabelledImages]) -> LabelledImages:
    covariates = {name: torch.cat([part.covariates[name] for part in parts]) for name in COVARIATES}
    images, identities = (torch.cat([getattr(part, name) for part in parts]) for name in ("images", "identities"))
    return LabelledImages(images, identities, parts[0].name, covariates)


def _joined_voices(parts: Sequence[Voices]) -> Voices:
    ends = {}
    for name in ("starts", "phone_starts"):
        lengths = torch.cat([getattr(part, name).diff() for part in parts])
        ends[name] = torch.cat([torch.zeros(1, dtype=lengths.dtype), lengths.cumsum(0)])
    arrays = {
        name: torch.cat([getattr(part, name) for part in parts])
        for name in ("log_mel", "identities", "phones", "boundaries_s")
    }
    labels = {name: torch.cat([part.covariates[name] for part in parts]) for name in COVARIATES}
    return dataclasses.replace(parts[0], **ends, **arrays, covariates=labels)


def study(exp: Experiment, *, voice_face_link: float = LINK) -> Study:
    """All trainings of notebook 02, none of which has run.

    Scaled to a few hundred people: both encoders at an eighth of their width, 16 numbers an embedding, 150 updates. Choices of ours, the
    same for all methods; the two that look at pairs start from the encoders that were trained with separate classifiers. Real people in the
    full profile are trained as `dimnet.TrainConfig` says, and tested on all that there is of them (`load_people`).

    Parameters
    ----------
    exp
        Profile, seed and data.
    voice_face_link
        How much anatomy voices and faces share (synthetic people only).
    """
    data, learn, test = load_people(exp, voice_face_link=voice_face_link)
    runs = exp.scale(smoke=2, quick=3, full=5)
    if exp.data == "voxceleb":
        splits = tuple(Split(tuple(learn), tuple(test), seed) for seed in exp.seeds(runs))
    else:
        splits = random_splits(data.identities, len(learn), len(test), rng=exp.rng("splits"), seeds=exp.seeds(runs))
    bands, channels = data.voices.log_mel.shape[1], data.faces.images.shape[1]
    train = dimnet.TrainConfig(
        encoders=dimnet.EncoderConfig(
            bands, channels, *exp.scale(smoke=(8, 1 / 16), quick=(16, 1 / 8), full=(64, 1.0))
        ),
        steps=exp.scale(smoke=6, quick=150, full=6000),
        batch_size=exp.scale(smoke=32, quick=128, full=256),
        learning_rate=0.2,
        schedule="one-cycle",
        clip_norm=2.0,
        crop_frames=exp.scale(smoke=(32, 48), quick=(64, 112), full=(300, 800)),
    )
    if exp.data == "voxceleb" and exp.profile == "full":
        train = dimnet.TrainConfig(encoders=dimnet.EncoderConfig(bands, channels))
    few = exp.scale(smoke=1, quick=1, full=runs)
    some = exp.scale(smoke=1, quick=2, full=runs)
    variant = dimnet.DIMNet.variant
    dealt = dimnet.Meetings(deal(data.voices, exp.rng("deal"), within=("sex",)), data.faces)
    planned = {
        "I": (variant("I"), data, runs),
        "G": (variant("G"), data, runs),
        "IG": (variant("IG"), data, some),
        "N": (variant("N"), data, few),
        "GN": (variant("GN"), data, few),
        "IGN": (variant("IGN"), data, few),
        "SVHF": (dimnet.SVHF(), data, some),
        "contrastive": (dimnet.Contrastive(), data, few),
        SEPARATE: (variant("I", shared=False), data, runs),
        DEALT: (variant("I"), dealt, some),
        PERMUTED: (variant("I", permuted=True), data, few),
    }
    jobs = {name: dimnet.Job(method, on, splits[:count], train) for name, (method, on, count) in planned.items()}
    for name in ("SVHF", "contrastive"):
        jobs[name] = dataclasses.replace(jobs[name], start=jobs[SEPARATE])
    return Study(data, dealt, jobs)


def trainings(exp: Experiment) -> dict[str, Callable[[lightning_fabric.Fabric], Float[np.ndarray, "steps runs"]]]:
    """The study's trainings as calls that fill the cache and give the loss of every step."""
    return {
        name: lambda fabric, job=job: np.stack([done.history["loss"] for done in job.run(fabric)], axis=1)
        for name, job in study(exp).jobs.items()
    }


# ---------------------------------------------------------------------------------------------------- people unseen


@dataclass(frozen=True)
class Examined:
    """One run on its test people: everything that the tables need.

    Parameters
    ----------
    trained
        The run.
    items
        Embeddings of the test people; ``None`` for SVHF, which has none.
    wins
        1:2 decisions by direction (``"v2f"``, ``"f2v"``).
    covariates
        Sex and nationality of each test person.
    weights
        How often each test person is drawn in each resample.
    """

    trained: dimnet.Trained
    items: dimnet.Unseen | None
    wins: dict[str, PairWins]
    covariates: dict[str, Int[np.ndarray, " people"]]
    weights: Int[np.ndarray, "resamples people"]

    @property
    def people(self) -> int:
        """Number of test people."""
        return self.weights.shape[1]

    def eligible(self, stratum: str) -> Bool[np.ndarray, "people people"]:
        """Who may stand against whom in a stratum, see `paper_utils.data.matching_lists.STRATA`."""
        return cross_modal.eligible_people(self.covariates, STRATA[stratum])

    def sided(self, direction: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Scores with probes as rows, and the person of each row and column."""
        if self.items is None:
            raise ValueError("this run has no embeddings: SVHF decides triples, there is no score of a pair")
        scores = self.items.scores if direction == "v2f" else self.items.scores.T
        sides = self.items.voice_people, self.items.face_people
        return scores, *(sides if direction == "v2f" else sides[::-1])


def resamples(study: Study, exp: Experiment) -> Int[np.ndarray, "resamples people"]:
    """Resampled people for the whole study: drawn once among all, so that runs with other test people are resampled together."""
    count = exp.scale(smoke=20, quick=400, full=1000)
    return resample_identities(len(study.data.identities), count, exp.rng("resamples"))


def examine(
    trained: dimnet.Trained, data: dimnet.Meetings, weights: Int[np.ndarray, "resamples everybody"]
) -> Examined:
    """Embed the test people of a run and compare voices with faces.

    Parameters
    ----------
    trained, data
        A run, and the data it is tested on.
    weights
        From `resamples`.
    """
    who = np.array(sorted(trained.split.test))
    columns = np.searchsorted(data.identities.numpy(), who)
    values = {
        name: person_values(data.faces.covariates, data.faces.identities, name, data.faces.name)[columns]
        for name in COVARIATES
    }
    drawn = weights[:, columns]
    if isinstance(trained.method, dimnet.SVHF):
        direction = "v2f" if trained.method.probe == "voice" else "f2v"
        return Examined(trained, None, {direction: dimnet.svhf_wins(trained, data)}, values, drawn)
    items = dimnet.unseen(trained, data)
    examined = Examined(trained, items, {}, values, drawn)
    wins = {direction: cross_modal.pair_wins(*examined.sided(direction), len(who)) for direction in DIRECTIONS}
    return dataclasses.replace(examined, wins=wins)


def examine_all(
    study: Study, exp: Experiment, fabric: lightning_fabric.Fabric, names: Sequence[str] | None = None
) -> dict[str, list[Examined]]:
    """Run (or read from the cache) the trainings of the given names, all by default, and test each run."""
    weights = resamples(study, exp)
    return {
        name: [examine(done, study.data_of(name), weights) for done in study.jobs[name].run(fabric)]
        for name in (names or study.jobs)
    }


def perfect(examined: Examined, known: Sequence[str]) -> Examined:
    """The same people, matched by somebody who knows the covariates `known` without error, and nothing else."""
    alike = cross_modal.eligible_people(examined.covariates, known)
    return dataclasses.replace(
        examined,
        items=None,
        wins={
            direction: dataclasses.replace(wins, wins=np.where(alike, 0.5, 1.0) - np.eye(examined.people))
            for direction, wins in examined.wins.items()
        },
    )


# ----------------------------------------------------------------------------------------------------- measurements


def mean_measure(measures: Sequence[Measure]) -> Measure:
    """Mean over runs, resample by resample."""
    return Measure(float(np.mean([m.value for m in measures])), np.mean([m.draws for m in measures], axis=0))


def matching(
    runs: Sequence[Examined],
    stratum: str = "U",
    direction: str | None = None,
    *,
    average: str = "items",
    resampled: bool = True,
) -> Measure:
    """1:2 accuracy, mean over runs, and over both directions (as far as the method has them) if none is given."""
    return mean_measure(
        [
            wins.accuracy(run.eligible(stratum), weights=run.weights if resampled else None, average=average)
            for run in runs
            for name, wins in run.wins.items()
            if direction in (None, name)
        ]
    )


def verification(runs: Sequence[Examined], stratum: str = "U") -> dict[str, Measure]:
    """``"EER"`` and ``"AUC"`` over all pairs of a voice and a face, mean over runs."""
    found = [cross_modal.pair_test(*run.sided("v2f"), run.eligible(stratum), weights=run.weights) for run in runs]
    return {"EER": mean_measure([one.eer for one in found]), "AUC": mean_measure([one.auc for one in found])}


def retrieval(runs: Sequence[Examined], direction: str = "v2f") -> Measure:
    """mAP over all items of the test people, mean over runs."""
    return mean_measure(
        [cross_modal.retrieval_by_person(*run.sided(direction), run.people, weights=run.weights) for run in runs]
    )


def estimate(measure: Measure, runs: Sequence[Examined]) -> Estimate:
    """A measure with its 95 % interval over people.

    Resampled people come in copies, which makes large galleries easier and tables of paper 01 too confident. The interval therefore takes
    the spread of the resamples, and puts it around the value.
    """
    people = len({int(person) for run in runs for person in run.trained.split.test})
    low, high = _interval(measure.value, measure.draws)
    method = f"bootstrap over people, {len(measure.draws)} resamples, centred on the value"
    return Estimate(measure.value, low, high, people, method)


def _interval(value: float, draws: Float[np.ndarray, " resamples"]) -> tuple[float, float]:
    """Ends of the interval; NaN if no resample is defined."""
    known = draws[np.isfinite(draws)]
    if len(known) == 0:
        return np.nan, np.nan
    low, high = np.quantile(known - known.mean() + value, [0.025, 0.975])
    return float(low), float(high)


def difference(first: Measure, second: Measure) -> Measure:
    """First minus second on the same resamples of people."""
    return Measure(first.value - second.value, first.draws - second.draws)


def shared_runs(first: Sequence[Examined], second: Sequence[Examined]) -> tuple[list[Examined], list[Examined]]:
    """The runs of both that have the same test people, for paired differences.

    Raises
    ------
    ValueError
        If there are none.
    """
    by_split = {run.trained.split: run for run in second}
    pairs = [(run, by_split[run.trained.split]) for run in first if run.trained.split in by_split]
    if not pairs:
        raise ValueError("runs: the two have no test people in common; train them on the same splits")
    return [run for run, _ in pairs], [run for _, run in pairs]


def matching_table(results: Mapping[str, Sequence[Examined]]) -> pd.DataFrame:
    """1:2 accuracy of every model, direction and stratum: value, interval over people, macro average, probes that could not be tested."""
    rows = []
    for name, runs in results.items():
        for direction in runs[0].wins:
            for stratum in STRATA:
                found = estimate(matching(runs, stratum, direction), runs)
                macro = matching(runs, stratum, direction, average="people", resampled=False).value
                skipped = sum(run.wins[direction].skipped(run.eligible(stratum)) for run in runs)
                rows.append((name, direction, stratum, found.value, found.low, found.high, macro, skipped, len(runs)))
    columns = ["model", "direction", "stratum", "accuracy", "low", "high", "macro", "skipped", "runs"]
    return pd.DataFrame(rows, columns=columns)


def verification_table(
    results: Mapping[str, Sequence[Examined]], strata: Sequence[str] = tuple(STRATA)
) -> pd.DataFrame:
    """EER and AUC of every model that scores pairs, by stratum, with intervals over people."""
    rows = []
    for name, runs in results.items():
        for stratum in strata if runs[0].items is not None else ():
            found = verification(runs, stratum)
            eer, auc = (estimate(found[quantity], runs) for quantity in ("EER", "AUC"))
            rows.append((name, stratum, eer.value, eer.low, eer.high, auc.value, auc.low, auc.high))
    columns = ["model", "stratum", "EER", "EER low", "EER high", "AUC", "AUC low", "AUC high"]
    return pd.DataFrame(rows, columns=columns)


def retrieval_table(results: Mapping[str, Sequence[Examined]]) -> pd.DataFrame:
    """mAP of every model that scores pairs, by direction, with intervals over people, and what a score that knows nothing gets."""
    rows = []
    for name, runs in results.items():
        for direction in DIRECTIONS if runs[0].items is not None else ():
            found = estimate(retrieval(runs, direction), runs)
            chance = np.mean([_blind(run, direction) for run in runs])
            rows.append((name, direction, found.value, found.low, found.high, chance))
    return pd.DataFrame(rows, columns=["model", "direction", "mAP", "low", "high", "chance"])


def _blind(run: Examined, direction: str) -> float:
    scores, probe, gallery = run.sided(direction)
    return cross_modal.retrieval_by_person(np.zeros_like(scores), probe, gallery, run.people).value


def match_curves(
    results: Mapping[str, Sequence[Examined]], sizes: Sequence[int], *, direction: str = "v2f", draws: int = 12
) -> pd.DataFrame:
    """1:N accuracy of every model that scores pairs: galleries of N different people, one item of each; intervals up to half the people."""
    rows = []
    for name, runs in results.items():
        if runs[0].items is None:
            continue
        curves = [cross_modal.match_curve(_squares(run, direction, draws), sizes, weights=run.weights) for run in runs]
        value, replicates = (np.mean([curve[part] for curve in curves], axis=0) for part in (0, 1))
        rows += [
            (name, size, one, *_interval(one, draws_of))
            for size, one, draws_of in zip(sizes, value, replicates.T, strict=True)
        ]
    return pd.DataFrame(rows, columns=["model", "N", "accuracy", "low", "high"])


def _squares(run: Examined, direction: str, draws: int) -> Float[np.ndarray, "draws people people"]:
    rng = np.random.default_rng(run.trained.split.seed)
    return cross_modal.one_item_each(*run.sided(direction), run.people, draws=draws, rng=rng)


# ------------------------------------------------------------------------------------------------- paper 01's prediction


@dataclass(frozen=True)
class Recognisers:
    """What the heads of a run say about one covariate of its test people: probe and gallery recogniser of paper 01.

    Parameters
    ----------
    labels
        Answer of each probe and of each gallery item: the most probable value, and in which of `levels` classes of confidence it lies.
    people
        Person of each of them.
    values
        True value of each person.
    count
        Number of values.
    levels
        Classes of confidence.
    """

    labels: tuple[Int[np.ndarray, " probes"], Int[np.ndarray, " gallery"]]
    people: tuple[Int[np.ndarray, " probes"], Int[np.ndarray, " gallery"]]
    values: Int[np.ndarray, " people"]
    count: int
    levels: int

    def tables(
        self, drawn: Int[np.ndarray, " people"]
    ) -> tuple[Float[np.ndarray, "values labels"], Float[np.ndarray, "values labels"]]:
        """Confusion tables of both, items counted as often as their person is drawn."""
        shape = (self.count, self.count * self.levels)
        found = []
        for labels, people in zip(self.labels, self.people, strict=True):
            rows = np.repeat(np.arange(len(people)), drawn[people])
            found.append(covariates.estimate_confusion(self.values[people[rows]], labels[rows], shape))
        return found[0], found[1]

    @property
    def accuracy(self) -> tuple[float, float]:
        """Share of probes, and of gallery items, whose most probable value is the true one."""
        return tuple(
            float((labels // self.levels == self.values[people]).mean())
            for labels, people in zip(self.labels, self.people, strict=True)
        )


def recognisers(run: Examined, covariate: str, direction: str = "v2f", *, levels: int = LEVELS) -> Recognisers:
    """Answers of a run's heads; confidence is cut at its own quantiles, side by side.

    Values that only test people have are values of the answers too: their rows of the tables hold what the heads take them for, and no
    answer names them.

    Raises
    ------
    ValueError
        If the run has no head for the covariate.
    """
    if run.items is None:
        raise ValueError("this run has no embeddings and no heads")
    found = dimnet.posteriors(run.trained, run.items, covariate)
    labels = []
    for posterior in found:
        sure = posterior.max(axis=1)
        edges = np.quantile(sure, np.arange(1, levels) / levels)
        labels.append(posterior.argmax(axis=1) * levels + np.searchsorted(edges, sure))
    people = [run.items.voice_people, run.items.face_people]
    order = slice(None) if direction == "v2f" else slice(None, None, -1)
    values = run.covariates[covariate]
    count = max(found[0].shape[1], int(values.max()) + 1)
    return Recognisers(tuple(labels[order]), tuple(people[order]), values, count, levels)


def covariate_model(
    answers: Sequence[Recognisers], drawn: Int[np.ndarray, " people"] | None = None
) -> covariates.CovariateModel:
    """Paper 01's model of one or several covariates of the test people, estimated from all of them or from a resample."""
    drawn = np.ones(len(answers[0].values), dtype=np.int64) if drawn is None else drawn
    shape = tuple(one.count for one in answers)
    cell = np.ravel_multi_index([one.values for one in answers], shape)
    prior = np.bincount(cell, weights=drawn, minlength=int(np.prod(shape))) / drawn.sum()
    probe, gallery = zip(*(one.tables(drawn) for one in answers), strict=True)
    return covariates.CovariateModel.dependent(prior.reshape(shape), probe, gallery)


def cross_fitted(answers: Sequence[Recognisers], sizes: Sequence[int], rng: np.random.Generator) -> dict[str, float]:
    """Prediction in which the rule comes from one half of the people and its success from the other: it cannot profit from chance."""
    people = len(answers[0].values)
    half = np.zeros(people, dtype=np.int64)
    half[rng.permutation(people)[: people // 2]] = 1
    models = [covariate_model(answers, drawn) for drawn in (half, 1 - half)]
    both = [
        covariates.predicted_performance(judge, sizes, people, rule.likelihood_ratio)
        for rule, judge in (models, models[::-1])
    ]
    return {name: (both[0][name] + both[1][name]) / 2 for name in both[0]}


def theory_table(
    results: Mapping[str, Sequence[Examined]],
    pairs: Mapping[str, tuple[str, tuple[str, ...]]],
    *,
    sizes: Sequence[int] = (2, 10),
    direction: str = "v2f",
    draws: int = 12,
    theory_resamples: int = 100,
    levels: int = LEVELS,
) -> pd.DataFrame:
    """What covariates explain: paper 01's prediction from the heads of one model beside what the cosine of another one achieves.

    Predicted from the answers of the heads on the test people themselves (``predicted``: optimistic by the noise of the tables) and with
    rule and judgement on different halves of them (``cross-fitted``). Difference = measured minus predicted, on the same resamples of people.

    Parameters
    ----------
    results
        From `examine_all`.
    pairs
        For each measured model: the model whose heads are the recognisers, and the covariates to use.
    sizes
        Gallery sizes.
    direction
        Which side the probes are.
    draws
        Ways of choosing one item of each person, over which measurements are averaged.
    theory_resamples
        Resamples of people for which the prediction is made anew; the first ones.
    levels
        Classes of confidence, see `Recognisers`; 1: hard labels.

    Returns
    -------
    DataFrame
        One row for each model and quantity: ``model, recognisers, covariates, quantity, predicted, cross-fitted, measured, low, high,
        difference, difference low, difference high, runs``.
    """
    rows = []
    for name, (source, known) in pairs.items():
        measured_runs, source_runs = shared_runs(results[name], results[source])
        measured = _measured(measured_runs, sizes, direction, draws, theory_resamples)
        predicted, crossed = _predicted(source_runs, known, sizes, direction, theory_resamples, levels)
        for quantity, value in measured.items():
            gap = estimate(difference(value, predicted[quantity]), measured_runs)
            found = estimate(value, measured_runs)
            rows.append(
                (
                    name, source, " and ".join(known), quantity, predicted[quantity].value, crossed[quantity], found.value, found.low,
                    found.high, gap.value, gap.low, gap.high, len(measured_runs),
                )
            )  # fmt: skip
    columns = [
        "model", "recognisers", "covariates", "quantity", "predicted", "cross-fitted", "measured", "low", "high", "difference",
        "difference low", "difference high", "runs",
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def _measured(
    runs: Sequence[Examined], sizes: Sequence[int], direction: str, draws: int, count: int
) -> dict[str, Measure]:
    """The quantities of `covariates.predicted_performance`, measured: one item a person, except for the pooled pairs of EER and AUC."""
    found: dict[str, list[Measure]] = {}
    for run in runs:
        squares, weights = _squares(run, direction, draws), run.weights[:count]
        value, replicates = cross_modal.match_curve(squares, sizes, weights=weights)
        test = cross_modal.pair_test(*run.sided(direction), run.eligible("U"), weights=weights, hull=True)
        one = {f"1:{size}": Measure(float(value[i]), replicates[:, i]) for i, size in enumerate(sizes)}
        one |= {"EER": test.hull_eer, "AUC": test.auc, "mAP": cross_modal.reciprocal_rank(squares, weights=weights)}
        for quantity, measure in one.items():
            found.setdefault(quantity, []).append(measure)
    return {quantity: mean_measure(measures) for quantity, measures in found.items()}


def _predicted(
    runs: Sequence[Examined], known: Sequence[str], sizes: Sequence[int], direction: str, count: int, levels: int
) -> tuple[dict[str, Measure], dict[str, float]]:
    found: dict[str, list[Measure]] = {}
    crossed: dict[str, list[float]] = {}
    for run in runs:
        answers = [recognisers(run, covariate, direction, levels=levels) for covariate in known]
        values = [
            covariates.predicted_performance(covariate_model(answers, drawn), sizes, run.people)
            for drawn in (np.ones(run.people, dtype=np.int64), *run.weights[:count])
        ]
        halves = cross_fitted(answers, sizes, np.random.default_rng(run.trained.split.seed))
        for quantity in values[0]:
            draws = np.array([value[quantity] for value in values])
            found.setdefault(quantity, []).append(Measure(float(draws[0]), draws[1:]))
            crossed.setdefault(quantity, []).append(halves[quantity])
    means = {quantity: mean_measure(measures) for quantity, measures in found.items()}
    return means, {quantity: float(np.mean(values)) for quantity, values in crossed.items()}
