"""Every head keeps one contract and agrees with its textbook form; scoring loses nothing."""

import inspect
import pkgutil
from functools import partial
from importlib import import_module

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

import pipeline.heads
from pipeline.data.episodes import Episodes, sample
from pipeline.heads import prototypes, ridge
from pipeline.heads.scoring import CHUNK, Head, correct, gram, one_hot

MODULES = [
    import_module(f"pipeline.heads.{found.name}")
    for found in pkgutil.iter_modules(pipeline.heads.__path__)
]
HEADS: dict[str, Head] = {
    module.__name__.rpartition(".")[2]: module.logits
    for module in MODULES
    if hasattr(module, "logits")
}
HEADS["ridge, original"] = partial(ridge.logits, form="original")
# qpth stops at a tolerance of its own, and is slow.
PRECISE = {name: head for name, head in HEADS.items() if name != "svm_qpth"}
SHAPES = [(2, 1), (5, 1), (3, 4), (5, 5)]

each_head = pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
each_shape = pytest.mark.parametrize(("n_way", "n_shot"), SHAPES)


def task(
    n_way: int, n_shot: int, *, n_episodes: int = 3, n_query: int = 7, n_features: int = 6
) -> tuple[Tensor, Tensor, Tensor]:
    """Support and query features of random episodes, and labels in no particular order.

    Shapes are (episode, support, feature), (episode, query, feature) and
    (episode, support, way), all in float64.
    """
    random = torch.Generator().manual_seed(100 * n_way + n_shot)
    support, query = (
        torch.randn(n_episodes, count, n_features, generator=random, dtype=torch.float64)
        for count in (n_way * n_shot, n_query)
    )
    classes = torch.arange(n_way).repeat(n_shot)
    orders = [torch.randperm(len(classes), generator=random) for _ in range(n_episodes)]
    labels = torch.stack([classes[order] for order in orders])
    return support, query, functional.one_hot(labels, n_way).to(support.dtype)


def logits_of(head: Head, support: Tensor, query: Tensor, labels: Tensor) -> Tensor:
    return head(support @ support.mT, query @ support.mT, labels)


def primal_ridge(support: Tensor, query: Tensor, labels: Tensor, regularization: float) -> Tensor:
    """Ridge regression in the space of features: W = (X^T X + lambda I)^-1 X^T Y."""
    penalty = regularization * torch.eye(support.shape[-1], dtype=support.dtype)
    weights: Tensor = torch.linalg.solve(support.mT @ support + penalty, support.mT @ labels)
    return query @ weights


def squared_distances(support: Tensor, query: Tensor, labels: Tensor) -> Tensor:
    """Of queries to class means, each mean taken over the images of its class."""
    means = [
        torch.stack([images[of_class == 1].mean(0) for of_class in classes.T])
        for images, classes in zip(support, labels, strict=True)
    ]
    return torch.cdist(query, torch.stack(means)).square()


def test_the_heads_are_found() -> None:
    assert {"ridge", "svm", "svm_qpth", "prototypes"} <= set(HEADS)


@each_head
def test_a_head_needs_three_arguments_and_the_rest_are_named_options(head: Head) -> None:
    first, *options = list(inspect.signature(head).parameters.values())[2:]
    assert first.name == "labels"
    for option in options:
        assert option.kind is option.KEYWORD_ONLY
        assert option.default is not option.empty


@each_head
@each_shape
def test_the_order_of_the_support_does_not_matter(head: Head, n_way: int, n_shot: int) -> None:
    support, query, labels = task(n_way, n_shot)
    order = torch.randperm(n_way * n_shot, generator=torch.Generator().manual_seed(1))
    expected = logits_of(head, support, query, labels)
    actual = logits_of(head, support[:, order], query, labels[:, order])
    torch.testing.assert_close(actual, expected)


@each_head
@each_shape
def test_logits_follow_the_order_of_classes(head: Head, n_way: int, n_shot: int) -> None:
    support, query, labels = task(n_way, n_shot)
    order = torch.arange(n_way).roll(1)
    expected = logits_of(head, support, query, labels)[..., order]
    torch.testing.assert_close(logits_of(head, support, query, labels[..., order]), expected)


