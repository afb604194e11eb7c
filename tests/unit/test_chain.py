"""Chains that are differentiated by hand, against torch's autograd in float64."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.models.embedding import build
from pipeline.training import convolution
from pipeline.training.batch_norm import PooledNorm
from pipeline.training.chain import Chain
from pipeline.training.inner import Network, joined, new_head

N_WAY, N_IMAGES = 3, 4
FILTERS = 6


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture(params=["products", "kernels"])
def _both_ways_to_convolve(request, monkeypatch):
    few = {"products": 10**6, "kernels": 0}[request.param]
    monkeypatch.setattr(convolution, "FEW_OUTPUTS", few)


WEIGHTS = {
    "above zero": [0.5, 1.0, 1.5, 1.0, 0.1, 2.0],
    "and below": [0.5, -1.0, 1.5, 1.0, -0.1, 2.0],
    "and at zero": [0.5, 1.0, 0.0, 1.0, 0.1, 2.0],
    "and both": [0.5, -1.0, 0.0, 1.0, -0.1, 2.0],
}


def block(channels: int = 3, pool: dict[str, Any] | None = None, **options: Any) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, FILTERS, **{"kernel_size": 3, "padding": 1, **options}),
        nn.BatchNorm2d(FILTERS, eps=1e-3),
        nn.MaxPool2d(**{"kernel_size": 2, **(pool or {})}),
        nn.ReLU(),
    )


def with_head(*blocks: nn.Module, size: int = 11) -> nn.Sequential:
    """Blocks and a head in float64."""
    backbone = nn.Sequential(*blocks, nn.Flatten()).double()
    n_features = backbone(torch.zeros(2, 3, size, size).double()).shape[1]
    return nn.Sequential(backbone, nn.Linear(n_features, N_WAY).double())


def set_norms(network: nn.Module, weights: list[float]) -> None:
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.normal_(norm.bias)
            norm.weight.data = torch.tensor(weights).to(norm.bias.dtype)


def by_hand(network: nn.Module, images: Tensor, labels: Tensor, direction: Tensor) -> list[Tensor]:
    """Loss, gradient and product."""
    chain = Chain.of(network)
    assert chain is not None
    parameters = joined(value.detach() for value in network.parameters())
    done = chain(parameters, images, labels, twice=True)
    return [done.loss, done.gradient, done.product(direction)]


def torchs(network: nn.Module, images: Tensor, labels: Tensor, direction: Tensor) -> list[Tensor]:
    """The same; in training mode the network uses the batch's norms."""
    parameters = list(network.train().parameters())
    loss = functional.cross_entropy(network(images), labels)
    slope = joined(torch.autograd.grad(loss, parameters, create_graph=True))
    found = [loss, slope, joined(torch.autograd.grad(slope @ direction, parameters))]
    return [each.detach() for each in found]


NETWORKS = {
    "two blocks": lambda: with_head(block(), block(FILTERS)),
    "no bias": lambda: with_head(block(bias=False), block(FILTERS, bias=False)),
    "the last row is pooled alone": lambda: with_head(block(pool={"ceil_mode": True})),
    "windows that overlap": lambda: with_head(
        block(pool={"kernel_size": 3, "stride": 2, "padding": 1}), block(FILTERS)
    ),
    "a stride": lambda: with_head(block(stride=2)),
    "a dilation": lambda: with_head(block(), block(FILTERS, dilation=2, pool={"stride": 1})),
    "groups": lambda: with_head(block(), block(FILTERS, groups=2)),
    "kernels that are not square": lambda: with_head(
        block(kernel_size=(1, 5), padding=(0, 2)),
        block(FILTERS, kernel_size=(3, 1), padding=(1, 0)),
    ),
    "even kernels": lambda: with_head(block(kernel_size=2), block(FILTERS, kernel_size=4)),
    "without batch norm": lambda: with_head(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3)),
    "a deep head": lambda: nn.Sequential(
        with_head(block()), nn.ReLU(), nn.Linear(N_WAY, 5), nn.ReLU(), nn.Linear(5, N_WAY)
    ).double(),
}


