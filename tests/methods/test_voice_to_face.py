"""Paper 03: networks, losses and schedule agree with the published program; training, monitors and files behave."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from paper_utils import training
from paper_utils.data.samples import LabelledImages
from paper_utils.data.voice_features import FrontEnd, NoSpeechError
from paper_utils.data.voxceleb import Spans, read_features
from paper_utils.methods import voice_to_face as v2f
from paper_utils.nn.voice_encoder import VoiceEncoder

TINY = v2f.Sizes(bands=6, dim=8, voice=(16, 16), generator=(8, 4), face=(4, 8))
SHORT = v2f.GanTraining(steps=6, batch=4, lr=1e-3, spans=Spans(20, 10))
seeds = st.integers(0, 2**31 - 1)


# ------------------------------------------------------------------------------------------ parity with the published program


@pytest.fixture(scope="module")
def described(request):
    return json.loads((request.config.rootpath / "tests/reference/voice_to_face/networks.json").read_text())


@pytest.fixture(scope="module")
def arrays(request):
    folder = request.config.rootpath / "tests/reference/voice_to_face"
    return {name: dict(np.load(folder / f"net_{name}.npz")) for name in ("full", "small")}


def hashed(count, tensor):
    """Numbers in [-1, 1) of the reference's README."""
    x = (np.arange(count, dtype=np.uint64) + np.uint64(2654435769 * tensor)) & np.uint64(0xFFFFFFFF)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x ^= x >> np.uint64(shift)
        x = (x * np.uint64(factor)) & np.uint64(0xFFFFFFFF)
    x ^= x >> np.uint64(16)
    return 2.0 * x.astype(np.float64) / 2**32 - 1


RULES = {
    "scale*u": lambda u, scale: scale * u,
    "0.1u": lambda u, _: 0.1 * u,
    "1+0.1u": lambda u, _: 1 + 0.1 * u,
    "1+0.5|u|": lambda u, _: 1 + 0.5 * np.abs(u),
}
PLACES = {"e": "", "g": "", "f": "face.", "d": "discriminator.", "c": "classifier."}


def built(part):
    """The described networks with the described weights, in float64."""
    config = part["config"]
    sizes = v2f.Sizes(
        dim=config["embedding"], voice=tuple(config["e_channels"]), generator=tuple(config["g_channels"]), face=tuple(config["f_channels"])
    )  # fmt: skip
    encoder = VoiceEncoder(sizes.bands, sizes.dim, channels=sizes.voice)
    networks = {"e": encoder, "g": v2f.Generator(sizes, seed=0), "c": v2f.Critics(sizes, config["classes"], seed=0)}
    states = {name: dict(network.state_dict()) for name, network in networks.items()}
    filled = {name: {key for key in state if key.endswith("num_batches_tracked")} for name, state in states.items()}
    for net, key, shape, tensor, rule, scale in part["tensors"]:
        owner = net if net in "eg" else "c"
        name = PLACES[net] + key.removeprefix("model." if net in "dc" else "")
        values = RULES[rule](hashed(math.prod(shape), tensor), scale).reshape(shape)
        assert states[owner][name].shape == tuple(shape), name
        states[owner][name] = torch.from_numpy(values)
        filled[owner].add(name)
    for name, network in networks.items():
        assert filled[name] == set(network.state_dict()), "every tensor of ours is described, and the other way round"
        network.double().load_state_dict(states[name])
    return networks["e"].eval(), networks["g"], networks["c"]


def voice_input(batch, frames, tensor):
    wave = np.sin(0.1 * (np.arange(batch)[:, None, None] + 1) * np.arange(64)[None, :, None])
    return torch.from_numpy(0.5 * hashed(batch * 64 * frames, tensor).reshape(batch, 64, frames) + wave)


def face_input(batch, tensor, side=64):
    b, c, r, q = np.ogrid[:batch, :3, :side, :side]
    noise = hashed(batch * 3 * side * side, tensor).reshape(batch, 3, side, side)
    return torch.from_numpy(0.5 * noise + 0.5 * np.sin(0.05 * (b + 1) * (r + 2 * q) + c))


def test_hash_of_the_reference_is_understood(described):
    check = described["hash_check"]
    np.testing.assert_allclose(hashed(8, 0), check["tensor_id_0_first8"], atol=1e-15)
    assert hashed(1_000_001, 7)[-1] == pytest.approx(check["tensor_id_7_index_1000000"], abs=1e-15)


