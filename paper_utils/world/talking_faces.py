"""Talking faces of synthetic people: sound and mesh from one articulation, with the switches that papers 04 and 09 need.

A few hundred vertices are enough for a network that shall learn within seconds; `on_head` puts what it says back on the whole head.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache as cache_calls
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from paper_utils.data.mesh_masks import soft_mask
from paper_utils.data.speech import Voices
from paper_utils.data.talking_faces import EMOTIONS, FaceMesh, TalkingFaces, check_intensity, emotion_code, ends
from paper_utils.world.articulation import articulate
from paper_utils.world.cache import cached
from paper_utils.world.face import EXPRESSION_UNITS, Head, handle_field, head, open_jaw
from paper_utils.world.face_mesh import EYE_ROW, MOUTH_ROW, Skin, eyeballs, grid_faces, mouth_sock, skin
from paper_utils.world.face_motion import FaceMotion, face_motion, with_tracking_noise
from paper_utils.world.face_tables import COLUMNS, ROWS
from paper_utils.world.idle_motion import FaceSettings, Idle, draw_idle
from paper_utils.world.lexicon import SENTENCES
from paper_utils.world.people import People, Population
from paper_utils.world.prosody import Prosody, emotional_prosody
from paper_utils.world.recordings import HOP_MS, PHONE_NAMES, record
from paper_utils.world.speech import Utterance, of_length, utterance
from paper_utils.world.voice import SAMPLE_RATE, Channel, waveform

Conditions = Sequence[tuple[str, int]]
NEUTRAL = (("neutral", 1),)
# The 22 conditions of MEAD: neutral has one level.
MEAD_CONDITIONS = (*NEUTRAL, *((emotion, level) for emotion in EMOTIONS[1:] for level in (1, 2, 3)))
# Of the sound: a shouted vowel of a loud voice then stays below 1. Choice of ours.
LEVEL = 0.3
_DETAIL = 2  # points per cell of the head that vertices are taken from
_BLOCK = 2048  # frames posed at once
_WORLD_NAME = {"anger": "angry"}  # the world's word for it, where it is another one


# --------------------------------------------------------------------------------------------------------------- meshes


@dataclass(frozen=True)
class VertexSet:
    """Some vertices of the head as a mesh of their own.

    Parameters
    ----------
    mesh
        Triangles, masks and regions.
    kept
        Vertices of ``head(2)``.
    handles
        Names by which `on_head` finds the same points on heads of other detail: row, column, and whether below a slit.
    """

    mesh: FaceMesh
    kept: Int[Tensor, " vertices"]
    handles: tuple[tuple[float, float, bool], ...]


# Half the columns and whole rows of the semantic grid that a set keeps.
VERTEX_SETS = {"coarse": 8, "front": 6}


@lru_cache(maxsize=4)
def vertex_set(name: str = "front") -> VertexSet:
    """A named set of vertices with its masks and regions.

    Masks are 1 on a core and fall as ``exp(-d / 10 mm)`` along the surface of the whole skin: ``mouth`` (lips and the skin around them),
    ``upper_face`` (brows, lids and what is between), ``eyelids`` (1 or 0, as the released key points). Regions: ``lips``, ``mouth``,
    ``upper_face``, ``brows``, ``eyelids``, and ``rest``, which is neither mouth nor upper face.

    Parameters
    ----------
    name
        ``"front"``: the 215 points of the semantic grid from one temple to the other; ``"coarse"``: 279, back to the ears; ``"head"``: all
        1,262 vertices of ``head(2)``, eyeballs and the inside of the mouth included.

    Raises
    ------
    ValueError
        If there is no such set.
    """
    whole = head(_DETAIL)
    surface = skin(_DETAIL)
    if name == "head":
        kept, faces = np.arange(len(whole.vertices)), whole.faces.numpy()
    elif name in VERTEX_SETS:
        columns = (np.arange(-VERTEX_SETS[name], VERTEX_SETS[name] + 1) + COLUMNS) * _DETAIL
        nodes = np.ix_(np.arange(ROWS + 1) * _DETAIL, columns)
        upper, lower = surface.index[nodes], surface.index_lower[nodes]
        kept, numbers = np.unique(np.stack([upper, lower]), return_inverse=True)
        numbers = numbers.reshape(2, *upper.shape)
        faces = grid_faces(numbers[0], numbers[1])
    else:
        raise ValueError(f"vertices: expected one of {', '.join((*VERTEX_SETS, 'head'))}; found {name!r}")
    rows, columns = (np.r_[v, np.full(len(whole.vertices) - len(v), np.nan)] for v in (surface.row, surface.column))
    below = np.r_[surface.lower, np.zeros(len(whole.vertices) - len(surface.lower), dtype=bool)]
    cores = _cores(whole, surface)
    masks = {
        mask: soft_mask(whole.vertices, whole.faces, cores[mask])[torch.from_numpy(kept)]
        for mask in ("mouth", "upper_face")
    }
    kept_rows = torch.from_numpy(kept)
    regions = {region: core[kept_rows] for region, core in cores.items()}
    regions["rest"] = ~(regions["mouth"] | regions["upper_face"])
    number_of = {int(vertex): i for i, vertex in enumerate(kept)}
    pairs = [(surface.vertex(MOUTH_ROW, c), surface.vertex(MOUTH_ROW, c, True)) for c in (-2, -1, 0, 1, 2)]
    mesh = FaceMesh(
        name=f"synthetic head, {name}, {len(kept)} vertices",
        vertices=len(kept),
        faces=torch.from_numpy(np.ascontiguousarray(faces)).long(),
        masks=masks | {"eyelids": regions["eyelids"].float()},
        regions=regions,
        lip_pairs=torch.tensor([[number_of[vertex] for vertex in pair] for pair in pairs]),
    )
    points = tuple((float(rows[v]), float(columns[v]), bool(below[v])) for v in kept) if name != "head" else ()
    return VertexSet(mesh, kept_rows, points)


def _cores(whole: Head, surface: Skin) -> dict[str, Tensor]:
    """Hard regions of the head; choices of ours, looked at."""
    row, side = whole.grid[:, 0], whole.grid[:, 1].abs()
    edge = torch.zeros(len(row), dtype=torch.bool)
    at = np.flatnonzero((surface.row == EYE_ROW) & (np.abs(surface.column) > 2) & (np.abs(surface.column) < 4))
    edge[torch.from_numpy(at)] = True
    return {
        "lips": whole.regions["lips"],
        "mouth": whole.regions["mouth"],
        "upper_face": (row >= 1) & (row <= 5) & (side <= 5),
        "brows": whole.regions["brows"],
        "eyelids": edge,
    }


@dataclass(frozen=True)
class _Spread:
    """How a whole head follows a few of its vertices.

    `field` is the smoothest field through them, as anatomical handles are spread. A lid that closes is no smooth field: it slides over the
    ball. So how far each eye is closed is read off the two vertices of its lids (`lids`, mm between them when open), and `closure` adds what the
    field misses of the head's own closing.
    """

    field: Float[Tensor, "head_vertices vertices"]
    lids: Int[Tensor, "eyes 2"]
    open_mm: Float[Tensor, " eyes"]
    closure: Float[Tensor, "eyes head_vertices 3"]


@lru_cache(maxsize=4)
def _spread(name: str, points_per_cell: int) -> _Spread:
    surface, chosen = skin(points_per_cell), vertex_set(name)
    names, at = {}, {}
    for number, (row, column, below) in enumerate(chosen.handles):
        side = "" if column == 0 else ("_l" if column > 0 else "_r")
        names[f"{row:g}.{abs(column):g}.{'low' if below else 'top'}{side}"] = surface.vertex(row, column, below)
        at[row, column, below] = number
    on_skin = handle_field(surface, names)
    parts = [part.expression @ on_skin for part in (eyeballs(surface), mouth_sock(surface))]
    field = torch.from_numpy(np.concatenate([on_skin, *parts])).float()
    close = EXPRESSION_UNITS.index("eye_close")
    few = head(_DETAIL).expression_basis[chosen.kept][:, :, close]
    missed = head(points_per_cell).expression_basis[:, :, close] - field @ few
    lids = torch.tensor([[at[EYE_ROW, side, False], at[EYE_ROW, side, True]] for side in (3.0, -3.0)])
    sides = head(points_per_cell).vertices[:, 0] * torch.tensor([[1.0], [-1.0]]) > 0
    return _Spread(field, lids, -(few[lids[:, 0], 1] - few[lids[:, 1], 1]), missed * sides[..., None])


def on_head(
    motion: Float[Tensor, "time vertices 3"],
    neutral: Float[Tensor, "head_vertices 3"],
    *,
    vertices: str = "front",
    points_per_cell: int = 2,
) -> Float[Tensor, "time head_vertices 3"]:
    """The whole head, moved as a few vertices of it say: for pictures of what a network has learnt on a small set.

    Parameters
    ----------
    motion
        Displacement of the set's vertices from the template, mm.
    neutral
        The person at rest: ``head(points_per_cell)`` with that person's parameters (see `neutral_heads`).
    vertices
        Name of the set, not ``"head"``.
    points_per_cell
        Detail of the head.

    Raises
    ------
    ValueError
        If the motion has another number of vertices than the set, or the head another one than its detail says.
    """
    if vertices not in VERTEX_SETS:
        raise ValueError(f"vertices: expected one of {', '.join(VERTEX_SETS)}, found {vertices!r}")
    spread = _spread(vertices, points_per_cell)
    expected = spread.field.shape
    if motion.shape[1] != expected[1] or len(neutral) != expected[0]:
        raise ValueError(
            f"on_head: expected {expected[1]} moving vertices and a head of {expected[0]}, found {motion.shape[1]} and {len(neutral)}"
        )
    upper, lower = (motion[:, spread.lids[:, i], 1] for i in (0, 1))
    closed = ((lower - upper) / spread.open_mm).clamp(0, 1)
    return (
        neutral
        + torch.einsum("hv,tvi->thi", spread.field, motion)
        + torch.einsum("te,ehi->thi", closed, spread.closure)
    )


def neutral_heads(people: People, points_per_cell: int = _DETAIL) -> Float[Tensor, "people vertices 3"]:
    """People at rest, mm."""
    parameters = torch.from_numpy(people.face).float()
    return head(points_per_cell).identity_vertices(parameters, torch.from_numpy(people.log_size).float())


# ------------------------------------------------------------------------------------------------------------- settings


@dataclass(frozen=True)
class Scene:
    """How people talk in this world: everything that is not who says what with which emotion.

    Parameters
    ----------
    seconds
        Length of every clip; None: whole sentences.
    fps
        Frames a second. Frame k shows the instant ``(k + 1/2) / fps``, the middle of the sound that belongs to it.
    vertices
        See `vertex_set`.
    upper_face
        ``"independent"`` of speech, ``"mixed"``, or ``"driven"``: a function of articulation alone, without blinks; or the share itself. The
        control of paper 04: where speech determines the upper face, nothing is left to be disentangled or to vary.
    idle_amplitude, blinks
        How much brows and lids move by themselves, and whether eyes blink.
    leak
        How much of the emotion the voice betrays, 0 to 1: the control of paper 09.
    sound
        False: no waveforms are made, which is most of the work; for methods that hear log-mel frames, see `heard`.
    severity
        How much recordings differ, see `Channel.draw`.
    tracking_noise
        Error of the tracker in units of the expression weights: slow and from frame to frame, see `with_tracking_noise`.
    face
        Rates and time constants.
    """

    seconds: float | None = 2.0
    fps: float = 30.0  # of paper 04; paper 09 has 25
    vertices: str = "front"
    upper_face: str | float = "mixed"
    idle_amplitude: float = 0.35
    blinks: bool = True
    leak: float = 1.0
    sound: bool = True
    severity: float = 0.3  # studio recordings: a third of what voices in the wild get; choice of ours
    tracking_noise: tuple[float, float] = (0.0, 0.0)
    face: FaceSettings = field(default_factory=FaceSettings)


@dataclass(frozen=True)
class Script:
    """Who says what, with which emotion: names a set of clips completely.

    What a person says in clip number n, how the room sounds and how brows and lids move of themselves depends on seed, person and n alone: switch
    one thing and the rest stays.

    Parameters
    ----------
    population, identities
        Who talks; ``subjects`` are their numbers.
    per_person
        Clips of each, one after the other.
    conditions
        Pairs (emotion, intensity) of voice and face, of the names in `paper_utils.data.talking_faces.EMOTIONS`: one for each clip, or fewer
        that take turns. `MEAD_CONDITIONS` are those of MEAD.
    texts
        Everybody reads these, number n the n-th of them, again and again, at the length they have. None: everybody says something else.
    scene
        Everything else.
    seed
        Of words, sound and idle motion.

    Raises
    ------
    ValueError
        For an unknown emotion, intensity, vertex set or share of the upper face, for no people, clips or texts.
    """

    population: Population
    identities: tuple[int, ...]
    per_person: int
    conditions: tuple[tuple[str, int], ...] = NEUTRAL
    texts: tuple[str, ...] | None = None
    scene: Scene = field(default_factory=Scene)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.per_person < 1 or not self.identities:
            raise ValueError(
                f"script: expected at least one person and one clip each, found {len(self.identities)} people and {self.per_person} clips"
            )
        if self.texts is not None and not self.texts:
            raise ValueError("texts: expected at least one to read, found none; leave texts out for random sentences")
        self.check_conditions("conditions", self.conditions)

    def __len__(self) -> int:
        return len(self.identities) * self.per_person

    def check_conditions(self, name: str, pairs: Conditions) -> None:
        """Refuse conditions that do not exist, none at all, or more than clips."""
        if not 1 <= len(pairs) <= len(self):
            raise ValueError(
                f"{name}: expected 1 to {len(self)} pairs (emotion, intensity), one a clip or fewer that take turns, found {len(pairs)}"
            )
        for emotion, intensity in pairs:
            emotion_code(emotion)
            check_intensity(intensity)


# --------------------------------------------------------------------------------------------------------------- making


@dataclass(frozen=True)
class _Lines:
    """A script in the mouths of its people, clip by clip."""

    script: Script
    people: People
    person: np.ndarray  # row of the people
    spoken: list[Utterance]
    frames: np.ndarray

    def rng(self, clip: int, stream: int) -> np.random.Generator:
        return _rng(self.script, clip, stream)


_SPEECH, _SOUND, _IDLE, _TRACKING = 31, 32, 33, 34  # streams of random numbers


def _rng(script: Script, clip: int, stream: int) -> np.random.Generator:
    """Numbers of one clip: they hang on the person and the number of the clip, not on who else is there."""
    row, number = divmod(clip, script.per_person)
    return np.random.default_rng([script.seed, stream, int(script.identities[row]), number])


def _speak(script: Script) -> _Lines:
    people, scene = script.population.people(script.identities), script.scene
    person = np.arange(len(people)).repeat(script.per_person)
    spoken = []
    for clip, row in enumerate(person.tolist()):
        rng = _rng(script, clip, _SPEECH)
        emotion, intensity = script.conditions[clip % len(script.conditions)]
        base = Prosody(tempo=float(people.speakers.tempo[row]))
        manner = emotional_prosody(_WORLD_NAME.get(emotion, emotion), intensity, leak=scene.leak, base=base)
        accent = int(people.accent[row])
        if script.texts is None and scene.seconds is not None:
            spoken.append(of_length(scene.seconds, rng=rng, prosody=manner, accent=accent))
            continue
        texts = script.texts or (SENTENCES[int(rng.integers(len(SENTENCES)))],)
        spoken.append(utterance(texts[clip % script.per_person % len(texts)], rng=rng, prosody=manner, accent=accent))
    frames = np.array([int(np.floor(said.duration_s * scene.fps + 1e-6)) for said in spoken])
    return _Lines(script, people, person, spoken, frames)


def _sound(lines: _Lines) -> dict[str, Tensor]:
    """Waveforms of the length of the frames."""
    scene = lines.script.scene
    rngs = [lines.rng(clip, _SOUND) for clip in range(len(lines.spoken))]
    channels = [Channel.draw(scene.severity, rng, 1)[0] for rng in rngs]
    seeds = [int(rng.integers(2**31)) for rng in rngs]
    sounds = waveform(
        lines.spoken, lines.people.speakers, lines.person, seed=seeds, channels=channels, sections=22, peak=None
    )
    wanted = [round(frames / scene.fps * SAMPLE_RATE) for frames in lines.frames]
    padded = [torch.nn.functional.pad(s, (0, max(n - len(s), 0)))[:n] for s, n in zip(sounds, wanted, strict=True)]
    return {"audio": (LEVEL * torch.cat(padded)).clamp_(-1, 1), "audio_starts": ends(wanted)}


def _motion(lines: _Lines, shown: Conditions) -> list[FaceMotion]:
    """What every face does, clips of equal length at once."""
    scene = lines.script.scene
    tracks = articulate(lines.spoken, hop_s=0.5 / scene.fps)  # every second state is the middle of a frame
    middles = [tracks.visemes[a:b][1::2].astype(float) for a, b in pairwise(tracks.starts)]
    motions: list[FaceMotion | None] = [None] * len(lines.spoken)
    for frames in np.unique(lines.frames).tolist():
        together = np.flatnonzero(lines.frames == frames).tolist()
        drawn = [draw_idle(lines.rng(clip, _IDLE), frames, fps=scene.fps, settings=scene.face) for clip in together]
        names = ("slow", "blink", "modulation", "head")
        group = face_motion(
            np.stack([middles[clip][:frames] for clip in together]),
            fps=scene.fps,
            idle=Idle(**{n: np.stack([getattr(one, n) for one in drawn]) for n in names}, fps=scene.fps),
            emotion=[_WORLD_NAME.get(shown[clip][0], shown[clip][0]) for clip in together],
            intensity=np.array([shown[clip][1] for clip in together]),
            upper_face=scene.upper_face,
            idle_amplitude=scene.idle_amplitude,
            blinks=scene.blinks,
            settings=scene.face,
        )
        for place, clip in enumerate(together):
            motions[clip] = group[place]
    if max(scene.tracking_noise) > 0:
        smooth, white = scene.tracking_noise
        motions = [
            with_tracking_noise(motion, lines.rng(clip, _TRACKING), smooth=smooth, white=white)
            for clip, motion in enumerate(motions)
        ]
    return motions


def _vertices(
    lines: _Lines, expression: Float[Tensor, "frames 16"], jaw: Float[Tensor, " frames"]
) -> tuple[Float[Tensor, "people vertices 3"], Float[Tensor, "frames vertices 3"]]:
    """People at rest and every frame of every clip, of the kept vertices, in mm."""
    model, kept = head(_DETAIL), vertex_set(lines.script.scene.vertices).kept
    basis, jaw_weights = model.expression_basis[kept].reshape(-1, len(EXPRESSION_UNITS)).T, model.jaw_weights[kept]
    rest = neutral_heads(lines.people)[:, kept]
    person = torch.from_numpy(lines.person.repeat(lines.frames))
    posed = torch.empty(len(jaw), len(kept), 3)
    for part in torch.arange(len(jaw)).split(_BLOCK):
        moved = rest[person[part]] + (expression[part] @ basis).view(len(part), -1, 3)
        posed[part] = open_jaw(moved, jaw[part], jaw_weights)
    return rest, posed


def _faces(lines: _Lines, shown: Conditions) -> dict[str, Tensor]:
    """Everything of the clips that is to be seen."""
    by_clip = [shown[clip % len(shown)] for clip in range(len(lines.spoken))]
    motions = _motion(lines, by_clip)
    expression = torch.from_numpy(np.concatenate([motion.expression for motion in motions])).float()
    jaw = torch.from_numpy(np.concatenate([motion.jaw for motion in motions])).float()
    rest, posed = _vertices(lines, expression, jaw)
    code = {name: number for number, name in enumerate(PHONE_NAMES)}
    phones = []
    for said, frames in zip(lines.spoken, lines.frames, strict=True):
        spoken = np.array([code[phone] for phone in said.alignment.phones])
        phones.append(spoken[said.alignment.phone_at((np.arange(frames) + 0.5) / lines.script.scene.fps)])
    words = "\n".join(said.text for said in lines.spoken).encode()
    return {
        "templates": rest,
        "subject": torch.from_numpy(lines.person),
        "vertices": posed,
        "expression": expression,
        "jaw": jaw,
        "starts": ends(lines.frames.tolist()),
        "emotion": torch.tensor([emotion_code(emotion) for emotion, _ in by_clip]),
        "intensity": torch.tensor([intensity for _, intensity in by_clip]),
        "tracked": torch.ones(len(posed), dtype=torch.bool),
        "phones": torch.from_numpy(np.concatenate(phones)),
        "words": torch.frombuffer(bytearray(words), dtype=torch.uint8),
    }


def talking_faces(script: Script, *, shown: Conditions | None = None, cache: bool = True) -> TalkingFaces:
    """The clips of a script, from disk if they were made before.

    Parameters
    ----------
    script
        Who, what, how.
    shown
        What the faces show, if it is something else than what the voices have, as `Script.conditions`: the truth of "this sentence of
        this person, but angry", with the same sound, timing, brows and blinks. Labels are those of the face.
    cache
        False: make them now and keep nothing, for a slider.

    Raises
    ------
    ValueError
        As `Script`.

    Examples
    --------
    >>> script = Script(Population(size=4), (0, 1), 1, texts=("Hello.",), scene=Scene(fps=25.0))
    >>> clip = talking_faces(script, cache=False)[1]
    >>> clip.subject, clip.vertices.shape[1], clip.emotion
    ('1', 215, 'neutral')
    """
    lines = cache_calls(lambda: _speak(script))  # two entries may need them, or none
    stored = _seen(script, shown, lines, cache)
    for unused in ("expression", "jaw"):
        del stored[unused]
    if script.scene.sound:
        # What the face does changes no sound.
        key = dataclasses.asdict(script)
        audible = {name: key["scene"][name] for name in ("seconds", "fps", "leak", "severity")}
        fetch = cached if cache else _make_now
        sound = fetch(__name__, {"sound": key | {"scene": audible}}, lambda: _sound(lines()))
    else:
        sound = {"audio": torch.zeros(0), "audio_starts": torch.zeros(len(script) + 1, dtype=torch.int64)}
    words = bytes(stored.pop("words").numpy()).decode().split("\n")
    return TalkingFaces(
        **stored,
        **sound,
        mesh=vertex_set(script.scene.vertices).mesh,
        subjects=tuple(map(str, script.identities)),
        sentences=tuple(words),
        fps=float(script.scene.fps),
        sample_rate=SAMPLE_RATE,
        name="synthetic talking faces",
        phone_names=PHONE_NAMES,
    )


def coefficients(
    script: Script, *, shown: Conditions | None = None, cache: bool = True
) -> tuple[Float[Tensor, "frames 16"], Float[Tensor, " frames"]]:
    """What moves the faces of `talking_faces`, frame by frame: weights of `EXPRESSION_UNITS`, and the jaw's angle in radians."""
    stored = _seen(script, shown, lambda: _speak(script), cache)
    return stored["expression"], stored["jaw"]


