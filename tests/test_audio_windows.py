"""Log-mel windows of video frames: the released ones, gathered ones, and both as a stream."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paper_utils import audio
from paper_utils.audio_windows import (
    PAPER_MEL,
    QUICK_WINDOWS,
    GatheredWindows,
    ReleasedWindows,
    WindowStream,
    at_rate,
    features_at,
    window_features,
)

CONVENTIONS = {"released": ReleasedWindows(), "paper": GatheredWindows(), "quick": QUICK_WINDOWS}


def sound(samples, seed=0, batch=1):
    return 0.1 * torch.randn(batch, samples, generator=torch.Generator().manual_seed(seed))


def test_released_windows_are_cut_first_and_transformed_apart():
    samples = sound(20_000)
    cut = audio.video_windows(samples, fps=30)[0]
    expected = audio.log_mel(cut, audio.MESHTALK_MEL).transpose(1, 2)
    torch.testing.assert_close(window_features(samples, ReleasedWindows())[0], expected)


def test_as_many_released_frames_as_the_authors(reference):
    with np.load(reference / "audio" / "meshtalk.npz") as stored:
        rows = stored["chunk_rows"]
    for samples, fps, length, count in rows[:, :4].tolist():
        assert ReleasedWindows(fps=fps, length=length).frame_count(samples) == max(count, 0)


def test_gathered_windows_hold_the_features_around_the_middle_of_the_frame():
    windows = GatheredWindows(past=50, future=10)
    samples = sound(32_000)
    whole = audio.log_mel(samples, PAPER_MEL)[0]
    features = window_features(samples, windows)[0]
    assert features.shape == (60, 80, 61)
    for frame in (20, 31, 45):
        centre = round((frame + 0.5) / 30 * 100)
        torch.testing.assert_close(features[frame], whole[centre - 50 : centre + 11].T)


def test_gathered_windows_do_not_drift():
    windows = QUICK_WINDOWS
    late = 30 * 60  # after a minute
    middle = windows.start(late) + windows.past * windows.every * windows.mel.hop + windows.mel.n_fft // 2
    assert abs(middle - (late + 0.5) * 16_000 / 30) <= windows.mel.hop / 2
    released = ReleasedWindows()
    early = (late + 0.5) * 16_000 / 30 - (released.start(late) + released.length / 2)
    assert early / 16 == pytest.approx(37.5, abs=0.1)  # ms, as the authors' truncated step has it


def test_a_click_arrives_where_it_should():
    """In a clip of one second a click at 0.5 s is loudest in the sub-frame that is 0.5 s."""
    samples = torch.zeros(1, 16_000)
    samples[0, 8000] = 1.0
    features = window_features(samples, QUICK_WINDOWS)[0].sum(1)
    for frame in range(6, 28):
        at = features[frame].argmax().item()
        time = (frame + 0.5) / 30 + (at - QUICK_WINDOWS.past) * 0.03
        # Only windows that hold the click say where it is.
        if features[frame].max() > features.min() + 1.0:
            assert abs(time - 0.5) < 0.02


@settings(max_examples=12)
@given(
    name=st.sampled_from(sorted(CONVENTIONS)),
    pieces=st.lists(st.integers(0, 5000), min_size=1, max_size=5),
    seed=st.integers(0, 10**6),
)
def test_pieces_give_the_frames_of_the_whole(name, pieces, seed):
    windows, samples = CONVENTIONS[name], sound(9000 + sum(pieces), seed, batch=2)
    expected = features_at(samples, windows, 0, windows.frame_count(samples.shape[1]))
    stream = WindowStream(windows, batch=2)
    parts = [stream.feed(piece) for piece in samples.split([*pieces, 9000], 1)]
    if samples.shape[1] < windows.length:
        with pytest.warns(UserWarning, match="shorter than one window"):
            parts.append(stream.finish())
    else:
        parts.append(stream.finish())
    torch.testing.assert_close(torch.cat(parts, 1), expected, atol=1e-4, rtol=0)


def test_a_frame_comes_out_when_its_window_has_been_heard_and_not_later():
    for windows in CONVENTIONS.values():
        stream = WindowStream(windows)
        needed = windows.start(3) + windows.length
        assert stream.feed(sound(needed - 1)).shape[1] <= 3
        assert stream.feed(sound(1)).shape[1] >= 1
        assert stream.frame == 4
    assert WindowStream(ReleasedWindows()).look_ahead_s == pytest.approx(0.5167, abs=1e-3)
    assert WindowStream(GatheredWindows()).look_ahead_s < 0.16


def test_outside_the_recording_there_is_silence():
    samples = sound(16_000)
    for windows in CONVENTIONS.values():
        silence = features_at(torch.zeros(1, 16_000), windows, 0, 1)
        for frame in (-200, 200):
            torch.testing.assert_close(features_at(samples, windows, frame, 1), silence)


def test_another_rate_is_resampled_with_a_note():
    samples = sound(8000)
    with pytest.warns(UserWarning, match="8000 Hz, the network hears 16000 Hz"):
        assert at_rate(samples, 8000, QUICK_WINDOWS).shape == (1, 16_000)
    assert at_rate(samples, 16_000, QUICK_WINDOWS) is samples


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"500 at 16000 Hz are no video frame at 30 fps; give more than 533"):
        window_features(sound(500), ReleasedWindows())
    with pytest.raises(ValueError, match="1 of 16000 are NaN"):
        window_features(torch.cat([sound(15_999), torch.full((1, 1), torch.nan)], 1), QUICK_WINDOWS)
    with pytest.raises(ValueError, match="at least one frame, found 0"):
        features_at(sound(16_000), QUICK_WINDOWS, 0, 0)
    with pytest.raises(ValueError, match=r"expected \(2, samples\)"):
        WindowStream(QUICK_WINDOWS, batch=2).feed(sound(100))
    with pytest.raises(ValueError, match="found 0 fps"):
        ReleasedWindows(fps=0)
    with pytest.raises(ValueError, match="centred_zeros"):
        GatheredWindows(mel=audio.MESHTALK_MEL)
    with pytest.raises(ValueError, match="past >= 0"):
        GatheredWindows(past=-1)
