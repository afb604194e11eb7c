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
from typing import Any

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
        If ``names`` are not those that say which job of the verb it is, or one is unknown.
    """
    _, *needed = signature(_SETTINGS[verb]).parameters
    if names.keys() != set(needed):
        raise UserError(
            f"a job of {verb} is named by --{', --'.join(needed)}; "
            f"given: {', '.join(f'--{name}' for name in names) or 'none'}"
        )
    known: dict[str, Mapping[str, Any]] = {
        "dataset": experiment.datasets,
        "run": experiment.runs,
        "table": TABLES,
    }
    for name in known.keys() & names.keys():
        if names[name] not in known[name]:
            raise UserError(f"unknown {name} {names[name]!r}; {nearest(names[name], known[name])}")
    return _SETTINGS[verb](experiment, **names)


def dumps(values: Settings) -> str:
    return json.dumps(values, sort_keys=True, separators=(",", ":"))


def code(verb: str, values: Settings) -> str:
    """Digest of the code that a job reaches."""
    return code_digest(_ENTRIES[verb](values))


def frozen_code(verb: str, values: Settings) -> str:
    """The digest of ``code`` as it was when the graph was first built."""
    known = json.loads(os.environ.get(FROZEN, "{}"))
    key = " ".join(sorted(_ENTRIES[verb](values)))
    if key not in known:
        known[key] = code(verb, values)
        os.environ[FROZEN] = json.dumps(known)
    return str(known[key])


def _pack(experiment: Experiment, dataset: str) -> Settings:
    # Where a copy of the data lies is no part of a result: its content is, through the fingerprint.
    source = experiment.datasets[dataset].model_dump(mode="json", exclude={"path"})
    return {"dataset": dataset, **source}


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


# What each table reads.
TABLES: dict[str, tuple[str, ...]] = {
    "table2": ("measures",),
    "table3": ("evals",),
    "regularizers": ("evals", "measures"),
    "fine_tuners": ("evals", "adaptations"),
}


def models(experiment: Experiment, kind: str) -> list[tuple[str, str, int]]:
    """The (data set, run, seed) of which there are records of a kind."""
    of_kind = experiment.adaptations_of if kind == "adaptations" else experiment.heads_of
    return [model for model in experiment.trainings() if of_kind(model[1])]


def _table(experiment: Experiment, table: str) -> Settings:
    return {
        "table": table,
        "scale": experiment.scale,
        "roles": experiment.roles,
        "n_way": experiment.evaluation.n_way,
    }


_SETTINGS: dict[str, Callable[..., Settings]] = {
    "pack": _pack,
    "train": _train,
    "embed": _embed,
    "evaluate": _evaluate,
    "adapt": _adapt,
    "measure": _measure,
    "table": _table,
}


def _identity(experiment: Experiment, dataset: str, run: str, seed: int) -> Settings:
    return {
        "scale": experiment.scale,
        "dataset": dataset,
        "stands_for": experiment.datasets[dataset].stands_for,
        "run": run,
        "seed": int(seed),
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
    "table": lambda values: [f"pipeline.report.tables.{values['table']}"],
}

VERBS = frozenset(_SETTINGS)
