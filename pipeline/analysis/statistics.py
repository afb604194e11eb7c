"""Means with their uncertainty, and differences paired over what both sides share."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit


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
