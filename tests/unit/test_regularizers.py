"""R_FC and R_HV: literal formulas, the values that theory expects, and what may not happen."""

import math
from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pipeline.regularizers import feature_clustering, hyperplane_variation

FORMS = ["printed", "released"]
MEASURES: dict[str, Callable[[Tensor], Tensor]] = {
    "r_fc printed": feature_clustering.ratio,
    "r_fc released": feature_clustering.per_pair,
    "r_hv printed": hyperplane_variation.printed,
    "r_hv released": hyperplane_variation.released,
}

each_module = pytest.mark.parametrize(
    "module", [feature_clustering, hyperplane_variation], ids=["r_fc", "r_hv"]
)
each_form = pytest.mark.parametrize("form", FORMS)
each_measure = pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)


def normal(*shape: int, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=random, dtype=torch.float64)


def literal_r_fc(features: Tensor, epsilon: float = 0.0) -> float:
    """Equation of section 4.4 for features (class, image, feature)."""
    classes: list[list[list[float]]] = features.tolist()
    n_classes, n_images, n_features = features.shape
    centres = [
        [sum(image[f] for image in images) / n_images for f in range(n_features)]
        for images in classes
    ]
    centre = [sum(each[f] for each in centres) / n_classes for f in range(n_features)]
    within = sum(
        math.dist(image, centres[i]) ** 2 for i, images in enumerate(classes) for image in images
    )
    between = sum(math.dist(each, centre) ** 2 for each in centres)
    return n_classes / n_images * within / (between + epsilon)


def literal_r_hv(features: Tensor) -> float:
    """Equation of section 4.5 for features (2 classes, 2 images, feature)."""
    (x1, x2), (y1, y2) = features.tolist()
    first = [a - b for a, b in zip(x1, y1, strict=True)]
    second = [a - b for a, b in zip(x2, y2, strict=True)]
    return math.dist(first, second) / (math.hypot(*first) + math.hypot(*second))


def mean_norm(features: Tensor) -> Tensor:
    """Of the two differences between the classes: (pair,)."""
    differences = features[:, 0] - features[:, 1]
    return differences.square().sum(-1).sqrt().mean(-1)


@st.composite
def pairs(draw: st.DrawFn) -> Tensor:
    """Pairs of classes, (pair, 2, 2, feature), coincidences and equal coordinates included."""
    n_pairs, n_features = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    count = n_pairs * 4 * n_features
    number = st.one_of(st.integers(-3, 3).map(float), st.floats(-1000, 1000, width=16))
    values = draw(st.lists(number, min_size=count, max_size=count))
    return torch.tensor(values, dtype=torch.float64).view(n_pairs, 2, 2, n_features)


@pytest.mark.parametrize("shape", [(2, 2, 3), (5, 4, 3), (64, 2, 1), (3, 7, 2)])
def test_printed_r_fc_is_the_formula(shape: tuple[int, int, int]) -> None:
    features = normal(4, *shape)
    expected = [literal_r_fc(batch) for batch in features]
    assert feature_clustering.ratio(features).tolist() == pytest.approx(expected, rel=1e-12)


def test_released_r_fc_is_the_formula_for_each_pair() -> None:
    features = normal(5, 2, 2, 3)
    expected = [literal_r_fc(pair, epsilon=1e-6) for pair in features]
    assert feature_clustering.per_pair(features).tolist() == pytest.approx(expected, rel=1e-12)


def test_printed_r_hv_is_the_formula() -> None:
    features = normal(5, 2, 2, 3)
    expected = [literal_r_hv(pair) for pair in features]
    assert hyperplane_variation.printed(features).tolist() == pytest.approx(expected, rel=1e-12)


@settings(max_examples=100, deadline=None)
@given(pairs())
def test_released_r_hv_is_twice_the_printed_squared(features: Tensor) -> None:
    """Up to the 1e-4 that the released code adds to the mean norm."""
    norm = mean_norm(features)
    printed = hyperplane_variation.printed(features[norm > 0])
    expected = torch.zeros_like(norm)
    expected[norm > 0] = (2 * printed * (norm / (norm + 1e-4))[norm > 0]).square()
    released = hyperplane_variation.released(features)
    torch.testing.assert_close(released, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("s_over_d", "r_fc", "r_hv_released", "r_hv_printed"),
    [
        (0.25, 0.800, 0.667, 0.408),
        (0.475, 1.288, 0.974, 0.494),
        (0.85, 1.838, 1.259, 0.561),
        (2.7, 2.919, 1.688, 0.649),
        (8.5, 3.579, 1.889, 0.687),
        (66, 3.940, 1.985, 0.704),
    ],
)
def test_isotropic_gaussians_give_what_theory_expects(
    noise: Tensor, s_over_d: float, r_fc: float, r_hv_released: float, r_hv_printed: float
) -> None:
    """R_FC = 4s/(D + s) and R_HV = 4s/(D + 2s), where s is the variance and D the distance."""
    features = noise.clone()
    features[:, 0, :, 0] += s_over_d**-0.5
    measured = [
        float(measure(features).mean())
        for measure in (
            feature_clustering.per_pair,
            hyperplane_variation.released,
            hyperplane_variation.printed,
        )
    ]
    assert measured == pytest.approx([r_fc, r_hv_released, r_hv_printed], abs=0.004)


