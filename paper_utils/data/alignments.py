"""Alignment files: Praat TextGrid (long and short text form, as the Montreal Forced Aligner writes it) and the .PHN and .WRD of TIMIT.

Read into the same `Alignment` that the synthetic world returns, and written back. Files of other people are checked where they enter:
whatever does not fit is named with its file and place.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from paper_utils import safe_files
from paper_utils.data.speech import SILENCE, Alignment
from paper_utils.files import atomic_path, write_text
from paper_utils.world.phones import PHONES, VOWELS

# Two times closer than this are the same: writers round to 6 digits or more.
TOLERANCE_S = 1e-5


# ----------------------------------------------------------------------------------------------------------- TextGrid


@dataclass(frozen=True)
class Interval:
    """A label that holds from one time to another, in seconds; an empty label is kept."""

    begin_s: float
    end_s: float
    label: str


@dataclass(frozen=True)
class Tier:
    """A named row of a TextGrid.

    Parameters
    ----------
    name
        Such as ``"phones"``.
    intervals
        In order of time. A point has ``begin_s == end_s``.
    points
        Whether it is a point tier ("TextTier").
    """

    name: str
    intervals: tuple[Interval, ...]
    points: bool = False


@dataclass(frozen=True)
class TextGrid:
    """Tiers over one stretch of time.

    Parameters
    ----------
    begin_s, end_s
        The stretch, in seconds.
    tiers
        Rows in the order of the file. Names may repeat.
    """

    begin_s: float
    end_s: float
    tiers: tuple[Tier, ...]

    def tier(self, name: str, *, source: str = "TextGrid") -> Tier:
        """The interval tier of that name, or the only one that ends in ``" - name"`` as the aligner names tiers of one speaker.

        Raises
        ------
        ValueError
            If there is none or more than one, or it is a point tier; the message lists what is there.
        """
        found = [tier for tier in self.tiers if tier.name == name]
        found = found or [tier for tier in self.tiers if tier.name.endswith(f" - {name}")]
        present = ", ".join(repr(tier.name) for tier in self.tiers) or "none"
        if len(found) != 1:
            raise ValueError(f"{source}: expected one tier {name!r}, found {len(found)}; tiers present: {present}")
        if found[0].points:
            raise ValueError(f"{source}: tier {name!r} is a point tier; expected intervals; tiers present: {present}")
        return found[0]


def _decoded(path: Path) -> str:
    """Text of a file in UTF-8 or UTF-16, told apart by the byte order mark."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected an alignment")
    with path.open("rb") as file:
        begin = file.read(12)
    if begin == b"ooBinaryFile":
        raise ValueError(f"{path}: a binary Praat file; save it as a text file or a short text file")
    encoding = "utf-16" if begin.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    return safe_files.text(path, "an alignment", encoding=encoding)


# Praat reads a text file as free-standing numbers, quoted strings and flags, and takes all other characters as comment. The long form
# differs from the short one by such comment only, so one reader does for both.
_TOKEN = re.compile(
    r'"(?P<text>(?:[^"]|"")*)"|<(?P<flag>[a-z]+)>|(?<!\S)(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?!\S)'
    r'|(?P<open>")|![^\n]*|\s+|[^\s"<!]+|.'
)


