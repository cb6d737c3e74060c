"""What notebook 08 trains and measures: worlds that switch off what they say, shuffled sound, measurements on planted cases, networks on disk."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from paper_utils import experiment, papers
from paper_utils.methods import talkshow as ts
from paper_utils.metrics import motion as metric
from paper_utils.recipes import talkshow_files
from paper_utils.studies import talkshow as studies
from paper_utils.world.gesture_tables import BODY_TEMPLATES


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """One folder for all tests, so that nothing is trained twice."""
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(autouse=True)
def _outputs_together(_outputs_apart, outputs, monkeypatch):
    monkeypatch.setenv("PAPER_UTILS_OUTPUT", str(outputs))


@pytest.fixture(scope="module")
def study(outputs):
    """A smoke run, whatever the table of papers offers."""
    paper = dataclasses.replace(papers.NOTEBOOKS["08"], data=("world",))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(papers.NOTEBOOKS, "08", paper)
        patch.setenv("PAPER_UTILS_OUTPUT", str(outputs))
        yield studies.Study(experiment.start("08", profile="smoke"))


def shaped(clips):
    return clips.motion.view(len(clips), -1, 265)


# ----------------------------------------------------------------------------------------------------------------- worlds


def test_worlds_switch_off_what_they_say(study):
    main, coupled, told, unlinked = (study.world(name) for name in ("main", "coupled", "told", "face unlinked"))
    body, hands = studies.UPPER[studies.PARTS["body"]], studies.UPPER[studies.PARTS["hands"]]
    assert torch.equal(shaped(main.test)[..., body], shaped(coupled.test)[..., body])
    assert not torch.equal(shaped(main.test)[..., hands], shaped(coupled.test)[..., hands])
    there = coupled.truth.body_class >= 0
    assert (coupled.truth.body_class == coupled.truth.hand_class)[there].all()
    assert torch.equal(main.test.motion, told.test.motion)
    assert not torch.equal(main.test.features, told.test.features)
    assert not torch.equal(shaped(main.test)[..., 0], shaped(unlinked.test)[..., 0])
    assert torch.equal(shaped(main.test)[..., hands], shaped(unlinked.test)[..., hands])


def test_sentences_of_training_and_test_differ_and_speakers_take_turns(study):
    train, test = study.said
    assert not {id(one) for one in train.utterances} & {id(one) for one in test.utterances}
    for part in study.said:
        assert part.speakers.tolist() == [i % 4 for i in range(len(part))]
    with pytest.raises(ValueError, match="expected one of main"):
        study.world("mars")


def test_deaf_clips_have_the_sound_of_another_sentence_of_the_same_speaker(study):
    clips, deaf = study.world().train, study.deaf()
    heard, other = (x.features.view(-1, 88, x.features.shape[1]) for x in (clips, deaf))
    assert len(other) == len(deaf) == studies.SHUFFLES * len(clips)
    assert torch.equal(deaf.speakers, clips.speakers.repeat(studies.SHUFFLES))
    for take, sound in enumerate(other.split(len(clips)), start=1):
        for i in range(len(clips)):
            partner = (i - 4 * take) % len(clips)
            assert torch.equal(sound[i], heard[partner])
            assert clips.speakers[partner] == clips.speakers[i]
            assert not torch.equal(sound[i], heard[i])


def test_another_take_has_the_same_sound_and_other_gestures(study):
    first, second = study.world().train, study.take("main", 1)
    assert torch.equal(study.take("main", 0).motion, first.motion)
    bands = slice(0, 14)
    assert torch.equal(first.features[:, bands], second.features[:, bands])
    assert not torch.equal(first.motion, second.motion)


# -------------------------------------------------------------------------------------------------------------- trainings


def test_a_codebook_in_radians_is_the_one_that_learned_in_tenths_around_a_pose():
    config = ts.CodebookConfig(8, 1)
    network = ts.VqVae(6, config, seed=0).eval()
    generator = torch.Generator().manual_seed(0)
    motion, centre = torch.randn(2, 16, 6, generator=generator), torch.randn(6, generator=generator)
    codes = network.encode(studies.UNIT * (motion - centre))
    decoded = network.decode(codes)
    found = studies.in_radians(network, centre)
    assert torch.equal(found.encode(motion - centre), codes)
    torch.testing.assert_close(found.decode(codes), centre + decoded / studies.UNIT)


def test_a_second_study_of_the_run_reads_the_cache(study, monkeypatch):
    network, history = study.codebook("body")
    again = studies.Study(study.exp)

    def refuse(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr(ts, "train_codebook", refuse)
    found, read = again.codebook("body")
    for name, value in network.state_dict().items():
        assert torch.equal(found.state_dict()[name], value), name
    np.testing.assert_array_equal(read["loss"], history["loss"])


def test_coupling_is_measured_for_every_run_and_clip(study):
    found = study.coupling("coupled")
    assert found.shape == (study.scale.runs, study.scale.test)
    assert np.isfinite(found).all()


def test_draws_differ_and_a_regression_does_not(study):
    draws = study.draw(study.model(face=False))
    assert draws.shape == (study.scale.test, study.scale.draws, 88, 129)
    assert metric.pairwise_diversity(draws.transpose(0, 1).numpy()) > 0
    assert torch.equal(study.regressed("upper"), study.regressed("upper"))
    assert study.reconstructed().shape == (study.scale.test, 88, 129)


def test_networks_survive_the_disk(study, tmp_path):
    model = study.model()
    talkshow_files.save(model, tmp_path / "model.safetensors")
    found = talkshow_files.load(tmp_path / "model.safetensors")
    features = study.world().test.features[:40][None]
    results = [
        one.generate(features, torch.tensor([2]), generator=torch.Generator().manual_seed(1)) for one in (model, found)
    ]
    assert torch.equal(*results)


def test_trainings_give_the_loss_of_every_step(study):
    calls = studies.trainings(study.exp)
    loss = calls["model"](study.fabric)
    assert loss.shape == (study.scale.prior_training.steps,)
    assert studies.model_path("smoke").is_file()


# ----------------------------------------------------------------------------------------------------------- measurements


def test_variance_is_explained_wholly_by_the_truth_and_not_by_the_mean(study):
    world = study.world()
    columns = studies.UPPER
    truth = studies.upper_of(world.test)
    assert studies.r_squared(studies.explained(world.test, world.train, truth, columns)) == 1
    means = torch.stack(
        [studies.upper_of(world.train)[world.train.speakers == speaker].mean((0, 1)) for speaker in range(4)]
    )
    flat = means[world.test.speakers][:, None].expand_as(truth)
    assert studies.r_squared(studies.explained(world.test, world.train, flat, columns)) == pytest.approx(0, abs=1e-4)


def test_a_body_lifted_at_its_vowels_is_found_and_shuffling_loses_it():
    rng = np.random.default_rng(0)
    upper = 0.01 * torch.randn(12, 1, 88, 129, generator=torch.Generator().manual_seed(0))
    onsets = [np.sort(rng.uniform(0.2, 2.6, 3)) for _ in range(12)]
    for clip, times in enumerate(onsets):
        for time in times:
            upper[clip, 0, round(30 * time) + 2, :5] += 1.0
    lift = studies.lifted(upper)
    assert studies.at_vowels(lift, onsets).min() > 1
    assert studies.at_vowels(lift, studies.rolled(onsets)).mean() < 0.5


def test_styles_are_recognised_by_what_moves_and_not_by_how_much():
    generator = torch.Generator().manual_seed(0)
    speakers = np.arange(40) % 4
    favourite = torch.from_numpy(BODY_TEMPLATES).float()[speakers]
    motion = 0.02 * torch.randn(40, 88, 129, generator=generator)
    motion[..., :39] += torch.randn(40, 88, 1, generator=generator) * favourite[:, None]
    learned = studies.style(motion)
    assert studies.recognised(learned, speakers, studies.style(0.3 * motion + 2), speakers).mean() == 1
    assert studies.recognised(learned, speakers, learned, (speakers + 1) % 4).mean() == 0


def test_a_regressor_in_radians_adds_a_tenth_of_what_it_learned_to_the_mean_pose():
    network = ts.Regressor(ts.RegressorConfig(5, 3, 8, 2), seed=0).eval()
    sound, who = torch.randn(1, 12, 5, generator=torch.Generator().manual_seed(0)), ts.one_hot(torch.tensor([1]))
    with torch.no_grad():
        before, centre = network(sound, who), torch.tensor([1.0, 0.0, -2.0])
        after = studies.regressor_in_radians(network, centre)(sound, who)
    torch.testing.assert_close(after, centre + before / studies.UNIT)


def test_own_beats_are_in_time_by_both_scores(study):
    joints = studies.joints_of(studies.upper_of(study.world().test))
    change = studies.angle_changes(joints, unit_bones=True)
    beats = studies.own_beats(joints, change)
    kept = [clip for clip, times in enumerate(beats) if len(times)]
    own = studies.beat_scores([joints[c] for c in kept], [beats[c] for c in kept], change)
    other = studies.beat_scores([joints[c] for c in kept], studies.rolled([beats[c] for c in kept]), change)
    assert own.score > other.score
    with pytest.raises(ValueError, match=r"clips \[0\] have none"):
        studies.beat_scores([joints[0]], [np.array([])], change)


def test_the_closer_of_two_sets_is_found_with_its_interval():
    rng = np.random.default_rng(0)
    real, near, far = (rng.standard_normal((20, 30, 3)) + shift for shift in (0, 0.1, 2))
    found = studies.closer(real, far, near, rng)
    assert found.low > 5
    assert studies.closer(real, near, near, rng).value == pytest.approx(0)
