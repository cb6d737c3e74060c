"""SFNet and IResNet against the official networks' names, sizes and outputs; their initial weights; what they must not depend on."""

from __future__ import annotations

import json
import math
import re
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from paper_utils.nn import backbones

OFFICIAL = {
    "sfnet20_deprecated (v0)": ("sfnet20", "v0"),
    "sfnet64_deprecated (v0)": ("sfnet64", "v0"),
    "sfnet20_deprecated (iclr21)": ("sfnet20", "iclr"),
    "sfnet20 no BN (v0)": ("sfnet20v2", "v0"),
    "sfnet64 BN (v0)": ("sfnet64bn", "v0"),
    "sfnet20 BN (main)": ("sfnet20bn", "main"),
    "iresnet18 (v0)": ("iresnet18", "v0"),
    "iresnet50 (v0)": ("iresnet50", "v0"),
    "iresnet100 (v0)": ("iresnet100", "v0"),
    "iresnet100 (main)": ("iresnet100", "main"),
}
REFERENCE_NETS = {
    "sfnet20_nobn_ch4": ("sfnet20", {"channels": (4, 8, 16, 32)}),
    "sfnet20_bn_ch4": ("sfnet20bn", {"channels": (4, 8, 16, 32)}),
    "iresnet18": ("iresnet18", {}),
}
TINY = {"channels": (2, 3, 4, 5), "features": 6, "image_size": (32, 48)}
ALL = [(name, branch) for name in backbones.names() for branch in backbones.branches(name)]
KINDS = ["sfnet20", "sfnet20v2", "sfnet20bn", "iresnet18"]


def fill_by_rule(network: nn.Module, seed: int) -> None:
    """The weights that the stored outputs were computed with; the folder's README states the rule."""
    state = {}
    for name, value in network.state_dict().items():
        rng, shape = np.random.default_rng(zlib.crc32(name.encode()) + seed), tuple(value.shape)
        if name.endswith("num_batches_tracked"):
            drawn = np.zeros(shape)
        elif name.endswith("running_mean"):
            drawn = 0.1 * rng.standard_normal(shape)
        elif name.endswith("running_var"):
            drawn = rng.uniform(0.5, 2, shape)
        elif len(shape) >= 2:
            drawn = rng.standard_normal(shape) * math.sqrt(2 / math.prod(shape[1:]))
        elif "prelu" in name:
            drawn = rng.uniform(0.05, 0.4, shape)
        elif name.endswith("weight"):
            drawn = rng.uniform(0.5, 1.5, shape)
        else:
            drawn = 0.1 * rng.standard_normal(shape)
        state[name] = torch.tensor(np.asarray(drawn, dtype=np.float32)).to(value.dtype)
    network.load_state_dict(state)


def tiny(name: str, **changes) -> nn.Module:
    """A small network whose every weight matters, in float64 and evaluation mode."""
    network = backbones.build_backbone(name, **(TINY | changes))
    fill_by_rule(network, 3)
    return network.double().eval()


def pictures(n: int, size: tuple[int, int] = TINY["image_size"], seed: int = 0) -> torch.Tensor:
    return 2 * torch.rand(n, 3, *size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 1


# ------------------------------------------------------------------------------------------------ reference arrays


@pytest.mark.parametrize("official", OFFICIAL)
def test_names_shapes_order_and_counts_of_parameters_are_the_official_ones(reference, official):
    expected = json.loads((reference / "sphereface" / "backbones" / "state_dict_keys.json").read_text())[official]
    name, branch = OFFICIAL[official]
    network = backbones.build_backbone(name, branch=branch, device="meta")
    assert [[key, list(value.shape)] for key, value in network.state_dict().items()] == expected["keys"]
    assert sum(p.numel() for p in network.parameters()) == expected["params"]
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == expected["trainable"]


def test_every_stored_key_list_is_checked(reference):
    stored = json.loads((reference / "sphereface" / "backbones" / "state_dict_keys.json").read_text())
    assert set(stored) == set(OFFICIAL)


@pytest.mark.parametrize("stored_name", REFERENCE_NETS)
def test_outputs_match_the_official_networks(reference, stored_name):
    stored = np.load(reference / "sphereface" / "backbones" / f"{stored_name}.npz")
    name, changes = REFERENCE_NETS[stored_name]
    network = backbones.build_backbone(name, features=16, **changes).eval()
    fill_by_rule(network, int(stored["seed"]))
    assert sum(p.numel() for p in network.parameters()) == int(stored["n_params"])
    images = torch.tensor(stored["x"])
    with torch.no_grad():
        single, double = network(images).numpy(), network.double()(images.double()).numpy()
    for found, expected, tolerance in ((single, stored["out_f32"], 1e-4), (double, stored["out_f64"], 1e-9)):
        assert np.abs(found - expected).max() < tolerance * np.abs(expected).max()


# ---------------------------------------------------------------------------------------------------- architecture


@pytest.mark.parametrize("name", backbones.names())
def test_the_number_in_a_name_is_its_depth(name):
    network = backbones.build_backbone(name, device="meta")
    convolutions = sum(isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3) for m in network.modules())
    assert convolutions + name.startswith("iresnet") == int(re.search(r"\d+", name)[0])


