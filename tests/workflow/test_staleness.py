"""Only what is stale: what an edit makes snakemake run again, and what it does not.

Nothing is computed here. The files of a finished demo are dummies for which snakemake holds true
metadata. Each case edits a copy, and the files that snakemake would make anew must be those that
the edit can change: no more, no fewer.
"""

import ast
import json
import os
import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

import pytest
import yaml

from pipeline import config_files, jobs, records
from pipeline.__main__ import main
from pipeline.shown import FIGURES, TABLES, subjects

Edit = Callable[[Any], None]

# Patterns of files. A star reaches over folders.
DEMO = "results/demo"
FOLDERS = {kind: f"{DEMO}/{place.split('/')[0]}/*" for kind, place in records.PLACES.items()}
PAGE = [f"{DEMO}/report.html", f"{DEMO}/paper.tex"]
# Runs by how they are trained, and by what.
EPISODIC = ["r2d2_ridge", "resnet12_svm*", "conv64_protonet"]
MAML, REPTILE = ["maml_?shot", "fomaml_?shot"], ["reptile", "weight_clustering*"]
CONV4 = ["conv64_*", "maml_classical", "reptile_classical", *MAML, *REPTILE]
# What is measured of weights, and of features.
OF_FEATURES: list[records.Kind] = ["evaluation", "measurement", "similarity", "projection"]
OF_WEIGHTS: list[records.Kind] = ["features", "adaptation", *OF_FEATURES]


def shown(*kinds: records.Kind) -> list[str]:
    """The tables, the figures and what else is made of records of these kinds."""
    tables = [name for name, reads in TABLES.items() if {*reads} & {*kinds}]
    figures = [name for name, (_, reads) in FIGURES.items() if {*reads} & {*kinds}]
    made = [f"{DEMO}/tables/{name}.*" for name in tables]
    made += [f"{DEMO}/figures/{name}.*" for name in figures]
    return [*made, f"{DEMO}/claims.*", *PAGE] if made else []


def of_kinds(*kinds: records.Kind) -> list[str]:
    """All records of these kinds, and what is made of them."""
    return [*(FOLDERS[kind] for kind in kinds), *shown(*kinds)]


def of_runs(*patterns: str, kinds: list[records.Kind] | None = None) -> list[str]:
    """All that is made of these runs on any data set, of every kind or of some."""
    experiment = config_files.load({"scale": "demo"})
    found, met = [], []
    for kind in kinds or ["training", *OF_WEIGHTS]:
        of = "evaluation" if kind == "features" else kind
        for dataset, runs in subjects(experiment, of).items():
            for run in runs:
                twins = experiment.twins_of(run, dataset) if kind == "similarity" else []
                if any(fnmatchcase(one, each) for one in [run, *twins] for each in patterns):
                    place = records.PLACES[kind].format(dataset=dataset, run=run, seed=0)
                    found.append(f"{DEMO}/{place.replace('record.json', '*')}")
                    met.append(kind)
    return [*found, *shown(*met)]


def table(name: str) -> list[str]:
    return [f"{DEMO}/tables/{name}.*", *PAGE]


def pretend(project) -> None:
    """Make every file of the workflow, and let snakemake believe that it made them."""
    for name in project.files():
        file = project / name
        if file.match("resources/raw/*"):  # the one output that is a folder
            file = file / "archive"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{name}\n")
        if file.match("packed/*/base.npy"):  # beyond what snakemake compares if not told to
            os.truncate(file, 1_500_000)
    project.snakemake("--touch", "--forceall", "--cores", "1")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, checkout):
    """A finished demo."""
    project = checkout(tmp_path_factory.mktemp("staleness") / "a finished demo")
    pretend(project)
    return project


@pytest.fixture
def project(tmp_path, finished):
    """A copy of it to edit: another folder, the same files and times."""
    return finished.copy(tmp_path / "a copy")


def stale(project) -> set[str]:
    return {name for name, pending in project.files().items() if pending}


def assert_stale(project, patterns: list[str]) -> None:
    """Exactly the files that match are stale; a pattern that matches none is a mistake."""
    files = project.files()
    expected = [{name for name in files if fnmatchcase(name, pattern)} for pattern in patterns]
    assert all(expected), f"one of {patterns} matches no file"
    assert {name for name in files if files[name]} == set().union(*expected)


