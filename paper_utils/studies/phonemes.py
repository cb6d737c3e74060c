"""What notebook 10 measures: phonemes of synthetic people against measurements of their faces, where they are linked and where they are not.

As many people as in the paper (662 women, 364 men) read lists of syllables. Worlds without a link cost no new recordings: the same
voices get the faces of strangers, which is what "no link" means.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import lightning_fabric
import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from scipy import stats
from torch import Tensor

from paper_utils import training
from paper_utils.audio_files import write_wav
from paper_utils.data import alignments, phone_corpora
from paper_utils.data.phones import PhoneTokens, matched, phone_tokens
from paper_utils.data.subject_tables import SEXES, SubjectTable, read_measurements
from paper_utils.experiment import Experiment
from paper_utils.methods import phonemes as method
from paper_utils.metrics import predictability
from paper_utils.metrics.statistics import Estimate, wilson_interval
from paper_utils.world.anthropometry import PAPER_10, Measurement, measure, measurement, noisy_landmarks
from paper_utils.world.articulation import articulate
from paper_utils.world.face import head
from paper_utils.world.face_motion import anatomy_gain, face_motion, spoken_visemes
from paper_utils.world.face_tables import LOG_SIZE_SD
from paper_utils.world.people import People, Population
from paper_utils.world.recordings import speak, voices
from paper_utils.world.voice import SAMPLE_RATE, waveform

LINK = 0.6  # the population's default
# Phones that no accent of the world replaces by another, so that everybody has every one of them.
VOWELS = ("IY", "EH", "AE", "AA", "AO", "UW", "AH", "ER")
CONSONANTS = ("L", "R", "Y", "M", "N", "NG", "F", "S", "SH", "HH", "CH", "P", "B", "T", "D", "K", "G")
NASALS = ("M", "N", "NG")
PHONEMES = (*VOWELS, *CONSONANTS)  # by class, plosives last
# One token of each phone a reading: vowels between HH and D, consonants between two AH.
VOWEL_TEXT = " ".join(f"HH {vowel}1 D" for vowel in VOWELS)
CONSONANT_TEXT = "AH1 " + " ".join(f"{consonant} AH1" for consonant in CONSONANTS)
NASAL_TEXT = "AH1 " + " ".join(f"{consonant} AH1" for consonant in NASALS)
# Of paper 10's measurements those that the synthetic head has, two more of eyes and brows, and six that no cavity of the tract follows.
EYES_AND_BROWS = {"eye fissure index": measurement("ps-pi/en-ex"), "brow to lid": measurement("bc-ps")}
CONTROLS = {
    "canthal tilt": Measurement("canthal tilt", "tilt", (("en_l", "ex_l"), ("en_r", "ex_r"))),
    "intercanthal index": measurement("en-en/ex-ex"),
    "eye length index": measurement("en-ex/en-en"),
    "forehead angle": measurement("tr-gl-n"),
    "nasal bridge angle": measurement("n-nb-prn"),
    "vermilion index": measurement("ls-sto/sto-li"),
}
MEASUREMENTS: dict[str, Measurement] = (
    {f"{number} {m.name}": m for number, m in PAPER_10.items()} | EYES_AND_BROWS | CONTROLS
)
EYE_AND_BROW_NAMES = (
    *(f"{k} {PAPER_10[k].name}" for k in (1, 2, 3, 4, 24, 25)), *EYES_AND_BROWS, *list(CONTROLS)[:3],
)  # fmt: skip
NOSE_NAMES = tuple(f"{k} {PAPER_10[k].name}" for k in (13, 32, 33, 51, 58, 69, 89))
LANDMARK_NOISE_MM = 0.5  # careful placement by hand
# What the best predictor of a measurement could explain if it saw the tract itself (see `ceilings`) decides what counts as linked.
# 662 women show about 2 % of explained variance, so "unlinked" must mean far less.
LINKED, UNLINKED = 0.05, 0.006
STRANGERS = 20_000  # people from this number on lend their faces
GAIN, GAIN_MEASUREMENT = 0.3, "42 sn-gn"


@dataclass(frozen=True)
class Sizes:
    """Scale of a profile.

    Parameters
    ----------
    women, men
        The paper's numbers in the quick profile.
    readings
        Tokens of each phone by each person.
    folds, permutations
        Of the careful test.
    null_worlds
        Worlds without link.
    leak_women, leak_repetitions
        Of the leak study.
    control_women
        Speakers of the recordings made for controls only.
    truth
        People from whom ceilings are computed.
    net_phonemes, net_epochs
        For which networks are trained, and how long.
    """

    women: int
    men: int
    readings: int
    folds: int
    permutations: int
    null_worlds: int
    leak_women: int
    leak_repetitions: int
    control_women: int
    truth: int
    net_phonemes: tuple[str, ...]
    net_epochs: float


def sizes(exp: Experiment) -> Sizes:
    """Numbers of the experiment's profile."""
    return exp.scale(
        smoke=Sizes(48, 24, 2, 4, 99, 4, 40, 4, 24, 2000, ("AA",), 1),
        quick=Sizes(662, 364, 2, 5, 1999, 40, 200, 10, 300, 40_000, ("AA", "M", "P"), 6),
        full=Sizes(662, 364, 6, 10, 9999, 200, 662, 10, 662, 50_000, PHONEMES, 12),
    )


# ------------------------------------------------------------------------------------------------------------ people


def _of_sex(population: Population, sex: int, count: int, first: int = 0) -> Int[np.ndarray, " people"]:
    """Numbers of the first people of a sex, from a number on."""
    found: list[np.ndarray] = []
    while sum(map(len, found)) < count:
        block = population.people(range(first, first + 1024))
        found.append(block.identity[block.sex == sex])
        first += 1024
    return np.concatenate(found)[:count]