@pytest.mark.parametrize(("name", "branch"), ALL)
def test_every_network_of_every_branch_runs(name, branch):
    network = backbones.build_backbone(name, branch=branch, device="meta", **TINY)
    assert network.eval()(pictures(2).float().to("meta")).shape == (2, 6)


def test_plain_units_only_ever_add():
    unit = tiny("sfnet20").layer3[1]
    maps = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    added = unit(maps) - maps
    assert added.min() >= 0
    assert added.max() > 0
    assert unit(maps).min() < 0  # and nothing is cut off after the sum


@pytest.mark.parametrize("name", ["sfnet20v2", "sfnet20bn"])
def test_newer_units_end_in_a_relu(name):
    unit = tiny(name).layer3[1]
    maps = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    out = unit(maps)
    assert out.min() == 0
    assert (out - maps).min() < 0


def test_iclr_and_v0_differ_in_names_only():
    old, new = tiny("sfnet20"), backbones.build_backbone("sfnet20", branch="iclr", **TINY).double().eval()
    new.load_state_dict({re.sub(r"\.0\.conv1\.", ".0.conv.", key): value for key, value in old.state_dict().items()})
    assert torch.equal(new(pictures(2)), old(pictures(2)))


@pytest.mark.parametrize("name", ["sfnet10bn", "iresnet18"])
def test_v0_and_main_compute_the_same_function(name):
    old, new = tiny(name), tiny(name, branch="main")
    assert torch.equal(new(pictures(2)), old(pictures(2)))


@settings(max_examples=12, deadline=None)
@given(
    height=st.integers(1, 8),
    width=st.integers(1, 8),
    channels=st.tuples(*[st.integers(1, 5)] * 4),
    features=st.integers(1, 9),
    name=st.sampled_from(["sfnet4", "sfnet10bn", "iresnet18"]),
)
def test_any_size_in_multiples_of_16_and_any_width_builds_and_runs(height, width, channels, features, name):
    size = (16 * height, 16 * width)
    network = backbones.build_backbone(name, channels=channels, features=features, image_size=size).eval()
    assert network.fc.in_features == channels[3] * height * width
    assert network(pictures(1, size).float()).shape == (1, features)


# ----------------------------------------------------------------------------------------------------- initial weights


def convolutions(network: nn.Module) -> dict[str, nn.Conv2d]:
    return {name: module for name, module in network.named_modules() if isinstance(module, nn.Conv2d)}


def xavier(c: nn.Conv2d) -> float:
    return math.sqrt(2 / (9 * (c.in_channels + c.out_channels)))


def fan_out(c: nn.Conv2d) -> float:
    return math.sqrt(2 / (9 * c.out_channels))


@pytest.mark.parametrize(
    ("name", "branch", "deviation"),
    [
        ("sfnet20", "v0", lambda c: xavier(c)),
        ("sfnet20", "iclr", lambda c: xavier(c) if c.stride == (2, 2) else 0.01),
        ("sfnet20v2", "main", fan_out),
        ("sfnet20bn", "v0", fan_out),
        ("sfnet20bn", "main", fan_out),
        ("iresnet18", "v0", lambda c: 0.1),  # noqa: ARG005
        ("iresnet18", "main", lambda c: 0.1),  # noqa: ARG005
    ],
)
def test_convolutions_start_with_the_official_spread(name, branch, deviation):
    network = backbones.build_backbone(name, branch=branch, channels=(16, 32, 48, 64), features=8, image_size=(16, 16))
    for where, conv in convolutions(network).items():
        values = conv.weight.detach()
        assert abs(float(values.std()) / deviation(conv) - 1) < 5 / math.sqrt(2 * values.numel()), where
        assert abs(float(values.mean())) < 5 * deviation(conv) / math.sqrt(values.numel()), where
        # Normal, not uniform: a uniform variable never leaves 1.74 standard deviations.
        assert float(values.abs().max()) > 2.3 * deviation(conv), where


