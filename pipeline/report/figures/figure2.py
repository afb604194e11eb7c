"""Figure 2: novel classes in the plane of linear discriminant analysis."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from pipeline.report.figure import COLOURS, COLUMN, MARKERS, Figure, canvas, data_names, lookup
from pipeline.report.results import Results

ROLE = "mini_imagenet"
PARTS = {
    "figure2a": ("conv64_protonet", "ProtoNet"),
    "figure2b": ("conv64_classical", "the classical model"),
}
# What the plane is fitted to; the table of separation has these names as well.
PANELS = {
    "held_out": "plane fitted to {} other\nimages of each class",
    "in_sample": "fitted to these",
}
COLUMNS = ["model", "panel", "n_fit", "ratio", "class", "x", "y"]


def draw(results: Results, settings: Mapping[str, Any]) -> Figure:
    """From the projection records of both models, of their first seed."""
    run, model = PARTS[settings["figure"]]
    runs = [one for one, _ in PARTS.values()]
    sources, missing = lookup(results, settings, "projection", ROLE, runs)
    dataset = settings["roles"].get(ROLE, "")
    rows = [row for one in runs for row in _rows(results, dataset, one)]
    both = pd.DataFrame(rows, columns=COLUMNS)
    drawing = canvas(COLUMN, 3.3)
    large, small = drawing.subplots(1, 2, width_ratios=(2.1, 1))
    for panel, axes in zip(PANELS, (large, small), strict=True):
        of_panel = both[both["panel"] == panel]
        axes.set(box_aspect=1, anchor="N")
        if not of_panel.empty:
            # The points of both models: parts a and b have the same axes.
            reach = 1.05 * of_panel[["x", "y"]].abs().to_numpy().max()
            axes.set(xlim=(-reach, reach), ylim=(-reach, reach))
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_locator(MaxNLocator(5, integer=True))
            _plot(axes, of_panel[of_panel["model"] == run])
    large.set(xlabel="first direction (SD within classes)", ylabel="second direction (SD)")
    if handles := large.get_legend_handles_labels()[0]:
        drawing.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return Figure(
        id=settings["figure"],
        number=f"Figure {settings['figure'].removeprefix('figure')}",
        title=f"Novel classes in a plane, by features of {model}",
        data=data_names(settings, [ROLE]),
        caption=(
            "Images of novel classes, chosen at random, in the plane that divides these classes "
            f"best (linear discriminant analysis), by features of {model} with four convolutional "
            "layers. Large: the plane was fitted to other images of these classes. Small: to the "
            "shown images themselves, as in the paper. Axes: standard deviations within "
            "classes. Ratio: the variance within classes to that between them, of this choice of "
            "classes."
        ),
        notes=[
            "Models are of the first seed. Classes, images and axes are the same in parts a and b.",
            "Fitted to the shown images themselves, any features look well separated where "
            "they are more than the images. For many choices of classes see the table of "
            "separation.",
        ],
        drawing=drawing,
        plotted=both[both["model"] == run],
        sources=sources,
        missing=missing,
    )


def _rows(results: Results, dataset: str, run: str) -> Iterator[tuple[Any, ...]]:
    def read(*place: str) -> Any:
        seeds = results.read("projection", dataset, run, *place).samples
        return seeds[min(seeds)].tolist() if seeds else []

    for panel in PANELS:
        for label, points in zip(read("classes"), read(panel, "points"), strict=True):
            shared = run, panel, int(read("n_fit")[0]), read(panel, "ratios")[0], int(label)
            yield from ((*shared, *point) for point in points)


def _plot(axes: Axes, points: pd.DataFrame) -> None:
    for index, (label, of_class) in enumerate(points.groupby("class", sort=False)):
        axes.plot(
            of_class["x"],
            of_class["y"],
            MARKERS[index % len(MARKERS)],
            color=COLOURS[index % len(COLOURS)],
            markersize=2.5,
            markeredgewidth=0,
            label=f"class {label}",
        )
    for panel, n_fit, ratio in points[["panel", "n_fit", "ratio"]].drop_duplicates().to_numpy():
        axes.set_title(f"{PANELS[panel].format(n_fit)}\nratio {ratio:.3g}")
