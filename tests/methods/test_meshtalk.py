"""MeshTalk: equal to the released networks and loss, step by step in training; swaps, streams, official files, faults."""

from __future__ import annotations

import dataclasses

import meshtalk_reference as ref
import numpy as np
import pytest
import torch

from paper_utils import audio, training
from paper_utils.audio_windows import QUICK_WINDOWS, ReleasedWindows
from paper_utils.data.talking_faces import FaceMesh, TalkingClip, TalkingFaces
from paper_utils.methods import meshtalk as mt
from paper_utils.nn import meshtalk_networks as nets
from paper_utils.nn.checkpoint_names import CheckpointNamesError

ATOL = 1e-4  # of network outputs, as suggested with the arrays


@pytest.fixture(scope="module")
def arrays():
    from conftest import ROOT

    def load(name):
        with np.load(ROOT / "tests" / "reference" / "meshtalk" / f"{name}.npz") as stored:
            return {key: stored[key] for key in stored}

    return load


@pytest.fixture(scope="module")
def waves():
    from conftest import ROOT

    with np.load(ROOT / "tests" / "reference" / "audio" / "meshtalk.npz") as stored:
        return torch.from_numpy(stored["log_mel"])


def scale(vertices):
    return ref.array((vertices, 3), 1020, -10, 10), ref.array((vertices, 3), 1021, 3, 6)


def close(found, expected, atol=ATOL, rtol=0.0):
    np.testing.assert_allclose(found.detach().numpy(), expected, atol=atol, rtol=rtol)


# ------------------------------------------------------------------------------------------------------ the networks


def test_hash_numbers_are_the_references(arrays):
    check = arrays("hash_check")
    for row, stream in enumerate(check["n"].tolist()):
        np.testing.assert_array_equal(ref.uniforms((4,), stream), check["u"][row])
        np.testing.assert_array_equal(ref.uniforms((4,), stream, 7), check["u_seed7"][row])


def test_audio_encoder_equals_the_released_one(arrays, waves):
    encoder = nets.AudioEncoder(nets.RELEASED).eval()
    ref.set_weights_(encoder.parameters())
    close(encoder(waves[None]), arrays("audio_encoder")["code"])


@pytest.mark.parametrize(("name", "vertices", "batch", "frames"), [("small", 20, 2, 7), ("full_V6172", 6172, 1, 4)])
def test_expression_encoder_equals_the_released_one(arrays, name, vertices, batch, frames):
    mean, std = scale(vertices)
    encoder = nets.ExpressionEncoder(dataclasses.replace(nets.RELEASED, vertices=vertices), mean, std)
    ref.set_weights_(encoder.parameters())
    meshes = mean + std * ref.array((batch, frames, vertices, 3), 1022, -2, 2)
    close(encoder(meshes), arrays(f"expression_{name}")["code"])


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("small", dataclasses.replace(nets.RELEASED, heads=4, classes=5, expression_code=6, audio_code=7)),
        ("full_H16", nets.RELEASED),
    ],
)
def test_fusion_equals_the_released_one(arrays, name, sizes):
    stored = arrays(f"fusion_{name}")
    fusion = nets.Fusion(sizes)
    ref.set_weights_(fusion.parameters())
    lead = stored["expression_code"].shape[:2]
    expression = ref.array((*lead, sizes.expression_code), 1010, -1, 1)
    sound = ref.array((*lead, sizes.audio_code), 1011, -1, 1)
    close(fusion.logits(expression, sound), stored["logits"])
    close(fusion(expression, sound), stored["logprobs"])


@pytest.mark.parametrize(
    ("name", "vertices", "heads", "classes", "batch", "frames"),
    [("small", 20, 4, 5, 2, 6), ("full_V6172_H16", 6172, 16, 128, 1, 3)],
)
def test_decoder_equals_the_released_one(arrays, name, vertices, heads, classes, batch, frames):
    stored, (mean, std) = arrays(f"unet_{name}"), scale(vertices)
    sizes = dataclasses.replace(nets.RELEASED, vertices=vertices, heads=heads, classes=classes)
    decoder = nets.VertexUnet(sizes, mean, std, seed=0)
    ref.set_weights_(decoder.parameters())
    template = mean + std * ref.array((vertices, 3), 1023, -1, 1)
    codes = ref.labels((batch, frames, heads), classes, 1024)
    np.testing.assert_array_equal(codes, stored["labels"])
    meshes = decoder(template.expand(batch, -1, -1), nets.one_hot(codes, classes))
    index = torch.from_numpy(stored["vertex_index"]) if "vertex_index" in stored else torch.arange(vertices)
    close(meshes[:, :, index], stored["geom"])


