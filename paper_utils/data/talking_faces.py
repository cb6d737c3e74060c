"""Talking faces: meshes that move with their sound, who speaks and with what emotion. Synthetic people and every real layout give these types.

`TalkingClip` is one utterance, `TalkingFaces` many of them as a few arrays. A folder of which clips are read when asked for is a
`paper_utils.data.clip_files.ClipFiles`.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike
from torch import Tensor

# In the order of AffectNet, which EMOTE's one-hot vectors follow; levels as in MEAD.
EMOTIONS = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt")
INTENSITIES = (1, 2, 3)
UNKNOWN = -1  # emotion, intensity or phone that nobody wrote down
SAMPLE_RATE = 16_000  # Hz, of papers 04 and 09
SOUND_SLACK_S = 0.15  # by which sound may end before the pictures: encoders pad, cameras start late; choice of ours


# --------------------------------------------------------------------------------------------------------------- labels


def emotion_code(emotion: str) -> int:
    """Index into `EMOTIONS`.

    Raises
    ------
    ValueError
        If there is no such emotion; the message lists those that exist.
    """
    if emotion not in EMOTIONS:
        raise ValueError(f"emotion: expected one of {', '.join(EMOTIONS)}; found {emotion!r}")
    return EMOTIONS.index(emotion)


def check_intensity(intensity: int) -> int:
    """Pass a level on, or refuse it with the list of those that exist."""
    if isinstance(intensity, bool) or intensity not in INTENSITIES:
        raise ValueError(f"intensity: expected one of {', '.join(map(str, INTENSITIES))}; found {intensity!r}")
    return int(intensity)


def check_fps(found: float, expected: float, where: str) -> None:
    """Refuse frames of another rate: a network trained at 25 frames a second plays 30 in slow motion and nobody is told.

    Raises
    ------
    ValueError
        If the rates differ by more than a thousandth (29.97 is not 30).
    """
    if not abs(found - expected) <= 1e-3 * expected:
        raise ValueError(
            f"{where}: expected {expected:g} frames a second, found {found:g}; resample with at_fps({expected:g}) or read the data "
            "at that rate"
        )


# ----------------------------------------------------------------------------------------------------------------- mesh


@dataclass(frozen=True)
class FaceMesh:
    """What all frames of all people of a data set share: triangles and named sets of vertices.

    Parameters
    ----------
    name
        Of the topology, for messages.
    vertices
        How many there are.
    faces
        Triangles, counter-clockwise seen from outside. May be empty where a layout comes without them.
    masks
        Soft weights in [0, 1] by name (``mouth``, ``upper_face``, ``eyelids``): what paper 04 multiplies errors with.
    regions
        Hard sets by name (``lips``, ``mouth``, ``upper_face``, ``rest``): what errors are measured on.
    lip_pairs
        Vertices of the upper and of the lower lip that meet when the mouth is closed, if they are known.

    Raises
    ------
    ValueError
        If a mask or region has another length, a mask leaves [0, 1], or a triangle names a vertex that is not there.
    """

    name: str
    vertices: int
    faces: Int[Tensor, "triangles 3"]
    # Here and below: sizes that are checked by hand have axis names of their own, so that the message says what to do.
    masks: dict[str, Float[Tensor, " mask_values"]] = field(default_factory=dict)
    regions: dict[str, Bool[Tensor, " region_values"]] = field(default_factory=dict)
    lip_pairs: Int[Tensor, "pairs 2"] | None = None

    def __post_init__(self) -> None:
        for kind, named in (("mask", self.masks), ("region", self.regions)):
            for name, values in named.items():
                if values.shape != (self.vertices,):
                    raise ValueError(
                        f"{kind} {name!r}: expected one value for each of the {self.vertices} vertices of {self.name}, found "
                        f"{tuple(values.shape)}; was it made for another mesh?"
                    )
        for name, values in self.masks.items():
            if not ((values >= 0) & (values <= 1)).all():
                raise ValueError(
                    f"mask {name!r}: expected weights in [0, 1], found {values.min():g} to {values.max():g}"
                )
        for what, numbers in (("triangles", self.faces), ("lip pairs", self.lip_pairs)):
            if (
                numbers is not None
                and numbers.numel()
                and not 0 <= int(numbers.min()) <= int(numbers.max()) < self.vertices
            ):
                raise ValueError(
                    f"{self.name}: {what} name vertices {int(numbers.min())} to {int(numbers.max())}, there are {self.vertices}"
                )

    def mask(self, name: str) -> Float[Tensor, " vertices"]:
        """A soft mask by name; an unknown name is refused with the list of known ones."""
        return _named(self.masks, name, f"masks of {self.name}")

    def region(self, name: str) -> Bool[Tensor, " vertices"]:
        """A hard region by name; an unknown name is refused with the list of known ones."""
        return _named(self.regions, name, f"regions of {self.name}")


def _named(values: dict[str, Tensor], name: str, where: str) -> Tensor:
    if name not in values:
        raise ValueError(f"{where}: no {name!r}; there are {', '.join(values) or 'none'}")
    return values[name]


# ----------------------------------------------------------------------------------------------------------------- clip


@dataclass(frozen=True)
class TalkingClip:
    """One person saying one thing.

    Parameters
    ----------
    template
        The face at rest, mm.
    vertices
        Frames, mm, head pose removed.
    fps
        Frames a second. Frame k covers the sound from ``k / fps`` to ``(k + 1) / fps`` s.
    audio
        Mono, in [-1, 1]. Empty: there is no sound.
    sample_rate
        Hz.
    subject, sentence
        Names.
    emotion, intensity
        One of `EMOTIONS` and of `INTENSITIES`, or None where there is no label.
    tracked
        Whether each frame can be trusted; None: all.
    phones
        Phone of each frame as an index into the names of the data set, `UNKNOWN` where nobody knows; None: all unknown.

    Raises
    ------
    ValueError
        If the meshes do not fit the template, something is not finite, the sound is much shorter than the pictures, or a label is unknown.
    """

    template: Float[Tensor, "template_vertices 3"]
    vertices: Float[Tensor, "time vertices 3"]
    fps: float
    audio: Float[Tensor, " samples"]
    sample_rate: int
    subject: str
    sentence: str
    emotion: str | None = None
    intensity: int | None = None
    tracked: Bool[Tensor, " tracked_time"] | None = None
    phones: Int[Tensor, " phones_time"] | None = None

    def __post_init__(self) -> None:
        where = f"clip {self.subject}/{self.sentence}"
        if self.vertices.ndim != 3 or len(self.vertices) == 0 or self.vertices.shape[1:] != self.template.shape:
            raise ValueError(
                f"{where}: frames {tuple(self.vertices.shape)} do not fit the template's {len(self.template)} vertices "
                f"{tuple(self.template.shape)}; both must have one topology and there must be a frame"
            )
        for name, values in (("template", self.template), ("vertices", self.vertices), ("audio", self.audio)):
            if not _finite(values):
                raise ValueError(f"{where}: {name} hold {int((~torch.isfinite(values)).sum())} NaN or infinite values")
        if not self.fps > 0 or self.sample_rate < 1:
            raise ValueError(f"{where}: expected positive rates, found {self.fps} fps and {self.sample_rate} Hz")
        missing_s = self.duration_s - len(self.audio) / self.sample_rate if len(self.audio) else 0.0
        if self.audio.ndim != 1 or missing_s > SOUND_SLACK_S:
            raise ValueError(
                f"{where}: {len(self.vertices)} frames at {self.fps:g} a second last {self.duration_s:.2f} s, but its sound "
                f"{tuple(self.audio.shape)} at {self.sample_rate} Hz lasts {len(self.audio) / self.sample_rate:.2f} s; is the frame rate right?"
            )
        if self.emotion is not None:
            emotion_code(self.emotion)
        if self.intensity is not None:
            check_intensity(self.intensity)
        for name, values in (("tracked", self.tracked), ("phones", self.phones)):
            if values is not None and values.shape != self.vertices.shape[:1]:
                raise ValueError(
                    f"{where}: expected {name} for {len(self.vertices)} frames, found {tuple(values.shape)}"
                )

    def __len__(self) -> int:
        return len(self.vertices)

    @property
    def duration_s(self) -> float:
        """Length of the pictures."""
        return len(self.vertices) / self.fps

    @property
    def motion(self) -> Float[Tensor, "time vertices 3"]:
        """Displacement from the template, mm."""
        return self.vertices - self.template

    def fitted_audio(self) -> Float[Tensor, " samples"]:
        """The sound cut, or lengthened by silence, to the length of the pictures: ``round(frames / fps * sample_rate)`` samples."""
        wanted = round(self.duration_s * self.sample_rate) if len(self.audio) else 0
        return torch.nn.functional.pad(self.audio, (0, max(wanted - len(self.audio), 0)))[:wanted]

    def at_fps(self, fps: float) -> TalkingClip:
        """The same clip at another frame rate.

        Where the old rate is a multiple of the new one, every n-th frame from the first on, as VOCASET is used at 30 instead of 60 frames a
        second. Otherwise linear between the two nearest frames; a new frame is tracked if both are, and has the phone of the nearer one.

        Parameters
        ----------
        fps
            New rate. The first frames coincide; the last new frame is the last one that does not lie beyond the last old one.
        """
        if not 0 < fps < np.inf:
            raise ValueError(f"fps: expected a positive number of frames a second, found {fps}")
        count = int(np.floor((len(self) - 1) * fps / self.fps + 1e-6)) + 1
        at = np.arange(count) * (self.fps / fps)
        low = np.minimum(np.floor(at + 1e-6).astype(np.int64), len(self) - 1)
        high = np.minimum(low + 1, len(self) - 1)
        share = torch.from_numpy(np.clip(at - low, 0, 1)).to(self.vertices)
        share = torch.where(share < 1e-5, 0.0, share)
        nearest = torch.from_numpy(np.where(share.numpy() < 0.5, low, high))
        low, high = torch.from_numpy(low), torch.from_numpy(high)
        tracked = None if self.tracked is None else self.tracked[low] & (self.tracked[high] | (share == 0))
        return dataclasses.replace(
            self,
            vertices=torch.lerp(self.vertices[low], self.vertices[high], share[:, None, None]),
            fps=float(fps),
            tracked=tracked,
            phones=None if self.phones is None else self.phones[nearest],
        )


def _finite(values: Tensor) -> bool:
    # One sum tells of any bad value at a fraction of the cost of testing each.
    return bool(torch.isfinite(values.sum(dtype=torch.float64)))


# ---------------------------------------------------------------------------------------------------------- many clips


@dataclass(frozen=True)
class TalkingFaces:
    """Many clips as a few arrays, one after the other: fits in memory-mapped files, and ``faces[i]`` is a `TalkingClip`.

    Parameters
    ----------
    mesh
        Triangles, masks and regions.
    templates
        One face at rest a subject, mm.
    subjects
        Names of the subjects, in the order of `templates`.
    subject
        Row of `templates` for each clip.
    sentences
        What each clip says: a name or the words.
    vertices
        Frames of all clips, mm.
    starts
        First frame of each clip, and the number of frames as last.
    fps
        Frames a second.
    audio
        Samples of all clips, mono in [-1, 1], fitted to the frames. Empty: there is no sound.
    audio_starts
        First sample of each clip, and the number of samples as last.
    sample_rate
        Hz, one for all.
    name
        Where they come from.
    emotion, intensity
        Index into `EMOTIONS`, and level, of each clip; `UNKNOWN` without label.
    tracked
        Whether each frame can be trusted.
    phones, phone_names
        Phone at the middle of each frame as an index into the names, `UNKNOWN` where nobody knows.

    Raises
    ------
    ValueError
        If the arrays do not fit each other.
    """

    mesh: FaceMesh
    templates: Float[Tensor, "subjects template_vertices 3"]
    subjects: tuple[str, ...]
    subject: Int[Tensor, " clips"]
    sentences: tuple[str, ...]
    vertices: Float[Tensor, "frames vertices 3"]
    starts: Int[Tensor, " starts"]
    fps: float
    audio: Float[Tensor, " samples"]
    audio_starts: Int[Tensor, " audio_starts"]
    sample_rate: int
    name: str
    emotion: Int[Tensor, " emotions"]
    intensity: Int[Tensor, " intensities"]
    tracked: Bool[Tensor, " tracked_frames"]
    phones: Int[Tensor, " phone_frames"]
    phone_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.subject)
        if count == 0:
            raise ValueError(f"{self.name}: there are no clips")
        if self.templates.shape[1:] != (self.mesh.vertices, 3) or self.vertices.shape[1:] != (self.mesh.vertices, 3):
            raise ValueError(
                f"{self.name}: the mesh has {self.mesh.vertices} vertices, templates are {tuple(self.templates.shape)} and frames "
                f"{tuple(self.vertices.shape)}; all must have one topology"
            )
        per_clip = {"sentences": self.sentences, "emotion": self.emotion, "intensity": self.intensity}
        lengths = {name: len(values) for name, values in per_clip.items()}
        lengths |= {"starts": len(self.starts) - 1, "audio_starts": len(self.audio_starts) - 1}
        if wrong := {name: length for name, length in lengths.items() if length != count}:
            raise ValueError(f"{self.name}: expected entries for {count} clips, found {wrong}")
        if len(self.subjects) != len(self.templates):
            raise ValueError(f"{self.name}: {len(self.subjects)} names of subjects for {len(self.templates)} templates")
        ends = {"vertices": int(self.starts[-1]), "tracked": int(self.starts[-1]), "phones": int(self.starts[-1])}
        ends["audio"] = int(self.audio_starts[-1])
        for name, end in ends.items():
            if len(getattr(self, name)) != end:
                raise ValueError(f"{self.name}: starts end at {end}, but {name} has {len(getattr(self, name))} rows")
        if not 0 <= int(self.subject.min()) <= int(self.subject.max()) < len(self.templates):
            raise ValueError(f"{self.name}: subject must lie in 0..{len(self.templates) - 1}")

    @classmethod
    def of_clips(
        cls, clips: Iterable[TalkingClip], mesh: FaceMesh, name: str, *, phone_names: Sequence[str] = ()
    ) -> TalkingFaces:
        """Clips laid one after the other; the sound of each is fitted to its frames.

        Raises
        ------
        ValueError
            If rates differ, or one subject comes with two templates.
        """
        clips = list(clips)
        if not clips:
            raise ValueError(f"{name}: there are no clips")
        first = clips[0]
        templates: dict[str, Tensor] = {}
        for clip in clips:
            check_fps(clip.fps, first.fps, f"{name}: clip {clip.subject}/{clip.sentence}")
            if clip.sample_rate != first.sample_rate:
                raise ValueError(
                    f"{name}: clip {clip.subject}/{clip.sentence} has {clip.sample_rate} Hz, the first one {first.sample_rate} Hz; "
                    "resample all to one rate"
                )
            if not torch.equal(templates.setdefault(clip.subject, clip.template), clip.template):
                raise ValueError(f"{name}: subject {clip.subject} comes with two different templates")
        subjects = list(templates)
        sounds = [clip.fitted_audio() for clip in clips]
        unknown = [torch.full((len(clip),), UNKNOWN) for clip in clips]
        return cls(
            mesh=mesh,
            templates=torch.stack(list(templates.values())),
            subjects=tuple(subjects),
            subject=torch.tensor([subjects.index(clip.subject) for clip in clips]),
            sentences=tuple(clip.sentence for clip in clips),
            vertices=torch.cat([clip.vertices for clip in clips]),
            starts=ends([len(clip) for clip in clips]),
            fps=first.fps,
            audio=torch.cat(sounds),
            audio_starts=ends([len(sound) for sound in sounds]),
            sample_rate=first.sample_rate,
            name=name,
            emotion=torch.tensor([UNKNOWN if c.emotion is None else emotion_code(c.emotion) for c in clips]),
            intensity=torch.tensor([UNKNOWN if c.intensity is None else c.intensity for c in clips]),
            tracked=torch.cat(
                [torch.ones(len(c), dtype=torch.bool) if c.tracked is None else c.tracked for c in clips]
            ),
            phones=torch.cat(
                [none if c.phones is None else c.phones.long() for c, none in zip(clips, unknown, strict=True)]
            ),
            phone_names=tuple(phone_names),
        )

    def __len__(self) -> int:
        return len(self.subject)

    def __getitem__(self, index: int) -> TalkingClip:
        if not 0 <= index < len(self):
            raise IndexError(f"{self.name}: clip {index} of {len(self)}")
        frames = slice(*self.starts[index : index + 2].tolist())
        emotion, intensity = int(self.emotion[index]), int(self.intensity[index])
        person = int(self.subject[index])
        return TalkingClip(
            template=self.templates[person],
            vertices=self.vertices[frames],
            fps=self.fps,
            audio=self.audio[slice(*self.audio_starts[index : index + 2].tolist())],
            sample_rate=self.sample_rate,
            subject=self.subjects[person],
            sentence=self.sentences[index],
            emotion=None if emotion == UNKNOWN else EMOTIONS[emotion],
            intensity=None if intensity == UNKNOWN else intensity,
            tracked=self.tracked[frames],
            phones=self.phones[frames].long(),
        )

    @cached_property
    def lengths(self) -> Int[Tensor, " clips"]:
        """Frames of each clip."""
        return self.starts.diff()

    @cached_property
    def clip_of_frame(self) -> Int[Tensor, " frames"]:
        """Which clip each frame belongs to."""
        return torch.repeat_interleave(torch.arange(len(self)), self.lengths)

    def motion(self) -> Float[Tensor, "frames vertices 3"]:
        """Displacement of every frame from the template of its subject, mm."""
        return self.vertices - self.templates[self.subject[self.clip_of_frame]]

    def stacked(self) -> Float[Tensor, "clips time vertices 3"]:
        """All frames as one array (a view).

        Raises
        ------
        ValueError
            If clips differ in length; use `windows` then.
        """
        return self.vertices.view(len(self), self._one_length(self.lengths, "frames"), -1, 3)

    def stacked_audio(self) -> Float[Tensor, "clips samples"]:
        """All sound as one array (a view).

        Raises
        ------
        ValueError
            If clips differ in length, or have no sound.
        """
        if not len(self.audio):
            raise ValueError(f"{self.name}: these clips have no sound")
        return self.audio.view(len(self), self._one_length(self.audio_starts.diff(), "samples"))

    def _one_length(self, lengths: Tensor, what: str) -> int:
        if int(lengths.min()) != int(lengths.max()):
            raise ValueError(
                f"{self.name}: clips last {int(lengths.min())} to {int(lengths.max())} {what}; cut windows of one length"
            )
        return int(lengths[0])

    def windows(self, length: int, step: int | None = None) -> Int[Tensor, "windows 2"]:
        """Clip, and first frame inside it, of every window of `length` frames; by default they follow each other without overlap.

        Raises
        ------
        ValueError
            If no clip is long enough.
        """
        step = length if step is None else step
        if length < 1 or step < 1:
            raise ValueError(
                f"windows: expected at least one frame and a step of at least one, found {length} and {step}"
            )
        rows = [(clip, at) for clip, n in enumerate(self.lengths.tolist()) for at in range(0, n - length + 1, step)]
        if not rows:
            raise ValueError(
                f"{self.name}: no clip has {length} frames, the longest has {int(self.lengths.max())}; take shorter windows"
            )
        return torch.tensor(rows)

    def of(self, clips: ArrayLike) -> TalkingFaces:
        """The chosen clips, in the given order; all templates stay."""
        chosen = np.atleast_1d(np.asarray(clips))
        chosen = np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(np.int64)
        if not len(chosen) or chosen.min() < 0 or chosen.max() >= len(self):
            raise ValueError(
                f"{self.name}: expected clips in 0..{len(self) - 1}, at least one; found {chosen.tolist()[:5]}"
            )
        frames = _rows(self.starts, chosen)
        samples = _rows(self.audio_starts, chosen)
        rows = torch.from_numpy(chosen)
        return dataclasses.replace(
            self,
            subject=self.subject[rows],
            sentences=tuple(self.sentences[i] for i in chosen),
            vertices=self.vertices[frames],
            starts=ends(self.lengths[rows].tolist()),
            audio=self.audio[samples],
            audio_starts=ends(self.audio_starts.diff()[rows].tolist()),
            emotion=self.emotion[rows],
            intensity=self.intensity[rows],
            tracked=self.tracked[frames],
            phones=self.phones[frames],
        )

    def of_subjects(self, names: Iterable[str]) -> TalkingFaces:
        """The clips of some subjects.

        Raises
        ------
        ValueError
            If a subject is unknown; those that exist are listed.
        """
        names = list(names)
        if unknown := sorted(set(names) - set(self.subjects)):
            raise ValueError(f"{self.name}: no subjects {', '.join(unknown)}; there are {', '.join(self.subjects)}")
        wanted = torch.tensor([self.subjects.index(name) for name in names])
        return self.of(torch.isin(self.subject, wanted).numpy())

    def with_sound_of(self, clips: ArrayLike) -> TalkingFaces:
        """The same faces, clip i with the sound of clip ``clips[i]``: the control in which sound and face are of different utterances.

        A longer sound is cut to the clip, a shorter one begins again at its end. The phones stay those of the face.

        Raises
        ------
        ValueError
            If there is not one number of a clip for each clip.
        """
        chosen = np.asarray(clips, dtype=np.int64)
        if chosen.shape != (len(self),) or (chosen < 0).any() or (chosen >= len(self)).any():
            raise ValueError(
                f"{self.name}: clips: expected a number from 0 to {len(self) - 1} for each of {len(self)} clips, found {chosen.tolist()!s:.80}"
            )
        first, wanted = self.audio_starts.numpy()[chosen], self.audio_starts.diff().numpy()
        within = np.arange(wanted.sum()) - np.repeat(np.cumsum(wanted) - wanted, wanted)
        rows = np.repeat(first, wanted) + within % np.repeat(wanted[chosen], wanted)
        return dataclasses.replace(self, audio=self.audio[torch.from_numpy(rows)])

    def labels(self) -> tuple[Int[Tensor, " clips"], Int[Tensor, " clips"]]:
        """Emotion and intensity of every clip.

        Raises
        ------
        ValueError
            If a clip has no label; how many there are, and the first of them, are named.
        """
        missing = torch.nonzero((self.emotion == UNKNOWN) | (self.intensity == UNKNOWN))[:, 0].tolist()
        if missing:
            first = ", ".join(f"{self.subjects[int(self.subject[i])]}/{self.sentences[i]}" for i in missing[:3])
            raise ValueError(
                f"{self.name}: {len(missing)} of {len(self)} clips have no emotion or intensity (first: {first}); a method that is told the "
                "emotion needs both, drop these clips with of(...) or label them"
            )
        return self.emotion, self.intensity

    def check_fps(self, expected: float) -> None:
        """Refuse clips of another frame rate; see `check_fps`."""
        check_fps(self.fps, expected, self.name)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the content: the data's part of a cache key."""
        digest = hashlib.sha256(repr((self.name, self.fps, self.sample_rate, self.subjects, self.sentences)).encode())
        for array in (
            self.templates,
            self.vertices,
            self.audio,
            self.subject,
            self.starts,
            self.emotion,
            self.intensity,
        ):
            digest.update(array.contiguous().numpy().data)
        return digest.hexdigest()[:16]


def ends(lengths: Sequence[int]) -> Int[Tensor, " lengths_plus_one"]:
    """Where each of several pieces laid end to end begins, and where the last one ends."""
    return torch.from_numpy(np.cumsum([0, *lengths], dtype=np.int64))


def _rows(starts: Tensor, chosen: np.ndarray) -> Tensor:
    """Rows of the chosen pieces of a ragged array, one after the other."""
    first, length = starts.numpy()[chosen], starts.diff().numpy()[chosen]
    offset = np.repeat(first - (np.cumsum(length) - length), length)
    return torch.from_numpy(offset + np.arange(length.sum()))
