"""Backbones have the published sizes, and their layers stand in the right order."""

import pkgutil
from collections.abc import Iterator
from importlib import import_module
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional

from pipeline import models
from pipeline.errors import UserError
from pipeline.models import conv4, embedding
from pipeline.models.r2d2 import R2D2
from pipeline.models.resnet12 import DropBlock

FULL_RAMP = 40_000
SMALL = {"form": "original", "channels": (64, 64, 64, 64)}
MAML = {"filters": 32, "bias": True}
REPTILE = {**MAML, "pooling": "same", "init": "glorot", "epsilon": 1e-3}


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    """Initial weights and dropout draw from torch's global generator."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def build(name: str, image_size: int = 32, **options: Any) -> nn.Module:
    return embedding.build({"name": name, **options}, image_size)


def n_parameters(name: str, **options: Any) -> int:
    with torch.device("meta"):
        backbone = build(name, **options)
    return sum(each.numel() for each in backbone.parameters())


def features_at(pixels: int, name: str, **options: Any) -> torch.Size:
    # A meta tensor would do, but the first meta convolution imports for seconds.
    features: Tensor = build(name, pixels, **options).eval()(torch.zeros(1, 3, pixels, pixels))
    return features.shape


def moved(backbone: nn.Module) -> nn.Module:
    """The backbone in evaluation, its running statistics and affine maps no longer 0 and 1."""
    backbone(torch.randn(8, 3, 32, 32))
    for layer in backbone.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1, 0.3)
            nn.init.normal_(layer.bias, 0, 0.3)
    return backbone.eval()


def normed(x: Tensor, state: dict[str, Tensor], place: str, epsilon: float = 1e-5) -> Tensor:
    """Batch norm in evaluation, written out."""
    mean, variance, weight, bias = (
        state[f"{place}.{name}"].view(-1, 1, 1)
        for name in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (variance + epsilon).sqrt() * weight + bias


# Every backbone

BACKBONES = sorted(
    module.name
    for module in pkgutil.iter_modules(models.__path__)
    if module.name != "embedding"  # its ``build`` finds the others
    and hasattr(import_module(f"pipeline.models.{module.name}"), "build")
)
every = pytest.mark.parametrize("name", BACKBONES)


def test_the_contract_covers_the_backbones_of_the_paper() -> None:
    assert {"r2d2", "resnet12", "conv4"} <= set(BACKBONES)


@pytest.mark.parametrize(
    ("name", "options", "parameters", "at_32", "at_84"),
    [
        ("r2d2", {}, 2_605_056, 8_192, 51_200),
        ("r2d2", {"form": "original"}, 2_605_056, 8_064, 72_576),
        ("r2d2", SMALL, 113_088, 1_152, 10_368),
        ("resnet12", {}, 12_424_320, 2_560, 16_000),
        ("resnet12", {"drop_block": False}, 12_424_320, 2_560, 16_000),
        ("conv4", {}, 112_832, 256, 1_600),
        ("conv4", MAML, 28_896, 128, 800),
        ("conv4", REPTILE, 28_896, 128, 1_152),
    ],
)
def test_the_published_networks_have_the_published_sizes(
    name: str, options: dict[str, Any], parameters: int, at_32: int, at_84: int
) -> None:
    assert n_parameters(name, **options) == parameters
    assert features_at(32, name, **options) == (1, at_32)
    assert features_at(84, name, **options) == (1, at_84)


@every
def test_width_is_a_factor_on_all_channels(name: str) -> None:
    quarter, half = (
        {
            place: layer.out_channels
            for place, layer in build(name, width=width).named_modules()
            if isinstance(layer, nn.Conv2d)
        }
        for width in (0.25, 0.5)
    )
    assert half == {place: 2 * channels for place, channels in quarter.items()}
    assert features_at(32, name, width=0.5)[1] == 2 * features_at(32, name, width=0.25)[1]
    assert n_parameters(name) == n_parameters(name, width=1.0) > n_parameters(name, width=0.5)


@every
def test_the_narrowest_network_keeps_a_channel_everywhere(name: str) -> None:
    backbone = build(name, width=0.001)
    convolutions = [layer for layer in backbone.modules() if isinstance(layer, nn.Conv2d)]
    assert {layer.out_channels for layer in convolutions} == {1}
    assert backbone(torch.randn(2, 3, 32, 32)).isfinite().all()


@every
@pytest.mark.parametrize("pixels", [16, 32, 84])
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_features_are_a_float32_row_per_image(name: str, pixels: int, training: bool) -> None:
    backbone = build(name, pixels, width=0.05).train(training)
    features = backbone(torch.randn(3, 3, pixels, pixels))
    assert features.dtype == torch.float32
    assert features.shape == (3, *features_at(pixels, name, width=0.05)[1:])
    assert features.isfinite().all()


@every
def test_evaluation_is_deterministic_and_each_image_stands_alone(name: str) -> None:
    backbone = moved(build(name, width=0.05))
    images = torch.randn(5, 3, 32, 32)
    before = {place: value.clone() for place, value in backbone.state_dict().items()}
    features = backbone(images)
    assert torch.equal(backbone(images), features)
    torch.testing.assert_close(backbone(images[3:4]), features[3:4], rtol=1e-5, atol=1e-5)
    assert all(torch.equal(value, before[place]) for place, value in backbone.state_dict().items())


@every
def test_the_state_is_all_there_is(name: str) -> None:
    one, other = moved(build(name, width=0.05)), build(name, width=0.05).eval()
    images = torch.randn(2, 3, 32, 32)
    assert not torch.equal(one(images), other(images))
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(images), other(images))
    one.train(), other.train()
    for seed in (1, 2):
        torch.manual_seed(seed)
        features = one(images)
        torch.manual_seed(seed)
        assert torch.equal(other(images), features)


@every
def test_initial_weights_and_dropout_are_drawn_from_the_global_generator(name: str) -> None:
    features = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        features.append(build(name, width=0.05)(torch.ones(2, 3, 32, 32)))
    assert torch.equal(features[0], features[1])
    assert not torch.equal(features[0], features[2])


@every
def test_the_memory_format_changes_nothing_in_evaluation(name: str) -> None:
    # In training torch's own dropout draws in the order of the memory.
    backbone = moved(build(name, width=0.05))
    images = torch.randn(4, 3, 32, 32)
    expected = backbone(images)
    backbone.to(memory_format=torch.channels_last)
    features = backbone(images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4)


@every
def test_a_gradient_reaches_every_parameter(name: str) -> None:
    # In training mode batch norm cancels whatever the convolutions' biases do.
    backbone = moved(build(name, width=0.1))
    torch.autograd.backward(backbone(torch.randn(4, 3, 32, 32)).square().sum())
    for place, parameter in backbone.named_parameters():
        assert parameter.grad is not None, place
        assert parameter.grad.isfinite().all(), place
        assert (parameter.grad != 0).any(), place


@every
def test_several_sets_of_weights_run_side_by_side(name: str) -> None:
    """Each with its own images, in evaluation."""
    backbone = moved(build(name, width=0.05)).double()
    images = torch.randn(2, 3, 3, 32, 32, dtype=torch.float64)
    weights = {
        place: torch.stack([value, 1.5 * value]).detach()
        for place, value in backbone.named_parameters()
    }
    features = vmap(lambda some, batch: functional_call(backbone, some, (batch,)))(weights, images)
    for k in range(2):
        some = {place: value[k] for place, value in weights.items()}
        expected = functional_call(backbone, some, (images[k],))
        torch.testing.assert_close(features[k], expected)


def test_a_backbone_is_found_by_name_with_its_options() -> None:
    settings = {"name": "conv4", "width": 0.5, "filters": 32, "bias": True, "pooling": "same"}
    before = dict(settings)
    backbone = embedding.build(settings, 84)
    assert settings == before
    assert isinstance(backbone, conv4.Conv4)
    assert backbone(torch.zeros(2, 3, 84, 84)).shape == (2, 16 * 6 * 6)
    with pytest.raises(TypeError, match="dropout"):
        embedding.build({"name": "conv4", "dropout": 0.1}, 84)


# R2-D2


def norm_of(block: nn.Sequential) -> nn.BatchNorm2d:
    (norm,) = (layer for layer in block if isinstance(layer, nn.BatchNorm2d))
    return norm


def flattened_blocks(backbone: R2D2, features: Tensor) -> tuple[Tensor, Tensor]:
    """The third block's part of the features, and the fourth's."""
    c3, c4 = (norm_of(block).num_features for block in (backbone.block3, backbone.block4))
    # At 32 pixels: 4 x 4 and 2 x 2, or 3 x 3 of both.
    original = isinstance(backbone.pool3, nn.MaxPool2d)
    third, fourth = (9 * c3, 9 * c4) if original else (16 * c3, 4 * c4)
    assert features.shape[1] == third + fourth
    return features[:, :third], features[:, third:]


def silence(backbone: R2D2, value: float) -> None:
    """Let every batch norm of the last two blocks answer ``value``, whatever the images."""
    for block in (backbone.block3, backbone.block4):
        nn.init.zeros_(norm_of(block).weight)
        nn.init.constant_(norm_of(block).bias, value)


forms = pytest.mark.parametrize("form", ["metaoptnet", "original"])


@forms
@pytest.mark.parametrize("width", [1, 0.5, 0.25])
def test_r2d2_parameters_are_those_of_the_layers(form: str, width: float) -> None:
    channels = [3, *(int(width * full) for full in (96, 192, 384, 512))]
    expected = sum(9 * before * after + after + 2 * after for before, after in pairwise(channels))
    assert n_parameters("r2d2", width=width, form=form) == expected


@forms
def test_r2d2_evaluation_is_the_four_blocks_written_out(form: Any) -> None:
    backbone = moved(R2D2(0.05, form=form))
    state = backbone.state_dict()
    images = torch.randn(4, 3, 37, 37)
    blocks, x = [], images
    for k in range(1, 5):
        x = functional.conv2d(x, state[f"block{k}.0.weight"], state[f"block{k}.0.bias"], padding=1)
        x = normed(x, state, f"block{k}.1")
        x = functional.max_pool2d(x, 2, stride=1 if form == "original" and k == 4 else 2)
        if form == "original" or k < 4:
            x = functional.leaky_relu(x, 0.1)
        blocks.append(x)
    third, fourth = blocks[2:]
    if form == "original":
        third = functional.max_pool2d(third, 2, stride=1)
    expected = torch.cat([third.flatten(1), fourth.flatten(1)], 1)
    torch.testing.assert_close(backbone(images), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("form", "last"), [("metaoptnet", -1.0), ("original", -0.1)])
def test_only_the_last_block_of_metaoptnet_has_no_activation(form: Any, last: float) -> None:
    backbone = R2D2(0.05, form=form).eval()
    silence(backbone, -1.0)
    third, fourth = flattened_blocks(backbone, backbone(torch.randn(2, 3, 32, 32)))
    torch.testing.assert_close(third, torch.full_like(third, -0.1))
    torch.testing.assert_close(fourth, torch.full_like(fourth, last))


@pytest.mark.parametrize("rates", [None, (0.4, 0.4)], ids=["metaoptnet's", "given"])
def test_r2d2_training_drops_a_tenth_of_the_third_block_and_three_tenths_of_the_fourth(
    rates: tuple[float, float] | None,
) -> None:
    backbone = R2D2(0.05) if rates is None else R2D2(0.05, dropout=rates)
    silence(backbone, 1.0)
    parts = flattened_blocks(backbone, backbone(torch.randn(64, 3, 32, 32)))
    for part, rate in zip(parts, rates or (0.1, 0.3), strict=True):
        dropped = part == 0
        tolerance = 5 * (rate * (1 - rate) / part.numel()) ** 0.5
        assert dropped.double().mean().item() == pytest.approx(rate, abs=tolerance)
        kept = part[~dropped]
        torch.testing.assert_close(kept, torch.full_like(kept, 1 / (1 - rate)))


@forms
def test_r2d2_dropout_stands_before_the_fourth_block_too(form: Any) -> None:
    """So the fourth block's features differ even without a dropout of their own."""
    backbone = R2D2(0.05, form=form)
    backbone.block4[-1].eval()
    images = torch.randn(8, 3, 32, 32)
    first, second = (flattened_blocks(backbone, backbone(images))[1] for _ in range(2))
    assert not torch.equal(first, second)


