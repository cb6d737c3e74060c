"""Paper 08: networks and losses equal to the released code, training that keeps codes alive and resumes exactly, motion from sound, whole or streamed."""

from __future__ import annotations

import dataclasses
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from paper_utils import training
from paper_utils.data.motion_clips import Clips
from paper_utils.methods import talkshow as ts
from paper_utils.nn.pixelcnn import PixelCnnConfig, draw_uniforms
from paper_utils.nn.quantizer import QuantizerConfig, perplexity
from paper_utils.recipes.talkshow_files import codebook_from_official, face_from_official
from paper_utils.world.pose_layout import COLUMNS, EXPRESSION, joint_columns, upper_columns

NETWORK = {"rtol": 1e-4, "atol": 2e-5}  # of the reference's README
TINY = ts.CodebookConfig(8, 1, QuantizerConfig(codes=6, dim=3))
TINY_PRIOR = ts.PriorConfig(PixelCnnConfig(codes=6, width=8, layers=3, head=8, audio=4), features=5, residual_layers=1)
SHORT = {"batch": 4, "window": 16, "lr": 3e-3}
UPPER = upper_columns()


@pytest.fixture(scope="module")
def fabric():
    return training.launch("cpu")


@pytest.fixture
def arrays(reference):
    return lambda name: dict(np.load(reference / "talkshow" / f"{name}.npz"))


def weights(recorded) -> dict[str, torch.Tensor]:
    return {name.removeprefix("w/"): torch.tensor(value) for name, value in recorded.items() if name.startswith("w/")}


def generator(seed=0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_clips(count=6, frames=24, features=5, seed=0) -> Clips:
    """Smooth motion that has something to do with its sound."""
    noise = generator(seed)
    slow = torch.randn(count, frames, 8, generator=noise).cumsum(1) / 4
    motion = slow @ torch.randn(8, COLUMNS, generator=noise) / 8
    return Clips.of(motion, slow[..., :features], torch.arange(count) % 4)


def tiny_model(seed=0, face=True) -> ts.TalkShow:
    """Networks with random weights and batch-norm statistics that are not the initial ones."""
    body, hands = ts.VqVae(39, TINY, seed=seed), ts.VqVae(90, TINY, seed=seed + 1)
    prior = ts.Prior(TINY_PRIOR, seed=seed)
    model = ts.TalkShow(body, hands, prior, ts.Regressor(ts.RegressorConfig(5, 103, 8, 2), seed=seed) if face else None)
    for name, buffer in model.named_buffers():
        if name.endswith("running_var"):
            buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator(seed)))
    return model


# ------------------------------------------------------------------------------------------ parity with the released code


def test_codes_and_reconstruction_equal_the_released_code(arrays):
    recorded = arrays("vqvae_small")
    network, x = codebook_from_official(weights(recorded)), torch.from_numpy(recorded["x"])
    with torch.no_grad():
        found = network(x)
        np.testing.assert_allclose(found.latents.transpose(1, 2), recorded["eval_z"], **NETWORK)
        np.testing.assert_array_equal(found.quantized.codes, recorded["eval_codes"])
        np.testing.assert_allclose(found.quantized.vectors.transpose(1, 2), recorded["eval_quantized"], **NETWORK)
        np.testing.assert_allclose(found.motion.transpose(1, 2), recorded["eval_recon"], **NETWORK)
    np.testing.assert_array_equal(network.encode(x), recorded["eval_codes"])
    decoded = network.decode(torch.from_numpy(recorded["eval_codes"])).transpose(1, 2)
    np.testing.assert_allclose(decoded, recorded["eval_decode_from_codes"], **NETWORK)
    for frames in (17, 18, 19):
        assert network.encode(torch.zeros(1, frames, 6)).shape[1] == recorded[f"codes_len_for_T{frames}"]


