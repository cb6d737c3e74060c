"""Recordings on disk: read, resample, write; every fault of a file is named.

Decoders shorten a broken file without a word, and a data set of a hundred thousand recordings has some. Here they are refused.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr
import torch
from jaxtyping import Float
from torch import Tensor

from paper_utils import safe_files
from paper_utils.files import atomic_path

# Hz, choice of ours: no recording of speech lies outside, and a rate of 1 Hz would become sixteen thousand times as many samples.
RATES = (1_000, 1_000_000)
_FOREIGN_SUFFIXES = {".m4a", ".mp4", ".m4v", ".mov", ".aac", ".webm", ".mkv", ".mka", ".wma", ".asf", ".amr", ".3gp"}
_FOREIGN_STARTS = (
    (b"\x1aE\xdf\xa3", "Matroska/WebM"),
    (b"\x30\x26\xb2\x75", "ASF/WMA"),
    (b"#!AMR", "AMR"),
    (b"\xff\xf1", "AAC"),
    (b"\xff\xf9", "AAC"),
)
_UNKNOWN_LENGTHS = (
    0,
    0xFFFFFFFF,
    0x7FFFFFFF,
)  # what programs write that cannot go back to the header (ffmpeg, sox into a pipe)
_LARGEST_PEAK = 2.0  # choice of ours: lossy formats overshoot 1 by some per cent, unscaled integers by thousands
_OGG_PAGE = 27 + 255 + 255 * 255  # bytes at most
_LONGEST = 2**48  # samples; libsndfile reports 2**63 - 1 where a header gives no length
_MOST_NUMBERS = 2**29  # 2 GiB; three hours at 48 kHz. A few kilobytes of packed silence can promise any length
_BLOCK = 2**22  # samples decoded at once
_MP3_SLACK = 2 * 1152  # samples; an MP3's length is an estimate, and its last frames hold the encoder's padding


def read_audio(
    path: str | os.PathLike[str],
    sample_rate: int | None = 16_000,
    mono: bool = True,
    *,
    start_s: float = 0.0,
    duration_s: float | None = None,
    allow_resampling: bool = True,
) -> Float[Tensor, "*channels samples"]:
    """Read a recording, or a part of it, as float32 in [-1, 1].

    WAV, FLAC, Ogg, MP3, AIFF and whatever else libsndfile reads. The file is resampled first, then its channels are averaged (as paper 04's
    released code does). Overshoots of lossy formats and of the resampler are clipped.

    Parameters
    ----------
    path
        The file.
    sample_rate
        Hz of the result; None keeps the file's.
    mono
        True: average the channels, shape (samples,). False: keep them, shape (channels, samples).
    start_s, duration_s
        Part to read, in seconds of the file; without `duration_s` to its end. A part that is resampled knows nothing of the sound around it,
        which shows within a few ms of its ends.
    allow_resampling
        False: a file of another rate is an error.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is empty, truncated, no audio, in a container that libsndfile cannot read (the message has the command that converts it),
        holds NaN, infinite or unscaled values, has another rate although `allow_resampling` is False, or if the part lies outside it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such audio file{' (it is a folder)' if path.is_dir() else ''}")
    with path.open("rb") as file:
        start = file.read(12)
        _refuse_foreign_containers(path, start)
        if start[:4] == b"OggS":
            _refuse_cut_ogg(path, file)
        else:
            _refuse_short_chunks(path, file, start)
    samples, rate = _decode(path, start_s, duration_s)
    _refuse_bad_values(path, samples)
    if sample_rate is not None and rate != sample_rate:
        if not allow_resampling:
            raise ValueError(
                f"{path}: expected {sample_rate} Hz, found {rate} Hz; convert the file or allow resampling"
            )
        if not RATES[0] <= rate <= RATES[1]:
            raise ValueError(
                f"{path}: expected a sample rate of {RATES[0]} to {RATES[1]} Hz, found {rate} Hz; is the header damaged?"
            )
        with safe_files.prefixed(path):
            samples = _resampled(samples, rate, sample_rate, "HQ")
    if mono:
        samples = samples.mean(axis=1, dtype=np.float32) if samples.shape[1] > 1 else samples[:, 0]
    return torch.from_numpy(np.clip(samples.T, -1.0, 1.0, order="C"))


def _refuse_foreign_containers(path: Path, start: bytes) -> None:
    if not start:
        raise ValueError(f"{path}: the file is empty (0 bytes); download or copy it again")
    kind = next((name for magic, name in _FOREIGN_STARTS if start.startswith(magic)), None)
    if start[4:8] == b"ftyp":
        kind = "MP4/M4A"
    if (
        kind is None
        and path.suffix.lower() in _FOREIGN_SUFFIXES
        and start[:4] not in (b"RIFF", b"fLaC", b"OggS", b"FORM")
    ):
        kind = path.suffix.lower().lstrip(".")
    if kind is not None:
        target = path.with_suffix(".wav").name
        raise ValueError(
            f"{path}: {kind} is not supported; convert it first: ffmpeg -i {path.name} -ac 1 -ar 16000 -c:a pcm_s16le {target}"
        )