@each_head
@each_shape
def test_a_batch_is_its_episodes_one_by_one(head: Head, n_way: int, n_shot: int) -> None:
    support, query, labels = task(n_way, n_shot)
    batched = logits_of(head, support, query, labels)
    assert batched.shape == (3, 7, n_way)
    for i in range(3):
        here = slice(i, i + 1)
        alone = logits_of(head, support[here], query[here], labels[here])
        torch.testing.assert_close(batched[here], alone)


@each_head
@each_shape
def test_each_query_is_classified_alone(head: Head, n_way: int, n_shot: int) -> None:
    support, query, labels = task(n_way, n_shot)
    expected = logits_of(head, support, query, labels)[:, 2:3]
    torch.testing.assert_close(logits_of(head, support, query[:, 2:3], labels), expected)


@each_head
@each_shape
def test_gradients_are_those_of_finite_differences(head: Head, n_way: int, n_shot: int) -> None:
    support, query, labels = task(n_way, n_shot, n_episodes=1, n_query=2, n_features=3)
    support.requires_grad_()
    query.requires_grad_()
    assert torch.autograd.gradcheck(lambda s, q: logits_of(head, s, q, labels), (support, query))


@each_head
def test_inputs_are_left_as_they_were(head: Head) -> None:
    support, query, labels = task(3, 4)
    inputs = support @ support.mT, query @ support.mT, labels
    before = [each.clone() for each in inputs]
    head(*inputs)
    assert all(torch.equal(now, then) for now, then in zip(inputs, before, strict=True))


@pytest.mark.parametrize("head", PRECISE.values(), ids=PRECISE)
@each_shape
def test_single_precision_is_kept_and_suffices(head: Head, n_way: int, n_shot: int) -> None:
    support, query, labels = task(n_way, n_shot)
    expected = logits_of(head, support, query, labels).float()
    actual = logits_of(head, support.float(), query.float(), labels.float())
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


@each_head
@each_shape
def test_queries_near_one_class_are_given_it(head: Head, n_way: int, n_shot: int) -> None:
    support, _, labels = task(n_way, n_shot)
    centres = 20 * torch.eye(n_way, 6, dtype=torch.float64)
    scores = logits_of(head, support + labels @ centres, centres.expand(3, -1, -1), labels)
    assert torch.equal(scores.argmax(-1), torch.arange(n_way).expand(3, -1))


@settings(max_examples=30, deadline=None)
@given(regularization=st.floats(0.01, 1000), shape=st.sampled_from(SHAPES))
def test_ridge_is_its_primal_form(regularization: float, shape: tuple[int, int]) -> None:
    support, query, labels = task(*shape)
    actual = ridge.logits(
        support @ support.mT, query @ support.mT, labels, regularization=regularization
    )
    expected = primal_ridge(support, query, labels, regularization)
    torch.testing.assert_close(actual, expected, rtol=1e-7, atol=1e-9)


@each_shape
def test_ridge_has_the_lambda_of_metaoptnet(n_way: int, n_shot: int) -> None:
    support, query, labels = task(n_way, n_shot)
    actual = logits_of(ridge.logits, support, query, labels)
    torch.testing.assert_close(actual, primal_ridge(support, query, labels, 50.0))


@each_shape
def test_the_original_ridge_has_a_bias_and_a_lambda_for_each_image(n_way: int, n_shot: int) -> None:
    """Bertinetto's: X with a column of ones, both X and Y over the root of the number of images."""
    support, query, labels = task(n_way, n_shot)
    actual = logits_of(HEADS["ridge, original"], support, query, labels)
    with_ones = [torch.cat([each, torch.ones_like(each[..., :1])], -1) for each in (support, query)]
    n_images = n_way * n_shot
    root = n_images**0.5
    scaled = primal_ridge(with_ones[0] / root, with_ones[1], labels / root, 50.0)
    torch.testing.assert_close(actual, scaled)
    torch.testing.assert_close(actual, primal_ridge(*with_ones, labels, 50.0 * n_images))


def test_ridge_says_where_rounding_leaves_no_solution() -> None:
    support, query, labels = task(5, 5, n_features=4)
    gram, query_support = 1e20 * (support @ support.mT).float(), (query @ support.mT).float()
    gram[1] = torch.eye(25)
    found = ridge.logits(gram, query_support, labels.float())
    assert found[[0, 2]].isnan().all()
    assert found[1].isfinite().all()