def test_the_original_drops_before_it_pools_the_third_block_once_more() -> None:
    """So a place is 0 only where all four that it pools were dropped: 0.4 ^ 4."""
    backbone = R2D2(0.05, form="original", dropout=(0.4, 0.4))
    silence(backbone, 1.0)
    third, fourth = flattened_blocks(backbone, backbone(torch.randn(64, 3, 32, 32)))
    assert (third == 0).double().mean().item() == pytest.approx(0.4**4, abs=0.01)
    assert (fourth == 0).double().mean().item() == pytest.approx(0.4, abs=0.02)


@forms
@pytest.mark.parametrize(("part", "blocks"), [(0, 3), (1, 4)], ids=["third", "fourth"])
def test_a_gradient_reaches_every_block_up_to_a_part_of_r2d2(
    form: Any, part: int, blocks: int
) -> None:
    backbone = R2D2(0.05, form=form).eval()
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


# Conv4


@pytest.mark.parametrize("options", [{}, MAML, REPTILE], ids=["protonet", "maml", "reptile"])
def test_conv4_evaluation_is_the_four_blocks_written_out(options: dict[str, Any]) -> None:
    backbone = moved(build("conv4", width=0.1, **options))
    state = backbone.state_dict()
    images = x = torch.randn(4, 3, 37, 37)
    for k in range(4):
        bias = state.get(f"blocks.{k}.0.bias")
        assert (bias is not None) == options.get("bias", False)
        x = functional.conv2d(x, state[f"blocks.{k}.0.weight"], bias, padding=1)
        x = normed(x, state, f"blocks.{k}.1", options.get("epsilon", 1e-5)).relu()
        if options.get("pooling") == "same":
            # TensorFlow pads below and to the right, with what never is a maximum.
            height, width = x.shape[-2:]
            x = functional.pad(x, (0, width % 2, 0, height % 2), value=float("-inf"))
        x = functional.max_pool2d(x, 2)
    torch.testing.assert_close(backbone(images), x.flatten(1), rtol=1e-5, atol=1e-5)


