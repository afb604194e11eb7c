"""Table 2: how tightly features cluster by class, R_FC and R_HV."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipeline.report import render
from pipeline.report.results import Results
from pipeline.report.table import Cell, Table, cell, published, sections

MODELS = [
    ("R2-D2-M", "R2-D2", "r2d2_ridge"),
    ("R2-D2-C", "R2-D2", "r2d2_classical"),
    ("MetaOptNet-M", "MetaOptNet", "resnet12_svm"),
    ("MetaOptNet-C", "MetaOptNet", "resnet12_classical"),
]
MEASURES = [("R_FC", "r_fc_released"), ("R_HV", "r_hv_released"), ("R_HV printed", "r_hv_printed")]
# The paper does not say on which classes it measured; its numbers stand beside these.
IN_PAPER = {"R_FC base": "r_fc", "R_HV base": "r_hv"}


def write(settings: dict[str, Any], records: Iterable[Path], prefix: Path) -> None:
    """Render the table from measurement records."""
    results = Results(records, settings["scale"])

    def cells(role: str, dataset: str) -> list[Cell]:
        found = []
        for model, backbone, run in MODELS:
            for split in ("base", "novel"):
                for name, measure in MEASURES:
                    row = f"{name} {split}"
                    samples = results.clustering(dataset, run, split, measure)
                    paper = published("table2", model, backbone, role, IN_PAPER.get(row, ""))
                    found.append(cell(row, backbone, model, samples, paper))
                ratio = results.printed_r_fc(dataset, run, split)
                found.append(cell(f"R_FC printed {split}", backbone, model, ratio))
        return found

    table = Table(
        id="table2",
        number="Table 2",
        title="Feature clustering and hyperplane variation, lower is tighter",
        scale=settings["scale"],
        digits=3,
        sections=sections(settings["roles"], cells),
        notes=[
            "R_FC and R_HV are the released forms: means over random pairs of classes with two "
            "images of each. R_FC printed is one ratio over all classes and embedded images, with "
            "the factor C / N and N images per class as the paper has it; R_HV printed is at most "
            "1, so the paper's larger values cannot come from it.",
            "The paper does not say on which classes it measured; its numbers stand beside ours on "
            "base classes.",
        ],
    )
    render.write(table, prefix)
