"""Theorem 1 and Figure 1 by simulation, against closed forms and the printed bound."""

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from scipy.special import ndtr, roots_genlaguerre, roots_hermitenorm

from pipeline import records
from pipeline.analysis import simulation
from pipeline.analysis.simulations import boundaries, theorem1
from pipeline.analysis.simulations.theorem1 import CHUNK, LAWS, OUTLIER, RATIOS
from tests.conftest import ROOT

CASES = [(name, dimension) for name, (_, dimensions) in LAWS.items() for dimension in dimensions]
N_DRAWS = 40_000


@pytest.fixture(scope="module")
def simulated() -> dict[str, Any]:
    return theorem1.simulate({"n_draws": N_DRAWS, "seed": 0})


@pytest.fixture(scope="module")
def panels() -> list[dict[str, Any]]:
    drawn: list[dict[str, Any]] = boundaries.simulate({"n_draws": 10_000, "n_shown": 5, "seed": 0})[
        "panels"
    ]
    return drawn


def errors(simulated: dict[str, Any], law: str, dimension: int) -> NDArray[np.float64]:
    rows = [row for row in simulated["rows"] if (row["law"], row["dimension"]) == (law, dimension)]
    assert [row["s_over_d"] for row in rows] == list(RATIOS)
    return np.array([row["error"] for row in rows])


def wrong(x: NDArray[Any], y: NDArray[Any], z: NDArray[Any]) -> NDArray[np.bool_]:
    """Where the classifier of the paper, word by word, does not say class 1."""
    score = (z * (x - y)).sum(-1) - 0.5 * (x**2).sum(-1) + 0.5 * (y**2).sum(-1)
    return ~(score >= 0)


def assert_proportions(found: NDArray[Any], expected: NDArray[Any], n: int) -> None:
    """Within four standard errors, or three counts where hardly any are expected."""
    radius = 4 * np.sqrt(expected * (1 - expected) / n) + 3 / n
    assert (np.abs(found - expected) < radius).all(), (found, expected)


# Laws


@pytest.mark.parametrize(("name", "dimension"), CASES)
def test_a_law_has_mean_zero_and_total_variance_one(name: str, dimension: int) -> None:
    """Student's t converges slowly: its fourth moment is infinite."""
    law, _ = LAWS[name]
    drawn = law(np.random.default_rng(0), 100_000, dimension, np.array(RATIOS))
    assert drawn.shape[0] in (1, len(RATIOS))
    assert drawn.shape[1:] == (100_000, dimension)
    variance = np.square(drawn).sum(-1).mean(-1)
    assert variance == pytest.approx(np.ones(len(variance)), rel=0.1)
    # Rare outliers of the three-point law make its mean the least certain.
    assert np.abs(drawn.mean(1)).max() < 5 / np.sqrt(100_000)


@pytest.mark.parametrize("name", LAWS)
def test_epsilon_is_that_of_the_laws_own_variances(name: str) -> None:
    """(Var X + Var Y) / Var U of samples of X, Y and their mixture U."""
    law, _ = LAWS[name]
    random = np.random.default_rng(1)
    deviations = [law(random, 200_000, 1, np.array(RATIOS)) for _ in range(2)]
    for i, ratio in enumerate(RATIOS):
        x, y = (np.sqrt(ratio) * part[min(i, len(part) - 1), :, 0] for part in deviations)
        y = y + 1
        epsilon = (x.var() + y.var()) / np.concatenate([x, y]).var()
        assert theorem1.exact_epsilon(ratio) == pytest.approx(epsilon, rel=0.08)


def test_chebyshevs_inequality_is_an_equality_for_the_three_point_law() -> None:
    """P(|X - EX| >= r) = Var X / r^2 at the outliers' distance r."""
    drawn = theorem1.three_point(np.random.default_rng(0), 400_000, 1, np.array(RATIOS))[..., 0]
    r = np.abs(drawn).max(1)
    assert len(np.unique(drawn[0])) == 3
    assert_proportions((drawn != 0).mean(1), 1 / r**2, 400_000)


