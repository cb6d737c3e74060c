"""What notebook 09 trains and measures: worlds that differ in one thing, requests, judges' arithmetic, files of trained networks."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from paper_utils import experiment, training
from paper_utils.data.talking_faces import EMOTIONS
from paper_utils.methods import emote
from paper_utils.studies import emote as st
from paper_utils.studies import emote_judging as judging
from paper_utils.studies import emote_world as worlds
from paper_utils.world.recordings import PHONE_NAMES


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("emote")


@pytest.fixture
def exp(folder, monkeypatch):
    # One folder for the file: what a test makes, the next finds.
    monkeypatch.setenv("PAPER_UTILS_OUTPUT", str(folder))
    return experiment.start("09", profile="smoke")


@pytest.fixture
def known(exp):
    return worlds.world(exp)


@pytest.fixture
def judges(known):
    inputs, phones = 3 * len(known.kept), len(PHONE_NAMES)
    return st.Readers(
        st.LipReader(3 * len(known.mouth), phones, seed=0),
        st.MotionEmotion(inputs, seed=1),
        st.MotionEmotion(inputs, static=True, seed=1),
    )


# ------------------------------------------------------------------------------------------------------------------ data


def test_judges_learn_from_other_people_than_networks_inside_the_losses(known):
    assert not set(known.judging.script.identities) & set(known.train.script.identities)
    assert known.test.script.identities == known.train.script.identities
    assert known.test.script.seed != known.train.script.seed


def test_all_conditions_of_mead_are_trained_and_the_test_is_at_full_intensity(known):
    clips = known.train.clips
    assert len(set(zip(clips.emotion.tolist(), clips.intensity.tolist(), strict=True))) == 22
    strong = known.test.clips.emotion > 0
    assert set(known.test.clips.intensity[strong].tolist()) == {3}


def test_standardised_sound_is_that_of_the_training_clips(known):
    flat = known.train.clips.sound.flatten(0, 1)
    torch.testing.assert_close(flat.mean(0), torch.zeros(40), atol=1e-4, rtol=0)
    torch.testing.assert_close(flat.std(0), torch.ones(40), atol=1e-4, rtol=0)


def test_leak_changes_voices_and_not_who_speaks(exp, known):
    silent = worlds.world(exp, leak=0.0)
    assert silent.train.script.identities == known.train.script.identities
    assert not torch.equal(silent.train.clips.sound, known.train.clips.sound)
    torch.testing.assert_close(silent.judging.clips.motion, known.judging.clips.motion)


def test_labels_are_dealt_among_the_chosen_share_only(known):
    clips = known.train.clips
    dealt = worlds.relabelled(clips, 0.5, torch.Generator().manual_seed(0))
    moved = (dealt.emotion != clips.emotion) | (dealt.intensity != clips.intensity)
    assert 0.3 < float(moved.float().mean()) <= 0.5
    for before, after in ((clips.emotion, dealt.emotion), (clips.intensity, dealt.intensity)):
        assert torch.equal(before.sort().values, after.sort().values)
    assert torch.equal(worlds.relabelled(clips, 0.0, torch.Generator()).emotion, clips.emotion)
    assert torch.equal(dealt.motion, clips.motion)


# -------------------------------------------------------------------------------------------------------------- requests


def test_another_emotion_is_never_the_one_of_the_sound_and_neutral_is_mild(known):
    for level in (1, 2, 3):
        request = judging.other_emotion(known.test, level)
        assert not (request.emotion == known.test.clips.emotion).any()
        assert set(request.intensity[request.emotion > 0].tolist()) == {level}
        assert set(request.intensity[request.emotion == 0].tolist()) <= {1}


def test_truth_of_the_own_emotion_is_the_clip_itself_and_another_one_keeps_what_is_no_emotion(known):
    own = judging.truth(known, judging.own_emotion(known.test))
    torch.testing.assert_close(own, known.test.clips.motion)
    other = judging.truth(known, judging.other_emotion(known.test))
    assert not torch.allclose(other, own, atol=0.05)


def test_another_text_is_of_the_same_person_and_emotion(known):
    chosen, clips = judging.other_text(known.test), known.test.clips
    assert not (chosen == torch.arange(len(clips))).any()
    assert torch.equal(clips.identity[chosen], clips.identity)
    assert torch.equal(clips.emotion[chosen], clips.emotion)


def test_the_sound_of_a_clip_lasts_as_long_as_its_motion(known):
    samples, rate = judging.sound_of(known, known.test.script.per_person)
    assert len(samples) / rate == pytest.approx(known.test.clips.motion.shape[1] / 25.0, abs=0.05)
    with pytest.raises(ValueError, match="expected the first clip of a person"):
        judging.sound_of(known, 1)


# ---------------------------------------------------------------------------------------------------------- measurements


def test_the_truth_has_no_distance_and_a_moved_mouth_the_one_it_was_moved_by(known, judges):
    request = judging.other_emotion(known.test)
    true = judging.truth(known, request)
    exact = judging.measure(known, judges, true, request)
    np.testing.assert_allclose(exact.lips_mm, 0, atol=1e-4)
    np.testing.assert_allclose(exact.upper_mm, 0, atol=1e-4)
    opened = true.clone()
    opened[..., -1] += 0.2
    moved = judging.measure(known, judges, opened, request)
    assert (moved.lips_mm > 2).all()
    np.testing.assert_allclose(moved.upper_mm, 0, atol=1e-3)


def test_judgements_follow_what_the_judges_say(known, judges):
    """Judges whose last layers have only a bias always say the same: happy, and the phone M."""
    for network in (judges.clip.emotion, judges.lips.phone):
        torch.nn.init.zeros_(network.weight)
        torch.nn.init.zeros_(network.bias)
    with torch.no_grad():
        judges.clip.emotion.bias[EMOTIONS.index("happy")] = 1.0
        judges.lips.phone.bias[PHONE_NAMES.index("M")] = 1.0
    request = judging.other_emotion(known.test)
    found = judging.measure(known, judges, judging.truth(known, request), request)
    happy = EMOTIONS.index("happy")
    np.testing.assert_array_equal(found.right, (request.emotion == happy).float())
    np.testing.assert_array_equal(found.leaked, (known.test.clips.emotion == happy).float())
    spoken = known.test.phones
    there = torch.isin(spoken, torch.tensor([PHONE_NAMES.index(p) for p in "PBM"])).any(1).numpy()
    np.testing.assert_array_equal(found.bilabials[there], 1.0)
    assert np.isnan(found.bilabials[~there]).all()
    sounding = spoken != PHONE_NAMES.index("SIL")
    expected = ((spoken == PHONE_NAMES.index("M")) & sounding).sum(1) / sounding.sum(1)
    np.testing.assert_allclose(found.phones, expected)


def test_a_straight_motion_has_no_jerk(known, judges):
    request = judging.own_emotion(known.test)
    held = known.test.clips.motion[:, :1].expand_as(known.test.clips.motion)
    np.testing.assert_allclose(judging.measure(known, judges, held, request).jerk, 0, atol=1e-4)


def test_clips_without_a_value_are_left_out_of_the_mean():
    found = judging.mean_of(np.array([1.0, np.nan, 3.0, 2.0]), np.random.default_rng(0))
    assert (found.value, found.n) == (2.0, 3)


def test_a_face_held_still_is_one_frame_and_without_emotion_another_face(known):
    still = st.face_of(known, known.train, "still")
    torch.testing.assert_close(still[:, 0], known.offsets(known.train.clips).mean(1))
    plain = st.face_of(known, known.train, "none")
    neutral = known.train.clips.emotion == 0
    true = known.offsets(known.train.clips)
    torch.testing.assert_close(plain[neutral], true[neutral])
    assert not torch.allclose(plain[~neutral], true[~neutral])
    with pytest.raises(ValueError, match="shown: expected 'emotions', 'none' or 'still', found 'all'"):
        st.face_of(known, known.train, "all")


def test_networks_that_see_clips_and_frames_agree_on_faces_held_still(exp, known):
    held = st.judging_readers(exp, known, shown="still", names=("clip", "frame"))
    by_clip, by_frame = judging.seen_by_clip_and_frame(held, known, known.train, "still")
    np.testing.assert_array_equal(by_clip, by_frame)


# ------------------------------------------------------------------------------------------------------------- trainings


def test_every_variant_changes_what_its_name_says(exp):
    named = st.variants(exp)
    full = named["EMOTE"]
    assert full.stage.exchange
    assert not named["w/o exchange"].stage.exchange
    assert named["w/o exchange"].stage.weights.lip == 2 * full.stage.weights.lip
    for name, variant in named.items():
        assert variant.leak == (not name.startswith("no leak")), name
        assert variant.wrong == (1.0 if "shuffled" in name else 0.5 if "half" in name else 0.0), name
        assert variant.flint == (not name.startswith("no prior")), name
    for world in ("half the labels", "no leak, half the labels"):
        one, other = named[f"{world}, EMOTE"], named[f"{world}, w/o exchange"]
        assert one.first == other.first
        assert one.stage.steps == other.stage.steps
    assert set(st.trainings(exp)) == {"prior", *named}


def test_a_training_is_found_again_and_first_stages_are_shared(exp, folder):
    study, named = st.prepare(exp), st.variants(exp)
    first = st.train_variant(exp, study.known, named["EMOTE"], study.flint, study.looking)
    made = len(list(folder.rglob("emote_stage/*.pt")))
    st.train_variant(exp, study.known, named["w/o exchange"], study.flint, study.looking)
    assert len(list(folder.rglob("emote_stage/*.pt"))) == made + 1
    again = st.train_variant(exp, study.known, named["EMOTE"], study.flint, study.looking, training.launch("cpu"))
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name
    assert not any(parameter.requires_grad for parameter in again.model.parameters())


def test_an_untrained_lip_reader_gives_another_network(exp):
    study, named = st.prepare(exp), st.variants(exp)
    runs = [
        st.train_variant(exp, study.known, named[name], study.flint, study.looking)
        for name in ("EMOTE", "untrained lip reader")
    ]
    assert not torch.equal(*(run.model.head.weight for run in runs))


# ---------------------------------------------------------------------------------------------- networks for a recording


def test_a_saved_network_says_the_same(exp, known):
    study = st.prepare(exp)
    model = st.train_variant(exp, known, st.variants(exp)["EMOTE"], study.flint, study.looking).model
    read = st.load_speaker(st.save_speaker(exp, known, model))
    sound, condition = known.test.clips.sound[0], emote.condition_named("sad", 2, 0, model.sizes)
    said = [emote.animate(one, sound, condition, steps_per_frame=4) for one in (model, read.model)]
    torch.testing.assert_close(*said)
    assert read.population == known.train.script.population


def test_files_that_hold_something_else_are_refused(exp, known, tmp_path):
    with pytest.raises(FileNotFoundError, match="run notebook 09, or train"):
        st.load_speaker(tmp_path / "none.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\x00")
    with pytest.raises(ValueError, match="truncated or no safetensors file"):
        st.load_speaker(tmp_path / "cut.safetensors")
    foreign = tmp_path / "foreign.safetensors"
    save_file({"a": torch.zeros(1)}, foreign)
    with pytest.raises(ValueError, match="expected a file of format 'emote of the synthetic world 1', found None"):
        st.load_speaker(foreign)
    study = st.prepare(exp)
    other = dataclasses.replace(worlds.sizes(exp).emote.network, identities=3)
    path = st.save_speaker(exp, known, st.new_model(other, study.flint, seed=0))
    with pytest.raises(ValueError, match="do not fit the sizes of profile smoke"):
        st.load_speaker(path)
