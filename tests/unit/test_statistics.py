"""Estimates and tests agree with scipy's; what cannot be estimated is refused."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

from pipeline.analysis.statistics import (
    Estimate,
    estimate,
    holm,
    p_value,
    paired,
    samples_needed,
)

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


# Tests


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("shift", [0.0, 0.5, -3.0, 30.0])
def test_p_values_are_those_of_the_t_test(n: int, shift: float) -> None:
    values = samples(n) - 60 + shift
    test = stats.ttest_1samp(values, 0)
    assert p_value(estimate(values)) == pytest.approx(test.pvalue, rel=1e-9)
    ours, theirs = samples(n, seed=1) + shift, samples(n, seed=2)
    test = stats.ttest_rel(ours, theirs)
    assert p_value(paired(ours, theirs)) == pytest.approx(test.pvalue, rel=1e-9)


def test_a_p_value_may_be_smaller_than_rounding_leaves_of_one() -> None:
    """It is no 1 - p, whose digits would be gone."""
    values = samples(30)
    found = p_value(estimate(values))
    assert found == pytest.approx(stats.ttest_1samp(values, 0).pvalue, rel=1e-6)
    assert found is not None
    assert 0 < found < 1e-20


def test_p_values_do_not_depend_on_the_sign() -> None:
    assert p_value(Estimate(1.5, 1.0, 9)) == p_value(Estimate(-1.5, 1.0, 9))


@pytest.mark.parametrize(
    ("effect", "p"),
    [
        (Estimate(0.0, 0.0, 5), 1.0),
        (Estimate(0.1, 0.0, 5), 1.0),
        (Estimate(-0.1, 0.0, 5), 1.0),
        (Estimate(0.0, 1.0, 5), 1.0),
        (Estimate(0.1, None, 1), None),
    ],
)
def test_p_values_at_the_borders(effect: Estimate, p: float | None) -> None:
    assert p_value(effect) == p


def test_the_interval_excludes_zero_exactly_where_p_is_below_its_level() -> None:
    for mean in np.linspace(-4, 4, 81):
        effect = Estimate(float(mean), 1.0, 7)
        assert effect.interval is not None
        assert (effect.interval[0] > 0 or effect.interval[1] < 0) == (p_value(effect) < 0.05)


# Families


def slow_holm(p_values: list[float]) -> list[float]:
    """By the definition: the lowest level at which the step-down procedure rejects each.

    Against levels alpha / m, alpha / (m - 1) and so on, it goes on as long as it rejects.
    """
    m = len(p_values)

    def is_rejected(which: int, alpha: float) -> bool:
        order = sorted(range(m), key=lambda index: p_values[index])
        for rank, index in enumerate(order):
            if p_values[index] * (m - rank) > alpha:
                return False
            if index == which:
                return True
        raise AssertionError

    levels = sorted({min(1.0, p * k) for p in p_values for k in range(1, m + 1)} | {1.0})
    return [
        next(level for level in levels if level == 1 or is_rejected(which, level))
        for which in range(m)
    ]


PS = st.lists(st.floats(0, 1) | st.sampled_from([0.0, 0.01, 0.02, 0.05, 1.0]), max_size=7)


@given(PS)
def test_holms_procedure_is_that_of_the_definition(p_values: list[float]) -> None:
    assert holm(p_values) == pytest.approx(slow_holm(p_values), abs=1e-12)


def test_holms_procedure_by_hand() -> None:
    """In the order that was given."""
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.2]) == [0.2]
    assert holm([]) == []
    assert holm([0.4, 0.4, 0.4]) == [1.0, 1.0, 1.0]


@given(PS)
def test_an_adjusted_p_is_never_smaller_and_keeps_the_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(p <= q <= 1 for p, q in zip(p_values, adjusted, strict=True))
    order = sorted(range(len(adjusted)), key=lambda index: p_values[index])
    assert all(adjusted[a] <= adjusted[b] for a, b in pairwise(order))


@given(PS, st.randoms(use_true_random=False))
def test_holms_procedure_does_not_depend_on_the_order(p_values, random) -> None:
    order = list(range(len(p_values)))
    random.shuffle(order)
    adjusted = holm(p_values)
    assert holm([p_values[index] for index in order]) == [adjusted[index] for index in order]


# Numbers of samples


def power_of(n: float, effect: float, level: float) -> float:
    """Of a two-sided t test with n samples of standard deviation 1 around the effect."""
    critical = stats.t.ppf(1 - level / 2, n - 1)
    return float(stats.nct.sf(critical, n - 1, effect * math.sqrt(n)))


@pytest.mark.parametrize("level", [0.05, 0.05 / 16])
@pytest.mark.parametrize("power", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("size", [1.0, 0.5, 0.2, 0.05])
def test_so_many_samples_are_needed_as_the_t_test_needs(
    size: float, power: float, level: float
) -> None:
    """By the power of the test with the noncentral distribution."""
    needed = samples_needed(Estimate(-3 * size, 3 / math.sqrt(20), 20), level, power)
    exact = optimize.brentq(lambda n: power_of(n, size, level) - power, 2.01, 1e5)
    assert needed == pytest.approx(exact, rel=0.02, abs=0.5)


@pytest.mark.parametrize("size", [0.4, 0.9])
def test_so_many_samples_suffice_four_times_in_five(size: float) -> None:
    n = math.ceil(samples_needed(Estimate(size, 0.1, 100)))
    drawn = np.random.default_rng(0).normal(size, 1, (4000, n))
    significant = stats.ttest_1samp(drawn, 0, axis=1).pvalue < 0.05
    assert 0.78 < significant.mean() < 0.86


def test_larger_effects_need_fewer_samples() -> None:
    needed = [samples_needed(Estimate(mean, 1.0, 10)) for mean in (0.1, 0.5, 1, 2, 4)]
    assert needed == sorted(needed, reverse=True)
    assert samples_needed(Estimate(2, 1.0, 10)) == samples_needed(Estimate(-2, 1.0, 10))


@given(
    st.integers(2, 5000),
    st.integers(1, 40),
    st.floats(0.001, 0.999),
)
def test_what_is_not_significant_needs_more_samples_than_there_are(
    n: int, n_tests: int, part: float
) -> None:
    """Also with two or three seeds, where the normal distribution alone would ask for none."""
    critical = float(stats.t.ppf(1 - 0.05 / n_tests / 2, n - 1))
    effect = Estimate(part * critical, 1.0, n)
    assert samples_needed(effect, 0.05 / n_tests) > n


@pytest.mark.parametrize("effect", [Estimate(0.0, 1.0, 5), Estimate(1.0, None, 1)])
def test_no_number_of_samples_shows_what_is_nothing_or_has_no_error(effect: Estimate) -> None:
    assert samples_needed(effect) == math.inf
