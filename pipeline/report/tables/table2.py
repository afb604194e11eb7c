"""Table 2: how tightly features cluster by class, R_FC and R_HV."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from pipeline.report.results import Results
from pipeline.report.table import Cell, Table, published, sections

MODELS = [
    ("R2-D2-M", "R2-D2", "r2d2_ridge"),
    ("R2-D2-C", "R2-D2", "r2d2_classical"),
    ("MetaOptNet-M", "MetaOptNet", "resnet12_svm"),
    ("MetaOptNet-C", "MetaOptNet", "resnet12_classical"),
]
# The measures of the paper's tables, in the released form.
MEASURES = {"R_FC": "r_fc_released", "R_HV": "r_hv_released"}


def cells(results: Results, role: str, dataset: str) -> list[Cell]:
    return [
        Cell(
            row,
            backbone,
            column,
            results.clustering(dataset, run, "base", measure),
            published("table2", row, backbone, role, column),
            rivals=f"{backbone} {column}",
        )
        for row, backbone, run in MODELS
        for column, measure in MEASURES.items()
    ]


def table(results: Results, settings: Mapping[str, Any]) -> Table:
    """From measurement records."""
    return Table(
        id="table2",
        number="Table 2",
        title="Feature clustering and hyperplane variation; lower is better separated",
        scale=settings["scale"],
        digits=3,
        sections=sections(settings, partial(cells, results), best="lowest"),
        notes=[
            "-M: meta-learned. -C: trained classically.",
            "The released forms: means over random pairs of classes with two images of each. The "
            "paper's values above 1 cannot come from the printed R_HV. The printed forms, the "
            "population's values and novel classes are in the table clustering.",
            "The paper does not say on which classes it measured; ours are base classes.",
        ],
    )