def people_of(exp: Experiment, link: float = LINK, **switches: object) -> tuple[Population, People]:
    """The speakers: women first."""
    population = Population(seed=exp.seed, size=1_000_000, voice_face_link=link, **switches)
    scale = sizes(exp)
    chosen = np.concatenate([_of_sex(population, 0, scale.women), _of_sex(population, 1, scale.men)])
    return population, population.people(chosen)


def landmarks(
    face: Float[np.ndarray, "people parameters"], log_size: Float[np.ndarray, " people"]
) -> dict[str, Tensor]:
    """Landmarks of neutral faces in mm, without their meshes."""
    model = head(2)
    where = list(model.handles.values())
    parameters, size = torch.from_numpy(face).float(), torch.from_numpy(log_size).float()
    points = model.vertices[where] + torch.einsum("vdk,pk->pvd", model.identity_basis[where], parameters)
    points = points * size.exp()[:, None, None]
    return {name: points[:, i] for i, name in enumerate(model.handles)}


def measured(
    face: Float[np.ndarray, "people parameters"],
    log_size: Float[np.ndarray, " people"],
    generator: torch.Generator,
    *,
    noise_mm: float = LANDMARK_NOISE_MM,
) -> Float[np.ndarray, "people measurements"]:
    """All measurements, read off landmarks that somebody placed."""
    placed = noisy_landmarks(landmarks(face, log_size), noise_mm, generator)
    return measure(placed, list(MEASUREMENTS.values())).double().numpy()


def table_of(people: People, generator: torch.Generator) -> SubjectTable:
    """Measurements of people, with sex, age and nationality."""
    return SubjectTable(
        subjects=people.identity,
        sex=people.sex,
        values=measured(people.face, people.log_size, generator),
        names=tuple(MEASUREMENTS),
        covariates={"age": people.age, "age squared": people.age**2, "nationality": people.nationality.astype(float)},
        name="synthetic faces",
    )


def covariates_of(table: SubjectTable) -> Float[np.ndarray, "subjects columns"]:
    """Age (also squared) and nationality, which voice and face have in common."""
    return method.design(table, ("age", "age squared"), ("nationality",))


def with_strangers(
    people: People, strangers: People, share: float
) -> tuple[Float[np.ndarray, "people parameters"], Float[np.ndarray, " people"]]:
    r"""Faces that are partly those of strangers: the same voices in a world with a weaker link.

    .. math:: z' = c\,z + \sqrt{1 - c^2}\,z_{\text{stranger}}

    on the standardised face parameters without the effects of sex, age and nationality. A link :math:`\kappa` becomes :math:`c\kappa`.

    Parameters
    ----------
    people, strangers
        As many of both; the strangers' own faces are not changed.
    share
        c in [0, 1].

    Returns
    -------
    tuple
        Face parameters in mm and log size. Sex, age and nationality stay those of `people`.
    """
    mixed = share * people.residual + np.sqrt(1 - share**2) * strangers.residual
    sd = head(2).parameter_sd.double().numpy()
    return people.face + (mixed - people.residual)[:, :-1] * sd, LOG_SIZE_SD * mixed[:, -1]


# ------------------------------------------------------------------------------------------------------------- world


@dataclass(frozen=True)
class World:
    """Voices and faces of the same people.

    Parameters
    ----------
    population, people
        Who; women first.
    tokens
        As many of each phoneme from each person, five frames each.
    table
        Measurements.
    """

    population: Population
    people: People
    tokens: PhoneTokens
    table: SubjectTable

    def of(self, sex: str) -> tuple[PhoneTokens, SubjectTable, People]:
        """Speech, measurements and people of one sex."""
        rows = np.flatnonzero(self.people.sex == SEXES.index(sex))
        spoken = torch.from_numpy(np.isin(self.tokens.subjects.numpy(), self.people.identity[rows]))
        return self.tokens.take(spoken), self.table.take(rows), self.people.take(rows)


def joined(parts: Sequence[PhoneTokens], names: Sequence[str]) -> PhoneTokens:
    """Tokens of several recordings, with phones in the given order."""
    place = [torch.tensor([names.index(name) for name in part.phone_names]) for part in parts]
    return PhoneTokens(
        torch.cat([part.features for part in parts]),
        torch.cat([where[part.phones] for where, part in zip(place, parts, strict=True)]),
        torch.cat([part.subjects for part in parts]),
        torch.cat([part.seconds for part in parts]),
        tuple(names),
        parts[0].name,
    )


def spoken_tokens(
    exp: Experiment,
    population: Population,
    identities: Int[np.ndarray, " people"],
    *,
    frames: int = 5,
    phonemes: Sequence[str] = PHONEMES,
    readings: int | None = None,
    **options: object,
) -> PhoneTokens:
    """Tokens of the two lists of syllables, everybody reading them equally often; options as for `paper_utils.world.recordings.voices`."""
    parts = []
    for text, kinds in ((VOWEL_TEXT, VOWELS), (CONSONANT_TEXT, CONSONANTS)):
        wanted = [phone for phone in kinds if phone in phonemes]
        if wanted:
            made = voices(
                population,
                identities.tolist(),
                readings or sizes(exp).readings,
                texts=(text,),
                seed=exp.seed,
                **options,
            )
            parts.append(phone_tokens(made, frames, phones=wanted))
    return joined(parts, list(phonemes))


def world(exp: Experiment, link: float = LINK, **switches: object) -> World:
    """The study's people, what they say, and what their faces measure."""
    population, people = people_of(exp, link, **switches)
    tokens = spoken_tokens(exp, population, people.identity)
    return World(population, people, tokens, table_of(people, exp.generator("landmarks")))


