"""What the paper shows, and what its text promises: the records that each reads."""

from collections.abc import Callable
from typing import Any

from pipeline import records
from pipeline.config.experiment import Experiment

Kinds = tuple[records.Kind, ...]
_FINE_TUNERS: Kinds = ("evaluation", "adaptation")
TABLES: dict[str, Kinds] = {
    "table1": _FINE_TUNERS,
    "table2": ("measurement",),
    "table3": ("evaluation",),
    "table4": ("similarity",),
    "table5": ("measurement",),
    "table6": ("adaptation",),
    "cross_fine_tuners": _FINE_TUNERS,
    "clustering": ("measurement",),
    "similarity": ("similarity",),
    "regularizers": ("evaluation", "measurement"),
    "training_times": ("training",),
    "coefficient_sweep": ("adaptation",),
    "travel": ("adaptation",),
    "separation": ("projection",),
    "fine_tuners": _FINE_TUNERS,
}
# A figure of several parts is a file for each, made by one module.
FIGURES: dict[str, tuple[str, Kinds]] = {
    "figure1a": ("figure1", ("simulation",)),
    "figure1b": ("figure1", ("simulation",)),
    "figure2a": ("figure2", ("projection",)),
    "figure2b": ("figure2", ("projection",)),
    "figure3a": ("figure3", ("adaptation",)),
    "figure3b": ("figure3", ("adaptation",)),
    "theorem1": ("theorem1", ("simulation",)),
    "coefficient_sweep": ("coefficient_sweep", ("adaptation",)),
    "training_curves": ("training_curves", ("training",)),
}
CLAIMS: Kinds = tuple(kind for kind in records.PLACES if kind != "features")


def simulations(experiment: Experiment) -> list[str]:
    return list(type(experiment.simulations).model_fields)


def subjects(experiment: Experiment, kind: records.Kind) -> records.Subjects:
    """What there are records of, of one kind: the runs of each data set, or simulations."""
    if kind == "simulation":
        return {"": simulations(experiment)}
    chosen: dict[records.Kind, Callable[[str, str], Any]] = {
        "training": lambda _, __: True,
        "evaluation": lambda run, _: experiment.heads_of(run),
        "adaptation": lambda run, _: experiment.adaptations_of(run),
        "measurement": lambda run, _: experiment.heads_of(run),
        "similarity": experiment.twins_of,
        "projection": lambda run, _: run in experiment.projection.runs,
    }
    found: records.Subjects = {}
    for dataset, run, _ in experiment.trainings():
        runs = found.setdefault(dataset, [])
        if run not in runs and chosen[kind](run, dataset):
            runs.append(run)
    # In whatever order the configuration has them, it is the same job.
    return {dataset: sorted(runs) for dataset, runs in found.items() if runs}
