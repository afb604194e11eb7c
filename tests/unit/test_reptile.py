"""Reptile and Weight-Clustering: the outer step, the order of tasks, the pull to their mean."""

import pytest
import torch

from pipeline.data.packed import Packed
from pipeline.streams import generator
from pipeline.training import loop, reptile
from pipeline.training.inner import gradients, minibatches
from pipeline.training.reptile import distance_to_mean
from pipeline.training.tasks import episodes

CPU = torch.device("cpu")


@pytest.fixture
def started(tiny_settings, packed):
    def start(run="reptile", **training):
        return loop.start(tiny_settings(run, **training), Packed.open(packed), CPU)

    return start


def after(algorithm, steps: int = 3):
    """All that a training knows after some steps."""
    for index in range(steps):
        algorithm.step(index)
    return algorithm.modules.state_dict()


def assert_same_bits(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def test_one_task_and_one_step_are_one_step_of_adam(tiny_settings, packed):
    settings = tiny_settings("reptile", inner_steps=1, lr_factors={0: 1.0}, lr=1.0)
    settings["algorithm"]["meta_batch"] = 1
    algorithm = loop.start(settings, Packed.open(packed), CPU)
    own = algorithm.network
    start = own.read()
    images, _ = episodes(algorithm.task, algorithm.run, 0, 0)
    labels = torch.arange(5).repeat_interleave(algorithm.run.n_shot)
    random = generator(algorithm.task.seed, "inner batches", 0)
    batch = torch.from_numpy(minibatches(len(labels), algorithm.run.batch_size, 1, random)[0])
    slopes, _ = gradients(own, start[None], images[:, batch], labels[batch][None], together=False)
    expected = torch.nn.Parameter(start.clone())
    adam = torch.optim.Adam([expected], algorithm.run.inner_lr, betas=(0.0, 0.999))
    expected.grad = slopes[0]
    adam.step()
    algorithm.step(0)
    torch.testing.assert_close(own.read(), expected.detach(), rtol=1e-5, atol=1e-7)


def test_the_outer_step_goes_part_of_the_way_to_the_mean_of_the_tasks(started):
    ends = []
    for lr in (1.0, 0.25):
        algorithm = started(lr=lr, lr_factors={0: 1.0})
        start = algorithm.network.read()
        algorithm.step(0)
        ends.append(algorithm.network.read() - start)
    torch.testing.assert_close(ends[1], 0.25 * ends[0], rtol=1e-4, atol=1e-7)


def test_second_moments_are_never_reset(started):
    algorithm = started()
    algorithm.step(0)
    before = algorithm.moments.squares.clone()
    assert int(algorithm.moments.steps) == algorithm.run.meta_batch * algorithm.run.inner_steps
    algorithm.step(1)
    # A gradient adds a thousandth of its square; what was there shrinks by as much.
    assert (algorithm.moments.squares > 0.99 * before).all()


def test_without_a_pull_weight_clustering_is_reptile_in_lock_step(started):
    assert_same_bits(
        after(started("weight_clustering", coefficient=0)), after(started(order="lock_step"))
    )


def test_the_order_of_tasks_matters_through_shared_moments_alone(started):
    one_by_one, lock_step = (
        after(started(order=order, moments="per_task")) for order in ("one_by_one", "lock_step")
    )
    for name, value in one_by_one.items():
        torch.testing.assert_close(value, lock_step[name], rtol=1e-4, atol=1e-6)
    shared = after(started(order="lock_step"))
    assert not torch.equal(shared["moments.squares"], lock_step["moments.squares"])


@pytest.mark.parametrize("moments", ["shared", "per_task"])
@pytest.mark.parametrize("coefficient", [0, 0.1])
def test_tasks_run_together_as_they_run_one_by_one(moments, coefficient, started, monkeypatch):
    """In float64: the bias before a batch norm has no gradient but rounding, which Adam enlarges."""
    monkeypatch.setattr(reptile, "episodes", lambda *own: [x.double() for x in episodes(*own)])
    results = []
    for batching in ("loop", "together"):
        algorithm = started(
            "weight_clustering", moments=moments, coefficient=coefficient, batching=batching
        )
        algorithm.modules.double()
        results.append(after(algorithm))
    loops, together = results
    for name, value in loops.items():
        torch.testing.assert_close(value, together[name], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("distance", ["filter_normalised", "plain"])
@pytest.mark.parametrize("pull_vectors", [False, True])
def test_the_pull_is_the_gradient_of_the_squared_distance_to_the_mean(
    distance, pull_vectors, started
):
    """By autograd, with the mean and the filters' norms as constants; the constant is 2."""
    algorithm = started("weight_clustering", distance=distance, pull_vectors=pull_vectors)
    network = algorithm.network
    parameters = network.read().double() + 0.1 * torch.randn(
        4, len(network.read()), generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    parameters.requires_grad_()
    total = torch.zeros((), dtype=torch.float64)
    for name, value in network.parts(parameters).items():
        if value.ndim == 2 and not pull_vectors:
            continue
        difference = value - value.mean(0).detach()
        norm = torch.ones(())
        if distance == "filter_normalised":
            flat = value.detach().flatten(2) if value.ndim > 2 else value.detach()[..., None]
            norm = flat.norm(dim=2).view(*value.shape[:2], *[1] * (value.ndim - 2))
            norm = norm.where(norm > 0, torch.ones_like(norm))
        assert name.startswith(("backbone.", "head."))
        total = total + (difference / norm).square().sum()
    (expected,) = torch.autograd.grad(total, parameters)
    found = algorithm._away_from_mean(parameters.detach())
    torch.testing.assert_close(2 * found, expected)


@pytest.mark.parametrize("pull", ["gradient", "weights"])
def test_a_strong_pull_keeps_the_tasks_together(pull, started):
    """The more, the closer: in the metric that the log shows."""
    distances = {
        coefficient: started(
            "weight_clustering",
            meta_batch=4,
            inner_steps=8,
            coefficient=coefficient,
            pull=pull,
        ).step(0)["distance"]
        for coefficient in (0, 0.1)
    }
    assert 0 < distances[0.1] < distances[0]


def test_the_distance_to_the_mean_is_that_of_filters(started):
    network = started().network
    base = network.read()
    parameters = torch.stack([base, 3 * base])  # the mean is twice the base
    parts = network.parts(base)
    filters = sum(len(value) for value in parts.values() if value.ndim > 1)
    # Each filter is its own norm away from the mean, or a third of its norm.
    expected = (filters**0.5 + (filters / 9) ** 0.5) / 2
    assert float(distance_to_mean(network, parameters)) == pytest.approx(expected, rel=1e-5)


def test_a_run_leaves_statistics_of_the_base_classes(started):
    algorithm = started()
    algorithm.step(0)
    norms = [m for m in algorithm.modules.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert all((norm.running_mean == 0).all() for norm in norms)
    algorithm.finish()
    assert all((norm.running_mean != 0).any() for norm in norms)
