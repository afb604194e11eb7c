"""The support vector machine is the solution of its problem, says so, and has its gradient."""

import sys
import warnings

import clarabel
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC
from torch import Tensor
from torch.nn import functional

from pipeline.errors import UserError
from pipeline.heads import crammer_singer, svm, svm_qpth

SHAPES = [(2, 1), (5, 1), (3, 4), (5, 5)]
each_shape = pytest.mark.parametrize(("n_way", "n_shot"), SHAPES)


def episodes(
    n_way: int,
    n_shot: int,
    *,
    n_episodes: int = 3,
    n_query: int = 3,
    squared_norm: float = 100.0,
    n_features: int = 40,
    seed: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Features of overlapping classes with a common mean, in float64, and one-hot labels.

    Shapes are (episode, way * shot, feature), (episode, way * query, feature) and
    (episode, way * shot, way).
    """
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    centres = 1 + 0.5 * normal(n_episodes, n_way, 1, n_features)
    images = centres + normal(n_episodes, n_way, n_shot + n_query, n_features)
    images *= (squared_norm / images.square().sum(-1).mean()).sqrt()
    support, query = images.split([n_shot, n_query], 2)
    labels = functional.one_hot(torch.arange(n_way).repeat_interleave(n_shot), n_way)
    expanded = labels.to(images.dtype).expand(n_episodes, -1, -1)
    return support.flatten(1, 2), query.flatten(1, 2), expanded


def products(support: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
    return support @ support.mT, query @ support.mT


def objective(alpha: Tensor, gram: Tensor, labels: Tensor, jitter: float = 1.0) -> Tensor:
    return (alpha * ((gram @ alpha + jitter * alpha) / 2 - labels)).sum((-2, -1))


def exact(gram: Tensor, labels: Tensor, C: float = 0.1, jitter: float = 1.0) -> Tensor:
    """An interior point method's solutions, from problems written out in full."""
    solver = clarabel.DefaultSettings()
    solver.verbose = False
    solver.tol_gap_abs = solver.tol_gap_rel = solver.tol_feas = 1e-12
    solutions = []
    for kernel, classes in zip(gram.numpy(), labels.numpy(), strict=True):
        n_support, n_way = classes.shape
        # Of a size near 1, whatever that of the features.
        size = kernel.trace() / n_support + jitter
        kernel = (kernel + jitter * np.eye(n_support)) / size
        quadratic = sparse.kron(sparse.csc_matrix(kernel), sparse.eye(n_way))
        sums = sparse.kron(sparse.eye(n_support), np.ones((1, n_way)))
        cones = [clarabel.ZeroConeT(n_support), clarabel.NonnegativeConeT(classes.size)]
        solution = clarabel.DefaultSolver(
            sparse.triu(quadratic, format="csc"),
            -classes.ravel(),
            sparse.vstack([sums, sparse.eye(classes.size)], format="csc"),
            np.concatenate([np.zeros(n_support), C * size * classes.ravel()]),
            cones,
            solver,
        ).solve()
        solutions.append(np.reshape(solution.x, classes.shape) / size)
    return torch.from_numpy(np.stack(solutions))


def assert_feasible(alpha: Tensor, labels: Tensor, C: float) -> None:
    torch.testing.assert_close(
        alpha.sum(-1), torch.zeros_like(alpha[..., 0]), rtol=0, atol=1e-12 + 1e-12 * C
    )
    assert (alpha <= C * labels + 1e-15).all()


# Oracles


@each_shape
@pytest.mark.parametrize("squared_norm", [0.1, 10.0, 1000.0])
def test_alpha_is_that_of_an_exact_solver(n_way: int, n_shot: int, squared_norm: float) -> None:
    support, query, labels = episodes(n_way, n_shot, squared_norm=squared_norm)
    gram, _ = products(support, query)
    alpha, gap = crammer_singer.solve(gram, labels)
    expected = exact(gram, labels)
    tolerance = 1e-5 * float(expected.abs().max())
    torch.testing.assert_close(alpha, expected, rtol=0, atol=tolerance)
    assert (gap < 1e-12).all()


@pytest.mark.parametrize(("n_way", "n_shot"), [(5, 1), (5, 5)])
@pytest.mark.parametrize("squared_norm", [1.0, 300.0])
def test_queries_get_the_class_of_an_exact_solver(
    n_way: int, n_shot: int, squared_norm: float
) -> None:
    support, query, labels = episodes(
        n_way, n_shot, n_episodes=150, n_query=15, squared_norm=squared_norm
    )
    gram, query_support = products(support.float(), query.float())
    actual = svm.logits(gram, query_support, labels.float()).argmax(-1)
    expected = (query_support.double() @ exact(gram.double(), labels)).argmax(-1)
    assert (actual == expected).double().mean() > 0.999


@each_shape
def test_logits_are_those_of_qpth(n_way: int, n_shot: int) -> None:
    support, query, labels = episodes(n_way, n_shot)
    inputs = *products(support, query), labels
    expected = svm_qpth.logits(*inputs, max_iter=30)
    torch.testing.assert_close(svm.logits(*inputs), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("n_way", "n_shot"), [(3, 1), (5, 1), (5, 5)])
@pytest.mark.parametrize("C", [0.1, 1.0])
def test_weights_are_those_of_liblinear(n_way: int, n_shot: int, C: float) -> None:
    support, query, labels = episodes(n_way, n_shot, n_episodes=1, squared_norm=10)
    gram, query_support = products(support, query)
    # The jitter of 1 is a feature of its own for each support image, which no query has.
    features = np.hstack([support[0].numpy(), np.eye(n_way * n_shot)])
    machine = LinearSVC(
        multi_class="crammer_singer", fit_intercept=False, C=C, tol=1e-9, max_iter=10**6
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        machine.fit(features, labels[0].argmax(-1).numpy())
    weights = torch.from_numpy(machine.coef_[:, : support.shape[-1]])
    expected = query @ weights.T
    actual = svm.logits(gram, query_support, labels, C=C)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


# The certificate


@settings(max_examples=40, deadline=None)
@given(
    shape=st.sampled_from(SHAPES),
    squared_norm=st.floats(-3, 5).map(lambda power: 10**power),
    C=st.floats(-4, 2).map(lambda power: 10**power),
    seed=st.integers(0, 1000),
)
def test_alpha_is_feasible_and_its_gap_small(
    shape: tuple[int, int], squared_norm: float, C: float, seed: int
) -> None:
    support, query, labels = episodes(*shape, squared_norm=squared_norm, seed=seed)
    alpha, gap = crammer_singer.solve(products(support, query)[0], labels, C=C)
    assert_feasible(alpha, labels, C)
    assert (gap <= crammer_singer.TOLERANCE).all()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """One step of each kind, which is too few."""
    monkeypatch.setattr(crammer_singer, "NEWTON_STEPS", {"cpu": 1})
    monkeypatch.setattr(crammer_singer, "iterations", lambda n_support: 1)


@pytest.mark.usefixtures("hasty")
def test_the_gap_bounds_what_is_left_to_gain() -> None:
    support, query, labels = episodes(5, 5, n_episodes=30)
    gram, _ = products(support, query)
    alpha, gap = crammer_singer.dual(gram, labels, C=0.1, jitter=1.0)
    assert_feasible(alpha, labels, 0.1)
    solution = exact(gram, labels)
    gain = objective(alpha, gram, labels) - objective(solution, gram, labels)
    absolute_gap = gap * (labels * alpha).sum((-2, -1))
    assert (gain > 1e-6).any()
    assert (gain <= absolute_gap + 1e-12).all()
    distance = (alpha - solution).square().sum((-2, -1))
    assert (distance / 2 <= absolute_gap + 1e-12).all()


@pytest.mark.usefixtures("hasty")
def test_an_answer_that_is_not_good_enough_is_refused() -> None:
    support, query, labels = episodes(5, 5, n_episodes=30)
    gram, query_support = products(support, query)
    _, gap = crammer_singer.dual(gram, labels, C=0.1, jitter=1.0)
    bad = gap > crammer_singer.TOLERANCE
    assert bad.any()
    with pytest.raises(UserError, match=r"episodes .* after 1 Newton steps: .* gap .* 1e-08"):
        crammer_singer.solve(gram, labels)
    logits = svm.logits(gram, query_support, labels)
    unusable = gap > svm.USABLE
    assert unusable.any()
    assert logits[unusable].isnan().all()
    assert logits[~unusable].isfinite().all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -1000.0])
