"""The one-shot error that Theorem 1 bounds, and its bounds, by laws and dimensions."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from pipeline.report.figure import COLOURS, COLUMN, GREY, MARKERS, Figure, canvas, lookup
from pipeline.report.results import Results

SHADE = "0.93"
# From here on 32 epsilon / (1 - epsilon) is 1 or more.
SAYS_NOTHING = 1 / 33
BOUNDS = {
    "printed_bound": ("Theorem 1: 32ε/(1 - ε)", "-"),
    "tighter_bound": ("tighter: 16ε/(2 - ε)", "--"),
}
LAWS = {
    "gaussian": "Gaussian",
    "uniform": "uniform",
    "student": "Student's t",
    "three_point": "three points",
}
COLUMNS = [
    "law",
    "dimension",
    "epsilon",
    "error",
    "low_95",
    "high_95",
    "printed_bound",
    "tighter_bound",
]


def draw(results: Results, settings: Mapping[str, Any]) -> Figure:
    """From the record of the simulation ``theorem1``."""
    sources, missing = lookup(results, settings, "simulation", None, ["theorem1"])
    record = results.simulation("theorem1")
    rows = record.values["rows"] if record else []
    plotted = pd.DataFrame(
        [row | dict(zip(("low_95", "high_95"), row["interval"], strict=True)) for row in rows],
        columns=COLUMNS,
    )
    drawing = canvas(COLUMN, 3.2)
    axes = drawing.subplots()
    axes.set(xlabel="variance ratio ε", ylabel="probability of error", xscale="log", yscale="log")
    n_draws = f", {record.values['n_draws']} draws each" if record else ""
    if record:
        _plot(axes, plotted)
    return Figure(
        id="theorem1",
        number=None,
        title="Theorem 1: the one-shot error and its bounds",
        data="",
        caption=(
            "How often the classifier of Theorem 1 errs on a new point of a class, against "
            f"the variance ratio ε, for several laws and dimensions{n_draws}, with 95 % intervals; "
            "and the theorem's bound beside a tighter one of the same proof. Shaded: the printed "
            "bound is 1 or more, or does not hold, and says nothing."
        ),
        notes=[
            "A simulation; no data set.",
            "Hollow: no error in all draws; drawn at the upper end of its interval.",
        ],
        drawing=drawing,
        plotted=plotted,
        sources=sources,
        missing=missing,
    )


def _plot(axes: Axes, plotted: pd.DataFrame) -> None:
    colours = dict(zip(LAWS, COLOURS, strict=False))
    markers = dict(zip(sorted(plotted["dimension"].unique()), MARKERS, strict=False))
    for (law, dimension), series in plotted.groupby(["law", "dimension"], sort=False):
        look: dict[str, Any] = {"marker": markers[dimension], "linewidth": 0.6}
        look["color"] = colours[str(law)]
        seen, unseen = series[series["error"] > 0], series[series["error"] == 0]
        error = seen["error"]
        axes.errorbar(
            seen["epsilon"], error, (error - seen["low_95"], seen["high_95"] - error), **look
        )
        hollow = look | {"linestyle": "", "markerfacecolor": "none", "markeredgewidth": 0.5}
        axes.plot(unseen["epsilon"], unseen["high_95"], **hollow)
    for name, (_, line) in BOUNDS.items():
        bound = plotted.drop_duplicates("epsilon").dropna(subset=name)
        axes.plot(bound["epsilon"], bound[name], line, color="black")
    low, high = plotted["epsilon"].min() * 0.8, plotted["epsilon"].max() * 1.2
    axes.axvspan(SAYS_NOTHING, high, color=SHADE, linewidth=0)
    axes.set(xlim=(low, high), ylim=(plotted.loc[plotted["error"] > 0, "error"].min() / 2, 1.5))
    grey: dict[str, Any] = {"color": GREY, "linestyle": ""}
    # Three columns of four.
    keys: list[tuple[str, dict[str, Any]]] = [
        *((name, {"color": "black", "linestyle": line}) for name, line in BOUNDS.values()),
        ("the theorem says nothing", {"color": SHADE, "linewidth": 6}),
        ("no error seen", grey | {"marker": "o", "markerfacecolor": "none"}),
        *((name, {"color": colours[law]}) for law, name in LAWS.items()),
        *((f"dimension {one}", grey | {"marker": marker}) for one, marker in markers.items()),
    ]
    axes.figure.legend(
        handles=[Line2D([], [], label=name, **look) for name, look in keys],
        loc="outside lower center",
        ncols=3,
        columnspacing=1,
    )