def _refuse_short_chunks(path: Path, file: BinaryIO, start: bytes) -> None:
    """Compare the length that a WAV or AIFF header promises with the file's: libsndfile silently takes the smaller."""
    promised, present = _sound_chunk(file, start)
    if promised is not None and promised > present:
        raise ValueError(
            f"{path}: truncated, its header promises {promised} bytes of sound and {present} are there "
            f"({100 * present / promised:.0f} %); download or copy it again"
        )


def _sound_chunk(file: BinaryIO, start: bytes) -> tuple[int | None, int]:
    """Bytes of sound that the header promises (None: it does not say) and that follow it; `file` stands behind its first 12 bytes."""
    form, kind = start[:4], start[8:]
    if form == b"FORM" and kind[:3] == b"AIF":
        order, wanted = ">", b"SSND"
    elif form in (b"RIFF", b"RF64", b"RIFX") and kind == b"WAVE":
        order, wanted = ">" if form == b"RIFX" else "<", b"data"
    else:
        return None, 0
    long_length = None
    while len(header := file.read(8)) == 8:
        name, length = struct.unpack(f"{order}4sI", header)
        if name == wanted:
            if length == 0xFFFFFFFF and long_length is not None:
                length = long_length
            return (None if length in _UNKNOWN_LENGTHS else length), os.fstat(file.fileno()).st_size - file.tell()
        body = 0
        if name == b"ds64":  # RF64 keeps lengths beyond 4 GiB here: of the file, then of the sound
            body = 16
            long_length = struct.unpack("<QQ", file.read(body).ljust(body, b"\0"))[1]
        file.seek(length + length % 2 - body, os.SEEK_CUR)
    return None, 0


def _refuse_cut_ogg(path: Path, file: BinaryIO) -> None:
    """The last page of an Ogg file is marked as such and complete; libsndfile takes the last one it finds for the end."""
    file.seek(-min(path.stat().st_size, 2 * _OGG_PAGE), os.SEEK_END)
    end = file.read()
    page = end[max(0, end.rfind(b"OggS")) :]
    segments = page[27 : 27 + page[26]] if len(page) > 26 else b""
    if not segments or not page[5] & 4 or len(page) < 27 + len(segments) + sum(segments):
        raise ValueError(
            f"{path}: truncated, the page that ends an Ogg file is missing or cut; download or copy it again"
        )


def _decode(path: Path, start_s: float, duration_s: float | None) -> tuple[np.ndarray, int]:
    """Samples (samples, channels) of the part, float32, and the file's rate."""
    try:
        with soundfile.SoundFile(path) as file:
            first, count = _part(path, file, start_s, duration_s)
            file.seek(first)
            samples, rate, slack = _blocks(file, count), file.samplerate, file.format == "MPEG"
    except soundfile.LibsndfileError as error:
        raise ValueError(
            f"{path}: not readable as audio ({error.error_string}); it is truncated, damaged or no sound file"
        ) from error
    if len(samples) < count - (_MP3_SLACK if slack else 0) or len(samples) == 0:
        raise ValueError(
            f"{path}: truncated, {count} samples were promised and {len(samples)} could be decoded; download or copy it again"
        )
    return samples, rate


def _blocks(file: soundfile.SoundFile, count: int) -> np.ndarray:
    """The next `count` samples of each channel, fewer if it ends; room is made for what comes, not for what a header promises."""
    parts = [file.read(min(count, _BLOCK), dtype="float32", always_2d=True)]
    while len(parts[-1]) == _BLOCK and (left := count - _BLOCK * len(parts)) > 0:
        parts.append(file.read(min(left, _BLOCK), dtype="float32", always_2d=True))
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _part(path: Path, file: soundfile.SoundFile, start_s: float, duration_s: float | None) -> tuple[int, int]:
    """First sample and number of samples to read."""
    rate, total = file.samplerate, file.frames
    if total == 0:
        raise ValueError(
            f"{path}: holds no samples by its header (no sound, truncated, or never finished); download or copy it again"
        )
    if total > _LONGEST:
        target = path.with_suffix(".wav").name
        raise ValueError(
            f"{path}: its header does not say how long it is (written into a pipe?); rewrite it: ffmpeg -i {path.name} {target}"
        )
    if not start_s >= 0 or (duration_s is not None and not duration_s > 0):
        raise ValueError(
            f"start_s and duration_s: expected start >= 0 and duration > 0, found {start_s} and {duration_s}"
        )
    first = round(start_s * rate)
    last = total if duration_s is None else first + round(duration_s * rate)
    if not first < last <= total:
        raise ValueError(
            f"{path}: the part from {start_s:g} s {'on' if duration_s is None else f'to {start_s + duration_s:g} s'} "
            f"does not lie within its {total / rate:g} s ({total} samples at {rate} Hz)"
        )
    if (last - first) * file.channels > _MOST_NUMBERS:
        raise ValueError(
            f"{path}: the part has {last - first} samples of {file.channels} channels by its header, more than the {_MOST_NUMBERS} numbers "
            "that are read at once; read it in parts, or is the header damaged?"
        )
    return first, last - first


