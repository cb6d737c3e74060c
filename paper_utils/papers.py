"""The ten papers and the tour of their data: number, citation, what can be run. The runner, the notebooks and the README's table read this list."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

PROFILES = ("smoke", "quick", "full")


@dataclass(frozen=True)
class Paper:
    """One paper of the collection.

    Parameters
    ----------
    number
        Two digits, the order of this collection.
    slug
        Name of its notebook and figure folder after the number.
    title, arxiv, year
        Title as published, arXiv identifier (empty for the tour), year of the first version.
    data
        Names that the notebook's ``data`` parameter takes, the default first; empty while there is no notebook.
    needs_root
        Those of ``data`` that are read from ``data_root``.
    """

    number: str
    slug: str
    title: str
    arxiv: str
    year: int
    data: tuple[str, ...] = ()
    needs_root: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Stem of the notebook's file, such as ``01_covariate_matching``."""
        return f"{self.number}_{self.slug}"

    @property
    def ready(self) -> bool:
        """Whether the paper has a notebook."""
        return bool(self.data)


PAPERS: dict[str, Paper] = {
    paper.number: paper
    for paper in (
        Paper(
            "01",
            "covariate_matching",
            "Optimal Strategies for Matching and Retrieval Problems by Comparing Covariates",
            "1807.04834",
            2018,
            data=("world", "posteriors"),
            needs_root=("posteriors",),
        ),
        Paper(
            "02",
            "dimnet",
            "Disjoint Mapping Network for Cross-modal Matching of Voices and Faces",
            "1807.04836",
            2018,
            data=("world", "voxceleb"),
            needs_root=("voxceleb",),
        ),
        Paper(
            "03",
            "voice_to_face_gan",
            "Face Reconstruction from Voice using Generative Adversarial Networks",
            "1905.10604",
            2019,
            data=("world", "voxceleb"),
            needs_root=("voxceleb",),
        ),
        Paper(
            "04",
            "meshtalk",
            "MeshTalk: 3D Face Animation from Speech using Cross-Modality Disentanglement",
            "2104.08223",
            2021,
            data=("world", "multiface", "multiface_npy", "vocaset", "biwi"),
            needs_root=("multiface", "multiface_npy", "vocaset", "biwi"),
        ),
        Paper(
            "05",
            "sphereface2",
            "SphereFace2: Binary Classification is All You Need for Deep Face Recognition",
            "2108.01513",
            2021,
            data=("world", "digits", "lfw"),
            needs_root=("lfw",),
        ),
        Paper(
            "06",
            "sphereface_r",
            "SphereFace Revived: Unifying Hyperspherical Face Recognition",
            "2109.05565",
            2021,
            data=("world", "digits"),
        ),
        Paper(
            "07",
            "cest",
            "Self-Supervised 3D Face Reconstruction via Conditional Estimation",
            "2110.04800",
            2021,
            data=("world", "voxceleb", "300w_lp"),
            needs_root=("voxceleb", "300w_lp"),
        ),
        Paper(
            "08",
            "talkshow",
            "Generating Holistic 3D Human Motion from Speech",
            "2212.04420",
            2022,
            data=("world", "show"),
            needs_root=("show",),
        ),
        Paper(
            "09",
            "emote",
            "Emotional Speech-Driven Animation with Content-Emotion Disentanglement",
            "2306.08990",
            2023,
            data=("world",),
        ),
        Paper(
            "10",
            "phonemes_and_visage",
            "The Hidden Dance of Phonemes and Visage: Unveiling the Enigmatic Link between Phonemes and Facial Features",
            "2307.13953",
            2023,
            data=("world", "timit", "textgrids", "visage"),
            needs_root=("timit", "textgrids", "visage"),
        ),
    )
}

# Notebook 00 is about the data that the papers share; it is run and reported like a paper.
TOUR = Paper("00", "the_world", "The world: synthetic people with faces, voices and motion", "", 2026, data=("world",))
NOTEBOOKS: dict[str, Paper] = {TOUR.number: TOUR, **PAPERS}


def find(number: str | int) -> Paper:
    """The paper (or, for ``"00"``, the tour) of a number, ``"6"`` and ``"06"`` alike.

    Raises
    ------
    ValueError
        If there is no such paper; the message lists the valid numbers.
    """
    key = str(number).strip().zfill(2)
    if key not in NOTEBOOKS:
        raise ValueError(f"unknown paper {number!r}; valid: {', '.join(NOTEBOOKS)} (see the table in README.md)")
    return NOTEBOOKS[key]


def chosen(numbers: str) -> list[Paper]:
    """Papers by their numbers in a text, separated by commas, each once; all that have a notebook if it names none.

    Raises
    ------
    ValueError
        For an unknown one, as `find`.
    """
    asked = dict.fromkeys(find(part) for part in numbers.split(",") if part.strip())
    return list(asked) or [paper for paper in NOTEBOOKS.values() if paper.ready]


def check_profile(profile: str) -> str:
    """`profile` itself if it is one of `PROFILES`, else a ``ValueError`` that lists them."""
    if profile not in PROFILES:
        raise ValueError(f"unknown profile {profile!r}; valid: {', '.join(PROFILES)}")
    return profile


def check_data(paper: Paper, data: str | None) -> str:
    """The data name to run `paper` on: its default for ``None``.

    Raises
    ------
    ValueError
        If the paper has no notebook yet, or does not take this data; the message lists the valid names.
    """
    if not paper.ready:
        ready = ", ".join(number for number, other in NOTEBOOKS.items() if other.ready)
        raise ValueError(f"paper {paper.number} ({paper.title}) has no notebook yet; papers that have one: {ready}")
    if data is None:
        return paper.data[0]
    if data not in paper.data:
        raise ValueError(f"unknown data {data!r} for paper {paper.number}; valid: {', '.join(paper.data)}")
    return data


def check_data_root(paper: Paper, data: str, data_root: str | Path | None) -> Path | None:
    """The folder that `data` is read from, or ``None`` for data that need none.

    Raises
    ------
    ValueError
        If a folder is needed and not given, or given and not needed.
    FileNotFoundError, NotADirectoryError, PermissionError
        If the folder does not exist, is a file, or cannot be read.
    """
    if data not in paper.needs_root:
        if data_root not in (None, ""):
            raise ValueError(
                f"paper {paper.number}: data {data!r} reads no files, but data_root={str(data_root)!r} was given; leave it out"
            )
        return None
    if data_root in (None, ""):
        raise ValueError(
            f"paper {paper.number}: data {data!r} needs data_root, the folder that holds it; see 'Real data' in README.md"
        )
    root = Path(data_root).expanduser()
    if not root.exists():
        raise FileNotFoundError(f"data_root {str(data_root)!r} does not exist; expected the folder of {data!r}")
    if not root.is_dir():
        raise NotADirectoryError(f"data_root {str(data_root)!r} is a file; expected the folder of {data!r}")
    if not os.access(root, os.R_OK | os.X_OK):
        raise PermissionError(f"data_root {str(data_root)!r} cannot be read; check its permissions")
    return root
