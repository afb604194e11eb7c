"""Fine-tuning of the whole network: what it starts from, what it moves, and how it classifies."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from pipeline.config.evaluation import Adaptation
from pipeline.data.augmentation import Normalisation
from pipeline.data.episodes import sample
from pipeline.data.packed import Packed
from pipeline.errors import UserError
from pipeline.models.embedding import build
from pipeline.streams import generator
from pipeline.training import adaptation
from pipeline.training.adaptation import Initial, correct
from pipeline.training.inner import Network, SecondMoments, adam, minibatches, new_head

CPU = torch.device("cpu")
SIZE = 16
BACKBONES = {
    "conv4": {"name": "conv4", "filters": 4, "bias": True},
    "r2d2": {"name": "r2d2", "width": 0.05},
    "resnet12": {"name": "resnet12", "width": 0.05},
}


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def model(backbone: str = "conv4", head: int | None = None, *, moments: bool = False) -> Initial:
    """A model with statistics, and the head and moments that some runs leave."""
    net = build(BACKBONES[backbone], SIZE)
    net.train()(torch.rand(32, 3, SIZE, SIZE))
    n_features = net.eval()(torch.zeros(1, 3, SIZE, SIZE)).shape[1]
    own = None if head is None else new_head(n_features, head)
    if not moments or own is None:
        return Initial(net, n_features, own)
    remembered = SecondMoments(Network(net, own).read())
    remembered.squares.uniform_(0.1, 1)
    remembered.steps.fill_(20)
    return Initial(net, n_features, own, remembered)


@pytest.fixture
def count(packed):
    """Counts of right answers on a few episodes of generated novel classes."""
    data = Packed.open(packed)
    images = torch.from_numpy(np.array(data.images("novel")))

    def run(initial: Initial, n_episodes: int = 5, n_shot: int = 1, n_query: int = 4, **options):
        episodes = sample(
            data.labels("novel"),
            n_way=5,
            n_shot=n_shot,
            n_query=n_query,
            n_episodes=n_episodes,
            seed=0,
            stream="adaptation",
        )
        tuned = Adaptation(**{"lr": 0.05, "steps": 3, "n_query": n_query, **options})
        return correct(initial, tuned, images, Normalisation(), episodes, seed=3)

    return run


def tuner(initial: Initial, **options):
    return adaptation._FineTuner(initial, Adaptation(**{"lr": 0.1, "steps": 2, **options}), 3, CPU)


def draw(n_episodes: int = 2, n_support: int = 6, n_query: int = 4, dtype=torch.float32):
    shape = (3, SIZE, SIZE)
    return (
        torch.rand(n_episodes, n_support, *shape, dtype=dtype),
        torch.rand(n_episodes, n_query, *shape, dtype=dtype),
        [generator(0, "adaptation", i) for i in range(n_episodes)],
    )


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("statistics", ["transductive", "inductive", "running"])
def test_any_backbone_can_be_fine_tuned(backbone, statistics, count):
    counts = count(model(backbone), statistics=statistics)
    assert counts.shape == (5,)
    assert ((counts >= 0) & (counts <= 20)).all()


def test_fine_tuning_learns_the_support(count):
    """Generated classes are easy: a few steps are much better than chance."""
    initial = model("r2d2")
    untuned = count(initial, n_episodes=10, n_shot=5, lr=1e-9)
    tuned = count(initial, n_episodes=10, n_shot=5, steps=20)
    assert tuned.double().mean() > untuned.double().mean() + 2


def test_sgd_is_the_plain_loop():
    initial = model(head=3)
    support, query, randoms = draw()
    labels = torch.arange(3).repeat_interleave(2)
    found = tuner(initial).logits(support, query, randoms)
    network = Network(initial.backbone, initial.head)
    for i in range(2):
        own = network.read().requires_grad_()
        for _ in range(2):
            loss = functional.cross_entropy(network.logits(own, support[i]), labels)
            (slope,) = torch.autograd.grad(loss, own)
            own = (own - 0.1 * slope).detach().requires_grad_()
        torch.testing.assert_close(found[i], network.logits(own, query[i]), rtol=1e-4, atol=1e-5)


def test_adam_starts_from_the_moments_that_the_run_left_and_leaves_them():
    initial = model(head=3, moments=True)
    before = copy.deepcopy(initial.moments.state_dict())
    support, query, randoms = draw(n_episodes=1)
    options = {"optimizer": "adam", "batch_size": 4, "lr": 0.01}
    found = tuner(initial, **options).logits(support, query, randoms)
    network = Network(initial.backbone, initial.head)
    own, squares, steps = network.read()[None], before["squares"][None], before["steps"]
    labels = torch.arange(3).repeat_interleave(2)
    for batch in minibatches(6, 4, 2, generator(0, "adaptation", 0)):
        place = own[0].clone().requires_grad_()
        loss = functional.cross_entropy(network.logits(place, support[0][batch]), labels[batch])
        (slope,) = torch.autograd.grad(loss, place)
        own, squares = adam(own, slope[None], squares, steps, 0.01)
        steps = steps + 1
    torch.testing.assert_close(found[0], network.logits(own[0], query[0]), rtol=1e-4, atol=1e-5)
    assert all(
        torch.equal(value, before[name]) for name, value in initial.moments.state_dict().items()
    )


def test_a_head_is_replaced_if_asked_for_or_of_another_number_of_classes_and_its_moments_with_it():
    fitting, other = tuner(model(head=3, moments=True)), tuner(model(head=4, moments=True))
    assert not fitting.is_new
    assert fitting.moments.squares.any()
    assert other.is_new
    asked_for = tuner(model(head=3, moments=True), head="new")
    assert asked_for.is_new
    assert not asked_for.moments.squares.any()
    assert not other.moments.squares.any()


@pytest.mark.parametrize(("new_head_", "expected"), [("kaiming", (2 / 4) ** 0.5), ("zero", 0.0)])
def test_new_heads_are_drawn_for_each_episode(new_head_, expected):
    own = tuner(model(), new_head=new_head_)
    n_features = own.network.shapes["head.weight"][1]
    starts = own._start([generator(0, "heads", i) for i in range(200)])
    weights = own.network.parts(starts)["head.weight"]
    scale = expected * (4 / n_features) ** 0.5
    assert float(weights.std()) == pytest.approx(scale, rel=0.05)
    assert not own.network.parts(starts)["head.bias"].any()
    assert torch.equal(own._start([generator(0, "heads", 7)])[0], starts[7])
    if expected:
        assert not torch.equal(starts[0], starts[1])


@pytest.mark.parametrize(
    "options", [{}, {"optimizer": "adam", "batch_size": 4}], ids=["sgd", "adam"]
)
@pytest.mark.parametrize("statistics", ["transductive", "inductive", "running"])
def test_episodes_run_together_as_they_run_one_by_one(options, statistics):
    initial = model(head=3, moments=True)
    for module in (initial.backbone, initial.head, initial.moments):
        module.double()
    results = []
    for batching in ("loop", "together"):
        support, query, randoms = draw(dtype=torch.float64)
        torch.manual_seed(1)
        own = tuner(initial, batching=batching, statistics=statistics, **options)
        results.append((support, query, randoms, own))
    support, query, _, _ = results[0]
    loop, together = (own.logits(support, query, randoms) for *_, randoms, own in results)
    torch.testing.assert_close(loop, together, rtol=1e-7, atol=1e-9)


def test_an_episode_does_not_depend_on_those_around_it(count, monkeypatch):
    initial = model()
    whole = count(initial, n_episodes=6)
    assert torch.equal(count(initial, n_episodes=4), whole[:4])
    monkeypatch.setattr(adaptation, "EPISODES", 1)
    assert torch.equal(count(initial, n_episodes=6), whole)


@pytest.mark.parametrize(
    ("statistics", "depends"), [("transductive", True), ("inductive", False), ("running", False)]
)
def test_whether_a_query_is_classified_alone(statistics, depends):
    own = tuner(model(head=3), statistics=statistics)
    support, query, randoms = draw()
    first = own.logits(support, query, randoms)
    second = own.logits(support, torch.cat([query[:, :1], 5 * query[:, 1:]], 1), randoms)
    assert torch.allclose(first[:, 0], second[:, 0], rtol=1e-4, atol=1e-5) != depends


def test_batch_norm_may_be_left_out():
    for adapt_batch_norm in (True, False):
        own = tuner(model(head=3), adapt_batch_norm=adapt_batch_norm)
        norms = own.network.of_norms.bool()
        assert own.moves[~norms].all()
        assert bool(own.moves[norms].any()) == adapt_batch_norm


def test_the_model_is_left_as_it_was(count):
    initial = model(head=5, moments=True)
    parts = nn.ModuleList([initial.backbone, initial.head, initial.moments])
    before = copy.deepcopy(parts.state_dict())
    for options in ({}, {"optimizer": "adam"}, {"statistics": "running"}):
        count(initial, **options)
    assert all(torch.equal(value, before[name]) for name, value in parts.state_dict().items())


def test_logits_that_are_not_finite_are_refused(count):
    with pytest.raises(UserError, match=r"not finite after fine-tuning; lower lr"):
        count(model(), lr=1e30)
