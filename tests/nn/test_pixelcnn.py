"""Grid network: equal to the released code, and every code depends on exactly what it may depend on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from naive_pixelcnn import CASES, official
from torch.nn import functional

from paper_utils.nn.pixelcnn import GatedLayer, PixelCnn, PixelCnnConfig, row_dropout

TINY = {"codes": 6, "width": 4, "layers": 3, "head": 5, "audio": 3}


@pytest.fixture
def recorded(reference):
    return {name: dict(np.load(reference / "talkshow" / f"pixelcnn_{name}.npz")) for name in CASES}


# ------------------------------------------------------------------------------------------ parity with the released code


@pytest.mark.parametrize("name", CASES)
def test_logits_surprise_and_gradients_equal_the_released_code(name, recorded):
    arrays = recorded[name]
    network, codes, speakers, sound = official(arrays)
    logits = network(codes, speakers, sound)
    np.testing.assert_allclose(logits.detach().permute(0, 3, 1, 2), arrays["logits"], rtol=1e-4, atol=2e-5)
    surprise = functional.cross_entropy(logits.permute(0, 3, 1, 2), codes, reduction="none")
    np.testing.assert_allclose(surprise.detach(), arrays["nll"], rtol=1e-4, atol=2e-5)
    surprise.mean().backward()
    norms = {key: float(parameter.grad.norm()) for key, parameter in network.named_parameters()}
    assert set(norms) == set(arrays["grad_names"].tolist())
    for key, value in zip(arrays["grad_names"], arrays["grad_norms"], strict=True):
        assert norms[str(key)] == pytest.approx(value, rel=1e-4, abs=1e-6), key
    total = torch.nn.utils.get_total_norm([parameter.grad for parameter in network.parameters()])
    assert float(total) == pytest.approx(float(arrays["grad_total_norm"]), rel=1e-4)


def test_masked_taps_have_no_gradient_unless_the_released_code_is_asked_for():
    found = {}
    for kind in ("zero", "official"):
        network = PixelCnn(PixelCnnConfig(**TINY, masked_gradient=kind), seed=0)
        network(
            torch.zeros(1, 5, 2, dtype=torch.long), torch.tensor([0]), torch.ones(1, 5, 3)
        ).square().sum().backward()
        first = network.layers[0]
        found[kind] = first.vert_stack.weight.grad[:, :, -1].norm(), first.horiz_stack.weight.grad[..., -1].norm()
    assert found["zero"] == (0, 0)
    assert min(found["official"]) > 0


def test_weights_at_masked_taps_do_not_matter():
    network = PixelCnn(PixelCnnConfig(**TINY), seed=0)
    inputs = torch.randint(6, (2, 7, 2)), torch.tensor([1, 3]), torch.randn(2, 7, 3)
    before = network(*inputs)
    with torch.no_grad():
        network.layers[0].vert_stack.weight[:, :, -1] += 5
        network.layers[0].horiz_stack.weight[..., -1] -= 5
    assert torch.equal(network(*inputs), before)


def test_matrix_products_equal_padded_convolutions():
    layer = GatedLayer(PixelCnnConfig(width=4, first_kernel=7), first=False)
    x = torch.randn(2, 6, 2, 4)
    grid = x.permute(0, 3, 1, 2)
    up = functional.conv2d(grid, layer.vert_stack.weight, layer.vert_stack.bias, padding=(1, 1))[:, :, :6]
    left = functional.conv2d(grid, layer.horiz_stack.weight, layer.horiz_stack.bias, padding=(0, 1))[..., :2]
    torch.testing.assert_close(layer._look_up(x), up.permute(0, 2, 3, 1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(layer._look_left(x), left.permute(0, 2, 3, 1), rtol=1e-4, atol=1e-5)


# -------------------------------------------------------------------------------------------- what depends on what


def dependencies(network: PixelCnn, rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """[t, p, t2, p2]: does the logit at (t, p) have a gradient with respect to the code at (t2, p2)? And [t, p, t2] for rows of sound."""
    network = network.double()
    config, generator = network.config, torch.Generator().manual_seed(seed)
    seen = torch.randn(1, rows, 2, config.width, generator=generator, dtype=torch.float64).requires_grad_()
    sound = torch.randn(1, rows, config.audio, generator=generator, dtype=torch.float64).requires_grad_()
    network.embedding.register_forward_hook(lambda *_: seen)
    logits = network(torch.zeros(1, rows, 2, dtype=torch.long), torch.tensor([1]), sound if config.audio else None)
    codes, audio = np.zeros((rows, 2, rows, 2), bool), np.zeros((rows, 2, rows), bool)
    for t in range(rows):
        for part in range(2):
            asked = [seen, sound] if config.audio else [seen]
            gradients = torch.autograd.grad(
                logits[0, t, part].square().sum(), asked, retain_graph=True, allow_unused=True
            )
            codes[t, part] = 0 if gradients[0] is None else (gradients[0][0] != 0).any(-1)
            if config.audio:
                audio[t, part] = (gradients[1][0] != 0).any(-1)
    return codes, audio


@pytest.mark.parametrize("variant", ["cross", "independent"])
def test_fifteen_layers_depend_on_the_recorded_codes_and_rows_of_sound(variant, reference):
    recorded = np.load(reference / "talkshow" / f"dependency_{variant}_15layers.npz")
    layers, rows = recorded["meta"].tolist()
    network = PixelCnn(PixelCnnConfig(codes=3, width=4, layers=layers, head=64, audio=4, variant=variant), seed=0)
    codes, audio = dependencies(network, rows)
    np.testing.assert_array_equal(codes, recorded["dep"])
    if "dep_audio" in recorded:
        np.testing.assert_array_equal(audio, recorded["dep_audio"])


@given(st.integers(2, 5), st.sampled_from([3, 5, 7]), st.sampled_from(["cross", "independent"]))
def test_window_is_what_the_kernels_say(layers, first_kernel, variant):
    config = PixelCnnConfig(
        codes=3, width=3, layers=layers, head=64, audio=3, first_kernel=first_kernel, variant=variant
    )
    codes, audio = dependencies(PixelCnn(config, seed=1), rows := config.window + 2)
    t, part, t2, part2 = np.ogrid[:rows, :2, :rows, :2]
    past = (t - config.window <= t2) & (t2 < t)
    own_row = (t2 == t) & (part == 1) & (part2 == 0)
    expected = (past | own_row) if variant == "cross" else past & (part == part2)
    np.testing.assert_array_equal(codes, np.broadcast_to(expected, codes.shape))
    heard = (t[..., 0] - config.audio_window <= t2[..., 0]) & (t2[..., 0] <= t[..., 0])
    np.testing.assert_array_equal(audio, np.broadcast_to(heard, audio.shape))


@pytest.mark.parametrize("tap", ["vertical", "horizontal"])
def test_a_leaky_mask_is_caught_by_the_dependencies(tap, monkeypatch):
    whole = GatedLayer._masked

    def leaky(self, weight, dim):
        return weight if (dim == 2) == (tap == "vertical") else whole(self, weight, dim)

    monkeypatch.setattr(GatedLayer, "_masked", leaky)
    codes, _ = dependencies(PixelCnn(PixelCnnConfig(**TINY), seed=0), 6)
    assert codes[3, 0, 3, 0]
    assert codes[3, 1, 3, 1], "a code that sees itself needs no prediction"


def test_without_a_part_vector_the_independent_columns_cannot_be_told_apart():
    same_past = torch.randint(6, (3, 8, 1)).repeat(1, 1, 2)
    for part_vector in (False, True):
        network = PixelCnn(PixelCnnConfig(**TINY, variant="independent", part_vector=part_vector), seed=0)
        body, hands = network(same_past, torch.tensor([0, 1, 2]), torch.randn(3, 8, 3)).unbind(2)
        assert torch.allclose(body, hands, atol=1e-6) == (not part_vector)


# ------------------------------------------------------------------------------------------------- pieces and faults


def test_dropped_rows_are_dropped_for_the_whole_batch_and_the_mean_is_kept():
    keep = row_dropout(20_000, 0.1, torch.Generator().manual_seed(0))
    assert keep.unique().tolist() == pytest.approx([0, 1 / 0.9])
    assert float(keep.mean()) == pytest.approx(1, abs=5 * np.sqrt(0.1 / 0.9 / 20_000))
    network = PixelCnn(PixelCnnConfig(**TINY), seed=0)
    codes, speakers, sound = torch.randint(6, (2, 4, 2)), torch.tensor([0, 1]), torch.randn(2, 4, 3)
    dropped = network(codes, speakers, sound, keep=torch.tensor([1.0, 0.0, 1.0, 1.0]))
    other = sound.clone()
    other[:, 1] = 7.0
    torch.testing.assert_close(network(codes, speakers, other, keep=torch.tensor([1.0, 0.0, 1.0, 1.0])), dropped)


def test_weights_are_a_function_of_the_seed_and_leave_the_global_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    one, same, other = (PixelCnn(PixelCnnConfig(**TINY), seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.rand(2), expected)
    assert torch.equal(one.fusion_h.weight, same.fusion_h.weight)
    assert not torch.equal(one.fusion_h.weight, other.fusion_h.weight)
    assert not one.output_conv[0].bias.any()


def test_faults_are_named():
    network = PixelCnn(PixelCnnConfig(**TINY), seed=0)
    codes = torch.zeros(2, 4, 2, dtype=torch.long)
    with pytest.raises(ValueError, match=r"speakers: expected 0 to 3, found \[0, 4\]"):
        network(codes, torch.tensor([0, 4]), torch.zeros(2, 4, 3))
    with pytest.raises(ValueError, match="expected 3 channels a row, found no sound"):
        network(codes, torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="second layer"):
        PixelCnnConfig(layers=1)
    with pytest.raises(ValueError, match="part vector"):
        PixelCnnConfig(audio=0, part_vector=True)
    with pytest.raises(ValueError, match="variant: expected one of cross, independent, found 'both'"):
        PixelCnnConfig(variant="both")
    with pytest.raises(ValueError, match="probability"):
        row_dropout(3, 1.0, torch.Generator())
