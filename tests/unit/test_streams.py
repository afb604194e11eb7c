"""Every draw has its address: the same one gives the same numbers, another one others."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from pipeline.streams import derive, generator

Address = tuple[int, str, int]
addresses = st.tuples(
    st.integers(0, 2**63 - 1), st.text("ab/ 0123456789", max_size=6), st.integers(0, 10**9)
)


@pytest.mark.parametrize(
    ("address", "seed", "draws"),
    [
        ((0, "initial weights"), 6013865357043378032, [877, 927, 697, 74]),
        ((1, "initial weights"), 6807398919001453699, [623, 918, 520, 390]),
        ((0, "training episodes", 7), 7557334526187880858, [782, 7, 703, 772]),
    ],
)
def test_draws_are_those_they_always_were(
    address: tuple[int, str, int], seed: int, draws: list[int]
) -> None:
    """All results rest on these numbers, whatever the machine and the process."""
    assert derive(*address) == seed
    assert generator(*address).integers(0, 1000, 4).tolist() == draws


def test_the_index_starts_at_0() -> None:
    assert derive(3, "a") == derive(3, "a", 0)


@given(addresses)
def test_a_seed_fits_torch_and_numpy(address: Address) -> None:
    assert 0 <= derive(*address) < 2**63
    assert derive(*address) == derive(*address)


@given(addresses, addresses)
def test_different_addresses_have_different_seeds(one: Address, other: Address) -> None:
    assume(one != other)
    assert derive(*one) != derive(*other)


def test_a_separator_in_a_name_does_not_confuse_addresses() -> None:
    assert (
        len({derive(1, "2/a", 3), derive(1, "2", 3), derive(12, "a", 3), derive(1, "2/a/3")}) == 4
    )


@given(addresses, addresses)
def test_a_generator_depends_on_nothing_but_its_address(one: Address, other: Address) -> None:
    expected = generator(*one).random(3)
    state = np.random.get_state(legacy=False)  # noqa: NPY002
    earlier = generator(*other)
    earlier.random(5)
    same = generator(*one)
    earlier.random(5)
    np.testing.assert_array_equal(same.random(3), expected)
    np.testing.assert_equal(np.random.get_state(legacy=False), state)  # noqa: NPY002


@settings(max_examples=50, derandomize=True)
@given(addresses, addresses)
def test_generators_are_not_correlated(one: Address, other: Address) -> None:
    assume(one != other)
    n = 2000
    correlation = np.corrcoef(generator(*one).random(n), generator(*other).random(n))[0, 1]
    # Five standard deviations of the correlation of independent numbers.
    assert abs(correlation) < 5 / np.sqrt(n)


@pytest.mark.parametrize("vary", ["seed", "index"])
def test_first_draws_of_neighbouring_addresses_are_uniform(vary: str) -> None:
    near = [(i, "a", 0) if vary == "seed" else (0, "a", i) for i in range(2000)]
    first = np.array([generator(*address).random() for address in near])
    assert stats.kstest(first, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 5 / np.sqrt(len(first))
