"""From timed phones to moving articulators: tract shapes, velum, glottis, lung pressure and lips, frame by frame.

Vowels glide across the consonants between them, consonants squeeze whatever vowel shape is there. Sound and face are driven by the same
activations, so they are synchronous by construction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from paper_utils.data.speech import SILENCE
from paper_utils.world import tract_tables as tables
from paper_utils.world.prosody import ACCENTS, Accent
from paper_utils.world.speech import Utterance
from paper_utils.world.tract_tables import VISEME_UNITS

__all__ = ["VISEME_UNITS", "Articulation", "Timing", "articulate"]

_LOG_CLOSED = np.float32(np.log(1e-5))  # a complete closure; the acoustics raise it to the least area they can carry
_VOWELS = 12  # of the targets; the rest are substrates
_LIP_SECTIONS = slice(41, 44)
_MOUTH_SECTIONS = slice(28, 44)  # those that jaw and lips move
_SLOTS = (-2, -1, 0, 1, 2)  # neighbours whose gestures can reach into a phone: none is longer than the two next phones


@dataclass(frozen=True)
class Timing:
    """How fast the articulators move, in ms; choices of ours, in the range of X-ray microbeam and nasal-airflow studies.

    Parameters
    ----------
    closing, fricative_ramp, affricate_ramp
        From open to a stop's closure (before the phone begins); of a fricative around both of its boundaries; from an affricate's closure to
        its friction.
    glottis, velum, pressure
        Width of the smoothing of these tracks; 80 ms of velum make the neighbours of nasals nasal.
    rest
        Lips close and open within a pause.
    affricate_closure
        Share of an affricate that is closed.
    vot_share, vot_scale
        Time from release to the end of a voiceless stop is the lesser of this share of its duration and this part of its usual value.
    """

    closing: float = 45.0
    fricative_ramp: float = 50.0
    affricate_ramp: float = 15.0
    glottis: float = 35.0
    velum: float = 80.0
    pressure: float = 40.0
    rest: float = 120.0
    affricate_closure: float = 0.45
    vot_share: float = 0.6
    vot_scale: float = 0.85


TIMING = Timing()


@dataclass(frozen=True)
class Articulation:
    """Articulator tracks of many utterances, one after the other; independent of who speaks.

    Parameters
    ----------
    log_area
        Natural logarithm of the areas in cm2, glottis to lips, of the reference man; a speaker's gains are added to it.
    velum_cm2, glottis_cm2, pressure
        Velar port, glottis, lung pressure in dyn/cm2.
    cavity
        Share of the lung pressure that stays across the glottis of a closed tract.
    noise, cutoff, obstacle
        Gain of the frication source, factor on its cut-off frequency, sections from the narrowest one to the source.
    visemes
        Jaw and lips in VISEME_UNITS, from the same activations.
    starts
        Utterance u has frames ``starts[u]`` to ``starts[u + 1]``; its frame i is the state at time ``i * hop_s``.
    utterance
        Of each frame.
    hop_s
        Time between frames.
    """

    log_area: Float[np.ndarray, "frames 44"]
    velum_cm2: Float[np.ndarray, " frames"]
    glottis_cm2: Float[np.ndarray, " frames"]
    pressure: Float[np.ndarray, " frames"]
    cavity: Float[np.ndarray, " frames"]
    noise: Float[np.ndarray, " frames"]
    cutoff: Float[np.ndarray, " frames"]
    obstacle: Int[np.ndarray, " frames"]
    visemes: Float[np.ndarray, "frames 7"]
    starts: Int[np.ndarray, " utterances_plus_one"]
    utterance: Int[np.ndarray, " frames"]
    hop_s: float

    def times_s(self) -> Float[np.ndarray, " frames"]:
        """Time of each frame in its utterance, from the beginning of its first phone."""
        return (np.arange(len(self.utterance)) - self.starts[self.utterance]) * self.hop_s


# ------------------------------------------------------------------------------------------------- phones as numbers


@dataclass(frozen=True)
class _Inventory:
    """The gestures as arrays, one row a phone."""

    codes: dict[str, int]
    column: dict[str, np.ndarray]
    anchor_count: np.ndarray
    anchor_share: np.ndarray
    anchor_target: np.ndarray
    visemes: np.ndarray
    viseme_weights: np.ndarray
    profile: np.ndarray
    manner: dict[str, np.ndarray]


def _profile(place: float, reach: float) -> np.ndarray:
    sections = np.arange(1, tables.SECTIONS + 1)
    shape = np.exp(-np.log(16) * ((sections - place) / reach) ** 2)
    return shape / shape.max()  # a place between two sections narrows both to the full


@lru_cache(maxsize=1)
def _inventory() -> _Inventory:
    """Rows for all phones, then for the consonants that are made further forward next to a front vowel."""
    vowel = tables.Gesture("open", glottis_cm2=tables.VOWEL_GLOTTIS_CM2, release_glottis_cm2=tables.VOWEL_GLOTTIS_CM2)
    rest = tables.Gesture(
        "rest",
        glottis_cm2=tables.REST_GLOTTIS_CM2,
        release_glottis_cm2=tables.REST_GLOTTIS_CM2,
        viseme_weights=(1,) * len(VISEME_UNITS),
    )
    rows = {p: vowel for p in tables.ANCHORS if p not in tables.CONSONANTS} | tables.CONSONANTS | {SILENCE: rest}
    codes = {name: i for i, name in enumerate(rows)}
    gestures = list(rows.values())
    anchors = [tables.ANCHORS.get(name, ()) for name in rows]
    for name, place in tables.FRONTED.items():
        codes[name + "+"] = len(gestures)
        gestures.append(tables.Gesture(**{**vars(tables.CONSONANTS[name]), "place": place}))
        anchors.append(())
    share, target = np.zeros((2, len(gestures), 2))
    for row, found in enumerate(anchors):
        for k, (fraction, name) in enumerate(found):
            share[row, k], target[row, k] = fraction, tables.target_index(name)
    column = {
        key: np.array([getattr(g, key) for g in gestures], dtype=float)
        for key, value in vars(vowel).items()
        if isinstance(value, int | float)
    }
    column["substrate"] = np.array([tables.target_index(g.substrate) if g.substrate else -1 for g in gestures])
    return _Inventory(
        codes=codes,
        column=column,
        anchor_count=np.array([len(a) for a in anchors]),
        anchor_share=share,
        anchor_target=target.astype(int),
        visemes=np.array([g.visemes for g in gestures], dtype=np.float32),
        viseme_weights=np.array([g.viseme_weights for g in gestures], dtype=np.float32),
        profile=np.array([_profile(g.place, g.reach) for g in gestures], dtype=np.float32),
        manner={m: np.array([g.manner == m for g in gestures]) for m in ("stop", "affricate", "fricative", "rest")},
    )


@dataclass(frozen=True)
class _Phones:
    """All phones of all utterances; times in seconds from the beginning of each one's own utterance."""

    code: np.ndarray
    begin: np.ndarray
    end: np.ndarray
    utterance: np.ndarray
    first: np.ndarray  # of each utterance, and the total
    release: np.ndarray
    rise: np.ndarray  # (phones, 2) begin and end of the activation's rise
    fall: np.ndarray


