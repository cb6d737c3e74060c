"""The synthetic population: who the people are, what their faces and vocal tracts measure, and how much the two have to do with each other.

People are drawn in blocks from named streams of random numbers, so a million of them cost nothing until asked for, and turning one
switch (the link of voice and face, say) changes what it names and leaves everything else as it was.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from scipy import special

from paper_utils.world.face import PARAMETERS, head
from paper_utils.world.face_tables import LOG_SIZE_SD
from paper_utils.world.reflectance import Skin
from paper_utils.world.voice import Speakers

SEXES = ("woman", "man")
NATIONALITIES = ("A", "B", "C", "D", "E", "F")
COVARIATES = ("sex", "age", "nationality")
BLOCK = 1024
LARGEST = 1_000_000

# Share of each nationality: falls about like Zipf's law. Choice of ours; the letters stand for no nation.
NATIONALITY_PRIOR = (0.40, 0.22, 0.14, 0.10, 0.08, 0.06)
# Age is 18 to 80 years, a beta distribution whose mean differs between nationalities, so that the covariates depend on each other. Ours.
AGE_RANGE = (18.0, 80.0)
AGE_BETA = ((2.0, 2.8), (2.0, 3.4), (2.2, 3.6), (2.4, 2.4), (2.0, 3.8), (2.6, 2.6))
# Where each nationality lies on two neutral axes of face form; a person scatters around it with standard deviation 0.5. Ours.
GROUP_CENTRES = ((0.0, 0.0), (1.1, -0.5), (-0.7, 1.3), (0.7, 1.0), (-1.2, -0.6), (1.5, 0.5))
GROUP_SPREAD = 0.5
# Share of people whose accent is that of their nationality; the others speak with one drawn from the prior. Ours.
NATIVE_ACCENT = 0.9

# Half the difference between men and women in mm, after a published table of adult faces (n-sn 51.0/47.6, sn-me 76.4/69.5, al-al 43.2/40.7,
# ch-ch 55.9/52.0, zy-zy 133.8/130.1, go-go 106.6/96.8, sn-sto 25.5/24.0 mm, men/women); brow_ridge is a choice of ours.
SEX_EFFECT = {
    "nose_length": 1.7, "lower_face_height": 2.6, "nose_width": 1.25, "mouth_width": 2.0, "face_width": 1.9, "jaw_width": 4.9,
    "upper_lip_height": 0.75, "brow_ridge": 1.6,
}  # fmt: skip
# mm a decade, counted from 40 years. From memory and choice of ours, unverified: lips thin, the upper lip lengthens, brow and nose tip sink.
AGE_EFFECT = {"upper_vermilion": -0.25, "upper_lip_height": 0.4, "brow_height": -0.4, "nose_tilt": -0.3}
# mm a unit of the two group axes. Choice of ours; the spread of intercanthal width follows a pooled review (group means 31.2 to 38.5 mm).
GROUP_EFFECT = {
    "intercanthal": (1.6, 0.5), "nose_width": (0.2, 1.5), "nose_bridge": (-0.8, -0.5), "face_width": (1.4, -0.3),
    "eye_height": (-0.5, 0.2), "upper_vermilion": (0.0, 0.6), "lower_vermilion": (0.0, 0.7), "lip_protrusion": (0.1, 0.8),
    "nose_protrusion": (-0.6, -0.4), "canthal_tilt": (0.7, -0.1), "forehead_slope": (-0.4, 0.3),
}  # fmt: skip
# Parameters that grow together: correlation 0.2 inside each set. Choice of ours.
WIDTHS = (
    "face_width",
    "jaw_width",
    "nose_width",
    "intercanthal",
    "eye_length",
    "mouth_width",
    "philtrum_width",
    "chin_width",
)
HEIGHTS = (
    "lower_face_height",
    "nose_length",
    "eye_height",
    "brow_height",
    "upper_lip_height",
    "chin_height",
    "forehead_height",
)
SIZE_CORRELATION = 0.2

# Which face parameters each cavity of the tract follows, as weights on their standardised values ("size" is the log size of the head).
# Choice of ours, guided by reports that jaw length, face height, nose height and mouth width go with lower formants (see notebook 00).
ANATOMY: dict[str, dict[str, float]] = {
    "pharynx": {"size": 0.5, "lower_face_height": 0.4, "nose_length": 0.1},
    "oral": {"face_depth": 0.6, "size": 0.3, "chin_protrusion": 0.3, "lip_protrusion": 0.1},
    "jaw": {"jaw_width": 0.5, "lower_face_height": 0.3, "chin_protrusion": 0.3, "chin_height": 0.2, "chin_width": 0.2},
    "lip": {"mouth_width": 0.9, "lower_vermilion": 0.1},
    "nose_width": {"nose_width": 0.9},
    "nose_length": {"nose_length": 0.7, "nose_protrusion": 0.4},
    "palate": {"face_width": 0.4},
    "neck": {"face_width": 0.3, "jaw_width": 0.2},
}
# Face parameters that no cavity follows: what a voice can tell of them is what sex, age and nationality tell.
UNLINKED = (
    "intercanthal", "eye_length", "eye_height", "canthal_tilt", "eye_depth", "brow_height", "forehead_height", "forehead_slope",
    "philtrum_width", "upper_vermilion", "cheekbone",
)  # fmt: skip

# Tract of women and men, and the spread inside a sex (share of the mean for lengths, standard deviation of the log for gains).
# Lengths: total 17.5 cm in men and 14.9 cm in women. Spreads and gains are choices of ours.
TRACT: dict[str, tuple[float, float, float, str]] = {
    "pharynx_cm": (7.4, 8.8, 0.05, "pharynx"),
    "oral_cm": (7.5, 8.7, 0.045, "oral"),
    "pharynx_gain": (0.9, 1.0, 0.08, "neck"),
    "mouth_gain": (1.0, 1.0, 0.06, "palate"),
    "jaw_gain": (1.0, 1.0, 0.15, "jaw"),
    "lip_gain": (1.0, 1.0, 0.20, "lip"),
    "nose_length": (0.95, 1.0, 0.06, "nose_length"),
    "nose_gain": (0.9, 1.0, 0.10, "nose_length"),
    "nostril_gain": (0.9, 1.0, 0.25, "nose_width"),
}
LENGTHS = ("pharynx_cm", "oral_cm", "nose_length")
# Hz at the middle of a decade. Men: Shipp and Hollien 1972 (120 at 20-29, 107 at 40-49, 146 at 80-89); women: 8.9, 7.6 and 6.1 semitones
# higher at 20-29, 40-59 and 70-79 (medians of 11,971 telephone speakers); straight lines in between.
F0_YEARS = (25.0, 45.0, 55.0, 75.0, 85.0)
F0_MEN = (120.0, 107.0, 115.0, 136.0, 146.0)
F0_SEMITONES = (8.9, 7.6, 7.6, 6.1, 6.1)
F0_SD = 0.10
F0_SIZE = -0.02
# Body height, cm: mean and standard deviation (textbook values, from memory), 0.6 of it in common with head size (ours).
STATURE = {"woman": (163.0, 6.5), "man": (176.5, 7.0)}
STATURE_SIZE = 0.6
# Colours as linear reflectance; choices of ours.
DARK_HAIR, FAIR_HAIR, GREY_HAIR = (0.06, 0.04, 0.03), (0.62, 0.44, 0.22), (0.55, 0.55, 0.56)
BROWN_EYES, BLUE_EYES = (0.20, 0.12, 0.06), (0.25, 0.42, 0.60)


@dataclass(frozen=True)
class People:
    """Some people of a population: struct of arrays, one row a person.

    Parameters
    ----------
    identity
        Number of each person in the population.
    sex, age, nationality
        Of the face: index into `SEXES`, years, index into `NATIONALITIES`.
    voice_sex, voice_age, accent
        Of the voice. They agree with the face where the population says so; the accent is that of the nationality in nine of ten people.
    stature_cm
        Body height.
    face
        The head's parameters in mm, in the order of `paper_utils.world.face.PARAMETERS`.
    log_size
        Log of the head's size.
    residual
        Standardised face parameters and log size (last column) without the effects of sex, age and nationality.
    anatomy
        Standardised size of each cavity within the sex, in the order of `ANATOMY`.
    skin
        Reflectance.
    speakers
        Vocal tract and voice source.
    """

    identity: Int[np.ndarray, " people"]
    sex: Int[np.ndarray, " people"]
    age: Float[np.ndarray, " people"]
    nationality: Int[np.ndarray, " people"]
    voice_sex: Int[np.ndarray, " people"]
    voice_age: Float[np.ndarray, " people"]
    accent: Int[np.ndarray, " people"]
    stature_cm: Float[np.ndarray, " people"]
    face: Float[np.ndarray, "people parameters"]
    log_size: Float[np.ndarray, " people"]
    residual: Float[np.ndarray, "people parameters_and_size"]
    anatomy: Float[np.ndarray, "people cavities"]
    skin: Skin
    speakers: Speakers

    def __len__(self) -> int:
        return len(self.identity)

    def take(self, rows: ArrayLike) -> People:
        """The people of the chosen rows, in that order; rows are counted from 0, not by identity."""
        rows = np.asarray(rows)
        if rows.size == 0:
            raise ValueError("take: no people were chosen; give at least one row")
        return People(**{f.name: _take(getattr(self, f.name), rows) for f in dataclasses.fields(self)})

    def covariates(self) -> dict[str, np.ndarray]:
        """Sex, age and nationality of the faces by name."""
        return {name: getattr(self, name) for name in COVARIATES}


@dataclass(frozen=True)
class Population:
    """How people are made. All switches of the population stand here.

    Parameters
    ----------
    seed
        Source of all people.
    size
        How many there are, 1 to 1,000,000; they are made when asked for.
    voice_face_link
        Correlation between each cavity of the tract and what the face says of it, inside a group of equal sex, age and nationality:
        0 to 1. At 0 the voice is that of somebody else: not even the sex agrees, unless `shared` says so. 0.6 is a
        choice of ours, at the upper end of what is reported for adults (see notebook 00).
    shared
        Which of sex, age, nationality voice and face have in common. ``None``: all of them, or none if `voice_face_link` is 0.
        ``("sex",)`` with a link of 0 is the sex-only world.
    equal_tracts
        All tracts alike (the mean of both sexes); only the pitch differs between voices.
    asymmetry
        How uneven left and right reflectance are; 0 is a mirror-symmetric world.

    Raises
    ------
    ValueError
        For a link outside 0..1, an unknown shared covariate, a size outside 1..1,000,000, a negative seed or asymmetry.
    """

    seed: int = 0
    size: int = 1000
    voice_face_link: float = 0.6
    shared: tuple[str, ...] | None = None
    equal_tracts: bool = False
    asymmetry: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.voice_face_link <= 1:
            raise ValueError(f"voice_face_link must lie in [0, 1], found {self.voice_face_link}")
        if not 1 <= self.size <= LARGEST:
            raise ValueError(f"size: expected 1 to {LARGEST:,} people, found {self.size}")
        if self.seed < 0 or not self.asymmetry >= 0:
            raise ValueError(f"seed and asymmetry must not be negative, found {self.seed} and {self.asymmetry}")
        unknown = [name for name in self.shared or () if name not in COVARIATES]
        if unknown:
            raise ValueError(f"shared: unknown covariates {', '.join(unknown)}; valid: {', '.join(COVARIATES)}")

    @classmethod
    def sex_only(cls, **options) -> Population:
        """The world in which voice and face have their sex in common and nothing else."""
        return cls(**{"voice_face_link": 0.0, "shared": ("sex",), **options})

    def __len__(self) -> int:
        return self.size

    def people(self, identities: Sequence[int] | Int[np.ndarray, " people"] | range | None = None) -> People:
        """Make the people of the given numbers; all of them if none are given.

        Parameters
        ----------
        identities
            Numbers in ``[0, size)``, in any order.

        Raises
        ------
        ValueError
            If none are asked for.
        IndexError
            If a number is not in the population.
        """
        wanted = np.arange(self.size) if identities is None else np.asarray(list(identities), dtype=int)
        if wanted.size == 0:
            raise ValueError("identities: no people were asked for; give at least one number")
        if wanted.min() < 0 or wanted.max() >= self.size:
            raise IndexError(f"identities must lie in [0, {self.size}), found {wanted.min()} to {wanted.max()}")
        blocks, where = np.unique(wanted // BLOCK, return_inverse=True)
        made = _joined([self._block(int(block)) for block in blocks])
        return made.take(where * BLOCK + wanted % BLOCK)

    def _rng(self, stream: str, block: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, zlib.crc32(stream.encode()), block])

    def _block(self, block: int) -> People:
        sex, age, nationality, group = _covariates(self._rng("covariates", block))
        other_sex, other_age, other_nationality, _ = _covariates(self._rng("voice covariates", block))
        shared = self.shared if self.shared is not None else (COVARIATES if self.voice_face_link > 0 else ())
        voice_sex = sex if "sex" in shared else other_sex
        voice_age = age if "age" in shared else other_age
        home = nationality if "nationality" in shared else other_nationality
        accents = self._rng("accent", block)
        moved = accents.choice(len(NATIONALITIES), size=BLOCK, p=NATIONALITY_PRIOR)
        accent = np.where(accents.random(BLOCK) < NATIVE_ACCENT, home, moved)

        residual = self._rng("face", block).standard_normal((BLOCK, len(PARAMETERS) + 1)) @ _factor().T
        face = _means(sex, age, group) + residual[:, :-1] * _parameter_sd()
        anatomy = self._anatomy(residual, self._rng("tract", block))
        bodies = self._rng("stature", block).standard_normal(BLOCK)
        mean, sd = np.array([STATURE[name] for name in SEXES])[sex].T
        common = STATURE_SIZE * residual[:, -1]
        return People(
            identity=block * BLOCK + np.arange(BLOCK),
            sex=sex,
            age=age,
            nationality=nationality,
            voice_sex=voice_sex,
            voice_age=voice_age,
            accent=accent,
            stature_cm=mean + sd * (common + np.sqrt(1 - STATURE_SIZE**2) * bodies),
            face=face,
            log_size=LOG_SIZE_SD * residual[:, -1],
            residual=residual,
            anatomy=anatomy,
            skin=_skin(sex, age, group, self.asymmetry, self._rng("skin", block)),
            speakers=self._speakers(voice_sex, voice_age, residual[:, -1], anatomy, self._rng("voice", block)),
        )

    def _anatomy(self, residual: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        own = rng.standard_normal((len(residual), len(ANATOMY)))
        return self.voice_face_link * residual @ _standard_weights().T + np.sqrt(1 - self.voice_face_link**2) * own

    def _speakers(
        self, sex: np.ndarray, age: np.ndarray, size: np.ndarray, anatomy: np.ndarray, rng: np.random.Generator
    ) -> Speakers:
        own = rng.standard_normal((len(sex), 5))
        f0_size = F0_SIZE * self.voice_face_link
        tract = {}
        for name, (woman, man, sd, cavity) in TRACT.items():
            mean = np.where(sex == 1, man, woman) if not self.equal_tracts else np.full(len(sex), (man + woman) / 2)
            latent = anatomy[:, list(ANATOMY).index(cavity)] * (0 if self.equal_tracts else 1)
            tract[name] = mean * ((1 + sd * latent) if name in LENGTHS else np.exp(sd * latent))
        return Speakers(
            **tract,
            f0_hz=typical_f0(sex, age) * np.exp(f0_size * size + np.sqrt(F0_SD**2 - f0_size**2) * own[:, 0]),
            # Source: means by sex, spreads as nuisance; nothing of it is linked to the face. Choices of ours.
            rd=np.clip(np.where(sex == 1, 1.0, 1.3) + 0.2 * own[:, 1], 0.5, 2.7),
            breath=np.exp(0.3 * own[:, 2]),
            tempo=np.exp(0.08 * own[:, 3]),
            jitter=0.01 * np.exp(0.2 * own[:, 4]),
            shimmer_db=np.full(len(sex), 0.25),
        )

    def true_correlation(self) -> Float[np.ndarray, "cavities parameters_and_size"]:
        r"""Correlation between each cavity and each face parameter inside a group, in closed form.

        .. math:: \operatorname{cor}(h_q, z) = \kappa \, \frac{R\,w_q}{\sqrt{w_q^\top R\,w_q}}

        with :math:`R` the correlation matrix of the face parameters and log size (last column), :math:`w_q` the weights of `ANATOMY`.
        """
        return self.voice_face_link * _standard_weights() @ face_correlation()


def face_correlation() -> Float[np.ndarray, "parameters_and_size parameters_and_size"]:
    """Correlation of the face parameters, and of log size as last, inside a group of equal sex, age and nationality."""
    matrix = np.eye(len(PARAMETERS) + 1)
    for together in (WIDTHS, HEIGHTS):
        rows = [PARAMETERS.index(name) for name in together]
        matrix[np.ix_(rows, rows)] = SIZE_CORRELATION
    np.fill_diagonal(matrix, 1.0)
    return matrix


def typical_f0(sex: Int[np.ndarray, " people"], age: Float[np.ndarray, " people"]) -> Float[np.ndarray, " people"]:
    """Mean speaking pitch in Hz by sex (0 woman, 1 man) and age in years."""
    men = np.interp(age, F0_YEARS, F0_MEN)
    return np.where(sex == 1, men, men * 2 ** (np.interp(age, F0_YEARS, F0_SEMITONES) / 12))


def _parameter_sd() -> np.ndarray:
    return head(2).parameter_sd.double().numpy()


def _factor() -> np.ndarray:
    return np.linalg.cholesky(face_correlation())


def _standard_weights() -> Float[np.ndarray, "cavities parameters_and_size"]:
    """Weights of `ANATOMY`, scaled so that each weighted sum has variance one."""
    names = [*PARAMETERS, "size"]
    weights = np.zeros((len(ANATOMY), len(names)))
    for row, cavity in enumerate(ANATOMY.values()):
        for name, weight in cavity.items():
            weights[row, names.index(name)] = weight
    return weights / np.sqrt(np.einsum("qi,ij,qj->q", weights, face_correlation(), weights))[:, None]


def _covariates(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Sex, age, nationality and the place on the two group axes of one block."""
    nationality = rng.choice(len(NATIONALITIES), size=BLOCK, p=NATIONALITY_PRIOR)
    sex = rng.integers(2, size=BLOCK)
    a, b = np.array(AGE_BETA)[nationality].T
    age = AGE_RANGE[0] + (AGE_RANGE[1] - AGE_RANGE[0]) * rng.beta(a, b)
    group = np.array(GROUP_CENTRES)[nationality] + GROUP_SPREAD * rng.standard_normal((BLOCK, 2))
    return sex, age, nationality, group


