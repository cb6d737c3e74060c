"""Moving faces: each knob does what it says, closures hold, and with chance held fixed only what was asked for changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paper_utils.world import face, speech
from paper_utils.world import face_motion as fm
from paper_utils.world import idle_motion as im
from paper_utils.world.articulation import articulate

UNIT = {name: i for i, name in enumerate(face.EXPRESSION_UNITS)}
UPPER = [UNIT[name] for name in fm.UPPER_UNITS]
MOUTH = [UNIT[name] for name in fm.MOUTH_UNITS]
FPS, FRAMES, CLIPS = 30.0, 88, 60
CALM = im.FaceSettings(onset_s=0.0, offset_s=0.0, modulation=0.0)


@pytest.fixture(scope="module")
def utterances():
    return speech.utterances(CLIPS, rng=np.random.default_rng(0), seconds=FRAMES / FPS + 0.05)


@pytest.fixture(scope="module")
def visemes(utterances):
    spoken = articulate(utterances)
    return np.stack([one[:FRAMES] for one in fm.spoken_visemes(spoken.visemes, spoken.starts, spoken.hop_s, fps=FPS)])


@pytest.fixture(scope="module")
def bilabial(utterances):
    times = np.arange(FRAMES) / FPS
    spoken = [np.array(u.alignment.phones)[u.alignment.phone_at(times)] for u in utterances]
    return np.isin(np.stack(spoken), ["P", "B", "M"])


@pytest.fixture(scope="module")
def idle():
    return im.draw_idle(np.random.default_rng(1), FRAMES, fps=FPS, clips=(CLIPS,))


def quiet(frames: int = FRAMES, clips: tuple[int, ...] = (), fps: float = FPS) -> im.Idle:
    """No chance at all."""
    shape = (*clips, frames)
    return im.Idle(np.zeros((*shape, 3)), np.zeros(shape), np.zeros(shape), np.zeros((*shape, 3)), fps)


def brow(motion: fm.FaceMotion) -> np.ndarray:
    return motion.expression[..., UNIT["brow_raise"]] - motion.expression[..., UNIT["brow_lower"]]


def correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of each row of one with the same row of the other."""
    a, b = a - a.mean(-1, keepdims=True), b - b.mean(-1, keepdims=True)
    return (a * b).sum(-1) / np.sqrt((a * a).sum(-1) * (b * b).sum(-1))


def permutation_p(a: np.ndarray, b: np.ndarray, draws: int = 400) -> float:
    """Two-sided: how often clips paired at random correlate as much as clips paired rightly."""
    rng = np.random.default_rng(0)
    found = abs(correlation(a, b).mean())
    null = [abs(correlation(a, b[rng.permutation(len(b))]).mean()) for _ in range(draws)]
    return float((1 + sum(value >= found for value in null)) / (1 + draws))


# ------------------------------------------------------------------------------------------------------------- chance


@pytest.mark.parametrize("time_constant_s", [0.1, 0.6])
def test_smooth_noise_is_stationary_with_variance_one_and_the_given_correlation(time_constant_s):
    noise = im.smooth_noise(np.random.default_rng(0), (4000, 60), fps=FPS, time_constant_s=time_constant_s)
    assert noise.mean() == pytest.approx(0, abs=0.06)
    np.testing.assert_allclose(noise.var(0), 1, atol=0.12)  # from the very first frame on
    lag = (
        5 / FPS / time_constant_s
    )  # of two equal leaky integrators: (1 + lag) e^-lag, for steps short against the time constant
    assert (noise[:, 20] * noise[:, 25]).mean() == pytest.approx((1 + lag) * np.exp(-lag), abs=0.08)


def test_one_blink_in_two_and_a_half_seconds_each_150_to_200_ms_long():
    fps, seconds = 500.0, 60
    lid = im.draw_blinks(np.random.default_rng(2), (40,), int(fps * seconds), fps=fps, settings=im.FaceSettings())
    shut = np.pad(lid > 0, ((0, 0), (1, 1)))
    edges = np.diff(shut.astype(int), axis=1)
    starts, ends = np.argwhere(edges == 1), np.argwhere(edges == -1)
    assert 40 * seconds / len(starts) == pytest.approx(2.5, rel=0.1)
    whole = (starts[:, 1] > 0) & (ends[:, 1] < lid.shape[1])
    lasts = (ends - starts)[whole, 1] / fps
    assert 0.145 <= lasts.min() <= 0.155
    assert 0.195 <= lasts.max() <= 0.201
    apart = np.diff(starts[:, 1])[np.diff(starts[:, 0]) == 0] / fps
    assert apart.min() >= 0.6 - 2 / fps
    assert lid.max() == pytest.approx(1, abs=1e-3)