def _codes(utterances: Sequence[Utterance]) -> np.ndarray:
    known = _inventory().codes
    try:
        codes = np.array([known[p] for u in utterances for p in u.alignment.phones])
    except KeyError:
        for index, utterance in enumerate(utterances):
            for place, name in enumerate(utterance.alignment.phones):
                if name not in known:
                    raise ValueError(
                        f"utterance {index}: unknown phone {name!r} at position {place}; expected ARPABET without stress digits, "
                        f"one of {' '.join(n for n in known if n[-1] != '+')}"
                    ) from None
    return codes


def _fronted(code: np.ndarray, utterance: np.ndarray) -> np.ndarray:
    """Velar consonants next to a front vowel (the one after counts before the one ahead) become their forward variants."""
    known = _inventory().codes
    front = np.isin(code, [known[v] for v in tables.FRONT_VOWELS])
    vowel = _inventory().anchor_count[code] > 0
    same = utterance[1:] == utterance[:-1]
    after = np.r_[front[1:] & same, False]
    before = np.r_[False, front[:-1] & same] & ~np.r_[vowel[1:] & same, False]
    moved = code.copy()
    for name in tables.FRONTED:
        moved[(code == known[name]) & (after | before)] = known[name + "+"]
    return moved


def _phones(utterances: Sequence[Utterance]) -> _Phones:
    bounds = [np.asarray(u.alignment.boundaries_s, dtype=float) - u.alignment.boundaries_s[0] for u in utterances]
    counts = np.array([len(b) - 1 for b in bounds])
    begin, end = np.concatenate([b[:-1] for b in bounds]), np.concatenate([b[1:] for b in bounds])
    utterance = np.repeat(np.arange(len(bounds)), counts)
    code = _fronted(_codes(utterances), utterance)
    first = np.r_[0, np.cumsum(counts)]
    return _Phones(code, begin, end, utterance, first, *_ramps(code, begin, end, first))


