"""The pairs that the measures are taken over, the measures of them, and what these tend to."""

from itertools import combinations, permutations, product

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.analysis.clustering import (
    CHUNK,
    class_pairs,
    moments,
    pairwise,
    population,
    printed_r_fc,
)
from pipeline.regularizers import feature_clustering, hyperplane_variation

CPU = torch.device("cpu")
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(6), [4, 9, 2, 5, 6, 4]))


@pytest.fixture
def features() -> Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.randn(len(LABELS), 5, generator=random, dtype=torch.float64)


def test_a_pair_is_two_classes_with_two_images_of_each() -> None:
    pairs = class_pairs(LABELS, 500, seed=0, split="base")
    assert pairs.shape == (500, 2, 2)
    of = LABELS[pairs]
    assert (of[..., 0] == of[..., 1]).all()
    assert (of[:, 0] != of[:, 1]).any(-1).all()
    assert (pairs[..., 0] != pairs[..., 1]).all()


def test_every_class_and_every_image_takes_part() -> None:
    pairs = class_pairs(LABELS, 2000, seed=0, split="base")
    assert len(np.unique(np.sort(LABELS[pairs[..., 0]]), axis=0)) == 6 * 5 / 2
    assert len(np.unique(pairs[:, 0])) == len(np.unique(pairs[:, :, 0])) == len(LABELS)


def test_pairs_depend_on_seed_and_split_alone() -> None:
    pairs = class_pairs(LABELS, 300, seed=0, split="base")
    np.testing.assert_array_equal(class_pairs(LABELS, 300, seed=0, split="base"), pairs)
    np.testing.assert_array_equal(class_pairs(LABELS, 400, seed=0, split="base")[:300], pairs)
    assert not np.array_equal(class_pairs(LABELS, 300, seed=1, split="base"), pairs)
    assert not np.array_equal(class_pairs(LABELS, 300, seed=0, split="novel"), pairs)


@pytest.mark.parametrize("n_pairs", [1, CHUNK, CHUNK + 3])
def test_pairwise_holds_every_measure_of_every_pair(features: Tensor, n_pairs: int) -> None:
    pairs = class_pairs(LABELS, n_pairs, seed=0, split="base")
    naive: dict[str, list[float]] = {"r_fc_released": [], "r_hv_released": [], "r_hv_printed": []}
    for (x1, x2), (y1, y2) in pairs.tolist():
        pair = torch.stack([features[[x1, x2]], features[[y1, y2]]])[None]
        naive["r_fc_released"].append(float(feature_clustering.per_pair(pair)))
        naive["r_hv_released"].append(float(hyperplane_variation.released(pair)))
        naive["r_hv_printed"].append(float(hyperplane_variation.printed(pair)))
    measured = pairwise(features, pairs, CPU)
    assert measured.keys() == naive.keys()
    for name, expected in naive.items():
        assert measured[name].tolist() == pytest.approx(expected)
        assert float(measured[name].mean()) == pytest.approx(np.mean(expected))


def formula(classes: list[NDArray[np.float64]]) -> float:
    """R_FC of the paper for classes of equally many images, (image, feature) each."""
    centres = np.stack([images.mean(0) for images in classes])
    within = sum(float(((images - images.mean(0)) ** 2).sum()) for images in classes)
    between = float(((centres - centres.mean(0)) ** 2).sum())
    return len(classes) / len(classes[0]) * within / between


def test_printed_r_fc_is_one_ratio_over_all_classes(features: Tensor) -> None:
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(6), 5))
    classes = [features.numpy()[labels == one] for one in range(6)]
    found = printed_r_fc(moments(features, labels, CPU))
    assert float(found) == pytest.approx(formula(classes))


def test_moments_are_of_the_first_images_of_each_class_if_a_number_is_given(
    features: Tensor,
) -> None:
    for number in (None, 2):
        classes = [features.numpy()[one == LABELS][:number] for one in range(6)]
        found = moments(features, LABELS, CPU, number)
        assert found.counts.tolist() == [len(images) for images in classes]
        for images, centre, spread in zip(classes, found.centres, found.spreads, strict=True):
            np.testing.assert_allclose(centre.numpy(), images.mean(0), atol=1e-15)
            assert float(spread) == pytest.approx(images.var(0, ddof=1).sum())
        if number:
            assert float(printed_r_fc(found)) == pytest.approx(formula(classes))


def of_population(features: Tensor, labels: NDArray[np.int64]) -> dict[str, float]:
    found = population(moments(features, labels, CPU))
    return {name: float(value) for name, value in found.items()}


def test_population_values_worked_out_by_hand() -> None:
    """Images of three classes on a line: 0 2 4, 10 10, 0 6."""
    line = torch.tensor([0.0, 10, 2, 0, 10, 4, 6])[:, None]
    labels = np.array([0, 1, 0, 2, 1, 0, 2])
    # Centres 2, 10 and 3; variances 4, 0 and 18, those of the centres 4/3, 0 and 9.
    apart = [64 - 4 / 3, 1 - 4 / 3 - 9, 49 - 9]
    spread = [(4 + 0) / 2, (4 + 18) / 2, (0 + 18) / 2]
    pairs = list(zip(apart, spread, strict=True))
    assert of_population(line, labels) == pytest.approx(
        {
            "r_fc": sum(4 * s / (d + s) for d, s in pairs) / 3,
            "r_hv": sum(4 * s / (d + 2 * s) for d, s in pairs) / 3,
            "within": (4 + 0 + 18) / 3,
            "between": sum(apart) / 3,
        }
    )


