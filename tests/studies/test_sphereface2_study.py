"""What notebook 05 trains and measures: pairing of runs, controls that switch off what they say, planted thresholds, real faces."""

from __future__ import annotations

import dataclasses

import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from PIL import Image

from paper_utils import experiment, open_set, training
from paper_utils.data import lfw
from paper_utils.data.samples import LabelledImages
from paper_utils.methods import sphereface2
from paper_utils.metrics import by_identity, verification
from paper_utils.studies import people
from paper_utils.studies import sphereface2 as studies

HEAD = sphereface2.HeadConfig("C", 0.2, scale=10.0)
SPLITS = tuple(open_set.Split(tuple(range(6)), (6, 7, 8, 9), seed) for seed in (3, 4))
TINY = open_set.TrainConfig(hidden=(12,), dim=6, steps=4, batch_size=8, standardise=True)


@pytest.fixture(scope="module")
def toys() -> LabelledImages:
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(10, 1, 16, generator=generator)
    images = centres + 0.5 * torch.randn(10, 8, 16, generator=generator)
    return LabelledImages(images.view(-1, 1, 4, 4), torch.arange(10).repeat_interleave(8), "toys")


@pytest.fixture
def job(toys) -> open_set.Job:
    return open_set.Job(HEAD, toys, SPLITS, TINY)


@pytest.fixture(scope="module")
def study():
    return studies.binary_study(experiment.start("05", profile="smoke", data="digits"))


# ------------------------------------------------------------------------------------------------------- the trainings


def test_every_job_tests_the_first_runs_of_the_full_head(study):
    full = study.jobs["SphereFace2-C"].splits
    for name, job in study.jobs.items():
        for one, other in zip(job.splits, full, strict=False):
            assert one.seed == other.seed, name
            assert len(one.test) == len(other.test), name
            assert one.test == other.test or name.endswith("renamed"), name
    assert set(studies.trainings(experiment.start("05", profile="smoke", data="digits"))) == set(study.jobs)


def test_each_ablation_changes_one_thing():
    full = sphereface2.HeadConfig("C", 0.2, scale=20.0)
    *single, (_, last) = studies.ablations(full).items()
    for name, head in single:
        before, after = dataclasses.asdict(full), dataclasses.asdict(head)
        changed = {key for key in before if before[key] != after[key]}
        # The margin of A and M has another unit and moves along.
        assert len(changed - {"margin"}) == 1, name
    assert last == dataclasses.replace(sphereface2.ladder(full)["+ balance"], balance=0.99)


def test_noise_is_only_where_the_name_says_so(study):
    for name, job in study.jobs.items():
        share = float(name.split("noise ")[1]) if "noise " in name else 0.0
        assert {split.noise for split in job.splits} == {share}, name


def test_renaming_gives_people_other_classes_and_no_picture_a_wrong_label(study):
    plain, renamed = study.jobs["ArcFace"], study.jobs["ArcFace, renamed"]
    assert torch.equal(plain.data.images, renamed.data.images)
    # Two pictures show one person before if and only if they do afterwards.
    before, after = plain.data.identities, renamed.data.identities
    assert len({*zip(before.tolist(), after.tolist(), strict=True)}) == len(before.unique()) == len(after.unique())
    for one, other in zip(plain.splits, renamed.splits, strict=False):
        for side in ("train", "test"):
            rows = [
                torch.isin(data.identities, torch.tensor(getattr(split, side)))
                for data, split in ((plain.data, one), (renamed.data, other))
            ]
            assert torch.equal(*rows)
    classes = [open_set._member_rows(job.data, job.splits[:1])[1][0] for job in (plain, renamed)]
    learned = classes[0] >= 0
    assert torch.equal(learned, classes[1] >= 0)
    assert (classes[0] == classes[1])[learned].float().mean() < 0.5


def test_known_people_shown_as_nobody_are_copies_of_learned_ones(study):
    known = study.jobs["SphereFace2-C, known as nobody"]
    for split in known.splits:
        nobody = known.data.of(list(split.strangers)).images
        assert torch.equal(nobody, known.data.of(list(split.train[: len(split.strangers)])).images)
    strangers = study.jobs["SphereFace2-C, strangers"]
    assert len(strangers.splits[0].strangers) == len(known.splits[0].strangers)
    assert torch.equal(strangers.data.images, study.faces.images)


def test_dealing_keeps_pictures_and_how_many_each_person_has(study):
    dealt = study.jobs["naive, dealt"].data
    assert torch.equal(dealt.images, study.faces.images)
    assert dealt.identities.bincount().equal(study.faces.identities.bincount())
    assert (dealt.identities == study.faces.identities).float().mean() < 0.2


# ---------------------------------------------------------------------------------------------------- the measurements


def test_a_run_that_is_not_finite_counts_as_a_coin(job):
    trained = job.untrained()
    with torch.no_grad():
        next(iter(trained.network.parameters()))[1].fill_(torch.nan)
    result = studies.measure(trained, dataclasses.replace(job).data)
    assert result.scores[1] is None
    assert (result.eer[1], result.tar[1]) == (50.0, 0.0)
    assert result.eer[0] == pytest.approx(100 * verification.eer(result.scores[0]))


