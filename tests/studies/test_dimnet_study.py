"""What notebook 02 trains and measures: the plan, the tables on planted embeddings, paper 01's prediction, and the official layout."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from paper_utils import experiment, papers, training
from paper_utils.data.matching_lists import STRATA
from paper_utils.data.voxceleb_speakers import META_COLUMNS
from paper_utils.methods import covariates, dimnet
from paper_utils.metrics import ceilings, cross_modal
from paper_utils.metrics.by_identity import resample_identities
from paper_utils.open_set import Split
from paper_utils.studies import dimnet as studies
from paper_utils.world.meetings import person_values


def smoke(data: str = "world", root=None) -> experiment.Experiment:
    return experiment.Experiment(papers.PAPERS["02"], "smoke", 0, data, root, torch.device("cpu"))


# ---------------------------------------------------------------------------------------------------------- the plan


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAPER_UTILS_OUTPUT", str(tmp_path_factory.mktemp("planned")))
        yield studies.study(smoke())


def test_runs_of_all_models_are_paired_and_their_test_people_unseen(planned) -> None:
    longest = planned.jobs["I"].splits
    for name, job in planned.jobs.items():
        assert job.splits == longest[: len(job.splits)], name
        assert job.train == planned.jobs["I"].train
        assert all(set(split.train).isdisjoint(split.test) for split in job.splits)
    assert {studies.SEPARATE, studies.DEALT, studies.PERMUTED, "SVHF", "contrastive"} <= set(planned.jobs)


def test_the_dealt_world_keeps_recordings_pictures_and_sex(planned) -> None:
    data, dealt = planned.data, planned.data_of(studies.DEALT)
    assert dealt is planned.dealt
    assert torch.equal(dealt.voices.log_mel, data.voices.log_mel)
    assert dealt.faces is data.faces
    assert (dealt.voices.identities != data.voices.identities).float().mean() > 0.9
    sexes = [person_values(d.voices.covariates, d.voices.identities, "sex", "") for d in (data, dealt)]
    assert np.array_equal(*sexes)


def test_every_training_runs_and_every_table_can_be_made(planned, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("PAPER_UTILS_OUTPUT", str(tmp_path))
    exp, fabric = smoke(), training.launch("cpu")
    results = studies.examine_all(planned, exp, fabric)
    assert set(results) == set(planned.jobs)
    matched = studies.matching_table(results)
    assert len(matched) == 4 * (2 * len(results) - 1)  # SVHF has one direction
    assert ((matched.low <= matched.accuracy) & (matched.accuracy <= matched.high)).all()
    pairs = {"I": ("G", ("sex",)), "GN": ("GN", ("sex", "nationality"))}
    theory = studies.theory_table(results, pairs, sizes=(2, 5), draws=2, theory_resamples=10)
    assert set(theory.quantity) == {"1:2", "1:5", "EER", "AUC", "mAP"}
    assert theory.difference.to_numpy() == pytest.approx((theory.measured - theory.predicted).to_numpy())
    some = {name: results[name] for name in ("I", "SVHF")}
    assert set(studies.verification_table(some).model) == set(studies.retrieval_table(some).model) == {"I"}
    assert set(studies.match_curves(some, [2, 4, 8]).N) == {2, 4, 8}


def test_trainings_are_those_of_the_study(monkeypatch, planned) -> None:
    monkeypatch.setattr(studies, "study", lambda _: planned)
    calls = studies.trainings(smoke())
    assert set(calls) == set(planned.jobs)
    assert calls["G"](training.launch("cpu")).shape == (6, 2)


# -------------------------------------------------------------------------------------------------- planted embeddings


PEOPLE = 60


def planted(*, identity: float, noise: float = 0.3, seed: int = 0, wrong: float = 0.0) -> studies.Examined:
    """A run whose embeddings carry the sex in one direction and as much of the person as asked for; heads that read the sex."""
    rng = np.random.default_rng(seed)
    sex = np.arange(PEOPLE) % 2
    own = np.column_stack([2.0 * sex - 1, identity * rng.standard_normal((PEOPLE, 6))])
    who = np.arange(PEOPLE).repeat(3)
    sides = []
    for _ in range(2):
        items = own[who] + noise * rng.standard_normal((len(who), 7)) * np.r_[1, np.full(6, max(identity, 0.1))]
        items[:, 0] *= np.where(rng.random(len(who)) < wrong, -1, 1)
        sides.append(items)
    heads = dimnet.Classifiers({"sex": 2}, 7)
    with torch.no_grad():
        heads.heads["both"]["sex"].weight.copy_(torch.eye(2, 7)[[0, 0]] * torch.tensor([[-4.0], [4.0]]))
    split = Split((1000, 1001), tuple(range(PEOPLE)), seed=seed)
    trained = dimnet.Trained({"heads": heads}, dimnet.DIMNet.variant("G"), split, {})
    items = dimnet.Unseen(np.arange(PEOPLE), *sides, who, who)
    weights = resample_identities(PEOPLE, 200, np.random.default_rng(1))
    run = studies.Examined(trained, items, {}, {"sex": sex, "nationality": np.arange(PEOPLE) % 3}, weights)
    wins = {d: cross_modal.pair_wins(*run.sided(d), PEOPLE) for d in studies.DIRECTIONS}
    return dataclasses.replace(run, wins=wins)


def test_perfect_knowledge_of_the_sex_reaches_the_ceiling_and_half_inside() -> None:
    run = studies.perfect(planted(identity=0.0), ("sex",))
    expected = ceilings.finite_match_accuracy([PEOPLE // 2, PEOPLE // 2], 2)
    assert studies.matching([run]).value == pytest.approx(expected)
    assert studies.matching([run], "G").value == studies.matching([run], "GN").value == 0.5


def test_theory_predicts_a_network_that_knows_the_sex_and_nothing_else() -> None:
    run = planted(identity=0.0, wrong=0.1)
    table = studies.theory_table({"G": [run]}, {"G": ("G", ("sex",))}).set_index("quantity")
    for quantity in ("1:2", "EER", "AUC"):
        row = table.loc[quantity]
        assert row["difference low"] - 0.01 < 0 < row["difference high"] + 0.01
        assert abs(row.difference) < 0.02
    # Nine of ten answers are right on either side: paper 01's closed form for such recognisers.
    assert table.loc["1:2"].predicted == pytest.approx(
        covariates.symmetric_binary_match_accuracy(0.1, 0.1, 2), abs=0.03
    )


def test_identity_beyond_the_sex_exceeds_the_prediction() -> None:
    run = planted(identity=1.0, wrong=0.1)
    table = studies.theory_table({"G": [run]}, {"G": ("G", ("sex",))}).set_index("quantity")
    assert table.loc["1:2"]["difference low"] > 0.1
    assert table.loc["1:10"]["difference low"] > 0.1
    assert table.loc["EER"]["difference high"] < -0.1


def test_intervals_lie_around_the_value_and_cover_other_people() -> None:
    """Measured on 40 other draws of people, about 95 % of the intervals hold the mean of all."""
    runs = [planted(identity=0.3, seed=seed) for seed in range(40)]
    measures = [studies.matching([run], "G") for run in runs]
    truth = np.mean([measure.value for measure in measures])
    estimates = [studies.estimate(measure, [run]) for measure, run in zip(measures, runs, strict=True)]
    assert all(e.low < e.value < e.high for e in estimates)
    assert np.mean([e.low <= truth <= e.high for e in estimates]) >= 0.85
    widths = np.mean([e.high - e.low for e in estimates]) / np.std([m.value for m in measures])
    assert 2.5 < widths < 6.5  # 3.9 standard deviations if all is well


def test_intervals_of_large_galleries_hold_the_value_although_copies_make_them_easier() -> None:
    run = planted(identity=0.0, wrong=0.1)
    curve = studies.match_curves({"G": [run]}, [2, 10, 25, 50]).set_index("N")
    middle = (curve.low + curve.high) / 2
    assert (abs(middle - curve.accuracy) < 0.2 * (curve.high - curve.low))[:3].all()
    assert np.isnan(curve.low[50])
    squares = cross_modal.one_item_each(*run.sided("v2f"), PEOPLE, draws=12, rng=np.random.default_rng(0))
    value, draws = cross_modal.match_curve(squares, [25], weights=run.weights)
    assert draws.mean() > 1.2 * value[0]  # what copies do


def test_paired_differences_are_narrower_than_unpaired_ones() -> None:
    first, second = planted(identity=0.5, seed=3), planted(identity=0.4, seed=3)
    a, b = (studies.matching([run]) for run in (first, second))
    paired = studies.estimate(studies.difference(a, b), [first])
    apart = studies.estimate(a, [first]).high - studies.estimate(a, [first]).low
    assert paired.high - paired.low < apart
    assert paired.value == pytest.approx(a.value - b.value)


def test_runs_on_other_people_are_not_paired() -> None:
    runs = [planted(identity=0.5, seed=seed) for seed in (0, 1, 2)]
    first, second = studies.shared_runs(runs[:2], runs[1:])
    assert [run.trained.split.seed for run in (*first, *second)] == [1, 1]
    with pytest.raises(ValueError, match="no test people in common"):
        studies.shared_runs(runs[:1], runs[2:])


def test_answers_are_the_most_probable_value_and_how_sure_it_is() -> None:
    run = planted(identity=0.0, wrong=0.2)
    answers = studies.recognisers(run, "sex", levels=3)
    voice, face = dimnet.posteriors(run.trained, run.items, "sex")
    assert np.array_equal(answers.labels[0] // 3, voice.argmax(1))
    assert np.bincount(answers.labels[1] % 3).min() > len(face) // 4
    assert answers.accuracy == pytest.approx((0.8, 0.8), abs=0.08)
    tables = answers.tables(np.ones(PEOPLE, int))
    assert tables[0].shape == (2, 6)
    # A resample of those who are always recognised has an almost clean table; one with everybody twice has the same frequencies, up to the smoothing.
    assert answers.tables(np.full(PEOPLE, 2))[0] == pytest.approx(tables[0], abs=0.01)
    right = voice.argmax(1) == run.covariates["sex"][run.items.voice_people]
    always = (np.bincount(run.items.voice_people, right) == 3).astype(int)
    told = answers.tables(always)[0].reshape(2, 2, 3).sum(2)
    assert np.diag(told).min() > 0.95 > np.diag(tables[0].reshape(2, 2, 3).sum(2)).max()


def test_answers_know_values_that_only_test_people_have() -> None:
    run = planted(identity=0.0, wrong=0.2)
    heads = dimnet.Classifiers({"nationality": 2}, 7)
    trained = dataclasses.replace(
        run.trained, modules={"heads": heads}, method=dimnet.DIMNet.variant("N"), learned={"nationality": (0, 2)}
    )
    run = dataclasses.replace(run, trained=trained, covariates={**run.covariates, "nationality": np.arange(PEOPLE) % 5})
    answers = studies.recognisers(run, "nationality", levels=2)
    assert answers.count == 5
    assert set(np.concatenate(answers.labels) // 2) <= {0, 2}
    voice, _ = answers.tables(np.ones(PEOPLE, int))
    assert voice.shape == (5, 10)
    assert voice[4].reshape(5, 2).sum(1)[[0, 2]].sum() > 0.9  # people of value 4 are taken for others
    assert studies.covariate_model([answers]).prior == pytest.approx(np.full(5, 1 / 5))


def test_all_strata_of_the_lists_are_measured() -> None:
    table = studies.matching_table({"G": [planted(identity=0.0, wrong=0.1)]})
    assert list(table[table.direction == "v2f"].stratum) == list(STRATA)
    inside = table.set_index(["direction", "stratum"]).accuracy
    assert inside["v2f", "U"] > inside["v2f", "G"] + 0.1


# ----------------------------------------------------------------------------------------------------- real layout


@pytest.fixture
def official(tmp_path):
    """Six people of the paper's training split and four of its test split, with stored features."""
    rng = np.random.default_rng(0)
    names = [f"{letter}_{n}" for letter in "FGH" for n in range(2)] + [f"C_{n}" for n in range(4)]
    rows = [f"id{10300 + i}\t{name}\t{'mf'[i % 2]}\tUSA\tdev\n" for i, name in enumerate(names)]
    (tmp_path / "vox1_meta.csv").write_text("\t".join(META_COLUMNS) + "\n" + "".join(rows))
    for i, name in enumerate(names):
        for clip in range(3):
            path = tmp_path / "fbank" / f"id{10300 + i}" / f"video{clip}" / "00001.npy"
            path.parent.mkdir(parents=True)
            np.save(path, rng.standard_normal((1000 + clip, 64)).astype(np.float32))
            picture = tmp_path / "VGG_ALL_FRONTAL" / name / f"{clip:08d}.jpg"
            picture.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 255, (140, 140, 3), dtype=np.uint8)).save(picture)
    return tmp_path