def test_a_lid_falls_faster_than_it_rises():
    phase = np.linspace(0, 1, 301)
    closure = im.blink_profile(phase, 1 / 3)
    assert phase[closure.argmax()] == pytest.approx(1 / 3, abs=0.01)
    assert np.diff(closure).max() == pytest.approx(2 * -np.diff(closure).min(), rel=0.02)
    assert (im.blink_profile(np.array([-0.5, 1.5]), 1 / 3) == 0).all()


def test_clips_begin_anywhere_between_blinks():
    lid = im.draw_blinks(np.random.default_rng(3), (8000,), 30, fps=10.0, settings=im.FaceSettings())
    rate = (lid > 0).mean(0)
    np.testing.assert_allclose(rate, rate.mean(), atol=0.015)


def test_same_seed_same_bits_and_another_seed_another_face(visemes):
    first, again, other = (fm.face_motion(visemes, fps=FPS, rng=np.random.default_rng(seed)) for seed in (7, 7, 8))
    for name in ("expression", "jaw", "head"):
        assert np.array_equal(getattr(first, name), getattr(again, name))
    assert not np.array_equal(first.expression, other.expression)
    assert np.array_equal(first.expression[..., UNIT["lip_round"]], other.expression[..., UNIT["lip_round"]])


# --------------------------------------------------------------------------------------------------------- upper face


def test_independent_upper_face_does_not_correlate_with_articulation(visemes, idle):
    motion = fm.face_motion(visemes, fps=FPS, idle=idle, upper_face="independent")
    effort = fm.articulation_drive(visemes, fps=FPS)[..., 0]
    assert permutation_p(brow(motion), effort) > 0.01
    lid = motion.expression[..., UNIT["eye_close"]] - motion.expression[..., UNIT["eye_wide"]]
    assert permutation_p(lid, effort) > 0.01


def test_mixed_upper_face_is_partly_driven(visemes, idle):
    motion = fm.face_motion(visemes, fps=FPS, idle=idle, upper_face="mixed")
    drive = fm.articulation_drive(visemes, fps=FPS)[..., 0]
    assert permutation_p(brow(motion), drive) < 0.01
    assert correlation(brow(motion), drive).mean() == pytest.approx(np.sqrt(0.5), abs=0.12)


def test_driven_upper_face_is_a_function_of_articulation(visemes, idle):
    other = im.draw_idle(np.random.default_rng(99), FRAMES, fps=FPS, clips=(CLIPS,))
    faces = [
        fm.face_motion(visemes, fps=FPS, idle=chance, upper_face="driven").expression[..., UPPER]
        for chance in (idle, other)
    ]
    assert np.array_equal(*faces)
    assert faces[0].std() > 0.05
    swapped = fm.face_motion(visemes[::-1], fps=FPS, idle=idle, upper_face="driven").expression[..., UPPER]
    assert np.array_equal(swapped, faces[0][::-1])


@given(st.floats(0, 1))
@settings(max_examples=15, deadline=None)
def test_brows_move_equally_much_whatever_drives_them(share):
    visemes = np.random.default_rng(0).gamma(1.5, 3.3, (30, 60, 7)) * [1, 0.05, 0.05, 0, 0, 0, 0]
    motion = fm.face_motion(visemes, fps=FPS, idle=quiet(60, (30,)), upper_face=share, idle_amplitude=1.0)
    alone = fm.face_motion(visemes, fps=FPS, idle=quiet(60, (30,)), upper_face=1.0, idle_amplitude=1.0)
    np.testing.assert_allclose(brow(motion), np.sqrt(share) * brow(alone), atol=1e-12)


