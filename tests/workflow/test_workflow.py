"""The whole workflow, run for real: every job and every table, on tiny images."""

import hashlib
import html
import json
import os
import re
import signal

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy.stats import t as student

from pipeline import records
from pipeline.config_files import merged
from pipeline.data.packed import Packed
from pipeline.shown import FIGURES, TABLES

RESULTS = "results/tiny"
DATASET = "tiny_images"
HEADS = ["ridge", "svm", "prototypes"]
# A run of each algorithm and of each backbone, what fine-tunes it, and so which jobs it has.
FINE_TUNERS = {
    "r2d2_ridge": [*HEADS, "maml_fresh"],
    "r2d2_classical": HEADS,
    "r2d2_classical_fc": HEADS,
    "resnet12_svm": HEADS,
    "maml_1shot": ["ridge", "maml"],
    "weight_clustering": ["reptile"],
}
RUNS = list(FINE_TUNERS)
WITH_HEADS = [run for run, names in FINE_TUNERS.items() if set(names) & set(HEADS)]
ADAPTED = [run for run, names in FINE_TUNERS.items() if set(names) - set(HEADS)]
PROJECTED = ["r2d2_ridge"]
OF_VERB = {
    "train": RUNS,
    "embed": WITH_HEADS,
    "evaluate": WITH_HEADS,
    "adapt": ADAPTED,
    "measure": WITH_HEADS,
    "project": PROJECTED,
}
# The rows of each table that are measured, at least in part; the others are pending.
TWINS_2 = {("R2-D2-M", "R2-D2"), ("R2-D2-C", "R2-D2"), ("MetaOptNet-M", "MetaOptNet")}
ROWS: dict[str, set[tuple[str, str]]] = {
    "table1": set(),
    "table2": TWINS_2,
    "table3": {
        ("R2-D2", "R2-D2"),
        ("Classical", "R2-D2"),
        ("Classical w/ R_FC", "R2-D2"),
        ("MetaOptNet-SVM", "MetaOptNet"),
    },
    "table4": {("R2-D2", "")},
    "table5": set(),
    "table6": {("W-Clustering", "")},
    "cross_fine_tuners": TWINS_2,
    "clustering": TWINS_2 | {("MAML-1", "4-conv, 32")},
    "similarity": {("C", "R2-D2"), ("R_FC", "R2-D2")},
    "regularizers": {
        *((f"{head} {shot}-shot", "R2-D2") for head in HEADS for shot in (1, 5)),
        *(
            (f"{name} {split}", "R2-D2")
            for name in ("R_FC", "R_HV", "R_HV printed")
            for split in ("base", "novel")
        ),
    },
    "training_times": {(run, "") for run in RUNS},
    "coefficient_sweep": {("5e-5", "")},
    "travel": {("W-Clustering", ""), ("R2-D2-M", "")},
    "separation": set(),
    "fine_tuners": {(f"{run}, {name}", "") for run in RUNS for name in FINE_TUNERS[run]},
}
TINY = """
roles: {cifar_fs: tiny_images}
seeds: 1
backbones:
  r2d2: {width: 0.05}
  resnet12: {width: 0.03, ramp_passes: 10}
  conv4: {width: 0.1}
algorithms:
  classical: {steps: 10, validations: 2}
  episodic: {steps: 5, validations: 2, meta_batch: 2, n_shot: 5, validation_episodes: 20}
  maml: {steps: 3, validations: 2, meta_batch: 2, n_query: 3, validation_episodes: 4}
  reptile: {steps: 3, validations: 2, meta_batch: 2, n_shot: 5, validation_episodes: 4}
adaptations:
  maml_fresh: {n_episodes: 8}
  maml: {n_episodes: 8}
  reptile: {n_episodes: 8}
evaluation: {n_episodes: 50}
measurement: {n_pairs: 50, base_images_per_class: 5}
projection: {n_images: 6, n_draws: 3}
simulations: {theorem1: {n_draws: 500}, boundaries: {n_draws: 50}}
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, checkout):
    """The project with a scale of a minute and a run of each kind, before its first job."""
    project = checkout(tmp_path_factory.mktemp("workflow") / "before the first job")
    images = {"source": "synthetic", "stands_for": "cifar_fs"}
    images |= {"image_size": 16, "images_per_class": 20}
    runs = yaml.safe_load((project / "config.yaml").read_text())["runs"]
    # What it is like is not run.
    runs["weight_clustering"] = merged(runs["reptile"], runs["weight_clustering"])
    del runs["weight_clustering"]["like"]
    chosen = {run: runs[run] | {"fine_tuners": names} for run, names in FINE_TUNERS.items()}
    changes = {"scale": "tiny", f"datasets.{DATASET}": images, "runs": chosen}
    project.configure(changes | {"projection.runs": PROJECTED})
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
        "adaptation": f"adaptations/{DATASET}/{run}/seed0.json",
        "measurement": f"measures/{DATASET}/{run}/seed0.json",
        "projection": f"projections/{DATASET}/{run}/seed0.json",
    }[kind]
    return records.read(project / f"{RESULTS}/{place}", kind)


def test_a_second_run_has_nothing_to_do(finished):
    assert "Nothing to be done" in finished.snakemake("--cores", "2")


def test_what_is_there_is_what_the_rules_declare(finished):
    made = [file for top in ("resources", "results") for file in (finished / top).rglob("*")]
    names = {str(file.relative_to(finished.root)) for file in made if file.is_file()}
    # Beside them, what the code of each job was.
    declared = finished.files().keys()
    assert {name for name in names if not name.startswith("results/code/")} == declared


def test_every_job_leaves_a_log_and_a_benchmark(finished):
    jobs = [f"tiny/{verb}/{DATASET}/{run}/seed0" for verb, runs in OF_VERB.items() for run in runs]
    jobs += [f"pack/{DATASET}", f"contact_sheets/{DATASET}", f"tiny/compare/{DATASET}/r2d2_ridge"]
    jobs += [f"tiny/table/{table}" for table in TABLES]
    jobs += [f"tiny/figure/{figure}" for figure in FIGURES]
    jobs += ["tiny/simulate/theorem1", "tiny/simulate/boundaries", "tiny/claims", "tiny/page"]
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
    kinds = {"training": images}
    if run in WITH_HEADS:
        kinds |= {"features": both, "evaluation": both, "measurement": both}
    if run in ADAPTED:
        kinds |= {"adaptation": both}
    if run in PROJECTED:
        kinds |= {"projection": both}
    for kind, sources in kinds.items():
        record = read_record(finished, kind, run)
        assert (record.scale, record.dataset, record.run, record.seed) == ("tiny", DATASET, run, 0)
        assert record.stands_for == "cifar_fs"
        assert record.sources == sources


@pytest.mark.parametrize("table", TABLES)
def test_tables_name_their_scale_and_the_data_they_are_made_of(table, finished):
    text = (finished / f"{RESULTS}/tables/{table}.md").read_text()
    assert "\nScale: tiny.\n" in text
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    for heading in headings:
        assert heading.startswith(
            (
                f"## {DATASET} (generated images in the place of CIFAR-FS)",
                "## mini-ImageNet (no data at this scale)",
            )
        )
    latex = (finished / f"{RESULTS}/tables/{table}.tex").read_text()
    assert latex.count("Scale: tiny.") == len(headings)

    cells = pd.read_csv(finished / f"{RESULTS}/tables/{table}.csv", dtype=str)
    cells = cells.fillna({"backbone": ""})
    assert set(cells["table"]) == {table}
    assert set(cells["scale"]) == {"tiny"}
    stand_in = cells["in_place_of"] == "cifar_fs"
    assert set(cells["dataset"][stand_in]) <= {DATASET}
    assert cells["dataset"][~stand_in].isna().all()
    assert cells["mean"][~stand_in].isna().all()
    measured = cells[cells["mean"].notna()]
    assert set(zip(measured["row"], measured["backbone"], strict=True)) == ROWS[table]
    assert text.count("| pending ") == cells["mean"].isna().sum()
    # Every number says which records it is of, and they are there.
    for places in measured["records"]:
        assert all((finished / RESULTS / place).is_file() for place in places.split())


@pytest.mark.parametrize("figure", FIGURES)
def test_every_figure_is_drawn_in_every_form(figure, finished):
    for suffix in ("png", "pdf", "svg", "csv", "json"):
        assert (finished / f"{RESULTS}/figures/{figure}.{suffix}").stat().st_size > 0


def test_the_page_holds_everything(finished):
    page = html.unescape((finished / f"{RESULTS}/report.html").read_text())
    for table in TABLES:
        content = json.loads((finished / f"{RESULTS}/tables/{table}.json").read_text())
        assert content["heading"] in page
    for claim in json.loads((finished / f"{RESULTS}/claims.json").read_text())["claims"]:
        assert claim["statement"] in page


def test_what_is_there_can_be_shown_before_the_rest(finished, tmp_path):
    """A result that is missing is pending; asked to be strict, the report refuses."""
    project = finished.copy(tmp_path / "some of it")
    (project / f"{RESULTS}/evals/{DATASET}/r2d2_classical/seed0.json").unlink()
    done = project.python("pipeline", "report")
    assert done.returncode == 0, done.stderr
    text = (project / f"{RESULTS}/tables/table3.md").read_text()
    assert re.search(r"^\| Classical +\| R2-D2 +\| pending", text, re.MULTILINE)
    done = project.python("pipeline", "report", "--strict")
    assert done.returncode == 1
    assert f"no {RESULTS}/evals/{DATASET}/r2d2_classical/seed0.json" in done.stderr
    assert "Traceback" not in done.stderr


def test_table_3_holds_the_accuracies_of_the_records(finished):
    cells = pd.read_csv(finished / f"{RESULTS}/tables/table3.csv")
    cells = cells[cells["in_place_of"] == "cifar_fs"]
    cells = cells.set_index(["backbone", "row", "column"]).sort_index()
    rows = {
        ("R2-D2", "R2-D2"): ("r2d2_ridge", "ridge"),
        ("R2-D2", "Classical"): ("r2d2_classical", "svm"),
        ("R2-D2", "Classical w/ R_FC"): ("r2d2_classical_fc", "svm"),
        ("MetaOptNet", "MetaOptNet-SVM"): ("resnet12_svm", "svm"),
    }
    columns = {"1": "1-shot", "5": "5-shot"}
    assert set(cells.index[cells["mean"].notna()]) == {
        (*row, column) for row in rows for column in columns.values()
    }
    text = (finished / f"{RESULTS}/tables/table3.md").read_text()
    for row, (run, head) in rows.items():
        values = read_record(finished, "evaluation", run).values
        for shot, column in columns.items():
            accuracies = 100 * np.array(values["correct"][shot][head]) / values["n_queries"]
            assert accuracies.shape == (50,)
            assert values["n_queries"] == 75
            mean, error = accuracies.mean(), accuracies.std(ddof=1) / np.sqrt(50)
            low, high = student.interval(0.95, 49, mean, error)
            cell = cells.loc[(*row, column)]
            found = cell[["mean", "standard_error", "low_95", "high_95"]].tolist()
            assert found == pytest.approx([mean, error, low, high], rel=1e-12)
            assert (cell["n_samples"], cell["n_seeds"]) == (50, 1)
            assert re.search(rf"{mean:.2f} ± {error:.2f}(\*\*)? +\|", text)
            assert f" [{low:.2f}, {high:.2f}] " in text


def test_the_table_of_fine_tuners_holds_the_accuracies_of_the_records(finished):
    """Of heads and of gradient steps, each over its own episodes."""
    cells = pd.read_csv(finished / f"{RESULTS}/tables/fine_tuners.csv").dropna(subset="mean")
    assert len(cells) == 2 * sum(len(names) for names in FINE_TUNERS.values())
    for row, shot, mean, n in zip(
        cells["row"], cells["column"], cells["mean"], cells["n_samples"], strict=True
    ):
        run, name = row.split(", ")
        shot = shot.removesuffix("-shot")
        if name in HEADS:
            values = read_record(finished, "evaluation", run).values
            counts, n_queries = values["correct"][shot][name], values["n_queries"]
        else:
            values = read_record(finished, "adaptation", run).values[name]
            counts, n_queries = values["correct"][shot], values["n_queries"]
        assert len(counts) == n == (50 if name in HEADS else 8)
        assert mean == pytest.approx(100 * np.mean(counts) / n_queries, rel=1e-12)


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
    # Simulations need no data.
    assert not (project / "results/small/runs").exists()


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
