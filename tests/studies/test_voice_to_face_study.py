"""What notebook 03 trains and measures."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from paper_utils import experiment, papers, training
from paper_utils.data.voice_features import FrontEnd
from paper_utils.data.voxceleb_speakers import META_COLUMNS
from paper_utils.methods import voice_to_face as v2f
from paper_utils.metrics.by_identity import resample_identities
from paper_utils.studies import voice_to_face as study

SEX = np.array([0, 1, 0, 1, 0, 1, 1, 0])


@pytest.fixture(autouse=True)
def _paper_has_data(monkeypatch):
    """The study does not depend on what the table of papers offers yet."""
    paper = dataclasses.replace(papers.NOTEBOOKS["03"], data=("world", "voxceleb"), needs_root=("voxceleb",))
    monkeypatch.setitem(papers.NOTEBOOKS, "03", paper)


def smoke(**options):
    return experiment.start("03", profile="smoke", **options)


@pytest.fixture(scope="module")
def fabric():
    return training.launch("cpu")


# ----------------------------------------------------------------------------------------------------------------- people


@pytest.fixture
def worlds():
    return {name: study.people(smoke(), name) for name in study.WORLDS}


def test_nobody_is_in_both_sides_and_everybody_is_heard_and_seen(worlds):
    who = worlds["linked"]
    assert (len(who.train), len(who.test)) == (12, 10)
    for side in (who.train, who.test):
        for labels in (side.speakers, side.shown, side.speech.identities):
            assert labels.unique().tolist() == list(range(len(side)))
        assert side.measures.shape == (len(side), len(side.measure_names))
    together = np.concatenate([who.train.measures, who.test.measures])
    assert len(np.unique(together, axis=0)) == 22


def test_controls_hear_and_see_the_same_and_only_exchange_who_speaks(worlds):
    linked = worlds["linked"]
    for name in ("sex only", "shuffled"):
        other = worlds[name]
        assert other.fingerprint != linked.fingerprint
        for one, two in ((linked.train, other.train), (linked.test, other.test)):
            assert torch.equal(one.heard, two.heard)
            assert torch.equal(one.pictures, two.pictures)
            assert torch.equal(one.shown, two.shown)
            assert not (one.speakers == two.speakers).any()
    test, sex = worlds["sex only"].test, linked.test.sex
    assert (sex[test.speakers] == sex[linked.test.speakers]).all()


def test_recordings_are_normalised_band_by_band(worlds):
    heard = worlds["linked"].train.heard
    torch.testing.assert_close(heard.mean(1), torch.zeros(heard.shape[0], heard.shape[2]), atol=1e-4, rtol=0)
    assert float(heard.std(1, correction=0).median()) == pytest.approx(1.0, abs=1e-3)


def test_unknown_worlds_are_refused():
    with pytest.raises(ValueError, match="expected one of linked, sex only, shuffled, found 'mixed'"):
        study.people(smoke(), "mixed")


def test_the_tract_tells_what_it_is_linked_to_and_nothing_without_a_link(monkeypatch):
    sizes = dataclasses.replace(study.scale(smoke()), learned=300, unseen=300)
    monkeypatch.setattr(study, "scale", lambda _: sizes)
    told = study.told_by_tract(smoke())
    assert told["go-go"] > 0.8
    assert abs(told["ps-pi"]) < 0.15
    monkeypatch.setattr(study, "scale", lambda _: dataclasses.replace(sizes, link=0.0))
    assert max(study.told_by_tract(smoke()).values()) < 0.05


# --------------------------------------------------------------------------------------------------------------- trainings


def test_every_training_runs_is_cached_and_leaves_networks_for_a_reader(fabric):
    calls = study.trainings(smoke())
    assert set(calls) == {"voice", "linked", "no identity", "sex only", "shuffled"}
    first = {name: call(fabric) for name, call in calls.items()}
    assert all(np.isfinite(losses).all() and len(losses) == 4 for losses in first.values())
    assert not np.array_equal(first["linked"], first["sex only"])
    model = v2f.load(study.model_path("smoke"))
    assert (model.sizes, model.front_end.convention) == (study.scale(smoke()).sizes, "world")
    again = study.trainings(smoke())["linked"](fabric)
    assert np.array_equal(again, first["linked"])


def test_generator_and_critics_come_back_from_the_cache_as_they_were(fabric):
    exp = smoke()
    who = study.people(exp)
    encoder, loss = study.voice_network(exp, who, fabric)
    assert loss.shape == (4,)
    first, again = (study.faces_from_voices(exp, who, encoder, fabric) for _ in range(2))
    heard = who.test.heard
    assert torch.equal(study.generate(first.model, heard), study.generate(again.model, heard))
    assert first.losses["watched"].shape == (1, 8, 3, 32, 32)
    assert not study.generate(first.model, heard).requires_grad


# ---------------------------------------------------------------------------------------------------------------- matching


def items(people, each, dim, seed, spread):
    draw = torch.Generator().manual_seed(seed)
    centres = torch.randn(people, dim, generator=draw, dtype=torch.float64)
    who = torch.arange(people).repeat_interleave(each)
    return centres[who] + spread * torch.randn(len(who), dim, generator=draw, dtype=torch.float64), who


WEIGHTS = resample_identities(8, 200, np.random.default_rng(0))


@given(seed=st.integers(0, 1000))
def test_matching_counts_every_pair_and_averages_people_alike(seed):
    (probes, speakers), (gallery, shown) = items(8, 2, 3, seed, 1.0), items(8, 3, 3, seed + 1, 1.0)
    found = study.match(probes, speakers, gallery, shown, SEX, weights=WEIGHTS)
    cosine = (torch.nn.functional.normalize(probes, dim=1) @ torch.nn.functional.normalize(gallery, dim=1).T).numpy()
    for which, allowed in (
        (found.any_impostor, lambda i, j: i != j),
        (found.same_sex, lambda i, j: i != j and SEX[i] == SEX[j]),
        (found.other_sex, lambda i, j: SEX[i] != SEX[j]),
    ):
        means = []
        for i in range(8):
            rivals = [
                np.mean(cosine[p, shown == i][:, None] > cosine[p, shown == j])
                for p in np.flatnonzero(speakers == i)
                for j in range(8)
                if allowed(i, j)
            ]
            means.append(np.mean(rivals))
        assert which.value == pytest.approx(np.mean(means), abs=1e-9)
        assert which.low <= which.value <= which.high


def test_impostors_weigh_by_their_pictures_and_speakers_alike():
    (probes, speakers), (gallery, shown) = items(8, 2, 3, 0, 1.0), items(8, 3, 3, 1, 1.0)
    heard, seen = (
        torch.arange(len(speakers)) != 0,
        torch.arange(len(shown)) >= 2,
    )  # person 0: one recording, one picture
    probes, speakers, gallery, shown = probes[heard], speakers[heard], gallery[seen], shown[seen]
    found = study.match(probes, speakers, gallery, shown, SEX, weights=WEIGHTS)
    cosine = (torch.nn.functional.normalize(probes, dim=1) @ torch.nn.functional.normalize(gallery, dim=1).T).numpy()
    means = [
        np.mean([cosine[p, shown == i][:, None] > cosine[p, shown != i] for p in np.flatnonzero(speakers == i)])
        for i in range(8)
    ]
    assert found.any_impostor.value == pytest.approx(np.mean(means), abs=1e-12)


def test_planted_identity_is_found_and_its_parts_add_up():
    probes, speakers = items(8, 3, 20, 0, 0.1)
    gallery, shown = items(8, 4, 20, 0, 0.1)
    found = study.match(probes, speakers, gallery, shown, SEX, weights=WEIGHTS)
    assert found.any_impostor.value == found.same_sex.value == found.other_sex.value == 1.0


def test_somebody_who_hears_the_sex_only_reaches_the_ceiling():
    codes = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)[torch.from_numpy(SEX)]
    who = torch.arange(8)
    found = study.match(codes, who, codes, who, SEX, weights=WEIGHTS)
    assert found.same_sex.value == 0.5
    assert found.other_sex.value == 1.0
    assert found.any_impostor.value == pytest.approx(study.sex_only_ceiling(SEX))
    assert study.sex_only_ceiling(np.array([0] * 74 + [1] * 115)) == pytest.approx(0.7395, abs=5e-5)


def side(people=8, each=3):
    """A side with made-up content; only what the tests below use."""
    who = torch.arange(people).repeat_interleave(each)
    empty = torch.zeros(len(who), 1, 1)
    return study.Side(
        v2f.Speech.of(torch.zeros(len(who), 2, 1), who), empty, who, torch.zeros(len(who), 3, 2, 2), who, SEX[:people], None, None
    )  # fmt: skip


def test_relabelled_galleries_are_at_chance_for_perfect_probes():
    probes, _ = items(8, 3, 20, 0, 0.1)
    evaluation = study.Evaluation(side(), probes, WEIGHTS)
    assert evaluation.match(probes).any_impostor.value == 1.0
    values = [evaluation.relabelled(probes, np.random.default_rng(seed)).any_impostor.value for seed in range(30)]
    assert max(values) < 0.9
    assert np.mean(values) == pytest.approx(3 / 7, abs=0.06)  # one's own face is always an impostor


def test_real_faces_are_never_matched_with_themselves():
    draw = torch.randn(24, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = study.Evaluation(side(), draw, WEIGHTS).real_faces()
    assert found.any_impostor.value == pytest.approx(0.5, abs=0.25)
    assert found.wins.matches.sum() < 24 * 3


def test_differences_are_paired_on_the_same_people_and_not_across_groups():
    probes, _ = items(8, 3, 20, 0, 0.1)
    evaluation = study.Evaluation(side(), probes, WEIGHTS)
    good, bad = evaluation.match(probes), evaluation.match(-probes)
    gain = study.difference(good, bad, "any_impostor")
    assert (gain.value, gain.n) == (good.any_impostor.value - bad.any_impostor.value, 8)
    same = study.difference(good, good)
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    noisy = evaluation.match(torch.randn(24, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    apart = study.difference(noisy, noisy, "any_impostor", same_people=False)
    assert apart.low < 0 < apart.high
    fewer = study.Evaluation(side(), probes, WEIGHTS[:10]).match(probes)
    with pytest.raises(ValueError, match="equally many resamples"):
        study.difference(good, fewer)


# -------------------------------------------------------------------------------------------------- traits and measurements


def test_sex_agreement_counts_faces_on_the_speakers_side():
    train = side()
    faces = torch.tensor([[-1.0, 0.3], [1.0, 0.1]], dtype=torch.float64)[torch.from_numpy(SEX[train.shown])]
    evaluation = study.Evaluation(train, faces, WEIGHTS)
    assert study.sex_agreement(train, faces, evaluation, faces).value == 1.0
    assert study.sex_agreement(train, faces, evaluation, -faces).value == 0.0
    half = torch.where(train.speakers[:, None] < 4, faces, -faces)
    assert study.sex_agreement(train, faces, evaluation, half).value == 0.5


@pytest.fixture
def planted():
    """Pictures whose brightness in two corners is a measurement and the age."""
    rng = np.random.default_rng(0)
    sex = rng.integers(0, 2, 60)
    truth = np.column_stack([100 + 5 * rng.standard_normal(60) + 10 * sex, 40 + 10 * rng.standard_normal(60)])
    who = torch.arange(60).repeat_interleave(4)
    pictures = 0.02 * torch.randn(240, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for corner, column in ((0, 0), (7, 1)):
        value = (truth[:, column] - truth[:, column].mean()) / truth[:, column].std()
        pictures[:, :, corner, corner] += 0.3 * torch.from_numpy(value).float()[who, None]
    return study.Side(
        v2f.Speech.of(torch.zeros(240, 2, 1), who), torch.zeros(240, 1, 1), who, pictures, who, sex, truth[:, 1], truth[:, :1], ("width",)
    )  # fmt: skip


def test_planted_measurements_are_read_off_pictures(planted):
    reader = study.FaceReader.fit(planted, directions=20)
    heard = planted.sex[planted.speakers.numpy()]
    found = study.readings(reader, planted, planted.pictures, heard)
    assert found.names == ("width", "age")
    assert (found.explained("generated", "mean_face") > 0.95).all()
    np.testing.assert_allclose(found.generated, found.real)
    weights = resample_identities(60, 300, np.random.default_rng(0))
    assert found.gain("sex_mean", weights, slice(0, 1)).low > 0.8
    related = study.within_sex_correlations(found, planted.sex, weights)
    assert related.of("width").low > 0.9
    assert related.mean(["width", "age"]).low > 0.9


def test_faces_that_show_the_sex_only_gain_nothing_inside_a_sex(planted):
    reader = study.FaceReader.fit(planted, directions=20)
    means = torch.stack([planted.pictures[planted.sex[planted.shown.numpy()] == s].mean(0) for s in (0, 1)])
    heard = planted.sex[planted.speakers.numpy()]
    noise = 0.05 * torch.randn(240, 3, 8, 8, generator=torch.Generator().manual_seed(5))
    found = study.readings(reader, planted, means[torch.from_numpy(heard)] + noise, heard)
    weights = resample_identities(60, 300, np.random.default_rng(0))
    assert found.explained("generated", "mean_face")[0] > 0.2  # men are wider
    related = study.within_sex_correlations(found, planted.sex, weights)
    for name in ("width", "age"):
        assert related.of(name).low < 0 < related.of(name).high


def test_measurements_of_real_people_are_said_to_be_unknown():
    with pytest.raises(ValueError, match="known of synthetic people only"):
        study.FaceReader.fit(side())


# -------------------------------------------------------------------------------------------------------- checks of the game


def test_consistency_sees_one_face_for_all_and_one_face_each():
    people = side()
    same = torch.ones(24, 3, dtype=torch.float64)
    assert study.consistency(people, same).same_person == pytest.approx(1.0)
    assert study.consistency(people, same).other_sex == pytest.approx(1.0)
    found = study.consistency(people, items(8, 3, 50, 0, 0.1)[0])
    assert found.same_person > 0.95
    assert abs(found.same_sex) < 0.2


def test_the_whole_evaluation_runs_on_untrained_networks(fabric):
    exp = smoke()
    who = study.people(exp)
    encoder, _ = study.voice_network(exp, who, fabric)
    network, trained = study.judge(exp, who), study.faces_from_voices(exp, who, encoder, fabric)
    evaluation = study.Evaluation.of(exp, who.test, network, resamples=50)
    faces = study.generate(trained.model, who.test.heard)
    assert faces.shape == (40, 3, 32, 32)
    assert float(faces.abs().max()) <= 1
    curve = study.duration_curve(evaluation, trained.model, network, (8, 101))
    assert curve[101].any_impostor == evaluation.match(network.embed(faces)).any_impostor
    base = study.baselines(who, encoder, network)
    assert len(base.probes) == 3
    assert all(probe.shape == (40, 64) for probe in base.probes.values())
    found = study.inputs(trained, network, who, exp.rng("noise"), count=6)
    assert set(found) == {"voice", "noise", "real face"}
    assert all(0 <= value <= 1 for i in found.values() for value in (i.real, i.largest))
    kinds = study.variety(who, network, faces, exp.rng("variety"))
    assert kinds.diversity >= 0
    assert kinds.real_diversity > 0.1
    reader = study.FaceReader.fit(who.train)
    assert study.readings(reader, who.test, faces, base.heard_sex).read.shape == (10, 31)


# --------------------------------------------------------------------------------------------------------------- real data


@pytest.fixture
def official(tmp_path):
    """Folder of papers 02 and 03 in the official layout, with features and pictures of chance."""
    root, rng = tmp_path / "data", np.random.default_rng(0)
    root.mkdir()
    people = [(f"id1{n:04d}", f"{letter}{n}_Name", "mf"[n % 2]) for n, letter in enumerate("FFGHIJKLCDCD", 300)]
    lines = [f"{i}\t{name}\t{gender}\tUSA\tdev\n" for i, name, gender in people]
    (root / "vox1_meta.csv").write_text("\t".join(META_COLUMNS) + "\n" + "".join(lines))
    for identifier, name, _ in people:
        for clip in range(3):
            path = root / "fbank" / identifier / f"video{clip}" / "00001.npy"
            path.parent.mkdir(parents=True)
            np.save(path, rng.standard_normal((120 + 10 * clip, 64)).astype(np.float32))
            picture = root / "VGG_ALL_FRONTAL" / name / f"{clip + 1:08d}.jpg"
            picture.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(picture)
    return root


def test_networks_of_real_people_carry_the_front_end_of_their_features(official):
    made_by = FrontEnd("sphinx", minimum=100, activity="webrtc")
    before = study.people(smoke(data="voxceleb", data_root=str(official)))
    assert before.front_end == FrontEnd()
    (official / "fbank" / "front_end.json").write_text(json.dumps(dataclasses.asdict(made_by)))
    who = study.people(smoke(data="voxceleb", data_root=str(official)))
    assert who.front_end == made_by
    assert who.test.heard.shape[1] == 100
    assert who.fingerprint != before.fingerprint


def test_real_people_are_trained_and_judged_by_the_same_code(official, fabric):
    exp = smoke(data="voxceleb", data_root=str(official))
    who = study.people(exp)
    assert (len(who.train), len(who.test)) == (8, 4)
    assert who.test.heard.shape == (12, 1000, 64)
    assert who.front_end.minimum == 1000
    calls = study.trainings(exp)
    assert set(calls) == {"voice", "linked", "no identity"}
    assert np.isfinite(calls["linked"](fabric)).all()
    encoder, _ = study.voice_network(exp, who, fabric)
    network, trained = study.judge(exp, who), study.faces_from_voices(exp, who, encoder, fabric)
    evaluation = study.Evaluation.of(exp, who.test, network, resamples=20)
    found = evaluation.match(network.embed(study.generate(trained.model, who.test.heard)))
    assert 0 <= found.same_sex.value <= 1
    with pytest.raises(ValueError, match="controls are made of synthetic people"):
        study.people(exp, "sex only")
