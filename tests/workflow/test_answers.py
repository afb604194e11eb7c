"""What people are told of real workflows: why a file is stale, and what a scale takes.

Nothing is computed here: files are dummies for which snakemake holds true metadata, and the parts
of the code that "made" them are kept as a job keeps them.
"""

import json
import shutil
from functools import partial

import pytest
import yaml

from pipeline import config_files
from pipeline.advice import causes
from pipeline.advice.plan import answer
from pipeline.advice.why import why
from pipeline.advice.workflow import overrides, pending
from pipeline.digest import KEPT, keep
from pipeline.jobs import entries, settings

TABLE = "results/demo/tables/table3.md"
EVALUATION = "results/demo/evals/synthetic_cifar_fs/r2d2_ridge/seed0.json"
RUNS = ["r2d2_ridge", "r2d2_classical"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, checkout):
    """A finished Table 3 of two runs on one data set."""
    project = checkout(tmp_path_factory.mktemp("why") / "a finished table")
    runs = yaml.safe_load((project / "config.yaml").read_text())["runs"]
    chosen = {name: runs[name] | {"datasets": ["cifar_fs"]} for name in RUNS}
    project.configure({"runs": chosen, "projection": {"runs": []}})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project.root)
        for job in pending([TABLE], ["--config", "scale=demo"]):
            keep(entries(job.rule, job.settings), project / str(KEPT), project.root)
            for file in job.outputs:
                (project / file).parent.mkdir(parents=True, exist_ok=True)
                (project / file).write_text(f"{file}\n")
    project.snakemake("--touch", "--forceall", "--cores", "1", TABLE)
    return project


@pytest.fixture
def project(tmp_path, finished, monkeypatch):
    """A copy of it to edit, in which we are."""
    copy = finished.copy(tmp_path / "a copy")
    monkeypatch.chdir(copy.root)
    return copy


@pytest.fixture
def code_of(monkeypatch):
    """Lets ``why`` look at the code of the copy: it runs in this process, of another place."""

    def use(project) -> None:
        original = causes.digest.parts
        monkeypatch.setattr(causes.digest, "parts", lambda entries: original(entries, project.root))

    return use


def edit(project, file: str, old: str, new: str) -> None:
    text = (project / file).read_text()
    assert text.count(old) >= 1
    (project / file).write_text(text.replace(old, new, 1))


def test_nothing_moved(project):
    assert why(TABLE, "demo").startswith(f"Nothing moved: {TABLE} is as a run now would make it.")
    assert why("table3", "demo") == why(TABLE)


def test_a_head_moved(project, code_of):
    edit(project, "pipeline/heads/ridge.py", "\n    return ", "\n    print()\n    return ")
    code_of(project)
    lines = why(TABLE).splitlines()
    assert lines[0].endswith("is stale because 2 of its 3 inputs are.")
    moved = [line.split() for line in lines if line.strip().startswith("code")]
    assert len(moved) == 1
    assert moved[0][1].startswith("pipeline.heads.ridge:")
    assert moved[0][2:7] == ["changed", "2", "evaluations,", "1", "training"]
    assert moved[0][7:] == ["(evaluate", ">", "table)"]
    assert [line.split()[:2] for line in lines if "never timed" in line] == [
        *(["1", "training"], ["1", "embedding"], ["2", "evaluations"], ["1", "table"]),
    ]


def test_a_comment_did_not_move_anything(project):
    edit(project, "pipeline/heads/ridge.py", "\n    return ", "\n    # Why.\n    return ")
    assert why(TABLE).startswith("Nothing moved")


def test_settings_and_an_input_moved(project):
    project.configure({"runs.r2d2_ridge.training.lr": 0.02})
    with (project / "pipeline/report/published.csv").open("a") as file:
        file.write("\n")
    said = why(TABLE)
    assert "stale: what it is made of moved, and 1 of its 3 inputs is stale." in said
    assert "runs.r2d2_ridge.training.lr: 0.1 -> 0.02 1 training" in " ".join(said.split())
    assert "(train > embed > evaluate > table)" in said
    assert "pipeline/report/published.csv (edited, " in said