def _means(sex: np.ndarray, age: np.ndarray, group: np.ndarray) -> Float[np.ndarray, "people parameters"]:
    """Mean face parameters, mm, of people with these covariates."""
    effects = np.zeros((4, len(PARAMETERS)))
    for row, table in enumerate((SEX_EFFECT, AGE_EFFECT)):
        for name, value in table.items():
            effects[row, PARAMETERS.index(name)] = value
    for name, values in GROUP_EFFECT.items():
        effects[2:, PARAMETERS.index(name)] = values
    return np.column_stack([2.0 * sex - 1, (age - 40) / 10, group]) @ effects


def _skin(sex: np.ndarray, age: np.ndarray, group: np.ndarray, asymmetry: float, rng: np.random.Generator) -> Skin:
    """Reflectance by group, sex and age; every relation here is a choice of ours."""
    count = len(sex)
    noise, uniform = rng.standard_normal((count, 5)), rng.random((count, 6))
    pigment = special.expit(0.9 * group[:, 0] + 0.8 * group[:, 1] - 0.9 + 0.5 * noise[:, 0])
    melanin = 0.05 + 1.05 * pigment
    grey = special.expit((age - 58 + 8 * noise[:, 1]) / 5)[:, None]
    fair = (uniform[:, 0] * (1 - pigment) ** 2)[:, None]
    hair = (1 - grey) * (np.array(DARK_HAIR) + fair * (np.array(FAIR_HAIR) - DARK_HAIR)) + grey * np.array(GREY_HAIR)
    bald = (sex == 1) & (uniform[:, 1] < np.clip((age - 25) / 110, 0, 0.5))
    light_eyes = ((uniform[:, 2] > 0.35) * (1 - pigment) ** 3)[:, None]
    return Skin(
        melanin=melanin,
        blood=np.clip(0.45 + 0.08 * noise[:, 2], 0.2, 0.7),
        lip=np.clip(0.5 + 0.1 * (1 - sex) + 0.08 * noise[:, 3], 0.3, 0.8),
        brow=np.clip(0.65 + 0.2 * sex + 0.1 * noise[:, 4], 0.4, 1.0),
        beard=np.where((sex == 1) & (uniform[:, 3] < 0.55), uniform[:, 4], 0.0),
        lash=np.where(sex == 1, 0.6, 0.9),
        freckles=np.where(uniform[:, 5] > 0.75, (1 - pigment) ** 2, 0.0),
        iris=np.array(BROWN_EYES) + light_eyes * (np.array(BLUE_EYES) - BROWN_EYES),
        hair=hair,
        hair_volume=np.where(bald, 0.0, 9.0),
        hair_length=np.clip(np.where(sex == 1, 0.05, 0.7) + 0.25 * rng.standard_normal(count), 0.0, 1.0),
        asymmetry=np.full(count, float(asymmetry)),
        seed=rng.integers(2**31, size=count),
    )


def _take(value: np.ndarray | Skin | Speakers, rows: np.ndarray) -> np.ndarray | Skin | Speakers:
    return value[rows] if isinstance(value, np.ndarray) else value.take(rows)


def _joined(parts: Sequence) -> np.ndarray | People | Skin | Speakers:
    """The rows of several structs of arrays, one after the other, field by field."""
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    fields = dataclasses.fields(parts[0])
    return type(parts[0])(**{f.name: _joined([getattr(part, f.name) for part in parts]) for f in fields})