@pytest.mark.parametrize(("name", "tolerance"), [("full", 1e-5), ("small", 1e-9)])
def test_forward_pass_equals_the_published_program(name, tolerance, described, arrays):
    part, expected = described[f"forward_{name}"], arrays[name]
    encoder, generator, critics = built(part)
    with torch.no_grad():
        e = encoder(voice_input(2, part["config"]["frames"], part["voice_input_tensor_id"]))
        unit = v2f.on_sphere(e)
        g = generator(unit)
        real = face_input(2, part["face_input_tensor_id"])
        found = {"e": e, "e_norm": unit, "f_real": critics.face(real), "f_fake": critics.face(g)}
        for kind, images in (("real", real), ("fake", g)):
            score, who = critics(images)
            found |= {f"d_{kind}": score[:, None], f"c_{kind}": who}
    for key, values in found.items():
        np.testing.assert_allclose(values, expected[key], rtol=0, atol=tolerance, err_msg=key)
    np.testing.assert_allclose(g[:, :, ::4, ::4], expected["g"], rtol=0, atol=max(tolerance, 1e-7))


def test_full_size_has_the_published_counts_and_layer_shapes(described):
    part = described["forward_full"]
    encoder, generator, critics = (
        VoiceEncoder(),
        v2f.Generator(v2f.Sizes(), seed=0),
        v2f.Critics(v2f.Sizes(), 924, seed=0),
    )
    found = {
        "e": encoder, "g": generator, "f": critics.face, "d": critics.discriminator, "c": critics.classifier,
    }  # fmt: skip
    assert {n: sum(p.numel() for p in m.parameters()) for n, m in found.items()} == part["param_count"]
    assert {n: sum(b.numel() for b in m.buffers()) for n, m in found.items()} == part["buffer_count"]
    inputs = {"e": torch.zeros(2, 64, 320), "g": torch.zeros(2, 64, 1, 1), "f": torch.zeros(2, 3, 64, 64)}
    for name, value in inputs.items():
        shapes = []
        for layer in found[name].eval().model:
            value = layer(value)
            if not isinstance(layer, nn.BatchNorm1d | nn.ReLU | nn.LeakyReLU):
                shapes.append(list(value.shape))
        assert shapes == part["layer_shapes"][name]


def test_training_trajectory_equals_the_published_program(described):
    part = described["train_small"]
    config, first = part["config"], part["first_batch_tensor_id"]
    encoder, generator, critics = built(part)
    optimizer = torch.optim.Adam(
        [*generator.parameters(), *critics.parameters()], lr=config["lr"], betas=tuple(config["betas"]), eps=config["adam_eps"]
    )  # fmt: skip
    items, batch, classes = torch.arange(config["batch"]), config["batch"], config["classes"]
    networks = {"g": generator, "f": critics.face, "d": critics.discriminator, "c": critics.classifier}
    for step, expected in enumerate(part["steps"]):
        noise = 0.05 * math.sqrt(3) * torch.from_numpy(hashed(batch * config["embedding"], first + 3 * step + 2))
        with torch.no_grad():
            unit = v2f.on_sphere(encoder(voice_input(batch, config["frames"], first + 3 * step)))
        fakes = generator(v2f.on_sphere(unit + noise.reshape(unit.shape)))
        speakers, people = (5 * items + 3 + step) % classes, (7 * items + 1 + 2 * step) % classes
        names = {"real": "D_real", "fake": "D_fake", "who": "C_real", "fooled": "G_D_fake", "speaker": "G_C_fake"}
        for photographs in ((face_input(batch, first + 3 * step + 1), people), ()):
            losses = v2f.turn_losses(critics, fakes, speakers, *photographs)
            for name, loss in losses.items():
                assert loss.item() == pytest.approx(expected[names[name]], rel=1e-9), name
            optimizer.zero_grad()
            sum(losses.values()).backward()
            optimizer.step()
        for name, network in networks.items():
            values = torch.cat([p.detach().flatten() for p in network.parameters()])
            assert float(values.sum()) == pytest.approx(expected["param_sum"][name], rel=1e-9)
            assert float(values.square().sum()) == pytest.approx(expected["param_sumsq"][name], rel=1e-9)


# ------------------------------------------------------------------------------------------------------------- the sphere


