"""Gradient steps on single episodes: against plain autograd, torch's Adam, and closed forms."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from pipeline.training.inner import (
    Network,
    adam,
    func,
    gradients,
    minibatches,
    new_head,
    one_by_one,
    settle_statistics,
)

N_WAY = 3


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def network(dtype: torch.dtype = torch.float64, **options) -> Network:
    """A small network with all that a real one has: dropout, batch norm, pooling, a head."""
    backbone = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.5),
        nn.Conv2d(4, 5, 3, padding=1),
        nn.BatchNorm2d(5),
        nn.LeakyReLU(0.1),
        nn.Flatten(),
    )
    return Network(backbone.to(dtype), new_head(5 * 4 * 4, N_WAY).to(dtype), **options)


def episodes(n: int = 2, images: int = 6, dtype: torch.dtype = torch.float64):
    labels = torch.arange(N_WAY).repeat(images // N_WAY).expand(n, -1)
    return torch.randn(n, images, 3, 8, 8, dtype=dtype), labels


def plain_logits(net: Network, parameters: Tensor, images: Tensor) -> Tensor:
    """The network of ``network`` written out, with batch statistics and without dropout."""
    p = list(net.parts(parameters).values())
    x = functional.conv2d(images, p[0], p[1], padding=1)
    x = functional.batch_norm(x, None, None, p[2], p[3], training=True)
    x = functional.max_pool2d(functional.relu(x), 2)
    x = functional.conv2d(x, p[4], p[5], padding=1)
    x = functional.batch_norm(x, None, None, p[6], p[7], training=True)
    return functional.leaky_relu(x, 0.1).flatten(1) @ p[8].T + p[9]


def test_the_network_is_its_layers_with_batch_statistics_and_no_dropout():
    net = network()
    (images,), _ = episodes(1)
    parameters = net.read()
    expected = plain_logits(net, parameters, images)
    torch.testing.assert_close(net.logits(parameters, images), expected)


def test_running_statistics_are_used_if_asked_for():
    net = network(running=True)
    (images,), _ = episodes(1)
    backbone, head = net._parts
    backbone[1].running_mean.normal_()
    net = Network(backbone, head, running=True)
    expected = head(copy.deepcopy(backbone).eval()(images))
    torch.testing.assert_close(net.logits(net.read(), images), expected)


def test_the_backbone_is_left_as_it_was():
    net = network()
    before = copy.deepcopy(net._parts.state_dict())
    images, labels = episodes()
    gradients(net, net.read().expand(2, -1), images, labels, together=False)
    after = net._parts.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_parts_are_the_parameters_in_order_and_norms_are_marked():
    net = network()
    names = [name for name, _ in net._parts.named_parameters()]
    assert list(net.parts(net.read())) == names
    for (name, own), part in zip(
        net._parts.named_parameters(), net.parts(net.read()).values(), strict=True
    ):
        assert torch.equal(own, part), name
    marked = {name for name, part in net.parts(net.of_norms).items() if part.all()}
    assert marked == {f"backbone.{place}.{kind}" for place in (1, 6) for kind in ("weight", "bias")}
    assert net.of_norms.sum() == sum(net.shapes[name][0] for name in marked)


@pytest.mark.parametrize("together", [False, True], ids=["loop", "together"])
def test_gradients_are_those_of_plain_autograd(together):
    net = network()
    images, labels = episodes()
    parameters = net.read().repeat(2, 1)
    parameters[1] += 0.1
    slopes, losses = gradients(net, parameters, images, labels, together=together)
    for i in range(2):
        own = parameters[i].clone().requires_grad_()
        loss = functional.cross_entropy(plain_logits(net, own, images[i]), labels[i])
        loss.backward()
        torch.testing.assert_close(losses[i], loss.detach())
        torch.testing.assert_close(slopes[i], own.grad)


@pytest.mark.parametrize("differentiate", [one_by_one, func])
def test_products_with_the_hessian_are_those_of_plain_autograd(differentiate):
    net = network()
    (images, *_), (labels, *_) = episodes()
    parameters, direction = net.read(), torch.randn(len(net.read()), dtype=torch.float64)
    own = parameters.clone().requires_grad_()
    loss = functional.cross_entropy(plain_logits(net, own, images), labels)
    (slope,) = torch.autograd.grad(loss, own, create_graph=True)
    (expected,) = torch.autograd.grad(slope @ direction, own)
    found = differentiate(net, parameters, images, labels, twice=True)
    torch.testing.assert_close(found.gradient, slope.detach())
    torch.testing.assert_close(found.product(direction), expected)


def test_products_that_were_not_asked_for_are_refused():
    net = network()
    (images, *_), (labels, *_) = episodes()
    with pytest.raises(RuntimeError, match="were not asked for"):
        one_by_one(net, net.read(), images, labels).product(net.read())


# Adam without momentum


def torch_adam(start: Tensor, slopes: list[Tensor], lr: float) -> Tensor:
    own = nn.Parameter(start.clone())
    optimizer = torch.optim.Adam([own], lr, betas=(0.0, 0.999))
    for slope in slopes:
        own.grad = slope
        optimizer.step()
    return own.detach()


def test_adam_is_torchs_without_momentum():
    start, slopes = torch.randn(7).double(), torch.randn(5, 7).double()
    parameters, squares = start[None], torch.zeros(1, 7).double()
    for step, slope in enumerate(slopes):
        parameters, squares = adam(parameters, slope[None], squares, torch.tensor(step), 0.1)
    torch.testing.assert_close(parameters[0], torch_adam(start, list(slopes), 0.1))


def test_shared_moments_are_handed_from_episode_to_episode():
    """As if one Adam had seen the episodes' gradients one after the other."""
    start, slopes = torch.randn(3, 7).double(), torch.randn(3, 7).double()
    before = torch.rand(7).double()
    moved, squares = adam(start, slopes, before, torch.tensor(10), 0.1)
    expected_squares, steps = before[None], torch.tensor(10)
    for i in range(3):
        expected, expected_squares = adam(
            start[i : i + 1], slopes[i : i + 1], expected_squares, steps, 0.1
        )
        steps = steps + 1
        torch.testing.assert_close(moved[i : i + 1], expected)
    torch.testing.assert_close(squares, expected_squares[0])


