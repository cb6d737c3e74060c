"""MEAD as EMOTE trains on it: windows of clips that are read when asked for, with the emotion features of the real video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from paper_utils import safe_files
from paper_utils.data import mead
from paper_utils.data.emote_clips import Batch
from paper_utils.data.face_lists import first_few
from paper_utils.data.mead_names import SPLIT_OF_EMOTE
from paper_utils.data.talking_faces import emotion_code
from paper_utils.mesh.model_layouts import import_h5py
from paper_utils.nn import whole_batch

STRANGERS = 12345  # seed from which the published code draws a training identity for people that it has not trained on


@dataclass(frozen=True)
class MeadSource:
    """Some clips of the processed MEAD; a `ClipSource`.

    Parameters
    ----------
    files
        From `mead.read_processed`.
    rows
        Which of its clips.
    people
        Training people in order: what `Batch.identity` counts.
    expressions
        Expression coefficients a frame: 50 of the paper's state, 100 of the release. Zeros fill up the older reconstructions, which have 50.
    classifier
        Turns the numbers of the real video's frames (2,048 each) into the features that the emotion loss compares; None: they are not read, as in the
        prior's training and the first stage.
    fps
        Frames a second.

    Raises
    ------
    ValueError
        If there are no clips or people.
    """

    files: mead.MeadFiles
    rows: tuple[int, ...]
    people: tuple[str, ...]
    expressions: int = 50
    classifier: nn.Module | None = None
    fps: float = field(default=mead.FPS, init=False)

    def __post_init__(self) -> None:
        if not self.rows or not self.people:
            raise ValueError(
                f"{self.files.root}: expected clips and training people, found {len(self.rows)} and {len(self.people)}"
            )

    @classmethod
    def of_split(
        cls, files: mead.MeadFiles, part: str, *, split: str = SPLIT_OF_EMOTE, expressions: int = 50,
        classifier: nn.Module | None = None,
    ) -> MeadSource:  # fmt: skip
        """One part (train, val or test) of an official split of the clips that are there.

        Raises
        ------
        ValueError
            If there is no such part, or it has no clips.
        """
        parts = files.split(split)
        if part not in parts:
            raise ValueError(f"part: expected one of {', '.join(parts)}; found {part!r}")
        people = tuple(dict.fromkeys(files.names[row].person for row in parts["train"]))
        return cls(files, tuple(parts[part]), people, expressions, classifier)

    def __len__(self) -> int:
        return len(self.rows)

    def identities(self) -> Int[Tensor, " clips"]:
        """Number of each clip's person; one who is no training person borrows the number of one, the same in every run."""
        chance = np.random.default_rng(STRANGERS)
        names = [self.files.names[row].person for row in self.rows]
        borrowed = {name: int(chance.integers(len(self.people))) for name in dict.fromkeys(names)}
        known = {name: number for number, name in enumerate(self.people)}
        return torch.tensor([known.get(name, borrowed[name]) for name in names])

    def batch(self, rows: Int[Tensor, " rows"], frames: int, generator: torch.Generator) -> Batch:
        """A window of each chosen clip; shorter clips are filled with zeros and marked invalid, as in the published loader.

        The published loader draws another clip where one has no valid frame; `mead.read_processed` has left such clips out and named them.

        Raises
        ------
        ValueError
            If a clip has neither enough expression coefficients nor the 50 of the older reconstructions.
        """
        places = whole_batch.own(torch.rand(whole_batch.count(rows), generator=generator))
        parts = [self._window(int(row), frames, place) for row, place in zip(rows, places.tolist(), strict=True)]
        names = [clip.name for clip, _, _ in parts]
        features = [video for _, _, video in parts]
        emotion_features = None
        if self.classifier is not None:
            with torch.no_grad():
                emotion_features = self.classifier(torch.stack(features))
        return Batch(
            torch.stack([clip.audio.flatten() for clip, _, _ in parts]),
            torch.stack([torch.cat([self._expression(clip), clip.jaw], dim=1) for clip, _, _ in parts]),
            torch.stack([shape for _, shape, _ in parts]),
            torch.tensor([emotion_code(name.emotion) for name in names]),
            torch.tensor([name.intensity for name in names]),
            self.identities()[rows],
            torch.stack([clip.valid for clip, _, _ in parts]),
            emotion_features,
        )

    def _window(
        self, row: int, frames: int, place: float
    ) -> tuple[mead.MeadClip, Float[Tensor, " identity"], Float[Tensor, "frames features"] | None]:
        whole = self.files[self.rows[row]]
        start = int(place * max(0, len(whole) - frames))
        window = whole.window(start, frames)
        # Identity of the window as published; of the clip where this window shows no face.
        shape = (window if window.valid.any() else whole).mean_shape()
        return window, shape, None if self.classifier is None else self._video(whole, start, frames)

    def _expression(self, clip: mead.MeadClip) -> Float[Tensor, "time coefficients"]:
        """As many coefficients as asked for; what the older reconstructions lack of the release's is zero, as in the release."""
        found = clip.expression.shape[1]
        lacking = self.expressions - found
        if lacking > 0 and (found != mead.OLD_EXPRESSIONS or self.expressions > mead.EXPRESSIONS):
            raise ValueError(
                f"MEAD clip {clip.name.folder}: expected {self.expressions} expression coefficients, found {found}; "
                "take the reconstructions of the release, or fewer coefficients"
            )
        return nn.functional.pad(clip.expression[:, : self.expressions], (0, max(0, lacking)))

    def _video(self, clip: mead.MeadClip, start: int, frames: int) -> Float[Tensor, "frames features"]:
        path = self.files.root / "emotions" / "resnet50" / clip.name.folder / "features.hdf5"
        if not path.is_file():
            raise FileNotFoundError(
                f"{path}: no emotion features of this clip; make them, or leave the emotion loss out"
            )
        h5py = import_h5py("emotion features of MEAD")
        expected = "an HDF5 file with an array named feature"
        with safe_files.named(path, expected), h5py.File(path) as file:
            arrays = safe_files.h5(file, ["feature"], expected)
            names = first_few(list(file)) or "nothing"
        if not arrays:
            raise ValueError(f"{path}: expected an array named feature, found {names}")
        found = arrays["feature"].astype(np.float32)
        if found.ndim != 3 or len(found) != 1 or found.shape[1] < len(clip) or not found.shape[2]:
            raise ValueError(f"{path}: expected (1, {len(clip)} frames, numbers), found {found.shape}")
        if not np.isfinite(found).all():
            raise ValueError(f"{path}: feature: {int((~np.isfinite(found)).sum())} values are NaN or infinite")
        part = torch.from_numpy(found[0, start : start + frames])
        return torch.cat([part, part.new_zeros(frames - len(part), part.shape[1])])


def missing_features(files: mead.MeadFiles, rows: Sequence[int]) -> list[str]:
    """Clips without emotion features, so that a run of days does not end at one of them."""
    folder = files.root / "emotions" / "resnet50"
    names = [files.names[row].folder for row in rows]
    return [name for name in names if not (folder / name / "features.hdf5").is_file()]
