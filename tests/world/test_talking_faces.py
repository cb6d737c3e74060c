"""Talking faces of the world: sound and lips come from one articulation, each switch turns one thing, and few vertices stand for the head."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from paper_utils.audio import LogMel, log_mel
from paper_utils.data.talking_faces import EMOTIONS
from paper_utils.world import talking_faces as tf
from paper_utils.world.articulation import articulate
from paper_utils.world.face import EXPRESSION_UNITS, head
from paper_utils.world.idle_motion import FaceSettings
from paper_utils.world.people import Population

POPULATION = Population(seed=3, size=16)
SCENE = tf.Scene(seconds=1.2)
SCRIPT = tf.Script(POPULATION, (0, 1, 2, 3, 4, 5), 3, scene=SCENE)
STILL = FaceSettings(onset_s=0.0, offset_s=0.0, modulation=0.0)


@pytest.fixture(scope="module")
def faces():
    return tf.talking_faces(SCRIPT, cache=False)


def made(script=SCRIPT, shown=None):
    return tf.talking_faces(script, shown=shown, cache=False)


def quiet(**options):
    return replace(SCRIPT, scene=replace(SCENE, sound=False, **options))


def lip_gap(faces):
    """Height between the lips, mm, averaged over their pairs."""
    upper, lower = faces.vertices[:, faces.mesh.lip_pairs.T, 1].unbind(1)
    return (upper - lower).mean(-1)


def upper_motion(faces):
    return faces.motion()[:, faces.mesh.region("upper_face"), 1].reshape(len(faces), int(faces.lengths[0]), -1)


# ------------------------------------------------------------------------------------------------------------ the clips


def test_clips_have_the_asked_length_rate_and_people(faces):
    assert len(faces) == 18
    assert faces.stacked().shape == (18, 36, 215, 3)
    assert faces.stacked_audio().shape == (18, 19_200)
    assert faces.subjects == tuple("012345")
    assert [faces[i].subject for i in (0, 3, 17)] == ["0", "1", "5"]
    assert {clip.emotion for clip in faces} == {"neutral"}


def test_whole_sentences_are_as_long_as_their_sound():
    texts = ("Hello.", "Peter packed both bags before breakfast.")
    few = made(replace(SCRIPT, identities=(2, 7), per_person=2, texts=texts, scene=tf.Scene(fps=25.0)))
    assert few.sentences == texts * 2
    assert few.lengths[0] < few.lengths[1]
    for clip in few:
        assert len(clip.audio) == round(len(clip) / 25 * 16_000)
        assert clip.audio.abs().max() > 0.01


def test_the_phone_of_a_frame_is_that_of_its_middle():
    script = replace(SCRIPT, identities=(0,), per_person=1, texts=("P AA1 P AA1",))
    clip = made(script)[0]
    names = [tf.PHONE_NAMES[code] for code in clip.phones.tolist()]
    assert [name for i, name in enumerate(names) if i == 0 or names[i - 1] != name] == [
        "SIL",
        "P",
        "AA",
        "P",
        "AA",
        "SIL",
    ]


def test_a_frame_shows_the_middle_of_its_sound():
    script = quiet()
    spoken = tf._speak(script).spoken
    fine = articulate(spoken, hop_s=0.001)
    _, jaw = tf.coefficients(script, cache=False)
    jaw = jaw.view(len(script), -1).double().numpy()
    errors = []
    for shift in (0.0, 0.5):
        times = (np.arange(jaw.shape[1]) + shift) / SCENE.fps
        tracks = [fine.visemes[a:b, 0] for a, b in pairwise(fine.starts)]
        expected = np.stack([np.interp(times, 0.001 * np.arange(len(track)), track) for track in tracks])
        errors.append(np.abs(np.rad2deg(jaw) - expected).mean())
    assert errors[1] < 0.01  # degrees
    assert errors[0] > 0.3


def test_lips_close_in_every_bilabial_and_open_at_open_vowels(faces):
    gap, phones = lip_gap(faces), np.array(tf.PHONE_NAMES)[faces.phones.numpy()]
    # A stop ends with its release, so that its last frames are open: the narrowest one counts.
    inside = np.isin(phones, ["P", "B", "M"])
    begins = inside & ~np.r_[False, inside[:-1] & (np.diff(faces.clip_of_frame) == 0)]
    run = np.cumsum(begins)[inside]
    narrowest = np.array([float(gap[inside][run == number].min()) for number in np.unique(run)])
    wide = gap[np.isin(phones, ["AA", "AE", "AO"])]
    assert len(narrowest) > 10
    assert len(wide) > 20
    assert np.median(narrowest) < 0.3
    assert (narrowest < 1.0).mean() > 0.85
    assert wide.median() > 4


def test_the_mouth_opens_with_the_sound_of_its_own_clip_and_not_with_that_of_another(faces):
    loud = log_mel(faces.stacked_audio(), LogMel(bands=24)).mean(-1)  # (clips, 10 ms)
    at = ((torch.arange(36) + 0.5) / 30 * 100).round().long()
    gap = lip_gap(faces).reshape(len(faces), -1)

    def correlation(rows):
        a, b = loud[rows][:, at] - loud[rows][:, at].mean(1, keepdim=True), gap - gap.mean(1, keepdim=True)
        return ((a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))).mean()

    own, other = torch.arange(len(faces)), torch.arange(len(faces)).roll(1)
    assert correlation(own) > 0.35
    assert correlation(own) > correlation(other) + 0.15


def test_the_same_words_sound_of_the_speaker():
    """Formants follow the tract: men's and women's mean spectra differ more than two readings of one person."""
    people = POPULATION.people()
    who = (int(np.flatnonzero(people.voice_sex == 0)[0]), int(np.flatnonzero(people.voice_sex == 1)[0]))
    script = replace(SCRIPT, identities=who, per_person=2, texts=("M AA1 N IY1",), scene=tf.Scene(severity=0.0))
    spectra = [log_mel(clip.audio[None], LogMel(bands=40))[0].mean(0) for clip in made(script)]
    within = max((spectra[0] - spectra[1]).std(), (spectra[2] - spectra[3]).std())
    assert (spectra[0] - spectra[2]).std() > 1.5 * within


# ------------------------------------------------------------------------------------------------------------- switches


def test_a_script_gives_the_same_clips_each_time_and_others_with_another_seed(faces):
    again = made()
    assert torch.equal(again.vertices, faces.vertices)
    assert torch.equal(again.audio, faces.audio)
    assert again.fingerprint == faces.fingerprint
    assert made(replace(SCRIPT, seed=1)).fingerprint != faces.fingerprint


def test_what_a_person_does_does_not_depend_on_who_else_is_there(faces):
    alone = made(replace(SCRIPT, identities=(4,)))
    # Products over more rows round otherwise.
    torch.testing.assert_close(alone.vertices, faces.of_subjects(["4"]).vertices, atol=1e-4, rtol=0)
    assert torch.equal(alone.audio, faces.of_subjects(["4"]).audio)


def test_the_cache_gives_what_was_made_and_shares_sound_between_faces(faces, monkeypatch):
    stored = tf.talking_faces(SCRIPT)
    assert torch.equal(stored.vertices, faces.vertices)
    assert torch.equal(stored.audio, faces.audio)
    monkeypatch.setattr(tf, "_sound", lambda *_: pytest.fail("sound was made again"))
    angry = tf.talking_faces(SCRIPT, shown=(("anger", 3),))
    assert torch.equal(angry.audio, faces.audio)
    assert not torch.equal(angry.vertices, faces.vertices)
    monkeypatch.setattr(tf, "_faces", lambda *_: pytest.fail("faces were made again"))
    assert torch.equal(tf.talking_faces(SCRIPT).vertices, faces.vertices)


def test_a_driven_upper_face_is_a_function_of_articulation_and_a_mixed_one_is_not():
    script = replace(
        SCRIPT, identities=(0,), per_person=1, texts=("Peter packed both bags.",), scene=tf.Scene(face=STILL)
    )
    spoken = tf._speak(script)  # the same words at the same times, with other chance in brows and lids
    spread = {}
    for share in ("driven", "mixed", "independent"):
        weights = [
            tf._motion(
                replace(spoken, script=replace(script, seed=seed, scene=replace(script.scene, upper_face=share))),
                [("neutral", 1)],
            )[0].expression
            for seed in (0, 1)
        ]
        spread[share] = float(np.abs(weights[0] - weights[1]).max())
    assert spread["driven"] < 1e-9
    assert spread["independent"] > spread["mixed"] > 0.1


def test_blinks_can_be_switched_off():
    unit = EXPRESSION_UNITS.index("eye_close")
    with_blinks, _ = tf.coefficients(quiet(), cache=False)
    without, _ = tf.coefficients(quiet(blinks=False), cache=False)
    assert with_blinks[:, unit].max() > 0.95
    assert without[:, unit].max() < 0.9


def test_brows_stand_still_without_idle_motion_and_drive():
    calm = made(quiet(idle_amplitude=0.0, blinks=False))
    assert upper_motion(calm).abs().max() < 0.2  # mm: what the smooth field carries up from the mouth
    assert upper_motion(made(quiet())).abs().max() > 3


def test_an_emotion_shown_over_the_same_words_changes_the_face_and_neither_words_nor_sound(faces):
    happy = made(shown=(("happy", 3),))
    assert happy.sentences == faces.sentences
    assert torch.equal(happy.phones, faces.phones)
    assert torch.equal(happy.audio, faces.audio)
    assert torch.equal(happy.templates, faces.templates)
    assert (happy.vertices - faces.vertices).norm(dim=-1).mean() > 0.3
    assert {EMOTIONS[code] for code in happy.emotion.tolist()} == {"happy"}
    mild = made(shown=(("happy", 1),))
    near, far = ((other.vertices - faces.vertices).norm(dim=-1).mean() for other in (mild, happy))
    assert 0.2 < near / far < 0.6


def test_conditions_take_turns_or_are_given_clip_by_clip():
    pairs = (("sad", 2), ("anger", 3), ("neutral", 1))
    labels = made(replace(quiet(), conditions=pairs)).labels()
    assert [(EMOTIONS[e], i) for e, i in zip(*(x.tolist() for x in labels), strict=True)] == list(pairs) * 6
    assert len(tf.MEAD_CONDITIONS) == 22
    one_each = tuple(tf.MEAD_CONDITIONS[:18])
    assert made(replace(quiet(), conditions=one_each)).intensity.tolist() == [i for _, i in one_each]


def test_a_voice_without_leak_says_nothing_of_the_emotion_and_one_with_leak_does():
    neutral = replace(SCRIPT, scene=replace(SCENE, leak=0.0))
    angry = replace(neutral, conditions=(("anger", 3),))
    assert torch.equal(made(neutral).audio, made(angry).audio)
    leaking = made(replace(angry, scene=replace(SCENE, leak=1.0)))
    assert leaking.audio.square().mean() > 1.5 * made(neutral).audio.square().mean()


def test_tracking_noise_is_noise_of_the_asked_size():
    clean, noisy = made(quiet()), made(quiet(tracking_noise=(0.0, 0.05)))
    error = (noisy.vertices - clean.vertices).norm(dim=-1)
    assert 0.05 < error.mean() < 1.0


def test_without_sound_there_is_none_and_asking_for_it_says_so():
    silent = made(quiet())
    assert len(silent[0].audio) == 0
    with pytest.raises(ValueError, match="have no sound"):
        silent.stacked_audio()


def test_heard_says_the_same_words_at_the_same_time(faces):
    voices = tf.heard(SCRIPT, mel=24)
    assert voices.log_mel.shape == (18 * 121, 24)
    assert voices.identities.tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3 + [4] * 3 + [5] * 3
    phones = voices.phone_of_frame().view(18, 121)
    middle = ((torch.arange(36) + 0.5) / 30 * 100).round().long()
    agree = phones[:, middle] == faces.phones.view(18, 36)
    assert agree.float().mean() > 0.93  # 10 ms frames do not meet the middles exactly


# --------------------------------------------------------------------------------------------------------- few vertices


@pytest.mark.parametrize(("name", "count"), [("front", 215), ("coarse", 279), ("head", 1262)])
def test_vertex_sets_have_masks_that_fall_with_the_distance_from_their_cores(name, count):
    mesh = tf.vertex_set(name).mesh
    assert mesh.vertices == count
    for region in ("mouth", "upper_face"):
        mask, core = mesh.mask(region), mesh.region(region)
        assert torch.equal(mask == 1, core)
        assert 0 < mask.min() <= 0.05
    assert not (mesh.region("mouth") & mesh.region("upper_face")).any()
    assert torch.equal(mesh.region("rest"), ~(mesh.region("mouth") | mesh.region("upper_face")))
    assert set(mesh.mask("eyelids").unique().tolist()) == {0.0, 1.0}
    assert mesh.lip_pairs.shape == (5, 2)
    assert mesh.region("lips")[mesh.lip_pairs].all()


def test_a_vertex_set_is_a_closed_sheet_with_slits_for_mouth_and_eyes():
    mesh = tf.vertex_set("front").mesh
    edges = torch.cat([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]]).sort(1).values
    distinct, uses = edges.unique(dim=0, return_counts=True)
    assert set(uses.tolist()) == {1, 2}
    # Euler: a sheet with three holes.
    assert mesh.vertices - len(distinct) + len(mesh.faces) == 1 - 3


def test_kept_vertices_move_as_those_of_the_whole_head():
    whole, few = (made(quiet(vertices=name)) for name in ("head", "front"))
    kept = tf.vertex_set("front").kept
    torch.testing.assert_close(whole.vertices[:, kept], few.vertices, atol=1e-4, rtol=0)
    torch.testing.assert_close(whole.templates[:, kept], few.templates, atol=1e-4, rtol=0)


def test_few_vertices_put_back_on_the_head_give_the_head_nearly():
    whole, few = (made(quiet(vertices=name)) for name in ("head", "front"))
    people = POPULATION.people(SCRIPT.identities)
    skin = head(2).part == 0
    for clip in (0, 7):
        person = int(few.subject[clip])
        back = tf.on_head(few[clip].motion, tf.neutral_heads(people)[person])
        error = (back - whole[clip].vertices).norm(dim=-1)[:, skin]
        moved = whole[clip].motion.norm(dim=-1)[:, skin]
        assert error.mean() < 0.05 * moved.mean()
        assert error.max() < 1.5


def test_finer_heads_take_the_same_motion():
    few = made(quiet())
    neutral = tf.neutral_heads(POPULATION.people([0]), 3)[0]
    assert tf.on_head(few[0].motion, neutral, points_per_cell=3).shape == (36, 2527, 3)


# --------------------------------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conditions": (("joy", 1),)}, r"emotion: expected one of neutral, happy, .*found 'joy'"),
        ({"conditions": (("happy", 4),)}, r"intensity: expected one of 1, 2, 3; found 4"),
        ({"conditions": ()}, r"conditions: expected 1 to 18 pairs"),
        ({"texts": ()}, r"texts: expected at least one"),
        ({"per_person": 0}, r"at least one person and one clip"),
        ({"identities": ()}, r"at least one person and one clip"),
    ],
)
def test_scripts_that_cannot_be_played_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(SCRIPT, **change)


def test_unknown_settings_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="vertices: expected one of coarse, front, head; found 'all'"):
        made(quiet(vertices="all"))
    with pytest.raises(ValueError, match="upper_face: expected one of independent, mixed, driven"):
        made(quiet(upper_face="linked"))
    with pytest.raises(ValueError, match="shown: expected 1 to 18"):
        made(quiet(), shown=())
    with pytest.raises(ValueError, match="215 moving vertices"):
        tf.on_head(torch.zeros(2, 7, 3), torch.zeros(1262, 3))
