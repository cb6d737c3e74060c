"""Utterances: words or phones in, timed phones with pitch, loudness and beats out.

Durations follow the rules of Klatt (1979) in a short form; boundaries are exact by construction. How it sounds and looks is not here:
the articulation turns an utterance into tract shapes and lips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
from jaxtyping import Float

from paper_utils.data.speech import SILENCE, Alignment
from paper_utils.world.lexicon import FUNCTION_WORDS, SENTENCES, Transcript, Word, read, transcribe
from paper_utils.world.phones import PHONES, VOWELS
from paper_utils.world.phonotactics import random_sentence
from paper_utils.world.prosody import ACCENTS, NEUTRAL, Accent, Prosody

# ---------------------------------------------------------------------------------------------------------- durations


@dataclass(frozen=True)
class DurationRules:
    """Factors on inherent durations.

    The kinds of rule are those of Klatt (1979), from memory, unverified; the numbers are rounded and set so that ordinary sentences run
    at 13 to 14 phones a second. Pauses and the spread are choices of ours.
    """

    running_vowel: float = 0.70  # inherent durations hold at the end of a phrase; elsewhere phones are shorter
    running_consonant: float = 0.85
    final_vowel: float = 1.40  # in the last syllable before a pause
    final_consonant: float = 1.20  # after its vowel
    unstressed_vowel: float = 0.60
    secondary_vowel: float = 0.85
    unstressed_onset: float = 0.80  # consonants before an unstressed vowel
    polysyllabic: float = 0.85  # vowels of words with more than one syllable
    before_voiceless: float = 0.80  # a vowel whose next consonant in the word is voiceless
    cluster_one_side: float = 0.75  # a consonant with one consonant beside it in its word
    cluster_both_sides: float = 0.60
    spread: float = 0.10  # standard deviation of the logarithm of each duration
    edge_ms: float = 120.0  # silence at both ends
    comma_ms: float = 180.0
    sentence_ms: float = 400.0


RULES = DurationRules()


def _is_voiceless_consonant(name: str) -> bool:
    return name not in VOWELS and not PHONES[name].voiced


def _next_vowel(vowel: np.ndarray) -> np.ndarray:
    """Index of the vowel that each phone of a word leads to; after the last vowel, that vowel. A word without vowel gives zeros."""
    where = np.flatnonzero(vowel)
    if not len(where):
        return np.zeros(len(vowel), dtype=int)
    return where[np.minimum(np.searchsorted(where, np.arange(len(vowel))), len(where) - 1)]


@lru_cache(maxsize=16384)
def _word_durations(word: Word, accent: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log durations (ms) of a word's phones inside a phrase, what the end of a phrase adds, and the floors (ms)."""
    manner = ACCENTS[accent]
    phones = manner.spoken(word.phones)
    vowel = np.array([name in VOWELS for name in phones])
    stress = np.array(word.stress)
    nucleus = _next_vowel(vowel)
    last = nucleus[-1]
    voiceless_next = np.array([*map(_is_voiceless_consonant, phones[1:]), False])
    beside = np.convolve(~vowel, [1, 0, 1])[1:-1]  # consonants next to each phone
    factors = np.where(vowel, RULES.running_vowel, RULES.running_consonant)
    factors *= np.where(vowel & (vowel.sum() > 1), RULES.polysyllabic, 1.0)
    factors *= np.where(vowel & voiceless_next, RULES.before_voiceless, 1.0)
    factors *= np.where(vowel, 1.0, np.array([1.0, RULES.cluster_one_side, RULES.cluster_both_sides])[beside])
    onset = ~vowel & (np.arange(len(phones)) < nucleus)
    reduction = np.where(vowel & (stress == 0), RULES.unstressed_vowel, 1.0)
    reduction *= np.where(vowel & (stress == 2), RULES.secondary_vowel, 1.0)
    reduction *= np.where(onset & (stress[nucleus] == 0), RULES.unstressed_onset, 1.0)
    rhyme = np.arange(len(phones)) >= last
    final = np.where(rhyme, np.where(vowel, RULES.final_vowel, RULES.final_consonant), 1.0)
    inherent = np.array([PHONES[name].duration_ms * manner.vowel_length.get(name, 1.0) for name in phones])
    logs = np.log(inherent) + np.log(factors) + manner.stress_contrast * np.log(reduction)
    return logs, manner.final_lengthening * np.log(final), np.array([PHONES[name].shortest_ms for name in phones])


