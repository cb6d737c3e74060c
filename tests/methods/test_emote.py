"""Paper 09: equal to the published code's numbers, and the rules behind them hold at other sizes too."""

import json
import math

import numpy as np
import pytest
import torch
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from paper_utils import training
from paper_utils.data.emote_clips import Batch, EmoteClips
from paper_utils.data.talking_faces import EMOTIONS
from paper_utils.methods import emote
from paper_utils.nn.checkpoint_names import renamed
from paper_utils.nn.face_perception import MotionPerception
from paper_utils.nn.motion_readers import LipReader, MotionEmotion
from paper_utils.nn.speech_features import ConvSpeechFeatures
from paper_utils.recipes.emote_weights import OFFICIAL_PRIOR, emote_from_official, flint_from_official

REFERENCE = ROOT / "tests" / "reference" / "emote"
SMALL = emote.PriorSizes(motion=53, dim=32, heads=4, hidden=48)


def arrays(name):
    with np.load(REFERENCE / name) as stored:
        return {key: torch.from_numpy(stored[key]) for key in stored.files}


def values(name):
    return json.loads((REFERENCE / name).read_text())


def close(found, expected, atol=1e-5):
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


def prior_state(stored, encoder="enc.", decoder="dec."):
    """Names as a whole published checkpoint has them."""
    prefixes = {encoder: "motion_encoder.", decoder: "motion_decoder."}
    return {
        new + name[len(old) :]: v for old, new in prefixes.items() for name, v in stored.items() if name.startswith(old)
    }


@pytest.fixture
def small_prior():
    return flint_from_official(prior_state(arrays("flint_small.npz")), heads=4)


class Passed(nn.Module):
    """Speech features that are given as they are."""

    def __init__(self, dim):
        super().__init__()
        self.dim = dim

    def set_trainable(self, trainable):
        """It has nothing to learn."""

    def forward(self, features, frames):
        assert features.shape[1] == frames
        return features


def passing_state(stored, dim=16):
    """Weights of the small EMOTE, with an identity where the sound is projected."""
    renamed = {f"sequence_decoder.{n.removeprefix('emote.')}": v for n, v in stored.items() if n.startswith("emote.")}
    renamed |= {
        f"sequence_decoder.motion_prior.motion_decoder.{n.removeprefix('prior_dec.')}": v
        for n, v in stored.items()
        if n.startswith("prior_dec.")
    }
    return renamed | {
        "sequence_encoder.linear.weight": torch.eye(dim),
        "sequence_encoder.linear.bias": torch.zeros(dim),
    }


# ------------------------------------------------------------------------------------------------------------- the prior


@pytest.mark.parametrize("name", ["flint_small.npz", "flint_small_T40.npz"])
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_flint_gives_the_published_codes_numbers(small_prior, name, mode):
    expected = arrays(name)
    small_prior.train(mode == "train")
    squashed = small_prior.encoder.squash(expected["x"].transpose(1, 2)).transpose(1, 2)
    close(squashed, expected[f"{mode}_squashed"])
    coded = small_prior(expected["x"], expected["eps"])
    close(coded.mean, expected[f"{mode}_mean"])
    close(coded.log_variance, expected[f"{mode}_logvar"])
    close(coded.motion, expected[f"{mode}_decoded"])
    close(emote.kl_divergence(coded.mean, coded.log_variance), expected[f"{mode}_kl"], atol=2e-5)
    if mode == "eval":
        close(small_prior(expected["x"]).motion, expected["eval_decoded_from_mean"])


def test_one_training_pass_moves_the_batch_statistics_as_published(small_prior):
    expected = arrays("flint_small.npz")
    small_prior.train()
    small_prior(expected["x"], expected["eps"])
    norm = small_prior.encoder.squash[0][2]
    close(norm.running_mean, expected["train_bn0_running_mean_after"])
    close(norm.running_var, expected["train_bn0_running_var_after"])


@torch.no_grad()
def fill_in_order(part, official, kind, phase):
    """The weight formula, walking the parameters in the reference's order."""
    full = [f"motion_{kind}.{name}" for name in official]
    ours = [next(iter(renamed({name: torch.zeros(1)}, OFFICIAL_PRIOR))) for name in full]
    own, k = dict(part.named_parameters()), 0
    assert sorted(name.removeprefix(f"{kind}.") for name in ours) == sorted(own)
    for name in ours:
        parameter = own[name.removeprefix(f"{kind}.")]
        count = torch.arange(k + 1, k + 1 + parameter.numel(), dtype=torch.float64)
        k += parameter.numel()
        v = torch.sin(phase + 0.01 * count + 0.0007 * count**2).view(parameter.shape)
        if parameter.ndim >= 2:
            v = 1.2 * v / math.sqrt(parameter.numel() / len(parameter))
        else:
            v = 1 + 0.2 * v if name.endswith("weight") else 0.1 * v
        parameter.copy_(v)
    for module in part.modules():
        if isinstance(module, nn.BatchNorm1d):
            c = torch.arange(1.0, module.num_features + 1)
            module.running_mean.copy_(0.05 * torch.sin(0.3 * c))
            module.running_var.copy_(1 + 0.2 * torch.cos(0.5 * c) ** 2)