class _Tokens:
    """Strings, flags and numbers of a TextGrid one by one, with errors that say where they were expected."""

    def __init__(self, text: str, source: str) -> None:
        self.source = source
        self.at = "the header"
        self._tokens = self._scan(re.sub(r"\r\n?", "\n", text))

    def _scan(self, text: str) -> Iterator[tuple[str, str, int]]:
        line = 1
        for match in _TOKEN.finditer(text):
            if match.lastgroup == "open":
                raise ValueError(f"{self.source}: a quote opens in line {line} and never closes: the file is truncated")
            if match.lastgroup:
                yield match.lastgroup, match.group(match.lastgroup), line
            line += match.group().count("\n")

    def next(self, kind: str) -> str:
        """Value of the next token, which must be of that kind."""
        found, value, line = next(self._tokens, ("end of file", "", 0))
        if found == "end of file":
            raise ValueError(f"{self.source}: the file ends in {self.at}; expected a {kind}: it is truncated")
        if found != kind:
            raise ValueError(
                f"{self.source}: line {line}, in {self.at}: expected a {kind}, found the {found} {value!r}"
            )
        return value.replace('""', '"') if kind == "text" else value

    def time(self) -> float:
        """Next number, as a time."""
        value = float(self.next("number"))
        if not 0 <= value < np.inf:
            raise ValueError(f"{self.source}: in {self.at}: expected a time of 0 s or later, found {value}")
        return value

    def count(self) -> int:
        """Next number, as a count."""
        value = self.next("number")
        if not value.isdigit():
            raise ValueError(f"{self.source}: in {self.at}: expected a count, found {value}")
        return int(value)


def _read_tier(tokens: _Tokens, number: int, begin_s: float, end_s: float) -> Tier:
    tokens.at = f"tier {number}"
    kind = tokens.next("text")
    if kind not in ("IntervalTier", "TextTier"):
        raise ValueError(f"{tokens.source}: tier {number}: expected IntervalTier or TextTier, found {kind!r}")
    name = tokens.next("text")
    tokens.at = f"tier {name!r}"
    tokens.time(), tokens.time()
    points = kind == "TextTier"
    rows = []
    for i in range(tokens.count()):
        tokens.at = f"tier {name!r}, {'point' if points else 'interval'} {i + 1}"
        begin = tokens.time()
        end = begin if points else tokens.time()
        rows.append(Interval(begin, end, tokens.next("text")))
        if not points and end - begin <= TOLERANCE_S:
            raise ValueError(f"{tokens.source}: {tokens.at} has no length: from {begin} to {end} s")
        if i and begin < rows[-2].end_s - (0 if points else TOLERANCE_S):
            raise ValueError(
                f"{tokens.source}: {tokens.at} begins at {begin} s, before the last one ends at {rows[-2].end_s} s"
            )
        if begin < begin_s - TOLERANCE_S or end > end_s + TOLERANCE_S:
            raise ValueError(
                f"{tokens.source}: {tokens.at}: {begin} to {end} s lies outside the file's {begin_s} to {end_s} s"
            )
    return Tier(name, tuple(rows), points)


def read_textgrid(path: Path | str) -> TextGrid:
    """Read a Praat TextGrid in its long or short text form, in UTF-8 or UTF-16.

    Empty intervals are kept. Gaps between intervals are allowed here (some writers leave out empty intervals).

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no TextGrid in text form, is truncated, or has negative times, overlapping intervals or intervals without length.
    """
    path = Path(path)
    tokens = _Tokens(_decoded(path), str(path))
    try:
        kinds = tokens.next("text"), tokens.next("text")
    except ValueError as error:
        raise ValueError(f'{path}: no TextGrid: expected the header "ooTextFile", "TextGrid" ({error})') from error
    if kinds != ("ooTextFile", "TextGrid"):
        raise ValueError(f'{path}: expected the header "ooTextFile", "TextGrid", found {kinds[0]!r}, {kinds[1]!r}')
    begin_s, end_s = tokens.time(), tokens.time()
    if end_s <= begin_s:
        raise ValueError(f"{path}: expected the end after the begin, found {begin_s} to {end_s} s")
    tiers = ()
    if tokens.next("flag") == "exists":
        tiers = tuple(_read_tier(tokens, number + 1, begin_s, end_s) for number in range(tokens.count()))
    return TextGrid(begin_s, end_s, tiers)


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _number(value: float) -> str:
    """Shortest text that reads back as the same number, without exponent."""
    return np.format_float_positional(value, trim="-")