# The classifier


@pytest.mark.parametrize(("name", "dimension"), CASES)
def test_errors_are_those_of_the_papers_classifier(name: str, dimension: int) -> None:
    law, _ = LAWS[name]
    n_draws = 3000
    counted = theorem1.count_errors(law, dimension, n_draws, 0, "stream")
    (random, n), *none = theorem1._chunks(n_draws, 0, "stream")
    assert (n, none) == (n_draws, [])
    deviations = [law(random, n, dimension, np.array(RATIOS)) for _ in range(3)]
    expected = []
    for i, ratio in enumerate(RATIOS):
        x, y, z = (np.sqrt(ratio) * part[min(i, len(part) - 1)] for part in deviations)
        expected.append(int(wrong(x, y + np.eye(1, dimension), z).sum()))
    assert counted.tolist() == expected
    assert counted.max() > 0


def gaussian_error(ratio: float, dimension: int) -> float:
    """By quadrature: y - x and 2z - x - y are independent, and wrong is a positive product."""
    variance = ratio / dimension
    first, weights = roots_hermitenorm(80)
    along = 1 + np.sqrt(2 * variance) * first
    rest, rest_weights = np.zeros(1), np.ones(1)
    if dimension > 1:
        halves, rest_weights = roots_genlaguerre(40, (dimension - 3) / 2)
        rest = 4 * variance * halves
    length = np.sqrt(along[:, None] ** 2 + rest)
    given = ndtr(-along[:, None] / length / np.sqrt(6 * variance))
    total = weights @ given @ rest_weights
    return float(total / weights.sum() / rest_weights.sum())


def test_the_error_of_gaussians_on_a_line_is_in_closed_form(simulated: dict[str, Any]) -> None:
    s = np.array(RATIOS)
    right, left = 1 / np.sqrt(2 * s), 1 / np.sqrt(6 * s)
    exact = ndtr(right) * ndtr(-left) + ndtr(-right) * ndtr(left)
    assert_proportions(errors(simulated, "gaussian", 1), exact, N_DRAWS)


@pytest.mark.parametrize("dimension", [2, 10, 100])
def test_the_error_of_gaussians_is_that_by_quadrature(
    dimension: int, simulated: dict[str, Any]
) -> None:
    exact = np.array([gaussian_error(ratio, dimension) for ratio in RATIOS])
    assert_proportions(errors(simulated, "gaussian", dimension), exact, N_DRAWS)


def test_quadrature_gives_known_errors() -> None:
    assert gaussian_error(0.2, 10) == pytest.approx(0.008, abs=1e-3)
    assert gaussian_error(1.0, 10) == pytest.approx(0.236, abs=1e-3)


def test_the_error_of_the_three_point_law_is_a_sum_of_27_cases(simulated: dict[str, Any]) -> None:
    exact = []
    for ratio in RATIOS:
        r = max(OUTLIER, np.sqrt(ratio))
        outlier = ratio / r**2
        law = {-r: outlier / 2, 0.0: 1 - outlier, r: outlier / 2}
        exact.append(
            sum(
                law[x] * law[y] * law[z]
                for x, y, z in itertools.product(law, repeat=3)
                if abs(z - x) > abs(z - y - 1)
            )
        )
    assert_proportions(errors(simulated, "three_point", 1), np.array(exact), N_DRAWS)


# Bounds


def test_error_is_below_the_tighter_bound_and_that_below_the_printed(
    simulated: dict[str, Any],
) -> None:
    """With epsilon below 1, as the theorem assumes, for every law; with the whole interval."""
    rows = [row for row in simulated["rows"] if row["epsilon"] < 1]
    assert {row["law"] for row in rows} == LAWS.keys()
    for row in rows:
        low, high = row["interval"]
        assert low <= row["error"] <= high
        assert high <= row["tighter_bound"] < row["printed_bound"]


def test_the_printed_bound_does_not_hold_where_its_assumption_fails(
    simulated: dict[str, Any],
) -> None:
    rows = [row for row in simulated["rows"] if row["epsilon"] >= 1]
    assert rows
    assert all(row["printed_bound"] is None for row in rows)
    assert all(row["printed_bound_clipped"] == 1 for row in rows)


