"""The demo on a real SLURM, and what may happen to its jobs there.

One run, in which a training is timed out, preempted and cancelled, and a job fails: see ``ran``.
Its graph is the demo's whole graph, its images and budgets are smaller.
"""

import json
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import records
from pipeline.config_files import merged
from tests.workflow.test_staleness import changed
from tests.workflow.test_workflow import TINY

RESULTS = "results/demo"
DATASET = "synthetic_cifar_fs"
# A run that all that befalls a training befalls, and its twin, which is left alone.
RUN = "r2d2_ridge"
MODEL = "model_embed_evaluate_measure"
# What differs between two runs of the same job: in records, in the claims, and whole files.
TIMES = {"wall_s", "elapsed_s", "step_seconds"}
CLAIMS_OF_TIMES = {"classical_is_faster", "r_fc_is_free"}
FILES_OF_TIMES = {
    "report.html",
    "claims.md",
    *(f"tables/training_times.{kind}" for kind in ("md", "csv", "tex", "json")),
}
MEASURING = "pipeline/analysis/clustering.py"
# After each step the training waits, while there is a file that says so, to be stopped.
HELD = """\
            shown.advance()
            held = Path("held", settings["dataset"], settings["run"])
            while held.exists() and not SIGNALS:
                held.with_suffix(".step").write_text(str(progress.step))
                time.sleep(0.1)
"""


@pytest.fixture(scope="module")
def planned(tmp_path_factory, checkout):
    """The project with a demo of tiny images, before its first job."""
    project = checkout(tmp_path_factory.mktemp("slurm") / "before the first job")
    images = {"image_size": 16, "images_per_class": 20}
    demo = yaml.safe_load((project / "scales/demo.yaml").read_text())
    roles = demo["roles"]
    project.configure(
        {f"datasets.{name}.{key}": images[key] for name in roles.values() for key in images}
    )
    budgets = merged(demo, yaml.safe_load(TINY) | {"roles": roles})
    (project / "scales/demo.yaml").write_text(yaml.safe_dump(budgets))
    loop = project / "pipeline/training/loop.py"
    signals = re.search(r"_stop_signals\(\) as (\w+)", loop.read_text())[1]
    replace(loop, r"^ *shown\.advance\(\)\n", HELD.replace("SIGNALS", signals))
    # SLURM's shortest, the first time.
    its = f"(wildcards.dataset, wildcards.run, attempt) == ('{DATASET}', '{RUN}', 1)"
    shortest = f"lambda wildcards, attempt: 1 if {its} else 60"
    replace(project / "rules/train.smk", r"runtime=\d+", f"runtime={shortest}")
    return project


def found(project, kind: records.Kind) -> list[str]:
    """Where the records of a kind lie."""
    pattern = re.sub(r"{\w+}", "*", records.PLACES[kind])
    files = (project / RESULTS).glob(pattern)
    return sorted(str(file.relative_to(project.root)) for file in files)


def replace(file: Path, old: str, new: str) -> None:
    text, count = re.subn(old, new, file.read_text(), flags=re.MULTILINE)
    assert count == 1, f"{old} matches {count} times in {file}"
    file.write_text(text)


@pytest.fixture(scope="module")
def ran_locally(planned, tmp_path_factory):
    """The same after its last job, without SLURM."""
    project = planned.copy(tmp_path_factory.mktemp("slurm") / "on this machine")
    project.snakemake("--cores", "2")
    return project