def _long_form(grid: TextGrid) -> str:
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', ""]
    lines += [f"xmin = {_number(grid.begin_s)}", f"xmax = {_number(grid.end_s)}", "tiers? <exists>"]
    lines += [f"size = {len(grid.tiers)}", "item []:"]
    for number, tier in enumerate(grid.tiers, start=1):
        what, kind = ("points", "TextTier") if tier.points else ("intervals", "IntervalTier")
        lines += [f"    item [{number}]:", f'        class = "{kind}"', f"        name = {_quoted(tier.name)}"]
        lines += [f"        xmin = {_number(grid.begin_s)}", f"        xmax = {_number(grid.end_s)}"]
        lines += [f"        {what}: size = {len(tier.intervals)}"]
        for i, interval in enumerate(tier.intervals, start=1):
            lines.append(f"        {what} [{i}]:")
            begin, label = _number(interval.begin_s), _quoted(interval.label)
            if tier.points:
                lines += [f"            number = {begin}", f"            mark = {label}"]
            else:
                end = _number(interval.end_s)
                lines += [f"            xmin = {begin}", f"            xmax = {end}", f"            text = {label}"]
    return "\n".join(lines) + "\n"


def _short_form(grid: TextGrid) -> str:
    span = [_number(grid.begin_s), _number(grid.end_s)]
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", *span, "<exists>", str(len(grid.tiers))]
    for tier in grid.tiers:
        lines += [f'"{"TextTier" if tier.points else "IntervalTier"}"', _quoted(tier.name), *span]
        lines.append(str(len(tier.intervals)))
        for interval in tier.intervals:
            ends = (interval.begin_s,) if tier.points else (interval.begin_s, interval.end_s)
            lines += [*map(_number, ends), _quoted(interval.label)]
    return "\n".join(lines) + "\n"


def write_textgrid(path: Path | str, grid: TextGrid, *, form: str = "long", encoding: str = "utf-8") -> None:
    """Write a TextGrid that Praat and `read_textgrid` read back with the same times to the last digit.

    Parameters
    ----------
    path
        Where; written whole or not at all.
    grid
        What.
    form
        ``"long"`` or ``"short"``.
    encoding
        ``"utf-8"`` or ``"utf-16"`` (with byte order mark).

    Raises
    ------
    ValueError
        If form or encoding is another.
    """
    if form not in ("long", "short"):
        raise ValueError(f"form: expected 'long' or 'short', found {form!r}")
    if encoding not in ("utf-8", "utf-16"):
        raise ValueError(f"encoding: expected 'utf-8' or 'utf-16', found {encoding!r}")
    text = _long_form(grid) if form == "long" else _short_form(grid)
    with atomic_path(Path(path)) as temporary:
        temporary.write_bytes(text.encode(encoding))


# ------------------------------------------------------------------------------------------- alignment <-> TextGrid

# Labels that aligners give to stretches without speech: empty, and the marks of HTK, Kaldi and the Montreal Forced Aligner.
SILENCE_LABELS = frozenset(("", "sil", "sp", "silence", "<sil>", "<eps>", "pau", "h#", "#"))


def _arpabet(label: str, place: str) -> tuple[str, int]:
    """Phone and stress of a label such as ``AH0``; silence and consonants have stress -1, vowels without digit too."""
    if label.strip().lower() in SILENCE_LABELS:
        return SILENCE, -1
    match = re.fullmatch(r"([A-Za-z]+)([0-2]?)", label.strip())
    name = match.group(1).upper() if match else ""
    if name not in PHONES or name == SILENCE:
        hint = (
            "a word unknown to the aligner" if label == "spn" else "another phone set? align with an ARPABET dictionary"
        )
        raise ValueError(f"{place}: {label!r} is no ARPABET phone ({hint})")
    return name, int(match.group(2)) if match.group(2) and name in VOWELS else -1


def _without_gaps(
    intervals: tuple[Interval, ...], begin_s: float, end_s: float, place: str, fill: bool
) -> list[Interval]:
    """Intervals that touch, silence in the gaps, from `begin_s` to `end_s`."""
    rows, reached = [], begin_s
    for interval in (*intervals, Interval(end_s, end_s, "")):
        if interval.begin_s - reached > TOLERANCE_S:
            if not fill:
                raise ValueError(
                    f"{place}: nothing from {reached} to {interval.begin_s} s; if that is silence, pass fill_gaps=True"
                )
            rows.append(Interval(reached, interval.begin_s, ""))
        rows.append(interval)
        reached = interval.end_s
    return rows[:-1]


