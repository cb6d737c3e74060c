"""VoxCeleb in the official layout: the front end, recordings and stored features, and what is refused."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paper_utils.data import voxceleb as vx
from paper_utils.data.voice_features import FrontEnd
from paper_utils.training import batch_indices

RATE = 16_000


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def speech(seconds: float, seed: int = 0) -> np.ndarray:
    """Syllables of a buzz in weak noise: what voice activity takes for speech."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    buzz = sum(np.sin(2 * np.pi * 120 * k * time) / k for k in range(1, 20))
    return 0.1 * buzz * (np.sin(2 * np.pi * 1.5 * time) > 0) + 0.001 * rng.standard_normal(len(time))


def record(path: Path, samples: np.ndarray, rate: int = RATE, subtype: str = "PCM_16") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, subtype=subtype)
    return path


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    """Three speakers: two recordings, one, one that is shorter than a window of 25 ms."""
    root = tmp_path / "wav"
    record(root / "id10270" / "5r0dWxy17C8" / "00001.wav", speech(1.5, 1))
    record(root / "id10003" / "E_6MjfYr0sQ" / "00019.wav", speech(2.0, 2))
    record(root / "id10003" / "K5zRxtXc27s" / "00001.wav", speech(1.0, 3))
    record(root / "id10004" / "-pNaW3G9hcM" / "00001.wav", speech(2.0, 4)[:333])
    return root


# ----------------------------------------------------------------------------------------------------------- recordings


def test_the_index_is_sorted_and_opens_nothing(wav):
    record(wav / "id10003" / "E_6MjfYr0sQ" / "._00019.wav", speech(0.1))
    write(wav / "id10003" / "notes.txt", "x")
    write(wav / "id10004" / "-pNaW3G9hcM" / "00002.wav", "no sound at all")
    (wav / "id10005" / "empty").mkdir(parents=True)
    recordings = vx.read_wav(wav)
    assert recordings.paths.tolist() == [
        "id10003/E_6MjfYr0sQ/00019.wav",
        "id10003/K5zRxtXc27s/00001.wav",
        "id10004/-pNaW3G9hcM/00001.wav",
        "id10004/-pNaW3G9hcM/00002.wav",
        "id10270/5r0dWxy17C8/00001.wav",
    ]
    assert recordings.identity_names == ("id10003", "id10004", "id10270")
    assert recordings.identities.tolist() == [0, 0, 1, 1, 2]
    assert recordings.skipped == (
        "id10003/notes.txt",
        "id10003/E_6MjfYr0sQ/._00019.wav",
        "id10005/ (no <id>/<video>/<clip>.wav)",
    )


@pytest.mark.parametrize("name", ["chirps_a", "short_a", "silence_a"])
def test_features_of_a_file_equal_the_authors(name, reference, tmp_path):
    audio, expected = (np.load(reference / "audio" / f"sphinx_{kind}.npz") for kind in ("audio", "features"))
    record(tmp_path / "wav" / "id10001" / "v" / "00001.wav", audio[name])
    recordings = vx.read_wav(tmp_path / "wav", front_end=FrontEnd(activity="none"))
    features = recordings.features(0)
    once = expected[f"{name}__norm"]
    assert features.shape == (1000, 64)
    np.testing.assert_allclose(features, once[np.arange(1000) % len(once)], rtol=0, atol=1e-3)


def test_recordings_become_the_sample_types_of_the_world(wav):
    recordings = vx.read_wav(wav, front_end=FrontEnd(no_speech="whole"))
    one = recordings[3]
    assert (one.identity, one.hop_ms, one.alignment) == (2, 10.0, None)
    assert one.log_mel.shape == (1000, 64)
    voices = recordings.load(torch.tensor([3, 0]))
    assert voices.identities.tolist() == [2, 0]
    assert voices.stacked().shape == (2, 1000, 64)
    assert torch.equal(voices[0].log_mel, one.log_mel)
    assert voices[1].alignment is None
    with pytest.raises(ValueError, match="the phones of 2 of 2 recordings are not known; align them first"):
        voices.phone_of_frame()
    with pytest.raises(ValueError, match=r"1 of 4 recordings take 256000 bytes, more than the 1000 allowed"):
        recordings.load(max_bytes=1000)
    with pytest.raises(IndexError, match="recording 4 of 4"):
        recordings[4]