# Edits of files


def appended(file: str, text: str) -> Edit:
    def edit(project) -> None:
        with (project / file).open("a") as stream:
            stream.write(text)

    return edit


def replaced(file: str, old: str, new: str) -> Edit:
    """Replace the one match of a regular expression."""

    def edit(project) -> None:
        text, count = re.subn(old, new, (project / file).read_text(), flags=re.MULTILINE)
        assert count == 1, f"{old} matches {count} times in {file}"
        (project / file).write_text(text)

    return edit


def renamed(file: str, old: str, new: str) -> Edit:
    """Another name for a variable, wherever the file has it."""

    def edit(project) -> None:
        text, count = re.subn(rf"\b{old}\b", new, (project / file).read_text())
        assert count > 1
        (project / file).write_text(text)

    return edit


def changed(module: str, function: str) -> Edit:
    """Add a statement to a function, or to ``Class.method``."""

    def edit(project) -> None:
        tree = ast.parse((project / module).read_text())
        place: Any = tree
        for name in function.split("."):
            place = next(node for node in place.body if getattr(node, "name", None) == name)
        place.body[-1:-1] = ast.parse("changed = True").body
        (project / module).write_text(ast.unparse(tree))

    return edit


def dated_back(module: str, function: str) -> Edit:
    """Change a function and set the file's clock back, as a checkout or a copy may."""

    def edit(project) -> None:
        before = (project / module).stat()
        changed(module, function)(project)
        os.utime(project / module, ns=(before.st_atime_ns, before.st_mtime_ns))

    return edit


def configured(changes: dict[str, Any], file: str = "config.yaml") -> Edit:
    return lambda project: project.configure(changes, file)


def commented(project) -> None:
    """Comments, docstrings and blank lines."""
    for file in (project / "pipeline").rglob("*.py"):
        text = re.sub(
            r"^((?:class|def) .*:)$",
            r'\1\n\n    # A comment.\n    """A docstring."""\n',
            file.read_text(),
            flags=re.MULTILINE,
        )
        file.write_text(f"{text}\n# The end.\n")


def reformatted(project) -> None:
    """Every module as the parser sees it: no comment, another layout."""
    for file in (project / "pipeline").rglob("*.py"):
        file.write_text(ast.unparse(ast.parse(file.read_text())))


def aged(project) -> None:
    """Everything newer than what is made of it, its content as it was."""
    folders = ["tables", "evals", "measures", "adaptations", "features", "runs"]
    for hour, part in enumerate([f"{DEMO}/{name}" for name in folders] + ["resources", "pipeline"]):
        time = 1_000_000_000 + 3600 * hour
        for file in (project / part).rglob("*"):
            os.utime(file, times=(time, time))


def reordered(project) -> None:
    """The configuration in alphabetical order, without comments."""
    for file in [project / "config.yaml", project / "scales/demo.yaml"]:
        file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()), sort_keys=True))


def other_resources(project) -> None:
    """What jobs need, where they log, and what conda would install for them."""
    for file in (project / "rules").glob("*.smk"):
        text = re.sub(r"(mem_mb|runtime|threads)(=|: )\d+", r"\1\g<2>77", file.read_text())
        file.write_text(f"# A comment.\n{text.replace('logs/', 'logs/new/')}")
    appended("environment.yaml", "  - another >=1\n")(project)


def new_module(project) -> None:
    (project / "pipeline/training/warmup.py").write_text("def warm_up():\n    return 1\n")
    replaced(
        "pipeline/training/loop.py",
        r"^( *)packed = Packed.open\(.*\)$",
        r"\g<0>\n\1from pipeline.training.warmup import warm_up\n\1warm_up()",
    )(project)


