"""Recordings come back as they were written, and a broken file is refused by name."""

from __future__ import annotations

import inspect
import math
import struct

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from paper_utils.audio_files import read_audio, resample, write_wav

RATE = 16_000


def tone(hertz=440.0, rate=RATE, seconds=1.0, dtype=torch.float32):
    return (0.5 * torch.sin(2 * math.pi * hertz * torch.arange(round(rate * seconds)).double() / rate)).to(dtype)


@pytest.fixture
def wav(tmp_path):
    path = tmp_path / "tone.wav"
    write_wav(path, tone(), RATE)
    return path


def cut(path, keep, name=None):
    """The first part of a file, as a copy that broke off leaves it."""
    content = path.read_bytes()
    target = path.with_name(name or f"cut{path.suffix}")
    target.write_bytes(content[: keep if keep >= 0 else len(content) + keep])
    return target


# Round trips


@settings(max_examples=30, deadline=None)
@given(integers=arrays(np.int16, st.tuples(st.integers(1, 3), st.integers(1, 50))))
def test_sixteen_bits_survive_writing_and_reading(integers, tmp_path_factory):
    path = tmp_path_factory.mktemp("wav") / "any.wav"
    samples = torch.from_numpy(integers / np.float32(32768))
    write_wav(path, samples, RATE)
    assert torch.equal(read_audio(path, mono=False), samples)
    np.testing.assert_array_equal(soundfile.read(path, dtype="int16", always_2d=True)[0].T, integers)


def test_full_scale_is_the_largest_value_and_nothing_wraps(tmp_path):
    write_wav(tmp_path / "a.wav", torch.tensor([1.0, -1.0]), RATE)
    assert (read_audio(tmp_path / "a.wav") * 32768).tolist() == [32767, -32768]


def test_same_samples_give_the_same_bytes(wav):
    before = wav.read_bytes()
    write_wav(wav, tone(), RATE)
    assert wav.read_bytes() == before


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "mp3", "aiff"])
def test_formats_of_libsndfile_are_read(kind, tmp_path):
    path = tmp_path / f"tone.{kind}"
    soundfile.write(path, tone().numpy(), RATE)
    samples = read_audio(path)
    assert samples.dtype == torch.float32
    assert samples.shape == (RATE,)
    lossy = kind in ("ogg", "mp3")
    torch.testing.assert_close(samples[800:-800], tone()[800:-800], rtol=0, atol=0.02 if lossy else 1 / 32768)


def test_channels_are_averaged_or_kept(tmp_path):
    both = torch.stack([tone(300.0), 0.5 * tone(700.0)])
    write_wav(tmp_path / "two.wav", both, RATE)
    kept = read_audio(tmp_path / "two.wav", mono=False)
    torch.testing.assert_close(kept, both, rtol=0, atol=1 / 32768)
    torch.testing.assert_close(read_audio(tmp_path / "two.wav"), kept.mean(0))


def test_part_is_that_part_of_the_whole(wav):
    generator = torch.Generator().manual_seed(0)
    write_wav(wav, 0.1 * torch.randn(RATE, generator=generator), RATE)  # a tone would repeat itself
    whole = read_audio(wav)
    assert torch.equal(read_audio(wav, start_s=0.25, duration_s=0.5), whole[4000:12_000])
    assert torch.equal(read_audio(wav, start_s=0.75), whole[12_000:])
    assert torch.equal(read_audio(wav, duration_s=1.0), whole)


def test_overshoot_is_clipped(tmp_path):
    soundfile.write(tmp_path / "hot.wav", np.array([0.0, 1.3, -1.3]), RATE, subtype="FLOAT")
    assert read_audio(tmp_path / "hot.wav").tolist() == [0.0, 1.0, -1.0]


def test_header_without_a_length_is_read_to_the_end(wav):
    content = bytearray(wav.read_bytes())
    content[4:8] = content[40:44] = b"\xff" * 4  # what ffmpeg writes into a pipe
    wav.write_bytes(content)
    assert len(read_audio(wav)) == RATE


def test_chunks_before_the_sound_are_stepped_over(wav):
    content = wav.read_bytes()
    odd = b"LIST" + struct.pack("<I", 3) + b"abc\0"
    wav.write_bytes(content[:4] + struct.pack("<I", len(content) - 8 + len(odd)) + content[8:36] + odd + content[36:])
    assert len(read_audio(wav)) == RATE
    with pytest.raises(ValueError, match="promises 32000 bytes of sound and 31900 are there"):
        read_audio(cut(wav, -100))


