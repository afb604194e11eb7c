"""Configuration, and what every rule's job carries: its settings and the digest of its code.

IN   config.yaml, scales/*.yaml, and what the command line overrides (--config, --configfile)
OUT  experiment: the configuration, checked; RESULTS: where this scale's results go
"""

import os

from snakemake.exceptions import WorkflowError

from pipeline import jobs, records, shown
from pipeline.config_files import load
from pipeline.errors import UserError

jobs.run_this_code(workflow.basedir)

try:
    experiment = load(config)
except UserError as error:
    raise WorkflowError(str(error))

SCALE = experiment.scale
RESULTS = f"results/{SCALE}"
MODEL = "{dataset}/{run}/seed{seed}"


wildcard_constraints:
    dataset="|".join(experiment.datasets),
    run="|".join(experiment.runs),
    seed=r"\d+",
    simulation="|".join(shown.simulations(experiment)),
    table="|".join(shown.TABLES),
    figure="|".join(shown.FIGURES),


def here(path):
    """A file of the project, relative: an absolute path would be stale in each other place."""
    return os.path.relpath(os.path.join(workflow.basedir, path))


def settings(verb):
    """A job's effective configuration: one string, since Snakemake keeps parameters nameless."""
    return lambda wildcards: jobs.dumps(job_settings(verb, wildcards))


def code(verb):
    """Digest of the code that a job reaches; Snakemake does not look into imported modules."""
    return lambda wildcards: jobs.frozen_code(verb, job_settings(verb, wildcards))


def job_settings(verb, wildcards):
    return jobs.settings(experiment, verb, **dict(wildcards.items()))


def place(kind):
    """The pattern of where the records of a kind lie."""
    return f"{RESULTS}/{records.PLACES[kind]}"


def reads(kinds):
    """The records of these kinds that this scale has."""
    return [
        f"{RESULTS}/{found}"
        for kind in kinds
        for found in records.places(
            kind, shown.subjects(experiment, kind), experiment.seeds
        )
    ]


def compared(wildcards):
    """The features of a meta-learned run and of its twins, all seeds."""
    twins = experiment.twins_of(wildcards.run, wildcards.dataset)
    subjects = {wildcards.dataset: [wildcards.run, *twins]}
    found = records.places("features", subjects, experiment.seeds)
    return [f"{RESULTS}/{one}" for one in found]


def raw(wildcards):
    """The folder that holds what is to be packed; generated images have none."""
    if experiment.datasets[wildcards.dataset].source == "synthetic":
        return []
    return f"resources/raw/{wildcards.dataset}"


def own_copy(wildcards, output):
    """Where the user's own copy lies, as an option of fetch.

    A data set is what it is wherever it lies, so a new place makes nothing stale: of a
    parameter that asks for the output Snakemake keeps no record.
    """
    path = experiment.datasets[wildcards.dataset].path
    return [] if path is None else ["--path", os.path.abspath(os.path.expanduser(path))]


def image_lists(wildcards):
    """The user's lists of which images belong."""
    folder = getattr(experiment.datasets[wildcards.dataset], "image_lists", None)
    if folder is None:
        return []
    names = ("train.csv", "val.csv", "test.csv")
    return [os.path.join(os.path.expanduser(folder), name) for name in names]


def class_split(wildcards):
    """The table of classes that a source reads beside its images."""
    table = here(
        f"pipeline/data/splits/{experiment.datasets[wildcards.dataset].source}.csv"
    )
    return table if os.path.exists(table) else []