def test_no_answer_is_given_where_there_is_none(value: float) -> None:
    support, query, labels = episodes(3, 4)
    gram, query_support = products(support, query)
    expected = svm.logits(gram, query_support, labels)
    gram[1, 2, 2] = value
    actual = svm.logits(gram, query_support, labels)
    assert actual[1].isnan().all()
    torch.testing.assert_close(actual[[0, 2]], expected[[0, 2]])
    with pytest.raises(UserError, match="1 of 3 episodes"):
        crammer_singer.solve(gram, labels)


@pytest.mark.parametrize("options", [{"C": 0.0}, {"C": -1.0}, {"jitter": 0.0}, {"C": np.nan}])
def test_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    support, query, labels = episodes(2, 1)
    with pytest.raises(UserError, match="C and jitter must be above 0"):
        svm.logits(*products(support, query), labels, **options)


# Episodes that are hard


def alike(support: Tensor) -> Tensor:
    return support[:, :1].expand_as(support)


def twins(support: Tensor) -> Tensor:
    """The first image a second time in its own class, if that has more, and in the last one."""
    copied = support.clone()
    copied[:, 1] = copied[:, -1] = copied[:, 0]
    return copied


def flat(support: Tensor) -> Tensor:
    return support * (torch.arange(support.shape[-1]) == 0)