def test_loudness_takes_the_place_of_the_jaw(visemes, idle):
    loudness = 0.5 + 0.2 * im.smooth_noise(np.random.default_rng(5), (CLIPS, FRAMES), fps=FPS, time_constant_s=0.2)
    motion = fm.face_motion(visemes, fps=FPS, idle=idle, upper_face="driven", loudness=loudness)
    assert correlation(brow(motion), loudness).mean() > 0.8
    assert permutation_p(brow(motion), fm.articulation_drive(visemes, fps=FPS)[..., 0]) > 0.05


def test_blinks_can_be_switched_off(visemes, idle):
    with_blinks = fm.face_motion(visemes, fps=FPS, idle=idle, upper_face="independent", idle_amplitude=0.0)
    without = fm.face_motion(visemes, fps=FPS, idle=idle, upper_face="independent", idle_amplitude=0.0, blinks=False)
    np.testing.assert_allclose(with_blinks.expression[..., UNIT["eye_close"]], idle.blink)
    assert (without.expression[..., UPPER] == 0).all()
    assert np.array_equal(with_blinks.expression[..., MOUTH], without.expression[..., MOUTH])


def test_wide_eyes_shut_all_the_same_in_a_blink(visemes, idle):
    motion = fm.face_motion(visemes, fps=FPS, idle=idle, emotion="surprise", settings=CALM)
    shut = idle.blink > 0.98
    assert shut.sum() > 20
    assert motion.expression[shut][:, UNIT["eye_close"]].min() > 0.97
    assert motion.expression[shut][:, UNIT["eye_wide"]].max() < 0.05
    assert motion.expression[idle.blink == 0][:, UNIT["eye_wide"]].min() > 0.9


# ------------------------------------------------------------------------------------------------------------ emotion


