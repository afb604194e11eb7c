"""The R2-D2 backbone has the published sizes, and its layers stand in the right order."""

from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.models.r2d2 import R2D2, build


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    """Initial weights and dropout draw from torch's global generator."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def features_at(pixels: int, width: float) -> torch.Size:
    # A meta tensor would do, but the first meta convolution imports for seconds.
    features: Tensor = R2D2(width).eval()(torch.zeros(1, 3, pixels, pixels))
    return features.shape


def norm_of(block: nn.Sequential) -> nn.BatchNorm2d:
    (norm,) = (layer for layer in block if isinstance(layer, nn.BatchNorm2d))
    return norm


def flattened_blocks(backbone: R2D2, features: Tensor) -> tuple[Tensor, Tensor]:
    """The third block's part of features of 32-pixel images, and the fourth's."""
    third = norm_of(backbone.block3).num_features * 4 * 4
    return features[:, :third], features[:, third:]


def silence(backbone: R2D2, value: float) -> None:
    """Let every batch norm of the last two blocks answer ``value``, whatever the images."""
    for block in (backbone.block3, backbone.block4):
        nn.init.zeros_(norm_of(block).weight)
        nn.init.constant_(norm_of(block).bias, value)


@pytest.mark.parametrize("width", [1, 0.5, 0.25])
def test_parameters_are_those_of_the_layers(width: float) -> None:
    with torch.device("meta"):
        backbone = build(width)
    channels = [3, *(int(width * full) for full in (96, 192, 384, 512))]
    expected = sum(9 * before * after + after + 2 * after for before, after in pairwise(channels))
    assert sum(each.numel() for each in backbone.parameters()) == expected


def test_the_published_network_has_2605056_parameters() -> None:
    with torch.device("meta"):
        backbone = build(1.0)
    assert sum(each.numel() for each in backbone.parameters()) == 2_605_056


@pytest.mark.parametrize(("pixels", "full"), [(32, 8_192), (84, 51_200)])
@pytest.mark.parametrize("width", [1, 0.5, 0.25])
def test_features_have_the_published_size(pixels: int, full: int, width: float) -> None:
    assert features_at(pixels, width) == (1, width * full)


def test_the_narrowest_network_keeps_a_channel_everywhere() -> None:
    assert features_at(32, 0.001) == (1, 4 * 4 + 2 * 2)


def test_evaluation_is_the_four_blocks_written_out() -> None:
    backbone = R2D2(0.05)
    images = torch.randn(4, 3, 37, 37)
    backbone(images)  # moves the running statistics away from 0 and 1
    backbone.eval()
    blocks = []
    x = images
    for k in range(1, 5):
        weights = {
            name.removeprefix(f"block{k}."): value
            for name, value in backbone.state_dict().items()
            if name.startswith(f"block{k}.")
        }
        x = functional.conv2d(x, weights["0.weight"], weights["0.bias"], padding=1)
        mean, variance = weights["1.running_mean"], weights["1.running_var"]
        x = functional.batch_norm(x, mean, variance, weights["1.weight"], weights["1.bias"])
        x = functional.max_pool2d(x, 2)
        if k < 4:
            x = functional.leaky_relu(x, 0.1)
        blocks.append(x.flatten(1))
    expected = torch.cat(blocks[2:], 1)
    torch.testing.assert_close(backbone(images), expected, rtol=1e-5, atol=1e-6)


def test_only_the_last_block_has_no_activation() -> None:
    backbone = R2D2(0.05).eval()
    silence(backbone, -1.0)
    third, fourth = flattened_blocks(backbone, backbone(torch.randn(2, 3, 32, 32)))
    torch.testing.assert_close(third, torch.full_like(third, -0.1))
    torch.testing.assert_close(fourth, torch.full_like(fourth, -1.0))


def test_training_drops_a_tenth_of_the_third_block_and_three_tenths_of_the_fourth() -> None:
    backbone = R2D2(0.05)
    silence(backbone, 1.0)
    parts = flattened_blocks(backbone, backbone(torch.randn(64, 3, 32, 32)))
    for part, rate in zip(parts, (0.1, 0.3), strict=True):
        dropped = part == 0
        tolerance = 5 * (rate * (1 - rate) / part.numel()) ** 0.5
        assert dropped.double().mean().item() == pytest.approx(rate, abs=tolerance)
        kept = part[~dropped]
        torch.testing.assert_close(kept, torch.full_like(kept, 1 / (1 - rate)))


def test_dropout_stands_before_the_fourth_block_too() -> None:
    """So the fourth block's features differ even without a dropout of their own."""
    backbone = R2D2(0.05)
    backbone.block4[-1].eval()
    images = torch.randn(8, 3, 32, 32)
    first, second = (flattened_blocks(backbone, backbone(images))[1] for _ in range(2))
    assert not torch.equal(first, second)


def test_evaluation_is_deterministic_and_each_image_stands_alone() -> None:
    backbone = R2D2(0.05).eval()
    images = torch.randn(5, 3, 32, 32)
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    features = backbone(images)
    assert torch.equal(backbone(images), features)
    torch.testing.assert_close(backbone(images[3:4]), features[3:4], rtol=1e-5, atol=1e-6)
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())


@pytest.mark.parametrize(("part", "blocks"), [(0, 3), (1, 4)], ids=["third", "fourth"])
def test_a_gradient_reaches_every_parameter(part: int, blocks: int) -> None:
    """From either part of the features, every parameter of the blocks up to it."""
    # In training mode batch norm cancels whatever the convolutions' biases do.
    backbone = R2D2(0.05).eval()
    features = flattened_blocks(backbone, backbone(torch.randn(4, 3, 32, 32)))
    torch.autograd.backward(features[part].square().sum())
    reached = {
        name
        for name, parameter in backbone.named_parameters()
        if parameter.grad is not None and (parameter.grad != 0).any()
    }
    expected = {
        f"block{k}.{layer}.{kind}"
        for k in range(1, blocks + 1)
        for layer in (0, 1)
        for kind in ("weight", "bias")
    }
    assert reached == expected
    assert all(p.grad is None or p.grad.isfinite().all() for p in backbone.parameters())