def test_a_training_step_of_the_codes_equals_the_released_code(arrays):
    recorded = arrays("vqvae_small")
    network, x = codebook_from_official(weights(recorded)).train(), torch.from_numpy(recorded["x"])
    coded = network(x)
    losses = ts.codebook_losses(coded, x)
    total = sum(losses.values())
    total.backward()
    np.testing.assert_allclose(coded.motion.detach(), recorded["train_recon"], **NETWORK)
    for value, name in ((losses["frames"], "rec_l1"), (losses["velocity"], "vel_l1"), (losses["commitment"], "commit"), (total, "total")):  # fmt: skip
        assert value.item() == pytest.approx(float(recorded[f"train_{name}"]), rel=1e-5), name
    np.testing.assert_allclose(network.quantizer.codebook, recorded["train_embeddings_after"], **NETWORK)
    norms = {name: float(parameter.grad.norm()) for name, parameter in network.named_parameters()}
    assert set(norms) == set(recorded["grad_names"].tolist())
    for name, value in zip(recorded["grad_names"], recorded["grad_norms"], strict=True):
        # A bias before a batch norm has no gradient but rounding.
        assert norms[str(name)] == pytest.approx(value, rel=1e-4, abs=1e-5), name


def test_sound_encoder_equals_the_released_code(arrays):
    recorded = arrays("body_audio_encoder_small")
    features, width = recorded["meta"][:2].tolist()
    encoder = ts.SoundEncoder(features, width).eval()
    encoder.load_state_dict(weights(recorded))
    with torch.no_grad():
        np.testing.assert_allclose(encoder(torch.from_numpy(recorded["x"])), recorded["y"], **NETWORK)


def by_formula(shape, rate, phase) -> np.ndarray:
    n = np.arange(math.prod(shape))
    return (np.sin(rate * n + phase) * np.cos(0.013 * n + phase)).astype(np.float32).reshape(shape)


@pytest.fixture
def face(reference, arrays):
    """The recorded arrays, the face network of the formula, and its hidden states."""
    recorded, state, count = arrays("face_head"), {}, 0
    for name, shape in json.loads((reference / "talkshow" / "face_head_param_order.json").read_text()):
        index = np.arange(count, count := count + math.prod(shape))
        values = recorded["amp"][0] * np.sin(0.7 * index + recorded["amp"][1])
        state[name] = torch.tensor((1 + values if ".norm.weight" in name else values).reshape(shape)).float()
    batch, _, frames = recorded["meta"].tolist()
    hidden = by_formula((batch, frames, 768), *recorded["hidden_formula"]).astype(np.float16).astype(np.float32)
    return SimpleNamespace(recorded=recorded, head=face_from_official(state), hidden=torch.from_numpy(hidden))


@pytest.mark.parametrize("who", ["onehot", "zero_id"])
def test_face_equals_the_released_code(who, face):
    speakers = torch.from_numpy(face.recorded["id_onehot"]) if who == "onehot" else torch.zeros(2, 4)
    with torch.no_grad():
        shared = face.head.shared_features(face.hidden, speakers)[:, :8]
        np.testing.assert_allclose(shared, face.recorded[f"mid_{who}_first8ch"], **NETWORK)
        np.testing.assert_allclose(face.head(face.hidden, speakers), face.recorded[f"out_{who}"], **NETWORK)


def test_face_loss_is_what_is_meant_or_what_the_released_code_computes(face):
    recorded = face.recorded
    predicted = torch.from_numpy(recorded["out_onehot"])
    motion = torch.from_numpy(by_formula((*predicted.shape[:2], COLUMNS), *recorded["gt265_formula"]))
    meant, official = (ts.face_losses(predicted, motion, jaw=kind) for kind in ("jaw", "official"))
    assert float(meant["jaw"]) == pytest.approx(float(recorded["loss_jaw_only_l1"]), rel=1e-5)
    assert float(official["jaw"]) == pytest.approx(float(recorded["loss_first6_l1"]), rel=1e-5)
    assert float(official["expression"]) == pytest.approx(float(recorded["loss_expr_mse"]), rel=1e-5)
    assert float(sum(official.values())) == pytest.approx(float(recorded["loss_total"]), rel=1e-5)


def test_official_face_loss_pulls_expressions_towards_the_left_eye():
    face, motion = torch.zeros(1, 2, 103, requires_grad=True), torch.zeros(1, 2, COLUMNS)
    motion[..., joint_columns("left_eye")] = 1.0
    for kind, pulled in (("jaw", False), ("official", True)):
        (gradient,) = torch.autograd.grad(ts.face_losses(face, motion, jaw=kind)["jaw"], face)
        assert bool(gradient[..., 3:6].any()) == pulled


def test_speech_features_are_resampled_as_in_the_released_code(arrays):
    recorded = arrays("face_head")
    features = torch.from_numpy(recorded["interp_in"])
    np.testing.assert_allclose(ts.resample_features(features, 30), recorded["interp_out"], **NETWORK)
    np.testing.assert_allclose(ts.resample_features(features), recorded["interp_out_default_len"], **NETWORK)