def _refuse_bad_values(path: Path, samples: np.ndarray) -> None:
    peak = float(np.abs(samples).max())  # NaN if one is
    if not np.isfinite(peak):
        raise ValueError(f"{path}: {int((~np.isfinite(samples)).sum())} of {samples.size} samples are NaN or infinite")
    if peak > _LARGEST_PEAK:
        raise ValueError(
            f"{path}: expected samples in [-1, 1], found a peak of {peak:g}; are they integers stored as floats? Scale them"
        )


def resample(
    samples: Float[Tensor, "*batch samples"], from_rate: int, to_rate: int, *, quality: str = "HQ"
) -> Float[Tensor, "*batch resampled"]:
    """Change the sample rate with soxr's band-limited filters; about ``samples * to_rate / from_rate`` samples, rounded.

    Parameters
    ----------
    samples
        One recording, or any number of equal length. Computed on the CPU in float32 or float64 and returned in their type, on their device.
    from_rate, to_rate
        Hz.
    quality
        soxr's recipe: ``"HQ"`` (20 bits, computed in float32 whatever the input), ``"VHQ"`` (28 bits, in float64), ``"MQ"``, ``"LQ"``, ``"QQ"``.

    Raises
    ------
    ValueError
        If there are no samples, a rate is not positive, samples are NaN or infinite, or want a gradient, which soxr does not give.
    """
    if min(from_rate, to_rate) < 1:
        raise ValueError(f"from_rate and to_rate: expected positive rates in Hz, found {from_rate} and {to_rate}")
    if samples.ndim == 0 or samples.numel() == 0:
        raise ValueError(f"samples: expected (..., samples) with at least one sample, found {tuple(samples.shape)}")
    if not torch.isfinite(samples).all():
        raise ValueError("samples: found NaN or infinite values, which would spread over the whole recording")
    if samples.requires_grad and torch.is_grad_enabled():
        raise ValueError("samples: resampling gives no gradient; detach them first")
    if from_rate == to_rate:
        return samples
    wide = samples if samples.dtype == torch.float64 else samples.float()
    columns = np.ascontiguousarray(wide.detach().cpu().reshape(-1, samples.shape[-1]).numpy().T)
    result = torch.from_numpy(np.ascontiguousarray(_resampled(columns, from_rate, to_rate, quality).T))
    return result.reshape(*samples.shape[:-1], -1).to(samples)


def _resampled(columns: np.ndarray, from_rate: int, to_rate: int, quality: str) -> np.ndarray:
    resampled = soxr.resample(columns, from_rate, to_rate, quality=quality)
    if len(resampled) == 0:
        raise ValueError(f"samples: {len(columns)} samples at {from_rate} Hz are too short to resample to {to_rate} Hz")
    return resampled


def write_wav(path: str | os.PathLike[str], samples: Float[Tensor, "*channels samples"], rate: int) -> None:
    """Write a 16-bit WAV file, whole or not at all; what `read_audio` gave of a 16-bit file is written back bit by bit.

    Parameters
    ----------
    path
        Must end in ``.wav``; parent folders are made.
    samples
        In [-1, 1]: (samples,), or (channels, samples). 1.0 itself becomes the largest 16-bit value, 1 - 2^-15.
    rate
        Hz.

    Raises
    ------
    ValueError
        If the name does not end in ``.wav``, there are no samples, they exceed [-1, 1] or are NaN, or the rate is not positive.
    """
    path = Path(path)
    if path.suffix.lower() != ".wav":
        raise ValueError(f"{path}: expected a name that ends in .wav")
    if samples.ndim not in (1, 2) or samples.numel() == 0 or rate < 1:
        raise ValueError(
            f"{path}: expected samples (samples,) or (channels, samples) and a rate in Hz, found {tuple(samples.shape)} at {rate} Hz"
        )
    peak = float(samples.detach().abs().max())
    if not peak <= 1.0:
        raise ValueError(
            f"{path}: expected samples in [-1, 1], found a peak of {peak:g}; scale them down before writing"
        )
    integers = (samples.detach().cpu().double() * 32768).round().clamp(max=32767).to(torch.int16)
    with atomic_path(path) as temporary:
        soundfile.write(temporary, np.ascontiguousarray(integers.numpy().T), rate, format="WAV", subtype="PCM_16")
