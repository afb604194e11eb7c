"""The whole workflow, run for real: every job and every table, on tiny images."""

import hashlib
import os
import re
import signal

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student

from pipeline import records
from pipeline.data.packed import Packed

RESULTS = "results/tiny"
DATASET = "tiny_images"
RUNS = ["r2d2_ridge", "r2d2_classical", "r2d2_classical_fc", "r2d2_classical_hv"]
TABLES = ["table2", "table3", "regularizers"]
TINY = """
roles: {cifar_fs: tiny_images}
seeds: 1
width: {r2d2: 0.05}
algorithms:
  classical: {steps: 10, validations: 2}
  episodic: {steps: 5, validations: 2, meta_batch: 2, n_shot: 5, validation_episodes: 20}
evaluation: {n_episodes: 50}
measurement: {n_pairs: 50, base_images_per_class: 4}
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, checkout):
    """The project with a scale of a minute, before its first job."""
    project = checkout(tmp_path_factory.mktemp("workflow") / "before the first job")
    images = {"source": "synthetic", "stands_for": "cifar_fs"}
    images |= {"image_size": 16, "images_per_class": 20}
    project.configure({"scale": "tiny", f"datasets.{DATASET}": images})
    (project / "scales/tiny.yaml").write_text(TINY)
    return project


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory):
    """The same after its last job."""
    project = tiny.copy(tmp_path_factory.mktemp("workflow") / "after the last job")
    project.snakemake("--cores", "2")
    return project


def read_record(project, kind: str, run: str) -> records.Record:
    place = {
        "training": f"runs/{DATASET}/{run}/seed0/record.json",
        "features": f"features/{DATASET}/{run}/seed0/record.json",
        "evaluation": f"evals/{DATASET}/{run}/seed0.json",
        "measurement": f"measures/{DATASET}/{run}/seed0.json",
    }[kind]
    return records.read(project / f"{RESULTS}/{place}", kind)


def test_a_second_run_has_nothing_to_do(finished):
    assert "Nothing to be done" in finished.snakemake("--cores", "2")


def test_what_is_there_is_what_the_rules_declare(finished):
    made = [file for top in ("resources", "results") for file in (finished / top).rglob("*")]
    assert {str(file.relative_to(finished.root)) for file in made if file.is_file()} == set(
        finished.files()
    )


def test_every_job_leaves_a_log_and_a_benchmark(finished):
    verbs = ["train", "embed", "evaluate", "measure"]
    jobs = [f"tiny/{verb}/{DATASET}/{run}/seed0" for verb in verbs for run in RUNS]
    jobs += [f"pack/{DATASET}", *(f"tiny/table/{table}" for table in TABLES)]
    logs = finished / "logs"
    assert sorted(logs.rglob("*.log")) == sorted(logs / f"{job}.log" for job in jobs)
    assert sorted(logs.rglob("*.tsv")) == sorted(logs / f"{job}.tsv" for job in jobs)
    for job in jobs:
        benchmark = pd.read_csv(logs / f"{job}.tsv", sep="\t")
        assert len(benchmark) == 1
        assert benchmark["s"].item() > 0


@pytest.mark.parametrize("run", RUNS)
def test_records_say_where_their_numbers_come_from(run, finished):
    packed = Packed.open(finished / f"resources/packed/{DATASET}")
    packed.verify()
    weights = (finished / f"{RESULTS}/runs/{DATASET}/{run}/seed0/weights.safetensors").read_bytes()
    images = {"images": packed.passport.fingerprint}
    both = images | {"weights": hashlib.sha256(weights).hexdigest()}
    for kind, sources in {
        "training": images,
        "features": both,
        "evaluation": both,
        "measurement": both,
    }.items():
        record = read_record(finished, kind, run)
        assert (record.scale, record.dataset, record.run, record.seed) == ("tiny", DATASET, run, 0)
        assert record.stands_for == "cifar_fs"
        assert record.sources == sources


@pytest.mark.parametrize("table", TABLES)
def test_tables_name_their_scale_and_the_data_they_are_made_of(table, finished):
    text = (finished / f"{RESULTS}/tables/{table}.md").read_text()
    assert "\nScale: tiny.\n" in text
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## tiny_images (generated images in the place of CIFAR-FS)",
        "## mini-ImageNet (no data at this scale)",
    ]
    ours, pending = text.split("## mini-ImageNet")
    assert "pending" not in ours
    assert "pending" in pending

    latex = (finished / f"{RESULTS}/tables/{table}.tex").read_text()
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 2
    assert latex.count(r"tiny\_images (generated images in the place of CIFAR-FS)") == 1
    assert latex.count("Scale: tiny.") == 2

    cells = pd.read_csv(finished / f"{RESULTS}/tables/{table}.csv")
    assert set(cells["table"]) == {table}
    assert set(cells["scale"]) == {"tiny"}
    stand_in = cells["in_place_of"] == "cifar_fs"
    assert set(cells["in_place_of"][~stand_in]) == {"mini_imagenet"}
    assert set(cells["dataset"][stand_in]) == {DATASET}
    assert cells["mean"][stand_in].notna().all()
    assert cells["dataset"][~stand_in].isna().all()
    assert cells["mean"][~stand_in].isna().all()


def test_table_3_holds_the_accuracies_of_the_records(finished):
    cells = pd.read_csv(finished / f"{RESULTS}/tables/table3.csv")
    cells = cells[cells["in_place_of"] == "cifar_fs"].set_index(["row", "column"])
    rows = ["R2-D2", "Classical", "Classical w/ R_FC", "Classical w/ R_HV"]
    columns = {"1": "1-shot", "5": "5-shot"}
    assert set(cells.index) == {(row, column) for row in rows for column in columns.values()}
    text = (finished / f"{RESULTS}/tables/table3.md").read_text()
    for row, run in zip(rows, RUNS, strict=True):
        values = read_record(finished, "evaluation", run).values
        for shot, column in columns.items():
            accuracies = 100 * np.array(values["correct"][shot]["ridge"]) / values["n_queries"]
            assert accuracies.shape == (50,)
            assert values["n_queries"] == 75
            mean, error = accuracies.mean(), accuracies.std(ddof=1) / np.sqrt(50)
            low, high = student.interval(0.95, 49, mean, error)
            cell = cells.loc[row, column]
            found = cell[["mean", "standard_error", "low_95", "high_95"]].tolist()
            assert found == pytest.approx([mean, error, low, high], rel=1e-12)
            assert (cell["n_samples"], cell["n_seeds"]) == (50, 1)
            assert cell["difference"] == pytest.approx(mean - cell["published"], rel=1e-12)
            assert f"| {mean:.2f} ± {error:.2f} | [{low:.2f}, {high:.2f}] |" in text


def test_a_training_killed_and_interrupted_ends_with_the_same_weights(tiny, tmp_path, wait_until):
    weights = f"{RESULTS}/runs/{DATASET}/r2d2_ridge/seed0/weights.safetensors"
    train = ["--cores", "1", weights]
    undisturbed = tiny.copy(tmp_path / "left alone")
    undisturbed.configure({"algorithms.episodic.steps": 150}, "scales/tiny.yaml")
    loop = undisturbed / "pipeline/training/loop.py"
    text, count = re.subn(r"CHECKPOINT_S = [\d.]+", "CHECKPOINT_S = 0.1", loop.read_text())
    assert count == 1
    loop.write_text(text)
    undisturbed.snakemake("--cores", "1", f"resources/packed/{DATASET}/passport.json")
    disturbed = undisturbed.copy(tmp_path / "not left alone")
    undisturbed.snakemake(*train)

    state = disturbed / f"{RESULTS}/state/{DATASET}/r2d2_ridge/seed0/state.safetensors"
    log = disturbed / f"logs/tiny/train/{DATASET}/r2d2_ridge/seed0.log"
    with disturbed.started(*train) as process:
        wait_until(state.exists)
        os.killpg(process.pid, signal.SIGKILL)
    disturbed.snakemake("--unlock")

    def goes_on() -> bool:
        return log.exists() and bool(re.search(r"going on at step .*\n.*loss", log.read_text()))

    with disturbed.started(*train) as process:
        wait_until(goes_on)
        os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does
        assert process.wait(60) == 1
    assert "state is saved; run the same command to go on" in log.read_text()
    assert not (disturbed / weights).exists()

    disturbed.snakemake(*train)
    assert re.match(r"going on at step [1-9]", log.read_text())
    assert (disturbed / weights).read_bytes() == (undisturbed / weights).read_bytes()
    assert not state.exists()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("scale=smal", "unknown scale 'smal'; did you mean 'small'? Allowed: demo, paper, small"),
        ("sceeds=3", "unknown key 'sceeds'; did you mean 'seeds'? Allowed: "),
    ],
)
def test_a_wrong_configuration_is_refused_before_any_job(option, message, checkout, tmp_path):
    project = checkout(tmp_path / "wrong")
    done = project.python("snakemake", "--cores", "1", "--config", option)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (project / "results").exists()
    assert not (project / "resources").exists()


def test_a_data_set_that_is_not_where_the_configuration_says(checkout, tmp_path):
    project = checkout(tmp_path / "without data")
    project.configure({"scale": "small", "datasets.cifar_fs.path": "/nowhere/cifar100.zip"})
    done = project.python("snakemake", "--cores", "1")
    assert done.returncode == 1
    assert (
        "error: there is no /nowhere/cifar100.zip: correct the data set's path in config.yaml, "
        "or set it to null to download the data"
    ) in done.stderr
    assert not (project / "resources/packed").exists()
    assert not (project / "results").exists()


@pytest.mark.parametrize("form", ["a file", "a folder"])
def test_an_own_copy_is_linked_to_and_left_alone(form, checkout, tmp_path):
    own = tmp_path / "my data"
    own.mkdir()
    (own / "images").write_text("content")
    path = own if form == "a folder" else own / "images"
    project = checkout(tmp_path / "a project")
    project.configure({"scale": "small", "datasets.cifar_fs.path": str(path)})
    for force in ((), ("--force",)):
        done = project.python("snakemake", "--cores", "1", *force, "--", "resources/raw/cifar_fs")
        assert done.returncode == 0, done.stderr
        assert (project / "resources/raw/cifar_fs/archive").resolve() == path.resolve()
    assert [file.name for file in own.iterdir()] == ["images"]
    assert (own / "images").read_text() == "content"


def test_snakemake_finds_nothing_to_improve(checkout, tmp_path):
    done = checkout(tmp_path / "a project").python("snakemake", "--lint")
    assert done.returncode == 0, done.stdout
