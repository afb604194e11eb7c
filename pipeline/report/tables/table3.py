"""Table 3: few-shot accuracy of the four ways to train a backbone."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipeline.report import render
from pipeline.report.results import Results
from pipeline.report.table import Cell, Published, Table, cell, published, sections

# The head that fine-tunes on each episode.
HEAD = "ridge"
# The paper's row and backbone, and the run that reproduces it.
ROWS = [
    ("R2-D2", "R2-D2", "r2d2_ridge"),
    ("Classical", "R2-D2", "r2d2_classical"),
    ("Classical w/ R_FC", "R2-D2", "r2d2_classical_fc"),
    ("Classical w/ R_HV", "R2-D2", "r2d2_classical_hv"),
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
                results.accuracy(dataset, run, HEAD, n_shot),
                paper(row, backbone, role, f"{n_shot}-shot"),
            )
            for row, backbone, run in ROWS
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
            "Few-shot fine-tuning with the ridge head in every row. The paper fine-tunes with an "
            "SVM, except in its R2-D2 row, which it quotes from Bertinetto et al. (2018), where "
            "± is a 95 % interval.",
        ],
    )
    render.write(table, prefix)