def test_a_frame_of_the_face_sees_six_frames_on_either_side():
    config = ts.FaceConfig(hidden=4, width=8, jaw_width=8, speaker_width=4, dropout=0.0)
    head, x = ts.FaceHead(config, seed=0).eval(), torch.randn(1, 40, 4, generator=generator()).requires_grad_()
    head(x, torch.zeros(1, 4))[0, 20].sum().backward()
    hit = x.grad[0].any(-1).nonzero()[:, 0]
    assert (int(hit.min()), int(hit.max())) == (14, 26)


# ------------------------------------------------------------------------------------------------ codes, losses, features


@settings(max_examples=15)
@given(st.integers(4, 40))
def test_four_frames_a_code_and_the_rest_is_lost(frames):
    network = ts.VqVae(7, TINY, seed=0).eval()
    codes = network.encode(torch.zeros(2, frames, 7))
    assert codes.shape == (2, frames // 4)
    assert network.decode(codes).shape == (2, frames // 4 * 4, 7)
    losses = ts.codebook_losses(network(torch.ones(2, frames, 7)), torch.ones(2, frames, 7))
    assert all(torch.isfinite(value) for value in losses.values())


def test_without_quantizer_the_decoder_gets_what_the_encoder_said():
    network, x = ts.VqVae(7, TINY, seed=0).eval(), torch.randn(2, 8, 7, generator=generator())
    free = network(x, quantize=False)
    assert torch.equal(free.motion, network.decoder(free.latents.transpose(1, 2)).transpose(1, 2))
    assert free.quantized.commitment == 0
    assert not torch.equal(free.motion, network(x).motion)


def test_speech_network_stays_in_evaluation_mode_and_its_convolutions_do_not_learn():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.feature_extractor, self.linear = nn.Conv1d(1, 3, 320, stride=320), nn.Linear(3, 6)
            self.encoder = lambda hidden: (nn.functional.dropout(hidden, 0.9, self.training),)

        def feature_projection(self, local):
            return self.linear(local), local

    model = Model()
    extract = model.feature_extractor.forward
    model.feature_extractor.forward = lambda samples: extract(samples[:, None])
    speech = ts.SpeechFeatures(model).train()
    assert not model.training
    hidden = speech(torch.randn(2, 16_000, generator=generator()), 30)
    assert hidden.shape == (2, 30, 6)
    assert not model.feature_extractor.weight.requires_grad
    assert model.linear.weight.requires_grad


def test_speech_network_runs_on_a_random_wav2vec2():
    speech_features = pytest.importorskip("paper_utils.nn.speech_features")
    pytest.importorskip("transformers")
    model = speech_features.random_wav2vec2(
        0, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    assert ts.SpeechFeatures(model)(torch.randn(1, 16_000), 30).shape == (1, 30, 16)


def test_sound_features_are_three_hundred_mfcc_for_ten_seconds():
    assert ts.sound_features(torch.zeros(1, 220_000), 22_000).shape == (1, 300, 64)
    with pytest.raises(ValueError, match="expected 22000 Hz, found 22050; resample"):
        ts.sound_features(torch.zeros(1, 220_500), 22_050)


# --------------------------------------------------------------------------------------------------------------- training


def test_codes_stay_alive_with_data_start_and_restarts_and_die_in_the_released_way(fabric):
    """Motion of 32 distinct kinds; the same steps and rate for both."""
    kinds = torch.randn(32, 39, generator=generator(1))
    noise = generator(2)
    order = torch.randint(32, (60, 6), generator=noise)
    motion = torch.zeros(60, 24, COLUMNS)
    motion[..., UPPER[:39]] = kinds[order].repeat_interleave(4, 1) + 0.02 * torch.randn(60, 24, 39, generator=noise)
    clips = Clips.of(motion, torch.zeros(60, 24, 1), torch.zeros(60, dtype=torch.long))
    settings = ts.CodebookTraining(steps=60, batch=8, window=24, stride=8, lr=4e-3)
    alive = dataclasses.replace(settings, warmup=10, start="data", restart_every=10)
    found = {}
    for kind, how in (("keep", alive), ("official", settings)):
        quantizer = QuantizerConfig(codes=32, dim=8, decay=0.95 if kind == "keep" else 0.99, unused=kind)
        network, history = ts.train_codebook(clips, UPPER[:39], ts.CodebookConfig(8, 1, quantizer), how, fabric=fabric)
        fallen = int((network.quantizer.codebook == 0).all(1).sum())
        found[kind] = fallen, perplexity(network.encode(motion[..., UPPER[:39]]), 32)
        assert history["loss"][-10:].mean() < history["loss"][:10].mean()
        assert set(history) == {"loss", "frames", "velocity", "commitment", "perplexity"}
        assert (history["commitment"] == 0).sum() == how.warmup, (
            "no quantizer while it warms up, and at once afterwards"
        )
    assert found["keep"][0] == 0
    assert found["official"][0] > 5, "codes that no vector of the first batch chose lie on the origin"
    assert found["keep"][1] > found["official"][1]


def test_training_is_a_function_of_the_seed_and_resumes_bit_for_bit(fabric, tmp_path):
    clips = some_clips()
    config = dataclasses.replace(TINY, quantizer=dataclasses.replace(TINY.quantizer, unused="keep"))
    settings = ts.CodebookTraining(steps=10, warmup=2, start="data", restart_every=3, **SHORT)

    def codebook(steps, **options):
        return ts.train_codebook(
            clips, UPPER[:39], config, dataclasses.replace(settings, steps=steps), fabric=fabric, **options
        )

    whole, history = codebook(10)
    file = tmp_path / "c.pt"
    codebook(6, checkpoint=file)
    resumed, resumed_history = codebook(10, checkpoint=file)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    np.testing.assert_array_equal(history["loss"], resumed_history["loss"])
    other, _ = codebook(10, seed=1)
    assert not torch.equal(other.quantizer.codebook, whole.quantizer.codebook)


def test_prior_resumes_bit_for_bit(fabric, tmp_path):
    clips = some_clips()
    windows = clips.windows(16, 4)
    codes = torch.randint(6, (len(windows), 4, 2), generator=generator())

    def prior(steps, **options):
        settings = ts.PriorTraining(steps=steps, **SHORT)
        return ts.train_prior(clips, windows, codes, TINY_PRIOR, settings, fabric=fabric, **options)

    whole, history = prior(8)
    prior(5, checkpoint=tmp_path / "p.pt")
    resumed, _ = prior(8, checkpoint=tmp_path / "p.pt")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert history["parts"].shape == (8, 2)
    np.testing.assert_allclose(history["parts"].mean(1), history["loss"], rtol=1e-5)


def test_only_the_cross_prior_learns_that_hands_follow_the_body_of_their_row(fabric):
    """Bodies are chance; hands repeat them, or are chance of their own."""
    clips = some_clips(count=1500, frames=16)
    windows, loose = clips.windows(16), torch.randint(4, (1500, 4, 2), generator=generator(4))
    tied, surprise = loose[..., :1].repeat(1, 1, 2), {}
    for variant in ("cross", "independent"):
        config = ts.PriorConfig(PixelCnnConfig(codes=4, width=12, layers=2, head=16, audio=0, variant=variant))
        for name, codes in (("tied", tied), ("loose", loose)):
            settings = ts.PriorTraining(steps=60, batch=40, window=16, lr=2e-2)
            _, history = ts.train_prior(clips, windows, codes, config, settings, fabric=fabric)
            surprise[variant, name] = history["parts"][-10:].mean(0)
    assert surprise["cross", "tied"][1] < 0.1, "hands are known once the body is"
    assert surprise["cross", "tied"][0] > 1.2, "the body is chance: log 4 = 1.39 nats"
    assert surprise["independent", "tied"][1] > 1.2
    assert surprise["cross", "loose"][1] > 1.2, "control: nothing to learn"


def test_only_the_grid_network_is_clipped(fabric):
    clips = some_clips()
    windows = clips.windows(16, 8)
    codes = torch.randint(6, (len(windows), 4, 2), generator=generator())
    moved = {}
    for norm in (5.0, 1e-12):
        settings = ts.PriorTraining(steps=1, clip_norm=norm, **SHORT)
        prior, _ = ts.train_prior(clips, windows, codes, TINY_PRIOR, settings, fabric=fabric)
        start = ts.Prior(TINY_PRIOR, seed=0)
        moved[norm] = [
            max(float((a - b).detach().abs().max()) for a, b in zip(new.parameters(), old.parameters(), strict=True))
            for new, old in ((prior.grid, start.grid), (prior.sound, start.sound))
        ]
    assert moved[1e-12][0] < 1e-2 * moved[5.0][0]
    assert moved[1e-12][1] == pytest.approx(moved[5.0][1], rel=0.1)


@pytest.mark.parametrize("loss", ["mse", "l1"])
def test_regressor_learns_a_function_of_sound_and_speaker(fabric, loss):
    clips = some_clips(count=8)
    columns = UPPER[:6]
    config = ts.RegressorConfig(5, 6, 16, 2)
    settings = ts.RegressorTraining(steps=60, batch=8, window=24, lr=1e-2, loss=loss)
    network, history = ts.train_regressor(clips, columns, config, settings, fabric=fabric)
    assert history["loss"][-5:].mean() < 0.5 * history["loss"][:5].mean()
    features = clips.cut(clips.windows(24), 24)[1]
    outputs = [network(features, ts.one_hot(torch.full((8,), speaker))) for speaker in (0, 1)]
    assert not torch.allclose(*outputs)


def test_face_training_follows_the_losses(fabric):
    class Faces:
        def __len__(self):
            return 3

        def __getitem__(self, index):
            motion = torch.zeros(12 + index, COLUMNS)
            motion[:, 0], motion[:, EXPRESSION.start] = 0.3, 0.5
            return torch.ones(40, 4), motion, index

    class Speech(nn.Module):
        def forward(self, sound, frames):
            return ts.resample_features(sound, frames)

    config = ts.FaceConfig(hidden=4, width=8, jaw_width=8, speaker_width=2)
    network = ts.FaceGenerator(Speech(), ts.FaceHead(config, seed=0))
    network, history = ts.train_face(Faces(), network, ts.FaceTraining(steps=60, lr=0.02), fabric=fabric)
    assert history["loss"][-5:].mean() < history["loss"][:5].mean()
    assert not network.training


# ------------------------------------------------------------------------------------------------------ from sound to motion


def test_every_draw_has_another_body_and_the_same_face():
    model, features = tiny_model(), torch.randn(2, 25, 5, generator=generator())
    motion = model.generate(features, torch.tensor([0, 3]), generator=generator(), draws=3)
    assert motion.shape == (2, 3, 25, COLUMNS)
    face = [*range(3), *range(165, 265)]
    assert torch.equal(motion[:, 0, :, face], motion[:, 2, :, face])
    assert not torch.equal(motion[:, 0, :, UPPER], motion[:, 1, :, UPPER])
    assert (motion[..., 3:9] == 0).all(), "eyes are not predicted"
    assert torch.equal(motion[..., 24, UPPER], motion[..., 23, UPPER]), (
        "25 frames are 6 codes; the last frame is repeated"
    )
    same = model.generate(features, torch.tensor([0, 3]), generator=generator(), draws=3)
    assert torch.equal(same, motion)


def test_posture_changes_legs_only_and_no_face_leaves_it_still():
    model, features = tiny_model(face=False), torch.zeros(1, 8, 5)
    sit, stand = (
        model.generate(features, torch.tensor([1]), generator=generator(), posture=posture)
        for posture in ("sit", "stand")
    )
    changed = (sit != stand).any(dim=(0, 1, 2)).nonzero()[:, 0].tolist()
    legs = [c for j in ("left_hip", "right_hip", "left_knee", "right_knee") for c in range(COLUMNS)[joint_columns(j)]]
    assert changed
    assert set(changed) <= set(legs)
    assert (sit[..., EXPRESSION] == 0).all()


def test_face_decides_the_length():
    upper = torch.arange(5.0)[:, None]
    assert ts.fit_length(upper, 3)[:, 0].tolist() == [0, 1, 2]
    assert ts.fit_length(upper, 7)[:, 0].tolist() == [0, 1, 2, 3, 4, 4, 4]


@settings(max_examples=20)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=5).filter(lambda sizes: sum(sizes) >= 4))
def test_a_stream_gives_the_motion_of_the_whole_sound(sizes):
    model = tiny_model().double()
    features = torch.randn(2, sum(sizes), 5, generator=generator(), dtype=torch.float64)
    speakers = torch.tensor([0, 2])
    uniforms = draw_uniforms(2, sum(sizes) // 4, generator(7))
    whole = model.decode(model.draw_codes(features, speakers, uniforms=uniforms)[:, 0])
    stream, pieces = ts.Stream(model, speakers, generator=generator(7)), []
    for index, piece in enumerate(features.split(sizes, dim=1)):
        pieces.append(stream.push(piece, last=index == len(sizes) - 1))
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, rtol=1e-9, atol=1e-9)


def test_a_stream_stays_a_fixed_time_behind_the_sound():
    model = tiny_model()
    stream, heard, said = ts.Stream(model, torch.tensor([0]), generator=generator()), 0, 0
    for _ in range(30):
        heard += 4
        said += stream.push(torch.zeros(1, 4, 5)).shape[1]
        assert heard - said <= stream.delay
    assert said > 60


def test_official_columns_put_feet_where_neck_and_left_collar_belong():
    """The released index set: what is learned from the feet is assembled as neck and left collar."""
    clips = some_clips(count=8, frames=16)
    motion = clips.motion.clone()
    motion[:, joint_columns("left_foot")], motion[:, joint_columns("neck")] = 0.0, 1.0
    clips = dataclasses.replace(clips, motion=motion)
    model, feet = tiny_model(face=False), {}
    for index_set in ("consistent", "official"):
        columns = torch.from_numpy(upper_columns(index_set))[:39]
        windows = clips.windows(16)
        learned = clips.cut(windows, 16)[0][..., columns]
        feet[index_set] = float(learned[..., 9:12].mean())  # fourth joint of the body, assembled as the neck
        codes = ts.encode_windows(clips, windows, model.body, model.hands, length=16, index_set=index_set)
        assert torch.equal(codes[..., 0], model.body.encode(learned))
    assert feet == {"consistent": 1.0, "official": 0.0}


# ----------------------------------------------------------------------------------------------------------------- faults


def test_bad_input_is_named(fabric):
    model, ok = tiny_model(), torch.zeros(1, 8, 5)
    one, bad = torch.tensor([0]), torch.zeros(1, 8, 39)
    bad[0, 3, :2] = torch.nan
    other = ts.Prior(dataclasses.replace(TINY_PRIOR, grid=dataclasses.replace(TINY_PRIOR.grid, codes=7)), seed=0)
    with pytest.raises(ValueError, match="shorter than the 4 frames of a code"):
        model.body.encode(torch.zeros(1, 3, 39))
    with pytest.raises(ValueError, match="2 of 312 numbers are NaN"):
        model.body.encode(bad)
    with pytest.raises(ValueError, match="recording is too short"):
        model.draw_codes(ok[:, :3], one, generator=generator())
    with pytest.raises(ValueError, match=r"speakers: expected 0 to 3, found \[4\]"):
        model.draw_codes(ok, torch.tensor([4]), generator=generator())
    with pytest.raises(ValueError, match=r"speakers: expected 0 to 3, found \[-1\]"):
        ts.one_hot(torch.tensor([-1]))
    with pytest.raises(ValueError, match="features: 40 of 40 numbers are NaN"):
        model.draw_codes(ok + torch.nan, one, generator=generator())
    with pytest.raises(ValueError, match="3 rows of codes, but 8 frames of sound make 2"):
        model.prior(torch.zeros(1, 3, 2, dtype=torch.long), ok, one)
    with pytest.raises(ValueError, match="none to decode"):
        model.body.decode(torch.zeros(1, 0, dtype=torch.long))
    with pytest.raises(ValueError, match="equally many codes"):
        ts.TalkShow(model.body, model.hands, other)
    with pytest.raises(ValueError, match="jaw: expected one of jaw, official, found 'mouth'"):
        ts.face_losses(torch.zeros(1, 2, 103), torch.zeros(1, 2, COLUMNS), jaw="mouth")
    deaf = ts.Prior(ts.PriorConfig(dataclasses.replace(TINY_PRIOR.grid, audio=0)), seed=0)
    silent = ts.TalkShow(model.body, model.hands, deaf)
    with pytest.raises(ValueError, match="made without sound"):
        ts.Stream(silent, one, generator=generator())
    clips, codes = some_clips(count=6, frames=16), torch.zeros(5, 4, 2, dtype=torch.long)
    windows, settings = clips.windows(16), ts.PriorTraining(steps=1, **SHORT)
    with pytest.raises(ValueError, match=r"codes: expected \(6, 4, 2\) for these windows, found \(5, 4, 2\)"):
        ts.train_prior(clips, windows, codes, TINY_PRIOR, settings, fabric=fabric)
    with pytest.raises(ValueError, match="start: expected 'random' or 'data'"):
        ts.CodebookTraining(start="zero")
