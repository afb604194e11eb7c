"""Means with their uncertainty, and differences paired over what both sides share."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri, stdtr, stdtrit


@dataclass(frozen=True)
class Estimate:
    """A mean over ``n`` samples and its standard error; None for a number that is no mean."""

    mean: float
    se: float | None
    n: int

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % confidence interval (Student's t)."""
        if self.se is None:
            return None
        radius = float(stdtrit(self.n - 1, 0.975)) * self.se
        return self.mean - radius, self.mean + radius


def estimate(samples: ArrayLike) -> Estimate:
    """The mean of at least two independent samples.

    Raises
    ------
    ValueError
        If there are fewer.
    """
    values: NDArray[np.float64] = np.asarray(samples, dtype=np.float64)
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"at least two samples are needed, there is shape {values.shape}")
    return Estimate(
        float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values))), len(values)
    )


def paired(ours: ArrayLike, theirs: ArrayLike) -> Estimate:
    """The mean of ``ours - theirs``, sample by sample; both must be of the same episodes.

    Raises
    ------
    ValueError
        If their numbers differ.
    """
    a, b = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    if a.shape != b.shape:
        raise ValueError(f"samples cannot be paired: shapes {a.shape} and {b.shape}")
    return estimate(a - b)


def p_value(effect: Estimate) -> float | None:
    """Two-sided, of Student's t test that the mean is zero; None for a number that is no mean.

    1 where all samples are equal: their spread is unknown, and they may be four.
    """
    if effect.se is None:
        return None
    if effect.se == 0:
        return 1.0
    return float(2 * stdtr(effect.n - 1, -abs(effect.mean / effect.se)))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values of one family, adjusted so that all of its errors together stay within one.

    Holm (1979): the smallest times their number, the next times one less, and so on.
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[int(index)] = largest
    return adjusted


def samples_needed(effect: Estimate, level: float = 0.05, power: float = 0.8) -> float:
    """How many samples would show an effect of this size; infinite for none or of no spread.

    Of a two-sided t test with the spread that the samples have, by the normal distribution and
    the correction of Guenther (1981), by which it is more than there are of what is not
    significant at this level.
    """
    if not effect.se or effect.mean == 0:
        return math.inf
    spread = effect.se * math.sqrt(effect.n)
    significant = float(ndtri(1 - level / 2))
    return ((significant + float(ndtri(power))) * spread / effect.mean) ** 2 + significant**2 / 2