def test_large_file_format_is_read_and_its_truncation_named(tmp_path):
    path = tmp_path / "large.wav"
    soundfile.write(path, tone().numpy(), RATE, format="RF64")
    assert path.read_bytes()[:4] == b"RF64"
    assert len(read_audio(path)) == RATE
    with pytest.raises(ValueError, match="truncated"):
        read_audio(cut(path, -1000))


# Resampling


@pytest.mark.parametrize(("from_rate", "to_rate"), [(16_000, 8000), (8000, 16_000), (44_100, 16_000), (16_000, 22_050)])
def test_resampled_tone_is_the_tone_at_the_other_rate(from_rate, to_rate):
    found = resample(tone(rate=from_rate, dtype=torch.float64), from_rate, to_rate)
    assert len(found) == to_rate
    torch.testing.assert_close(found[500:-500], tone(rate=to_rate, dtype=torch.float64)[500:-500], rtol=0, atol=1e-5)


def test_nothing_is_aliased():
    high = tone(7000.0, seconds=0.5)
    assert float(resample(high, 16_000, 8000)[200:-200].abs().max()) < 1e-4


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), factor=st.floats(-3, 3))
def test_resampling_is_linear_and_treats_each_recording_alone(seed, factor):
    generator = torch.Generator().manual_seed(seed)
    batch = torch.randn(2, 3, 800, generator=generator, dtype=torch.float64)
    found = resample(batch, 16_000, 11_025, quality="VHQ")
    assert found.shape[:2] == (2, 3)
    torch.testing.assert_close(found[1, 2], resample(batch[1, 2], 16_000, 11_025, quality="VHQ"), rtol=0, atol=1e-12)
    both = resample(batch[0] + factor * batch[1], 16_000, 11_025, quality="VHQ")
    torch.testing.assert_close(both, found[0] + factor * found[1], rtol=0, atol=1e-9)


def test_same_rate_changes_nothing_and_types_are_kept():
    samples = tone(seconds=0.1)
    assert torch.equal(resample(samples, RATE, RATE), samples)
    for dtype in (torch.float32, torch.float64, torch.float16):
        assert resample(samples.to(dtype), RATE, 8000).dtype == dtype


def test_reading_at_another_rate_is_reading_and_resampling(wav):
    found = read_audio(wav, 8000)
    torch.testing.assert_close(found, resample(read_audio(wav, None), RATE, 8000), rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("samples", "rates", "message"),
    [
        (torch.zeros(2, 0), (16_000, 8000), "at least one sample"),
        (torch.zeros(10), (0, 8000), "positive rates"),
        (torch.zeros(10), (16_000, -1), "positive rates"),
        (torch.full((10,), math.nan), (16_000, 8000), "NaN or infinite"),
        (torch.zeros(10, requires_grad=True), (16_000, 8000), "no gradient"),
        (torch.zeros(1), (192_000, 100), "too short to resample"),
    ],
)
def test_resample_refuses(samples, rates, message):
    with pytest.raises(ValueError, match=message):
        resample(samples, *rates)


# Broken files


def test_missing_file_and_folder_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nobody\.wav: no such audio file"):
        read_audio(tmp_path / "nobody.wav")
    with pytest.raises(FileNotFoundError, match="it is a folder"):
        read_audio(tmp_path)


def test_empty_file_is_named(tmp_path):
    (tmp_path / "nothing.wav").touch()
    with pytest.raises(ValueError, match=r"nothing\.wav: the file is empty"):
        read_audio(tmp_path / "nothing.wav")


def test_header_without_sound_is_named(tmp_path):
    soundfile.write(tmp_path / "header.wav", np.zeros(0), RATE)
    with pytest.raises(ValueError, match=r"header\.wav: holds no samples"):
        read_audio(tmp_path / "header.wav")


@pytest.mark.parametrize("keep", [-1, -16_000, 44, 300])
def test_truncated_wav_is_not_silently_shortened(wav, keep):
    with pytest.raises(ValueError, match=r"cut\.wav: truncated, its header promises 32000 bytes of sound and \d+ are"):
        read_audio(cut(wav, keep))


@pytest.mark.parametrize("kind", ["flac", "ogg", "mp3", "aiff"])
@pytest.mark.parametrize("share", [0.3, 0.8])
def test_truncated_file_of_another_format_is_named(kind, share, tmp_path):
    path = tmp_path / f"tone.{kind}"
    generator = np.random.default_rng(0)
    soundfile.write(path, 0.1 * generator.standard_normal(20 * RATE), RATE)
    with pytest.raises(ValueError, match=rf"cut\.{kind}: .*truncated"):
        read_audio(cut(path, round(share * path.stat().st_size)))


def test_last_byte_of_an_ogg_file_is_missed(tmp_path):
    soundfile.write(tmp_path / "tone.ogg", tone().numpy(), RATE)
    with pytest.raises(ValueError, match="ends an Ogg file is missing or cut"):
        read_audio(cut(tmp_path / "tone.ogg", -1))


