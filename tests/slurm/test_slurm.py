"""The workflow on a real SLURM, and what may happen to its jobs there.

One run, in which a training is timed out, preempted and cancelled, and a job fails: see ``ran``.
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

from tests.workflow.test_staleness import changed
from tests.workflow.test_workflow import DATASET, HEADS, TINY

RESULTS = "results/tiny"
# A run that all that befalls a training befalls, and its twin, which is left alone.
RUN, TWIN = "r2d2_ridge", "r2d2_classical"
FINE_TUNERS = {RUN: [*HEADS, "maml_fresh"], TWIN: HEADS}
# One table of each kind of record, and records that no table reads.
TARGETS = [
    *(
        f"{RESULTS}/tables/{name}.md"
        for name in ("table2", "table3", "table4", "fine_tuners", "separation")
    ),
    f"{RESULTS}/simulations/theorem1.json",
]
# Of a record, what differs between two runs of the same job.
TIMES = {"wall_s", "elapsed_s", "step_seconds"}
MEASURING = "pipeline/analysis/clustering.py"
# After each step the training waits, while there is a file that says so, to be stopped.
HELD = """\
            shown.advance()
            held = Path("held", settings["run"])
            while held.exists() and not SIGNALS:
                held.with_suffix(".step").write_text(str(progress.step))
                time.sleep(0.1)
"""


@pytest.fixture(scope="module")
def planned(tmp_path_factory, checkout):
    """The project with a scale of a minute and two runs, before its first job."""
    project = checkout(tmp_path_factory.mktemp("slurm") / "before the first job")
    images = {"source": "synthetic", "stands_for": "cifar_fs"}
    images |= {"image_size": 16, "images_per_class": 20}
    runs = yaml.safe_load((project / "config.yaml").read_text())["runs"]
    chosen = {run: runs[run] | {"fine_tuners": names} for run, names in FINE_TUNERS.items()}
    changes = {"scale": "tiny", f"datasets.{DATASET}": images, "runs": chosen}
    project.configure(changes | {"projection.runs": [RUN]})
    (project / "scales/tiny.yaml").write_text(TINY)
    loop = project / "pipeline/training/loop.py"
    signals = re.search(r"_stop_signals\(\) as (\w+)", loop.read_text())[1]
    replace(loop, r"^ *shown\.advance\(\)\n", HELD.replace("SIGNALS", signals))
    # SLURM's shortest, the first time.
    shortest = f"lambda wildcards, attempt: 1 if wildcards.run == '{RUN}' and attempt == 1 else 60"
    replace(project / "rules/train.smk", r"runtime=\d+", f"runtime={shortest}")
    return project


def replace(file: Path, old: str, new: str) -> None:
    text, count = re.subn(old, new, file.read_text(), flags=re.MULTILINE)
    assert count == 1, f"{old} matches {count} times in {file}"
    file.write_text(text)


@pytest.fixture(scope="module")
def ran_locally(planned, tmp_path_factory):
    """The same after its last job, without SLURM."""
    project = planned.copy(tmp_path_factory.mktemp("slurm") / "on this machine")
    project.snakemake("--cores", "2", "--", *TARGETS)
    return project


@pytest.fixture(scope="module")
def ran(cluster, planned, tmp_path_factory):
    """The same after its last job, on SLURM, with all that happened on the way."""
    project = planned.copy(tmp_path_factory.mktemp("slurm") / "on SLURM")
    held = project / "held" / RUN
    held.parent.mkdir()
    held.touch()

    def wait_until(condition: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + 300
        while not condition():
            assert process.poll() is None, (project / "snakemake.log").read_text()
            assert time.monotonic() < end, f"waited for five minutes, in vain, for {what}"
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
        command += ["--slurm-init-seconds-before-status-checks", "3", "--", *TARGETS]
        process = subprocess.Popen(
            [sys.executable, "-m", "snakemake", *command],
            cwd=project.root,
            env=project.environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        # Code that the twin's measurement runs changes after the workflow is planned.
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
                and (project / f"{RESULTS}/measures/{DATASET}/{TWIN}/seed0.json").exists()
            ),
            "the training to be alone",
        )
        cluster.run("sbatch", "--partition=urgent", "--gpus=2", "--output=/dev/null", "--wrap=true")
        wait_until(lambda: waits_after(3), "the training to go on")
        cluster.run("scancel", trainings()[-1]["JobId"])
        wait_until(lambda: waits_after(4), "the training to go on")
        held.unlink()
        assert process.wait(300) == 0, (project / "snakemake.log").read_text()
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
    return project


def test_a_stopped_training_goes_on_where_it_was(ran, cluster):
    attempts = cluster.jobs(f"train_wildcards_{DATASET}_{RUN}_")
    # The second is the preempted one: it saved and left within its time of grace.
    assert [job["JobState"] for job in attempts] == ["TIMEOUT", "FAILED", "CANCELLED", "COMPLETED"]
    log = (ran / f"logs/tiny/train/{DATASET}/{RUN}/seed0.log").read_text()
    assert log.startswith("going on at step 3, ")


def test_a_job_refuses_code_that_is_not_what_was_planned(ran, cluster):
    first, second = cluster.jobs("model_embed_evaluate_measure")[:2]
    assert [first["JobState"], second["JobState"]] == ["FAILED", "COMPLETED"]
    assert "error: the code of this job changed" in (ran / "snakemake.log").read_text()


def test_jobs_get_what_they_need_and_none_runs_twice(ran, cluster):
    jobs = cluster.jobs()
    rules = [re.sub(r"^rule_|_wildcards.*", "", job["Comment"]) for job in jobs]
    both, model = "model_embed_evaluate_measure_project", "model_embed_evaluate_measure"
    # Simulations and tables run without SLURM.
    assert Counter(rules) == {
        "pack": 1,
        "train": 5,
        model: 2,
        both: 1,
        "adapt": 1,
        "compare": 1,
    }
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
            model: ["16000M"],
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


def test_results_are_those_of_this_machine_bit_for_bit(ran, ran_locally):
    def files(project) -> set[Path]:
        found = (project / "results").rglob("*")
        return {file.relative_to(project.root) for file in found if file.is_file()}

    assert files(ran) == files(ran_locally)
    compared = Counter(file.suffix for file in files(ran))
    assert compared[".safetensors"] == 2
    assert compared[".md"] == compared[".csv"] == compared[".tex"] == 5
    for file in files(ran):
        here, there = (ran_locally / str(file)).read_bytes(), (ran / str(file)).read_bytes()
        if file.suffix == ".json":
            here, there = (without_times(unsealed(part)) for part in (here, there))
        assert here == there, file


def test_here_nothing_is_left_to_do(ran):
    assert "Nothing to be done" in ran.snakemake("--dry-run", "--", *TARGETS)
