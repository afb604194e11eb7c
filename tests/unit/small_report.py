"""A small report, made by the pipeline's own steps from the records of a few runs."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import config_files, jobs, records
from pipeline.files import write_json, write_text
from pipeline.plugins import find
from pipeline.report import render
from pipeline.report.claims import scorecard
from pipeline.report.results import Results

RUNS = ["r2d2_ridge", "r2d2_classical", "r2d2_classical_fc", "reptile"]
TABLES = ["table2", "table3", "clustering", "fine_tuners"]
# A count that no other number of the page has in it.
SECRET = 7319
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="200pt" height="90pt"><title>a drawing</title></svg>'
FIGURE: dict[str, Any] = {
    "number": "Figure 1a",
    "heading": "Figure 1a: Boundaries of <wide> & near classes",
    "caption": "What one sees: 5 % of it.",
    "notes": ["A note of the figure."],
    "sources": ["simulations/boundaries.json"],
}


def settings_of(verb: str, scale: str = "demo", **names: Any) -> dict[str, Any]:
    return jobs.settings(config_files.load({"scale": scale}), verb, **names)


def write_record(results: Path, kind: records.Kind, settings: dict[str, Any], values: Any) -> str:
    """Write a record to its place; returns the place."""
    place = records.PLACES[kind].format(**settings)
    sources = {"images": f"images of {settings['dataset']}", "weights": "cafe"}
    if kind == "training":
        del sources["weights"]
    records.write(
        results / place,
        kind,
        settings,
        code=f"digest of {kind}",
        sources=sources,
        device="a machine",
        wall_s=250.0,
        values=values,
    )
    return place


def write_run(results: Path, dataset: str, run: str, scale: str = "demo") -> None:
    """Records of one training and of what is measured of it, with random values."""
    of_run = {"dataset": dataset, "run": run, "seed": 0}
    random = np.random.default_rng([RUNS.index(run), len(dataset)])
    write_record(
        results,
        "training",
        settings_of("train", scale, **of_run),
        {"kept": "last", "steps": 60, "step_seconds": [0.1, 0.2]},
    )
    counts = {
        shot: {
            head: random.integers(15, 75, 30).tolist() for head in ("ridge", "svm", "prototypes")
        }
        for shot in "15"
    }
    counts["1"]["prototypes"][3] = SECRET
    write_record(
        results,
        "evaluation",
        settings_of("evaluate", scale, **of_run),
        {"n_queries": 75, "correct": counts},
    )
    measures = ("r_fc_released", "r_hv_released", "r_hv_printed")
    write_record(
        results,
        "measurement",
        settings_of("measure", scale, **of_run),
        {
            split: {
                "images_per_class": 20,
                "pairs": {name: random.random(8).tolist() for name in measures},
                "r_fc_printed": 1.5,
                "population": {"r_fc": 1.0, "r_hv": 2.0, "within": 3.0, "between": 4.0},
            }
            for split in ("base", "novel")
        },
    )


def write_report(
    results: Path, tables: Iterable[str] = TABLES, runs: Iterable[str] = RUNS, scale: str = "demo"
) -> dict[str, Any]:
    """Records, tables and claims of a scale and one figure; returns the settings of the page."""
    settings = settings_of("page", scale)
    for dataset in settings["roles"].values():
        for run in runs:
            write_run(results, dataset, run, scale)
    found = Results(results, settings)
    for name in tables:
        of_table = settings_of("table", scale, table=name)
        table = find("report.tables", name, "table")(found, of_table)
        render.write(table, found, results / "tables" / name)
    scorecard.write(found, settings_of("claims", scale), results / "claims")
    write_json(results / "figures/figure1a.json", FIGURE)
    write_text(results / "figures/figure1a.svg", SVG)
    return settings