def _word_spans(words: tuple[Interval, ...], bounds: np.ndarray, place: str) -> tuple[tuple[str, int, int], ...]:
    """First phone and one past the last of every word that is not silence; words must begin and end where phones do."""
    spans = []
    for word in words:
        if word.label.strip().lower() in SILENCE_LABELS:
            continue
        first, last = (int(np.abs(bounds - t).argmin()) for t in (word.begin_s, word.end_s))
        off = max(abs(bounds[first] - word.begin_s), abs(bounds[last] - word.end_s))
        if off > 1e-3 or last <= first:
            raise ValueError(
                f"{place}: word {word.label!r} ({word.begin_s} to {word.end_s} s) does not begin and end where phones do"
            )
        spans.append((word.label, first, last))
    return tuple(spans)


def alignment_of(
    grid: TextGrid,
    *,
    phones: str = "phones",
    words: str | None = "words",
    fill_gaps: bool = False,
    source: str = "TextGrid",
) -> Alignment:
    """Alignment from the phone tier of a TextGrid, as the Montreal Forced Aligner writes it with an ARPABET dictionary.

    Stress digits become stress marks if every vowel has one; empty intervals and silence labels become silence, neighbouring silences
    one.

    Parameters
    ----------
    grid
        From `read_textgrid`.
    phones, words
        Names of the tiers. ``None`` for words: without words.
    fill_gaps
        Take stretches without interval as silence instead of refusing them.
    source
        What to call the grid in messages.

    Raises
    ------
    ValueError
        If a tier is missing, a label is no ARPABET phone (``spn`` included), intervals leave a gap, or words and phones disagree.
    """
    rows = _without_gaps(
        grid.tier(phones, source=source).intervals, grid.begin_s, grid.end_s, f"{source}: tier {phones!r}", fill_gaps
    )
    spoken = [_arpabet(row.label, f"{source}: tier {phones!r} at {row.begin_s} s") for row in rows]
    merged = [i for i in range(len(rows)) if not (i and spoken[i][0] == spoken[i - 1][0] == SILENCE)]
    bounds = np.array([*(rows[i].begin_s for i in merged), rows[-1].end_s if rows else 0.0])
    names = tuple(spoken[i][0] for i in merged)
    stress = tuple(spoken[i][1] for i in merged)
    known = all((mark >= 0) == (name in VOWELS) for name, mark in zip(names, stress, strict=True))
    place = f"{source}: tier {words!r}"
    spans = _word_spans(grid.tier(words, source=source).intervals, bounds, place) if words is not None else ()
    return Alignment(names, bounds, stress if known else (), spans)


def textgrid_of(alignment: Alignment) -> TextGrid:
    """TextGrid with the tiers ``words`` and ``phones``: stress digits on vowels, empty labels for silence, times of the alignment.

    Raises
    ------
    ValueError
        If the alignment begins before 0 s.
    """
    bounds = alignment.boundaries_s.tolist()
    if bounds[0] < 0:
        raise ValueError(f"alignment: a TextGrid begins at 0 s or later, found {bounds[0]}")
    marks = [str(mark) if mark >= 0 else "" for mark in alignment.stress or (-1,) * len(alignment.phones)]
    labels = ["" if name == SILENCE else name + mark for name, mark in zip(alignment.phones, marks, strict=True)]
    phones = tuple(Interval(a, b, label) for a, b, label in zip(bounds[:-1], bounds[1:], labels, strict=True))
    words = tuple(Interval(bounds[first], bounds[last], text) for text, first, last in alignment.words)
    whole = _without_gaps(words, bounds[0], bounds[-1], "words", True)
    return TextGrid(bounds[0], bounds[-1], (Tier("words", tuple(whole)), Tier("phones", phones)))


# -------------------------------------------------------------------------------------------------------------- TIMIT