@pytest.mark.parametrize("name", KINDS)
def test_linear_layer_and_biases_start_uniform_within_the_inverse_root_of_the_fan_in(name):
    network = backbones.build_backbone(name, channels=(8, 16, 16, 16), features=64, image_size=(32, 32))
    layers = {"fc": network.fc} | convolutions(network)
    for where, layer in layers.items():
        bound = 1 / math.sqrt(layer.weight[0].numel())
        uniform = [] if layer.bias is None else [layer.bias]
        for values in [*uniform, *([layer.weight] if where == "fc" else [])]:
            assert float(values.detach().abs().max()) <= bound, where
            assert float(values.detach().std()) == pytest.approx(bound / math.sqrt(3), rel=0.6), where
    assert network.fc.bias is not None
    assert float(network.fc.weight.detach().abs().max()) > 0.98 / math.sqrt(64)


@pytest.mark.parametrize(
    ("name", "branch", "scale", "trained"),
    [
        ("sfnet20bn", "v0", 1.0, True),
        ("sfnet20bn", "main", 0.1, True),
        ("iresnet18", "v0", 1.0, False),
        ("iresnet18", "main", 0.1, True),
    ],
)
def test_normalisation_starts_neutral_and_on_the_embedding_as_the_branch_has_it(name, branch, scale, trained):
    network = backbones.build_backbone(name, branch=branch, **TINY)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            final = module is network.features
            assert torch.equal(module.weight.detach(), torch.full_like(module.weight, scale if final else 1.0))
            assert module.weight.requires_grad == (trained or not final)
            assert not module.bias.any()
            assert module.bias.requires_grad
            assert not module.running_mean.any()
            assert (module.running_var == 1).all()
            assert module.num_batches_tracked == 0
        if isinstance(module, nn.PReLU):
            assert (module.weight == 0.25).all()


def test_residual_units_may_start_as_the_identity():
    network = backbones.build_backbone("sfnet20bn", zero_init_residual=True, **TINY).eval()
    maps = torch.rand(2, 4, 5, 5, generator=torch.Generator().manual_seed(1))
    assert torch.equal(network.layer3[2](maps), maps)
    assert (network.layer3[2].bn1.weight == 1).all()


@pytest.mark.parametrize("name", KINDS)
def test_weights_depend_on_the_seed_alone(name):
    before = torch.get_rng_state()
    first, again, other = (backbones.build_backbone(name, seed=seed, **TINY).state_dict() for seed in (4, 4, 5))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["fc.weight"], other["fc.weight"])
    assert not torch.equal(first["fc.bias"], other["fc.bias"])


def test_meta_networks_take_no_memory():
    assert all(value.is_meta for value in backbones.build_backbone("iresnet100", device="meta").state_dict().values())


# ------------------------------------------------------------------------------------------------------------ training


@pytest.mark.parametrize(("name", "branch"), [("sfnet20", "iclr"), *((kind, "v0") for kind in KINDS)])
def test_a_gradient_reaches_every_trained_parameter(name, branch):
    network = backbones.build_backbone(name, branch=branch, **TINY | {"channels": (8, 8, 8, 8)}).train()
    direction = torch.randn(4, 6, generator=torch.Generator().manual_seed(2))
    (network(pictures(4).float()) * direction).sum().backward()
    for key, parameter in network.named_parameters():
        reached = (
            parameter.grad is not None and bool(torch.isfinite(parameter.grad).all()) and bool(parameter.grad.any())
        )
        assert reached == parameter.requires_grad, key


