"""Recordings: exact phones, one number of severity, switches of the tract, the cache."""

import dataclasses

import numpy as np
import pytest
import torch

from paper_utils.world import recordings as rc
from paper_utils.world.people import Population

TEXTS = ("M AE1 N", "P AA1 P AA1")


@pytest.fixture(scope="module")
def people():
    return Population(seed=1, size=4).people()


@pytest.fixture(scope="module")
def read(people):
    return rc.speak(people, 2, np.random.default_rng(0), texts=TEXTS)


def record(people, spoken, **options):
    return rc.record(people, spoken, np.random.default_rng(1), **{"severity": 0.0, "mel": 20, **options})


def test_a_recording_holds_what_was_said_by_whom(people, read):
    voices = record(people, read)
    assert len(voices) == 8
    assert voices.identities.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    for index, spoken in enumerate(read):
        one = voices[index]
        assert one.alignment.phones == spoken.alignment.phones
        np.testing.assert_allclose(one.alignment.boundaries_s, spoken.alignment.boundaries_s, atol=1e-6)
        assert len(one.log_mel) == 1 + int(spoken.duration_s * 16_000 + 1e-3) // 160


def test_phone_of_frame_agrees_with_each_alignment(people, read):
    voices = record(people, read)
    phones = voices.phone_of_frame()
    for index in range(len(voices)):
        one = voices[index]
        times = np.arange(len(one.log_mel)) * 0.01
        expected = [one.alignment.phones[i] for i in one.alignment.phone_at(times)]
        found = phones[voices.starts[index] : voices.starts[index + 1]].tolist()
        agree = np.mean([voices.phone_names[code] == name for code, name in zip(found, expected, strict=True)])
        assert agree > 0.97  # a boundary may fall on a frame to within rounding of single precision


def test_everybody_speaks_at_his_own_tempo_with_his_own_accent(people):
    spoken = rc.speak(people, 1, np.random.default_rng(0), texts=("DH IH1 S M AE1 N",))
    assert [u.accent for u in spoken] == people.accent.tolist()
    assert [u.prosody.tempo for u in spoken] == pytest.approx(people.speakers.tempo.tolist())


def test_recordings_of_a_fixed_length_stack(people):
    spoken = rc.speak(people, 2, np.random.default_rng(0), seconds=1.0)
    assert record(people, spoken).stacked().shape == (8, 101, 20)


def test_severity_is_how_much_sessions_differ(people):
    alike = [u for u in rc.speak(people, 1, np.random.default_rng(0), texts=("AA1",)) for _ in range(2)]

    def difference(severity):
        voices = record(people, alike, severity=severity)
        loud = [voices[i].log_mel for i in range(len(voices))]
        return float(np.mean([(loud[i] - loud[i + 1]).abs().mean() for i in range(0, len(loud), 2)]))

    clean, usual, strong = map(difference, (0.0, 1.0, 3.0))
    assert clean < usual < strong


def test_a_muted_nose_changes_nasals_and_leaves_oral_phones_alone(people, read):
    open_nose, mute = (record(people, read, mute_nose=mute) for mute in (False, True))
    oral = slice(*open_nose.starts[1:3].tolist())  # P AA P AA of the first person
    torch.testing.assert_close(open_nose.log_mel[oral], mute.log_mel[oral])
    nasal = slice(*open_nose.starts[0:2].tolist())
    assert (open_nose.log_mel[nasal] - mute.log_mel[nasal]).abs().max() > 1.0


def test_the_same_seed_gives_the_same_bits(people, read):
    first, second = (record(people, read, severity=1.0) for _ in range(2))
    assert torch.equal(first.log_mel, second.log_mel)


def test_voices_come_from_disk_the_second_time(monkeypatch):
    population = Population(seed=2, size=5)
    first = rc.voices(population, range(2, 4), 1, texts=TEXTS, mel=20)
    monkeypatch.setattr(rc, "speak", None)
    second = rc.voices(population, range(2, 4), 1, texts=TEXTS, mel=20)
    for field in dataclasses.fields(first):
        a, b = getattr(first, field.name), getattr(second, field.name)
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else str(a) == str(b), field.name


def test_wrong_requests_are_named(people, read):
    with pytest.raises(ValueError, match="per_person: expected at least 1, found 0"):
        rc.speak(people, 0, np.random.default_rng(0))
    with pytest.raises(ValueError, match="texts: expected at least one to read"):
        rc.speak(people, 1, np.random.default_rng(0), texts=())
    with pytest.raises(ValueError, match="7 utterances cannot be shared out equally among 4 people"):
        rc.record(people, read[:7], np.random.default_rng(0))
    voices = rc.record(people, read, np.random.default_rng(0), mel=20)
    with pytest.raises(ValueError, match="cut windows of one length"):
        voices.stacked()
    with pytest.raises(IndexError, match="recording 8 of 8"):
        voices[8]
