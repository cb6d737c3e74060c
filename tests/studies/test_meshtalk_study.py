"""What notebook 04 trains and measures: worlds that switch one thing, exchanges between people, planted leaks, real layouts, the speaker's file."""

from __future__ import annotations

import copy
import dataclasses
import functools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some

from paper_utils import experiment, training
from paper_utils.data.mesh_masks import write_mask
from paper_utils.data.talking_faces import FaceMesh
from paper_utils.methods import meshtalk
from paper_utils.network_files import ModelFileError
from paper_utils.studies import meshtalk as st
from paper_utils.studies import meshtalk_measures as ms


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAPER_UTILS_OUTPUT", str(tmp_path_factory.mktemp("output")))
        yield st.Study(experiment.start("04", profile="smoke"), training.launch("cpu"))


@pytest.fixture(scope="module")
def joint(study):
    return study.step_one()[0]


@pytest.fixture(scope="module")
def inputs(study, joint):
    return ms.Inputs.of(joint, study.segments("test"))


# ------------------------------------------------------------------------------------------------------------- the faces


def test_no_person_is_in_training_and_test(study):
    faces = study.faces()
    assert not set(faces.train.subjects) & set(faces.test.subjects)
    assert len(faces.train.subjects) == st.scale(study.exp).learned


def test_the_driven_world_has_the_same_words_sound_and_lips(study):
    mixed, driven = study.faces().test, study.faces("driven").test
    assert mixed.sentences == driven.sentences
    assert torch.equal(mixed.audio, driven.audio)
    lips, brows = (mixed.mesh.region(name) for name in ("lips", "brows"))
    torch.testing.assert_close(mixed.vertices[:, lips], driven.vertices[:, lips], atol=0.3, rtol=0)
    assert float((mixed.vertices - driven.vertices)[:, brows].norm(dim=-1).mean()) > 0.5


def test_shuffled_training_clips_have_the_sound_of_somebody_else_and_test_clips_their_own(study):
    plain, shuffled = study.faces(), study.faces("shuffled")
    assert torch.equal(plain.train.vertices, shuffled.train.vertices)
    assert torch.equal(plain.test.audio, shuffled.test.audio)
    own, other = plain.train.stacked_audio(), shuffled.train.stacked_audio()
    for clip, sound in enumerate(other):
        (source,) = torch.nonzero((own == sound).all(1))[:, 0].tolist()
        assert plain.train.subject[source] != plain.train.subject[clip]


def test_clips_of_one_person_cannot_be_shuffled_those_of_unequal_length_can(study):
    train = study.faces().train
    with pytest.raises(ValueError, match="are of one person"):
        st._of_others(train.of(train.subject.numpy() == 0))
    # One person has more clips than all others together, as in corpora where people stopped early.
    kept = np.flatnonzero((train.subject.numpy() == 0) | (np.arange(len(train)) % 7 == 0))
    few = train.of(kept)
    chosen = st._of_others(few)
    assert (few.subject.numpy()[chosen] != few.subject.numpy()).all()


def test_synthetic_clips_are_dealt_by_rotation(study):
    subject = study.faces().train.subject.numpy()
    order = np.argsort(subject, kind="stable")
    expected = np.empty_like(order)
    expected[order] = np.roll(order, np.bincount(subject).max())
    np.testing.assert_array_equal(st._of_others(study.faces().train), expected)


def test_unknown_and_impossible_worlds_are_refused(study, tmp_path):
    with pytest.raises(ValueError, match="expected one of mixed, driven, shuffled"):
        study.faces("backwards")
    real = experiment.start("04", profile="smoke", data="biwi", data_root=str(tmp_path))
    with pytest.raises(ValueError, match="nobody can choose what moves the brows"):
        st.sides(real, "driven")


# ---------------------------------------------------------------------------------------------------------- the trainings


def test_every_training_is_offered_by_name_and_the_second_time_comes_from_the_cache(study):
    calls = st.trainings(study.exp)
    assert {"step 1", "step 1, reconstruction", "step 1, shuffled", "step 1, driven", "step 2", "regressor"} <= set(
        calls
    )
    first = calls["step 2"](study.fabric)
    assert len(first) == st.scale(study.exp).step_two.steps
    assert np.array_equal(first, calls["step 2"](study.fabric))
    assert st.model_path("smoke").is_file()


