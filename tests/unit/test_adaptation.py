"""Fine-tuning of the whole network: what it starts from, what it moves, how far, and to what."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from pipeline.analysis.adaptation import filter_distance, fine_tune
from pipeline.config.evaluation import Adaptation
from pipeline.data.augmentation import Normalisation
from pipeline.data.episodes import Episodes, sample
from pipeline.data.packed import Packed
from pipeline.errors import UserError
from pipeline.models.embedding import build
from pipeline.streams import generator
from pipeline.training import adaptation
from pipeline.training.adaptation import FineTuner, Initial, correct
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
def on_episodes(packed):
    """A function of fine-tuning, called with a few episodes of generated novel classes."""
    data = Packed.open(packed)
    images = torch.from_numpy(np.array(data.images("novel")))

    def run(function, initial, n_episodes=5, n_shot=1, n_query=4, **options):
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
        return function(initial, tuned, images, Normalisation(), episodes, seed=3)

    return run


@pytest.fixture
def count(on_episodes):
    return partial(on_episodes, correct)


@pytest.fixture
def tune(on_episodes):
    return partial(on_episodes, fine_tune)


def tuner(initial: Initial, **options) -> FineTuner:
    return FineTuner(initial, Adaptation(**{"lr": 0.1, "steps": 2, **options}), 3, CPU)


def logits(own: FineTuner, support, query, randoms):
    return own.classify(own.descend(own.start(randoms), support, randoms), support, query)


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
    found = logits(tuner(initial), support, query, randoms)
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
    found = logits(tuner(initial, **options), support, query, randoms)
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
    starts = own.start([generator(0, "heads", i) for i in range(200)])
    weights = own.network.parts(starts)["head.weight"]
    scale = expected * (4 / n_features) ** 0.5
    assert float(weights.std()) == pytest.approx(scale, rel=0.05)
    assert not own.network.parts(starts)["head.bias"].any()
    assert torch.equal(own.start([generator(0, "heads", 7)])[0], starts[7])
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
    loop, together = (logits(own, support, query, randoms) for *_, randoms, own in results)
    torch.testing.assert_close(loop, together, rtol=1e-7, atol=1e-9)


def test_an_episode_does_not_depend_on_those_around_it(tune, monkeypatch):
    initial = model()
    whole, some = (vars(tune(initial, n_episodes=n)) for n in (6, 4))
    assert all(torch.equal(some[name], whole[name][:4]) for name in whole)
    monkeypatch.setattr(adaptation, "EPISODES", 1)
    alone = vars(tune(initial, n_episodes=6))
    assert all(torch.equal(alone[name], whole[name]) for name in whole)


@pytest.mark.parametrize(
    ("statistics", "depends"), [("transductive", True), ("inductive", False), ("running", False)]
)
def test_whether_a_query_is_classified_alone(statistics, depends):
    own = tuner(model(head=3), statistics=statistics)
    support, query, randoms = draw()
    first = logits(own, support, query, randoms)
    second = logits(own, support, torch.cat([query[:, :1], 5 * query[:, 1:]], 1), randoms)
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


@pytest.mark.parametrize("function", [correct, fine_tune])
def test_logits_that_are_not_finite_are_refused(function, on_episodes):
    with pytest.raises(UserError, match=r"not finite after fine-tuning; lower lr"):
        on_episodes(function, model(), lr=1e30)


# What fine-tuning does beside answering


def by_hand(x, y, conv, shift, head, bias, lr, steps):
    """Of convolutions of one pixel: losses before and after, and parameters after."""

    def forward():
        features = x @ conv.T + shift
        odds = np.exp(features @ head.T + bias)
        chances = odds / odds.sum(1, keepdims=True)
        return features, chances, -np.log((chances * y).sum(1)).mean()

    before = forward()[-1]
    for _ in range(steps):
        features, chances, _ = forward()
        wrong = (chances - y) / len(x)
        back = wrong @ head
        head, bias = head - lr * wrong.T @ features, bias - lr * wrong.sum(0)
        conv, shift = conv - lr * back.T @ x, shift - lr * back.sum(0)
    return before, forward()[-1], conv, head


@pytest.mark.parametrize("batching", ["loop", "together"])
def test_travel_is_that_of_a_network_worked_out_by_hand(batching):
    """A convolution of one pixel to two channels, and a head: biases are moved but not counted."""
    backbone, head = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten()), nn.Linear(2, 2)
    pixels = np.random.default_rng(0).integers(0, 256, (6, 1, 1, 3), dtype=np.uint8)
    episodes = Episodes(np.array([[[0, 1], [2, 3]]]), np.array([[[4], [5]]]))
    options = Adaptation(lr=0.5, steps=3, batching=batching)
    found = fine_tune(
        Initial(backbone, 2, head),
        options,
        torch.from_numpy(pixels),
        Normalisation(),
        episodes,
        seed=0,
    )
    start, shift, rows, bias = (
        part.detach().double().numpy() for part in (*backbone.parameters(), *head.parameters())
    )
    start = start.reshape(2, 3)
    x, y = pixels[:4].reshape(4, 3) / 255, np.eye(2).repeat(2, 0)
    before, after, conv, moved_rows = by_hand(x, y, start, shift, rows, bias, 0.5, 3)
    relative = [
        ((to - at) ** 2).sum() / (at**2).sum()
        for at, to in zip([*start, *rows], [*conv, *moved_rows], strict=True)
    ]
    assert float(found.loss_before) == pytest.approx(before, rel=1e-5)
    assert float(found.loss_after) == pytest.approx(after, rel=1e-5)
    assert float(found.length) == pytest.approx(((conv - start) ** 2).sum() ** 0.5, rel=1e-4)
    assert float(found.distance) == pytest.approx(sum(relative[:2]) ** 0.5, rel=1e-4)
    assert float(found.distance_with_head) == pytest.approx(sum(relative) ** 0.5, rel=1e-4)


def test_steps_too_small_to_move_anything_go_nowhere(tune):
    for options in ({}, {"optimizer": "adam", "batch_size": 3}):
        found = tune(model(), lr=1e-30, **options)
        for far in (found.distance, found.distance_with_head, found.length):
            assert not far.any()
        assert torch.equal(found.loss_before, found.loss_after)


def test_steps_lower_the_loss_on_the_support(tune):
    found = tune(model("r2d2"), n_shot=5, steps=20)
    assert (found.loss_after < found.loss_before / 2).all()
    assert (found.distance > 0).all()


def parts(*scales: float):
    """Parameters of two episodes: filters of a convolution, each times a scale, and a head."""
    random = torch.Generator().manual_seed(0)
    scale = torch.tensor(scales)
    conv = torch.randn(2, len(scales), 3, 3, 3, generator=random) * scale[:, None, None, None]
    return {"conv": conv, "head": torch.randn(2, 5, 7, generator=random)}


def test_a_distance_does_not_depend_on_the_scale_of_any_filter():
    """Batch norm undoes the scale of a filter: a network of scaled filters is the same network."""
    before, moved = parts(1, 1, 1), {name: part.flip(0) for name, part in parts(1, 1, 1).items()}
    expected = filter_distance(moved, before, ["conv", "head"])
    scaled_before, scaled_moved = dict(before), dict(moved)
    for scaled in (scaled_before, scaled_moved):
        scaled["conv"] = scaled["conv"] * torch.tensor([0.25, 16, 1024]).view(3, 1, 1, 1)
    assert torch.equal(filter_distance(scaled_moved, scaled_before, ["conv", "head"]), expected)
    assert not torch.allclose(filter_distance(moved, scaled_before, ["conv", "head"]), expected)


def test_each_filter_moved_by_its_own_norm_is_a_distance_of_one():
    before = parts(0.1, 1, 10)
    moved = {name: part.flip(2) for name, part in before.items()}
    for names, n in ((["conv"], 3), (["head"], 5), (["conv", "head"], 8)):
        assert filter_distance(moved, before, names).tolist() == pytest.approx(2 * [n**0.5])


def test_a_filter_that_is_zero_at_the_start_is_left_out(tune):
    before, moved = parts(1, 0, 1), parts(1, 1, 1)
    others = {"conv": before["conv"][:, [0, 2]]}, {"conv": moved["conv"][:, [0, 2]]}
    expected = filter_distance(others[1], others[0], ["conv"])
    assert torch.equal(filter_distance(moved, before, ["conv"]), expected)
    initial = model()
    with torch.no_grad():
        next(part for part in initial.backbone.parameters() if part.ndim == 4)[1] = 0
    found = tune(initial)
    assert found.distance.isfinite().all()


@pytest.mark.parametrize(
    ("head", "options", "counted"),
    [
        (5, {}, True),
        (5, {"new_head": "zero"}, True),
        (5, {"new_head": "zero", "head": "new"}, False),
        (None, {}, True),
        (None, {"new_head": "zero"}, False),
    ],
)
def test_the_rows_of_a_head_that_starts_at_zero_have_no_distance(head, options, counted, tune):
    found = tune(model(head=head), **options)
    assert (found.distance_with_head is not None) == counted
    if counted:
        assert (found.distance_with_head > found.distance).all()


@pytest.mark.parametrize("statistics", ["transductive", "inductive", "running"])
def test_losses_are_of_the_whole_support_normalised_as_in_the_steps(statistics, on_episodes):
    """By its own statistics, whoever the queries are normalised with, or by those of the run."""
    initial, seen = model(head=5), []

    def watched(start, options, images, normalisation, episodes, seed):
        seen.append(images[torch.from_numpy(episodes.support).flatten(1)])
        return fine_tune(start, options, images, normalisation, episodes, seed)

    found = on_episodes(watched, initial, n_shot=3, batch_size=4, statistics=statistics)
    backbone = copy.deepcopy(initial.backbone).train(statistics != "running")
    labels = torch.arange(5).repeat_interleave(3)
    for loss, images in zip(found.loss_before, seen[0], strict=True):
        with torch.no_grad():
            scores = initial.head(backbone(images.permute(0, 3, 1, 2) / 255))
        torch.testing.assert_close(loss, functional.cross_entropy(scores, labels))


@pytest.mark.parametrize(
    "options", [{}, {"optimizer": "adam", "batch_size": 4}], ids=["sgd", "adam"]
)
@pytest.mark.parametrize("statistics", ["transductive", "running"])
def test_travel_is_the_same_together_and_one_by_one(options, statistics, tune):
    initial = model(head=5, moments=True)
    loop, together = (
        vars(tune(initial, batching=batching, statistics=statistics, lr=0.01, **options))
        for batching in ("loop", "together")
    )
    assert loop.keys() == together.keys()
    for name in loop.keys() - {"correct"}:
        torch.testing.assert_close(loop[name], together[name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("moments", [False, True])
def test_what_else_is_measured_changes_no_count_and_costs_a_validation_nothing(
    moments, on_episodes, monkeypatch
):
    passes, each = [], FineTuner.each

    def counted(*arguments):
        passes.append(1)
        return each(*arguments)

    monkeypatch.setattr(FineTuner, "each", counted)
    initial, options = model(head=5, moments=moments), {"optimizer": "adam", "batch_size": 3}
    counts = on_episodes(correct, initial, **options)
    assert len(passes) == 1
    assert torch.equal(on_episodes(fine_tune, initial, **options).correct, counts)
    assert len(passes) == 1 + 3