@pytest.mark.usefixtures("_both_ways_to_convolve")
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_derivatives_are_torchs(network, weights, layout):
    network = network()
    set_norms(network, weights)
    images = torch.randn(N_IMAGES, 3, 11, 11).double().contiguous(memory_format=layout)
    labels = torch.tensor([0, 1, 2, 0])
    direction = joined(torch.randn_like(value) for value in network.parameters())
    found = by_hand(network, images, labels, direction)
    for own, expected in zip(found, torchs(network, images, labels, direction), strict=True):
        torch.testing.assert_close(own, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("n_images", [5, 25])
def test_in_float32_they_are_those_of_float64(n_images):
    """The kernels are others, and training has this precision."""
    network = nn.Sequential(
        build({"name": "conv4", "filters": 32, "bias": True}, 32), new_head(128, 5)
    )
    exact = copy.deepcopy(network).double()
    # Smooth at these images: no two values of a window are as close as float32's rounding.
    images, labels = torch.randn(n_images, 3, 32, 32), torch.arange(5).repeat(n_images // 5)
    images = images.contiguous(memory_format=torch.channels_last)
    direction = joined(torch.randn_like(value) for value in network.parameters())
    found = by_hand(network, images, labels, direction)
    for own, expected in zip(
        found, torchs(exact, images.double(), labels, direction.double()), strict=True
    ):
        assert (own - expected).norm() < 1e-3 * expected.norm()


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
def test_maxima_that_tie_go_to_the_first_as_in_torch(weights):
    """Images that are of one colour in large parts have many."""
    x = torch.randint(3, (2, FILTERS, 6, 6)).double()
    w, b = torch.tensor(weights).double(), torch.randn(FILTERS).double()
    own = PooledNorm(1e-3, (2, 2, 0, 1, False), x, w, b)
    images = x.clone().requires_grad_()
    y = functional.max_pool2d(
        functional.batch_norm(images, None, None, w, b, training=True, eps=1e-3), 2
    )
    g = torch.randn_like(y)
    torch.testing.assert_close(own.y, y.detach())
    torch.testing.assert_close(own.backward(g, True)[0], torch.autograd.grad(y, images, g)[0])


def test_a_product_needs_what_was_kept_and_uses_it_up():
    network = with_head(block())
    chain, images, labels = Chain.of(network), torch.randn(2, 3, 11, 11).double(), torch.arange(2)
    parameters = joined(value.detach() for value in network.parameters())
    with pytest.raises(RuntimeError, match="was not asked for, or was taken"):
        chain(parameters, images, labels).product(parameters)
    done = chain(parameters, images, labels, twice=True)
    done.product(parameters)
    with pytest.raises(RuntimeError, match="was not asked for, or was taken"):
        done.product(parameters)


class Shortcut(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class Doubled(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


OTHERS = {
    "batch norm without a pool behind it": [nn.BatchNorm2d(3), nn.ReLU()],
    "batch norm at the end": [nn.BatchNorm2d(3)],
    "batch norm without parameters": [nn.BatchNorm2d(3, affine=False), nn.MaxPool2d(2)],
    "a pool of its own": [nn.MaxPool2d(2)],
    "padding by name": [nn.Conv2d(3, 3, 3, padding="same")],
    "circular padding": [nn.Conv2d(3, 3, 3, padding_mode="circular")],
    "no biases in a linear layer": [nn.Linear(3, 3, bias=False)],
    "leaky ReLU": [nn.LeakyReLU()],
    "a sequence with a shortcut": [Shortcut(nn.ReLU())],
    "a convolution of another kind": [Doubled(3, 3, 3)],
}


@pytest.mark.parametrize("layers", OTHERS.values(), ids=OTHERS)
def test_other_layers_are_no_chain(layers):
    assert Chain.of(nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU())) is not None
    assert Chain.of(nn.Sequential(nn.Conv2d(3, 3, 3), *layers)) is None


def test_a_chain_begins_with_a_convolution():
    assert Chain.of(nn.Sequential(nn.ReLU(), nn.Conv2d(3, 3, 3))) is None
    assert Chain.of(nn.Sequential()) is None


@pytest.mark.parametrize(
    ("name", "statistics", "by_hand"),
    [
        ("conv4", "batch", True),
        ("conv4", "running", False),
        ("r2d2", "batch", False),
        ("resnet12", "batch", False),
    ],
)
def test_the_four_block_network_is_differentiated_by_hand(name, statistics, by_hand):
    backbone = build({"name": name, "width": 0.1}, 32)
    n_features = backbone.eval()(torch.zeros(1, 3, 32, 32)).shape[1]
    network = Network(backbone, new_head(n_features, 5), running=statistics == "running")
    assert (network.chain is not None) is by_hand
