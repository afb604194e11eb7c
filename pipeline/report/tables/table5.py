"""Table 5: MAML's features are not clustered by class."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from pipeline.report.results import Results
from pipeline.report.table import Cell, Table, published, sections
from pipeline.report.tables.table2 import MEASURES

MODELS = {"MAML-1": "maml_1shot", "MAML-5": "maml_5shot", "MAML-C": "maml_classical"}


def cells(results: Results, role: str, dataset: str) -> list[Cell]:
    return [
        Cell(
            row,
            "",
            column,
            results.clustering(dataset, run, "base", measure),
            published("table5", row, "", role, column),
            rivals=column,
        )
        for row, run in MODELS.items()
        for column, measure in MEASURES.items()
    ]


def table(results: Results, settings: Mapping[str, Any]) -> Table:
    """From measurement records."""
    return Table(
        id="table5",
        number="Table 5",
        title="Feature clustering and hyperplane variation of MAML on base classes",
        scale=settings["scale"],
        digits=4,
        sections=sections(
            settings, partial(cells, results), roles=["mini_imagenet"], best="lowest"
        ),
        notes=[
            "MAML-1 and MAML-5: trained with 1 and 5 shots. MAML-C: the same architecture trained "
            "classically. Released forms, as in Table 2: R_HV cannot exceed 4, R_FC has no bound.",
        ],
    )