@pytest.mark.parametrize("spoil", [alike, twins, flat, torch.zeros_like])
@each_shape
@pytest.mark.parametrize(
    ("squared_norm", "C"),
    [(1e-6, 0.1), (1.0, 0.1), (1e3, 0.1), (1e5, 0.1), (1.0, 1e-8), (1e3, 1e-6), (1e3, 100.0)],
)
def test_degenerate_episodes_are_solved(
    spoil: object, n_way: int, n_shot: int, squared_norm: float, C: float
) -> None:
    assert callable(spoil)
    support, query, labels = episodes(n_way, n_shot, squared_norm=squared_norm)
    gram, query_support = products(spoil(support), query)
    alpha, _ = crammer_singer.solve(gram, labels, C=C)
    assert_feasible(alpha, labels, C)
    assert svm.logits(gram, query_support, labels, C=C).isfinite().all()


@pytest.mark.parametrize("squared_norm", [1e-6, 1.0, 1e3, 1e5])
def test_single_precision_solves_large_and_small_features(squared_norm: float) -> None:
    support, query, labels = episodes(5, 5, squared_norm=squared_norm, n_episodes=20)
    gram, query_support = products(support.float(), query.float())
    actual = svm.logits(gram, query_support, labels.float())
    assert actual.dtype == torch.float32
    # The same problem: a Gram matrix of rounded numbers is another one's.
    expected = svm.logits(gram.double(), query_support.double(), labels)
    tolerance = 1e-5 * float(expected.abs().max())
    torch.testing.assert_close(actual, expected.float(), rtol=1e-4, atol=tolerance)


def test_all_features_scaled_is_another_c_and_jitter() -> None:
    support, query, labels = episodes(5, 5, squared_norm=1.0)
    gram, _ = products(support, query)
    expected, _ = crammer_singer.solve(gram, labels, C=1000.0, jitter=1e-4)
    actual, _ = crammer_singer.solve(1e4 * gram, labels, C=0.1, jitter=1.0)
    torch.testing.assert_close(1e4 * actual, expected)