@pytest.mark.parametrize("motion", [53, 103])
def test_full_size_flint_has_the_published_counts_and_numbers(motion):
    expected = values("full_size_counts.json")[f"FLINT_input{motion}"]
    sizes = emote.PriorSizes(motion=motion)
    prior = emote.Flint(sizes, seed=0).eval()
    names = values("networks.json")["flint_small"]
    for part, phase in ((prior.encoder, 0.0), (prior.decoder, 1.0)):
        kind = "encoder" if part is prior.encoder else "decoder"
        official = [name for name, _ in names[f"{kind}_parameters"]]
        assert sum(p.numel() for p in part.parameters()) == expected[kind]
        fill_in_order(part, official, kind, phase)
    t, d = torch.arange(32.0, dtype=torch.float64)[:, None], torch.arange(motion, dtype=torch.float64)
    x = torch.sin(0.35 * t + 0.9 * d) * torch.exp(-0.03 * d) + 0.3 * torch.cos(0.11 * t * (1 + d % 5))
    with torch.no_grad():
        coded = prior(x[None].float())
    close(coded.mean.flatten()[:8], torch.tensor(expected["mean_first8"]), atol=1e-4)
    close(coded.log_variance[0, -1, :8], torch.tensor(expected["logvar_first8"]), atol=1e-4)  # of the last group
    close(coded.motion.flatten()[:8], torch.tensor(expected["decoded_first8"]), atol=1e-4)
    close(coded.motion.flatten()[-8:], torch.tensor(expected["decoded_last8"]), atol=1e-4)
    assert list(coded.mean.shape) == expected["latent_shape"]
    assert emote.kl_divergence(coded.mean, coded.log_variance).item() == pytest.approx(expected["kl"], rel=1e-5)


def test_an_untrained_decoder_says_the_same_in_every_inner_frame():
    decoder = emote.FlintDecoder(SMALL, seed=0).eval()
    motion = decoder(torch.randn(1, 4, 32, generator=torch.Generator().manual_seed(0)))
    inner = motion[:, 2:-2]  # the last convolution sees zeros beyond the ends
    close(inner, inner[:, :1].expand_as(inner), atol=1e-6)


def test_clips_that_make_no_whole_groups_are_refused(small_prior):
    with pytest.raises(ValueError, match="30 frames do not make whole groups of 8"):
        small_prior(torch.zeros(1, 30, 53))


def test_kl_is_zero_for_a_standard_normal_and_grows_with_the_mean():
    zero = torch.zeros(2, 3, 4)
    assert emote.kl_divergence(zero, zero) == 0
    assert emote.kl_divergence(zero + 2, zero).item() == pytest.approx(4 * 2**2 / 2)


def test_standardising_changes_what_the_networks_see_and_not_the_scale_of_the_motion():
    chance = torch.Generator().manual_seed(3)
    motion = 5 + 0.1 * torch.randn(6, 16, 53, generator=chance)
    prior = emote.Flint(SMALL, seed=0)
    prior.standardise_by(motion)
    seen = (motion - prior.shift) / prior.scale
    close(seen.flatten(0, 1).mean(0), torch.zeros(53), atol=1e-3)
    close(seen.flatten(0, 1).std(0), torch.ones(53), atol=1e-3)
    assert abs(prior.eval()(motion).motion.mean().item() - 5) < 0.2


# ----------------------------------------------------------------------------------------------------------- the network


