"""Open-set training: label noise, strangers, per-member clipping and the standardised embedding do what they say."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from paper_utils import open_set, training
from paper_utils.data.samples import LabelledImages
from paper_utils.methods import sphereface2

TINY = open_set.TrainConfig(hidden=(12,), dim=6, steps=8, batch_size=8)
HEAD = sphereface2.HeadConfig("C", 0.2, scale=10.0)
SPLITS = (open_set.Split((0, 1, 2, 3), (4, 5), 5), open_set.Split((2, 3, 4, 5), (0, 1), 6))


def people(count: int = 8, views: int = 10) -> LabelledImages:
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(count, 1, 16, generator=generator)
    images = centres + 0.5 * torch.randn(count, views, 16, generator=generator)
    return LabelledImages(images.view(-1, 1, 4, 4), torch.arange(count).repeat_interleave(views), "toys")


def fit(splits, train=TINY, **changes):
    return open_set.fit(training.launch("cpu"), people(), splits, HEAD, dataclasses.replace(train, **changes))


def test_label_noise_redraws_the_stated_share_of_training_labels_and_touches_no_other():
    data = people(40, 50)
    split = open_set.Split(tuple(range(30)), tuple(range(30, 40)), 3, noise=0.4)
    rows, classes = open_set._member_rows(data, [split, dataclasses.replace(split, noise=0.0)])
    learned = rows[1]
    wrong = (classes[0, learned] != classes[1, learned]).float().mean().item()
    assert wrong == pytest.approx(0.4 * (1 - 1 / 30), abs=0.04)
    assert torch.equal(rows[0], rows[1])
    assert (classes[0][data.identities >= 30] == -1).all()


def test_noise_is_the_same_for_every_head_of_a_seed():
    split = dataclasses.replace(SPLITS[0], noise=0.5)
    first, second = (open_set._member_rows(people(), [split])[1] for _ in range(2))
    assert torch.equal(first, second)
    other = open_set._member_rows(people(), [dataclasses.replace(split, seed=9)])[1]
    assert not torch.equal(first, other)


def test_strangers_change_training_and_are_never_classes():
    watched = [dataclasses.replace(split, strangers=(6, 7)) for split in SPLITS]
    plain, seen = fit(SPLITS), fit(watched, strangers_a_step=4)
    assert seen.head.proxies.shape == plain.head.proxies.shape
    assert not torch.equal(seen.head.proxies, plain.head.proxies)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"noise": 1.5}, r"noise is a share in \[0, 1\], found 1.5"),
        ({"strangers": (1, 7)}, r"strangers \[1\] are also in train or test"),
        ({"test": (3, 4)}, r"identities \[3\] are in train and in test"),
    ],
)
def test_a_split_that_cannot_be_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SPLITS[0], **change)


def test_members_with_and_without_strangers_are_refused_together():
    with pytest.raises(ValueError, match="either all members are shown strangers or none"):
        fit((SPLITS[0], dataclasses.replace(SPLITS[1], strangers=(6, 7))))


def test_clipping_limits_each_member_by_itself():
    weights = [torch.nn.Parameter(torch.zeros(2, 3, 4)), torch.nn.Parameter(torch.zeros(2))]
    weights[0].grad, weights[1].grad = torch.ones(2, 3, 4), torch.tensor([2.0, 0.0])
    weights[0].grad[1] *= 0.01
    before = weights[0].grad[1].clone()
    open_set.clip_members_(weights, 1.0)
    norm = torch.sqrt(weights[0].grad[0].square().sum() + weights[1].grad[0] ** 2)
    assert norm.item() == pytest.approx(1.0)
    assert torch.equal(weights[0].grad[1], before)


def test_clipped_training_of_two_members_equals_each_alone():
    together = fit(SPLITS, clip_norm=0.05)
    for index, split in enumerate(SPLITS):
        alone = fit([split], clip_norm=0.05)
        torch.testing.assert_close(together.head.proxies[index], alone.head.proxies[0], rtol=1e-4, atol=1e-5)


def test_standardised_embeddings_of_the_training_images_have_mean_zero_and_spread_one():
    trained = fit(SPLITS, standardise=True, steps=12)
    data = people()
    for index, split in enumerate(SPLITS):
        rows = torch.isin(data.identities, torch.tensor(split.train))
        embedded = trained.member(index)(data.images[rows].flatten(1))
        torch.testing.assert_close(embedded.mean(0), torch.zeros(6), atol=1e-4, rtol=0)
        torch.testing.assert_close(embedded.std(0, correction=0), torch.ones(6), atol=1e-3, rtol=0)
        np.testing.assert_allclose(trained.embed(data.images[rows])[index], embedded.detach(), atol=1e-4)


def test_a_standardised_job_comes_back_from_the_cache_as_it_was():
    job = open_set.Job(HEAD, people(), SPLITS, dataclasses.replace(TINY, standardise=True))
    fabric = training.launch("cpu")
    first, second = job.run(fabric), job.run(fabric)
    images = people().images[:5]
    assert torch.equal(first.embed(images), second.embed(images))
    assert len(first.history["loss"]) == TINY.steps