HARMLESS = {
    "comments, docstrings and blank lines": commented,
    "another layout of every module": reformatted,
    "newer files with the content of the old ones": aged,
    "a renamed local variable": renamed("pipeline/training/loop.py", "keeps_best", "keeps"),
    "a helper that nobody calls": appended("pipeline/training/loop.py", "\ndef helper(): ...\n"),
    "a data set that is not used": changed("pipeline/data/cifar_fs.py", "source"),
    "the place of a data set that is not used": configured({"datasets.cifar_fs.path": "/data"}),
    "another order of the configuration": reordered,
    "a head that no run is trained or evaluated with": changed(
        "pipeline/heads/svm_qpth.py", "logits"
    ),
    "how the configuration is checked": changed(
        "pipeline/config/experiment.py", "Experiment._fits"
    ),
    "an adaptation that no run uses": configured({"adaptations.slow": {"lr": 1e-4, "steps": 99}}),
    "the description of a setting": replaced(
        "pipeline/config/training.py", "Random crop, colour jitter, flip", "Random crop"
    ),
    "resources, logs and environments of the rules": other_resources,
}

EDITS = {
    # of code
    "the ridge head": (
        changed("pipeline/heads/ridge.py", "logits"),
        [*of_runs("r2d2_ridge"), *of_kinds("evaluation")],
    ),
    "the svm head": (
        changed("pipeline/heads/svm.py", "logits"),
        [*of_runs("resnet12_svm*"), *of_kinds("evaluation")],
    ),
    "the solver of the svm head": (
        changed("pipeline/heads/crammer_singer.py", "dual"),
        [*of_runs("resnet12_svm*"), *of_kinds("evaluation")],
    ),
    "a head, in a file that looks as old as before": (
        dated_back("pipeline/heads/prototypes.py", "logits"),
        [*of_runs("conv64_protonet"), *of_kinds("evaluation")],
    ),
    # The validation of episodic training is an evaluation.
    "how heads are scored": (
        changed("pipeline/heads/scoring.py", "correct"),
        [*of_runs(*EPISODIC), *of_kinds("evaluation")],
    ),
    "a regularizer": (
        changed("pipeline/regularizers/feature_clustering.py", "ratio"),
        [*of_runs("*_classical_fc"), *of_kinds("measurement")],
    ),
    "the part of a regularizer that only training uses": (
        changed("pipeline/regularizers/feature_clustering.py", "penalty"),
        of_runs("*_classical_fc"),
    ),
    "classical training": (
        changed("pipeline/training/classical.py", "Training.step"),
        of_runs("*_classical*"),
    ),
    "episodic training": (
        changed("pipeline/training/episodic.py", "Training.step"),
        of_runs(*EPISODIC),
    ),
    "maml": (
        changed("pipeline/training/maml.py", "Training.step"),
        of_runs(*MAML),
    ),
    "reptile": (
        changed("pipeline/training/reptile.py", "Training.step"),
        of_runs(*REPTILE),
    ),
    # Fine-tuning may take Adam's steps, and the validation of MAML and Reptile is fine-tuning.
    "a step of adam": (
        changed("pipeline/training/inner.py", "adam"),
        [*of_runs(*MAML, *REPTILE), *of_kinds("adaptation")],
    ),
    "fine-tuning": (
        changed("pipeline/training/adaptation.py", "FineTuner.descend"),
        [*of_runs(*MAML, *REPTILE), *of_kinds("adaptation")],
    ),
    "how training ends in MAML and Reptile": (
        changed("pipeline/training/inner.py", "settle_statistics"),
        of_runs(*MAML, *REPTILE),
    ),
    "how far fine-tuning goes": (
        changed("pipeline/analysis/adaptation.py", "filter_distance"),
        of_kinds("adaptation"),
    ),
    "how fine-tuning is recorded": (
        changed("pipeline/analysis/adaptation.py", "adapt"),
        of_kinds("adaptation"),
    ),
    "a constant of the training loop": (
        replaced("pipeline/training/loop.py", r"^LOGGED = \d+", "LOGGED = 7"),
        of_kinds("training", *OF_WEIGHTS),
    ),
    "a new module that the training loop calls": (new_module, of_kinds("training", *OF_WEIGHTS)),
    "how processes use the machine": (
        changed("pipeline/machine.py", "prepare"),
        of_kinds("training", *OF_WEIGHTS),
    ),
    "a default of one algorithm": (
        replaced(
            "pipeline/config/training.py",
            r"^    inner_steps: Count = 8$",
            "    inner_steps: Count = 9",
        ),
        of_runs(*REPTILE),
    ),
    "the backbone r2d2": (
        changed("pipeline/models/r2d2.py", "R2D2.forward"),
        of_runs("r2d2_*"),
    ),
    "the backbone resnet12": (
        changed("pipeline/models/resnet12.py", "ResNet12.forward"),
        of_runs("resnet12_*"),
    ),
    "the backbone conv4": (
        changed("pipeline/models/conv4.py", "Conv4.__init__"),
        of_runs(*CONV4),
    ),
    "how weights are read": (
        changed("pipeline/analysis/model.py", "Weights.load"),
        of_kinds(*OF_WEIGHTS),
    ),
    "how features are written": (
        changed("pipeline/analysis/embedding.py", "embed"),
        of_kinds("features", *OF_FEATURES),
    ),
    "how episodes are drawn": (
        changed("pipeline/data/episodes.py", "sample"),
        [
            *of_runs(*EPISODIC, *MAML, *REPTILE),
            *of_kinds("evaluation", "measurement", "adaptation"),
        ],
    ),
    "the generated images": (
        changed("pipeline/data/synthetic.py", "source"),
        ["resources/*", *of_kinds("training", *OF_WEIGHTS)],
    ),
    "the renderer of table 3": (
        changed("pipeline/report/tables/table3.py", "table"),
        table("table3"),
    ),
    "the renderer of the fine-tuners": (
        changed("pipeline/report/tables/fine_tuners.py", "table"),
        table("fine_tuners"),
    ),
    "the renderer of all tables": (changed("pipeline/report/render.py", "latex"), table("*")),
    "the paper's numbers": (
        replaced("pipeline/report/published.csv", r"^(table2,R2-D2-M,.*),1.29,", r"\1,1.3,"),
        table("*"),
    ),
    "a figure": (
        changed("pipeline/report/figures/figure3.py", "draw"),
        [f"{DEMO}/figures/figure3?.*", *PAGE],
    ),
    "how figures are written": (
        changed("pipeline/report/figure.py", "write"),
        [f"{DEMO}/figures/*", *PAGE],
    ),
    "the page": (changed("pipeline/report/page.py", "write"), PAGE),
    "the look of the page": (appended("pipeline/report/page.html", "<!-- -->\n"), PAGE),
    "a claim": (
        replaced(
            "pipeline/report/claims/comparisons.py", r"^ALMOST, (.*) = 1.5", r"ALMOST, \1 = 1"
        ),
        [f"{DEMO}/claims.*", *PAGE],
    ),
    # A claim compares cells of the table, and so depends on which run each is of.
    "which run a row of table 3 shows": (
        replaced(
            "pipeline/report/tables/table3.py",
            r'"r2d2_classical_hv", "svm"',
            '"r2d2_classical_hv", "ridge"',
        ),
        [*table("table3"), f"{DEMO}/claims.*"],
    ),
    "similarity": (changed("pipeline/analysis/similarity.py", "compare"), of_kinds("similarity")),
    "a projection": (
        changed("pipeline/analysis/projection.py", "project"),
        of_kinds("projection"),
    ),
    "one simulation": (
        changed("pipeline/analysis/simulations/theorem1.py", "simulate"),
        [
            f"{DEMO}/simulations/theorem1.json",
            # Both simulations are of one kind.
            *shown("simulation"),
        ],
    ),
    # of the configuration
    "a value of one run": (
        configured({"runs.r2d2_ridge.training.lr": 0.02}),
        of_runs("r2d2_ridge"),
    ),
    "two values of one run, swapped": (
        configured(
            {
                "runs.r2d2_ridge.training.momentum": 0.0005,
                "runs.r2d2_ridge.training.weight_decay": 0.9,
            }
        ),
        of_runs("r2d2_ridge"),
    ),
    "a value of a run that others are like": (
        configured({"runs.r2d2_classical.training.lr": 0.02}),
        of_runs("r2d2_classical*"),
    ),
    "a value that those like it have of their own": (
        configured({"runs.weight_clustering.training.coefficient": 1e-4}),
        of_runs("weight_clustering"),
    ),
    "what differs on one data set": (
        configured({"runs.resnet12_svm.datasets.mini_imagenet.training.label_smoothing": 0.2}),
        [
            f"{DEMO}/*/synthetic_mini_imagenet/resnet12_svm/*",
            f"{DEMO}/similarities/synthetic_mini_imagenet/resnet12_svm.json",
            *shown("training", "adaptation", "evaluation", "measurement", "similarity"),
        ],
    ),
    "an option of a backbone": (
        configured({"runs.maml_5shot.backbone": {"pooling": "same"}}),
        of_runs("maml_5shot", "fomaml_5shot"),
    ),
    "one more run": (
        configured(
            {
                "runs.r2d2_slow": {
                    "datasets": ["cifar_fs"],
                    "backbone": {"name": "r2d2"},
                    "training": {"algorithm": "classical", "lr": 0.001},
                }
            }
        ),
        [
            f"{DEMO}/*/synthetic_cifar_fs/r2d2_slow/*",
            *shown("training", "adaptation", "evaluation", "measurement"),
        ],
    ),
    "one more head of a run": (
        configured({"runs.weight_clustering_5.fine_tuners": ["reptile", "ridge"]}),
        [
            f"{DEMO}/features/*/weight_clustering_5/*",
            f"{DEMO}/evals/*/weight_clustering_5/*",
            f"{DEMO}/measures/*/weight_clustering_5/*",
            *shown("evaluation", "measurement"),
        ],
    ),
    "one more seed": (
        configured({"seeds": 2}, "scales/demo.yaml"),
        [f"{DEMO}/*/seed1*", FOLDERS["similarity"], *shown(*records.PLACES)],
    ),
    "the budget of an algorithm": (
        configured({"algorithms.episodic.steps": 99}, "scales/demo.yaml"),
        of_runs(*EPISODIC),
    ),
    "the budget of a backbone": (
        configured({"backbones.resnet12.ramp_passes": 99}, "scales/demo.yaml"),
        of_runs("resnet12_*"),
    ),
    "an option of a head": (
        configured({"heads.ridge.regularization": 10.0}),
        [*of_runs("r2d2_ridge"), *of_kinds("evaluation")],
    ),
    "an option of an adaptation": (
        configured({"adaptations.maml.lr": 0.1}),
        of_runs(*MAML, kinds=["adaptation"]),
    ),
    "the budget of an adaptation": (
        configured({"adaptations.reptile.n_episodes": 99}, "scales/demo.yaml"),
        of_runs("reptile_classical", *REPTILE, kinds=["adaptation"]),
    ),
    "how many episodes are evaluated": (
        configured({"evaluation.n_episodes": 999}, "scales/demo.yaml"),
        of_kinds("evaluation"),
    ),
    "how many pairs are measured": (
        configured({"measurement.n_pairs": 999}, "scales/demo.yaml"),
        of_kinds("measurement"),
    ),
    "one data set": (
        configured({"datasets.synthetic_mini_imagenet.seed": 1}),
        [
            "resources/packed/synthetic_mini_imagenet/*",
            f"{DEMO}/*/synthetic_mini_imagenet/*",
            *shown("training", "adaptation", *OF_FEATURES),
        ],
    ),
}