@pytest.mark.filterwarnings("ignore:FAR 0.001 is finer")
def test_paired_differences_go_run_by_run_and_refuse_other_runs(job):
    both = studies.measure(job.untrained(), job.data)
    first = studies.measure(dataclasses.replace(job, splits=SPLITS[:1]).untrained(), job.data)
    shifted = dataclasses.replace(both, eer=both.eer + np.array([1.0, 2.0]))
    np.testing.assert_allclose(studies.paired(shifted, both), [1.0, 2.0])
    np.testing.assert_allclose(studies.paired(first, shifted), [-1.0])
    strange = dataclasses.replace(job, splits=(dataclasses.replace(SPLITS[0], seed=9),))
    with pytest.raises(ValueError, match="the runs differ, found seeds 3 and 9"):
        studies.paired(both, studies.measure(strange.untrained(), job.data))


@given(arrays.arrays(float, 12, elements=st.integers(0, 8).map(float)), st.integers(1, 11))
def test_errors_cross_at_the_equal_error_threshold(scores, positives):
    same = np.arange(12) < positives
    threshold = studies.equal_error_threshold(scores, same)

    def gap(limit: float) -> float:
        return (scores[~same] >= limit).mean() - (scores[same] < limit).mean()

    assert gap(threshold) >= 0
    higher = scores[scores > threshold]
    assert len(higher) == 0 or gap(higher.min()) < 0


@pytest.mark.parametrize("away", [0.0, 0.3, -0.2])
def test_a_bias_planted_beside_the_threshold_is_found_as_far_away(job, away):
    trained = job.untrained()
    embeddings, rows = open_set.unseen_embeddings(trained, job.data, 0, per_identity=studies.MEASURED_PICTURES)
    pairs = verification.all_pairs(embeddings, job.data.identities[rows].numpy())
    best = torch.tensor(studies.equal_error_threshold(*pairs), dtype=torch.float64)
    with torch.no_grad():
        trained.head.bias[0] = -HEAD.scale * (sphereface2.adjusted_similarity(best, HEAD.exponent) + away)
    unseen, learned = studies.bias_as_threshold(trained, job.data, 0, HEAD)
    assert unseen == pytest.approx(abs(away), abs=1e-6)
    assert learned != pytest.approx(abs(away), abs=1e-6)


def test_learned_directions_follow_the_classes_of_the_training(job):
    trained = job.run(training.launch("cpu"))
    embeddings, classes, proxies = studies.learned_directions(trained, job.data, 1)
    rows, numbers = open_set._member_rows(job.data, SPLITS)
    assert torch.equal(classes, numbers[1, rows[1]])
    for unit in (embeddings, proxies):
        torch.testing.assert_close(unit.norm(dim=1), torch.ones(len(unit)))
    assert proxies.shape == (6, 6)


def test_spread_is_that_of_the_own_thresholds_and_dealing_changes_it(job):
    trained = job.untrained()
    embeddings, rows = open_set.unseen_embeddings(trained, job.data, 0, per_identity=studies.MEASURED_PICTURES)
    similarities = verification.cosine_similarities(embeddings)
    expected = by_identity.own_thresholds(similarities, job.data.identities[rows].numpy()).spread
    assert studies.threshold_spread(trained, job.data, 0) == pytest.approx(expected)
    dealt = [studies.threshold_spread(trained, job.data, 0, deal=np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert dealt[0] == dealt[1] != dealt[2]


# ------------------------------------------------------------------------------------------------------------ real faces


def write_lfw(root, enough: int, few: int) -> None:
    """People with ten pictures and people with one, in the layout that scikit-learn unpacks."""
    rng = np.random.default_rng(0)
    home = root / "lfw_home"
    for number in range(enough + few):
        name = f"Person_{number:02d}"
        (home / "lfw_funneled" / name).mkdir(parents=True)
        look = rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)
        for picture in range(1, (lfw.MIN_IMAGES if number < enough else 1) + 1):
            noisy = np.clip(look + rng.normal(0, 30, look.shape), 0, 255).astype(np.uint8)
            image = Image.fromarray(noisy).resize((250, 250), Image.NEAREST)
            image.save(home / "lfw_funneled" / name / f"{name}_{picture:04d}.jpg")
    for pairs in lfw.PAIR_FILES.values():
        (home / pairs).write_text("1\nPerson_00\t1\t2\nPerson_00\t1\tPerson_01\t1\n")


def test_real_faces_are_shared_out_and_seen_through_a_front_end_of_other_people(tmp_path):
    write_lfw(tmp_path, 26, 20)
    exp = experiment.start("05", profile="smoke", data="lfw", data_root=str(tmp_path))
    assert people.counts(exp) == people.Counts(13, 8, 5, lfw.MIN_IMAGES)
    study = studies.binary_study(exp)
    assert study.pictures.images.shape == (260, 3, 62, 47)
    assert study.faces.images.shape == (260, 1, 1, 19)  # 20 other people allow 19 directions
    job = study.jobs["SphereFace2-C"]
    assert [len(group) for group in (job.splits[0].train, job.splits[0].test)] == [13, 8]
    assert len(study.jobs["SphereFace2-C, strangers"].splits[0].strangers) == 5
    result = studies.measure(job.run(training.launch("cpu")), job.data)
    assert np.isfinite(result.eer).all()
    assert np.isfinite(result.tar).all()
    assert (result.eer < 40).all()  # looks this different are told apart even by six steps


def test_too_few_real_faces_are_refused_by_name(tmp_path):
    write_lfw(tmp_path, 4, 1)
    exp = experiment.start("05", profile="smoke", data="lfw", data_root=str(tmp_path))
    with pytest.raises(ValueError, match="4 people have 10 pictures or more, expected at least 24"):
        studies.binary_study(exp)