@pytest.mark.parametrize(("frames", "ignored"), [(16, False), (20, False), (16, True)])
def test_emote_gives_the_published_codes_numbers(frames, ignored):
    stored = arrays("emote_small.npz")
    expected = arrays("emote_small_prefix_bug.npz") if ignored else stored
    prior = emote.Flint(SMALL, seed=0)
    model = emote_from_official(passing_state(stored), Passed(16), prior, heads=4, transformer_ignored=ignored)
    labels = expected["label"], expected["intensity"], expected["identity"]
    condition = emote.condition_vectors(*labels, 5)
    close(condition, expected[f"T{frames}_condition"][:, 0])
    close(model.style(condition), expected[f"T{frames}_style"][:, 0])
    prediction = model(expected[f"T{frames}_features"], frames, *labels)
    close(prediction.bottleneck, expected[f"T{frames}_bottleneck_per_frame"])
    close(prediction.latents, expected[f"T{frames}_prior_input"])
    close(prediction.motion, torch.cat([expected[f"T{frames}_exp"], expected[f"T{frames}_jaw"]], dim=-1))
    face = torch.cat([expected["face_E"], expected["face_J"]])
    close(prediction.motion @ face, expected[f"T{frames}_vertex_offsets"], atol=2e-5)
    # A condition a frame that never changes is the condition of the clip.
    close(
        model.decode(
            model.features(expected[f"T{frames}_features"], frames), condition[:, None].expand(-1, frames, -1)
        ).motion,
        prediction.motion,
    )


def test_the_ignored_transformer_is_a_defect_one_can_see():
    assert (arrays("emote_small.npz")["T16_exp"] - arrays("emote_small_prefix_bug.npz")["T16_exp"]).abs().max() > 0.01


def test_full_size_network_has_the_published_counts():
    expected = values("full_size_counts.json")["EMOTE_32_identities"]
    model = emote.Emote(emote.EmoteSizes(), emote.Flint(emote.PriorSizes(), seed=0), Passed(768), seed=0)
    parts = {"obj_vector": "style", "bert_decoder": "transformer", "squasher_2": "squash", "decoder": "head"}
    parts["audio_projection_768_to_128"] = "project"
    for official, own in parts.items():
        assert sum(p.numel() for p in getattr(model, own).parameters()) == expected[official]
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trainable == expected["total_trainable_without_wav2vec2"]


def small_network(*, prior=True, **changes):
    sizes = emote.EmoteSizes(audio=6, dim=8, heads=2, identities=4, **{"dropout": 0.0} | changes)
    flint = emote.Flint(emote.PriorSizes(motion=5, dim=8, heads=2, hidden=8, halvings=2), seed=1) if prior else None
    network = emote.Emote(sizes, flint, Passed(6), motion=5, seed=0)
    with torch.no_grad():
        nn.init.normal_(network.head.weight, generator=torch.Generator().manual_seed(2))
        if prior:
            nn.init.normal_(flint.decoder.turn.weight, generator=torch.Generator().manual_seed(3))
    return network.eval()


def test_the_prior_never_learns_nor_changes_its_statistics():
    network = small_network().train()
    assert not network.prior.training
    before = {name: value.clone() for name, value in network.prior.state_dict().items()}
    loss = (
        network(torch.randn(2, 8, 6), 8, torch.tensor([0, 1]), torch.tensor([1, 2]), torch.tensor([0, 3]))
        .motion.square()
        .sum()
    )
    loss.backward()
    assert all(p.grad is None for p in network.prior.parameters())
    assert network.style.weight.grad.abs().sum() > 0
    for name, value in network.prior.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("prior", [True, False])
@pytest.mark.parametrize("join", ["concatenate", "add"])
@pytest.mark.parametrize("frames", [1, 7, 8, 33])
def test_any_length_gives_as_many_frames(prior, join, frames):
    network = small_network(prior=prior, join=join)
    labels = torch.tensor([0]), torch.tensor([1]), torch.tensor([0])
    prediction = network(torch.randn(1, frames, 6, generator=torch.Generator().manual_seed(0)), frames, *labels)
    assert prediction.motion.shape == (1, frames, 5)
    assert torch.isfinite(prediction.motion).all()
    assert (prediction.latents is None) == (not prior)


def test_style_and_sound_both_reach_the_motion():
    network = small_network()
    sound = torch.randn(1, 8, 6, generator=torch.Generator().manual_seed(0))
    one = torch.tensor([1])
    first = network(sound, 8, one, one, one).motion
    assert not torch.allclose(network(sound, 8, one + 1, one, one).motion, first)
    assert not torch.allclose(network(sound, 8, one, one + 1, one).motion, first)
    assert not torch.allclose(network(sound, 8, one, one, one + 1).motion, first)
    assert not torch.allclose(network(sound + 1, 8, one, one, one).motion, first)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            (8, 1, 0),
            r"emotion: 1 of 1 labels .* valid: 0 neutral, 1 happy, 2 sad, 3 surprise, 4 fear, 5 disgust, 6 anger, 7 contempt",
        ),
        ((-1, 1, 0), r"emotion: .* clip without label"),
        ((0, 0, 0), r"intensity: .* the first is 0 at 0; valid: 1, 2, 3"),
        ((0, 1, 4), r"identity: .* valid: 0 to 3"),
    ],
)
def test_unknown_labels_are_refused_with_the_valid_ones(labels, message):
    with pytest.raises(ValueError, match=message):
        emote.condition_vectors(*(torch.tensor([label]) for label in labels), 4)


