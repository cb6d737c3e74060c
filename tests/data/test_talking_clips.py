"""The sample types of talking faces: what fits is kept exactly, what does not is refused with a word on what to do."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paper_utils.audio_files import write_wav
from paper_utils.data import talking_faces as tf
from paper_utils.data.clip_files import ClipFiles, ResampledWarning, read_speech

V, RATE = 5, 16_000
MESH = tf.FaceMesh(
    "toy", V, torch.tensor([[0, 1, 2], [2, 3, 4]]), {"mouth": torch.linspace(0, 1, V)}, {"lips": torch.arange(V) < 2}
)


def clip(frames=10, subject="a", sentence="s1", fps=25.0, seed=0, **options):
    rng = torch.Generator().manual_seed(seed)
    template = torch.arange(3.0 * V).view(V, 3) + len(subject)
    values = {
        "template": template,
        "vertices": template + torch.randn(frames, V, 3, generator=rng),
        "fps": fps,
        "audio": torch.rand(round(frames / fps * RATE), generator=rng) - 0.5,
        "sample_rate": RATE,
        "subject": subject,
        "sentence": sentence,
    }
    return tf.TalkingClip(**(values | options))


def some(lengths=(10, 6, 8), **options):
    clips = [
        clip(
            n,
            subject="ab"[i % 2] * (i % 2 + 1),
            sentence=f"s{i}",
            seed=i,
            emotion="happy",
            intensity=1 + i % 3,
            **options,
        )
        for i, n in enumerate(lengths)
    ]
    return clips, tf.TalkingFaces.of_clips(clips, MESH, "toys")


def same(one, other):
    for field in dataclasses.fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
            assert torch.equal(a, b), field.name
        elif field.name not in ("tracked", "phones"):
            assert a == b, field.name


# ---------------------------------------------------------------------------------------------------------------- labels


def test_emotions_stand_in_the_order_of_affectnet():
    assert tf.EMOTIONS == ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt")
    assert tf.emotion_code("anger") == 6


def test_unknown_labels_are_refused_with_the_valid_ones():
    with pytest.raises(ValueError, match=r"emotion: expected one of neutral, happy, sad.*; found 'angry'"):
        tf.emotion_code("angry")
    for wrong in (0, 4, True):
        with pytest.raises(ValueError, match="intensity: expected one of 1, 2, 3; found"):
            tf.check_intensity(wrong)
    with pytest.raises(ValueError, match="emotion: expected one of"):
        clip(emotion="joy")
    with pytest.raises(ValueError, match="intensity: expected one of"):
        clip(intensity=5)


# ------------------------------------------------------------------------------------------------------------------ mesh


def test_masks_and_regions_fit_the_mesh():
    with pytest.raises(
        ValueError, match=r"mask 'mouth': expected one value for each of the 5 vertices of toy, found \(4,\)"
    ):
        dataclasses.replace(MESH, masks={"mouth": torch.zeros(4)})
    with pytest.raises(ValueError, match="region 'lips': expected one value for each of the 5"):
        dataclasses.replace(MESH, regions={"lips": torch.zeros(6, dtype=torch.bool)})
    with pytest.raises(ValueError, match=r"mask 'mouth': expected weights in \[0, 1\], found 0 to 2"):
        dataclasses.replace(MESH, masks={"mouth": 2 * torch.ones(V).cumsum(0).sub(1).clamp(max=1)})
    with pytest.raises(ValueError, match="triangles name vertices 0 to 5, there are 5"):
        dataclasses.replace(MESH, faces=torch.tensor([[0, 1, 5]]))
    with pytest.raises(ValueError, match="masks of toy: no 'eyes'; there are mouth"):
        MESH.mask("eyes")


# ------------------------------------------------------------------------------------------------------------------ clip


def test_motion_is_what_is_added_to_the_template():
    one = clip()
    torch.testing.assert_close(one.template + one.motion, one.vertices)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vertices": torch.zeros(10, V + 1, 3)}, "do not fit the template's 5 vertices"),
        ({"vertices": torch.zeros(0, V, 3)}, "do not fit the template's"),
        ({"vertices": torch.full((10, V, 3), torch.nan)}, "vertices hold 150 NaN"),
        ({"audio": torch.full((6400,), torch.inf)}, "audio hold 6400 NaN or infinite"),
        (
            {"audio": torch.zeros(1600)},
            r"10 frames at 25 a second last 0\.40 s, but its sound .* lasts 0\.10 s; is the frame rate right",
        ),
        ({"sample_rate": 0}, "expected positive rates"),
        ({"tracked": torch.ones(9, dtype=torch.bool)}, r"expected tracked for 10 frames, found \(9,\)"),
    ],
)
def test_clips_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        clip(**({"audio": torch.zeros(6400)} | options))


def test_sound_is_cut_or_lengthened_to_the_frames():
    long = clip(audio=torch.ones(9000))
    assert long.fitted_audio().tolist() == [1.0] * 6400
    short = clip(audio=torch.ones(6000)).fitted_audio()
    assert len(short) == 6400
    assert short[:6000].min() == 1
    assert short[6000:].abs().max() == 0
    assert len(clip(audio=torch.zeros(0)).fitted_audio()) == 0


def test_half_the_frame_rate_takes_every_second_frame():
    one = clip(11, fps=60.0, tracked=torch.arange(11) != 4, phones=torch.arange(11))
    half = one.at_fps(30)
    assert torch.equal(half.vertices, one.vertices[::2])
    assert half.tracked.tolist() == [True, True, False, True, True, True]
    assert half.phones.tolist() == list(range(0, 11, 2))
    assert half.fps == 30
    assert torch.equal(half.audio, one.audio)
    same(one.at_fps(60), one)


@given(st.integers(2, 40), st.sampled_from([24.0, 25.0, 30.0, 50.0, 29.97]), st.sampled_from([10.0, 25.0, 30.0, 48.0]))
def test_a_straight_motion_stays_straight_at_any_rate(frames, old, new):
    template = torch.zeros(V, 3)
    moving = torch.arange(frames, dtype=torch.float32)[:, None, None] / old + template
    one = clip(frames, fps=old, template=template, vertices=moving, audio=torch.zeros(0))
    other = one.at_fps(new)
    seconds = torch.arange(len(other)) / new
    torch.testing.assert_close(other.vertices[:, 0, 0], seconds.float(), atol=1e-4, rtol=0)
    last = (frames - 1) / old
    assert seconds[-1] <= last + 1e-6 < seconds[-1] + 1 / new + 2e-6


def test_frames_between_lost_ones_are_lost():
    one = clip(4, fps=25.0, tracked=torch.tensor([True, False, True, True]))
    assert one.at_fps(50).tracked.tolist() == [True, False, False, False, True, True, True]


# ------------------------------------------------------------------------------------------------------------ collection


def test_a_collection_gives_back_its_clips():
    clips, faces = some()
    assert len(faces) == 3
    assert faces.subjects == ("a", "bb")
    for index, one in enumerate(clips):
        same(faces[index], one)
    torch.testing.assert_close(faces.motion()[10:16], clips[1].motion)
    with pytest.raises(IndexError, match="toys: clip 3 of 3"):
        faces[3]


@given(st.lists(st.integers(0, 2), min_size=1, max_size=6))
def test_chosen_clips_stay_themselves_in_any_order(chosen):
    _, faces = some()
    part = faces.of(chosen)
    assert len(part) == len(chosen)
    for place, index in enumerate(chosen):
        same(part[place], faces[index])


def test_clips_are_chosen_by_truth_values_and_by_subject():
    _, faces = some()
    same(faces.of(np.array([False, True, False]))[0], faces[1])
    assert len(faces.of_subjects(["a"])) == 2
    with pytest.raises(ValueError, match="no subjects c; there are a, bb"):
        faces.of_subjects(["c"])
    with pytest.raises(ValueError, match=r"expected clips in 0\.\.2"):
        faces.of([3])
    with pytest.raises(ValueError, match="at least one"):
        faces.of(np.zeros(3, dtype=bool))


def test_windows_lie_inside_their_clips():
    _, faces = some()
    assert faces.windows(4).tolist() == [[0, 0], [0, 4], [1, 0], [2, 0], [2, 4]]
    assert faces.windows(8, step=2).tolist() == [[0, 0], [0, 2], [2, 0]]
    with pytest.raises(ValueError, match="no clip has 11 frames, the longest has 10"):
        faces.windows(11)


def test_equal_clips_stack_and_others_do_not():
    clips, faces = some((6, 6))
    assert torch.equal(faces.stacked()[1], clips[1].vertices)
    assert torch.equal(faces.stacked_audio()[1], clips[1].audio)
    with pytest.raises(ValueError, match="clips last 6 to 10 frames; cut windows"):
        some()[1].stacked()


def test_sound_can_be_exchanged_between_clips():
    clips, faces = some((6, 6, 6))
    other = faces.with_sound_of([2, 0, 1])
    assert torch.equal(other[0].audio, clips[2].audio)
    assert torch.equal(other[0].vertices, clips[0].vertices)
    with pytest.raises(ValueError, match="expected a number from 0 to 2 for each of 3 clips, found"):
        faces.with_sound_of([1, 0, 3])
    with pytest.raises(ValueError, match="for each of 3 clips"):
        faces.with_sound_of([1, 0])


def test_longer_sound_is_cut_and_shorter_begins_again():
    clips, faces = some((6, 10))
    short, long = faces.with_sound_of([1, 0])
    assert torch.equal(short.audio, clips[1].audio[: len(clips[0].audio)])
    again = torch.cat([clips[0].audio, clips[0].audio])[: len(clips[1].audio)]
    assert torch.equal(long.audio, again)
    assert torch.equal(long.vertices, clips[1].vertices)


def test_clips_without_label_are_counted_and_named():
    clips = [clip(emotion="sad", intensity=2), clip(sentence="s2", emotion="sad"), clip(sentence="s3", intensity=1)]
    faces = tf.TalkingFaces.of_clips(clips, MESH, "toys")
    with pytest.raises(ValueError, match=r"2 of 3 clips have no emotion or intensity \(first: a/s2, a/s3"):
        faces.labels()
    emotion, intensity = faces.of([0]).labels()
    assert (emotion.tolist(), intensity.tolist()) == ([2], [2])


def test_rates_must_agree():
    with pytest.raises(ValueError, match="clip a/s2: expected 25 frames a second, found 30; resample with at_fps"):
        tf.TalkingFaces.of_clips([clip(), clip(sentence="s2", fps=30.0)], MESH, "toys")
    with pytest.raises(ValueError, match="has 8000 Hz, the first one 16000 Hz"):
        tf.TalkingFaces.of_clips([clip(), clip(sentence="s2", sample_rate=8000)], MESH, "toys")
    _, faces = some()
    faces.check_fps(25)
    with pytest.raises(ValueError, match="toys: expected 30 frames a second, found 25"):
        faces.check_fps(30)


def test_a_subject_has_one_template():
    with pytest.raises(ValueError, match="subject a comes with two different templates"):
        tf.TalkingFaces.of_clips([clip(), clip(sentence="s2", template=torch.ones(V, 3))], MESH, "toys")


def test_arrays_that_do_not_fit_each_other_are_refused():
    _, faces = some()
    with pytest.raises(ValueError, match="starts end at 24, but phones has 23 rows"):
        dataclasses.replace(faces, phones=faces.phones[1:])
    with pytest.raises(ValueError, match="expected entries for 3 clips"):
        dataclasses.replace(faces, sentences=("one",))
    with pytest.raises(ValueError, match="the mesh has 4 vertices"):
        dataclasses.replace(faces, mesh=tf.FaceMesh("other", 4, torch.zeros(0, 3, dtype=torch.int64)))
    with pytest.raises(ValueError, match="there are no clips"):
        tf.TalkingFaces.of_clips([], MESH, "toys")


def test_the_fingerprint_tells_contents_apart():
    _, faces = some()
    assert faces.fingerprint == some()[1].fingerprint
    changed = dataclasses.replace(faces, emotion=faces.emotion.roll(1).index_fill(0, torch.tensor(0), 3))
    assert len({faces.fingerprint, faces.of([1, 0, 2]).fingerprint, changed.fingerprint}) == 3


# ----------------------------------------------------------------------------------------------------------------- files


def test_files_are_read_when_asked_for_and_at_the_asked_rate():
    clips, _ = some()
    asked = []
    files = ClipFiles(
        "toys",
        MESH,
        tuple(c.subject for c in clips),
        tuple(c.sentence for c in clips),
        lambda index: asked.append(index) or clips[index],
    )
    part = files.of([2, 0])
    assert asked == []
    same(part[0], clips[2])
    assert asked == [2]
    faces = part.read(fps=12.5)
    assert faces.sentences == ("s2", "s0")
    assert faces.lengths.tolist() == [4, 5]
    with pytest.raises(IndexError, match="clip 2 of 2"):
        part[2]
    with pytest.raises(ValueError, match="no clip 3, there are 3"):
        files.of([3])
    with pytest.raises(ValueError, match="at least one clip"):
        files.of([])


def test_speech_at_another_rate_is_resampled_with_a_note_and_short_speech_refused(tmp_path, recwarn):
    path = tmp_path / "speech.wav"
    write_wav(path, torch.sin(torch.arange(44_100) / 50), 44_100)
    with pytest.warns(ResampledWarning, match="expected 16000 Hz, found 44100 Hz; resampled to 16000 Hz"):
        assert abs(len(read_speech(path)) - 16_000) <= 1
    read_speech(path, expected_rate=None)
    write_wav(path, torch.zeros(8000), 16_000)
    assert len(read_speech(path, at_least_s=0.5)) == 8000
    assert not [w for w in recwarn if issubclass(w.category, ResampledWarning)]
    with pytest.raises(ValueError, match=r"lasts 0\.500 s, shorter than one window of 1 s"):
        read_speech(path, at_least_s=1.0)
