"""Encoders of pictures: published sizes, names that released weights have, seeds, faults."""

from __future__ import annotations

import pytest
import torch

from paper_utils.nn.image_encoders import ConvBlock, ResNet, SmallEncoder

# Parameters of the networks for ImageNet's 1,000 classes, as published with torchvision's weights.
IMAGENET = {18: 11_689_512, 34: 21_797_672, 50: 25_557_032}
FEATURES = {18: 512, 34: 512, 50: 2048}


@pytest.mark.parametrize("depth", IMAGENET)
def test_residual_networks_have_the_published_number_of_parameters(depth):
    network = ResNet(depth, 1000)
    assert sum(p.numel() for p in network.parameters()) == IMAGENET[depth]
    assert network.fc.in_features == FEATURES[depth]


def test_names_and_shapes_are_torchvisions():
    state = ResNet(50, 4).state_dict()
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    assert shapes["conv1.weight"] == (64, 3, 7, 7)
    assert shapes["layer1.0.downsample.0.weight"] == (256, 64, 1, 1)
    assert shapes["layer2.0.conv2.weight"] == (128, 128, 3, 3)
    assert shapes["layer4.2.bn3.running_var"] == (2048,)
    assert "layer1.1.downsample.0.weight" not in shapes
    small = {name: tuple(value.shape) for name, value in ResNet(18, 4).state_dict().items()}
    assert "layer1.0.downsample.0.weight" not in small
    assert small["layer2.0.downsample.0.weight"] == (128, 64, 1, 1)


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_stages_halve_the_picture_five_times(norm):
    network = ResNet(18, 5, norm=norm).eval()
    sizes = []
    network.layer4.register_forward_hook(lambda *seen: sizes.append(tuple(seen[-1].shape)))
    with torch.no_grad():
        assert network(torch.zeros(2, 3, 96, 96)).shape == (2, 5)
    assert sizes == [(2, 512, 3, 3)]


def test_residual_unit_with_dead_convolutions_passes_its_input():
    network = ResNet(18, 2).eval()
    block = network.layer1[0]
    torch.nn.init.zeros_(block.bn2.weight)
    maps = torch.rand(1, 64, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(block(maps), maps)


def test_group_normalised_pictures_do_not_see_each_other():
    network = ResNet(18, 3, norm="group", seed=1)
    pictures = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(network(pictures)[:1], network(pictures[:1]), atol=1e-5, rtol=1e-4)


def test_weights_follow_from_the_seed_alone():
    for make in (lambda seed: ResNet(18, 2, seed=seed), lambda seed: SmallEncoder(3, (8, 8), 16, 2, seed=seed)):
        torch.manual_seed(5)
        one = make(7)
        torch.manual_seed(6)
        for a, b in zip(one.parameters(), make(7).parameters(), strict=True):
            assert torch.equal(a, b)
        assert not torch.equal(one.fc.weight, make(8).fc.weight)


def test_small_encoder_sees_every_place():
    network = SmallEncoder(3, (8, 8), 16, 2, seed=0)
    picture = torch.zeros(1, 3, 16, 16, requires_grad=True)
    network(picture)[0, 0].backward()
    assert (picture.grad.abs().sum(1) > 0).all()


def test_blocks_normalise_any_width_and_halve_with_a_stride():
    assert ConvBlock(3, 12, 2)(torch.rand(1, 3, 8, 8)).shape == (1, 12, 4, 4)
    assert ConvBlock(3, 7)(torch.rand(1, 3, 8, 8)).shape == (1, 7, 8, 8)


def test_faults_are_named():
    with pytest.raises(ValueError, match="expected one of 18, 34, 50; found 101"):
        ResNet(101, 3)
    with pytest.raises(ValueError, match="expected 'batch' or 'group', found 'layer'"):
        ResNet(18, 3, norm="layer")
    with pytest.raises(ValueError, match="4 must divide 18"):
        SmallEncoder(3, (8, 8), 18, 2)