def test_each_training_changes_one_thing(study):
    plain = study.step_one()[1]
    assert set(plain) == {"loss", "reconstruction", "eyelids", "mouth", "upper"}
    assert set(study.step_one(objective="reconstruction")[1]) == {"loss", "reconstruction"}
    assert study.step_one(heads=1)[0].decoder.code_shape == (1, 16)
    assert study.step_two(mask="released")[0].sizes == dataclasses.replace(study.step_two()[0].sizes, mask="released")


def test_full_sizes_are_the_releases():
    exp = experiment.start("04", profile="full")
    assert st.sizes(exp, 6172) == meshtalk.Sizes(mask="corrected")
    assert st.windows(exp, 30.0) == meshtalk.ReleasedWindows()
    assert (st.scale(exp).step_one, st.scale(exp).step_two) == (meshtalk.RELEASED_STEP_ONE, meshtalk.RELEASED_STEP_TWO)


# ----------------------------------------------------------------------------------------------------------- measurements


@given(some.lists(some.integers(0, 5), min_size=2, max_size=30))
def test_strangers_are_other_people_and_a_permutation_if_nobody_has_more_than_half(subjects):
    who = torch.tensor(subjects)
    if len(who.unique()) == 1:
        with pytest.raises(ValueError, match="needs two"):
            ms.stranger(who)
        return
    partner = ms.stranger(who)
    assert (who[partner] != who).all()
    if 2 * int(torch.bincount(who).max()) <= len(who):
        assert sorted(partner.tolist()) == list(range(len(who)))
    else:
        used = torch.bincount(partner, minlength=len(who))
        minority = who != torch.bincount(who).argmax()
        assert int(used[minority].max() - used[minority].min()) <= 1  # all others lend equally often


class Planted(torch.nn.Module):
    """Labels that are the inputs themselves: the first heads read the sound, the others the expression."""

    audio_heads = 2

    def logits(self, expression, audio):
        both = torch.cat([audio[..., : self.audio_heads], expression[..., self.audio_heads :]], -1)
        return torch.nn.functional.one_hot(both.long(), 16).float()


def test_heads_that_read_one_input_change_with_that_input_alone(inputs, joint):
    generator = torch.Generator().manual_seed(0)
    expression, audio = torch.randint(16, (2, *inputs.audio.shape[:2], 8), generator=generator).float()
    model = copy.deepcopy(joint)
    model.encoder.fusion_model = Planted()
    by_audio, by_expression = ms.changed_heads(model, ms.Inputs(inputs.segments, expression, audio))
    assert (by_audio[:2] > 0.8).all()
    assert (by_audio[2:] == 0).all()
    assert (by_expression[:2] == 0).all()
    assert (by_expression[2:] > 0.8).all()


def test_own_inputs_leak_nothing_and_the_truth_has_no_error(study, joint, inputs):
    own, _ = ms.decode(joint, inputs)
    again, _ = ms.decode(
        joint, inputs, expression=torch.arange(len(inputs.audio)), audio=torch.arange(len(inputs.audio))
    )
    torch.testing.assert_close(own, again)
    truth = ms.true_vertices(inputs.segments)
    torch.testing.assert_close(truth, inputs.segments.batch(torch.arange(len(truth))).vertices)
    for values in ms.errors(truth, inputs.segments).values():
        assert (values == 0).all()
    still = study.faces().train.motion().mean(0) * 0
    found = ms.leaks(joint, inputs, still)
    people = len(inputs.segments.subjects.unique())
    assert all(len(values) == people for part in found.errors.values() for values in part.values())
    assert (found.log_ratio(ms.OWN, ms.OWN, "mouth") == 0).all()


def test_a_person_is_one_number_however_many_segments():
    values = torch.tensor([1.0, 3.0, 10.0])
    assert ms.by_subject(values, torch.tensor([4, 4, 7])).tolist() == [2.0, 10.0]


def test_explained_share_is_one_for_the_truth_up_to_an_offset_and_zero_for_a_still_face(inputs):
    truth = ms.true_vertices(inputs.segments)
    np.testing.assert_allclose(ms.explained(truth + 5.0, inputs.segments, "mouth"), 1.0, atol=1e-4)
    still = truth.mean(1, keepdim=True).expand_as(truth)
    np.testing.assert_allclose(ms.explained(still, inputs.segments, "mouth"), 0.0, atol=1e-4)


