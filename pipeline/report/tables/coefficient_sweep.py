"""Weight-Clustering by its coefficient: what the paper's Appendix A.3 holds."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from pipeline.report.results import Results
from pipeline.report.table import Cell, Table, sections

# The coefficient of each run; Reptile's own order of tasks comes first.
RUNS = {
    "Reptile": "reptile",
    "0": "weight_clustering_0",
    "5e-6": "weight_clustering_5em6",
    "5e-5": "weight_clustering",
    "5e-4": "weight_clustering_5em4",
    "5e-2": "weight_clustering_5em2",
    "5": "weight_clustering_5",
    "50": "weight_clustering_50",
}


def cells(results: Results, _: str, dataset: str) -> list[Cell]:
    found = []
    for row, run in RUNS.items():
        if not results.expects("adaptation", dataset, run):
            continue
        found += [
            Cell(
                row,
                "",
                f"{n_shot}-shot",
                results.accuracy(dataset, run, "reptile", n_shot),
                marks=("transductive",),
                rivals=f"{n_shot}-shot",
            )
            for n_shot in (1, 5)
        ]
        found += [
            Cell(
                row,
                "",
                f"{n_shot}-shot, minus Reptile",
                results.accuracy(dataset, run, "reptile", n_shot).minus(
                    results.accuracy(dataset, RUNS["Reptile"], "reptile", n_shot)
                ),
            )
            for n_shot in (1, 5)
            if row != "Reptile"
        ]
    return found


def table(results: Results, settings: Mapping[str, Any]) -> Table:
    """From adaptation records."""
    return Table(
        id="coefficient_sweep",
        number=None,
        title="Weight-Clustering by its coefficient, accuracy in percent",
        scale=settings["scale"],
        digits=2,
        sections=sections(settings, partial(cells, results), best="highest"),
        notes=[
            "The coefficient is alpha times the constant of the gradient of R_i. With 0 it is the "
            "same code without the pull, tasks in lock-step; Reptile takes tasks one after "
            "another. Differences are paired over episodes.",
        ],
    )