def test_flac_of_unknown_length_is_named_with_the_remedy(tmp_path):
    path = tmp_path / "pipe.flac"
    soundfile.write(path, tone().numpy(), RATE)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0  # the 36 bits of the number of samples
    content[22:26] = b"\0" * 4
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"does not say how long it is .*ffmpeg -i pipe\.flac pipe\.wav"):
        read_audio(path)


@pytest.mark.parametrize("content", [b"this is no sound at all, " * 20, b"RIFF", b"x"])
def test_what_is_no_audio_is_named(content, tmp_path):
    (tmp_path / "text.wav").write_bytes(content)
    with pytest.raises(ValueError, match=r"text\.wav: not readable as audio"):
        read_audio(tmp_path / "text.wav")


@pytest.mark.parametrize(
    ("name", "start", "kind"),
    [
        ("00001.m4a", b"\0\0\0\x20ftypM4A \0\0\2\0", "MP4/M4A"),
        ("clip.mp4", b"\0\0\0\x18ftypmp42", "MP4/M4A"),
        ("wrong_name.wav", b"\0\0\0\x20ftypM4A ", "MP4/M4A"),
        ("sound.aac", b"\xff\xf1\x50\x80\x02\x1f\xfc", "AAC"),
        ("video.webm", b"\x1aE\xdf\xa3\x01\0\0\0", "Matroska/WebM"),
        ("old.wma", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "ASF/WMA"),
        ("raw.aac", b"anything else", "aac"),
    ],
)
def test_foreign_container_is_named_with_the_command_that_converts_it(name, start, kind, tmp_path):
    (tmp_path / name).write_bytes(start + b"\0" * 100)
    stem = name.rsplit(".", 1)[0]
    with pytest.raises(ValueError, match=rf"{kind} is not supported.*ffmpeg -i {name} -ac 1 -ar 16000 .*{stem}\.wav"):
        read_audio(tmp_path / name)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_values_that_are_not_finite_are_counted(bad, tmp_path):
    soundfile.write(tmp_path / "bad.wav", np.array([0.0, bad, 0.5, bad]), RATE, subtype="FLOAT")
    with pytest.raises(ValueError, match=r"bad\.wav: 2 of 4 samples are NaN or infinite"):
        read_audio(tmp_path / "bad.wav")


def test_integers_stored_as_floats_are_named(tmp_path):
    soundfile.write(tmp_path / "big.wav", np.array([0.0, 12_000.0]), RATE, subtype="FLOAT")
    with pytest.raises(ValueError, match="peak of 12000; are they integers"):
        read_audio(tmp_path / "big.wav")


def test_another_rate_is_an_error_where_resampling_is_forbidden(wav):
    with pytest.raises(ValueError, match=r"tone\.wav: expected 22050 Hz, found 16000 Hz"):
        read_audio(wav, 22_050, allow_resampling=False)
    assert len(read_audio(wav, RATE, allow_resampling=False)) == RATE


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"start_s": 1.0}, "the part from 1 s on does not lie within its 1 s"),
        ({"start_s": 0.5, "duration_s": 0.6}, r"from 0\.5 s to 1\.1 s does not lie"),
        ({"start_s": -0.1}, "start >= 0"),
        ({"duration_s": 0.0}, "duration > 0"),
        ({"start_s": math.nan}, "start >= 0"),
    ],
)
def test_part_outside_the_file_is_refused(wav, part, message):
    with pytest.raises(ValueError, match=message):
        read_audio(wav, **part)


# Writing


@pytest.mark.parametrize(
    ("name", "samples", "rate", "message"),
    [
        ("a.flac", torch.zeros(4), RATE, r"ends in \.wav"),
        ("a.wav", torch.zeros(0), RATE, "expected samples"),
        ("a.wav", torch.zeros(4), 0, "at 0 Hz"),
        ("a.wav", torch.tensor([0.0, 1.01]), RATE, r"peak of 1\.01"),
        ("a.wav", torch.tensor([0.0, math.nan]), RATE, "peak of nan"),
    ],
)
def test_write_refuses_and_leaves_nothing(name, samples, rate, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        inspect.unwrap(write_wav)(tmp_path / name, samples, rate)
    assert list(tmp_path.iterdir()) == []


def test_failed_write_keeps_the_old_file(wav, monkeypatch):
    before = wav.read_bytes()

    def fail(path, *_args, **_kwargs):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(soundfile, "write", fail)
    with pytest.raises(OSError, match="disk full"):
        write_wav(wav, 0.5 * tone(), RATE)
    assert wav.read_bytes() == before
    assert list(wav.parent.iterdir()) == [wav]
