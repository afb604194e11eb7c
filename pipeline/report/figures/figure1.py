"""Figure 1: boundaries that one-shot pairs give, of classes wide and near or tight and far."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from pipeline.report.figure import BLUE, COLUMN, GREY, ORANGE, Figure, canvas, lookup
from pipeline.report.results import Results

PARTS = {
    "figure1a": ("wide_near", "One-shot boundaries of two wide classes that are near"),
    "figure1b": ("tight_far", "One-shot boundaries of two tight classes that are far apart"),
}
CLASSES = (("class 1", BLUE, "o"), ("class 2", ORANGE, "^"))
COLUMNS = ["what", "name", "x", "y", "direction_x", "direction_y"]


def draw(results: Results, settings: Mapping[str, Any]) -> Figure:
    """From the record of the simulation ``boundaries``."""
    name, title = PARTS[settings["figure"]]
    sources, missing = lookup(results, settings, "simulation", None, ["boundaries"])
    drawing = canvas(COLUMN, 3.2)
    axes = drawing.subplots()
    axes.set(xlabel="first feature", ylabel="second feature", aspect="equal")
    caption = (
        "Points of two classes in a plane of features, and the boundaries that random one-shot "
        "pairs, one point of each class, give: the perpendicular bisector of each pair."
    )
    rows: list[tuple[Any, ...]] = []
    if record := results.simulation("boundaries"):
        panels = {panel["name"]: panel for panel in record.values["panels"]}
        rows = _plotted(panels[name])
        _plot(axes, pd.DataFrame(rows, columns=COLUMNS))
        # Both parts show the same stretch of the plane.
        reach = np.abs([panel["points"] for panel in panels.values()]).max((0, 1, 2)) * 1.05
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set(xlim=(-reach[0], reach[0]), ylim=(-reach[1], reach[1]))
        drawing.legend(loc="outside right center")
        caption += " " + _numbers(panels[name], record.values["n_draws"])
    return Figure(
        id=settings["figure"],
        number=f"Figure {settings['figure'].removeprefix('figure')}",
        title=title,
        data="",
        caption=caption,
        notes=["A simulation of two Gaussian classes; no data set. Parts a and b share axes."],
        drawing=drawing,
        plotted=pd.DataFrame(rows, columns=COLUMNS),
        sources=sources,
        missing=missing,
    )


def _plotted(panel: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Points, and boundaries by a point on each and its direction."""
    rows: list[tuple[Any, ...]] = [
        ("point", name, *point, None, None)
        for (name, _, _), points in zip(CLASSES, panel["points"], strict=True)
        for point in points
    ]
    rows += [
        ("one-shot pair", f"pair {index + 1}", *point, None, None)
        for index, pair in enumerate(panel["pairs"])
        for point in pair["points"]
    ]
    rows += [
        ("one-shot boundary", f"pair {index + 1}", *pair["midpoint"], *pair["direction"])
        for index, pair in enumerate(panel["pairs"])
    ]
    # Classes differ along the first axis alone, and have one covariance.
    rows.append(("best boundary", "", *np.mean(panel["centres"], axis=0).tolist(), 0.0, 1.0))
    return rows


def _plot(axes: Axes, plotted: pd.DataFrame) -> None:
    def drawn(what: str) -> pd.DataFrame:
        return plotted[plotted["what"] == what]

    for name, colour, marker in CLASSES:
        points = drawn("point")[drawn("point")["name"] == name]
        axes.plot(points["x"], points["y"], marker, color=colour, markeredgewidth=0, label=name)
    pairs = drawn("one-shot pair")
    axes.plot(
        pairs["x"],
        pairs["y"],
        "o",
        color="black",
        markerfacecolor="none",
        markersize=5,
        markeredgewidth=0.8,
        label="one-shot pair",
    )
    for what, colour, dashes in (
        ("one-shot boundary", GREY, "-"),
        ("best boundary", "black", "--"),
    ):
        for x, y, dx, dy in drawn(what)[COLUMNS[2:]].to_numpy(float):
            line = axes.axline((x, y), (x + dx, y + dy), color=colour, linestyle=dashes)
        # The last stands for all in the legend.
        line.set_label(what)


def _numbers(panel: dict[str, Any], n_draws: int) -> str:
    low, high = (100 * end for end in panel["interval"])
    return (
        f"Mean error over {n_draws} pairs: {100 * panel['mean_error']:.3g} %, 95 % interval "
        f"[{low:.3g}, {high:.3g}]; of the best boundary, dashed: {100 * panel['best_error']:.2g} "
        f"%. Ratio of the variance within classes to that between them: "
        f"{panel['variance_ratio']:.2g}; epsilon of Theorem 1: {panel['epsilon']:.2g}."
    )