def test_conditions_by_name():
    sizes = emote.EmoteSizes(identities=2)
    assert emote.condition_named("anger", 2, 1, sizes).nonzero()[:, 1].tolist() == [6, 9, 12]
    with pytest.raises(
        ValueError, match="expected one of neutral, happy, sad, surprise, fear, disgust, anger, contempt; found 'bored'"
    ):
        emote.condition_named("bored", 1, 0, sizes)
    with pytest.raises(ValueError, match="intensity: expected one of 1, 2, 3; found 4"):
        emote.condition_named("happy", 4, 0, sizes)


def test_a_path_between_conditions_is_a_line_and_stays_at_its_ends():
    one, two = torch.eye(3)[0], torch.eye(3)[1]
    path = emote.condition_path([(2, one), (6, two)], 9)[0]
    assert path[:, 1].tolist() == [0, 0, 0, 0.25, 0.5, 0.75, 1, 1, 1]
    close(path.sum(1), torch.ones(9))
    assert emote.condition_path([(2, one), (6, two)], 9, mode="nearest")[0, :, 1].tolist() == [
        0,
        0,
        0,
        0,
        0,
        1,
        1,
        1,
        1,
    ]
    assert emote.condition_path([(0, two)], 3)[0, :, 1].tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match="rising"):
        emote.condition_path([(3, one), (3, two)], 5)
    with pytest.raises(ValueError, match="'linear' or 'nearest', found 'cubic'"):
        emote.condition_path([(0, one)], 5, mode="cubic")


# ---------------------------------------------------------------------------------------------------------- the exchange

OURS = {"gt_expression_label": "emotion", "gt_expression_intensity": "intensity", "gt_expression_identity": "identity"}


@pytest.mark.parametrize("clips", [2, 4])
def test_exchange_doubles_the_batch_as_published(clips):
    stored = arrays(f"exchange_B{clips}.npz")
    batch = {OURS.get(n[3:], n[3:]): v for n, v in stored.items() if n.startswith("in_")}
    expected = {OURS.get(n[4:], n[4:]): v for n, v in stored.items() if n.startswith("out_")}
    found = emote.exchange(batch, expected["condition_indices"][clips:])
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
    if clips == 2:
        assert torch.equal(emote.derangement(2, torch.Generator()), expected["condition_indices"][2:])


@given(st.integers(2, 9), st.integers(0, 1000))
def test_a_derangement_leaves_nobody_in_place(count, seed):
    drawn = emote.derangement(count, torch.Generator().manual_seed(seed))
    assert sorted(drawn.tolist()) == list(range(count))
    assert not (drawn == torch.arange(count)).any()


def test_all_derangements_of_four_are_drawn_equally_often():
    generator = torch.Generator().manual_seed(0)
    drawn = [tuple(emote.derangement(4, generator).tolist()) for _ in range(1800)]
    counts = {p: drawn.count(p) for p in set(drawn)}
    assert len(counts) == 9
    assert min(counts.values()) > 150  # 200 expected, standard deviation 13
    right = [
        p for p in counts if torch.equal(emote.emotion_targets(torch.tensor(p), wrong_pairing=True), torch.tensor(p))
    ]
    assert len(right) == 3  # the published code before April 2023 was right for these only


def test_a_single_clip_cannot_be_exchanged():
    with pytest.raises(ValueError, match="at least 2 clips, found 1"):
        emote.derangement(1, torch.Generator())
    with pytest.raises(ValueError, match=r"expected each of 0\.\.1 once"):
        emote.exchange({"emotion": torch.zeros(2), "intensity": torch.zeros(2)}, torch.tensor([1, 1]))
    with pytest.raises(ValueError, match=r"expected 2 rows each, found \{'sound': 3\}"):
        emote.exchange(
            {"emotion": torch.zeros(2), "intensity": torch.zeros(2), "sound": torch.zeros(3)}, torch.tensor([1, 0])
        )
    with pytest.raises(ValueError, match=r"no \['intensity'\]"):
        emote.exchange({"emotion": torch.zeros(2)}, torch.tensor([1, 0]))


def test_exchanged_rows_say_the_same_with_another_clips_emotion():
    network, chance = small_network(), torch.Generator().manual_seed(5)
    sound, permutation = torch.randn(3, 8, 6, generator=chance), torch.tensor([1, 2, 0])
    labels = torch.tensor([1, 2, 3]), torch.tensor([1, 2, 3]), torch.tensor([0, 1, 2])
    both = network(sound, 8, *labels, permutation).motion
    close(both[:3], network(sound, 8, *labels).motion)
    close(both[3:], network(sound, 8, labels[0][permutation], labels[1][permutation], labels[2]).motion)


