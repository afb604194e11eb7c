"""How long training took: a step, and the whole run."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from pipeline.report.results import Measured, Results
from pipeline.report.table import Cell, Table, sections


def total_seconds(results: Results, dataset: str, run: str) -> Measured:
    """All steps of a run, without validations: the time of a step times their number."""
    step = results.step_seconds(dataset, run)
    steps = results.read("training", dataset, run, "steps")
    return Measured(
        {
            seed: np.array([one.mean() * steps.samples[seed][0]])
            for seed, one in step.samples.items()
        },
        step.sources,
        "step_seconds, steps",
        "run",
    )


def cells(results: Results, _: str, dataset: str) -> list[Cell]:
    runs = dict.fromkeys(
        record.run or "" for _, record in results.all_of("training") if record.dataset == dataset
    )
    found = []
    for run in runs or ["every run"]:
        found += [
            Cell(run, "", "seconds a step", results.step_seconds(dataset, run)),
            Cell(
                run,
                "",
                "steps",
                results.read("training", dataset, run, "steps", unit="run"),
                digits=0,
            ),
            Cell(run, "", "seconds in all", total_seconds(results, dataset, run), digits=1),
        ]
    return found


def table(results: Results, settings: Mapping[str, Any]) -> Table:
    """From training records."""
    devices = sorted({record.device for _, record in results.all_of("training")})
    return Table(
        id="training_times",
        number=None,
        title="Training times",
        scale=settings["scale"],
        digits=4,
        sections=sections(settings, partial(cells, results)),
        notes=[
            "Wall clock without validations. A step is a batch of a classical run, a meta-batch of "
            "the others. The standard error is over stretches of a run, which see the same "
            "machine; other jobs may have run beside it.",
            f"Device: {'; '.join(devices) or 'none'}.",
        ],
    )