@pytest.mark.parametrize("name", KINDS)
def test_gradient_is_that_of_finite_differences(name):
    network = tiny(name, image_size=(16, 16)).requires_grad_(False)
    images = pictures(2, (16, 16)).requires_grad_()
    direction = torch.randn(images.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    (gradient,) = torch.autograd.grad(network(images).sum(), images)
    step = 1e-6
    difference = (network(images + step * direction).sum() - network(images - step * direction).sum()) / (2 * step)
    assert (gradient * direction).sum().item() == pytest.approx(difference.item(), rel=1e-5)


@pytest.mark.parametrize("name", ["sfnet4v2", "sfnet4bn", "iresnet18"])
def test_dropout_acts_in_training_only(name):
    torch.manual_seed(0)
    network = tiny(name, dropout=0.5)
    assert torch.equal(network(pictures(2)), tiny(name)(pictures(2)))
    for module in network.modules():
        module.training = isinstance(module, nn.Dropout)
    assert not torch.equal(network(pictures(2)), network(pictures(2)))


# ---------------------------------------------------------------------------------------------------------- embeddings


@pytest.mark.parametrize("name", KINDS)
def test_an_embedding_does_not_depend_on_the_rest_of_the_batch_nor_on_the_portion(name):
    network, images = tiny(name), pictures(5)
    together = backbones.embed(network, images)
    assert together.shape == (5, 6)
    for size in (1, 2, 5, 100):
        torch.testing.assert_close(backbones.embed(network, images, batch_size=size), together, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(backbones.embed(network, images[[3]]), together[[3]], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("fusion", ["sum", "mean"])
def test_an_embedding_is_that_of_the_picture_and_its_mirror_image(name, fusion):
    network, images = tiny(name), pictures(3)
    mirrored = torch.flip(images, [3])
    with torch.no_grad():
        expected = (network(images) + network(mirrored)) / {"sum": 1, "mean": 2}[fusion]
        assert not torch.allclose(network(images), network(mirrored))
    found = backbones.embed(network, images, fusion=fusion)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(backbones.embed(network, mirrored, fusion=fusion), found, rtol=1e-12, atol=1e-12)
    assert not found.requires_grad


def test_both_embeddings_are_kept_in_order():
    network, images = tiny("sfnet4bn"), pictures(3)
    both = backbones.mirror_embeddings(network, images, batch_size=2)
    with torch.no_grad():
        torch.testing.assert_close(both[:, 0], network(images), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(both[:, 1], network(images.flip(-1)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", KINDS)
def test_memory_layout_does_not_change_the_embedding(name):
    network, images = tiny(name), pictures(2)
    expected = network(images)
    found = network.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


# -------------------------------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("resnet50", {}, "name: expected one of sfnet4, .* found 'resnet50'"),
        (
            "sfnet20",
            {"branch": "main"},
            "branch: an SFNet of variant 'plain' exists in OpenSphere's v0 and iclr, found 'main'",
        ),
        ("sfnet20bn", {"branch": "iclr"}, "branch: .* 'bn' exists in OpenSphere's v0 and main"),
        ("iresnet18", {"branch": "iclr"}, "branch: an IResNet exists in OpenSphere's v0 and main"),
        ("sfnet20", {"variant": "preact"}, "variant: expected one of plain, relu_after, bn; found 'preact'"),
        ("sfnet20", {"image_size": (112, 100)}, r"image_size: .* multiples of 16 .* found \(112, 100\)"),
        ("iresnet18", {"image_size": (0, 112)}, "image_size: "),
        ("iresnet18", {"image_size": (112,)}, "image_size: "),
        ("sfnet20", {"channels": (4, 8, 16)}, r"channels: expected four counts .* found \(4, 8, 16\)"),
        ("sfnet20", {"channels": (4, 8, 0, 16)}, "channels: expected four counts of at least 1"),
        ("sfnet20", {"units": (1, 2, -1, 0)}, "units: expected four counts of at least 0"),
        ("iresnet18", {"units": (1, 2, 0, 1)}, "units: expected four counts of at least 1"),
        ("sfnet20", {"features": 0}, "features: expected the width of the embedding, at least 1, found 0"),
        ("sfnet20bn", {"dropout": 1.0}, r"dropout: expected a probability in \[0, 1\), found 1.0"),
        ("sfnet20", {"dropout": 0.4}, "dropout: the plain SFNet has no dropout"),
        ("sfnet20v2", {"zero_init_residual": True}, "zero_init_residual: only variant 'bn'"),
    ],
)
def test_impossible_configurations_are_refused(name, changes, message):
    with pytest.raises(ValueError, match=message):
        backbones.backbone_config(name, **changes)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(3, 32, 48), r"images: expected shape \(batch, 3, 32, 48\), found \(3, 32, 48\)"),
        (torch.zeros(2, 1, 32, 48), r"found \(2, 1, 32, 48\); crop and align"),
        (torch.zeros(2, 3, 48, 32), r"found \(2, 3, 48, 32\)"),
        (torch.zeros(2, 3, 32, 48, dtype=torch.uint8), r"found torch.uint8; convert by \(v - 127.5\) / 127.5"),
    ],
)
def test_pictures_of_another_kind_are_refused(images, message):
    with pytest.raises(ValueError, match=message):
        backbones.check_images(images, (32, 48))


@pytest.mark.parametrize("name", KINDS)
def test_networks_refuse_pictures_of_another_size(name):
    with pytest.raises(ValueError, match=r"expected shape \(batch, 3, 32, 48\), found \(1, 3, 64, 48\)"):
        tiny(name)(pictures(1, (64, 48)))


def test_embedding_in_training_mode_or_of_nothing_is_refused():
    network = tiny("sfnet4bn")
    with pytest.raises(ValueError, match=r"network: it is in training mode; call network\.eval"):
        backbones.embed(network.train(), pictures(2))
    with pytest.raises(ValueError, match="found 0 pictures in portions of 256"):
        backbones.embed(network.eval(), pictures(0))
    with pytest.raises(ValueError, match="found 2 pictures in portions of 0"):
        backbones.embed(network, pictures(2), batch_size=0)
    with pytest.raises(ValueError, match="fusion: expected 'sum' or 'mean', found 'max'"):
        backbones.embed(network, pictures(2), fusion="max")