@given(seed=seeds, sd=st.floats(0, 1))
def test_blurred_voices_stay_on_the_sphere(seed, sd):
    unit = v2f.on_sphere(torch.randn(1000, 64, generator=torch.Generator().manual_seed(seed)))
    moved = v2f.blurred(unit, sd, torch.Generator().manual_seed(seed + 1))
    torch.testing.assert_close(moved.norm(dim=1), torch.ones(1000))
    cosine = float((unit * moved).sum(1).mean())
    assert cosine == pytest.approx(1 / math.sqrt(1 + 64 * sd**2), abs=0.04)


# --------------------------------------------------------------------------------------------------------------- losses


def test_players_that_know_nothing_are_at_the_chance_levels():
    zeros, who, labels = torch.zeros(5), torch.zeros(5, 7), torch.arange(5)
    losses = v2f.critic_losses(zeros, zeros, who, labels) | v2f.generator_losses(zeros, who, labels)
    levels = v2f.chance_levels(7)
    assert losses.keys() == levels.keys()
    for name, loss in losses.items():
        assert loss.item() == pytest.approx(levels[name], rel=1e-6)


@given(seed=seeds)
def test_logit_losses_are_binary_cross_entropies_of_the_sigmoid(seed):
    draw = torch.Generator().manual_seed(seed)
    real, fake = (4 * torch.randn(9, generator=draw, dtype=torch.float64) for _ in range(2))
    who, labels = torch.randn(9, 3, generator=draw, dtype=torch.float64), torch.arange(9) % 3
    bce = nn.functional.binary_cross_entropy
    ones = torch.ones(9, dtype=torch.float64)
    critics = v2f.critic_losses(real, fake, who, labels)
    torch.testing.assert_close(critics["real"], bce(real.sigmoid(), ones))
    torch.testing.assert_close(critics["fake"], bce(fake.sigmoid(), 0 * ones))
    torch.testing.assert_close(critics["who"], -who.log_softmax(1)[torch.arange(9), labels].mean())
    torch.testing.assert_close(v2f.generator_losses(fake, who, labels)["fooled"], bce(fake.sigmoid(), ones))


def test_losses_of_certain_critics_are_finite():
    certain = torch.tensor([-1e4, 1e4])
    losses = v2f.critic_losses(certain, certain, torch.tensor([[1e4, -1e4]] * 2), torch.tensor([0, 1]))
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_only_the_player_whose_turn_it_is_gets_a_gradient():
    generator, critics = v2f.Generator(TINY, seed=0), v2f.Critics(TINY, 3, seed=1)
    images, labels = torch.rand(4, 3, 8, 8), torch.arange(4) % 3
    fakes = generator(v2f.on_sphere(torch.randn(4, 8, generator=torch.Generator().manual_seed(0))))
    sum(v2f.turn_losses(critics, fakes, labels, images, labels).values()).backward()
    assert all(p.grad is not None for p in critics.parameters())
    assert all(p.grad is None for p in generator.parameters())
    critics.zero_grad()
    sum(v2f.turn_losses(critics, fakes, labels).values()).backward()
    assert all(p.grad is None for p in critics.parameters())
    assert all(p.grad.abs().sum() > 0 for p in generator.parameters())


def test_the_classifier_never_learns_from_generated_pictures():
    critics = v2f.Critics(TINY, 3, seed=1)
    images, labels = torch.rand(4, 3, 8, 8), torch.arange(4) % 3
    gradients = []
    for fakes in (torch.zeros(4, 3, 8, 8), torch.rand(4, 3, 8, 8)):
        critics.zero_grad()
        sum(v2f.turn_losses(critics, fakes, labels, images, labels).values()).backward()
        gradients.append(critics.classifier.weight.grad.clone())
    torch.testing.assert_close(gradients[0], gradients[1])


# -------------------------------------------------------------------------------------------------------------- batches