def test_the_fingerprint_changes_with_list_speakers_and_front_end(wav):
    recordings = vx.read_wav(wav)
    others = [
        vx.read_wav(wav, front_end=FrontEnd(activity="none")),
        replace(recordings, identities=recordings.identities.flip(0)),
        replace(recordings, paths=recordings.paths[::-1]),
    ]
    assert vx.read_wav(wav).fingerprint == recordings.fingerprint
    assert len({recordings.fingerprint, *(other.fingerprint for other in others)}) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rate": 8000}, "expected 16000 Hz, found 8000 Hz"),
        ({"subtype": "FLOAT"}, "samples are FLOAT, VoxCeleb's are PCM_16; convert it: ffmpeg"),
        ({"stereo": True}, "2 channels, VoxCeleb has one; convert it: ffmpeg -i IN -ac 1 OUT.wav"),
        ({"cut": True}, "truncated, its header promises 64000 bytes"),
        ({"text": True}, "not readable as audio"),
        ({"empty": True}, r"the file is empty \(0 bytes\)"),
    ],
)
def test_a_corrupt_or_foreign_recording_is_named(arguments, message, wav):
    path = wav / "id10003" / "E_6MjfYr0sQ" / "00019.wav"
    samples = speech(2.0)
    if arguments.pop("stereo", False):
        samples = np.column_stack([samples, samples])
    damage = next((arguments.pop(key) and key for key in ("cut", "text", "empty") if key in arguments), None)
    record(path, samples, **arguments)
    if damage:
        path.write_bytes({"cut": path.read_bytes()[:30_000], "text": b"no sound" * 9, "empty": b""}[damage])
    with pytest.raises(ValueError, match=rf"id10003/E_6MjfYr0sQ/00019\.wav: {message}"):
        vx.read_wav(wav).features(0)


def test_a_recording_that_has_gone_is_named(wav):
    recordings = vx.read_wav(wav)
    (wav / "id10003" / "E_6MjfYr0sQ" / "00019.wav").unlink()
    with pytest.raises(FileNotFoundError, match=r"id10003/E_6MjfYr0sQ/00019\.wav: no such audio file"):
        recordings.features(0)


def test_voxceleb2_as_distributed_is_refused_with_the_way_out(tmp_path):
    root = tmp_path / "aac"
    for clip in ("00001", "00002"):
        write(root / "id00012" / "21Uxsk56VDQ" / f"{clip}.m4a", "x")
    with pytest.raises(
        ValueError,
        match=r"2 files are AAC as VoxCeleb2 is distributed \(\.m4a\), which is not supported: .*ffmpeg -i id00012/21Uxsk56VDQ/00001\.m4a "
        r"-ac 1 -ar 16000 -c:a pcm_s16le wav/id00012/21Uxsk56VDQ/00001\.wav",
    ):
        vx.read_wav(root)
    # Converted beside the originals they are recordings, and the originals are listed.
    for clip in ("00001", "00002"):
        record(root / "id00012" / "21Uxsk56VDQ" / f"{clip}.wav", speech(1.0))
    recordings = vx.read_wav(root)
    assert len(recordings) == 2
    assert len(recordings.skipped) == 2


