"""Table 4: how similar classical features are to meta-learned ones, by CKA."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from pipeline.report.results import Results
from pipeline.report.table import Cell, Table, published, sections

# The meta-learned run of each backbone.
BACKBONES = {"R2-D2": "r2d2_ridge", "MetaOptNet": "resnet12_svm"}
# The column, and by backbone the classical twin.
TWINS = {
    "C": {"R2-D2": "r2d2_classical", "MetaOptNet": "resnet12_classical"},
    "R_FC": {"R2-D2": "r2d2_classical_fc", "MetaOptNet": "resnet12_classical_fc"},
    "R_HV": {"R2-D2": "r2d2_classical_hv", "MetaOptNet": "resnet12_classical_hv"},
}


def cells(results: Results, role: str, dataset: str) -> list[Cell]:
    return [
        Cell(
            backbone,
            "",
            column,
            results.similarity(dataset, run, twin[backbone], "novel"),
            published("table4", backbone, backbone, role, column),
            rivals=backbone,
        )
        for backbone, run in BACKBONES.items()
        for column, twin in TWINS.items()
    ]


def table(results: Results, settings: Mapping[str, Any]) -> Table:
    """From similarity records."""
    return Table(
        id="table4",
        number="Table 4",
        title="Similarity (CKA) of classical features to those of the meta-learned twin",
        scale=settings["scale"],
        digits=3,
        sections=sections(settings, partial(cells, results), best="highest"),
        notes=[
            "C: trained classically; R_FC, R_HV: with a regulariser. Linear CKA of all novel "
            "images. Its standard error is that of the debiased CKA of folds of the images, which "
            "share no image.",
            "The paper does not say on which images it measured. Base images, the debiased values "
            "and the similarity of two meta-learned seeds are in the table similarity.",
        ],
    )