# ------------------------------------------------------------------------------------------------------------ the losses


class Toy:
    """The reference's toy features; its "offsets" are video and mouth side by side."""

    def __init__(self, stored):
        self.we, self.wl = stored["We"], stored["Wl"]

    def lips(self, offsets, person):
        assert len(person) == len(offsets)
        return offsets[..., 5:] @ self.wl

    def emotion(self, offsets, person, *, static=False):
        assert person is None or len(person) == len(offsets)
        frames = offsets[..., :5] @ self.we
        return torch.tanh(frames if static else frames.mean(1))


def toy_batch(stored, **changes):
    clips, frames = stored["gt_exp"].shape[:2]
    labels = torch.zeros(clips, dtype=torch.long)
    fields = {
        "sound": torch.zeros(clips, frames), "motion": stored["gt_exp"], "person": torch.zeros(clips, 1), "emotion": labels,
        "intensity": labels + 1, "identity": labels, "valid": stored["valid"][..., 0],
    }  # fmt: skip
    return Batch(**fields | changes)


@pytest.mark.parametrize("clips", [2, 4])
def test_losses_are_the_published_ones(clips):
    stored, expected = arrays(f"losses_B{clips}.npz"), values(f"losses_B{clips}.json")
    batch, valid = toy_batch(stored), stored["valid"][..., 0]
    predicted, true = (torch.cat([stored[f"{p}_video"], stored[f"{p}_mouth"]], dim=-1) for p in ("pred", "gt"))
    weights = emote.VARIANTS["EMOTE"][0]
    losses = emote.perceptual_losses(predicted, true, batch, Toy(stored), weights, stored["perm"])
    losses["vertex"] = emote.vertex_loss(stored["pred_vertices"][:clips], stored["gt_vertices"], valid)
    found = {
        "vertex_loss": losses["vertex"],
        "lip_reading_loss": losses["lip"],
        "lip_reading_loss_disentangled": losses["lip_exchanged"],
        "emotion_video_loss": losses["emotion"],
        "emotion_video_loss_disentangled": losses["emotion_exchanged"],
        "total_v1_weights": weights.total(losses),
        "vertex_velocity_loss": emote.velocity_loss(stored["pred_vertices"][:clips], stored["gt_vertices"], valid),
    }
    prediction = emote.Prediction(
        torch.cat([stored["pred_exp"], stored["pred_jaw"]], dim=-1), stored["pred_exp"], stored["prior_input"]
    )
    seen = emote.watched(prediction, torch.cat([stored["gt_exp"], stored["gt_jaw"]], dim=-1), valid, 3)
    found |= {
        "exp_loss": seen["expression"],
        "exp_velocity_loss": seen["expression_velocity"],
        "expression_reg": seen["expression_regulariser"],
        "motion_prior_gaussian_reg": seen["latent_regulariser"],
        "jaw_loss": seen["jaw"],
        "jaw_velocity_loss": seen["jaw_velocity"],
        "jaw_loss_6d": seen["jaw_rotation"],
    }
    expected = {name: value for name, value in expected.items() if not name.startswith("val_expansion")}
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value, rel=1e-5), name


def test_the_old_pairing_gives_another_exchanged_emotion_loss():
    stored = arrays("losses_B4.npz")
    predicted, true = (torch.cat([stored[f"{p}_video"], stored[f"{p}_mouth"]], dim=-1) for p in ("pred", "gt"))
    arguments = predicted, true, toy_batch(stored), Toy(stored), emote.VARIANTS["EMOTE"][0], stored["perm"]
    right, wrong = (emote.perceptual_losses(*arguments, wrong_pairing=w)["emotion_exchanged"] for w in (False, True))
    assert abs(right - wrong) > 0.01


def test_terms_without_weight_are_not_computed():
    stored = arrays("losses_B4.npz")
    video = torch.cat([stored["gt_video"], stored["gt_mouth"]], dim=-1)
    doubled = torch.cat([video, video])

    def terms(name):
        weights, exchange = emote.VARIANTS[name]
        arguments = doubled if exchange else video, video, toy_batch(stored), Toy(stored), weights
        return set(emote.perceptual_losses(*arguments, stored["perm"] if exchange else None))

    every = {"lip", "lip_exchanged", "emotion", "emotion_exchanged"}
    assert {name: terms(name) for name in emote.VARIANTS} == {
        "EMOTE": every,
        "EMOTE v2": every,
        "w/o exchange": {"lip", "emotion"},
        "w/o emotion loss": {"lip"},
        "w/o lip loss": {"emotion"},
        "static emotion loss": every,
        "vertex loss only": set(),
        "exchange, lip loss only": {"lip", "lip_exchanged"},
        "exchange, emotion loss only": {"emotion", "emotion_exchanged"},
    }