def test_easy_and_hard_episodes_share_a_batch() -> None:
    norms = [1e-6, 1e-2, 1.0, 30.0, 1e3, 1e5]
    parts = [episodes(5, 5, n_episodes=1, squared_norm=norm, seed=3) for norm in norms]
    support, query, labels = (torch.cat(each) for each in zip(*parts, strict=True))
    gram, query_support = products(support, query)
    batched = svm.logits(gram, query_support, labels)
    for i in range(len(norms)):
        here = slice(i, i + 1)
        alone = svm.logits(gram[here], query_support[here], labels[here])
        torch.testing.assert_close(batched[here], alone)


def test_all_steps_of_a_gpu_lead_where_a_cpu_stops_early(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    support, query, labels = episodes(5, 5, n_episodes=20, squared_norm=1e3)
    inputs = *products(support, query), labels
    expected = svm.logits(*inputs)
    monkeypatch.setattr(crammer_singer, "STOPS_EARLY", set())
    steps = {"cpu": crammer_singer.NEWTON_STEPS["cuda"]}
    monkeypatch.setattr(crammer_singer, "NEWTON_STEPS", steps)
    torch.testing.assert_close(svm.logits(*inputs), expected)


# Gradients


def gradient(head: object, support: Tensor, query: Tensor, labels: Tensor) -> Tensor:
    """Of a cross-entropy with respect to the support's features."""
    assert callable(head)
    support = support.detach().requires_grad_()
    logits = head(*products(support, query), labels)
    truth = torch.arange(logits.shape[-1]).repeat_interleave(logits.shape[1] // logits.shape[-1])
    loss = functional.cross_entropy(logits.flatten(0, 1), truth.repeat(len(logits)))
    return torch.autograd.grad(loss, support)[0]


@pytest.mark.parametrize("squared_norm", [1.0, 100.0, 10_000.0])
def test_gradients_are_those_of_finite_differences(squared_norm: float) -> None:
    support, query, labels = episodes(5, 5, n_episodes=1, squared_norm=squared_norm)
    support.requires_grad_()
    query.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda s, q: svm.logits(*products(s, q), labels), (support, query), fast_mode=True
    )


def test_gradients_are_those_of_qpth() -> None:
    support, query, labels = episodes(5, 5, squared_norm=30.0)
    actual = gradient(svm.logits, support, query, labels)
    expected = gradient(
        lambda *inputs: svm_qpth.logits(*inputs, max_iter=30), support, query, labels
    )
    # As near as qpth comes, which holds its slacks and multipliers above 1e-8.
    assert (actual - expected).norm() < 1e-3 * expected.norm()


@pytest.mark.parametrize("squared_norm", [1.0, 1e3])
def test_single_precision_suffices_for_gradients(squared_norm: float) -> None:
    inputs = episodes(5, 5, n_episodes=8, n_query=6, squared_norm=squared_norm)
    expected = gradient(svm.logits, *inputs)
    actual = gradient(svm.logits, *(each.float() for each in inputs))
    assert actual.dtype == torch.float32
    assert (actual - expected).norm() < 1e-3 * expected.norm()


# qpth


def test_qpth_stopped_early_is_not_the_solution_and_says_nothing(
    capfd: pytest.CaptureFixture[str],
) -> None:
    support, query, labels = episodes(5, 5)
    inputs = *products(support, query), labels
    hasty = svm_qpth.logits(*inputs, max_iter=3)
    assert hasty.isfinite().all()
    assert not torch.allclose(hasty, svm.logits(*inputs), rtol=1e-3)
    assert tuple(capfd.readouterr()) == ("", "")


def test_without_qpth_the_user_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "qpth.qp", None)
    support, query, labels = episodes(2, 1)
    with pytest.raises(UserError, match="pip install qpth"):
        svm_qpth.logits(*products(support, query), labels)