def test_nothing_is_to_be_done_after_a_finished_demo(finished):
    assert "Nothing to be done" in finished.snakemake("-n")


def test_nothing_is_to_be_done_in_a_copy_with_new_times(finished, tmp_path):
    assert stale(finished.copy(tmp_path / "a clone", times=False)) == set()


@pytest.mark.parametrize("edit", HARMLESS.values(), ids=HARMLESS)
def test_harmless(edit, project):
    edit(project)
    assert stale(project) == set()


@pytest.mark.parametrize(("edit", "expected"), EDITS.values(), ids=EDITS)
def test_edit_of(edit, expected, project):
    edit(project)
    assert_stale(project, expected)


def test_a_dry_run_announces_what_is_stale(project):
    changed("pipeline/report/tables/table3.py", "table")(project)
    announced = re.findall(r"^ +output: (.*)$", project.snakemake("-n"), flags=re.MULTILINE)
    assert {name for line in announced for name in line.split(", ")} == stale(project)


def test_own_copy_of_a_data_set(checkout, tmp_path):
    """A data set is what it holds, wherever it lies; its class split is part of it."""
    project = checkout(tmp_path / "own data")
    runs = {
        "r2d2_ridge": yaml.safe_load((project / "config.yaml").read_text())["runs"]["r2d2_ridge"]
    }
    project.configure(
        {
            "scale": "small",
            "datasets.cifar_fs.path": "/data/cifar100.zip",
            "runs": runs,
            "projection.runs": [],
        }
    )
    pretend(project)
    project.configure({"datasets.cifar_fs.path": "/elsewhere/cifar100.zip"})
    assert stale(project) == set()
    appended("pipeline/data/splits/cifar_fs.csv", "\n")(project)
    kinds: list[records.Kind] = ["training", "features", "evaluation", "adaptation", "measurement"]
    made = [pattern.replace(DEMO, "results/small") for pattern in of_kinds(*kinds)]
    assert_stale(project, ["resources/packed/*", *made])


