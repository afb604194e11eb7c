"""How a part is timed."""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Figure:
    part: str
    value: float
    unit: str
    repetitions: int
    # Of the machine at this moment, in float32 GFLOP/s.
    peak: float


def rate(
    part: str, action: Callable[[], object], items: int, unit: str, repetitions: int = 7
) -> Figure:
    figure = seconds(part, action, repetitions)
    return Figure(part, items / figure.value, unit, repetitions, figure.peak)


def seconds(part: str, action: Callable[[], object], repetitions: int = 7) -> Figure:
    action()
    peak = matrix_product()
    return Figure(
        part, statistics.median(timed(action) for _ in range(repetitions)), "s", repetitions, peak
    )


def compared(
    part: str,
    bare: Callable[[], object],
    whole: Callable[[], object],
    items: int,
    unit: str,
    repetitions: int = 31,
) -> Iterator[Figure]:
    """A whole step beside the least that it could be, measured in turn."""
    peak = matrix_product()
    times = paired(bare, whole, repetitions)
    least, own = (items / statistics.median(each) for each in zip(*times, strict=True))
    # Of neighbours: a machine that is shared is not as fast from one second to the next.
    share = statistics.median(100 * least / own for least, own in times)
    yield Figure(f"{part}: bare passes", least, unit, repetitions, peak)
    yield Figure(f"{part}: whole step", own, unit, repetitions, peak)
    yield Figure(f"{part}: whole step / bare", share, "%", repetitions, peak)


def paired(
    first: Callable[[], object], second: Callable[[], object], repetitions: int
) -> list[tuple[float, float]]:
    """Seconds of two actions measured in turn, so that both meet the same machine."""
    first()
    second()
    return [(timed(first), timed(second)) for _ in range(repetitions)]


def timed(action: Callable[[], object]) -> float:
    """Processor seconds: what others do on the machine counts less than in seconds of the clock."""
    started = time.process_time()
    action()
    return time.process_time() - started


def matrix_product(n: int = 2048) -> float:
    """Rate of an n x n float32 matrix product, in GFLOP/s."""
    matrix = torch.ones(n, n)
    torch.mm(matrix, matrix)
    return 2 * n**3 / min(timed(lambda: torch.mm(matrix, matrix)) for _ in range(3)) / 1e9