def test_counting_knows_frequencies_and_nothing_else():
    train = meshtalk.Codes(torch.zeros(1, 6, 2), torch.tensor([[[0], [0], [0], [1], [1], [0]]]))
    test = meshtalk.Codes(torch.zeros(2, 1, 2), torch.tensor([[[0]], [[1]]]))
    found = ms.unigram_nll(train, test, torch.tensor([0, 1]), 2)
    np.testing.assert_allclose(found[:, 0], -np.log([5 / 8, 3 / 8]), rtol=1e-6)


def test_torn_codes_keep_every_letter_of_a_segment(study, joint):
    codes, segments = study.codes(joint, "test"), study.segments("test")
    torn = ms.torn(codes, segments.subjects, torch.Generator().manual_seed(1))
    assert torch.equal(torn.labels.sort(1).values, codes.labels.sort(1).values)
    assert torch.equal(torn.audio, codes.audio[ms.stranger(segments.subjects)])


def test_draws_repeat_with_their_seed_and_the_most_probable_needs_none(study, inputs):
    networks = study.networks()
    one, two = (ms.drawn(networks, inputs, samples=2, seed=seed) for seed in (3, 3))
    assert torch.equal(one, two)
    assert not torch.equal(one[0], one[1])
    assert torch.equal(ms.drawn(networks, inputs, samples=0, seed=0), ms.drawn(networks, inputs, samples=0, seed=9))


def test_a_regressor_follows_the_sound_it_is_given(study):
    model, segments = study.regressor()[0], study.segments("test")
    partner = ms.stranger(segments.subjects)
    other = ms.regressed(model, segments, partner)
    batch = segments.batch(partner)
    templates = segments.faces.templates[segments.subjects]
    torch.testing.assert_close(other, model(templates, batch.log_mel), atol=1e-4, rtol=1e-4)


def test_openings_are_those_of_a_planted_mouth_and_eyes(study):
    mesh, face = study.faces().test.mesh, study.faces().test.templates[:1].clone()
    plain = ms.openings(face, mesh)
    lowered = face.clone()
    lowered[:, mesh.lip_pairs[:, 1], 1] -= 7.0
    lowered[:, mesh.region("brows"), 1] += 2.0
    moved = ms.openings(lowered, mesh)
    assert float(moved.mouth - plain.mouth) == pytest.approx(7.0, abs=0.5)
    assert float(moved.brows - plain.brows) == pytest.approx(2.0, abs=1e-4)
    torch.testing.assert_close(moved.lids, plain.lids)
    with pytest.raises(ValueError, match="openings need lip pairs"):
        ms.openings(face, dataclasses.replace(mesh, lip_pairs=None))


def test_retargeted_truth_has_the_other_persons_face_and_the_same_motion(joint, inputs):
    made, wanted = ms.retargeted(joint, inputs)
    segments = inputs.segments
    partner = ms.stranger(segments.subjects)
    moved = wanted - segments.faces.templates[segments.subjects[partner]][:, None]
    own = ms.true_vertices(segments) - segments.faces.templates[segments.subjects][:, None]
    torch.testing.assert_close(moved, own, atol=1e-4, rtol=0)
    assert made.shape == wanted.shape


# ----------------------------------------------------------------------------------------------------------- real layouts