@dataclass(frozen=True)
class _Layout:
    """A transcript as a row of phones with silences, and how long each would last without chance and at normal tempo."""

    phones: tuple[str, ...]
    intended: tuple[str, ...]
    stress: tuple[int, ...]
    words: tuple[tuple[str, int, int], ...]
    sentences: tuple[tuple[int, int, bool], ...]
    log_ms: np.ndarray
    floor_ms: np.ndarray


_PAUSE_MS = {",": RULES.comma_ms, ".": RULES.sentence_ms, "?": RULES.sentence_ms}


@lru_cache(maxsize=2048)
def _lay_out(transcript: Transcript, accent: int) -> _Layout:
    manner = ACCENTS[accent]
    phones, intended, stress, words, sentences = [SILENCE], [SILENCE], [-1], [], []
    log_ms, floor_ms = [[np.log(RULES.edge_ms)]], [[PHONES[SILENCE].shortest_ms]]
    begin, final = 1, len(transcript.words) - 1
    for i, (word, mark) in enumerate(zip(transcript.words, transcript.marks, strict=True)):
        words.append((word.text, len(phones), len(phones) + len(word.phones)))
        logs, lengthening, floors = _word_durations(word, accent)
        phones += manner.spoken(word.phones)
        intended += word.phones
        stress += word.stress
        log_ms.append(logs + lengthening if mark else logs)
        floor_ms.append(floors)
        if mark in (".", "?"):
            sentences.append((begin, len(phones), mark == "?"))
        if mark:
            phones.append(SILENCE)
            intended.append(SILENCE)
            stress.append(-1)
            log_ms.append([np.log(RULES.edge_ms if i == final else _PAUSE_MS[mark])])
            floor_ms.append([PHONES[SILENCE].shortest_ms])
            begin = len(phones) if mark != "," else begin
    return _Layout(
        tuple(phones),
        tuple(intended),
        tuple(stress),
        tuple(words),
        tuple(sentences),
        np.concatenate(log_ms),
        np.concatenate(floor_ms),
    )


def _seconds(layout: _Layout, rate: float, noise: np.ndarray | float = 0.0) -> np.ndarray:
    """Durations at a rate, with the spread times `noise`, none below its floor."""
    return np.maximum(np.exp(layout.log_ms + RULES.spread * noise) / rate, layout.floor_ms) / 1000


# ----------------------------------------------------------------------------------------------------------- contours


@dataclass(frozen=True)
class ContourRules:
    """Shape of pitch and loudness over an utterance: choices of ours within what studies of read English describe."""

    first: float = 1.12  # pitch falls along a sentence from this factor on the base
    last: float = 0.84  # to this one
    undulation: float = 0.05  # slow swing around it
    undulation_phones: float = 3.0  # its period
    accent: float = 0.15  # rise on a stressed syllable of strength 1
    accent_margin_s: float = 0.08  # how far its raised cosine reaches beyond the vowel on both sides
    question: float = 0.40  # rise at the end of a question
    question_s: float = 0.20  # over this long
    accent_db: float = 2.0  # an accented syllable is this much louder
    unaccented_beat: float = 0.3  # strength of a stressed syllable without pitch accent, and of secondary stress


CONTOUR = ContourRules()


def _raised_cosine(distance: np.ndarray) -> np.ndarray:
    """1 at distance 0, falling smoothly to 0 at distance 1 and beyond."""
    return 0.5 + 0.5 * np.cos(np.pi * np.clip(np.abs(distance), 0, 1))


def _checked_times(times_s: np.ndarray) -> np.ndarray:
    if not np.isfinite(times_s).all():
        raise ValueError(f"times_s: {int((~np.isfinite(times_s)).sum())} of {times_s.size} are NaN or infinite")
    return times_s