def test_a_wrong_folder_is_explained(wav, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere: no such folder; expected <id>/<video>/<clip>\.wav in it"):
        vx.read_wav(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"found no file <id>/<video>/<clip>\.wav \(4 other files: .*; is it .*/wav\?"):
        vx.read_wav(tmp_path)
    with pytest.raises(ValueError, match=r"found no file <id>/<video>/<clip>\.npy \(4 other files"):
        vx.read_features(wav)


# ------------------------------------------------------------------------------------------------------ stored features


def stored(root: Path, lengths: dict[str, int], dtype: str = "float32") -> vx.SpeakerRecordings:
    """Features whose every value is 1000 times the recording's number plus the frame's."""
    for number, (path, length) in enumerate(lengths.items()):
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        np.save(target, np.repeat(1000.0 * number + np.arange(length), 64).reshape(length, 64).astype(dtype))
    return vx.read_features(root)


def test_features_are_written_once_and_read_back_bit_by_bit(wav, tmp_path):
    record(wav / "id10003" / "K5zRxtXc27s" / "00001.wav", np.zeros(RATE))
    write(wav / "id10270" / "5r0dWxy17C8" / "00002.wav", "no sound at all")
    recordings, seen = vx.read_wav(wav), []
    done = vx.write_features(recordings, tmp_path / "fbank", report=seen.append)
    assert (done.written, done.present, len(done.left_out), sum(seen)) == (2, 0, 3, 5)
    assert [path for path, _ in done.left_out] == [
        "id10003/K5zRxtXc27s/00001.wav",
        "id10004/-pNaW3G9hcM/00001.wav",
        "id10270/5r0dWxy17C8/00002.wav",
    ]
    for (_, reason), words in zip(done.left_out, ("no speech", "no speech", "not readable as audio"), strict=True):
        assert words in reason
    features = vx.read_features(tmp_path / "fbank")
    assert features.paths.tolist() == ["id10003/E_6MjfYr0sQ/00019.npy", "id10270/5r0dWxy17C8/00001.npy"]
    assert features.skipped == ()
    assert torch.equal(features.features(0), recordings.features(0))
    again = vx.write_features(recordings, tmp_path / "fbank")
    assert (again.written, again.present, again.left_out) == (0, 2, done.left_out)
    with pytest.raises(ValueError, match=r"front_end\.json: the features in .* were made by another front end"):
        vx.write_features(vx.read_wav(wav, front_end=FrontEnd(minimum=1)), tmp_path / "fbank")
    with pytest.raises(ValueError, match="these are features already"):
        vx.write_features(features, tmp_path / "other")


def test_stored_features_lie_under_identifier_or_name_at_any_depth(tmp_path):
    recordings = stored(tmp_path / "fbank", {"id10001/v/00001.npy": 5, "Zoe_Saldana/a.npy": 5, "id10001/v/w/1.npy": 5})
    assert recordings.identity_names == ("Zoe_Saldana", "id10001")
    assert recordings.identities.tolist() == [0, 1, 1]
    np.save(tmp_path / "fbank" / "loose.npy", np.zeros((3, 64)))
    assert vx.read_features(tmp_path / "fbank").skipped == ("loose.npy",)


@given(seed=st.integers(0, 10_000), window=st.integers(1, 60), shortest=st.integers(1, 60))
@settings(max_examples=40)
def test_crops_are_consecutive_frames_of_their_recording(tmp_path_factory, seed, window, shortest):
    root = tmp_path_factory.getbasetemp() / "fbank"
    lengths = {"a/1.npy": 90, "b/1.npy": 61, "c/1.npy": 60}
    recordings = vx.read_features(root) if root.exists() else stored(root, lengths)
    spans = vx.Spans(window=max(window, shortest), shortest=min(window, shortest))
    rows = torch.tensor([2, 0, 1, 0])
    crops = recordings.crops(rows, generator=torch.Generator().manual_seed(seed), spans=spans)
    assert spans.shortest <= crops.shape[1] <= spans.window
    for row, crop in zip(rows.tolist(), crops, strict=True):
        frames = crop[:, 0] - 1000 * row
        assert torch.equal(crop, crop[:, :1].expand(-1, 64))
        assert torch.equal(frames, frames[0] + torch.arange(len(frames)))
        assert 0 <= frames[0] <= frames[-1] < list(lengths.values())[row]


def test_stored_features_shorter_than_the_window_are_named(tmp_path):
    recordings = stored(tmp_path / "fbank", {"a/1.npy": 800, "b/1.npy": 799})
    published = {"generator": torch.Generator().manual_seed(0)}
    recordings.crops(torch.tensor([0]), **published)
    with pytest.raises(
        vx.FeatureError, match=r"fbank/b/1\.npy: expected at least the 800 frames of a training window, found 799"
    ):
        recordings.crops(torch.tensor([0, 1]), **published)
    recordings.crops(torch.tensor([0, 1]), **published, spans=vx.Spans(window=799))


def test_sound_shorter_than_the_window_is_repeated(wav):
    recordings = vx.read_wav(wav, front_end=FrontEnd(activity="none", minimum=1))
    whole = recordings.features(1)
    assert len(whole) < 110
    (crop,) = recordings.crops(torch.tensor([1]), generator=torch.Generator().manual_seed(0), spans=vx.Spans(300, 300))
    first = int((whole == crop[0]).all(1).nonzero()[0, 0])
    assert torch.equal(crop, whole[(first + torch.arange(300)) % len(whole)])


def test_every_window_and_every_length_is_drawn(tmp_path):
    recordings = stored(tmp_path / "fbank", {"a/1.npy": 12, "b/1.npy": 12})
    generator = torch.Generator().manual_seed(0)
    spans = vx.Spans(window=10, shortest=8)
    drawn = [recordings.crops(torch.tensor([0, 0]), generator=generator, spans=spans) for _ in range(300)]
    assert {crop.shape[1] for crop in drawn} == {8, 9, 10}
    assert {int(crop[0, 0, 0]) for crop in drawn} == {0, 1, 2, 3, 4}
    assert {int(crop[0, -1, 0]) for crop in drawn} == {7, 8, 9, 10, 11}
    # Items of a batch lie apart by their windows only, of which there are three.
    assert {int(crop[0, 0, 0] - crop[1, 0, 0]) for crop in drawn} == {-2, -1, 0, 1, 2}


def test_published_spans_are_300_to_800_frames(tmp_path):
    recordings = stored(tmp_path / "fbank", {"a/1.npy": 900, "b/1.npy": 800})
    generator = torch.Generator().manual_seed(0)
    lengths = {recordings.crops(torch.tensor([0, 1]), generator=generator).shape[1] for _ in range(60)}
    assert 300 <= min(lengths) < 350
    assert 750 < max(lengths) <= 800


def test_batches_of_crops_depend_on_seed_and_step_only(tmp_path):
    recordings = stored(tmp_path / "fbank", {f"{name}/1.npy": 40 + number for number, name in enumerate("abcde")})
    batches = [batch_indices(5, 3, step, seed=0) for step in range(6)]
    spans = vx.Spans(window=30, shortest=5)
    first = list(vx.crops_ahead(recordings, batches, seed=1, spans=spans))
    alone = list(vx.crops_ahead(recordings, batches[3:], seed=1, first_step=3, spans=spans, threads=1))
    other = list(vx.crops_ahead(recordings, batches, seed=2, spans=spans))
    assert len(first) == 6
    assert all(torch.equal(a, b) for a, b in zip(first[3:], alone, strict=True))
    assert not all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(first, other, strict=True))
    same_rows = list(vx.crops_ahead(recordings, batches[:1] * 8, seed=1, spans=spans))
    assert len({crops.shape[1] for crops in same_rows}) > 3