@given(seed=seeds, window=st.integers(1, 40), data=st.data())
def test_crops_are_those_of_stored_recordings(seed, window, data, tmp_path_factory):
    """Recordings in memory and recordings read from files give the same stretches for the same chance."""
    spans = Spans(window, data.draw(st.integers(1, window)))
    lengths, rng = (44, 40, 60), np.random.default_rng(seed)
    frames = [rng.standard_normal((length, 64)).astype(np.float32) for length in lengths]
    root = tmp_path_factory.mktemp("fbank")
    for number, values in enumerate(frames):
        path = root / f"id1000{number}" / "a" / "00001.npy"
        path.parent.mkdir(parents=True)
        np.save(path, values)
    stored = read_features(root)
    speech = v2f.Speech(
        torch.from_numpy(np.concatenate(frames)), torch.tensor([0, *np.cumsum(lengths)]), torch.arange(3)
    )
    rows = torch.tensor([2, 0, 1, 1])
    ours, theirs = (
        source.crops(rows, generator=torch.Generator().manual_seed(seed), spans=spans) for source in (speech, stored)
    )
    assert torch.equal(ours, theirs)
    assert spans.shortest <= ours.shape[1] <= window


@given(seed=seeds, length=st.integers(1, 9))
def test_recordings_in_memory_are_repeated_up_to_the_window(seed, length):
    speech = v2f.Speech.of(torch.arange(float(length)).view(1, length, 1).repeat(2, 1, 1), torch.arange(2))
    crops = speech.crops(torch.arange(2), generator=torch.Generator().manual_seed(seed), spans=Spans(10, 10))
    assert crops.shape[1] == 10
    assert (crops[:, 1:] == (crops[:, :-1] + 1) % length).all()


def test_published_crops_are_three_to_eight_seconds_of_100_frames():
    speech = v2f.Speech.of(torch.arange(1000.0).view(1, 1000, 1).repeat(4, 1, 1), torch.arange(4))
    lengths = []
    for seed in range(200):
        crops = speech.crops(torch.arange(4), generator=torch.Generator().manual_seed(seed))
        assert (crops.diff(dim=1) == 1).all(), "consecutive frames"
        lengths.append(crops.shape[1])
    assert min(lengths) in range(300, 320)
    assert max(lengths) in range(780, 801)


@pytest.mark.parametrize(
    ("starts", "identities", "message"),
    [((0, 5), (0, 1), "one speaker each"), ((0, 5, 9), (0, 1), "10 frames"), ((0, 10, 10), (0, 1), "must rise"), ((0,), (), "at least one")],
)  # fmt: skip
def test_speech_that_does_not_fit_is_refused(starts, identities, message):
    with pytest.raises(ValueError, match=message):
        v2f.Speech(torch.zeros(10, 3), torch.tensor(starts), torch.tensor(identities, dtype=torch.long))


def test_half_of_the_pictures_are_mirrored():
    images = torch.arange(2.0).expand(400, 3, 4, 2)
    flipped = v2f.random_flips(images, torch.Generator().manual_seed(0))
    mirrored = (flipped == images.flip(3)).flatten(1).all(1)
    assert torch.equal(flipped[~mirrored], images[~mirrored])
    assert 150 < int(mirrored.sum()) < 250


# ------------------------------------------------------------------------------------------------------------- training


@pytest.fixture(scope="module")
def fabric():
    return training.launch("cpu")


@pytest.fixture(scope="module")
def material():
    """Four people whose voices and faces are easy to tell apart."""
    draw = torch.Generator().manual_seed(0)
    who = torch.arange(24) % 4
    voices = 2 * torch.randn(4, 1, 6, generator=draw)[who] + 0.3 * torch.randn(24, 20, 6, generator=draw)
    faces = torch.rand(4, 3, 1, 1, generator=draw)[who] * 1.6 - 0.8 + 0.05 * torch.randn(24, 3, 8, 8, generator=draw)
    return v2f.Speech.of(voices, who), LabelledImages(faces, who, "squares")


def trained(fabric, material, config=SHORT, **options):
    speech, faces = material
    encoder = VoiceEncoder(TINY.bands, TINY.dim, channels=TINY.voice, seed=5).eval().requires_grad_(False)
    return v2f.train_gan(fabric, encoder, speech, faces.images, faces.identities, TINY, config, seed=3, **options)


def states_equal(one, two):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def test_stage_one_learns_to_tell_speakers_apart_and_freezes(fabric, material):
    config = v2f.VoiceTraining(steps=150, batch=12, lr=1e-2, spans=Spans(20, 10))
    encoder, loss = v2f.train_voice(fabric, material[0], TINY, config, seed=0)
    assert loss[:5].mean() > 1.0
    assert loss[-5:].mean() < 0.2
    assert not encoder.training
    assert not any(p.requires_grad for p in encoder.parameters())


