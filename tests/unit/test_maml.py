"""MAML and FOMAML: their gradients, their inner steps, the scale of the released code."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from pipeline.data.packed import Packed
from pipeline.training import loop
from pipeline.training.inner import for_each_episode, one_by_one
from pipeline.training.tasks import episodes


@pytest.fixture
def started(tiny_settings, packed):
    """A MAML training in float64, before its first step; and the episodes of that step."""

    def start(run="maml_1shot", **training):
        settings = tiny_settings(run, inner_lr=0.1, **training)
        algorithm = loop.start(settings, Packed.open(packed), torch.device("cpu"))
        algorithm.rates = algorithm.rates.double()
        task, own = algorithm.task, algorithm.run
        support, query = (part.double() for part in episodes(task, own, own.n_query, 0))
        labels, truth = (
            torch.arange(own.n_way).repeat_interleave(count).expand(own.meta_batch, -1)
            for count in (own.n_shot, own.n_query)
        )
        return algorithm, (support, labels, query, truth)

    return start


def parameters_of(algorithm) -> Tensor:
    return algorithm.network.read().double()


def query_loss(algorithm, parameters: Tensor, support, labels, query, truth) -> Tensor:
    """Of one episode after the inner steps, with plain autograd."""
    for _ in range(algorithm.run.inner_steps):
        loss = algorithm.network.loss(parameters, support, labels)
        (slope,) = torch.autograd.grad(loss, parameters, create_graph=True)
        parameters = parameters - algorithm.rates * slope
    return algorithm.network.loss(parameters, query, truth)


@pytest.mark.parametrize("run", ["maml_1shot", "maml_5shot", "fomaml_1shot", "fomaml_5shot"])
def test_the_tasks_of_a_meta_batch_give_the_same_together_and_one_by_one(run, started):
    results = []
    for together in (False, True):
        algorithm, episodes = started(run, batching="together" if together else "loop")
        parameters = parameters_of(algorithm).expand(2, -1)
        results.append(
            for_each_episode(algorithm._episode, parameters, *episodes, together=together)
        )
    for found, together in zip(*results, strict=True):
        torch.testing.assert_close(found, together, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("adapt_batch_norm", [False, True])
def test_the_gradient_goes_through_the_inner_steps(adapt_batch_norm, started):
    algorithm, episodes = started(adapt_batch_norm=adapt_batch_norm)
    episode = [part[0] for part in episodes]
    parameters = parameters_of(algorithm).requires_grad_()
    (expected,) = torch.autograd.grad(query_loss(algorithm, parameters, *episode), parameters)
    slope, _ = algorithm._episode(one_by_one, parameters.detach(), *episode)
    torch.testing.assert_close(slope, expected, rtol=1e-9, atol=1e-12)


def test_the_gradient_is_that_of_finite_differences(started):
    algorithm, episodes = started()
    episode = [part[0] for part in episodes]
    parameters = parameters_of(algorithm)
    slope, _ = algorithm._episode(one_by_one, parameters, *episode)
    random = torch.Generator().manual_seed(0)
    for _ in range(5):
        direction = torch.randn(len(parameters), generator=random, dtype=torch.float64)
        step = 1e-7 * direction
        up, down = (
            query_loss(algorithm, (parameters + sign * step).requires_grad_(), *episode).detach()
            for sign in (1, -1)
        )
        assert float((up - down) / 2e-7) == pytest.approx(float(slope @ direction), rel=1e-4)


def test_the_first_order_gradient_is_that_at_the_adapted_parameters(started):
    algorithm, episodes = started("fomaml_1shot")
    support, labels, query, truth = (part[0] for part in episodes)
    network, parameters = algorithm.network, parameters_of(algorithm)
    for _ in range(algorithm.run.inner_steps):
        slope = one_by_one(network, parameters, support, labels).gradient
        parameters = parameters - algorithm.rates * slope
    expected = one_by_one(network, parameters, query, truth).gradient
    found, _ = algorithm._episode(one_by_one, parameters_of(algorithm), *(p[0] for p in episodes))
    torch.testing.assert_close(found, expected)


def test_first_and_second_order_differ(started):
    slopes = []
    for first_order in (False, True):
        algorithm, episodes = started(first_order=first_order)
        slopes.append(
            algorithm._episode(one_by_one, parameters_of(algorithm), *(p[0] for p in episodes))[0]
        )
    assert (slopes[0] - slopes[1]).norm() > 0.01 * slopes[0].norm()


def test_inner_steps_leave_batch_norm_to_the_outer_loop_unless_told_otherwise(started):
    for adapt_batch_norm in (False, True):
        algorithm, _ = started(adapt_batch_norm=adapt_batch_norm)
        norms = algorithm.network.of_norms.bool()
        assert norms.any()
        moved = torch.tensor([0.1, 0.1 if adapt_batch_norm else 0.0])
        assert (algorithm.rates.float() == moved[norms.long()]).all()


@pytest.mark.parametrize("n_shot", [1, 5])
def test_the_inner_rate_is_the_released_one(n_shot, started):
    """0.05 on the mean loss moves as 0.01 does on the released sum over examples by K, 5-way."""
    algorithm, (support, labels, *_) = started(f"maml_{n_shot}shot")
    network, parameters = algorithm.network, parameters_of(algorithm)
    mean = one_by_one(network, parameters, support[0], labels[0]).gradient
    logits = network.logits(parameters.requires_grad_(), support[0])
    total = functional.cross_entropy(logits, labels[0], reduction="sum")
    (released,) = torch.autograd.grad(total / n_shot, parameters)
    torch.testing.assert_close(0.05 * mean, 0.01 * released)


def test_the_outer_gradient_is_the_mean_and_clipped_on_the_released_scale(started, monkeypatch):
    """The released loss is the sum over queries by the number of shots."""
    applied = []
    for clip in (None, 0.5):
        algorithm, _ = started("maml_5shot", clip=clip)
        monkeypatch.setattr(algorithm.network, "descend", lambda slope, *_: applied.append(slope))
        algorithm.rates = algorithm.rates.float()
        algorithm.step(0)
    whole, clipped = applied
    run = algorithm.run
    released = whole * run.n_way * run.n_query / run.n_shot
    expected = released.clamp(-0.5, 0.5) * run.n_shot / (run.n_way * run.n_query)
    assert 0.01 < float((released.abs() > 0.5).double().mean()) < 0.99
    torch.testing.assert_close(clipped, expected)
