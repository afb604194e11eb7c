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
            "Heads are fitted on frozen features; adaptations move the whole network by gradient "
            "steps. Transductive: batch norm sees an episode's queries together. Inductive: it "
            "sees the support and one query at a time.",
            *(_described(name, options) for name, options in results.adaptations().items()),
        ],
    )
    render.write(table, prefix)


def _described(name: str, options: dict[str, Any]) -> str:
    head = "a new head" if options["head"] == "new" else "the head that the run left, or a new one"
    return (
        f"{name}: {options['steps']} steps of {options['optimizer']} at {options['lr']:g} from "
        f"{head}; {options['statistics']}, {options['n_query']} queries per class."
    )
