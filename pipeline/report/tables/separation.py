"""Figure 2 in numbers: how well a plane separates classes."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from pipeline.report.results import Results
from pipeline.report.table import Cell, Table, sections

MODELS = {"ProtoNet": "conv64_protonet", "Classical": "conv64_classical"}
PANELS = {"other images": "held_out", "the shown images": "in_sample"}


def cells(results: Results, _: str, dataset: str) -> list[Cell]:
    return [
        Cell(row, "", column, results.separation(dataset, run, panel), rivals=column)
        for row, run in MODELS.items()
        for column, panel in PANELS.items()
    ]


def table(results: Results, settings: Mapping[str, Any]) -> Table:
    """From projection records."""
    return Table(
        id="separation",
        number=None,
        title="Separation of three novel classes in the plane of Figure 2",
        scale=settings["scale"],
        digits=3,
        sections=sections(settings, partial(cells, results), best="lowest"),
        notes=[
            "The natural logarithm of the ratio of the variance within classes to that between "
            "them, after linear discriminant analysis; lower is better separated, and 0.69 less is "
            "half the ratio. Over random choices of classes, the same for both models.",
            "Columns: which images the plane was fitted to. Fitted to the shown images, as in the "
            "paper, any features look well separated where they are more than the images.",
        ],
    )