@each_shape
def test_prototypes_are_nearest_class_means(n_way: int, n_shot: int) -> None:
    support, query, labels = task(n_way, n_shot)
    actual = logits_of(prototypes.logits, support, query, labels)
    expected = -squared_distances(support, query, labels)
    assert torch.equal(actual.argmax(-1), expected.argmax(-1))
    torch.testing.assert_close(actual - actual[..., :1], expected - expected[..., :1])


def test_prototypes_of_unequal_classes_are_means_too() -> None:
    support, query, _ = task(2, 3)
    classes = torch.tensor([[0, 1, 1, 1, 1, 0], [1, 1, 0, 1, 1, 1], [0, 0, 0, 0, 1, 0]])
    labels = functional.one_hot(classes, 2).double()
    actual = logits_of(prototypes.logits, support, query, labels)
    expected = -squared_distances(support, query, labels)
    torch.testing.assert_close(actual - actual[..., :1], expected - expected[..., :1])


# Below, at and above one and two blocks of 512 images.
each_size = pytest.mark.parametrize("n_images", [1, 2, 37, 511, 512, 513, 1024, 1025, 1537])
each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def features_of(n_images: int, dtype: torch.dtype) -> Tensor:
    random = torch.Generator().manual_seed(n_images)
    return torch.randn(n_images, 33, generator=random, dtype=torch.float64).to(dtype)


@each_size
@each_dtype
def test_gram_holds_all_inner_products(n_images: int, dtype: torch.dtype) -> None:
    features = features_of(n_images, dtype)
    products = gram(features)
    assert products.dtype == dtype
    expected = np.einsum("if,jf->ij", *2 * [features.double().numpy()], optimize=True)
    rounding = 50 * torch.finfo(dtype).eps
    np.testing.assert_allclose(products, expected, rtol=0, atol=33 * rounding)


@each_size
@each_dtype
def test_gram_is_exactly_symmetric(n_images: int, dtype: torch.dtype) -> None:
    products = gram(features_of(n_images, dtype))
    assert torch.equal(products, products.T)


def test_one_hot_labels_a_support_grouped_by_class() -> None:
    like = torch.empty(0, dtype=torch.float64)
    labels = one_hot(3, 2, like)
    assert labels.dtype == like.dtype
    expected = [[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]]
    assert labels.tolist() == [expected]


def naive_count(head: Head, features: Tensor, episodes: Episodes, index: int) -> int:
    """Right answers in one episode, from raw features, one query at a time."""
    n_way, n_shot = episodes.support.shape[1:]
    support = features[torch.from_numpy(episodes.support[index].reshape(-1))][None]
    labels = torch.zeros(1, n_way * n_shot, n_way, dtype=features.dtype)
    for place in range(n_way * n_shot):
        labels[0, place, place // n_shot] = 1
    count = 0
    for way in range(n_way):
        for image in episodes.query[index, way]:
            scores = logits_of(head, support, features[None, image, None], labels)
            count += int(scores.argmax()) == way
    return count


@pytest.mark.parametrize(
    ("n_episodes", "n_way", "n_shot", "n_query"),
    [
        (1, 5, 1, 2),
        (CHUNK - 1, 2, 2, 1),
        (CHUNK, 3, 1, 2),
        (CHUNK + 1, 3, 2, 1),
        (2 * CHUNK + 3, 2, 1, 2),
    ],
)
def test_correct_counts_what_a_loop_over_raw_features_counts(
    n_episodes: int, n_way: int, n_shot: int, n_query: int
) -> None:
    random = np.random.default_rng(n_episodes)
    labels = random.permutation(np.repeat(np.arange(6), 8))
    centres = random.standard_normal((6, 4))
    features = torch.from_numpy(centres[labels] + random.standard_normal((48, 4)))
    episodes = sample(
        labels,
        n_way=n_way,
        n_shot=n_shot,
        n_query=n_query,
        n_episodes=n_episodes,
        seed=0,
        stream="scoring",
    )
    counts = correct(gram(features), episodes, PRECISE)
    assert counts.keys() == PRECISE.keys()
    for name, head in PRECISE.items():
        expected = [naive_count(head, features, episodes, i) for i in range(n_episodes)]
        assert counts[name].tolist() == expected
