"""Every run with each of its fine-tuners: heads on frozen features, and gradient steps."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from pipeline.report.results import Results
from pipeline.report.table import Cell, Table, sections

# What stands where nothing was measured: which runs there will be is not known.
PENDING = [("every run", "every fine-tuner")]


def cells(results: Results, _: str, dataset: str, *, n_shots: list[int]) -> list[Cell]:
    transductive = [
        name
        for name, options in results.adaptations().items()
        if options["statistics"] == "transductive"
    ]
    return [
        Cell(
            f"{run}, {fine_tuner}",
            "",
            f"{n_shot}-shot",
            results.accuracy(dataset, run, fine_tuner, n_shot),
            marks=("transductive",) if fine_tuner in transductive else (),
        )
        for run, fine_tuner in sorted(results.fine_tuners(dataset)) or PENDING
        for n_shot in n_shots
    ]


def table(results: Results, settings: Mapping[str, Any]) -> Table:
    """From evaluation and adaptation records."""
    return Table(
        id="fine_tuners",
        number=None,
        title=f"Every run with each of its fine-tuners, {settings['n_way']}-way, in percent",
        scale=settings["scale"],
        digits=2,
        sections=sections(settings, partial(cells, results, n_shots=settings["n_shots"])),
        notes=[
            "Heads are fitted on frozen features; adaptations move the whole network by gradient "
            "steps. Inductive: batch norm sees the support and one query at a time.",
            *(_described(name, options) for name, options in results.adaptations().items()),
        ],
    )


def _described(name: str, options: dict[str, Any]) -> str:
    head = "a new head" if options["head"] == "new" else "the head that the run left, or a new one"
    return (
        f"{name}: {options['steps']} steps of {options['optimizer']} at {options['lr']:g} from "
        f"{head}; {options['statistics']}, {options['n_query']} queries per class."
    )