# The two ends of the chain: every rule hands the digest on, and every verb compares it.


def rules(project) -> dict[str, str]:
    """The text of each rule that runs Python."""
    text = "\n".join(file.read_text() for file in (project / "rules").glob("*.smk"))
    _, *parts = re.split(r"^rule (\w+):$", text, flags=re.MULTILINE)
    found = dict(zip(parts[::2], parts[1::2], strict=True))
    return {name: rule for name, rule in found.items() if "python -m pipeline" in rule}


def test_every_rule_carries_settings_and_code(finished):
    found = rules(finished)
    # A download is checked by its hash, whatever code made it.
    del found["fetch"]
    assert found.keys() == jobs.VERBS
    for verb, rule in found.items():
        assert f'settings=settings("{verb}"),' in rule
        assert f'code=code("{verb}"),' in rule
        command = (
            f"python -m pipeline {verb} --settings {{params.settings:q}} --code {{params.code}}"
        )
        assert command in rule


ARGUMENTS = {
    "pack": ["--out", "made"],
    "train": ["--data", "data", "--out", "made", "--state", "state"],
    "embed": ["--weights", "weights", "--data", "data", "--out", "made"],
    "evaluate": ["--features", "features", "--out", "made"],
    "adapt": ["--weights", "weights", "--data", "data", "--out", "made"],
    "measure": ["--features", "features", "--out", "made"],
    "contact_sheets": ["--data", "data", "--out", "made"],
    "compare": ["--features", "features", "--out", "made"],
    "project": ["--features", "features", "--out", "made"],
    "simulate": ["--out", "made"],
    "table": ["--results", "results", "--out", "made"],
    "figure": ["--results", "results", "--out", "made"],
    "claims": ["--results", "results", "--out", "made"],
    "page": ["--results", "results", "--data", "data"],
}
# Jobs that are not named by a data set, a run and a seed.
NAMED: dict[str, dict[str, Any]] = {
    "table": {"table": "table3"},
    "figure": {"figure": "figure3a"},
    "simulate": {"simulation": "theorem1"},
    "claims": {},
    "page": {},
}


@pytest.mark.parametrize("verb", sorted(jobs.VERBS))
def test_a_job_refuses_code_that_changed_after_planning(verb, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    experiment = config_files.load({"scale": "demo"})
    dataset, run, seed = experiment.trainings()[0]
    names: dict[str, Any] = {"dataset": dataset, "run": run, "seed": seed}
    if verb == "pack" or verb == "contact_sheets":
        names = {"dataset": dataset}
    elif verb in NAMED:
        names = NAMED[verb]
    elif verb == "compare":
        del names["seed"]
    settings = jobs.settings(experiment, verb, **names)
    arguments = [verb, "--settings", json.dumps(settings), "--code", "0000", *ARGUMENTS[verb]]
    assert main(arguments) == 1
    assert re.fullmatch(
        "error: the code of this job changed after the workflow was planned "
        rf"\(it is {jobs.code(verb, settings)} now, was 0000\); run snakemake again\n",
        capsys.readouterr().err,
    )
    assert list(tmp_path.iterdir()) == []
