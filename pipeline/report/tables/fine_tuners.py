"""Every run with each of its fine-tuners: heads on frozen features, and gradient steps."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipeline.report import render
from pipeline.report.results import Results
from pipeline.report.table import Cell, Table, cell, sections

# What stands where nothing was measured: which runs there will be is not known.
PENDING = [("every run", "every fine-tuner")]


def write(settings: dict[str, Any], records: Iterable[Path], prefix: Path) -> None:
    """Render the table from evaluation and adaptation records."""
    results = Results(records, settings["scale"])

    def cells(_: str, dataset: str) -> list[Cell]:
        return [
            cell(
                f"{run}, {fine_tuner}",
                "",
                f"{n_shot}-shot",
                results.accuracy(dataset, run, fine_tuner, n_shot),
            )
            for run, fine_tuner in sorted(results.fine_tuners(dataset)) or PENDING
            for n_shot in (1, 5)
        ]

    table = Table(
        id="fine_tuners",
        number=None,
        title=f"Every run with each of its fine-tuners, {settings['n_way']}-way, in percent",
        scale=settings["scale"],
        digits=2,
        sections=sections(settings["roles"], cells),
        notes=[
            "Heads (ridge, svm, prototypes) are fitted on frozen features. The others move the "
            "whole network: maml_fresh from a new head, maml and reptile from the head that the "
            "run left, where it left one. All but reptile_inductive are transductive: batch norm "
            "sees the queries of an episode together.",
        ],
    )
    render.write(table, prefix)
