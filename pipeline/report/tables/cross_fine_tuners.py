"""Table 1's comparison where the paper only promises it: 5-shot, and CIFAR-FS."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from pipeline.report.results import Results
from pipeline.report.table import Cell, Table, sections
from pipeline.report.tables.table1 import NOTES
from pipeline.report.tables.table1 import cells as of_shot

PARTS = [("mini_imagenet", 5), ("cifar_fs", 1), ("cifar_fs", 5)]


def cells(results: Results, role: str, dataset: str, *, n_shot: int) -> list[Cell]:
    return of_shot(results, role, dataset, n_shot, compared=False)


def table(results: Results, settings: Mapping[str, Any]) -> Table:
    """From evaluation and adaptation records."""
    return Table(
        id="cross_fine_tuners",
        number=None,
        title=f"Models with various fine-tuners, {settings['n_way']}-way accuracy in percent",
        scale=settings["scale"],
        digits=2,
        sections=[
            section
            for role, n_shot in PARTS
            for section in sections(
                settings,
                partial(cells, results, n_shot=n_shot),
                roles=[role],
                best="highest",
                part=f"{n_shot}-shot",
            )
        ],
        notes=NOTES,
    )
