"""The command line: every verb runs by itself, without Snakemake, and says what is wrong."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline import config_files, jobs, records, shown
from pipeline.__main__ import main
from pipeline.commands import INTERRUPTED
from pipeline.config_files import merged
from pipeline.plugins import find
from tests.conftest import BACKBONES, ROOT, TINY

JOB = {"--settings", "--code"}
MACHINE = {"--device", "--threads"}
OPTIONS: dict[str, set[str]] = {
    "fetch": {"--dataset", "--path", "--out"},
    "pack": {*JOB, "--raw", "--out", "--workers"},
    "train": {*JOB, *MACHINE, "--data", "--out", "--state"},
    "embed": {*JOB, *MACHINE, "--weights", "--data", "--out"},
    "evaluate": {*JOB, *MACHINE, "--features", "--out"},
    "adapt": {*JOB, *MACHINE, "--weights", "--data", "--out"},
    "measure": {*JOB, *MACHINE, "--features", "--out"},
    "compare": {*JOB, *MACHINE, "--features", "--out"},
    "project": {*JOB, "--features", "--out"},
    "simulate": {*JOB, "--out"},
    "contact_sheets": {*JOB, "--data", "--out"},
    **{verb: {*JOB, "--results", "--out"} for verb in ("table", "figure", "claims")},
    "page": {*JOB, "--results", "--data"},
    "report": {"--scale", "--strict"},
    "explain": {"--scale"},
    "data": set(),
    "why": {"--scale"},
    "plan": {"--scale", "--budget", "--device"},
    "settings": {
        *("--scale", "--dataset", "--run", "--seed"),
        *("--table", "--figure", "--simulation"),
    },
    "schema": set(),
}
# What each verb that runs a job reads and writes, where there is nothing.
NOWHERE = {
    "pack": ["--raw", "nowhere", "--out", "out"],
    "train": ["--data", "nowhere", "--out", "out", "--state", "out/state"],
    "embed": ["--weights", "nowhere", "--data", "nowhere", "--out", "out"],
    "evaluate": ["--features", "nowhere", "--out", "out/record.json"],
    "adapt": ["--weights", "nowhere", "--data", "nowhere", "--out", "out/record.json"],
    "measure": ["--features", "nowhere", "--out", "out/record.json"],
    "compare": ["--features", "nowhere", "--out", "out/record.json"],
    "project": ["--features", "nowhere", "--out", "out/record.json"],
    "contact_sheets": ["--data", "nowhere", "--out", "out"],
}
# Those that read nothing, or whatever is there.
READY = {
    "simulate": ["--out", "out/record.json"],
    **{verb: ["--results", "nowhere", "--out", "out/it"] for verb in ("table", "figure", "claims")},
    "page": ["--results", "nowhere", "--data", "nowhere"],
}
PLACES = NOWHERE | READY
# What names a job of each verb.
NAMES: dict[str, dict[str, Any]] = {
    **{verb: {"dataset": "tiny", "run": "r2d2_classical", "seed": 0} for verb in NOWHERE},
    **{verb: {"dataset": "tiny"} for verb in ("pack", "contact_sheets")},
    "compare": {"dataset": "tiny", "run": "r2d2_ridge"},
    "simulate": {"simulation": "theorem1"},
    "table": {"table": "table3"},
    "figure": {"figure": "figure1a"},
    "claims": {},
    "page": {},
}
# A backbone with all its twins, one of each other algorithm, and those that are projected.
RUNS = [
    *("r2d2_ridge", "r2d2_classical", "r2d2_classical_fc", "r2d2_classical_hv"),
    *("maml_1shot", "weight_clustering", "conv64_protonet", "conv64_classical"),
]
BUDGET = {"steps": 2, "validations": 1, "validation_episodes": 4, "validation_shots": [1]}
FEW = {"n_shot": 2, "n_query": 2, "meta_batch": 2}
CHANGES: dict[str, Any] = {
    "scale": "demo",
    "datasets": {"tiny": {"images_per_class": 8}},
    "backbones": BACKBONES,
    "algorithms": {
        "classical": {"steps": 2, "validations": 1},
        "episodic": BUDGET | FEW,
        "maml": BUDGET | FEW,
        "reptile": BUDGET | FEW | {"inner_steps": 2, "validation_steps": 2},
    },
    "adaptations": {
        name: {"steps": 2, "n_episodes": 3, "n_query": 1}
        for name in config_files.load().adaptations
    },
    "evaluation": {"n_episodes": 10, "n_query": 2},
    "measurement": {"n_pairs": 10, "base_images_per_class": 2, "n_folds": 2},
    "projection": {"n_images": 4, "n_fit": 4, "n_draws": 2},
    "simulations": {"theorem1": {"n_draws": 100}, "boundaries": {"n_draws": 100}},
}


def experiment(overrides: dict[str, Any]) -> dict[str, Any]:
    """What makes an experiment of every run one of seconds, unless it is overridden."""
    changes = merged(TINY, CHANGES)
    backbones, algorithms = changes.pop("backbones"), changes.pop("algorithms")
    changes["runs"] = {
        name: {
            "datasets": ["cifar_fs"],
            "backbone": backbones[run.backbone.name],
            "training": algorithms[run.training.algorithm],
        }
        for name, run in load().runs.items()
    }
    return merged(changes, overrides)


# As it is, whatever a test makes of it.
load = config_files.load


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder; the configuration is that of a run of seconds."""
    monkeypatch.setattr(config_files, "load", lambda overrides: load(experiment(overrides)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names_of(verb: str, **names: str) -> list[str]:
    """The options of ``settings`` that name a job of this verb."""
    return [
        part for name, value in (NAMES[verb] | names).items() for part in (f"--{name}", str(value))
    ]


@pytest.fixture
def settings(folder: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What ``python -m pipeline settings`` prints for a job."""

    def printed(verb: str, **names: str) -> str:
        capsys.readouterr()
        assert main(["settings", verb, *names_of(verb, **names)]) == 0
        return capsys.readouterr().out.strip()

    return printed


# Help


def help_of(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as left:
        main([*arguments, "--help"])
    assert left.value.code == 0
    printed = capsys.readouterr()
    assert not printed.err
    return printed.out


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of([], capsys)
    assert set(re.findall(r"(?m)^    (\w+)(?: |$)", text)) == OPTIONS.keys()
    assert OPTIONS.keys() >= jobs.VERBS


@pytest.mark.parametrize("verb", OPTIONS)
def test_help_of_a_verb_names_its_options(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of([verb], capsys)
    assert text.startswith(f"usage: python -m pipeline {verb} ")
    described = re.findall(r"(?m)^  (?:-h, )?(--\w+)", text)
    assert sorted(described) == sorted({*OPTIONS[verb], "--help"})


WRONG = [[], ["fly"], ["table", "--out", "x"], ["settings", "fly"], ["settings", "report"]]
WRONG += [["explain"], ["report", "--strict", "no"], ["compare", "--settings", "{}", "--features"]]
WRONG += [
    ["evaluate", "--settings", "{}", *NOWHERE["evaluate"], "--threads", n] for n in ("0", "x")
]


@pytest.mark.parametrize("arguments", WRONG)
def test_a_wrong_command_line_exits_with_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    assert "usage: python -m pipeline" in capsys.readouterr().err


# Errors


def assert_fails(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The status is 1, and all that is said is one line on stderr."""
    capsys.readouterr()
    assert main(arguments) == 1
    printed = capsys.readouterr()
    assert re.fullmatch(f"error: .*{message}.*\n", printed.err)
    assert not printed.out


def test_an_unknown_scale_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["settings", "pack", "--dataset", "cifar_fs", "--scale", "smal"]
    assert_fails(arguments, "unknown scale 'smal'; did you mean 'small'", capsys)


@pytest.mark.parametrize("verb", NAMES)
def test_settings_that_are_not_json_are_an_error(
    verb: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [verb, "--settings", "{'scale': 'demo'}", *PLACES[verb]]
    assert_fails(arguments, "--settings is not JSON .*python -m pipeline settings", capsys)
    assert not list(folder.iterdir())


@pytest.mark.parametrize("given", ["{}", "[]", "null", '"scale"', '{"backbone": "r2d2"}'])
@pytest.mark.parametrize("verb", NAMES)
def test_settings_of_something_else_are_an_error(
    verb: str, given: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = f"--settings is not that of {verb} .*python -m pipeline settings"
    assert_fails([verb, "--settings", given, *PLACES[verb]], message, capsys)
    assert not list(folder.iterdir())


def test_settings_of_another_verb_are_an_error(
    folder: Path, settings: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Whichever two they are; and so are those of the verb itself with a name that it has not."""
    given = {verb: json.loads(settings(verb)) for verb in NAMES}
    for verb, own in given.items():
        others = [one for other, one in given.items() if other != verb]
        for one in [*others, {**own, "more": 1}, dict(list(own.items())[1:])]:
            arguments = [verb, "--settings", json.dumps(one), *PLACES[verb]]
            message = rf"--settings is not that of {verb} \((missing|unknown): "
            assert_fails(arguments, message, capsys)
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("train --dataset tiny", "a job of train is named by --dataset, --run, --seed; given: --dataset"),
        ("pack", "a job of pack is named by --dataset; given: nothing"),
        ("pack --dataset tiny --seed 1", "a job of pack is named by --dataset; given: --dataset, --seed"),
        ("pack --dataset tinny", "unknown dataset 'tinny'; did you mean 'tiny'"),
        ("train --dataset tiny --run r2d2_rigde --seed 0", "unknown run 'r2d2_rigde'; did you mean 'r2d2_ridge'"),
        ("table --table tabel3", "unknown table 'tabel3'; did you mean 'table3'"),
        ("table --table table7", "unknown table 'table7'; .* Allowed: clustering, coefficient_sweep"),
        ("table --figure figure2a", "a job of table is named by --table; given: --figure"),
        ("figure --figure figure2", "unknown figure 'figure2'; did you mean 'figure2b'"),
        ("figure --figure figrue3a", "unknown figure 'figrue3a'; did you mean 'figure3a'"),
        ("simulate --simulation theorem2", "unknown simulation 'theorem2'; did you mean 'theorem1'"),
        ("simulate", "a job of simulate is named by --simulation; given: nothing"),
        ("contact_sheets --dataset tinny", "unknown dataset 'tinny'; did you mean 'tiny'"),
        ("compare --dataset tiny --run r2d2_ridge --seed 0", "a job of compare is named by --dataset, --run; given: --dataset, --run, --seed"),
        ("compare --dataset tiny --run r2d2_classical", "no run is a twin of r2d2_classical on tiny; set twin: r2d2_classical in a classical one"),
        ("project --dataset tiny --run conv46_protonet --seed 0", "unknown run 'conv46_protonet'; did you mean 'conv64_protonet'"),
        ("train --dataset mini_imagenet --run r2d2_ridge --seed 0", "run r2d2_ridge is not on mini_imagenet; it is on cifar_fs, synthetic_cifar_fs, tiny"),
        ("evaluate --dataset mini_imagenet --run r2d2_ridge --seed 0", "run r2d2_ridge is not on mini_imagenet"),
        ("measure --dataset synthetic_mini_imagenet --run r2d2_ridge --seed 0", "run r2d2_ridge is not on synthetic_mini_imagenet"),
        ("compare --dataset mini_imagenet --run r2d2_ridge", "run r2d2_ridge is not on mini_imagenet"),
        ("train --dataset tiny --run r2d2_ridge --seed=-3", "seed -3: must be 0 or more"),
        ("claims --table table3", "a job of claims .*; given: --table"),
        ("page --seed 0", "a job of page .*; given: --seed"),
    ],
)  # fmt: skip
def test_a_job_that_there_is_not_is_an_error(
    arguments: str, message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_fails(["settings", *arguments.split()], message, capsys)


@pytest.mark.parametrize("verb", [verb for verb in NOWHERE if verb != "pack"])
def test_a_missing_input_is_an_error(
    verb: str, folder: Path, settings: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert_fails([verb, "--settings", settings(verb), *NOWHERE[verb]], "nowhere", capsys)
    assert not list(folder.iterdir())


@pytest.mark.parametrize("verb", NAMES)
def test_other_code_than_planned_is_refused_before_any_work(
    verb: str, folder: Path, settings: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Not even an input is opened: there is none."""
    given = settings(verb)
    now = jobs.code(verb, json.loads(given))
    message = rf"the code of this job changed .*\(it is {now} now, was 0123\); run snakemake again"
    assert_fails([verb, "--settings", given, "--code", "0123", *PLACES[verb]], message, capsys)
    assert not list(folder.iterdir())


# Verbs


def test_every_job_has_a_verb_and_a_name() -> None:
    assert NAMES.keys() == PLACES.keys() == jobs.VERBS


@pytest.mark.parametrize("verb", NAMES)
def test_printed_settings_are_those_of_the_workflow(
    verb: str, settings: Callable[..., str]
) -> None:
    expected = jobs.settings(config_files.load({}), verb, **NAMES[verb])
    assert settings(verb) == jobs.dumps(expected)


@pytest.mark.parametrize(
    ("verb", "kind", "names"),
    [
        *(("table", "table", {"table": name}) for name in shown.TABLES),
        *(("figure", "figure", {"figure": name}) for name in shown.FIGURES),
        ("claims", "claims", {}),
    ],
)
def test_settings_of_a_part_of_the_report_name_all_records_that_it_reads(
    verb: str, kind: str, names: dict[str, str], settings: Callable[..., str]
) -> None:
    """Of the runs that the scale has, each on its data, and of no others."""
    found = json.loads(settings(verb, **names))
    kinds: Any = {"table": shown.TABLES, "figure": shown.FIGURES, "claims": shown.CLAIMS}[kind]
    for name in names.values():
        kinds = kinds[name] if kind == "table" else kinds[name][1]
    experiment = config_files.load({})
    assert found["records"] == {one: shown.subjects(experiment, one) for one in kinds}
    assert (found["scale"], found["seeds"], found["strict"]) == ("demo", 1, False)
    assert found["roles"]["cifar_fs"] == "tiny"
    assert (found["n_way"], found["n_shots"]) == (5, [1, 5])
    assert {name: found[name] for name in names} == names


def test_every_verb_runs_without_snakemake(
    folder: Path, settings: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    """From images to tables and claims, by the command line alone, each job on planned code."""

    def run(verb: str, *arguments: str, **names: str) -> None:
        given = settings(verb, **names)
        job = ["--settings", given, "--code", jobs.code(verb, json.loads(given))]
        assert main([verb, *job, *arguments]) == 0

    def place(kind: records.Kind, run: str = "", simulation: str = "") -> str:
        names = {"dataset": "tiny", "run": run, "seed": 0, "simulation": simulation}
        return f"results/{records.PLACES[kind].format(**names)}"

    run("pack", "--out", "packed")
    run("contact_sheets", "--data", "packed", "--out", "sheets")
    cpu = ["--device", "cpu"]
    features = {}
    for one in RUNS:
        out = str(Path(place("training", one)).parent)
        run("train", "--data", "packed", "--out", out, "--state", f"state/{one}", *cpu, run=one)
        of_model = ["--weights", f"{out}/weights.safetensors", "--data", "packed", *cpu]
        features[one] = str(Path(place("features", one)).parent)
        run("embed", *of_model, "--out", features[one], run=one)
        run("adapt", *of_model, "--out", place("adaptation", one), run=one)
        of_features = ["--features", features[one]]
        run("evaluate", *of_features, "--out", place("evaluation", one), *cpu, run=one)
        run("measure", *of_features, "--out", place("measurement", one), *cpu, run=one)
        if one.startswith("conv64"):
            run("project", *of_features, "--out", place("projection", one), run=one)
    experiment = config_files.load({})
    for one in ("r2d2_ridge", "conv64_protonet"):
        twins = [features[twin] for twin in (one, *experiment.twins_of(one, "tiny"))]
        run("compare", "--features", *twins, "--out", place("similarity", one), *cpu, run=one)
    for one in shown.simulations(experiment):
        run("simulate", "--out", place("simulation", simulation=one), simulation=one)
    for table in shown.TABLES:
        run("table", "--results", "results", "--out", f"tables/{table}", table=table)
    run("claims", "--results", "results", "--out", "claims")

    assert {file.name for file in (folder / "tables").iterdir()} == {
        f"{table}{suffix}" for table in shown.TABLES for suffix in (".md", ".tex", ".csv", ".json")
    }
    assert {file.name for file in (folder / "sheets").iterdir()} == {
        f"{split}.png" for split in ("base", "validation", "novel")
    }
    assert not list((folder / "state").rglob("*.*"))
    assert_made_of_these_runs(folder)


def assert_made_of_these_runs(folder: Path) -> None:
    tables = {
        table: json.loads((folder / f"tables/{table}.json").read_text(encoding="utf-8"))
        for table in shown.TABLES
    }
    for table, content in tables.items():
        for section in content["sections"]:
            measured = [cell for cell in section["cells"] if cell["value"] is not None]
            # At this scale nothing takes the other one's place.
            is_ours = section["heading"].startswith(
                "tiny (generated images in the place of CIFAR-FS)"
            )
            assert bool(measured) == (is_ours and table not in ("table1", "table5"))
            if is_ours:
                of_runs = [cell for cell in section["cells"] if cell["backbone"] == "R2-D2"]
                absent = [cell["row"] for cell in of_runs if cell["value"] is None]
                assert not absent
    assert not [
        cell
        for section in tables["separation"]["sections"]
        for cell in section["cells"]
        if (cell["value"] is None) == cell["address"].startswith("cifar-fs")
    ]
    found = {
        cell["row"]
        for section in tables["fine_tuners"]["sections"]
        for cell in section["cells"]
        if cell["value"] is not None
    }
    experiment = config_files.load({})
    assert found == {
        f"{run}, {fine_tuner}" for run in RUNS for fine_tuner in experiment.runs[run].fine_tuners
    }
    claims = json.loads((folder / "claims.json").read_text(encoding="utf-8"))["claims"]
    pending = {claim["id"] for claim in claims if claim["verdict"] == "pending"}
    # What needs the other runs that are compared.
    assert pending == {
        "maml_does_not_cluster",
        "weight_clustering_beats_reptile",
        "weight_clustering_beats_others",
        "coefficients_around_it_help_too",
        "weight_clustering_travels_less",
        "last_layer_models_move_for_little",
    }


@pytest.mark.parametrize("verb", ["table", "claims"])
def test_a_report_of_nothing_is_pending_or_refused(
    verb: str, folder: Path, settings: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Refused if the settings are strict."""
    (folder / "nowhere").mkdir()
    given = settings(verb)
    strict = json.dumps(json.loads(given) | {"strict": True})
    assert main([verb, "--settings", strict, *PLACES[verb]]) == 1
    assert "records that the configuration asks for are missing" in capsys.readouterr().err
    assert not (folder / "out").exists()
    assert main([verb, "--settings", given, *PLACES[verb]]) == 0
    assert "pending" in (folder / "out/it.md").read_text(encoding="utf-8")


def test_a_table_of_a_record_that_is_torn_is_an_error(
    folder: Path, settings: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "nowhere/evals/tiny/r2d2_ridge/seed0.json"
    path.parent.mkdir(parents=True)
    path.write_text("{")
    message = "nowhere/evals/tiny/r2d2_ridge/seed0.json is not a whole record"
    assert_fails(["table", "--settings", settings("table"), *PLACES["table"]], message, capsys)
    assert not (folder / "out").exists()


def test_adapt_writes_a_record_of_each_fine_tuner_that_takes_steps(
    folder: Path, settings: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Of another run's weights it writes none, nor with the settings of another verb."""
    packed = ["--data", "packed", "--device", "cpu"]
    assert main(["pack", "--settings", settings("pack"), "--out", "packed"]) == 0
    for one in ("maml_1shot", "r2d2_classical"):
        place = ["--out", one, "--state", "state", *packed]
        assert main(["train", "--settings", settings("train", run=one), *place]) == 0
    given = settings("adapt", run="maml_1shot")

    def adapt(given: str, run: str) -> list[str]:
        place = ["--weights", f"{run}/weights.safetensors", "--out", "record.json", *packed]
        return ["adapt", "--settings", given, *place]

    message = "cannot use the weights r2d2_classical/weights.safetensors: "
    assert main(adapt(given, "r2d2_classical")) == 1
    assert capsys.readouterr().err.startswith(f"error: {message}")
    for verb in ("evaluate", "measure"):
        message = "--settings is not that of adapt"
        assert_fails(adapt(settings(verb, run="maml_1shot"), "maml_1shot"), message, capsys)
    assert not (folder / "record.json").exists()

    assert main(adapt(given, "maml_1shot")) == 0
    assert re.findall(r"(?m)^(\w+), (\d) shot: ", capsys.readouterr().out) == [
        (name, shot) for name in ("maml", "maml_fresh", "maml_inductive") for shot in "15"
    ]
    record = records.read(folder / "record.json", "adaptation")
    assert record.settings == json.loads(given)
    assert record.code == jobs.code("adapt", json.loads(given))
    assert record.values.keys() == {"maml_fresh", "maml", "maml_inductive"}


def test_an_interrupted_training_exits_with_75_and_goes_on(
    folder: Path,
    settings: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["pack", "--settings", settings("pack"), "--out", "packed"]) == 0
    place = ["--data", "packed", "--out", "out", "--state", "state", "--device", "cpu"]
    command = ["train", "--settings", settings("train"), *place]
    algorithm = find("training", "classical", "Training")
    step = algorithm.step

    def step_and_stop(self: Any, index: int) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return step(self, index)

    monkeypatch.setattr(algorithm, "step", step_and_stop)
    assert main(command) == INTERRUPTED == 75
    assert capsys.readouterr().err == (
        "tiny r2d2_classical seed 0: stopped at step 1, state is saved; "
        "run the same command to go on\n"
    )
    assert not (folder / "out").exists()
    monkeypatch.setattr(algorithm, "step", step)
    assert main(command) == 0
    assert "going on at step 1" in capsys.readouterr().out
    assert (folder / "out" / "weights.safetensors").exists()


def test_data_says_what_there_is_and_whether_it_is_whole(
    folder: Path, settings: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert_fails(["data", "tinny"], "unknown dataset 'tinny'; did you mean 'tiny'", capsys)
    assert_fails(["data", "tiny"], "passport.json cannot be used: .*snakemake --cores all", capsys)
    packed = folder / "resources/packed/tiny"
    assert main(["pack", "--settings", settings("pack"), "--out", str(packed)]) == 0
    capsys.readouterr()
    assert main(["data", "tiny"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("tiny")
    assert "every pixel and label is as the fingerprint says" in printed
    assert {file.name for file in (packed / "contact_sheets").iterdir()} == {
        f"{split}.png" for split in ("base", "validation", "novel")
    }
    content = bytearray((packed / "novel.npy").read_bytes())
    content[-1] ^= 1
    (packed / "novel.npy").write_bytes(content)
    assert main(["data", "tiny"]) == 1
    printed = capsys.readouterr()
    assert "every pixel" not in printed.out
    assert re.match(r"error: .*tiny cannot be used: fingerprint", printed.err)
    # One that this configuration does not know, but that was packed.
    packed.rename(packed.with_name("other"))
    assert main(["data", "other"]) == 1
    assert "fingerprint" in capsys.readouterr().err


def test_fetch_links_to_the_users_own_copy(folder: Path) -> None:
    own = folder / "my copy.zip"
    own.write_bytes(b"images")
    assert main(["fetch", "--dataset", "cifar_fs", "--path", str(own), "--out", "raw"]) == 0
    assert (folder / "raw" / "archive").resolve() == own
    assert own.read_bytes() == b"images"


def test_schema_writes_both_files_and_names_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written = config_files.schemas(folder)
    monkeypatch.setattr(config_files, "schemas", lambda: written)
    assert main(["schema"]) == 0
    assert capsys.readouterr().out.splitlines() == [str(path) for path in written]
    assert {path.name for path in written} == {"schema.json", "scales.json"}
    for path, schema in written.items():
        assert json.loads(path.read_text()) == schema


# What a process imports


def python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_light_verbs_import_no_heavy_library(tmp_path: Path) -> None:
    """A person waits for ``settings``, and Snakemake for the modules that it imports."""
    code = """
import sys
from pipeline.__main__ import main
status = main(["settings", "pack", "--dataset", "cifar_fs", "--scale", "paper"])
heavy = {"torch", "pandas", "numpy", "scipy", "snakemake"} & sys.modules.keys()
assert not heavy, heavy
sys.exit(status)
"""
    done = python(code, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["source"] == "cifar_fs"


def test_nothing_needs_snakemake_or_qpth(tmp_path: Path) -> None:
    """With both gone every module can be imported, and a verb runs."""
    source = {"image_size": 16, "images_per_class": 1, "seed": 0}
    settings = {"dataset": "tiny", "source": "synthetic", "stands_for": "cifar_fs", **source}
    code = f"""
import pkgutil, sys
from importlib import import_module
sys.modules["snakemake"] = sys.modules["qpth"] = None
import pipeline
names = [module.name for module in pkgutil.walk_packages(pipeline.__path__, "pipeline.")]
for name in names:
    import_module(name)
print(len(names))
from pipeline.__main__ import main
sys.exit(main(["pack", "--settings", {json.dumps(settings)!r}, "--out", "packed"]))
"""
    done = python(code, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout.splitlines()[0]) > 30
    assert (tmp_path / "packed" / "passport.json").exists()