def test_crops_are_made_no_further_ahead_than_asked(tmp_path):
    recordings = stored(tmp_path / "fbank", {"a/1.npy": 40, "b/1.npy": 40})
    taken = []

    def batches():
        for step in range(100):
            taken.append(step)
            yield torch.tensor([0, 1])

    crops = vx.crops_ahead(recordings, batches(), seed=0, spans=vx.Spans(window=9, shortest=9), threads=2)
    for _ in range(5):
        next(crops)
    assert len(taken) == 7
    crops.close()


def test_crops_of_sound_are_crops_of_its_features(wav, tmp_path):
    front_end = FrontEnd(activity="none")
    recordings = vx.read_wav(wav, front_end=front_end)
    vx.write_features(recordings, tmp_path / "fbank")
    rows, spans = torch.tensor([2, 3, 0]), vx.Spans(window=800, shortest=300)
    made, read = (
        source.crops(rows, generator=torch.Generator().manual_seed(5), spans=spans)
        for source in (recordings, vx.read_features(tmp_path / "fbank"))
    )
    assert torch.equal(made, read)


def test_half_precision_features_are_read(tmp_path):
    recordings = stored(tmp_path / "fbank", {"a/1.npy": 9, "b/1.npy": 9}, dtype="float16")
    assert recordings.features(0).dtype == torch.float32
    assert recordings.features(0)[:, 5].tolist() == list(range(9))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((64, 500), np.float32), r"expected floating-point features \(frames, 64\) .* found float32 \(64, 500\); is it transposed\?"),
        (np.zeros((500, 40), np.float32), r"found float32 \(500, 40\)"),
        (np.zeros((0, 64), np.float32), r"with at least one frame, found float32 \(0, 64\)"),
        (np.zeros((5, 64), np.int16), r"found int16 \(5, 64\)"),
        (np.full((800, 64), np.nan, np.float32), "features hold NaN or infinite values; make the file again"),
        (np.array([[{}]]), "holds pickled Python objects"),
        (None, "its header promises .*; found 1271 bytes"),
        (b"", "not a readable .npy file: 0 bytes"),
        (b"PK no archive", "not a readable .npy file: 13 bytes"),
    ],
)  # fmt: skip
def test_damaged_features_are_named(array, message, tmp_path):
    recordings = stored(tmp_path / "fbank", {"a/1.npy": 5, "b/1.npy": 800})
    path = tmp_path / "fbank" / "a" / "1.npy"
    if isinstance(array, np.ndarray):
        np.save(path, array, allow_pickle=True)
    else:
        path.write_bytes(path.read_bytes()[:-9] if array is None else array)
    for read in (
        lambda: recordings.features(0),
        lambda: recordings.crops(torch.tensor([1, 0]), generator=torch.Generator()),
    ):
        with pytest.raises(
            vx.FeatureError, match=rf"fbank/a/1\.npy: .*{message}" if "features hold" not in message else message
        ):
            read()