def test_static_emotion_compares_frame_by_frame():
    stored = arrays("losses_B4.npz")
    true = torch.cat([stored["gt_video"], stored["gt_mouth"]], dim=-1)
    shuffled = true[:, torch.randperm(true.shape[1], generator=torch.Generator().manual_seed(0))]

    def emotion(static):
        weights = emote.LossWeights(lip=0, lip_exchanged=0, emotion_exchanged=0, static=static)
        return emote.perceptual_losses(shuffled, true, toy_batch(stored), Toy(stored), weights)["emotion"].item()

    assert emotion(False) == pytest.approx(0, abs=1e-6)
    assert emotion(True) > 0.1


def test_the_real_videos_features_are_the_reference_if_there_are_any():
    stored = arrays("losses_B4.npz")
    true = torch.cat([stored["gt_video"], stored["gt_mouth"]], dim=-1)
    features = torch.randn(4, 7, generator=torch.Generator().manual_seed(0))
    weights = emote.LossWeights(lip=0, lip_exchanged=0)
    batch = toy_batch(stored, emotion_features=features)
    found = emote.perceptual_losses(torch.cat([true, true]), true, batch, Toy(stored), weights, stored["perm"])
    own = Toy(stored).emotion(true, None)
    assert torch.equal(found["emotion"], emote.feature_loss(own, features))
    assert torch.equal(found["emotion_exchanged"], emote.feature_loss(own, features[stored["perm"]]))


def test_a_clip_without_valid_frames_is_left_out_and_the_published_code_drops_its_batch():
    predicted, valid = torch.ones(2, 3, 4), torch.tensor([[True, True, False], [False, False, False]])
    reference = torch.zeros(2, 3, 4)
    assert emote.vertex_loss(predicted, reference, valid) == 1
    assert emote.vertex_loss(predicted, reference, valid, skip_batch=True) == 0
    with pytest.raises(ValueError, match="none of the 2 clips of the batch has a valid frame"):
        emote.vertex_loss(predicted, reference, valid & False)
    with pytest.raises(ValueError, match="no frame of the batch is valid"):
        emote.feature_loss(predicted, reference + 1, valid & False)


@given(st.floats(0.1, 10), st.integers(0, 50))
def test_feature_loss_knows_directions_and_not_lengths(scale, seed):
    features = torch.randn(3, 6, generator=torch.Generator().manual_seed(seed)).double()
    other = torch.randn(3, 6, generator=torch.Generator().manual_seed(seed + 99)).double()
    assert emote.feature_loss(scale * features, features).item() == pytest.approx(0, abs=1e-9)
    assert emote.feature_loss(-features, features).item() == pytest.approx(2)
    assert emote.feature_loss(scale * features, other).item() == pytest.approx(
        emote.feature_loss(features, other).item()
    )


def test_published_weights_and_their_doubled_ablations():
    published = emote.LossWeights()
    assert (published.vertex, published.lip, published.emotion) == (1, 2.5e-5, 2.5e-6)
    for name in ("w/o exchange", "w/o emotion loss", "w/o lip loss"):
        weights, exchange = emote.VARIANTS[name]
        assert not exchange
        assert weights.lip in (0, 5e-5)
        assert weights.emotion in (0, 5e-6)
    assert published.scaled(2).lip == 5e-5
    assert published.scaled(2).vertex == 1
    with pytest.raises(ValueError, match="need exchange=True"):
        emote.StageTraining(weights=published)


# ------------------------------------------------------------------------------------------------ animation of a recording


def test_sound_becomes_a_row_of_640_samples_a_frame():
    samples = torch.linspace(-1, 1, 1500)
    rows = emote.sound_rows(samples, sample_rate=16_000)
    assert rows.shape == (3, 640)
    assert torch.equal(rows.flatten()[:1500], samples)
    assert not rows.flatten()[1500:].any()
    padded = emote.sound_rows(samples, sample_rate=16_000, row_padding=True)
    assert padded.shape == (4, 641)
    assert not padded[:, 640].any()


def test_full_scale_samples_wrap_only_as_a_named_defect():
    loud = torch.ones(640)
    assert emote.sound_rows(loud, sample_rate=16_000).max() == 1
    wrapped = emote.sound_rows(loud, sample_rate=16_000, wrapping_int16=True)
    assert wrapped.max() < -1