def test_population_values_are_ratios_of_means_over_all_draws_of_two_images(
    features: Tensor,
) -> None:
    """Exactly: numerators and denominators of the released forms, each over all draws there are."""
    images = features.numpy()
    draws = [list(permutations(images[one == LABELS], 2)) for one in range(6)]
    ratios = []
    for of_a, of_b in combinations(draws, 2):
        terms = []
        for (a1, a2), (b1, b2) in product(of_a, of_b):
            centres = (a1 + a2) / 2, (b1 + b2) / 2
            terms.append(
                [
                    ((a1 - a2) ** 2).sum() / 2 + ((b1 - b2) ** 2).sum() / 2,
                    ((centres[0] - centres[1]) ** 2).sum() / 2,
                    (((a1 - b1) - (a2 - b2)) ** 2).sum(),
                    (((a1 - b1) ** 2).sum() + ((a2 - b2) ** 2).sum()) / 2,
                ]
            )
        within, between, change, squared = np.mean(terms, 0)
        ratios.append([within / between, change / squared])
    found = of_population(features, LABELS)
    assert [found["r_fc"], found["r_hv"]] == pytest.approx(np.mean(ratios, 0).tolist())


def gaussian_classes(
    spreads: NDArray[np.float64], scales: NDArray[np.float64], n_images: int
) -> tuple[Tensor, NDArray[np.int64]]:
    """Classes with centres at a squared distance of 1 from each other.

    Parameters
    ----------
    spreads
        (class,) total variances.
    scales
        (feature,) how they spread over features.
    """
    random = np.random.default_rng(0)
    deviations = np.sqrt(spreads[:, None, None] * scales**2 / (scales**2).sum())
    noise = random.standard_normal((len(spreads), n_images, len(scales)), dtype=np.float32)
    classes = noise * deviations.astype(np.float32)
    each = np.arange(len(spreads))
    classes[each, :, each] += 0.5**0.5
    return torch.from_numpy(classes.reshape(-1, len(scales))), each.repeat(n_images)


@pytest.mark.parametrize(
    ("spread", "r_fc", "r_hv", "printed"),
    [
        (0.25, 0.800, 0.667, 0.408),
        (0.475, 1.288, 0.974, 0.494),
        (0.85, 1.838, 1.259, 0.561),
        (2.7, 2.919, 1.688, 0.649),
        (8.5, 3.579, 1.889, 0.687),
        (66, 3.940, 1.985, 0.704),
    ],
)
def test_gaussian_classes_have_the_values_known_of_them(
    spread: float, r_fc: float, r_hv: float, printed: float
) -> None:
    """Isotropic, in 2,000 dimensions: sampled and of the population."""
    d = 2000
    features, labels = gaussian_classes(np.full(40, spread), np.ones(d), 30)
    found = of_population(features, labels)
    assert found["r_fc"] == pytest.approx(r_fc, abs=0.003)
    assert found["r_hv"] == pytest.approx(r_hv, abs=0.003)
    assert found["within"] == pytest.approx(spread, rel=0.003)
    pairs = class_pairs(labels, 8000, seed=0, split="base")
    mean = {name: float(part.mean()) for name, part in pairwise(features, pairs, CPU).items()}
    # A mean of ratios is more than the ratio of means: by the variance of the denominator, here
    # that of the squared distance of two centres.
    more = (4 * spread + 2 * spread**2) / (1 + spread) ** 2 / d
    assert mean["r_fc_released"] == pytest.approx(r_fc * (1 + more), abs=0.003)
    assert mean["r_hv_released"] == pytest.approx(r_hv, abs=0.003)
    assert mean["r_hv_printed"] == pytest.approx(printed, abs=0.003)


def test_sampled_means_tend_to_the_population_of_classes_of_any_spread() -> None:
    """Not isotropic and of unequal spreads; features are many, so that ratios hardly vary."""
    spreads, scales = np.geomspace(0.3, 3, 16), np.linspace(0.2, 1, 6000)
    features, labels = gaussian_classes(spreads, scales, 20)
    found = of_population(features, labels)
    pairs = class_pairs(labels, 4000, seed=0, split="base")
    sampled = pairwise(features, pairs, CPU)
    for name in ("r_fc", "r_hv"):
        part = sampled[f"{name}_released"]
        assert abs(float(part.mean()) - found[name]) < 3 * float(part.std()) / 4000**0.5
    assert found["within"] == pytest.approx(spreads.mean(), rel=0.01)
    assert found["between"] == pytest.approx(1, rel=0.01)


def test_what_a_centre_owes_to_few_images_is_no_distance() -> None:
    """Classes that coincide are at a distance of 0 on average, with three images as with many."""
    random = torch.Generator().manual_seed(0)
    features = torch.randn(300, 50, generator=random)
    found = of_population(features, np.arange(300) % 100)
    assert abs(found["between"]) < 0.3
    assert found["r_fc"] == pytest.approx(4, abs=0.3)


@pytest.mark.parametrize("value", [0.0, 1e-3, 7.0])
def test_features_that_are_all_alike_have_no_population_values(value: float) -> None:
    found = of_population(torch.full((6, 4), value), np.array([0, 0, 1, 1, 2, 2]))
    assert np.isnan(found["r_fc"])
    assert np.isnan(found["r_hv"])
