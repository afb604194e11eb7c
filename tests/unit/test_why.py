"""Why a file is stale: what Snakemake remembers, what moved since, and how that is said."""

import base64
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from pipeline import config_files, digest, jobs
from pipeline.advice import causes, durations, workflow
from pipeline.advice.quantities import seconds
from pipeline.advice.why import why
from pipeline.advice.workflow import Job, Memory, remembered
from pipeline.errors import UserError

DRY_RUN = """
Building DAG of jobs...
Job stats:
job      count
-----  -------
train        1
total        2


[Tue Nov 24 18:53:26 2026]
rule train:
    input: data/passport.json, data/base.npy
    output: runs/seed0/weights.safetensors, runs/seed0/record.json
    log: logs/demo/train/seed0.log
    jobid: 1
    benchmark: logs/demo/train/seed0.tsv
    reason: Missing output files: runs/seed0/record.json; Params have changed since last execution: {'a: b'}
    wildcards: dataset=d, run=r, seed=0
    resources: tmpdir=/tmp, gpu=1, runtime=1440, mem_mb=4000, mem=4 GB
Shell command: exec python -m pipeline train --settings '{"run":"it'"'"'s","seed":0}' --code 585c09fc054dd7121039 --threads 1 > log 2>&1

[Tue Nov 24 18:53:26 2026]
localrule fetch:
    output: resources/raw/d
    jobid: 2
    reason: Missing output files: resources/raw/d
    resources: tmpdir=<TBD>
Shell command: python -m pipeline fetch --dataset d  --out resources/raw/d > log 2>&1

[Tue Nov 24 18:53:26 2026]
rule all:
    input: runs/seed0/record.json
    jobid: 0
    reason: Input files updated by another job: runs/seed0/record.json
    resources: tmpdir=/tmp
Job stats:
job      count
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_jobs_are_read_from_a_dry_run() -> None:
    train, fetch = workflow._parse(DRY_RUN)
    assert train.rule == "train"
    assert train.inputs == ("data/passport.json", "data/base.npy")
    assert train.outputs == ("runs/seed0/weights.safetensors", "runs/seed0/record.json")
    assert train.benchmark == "logs/demo/train/seed0.tsv"
    assert train.mem_mb == 4000
    assert train.settings == {"run": "it's", "seed": 0}
    assert train.code == "585c09fc054dd7121039"
    assert train.reason.startswith("Missing output files: runs/seed0/record.json; Params have")
    assert (fetch.rule, fetch.inputs, fetch.outputs) == ("fetch", (), ("resources/raw/d",))
    assert (fetch.benchmark, fetch.mem_mb, fetch.settings, fetch.code) == (None, None, {}, None)


def test_nothing_to_do_is_no_job() -> None:
    assert workflow._parse("Building DAG of jobs...\nNothing to be done.\n") == []


@pytest.mark.parametrize(
    ("output", "fault"),
    [
        (
            "Using profile\nTraceback (most recent call last):\n\n  f()\n\nOSError: no a.yaml\n",
            "  OSError: no a.yaml",
        ),
        (
            "Using profile\nWorkflowError in file a:\nruns.a: no\n  File a, line 20",
            "  WorkflowError in file a:\n  runs.a: no",
        ),
        (
            "Building DAG of jobs...\nIn rule a:\nError:\n  UserError: no b\nWildcards:\n  x=1\nTraceback:\n  f",
            "  In rule a:\n  Error:\n    UserError: no b",
        ),
        (
            "Building DAG of jobs...\nMissingRuleException:\nNo rule to produce a/tabel3.md (if you",
            "  no rule makes a/tabel3.md; snakemake --summary lists what can be made",
        ),
        (
            "Building DAG of jobs...\nMissingRuleException:\nNo rule to produce seeds=2 (if you use",
            "  no rule makes seeds=2; what sets the configuration follows --config",
        ),
        (
            "usage: snakemake [-h]\n  [--dry-run]\nsnakemake: error: ambiguous option: --confg",
            "  snakemake: error: ambiguous option: --confg",
        ),
    ],
)
def test_a_fault_is_told_without_the_stack(output: str, fault: str) -> None:
    assert workflow._fault(output) == fault


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], ["--config", "scale=demo"]),
        (["--configfile", "a.yaml"], ["--configfile", "a.yaml", "--config", "scale=demo"]),
        (["-q", "--config", "seeds=2"], ["-q", "--config", "scale=demo", "seeds=2"]),
        (["-C", "seeds=2", "-q"], ["-C", "scale=demo", "seeds=2", "-q"]),
        (["--config=seeds=2", "-q"], ["--config", "scale=demo", "seeds=2", "-q"]),
        (["--config", "a=1", "-C", "b=2"], ["--config", "a=1", "-C", "scale=demo", "b=2"]),
    ],
)
def test_the_scale_joins_what_the_user_overrides(options: list[str], expected: list[str]) -> None:
    assert workflow.options_of("demo", options) == expected


def test_options_set_what_they_set_in_a_run(here: Path) -> None:
    (here / "a.yaml").write_text("seeds: 2\nheads: {svm: {C: 0.5}, ridge: {regularization: 1.0}}\n")
    values = ["seeds=3", 'heads={"svm": {"C": 1.0}}', "scale=small"]
    found = workflow.overrides(["-q", "--configfile", "a.yaml", "-C", *values, "--cores", "1"])
    assert found["heads"]["ridge"] == {"regularization": 1.0}
    assert config_files.load(found) == config_files.load(
        {
            "scale": "small",
            "seeds": 3,
            "heads": {"svm": {"C": 1.0}, "ridge": {"regularization": 1.0}},
        }
    )
    assert workflow.overrides([]) == {}


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (["--config", "seeds"], "Config entries have to be defined as name=value pairs"),
        (["--configfile", "none.yaml"], "No such file or directory: 'none.yaml'"),
        (["--bogus"], "unrecognized arguments: --bogus"),
    ],
)
def test_options_that_snakemake_does_not_know(options: list[str], fault: str, here: Path) -> None:
    with pytest.raises(UserError, match=f"snakemake does not understand its options: .*{fault}"):
        workflow.overrides(options)


# What Snakemake remembers


def remember(folder: Path, file: str, **changes: Any) -> Path:
    """Write what Snakemake would, named as it names it."""
    content = {
        "rule": "evaluate",
        "input": ["features/record.json"],
        "params": ["'585c09fc054dd7121039'", repr('{"run":"r"}'), "'results/state'"],
        "endtime": 1795541422.18,
        "incomplete": False,
    }
    name = base64.urlsafe_b64encode(file.encode()).decode()
    parts = [name[start : start + 254] for start in range(0, len(name), 254)]
    path = folder.joinpath(*(f"@{part}" for part in parts[:-1]), parts[-1])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content | changes))
    return path


@pytest.mark.parametrize("file", ["evals/seed0.json", "a/" * 150 + "evals/seed0.json", "é?>.json"])
def test_memory_is_found_under_names_of_any_length(file: str, tmp_path: Path) -> None:
    remember(tmp_path, file)
    memory = remembered(file, tmp_path)
    assert memory == Memory(
        rule="evaluate",
        inputs=("features/record.json",),
        settings={"run": "r"},
        code="585c09fc054dd7121039",
        ended=1795541422.18,
        checksums={},
    )
    assert remembered(f"{file}.other", tmp_path) is None


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"rule": "a", "input": 1}'])
def test_memory_that_is_torn_is_none(content: str, tmp_path: Path) -> None:
    remember(tmp_path, "a.json").write_text(content)
    assert remembered("a.json", tmp_path) is None


def test_a_rule_without_settings_is_remembered(tmp_path: Path) -> None:
    remember(tmp_path, "resources/raw/d", rule="fetch", params=[], input=None, endtime=None)
    assert remembered("resources/raw/d", tmp_path) == Memory("fetch", (), None, None, 0.0, {})


# What moved


SETTINGS: dict[str, Any] = {
    "run": "r2d2_ridge",
    "backbone": {"name": "r2d2", "width": 1.0},
    "algorithm": {"lr": 0.1, "head": {"name": "ridge", "options": {"regularization": 50.0}}},
    "heads": [{"name": "svm", "options": {"C": 0.1}}, {"name": "ridge", "options": {}}],
    "episodes": {"n_shots": [1, 5]},
    "records": {"evaluation": {"cifar_fs": ["a", "b"]}},
    "adaptations": {"maml": {"lr": 0.05}},
}


def a_job(settings: dict[str, Any], **changes: Any) -> Job:
    values = {
        "rule": "evaluate",
        "inputs": ("features/record.json",),
        "outputs": ("evals/seed0.json",),
        "reason": "Params have changed since last execution: ...",
        "benchmark": None,
        "mem_mb": None,
        "command": f"python -m pipeline evaluate --settings '{json.dumps(settings)}'",
    }
    return Job(**(values | changes))


def made_of(here: Path, settings: dict[str, Any], job: Job, **changes: Any) -> list[causes.Cause]:
    """The causes of a job whose file is there, and was made of these settings."""
    for file in job.outputs:
        (here / file).parent.mkdir(exist_ok=True)
        (here / file).touch()
        remember(here / workflow.MEMORY, file, params=[repr(json.dumps(settings))], **changes)
    return causes.causes(job, frozenset(job.outputs))


def edited(**changes: Any) -> dict[str, Any]:
    return json.loads(json.dumps(SETTINGS)) | changes


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"algorithm": SETTINGS["algorithm"] | {"lr": 0.2}}, "runs.{run}.training.lr: 0.1 -> 0.2"),
        (
            {"algorithm": SETTINGS["algorithm"] | {"new": 1}},
            "runs.{run}.training.new: nothing -> 1",
        ),
        (
            {
                "algorithm": {
                    "lr": 0.1,
                    "head": {"name": "ridge", "options": {"regularization": 10.0}},
                }
            },
            "heads.ridge.regularization: 50.0 -> 10.0",
        ),
        ({"backbone": {"name": "r2d2", "width": 0.5}}, "runs.{run}.backbone.width: 1.0 -> 0.5"),
        (
            {"heads": [{"name": "ridge", "options": {}}, {"name": "svm", "options": {"C": 1}}]},
            "heads.svm.C: 0.1 -> 1",
        ),
        ({"episodes": {"n_shots": [1, 10]}}, "evaluation.n_shots: + 10, - 5"),
        ({"episodes": {"n_shots": [5, 1]}}, "evaluation.n_shots: [1, 5] -> [5, 1]"),
        (
            {"records": {"evaluation": {"cifar_fs": ["a", "b", "c"]}}},
            "records.evaluation.cifar_fs: + c",
        ),
        ({"adaptations": {"maml": {"lr": 0.1}}}, "adaptations.maml.lr: 0.05 -> 0.1"),
    ],
)
def test_a_setting_is_named_as_the_configuration_names_it(
    changes: dict[str, Any], expected: str, here: Path
) -> None:
    found = made_of(here, SETTINGS, a_job(edited(**changes)))
    assert found == [causes.Cause("configuration", expected)]


def test_a_long_value_is_cut(here: Path) -> None:
    (found,) = made_of(here, SETTINGS, a_job(edited(run="x" * 500)))
    assert len(found.text) < 100


def test_a_dataset_is_named_by_the_packing_of_it(here: Path) -> None:
    before, after = ({"dataset": "d", "image_size": size} for size in (16, 18))
    found = made_of(here, before, a_job(after, rule="pack"))
    assert found == [causes.Cause("configuration", "datasets.d.image_size: 16 -> 18")]


def test_what_only_follows_from_other_jobs_has_no_cause(here: Path) -> None:
    reason = "Input files updated by another job: features/record.json"
    assert made_of(here, SETTINGS, a_job(SETTINGS, reason=reason)) == []


def test_what_was_never_made_and_what_is_gone(here: Path) -> None:
    job = a_job(SETTINGS, reason="Missing output files: evals/seed0.json")
    assert causes.causes(job, frozenset()) == [causes.Cause("new", "never made before")]
    made_of(here, SETTINGS, job)
    (here / "evals/seed0.json").unlink()
    assert causes.causes(job, frozenset()) == [causes.Cause("deleted", "evals/seed0.json is gone")]


def test_other_inputs_are_told_but_not_those_made_for_the_first_time(here: Path) -> None:
    reason = "Set of input files has changed since last execution"
    job = a_job(SETTINGS, inputs=("features/record.json", "b", "c"), reason=reason)
    assert made_of(here, SETTINGS, job) == [causes.Cause("input", "2 more: b and 1 other")]
    assert causes.causes(job, frozenset({"b", "c", *job.outputs})) == []
    fewer = a_job(SETTINGS, inputs=(), reason=reason)
    assert causes.causes(fewer, frozenset()) == [
        causes.Cause("input", "1 fewer: features/record.json")
    ]


def test_an_edited_input_and_one_made_anew(here: Path) -> None:
    (here / "published.csv").touch()
    (here / "made.json").touch()
    remember(here / workflow.MEMORY, "made.json", rule="embed")
    reason = "Updated input files: published.csv, made.json; Input files updated by another job: x"
    inputs = ("features/record.json", "published.csv", "made.json")
    found = made_of(here, SETTINGS, a_job(SETTINGS, inputs=inputs, reason=reason), input=[*inputs])
    assert [one.kind for one in found] == ["input", "input"]
    assert found[0].text.startswith("made.json (made anew by embed, ")
    assert found[1].text.startswith("published.csv (edited, ")


@pytest.mark.parametrize(
    ("content", "older", "told"),
    [(b"new", False, True), (b"old", False, False), (b"new", True, False)],
)
def test_an_edited_input_is_told_where_snakemake_had_another_reason(
    content: bytes, older: bool, told: bool, here: Path
) -> None:
    file = here / "published.csv"
    inputs = ("features/record.json", "published.csv")
    follows = "Input files updated by another job: features/record.json"
    job = a_job(SETTINGS, inputs=inputs, reason=follows)
    checksums = {"published.csv": f"sha256:{hashlib.sha256(b'old').hexdigest()}"}
    made_of(here, SETTINGS, job, input=[*inputs], input_checksums=checksums)
    file.write_bytes(content)
    made = (here / job.outputs[0]).stat().st_mtime
    os.utime(file, times=(made + (-9 if older else 9),) * 2)
    found = causes.causes(job, frozenset(job.outputs))
    assert [one.kind for one in found] == ["input"] * told


def test_the_command_of_a_rule_and_what_else_snakemake_says(here: Path) -> None:
    reason = "Code has changed since last execution; Incomplete files"
    assert made_of(here, SETTINGS, a_job(SETTINGS, reason=reason)) == [
        causes.Cause("rule", "its command"),
        causes.Cause("other", "Incomplete files"),
    ]


def test_definitions_that_moved() -> None:
    before = {"p.heads:fit": "1", "p.heads:old": "2", "p.same:x": "3"}
    after = {"p.heads:fit": "9", "p.new:y": "2", "p.same:x": "3"}
    assert causes.moved(before, after) == [
        "p.heads:fit changed",
        "p.new:y added",
        "p.heads:old removed",
    ]
    many = {f"p.heads:f{n}": "1" for n in range(9)}
    assert causes.moved(before, before | many) == ["p.heads: 9 definitions added"]
    assert causes.moved(before, before) == []


def simulation() -> tuple[dict[str, Any], list[str], str]:
    settings = {"simulation": "theorem1"}
    entries = jobs.entries("simulate", settings)
    return settings, entries, digest.code_digest(entries)


def code_moved(here: Path, before: str) -> list[causes.Cause]:
    settings, _, code = simulation()
    command = f"simulate --settings '{json.dumps(settings)}' --code {code}"
    job = a_job(settings, rule="simulate", command=command)
    (here / "evals").mkdir()
    (here / "evals/seed0.json").touch()
    params = [repr(before), repr(json.dumps(settings))]
    remember(here / workflow.MEMORY, "evals/seed0.json", params=params)
    return causes.causes(job, frozenset())


def test_code_that_moved_is_told_by_definition(here: Path) -> None:
    _, entries, _ = simulation()
    parts = digest.parts(entries)
    name = next(
        name for name in parts if name.startswith("pipeline.analysis.simulations.theorem1:")
    )
    old = parts | {name: "0" * 20, "pipeline.gone:f": "1" * 20}
    before = digest._digest(old)
    (here / digest.KEPT).mkdir(parents=True)
    (here / digest.KEPT / f"{before}.json").write_text(json.dumps(old))
    assert code_moved(here, before) == [
        causes.Cause("code", f"{name} changed"),
        causes.Cause("code", "pipeline.gone:f removed"),
    ]


def test_code_whose_parts_were_not_kept_moved_all_the_same(here: Path) -> None:
    (found,) = code_moved(here, "0123456789abcdef0123")
    assert found.kind == "code"
    assert "cannot be told, since results/code does not have the old ones" in found.text


def test_code_that_did_not_move_is_no_cause(here: Path) -> None:
    assert code_moved(here, simulation()[2]) == []


# How long it takes

HEADER = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"


def timed(path: Path, seconds: float, rss: str = "100.0") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{HEADER}{seconds}\t0:00:01\t{rss}\t1\t1\t1\t1\t1\t1\t1\n")


def test_a_job_takes_what_it_took_or_what_others_of_its_rule_did(here: Path) -> None:
    for name, seconds_ in (("a", 3.0), ("b", 5.0), ("c", 100.0)):
        timed(here / f"logs/demo/evaluate/d/{name}/seed0.tsv", seconds_)
    known = durations.Known()
    own = a_job({}, benchmark="logs/demo/evaluate/d/a/seed0.tsv")
    new = a_job({}, benchmark="logs/demo/evaluate/d/new/seed0.tsv")
    assert known.of_job(own) == durations.Duration(3.0, "by their last run")
    assert known.of_job(new) == durations.Duration(5.0, "as the median of other evaluations")
    assert known.of_job(a_job({})) is None
    assert known.of_job(a_job({}, rule="adapt", benchmark="logs/demo/adapt/d/seed0.tsv")) is None


def test_a_training_that_was_interrupted_took_as_long_as_its_record_says(here: Path) -> None:
    timed(here / "logs/demo/train/seed0.tsv", 3.0)
    (here / "runs").mkdir()
    (here / "runs/record.json").write_text('{"wall_s": 60.0}')
    job = a_job(
        {"algorithm": {"steps": 200}},
        rule="train",
        outputs=("runs/record.json",),
        benchmark="logs/demo/train/seed0.tsv",
    )
    assert durations.Known().of_job(job) == durations.Duration(60.0, "by their last run")
    remember(
        here / workflow.MEMORY,
        "runs/record.json",
        params=[repr(json.dumps({"algorithm": {"steps": 100}}))],
    )
    assert durations.Known().of_job(job) == durations.Duration(
        120.0, "by their last run and number of steps"
    )


@pytest.mark.parametrize("content", ["", HEADER, "s\n", f"{HEADER}x\t1\n", "\x00"])
def test_a_benchmark_that_is_torn_is_none(content: str, tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text(content)
    assert durations.read_benchmark(tmp_path / "a.tsv") is None


def test_a_benchmark_of_a_short_job_has_no_memory(tmp_path: Path) -> None:
    timed(tmp_path / "a.tsv", 0.1, rss="NA")
    assert durations.read_benchmark(tmp_path / "a.tsv") == durations.Benchmark(0.1, None)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("90s", 90),
        ("30m", 1800),
        ("30min", 1800),
        ("8h", 28_800),
        ("1.5d", 129_600),
        (" 2 h ", 7200),
    ],
)
def test_times_are_read(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "8", "h", "0h", "-1h", "8 hours", "1e3s", "nan"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="is no time; write it as 90s, 30m, 8h or 2d"):
        seconds(text)


# The answer


def answer(
    run: list[Job], monkeypatch: pytest.MonkeyPatch, target: str = "results/demo/evals/seed0.json"
) -> str:
    monkeypatch.setattr("pipeline.advice.why.pending", lambda *_: run)
    return why(target)


def test_a_file_that_is_current(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = "results/demo/evals/seed0.json"
    (here / file).parent.mkdir(parents=True)
    (here / file).touch()
    remember(here / workflow.MEMORY, file)
    said = answer([], monkeypatch)
    assert said.startswith(f"Nothing moved: {file} is as a run now would make it. It was made ")
    assert "features/record.json is gone; it does not need it" in said


def test_a_file_that_was_never_made(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert answer([], monkeypatch) == "results/demo/evals/seed0.json was never made."


def test_a_file_that_snakemake_does_not_remember(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "results/demo/evals").mkdir(parents=True)
    (here / "results/demo/evals/seed0.json").touch()
    said = answer([], monkeypatch)
    assert "does not remember how results/demo/evals/seed0.json was made" in said
    assert "snakemake --touch results/demo/evals/seed0.json" in said
    assert "copy .snakemake too" in said


def test_the_roots_come_first_and_the_answer_fits_on_a_screen(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred evaluations of as many changes, and a table of them."""
    files = [f"results/demo/evals/{n}.json" for n in range(100)]
    table = "results/demo/tables/table3.md"
    for file in [*files, table]:
        (here / file).parent.mkdir(parents=True, exist_ok=True)
        (here / file).touch()
    run = []
    for n, file in enumerate(files):
        remember(here / workflow.MEMORY, file, params=[repr(json.dumps(SETTINGS))])
        heads = [{"name": "svm", "options": {"C": 1.0}}, *SETTINGS["heads"][1:]]
        changed = edited(heads=heads, backbone={"name": "r2d2", "width": float(n)})
        run.append(a_job(changed, outputs=(file,)))
    remember(here / workflow.MEMORY, table, rule="table", input=files)
    follows = f"Input files updated by another job: {', '.join(files)}"
    settings = {"run": "r"}
    command = f"table --settings '{json.dumps(settings)}' --code 585c09fc054dd7121039"
    run.append(
        a_job({}, rule="table", inputs=(*files,), outputs=(table,), reason=follows, command=command)
    )
    lines = answer(run, monkeypatch, table).splitlines()
    assert len(lines) < 30
    assert lines[0].endswith("is stale because all its 100 inputs are.")
    assert lines[2] == "What moved:"
    assert lines[3].split() == [
        *("configuration", "heads.svm.C:", "0.1", "->", "1.0"),
        *("100", "evaluations", "(evaluate", ">", "table)"),
    ]
    assert any(line.startswith("  and 86 more") for line in lines)
    assert any(line.split()[:2] == ["100", "evaluations"] for line in lines)


def test_what_was_never_made_and_what_of_it_was_never_timed(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed(here / "logs/demo/evaluate/d/seed0.tsv", 30.0)
    table = "results/demo/tables/table3.md"
    run = [
        a_job({}, benchmark="logs/demo/evaluate/d/seed0.tsv"),
        a_job({}, rule="table", inputs=("evals/seed0.json",), outputs=(table,)),
    ]
    lines = answer(run, monkeypatch, table).splitlines()
    assert lines[0] == f"{table} was never made."
    assert lines[2] == "What is to be made:"
    assert lines[-1] == "One after the other about 30 s, not counting 1 table, never timed here."


def test_a_target_that_is_no_file_of_the_workflow() -> None:
    with pytest.raises(UserError, match="'table33' is no file of the workflow.*claims, report"):
        why("table33", "demo")


def test_what_snakemake_cannot_plan_is_a_fault_in_its_words(here: Path) -> None:
    with pytest.raises(UserError, match="snakemake cannot plan this:\n"):
        why("results/demo/tables/table3.md")