@pytest.mark.parametrize(
    ("samples", "rate", "message"),
    [
        (torch.zeros(0), 16_000, "found 0 samples"),
        (torch.tensor([float("nan")]), 16_000, "finite"),
        (torch.zeros(10), 22_050 + 1, "resample"),
    ],
)
def test_recordings_that_cannot_be_animated_are_refused(samples, rate, message):
    with pytest.raises(ValueError, match=message):
        emote.sound_rows(samples, sample_rate=rate)


# -------------------------------------------------------------------------------------------------------------- training


class LinearFace:
    """A face of two vertices that every number of the motion moves."""

    basis = torch.randn(5, 6, generator=torch.Generator().manual_seed(9))

    def offsets(self, motion, person):
        assert len(person) == len(motion)
        return motion @ self.basis


def waving_clips(count=24, frames=24, fps=25.0):
    """Two emotions that shift motion, and sound that drives it."""
    chance = torch.Generator().manual_seed(0)
    sound = torch.randn(count, 4 * frames, 4, generator=chance).cumsum(1)
    sound = (sound - sound.mean(1, keepdim=True)) / sound.std(1, keepdim=True)
    emotion = torch.arange(count) % 2 + 1
    motion = sound[:, ::4] @ torch.randn(4, 5, generator=chance) * 0.3 + (emotion[:, None, None] - 1.5)
    labels = {"emotion": emotion, "intensity": torch.ones(count, dtype=torch.long), "identity": torch.arange(count) % 3}
    return EmoteClips(
        sound, motion, torch.zeros(count, 1), **labels, valid=torch.ones(count, frames, dtype=torch.bool), fps=fps
    )


@pytest.fixture
def fabric():
    return training.launch("cpu")


PRIOR = emote.PriorSizes(motion=5, dim=16, heads=2, hidden=16, halvings=2)
TINY = emote.EmoteSizes(audio=8, dim=8, heads=2, identities=3, jaw=1, dropout=0.1)
PRIOR_TRAINING = emote.PriorTraining(
    steps=60, batch=8, frames=16, lr=3e-3, reconstruction=1.0, kl=1e-4, standardise=True
)
FIRST = emote.StageTraining(
    steps=40, batch=8, frames=16, lr=3e-3, weights=emote.LossWeights(1, 0, 0, 0, 0), decay_last=0.3
)
SECOND = emote.StageTraining(
    steps=10,
    batch=4,
    frames=16,
    lr=1e-3,
    weights=emote.LossWeights(1, 0.1, 0.1, 0.1, 0.1),
    exchange=True,
    train_audio=False,
)


def seeing():
    lips = LipReader(6, 3, seed=0)
    return MotionPerception(lips, MotionEmotion(6, seed=1), torch.tensor([0, 1]))


@pytest.fixture
def trained_prior(fabric):
    return emote.train_prior(fabric, waving_clips(), LinearFace(), PRIOR, PRIOR_TRAINING, seed=0)


def test_the_prior_learns_and_is_frozen(trained_prior):
    prior, history = trained_prior
    assert history["reconstruction"][-5:].mean() < 0.6 * history["reconstruction"][:5].mean()
    assert set(history) == {"loss", "reconstruction", "kl"}
    assert not prior.training
    assert not any(p.requires_grad for p in prior.parameters())


def test_both_stages_train_and_the_second_leaves_the_speech_features_alone(fabric, trained_prior):
    prior, _ = trained_prior
    clips = waving_clips()
    model = emote.Emote(TINY, prior, ConvSpeechFeatures(4, 8, seed=0), seed=0)
    first = emote.train_stage(fabric, model, clips, LinearFace(), FIRST, seed=0)
    assert first["vertex"][-5:].mean() < 0.8 * first["vertex"][:5].mean()
    audio = {name: value.clone() for name, value in model.audio.state_dict().items()}
    frozen = {name: value.clone() for name, value in prior.state_dict().items()}
    style = model.style.weight.detach().clone()
    second = emote.train_stage(fabric, model, clips, LinearFace(), SECOND, perception=seeing(), seed=1)
    expected = {
        "vertex",
        "lip",
        "lip_exchanged",
        "emotion",
        "emotion_exchanged",
        "latent_regulariser",
        "expression_regulariser",
    }
    assert expected < set(second)
    assert all(torch.equal(value, audio[name]) for name, value in model.audio.state_dict().items())
    assert all(torch.equal(value, frozen[name]) for name, value in prior.state_dict().items())
    assert not torch.equal(model.style.weight, style)
    assert not model.training
    assert not any(p.requires_grad for p in prior.parameters())


