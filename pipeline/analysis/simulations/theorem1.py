"""The one-shot error that Theorem 1 bounds (paper section 4.2), beside its bounds.

Both classes follow the same law, with total variance s = E||X - EX||^2 each, and their centres
are sqrt(D) apart. Then Var U = s + D/4, and all depends on s/D.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy.special import betaincinv

from pipeline.streams import generator

# s/D. The printed bound says something below 0.0038 alone, and its assumption ends at 0.25.
RATIOS = (0.0005, 0.001, 0.002, 0.0035, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.24, 0.5, 1.0, 2.0, 5.0)
# Draws at a time: some 25 MB of 100 dimensions.
CHUNK = 10_000
DEGREES_OF_FREEDOM = 3
# Just over half the distance of the centres, where a single outlier is misclassified.
OUTLIER = 0.51

Random = np.random.Generator
# Deviations from the centre, with total variance 1.
Law = Callable[[Random, int, int, NDArray[np.float64]], Float[np.ndarray, "#ratio draw dimension"]]


def simulate(options: dict[str, Any]) -> dict[str, Any]:
    """The classifier's error on z ~ X, for each law, dimension and s/D, by Monte Carlo.

    All s/D of a law and dimension share their draws. ``interval`` is Clopper and Pearson's
    95 % one. Where epsilon is 1 or more the printed bound does not hold and is null;
    clipped, both bounds are at most 1.
    """
    n_draws = options["n_draws"]
    rows = []
    for name, (law, dimensions) in LAWS.items():
        for dimension in dimensions:
            stream = f"theorem1 {name} {dimension}"
            n_errors = count_errors(law, dimension, n_draws, options["seed"], stream)
            for ratio, n_wrong in zip(RATIOS, n_errors.tolist(), strict=True):
                epsilon = exact_epsilon(ratio)
                printed, tighter = printed_bound(epsilon), tighter_bound(epsilon)
                rows.append(
                    {
                        "law": name,
                        "dimension": dimension,
                        "s_over_d": ratio,
                        "epsilon": epsilon,
                        "error": n_wrong / n_draws,
                        "interval": clopper_pearson(n_wrong, n_draws),
                        "printed_bound": printed,
                        "printed_bound_clipped": 1.0 if printed is None else min(printed, 1.0),
                        "tighter_bound": tighter,
                        "tighter_bound_clipped": min(tighter, 1.0),
                    }
                )
    return {"n_draws": n_draws, "rows": rows}


def exact_epsilon(s_over_d: float) -> float:
    """epsilon = (Var X + Var Y) / Var U = 2s / (s + D/4); in (0, 2)."""
    return 8 * s_over_d / (4 * s_over_d + 1)


def printed_bound(epsilon: float) -> float | None:
    """The error of Theorem 1: 32 epsilon / (1 - epsilon), for epsilon below 1."""
    return 32 * epsilon / (1 - epsilon) if epsilon < 1 else None


def tighter_bound(epsilon: float) -> float:
    """16 epsilon / (2 - epsilon), which is at most the printed bound.

    If x, y and z are all closer than sqrt(D)/4 to their centres, z is closer than sqrt(D)/2 to x
    and farther than that from y, so it is classified right. By Chebyshev and the
    union bound the error is at most 16 (2 Var X + Var Y) / D <= 32 (Var X + Var Y) / D, and
    Var U = (Var X + Var Y)/2 + D/4 makes (Var X + Var Y) / D = epsilon / (2 (2 - epsilon)).
    """
    return 16 * epsilon / (2 - epsilon)


def count_errors(
    law: Law, dimension: int, n_draws: int, seed: int, stream: str
) -> Int[np.ndarray, " ratio"]:
    """How many of the draws (x, y, z) the classifier gets wrong, for each of ``RATIOS``.

    With D = 1 and centres 0 and e_1, let x = sqrt(s) a, y = e_1 + sqrt(s) b and z = sqrt(s) c.
    Then ||z - x||^2 > ||z - y||^2 if and only if
    s (||c - a||^2 - ||c - b||^2) + 2 sqrt(s) (c - b)_1 > 1.
    """
    ratios = np.array(RATIOS)
    s = ratios[:, None]
    n_errors = np.zeros(len(ratios), dtype=np.int64)
    for random, n in _chunks(n_draws, seed, stream):
        a, b, c = (law(random, n, dimension, ratios) for _ in range(3))
        to_x, to_y = c - a, c - b
        difference = np.square(to_x).sum(-1) - np.square(to_y).sum(-1)
        n_errors += (s * difference + 2 * np.sqrt(s) * to_y[..., 0] > 1).sum(-1)
    return n_errors


def clopper_pearson(n_successes: int, n: int) -> tuple[float, float]:
    """The exact 95 % interval of a proportion; it does not collapse where nothing was seen."""
    n_failures = n - n_successes
    low = betaincinv(n_successes, n_failures + 1, 0.025) if n_successes else 0.0
    high = betaincinv(n_successes + 1, n_failures, 0.975) if n_failures else 1.0
    return float(low), float(high)


def gaussian(
    random: Random, n: int, dimension: int, _: NDArray[np.float64]
) -> Float[np.ndarray, "1 draw dimension"]:
    """Isotropic."""
    deviations: NDArray[np.float64] = random.standard_normal((1, n, dimension)) / np.sqrt(dimension)
    return deviations


def uniform(
    random: Random, n: int, dimension: int, _: NDArray[np.float64]
) -> Float[np.ndarray, "1 draw dimension"]:
    """In a cube."""
    side = np.sqrt(3 / dimension)
    return random.uniform(-side, side, (1, n, dimension))


def student(
    random: Random, n: int, dimension: int, ratios: NDArray[np.float64]
) -> Float[np.ndarray, "1 draw dimension"]:
    """Multivariate Student's t: one heavy-tailed length in any dimension, of finite variance."""
    length = np.sqrt((DEGREES_OF_FREEDOM - 2) / random.chisquare(DEGREES_OF_FREEDOM, (1, n, 1)))
    return gaussian(random, n, dimension, ratios) * length


def three_point(
    random: Random, n: int, _: int, ratios: NDArray[np.float64]
) -> Float[np.ndarray, "ratio draw 1"]:
    """At the centre, or an outlier on the line through both centres, on either side alike.

    Chebyshev's inequality is an equality at the outliers' distance. At a quarter of the distance
    of the centres, where the proof uses it, outliers are still classified right;
    at half of it the error is far larger. Where s/D is too large for that, there are only outliers.
    """
    # For D = 1 and in units of sqrt(s).
    distance = np.maximum(OUTLIER / np.sqrt(ratios), 1)[:, None]
    drawn = random.uniform(-1, 1, n)
    outlier = np.abs(drawn) < 1 / np.square(distance)
    return (np.sign(drawn) * distance * outlier)[..., None]


DIMENSIONS = (1, 2, 10, 100)
LAWS: dict[str, tuple[Law, tuple[int, ...]]] = {
    "gaussian": (gaussian, DIMENSIONS),
    "uniform": (uniform, DIMENSIONS),
    "student": (student, DIMENSIONS),
    # It lies on a line, in whatever dimension.
    "three_point": (three_point, (1,)),
}


def _chunks(n_draws: int, seed: int, stream: str) -> Iterator[tuple[Random, int]]:
    for index, start in enumerate(range(0, n_draws, CHUNK)):
        yield generator(seed, stream, index), min(CHUNK, n_draws - start)
