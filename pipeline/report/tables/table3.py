"""Table 3: few-shot accuracy of the four ways to train a backbone."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipeline.report import render
from pipeline.report.results import Results
from pipeline.report.table import Cell, Published, Table, cell, published, sections

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


def write(settings: dict[str, Any], records: Iterable[Path], prefix: Path) -> None:
    """Render the table from evaluation records."""
    results = Results(records, settings["scale"])

    def paper(*place: str) -> Published | None:
        # The paper's numbers are all 5-way.
        return published("table3", *place) if settings["n_way"] == 5 else None

    def cells(role: str, dataset: str) -> list[Cell]:
        return [
            cell(
                row,
                backbone,
                f"{n_shot}-shot",
                results.accuracy(dataset, run, head, n_shot),
                paper(row, backbone, role, f"{n_shot}-shot"),
            )
            for row, backbone, run, head in ROWS
            for n_shot in (1, 5)
        ]

    table = Table(
        id="table3",
        number="Table 3",
        title=f"{settings['n_way']}-way accuracy in percent",
        scale=settings["scale"],
        digits=2,
        sections=sections(settings["roles"], cells),
        notes=[
            "Few-shot fine-tuning with the SVM, but with ridge regression in the R2-D2 row, which "
            "the paper quotes from Bertinetto et al. (2018), where ± is a 95 % interval.",
        ],
    )
    render.write(table, prefix)
