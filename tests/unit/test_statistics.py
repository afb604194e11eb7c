"""Means, standard errors and intervals agree with scipy's; what cannot be estimated is refused."""

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from pipeline.analysis.statistics import Estimate, estimate, paired

SIZES = [2, 3, 30, 1000]


def samples(n: int, seed: int = 0) -> NDArray[np.float64]:
    """Accuracies in percent."""
    return np.random.default_rng(seed).normal(60, 10, n)


@pytest.mark.parametrize("n", SIZES)
def test_an_estimate_is_a_mean_and_its_standard_error(n: int) -> None:
    result = estimate(samples(n))
    assert result.n == n
    assert result.mean == pytest.approx(np.mean(samples(n)))
    assert result.se == pytest.approx(stats.sem(samples(n)))


@pytest.mark.parametrize("n", SIZES)
def test_the_interval_is_that_of_students_t(n: int) -> None:
    values = samples(n)
    expected = stats.t.interval(0.95, n - 1, loc=values.mean(), scale=stats.sem(values))
    assert estimate(values).interval == pytest.approx(expected)


@pytest.mark.parametrize("n", SIZES)
def test_a_paired_difference_is_that_of_the_paired_t_test(n: int) -> None:
    ours, theirs = samples(n, seed=1), samples(n, seed=2)
    test = stats.ttest_rel(ours, theirs)
    result = paired(ours, theirs)
    assert result.n == n
    assert result.se is not None
    assert result.mean / result.se == pytest.approx(test.statistic)
    assert result.interval == pytest.approx(tuple(test.confidence_interval(0.95)))


def test_pairing_removes_what_both_sides_share() -> None:
    shared, ours, theirs = (samples(100, seed) for seed in range(3))
    alone = paired(ours, theirs)
    together = paired(100 * shared + ours, 100 * shared + theirs)
    assert together.mean == pytest.approx(alone.mean)
    assert together.se == pytest.approx(alone.se)


def test_equal_samples_have_no_spread() -> None:
    assert estimate([3.0, 3.0, 3.0]) == Estimate(mean=3.0, se=0.0, n=3)
    assert paired([1.0, 5.0], [1.0, 5.0]).interval == (0.0, 0.0)


def test_counts_are_averaged_as_numbers() -> None:
    """Counts of right answers come as integers, and as lists from a record."""
    small, large = np.array([[1, 100], [2, 200]], dtype=np.uint8)
    assert estimate(large).mean == 101.0
    assert paired(small, large).mean == -50.5
    assert estimate([1, 2]).mean == 1.5


def test_a_number_that_is_no_mean_has_no_interval() -> None:
    assert Estimate(mean=51.8, se=None, n=1).interval is None


@pytest.mark.parametrize("values", [[], [1.0], 1.0, [[1.0, 2.0], [3.0, 4.0]]])
def test_fewer_than_two_samples_are_refused(values: ArrayLike) -> None:
    with pytest.raises(ValueError, match="at least two samples"):
        estimate(values)


def test_a_single_pair_is_refused() -> None:
    with pytest.raises(ValueError, match="at least two samples"):
        paired([1.0], [2.0])


@pytest.mark.parametrize("theirs", [[1.0, 2.0], [1.0], 1.0, [[1.0, 2.0, 3.0]]])
def test_unequal_shapes_cannot_be_paired(theirs: ArrayLike) -> None:
    """Not even those that numpy would broadcast."""
    with pytest.raises(ValueError, match="cannot be paired"):
        paired([1.0, 2.0, 3.0], theirs)