def _seen(script: Script, shown: Conditions | None, lines: Callable[[], _Lines], cache: bool) -> dict[str, Tensor]:
    shown = script.conditions if shown is None else tuple(shown)
    script.check_conditions("shown", shown)
    fetch = cached if cache else _make_now
    # How it sounds changes no face.
    key = dataclasses.asdict(
        dataclasses.replace(script, scene=dataclasses.replace(script.scene, sound=True, severity=0))
    )
    return fetch(__name__, {"faces": key, "shown": shown}, lambda: _faces(lines(), shown))


def _make_now(_: str, __: dict[str, object], make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    return make()


def heard(script: Script, *, mel: int = 40) -> Voices:
    """The same words at the same time as log-mel frames straight from the acoustics: a third of the cost of waveforms and their spectra.

    Frame i is centred on time ``i * 10 ms`` of the clip. Another session than that of `talking_faces`: channel and noise are drawn anew.

    Parameters
    ----------
    script
        Who, what, how.
    mel
        Bands.
    """
    key = dataclasses.asdict(script)
    parts = {name: key["scene"][name] for name in ("seconds", "leak", "severity")}

    def make() -> dict[str, Tensor]:
        lines = _speak(script)
        made = record(
            lines.people,
            lines.spoken,
            np.random.default_rng([script.seed, _SOUND]),
            mel=mel,
            severity=script.scene.severity,
            sections=22,
        )
        return {name: getattr(made, name) for name in ("log_mel", "starts", "identities", *PHONE_ARRAYS)}

    return Voices(
        **cached(__name__, {"heard": key | {"scene": parts}, "mel": mel}, make),
        hop_ms=HOP_MS,
        phone_names=PHONE_NAMES,
        name="voices of synthetic talking faces",
    )


PHONE_ARRAYS = ("phones", "phone_starts", "boundaries_s")