@pytest.mark.parametrize(("identity", "right"), [(1.0, True), (0.0, False)])
def test_only_the_identity_term_ties_a_voice_to_a_face(fabric, material, identity, right):
    speech, faces = material
    voice = v2f.VoiceTraining(steps=150, batch=12, lr=1e-2, spans=Spans(20, 10))
    sizes = dataclasses.replace(TINY, generator=(16, 16), face=(16, 16))
    encoder, _ = v2f.train_voice(fabric, speech, sizes, voice, seed=0)
    config = dataclasses.replace(
        SHORT, steps=300, batch=12, lr=2e-3, first_weights="relu", average=0.9, identity=identity
    )
    generator, critics, losses = v2f.train_gan(
        fabric, encoder, speech, faces.images, faces.identities, sizes, config, seed=0
    )
    model = v2f.Reconstructor(encoder, generator, sizes, FrontEnd())
    _, who = critics(model(speech.log_mel.view(24, 20, 6).transpose(1, 2)))
    agreement = float((who.argmax(1) == speech.identities).float().mean())
    assert (agreement > 0.9) == right
    assert (losses["speaker"][-20:].mean() < v2f.chance_levels(4)["speaker"] / 2) == right


def test_losses_of_every_iteration_and_watched_pictures_are_kept(fabric, material):
    watched = v2f.on_sphere(torch.randn(2, 8, generator=torch.Generator().manual_seed(1)))
    _, _, losses = trained(fabric, material, watched=watched, watch_at=(0, 4))
    assert {name: values.shape for name, values in losses.items()} == {
        **dict.fromkeys(("real", "fake", "who", "fooled", "speaker", "spread"), (6,)),
        "watched": (2, 2, 3, 8, 8),
    }
    assert (losses["watched"][0] != losses["watched"][1]).any()


@pytest.mark.parametrize("turns", [5, 8])
def test_interrupted_game_ends_bit_for_bit_like_an_uninterrupted_one(fabric, material, turns, tmp_path, monkeypatch):
    """Stopped between iterations (after 8 turns) and in the middle of one (after 5: only the critics have moved)."""
    config = dataclasses.replace(SHORT, average=0.5)
    whole = trained(fabric, material, config)
    update, count = training.Run.update, itertools.count(1)

    def interrupted(run, *args, **kwargs):
        update(run, *args, **kwargs)
        if next(count) == turns:
            run.save()
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training.Run, "update", interrupted)
        with pytest.raises(KeyboardInterrupt):
            trained(fabric, material, config, checkpoint=tmp_path / "run.pt")
    resumed = trained(fabric, material, config, checkpoint=tmp_path / "run.pt")
    assert states_equal(whole[1], resumed[1])
    for name, values in whole[2].items():
        assert np.array_equal(values, resumed[2][name]), name


def test_the_average_of_the_generator_is_the_running_mean_of_its_weights(fabric, material):
    last, one_step = (trained(fabric, material, dataclasses.replace(SHORT, steps=n))[0].state_dict() for n in (2, 1))
    first = v2f.Generator(TINY, seed=3).state_dict()
    averaged = trained(fabric, material, dataclasses.replace(SHORT, steps=2, average=0.75))[0].state_dict()
    for name, value in averaged.items():
        expected = 0.75 * (0.75 * first[name] + 0.25 * one_step[name]) + 0.25 * last[name]
        torch.testing.assert_close(value, expected, msg=name)


def test_identity_weight_and_seed_change_the_run_and_nothing_else_is_random(fabric, material):
    base = trained(fabric, material)[0]
    assert states_equal(base, trained(fabric, material)[0])
    assert not states_equal(base, trained(fabric, material, dataclasses.replace(SHORT, identity=0.0))[0])


def test_labels_and_batches_that_do_not_fit_are_refused(fabric, material):
    speech, faces = material
    short = LabelledImages(faces.images[:3], torch.arange(3), "three")
    with pytest.raises(ValueError, match="in the numbering of the voices"):
        trained(fabric, (speech, short))
    with pytest.raises(ValueError, match="as many voices and photographs, found 24 and 24"):
        trained(fabric, material, dataclasses.replace(SHORT, batch=25))


