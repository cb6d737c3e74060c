"""What notebook 06 trains."""

import dataclasses

import numpy as np
import pytest
import torch

from paper_utils import experiment, open_set, training
from paper_utils.methods import sphereface_r as sfr
from paper_utils.metrics import verification as ver
from paper_utils.studies import sphereface_r as studies


@pytest.fixture(scope="module", params=["world", "digits"])
def study(request, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAPER_UTILS_OUTPUT", str(tmp_path_factory.mktemp("faces")))
        return studies.study(experiment.start("06", profile="smoke", data=request.param))


def test_the_study_names_every_training_and_pairs_its_runs(study):
    heads = [study.jobs[name] for name in sfr.HEADS]
    assert all(job.splits == heads[0].splits for job in heads)
    runs = study.jobs["HFN v1"].splits
    assert heads[0].splits[: len(runs)] == runs
    for name in ("normface", *studies.MARGIN_HEADS):
        noisy = study.jobs[f"noise {name}"]
        assert [dataclasses.replace(split, noise=0.0) for split in noisy.splits] == list(heads[0].splits)
        assert {split.noise for split in noisy.splits} == {0.3}
        assert {split.noise for split in study.jobs[f"blind {name}"].splits} == {1.0}
        assert noisy.head == study.jobs[f"dealt {name}"].head == study.jobs[name].head
    sweep = study.jobs["sweep v1 full"]
    assert sweep.splits == runs * len(study.factors)
    assert len(sweep.head.margin) == len(sweep.splits)
    assert sweep.head.margin[:2] == (1.0, 1.0)


def test_every_training_has_its_people_and_can_begin(study):
    for job in study.jobs.values():
        for split in job.splits:
            assert {*split.train, *split.test} <= set(job.data.identities.tolist())
        job.untrained()


def test_dealt_pictures_keep_their_numbers_and_lose_their_people(study):
    dealt = study.jobs["dealt v1"].data
    assert torch.equal(dealt.images, study.faces.images)
    assert dealt.identities.bincount().equal(study.faces.identities.bincount())
    assert (dealt.identities == study.faces.identities).float().mean() < 0.1


def test_constant_faces_are_the_same_people_at_one_quality(study):
    assert torch.equal(study.constant.identities, study.faces.identities)
    half = (study.quality - 0.5).abs()
    apart = (study.constant.images - study.faces.images).flatten(1).norm(dim=1)
    assert apart[half < 0.05].mean() < 0.3 * apart[half > 0.4].mean()


def test_renaming_moves_pictures_of_a_person_together(study):
    before, after = study.jobs["v1"], study.jobs["renamed v1"]
    assert torch.equal(after.data.images, before.data.images)
    assert not torch.equal(after.data.identities, before.data.identities)

    def pictures(job, names):
        return torch.isin(job.data.identities, torch.tensor(names)).tolist()

    for old, new in zip(before.splits, after.splits, strict=False):
        assert pictures(before, old.train) == pictures(after, new.train)
        assert pictures(before, old.test) == pictures(after, new.test)
    together = before.data.identities[:, None] == before.data.identities
    assert torch.equal(after.data.identities[:, None] == after.data.identities, together)


def test_names_that_keep_their_order_change_nothing_at_all(study):
    job = study.jobs["HFN v1"]
    spread = dataclasses.replace(job.data, identities=7 * job.data.identities + 3)
    splits = tuple(
        open_set.Split(tuple(7 * who + 3 for who in s.train), tuple(7 * who + 3 for who in s.test), s.seed)
        for s in job.splits
    )
    fabric = training.launch("cpu")
    one = open_set.fit(fabric, job.data, job.splits, job.head, job.train)
    two = open_set.fit(fabric, spread, splits, job.head, job.train)
    np.testing.assert_array_equal(one.history["loss"], two.history["loss"])
    errors = [[ver.eer(c) for c in open_set.open_set_scores(t, d)] for t, d in ((one, job.data), (two, spread))]
    assert errors[0] == errors[1]


def test_trainings_are_the_jobs():
    exp = experiment.start("06", profile="smoke", data="digits")
    assert set(studies.trainings(exp)) == set(studies.study(exp).jobs)
