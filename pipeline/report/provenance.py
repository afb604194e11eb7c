"""Where a number comes from, in words: the same on the page and in a terminal."""

import json
from collections.abc import Iterable
from typing import Any

from pipeline.records import PLACES, Kind, Record
from pipeline.report.table import Section
from pipeline.words import duration

# What the records of a kind are.
TITLES: dict[Kind, str] = {
    "training": "Training",
    "evaluation": "Few-shot accuracy of heads on frozen features",
    "adaptation": "Few-shot accuracy and travel of gradient steps",
    "measurement": "Clustering of features",
    "similarity": "Similarity of features (CKA)",
    "projection": "Projection of features to a plane",
    "simulation": "Simulation",
}


def shown(place: str, record: Record, known: Iterable[str]) -> dict[str, Any]:
    """All of it as plain values."""
    return {
        "place": place,
        "facts": facts(record),
        "configuration": configuration(record),
        "trainings": trainings(record, known),
        "command": command(record.scale, place),
    }


def facts(record: Record) -> dict[str, str]:
    """What a record says of itself, all but its configuration and its values."""
    found = {
        "run": record.run or record.settings.get("simulation"),
        "twins": ", ".join(record.settings.get("twins", [])),
        "data set": _data(record),
        "seed": None if record.seed is None else str(record.seed),
        "scale": record.scale,
        "code digest": record.code,
        **{f"hash of {name}": digest for name, digest in sorted(record.sources.items())},
        "versions": ", ".join(f"{name} {found}" for name, found in sorted(record.versions.items())),
        "device": record.device,
        "wall time": duration(record.wall_s),
    }
    return {name: text for name, text in found.items() if text}


def configuration(record: Record) -> str:
    """The effective configuration of the record's job, to be read."""
    return json.dumps(record.settings, indent=2, sort_keys=True, ensure_ascii=False)


def command(scale: str, place: str) -> str:
    """What makes a file of ``results/<scale>`` anew."""
    return f"snakemake --cores all --config scale={scale} --force -- results/{scale}/{place}"


def trainings(record: Record, known: Iterable[str]) -> list[str]:
    """Of the known records, those of the trainings whose weights a record was measured with."""
    if record.kind == "training" or record.run is None:
        return []
    seeds = "/seed" if record.seed is None else f"/seed{record.seed}/"
    starts = [
        PLACES["training"].partition("/seed")[0].format(dataset=record.dataset, run=run) + seeds
        for run in (record.run, *record.settings.get("twins", []))
    ]
    return [place for place in known if place.startswith(tuple(starts))]


def data_name(dataset: str, stands_for: str | None) -> str:
    """The true name of a data set, and whose place it takes, as tables say it."""
    return Section(stands_for or dataset, dataset, []).heading


def _data(record: Record) -> str | None:
    return record.dataset and data_name(record.dataset, record.stands_for)