@pytest.mark.parametrize(
    "changes", [{"first_weights": "he"}, {"steps": 0}, {"noise": -0.1}, {"average": 1.0}, {"identity": -1.0}]
)
def test_settings_that_cannot_be_are_refused(changes):
    with pytest.raises(ValueError, match="expected"):
        dataclasses.replace(SHORT, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"generator": (8,)}, "equally many"),
        ({"voice": ()}, "must be positive"),
        ({"face": (4, 0)}, "must be positive"),
    ],
)
def test_sizes_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **changes)


def test_one_person_is_no_classification():
    with pytest.raises(ValueError, match="at least 2 people, found 1"):
        v2f.Critics(TINY, 1, seed=0)


def test_pictures_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"expected \(batch, 3, 8, 8\), found \(1, 3, 9, 9\)"):
        v2f.FaceEncoder(TINY, seed=0)(torch.zeros(1, 3, 9, 9))


def test_rectified_weights_keep_the_size_of_a_signal_and_the_default_ones_do_not():
    sizes = v2f.Sizes(generator=(64, 64, 64, 64), face=(64, 64, 64, 64))
    unit = v2f.on_sphere(torch.randn(64, 64, generator=torch.Generator().manual_seed(0)))
    ratios = {}
    for name in ("default", "relu"):
        generator = v2f.Generator(sizes, seed=0)
        if name == "relu":
            v2f.rectified_weights_(generator, torch.Generator().manual_seed(0))
        with torch.no_grad():
            early = generator.model[:2](unit[:, :, None, None])
            late = generator.model[:-1](unit[:, :, None, None])
        # What differs between voices, away from the border, where pixels are reached by fewer taps.
        ratios[name] = float(late[:, :, 4:-4, 4:-4].std(0).mean() / early.std(0).mean())
    assert 0.5 < ratios["relu"] < 2
    assert ratios["default"] < 0.2 * ratios["relu"]


# ------------------------------------------------------------------------------------------------------------- monitors


@given(seed=seeds)
def test_diversity_is_the_difference_between_two_pictures(seed):
    images = torch.randn(5, 3, 2, 2, generator=torch.Generator().manual_seed(seed))
    pairs = [(a - b).square().mean().item() for a, b in itertools.permutations(images, 2)]
    assert v2f.diversity(images) == pytest.approx(math.sqrt(np.mean(pairs)), rel=1e-5)
    assert v2f.diversity(images[:1].repeat(4, 1, 1, 1)) == 0.0


def test_diversity_of_one_picture_is_refused():
    with pytest.raises(ValueError, match="at least two pictures, found 1"):
        v2f.diversity(torch.zeros(1, 3, 2, 2))


def test_pictures_are_shown_as_they_are_or_stretched_one_by_one():
    images = torch.tensor([-3.0, 0.0, 0.5]).view(1, 3, 1, 1).repeat(2, 1, 1, 1)
    images[1] *= 0.1
    plain = v2f.displayed(images).flatten(1)
    torch.testing.assert_close(plain, torch.tensor([[0.0, 0.5, 0.75], [0.35, 0.5, 0.525]]))
    full = v2f.displayed(images, stretch=True).flatten(1)
    torch.testing.assert_close(full.amin(1), torch.zeros(2))
    torch.testing.assert_close(full.amax(1), torch.ones(2))
    assert (v2f.displayed(torch.full((1, 3, 2, 2), 0.3), stretch=True) == 0).all()


# ------------------------------------------------------------------------------------------- from a recording to a picture


@pytest.fixture
def model():
    sizes = v2f.Sizes(voice=(4, 4, 4, 4), generator=(8, 4), face=(4, 8))
    encoder = VoiceEncoder(sizes.bands, sizes.dim, channels=sizes.voice, seed=1)
    return v2f.Reconstructor(encoder, v2f.Generator(sizes, seed=2), sizes, FrontEnd("world", minimum=100))


def tone_bursts(seconds=2.0):
    time = torch.arange(round(16_000 * seconds)) / 16_000
    voice = sum(torch.sin(2 * math.pi * 120 * k * time) / k for k in range(1, 20))
    noise = 1e-3 * torch.randn(len(time), generator=torch.Generator().manual_seed(0))
    return 0.1 * voice * (torch.sin(2 * math.pi * 1.5 * time) > 0) + noise


def test_recording_becomes_one_face_whatever_its_level(model):
    face = model.face_of(tone_bursts())
    assert face.shape == (1, 3, 8, 8)
    assert torch.isfinite(face).all()
    torch.testing.assert_close(model.face_of(0.1 * tone_bursts()), face, atol=1e-3, rtol=0)