def test_same_pooling_keeps_the_odd_row() -> None:
    backbone = build("conv4", 84, width=0.1, **REPTILE).eval()
    x, sides = torch.zeros(1, 3, 84, 84), []
    for block in backbone.get_submodule("blocks").children():
        x = block(x)
        sides.append(x.shape[-1])
    assert sides == [42, 21, 11, 6]


def test_conv4_normal_init_has_the_variance_of_the_sources() -> None:
    for place, parameter in build("conv4", bias=True).named_parameters():
        if place.endswith("0.weight"):
            deviation = (2 / (9 * 64)) ** 0.5
            assert parameter.std().item() == pytest.approx(deviation, rel=0.1)
            assert parameter.abs().max() > 2.5 * deviation  # no uniform one
        elif place.endswith("0.bias"):
            assert (parameter != 0).all()


def test_conv4_glorot_init_is_uniform_with_bias_zero() -> None:
    for place, parameter in build("conv4", **REPTILE).named_parameters():
        if place.endswith("0.weight"):
            bound = (6 / (9 * (parameter.shape[1] + 32))) ** 0.5
            assert 0.98 * bound < parameter.abs().max() <= bound
            assert parameter.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)
        elif place.endswith("0.bias"):
            assert (parameter == 0).all()


# ResNet-12