# The 61 labels of TIMIT to the 39 classes that recognisers are scored on (Lee & Hon 1989): closures and pauses are silence, the glottal
# stop is left out.
TIMIT_TO_39: dict[str, str | None] = {
    **{same: same for same in ["iy", "ih", "eh", "ey", "ae", "aa", "aw", "ay", "ah", "oy", "ow", "uh", "uw", "er", "b", "d", "g", "p", "t", "k", "dx", "jh", "ch", "s", "sh", "z", "f", "th", "v", "dh", "m", "n", "ng", "l", "r", "w", "y", "hh"]},
    **dict.fromkeys(("h#", "pau", "epi", "pcl", "tcl", "kcl", "bcl", "dcl", "gcl"), "sil"),
    "ao": "aa", "ax": "ah", "ax-h": "ah", "axr": "er", "hv": "hh", "ix": "ih", "el": "l", "em": "m", "en": "n", "nx": "n",
    "eng": "ng", "zh": "sh", "ux": "uw", "q": None,
}  # fmt: skip

# To the 39 ARPABET phones of this project: AO and ZH stay, the flap is a D (choice of ours), a closure belongs to its plosive.
TIMIT_TO_ARPABET: dict[str, str | None] = {
    **TIMIT_TO_39,
    "ao": "ao", "zh": "zh", "dx": "d", "pcl": "p", "tcl": "t", "kcl": "k", "bcl": "b", "dcl": "d", "gcl": "g",
}  # fmt: skip

_FOLDINGS = {
    "61": {label: "sil" if label == "h#" else label for label in TIMIT_TO_39},
    "39": TIMIT_TO_39,
    "arpabet": TIMIT_TO_ARPABET,
}
_RELEASES = {"pcl": ("p",), "tcl": ("t", "ch"), "kcl": ("k",), "bcl": ("b",), "dcl": ("d", "jh"), "gcl": ("g",)}


def _read_rows(path: Path, sampling_rate: float, *, overlap: bool = False) -> tuple[Interval, ...]:
    """Rows "first sample, one past the last, label" of a .PHN or .WRD, in seconds."""
    rows: list[Interval] = []
    for number, line in enumerate(_decoded(path).splitlines(), start=1):
        if not line.strip():
            continue
        fields = line.split()
        if len(fields) != 3 or not all(re.fullmatch(r"-?\d+", field) for field in fields[:2]):
            raise ValueError(
                f"{path}: line {number}: expected 'begin end label' with whole samples, found {line!r}: truncated?"
            )
        begin, end = int(fields[0]), int(fields[1])
        if begin < 0 or end <= begin:
            raise ValueError(f"{path}: line {number}: expected 0 <= begin < end, found {line!r}")
        if rows and begin / sampling_rate < rows[-1].end_s and not overlap:
            raise ValueError(f"{path}: line {number}: {line!r} begins before the line above it ends")
        rows.append(Interval(begin / sampling_rate, end / sampling_rate, fields[2]))
    if not rows:
        raise ValueError(f"{path}: expected lines 'begin end label', found an empty file")
    return tuple(rows)


def _joined(rows: list[Interval]) -> list[Interval]:
    """Rows in which a closure and its own release are one, named as the release."""
    joined: list[Interval] = []
    for row in rows:
        if joined and row.label in _RELEASES.get(joined[-1].label, ()):
            joined[-1] = Interval(joined[-1].begin_s, row.end_s, row.label)
        else:
            joined.append(row)
    return joined


def _without_glottal_stops(rows: list[Interval]) -> list[Interval]:
    """Rows whose glottal stops are given to the phone behind, as word boundaries have it; the last one to the phone before."""
    kept: list[Interval] = []
    begin = None
    for row in rows:
        if row.label == "q":
            begin = row.begin_s if begin is None else begin
        else:
            kept.append(Interval(row.begin_s if begin is None else begin, row.end_s, row.label))
            begin = None
    if begin is not None and kept:
        kept[-1] = Interval(kept[-1].begin_s, rows[-1].end_s, kept[-1].label)
    return kept