def test_bounds_say_something_of_very_tight_classes_only(simulated: dict[str, Any]) -> None:
    for row in simulated["rows"]:
        assert (row["printed_bound_clipped"] < 1) == (row["epsilon"] < 1 / 33)
        assert (row["tighter_bound_clipped"] < 1) == (row["epsilon"] < 2 / 17)
        assert row["tighter_bound_clipped"] == min(1, row["tighter_bound"])
    assert theorem1.printed_bound(1 / 33) == pytest.approx(1)
    assert theorem1.tighter_bound(2 / 17) == pytest.approx(1)


@pytest.mark.parametrize("ratio", RATIOS)
def test_the_tighter_bound_is_chebyshevs_for_classes_of_any_variance(ratio: float) -> None:
    """16 (2 Var X + Var Y) / D is largest where X has all of it, 2s: 32 (2s) / D."""
    assert theorem1.tighter_bound(theorem1.exact_epsilon(ratio)) == pytest.approx(32 * 2 * ratio)


@pytest.mark.parametrize(("k", "n"), [(0, 50), (1, 50), (20, 50), (49, 50), (50, 50), (0, 1)])
def test_the_interval_of_a_proportion_is_clopper_and_pearsons(k: int, n: int) -> None:
    exact = stats.binomtest(k, n).proportion_ci(0.95, "exact")
    assert theorem1.clopper_pearson(k, n) == pytest.approx(tuple(exact))


def test_draws_depend_on_the_seed_alone(simulated: dict[str, Any]) -> None:
    again = theorem1.simulate({"n_draws": N_DRAWS, "seed": 0})
    assert again == simulated
    other = theorem1.simulate({"n_draws": 1000, "seed": 1})
    assert other != theorem1.simulate({"n_draws": 1000, "seed": 0})


def test_every_draw_is_counted_once() -> None:
    """More draws begin with those of fewer, in chunks of which the last is cut."""
    whole, more, twice = (
        theorem1.count_errors(theorem1.student, 2, n, 0, "stream")
        for n in (CHUNK, CHUNK + 7, 2 * CHUNK)
    )
    assert (whole <= more).all()
    assert (more <= whole + 7).all()
    assert (more <= twice).all()
    assert_proportions(twice / (2 * CHUNK), whole / CHUNK, CHUNK)


# Figure 1


@pytest.mark.parametrize("panel", boundaries.PANELS, ids=lambda panel: panel.name)
def test_the_error_of_a_boundary_is_how_often_its_classifier_is_wrong(
    panel: boundaries.Panel,
) -> None:
    random = np.random.default_rng(0)
    pairs = boundaries.sample(panel, 5, random).swapaxes(0, 1)
    of_1, of_2 = boundaries.sample(panel, 100_000, random)
    counted = [(wrong(x, y, of_1).mean() + (~wrong(x, y, of_2)).mean()) / 2 for x, y in pairs]
    assert_proportions(np.array(counted), boundaries.bisector_error(panel, pairs), 200_000)


@pytest.mark.parametrize("panel", boundaries.PANELS, ids=lambda panel: panel.name)
def test_no_pair_has_a_better_boundary_than_the_centres(panel: boundaries.Panel) -> None:
    (best,) = boundaries.bisector_error(panel, panel.centres[None])
    assert best == pytest.approx(ndtr(-panel.distance / 2 / panel.std[0]))
    pairs = boundaries.sample(panel, 1000, np.random.default_rng(0)).swapaxes(0, 1)
    assert (boundaries.bisector_error(panel, pairs) >= best).all()


def test_a_boundary_is_the_perpendicular_bisector_of_its_pair(
    panels: list[dict[str, Any]],
) -> None:
    for panel in panels:
        assert len(panel["pairs"]) == 5
        for pair in panel["pairs"]:
            points = np.array(pair["points"])
            direction = np.array(pair["direction"])
            assert np.linalg.norm(direction) == pytest.approx(1, abs=1e-4)
            for step in (-3.0, 0.0, 3.0):
                to_both = np.linalg.norm(points - pair["midpoint"] - step * direction, axis=-1)
                assert to_both[0] == pytest.approx(to_both[1], abs=1e-3)


