"""Files of covariate recognisers: JSON models (priors and confusion tables) and CSV tables of posteriors, one row an item."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from paper_utils import safe_files
from paper_utils.metrics.probabilities import distributions

# A CSV is written with a few decimals; rows are accepted within this and renormalised.
CSV_SUM_TOLERANCE = 1e-3
PRIOR_MARK = "# training_prior:"

# Keys that each layout of a model file needs, and those that it may have.
_LAYOUTS = (
    ({"prior", "probe_confusion", "gallery_confusion"}, {"impostor_prior", "match_table"}),
    ({"priors", "probe_confusions", "gallery_confusions"}, set()),
    ({"joint_prior", "probe_confusions", "gallery_confusions"}, {"impostor_prior"}),
    ({"prior", "probe_symbols", "gallery_symbols"}, {"impostor_prior", "training_prior"}),
)
_PLAIN = sorted(_LAYOUTS[0][0])


@dataclass(frozen=True)
class CovariatePosteriors:
    """What a recogniser says about a covariate of some items, and what is true.

    Parameters
    ----------
    person
        Whose item it is.
    values
        True value of the covariate, from 0.
    posterior
        Posterior over the values; rows sum to one.
    training_prior
        Frequencies of the values where the recogniser was trained: the prior its posteriors assume.
    name
        Modality and source, for captions and messages.
    """

    person: np.ndarray
    values: Int[np.ndarray, " items"]
    posterior: Float[np.ndarray, "items values"]
    training_prior: Float[np.ndarray, " values"]
    name: str

    def __post_init__(self) -> None:
        posterior = distributions(self.posterior, f"{self.name}: posterior", tolerance=CSV_SUM_TOLERANCE)
        prior = distributions(self.training_prior, f"{self.name}: training_prior", ndim=1)
        items, values = posterior.shape
        if not len(self.person) == len(self.values) == items or len(prior) != values:
            raise ValueError(
                f"{self.name}: expected {items} persons, {items} true values and {values} priors to go with posteriors {posterior.shape}, "
                f"found {len(self.person)}, {len(self.values)} and {len(prior)}"
            )
        if self.values.min() < 0 or self.values.max() >= values:
            raise ValueError(
                f"{self.name}: true values must lie in 0..{values - 1}, found {self.values.min()}..{self.values.max()}"
            )
        object.__setattr__(self, "posterior", posterior)
        object.__setattr__(self, "training_prior", prior)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def labels(self) -> Int[np.ndarray, " items"]:
        """The most probable value of each item."""
        return self.posterior.argmax(axis=1)

    @property
    def accuracy(self) -> float:
        """Share of items whose most probable value is the true one."""
        return float((self.labels == self.values).mean())

    def take(self, rows: np.ndarray) -> CovariatePosteriors:
        """The chosen items, in the order given."""
        return CovariatePosteriors(
            self.person[rows], self.values[rows], self.posterior[rows], self.training_prior, self.name
        )


def load_model(path: str | Path) -> dict[str, Any]:
    """Entries of a JSON model file, checked; `methods.covariates.CovariateModel.from_mapping` makes the model.

    The file holds one object: ``prior``, ``probe_confusion``, ``gallery_confusion`` and optionally ``impostor_prior`` and ``match_table``;
    or, for several covariates, ``priors`` (independent) or ``joint_prior`` (optionally ``impostor_prior``, alike in shape or flattened) with
    ``probe_confusions`` and ``gallery_confusions``; or ``prior`` with ``probe_symbols`` and ``gallery_symbols``, each
    ``{"mass": [...], "posterior": [[...], ...]}``, and optionally ``impostor_prior`` and ``training_prior``.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not JSON, has keys that its layout does not use, or a table is negative or does not sum to 1 within 1e-9 (names the table and row).
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"model file {path} does not exist; expected a JSON object with {_PLAIN}")
    entries = safe_files.json_value(path, f"a JSON object with {_PLAIN}")
    if not isinstance(entries, dict):
        raise ValueError(f"{path}: expected a JSON object with {_PLAIN}, found a {type(entries).__name__}")
    check_layout(entries, path)
    for key, value in entries.items():
        _check_entry(f"{path}: {key}", key, value, flat="joint_prior" in entries)
    return entries


