"""Cost of features and of reading: log-mel against librosa's, reading against the bare decoder and resampler. Process time, one thread.

Run by ``make bench``; the ratio stands in ``extra_info`` and is printed.
"""

from __future__ import annotations

import time

import numpy as np
import pytest
import soundfile
import soxr
import torch

from paper_utils import audio
from paper_utils.audio_files import read_audio, write_wav

UTTERANCES, SECONDS, RATE = 100, 2, 16_000


def utterances(rate=RATE):
    generator = torch.Generator().manual_seed(0)
    return 0.1 * torch.randn(UTTERANCES, SECONDS * rate, generator=generator)


def compare(benchmark, name, ours, peer, peer_name):
    """Peer and ours take turns, so that a busy machine slows both; both are judged by their best process time."""
    seconds = {"ours": [], "peer": []}

    def timed(key, work):
        began = time.process_time()
        work()
        seconds[key].append(time.process_time() - began)

    benchmark.pedantic(lambda: timed("ours", ours), setup=lambda: timed("peer", peer), rounds=8, warmup_rounds=1)
    own, other = (min(seconds[key][1:]) for key in ("ours", "peer"))
    benchmark.extra_info.update(ours_s=own, peer_s=other, ratio=own / other, peer=peer_name)
    print(f"\n{name}: {own / other:.2f} x {peer_name} ({own * 1e3:.0f} ms against {other * 1e3:.0f} ms)")


@pytest.mark.parametrize("how", ["one batch", "one by one"])
def test_log_mel_against_librosa(benchmark, how):
    librosa = pytest.importorskip("librosa")
    samples = utterances()
    arrays = list(samples.numpy())

    def peer():
        for array in arrays:
            energies = librosa.feature.melspectrogram(
                y=array, sr=RATE, n_fft=512, win_length=400, hop_length=160, n_mels=64, htk=True, norm=None
            )
            np.log(np.maximum(energies, 1e-10))

    def ours():
        for part in [samples] if how == "one batch" else samples.split(1):
            audio.log_mel(part)

    compare(benchmark, f"log-mel of {UTTERANCES} x {SECONDS} s, {how}", ours, peer, "librosa")


@pytest.mark.parametrize("name", ["SPHINX_MEL", "MESHTALK_MEL"])
def test_convention_against_the_default(benchmark, name):
    samples = utterances()
    config = getattr(audio, name)
    compare(
        benchmark,
        f"{name} of {UTTERANCES} x {SECONDS} s",
        lambda: audio.log_mel(samples, config),
        lambda: audio.log_mel(samples),
        "the default convention",
    )


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_reading_against_soundfile_and_soxr_alone(benchmark, rate, tmp_path):
    paths = [tmp_path / f"{index:03d}.wav" for index in range(UTTERANCES)]
    for path, samples in zip(paths, utterances(rate), strict=True):
        write_wav(path, samples.clamp(-1, 1), rate)

    def peer():
        for path in paths:
            samples, found = soundfile.read(path, dtype="float32")
            if found != RATE:
                soxr.resample(samples, found, RATE)

    def ours():
        for path in paths:
            read_audio(path, RATE)

    compare(benchmark, f"reading {UTTERANCES} x {SECONDS} s at {rate} Hz", ours, peer, "soundfile and soxr alone")
