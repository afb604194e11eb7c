"""The pairs that the measures are taken over, and the measures of them."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.analysis.clustering import CHUNK, class_pairs, pairwise, printed_r_fc
from pipeline.regularizers import feature_clustering, hyperplane_variation

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
    measured = pairwise(features, pairs)
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
    assert float(printed_r_fc(features, labels)) == pytest.approx(formula(classes))


def test_printed_r_fc_takes_as_many_images_as_the_smallest_class_has(features: Tensor) -> None:
    classes = [features.numpy()[one == LABELS][:2] for one in range(6)]
    assert float(printed_r_fc(features, LABELS)) == pytest.approx(formula(classes))
