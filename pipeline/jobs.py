"""What each job reads from the configuration, and which code it runs.

The workflow hands both to Snakemake as parameters, so a job is stale exactly when one of
them moved.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping
from inspect import signature
from pathlib import Path
from typing import Any, get_args

from pipeline import shown
from pipeline.config.datasets import Dataset
from pipeline.config.experiment import Experiment
from pipeline.config.fields import nearest
from pipeline.digest import code_digest
from pipeline.errors import UserError

Settings = dict[str, Any]

# Digests are taken once, by the process that builds the graph; every process below it
# inherits them and so compares what it runs with what was planned.
FROZEN = "PIPELINE_DIGESTS"


def run_this_code(root: str) -> None:
    """Let all jobs run this interpreter and the code under ``root``, wherever they start."""
    own = {"PATH": str(Path(sys.executable).parent), "PYTHONPATH": root}
    for name, first in own.items():
        os.environ[name] = os.pathsep.join(filter(None, [first, os.environ.get(name)]))


def settings(experiment: Experiment, verb: str, **names: Any) -> Settings:
    """The effective configuration of one job: plain values, all defaults filled in.

    Raises
    ------
    UserError
        If ``names`` are not those that say which job of the verb it is, or there is no such job.
    """
    _, *needed = signature(_SETTINGS[verb]).parameters
    if names.keys() != set(needed):
        asked, given = (
            ", ".join(f"--{name}" for name in some) or "nothing" for some in (needed, names)
        )
        raise UserError(f"a job of {verb} is named by {asked}; given: {given}")
    known: dict[str, Mapping[str, Any]] = {
        "dataset": experiment.datasets,
        "run": experiment.runs,
        "table": shown.TABLES,
        "figure": shown.FIGURES,
        "simulation": dict.fromkeys(shown.simulations(experiment)),
    }
    for name in known.keys() & names.keys():
        if names[name] not in known[name]:
            raise UserError(f"unknown {name} {names[name]!r}; {nearest(names[name], known[name])}")
    if "run" in names and names["dataset"] not in (on := experiment.datasets_of(names["run"])):
        raise UserError(
            f"run {names['run']} is not on {names['dataset']}; it is on {', '.join(on)}"
        )
    # One beyond those of the configuration is a job like any other, for whoever asks by hand.
    if int(names.get("seed", 0)) < 0:
        raise UserError(f"seed {names['seed']}: must be 0 or more")
    return _SETTINGS[verb](experiment, **names)


def check(verb: str, values: Any) -> None:
    """Refuse settings that no job of the verb has.

    Raises
    ------
    ValueError
        Naming what is missing and what is unknown of them.
    """
    if not isinstance(values, dict):
        raise ValueError(f"not an object but {values!r}")
    known = {*_KEYS[verb], *(_source_keys(values) if verb == "pack" else ())}
    faults = {"missing": known - values.keys(), "unknown": values.keys() - known}
    if any(faults.values()):
        raise ValueError(
            "; ".join(f"{what}: {', '.join(sorted(some))}" for what, some in faults.items() if some)
        )


def dumps(values: Settings) -> str:
    return json.dumps(values, sort_keys=True, separators=(",", ":"))


def entries(verb: str, values: Settings) -> list[str]:
    """Where the code of a job starts: entries of ``pipeline.digest``."""
    return _ENTRIES[verb](values)


def code(verb: str, values: Settings) -> str:
    """Digest of the code that a job reaches."""
    return code_digest(entries(verb, values))


def frozen_code(verb: str, values: Settings) -> str:
    """The digest of ``code`` as it was when the graph was first built."""
    known = json.loads(os.environ.get(FROZEN, "{}"))
    key = " ".join(sorted(entries(verb, values)))
    if key not in known:
        known[key] = code(verb, values)
        os.environ[FROZEN] = json.dumps(known)
    return str(known[key])


def _pack(experiment: Experiment, dataset: str) -> Settings:
    # Where a copy of the data lies is no part of a result: its content is, through the fingerprint.
    source = experiment.datasets[dataset].model_dump(mode="json", exclude={"path"})
    return {"dataset": dataset, **source}


def _contact_sheets(_: Experiment, dataset: str) -> Settings:
    return {"dataset": dataset}


def _train(experiment: Experiment, dataset: str, run: str, seed: int) -> Settings:
    algorithm = experiment.run_on(run, dataset).training.model_dump(mode="json")
    if "head" in algorithm:
        algorithm["head"] = _head(experiment, algorithm["head"])
    return {
        **_identity(experiment, dataset, run, seed),
        "backbone": _backbone(experiment, dataset, run),
        "algorithm": algorithm,
    }


def _embed(experiment: Experiment, dataset: str, run: str, seed: int) -> Settings:
    return {
        **_identity(experiment, dataset, run, seed),
        "backbone": _backbone(experiment, dataset, run),
        "normalise": experiment.run_on(run, dataset).training.normalise,
        "images_per_class": {
            "novel": None,
            "base": experiment.measurement.base_images_per_class,
        },
    }


def _evaluate(experiment: Experiment, dataset: str, run: str, seed: int) -> Settings:
    return {
        **_identity(experiment, dataset, run, seed),
        "episodes": experiment.evaluation.model_dump(mode="json"),
        "heads": [_head(experiment, name) for name in experiment.heads_of(run)],
    }


def _adapt(experiment: Experiment, dataset: str, run: str, seed: int) -> Settings:
    evaluation = experiment.evaluation
    return {
        **_identity(experiment, dataset, run, seed),
        "backbone": _backbone(experiment, dataset, run),
        "normalise": experiment.run_on(run, dataset).training.normalise,
        "episodes": evaluation.model_dump(mode="json", include={"n_way", "n_shots", "seed"}),
        "adaptations": {
            name: experiment.adaptations[name].model_dump(mode="json")
            for name in experiment.adaptations_of(run)
        },
    }


def _measure(experiment: Experiment, dataset: str, run: str, seed: int) -> Settings:
    measurement = experiment.measurement
    return {
        **_identity(experiment, dataset, run, seed),
        "n_pairs": measurement.n_pairs,
        "measurement_seed": measurement.seed,
    }


def _compare(experiment: Experiment, dataset: str, run: str) -> Settings:
    twins = experiment.twins_of(run, dataset)
    if not twins:
        raise UserError(
            f"no run is a twin of {run} on {dataset}; set twin: {run} in a classical one"
        )
    return {
        **_identity(experiment, dataset, run, None),
        "twins": sorted(twins),
        "n_folds": experiment.measurement.n_folds,
    }


def _project(experiment: Experiment, dataset: str, run: str, seed: int) -> Settings:
    projection = experiment.projection
    return {
        **_identity(experiment, dataset, run, seed),
        **projection.model_dump(mode="json", exclude={"runs", "seed"}),
        "projection_seed": projection.seed,
    }


def _simulate(experiment: Experiment, simulation: str) -> Settings:
    return {
        "scale": experiment.scale,
        "simulation": simulation,
        "options": getattr(experiment.simulations, simulation).model_dump(mode="json"),
    }


def _reading(experiment: Experiment, kinds: shown.Kinds) -> Settings:
    """What a part of the report reads, and how it speaks of it."""
    return {
        "scale": experiment.scale,
        "roles": experiment.roles,
        "n_way": experiment.evaluation.n_way,
        "n_shots": list(experiment.evaluation.n_shots),
        "seeds": experiment.seeds,
        "records": {kind: shown.subjects(experiment, kind) for kind in kinds},
        "strict": experiment.strict,
    }


def _table(experiment: Experiment, table: str) -> Settings:
    return {"table": table, **_reading(experiment, shown.TABLES[table])}


def _figure(experiment: Experiment, figure: str) -> Settings:
    return {"figure": figure, **_reading(experiment, shown.FIGURES[figure][1])}


def _claims(experiment: Experiment) -> Settings:
    return _reading(experiment, shown.CLAIMS)


def _page(experiment: Experiment) -> Settings:
    return {
        "tables": list(shown.TABLES),
        "figures": list(shown.FIGURES),
        **_reading(experiment, shown.CLAIMS),
    }


_SETTINGS: dict[str, Callable[..., Settings]] = {
    "pack": _pack,
    "contact_sheets": _contact_sheets,
    "train": _train,
    "embed": _embed,
    "evaluate": _evaluate,
    "adapt": _adapt,
    "measure": _measure,
    "compare": _compare,
    "project": _project,
    "simulate": _simulate,
    "table": _table,
    "figure": _figure,
    "claims": _claims,
    "page": _page,
}

# The names of the settings of each verb, by which those of another are told from them.
_MODEL = ("scale", "dataset", "stands_for", "run", "seed")
_READER = ("scale", "roles", "n_way", "n_shots", "seeds", "records", "strict")
_KEYS: dict[str, tuple[str, ...]] = {
    # And what its source of images needs.
    "pack": ("dataset", "source"),
    "contact_sheets": ("dataset",),
    "train": (*_MODEL, "backbone", "algorithm"),
    "embed": (*_MODEL, "backbone", "normalise", "images_per_class"),
    "evaluate": (*_MODEL, "episodes", "heads"),
    "adapt": (*_MODEL, "backbone", "normalise", "episodes", "adaptations"),
    "measure": (*_MODEL, "n_pairs", "measurement_seed"),
    "compare": (*_MODEL, "twins", "n_folds"),
    "project": (*_MODEL, "n_classes", "n_images", "n_fit", "n_draws", "projection_seed"),
    "simulate": ("scale", "simulation", "options"),
    "table": ("table", *_READER),
    "figure": ("figure", *_READER),
    "claims": _READER,
    "page": ("tables", "figures", *_READER),
}


def _source_keys(values: Settings) -> set[str]:
    """Those by which the source of a data set is configured; none if there is no such source."""
    for model in get_args(get_args(Dataset)[0]):
        fields: Mapping[str, Any] = model.model_fields
        if values.get("source") in get_args(fields["source"].annotation):
            return fields.keys() - {"path"}
    return set()


def _identity(experiment: Experiment, dataset: str, run: str, seed: int | None) -> Settings:
    return {
        "scale": experiment.scale,
        "dataset": dataset,
        "stands_for": experiment.datasets[dataset].stands_for,
        "run": run,
        "seed": None if seed is None else int(seed),
    }


def _backbone(experiment: Experiment, dataset: str, run: str) -> Settings:
    return experiment.run_on(run, dataset).backbone.model_dump(mode="json")


def _head(experiment: Experiment, name: str) -> Settings:
    return {"name": name, "options": getattr(experiment.heads, name).model_dump(mode="json")}


def _train_entries(values: Settings) -> list[str]:
    algorithm = values["algorithm"]
    entries = [
        "pipeline.machine:prepare",
        "pipeline.training.loop:train",
        f"pipeline.models.{values['backbone']['name']}",
        f"pipeline.training.{algorithm['algorithm']}",
    ]
    if "head" in algorithm:
        entries.append(f"pipeline.heads.{algorithm['head']['name']}")
    if algorithm.get("regularizer"):
        entries.append(f"pipeline.regularizers.{algorithm['regularizer']}")
    return entries


_ENTRIES: dict[str, Callable[[Settings], list[str]]] = {
    "pack": lambda values: [
        "pipeline.data.packing:pack",
        f"pipeline.data.{values['source']}",
    ],
    "contact_sheets": lambda _: ["pipeline.data.contact_sheet:contact_sheet"],
    "train": _train_entries,
    "embed": lambda values: [
        "pipeline.machine:prepare",
        "pipeline.analysis.embedding:embed",
        f"pipeline.models.{values['backbone']['name']}",
    ],
    "evaluate": lambda values: [
        "pipeline.machine:prepare",
        "pipeline.analysis.evaluation:evaluate",
        *(f"pipeline.heads.{head['name']}" for head in values["heads"]),
    ],
    "adapt": lambda values: [
        "pipeline.machine:prepare",
        "pipeline.analysis.adaptation:adapt",
        f"pipeline.models.{values['backbone']['name']}",
    ],
    "measure": lambda _: ["pipeline.machine:prepare", "pipeline.analysis.clustering:measure"],
    "compare": lambda _: ["pipeline.machine:prepare", "pipeline.analysis.similarity:compare"],
    "project": lambda _: ["pipeline.analysis.projection:project"],
    "simulate": lambda values: [
        "pipeline.analysis.simulation:run",
        f"pipeline.analysis.simulations.{values['simulation']}",
    ],
    "table": lambda values: [
        "pipeline.report.render:write",
        f"pipeline.report.tables.{values['table']}",
    ],
    "figure": lambda values: [
        "pipeline.report.figure:write",
        f"pipeline.report.figures.{shown.FIGURES[values['figure']][0]}",
    ],
    "claims": lambda _: ["pipeline.report.claims.scorecard:write"],
    "page": lambda _: ["pipeline.report.page:write"],
}

VERBS = frozenset(_SETTINGS)