def read_phn(
    path: Path | str,
    *,
    folding: str = "arpabet",
    words: Path | str | None = None,
    sampling_rate: float = 16_000,
    fill_gaps: bool = False,
) -> Alignment:
    """Read a phone file of TIMIT.

    Parameters
    ----------
    path
        A .PHN: lines "begin end label" in samples.
    folding
        ``"arpabet"``: the 39 phones of this project, each plosive with its closure. ``"39"``: the classes that recognisers are scored
        on, closures being silence. ``"61"``: the labels as they are. In upper case; the edges are ``SIL`` in all three. In the first two
        a glottal stop is dropped and its time goes to the phone behind it.
    words
        The .WRD of the same utterance, if words are wanted.
    sampling_rate
        Samples per second of the time stamps.
    fill_gaps
        Take stretches without phone as silence instead of refusing them.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If a line is damaged, times are negative, overlap or leave a gap, a label is not one of the 61, or words do not fit the phones.

    References
    ----------
    Lee & Hon (1989), Speaker-independent phone recognition using hidden Markov models: the folding.
    """
    if folding not in _FOLDINGS:
        raise ValueError(f"folding: expected one of {', '.join(_FOLDINGS)}, found {folding!r}")
    path = Path(path)
    rows = _read_rows(path, sampling_rate)
    if unknown := sorted({row.label for row in rows} - set(TIMIT_TO_39)):
        raise ValueError(f"{path}: {', '.join(map(repr, unknown))} are not among the 61 labels of TIMIT")
    whole = _without_gaps(rows, rows[0].begin_s, rows[-1].end_s, str(path), fill_gaps)
    whole = [row if row.label else Interval(row.begin_s, row.end_s, "pau") for row in whole]
    whole = _joined(whole) if folding == "arpabet" else whole
    whole = whole if folding == "61" else _without_glottal_stops(whole)
    if not whole:
        raise ValueError(f"{path}: nothing is left after folding: the file holds glottal stops only")
    bounds = np.array([*(row.begin_s for row in whole), whole[-1].end_s])
    spans = _word_spans(_read_rows(Path(words), sampling_rate, overlap=True), bounds, str(words)) if words else ()
    return Alignment(tuple(_FOLDINGS[folding][row.label].upper() for row in whole), bounds, (), spans)


def write_phn(
    path: Path | str, alignment: Alignment, *, words: Path | str | None = None, sampling_rate: float = 16_000
) -> None:
    """Write an alignment as .PHN (and .WRD) of TIMIT: samples, lower-case labels, ``h#`` for silence at the ends and ``pau`` between.

    Parameters
    ----------
    path
        The .PHN; written whole or not at all.
    alignment
        Phones of the 61 labels, in upper case; times are rounded to whole samples.
    words
        The .WRD, if wanted.
    sampling_rate
        Samples per second.

    Raises
    ------
    ValueError
        If a phone has no TIMIT label, lasts less than a sample, or begins before 0 s.
    """
    samples = np.round(alignment.boundaries_s * sampling_rate).astype(int)
    if samples[0] < 0 or (np.diff(samples) < 1).any():
        raise ValueError(f"alignment: at {sampling_rate} samples a second every phone needs one sample from 0 s on")
    inner = range(1, len(alignment.phones) - 1)
    labels = [
        ("pau" if i in inner else "h#") if name == SILENCE else name.lower() for i, name in enumerate(alignment.phones)
    ]
    if unknown := sorted(set(labels) - set(TIMIT_TO_39)):
        raise ValueError(f"alignment: {', '.join(unknown)} are not among the 61 labels of TIMIT")
    rows = zip(samples[:-1], samples[1:], labels, strict=True)
    write_text(Path(path), "".join(f"{begin} {end} {label}\n" for begin, end, label in rows))
    if words is not None:
        spans = ((samples[first], samples[last], text) for text, first, last in alignment.words)
        write_text(Path(words), "".join(f"{begin} {end} {text}\n" for begin, end, text in spans))
