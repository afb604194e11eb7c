"""Numbers read as one would say them."""

import pytest

from pipeline.words import duration, plural, size


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.0412, "0.041 s"),
        (0.2, "0.2 s"),
        (99, "99 s"),
        (100, "2 min"),
        (99 * 60, "99 min"),
        (6000, "1.7 h"),
        (7200, "2.0 h"),
        (3 * 86400, "3.0 days"),
        (120 * 86400, "120.0 days"),
    ],
)
def test_times_are_written_in_the_unit_that_suits(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_sizes_are_written_in_the_unit_that_suits() -> None:
    assert [size(n) for n in (12, 1234, 5.6e6, 7.89e9)] == ["12 B", "1.23 kB", "5.6 MB", "7.89 GB"]


@pytest.mark.parametrize(
    ("noun", "one", "many"),
    [
        ("seed", "1 seed", "2,000 seeds"),
        ("pair of classes", "1 pair of classes", "2,000 pairs of classes"),
        ("stretch of training", "1 stretch of training", "2,000 stretches of training"),
    ],
)
def test_what_is_counted_agrees_with_its_number(noun: str, one: str, many: str) -> None:
    assert [plural(n, noun) for n in (1, 2000)] == [one, many]
    assert plural(0, noun) == many.replace("2,000", "0")