def blocks_of(backbone: nn.Module) -> list[nn.Module]:
    return [backbone.get_submodule(f"block{k}") for k in range(1, 5)]


@pytest.mark.parametrize("drop_block", [True, False])
def test_resnet12_evaluation_is_the_four_blocks_written_out(drop_block: bool) -> None:
    backbone = moved(build("resnet12", width=0.05, drop_block=drop_block))
    state = backbone.state_dict()
    images = x = torch.randn(4, 3, 37, 37)
    for k in range(1, 5):
        y = x
        for layer in (0, 3, 6):
            y = functional.conv2d(y, state[f"block{k}.residual.{layer}.weight"], padding=1)
            y = normed(y, state, f"block{k}.residual.{layer + 1}")
            if layer < 6:
                y = functional.leaky_relu(y, 0.1)
        shortcut = functional.conv2d(x, state[f"block{k}.shortcut.0.weight"])
        y = y + normed(shortcut, state, f"block{k}.shortcut.1")
        x = functional.max_pool2d(functional.leaky_relu(y, 0.1), 2)
    torch.testing.assert_close(backbone(images), x.flatten(1), rtol=1e-5, atol=1e-5)


def test_resnet12_init_is_kaiming_by_fan_out_with_relu_gain() -> None:
    for layer in build("resnet12", width=0.5).modules():
        if isinstance(layer, nn.Conv2d):
            fan_out = layer.out_channels * layer.kernel_size[0] ** 2
            deviation = (2 / fan_out) ** 0.5
            tolerance = 5 / (2 * layer.weight.numel()) ** 0.5
            assert layer.weight.std().item() == pytest.approx(deviation, rel=tolerance)
        elif isinstance(layer, nn.BatchNorm2d):
            assert (layer.weight == 1).all()
            assert (layer.bias == 0).all()


