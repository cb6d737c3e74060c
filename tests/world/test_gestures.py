"""Gesturing people: planted classes, knobs that touch only what they are about, strokes on beats, and numbers near those of real data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paper_utils.data.speech import Recording
from paper_utils.world import gestures, skeleton, speech
from paper_utils.world import pose_layout as layout
from paper_utils.world.articulation import articulate
from paper_utils.world.face import EXPRESSION_UNITS
from paper_utils.world.face_motion import spoken_visemes
from paper_utils.world.gesture_tables import BODY_CLASSES, BODY_TEMPLATES, HAND_CLASSES, HAND_TEMPLATES, SPEAKERS
from paper_utils.world.idle_motion import Beats, FaceSettings

FRAMES, FPS = 88, 30.0
UPPER = layout.upper_columns()
EXACT = gestures.GestureSettings(
    drift=0.0, noise=0.0, body_jitter=0.0, hand_jitter=0.0, jaw_jitter=0.0, expression_jitter=0.0
)
STILL_HEAD = {"settings": FaceSettings(head_deg=(0.0, 0.0, 0.0), nod_deg=0.0)}


@pytest.fixture(scope="module")
def spoken():
    """Visemes and beats of 40 sentences, cut to one length."""
    utterances = speech.utterances(40, rng=np.random.default_rng(0), seconds=FRAMES / FPS + 0.05)
    tracks = articulate(utterances)
    visemes = [one[:FRAMES] for one in spoken_visemes(tracks.visemes, tracks.starts, tracks.hop_s, fps=FPS)]
    return np.stack(visemes), Beats.of([utterance.beats() for utterance in utterances])


def silent(clips: int, frames: int = FRAMES) -> np.ndarray:
    return np.zeros((clips, frames, 7))


def many(seed: int = 0, clips: int = 400, **options) -> gestures.HolisticMotion:
    """Clips without speech, but with beats."""
    rng = np.random.default_rng(seed)
    beats = gestures.random_beats(rng, clips, FRAMES / FPS)
    return gestures.holistic_motion(silent(clips), beats, np.arange(clips) % len(SPEAKERS), rng=rng, **options)


def one_stroke(speaker: int, strength: float = 1.0, at_s: float = 1.0, **options) -> gestures.HolisticMotion:
    beats = Beats(np.array([[at_s]]), np.array([[strength]]))
    options = {"settings": EXACT, "face": STILL_HEAD, "rng": np.random.default_rng(3), **options}
    return gestures.holistic_motion(silent(1), beats, np.array([speaker]), **options)


def interval(rate: float, n: int) -> float:
    """Five standard errors of a share."""
    return 5 * np.sqrt(max(rate * (1 - rate), 1e-4) / n)


# -------------------------------------------------------------------------------------------------------------- knobs


@pytest.mark.parametrize("rho", [0.0, 0.6, 1.0])
def test_hands_follow_the_body_as_often_as_rho_says(rho):
    found = many(knobs=gestures.GestureKnobs(rho=rho))
    there = found.body_class >= 0
    agree = (found.hand_class == found.body_class)[there]
    expected = rho + (1 - rho) / 6
    assert agree.mean() == pytest.approx(expected, abs=interval(expected, agree.size))


def test_without_coupling_hands_are_independent_of_the_body_and_with_it_they_are_not():
    def chi_square(rho: float) -> float:
        found = many(knobs=gestures.GestureKnobs(rho=rho))
        there = found.body_class >= 0
        table = np.zeros((6, 6))
        np.add.at(table, (found.body_class[there], found.hand_class[there]), 1)
        expected = table.sum(1, keepdims=True) * table.sum(0) / table.sum()
        return float(((table - expected) ** 2 / expected).sum())

    assert chi_square(0.0) < 52.6  # 99.9 % quantile of 25 degrees of freedom
    assert chi_square(0.3) > 52.6


def test_rho_touches_hands_only():
    free, tied = (many(clips=30, knobs=gestures.GestureKnobs(rho=rho)) for rho in (0.0, 1.0))
    assert np.array_equal(free.body_class, tied.body_class)
    assert torch.equal(free.motion[..., : layout.HANDS.start], tied.motion[..., : layout.HANDS.start])
    assert torch.equal(free.motion[..., layout.EXPRESSION], tied.motion[..., layout.EXPRESSION])
    assert np.array_equal(free.cues, tied.cues)
    assert not torch.equal(free.motion[..., layout.HANDS], tied.motion[..., layout.HANDS])


@pytest.mark.parametrize("kappa", [0.0, 0.5, 1.0])
def test_cues_tell_the_body_class_as_often_as_kappa_says(kappa):
    found = many(knobs=gestures.GestureKnobs(kappa=kappa))
    clip, beat = np.nonzero(found.body_class >= 0)
    frame = np.round(found.strokes.time_s[clip, beat] * FPS).astype(int)
    inside = frame < FRAMES
    shown = found.cues[clip[inside], frame[inside]]
    assert (shown.sum(1) == 1).all()
    right = shown.argmax(1) == found.body_class[clip, beat][inside]
    expected = kappa + (1 - kappa) / 6 if kappa else (np.array([s.prior for s in SPEAKERS]).mean(0) / 6).sum()
    assert right.mean() == pytest.approx(expected, abs=interval(expected, right.size))


def test_cues_last_four_frames_on_both_sides_of_the_beat():
    cues = one_stroke(0, at_s=1.0).cues[0]
    assert np.flatnonzero(cues.any(1)).tolist() == list(range(26, 35))
    assert (cues[26:35].argmax(1) == cues[30].argmax()).all()


def test_face_follows_its_own_phones_only_if_it_is_linked(spoken):
    visemes, beats = spoken
    speakers = np.arange(len(visemes)) % 4

    def jaws(face_link: float) -> tuple[np.ndarray, gestures.HolisticMotion]:
        found = gestures.holistic_motion(
            visemes,
            beats,
            speakers,
            rng=np.random.default_rng(1),
            settings=EXACT,
            knobs=gestures.GestureKnobs(face_link=face_link),
        )
        return found.motion[..., 0].double().numpy(), found

    own, linked = jaws(1.0)
    shifted, unlinked = jaws(0.0)
    expected = np.deg2rad(visemes[..., 0])
    np.testing.assert_allclose(own, expected, atol=1e-6)
    assert linked.linked.all()
    assert not unlinked.linked.any()
    np.testing.assert_allclose(np.sort(shifted, 1), np.sort(expected, 1), atol=1e-6)  # a copy, turned around in time
    correlations = [np.corrcoef(a, b)[0, 1] for a, b in zip(shifted, expected, strict=True)]
    assert abs(np.mean(correlations)) < 0.12
    assert torch.equal(linked.motion[..., UPPER], unlinked.motion[..., UPPER])
    half = jaws(0.5)[1].linked
    assert 0.2 < half.mean() < 0.8


def test_an_unlinked_face_hears_neither_its_phones_nor_its_loudness():
    loudness = np.zeros((4, FRAMES))
    loudness[:, :8] = 1.0
    beats = gestures.random_beats(np.random.default_rng(0), 4, FRAMES / FPS)
    brows = [
        gestures.holistic_motion(
            silent(4),
            beats,
            np.arange(4),
            rng=np.random.default_rng(1),
            knobs=gestures.GestureKnobs(face_link=face_link),
            face={"upper_face": "driven", "loudness": loudness, **STILL_HEAD},
        ).face.expression[..., EXPRESSION_UNITS.index("brow_raise")]
        for face_link in (1.0, 0.0)
    ]
    assert (brows[0].argmax(1) < 8).all()
    assert (brows[1].argmax(1) > 20).all()


def test_one_sound_has_many_gestures_but_one_mouth(spoken):
    visemes, beats = spoken
    draws = [
        gestures.holistic_motion(
            visemes, beats, np.zeros(len(visemes), int), rng=np.random.default_rng(seed), settings=EXACT
        )
        for seed in range(6)
    ]
    stacked = torch.stack([draw.motion for draw in draws])
    spread = stacked.std(0).mean((0, 1))
    assert float(spread[0]) < 1e-6
    assert float(spread[layout.joint_columns("right_elbow")].max()) > 0.05
    assert len({tuple(draw.body_class[0]) for draw in draws}) == len(draws)


def test_same_seed_same_bits(spoken):
    visemes, beats = spoken
    first, again = (
        gestures.holistic_motion(visemes, beats, np.arange(40) % 4, rng=np.random.default_rng(5)) for _ in range(2)
    )
    assert torch.equal(first.motion, again.motion)
    assert np.array_equal(first.cues, again.cues)


# ------------------------------------------------------------------------------------------------------------ strokes


@pytest.mark.parametrize("speaker", range(len(SPEAKERS)))
def test_a_stroke_peaks_two_frames_after_its_beat_at_strength_times_gain(speaker):
    found = one_stroke(speaker, strength=0.7)
    moved = found.motion[0][:, UPPER].double().numpy() - gestures.speaker_rest(speaker)
    size = 0.7 * SPEAKERS[speaker].gain
    np.testing.assert_allclose(moved[32, :39], size * BODY_TEMPLATES[found.body_class[0, 0]], atol=1e-3)
    np.testing.assert_allclose(moved[32, 39:], 1.5 * size * HAND_TEMPLATES[found.hand_class[0, 0]], atol=1e-3)
    along = moved[:, :39] @ BODY_TEMPLATES[found.body_class[0, 0]] / size
    assert along.argmax() == 32
    assert along[28] == pytest.approx(np.exp(-0.5) - 0.15 * np.exp(-2), abs=1e-3)  # one sigma of 4 frames before
    assert along[36] > along[28]  # slower back than out
    assert along[22] == pytest.approx(np.exp(-0.5 * 2.5**2) - 0.15, abs=1e-3)  # the counter-movement
    assert np.abs(moved[[0, -1]]).max() < 1e-4


def test_nothing_moves_at_rest():
    found = one_stroke(2, strength=0.0)
    expected = gestures.speaker_rest(2)
    np.testing.assert_allclose(found.motion[0][:, UPPER], np.broadcast_to(expected, (FRAMES, 129)), atol=1e-6)
    assert (found.body_class == -1).all()
    assert (found.cues == 0).all()


def test_noise_is_as_large_as_asked_and_smooth_but_for_the_jitter():
    shaky = replace(EXACT, noise=0.012, hand_jitter=0.008)
    beats = Beats(np.zeros((200, 0)), np.zeros((200, 0)))  # nobody gestures
    found = gestures.holistic_motion(
        silent(200), beats, np.zeros(200, int), rng=np.random.default_rng(0), settings=shaky, face=STILL_HEAD
    )
    error = found.motion[..., UPPER].double().numpy() - gestures.speaker_rest(0)
    assert error[..., :39].std() == pytest.approx(0.012, rel=0.05)
    assert error[..., 39:].std() == pytest.approx(np.hypot(0.012, 0.008), rel=0.05)
    assert np.diff(error[..., :39], axis=1).std() < 0.3 * 0.012
    assert np.diff(error[..., 39:], axis=1).std() == pytest.approx(np.hypot(0.008 * np.sqrt(2), 0.0021), rel=0.05)


def test_body_moves_on_beats_more_than_chance(spoken):
    visemes, beats = spoken
    found = gestures.holistic_motion(visemes, beats, np.arange(40) % 4, rng=np.random.default_rng(2))
    wrists = found.joints()[:, :, [skeleton.point("left_wrist"), skeleton.point("right_wrist")]]
    away = (wrists - wrists.median(1, keepdim=True).values).norm(dim=-1).sum(-1).numpy()

    def near_beats(energy: np.ndarray) -> float:
        clip, beat = np.nonzero((found.strokes.strength > 0) & (found.strokes.time_s < 2.8))
        return float(
            energy[clip, np.round(found.strokes.time_s[clip, beat] * FPS + 2).astype(int)].mean() / energy.mean()
        )

    rng = np.random.default_rng(0)
    chance = [near_beats(away[rng.permutation(40)]) for _ in range(200)]
    assert near_beats(away) > max(chance)
    assert near_beats(away) > 1.2


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_strokes_keep_their_distance_and_no_beat_is_left_out_without_need(seed):
    rng = np.random.default_rng(seed)
    gap = rng.uniform(0.2, 0.6, 3)
    beats = Beats(rng.uniform(0, 3, (3, 12)), rng.uniform(0, 1, (3, 12)) * (rng.random((3, 12)) > 0.3))
    chosen = gestures.choose_strokes(beats, gap)
    for i in range(3):
        kept = chosen.time_s[i][chosen.strength[i] > 0]
        assert (np.diff(kept) >= gap[i]).all()
        real = np.sort(beats.time_s[i][beats.strength[i] > 0])
        for time in set(real) - set(kept):
            assert ((kept < time) & (kept > time - gap[i])).any()
    assert np.array_equal(np.sort(chosen.time_s, 1), np.sort(beats.time_s, 1))


def test_random_beats_keep_their_steps_and_begin_anywhere():
    beats = gestures.random_beats(np.random.default_rng(0), 500, 4.0)
    real = beats.strength > 0
    steps = np.diff(beats.time_s, axis=1)[real[:, 1:]]
    assert steps.min() >= 10 / 30
    assert steps.max() <= 22 / 30
    assert (beats.time_s[real] < 4.0).all()
    assert real.sum() / 500 == pytest.approx(4.0 / (16 / 30), rel=0.05)


# ------------------------------------------------------------------------------------------------- speakers and tables


def test_speakers_differ_in_habits_rests_and_posture():
    found = many(clips=800)
    for index, speaker in enumerate(SPEAKERS):
        own = found.body_class[found.speakers == index]
        share = np.bincount(own[own >= 0], minlength=6) / (own >= 0).sum()
        np.testing.assert_allclose(share, speaker.prior, atol=0.06)
        mean = found.motion[found.speakers == index][..., UPPER].mean((0, 1)).numpy()
        assert np.linalg.norm(mean - gestures.speaker_rest(index)) < 0.6
    rests = np.stack([gestures.speaker_rest(i) for i in range(4)])
    apart = np.linalg.norm(rests[:, None] - rests, axis=-1)
    assert apart[np.triu_indices(4, 1)].min() > 0.7
    legs = layout.joint_columns("left_knee")
    assert (found.motion[found.speakers == 3][..., legs] == 0).all()
    assert (found.motion[found.speakers == 0][..., legs][..., 0] > 1).all()
    gaps = [(found.strokes.strength[found.speakers == i] > 0).sum(1).mean() for i in range(4)]
    assert np.argsort(gaps)[0] == 2  # chiara leaves the longest pauses


def test_templates_are_of_one_length_and_far_apart():
    for templates in (BODY_TEMPLATES, HAND_TEMPLATES):
        np.testing.assert_allclose(np.linalg.norm(templates, axis=1), 1)
        assert np.linalg.norm(templates[:, None] - templates, axis=-1)[np.triu_indices(6, 1)].min() > 0.7
    assert len(BODY_CLASSES) == len(HAND_CLASSES) == 6


def test_left_and_right_beats_are_mirror_images():
    rest = np.concatenate([SPEAKERS[0].body_rest * 0, np.zeros(90)])
    points = []
    for name in ("beat_left", "beat_right"):
        upper = rest.copy()
        upper[:39] = BODY_TEMPLATES[BODY_CLASSES.index(name)]
        frame = layout.assemble(torch.zeros(1, 103), torch.from_numpy(upper[None]), posture="stand")
        points.append(skeleton.positions(skeleton.pose_of(frame))[0])
    for left in (name for name in skeleton.POINTS if name.startswith("left_")):
        mirrored = points[0][skeleton.point(left)] * torch.tensor([-1, 1, 1])
        torch.testing.assert_close(
            mirrored, points[1][skeleton.point(left.replace("left_", "right_"))], atol=1e-6, rtol=0
        )


def test_elbows_and_fingers_stay_within_what_joints_can_do():
    motion = many(clips=300).motion
    elbows = torch.cat([-motion[..., 64], motion[..., 67]])  # flexion of the left and of the right
    assert float(elbows.max()) < np.deg2rad(160)
    assert float(elbows.min()) > -0.6


# ------------------------------------------------------------------------------------------------------- output format


def test_clips_have_the_layout_of_show(spoken):
    visemes, beats = spoken
    found = gestures.holistic_motion(visemes, beats, np.arange(40) % 4, rng=np.random.default_rng(0))
    clip = found.clip(5, Recording(torch.zeros(30, 8), 10.0, 1))
    assert clip.motion.dtype == torch.float32
    assert (clip.speaker, clip.fps, len(found)) == (1, 30.0, 40)
    assert (clip.motion[:, 3:9] == 0).all()  # eyes
    assert (clip.motion[:, 181:] == 0).all()  # unused expression
    jitter = clip.motion[:, 165:181].double().numpy() - found.face.expression[5]
    assert jitter.std() == pytest.approx(0.01, rel=0.1)
    assert found.joints().shape == (40, FRAMES, 66, 3)


def test_motion_is_about_as_large_and_fast_as_in_published_clips(spoken):
    # Means over eight published clips of SHOW: std (rad), speed (rad/s), jerk (rad/s^3).
    published = {"jaw": (0.020, 0.18, 308), "body": (0.078, 0.11, 71), "hands": (0.107, 0.59, 1120)}
    visemes, beats = spoken
    found = gestures.part_statistics(
        gestures.holistic_motion(visemes, beats, np.arange(40) % 4, rng=np.random.default_rng(0)).motion
    )
    for part, expected in published.items():
        ratio = np.array(found[part]) / expected
        assert (ratio > 0.5).all(), (part, ratio)
        assert (ratio < 2.5).all(), (part, ratio)


def test_statistics_of_a_sine_are_known():
    motion = torch.zeros(1, 3001, 265)
    time = torch.arange(3001, dtype=torch.float64) / 3000
    motion[..., 0] = (3 * torch.sin(2 * torch.pi * time)).float()
    std, speed, _ = gestures.part_statistics(motion, fps=3000.0)["jaw"]
    assert std == pytest.approx(3 / np.sqrt(2) / 3, rel=1e-3)  # one of three columns moves
    assert speed == pytest.approx(12 / 3, rel=1e-3)


# ------------------------------------------------------------------------------------------------------------- faults

BEATS = Beats(np.array([[0.5]]), np.array([[1.0]]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gestures.GestureKnobs(rho=1.1), r"rho: expected a probability in \[0, 1\], found 1.1"),
        (lambda: gestures.GestureKnobs(kappa=-0.1), "kappa: expected a probability"),
        (lambda: gestures.GestureKnobs(face_link=float("nan")), "face_link: expected a probability"),
        (lambda: one_stroke(4), "speakers: expected indices 0 to 3"),
        (lambda: one_stroke(0, fps=0.0), "fps: expected a positive"),
        (lambda: gestures.speaker_rest(-1), "speakers: expected indices"),
        (lambda: gestures.speakers_named(["oliver"]), "unknown oliver; expected one of asha"),
        (lambda: gestures.random_beats(np.random.default_rng(0), 0, 1.0), "expected clips >= 1"),
        (
            lambda: gestures.random_beats(np.random.default_rng(0), 1, 1.0, shortest_s=0.5, longest_s=0.4),
            "shortest <= longest",
        ),
        (lambda: gestures.part_statistics(torch.zeros(1, 3, 265)), "at least 4 frames"),
        (
            lambda: gestures.holistic_motion(silent(2), BEATS, np.array([0, 1]), rng=np.random.default_rng(0)),
            "one row of beats for each clip",
        ),
        (
            lambda: gestures.holistic_motion(silent(1, 0), BEATS, np.array([0]), rng=np.random.default_rng(0)),
            "visemes: expected at least one clip and one frame",
        ),
        (
            lambda: gestures.holistic_motion(silent(1) * np.nan, BEATS, np.array([0]), rng=np.random.default_rng(0)),
            "visemes: 616 of 616 values are NaN",
        ),
        (lambda: one_stroke(0, face={"emotion": "bored"}), "emotion: unknown 'bored'"),
    ],
)
def test_bad_input_is_refused_with_its_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
