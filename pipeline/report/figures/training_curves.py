"""Loss and validation score of every run, as it was trained."""

from collections.abc import Iterable, Mapping
from math import ceil
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, MaxNLocator

from pipeline.report.figure import BLUE, ORANGE, PAGE, Figure, canvas, data_names, limit, lookup
from pipeline.report.results import Results

ROLES = {"cifar_fs": BLUE, "mini_imagenet": ORANGE}
# There are few validations.
LINES = {"loss": "-", "validation": ".-"}
QUANTITIES = tuple(LINES)
ACROSS = 5
COLUMNS = ["run", "in_place_of", "dataset", "seed", "quantity", "step", "value"]


def draw(results: Results, settings: Mapping[str, Any]) -> Figure:
    """From the logs in training records."""
    runs_of = settings["records"]["training"]
    sources: list[str] = []
    missing: list[str] = []
    rows: list[tuple[Any, ...]] = []
    for role in ROLES:
        dataset = settings["roles"].get(role)
        found, lacking = lookup(results, settings, "training", role, runs_of.get(dataset, []))
        sources += found
        missing += lacking
        rows += [
            (record.run, role, dataset, record.seed, quantity, entry["step"], entry[quantity])
            for _, record in results.all_of("training")
            if record.dataset == dataset
            for entry in record.values["log"]
            for quantity in QUANTITIES
            if quantity in entry
        ]
    plotted = pd.DataFrame(rows, columns=COLUMNS)
    runs = list(dict.fromkeys(run for of_dataset in runs_of.values() for run in of_dataset))
    drawing = _small_multiples(runs, plotted)
    drawing.legend(
        [Line2D([], [], color=colour) for colour in ROLES.values()],
        [data_names(settings, [role]) for role in ROLES],
        loc="outside lower center",
    )
    return Figure(
        id="training_curves",
        number=None,
        title="Training of every run",
        data=data_names(settings, ROLES),
        caption=(
            "For each run the loss on its training batches (above) and the score on validation "
            "classes (below), against the step; a line for each data set and seed."
        ),
        notes=[
            "A loss is of one batch, and of different runs a different quantity, with their "
            "regularisers and label smoothing. A score is the accuracy on episodes by the run's "
            "own fine-tuning; of classical runs, that of nearest class means over all "
            "validation classes.",
        ],
        drawing=drawing,
        plotted=plotted,
        sources=sources,
        missing=missing,
    )


def _small_multiples(runs: list[str], plotted: pd.DataFrame) -> Canvas:
    """A place for each run, in rows of ``ACROSS``; the loss stands above the score."""
    down = ceil(len(runs) / ACROSS)
    drawing = canvas(PAGE, 0.7 + 1.5 * down)
    grid = drawing.subplots(2 * down, ACROSS, squeeze=False)
    for index in range(down * ACROSS):
        row, column = divmod(index, ACROSS)
        pair = grid[2 * row : 2 * row + 2, column]
        if index < len(runs):
            _curves(pair, runs[index], plotted[plotted["run"] == runs[index]])
        else:
            for axes in pair:
                axes.set_axis_off()
    for index, axes in enumerate(grid[:, 0]):
        axes.set_ylabel(("loss", "score")[index % 2])
    return drawing


def _curves(pair: Iterable[Axes], run: str, plotted: pd.DataFrame) -> None:
    above, below = pair
    below.set_xlabel("step", fontsize=5, labelpad=1)
    above.set_title(run, fontsize=5)
    above.tick_params(labelbottom=False)
    below.sharex(above)
    below.xaxis.set_major_formatter(EngFormatter(sep=""))
    for axes, quantity in zip((above, below), QUANTITIES, strict=True):
        of_axes = plotted[plotted["quantity"] == quantity]
        for (role, _), line in of_axes.groupby(["in_place_of", "seed"]):
            axes.plot(
                line["step"], line["value"], LINES[quantity], color=ROLES[str(role)], linewidth=0.7
            )
        if quantity == "validation":
            limit(axes, 0, 1)
        axes.xaxis.set_major_locator(MaxNLocator(3))
        axes.yaxis.set_major_locator(MaxNLocator(3))
        axes.tick_params(labelsize=5)