@pytest.fixture(scope="module")
def ran(cluster, planned, ran_locally, tmp_path_factory):
    """The same after its last job, on SLURM, with all that happened on the way."""
    project = planned.copy(tmp_path_factory.mktemp("slurm") / "on SLURM")
    held = project / "held" / DATASET / RUN
    held.parent.mkdir(parents=True)
    held.touch()
    # All that is measured, but of the run that is held.
    others = [
        place
        for kind in records.PLACES
        for place in found(ran_locally, kind)
        if f"{DATASET}/{RUN}" not in place
    ]

    def wait_until(condition: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + 1800
        while not condition():
            assert process.poll() is None, (project / "snakemake.log").read_text()
            assert time.monotonic() < end, f"waited for half an hour, in vain, for {what}"
            time.sleep(0.3)

    def trainings() -> list[dict[str, str]]:
        return cluster.jobs(f"train_wildcards_{DATASET}_{RUN}_")

    def waits_after(step: int) -> bool:
        file = held.with_suffix(".step")
        return file.exists() and file.read_text() == str(step)

    def states(jobs: list[dict[str, str]]) -> list[str]:
        return [job["JobState"] for job in jobs]

    with (project / "snakemake.log").open("w") as log:
        command = ["--profile", "profiles/slurm", "--slurm-keep-successful-logs"]
        command += ["--slurm-status-command", "squeue"]
        command += ["--slurm-init-seconds-before-status-checks", "3"]
        process = subprocess.Popen(
            [sys.executable, "-m", "snakemake", *command],
            cwd=project.root,
            env=project.environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        # Code that measurements run changes after the workflow is planned.
        wait_until(lambda: bool(cluster.jobs("pack")), "the first job")
        measuring = (project / MEASURING).read_text()
        changed(MEASURING, "measure")(project)
        wait_until(lambda: "FAILED" in states(cluster.jobs("model")), "a job that refuses")
        (project / MEASURING).write_text(measuring)

        wait_until(lambda: states(trainings())[:1] == ["TIMEOUT"], "the time limit")
        wait_until(lambda: waits_after(2), "the training to go on")
        wait_until(
            lambda: (
                states(cluster.jobs()).count("RUNNING") == 1
                and "PENDING" not in states(cluster.jobs())
                and all((project / place).exists() for place in others)
            ),
            "the training to be alone",
        )
        cluster.run("sbatch", "--partition=urgent", "--gpus=3", "--output=/dev/null", "--wrap=true")
        wait_until(lambda: waits_after(3), "the training to go on")
        cluster.run("scancel", trainings()[-1]["JobId"])
        wait_until(lambda: waits_after(4), "the training to go on")
        held.unlink()
        assert process.wait(900) == 0, (project / "snakemake.log").read_text()
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
    return project


def test_a_stopped_training_goes_on_where_it_was(ran, cluster):
    attempts = cluster.jobs(f"train_wildcards_{DATASET}_{RUN}_")
    # The second is the preempted one: it saved and left within its time of grace.
    assert [job["JobState"] for job in attempts] == ["TIMEOUT", "FAILED", "CANCELLED", "COMPLETED"]
    log = (ran / f"logs/demo/train/{DATASET}/{RUN}/seed0.log").read_text()
    assert log.startswith("going on at step 3, ")


def test_a_job_refuses_code_that_is_not_what_was_planned(ran, cluster):
    first = cluster.jobs(MODEL)[0]
    assert first["JobState"] == "FAILED"
    assert "error: the code of this job changed" in (ran / "snakemake.log").read_text()


def test_jobs_get_what_they_need_and_none_runs_twice(ran, ran_locally, cluster):
    jobs = cluster.jobs()
    rules = [re.sub(r"^rule_|_wildcards.*", "", job["Comment"]) for job in jobs]
    kinds: list[records.Kind] = ["training", "measurement", "projection", "adaptation"]
    trained, measured, projected, adapted = (len(found(ran_locally, kind)) for kind in kinds)
    both, compared = f"{MODEL}_project", len(found(ran_locally, "similarity"))
    ended = [(rule, job["JobState"] == "COMPLETED") for rule, job in zip(rules, jobs, strict=True)]
    # Simulations, tables and figures run without SLURM.
    assert Counter(rule for rule, well in ended if well) == {
        "pack": 2,
        "train": trained,
        MODEL: measured - projected,
        both: projected,
        "adapt": adapted,
        "compare": compared,
    }
    assert {rule for rule, well in ended if not well} <= {"train", MODEL, both}
    for rule, job in zip(rules, jobs, strict=True):
        assert (job["NumTasks"], job["NumNodes"], job["Restarts"]) == ("1", "1", "0")
        needs_gpu = rule != "pack"
        assert job["Partition"] == ("gpu" if needs_gpu else "cpu")
        assert job.get("TresPerJob") == ("gres:gpu:1" if needs_gpu else None)
        # Those of a group that use the GPU follow one another: the largest counts. A projection
        # uses none, and Snakemake puts it beside a measurement or an evaluation, as it happens.
        memory = re.search(r"mem=(\w+)", job["TRES"])[1]
        allowed = {
            "pack": ["4000M"],
            "compare": ["16000M"],
            MODEL: ["16000M"],
            both: ["16000M", "20000M"],
        }
        assert memory in allowed.get(rule, ["8000M"])


def unsealed(text: bytes) -> Any:
    """What a file of JSON holds, without the checksum of a record, which is of its times too."""
    content = json.loads(text)
    if isinstance(content, dict):
        content.pop("sha256", None)
    return content


def without_times(record: Any) -> Any:
    if isinstance(record, dict):
        return {key: without_times(part) for key, part in record.items() if key not in TIMES}
    if isinstance(record, list):
        return [without_times(part) for part in record]
    return record


def untimed(file: Path, content: bytes) -> Any:
    """What a file of results holds, without times."""
    if file.suffix != ".json":
        return content
    values = without_times(unsealed(content))
    if file.name == "claims.json":
        values["claims"] = [one for one in values["claims"] if one["id"] not in CLAIMS_OF_TIMES]
    return values


def test_results_are_those_of_this_machine_bit_for_bit(ran, ran_locally):
    def files(project) -> set[str]:
        folder = project / RESULTS
        every = (file for file in folder.rglob("*") if file.is_file())
        return {str(file.relative_to(folder)) for file in every}

    assert files(ran) == files(ran_locally) > FILES_OF_TIMES
    for file in sorted(files(ran) - FILES_OF_TIMES):
        path = f"{RESULTS}/{file}"
        here, there = (
            untimed(each / path, (each / path).read_bytes()) for each in (ran_locally, ran)
        )
        assert here == there, file


def test_here_nothing_is_left_to_do(ran):
    assert "Nothing to be done" in ran.snakemake("--dry-run")
