"""Readers of moving vertices: what they see, what they ignore, and their losses."""

import pytest
import torch
from torch.nn import functional

from paper_utils.nn import motion_readers as mr


def motion(clips=6, frames=10, inputs=4, seed=0):
    return torch.randn(clips, frames, inputs, generator=torch.Generator().manual_seed(seed))


def test_readers_do_not_know_the_unit_of_length():
    for build in (lambda: mr.LipReader(4, 3, seed=0), lambda: mr.MotionEmotion(4, seed=0)):
        metres, millimetres = build(), build()
        metres.standardise_by(motion())
        millimetres.standardise_by(1000 * motion())
        torch.testing.assert_close(metres(motion()), millimetres(1000 * motion()), rtol=1e-4, atol=1e-5)


def test_coordinates_that_hardly_move_are_not_blown_up():
    moving = motion()
    moving[..., 2] *= 1e-6
    reader = mr.MotionEmotion(4, seed=0)
    reader.standardise_by(moving)
    assert reader.standardised(moving)[..., 2].abs().max() < 1e-2


def test_the_clip_network_sees_a_bag_of_frames_and_its_twin_each_frame():
    order = torch.randperm(10, generator=torch.Generator().manual_seed(1))
    clip, static = mr.MotionEmotion(4, seed=0), mr.MotionEmotion(4, static=True, seed=0)
    torch.testing.assert_close(clip(motion()[:, order]), clip(motion()))
    torch.testing.assert_close(static(motion()[:, order]), static(motion())[:, order])
    assert clip(motion()).shape == (6, 32)
    assert static(motion()).shape == (6, 10, 32)
    assert clip(motion()).abs().max() < 1


def test_a_lip_reader_sees_as_many_frames_as_its_kernels_span():
    reader = mr.LipReader(4, 3, mr.JUDGE, seed=0)
    poked = motion(frames=30)
    poked[:, 15] += 10
    changed = (reader(poked) - reader(motion(frames=30))).abs().sum(-1)[0].nonzero().flatten()
    assert changed.tolist() == list(range(11, 20))  # 3 frames of the first convolution, 1 of the second, on each side


def test_losses_are_cross_entropies_of_frames_and_clips():
    phones = torch.randint(3, (6, 10), generator=torch.Generator().manual_seed(2))
    phones[0, :5] = -7
    reader = mr.LipReader(4, 3, seed=0)
    known = phones >= 0
    expected = functional.cross_entropy(reader.logits(reader(motion()))[known], phones[known])
    torch.testing.assert_close(mr.reader_losses(reader, motion(), phones), expected)
    emotion, intensity = torch.arange(6), torch.arange(6) % 3
    for static in (False, True):
        network = mr.MotionEmotion(4, static=static, seed=0)
        first, second = network.logits(network(motion()))
        pairs = ((first, emotion), (second, intensity))
        if static:
            pairs = [(scores.flatten(0, 1), labels.repeat_interleave(10)) for scores, labels in pairs]
        expected = sum(functional.cross_entropy(scores, labels) for scores, labels in pairs)
        torch.testing.assert_close(mr.reader_losses(network, motion(), emotion, intensity), expected)
    with pytest.raises(ValueError, match="this reader has 2 heads, found labels for 1"):
        mr.reader_losses(network, motion(), emotion)


def test_frames_vote_by_their_summed_log_probabilities():
    network = mr.MotionEmotion(4, static=True, seed=0)
    scores = network.logits(network(motion()))[0].log_softmax(-1).sum(1)
    assert torch.equal(mr.clip_verdicts(network, motion()), scores.argmax(-1))
    clip = mr.MotionEmotion(4, seed=0)
    assert torch.equal(mr.clip_verdicts(clip, motion()), clip.logits(clip(motion()))[0].argmax(-1))


def test_wrong_inputs_and_sizes_are_refused():
    with pytest.raises(ValueError, match="takes 4 numbers a frame, found 5"):
        mr.LipReader(4, 3, seed=0)(motion(inputs=5))
    with pytest.raises(ValueError, match="odd kernels"):
        mr.ReaderSizes(kernels=(4, 3))


def test_seeds_give_the_weights():
    first, same, other = (mr.LipReader(4, 3, seed=seed).first.weight for seed in (0, 0, 1))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