@pytest.fixture(scope="module")
def noise() -> Tensor:
    """Pairs of classes without a difference, each class of total variance one.

    The three ways to make two classes of four images are all taken: what one lets vary
    within classes, another lets vary between them, so most of the sampling error cancels.
    Theory is the limit of many features: 2,000 would still add 0.004 to the largest R_FC.
    """
    n_features = 20_000
    random = torch.Generator().manual_seed(0)
    images: Tensor = torch.randn(50, 4, n_features, generator=random) / n_features**0.5
    ways = torch.tensor([[[0, 1], [2, 3]], [[0, 2], [1, 3]], [[0, 3], [1, 2]]])
    return images[:, ways].flatten(0, 1)


@settings(max_examples=100, deadline=None)
@given(pairs())
def test_no_measure_is_negative_and_r_hv_is_bounded(features: Tensor) -> None:
    released = hyperplane_variation.released(features)
    assert (feature_clustering.per_pair(features) >= 0).all()
    assert (released >= 0).all()
    assert (released <= 4 + 1e-12).all()
    printed = hyperplane_variation.printed(features[mean_norm(features) > 0])
    assert (printed >= 0).all()
    assert (printed <= 1 + 1e-12).all()


@each_measure
def test_classes_without_variance_give_zero(measure: Callable[[Tensor], Tensor]) -> None:
    features = normal(5, 2, 1, 3).expand(-1, -1, 2, -1)
    assert measure(features).tolist() == [0.0] * 5


def test_opposite_differences_give_the_largest_r_hv() -> None:
    features = torch.tensor([[[[1.0], [-1.0]], [[-1.0], [1.0]]]], dtype=torch.float64)
    assert hyperplane_variation.printed(features).tolist() == [1.0]


@each_measure
def test_translations_do_not_matter(measure: Callable[[Tensor], Tensor]) -> None:
    features = normal(5, 2, 2, 3)
    torch.testing.assert_close(measure(features + normal(3, seed=1)), measure(features))


@each_measure
def test_rotations_and_reflections_do_not_matter(measure: Callable[[Tensor], Tensor]) -> None:
    features = normal(5, 2, 2, 3)
    orthogonal = torch.linalg.qr(normal(3, 3, seed=1)).Q
    torch.testing.assert_close(measure(features @ orthogonal), measure(features))
    torch.testing.assert_close(measure(features @ -orthogonal), measure(features))


@each_measure
@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_the_scale_does_not_matter(measure: Callable[[Tensor], Tensor], factor: float) -> None:
    """While features are large against what the released code adds to its denominators."""
    features = 1e4 * normal(5, 2, 2, 3)
    scaled = measure(factor * features)
    torch.testing.assert_close(scaled, measure(features), rtol=1e-3, atol=0)


@each_measure
def test_the_order_of_classes_does_not_matter(measure: Callable[[Tensor], Tensor]) -> None:
    features = normal(5, 2, 2, 3)
    torch.testing.assert_close(measure(features.flip(1)), measure(features))


@each_module
def test_the_released_penalty_is_the_mean_over_pairs(module: ModuleType) -> None:
    features = normal(5, 2, 2, 3)
    one_by_one = [float(module.penalty(pair[None], "released")) for pair in features]
    expected = sum(one_by_one) / len(one_by_one)
    assert float(module.penalty(features, "released")) == pytest.approx(expected)


def test_the_printed_penalties_are_one_ratio_and_a_mean() -> None:
    features = normal(5, 2, 2, 3)
    classes = features.reshape(10, 2, 3)
    r_fc = float(feature_clustering.penalty(features, "printed"))
    r_hv = float(hyperplane_variation.penalty(features, "printed"))
    assert r_fc == pytest.approx(literal_r_fc(classes), rel=1e-5)
    assert r_hv == pytest.approx(sum(map(literal_r_hv, features)) / 5)


@each_module
@each_form
def test_gradients_are_those_of_finite_differences(module: ModuleType, form: str) -> None:
    """So nothing, neither a mean nor a denominator, is held constant."""
    features = normal(3, 2, 2, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: module.penalty(x, form), (features,))


COINCIDENCES: dict[str, list[list[int]]] = {
    "two images of a class": [[0, 0], [1, 2]],
    "two images of different classes": [[0, 1], [0, 2]],
    "the images of each class": [[0, 0], [1, 1]],
    "both classes": [[0, 1], [0, 1]],
    "all images": [[0, 0], [0, 0]],
}


@each_module
@each_form
@pytest.mark.parametrize("which", COINCIDENCES.values(), ids=COINCIDENCES)
def test_gradients_are_finite_where_images_coincide(
    module: ModuleType, form: str, which: list[list[int]]
) -> None:
    images = normal(3, 8).float().requires_grad_()
    value = module.penalty(images[torch.tensor(which)][None], form)
    value.backward()
    assert value.isfinite()
    assert images.grad is not None
    assert images.grad.isfinite().all()
