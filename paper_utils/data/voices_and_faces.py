"""VoxCeleb1 voices and VGGFace pictures of the same people: joined through the table of speakers, with an account of who is missing where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor

from paper_utils.data.face_images import MAX_EAGER_BYTES, string_array
from paper_utils.data.face_lists import first_few
from paper_utils.data.matching_lists import TrialItems
from paper_utils.data.samples import LabelledImages
from paper_utils.data.speech import Voices
from paper_utils.data.trial_builders import Items
from paper_utils.data.vggface import SIZES, ScaledFaces, read_archive
from paper_utils.data.voice_features import FrontEnd
from paper_utils.data.voxceleb import SpeakerRecordings, read_features, read_wav
from paper_utils.data.voxceleb_speakers import (
    PUBLISHED_PEOPLE,
    SpeakerTable,
    letter_split,
    read_meta,
    read_split_list,
)

META, WAV, FEATURES, FACES = "vox1_meta.csv", "wav", "fbank", "VGG_ALL_FRONTAL"


@dataclass(frozen=True)
class JoinReport:
    """Who is in the joined data, and who is not and why.

    Parameters
    ----------
    name
        Of the joined data.
    people, recordings, images
        How many are in.
    without_images, without_recordings, without_both
        People of the split who lack one modality or both, by VoxCeleb1 identifier and name.
    dropped
        Identifiers that the split leaves out.
    unknown_speakers, unknown_faces
        Folders of nobody in the table.
    skipped_recordings, skipped_images
        Entries of the folders that are no recordings and no pictures of the official layout.
    published
        People that papers 02 and 03 have in this part of the split; ``None`` for other parts.
    """

    name: str
    people: int
    recordings: int
    images: int
    without_images: tuple[str, ...]
    without_recordings: tuple[str, ...]
    without_both: tuple[str, ...]
    dropped: tuple[str, ...]
    unknown_speakers: tuple[str, ...]
    unknown_faces: tuple[str, ...]
    skipped_recordings: tuple[str, ...]
    skipped_images: tuple[str, ...]
    published: int | None = None

    @property
    def missing(self) -> dict[str, tuple[str, ...]]:
        """Names of whatever is not in, by reason."""
        return {
            "people without images": self.without_images,
            "people without recordings": self.without_recordings,
            "people with neither": self.without_both,
            "people left out by the split": self.dropped,
            "folders of recordings of nobody in the table": self.unknown_speakers,
            "folders of images of nobody in the table": self.unknown_faces,
            "other entries among the recordings": self.skipped_recordings,
            "other entries among the images": self.skipped_images,
        }

    def table(self) -> pd.DataFrame:
        """What is not in: counts and the first few names."""
        rows = [(reason, len(names), first_few(names)) for reason, names in self.missing.items()]
        return pd.DataFrame(rows, columns=["what", "count", "first"])

    def __str__(self) -> str:
        published = f" (papers 02 and 03: {self.published})" if self.published is not None else ""
        lines = [f"{self.name}: {self.people} people{published}, {self.recordings} recordings, {self.images} images"]
        lines += [f"  {what}: {len(names)}: {first_few(names)}" for what, names in self.missing.items() if names]
        return "\n".join(lines)


@dataclass(frozen=True)
class VoicesAndFaces:
    """Recordings and pictures of the same people, under the same numbers.

    Parameters
    ----------
    people
        One row a person, sorted by name; the row is the identity in both modalities.
    voices, faces
        Read when a batch asks for them.
    report
        Who is missing.
    """

    people: SpeakerTable
    voices: SpeakerRecordings
    faces: ScaledFaces
    report: JoinReport

    @property
    def name(self) -> str:
        """For captions and results files."""
        return self.report.name

    @property
    def covariates(self) -> dict[str, Int[Tensor, " people"]]:
        """``sex`` and ``nationality`` of each person."""
        return self.people.covariates

    @property
    def covariate_names(self) -> dict[str, tuple[str, ...]]:
        """What the codes stand for."""
        return self.people.covariate_names

    def load_voices(self, rows: Int[Tensor, " rows"] | None = None, *, max_bytes: int = MAX_EAGER_BYTES) -> Voices:
        """Recordings in memory with the covariates of their speakers; see `SpeakerRecordings.load`."""
        loaded = self.voices.load(rows, max_bytes=max_bytes)
        return replace(loaded, covariates=self._of(loaded.identities))

    def load_faces(
        self, rows: Int[Tensor, " rows"] | None = None, *, max_bytes: int = MAX_EAGER_BYTES
    ) -> LabelledImages:
        """Pictures in memory with the covariates of the people on them; see `LabelledFaces.load`."""
        loaded = self.faces.load(rows, max_bytes=max_bytes)
        return replace(loaded, covariates=self._of(loaded.identities))

    def _of(self, identities: Tensor) -> dict[str, Tensor]:
        return {name: values[identities] for name, values in self.covariates.items()}

    @property
    def voice_items(self) -> Items:
        """Recordings for `trial_builders`, named ``.wav`` as in the published lists even where features are stored."""
        paths = [f"{path.rsplit('.', 1)[0]}.wav" for path in self.voices.paths.tolist()]
        return Items(string_array(paths, self.name), self.voices.identities.numpy())

    @property
    def face_items(self) -> Items:
        """Pictures for `trial_builders`."""
        return Items(self.faces.source.paths, self.faces.identities.numpy())

    def rows_of(self, trials: TrialItems) -> tuple[Int[np.ndarray, " probes"], Int[np.ndarray, " gallery"]]:
        """Rows of a list's probes and gallery items: which recordings and pictures to embed.

        Raises
        ------
        ValueError
            If the list names items that are not in the data; they are counted.
        """
        voices = _rows(self.voice_items.paths, trials.voice_paths, f"{trials.name}: recordings", self.name)
        faces = _rows(self.face_items.paths, trials.face_paths, f"{trials.name}: pictures", self.name)
        return (voices, faces) if trials.direction == "v2f" else (faces, voices)


def _rows(held: np.ndarray, wanted: np.ndarray, what: str, name: str) -> Int[np.ndarray, " wanted"]:
    place = {path: row for row, path in enumerate(held.tolist())}
    missing = [path for path in wanted.tolist() if path not in place]
    if missing:
        raise ValueError(
            f"{what}: {len(missing)} of {len(wanted)} are not in {name}: {first_few(missing)}; complete the data or make the lists anew"
        )
    return np.array([place[path] for path in wanted.tolist()], dtype=np.int64)


def join(
    people: SpeakerTable,
    voices: SpeakerRecordings,
    faces: ScaledFaces,
    *,
    everybody: SpeakerTable | None = None,
    published: int | None = None,
) -> VoicesAndFaces:
    """The people of a split who have both recordings and pictures, numbered by their names in alphabetical order (released code of paper 03).

    Parameters
    ----------
    people
        The part of the split.
    voices, faces
        Indices of the whole folders. A speaker's folder is named by identifier or by name.
    everybody
        The whole table: folders of people outside it are reported as unknown. `people` if not given.
    published
        People that the papers have, for the report.

    Raises
    ------
    ValueError
        If fewer than two people have both.
    """
    everybody = everybody or people
    owner = {"voices": people.rows(voices.identity_names), "faces": people.rows(faces.identity_names)}
    with_voice, with_face = (set(owner[side][owner[side] >= 0].tolist()) for side in ("voices", "faces"))
    lists = {
        "without_images": with_voice - with_face,
        "without_recordings": with_face - with_voice,
        "without_both": set(range(len(people))) - with_voice - with_face,
    }
    both = sorted(with_voice & with_face, key=lambda row: people.vggface_names[row])
    described = {
        key: tuple(f"{people.voxceleb_ids[row]} {people.vggface_names[row]}" for row in sorted(rows))
        for key, rows in lists.items()
    }
    if len(both) < 2:
        raise ValueError(
            f"{people.name}: {len(both)} of {len(people)} people have both recordings and images, expected at least two "
            f"({len(lists['without_images'])} lack images, {len(lists['without_recordings'])} recordings, {len(lists['without_both'])} both); "
            "are the folders those of VoxCeleb1 and VGGFace?"
        )
    joined = people.take(np.array(both), dropped=people.dropped)
    place = np.full(len(people), -1)
    place[both] = np.arange(len(both))
    taken = {}
    for side, source in (("voices", voices), ("faces", faces)):
        number = np.where(owner[side] >= 0, place[owner[side]], -1)[source.identities.numpy()]
        rows = torch.from_numpy(np.flatnonzero(number >= 0))
        identities = torch.from_numpy(number[number >= 0])
        taken[side] = source.take(rows, identities, joined.vggface_names, f"{people.name}, {source.name}")
    report = JoinReport(
        name=people.name,
        people=len(joined),
        recordings=len(taken["voices"]),
        images=len(taken["faces"]),
        **described,
        dropped=people.dropped,
        unknown_speakers=_unknown(everybody, voices.identity_names),
        unknown_faces=_unknown(everybody, faces.identity_names),
        skipped_recordings=voices.skipped,
        skipped_images=faces.skipped,
        published=published,
    )
    return VoicesAndFaces(joined, taken["voices"], taken["faces"], report)


def _unknown(table: SpeakerTable, folders: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name, row in zip(folders, table.rows(folders), strict=True) if row < 0)


def read(
    root: str | Path,
    parts: Sequence[str] = ("train", "val", "test"),
    *,
    size: tuple[int, int] = SIZES["03"],
    front_end: FrontEnd | None = None,
    lists: bool = False,
    squeeze: bool = False,
) -> dict[str, VoicesAndFaces]:
    """Papers 02 and 03's data from one folder: ``vox1_meta.csv``, ``VGG_ALL_FRONTAL/`` and either ``fbank/`` (stored features) or ``wav/``.

    Parameters
    ----------
    root
        The folder; each of its entries may be a link.
    parts
        Parts of the split.
    size
        Height and width of the faces, see `vggface.SIZES`.
    front_end
        Makes features of ``wav/``, which is then read even if there are stored features; by default these are taken if they are there.
    lists
        Take the split from ``vox1_<part>.csv`` instead of the letter rule.
    squeeze
        See `vggface.ScaledFaces`.

    Returns
    -------
    dict
        The joined data of each part; its ``report`` says who is missing, print it.

    Raises
    ------
    FileNotFoundError
        If a file or folder is missing; all of them are named.
    ValueError
        If a part is unknown, a table is damaged, or fewer than two people of a part have both modalities.
    """
    root = Path(root)
    unknown = [part for part in parts if part not in PUBLISHED_PEOPLE]
    if unknown or not parts:
        raise ValueError(f"parts: expected some of {', '.join(PUBLISHED_PEOPLE)}, found {', '.join(unknown) or 'none'}")
    stored = front_end is None and (root / FEATURES).is_dir()
    needed = [META, FACES, FEATURES if stored else WAV, *(f"vox1_{part}.csv" for part in parts if lists)]
    missing = [name for name in needed if not (root / name).exists()]
    if missing:
        either = f" (or {FEATURES})" if WAV in missing else ""
        raise FileNotFoundError(f"{root}: missing {', '.join(missing)}{either}; expected {', '.join(needed)} in it")
    everybody = read_meta(root / META)
    voices = read_features(root / FEATURES) if stored else read_wav(root / WAV, front_end=front_end)
    faces = read_archive(root / FACES, size=size, squeeze=squeeze)
    split = (
        {part: read_split_list(root / f"vox1_{part}.csv", everybody) for part in parts}
        if lists
        else letter_split(everybody)
    )
    return {
        part: join(split[part], voices, faces, everybody=everybody, published=PUBLISHED_PEOPLE[part]) for part in parts
    }


def some_of_each(identities: Int[Tensor, " items"], count: int, rng: np.random.Generator) -> Int[Tensor, " rows"]:
    """At most `count` items of everybody by chance, and in an order of chance: the first ones of a person are a random choice, too."""
    order = torch.from_numpy(rng.permutation(len(identities)))
    order = order[torch.argsort(identities[order], stable=True)]
    _, sizes = identities[order].unique_consecutive(return_counts=True)
    place = torch.arange(len(order)) - (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
    return order[place < count]