def test_rows_and_spans_out_of_range_are_refused(tmp_path):
    recordings = stored(tmp_path / "fbank", {"a/1.npy": 5, "b/1.npy": 5})
    for rows in ([2], [-1], []):
        with pytest.raises(ValueError, match=r"expected rows in 0\.\.1, at least one, found \["):
            recordings.crops(torch.tensor(rows, dtype=torch.int64), generator=torch.Generator())
    with pytest.raises(ValueError, match="expected 1 <= shortest <= window, found 900 and 800"):
        vx.Spans(shortest=900)
    with pytest.raises(ValueError, match="expected recordings with an identity each, found 2 and 1 identities"):
        replace(recordings, identities=torch.tensor([0]))
    with pytest.raises(ValueError, match=re.escape("identities must lie in 0..1, found 0..2")):
        replace(recordings, identities=torch.tensor([0, 2]))


def test_settings_of_the_front_end_lie_beside_the_features(wav, tmp_path):
    vx.write_features(vx.read_wav(wav), tmp_path / "fbank")
    settings = json.loads((tmp_path / "fbank" / "front_end.json").read_text())
    assert settings["activity"] == "energy"
    assert settings["convention"] == "sphinx"


def test_stored_features_carry_the_front_end_that_made_them(wav, tmp_path):
    front_end = FrontEnd(activity="none", minimum=900)
    vx.write_features(vx.read_wav(wav, front_end=front_end), tmp_path / "fbank")
    features = vx.read_features(tmp_path / "fbank")
    assert (features.front_end, features.made_by, features.hear) == (None, front_end, front_end)
    part = features.take(torch.tensor([1]), torch.tensor([0]), ("somebody",), "part")
    assert part.made_by == front_end
    (tmp_path / "fbank" / "front_end.json").unlink()
    published = vx.read_features(tmp_path / "fbank")
    assert (published.made_by, published.hear) == (None, FrontEnd())
    assert published.fingerprint != features.fingerprint
    assert vx.read_wav(wav, front_end=front_end).hear == front_end


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "found a list"),
        ('{"convention": "sphinx"}', "expected an object with the settings of a front end: .*; found convention"),
        (json.dumps({**asdict(FrontEnd()), "extra": 1}), "found .*extra"),
        (
            json.dumps({**asdict(FrontEnd()), "convention": "htk"}),
            "convention must be one of sphinx, world, found 'htk'",
        ),
        (json.dumps({**asdict(FrontEnd()), "minimum": "x"}), "minimum: expected a value like 1000, found 'x'"),
        (json.dumps({**asdict(FrontEnd()), "minimum": 10**9}), "minimum: expected at most 100000 frames, found 1e"),
        (json.dumps({**asdict(FrontEnd()), "minimum": 0}), "expected minimum >= 1"),
        (json.dumps({**asdict(FrontEnd()), "shortest_s": float("nan")}), "shortest_s >= 0"),
    ],
)
def test_a_damaged_statement_of_the_front_end_is_named(text, message, tmp_path):
    stored(tmp_path / "fbank", {"a/1.npy": 5, "b/1.npy": 5})
    write(tmp_path / "fbank" / "front_end.json", text)
    with pytest.raises(vx.FeatureError, match=rf"fbank/front_end\.json: .*{message}.*; make the features again"):
        vx.read_features(tmp_path / "fbank")