def _ramps(
    code: np.ndarray, begin: np.ndarray, end: np.ndarray, first: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Release of each phone, and when its activation rises and falls."""
    kinds, column = _inventory().manner, _inventory().column
    stop, affricate, rest = kinds["stop"][code], kinds["affricate"][code], kinds["rest"][code]
    duration = end - begin
    voiceless = column["glottis_cm2"][code] > 0.1
    vot = 1e-3 * column["vot_ms"][code]
    vot = np.where(
        voiceless, np.minimum(TIMING.vot_share * duration, TIMING.vot_scale * vot), np.minimum(vot, 0.3 * duration)
    )
    release = np.where(stop, end - vot, end)
    release = np.where(affricate, begin + TIMING.affricate_closure * duration, release)
    half = np.minimum(0.5e-3 * TIMING.fricative_ramp, 0.4 * duration)
    early = np.where(stop | affricate, 1e-3 * TIMING.closing, half)
    late = np.where(stop | affricate, 0.0, half)
    rise = np.stack([begin - early, begin + late], 1)
    fall = np.stack(
        [np.where(stop, release, end - half), np.where(stop, release + 1e-3 * column["opening_ms"][code], end + half)],
        1,
    )
    pause = np.minimum(1e-3 * TIMING.rest, 0.5 * duration)
    rise[rest] = np.stack([begin, begin + pause], 1)[rest]
    fall[rest] = np.stack([end - pause, end], 1)[rest]
    rise[first[:-1][rest[first[:-1]]]] -= 10.0  # the lips rest before the first pause and after the last
    fall[(first[1:] - 1)[rest[first[1:] - 1]]] += 10.0
    return release, rise, fall


def _ramp(times: np.ndarray, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Raised cosine from 0 to 1."""
    share = np.clip((times - begin) / (end - begin), 0.0, 1.0)
    return 0.5 - 0.5 * np.cos(np.pi * share)


# ---------------------------------------------------------------------------------------------------------- the tracks


@dataclass(frozen=True)
class _Grid:
    """Frames: their time, utterance and phone, and the activation of the phones around each."""

    times: np.ndarray
    utterance: np.ndarray
    starts: np.ndarray
    phone: np.ndarray
    slots: list[tuple[np.ndarray, np.ndarray]]  # for each neighbour: its phone, whether it is of the same utterance


def _grid(phones: _Phones, hop_s: float) -> _Grid:
    last = phones.end[phones.first[1:] - 1]
    counts = 1 + np.floor(last / hop_s + 1e-6).astype(int)
    starts = np.r_[0, np.cumsum(counts)]
    utterance = np.repeat(np.arange(len(counts)), counts)
    times = (np.arange(starts[-1]) - starts[utterance]) * hop_s
    # One search an utterance: times of different ones must not be shifted, or an utterance's bits would depend on its neighbours.
    phone = np.concatenate(
        [
            a + np.clip(np.searchsorted(phones.begin[a:b], times[s:e], side="right") - 1, 0, None)
            for a, b, s, e in zip(phones.first[:-1], phones.first[1:], starts[:-1], starts[1:], strict=True)
        ]
    )
    slots = []
    for offset in _SLOTS:
        other = phone + offset
        inside = (other >= phones.first[utterance]) & (other < phones.first[utterance + 1])
        slots.append((np.where(inside, other, phone), inside))
    return _Grid(times, utterance, starts, phone, slots)


def _activations(grid: _Grid, phones: _Phones) -> list[np.ndarray]:
    """Activation 0-1 of each neighbour of each frame."""
    kinds = _inventory().manner
    active = np.logical_or.reduce(list(kinds.values()))[phones.code]
    found = []
    for phone, inside in grid.slots:
        level = np.zeros(len(phone), dtype=np.float32)
        at = np.flatnonzero(inside & active[phone])
        near = (grid.times[at] > phones.rise[phone[at], 0]) & (grid.times[at] < phones.fall[phone[at], 1])
        at = at[near]
        p, t = phone[at], grid.times[at]
        level[at] = _ramp(t, phones.rise[p, 0], phones.rise[p, 1]) * (
            1 - _ramp(t, phones.fall[p, 0], phones.fall[p, 1])
        )
        found.append(level)
    return found


def _smoothed(grid: _Grid, phones: _Phones, before: np.ndarray, after: np.ndarray, width_s: float) -> np.ndarray:
    """A track that is `before` until each phone's release and `after` from there on, smoothed by a raised cosine of the given width."""
    total, weight = np.zeros((2, len(grid.times)))
    half = width_s / 2
    for phone, inside in grid.slots:
        begin, release, end = phones.begin[phone], phones.release[phone], phones.end[phone]
        begin = np.where(phone == phones.first[grid.utterance], -1.0, begin)
        end = np.where(phone + 1 == phones.first[grid.utterance + 1], end + 1.0, end)
        at = np.flatnonzero(inside & (grid.times > begin - half) & (grid.times < end + half))
        t, p = grid.times[at], phone[at]
        to_begin, to_release, to_end = (
            _ramp(t, edge[at] - half, edge[at] + half) for edge in (begin, np.minimum(release, end), end)
        )
        total[at] += before[p] * (to_begin - to_release) + after[p] * (to_release - to_end)
        weight[at] += to_begin - to_end
    return (total / weight).astype(np.float32)


def _anchors(phones: _Phones) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times, targets and utterance of the vowel anchors; an utterance without vowels gets the neutral shape."""
    stock = _inventory()
    count = stock.anchor_count[phones.code]
    which = np.arange(2) < count[:, None]
    times = (phones.begin[:, None] + stock.anchor_share[phones.code] * (phones.end - phones.begin)[:, None])[which]
    targets = stock.anchor_target[phones.code][which]
    owner = np.repeat(phones.utterance, count)
    empty = np.setdiff1d(np.arange(len(phones.first) - 1), owner)
    order = np.argsort(np.r_[owner, empty], kind="stable")
    return (
        np.r_[times, np.zeros(len(empty))][order],
        np.r_[targets, np.full(len(empty), tables.target_index(tables.NEUTRAL))][order],
        np.r_[owner, empty][order],
    )


def _vowel_track(grid: _Grid, phones: _Phones, shapes: np.ndarray, shape_of: np.ndarray) -> np.ndarray:
    """Shapes at the anchors, joined by raised cosines across the consonants; held before the first and after the last."""
    times, targets, owner = _anchors(phones)
    first = np.searchsorted(owner, np.arange(len(phones.first)))
    right = np.concatenate(
        [
            a + np.searchsorted(times[a:b], grid.times[s:e])
            for a, b, s, e in zip(first[:-1], first[1:], grid.starts[:-1], grid.starts[1:], strict=True)
        ]
    )
    left = np.maximum(right - 1, first[grid.utterance])
    right = np.minimum(right, first[grid.utterance + 1] - 1)
    share = _ramp(grid.times, times[left], np.where(right > left, times[right], times[left] + 1.0)).astype(np.float32)
    rows = shape_of[owner, targets]
    track = shapes[rows[left]]
    moving = np.flatnonzero(right > left)
    track[moving] += share[moving, None] * (shapes[rows[right[moving]]] - track[moving])
    return track


def _shapes(accents: Sequence[int], shifts: Sequence[Accent]) -> tuple[np.ndarray, np.ndarray]:
    """Log areas and visemes of all targets in every accent that occurs, and the row of each (utterance, target).

    An accent blends a share of other vowels' areas, and lips, into a vowel.
    """
    areas, looks = tables.AREAS_CM2, tables.VOWEL_VISEMES
    used, which = np.unique(np.asarray(accents, dtype=int), return_inverse=True)
    blocks = []
    for accent in used:
        mix = np.eye(len(areas))
        for vowel, others in (shifts[accent].vowel_shift if accent else {}).items():
            row = tables.target_index(vowel)
            for other, share in others.items():
                if other == vowel:
                    continue  # the vowel itself is what is left
                mix[row, tables.target_index(other)] += share
                mix[row, row] -= share
        blocks.append(np.c_[np.log(mix @ areas), mix @ looks])
    rows = which[:, None] * len(areas) + np.arange(len(areas))
    return np.concatenate(blocks).astype(np.float32), rows


def _squeeze(log_area: np.ndarray, grid: _Grid, phones: _Phones, levels: list[np.ndarray]) -> None:
    """Substrates first, then constrictions, in place."""
    stock = _inventory()
    log_shapes = np.log(tables.AREAS_CM2).astype(np.float32)
    pairs = []
    for (phone, _), level in zip(grid.slots, levels, strict=True):
        at = np.flatnonzero((level > 0) & (stock.column["place"][phones.code[phone]] > 0))
        pairs.append((at, phone[at], level[at]))
        substrate = stock.column["substrate"][phones.code[phone[at]]]
        has = np.flatnonzero(substrate >= 0)
        frame = at[has]
        weight = level[frame] * stock.column["substrate_weight"][phones.code[phone[frame]]].astype(np.float32)
        log_area[frame] += weight[:, None] * (log_shapes[substrate[has]] - log_area[frame])
    for at, phone, level in pairs:
        code = phones.code[phone]
        place = stock.column["place"][code] - 1
        present = 0.5 * (log_area[at, np.floor(place).astype(int)] + log_area[at, np.ceil(place).astype(int)])
        depth = np.maximum(0.0, 1.0 - _least_area(grid.times[at], phone, phones) * np.exp(-present)).astype(np.float32)
        factor = 1.0 - (level * depth)[:, None] * stock.profile[code]
        log_area[at] += np.log(np.maximum(factor, 1e-5))
        lips = np.flatnonzero(stock.column["lips"][code] > 0)
        narrowing = np.log(1.0 - stock.column["lips"][code[lips]].astype(np.float32) * level[lips])
        log_area[at[lips], _LIP_SECTIONS] += narrowing[:, None]
    np.maximum(log_area, _LOG_CLOSED, out=log_area)


def _least_area(times: np.ndarray, phone: np.ndarray, phones: _Phones) -> np.ndarray:
    """Area of the constriction at full activation: 0 in the first part of an affricate."""
    stock = _inventory()
    area = stock.column["area_cm2"][phones.code[phone]]
    opened = _ramp(times, phones.release[phone], phones.release[phone] + 1e-3 * TIMING.affricate_ramp)
    return np.where(stock.manner["affricate"][phones.code[phone]], area * opened, area)


def _noise_tracks(
    grid: _Grid, phones: _Phones, levels: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Frication gain, cut-off factor, obstacle and cavity expansion: means over the active consonants, obstacle of the strongest."""
    stock = _inventory()
    squeezes = stock.column["place"] > 0
    count = len(grid.times)
    weight, noise, cutoff, cavity, best = np.zeros((5, count), dtype=np.float32)
    obstacle = np.zeros(count, dtype=np.int64)
    for (phone, _), level in zip(grid.slots, levels, strict=True):
        at = np.flatnonzero((level > 0) & squeezes[phones.code[phone]])
        code, share = phones.code[phone[at]], level[at]
        weight[at] += share
        noise[at] += share * stock.column["noise"][code]
        cutoff[at] += share * stock.column["cutoff"][code]
        cavity[at] = np.maximum(cavity[at], share * stock.column["cavity"][code])
        stronger = share > best[at]
        obstacle[at] = np.where(stronger, stock.column["obstacle_sections"][code].astype(int), obstacle[at])
        best[at] = np.maximum(best[at], share)
    some = np.maximum(weight, 1e-6)
    return noise / some, np.where(weight > 0, cutoff / some, 1.0).astype(np.float32), obstacle, cavity


def _impose_visemes(visemes: np.ndarray, grid: _Grid, phones: _Phones, levels: list[np.ndarray]) -> None:
    """Consonants and pauses move jaw and lips away from the vowel's, each as far as its weights say; in place."""
    stock = _inventory()
    for (phone, _), level in zip(grid.slots, levels, strict=True):
        at = np.flatnonzero(level)
        code = phones.code[phone[at]]
        visemes[at] += level[at, None] * stock.viseme_weights[code] * (stock.visemes[code] - visemes[at])


def articulate(
    utterances: Sequence[Utterance],
    *,
    hop_s: float = 0.01,
    accents: Sequence[Accent] | None = None,
    amplitude: ArrayLike = 1.0,
    mute_nose: bool = False,
) -> Articulation:
    """Tracks of all articulators from timed phones.

    Parameters
    ----------
    utterances
        With alignment, accent and ``loudness_db(times_s)``, which sets the lung pressure.
    hop_s
        Time between frames; frame i is the state at ``i * hop_s`` from the beginning of the first phone, the last one lies at or before the
        end of the last.
    accents
        Their ``vowel_shift`` moves vowels: ``{"AE": {"EH": 0.4}}`` takes 40 % of EH's area and lips, and the rest of AE's own. Entry 0 is the reference and
        never shifts. None: `paper_utils.world.prosody.ACCENTS`.
    amplitude
        How far jaw and lips move, of all utterances or one a piece: factor on the visemes, and on how far the log areas of sections 29-44
        of the vowels depart from their mean over vowels.
    mute_nose
        The velum stays closed, also in nasals.

    Raises
    ------
    ValueError
        If there is no utterance, a phone is unknown (named with its position), an accent does not exist, or a number is not usable.
    """
    if not len(utterances):
        raise ValueError("utterances: there are none; expected at least one with its alignment")
    if not (np.isfinite(hop_s) and hop_s > 0):
        raise ValueError(f"hop_s: expected a time above 0 in seconds, found {hop_s}")
    amplitude = np.broadcast_to(np.asarray(amplitude, dtype=np.float32), len(utterances))
    if not (np.isfinite(amplitude) & (amplitude >= 0)).all():
        raise ValueError("amplitude: expected finite factors of at least 0")
    phones = _phones(utterances)
    grid = _grid(phones, hop_s)
    levels = _activations(grid, phones)
    log_area, visemes = _vowels(utterances, grid, phones, accents, amplitude)
    _squeeze(log_area, grid, phones, levels)
    _impose_visemes(visemes, grid, phones, levels)
    noise, cutoff, obstacle, cavity = _noise_tracks(grid, phones, levels)
    column = _inventory().column
    velum = column["velum_cm2"][phones.code] * (not mute_nose)
    push = np.where(_inventory().manner["rest"][phones.code], 0.0, tables.LUNG_PRESSURE)
    return Articulation(
        log_area=log_area,
        velum_cm2=_smoothed(grid, phones, velum, velum, 1e-3 * TIMING.velum),
        glottis_cm2=_smoothed(
            grid,
            phones,
            column["glottis_cm2"][phones.code],
            column["release_glottis_cm2"][phones.code],
            1e-3 * TIMING.glottis,
        ),
        pressure=_smoothed(grid, phones, push, push, 1e-3 * TIMING.pressure) * _effort(utterances, grid),
        cavity=cavity,
        noise=noise,
        cutoff=cutoff,
        obstacle=obstacle,
        visemes=visemes * amplitude[grid.utterance, None],
        starts=grid.starts,
        utterance=grid.utterance,
        hop_s=hop_s,
    )


def _vowels(
    utterances: Sequence[Utterance],
    grid: _Grid,
    phones: _Phones,
    accents: Sequence[Accent] | None,
    amplitude: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Log areas and visemes of the vowel track, in each utterance's accent and amplitude."""
    spoken = [u.accent for u in utterances]
    if accents is None:
        accents = ACCENTS
    known = len(accents)
    if not all(0 <= a < known for a in spoken):
        raise ValueError(
            f"accent: expected 0 to {known - 1}, found {sorted({a for a in spoken if not 0 <= a < known})}"
        )
    track = _vowel_track(grid, phones, *_shapes(spoken, accents))
    log_area, visemes = track[:, : tables.SECTIONS], track[:, tables.SECTIONS :]
    moved = np.flatnonzero(amplitude[grid.utterance] != 1)
    centre = np.log(tables.AREAS_CM2[:_VOWELS, _MOUTH_SECTIONS]).mean(0).astype(np.float32)
    away = log_area[moved, _MOUTH_SECTIONS] - centre
    log_area[moved, _MOUTH_SECTIONS] = centre + amplitude[grid.utterance[moved], None] * away
    return np.ascontiguousarray(log_area), np.ascontiguousarray(visemes)


def _effort(utterances: Sequence[Utterance], grid: _Grid) -> np.ndarray:
    """Factor on the lung pressure that changes the voice by the utterances' loudness: its amplitude grows with the power 1.2."""
    bounds = zip(utterances, grid.starts[:-1], grid.starts[1:], strict=True)
    loudness = np.concatenate([np.asarray(u.loudness_db(grid.times[a:b]), dtype=float) for u, a, b in bounds])
    if not np.isfinite(loudness).all():
        raise ValueError("utterances: loudness_db must give finite levels at all times")
    return (10 ** (loudness / 20 / 1.2)).astype(np.float32)
