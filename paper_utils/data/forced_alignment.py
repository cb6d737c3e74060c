"""Forced alignment of a transcript by pocketsphinx, for speech that comes without phone boundaries; an optional extra."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from types import ModuleType

import numpy as np
from jaxtyping import Float
from torch import Tensor

from paper_utils.data.speech import SILENCE, Alignment

SAMPLE_RATE = 16_000
FRAME_S = 0.01  # of pocketsphinx


def _pocketsphinx() -> ModuleType:
    try:
        return importlib.import_module("pocketsphinx")
    except ImportError as error:
        raise ImportError(
            "forced alignment needs pocketsphinx, which is not installed: pip install 'paper-utils[align]'; "
            "or align with the Montreal Forced Aligner and read its TextGrids (paper_utils.data.phone_corpora.read_textgrids)"
        ) from error


def align_text(samples: Float[Tensor, " samples"], text: str) -> Alignment:
    """Phones of a known text with their boundaries, in frames of 10 ms.

    American English with the dictionary that comes with pocketsphinx; on synthetic sentences with known boundaries about 20 ms off in the mean
    (a plosive's closure is counted differently, 35 ms).

    Parameters
    ----------
    samples
        Mono, 16 kHz, in [-1, 1].
    text
        Words; punctuation is ignored.

    Raises
    ------
    ImportError
        If pocketsphinx is not installed; the message says what to do.
    ValueError
        If there are no words or samples, a word is not in the dictionary, or the text does not fit the sound.
    """
    words = re.findall(r"[a-z']+", text.lower())
    if not words or len(samples) < SAMPLE_RATE // 10:
        raise ValueError(f"align_text: expected words and 0.1 s of sound, found {text!r} and {len(samples)} samples")
    sphinx = _pocketsphinx()
    decoder = sphinx.Decoder(samprate=SAMPLE_RATE, bestpath=False, loglevel="FATAL")
    unknown = [word for word in words if decoder.lookup_word(word) is None]
    if unknown:
        raise ValueError(f"align_text: not in pocketsphinx's dictionary: {', '.join(unknown)}; spell them otherwise")
    sound = (samples.detach().cpu().double().numpy().clip(-1, 1) * 32767).astype(np.int16).tobytes()
    try:
        decoder.set_align_text(" ".join(words))
        _decode(decoder, sound)
        decoder.set_alignment()
        _decode(decoder, sound)
        found = decoder.get_alignment()
        spans = [
            _Span(phone.name, word.name, number, phone.start, phone.start + phone.duration)
            for number, word in enumerate(found or ())
            for phone in word
        ]
    except RuntimeError as error:
        raise ValueError(
            f"align_text: pocketsphinx cannot fit {text!r} to this recording ({error}); leave it out"
        ) from error
    if not spans:
        raise ValueError(f"align_text: pocketsphinx cannot fit {text!r} to this recording; leave it out")
    return _alignment(spans)


def _decode(decoder: object, sound: bytes) -> None:
    decoder.start_utt()
    decoder.process_raw(sound, full_utt=True)
    decoder.end_utt()


@dataclass(frozen=True)
class _Span:
    """A phone in frames, and the word (of that number) that it belongs to."""

    phone: str
    word: str
    number: int
    first: int
    last: int

    @property
    def name(self) -> str:
        """ARPABET; fillers and noises are silence."""
        silent = self.phone in ("SIL", "+SPN+", "+NSN+") or self.word.startswith(("<", "["))
        return SILENCE if silent else self.phone


def _alignment(spans: list[_Span]) -> Alignment:
    """Phones from their first frame to the next one's; pauses next to each other are one, words hold their phones."""
    kept = [span for i, span in enumerate(spans) if not (i and span.name == spans[i - 1].name == SILENCE)]
    words: dict[int, tuple[str, int, int]] = {}
    for i, span in enumerate(kept):
        if span.name != SILENCE:
            text, first, _ = words.get(span.number, (re.sub(r"\(\d+\)$", "", span.word), i, i))
            words[span.number] = (text, first, i + 1)
    bounds = FRAME_S * np.array([*(span.first for span in kept), spans[-1].last], dtype=float)
    return Alignment(tuple(span.name for span in kept), bounds, (), tuple(words.values()))
