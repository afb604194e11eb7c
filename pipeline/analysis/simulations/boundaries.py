"""Decision boundaries of one-shot learning in the plane (paper section 4.2, figure 1)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.special import ndtr

from pipeline.analysis.statistics import estimate
from pipeline.streams import generator

POINTS_PER_CLASS = 100
DIGITS = 5


@dataclass(frozen=True)
class Panel:
    """Two Gaussian classes with one covariance, their centres on the first axis around 0."""

    name: str
    distance: float
    std: tuple[float, float]

    @property
    def centres(self) -> Float[np.ndarray, "class 2"]:
        return np.array([[-self.distance / 2, 0.0], [self.distance / 2, 0.0]])


# The wide classes are wide along the boundary: linearly separable, as the figure's caption says.
PANELS = (Panel("wide_near", 4.0, (0.5, 3.0)), Panel("tight_far", 6.0, (0.5, 1.0)))


def simulate(options: dict[str, Any]) -> dict[str, Any]:
    """Per panel: points to draw, one-shot pairs with their boundaries, the mean error over pairs.

    A boundary is given by a point on it, the pair's midpoint, and its unit direction. Its error
    is the probability, in closed form, that a point of either class lies on the wrong side;
    ``best_error`` is the smallest that any boundary has. The ``interval`` is the 95 % one of
    ``mean_error``. ``variance_ratio`` is that of section 4.1, exact for the law: the
    variance within classes by the mean squared distance of their centres from the mean;
    ``epsilon`` is that of Theorem 1.
    """
    return {
        "n_draws": options["n_draws"],
        "panels": [_panel(panel, options) for panel in PANELS],
    }


def _panel(panel: Panel, options: dict[str, Any]) -> dict[str, Any]:
    seed, stream = options["seed"], f"boundaries {panel.name}"
    points = sample(panel, POINTS_PER_CLASS, generator(seed, f"{stream} points"))
    pairs = sample(panel, options["n_draws"], generator(seed, f"{stream} pairs")).swapaxes(0, 1)
    errors = bisector_error(panel, pairs)
    mean = estimate(errors)
    within, between = float(np.square(panel.std).sum()), panel.distance**2 / 4
    return {
        "name": panel.name,
        "centres": panel.centres.tolist(),
        "std": list(panel.std),
        "points": points.round(DIGITS).tolist(),
        "pairs": [
            {
                "points": pair.round(DIGITS).tolist(),
                "midpoint": pair.mean(0).round(DIGITS).tolist(),
                "direction": along_bisector(pair).round(DIGITS).tolist(),
                "error": float(error),
            }
            for pair, error in zip(pairs[: options["n_shown"]], errors, strict=False)
        ],
        "mean_error": mean.mean,
        "interval": mean.interval,
        "best_error": float(ndtr(-panel.distance / 2 / panel.std[0])),
        "variance_ratio": within / between,
        "epsilon": 2 * within / (within + between),
    }


def sample(panel: Panel, n: int, random: np.random.Generator) -> Float[np.ndarray, "class point 2"]:
    return panel.centres[:, None] + random.standard_normal((2, n, 2)) * panel.std


def along_bisector(pair: Float[np.ndarray, "class 2"]) -> Float[np.ndarray, " 2"]:
    """The unit vector along the perpendicular bisector of a pair."""
    across = pair[1] - pair[0]
    along: NDArray[np.float64] = np.array([-across[1], across[0]]) / np.hypot(*across)
    return along


def bisector_error(
    panel: Panel, pairs: Float[np.ndarray, "pair class 2"]
) -> Float[np.ndarray, " pair"]:
    """How often the classifier of Theorem 1 is wrong, given its pair; both classes alike."""
    x, y = pairs[:, 0], pairs[:, 1]
    normal = x - y
    offset = (np.square(y).sum(-1) - np.square(x).sum(-1)) / 2
    # z . normal + offset of a random z is Gaussian: positive should be class 1, negative class 2.
    spread = np.sqrt(np.square(normal * panel.std).sum(-1))
    score = (normal @ panel.centres.T + offset[:, None]) / spread[:, None]
    errors: NDArray[np.float64] = (ndtr(-score[:, 0]) + ndtr(score[:, 1])) / 2
    return errors