@dataclass(frozen=True)
class Utterance:
    """What is said, when each phone sounds, and how.

    Parameters
    ----------
    alignment
        Spoken phones with exact boundaries from 0 s, silence at both ends, stress of every phone, words.
    text
        As it was written.
    prosody
        Pitch, loudness, tempo and accents.
    accent
        Index into `ACCENTS`. Its consonants are already in the alignment; its vowel shift is for the articulation to apply.
    intended
        The phones of the reference accent, one for each spoken one. Empty: the same.
    sentences
        First phone, one past the last, and whether it is a question, of each sentence. Empty: one sentence.

    Raises
    ------
    ValueError
        If a phone is unknown, silence at an end or stress is missing, the accent does not exist, or lengths disagree.
    """

    alignment: Alignment
    text: str
    prosody: Prosody
    accent: int = 0
    intended: tuple[str, ...] = ()
    sentences: tuple[tuple[int, int, bool], ...] = ()

    def __post_init__(self) -> None:
        phones = self.alignment.phones
        if unknown := sorted(set(phones) - set(PHONES)):
            raise ValueError(
                f"utterance {self.text!r}: unknown phones {unknown}; expected ARPABET without stress digits"
            )
        if len(phones) < 3 or phones[0] != SILENCE or phones[-1] != SILENCE:
            raise ValueError(
                f"utterance {self.text!r}: expected {SILENCE} at both ends and speech between, found {phones}"
            )
        if not self.alignment.stress:
            raise ValueError(f"utterance {self.text!r}: the alignment does not say which vowels are stressed")
        _check_accent(self.accent)
        if self.intended and len(self.intended) != len(phones):
            raise ValueError(
                f"utterance {self.text!r}: expected {len(phones)} intended phones, found {len(self.intended)}"
            )
        if self.prosody.accents and len(self.prosody.accents) != len(self.alignment.words):
            raise ValueError(
                f"prosody.accents: expected one strength for each of the {len(self.alignment.words)} words of {self.text!r}, "
                f"found {len(self.prosody.accents)}"
            )

    @property
    def duration_s(self) -> float:
        """Length in seconds, silences included."""
        return self.alignment.duration_s

    @property
    def word_accents(self) -> tuple[float, ...]:
        """Strength of the pitch accent of each word: the prosody's, or 1 for content words and 0 for function words."""
        return self.prosody.accents or tuple(float(text not in FUNCTION_WORDS) for text, _, _ in self.alignment.words)

    @cached_property
    def _syllables(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Phone index, stress (1 or 2) and word accent of every stressed vowel."""
        stress = np.array(self.alignment.stress)
        strength = np.zeros(len(stress))
        for (_, first, last), accent in zip(self.alignment.words, self.word_accents, strict=True):
            strength[first:last] = accent
        where = np.flatnonzero(stress > 0)
        return where, stress[where], strength[where]

    def _accent_bumps(self, times_s: np.ndarray) -> np.ndarray:
        """Sum of the raised cosines of all pitch accents at each time."""
        where, stress, strength = self._syllables
        accented = (stress == 1) & (strength > 0)
        begin, end = self.alignment.boundaries_s[where[accented]], self.alignment.boundaries_s[where[accented] + 1]
        reach = (end - begin) / 2 + CONTOUR.accent_margin_s
        return _raised_cosine((times_s[:, None] - (begin + end) / 2) / reach) @ strength[accented]

    def _sentence_times(self, times_s: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Begin, end and question (0 or 1) of the sentence at each time; a pause belongs to the sentence before it."""
        table = np.array(self.sentences or ((1, len(self.alignment.phones) - 1, self.prosody.question),), dtype=int)
        begin, end = self.alignment.boundaries_s[table[:, 0]], self.alignment.boundaries_s[table[:, 1]]
        index = np.clip(np.searchsorted(begin, times_s, side="right") - 1, 0, None)
        return begin[index], end[index], table[index, 2]

    def pitch(self, times_s: Float[np.ndarray, " times"]) -> Float[np.ndarray, " times"]:
        r"""Factor on the speaker's base F0 at each time.

        .. math:: f(t) = p\,\bigl[d(t)\,(1 + 0.05\sin\phi(t))\,(1 + 0.15\,a(t))\,(1 + 0.4\,q(t))\bigr]^{r}

        with pitch :math:`p`, range :math:`r` (of the prosody times that of the accent), declination :math:`d` from 1.12 to 0.84 over each
        sentence, an undulation with a period of three phones, accents :math:`a` on stressed syllables, and the rise :math:`q` over the
        last 200 ms of a question.

        Parameters
        ----------
        times_s
            Seconds from the begin of the utterance, in any order. Before the first sentence and in pauses the nearest earlier value of
            the declination holds.

        Raises
        ------
        ValueError
            If a time is not finite.
        """
        times_s = _checked_times(times_s)
        bounds = self.alignment.boundaries_s
        begin, end, question = self._sentence_times(times_s)
        progress = np.clip((times_s - begin) / (end - begin), 0, 1)
        phones_passed = np.interp(times_s, bounds, np.arange(len(bounds)))
        swing = np.sin(2 * np.pi * phones_passed / CONTOUR.undulation_phones + self.prosody.undulation_phase)
        rise = question * _raised_cosine(np.clip((end - times_s) / CONTOUR.question_s, 0, 1))
        contour = np.log(CONTOUR.first + (CONTOUR.last - CONTOUR.first) * progress)
        contour += np.log1p(CONTOUR.undulation * swing) + np.log1p(CONTOUR.question * rise)
        contour += np.log1p(CONTOUR.accent * self._accent_bumps(times_s))
        return self.prosody.pitch * np.exp(self.prosody.pitch_range * ACCENTS[self.accent].pitch_range * contour)

    def loudness_db(self, times_s: Float[np.ndarray, " times"]) -> Float[np.ndarray, " times"]:
        """Level to add at each time, in dB: that of the prosody, and 2 dB on an accented syllable of strength 1.

        Parameters
        ----------
        times_s
            Seconds from the begin of the utterance.

        Raises
        ------
        ValueError
            If a time is not finite.
        """
        return self.prosody.loudness_db + CONTOUR.accent_db * self._accent_bumps(_checked_times(times_s))

    def beats(self) -> tuple[Float[np.ndarray, " beats"], Float[np.ndarray, " beats"]]:
        """Onsets of the stressed vowels in seconds, and their strengths.

        Primary stress has the strength of its word's pitch accent, but at least 0.3; secondary stress has 0.3. Gestures go with these.
        """
        where, stress, strength = self._syllables
        weak = CONTOUR.unaccented_beat
        return self.alignment.boundaries_s[where], np.where(stress == 1, np.maximum(strength, weak), weak)


# ----------------------------------------------------------------------------------------------------------- speaking


def _check_accent(accent: int) -> Accent:
    if not 0 <= accent < len(ACCENTS):
        raise ValueError(
            f"accent: expected 0 to {len(ACCENTS) - 1} ({', '.join(a.name for a in ACCENTS)}), found {accent}"
        )
    return ACCENTS[accent]


def _drawn_accents(layout: _Layout, rng: np.random.Generator) -> tuple[float, ...]:
    """Content words get 0.7 to 1.3, the last of each sentence 1.3 times as much, one in eight none; choices of ours."""
    chance = rng.random((2, len(layout.words)))
    strength = np.where(chance[0] < 1 / 8, 0.0, 0.7 + 0.6 * chance[1])
    content = np.array([text not in FUNCTION_WORDS for text, _, _ in layout.words])
    starts = np.array([first for _, first, _ in layout.words])
    for first, last, _ in layout.sentences:
        inside = np.flatnonzero(content & (starts >= first) & (starts < last))
        strength[inside[-1:]] = 1.3 * (0.7 + 0.6 * chance[1, inside[-1:]])
    return tuple((strength * content).tolist())


def utterance(
    text: str | Transcript, *, rng: np.random.Generator, prosody: Prosody = NEUTRAL, accent: int = 0
) -> Utterance:
    """Say something.

    What is drawn (the spread of durations, the strengths of accents, the phase of the undulation) does not depend on prosody or accent:
    the same generator state gives the same reading in another emotion or accent.

    Parameters
    ----------
    text
        Words of the lexicon with punctuation, a phone string such as ``"HH AH0 L OW1"``, or a transcript.
    rng
        Source of chance.
    prosody
        Manner. Given accents are kept, missing ones drawn.
    accent
        Index into `ACCENTS`.

    Returns
    -------
    Utterance
        Begins and ends with about 0.12 s of silence. Its prosody holds the accents and says whether the last sentence is a question.

    Raises
    ------
    ValueError
        If a word or phone is unknown (named, with the nearest known ones) or the accent does not exist.

    References
    ----------
    Klatt (1979), Synthesis by rule of segmental durations in English sentences.

    Examples
    --------
    >>> hello = utterance("HH AH0 L OW1", rng=np.random.default_rng(0))
    >>> hello.alignment.phones, len(hello.alignment.boundaries_s)
    (('SIL', 'HH', 'AH', 'L', 'OW', 'SIL'), 7)
    """
    manner = _check_accent(accent)
    layout = _lay_out(read(text) if isinstance(text, str) else text, accent)
    noise = rng.standard_normal(len(layout.phones))
    accents = _drawn_accents(layout, rng)
    phase = float(rng.uniform(0, 2 * np.pi))
    seconds = _seconds(layout, prosody.tempo * manner.tempo, noise)
    *before, (first, last, asked) = layout.sentences
    asked = asked or prosody.question
    return Utterance(
        alignment=Alignment(layout.phones, np.concatenate([[0.0], np.cumsum(seconds)]), layout.stress, layout.words),
        text=text if isinstance(text, str) else text.text,
        prosody=replace(prosody, accents=prosody.accents or accents, question=asked, undulation_phase=phase),
        accent=accent,
        intended=layout.intended,
        sentences=(*before, (first, last, asked)),
    )


def _any_sentence(rng: np.random.Generator, source: str) -> Transcript:
    if source == "words":
        return random_sentence(rng)
    return transcribe(SENTENCES[int(rng.integers(len(SENTENCES)))])


def _check_source(source: str) -> None:
    if source not in ("sentences", "words"):
        raise ValueError(f"source: expected 'sentences' (ordinary ones) or 'words' (random words), found {source!r}")


def of_length(
    seconds: float,
    *,
    rng: np.random.Generator,
    prosody: Prosody = NEUTRAL,
    accent: int = 0,
    source: str = "sentences",
) -> Utterance:
    """An utterance of exactly the wanted length: sentences in a row, cut after the best word, then stretched a little.

    The stretch is uniform: its standard deviation is 3 % at 4 s, 7 % at 2 s and 9 % at 1 s, and it alone may take a phone below its floor.

    Parameters
    ----------
    seconds
        Wanted length, silences included; at least 0.5.
    rng, prosody, accent
        As for `utterance`.
    source
        ``"sentences"``: ordinary ones; ``"words"``: random words that English could have had.

    Raises
    ------
    ValueError
        If `seconds` is below 0.5 or not finite, or the source or the accent is unknown.
    """
    _check_source(source)
    if not 0.5 <= seconds < np.inf:
        raise ValueError(f"seconds: expected at least 0.5 (silence at both ends and one word), found {seconds}")
    rate = prosody.tempo * _check_accent(accent).tempo
    words: tuple[Word, ...] = ()
    marks: tuple[str, ...] = ()
    while True:
        more = _any_sentence(rng, source)
        words, marks = words + more.words, marks + more.marks
        whole = Transcript.of(words, marks)
        layout = _lay_out(whole, accent)
        ends = np.cumsum(_seconds(layout, rate))
        if ends[-1] >= seconds:
            break
    # End of each word with the silence that would follow it. A last syllable is longer, so one word less may fit better.
    lengths = ends[[last - 1 for _, _, last in layout.words]] + RULES.edge_ms / 1000 / rate
    most = 1 + int(np.argmin(np.abs(np.log(lengths / seconds))))
    cuts = [whole.first(n) for n in sorted({max(most - 1, 1), most})]
    best = min(cuts, key=lambda cut: abs(np.log(_seconds(_lay_out(cut, accent), rate).sum() / seconds)))
    said = utterance(best, rng=rng, prosody=prosody, accent=accent)
    bounds = said.alignment.boundaries_s * (seconds / said.duration_s)
    bounds[-1] = seconds  # free of rounding, so that all utterances of a batch have the same number of frames
    return replace(said, alignment=replace(said.alignment, boundaries_s=bounds))


def utterances(
    count: int,
    *,
    rng: np.random.Generator,
    source: str = "sentences",
    seconds: float | None = None,
    prosody: Prosody | Sequence[Prosody] = NEUTRAL,
    accent: int | Sequence[int] = 0,
) -> list[Utterance]:
    """A batch of utterances.

    Parameters
    ----------
    count
        How many.
    rng
        Source of chance; the same state gives the same batch.
    source
        ``"sentences"``: ordinary ones, each as often as any other; ``"words"``: sentences of random words.
    seconds
        Exact length of each, or ``None`` for whole sentences.
    prosody, accent
        One for all, or one for each.

    Raises
    ------
    ValueError
        If there are not `count` prosodies or accents, or an argument is out of its range.
    """
    _check_source(source)
    if count < 0:
        raise ValueError(f"count: expected 0 or more, found {count}")
    manners = [prosody] * count if isinstance(prosody, Prosody) else list(prosody)
    accents = [accent] * count if isinstance(accent, int | np.integer) else [int(a) for a in accent]
    if len(manners) != count or len(accents) != count:
        raise ValueError(f"expected {count} prosodies and accents, found {len(manners)} and {len(accents)}")
    if seconds is not None:
        return [
            of_length(seconds, rng=rng, prosody=p, accent=a, source=source)
            for p, a in zip(manners, accents, strict=True)
        ]
    transcripts = _transcripts(count, rng, source)
    return [utterance(t, rng=rng, prosody=p, accent=a) for t, p, a in zip(transcripts, manners, accents, strict=True)]


def _transcripts(count: int, rng: np.random.Generator, source: str) -> list[Transcript]:
    """Random sentences, or the ordinary ones in a new order in every round."""
    if source == "words":
        return [random_sentence(rng) for _ in range(count)]
    rounds = -(-count // len(SENTENCES))
    order = [int(i) for _ in range(rounds) for i in rng.permutation(len(SENTENCES))]
    return [transcribe(SENTENCES[i]) for i in order[:count]]