def ceilings(exp: Experiment, link: float = LINK) -> pd.DataFrame:
    """What a perfect ear could explain: variance of each measurement within a sex that the tract itself tells, by regression on its eight latents.

    Age and nationality are taken out. Kinds: ``linked`` from `LINKED` up, ``unlinked`` below `UNLINKED`, ``weak`` between; decided by the mean over the
    sexes, before any voice is heard.
    """
    population = Population(seed=exp.seed, size=1_000_000, voice_face_link=link)
    rows = {}
    for number, sex in enumerate(SEXES):
        chosen = _of_sex(population, number, sizes(exp).truth // 2, first=STRANGERS + 300_000)
        people = population.people(chosen)
        table = table_of(people, exp.generator(f"landmarks of the ceiling, {sex}"))
        outside = covariates_of(table)
        left = predictability.residuals(table.values, outside)
        told = predictability.residuals(table.values, np.hstack([outside, people.anatomy]))
        rows[sex] = 1 - told.var(0) / left.var(0)
    found = pd.DataFrame(rows, index=pd.Index(table.names, name="measurement"))
    mean = found.mean(axis=1)
    found["kind"] = np.select([mean >= LINKED, mean < UNLINKED], ["linked", "unlinked"], "weak")
    return found


# ------------------------------------------------------------------------------------------------------ the main test


LINKS = (0.15, 0.3, 0.45)
KEPT = (1.0, 0.75, 0.5)  # of the repetitions: the release's "100%", "75%" and "50%"


def main_tests(exp: Experiment, made: World, sex: str) -> method.PairTests:
    """All pairs of one sex, and riding along: other worlds with the same voices.

    ``others`` holds normalised errors of ``"raw"`` (age and nationality not taken out), ``"null <i>"`` (faces of strangers), ``"dealt"`` (the subjects'
    labels permuted) and ``"link <k>"`` (weaker links).
    """
    tokens, table, people = made.of(sex)
    scale = sizes(exp)
    outside = covariates_of(table)
    lent = _of_sex(made.population, SEXES.index(sex), (scale.null_worlds + 1) * len(people), first=STRANGERS)
    others = {"raw": method.target_scores(table)}
    dealt = exp.rng(f"deal {sex}").permutation(len(people))
    others["dealt"] = method.target_scores(table, covariates=outside)[dealt]
    for number in range(scale.null_worlds):
        strangers = made.population.people(lent[number * len(people) : (number + 1) * len(people)])
        faces = measured(strangers.face, strangers.log_size, exp.generator(f"landmarks {sex} {number}"))
        others[f"null {number}"] = predictability.normal_scores(faces)
    strangers = made.population.people(lent[-len(people) :])
    for link in LINKS:
        if link < made.population.voice_face_link:
            faces = measured(
                *with_strangers(people, strangers, link / made.population.voice_face_link),
                exp.generator(f"landmarks {sex} link {link}"),
            )
            others[f"link {link:g}"] = predictability.normal_scores(predictability.residuals(faces, outside))
    return method.pair_tests(
        tokens, table, folds=scale.folds, permutations=scale.permutations, seed=exp.seed, covariates=outside, others=others
    )  # fmt: skip


def rejected_in(
    tests: method.PairTests, name: str, q: float = 0.05, *, rule: str = "fdr_bh"
) -> Bool[np.ndarray, "p a"]:
    """Pairs rejected in one of the other worlds."""
    p = predictability.permutation_p(tests.others[name], tests.null)
    return predictability.discoveries(p, q, method=rule)


def classes_of(tests: method.PairTests) -> np.ndarray:
    """Class of each phoneme."""
    return np.array(method.phone_classes(tests.phonemes))


def by_class(tests: method.PairTests, kinds: pd.Series) -> pd.DataFrame:
    """Pairs rejected and mean explained variance, by class of phonemes and kind of measurement; shares with Wilson's interval (descriptive)."""
    classes, rejected = classes_of(tests), tests.rejected()
    kind = kinds.loc[list(tests.measurements)].to_numpy()
    rows = []
    for group in ("linked", "weak", "unlinked"):
        for name in (*dict.fromkeys(classes), "all"):
            cells = np.ix_((classes == name) | (name == "all"), kind == group)
            share = wilson_interval(int(rejected[cells].sum()), rejected[cells].size)
            rows.append({
                "measurements": group, "class": name, "pairs": rejected[cells].size, "rejected": int(rejected[cells].sum()),
                "share": share.value, "low": share.low, "high": share.high, "explained": float(tests.explained[cells].mean()),
            })  # fmt: skip
    return pd.DataFrame(rows)


def contrasts(exp: Experiment, tests: method.PairTests, measurements: Bool[np.ndarray, " a"]) -> pd.DataFrame:
    """C2: by how much vowels beat each other class and all consonants, over the chosen measurements; interval over subjects, sign flips over measurements.

    The ``null`` row of each contrast is the same for the first world of strangers, from errors alone (its interval is over measurements).
    """
    classes = classes_of(tests)
    easier = classes == "vowel"
    rows = []
    for name in ("plosive", "affricate", "fricative", "nasal", "approximant", "all consonants"):
        harder = ~easier if name == "all consonants" else classes == name
        found, each = predictability.bootstrap_contrast(
            tests.model_loss[..., measurements], tests.baseline_loss[..., measurements], easier, harder,
            rng=exp.rng(f"contrast {name}"),
        )  # fmt: skip
        p = predictability.sign_flip_p(each, rng=exp.rng(f"flips {name}"))
        rows.append(
            {
                "vowels against": name,
                "estimate": found,
                "value": found.value,
                "low": found.low,
                "high": found.high,
                "sign-flip p": p,
            }
        )
    return pd.DataFrame(rows)


def null_worlds(tests: method.PairTests) -> list[str]:
    """Names of the worlds of strangers that rode along."""
    return [name for name in tests.others if name.startswith("null")]


def null_contrasts(
    tests: method.PairTests, measurements: Bool[np.ndarray, " a"], against: str = "plosive"
) -> Float[np.ndarray, " worlds"]:
    """The same contrast in every world of strangers."""
    classes = classes_of(tests)
    worlds = [tests.others[name][:, measurements] for name in null_worlds(tests)]
    return np.array([(w[classes == against].mean(0) - w[classes == "vowel"].mean(0)).mean() for w in worlds])


def false_discoveries(tests: method.PairTests) -> pd.DataFrame:
    """What each rule rejects in worlds without any link: mean share of pairs, and share of worlds with at least one rejection."""
    names = null_worlds(tests)
    rows = []
    for rule in ("none", "fdr_bh", "fdr_by"):
        hits = np.array([rejected_in(tests, name, rule=rule).mean() for name in names])
        any_hit = wilson_interval(int((hits > 0).sum()), len(hits))
        rows.append({
            "rule": rule, "worlds": len(hits), "pairs rejected": hits.mean(), "worst world": hits.max(),
            "worlds with a rejection": any_hit.value, "low": any_hit.low, "high": any_hit.high,
        })  # fmt: skip
    return pd.DataFrame(rows)


def found_without_link(tests: method.PairTests, unlinked: Bool[np.ndarray, " a"]) -> Float[np.ndarray, " worlds"]:
    """Share of pairs rejected among measurements that have no link, tested beside others that have one, in every world of strangers.

    Each world keeps these people's own measurements and takes the unlinked ones from strangers' faces. What is linked makes the
    rule of Benjamini and Hochberg generous, so a world where nothing is linked would be too easy a test.
    """
    shares = []
    for name in null_worlds(tests):
        p = predictability.permutation_p(np.where(unlinked, tests.others[name], tests.errors), tests.null)
        shares.append(predictability.discoveries(p)[:, unlinked].mean())
    return np.array(shares)


def link_sweep(tests: method.PairTests, link: float, kinds: pd.Series) -> pd.DataFrame:
    """Explained variance and rejections against the strength of the link; strangers are link 0."""
    linked = (kinds.loc[list(tests.measurements)] == "linked").to_numpy()
    worlds = {0.0: ("null 0", tests.others["null 0"])}
    worlds |= {
        float(name.split()[1]): (name, errors) for name, errors in tests.others.items() if name.startswith("link")
    }
    rows = []
    for value, (name, errors) in worlds.items():
        hits = rejected_in(tests, name)
        rows.append(
            {
                "link": value,
                "explained, linked": (1 - errors[:, linked]).mean(),
                "rejected, linked": hits[:, linked].mean(),
                "rejected, others": hits[:, ~linked].mean(),
            }
        )
    hits = tests.rejected()
    rows.append(
        {
            "link": link,
            "explained, linked": tests.explained[:, linked].mean(),
            "rejected, linked": hits[:, linked].mean(),
            "rejected, others": hits[:, ~linked].mean(),
        }
    )
    return pd.DataFrame(rows)


def sample_sizes(exp: Experiment, made: World, kinds: pd.Series, counts: Sequence[int] | None = None) -> pd.DataFrame:
    """Share of linked pairs found among the first n women, and mean explained variance of these pairs."""
    tokens, table, _ = made.of("woman")
    counts = counts or exp.scale(smoke=(24,), quick=(100, 200, 400), full=(100, 200, 400))
    linked = (kinds.loc[list(table.names)] == "linked").to_numpy()
    rows = []
    for count in counts:
        few = table.take(np.arange(count))
        spoken = tokens.take(torch.from_numpy(np.isin(tokens.subjects.numpy(), few.subjects)))
        found = method.pair_tests(
            spoken, few, folds=sizes(exp).folds, permutations=sizes(exp).permutations // 2, seed=exp.seed, covariates=covariates_of(few)
        )  # fmt: skip
        rows.append(
            {
                "women": count,
                "rejected, linked": found.rejected()[:, linked].mean(),
                "explained, linked": found.explained[:, linked].mean(),
            }
        )
    return pd.DataFrame(rows)


# -------------------------------------------------------------------------------------------------- leak and controls


def split_errors(
    exp: Experiment,
    tokens: PhoneTokens,
    subjects: Int[np.ndarray, " subjects"],
    scores: Float[np.ndarray, "subjects measurements"],
    *,
    most: int = 1000,
) -> dict[str, Float[np.ndarray, "repetitions phonemes measurements"]]:
    """Errors of the release's experiment under each of its possible splits; of each phoneme at most so many tokens (kernel ridge takes their cube)."""
    order, found = np.argsort(subjects), {}
    for split in method.SPLITS:
        rng = exp.rng(f"leak {split}")
        errors = []
        for phoneme in tokens.phone_names:
            one = tokens.of(phoneme)
            if len(one) > most:
                one = one.take(torch.from_numpy(np.sort(rng.permutation(len(one))[:most])))
            place = order[np.searchsorted(subjects[order], one.subjects.numpy())]
            errors.append(
                method.repeated_errors(
                    one.features.flatten(1).double().numpy(), scores[place], one.subjects.numpy(), split,
                    rng=rng, repetitions=sizes(exp).leak_repetitions,
                )
            )  # fmt: skip
        found[split] = np.stack(errors, axis=1)
    return found


def leak_errors(exp: Experiment, made: World) -> dict[str, Float[np.ndarray, "repetitions phonemes measurements"]]:
    """The release's experiment in a world without link: the voices of women, the faces of strangers."""
    tokens, table, _ = made.of("woman")
    few = table.take(np.arange(sizes(exp).leak_women))
    strangers = made.population.people(_of_sex(made.population, 0, len(few), first=STRANGERS + 200_000))
    scores = predictability.normal_scores(
        measured(strangers.face, strangers.log_size, exp.generator("landmarks of the leak"))
    )
    spoken = tokens.take(torch.from_numpy(np.isin(tokens.subjects.numpy(), few.subjects)))
    return split_errors(exp, spoken, few.subjects, scores)


def leak_table(errors: Mapping[str, Float[np.ndarray, "repetitions phonemes measurements"]]) -> pd.DataFrame:
    """Shares of pairs that are declared predictable, by split and by selection of repetitions."""
    rows = []
    for split, found in errors.items():
        bounds = {f"released, best {keep:.0%}": method.release_test(found, keep=keep)[0] for keep in KEPT}
        bounds["corrected (Nadeau-Bengio)"] = predictability.error_bound(found, test_share=0.1 / 0.7) < 1
        rows += [
            {"split": split, "bound": name, "pairs": found[0].size, "declared": float(hits.mean()), "mean error": float(found.mean())}
            for name, hits in bounds.items()
        ]  # fmt: skip
    return pd.DataFrame(rows)


def leak(exp: Experiment, made: World) -> pd.DataFrame:
    """Shares of pairs that the release's test declares predictable in a world without link, by split and by selection of repetitions."""
    return leak_table(leak_errors(exp, made))


def sex_only(exp: Experiment, made: World, phonemes: Sequence[str] = ("IY", "AA", "N", "S", "P")) -> pd.DataFrame:
    """A world in which voice and face have their sex in common and nothing else: everybody in one model, tested in two ways.

    Pooled: people are permuted over both sexes. Within: only among their own sex, whereby each measurement gets its own null.
    """
    scale = sizes(exp)
    rng, count = exp.rng("sex only"), len(made.people)
    strangers = np.concatenate([
        _of_sex(made.population, sex, number, first=STRANGERS + 250_000) for sex, number in enumerate((scale.women, scale.men))
    ])  # fmt: skip
    others = made.population.people(strangers)
    scores = predictability.normal_scores(measured(others.face, others.log_size, exp.generator("landmarks, sex only")))
    folds = method.subject_folds(count, scale.folds, rng, strata=made.people.sex)
    means, _ = made.tokens.subject_means(made.people.identity)
    means = means[[made.tokens.phone_names.index(p) for p in phonemes]]
    pooled = rng.permuted(np.tile(scores[:, 0], (scale.permutations, 1)), axis=1).T
    draws = max(19, scale.permutations // 20)
    orders = np.stack([_within(made.people.sex, rng) for _ in range(draws)])
    within = scores[orders].transpose(1, 0, 2).reshape(count, -1)
    errors = method.ridge_errors(means, np.hstack([scores, pooled, within]), folds)
    observed, null_pooled, null_within = np.split(errors, np.cumsum([scores.shape[1], pooled.shape[1]]), axis=1)
    null_within = null_within.reshape(len(means), draws, -1)
    p_within = (1 + (null_within <= observed[:, None]).sum(1)) / (draws + 1)
    p_pooled = predictability.permutation_p(observed, null_pooled)
    return pd.DataFrame([
        {"permuted": name, "pairs": p.size, "mean error": float(observed.mean()), "mean null error": float(null.mean()), "p <= 0.05": float((p <= 0.05).mean()), "rejected (BH)": int(predictability.discoveries(p).sum())}
        for name, p, null in (("over both sexes", p_pooled, null_pooled), ("within each sex", p_within, null_within))
    ])  # fmt: skip


def _within(strata: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    order = np.arange(len(strata))
    for stratum in np.unique(strata):
        rows = np.flatnonzero(strata == stratum)
        order[rows] = rng.permutation(rows)
    return order


def nasal_tests(exp: Experiment, made: World) -> dict[str, method.PairTests]:
    """All measurements from nasals of the same women: with an open and with a closed velum, and if everybody had the same tract, so that only pitch differs."""
    _, table, people = made.of("woman")
    few = table.take(np.arange(sizes(exp).control_women))
    alike = dataclasses.replace(made.population, equal_tracts=True)
    found = {}
    for name, population, mute in (
        ("open", made.population, False),
        ("closed", made.population, True),
        ("open, one tract for all", alike, False),
    ):
        spoken = voices(
            population, people.identity[: len(few)].tolist(), sizes(exp).readings, texts=(NASAL_TEXT,), mute_nose=mute, seed=exp.seed
        )  # fmt: skip
        found[name] = method.pair_tests(
            phone_tokens(spoken, phones=NASALS), few, folds=sizes(exp).folds, permutations=sizes(exp).permutations // 2, seed=exp.seed,
            covariates=covariates_of(few),
        )  # fmt: skip
    return found


def nose_table(found: Mapping[str, method.PairTests]) -> pd.DataFrame:
    """Of `nasal_tests`: what is found of the nose, and of everything else."""
    rows = []
    for velum, tests in found.items():
        nose = [tests.measurements.index(name) for name in NOSE_NAMES]
        hits = tests.rejected()
        rows.append({
            "velum": velum, "explained, nose": float(tests.explained[:, nose].mean()), "rejected, nose": int(hits[:, nose].sum()),
            "pairs, nose": hits[:, nose].size, "explained, others": float(np.delete(tests.explained, nose, 1).mean()), "rejected, others": int(np.delete(hits, nose, 1).sum()),
        })  # fmt: skip
    return pd.DataFrame(rows)


def mute_nose(exp: Experiment, made: World) -> pd.DataFrame:
    """Nose measurements from nasals, of the same women with an open and with a closed velum."""
    return nose_table(nasal_tests(exp, made))


# ---------------------------------------------------------------------------------------------------------- real data

REAL = ("timit", "textgrids", "visage")


def real_speech(data: str, root: str | Path, sex: str) -> tuple[PhoneTokens, SubjectTable, tuple[str, ...]]:
    """Speech and measurements of one sex, for `paper_utils.methods.phonemes.pair_tests`; and the speakers without measurements, who are left out.

    Parameters
    ----------
    data
        ``"timit"``: its folder; the target is body height (``DOC/SPKRINFO.TXT``). ``"textgrids"``: ``audio/<speaker>/<name>.wav``,
        ``grids/<speaker>/<name>.TextGrid`` and ``measurements.csv`` (columns ``speaker``, ``sex``, then measurements). ``"visage"``: paper 10's own
        collection, ``extract_phoneme_processed/`` and ``AMs_final.csv``.
    root
        The folder that holds these.
    sex
        ``"woman"`` or ``"man"``.

    Raises
    ------
    FileNotFoundError, ValueError
        As the loaders; or for an unknown name.
    """
    root = Path(root)
    if data == "visage":
        tokens = phone_corpora.read_snippets(root / "extract_phoneme_processed", sex)
        return matched(tokens, read_measurements(root / "AMs_final.csv"), missing="drop")
    if data == "timit":
        corpus = phone_corpora.read_timit(root)
        found = [path for path in root.rglob("*") if path.name.upper() == "SPKRINFO.TXT"]
        table = phone_corpora.read_spkrinfo(found[0] if found else root / "DOC" / "SPKRINFO.TXT", corpus.speakers)
    elif data == "textgrids":
        corpus = phone_corpora.read_textgrids(root / "audio", root / "grids")
        table = read_measurements(root / "measurements.csv", speakers=corpus.speakers)
    else:
        raise ValueError(f"data: expected one of {', '.join(REAL)}, found {data!r}")
    tokens, table, lost = matched(phone_tokens(corpus.voices), table, missing="drop")
    chosen = table.of_sex(sex)
    return tokens.take(torch.from_numpy(np.isin(tokens.subjects.numpy(), chosen.subjects))), chosen, lost


@dataclass(frozen=True)
class RealTests:
    """The careful test and the leak on speech from files.

    Parameters
    ----------
    tokens, table
        Of the speakers who have both.
    lost
        Speakers without (complete) measurements, left out.
    rare
        Phonemes that too few of them say, left out.
    tests
        `method.pair_tests`; ``others["dealt"]`` are the errors with everybody's measurements dealt to somebody else.
    leak
        From `split_errors`, with dealt measurements.
    """

    tokens: PhoneTokens
    table: SubjectTable
    lost: tuple[str, ...]
    rare: tuple[str, ...]
    tests: method.PairTests
    leak: dict[str, Float[np.ndarray, "repetitions phonemes measurements"]]


FEWEST = 10  # subjects who say a phoneme: one of them is a tenth, the release's test set


def often_said(tokens: PhoneTokens, subjects: Int[np.ndarray, " subjects"], fewest: int) -> list[str]:
    """Phonemes that at least so many of the subjects say."""
    _, counts = tokens.subject_means(subjects)
    return [name for name, row in zip(tokens.phone_names, counts, strict=True) if (row > 0).sum() >= fewest]


def only(tokens: PhoneTokens, names: Sequence[str]) -> PhoneTokens:
    """The tokens of these phonemes, numbered in this order."""
    lookup = torch.tensor([names.index(name) if name in names else -1 for name in tokens.phone_names])
    kept = lookup[tokens.phones] >= 0
    return dataclasses.replace(
        tokens.take(kept), phones=lookup[tokens.phones][kept], phone_names=tuple(names)
    )  # fmt: skip


def written_out(exp: Experiment, made: World, folder: str | Path, sex: str, count: int) -> Path:
    """People of the world as files that `real_speech` reads as ``"textgrids"``: recordings, TextGrids and a table of measurements."""
    folder, rng = Path(folder), exp.rng("files")
    _, table, people = made.of(sex)
    few = people.take(np.arange(count))
    for name, text in (("vowels", VOWEL_TEXT), ("consonants", CONSONANT_TEXT)):
        spoken = speak(few, 1, rng, texts=(text,))
        sounds = waveform(spoken, few.speakers, np.arange(count), seed=exp.seed)
        for who, said, sound in zip(few.identity, spoken, sounds, strict=True):
            for kind in ("audio", "grids"):
                (folder / kind / f"p{who}").mkdir(parents=True, exist_ok=True)
            write_wav(folder / "audio" / f"p{who}" / f"{name}.wav", sound, SAMPLE_RATE)
            alignments.write_textgrid(
                folder / "grids" / f"p{who}" / f"{name}.TextGrid", alignments.textgrid_of(said.alignment)
            )
    columns = {"speaker": [f"p{who}" for who in few.identity], "sex": "FM"[SEXES.index(sex)]}
    columns |= dict(zip(table.names, table.values[:count].T, strict=True))
    pd.DataFrame(columns).to_csv(folder / "measurements.csv", index=False)
    return folder


def real_tests(exp: Experiment, data: str, root: str | Path, sex: str) -> RealTests:
    """Both tests on a folder, see `real_speech`.

    Raises
    ------
    FileNotFoundError, ValueError
        As `real_speech`; or if no phoneme is said by ten subjects.
    """
    tokens, table, lost = real_speech(data, root, sex)
    scale = sizes(exp)
    fewest = max(FEWEST, scale.folds)
    kept = often_said(tokens, table.subjects, fewest)
    if not kept:
        raise ValueError(
            f"{tokens.name}: no phoneme is said by {fewest} of the {len(table)} subjects of sex {sex!r}; the test needs more people"
        )
    rare = tuple(name for name in tokens.phone_names if name not in kept)
    tokens = only(tokens, kept)
    scores = method.target_scores(table)[exp.rng(f"deal {sex}, files").permutation(len(table))]
    tests = method.pair_tests(
        tokens, table, folds=scale.folds, permutations=scale.permutations, seed=exp.seed, others={"dealt": scores}
    )
    few = np.arange(min(len(table), scale.leak_women))
    heard = tokens.take(torch.from_numpy(np.isin(tokens.subjects.numpy(), table.subjects[few])))
    heard = only(heard, often_said(heard, table.subjects[few], FEWEST))
    return RealTests(tokens, table, lost, rare, tests, split_errors(exp, heard, table.subjects[few], scores[few]))


# ---------------------------------------------------------------------------------------------------------- movement


def movement(
    exp: Experiment, made: World, *, speakers: int = 6, fps: float = 100.0
) -> Float[np.ndarray, "phonemes measurements"]:
    """How far every measurement moves in every phoneme, on the mean face, in standard deviations between women."""
    people = made.people.take(np.arange(speakers))
    model, rng = head(2), exp.rng("movement")
    between = made.of("woman")[1].values.std(0)
    shown, said, tokens = [], [], []
    for text, kinds in ((VOWEL_TEXT, VOWELS), (CONSONANT_TEXT, CONSONANTS)):
        spoken = speak(people, 1, rng, texts=(text,))
        tracks = articulate(spoken, hop_s=1 / fps)
        for utterance, visemes in zip(
            spoken, spoken_visemes(tracks.visemes, tracks.starts, tracks.hop_s, fps=fps), strict=True
        ):
            motion = face_motion(visemes.astype(float), fps=fps, rng=rng, idle_amplitude=0.0, blinks=False)
            at = utterance.alignment.phone_at(np.arange(len(visemes)) / fps)
            names = [utterance.alignment.phones[i] for i in at]
            shown.append(motion.vertices(model, model.vertices))
            said += [PHONEMES.index(name) if name in kinds else -1 for name in names]
            tokens.append(at + (tokens[-1].max() + 1 if tokens else 0))
    values = measure(model.anatomy(torch.cat(shown)), list(MEASUREMENTS.values())).double().numpy()
    neutral = measure(model.anatomy(model.vertices[None]), list(MEASUREMENTS.values())).double().numpy()
    return method.movement(
        values, neutral.repeat(len(values), 0), np.array(said), np.concatenate(tokens), between, len(PHONEMES)
    )


def moving_and_predictable(
    exp: Experiment, moved: Float[np.ndarray, "p a"], explained: Float[np.ndarray, "p a"]
) -> pd.DataFrame:
    """C3 in three readings, and its control: the same with the phonemes' labels of the movements shuffled."""
    shuffled = moved[exp.rng("labels of movement").permutation(len(moved))]
    rows = []
    for labels, matrix in (("as they are", moved), ("shuffled", shuffled)):
        found = predictability.association(matrix, explained, rng=exp.rng(f"association {labels}"))
        rows += [
            {"labels": labels, "reading": name, "Spearman": a.correlation, "p": a.p_value} for name, a in found.items()
        ]
    return pd.DataFrame(rows)


def associations(
    exp: Experiment, moved: Float[np.ndarray, "p a"], explained: Float[np.ndarray, "p a"]
) -> dict[str, tuple[Estimate, Estimate]]:
    """C3 in three readings, each with an interval, and beside it the same with the phonemes' labels of the movements shuffled.

    ``"pairs"`` has Fisher's interval over cells, as if they were independent. For the other two the interval holds the shifts that the permutation
    test would not reject. Of the control: mean and central 95 % over shuffles.
    """
    rng = exp.rng("associations")
    found = predictability.association(moved, explained, rng=rng)
    first, second = (stats.rankdata(m).reshape(m.shape) for m in (moved, explained))
    orders = [rng.permutation(len(moved)) for _ in range(500)]
    shuffled = np.array([np.corrcoef(first[order].ravel(), second.ravel())[0, 1] for order in orders])
    half = stats.norm.ppf(0.975) / np.sqrt(moved.size - 3)
    rows = {}
    for reading, one in found.items():
        value = one.correlation
        if reading == "pairs":
            low, high = np.tanh(np.arctanh(value) + np.array([-half, half]))
            name = "Fisher's interval, cells taken as independent"
        else:
            high, low = value - np.quantile(one.null, [0.025, 0.975])
            name = f"shifts not rejected by {len(one.null)} relabellings"
        null = one.null if reading == "two-way" else shuffled
        bounds = np.quantile(null, [0.025, 0.975])
        control = Estimate(float(null.mean()), *map(float, bounds), len(null), "central 95 % of shuffled phonemes")
        rows[reading] = Estimate(value, float(low), float(high), moved.size, name), control
    return rows


def gain_world(exp: Experiment, made: World, gain: float = GAIN) -> method.PairTests:
    """Positive control of C3: women whose lower face is longer move jaw and lips further, by a factor of 1.3 a standard deviation."""
    _, table, people = made.of("woman")
    few, chosen = table.take(np.arange(sizes(exp).control_women)), people.take(np.arange(sizes(exp).control_women))
    size = predictability.residuals(few.values, covariates_of(few))[:, few.names.index(GAIN_MEASUREMENT)]
    tokens = spoken_tokens(
        exp, made.population, chosen.identity, amplitude=anatomy_gain(size / size.std(), gain), readings=1
    )
    return method.pair_tests(
        tokens, few, folds=sizes(exp).folds, permutations=sizes(exp).permutations // 2, seed=exp.seed, covariates=covariates_of(few)
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------ estimators compared


def estimators(exp: Experiment, made: World, kinds: pd.Series) -> pd.DataFrame:
    """Mean explained variance of linked measurements by what the estimator sees; women."""
    tokens, table, people = made.of("woman")
    scores = method.target_scores(table, covariates=covariates_of(table))
    linked = (kinds.loc[list(table.names)] == "linked").to_numpy()
    folds = method.subject_folds(len(table), sizes(exp).folds, exp.rng("folds of estimators"))
    means, _ = tokens.subject_means(table.subjects)
    middle = means.reshape(*means.shape[:2], 5, -1)[:, :, 2]
    seen = {
        "pitch of the speaker": np.log(people.speakers.f0_hz)[None, :, None],
        "middle frame of one phoneme": middle,
        "one phoneme": means,
        "all phonemes together": means.transpose(1, 0, 2).reshape(1, len(table), -1),
        "the tract itself": people.anatomy[None],
    }
    errors = {name: method.ridge_errors(values, scores, folds) for name, values in seen.items()}
    rows = [
        {"ridge on": name, "explained, linked": float((1 - e[:, linked]).mean()), "best pair": float((1 - e).max())} for name, e in errors.items()
    ]  # fmt: skip
    return pd.DataFrame(rows)


def network_jobs(
    exp: Experiment, made: World
) -> tuple[PhoneTokens, Float[Tensor, "tokens a"], Int[np.ndarray, " tokens"], list[method.Job]]:
    """Tokens of the women for the light network, their targets, their rows in the table, and one job a phoneme and fold that predicts all measurements."""
    scale = sizes(exp)
    table = made.of("woman")[1]
    tokens = spoken_tokens(exp, made.population, made.people.identity, frames=16, phonemes=scale.net_phonemes)
    tokens = tokens.take(torch.from_numpy(np.isin(tokens.subjects.numpy(), table.subjects)))
    order = np.argsort(table.subjects)
    row = order[np.searchsorted(table.subjects[order], tokens.subjects.numpy())]
    scores = method.target_scores(table, covariates=covariates_of(table))
    folds = method.subject_folds(len(table), scale.folds, exp.rng("folds of networks"))[row]
    seeds = exp.seeds(scale.folds, "networks")
    jobs = []
    for phone in range(len(tokens.phone_names)):
        mine = tokens.phones.numpy() == phone
        for fold in range(scale.folds):
            train, test = np.flatnonzero(mine & (folds != fold)), np.flatnonzero(mine & (folds == fold))
            jobs.append(method.Job(train, test, tuple(range(scores.shape[1])), seeds[fold]))
    return tokens, torch.from_numpy(scores[row]).float(), row, jobs


def trained_networks(
    exp: Experiment, made: World, fabric: lightning_fabric.Fabric
) -> tuple[pd.DataFrame, Float[np.ndarray, "steps networks"]]:
    """Light networks, from the cache if they were trained before.

    Returns
    -------
    tuple
        Explained variance of every measurement, one row a phoneme; and the training losses of all networks.
    """
    tokens, targets, row, jobs = network_jobs(exp, made)
    config = dataclasses.replace(method.SMALL, epochs=sizes(exp).net_epochs)

    def anew(checkpoint: Path) -> dict[str, Tensor]:
        history: dict[str, np.ndarray] = {}
        predictions = method.train_members(
            tokens.features, targets, row, jobs, config, fabric, checkpoint=checkpoint, finished=history.update
        )
        state = {f"job {i}": torch.from_numpy(values) for i, values in enumerate(predictions)}
        return state | {"losses": torch.from_numpy(history["member_losses"])}

    seen = hashlib.sha256(tokens.features.numpy().tobytes() + targets.numpy().tobytes()).hexdigest()
    key = {"data": seen, "seed": exp.seed, "folds": sizes(exp).folds, "train": dataclasses.asdict(config)}
    state = training.cached("phonemes", key, anew, code=[Path(__file__), Path(method.__file__)], fabric=fabric)
    predictions = [state[f"job {i}"].cpu().numpy() for i in range(len(jobs))]
    per_phone = len(jobs) // len(tokens.phone_names)
    rows = {}
    for number, name in enumerate(tokens.phone_names):
        mine = slice(number * per_phone, (number + 1) * per_phone)
        tested = np.concatenate([job.test for job in jobs[mine]])
        people, average = method.subject_average(np.concatenate(predictions[mine]), row[tested])
        truth = np.zeros((row.max() + 1, targets.shape[1]))
        truth[row] = targets.numpy()
        rows[name] = 1 - predictability.normalised_error(truth[people], average, np.zeros_like(average))
    explained = pd.DataFrame(rows, index=pd.Index(made.table.names, name="measurement")).T
    return explained, state["losses"].cpu().numpy()


def networks(exp: Experiment, made: World, fabric: lightning_fabric.Fabric) -> pd.DataFrame:
    """Explained variance of every measurement by light networks, one row a phoneme."""
    return trained_networks(exp, made, fabric)[0]


def trainings(exp: Experiment) -> dict[str, Callable[[lightning_fabric.Fabric], Float[np.ndarray, "steps networks"]]]:
    """What can be trained outside the notebook, into its cache: the networks. Gives the loss of every step."""
    return {"light networks": lambda fabric: trained_networks(exp, world(exp), fabric)[1]}