@pytest.mark.parametrize(
    ("heads", "encoder", "decoder", "context"),
    [(16, 6_139_904, 19_869_608, 17_713_152), (64, 7_718_912, 20_656_040, 272_179_200)],
)
def test_sizes_are_those_of_release_and_paper(heads, encoder, decoder, context):
    sizes = {16: nets.RELEASED, 64: nets.PAPER}[heads]
    mean, std = torch.zeros(6172, 3), torch.ones(6172, 3)
    with torch.device("meta"):
        counts = [
            sum(p.numel() for p in build.parameters())
            for build in (
                nets.Encoder(sizes, mean, std, seed=0),
                nets.VertexUnet(sizes, mean, std, seed=0),
                nets.ContextModel(sizes, seed=0),
            )
        ]
    assert counts == [encoder, decoder, context]


def test_first_weights_follow_from_the_seed_and_leave_the_global_generator_alone():
    sizes = nets.quick_sizes(30)
    before = torch.get_rng_state()
    one, same, other = (nets.ContextModel(sizes, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one.logits.masked_linear.weight, same.logits.masked_linear.weight)
    assert not torch.equal(one.logits.masked_linear.weight, other.logits.masked_linear.weight)


def test_dropout_acts_in_training_only_and_comes_from_the_generator(waves):
    with nets.seeded(0):
        encoder = nets.AudioEncoder(nets.RELEASED)
    draw = lambda seed: encoder(waves[None], torch.Generator().manual_seed(seed))  # noqa: E731
    assert torch.equal(draw(0), draw(0))
    assert not torch.equal(draw(0), draw(1))
    encoder.eval()
    assert torch.equal(draw(0), draw(1))


def test_decoding_in_pieces_is_decoding():
    mean, std = scale(20)
    sizes = dataclasses.replace(nets.quick_sizes(20), heads=3, classes=4)
    decoder = nets.VertexUnet(sizes, mean, std, seed=0)
    codes = nets.one_hot(ref.labels((2, 9, 3), 4, 5), 4)
    template = mean.expand(2, -1, -1)
    first, state = decoder.go_on(template, codes[:, :4], None)
    second, _ = decoder.go_on(template, codes[:, 4:], state)
    close(torch.cat([first, second], 1), decoder(template, codes).detach().numpy(), atol=1e-5)


# --------------------------------------------------------------------------------------------------------- the losses


def test_losses_equal_the_released_ones_and_swaps_turn_the_same_way(arrays):
    stored = {name: torch.from_numpy(np.asarray(value)) for name, value in arrays("losses").items()}
    masks = mt.Masks(stored["mouth_mask"], stored["eye_mask"], stored["landmark_mask"])
    decoded = {
        mt.OWN: stored["pred_own"],
        mt.EXPRESSION_SWAPPED: stored["pred_expression_swapped"],
        mt.AUDIO_SWAPPED: stored["pred_audio_swapped"],
    }
    losses = mt.joint_losses(decoded, stored["geom"], masks)
    close(losses["reconstruction"], stored["loss_recon"], rtol=1e-5)
    close(losses["eyelids"], stored["loss_landmarks"], rtol=1e-5)
    close(losses["mouth"], stored["loss_cross_mouth"], rtol=1e-5)
    close(losses["upper"], stored["loss_cross_eye"], rtol=1e-5)
    close(losses["mouth"] + losses["upper"], stored["loss_modality_crossing"], rtol=1e-5)
    first, second = stored["shifts"].tolist()
    assert torch.equal(mt.rotate(stored["expression_code"], first), stored["fused_expression"][1])
    assert torch.equal(mt.rotate(stored["audio_code"], second), stored["fused_audio"][2])
    assert torch.equal(stored["fused_audio"][1], stored["audio_code"])
    assert torch.equal(stored["fused_expression"][2], stored["expression_code"])


def test_objectives_have_the_terms_they_should(arrays):
    stored = {name: torch.from_numpy(np.asarray(value)) for name, value in arrays("losses").items()}
    masks = mt.Masks(stored["mouth_mask"], stored["eye_mask"], stored["landmark_mask"])
    meshes = dict.fromkeys(mt.DECODED["released"], stored["pred_own"])
    for objective, names in (
        ("reconstruction", {"reconstruction"}),
        ("paper", {"mouth", "upper", "eyelids"}),
        ("released", {"reconstruction", "mouth", "upper", "eyelids"}),
    ):
        given = {part: meshes[part] for part in mt.DECODED[objective]}
        assert set(mt.joint_losses(given, stored["geom"], masks, objective)) == names


def test_nobody_is_swapped_with_himself():
    generator = torch.Generator().manual_seed(0)
    drawn = {shift for _ in range(200) for shift in mt.draw_shifts(4, generator)}
    assert drawn == {1, 2, 3}
    with pytest.raises(ValueError, match=r"found 1; take at least 2"):
        mt.draw_shifts(1, generator)


def test_smoothing_equals_the_released_one(arrays):
    stored = {name: torch.from_numpy(np.asarray(value)) for name, value in arrays("smooth").items()}
    close(mt.smooth_over_time(stored["geom"]), stored["smoothed"], atol=1e-5)
    close(mt.smooth_over_time(stored["geom"], stored["mask"]), stored["blended"], atol=1e-5)
    still = stored["geom"][:1].expand(30, -1, -1)
    close(mt.smooth_over_time(still), still.numpy(), atol=1e-5)
    with pytest.raises(ValueError, match="found 0"):
        mt.smooth_over_time(still[:0])
    with pytest.raises(ValueError, match="one weight for each of 6 vertices"):
        mt.smooth_over_time(still, torch.ones(7))


# ------------------------------------------------------------------------------------------------------------ training

SMALL = dataclasses.replace(
    nets.RELEASED, vertices=20, heads=4, classes=5, audio_code=16, expression_code=16, audio_dropout=0.0
)


def voice(k):
    """The waves of the reference: a voice-like sum of harmonics, one second."""
    t = np.arange(16_000) / 16_000
    f0 = 110 * (1 + 0.15 * k) + 20 * np.sin(2 * np.pi * 2.3 * t)
    phase = 2 * np.pi * np.cumsum(f0) / 16_000
    tone = sum(0.05 / h * np.sin(h * phase + 0.3 * h) for h in range(1, 13))
    wave = tone * (0.55 + 0.45 * np.sin(2 * np.pi * (3.1 + 0.2 * k) * t))
    return torch.from_numpy((wave + 0.004 * (2 * ref.uniforms((16_000,), 1030 + k) - 1)).astype(np.float32))


def test_six_iterations_of_step_one_equal_the_released_ones(arrays):
    stored = arrays("train_step1")
    mean, std = torch.from_numpy(stored["mean"]), torch.from_numpy(stored["std"])
    model = mt.JointModel(nets.Encoder(SMALL, mean, std, seed=0), nets.VertexUnet(SMALL, mean, std, seed=0))
    ref.set_weights_(model.decoder.parameters(), seed=0)
    ref.set_weights_(model.encoder.parameters(), seed=1)
    log_mel = audio.log_mel(torch.stack([voice(k) for k in range(12)]), audio.MESHTALK_MEL).transpose(1, 2)
    batch = mt.Batch(
        torch.from_numpy(stored["template"]), torch.from_numpy(stored["geom"]), log_mel.unflatten(0, (3, 4))
    )
    masks = mt.Masks(*(torch.from_numpy(stored[f"{name}_mask"]) for name in ("mouth", "eye", "landmark")))
    schedule = dataclasses.replace(mt.RELEASED_STEP_ONE, steps=6)
    optimizer = mt.joint_optimizer(model, schedule)
    noise = ref.array((6, 3, 3, 4, 4, 5), 1095)
    history, norms = [], {}
    for step in range(6):
        shifts = tuple(stored["shifts"][2 * step : 2 * step + 2].tolist())
        decoded = model(batch, mt.DECODED["released"], shifts=shifts, uniforms=noise[step])
        losses = mt.joint_losses(decoded, batch.vertices, masks)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        if step == 0:
            norms = {name: float(p.grad.norm()) for name, p in model.named_parameters()}
        optimizer.step()
        cross = losses["mouth"] + losses["upper"]
        history.append([losses["reconstruction"].item(), losses["eyelids"].item(), cross.item()])
    np.testing.assert_allclose(history, stored["loss_history"], rtol=1e-3)
    for name, norm in zip(stored["grad_norm_names"].tolist(), stored["grad_norm_first_step"], strict=True):
        ours = name.replace("geom_unet.", "decoder.")
        np.testing.assert_allclose(norms[ours], norm, rtol=2e-3, err_msg=name)


def test_eight_iterations_of_step_two_equal_the_released_ones(arrays):
    stored = arrays("train_step2")
    sizes = dataclasses.replace(nets.RELEASED, heads=8, classes=6, audio_code=7)
    model = nets.ContextModel(sizes, seed=0)
    ref.set_weights_(ref.context_parameters(model))
    labels = torch.from_numpy(stored["labels"]).long()
    codes = torch.from_numpy(stored["audio_code"])
    optimizer = mt.context_optimizer(model, dataclasses.replace(mt.RELEASED_STEP_TWO, steps=8))
    history = []
    for step in range(8):
        loss = mt.nll(model(labels, codes), labels).mean()
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            norms = {name: -1.0 if p.grad is None else float(p.grad.norm()) for name, p in model.named_parameters()}
        optimizer.step()
        history.append(loss.item())
    np.testing.assert_allclose(history, stored["loss_history"], rtol=1e-3)
    for name, norm in zip(stored["grad_norm_names"].tolist(), stored["grad_norm_first_step"], strict=True):
        np.testing.assert_allclose(norms[name], norm, rtol=1e-3, err_msg=name)


def faces(clips=6, frames=40, vertices=20):
    """A mouth that follows the loudness of the sound, brows that follow a slow wave of their own."""
    generator = torch.Generator().manual_seed(0)
    t, base = torch.arange(frames) / 30, 30 * torch.randn(vertices, 3, generator=generator)
    made = []
    for clip in range(clips):
        loud = 0.5 + 0.5 * torch.sin(2 * np.pi * 2.0 * t + clip)
        brow = torch.sin(2 * np.pi * 0.7 * t + 2.3 * clip)
        sound = torch.randn(round(frames * 16_000 / 30), generator=generator)
        sound = 0.2 * sound * torch.nn.functional.interpolate(loud[None, None], len(sound), mode="linear")[0, 0]
        template = base + torch.randn(vertices, 3, generator=generator)
        meshes = template.repeat(frames, 1, 1)
        meshes[:, : vertices // 2, 1] -= 12 * loud[:, None]
        meshes[:, vertices // 2 :, 1] += 3 * brow[:, None]
        made.append(TalkingClip(template, meshes, 30.0, sound.clamp(-1, 1), 16_000, f"subject {clip}", "words"))
    ramp = torch.ones(vertices)
    ramp[vertices // 2 :] = 0.01
    masks = {"mouth": ramp, "upper_face": ramp.flip(0), "eyelids": ramp.flip(0)}
    mesh = FaceMesh("test", vertices, torch.zeros(0, 3, dtype=torch.long), masks=masks)
    return TalkingFaces.of_clips(made, mesh, "test faces")


STEP_ONE = mt.Schedule(120, batch=8, length=16, lr=3e-3, drop_at=0.8, mean_start=True)


@pytest.fixture(scope="module")
def trained():
    fabric, data, sizes = training.launch("cpu"), faces(), nets.quick_sizes(20)
    segments = mt.Segments(data, QUICK_WINDOWS, length=16, stride=8)
    model, history = mt.train_joint(fabric, segments, mt.Masks.of(data), sizes, STEP_ONE, seed=0)
    codes = mt.encode(model.encoder, segments)
    context, perplexity = mt.train_context(fabric, codes, sizes, dataclasses.replace(STEP_ONE, steps=60), seed=0)
    return data, segments, model, history, codes, context, perplexity


def test_training_lowers_the_losses(trained):
    _, _, _, history, codes, _, second = trained
    assert history["mouth"][-5:].mean() < 0.3 * history["mouth"][:5].mean()
    assert history["reconstruction"][-5:].mean() < 0.5 * history["reconstruction"][:5].mean()
    assert second["loss"][-5:].mean() < 0.7 * second["loss"][:3].mean()
    assert second["heads"].shape == (len(second["loss"]), codes.labels.shape[2])


def test_the_mouth_that_follows_the_loudness_is_learned_from_the_sound(trained):
    _, segments, model, *_ = trained
    by_audio, by_expression = mt.influence(model, segments.batch(torch.arange(8)), torch.Generator().manual_seed(0))
    assert by_audio[:10].mean() > 5 * by_audio[10:].mean()
    assert by_audio[:10].mean() > 5 * by_expression[:10].mean()


def test_a_seed_gives_the_same_networks_again():
    fabric, data, sizes = training.launch("cpu"), faces(3), nets.quick_sizes(20)
    segments = mt.Segments(data, QUICK_WINDOWS, length=16)
    schedule = mt.Schedule(3, batch=4, length=16, lr=1e-3, drop_at=1.0)
    runs = [mt.train_joint(fabric, segments, mt.Masks.of(data), sizes, schedule, seed=s)[1]["loss"] for s in (0, 0, 1)]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert (runs[0] != runs[2]).any()


def test_windows_kept_and_windows_made_on_demand_are_the_same():
    data = faces(3)
    for windows in (QUICK_WINDOWS, ReleasedWindows()):
        kept, made = (mt.Segments(data, windows, length=12, keep=keep) for keep in (True, False))
        index = torch.tensor([4, 0, 7])
        for one, other in zip(kept.batch(index), made.batch(index), strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


def test_cached_codes_are_what_the_encoder_says(trained):
    _, segments, model, _, codes, *_ = trained
    batch = segments.batch(torch.tensor([2, 5]))
    assert torch.equal(model.encoder(batch.vertices, batch.log_mel).argmax(-1), codes.labels[[2, 5]])
    torch.testing.assert_close(model.encoder.audio_encoder(batch.log_mel), codes.audio[[2, 5]], atol=1e-5, rtol=0)


def test_regressors_learn_to_move_the_mouth():
    fabric, data, sizes = training.launch("cpu"), faces(), nets.quick_sizes(20)
    segments = mt.Segments(data, QUICK_WINDOWS, length=16, stride=8)
    schedule = mt.Schedule(80, batch=8, length=16, lr=3e-3, drop_at=0.8)
    still = (segments.batch(torch.arange(8)).vertices - segments.batch(torch.arange(8)).template[:, None]).square()
    for kind in ("meshtalk", "voca"):
        model, _ = mt.train_regressor(fabric, segments, sizes, schedule, audio=kind, seed=0)
        batch = segments.batch(torch.arange(8))
        error = (model(batch.template, batch.log_mel) - batch.vertices).square()
        assert error[..., :10, :].mean() < 0.35 * still[..., :10, :].mean()


# -------------------------------------------------------------------------------------------------------------- speaking


@pytest.fixture(scope="module")
def talker(trained):
    _, _, model, _, _, context, _ = trained
    return mt.MeshTalk(model.encoder, model.decoder, context, QUICK_WINDOWS)


def test_a_stream_gives_the_meshes_of_the_whole_recording(trained, talker):
    data = trained[0]
    samples, template = data.stacked_audio()[:2], data.templates[:2]
    whole = mt.animate(talker, samples, template, sample_rate=16_000, generator=torch.Generator().manual_seed(3))
    speaker = mt.Speaker(talker, template, level=samples.abs().mean(1), generator=torch.Generator().manual_seed(3))
    parts = [speaker.feed(piece) for piece in samples.split(1234, 1)]
    assert sum(part.shape[1] for part in parts) > 30  # most frames come out while the sound goes on
    meshes = torch.cat([*parts, speaker.finish()], 1)
    torch.testing.assert_close(meshes, whole, atol=1e-4, rtol=0)
    assert whole.shape == (2, 40, 20, 3)


def test_chance_changes_the_codes_and_a_seed_repeats_them(trained, talker):
    data = trained[0]
    speak = lambda seed: mt.animate(  # noqa: E731
        talker, data.stacked_audio()[:1], data.templates[:1], sample_rate=16_000,
        generator=None if seed is None else torch.Generator().manual_seed(seed),
    )  # fmt: skip
    assert torch.equal(speak(0), speak(0))
    assert not torch.equal(speak(0), speak(1))
    assert torch.equal(speak(None), speak(None))


def test_louder_sound_is_the_same_sound(trained, talker):
    data = trained[0]
    samples, template = data.stacked_audio()[:1], data.templates[:1]
    one, other = (mt.animate(talker, gain * samples, template, sample_rate=16_000) for gain in (1.0, 0.1))
    torch.testing.assert_close(one, other, atol=1e-2, rtol=0)


def test_another_identity_makes_the_same_face(trained):
    _, segments, model, *_ = trained
    batch = segments.batch(torch.tensor([0, 4, 8, 12]))  # four subjects
    moved = mt.retarget(model, batch, batch.template)
    torch.testing.assert_close(moved, model(batch)[mt.OWN])
    other = mt.retarget(model, batch, mt.rotate(batch.template, 1))
    assert (other.mean(1) - mt.rotate(batch.template, 1)).abs().mean() < (other.mean(1) - batch.template).abs().mean()
    dubbed = mt.dub(model, batch, mt.rotate(batch.log_mel, 1))
    torch.testing.assert_close(dubbed, model(batch, (mt.AUDIO_SWAPPED,), shifts=(0, 1))[mt.AUDIO_SWAPPED])


# ------------------------------------------------------------------------------------------------------------------ faults


def test_bad_recordings_are_refused_or_noted(trained, talker):
    data = trained[0]
    template = data.templates[:1]
    speak = lambda samples, **kw: mt.animate(talker, samples, template, **({"sample_rate": 16_000} | kw))  # noqa: E731
    with pytest.raises(ValueError, match=r"100 at 16000 Hz are no video frame"):
        speak(0.1 * torch.ones(1, 100))
    with pytest.raises(ValueError, match="is it silence"):
        speak(torch.zeros(1, 16_000))
    with pytest.raises(ValueError, match="NaN"):
        speak(torch.full((1, 16_000), torch.nan))
    with pytest.raises(ValueError, match="one for each of 2"):
        speak(torch.ones(2, 16_000))
    with pytest.warns(UserWarning, match=r"shorter than one window"):
        assert speak(data.audio[None, :3000]).shape[1] == 5
    with pytest.warns(UserWarning, match="8000 Hz, the network hears 16000 Hz; resampled"):
        assert speak(data.audio[None, :8000], sample_rate=8000).shape[1] == 30


def test_meshes_and_masks_of_another_topology_are_refused(trained, talker):
    data, segments, model, *_ = trained
    with pytest.raises(ValueError, match="built for 20 vertices"):
        mt.animate(talker, data.audio[None, :16_000], torch.zeros(1, 21, 3), sample_rate=16_000)
    with pytest.raises(ValueError, match="built for 20 vertices"):
        model.encoder.expression_encoder(torch.zeros(1, 2, 21, 3))
    with pytest.raises(ValueError, match=r"each of 20 vertices"):
        mt.masked_error(torch.zeros(1, 2, 20, 3), torch.zeros(1, 2, 20, 3), torch.ones(19))
    with pytest.raises(ValueError, match="upper has 19 values, mouth has 20"):
        mt.Masks(torch.ones(20), torch.ones(19), torch.ones(20))
    with pytest.raises(ValueError, match="eyelids must be finite"):
        mt.Masks(torch.ones(20), torch.ones(20), torch.zeros(20))
    with pytest.raises(ValueError, match="expected 21 vertices as in the sizes"):
        mt.train_joint(
            training.launch("cpu"), segments, mt.Masks.of(data), nets.quick_sizes(21), mt.QUICK_STEP_ONE, seed=0
        )


def test_a_batch_of_one_cannot_be_swapped_but_can_be_reconstructed(trained):
    data, segments, *_ = trained
    schedule = mt.Schedule(2, batch=1, length=16, lr=1e-3, drop_at=1.0)
    train = lambda objective: mt.train_joint(  # noqa: E731
        training.launch("cpu"), segments, mt.Masks.of(data), nets.quick_sizes(20), schedule, objective=objective, seed=0
    )
    with pytest.raises(ValueError, match="take at least 2"):
        train("released")
    assert set(train("reconstruction")[1]) == {"loss", "reconstruction"}


def test_windows_and_rates_must_belong_to_the_data(trained):
    data, _, model, _, _, context, _ = trained
    with pytest.raises(ValueError, match="80 bands x 101 sub-frames, the audio encoder expects 16 x 20"):
        mt.MeshTalk(model.encoder, model.decoder, context, ReleasedWindows())
    with pytest.raises(ValueError, match="25"):
        mt.Segments(data, ReleasedWindows(fps=25), length=8)
    with pytest.raises(ValueError, match="no clip has 41 frames"):
        mt.Segments(data, QUICK_WINDOWS, length=41)
    with pytest.raises(ValueError, match=r"windows of 16 bands x 20 sub-frames"):
        model.encoder.audio_encoder(torch.zeros(1, 1, 16, 19))
    with pytest.raises(ValueError, match="at least 101, found 61"):
        nets.Sizes(subframes=61)


# ------------------------------------------------------------------------------------------------- the official checkpoints


@pytest.fixture
def official(tmp_path):
    """Tiny checkpoints with the names and buffers of the release."""
    sizes = dataclasses.replace(nets.RELEASED, vertices=20, heads=4, classes=5)
    mean, std = scale(20)
    encoder, decoder = nets.Encoder(sizes, mean, std, seed=1), nets.VertexUnet(sizes, mean, std, seed=2)
    context = nets.ContextModel(sizes, seed=3)
    states = {
        "encoder": encoder.state_dict(),
        "vertex_unet": decoder.state_dict(),
        "context_model": context.state_dict(),
    }
    states["encoder"]["audio_encoder.melspec.spectrogram.window"] = torch.hann_window(800)
    states["encoder"]["audio_encoder.melspec.mel_scale.fb"] = audio.MESHTALK_MEL.filters().float()
    for name, layer in context.named_modules():
        if isinstance(layer, nets.MaskedHeads):
            blocks = layer.allowed[:, None, :, None].expand(-1, layer.outputs, -1, layer.inputs)
            states["context_model"][f"{name}.mask"] = blocks.reshape(layer.masked_linear.weight.shape).float()
    for name, state in states.items():
        torch.save(state, tmp_path / f"{name}.pkl")
    return tmp_path, states, (encoder, decoder, context)


def test_official_checkpoints_load_and_speak(official):
    folder, _, originals = official
    loaded = mt.load_official(folder)
    for ours, theirs in zip((loaded.encoder, loaded.decoder, loaded.context), originals, strict=True):
        for (name, value), (_, expected) in zip(ours.state_dict().items(), theirs.state_dict().items(), strict=True):
            assert torch.equal(value, expected), name
    meshes = mt.animate(loaded, voice(0)[None], torch.zeros(1, 20, 3), sample_rate=16_000)
    assert meshes.shape == (1, 30, 20, 3)


def damage(official, file, change):
    folder, states, _ = official
    change(states[file])
    torch.save(states[file], folder / f"{file}.pkl")
    return folder


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("encoder", lambda s: s.pop("fusion_model.mlp.2.bias"), r"encoder.pkl.*1 missing: fusion_model.mlp.2.bias"),
        ("encoder", lambda s: s.update(extra=torch.zeros(1)), r"1 unexpected: extra"),
        (
            "encoder",
            lambda s: s["audio_encoder.melspec.mel_scale.fb"].mul_(2),
            r"mel_scale.fb.*trained on other features",
        ),
        ("encoder", lambda s: s.pop("audio_encoder.melspec.spectrogram.window"), r"spectrogram.window is missing"),
        ("vertex_unet", lambda s: s.update({"fusion.weight": torch.zeros(3, 3)}), r"1 of another shape: fusion.weight"),
        ("vertex_unet", lambda s: s["vertex_bias"].fill_(torch.nan), r"not finite: vertex_bias"),
        ("vertex_unet", lambda s: s.clear() or s.update(a=torch.zeros(1)), r"vertex_bias.*is missing.*vertex_unet.pkl"),
        ("context_model", lambda s: s["logits.mask"].fill_(1), r"logits.mask is not the strict mask"),
        ("context_model", lambda s: s.pop("context_layers.3.mask"), r"context_layers.3.mask or its weight is missing"),
        (
            "context_model",
            lambda s: s.update({"embedding.masked_linear.weight": torch.zeros(250, 20, 1)}),
            r"files of one release",
        ),
    ],
)
def test_damaged_official_checkpoints_are_refused_by_name(official, file, change, message):
    folder = damage(official, file, change)
    with pytest.raises(CheckpointNamesError, match=message):
        mt.load_official(folder)


def test_missing_and_cut_official_files_are_named(official):
    folder, _, _ = official
    path = folder / "vertex_unet.pkl"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointNamesError, match=r"vertex_unet.pkl: not a whole file"):
        mt.load_official(folder)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"vertex_unet.pkl"):
        mt.load_official(folder)