def test_the_official_layout_gives_the_papers_split(official) -> None:
    exp = smoke("voxceleb", official)
    data, learn, test = studies.load_people(exp)
    assert (learn, test) == (list(range(6)), list(range(6, 10)))
    assert data.faces.images.shape == (20, 3, 128, 128)  # two pictures and two recordings of each in the smoke profile
    assert data.voices.identities.bincount().tolist() == [2] * 10
    # Which two of three clips (of 1000, 1001 and 1002 frames) is chance, the same for the same seed.
    lengths = data.voices.starts.diff().reshape(10, 2)
    assert (lengths[:, 0] != lengths[:, 1]).all()
    assert set(lengths.flatten().tolist()) == {1000, 1001, 1002}
    again, _, _ = studies.load_people(exp)
    assert again.fingerprint == data.fingerprint
    other = experiment.Experiment(papers.PAPERS["02"], "smoke", 1, "voxceleb", official, torch.device("cpu"))
    assert not torch.equal(studies.load_people(other)[0].voices.starts.diff().reshape(10, 2), lengths)
    for name in studies.COVARIATES:
        sides = [person_values(s.covariates, s.identities, name, s.name) for s in (data.voices, data.faces)]
        assert np.array_equal(*sides)


def test_the_full_profile_tests_on_everything_and_trains_as_the_paper(official, monkeypatch) -> None:
    exp = experiment.Experiment(papers.PAPERS["02"], "full", 0, "voxceleb", official, torch.device("cpu"))
    fewer = {(12, 12): (2, 2)}  # than the full profile's recordings and pictures of training people
    monkeypatch.setattr(exp, "scale", lambda **sizes: fewer.get(sizes["full"], sizes["full"]))
    planned = studies.study(exp)
    count = planned.data.voices.identities.bincount().tolist()
    assert count == planned.data.faces.identities.bincount().tolist() == [2] * 6 + [3] * 4
    # All clips of test people, in an order of chance.
    tested = planned.data.voices.starts.diff()[planned.data.rows("voice", range(6, 10))].reshape(4, 3)
    assert (tested.sort(dim=1).values == torch.tensor([1000, 1001, 1002])).all()
    assert not (tested == torch.tensor([1000, 1001, 1002])).all()
    assert all(job.train == dimnet.TrainConfig() for job in planned.jobs.values())
