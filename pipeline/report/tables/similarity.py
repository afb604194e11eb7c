"""CKA of every pair of twins: novel and base images, plain and debiased, and its ceiling."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from pipeline.report.results import Results
from pipeline.report.table import Cell, Table, sections
from pipeline.report.tables.table4 import BACKBONES, TWINS

FORMS = {"plain": "cka", "debiased": "cka_debiased"}
SPLITS = ("novel", "base")


def cells(results: Results, _: str, dataset: str, *, seeds: int) -> list[Cell]:
    def rows(backbone: str, run: str) -> dict[str, str]:
        twins = {column: twin[backbone] for column, twin in TWINS.items()}
        return twins | ({"another seed": run} if seeds > 1 else {})

    return [
        Cell(
            row,
            backbone,
            f"{split}, {form}",
            results.similarity(dataset, run, twin, split, name),
        )
        for backbone, run in BACKBONES.items()
        for row, twin in rows(backbone, run).items()
        for split in SPLITS
        for form, name in FORMS.items()
    ]


def table(results: Results, settings: Mapping[str, Any]) -> Table:
    """From similarity records."""
    return Table(
        id="similarity",
        number=None,
        title="Similarity (CKA) of features to those of the meta-learned twin",
        scale=settings["scale"],
        digits=4,
        sections=sections(settings, partial(cells, results, seeds=settings["seeds"])),
        notes=[
            "Rows as the columns of Table 4. Another seed, where there are several: the "
            "meta-learned run against itself with another seed, which is as similar as its twins "
            "can be expected to be.",
            "Plain CKA grows with the number of features where images are few; the debiased one "
            "does not. Standard errors are over folds of the images.",
        ],
    )