def check_layout(keys: Iterable[str], name: str | Path) -> None:
    """Refuse entries of a model that are of no layout (see `load_model`), and those that their layout would leave unused.

    Raises
    ------
    ValueError
        If keys are missing or superfluous; names them and what goes together.
    """
    found = set(keys)
    if any(needed <= found <= needed | optional for needed, optional in _LAYOUTS):
        return
    fitting = [(needed, optional) for needed, optional in _LAYOUTS if needed <= found]
    if fitting:
        needed, optional = fitting[0]
        rest = ", ".join(sorted(found - needed - optional))
        raise ValueError(
            f"{name}: found keys {rest}, which a model of {', '.join(sorted(needed))} does not use "
            f"(it may have: {', '.join(sorted(optional)) or 'no others'}); leave them out"
        )
    options = "; or ".join(_described(*layout) for layout in _LAYOUTS)
    raise ValueError(f"{name}: found keys {', '.join(sorted(found)) or 'none'}; expected {options}")


def _described(needed: set[str], optional: set[str]) -> str:
    return ", ".join(sorted(needed)) + (f" (optional: {', '.join(sorted(optional))})" if optional else "")


def _check_entry(name: str, key: str, value: Any, *, flat: bool) -> None:
    if key in ("joint_prior", "match_table") or (flat and key == "impostor_prior"):
        try:
            entries = np.ravel(value)
        except ValueError as error:
            raise ValueError(f"{name}: expected a table with rows of equal length, found {value!r:.80}") from error
        distributions(entries, f"{name} (all entries)", ndim=1)
    elif key in ("prior", "impostor_prior", "training_prior"):
        distributions(value, name, ndim=1)
    elif key in ("probe_confusion", "gallery_confusion"):
        distributions(value, name)
    elif key in ("priors", "probe_confusions", "gallery_confusions"):
        if not isinstance(value, list) or not value:
            raise ValueError(f"{name}: expected a list with one table a covariate, found {value!r:.60}")
        for index, table in enumerate(value):
            distributions(table, f"{name}[{index}]", ndim=1 if key == "priors" else 2)
    else:
        if not isinstance(value, dict) or set(value) != {"mass", "posterior"}:
            raise ValueError(f"{name}: expected an object with 'mass' and 'posterior', found {value!r:.60}")
        distributions(value["mass"], f"{name}.mass", ndim=1)
        distributions(value["posterior"], f"{name}.posterior")