@pytest.mark.parametrize(
    ("pixels", "expected"), [(16, 1), (32, 2), (63, 2), (64, 4), (80, 5), (84, 5), (224, 5)]
)
def test_the_block_size_follows_the_image_size(pixels: int, expected: int) -> None:
    layers = build("resnet12", pixels, width=0.01).modules()
    sizes = [layer.block_size for layer in layers if isinstance(layer, DropBlock)]
    assert sizes == [expected, expected]


@pytest.mark.parametrize(
    ("pixels", "size", "maps"),
    [(32, 5, (4, 2)), (32, 3, (4, 2)), (84, 6, (10, 5)), (32, 0, (4, 2))],
)
def test_a_block_size_that_does_not_fit_is_refused(
    pixels: int, size: int, maps: tuple[int, int]
) -> None:
    with pytest.raises(UserError) as refusal:
        build("resnet12", pixels, width=0.01, block_size=size)
    message = str(refusal.value)
    assert f"block_size {size}" in message
    assert all(f"{side} x {side}" in message for side in maps)
    assert f"at most {maps[1]}" in message
    build("resnet12", pixels, width=0.01, block_size=maps[1])
    build("resnet12", pixels, width=0.01, block_size=size, drop_block=False)


def test_plain_dropout_after_the_first_two_blocks_dropblock_after_the_last_two() -> None:
    first, second, third, fourth = blocks_of(build("resnet12", block_size=1, ramp_passes=7))
    for block in (first, second):
        drop = block.get_submodule("drop")
        assert isinstance(drop, nn.Dropout)
        assert drop.p == 0.1
    for block in (third, fourth):
        drop = block.get_submodule("drop")
        assert isinstance(drop, DropBlock)
        assert (drop.block_size, drop.ramp_passes) == (1, 7)


@pytest.mark.parametrize("drop_block", [True, False])
def test_dropblock_can_be_switched_off(drop_block: bool) -> None:
    """The plain dropout stays; the last two blocks then have nothing random."""
    backbone = build("resnet12", width=0.2, drop_block=drop_block, ramp_passes=1)
    random = []
    x = torch.randn(16, 3, 32, 32)
    for block in blocks_of(backbone):
        first, second = block(x), block(x)
        random.append(not torch.equal(first, second))
        x = first
    assert random == [True, True, drop_block, drop_block]
    assert any("passes" in place for place in backbone.state_dict()) == drop_block


# DropBlock


def at_full_ramp(block_size: int) -> DropBlock:
    drop = DropBlock(block_size, FULL_RAMP)
    drop.passes.fill_(FULL_RAMP)
    return drop


@pytest.mark.parametrize(
    ("side", "size", "expected"),
    [(10, 5, 0.0111), (5, 5, 0.1), (4, 2, 0.0444), (2, 2, 0.1), (6, 1, 0.1)],
)
def test_gamma_at_the_full_ramp(side: int, size: int, expected: float) -> None:
    assert at_full_ramp(size).gamma(side, side).item() == pytest.approx(expected, abs=5e-5)


def test_gamma_grows_linearly_and_then_stays() -> None:
    drop = DropBlock(2, FULL_RAMP)
    full = 0.1 / 2**2 * 4**2 / 3**2
    for passes in (0, 1, 10_000, 20_000, 39_999, 40_000, 40_001, 10**9):
        drop.passes.fill_(passes)
        expected = full * min(passes / FULL_RAMP, 1)
        assert drop.gamma(4, 4).item() == pytest.approx(expected, rel=1e-5)


def test_only_training_passes_count() -> None:
    drop, maps = DropBlock(2, 10), torch.ones(1, 1, 4, 4)
    for _ in range(3):
        drop(maps)
    drop.eval()
    assert drop(maps) is maps
    assert drop.passes.item() == 3
    drop.train()(maps)
    assert drop.passes.item() == 4
    assert drop.passes.dtype == torch.int64


