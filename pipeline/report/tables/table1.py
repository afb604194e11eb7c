"""Table 1: every model with every fine-tuner, 1-shot."""

from collections.abc import Mapping
from typing import Any

from pipeline.report.results import Results
from pipeline.report.table import Cell, Table, published, sections

# The paper's row, its backbone, and the run that reproduces it.
MODELS = [
    ("MetaOptNet-M", "MetaOptNet", "resnet12_svm"),
    ("MetaOptNet-C", "MetaOptNet", "resnet12_classical"),
    ("R2-D2-M", "R2-D2", "r2d2_ridge"),
    ("R2-D2-C", "R2-D2", "r2d2_classical"),
]
FINE_TUNERS = {"SVM": "svm", "RR": "ridge", "ProtoNet": "prototypes", "MAML": "maml_fresh"}
NOTES = [
    "-M: meta-learned, MetaOptNet with the SVM and R2-D2 with ridge regression. -C: trained "
    "classically.",
    "The columns are fine-tuners. SVM, RR (ridge regression) and ProtoNet are fitted on frozen "
    "features; MAML takes gradient steps of the whole network from a new head, with batch "
    "norm's statistics of the support, and of the queries.",
]


def cells(
    results: Results, role: str, dataset: str, n_shot: int, *, compared: bool = True
) -> list[Cell]:
    """One row a model, one column a fine-tuner; the twins of a backbone are rivals."""
    return [
        Cell(
            row,
            backbone,
            column,
            results.accuracy(dataset, run, fine_tuner, n_shot),
            published("table1", row, backbone, role, column) if compared else None,
            ("transductive",) if column == "MAML" else (),
            f"{backbone} {column}",
        )
        for row, backbone, run in MODELS
        for column, fine_tuner in FINE_TUNERS.items()
    ]


def table(results: Results, settings: Mapping[str, Any]) -> Table:
    """From evaluation and adaptation records."""
    return Table(
        id="table1",
        number="Table 1",
        title=f"Models with various fine-tuners, 1-shot {settings['n_way']}-way accuracy, %",
        scale=settings["scale"],
        digits=2,
        sections=sections(
            settings,
            # The paper's numbers are all 5-way.
            lambda role, dataset: cells(results, role, dataset, 1, compared=settings["n_way"] == 5),
            roles=["mini_imagenet"],
            best="highest",
        ),
        notes=NOTES,
    )