def test_a_stage_is_a_function_of_its_seed(fabric, trained_prior):
    def run(seed, checkpoint=None):
        model = emote.Emote(TINY, trained_prior[0], ConvSpeechFeatures(4, 8, seed=0), seed=0)
        emote.train_stage(
            fabric, model, waving_clips(), LinearFace(), SECOND, perception=seeing(), seed=seed, checkpoint=checkpoint
        )
        return model.head.weight.detach()

    before = torch.get_rng_state()
    assert torch.equal(run(0), run(0))
    assert not torch.equal(run(0), run(1))
    assert torch.equal(torch.get_rng_state(), before)


def test_an_interrupted_stage_ends_like_an_uninterrupted_one(fabric, trained_prior, tmp_path, monkeypatch):
    def model():
        return emote.Emote(TINY, trained_prior[0], ConvSpeechFeatures(4, 8, seed=0), seed=0)

    def run(one, checkpoint=None):
        emote.train_stage(
            fabric, one, waving_clips(), LinearFace(), SECOND, perception=seeing(), seed=0, checkpoint=checkpoint
        )
        return one.state_dict()

    whole, original = run(model()), training.Run.update

    def killed(self, loss, **logged):
        original(self, loss, **logged)
        if self.step == 6:
            self.save()
            raise KeyboardInterrupt

    monkeypatch.setattr(training.Run, "update", killed)
    with pytest.raises(KeyboardInterrupt):
        run(model(), tmp_path / "stage.pt")
    monkeypatch.setattr(training.Run, "update", original)
    resumed = run(model(), tmp_path / "stage.pt")
    assert all(torch.equal(value, whole[name]) for name, value in resumed.items())


def test_faults_of_training_are_named(fabric, trained_prior):
    model = emote.Emote(TINY, trained_prior[0], ConvSpeechFeatures(4, 8, seed=0), seed=0)
    with pytest.raises(ValueError, match="expected 25 frames a second, found 30"):
        emote.train_stage(fabric, model, waving_clips(fps=30.0), LinearFace(), FIRST, seed=0)
    with pytest.raises(ValueError, match="needs networks that look"):
        emote.train_stage(fabric, model, waving_clips(), LinearFace(), SECOND, seed=0)
    with pytest.raises(ValueError, match="takes 8 numbers a frame, these features have 6"):
        emote.Emote(TINY, trained_prior[0], ConvSpeechFeatures(4, 6, seed=0), seed=0)
    with pytest.raises(ValueError, match="without a prior, say how many"):
        emote.Emote(TINY, None, ConvSpeechFeatures(4, 8, seed=0), seed=0)


def test_a_reader_learns_phones(fabric):
    chance = torch.Generator().manual_seed(0)
    phones = torch.randint(3, (40, 12), generator=chance)
    mouth = torch.nn.functional.one_hot(phones, 3).float() @ torch.randn(3, 6, generator=chance) + 0.1 * torch.randn(
        40, 12, 6, generator=chance
    )
    reader = LipReader(6, 3, seed=0)
    losses = emote.train_reader(fabric, reader, mouth, phones, config=emote.ReaderTraining(steps=60, batch=16), seed=0)
    assert losses[-1] < 0.3 * losses[0]
    assert (reader.logits(reader(mouth)).argmax(-1) == phones).float().mean() > 0.95
    assert not any(p.requires_grad for p in reader.parameters())


def test_animation_follows_the_chosen_emotion():
    sizes = emote.EmoteSizes(audio=6, dim=8, heads=2, identities=4, dropout=0.0)
    flint = emote.Flint(emote.PriorSizes(motion=5, dim=8, heads=2, hidden=8, halvings=2), seed=1)
    network = emote.Emote(sizes, flint, ConvSpeechFeatures(4, 6, seed=0), seed=0).eval()
    with torch.no_grad():
        nn.init.normal_(network.head.weight, generator=torch.Generator().manual_seed(2))
        nn.init.normal_(flint.decoder.turn.weight, generator=torch.Generator().manual_seed(3))
    sound = torch.randn(4 * 30, 4, generator=torch.Generator().manual_seed(0))
    happy, sad = (
        emote.animate(network, sound, emote.condition_named(e, 3, 0, sizes), steps_per_frame=4) for e in EMOTIONS[1:3]
    )
    assert happy.shape == (30, 5)
    assert (happy - sad).abs().max() > 0
    with pytest.raises(ValueError, match="119 steps do not make whole frames of 4"):
        emote.animate(network, sound[:119], emote.condition_named("sad", 1, 0, sizes), steps_per_frame=4)