def test_the_count_is_part_of_the_state() -> None:
    images = torch.randn(2, 3, 32, 32)
    one, other = (build("resnet12", width=0.02) for _ in range(2))
    for _ in range(3):
        one(images)
    state = {place: value.clone() for place, value in one.state_dict().items()}
    counts = {place: value.item() for place, value in state.items() if place.endswith("passes")}
    assert counts == {"block3.drop.passes": 3, "block4.drop.passes": 3}
    other.load_state_dict(state)
    other(images)
    assert other.state_dict()["block4.drop.passes"] == 4
    assert one.state_dict()["block4.drop.passes"] == 3


def test_no_value_of_a_tensor_is_read() -> None:
    """A meta tensor has none; on a GPU reading one waits for all that was asked for."""
    drop = DropBlock(2, 10).to("meta")
    maps = torch.empty(2, 3, 4, 4, device="meta")
    assert drop(maps).shape == maps.shape


@pytest.mark.parametrize(("side", "size"), [(10, 5), (5, 5), (4, 2), (2, 2), (3, 1)])
def test_the_rate_is_that_of_squares_that_begin_where_they_fit(side: int, size: int) -> None:
    drop = at_full_ramp(size)
    gamma = drop.gamma(side, side).item()
    covering = torch.zeros(side, side)
    for i in range(side - size + 1):
        for j in range(side - size + 1):
            covering[i : i + size, j : j + size] += 1
    expected = 1 - (1 - gamma) ** covering
    n_maps = 20_000
    dropped = (drop(torch.ones(n_maps // 50, 50, side, side)) == 0).double()
    error = (expected * (1 - expected) / n_maps).sqrt().double()
    assert ((dropped.mean((0, 1)) - expected).abs() < 5 * error).all()
    # Squares overlap, so the rate is a tenth only where a map has one of them or single places.
    assert expected.mean().item() == pytest.approx(0.1, rel=0.08)


@pytest.mark.parametrize(("side", "size"), [(10, 5), (4, 2), (7, 3)])
def test_what_is_dropped_is_whole_squares(side: int, size: int) -> None:
    dropped = (at_full_ramp(size)(torch.ones(20, 50, side, side)) == 0).flatten(0, 1)
    assert dropped.any()
    squares = torch.zeros_like(dropped)
    for i in range(side - size + 1):
        for j in range(side - size + 1):
            whole = dropped[:, i : i + size, j : j + size].all(-1).all(-1)
            squares[:, i : i + size, j : j + size] |= whole[:, None, None]
    assert torch.equal(squares, dropped)


@pytest.mark.parametrize("side", [2, 5])
def test_a_square_as_large_as_the_map_drops_whole_channels(side: int) -> None:
    dropped = at_full_ramp(side)(torch.ones(10, 50, side, side)) == 0
    channels = dropped.flatten(2)
    assert torch.equal(channels.all(2), channels.any(2))
    assert channels.any()


def test_what_is_kept_grows_by_what_is_dropped_and_gradients_with_it() -> None:
    maps = torch.randn(8, 20, 4, 4, requires_grad=True)
    out = at_full_ramp(2)(maps)
    kept = out != 0
    scale = kept.numel() / kept.sum()
    assert scale > 1
    torch.testing.assert_close(out, torch.where(kept, maps * scale, 0.0))
    torch.autograd.backward(out.sum())
    torch.testing.assert_close(maps.grad, torch.where(kept, scale, 0.0))


def test_all_may_be_dropped_and_nothing_is() -> None:
    drop = at_full_ramp(2)
    sums = {drop(torch.ones(1, 1, 2, 2)).sum().item() for _ in range(200)}
    assert sums == {0.0, 4.0}


def test_bfloat16_maps_stay_bfloat16() -> None:
    out = at_full_ramp(2)(torch.ones(64, 64, 4, 4, dtype=torch.bfloat16))
    assert out.dtype == torch.bfloat16
    assert out.float().mean().item() == pytest.approx(1, abs=5e-3)


def test_the_memory_format_is_kept_and_changes_no_draw() -> None:
    maps = torch.randn(8, 16, 4, 4)
    torch.manual_seed(1)
    expected = at_full_ramp(2)(maps)
    torch.manual_seed(1)
    out = at_full_ramp(2)(maps.contiguous(memory_format=torch.channels_last))
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(out, expected)
