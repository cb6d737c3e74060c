"""What paths of MEAD's clips say (person, emotion, intensity, take), and the official splits, which follow from the paths alone.

Faults of the released folders are known here: a folder ``video`` that is called ``1`` or ``2`` for some people, one level more for others.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from paper_utils.data.talking_faces import EMOTIONS, check_intensity, emotion_code

# Names of folders and of emotions.
EMOTION_FOLDERS = {
    "angry": "anger", "contempt": "contempt", "disgusted": "disgust", "fear": "fear", "happy": "happy", "neutral": "neutral",
    "sad": "sad", "surprised": "surprise",
}  # fmt: skip
VIEWS = ("front", "down", "top", "left_30", "left_60", "right_30", "right_60")
# People of the processed data.
MEN = tuple(f"M{n:03d}" for n in (3, 5, 7, 9, 11, 12, 13, 19, *range(22, 36), 37, 39, 40, 41, 42))
WOMEN = tuple(f"W{n:03d}" for n in (9, 11, 14, 15, 16, 18, 19, 21, 23, 24, 25, 26, 28, 29, 33, 35, 36, 37, 38, 40))
SPLIT_OF_EMOTE = "random_by_identityV2_sorted_70_15_15"
SPLIT_OF_CLASSIFIER = "random_by_sequence_sorted_70_15_15"
_PERSON = re.compile(r"[MW]\d{3}")
_LEVEL = re.compile(r"level_([1-9]\d*)")
_SHUFFLE_SEED = 4  # of the official code


# ---------------------------------------------------------------------------------------------------------------- names


@dataclass(frozen=True)
class ClipName:
    """What the path of a clip says.

    Parameters
    ----------
    person
        Such as M003 or W011.
    emotion
        One of `EMOTIONS`.
    intensity
        1, 2 or 3.
    sentence
        Number of the take inside its folder, as written.
    folder
        Where its processed files lie below ``audio/`` and the like, without suffix.
    """

    person: str
    emotion: str
    intensity: int
    sentence: str
    folder: str

    @property
    def condition(self) -> int:
        """Index of emotion and intensity together, 0 to 21; see `condition_index`."""
        return condition_index(emotion_code(self.emotion), self.intensity)


def parse_name(path: str | Path) -> ClipName:
    """Read the path of a clip, ``<person>/video/<view>/<emotion>/level_<n>/<nnn>.mp4`` or the processed form without ``video``.

    The folder below the person may be ``1`` or ``2``, and one more may follow, as in the release.

    Raises
    ------
    ValueError
        If person, emotion or level are not those of MEAD; the valid ones are listed.
    """
    parts = Path(path).parts
    where = f"MEAD clip {Path(path).as_posix()!r}"
    if len(parts) < 5 or not _PERSON.fullmatch(parts[0]):
        raise ValueError(
            f"{where}: expected <person>/video/<view>/<emotion>/level_<n>/<nnn>.mp4 with a person such as M003 or W011"
        )
    level, emotion = _LEVEL.fullmatch(parts[-2]), parts[-3]
    if not level:
        raise ValueError(f"{where}: expected a folder level_1, level_2 or level_3, found {parts[-2]!r}")
    if emotion not in EMOTION_FOLDERS:
        raise ValueError(f"{where}: unknown emotion {emotion!r}; expected one of {', '.join(sorted(EMOTION_FOLDERS))}")
    try:
        intensity = check_intensity(int(level[1]))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    # The first folder below the person is left out in the processed layout, unless it is the view already.
    rest = parts[1:-1] if parts[1] in VIEWS else parts[2:-1]
    stem = Path(parts[-1]).stem
    return ClipName(parts[0], EMOTION_FOLDERS[emotion], intensity, stem, "/".join((parts[0], *rest, stem)))


def condition_index(emotion: int, intensity: int) -> int:
    r"""Emotion and intensity as one class of 22: 0 for neutral, :math:`3 e + (i - 1) - 2` otherwise.

    Parameters
    ----------
    emotion
        Index into `EMOTIONS`.
    intensity
        1 to 3; neutral has one level.

    Raises
    ------
    ValueError
        If there is no such emotion or intensity.
    """
    if not 0 <= emotion < len(EMOTIONS):
        raise ValueError(
            f"emotion: expected an index in 0..{len(EMOTIONS) - 1} ({', '.join(EMOTIONS)}), found {emotion}"
        )
    check_intensity(intensity)
    return 0 if emotion == 0 else 3 * emotion + (intensity - 1) - 2


# --------------------------------------------------------------------------------------------------------------- splits

_SPLIT = re.compile(
    r"(random|random_by_identityV2_(?:sorted|random)|random_by_sequence_(?:sorted|random))_(\d+)_(\d+)_(\d+)"
)


def split(videos: Sequence[str | Path], name: str = SPLIT_OF_EMOTE) -> dict[str, list[int]]:
    """Train, validation and test clips by the names of the official splits.

    * ``random_by_identityV2_sorted_70_15_15`` (EMOTE, FLINT): sorted men and sorted women, each cut at 70 % and 85 %. With ``random`` instead of
      ``sorted`` the result is the same: the official code shuffles a list that it does not use.
    * ``random_by_sequence_sorted_70_15_15`` (emotion classifier): clips of each person, emotion and level, cut at 70 % and 15 % more, both
      rounded down; with ``random`` shuffled first. All three parts share their people.
    * ``random_70_15_15``: all clips shuffled.

    Parameters
    ----------
    videos
        Paths as `parse_name` reads them; indices in the result count these.
    name
        With any whole numbers, which are shares of their sum; a third one that is missing counts as 0.

    Raises
    ------
    ValueError
        If the name is none of these, there are no clips, or a path is no clip.
    """
    found = _SPLIT.fullmatch(name)
    if not found or not any(int(share or 0) for share in found.groups()[1:]):
        raise ValueError(
            f"split: expected random_<a>_<b>_<c>, random_by_identityV2_sorted_<a>_<b>_<c> or random_by_sequence_sorted_<a>_<b>_<c>, found {name!r}"
        )
    if not len(videos):
        raise ValueError("split: there are no clips")
    kind, shares = found[1], [int(share or 0) for share in found.groups()[1:]]
    # As the official code divides, since rounding decides where a cut falls.
    train, val = (float(share) / sum(shares) for share in shares[:2])
    if kind == "random":
        order = list(range(len(videos)))
        random.Random(_SHUFFLE_SEED).shuffle(order)
        return _parts([order], train, val)
    names = [parse_name(path) for path in videos]
    if kind.startswith("random_by_identityV2"):
        return _by_identity(names, train, val)
    groups: dict[tuple[str, str, int], list[int]] = {}
    for index, clip in enumerate(names):
        groups.setdefault((clip.person, clip.emotion, clip.intensity), []).append(index)
    if kind.endswith("random"):
        for members in groups.values():
            random.Random(_SHUFFLE_SEED).shuffle(members)
    return _parts(list(groups.values()), train, val)


def _parts(groups: list[list[int]], train: float, val: float) -> dict[str, list[int]]:
    """Each group cut at its share for training, and at that for validation behind it, both rounded down."""
    parts: dict[str, list[int]] = {"train": [], "val": [], "test": []}
    for members in groups:
        first, second = int(len(members) * train), int(len(members) * val)
        parts["train"] += members[:first]
        parts["val"] += members[first : first + second]
        parts["test"] += members[first + second :]
    return parts


def _by_identity(names: list[ClipName], train: float, val: float) -> dict[str, list[int]]:
    part_of = {}
    for letter in "MW":
        people = sorted({clip.person for clip in names if clip.person.startswith(letter)})
        cuts = int(len(people) * train), int(len(people) * (train + val))
        part_of |= {
            person: "train" if place < cuts[0] else "val" if place < cuts[1] else "test"
            for place, person in enumerate(people)
        }
    parts: dict[str, list[int]] = {"train": [], "val": [], "test": []}
    for index, clip in enumerate(names):
        parts[part_of[clip.person]].append(index)
    return parts
