"""What notebook 06 trains."""

import torch

from paper_utils import experiment
from paper_utils.methods import sphereface_r as sfr
from paper_utils.studies import sphereface_r as studies


def test_the_study_names_every_training_and_pairs_its_runs():
    exp = experiment.start("06", profile="smoke")
    study = studies.study(exp)
    assert set(studies.trainings(exp)) == set(study.jobs)
    heads = [study.jobs[name] for name in sfr.HEADS]
    assert all(job.splits == heads[0].splits for job in heads)
    runs = study.jobs["HFN v1"].splits
    assert heads[0].splits[: len(runs)] == runs
    sweep = study.jobs["sweep v1 full"]
    assert sweep.splits == runs * len(study.factors)
    assert len(sweep.head.margin) == len(sweep.splits)
    assert sweep.head.margin[:2] == (1.0, 1.0)
    dealt = study.jobs["dealt v1"].data
    assert torch.equal(dealt.images, study.people.images)
    assert dealt.identities.bincount().equal(study.people.identities.bincount())
    assert (dealt.identities == study.people.identities).float().mean() < 0.01
