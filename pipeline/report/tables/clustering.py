"""Clustering of every compared model: base and novel classes, sampled and exact, every form."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from pipeline.report.results import Results
from pipeline.report.table import Cell, Table, sections
from pipeline.report.tables import table2, table5

MODELS = [*table2.MODELS, *((row, "4-conv, 32", run) for row, run in table5.MODELS.items())]
# Means over sampled pairs, and values of all images at once.
SAMPLED = {
    "R_FC": "r_fc_released",
    "R_HV": "r_hv_released",
    "R_HV printed": "r_hv_printed",
}
EXACT = {
    "R_FC exact": ("population", "r_fc"),
    "R_HV exact": ("population", "r_hv"),
    "s": ("population", "within"),
    "D": ("population", "between"),
    "R_FC printed": ("r_fc_printed",),
}


def cells(results: Results, _: str, dataset: str, *, split: str) -> list[Cell]:
    found = []
    for row, backbone, run in MODELS:
        if not results.expects("measurement", dataset, run):
            continue
        found += [
            Cell(row, backbone, column, results.clustering(dataset, run, split, name))
            for column, name in SAMPLED.items()
        ]
        found += [
            Cell(row, backbone, column, results.population(dataset, run, split, *place))
            for column, place in EXACT.items()
        ]
    return found


def table(results: Results, settings: Mapping[str, Any]) -> Table:
    """From measurement records."""
    return Table(
        id="clustering",
        number=None,
        title="Feature clustering and hyperplane variation, in every form",
        scale=settings["scale"],
        digits=3,
        sections=[
            section
            for split in ("base", "novel")
            for section in sections(
                settings, partial(cells, results, split=split), part=f"{split} classes"
            )
        ],
        notes=[
            "R_FC and R_HV: the released forms, means over random pairs of classes with two images "
            "of each, as in Tables 2 and 5. R_HV printed is at most 1.",
            "Exact: what the released forms tend to in many dimensions, from the variance within "
            "classes (s, its mean over classes) and the squared distance of their centres (D, its "
            "mean over pairs) of all embedded images: 4s / (D + s) and 4s / (D + 2s) of each pair "
            "of classes, averaged.",
            "R_FC printed: one ratio over all classes and embedded images with the factor C / N "
            "and N images per class, as the paper has it.",
        ],
    )