def test_spread_near_classes_have_worse_boundaries_though_separable(
    panels: list[dict[str, Any]],
) -> None:
    """The point of the figure: the drawn points of both panels are separated by a line."""
    wide, tight = panels
    for panel in panels:
        left, right = np.array(panel["points"])
        assert left.shape == right.shape == (100, 2)
        assert left[:, 0].max() < right[:, 0].min()
        assert panel["best_error"] < 1e-4
    assert wide["variance_ratio"] > 1 > tight["variance_ratio"]
    assert wide["epsilon"] > 1 > tight["epsilon"]
    assert wide["interval"][0] > 0.2
    assert tight["interval"][1] < 0.001


def test_the_mean_error_is_over_all_pairs(panels: list[dict[str, Any]]) -> None:
    for name, panel in zip(boundaries.PANELS, panels, strict=True):
        random = np.random.default_rng(1)
        pairs = boundaries.sample(name, 100_000, random).swapaxes(0, 1)
        x, y = pairs[:, 0], pairs[:, 1]
        of_1, of_2 = boundaries.sample(name, 100_000, random)
        counted = (wrong(x, y, of_1).mean() + (~wrong(x, y, of_2)).mean()) / 2
        low, high = panel["interval"]
        assert low < panel["mean_error"] < high
        assert abs(counted - panel["mean_error"]) < 4 * (high - low) / 2


def test_a_panels_ratios_are_those_of_its_law(panels: list[dict[str, Any]]) -> None:
    for panel, values in zip(boundaries.PANELS, panels, strict=True):
        points = boundaries.sample(panel, 200_000, np.random.default_rng(0))
        centres = points.mean(1)
        within = points.var(1).sum(-1)
        between = np.square(centres - centres.mean(0)).sum(-1).mean()
        assert values["variance_ratio"] == pytest.approx(within.mean() / between, rel=0.02)
        total = points.reshape(-1, 2).var(0).sum()
        assert values["epsilon"] == pytest.approx(within.sum() / total, rel=0.02)


@pytest.mark.parametrize("n_shown", [1, 3, 9])
def test_as_many_pairs_are_shown_as_asked_for_and_drawn(n_shown: int) -> None:
    values = boundaries.simulate({"n_draws": 4, "n_shown": n_shown, "seed": 0})
    assert [len(panel["pairs"]) for panel in values["panels"]] == [min(n_shown, 4)] * 2


def test_boundaries_depend_on_the_seed_alone(panels: list[dict[str, Any]]) -> None:
    options = {"n_draws": 10_000, "n_shown": 5, "seed": 0}
    assert boundaries.simulate(options)["panels"] == panels
    assert boundaries.simulate({**options, "seed": 1})["panels"] != panels


# The record


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("theorem1", {"n_draws": 500, "seed": 2}),
        ("boundaries", {"n_draws": 500, "n_shown": 2, "seed": 2}),
    ],
)
def test_a_simulation_is_found_by_its_name_and_recorded(
    name: str, options: dict[str, int], tmp_path: Path
) -> None:
    settings = {"scale": "demo", "simulation": name, "options": options, "dataset": None}
    simulation.run(settings, "digest", tmp_path / "out.json")
    record = records.read(tmp_path / "out.json", "simulation")
    assert (record.settings, record.code, record.sources) == (settings, "digest", {})
    assert (record.dataset, record.run, record.seed) == (None, None, None)
    assert record.values["n_draws"] == 500


def test_what_needs_no_torch_does_not_import_it() -> None:
    """Nor scikit-learn: each costs more time than the work."""
    script = (
        "import sys; from pipeline.analysis import projection, simulation; "
        "from pipeline.analysis.simulations import boundaries, theorem1; "
        "sys.exit(bool({'torch', 'sklearn'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False).returncode == 0
