"""Alignment of speech with a transcript: what pocketsphinx finds, and what is said without it."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from paper_utils.data import forced_alignment

RATE = 16_000


def test_without_pocketsphinx_the_message_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    with pytest.raises(ImportError, match=r"pip install 'paper-utils\[align\]'.*Montreal Forced Aligner"):
        forced_alignment.align_text(torch.zeros(RATE), "hello")
    with pytest.raises(ValueError, match=r"expected words and 0.1 s of sound"):
        forced_alignment.align_text(torch.zeros(RATE), "...")


class Decoder:
    """Stands for pocketsphinx where it is not installed: "the the" from frame 12 to 40."""

    def __init__(self, **_):
        pass

    def lookup_word(self, word):
        return None if word == "xyzzy" else word

    def __getattr__(self, name):
        return lambda *_, **__: None

    def get_alignment(self):
        def word(name, *phones):
            return type("Word", (list,), {"name": name})(
                SimpleNamespace(name=phone, start=start, duration=duration) for phone, start, duration in phones
            )

        return [
            word("<s>", ("SIL", 0, 12)), word("the", ("DH", 12, 5), ("AH", 17, 8)), word("the(2)", ("DH", 25, 5), ("IY", 30, 10)),
            word("<sil>", ("SIL", 40, 5)), word("</s>", ("SIL", 45, 5)),
        ]  # fmt: skip


def test_an_alignment_is_made_of_what_pocketsphinx_finds(monkeypatch):
    module = ModuleType("pocketsphinx")
    module.Decoder = Decoder
    monkeypatch.setitem(sys.modules, "pocketsphinx", module)
    found = forced_alignment.align_text(torch.zeros(RATE), "The the.")
    assert found.phones == ("SIL", "DH", "AH", "DH", "IY", "SIL")
    np.testing.assert_allclose(found.boundaries_s, [0, 0.12, 0.17, 0.25, 0.3, 0.4, 0.5])
    assert found.words == (("the", 1, 3), ("the", 3, 5))
    with pytest.raises(ValueError, match="not in pocketsphinx's dictionary: xyzzy"):
        forced_alignment.align_text(torch.zeros(RATE), "the xyzzy")
    monkeypatch.setattr(Decoder, "get_alignment", lambda _: None)
    with pytest.raises(ValueError, match="cannot fit 'the' to this recording"):
        forced_alignment.align_text(torch.zeros(RATE), "the")