# Inner batches


@settings(max_examples=50, deadline=None)
@given(
    n_images=st.integers(1, 30),
    batch_size=st.integers(1, 30),
    steps=st.integers(1, 20),
    seed=st.integers(0, 9),
)
def test_images_come_again_only_when_all_have_come(n_images, batch_size, steps, seed):
    batches = minibatches(n_images, batch_size, steps, np.random.default_rng(seed))
    assert batches.shape == (steps, min(batch_size, n_images))
    order = batches.ravel()
    for start in range(0, len(order) - n_images + 1, n_images):
        assert sorted(order[start : start + n_images]) == list(range(n_images))


def test_a_batch_reaches_over_two_shuffles():
    """75 images in batches of 10: the eighth has the last five, and five of the next round."""
    batches = minibatches(75, 10, 9, np.random.default_rng(0))
    assert len({*batches[:7].ravel(), *batches[7, :5]}) == 75
    assert len({*batches[7, 5:], *batches[8]}) == 15


def test_without_a_batch_size_each_step_sees_all_images():
    batches = minibatches(4, None, 3, np.random.default_rng(0))
    assert batches.tolist() == [[0, 1, 2, 3]] * 3


# Batch norm statistics


def test_settled_statistics_are_means_over_batches():
    backbone = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.5), nn.Conv2d(3, 2, 1), nn.ReLU())
    backbone[0].running_mean.fill_(100)
    batches = [torch.randn(4, 3, 5, 5) + i for i in range(3)]
    settle_statistics(backbone, batches)
    means = torch.stack([batch.mean((0, 2, 3)) for batch in batches]).mean(0)
    variances = torch.stack([batch.var((0, 2, 3)) for batch in batches]).mean(0)
    torch.testing.assert_close(backbone[0].running_mean, means)
    torch.testing.assert_close(backbone[0].running_var, variances)
    assert backbone[0].momentum == 0.1
    assert not any(module.training for module in backbone.modules())