@pytest.mark.parametrize("emotion", face.EMOTIONS)
@pytest.mark.parametrize("intensity", [1.0, 3.0])
def test_a_silent_face_shows_the_preset_in_the_middle_of_the_clip_and_nothing_at_its_ends(emotion, intensity):
    motion = fm.face_motion(
        np.zeros((FRAMES, 7)), fps=FPS, idle=quiet(), emotion=emotion, intensity=intensity, idle_amplitude=0.0
    )
    weights, jaw = face.emotion_pose(emotion, intensity / 3)
    np.testing.assert_allclose(motion.expression[FRAMES // 2], weights, atol=1e-6)
    assert motion.jaw[FRAMES // 2] == pytest.approx(jaw, abs=1e-6)
    assert np.abs(motion.expression[[0, -1]]).max() < 1e-12


def test_emotion_comes_slowly_and_varies_around_its_preset(visemes, idle):
    motion = fm.face_motion(np.zeros_like(visemes), fps=FPS, idle=idle, emotion="happy", idle_amplitude=0.0)
    smile = motion.expression[..., UNIT["smile"]]
    preset = float(face.emotion_pose("happy")[0][UNIT["smile"]])
    assert smile[:, 30:60].mean() == pytest.approx(preset, rel=0.05)
    assert smile[:, 30:60].std() == pytest.approx(0.15 * preset, rel=0.25)
    rise = np.diff(smile[:, :18].mean(0))
    assert (rise > 0).all()
    assert rise.max() < preset / 8  # not a step


def test_emotion_changes_how_far_the_jaw_goes(visemes):
    jaws = {
        emotion: fm.face_motion(visemes, fps=FPS, idle=quiet(FRAMES, (CLIPS,)), emotion=emotion, settings=CALM).jaw
        for emotion in ("neutral", "sad", "angry")
    }
    wide = jaws["neutral"] > np.deg2rad(6)
    for emotion, factor in fm.ARTICULATION_OF_EMOTION.items():
        if emotion in jaws:
            np.testing.assert_allclose(
                jaws[emotion][wide & (fm.lip_closure(visemes) == 0)]
                / jaws["neutral"][wide & (fm.lip_closure(visemes) == 0)],
                factor,
            )


def test_one_emotion_a_clip_is_the_same_as_clip_by_clip(visemes, idle):
    emotions, strengths = np.array(["happy", "neutral", "angry"] * (CLIPS // 3)), np.tile([1, 2, 3], CLIPS // 3)
    together = fm.face_motion(visemes, fps=FPS, idle=idle, emotion=emotions, intensity=strengths)
    for i in (0, 4, 8):
        alone = im.Idle(idle.slow[i], idle.blink[i], idle.modulation[i], idle.head[i], FPS)
        single = fm.face_motion(visemes[i], fps=FPS, idle=alone, emotion=str(emotions[i]), intensity=strengths[i])
        np.testing.assert_allclose(together[i].expression, single.expression, atol=1e-12)
        np.testing.assert_allclose(together[i].jaw, single.jaw, atol=1e-12)


@pytest.mark.parametrize("gain", [0.6, 1.0, 1.6])
@pytest.mark.parametrize("emotion", face.EMOTIONS)
def test_lips_stay_shut_in_p_b_and_m_whatever_the_emotion_and_the_gain(visemes, bilabial, emotion, gain):
    chance = quiet(FRAMES, (CLIPS,))
    motion = fm.face_motion(visemes, fps=FPS, idle=chance, emotion=emotion, articulation_gain=gain, settings=CALM)
    shut = bilabial & (fm.lip_closure(visemes) == 1)
    assert shut.sum() > 50
    head = face.head(2)
    person = head.identity_vertices(torch.zeros(1, len(face.PARAMETERS)), torch.zeros(1))
    points = head.anatomy(
        head.pose(
            person.expand(int(shut.sum()), -1, -1),
            torch.from_numpy(motion.expression[shut]).to(person),
            torch.from_numpy(motion.jaw[shut]).to(person),
        )
    )
    gap = points["sto"][:, 1] - points["stoL"][:, 1]
    overlap = torch.from_numpy(visemes[shut, 4]).to(gap) > 0  # a lip still tucked, from an F next to it
    assert float(gap.max()) < 0.05  # mm; open vowels have 5 to 15
    assert float(gap[~overlap].abs().max()) < 0.05
    np.testing.assert_allclose(motion.jaw[shut], np.deg2rad(visemes[shut, 0]))
    # No emotion lifts the upper lip off; the lower one does the closing.
    np.testing.assert_allclose(motion.expression[shut][:, UNIT["upper_lip_raise"]], visemes[shut, 6], atol=1e-9)


def test_the_mouth_opening_is_that_of_the_head_itself():
    rng = np.random.default_rng(0)
    expression, jaw = rng.uniform(0, 1, (20, 16)), rng.uniform(0, 0.3, 20)
    head = face.head(2)
    person = head.identity_vertices(torch.zeros(1, len(face.PARAMETERS)), torch.zeros(1)).expand(20, -1, -1)
    points = head.anatomy(head.pose(person, torch.from_numpy(expression).to(person), torch.from_numpy(jaw).to(person)))
    np.testing.assert_allclose(fm.lip_gap(expression, jaw), (points["sto"] - points["stoL"])[:, 1], atol=1e-3)


def test_closed_lips_halve_the_pull_of_a_smile_and_open_ones_cannot_be_pressed(visemes):
    chance = quiet(FRAMES, (CLIPS,))
    smile = fm.face_motion(visemes, fps=FPS, idle=chance, emotion="happy", settings=CALM).expression[..., UNIT["smile"]]
    closed = fm.lip_closure(visemes)
    preset = float(face.emotion_pose("happy")[0][UNIT["smile"]])
    np.testing.assert_allclose(smile[closed == 1], preset / 2, atol=1e-6)
    np.testing.assert_allclose(smile[closed == 0], preset, atol=1e-6)
    angry = fm.face_motion(visemes, fps=FPS, idle=chance, emotion="angry", settings=CALM).expression[
        ..., UNIT["lip_press"]
    ]
    np.testing.assert_allclose(angry[visemes[..., 0] >= 14], 0, atol=1e-9)


@pytest.mark.parametrize("emotion", face.EMOTIONS)
def test_emotion_can_be_kept_away_from_the_mouth(visemes, idle, emotion):
    apart = im.FaceSettings(emotion_at_mouth=0.0)
    neutral = fm.face_motion(visemes, fps=FPS, idle=idle)
    felt = fm.face_motion(visemes, fps=FPS, idle=idle, emotion=emotion, settings=apart)
    np.testing.assert_allclose(felt.jaw, neutral.jaw, atol=1e-12)
    np.testing.assert_allclose(felt.expression[..., MOUTH], neutral.expression[..., MOUTH], atol=1e-12)
    moved = np.abs(face.emotion_pose(emotion)[0].numpy()[UPPER]).max() > 0
    assert np.array_equal(felt.expression[..., UPPER], neutral.expression[..., UPPER]) != moved


# ---------------------------------------------------------------------------------------------------- counterfactuals


def test_counterfactuals_differ_only_by_the_emotion(visemes, idle):
    chance = im.Idle(idle.slow[0], idle.blink[0], idle.modulation[0], idle.head[0], FPS)
    several = fm.counterfactuals(
        visemes[0], [("sad", 3.0), ("sad", 3.0), ("happy", 2.0), ("neutral", 1.0), ("angry", 0.0)], fps=FPS, idle=chance
    )
    assert np.array_equal(several[0].expression, several[1].expression)
    assert not np.array_equal(several[0].expression, several[2].expression)
    # No emotion and an emotion of intensity 0 are one face.
    assert np.array_equal(several[3].expression, several[4].expression)
    assert all(np.array_equal(several[i].head, several[0].head) for i in range(5))
    # Brows of a happy face are those of the neutral one: its preset has none.
    np.testing.assert_allclose(brow(several[2]), brow(several[3]))


def test_tracking_noise_is_the_same_for_counterfactuals_and_as_large_as_asked(visemes, idle):
    clean = [fm.face_motion(visemes, fps=FPS, idle=idle, emotion=emotion) for emotion in ("sad", "happy")]
    noisy = [fm.with_tracking_noise(motion, np.random.default_rng(3), smooth=0.02, white=0.01) for motion in clean]
    errors = [after.expression - before.expression for before, after in zip(clean, noisy, strict=True)]
    np.testing.assert_allclose(errors[0], errors[1], atol=1e-12)
    assert errors[0].std() == pytest.approx(np.hypot(0.02, 0.01), rel=0.05)
    assert np.diff(errors[0], axis=1).std() > 0.01 * np.sqrt(2)
    still = fm.with_tracking_noise(clean[0], np.random.default_rng(3), smooth=0.0, white=0.0)
    assert np.array_equal(still.jaw, clean[0].jaw)


# ----------------------------------------------------------------------------------------------------- person and head


def test_articulation_scales_with_anatomy_but_closures_do_not(visemes):
    size = np.linspace(-2, 2, CLIPS)
    gain = fm.anatomy_gain(size, 0.3)
    plain, scaled = (
        fm.face_motion(visemes, fps=FPS, idle=quiet(FRAMES, (CLIPS,)), articulation_gain=g) for g in (1.0, gain)
    )
    free = (fm.lip_closure(visemes) == 0) & (plain.jaw > 0)
    np.testing.assert_allclose(
        (scaled.jaw / np.where(free, plain.jaw, 1))[free], np.broadcast_to(gain[:, None], free.shape)[free]
    )
    assert (fm.anatomy_gain(size, 0.0) == 1).all()
    assert np.corrcoef(scaled.jaw.max(1), size)[0, 1] > 0.8


def test_the_head_nods_behind_each_beat():
    beats = im.Beats.of([([0.5, 1.5], [1.0, 0.5]), ([2.0], [1.0])])
    motion = fm.face_motion(np.zeros((2, FRAMES, 7)), fps=FPS, idle=quiet(FRAMES, (2,)), beats=beats)
    pitch = np.rad2deg(motion.head[..., 0])
    assert pitch[0].argmax() == 17
    assert pitch[0, 47] == pytest.approx(0.5 * pitch[0, 17], rel=1e-3)
    assert pitch[1].argmax() == 62
    assert pitch[0, 17] == pytest.approx(2.5, rel=1e-3)
    assert (motion.head[..., 1:] == 0).all()


def test_frames_become_vertices_of_the_person(visemes, idle):
    head = face.head(2)
    person = head.identity_vertices(torch.zeros(1, len(face.PARAMETERS)), torch.zeros(1))[0]
    motion = fm.face_motion(visemes, fps=FPS, idle=idle)[3]
    vertices = motion.vertices(head, person)
    assert vertices.shape == (FRAMES, *person.shape)
    expected = head.pose(
        person[None], torch.from_numpy(motion.expression[5:6]).to(person), torch.from_numpy(motion.jaw[5:6]).to(person)
    )
    torch.testing.assert_close(vertices[5], expected[0])


def test_frames_are_points_on_the_line_between_samples():
    times = np.array([0.0, 0.1, 0.3])
    found = fm.at_frames(np.array([[0.0], [1.0], [3.0]]), times, fps=20.0)
    np.testing.assert_allclose(found[:, 0], [0, 0.5, 1, 1.5, 2, 2.5, 3])
    assert len(fm.at_frames(np.array([[0.0], [1.0], [3.0]]), times, fps=20.0, frames=3)) == 3


# ------------------------------------------------------------------------------------------------------------- faults

GOOD = np.zeros((10, 7))
BAD = GOOD.copy()
BAD[3, 2] = np.nan


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fps": 0.0}, "fps: expected a positive number of frames a second, found 0"),
        ({"fps": float("nan")}, "fps: expected a positive"),
        ({"visemes": np.zeros((0, 7))}, "visemes: expected at least one clip and one frame"),
        ({"visemes": BAD}, "visemes: 1 of 70 values are NaN"),
        ({"emotion": "bored"}, "emotion: unknown 'bored'; expected one of neutral, happy"),
        ({"emotion": ["sad", "happy"]}, "emotion: expected one name or one for each"),
        ({"intensity": 3.5}, "intensity: expected values from 0 to 3, found 3.5"),
        ({"intensity": -1.0}, "intensity: expected values from 0 to 3"),
        ({"intensity": float("nan")}, "intensity: expected values from 0 to 3"),
        ({"articulation_gain": -0.1}, "articulation_gain: expected values from 0"),
        ({"upper_face": "wild"}, "upper_face: expected one of independent, mixed, driven or a share"),
        ({"upper_face": 1.2}, r"upper_face: expected a share in \[0, 1\]"),
        ({"idle_amplitude": -1.0}, "idle_amplitude: expected a number not below 0"),
        ({"loudness": np.full(10, np.nan)}, "loudness: 10 of 10 values are NaN"),
        ({"loudness": np.zeros(9)}, "loudness: expected one value a frame"),
        ({"rng": None}, "give either rng"),
        ({"idle": quiet(10)}, "give either rng"),
        ({"rng": None, "idle": quiet(9)}, "idle: drawn for"),
        ({"rng": None, "idle": quiet(10, fps=25.0)}, "idle: drawn for"),
        ({"beats": im.Beats.of([([0.1], [1.0])])}, "beats: expected those of"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_with_its_name(arguments, message):
    call = {"visemes": GOOD, "fps": 30.0, "rng": np.random.default_rng(0), **arguments}
    with pytest.raises(ValueError, match=message):
        fm.face_motion(call.pop("visemes"), **call)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fm.at_frames(GOOD, np.arange(9.0), fps=30.0), "one rising time for each"),
        (lambda: fm.at_frames(GOOD, np.zeros(10), fps=30.0), "one rising time for each"),
        (lambda: fm.at_frames(GOOD, np.arange(10.0), fps=30.0, frames=0), "at least one frame"),
        (lambda: fm.counterfactuals(GOOD, [], fps=30.0, idle=quiet(10)), "conditions: expected at least one"),
        (lambda: fm.anatomy_gain(np.array([np.nan])), "sizes and gain must be finite"),
        (lambda: im.draw_idle(np.random.default_rng(0), 0, fps=30.0), "at least one frame"),
        (lambda: im.Beats(np.zeros(2), np.zeros(3)), "must have one shape"),
        (lambda: im.FaceSettings(blink_refractory_s=0.1), "blinks: expected 0 < shortest"),
        (lambda: im.FaceSettings(head_time_s=0.0), "time constants must be positive"),
        (lambda: im.FaceSettings(emotion_at_mouth=2.0), r"must lie in \[0, 1\]"),
        (lambda: im.Beats(np.zeros(2), np.array([1.0, -1.0])), "strengths not negative"),
        (lambda: im.Beats.of([]), "found none"),
        (lambda: im.Beats.of([([1.0], [])]), "beats of clip 0: 1 times and 0 strengths"),
        (lambda: fm.face_motion(GOOD, fps=30.0, idle=quiet(10))[0], "single clip already"),
    ],
)
def test_bad_pieces_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