def biwi_folder(root, vertices=40, people=("F2", "F3", "F4", "F1", "F5"), sentences=(1, 2, 33, 37), frames=64):
    """A small converted BIWI with masks of our own."""
    import pickle

    import soundfile

    rng = np.random.default_rng(0)
    for folder in ("vertices_npy", "wav", "masks"):
        (root / folder).mkdir()
    templates = {person: rng.standard_normal((vertices, 3)) * 0.1 for person in people}
    for person, rest in templates.items():
        for number in sentences:
            moved = rest + 0.003 * rng.standard_normal((frames, vertices, 3)).cumsum(0)
            np.save(root / "vertices_npy" / f"{person}_{number:02d}.npy", moved.reshape(frames, -1).astype(np.float32))
            soundfile.write(
                root / "wav" / f"{person}_{number:02d}.wav",
                0.1 * rng.standard_normal(round(16_000 * frames / 25)),
                16_000,
            )
    with (root / "templates.pkl").open("wb") as file:
        pickle.dump(templates, file)
    for number, name in enumerate(("mouth", "upper_face", "eyelids")):
        mask = torch.full((vertices,), 0.1)
        mask[10 * number : 10 * number + 10] = 1.0
        write_mask(root / "masks" / f"{name}.txt", mask)
    (root / "lips.txt").write_text("0, 1, 2, 3")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    root = tmp_path_factory.mktemp("biwi")
    biwi_folder(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAPER_UTILS_OUTPUT", str(tmp_path_factory.mktemp("output")))
        patch.setattr(st.biwi, "VERTICES", 40)
        patch.setattr(st.biwi, "read_biwi", functools.partial(st.biwi.read_biwi, vertices=40))
        exp = experiment.start("04", profile="smoke", data="biwi", data_root=str(root))
        yield st.Study(exp, training.launch("cpu"))


def test_the_whole_study_runs_on_a_real_layout(recorded):
    faces = recorded.faces()
    assert faces.train.fps == 25.0
    assert int(faces.train.mesh.region("lips").sum()) == 4
    model = recorded.step_one()[0]
    inputs = ms.Inputs.of(model, recorded.segments("test"))
    found = ms.leaks(model, inputs, faces.train.motion().mean(0))
    assert np.isfinite(found.log_ratio(ms.SWAPPED_EXPRESSION, ms.OWN, "mouth")).all()
    assert torch.isfinite(ms.drawn(recorded.networks(), inputs, samples=2, seed=0)).all()
    assert not {"step 1, driven", "regressor, driven"} & set(st.trainings(recorded.exp))


def test_masks_beside_real_data_name_what_is_wrong(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"mouth\.txt"):
        st.read_mesh(tmp_path, 4)
    (tmp_path / "masks").mkdir()
    for name in ("mouth", "upper_face", "eyelids"):
        write_mask(tmp_path / "masks" / f"{name}.txt", torch.tensor([0.5, 0.5, 0.5, 0.5 if name == "mouth" else 1.0]))
    with pytest.raises(ValueError, match="masks mouth have no vertex of weight 1"):
        st.read_mesh(tmp_path, 4)
    with pytest.raises(ValueError, match="expected 5 lines"):
        st.read_mesh(tmp_path, 5)
    write_mask(tmp_path / "masks" / "mouth.txt", torch.tensor([1.0, 0.5, 0.5, 0.1]))
    mesh = st.read_mesh(tmp_path, 4)
    assert mesh.region("lips").tolist() == mesh.region("mouth").tolist() == [True, False, False, False]
    assert mesh.region("rest").tolist() == [False, True, True, False]
    assert isinstance(mesh, FaceMesh)


# -------------------------------------------------------------------------------------------------------- the speaker's file


def test_a_speaker_file_speaks_as_the_networks_it_was_made_of(study, tmp_path):
    st.save_speaker(study, tmp_path / "speaker.pt")
    read = st.load_speaker(tmp_path / "speaker.pt")
    networks, clip = study.networks(), study.faces().test[0]
    assert read.networks.windows == networks.windows
    told = {"samples": clip.audio[None], "template": clip.template[None], "sample_rate": clip.sample_rate}
    torch.testing.assert_close(meshtalk.animate(read.networks, **told), meshtalk.animate(networks, **told))
    assert torch.equal(read.templates, study.faces().test.templates)


def test_a_damaged_speaker_file_says_so(tmp_path):
    (tmp_path / "speaker.pt").write_bytes(b"no")
    with pytest.raises(ModelFileError, match="cannot be read"):
        st.load_speaker(tmp_path / "speaker.pt")


def test_a_regressor_begins_at_the_mean_displacement(study):
    segments = study.segments()
    almost_still = dataclasses.replace(st.scale(study.exp).regressor, steps=1, lr=1e-9, batch=4)
    own = st.sizes(study.exp, segments.faces.mesh.vertices)
    model, _ = meshtalk.train_regressor(study.fabric, segments, own, almost_still, audio="voca", seed=0)
    batch = segments.batch(torch.arange(4))
    moved = (model(batch.template, batch.log_mel) - batch.template[:, None]).mean((0, 1))
    torch.testing.assert_close(moved, segments.faces.motion().mean(0), atol=1.0, rtol=0)
    assert float(segments.faces.motion().mean(0).norm(dim=-1).max()) > 3
