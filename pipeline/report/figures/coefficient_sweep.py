"""Accuracy of Weight-Clustering by its coefficient (the paper's Appendix A.3)."""

from collections.abc import Mapping
from math import log10, nan
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from pipeline.report.figure import (
    BLUE,
    GREY,
    ORANGE,
    PAGE,
    Figure,
    canvas,
    data_names,
    limit,
    lookup,
)
from pipeline.report.results import Results
from pipeline.report.table import Cell
from pipeline.report.tables.coefficient_sweep import RUNS, cells

ROLES = ("mini_imagenet", "cifar_fs")
SHOTS = {"1-shot": BLUE, "5-shot": ORANGE}
# What has no place on a logarithmic axis stands left of it.
APART = {"Reptile": -8.1, "0": -6.9}
BORDER = -6.1
COLUMNS = ["in_place_of", "dataset", "shot", "coefficient", "accuracy", "low_95", "high_95"]


def draw(results: Results, settings: Mapping[str, Any]) -> Figure:
    """From adaptation records, of the runs that each data set has."""
    sources: list[str] = []
    missing: list[str] = []
    rows: list[tuple[Any, ...]] = []
    for role in ROLES:
        dataset = settings["roles"].get(role)
        configured = settings["records"]["adaptation"].get(dataset, [])
        runs = [run for run in RUNS.values() if run in configured] or list(RUNS.values())
        found, lacking = lookup(results, settings, "adaptation", role, runs)
        wanted = [
            cell
            for cell in cells(results, role, dataset or "")
            if cell.column in SHOTS and RUNS[cell.row] in runs
        ]
        rows += [(role, dataset, *_row(cell)) for cell in wanted if cell.measured]
        sources += found
        missing += lacking or [
            f"{cell.column} accuracy of {RUNS[cell.row]} on {dataset}"
            for cell in wanted
            if not cell.measured
        ]
    plotted = pd.DataFrame(rows, columns=COLUMNS)
    drawing = canvas(PAGE, 3.4)
    grid = drawing.subplots(len(SHOTS), len(ROLES), sharex=True)
    for role, column in zip(ROLES, grid.T, strict=True):
        column[0].set_title(data_names(settings, [role]), fontsize=6)
        column[-1].set_xlabel("coefficient of weight clustering")
        for axes, shot in zip(column, SHOTS, strict=True):
            axes.set_ylabel(f"{shot} accuracy in %")
            shown = plotted.query("in_place_of == @role and shot == @shot")
            if not shown.empty:
                _plot(axes, shown, SHOTS[shot])
    return Figure(
        id="coefficient_sweep",
        number=None,
        title="Weight-Clustering by its coefficient",
        data=data_names(settings, ROLES),
        caption=(
            "Accuracy on novel classes of Reptile with weight clustering, by the coefficient, with "
            "95 % intervals over episodes, cut at 0 and 100 %; without one if all episodes are "
            "equal. Apart on the left: Reptile itself, whose accuracy "
            "the dotted line continues, and coefficient 0, the same code as the others without "
            "the pull."
        ),
        notes=[
            "Transductive, as Reptile is tested. Episodes are shared: the table of the "
            "coefficient sweep has differences paired over them, which are sharper than these "
            "intervals."
        ],
        drawing=drawing,
        plotted=plotted,
        sources=sources,
        missing=missing,
    )


def _row(cell: Cell) -> tuple[Any, ...]:
    mean = cell.measured.estimate().mean
    return cell.column, cell.row, mean, *(cell.interval or (nan, nan))


def _plot(axes: Axes, plotted: pd.DataFrame, colour: str) -> None:
    places = {row: APART[row] if row in APART else log10(float(row)) for row in RUNS}
    axes.set_xticks(list(places.values()), list(places))
    axes.axvline(BORDER, color=GREY, linewidth=0.5)
    for coefficients in (["Reptile"], ["0"], [row for row in RUNS if row not in APART]):
        line = plotted[plotted["coefficient"].isin(coefficients)]
        mean = line["accuracy"]
        axes.errorbar(
            line["coefficient"].map(places),
            mean,
            (mean - line["low_95"], line["high_95"] - mean),
            color=colour,
            marker="o",
            capsize=1.5,
        )
        if coefficients == ["Reptile"]:
            for height in mean:
                axes.axhline(height, color=colour, linestyle=":", linewidth=0.8)
    limit(axes, 0, 100)