def test_longer_recordings_are_heard_whole_and_short_ones_repeated(model):
    frames = torch.randn(1, 64, 50, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(model(frames), model(frames[:, :, :32]))
    assert model.front_end.features(tone_bursts(0.8)).shape[0] == 100


@pytest.mark.parametrize(
    ("samples", "rate", "error", "message"),
    [
        (torch.zeros(0), 16_000, ValueError, "at least one sample"),
        (torch.zeros(32_000), 16_000, NoSpeechError, "no speech, found 0.00 s"),
        (tone_bursts(0.1), 16_000, NoSpeechError, "at least 0.3 s"),
        (torch.full((8000,), math.nan), 16_000, ValueError, "NaN"),
        (tone_bursts(), 8000, ValueError, "expected 16000 Hz, found 8000"),
    ],
    ids=["empty", "silent", "a tenth of a second", "NaN", "another rate"],
)
def test_recordings_that_cannot_be_used_are_named(model, samples, rate, error, message):
    with pytest.raises(error, match=message):
        model.face_of(samples, sample_rate=rate)


# ----------------------------------------------------------------------------------------------------------------- files


def test_networks_survive_writing_and_reading(model, tmp_path):
    v2f.save(model, tmp_path / "model.safetensors")
    read = v2f.load(tmp_path / "model.safetensors")
    assert states_equal(model, read)
    assert (read.sizes, read.front_end) == (model.sizes, model.front_end)
    assert torch.equal(read.face_of(tone_bursts()), model.face_of(tone_bursts()))


def test_damaged_missing_and_foreign_files_are_named(model, tmp_path):
    path = tmp_path / "model.safetensors"
    with pytest.raises(FileNotFoundError, match="no such file; train networks first"):
        v2f.load(path)
    v2f.save(model, path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(v2f.ModelFileError, match="truncated or no safetensors"):
        v2f.load(path)
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(v2f.ModelFileError, match="expected a file of format"):
        v2f.load(path)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_official_checkpoints_load_with_the_widths_of_their_shapes(model, prefix, tmp_path):
    voice, generator = tmp_path / "voice_embedding.pth", tmp_path / "generator.pth"
    for network, path in ((model.voice, voice), (model.generator, generator)):
        torch.save({prefix + name: value for name, value in network.state_dict().items()}, path)
    read = v2f.load_official(voice, generator)
    assert (read.sizes.voice, read.sizes.generator, read.sizes.image) == ((4, 4, 4, 4), (8, 4), 8)
    assert read.front_end == FrontEnd("sphinx", minimum=1000, activity="webrtc")
    frames = torch.randn(1, 64, 90, generator=torch.Generator().manual_seed(0))
    assert torch.equal(read(frames), model(frames))


def test_official_checkpoints_of_the_published_size_have_the_published_widths(tmp_path):
    paths = tmp_path / "voice_embedding.pth", tmp_path / "generator.pth"
    for network, path in zip((VoiceEncoder(), v2f.Generator(v2f.Sizes(), seed=0)), paths, strict=True):
        torch.save(network.state_dict(), path)
    assert v2f.load_official(*paths).sizes == v2f.Sizes()


def test_other_checkpoints_are_refused(model, tmp_path):
    voice, generator = tmp_path / "voice.pth", tmp_path / "generator.pth"
    torch.save(model.generator.state_dict(), generator)
    with pytest.raises(FileNotFoundError, match=r"voice\.pth: no such file"):
        v2f.load_official(voice, generator)
    voice.write_bytes(b"nothing")
    with pytest.raises(v2f.ModelFileError, match="no readable checkpoint"):
        v2f.load_official(voice, generator)
    torch.save([torch.zeros(1)], voice)
    with pytest.raises(v2f.ModelFileError, match="expected a state dictionary, found list"):
        v2f.load_official(voice, generator)
    torch.save({"conv.weight": torch.zeros(1)}, voice)
    with pytest.raises(v2f.ModelFileError, match=r"'model\.0\.weight' is missing"):
        v2f.load_official(voice, generator)
    state = model.voice.state_dict()
    torch.save({**state, "more": torch.zeros(1)}, voice)
    with pytest.raises(v2f.ModelFileError, match=r"do not fit .*: voice\.more"):
        v2f.load_official(voice, generator)