def load_posteriors(path: str | Path) -> CovariatePosteriors:
    """Read a CSV of posteriors: columns ``item_path, covariate, p_1 .. p_K`` and optionally ``person``.

    ``covariate`` is the true value, 1 to K. Without ``person``, the first folder of ``item_path`` names the person
    (``id10003/E_6MjfYr0sQ/00019.wav``). A first line ``# training_prior: 0.61 0.39`` states the prior the recogniser was trained under;
    without it, the frequencies of the true values in the file are taken.

    Parameters
    ----------
    path
        The file; rows may sum to one within 1e-3, as rounded decimals do.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        For missing or superfluous columns, no rows, values that are not numbers or not in 1..K, or rows that do not sum to one. The
        message names the file and line.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"posteriors {path} do not exist; expected a CSV with columns item_path, covariate, p_1, ..., p_K"
        )
    form = "a CSV with columns item_path, covariate, p_1, ..., p_K"
    content = safe_files.text(path, form)
    first = content.partition("\n")[0]
    stated = first.startswith(PRIOR_MARK)
    table = safe_files.csv(path, form, text_of=content, skiprows=int(stated), skipinitialspace=True)
    columns = [name for name in table.columns if name not in ("item_path", "covariate", "person")]
    expected = [f"p_{i}" for i in range(1, len(columns) + 1)]
    if columns != expected or len(columns) < 2 or not {"item_path", "covariate"} <= set(table.columns):
        raise ValueError(
            f"{path}: found columns {', '.join(map(str, table.columns))}; expected item_path, covariate, p_1, ..., p_K with K >= 2 (optional: person)"
        )
    if table.empty:
        raise ValueError(f"{path}: there are no rows; expected one row an item")
    header = 2 + int(stated)
    numbers = table[["covariate", *columns]].apply(pd.to_numeric, errors="coerce")
    bad = np.flatnonzero(numbers.isna().any(axis=1) | table["item_path"].isna())
    if len(bad):
        raise ValueError(
            f"{path}: {len(bad)} rows have empty cells or cells that are not numbers, the first in line {bad[0] + header}"
        )
    values, posterior = numbers["covariate"].to_numpy(float), numbers[columns].to_numpy(float)
    outside = np.flatnonzero((values < 1) | (values > len(columns)) | (values != np.round(values)))
    if len(outside):
        raise ValueError(
            f"{path}: line {outside[0] + header} has covariate {values[outside[0]]:g}, expected a whole number from 1 to {len(columns)}"
        )
    wrong = np.flatnonzero((np.abs(posterior.sum(axis=1) - 1) > CSV_SUM_TOLERANCE) | (posterior < 0).any(axis=1))
    if len(wrong):
        line = wrong[0] + header
        raise ValueError(
            f"{path}: {len(wrong)} rows are not probabilities, the first in line {line}: they sum to {posterior[wrong[0]].sum():.6g}, "
            f"expected entries of at least 0 that sum to 1 within {CSV_SUM_TOLERANCE:g}; write probabilities, not logits"
        )
    whole = values.astype(np.int64) - 1
    if stated:
        prior = np.array(_numbers(first[len(PRIOR_MARK) :], f"{path}: line 1"))
        if len(prior) != len(columns):
            raise ValueError(f"{path}: line 1 states {len(prior)} training priors, expected {len(columns)}")
    else:
        prior = np.bincount(whole, minlength=len(columns)) / len(whole)
    person = table["person"] if "person" in table else table["item_path"].astype(str).str.split("/").str[0]
    with safe_files.prefixed(path):
        return CovariatePosteriors(person.astype(str).to_numpy(), whole, posterior, prior, path.stem)


def _numbers(text: str, name: str) -> list[float]:
    try:
        return [float(word) for word in text.replace(",", " ").split()]
    except ValueError as error:
        raise ValueError(f"{name}: expected numbers after '{PRIOR_MARK}', found {text.strip()!r}") from error


def load_pair(root: str | Path, covariate: str) -> tuple[CovariatePosteriors, CovariatePosteriors]:
    """Voice and face posteriors of one covariate, from ``voice_<covariate>.csv`` and ``face_<covariate>.csv``.

    Raises
    ------
    FileNotFoundError, ValueError
        As `load_posteriors`; also if the two files disagree on the number of values or on a person's true value, or share no person.
    """
    voice, face = (load_posteriors(Path(root) / f"{side}_{covariate}.csv") for side in ("voice", "face"))
    if voice.posterior.shape[1] != face.posterior.shape[1]:
        raise ValueError(
            f"{root}: voice has {voice.posterior.shape[1]} values of {covariate}, face has {face.posterior.shape[1]}; both need the same values in the same order"
        )
    truth = pd.concat([pd.DataFrame({"person": side.person, "value": side.values}) for side in (voice, face)])
    several = truth.groupby("person")["value"].nunique()
    if (several > 1).any():
        name = several.index[several > 1][0]
        raise ValueError(
            f"{root}: {int((several > 1).sum())} persons have more than one true {covariate}, the first is {name!r}; correct the covariate column"
        )
    if not set(voice.person) & set(face.person):
        raise ValueError(
            f"{root}: voice and face files share no person (voice: {voice.person[0]!r}, ..; face: {face.person[0]!r}, ..); "
            "name people alike, in a person column or in the first folder of item_path"
        )
    return voice, face


def one_item_each(
    voice: CovariatePosteriors, face: CovariatePosteriors, rng: np.random.Generator
) -> tuple[CovariatePosteriors, CovariatePosteriors]:
    """One random item of every person that both have, in the same order of people: the unit of every claim is a person.

    Raises
    ------
    ValueError
        If they share no person.
    """
    people = np.intersect1d(voice.person, face.person)
    if len(people) == 0:
        raise ValueError(f"{voice.name} and {face.name} share no person")
    chosen = []
    for side in (voice, face):
        order = rng.permutation(len(side))
        _, first = np.unique(side.person[order], return_index=True)
        rows = order[first]
        chosen.append(side.take(rows[np.isin(side.person[rows], people)]))
    return chosen[0], chosen[1]
