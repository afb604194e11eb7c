"""Table 3: few-shot accuracy of the four ways to train a backbone."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from pipeline.report.results import Results
from pipeline.report.table import Cell, Table, published, sections

# The paper's row and backbone, the run that reproduces it, and the head that fine-tunes.
ROWS = [
    ("R2-D2", "R2-D2", "r2d2_ridge", "ridge"),
    ("Classical", "R2-D2", "r2d2_classical", "svm"),
    ("Classical w/ R_FC", "R2-D2", "r2d2_classical_fc", "svm"),
    ("Classical w/ R_HV", "R2-D2", "r2d2_classical_hv", "svm"),
    ("MetaOptNet-SVM", "MetaOptNet", "resnet12_svm", "svm"),
    ("Classical", "MetaOptNet", "resnet12_classical", "svm"),
    ("Classical w/ R_FC", "MetaOptNet", "resnet12_classical_fc", "svm"),
    ("Classical w/ R_HV", "MetaOptNet", "resnet12_classical_hv", "svm"),
]


def cells(results: Results, role: str, dataset: str, *, compared: bool = True) -> list[Cell]:
    return [
        Cell(
            row,
            backbone,
            f"{n_shot}-shot",
            results.accuracy(dataset, run, head, n_shot),
            published("table3", row, backbone, role, f"{n_shot}-shot") if compared else None,
            rivals=f"{backbone} {n_shot}-shot",
        )
        for row, backbone, run, head in ROWS
        for n_shot in (1, 5)
    ]


def table(results: Results, settings: Mapping[str, Any]) -> Table:
    """From evaluation records."""
    # The paper's numbers are all 5-way.
    of_role = partial(cells, results, compared=settings["n_way"] == 5)
    return Table(
        id="table3",
        number="Table 3",
        title=f"{settings['n_way']}-way accuracy in percent",
        scale=settings["scale"],
        digits=2,
        sections=sections(settings, of_role, best="highest"),
        notes=[
            "Few-shot fine-tuning with the SVM, but with ridge regression in the R2-D2 row, which "
            "the paper quotes from Bertinetto et al. (2018), where ± is a 95 % interval.",
        ],
    )