def test_one_more_seed(project):
    project.configure({"seeds": 2}, "scales/demo.yaml")
    said = why(TABLE)
    assert "configuration seeds: 1 -> 2" in " ".join(said.split())
    assert "never made before" in said
    assert "2 embeddings, 2 evaluations, 2 trainings" in said
    assert " more: " not in said


def test_a_file_that_is_gone_and_one_that_was_never_made(project):
    (project / EVALUATION).unlink()
    assert why(EVALUATION).startswith(f"{EVALUATION} is gone; it was made ")
    assert f"{EVALUATION} is gone; it does not need it" in why(TABLE)
    never = "results/demo/tables/table2.md"
    assert why(never).startswith(f"{never} was never made.")


def test_without_memory_nothing_can_be_told(project):
    shutil.rmtree(project / ".snakemake/metadata")
    said = why(TABLE)
    assert said.startswith(f"Snakemake does not remember how {TABLE} was made")
    assert f"snakemake --touch {TABLE}" in said


def test_the_rule_moved(project):
    edit(project, "rules/report.smk", "python -m pipeline table", "python  -m pipeline table")
    said = why(TABLE)
    assert [line.split()[:3] for line in said.splitlines()][3] == ["rule", "its", "command"]


def test_a_plan_of_what_is_left(project, monkeypatch):
    """Everything but Table 3 is left; earlier runs were timed, so nothing is timed now."""
    # This process has the code of another place.
    load = partial(config_files.load, root=project.root)
    monkeypatch.setattr(config_files, "load", load)
    for job in pending([]):
        if job.benchmark:
            path = project / job.benchmark
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("s\tmax_rss\n60.0\t500.0\n")
    said = answer.plan("demo")
    assert said.startswith("Scale demo: ")
    assert "Memory: a job held 500 MB at the most in earlier runs of this scale." in said
    rows = {tuple(line.split()[:3]) for line in said.splitlines() if line.endswith("earlier runs")}
    assert ("2", "0", "adaptations") in rows
    assert ("14", "1", "tables") in rows
    assert "trainings" not in said.split("In all")[0]


def test_a_plan_is_of_the_run_that_its_options_make(project, monkeypatch):
    """Its settings are those of the jobs that Snakemake would do with the same options."""
    load = partial(config_files.load, root=project.root)
    monkeypatch.setattr(config_files, "load", load)
    (project / "more.yaml").write_text("evaluation: {n_query: 4}\n")
    options = ["--configfile", "more.yaml", "--config", 'heads={"svm": {"C": 0.3}}', "seeds=2"]
    experiment = config_files.load(overrides(options))
    run = [job for job in pending([], options) if job.rule in ("train", "evaluate")]
    assert len(run) == 6
    for job in run:
        names = {name: job.settings[name] for name in ("dataset", "run", "seed")}
        assert job.settings == settings(experiment, job.rule, **names)
    (evaluated,) = {json.dumps(one.settings["heads"]) for one in run if one.rule == "evaluate"}
    assert {"name": "svm", "options": {"C": 0.3, "jitter": 1.0}} in json.loads(evaluated)


def test_the_settings_of_a_job_are_those_of_the_run_with_these_options(project):
    """Whole numbers within a mapping included, which Snakemake hands down as texts."""
    names = ["--scale", "small", "--dataset", "cifar_fs", "--run", "r2d2_ridge", "--seed", "0"]
    changed = 'runs={"r2d2_ridge": {"training": {"steps": 7}}}'
    done = project.python("pipeline", "settings", "train", *names, "--", "--config", changed)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["algorithm"]["steps"] == 7
    done = project.python("pipeline", "schema", "--", "--config", changed)
    assert done.returncode == 2
    assert "unrecognized arguments: -- --config" in done.stderr


def test_why_reads_the_options_that_the_run_reads(project):
    said = why("table3", options=["--config", "scale=small", "seeds=2"])
    assert said == "results/small/tables/table3.md was never made." or said.startswith(
        "results/small/tables/table3.md was never made.\n"
    )
    assert "--config scale=small seeds=2" in said


def test_the_parts_of_the_code_are_kept_as_they_were(finished):
    for path in (finished / str(KEPT)).iterdir():
        assert json.loads(path.read_text())
